package ndktest

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_CREATE_CONNECTOR", createConnector1, createConnector2, createConnector3)

// A new connector has no QP, no address and no connection.
func createConnector1(t *T) {
	s, _ := t.Pair()
	c := s.connector()
	if c.Kind() != ndk.ObjectConnector {
		t.Errorf("kind %v", c.Kind())
	}
	_, err := c.LocalAddr()
	s.want(err, ntstatus.ConnectionInvalid, "LocalAddr")
	_, err = c.PeerAddr()
	s.want(err, ntstatus.ConnectionInvalid, "PeerAddr")
	s.closed(s.QP) // does not wait for a connector that it has nothing to do with
	s.open(c, "the connector")
	s.closed(c)
}

// The connectors of the passive side come with the connect event: what
// CreateConnector makes takes no request, what the event hands out makes none.
func createConnector2(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	made := p.connector()
	p.want(made.Accept(p.ctx, p.QP, limits, nil), ntstatus.InvalidDeviceState, "Accept of a connector that was created")
	if made.Reject(nil) == nil {
		t.Error("Reject of a connector that was created succeeds")
	}
	connected := request(s, p, addr, got, direct)
	if p.C == made {
		t.Error("the event has the connector that was created")
	}
	if p.C.Kind() != ndk.ObjectConnector {
		t.Errorf("kind %v", p.C.Kind())
	}
	if p.C.Connect(p.ctx, p.QP, netip.AddrPort{}, addr, limits) == nil {
		t.Error("Connect of a connector from a connect event succeeds")
	}
	accepted := plainForms.answer(p, limits) // and it is good for a connection still
	s.must(s.result(connected))
	s.must(s.C.CompleteConnect(s.ctx, nil))
	s.must(s.result(accepted))
	hello(s, p)
}

// Exhaustion gives InsufficientResources, and nothing is used up.
func createConnector3(t *T) {
	s, _ := t.Pair()
	s.exhausted("NDK_FN_CREATE_CONNECTOR", func() (ndk.Object, error) { return s.A.CreateConnector(s.ctx) })
}

var _ = row("NDK_FN_CONNECT", connect1, connect2, connect3, connect4, connect5, connect6)

// Success means that the peer accepted; initiator requests have to wait for
// CompleteConnect.
func connect1(t *T) { connectAccepted(t, direct) }

func connectAccepted(t *T, v via) {
	t.Helper()
	s, p := t.Pair()
	v = v.on(s)
	_, addr, got := p.listen()
	s.idle("before Connect")
	connected := request(s, p, addr, got, v)
	meanwhile(s, p)
	select {
	case err := <-connected:
		t.Fatalf("Connect ended before the answer: %v", err)
	default:
	}
	s.idle("while Connect runs")
	accepted := plainForms.answer(p, limits)
	s.must(s.result(connected))
	s.idle("before CompleteConnect")
	s.must(s.QP.Receive("early", nil)) // receives are allowed at any time
	s.must(s.C.CompleteConnect(s.ctx, nil))
	s.must(s.result(accepted))
	hello(s, p)
	s.must(p.QP.Send("now", nil, 0))
	p.expect(p.Done(), "now", ntstatus.Success, ndk.OpSend)
	s.expect(s.Received(), "early", ntstatus.Success, ndk.OpReceive)
}

// Nobody who listens, a pause, no room or a Reject give ConnectionRefused, and a
// fresh attempt on the same QP is possible.
func connect2(t *T) { connectRefused(t, direct) }

func connectRefused(t *T, v via) {
	t.Helper()
	s, p := t.Pair()
	v = v.on(s)
	dial := func(addr netip.AddrPort) error {
		t.Helper()
		return s.result(s.dial(addr, v))
	}
	l, addr, got := p.listen()
	s.want(dial(p.unused(addr.Addr())), ntstatus.ConnectionRefused, "Connect where nobody listens any more")

	l.ControlConnectEvents(true)
	s.want(dial(addr), ntstatus.ConnectionRefused, "Connect to a paused listener")
	l.ControlConnectEvents(false)

	connected := request(s, p, addr, got, v)
	p.must(p.C.Reject(nil))
	s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect that was rejected")

	connected = request(s, p, addr, got, v)
	p.C.Close()
	s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect that was not answered")

	connected = request(s, p, addr, got, v) // after all that, a fresh attempt
	accepted := plainForms.answer(p, limits)
	s.must(s.result(connected))
	s.must(s.C.CompleteConnect(s.ctx, nil))
	s.must(s.result(accepted))
	hello(s, p)

	if v.ep == nil {
		t.Sub("backlog", backlog)
	}
}

