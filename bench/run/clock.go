package run

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

var epoch = time.Now()

// now is the clock of all latencies: nanoseconds since the program began. It is what
// time.Now costs without the time of day.
func now() int64 { return int64(time.Since(epoch)) }

// A timer of the runtime is up to a millisecond late, one of the kernel some 60 µs; the
// rest is waited for on the processor.
const (
	coarse = 2 * time.Millisecond
	fine   = 70 * time.Microsecond
	turn   = 50 * time.Millisecond // between looks at whether all is to end
)

// until waits until the clock says t, or until it is told to stop.
func until(t int64, stopped func() bool) {
	for {
		d := time.Duration(t - now())
		switch {
		case d <= 0:
			return
		case stopped():
			return
		case d > coarse:
			time.Sleep(min(d-coarse+coarse/4, turn))
		case d > fine:
			ts := unix.NsecToTimespec(int64(d - fine))
			_ = unix.Nanosleep(&ts, nil) // a signal makes it shorter
		default:
			runtime.Gosched()
		}
	}
}

// giveWay is how long a goroutine of I/O keeps its thread. One that the scheduler has not
// seen for 10 ms is to be preempted: its system calls are taken for ones that last, and the
// runtime's monitor looks at them every 20 µs instead of every 10 ms, which costs a sixth
// of a processor, and every I/O that blocks a change of threads.
const giveWay = int64(4 * time.Millisecond)

// turns lets the scheduler see a goroutine from time to time.
type turns int64

// give is called after an I/O that ended at t, on the clock.
func (y *turns) give(t int64) {
	if t-int64(*y) > giveWay {
		*y = turns(t)
		runtime.Gosched()
	}
}
