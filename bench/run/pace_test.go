package run

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/pattern"
)

// I/Os of a rate are due at equal distances, whatever became of those before; of a
// Poisson process at distances that are exponentially distributed: their mean is their
// deviation, and one in e is longer than the mean.
func TestPace(t *testing.T) {
	p := newPace(&job.Job{RateIOPS: [2]uint64{1000}}, job.Read)
	p.next = 5e6
	for i := range int64(5) {
		if at := p.due(4096); at != 5e6+i*1e6 {
			t.Errorf("I/O %d is due at %d", i, at)
		}
	}
	p = newPace(&job.Job{Rate: [2]uint64{0, 1 << 20}}, job.Write)
	first := p.due(1 << 19)
	if second := p.due(1 << 20); second-first != 5e8 || p.due(1)-second != 1e9 {
		t.Error("half a MiB at a MiB a second takes half a second")
	}
	p = newPace(&job.Job{RateIOPS: [2]uint64{1000}, RatePoisson: true}, job.Read)
	const n = 100_000
	sum, sq, longer, last := 0.0, 0.0, 0, p.due(1)
	for range n {
		at := p.due(1)
		d := float64(at - last)
		last = at
		sum += d
		sq += d * d
		if d > 1e6 {
			longer++
		}
	}
	mean := sum / n
	dev := math.Sqrt(sq/n - mean*mean)
	if math.Abs(mean-1e6) > 2e4 || math.Abs(dev-1e6) > 2e4 || math.Abs(float64(longer)/n-1/math.E) > 0.01 {
		t.Errorf("mean %.0f ns, deviation %.0f ns, %d of %d longer than 1 ms", mean, dev, longer, n)
	}
}

// The tuner finds the highest depth that meets the target, for servers whose latency is
// in proportion to the depth.
func TestTuner(t *testing.T) {
	for _, c := range []struct{ most, each, target, want int }{
		{32, 10, 1000, 32}, {32, 10, 155, 15}, {32, 10, 160, 16}, {64, 10, 10, 1}, {64, 10, 5, 1}, {1, 10, 20, 1},
	} {
		u := newTuner(&job.Job{LatencyTarget: time.Duration(c.target), LatencyWindow: 1000, LatencyPercentile: 99, IODepth: c.most})
		clock, found := int64(0), false
		for i := 0; i < 100_000 && !found; i++ {
			clock += 10
			found = u.add(clock, int64(u.depth*c.each))
		}
		if !found || u.depth != c.want || (u.low > 0) != (c.each <= c.target) {
			t.Errorf("%+v: depth %d, found %v", c, u.depth, found)
		}
	}
}

// A stall of the server is seen in the latencies of all I/Os that were due meanwhile, and
// not only of the one that met it: Total is from when each was due.
func TestStallIsNotLeftOut(t *testing.T) {
	const stall = 200 * time.Millisecond
	s := newStore(1 << 20)
	s.onRead = func(n int, _ int64, _ []byte) {
		if n == 10 {
			time.Sleep(stall)
		}
	}
	s.size = 1 << 20
	r, err := on(t, s, with(aJob("r", job.EngineNull, reads, 4096, 1<<20), func(j *job.Job) { j.RateIOPS = [2]uint64{1000, 0} }))
	if err != nil {
		t.Fatal(err)
	}
	tr := &r.Traffic[0]
	late := int64(0)
	for _, b := range tr.Total.Bins() {
		if b.From > int64(stall/4) {
			late += b.Count
		}
	}
	// One met it, and of the 200 that were due meanwhile three quarters waited for a
	// quarter of it and more, or else for as long as it takes to catch up.
	if tr.IOs != 256 || late < 100 || tr.Completion.Percentile(90) > int64(stall/4) && tr.Completion.Percentile(50) > int64(stall/4) {
		t.Errorf("%d I/Os, %d late; completion %d ns at the median", tr.IOs, late, tr.Completion.Percentile(50))
	}
}

// I/Os that are not due yet are not under way: a slow rate has a depth of one, whatever
// there is room for.
func TestDepthOfARate(t *testing.T) {
	for _, offload := range []bool{false, true} {
		// A stall of this machine makes some of them meet, so that what a run without one
		// shows is looked for.
		for end := time.Now().Add(time.Minute); ; {
			rs, err := do(t, with(aJob("r", job.EngineNull, reads, 4096, 40*4096), func(j *job.Job) {
				j.RateIOPS, j.IODepth, j.Offload = [2]uint64{500, 0}, 8, offload
			}))
			if err != nil {
				t.Fatal(err)
			}
			sum := int64(0)
			for _, n := range rs[0].Depths {
				sum += n
			}
			if sum != 40 {
				t.Fatalf("offload %v: %d, %d in all, want 40", offload, rs[0].Depths, sum)
			}
			if rs[0].Depths[0] >= 20 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("offload %v: %d, want most of them alone", offload, rs[0].Depths)
			}
		}
	}
}

