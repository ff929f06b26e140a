package job

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// files are job files of a test, by name; an Env with them and a machine of 4 processors,
// 2048 MiB and pages of 4096 bytes.
type files map[string]string

func (f files) env() Env {
	return Env{
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := f[name]; ok {
				return []byte(text), nil
			}
			return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
		},
		Exists:  func(name string) bool { _, ok := f[name]; return ok },
		Special: func(name string) bool { return strings.HasPrefix(name, "/dev/") },
		Getenv: func(name string) string {
			return map[string]string{"SIZE": "16m", "DIR": "/srv"}[name]
		},
		Chance: func() uint64 { return 4711 }, PageSize: 4096, MemoryMB: 2048, CPUs: 4,
	}
}

// parse reads one job file.
func parse(t *testing.T, text string) *Plan {
	t.Helper()
	plan, err := Parse([]string{"job.fio"}, files{"job.fio": text}.env())
	if err != nil {
		t.Fatalf("%v, of\n%s", err, text)
	}
	return plan
}

func TestOneOption(t *testing.T) {
	both := func(n uint64) [Directions]uint64 { return [Directions]uint64{n, n} }
	for _, c := range []struct {
		options string
		got     func(*Job) any
		want    any
	}{
		{"", func(j *Job) any { return j.RW }, RW{Reads: true}},
		{"", func(j *Job) any { return j.MinBS }, both(4096)},
		{"", func(j *Job) any { return j.Files }, []string{"j.0.0"}},
		{"", func(j *Job) any { return j.RandSeed }, uint64(0x89)},
		{"rw=randrw", func(j *Job) any { return j.RW }, RW{Reads: true, Writes: true, Random: true}},
		{"readwrite=write", func(j *Job) any { return j.RW.String() }, "write"},
		{"rw=randread:8", func(j *Job) any { return j.SeqRun }, 8},
		{"rw=read:4k", func(j *Job) any { return j.SeqAdd }, int64(4096)},
		{"rw=write:-8k", func(j *Job) any { return j.SeqAdd }, int64(-8192)},
		{"rwmixwrite=30", func(j *Job) any { return j.RWMixRead }, 70},
		{"rwmixread=70\nrwmixwrite=30", func(j *Job) any { return j.RWMixRead }, 70},
		{"bs=8k", func(j *Job) any { return j.MaxBS }, both(8192)},
		{"blocksize=4k,64k", func(j *Job) any { return j.MaxBS }, [Directions]uint64{4096, 65536}},
		{"bs=,64k", func(j *Job) any { return j.MaxBS }, [Directions]uint64{4096, 65536}},
		{"bs=64k,", func(j *Job) any { return j.MaxBS }, [Directions]uint64{65536, 4096}},
		{"bs=1k,2k,4k", func(j *Job) any { return j.MaxBS }, [Directions]uint64{1024, 2048}},
		{"bs = 8k # a comment", func(j *Job) any { return j.MaxBS }, both(8192)},
		{"bsrange=4k-16k", func(j *Job) any { return [2]any{j.MinBS, j.MaxBS} }, [2]any{both(4096), both(16384)}},
		{"bsrange=16k-4k,1k-2k", func(j *Job) any { return [2]any{j.MinBS, j.MaxBS} }, [2]any{[Directions]uint64{4096, 1024}, [Directions]uint64{16384, 2048}}},
		{"bsrange=4k-16k\nbs=1k", func(j *Job) any { return j.MinBS }, both(4096)}, // the range wins, as in fio
		{"bssplit=4k/60:64k/30:1k", func(j *Job) any { return j.BSSplit[Write] }, []Split{{1024, 10}, {65536, 30}, {4096, 60}}},
		{"bssplit=4k:64k:1k/50", func(j *Job) any { return j.BSSplit[Read] }, []Split{{4096, 25}, {65536, 25}, {1024, 50}}},
		{"bssplit=4k/50:8k/50,1m/100", func(j *Job) any { return j.BSSplit[Write] }, []Split{{1 << 20, 100}}},
		{"bssplit=4k/50:8k/50,1m/100", func(j *Job) any { return j.MaxBS }, [Directions]uint64{8192, 1 << 20}},
		{"rw=randread\nba=512", func(j *Job) any { return j.BA }, both(512)},
		{"rw=randread\nba=512", func(j *Job) any { return j.NoRandomMap }, true},
		{"rw=read\nba=512", func(j *Job) any { return j.BA }, both(4096)}, // of random I/O alone
		{"size=1g", func(j *Job) any { return j.Size }, Amount{Bytes: 1 << 30}},
		{"size=25%", func(j *Job) any { return j.Size }, Amount{Percent: 25}},
		{"size=${SIZE}", func(j *Job) any { return j.Size.Bytes }, uint64(16 << 20)},
		{"size=8*$mb_memory", func(j *Job) any { return j.Size.Bytes }, uint64(16384)},
		{"size=$pagesize", func(j *Job) any { return j.Size.Bytes }, uint64(4096)},
		{"numjobs=$ncpus", func(j *Job) any { return j.NumJobs }, 4},
		{"kb_base=1000\nsize=1g", func(j *Job) any { return j.Size.Bytes }, uint64(1e9)},
		{"size=1g\nkb_base=1000", func(j *Job) any { return j.Size.Bytes }, uint64(1e9)}, // first, wherever it stands
		{"filesize=1m-2m", func(j *Job) any { return [2]uint64{j.FileSizeMin, j.FileSizeMax} }, [2]uint64{1 << 20, 2 << 20}},
		{"offset=50%\noffset_increment=1m", func(j *Job) any { return [2]Amount{j.Offset, j.OffsetIncrement} }, [2]Amount{{Percent: 50}, {Bytes: 1 << 20}}},
		{"filename=a:b\\:c:d", func(j *Job) any { return j.Files }, []string{"a", "b:c", "d"}},
		{"directory=/x\nfilename=a", func(j *Job) any { return j.Files }, []string{"/x/a"}},
		{"filename=a\ndirectory=${DIR}", func(j *Job) any { return j.Files }, []string{"/srv/a"}},
		{"nrfiles=2", func(j *Job) any { return j.Files }, []string{"j.0.0", "j.0.1"}},
		{"nrfiles=2\nfilename_format=f.$FileNum.$jobname", func(j *Job) any { return j.Files }, []string{"f.0.j", "f.1.j"}},
		{"file_service_type=random:8", func(j *Job) any { return j.FileService }, Distribution{Kind: Uniform, Center: -1, Run: 8}},
		{"file_service_type=gauss:10:0.5", func(j *Job) any { return j.FileService }, Distribution{Kind: Normal, Param: 10, Center: 0.5, Run: 1}},
		{"direct=1\nbuffered=1", func(j *Job) any { return j.Direct }, false}, // the last one wins
		{"buffered=0", func(j *Job) any { return j.Direct }, true},
		{"sync=dsync", func(j *Job) any { return j.Sync }, SyncData},
		{"iodepth=16", func(j *Job) any { return j.IODepth }, 1}, // of psync, fio's default
		{"ioengine=libaio\niodepth=16", func(j *Job) any { return j.IODepth }, 16},
		{"ioengine=libaio\niodepth=16", func(j *Job) any { return [2]int{j.IODepthLow, j.IODepthBatch} }, [2]int{16, 1}},
		{"ioengine=libaio\niodepth=16\niodepth_batch=0\niodepth_low=99", func(j *Job) any { return [2]int{j.IODepthLow, j.IODepthBatch} }, [2]int{16, 16}},
		{"ioengine=libaio\niodepth=16\niodepth_batch_complete=8", func(j *Job) any { return [2]int{j.IODepthBatchCompleteMin, j.IODepthBatchCompleteMax} }, [2]int{8, 8}},
		{"runtime=1m", func(j *Job) any { return j.Runtime }, time.Minute},
		{"timeout=90", func(j *Job) any { return j.Runtime }, 90 * time.Second},
		{"time_based", func(j *Job) any { return j.TimeBased }, false}, // without runtime
		{"time_based=0\nruntime=5", func(j *Job) any { return j.TimeBased }, false},
		{"startdelay=5-10", func(j *Job) any { return [2]time.Duration{j.StartDelay, j.StartDelayMax} }, [2]time.Duration{5 * time.Second, 10 * time.Second}},
		{"thinktime=100\nthinktime_spin=1s", func(j *Job) any { return j.ThinkTimeSpin }, 100 * time.Microsecond},
		{"rate=1m,2m", func(j *Job) any { return j.Rate }, [Directions]uint64{1 << 20, 2 << 20}},
		{"rate=,500k", func(j *Job) any { return j.Rate }, [Directions]uint64{0, 500 << 10}},
		{"rate_iops=100\nrate_process=poisson", func(j *Job) any { return j.RatePoisson }, true},
		{"latency_target=500", func(j *Job) any { return j.LatencyTarget }, 500 * time.Microsecond},
		{"max_latency=1s,2s", func(j *Job) any { return j.MaxLatency }, [Directions]time.Duration{time.Second, 2 * time.Second}},
		{"random_distribution=zipf", func(j *Job) any { return j.Distribution }, Distribution{Kind: Zipf, Param: 1.1, Center: -1, Run: 1}},
		{"random_distribution=pareto:0.3:0.5", func(j *Job) any { return j.Distribution }, Distribution{Kind: Pareto, Param: 0.3, Center: 0.5, Run: 1}},
		{"random_distribution=normal:20", func(j *Job) any { return j.NoRandomMap }, true},
		{"random_distribution=zoned:60/10:40/", func(j *Job) any { return j.Distribution.Zones[Read] }, []Zone{{60, Amount{Percent: 10}}, {40, Amount{Percent: 90}}}},
		{"random_distribution=zoned_abs:60/1g:40", func(j *Job) any { return j.Distribution.Zones[Read] }, []Zone{{60, Amount{Bytes: 1 << 30}}, {40, Amount{}}}},
		{"percentage_random=50,0", func(j *Job) any { return j.PercentageRandom }, [Directions]int{50, 0}},
		{"randseed=7\nrandrepeat=0", func(j *Job) any { return j.RandSeed }, uint64(7)},
		{"randrepeat=0", func(j *Job) any { return j.RandSeed }, uint64(4711)},
		{"rw=write\nverify=crc32c-intel", func(j *Job) any { return j.Verify }, VerifyCRC32C},
		{"rw=write\nverify=md5", func(j *Job) any { return [2]any{j.VerifyInterval, j.RefillBuffers} }, [2]any{uint64(4096), true}},
		{"rw=write\nverify=md5\nbssplit=4k:6k", func(j *Job) any { return j.VerifyInterval }, uint64(2048)},
		{"rw=write\nverify=md5\nverify_interval=3k", func(j *Job) any { return j.VerifyInterval }, uint64(4096)},
		{"rw=write\nverify_pattern=0xff", func(j *Job) any { return j.Verify }, VerifyPattern},
		{"rw=write\nverify=md5\nverify_pattern=0xff", func(j *Job) any { return j.Verify }, VerifyMD5},
		{"buffer_compress_percentage=100", func(j *Job) any { return j.ZeroBuffers }, true},
		{"buffer_compress_percentage=50", func(j *Job) any { return j.RefillBuffers }, true},
		{"rw=write\nbuffer_pattern=\"x\"", func(j *Job) any { return j.ScrambleBuffers }, false},
		{"percentile_list=99.99:50:(90)", func(j *Job) any { return [2]any{j.PercentileList, j.PercentilePrecision} }, [2]any{[]float64{50, 90, 99.99}, 2}},
		{"gtod_reduce=1", func(j *Job) any { return [2]bool{j.ClatPercentiles, j.DisableBW} }, [2]bool{false, true}},
		{"disable_clat=1", func(j *Job) any { return j.ClatPercentiles }, false},
		{"write_bw_log", func(j *Job) any { return j.Logs.BW }, "j"},
		{"write_bw_log=x\nlog_avg_msec=100", func(j *Job) any { return [2]any{j.Logs.BW, j.BWAvgTime} }, [2]any{"x", 100 * time.Millisecond}},
		{"ignore_error=EIO:5,ENOSPC", func(j *Job) any { return j.IgnoreErrors }, [3][]int{{5, 5}, {28}, nil}},
		{"ignore_error=,ENOSPC", func(j *Job) any { return j.ContinueOnError }, ErrorWrite},
		{"ignore_error=EIO,:ENOSPC", func(j *Job) any { return j.ContinueOnError }, ErrorRead},
		{"continue_on_error=io", func(j *Job) any { return j.ContinueOnError }, ErrorRead | ErrorWrite},
		{"ioengine=smbdirect\nserver=h:5445\nshare=s\nrdma-threshold=8k", func(j *Job) any { return j.Remote },
			EngineOptions{Server: "h:5445", Share: "s", Transport: "iwarp", Signing: "if-required", Encryption: "off", RDMAThreshold: 8192}},
		{"ioengine=mount\niodepth=4", func(j *Job) any { return [2]any{j.Engine, j.IODepth} }, [2]any{EnginePosix, 4}},
	} {
		j := parse(t, "[j]\n"+c.options+"\n").Jobs[0]
		if got := c.got(j); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %v, want %v", c.options, got, c.want)
		}
	}
}

