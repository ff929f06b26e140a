package smbdirect

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sync/semaphore"

	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// part is a memory region that a registration uses, and then another one.
type part struct {
	mr    ndk.MR
	lam   ndk.LAM
	mem   [1][]byte // what is registered; keeps it alive until the end of the access
	base  uint64    // address of mem
	n     int       // bytes of mem
	fbo   uint32
	built bool      // lam is
	token ndk.Token // remote
	piper ndk.Piper // nil where the provider has none
	pipe  ndk.Pipe  // of the registration, if it has one

	// Guarded by registrations.mu.
	active bool // the peer may know the token
	dead   bool // the peer invalidated it
}

// hold makes p the region for mem. The peer counts from the real address, which
// providers that map fast registration to windows need.
func (p *part) hold(mem []byte) {
	p.mem[0], p.n = mem, len(mem)
	p.base = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
}

// pipeTo has the next registration use a pipe, or none.
func (p *part) pipeTo(pipe *transport.Pipe) {
	switch {
	case p.piper == nil:
	case pipe == nil:
		p.piper.PipeTo(nil)
	default:
		p.pipe = ndk.Pipe{W: pipe.W}
		p.piper.PipeTo(&p.pipe)
	}
}

// tell says what has gone into the pipe of a registration that has ended.
func (r *registration) tell() {
	if r.pipe == nil || r.parts[0].piper == nil {
		return
	}
	p := &r.parts[0].pipe
	r.pipe.N, r.pipe.Over, r.pipe.Torn = p.N, p.Over, p.Torn
}

// registrations are the memory regions of a connection that its peer may reach.
type registrations struct {
	fast     bool // by QP.FastRegister; else by MR.Register
	maxPages int  // of a fast registration
	maxPart  int  // bytes that fit into one whatever their alignment; 0: no limit
	limit    int64
	sem      *semaphore.Weighted // parts that may still be used

	slow, ended atomic.Uint64 // registrations and invalidations that the owner has no part in

	mu     sync.Mutex
	free   []*part             // guarded by mu, as all below
	active map[ndk.Token]*part // by remote token
	spare  []*registration
	inUse  int // registrations
	closed bool
}

func (g *registrations) init(info *ndk.AdapterInfo, fast bool, cfg *Config) {
	g.limit = int64(cfg.Registrations)
	g.sem = semaphore.NewWeighted(g.limit)
	g.active = make(map[ndk.Token]*part)
	if g.fast = fast; !fast {
		return
	}
	// One page more than the largest transfer has, as it may begin in a page.
	g.maxPages = min(info.FRMRPageCount, cfg.MaxReadWriteSize/ndk.PageSize+1)
	g.maxPart = (g.maxPages - 1) * ndk.PageSize
}

func (g *registrations) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inUse
}

// invalidated notes that the peer took a token away.
func (g *registrations) invalidated(t ndk.Token) {
	g.mu.Lock()
	if p := g.active[t]; p != nil {
		p.dead = true
	}
	g.mu.Unlock()
}

// get takes a part out of the pool, or makes one.
func (g *registrations) get(ctx context.Context, d *device) (*part, error) {
	g.mu.Lock()
	if n := len(g.free); n > 0 {
		p := g.free[n-1]
		g.free = g.free[:n-1]
		g.mu.Unlock()
		return p, nil
	}
	g.mu.Unlock()
	mr, err := d.pd.CreateMR(ctx, g.fast)
	if err != nil {
		return nil, err
	}
	if g.fast {
		if err := mr.InitializeFastRegister(ctx, g.maxPages, true); err != nil {
			mr.Close()
			<-mr.Closed()
			return nil, err
		}
	}
	p := &part{mr: mr}
	if x, err := mr.Extension(ndk.PipeExtension, ndk.Version{Major: 1}); err == nil {
		p.piper, _ = x.(ndk.Piper)
	}
	return p, nil
}

// put gives back a part that nobody can reach.
func (g *registrations) put(p *part, d *device) {
	if p.built {
		d.adapter.ReleaseLAM(&p.lam)
		p.built = false
	}
	p.mem[0] = nil
	g.mu.Lock()
	closed := g.closed
	if !closed {
		g.free = append(g.free, p)
	}
	g.mu.Unlock()
	if closed {
		p.mr.Close()
		<-p.mr.Closed()
	}
}

// close ends every access of the peer for good. Parts that are not in use and
// not in the pool are closed by put.
func (g *registrations) close(d *device) {
	g.mu.Lock()
	g.closed = true
	all := g.free
	for _, p := range g.active {
		all = append(all, p)
	}
	g.free, g.active = nil, nil
	g.inUse = 0
	g.mu.Unlock()
	for _, p := range all {
		p.mr.Close()
	}
	for _, p := range all {
		<-p.mr.Closed()
		if p.built {
			d.adapter.ReleaseLAM(&p.lam)
			p.built = false
		}
		p.mem[0] = nil
	}
}

// registration implements transport.Registration.
type registration struct {
	c     *Conn
	parts []*part
	descs []transport.Descriptor
	flags ndk.OpFlags
	pipe  *transport.Pipe // nil without
	out   bool            // guarded by registrations.mu
}

