package ndktest

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// kinship is an arrow of the object model. make returns an antecedent whose only
// successor is the other object, both open, and the side that they are of; none
// if the adapter has no such objects.
type kinship struct {
	name string
	make func(t *T) (s *Side, antecedent, successor ndk.Object)
}

var kinships = []kinship{
	{"PD, MR", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Pair()
		pd := s.domain()
		m, err := pd.CreateMR(s.ctx, false)
		s.must(err)
		s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:16]}, 16, 0))
		return s, pd, m
	}},
	{"PD, MW", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Pair()
		if s.Info.MaxWindowSize == 0 {
			return s, nil, nil
		}
		pd := s.domain()
		w, err := pd.CreateMW(s.ctx)
		s.must(err)
		return s, pd, w
	}},
	{"PD, SRQ", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Pair()
		if s.Info.MaxSRQDepth == 0 {
			return s, nil, nil
		}
		pd := s.domain()
		q, err := pd.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
		s.must(err)
		return s, pd, q
	}},
	{"PD, QP", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Pair()
		pd := s.domain()
		qp, err := pd.CreateQP(s.ctx, s.QPConfig())
		s.must(err)
		return s, pd, qp
	}},
	{"receive CQ, QP", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Pair()
		return s.queue(func(q *ndk.QPConfig, cq ndk.CQ) { q.ReceiveCQ = cq })
	}},
	{"initiator CQ, QP", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Pair()
		return s.queue(func(q *ndk.QPConfig, cq ndk.CQ) { q.InitiatorCQ = cq })
	}},
	{"both CQs, QP", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Pair()
		return s.queue(func(q *ndk.QPConfig, cq ndk.CQ) { q.ReceiveCQ, q.InitiatorCQ = cq, cq })
	}},
	{"SRQ, QP", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Pair()
		if s.Info.MaxSRQDepth == 0 {
			return s, nil, nil
		}
		q, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
		s.must(err)
		qp, err := s.PD.CreateQPWithSRQ(s.ctx, s.QPConfig(), q)
		s.must(err)
		return s, q, qp
	}},
	{"QP, connector of the active side", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Connected()
		return s, s.QP, s.C
	}},
	{"QP, connector of the passive side", func(t *T) (*Side, ndk.Object, ndk.Object) {
		_, p := t.Connected()
		return p, p.QP, p.C
	}},
	{"MR, bound MW", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, _ := t.Connected()
		if s.Info.MaxWindowSize == 0 {
			return s, nil, nil
		}
		m, err := s.PD.CreateMR(s.ctx, false)
		s.must(err)
		s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:64]}, 64, ndk.MRAllowRemoteRead))
		w, err := s.PD.CreateMW(s.ctx)
		s.must(err)
		s.must(s.QP.Bind("b", m, w, m.Base(), 64, ndk.AllowRemoteRead))
		s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
		return s, m, w
	}},
	{"shared endpoint, connector", func(t *T) (*Side, ndk.Object, ndk.Object) {
		s, p := t.Pair()
		e, err := s.A.CreateSharedEndpoint(s.ctx, netip.AddrPortFrom(t.Local, 0))
		s.must(err)
		s.close = append(s.close, e.Close)
		_, addr, got := p.listen()
		res := request(s, p, addr, got, via{ep: e, ConnParams: limits})
		acc := plainForms.answer(p, limits)
		s.must(s.result(res))
		s.must(s.C.CompleteConnect(s.ctx, nil))
		p.must(p.result(acc))
		return s, e, s.C
	}},
}

// domain makes a PD of its own.
func (s *Side) domain() ndk.PD {
	s.t.Helper()
	pd, err := s.A.CreatePD(s.ctx)
	s.must(err)
	s.close = append(s.close, pd.Close)
	return pd
}

// queue makes a CQ that a new QP uses for what use says.
func (s *Side) queue(use func(q *ndk.QPConfig, cq ndk.CQ)) (*Side, ndk.Object, ndk.Object) {
	s.t.Helper()
	cq, err := s.A.CreateCQ(s.ctx, ndk.CQConfig{Depth: 64})
	s.must(err)
	q := s.QPConfig()
	use(&q, cq)
	qp, err := s.PD.CreateQP(s.ctx, q)
	s.must(err)
	return s, cq, qp
}

