// Package memconn is a transport.Conn in memory, with an RDMA side if wanted:
// what tests and benchmarks of the server run on. Data moves by copying, at once,
// in the goroutine that asks for it; tokens, bounds, rights and invalidation are
// checked as an adapter would, so that a server which gets them wrong fails.
//
//	client, server := memconn.Pair(memconn.Config{RDMA: true})
//
// Both ends are closed by closing either.
package memconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Config is what a pair is like. Zero fields have the defaults named.
type Config struct {
	// RDMA gives both ends an RDMA side.
	RDMA bool
	// NoInvalidation takes remote invalidation away from it.
	NoInvalidation bool
	// NoShortReads is a peer that takes a short answer for the end of the file.
	NoShortReads bool
	// MaxMessage is the largest message in bytes, either way; default 8 MiB + 64 KiB.
	MaxMessage int
	// MaxReadWriteSize is the largest transfer in bytes; default 8 MiB.
	MaxReadWriteSize int
	// Queue is how many messages wait for a receiver before Send blocks; default 64.
	Queue int
}

// Pair makes a connection and returns its ends.
func Pair(cfg Config) (a, b *Conn) {
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = 8<<20 + 64<<10
	}
	if cfg.MaxReadWriteSize == 0 {
		cfg.MaxReadWriteSize = 8 << 20
	}
	if cfg.Queue == 0 {
		cfg.Queue = 64
	}
	shared := &link{cfg: cfg, done: make(chan struct{})}
	a, b = newConn(shared, "client"), newConn(shared, "server")
	a.peer, b.peer = b, a
	return a, b
}

type link struct {
	cfg  Config
	once sync.Once
	done chan struct{} // closed by Close
}

// Conn is one end.
type Conn struct {
	link *link
	name addr
	peer *Conn
	in   chan *transport.Received
	pool sync.Pool // of *transport.Received
	rdma *rdma

	mu    sync.Mutex
	mem   map[uint32]*Registration // guarded by mu: what the peer can reach
	last  uint32                   // guarded by mu
	stats transport.Stats          // guarded by mu

	leased atomic.Int64
}

var (
	_ transport.Conn         = (*Conn)(nil)
	_ transport.RDMA         = (*rdma)(nil)
	_ transport.Registration = (*Registration)(nil)
)

type addr string

func (addr) Network() string  { return "memory" }
func (a addr) String() string { return string(a) }

func newConn(l *link, name addr) *Conn {
	c := &Conn{link: l, name: name, in: make(chan *transport.Received, l.cfg.Queue), mem: map[uint32]*Registration{}}
	c.pool.New = func() any {
		r := transport.NewReceived(func(r *transport.Received) { c.pool.Put(r) })
		return r
	}
	if l.cfg.RDMA {
		c.rdma = &rdma{c: c}
	}
	return c
}

// errClosed is what every call fails with after Close.
var errClosed = fmt.Errorf("memconn: %w", net.ErrClosed)

