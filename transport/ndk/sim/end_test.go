package sim

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Two sides that disconnect at the same time both succeed, and neither is told.
func TestCrossingDisconnects(t *testing.T) {
	for _, o := range []Order{InOrder, Shuffled} {
		w, s, p := connected(t, Config{Order: o, AckedSends: true})
		s.must(s.qp.Receive("r", nil))
		p.must(p.qp.Receive("r", nil))
		s.must(s.qp.Send("s", nil, 0))
		p.must(p.qp.Send("s", nil, 0))
		var got [2]error
		for i, x := range []*side{s, p} {
			w.Go(func() { got[i] = x.c.Disconnect(ctx) })
		}
		w.Run()
		for _, err := range got {
			s.want(err, ntstatus.Success)
		}
		for _, x := range []*side{s, p} {
			x.expect(x.icq, "s", ntstatus.Success)
			x.expect(x.rcq, "r", ntstatus.Success)
			if len(x.lost) != 0 {
				t.Errorf("disconnect events %v", x.lost)
			}
			x.want(x.c.Disconnect(ctx), ntstatus.ConnectionInvalid)
		}
		if w.Now() >= time.Second {
			t.Errorf("it took %v", w.Now())
		}
	}
}

// Disconnect finishes what was posted, then says farewell.
func TestDisconnectDrains(t *testing.T) {
	w, s, p := connected(t, Config{AckedSends: true})
	for i := range 5 {
		p.must(p.qp.Receive(i, nil))
		s.must(s.qp.Send(i, nil, ndk.Defer))
	}
	s.must(s.qp.Read("read", []ndk.SGE{s.sge(0, 100)}, p.mr.Base(), p.mr.RemoteToken(), ndk.Defer))
	s.must(s.c.Disconnect(ctx))
	for i := range 5 {
		s.expect(s.icq, i, ntstatus.Success)
		p.expect(p.rcq, i, ntstatus.Success)
	}
	s.expect(s.icq, "read", ntstatus.Success)
	w.Run()
	if !slices.Equal(p.lost, []Reason{ReasonNone}) {
		t.Errorf("disconnect events %v", p.lost)
	}
	p.want(p.qp.Send("late", nil, 0), ntstatus.ConnectionInvalid)
	p.must(p.c.Disconnect(ctx)) // only flushes
}

// A message that finds no receive ends the connection, or waits, and those behind
// it too; a Disconnect does not wait for ever.
func TestNoReceive(t *testing.T) {
	w, s, p := connected(t, Config{AckedSends: true})
	s.must(s.qp.Send("s", nil, 0))
	s.expect(s.icq, "s", ntstatus.RemoteResources)
	w.Run()
	if !slices.Equal(s.lost, []Reason{ReasonNoReceive}) || !slices.Equal(p.lost, []Reason{ReasonNoReceive}) {
		t.Errorf("disconnect events %v and %v", s.lost, p.lost)
	}
	w, s, p = connected(t, Config{AckedSends: true, WaitForReceive: true, ConnectTimeout: time.Minute})
	for i := range 3 {
		s.must(s.qp.Send(i, nil, 0))
	}
	w.Run()
	if n := s.icq.Poll(make([]ndk.Result, 1)); n != 0 {
		t.Error("a Send without a receive completes")
	}
	for i := range 2 {
		p.must(p.qp.Receive(i, nil))
		p.expect(p.rcq, i, ntstatus.Success)
		s.expect(s.icq, i, ntstatus.Success)
	}
	start := w.Now()
	s.want(s.c.Disconnect(ctx), ntstatus.IOTimeout)
	if d := w.Now() - start; d != time.Minute {
		t.Errorf("Disconnect took %v", d)
	}
	s.expect(s.icq, 2, ntstatus.Cancelled)
}

