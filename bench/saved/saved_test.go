package saved

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// What fio 3.33 wrote for two jobs of its null engine is read with its figures.
func TestFioItself(t *testing.T) {
	d, err := Open("testdata/fio-3.33.json")
	if err != nil {
		t.Fatal(err)
	}
	if d.Program != "fio-3.33" || d.Own || len(d.Jobs) != 2 {
		t.Fatalf("%q, own %v, %d jobs", d.Program, d.Own, len(d.Jobs))
	}
	seq, mixed := d.Jobs[0], d.Jobs[1]
	if seq.Name != "seq" || seq.Engine != "null" || seq.RW != "read" || seq.BlockSize != "65536" || seq.Depth != 4 || seq.NumJobs != 1 {
		t.Errorf("%+v", seq)
	}
	if r := seq.Traffic[result.Read]; r.Bytes != 64<<20 || r.IOs != 1024 || r.Latency.Of != "clat" || r.Latency.Count != 1024 {
		t.Errorf("%+v", r)
	}
	if mixed.BlockSize != "4096" || mixed.Depth != 1 || len(mixed.Directions()) != 2 {
		t.Errorf("%+v", mixed)
	}
	for _, dir := range mixed.Directions() {
		l := &mixed.Traffic[dir].Latency
		p50, ok50 := l.Percentile(50)
		p99, ok99 := l.Percentile(99)
		if !ok50 || !ok99 || p50 > p99 || p99 > l.Max || p50 < l.Min {
			t.Errorf("%v: %d, %d of %d to %d", dir, p50, p99, l.Min, l.Max)
		}
		last, share := int64(-1), 0.0
		l.Steps(func(s float64, ns int64) {
			if ns <= last || s < share {
				t.Errorf("%v: %v at %d after %v at %d", dir, s, ns, share, last)
			}
			last, share = ns, s
		})
		if share != 1 {
			t.Errorf("%v: the last step is %v", dir, share)
		}
	}
	if mixed.ClientCPU < 0 || mixed.ServerCPU >= 0 || mixed.RDMAPercent >= 0 {
		t.Errorf("%+v", mixed)
	}
}

const ownJob = `{"fio version":"smbd-rdma 9","timestamp":1700000000,
 "global options":{"ioengine":"smbdirect","bs":"4k"},
 "smbd_rdma":{"machine":{"cpu":"Z80","cpus":2},"versions":{"go":"go1.26"},"command":"bench a.fio"},
 "jobs":[{"jobname":"j","job options":{"rw":"randread","bs":"8k","iodepth":"32","numjobs":"2"},
  "read":{"io_bytes":8192,"bw_bytes":100,"iops":1,"runtime":1000,"total_ios":2,
   "clat_ns":{"min":10,"max":30,"mean":20.0,"N":2,"percentile":{"50.000000":10,"99.000000":30}},
   "lat_ns":{"min":10,"max":30,"mean":20.0,"N":2}},
  "usr_cpu":50.0,"sys_cpu":50.0,"job_runtime":2000,
  "smbd_rdma":{"engine":"smbdirect","rdma_bytes":10,"inline_bytes":30,"rdma_percent":25.0,"allocations":4,
   "client_cpu_seconds_per_gib":0.5,"server_cpu_seconds_per_gib":0.25,"credit_waits":3,
   "negotiated":{"dialect":"3.1.1"},
   "read":{"bw":[[500,1],[1000,2.5]],"iops":[[500,10]]},
   "repeats":{"runs":2,"read":{"bw_bytes":[90,110],"iops":[1,2],"p50_ns":[10,12]},"client_cpu_seconds_per_gib":[0.4,0.6]}}}]}`

func TestOwn(t *testing.T) {
	d, err := Read(strings.NewReader("a warning\n" + ownJob))
	if err != nil {
		t.Fatal(err)
	}
	j := d.Jobs[0]
	r := &j.Traffic[result.Read]
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"own", d.Own, true},
		{"machine", len(d.Machine), 3},
		{"machine", d.Machine[1], Option{"cpus", "2"}},
		{"command", d.Command, "bench a.fio"},
		{"time", d.Time.Unix(), int64(1700000000)},
		{"bs", j.BlockSize, "8192"}, // the job's own, not the global one
		{"depth", j.Depth, 32},
		{"numjobs", j.NumJobs, 2},
		{"rw", j.RW, "randread"},
		{"client", j.ClientCPU, 0.5},
		{"server", j.ServerCPU, 0.25},
		{"allocations", j.Allocations, 2.0},
		{"rdma", j.RDMAPercent, 25.0},
		{"waits", j.CreditWaits, int64(3)},
		{"dialect", j.Negotiated[0], Option{"dialect", "3.1.1"}},
		{"bandwidth", r.Bandwidths[1], Point{time.Second, 2560}},
		{"iops", r.Rates[0], Point{500 * time.Millisecond, 10}},
		{"runs", len(r.Runs.Bandwidth), 2},
		{"runs", r.Runs.CPU[1], 0.6},
		{"direction", j.Direction(), result.Read},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	if p, known := r.Latency.Percentile(99); p != 30 || !known {
		t.Error(p, known)
	}
	if _, known := r.Latency.Percentile(99.9); known {
		t.Error("a percentile that the file does not have")
	}
}

