package run

import (
	"math"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/pattern"
)

// pace says when the I/Os of one direction are due.
type pace struct {
	perByte float64 // nanoseconds
	perIO   float64
	random  *pattern.Random // of a Poisson process; nil: at equal distances
	next    float64         // on the clock
}

func newPace(j *job.Job, d job.Direction) pace {
	var p pace
	if r := j.Rate[d]; r > 0 {
		p.perByte = 1e9 / float64(r)
	}
	if r := j.RateIOPS[d]; r > 0 {
		p.perIO = 1e9 / float64(r)
	}
	if j.RatePoisson {
		p.random = pattern.NewRandom(j.RandSeed, uint64(j.Number)<<8+uint64(d)+40)
	}
	return p
}

func (p *pace) on() bool { return p.perByte > 0 || p.perIO > 0 }

// due is when an I/O of so many bytes begins, and moves on to the next.
func (p *pace) due(bytes int64) int64 {
	at := p.next
	step := max(p.perByte*float64(bytes), p.perIO)
	if p.random != nil {
		step *= -math.Log(1 - p.random.Float())
	}
	p.next += step
	return int64(at)
}

// tuner looks for the highest depth at which latencies keep to their target, by halves.
type tuner struct {
	target, window int64
	percentile     float64
	low, high      int // met it; the highest that may
	depth          int
	begun          int64
	n, over        int64
	found          bool
}

func newTuner(j *job.Job) *tuner {
	if j.LatencyTarget <= 0 {
		return nil
	}
	t := &tuner{target: int64(j.LatencyTarget), window: int64(j.LatencyWindow), percentile: j.LatencyPercentile, high: max(j.IODepth, 1), depth: 1}
	if t.percentile <= 0 {
		t.percentile = 100
	}
	if t.window <= 0 {
		t.window = 1e9
	}
	return t
}

// add books a latency, and says whether the search has ended with it.
func (t *tuner) add(at, latency int64) bool {
	if t.found {
		return false
	}
	if t.n == 0 {
		t.begun = at
	}
	t.n++
	if latency > t.target {
		t.over++
	}
	if at-t.begun < t.window {
		return false
	}
	if float64(t.over)*100 <= (100-t.percentile)*float64(t.n) {
		t.low = t.depth
	} else {
		t.high = t.depth - 1
	}
	t.n, t.over = 0, 0
	if t.high <= t.low {
		t.found, t.depth = true, max(t.low, 1)
		return true
	}
	if t.depth = (t.low + t.high + 1) / 2; t.low > 0 && 2*t.low < t.high {
		t.depth = 2 * t.low // from below: a queue that is far too deep takes long to drain
	}
	return false
}
