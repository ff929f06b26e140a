package transport

import "context"

// PipeRegisterer is an optional part of an RDMA side that can have what the peer writes go
// into a pipe.
type PipeRegisterer interface {
	// RegisterPiped is RDMA.Register for a peer that writes: what it writes to p in order,
	// from the beginning on, goes into the pipe in place of p, as far as that can take it.
	// The pipe is the connection's until Deregister has returned, and says only then how
	// much is there.
	RegisterPiped(ctx context.Context, p []byte, pipe *Pipe) (Registration, error)
}
