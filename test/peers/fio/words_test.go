//go:build peers

package fio

import (
	"bytes"
	"encoding/json"
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
)

// A word of a job file with what we read from it, in the unit in which fio prints it when
// it is asked what it reads.
type word struct {
	line string
	got  func(*job.Job) []uint64
}

func both(v [job.Directions]uint64) []uint64 { return v[:] }

// amount is a number of bytes; of a percentage fio has the complement.
func amount(a job.Amount) []uint64 {
	if a.Percent > 0 {
		return []uint64{^uint64(0) - uint64(a.Percent)}
	}
	return []uint64{a.Bytes}
}

func micros(d time.Duration) []uint64 { return []uint64{uint64(d.Microseconds())} }

func words() []word {
	var out []word
	add := func(got func(*job.Job) []uint64, lines ...string) {
		for _, l := range lines {
			out = append(out, word{l, got})
		}
	}
	size := func(j *job.Job) []uint64 { return amount(j.Size) }
	for _, n := range []string{"4096", "0x10000", "8192"} {
		add(size, "size="+n)
	}
	for _, unit := range []string{"k", "K", "kb", "KB", "m", "M", "mb", "g", "G", "gb", "t", "tb", "p", "kib", "KiB", "mib", "gib", "tib", "pib"} {
		add(size, "size=7"+unit)
	}
	add(size, "size=1%", "size=50%", "size=100%")
	add(func(j *job.Job) []uint64 { return amount(j.Offset) }, "offset=0", "offset=12k", "offset=33%")
	add(func(j *job.Job) []uint64 { return amount(j.OffsetIncrement) }, "offset_increment=1g", "offset_increment=5%")
	add(func(j *job.Job) []uint64 { return amount(j.IOSize) }, "io_size=3g", "io_limit=3g", "io_size=20%")
	add(func(j *job.Job) []uint64 { return []uint64{j.FileSizeMin} }, "filesize=5m")
	add(func(j *job.Job) []uint64 { return []uint64{j.FileSizeMin, j.FileSizeMax} }, "filesize=5m-9m")
	add(func(j *job.Job) []uint64 { return both(j.MinBS)[:1] }, "bs=8k", "blocksize=64k", "bs=1", "bs=1000")
	add(func(j *job.Job) []uint64 { return both(j.MinBS) }, "bs=8k,4k", "bs=1m,512")
	add(func(j *job.Job) []uint64 { return []uint64{j.NumberIOs} }, "number_ios=10", "number_ios=2k")
	add(func(j *job.Job) []uint64 { return both(j.Rate)[:1] }, "rate=1m", "rate=1MiB", "rate=500k")
	add(func(j *job.Job) []uint64 { return both(j.Rate) }, "rate=1m,2m")
	add(func(j *job.Job) []uint64 { return both(j.RateIOPS)[:1] }, "rate_iops=100", "rate_iops=1k")
	add(func(j *job.Job) []uint64 { return []uint64{uint64(j.Loops)} }, "loops=3")
	add(func(j *job.Job) []uint64 { return []uint64{uint64(j.Fsync)} }, "fsync=32")
	add(func(j *job.Job) []uint64 { return []uint64{j.RandSeed} }, "randseed=12345", "randseed=0xff")
	add(func(j *job.Job) []uint64 { return []uint64{uint64(j.RWMixRead)} }, "rwmixread=70")
	add(func(j *job.Job) []uint64 { return []uint64{100 - uint64(j.RWMixRead)} }, "rwmixwrite=70")
	for _, t := range []string{"0", "5", "90", "5s", "3m", "2h", "1d", "250ms", "250msec", "5us", "5usec", "5S", "3M"} {
		add(func(j *job.Job) []uint64 { return micros(j.Runtime) }, "runtime="+t, "timeout="+t)
		add(func(j *job.Job) []uint64 { return micros(j.RampTime) }, "ramp_time="+t)
	}
	for _, t := range []string{"0", "5", "90", "5s", "3m", "250ms", "5us"} {
		add(func(j *job.Job) []uint64 { return micros(j.ThinkTime) }, "thinktime="+t)
		add(func(j *job.Job) []uint64 { return micros(j.LatencyTarget) }, "latency_target="+t)
		add(func(j *job.Job) []uint64 { return micros(j.MaxLatency[job.Read]) }, "max_latency="+t)
	}
	add(func(j *job.Job) []uint64 { return append(micros(j.StartDelay), micros(j.StartDelayMax)...) }, "startdelay=5-10", "startdelay=500ms-2s")
	flag := func(got func(*job.Job) bool) func(*job.Job) []uint64 {
		return func(j *job.Job) []uint64 {
			if got(j) {
				return []uint64{1}
			}
			return []uint64{0}
		}
	}
	for _, v := range []string{"=0", "=1"} {
		add(flag(func(j *job.Job) bool { return j.Direct }), "direct"+v)
		add(flag(func(j *job.Job) bool { return j.EndFsync }), "end_fsync"+v)
		add(flag(func(j *job.Job) bool { return j.NoRandomMap }), "norandommap"+v)
	}
	add(flag(func(j *job.Job) bool { return j.GroupReporting }), "group_reporting", "group_reporting=0")
	return out
}

