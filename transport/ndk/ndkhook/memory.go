package ndkhook

import (
	"context"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// pd wraps an ndk.PD.
type pd struct {
	object
	in ndk.PD
}

// CreateMR implements ndk.PD.
func (p *pd) CreateMR(ctx context.Context, fast bool) (ndk.MR, error) {
	const fn = "CreateMR"
	if err := p.enter(fn); err != nil {
		return nil, err
	}
	in, err := p.in.CreateMR(ctx, fast)
	if err != nil {
		return nil, p.leave(fn, err)
	}
	m := &mr{in: in}
	p.a.adopt(&m.object, ndk.ObjectMR, in, &p.object)
	p.left(fn, nil, m.id)
	return m, nil
}

// CreateMW implements ndk.PD.
func (p *pd) CreateMW(ctx context.Context) (ndk.MW, error) {
	const fn = "CreateMW"
	if err := p.enter(fn); err != nil {
		return nil, err
	}
	in, err := p.in.CreateMW(ctx)
	if err != nil {
		return nil, p.leave(fn, err)
	}
	w := &mw{in: in}
	p.a.adopt(&w.object, ndk.ObjectMW, in, &p.object)
	p.left(fn, nil, w.id)
	return w, nil
}

// PrivilegedToken implements ndk.PD.
func (p *pd) PrivilegedToken() ndk.Token { return p.in.PrivilegedToken() }

// mr wraps an ndk.MR.
type mr struct {
	object
	in ndk.MR
}

// Register implements ndk.MR.
func (m *mr) Register(ctx context.Context, mem ndk.Memory, length int, f ndk.MRFlags) error {
	const fn = "Register"
	if err := m.enter(fn); err != nil {
		return err
	}
	return m.leave(fn, m.in.Register(ctx, mem, length, f))
}

// Deregister implements ndk.MR.
func (m *mr) Deregister(ctx context.Context) error {
	const fn = "Deregister"
	if err := m.enter(fn); err != nil {
		return err
	}
	return m.leave(fn, m.in.Deregister(ctx))
}

// InitializeFastRegister implements ndk.MR.
func (m *mr) InitializeFastRegister(ctx context.Context, maxPages int, remote bool) error {
	const fn = "InitializeFastRegister"
	if err := m.enter(fn); err != nil {
		return err
	}
	return m.leave(fn, m.in.InitializeFastRegister(ctx, maxPages, remote))
}

// LocalToken implements ndk.MR.
func (m *mr) LocalToken() ndk.Token { return m.in.LocalToken() }

// RemoteToken implements ndk.MR.
func (m *mr) RemoteToken() ndk.Token { return m.in.RemoteToken() }

// Base implements ndk.MR.
func (m *mr) Base() uint64 { return m.in.Base() }

// mw wraps an ndk.MW.
type mw struct {
	object
	in ndk.MW
}

// RemoteToken implements ndk.MW.
func (w *mw) RemoteToken() ndk.Token { return w.in.RemoteToken() }

// srq wraps an ndk.SRQ.
type srq struct {
	object
	in   ndk.SRQ
	lane lane

	mu    sync.Mutex
	depth int   // guarded by mu; the highest it ever had
	cqs   []*cq // guarded by mu; where its receives may complete
}

// CreateSRQ implements ndk.PD.
func (p *pd) CreateSRQ(ctx context.Context, c ndk.SRQConfig) (ndk.SRQ, error) {
	const fn = "CreateSRQ"
	if err := p.enter(fn); err != nil {
		return nil, err
	}
	s := &srq{depth: c.Depth}
	if user := c.Notify; user != nil && !p.a.plain {
		c.Notify = func(st ndk.Status) {
			s.calledBack(Event{Call: Call{Func: funcNotify}, Status: st}, true)
			user(st)
			s.backAgain(funcNotify)
		}
	}
	in, err := p.in.CreateSRQ(ctx, c)
	if err != nil {
		return nil, p.leave(fn, err)
	}
	s.in = in
	s.lane.o, s.lane.name = &s.object, "receive"
	p.a.adopt(&s.object, ndk.ObjectSRQ, in, &p.object)
	p.left(fn, nil, s.id)
	return s, nil
}

// Receive implements ndk.SRQ.
func (s *srq) Receive(rc any, sgl []ndk.SGE) error {
	if s.a.plain {
		return s.in.Receive(rc, sgl)
	}
	p, err := s.lane.begin("Receive", ndk.OpReceive, rc, 0, length(sgl, 0), s.a.track)
	if err != nil {
		return err
	}
	return p.end(s.in.Receive(p.rc, sgl))
}

// Modify implements ndk.SRQ.
func (s *srq) Modify(ctx context.Context, depth, threshold int) error {
	const fn = "Modify"
	if err := s.enter(fn); err != nil {
		return err
	}
	err := s.in.Modify(ctx, depth, threshold)
	if err == nil {
		s.grow(depth)
	}
	return s.leave(fn, err)
}

// attach notes that receives may complete on c.
func (s *srq) attach(c *cq) {
	s.mu.Lock()
	n := s.depth
	s.cqs = append(s.cqs, c)
	s.mu.Unlock()
	c.share(n)
}

// grow notes a new depth.
func (s *srq) grow(depth int) {
	s.mu.Lock()
	more := depth - s.depth
	if more <= 0 {
		s.mu.Unlock()
		return
	}
	s.depth = depth
	cqs := s.cqs[:len(s.cqs):len(s.cqs)]
	s.mu.Unlock()
	for _, c := range cqs {
		c.share(more)
	}
}