// Of many requests at once each is handed out, or refused if there is no room
// for it.
func backlog(t *T) {
	const requests = 16
	s, p := t.Pair()
	_, addr, got := p.listen()
	ended := make(chan error, requests)
	for range requests {
		o := s.sibling(nil)
		c := o.connector()
		go func() { ended <- c.Connect(o.ctx, o.QP, netip.AddrPort{}, addr, limits) }() // ends with Connect
	}
	var out []ndk.Connector
	refused := 0
	for len(out)+refused < requests {
		select {
		case c := <-got:
			out = append(out, c)
		case err := <-ended:
			s.want(err, ntstatus.ConnectionRefused, "Connect without an event")
			refused++
		case <-s.ctx.Done():
			t.Fatalf("%d of %d requests handed out, %d refused", len(out), requests, refused)
		}
	}
	for _, c := range out {
		p.must(c.Reject(nil))
		c.Close()
		s.want(s.result(ended), ntstatus.ConnectionRefused, "Connect that was rejected")
	}
	if len(out) == 0 {
		t.Error("not one request was handed out")
	}
}

// on readies v for a side: a shared endpoint is made there.
func (v via) on(s *Side) via {
	s.t.Helper()
	if v.shared {
		v.ep = s.endpoint(netip.AddrPortFrom(s.t.local(), 0))
	}
	return v
}

// local is an address of the active adapter of the family of Listen.
func (t *T) local() netip.Addr {
	if t.Local.Is6() != t.Listen.Addr().Is6() {
		return t.Listen.Addr()
	}
	return t.Local
}

// Source port 0 picks one of the range; a used source, a foreign address, a
// second connection between the same two addresses, and no free port each have
// a status of their own.
func connect3(t *T) {
	t.Sub("chosen", func(t *T) {
		s, p := t.Connected()
		local, err := s.C.LocalAddr()
		s.must(err)
		s.chosen(local, "the source")
		seen, err := p.C.PeerAddr()
		p.must(err)
		if seen != local {
			t.Errorf("the peer sees %v, want %v", seen, local)
		}
	})
	t.Sub("given", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		var src netip.AddrPort
		var connected chan error
		for range 64 {
			// From below the ports that a provider chooses, where hardly any connection
			// that has ended keeps one busy.
			src = netip.AddrPortFrom(t.local(), uint16(20000+rand.IntN(10000)))
			connected = s.dial(addr, via{src: src, ConnParams: limits})
			select {
			case p.C = <-got:
			case err := <-connected:
				s.want(err, ntstatus.SharingViolation, "Connect")
				continue
			case <-s.ctx.Done():
			}
			break
		}
		if p.C == nil {
			t.Fatal("no source could be had, or no connect event came")
		}
		from := via{src: src, ConnParams: limits}
		if seen, err := p.C.PeerAddr(); err != nil || seen != src {
			t.Errorf("the peer sees %v, %v; want %v", seen, err, src)
		}
		accepted := plainForms.answer(p, limits)
		s.must(s.result(connected))
		s.must(s.C.CompleteConnect(s.ctx, nil))
		s.must(s.result(accepted))
		hello(s, p)
		if local, err := s.C.LocalAddr(); err != nil || local != src {
			t.Errorf("LocalAddr %v, %v; want %v", local, err, src)
		}

		o := s.sibling(nil)
		s.want(o.result(o.dial(addr, from)), ntstatus.AddressAlreadyExists, "Connect between two addresses that have a connection")
		_, other, _ := p.listen()
		s.want(o.result(o.dial(other, from)), ntstatus.SharingViolation, "Connect from the source of a connection")
		hello(s, p) // which is none the worse
	})
	t.Sub("a source that listens", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		l, err := s.A.CreateListener(s.ctx, func(c ndk.Connector) { c.Close() })
		s.must(err)
		s.close = append(s.close, l.Close)
		s.must(l.Listen(s.ctx, netip.AddrPortFrom(t.local(), 0)))
		src, err := l.LocalAddr()
		s.must(err)
		s.want(s.result(s.dial(addr, via{src: src, ConnParams: limits})), ntstatus.SharingViolation, "Connect")
		p.quiet(got, "a Connect that failed at its source")
	})
	t.Sub("a source of somebody else", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		s.want(s.result(s.dial(addr, via{src: netip.AddrPortFrom(t.Foreign, 0), ConnParams: limits})), ntstatus.InvalidAddress, "Connect")
		p.quiet(got, "a Connect that failed at its source")
	})
	t.Sub("no port left", func(t *T) {
		if t.FullAddress == nil {
			return // the other proofs of TooManyAddresses say so
		}
		s, p := t.Pair()
		_, addr, _ := p.listen()
		if full := t.FullAddress(t); full.Is6() == addr.Addr().Is6() {
			s.want(s.result(s.dial(addr, via{src: netip.AddrPortFrom(full, 0), ConnParams: limits})), ntstatus.TooManyAddresses, "Connect")
		}
	})
}

