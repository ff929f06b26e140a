package client

import (
	"context"
	"runtime"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// # Who receives
//
// The goroutine that reads a connection has to wake whoever waits for the answer, which
// costs more than the answer does. So where answers come promptly (transport.Prompter)
// those who wait read for themselves: one of them at a time receives, hands the answers
// of others to them, and passes the turn on when its own has come. It does so only as
// long as messages follow each other within a fraction of a millisecond. When none does
// the connection's own goroutine takes over: it can wait for long, while a caller must
// be there for the end of its context.
//
// When nobody waits for an answer nobody receives, for up to twice idleTurn; then the
// connection's goroutine does, for what the server says by itself.
//
// What the callers whom one batch of answers has woken send next goes out together:
// the first of them lets the others run before it hands the requests to the network.

// idleTurn is how long the connection's goroutine leaves a connection alone on which
// callers receive.
const idleTurn = time.Millisecond

// maxTogether is the longest request, in bytes, that waits for others to be sent
// together with them, for which it is copied.
const maxTogether = 8 << 10

// reception is who receives on a connection. Guarded by conn.mu.
type reception struct {
	taken bool   // somebody receives, or has been told to
	turns uint64 // how often callers have received
	// Callers who wait for an answer and do not receive; the oldest first.
	head, tail *call
}

// park adds a call to those whose callers wait. Called with mu held.
func (c *conn) park(k *call) {
	k.parked, k.before, k.after = true, c.recv.tail, nil
	if c.recv.tail == nil {
		c.recv.head = k
	} else {
		c.recv.tail.after = k
	}
	c.recv.tail = k
}

// unpark takes it out again, if it is there. Called with mu held.
func (c *conn) unpark(k *call) {
	if !k.parked {
		return
	}
	if k.before == nil {
		c.recv.head = k.after
	} else {
		k.before.after = k.after
	}
	if k.after == nil {
		c.recv.tail = k.before
	} else {
		k.after.before = k.before
	}
	k.parked, k.before, k.after = false, nil, nil
}

// passOn gives the turn to receive to the caller who waits longest, as its answer is
// likely to be the next; if nobody waits the turn is free. Called with mu held by who
// has the turn.
func (c *conn) passOn() {
	w := c.recv.head
	if w == nil || c.err != nil {
		c.recv.taken = false
		return
	}
	c.unpark(w)
	w.turn = true
	w.wake()
}

// needReceiver sees to it that somebody receives although its caller, who waits for
// something else than an answer, does not. Called with mu held.
func (c *conn) needReceiver() {
	if c.prompt != nil && !c.recv.taken && c.err == nil {
		c.recv.taken = true
		c.resume <- struct{}{} // there is room: it is sent with the turn only
	}
}

// receiveFor receives until k is answered, or has to be given up, or the server takes
// its time. The caller has the turn, which it does not have any more afterwards.
func (c *conn) receiveFor(ctx context.Context, k *call) {
	for {
		if c.woken.Load() > 0 {
			runtime.Gosched() // the thread may wait now, and they need it
		}
		r, err := c.prompt.ReceivePromptly()
		if r == nil && err == nil {
			c.mu.Lock()
			c.recv.taken = c.err == nil
			if c.recv.taken {
				c.resume <- struct{}{}
			}
			c.mu.Unlock()
			return
		}
		if err == nil {
			err = c.received(r)
		} else {
			err = c.fail(err)
		}
		for err == nil && c.prompt.Buffered() {
			if r, err = c.prompt.ReceivePromptly(); err != nil {
				err = c.fail(err)
			} else if r != nil {
				err = c.received(r)
			}
		}
		c.mu.Lock()
		c.recv.turns++
		if err != nil || k.state == callAnswered || k.expired || ctx.Err() != nil {
			c.passOn()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
	}
}

// received takes a message apart and gives it back.
func (c *conn) received(r *transport.Received) error {
	c.got.Add(1)
	in := newInbound(r)
	err := c.message(in)
	in.release()
	return err
}

// receive is the connection's own goroutine. It hands answers to those who wait, as
// long as they do not receive for themselves, until the connection ends.
func (c *conn) receive(ctx context.Context) {
	defer c.wg.Done()
	idle := time.NewTimer(time.Hour)
	defer idle.Stop()
	for {
		r, err := c.tr.Receive(ctx)
		if err != nil {
			_ = c.fail(err)
			return
		}
		if c.received(r) != nil {
			return // the connection has failed
		}
		if c.prompt != nil && !c.prompt.Buffered() && c.prompt.Prompt() && !c.standBack(idle) {
			return
		}
	}
}

// standBack leaves receiving to the callers until they need or do it no more. It
// reports whether the connection lives.
func (c *conn) standBack(idle *time.Timer) bool {
	c.mu.Lock()
	seen := c.recv.turns
	c.passOn()
	c.mu.Unlock()
	for {
		idle.Reset(idleTurn)
		select {
		case <-c.failedCh:
			return false
		case <-c.resume:
			return true
		case <-idle.C:
		}
		c.mu.Lock()
		mine := !c.recv.taken && c.recv.turns == seen && c.err == nil
		if mine {
			c.recv.taken = true
		}
		seen = c.recv.turns
		c.mu.Unlock()
		if mine {
			return true
		}
	}
}

// send sends a message; together with those of others, if some who were woken with its
// caller are about to send too.
func (c *conn) send(ctx context.Context, m *transport.Message) error {
	if c.prompt == nil || c.woken.Load() <= 0 || m.Len() > maxTogether {
		return c.tr.Send(ctx, m)
	}
	for _, p := range m.Parts[1:] {
		c.counters.copied.Add(uint64(len(p)))
	}
	m.More = true
	err := c.tr.Send(ctx, m)
	m.More = false
	if err != nil || !c.flushing.CompareAndSwap(false, true) {
		return err // who has set flushing flushes after this
	}
	runtime.Gosched()
	c.flushing.Store(false)
	err = c.prompt.Flush(ctx)
	if err == nil || isClosed(err) {
		return err
	}
	// The context has ended. The requests of others depend on it all the same.
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.wg.Add(1)
		go func() { // ended by the end of the connection; close waits
			defer c.wg.Done()
			if err := c.prompt.Flush(context.Background()); err != nil {
				_ = c.fail(err)
			}
		}()
	}
	return nil
}