// What [global] says holds for jobs after it, and what it says later is added.
func TestGlobals(t *testing.T) {
	plan := parse(t, `
; a comment
[global]
bs=8k
rw=write
[a]
[global]
rw=randread
[b]
bs=16k
[globalize]
size=1m
[c]
`)
	want := []string{"a write 8192 0", "b randread 16384 0", "c randread 8192 1048576"}
	for i, j := range plan.Jobs {
		if got := fmt.Sprint(j.Name, " ", j.RW, " ", j.MinBS[Read], " ", j.Size.Bytes); got != want[i] {
			t.Errorf("job %d: got %s, want %s", i, got, want[i])
		}
	}
	if got, want := plan.Jobs[1].Inherited, []Option{{Name: "bs", Value: "8k"}, {Name: "rw", Value: "write"}, {Name: "rw", Value: "randread"}}; !slices.Equal(got, want) {
		t.Errorf("options of [global] in b: %v, want %v", got, want)
	}
	if got, want := plan.Jobs[1].Options, []Option{{Name: "bs", Value: "16k"}}; !slices.Equal(got, want) {
		t.Errorf("options of b: %v, want %v", got, want)
	}
}

// Clones are numbered as in fio: 0, then from the last down.
func TestClones(t *testing.T) {
	plan := parse(t, "[first]\n[w]\nstonewall\nnumjobs=3\ndirectory=/a:/b\n[x]\n[y]\nnew_group\nwait_for=w\n")
	want := []string{
		"1 first 0 group 0 [first.0.0] false", "2 w 0 group 1 [/a/w.0.0] true", "3 w 2 group 1 [/a/w.2.0] false", "4 w 1 group 1 [/b/w.1.0] false",
		"5 x 0 group 1 [x.0.0] false", "6 y 0 group 2 [y.0.0] false",
	}
	for i, j := range plan.Jobs {
		got := fmt.Sprint(j.Number, " ", j.Name, " ", j.Clone, " group ", j.Group, " ", j.Files, " ", j.Stonewall)
		if got != want[i] {
			t.Errorf("job %d: got %s, want %s", i, got, want[i])
		}
	}
}

