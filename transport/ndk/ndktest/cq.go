package ndktest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// watched is a CQ whose notifications are counted, as the receive CQ of the
// passive side p of a connection; s is the active side.
type watched struct {
	t     *T
	s, p  *Side
	cq    ndk.CQ
	fired chan ndk.Status // one for each notification
	n     atomic.Int32    // how many there were
}

// watch makes a connection whose passive side receives on a watched CQ of that
// depth. inside, if not nil, runs within each notification.
func (t *T) watch(depth int, inside func(w *watched, st ndk.Status)) *watched {
	t.Helper()
	w := &watched{t: t, fired: make(chan ndk.Status, 1024)}
	w.s, w.p = t.Pair()
	p := w.p
	var err error
	w.cq, err = p.A.CreateCQ(p.ctx, ndk.CQConfig{Depth: depth, Notify: func(st ndk.Status) {
		w.n.Add(1)
		if inside != nil {
			inside(w, st)
		}
		w.fired <- st
	}})
	p.must(err)
	p.replaceQP(func(q *ndk.QPConfig) { q.ReceiveCQ = w.cq })
	p.close = append(p.close, w.cq.Close)
	_, addr, got := p.listen()
	connectTo(w.s, p, addr, got)
	return w
}

// replaceQP makes the QP of s anew with a changed configuration.
func (s *Side) replaceQP(change func(q *ndk.QPConfig)) {
	s.t.Helper()
	q := s.QPConfig()
	change(&q)
	qp, err := s.PD.CreateQP(s.ctx, q)
	s.must(err)
	s.QP.Close()
	s.QP = qp
}

// wait waits for a notification.
func (w *watched) wait() ndk.Status {
	w.t.Helper()
	select {
	case st := <-w.fired:
		return st
	case <-w.s.ctx.Done():
		w.t.Fatal("no notification")
	}
	return 0
}

// total closes the CQ and returns how many notifications there were in its
// life: after Closed none can run.
func (w *watched) total() int {
	w.t.Helper()
	w.p.C.Close()
	w.p.QP.Close()
	w.p.must(ndk.CloseWait(w.p.ctx, w.cq))
	return int(w.n.Load())
}

// messages sends n empty messages and returns when they have arrived.
func (w *watched) messages(n int, f ndk.OpFlags) {
	w.t.Helper()
	for range n {
		w.p.must(w.p.QP.Receive("r", nil))
		w.s.must(w.s.QP.Send("s", nil, f|ndk.SilentSuccess))
	}
	w.s.exchangeBack(w.p)
}

// drain polls until n completions were there.
func (w *watched) drain(n int) {
	w.t.Helper()
	var r [1]ndk.Result
	for n > 0 {
		n -= w.cq.Poll(r[:])
		if w.p.ctx.Err() != nil {
			w.t.Fatal("no completion")
		}
	}
}

// event is something that happens on a watched CQ.
type event int

const (
	plainMessage event = iota
	solicitedMessage
	cancelledRequest
	nEvents
)

func (e event) String() string {
	return [...]string{"a plain message", "a solicited message", "a cancelled request"}[e]
}

// satisfies says which event fires which arm type.
func satisfies(e event, a ndk.ArmType) bool {
	return a == ndk.ArmAny || a == ndk.ArmSolicited && e != plainMessage
}

func (w *watched) happen(e event) {
	w.t.Helper()
	switch e {
	case plainMessage:
		w.messages(1, 0)
	case solicitedMessage:
		w.messages(1, ndk.SendAndSolicitEvent)
	case cancelledRequest:
		w.p.must(w.p.QP.Receive("r", nil))
		w.p.QP.Flush()
	}
	w.drain(1)
}

var armNames = map[ndk.ArmType]string{ndk.ArmAny: "any", ndk.ArmSolicited: "solicited", ndk.ArmErrors: "errors"}

// expectArmed arms in turn, lets e happen and counts the notifications.
func (t *T) expectArmed(e event, arms ...ndk.ArmType) {
	t.Helper()
	strongest := ndk.ArmErrors
	for _, a := range arms {
		if a == ndk.ArmAny || a == ndk.ArmSolicited && strongest == ndk.ArmErrors {
			strongest = a
		}
	}
	w := t.watch(16, nil)
	for _, a := range arms {
		w.cq.Arm(a)
	}
	w.happen(e)
	want := 0
	if satisfies(e, strongest) {
		want = 1
		if st := w.wait(); st != ntstatus.Success {
			t.Errorf("notified with %v", st)
		}
	}
	if n := w.total(); n != want {
		t.Errorf("%d notifications of %v, want %d", n, e, want)
	}
}

var _ = row("NDK_FN_ARM_CQ", armOnce, armTypes, armQueued, armTwice, armFailure, armSerialised)

