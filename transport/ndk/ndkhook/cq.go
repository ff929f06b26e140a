package ndkhook

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// cq wraps an ndk.CQ.
type cq struct {
	object
	in ndk.CQ

	arms    atomic.Uint64 // calls of Arm
	fires   atomic.Uint64 // notifications
	polling atomic.Int32
	failed  atomic.Bool // it told so: nothing more completes
	settled sync.Once   // the first Close looked at what is left

	snap []*lane      // owned by who polls alone
	one  ndk.ResultEx // the same

	mu      sync.Mutex
	lanes   map[*lane]struct{} // guarded by mu, as all below; of QPs that are not closed or not drained
	waiting int                // requests that were taken and may complete here
	shared  int                // the same of shared receive queues, at most
	depth   int
	overrun bool // there were more of them than depth: it may have failed
}

// CreateCQ implements ndk.Adapter.
func (a *Adapter) CreateCQ(ctx context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	const fn = "CreateCQ"
	if err := a.enter(fn); err != nil {
		return nil, err
	}
	w := &cq{depth: c.Depth, lanes: make(map[*lane]struct{})}
	if user := c.Notify; user != nil && !a.plain {
		c.Notify = func(st ndk.Status) { w.notify(user, st) }
	}
	in, err := a.in.CreateCQ(ctx, c)
	if err != nil {
		return nil, a.leave(fn, err)
	}
	w.in = in
	a.adopt(&w.object, ndk.ObjectCQ, in, &a.object)
	a.left(fn, nil, w.id)
	return w, nil
}

func (c *cq) notify(user func(ndk.Status), st ndk.Status) {
	if st != ntstatus.Success {
		c.failed.Store(true)
	}
	c.calledBack(Event{Call: Call{Func: funcNotify}, Status: st}, true)
	if c.fires.Add(1) > c.arms.Load() && c.a.cfg.Audit {
		c.a.report.add("%v: notified without an Arm", c.id)
	}
	user(st)
	c.backAgain(funcNotify)
}

// Arm implements ndk.CQ.
func (c *cq) Arm(t ndk.ArmType) {
	if !c.a.plain {
		c.note("Arm")
		c.arms.Add(1)
	}
	c.in.Arm(t)
}

// Poll implements ndk.CQ.
func (c *cq) Poll(dst []ndk.Result) int {
	if !c.a.track {
		return c.in.Poll(dst)
	}
	e, alone := &c.one, c.beginPoll()
	if !alone {
		e = new(ndk.ResultEx)
	}
	n := c.fits(c.in.Poll(dst), len(dst))
	for i := range dst[:n] {
		*e = ndk.ResultEx{Result: dst[i]}
		c.take(e, false)
		dst[i] = e.Result
	}
	*e = ndk.ResultEx{}
	c.endPoll(alone, n == 0 && len(dst) > 0)
	return n
}

// PollEx implements ndk.CQ.
func (c *cq) PollEx(dst []ndk.ResultEx) int {
	if !c.a.track {
		return c.in.PollEx(dst)
	}
	alone := c.beginPoll()
	n := c.fits(c.in.PollEx(dst), len(dst))
	for i := range dst[:n] {
		c.take(&dst[i], true)
	}
	c.endPoll(alone, n == 0 && len(dst) > 0)
	return n
}

// fits holds the count of a poll to its bounds.
func (c *cq) fits(n, room int) int {
	if n >= 0 && n <= room {
		return n
	}
	if c.a.cfg.Audit {
		c.a.report.add("%v: a poll for %d returned %d", c.id, room, n)
	}
	return max(0, min(n, room))
}

// beginPoll remembers which queues belong to a QP that is closed by now. It
// reports whether nobody else polls, as the consumer has to see to.
func (c *cq) beginPoll() (alone bool) {
	alone = c.polling.Add(1) == 1
	if !c.a.cfg.Audit {
		return alone
	}
	if !alone {
		c.a.report.add("%v: the consumer polls twice at the same time", c.id)
		return false
	}
	c.mu.Lock()
	c.snap = c.snap[:0]
	for l := range c.lanes {
		if isClosed(l.o.closed) {
			c.snap = append(c.snap, l)
		}
	}
	c.mu.Unlock()
	return true
}

// endPoll closes the books of those queues, if the CQ was found empty.
func (c *cq) endPoll(alone, empty bool) {
	if alone && c.a.cfg.Audit {
		if empty {
			c.drained(c.snap)
		}
		clear(c.snap)
		c.snap = c.snap[:0]
	}
	c.polling.Add(-1)
}

// drained closes books: the CQ was empty after their QPs were closed.
func (c *cq) drained(lanes []*lane) {
	for _, l := range lanes {
		c.mu.Lock()
		delete(c.lanes, l)
		known := !c.overrun
		c.mu.Unlock()
		l.end(known && !c.failed.Load())
	}
}

// expect adds to the requests that may complete here.
func (c *cq) expect(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting += n
	if c.waiting+c.shared > c.depth {
		c.overrun = true
	}
}

// attach opens the book of a queue of a new QP.
func (c *cq) attach(l *lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes[l] = struct{}{}
}

