package run

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/pattern"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// worker is a job that runs.
type worker struct {
	run    *Run
	job    *job.Job
	tab    *tab // of the server, by its metrics=
	target engine.Target
	files  []string
	bufs   *engine.Buffers
	fill   []*pattern.Filler // by slot
	units  []engine.Unit
	flying []bool    // by slot: guarded by mu, kept for verify alone
	prof   *profiler // nil without
	seals  *seals    // of written blocks; nil without verify
	logs   *logs     // nil without; guarded by mu
	quit   atomic.Bool
	ended  chan struct{} // closed at the end

	// limit is how many I/Os may be under way now; parked waits for it to grow.
	parked sync.Cond

	mu sync.Mutex
	// guarded by mu
	state    State
	gen      *pattern.Generator
	io       pattern.IO
	held     bool // io was made and not used
	total    int64
	loops    int
	pace     [2]pace
	pause    int64 // no I/O before, for thinktime
	think    int   // I/Os since the last pause
	issued   uint64
	inflight int
	limit    int
	tuner    *tuner
	seq      uint64 // of the next write
	unsynced int    // writes since fsync, fdatasync
	undata   int
	ends     int64 // on the clock; 0: when all is done
	ramp     int64 // on the clock; before it nothing counts
	over     bool  // no I/O is to begin
	timed    bool  // as its time is up, or will be before the next is due
	ceased   int64 // the clock when that was known
	err      error
	res      result.Job
	begun    int64 // on the clock, of what is measured
	last     int64 // the end of the last I/O
	sampled  int64
	before   [2][2]int64 // bytes and I/Os at the last sample
	cycle    int64       // the beginning of the cycle of rate_min
	atCycle  [2][2]int64
	cpu      account
	bill     bill
	engine   result.Engine // what the engine had done when the measuring began
}

func newWorker(r *Run, j *job.Job) (*worker, error) {
	if err := refused(j); err != nil {
		return nil, err
	}
	w := &worker{run: r, job: j, files: j.Files, ended: make(chan struct{})}
	if len(w.files) == 0 {
		w.files = []string{j.Name}
	}
	w.parked.L = &w.mu
	w.limit = max(j.IODepth, 1)
	w.res = result.Job{Name: j.Name, Description: j.Description, Group: j.Group, Jobs: 1, Depth: w.limit, Start: r.begun}
	for _, o := range j.Options {
		w.res.Options = append(w.res.Options, result.Option{Name: o.Name, Value: o.Value})
	}
	if w.tuner = newTuner(j); w.tuner != nil {
		w.limit = w.tuner.depth
		w.res.Latency = result.Target{Target: j.LatencyTarget, Window: j.LatencyWindow, Percentile: j.LatencyPercentile}
	}
	w.res.Engine.Name = string(j.Engine)
	return w, nil
}

// live is the whole life of a job. It calls start when it is prepared.
func (w *worker) live(ctx context.Context, start func()) {
	opened := time.Now()
	err := w.work(ctx, start)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.err == nil {
		w.err = err
	}
	w.state = Ended
	w.res.Elapsed = time.Since(opened)
}

func (w *worker) work(ctx context.Context, start func()) (err error) {
	j := w.job
	if w.stopped() {
		return nil
	}
	w.become(Preparing)
	// Who connects does not wait for ever when the run is told to end.
	w.target, err = w.run.open(ctx, engine.Spec{Engine: j.Engine, Remote: j.Remote, Depth: max(j.IODepth, 1), MaxSize: longest(j),
		Size: j.Size.Bytes, Files: max(j.NrFiles, 1)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.target.Close()) }()
	// Once the run has been told to end, I/Os get a grace, and then are given up.
	defer w.interruptAfter(ctx)()
	if err := w.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.bufs.Close()) }()
	defer func() { err = errors.Join(err, w.cleanUp(context.WithoutCancel(ctx))) }()
	if j.CreateOnly {
		return nil
	}
	if w.logs, err = openLogs(&w.run.logs, j); err != nil {
		return err
	}
	if w.logs != nil {
		defer func() { err = errors.Join(err, w.logs.close(w.lastEnd())) }()
	}
	start()
	if d := w.delay(); d > 0 {
		w.become(Waiting)
		until(now()+int64(d), w.stopped)
	}
	if w.stopped() {
		return nil
	}
	w.begin()
	defer w.askAfterRamp()()
	if !j.VerifyOnly {
		err = w.transfer()
	} else {
		w.replay()
	}
	w.finish()
	if err == nil && w.failure() == nil && w.seals != nil && j.RW.Writes && (j.DoVerify || j.VerifyOnly) && !w.stopped() {
		w.become(Verifying)
		err = w.readBack()
	}
	return err
}

// interruptAfter gives up I/Os that have not ended a while after ctx. The function that
// it returns ends that.
func (w *worker) interruptAfter(ctx context.Context) func() {
	i, ok := w.target.(engine.Interrupter)
	if !ok {
		return func() {}
	}
	gone := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-gone:
			return
		case <-ctx.Done():
		}
		t := time.NewTimer(w.run.cfg.Grace)
		defer t.Stop()
		select {
		case <-gone:
		case <-t.C:
			i.Interrupt()
		}
	})
	return func() {
		close(gone)
		watch.Wait()
	}
}

func (w *worker) delay() time.Duration {
	lo, hi := w.job.StartDelay, w.job.StartDelayMax
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(pattern.NewRandom(w.job.RandSeed, uint64(w.job.Number)+9000).Below(uint64(hi-lo+1)))
}

// longest is the longest I/O of a job, in bytes.
func longest(j *job.Job) int {
	n := uint64(1)
	for d := range j.MaxBS {
		if j.RW.Has(job.Direction(d)) {
			n = max(n, j.MaxBS[d])
			for _, s := range j.BSSplit[d] {
				n = max(n, s.Size)
			}
		}
	}
	return int(min(n, job.MaxBlock))
}

// become says where the job is.
func (w *worker) become(s State) {
	w.mu.Lock()
	w.state = s
	w.mu.Unlock()
}

func (w *worker) stopped() bool { return w.quit.Load() || w.run.stop.Load() }

func (w *worker) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
