package ndktest

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_ACCEPT", accept1, accept2, accept3, accept4, accept5, accept6)

var _ = row("NDK_FN_ACCEPT_EX", acceptEx1, acceptEx2, acceptEx3)

// After Accept the connection stands on both sides, where the transport can tell,
// and the QP takes initiator requests at once.
func accept1(t *T) { plainForms.upAtOnce(t) }

func (f forms) upAtOnce(t *T) {
	t.Helper()
	s, p := t.Pair()
	accepted := f.accepted(s, p)
	s.must(s.QP.Receive("from passive", nil))
	s.must(f.complete(s, nil))
	s.must(p.result(accepted))
	p.must(p.QP.Send("at once", nil, 0)) // the active side has said nothing yet
	p.must(p.QP.Receive("from active", nil))
	s.must(s.QP.Send("second", nil, 0))
	p.expect(p.Received(), "from active", ntstatus.Success, ndk.OpReceive)
	s.expect(s.Received(), "from passive", ntstatus.Success, ndk.OpReceive)
	p.expect(p.Done(), "at once", ntstatus.Success, ndk.OpSend)
	s.expect(s.Done(), "second", ntstatus.Success, ndk.OpSend)
}

// A peer that gave up, or that rejected what was accepted, is ConnectionAborted.
func accept2(t *T) { plainForms.abandoned(t) }

func (f forms) abandoned(t *T) {
	t.Helper()
	t.Sub("the peer gave up before", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		connected := request(s, p, addr, got, direct)
		s.closed(s.C)
		if s.result(connected) == nil {
			t.Error("Connect of a connector that is closed succeeds")
		}
		meanwhile(s, p) // the news has come by then
		p.want(f.accept(p, limits, func() { p.Lost <- 0 }), ntstatus.ConnectionAborted, "Accept")
		p.want(f.accept(p, limits, nil), ntstatus.InvalidDeviceState, "Accept again")
		p.idle("after an Accept that failed")
		p.closed(p.C)
		p.silent("a connection that never was")
	})
	t.Sub("the peer rejects afterwards", func(t *T) {
		s, p := t.Pair()
		accepted := f.accepted(s, p)
		s.must(s.C.Reject(nil))
		p.rejected(accepted)
	})
	t.Sub("the peer closes afterwards", func(t *T) {
		s, p := t.Pair()
		accepted := f.accepted(s, p)
		s.closed(s.C)
		p.rejected(accepted)
	})
}

// rejected waits for the end of an Accept whose peer went back on it: it fails,
// or, where it could not wait, the disconnect event follows.
func (s *Side) rejected(accepted chan error) {
	s.t.Helper()
	if err := s.result(accepted); err == nil && !s.t.AcceptWaits {
		s.lost()
	} else {
		s.want(err, ntstatus.ConnectionAborted, "Accept")
	}
	s.closed(s.C)
	s.silent("one more, or one without a connection")
}

// A peer that never completes is IOTimeout, where the transport can tell.
func accept3(t *T) { plainForms.impatient(t) }

func (f forms) impatient(t *T) {
	t.Helper()
	if !t.AcceptWaits {
		s, p := t.Pair()
		s.must(p.result(f.accepted(s, p)))
		t.NotOffered("the transport does not tell the passive side of CompleteConnect, so Accept ends without it")
	}
	t.Sub("in the time of the provider", f.neverCompleted)
	t.Sub("in the time of the caller", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		connected := request(s, p, addr, got, direct)
		o := *p
		ctx := expiring{p.ctx, make(chan struct{}), context.DeadlineExceeded}
		o.ctx = ctx
		accepted := f.answer(&o, limits)
		s.must(s.result(connected)) // so Accept has begun
		close(ctx.done)
		p.want(p.result(accepted), ntstatus.IOTimeout, "Accept without a CompleteConnect")
		p.closed(p.C)
		p.silent("a connection that never was")
	})
}

// The effective limit of each direction is the least of what both sides asked
// for and of their adapters' limits; each side sees the mirror of the other's.
func accept4(t *T) { plainForms.negotiated(t) }

