package soft

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// QueueUser is a QP as its CQs and SRQ see it.
type QueueUser interface {
	Hold() bool
	Release()
	// QueueFailed is called once, with no lock held and a reference, when a queue
	// failed: the QP ends its connection.
	QueueFailed()
}

// users are the QPs of a queue, with the order in which they came: the order in
// which they are told of its failure.
type users struct {
	of   map[QueueUser]uint64
	next uint64
}

func (u *users) add(q QueueUser) {
	if u.of == nil {
		u.of = make(map[QueueUser]uint64)
	}
	u.next++
	u.of[q] = u.next
}

// fail has each user told by a goroutine of its own. One that is being closed ends
// by itself, and may have lost its last reference already.
func (u *users) fail(d *Device) {
	qs := make([]QueueUser, 0, len(u.of))
	for q := range u.of {
		qs = append(qs, q)
	}
	slices.SortFunc(qs, func(a, b QueueUser) int { return int(u.of[a]) - int(u.of[b]) })
	for _, q := range qs {
		if !q.Hold() {
			continue
		}
		d.env.Go(func() { // ends by itself; the QP waits for it
			q.QueueFailed()
			q.Release()
		})
	}
}

// CQ implements ndk.CQ. Push is its other side.
type CQ struct {
	Object
	dev      *Device
	notifyFn func() // Notify, made once
	timerFn  func() // expired, made once

	mu     sync.Mutex
	n      notifier       // guarded by mu, as all below
	ring   []ndk.ResultEx // grows up to depth
	head   int
	count  int
	depth  int
	seq    uint64 // completions queued so far
	seqSol uint64 // seq of the newest solicited or failed one
	seen   uint64 // seq at the last notification
	armed  bool
	arm    ndk.ArmType
	failed ndk.Status // BufferOverflow or InternalError; Success while it works
	users  users
	mod    moderation
}

// moderation holds a due notification back. A timer that runs holds the CQ.
type moderation struct {
	interval time.Duration // 0: off; negative: no bound
	count    int           // at least 2; 0: no bound
	timer    Timer
	running  bool // the timer runs, or its function is about to
	wanted   bool // and has something to do
}

const (
	cqFirstSize = 16
	// maxModeration is what a longer interval is lowered to.
	maxModeration = time.Second
)

// CreateCQ implements ndk.Adapter. Its result is a *CQ.
func (d *Device) CreateCQ(_ context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	const op = "create CQ"
	if c.Depth < 1 || c.Depth > d.info.MaxCQDepth {
		return nil, fail(op, ntstatus.InvalidParameter, fmt.Errorf("depth %d, at least 1 and at most %d", c.Depth, d.info.MaxCQDepth))
	}
	q := &CQ{dev: d, n: notifier{notify: c.Notify}, depth: c.Depth}
	q.notifyFn, q.timerFn = q.Notify, q.expired
	if err := d.InitObject(&q.Object, ndk.ObjectCQ, nil, &d.Object); err != nil {
		return nil, fail(op, ndk.StatusOf(err), nil)
	}
	return q, nil
}

// Device is the antecedent of c.
func (c *CQ) Device() *Device { return c.dev }

// Close implements ndk.Object.
func (c *CQ) Close() {
	if c.BeginClose() {
		c.mu.Lock()
		c.armed = false
		c.n.pending = false
		stopped := c.holdOffLocked()
		c.mu.Unlock()
		if stopped {
			c.Release()
		}
		c.Release()
	}
}

// Attach makes q one that is told of a failure, until Detach. The caller holds
// c as an antecedent.
func (c *CQ) Attach(q QueueUser) {
	c.mu.Lock()
	c.users.add(q)
	c.mu.Unlock()
}

// Detach undoes Attach.
func (c *CQ) Detach(q QueueUser) {
	c.mu.Lock()
	delete(c.users.of, q)
	c.mu.Unlock()
}

// Push queues one completion. fire says that a notification is due, which the
// caller then runs, with Notify or Spawn, when it holds no lock. solicited is for
// receives of a solicited send; failures count as such by themselves. A CQ that
// is full fails with BufferOverflow.
func (c *CQ) Push(e *ndk.ResultEx, solicited bool) (fire bool) {
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
	return c.dueLocked(false)
}

