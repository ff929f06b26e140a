package ndkhook

import (
	"context"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// idleAdapter makes QPs that take every request and CQs that return one
// completion to each poll: what is measured is the layer.
type idleAdapter struct{ *fakeAdapter }

func (a idleAdapter) CreateCQ(ctx context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	q := &idleCQ{}
	q.start(ndk.ObjectCQ, &a.fakeObject)
	return q, nil
}

func (a idleAdapter) CreatePD(context.Context) (ndk.PD, error) {
	p := &idlePD{}
	p.start(ndk.ObjectPD, &a.fakeObject)
	return p, nil
}

type idlePD struct{ fakePD }

func (p *idlePD) CreateQP(_ context.Context, c ndk.QPConfig) (ndk.QP, error) {
	q := &idleQP{cq: ndk.Unwrap(c.InitiatorCQ).(*idleCQ)}
	q.cq.res.QPContext = c.QPContext
	q.start(ndk.ObjectQP, &p.fakeObject)
	return q, nil
}

type idleQP struct {
	fakeQP
	cq *idleCQ
}

func (q *idleQP) Send(rc any, _ []ndk.SGE, _ ndk.OpFlags) error {
	q.cq.res.RequestContext = rc
	return nil
}

type idleCQ struct {
	fakeCQ
	res ndk.Result
}

func (c *idleCQ) Poll(dst []ndk.Result) int {
	dst[0] = c.res
	return 1
}

// idle is a QP and a CQ of a layer over nothing.
func idle(cfg Config) (ndk.QP, ndk.CQ) {
	a := Wrap(idleAdapter{newFakeAdapter()}, cfg)
	ctx := context.Background()
	pd := must(a.CreatePD(ctx))
	cq := must(a.CreateCQ(ctx, ndk.CQConfig{Depth: 1}))
	return must(pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: cq, InitiatorCQ: cq})), cq
}

var costs = []struct {
	name   string
	cfg    Config
	allocs float64 // of a post and the poll of its completion
}{
	{"nothing", Config{}, 0},
	{"Fault", Config{Fault: func(Call) error { return nil }}, 0},
	{"OnResult", Config{OnResult: func(*ndk.ResultEx) {}}, 1},
	{"Trace", Config{Trace: func(Event) {}}, 1},
	{"Audit", Config{Audit: true}, 1},
}

func TestAllocations(t *testing.T) {
	for _, tc := range costs {
		qp, cq := idle(tc.cfg)
		sgl, res, rc := sge(8), make([]ndk.Result, 4), any(t)
		got := testing.AllocsPerRun(1000, func() {
			_ = qp.Send(rc, sgl, 0)
			if cq.Poll(res) != 1 || res[0].RequestContext != rc {
				t.Fatal("no completion")
			}
		})
		if got > tc.allocs {
			t.Errorf("%s: %v allocations for a request, want %v", tc.name, got, tc.allocs)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, bc := range costs {
		b.Run(bc.name, func(b *testing.B) {
			qp, cq := idle(bc.cfg)
			sgl, res := sge(8), make([]ndk.Result, 4)
			b.ReportAllocs()
			for b.Loop() {
				_ = qp.Send(qp, sgl, 0)
				cq.Poll(res)
			}
		})
	}
}
