package sim

import (
	"context"
	"fmt"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// cq is a CQ with the faults and the trace of the world.
type cq struct {
	*soft.CQ
	a    *adapter
	sub  subject
	lane lane   // of Arm, Poll and PollEx
	owed []mark // guarded by World.mu: one for each completion, with Config.StrictQueues
}

// mark says which places of a queue are free when a completion is polled.
type mark struct {
	q    *qp // nil: none, as the receive was of an SRQ
	recv bool
	upTo uint32
}

// CreateCQ implements ndk.Adapter.
func (a *adapter) CreateCQ(ctx context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	const op = "create CQ"
	if err := a.creating(op, ndk.ObjectCQ); err != nil {
		return nil, err
	}
	q := &cq{a: a, sub: a.w.number(subCQ)}
	if notify := c.Notify; notify != nil {
		c.Notify = func(st ndk.Status) {
			a.w.note(q.sub, "callback").status(st).end()
			notify(st)
		}
	}
	inner, err := a.Device.CreateCQ(ctx, c)
	if err != nil {
		return nil, err
	}
	q.CQ = inner.(*soft.CQ)
	a.w.note(q.sub, "create").num("depth", uint64(c.Depth)).end()
	return q, nil
}

// Resize implements ndk.CQ.
func (c *cq) Resize(ctx context.Context, depth int) error {
	if err := c.a.requesting("resize CQ", c); err != nil {
		return err
	}
	return c.CQ.Resize(ctx, depth)
}

// enter reports whether the lane of the CQ is the caller's, to be left again.
func (c *cq) enter(call string) bool {
	if c.lane.enter() {
		return true
	}
	c.a.w.report(fmt.Sprintf("CQ.%s: two calls to %v%d at the same time", call, c.Kind(), c.sub.n))
	return false
}

// Arm implements ndk.CQ.
func (c *cq) Arm(t ndk.ArmType) {
	if c.enter("Arm") {
		defer c.lane.leave()
	}
	c.a.w.note(c.sub, "arm").num("type", uint64(t)).end()
	c.CQ.Arm(t)
}

// Poll implements ndk.CQ.
func (c *cq) Poll(dst []ndk.Result) int {
	if c.enter("Poll") {
		defer c.lane.leave()
	}
	return c.polled(c.CQ.Poll(dst))
}

// PollEx implements ndk.CQ.
func (c *cq) PollEx(dst []ndk.ResultEx) int {
	if c.enter("PollEx") {
		defer c.lane.leave()
	}
	return c.polled(c.CQ.PollEx(dst))
}

// polled frees the places that n completions were owed.
func (c *cq) polled(n int) int {
	if n == 0 || !c.a.w.cfg.StrictQueues {
		return n
	}
	c.a.w.mu.Lock()
	defer c.a.w.mu.Unlock()
	for _, m := range c.owed[:n] {
		switch {
		case m.q == nil:
		case m.recv:
			m.q.recvFree = m.upTo
		default:
			m.q.initFree = m.upTo
		}
	}
	c.owed = slices.Delete(c.owed, 0, n)
	return n
}

// push queues a completion of q, or lets the CQ fail in its place.
func (c *cq) push(q *qp, e *ndk.ResultEx, solicited bool) {
	w := c.a.w
	if w.cfg.StrictQueues && c.Failed() == ntstatus.Success {
		m := mark{q: q, recv: e.Type&ndk.OpReceive != 0, upTo: q.head + 1}
		if m.recv {
			if m.upTo = q.rhead; q.srq != nil {
				m.q = nil
			}
		}
		c.owed = append(c.owed, m)
	}
	var fire bool
	if !w.faulty() {
		fire = c.Push(e, solicited)
	} else if _, hit := w.strike(passing{point: PointOverrun, who: c.sub, o1: c, o2: q}); hit {
		fire = c.Fail(ntstatus.BufferOverflow)
	} else if _, hit := w.strike(passing{point: PointFatalCQ, who: c.sub, o1: c, o2: q}); hit {
		fire = c.Fail(ntstatus.InternalError)
	} else {
		fire = c.Push(e, solicited)
	}
	if fire {
		if d := w.lateness(c.sub, c); d > 0 {
			w.soon(c.CQ.Notify, d)
		} else {
			c.Spawn()
		}
	}
}