func TestIncludes(t *testing.T) {
	f := files{
		"d/job.fio":  "[global]\ninclude more.fio\n[a]\ninclude=sub/a.fio\nbs=2k\n",
		"d/more.fio": "rw=write\n# a comment\nbs=1k\n", "d/sub/a.fio": "iodepth=1\nrw=rw",
		"loop.fio": "[a]\ninclude loop2.fio\n", "loop2.fio": "include loop2.fio\n",
		"section.fio": "[a]\ninclude d/job.fio\n", "none.fio": "[a]\nbs=4k\ninclude nothing.fio\n",
	}
	plan, err := Parse([]string{"d/job.fio"}, f.env())
	if err != nil {
		t.Fatal(err)
	}
	if j := plan.Jobs[0]; j.RW.String() != "rw" || j.MinBS[Read] != 2048 {
		t.Errorf("got rw=%v bs=%d, want rw and 2048", j.RW, j.MinBS[Read])
	}
	for file, want := range map[string]string{
		"loop.fio":    "loop2.fio:1: include loop2.fio: files include each other more than 8 deep",
		"section.fio": "d/job.fio:1: [a] a file that is included has no sections",
		"none.fio":    "none.fio:3: include nothing.fio: open nothing.fio: file does not exist",
		"missing.fio": "missing.fio: cannot be read: open missing.fio: file does not exist",
	} {
		_, err := Parse([]string{file}, f.env())
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", file, err, want)
		}
		if strings.Contains(want, "not exist") && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v is not fs.ErrNotExist", file, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"[j]\n\niodpeth=4\n", "job.fio:3: [j] iodpeth=4: there is no such option; the nearest is iodepth"},
		{"[j]\nqqqqqq=1\n", "job.fio:2: [j] qqqqqq=1: there is no such option"},
		{"bs=4k\n[j]\n", "job.fio:1: bs=4k stands before the first section; begin with [global] or [job]"},
		{"[j\nbs=4k\n", "job.fio:1: [j is not a section like [job]"},
		{"[]\n", "job.fio:1: [] is not a section like [job]"},
		{"[j]\nbs=4x\n", `job.fio:2: [j] bs=4x: "4x" is not a number, or not one with a unit (k, m, g, t, p, kib ..., %)`},
		{"[j]\nbs=0\n", "job.fio:2: [j] bs=0: 0 is not in 1 to 1073741824"},
		{"[j]\nbs=\n", "job.fio:2: [j] bs=: the value is empty"},
		{"[j]\nbs\n", "job.fio:2: [j] bs: a value is missing: bs=..."},
		{"[j]\ndirectory=${NONE}\n", "job.fio:2: [j] directory=${NONE}: the value is empty; is the variable set?"},
		{"[global]\ndirect=yes\n[j]\n", `job.fio:2: [global] direct=yes: "yes" is not 0 or 1`},
		{"[j]\nrw=randtrim\n", "job.fio:2: [j] rw=randtrim: nothing is trimmed here; modes are read, write, rw, randread, randwrite and randrw"},
		{"[j]\nrw=raed\n", `job.fio:2: [j] rw=raed: "raed" is not one of randread, randrw, randwrite, read, readwrite, rw, write`},
		{"[j]\nioengine=libiao\n", "job.fio:2: [j] ioengine=libiao: there is no such engine; the nearest is libaio"},
		{"[j]\nverb=read\nioengine=rdma\n", "job.fio:3: [j] ioengine=rdma: ioengine=rdma is ndk-write, ndk-read or ndk-send here"},
		{"[j]\nhostname=x\n", "job.fio:2: [j] hostname=x: it belongs to fio's engine net and rdma, which is not here"},
		{"[j]\nserver=x\n", "job.fio:1: [j] server is an option of smb, smbdirect, go-smb2, ndk-write, ndk-read, ndk-send, not of ioengine=psync"},
		{"[j]\nioengine=smb\nserver=x\n", "job.fio:1: [j] ioengine=smb needs server= and share="},
		{"[j]\nioengine=smbdirect\nserver=x\nshare=y\ntransport=tcp\n", "job.fio:1: [j] transport=tcp is not one of ioengine=smbdirect: iwarp, verbs"},
		{"[j]\nioengine=ndk-read\n", "job.fio:1: [j] ioengine=ndk-read needs server=, where smbd-rdma bench peer runs"},
		{"[j]\nioengine=smb\nserver=//x\nshare=y\n", "job.fio:3: [j] server=//x: a host, or host:port, is asked for; the share is share="},
		{"[j]\nrwmixread=70\nrwmixwrite=50\n", "job.fio:3: [j] rwmixwrite=50: it contradicts rwmixread of the same job: give one of them"},
		{"[j]\nrate=1m\nrate_iops=5\n", "job.fio:1: [j] rate and rate_iops exclude each other"},
		{"[j]\nrate=1m\nrate_min=2m\n", "job.fio:1: [j] the least rate of reads is above the rate"},
		{"[j]\nsize=1k\n", "job.fio:1: [j] size=1024 is less than a block of 4096"},
		{"[j]\nsize=101%\n", "job.fio:2: [j] size=101%: 101% is more than 100%"},
		{"[j]\nsize=4z\n", "job.fio:2: [j] size=4z: zones (z) are of zoned block devices, which are not measured here"},
		{"[j]\nbssplit=4k/60:8k/60\n", "job.fio:2: [j] bssplit=4k/60:8k/60: the percentages add up to 120"},
		{"[j]\nwait_for=k\n[k]\n", `job.fio:2: [j] wait_for: no job before it is called "k"`},
		{"[j]\nwait_for=j\n", "job.fio:2: [j] wait_for: a job cannot wait for itself"},
		{"[j]\n[j]\n[k]\nwait_for=j\n", `job.fio:4: [k] wait_for: 2 jobs before it are called "j"`},
		{"[j]\nnumjobs=4096\n[k]\nnumjobs=1\n", "job.fio:4: [k] numjobs: there are more than 4096 jobs in all"},
		{"[j]\nnrfiles=1048576\n[k]\nnrfiles=1\n", "job.fio:4: [k] nrfiles: there are more than 1048576 files in all"},
		{"[j]\nrandom_distribution=zipf:1\n", "job.fio:2: [j] random_distribution=zipf:1: theta of zipf is above 0 and not 1"},
		{"[j]\nrandom_distribution=zoned:50/50\n", "job.fio:2: [j] random_distribution=zoned:50/50: the accesses add up to 50 per cent, not 100"},
		{"[j]\nverify=crc7\n", "job.fio:2: [j] verify=crc7: this checksum is not here; use crc32c"},
		{"[j]\nverify_only\n", "job.fio:1: [j] verify_only needs verify="},
		{"[j]\nnrfiles=3\nopenfiles=2\n", "job.fio:1: [j] openfiles=2 is less than nrfiles=3: all files of a job are open together"},
		{"[j]\nread_iolog=x\n", "job.fio:2: [j] read_iolog=x: logs of I/O are not replayed"},
		{"[j]\n\x00", "job.fio: it is no text"},
		{"", "command line: there is no job; give a job file, or --name=JOB with options"},
	} {
		_, err := Parse([]string{"job.fio"}, files{"job.fio": c.text}.env())
		if err == nil || err.Error() != c.want {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%q: %T is not *Error", c.text, err)
		}
	}
}

