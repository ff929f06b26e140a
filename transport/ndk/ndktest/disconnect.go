package ndktest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_DISCONNECT", disconnect1, disconnect2, disconnect3, disconnect4, disconnect5, disconnect6)

// bothWays runs f with a connection, once for its active side and once for its
// passive side as s; p is the other one.
func (t *T) bothWays(f func(t *T, s, p *Side)) {
	t.Helper()
	t.Sub("active", func(t *T) {
		s, p := t.Connected()
		f(t, s, p)
	})
	t.Sub("passive", func(t *T) {
		p, s := t.Connected()
		f(t, s, p)
	})
}

// The disconnect event of the peer comes, once.
func disconnect1(t *T) {
	t.bothWays(func(t *T, s, p *Side) {
		s.must(s.C.Disconnect(s.ctx))
		p.lost()
		meanwhile(s, p)
		s.closed(s.C)
		p.must(p.C.Disconnect(p.ctx))
		p.closed(p.C) // no callback runs any more
		p.silent("a second one")
	})
}

// Every request that is outstanding has or gets a completion, Cancelled if it is
// not finished, in the order of its queue.
func disconnect2(t *T) {
	t.bothWays(func(t *T, s, p *Side) {
		depth := s.QPConfig().ReceiveQueueDepth
		for i := range depth {
			s.must(s.QP.Receive(i, nil))
		}
		s.Fill(0, 8, 1)
		p.must(p.QP.Receive("message", []ndk.SGE{p.SGE(0, 8)}))
		s.must(s.QP.Send("last", []ndk.SGE{s.SGE(0, 8)}, 0))
		s.must(s.C.Disconnect(s.ctx))
		for i := range depth {
			s.expect(s.Received(), i, ntstatus.Cancelled, ndk.OpReceive)
		}
		last := s.Done()
		if last.RequestContext != "last" || last.Type != ndk.OpSend || last.Status != ntstatus.Success && last.Status != ntstatus.Cancelled {
			t.Errorf("completion of %v, %v: %v; want the Send, successful or cancelled", last.RequestContext, last.Type, last.Status)
		}
		p.lost()
		if last.Status == ntstatus.Success { // then the end was graceful enough for it
			p.expect(p.Received(), "message", ntstatus.Success, ndk.OpReceive)
			p.equal(0, 8, s, 0)
		}
		meanwhile(s, p)
		s.nothing("after all were completed")
	})
}

// nothing fails if a CQ of s has a completion.
func (s *Side) nothing(what string) {
	s.t.Helper()
	var r [1]ndk.ResultEx
	for _, cq := range []ndk.CQ{s.RCQ, s.ICQ} {
		if cq.PollEx(r[:]) != 0 {
			s.t.Errorf("completion of %v, %v: %v; want none %s", r[0].RequestContext, r[0].Type, r[0].Status, what)
		}
	}
}

// A handshake that takes too long is IOTimeout, and the connection is gone anyway.
func disconnect3(t *T) {
	slow := false
	once := func(t *T, s, p *Side) {
		s.must(s.QP.Receive("r", nil))
		ctx, cancel := context.WithDeadline(s.ctx, time.Unix(1, 0)) // any time is too long
		defer cancel()
		if err := s.C.Disconnect(ctx); err != nil { // else the peer was there first
			slow = true
			s.want(err, ntstatus.IOTimeout, "Disconnect")
		}
		s.expect(s.Received(), "r", ntstatus.Cancelled, ndk.OpReceive)
		s.idle("after Disconnect")
		s.want(s.C.Disconnect(s.ctx), ntstatus.ConnectionInvalid, "Disconnect again")
		p.lost()
		s.closed(s.C)
		s.silent("a Disconnect that took too long")
	}
	const attempts = 4
	for i := 0; i < attempts && !slow; i++ {
		t.bothWays(once)
	}
	if !slow && !t.Failed() {
		t.NotOffered("Disconnect of this transport does not wait for the peer")
	}
}

