package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// linkConfig is what a pair of link ends is like.
type linkConfig struct {
	rdma         bool
	noInvalidate bool
	maxMessage   int // 0: 8 MiB and 64 KiB
	maxRDMA      int // 0: 8 MiB
	// split makes a registration of more than that many bytes take several
	// descriptors; 0 for never.
	split int
	// registrations is how many there may be at a time; 0 for any number.
	registrations int
	// patient: not prompt, which else every link without RDMA is.
	patient bool
}

// link is one end of a transport.Conn in memory. It keeps the rules of a real
// adapter: a token works within its bounds and rights until it is invalidated or
// deregistered, and a wrong one ends the connection.
type link struct {
	cfg  linkConfig
	peer *link
	// slots has an element for each registration, if they are limited.
	slots chan struct{}
	in    chan *transport.Received
	pool  sync.Pool
	once  *sync.Once
	done  chan struct{}

	mu      sync.Mutex
	token   uint32
	mem     map[uint32]region // guarded by mu: one entry for each live token
	regs    int               // guarded by mu: registrations not deregistered
	sent    uint64            // guarded by mu
	sendMu  sync.Mutex
	kept    []*transport.Received // guarded by sendMu: sent with More
	flushes int                   // guarded by sendMu: Flush calls that sent something
	soon    *time.Timer           // of who receives
	place   transport.PlaceFunc
	// midway, if set, is called in the middle of what is placed.
	midway func()
	// onSend, if set, sees every message before it is sent.
	onSend func(msg []byte)
	mute   atomic.Bool     // what is sent does not arrive
	free   []*registration // guarded by mu
}

type region struct {
	p      []byte
	base   uint64
	access transport.Access
}

func newLink(cfg linkConfig) (client, server *link) {
	if cfg.maxMessage == 0 {
		cfg.maxMessage = 8<<20 + 64<<10
	}
	if cfg.maxRDMA == 0 {
		cfg.maxRDMA = 8 << 20
	}
	once, done := new(sync.Once), make(chan struct{})
	end := func() *link {
		l := &link{cfg: cfg, in: make(chan *transport.Received, 64), once: once, done: done, mem: map[uint32]region{}}
		l.pool.New = func() any {
			return transport.NewReceived(func(r *transport.Received) { l.pool.Put(r) })
		}
		if cfg.registrations > 0 {
			l.slots = make(chan struct{}, cfg.registrations)
		}
		return l
	}
	client, server = end(), end()
	client.peer, server.peer = server, client
	client.token, server.token = 0x1000, 0x9000
	return client, server
}

var errLinkClosed = fmt.Errorf("link: %w", net.ErrClosed)

func (l *link) Send(ctx context.Context, m *transport.Message) error {
	if m.Len() > l.cfg.maxMessage {
		return fmt.Errorf("link: message of %d bytes", m.Len())
	}
	r := l.peer.pool.Get().(*transport.Received)
	r.Data = r.Data[:0]
	for _, p := range m.Parts {
		r.Data = append(r.Data, p...)
	}
	if l.onSend != nil {
		l.onSend(r.Data)
	}
	r.Invalidated, r.HasInvalidated = 0, false
	if m.HasInvalidate {
		l.peer.mu.Lock()
		_, ok := l.peer.mem[m.Invalidate]
		delete(l.peer.mem, m.Invalidate)
		l.peer.mu.Unlock()
		if !ok || l.cfg.noInvalidate {
			l.Close()
			return fmt.Errorf("link: invalidating token 0x%x", m.Invalidate)
		}
		r.Invalidated, r.HasInvalidated = m.Invalidate, true
	}
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	l.kept = append(l.kept, r.Lend())
	if m.More {
		return nil
	}
	return l.flush(ctx)
}