// quiet fails if a request was handed out.
func (s *Side) quiet(got chan ndk.Connector, what string) {
	s.t.Helper()
	select {
	case c := <-got:
		c.Close()
		s.t.Errorf("a connect event: %s", what)
	default:
	}
}

// A destination that cannot be reached is NetworkUnreachable or HostUnreachable,
// one that is silent IOTimeout.
func connect4(t *T) { connectSilence(t, direct) }

func connectSilence(t *T, v via) {
	t.Helper()
	t.Sub("unreachable", func(t *T) {
		s, _ := t.Pair()
		v := v.on(s)
		err := s.result(s.dial(t.NoRoute, v))
		if st := ndk.StatusOf(err); st != ntstatus.NetworkUnreachable && st != ntstatus.HostUnreachable {
			t.Errorf("Connect: %v, want NetworkUnreachable or HostUnreachable", err)
		}
	})
	for _, tc := range []struct {
		name string
		err  error
		want ndk.Status
	}{
		{"no answer in the time of the caller", context.DeadlineExceeded, ntstatus.IOTimeout},
		{"a caller who gives up", context.Canceled, ntstatus.Cancelled},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Pair()
			v := v.on(s)
			_, addr, got := p.listen()
			o := *s
			ctx := expiring{s.ctx, make(chan struct{}), tc.err}
			o.ctx = ctx
			c := s.connector()
			res := make(chan error, 1)
			go func() { res <- v.connect(&o, c, addr) }() // ends with Connect
			r := p.take(got)
			if r == nil {
				t.Fatal("no connect event")
			}
			p.close = append(p.close, r.Close)
			close(ctx.done)
			s.want(s.result(res), tc.want, "Connect that nobody answers")
			s.want(c.CompleteConnect(s.ctx, nil), ntstatus.ConnectionInvalid, "CompleteConnect afterwards")
		})
	}
	if t.Silent != nil {
		t.Sub("no answer in the time of the provider", func(t *T) {
			a, b := t.OpenImpatient(t)
			s := newSide(t, a)
			newSide(t, b)
			v := v.on(s)
			s.want(s.result(s.dial(t.Silent(t), v)), ntstatus.IOTimeout, "Connect to who does not answer")
		})
	}
}

// Private data over MaxCallerData is InvalidBufferSize; read limits over those of
// the adapter are lowered without a word.
func connect5(t *T) { connectParams(t, direct) }

