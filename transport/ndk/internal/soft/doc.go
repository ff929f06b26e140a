// Package soft is what the providers of ndk share because it is the same in
// all of them: the lifetimes of objects ([Object]), and for providers that have
// no adapter beneath them the memory model and the queues.
//
// # Use
//
// A provider embeds [Device] in its adapter and [PD] in its protection domain.
// They bring Info, CreateCQ, BuildLAM, ReleaseLAM and Alloc; CreateMR, CreateMW,
// CreateSRQ and PrivilegedToken; the provider adds QPs and connections.
//
//	type adapter struct{ soft.Device; … }
//	a.Device.Init(soft.Config{Info: info})
//	cq, ok := ndk.Unwrap(c.ReceiveCQ).(*soft.CQ) // and then cq.Device() == &a.Device
//
// A QP resolves its SGEs with [PD.Local], what a peer asks for with [PD.Remote],
// and reports what is done with [CQ.Push]. A FastRegister or Bind is prepared at
// its post ([MR.PrepareFast], [MW.PrepareBind]), where its token is drawn, and
// published when its turn comes.
//
// # Determinism
//
// [Env] has the goroutines, timers and random numbers. A simulator puts its own
// in place; then nothing here depends on anything else.
//
// # Locks
//
// No lock is held while a callback of the consumer runs. Order: those of a
// provider's QP, then SRQ, then CQ; MW region, then MR, then MR region, then
// token table. None is held across I/O, which this package has none of.
package soft
