package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
	benchrun "github.com/smbd-rdma/smbd-rdma/bench/run"
)

const (
	// plainInterval is how often there is a line where it does not go to a terminal.
	plainInterval = 10 * time.Second
	// maxLatencyJobs is up to how many jobs the latencies so far are looked at while
	// they run: each has histograms that have to be copied.
	maxLatencyJobs = 64
	// fullBar is the length of the bar in parts.
	fullBar = 1000
)

// benchView shows how a bench goes: on a terminal a bar with what is moved, elsewhere a
// line now and then.
type benchView struct {
	plan   *job.Plan
	run    *benchrun.Run
	status func([]*result.Job)
	lines  io.Writer // nil: none
	p      *mpb.Progress
	bar    *mpb.Bar
	begun  time.Time
	ended  chan struct{}
	done   sync.WaitGroup

	mu   sync.Mutex
	text string // beside the bar; guarded by mu
	rate rate   // owned by the goroutine
}

// rate turns sums into rates.
type rate struct {
	at     time.Time
	before []benchrun.Progress // at that time
}

// newBenchView begins to show a run; stop ends it. status is called so often as
// --status-interval says.
func (a *app) newBenchView(plan *job.Plan, r *benchrun.Run, status func([]*result.Job)) *benchView {
	s := plan.Settings
	v := &benchView{plan: plan, run: r, status: status, begun: time.Now(), ended: make(chan struct{})}
	v.rate.at = v.begun
	every := s.ETAInterval
	f, isFile := a.stderr.(*os.File)
	switch terminal := isFile && term.IsTerminal(int(f.Fd())); {
	case s.ETA == "never":
		every = 0
	case terminal && s.ETANewline == 0:
		v.p = mpb.New(mpb.WithOutput(f), mpb.WithWidth(24), mpb.WithRefreshRate(200*time.Millisecond))
		v.bar = v.p.AddBar(fullBar, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Percentage(decor.WC{W: 5})),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
				v.mu.Lock()
				defer v.mu.Unlock()
				return v.text
			})))
	default:
		v.lines = a.stderr
		switch {
		case s.ETANewline > 0:
			every = s.ETANewline
		case s.ETA == "auto":
			every = plainInterval
		}
	}
	v.done.Go(func() { v.loop(every, s.StatusInterval) }) // until stop
	return v
}

// stop ends the view and takes it away.
func (v *benchView) stop() {
	close(v.ended)
	v.done.Wait()
	if v.bar != nil {
		v.bar.Abort(true)
		v.p.Wait()
	}
}

// loop shows what there is at each interval; 0 is never.
func (v *benchView) loop(every, status time.Duration) {
	show, stopShow := ticks(every)
	defer stopShow()
	whole, stopWhole := ticks(status)
	defer stopWhole()
	for {
		select {
		case <-v.ended:
			return
		case now := <-show:
			v.show(now)
		case <-whole:
			v.status(v.run.Results())
		}
	}
}

// ticks is a ticker, or one that never ticks.
func ticks(every time.Duration) (<-chan time.Time, func()) {
	if every <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(every)
	return t.C, t.Stop
}

func (v *benchView) show(now time.Time) {
	snapshot := v.run.Snapshot()
	var lat result.Latency
	if len(snapshot) <= maxLatencyJobs {
		lat = latencies(v.plan, snapshot, v.run.Results())
	}
	done, left := overall(v.plan, snapshot)
	text := v.rate.line(now, snapshot, &lat)
	if left > 0 {
		text += fmt.Sprintf("  %v left", left.Round(time.Second))
	}
	if v.bar != nil {
		v.mu.Lock()
		v.text = text
		v.mu.Unlock()
		v.bar.SetCurrent(int64(done * fullBar))
		return
	}
	fmt.Fprintf(v.lines, "%v: %.0f%%  %s\n", now.Sub(v.begun).Round(time.Second), done*100, text)
}

// latencies are those so far of the jobs that do I/O now, beside whose names they stand: with
// a rate, of which lateness is a part, the total, else the completion.
func latencies(plan *job.Plan, snapshot []benchrun.Progress, results []*result.Job) result.Latency {
	var sum result.Latency
	for i, r := range results {
		if s := snapshot[i].State; s != benchrun.Ramping && s != benchrun.Running && s != benchrun.Verifying {
			continue
		}
		j := plan.Jobs[i]
		for d := range job.Directions {
			t := &r.Traffic[d]
			if j.Rate[d] > 0 || j.RateIOPS[d] > 0 {
				sum.Merge(&t.Total)
			} else {
				sum.Merge(&t.Completion)
			}
		}
	}
	return sum
}

// overall is the share of all jobs that is done, and how long the rest will take, as far as
// that is known: of those that run side by side the longest, one stonewall after the other.
func overall(plan *job.Plan, snapshot []benchrun.Progress) (done float64, left time.Duration) {
	longest := time.Duration(0)
	for i, p := range snapshot {
		done += p.Done / float64(len(snapshot))
		if plan.Jobs[i].Stonewall {
			left += longest
			longest = 0
		}
		longest = max(longest, p.Left)
	}
	return min(done, 1), left + longest
}

// line says what the jobs that measure now have moved since the last call, or since they
// began, and the latencies so far.
func (r *rate) line(now time.Time, snapshot []benchrun.Progress, lat *result.Latency) string {
	var bytes, ios [2]float64 // a second
	var moved [2]bool
	var names []string
	for i, p := range snapshot {
		if seconds := min(now.Sub(r.at), p.Ran).Seconds(); seconds > 0 {
			var before benchrun.Progress
			if i < len(r.before) {
				before = r.before[i]
			}
			for d := range bytes {
				moved[d] = moved[d] || p.Bytes[d] > 0
				bytes[d] += float64(p.Bytes[d]-before.Bytes[d]) / seconds
				ios[d] += float64(p.IOs[d]-before.IOs[d]) / seconds
			}
		}
		if word := stateWord(p.State); word != "" {
			if entry := p.Name + word; len(names) == 0 || names[len(names)-1] != entry {
				names = append(names, entry)
			}
		}
	}
	var b strings.Builder
	if len(names) > 3 {
		names = append(names[:3], "...")
	}
	b.WriteString(printable(strings.Join(names, ", ")))
	for d, word := range []string{"read", "write"} {
		if moved[d] {
			fmt.Fprintf(&b, "  %s %s/s %s IOPS", word, inUnits(bytes[d]), counted(int64(ios[d])))
		}
	}
	if lat.Count() > 0 {
		for _, p := range []struct {
			name string
			of   float64
		}{{"p50", 50}, {"p99", 99}, {"p99.9", 99.9}} {
			fmt.Fprintf(&b, "  %s %v", p.name, roundLatency(time.Duration(lat.Percentile(p.of))))
		}
	}
	r.at, r.before = now, snapshot
	return strings.TrimSpace(b.String())
}

// inUnits is a number of bytes with a decimal and a unit. The bar's own units call a byte b.
func inUnits(bytes float64) string {
	if bytes = max(bytes, 0); bytes < 1024 {
		return fmt.Sprintf("%.0f B", bytes)
	}
	return fmt.Sprintf("% .1f", decor.SizeB1024(bytes))
}

// stateWord says what a job does if it does not simply run; "" says that it need not be
// named.
func stateWord(s benchrun.State) string {
	switch s {
	case benchrun.Preparing:
		return " (preparing)"
	case benchrun.Ramping:
		return " (ramp)"
	case benchrun.Running:
		return ":"
	case benchrun.Verifying:
		return " (verifying)"
	}
	return ""
}

// roundLatency leaves three digits.
func roundLatency(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