// share makes room in the reckoning for more requests of an SRQ.
func (c *cq) share(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shared += n
}

// take looks at a completion, and gives it the contexts of the consumer. typed
// says whether the provider told the type.
func (c *cq) take(e *ndk.ResultEx, typed bool) {
	audit := c.a.cfg.Audit
	q, ok := e.QPContext.(*qp)
	if !ok || q.a != c.a {
		if audit {
			c.a.report.add("%v: a completion with the QPContext of no QP: %T", c.id, e.QPContext)
		}
		q = nil
	} else {
		e.QPContext = q.ctx
	}
	r, ok := e.RequestContext.(*request)
	if !ok || r.lane.o.a != c.a {
		if audit {
			c.a.report.add("%v: a completion with the RequestContext of no post: %T", c.id, e.RequestContext)
		}
		r = nil
	} else {
		e.RequestContext = r.rc
	}
	if audit && q != nil && r != nil {
		c.judge(q, r, e, typed)
	}
	if r != nil && !typed {
		e.Type = r.op // for OnResult and the trace
	}
	if f := c.a.cfg.OnResult; f != nil {
		f(e)
	}
	if t := c.a.cfg.Trace; t != nil {
		ev := Event{Type: Completed, Result: *e, Call: Call{Adapter: c.a.cfg.Name, Object: c.id, Func: "Poll", Post: true}}
		if r != nil {
			ev.Call = r.call()
		}
		t(ev)
	}
}

// judge holds a completion against the request.
func (c *cq) judge(q *qp, r *request, e *ndk.ResultEx, typed bool) {
	rep, l := &c.a.report, r.lane
	receive := r.op == ndk.OpReceive
	switch {
	case l.q != nil && l.q != q, l.q == nil && (!receive || l != q.srq):
		rep.add("%v: %s #%d of %v completed with the QPContext of %v", c.id, r.fn, r.seq, l.o.id, q.id)
	case receive && q.recv.cq != c, !receive && q.init.cq != c:
		rep.add("%v: %s #%d of %v completed on the wrong CQ", c.id, r.fn, r.seq, q.id)
	}
	if typed {
		if e.Type != r.op && !(receive && e.Type == ndk.OpReceiveAndInvalidate) {
			rep.add("%v: %s #%d completed with type %v", l.o.id, r.fn, r.seq, e.Type)
		}
		if e.Status == ntstatus.Success && e.ProviderError != 0 {
			rep.add("%v: %s #%d worked, with provider error %#x", l.o.id, r.fn, r.seq, e.ProviderError)
		}
	}
	counts := receive || r.fn == funcWriteFile
	if counts && e.Status == ntstatus.Success && uint64(e.Bytes) > r.length {
		rep.add("%v: %s #%d of %d bytes completed with %d", l.o.id, r.fn, r.seq, r.length, e.Bytes)
	}
	l.complete(r, q, e.Status)
}

// Resize implements ndk.CQ.
func (c *cq) Resize(ctx context.Context, depth int) error {
	const fn = "Resize"
	if err := c.enter(fn); err != nil {
		return err
	}
	err := c.in.Resize(ctx, depth)
	if err == nil {
		c.mu.Lock()
		c.depth = depth
		c.mu.Unlock()
	}
	return c.leave(fn, err)
}

// Moderate implements ndk.CQ.
func (c *cq) Moderate(interval, count uint32) error {
	const fn = "Moderate"
	if err := c.enter(fn); err != nil {
		return err
	}
	return c.leave(fn, c.in.Moderate(interval, count))
}

// Close implements ndk.Object. What is left of QPs that are closed is polled
// first, as it is the last chance to learn of it.
func (c *cq) Close() {
	if c.a.cfg.Audit {
		c.settled.Do(c.settle) // another Close waits: behind it the CQ tells nothing
	}
	c.object.Close()
}

func (c *cq) settle() {
	alone := c.beginPoll()
	var gone []*lane
	if alone {
		gone = append(gone, c.snap...)
	}
	c.mu.Lock()
	rest := make([]*lane, 0, len(c.lanes))
	for l := range c.lanes {
		rest = append(rest, l)
	}
	c.mu.Unlock()
	if len(gone) > 0 {
		var buf [16]ndk.ResultEx
		for {
			n := c.fits(c.in.PollEx(buf[:]), len(buf))
			if n == 0 {
				break
			}
			for i := range buf[:n] {
				c.settleOne(&buf[i])
			}
		}
	}
	c.endPoll(alone, false)
	c.drained(gone)
	for _, l := range rest {
		c.mu.Lock()
		_, still := c.lanes[l]
		delete(c.lanes, l)
		c.mu.Unlock()
		if still {
			l.end(false)
		}
	}
}

// settleOne is take for a completion that the consumer did not poll.
func (c *cq) settleOne(e *ndk.ResultEx) {
	q, ok1 := e.QPContext.(*qp)
	r, ok2 := e.RequestContext.(*request)
	if !ok1 || !ok2 || q.a != c.a || r.lane.o.a != c.a {
		c.a.report.add("%v: a completion with a context that nobody gave: %T, %T", c.id, e.QPContext, e.RequestContext)
		return
	}
	c.judge(q, r, e, true)
}
