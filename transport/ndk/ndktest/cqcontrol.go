package ndktest

import (
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// needsResize ends the test on an adapter that does not resize CQs, after it
// refused to.
func (t *T) needsResize(s *Side) {
	t.Helper()
	if s.Info.Flags&ndk.FlagCQResize == 0 {
		s.want(s.RCQ.Resize(s.ctx, 2*cqDepth), ntstatus.NotSupported, "Resize without the capability")
		t.NotOffered("resizing of CQs: FlagCQResize is not set")
	}
}

var _ = row("NDK_FN_RESIZE_CQ", resizeLimit, resizeSupport, resizeTraffic, resizeFill, resizeArmed)

// A depth over MaxCQDepth gives InvalidParameter.
func resizeLimit(t *T) {
	s, _ := t.Pair()
	t.needsResize(s)
	s.want(s.RCQ.Resize(s.ctx, s.Info.MaxCQDepth+1), ntstatus.InvalidParameter, "above the limit")
	s.want(s.RCQ.Resize(s.ctx, 0), ntstatus.InvalidParameter, "to nothing")
	s.want(s.RCQ.Resize(s.ctx, -1), ntstatus.InvalidParameter, "below nothing")
	s.must(s.RCQ.Resize(s.ctx, 2*cqDepth))
}

// The capability flag says whether CQs can be resized.
func resizeSupport(t *T) {
	s, _ := t.Pair()
	want := ntstatus.NotSupported
	if s.Info.Flags&ndk.FlagCQResize != 0 {
		want = ntstatus.Success
	}
	s.want(s.RCQ.Resize(s.ctx, 2*cqDepth), want, "Resize")
}

// No completion is lost or doubled under traffic during a resize.
func resizeTraffic(t *T) {
	const messages = 200
	s, p := t.Connected()
	t.needsResize(p)
	var all sync.WaitGroup
	var stop atomic.Bool
	all.Go(func() { // ends with the traffic
		for i := 0; !stop.Load(); i++ {
			if err := p.RCQ.Resize(p.ctx, cqDepth<<(i%3)); err != nil {
				t.Errorf("resize: %v", err)
				return
			}
		}
	})
	next := 0
	for sent := 0; sent < messages; {
		for range 10 {
			p.must(p.QP.Receive(sent, nil))
			s.must(s.QP.Send(sent, nil, ndk.SilentSuccess))
			sent++
		}
		s.exchangeBack(p)
		for next < sent {
			p.expect(p.Received(), next, ntstatus.Success, ndk.OpReceive)
			next++
		}
	}
	stop.Store(true)
	all.Wait()
	if n := p.RCQ.Poll(make([]ndk.Result, 1)); n != 0 {
		t.Error("a completion too many")
	}
}

// A depth below the number of queued completions gives BufferOverflow and
// changes nothing.
func resizeFill(t *T) {
	w := t.watch(16, nil)
	t.needsResize(w.p)
	for i := range 6 {
		w.p.must(w.p.QP.Receive(i, nil))
		w.s.must(w.s.QP.Send(i, nil, ndk.SilentSuccess))
	}
	w.s.exchangeBack(w.p)
	w.p.want(w.cq.Resize(w.p.ctx, 5), ntstatus.BufferOverflow, "below the fill")
	w.messages(10, 0) // all 16 still have room
	w.p.want(w.cq.Resize(w.p.ctx, 15), ntstatus.BufferOverflow, "below the fill")
	w.p.must(w.cq.Resize(w.p.ctx, 16))
	var r [16]ndk.Result
	for n := 0; n < 16; {
		k := w.cq.Poll(r[n:])
		n += k
		if w.p.ctx.Err() != nil {
			t.Fatalf("%d of 16 completions", n)
		}
	}
	for i := range 6 {
		if r[i].RequestContext != i {
			t.Errorf("completion %v, want %d", r[i].RequestContext, i)
		}
	}
}

// The arm state survives a resize.
func resizeArmed(t *T) {
	w := t.watch(16, nil)
	t.needsResize(w.p)
	w.cq.Arm(ndk.ArmSolicited)
	w.p.must(w.cq.Resize(w.p.ctx, 32))
	w.messages(1, 0)
	w.drain(1)
	w.messages(1, ndk.SendAndSolicitEvent)
	w.wait()
	w.drain(1)
	if n := w.total(); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
}

// needsModeration ends the test on an adapter that does not moderate, after it
// refused to.
func (t *T) needsModeration(s *Side) {
	t.Helper()
	if s.Info.Flags&ndk.FlagCQInterruptModeration == 0 {
		s.want(s.RCQ.Moderate(10, 10), ntstatus.NotSupported, "Moderate without the capability")
		t.NotOffered("interrupt moderation: FlagCQInterruptModeration is not set")
	}
}

// moderated is watch with a CQ that notes how many completions were queued when
// its callback ran.
func (t *T) moderated(depth int) (w *watched, queued *atomic.Int32) {
	t.Helper()
	queued = new(atomic.Int32)
	w = t.watch(depth, func(w *watched, _ ndk.Status) {
		r := make([]ndk.Result, depth)
		queued.Store(int32(w.cq.Poll(r)))
	})
	t.needsModeration(w.p)
	return w, queued
}

// longest is an interval, in microseconds, that outlasts the test or is rounded
// down to what the adapter can do.
const longest = ndk.Disabled - 1

var _ = row("NDK_FN_CONTROL_CQ_INTERRUPT_MODERATION", moderateSupport, moderateOff, moderateOne, moderateMix, moderateRounded, moderateNewest)

// Without the capability: NotSupported; with it never.
func moderateSupport(t *T) {
	s, _ := t.Pair()
	if s.Info.Flags&ndk.FlagCQInterruptModeration == 0 {
		s.want(s.RCQ.Moderate(0, 0), ntstatus.NotSupported, "Moderate")
		s.want(s.RCQ.Moderate(10, 10), ntstatus.NotSupported, "Moderate")
		return
	}
	for _, interval := range []uint32{0, 1, 10, 1000, longest, ndk.Disabled} {
		for _, count := range []uint32{0, 1, 2, cqDepth, cqDepth + 1, ndk.Disabled} {
			want := ntstatus.Success
			if interval == ndk.Disabled && count > cqDepth {
				want = ntstatus.InvalidParameterMix
			}
			s.want(s.RCQ.Moderate(interval, count), want, "Moderate")
		}
	}
}

// Interval 0, or count 0 or 1, means no moderation: each completion notifies, as
// on a new CQ.
func moderateOff(t *T) {
	w, queued := t.moderated(16)
	for i, m := range [][2]uint32{{}, {0, 10}, {longest, 0}, {longest, 1}, {ndk.Disabled, 1}} {
		if i > 0 { // the first is the state of a new CQ
			w.p.must(w.cq.Moderate(m[0], m[1]))
		}
		w.cq.Arm(ndk.ArmAny)
		w.messages(1, 0)
		w.wait()
		if n := queued.Load(); n != 1 {
			t.Errorf("interval %d, count %d: notified with %d completions", m[0], m[1], n)
		}
	}
}

// Disabled leaves only the other criterion, and so does a count above the depth.
func moderateOne(t *T) {
	t.Sub("only the count", func(t *T) {
		w, queued := t.moderated(16)
		w.p.must(w.cq.Moderate(ndk.Disabled, 3))
		w.cq.Arm(ndk.ArmAny)
		w.messages(2, 0)
		w.messages(1, 0)
		w.wait()
		if n := queued.Load(); n != 3 {
			t.Errorf("notified with %d completions, want 3", n)
		}
	})
	for _, count := range []uint32{ndk.Disabled, 17} {
		t.Sub("only the interval", func(t *T) {
			w, _ := t.moderated(16)
			w.p.must(w.cq.Moderate(500, count))
			w.cq.Arm(ndk.ArmAny)
			w.messages(1, 0)
			w.wait() // nothing else happens that could bring it
		})
	}
}

// Both criteria disabled give InvalidParameterMix and change nothing.
func moderateMix(t *T) {
	w, queued := t.moderated(16)
	w.p.must(w.cq.Moderate(ndk.Disabled, 16)) // no more than the depth
	w.p.must(w.cq.Moderate(ndk.Disabled, 2))
	w.p.want(w.cq.Moderate(ndk.Disabled, ndk.Disabled), ntstatus.InvalidParameterMix, "both disabled")
	w.p.want(w.cq.Moderate(ndk.Disabled, 17), ntstatus.InvalidParameterMix, "a count above the depth")
	w.cq.Arm(ndk.ArmAny)
	w.messages(1, 0)
	w.messages(1, 0)
	w.wait()
	if n := queued.Load(); n != 2 {
		t.Errorf("notified with %d completions, want 2", n)
	}
}

// A too large interval is rounded down, not refused.
func moderateRounded(t *T) {
	w, _ := t.moderated(16)
	w.p.must(w.cq.Moderate(longest, 2))
	w.cq.Arm(ndk.ArmAny)
	w.messages(2, 0) // the count ends the delay, if the interval did not
	w.wait()
}

// The newest setting takes effect soon and replaces one not yet applied.
func moderateNewest(t *T) {
	w, _ := t.moderated(16)
	w.p.must(w.cq.Moderate(ndk.Disabled, 16))
	w.cq.Arm(ndk.ArmAny)
	w.messages(1, 0) // held back
	w.p.must(w.cq.Moderate(ndk.Disabled, 15))
	w.p.must(w.cq.Moderate(0, 0))
	w.wait()
}
