package ndktest

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// ofKind checks Kind, by name and by the number of the header.
func (t *T) ofKind(kind ndk.ObjectKind, number uint32, objects ...ndk.Object) {
	t.Helper()
	if len(objects) == 0 {
		t.Errorf("no %v", kind)
	}
	for _, o := range objects {
		if got := o.Kind(); got != kind || uint32(got) != number {
			t.Errorf("Kind is %v (%d), want %v (%d)", got, uint32(got), kind, number)
		}
	}
}

// isKind proves that all specimens of a kind say so.
func isKind(kind ndk.ObjectKind, number uint32) func(t *T) {
	return func(t *T) {
		s, _, all := t.specimens()
		switch {
		case kind == ndk.ObjectMW && s.Info.MaxWindowSize == 0:
			_, err := s.PD.CreateMW(s.ctx)
			s.want(err, ntstatus.NotSupported, "CreateMW")
			t.NotOffered("memory windows: MaxWindowSize is 0")
		case kind == ndk.ObjectSRQ:
			t.needsSRQ(s)
		}
		var objects []ndk.Object
		for _, o := range all {
			if o.kind == kind {
				objects = append(objects, o.Object)
			}
		}
		t.ofKind(kind, number, objects...)
	}
}

// pends proves that an antecedent is closed after its successors, for the
// kinships with that name of the antecedent.
func (t *T) pends(names ...string) {
	t.Helper()
	for _, name := range names {
		found := false
		for _, k := range kinships {
			if k.name != name {
				continue
			}
			found = true
			t.Sub(name, func(t *T) {
				s, antecedent, successor := k.make(t)
				if antecedent == nil {
					return
				}
				s.closes(antecedent)
				s.open(antecedent, "an antecedent of an open object")
				s.closed(successor)
				s.ends(antecedent, "close after the last successor")
			})
		}
		if !found {
			t.Errorf("no kinship %q", name)
		}
	}
}

var _ = row("NDK_ADAPTER", isKind(ndk.ObjectAdapter, 1), adapterVersions, adapterInstances, adapterClose, adapterAbsent)

// Open refuses a major that is unknown and a minor above the highest known; a
// lower minor opens with the highest.
func adapterVersions(t *T) {
	p := t.provider()
	refused := func(v ndk.Version) {
		t.Helper()
		if _, err := t.instance(p, v); !errors.Is(err, ntstatus.NotSupported) {
			t.Errorf("open %v: %v, want NotSupported", v, err)
		}
	}
	for _, v := range []ndk.Version{{}, {Major: 0, Minor: 1}, {Major: 3}, {Major: 3, Minor: 1}, {Major: 0xFFFF, Minor: 0xFFFF}} {
		refused(v)
	}
	for _, low := range []ndk.Version{{Major: 1}, {Major: 2}} {
		a, err := t.instance(p, low)
		if err != nil {
			refused(low)
			continue
		}
		high := a.Version()
		if high.Major != low.Major {
			t.Errorf("opened with %v, it is %v", low, high)
		}
		for v := low; v.Minor <= high.Minor; v.Minor++ {
			b, err := t.instance(p, v)
			if err != nil {
				t.Errorf("open %v: %v", v, err)
				continue
			}
			if b.Version() != high {
				t.Errorf("opened with %v, it is %v, want the highest minor, %v", v, b.Version(), high)
			}
		}
		for _, minor := range []uint16{high.Minor + 1, high.Minor + 2, 0xFFFF} {
			refused(ndk.Version{Major: high.Major, Minor: minor})
		}
	}
}

// Instances of one device do not see each other: one takes no object or token of
// another, and the end of one changes nothing for the others.
func adapterInstances(t *T) {
	p := t.provider()
	var sides [3]*Side
	for i := range sides {
		a, err := t.instance(p, ndk.Version11)
		if err != nil {
			t.Fatal(err)
		}
		sides[i] = newSide(t, a)
	}
	a, b, c := sides[0], sides[1], sides[2]
	q := b.QPConfig()
	q.ReceiveCQ = a.RCQ
	b.noQP(q, "a CQ of another instance")
	loop := b.Info.Flags&ndk.FlagLoopbackConnections != 0
	if loop {
		connect(b, c, limits, limits)
	}
	a.closeRest()
	a.closeAdapter()
	m, err := b.PD.CreateMR(b.ctx, false)
	b.must(err)
	b.must(m.Register(b.ctx, ndk.Memory{b.Mem[:16]}, 16, 0))
	b.closed(m)
	if !loop {
		return // the device does not reach itself
	}
	b.exchange(c)
	c.exchange(b)
	b.must(b.QP.Send("s", []ndk.SGE{{Addr: c.MR.Base(), Length: 8, Token: c.MR.LocalToken()}}, 0))
	b.expect(b.Done(), "s", ntstatus.AccessViolation, ndk.OpSend)
}

