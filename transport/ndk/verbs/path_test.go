//go:build verbs && linux && cgo

package verbs

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// end is one side of a connection over the device under test.
type end struct {
	t   testing.TB
	a   ndk.Adapter
	pd  ndk.PD
	cq  ndk.CQ
	qp  ndk.QP
	mr  ndk.MR
	mem []byte
	sgl []ndk.SGE // all of mem
	res [8]ndk.Result
	c   ndk.Connector
	all []ndk.Object // in the order of their making
	end func()
}

const endDepth = 64

func newEnd(t testing.TB, addr netip.Addr, size int) *end {
	ctx := context.Background()
	e := &end{t: t, a: openAt(t, Config{}, addr)}
	var err error
	e.pd, err = e.a.CreatePD(ctx)
	must(t, err)
	e.cq, err = e.a.CreateCQ(ctx, ndk.CQConfig{Depth: 4 * endDepth})
	must(t, err)
	e.qp, err = e.pd.CreateQP(ctx, ndk.QPConfig{
		ReceiveCQ: e.cq, InitiatorCQ: e.cq, ReceiveQueueDepth: endDepth, InitiatorQueueDepth: endDepth,
		MaxReceiveSGE: 1, MaxInitiatorSGE: 1,
	})
	must(t, err)
	var free func()
	e.mem, free, err = e.a.Alloc(size)
	must(t, err)
	e.mr, err = e.pd.CreateMR(ctx, false)
	must(t, err)
	must(t, e.mr.Register(ctx, ndk.Memory{e.mem}, size, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink))
	e.sgl = []ndk.SGE{{Addr: e.mr.Base(), Length: uint32(size), Token: e.mr.LocalToken()}}
	e.all = []ndk.Object{e.pd, e.cq, e.mr, e.qp}
	e.end = free
	return e
}

func (e *end) close() {
	if e.c != nil {
		e.c.Close()
	}
	for i := len(e.all) - 1; i >= 0; i-- {
		e.all[i].Close()
	}
	e.a.Close()
	e.end()
}

// wait polls for one completion.
func (e *end) wait() {
	e.t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; {
		if n := e.cq.Poll(e.res[:1]); n > 0 {
			if st := e.res[0].Status; st != ntstatus.Success {
				e.t.Fatal(st)
			}
			return
		}
		if time.Now().After(limit) {
			e.t.Fatal("no completion")
		}
	}
}

// pair connects two adapters of the device under test.
func pair(t testing.TB, size int) (active, passive *end) {
	t.Helper()
	addr := deviceAddr(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	active, passive = newEnd(t, addr, size), newEnd(t, addr, size)
	requests := make(chan ndk.Connector, 1)
	l, err := passive.a.CreateListener(ctx, func(c ndk.Connector) { requests <- c })
	must(t, err)
	must(t, l.Listen(ctx, netip.AddrPortFrom(addr, 0)))
	at, err := l.LocalAddr()
	must(t, err)
	p := ndk.ConnParams{InboundReadLimit: 4, OutboundReadLimit: 4}
	accepted := make(chan error, 1)
	go func() { // ends with the handshake; waited for below
		passive.c = <-requests
		accepted <- passive.c.Accept(ctx, passive.qp, p, nil)
	}()
	active.c, err = active.a.CreateConnector(ctx)
	must(t, err)
	must(t, active.c.Connect(ctx, active.qp, netip.AddrPort{}, at, p))
	must(t, active.c.CompleteConnect(ctx, nil))
	must(t, <-accepted)
	l.Close()
	return active, passive
}

// A message there and back, a Write, a fast registration with its Invalidate and
// the arming of a CQ allocate nothing, once the rings have grown.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	s, p := pair(t, 1<<16)
	defer s.close()
	defer p.close()
	short := []ndk.SGE{{Addr: s.mr.Base(), Length: 64, Token: s.mr.LocalToken()}}
	back := []ndk.SGE{{Addr: p.mr.Base(), Length: 64, Token: p.mr.LocalToken()}}
	ctx := context.Background()
	fast, err := s.pd.CreateMR(ctx, true)
	must(t, err)
	s.all = append(s.all, fast)
	must(t, fast.InitializeFastRegister(ctx, 16, true))
	var lam ndk.LAM
	fbo, err := s.a.BuildLAM(ctx, ndk.Memory{s.mem}, 1<<16, &lam)
	must(t, err)
	defer s.a.ReleaseLAM(&lam)
	base := s.mr.Base()
	for _, tc := range []struct {
		name string
		once func()
	}{
		{"message there and back", func() {
			must(t, p.qp.Receive(p, p.sgl))
			must(t, s.qp.Receive(s, s.sgl))
			must(t, s.qp.Send(s, short, 0))
			s.wait()
			p.wait()
			must(t, p.qp.Send(p, back, 0))
			p.wait()
			s.wait()
		}},
		{"silent Writes and one that is not", func() {
			for range 3 {
				must(t, s.qp.Write(s, s.sgl, p.mr.Base(), p.mr.RemoteToken(), ndk.SilentSuccess|ndk.Defer))
			}
			must(t, s.qp.Write(s, s.sgl, p.mr.Base(), p.mr.RemoteToken(), 0))
			s.wait()
		}},
		{"Read", func() {
			must(t, s.qp.Read(s, s.sgl, p.mr.Base(), p.mr.RemoteToken(), 0))
			s.wait()
		}},
		{"FastRegister and Invalidate", func() {
			must(t, s.qp.FastRegister(s, fast, lam.Pages, fbo, 1<<16, base, ndk.AllowRemoteRead|ndk.AllowRemoteWrite))
			s.wait()
			must(t, s.qp.Invalidate(s, fast, 0))
			s.wait()
		}},
		{"Arm and an empty Poll", func() {
			s.cq.Arm(ndk.ArmErrors)
			s.cq.Poll(s.res[:])
		}},
	} {
		if n := testing.AllocsPerRun(50, tc.once); n != 0 {
			t.Errorf("%s: %v allocations", tc.name, n)
		}
	}
}

