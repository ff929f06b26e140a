package sim

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var ctx = context.Background()

const sideMem = 1 << 16

// side is one end of a world in manual mode.
type side struct {
	t    testing.TB
	w    *World
	a    ndk.Adapter
	pd   ndk.PD
	rcq  ndk.CQ
	icq  ndk.CQ
	qp   ndk.QP
	mr   ndk.MR
	mem  []byte
	free func()
	c    ndk.Connector
	lost []Reason // what the disconnect callback said
}

var testHosts = [][]netip.Addr{{addr("10.0.0.1")}, {addr("10.0.0.2")}}

func newSide(t testing.TB, w *World, a netip.Addr) *side {
	t.Helper()
	s := &side{t: t, w: w, a: mustOpen(t, w, a)}
	var err error
	s.pd, err = s.a.CreatePD(ctx)
	s.must(err)
	s.rcq, err = s.a.CreateCQ(ctx, ndk.CQConfig{Depth: 256})
	s.must(err)
	s.icq, err = s.a.CreateCQ(ctx, ndk.CQConfig{Depth: 256})
	s.must(err)
	s.qp, err = s.pd.CreateQP(ctx, s.config())
	s.must(err)
	s.mem, s.free, err = s.a.Alloc(sideMem)
	s.must(err)
	s.mr, err = s.pd.CreateMR(ctx, false)
	s.must(err)
	s.must(s.mr.Register(ctx, ndk.Memory{s.mem}, sideMem, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink))
	return s
}

func (s *side) config() ndk.QPConfig {
	return ndk.QPConfig{
		ReceiveCQ: s.rcq, InitiatorCQ: s.icq, QPContext: s,
		ReceiveQueueDepth: 64, InitiatorQueueDepth: 64, MaxReceiveSGE: 4, MaxInitiatorSGE: 4, InlineDataSize: 64,
	}
}

func (s *side) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) want(err error, st ndk.Status) {
	s.t.Helper()
	if st == ntstatus.Success && err == nil || st != ntstatus.Success && errors.Is(err, st) {
		return
	}
	s.t.Errorf("%v, want %v", err, st)
}

func (s *side) sge(off, n int) ndk.SGE {
	return ndk.SGE{Addr: s.mr.Base() + uint64(off), Length: uint32(n), Token: s.mr.LocalToken()}
}

// close closes all of s, antecedents first.
func (s *side) close() {
	for _, o := range []ndk.Object{s.pd, s.rcq, s.icq, s.mr, s.qp, s.c} {
		if o != nil {
			o.Close()
		}
	}
	s.a.Close()
	s.free()
}

// next drives the world until the CQ has a completion.
func (s *side) next(q ndk.CQ) ndk.ResultEx {
	s.t.Helper()
	var r [1]ndk.ResultEx
	s.must(s.w.RunUntil(func() bool { return q.PollEx(r[:]) == 1 }))
	return r[0]
}

// expect checks the next completion.
func (s *side) expect(q ndk.CQ, rc any, st ndk.Status) ndk.ResultEx {
	s.t.Helper()
	r := s.next(q)
	if r.RequestContext != rc || r.Status != st {
		s.t.Errorf("completion of %v: %v; want %v: %v", r.RequestContext, r.Status, rc, st)
	}
	return r
}

// dial is Connect and CompleteConnect of s, Accept of p, each in a thread of
// control of its own. The results are those of the three calls; a call that was
// not made has the result that kept it from being made.
func dial(s, p *side) (connect, complete, accept error) {
	s.t.Helper()
	var got ndk.Connector
	l, err := p.a.CreateListener(ctx, func(c ndk.Connector) { got = c })
	p.must(err)
	p.must(l.Listen(ctx, netip.AddrPort{}))
	at, err := l.LocalAddr()
	p.must(err)
	at = netip.AddrPortFrom(testHosts[1][0], at.Port())
	limits := ndk.ConnParams{InboundReadLimit: 4, OutboundReadLimit: 4}
	accept = errors.New("no request")
	task := s.w.Go(func() {
		if err := s.w.RunUntil(func() bool { return got != nil }); err != nil {
			return
		}
		p.c = got
		accept = got.AcceptEx(ctx, p.qp, limits, func(r uint32) { p.lost = append(p.lost, Reason(r)) })
	})
	s.c, err = s.a.CreateConnector(ctx)
	s.must(err)
	if connect = s.c.Connect(ctx, s.qp, netip.AddrPort{}, at, limits); connect == nil {
		complete = s.c.CompleteConnectEx(ctx, func(r uint32) { s.lost = append(s.lost, Reason(r)) })
	} else {
		complete = connect
	}
	s.w.Run()
	l.Close()
	_ = task
	return connect, complete, accept
}

// pairOf makes a world with two sides that are not connected. Reports fail the
// test.
func pairOf(t testing.TB, c Config) (w *World, s, p *side) {
	t.Helper()
	c.Hosts = testHosts
	if c.Report == nil {
		c.Report = func(what string) { t.Errorf("reported: %s", what) }
	}
	w = newWorld(t, c)
	s, p = newSide(t, w, testHosts[0][0]), newSide(t, w, testHosts[1][0])
	t.Cleanup(func() { s.close(); p.close() })
	return w, s, p
}

// connected is pairOf with a connection.
func connected(t testing.TB, c Config) (w *World, s, p *side) {
	t.Helper()
	w, s, p = pairOf(t, c)
	for i, err := range three(dial(s, p)) {
		if err != nil {
			t.Fatalf("step %d of connecting: %v", i, err)
		}
	}
	return w, s, p
}

func three(a, b, c error) []error { return []error{a, b, c} }

func inject(t testing.TB, w *World, i Injection) {
	t.Helper()
	if _, err := w.Inject(i); err != nil {
		t.Fatal(err)
	}
}

func name(args ...any) string { return fmt.Sprint(args...) }

func netipPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
