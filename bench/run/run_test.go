package run

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// aJob is a job as fio's defaults have it, of one file.
func aJob(name string, engine job.Engine, rw job.RW, bs, size uint64) *job.Job {
	return &job.Job{Name: name, Number: 1, NumJobs: 1, Loops: 1, Engine: engine, RW: rw, RWMixRead: 50, SeqRun: 1,
		PercentageRandom: [2]int{100, 100}, MinBS: [2]uint64{bs, bs}, MaxBS: [2]uint64{bs, bs}, BA: [2]uint64{bs, bs},
		Size: job.Amount{Bytes: size}, NrFiles: 1, IODepth: 1, IODepthBatch: 1, IODepthBatchCompleteMin: 1, IODepthBatchCompleteMax: 1,
		AllowFileCreate: true, DoVerify: true, ScrambleBuffers: true, Stats: true, KBBase: 1024,
		FileService: job.Distribution{Kind: job.RoundRobin, Run: 1}, Distribution: job.Distribution{Center: -1}, ThinkTimeBlocks: 1,
		BWAvgTime: 500 * time.Millisecond, IOPSAvgTime: 500 * time.Millisecond, LatencyPercentile: 100}
}

func do(t testing.TB, jobs ...*job.Job) ([]*result.Job, error) {
	t.Helper()
	r, err := New(Config{Plan: &job.Plan{Jobs: jobs}})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Do(context.Background())
	return r.Results(), err
}

var (
	reads     = job.RW{Reads: true}
	writes    = job.RW{Writes: true}
	randReads = job.RW{Reads: true, Random: true}
	randBoth  = job.RW{Reads: true, Writes: true, Random: true}
)

// What a job moves is what it was told to, by every engine that needs no server, at any
// depth, and each I/O is booked once.
func TestWhatAJobMoves(t *testing.T) {
	for _, c := range []struct {
		name  string
		job   *job.Job
		ios   int64
		bytes int64
	}{
		{"null", aJob("a", job.EngineNull, reads, 4096, 1<<20), 256, 1 << 20},
		{"null, at random", aJob("a", job.EngineNull, randReads, 4096, 1<<20), 256, 1 << 20},
		{"null, a depth", with(aJob("a", job.EngineNull, randReads, 4096, 1<<20), func(j *job.Job) { j.IODepth = 32 }), 256, 1 << 20},
		{"null, batches", with(aJob("a", job.EngineNull, randReads, 4096, 1<<20), func(j *job.Job) {
			j.IODepth, j.IODepthBatch, j.IODepthLow, j.IODepthBatchCompleteMin, j.IODepthBatchCompleteMax = 32, 8, 4, 4, 8
		}), 256, 1 << 20},
		{"a tail that is no block", aJob("a", job.EngineNull, reads, 4096, 1<<20+100), 256, 1 << 20},
		{"loops", with(aJob("a", job.EngineNull, reads, 4096, 1<<20), func(j *job.Job) { j.Loops = 3 }), 768, 3 << 20},
		{"io_size beyond size", with(aJob("a", job.EngineNull, reads, 4096, 1<<20), func(j *job.Job) { j.IOSize = job.Amount{Bytes: 3 << 19} }), 384, 3 << 19},
		{"io_size below size", with(aJob("a", job.EngineNull, randReads, 4096, 1<<20), func(j *job.Job) { j.IOSize = job.Amount{Bytes: 1 << 18} }), 64, 1 << 18},
		{"number_ios", with(aJob("a", job.EngineNull, reads, 4096, 1<<20), func(j *job.Job) { j.NumberIOs = 7 }), 7, 7 * 4096},
		{"both ways", aJob("a", job.EngineNull, randBoth, 4096, 1<<20), 256, 1 << 20},
		{"posix, written", aJob("a", job.EnginePosix, writes, 4096, 1<<20), 256, 1 << 20},
		{"posix, read", aJob("a", job.EnginePosix, reads, 65536, 1<<20), 16, 1 << 20},
		{"posix, both, a depth", with(aJob("a", job.EnginePosix, randBoth, 4096, 1<<20), func(j *job.Job) { j.IODepth = 16 }), 256, 1 << 20},
		{"posix, without a queue", with(aJob("a", job.EnginePosix, randBoth, 4096, 1<<20), func(j *job.Job) { j.IODepth, j.Offload = 16, true }), 256, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.job.Files = []string{filepath.Join(t.TempDir(), "f")}
			rs, err := do(t, c.job)
			if err != nil {
				t.Fatal(err)
			}
			var ios, lat int64
			for d := range rs[0].Traffic {
				ios += rs[0].Traffic[d].IOs
				lat += rs[0].Traffic[d].Completion.Count()
			}
			if ios != c.ios || rs[0].Bytes() != c.bytes || lat != c.ios {
				t.Errorf("%d I/Os, %d latencies, %d bytes; want %d, %d", ios, lat, rs[0].Bytes(), c.ios, c.bytes)
			}
			if c.job.Engine == job.EnginePosix {
				if st, err := os.Stat(c.job.Files[0]); err != nil || st.Size() != c.bytes {
					t.Errorf("%v, %v", st, err)
				}
			}
		})
	}
}

