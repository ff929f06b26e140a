package soft

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// watch is a CQ and what it told.
type watch struct {
	*CQ
	s    *stage
	told []ndk.Status
	n    int // completions pushed
}

func newWatch(t *testing.T, depth int) *watch {
	t.Helper()
	d, s := device(t, testInfo)
	w := &watch{s: s}
	q, err := d.CreateCQ(ctx, ndk.CQConfig{Depth: depth, Notify: func(st ndk.Status) { w.told = append(w.told, st) }})
	must(t, err)
	w.CQ = q.(*CQ)
	t.Cleanup(w.Close)
	return w
}

// push queues n completions as a provider's goroutine does.
func (w *watch) push(n int) {
	for range n {
		w.n++
		if w.Push(&ndk.ResultEx{Result: ndk.Result{RequestContext: w.n}, Type: ndk.OpSend}, false) {
			w.Notify()
		}
	}
	w.s.run()
}

// poll takes up to n completions and checks that they are the next ones.
func (w *watch) poll(t *testing.T, n, first int) {
	t.Helper()
	r := make([]ndk.ResultEx, n)
	for i := range w.PollEx(r) {
		if r[i].RequestContext != first+i {
			t.Errorf("completion of %v, want %d", r[i].RequestContext, first+i)
		}
	}
}

func (w *watch) wants(t *testing.T, n int, when string) {
	t.Helper()
	w.s.run()
	if len(w.told) != n {
		t.Errorf("%s: %d notifications, want %d", when, len(w.told), n)
	}
}

// [NDK] ControlCQInterruptModeration: a due notification waits for as many
// completions or as many microseconds as was said, and for whichever is first.
func TestModeration(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct {
		name            string
		interval, count uint32
		script          func(t *testing.T, w *watch)
	}{
		{"off by the interval", 0, 100, func(t *testing.T, w *watch) {
			w.push(1)
			w.wants(t, 1, "one completion")
		}},
		{"off by a count of 0", 1000, 0, func(t *testing.T, w *watch) {
			w.push(1)
			w.wants(t, 1, "one completion")
		}},
		{"off by a count of 1", 1000, 1, func(t *testing.T, w *watch) {
			w.push(1)
			w.wants(t, 1, "one completion")
		}},
		{"count first", 2000, 3, func(t *testing.T, w *watch) {
			w.push(2)
			w.wants(t, 0, "two of three")
			w.push(1)
			w.wants(t, 1, "three of three")
			w.s.pass(5 * ms)
			w.wants(t, 1, "the interval behind the notification")
		}},
		{"interval first", 2000, 3, func(t *testing.T, w *watch) {
			w.push(1)
			w.s.pass(2*ms - 1)
			w.wants(t, 0, "right before the interval ends")
			w.s.pass(1)
			w.wants(t, 1, "the end of the interval")
			w.poll(t, 1, 1)
			w.Arm(ndk.ArmAny)
			w.push(1)
			w.wants(t, 1, "the next one is held back anew")
			w.s.pass(2 * ms)
			w.wants(t, 2, "and comes")
		}},
		{"count alone", ndk.Disabled, 3, func(t *testing.T, w *watch) {
			w.push(2)
			w.s.pass(time.Hour)
			w.wants(t, 0, "two of three")
			w.push(1)
			w.wants(t, 1, "three of three")
		}},
		{"interval alone", 2000, ndk.Disabled, func(t *testing.T, w *watch) {
			w.push(20)
			w.wants(t, 0, "twenty")
			w.s.pass(2 * ms)
			w.wants(t, 1, "the end of the interval")
		}},
		{"interval alone, by a count above the depth", 2000, 33, func(t *testing.T, w *watch) {
			w.push(32)
			w.wants(t, 0, "a full queue")
			w.s.pass(2 * ms)
			w.wants(t, 1, "the end of the interval")
		}},
		{"a count of the depth", ndk.Disabled, 32, func(t *testing.T, w *watch) {
			w.push(31)
			w.wants(t, 0, "one less")
			w.push(1)
			w.wants(t, 1, "a full queue")
		}},
		{"a long interval is rounded down", ndk.Disabled - 1, ndk.Disabled, func(t *testing.T, w *watch) {
			w.push(1)
			w.s.pass(maxModeration)
			w.wants(t, 1, "the longest interval")
		}},
		{"switched off meanwhile", 2000, 3, func(t *testing.T, w *watch) {
			w.push(1)
			must(t, w.Moderate(0, 0))
			w.wants(t, 1, "switched off")
			w.s.pass(5 * ms)
			w.wants(t, 1, "the old interval")
		}},
		{"changed meanwhile", 2000, 30, func(t *testing.T, w *watch) {
			w.push(2)
			must(t, w.Moderate(5000, 3))
			w.s.pass(3 * ms)
			w.wants(t, 0, "the old interval")
			w.push(1)
			w.wants(t, 1, "the new count")
		}},
		{"polled meanwhile", 2000, 30, func(t *testing.T, w *watch) {
			w.push(1)
			w.poll(t, 1, 1)
			w.s.pass(2 * ms)
			w.wants(t, 0, "nothing is queued")
			w.push(1)
			w.s.pass(2 * ms)
			w.wants(t, 1, "something is")
		}},
		{"a failure is not held back", 2000, 30, func(t *testing.T, w *watch) {
			w.push(1)
			if w.Fail(ntstatus.InternalError) {
				w.Notify()
			}
			w.wants(t, 1, "the failure")
			if w.told[0] != ntstatus.InternalError {
				t.Errorf("told %v", w.told[0])
			}
		}},
		{"closed meanwhile", 2000, 30, func(t *testing.T, w *watch) {
			w.push(1)
			w.Close()
			select {
			case <-w.Closed():
			default:
				t.Error("the timer keeps it open")
			}
			w.s.pass(2 * ms)
			w.wants(t, 0, "closed")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWatch(t, 32)
			must(t, w.Moderate(tc.interval, tc.count))
			w.Arm(ndk.ArmAny)
			tc.script(t, w)
		})
	}
	w := newWatch(t, 32)
	for _, count := range []uint32{ndk.Disabled, 33} {
		if err := w.Moderate(ndk.Disabled, count); !errors.Is(err, ntstatus.InvalidParameterMix) {
			t.Errorf("neither interval nor a count of %d: %v", count, err)
		}
	}
}

