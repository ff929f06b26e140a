package sim

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

func TestConfigIsCheckedAtTheDoor(t *testing.T) {
	for name, c := range map[string]Config{
		"Faults":         {Faults: Faults{PointPost: 1.5}},
		"Order":          {Order: 7},
		"Jitter":         {Jitter: -1},
		"Backlog":        {Backlog: -1},
		"AnswerTimeout":  {Auto: true, AnswerTimeout: time.Second},
		"Paced":          {Paced: true},
		"FirstPort":      {FirstPort: 2000, LastPort: 1000},
		"Hosts":          {Hosts: [][]netip.Addr{{addr("10.0.0.1")}, {addr("10.0.0.1")}}},
		"Hosts: host":    {Hosts: [][]netip.Addr{{}}},
		"Hosts: address": {Hosts: [][]netip.Addr{{netip.IPv4Unspecified()}}},
		"Info: MaxCQ":    {Info: func(i *ndk.AdapterInfo) { i.MaxCQDepth = 0 }},
		"Info: MaxTr":    {Info: func(i *ndk.AdapterInfo) { i.MaxTransferLength = 1 << 40 }},
	} {
		field, _, _ := strings.Cut(name, ":")
		if _, err := New(c); !errors.Is(err, ntstatus.InvalidParameter) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for p, q := range map[float64]bool{0: true, 1: true, -0.1: false} {
		if _, err := New(Config{Faults: Faults{PointLoss: p}}); (err == nil) != q {
			t.Errorf("probability %v: %v", p, err)
		}
	}
}

func TestOpen(t *testing.T) {
	w := newWorld(t, Config{Hosts: testHosts})
	for _, tc := range []struct {
		a    netip.Addr
		v    ndk.Version
		want ndk.Status
		got  ndk.Version
	}{
		{testHosts[0][0], ndk.Version11, ntstatus.Success, ndk.Version12},
		{testHosts[1][0], ndk.Version21, ntstatus.Success, ndk.Version21},
		{netip.Addr{}, ndk.Version{Major: 2}, ntstatus.Success, ndk.Version21},
		{netip.IPv4Unspecified(), ndk.Version12, ntstatus.Success, ndk.Version12},
		{testHosts[0][0], ndk.Version{Major: 2, Minor: 2}, ntstatus.NotSupported, ndk.Version{}},
		{testHosts[0][0], ndk.Version{Major: 1, Minor: 3}, ntstatus.NotSupported, ndk.Version{}},
		{testHosts[0][0], ndk.Version{Major: 3}, ntstatus.NotSupported, ndk.Version{}},
		{addr("10.0.0.77"), ndk.Version21, ntstatus.DeviceNotReady, ndk.Version{}},
	} {
		a, err := w.Open(ctx, tc.a, tc.v)
		if ndk.StatusOf(err) != tc.want {
			t.Errorf("%v %v: %v, want %v", tc.a, tc.v, err, tc.want)
		}
		if err == nil {
			if a.Version() != tc.got {
				t.Errorf("%v %v: version %v, want %v", tc.a, tc.v, a.Version(), tc.got)
			}
			a.Close()
		}
	}
	// Without a list every address is somebody's.
	w = newWorld(t, Config{})
	for _, a := range []netip.Addr{addr("192.0.2.7"), addr("2001:db8::7"), {}} {
		mustOpen(t, w, a).Close()
	}
}

// A call that nothing can end fails, with a cause that says so, and leaves
// nothing behind.
func TestDeadlock(t *testing.T) {
	w, s, p := pairOf(t, Config{})
	l, err := p.a.CreateListener(ctx, func(c ndk.Connector) { p.c = c })
	p.must(err)
	p.must(l.Listen(ctx, netipPort(testHosts[1][0], 5445)))
	s.c, err = s.a.CreateConnector(ctx)
	s.must(err)
	err = s.c.Connect(ctx, s.qp, netip.AddrPort{}, netipPort(testHosts[1][0], 5445), ndk.ConnParams{})
	if !errors.Is(err, ErrDeadlock) {
		t.Errorf("a Connect that nobody answers: %v", err)
	}
	w.Run()
	p.want(p.c.Accept(ctx, p.qp, ndk.ConnParams{}, nil), ntstatus.ConnectionAborted)
	if err := w.RunUntil(func() bool { return false }); !errors.Is(err, ErrDeadlock) {
		t.Errorf("RunUntil: %v", err)
	}
	if err := w.Wait(ctx, make(chan struct{})); !errors.Is(err, ErrDeadlock) {
		t.Errorf("Wait: %v", err)
	}
	l.Close()
	s.must(s.w.CloseWait(ctx, l))
}

// Time limits and ended contexts, in virtual time.
func TestAnswerTimeout(t *testing.T) {
	w, s, p := pairOf(t, Config{AnswerTimeout: 3 * time.Second, Latency: time.Millisecond})
	l, err := p.a.CreateListener(ctx, func(c ndk.Connector) { p.c = c })
	p.must(err)
	defer l.Close()
	at := netipPort(testHosts[1][0], 5445)
	p.must(l.Listen(ctx, at))
	s.c, err = s.a.CreateConnector(ctx)
	s.must(err)
	s.want(s.c.Connect(ctx, s.qp, netip.AddrPort{}, at, ndk.ConnParams{}), ntstatus.IOTimeout)
	if got := w.Now(); got != 3*time.Second+time.Millisecond { // from the arrival of the request
		t.Errorf("over at %v", got)
	}
	w.Run()
	p.c.Close()

	c, cancel := context.WithCancel(ctx)
	k, err := s.a.CreateConnector(ctx)
	s.must(err)
	defer k.Close()
	start := w.Now()
	w.After(time.Second, cancel)
	s.want(k.Connect(c, s.qp, netip.AddrPort{}, at, ndk.ConnParams{}), ntstatus.Cancelled)
	if d := w.Now() - start; d != time.Second {
		t.Errorf("over after %v", d)
	}
	w.Run()
}

// A peer that accepted and waits learns of a peer that never completes.
func TestAcceptTimeout(t *testing.T) {
	w, s, p := pairOf(t, Config{AnswerTimeout: 3 * time.Second})
	var at netip.AddrPort
	var accept error
	l, err := p.a.CreateListener(ctx, func(c ndk.Connector) {
		p.c = c
		w.Go(func() { accept = c.Accept(ctx, p.qp, ndk.ConnParams{}, nil) })
	})
	p.must(err)
	defer l.Close()
	at = netipPort(testHosts[1][0], 5445)
	p.must(l.Listen(ctx, at))
	s.c, err = s.a.CreateConnector(ctx)
	s.must(err)
	s.must(s.c.Connect(ctx, s.qp, netip.AddrPort{}, at, ndk.ConnParams{}))
	w.Run()
	p.want(accept, ntstatus.IOTimeout)
	s.want(s.c.CompleteConnect(ctx, nil), ntstatus.IOTimeout)
}

// Tasks take turns, each until its call waits; a context that ends lets one go.
func TestTasks(t *testing.T) {
	w := newWorld(t, Config{})
	var log []string
	c, cancel := context.WithCancel(ctx)
	ready := false
	a := w.Go(func() {
		log = append(log, "a1")
		if err := w.RunUntil(func() bool { return ready }); err != nil {
			t.Error(err)
		}
		log = append(log, "a2")
	})
	w.Go(func() {
		log = append(log, "b1")
		err := w.Wait(c, make(chan struct{}))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Wait: %v", err)
		}
		log = append(log, "b2")
		ready = true
	})
	w.After(time.Second, func() { log = append(log, "cancel"); cancel() })
	if err := w.Wait(ctx, a.Ended()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a1", "b1", "cancel", "b2", "a2"}; !slices.Equal(log, want) {
		t.Errorf("%v, want %v", log, want)
	}
	if w.Now() != time.Second {
		t.Errorf("it is %v", w.Now())
	}
}