// What was closed is refused by its name, and not given to the device once more.
func TestClosedObjectsAreRefused(t *testing.T) {
	s, p := pair(t, 1<<16)
	defer s.close()
	defer p.close()
	ctx := context.Background()
	fast, err := s.pd.CreateMR(ctx, true)
	must(t, err)
	must(t, fast.InitializeFastRegister(ctx, 16, true))
	var lam ndk.LAM
	fbo, err := s.a.BuildLAM(ctx, ndk.Memory{s.mem}, 1<<16, &lam)
	must(t, err)
	defer s.a.ReleaseLAM(&lam)
	must(t, s.qp.FastRegister(nil, fast, lam.Pages, fbo, 1<<16, s.mr.Base(), ndk.AllowRemoteRead))
	s.wait()
	fast.Close()
	<-fast.Closed()
	cq, err := s.a.CreateCQ(ctx, ndk.CQConfig{Depth: 8})
	must(t, err)
	cq.Close()
	<-cq.Closed()
	_, err = s.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: s.cq, InitiatorCQ: cq, InitiatorQueueDepth: 1, MaxInitiatorSGE: 1})
	for _, tc := range []struct {
		name string
		err  error
	}{
		{"Invalidate", s.qp.Invalidate(nil, fast, 0)},
		{"FastRegister", s.qp.FastRegister(nil, fast, lam.Pages, fbo, 1<<16, s.mr.Base(), ndk.AllowRemoteRead)},
		{"CreateQP", err},
	} {
		if tc.err == nil || ndk.StatusOf(tc.err) != ndk.ErrClosed.Status {
			t.Errorf("%s: %v, want %v", tc.name, tc.err, ndk.ErrClosed)
		}
	}
}

func BenchmarkPingPong64(b *testing.B) {
	s, p := pair(b, 64)
	b.ReportAllocs()
	for b.Loop() {
		must(b, p.qp.Receive(nil, p.sgl))
		must(b, s.qp.Receive(nil, s.sgl))
		must(b, s.qp.Send(nil, s.sgl, ndk.SilentSuccess))
		p.wait()
		must(b, p.qp.Send(nil, p.sgl, ndk.SilentSuccess))
		s.wait()
	}
	s.close()
	p.close()
}

func BenchmarkWrite1MiB(b *testing.B) {
	s, p := pair(b, 1<<20)
	b.ReportAllocs()
	b.SetBytes(1 << 20)
	out := 0
	for b.Loop() {
		if out == 8 {
			s.wait()
			out--
		}
		must(b, s.qp.Write(nil, s.sgl, p.mr.Base(), p.mr.RemoteToken(), 0))
		out++
	}
	for ; out > 0; out-- {
		s.wait()
	}
	s.close()
	p.close()
}

func BenchmarkFastRegister(b *testing.B) {
	s, p := pair(b, 1<<20)
	ctx := context.Background()
	fast, err := s.pd.CreateMR(ctx, true)
	must(b, err)
	s.all = append(s.all, fast)
	must(b, fast.InitializeFastRegister(ctx, 256, true))
	var lam ndk.LAM
	fbo, err := s.a.BuildLAM(ctx, ndk.Memory{s.mem}, 1<<20, &lam)
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		must(b, s.qp.FastRegister(nil, fast, lam.Pages, fbo, 1<<20, s.mr.Base(), ndk.SilentSuccess|ndk.AllowRemoteWrite))
		must(b, s.qp.Invalidate(nil, fast, 0))
		s.wait()
	}
	s.a.ReleaseLAM(&lam)
	s.close()
	p.close()
}
