package saved

import (
	"bytes"

	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }

// Job is what one job, or a group of them, measured.
type Job struct {
	Name, Description string
	Engine            string // ioengine
	RW                string // read, randwrite, …
	BlockSize         string // as bytes where it is one size: "4096"
	Depth, NumJobs    int
	Options           []Option // those of [global] first
	Negotiated        []Option // what engine and server agreed on
	Error             string

	Traffic [result.Trim]Traffic // read, write
	// ClientCPU and ServerCPU are seconds a GiB; negative where they are not known.
	ClientCPU, ServerCPU float64
	Allocations          float64 // for each I/O; negative where not known
	RDMAPercent          float64 // of the bytes; negative where not known
	CreditWaits          int64
	Profile              []Option // where the processor's time went, in percent, most first

	own bool
}

// Traffic is one direction of a job.
type Traffic struct {
	Bytes, IOs int64
	Runtime    time.Duration
	Bandwidth  float64 // bytes a second
	IOPS       float64
	Latency    Latency
	// Course is the run over time, empty where the file does not have it.
	Bandwidths, Rates []Point
	// Runs are the figures of repeated runs; of one alone they have one element.
	Runs Runs
}

// Point is a mean that ends so long after the start.
type Point struct {
	At    time.Duration
	Value float64
}

// Latency is how long I/Os took, in nanoseconds.
type Latency struct {
	// Of says what was measured: "lat" from where the I/O was due, "clat" from where it
	// had been submitted.
	Of                     string
	Count, Min, Max        int64
	Mean                   float64
	percentile, cumulative []step
}

// step says that a share of I/Os took no longer than At.
type step struct {
	share float64 // 0 to 1
	at    int64
}

// Runs are the figures of repeated runs, in their order.
type Runs struct {
	Bandwidth []float64 `json:"bw_bytes"`
	IOPS      []float64 `json:"iops"`
	Mean      []float64 `json:"lat_mean_ns"`
	P50       []float64 `json:"p50_ns"`
	P99       []float64 `json:"p99_ns"`
	P999      []float64 `json:"p99.9_ns"`
	// CPU is the client's, in seconds a GiB, ServerCPU the server's.
	CPU, ServerCPU []float64 `json:"-"`
}

// Append adds the runs of another document.
func (r *Runs) Append(o *Runs) {
	r.Bandwidth = append(r.Bandwidth, o.Bandwidth...)
	r.IOPS = append(r.IOPS, o.IOPS...)
	r.Mean = append(r.Mean, o.Mean...)
	r.P50 = append(r.P50, o.P50...)
	r.P99 = append(r.P99, o.P99...)
	r.P999 = append(r.P999, o.P999...)
	r.CPU = append(r.CPU, o.CPU...)
	r.ServerCPU = append(r.ServerCPU, o.ServerCPU...)
}

// Percentile is the latency that p percent did not exceed, and whether it is known.
func (l *Latency) Percentile(p float64) (int64, bool) {
	for _, s := range l.percentile { // as it was written
		if math.Abs(s.share-p/100) < 1e-9 {
			return s.at, true
		}
	}
	if l.cumulative == nil {
		return 0, false
	}
	i := sort.Search(len(l.cumulative), func(i int) bool { return l.cumulative[i].share >= p/100-1e-12 })
	if i == len(l.cumulative) {
		return l.Max, true
	}
	return min(l.cumulative[i].at, l.Max), true
}

// Steps calls f with what is known of the distribution, shortest first: so large a share
// (0 to 1) of the I/Os took no longer than so many nanoseconds.
func (l *Latency) Steps(f func(share float64, ns int64)) {
	steps := l.cumulative
	if steps == nil {
		steps = l.percentile
	}
	for _, s := range steps {
		f(s.share, s.at)
	}
}

// Direction is the one that moved more.
func (j *Job) Direction() result.Direction {
	if j.Traffic[result.Write].Bytes > j.Traffic[result.Read].Bytes {
		return result.Write
	}
	return result.Read
}

// Directions are those in which something moved.
func (j *Job) Directions() (out []result.Direction) {
	for d := range result.Trim {
		if j.Traffic[d].IOs > 0 {
			out = append(out, d)
		}
	}
	return out
}