// Close lets every task end; what it waits for fails.
func TestCloseEndsTasks(t *testing.T) {
	w, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	var got []error
	for range 3 {
		w.Go(func() { got = append(got, w.RunUntil(func() bool { return false })) })
	}
	w.Run()
	w.Go(func() { got = append(got, w.Wait(ctx, nil)) }) // has not begun
	w.Close()
	w.Close()
	if len(got) != 4 {
		t.Fatalf("%d tasks ended", len(got))
	}
	for _, err := range got {
		if !errors.Is(err, ErrWorldClosed) {
			t.Errorf("%v", err)
		}
	}
	if _, err := w.Open(ctx, netip.Addr{}, ndk.Version21); !errors.Is(err, ErrWorldClosed) {
		t.Errorf("Open: %v", err)
	}
}

// The clock goes on by what happens, and by Advance, and not else.
func TestClock(t *testing.T) {
	w := newWorld(t, Config{})
	var at []time.Duration
	note := func() { at = append(at, w.Now()) }
	for _, d := range []time.Duration{3, 1, 2, 2} {
		w.After(d*time.Second, note)
	}
	w.Advance(1500 * time.Millisecond)
	if w.Now() != 1500*time.Millisecond || len(at) != 1 {
		t.Errorf("%v, %v", w.Now(), at)
	}
	if n := w.Run(); n != 3 || w.Now() != 3*time.Second {
		t.Errorf("%d events, %v", n, w.Now())
	}
	if want := []time.Duration{time.Second, 2 * time.Second, 2 * time.Second, 3 * time.Second}; !slices.Equal(at, want) {
		t.Errorf("%v, want %v", at, want)
	}
	if w.Step() {
		t.Error("a step of nothing")
	}
}

