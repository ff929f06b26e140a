package ndktest

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

const srqDepth = 16

// sharedQueue is an SRQ of the passive side p, whose notifications are counted,
// with a QP of p attached. s is the active side; it is connected only after
// connect.
type sharedQueue struct {
	t     *T
	s, p  *Side
	srq   ndk.SRQ
	fired chan ndk.Status
	n     atomic.Int32
	dial  func(s, p *Side)
}

// needsSRQ ends the test on an adapter without shared receive queues, after it
// refused to make one.
func (t *T) needsSRQ(s *Side) {
	t.Helper()
	if s.Info.MaxSRQDepth > 0 {
		return
	}
	_, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 1, MaxReceiveSGE: 1})
	s.want(err, ntstatus.NotSupported, "CreateSRQ without the capability")
	_, err = s.PD.CreateQPWithSRQ(s.ctx, s.QPConfig(), nil)
	s.want(err, ntstatus.NotSupported, "CreateQPWithSRQ without the capability")
	t.NotOffered("shared receive queues: MaxSRQDepth is 0")
}

// share makes an SRQ with that threshold. inside, if not nil, runs within each
// notification.
func (t *T) share(threshold int, inside func(q *sharedQueue, st ndk.Status)) *sharedQueue {
	t.Helper()
	q := &sharedQueue{t: t, fired: make(chan ndk.Status, 1024)}
	q.s, q.p = t.Pair()
	p := q.p
	t.needsSRQ(p)
	var err error
	q.srq, err = p.PD.CreateSRQ(p.ctx, ndk.SRQConfig{Depth: srqDepth, MaxReceiveSGE: p.QPConfig().MaxReceiveSGE, NotifyThreshold: threshold,
		Notify: func(st ndk.Status) {
			q.n.Add(1)
			if inside != nil {
				inside(q, st)
			}
			q.fired <- st
		}})
	p.must(err)
	p.close = append(p.close, q.srq.Close)
	qp, err := p.PD.CreateQPWithSRQ(p.ctx, p.QPConfig(), q.srq)
	p.must(err)
	p.QP.Close()
	p.QP = qp
	_, addr, got := p.listen()
	q.dial = func(s, p *Side) { t.Helper(); connectTo(s, p, addr, got) }
	return q
}

// connect connects s and p.
func (q *sharedQueue) connect() { q.t.Helper(); q.dial(q.s, q.p) }

// pair connects another QP that takes from the SRQ, with a receive CQ of its own.
func (q *sharedQueue) pair() (s, p *Side) {
	q.t.Helper()
	s, p = q.s.sibling(nil), q.p.shallow()
	var err error
	ev := ndk.NewEvent()
	p.RCQ, err = p.A.CreateCQ(p.ctx, ndk.CQConfig{Depth: cqDepth, Notify: ev.Notify})
	p.must(err)
	p.rev = ev
	c := p.QPConfig()
	p.QP, err = p.PD.CreateQPWithSRQ(p.ctx, c, q.srq)
	p.must(err)
	q.p.close = append(q.p.close, func() {
		p.RCQ.Close()
		if p.C != nil {
			p.C.Close()
		}
		p.QP.Close()
	})
	q.dial(s, p)
	return s, p
}

// queue posts n receives, with the numbers from first up as contexts.
func (q *sharedQueue) queue(first, n int) {
	q.t.Helper()
	for i := range n {
		q.p.must(q.srq.Receive(first+i, []ndk.SGE{q.p.SGE((first+i)%64*64, 64)}))
	}
}

// take sends n messages, which take n receives, and returns when they arrived.
func (q *sharedQueue) take(n int) {
	q.t.Helper()
	for range n {
		q.s.say()
	}
	for range n {
		q.p.Received()
	}
}

func (q *sharedQueue) wait() ndk.Status {
	q.t.Helper()
	select {
	case st := <-q.fired:
		return st
	case <-q.p.ctx.Done():
		q.t.Fatal("no notification")
	}
	return 0
}

