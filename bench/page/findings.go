package page

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"

	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

// finding is what a group of series comes to.
type finding struct {
	Load    string
	Best    string
	Summary string
	Reasons []string
}

// leastRuns is how many runs each side needs before a test can tell them from noise.
const leastRuns = 4

// notable is a ratio that is worth a sentence.
const notable = 1.15

// findings says of every kind of work that several did who is fastest, and what else
// differs that may be why.
func findings(all []*series) (out []finding) {
	for _, g := range groups(all) {
		if len(g) < 2 || g[1].traffic.Bandwidth <= 0 {
			continue
		}
		best := g[0]
		f := finding{Load: best.load().String(), Best: best.label}
		figure := saved.BytesPerSecond.Format(best.traffic.Bandwidth)
		if best.load().small() {
			figure = saved.PerSecond.Format(best.traffic.IOPS) + " I/O a second"
		}
		var others []string
		for _, o := range g[1:] {
			others = append(others, fmt.Sprintf("%s times that of %s%s", ratio(best.traffic.Bandwidth/o.traffic.Bandwidth), o.label, doubt(best, o)))
		}
		f.Summary = fmt.Sprintf("%s: %s.", figure, enumerate(others))
		f.Reasons = reasons(best, g[1])
		out = append(out, f)
	}
	return out
}

// doubt says whether a difference may be the noise of the runs.
func doubt(a, b *series) string {
	x, y := a.traffic.Runs.Bandwidth, b.traffic.Runs.Bandwidth
	if min(len(x), len(y)) < leastRuns {
		return ""
	}
	t := benchmath.DefaultThresholds
	c := benchmath.AssumeNothing.Compare(benchmath.NewSample(slices.Clone(x), &t), benchmath.NewSample(slices.Clone(y), &t))
	if c.P > c.Alpha {
		return fmt.Sprintf(" (within the noise of %d and %d runs, p=%.2f)", c.N1, c.N2, c.P)
	}
	return fmt.Sprintf(" (more than the noise of %d and %d runs, p=%.3f)", c.N1, c.N2, c.P)
}

// reasons are what differs between the fastest and the second.
func reasons(a, b *series) (out []string) {
	compare := func(what string, unit saved.Unit, x, y float64) {
		if x < 0 || y < 0 || x == 0 && y == 0 {
			return
		}
		switch {
		case x > 0 && y/x >= notable:
			out = append(out, fmt.Sprintf("%s of %s is 1/%s of that of %s: %s against %s.", what, a.label, ratio(y/x), b.label, unit.Format(x), unit.Format(y)))
		case y > 0 && x/y >= notable:
			out = append(out, fmt.Sprintf("%s of %s is %s times that of %s: %s against %s.", what, a.label, ratio(x/y), b.label, unit.Format(x), unit.Format(y)))
		}
	}
	compare("Client CPU", saved.SecondsPerGiB, a.job.ClientCPU, b.job.ClientCPU)
	compare("Server CPU", saved.SecondsPerGiB, a.job.ServerCPU, b.job.ServerCPU)
	for _, p := range []float64{50, 99, 99.9} {
		x, okX := a.traffic.Latency.Percentile(p)
		y, okY := b.traffic.Latency.Percentile(p)
		if okX && okY && a.traffic.Latency.Of == b.traffic.Latency.Of {
			compare(fmt.Sprintf("p%v", p), saved.Nanoseconds, float64(x), float64(y))
		}
	}
	if x, y := a.job.Allocations, b.job.Allocations; x >= 0 && y >= 0 && (x >= 0.5 || y >= 0.5) && max(x, y) > notable*min(x, y) {
		out = append(out, fmt.Sprintf("Allocations for each I/O: %.1f of %s, %.1f of %s.", x, a.label, y, b.label))
	}
	for _, s := range []*series{a, b} {
		switch {
		case s.job.RDMAPercent == 0:
			out = append(out, fmt.Sprintf("All bytes of %s went in messages, none by RDMA.", s.label))
		case s.job.RDMAPercent > 0:
			out = append(out, fmt.Sprintf("%.0f %% of the bytes of %s went by RDMA, placed where they belong by the adapter.", s.job.RDMAPercent, s.label))
		}
		if n := s.job.CreditWaits; n > 0 && s.traffic.IOs > 0 {
			out = append(out, fmt.Sprintf("%s waited for credits %d times, in %.1f %% of its I/Os.", s.label, n, 100*float64(n)/float64(s.traffic.IOs)))
		}
	}
	return out
}

func ratio(r float64) string {
	if r >= 10 {
		return fmt.Sprintf("%.0f", r)
	}
	return fmt.Sprintf("%.2f", r)
}

func enumerate(s []string) string {
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " and " + s[len(s)-1]
}
