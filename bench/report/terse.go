package report

import (
	"bufio"
	"fmt"
	"io"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// tersePercentiles is how many there always are.
const tersePercentiles = 20

// terse writes a line for each job, in version 2, 3 (the default), 4 or 5 of fio's. All
// but 3 have trims too, and 2 has no name of the program.
func terse(w io.Writer, in Input) error {
	v := in.Plan.Settings.TerseVersion
	if v == 0 {
		v = 3
	}
	if v < 2 || v > 5 {
		return fmt.Errorf("report: terse version %d is not 2 to 5", v)
	}
	b := bufio.NewWriter(w)
	es := in.entries()
	for i := range es {
		terseJob(b, &es[i], in.Version, v)
	}
	return b.Flush()
}

func terseJob(b *bufio.Writer, e *entry, program string, version int) {
	r := e.res
	if version == 2 {
		fmt.Fprintf(b, "2;%s;%d;%d", r.Name, r.Group, errno(r.Error))
	} else {
		fmt.Fprintf(b, "%d;%s;%s;%d;%d", version, program, r.Name, r.Group, errno(r.Error))
	}
	directions := result.Trim
	if version != 3 {
		directions = result.Directions
	}
	for d := range directions {
		terseTraffic(b, e, d, version)
	}
	fmt.Fprintf(b, ";%f%%;%f%%;%d;%d;%d", perCent(r.CPU.User, r.JobRuntime), perCent(r.CPU.System, r.JobRuntime), r.CPU.Switches, r.CPU.MajorFaults, r.CPU.MinorFaults)
	for _, s := range shares(r.Depths) {
		fmt.Fprintf(b, ";%3.1f%%", s)
	}
	_, us, ms := spread(r)
	for _, s := range [][]float64{us, ms} {
		for _, p := range s {
			fmt.Fprintf(b, ";%3.2f%%", p)
		}
	}
	if r.Description != "" {
		fmt.Fprintf(b, ";%s", r.Description)
	}
	b.WriteByte('\n')
}

func terseTraffic(b *bufio.Writer, e *entry, d result.Direction, version int) {
	t := &e.res.Traffic[d]
	fmt.Fprintf(b, ";%d;%d;%d;%d", t.Bytes>>10, int64(t.BytesPerSecond())>>10, int64(t.PerSecond()), t.Runtime.Milliseconds())
	terseLatency(b, &t.Submission)
	terseLatency(b, &t.Completion)
	l := &t.Completion
	if e.job.LatPercentiles {
		l = &t.Total
	}
	ps := e.percentiles()
	for i := range tersePercentiles {
		if i < len(ps) {
			fmt.Fprintf(b, ";%f%%=%d", ps[i], l.Percentile(ps[i])/1000)
		} else {
			b.WriteString(";0%=0")
		}
	}
	terseLatency(b, &t.Total)
	bw := &t.Bandwidth
	fmt.Fprintf(b, ";%d;%d;%f%%;%f;%f", int64(bw.Min()), int64(bw.Max()), e.share(d), bw.Mean(), bw.Deviation())
	if version == 5 {
		s := &t.IOPS
		fmt.Fprintf(b, ";%d;%d;%d;%f;%f;%d", bw.Count(), int64(s.Min()), int64(s.Max()), s.Mean(), s.Deviation(), s.Count())
	}
}

func terseLatency(b *bufio.Writer, l *result.Latency) {
	fmt.Fprintf(b, ";%d;%d;%f;%f", l.Min()/1000, l.Max()/1000, l.Mean()/1000, l.Deviation()/1000)
}