// total closes the SRQ and returns how many notifications there were in its
// life.
func (q *sharedQueue) total() int {
	q.t.Helper()
	if q.p.C != nil {
		q.p.C.Close()
	}
	q.p.QP.Close()
	q.p.must(ndk.CloseWait(q.p.ctx, q.srq))
	return int(q.n.Load())
}

var _ = row("NDK_FN_CREATE_SRQ", createSRQLimits, createSRQNoNotify, createSRQThreshold, createSRQEmpty, createSRQNoThreshold)

// A depth over MaxSRQDepth or more SGEs than MaxReceiveRequestSGE give
// InvalidParameter.
func createSRQLimits(t *T) {
	s, _ := t.Pair()
	t.needsSRQ(s)
	for _, tc := range []struct {
		depth, sge int
		want       ndk.Status
	}{
		{s.Info.MaxSRQDepth, 1, ntstatus.Success},
		{s.Info.MaxSRQDepth + 1, 1, ntstatus.InvalidParameter},
		{0, 1, ntstatus.InvalidParameter},
		{-1, 1, ntstatus.InvalidParameter},
		{1, s.Info.MaxReceiveRequestSGE, ntstatus.Success},
		{1, s.Info.MaxReceiveRequestSGE + 1, ntstatus.InvalidParameter},
		{1, -1, ntstatus.InvalidParameter},
	} {
		q, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: tc.depth, MaxReceiveSGE: tc.sge})
		s.want(err, tc.want, "CreateSRQ")
		if err == nil {
			s.must(ndk.CloseWait(s.ctx, q))
		}
	}
}

// Notify is optional, with any threshold.
func createSRQNoNotify(t *T) {
	s, p := t.Pair()
	t.needsSRQ(p)
	for _, threshold := range []int{0, 1, srqDepth} {
		srq, err := p.PD.CreateSRQ(p.ctx, ndk.SRQConfig{Depth: srqDepth, MaxReceiveSGE: 1, NotifyThreshold: threshold})
		p.must(err)
		s2, p2 := s.sibling(nil), p.shallow()
		p2.QP, err = p.PD.CreateQPWithSRQ(p.ctx, p2.QPConfig(), srq)
		p.must(err)
		for range srqDepth {
			p.must(srq.Receive("r", nil))
		}
		_, addr, got := p.listen()
		connectTo(s2, p2, addr, got)
		for range srqDepth { // past each threshold
			s2.say()
			p2.Received()
		}
		p2.C.Close()
		p2.QP.Close()
		p.must(ndk.CloseWait(p.ctx, srq))
	}
}

// The threshold arms one notification for the fall of the queued count below it.
func createSRQThreshold(t *T) {
	for _, tc := range []struct {
		name        string
		taken, want int
	}{{"as many are left as the threshold", 2, 0}, {"one less", 3, 1}, {"none", 5, 1}} {
		t.Sub(tc.name, func(t *T) {
			q := t.share(3, nil)
			q.queue(0, 5)
			q.connect()
			q.take(tc.taken)
			if tc.want > 0 {
				if st := q.wait(); st != ntstatus.Success {
					t.Errorf("notified with %v", st)
				}
			}
			if n := q.total(); n != tc.want {
				t.Errorf("%d notifications, want %d", n, tc.want)
			}
		})
	}
}

// An empty new SRQ does not notify: only a fall from at or above the threshold
// does.
func createSRQEmpty(t *T) {
	t.Sub("never as many as the threshold", func(t *T) {
		q := t.share(3, nil)
		q.queue(0, 2)
		q.connect()
		q.take(2)
		if n := q.total(); n != 0 {
			t.Errorf("%d notifications, want none", n)
		}
	})
	t.Sub("as many later", func(t *T) {
		q := t.share(3, nil)
		q.queue(0, 2)
		q.connect()
		q.take(2)
		q.queue(2, 3)
		q.take(1)
		q.wait()
		q.take(2)
		if n := q.total(); n != 1 {
			t.Errorf("%d notifications, want 1", n)
		}
	})
}

