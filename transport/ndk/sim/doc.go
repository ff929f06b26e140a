// Package sim is a provider of package ndk in memory: a network of devices with
// one virtual clock, where everything that is left to chance comes from one seed,
// and where everything that can go wrong does so when asked to.
//
// It is for tests of what stands above ndk. The whole interface is there: memory
// windows, fast registration, shared receive queues and endpoints, moderation in
// virtual time, inline data, deferred and silent requests, fences, Read with local
// invalidate. What a real device may do in one way or the other is a field of
// [Config]: whether a Send completes before the peer has it (AckedSends), whether
// Accept waits for CompleteConnect (EarlyAccept), whether a message waits for a
// receive (WaitForReceive), whether sinks of Reads need a flag (Info), whether
// private data comes padded (PadPrivateData).
//
// # Driving
//
// A [World] is a queue of events. In manual mode nothing happens by itself: a call
// that blocks runs events until it can return, and [World.Step], [World.Run],
// [World.RunUntil] and [World.Advance] do the same for whoever waits for a
// completion. A call that would wait for ever fails with [ErrDeadlock].
//
//	w, err := sim.New(sim.Config{Seed: 1})
//	a, err := w.Open(ctx, netip.MustParseAddr("10.0.0.1"), ndk.Version21)
//	…
//	err = qp.Send(rc, sgl, 0)
//	err = w.RunUntil(func() bool { return cq.Poll(results) > 0 })
//
// Calls of two sides that wait for each other, as Connect and Accept do, are made
// in tasks ([World.Go]): goroutines of which one runs at a time, when the world
// says so. Callbacks run in the middle of a step, on the goroutine that drives.
// All of that is one thread of control. Run again with the same seed, the same
// program sees the same, and [World.Trace] is the same, octet for octet; so a
// failure is its seed. What depends on addresses of memory is the consumer's own
// affair: the trace has none.
//
// With Config.Auto the world runs on a goroutine of its own and callbacks on
// theirs, for consumers that have goroutines and channels. Faults, limits and
// checks are the same, but the order of things is up to the scheduler of Go. Its
// clock jumps to the next event when nothing else is to be done, a time limit
// included: a Disconnect, say, does not wait for a peer whose goroutine is about to
// post a receive. With Config.Paced it keeps to the clock of the machine.
//
// # Faults
//
// A [Point] is a place where something can go wrong. Config.Faults gives each a
// probability; [World.Inject] scripts one: the third Send of this QP fails with
// IOTimeout, the reply to this Connect is lost, the connection breaks after 1000
// bytes. [World.Block], [World.Remove], [World.FailCQ] and [World.FailSRQ] act at
// once. Whatever strikes, the promises of ndk hold: every accepted request
// completes once or was silent and worked, in order, and every object closes.
//
// A request that fails ends its connection. A failure on this side completes the
// request with its status behind all before it, and flushes what follows; one on
// the peer's side completes it with RemoteResources, if it is still under way. A
// lost connection completes the oldest request of each side with IOTimeout. The
// reasons that the Ex disconnect callbacks get are of type [Reason].
//
// # Mistakes
//
// What no call or completion can tell goes to Config.Report: two posts to one
// queue at the same time, a LAM or MR released while a request names it, a source
// changed while it is posted (with Config.CheckBuffers), objects left open.
//
// # Limits
//
// There is no wire format. Payload is copied twice; the FileWriter extension of a QP
// reads the file within the post.
// Completions go by CQ, as everywhere; a CQ has no memory of CPUs, so Affinity
// means nothing. A world has one lock: it is no measure of how a provider scales.
package sim