// fields are the lines of a log, split.
func fields(t *testing.T, name string) [][]int64 {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]int64
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var line []int64
		for _, s := range strings.Split(sc.Text(), ", ") {
			var n int64
			if _, err := fmt.Sscan(s, &n); err != nil {
				t.Fatalf("%s: %s", name, sc.Text())
			}
			line = append(line, n)
		}
		out = append(out, line)
	}
	return out
}

// Logs have a line for each I/O, with its direction, length and place, or one for each
// stretch of time.
func TestLogs(t *testing.T) {
	prefix := filepath.Join(t.TempDir(), "p")
	j := with(aJob("l", job.EngineNull, randBoth, 4096, 40<<20), func(j *job.Job) {
		j.Logs = job.Logs{BW: prefix, Lat: prefix, IOPS: prefix, PerJob: true, Offset: true}
	})
	rs, err := do(t, j)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bw", "iops", "lat", "clat"} {
		lines := fields(t, prefix+"_"+name+".1.log")
		var n [2]int64
		places := make(map[int64]bool)
		for _, l := range lines {
			if len(l) != 6 || l[0] < 0 || l[1] < 0 || l[2] > 1 || l[3] != 4096 {
				t.Fatalf("%s: %v", name, l)
			}
			n[l[2]]++
			places[l[4]] = true
		}
		if n != [2]int64{rs[0].Traffic[0].IOs, rs[0].Traffic[1].IOs} || len(places) != 10240 {
			t.Errorf("%s: %d I/Os at %d places", name, n, len(places))
		}
	}
	// Averages: bytes are those that were moved.
	j = with(aJob("l", job.EngineNull, reads, 4096, 1<<40), func(j *job.Job) {
		j.Logs = job.Logs{BW: prefix, IOPS: prefix, Avg: 20 * time.Millisecond}
		j.NumberIOs = 500_000
	})
	if rs, err = do(t, j); err != nil {
		t.Fatal(err)
	}
	total, before := 0.0, int64(0)
	for _, l := range fields(t, prefix+"_bw.log") {
		total += float64(l[1]) * 1024 * float64(l[0]-before) / 1000
		before = l[0]
	}
	if want := float64(rs[0].Bytes()); total < 0.8*want || total > 1.2*want {
		t.Errorf("%.0f bytes in the log, %.0f were moved", total, want)
	}
}

// What there is nothing for is refused, by name.
func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*job.Job){
		"verify_backlog": func(j *job.Job) { j.VerifyBacklog = 8 },
		"write_hist_log": func(j *job.Job) { j.Logs.Hist = "h" },
		"verify":         func(j *job.Job) { j.Engine, j.Verify = job.EngineNDKWrite, job.VerifyMD5 },
		"fsync":          func(j *job.Job) { j.Engine, j.Fsync = job.EngineNDKSend, 1 },
		"end_fsync":      func(j *job.Job) { j.Engine, j.EndFsync = job.EngineNDKWrite, true },
		"rw":             func(j *job.Job) { j.Engine = job.EngineNDKRead }, // or else writes are said to have been done
	} {
		j := with(aJob("a", job.EngineNull, writes, 4096, 1<<20), change)
		j.File, j.Line = "job.fio", 7
		_, err := New(Config{Plan: &job.Plan{Jobs: []*job.Job{j}}})
		if !errors.Is(err, engine.ErrRefused) || !strings.HasPrefix(err.Error(), "job.fio:7: [a] "+name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// serialize_overlap, and verify, keep I/Os apart that meet.
func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		serialize, flies, write bool
		off                     int64
		want                    bool
	}{{false, true, true, 4096, true}, {false, true, true, 8192, false}, {false, true, false, 4096, false}, {true, true, false, 4096, true}, {true, false, true, 4096, false}} {
		w := &worker{job: &job.Job{SerializeOverlap: c.serialize}, units: []engine.Unit{{}, {Op: engine.Write, Offset: 4096, Buf: make([]byte, 4096)}}, flying: []bool{false, c.flies}}
		if got := w.overlaps(&pattern.IO{Write: c.write, Offset: c.off, Size: 4096}, 0); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