// Threshold 0 means no notification.
func createSRQNoThreshold(t *T) {
	q := t.share(0, nil)
	q.queue(0, 4)
	q.connect()
	q.take(4)
	if n := q.total(); n != 0 {
		t.Errorf("%d notifications without a threshold", n)
	}
}

var _ = row("NDK_FN_SRQ_RECEIVE", srqEarly, srqContext, srqFull, srqOrder, srqBeside)

// Receive is accepted before any attached QP is connected.
func srqEarly(t *T) {
	q := t.share(0, nil)
	q.queue(0, 2)
	q.connect()
	q.s.must(q.s.QP.Send("s", []ndk.SGE{q.s.SGE(0, 16)}, ndk.SilentSuccess))
	r := q.p.Received()
	q.p.expect(r, 0, ntstatus.Success, ndk.OpReceive)
	if r.Bytes != 16 {
		t.Errorf("%d bytes, want 16", r.Bytes)
	}
}

// The request context comes back on the CQ of the QP that took the buffer, with
// the context of that QP.
func srqContext(t *T) {
	q := t.share(0, nil)
	q.connect()
	s2, p2 := q.pair()
	q.queue(0, 4)
	for i := range 4 {
		s, p := q.s, q.p
		if i%2 == 1 {
			s, p = s2, p2
		}
		s.Fill(0, 64, byte(i))
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 64)}, 0))
		s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
		p.expect(p.Received(), i, ntstatus.Success, ndk.OpReceive) // checks the QPContext too
		p.equal(i*64, 64, s, 0)
	}
}

// Full: NoMoreEntries; too many SGEs: DataOverrun; both at once and without a
// completion.
func srqFull(t *T) {
	q := t.share(0, nil)
	q.p.want(q.srq.Receive("x", make([]ndk.SGE, q.p.QPConfig().MaxReceiveSGE+1)), ntstatus.DataOverrun, "too many SGEs")
	q.queue(0, srqDepth)
	q.p.want(q.srq.Receive("x", nil), ntstatus.NoMoreEntries, "one receive too many")
	q.connect()
	for i := range srqDepth {
		q.s.say()
		q.p.expect(q.p.Received(), i, ntstatus.Success, ndk.OpReceive)
	}
	q.queue(100, 1) // there is room again
	q.s.say()
	q.p.expect(q.p.Received(), 100, ntstatus.Success, ndk.OpReceive)
}

// Buffers are taken in post order.
func srqOrder(t *T) {
	q := t.share(0, nil)
	q.connect()
	for round := range 3 {
		q.queue(round*10, 10)
		for i := range 10 {
			q.s.say()
			q.p.expect(q.p.Received(), round*10+i, ntstatus.Success, ndk.OpReceive)
		}
	}
}

// Posts on an SRQ may run beside posts on the QPs that take from it.
func srqBeside(t *T) {
	const messages = 200
	q := t.share(0, nil)
	q.connect()
	var all sync.WaitGroup
	all.Go(func() { // ends when every receive was posted
		for i := 0; i < messages && q.p.ctx.Err() == nil; {
			switch err := q.srq.Receive(i, nil); {
			case err == nil:
				i++
			case !errors.Is(err, ntstatus.NoMoreEntries):
				t.Errorf("receive %d: %v", i, err)
				return
			}
		}
	})
	for i := range messages {
		q.s.say()
		q.p.expect(q.p.Received(), i, ntstatus.Success, ndk.OpReceive)
		q.s.must(q.s.QP.Receive("back", nil))
		q.p.say()
		q.s.expect(q.s.Received(), "back", ntstatus.Success, ndk.OpReceive)
	}
	all.Wait()
}

var _ = row("NDK_FN_MODIFY_SRQ", modifyKeeps, modifyLimit, modifyArms, modifyBelow, modifySilent, modifyFill)