// Bytes returns the block size, 0 where it is not one size.
func (j *Job) Bytes() int64 { n, _ := strconv.ParseInt(j.BlockSize, 10, 64); return n }

// option is the last one of a name, as fio has it.
func (j *Job) option(names ...string) string {
	for i := len(j.Options) - 1; i >= 0; i-- {
		if slices.Contains(names, j.Options[i].Name) {
			return j.Options[i].Value
		}
	}
	return ""
}

// The JSON of a job.
type (
	rawJob struct {
		Name    string     `json:"jobname"`
		Desc    string     `json:"desc"`
		Options ordered    `json:"job options"`
		Read    rawTraffic `json:"read"`
		Write   rawTraffic `json:"write"`
		Error   int        `json:"error"`
		User    float64    `json:"usr_cpu"`
		System  float64    `json:"sys_cpu"`
		Runtime int64      `json:"job_runtime"`
		Own     *rawOwn    `json:"smbd_rdma"`
	}
	rawTraffic struct {
		Bytes   int64      `json:"io_bytes"`
		BW      float64    `json:"bw_bytes"`
		IOPS    float64    `json:"iops"`
		Runtime int64      `json:"runtime"`
		IOs     int64      `json:"total_ios"`
		Lat     rawLatency `json:"lat_ns"`
		Clat    rawLatency `json:"clat_ns"`
	}
	rawLatency struct {
		Min        int64            `json:"min"`
		Max        int64            `json:"max"`
		Mean       float64          `json:"mean"`
		N          int64            `json:"N"`
		Percentile map[string]int64 `json:"percentile"`
		Bins       map[string]int64 `json:"bins"`
	}
	rawOwn struct {
		Engine      string   `json:"engine"`
		RW          string   `json:"rw"`
		BS          any      `json:"bs"`
		Depth       int      `json:"iodepth"`
		NumJobs     int      `json:"numjobs"`
		Flags       ordered  `json:"flags"`
		Negotiated  ordered  `json:"negotiated"`
		CreditWaits int64    `json:"credit_waits"`
		RDMA        int64    `json:"rdma_bytes"`
		Inline      int64    `json:"inline_bytes"`
		RDMAPercent float64  `json:"rdma_percent"`
		Client      *float64 `json:"client_cpu_seconds_per_gib"`
		Server      *float64 `json:"server_cpu_seconds_per_gib"`
		Allocations *float64 `json:"allocations"`
		Error       string   `json:"error"`
		Profile     ordered  `json:"profile"`
		Read, Write *rawExtra
		Repeats     *struct {
			Runs   int       `json:"runs"`
			Read   *Runs     `json:"read"`
			Write  *Runs     `json:"write"`
			Client []float64 `json:"client_cpu_seconds_per_gib"`
			Server []float64 `json:"server_cpu_seconds_per_gib"`
		} `json:"repeats"`
	}
	rawExtra struct {
		Lat  *result.Latency `json:"lat_ns"`
		BW   [][2]float64    `json:"bw"`
		IOPS [][2]float64    `json:"iops"`
	}
)

