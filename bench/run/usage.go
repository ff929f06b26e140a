package run

import (
	"bufio"
	"net/http"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// ledger divides what this process uses among the jobs that run, evenly at each moment: a
// job that runs alone has all of it, also where others ran beside it before.
type ledger struct {
	used func() result.CPU // nil: cpuNow
	mu   sync.Mutex
	last result.CPU            // guarded by mu
	jobs map[*account]struct{} // that run; guarded by mu
}

// account is the share of a job: what it has used so far, guarded by the ledger's mu.
type account struct {
	user, system, switches, major, minor, objects, bytes float64
}

// settle books what was used since the last time. mu is held.
func (l *ledger) settle() {
	used := l.used
	if used == nil {
		used = cpuNow
	}
	c := used()
	n := float64(len(l.jobs))
	for a := range l.jobs {
		a.user += float64(c.User-l.last.User) / n
		a.system += float64(c.System-l.last.System) / n
		a.switches += float64(c.Switches-l.last.Switches) / n
		a.major += float64(c.MajorFaults-l.last.MajorFaults) / n
		a.minor += float64(c.MinorFaults-l.last.MinorFaults) / n
		a.objects += float64(c.Allocations-l.last.Allocations) / n
		a.bytes += float64(c.AllocatedBytes-l.last.AllocatedBytes) / n
	}
	l.last = c
}

// begin counts a job in, from nothing: again, if it is there already.
func (l *ledger) begin(a *account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	if l.jobs == nil {
		l.jobs = make(map[*account]struct{})
	}
	*a = account{}
	l.jobs[a] = struct{}{}
}

// end counts a job out.
func (l *ledger) end(a *account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	delete(l.jobs, a)
}

// of is what a job has used so far.
func (l *ledger) of(a *account) result.CPU {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	return result.CPU{User: time.Duration(a.user), System: time.Duration(a.system), Switches: int64(a.switches), MajorFaults: int64(a.major),
		MinorFaults: int64(a.minor), Allocations: int64(a.objects), AllocatedBytes: int64(a.bytes)}
}

// tab divides what one server uses among the jobs that go to it, evenly at each moment. Each
// tells what the server had used as it began to measure and as it ended.
type tab struct {
	mu   sync.Mutex
	last time.Duration      // guarded by mu, as are the bills
	jobs map[*bill]struct{} // that run
}

// bill is the share of a job; known is false where the server did not answer.
type bill struct {
	used  time.Duration
	known bool
}

// settle books what the server had used. Answers may come out of their order. mu is held.
func (t *tab) settle(used time.Duration) {
	used = max(used, t.last)
	for b := range t.jobs {
		b.used += (used - t.last) / time.Duration(len(t.jobs))
	}
	t.last = used
}

// begin counts a job in; used is below 0 where it is not known.
func (t *tab) begin(b *bill, used time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*b = bill{known: used >= 0}
	if used < 0 {
		return
	}
	t.settle(used)
	if t.jobs == nil {
		t.jobs = make(map[*bill]struct{})
	}
	t.jobs[b] = struct{}{}
}

// end counts a job out, and returns its share, if that is known.
func (t *tab) end(b *bill, used time.Duration) (share time.Duration, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if used >= 0 {
		t.settle(used)
	}
	delete(t.jobs, b)
	return b.used, b.known && used >= 0
}

const (
	metricsTime = 2 * time.Second
	metricsSize = 8 << 20
)

// cpuNow is what this process has used.
func cpuNow() (c result.CPU) {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		c.User = time.Duration(r.Utime.Nano())
		c.System = time.Duration(r.Stime.Nano())
		c.Switches = r.Nvcsw + r.Nivcsw
		c.MajorFaults, c.MinorFaults = r.Majflt, r.Minflt
	}
	s := [...]metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s[:])
	c.Allocations, c.AllocatedBytes = int64(s[0].Value.Uint64()), int64(s[1].Value.Uint64())
	return c
}

// serverCPU is process_cpu_seconds_total of a page of metrics, below 0 if it can't be had
// or there is none.
func serverCPU(url string) time.Duration {
	if url == "" {
		return -1
	}
	c := http.Client{Timeout: metricsTime}
	resp, err := c.Get(url)
	if err != nil {
		return -1
	}
	defer func() { _ = resp.Body.Close() }()
	s := bufio.NewScanner(http.MaxBytesReader(nil, resp.Body, metricsSize))
	for s.Scan() {
		if v, ok := strings.CutPrefix(s.Text(), "process_cpu_seconds_total "); ok {
			if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil && f >= 0 && f < 1e12 {
				return time.Duration(f * 1e9)
			}
		}
	}
	return -1
}