func connectParams(t *T, v via) {
	t.Helper()
	s, p := t.Pair()
	v = v.on(s)
	_, addr, got := p.listen()
	v.ConnParams = ndk.ConnParams{InboundReadLimit: 1 << 20, OutboundReadLimit: 1 << 20, Private: make([]byte, s.Info.MaxCallerData+1)}
	s.want(s.result(s.dial(addr, v)), ntstatus.InvalidBufferSize, "Connect with more than MaxCallerData")
	p.quiet(got, "a Connect with too much private data")

	v.Private = pattern(s.Info.MaxCallerData, 3)
	connected := request(s, p, addr, got, v)
	p.private(v.Private)
	d, err := p.C.ConnectionData(nil)
	p.must(err)
	p.readLimits(d, min(p.Info.MaxInboundReadLimit, s.Info.MaxOutboundReadLimit), min(p.Info.MaxOutboundReadLimit, s.Info.MaxInboundReadLimit))
	accepted := plainForms.answer(p, v.plainLimits())
	s.must(s.result(connected))
	d, err = s.C.ConnectionData(nil)
	s.must(err)
	s.readLimits(d, min(s.Info.MaxInboundReadLimit, p.Info.MaxOutboundReadLimit), min(s.Info.MaxOutboundReadLimit, p.Info.MaxInboundReadLimit))
	s.must(s.C.CompleteConnect(s.ctx, nil))
	s.must(s.result(accepted))
	hello(s, p)
}

// plainLimits are the read limits of v alone.
func (v via) plainLimits() ndk.ConnParams {
	return ndk.ConnParams{InboundReadLimit: v.InboundReadLimit, OutboundReadLimit: v.OutboundReadLimit}
}

// A QP with a connection is ConnectionActive; a failed attempt leaves the QP as
// it was.
func connect6(t *T) { connectQP(t, direct) }

func connectQP(t *T, v via) {
	t.Helper()
	t.Sub("connected", func(t *T) {
		s, p := t.Connected()
		v := v.on(s)
		_, addr, got := p.listen()
		was := s.C
		s.want(s.result(s.dial(addr, v)), ntstatus.ConnectionActive, "Connect of a connected QP")
		s.C = was
		p.quiet(got, "a Connect of a connected QP")
		hello(s, p)
		s.must(s.C.Disconnect(s.ctx))
		p.lost()
	})
	t.Sub("failed attempt", func(t *T) {
		s, p := t.Pair()
		v := v.on(s)
		_, addr, got := p.listen()
		s.Fill(0, 8, 1)
		p.Fill(0, 8, 2)
		s.must(s.QP.Receive("before", []ndk.SGE{s.SGE(0, 8)}))
		s.want(s.result(s.dial(p.unused(addr.Addr()), v)), ntstatus.ConnectionRefused, "Connect where nobody listens")
		connected := request(s, p, addr, got, v)
		p.must(p.C.Reject(nil))
		s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect that was rejected")
		s.must(s.QP.Receive("after", nil))

		connected = request(s, p, addr, got, v)
		accepted := plainForms.answer(p, limits)
		s.must(s.result(connected))
		s.must(s.C.CompleteConnect(s.ctx, nil))
		s.must(s.result(accepted))
		hello(s, p)
		s.must(p.QP.Send("1", []ndk.SGE{p.SGE(0, 8)}, 0))
		s.must(p.QP.Send("2", nil, 0))
		p.expect(p.Done(), "1", ntstatus.Success, ndk.OpSend)
		p.expect(p.Done(), "2", ntstatus.Success, ndk.OpSend)
		s.expect(s.Received(), "before", ntstatus.Success, ndk.OpReceive) // it outlived both attempts
		s.expect(s.Received(), "after", ntstatus.Success, ndk.OpReceive)
		s.equal(0, 8, p, 0)
	})
}

var _ = row("NDK_FN_COMPLETE_CONNECT", completeConnect1, completeConnect2, completeConnect3, completeConnect4, completeConnect5)

var _ = row("NDK_FN_COMPLETE_CONNECT_EX", completeConnectEx1, completeConnectEx2, completeConnectEx3)

// Before Connect succeeded, after it failed, and twice: ConnectionInvalid, which
// harms nothing.
func completeConnect1(t *T) { plainForms.once(t) }

