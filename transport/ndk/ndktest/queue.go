package ndktest

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// armed makes a CQ whose notifications go to a channel, and a connected QP that
// receives on it.
func armed(t *T, depth int) (s, p *Side, cq ndk.CQ, fired chan ndk.Status) {
	t.Helper()
	s, p = t.Pair()
	fired = make(chan ndk.Status, 16)
	cq, err := p.A.CreateCQ(p.ctx, ndk.CQConfig{Depth: depth, Notify: func(st ndk.Status) { fired <- st }})
	p.must(err)
	old := p.QP
	q := p.QPConfig()
	q.ReceiveCQ = cq
	p.QP, err = p.PD.CreateQP(p.ctx, q)
	p.must(err)
	old.Close()
	p.close = append(p.close, cq.Close)
	_, addr, got := p.listen()
	connectTo(s, p, addr, got)
	return s, p, cq, fired
}

var queueTests = []test{
	{"NDK_FN_ARM_CQ/types", func(t *T) {
		for _, tc := range []struct {
			name string
			arm  []ndk.ArmType
			sol  ndk.OpFlags
			want bool
		}{
			{"any", []ndk.ArmType{ndk.ArmAny}, 0, true},
			{"solicited, plain send", []ndk.ArmType{ndk.ArmSolicited}, 0, false},
			{"solicited, solicited send", []ndk.ArmType{ndk.ArmSolicited}, ndk.SendAndSolicitEvent, true},
			{"errors", []ndk.ArmType{ndk.ArmErrors}, ndk.SendAndSolicitEvent, false},
			{"any then errors", []ndk.ArmType{ndk.ArmAny, ndk.ArmErrors}, 0, true},
			{"errors then any", []ndk.ArmType{ndk.ArmErrors, ndk.ArmAny}, 0, true},
			{"solicited then any", []ndk.ArmType{ndk.ArmSolicited, ndk.ArmAny}, 0, true},
			{"any then solicited", []ndk.ArmType{ndk.ArmAny, ndk.ArmSolicited}, 0, true},
			{"solicited then errors", []ndk.ArmType{ndk.ArmSolicited, ndk.ArmErrors}, 0, false},
		} {
			t.Sub(tc.name, func(t *T) {
				s, p, cq, fired := armed(t, 16)
				for _, a := range tc.arm {
					cq.Arm(a)
				}
				p.must(p.QP.Receive("r", nil))
				p.must(p.QP.Receive("last", nil))
				s.must(s.QP.Send("s", nil, tc.sol|ndk.SilentSuccess))
				if tc.want {
					if st := p.fired(fired); st != ntstatus.Success {
						t.Errorf("notified with %v", st)
					}
				}
				// The next message is there when both are polled; if the first did not
				// notify by then it never will.
				s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
				var r [1]ndk.ResultEx
				for n := 0; n < 2; {
					n += cq.PollEx(r[:])
					if p.ctx.Err() != nil {
						t.Fatal("no completion")
					}
				}
				select {
				case st := <-fired:
					t.Errorf("a notification too many: %v", st)
				default:
				}
			})
		}
	}},
	{"NDK_FN_ARM_CQ/what is queued already", func(t *T) {
		s, p, cq, fired := armed(t, 16)
		for i := range 3 {
			p.must(p.QP.Receive(i, nil))
		}
		cq.Arm(ndk.ArmAny)
		s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
		p.fired(fired)
		s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
		// One of them is newer than the notification.
		cq.Arm(ndk.ArmAny)
		p.fired(fired)
	}},
	{"NDK_FN_ARM_CQ/a failed request is solicited", func(t *T) {
		_, p, cq, fired := armed(t, 16)
		p.must(p.QP.Receive("r", nil))
		cq.Arm(ndk.ArmSolicited)
		p.QP.Flush()
		if st := p.fired(fired); st != ntstatus.Success {
			t.Errorf("notified with %v", st)
		}
	}},
	{"NDK_FN_CQ_NOTIFICATION_CALLBACK/overrun", func(t *T) {
		s, p, cq, fired := armed(t, 2)
		for i := range 3 {
			p.must(p.QP.Receive(i, nil))
		}
		cq.Arm(ndk.ArmErrors)
		for range 3 {
			s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
		}
		if st := p.fired(fired); st != ntstatus.BufferOverflow {
			t.Errorf("notified with %v, want an overflow", st)
		}
		s.lost() // the QPs of the CQ are dead
		if n := cq.Poll(make([]ndk.Result, 4)); n != 0 {
			t.Errorf("%d completions of a failed CQ", n)
		}
	}},
	{"NDK_FN_CQ_NOTIFICATION_CALLBACK/posts from inside", func(t *T) {
		s, p := t.Pair()
		done := make(chan struct{})
		var cq ndk.CQ
		n := 0
		cq, err := p.A.CreateCQ(p.ctx, ndk.CQConfig{Depth: 16, Notify: func(ndk.Status) {
			var r [4]ndk.Result
			for range cq.Poll(r[:]) {
				if n++; n == 100 {
					close(done)
					return
				}
				if p.QP.Receive("r", nil) != nil || p.QP.Send("s", nil, ndk.SilentSuccess) != nil {
					return
				}
			}
			cq.Arm(ndk.ArmAny)
		}})
		p.must(err)
		old := p.QP
		q := p.QPConfig()
		q.ReceiveCQ = cq
		p.QP, err = p.PD.CreateQP(p.ctx, q)
		p.must(err)
		old.Close()
		p.close = append(p.close, cq.Close)
		p.must(p.QP.Receive("r", nil))
		_, addr, got := p.listen()
		connectTo(s, p, addr, got)
		cq.Arm(ndk.ArmAny)
		for i := range 100 {
			s.must(s.QP.Receive("r", nil))
			s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
			if i < 99 { // the hundredth is not answered
				s.Received()
			}
		}
		select {
		case <-done:
		case <-s.ctx.Done():
			t.Error("the callback did not see all messages")
		}
	}},
	{"NDK_FN_GET_CQ_RESULTS/batches", func(t *T) {
		s, p := t.Connected()
		if n := p.RCQ.Poll(make([]ndk.Result, 4)); n != 0 {
			t.Errorf("%d results of an empty CQ", n)
		}
		for i := range 10 {
			p.must(p.QP.Receive(i, nil))
			s.must(s.QP.Send(i, nil, ndk.SilentSuccess))
		}
		var r [4]ndk.Result
		for next := 0; next < 10; {
			n := p.RCQ.Poll(r[:])
			for _, e := range r[:n] {
				if e.RequestContext != next || e.Status != ntstatus.Success {
					t.Errorf("result %v %v, want %d", e.RequestContext, e.Status, next)
				}
				next++
			}
			if p.ctx.Err() != nil {
				t.Fatal("no completion")
			}
		}
	}},
	{"NDK_FN_RESIZE_CQ/fill", func(t *T) {
		s, p := t.Connected()
		if p.Info.Flags&ndk.FlagCQResize == 0 {
			s.want(p.RCQ.Resize(p.ctx, 64), ntstatus.NotSupported, "Resize")
			t.Skip("the adapter does not resize")
		}
		for i := range 6 {
			p.must(p.QP.Receive(i, nil))
			s.must(s.QP.Send(i, nil, ndk.SilentSuccess))
		}
		s.exchangeBack(p)
		p.want(p.RCQ.Resize(p.ctx, p.Info.MaxCQDepth+1), ntstatus.InvalidParameter, "above the limit")
		p.want(p.RCQ.Resize(p.ctx, 5), ntstatus.BufferOverflow, "below the fill")
		p.must(p.RCQ.Resize(p.ctx, 6))
		for i := range 6 {
			p.expect(p.Received(), i, ntstatus.Success, ndk.OpReceive)
		}
	}},
	{"NDK_FN_CONTROL_CQ_INTERRUPT_MODERATION/support", func(t *T) {
		s, _ := t.Pair()
		if s.Info.Flags&ndk.FlagCQInterruptModeration == 0 {
			s.want(s.RCQ.Moderate(10, 10), ntstatus.NotSupported, "Moderate")
			return
		}
		s.must(s.RCQ.Moderate(10, 10))
		s.must(s.RCQ.Moderate(ndk.Disabled, 10))
		s.must(s.RCQ.Moderate(10, ndk.Disabled))
		s.want(s.RCQ.Moderate(ndk.Disabled, ndk.Disabled), ntstatus.InvalidParameterMix, "both disabled")
		s.want(s.RCQ.Moderate(ndk.Disabled, cqDepth+1), ntstatus.InvalidParameterMix, "count above the depth")
		s.must(s.RCQ.Moderate(0, 0))
	}},
	{"NDK_FN_FLUSH/all", func(t *T) {
		s, p := t.Connected()
		for i := range 5 {
			s.must(s.QP.Receive(i, []ndk.SGE{s.SGE(0, 8)}))
		}
		for i := range 5 {
			s.must(s.QP.Send(i, nil, ndk.Defer|ndk.SilentSuccess))
		}
		s.QP.Flush()
		for i := range 5 {
			s.expect(s.Received(), i, ntstatus.Cancelled, ndk.OpReceive)
			s.expect(s.Done(), i, ntstatus.Cancelled, ndk.OpSend)
		}
		p.lost()
	}},
}

// fired waits for a notification.
func (s *Side) fired(c chan ndk.Status) ndk.Status {
	s.t.Helper()
	select {
	case st := <-c:
		return st
	case <-s.ctx.Done():
		s.t.Fatal("no notification")
	}
	return 0
}

// exchangeBack makes sure that what s sent has arrived at o: o reads it from the
// stream before it answers a Read.
func (s *Side) exchangeBack(o *Side) {
	s.t.Helper()
	s.must(s.QP.Read("back", []ndk.SGE{s.SGE(memSize-8, 8)}, o.MR.Base(), o.MR.RemoteToken(), 0))
	s.expect(s.Done(), "back", ntstatus.Success, ndk.OpRead)
}
