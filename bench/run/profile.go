package run

import (
	"bytes"
	"context"
	"log/slog"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/pprof/profile"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// profiler takes a profile of the processor's time while the jobs of a batch measure: from
// when the first of them counts until the last has done its I/O.
type profiler struct {
	log  *slog.Logger
	wait time.Duration
	data bytes.Buffer

	mu   sync.Mutex
	left int           // jobs that measure; guarded by mu
	over chan struct{} // closed when there are none
}

// profileLabel is what the samples of a job are known by: its place in its batch. What the
// job's goroutines start has it too, those of the client library among them.
const profileLabel = "job"

func newProfiler(log *slog.Logger, ws []*worker) *profiler {
	p := &profiler{log: log, left: len(ws), over: make(chan struct{})}
	for i, w := range ws {
		if d := w.job.StartDelay + w.job.RampTime; i == 0 || d < p.wait {
			p.wait = d
		}
	}
	return p
}

// label marks the goroutine of the i-th job; p may be nil.
func (p *profiler) label(ctx context.Context, i int) context.Context {
	if p == nil {
		return ctx
	}
	ctx = pprof.WithLabels(ctx, pprof.Labels(profileLabel, strconv.Itoa(i)))
	pprof.SetGoroutineLabels(ctx)
	return ctx
}

// done says that a job has done its I/O; p may be nil.
func (p *profiler) done() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left--; p.left == 0 {
		close(p.over)
	}
}

// take takes the profile. It returns when the jobs have measured, or have ended.
func (p *profiler) take(ended <-chan struct{}) {
	t := time.NewTimer(p.wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ended:
		return
	}
	if err := pprof.StartCPUProfile(&p.data); err != nil {
		p.log.Info("no profile for the report", "err", err) // there is one already: --profile
		return
	}
	select {
	case <-p.over:
	case <-ended:
	}
	pprof.StopCPUProfile()
}

// book gives each job its part of the profile, when all have ended.
func (p *profiler) book(ws []*worker) {
	if p.data.Len() == 0 {
		return
	}
	prof, err := profile.Parse(&p.data)
	if err != nil {
		p.log.Warn("the profile for the report", "err", err)
		return
	}
	for i, parts := range divide(prof, len(ws)) {
		w := ws[i]
		w.mu.Lock()
		w.res.Profile = parts
		w.mu.Unlock()
	}
}

// divide is what each of n jobs has of a profile, by part. What no job's goroutines have
// used, as the scheduler's and the collector's time, is divided as theirs is.
func divide(prof *profile.Profile, n int) []result.Profile {
	value := len(prof.SampleType) - 1 // nanoseconds; before it their number
	out := make([]result.Profile, n)
	var others result.Profile
	sums, all := make([]time.Duration, n), time.Duration(0)
	for _, s := range prof.Sample {
		part, d := partOf(s), time.Duration(s.Value[value])
		i := -1
		if l := s.Label[profileLabel]; len(l) == 1 {
			if k, err := strconv.Atoi(l[0]); err == nil && k < n {
				i = k
			}
		}
		if i < 0 {
			others[part] += d
			continue
		}
		out[i][part] += d
		sums[i] += d
		all += d
	}
	for i := range out {
		for part, d := range others {
			share := 1 / float64(n)
			if all > 0 {
				share = float64(sums[i]) / float64(all)
			}
			out[i][part] += time.Duration(float64(d) * share)
		}
	}
	return out
}

const module = "github.com/smbd-rdma/smbd-rdma/"

// rooms are packages by what they are in a profile; what is of this module and of none is
// the client library.
var rooms = []struct {
	prefix string
	part   result.Part
}{
	{module + "bench/engine.", result.PartEngine},
	{module + "bench/", result.PartGenerator},
	{module + "cmd/", result.PartOther},
	{"main.", result.PartOther},
	{module, result.PartClient},
	{"github.com/hirochachacha/go-smb2", result.PartClient},
}

// partOf is whose time a sample is: the kernel's if it is in a system call, the runtime's
// if that is at work for itself, and else of who is nearest on the stack. What the runtime
// does as a part of a statement, to copy or to look at the clock, is of who wrote that.
func partOf(s *profile.Sample) result.Part {
	ofRuntime := false
	for i, loc := range s.Location {
		for j, line := range loc.Line {
			if line.Function == nil {
				continue
			}
			name := line.Function.Name
			for _, r := range rooms {
				if !strings.HasPrefix(name, r.prefix) {
					continue
				}
				if ofRuntime {
					return result.PartRuntime
				}
				return r.part
			}
			switch {
			case strings.HasPrefix(name, "syscall."), strings.HasPrefix(name, "internal/runtime/syscall"), strings.HasPrefix(name, "golang.org/x/sys/"):
				return result.PartSyscalls
			case i == 0 && j == 0 && strings.HasPrefix(name, "runtime."):
				ofRuntime = !ofStatement(name)
			}
		}
	}
	if ofRuntime {
		return result.PartRuntime
	}
	return result.PartOther
}

// ofStatement says that a function of the runtime is what a statement compiles to.
func ofStatement(name string) bool {
	for _, p := range []string{"runtime.memmove", "runtime.memclr", "runtime.memequal", "runtime.duff", "runtime.nanotime", "runtime.walltime", "runtime.cgocall",
		"runtime.mapaccess", "runtime.mapassign", "runtime.panicIndex", "runtime.chanlen"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
