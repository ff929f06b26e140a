package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

const figures = 4 // characters of a number, unless significant_figures says otherwise

// number writes n with a prefix, in at most width characters of digits and point.
func number(n uint64, width int, binary bool, unit string) string {
	step, prefixes := uint64(1000), []string{"", "k", "M", "G", "T", "P", "E"}
	if binary {
		step, prefixes = 1024, []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
	}
	whole, rest, k := n, uint64(0), 0
	for len(strconv.FormatUint(whole, 10)) > width && k < len(prefixes)-1 {
		whole, rest = whole/step, whole%step
		k++
	}
	if k == 0 {
		return strconv.FormatUint(n, 10) + unit
	}
	places := max(width-len(strconv.FormatUint(whole, 10))-1, 0)
	v := float64(whole) + float64(rest)/float64(step)
	if places == 0 { // a half goes up
		return strconv.FormatUint(uint64(math.Floor(v+0.5)), 10) + prefixes[k] + unit
	}
	return strconv.FormatFloat(v, 'f', places, 64) + prefixes[k] + unit
}

// text writes the form for people.
type text struct {
	*bufio.Writer
	at time.Time
}

func (t text) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

func normal(w io.Writer, in Input) error {
	t := text{bufio.NewWriter(w), in.Time}
	es := in.entries()
	for i := range es {
		t.job(&es[i])
	}
	t.groups(in)
	return t.Flush()
}

func (t text) job(e *entry) {
	r, j := e.res, e.job
	what := fmt.Sprintf("err=%2d", errno(r.Error))
	if r.Error != nil {
		what += fmt.Sprintf(" (%s)", strings.ReplaceAll(r.Error.Error(), "\n", "; "))
	}
	t.line("\n%s: (groupid=%d, jobs=%d): %s: %s", r.Name, r.Group, r.Jobs, what, t.at.UTC().Format(time.ANSIC))
	if r.Description != "" {
		t.line("  Description  : [%s]", r.Description)
	}
	for d := range result.Trim {
		if r.Traffic[d].IOs > 0 {
			t.traffic(e, d)
		}
	}
	ns, us, ms := spread(r)
	t.spread("nsec", names(nsClasses), ns)
	t.spread("usec", names(nsClasses), us)
	t.spread("msec", append(names(msClasses), ">=2000"), ms)
	if r.Sync.Count() > 0 {
		t.line("  fsync/fdatasync/sync_file_range:")
		t.latency("sync", &r.Sync)
		t.percentiles("sync", &r.Sync, e)
	}
	t.line("  cpu          : usr=%3.2f%%, sys=%3.2f%%, ctx=%d, majf=%d, minf=%d", perCent(r.CPU.User, r.JobRuntime), perCent(r.CPU.System, r.JobRuntime),
		r.CPU.Switches, r.CPU.MajorFaults, r.CPU.MinorFaults)
	t.shares("IO depths ", []string{"1", "2", "4", "8", "16", "32", ">=64"}, r.Depths)
	t.shares("   submit ", []string{"0", "4", "8", "16", "32", "64", ">=64"}, r.Submits)
	t.shares("   complete", []string{"0", "4", "8", "16", "32", "64", ">=64"}, r.Completes)
	rd, wr := &r.Traffic[result.Read], &r.Traffic[result.Write]
	t.line("     issued rwts: total=%d,%d,0,%d short=%d,%d,0,0 dropped=%d,%d,0,0", rd.IOs, wr.IOs, r.Sync.Count(), rd.Short, wr.Short, rd.Dropped, wr.Dropped)
	if j.ContinueOnError != 0 {
		t.line("     errors    : total=%d, first_error=%d/<%v>", r.Errors, errno(r.Error), r.Error)
	}
	depth, percentile := r.Depth, 100.0
	if r.Latency.Target > 0 {
		depth, percentile = r.Latency.Depth, r.Latency.Percentile
	}
	t.line("     latency   : target=%d, window=%d, percentile=%.2f%%, depth=%d", r.Latency.Target.Microseconds(), r.Latency.Window.Microseconds(), percentile, depth)
	t.own(r)
}