// What completed before keeps its status, even if nobody has polled it yet;
// later initiator posts are refused.
func disconnect4(t *T) {
	t.bothWays(func(t *T, s, p *Side) {
		p.Fill(0, 8, 3)
		p.must(p.QP.Receive("in", nil))
		s.must(s.QP.Receive("out", []ndk.SGE{s.SGE(0, 8)}))
		s.ICQ.Arm(ndk.ArmAny)
		s.RCQ.Arm(ndk.ArmAny)
		s.must(s.QP.Send("s", nil, 0))
		p.expect(p.Received(), "in", ntstatus.Success, ndk.OpReceive)
		p.must(p.QP.Send("p", []ndk.SGE{p.SGE(0, 8)}, 0))
		p.expect(p.Done(), "p", ntstatus.Success, ndk.OpSend)
		for _, ev := range []*ndk.Event{s.iev, s.rev} { // both completions are there
			select {
			case <-ev.C():
			case <-s.ctx.Done():
				t.Fatal("no notification")
			}
		}
		s.must(s.C.Disconnect(s.ctx))
		s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
		s.expect(s.Received(), "out", ntstatus.Success, ndk.OpReceive)
		s.equal(0, 8, p, 0)
		s.idle("after Disconnect")
		p.lost()
	})
}

// The disconnect callback of the side that disconnects does not run for it.
func disconnect5(t *T) {
	t.bothWays(func(t *T, s, p *Side) {
		s.must(s.C.Disconnect(s.ctx))
		p.lost()
		p.must(p.C.Disconnect(p.ctx))
		p.closed(p.C)
		meanwhile(s, p)
		s.closed(s.C) // no callback runs any more
		s.silent("one's own Disconnect")
	})
}

// Without a connection it is ConnectionInvalid.
func disconnect6(t *T) {
	s, p := t.Pair()
	try := func(s *Side, what string) {
		t.Helper()
		s.want(s.C.Disconnect(s.ctx), ntstatus.ConnectionInvalid, "Disconnect "+what)
	}
	_, addr, got := p.listen()
	s.C = s.connector()
	try(s, "of an idle connector")
	s.want(s.result(s.dial(p.unused(addr.Addr()), direct)), ntstatus.ConnectionRefused, "Connect where nobody listens")
	try(s, "after a Connect that failed")

	connected := request(s, p, addr, got, direct)
	try(s, "while Connect runs")
	try(p, "of a request")
	p.must(p.C.Reject(nil))
	try(p, "after Reject")
	s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect")
	try(s, "after a Connect that was rejected")

	connected = request(s, p, addr, got, direct)
	accepted := plainForms.answer(p, limits)
	s.must(s.result(connected))
	try(s, "before CompleteConnect")
	s.must(s.C.CompleteConnect(s.ctx, nil)) // which none of this has harmed
	s.must(s.result(accepted))
	hello(s, p)
	s.must(s.C.Disconnect(s.ctx))
	try(s, "twice")
	p.lost()
	p.must(p.C.Disconnect(p.ctx)) // the event left something to do: to flush
	try(p, "twice")
}

var _ = row("NDK_FN_DISCONNECT_EVENT_CALLBACK", disconnectEvent1, disconnectEvent2, disconnectEvent3, disconnectEvent4)

var _ = row("NDK_FN_DISCONNECT_EVENT_CALLBACK_EX", disconnectEventEx1, disconnectEventEx2, disconnectEventEx3)

// The event comes at most once for a connection, and only for one that stood.
func disconnectEvent1(t *T) { plainForms.eventOnce(t) }

func (f forms) eventOnce(t *T) {
	t.Helper()
	f.ways(t, func(t *T, s, p *Side) {
		meanwhile(s, p)
		s.silent("while the connection stands")
		p.silent("while the connection stands")
		s.must(s.C.Disconnect(s.ctx))
		p.lost()
		s.closed(s.C)
		meanwhile(s, p)
		p.QP.Flush()
		p.must(p.C.Disconnect(p.ctx))
		p.closed(p.C) // no callback runs any more
		p.silent("a second one")
	})
	t.Sub("never established", func(t *T) {
		s, p := t.Pair()
		accepted := f.accepted(s, p)
		s.closed(s.C)
		p.rejected(accepted)
	})
}

