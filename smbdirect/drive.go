package smbdirect

import (
	"fmt"
	"io"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// The state of a connection, loop, has one owner at a time. Whoever brings work,
// a caller or a callback of the provider, becomes the owner if there is none and
// does it at once, without a change of goroutine. Others leave what they have in
// the inbox or in a flag, and the owner, who looks there before it leaves, does
// it with its own. The set-up is the first owner.

// driveRounds bounds the rounds that a caller drives on behalf of others; the
// connection's goroutine goes on then.
const driveRounds = 8

// flags are what the owner is told. They are guarded by Conn.mu.
type flags struct {
	notified bool       // the completion queue has something
	cqStatus ndk.Status // or has failed
	timer    bool       // the timer of the engine fired
	stall    bool       // that of transfers did
	flush    bool       // what is kept back is to be posted
	closing  bool       // Close was called
	lost     bool       // the disconnect event came
	reason   uint32     // its reason
	failure  error      // why the owner is to end the connection
}

// news reports whether there is something that the owner has not seen. What ends
// the connection stays set.
func (f *flags) news() bool {
	return f.notified || f.timer || f.stall || f.flush || f.closing || f.lost || f.failure != nil
}

// run is the connection's goroutine: it has the timers, goes on where others
// leave off, and takes the connection down when it is dead. It is started by the
// set-up, and Close waits for it.
func (c *Conn) run() {
	for {
		select {
		case <-c.left:
			c.teardown()
			return
		case <-c.wake:
			c.poke()
		case <-c.l.timer.C:
			c.tell(func(f *flags) { f.timer = true })
		case <-c.l.stall.C:
			c.tell(func(f *flags) { f.stall = true })
		}
	}
}

// tell sets a flag and sees to it that somebody acts on it.
func (c *Conn) tell(set func(*flags)) {
	c.mu.Lock()
	set(&c.flags)
	c.mu.Unlock()
	c.poke()
}

// notify is the callback of the completion queue.
func (c *Conn) notify(st ndk.Status) {
	c.mu.Lock()
	c.flags.notified = true
	if st.IsError() || st.IsWarning() {
		c.flags.cqStatus = st
	}
	c.mu.Unlock()
	c.poke()
}

// poke drives the connection unless somebody does.
func (c *Conn) poke() {
	c.mu.Lock()
	if c.driving {
		c.mu.Unlock()
		return
	}
	c.driving = true
	c.mu.Unlock()
	c.tick()
	c.l.lazy = false
	c.drive(driveRounds)
}

// wakeRun has the connection's goroutine drive.
func (c *Conn) wakeRun() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// request hands a request to the owner, or becomes it; false if the connection is
// gone.
func (c *Conn) request(r *request) bool {
	c.mu.Lock()
	if c.sealed {
		c.mu.Unlock()
		return false
	}
	// An owner that ran out of rounds left its inbox to the next: what is in it
	// comes first, as a cancellation must not overtake its request.
	driving, behind := c.driving, len(c.inbox) > 0
	if driving || behind {
		c.inbox = append(c.inbox, r)
	}
	c.driving = true
	c.mu.Unlock()
	if driving {
		return true
	}
	c.tick()
	c.l.lazy = !behind && r.more
	if !behind {
		c.take(r)
	}
	c.drive(driveRounds)
	return true
}

// drive does what there is to do, and gives up the ownership that the caller has.
// It is given up for good when the connection is dead. The caller has looked at
// the clock.
func (c *Conn) drive(rounds int) {
	l := &c.l
	for ; ; rounds-- {
		if !l.armed && !l.dead && c.poll() == 0 && !l.dead {
			c.cq.Arm(ndk.ArmAny)
			l.armed = true
			c.poll() // what came before it was armed does not notify
		}
		c.submitWaiting()
		c.pushTransfers()
		if !l.lazy || l.out[classSend] > l.depth[classSend]/2 || l.keptBytes > enoughKept {
			c.flush()
			if rounds > 0 && l.transfersOut() > 0 && c.poll() > 0 {
				continue // some are done at once
			}
		}
		if c.leave(rounds) {
			return
		}
	}
}

// disown says that there is no owner. Called with mu held.
func (c *Conn) disown() {
	c.driving = false
	if c.waits {
		c.waits = false
		select {
		case c.recvReady <- struct{}{}:
		default:
		}
	}
}

// tick looks at the clock. Only the owner does.
func (c *Conn) tick() { c.l.at = c.now() }

// leave gives up the ownership if there is nothing left to do. Else it takes over
// what there is.
func (c *Conn) leave(rounds int) (left bool) {
	l := &c.l
	report := l.report
	if l.report = false; report {
		c.sum()
	}
	c.mu.Lock()
	if report {
		c.tally = l.tally
	}
	if l.dead {
		c.mu.Unlock()
		close(c.left)
		return true
	}
	resumed := l.holding && !c.resume
	if l.armed && len(c.inbox) == 0 && !resumed && !c.flags.news() {
		c.disown()
		c.mu.Unlock()
		return true
	}
	if rounds <= 0 {
		c.disown()
		c.mu.Unlock()
		c.wakeRun()
		return true
	}
	in, f := c.inbox, c.flags
	c.inbox, c.spare = c.spare[:0], nil
	l.lazy = l.lazy && !resumed && !c.flags.news()
	c.flags.notified, c.flags.timer, c.flags.stall, c.flags.flush = false, false, false, false
	c.mu.Unlock()

	c.tick()
	if f.notified {
		l.armed = false
		if f.cqStatus != ntstatus.Success {
			c.die(&LostError{Err: fmt.Errorf("completion queue: %w", f.cqStatus)}, false)
		}
	}
	for i, r := range in {
		l.lazy = l.lazy && r.more
		c.take(r)
		in[i] = nil
	}
	c.mu.Lock()
	c.spare = in[:0]
	c.mu.Unlock()
	if resumed && !l.dead {
		l.holding = false
		l.note(evHold, 0, 0, 0, 0, 0)
		l.eng.Hold(l.at, false)
		c.act()
	}
	if f.timer {
		c.timerDue()
	}
	if f.stall {
		c.stallDue()
	}
	c.end(&f)
	return false
}

// end acts on the flags that end the connection.
func (c *Conn) end(f *flags) {
	l := &c.l
	switch {
	case l.dead:
	case f.lost:
		for c.poll() > 0 && !l.dead {
			// Messages that came before the end are delivered.
		}
		err := error(&LostError{Reason: f.reason})
		if f.reason == 0 {
			if err = io.EOF; l.eng.MidMessage() {
				err = io.ErrUnexpectedEOF
			}
		}
		l.eng.Disconnected(err)
		c.die(err, false)
	case f.failure != nil:
		l.eng.Disconnected(f.failure)
		c.die(f.failure, false)
	case f.closing:
		l.note(evClose, 0, 0, 0, 0, 0)
		c.submitWaiting()
		c.flush()
		l.eng.Disconnected(nil)
		c.die(nil, true)
	}
}