// Close returns when the last successor is closed and the last callback has
// returned.
func adapterClose(t *T) {
	t.Sub("a successor", func(t *T) {
		s, _ := t.Connected()
		var last atomic.Bool
		begun, done := make(chan struct{}), make(chan bool, 1)
		go func() { // ends with Close
			close(begun)
			s.A.Close()
			done <- last.Load()
		}()
		<-begun
		m, err := s.PD.CreateMR(s.ctx, false) // of a PD that is open still
		s.must(err)
		s.closeRest()
		s.ends(s.QP, "close of the QP")
		s.ends(s.RCQ, "close of the CQ")
		select {
		case <-done:
			t.Error("Adapter.Close returned with an MR open")
		default:
		}
		last.Store(true)
		m.Close()
		select {
		case after := <-done:
			if !after {
				t.Error("Adapter.Close returned before the last successor was closed")
			}
		case <-s.ctx.Done():
			t.Fatal("Adapter.Close does not return")
		}
	})
	closeAdapter(t) // the callbacks
}

// An address that no device owns has no adapter.
func adapterAbsent(t *T) {
	p := t.provider()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := p.Open(ctx, t.Foreign, ndk.Version11)
	if !errors.Is(err, ntstatus.DeviceNotReady) {
		t.Errorf("open %v: %v, want DeviceNotReady", t.Foreign, err)
	}
	if a != nil {
		t.Error("an adapter of an address that nobody has")
		a.Close()
	}
}

var _ = row("NDK_CONNECTOR", isKind(ndk.ObjectConnector, 8), connectorHoldsQP, connectorDrops, connectorBesidePosts, connectorOnce)

// The QP of a connection is closed after its connector, on both sides.
func connectorHoldsQP(t *T) {
	t.pends("QP, connector of the active side", "QP, connector of the passive side")
}

// Close of a connected connector drops the connection: the peer hears of it, and
// what was under way on the QP is cancelled.
func connectorDrops(t *T) {
	for _, side := range []string{"active", "passive"} {
		t.Sub(side, func(t *T) {
			s, p := t.Connected()
			if side == "passive" {
				s, p = p, s
			}
			for i := range 3 {
				s.must(s.QP.Receive(i, nil))
			}
			s.C.Close()
			for i := range 3 {
				s.expect(s.Received(), i, ntstatus.Cancelled, ndk.OpReceive)
			}
			p.lost()
			s.idle("after the connector was closed")
			s.ends(s.C, "close of a connected connector")
			s.silent("of one's own close")
		})
	}
}

// Close may run beside posts: each that was accepted completes, once and in its
// place, the others are refused.
func connectorBesidePosts(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	for range 8 {
		x, y := s.fork(), p.fork()
		connectTo(x, y, addr, got)
		for i := range qDepth {
			y.must(y.QP.Receive(i, nil))
		}
		var wg sync.WaitGroup
		var sends, receives int
		lane := func(n *int, post func(i int) error) {
			for *n < qDepth {
				if err := post(*n); err != nil {
					x.want(err, ntstatus.ConnectionInvalid, "a post after Close")
					return
				}
				*n++
			}
		}
		wg.Go(func() { lane(&sends, func(i int) error { return x.QP.Send(i, nil, 0) }) })
		wg.Go(func() { lane(&receives, func(i int) error { return x.QP.Receive(i, nil) }) })
		wg.Go(x.C.Close)
		wg.Wait()
		x.closed(x.QP)
		var r [1]ndk.ResultEx
		for i := range sends {
			if x.ICQ.PollEx(r[:]) != 1 || r[0].RequestContext != i || r[0].Status != ntstatus.Success && r[0].Status != ntstatus.Cancelled {
				t.Fatalf("Send %d of %d completes as %v: %v", i, sends, r[0].RequestContext, r[0].Status)
			}
		}
		for i := range receives {
			if x.RCQ.PollEx(r[:]) != 1 || r[0].RequestContext != i || r[0].Status != ntstatus.Cancelled {
				t.Fatalf("Receive %d of %d completes as %v: %v", i, receives, r[0].RequestContext, r[0].Status)
			}
		}
		x.drained("of a post that was refused")
		y.C.Close()
		y.closed(y.QP)
		for y.RCQ.PollEx(r[:]) == 1 { // all of them, one way or the other
		}
	}
}