// ways is bothWays with a connection by these forms.
func (f forms) ways(t *T, run func(t *T, s, p *Side)) {
	t.Helper()
	t.Sub("active", func(t *T) {
		s, p := t.Pair()
		f.established(s, p)
		run(t, s, p)
	})
	t.Sub("passive", func(t *T) {
		p, s := t.Pair()
		f.established(p, s)
		run(t, s, p)
	})
}

// The event of a graceful end cancels nothing: what is outstanding stays so until
// Disconnect, Flush or Close.
func disconnectEvent2(t *T) { plainForms.eventCancelsNothing(t) }

func (f forms) eventCancelsNothing(t *T) {
	t.Helper()
	for _, tc := range []struct {
		name string
		end  func(p *Side)
	}{
		{"Disconnect", func(p *Side) { p.must(p.C.Disconnect(p.ctx)) }},
		{"Flush", func(p *Side) { p.QP.Flush() }},
		{"Close", func(p *Side) { p.C.Close() }},
	} {
		t.Sub(tc.name, func(t *T) {
			f.ways(t, func(t *T, s, p *Side) {
				p.must(p.QP.Receive("r1", nil))
				p.must(p.QP.Receive("r2", nil))
				p.must(p.QP.Receive("r3", nil))
				s.must(s.QP.Send("s", nil, 0))
				s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
				p.expect(p.Received(), "r1", ntstatus.Success, ndk.OpReceive)
				s.must(s.C.Disconnect(s.ctx))
				p.lost()
				meanwhile(s, p)
				p.nothing("by the event alone")
				tc.end(p)
				p.expect(p.Received(), "r2", ntstatus.Cancelled, ndk.OpReceive)
				p.expect(p.Received(), "r3", ntstatus.Cancelled, ndk.OpReceive)
			})
		})
	}
}

// No event comes once the connector is closed, and the close waits for one that
// runs.
func disconnectEvent3(t *T) { plainForms.eventAndClose(t) }

func (f forms) eventAndClose(t *T) {
	t.Helper()
	t.Sub("close during the event", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		connected := request(s, p, addr, got, direct)
		running, release := make(chan struct{}, 4), make(chan struct{})
		accepted := make(chan error, 1)
		go func() { // ends with Accept
			accepted <- f.accept(p, limits, func() { running <- struct{}{}; <-release })
		}()
		s.must(s.result(connected))
		s.must(f.complete(s, nil))
		s.must(p.result(accepted))
		hello(s, p)
		ended := make(chan error, 1)
		go func() { ended <- s.C.Disconnect(s.ctx) }() // ends with Disconnect
		select {
		case <-running:
		case <-s.ctx.Done():
			close(release)
			t.Fatal("no disconnect event")
		}
		p.C.Close() // does not block
		p.open(p.C, "a connector whose event still runs")
		close(release)
		p.closed(p.C)
		s.must(s.result(ended))
	})
	t.Sub("close before the event", func(t *T) {
		for range 4 {
			s, p := t.Pair()
			_, addr, got := p.listen()
			connected := request(s, p, addr, got, direct)
			var closed, late atomic.Bool
			accepted := make(chan error, 1)
			go func() { // ends with Accept
				accepted <- f.accept(p, limits, func() { late.Store(closed.Load()) })
			}()
			s.must(s.result(connected))
			s.must(f.complete(s, nil))
			s.must(p.result(accepted))
			hello(s, p)
			ended := make(chan error, 1)
			go func() { ended <- s.C.Disconnect(s.ctx) }() // ends with Disconnect
			p.closed(p.C)                                  // at the same time
			closed.Store(true)
			_ = s.result(ended) // the close may have come first, then there is nothing to disconnect
			meanwhile(s, p)
			if late.Load() {
				t.Error("a disconnect event after the close of the connector finished")
			}
		}
	})
}