// Notifications are held back by count and by virtual time.
func TestModerationInVirtualTime(t *testing.T) {
	for _, tc := range []struct {
		interval, count uint32
		messages        int
		at              time.Duration // -1: not at all
	}{
		{0, 0, 1, 0},
		{500, ndk.Disabled, 1, 500 * time.Microsecond},
		{500, 3, 2, 500 * time.Microsecond},
		{500, 3, 3, 0},
		{ndk.Disabled, 3, 2, -1},
		{ndk.Disabled, 3, 3, 0},
	} {
		w, s, p := pairOf(t, Config{Latency: -1})
		at := time.Duration(-1)
		cq, err := p.a.CreateCQ(ctx, ndk.CQConfig{Depth: 8, Notify: func(ndk.Status) { at = w.Now() }})
		p.must(err)
		p.qp.Close()
		p.rcq.Close()
		p.rcq = cq
		p.qp, err = p.pd.CreateQP(ctx, p.config())
		p.must(err)
		p.must(errors.Join(three(dial(s, p))...))
		p.must(cq.Moderate(tc.interval, tc.count))
		cq.Arm(ndk.ArmAny)
		start := w.Now()
		for i := range tc.messages {
			p.must(p.qp.Receive(i, nil))
			s.must(s.qp.Send(i, nil, ndk.SilentSuccess))
		}
		w.Run()
		if at >= 0 {
			at -= start
		}
		if at != tc.at {
			t.Errorf("%d messages under %d µs, %d: notified at %v, want %v", tc.messages, tc.interval, tc.count, at, tc.at)
		}
	}
}

// Latency and rate are what a message takes.
func TestWireTimes(t *testing.T) {
	w, s, p := connected(t, Config{Latency: 10 * time.Millisecond, BytesPerSecond: 1 << 20})
	p.must(p.qp.Receive("r", []ndk.SGE{p.sge(0, 1<<15)}))
	start := w.Now()
	s.must(s.qp.Send("s", []ndk.SGE{s.sge(0, 1<<15-headerSize)}, 0))
	p.expect(p.rcq, "r", ntstatus.Success)
	if d, want := w.Now()-start, 10*time.Millisecond+time.Second/32; d != want {
		t.Errorf("%v, want %v", d, want)
	}
}

// What one side sends to the other stands still while it is blocked.
func TestBlock(t *testing.T) {
	w, s, p := connected(t, Config{})
	w.Block(testHosts[0][0], testHosts[1][0])
	p.must(p.qp.Receive("r", nil))
	s.must(s.qp.Receive("r", nil))
	s.must(s.qp.Send("s", nil, 0))
	p.must(p.qp.Send("s", nil, 0))
	w.Run()
	s.expect(s.rcq, "r", ntstatus.Success)
	if n := p.rcq.Poll(make([]ndk.Result, 1)); n != 0 {
		t.Error("a message came through")
	}
	w.Unblock(testHosts[0][0], testHosts[1][0])
	p.expect(p.rcq, "r", ntstatus.Success)
}

