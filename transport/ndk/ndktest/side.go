package ndktest

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Side is one end of a connection, with a registered buffer of 1 MiB and all that
// it takes to use it. The sides of [T.Pair] are closed when their test ends, after
// what the proofs added to close.
type Side struct {
	t     *T
	ctx   context.Context // ends after patience, or with the test
	A     ndk.Adapter
	Info  ndk.AdapterInfo // of A
	PD    ndk.PD
	RCQ   ndk.CQ        // receives
	ICQ   ndk.CQ        // initiator requests
	QP    ndk.QP        // of both CQs; its context is the Side
	C     ndk.Connector // nil before there is one; closed with the Side
	MR    ndk.MR        // over Mem, all rights
	Mem   []byte
	rev   *ndk.Event  // notifications of RCQ
	iev   *ndk.Event  // of ICQ
	Lost  chan uint32 // the reason of each disconnect event
	close []func()    // run from last to first
}

const (
	memSize  = 1 << 20
	cqDepth  = 128
	qDepth   = 32
	qSGEs    = 4
	inlineSz = 64
)

// QPConfig is what the QPs of the suite are made with: 32 requests of up to 4
// SGEs on either queue and 64 bytes inline, or less if the adapter has less.
func (s *Side) QPConfig() ndk.QPConfig {
	return ndk.QPConfig{
		ReceiveCQ: s.RCQ, InitiatorCQ: s.ICQ, QPContext: s,
		ReceiveQueueDepth: qDepth, InitiatorQueueDepth: qDepth,
		MaxReceiveSGE: min(qSGEs, s.Info.MaxReceiveRequestSGE), MaxInitiatorSGE: min(qSGEs, s.Info.MaxInitiatorRequestSGE),
		InlineDataSize: min(inlineSz, s.Info.MaxInlineDataSize),
	}
}

// newSide makes all but the connection.
func newSide(t *T, a ndk.Adapter) *Side {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s := &Side{t: t, ctx: ctx, A: a, rev: ndk.NewEvent(), iev: ndk.NewEvent(), Lost: make(chan uint32, 4)}
	var err error
	s.Info, err = a.Info(ctx)
	s.must(err)
	s.PD, err = a.CreatePD(ctx)
	s.must(err)
	s.RCQ, err = a.CreateCQ(ctx, ndk.CQConfig{Depth: cqDepth, Notify: s.rev.Notify})
	s.must(err)
	s.ICQ, err = a.CreateCQ(ctx, ndk.CQConfig{Depth: cqDepth, Notify: s.iev.Notify})
	s.must(err)
	s.QP, err = s.PD.CreateQP(ctx, s.QPConfig())
	s.must(err)
	mem, free, err := a.Alloc(memSize)
	s.must(err)
	s.Mem = mem
	s.MR, err = s.PD.CreateMR(ctx, false)
	s.must(err)
	s.must(s.MR.Register(ctx, ndk.Memory{mem}, memSize, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink))
	t.Cleanup(func() {
		cancel()
		for i := len(s.close) - 1; i >= 0; i-- {
			s.close[i]()
		}
		if s.C != nil {
			s.C.Close()
		}
		s.QP.Close()
		select {
		case <-s.QP.Closed():
		case <-time.After(patience):
			t.Error("QP.Close does not finish")
		}
		var r [16]ndk.ResultEx
		for _, cq := range []ndk.CQ{s.RCQ, s.ICQ} {
			for cq.PollEx(r[:]) > 0 { // what was flushed
			}
		}
		s.PD.Close() // before what hangs on it, which is legal and must not block
		s.RCQ.Close()
		s.ICQ.Close()
		s.MR.Close()
		done := make(chan struct{})
		go func() { // ends with Close; waited for below
			a.Close()
			close(done)
		}()
		select {
		case <-done:
			free()
		case <-time.After(patience):
			t.Error("Adapter.Close does not return")
		}
	})
	return s
}

func (s *Side) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// want fails unless err is st; a nil error is Success.
func (s *Side) want(err error, st ndk.Status, what string) {
	s.t.Helper()
	if st == ntstatus.Success && err == nil || st != ntstatus.Success && errors.Is(err, st) {
		return
	}
	s.t.Errorf("%s: %v, want %v", what, err, st)
}

