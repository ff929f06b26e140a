package sim

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// round is one of each kind of request, from the posts to the polls.
type round struct {
	s, p     *side
	sgl, rgl []ndk.SGE
	res      [8]ndk.ResultEx
	fast     ndk.MR
	lam      ndk.LAM
	fbo      uint32
	window   ndk.MW
	addr     uint64
	token    ndk.Token
	base     uint64
}

func newRound(t testing.TB, c Config) *round {
	_, s, p := connected(t, c)
	r := &round{s: s, p: p, sgl: []ndk.SGE{s.sge(0, 100), s.sge(200, 100)}, rgl: []ndk.SGE{p.sge(0, 512)}}
	var err error
	r.fbo, err = s.a.BuildLAM(ctx, ndk.Memory{s.mem[:8192]}, 8192, &r.lam)
	s.must(err)
	r.fast, err = s.pd.CreateMR(ctx, true)
	s.must(err)
	s.must(r.fast.InitializeFastRegister(ctx, 4, true))
	r.window, err = s.pd.CreateMW(ctx)
	s.must(err)
	r.addr, r.token, r.base = p.mr.Base()+1000, p.mr.RemoteToken(), s.mr.Base()
	t.Cleanup(func() {
		r.fast.Close()
		r.window.Close()
		s.a.ReleaseLAM(&r.lam)
	})
	return r
}

func (r *round) run() {
	s, p := r.s, r.p
	s.icq.Arm(ndk.ArmAny)
	p.rcq.Arm(ndk.ArmAny)
	s.must(p.qp.Receive(p, r.rgl))
	s.must(s.qp.Write(s, r.sgl, r.addr, r.token, ndk.Defer))
	s.must(s.qp.Read(s, r.sgl, r.addr, r.token, ndk.Defer))
	s.must(s.qp.FastRegister(s, r.fast, r.lam.Pages, r.fbo, 8192, 0, ndk.AllowRemoteRead|ndk.SilentSuccess|ndk.Defer))
	s.must(s.qp.Bind(s, s.mr, r.window, r.base, 64, ndk.AllowRemoteWrite|ndk.SilentSuccess|ndk.Defer))
	s.must(s.qp.Invalidate(s, r.fast, ndk.SilentSuccess|ndk.Defer))
	s.must(s.qp.Invalidate(s, r.window, ndk.SilentSuccess|ndk.Defer))
	s.must(s.qp.Send(s, r.sgl, 0))
	for s.w.Step() {
	}
	n := s.icq.PollEx(r.res[:])
	if n != 3 {
		s.t.Fatalf("%d initiator completions, want 3", n)
	}
	for _, e := range r.res[:n] {
		if e.Status != ntstatus.Success {
			s.t.Fatal(e.Err())
		}
	}
	if n := p.rcq.PollEx(r.res[:]); n != 1 {
		s.t.Fatalf("%d receives, want 1", n)
	}
}

// Posting, polling and arming allocate nothing once queues have grown.
func TestRequestsAllocateNothing(t *testing.T) {
	for _, acked := range []bool{false, true} {
		r := newRound(t, Config{AckedSends: acked, Order: Shuffled})
		for range 200 {
			r.run()
		}
		if n := testing.AllocsPerRun(200, r.run); n != 0 {
			t.Errorf("acked %v: %v allocations for each round", acked, n)
		}
	}
}

func BenchmarkRound(b *testing.B) {
	for _, tc := range []struct {
		name string
		c    Config
	}{{"no trace", Config{TraceBytes: -1}}, {"trace", Config{}}} {
		b.Run(tc.name, func(b *testing.B) {
			r := newRound(b, tc.c)
			b.ReportAllocs()
			for b.Loop() {
				r.run()
			}
		})
	}
}