// closes calls Close, which does not block.
func (s *Side) closes(o ndk.Object) {
	s.t.Helper()
	done := make(chan struct{})
	go func() { // ends with Close
		o.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-s.ctx.Done():
		s.t.Fatalf("Close of %v blocks", o.Kind())
	}
}

// ends waits for the close of o, which was begun.
func (s *Side) ends(o ndk.Object, what string) {
	s.t.Helper()
	select {
	case <-o.Closed():
	case <-s.ctx.Done():
		s.t.Fatalf("%s does not end", what)
	}
}

// callback is a kind of notification. make returns an object whose callback runs
// inside, and the side that it is of. trigger does what is notified and does not
// wait for it; rest closes the successors of the object.
type callback struct {
	name string
	make func(t *T, inside func()) (s *Side, o ndk.Object, trigger, rest func())
}

var callbacks = []callback{
	{"CQ", func(t *T, inside func()) (*Side, ndk.Object, func(), func()) {
		s, p := t.Pair()
		cq, err := p.A.CreateCQ(p.ctx, ndk.CQConfig{Depth: 8, Notify: func(ndk.Status) { inside() }})
		p.must(err)
		p.replaceQP(func(q *ndk.QPConfig) { q.ReceiveCQ = cq })
		p.close = append(p.close, cq.Close)
		_, addr, got := p.listen()
		connectTo(s, p, addr, got)
		return p, cq, func() {
			p.must(p.QP.Receive("r", nil))
			cq.Arm(ndk.ArmAny)
			s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
		}, func() { p.C.Close(); p.QP.Close() }
	}},
	{"SRQ", func(t *T, inside func()) (*Side, ndk.Object, func(), func()) {
		s, _ := t.Pair()
		if s.Info.MaxSRQDepth == 0 {
			return s, nil, nil, nil
		}
		q, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1, Notify: func(ndk.Status) { inside() }})
		s.must(err)
		s.close = append(s.close, q.Close)
		return s, q, func() { s.must(q.Modify(s.ctx, 0, 2)) }, func() {} // it is below 2 already
	}},
	{"listener", func(t *T, inside func()) (*Side, ndk.Object, func(), func()) {
		s, p := t.Pair()
		l, err := p.A.CreateListener(p.ctx, func(c ndk.Connector) {
			inside()
			c.Close()
		})
		p.must(err)
		p.close = append(p.close, l.Close)
		p.must(l.Listen(p.ctx, t.Listen))
		addr, err := l.LocalAddr()
		p.must(err)
		return p, l, func() { s.dial(addr, direct) }, func() {}
	}},
	{"connector of the passive side", func(t *T, inside func()) (*Side, ndk.Object, func(), func()) {
		s, p := t.Pair()
		notifyEnd(s, p, nil, inside)
		return p, p.C, func() { s.C.Close() }, func() {}
	}},
	{"connector of the active side", func(t *T, inside func()) (*Side, ndk.Object, func(), func()) {
		s, p := t.Pair()
		notifyEnd(s, p, inside, nil)
		return s, s.C, func() { p.C.Close() }, func() {}
	}},
}

// notifyEnd connects s and p with those disconnect callbacks.
func notifyEnd(s, p *Side, ofS, ofP func()) {
	s.t.Helper()
	_, addr, got := p.listen()
	res := request(s, p, addr, got, direct)
	acc := make(chan error, 1)
	go func() { acc <- p.C.Accept(p.ctx, p.QP, limits, ofP) }() // ends with Accept
	s.must(s.result(res))
	s.must(s.C.CompleteConnect(s.ctx, ofS))
	p.must(p.result(acc))
	hello(s, p)
}

// held runs a callback that stays inside until leave is called.
type held struct {
	entered  chan struct{}
	gate     chan struct{}
	once     sync.Once
	returned atomic.Bool // set as the last thing in the callback
	closed   atomic.Bool // set by the test: there may be no callback any more
}

func (t *T) hold() *held {
	h := &held{entered: make(chan struct{}, 16), gate: make(chan struct{})}
	t.Cleanup(h.leave)
	return h
}

func (h *held) leave() { h.once.Do(func() { close(h.gate) }) }

func (h *held) inside(t *T) func() {
	return func() {
		if h.closed.Load() {
			t.Error("a callback after the close")
		}
		h.entered <- struct{}{}
		<-h.gate
		h.returned.Store(true)
	}
}