// Descriptors implements transport.Registration.
func (r *registration) Descriptors() []transport.Descriptor { return r.descs }

// Register implements transport.RDMA. The registration takes effect in order with
// the messages sent after Register returned. Errors: ErrTooLarge, that of ctx,
// one that matches net.ErrClosed, that of the provider.
func (s *rdmaSide) Register(ctx context.Context, p []byte, a transport.Access) (transport.Registration, error) {
	return s.register(ctx, p, a, true, nil)
}

// RegisterPiped implements transport.PipeRegisterer, likewise. Where the provider knows no
// pipes, or p takes several memory regions, everything goes into p.
func (s *rdmaSide) RegisterPiped(ctx context.Context, p []byte, pipe *transport.Pipe) (transport.Registration, error) {
	return s.register(ctx, p, transport.PeerWrites, true, pipe)
}

// TryRegister implements transport.TryRegisterer.
func (s *rdmaSide) TryRegister(ctx context.Context, p []byte, a transport.Access) (transport.Registration, error) {
	return s.register(ctx, p, a, false, nil)
}

func (s *rdmaSide) register(ctx context.Context, p []byte, a transport.Access, wait bool, pipe *transport.Pipe) (transport.Registration, error) {
	c := s.c
	g := &c.regs
	if len(p) == 0 || len(p) > c.maxReadWrite {
		return nil, fmt.Errorf("smbdirect: register %d bytes: %w", len(p), ErrTooLarge)
	}
	if a == 0 || a&^(transport.PeerReads|transport.PeerWrites) != 0 {
		return nil, fmt.Errorf("smbdirect: register: access %#x", uint8(a))
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("smbdirect: register: %w", context.Cause(ctx))
	}
	n := int64(g.partsFor(p))
	if n > g.limit {
		return nil, fmt.Errorf("smbdirect: register %d bytes: needs %d of %d registrations: %w", len(p), n, g.limit, ErrTooLarge)
	}
	if !wait {
		if !g.sem.TryAcquire(n) {
			return nil, nil
		}
	} else if err := c.acquire(ctx, "register", g.sem, n); err != nil {
		return nil, err
	}
	// The device outlives the registration, whatever happens to the connection.
	if !c.dev.retain() {
		g.sem.Release(n)
		<-c.done
		return nil, c.err()
	}
	r := g.take(c)
	if n == 1 {
		r.pipe = pipe
	}
	err := r.make(ctx, p, a)
	if err != nil {
		g.sem.Release(n)
		c.dev.release()
		return nil, err
	}
	return r, nil
}

// partsFor is the number of parts that p needs.
func (g *registrations) partsFor(p []byte) int {
	if !g.fast {
		return 1
	}
	fbo := int(uintptr(unsafe.Pointer(unsafe.SliceData(p))) % ndk.PageSize)
	pages := (fbo + len(p) + ndk.PageSize - 1) / ndk.PageSize
	return (pages + g.maxPages - 1) / g.maxPages
}

// take returns a registration without parts.
func (g *registrations) take(c *Conn) *registration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed { // or it counts for nothing, as drop has it
		g.inUse++
	}
	if n := len(g.spare); n > 0 {
		r := g.spare[n-1]
		g.spare = g.spare[:n-1]
		r.out = true
		return r
	}
	return &registration{c: c, out: true}
}

// drop gives the registration object back. Its parts are gone already.
func (r *registration) drop() {
	r.parts, r.descs, r.pipe = r.parts[:0], r.descs[:0], nil
	g := &r.c.regs
	g.mu.Lock()
	if !g.closed {
		g.inUse--
	}
	r.out = false
	g.spare = append(g.spare, r)
	g.mu.Unlock()
}

// make registers p. When it fails, everything is undone (SD-101).
func (r *registration) make(ctx context.Context, p []byte, a transport.Access) error {
	c := r.c
	g := &c.regs
	err := r.build(ctx, p, a)
	if err == nil && g.fast {
		q := c.dev.requests.get(reqRegister)
		q.reg, q.n = r, len(p)
		_, err = c.do(ctx, q)
	} else if err == nil {
		err = r.registerNormal(ctx, a)
	}
	if err != nil {
		if c.err() != nil {
			<-c.done // parts that the peer may have learned of are closed then
		}
		for _, p := range r.parts {
			if !p.active {
				g.put(p, c.dev)
			}
		}
		r.drop()
		return err
	}
	for _, p := range r.parts {
		r.descs = append(r.descs, transport.Descriptor{Offset: p.base, Token: uint32(p.token), Length: uint32(p.n)})
	}
	return nil
}