func TestCommandLine(t *testing.T) {
	f := files{"a.fio": "[global]\nrw=write\n[a]\n", "b.fio": "[b]\n[c]\n"}
	for _, c := range []struct {
		args []string
		want string // jobs, or the error
	}{
		{[]string{"--name=x", "--rw=randread", "--bs=8k"}, "x randread 8192 false"},
		{[]string{"--name=x", "--rw", "write", "--bs", "8k"}, "x write 8192 false"},
		{[]string{"-name=x", "-blocksize", "8k"}, "x read 8192 false"},
		{[]string{"--name=x", "--direc=1"}, "command line: [x] --direc: it may be --direct, --directory"},
		{[]string{"--name=x", "--rwmixr=8", "--new"}, "x read 4096 false"},
		{[]string{"--bs=2k", "--name=x", "--name=y", "--bs=1k"}, "x read 2048 false, y read 1024 false"},
		{[]string{"--name=global", "--rw=rw", "--name=x"}, "x rw 4096 false"},
		{[]string{"--bs=2k", "a.fio", "b.fio"}, "a write 2048 false, b read 4096 true, c read 4096 false"},
		{[]string{"a.fio", "--name=x"}, "x read 4096 false, a write 4096 false"},
		{[]string{"b.fio", "--section=c"}, "c read 4096 false"},
		{[]string{"b.fio", "--section=d"}, "command line: --section: no job is called d"},
		{[]string{"--name=x", "--rw=write", "--readonly"}, "command line: [x] --rw: the job writes, and --readonly forbids it"},
		{[]string{"--name=x", "--iodept=z"}, "command line: [x] --iodept: it may be --iodepth, --iodepth_batch, --iodepth_batch_complete_max, --iodepth_batch_complete_min, --iodepth_low"},
		{[]string{"--name=x", "--iodepth=z"}, `command line: [x] --iodepth=z: "z" is not a number, or not one with a unit (k, m, g, t, p, kib ..., %)`},
		{[]string{"--nmae=x"}, "command line: --nmae: there is no such option; the nearest is --name"},
		{[]string{"--name"}, "command line: --name: a value is missing: name=..."},
		{[]string{"--name="}, "command line: --name: the name of a job has 1 to 255 bytes"},
		{[]string{"--output-format=xml", "--name=x"}, `command line: --output-format: "xml" is not one of normal, terse, json, json+`},
		{[]string{"--status-interval=x"}, `command line: --status-interval: "x" is not a time; write 100us, 20ms, 30s, 5m, 1h or 1d`},
		{[]string{"--readonly=1"}, "command line: --readonly: it has no value"},
		{[]string{"--client=h", "a.fio"}, "command line: --client: there is one process; name a server with server="},
		{[]string{"--name=x", "--time_based", "--warnings-fatal"}, "command line: --warnings-fatal: time_based has no effect without runtime"},
		{[]string{}, "command line: there is no job; give a job file, or --name=JOB with options"},
	} {
		plan, err := Parse(c.args, f.env())
		var got []string
		if err != nil {
			got = []string{err.Error()}
		} else {
			for _, j := range plan.Jobs {
				got = append(got, fmt.Sprint(j.Name, " ", j.RW, " ", j.MinBS[Read], " ", j.Stonewall))
			}
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.args, s, c.want)
		}
	}
}

