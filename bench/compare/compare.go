// Package compare says which of two benches was faster, and whether the difference is more
// than the noise of their repeated runs.
//
// The test is Mann-Whitney's U, as in benchstat: it takes the runs' figures as they are and
// supposes nothing of their distribution. With fewer than four runs on either side it can't
// find any difference significant, and the table says so.
package compare

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

// ErrNothingInCommon is matched where no job is in both.
var ErrNothingInCommon = errors.New("no job has the same name on both sides")

// Verdict is what the runs of a figure say.
type Verdict int

const (
	Noise  Verdict = iota // no difference beyond the noise
	Better                // B is better
	Worse
	TooFew // runs, to tell
)

func (v Verdict) String() string {
	return [...]string{"no difference beyond the noise", "B is better", "B is worse", "too few runs to tell"}[v]
}

// Row compares one figure of one job.
type Row struct {
	Job, Direction, Figure string
	A, B                   benchmath.Summary // medians, with a confidence of 95 %
	Comparison             benchmath.Comparison
	Verdict                Verdict
	// Delta is B's median over A's, less 1.
	Delta float64

	unit saved.Unit
}

// Table is the whole comparison.
type Table struct {
	A, B         string // what the sides are called
	Rows         []Row
	OnlyA, OnlyB []string // jobs
}

// confidence is that of the ranges.
const confidence = 0.95

// leastRuns is how many runs either side needs: with three and three the least p is 0.1.
const leastRuns = 4

// figures are what is compared, the best known first.
var figures = []struct {
	name   string
	values func(r *saved.Runs) []float64
	unit   saved.Unit
	higher bool // is better
}{
	{"bandwidth", func(r *saved.Runs) []float64 { return r.Bandwidth }, saved.BytesPerSecond, true},
	{"IOPS", func(r *saved.Runs) []float64 { return r.IOPS }, saved.PerSecond, true},
	{"mean latency", func(r *saved.Runs) []float64 { return r.Mean }, saved.Nanoseconds, false},
	{"p50", func(r *saved.Runs) []float64 { return r.P50 }, saved.Nanoseconds, false},
	{"p99", func(r *saved.Runs) []float64 { return r.P99 }, saved.Nanoseconds, false},
	{"p99.9", func(r *saved.Runs) []float64 { return r.P999 }, saved.Nanoseconds, false},
	{"client CPU", func(r *saved.Runs) []float64 { return r.CPU }, saved.SecondsPerGiB, false},
	{"server CPU", func(r *saved.Runs) []float64 { return r.ServerCPU }, saved.SecondsPerGiB, false},
}

// Documents compares the runs in a with those in b, job by job, by their names. Several
// documents of a side are repetitions of it.
func Documents(a, b []*saved.Document) (*Table, error) {
	t := &Table{A: labels(a), B: labels(b)}
	sa, na := gather(a)
	sb, nb := gather(b)
	for _, k := range na {
		rb, both := sb[k]
		if !both {
			t.OnlyA = append(t.OnlyA, k.String())
			continue
		}
		ra := sa[k]
		for _, f := range figures {
			va, vb := f.values(ra), f.values(rb)
			if len(va) == 0 || len(vb) == 0 {
				continue
			}
			t.Rows = append(t.Rows, row(k, f.name, va, vb, f.unit, f.higher))
		}
	}
	for _, k := range nb {
		if _, both := sa[k]; !both {
			t.OnlyB = append(t.OnlyB, k.String())
		}
	}
	if len(t.Rows) == 0 {
		return nil, fmt.Errorf("%w: A has %s, B has %s", ErrNothingInCommon, strings.Join(t.OnlyA, ", "), strings.Join(t.OnlyB, ", "))
	}
	return t, nil
}