func (f forms) negotiated(t *T) {
	t.Helper()
	const much = 1 << 16
	for _, tc := range []struct{ activeIn, activeOut, passiveIn, passiveOut int }{
		{4, 4, 4, 4},
		{4, 3, 2, 1}, // the passive side asks for less
		{1, 2, 3, 4}, // the active one does
		{1, 4, 4, 1},
		{much, much, much, much}, // the adapters' limits hold
		{much, 2, 3, much},
		{0, 2, 2, 2}, // no Read of the passive side
		{2, 2, 2, 0},
		{2, 0, 2, 2}, // no Read of the active side
		{2, 2, 0, 2},
	} {
		t.Sub(fmt.Sprintf("%d,%d to %d,%d", tc.activeIn, tc.activeOut, tc.passiveIn, tc.passiveOut), func(t *T) {
			s, p := t.Pair()
			_, addr, got := p.listen()
			connected := request(s, p, addr, got, via{ConnParams: ndk.ConnParams{InboundReadLimit: tc.activeIn, OutboundReadLimit: tc.activeOut}})
			accepted := f.answer(p, ndk.ConnParams{InboundReadLimit: tc.passiveIn, OutboundReadLimit: tc.passiveOut})
			s.must(s.result(connected))
			toActive := min(tc.activeIn, s.Info.MaxInboundReadLimit, tc.passiveOut, p.Info.MaxOutboundReadLimit)
			toPassive := min(tc.activeOut, s.Info.MaxOutboundReadLimit, tc.passiveIn, p.Info.MaxInboundReadLimit)
			if t.ReadyByRead && tc.activeOut > 0 {
				toPassive = max(toPassive, 1)
			}
			d, err := s.C.ConnectionData(nil)
			s.must(err)
			s.readLimits(d, toActive, toPassive)
			s.must(f.complete(s, nil))
			s.must(s.result(accepted))
			hello(s, p)
			s.reads(p, toPassive)
			p.reads(s, toActive)
		})
	}
}

// reads fails unless s can Read from o, or cannot with a limit of 0.
func (s *Side) reads(o *Side, limit int) {
	s.t.Helper()
	err := s.QP.Read("r", []ndk.SGE{s.SGE(0, 64)}, o.MR.Base(), o.MR.RemoteToken(), 0)
	if limit == 0 {
		s.want(err, ntstatus.InvalidParameter, "Read with a limit of 0")
		return
	}
	s.must(err)
	s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
}

// Private data over MaxCalleeData is InvalidBufferSize; the request can still be
// answered.
func accept5(t *T) { plainForms.calleeData(t) }

func (f forms) calleeData(t *T) {
	t.Helper()
	s, p := t.Pair()
	_, addr, got := p.listen()
	connected := request(s, p, addr, got, direct)
	params := limits
	params.Private = make([]byte, p.Info.MaxCalleeData+1)
	p.want(f.accept(p, params, nil), ntstatus.InvalidBufferSize, "Accept with more than MaxCalleeData")
	params.Private = pattern(p.Info.MaxCalleeData, 5)
	accepted := f.answer(p, params)
	s.must(s.result(connected))
	s.private(params.Private)
	s.must(f.complete(s, nil))
	s.must(s.result(accepted))
	hello(s, p)
}

// A connector that no listener handed out, or that is answered already, is
// InvalidDeviceState.
func accept6(t *T) { plainForms.answerOnce(t) }

func (f forms) answerOnce(t *T) {
	t.Helper()
	s, p := t.Pair()
	_, addr, got := p.listen()
	again := func(o *Side, what string) {
		t.Helper()
		o.want(f.accept(o, limits, func() { t.Errorf("the callback of an Accept that failed, %s, ran", what) }), ntstatus.InvalidDeviceState, "Accept "+what)
	}
	s.C = s.connector()
	again(s, "of an idle connector")

	connected := request(s, p, addr, got, direct)
	again(s, "of a connector that connects")
	p.must(p.C.Reject(nil))
	again(p, "after Reject")
	s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect")

	connected = request(s, p, addr, got, direct)
	accepted := f.answer(p, limits)
	s.must(s.result(connected)) // so Accept has begun
	again(p, "while Accept runs, or after it")
	again(s, "of a connector that connected")
	s.must(f.complete(s, func() { s.Lost <- 0 }))
	s.must(s.result(accepted))
	again(p, "twice")
	hello(s, p)
	s.must(s.C.Disconnect(s.ctx))
	p.lost()
	again(p, "after the end of the connection")
	p.closed(p.C)
	p.silent("a second one")
}

// What is true of Accept is true of AcceptEx.
func acceptEx1(t *T) {
	t.likewise("NDK_FN_ACCEPT", exForms.upAtOnce, exForms.abandoned, t.ifAcceptWaits(exForms.impatient),
		exForms.negotiated, exForms.calleeData, exForms.answerOnce)
}