// A CQ without the capability says so.
func TestCQCapabilities(t *testing.T) {
	info := testInfo
	info.Flags = 0
	d, _ := device(t, info)
	q, err := d.CreateCQ(ctx, ndk.CQConfig{Depth: 1})
	must(t, err)
	defer q.Close()
	if err := q.Moderate(0, 0); !errors.Is(err, ntstatus.NotSupported) {
		t.Errorf("Moderate: %v", err)
	}
	if err := q.Resize(ctx, 2); !errors.Is(err, ntstatus.NotSupported) {
		t.Errorf("Resize: %v", err)
	}
}

// What is queued outlives a resize, wherever the ring begins.
func TestResizeKeepsOrder(t *testing.T) {
	w := newWatch(t, 4)
	w.push(4)
	w.poll(t, 2, 1)
	w.push(2) // wraps
	must(t, w.Resize(ctx, 7))
	w.push(3)
	if err := w.Resize(ctx, 6); !errors.Is(err, ntstatus.BufferOverflow) {
		t.Errorf("below what is queued: %v", err)
	}
	w.poll(t, 3, 3)
	must(t, w.Resize(ctx, 4))
	w.poll(t, 8, 6)
	w.push(5)
	if w.Failed() != ntstatus.BufferOverflow {
		t.Errorf("five in a queue of four: %v", w.Failed())
	}
}

// user notes when it is told.
type user struct {
	Object
	name string
	to   *[]string
}

func (u *user) QueueFailed()  { *u.to = append(*u.to, u.name) }
func (u *user) BufferPosted() { *u.to = append(*u.to, u.name) }

// A CQ that fails tells its QPs, in the order in which they came, and keeps the
// news for whoever arms it.
func TestFailedCQ(t *testing.T) {
	w := newWatch(t, 4)
	var order []string
	var names []string
	for _, name := range []string{"b", "a", "d", "c", "e"} {
		u := &user{name: name, to: &order}
		must(t, u.Init(ndk.ObjectQP, ndk.Version21, nil))
		defer u.Close()
		w.Attach(u)
		if name == "d" {
			w.Detach(u)
			continue
		}
		names = append(names, name)
	}
	w.push(5)
	if !slices.Equal(order, names) {
		t.Errorf("told %v, want %v", order, names)
	}
	w.wants(t, 0, "not armed")
	w.Arm(ndk.ArmErrors)
	w.wants(t, 1, "armed")
	if w.told[0] != ntstatus.BufferOverflow {
		t.Errorf("told %v", w.told[0])
	}
	w.push(1)
	if w.Queued() != 0 {
		t.Error("a completion behind the failure")
	}
}

// A queue that fails while one of its QPs goes, and has not left it yet, does not
// bring it back.
func TestFailedQueueOfQPThatGoes(t *testing.T) {
	d, s := device(t, testInfo)
	made, err := d.CreateCQ(ctx, ndk.CQConfig{Depth: 4})
	must(t, err)
	c := made.(*CQ)
	defer c.Close()
	var told []string
	ends := 0
	u := &user{name: "gone", to: &told}
	must(t, u.Init(ndk.ObjectQP, ndk.Version21, func() {
		ends++
		c.Fail(ntstatus.InternalError)
		c.Detach(u)
	}))
	c.Attach(u)
	u.Close()
	s.run()
	if ends != 1 || len(told) != 0 {
		t.Errorf("the QP ended %d times, want once; told were %v, want none", ends, told)
	}
}

// Leftovers may notify, and do so when the provider likes.
func TestLeftovers(t *testing.T) {
	for _, fires := range []bool{false, true} {
		w := newWatch(t, 8)
		w.dev.env.LeftoverFires = func() bool { return fires }
		w.Arm(ndk.ArmAny)
		w.push(1)
		w.wants(t, 1, "the first")
		w.Arm(ndk.ArmAny)
		want := 1
		if fires {
			want = 2
		}
		w.wants(t, want, "armed over what is left")
		if !fires {
			w.push(1)
			w.wants(t, 2, "something new")
		}
	}
}

func TestPushAndPollAllocateNothing(t *testing.T) {
	w := newWatch(t, 32)
	must(t, w.Moderate(1000, 30))
	e := &ndk.ResultEx{Result: ndk.Result{RequestContext: w}, Type: ndk.OpSend}
	dst := make([]ndk.ResultEx, 4)
	round := func() {
		w.Arm(ndk.ArmAny)
		for range 3 {
			if w.Push(e, false) {
				w.Notify()
			}
		}
		for w.PollEx(dst) > 0 {
		}
	}
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPushPoll(b *testing.B) {
	var d Device
	d.Init(Config{Info: testInfo})
	q, err := d.CreateCQ(ctx, ndk.CQConfig{Depth: 32})
	if err != nil {
		b.Fatal(err)
	}
	c := q.(*CQ)
	e := &ndk.ResultEx{Type: ndk.OpSend}
	dst := make([]ndk.ResultEx, 4)
	b.ReportAllocs()
	for b.Loop() {
		c.Push(e, false)
		c.PollEx(dst)
	}
}