func (r *rawJob) job(global ordered) (*Job, error) {
	j := &Job{Name: r.Name, Description: r.Desc, Options: slices.Concat(global, r.Options),
		ClientCPU: -1, ServerCPU: -1, Allocations: -1, RDMAPercent: -1}
	for d, t := range []*rawTraffic{&r.Read, &r.Write} {
		if err := t.traffic(&j.Traffic[d]); err != nil {
			return nil, fmt.Errorf("%s: %w", result.Direction(d), err)
		}
	}
	if r.Error != 0 {
		j.Error = fmt.Sprintf("error %d", r.Error)
	}
	total := j.Traffic[result.Read].Bytes + j.Traffic[result.Write].Bytes
	if !plausible(r.User) || !plausible(r.System) || r.Runtime < 0 {
		return nil, fmt.Errorf("times of the processor below nothing, or beyond what any machine has")
	}
	if total > 0 && r.Runtime > 0 {
		j.ClientCPU = (r.User + r.System) / 100 * float64(r.Runtime) / 1000 / (float64(total) / (1 << 30))
	}
	j.Engine, j.RW, j.BlockSize = j.option("ioengine"), j.option("rw", "readwrite"), j.option("bs", "blocksize")
	if j.Engine == "" {
		j.Engine = "psync" // fio's on Linux
	}
	if j.RW == "" {
		j.RW = "read"
	}
	j.BlockSize = plainSize(j.BlockSize)
	j.Depth, j.NumJobs = positive(j.option("iodepth")), positive(j.option("numjobs"))
	if o := r.Own; o != nil {
		if err := o.apply(j); err != nil {
			return nil, err
		}
	}
	for d := range j.Traffic {
		t := &j.Traffic[d]
		if len(t.Runs.Bandwidth) > 0 || t.IOs == 0 {
			continue
		}
		t.Runs = Runs{Bandwidth: []float64{t.Bandwidth}, IOPS: []float64{t.IOPS}, Mean: []float64{t.Latency.Mean}}
		for _, p := range []struct {
			p  float64
			to *[]float64
		}{{50, &t.Runs.P50}, {99, &t.Runs.P99}, {99.9, &t.Runs.P999}} {
			if v, known := t.Latency.Percentile(p.p); known {
				*p.to = []float64{float64(v)}
			}
		}
		if j.ClientCPU >= 0 {
			t.Runs.CPU = []float64{j.ClientCPU}
		}
		if j.ServerCPU >= 0 {
			t.Runs.ServerCPU = []float64{j.ServerCPU}
		}
	}
	return j, nil
}

// maxFigure is beyond every rate, and thirty years in nanoseconds.
const maxFigure = 1e18

func plausible(f float64) bool { return f >= 0 && f <= maxFigure }

func (r *rawTraffic) traffic(t *Traffic) error {
	if r.Bytes < 0 || r.IOs < 0 || r.Runtime < 0 || !plausible(r.BW) || !plausible(r.IOPS) {
		return fmt.Errorf("amounts below nothing, or beyond what any machine does")
	}
	t.Bytes, t.IOs, t.Runtime = r.Bytes, r.IOs, time.Duration(min(r.Runtime, math.MaxInt64/int64(time.Millisecond)))*time.Millisecond
	t.Bandwidth, t.IOPS = r.BW, r.IOPS
	l, of := &r.Lat, "lat"
	if len(l.Percentile) == 0 && len(r.Clat.Percentile) > 0 || l.N == 0 {
		l, of = &r.Clat, "clat"
	}
	if l.Min < 0 || l.Max < l.Min || l.N < 0 || !plausible(l.Mean) || l.Max > maxFigure {
		return fmt.Errorf("latencies of %d to %d ns", l.Min, l.Max)
	}
	t.Latency = Latency{Of: of, Count: l.N, Min: l.Min, Max: l.Max, Mean: l.Mean}
	for p, at := range l.Percentile {
		f, err := strconv.ParseFloat(p, 64)
		if err != nil || !(f >= 0 && f <= 100) || at < 0 || at > maxFigure {
			return fmt.Errorf("percentile %q of %d ns", p, at)
		}
		t.Latency.percentile = append(t.Latency.percentile, step{f / 100, at})
	}
	sortSteps(t.Latency.percentile)
	if len(l.Bins) == 0 {
		return nil
	}
	var bins []result.Bin
	for at, n := range l.Bins {
		v, err := strconv.ParseInt(at, 10, 64)
		if err != nil || v < 0 || v > maxFigure || n < 0 || n > math.MaxInt64/int64(len(l.Bins)) {
			return fmt.Errorf("bin %q of %d", at, n)
		}
		bins = append(bins, result.Bin{From: v, To: v, Count: n})
	}
	slices.SortFunc(bins, func(a, b result.Bin) int { return int(min(1, max(-1, a.To-b.To))) })
	t.Latency.cumulative = cumulative(bins)
	return nil
}

func cumulative(bins []result.Bin) []step {
	var all int64
	for _, b := range bins {
		all += b.Count
	}
	if all == 0 {
		return nil
	}
	var out []step
	var n int64
	for _, b := range bins {
		if b.Count > 0 {
			n += b.Count
			out = append(out, step{float64(n) / float64(all), b.To})
		}
	}
	return out
}

