package report

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// object is a JSON object in an order of its own; list is an array.
type (
	object []member
	member struct {
		name  string
		value any // string, int, int64, uint64, bool, float64, object, list, raw
	}
	list []any
	raw  []byte // JSON
)

func (o *object) add(name string, value any) { *o = append(*o, member{name, value}) }

// print writes v as fio does: a space on either side of a colon, floats to six places.
func print(w *bufio.Writer, v any, depth int) {
	indent := strings.Repeat("  ", depth+1)
	switch v := v.(type) {
	case object:
		w.WriteString("{")
		for i, m := range v {
			if i > 0 {
				w.WriteByte(',')
			}
			w.WriteString("\n" + indent)
			print(w, m.name, 0)
			w.WriteString(" : ")
			print(w, m.value, depth+1)
		}
		w.WriteString("\n" + indent[2:] + "}")
	case list:
		w.WriteString("[")
		for i, e := range v {
			if i > 0 {
				w.WriteByte(',')
			}
			w.WriteString("\n" + indent)
			print(w, e, depth+1)
		}
		w.WriteString("\n" + indent[2:] + "]")
	case float64:
		w.WriteString(strconv.FormatFloat(v, 'f', 6, 64))
	case raw:
		w.Write(v)
	default:
		b, err := json.Marshal(v)
		if err != nil {
			b = []byte("null") // strings and integers have no errors
		}
		w.Write(b)
	}
}

func jsonForm(w io.Writer, in Input, bins bool) error {
	var top object
	at := in.Time
	top.add("fio version", in.Version)
	top.add("timestamp", at.Unix())
	top.add("timestamp_ms", at.UnixMilli())
	top.add("time", at.UTC().Format(time.ANSIC))
	if g := options(in.Plan.Jobs[0].Inherited); len(g) > 0 {
		top.add("global options", g)
	}
	jobs := list{}
	for _, e := range in.entries() {
		o, err := e.json(bins)
		if err != nil {
			return err
		}
		jobs = append(jobs, o)
	}
	top.add("jobs", jobs)
	top.add("smbd_rdma", in.circumstances())
	top.add("disk_util", list{})
	b := bufio.NewWriter(w)
	print(b, top, 0)
	b.WriteByte('\n')
	return b.Flush()
}

// flags are the options that have no value.
func (e *entry) flags() object {
	var out object
	for _, o := range slices.Concat(e.job.Inherited, e.job.Options) {
		if o.Bare && !slices.ContainsFunc(out, func(m member) bool { return m.name == o.Name }) {
			out.add(o.Name, "")
		}
	}
	return out
}

func options(os []job.Option) object {
	var out object
	for _, o := range os {
		if !o.Bare { // which fio leaves out too
			out.add(o.Name, o.Value)
		}
	}
	return out
}

func (e *entry) json(bins bool) (object, error) {
	r := e.res
	var o object
	o.add("jobname", r.Name)
	o.add("groupid", r.Group)
	o.add("error", errno(r.Error))
	o.add("eta", 0)
	o.add("elapsed", int64((r.Elapsed+time.Second-1)/time.Second))
	o.add("job options", options(e.job.Options))
	if r.Description != "" {
		o.add("desc", r.Description)
	}
	for d := range result.Directions {
		o.add(d.String(), e.traffic(d, bins))
	}
	var sync object
	sync.add("total_ios", r.Sync.Count())
	var ps []float64
	if r.Sync.Count() > 0 {
		ps = e.percentiles()
	}
	sync.add("lat_ns", latency(&r.Sync, ps, bins))
	o.add("sync", sync)
	o.add("job_runtime", r.JobRuntime.Milliseconds())
	o.add("usr_cpu", perCent(r.CPU.User, r.JobRuntime))
	o.add("sys_cpu", perCent(r.CPU.System, r.JobRuntime))
	o.add("ctx", r.CPU.Switches)
	o.add("majf", r.CPU.MajorFaults)
	o.add("minf", r.CPU.MinorFaults)
	o.add("iodepth_level", table([]string{"1", "2", "4", "8", "16", "32", ">=64"}, sharesOf(r.Depths)))
	o.add("iodepth_submit", table([]string{"0", "4", "8", "16", "32", "64", ">=64"}, sharesOf(r.Submits)))
	o.add("iodepth_complete", table([]string{"0", "4", "8", "16", "32", "64", ">=64"}, sharesOf(r.Completes)))
	ns, us, ms := spread(r)
	o.add("latency_ns", table(names(nsClasses), ns))
	o.add("latency_us", table(names(nsClasses), us))
	o.add("latency_ms", table(append(names(msClasses), ">=2000"), ms))
	depth := r.Depth
	if r.Latency.Depth > 0 {
		depth = r.Latency.Depth
	}
	o.add("latency_depth", depth)
	o.add("latency_target", r.Latency.Target.Microseconds())
	percentile := r.Latency.Percentile
	if r.Latency.Target == 0 {
		percentile = 100
	}
	o.add("latency_percentile", percentile)
	o.add("latency_window", r.Latency.Window.Microseconds())
	own, err := e.own()
	o.add("smbd_rdma", own)
	return o, err
}

