package server

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// # Panics
//
// A panic while a request is served, in the storage, in a callback of the configuration
// or in the server itself, costs the connection by which the request came, and nobody
// else anything. It is recovered by who serves: chain.serve for a request, receive for
// what comes before one, conn.run for what follows the last, sendBreaks for
// notifications; and where an open is closed that no request is about (putAway), where
// the storage tells of changes (watchLocally), where a break is given up in the end
// (giveUp), and where a Reload looks users up, it ends right there, as there is no
// connection that it would be about.
//
// What the request held is given up on the way: locks that are held across calls of the
// storage, and all else that others could wait for, are given back by deferred calls. The
// short sections in which the server's and a connection's tables change have none. A
// panic in the middle of one leaves a table of which nobody knows what is in it, and a
// lock that nobody gives back; so these locks are tried afterwards, and if one is held
// for good the process ends, with the first panic, as it would have without all this.
//
// Errors that Go does not let programs recover from, as maps that are written to by two
// at once, end the process too.

const (
	// lockPatience is how long a lock that is not held across I/O may take to be got
	// before it counts as held for good.
	lockPatience = 10 * time.Second
	// maxPanicFlight bounds, in bytes, what of a flight recorder is logged.
	maxPanicFlight = 32 << 10
)

// panicked tells of a panic that was recovered and ends the connection.
func (c *conn) panicked(v any, args ...any) {
	if f, ok := c.tc.(transport.FlightRecorder); ok {
		var b bytes.Buffer
		if f.FlightRecorder(&b) == nil {
			text := b.Bytes()
			if over := len(text) - maxPanicFlight; over > 0 {
				text = text[over:] // the newest are the last
			}
			args = append(args, "flight", string(text))
		}
	}
	c.srv.panicked(v, append(args, "conn", c.id, "peer", addrString(c.tc.RemoteAddr()))...)
	insistOn(v, c.locks())
	c.fail("a panic of the server's")
}

// panicked tells of a panic that was recovered.
func (s *Server) panicked(v any, args ...any) {
	s.count.panics.Add(1)
	s.log.Error("panic", append([]any{"panic", v, "stack", string(debug.Stack())}, args...)...)
	insistOn(v, s.locks())
}

// contain is deferred where a panic is to go no further and there is no connection that
// it would end.
func (s *Server) contain(what string) {
	if v := recover(); v != nil {
		s.panicked(v, "during", what)
	}
}

// survive is deferred by what a connection does besides serving requests.
func (c *conn) survive(what string) {
	if v := recover(); v != nil {
		c.panicked(v, "during", what)
	}
}

// survive is deferred by serve, with the chain's connection: a panic ends that, and the
// chain gives up what it holds.
func (ch *chain) survive(c *conn) {
	v := recover()
	if v == nil {
		return // the chain may be another connection's already
	}
	h := ch.now.hdr
	c.panicked(v, "op", h.Command, "mid", h.MessageID, "sid", h.SessionID, "tid", h.TreeID)
	ch.abandon()
}

// abandon gives up what the chain holds when a panic has ended it. What may be in a
// transport's hands is left to the collector.
func (ch *chain) abandon() {
	c := ch.c
	defer c.survive("giving a request up")
	defer ch.served()
	defer c.srv.sendBreaks(&ch.after)
	for i := range ch.reqs {
		r := &ch.reqs[i]
		r.endSequence()
		c.unregister(r)
		if len(ch.queue) == 0 {
			r.dropTail()
		}
	}
	if o := ch.open; o != nil {
		ch.open = nil
		defer o.release()
	}
	if m := ch.recv; m != nil {
		ch.recv = nil
		m.Release()
	}
}

// namedLock is a lock that is held for moments only.
type namedLock struct {
	name string
	sync.Locker
}

// locks are those for which everybody waits.
func (s *Server) locks() []namedLock {
	return []namedLock{
		{"Server.mu", &s.mu}, {"openTable.mu", &s.files.mu}, {"durableTable.mu", &s.durables.mu},
		{"notifyHub.mu", &s.notify.mu}, {"replayTable.mu", &s.replays.mu}, {"closers.mu", &s.closers.mu},
		{"relief.mu", &s.relief.mu},
	}
}

// locks are those of the connection and its sessions, for which the janitor and Status
// wait.
func (c *conn) locks() []namedLock {
	list := []namedLock{{"conn.chanMu", &c.chanMu}, {"conn.reqMu", &c.reqMu}, {"breakQueue.mu", &c.breaks.mu}}
	if c.chanMu.TryRLock() { // or the first on the list is what matters
		for _, ch := range c.channels {
			list = append(list, namedLock{"session.mu", &ch.sess.mu}, namedLock{"openSet.mu", &ch.sess.opens.mu})
		}
		c.chanMu.RUnlock()
	}
	return list
}

// insistOn ends the process if one of the locks is held for good after the panic v.
func insistOn(v any, locks []namedLock) {
	if held := heldForGood(locks, lockPatience); held != "" {
		panic(fmt.Sprintf("server: a panic (%v) has left %s locked: the server cannot go on", v, held))
	}
}

// heldForGood returns the name of a lock that is not to be had for so long, "" if all
// are.
func heldForGood(locks []namedLock, patience time.Duration) string {
	got := make(chan struct{}, len(locks))
	go func() { // ends when it has had all locks; else the process does
		for _, l := range locks {
			l.Lock()
			got <- struct{}{}
			l.Unlock()
		}
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	for _, l := range locks {
		select {
		case <-got:
		case <-t.C:
			return l.name
		}
	}
	return ""
}

// putAway is shut, and the release of the caller's reference, for who closes an open on
// nobody's request: a panic of its storage ends here, and what comes after is done.
func (o *open) putAway(during string) {
	defer o.srv.contain(during)
	defer o.release()
	o.shut(context.Background()) // it is closed whoever asked for it has gone
}
