package ndkhook_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndkhook"
)

const (
	queueDepth = 64
	memSize    = 64 << 10
)

// side is one end of a connection over a wrapped iwarp adapter.
type side struct {
	t        *testing.T
	p        *ndkhook.Provider
	a        ndk.Adapter
	pd       ndk.PD
	rcq, icq ndk.CQ
	rev, iev *ndk.Event
	qp       ndk.QP
	mr       ndk.MR
	c        ndk.Connector
	lost     chan uint32
	free     func()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newSide makes all but the connection; with one, its QP has one CQ for both
// queues.
func newSide(t *testing.T, cfg ndkhook.Config, one bool) *side {
	t.Helper()
	ctx := t.Context()
	in, err := iwarp.New(iwarp.Config{})
	check(t, err)
	s := &side{t: t, p: ndkhook.WrapProvider(in, cfg), rev: ndk.NewEvent(), iev: ndk.NewEvent(), lost: make(chan uint32, 1)}
	s.a, err = s.p.Open(ctx, netip.Addr{}, ndk.Version12)
	check(t, err)
	s.pd, err = s.a.CreatePD(ctx)
	check(t, err)
	s.rcq, err = s.a.CreateCQ(ctx, ndk.CQConfig{Depth: 4 * queueDepth, Notify: s.rev.Notify})
	check(t, err)
	if s.icq, s.iev = s.rcq, s.rev; !one {
		s.iev = ndk.NewEvent()
		s.icq, err = s.a.CreateCQ(ctx, ndk.CQConfig{Depth: 4 * queueDepth, Notify: s.iev.Notify})
		check(t, err)
	}
	s.qp, err = s.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: s.rcq, InitiatorCQ: s.icq, QPContext: s,
		ReceiveQueueDepth: queueDepth, InitiatorQueueDepth: queueDepth, MaxReceiveSGE: 1, MaxInitiatorSGE: 1, InlineDataSize: 64})
	check(t, err)
	var mem []byte
	mem, s.free, err = s.a.Alloc(memSize)
	check(t, err)
	s.mr, err = s.pd.CreateMR(ctx, false)
	check(t, err)
	check(t, s.mr.Register(ctx, ndk.Memory{mem}, memSize, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink))
	return s
}

var reads = ndk.ConnParams{InboundReadLimit: 8, OutboundReadLimit: 8}