func sortSteps(s []step) {
	slices.SortFunc(s, func(a, b step) int {
		switch {
		case a.share < b.share:
			return -1
		case a.share > b.share:
			return 1
		}
		return 0
	})
}

func (o *rawOwn) apply(j *Job) error {
	j.own = true
	for _, s := range []struct{ to, from *string }{{&j.Engine, &o.Engine}, {&j.RW, &o.RW}, {&j.Error, &o.Error}} {
		if *s.from != "" {
			*s.to = *s.from
		}
	}
	switch bs := o.BS.(type) {
	case float64:
		j.BlockSize = strconv.FormatInt(int64(bs), 10)
	case string:
		j.BlockSize = bs
	}
	j.Depth, j.NumJobs = max(o.Depth, j.Depth), max(o.NumJobs, j.NumJobs)
	j.Options = append(j.Options, o.Flags...)
	j.Negotiated, j.Profile, j.CreditWaits = o.Negotiated, o.Profile, o.CreditWaits
	if o.RDMA > 0 || o.Inline > 0 {
		j.RDMAPercent = o.RDMAPercent
	}
	if o.Client != nil {
		j.ClientCPU = *o.Client
	}
	if o.Server != nil {
		j.ServerCPU = *o.Server
	}
	if n := j.Traffic[result.Read].IOs + j.Traffic[result.Write].IOs; n > 0 && o.Allocations != nil {
		j.Allocations = *o.Allocations / float64(n)
	}
	for _, v := range []*float64{o.Client, o.Server, o.Allocations, &o.RDMAPercent} {
		if v != nil && !plausible(*v) {
			return fmt.Errorf("smbd_rdma has a figure of %v", *v)
		}
	}
	for d, x := range []*rawExtra{o.Read, o.Write} {
		t := &j.Traffic[d]
		if x == nil {
			continue
		}
		if l := x.Lat; l != nil && l.Count() > 0 {
			t.Latency = Latency{Of: "lat", Count: l.Count(), Min: l.Min(), Max: l.Max(), Mean: l.Mean(), cumulative: cumulative(l.Bins())}
		}
		var err error
		if t.Bandwidths, err = points(x.BW, 1024); err != nil {
			return err
		}
		if t.Rates, err = points(x.IOPS, 1); err != nil {
			return err
		}
	}
	if r := o.Repeats; r != nil {
		for d, runs := range []*Runs{r.Read, r.Write} {
			if runs == nil {
				continue
			}
			runs.CPU, runs.ServerCPU = r.Client, r.Server
			for _, v := range [][]float64{runs.Bandwidth, runs.IOPS, runs.Mean, runs.P50, runs.P99, runs.P999, runs.CPU, runs.ServerCPU} {
				if slices.ContainsFunc(v, func(f float64) bool { return !plausible(f) }) {
					return fmt.Errorf("figures of a run below nothing, or beyond what any machine does")
				}
			}
			j.Traffic[d].Runs = *runs
		}
	}
	return nil
}

// points are of pairs of milliseconds and values.
func points(pairs [][2]float64, unit float64) ([]Point, error) {
	var out []Point
	last := -1.0
	for _, p := range pairs {
		if !(p[0] > last) || !(p[0] < 1e12) || !plausible(p[1]) {
			return nil, fmt.Errorf("a course that goes back in time, below nothing or beyond what any machine does")
		}
		last = p[0]
		out = append(out, Point{time.Duration(p[0] * float64(time.Millisecond)), p[1] * unit})
	}
	return out, nil
}

func positive(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// plainSize writes a fio size in bytes, where it is a single one with an ordinary suffix.
func plainSize(s string) string {
	if s == "" {
		return "4096" // fio's default
	}
	t := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(s), "b"), "i")
	shift := 0
	if t != "" {
		if i := strings.IndexByte("kmgt", t[len(t)-1]); i >= 0 {
			shift, t = 10*(i+1), t[:len(t)-1]
		}
	}
	n, err := strconv.ParseInt(t, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return s
	}
	return strconv.FormatInt(n<<shift, 10)
}
