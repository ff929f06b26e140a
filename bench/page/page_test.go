package page

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

// saveOf is a document as the bench writes it: two engines at two sizes, with a course and
// a distribution.
func saveOf(t *testing.T, change func(string) string) *saved.Document {
	t.Helper()
	job := func(name, engine string, bs, bandwidth int) string {
		return fmt.Sprintf(`{"jobname":%q,"job options":{"rw":"randread","bs":"%d","iodepth":"32","ioengine":%q},
 "read":{"io_bytes":%d,"bw_bytes":%d,"iops":%d,"runtime":1000,"total_ios":1000,
  "clat_ns":{"min":900,"max":9000000,"mean":2500,"N":1000,
   "percentile":{"50.000000":2000,"99.000000":50000,"99.900000":700000},
   "bins":{"1000":500,"2000":480,"50000":15,"700000":5}}},
 "usr_cpu":25.0,"sys_cpu":25.0,"job_runtime":1000,
 "smbd_rdma":{"engine":%q,"rdma_bytes":75,"inline_bytes":25,"rdma_percent":75.0,"allocations":0,
  "client_cpu_seconds_per_gib":0.5,"server_cpu_seconds_per_gib":0.25,"credit_waits":10,"flags":{"time_based":""},"negotiated":{"dialect":"3.1.1"},
  "read":{"bw":[[500,%d],[1000,%d]],"iops":[[500,10],[1000,20]]}}}`,
			name, bs, engine, bandwidth, bandwidth, bandwidth/bs, engine, bandwidth/1024, bandwidth/1000)
	}
	text := `{"fio version":"smbd-rdma 1","timestamp":1700000000,"smbd_rdma":{"machine":{"cpu":"Z80","cpus":2,"memory_bytes":1610612736},"versions":{"smbd-rdma":"smbd-rdma 1"},"command":"bench x.fio"},"jobs":[` +
		strings.Join([]string{job("fast 4k", "smbdirect", 4096, 800_000_000), job("slow 4k", "smb", 4096, 200_000_000),
			job("fast 1m", "smbdirect", 1<<20, 4_000_000_000)}, ",") + `]}`
	if change != nil {
		text = change(text)
	}
	d, err := saved.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	d.Label = "run.json"
	return d
}

func write(t *testing.T, docs ...*saved.Document) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, docs, Options{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPage(t *testing.T) {
	p := write(t, saveOf(t, nil))
	for _, want := range []string{
		"<title>Bench of smbdirect and smb</title>",
		"randread, 4 KiB, 32 in flight",
		"<strong>fast 4k</strong>, 195 k I/O a second: 4.00 times that of slow 4k.",
		"75 % of the bytes of fast 4k went by RDMA",
		`data-figure="bandwidth" data-value="8e&#43;08"`,
		`data-figure="p99" data-value="50000"`,
		`data-figure="server CPU" data-value="0.25"`,
		"<code>iodepth=32</code>", "<code>time_based</code>", "<code>dialect=3.1.1</code>", "cpu Z80, 2 processors, 1.5 GiB of memory<br>", "bench x.fio",
		"<th>longest</th>", "<td>9.00 ms</td>", "<td>1000</td>",
	} {
		if !strings.Contains(p, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, chart := range []string{"Bandwidth over time", "IOPS over time", "Latency by percentile", "Distribution of latency",
		"Bandwidth by block size", "IOPS by block size", "Processor time for each GiB"} {
		if !strings.Contains(p, "<h3>"+chart+"</h3>\n<svg") {
			t.Errorf("no chart %q", chart)
		}
	}
	for _, c := range []string{"#0072b2", "#d55e00"} {
		if strings.Count(strings.ToLower(p), c) < 4 {
			t.Errorf("%s is in no chart", c)
		}
	}
}

// A run of a second has a point or two of its course, which are seen.
func TestShortCourse(t *testing.T) {
	for points, want := range map[string]bool{"": false, "[500,1000]": true, "[500,1000],[1000,2000]": true} {
		d := saveOf(t, func(s string) string {
			return regexp.MustCompile(`"bw":\[.*?\]\]`).ReplaceAllString(s, `"bw":[`+points+`]`)
		})
		p := course(gather([]*saved.Document{d}), "bandwidth", saved.BytesPerSecond, bandwidths)
		if (p != nil) != want {
			t.Errorf("%q: a chart: %v", points, p != nil)
		}
		if p == nil {
			continue
		}
		text, err := svg(p, width, height)
		if err != nil {
			t.Fatal(err)
		}
		if dot := []byte("fill:#0072B2"); !bytes.Contains(text, dot) {
			t.Errorf("%q: no dot %s in %s", points, dot, text)
		}
	}
}

// Where there are more lines than are told from each other, a chart is of one kind of work.
func TestManyLines(t *testing.T) {
	var docs []*saved.Document
	for range 3 {
		docs = append(docs, saveOf(t, nil))
	}
	p := write(t, docs...)
	for chart, want := range map[string]bool{
		"IOPS over time: randread, 4 KiB, 32 in flight": true, "Bandwidth over time: randread, 4 KiB, 32 in flight": false,
		"IOPS over time: randread, 1 MiB, 32 in flight": false, "Bandwidth over time: randread, 1 MiB, 32 in flight": true,
		"Latency by percentile: randread, 1 MiB, 32 in flight": true, "Latency by percentile": false,
	} {
		if strings.Contains(p, "<h3>"+chart+"</h3>\n<svg") != want {
			t.Errorf("%q: there is to be one: %v", chart, want)
		}
	}
}

// A page asks the network for nothing and runs nothing.
func TestSelfContained(t *testing.T) {
	p := write(t, saveOf(t, nil))
	for _, never := range []string{"<script", "src=", "@import", "url(", "<link", "href=\"http"} {
		if strings.Contains(p, never) {
			t.Errorf("the page has %s", never)
		}
	}
	if !strings.Contains(p, "default-src 'none'") {
		t.Error("no Content-Security-Policy")
	}
}

// Names come from files that anybody may have written.
func TestEscaped(t *testing.T) {
	evil := `<script>alert(1)</script>&\"'`
	d := saveOf(t, func(s string) string {
		return strings.NewReplacer(`"fast 4k"`, `"`+evil+`"`, `"dialect":"3.1.1"`, `"dialect":"`+evil+`"`).Replace(s)
	})
	p := write(t, d)
	if strings.Contains(p, "<script") {
		t.Error("a name became a part of the page")
	}
	var b bytes.Buffer
	if err := Plot(&b, []*saved.Document{d}); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, b.String())
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(p, -1) {
		wellFormed(t, svg)
	}
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in %.200s", err, text)
		}
	}
}

