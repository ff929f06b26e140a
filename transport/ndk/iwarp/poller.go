package iwarp

import (
	"runtime"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
)

// # Who receives
//
// A connection has a goroutine that runs its receiver. A consumer who waits for what comes
// in may run it himself (ndk.Poller), which saves the switches from one goroutine to another
// and the wakeup of the runtime's poller for each message. One of them at a time has the
// turn. While consumers poll, the goroutine stands back: it does not wait for the socket,
// but for them to stop, or to find nothing for a while.

// idleTurn is how long the goroutine leaves the receiver alone on which consumers poll.
const idleTurn = time.Millisecond

// pollOctets is about how much one Poll takes in where it completes nothing, as that of a
// transfer: a consumer has bounds of his own on how long he polls, and looks at them between
// two calls.
const pollOctets = 1 << 20

// turn says who runs the receiver.
type turn struct {
	resume chan struct{} // capacity 1: the goroutine is to look

	mu    sync.Mutex
	taken bool   // guarded by mu, as all below: somebody runs it
	shut  bool   // consumers may not
	polls uint64 // how often they have
	err   error  // how the stream has ended
}

// stream is the goroutine's side: it returns how the stream has ended, with the turn.
func (q *qp) stream() error {
	t := &q.who
	idle := time.NewTimer(time.Hour)
	defer idle.Stop()
	for {
		err := q.rx.run()
		if err != errAgain {
			t.mu.Lock()
			t.shut = true
			t.mu.Unlock()
			return err
		}
		q.rx.reduce()
		t.mu.Lock()
		t.taken = false
		seen := t.polls
		select {
		case <-t.resume:
		default:
		}
		t.mu.Unlock()
		_ = q.conn.WaitIn() // an end of the waiting is seen by who reads
		if err := t.regain(seen, idle); err != nil {
			return err
		}
	}
}

// regain takes the turn back for the goroutine: at once, if nobody has polled since there
// were seen polls. An error is the end of the stream, which a consumer came upon.
func (t *turn) regain(seen uint64, idle *time.Timer) error {
	for {
		t.mu.Lock()
		if t.take(seen) {
			t.mu.Unlock()
			break
		}
		seen = t.polls
		t.mu.Unlock()
		idle.Reset(idleTurn)
		select {
		case <-idle.C:
		case <-t.resume:
			t.mu.Lock()
			seen = t.polls
			t.mu.Unlock()
		}
	}
	return t.err // written before it was shut, and then no more
}

// take takes the turn if it is free and nobody has polled since. Called with mu held.
func (t *turn) take(seen uint64) bool {
	if t.taken || t.polls != seen && !t.shut {
		return false
	}
	t.taken = true
	return true
}

// interrupt has who waits for the socket see that its deadline has come.
func (t *turn) interrupt() {
	select {
	case t.resume <- struct{}{}:
	default:
	}
}

// Poll implements ndk.Poller.
func (q *qp) Poll() bool {
	t := &q.who
	t.mu.Lock()
	if t.taken || t.shut {
		t.mu.Unlock()
		return false
	}
	t.taken = true
	t.polls++
	t.mu.Unlock()
	rx := q.rx
	rx.polled, rx.moved, rx.news, rx.taken = true, false, false, 0
	err := rx.run()
	if rx.kicked {
		// Who waits on a thread keeps its processor, on which the transmitter is to run.
		rx.kicked = false
		runtime.Gosched()
	}
	if err == errAgain && !rx.moved && q.raw.Read(rx.waitStep) == nil && rx.came {
		err = rx.run()
	}
	rx.polled = false
	came := rx.moved
	if !came {
		rx.reduce()
	}
	if err != errAgain {
		// The goroutine may wait for the socket, where nothing more has to come. What it
		// then does with that sets a deadline of its own, so this comes before.
		_ = q.conn.SetReadDeadline(longPast)
	}
	t.mu.Lock()
	t.taken = false
	if err != errAgain {
		t.shut, t.err = true, err
	}
	t.mu.Unlock()
	if !came || err != errAgain {
		t.interrupt()
	}
	return came
}

// PollWorth implements ndk.Poller.
func (q *qp) PollWorth(waited time.Duration) bool { return socket.Took(waited) }

// PollRoom implements ndk.Poller.
func (q *qp) PollRoom() bool { return socket.BriskRoom() }
