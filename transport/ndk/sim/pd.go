package sim

import (
	"context"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// pd implements ndk.PD.
type pd struct {
	soft.PD
	a   *adapter
	sub subject
}

// CreatePD implements ndk.Adapter.
func (a *adapter) CreatePD(context.Context) (ndk.PD, error) {
	if err := a.creating("create PD", ndk.ObjectPD); err != nil {
		return nil, err
	}
	p := &pd{a: a, sub: a.w.number(subPD)}
	if err := p.Init(&a.Device); err != nil {
		return nil, err
	}
	a.w.note(p.sub, "create").end()
	return p, nil
}

// mr is an MR with the faults, the checks and the trace of the world.
type mr struct {
	*soft.MR
	p   *pd
	sub subject
}

// CreateMR implements ndk.PD.
func (p *pd) CreateMR(ctx context.Context, fast bool) (ndk.MR, error) {
	if err := p.a.creating("create MR", ndk.ObjectMR); err != nil {
		return nil, err
	}
	inner, err := p.PD.CreateMR(ctx, fast)
	if err != nil {
		return nil, err
	}
	m := &mr{MR: inner.(*soft.MR), p: p, sub: p.a.w.number(subMR)}
	p.a.w.note(m.sub, "create").end()
	return m, nil
}

// Register implements ndk.MR.
func (m *mr) Register(ctx context.Context, mem ndk.Memory, length int, f ndk.MRFlags) error {
	if err := m.p.a.requesting("register MR", m); err != nil {
		return err
	}
	err := m.MR.Register(ctx, mem, length, f)
	if err == nil {
		m.p.a.w.note(m.sub, "register").num("bytes", uint64(length)).hex("flags", uint64(f)).end()
	}
	return err
}

// Deregister implements ndk.MR. A region that a request names which is under way
// is reported.
func (m *mr) Deregister(ctx context.Context) error {
	w := m.p.a.w
	w.mu.Lock()
	q := m.p.a.usesToken(uint32(m.LocalToken()))
	w.mu.Unlock()
	if q != nil {
		w.report(fmt.Sprintf("Deregister: a request of %v%d that uses the region is under way", q.Kind(), q.sub.n))
	}
	err := m.MR.Deregister(ctx)
	w.note(m.sub, "deregister").status(ndk.StatusOf(err)).end()
	return err
}

// usesToken is a QP with a request under way that names the local token; nil if
// there is none.
func (a *adapter) usesToken(t uint32) *qp {
	for _, q := range a.qps {
		for s := q.head; s != q.tail; s++ {
			for _, g := range q.wrSGEs(s) {
				if g.Token == t && g.Len > 0 {
					return q
				}
			}
		}
		for s := q.rhead; s != q.rtail; s++ {
			for _, g := range q.recvSGEs(s) {
				if g.Token == t && g.Len > 0 {
					return q
				}
			}
		}
	}
	return nil
}

// InitializeFastRegister implements ndk.MR.
func (m *mr) InitializeFastRegister(ctx context.Context, maxPages int, remote bool) error {
	if err := m.p.a.requesting("initialize fast-register MR", m); err != nil {
		return err
	}
	return m.MR.InitializeFastRegister(ctx, maxPages, remote)
}

// CreateMW implements ndk.PD. Its result is a *soft.MW.
func (p *pd) CreateMW(ctx context.Context) (ndk.MW, error) {
	if err := p.a.creating("create MW", ndk.ObjectMW); err != nil {
		return nil, err
	}
	m, err := p.PD.CreateMW(ctx)
	if err == nil {
		p.a.w.note(p.a.w.number(subMW), "create").end()
	}
	return m, err
}

// srq is an SRQ with the faults and the trace of the world.
type srq struct {
	*soft.SRQ
	p    *pd
	sub  subject
	lane lane
}

// CreateSRQ implements ndk.PD.
func (p *pd) CreateSRQ(ctx context.Context, c ndk.SRQConfig) (ndk.SRQ, error) {
	w := p.a.w
	if err := p.a.creating("create SRQ", ndk.ObjectSRQ); err != nil {
		return nil, err
	}
	s := &srq{p: p, sub: w.number(subSRQ)}
	if notify := c.Notify; notify != nil {
		c.Notify = func(st ndk.Status) {
			w.note(s.sub, "callback").status(st).end()
			notify(st)
		}
	}
	inner, err := p.PD.CreateSRQ(ctx, c)
	if err != nil {
		return nil, err
	}
	s.SRQ = inner.(*soft.SRQ)
	w.note(s.sub, "create").num("depth", uint64(c.Depth)).end()
	return s, nil
}

// Receive implements ndk.SRQ.
func (s *srq) Receive(rc any, sgl []ndk.SGE) error {
	w := s.p.a.w
	if !s.lane.enter() {
		w.report(fmt.Sprintf("SRQ.Receive: two posts to %v%d at the same time", s.Kind(), s.sub.n))
	} else {
		defer s.lane.leave()
	}
	if _, hit := w.strike(passing{point: PointPostReceive, who: s.sub, o1: s}); hit {
		return ndk.ErrQueueFull
	}
	err := s.SRQ.Receive(rc, sgl)
	w.note(s.sub, "post Receive").num("sges", uint64(len(sgl))).status(ndk.StatusOf(err)).end()
	return err
}

// Modify implements ndk.SRQ.
func (s *srq) Modify(ctx context.Context, depth, threshold int) error {
	if err := s.p.a.requesting("modify SRQ", s); err != nil {
		return err
	}
	return s.SRQ.Modify(ctx, depth, threshold)
}