// Requests that wait for the callback are refused when the listener pauses, is
// closed, or its device goes.
func TestWaitingRequestsAreRefused(t *testing.T) {
	for name, end := range map[string]func(w *World, l ndk.Listener){
		"pause":   func(_ *World, l ndk.Listener) { l.ControlConnectEvents(true) },
		"close":   func(_ *World, l ndk.Listener) { l.Close() },
		"removal": func(w *World, _ ndk.Listener) { w.Remove(testHosts[1][0]) },
	} {
		t.Run(name, func(t *testing.T) {
			w, s, p := pairOf(t, Config{})
			l, err := p.a.CreateListener(ctx, func(c ndk.Connector) { t.Error("a connect event"); c.Close() })
			p.must(err)
			at := netipPort(testHosts[1][0], 5445)
			p.must(l.Listen(ctx, at))
			inject(t, w, Injection{Point: PointNotify, Object: l, Delay: time.Second})
			s.c, err = s.a.CreateConnector(ctx)
			s.must(err)
			w.After(time.Millisecond, func() { end(w, l) })
			s.want(s.c.Connect(ctx, s.qp, netip.AddrPort{}, at, ndk.ConnParams{}), ntstatus.ConnectionRefused)
			w.Run()
			l.Close()
		})
	}
}

// The device of an attempt under way goes away: the attempt ends.
func TestRemovalWhileConnecting(t *testing.T) {
	for i, want := range []ndk.Status{ntstatus.DeviceRemoved, ntstatus.ConnectionAborted} {
		w, s, p := pairOf(t, Config{})
		l, err := p.a.CreateListener(ctx, func(c ndk.Connector) { p.c = c })
		p.must(err)
		defer l.Close()
		at := netipPort(testHosts[1][0], 5445)
		p.must(l.Listen(ctx, at))
		s.c, err = s.a.CreateConnector(ctx)
		s.must(err)
		w.After(time.Millisecond, func() { w.Remove(testHosts[i][0]) })
		w.After(time.Millisecond, func() { w.Remove(testHosts[i][0]) }) // twice is harmless
		s.want(s.c.Connect(ctx, s.qp, netip.AddrPort{}, at, ndk.ConnParams{}), want)
		w.Run()
		p.want(p.c.Accept(ctx, p.qp, ndk.ConnParams{}, nil), ntstatus.ConnectionAborted)
		w.Restore(testHosts[i][0])
	}
}

// Where a source comes from if nobody names one.
func TestSourceAddress(t *testing.T) {
	hosts := [][]netip.Addr{{addr("10.0.0.1"), addr("10.0.0.3"), addr("fd00::1")}, {addr("10.0.0.2"), addr("fd00::2")}}
	w := newWorld(t, Config{Hosts: hosts})
	peer := newSide(t, w, hosts[1][0])
	l, err := peer.a.CreateListener(ctx, func(c ndk.Connector) { c.Close() })
	peer.must(err)
	peer.must(l.Listen(ctx, netipPort(netip.IPv6Unspecified(), 5445)))
	for _, tc := range []struct {
		open, dst, want netip.Addr
	}{
		{hosts[0][1], hosts[1][0], hosts[0][1]},           // what it was opened with
		{netip.Addr{}, hosts[1][0], hosts[0][0]},          // the first of the family
		{hosts[0][1], hosts[1][1], hosts[0][2]},           // of the other family
		{netip.Addr{}, hosts[0][1], hosts[0][1]},          // its own
		{hosts[0][0], addr("10.9.9.9"), addr("10.0.0.1")}, // known although nobody is there
	} {
		s := newSide(t, w, tc.open)
		k, err := s.a.CreateConnector(ctx)
		s.must(err)
		if err := k.Connect(ctx, s.qp, netip.AddrPort{}, netipPort(tc.dst, 5445), ndk.ConnParams{}); err == nil {
			t.Error("a Connect that was to be refused")
		}
		if at, err := k.LocalAddr(); err != nil || at.Addr() != tc.want {
			t.Errorf("from %v to %v: %v, %v; want %v", tc.open, tc.dst, at, err, tc.want)
		}
		k.Close()
		s.close()
	}
	l.Close()
	peer.close()
}