// Mistakes that no call can tell are reported.
func TestReports(t *testing.T) {
	var got []string
	w, s, p := connected(t, Config{CheckBuffers: true, Report: func(what string) { got = append(got, what) }})
	expect := func(part string) {
		t.Helper()
		if len(got) != 1 || !strings.Contains(got[0], part) {
			t.Errorf("reported %q, want one with %q", got, part)
		}
		got = nil
	}
	var lam ndk.LAM
	fbo, err := s.a.BuildLAM(ctx, ndk.Memory{s.mem[:64]}, 64, &lam)
	s.must(err)
	s.must(s.qp.Receive("r", []ndk.SGE{{Addr: uint64(lam.Pages[0]) + uint64(fbo), Length: 64, Token: s.pd.PrivilegedToken()}}))
	s.a.ReleaseLAM(&lam)
	expect("ReleaseLAM")

	m, err := s.pd.CreateMR(ctx, false)
	s.must(err)
	s.must(m.Register(ctx, ndk.Memory{s.mem}, 64, ndk.MRAllowLocalWrite))
	s.must(s.qp.Receive("r", []ndk.SGE{{Addr: m.Base(), Length: 64, Token: m.LocalToken()}}))
	s.must(m.Deregister(ctx))
	expect("Deregister")
	m.Close()

	p.must(p.qp.Receive("r", []ndk.SGE{p.sge(0, 8)}))
	s.must(s.qp.Send("s", []ndk.SGE{s.sge(0, 8)}, 0))
	s.mem[3]++
	w.Run()
	expect("changed while it was posted")

	// Two posts at the same time: the lane is held as a post on another
	// goroutine would hold it.
	for _, l := range []*lane{&s.qp.(*qp).send, &s.qp.(*qp).recv} {
		p.must(p.qp.Receive("r", nil))
		l.enter()
		s.must(s.qp.Receive("r", nil))
		s.must(s.qp.Send("s", nil, 0))
		l.leave()
		expect("at the same time")
		w.Run()
	}

	a := mustOpen(t, w, testHosts[0][0])
	pd, err := a.CreatePD(ctx)
	s.must(err)
	a.Close()
	expect("1 PD")
	pd.Close()

	o, err := New(Config{Report: func(what string) { got = append(got, what) }})
	s.must(err)
	mustOpen(t, o, addr("10.0.0.1"))
	o.Close()
	expect("1 adapters open")
}

// Ports are taken in the range, none twice, and given back.
func TestPorts(t *testing.T) {
	w := newWorld(t, Config{FirstPort: 50000, LastPort: 50003})
	a := mustOpen(t, w, addr("10.0.0.1"))
	var ends []ndk.SharedEndpoint
	seen := map[uint16]bool{}
	for range 4 {
		e, err := a.CreateSharedEndpoint(ctx, netipPort(addr("10.0.0.1"), 0))
		if err != nil {
			t.Fatal(err)
		}
		p := e.LocalAddr().Port()
		if p < 50000 || p > 50003 || seen[p] {
			t.Errorf("port %d", p)
		}
		seen[p] = true
		ends = append(ends, e)
	}
	_, err := a.CreateSharedEndpoint(ctx, netipPort(addr("10.0.0.1"), 0))
	if !errors.Is(err, ntstatus.TooManyAddresses) {
		t.Errorf("a fifth endpoint: %v", err)
	}
	for _, e := range ends {
		e.Close()
	}
	if e, err := a.CreateSharedEndpoint(ctx, netipPort(addr("10.0.0.1"), 0)); err != nil {
		t.Errorf("with the ports free again: %v", err)
	} else {
		e.Close()
	}
	a.Close()
}