// One Arm gives at most one callback, then the CQ is disarmed.
func armOnce(t *T) {
	w := t.watch(16, nil)
	w.cq.Arm(ndk.ArmAny)
	w.messages(3, ndk.SendAndSolicitEvent)
	w.wait()
	w.drain(3)
	w.messages(1, ndk.SendAndSolicitEvent)
	w.drain(1)
	if n := w.total(); n != 1 {
		t.Errorf("%d notifications of one Arm", n)
	}
}

// ArmAny fires for any completion, ArmSolicited for the receive of a solicited
// send or any failed request, ArmErrors for neither.
func armTypes(t *T) {
	for a, name := range armNames {
		for e := range nEvents {
			t.Sub(name+", "+e.String(), func(t *T) { t.expectArmed(e, a) })
		}
	}
}

// Arm with a completion queued since the last callback fires at once; with only
// older leftovers it may.
func armQueued(t *T) {
	w := t.watch(16, nil)
	w.messages(1, 0)
	w.cq.Arm(ndk.ArmAny) // nothing was notified yet
	w.wait()
	w.messages(1, 0) // beside the one that is still queued
	w.cq.Arm(ndk.ArmAny)
	w.wait()
	w.cq.Arm(ndk.ArmAny) // both were there at the last callback
	w.drain(2)
	w.messages(1, 0) // fires, unless the leftovers did
	w.wait()
	w.drain(1)
	if n := w.total(); n != 3 {
		t.Errorf("%d notifications, want 3", n)
	}
}

// A second Arm before the first fired keeps the stronger one.
func armTwice(t *T) {
	for first, a := range armNames {
		for second, b := range armNames {
			for e := range cancelledRequest {
				t.Sub(a+" then "+b+", "+e.String(), func(t *T) { t.expectArmed(e, first, second) })
			}
		}
	}
}

// An overrun satisfies every arm type.
func armFailure(t *T) {
	for a, name := range armNames {
		t.Sub(name, func(t *T) {
			w := t.watch(2, nil)
			w.cq.Arm(a)
			w.overrun()
			for {
				// ArmAny may have fired for a completion before the overrun.
				if st := w.wait(); st == ntstatus.BufferOverflow {
					break
				} else if a != ndk.ArmAny || st != ntstatus.Success {
					t.Fatalf("notified with %v, want %v", st, ntstatus.BufferOverflow)
				}
				w.cq.Arm(a)
			}
		})
	}
}

// overrun sends more messages than the CQ holds, which nobody polls.
func (w *watched) overrun() {
	w.t.Helper()
	for i := range qDepth {
		if err := w.p.QP.Receive(i, nil); err != nil {
			break // the CQ failed meanwhile, and its QP with it
		}
		if err := w.s.QP.Send("s", nil, ndk.SilentSuccess); err != nil {
			break
		}
	}
}

// Arm, Poll and PollEx of one CQ are serialised by the caller, which may be
// several goroutines; posts go on beside them.
func armSerialised(t *T) {
	const messages, pollers = 200, 3
	w := t.watch(messages, nil) // nobody promises that the pollers keep up
	var lane sync.Mutex
	var seen atomic.Int32
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(w.p.ctx)
	defer cancel()
	for range pollers {
		all.Go(func() { // ends when all messages were seen
			var r [2]ndk.Result
			var x [2]ndk.ResultEx
			for ctx.Err() == nil {
				lane.Lock()
				w.cq.Arm(ndk.ArmAny)
				n := w.cq.Poll(r[:]) + w.cq.PollEx(x[:])
				lane.Unlock()
				if seen.Add(int32(n)) >= messages {
					cancel()
				}
			}
		})
	}
	for range messages / 10 {
		w.messages(10, 0)
	}
	all.Wait()
	if n := seen.Load(); n != messages {
		t.Errorf("%d completions, want %d", n, messages)
	}
}

var _ = row("NDK_FN_CQ_NOTIFICATION_CALLBACK", notifyArmed, notifyStatus, notifyFailed, notifyClose, notifyInside)

// The callback never runs unarmed, and never twice at the same time for one CQ.
func notifyArmed(t *T) {
	t.Sub("unarmed", func(t *T) {
		w := t.watch(16, nil)
		w.messages(2, ndk.SendAndSolicitEvent)
		w.drain(2)
		w.p.must(w.p.QP.Receive("r", nil))
		w.p.QP.Flush()
		w.drain(1)
		if n := w.total(); n != 0 {
			t.Errorf("%d notifications of a CQ that was never armed", n)
		}
	})
	t.Sub("one at a time", func(t *T) {
		const messages = 100
		var running, most, seen atomic.Int32
		done := make(chan struct{})
		w := t.watch(128, func(w *watched, _ ndk.Status) {
			most.Store(max(most.Load(), running.Add(1)))
			w.cq.Arm(ndk.ArmAny) // from here on whatever comes is due, while this runs
			var r [2]ndk.Result
			for n := w.cq.Poll(r[:]); n > 0; n = w.cq.Poll(r[:]) {
				if seen.Add(int32(n)) == messages {
					close(done)
				}
			}
			running.Add(-1)
		})
		w.cq.Arm(ndk.ArmAny)
		for range messages / 10 {
			w.messages(10, 0)
		}
		select {
		case <-done:
		case <-w.p.ctx.Done():
			t.Fatalf("%d of %d messages", seen.Load(), messages)
		}
		if n := most.Load(); n != 1 {
			t.Errorf("%d notifications at the same time", n)
		}
	})
}