func (f forms) once(t *T) {
	t.Helper()
	s, p := t.Pair()
	_, addr, got := p.listen()
	try := func(o *Side, what string) {
		t.Helper()
		o.want(f.complete(o, func() { t.Errorf("the callback of a CompleteConnect that failed, %s, ran", what) }), ntstatus.ConnectionInvalid, "CompleteConnect "+what)
	}
	s.C = s.connector()
	try(s, "of an idle connector")
	s.want(s.result(s.dial(p.unused(addr.Addr()), direct)), ntstatus.ConnectionRefused, "Connect where nobody listens")
	try(s, "after a Connect that failed")
	connected := request(s, p, addr, got, direct)
	try(s, "while Connect runs")
	try(p, "on the passive side")
	accepted := plainForms.answer(p, limits)
	s.must(s.result(connected))
	s.must(f.complete(s, func() { s.Lost <- 0 }))
	s.must(s.result(accepted))
	try(s, "twice")
	try(p, "on the passive side, after Accept")
	hello(s, p)
	s.must(p.C.Disconnect(p.ctx))
	s.lost()
	try(s, "after the end of the connection")
	s.closed(s.C) // no callback runs any more
	s.silent("a second one")
}

// After it the active QP takes initiator requests.
func completeConnect2(t *T) { plainForms.usable(t) }

func (f forms) usable(t *T) {
	t.Helper()
	s, p := t.Pair()
	accepted := f.accepted(s, p)
	s.idle("before CompleteConnect")
	s.must(f.complete(s, func() { s.Lost <- 0 }))
	s.Fill(0, 64, 1)
	s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, 64)}, p.MR.Base(), p.MR.RemoteToken(), 0))
	s.must(s.QP.Read("r", []ndk.SGE{s.SGE(64, 64)}, p.MR.Base(), p.MR.RemoteToken(), 0))
	s.expect(s.Done(), "w", ntstatus.Success, ndk.OpWrite)
	s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
	s.equal(64, 64, s, 0)
	s.must(s.result(accepted))
	hello(s, p)
}

// Accept of the peer ends only after CompleteConnect, or after its own time,
// where the transport can tell.
func completeConnect3(t *T) { plainForms.order(t) }

func (f forms) order(t *T) {
	t.Helper()
	s, p := t.Pair()
	_, addr, got := p.listen()
	connected := request(s, p, addr, got, direct)
	var completing, early atomic.Bool
	accepted := make(chan error, 1)
	go func() { // ends with Accept
		err := f.accept(p, limits, nil)
		early.Store(!completing.Load())
		accepted <- err
	}()
	s.must(s.result(connected))
	meanwhile(s, p) // time enough for an Accept that does not wait
	completing.Store(true)
	s.must(f.complete(s, nil))
	s.must(s.result(accepted))
	hello(s, p)
	if t.AcceptWaits && early.Load() {
		t.Error("Accept ended before CompleteConnect")
	}

	if !t.AcceptWaits {
		t.NotOffered("the transport does not tell the passive side of CompleteConnect, so Accept ends without it")
	}
	t.Sub("never", func(t *T) { f.neverCompleted(t) })
}

// neverCompleted proves that an Accept whose peer does nothing ends by itself.
func (f forms) neverCompleted(t *T) {
	t.Helper()
	a, b := t.OpenImpatient(t)
	s, p := newSide(t, a), newSide(t, b)
	accepted := f.accepted(s, p)
	p.want(p.result(accepted), ntstatus.IOTimeout, "Accept without a CompleteConnect")
	p.silent("a connection that never was")
	p.idle("after an Accept that failed")
}

// A peer that gave up meanwhile is ConnectionAborted, one whose patience was
// tried too long may be IOTimeout; either ends the connector for good.
func completeConnect4(t *T) { plainForms.gaveUp(t) }

