package iwarp

import (
	"context"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// cq implements ndk.CQ.
//
// Notifications run on goroutines of the provider: on the receiver of a QP when
// it made the completion, else on one that lives for the call. running and
// pending keep them from overlapping.
type cq struct {
	object
	notify   func(ndk.Status)
	notifyFn func() // runNotify, made once

	mu      sync.Mutex
	ring    []ndk.ResultEx // guarded by mu, as all below; grows up to depth
	head    int
	count   int
	depth   int
	seq     uint64 // completions queued so far
	seqSol  uint64 // seq of the newest solicited or failed one
	seen    uint64 // seq at the last notification
	armed   bool
	arm     ndk.ArmType
	failed  ndk.Status // BufferOverflow or InternalError; Success while it works
	running bool
	pending bool
	qps     map[*qp]struct{}
}

const cqFirstSize = 16

// CreateCQ implements ndk.Adapter.
func (a *adapter) CreateCQ(_ context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	const op = "create CQ"
	if c.Depth < 1 || c.Depth > maxCQDepth {
		return nil, wrap(op, ntstatus.InvalidParameter, nil)
	}
	q := &cq{notify: c.Notify, depth: c.Depth, qps: make(map[*qp]struct{})}
	q.notifyFn = q.runNotify
	if err := q.init(ndk.ObjectCQ, a, nil, &a.object); err != nil {
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	return q, nil
}

// Close implements ndk.Object.
func (c *cq) Close() {
	if c.beginClose() {
		c.mu.Lock()
		c.armed = false
		c.pending = false
		c.mu.Unlock()
		c.release()
	}
}

// push queues one completion. fire says that a notification is due: the caller
// calls runNotify or spawns it, with no lock held. solicited is for receives of
// a solicited send; failures count as such by themselves.
func (c *cq) push(e *ndk.ResultEx, solicited bool) (fire bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != ntstatus.Success {
		return false
	}
	if c.count == len(c.ring) && !c.grow() {
		return c.failLocked(ntstatus.BufferOverflow)
	}
	i := c.head + c.count
	if i >= len(c.ring) {
		i -= len(c.ring)
	}
	c.ring[i] = *e
	c.count++
	c.seq++
	if solicited || e.Status != ntstatus.Success {
		c.seqSol = c.seq
	}
	return c.dueLocked()
}

// grow enlarges the ring; false if it has its full depth.
func (c *cq) grow() bool {
	if len(c.ring) >= c.depth {
		return false
	}
	n := min(max(2*len(c.ring), cqFirstSize), c.depth)
	ring := make([]ndk.ResultEx, n)
	k := copy(ring, c.ring[c.head:])
	copy(ring[k:], c.ring[:c.head])
	c.ring, c.head = ring, 0
	return true
}

// failLocked ends the CQ and, in a goroutine of its own, its QPs.
func (c *cq) failLocked(st ndk.Status) (fire bool) {
	c.failed = st
	c.count = 0
	c.ring = nil
	c.head = 0
	for q := range c.qps {
		q.retain()
		go func() { // ends by itself; the QP waits for it
			q.abort()
			q.release()
		}()
	}
	return c.dueLocked()
}

// dueLocked reports whether the armed condition is met by something newer than
// the last notification, and if so disarms.
func (c *cq) dueLocked() bool {
	if !c.armed || c.closing.Load() {
		return false
	}
	oldest := c.seq - uint64(c.count) // seq of the one before the first queued
	switch {
	case c.failed != ntstatus.Success:
	case c.arm == ndk.ArmAny && c.count > 0 && c.seq > c.seen:
	case c.arm == ndk.ArmSolicited && c.seqSol > oldest && c.seqSol > c.seen:
	default:
		return false
	}
	c.armed = false
	c.seen = c.seq
	if c.notify == nil {
		return false
	}
	c.pending = true
	if c.running {
		return false // the running one goes on with it
	}
	c.running = true
	c.retain() // for runNotify
	return true
}

// runNotify runs the due notification, and those that become due meanwhile.
func (c *cq) runNotify() {
	c.mu.Lock()
	for c.pending {
		c.pending = false
		st := c.failed
		c.mu.Unlock()
		c.notify(st)
		c.mu.Lock()
	}
	c.running = false
	c.mu.Unlock()
	c.release()
}

// spawnNotify is for callers that are not goroutines of the provider, or hold
// locks of the consumer's making.
func (c *cq) spawnNotify() { go c.notifyFn() } // ends with the callback; Close waits for it

// strength orders the arm types.
func strength(t ndk.ArmType) int {
	switch t {
	case ndk.ArmAny:
		return 2
	case ndk.ArmSolicited:
		return 1
	}
	return 0
}

// Arm implements ndk.CQ.
func (c *cq) Arm(t ndk.ArmType) {
	c.mu.Lock()
	if !c.armed || strength(t) > strength(c.arm) {
		c.arm = t
	}
	c.armed = true
	fire := c.dueLocked()
	c.mu.Unlock()
	if fire {
		c.spawnNotify()
	}
}

// Poll implements ndk.CQ.
func (c *cq) Poll(dst []ndk.Result) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(dst), c.count)
	for i := range n {
		dst[i] = c.pop().Result
	}
	return n
}

// PollEx implements ndk.CQ.
func (c *cq) PollEx(dst []ndk.ResultEx) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(dst), c.count)
	for i := range n {
		dst[i] = c.pop()
	}
	return n
}

func (c *cq) pop() ndk.ResultEx {
	e := c.ring[c.head]
	c.ring[c.head] = ndk.ResultEx{} // lets go of the contexts
	if c.head++; c.head == len(c.ring) {
		c.head = 0
	}
	c.count--
	return e
}

// Resize implements ndk.CQ.
func (c *cq) Resize(_ context.Context, depth int) error {
	const op = "resize CQ"
	if depth < 1 || depth > maxCQDepth {
		return wrap(op, ntstatus.InvalidParameter, nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if depth < c.count {
		return wrap(op, ntstatus.BufferOverflow, nil)
	}
	if depth < len(c.ring) {
		ring := make([]ndk.ResultEx, depth)
		for i := range c.count {
			ring[i] = c.ring[(c.head+i)%len(c.ring)]
		}
		c.ring, c.head = ring, 0
	}
	c.depth = depth
	return nil
}

// Moderate implements ndk.CQ.
func (c *cq) Moderate(uint32, uint32) error {
	return wrap("moderate CQ", ntstatus.NotSupported, nil)
}

func (c *cq) attach(q *qp) {
	c.mu.Lock()
	c.qps[q] = struct{}{}
	c.mu.Unlock()
}

func (c *cq) detach(q *qp) {
	c.mu.Lock()
	delete(c.qps, q)
	c.mu.Unlock()
}