// flush sends what is kept. Called with sendMu held.
func (l *link) flush(ctx context.Context) error {
	select {
	case <-l.done:
		return errLinkClosed
	default:
	}
	if l.mute.Load() {
		l.kept = l.kept[:0]
	}
	for len(l.kept) > 0 {
		select {
		case l.peer.in <- l.kept[0]:
			l.mu.Lock()
			l.sent++
			l.mu.Unlock()
			l.kept = l.kept[:copy(l.kept, l.kept[1:])]
		case <-l.done:
			return errLinkClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Flush implements transport.Batcher.
func (l *link) Flush(ctx context.Context) error {
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	if len(l.kept) > 0 {
		l.flushes++
	}
	return l.flush(ctx)
}

// SetPlace implements transport.Placer.
func (l *link) SetPlace(f transport.PlaceFunc) { l.place = f }

// placed puts the end of a long message where the client wants it.
func (l *link) placed(r *transport.Received) *transport.Received {
	r.Placed, r.Copied = 0, 0
	if l.place == nil || l.cfg.rdma || len(r.Data) < 10_000 {
		return r
	}
	at, to := l.place(r.Data[:200], len(r.Data))
	if to == nil {
		return r
	}
	rest := r.Data[at:]
	r.Data, r.Placed = r.Data[:at], len(rest)
	half := len(rest) / 2
	p, _ := to.Begin(0)
	copy(p, rest[:half])
	to.End()
	if l.midway != nil {
		l.midway()
	}
	p, _ = to.Begin(half)
	copy(p, rest[half:])
	to.End()
	return r
}

func (l *link) Buffered() bool { return len(l.in) > 0 }

func (l *link) Prompt() bool { return !l.cfg.patient && !l.cfg.rdma }

// promptTime is how long ReceivePromptly waits.
const promptTime = 200 * time.Microsecond

// ReceivePromptly implements transport.Prompter.
func (l *link) ReceivePromptly() (*transport.Received, error) {
	if l.soon == nil {
		l.soon = time.NewTimer(promptTime)
	} else {
		l.soon.Reset(promptTime)
	}
	defer l.soon.Stop()
	select {
	case r := <-l.in:
		return l.placed(r), nil
	default:
	}
	select {
	case r := <-l.in:
		return l.placed(r), nil
	case <-l.done:
		return nil, io.EOF
	case <-l.soon.C:
		return nil, nil
	}
}

func (l *link) Receive(ctx context.Context) (*transport.Received, error) {
	select {
	case r := <-l.in:
		return l.placed(r), nil
	default:
	}
	select {
	case r := <-l.in:
		return l.placed(r), nil
	case <-l.done:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *link) RDMA() transport.RDMA {
	if !l.cfg.rdma {
		return nil
	}
	return (*linkRDMA)(l)
}

func (l *link) MaxSendSize() int     { return l.cfg.maxMessage }
func (l *link) MaxReceiveSize() int  { return l.cfg.maxMessage }
func (l *link) LocalAddr() net.Addr  { return linkAddr{} }
func (l *link) RemoteAddr() net.Addr { return linkAddr{} }
func (l *link) Close() error         { l.once.Do(func() { close(l.done) }); return nil }

func (l *link) Stats() transport.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return transport.Stats{MessagesSent: l.sent, Registrations: l.regs}
}

type linkAddr struct{}

func (linkAddr) Network() string { return "memory" }
func (linkAddr) String() string  { return "nas:445" }

// linkRDMA is the RDMA side of a link.
type linkRDMA link

// lease is a pooled buffer of the RDMA side.
type lease struct{ p []byte }

func (b *lease) Bytes() []byte { return b.p }
func (b *lease) Release()      { leases.Put(b) }

var leases = sync.Pool{New: func() any { return new(lease) }}

// leased is a buffer of a test's own.
type leased []byte

func (b leased) Bytes() []byte { return b }
func (b leased) Release()      {}

func (r *linkRDMA) Lease(ctx context.Context, n int) (transport.Buffer, error) {
	b := leases.Get().(*lease)
	if cap(b.p) < n+transport.BufferRoom {
		b.p = make([]byte, n, n+transport.BufferRoom)
	}
	b.p = b.p[:n]
	return b, nil
}

// move calls f for n bytes of the peer's memory.
func (r *linkRDMA) move(n int, remote []transport.Descriptor, want transport.Access, f func(at int, p []byte)) error {
	if transport.DescriptorsLen(remote) < uint64(n) {
		return transport.ErrDescriptors
	}
	r.peer.mu.Lock()
	defer r.peer.mu.Unlock()
	at := 0
	for _, d := range remote {
		m := min(n-at, int(d.Length))
		g, ok := r.peer.mem[d.Token]
		if !ok || g.access != want || d.Offset < g.base || d.Offset-g.base+uint64(m) > uint64(len(g.p)) {
			(*link)(r).Close()
			return fmt.Errorf("link: remote access error at token 0x%x", d.Token)
		}
		f(at, g.p[d.Offset-g.base:][:m])
		at += m
	}
	return nil
}

func (r *linkRDMA) Write(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor) error {
	return r.move(n, remote, transport.PeerWrites, func(at int, p []byte) { copy(p, b.Bytes()[at:]) })
}

func (r *linkRDMA) WriteFile(ctx context.Context, f *os.File, off int64, n int, remote []transport.Descriptor) (int, error) {
	from := 0
	err := r.move(n, remote, transport.PeerWrites, func(at int, p []byte) {
		m, _ := f.ReadAt(p, off+int64(at))
		clear(p[m:])
		from += m
	})
	return from, err
}

func (r *linkRDMA) Read(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor) error {
	return r.move(n, remote, transport.PeerReads, func(at int, p []byte) { copy(b.Bytes()[at:], p) })
}

// registration is one Register.
type registration struct {
	l     *link
	descs []transport.Descriptor
	done  bool
}

func (r *linkRDMA) Register(ctx context.Context, p []byte, a transport.Access) (transport.Registration, error) {
	return r.register(ctx, p, a, true)
}

func (r *linkRDMA) TryRegister(ctx context.Context, p []byte, a transport.Access) (transport.Registration, error) {
	return r.register(ctx, p, a, false)
}

func (r *linkRDMA) register(ctx context.Context, p []byte, a transport.Access, wait bool) (transport.Registration, error) {
	if len(p) == 0 || len(p) > r.cfg.maxRDMA {
		return nil, fmt.Errorf("link: registration of %d bytes", len(p))
	}
	if r.slots != nil {
		select {
		case r.slots <- struct{}{}:
		default:
			if !wait {
				return nil, nil
			}
			select {
			case r.slots <- struct{}{}:
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-r.done:
				return nil, errLinkClosed
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var g *registration
	if n := len(r.free); n > 0 {
		g, r.free = r.free[n-1], r.free[:n-1]
	} else {
		g = &registration{l: (*link)(r)}
	}
	g.descs, g.done = g.descs[:0], false
	for len(p) > 0 {
		n := len(p)
		if r.cfg.split > 0 {
			n = min(n, r.cfg.split)
		}
		r.token++
		base := 0x7F00_0000_0000 + uint64(r.token)<<24
		r.mem[r.token] = region{p[:n:n], base, a}
		g.descs = append(g.descs, transport.Descriptor{Offset: base, Token: r.token, Length: uint32(n)})
		p = p[n:]
	}
	r.regs++
	return g, nil
}

func (g *registration) Descriptors() []transport.Descriptor { return g.descs }

// Deregister also checks what the caller says was invalidated.
func (g *registration) Deregister(ctx context.Context, invalidated uint32, ok bool) error {
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	if g.done {
		panic("link: deregistered twice")
	}
	g.done = true
	for _, d := range g.descs {
		_, alive := g.l.mem[d.Token]
		if ok && d.Token == invalidated && alive {
			panic("link: a live token was said to be invalidated")
		}
		delete(g.l.mem, d.Token)
	}
	g.l.regs--
	if g.l.slots != nil {
		<-g.l.slots
	}
	g.l.free = append(g.l.free, g)
	return nil
}

func (r *linkRDMA) MaxReadWriteSize() int    { return r.cfg.maxRDMA }
func (r *linkRDMA) RemoteInvalidation() bool { return !r.cfg.noInvalidate }
func (r *linkRDMA) ShortReads() bool         { return true }
func (r *linkRDMA) Provider() string         { return "memory" }

// linkListener is a transport.Listener and Dialer of links.
type linkListener struct {
	cfg  linkConfig
	in   chan *link
	once sync.Once
	done chan struct{}
}

func listenLink(cfg linkConfig) *linkListener {
	return &linkListener{cfg: cfg, in: make(chan *link), done: make(chan struct{})}
}

func (l *linkListener) Dial(ctx context.Context, addr string) (transport.Conn, error) {
	c, s := newLink(l.cfg)
	select {
	case l.in <- s:
		return c, nil
	case <-l.done:
		return nil, errLinkClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *linkListener) Accept(ctx context.Context) (transport.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, errLinkClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *linkListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *linkListener) Addr() net.Addr { return linkAddr{} }
func (l *linkListener) Scheme() string { return "memory" }