func (h *held) enter(s *Side) {
	s.t.Helper()
	select {
	case <-h.entered:
	case <-s.ctx.Done():
		s.t.Fatal("no callback")
	}
}

var _ = row("NDK_FN_CLOSE_OBJECT", closeOnce, closeAntecedent, closeFlushes, closeCallback, closeInside, closeAdapter)

// Closed fires after Close and only then, for every kind of object; it stays so.
func closeOnce(t *T) {
	s, p, all := t.specimens()
	for _, o := range all {
		s.open(o, o.kind.String()+" before Close")
	}
	closeAll(all)
	s.closeRest()
	p.closeRest()
	for _, o := range all {
		if o.kind == ndk.ObjectAdapter {
			o.side.closeAdapter()
		}
		o.side.ends(o, "Close of "+o.kind.String())
		for range 3 { // a channel that is closed, not one that a value came on
			select {
			case <-o.Closed():
			default:
				t.Errorf("Closed of %v fires only once", o.kind)
			}
		}
	}
}

// closeAll closes all but adapters, antecedents first.
func closeAll(all []specimen) {
	for _, o := range all {
		if o.kind != ndk.ObjectAdapter {
			o.side.closes(o)
		}
	}
}

// closeRest closes everything of s but the adapter, as the end of a test does.
func (s *Side) closeRest() {
	s.t.Helper()
	for i := len(s.close) - 1; i >= 0; i-- {
		s.close[i]()
	}
	for _, o := range []ndk.Object{s.PD, s.RCQ, s.ICQ, s.QP, s.MR} {
		s.closes(o)
	}
	if s.C != nil {
		s.closes(s.C)
	}
}

// closeAdapter closes the adapter and waits until that is done.
func (s *Side) closeAdapter() {
	s.t.Helper()
	done := make(chan struct{})
	go func() { // ends with Close
		s.A.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-s.ctx.Done():
		s.t.Fatal("Adapter.Close does not return")
	}
}

// An antecedent stays pending until its last successor is closed, without
// blocking who closes it.
func closeAntecedent(t *T) {
	for _, k := range kinships {
		t.Sub(k.name, func(t *T) {
			s, antecedent, successor := k.make(t)
			if antecedent == nil {
				return
			}
			s.closes(antecedent)
			s.closes(antecedent) // twice is harmless
			s.open(antecedent, "an antecedent of an open object")
			s.closed(successor)
			s.ends(antecedent, "close after the last successor")
		})
	}
	t.Sub("two successors", func(t *T) {
		s, _ := t.Pair()
		pd := s.domain()
		var ms [2]ndk.MR
		for i := range ms {
			var err error
			ms[i], err = pd.CreateMR(s.ctx, false)
			s.must(err)
		}
		s.closes(pd)
		for _, m := range ms {
			s.open(pd, "a PD with an MR")
			s.closed(m)
		}
		s.ends(pd, "close after the last successor")
	})
	t.Sub("three generations", func(t *T) {
		s, _ := t.Connected()
		chain := []ndk.Object{s.RCQ, s.ICQ, s.QP}
		for _, o := range chain {
			s.closes(o)
		}
		for _, o := range chain {
			s.open(o, o.Kind().String()+" of an open connector")
		}
		s.closed(s.C)
		for _, o := range chain {
			s.ends(o, "close after the last successor")
		}
	})
}

// What waits is cancelled by Close, and its completion is there before Closed.
func closeFlushes(t *T) {
	t.Sub("requests of a connected QP", func(t *T) {
		s, _ := t.Connected()
		for i := range 5 {
			s.must(s.QP.Receive(i, []ndk.SGE{s.SGE(0, 8)}))
		}
		s.must(s.QP.Send("deferred", nil, ndk.Defer))
		s.C.Close()
		s.closed(s.QP)
		s.flushed(5)
		var r [1]ndk.ResultEx
		if s.ICQ.PollEx(r[:]) != 1 || r[0].RequestContext != "deferred" || r[0].Status != ntstatus.Cancelled && r[0].Status != ntstatus.Success {
			t.Errorf("the deferred request: %v, %v", r[0].RequestContext, r[0].Status)
		}
	})
	t.Sub("receives of a QP that was never connected", func(t *T) {
		s, _ := t.Pair()
		for i := range 5 {
			s.must(s.QP.Receive(i, nil))
		}
		s.closed(s.QP)
		s.flushed(5)
	})
	t.Sub("Connect", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		res := request(s, p, addr, got, direct) // nobody answers it
		s.closed(s.C)
		s.want(s.result(res), ntstatus.Cancelled, "Connect")
	})
	t.Sub("Accept", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		res := request(s, p, addr, got, direct)
		acc := plainForms.answer(p, limits)
		s.must(s.result(res)) // Accept may wait for CompleteConnect now
		p.closed(p.C)
		if err := p.result(acc); err != nil {
			p.want(err, ntstatus.Cancelled, "Accept")
		} else if t.AcceptWaits {
			t.Error("Accept succeeded without CompleteConnect")
		}
	})
}

