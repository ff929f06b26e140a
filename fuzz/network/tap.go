package network

import (
	"context"
	"net/netip"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// judge serialises what the taps of both ends see and tells the model.
type judge struct {
	mu    sync.Mutex
	model *model.Model // guarded by mu
	err   error        // guarded by mu; the first violation
	over  bool         // guarded by mu; what comes now is not judged
}

func (j *judge) tell(ev model.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over {
		return
	}
	if err := j.model.Apply(&ev); err != nil && j.err == nil {
		j.err = err
	}
}

// tap is a provider whose queue pairs tell the judge what passes.
type tap struct {
	ndk.Provider
	j    *judge
	side model.Side
}

func (t *tap) Open(ctx context.Context, local netip.Addr, min ndk.Version) (ndk.Adapter, error) {
	a, err := t.Provider.Open(ctx, local, min)
	if err != nil {
		return nil, err
	}
	return &tapAdapter{Adapter: a, t: t, spans: map[ndk.Token]span{}}, nil
}

// span is registered memory as the consumer addresses it.
type span struct {
	base uint64
	mem  []byte
}

type tapAdapter struct {
	ndk.Adapter
	t     *tap
	mu    sync.Mutex
	spans map[ndk.Token]span // guarded by mu; by local token
}

func (a *tapAdapter) Unwrap() ndk.Object { return a.Adapter }

// bytes is the memory that an SGE names.
func (a *tapAdapter) bytes(sgl []ndk.SGE) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.spans[sgl[0].Token]
	if !ok || len(sgl) != 1 || sgl[0].Addr < s.base || sgl[0].Addr-s.base+uint64(sgl[0].Length) > uint64(len(s.mem)) {
		return nil // the provider will say so
	}
	off := sgl[0].Addr - s.base
	return s.mem[off : off+uint64(sgl[0].Length)]
}

func (a *tapAdapter) CreatePD(ctx context.Context) (ndk.PD, error) {
	p, err := a.Adapter.CreatePD(ctx)
	if err != nil {
		return nil, err
	}
	return &tapPD{p, a}, nil
}

func (a *tapAdapter) CreateCQ(ctx context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	q, err := a.Adapter.CreateCQ(ctx, c)
	if err != nil {
		return nil, err
	}
	return &tapCQ{q, a.t}, nil
}

type tapPD struct {
	ndk.PD
	a *tapAdapter
}

func (p *tapPD) Unwrap() ndk.Object { return p.PD }

func (p *tapPD) CreateMR(ctx context.Context, fast bool) (ndk.MR, error) {
	m, err := p.PD.CreateMR(ctx, fast)
	if err != nil {
		return nil, err
	}
	return &tapMR{m, p.a}, nil
}

func (p *tapPD) CreateQP(ctx context.Context, c ndk.QPConfig) (ndk.QP, error) {
	q, err := p.PD.CreateQP(ctx, c)
	if err != nil {
		return nil, err
	}
	return &tapQP{QP: q, a: p.a}, nil
}

type tapMR struct {
	ndk.MR
	a *tapAdapter
}

func (m *tapMR) Unwrap() ndk.Object { return m.MR }

func (m *tapMR) Register(ctx context.Context, mem ndk.Memory, length int, f ndk.MRFlags) error {
	if err := m.MR.Register(ctx, mem, length, f); err != nil {
		return err
	}
	if len(mem) == 1 {
		m.a.mu.Lock()
		m.a.spans[m.LocalToken()] = span{m.Base(), mem[0]}
		m.a.mu.Unlock()
	}
	return nil
}

type tapQP struct {
	ndk.QP
	a *tapAdapter
}

func (q *tapQP) Unwrap() ndk.Object { return q.QP }

// posted is the context of a receive beneath the tap.
type posted struct {
	rc  any
	mem []byte
}

func (q *tapQP) Receive(rc any, sgl []ndk.SGE) error {
	j, ev := q.a.t.j, model.Event{End: q.a.t.side, Kind: model.Post, N: 1, Asked: 1, Size: sgl[0].Length}
	j.tell(ev) // before it can complete
	err := q.QP.Receive(&posted{rc, q.a.bytes(sgl)}, sgl)
	if err != nil {
		ev.N = -1
		j.tell(ev)
	}
	return err
}

func (q *tapQP) Send(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
	q.a.t.j.tell(model.Event{End: q.a.t.side, Kind: model.Send, Bytes: q.a.bytes(sgl)})
	return q.QP.Send(rc, sgl, f)
}

func (q *tapQP) SendAndInvalidate(rc any, sgl []ndk.SGE, f ndk.OpFlags, remote ndk.Token) error {
	q.a.t.j.tell(model.Event{End: q.a.t.side, Kind: model.Send, Bytes: q.a.bytes(sgl), Token: uint32(remote), HasToken: true})
	return q.QP.SendAndInvalidate(rc, sgl, f, remote)
}

type tapCQ struct {
	ndk.CQ
	t *tap
}

func (q *tapCQ) Unwrap() ndk.Object { return q.CQ }

func (q *tapCQ) PollEx(dst []ndk.ResultEx) int {
	n := q.CQ.PollEx(dst)
	for i := range dst[:n] {
		r := &dst[i]
		p, ok := r.RequestContext.(*posted)
		if !ok {
			continue
		}
		r.RequestContext = p.rc
		if r.Status == ntstatus.Success {
			invalidated := r.Type == ndk.OpReceiveAndInvalidate
			q.t.j.tell(model.Event{End: q.t.side, Kind: model.Arrive, Bytes: p.mem[:min(int(r.Bytes), len(p.mem))], Token: uint32(r.InvalidatedToken), HasToken: invalidated})
		}
	}
	return n
}