// Send implements transport.Conn.
func (c *Conn) Send(ctx context.Context, m *transport.Message) error {
	n := m.Len()
	if n > c.link.cfg.MaxMessage {
		return fmt.Errorf("memconn: message of %d bytes, at most %d", n, c.link.cfg.MaxMessage)
	}
	r := c.peer.pool.Get().(*transport.Received)
	if cap(r.Data) < n {
		r.Data = make([]byte, 0, n)
	}
	r.Data = r.Data[:0]
	for _, p := range m.Parts {
		r.Data = append(r.Data, p...)
	}
	r.Invalidated, r.HasInvalidated = 0, false
	if m.HasInvalidate {
		if c.rdma == nil || c.link.cfg.NoInvalidation || !c.peer.invalidate(m.Invalidate) {
			c.Close()
			return fmt.Errorf("memconn: invalidation of token %#x", m.Invalidate)
		}
		r.Invalidated, r.HasInvalidated = m.Invalidate, true
	}
	select {
	case <-c.link.done:
		return errClosed
	default:
	}
	select {
	case c.peer.in <- r.Lend():
	case <-c.link.done:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	c.stats.MessagesSent++
	c.stats.BytesSent += uint64(n)
	c.mu.Unlock()
	return nil
}

// Receive implements transport.Conn.
func (c *Conn) Receive(ctx context.Context) (*transport.Received, error) {
	select {
	case r := <-c.in: // what has come is still received after Close
		return r, nil
	default:
	}
	select {
	case r := <-c.in:
		return r, nil
	case <-c.link.done:
		select {
		case r := <-c.in:
			return r, nil
		default:
			return nil, io.EOF
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// RDMA implements transport.Conn.
func (c *Conn) RDMA() transport.RDMA {
	if c.rdma == nil {
		return nil
	}
	return c.rdma
}

// MaxSendSize implements transport.Conn.
func (c *Conn) MaxSendSize() int { return c.link.cfg.MaxMessage }

// MaxReceiveSize implements transport.Conn.
func (c *Conn) MaxReceiveSize() int { return c.link.cfg.MaxMessage }

// LocalAddr implements transport.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.name }

// RemoteAddr implements transport.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.peer.name }

// Stats implements transport.Conn.
func (c *Conn) Stats() transport.Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Registrations = len(c.mem)
	s.LeasedBuffers = int(c.leased.Load())
	return s
}

// Close implements transport.Conn.
func (c *Conn) Close() error {
	c.link.once.Do(func() { close(c.link.done) })
	return nil
}

// Done is closed when the connection is.
func (c *Conn) Done() <-chan struct{} { return c.link.done }

// invalidate kills one of our tokens on the peer's behalf.
func (c *Conn) invalidate(token uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.mem[token]
	if r == nil {
		return false
	}
	delete(c.mem, token)
	return true
}

// reach returns our memory that a descriptor of ours names.
func (c *Conn) reach(d transport.Descriptor, n int, want transport.Access) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.mem[d.Token]
	if r == nil || r.access&want == 0 {
		return nil, fmt.Errorf("memconn: token %#x does not allow access %d", d.Token, want)
	}
	off := d.Offset - r.base
	if d.Offset < r.base || off > uint64(len(r.p)) || uint64(n) > uint64(len(r.p))-off {
		return nil, fmt.Errorf("memconn: %d bytes at %#x are outside token %#x", n, d.Offset, d.Token)
	}
	return r.p[off : off+uint64(n)], nil
}

type rdma struct{ c *Conn }

// lease is a registered buffer.
type lease struct {
	c *Conn
	b []byte
}

var leases sync.Pool

// Bytes implements transport.Buffer.
func (l *lease) Bytes() []byte { return l.b }

// Release implements transport.Buffer.
func (l *lease) Release() {
	if l.c == nil {
		panic("memconn: buffer released twice")
	}
	l.c.leased.Add(-1)
	l.c = nil
	leases.Put(l)
}

// Lease implements transport.RDMA.
func (r *rdma) Lease(ctx context.Context, n int) (transport.Buffer, error) {
	if n < 1 || n > r.c.link.cfg.MaxReadWriteSize {
		return nil, fmt.Errorf("memconn: lease of %d bytes", n)
	}
	if err := r.alive(); err != nil {
		return nil, err
	}
	l, _ := leases.Get().(*lease)
	if l == nil || cap(l.b) < n+transport.BufferRoom {
		l = &lease{b: make([]byte, n+transport.BufferRoom)}
	}
	l.c, l.b = r.c, l.b[:n]
	r.c.leased.Add(1)
	return l, nil
}

func (r *rdma) alive() error {
	select {
	case <-r.c.link.done:
		return errClosed
	default:
		return nil
	}
}

// each calls f for the peer's memory behind the descriptors, n bytes in all.
func (r *rdma) each(n int, remote []transport.Descriptor, want transport.Access, f func(off int, p []byte) error) error {
	if transport.DescriptorsLen(remote) < uint64(n) || n > r.c.link.cfg.MaxReadWriteSize {
		return transport.ErrDescriptors
	}
	if err := r.alive(); err != nil {
		return err
	}
	done := 0
	for _, d := range remote {
		if done == n {
			break
		}
		m := min(n-done, int(d.Length))
		p, err := r.c.peer.reach(d, m, want)
		if err == nil {
			err = f(done, p)
		}
		if err != nil {
			r.c.Close()
			return err
		}
		done += m
	}
	return nil
}

// Write implements transport.RDMA.
func (r *rdma) Write(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor) error {
	src := b.Bytes()[:n]
	err := r.each(n, remote, transport.PeerWrites, func(off int, p []byte) error {
		copy(p, src[off:])
		return nil
	})
	r.count(func(s *transport.Stats) { s.RDMABytesWritten += uint64(n) }, err)
	return err
}

// WriteFile implements transport.RDMA.
func (r *rdma) WriteFile(ctx context.Context, f *os.File, off int64, n int, remote []transport.Descriptor) (int, error) {
	from := 0
	err := r.each(n, remote, transport.PeerWrites, func(at int, p []byte) error {
		m, err := f.ReadAt(p, off+int64(at))
		clear(p[m:])
		from += m
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	})
	r.count(func(s *transport.Stats) {
		s.RDMABytesWritten += uint64(n)
		s.RDMABytesFromFile += uint64(from)
	}, err)
	return from, err
}

// Read implements transport.RDMA.
func (r *rdma) Read(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor) error {
	dst := b.Bytes()[:n]
	err := r.each(n, remote, transport.PeerReads, func(off int, p []byte) error {
		copy(dst[off:], p)
		return nil
	})
	r.count(func(s *transport.Stats) { s.RDMABytesRead += uint64(n) }, err)
	return err
}

func (r *rdma) count(f func(*transport.Stats), err error) {
	if err != nil {
		return
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	f(&r.c.stats)
}

// Registration is memory that the peer can reach.
type Registration struct {
	c      *Conn
	p      []byte
	access transport.Access
	base   uint64
	descs  [1]transport.Descriptor
}

// Register implements transport.RDMA.
func (r *rdma) Register(ctx context.Context, p []byte, a transport.Access) (transport.Registration, error) {
	if len(p) == 0 || len(p) > r.c.link.cfg.MaxReadWriteSize {
		return nil, fmt.Errorf("memconn: registration of %d bytes", len(p))
	}
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last += 0x101
	// Addresses do not begin at 0, as with kernels: who takes offsets for indices
	// is found out.
	g := &Registration{c: c, p: p, access: a, base: 0x7F00_0000_1000 + uint64(c.last)<<24}
	g.descs[0] = transport.Descriptor{Offset: g.base, Token: c.last, Length: uint32(len(p))}
	c.mem[c.last] = g
	return g, nil
}

// Descriptors implements transport.Registration.
func (g *Registration) Descriptors() []transport.Descriptor { return g.descs[:] }

// Deregister implements transport.Registration.
func (g *Registration) Deregister(ctx context.Context, invalidated uint32, ok bool) error {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	delete(g.c.mem, g.descs[0].Token)
	return nil
}

// MaxReadWriteSize implements transport.RDMA.
func (r *rdma) MaxReadWriteSize() int { return r.c.link.cfg.MaxReadWriteSize }

// RemoteInvalidation implements transport.RDMA.
func (r *rdma) RemoteInvalidation() bool { return !r.c.link.cfg.NoInvalidation }

// ShortReads implements transport.RDMA.
func (r *rdma) ShortReads() bool { return !r.c.link.cfg.NoShortReads }

// Provider implements transport.RDMA.
func (r *rdma) Provider() string { return "memory" }

// Listener hands out connections that Dial makes.
type Listener struct {
	cfg  Config
	in   chan *Conn
	once sync.Once
	done chan struct{}
}

var _ transport.Listener = (*Listener)(nil)

// Listen returns a listener whose connections are as cfg says.
func Listen(cfg Config) *Listener {
	return &Listener{cfg: cfg, in: make(chan *Conn), done: make(chan struct{})}
}

// Dial makes a connection and returns the client's end of it.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) {
	client, server := Pair(l.cfg)
	select {
	case l.in <- server:
		return client, nil
	case <-l.done:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements transport.Listener.
func (l *Listener) Accept(ctx context.Context) (transport.Conn, error) {
	select {
	case c := <-l.in:
		if !l.cfg.RDMA {
			return &batcher{Conn: c, sending: make(chan struct{}, 1)}, nil
		}
		return c, nil
	case <-l.done:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// MaxKept is how many messages Send keeps back for transport.Message.More.
const MaxKept = 4

// batcher is an accepted connection without an RDMA side: a transport.Batcher, as one of
// TCP is.
type batcher struct {
	*Conn
	sending chan struct{} // held by who sends
	kept    [][]byte      // owned by who sends
}

var _ transport.Batcher = (*batcher)(nil)

// Buffered implements transport.Batcher.
func (b *batcher) Buffered() bool { return len(b.in) > 0 }

// Send implements transport.Conn.
func (b *batcher) Send(ctx context.Context, m *transport.Message) error {
	b.sending <- struct{}{}
	defer func() { <-b.sending }()
	if m.More && len(b.kept) < MaxKept {
		b.kept = append(b.kept, bytes.Join(m.Parts, nil))
		return nil
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	return b.Conn.Send(ctx, m)
}

// Flush implements transport.Batcher.
func (b *batcher) Flush(ctx context.Context) error {
	b.sending <- struct{}{}
	defer func() { <-b.sending }()
	return b.flush(ctx)
}

func (b *batcher) flush(ctx context.Context) error {
	for len(b.kept) > 0 {
		if err := b.Conn.Send(ctx, &transport.Message{Parts: b.kept[:1]}); err != nil {
			return err
		}
		b.kept = b.kept[1:]
	}
	return nil
}

// Close implements transport.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements transport.Listener.
func (l *Listener) Addr() net.Addr { return addr("listener") }

// Scheme implements transport.Listener.
func (l *Listener) Scheme() string { return "memory" }