func TestSettings(t *testing.T) {
	plan, err := Parse([]string{
		"--output=o.txt", "--output-format", "json+,normal", "--append-terse", "--terse-version=5", "--eta=never", "--eta-interval=500ms",
		"--eta-newline=2", "--status-interval=1m", "--allow-overwrite", "--repeat=5", "--html=r.html", "--plot=r.svg", "--parse-only", "--name=x",
	}, files{}.env())
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Output: "o.txt", Formats: []Format{FormatJSONPlus, FormatNormal, FormatTerse}, TerseVersion: 5, ETA: "never", ETAInterval: 500 * time.Millisecond,
		ETANewline: 2 * time.Second, StatusInterval: time.Minute, AllowOverwrite: true, Repeat: 5, HTML: "r.html", Plot: "r.svg", ParseOnly: true,
	}
	if !reflect.DeepEqual(plan.Settings, want) {
		t.Errorf("got %+v, want %+v", plan.Settings, want)
	}
}

// What has no effect is said, once.
func TestNotes(t *testing.T) {
	plan := parse(t, "[global]\nthread\n[a]\niodepth=4\n[b]\nthread=1\niodepth=8\n")
	want := []string{
		"thread has no effect: each job is a goroutine",
		"ioengine=psync has one I/O under way, whatever iodepth says; ioengine=posix has more",
	}
	if !slices.Equal(plan.Notes, want) {
		t.Errorf("got %q, want %q", plan.Notes, want)
	}
}