func connect(x, y *side) {
	t := x.t
	t.Helper()
	ctx := t.Context()
	got := make(chan ndk.Connector, 1)
	l, err := y.a.CreateListener(ctx, func(c ndk.Connector) { got <- c })
	check(t, err)
	defer l.Close()
	check(t, l.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0")))
	addr, err := l.LocalAddr()
	check(t, err)
	x.c, err = x.a.CreateConnector(ctx)
	check(t, err)
	accepted := make(chan error, 1)
	go func() { // ends with Accept; its result is waited for
		y.c = <-got
		accepted <- y.c.AcceptEx(ctx, y.qp, reads, func(r uint32) { y.lost <- r })
	}()
	check(t, x.c.Connect(ctx, x.qp, netip.AddrPort{}, addr, reads))
	check(t, x.c.CompleteConnectEx(ctx, func(r uint32) { x.lost <- r }))
	check(t, <-accepted)
}

func (s *side) sge(n int) []ndk.SGE {
	return []ndk.SGE{{Addr: s.mr.Base(), Length: uint32(n), Token: s.mr.LocalToken()}}
}

// wait polls cq until f has seen enough.
func wait(cq ndk.CQ, ev *ndk.Event, f func(ndk.Result) (more bool)) {
	var res [7]ndk.Result
	for more := true; more; {
		n := cq.Poll(res[:])
		for _, r := range res[:n] {
			more = f(r) && more
		}
		if n == 0 {
			cq.Arm(ndk.ArmAny)
			<-ev.C()
		}
	}
}

// closeAll closes the QP first, and looks at its completions to the last.
func (s *side) closeAll() {
	ctx := context.Background()
	s.c.Close()
	check(s.t, ndk.CloseWait(ctx, s.qp))
	for _, cq := range []ndk.CQ{s.rcq, s.icq} {
		var res [16]ndk.ResultEx
		for cq.PollEx(res[:]) > 0 {
		}
	}
	s.icq.Close()
	s.rcq.Close()
	s.pd.Close()
	s.mr.Close()
	s.a.Close()
	s.free()
}

// Traffic both ways, with requests of every kind, silent ones among them: a
// provider that keeps its promises has a clean audit, whatever else the layer does.
func TestAuditOfIWARP(t *testing.T) {
	const messages = 1000
	var events atomic.Int64
	for _, tc := range []struct {
		name string
		cfg  ndkhook.Config
	}{
		{"audit", ndkhook.Config{Audit: true}},
		{"audit and trace", ndkhook.Config{Audit: true, Trace: func(ndkhook.Event) { events.Add(1) }, OnResult: func(*ndk.ResultEx) {}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x, y := newSide(t, tc.cfg, false), newSide(t, tc.cfg, false)
			connect(x, y)
			var wg sync.WaitGroup
			for _, d := range []struct{ from, to *side }{{x, y}, {y, x}} {
				for range queueDepth {
					check(t, d.to.qp.Receive(d.to, d.to.sge(256)))
				}
				// credits keeps the sender within the receives that are posted.
				credits := make(chan struct{}, messages)
				for range queueDepth {
					credits <- struct{}{}
				}
				wg.Go(func() {
					n := 0
					wait(d.to.rcq, d.to.rev, func(r ndk.Result) bool {
						if r.Status != ntstatus.Success || r.QPContext != any(d.to) || r.RequestContext != any(d.to) {
							t.Errorf("receive %d: %+v", n, r)
						}
						n++
						if n+queueDepth <= messages {
							if err := d.to.qp.Receive(d.to, d.to.sge(256)); err != nil {
								t.Errorf("receive: %v", err)
							}
							credits <- struct{}{}
						}
						return n < messages
					})
				})
				wg.Go(func() { sendAll(d.from, d.to, messages, credits) })
			}
			wg.Wait()
			check(t, x.c.Disconnect(t.Context()))
			<-y.lost
			x.closeAll()
			y.closeAll()
			for _, s := range []*side{x, y} {
				s.p.Check(t)
				if n := s.p.Unjudged(); n != 0 {
					t.Errorf("%d requests unjudged", n)
				}
			}
		})
	}
	if events.Load() < 4*messages {
		t.Errorf("%d events", events.Load())
	}
}

// sendAll sends messages as credits allow, with a Read and a Write before each
// fourth of them.
func sendAll(s, to *side, messages int, credits <-chan struct{}) {
	want, tail := 0, 0
	done := func(target int) {
		if want >= target {
			return
		}
		wait(s.icq, s.iev, func(r ndk.Result) bool {
			if r.Status != ntstatus.Success || r.RequestContext != any(s) {
				s.t.Errorf("request: %+v", r)
			}
			want++
			return want < target
		})
	}
	post := func(f ndk.OpFlags, err error) {
		if err != nil {
			s.t.Errorf("post: %v", err)
		}
		if f&ndk.SilentSuccess == 0 {
			tail++
		}
	}
	for i := range messages {
		<-credits
		f := ndk.SilentSuccess
		if i%4 == 3 {
			f = 0
			post(f, s.qp.Read(s, s.sge(100), to.mr.Base(), to.mr.RemoteToken(), 0))
			post(f, s.qp.Write(s, s.sge(100), to.mr.Base(), to.mr.RemoteToken(), 0))
		}
		post(f, s.qp.Send(s, s.sge(i%256), f))
		if f == 0 {
			done(tail)
		}
	}
	done(tail)
}

// Connections that break with requests under way, antecedents closed first: the
// audit is clean, if not all of it is known.
func TestAuditOfBrokenIWARP(t *testing.T) {
	for _, tc := range []struct {
		name   string
		breach func(x, y *side)
	}{
		{"flush", func(x, _ *side) { x.qp.Flush() }},
		{"close of the connector", func(x, _ *side) { x.c.Close() }},
		{"close of the QP", func(x, _ *side) { x.qp.Close() }},
		{"a message without a receive", func(x, _ *side) { check(x.t, x.qp.Send(x, nil, 0)) }},
		{"a bad remote token", func(x, _ *side) { check(x.t, x.qp.Read(x, x.sge(8), 0, 0xFFFFFF00, 0)) }},
	} {
		for _, first := range []bool{false, true} {
			cfg := ndkhook.Config{Audit: true}
			x, y := newSide(t, cfg, true), newSide(t, cfg, true)
			connect(x, y)
			for _, s := range []*side{x, y} {
				for range queueDepth / 2 {
					check(t, s.qp.Receive(s, s.sge(8)))
				}
			}
			for range queueDepth / 4 {
				check(t, x.qp.Read(x, x.sge(4096), y.mr.Base(), y.mr.RemoteToken(), ndk.SilentSuccess))
				check(t, x.qp.Write(x, x.sge(4096), y.mr.Base(), y.mr.RemoteToken(), 0))
			}
			tc.breach(x, y)
			for _, s := range []*side{x, y} {
				if first {
					s.pd.Close()
					s.rcq.Close()
					s.qp.Close()
					s.c.Close()
					s.mr.Close()
					s.a.Close()
					s.free()
				} else {
					s.closeAll()
				}
			}
			for _, s := range []*side{x, y} {
				if got := s.p.Audit(); len(got) > 0 {
					t.Errorf("%s: audit: %s", tc.name, strings.Join(got, "; "))
				}
				if n := s.p.Unjudged(); (n != 0) != first {
					t.Errorf("%s: %d requests unjudged, antecedents first: %v", tc.name, n, first)
				}
			}
		}
	}
}

// A refused post and a failed call come through with their types.
func TestErrorsComeThrough(t *testing.T) {
	s := newSide(t, ndkhook.Config{Audit: true}, true)
	if err := s.qp.Send(1, nil, 0); err != error(ndk.ErrNotConnected) {
		t.Errorf("Send on an idle QP: %v", err)
	}
	c, err := s.a.CreateConnector(t.Context())
	check(t, err)
	s.c = c
	if err := c.Disconnect(t.Context()); ndk.StatusOf(err) != ntstatus.ConnectionInvalid {
		t.Errorf("Disconnect of an idle connector: %v", err)
	}
	s.closeAll()
	s.p.Check(t)
}