// The status is success for normal events, BufferOverflow after an overrun,
// InternalError after a fatal error.
func notifyStatus(t *T) {
	t.Sub("success", func(t *T) {
		w := t.watch(16, nil)
		w.cq.Arm(ndk.ArmAny)
		w.messages(1, 0)
		if st := w.wait(); st != ntstatus.Success {
			t.Errorf("notified with %v", st)
		}
	})
	t.Sub("overrun", func(t *T) {
		w := t.watch(2, nil)
		w.cq.Arm(ndk.ArmErrors)
		w.overrun()
		if st := w.wait(); st != ntstatus.BufferOverflow {
			t.Errorf("notified with %v", st)
		}
	})
	t.Sub("unarmed at the overrun", func(t *T) {
		w := t.watch(2, nil)
		w.overrun()
		w.s.lost() // the QPs of the CQ are dead
		w.cq.Arm(ndk.ArmErrors)
		if st := w.wait(); st != ntstatus.BufferOverflow {
			t.Errorf("notified with %v", st)
		}
	})
	if t.FailCQ == nil {
		return // no way to break a CQ of this provider from outside
	}
	t.Sub("fatal", func(t *T) {
		w := t.watch(16, nil)
		w.cq.Arm(ndk.ArmErrors)
		t.FailCQ(w.cq)
		if st := w.wait(); st != ntstatus.InternalError {
			t.Errorf("notified with %v", st)
		}
	})
}

// After a failure status no more completions appear and every QP of the CQ is
// unusable.
func notifyFailed(t *T) {
	w := t.watch(2, nil)
	s2, p2 := w.s.sibling(nil), w.p.sibling(func(q *ndk.QPConfig) { q.ReceiveCQ = w.cq })
	_, addr, got := w.p.listen()
	connectTo(s2, p2, addr, got)
	w.cq.Arm(ndk.ArmErrors)
	w.overrun()
	if st := w.wait(); st != ntstatus.BufferOverflow {
		t.Fatalf("notified with %v", st)
	}
	w.s.lost()
	s2.lost() // it did nothing wrong, but its receives have nowhere to complete
	for _, p := range []*Side{w.p, p2} {
		if err := p.QP.Send("s", nil, 0); err == nil {
			p.expect(p.Done(), "s", ntstatus.Cancelled, ndk.OpSend)
		} else {
			p.want(err, ntstatus.ConnectionInvalid, "Send on a QP of a failed CQ")
		}
	}
	if n := w.cq.Poll(make([]ndk.Result, 4)); n != 0 {
		t.Errorf("%d completions of a failed CQ", n)
	}
}

// The close of a CQ waits for a running callback, and no callback starts after
// the close finished.
func notifyClose(t *T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	w := t.watch(16, func(w *watched, _ ndk.Status) {
		close(entered)
		<-leave
	})
	w.cq.Arm(ndk.ArmAny)
	w.p.must(w.p.QP.Receive("r", nil))
	w.s.must(w.s.QP.Send("s", nil, ndk.SilentSuccess))
	select {
	case <-entered:
	case <-w.p.ctx.Done():
		t.Fatal("no notification")
	}
	w.p.C.Close()
	w.p.QP.Close()
	w.cq.Close()
	select {
	case <-w.cq.Closed():
		t.Error("closed while its callback runs")
	default:
	}
	close(leave)
	if n := w.total(); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
}

// Arm and Poll may be called from inside the callback, and posts too.
func notifyInside(t *T) {
	const messages = 100
	done := make(chan struct{})
	n := 0
	w := t.watch(16, func(w *watched, _ ndk.Status) {
		var r [4]ndk.Result
		for range w.cq.Poll(r[:]) {
			if n++; n == messages {
				close(done)
				return
			}
			if w.p.QP.Receive("r", nil) != nil || w.p.QP.Send("s", nil, 0) != nil {
				return
			}
		}
		var done [8]ndk.Result
		for w.p.ICQ.Poll(done[:]) > 0 { // makes room for more
		}
		w.cq.Arm(ndk.ArmAny)
	})
	w.p.must(w.p.QP.Receive("r", nil))
	w.cq.Arm(ndk.ArmAny)
	for i := range messages {
		w.s.must(w.s.QP.Receive("r", nil))
		w.s.say()
		if i < messages-1 { // the last one is not answered
			w.s.Received()
		}
	}
	select {
	case <-done:
	case <-w.s.ctx.Done():
		t.Error("the callback did not see all messages")
	}
}