// A connector serves one connection, or one attempt, in its life.
func connectorOnce(t *T) {
	s, p := t.Connected()
	_, addr, got := p.listen()
	again := func(o *Side, c ndk.Connector, what string) {
		t.Helper()
		x := o.sibling(nil)
		for name, err := range map[string]error{
			"Connect":         c.Connect(o.ctx, x.QP, netip.AddrPort{}, addr, limits),
			"Accept":          c.Accept(o.ctx, x.QP, limits, nil),
			"CompleteConnect": c.CompleteConnect(o.ctx, nil),
		} {
			switch st := ndk.StatusOf(err); st {
			case ntstatus.InvalidDeviceState, ntstatus.ConnectionInvalid, ntstatus.ConnectionActive:
			default:
				t.Errorf("%s of a connector that %s: %v", name, what, err)
			}
		}
		x.must(x.QP.Receive("r", nil)) // the QP was not touched
	}
	again(s, s.C, "is connected")
	again(p, p.C, "was accepted")
	s.must(s.C.Disconnect(s.ctx))
	p.lost()
	p.must(p.C.Disconnect(p.ctx))
	again(s, s.C, "was disconnected")
	again(p, p.C, "was disconnected")
	c := s.connector()
	x := s.sibling(nil)
	s.want(c.Connect(s.ctx, x.QP, netip.AddrPort{}, p.unused(addr.Addr()), limits), ntstatus.ConnectionRefused, "Connect to nobody")
	again(s, c, "was refused")
	select {
	case r := <-got:
		t.Error("a connect event")
		r.Close()
	default:
	}
}

var _ = row("NDK_CQ", isKind(ndk.ObjectCQ, 3), cqPends, cqKeeps, cqWrapped)

// A CQ is closed after the last QP that uses it for anything.
func cqPends(t *T) {
	t.pends("receive CQ, QP", "initiator CQ, QP", "both CQs, QP")
	t.Sub("two QPs", func(t *T) {
		s, _ := t.Pair()
		cq, err := s.A.CreateCQ(s.ctx, ndk.CQConfig{Depth: 8})
		s.must(err)
		a := s.sibling(func(q *ndk.QPConfig) { q.ReceiveCQ = cq })
		b := s.sibling(func(q *ndk.QPConfig) { q.InitiatorCQ = cq })
		s.closes(cq)
		for _, x := range []*Side{a, b} {
			s.open(cq, "a CQ with an open QP")
			s.closed(x.QP)
		}
		s.ends(cq, "close after the last QP")
	})
}

// Results wait until somebody polls, also when their QP is long closed.
func cqKeeps(t *T) {
	s, p := t.Connected()
	x := s.fork()
	y := p.fork()
	x.RCQ, x.ICQ = s.RCQ, s.ICQ
	for i := range 3 {
		s.must(s.QP.Receive(i, nil))
		p.must(p.QP.Send(i, nil, ndk.SilentSuccess))
	}
	p.exchangeBack(s)
	s.must(s.QP.Receive(3, nil))
	s.must(s.QP.Send("s", nil, ndk.Defer))
	s.C.Close()
	s.closed(s.QP)
	meanwhile(x, y)
	for i := range 3 {
		s.expect(s.Received(), i, ntstatus.Success, ndk.OpReceive)
	}
	s.expect(s.Received(), 3, ntstatus.Cancelled, ndk.OpReceive)
	if r := s.Done(); r.RequestContext != "s" || r.Type != ndk.OpSend {
		t.Errorf("a completion of %v, %v", r.RequestContext, r.Type)
	}
	s.drained("more than there were")
}

// A wrapped CQ is as good as the CQ: the provider finds its own behind it.
func cqWrapped(t *T) {
	s, p := t.Pair()
	s.replaceQP(func(q *ndk.QPConfig) {
		q.ReceiveCQ, q.InitiatorCQ = &hollowCQ{real: q.ReceiveCQ}, &hollowCQ{real: &hollowCQ{real: q.InitiatorCQ}}
	})
	connect(s, p, limits, limits)
	p.exchange(s)
	s.exchangeBack(p)
}

var _ = row("NDK_LISTENER", isKind(ndk.ObjectListener, 9), listenerStops, listenerForgets)

