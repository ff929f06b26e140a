package transport

import "sync"

// Placer is a Conn that can receive the end of a long message where it belongs, in place
// of memory of its own.
type Placer interface {
	// SetPlace says who is asked where to; it is called before the first Receive.
	SetPlace(f PlaceFunc)
}

// PlaceHead is how many octets of a message a PlaceFunc is shown at least.
const PlaceHead = 80

// PlaceFunc is asked, by who is in Receive, about a message of n octets that begins with
// head, which is valid until it returns. A Placement says that the octets from at on,
// PlaceHead <= at <= len(head), go there; without one the message is received whole.
type PlaceFunc func(head []byte, n int) (at int, p *Placement)

// Placement is memory that its owner lets a connection receive into. The zero value has
// none.
type Placement struct {
	mu   sync.Mutex
	p    []byte // guarded by mu, while it is written to as well
	pipe *Pipe  // in front of p; guarded by mu likewise
}

// Pipe is a pipe(2) whose owner lets a connection put octets into it that he hands on
// without looking at them: they are not copied on the way there.
type Pipe struct {
	W int // the writing end, which does not block
	N int // octets that were put there, the first ones; those behind are in memory
	// Over says that no more go there, because it is full or cannot take them.
	Over bool
	// Spoilt says that what is there is to be thrown away: all octets are in memory.
	Spoilt bool
	// Torn says that the peer has written by RDMA where octets had gone there before: what
	// it wanted is neither there nor in memory.
	Torn bool
}

// Set lends memory, until Revoke.
func (p *Placement) Set(b []byte) { p.SetPiped(b, nil) }

// SetPiped lends memory and, unless pipe is nil, a pipe that takes the first octets in its
// place, as many as it has room for.
func (p *Placement) SetPiped(b []byte, pipe *Pipe) {
	p.mu.Lock()
	p.p, p.pipe = b, pipe
	p.mu.Unlock()
}

// Revoke takes the memory back: when it returns nobody writes to it any more, and what
// still arrives for it is dropped. It does not wait for the peer.
func (p *Placement) Revoke() { p.Set(nil) }

// Begin is for connections: it returns the memory from the i-th octet on and keeps its
// owner from taking it back before End. It is empty if it was taken back, or is shorter.
// There must be no wait for the peer in between. With a pipe the octets are to be put there,
// and counted, or it is to be said that it is over; it has room for no more than that memory.
func (p *Placement) Begin(i int) ([]byte, *Pipe) {
	p.mu.Lock()
	b := p.p[min(i, len(p.p)):]
	if p.pipe == nil || p.pipe.Over || p.pipe.N != i || len(b) == 0 {
		return b, nil
	}
	return b, p.pipe
}

// End ends Begin.
func (p *Placement) End() { p.mu.Unlock() }