// The reason of a graceful end is 0.
func acceptEx2(t *T) {
	s, p := t.Connected() // by the Ex forms
	s.must(s.C.Disconnect(s.ctx))
	if r := p.lost(); r != 0 {
		t.Errorf("reason %#x, want 0", r)
	}
}

// Each side may use either form.
func acceptEx3(t *T) {
	for _, tc := range []struct {
		name            string
		active, passive forms
	}{
		{"plain to plain", plainForms, plainForms},
		{"plain to Ex", plainForms, exForms},
		{"Ex to plain", exForms, plainForms},
		{"Ex to Ex", exForms, exForms},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Pair()
			forms{tc.active.complete, tc.passive.accept}.established(s, p)
			s.must(s.C.Disconnect(s.ctx))
			p.lost()
		})
		t.Sub(tc.name+", ended by the passive side", func(t *T) {
			s, p := t.Pair()
			forms{tc.active.complete, tc.passive.accept}.established(s, p)
			p.must(p.C.Disconnect(p.ctx))
			s.lost()
		})
	}
}

var _ = row("NDK_FN_REJECT", reject1, reject2, reject3, reject4, reject5)

// The Connect of the peer fails with ConnectionRefused, and the private data is
// readable there.
func reject1(t *T) {
	for _, want := range [][]byte{nil, pattern(8, 1)} {
		t.Sub(fmt.Sprintf("%d bytes", len(want)), func(t *T) {
			s, p := t.Pair()
			_, addr, got := p.listen()
			connected := request(s, p, addr, got, direct)
			p.must(p.C.Reject(want))
			s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect")
			s.private(want)
		})
	}
}

// On the active side, after Connect: the Accept of the peer fails with
// ConnectionAborted, or it gets a disconnect event where Accept could not wait.
func reject2(t *T) {
	s, p := t.Pair()
	accepted := plainForms.accepted(s, p)
	s.must(s.C.Reject(nil))
	p.rejected(accepted)
	s.idle("after Reject")
}

// A peer that is gone already is ConnectionAborted.
func reject3(t *T) {
	t.Sub("passive", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		connected := request(s, p, addr, got, direct)
		s.closed(s.C)
		_ = s.result(connected)
		meanwhile(s, p) // the news has come by then
		p.want(p.C.Reject(nil), ntstatus.ConnectionAborted, "Reject")
	})
	t.Sub("active", func(t *T) {
		s, p := t.Pair()
		accepted := plainForms.accepted(s, p)
		p.closed(p.C)
		_ = p.result(accepted)
		meanwhile(s, p)
		s.want(s.C.Reject(nil), ntstatus.ConnectionAborted, "Reject")
	})
}

// Private data over MaxCalleeData is InvalidBufferSize; the request can still be
// rejected.
func reject4(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	connected := request(s, p, addr, got, direct)
	p.want(p.C.Reject(make([]byte, p.Info.MaxCalleeData+1)), ntstatus.InvalidBufferSize, "Reject with more than MaxCalleeData")
	want := pattern(p.Info.MaxCalleeData, 9)
	p.must(p.C.Reject(want))
	s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect")
	s.private(want)
}

// Afterwards neither Accept nor CompleteConnect nor a second Reject succeeds.
func reject5(t *T) {
	try := func(s *Side) {
		s.t.Helper()
		for name, f := range map[string]forms{"": plainForms, "Ex": exForms} {
			if f.accept(s, limits, nil) == nil {
				t.Errorf("Accept%s after Reject succeeds", name)
			}
			s.want(f.complete(s, nil), ntstatus.ConnectionInvalid, "CompleteConnect"+name+" after Reject")
		}
		if s.C.Reject(nil) == nil {
			t.Error("Reject after Reject succeeds")
		}
		s.idle("after Reject")
	}
	t.Sub("passive", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		connected := request(s, p, addr, got, direct)
		p.must(p.C.Reject(nil))
		try(p)
		s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect")
	})
	t.Sub("active", func(t *T) {
		s, p := t.Pair()
		accepted := plainForms.accepted(s, p)
		s.must(s.C.Reject(nil))
		try(s)
		p.rejected(accepted)
	})
}

var _ = row("NDK_FN_GET_CONNECTION_DATA", connectionData1, connectionData2, connectionData3, connectionData4, connectionData5, connectionData6)

// pattern is n bytes of private data, none of them 0.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = (byte(i)+seed)%255 + 1
	}
	return b
}