func row(k key, name string, va, vb []float64, u saved.Unit, higher bool) Row {
	thresholds := benchmath.DefaultThresholds
	a, b := benchmath.NewSample(slices.Clone(va), &thresholds), benchmath.NewSample(slices.Clone(vb), &thresholds)
	r := Row{Job: k.job, Direction: k.direction.String(), Figure: name, unit: u,
		A: benchmath.AssumeNothing.Summary(a, confidence), B: benchmath.AssumeNothing.Summary(b, confidence),
		Comparison: benchmath.AssumeNothing.Compare(a, b)}
	if r.A.Center != 0 {
		r.Delta = r.B.Center/r.A.Center - 1
	}
	switch {
	case min(len(va), len(vb)) < leastRuns:
		r.Verdict = TooFew
	case r.Comparison.P > r.Comparison.Alpha || r.A.Center == r.B.Center:
		r.Verdict = Noise
	case (r.B.Center > r.A.Center) == higher:
		r.Verdict = Better
	default:
		r.Verdict = Worse
	}
	return r
}

type key struct {
	job       string
	direction result.Direction
}

func (k key) String() string { return fmt.Sprintf("%s (%v)", k.job, k.direction) }

// gather joins the runs of one job over documents, in the order of their first sight.
func gather(docs []*saved.Document) (map[key]*saved.Runs, []key) {
	runs, order := make(map[key]*saved.Runs), []key(nil)
	for _, d := range docs {
		for _, j := range d.Jobs {
			for _, dir := range j.Directions() {
				k, r := key{j.Name, dir}, j.Traffic[dir].Runs
				all, seen := runs[k]
				if !seen {
					all = new(saved.Runs)
					runs[k], order = all, append(order, k)
				}
				all.Append(&r)
			}
		}
	}
	return runs, order
}

func labels(docs []*saved.Document) string {
	var out []string
	for _, d := range docs {
		out = append(out, d.Label)
	}
	return strings.Join(out, ", ")
}

// Write prints the table, and a line of what it comes to.
func (t *Table) Write(w io.Writer) error {
	fmt.Fprintf(w, "A: %s\nB: %s\n\n", t.A, t.B)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "job\t\tfigure\tA\tB\tB to A\tp\tverdict")
	last := ""
	for i := range t.Rows {
		r := &t.Rows[i]
		job, dir := r.Job, r.Direction
		if job+dir == last {
			job, dir = "", ""
		} else {
			last = job + dir
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", job, dir, r.Figure,
			r.cell(r.A), r.cell(r.B), r.delta(), r.p(), r.Verdict)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, side := range []struct {
		name string
		jobs []string
	}{{"A", t.OnlyA}, {"B", t.OnlyB}} {
		if len(side.jobs) > 0 {
			fmt.Fprintf(w, "\nonly in %s: %s\n", side.name, strings.Join(side.jobs, ", "))
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", t.Conclusion())
	return err
}

// Conclusion is what the bandwidths come to, in a sentence.
func (t *Table) Conclusion() string {
	n := map[Verdict]int{}
	for _, r := range t.Rows {
		if r.Figure == figures[0].name {
			n[r.Verdict]++
		}
	}
	parts := []string{}
	for _, v := range []struct {
		v    Verdict
		text string
	}{{Better, "B is faster in %d"}, {Worse, "A is faster in %d"}, {Noise, "no difference beyond the noise in %d"},
		{TooFew, fmt.Sprintf("too few runs to tell in %%d (--repeat %d at least on both sides)", leastRuns)}} {
		if n[v.v] > 0 {
			parts = append(parts, fmt.Sprintf(v.text, n[v.v]))
		}
	}
	total := n[Better] + n[Worse] + n[Noise] + n[TooFew]
	return fmt.Sprintf("Of %d: %s.", total, strings.Join(parts, ", "))
}

func (r *Row) cell(s benchmath.Summary) string {
	text := r.unit.Format(s.Center)
	if p := s.PctRangeString(); p != "∞" && p != "?" && len(s.Warnings) == 0 {
		text += " ±" + strings.TrimPrefix(strings.TrimSpace(p), "±")
	}
	return text
}

func (r *Row) delta() string {
	if r.A.Center == 0 {
		return "?"
	}
	return fmt.Sprintf("%+.1f%%", 100*r.Delta)
}

func (r *Row) p() string {
	if r.Verdict == TooFew {
		return fmt.Sprintf("n=%d+%d", r.Comparison.N1, r.Comparison.N2)
	}
	return r.Comparison.String()
}