// Close stops listening at once, though it pends while a callback runs; a
// request that was not handed out by then is refused.
func listenerStops(t *T) {
	t.Sub("idle", func(t *T) {
		s, p := t.Pair()
		l, addr, _ := p.listen()
		l.Close()
		s.refused(addr, "Connect after Close")
		p.ends(l, "close of a listener")
	})
	t.Sub("in a callback", func(t *T) {
		s, p := t.Pair()
		h := t.hold()
		handed := make(chan ndk.Connector, 4)
		first := h.inside(t)
		l, err := p.A.CreateListener(p.ctx, func(c ndk.Connector) {
			handed <- c
			first()
		})
		p.must(err)
		p.close = append(p.close, l.Close)
		p.must(l.Listen(p.ctx, t.Listen))
		addr, err := l.LocalAddr()
		p.must(err)
		a := s.dial(addr, direct)
		h.enter(p)
		x := s.sibling(nil)
		b := x.dial(addr, direct) // before Close, or after it
		p.closes(l)
		y := s.sibling(nil)
		c := y.dial(addr, direct)
		p.open(l, "a listener whose callback runs")
		h.leave()
		p.ends(l, "close of a listener")
		h.closed.Store(true)
		s.want(y.result(c), ntstatus.ConnectionRefused, "Connect after Close")
		close(handed) // no callback runs or will run
		n := 0
		for r := range handed {
			n++
			r.Close()
		}
		if n > 2 {
			t.Errorf("%d requests were handed out, the third was made after Close", n)
		}
		for i, res := range []chan error{a, b} {
			s.want(s.result(res), ntstatus.ConnectionRefused, []string{"the request handed out and closed", "the request not handed out, or closed"}[i])
		}
	})
}

// What was handed out does not need the listener any more: neither a request
// without an answer, nor a connection.
func listenerForgets(t *T) {
	s, p := t.Connected()
	l, addr, got := p.listen()
	x, y := s.fork(), p.fork()
	res := request(x, y, addr, got, direct)
	p.closed(l)
	acc := plainForms.answer(y, limits)
	x.must(x.result(res))
	x.must(x.C.CompleteConnect(x.ctx, nil))
	y.must(y.result(acc))
	hello(x, y)
	for i := len(p.close) - 1; i >= 0; i-- { // the listener of the first connection
		p.close[i]()
	}
	s.exchange(p)
	p.exchange(s)
}

var _ = row("NDK_QP", isKind(ndk.ObjectQP, 2), qpFlushes, qpOneConnector, qpAfterError, qpLanes)

// Close completes every request that is under way, before it has finished.
func qpFlushes(t *T) {
	t.Sub("connected", func(t *T) { closedPosts(t) })
	t.Sub("never connected", func(t *T) {
		s, _ := t.Pair()
		for i := range qDepth {
			s.must(s.QP.Receive(i, nil))
		}
		s.closed(s.QP)
		s.flushed(qDepth)
		s.drained("more than one completion of a request")
	})
}

// A QP with a connector takes no second one.
func qpOneConnector(t *T) {
	s, p := t.Connected()
	_, addr, got := p.listen()
	s.want(s.connector().Connect(s.ctx, s.QP, netip.AddrPort{}, addr, limits), ntstatus.ConnectionActive, "Connect of a connected QP")
	p.want(p.connector().Connect(p.ctx, p.QP, netip.AddrPort{}, addr, limits), ntstatus.ConnectionActive, "Connect of an accepted QP")
	// A second request, for the QP of the first.
	x, y := s.sibling(nil), p.shallow()
	res := request(x, y, addr, got, direct)
	p.want(y.C.Accept(p.ctx, p.QP, limits, nil), ntstatus.ConnectionActive, "Accept on a connected QP")
	p.must(y.C.Reject(nil))
	s.want(x.result(res), ntstatus.ConnectionRefused, "Connect")
	y.C.Close()
	// One that is being connected is taken, too.
	z := p.shallow()
	res = request(x, z, addr, got, direct)
	s.want(s.connector().Connect(s.ctx, x.QP, netip.AddrPort{}, addr, limits), ntstatus.ConnectionActive, "Connect of a QP that connects")
	z.C.Close()
	s.want(x.result(res), ntstatus.ConnectionRefused, "Connect")
	// Nothing happened to the connection.
	s.exchange(p)
	p.exchange(s)
}