// private fails unless the connector of s shows the private data of the peer:
// what it sent and, where the transport has a field of fixed size, zeros.
func (s *Side) private(sent []byte) {
	s.t.Helper()
	d, err := s.C.ConnectionData(nil)
	s.must(err)
	if n := d.RequiredDataSize; n < len(sent) || n > len(sent) && !s.t.DataPadded {
		s.t.Fatalf("%d bytes of private data, the peer sent %d", n, len(sent))
	}
	b := bytes.Repeat([]byte{0xEE}, d.RequiredDataSize+1)
	_, err = s.C.ConnectionData(b)
	s.must(err)
	if !bytes.HasPrefix(b, sent) || len(bytes.Trim(b[len(sent):d.RequiredDataSize], "\x00")) > 0 {
		s.t.Errorf("private data %x, the peer sent %x", b[:d.RequiredDataSize], sent)
	}
	if b[d.RequiredDataSize] != 0xEE {
		s.t.Error("a byte behind the private data was written")
	}
}

// readLimits checks the limits of connection data.
func (s *Side) readLimits(d ndk.ConnData, in, out int) {
	s.t.Helper()
	if d.InboundReadLimit != in || d.OutboundReadLimit != out {
		s.t.Errorf("limits %d in, %d out; want %d and %d", d.InboundReadLimit, d.OutboundReadLimit, in, out)
	}
}

// The passive side has the data from the connect event to Accept, the active one
// from the success of Connect, or its rejection, to CompleteConnect.
func connectionData1(t *T) {
	t.Sub("accepted", func(t *T) {
		s, p := t.Pair()
		asked, answered := pattern(min(s.Info.MaxCallerData, 24), 1), pattern(min(p.Info.MaxCalleeData, 40), 2)
		seen := make(chan error, 1)
		got := make(chan ndk.Connector, 1)
		l, err := p.A.CreateListener(p.ctx, func(c ndk.Connector) {
			_, err := c.ConnectionData(nil) // in the event itself
			seen <- err
			got <- c
		})
		p.must(err)
		p.close = append(p.close, l.Close)
		p.must(l.Listen(p.ctx, t.Listen))
		addr, err := l.LocalAddr()
		p.must(err)
		connected := request(s, p, addr, got, via{ConnParams: ndk.ConnParams{Private: asked}})
		p.must(<-seen) // the event came, for request returned
		p.private(asked)
		meanwhile(s, p)
		p.private(asked) // as long as there is no answer
		accepted := plainForms.answer(p, ndk.ConnParams{Private: answered})
		s.must(s.result(connected))
		s.private(answered)
		meanwhile(s, p)
		s.private(answered)
		s.must(s.C.CompleteConnect(s.ctx, nil))
		s.must(s.result(accepted))
	})
	t.Sub("rejected", func(t *T) {
		s, p := t.Pair()
		answered := pattern(min(p.Info.MaxCalleeData, 40), 2)
		_, addr, got := p.listen()
		connected := request(s, p, addr, got, direct)
		p.must(p.C.Reject(answered))
		s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect")
		s.private(answered)
		meanwhile(s, p)
		s.private(answered)
	})
}

// A nil buffer asks for the size alone.
func connectionData2(t *T) {
	t.bothSides(func(s *Side, sent []byte) {
		d, err := s.C.ConnectionData(nil)
		s.want(err, ntstatus.Success, "ConnectionData without a buffer")
		if d.RequiredDataSize < len(sent) {
			t.Errorf("RequiredDataSize %d, the peer sent %d bytes", d.RequiredDataSize, len(sent))
		}
	})
}

// A short buffer gets what fits and BufferTooSmall, one that is long enough
// everything; either gets the size.
func connectionData3(t *T) {
	t.bothSides(func(s *Side, sent []byte) {
		s.t.Helper()
		d, err := s.C.ConnectionData(nil)
		s.must(err)
		for _, n := range []int{0, 1, len(sent) / 2, len(sent), d.RequiredDataSize - 1, d.RequiredDataSize, d.RequiredDataSize + 9} {
			b := make([]byte, n)
			got, err := s.C.ConnectionData(b)
			want := ntstatus.Success
			if n < d.RequiredDataSize {
				want = ntstatus.BufferTooSmall
			}
			s.want(err, want, fmt.Sprintf("ConnectionData with %d bytes for %d", n, d.RequiredDataSize))
			if got != d {
				t.Errorf("with %d bytes: %+v, want %+v", n, got, d)
			}
			if k := min(n, len(sent)); !bytes.Equal(b[:k], sent[:k]) {
				t.Errorf("with %d bytes: %x, the peer sent %x", n, b, sent)
			}
		}
	})
}

