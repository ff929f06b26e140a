package soft

import (
	"context"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// stage is an Env by hand: nothing runs and no time passes before the test says
// so.
type stage struct {
	tasks  []func()
	now    time.Duration
	timers []*cue
}

// cue is a Timer of a stage.
type cue struct {
	s       *stage
	at      time.Duration
	f       func()
	running bool
}

func (c *cue) Stop() bool {
	was := c.running
	c.running = false
	return was
}

func (c *cue) Reset(d time.Duration) bool {
	was := c.running
	c.at, c.running = c.s.now+d, true
	return was
}

func (s *stage) env() Env {
	return Env{
		Go: func(f func()) { s.tasks = append(s.tasks, f) },
		AfterFunc: func(d time.Duration, f func()) Timer {
			c := &cue{s: s, f: f}
			c.Reset(d)
			s.timers = append(s.timers, c)
			return c
		},
		Seed: new([32]byte),
	}
}

// run runs what was handed to Go.
func (s *stage) run() {
	for len(s.tasks) > 0 {
		f := s.tasks[0]
		s.tasks = s.tasks[1:]
		f()
	}
}

// pass lets time pass.
func (s *stage) pass(d time.Duration) {
	s.now += d
	for _, c := range s.timers {
		if c.running && c.at <= s.now {
			c.running = false
			c.f()
		}
	}
	s.run()
}

// testInfo are limits that are small enough to be reached.
var testInfo = ndk.AdapterInfo{
	Version: ndk.Version21, MaxRegistrationSize: 1 << 20, MaxWindowSize: 1 << 16, FRMRPageCount: 16,
	MaxReceiveRequestSGE: 4, MaxTransferLength: 1 << 16, MaxCQDepth: 64, MaxSRQDepth: 8,
	Flags: ndk.FlagCQResize | ndk.FlagCQInterruptModeration,
}

// device is a Device on a stage, closed at the end of the test.
func device(t *testing.T, info ndk.AdapterInfo) (*Device, *stage) {
	t.Helper()
	s := &stage{}
	d := new(Device)
	d.Init(Config{Info: info, Env: s.env()})
	t.Cleanup(func() {
		s.run()
		d.Object.Close()
		select {
		case <-d.Closed():
		default:
			t.Error("something holds the device")
		}
		for k := range ndk.ObjectMax {
			if n := d.Count(k); n != 0 {
				t.Errorf("%d objects of kind %v are left", n, k)
			}
		}
		if d.Tokens() != 0 || d.Registered() != 0 {
			t.Errorf("%d tokens and %d bytes are left", d.Tokens(), d.Registered())
		}
	})
	return d, s
}

// domain is a PD of d, closed at the end of the test.
func domain(t *testing.T, d *Device) *PD {
	t.Helper()
	p := new(PD)
	must(t, p.Init(d))
	t.Cleanup(p.Close)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var ctx = context.Background()
