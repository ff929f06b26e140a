package socket

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// # Waiting briskly
//
// A peer that answers at once is not worth putting a goroutine to sleep for: with the
// poller of the Go runtime, each message would cost the wakeup of a thread in epoll, and
// often that of a second one which looks for work. So while messages follow each other
// within BriskTime, who receives waits for the next one in ppoll(2), on its own thread,
// for that long; the thread keeps its processor (the P of the scheduler) meanwhile, and
// so the number of those that do so is below the number of processors.

// BriskTime is how long who receives waits on its own thread.
const BriskTime = 250 * time.Microsecond

var (
	briskWaits atomic.Int32 // under way in the process
	// briskLimit bounds them: one less than GOMAXPROCS, as of when a connection last
	// became brisk.
	briskLimit atomic.Int32
)

// BriskRoom reports whether one more may wait briskly now.
func BriskRoom() bool { return briskWaits.Load() < briskLimit.Load() }

// Took says how long was waited by a gate, or by another goroutine, for something to come
// in. It reports whether the next wait may be a brisk one.
func Took(d time.Duration) bool {
	if d >= BriskTime {
		return false
	}
	briskLimit.Store(int32(runtime.GOMAXPROCS(0) - 1))
	return true
}

// ReleasePoller is called by a goroutine that was woken by a gate and is going to wait
// briskly. The thread that was in the poller is the one that runs it. The scheduler sends
// no other there, as it expects the thread back soon; one that has nothing to do goes.
func ReleasePoller() { go func() {}() }

// Brisk is what a brisk wait takes. One goroutine at a time uses it.
type Brisk struct {
	poll  [1]unix.PollFd
	limit unix.Timespec
}

// Wait waits briskly for something to read. came reports whether there may be something,
// waited whether it has waited at all: not if there is no room for one more.
func (b *Brisk) Wait(fd uintptr) (came, waited bool) {
	if briskWaits.Add(1) > briskLimit.Load() {
		briskWaits.Add(-1)
		return false, false
	}
	b.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	b.limit = unix.NsecToTimespec(int64(BriskTime))
	n, err := unix.Ppoll(b.poll[:], &b.limit, nil)
	briskWaits.Add(-1)
	return n > 0 || err == unix.EINTR, true
}