// After a failed completion each further request is cancelled or refused.
func qpAfterError(t *T) {
	s, p := t.Connected()
	m, lam, fbo := s.fast(0, 4096)
	s.must(s.QP.Receive("before", nil))
	s.must(s.QP.Send("bad", []ndk.SGE{{Addr: s.MR.Base() + memSize, Length: 8, Token: s.MR.LocalToken()}}, 0))
	s.expect(s.Done(), "bad", ntstatus.AccessViolation, ndk.OpSend)
	for typ, err := range map[ndk.OpType]error{
		ndk.OpSend:         s.QP.Send(ndk.OpSend, nil, ndk.SilentSuccess),
		ndk.OpRead:         s.QP.Read(ndk.OpRead, []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), p.MR.RemoteToken(), ndk.SilentSuccess),
		ndk.OpWrite:        s.QP.Write(ndk.OpWrite, nil, 0, 0, ndk.SilentSuccess),
		ndk.OpFastRegister: s.QP.FastRegister(ndk.OpFastRegister, m, lam.Pages, fbo, 4096, s.MR.Base(), ndk.SilentSuccess),
	} {
		if err != nil {
			s.want(err, ntstatus.ConnectionInvalid, typ.String()+" after an error")
			continue
		}
		if r := s.Done(); r.Status != ntstatus.Cancelled || r.RequestContext != any(r.Type) {
			t.Errorf("%v after an error completes as %v: %v", typ, r.RequestContext, r.Status)
		}
	}
	err := s.QP.Receive("after", nil)
	if err != nil {
		s.want(err, ntstatus.ConnectionInvalid, "Receive after an error")
	}
	s.C.Close()
	s.expect(s.Received(), "before", ntstatus.Cancelled, ndk.OpReceive)
	if err == nil {
		s.expect(s.Received(), "after", ntstatus.Cancelled, ndk.OpReceive)
	}
	p.lost()
}

// Posts of the two queues may run in parallel, those of one follow each other.
func qpLanes(t *T) {
	s, p := t.Connected()
	const rounds = 16
	for round := range rounds {
		for _, o := range []*Side{s, p} { // so that no message finds nothing
			for i := range qDepth / 2 {
				o.must(o.QP.Receive(i, nil))
			}
		}
		var wg sync.WaitGroup
		for _, o := range []*Side{s, p} {
			wg.Go(func() {
				for i := range qDepth / 2 {
					if err := o.QP.Receive(qDepth/2+i, nil); err != nil {
						t.Errorf("round %d: Receive: %v", round, err)
					}
				}
			})
			wg.Go(func() {
				for i := range qDepth / 2 {
					if err := o.QP.Send(i, nil, 0); err != nil {
						t.Errorf("round %d: Send: %v", round, err)
					}
				}
			})
		}
		wg.Wait()
		for _, o := range []*Side{s, p} {
			for i := range qDepth / 2 {
				o.expect(o.Done(), i, ntstatus.Success, ndk.OpSend)
				o.expect(o.Received(), i, ntstatus.Success, ndk.OpReceive)
			}
		}
		for i := range qDepth / 2 { // those that were posted meanwhile
			for _, o := range []*Side{s, p} {
				o.must(o.QP.Send("s", nil, ndk.SilentSuccess))
			}
			for _, o := range []*Side{s, p} {
				o.expect(o.Received(), qDepth/2+i, ntstatus.Success, ndk.OpReceive)
			}
		}
	}
}

var _ = row("NDK_SHARED_ENDPOINT", isKind(ndk.ObjectSharedEndpoint, 7), endpointPends, endpointAgain)

// An endpoint is closed after the last connector that was made from it.
func endpointPends(t *T) { t.pends("shared endpoint, connector") }

// The address is free again when the endpoint is closed, whether it was used or
// not.
func endpointAgain(t *T) {
	for _, used := range []bool{false, true} {
		t.Sub(map[bool]string{false: "unused", true: "used"}[used], func(t *T) {
			s, p := t.Pair()
			e, err := s.A.CreateSharedEndpoint(s.ctx, netip.AddrPortFrom(t.Local, 0))
			s.must(err)
			s.close = append(s.close, e.Close)
			addr := e.LocalAddr()
			if used {
				_, dst, got := p.listen()
				res := request(s, p, dst, got, via{ep: e, ConnParams: limits})
				acc := plainForms.answer(p, limits)
				s.must(s.result(res))
				s.must(s.C.CompleteConnect(s.ctx, nil))
				p.must(p.result(acc))
				hello(s, p)
				s.must(s.C.Disconnect(s.ctx))
				p.lost()
				p.closed(p.C)
				s.closed(s.C)
			}
			s.closed(e)
			for range 3 {
				e, err := s.A.CreateSharedEndpoint(s.ctx, addr)
				s.must(err)
				if e.LocalAddr() != addr {
					t.Errorf("reserved %v, want %v", e.LocalAddr(), addr)
				}
				s.closed(e)
			}
		})
	}
}
