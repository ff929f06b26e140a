package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// sample is a plan and what it measured, of reads, writes and syncs.
func sample() Input {
	j := &job.Job{Name: "a", Stats: true, KBBase: 1024, IODepth: 4, ClatPercentiles: true, LatPercentiles: true, SlatPercentiles: true,
		Options: []job.Option{{Name: "rw", Value: "randrw"}, {Name: "bs", Value: "4k"}}}
	r := &result.Job{Name: "a", Jobs: 1, Runtime: 2 * time.Second, JobRuntime: 2 * time.Second, Elapsed: 2100 * time.Millisecond, Depth: 4}
	for d := range result.Trim {
		t := &r.Traffic[d]
		t.IOs, t.Bytes, t.Runtime = 1000, 4096000, 2*time.Second
		for i := range int64(1000) {
			t.Submission.Record(500 + i)
			t.Completion.Record(45_000 + 100*i)
			t.Total.Record(45_500 + 101*i)
		}
		t.Bandwidth.Add(500*time.Millisecond, 1900)
		t.Bandwidth.Add(time.Second, 2100)
		t.IOPS.Add(500*time.Millisecond, 480)
		t.IOPS.Add(time.Second, 520)
	}
	for i := range int64(10) {
		r.Sync.Record(100_000 + i)
	}
	r.Depths[2], r.Submits[1], r.Completes[1] = 2000, 2000, 2000
	r.CPU = result.CPU{User: 300 * time.Millisecond, System: 500 * time.Millisecond, Switches: 2010, Allocations: 7, ServerUser: time.Second, ServerSeen: true}
	r.Engine = result.Engine{Name: "smbdirect", RDMABytes: 6144000, InlineBytes: 2048000, CreditWaits: 3, Facts: []result.Option{{Name: "dialect", Value: "3.1.1"}}}
	return Input{Plan: &job.Plan{Jobs: []*job.Job{j}}, Results: []*result.Job{r}, Version: "fio-3.33", Time: time.Unix(1700000000, 123e6)}
}

func write(t *testing.T, f job.Format, in Input) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, f, in); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decode(t *testing.T, b []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// free are objects whose names are data: of any of these fields one stands for all.
var free = regexp.MustCompile(`\.(percentile|bins|job options|global options)$`)

// schema is, for every path of a document, the type that is there.
func schema(v any, path string, out map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		out[path] = "object"
		for name, e := range v {
			if free.MatchString(path) {
				name = "*"
			}
			schema(e, path+"."+name, out)
		}
	case []any:
		out[path] = "array"
		for _, e := range v {
			schema(e, path+"[]", out)
		}
	case json.Number:
		out[path] = "integer"
		if strings.Contains(v.String(), ".") {
			out[path] = "decimal"
			if _, places, _ := strings.Cut(v.String(), "."); len(places) != 6 {
				out[path] = "decimal of " + strconv.Itoa(len(places)) + " places"
			}
		}
	default:
		out[path] = fmt.Sprintf("%T", v)
	}
}

// conforms compares a document of ours with one of fio's, both ways.
func conforms(t *testing.T, ours, theirs []byte) {
	t.Helper()
	got, want := make(map[string]string), make(map[string]string)
	schema(decode(t, ours), "", got)
	schema(decode(t, theirs), "", want)
	for path, typ := range want {
		if strings.HasPrefix(path, ".disk_util[]") {
			continue // of local disks, which are not looked at
		}
		if got[path] != typ {
			t.Errorf("%s: %q, and fio has %q", path, got[path], typ)
		}
	}
	for path := range got {
		if want[path] == "" && !strings.HasPrefix(path, ".jobs[].smbd_rdma") && !strings.HasPrefix(path, ".smbd_rdma") {
			t.Errorf("%s is no field of fio's", path)
		}
	}
}

// Each field of fio's JSON is in ours with its type, and nothing else outside our own
// object. testdata has what fio 3.33 printed for a job of this kind.
func TestJSONHasFiosFields(t *testing.T) {
	for f, file := range map[job.Format]string{job.FormatJSON: "fio-3.33-json.json", job.FormatJSONPlus: "fio-3.33-jsonplus.json"} {
		t.Run(string(f), func(t *testing.T) {
			theirs, err := os.ReadFile(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			conforms(t, write(t, f, sample()), theirs)
		})
	}
}

// The same against the fio that is installed.
func TestJSONAgainstInstalledFio(t *testing.T) {
	fio := need(t, "fio")
	for _, f := range []job.Format{job.FormatJSON, job.FormatJSONPlus} {
		out, err := exec.CommandContext(t.Context(), fio, "--name=a", "--rw=randrw", "--size=256k", "--bs=4k", "--ioengine=libaio", "--iodepth=4", "--fsync=16",
			"--slat_percentiles=1", "--lat_percentiles=1", "--clat_percentiles=1", "--directory="+t.TempDir(), "--output-format="+string(f)).Output()
		if err != nil {
			t.Fatal(err)
		}
		conforms(t, write(t, f, sample()), out)
	}
}

// need is a program, without which a test is skipped.
func need(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		t.Skipf("%s is not installed", name)
	}
	return p
}

