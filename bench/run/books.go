package run

import (
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// begin starts the clocks.
func (w *worker) begin() {
	j := w.job
	server := time.Duration(-1)
	if j.RampTime == 0 {
		server = serverCPU(j.Remote.Metrics)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t := now()
	w.state = Running
	w.begun, w.last, w.sampled = t, t, t
	w.res.Start = time.Now()
	if j.RampTime > 0 {
		w.state = Ramping
		w.ramp = t + int64(j.RampTime)
	}
	if j.Runtime > 0 {
		w.ends = t + int64(j.RampTime) + int64(j.Runtime)
	}
	for d := range w.pace {
		w.pace[d] = newPace(j, job.Direction(d))
		w.pace[d].next = float64(t)
	}
	w.engine = w.target.Stats()
	w.tab.begin(&w.bill, server)
	w.run.cpu.begin(&w.cpu)
	if w.logs != nil {
		w.logs.begin(t)
	}
}

// counts says whether what ends at t is measured, and forgets the ramp. mu is held.
func (w *worker) counts(t int64) bool {
	if w.ramp == 0 {
		return true
	}
	if t < w.ramp {
		return false
	}
	t = w.ramp // and not when the first I/O after it ended: what is rare takes long
	w.ramp, w.state = 0, Running
	w.res.Depths, w.res.Submits, w.res.Completes = [7]int64{}, [7]int64{}, [7]int64{}
	w.begun, w.last, w.sampled = t, t, t
	w.res.Start = time.Now().Add(time.Duration(t - now()))
	w.run.cpu.begin(&w.cpu)
	w.engine = w.target.Stats()
	if w.logs != nil {
		w.logs.begin(t)
	}
	return true
}

// askAfterRamp asks the server what it has used when the ramp is over, beside the I/O. The
// function that it returns ends that.
func (w *worker) askAfterRamp() func() {
	if w.job.RampTime == 0 || w.job.Remote.Metrics == "" {
		return func() {}
	}
	gone := make(chan struct{})
	var asker sync.WaitGroup
	asker.Go(func() {
		t := time.NewTimer(w.job.RampTime)
		defer t.Stop()
		select {
		case <-gone:
			return
		case <-t.C:
		}
		server := serverCPU(w.job.Remote.Metrics)
		w.mu.Lock()
		if w.begun != 0 { // else it has ended meanwhile
			w.tab.begin(&w.bill, server)
		}
		w.mu.Unlock()
	})
	return func() {
		close(gone)
		asker.Wait()
	}
}

// runOut stays until the time of the job is over, in which no other I/O is due, and
// counts that in: what ends with its time, or is told to, has run until then, also if it
// had nothing to do at last. All I/O has ended.
func (w *worker) runOut() {
	w.mu.Lock()
	timed, ends, failed := w.timed, w.ends, w.err != nil
	w.mu.Unlock()
	if timed && !failed {
		until(ends, w.stopped)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case failed:
	case timed:
		w.last = max(w.last, min(now(), ends), w.ceased)
	case w.stopped():
		w.last = max(w.last, w.ceased)
	}
}

// lastEnd is when the last I/O ended.
func (w *worker) lastEnd() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// finish stops the clocks.
func (w *worker) finish() {
	server := serverCPU(w.job.Remote.Metrics)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts(now())
	w.closeBooks(&w.res, w.last)
	if share, known := w.tab.end(&w.bill, server); known {
		w.res.CPU.ServerSeen, w.res.CPU.ServerUser = true, share
	}
	w.run.cpu.end(&w.cpu)
	w.begun = 0
	w.prof.done()
}

// closeBooks works out what is known of the whole until an end, on the clock: times, and
// costs, but for the server's. mu is held.
func (w *worker) closeBooks(r *result.Job, end int64) {
	r.Runtime = time.Duration(max(end-w.begun, 0))
	r.JobRuntime = r.Runtime
	for d := range r.Traffic {
		if r.Traffic[d].IOs > 0 {
			r.Traffic[d].Runtime = r.Runtime
		}
	}
	r.CPU = w.run.cpu.of(&w.cpu)
	if w.target != nil {
		r.Engine = w.target.Stats().Since(&w.engine)
	}
	if w.tuner != nil {
		r.Latency.Depth, r.Latency.Met = w.tuner.depth, w.tuner.low > 0
	}
}
