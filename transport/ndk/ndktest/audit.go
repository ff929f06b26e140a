package ndktest

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndkhook"
)

// audited returns c with a layer around every adapter that a test opens, which
// holds provider and test to what every request and object is owed: each
// accepted post completes once, or is silent and worked, contexts and order are
// right, callbacks do not overlap, all is closed. It is checked after the test.
func (c Config) audited() Config {
	config := ndkhook.Config{Audit: true}
	open := func(f func(testing.TB) (a, p ndk.Adapter)) func(testing.TB) (a, p ndk.Adapter) {
		return func(t testing.TB) (ndk.Adapter, ndk.Adapter) {
			t.Helper()
			a, p := f(t)
			wa, wp := ndkhook.Wrap(a, config), ndkhook.Wrap(p, config)
			// Runs after the clean-up of what is opened from here on.
			t.Cleanup(func() { wa.Check(t); wp.Check(t) })
			return wa, wp
		}
	}
	c.Open, c.OpenImpatient = open(c.Open), open(c.OpenImpatient)
	if provider := c.Provider; provider != nil {
		c.Provider = func(t testing.TB) ndk.Provider {
			p := ndkhook.WrapProvider(provider(t), config)
			t.Cleanup(func() { p.Check(t) })
			return p
		}
	}
	// The hooks of the provider get its own objects.
	if f := c.FailCQ; f != nil {
		c.FailCQ = func(q ndk.CQ) { f(ndk.Unwrap(q).(ndk.CQ)) }
	}
	if f := c.FailSRQ; f != nil {
		c.FailSRQ = func(q ndk.SRQ) { f(ndk.Unwrap(q).(ndk.SRQ)) }
	}
	if f := c.Exhaust; f != nil {
		c.Exhaust = func(t testing.TB, a ndk.Adapter, function string) func() {
			return f(t, ndk.Unwrap(a).(ndk.Adapter), function)
		}
	}
	if f := c.Misuse; f != nil {
		c.Misuse = func(a ndk.Adapter) []string { return f(ndk.Unwrap(a).(ndk.Adapter)) }
	}
	return c
}

// Bare takes the auditing layer off what t opens from now on, for tests that
// count what the provider itself allocates.
func (t *T) Bare() { t.Config = t.bare }

// holdings is what a process holds that a provider may forget to give back.
type holdings struct {
	goroutines, files int
}

// startPoller makes the runtime open the files of its poller, which stay open.
var startPoller = sync.OnceFunc(func() {
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
})

func holding() holdings {
	startPoller()
	h := holdings{goroutines: runtime.NumGoroutine()}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		h.files = len(fds)
	}
	return h
}

// leakPatience bounds the wait for goroutines that are about to end.
const leakPatience = 5 * time.Second

// settled waits until no more is held than before, and says what is.
func (c Config) settled(before holdings) (left []string) {
	now := holding()
	for end := time.Now().Add(leakPatience); now.goroutines > before.goroutines || now.files > before.files; now = holding() {
		if time.Now().After(end) {
			var b strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&b, 1) // to memory
			return []string{fmt.Sprintf("%d goroutines and %d files, of %d and %d that there were before\n%s",
				now.goroutines, now.files, before.goroutines, before.files, b.String())}
		}
		runtime.Gosched()
	}
	if c.Leaks != nil {
		return c.Leaks()
	}
	return nil
}