func with(j *job.Job, f func(*job.Job)) *job.Job {
	f(j)
	return j
}

// A file that was there before is not written into, unless that is allowed; one that the
// run made is.
func TestOverwrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	first, second := aJob("a", job.EnginePosix, writes, 4096, 1<<16), aJob("b", job.EnginePosix, writes, 4096, 1<<16)
	first.Files, second.Files, second.Stonewall = []string{name}, []string{name}, true
	if _, err := do(t, first, second); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t, first); !errors.Is(err, ErrOverwrite) {
		t.Errorf("error %v, want %v", err, ErrOverwrite)
	}
	third := aJob("c", job.EnginePosix, reads, 4096, 1<<17) // would have to make it longer
	third.Files = []string{name}
	if _, err := do(t, third); !errors.Is(err, ErrOverwrite) {
		t.Errorf("error %v, want %v", err, ErrOverwrite)
	}
	fourth := aJob("d", job.EnginePosix, reads, 4096, 1<<16) // would delete it
	fourth.Files, fourth.Unlink = []string{name}, true
	if _, err := do(t, fourth); !errors.Is(err, ErrOverwrite) {
		t.Errorf("error %v, want %v", err, ErrOverwrite)
	}
	if st, err := os.Stat(name); err != nil || st.Size() != 1<<16 {
		t.Fatalf("%v, %v", st, err)
	}
	r, err := New(Config{Plan: &job.Plan{Jobs: []*job.Job{fourth}, Settings: job.Settings{AllowOverwrite: true}}})
	if err == nil {
		err = r.Do(t.Context())
	}
	if _, there := os.Stat(name); err != nil || !errors.Is(there, os.ErrNotExist) {
		t.Errorf("%v; %v", err, there)
	}
}

// An I/O of the null engine allocates nothing, whatever its order.
func TestNoAllocations(t *testing.T) {
	for _, c := range []struct {
		name string
		job  *job.Job
	}{
		{"sequential", aJob("a", job.EngineNull, reads, 4096, 1<<30)},
		{"random, a depth of 32", with(aJob("a", job.EngineNull, randReads, 4096, 1<<30), func(j *job.Job) { j.IODepth = 32 })},
		{"written, zipf", with(aJob("a", job.EngineNull, job.RW{Writes: true, Random: true}, 4096, 1<<30), func(j *job.Job) {
			j.Distribution = job.Distribution{Kind: job.Zipf, Param: 1.2, Center: -1}
		})},
		{"lanes", with(aJob("a", job.EngineNull, randBoth, 4096, 1<<30), func(j *job.Job) { j.Offload, j.IODepth = true, 4 })},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			rs, err := do(t, c.job)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			n := rs[0].Traffic[result.Read].IOs + rs[0].Traffic[result.Write].IOs
			// What a run needs once is far below one in a hundred.
			if a := after.Mallocs - before.Mallocs; n != 1<<18 || a > uint64(n)/100 {
				t.Errorf("%d allocations for %d I/Os", a, n)
			}
		})
	}
}

func BenchmarkNull(b *testing.B) {
	for _, c := range []struct {
		name string
		rw   job.RW
		deep int
	}{{"sequential", reads, 1}, {"random", randReads, 1}, {"random-32", randReads, 32}, {"randwrite-32", job.RW{Writes: true, Random: true}, 32}} {
		b.Run(c.name, func(b *testing.B) {
			j := aJob("a", job.EngineNull, c.rw, 4096, 1<<40)
			j.NumberIOs, j.IODepth = uint64(b.N), c.deep
			rs, err := do(b, j)
			if err != nil {
				b.Fatal(err)
			}
			// Of a second of a processor, whoever else it serves.
			cpu := rs[0].CPU.User + rs[0].CPU.System
			b.ReportMetric(float64(b.N)/cpu.Seconds()/1e6, "MIO/cpu-s")
		})
	}
}