// own is what fio has no line for.
func (t text) own(r *result.Job) {
	if r.Verified > 0 {
		t.line("     verify    : blocks=%d, bad=%d", r.Verified, r.Bad)
	}
	if n := r.Bytes(); n > 0 {
		server := ""
		if r.CPU.ServerSeen {
			server = fmt.Sprintf(", server=%.3f", perGiB(r.CPU.ServerUser+r.CPU.ServerSystem, n))
		}
		ios := r.Traffic[result.Read].IOs + r.Traffic[result.Write].IOs
		t.line("  cpu s/GiB    : client=%.3f%s; allocations=%.2f per I/O", perGiB(r.CPU.User+r.CPU.System, n), server, float64(r.CPU.Allocations)/float64(max(ios, 1)))
	}
	if all := r.Engine.RDMABytes + r.Engine.InlineBytes; all > 0 {
		t.line("  way of bytes : rdma=%.1f%%, inline=%.1f%%, copied=%.1f%%; credit waits=%d", 100*float64(r.Engine.RDMABytes)/float64(all),
			100*float64(r.Engine.InlineBytes)/float64(all), 100*float64(r.Engine.CopiedBytes)/float64(all), r.Engine.CreditWaits)
	}
	if len(r.Engine.Facts) > 0 {
		var fs []string
		for _, f := range r.Engine.Facts {
			if f.Value != "" {
				fs = append(fs, f.Name+"="+f.Value)
			}
		}
		t.line("  %-13s: %s", r.Engine.Name, strings.Join(fs, ", "))
	}
}

// units are the names and the base of a rate.
func rate(j *job.Job, bytes float64) (own, other string) {
	unit := "B/s"
	if j.UnitBase == 1 {
		unit, bytes = "bit/s", bytes*8
	}
	binary := j.KBBase != 1000
	width := cmp.Or(j.SignificantFigures, figures)
	return number(uint64(bytes), width, binary, unit), number(uint64(bytes), width, !binary, unit)
}

func (t text) traffic(e *entry, d result.Direction) {
	r, j := &e.res.Traffic[d], e.job
	width := cmp.Or(j.SignificantFigures, figures)
	bw, other := rate(j, r.BytesPerSecond())
	t.line("  %s: IOPS=%s, BW=%s (%s)(%s/%dmsec)", d, number(uint64(r.PerSecond()), width, false, ""), bw, other,
		number(uint64(r.Bytes), width, j.KBBase != 1000, "B"), r.Runtime.Milliseconds())
	for _, l := range []struct {
		name string
		l    *result.Latency
	}{{"slat", &r.Submission}, {"clat", &r.Completion}, {" lat", &r.Total}} {
		if l.l.Count() > 0 {
			t.latency(l.name, l.l)
		}
	}
	if j.SlatPercentiles && r.Submission.Count() > 0 {
		t.percentiles("slat", &r.Submission, e)
	}
	if j.ClatPercentiles || !j.LatPercentiles && !j.SlatPercentiles {
		t.percentiles("clat", &r.Completion, e)
	}
	if j.LatPercentiles || e.rated() {
		t.percentiles("lat", &r.Total, e)
	}
	if b := &r.Bandwidth; b.Count() > 0 {
		unit, by := "KiB", 1.0
		if b.Mean() > 1<<20 {
			unit, by = "MiB", 1024
		}
		t.line("   bw (%5s/s): min=%5.0f, max=%5.0f, per=%3.2f%%, avg=%5.2f, stdev=%5.2f, samples=%d", unit, b.Min()/by, b.Max()/by, e.share(d), b.Mean()/by, b.Deviation()/by, b.Count())
	}
	if s := &r.IOPS; s.Count() > 0 {
		t.line("   iops        : min=%5.0f, max=%5.0f, avg=%5.2f, stdev=%5.2f, samples=%d", s.Min(), s.Max(), s.Mean(), s.Deviation(), s.Count())
	}
}

func (t text) latency(name string, l *result.Latency) {
	lo, hi, by, unit := float64(l.Min()), float64(l.Max()), 1.0, "nsec"
	switch mean := l.Mean(); {
	case lo > 2e6 && hi > 99999999 && mean > 2e6:
		by, unit = 1e6, "msec"
	case lo > 2000 && hi > 99999 && mean > 2000:
		by, unit = 1e3, "usec"
	}
	t.line("    %s (%s): min=%s, max=%s, avg=%5.2f, stdev=%5.2f", name, unit, number(uint64(lo/by), 6, false, ""), number(uint64(hi/by), 6, false, ""), l.Mean()/by, l.Deviation()/by)
}