// SGE is n bytes at off of the side's buffer, by the local token of MR.
func (s *Side) SGE(off, n int) ndk.SGE {
	return ndk.SGE{Addr: s.MR.Base() + uint64(off), Length: uint32(n), Token: s.MR.LocalToken()}
}

// Fill writes a pattern that depends on seed to n bytes at off of the buffer.
func (s *Side) Fill(off, n int, seed byte) {
	for i := range n {
		s.Mem[off+i] = byte(i)*7 + byte(i>>8) + seed
	}
}

// wait returns the next completion of a CQ.
func (s *Side) wait(cq ndk.CQ, ev *ndk.Event) ndk.ResultEx {
	s.t.Helper()
	var r [1]ndk.ResultEx
	for {
		if cq.PollEx(r[:]) == 1 {
			if r[0].QPContext != s {
				s.t.Errorf("QPContext of %v is not that of the QP", r[0].Type)
			}
			return r[0]
		}
		cq.Arm(ndk.ArmAny)
		select {
		case <-ev.C():
		case <-s.ctx.Done():
			s.t.Fatal("no completion")
		}
	}
}

// Received returns the next receive completion. It waits for one, and checks the
// context of the QP.
func (s *Side) Received() ndk.ResultEx { s.t.Helper(); return s.wait(s.RCQ, s.rev) }

// Done returns the next initiator completion, as Received does.
func (s *Side) Done() ndk.ResultEx { s.t.Helper(); return s.wait(s.ICQ, s.iev) }

// expect checks a completion.
func (s *Side) expect(r ndk.ResultEx, rc any, st ndk.Status, typ ndk.OpType) {
	s.t.Helper()
	if r.RequestContext != rc || r.Status != st || r.Type != typ {
		s.t.Errorf("completion of %v: %v, %v; want %v: %v, %v", r.RequestContext, r.Status, r.Type, rc, st, typ)
	}
}

// listen makes a listener of s that sends its connectors to the channel.
func (s *Side) listen() (ndk.Listener, netip.AddrPort, chan ndk.Connector) {
	s.t.Helper()
	got := make(chan ndk.Connector, 16)
	l, err := s.A.CreateListener(s.ctx, func(c ndk.Connector) { got <- c })
	s.must(err)
	s.close = append(s.close, func() {
		l.Close()
		select {
		case <-l.Closed():
		case <-time.After(patience): // the adapter's close will say so
		}
		for { // a request that was given up may have come all the same
			select {
			case c := <-got:
				c.Close()
			default:
				return
			}
		}
	})
	s.must(l.Listen(s.ctx, s.t.Listen))
	addr, err := l.LocalAddr()
	s.must(err)
	return l, addr, got
}

// sibling makes another end on the adapter, PD, CQs and memory of s, not yet
// connected; change, if not nil, changes the configuration of its QP.
func (s *Side) sibling(change func(q *ndk.QPConfig)) *Side {
	s.t.Helper()
	o := s.shallow()
	q := o.QPConfig()
	if change != nil {
		change(&q)
	}
	var err error
	o.QP, err = s.PD.CreateQP(s.ctx, q)
	s.must(err)
	s.close = append(s.close, func() {
		for i := len(o.close) - 1; i >= 0; i-- {
			o.close[i]()
		}
		if o.C != nil {
			o.C.Close()
		}
		o.QP.Close()
	})
	return o
}

// shallow is sibling without a QP; the caller makes one and closes it.
func (s *Side) shallow() *Side {
	o := *s
	o.C, o.QP, o.close, o.Lost = nil, nil, nil, make(chan uint32, 4)
	return &o
}

// Pair opens two adapters and returns a side of each; they are not connected.
func (t *T) Pair() (active, passive *Side) {
	t.Helper()
	a, p := t.Open(t)
	return newSide(t, a), newSide(t, p)
}

var limits = ndk.ConnParams{InboundReadLimit: 4, OutboundReadLimit: 4}

// Connected is Pair with a connection, over which a first message went.
func (t *T) Connected() (active, passive *Side) {
	t.Helper()
	active, passive = t.Pair()
	connect(active, passive, limits, limits)
	return active, passive
}