// A new setting of the moderation takes the place of one under way.
func TestModerationChanges(t *testing.T) {
	w, s, p := pairOf(t, Config{Latency: -1})
	var at []time.Duration
	cq, err := p.a.CreateCQ(ctx, ndk.CQConfig{Depth: 8, Notify: func(ndk.Status) { at = append(at, w.Now()) }})
	p.must(err)
	p.qp.Close()
	p.rcq.Close()
	p.rcq = cq
	p.qp, err = p.pd.CreateQP(ctx, p.config())
	p.must(err)
	p.must(errors.Join(three(dial(s, p))...))
	start := w.Now()
	send := func() {
		cq.Arm(ndk.ArmAny)
		p.must(p.qp.Receive("r", nil))
		s.must(s.qp.Send("s", nil, ndk.SilentSuccess))
		w.Advance(100 * time.Microsecond)
	}
	p.must(cq.Moderate(500, ndk.Disabled))
	send()
	p.must(cq.Moderate(200, ndk.Disabled)) // from now on
	w.Run()
	send()
	p.must(cq.Moderate(0, 0)) // at once
	w.Run()
	p.must(cq.Moderate(300, ndk.Disabled))
	send()
	w.Run()
	for i := range at {
		at[i] -= start
	}
	us := time.Microsecond
	// Armed at 0, set anew at 100; armed at 300, off at 400; armed at 400.
	if want := []time.Duration{300 * us, 400 * us, 700 * us}; !slices.Equal(at, want) {
		t.Errorf("notified at %v, want %v", at, want)
	}
	if w.Steps() == 0 {
		t.Error("no steps")
	}
}

// In auto mode Wait ends with its channel, its context, or the world.
func TestWaitInAutoMode(t *testing.T) {
	w := newWorld(t, Config{Auto: true})
	c := make(chan struct{})
	w.After(time.Hour, func() { close(c) }) // the clock jumps
	if err := w.Wait(ctx, c); err != nil {
		t.Error(err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := w.Wait(done, make(chan struct{})); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ended: %v", err)
	}
	ran := make(chan struct{})
	task := w.Go(func() { close(ran) })
	<-ran
	<-task.Ended()
	w.Close()
	if err := w.Wait(ctx, make(chan struct{})); !errors.Is(err, ErrWorldClosed) {
		t.Errorf("in a world that is closed: %v", err)
	}
}

// A request keeps the objects that it names from being closed before it is
// done.
func TestRequestsHoldTheirObjects(t *testing.T) {
	for name, post := range map[string]func(r *round, f ndk.OpFlags) (ndk.Object, error){
		"FastRegister": func(r *round, f ndk.OpFlags) (ndk.Object, error) {
			return r.fast, r.s.qp.FastRegister("x", r.fast, r.lam.Pages, r.fbo, 8192, 0, f)
		},
		"Invalidate MR": func(r *round, f ndk.OpFlags) (ndk.Object, error) {
			r.s.must(r.s.qp.FastRegister("f", r.fast, r.lam.Pages, r.fbo, 8192, 0, ndk.SilentSuccess|ndk.Defer))
			return r.fast, r.s.qp.Invalidate("x", r.fast, f)
		},
		"Invalidate MW": func(r *round, f ndk.OpFlags) (ndk.Object, error) {
			r.s.must(r.s.qp.Bind("b", r.s.mr, r.window, r.base, 64, ndk.SilentSuccess|ndk.Defer))
			return r.window, r.s.qp.Invalidate("x", r.window, f)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRound(t, Config{})
			s, p := r.s, r.p
			o, err := post(r, ndk.Defer)
			s.must(err)
			o.Close()
			s.w.Run()
			select {
			case <-o.Closed():
				t.Error("closed with a request under way")
			default:
			}
			p.must(p.qp.Receive("r", nil))
			s.must(s.qp.Send("s", nil, ndk.SilentSuccess))
			if name == "Invalidate MW" {
				s.next(s.icq) // the Bind came too late: its window is closed
			} else {
				s.expect(s.icq, "x", ntstatus.Success)
			}
			s.w.Run()
			select {
			case <-o.Closed():
			default:
				t.Error("not closed with its requests done")
			}
			if n := s.a.(*adapter).Registered(); n != sideMem+2*ndk.PageSize {
				t.Errorf("%d bytes are registered, want those of the MR and the mapping", n)
			}
		})
	}
}
