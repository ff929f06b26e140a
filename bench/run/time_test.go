package run

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// A job that ends with its time has run until then, also if no I/O was due at last: what
// it did in a second is of all the seconds. With a ramp they begin when that is over, and
// not with the first I/O behind it.
func TestRunsOutItsTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*job.Job)
		most   int64 // I/Os that are due, those of the ramp among them, which may be late
	}{
		{"a rate", func(j *job.Job) { j.RateIOPS = [2]uint64{10, 0} }, 3}, // at 0, 100 and 200 ms
		{"lanes", func(j *job.Job) { j.RateIOPS, j.Offload = [2]uint64{10, 0}, true }, 3},
		{"after a ramp", func(j *job.Job) { j.RateIOPS, j.RampTime = [2]uint64{10, 0}, 120*time.Millisecond }, 4},
		{"pauses", func(j *job.Job) { j.ThinkTime = 200 * time.Millisecond }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			rs, err := do(t, with(aJob("a", job.EngineNull, reads, 4096, 1<<30), func(j *job.Job) {
				j.TimeBased, j.Runtime = true, 250*time.Millisecond
				c.change(j)
			}))
			if err != nil {
				t.Fatal(err)
			}
			r := &rs[0].Traffic[0]
			if r.Runtime < 250*time.Millisecond || r.IOs < 1 || r.IOs > c.most {
				t.Errorf("%d I/Os in %v", r.IOs, r.Runtime)
			}
		})
	}
}

// Reads and writes of a mix have each its own rate, and where one has none it is not held
// up by the other: whatever rwmixread says.
func TestRatesOfAMix(t *testing.T) {
	for _, c := range []struct {
		rate    [2]uint64
		shares  [2]int64 // of reads, the least and the most, of 1000 I/Os
		longest time.Duration
	}{
		// The last of 1000 is due after half a second: in the order that rwmixread=50 has
		// it would be after one.
		{[2]uint64{1800, 200}, [2]int64{899, 901}, 0},
		{[2]uint64{200, 1800}, [2]int64{99, 101}, 0},
		// 500 writes of rwmixread=50 would take 50 s.
		{[2]uint64{0, 10}, [2]int64{900, 1000}, 20 * time.Second},
	} {
		rs, err := do(t, with(aJob("a", job.EngineNull, randBoth, 4096, 1<<30), func(j *job.Job) { j.NumberIOs, j.RateIOPS = 1000, c.rate }))
		if err != nil {
			t.Fatal(err)
		}
		if n := rs[0].Traffic[0].IOs; n < c.shares[0] || n > c.shares[1] || rs[0].Traffic[1].IOs != 1000-n || c.longest > 0 && rs[0].Runtime > c.longest {
			t.Errorf("%v: %d reads and %d writes in %v", c.rate, n, rs[0].Traffic[1].IOs, rs[0].Runtime)
		}
	}
}

// Who is told to end does not do what is not due yet.
func TestNothingBeforeItIsDue(t *testing.T) {
	for _, offload := range []bool{false, true} {
		r, err := New(Config{Plan: &job.Plan{Jobs: []*job.Job{with(aJob("a", job.EngineNull, reads, 4096, 1<<30), func(j *job.Job) {
			j.Rate, j.Offload = [2]uint64{1, 0}, offload // an I/O in 4096 s
		})}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { // ends with the run, at the latest
			for r.Snapshot()[0].IOs[0] == 0 && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			stop()
		}()
		_ = r.Do(ctx)
		stop()
		if n := r.Results()[0].Traffic[0].IOs; n != 1 {
			t.Errorf("offload %v: %d I/Os", offload, n)
		}
	}
}

// startdelay is of its job alone: those beside it begin at once.
func TestStartDelay(t *testing.T) {
	const delay = 200 * time.Millisecond
	a, b := aJob("a", job.EngineNull, reads, 4096, 1<<20), aJob("b", job.EngineNull, reads, 4096, 1<<20)
	b.StartDelay = delay
	rs, err := do(t, a, b)
	if err != nil {
		t.Fatal(err)
	}
	// They begin to wait at the same moment, give or take what a goroutine needs to be woken.
	if d := rs[1].Start.Sub(rs[0].Start); d < delay/2 {
		t.Errorf("it began %v after the other", d)
	}
}

// What a server has used is asked for as the ramp is over, and at the end, and what the
// engine did in the ramp is not in its counts.
func TestRampIsNotInTheCosts(t *testing.T) {
	var mu sync.Mutex
	var asked []time.Time // guarded by mu
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, time.Now())
		fmt.Fprintf(w, "process_cpu_seconds_total %d\n", 100*len(asked)*len(asked))
	}))
	defer metrics.Close()
	s := &counted{store: newStore(1 << 20)}
	s.size = 1 << 20
	begun := time.Now()
	r, err := on(t, s, with(aJob("a", job.EngineNull, reads, 4096, 1<<20), func(j *job.Job) {
		j.TimeBased, j.RampTime, j.Runtime, j.RateIOPS = true, 200*time.Millisecond, 100*time.Millisecond, [2]uint64{100, 0}
		j.Remote.Metrics = metrics.URL
	}))
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 2 || asked[0].Sub(begun) < 200*time.Millisecond || !r.CPU.ServerSeen || r.CPU.ServerUser != 300*time.Second {
		t.Errorf("asked %d times, first after %v: %v, %v", len(asked), asked[0].Sub(begun), r.CPU.ServerSeen, r.CPU.ServerUser)
	}
	if all := s.moved.Load(); r.Engine.RDMABytes == 0 || r.Engine.RDMABytes >= all {
		t.Errorf("%d bytes by RDMA of %d with the ramp; %d were read", r.Engine.RDMABytes, all, r.Traffic[0].Bytes)
	}
}