func sharesOf(c [7]int64) []float64 { s := shares(c); return s[:] }

func names(classes []int64) (out []string) {
	for _, c := range classes {
		out = append(out, strconv.FormatInt(c, 10))
	}
	return out
}

func table(names []string, values []float64) (o object) {
	for i, n := range names {
		o.add(n, values[i])
	}
	return o
}

func (e *entry) traffic(d result.Direction, bins bool) object {
	t := &e.res.Traffic[d]
	var o object
	o.add("io_bytes", t.Bytes)
	o.add("io_kbytes", t.Bytes>>10)
	o.add("bw_bytes", int64(t.BytesPerSecond()))
	o.add("bw", int64(t.BytesPerSecond())>>10)
	o.add("iops", t.PerSecond())
	o.add("runtime", t.Runtime.Milliseconds())
	o.add("total_ios", t.IOs)
	o.add("short_ios", t.Short)
	o.add("drop_ios", t.Dropped)
	list := func(on bool) []float64 {
		if on && t.IOs > 0 {
			return e.percentiles()
		}
		return nil
	}
	// fio's defaults, where the job says nothing: percentiles of completion.
	clat := e.job.ClatPercentiles || !e.job.LatPercentiles && !e.job.SlatPercentiles
	o.add("slat_ns", latency(&t.Submission, list(e.job.SlatPercentiles), bins))
	o.add("clat_ns", latency(&t.Completion, list(clat), bins))
	o.add("lat_ns", latency(&t.Total, list(e.job.LatPercentiles || e.rated()), bins))
	b := &t.Bandwidth
	o.add("bw_min", int64(b.Min()))
	o.add("bw_max", int64(b.Max()))
	o.add("bw_agg", e.share(d))
	o.add("bw_mean", b.Mean())
	o.add("bw_dev", b.Deviation())
	o.add("bw_samples", b.Count())
	o.add("iops_min", int64(t.IOPS.Min()))
	o.add("iops_max", int64(t.IOPS.Max()))
	o.add("iops_mean", t.IOPS.Mean())
	o.add("iops_stddev", t.IOPS.Deviation())
	o.add("iops_samples", t.IOPS.Count())
	return o
}

func latency(l *result.Latency, percentiles []float64, bins bool) object {
	var o object
	o.add("min", l.Min())
	o.add("max", l.Max())
	o.add("mean", l.Mean())
	o.add("stddev", l.Deviation())
	o.add("N", l.Count())
	if len(percentiles) == 0 {
		return o
	}
	var ps object
	for _, p := range percentiles {
		ps.add(strconv.FormatFloat(p, 'f', 6, 64), l.Percentile(p))
	}
	o.add("percentile", ps)
	if bins {
		var bs object
		last := -1
		for _, b := range l.Bins() {
			i := fioBin(max(b.From, l.Min()))
			if i == last {
				m := &bs[len(bs)-1]
				m.value = m.value.(int64) + b.Count
				continue
			}
			last = i
			bs.add(strconv.FormatInt(fioValue(i), 10), b.Count)
		}
		o.add("bins", bs)
	}
	return o
}