// Charts of what is not known are left out, and the rest is shown.
func TestLittleIsKnown(t *testing.T) {
	p := write(t, saveOf(t, func(string) string {
		return `{"fio version":"fio-3.33","jobs":[{"jobname":"a","read":{"io_bytes":10,"bw_bytes":10,"iops":1,"runtime":1000,"total_ios":1}}]}`
	}))
	if strings.Contains(p, "<svg") || !strings.Contains(p, `data-figure="p99">–<`) {
		t.Error(p)
	}
	d := saveOf(t, func(string) string {
		return `{"fio version":"fio-3.33","jobs":[{"jobname":"a"}]}`
	})
	if err := Write(io.Discard, []*saved.Document{d}, Options{}); !errors.Is(err, ErrNothing) {
		t.Error(err)
	}
	if err := Plot(io.Discard, []*saved.Document{d}); !errors.Is(err, ErrNothing) {
		t.Error(err)
	}
}

func TestFindings(t *testing.T) {
	one := func(name string, bandwidth []float64, cpu float64, p99 int64) *saved.Job {
		j := &saved.Job{Name: name, Engine: name, RW: "write", BlockSize: "1048576", Depth: 8, NumJobs: 1, ClientCPU: cpu, ServerCPU: -1, Allocations: -1, RDMAPercent: -1}
		j.Traffic[result.Write] = saved.Traffic{IOs: 100, Bandwidth: bandwidth[len(bandwidth)/2], Runtime: time.Second, Runs: saved.Runs{Bandwidth: bandwidth}}
		return j
	}
	docs := []*saved.Document{{Jobs: []*saved.Job{
		one("slow", []float64{90, 95, 100, 105, 110}, 2, 0),
		one("fast", []float64{290, 295, 300, 305, 310}, 1, 0),
		one("alike", []float64{288, 297, 299, 301, 312}, 1, 0)}}}
	f := findings(gather(docs))
	if len(f) != 1 {
		t.Fatalf("%+v", f)
	}
	want := "300 B/s: 1.00 times that of alike (within the noise of 5 and 5 runs, p=1.00) and 3.00 times that of slow (more than the noise of 5 and 5 runs, p=0.008)."
	if f[0].Best != "fast" || f[0].Load != "write, 1 MiB, 8 in flight" || f[0].Summary != want || len(f[0].Reasons) != 0 {
		t.Errorf("%+v", f[0])
	}
	docs[0].Jobs = docs[0].Jobs[:2]
	if f = findings(gather(docs)); len(f[0].Reasons) != 1 || f[0].Reasons[0] != "Client CPU of fast is 1/2.00 of that of slow: 1.00 s/GiB against 2.00 s/GiB." {
		t.Errorf("%+v", f)
	}
}

// Whatever can be read can be drawn.
func FuzzPage(f *testing.F) {
	f.Add(`{"fio version":"f","jobs":[{"jobname":"a","job options":{"bs":"1k"},"read":{"io_bytes":1,"bw_bytes":1e308,"iops":1e300,"total_ios":1,"clat_ns":{"min":0,"max":0,"mean":0,"N":1,"percentile":{"0.0":0,"100.0":0},"bins":{"0":1,"9223372036854775807":1}}},"usr_cpu":1e300,"job_runtime":1,"smbd_rdma":{"read":{"bw":[[0,0],[1,1e308]]}}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := saved.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		if err := Write(io.Discard, []*saved.Document{d}, Options{}); err != nil && !errors.Is(err, ErrNothing) {
			t.Fatal(err)
		}
	})
}