func connect(active, passive *Side, ap, pp ndk.ConnParams) {
	t := active.t
	t.Helper()
	_, addr, got := passive.listen()
	var err error
	active.C, err = active.A.CreateConnector(active.ctx)
	active.must(err)
	accepted := make(chan error, 1)
	go func() { // ends with Accept; its result is waited for
		if passive.C = passive.take(got); passive.C == nil {
			return
		}
		accepted <- passive.C.AcceptEx(passive.ctx, passive.QP, pp, func(r uint32) { passive.Lost <- r })
	}()
	active.must(active.C.Connect(active.ctx, active.QP, netip.AddrPort{}, addr, ap))
	active.must(active.C.CompleteConnectEx(active.ctx, func(r uint32) { active.Lost <- r }))
	active.must(<-accepted)
	hello(active, passive)
}

// connectTo is connect for a listener that there is already, without the first
// exchange, which would arrive on a CQ of the test's own.
func connectTo(active, passive *Side, addr netip.AddrPort, got chan ndk.Connector) {
	active.t.Helper()
	var err error
	active.C, err = active.A.CreateConnector(active.ctx)
	active.must(err)
	accepted := make(chan error, 1)
	go func() { // ends with Accept; its result is waited for
		if passive.C = passive.take(got); passive.C == nil {
			return
		}
		accepted <- passive.C.AcceptEx(passive.ctx, passive.QP, limits, func(r uint32) { passive.Lost <- r })
	}()
	active.must(active.C.Connect(active.ctx, active.QP, netip.AddrPort{}, addr, limits))
	active.must(active.C.CompleteConnectEx(active.ctx, func(r uint32) { active.Lost <- r }))
	active.must(<-accepted)
}

// take waits for a connect event; nil when the test is over without one.
func (s *Side) take(got chan ndk.Connector) ndk.Connector {
	select {
	case c := <-got:
		return c
	case <-s.ctx.Done():
		return nil
	}
}

// hello exchanges the first message.
func hello(active, passive *Side) {
	active.t.Helper()
	// A provider may hold what the passive side sends until the active one sent
	// something; an exchange makes both ends equal.
	active.must(passive.QP.Receive("hello", nil))
	active.must(active.QP.Send("hello", nil, 0))
	active.expect(active.Done(), "hello", ntstatus.Success, ndk.OpSend)
	passive.expect(passive.Received(), "hello", ntstatus.Success, ndk.OpReceive)
}

// say sends an empty message and waits until it was sent.
func (s *Side) say() {
	s.t.Helper()
	s.must(s.QP.Send("s", nil, 0))
	s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
}

// exchange sends an empty message from s to o and waits for it, so that every
// Write of s before it is in place.
func (s *Side) exchange(o *Side) {
	s.t.Helper()
	s.must(o.QP.Receive("sync", nil))
	s.must(s.QP.Send("sync", nil, ndk.SilentSuccess))
	o.expect(o.Received(), "sync", ntstatus.Success, ndk.OpReceive)
}

// lost waits for the disconnect event.
func (s *Side) lost() uint32 {
	s.t.Helper()
	select {
	case r := <-s.Lost:
		return r
	case <-s.ctx.Done():
		s.t.Fatal("no disconnect event")
	}
	return 0
}

func (s *Side) equal(off, n int, o *Side, oOff int) {
	s.t.Helper()
	if !bytes.Equal(s.Mem[off:off+n], o.Mem[oOff:oOff+n]) {
		s.t.Errorf("the %d bytes at %d differ from those at %d of the peer", n, off, oOff)
	}
}

// fast makes a fast-register MR over the whole buffer.
func (s *Side) fast(off, n int) (m ndk.MR, lam *ndk.LAM, fbo uint32) {
	s.t.Helper()
	lam = new(ndk.LAM)
	fbo, err := s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[off : off+n]}, n, lam)
	s.must(err)
	m, err = s.PD.CreateMR(s.ctx, true)
	s.must(err)
	s.must(m.InitializeFastRegister(s.ctx, min(s.Info.FRMRPageCount, 64), true))
	s.close = append(s.close, func() { m.Close(); s.A.ReleaseLAM(lam) })
	return m, lam, fbo
}