// The event also comes when the connection is lost to an error or to the close
// of the peer.
func disconnectEvent4(t *T) { plainForms.eventOfLoss(t) }

func (f forms) eventOfLoss(t *T) {
	t.Helper()
	t.Sub("error", func(t *T) {
		f.ways(t, func(t *T, s, p *Side) {
			s.offend(p)
			p.lost()
			s.lost()
			p.closed(p.C)
			p.silent("a second one")
			s.closed(s.C)
			s.silent("a second one")
		})
	})
	t.Sub("close", func(t *T) {
		f.ways(t, func(t *T, s, p *Side) {
			p.must(p.QP.Receive("r", nil))
			s.C.Close()
			p.lost()
			p.QP.Flush()
			p.expect(p.Received(), "r", ntstatus.Cancelled, ndk.OpReceive)
		})
	})
}

// offend ends the connection by a Write past the end of the memory of p.
func (s *Side) offend(p *Side) {
	s.t.Helper()
	s.must(s.QP.Write("too far", []ndk.SGE{s.SGE(0, 64)}, p.MR.Base()+memSize-32, p.MR.RemoteToken(), 0))
	r := s.Done() // with Success where that does not mean that the peer has it
	if r.RequestContext != "too far" || r.Type != ndk.OpWrite || r.Status == ntstatus.Success && s.t.SendMeansDelivered {
		s.t.Errorf("completion of %v, %v: %v; want that of a Write which failed", r.RequestContext, r.Type, r.Status)
	}
}

// What is true of the plain event is true of the one with a reason.
func disconnectEventEx1(t *T) {
	t.likewise("NDK_FN_DISCONNECT_EVENT_CALLBACK", exForms.eventOnce, exForms.eventCancelsNothing, exForms.eventAndClose, exForms.eventOfLoss)
}

// Where there is no reason it is 0: a graceful end has none.
func disconnectEventEx2(t *T) {
	t.bothWays(func(t *T, s, p *Side) {
		s.must(s.C.Disconnect(s.ctx))
		if r := p.lost(); r != 0 {
			t.Errorf("reason %#x of a graceful end, want 0", r)
		}
	})
}

// Over iWARP the reason has layer, type and code of the Terminate that ended the
// connection, on the side that sent it and on the one that received it.
func disconnectEventEx3(t *T) {
	if t.ParseReason == nil {
		t.NotOffered("the reasons of this adapter are no Terminate messages")
	}
	check := func(t *T, s *Side, layer, etype, code uint8, sent bool) {
		t.Helper()
		reason := s.lost()
		l, e, c, local, ok := t.ParseReason(reason)
		if !ok || l != layer || e != etype || c != code || local != sent {
			t.Errorf("reason %#x: layer %d, type %d, code %d, sent %v, known %v; want %d, %d, %d, %v", reason, l, e, c, local, ok, layer, etype, code, sent)
		}
	}
	t.Sub("Write past the end", func(t *T) {
		t.bothWays(func(t *T, s, p *Side) { // DDP, tagged buffer error, base or bounds violation: RFC 5041 §8.2
			s.offend(p)
			check(t, p, 1, 1, 1, true)
			check(t, s, 1, 1, 1, false)
		})
	})
	t.Sub("Read past the end", func(t *T) {
		t.bothWays(func(t *T, s, p *Side) { // RDMAP, remote protection error, base or bounds violation: RFC 5040 §4.8
			s.must(s.QP.Read("too far", []ndk.SGE{s.SGE(0, 64)}, p.MR.Base()+memSize-32, p.MR.RemoteToken(), 0))
			s.expect(s.Done(), "too far", ntstatus.RemoteResources, ndk.OpRead)
			check(t, p, 0, 1, 1, true)
			check(t, s, 0, 1, 1, false)
		})
	})
}
