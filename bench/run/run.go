package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// Config says what is run, and with what.
type Config struct {
	Plan *job.Plan
	Env  *engine.Env // nil: engines that need nothing
	// Logger gets what an operator may want to know; nil means silence.
	Logger *slog.Logger
	// Grace is how long I/Os may take to end once the run is told to; 0 means 5 s. Then
	// those that can be are given up.
	Grace time.Duration
	// Profile takes a profile of the processor's time while jobs measure. Who takes one of
	// the whole process already has none here.
	Profile bool
}

// ErrOverwrite is matched by the error of a job that would write into, or delete, a file
// which was there before.
var ErrOverwrite = errors.New("the file was there before this run: name another one, or allow it to be overwritten")

// ErrVerify is matched by errors about data that is not what was written. It matches the
// error number that fio has for them as well.
var ErrVerify error = verifyError{}

type verifyError struct{}

func (verifyError) Error() string { return "verify" }
func (verifyError) Unwrap() error { return syscall.EILSEQ }

// Run is one run of a plan. Snapshot and Results may be called by anybody at any time.
type Run struct {
	cfg     Config
	log     *slog.Logger
	workers []*worker
	begun   time.Time
	created sync.Map   // names of files that this run made
	layout  sync.Mutex // held by who lays out files, with create_serialize
	cpu     ledger     // what this process uses, among the jobs that run
	stop    atomic.Bool
	logs    logFiles
	open    func(context.Context, engine.Spec) (engine.Target, error) // Config.Env's
}

// New makes a run of a plan, which is not changed.
func New(cfg Config) (*Run, error) {
	if cfg.Plan == nil || len(cfg.Plan.Jobs) == 0 {
		return nil, errors.New("no jobs")
	}
	if cfg.Env == nil {
		cfg.Env = new(engine.Env)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Grace = cmp.Or(cfg.Grace, 5*time.Second)
	r := &Run{cfg: cfg, log: cfg.Logger, begun: time.Now(), open: cfg.Env.New}
	tabs := make(map[string]*tab)
	for _, j := range cfg.Plan.Jobs {
		w, err := newWorker(r, j)
		if err != nil {
			return nil, err
		}
		r.workers = append(r.workers, w)
		url := j.Remote.Metrics
		if tabs[url] == nil {
			tabs[url] = new(tab)
		}
		w.tab = tabs[url]
	}
	return r, nil
}

// Do runs the plan. What was measured is in Results, also after an error, which says
// what went wrong in each job; if ctx ended it matches ctx.Err().
func (r *Run) Do(ctx context.Context) error {
	r.begun = time.Now()
	unwatch := context.AfterFunc(ctx, func() { r.stop.Store(true) })
	defer unwatch()
	for i := 0; i < len(r.workers); {
		k := i + 1
		for k < len(r.workers) && !r.workers[k].job.Stonewall {
			k++
		}
		if ctx.Err() == nil {
			r.batch(ctx, r.workers[i:k])
		}
		i = k
		if r.stop.Load() {
			break
		}
	}
	errs := []error{r.logs.close()}
	for _, w := range r.workers {
		if err := w.failure(); err != nil {
			errs = append(errs, fmt.Errorf("job %s: %w", w.job.Name, err))
		}
	}
	if ctx.Err() != nil {
		errs = append(errs, context.Cause(ctx))
	}
	return errors.Join(errs...)
}

// batch runs jobs side by side, from their preparations to their end.
func (r *Run) batch(ctx context.Context, ws []*worker) {
	var (
		all     sync.WaitGroup
		ready   sync.WaitGroup
		started = make(chan struct{})
		ended   = make(chan struct{})
		ticks   sync.WaitGroup
		prof    *profiler
	)
	if r.cfg.Profile {
		prof = newProfiler(r.log, ws)
	}
	quota := make([]*worker, 0, len(ws))
	for _, w := range ws {
		if w.job.WaitFor == "" {
			quota = append(quota, w)
		}
	}
	ready.Add(len(quota))
	for i, w := range ws {
		w.prof = prof
		all.Go(func() {
			ctx := prof.label(ctx, i)
			defer close(w.ended)
			prepared := sync.OnceFunc(ready.Done)
			if w.job.WaitFor != "" {
				prepared = func() {}
				for _, o := range r.workers {
					if o == w {
						break
					}
					if o.job.Name == w.job.WaitFor {
						<-o.ended
					}
				}
			}
			w.live(ctx, func() { prepared(); <-started })
			prepared() // also where it did not get so far
			r.exitAll(w, ws)
		})
	}
	ticks.Go(func() { r.sample(ws, ended) })
	ready.Wait()
	if prof != nil {
		ticks.Go(func() { prof.take(ended) })
	}
	close(started)
	all.Wait()
	close(ended)
	ticks.Wait()
	if prof != nil {
		prof.book(ws)
	}
}

// exitAll ends those that are to end with w.
func (r *Run) exitAll(w *worker, ws []*worker) {
	if !w.job.ExitAll && !(w.job.ExitAllOnError && w.failure() != nil) {
		return
	}
	for _, o := range ws {
		if w.job.ExitWhat != job.ExitGroup || o.job.Group == w.job.Group {
			o.quit.Store(true)
		}
	}
	if w.job.ExitWhat == job.ExitEverything {
		r.stop.Store(true)
	}
}

// sample takes bandwidth and IOPS of jobs until they have ended.
func (r *Run) sample(ws []*worker, ended <-chan struct{}) {
	every := 500 * time.Millisecond
	for _, w := range ws {
		for _, d := range []time.Duration{w.job.BWAvgTime, w.job.IOPSAvgTime} {
			if d > 0 {
				every = min(every, max(d, 10*time.Millisecond))
			}
		}
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ended:
			return
		case <-t.C:
			for _, w := range ws {
				w.sample(every)
			}
		}
	}
}

// Results are copies of what the jobs have measured so far, in the order of the plan.
func (r *Run) Results() []*result.Job {
	out := make([]*result.Job, 0, len(r.workers))
	for _, w := range r.workers {
		out = append(out, w.result())
	}
	return out
}

// State is where a job is in its life.
type State int

const (
	Waiting State = iota
	Preparing
	Ramping
	Running
	Verifying
	Ended
)

// Progress is where a job is.
type Progress struct {
	Name  string
	State State
	// Bytes and IOs are what was read and written since the ramp.
	Bytes, IOs [2]int64
	// Ran is for how long it has measured, while it is Running.
	Ran time.Duration
	// Done is the share of the job that is done, 0 to 1; Left what is likely to remain, 0
	// where that is not known.
	Done float64
	Left time.Duration
}

// Snapshot says where each job is.
func (r *Run) Snapshot() []Progress {
	out := make([]Progress, 0, len(r.workers))
	for _, w := range r.workers {
		out = append(out, w.progress())
	}
	return out
}