// deepen changes the depth of the SRQ, or ends the test on a device that cannot.
func (q *sharedQueue) deepen(depth, threshold int) {
	q.t.Helper()
	err := q.srq.Modify(q.p.ctx, depth, threshold)
	if errors.Is(err, ntstatus.NotSupported) {
		q.t.NotOffered("the depth of an SRQ cannot be changed: %v", err)
	}
	q.p.must(err)
}

// Depth 0 keeps the depth; threshold 0 keeps the threshold and the arm state.
func modifyKeeps(t *T) {
	t.Sub("depth", func(t *T) {
		q := t.share(0, nil)
		q.p.must(q.srq.Modify(q.p.ctx, 0, 2))
		q.queue(0, srqDepth)
		q.p.want(q.srq.Receive("x", nil), ntstatus.NoMoreEntries, "one receive too many")
	})
	t.Sub("threshold and arm state", func(t *T) {
		q := t.share(3, nil)
		q.queue(0, 4)
		q.connect()
		q.p.must(q.srq.Modify(q.p.ctx, 0, 0))
		q.take(2)
		q.wait() // still armed, for the same number
		q.queue(4, 4)
		q.p.must(q.srq.Modify(q.p.ctx, 0, 0))
		q.take(5)
		if n := q.total(); n != 1 {
			t.Errorf("%d notifications: Modify with 0 armed anew", n)
		}
	})
	t.Sub("a deeper queue", func(t *T) {
		q := t.share(0, nil)
		q.deepen(srqDepth+4, 0)
		q.queue(0, srqDepth+4)
		q.p.want(q.srq.Receive("x", nil), ntstatus.NoMoreEntries, "one receive too many")
	})
}

// A depth over MaxSRQDepth gives InvalidParameter and changes nothing.
func modifyLimit(t *T) {
	q := t.share(0, nil)
	q.p.want(q.srq.Modify(q.p.ctx, q.p.Info.MaxSRQDepth+1, 0), ntstatus.InvalidParameter, "a depth above the limit")
	q.p.want(q.srq.Modify(q.p.ctx, -1, 0), ntstatus.InvalidParameter, "a depth below 0")
	q.p.want(q.srq.Modify(q.p.ctx, q.p.Info.MaxSRQDepth+1, 1), ntstatus.InvalidParameter, "a depth above the limit")
	q.queue(0, srqDepth)
	q.p.want(q.srq.Receive("x", nil), ntstatus.NoMoreEntries, "one receive too many")
	q.connect()
	q.take(srqDepth)
	if n := q.total(); n != 0 {
		t.Errorf("%d notifications: a refused Modify armed", n)
	}
}

// A threshold above 0 arms: it fires once when the count falls below it.
func modifyArms(t *T) {
	for _, tc := range []struct {
		name        string
		taken, want int
	}{{"as many are left as the threshold", 2, 0}, {"one less", 3, 1}, {"none", 6, 1}} {
		t.Sub(tc.name, func(t *T) {
			q := t.share(0, nil)
			q.queue(0, 6)
			q.connect()
			q.p.must(q.srq.Modify(q.p.ctx, 0, 4))
			q.take(tc.taken)
			if tc.want > 0 {
				if st := q.wait(); st != ntstatus.Success {
					t.Errorf("notified with %v", st)
				}
			}
			if n := q.total(); n != tc.want {
				t.Errorf("%d notifications, want %d", n, tc.want)
			}
		})
	}
}

// If the count is below the threshold already at the call, it fires at once.
func modifyBelow(t *T) {
	q := t.share(0, nil)
	q.queue(0, 2)
	q.p.must(q.srq.Modify(q.p.ctx, 0, 3))
	q.wait() // nothing else happens that could bring it
	if n := q.total(); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
}

