package run

import (
	"fmt"
	"math"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// sample takes bandwidth and IOPS since the last time, which is to be every so often. What
// comes much too soon, as after a stall of the machine or just after the job began, is left
// to the next: it would be a point of next to no time, and of a rate that nobody had.
func (w *worker) sample(every time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun == 0 || w.ramp != 0 {
		return
	}
	t := now()
	dt := float64(t-w.sampled) / 1e9
	if dt < every.Seconds()/2 {
		return
	}
	at := time.Duration(t - w.begun)
	w.sampled = t
	for d := range w.before {
		if !w.job.RW.Has(job.Direction(d)) {
			continue
		}
		r := &w.res.Traffic[d]
		if n := r.Bytes - w.before[d][0]; n >= 0 && !w.job.DisableBW {
			r.Bandwidth.Add(at, float64(n)/1024/dt)
			r.IOPS.Add(at, float64(r.IOs-w.before[d][1])/dt)
		}
		w.before[d] = [2]int64{r.Bytes, r.IOs}
	}
	w.keepsUp(t)
}

// keepsUp ends a job that is slower than rate_min or rate_iops_min. mu is held.
func (w *worker) keepsUp(t int64) {
	cycle := int64(w.job.RateCycle)
	if cycle <= 0 {
		cycle = 1e9
	}
	if w.cycle < w.begun {
		w.cycle = w.begun
	}
	if t-w.cycle < cycle {
		return
	}
	seconds := float64(t-w.cycle) / 1e9
	for d := range w.atCycle {
		r := &w.res.Traffic[d]
		bytes, ios := float64(r.Bytes-w.atCycle[d][0])/seconds, float64(r.IOs-w.atCycle[d][1])/seconds
		w.atCycle[d] = [2]int64{r.Bytes, r.IOs}
		if least := float64(w.job.RateMin[d]); bytes < least {
			w.fail(fmt.Errorf("%ss of %.0f bytes a second are below rate_min %.0f", job.Direction(d), bytes, least))
		}
		if least := float64(w.job.RateIOPSMin[d]); ios < least {
			w.fail(fmt.Errorf("%.1f %ss a second are below rate_iops_min %.0f", ios, job.Direction(d), least))
		}
	}
	w.cycle = t
}

// result is a copy of what was measured so far.
func (w *worker) result() *result.Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.res.Clone()
	if w.begun != 0 && w.ramp == 0 {
		w.closeBooks(c, now()) // also while nothing comes back
	}
	if w.err != nil {
		c.Error = w.err
	}
	return c
}

func (w *worker) progress() Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := Progress{Name: w.job.Name, State: w.state}
	for d := range p.Bytes {
		p.Bytes[d], p.IOs[d] = w.res.Traffic[d].Bytes, w.res.Traffic[d].IOs
	}
	switch {
	case w.state == Ended:
		p.Done = 1
	case w.state == Waiting && w.job.Runtime > 0:
		p.Left = w.job.StartDelay + w.job.RampTime + w.job.Runtime
	case w.state == Ramping && w.ends > 0:
		p.Left = time.Duration(max(w.ends-now(), 0))
	case w.state == Running && w.begun > 0:
		ran := now() - w.begun
		p.Ran = time.Duration(ran)
		if w.total > 0 && !w.job.TimeBased {
			p.Done = float64(p.Bytes[0]+p.Bytes[1]) / (float64(w.total) * float64(max(w.job.Loops, 1)))
		}
		if w.ends > 0 {
			p.Done = max(p.Done, float64(ran)/float64(w.ends-w.begun))
		}
		p.Done = min(p.Done, 1)
		if p.Done > 0 {
			p.Left = time.Duration(min(float64(ran)*(1-p.Done)/p.Done, math.MaxInt64/2))
		}
	}
	return p
}