// A job whose name is that of a device works on the device.
func TestDevice(t *testing.T) {
	if got := parse(t, "[/dev/sda]\n").Jobs[0].Files; !slices.Equal(got, []string{"/dev/sda"}) {
		t.Errorf("got %v", got)
	}
}

// Each option of the table has one way in which it is treated.
func TestTable(t *testing.T) {
	for _, o := range options {
		n := 0
		for _, way := range []bool{o.set != nil, o.harmless != "", o.refused != ""} {
			if way {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is treated in %d ways", o.name, n)
		}
	}
}

// Passwords are in no report.
func TestSecrets(t *testing.T) {
	j := parse(t, "[j]\nioengine=smb\nserver=h\nshare=s\nuser=D/a%x\npassword=y\n").Jobs[0]
	for _, o := range []Option{{Name: "user", Value: "D/a%********"}, {Name: "password", Value: "********"}} {
		if !slices.Contains(j.Options, o) {
			t.Errorf("%v is not in %v", o, j.Options)
		}
	}
	if j.Remote.User != "D/a%x" || j.Remote.Password != "y" {
		t.Errorf("got %q and %q", j.Remote.User, j.Remote.Password)
	}
}

// The documentation says of every option what becomes of it.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/bench.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Every option of fio")
	for _, o := range options {
		want := "| runs"
		switch {
		case o.harmless != "":
			want = "| no effect: " + o.harmless + " |"
		case o.refused != "":
			want = "| refused: " + o.refused + " |"
		}
		_, row, ok := strings.Cut(table, "\n| `"+o.name+"`")
		row, _, _ = strings.Cut(row, "\n")
		if !ok || !strings.Contains(row, want) && !(o.set != nil && strings.Contains(row, "| refused when the job begins: ")) {
			t.Errorf("%s: %q, want %q in it", o.name, row, want)
		}
	}
}