func (f forms) gaveUp(t *T) {
	t.Helper()
	end := func(t *T, s *Side, want ...ndk.Status) {
		t.Helper()
		err := f.complete(s, func() { t.Error("a disconnect event without a connection") })
		for i, st := range want {
			if ndk.StatusOf(err) == st {
				break
			}
			if i == len(want)-1 {
				t.Errorf("CompleteConnect: %v, want %v", err, want)
			}
		}
		s.want(f.complete(s, nil), ntstatus.ConnectionInvalid, "CompleteConnect again")
		s.want(s.C.Disconnect(s.ctx), ntstatus.ConnectionInvalid, "Disconnect")
		s.idle("after a CompleteConnect that failed")
		if s.C.Connect(s.ctx, s.QP, netip.AddrPort{}, netip.AddrPortFrom(t.Listen.Addr(), 1), limits) == nil {
			t.Error("Connect of a failed connector succeeds")
		}
		s.closed(s.C)
	}
	t.Sub("the peer closes", func(t *T) {
		s, p := t.Pair()
		accepted := plainForms.accepted(s, p)
		p.closed(p.C)
		_ = p.result(accepted) // it had succeeded, or ends with the connector
		meanwhile(s, p)        // the news has come by then
		end(t, s, ntstatus.ConnectionAborted)
	})
	if t.AcceptWaits {
		t.Sub("too slow", func(t *T) {
			a, b := t.OpenImpatient(t)
			s, p := newSide(t, a), newSide(t, b)
			accepted := plainForms.accepted(s, p)
			p.want(p.result(accepted), ntstatus.IOTimeout, "Accept without a CompleteConnect")
			p.closed(p.C)
			meanwhile(s, p)
			end(t, s, ntstatus.IOTimeout, ntstatus.ConnectionAborted)
		})
	}
}

// A nil callback is accepted; the connection ends without it as well.
func completeConnect5(t *T) { plainForms.noCallback(t) }

func (f forms) noCallback(t *T) {
	t.Helper()
	s, p := t.Pair()
	_, addr, got := p.listen()
	connected := request(s, p, addr, got, direct)
	accepted := make(chan error, 1)
	go func() { accepted <- f.accept(p, limits, nil) }() // ends with Accept
	s.must(s.result(connected))
	s.must(f.complete(s, nil))
	s.must(s.result(accepted))
	hello(s, p)
	s.must(s.QP.Receive("r", nil))
	s.must(p.C.Disconnect(p.ctx))
	meanwhile(s, p)
	s.must(s.C.Disconnect(s.ctx))
	s.expect(s.Received(), "r", ntstatus.Cancelled, ndk.OpReceive)
}

// What is true of CompleteConnect is true of CompleteConnectEx.
func completeConnectEx1(t *T) {
	t.likewise("NDK_FN_COMPLETE_CONNECT", exForms.once, exForms.usable, t.ifAcceptWaits(exForms.order), exForms.gaveUp, exForms.noCallback)
}

// The reason of a graceful end is 0.
func completeConnectEx2(t *T) {
	s, p := t.Connected() // by the Ex forms
	s.must(p.C.Disconnect(p.ctx))
	if r := s.lost(); r != 0 {
		t.Errorf("reason %#x, want 0", r)
	}
}

// Of several callbacks only that of the call which succeeded runs, once.
func completeConnectEx3(t *T) {
	s, p := t.Pair()
	var wrong atomic.Int32
	refused := func(uint32) { wrong.Add(1) }
	_, addr, got := p.listen()
	s.C = s.connector()
	s.want(s.C.CompleteConnectEx(s.ctx, refused), ntstatus.ConnectionInvalid, "CompleteConnectEx of an idle connector")
	connected := request(s, p, addr, got, direct)
	s.want(s.C.CompleteConnectEx(s.ctx, refused), ntstatus.ConnectionInvalid, "CompleteConnectEx while Connect runs")
	accepted := exForms.answer(p, limits)
	s.must(s.result(connected))
	s.must(s.C.CompleteConnectEx(s.ctx, func(r uint32) { s.Lost <- r }))
	s.must(s.result(accepted))
	s.want(s.C.CompleteConnectEx(s.ctx, refused), ntstatus.ConnectionInvalid, "CompleteConnectEx twice")
	s.want(s.C.CompleteConnect(s.ctx, func() { wrong.Add(1) }), ntstatus.ConnectionInvalid, "CompleteConnect after CompleteConnectEx")
	hello(s, p)
	s.must(p.C.Disconnect(p.ctx))
	s.lost()
	s.closed(s.C)
	s.silent("a second one")
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d calls of callbacks that were refused", n)
	}
}

var _ = row("NDK_FN_GET_LOCAL_ADDRESS", localAddress1, localAddress2, localAddress3, localAddress4)