// fio's histogram has 64 bins for each power of two, and below 128 one for each value.
const (
	fioBits   = 6
	fioGroups = 29
)

func fioBin(v int64) int {
	top := bits.Len64(uint64(v)) - 1
	if top <= fioBits {
		return int(v)
	}
	shift := top - fioBits
	return min((shift+1)<<fioBits+int(v>>shift)&(1<<fioBits-1), fioGroups<<fioBits-1)
}

// fioValue is the middle of a bin.
func fioValue(i int) int64 {
	if i < 2<<fioBits {
		return int64(i)
	}
	shift := i>>fioBits - 1
	return 1<<(shift+fioBits) + int64((float64(i%(1<<fioBits))+0.5)*float64(int64(1)<<shift))
}

// byShare are the parts of a profile, the greatest first.
func byShare(p *result.Profile) []result.Part {
	var parts []result.Part
	for i, d := range p {
		if d > 0 {
			parts = append(parts, result.Part(i))
		}
	}
	slices.SortStableFunc(parts, func(a, b result.Part) int { return cmp.Compare(p[b], p[a]) })
	return parts
}

// own is what fio has no fields for.
func (e *entry) own() (object, error) {
	r := e.res
	var o object
	o.add("version", 1)
	o.add("engine", r.Engine.Name)
	o.add("rw", e.job.RW.String())
	o.add("bs", e.blockSize())
	o.add("iodepth", e.job.IODepth)
	o.add("numjobs", max(r.Jobs, 1))
	o.add("jobs", r.Jobs)
	o.add("flags", e.flags())
	var facts object
	for _, f := range r.Engine.Facts {
		facts.add(f.Name, f.Value)
	}
	o.add("negotiated", facts)
	o.add("credit_waits", r.Engine.CreditWaits)
	o.add("rdma_bytes", r.Engine.RDMABytes)
	o.add("inline_bytes", r.Engine.InlineBytes)
	o.add("copied_bytes", r.Engine.CopiedBytes)
	share := 0.0
	if all := r.Engine.RDMABytes + r.Engine.InlineBytes; all > 0 {
		share = 100 * float64(r.Engine.RDMABytes) / float64(all)
	}
	o.add("rdma_percent", share)
	o.add("client_cpu_seconds_per_gib", perGiB(r.CPU.User+r.CPU.System, r.Bytes()))
	if r.CPU.ServerSeen {
		o.add("server_cpu_seconds_per_gib", perGiB(r.CPU.ServerUser+r.CPU.ServerSystem, r.Bytes()))
	}
	o.add("allocations", r.CPU.Allocations)
	o.add("allocated_bytes", r.CPU.AllocatedBytes)
	if all := r.Profile.Total(); all > 0 {
		var parts object
		for _, p := range byShare(&r.Profile) {
			parts.add(p.String(), math.Round(1000*float64(r.Profile[p])/float64(all))/10)
		}
		o.add("profile", parts)
	}
	o.add("errors", r.Errors)
	o.add("verified_blocks", r.Verified)
	o.add("bad_blocks", r.Bad)
	if r.Error != nil {
		o.add("error", r.Error.Error())
	}
	for d := range result.Trim {
		t := &r.Traffic[d]
		if t.IOs == 0 {
			continue
		}
		var h object
		for _, l := range []struct {
			name string
			l    *result.Latency
		}{{"slat_ns", &t.Submission}, {"clat_ns", &t.Completion}, {"lat_ns", &t.Total}} {
			b, err := json.Marshal(l.l)
			if err != nil {
				return nil, fmt.Errorf("report: %s of %s: %w", l.name, r.Name, err)
			}
			h.add(l.name, raw(b))
		}
		for _, s := range []struct {
			name string
			s    *result.Samples
		}{{"bw", &t.Bandwidth}, {"iops", &t.IOPS}} {
			points := list{}
			for _, p := range s.s.Points {
				points = append(points, raw(fmt.Sprintf("[%d, %.3f]", p.At.Milliseconds(), p.Value)))
			}
			h.add(s.name, points)
		}
		o.add(d.String(), h)
	}
	o.add("repeats", e.repeats())
	return o, nil
}
