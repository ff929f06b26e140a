package server

import (
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// # Who receives
//
// One goroutine at a time receives a connection's messages: it has the turn. What it
// receives it serves itself, as to wake a worker costs more than most requests take,
// where the transport tells whether more has come already (transport.Batcher). What came
// together with others goes to workers, to be served side by side, but for requests that
// are done sooner than a worker is woken up; their answers leave together.
//
// A request may take its time, and others must not wait for it, nor CANCEL, nor the
// answer to a break that it waits for. So the turn can be taken from who serves a request
// itself: by itself, when it is about to wait (mayWait) or the command is one that takes
// its time, or else by the server's relief, within two of its ticks. Another goroutine
// receives then, and the one that had the turn is a worker from then on; and for a while
// workers serve what may be as slow as that. As the request
// is served by who received it, those that come later do not overtake it at its start.

// turn says who receives. It is even while its holder receives, odd while it serves a
// request itself; who has made it even may receive.
type turn struct {
	n       atomic.Uint64
	watched atomic.Bool // it is on the list of the relief
	// wary is for how many requests that may take their time workers are at hand, as one
	// did of late: on slow storage each would hold up the next one until the relief comes.
	wary atomic.Int32

	// Of the relief.
	seen  uint64
	quiet int // for how many ticks there was nothing to see
}

// begin says that the holder serves a request now.
func (t *turn) begin() uint64 { return t.n.Add(1) }

// end says that it is done; false if it has no turn any more. take takes the turn away;
// false if the request is done, or somebody else was first.
func (t *turn) end(n uint64) bool  { return t.n.CompareAndSwap(n, n+1) }
func (t *turn) take(n uint64) bool { return t.n.CompareAndSwap(n, n+1) }

// theTurn is what a worker is given to receive.
var theTurn = new(chain)

// receive takes messages until there are no more, one is beyond pardon, or the turn is
// somebody else's.
func (c *conn) receive() {
	mine := true
	defer func() {
		if v := recover(); v != nil {
			c.panicked(v, "during", "receiving")
			if mine {
				c.lost(nil)
			}
		}
	}()
	for {
		if c.kept.Load() && !c.batch.Buffered() {
			c.flushKept()
		}
		m, err := c.tc.Receive(c.recvCtx)
		if err != nil {
			mine = false
			c.lost(err)
			return
		}
		c.received.Store(time.Now().UnixNano())
		ch, ok := c.incoming(m)
		switch {
		case !ok:
			mine = false
			c.lost(nil)
			return
		case ch == nil:
			continue
		}
		if c.batch != nil {
			ch.more = c.batch.Buffered()
			if c.servesItself(ch) {
				if mine = c.serveHere(ch); !mine {
					c.flushKept() // who receives now may not know of the last answer
					return
				}
				continue
			}
		}
		if !c.dispatch(ch) {
			mine = false
			c.lost(nil)
			return
		}
	}
}

// lost ends the receiving.
func (c *conn) lost(err error) {
	c.lastErr = err
	defer close(c.over)
	if !c.isDraining() {
		c.abort()
		c.tc.Close()
		c.loseChannels()
		c.closeBreaks() // a request that is being served here may wait for one
	}
}

// loseChannels says that nothing reaches a client by the connection any more.
func (c *conn) loseChannels() {
	for _, ch := range c.allChannels() {
		ch.sess.loseChannel(c)
	}
}

// servesItself reports whether who has received the chain serves it, and takes what it
// weighs.
func (c *conn) servesItself(ch *chain) bool {
	wary := c.turn.wary.Load() > 0
	for i := range ch.reqs {
		cmd := ch.reqs[i].command()
		if ch.more && !cmd.quick && !cmd.slow {
			return false
		}
		if wary && !cmd.slow && !cmd.tells {
			c.turn.wary.Add(-1)
			return false
		}
	}
	if w := c.weigh(ch); c.serving.TryAcquire(w) {
		ch.weight = w
		return true
	}
	return false
}

// serveHere serves the chain and reports whether the turn is still the caller's.
func (c *conn) serveHere(ch *chain) bool {
	n := c.turn.begin()
	ch.turn = n
	if !c.turn.watched.Load() {
		c.srv.relief.watch(c)
	}
	for i := range ch.reqs {
		if ch.reqs[i].command().slow {
			ch.mayWait()
		}
	}
	ch.serve()
	return c.turn.end(n)
}

// mayWait is called before something that takes its time, or waits for others.
func (ch *chain) mayWait() {
	n := ch.turn
	if n == 0 {
		return
	}
	ch.turn = 0
	if ch.c.turn.take(n) {
		ch.c.passTurn()
	}
}

// passTurn has another goroutine receive.
func (c *conn) passTurn() {
	select {
	case c.work <- theTurn:
	default:
		c.workers.Add(1) // run is waiting for over still
		go c.worker(theTurn)
	}
}

// flushKept sends the answers that were kept back.
func (c *conn) flushKept() {
	if c.batch == nil || !c.kept.Swap(false) {
		return
	}
	c.sendBegins()
	c.sendEnded(c.batch.Flush(c.ctx))
}

// weigh is what a chain costs of the limit on what is served at a time.
func (c *conn) weigh(ch *chain) int64 {
	weight := int64(0)
	for i := range ch.reqs {
		weight += int64(max(ch.reqs[i].hdr.CreditCharge, 1))
	}
	return min(weight, int64(c.srv.cfg.Limits.ServingPerConn))
}

// dispatch gives a chain to a worker, as soon as not too many are being served. It
// reports false if the connection has ended meanwhile.
func (c *conn) dispatch(ch *chain) bool {
	weight := c.weigh(ch)
	if !c.serving.TryAcquire(weight) {
		c.flushKept()
		if c.serving.Acquire(c.recvCtx, weight) != nil {
			for i := range ch.reqs {
				c.unregister(&ch.reqs[i])
			}
			ch.free()
			return false
		}
	}
	ch.weight = weight
	select {
	case c.work <- ch:
	default:
		c.workers.Add(1)
		go c.worker(ch) // ends when work is closed or enough others are idle; run waits
	}
	return true
}

// served says that the chain is not being served any more, or only waits.
func (ch *chain) served() {
	ch.c.serving.Release(ch.weight)
	ch.weight = 0
}

func (c *conn) worker(ch *chain) {
	defer c.workers.Done()
	for ok := true; ok; {
		if ch == theTurn {
			c.receive()
		} else {
			ch.serve()
		}
		if c.idle.Add(1) > maxIdleWorkers {
			c.idle.Add(-1)
			return
		}
		ch, ok = <-c.work
		c.idle.Add(-1)
	}
}

const (
	// reliefTick is how often the relief looks.
	reliefTick = 4 * time.Millisecond
	// reliefPatience is for how many ticks it watches a connection that does nothing.
	reliefPatience = 20
	// waryFor is how many requests go to workers when it has taken the turn.
	waryFor = 64
)

// relief takes the turn from who is held up. It has a goroutine of the server's, which
// sleeps while nobody serves requests himself.
type relief struct {
	wake chan struct{}
	tick time.Duration // written by New and by tests

	mu    sync.Mutex
	conns []*conn // guarded by mu
}

// watch enters a connection that is not watched.
func (w *relief) watch(c *conn) {
	w.mu.Lock()
	if c.turn.watched.Swap(true) {
		w.mu.Unlock()
		return
	}
	w.conns = append(w.conns, c)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// look looks at all connections once, and reports whether there are any.
func (w *relief) look() bool {
	var told []func() // of panics, when the lock is not held any more
	defer func() {
		for _, tell := range told {
			tell()
		}
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = slices.DeleteFunc(w.conns, func(c *conn) (done bool) {
		defer func() {
			if v := recover(); v != nil {
				at := string(debug.Stack())
				told = append(told, func() { c.panicked(v, "during", "relieving who receives", "at", at) })
			}
		}()
		return c.relieve()
	})
	return len(w.conns) > 0
}

// relieve takes the turn from who has served the same request since the last time. It
// reports whether the connection need not be watched any more.
func (c *conn) relieve() bool {
	t := &c.turn
	n := t.n.Load()
	switch {
	case n != t.seen:
		t.seen, t.quiet = n, 0
	case n%2 != 0:
		if t.take(n) {
			t.wary.Store(waryFor)
			c.passTurn()
		}
	default:
		if t.quiet++; t.quiet >= reliefPatience {
			t.quiet = 0
			t.watched.Store(false)
			if t.n.Load() == n {
				return true
			}
			t.watched.Store(true) // who has begun in between has not entered it again
		}
	}
	return false
}

func (s *Server) runRelief() {
	defer s.wg.Done()
	tick := time.NewTimer(time.Hour) // until there is something to look at
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.relief.wake:
		}
		for s.relief.look() {
			tick.Reset(s.relief.tick)
			select {
			case <-s.ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}