// flushed fails unless the receives 0 to n-1 were cancelled and can be polled
// right now.
func (s *Side) flushed(n int) {
	s.t.Helper()
	var r [1]ndk.ResultEx
	for i := range n {
		if s.RCQ.PollEx(r[:]) != 1 {
			s.t.Fatalf("closed before receive %d has completed", i)
		}
		s.expect(r[0], i, ntstatus.Cancelled, ndk.OpReceive)
	}
}

// Close pends while a callback runs; none starts once Closed has fired.
func closeCallback(t *T) {
	for _, k := range callbacks {
		t.Sub(k.name, func(t *T) {
			h := t.hold()
			s, o, trigger, rest := k.make(t, h.inside(t))
			if o == nil {
				return
			}
			trigger()
			h.enter(s)
			rest()
			s.closes(o)
			s.open(o, "an object whose callback runs")
			h.leave()
			s.ends(o, "close after the callback")
			if !h.returned.Load() {
				t.Error("closed before the callback returned")
			}
			h.closed.Store(true)
		})
	}
}

// Close may come from a callback of the object itself, or from one that tells of
// a request whose post has perhaps not returned yet.
func closeInside(t *T) {
	for _, k := range callbacks {
		t.Sub(k.name, func(t *T) {
			for range 4 {
				var s *Side
				var o ndk.Object
				var rest func()
				made, inside := make(chan struct{}), make(chan struct{}, 16)
				s, o, trigger, rest := k.make(t, func() {
					<-made
					o.Close()
					inside <- struct{}{}
				})
				if o == nil {
					return
				}
				close(made)
				trigger()
				select {
				case <-inside:
				case <-s.ctx.Done():
					t.Fatal("Close within a callback does not return, or there is no callback")
				}
				rest()
				s.ends(o, "close from within a callback")
				s.closeRest()
			}
		})
	}
	t.Sub("QP, in the notification of a request", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		for range 8 {
			x, y := s.shallow(), p.fork()
			cq, err := s.A.CreateCQ(s.ctx, ndk.CQConfig{Depth: 8, Notify: func(ndk.Status) {
				x.C.Close()
				x.QP.Close()
			}})
			s.must(err)
			q := s.QPConfig()
			q.InitiatorCQ, q.QPContext = cq, x
			x.QP, err = s.PD.CreateQP(s.ctx, q)
			s.must(err)
			connectTo(x, y, addr, got)
			y.must(y.QP.Receive("r", nil))
			cq.Arm(ndk.ArmAny)
			s.must(x.QP.Send("s", nil, 0))
			s.ends(x.QP, "close from within a notification")
			var r [1]ndk.ResultEx
			if cq.PollEx(r[:]) != 1 || r[0].RequestContext != "s" || r[0].QPContext != any(x) {
				t.Errorf("the completion is of %v", r[0].RequestContext)
			}
			s.closed(cq)
		}
	})
}

// An adapter is closed when every callback of every object of it has returned.
func closeAdapter(t *T) {
	for _, k := range callbacks {
		t.Sub(k.name, func(t *T) {
			h := t.hold()
			s, o, trigger, _ := k.make(t, h.inside(t))
			if o == nil {
				return
			}
			trigger()
			h.enter(s)
			s.closeRest()
			begun, done := make(chan struct{}), make(chan struct{})
			go func() { // ends with Close
				close(begun)
				s.A.Close()
				close(done)
			}()
			<-begun
			s.ends(s.MR, "close of an MR, which nothing uses")
			select {
			case <-done:
				t.Error("Adapter.Close returned while a callback ran")
			default:
			}
			h.leave()
			select {
			case <-done:
			case <-s.ctx.Done():
				t.Fatal("Adapter.Close does not return")
			}
			if !h.returned.Load() {
				t.Error("Adapter.Close returned before the callback did")
			}
			h.closed.Store(true)
			s.ends(o, "close of an object of a closed adapter")
		})
	}
}