var read = regexp.MustCompile(`Parsing section \[(j\d+)\]|\bout=(\d+)$`)

// fio prints what it reads when it is asked for that; ours is the same.
func TestValues(t *testing.T) {
	all := words()
	var text strings.Builder
	text.WriteString("[global]\nrw=rw\n")
	for i, w := range all {
		fmt.Fprintf(&text, "[j%d]\n%s\n", i, w.line)
	}
	file := filepath.Join(t.TempDir(), "job.fio")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := exec.Command("fio", "--parse-only", "--debug=parse", file).CombinedOutput()
	if err != nil {
		t.Fatalf("fio: %v\n%s", err, log)
	}
	values, section := map[string][]uint64{}, ""
	for line := range bytes.Lines(log) {
		switch m := read.FindSubmatch(bytes.TrimSpace(line)); {
		case m == nil:
		case m[1] != nil:
			section = string(m[1])
		case section != "":
			n, err := strconv.ParseUint(string(m[2]), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			values[section] = append(values[section], n)
		}
	}
	for i, w := range all {
		one := filepath.Join(t.TempDir(), "one.fio")
		if err := os.WriteFile(one, []byte("[j]\nrw=rw\n"+w.line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		want := values[fmt.Sprintf("j%d", i)]
		plan, err := job.Parse([]string{one}, job.System())
		if err != nil {
			t.Errorf("%s: %v, and fio has %d", w.line, err, want)
			continue
		}
		if got := w.got(plan.Jobs[0]); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %d, fio has %d", w.line, got, want)
		}
	}
}

// What fio refuses is refused.
func TestRefused(t *testing.T) {
	for _, line := range []string{
		"nosuchoption=1", "rw=raed", "bs=", "bs", "bs=x", "bs=0", "iodepth=0", "iodepth", "direct=2", "direct", "rwmixread=101", "percentage_random=101",
		"runtime=x", "size=x", "verify=none", "verify=md6", "random_distribution=zipf:1", "random_distribution=pareto:1", "random_distribution=normal:100",
		"random_distribution=zoned:50/50", "random_distribution=flat", "percentile_list=101", "percentile_list=x", "bssplit=4k/60:8k/60:16k:32k", "bsrange=4k",
		"file_service_type=never", "buffer_compress_percentage=101", "dedupe_percentage=101", "buffer_pattern=xyz", "verify_pattern=xyz",
		"continue_on_error=maybe", "unified_rw_reporting=3", "sync=maybe", "fallocate=maybe", "kb_base=1001", "rate_process=even", "thinktime_blocks_type=some",
		"significant_figures=0", "significant_figures=11", "exit_what=none", "random_generator=mersenne", "latency_percentile=101", "rw_sequencer=random",
	} {
		file := filepath.Join(t.TempDir(), "job.fio")
		if err := os.WriteFile(file, []byte("[j]\nioengine=null\nsize=1m\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("fio", "--parse-only", file).CombinedOutput(); err == nil {
			t.Errorf("%s: fio takes it, so that the row has no meaning here: %s", line, out)
		}
		if _, err := job.Parse([]string{file}, job.System()); err == nil {
			t.Errorf("%s: fio refuses it, and we take it", line)
		}
	}
}

// document is what is compared of the answers.
type document struct {
	Global map[string]string `json:"global options"`
	Jobs   []struct {
		Jobname     string            `json:"jobname"`
		Groupid     int               `json:"groupid"`
		Error       int               `json:"error"`
		Options     map[string]string `json:"job options"`
		Read, Write struct {
			Bytes int64 `json:"io_bytes"`
			IOs   int64 `json:"total_ios"`
		}
	} `json:"jobs"`
}

func (d document) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "global %v\n", d.Global)
	for _, j := range d.Jobs {
		fmt.Fprintf(&b, "%s group %d error %d read %d bytes in %d, write %d bytes in %d, options %v\n",
			j.Jobname, j.Groupid, j.Error, j.Read.Bytes, j.Read.IOs, j.Write.Bytes, j.Write.IOs, j.Options)
	}
	return b.String()
}

// The null engine of both does the same I/Os, job by job.
func TestWhatMoves(t *testing.T) {
	bin := os.Getenv("SMBD_RDMA_BIN")
	if bin == "" {
		t.Fatal("SMBD_RDMA_BIN does not say where smbd-rdma is")
	}
	const global = "[global]\nioengine=null\nsize=1m\n"
	for _, c := range []string{
		global + "[j]\n",
		global + "[j]\nrw=randread\n",
		global + "[j]\nrw=write\nbs=64k\n",
		global + "[j]\nbs=3k\n",
		global + "[j]\nbs=1m\n",
		global + "[j]\nrw=randwrite\nbs=3k\n",
		global + "[j]\nloops=3\n",
		global + "[j]\nrw=randread\nloops=2\n",
		global + "[j]\nio_size=256k\n",
		global + "[j]\nio_size=3m\n",
		global + "[j]\nrw=randread\nio_size=3m\n",
		global + "[j]\nnumber_ios=10\n",
		global + "[j]\noffset=512k\n",
		global + "[j]\nnrfiles=4\n",
		global + "[j]\nnrfiles=3\nrw=randread\n",
		global + "[j]\nnrfiles=4\nfile_service_type=sequential\n",
		global + "[j]\nfilesize=256k\nnrfiles=4\n",
		global + "[j]\nnumjobs=3\n",
		global + "[j]\nnumjobs=3\ngroup_reporting\n",
		global + "[a]\n[b]\nstonewall\n[c]\n",
		global + "[a]\n[b]\nnew_group\n[c]\nwait_for=b\n",
		global + "[a]\nname=x\nbs=8k\n",
		global + "[j]\niodepth=16\nbs=16k\n",
		global + "[j]\nkb_base=1000\nsize=1m\nbs=1k\n",
		global + "[j]\nsize=10000\n",
		global + "[j]\nrw=read:4k\n",
		global + "[j]\nrw=randread:8\n",
		global + "[j]\nrw=randread\nnorandommap\n",
		global + "[j]\nrw=randread\nrandom_generator=lfsr\n",
		global + "[j]\nbs=4k,8k\nrw=write\n",
		global + "[j]\nsize=50%\nfilesize=1m\n",
	} {
		file := filepath.Join(t.TempDir(), "job.fio")
		if err := os.WriteFile(file, []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
		var docs [2]document
		for i, cmd := range []*exec.Cmd{exec.Command("fio", "--output-format=json", file), exec.Command(bin, "bench", "--output-format=json", file)} {
			cmd.Dir = t.TempDir()
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err == nil {
				err = json.Unmarshal(out[bytes.IndexByte(out, '{'):], &docs[i])
			}
			if err != nil {
				t.Errorf("%q: %v: %v\n%s%s", c, cmd.Args, err, stderr.Bytes(), out)
			}
		}
		if want, got := docs[0].String(), docs[1].String(); got != want {
			t.Errorf("%s got\n%s fio has\n%s", c, got, want)
		}
	}
}