// build takes parts for p and maps their pages.
func (r *registration) build(ctx context.Context, p []byte, a transport.Access) error {
	c := r.c
	g := &c.regs
	r.flags = 0
	if a&transport.PeerReads != 0 {
		r.flags |= ndk.AllowRemoteRead
	}
	if a&transport.PeerWrites != 0 {
		r.flags |= ndk.AllowRemoteWrite
	}
	for len(p) > 0 {
		t, err := g.get(ctx, c.dev)
		if err != nil {
			return fmt.Errorf("smbdirect: register: %w", err)
		}
		r.parts = append(r.parts, t)
		t.hold(p)
		t.pipeTo(r.pipe)
		t.active, t.dead = false, false
		if !g.fast {
			return nil
		}
		fbo := int(t.base % ndk.PageSize)
		t.hold(p[:min(len(p), g.maxPages*ndk.PageSize-fbo)])
		p = p[t.n:]
		if pages := (fbo + t.n + ndk.PageSize - 1) / ndk.PageSize; cap(t.lam.Pages) < pages {
			k := 16
			for k < pages {
				k *= 2
			}
			t.lam.Pages = make([]ndk.LogicalAddress, 0, k)
		}
		if t.fbo, err = c.dev.adapter.BuildLAM(ctx, t.mem[:], t.n, &t.lam); err != nil {
			return fmt.Errorf("smbdirect: register: %w", err)
		}
		t.built = true
	}
	return nil
}

// registerNormal is for adapters without fast registration.
func (r *registration) registerNormal(ctx context.Context, a transport.Access) error {
	var f ndk.MRFlags
	if a&transport.PeerReads != 0 {
		f |= ndk.MRAllowRemoteRead
	}
	if a&transport.PeerWrites != 0 {
		f |= ndk.MRAllowRemoteWrite
	}
	p := r.parts[0]
	if err := p.mr.Register(ctx, p.mem[:], p.n, f); err != nil {
		return fmt.Errorf("smbdirect: register: %w", err)
	}
	p.base = p.mr.Base()
	if p.token = p.mr.RemoteToken(); !r.c.regs.activate(p) {
		_ = p.mr.Deregister(context.WithoutCancel(ctx)) // its Close does the same
		return r.c.err()
	}
	r.c.regs.slow.Add(1)
	return nil
}

// activate notes that the peer may learn of p; false if the connection has been
// taken down.
func (g *registrations) activate(p *part) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	p.active = true
	g.active[p.token] = p
	return true
}

// pushRegistration posts the next step of a registration or invalidation.
func (c *Conn) pushRegistration(r *request) {
	l := &c.l
	g := &c.regs
	p := r.reg.parts[r.part0]
	r.part0++
	last := r.part0 == len(r.reg.parts)
	if r.kind == reqInvalidate {
		g.mu.Lock()
		dead := p.dead
		g.mu.Unlock()
		if !dead {
			e := c.newEntry(classRegister)
			e.req = r
			r.out++
			l.note(evInvalidate, 0, 0, 0, 0, uint32(p.token))
			l.tally.byUs++
			c.post(&work{op: ndk.OpInvalidate, entry: e, mr: p.mr, signal: true})
		}
		if last {
			if l.regs.pop(); r.out == 0 {
				r.finish(r.err)
			}
		}
		return
	}
	c.flush() // its token is new when the post returns, so it cannot be held
	f := r.reg.flags
	if !c.due(classRegister) {
		f |= ndk.SilentSuccess
	}
	err := c.qp.FastRegister(c.newEntry(classRegister), p.mr, p.lam.Pages, p.fbo, uint64(p.n), p.base, f)
	if err != nil {
		r.part0--
		c.postFailed(err)
		return
	}
	p.token = p.mr.RemoteToken()
	g.activate(p)
	l.note(evRegister, 0, p.base, 0, uint32(p.n), uint32(p.token))
	l.tally.registered++
	if last {
		l.regs.pop()
		r.finish(nil)
	}
}

// Deregister implements transport.Registration. The token that the peer
// invalidated was noted when its message came, so the arguments only say what the
// caller believes; a token that is not noted is invalidated here. A second call
// panics.
func (r *registration) Deregister(ctx context.Context, _ uint32, _ bool) error {
	c := r.c
	g := &c.regs
	n := int64(len(r.parts))
	g.mu.Lock()
	if !r.out {
		g.mu.Unlock()
		panic("smbdirect: deregistered twice")
	}
	alive := false
	for _, p := range r.parts {
		alive = alive || !p.dead
	}
	g.mu.Unlock()
	var err error
	if alive && g.fast {
		q := c.dev.requests.get(reqInvalidate)
		q.reg = r
		_, err = c.do(ctx, q)
	} else if alive {
		if err = r.parts[0].mr.Deregister(ctx); err != nil {
			err = fmt.Errorf("smbdirect: deregister: %w", err)
			c.fail(err)
		} else {
			g.ended.Add(1)
		}
	}
	g.mu.Lock()
	closed := g.closed
	if !closed && err == nil {
		for _, p := range r.parts {
			delete(g.active, p.token)
			p.active = false
		}
	}
	g.mu.Unlock()
	if closed || err != nil {
		// The end of the connection takes the access away.
		<-c.done
		err = c.err()
		r.tell()
	} else {
		r.tell()
		for _, p := range r.parts {
			g.put(p, c.dev)
		}
	}
	g.sem.Release(n)
	r.drop()
	c.dev.release()
	return err
}