var _ = row("NDK_FN_CLOSE_COMPLETION", closedOnce, closedLast, closedOrder, closedRequests)

// Closed fires for a close that has nothing to wait for and for one that has;
// a second Close changes nothing, before and after.
func closedOnce(t *T) {
	s, p, all := t.specimens()
	for range 2 {
		closeAll(all)
	}
	s.closeRest()
	p.closeRest()
	for range 2 {
		for _, o := range all {
			if o.kind == ndk.ObjectAdapter {
				o.side.closeAdapter()
				continue
			}
			o.side.ends(o, "Close of "+o.kind.String())
			o.side.closes(o)
		}
	}
}

// Once Closed has fired no callback of the object begins, even if what it would
// tell of happens at the same time.
func closedLast(t *T) {
	for _, k := range callbacks {
		t.Sub(k.name, func(t *T) {
			for range 4 {
				var closed atomic.Bool
				s, o, trigger, rest := k.make(t, func() {
					if closed.Load() {
						t.Error("a callback after Closed")
					}
				})
				if o == nil {
					return
				}
				trigger()
				rest()
				o.Close()
				s.ends(o, "close")
				closed.Store(true)
			}
		})
	}
	t.Sub("completions of a QP", func(t *T) {
		s, p := t.Connected()
		for i := range 8 {
			p.must(p.QP.Receive(i, nil))
			s.must(s.QP.Send(i, nil, ndk.SilentSuccess))
		}
		p.C.Close()
		p.closed(p.QP)
		var r [16]ndk.ResultEx
		n := p.RCQ.PollEx(r[:])
		if n != 8 {
			t.Errorf("%d completions of 8 receives are there", n)
		}
		meanwhile(s, p)
		if n := p.RCQ.PollEx(r[:]); n != 0 {
			t.Errorf("%d completions came after the close", n)
		}
	})
}

// When an antecedent is reported closed its successors have been.
func closedOrder(t *T) {
	for _, k := range kinships {
		t.Sub(k.name, func(t *T) {
			s, antecedent, successor := k.make(t)
			if antecedent == nil {
				return
			}
			order := make(chan bool, 1)
			go func() { // ends when the antecedent is closed, or the test gives up
				select {
				case <-antecedent.Closed():
				case <-s.ctx.Done():
				}
				select {
				case <-successor.Closed():
					order <- true
				default:
					order <- false
				}
			}()
			s.closes(antecedent)
			s.closes(successor)
			if !<-order {
				t.Error("the antecedent is closed and its successor is not")
			}
		})
	}
}

// Requests that waited when the object was closed have come back when Closed
// fires.
func closedRequests(t *T) {
	t.Sub("posts", closedPosts)
	t.Sub("Connect", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		res := request(s, p, addr, got, direct)
		s.closes(s.C)
		s.ends(s.C, "close of a connecting connector")
		s.want(s.result(res), ntstatus.Cancelled, "Connect")
		s.must(s.QP.Receive("r", nil)) // as it was
	})
}

// closedPosts closes a QP with everything posted that it takes.
func closedPosts(t *T) {
	s, p := t.Connected()
	for i := range qDepth {
		s.must(s.QP.Receive(i, nil))
	}
	for i := range qDepth {
		s.must(s.QP.Read(i, []ndk.SGE{s.SGE(i*4096, 4096)}, p.MR.Base(), p.MR.RemoteToken(), 0))
	}
	s.C.Close()
	s.closed(s.QP)
	s.flushed(qDepth)
	var r [1]ndk.ResultEx
	for i := range qDepth {
		if s.ICQ.PollEx(r[:]) != 1 {
			t.Fatalf("closed before Read %d has completed", i)
		}
		if st := r[0].Status; r[0].RequestContext != i || r[0].Type != ndk.OpRead || st != ntstatus.Success && st != ntstatus.Cancelled {
			t.Errorf("Read %d completes as %v: %v", i, r[0].RequestContext, st)
		}
	}
	s.drained("more than one completion of a request")
}