// Fail ends the CQ with BufferOverflow or InternalError, and with it its QPs. The
// result is that of Push.
func (c *CQ) Fail(st ndk.Status) (fire bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != ntstatus.Success {
		return false
	}
	return c.failLocked(st)
}

// Failed is the status that the CQ failed with, or Success.
func (c *CQ) Failed() ndk.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// Queued is the number of completions that wait to be polled.
func (c *CQ) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// grow enlarges the ring; false if it has its full depth.
func (c *CQ) grow() bool {
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

func (c *CQ) failLocked(st ndk.Status) (fire bool) {
	c.failed = st
	c.count = 0
	c.ring = nil
	c.head = 0
	c.users.fail(c.dev)
	return c.dueLocked(true)
}

// dueLocked reports whether the caller is to run a notification: the armed
// condition is met by something newer than the last one, and it is not held back
// any longer; then it disarms. now says that nothing holds it back.
func (c *CQ) dueLocked(now bool) bool {
	if !c.armed || c.Closing() {
		return false
	}
	oldest := c.seq - uint64(c.count) // seq of the one before the first queued
	switch {
	case c.failed != ntstatus.Success:
		now = true
	case c.arm == ndk.ArmAny && c.count > 0 && c.seq > c.seen:
	case c.arm == ndk.ArmSolicited && c.seqSol > oldest && c.seqSol > c.seen:
	default:
		return false
	}
	if !now && c.heldLocked() {
		return false
	}
	return c.fireLocked()
}

func (c *CQ) fireLocked() bool {
	c.mod.wanted = false // a timer that runs finds nothing to do
	c.armed = false
	c.seen = c.seq
	return c.n.due(&c.Object)
}

// heldLocked reports whether moderation holds the due notification back, and sees
// to it that it does not do so for longer than the interval.
func (c *CQ) heldLocked() bool {
	m := &c.mod
	if m.interval == 0 {
		return false
	}
	newer := c.seq - c.seen
	if n := min(m.count, c.depth); n > 0 && newer >= uint64(n) {
		return false
	}
	if m.interval > 0 && !m.wanted {
		m.wanted = true
		switch {
		case m.running && !m.timer.Stop():
			// Its function is about to run, and takes this one along.
		case m.timer == nil:
			m.timer = c.dev.env.AfterFunc(m.interval, c.timerFn)
			c.Retain()
		default:
			m.timer.Reset(m.interval)
			if !m.running {
				c.Retain()
			}
		}
		m.running = true
	}
	return true
}

// holdOffLocked stops the timer; true if its reference is now the caller's.
func (c *CQ) holdOffLocked() (stopped bool) {
	c.mod.wanted = false
	if c.mod.running && c.mod.timer.Stop() {
		c.mod.running = false
		return true
	}
	return false
}

// expired is the function of the timer.
func (c *CQ) expired() {
	c.mu.Lock()
	fire := false
	c.mod.running = false
	if c.mod.wanted {
		c.mod.wanted = false
		fire = c.dueLocked(true)
	}
	c.mu.Unlock()
	if fire {
		c.Notify()
	}
	c.Release()
}

// Notify runs the due notification, and those that become due meanwhile.
func (c *CQ) Notify() {
	c.mu.Lock()
	for c.n.pending {
		c.n.pending = false
		st := c.failed
		c.mu.Unlock()
		c.n.notify(st)
		c.mu.Lock()
	}
	c.n.running = false
	c.mu.Unlock()
	c.Release()
}

// Spawn has Notify run by another goroutine: for callers that are no goroutine
// of the provider. Close waits for it.
func (c *CQ) Spawn() { c.dev.env.Go(c.notifyFn) }

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
func (c *CQ) Arm(t ndk.ArmType) {
	c.mu.Lock()
	if c.Closing() {
		c.mu.Unlock()
		return
	}
	if !c.armed || strength(t) > strength(c.arm) {
		c.arm = t
	}
	c.armed = true
	fire := c.dueLocked(false)
	if c.armed && c.leftoverLocked() && c.dev.env.LeftoverFires != nil && c.dev.env.LeftoverFires() {
		fire = c.fireLocked()
	}
	c.mu.Unlock()
	if fire {
		c.Spawn()
	}
}

// leftoverLocked reports whether what is queued would have met the armed
// condition before the last notification.
func (c *CQ) leftoverLocked() bool {
	oldest := c.seq - uint64(c.count)
	switch c.arm {
	case ndk.ArmAny:
		return c.count > 0 && c.seq <= c.seen
	case ndk.ArmSolicited:
		return c.seqSol > oldest && c.seqSol <= c.seen
	}
	return false
}

// Poll implements ndk.CQ.
func (c *CQ) Poll(dst []ndk.Result) int {
	c.mu.Lock()
	n := min(len(dst), c.count)
	for i := range n {
		e := c.front()
		dst[i] = e.Result
		c.drop(e)
	}
	c.mu.Unlock()
	return n
}

// PollEx implements ndk.CQ.
func (c *CQ) PollEx(dst []ndk.ResultEx) int {
	c.mu.Lock()
	n := min(len(dst), c.count)
	for i := range n {
		e := c.front()
		dst[i] = *e
		c.drop(e)
	}
	c.mu.Unlock()
	return n
}

// front is the oldest completion, which there is.
func (c *CQ) front() *ndk.ResultEx { return &c.ring[c.head] }

// drop takes the oldest completion, which is e, off the queue.
func (c *CQ) drop(e *ndk.ResultEx) {
	e.QPContext, e.RequestContext = nil, nil // lets go of them
	if c.head++; c.head == len(c.ring) {
		c.head = 0
	}
	c.count--
}

// Resize implements ndk.CQ.
func (c *CQ) Resize(_ context.Context, depth int) error {
	const op = "resize CQ"
	if !hasFlag(&c.dev.info, ndk.FlagCQResize) {
		return fail(op, ntstatus.NotSupported, nil)
	}
	if limit := c.dev.info.MaxCQDepth; depth < 1 || depth > limit {
		return fail(op, ntstatus.InvalidParameter, fmt.Errorf("depth %d, at least 1 and at most %d", depth, limit))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if depth < c.count {
		return fail(op, ntstatus.BufferOverflow, fmt.Errorf("%d completions are queued", c.count))
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

// Moderate implements ndk.CQ. Intervals above a second are lowered to it.
func (c *CQ) Moderate(interval, count uint32) error {
	const op = "moderate CQ"
	if !hasFlag(&c.dev.info, ndk.FlagCQInterruptModeration) {
		return fail(op, ntstatus.NotSupported, nil)
	}
	c.mu.Lock()
	var m moderation
	switch noCount := uint64(count) > uint64(c.depth); {
	case interval == ndk.Disabled && noCount:
		c.mu.Unlock()
		return fail(op, ntstatus.InvalidParameterMix, nil)
	case interval == 0 || count <= 1:
	default:
		if !noCount {
			m.count = int(count)
		}
		if m.interval = -1; interval != ndk.Disabled {
			m.interval = min(time.Duration(interval)*time.Microsecond, maxModeration)
		}
	}
	// What is held back by the old setting is judged by the new one.
	stopped := c.holdOffLocked()
	c.mod.interval, c.mod.count = m.interval, m.count
	fire := c.dueLocked(false)
	c.mu.Unlock()
	if stopped {
		c.Release()
	}
	if fire {
		c.Spawn()
	}
	return nil
}

// Armed reports whether the CQ waits for something to notify of, and for what: for
// a provider whose device is armed as well.
func (c *CQ) Armed() (t ndk.ArmType, armed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.arm, c.armed && c.failed == ntstatus.Success && !c.Closing()
}

// Solicited notes that the receive of a solicited send was queued, whether it was
// polled by now or not: for a provider whose device says so after Push. The result
// is that of Push.
func (c *CQ) Solicited() (fire bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != ntstatus.Success || c.Closing() {
		return false
	}
	c.seqSol = c.seq
	if !c.armed || c.arm == ndk.ArmErrors || c.heldLocked() {
		return false
	}
	return c.fireLocked()
}
