// Package iwarp is an NDK provider in user space: RDMAP (RFC 5040), DDP (RFC
// 5041) and MPA (RFC 5044, with the enhanced startup of RFC 6581) over ordinary
// TCP sockets. It speaks to Linux siw, to iWARP NICs and to itself.
//
//	p, err := iwarp.New(iwarp.Config{})
//	a, err := p.Open(ctx, netip.Addr{}, ndk.Version21)
//	pd, err := a.CreatePD(ctx)
//	cq, err := a.CreateCQ(ctx, ndk.CQConfig{Depth: 256})
//	qp, err := pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: cq, InitiatorCQ: cq, …})
//	c, err := a.CreateConnector(ctx)
//	err = c.Connect(ctx, qp, netip.AddrPort{}, server, ndk.ConnParams{InboundReadLimit: 16})
//	err = c.CompleteConnect(ctx, nil)
//
// # How octets move
//
// Payload that is sent goes from registered memory to the socket by one
// gathering call for many FPDUs; payload that comes in is read from the socket
// straight into its target. Small messages, and everything while the CRC of MPA
// is in force, pass a staging buffer: with CRC nothing may be placed before it
// was checked. [ndk.FileWriterExtension] sends from the page cache by
// sendfile(2).
//
// # Goroutines
//
// A connected QP has one, which reads, or stands back while its consumer does so by
// [ndk.PollerExtension]. Posts write to the socket themselves, as
// far as it takes the octets without blocking; a second goroutine exists while it
// does not. Notifications run on the goroutine that reads or on one made for the
// call. A message for which the shared receive queue has no buffer stops the
// reading goroutine of its QP, and with it the peer, until there is one or the
// connection ends. When the peer disconnects meanwhile the consumer hears of it,
// and the messages in front of that come with the buffers for them.
//
// # What it checks
//
// A remote token is a random index and a key that is new with each use. Each
// access looks up token, protection domain, rights and bounds, and pins the
// region for the length of one non-blocking system call, so that Deregister,
// Invalidate and a remote invalidation return when the last octet was placed. An
// SGE is looked up the same way; addresses are numbers and never turned into
// pointers. A peer's mistake ends its connection with a Terminate.
//
// # What a consumer gets told
//
// A post that is refused returns one of the errors of package ndk that name the
// rule. The ProviderError of a failed completion is the rule too, where the
// request broke one when its turn came; where the peer refused it, it is a reason
// that [ParseReason] unpacks, as is the reason of a disconnect event.
//
// An Invalidate that comes behind the peer's Send with Invalidate of the same
// token fails, and with it the connection ends: a consumer that asked the peer to
// invalidate looks at the completion of the receive first.
//
// # Limits
//
// Linux only (sendfile, the pause of a listener, shared endpoints). Markers are
// inserted for a peer that wants them, and never asked for. With CRC on, memory
// that is changed while a peer reads it can fail the CRC and so end the
// connection. A Send or Write has completed when TCP has its octets. Without a
// ready-to-receive message, which an initiator asks for by [Config].RTR, Accept
// ends with the Reply, and what the passive side posts waits for the peer's first
// FPDU. Private data of a Reject of the active side has no place on the wire. Two
// connections between the same two addresses and ports follow each other only
// when the kernel has forgotten the first. A CQ holds a moderated notification
// back for a second at most.
package iwarp
