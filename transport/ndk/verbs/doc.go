// Package verbs is the NDK provider over rdma-core: InfiniBand, RoCE and iWARP
// devices through libibverbs and librdmacm.
//
// It needs cgo and the build tag verbs; in other builds New says so. The libraries
// are opened when the first provider is made, not when the program starts, so the
// same binary runs where they are missing.
//
//	p, err := verbs.New(verbs.Config{})
//	if err != nil {
//		return err // no rdma-core, or a build without verbs
//	}
//	adapter, err := p.Open(ctx, netip.MustParseAddr("192.0.2.1"), ndk.Version21)
//
// # How requests travel
//
// A post checks everything, resolves tokens to keys of the device, and hands a
// chain of requests over by one call of the library; Defer lengthens the chain up
// to 32. Polling fetches up to 32 completions by one call. Neither allocates. A
// request id is a slot and a position; no Go pointer is ever in C.
//
// A request that breaks a rule which only its completion can tell of, and one that
// the device has no request for, waits in the queue for its turn like the others,
// and the connection ends behind the one that failed. Of silent requests every
// n-th asks the device for a completion that the consumer does not see.
//
// # Memory
//
// Memory of Adapter.Alloc is registered whole, once in each protection domain, at
// its first use, so that BuildLAM and FastRegister on it need no system call on a
// device whose windows have bounds. Other memory is registered by Register, and by
// BuildLAM or, on a device without windows, at the first use of the LAM; it stays
// pinned until Deregister and ReleaseLAM. If it is of the Go heap it is pinned there
// too.
//
// FastRegister binds a type-2 memory window. On a device without windows it makes
// a registration, in the post, and Invalidate ends it: at once if no request is
// under way, else when those before it are done, so that requests behind it may
// leave earlier. Such registrations are not kept for the next time, as the token
// would stay valid. A base that is not the address of the first byte is a
// registration more, which is kept with the arena.
//
// # Events
//
// A device tells of a request that failed by its completion alone. Where nobody
// polls and the CQ is not armed, the provider looks every 100 ms while a QP is
// connected. A CQ that is armed for solicited completions may notify for a plain
// receive that came before it was armed.
//
// # Concurrency
//
// As package ndk has it. Goroutines: one for the connection manager and one for
// asynchronous events of an adapter, one while there are connected QPs, two for
// each CQ, and one for a QP that is flushed, until everything is reported. Close
// of the object waits for them.
//
// # What devices lack
//
//   - Read with local invalidate is of the kernel only; the flag is not reported.
//   - Extensions: none.
//   - Immediate data is not of NDK: a Write that brings some ends the connection.
//   - iWARP devices: no shared receive queues, as a message without a receive
//     breaks the connection; one SGE for a Read.
//   - A device without windows: no MW; a peer's SendAndInvalidate of a fast-register
//     MR works only if the device invalidates ordinary registrations.
//   - siw: it invalidates any registration and does not say so, hence no
//     ReceiveAndInvalidate; it lets a peer read any region that allows local write
//     and whose token it knows; FastRegister needs a base that is the address;
//     solicited and plain messages are one to a CQ.
//   - rxe: a window gives a peer its whole region, so each is bound to a
//     registration of its own of just its range; the kernel does not survive the
//     invalidation of a window that is invalid, so Invalidate puts another window
//     in its place. A peer can do that to the kernel all the same.
//   - Posting while an asynchronous failure is on its way succeeds, and the request
//     completes with Cancelled.
//
// Specification: Microsoft's NDKPI reference, minor versions up to 2.1; InfiniBand
// Architecture, volume 1, release 1.5, chapters 10 and 11; RFC 5040 and RFC 5041.
package verbs
