package sim

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// World is a simulated network with RDMA devices. It implements ndk.Provider.
//
// Lock order: mu, then the locks of package soft, then sched.mu. Callbacks of the
// consumer run with none held.
type World struct {
	cfg  Config
	info ndk.AdapterInfo
	s    sched

	mu       sync.Mutex
	hosts    []*host              // guarded by mu, as all below
	owners   map[netip.Addr]*host // the device of an address
	blocks   map[pair]bool
	packets  *packet // free ones
	adapters int
	tasks    []*Task // those that have not ended
	blocked  int     // how many of them are in a call that waits
	current  *Task   // the task that runs now
	next     event   // gives a turn to the next task
	direct   bool    // a post is being carried out at once; see World.atOnce
	ready    []*link // what it has set off

	ports ports

	closeOnce sync.Once
	closed    atomic.Bool
	stop      chan struct{}
	calls     chan func()    // to the goroutine that runs callbacks in auto mode
	callbacks sync.WaitGroup // goroutines of callbacks and tasks
	driver    sync.WaitGroup // the goroutine of auto mode
}

// ErrDeadlock is the cause of the error of a call that would block for ever:
// nothing is left to happen in the world, and nobody else is there to do
// anything.
var ErrDeadlock = errors.New("nothing is left to happen, and the call waits")

// ErrWorldClosed is the cause of the error of a call in a world that is closed.
var ErrWorldClosed = errors.New("the world is closed")

// New makes a world. Close ends it.
func New(c Config) (*World, error) {
	c, info, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &World{cfg: c, info: info, owners: make(map[netip.Addr]*host), blocks: make(map[pair]bool), stop: make(chan struct{})}
	w.ports.used = make(map[netip.AddrPort]*binding)
	w.next.run = func() {} // the turn comes behind it, as behind every event
	w.s.init(&c)
	for _, h := range c.Hosts {
		w.addHost(h)
	}
	if c.Auto {
		w.calls = make(chan func())
		w.driver.Add(1)
		go w.drive() // Close ends these by closing stop, and waits for them
		for range servers {
			w.callbacks.Add(1)
			go w.serve()
		}
	}
	return w, nil
}

// atOnce carries out what was handed on to q, and all that follows from it, as
// part of the post: with no time to pass and nothing left to chance there is
// nothing to wait for. Manual mode leaves it to the next steps.
func (w *World) atOnce(q *qp) {
	w.direct = true
	q.kick()
	for len(w.ready) > 0 {
		l := w.ready[len(w.ready)-1]
		w.ready = w.ready[:len(w.ready)-1]
		l.deliverLocked()
	}
	w.direct = false
}

// mayDirect reports whether a post may be carried out at once.
func (w *World) mayDirect() bool {
	c := &w.cfg
	return c.Auto && !c.Paced && c.Order == InOrder && c.Latency == 0 && c.Jitter == 0 && c.BytesPerSecond == 0 && !w.faulty()
}

func (w *World) drive() {
	defer w.driver.Done()
	var due <-chan time.Time
	for {
		select {
		case <-w.stop:
			return
		default:
		}
		limit := forever
		if w.cfg.Paced {
			limit = w.s.clock()
		}
		if w.step(limit) {
			continue
		}
		due = nil
		if w.cfg.Paced {
			if d, ok := w.s.nextAt(); ok {
				due = time.After(max(d, 0))
			}
		}
		select {
		case <-w.stop:
			return
		case <-w.s.wake:
		case <-due:
		}
	}
}

// Close ends the world: calls that wait fail with ErrWorldClosed, tasks run to
// their end, callbacks that run are waited for. Adapters that are still open are
// reported; they are of no use any more. It is not called from a callback or a
// task.
func (w *World) Close() { w.closeOnce.Do(w.end) }

func (w *World) end() {
	w.closed.Store(true)
	close(w.stop)
	w.driver.Wait()
	w.endTasks()
	w.callbacks.Wait()
	w.mu.Lock()
	n := w.adapters
	w.mu.Unlock()
	if n > 0 {
		w.report(fmt.Sprintf("the world was closed with %d adapters open", n))
	}
}

func (w *World) report(what string) {
	w.note(subject{}, "report").text(what).end()
	if w.cfg.Report != nil {
		w.cfg.Report(what)
	}
}

// Now is the virtual time since New.
func (w *World) Now() time.Duration { return w.s.clock() }

// Steps is the number of events so far.
func (w *World) Steps() uint64 {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.steps
}