// The figures are those that were measured.
func TestJSONFigures(t *testing.T) {
	doc := decode(t, write(t, job.FormatJSONPlus, sample()))
	for path, want := range map[string]string{
		"timestamp": "1700000000", "timestamp_ms": "1700000000123",
		"jobs.0.read.io_bytes": "4096000", "jobs.0.read.io_kbytes": "4000", "jobs.0.read.bw_bytes": "2048000", "jobs.0.read.bw": "2000",
		"jobs.0.read.iops": "500.000000", "jobs.0.read.runtime": "2000", "jobs.0.read.total_ios": "1000",
		"jobs.0.read.slat_ns.min": "500", "jobs.0.read.slat_ns.max": "1499", "jobs.0.read.slat_ns.mean": "999.500000", "jobs.0.read.slat_ns.N": "1000",
		"jobs.0.read.clat_ns.min": "45000", "jobs.0.read.clat_ns.max": "144900",
		"jobs.0.write.bw_min": "1900", "jobs.0.write.bw_max": "2100", "jobs.0.write.bw_mean": "2000.000000", "jobs.0.write.bw_agg": "100.000000", "jobs.0.write.bw_samples": "2",
		"jobs.0.write.iops_mean": "500.000000", "jobs.0.write.iops_stddev": "28.284271",
		"jobs.0.trim.total_ios": "0", "jobs.0.sync.total_ios": "10", "jobs.0.job_runtime": "2000", "jobs.0.usr_cpu": "15.000000", "jobs.0.sys_cpu": "25.000000",
		"jobs.0.ctx": "2010", "jobs.0.iodepth_level.4": "100.000000", "jobs.0.elapsed": "3",
		"jobs.0.latency_depth":          "4",
		"jobs.0.smbd_rdma.rdma_percent": "75.000000", "jobs.0.smbd_rdma.credit_waits": "3",
		"jobs.0.smbd_rdma.client_cpu_seconds_per_gib": "104.857600", "jobs.0.smbd_rdma.server_cpu_seconds_per_gib": "131.072000",
		"jobs.0.smbd_rdma.repeats.runs": "1", "jobs.0.smbd_rdma.repeats.read.iops.0": "500.000000",
	} {
		var v any = doc
		for _, name := range strings.Split(path, ".") {
			if l, ok := v.([]any); ok {
				v = l[0]
				continue
			}
			v = v.(map[string]any)[name]
		}
		if got := fmt.Sprint(v); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// Half of the latencies of 45 to 145 µs are below 95 µs; a figure of three digits is what
// a histogram has.
func TestSpreadAndPercentiles(t *testing.T) {
	in := sample()
	ns, us, ms := spread(in.Results[0])
	sum := 0.0
	for _, s := range [][]float64{ns, us, ms} {
		for _, v := range s {
			sum += v
		}
	}
	if sum < 99.999 || sum > 100.001 || us[4] < 4.8 || us[4] > 5.2 || us[5] < 49.8 || us[5] > 50.2 || us[6] < 44.8 || us[6] > 45.2 {
		t.Errorf("%.2f %.2f %.2f", ns, us, ms)
	}
	l := &in.Results[0].Traffic[result.Read].Completion
	for p, want := range map[float64]int64{1: 45_900, 50: 94_900, 99: 143_900, 100: 144_900} {
		if got := l.Percentile(p); got < want-want/1000 || got > want+want/500 {
			t.Errorf("percentile %g: %d, want %d", p, got, want)
		}
	}
}

// Of a group with group_reporting there is one entry, in which jobs add up.
func TestGroupReporting(t *testing.T) {
	in := sample()
	b := *in.Plan.Jobs[0]
	in.Plan.Jobs[0].GroupReporting, b.GroupReporting = true, true
	in.Plan.Jobs = append(in.Plan.Jobs, &b)
	in.Results = append(in.Results, in.Results[0].Clone())
	doc := decode(t, write(t, job.FormatJSON, in))
	jobs := doc["jobs"].([]any)
	read := jobs[0].(map[string]any)["read"].(map[string]any)
	if len(jobs) != 1 || fmt.Sprintf("%v %v %v", read["total_ios"], read["bw"], read["bw_mean"]) != "2000 4000 4000.000000" {
		t.Errorf("%d jobs, %v", len(jobs), read)
	}
}

// fio's own tool makes a table of our json+, in which all I/Os are.
func TestClat2csv(t *testing.T) {
	tool := need(t, "fio_jsonplus_clat2csv")
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.json"), filepath.Join(dir, "out.csv")
	if err := os.WriteFile(in, write(t, job.FormatJSONPlus, sample()), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.CommandContext(t.Context(), tool, in, out).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	f, err := os.Open(filepath.Join(dir, "out_job0.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := csv.NewReader(f)
	c.TrimLeadingSpace = true
	rows, err := c.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	sums := make(map[string]int)
	for _, row := range rows[1:] {
		for i, name := range rows[0] {
			if n, err := strconv.Atoi(strings.TrimSpace(row[i])); err == nil && strings.HasSuffix(name, "_count") {
				sums[name] += n
			}
		}
	}
	for _, name := range []string{"read_slat_ns_count", "read_clat_ns_count", "read_lat_ns_count", "write_clat_ns_count"} {
		if sums[name] != 1000 {
			t.Errorf("%s: %d I/Os of 1000", name, sums[name])
		}
	}
}

// The terse line has as many fields as fio's in each version where no disk is looked at.
func TestTerse(t *testing.T) {
	for version, want := range map[int]int{2: 161, 3: 121, 4: 162, 5: 180} {
		in := sample()
		in.Plan.Settings.TerseVersion = version
		line := strings.TrimSpace(string(write(t, job.FormatTerse, in)))
		fields := strings.Split(line, ";")
		if len(fields) != want || fields[0] != strconv.Itoa(version) {
			t.Errorf("version %d: %d fields, want %d: %s", version, len(fields), want, line)
		}
		if version == 3 && strings.Join(fields[2:9], ";") != "a;0;0;4000;2000;500;2000" {
			t.Errorf("%v", fields[:9])
		}
	}
}