// It shows the port that was chosen for port 0, from the time of connecting on.
func localAddress1(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	connected := request(s, p, addr, got, direct)
	first, err := s.C.LocalAddr()
	s.must(err)
	s.chosen(first, "the source")
	same := func(what string) {
		t.Helper()
		if local, err := s.C.LocalAddr(); err != nil || local != first {
			t.Errorf("LocalAddr %s: %v, %v; want %v", what, local, err, first)
		}
	}
	accepted := plainForms.answer(p, limits)
	s.must(s.result(connected))
	same("after Connect")
	s.must(s.C.CompleteConnect(s.ctx, nil))
	s.must(s.result(accepted))
	same("after CompleteConnect")
	hello(s, p)
	if local, err := p.C.LocalAddr(); err != nil || local != addr {
		t.Errorf("LocalAddr of the passive side: %v, %v; want that of the listener, %v", local, err, addr)
	}
}

// It is the PeerAddr of the other side.
func localAddress2(t *T) {
	s, p := t.Connected()
	mirrored(s, p)
}

func mirrored(s, p *Side) {
	s.t.Helper()
	for _, x := range [][2]*Side{{s, p}, {p, s}} {
		local, err := x[0].C.LocalAddr()
		s.must(err)
		if peer, err := x[1].C.PeerAddr(); err != nil || peer != local {
			s.t.Errorf("local %v, seen by the peer as %v, %v", local, peer, err)
		}
	}
}

// An idle connector has none.
func localAddress3(t *T) {
	s, _ := t.Pair()
	_, err := s.connector().LocalAddr()
	s.want(err, ntstatus.ConnectionInvalid, "LocalAddr of an idle connector")
}

// IPv4 and IPv6 both work.
func localAddress4(t *T) {
	t.families(func(t *T, listen netip.AddrPort) {
		s, p := t.Connected()
		local, err := s.C.LocalAddr()
		s.must(err)
		if local.Addr().Is6() != listen.Addr().Is6() {
			t.Errorf("LocalAddr %v for a peer at %v", local, listen.Addr())
		}
		mirrored(s, p)
	})
}

var _ = row("NDK_FN_GET_PEER_ADDRESS", peerAddress1, peerAddress2, peerAddress3, peerAddress4)

// On the active side it is the destination.
func peerAddress1(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	connectTo(s, p, addr, got)
	if peer, err := s.C.PeerAddr(); err != nil || peer != addr {
		t.Errorf("PeerAddr %v, %v; want the destination, %v", peer, err, addr)
	}
	mirrored(s, p)
}

// It is readable within the connect event, before Accept.
func peerAddress2(t *T) {
	s, p := t.Pair()
	type seen struct {
		peer netip.AddrPort
		err  error
	}
	event, got := make(chan seen, 1), make(chan ndk.Connector, 1)
	l, err := p.A.CreateListener(p.ctx, func(c ndk.Connector) {
		peer, err := c.PeerAddr()
		event <- seen{peer, err}
		got <- c
	})
	p.must(err)
	p.close = append(p.close, l.Close)
	p.must(l.Listen(p.ctx, t.Listen))
	addr, err := l.LocalAddr()
	p.must(err)
	connectTo(s, p, addr, got)
	local, err := s.C.LocalAddr()
	s.must(err)
	if e := <-event; e.err != nil || e.peer != local {
		t.Errorf("PeerAddr in the event: %v, %v; want %v", e.peer, e.err, local)
	}
}

// An idle connector has none.
func peerAddress3(t *T) {
	s, _ := t.Pair()
	_, err := s.connector().PeerAddr()
	s.want(err, ntstatus.ConnectionInvalid, "PeerAddr of an idle connector")
}

// IPv4 and IPv6 both work.
func peerAddress4(t *T) {
	t.families(func(t *T, listen netip.AddrPort) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		connectTo(s, p, addr, got)
		if peer, err := s.C.PeerAddr(); err != nil || peer != addr || peer.Addr() != listen.Addr() {
			t.Errorf("PeerAddr %v, %v; want %v", peer, err, addr)
		}
		mirrored(s, p)
	})
}
