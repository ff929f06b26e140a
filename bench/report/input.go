package report

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// Input is what a report is made of.
type Input struct {
	Plan *job.Plan
	// Results are those of Plan.Jobs, in their order.
	Results []*result.Job
	// Runs are the results of all repetitions, each like Results, which is one of them;
	// empty if there was none but that.
	Runs    [][]*result.Job
	Version string // of this program
	Command string // that was given, without passwords
	Time    time.Time
}

// Write writes the report in a form.
func Write(w io.Writer, f job.Format, in Input) error {
	if len(in.Results) != len(in.Plan.Jobs) {
		return fmt.Errorf("report: %d results of %d jobs", len(in.Results), len(in.Plan.Jobs))
	}
	for _, run := range in.Runs {
		if len(run) != len(in.Plan.Jobs) {
			return fmt.Errorf("report: %d results of %d jobs in a repetition", len(run), len(in.Plan.Jobs))
		}
	}
	switch f {
	case job.FormatNormal:
		return normal(w, in)
	case job.FormatTerse:
		return terse(w, in)
	case job.FormatJSON:
		return jsonForm(w, in, false)
	case job.FormatJSONPlus:
		return jsonForm(w, in, true)
	}
	return fmt.Errorf("report: no form %q", f)
}

// entry is a job of a report, or a group of them.
type entry struct {
	job  *job.Job
	res  *result.Job
	runs []*result.Job              // of all repetitions
	sum  [result.Directions]float64 // bytes a second of the whole group, by direction
}

// share is the part of a direction of the group, in percent, that the samples of
// bandwidth are.
func (e *entry) share(d result.Direction) float64 {
	b := &e.res.Traffic[d].Bandwidth
	if b.Count() == 0 || e.sum[d] <= 0 {
		return 0
	}
	return min(100, 100*b.Mean()*1024/e.sum[d])
}

// sums are the bytes a second of a group, by direction: all of them, in the time of the
// job that took the longest.
func (in *Input) sums(group int) (sum [result.Directions]float64) {
	for d := range sum {
		var all result.Traffic
		for i, j := range in.Plan.Jobs {
			if t := &in.Results[i].Traffic[d]; j.Group == group {
				all.Bytes += t.Bytes
				all.Runtime = max(all.Runtime, t.Runtime)
			}
		}
		sum[d] = all.BytesPerSecond()
	}
	return sum
}

// entries are the jobs, those with group_reporting added up.
func (in *Input) entries() []entry {
	out := in.added(in.Results)
	runs := in.Runs
	if len(runs) == 0 {
		runs = [][]*result.Job{in.Results}
	}
	for _, run := range runs {
		for i, e := range in.added(run) {
			out[i].runs = append(out[i].runs, e.res)
		}
	}
	return out
}

// added are the entries of one repetition.
func (in *Input) added(results []*result.Job) []entry {
	var out []entry
	group := make(map[int]int)
	for i, j := range in.Plan.Jobs {
		if !j.Stats {
			continue
		}
		if j.GroupReporting {
			if k, ok := group[j.Group]; ok {
				out[k].res.Merge(results[i])
				continue
			}
			group[j.Group] = len(out)
			sum := new(result.Job)
			sum.Merge(results[i])
			out = append(out, entry{job: j, res: sum, sum: in.sums(j.Group)})
			continue
		}
		out = append(out, entry{job: j, res: results[i], sum: in.sums(j.Group)})
	}
	return out
}

// defaultPercentiles are fio's.
var defaultPercentiles = []float64{1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99}

func (e *entry) percentiles() []float64 {
	if len(e.job.PercentileList) > 0 {
		return e.job.PercentileList
	}
	return defaultPercentiles
}

// rated says that the job was an open loop, whose honest latency is the total.
func (e *entry) rated() bool {
	for d := range e.job.Rate {
		if e.job.Rate[d] > 0 || e.job.RateIOPS[d] > 0 {
			return true
		}
	}
	return false
}

// errno is the number of an error, as fio has it.
func errno(err error) int {
	var n syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &n):
		return int(n)
	}
	return int(syscall.EIO)
}

// The classes of fio's latency tables: a class is below its value and not below the one
// before.
var (
	nsClasses = []int64{2, 4, 10, 20, 50, 100, 250, 500, 750, 1000}
	msClasses = []int64{2, 4, 10, 20, 50, 100, 250, 500, 750, 1000, 2000}
)

// spread is how many percent of the I/Os are in each class, of nanoseconds, microseconds
// and milliseconds; the last of milliseconds is 2000 and more.
func spread(r *result.Job) (ns, us, ms []float64) {
	ns, us, ms = make([]float64, len(nsClasses)), make([]float64, len(nsClasses)), make([]float64, len(msClasses)+1)
	total := int64(0)
	for d := range r.Traffic {
		l := &r.Traffic[d].Completion
		total += l.Count()
		for _, b := range l.Bins() {
			switch v := b.From; {
			case v < 1000:
				ns[class(nsClasses, v)] += float64(b.Count)
			case v < 1e6:
				us[class(nsClasses, v/1000)] += float64(b.Count)
			default:
				ms[class(msClasses, v/1e6)] += float64(b.Count)
			}
		}
	}
	for _, s := range [][]float64{ns, us, ms} {
		for i := range s {
			if total > 0 {
				s[i] *= 100 / float64(total)
			}
		}
	}
	return ns, us, ms
}

func class(bounds []int64, v int64) int {
	for i, b := range bounds {
		if v < b {
			return i
		}
	}
	return len(bounds)
}

// shares are counts in percent of their sum.
func shares(counts [7]int64) (out [7]float64) {
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	for i, n := range counts {
		if total > 0 {
			out[i] = float64(n) * 100 / float64(total)
		}
	}
	return out
}

// perCent of a whole.
func perCent(part, whole time.Duration) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(part) * 100 / float64(whole)
}

// perGiB is seconds for each GiB that was moved.
func perGiB(d time.Duration, bytes int64) float64 {
	if bytes <= 0 {
		return 0
	}
	return d.Seconds() * (1 << 30) / float64(bytes)
}