// After firing it stays silent until Modify is called with a threshold above 0.
func modifySilent(t *T) {
	q := t.share(2, nil)
	q.connect()
	for round := range 3 {
		q.queue(round*4, 4)
		q.take(4)
		if round == 0 {
			q.wait()
		}
	}
	if n := q.n.Load(); n != 1 {
		t.Errorf("%d notifications of one arming", n)
	}
	q.queue(12, 4)
	q.p.must(q.srq.Modify(q.p.ctx, 0, 2))
	q.take(4)
	q.wait()
	if n := q.total(); n != 2 {
		t.Errorf("%d notifications of two armings", n)
	}
}

// A depth below the queued count gives BufferOverflow and changes nothing.
func modifyFill(t *T) {
	q := t.share(0, nil)
	q.queue(0, 6)
	q.deepen(6, 0)
	q.p.want(q.srq.Modify(q.p.ctx, 5, 0), ntstatus.BufferOverflow, "below the fill")
	q.connect()
	for i := range 6 {
		q.s.say()
		q.p.expect(q.p.Received(), i, ntstatus.Success, ndk.OpReceive)
	}
	q.queue(6, 6)
	q.p.want(q.srq.Receive("x", nil), ntstatus.NoMoreEntries, "one receive too many")
}

var _ = row("NDK_FN_SRQ_NOTIFICATION_CALLBACK", srqNotify, srqFailed, srqNotifyClose, srqNotifyInside)

// The status is success when the queued count fell below the threshold; one
// shot.
func srqNotify(t *T) {
	q := t.share(2, nil)
	q.queue(0, 4)
	q.connect()
	q.take(4)
	if st := q.wait(); st != ntstatus.Success {
		t.Errorf("notified with %v", st)
	}
	if n := q.total(); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
}

// InternalError when the SRQ failed: it and its QPs are unusable, and nothing
// more completes.
func srqFailed(t *T) {
	q := t.share(0, nil)
	if t.FailSRQ == nil {
		t.NotOffered("a failure of an SRQ: nothing that a consumer or a peer does brings one about on this device")
	}
	q.queue(0, 4)
	q.connect()
	t.FailSRQ(q.srq)
	if st := q.wait(); st != ntstatus.InternalError {
		t.Errorf("notified with %v", st)
	}
	q.s.lost()
	if n := q.p.RCQ.Poll(make([]ndk.Result, 4)); n != 0 {
		t.Errorf("%d completions of a failed SRQ", n)
	}
	if err := q.p.QP.Send("s", nil, 0); err == nil {
		q.p.expect(q.p.Done(), "s", ntstatus.Cancelled, ndk.OpSend)
	}
}

// The callback is not called after the close of the SRQ finished, and the close
// waits for a running one.
func srqNotifyClose(t *T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	q := t.share(0, func(*sharedQueue, ndk.Status) {
		close(entered)
		<-leave
	})
	q.p.must(q.srq.Modify(q.p.ctx, 0, 1)) // fires at once
	select {
	case <-entered:
	case <-q.p.ctx.Done():
		t.Fatal("no notification")
	}
	q.p.QP.Close()
	q.srq.Close()
	select {
	case <-q.srq.Closed():
		t.Error("closed while its callback runs")
	default:
	}
	close(leave)
	if n := q.total(); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
}

// Receive and Modify may be called from inside the callback.
func srqNotifyInside(t *T) {
	const messages = 40
	q := t.share(4, func(q *sharedQueue, _ ndk.Status) {
		for range srqDepth - 4 {
			if q.srq.Receive("again", nil) != nil {
				break // full
			}
		}
		// The last one may come when the test has closed everything.
		if err := q.srq.Modify(q.p.ctx, 0, 4); err != nil && ndk.StatusOf(err) != ntstatus.InvalidDeviceState {
			q.t.Errorf("Modify from inside: %v", err)
		}
	})
	q.queue(0, srqDepth)
	q.connect()
	for range messages { // more than were posted outside
		q.take(1)
	}
	if n := q.n.Load(); n < 2 {
		t.Errorf("%d notifications for %d messages", n, messages)
	}
}