// The size may be more than the peer sent; the rest is zeros.
func connectionData4(t *T) {
	for _, n := range []int{0, 1, 17, 56} {
		t.Sub(fmt.Sprintf("%d bytes", n), func(t *T) {
			s, p := t.Pair()
			asked, answered := pattern(min(n, s.Info.MaxCallerData), 1), pattern(min(n, p.Info.MaxCalleeData), 2)
			_, addr, got := p.listen()
			connected := request(s, p, addr, got, via{ConnParams: ndk.ConnParams{Private: asked}})
			p.private(asked)
			accepted := plainForms.answer(p, ndk.ConnParams{Private: answered})
			s.must(s.result(connected))
			s.private(answered)
			s.must(s.C.CompleteConnect(s.ctx, nil))
			s.must(s.result(accepted))
		})
	}
}

// bothSides calls f for each side of an attempt while its data is there.
func (t *T) bothSides(f func(s *Side, sent []byte)) {
	t.Helper()
	s, p := t.Pair()
	asked, answered := pattern(min(s.Info.MaxCallerData, 24), 1), pattern(min(p.Info.MaxCalleeData, 40), 2)
	_, addr, got := p.listen()
	connected := request(s, p, addr, got, via{ConnParams: ndk.ConnParams{InboundReadLimit: 7, OutboundReadLimit: 3, Private: asked}})
	f(p, asked)
	accepted := plainForms.answer(p, ndk.ConnParams{InboundReadLimit: 2, OutboundReadLimit: 20, Private: answered})
	s.must(s.result(connected))
	f(s, answered)
	s.must(s.C.CompleteConnect(s.ctx, nil))
	s.must(s.result(accepted))
}

// The limits are the least of both requests and both adapters', as far as they
// are known: the passive side sees what the peer asked for, the active one what
// became of it.
func connectionData5(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	connected := request(s, p, addr, got, via{ConnParams: ndk.ConnParams{InboundReadLimit: 7, OutboundReadLimit: 3}})
	d, err := p.C.ConnectionData(nil)
	p.must(err)
	p.readLimits(d, min(3, s.Info.MaxOutboundReadLimit, p.Info.MaxInboundReadLimit), min(7, s.Info.MaxInboundReadLimit, p.Info.MaxOutboundReadLimit))
	accepted := plainForms.answer(p, ndk.ConnParams{InboundReadLimit: 2, OutboundReadLimit: 20})
	s.must(s.result(connected))
	d, err = s.C.ConnectionData(nil)
	s.must(err)
	s.readLimits(d, min(7, s.Info.MaxInboundReadLimit, p.Info.MaxOutboundReadLimit), min(2, s.Info.MaxOutboundReadLimit, p.Info.MaxInboundReadLimit))
	s.must(s.C.CompleteConnect(s.ctx, nil))
	s.must(s.result(accepted))
}

// At any other time it is InvalidDeviceState.
func connectionData6(t *T) {
	s, p := t.Pair()
	none := func(c ndk.Connector, what string) {
		t.Helper()
		_, err := c.ConnectionData(nil)
		s.want(err, ntstatus.InvalidDeviceState, "ConnectionData "+what)
		_, err = c.ConnectionData(make([]byte, 256))
		s.want(err, ntstatus.InvalidDeviceState, "ConnectionData with a buffer "+what)
	}
	_, addr, got := p.listen()
	s.C = s.connector()
	none(s.C, "of an idle connector")
	s.want(s.C.Connect(s.ctx, s.QP, netip.AddrPort{}, p.unused(addr.Addr()), limits), ntstatus.ConnectionRefused, "Connect where nobody listens")
	none(s.C, "after a Connect that nobody answered")
	connected := request(s, p, addr, got, direct)
	none(s.C, "while Connect runs")
	accepted := plainForms.answer(p, limits)
	s.must(s.result(connected))
	none(p.C, "once Accept has begun")
	s.must(s.C.CompleteConnectEx(s.ctx, func(r uint32) { s.Lost <- r }))
	s.must(s.result(accepted))
	none(s.C, "after CompleteConnect")
	none(p.C, "after Accept")
	hello(s, p)
	s.must(s.C.Disconnect(s.ctx))
	p.lost()
	none(s.C, "after Disconnect")
	none(p.C, "after the disconnect event")
}
