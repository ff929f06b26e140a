package run

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
)

// A run that is told to end does so, and has what was measured until then.
func TestInterrupted(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*job.Job)
	}{
		{"a queue", func(*job.Job) {}},
		{"lanes", func(j *job.Job) { j.Offload, j.IODepth = true, 4 }},
		{"a rate", func(j *job.Job) { j.RateIOPS = [2]uint64{200, 0} }},
		{"lanes with a rate", func(j *job.Job) { j.RateIOPS, j.Offload = [2]uint64{200, 0}, true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := with(aJob("a", job.EngineNull, randReads, 4096, 1<<30), c.change)
			j.TimeBased, j.Runtime = true, time.Hour
			after := with(aJob("b", job.EngineNull, reads, 4096, 1<<20), func(j *job.Job) { j.Stonewall, j.Number = true, 2 })
			r, err := New(Config{Plan: &job.Plan{Jobs: []*job.Job{j, after}}})
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
			err = r.Do(ctx)
			stop()
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			rs := r.Results()
			if rs[0].Traffic[0].IOs == 0 || rs[0].Runtime <= 0 || rs[0].Error != nil || rs[1].Traffic[0].IOs != 0 {
				t.Errorf("%d I/Os in %v, %v; %d of the job behind", rs[0].Traffic[0].IOs, rs[0].Runtime, rs[0].Error, rs[1].Traffic[0].IOs)
			}
			if p := r.Snapshot(); p[0].State != Ended {
				t.Errorf("%+v", p)
			}
		})
	}
}

// stuck is a store whose reads do not end before Interrupt.
type stuck struct {
	*store
	reads chan struct{} // told of each
	gone  chan struct{}
}

var errGivenUp = errors.New("given up")

func (s *stuck) Do(u *engine.Unit) {
	select {
	case s.reads <- struct{}{}:
	default:
	}
	<-s.gone
	u.Err = errGivenUp
}

func (s *stuck) Interrupt() { close(s.gone) }

// A server that does not answer any more does not hold up the end.
func TestInterruptedWhileStuck(t *testing.T) {
	s := &stuck{newStore(1 << 20), make(chan struct{}, 1), make(chan struct{})}
	s.size = 1 << 20
	r, err := New(Config{Plan: &job.Plan{Jobs: []*job.Job{with(aJob("a", job.EngineNull, reads, 4096, 1<<20), func(j *job.Job) { j.IODepth = 4 })}}, Grace: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r.open = func(context.Context, engine.Spec) (engine.Target, error) { return s, nil }
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		<-s.reads
		stop()
	}()
	if err := r.Do(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, errGivenUp) {
		t.Errorf("error %v", err)
	}
}

// Jobs begin when those that they wait for have ended, and what is in the ramp does not
// count.
func TestOrder(t *testing.T) {
	var jobs []*job.Job
	for i, name := range []string{"first", "second", "third"} {
		jobs = append(jobs, with(aJob(name, job.EngineNull, reads, 4096, 1<<26), func(j *job.Job) { j.Number = i + 1 }))
	}
	jobs[1].Stonewall = true
	jobs[2].WaitFor = "second"
	rs, err := do(t, jobs...)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(rs); i++ {
		if before := rs[i-1].Start.Add(rs[i-1].Runtime); rs[i].Start.Before(before) {
			t.Errorf("%s began at %v, before %s had ended at %v", rs[i].Name, rs[i].Start, rs[i-1].Name, before)
		}
	}
	ramp := with(aJob("ramp", job.EngineNull, reads, 4096, 1<<30), func(j *job.Job) {
		j.TimeBased, j.Runtime, j.RampTime, j.RateIOPS = true, 60*time.Millisecond, 60*time.Millisecond, [2]uint64{1000, 0}
	})
	if rs, err = do(t, ramp); err != nil {
		t.Fatal(err)
	}
	if n := rs[0].Traffic[0].IOs; n > 120 || rs[0].Runtime > rs[0].Elapsed-ramp.RampTime {
		t.Errorf("%d I/Os in %v of %v", n, rs[0].Runtime, rs[0].Elapsed)
	}
}