func TestRefused(t *testing.T) {
	change := func(from, to string) string { return strings.Replace(ownJob, from, to, 1) }
	for name, text := range map[string]string{
		"empty":              "",
		"no object":          "hello",
		"no jobs":            `{"fio version":"fio-3","jobs":[]}`,
		"no version":         `{"jobs":[{"jobname":"x"}]}`,
		"negative bytes":     change(`"io_bytes":8192`, `"io_bytes":-1`),
		"negative bandwidth": change(`"bw_bytes":100`, `"bw_bytes":-100`),
		"percentile of 101":  change(`"99.000000":30`, `"101.0":30`),
		"percentile a word":  change(`"99.000000":30`, `"most":30`),
		"max below min":      change(`"max":30`, `"max":3`),
		"back in time":       change(`[1000,2.5]`, `[400,2.5]`),
		"negative run":       change(`[90,110]`, `[90,-110]`),
		"nested option":      change(`"bs":"8k"`, `"bs":{"a":1}`),
		"options a list":     change(`"negotiated":{"dialect":"3.1.1"}`, `"negotiated":[1]`),
		"cut off":            ownJob[:len(ownJob)/2],
	} {
		if d, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%s: read as %+v", name, d)
		}
	}
	if _, err := Read(strings.NewReader("hello")); !errors.Is(err, ErrNotABench) {
		t.Error(err)
	}
}

func TestPlainSize(t *testing.T) {
	for in, want := range map[string]string{"": "4096", "4k": "4096", "4K": "4096", "1m": "1048576", "1MiB": "1048576", "512": "512",
		"2g": "2147483648", "4k-64k": "4k-64k", "9999999t": "9999999t", "k": "k"} {
		if got := plainSize(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		u    Unit
		v    float64
		want string
	}{
		{BytesPerSecond, 1_234_567_890, "1.23 GB/s"}, {BytesPerSecond, 12, "12.0 B/s"}, {PerSecond, 264_500, "264 k"}, {PerSecond, 12, "12.0"},
		{Nanoseconds, 850, "850 ns"}, {Nanoseconds, 12_340, "12.3 µs"}, {Nanoseconds, 2.5e6, "2.50 ms"}, {Nanoseconds, 3e9, "3.00 s"},
		{SecondsPerGiB, 0.1234, "0.12 s/GiB"}, {Percent, 99.97, "100 %"}, {PerSecond, 999.9, "1.00 k"},
	} {
		if got := c.u.Format(c.v); got != c.want {
			t.Errorf("%v: %q, want %q", c.v, got, c.want)
		}
	}
	if BytesPerSecond.Format(math.Inf(1)) == "" {
		t.Error("nothing for infinity")
	}
}

// Of three runs the median stays, with the figures of all.
func TestJoin(t *testing.T) {
	var docs []*Document
	for _, bw := range []string{"300", "100", "200"} {
		text := strings.Replace(ownJob, `"bw_bytes":100`, `"bw_bytes":`+bw, 1)
		text = text[:strings.Index(text, `,
   "repeats"`)] + "}}]}"
		d, err := Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, d)
	}
	docs[2].Jobs = append(docs[2].Jobs, &Job{Name: "only once"})
	j := Join(docs).Jobs
	if len(j) != 2 || j[1].Name != "only once" || j[0].Traffic[result.Read].Bandwidth != 200 {
		t.Fatalf("%+v", j)
	}
	if runs := j[0].Traffic[result.Read].Runs.Bandwidth; !slices.Equal(runs, []float64{300, 100, 200}) {
		t.Fatal(runs)
	}
	if docs[2].Jobs[0].Traffic[result.Read].Runs.Bandwidth[0] != 200 || Join(nil) != nil {
		t.Fatal("what was joined has changed")
	}
}

// Whatever a file says, it is read or refused, and what is read can be asked for.
func FuzzRead(f *testing.F) {
	f.Add(ownJob)
	f.Add(`{"fio version":"fio-3","jobs":[{"jobname":"x","read":{"clat_ns":{"bins":{"1":9223372036854775807,"2":9}}}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, j := range d.Jobs {
			for _, dir := range j.Directions() {
				l := &j.Traffic[dir].Latency
				if v, known := l.Percentile(50); known && v < 0 {
					t.Fatalf("p50 of %d ns", v)
				}
				l.Steps(func(s float64, _ int64) {
					if !(s >= 0 && s <= 1) {
						t.Fatalf("share %v", s)
					}
				})
			}
		}
	})
}