// Without the capability no address connects to itself.
func TestLoopback(t *testing.T) {
	for _, able := range []bool{true, false} {
		w := newWorld(t, Config{Hosts: testHosts, Info: func(i *ndk.AdapterInfo) {
			if !able {
				i.Flags &^= ndk.FlagLoopbackConnections
			}
		}})
		s := newSide(t, w, testHosts[0][0])
		refused := 0
		l, err := s.a.CreateListener(ctx, func(c ndk.Connector) { refused++; c.Close() })
		s.must(err)
		at := netipPort(testHosts[0][0], 5445)
		s.must(l.Listen(ctx, at))
		k, err := s.a.CreateConnector(ctx)
		s.must(err)
		err = k.Connect(ctx, s.qp, netip.AddrPort{}, at, ndk.ConnParams{})
		if able {
			s.want(err, ntstatus.ConnectionRefused)
		} else {
			s.want(err, ntstatus.HostUnreachable)
		}
		if refused != map[bool]int{true: 1}[able] {
			t.Errorf("loopback %v: %d requests", able, refused)
		}
		k.Close()
		l.Close()
		s.close()
	}
}

// A backlog that is full refuses.
func TestBacklog(t *testing.T) {
	w, s, p := pairOf(t, Config{Backlog: 1, Latency: -1})
	l, err := p.a.CreateListener(ctx, func(c ndk.Connector) { c.Close() })
	p.must(err)
	defer l.Close()
	at := netipPort(testHosts[1][0], 5445)
	p.must(l.Listen(ctx, at))
	inject(t, w, Injection{Point: PointNotify, Object: l, Delay: time.Hour})
	var got [2]error
	for i := range got {
		qp, err := s.pd.CreateQP(ctx, s.config())
		s.must(err)
		defer qp.Close()
		k, err := s.a.CreateConnector(ctx)
		s.must(err)
		defer k.Close()
		w.Go(func() {
			got[i] = k.Connect(ctx, qp, netip.AddrPort{}, at, ndk.ConnParams{})
			if d := w.Now() >= time.Hour; d != (i == 0) {
				t.Errorf("Connect %d ended at %v", i, w.Now())
			}
		})
	}
	w.Run()
	for _, err := range got {
		s.want(err, ntstatus.ConnectionRefused)
	}
}

// Trace keeps the newest lines; TraceSum knows of all, if there are any.
func TestTraceLimit(t *testing.T) {
	for _, limit := range []int{-1, 400, 0} {
		w := newWorld(t, Config{TraceBytes: limit})
		for range 100 {
			mustOpen(t, w, addr("10.0.0.1")).Close()
		}
		want := uint64(200)
		if limit < 0 {
			want = 0
		}
		lines, sum := w.TraceSum()
		if lines != want || sum == 0 {
			t.Errorf("limit %d: %d lines, sum %#x", limit, lines, sum)
		}
		got := strings.Split(w.Trace(), "\n")
		switch {
		case limit < 0 && w.Trace() != "":
			t.Errorf("a trace of %d bytes", len(w.Trace()))
		case limit > 0 && (len(w.Trace()) > limit || got[len(got)-2] != "0 adapter100 close" || !strings.HasPrefix(got[0], "0 adapter")):
			t.Errorf("the end of the trace is %q", w.Trace())
		case limit == 0 && len(got) != 201:
			t.Errorf("%d lines", len(got)-1)
		}
	}
}

// In auto mode calls that wait return when the world is closed.
func TestAutoClose(t *testing.T) {
	w, err := New(Config{Auto: true, Hosts: testHosts, Report: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	s, p := newSide(t, w, testHosts[0][0]), newSide(t, w, testHosts[1][0])
	handed := make(chan struct{})
	l, err := p.a.CreateListener(ctx, func(ndk.Connector) { close(handed) })
	p.must(err)
	at := netipPort(testHosts[1][0], 5445)
	p.must(l.Listen(ctx, at))
	s.c, err = s.a.CreateConnector(ctx)
	s.must(err)
	done := make(chan error)
	go func() { done <- s.c.Connect(ctx, s.qp, netip.AddrPort{}, at, ndk.ConnParams{}) }() // ends with Connect
	<-handed
	w.Close()
	if err := <-done; !errors.Is(err, ErrWorldClosed) {
		t.Errorf("Connect: %v", err)
	}
	s.free()
	p.free()
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		PointOpen.String(): "Open", PointRemoval.String(): "Removal", Point(200).String(): "200",
		ReasonNone.String(): "none", ReasonTimeout.String(): "timeout", Reason(99).String(): "reason 99",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for p := range numPoints {
		if p.String() == "" {
			t.Errorf("point %d has no name", p)
		}
	}
}
