package run

import (
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// stack is a sample with these functions, the innermost first; d of the job that label says.
func stack(label string, d time.Duration, names ...string) *profile.Sample {
	s := &profile.Sample{Value: []int64{1, int64(d)}}
	if label != "" {
		s.Label = map[string][]string{profileLabel: {label}}
	}
	for _, n := range names {
		s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: n}}}})
	}
	return s
}

// Who is nearest on the stack has the time, unless the kernel or the runtime has it.
func TestPartOfASample(t *testing.T) {
	const lane, do, read = module + "bench/run.(*worker).lane", module + "bench/engine.(*share).Do", module + "client.(*File).ReadAt"
	for _, c := range []struct {
		want  result.Part
		stack []string
	}{
		{result.PartGenerator, []string{lane}},
		{result.PartGenerator, []string{module + "bench/pattern.(*Generator).Next", lane}},
		{result.PartGenerator, []string{"runtime.nanotime1", "time.Since", lane}},
		{result.PartEngine, []string{do, lane}},
		{result.PartClient, []string{read, do, lane}},
		{result.PartClient, []string{"runtime.memmove", module + "smbdirect.(*Conn).Send", read, do, lane}},
		{result.PartClient, []string{"crypto/internal/fips140/aes/gcm.seal", module + "internal/smbcrypto.(*key).seal", read, do, lane}},
		{result.PartClient, []string{"github.com/hirochachacha/go-smb2.(*File).ReadAt", do, lane}},
		{result.PartSyscalls, []string{"internal/runtime/syscall.Syscall6", "syscall.Syscall6", module + "bench/engine.transfer", lane}},
		{result.PartSyscalls, []string{"runtime.entersyscall", "syscall.Syscall6", module + "bench/engine.transfer", lane}},
		{result.PartRuntime, []string{"runtime.futex", "runtime.ready", module + "client.(*Session).answer"}},
		{result.PartRuntime, []string{"runtime.findRunnable", "runtime.schedule", "runtime.mcall"}},
		{result.PartOther, []string{"fmt.Fprintf", "main.(*benchView).draw"}},
		{result.PartOther, nil},
	} {
		if got := partOf(stack("", 0, c.stack...)); got != c.want {
			t.Errorf("%q is %v, want %v", c.stack, got, c.want)
		}
	}
}

// Each job has what its goroutines used, and of the rest as much as of what is known.
func TestProfileIsDividedAmongJobs(t *testing.T) {
	const lane = module + "bench/run.(*worker).lane"
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples"}, {Type: "cpu"}}, Sample: []*profile.Sample{
		stack("0", 30, lane), stack("1", 10, lane), stack("", 8, "runtime.findRunnable"), stack("7", 4, "runtime.gcBgMarkWorker"),
	}}
	got := divide(p, 2)
	want := []result.Profile{{result.PartGenerator: 30, result.PartRuntime: 9}, {result.PartGenerator: 10, result.PartRuntime: 3}}
	if got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%v, want %v", got, want)
	}
}

// A run that is asked to has a profile of each job; of the null engine the generator is
// by far the most. What the race detector does has no stack, and is of nobody.
func TestRunTakesAProfile(t *testing.T) {
	// So many take a quarter of a second of a processor, or 25 samples, however long that is.
	busy := func(name string, ramp time.Duration) *job.Job {
		return with(aJob(name, job.EngineNull, reads, 4096, 1<<40), func(j *job.Job) { j.NumberIOs, j.RampTime = 2e6, ramp })
	}
	first, second := busy("a", 0), busy("b", time.Millisecond)
	second.Stonewall = true
	r, err := New(Config{Plan: &job.Plan{Jobs: []*job.Job{first, second}}, Env: new(engine.Env), Profile: true})
	if err == nil {
		err = r.Do(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range r.Results() {
		p := &res.Profile
		if all := p.Total(); all == 0 || p[result.PartGenerator]+p[result.PartOther] < all/2 || p[result.PartClient] != 0 {
			t.Errorf("job %s: %v", res.Name, *p)
		}
	}
}