func (t text) percentiles(name string, l *result.Latency, e *entry) {
	ps := e.percentiles()
	precision := e.job.PercentilePrecision
	if precision == 0 && len(e.job.PercentileList) == 0 {
		precision = 2
	}
	vs := make([]int64, len(ps))
	for i, p := range ps {
		vs[i] = l.Percentile(p)
	}
	lo, hi := slices.Min(vs), slices.Max(vs)
	by, unit := int64(1), "nsec"
	switch {
	case lo > 2e6 && hi > 99999999:
		by, unit = 1e6, "msec"
	case lo > 2000 && hi > 99999:
		by, unit = 1e3, "usec"
	}
	width := max(5, len(strconv.FormatInt(hi/by, 10)))
	perLine := max((80-7)/(precision+10+width), 1)
	t.line("    %s percentiles (%s):", name, unit)
	for i, v := range vs {
		if i%perLine == 0 {
			fmt.Fprint(t, "     |")
		}
		end := ","
		if i == len(vs)-1 {
			end = ""
		}
		fmt.Fprintf(t, " %*.*fth=[%*d]%s", precision+3, precision, ps[i], width, (v+by-1)/by, end)
		if i%perLine == perLine-1 || i == len(vs)-1 {
			fmt.Fprintln(t)
		}
	}
}

func (t text) spread(unit string, names []string, shares []float64) {
	n := 0
	for i, s := range shares {
		if s <= 0 {
			continue
		}
		switch {
		case n == 0:
			fmt.Fprintf(t, "  lat (%s)   : ", unit)
		case n%5 == 0:
			fmt.Fprintf(t, "\n  lat (%s)   : ", unit)
		default:
			fmt.Fprint(t, ", ")
		}
		n++
		fmt.Fprintf(t, "%s=%3.2f%%", names[i], max(s, 0.01))
	}
	if n > 0 {
		fmt.Fprintln(t)
	}
}

func (t text) shares(name string, names []string, counts [7]int64) {
	var parts []string
	for i, s := range shares(counts) {
		parts = append(parts, fmt.Sprintf("%s=%3.1f%%", names[i], s))
	}
	t.line("  %-13s: %s", name, strings.Join(parts, ", "))
}

// groups writes what each group did together.
func (t text) groups(in Input) {
	order := []int{}
	of := make(map[int][]int)
	for i, j := range in.Plan.Jobs {
		if _, ok := of[j.Group]; !ok {
			order = append(order, j.Group)
		}
		of[j.Group] = append(of[j.Group], i)
	}
	for _, g := range order {
		t.line("\nRun status group %d (all jobs):", g)
		for d := range result.Trim {
			var bytes int64
			var lo, hi, sum float64
			var short, long time.Duration
			j := in.Plan.Jobs[of[g][0]]
			n := 0
			for _, i := range of[g] {
				tr := &in.Results[i].Traffic[d]
				if tr.IOs == 0 {
					continue
				}
				bw := tr.BytesPerSecond()
				if n == 0 {
					lo, short = bw, tr.Runtime
				}
				n++
				bytes += tr.Bytes
				lo, hi = min(lo, bw), max(hi, bw)
				short, long = min(short, tr.Runtime), max(long, tr.Runtime)
			}
			if n == 0 {
				continue
			}
			if long > 0 {
				sum = float64(bytes) / long.Seconds()
			}
			a, a2 := rate(j, sum)
			l, l2 := rate(j, lo)
			h, h2 := rate(j, hi)
			width := cmp.Or(j.SignificantFigures, figures)
			binary := j.KBBase != 1000
			t.line("%7s: bw=%s (%s), %s-%s (%s-%s), io=%s (%s), run=%d-%dmsec", strings.ToUpper(d.String()), a, a2, l, h, l2, h2,
				number(uint64(bytes), width, binary, "B"), number(uint64(bytes), width, !binary, "B"), short.Milliseconds(), long.Milliseconds())
		}
	}
}