// Rand draws a number in [0, n) from the seed of the world, for workloads that
// shall be repeated with it. n is at least 1.
func (w *World) Rand(n int) int { return w.s.intN(n) }

// step runs the first event that is due by limit.
func (w *World) step(limit time.Duration) bool {
	w.mu.Lock() // so that no call is half way: what it is about to schedule may come first
	ev := w.s.next(limit)
	w.mu.Unlock()
	if ev == nil {
		return false
	}
	ev.run()
	w.turn()
	return true
}

// Step runs one event; false if there is none.
func (w *World) Step() bool { return w.step(forever) }

// Run runs events until there is none, and returns how many.
func (w *World) Run() (n int) {
	for w.step(forever) {
		n++
	}
	return n
}

// RunUntil runs events until cond holds, which is asked before each, with no lock
// held, and not again once it held: it may poll. It does not drive the world. It
// fails with ErrDeadlock when there are no events left. In a task it waits while
// others run; in auto mode the caller takes part in driving, and cond needs to
// become true without anybody else's doing.
func (w *World) RunUntil(cond func() bool) error {
	return w.until(context.Background(), "run", cond)
}

func (w *World) until(ctx context.Context, op string, cond func() bool) error {
	if err := w.block(ctx, cond); err != nil {
		return fail(op, failed(err), err)
	}
	return nil
}

// Advance runs the events of the next d, and moves the clock on by d.
func (w *World) Advance(d time.Duration) {
	t := w.Now() + max(d, 0)
	for w.step(t) {
	}
	w.s.setClock(t)
}

// After has f run as a callback, d from now. Auto mode does not wait for d: its
// clock jumps when nothing happens earlier.
func (w *World) After(d time.Duration, f func()) { w.soon(f, max(d, 0)) }

// Wait drives the world until c is closed, as the Closed channel of an object.
// It fails with ErrDeadlock if that never happens; in auto mode it waits.
func (w *World) Wait(ctx context.Context, c <-chan struct{}) error {
	const op = "wait"
	if w.cfg.Auto {
		select {
		case <-c: // also if there is another reason to return
			return nil
		default:
		}
		select {
		case <-c:
			return nil
		case <-ctx.Done():
			return fail(op, ndk.StatusOf(ctx.Err()), ctx.Err())
		case <-w.stop:
			return fail(op, ntstatus.DeviceNotReady, ErrWorldClosed)
		}
	}
	return w.until(ctx, op, func() bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	})
}

// CloseWait closes o and drives the world until it is closed.
func (w *World) CloseWait(ctx context.Context, o ndk.Object) error {
	o.Close()
	return w.Wait(ctx, o.Closed())
}

// Open implements ndk.Provider.
func (w *World) Open(ctx context.Context, local netip.Addr, v ndk.Version) (ndk.Adapter, error) {
	const op = "open adapter"
	if err := ctx.Err(); err != nil {
		return nil, fail(op, ndk.StatusOf(err), err)
	}
	if v.Major != 1 && v.Major != 2 {
		return nil, fail(op, ntstatus.NotSupported, fmt.Errorf("version %v", v))
	}
	top := ndk.Version12
	if v.Major == 2 {
		top = ndk.Version21
	}
	if top.Less(v) {
		return nil, fail(op, ntstatus.NotSupported, fmt.Errorf("version %v, at most %v", v, top))
	}
	if w.closed.Load() {
		return nil, fail(op, ntstatus.DeviceNotReady, ErrWorldClosed)
	}
	if err := w.fails(op, subject{}, PointOpen, nil, nil, ndk.ObjectAdapter, ntstatus.DeviceNotReady); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hostFor(local)
	if h == nil || h.removed {
		return nil, fail(op, ntstatus.DeviceNotReady, fmt.Errorf("no device has %v", local))
	}
	return w.newAdapter(h, local.Unmap().WithZone(""), top), nil
}

// FailCQ makes a CQ fail with InternalError now, and with it its QPs.
func (w *World) FailCQ(q ndk.CQ) {
	c, ok := ndk.Unwrap(q).(*cq)
	if !ok {
		return
	}
	w.note(c.sub, "fail").end()
	if c.Fail(ntstatus.InternalError) {
		c.Spawn()
	}
}

// FailSRQ makes an SRQ fail with InternalError now, and with it its QPs.
func (w *World) FailSRQ(q ndk.SRQ) {
	s, ok := ndk.Unwrap(q).(*srq)
	if !ok {
		return
	}
	w.note(s.sub, "fail").end()
	if s.Fail() {
		s.Spawn()
	}
}