// counted is a store that counts what is done.
type counted struct {
	*store
	moved atomic.Uint64
}

func (c *counted) Do(u *engine.Unit) { c.store.Do(u); c.moved.Add(uint64(u.N)) }

func (c *counted) Stats() result.Engine {
	return result.Engine{Name: "counted", RDMABytes: c.moved.Load()}
}

// What a server uses is divided among the jobs that go to it at the time, as far as it tells.
func TestTab(t *testing.T) {
	const unknown = -1
	var s tab
	var a, b, c, d, e bill
	end := func(what string, of *bill, used, want time.Duration, known bool) {
		t.Helper()
		if got, ok := s.end(of, used); ok != known || ok && got != want {
			t.Errorf("%s: %v, %v, want %v, %v", what, got, ok, want, known)
		}
	}
	s.begin(&a, 10)
	s.begin(&b, 20)
	end("beside another from its begin to its end", &b, 30, 5, true)
	s.begin(&c, unknown)
	end("alone before and after that", &a, 50, 35, true)
	end("it did not answer at the begin", &c, 60, 0, false)
	s.begin(&d, 60)
	end("it did not answer at the end", &d, unknown, 0, false)
	s.begin(&e, 60)
	end("alone again", &e, 75, 15, true)
	s.begin(&a, 80)
	s.begin(&b, 70) // overtaken by the answer before
	end("what it tells later counts", &a, 90, 5, true)
}

// What the process uses is divided among those that run at the time.
func TestLedger(t *testing.T) {
	var c result.CPU
	l := ledger{used: func() result.CPU { return c }}
	use := func(d time.Duration) { c.User += d; c.Allocations += int64(d / time.Second) }
	var a, b account
	use(100 * time.Second) // before
	l.begin(&a)
	use(4 * time.Second)
	l.begin(&b)
	use(10 * time.Second)
	if got := l.of(&b); got.User != 5*time.Second {
		t.Errorf("b has %v so far", got.User)
	}
	l.end(&b)
	use(2 * time.Second)
	l.end(&a)
	use(50 * time.Second) // after
	if a, b := l.of(&a), l.of(&b); a.User != 11*time.Second || a.Allocations != 11 || b.User != 5*time.Second {
		t.Errorf("a %v, b %v", a, b)
	}
	l.begin(&b) // once more, from nothing
	use(3 * time.Second)
	if got := l.of(&b); got.User != 3*time.Second {
		t.Errorf("b has %v the second time", got.User)
	}
}

// Samples that a stalled machine takes at once, when it goes on, are one: those of next to no
// time have rates that nobody had, and cannot be told apart in milliseconds.
func TestSamplesAtOnce(t *testing.T) {
	const every = time.Hour // so that no machine is too slow for this
	w := &worker{job: &job.Job{RW: job.RW{Reads: true}}}
	w.begun, w.sampled = 1, now()-int64(every)
	for range 3 {
		w.res.Traffic[result.Read].Bytes += 3600 << 10
		w.sample(every)
	}
	points := w.res.Traffic[result.Read].Bandwidth.Points
	if len(points) != 1 || math.Abs(points[0].Value-1) > 0.1 {
		t.Errorf("%v, want one of 1 KiB/s", points)
	}
	w.sampled -= int64(every)
	w.sample(every)
	if points = w.res.Traffic[result.Read].Bandwidth.Points; len(points) != 2 || math.Abs(points[1].Value-2) > 0.2 {
		t.Errorf("%v, want what was not taken in the second", points)
	}
}
