package sim

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// waiter is one call that blocks.
type waiter struct {
	done atomic.Bool
	st   ndk.Status // set before done, as err
	err  error
	c    chan struct{}
}

func newWaiter() *waiter { return &waiter{c: make(chan struct{})} }

// finish lets the call return, under World.mu. Only the first one counts; nil is
// allowed and waits for nothing.
func (wt *waiter) finish(st ndk.Status, err error) {
	if wt == nil || wt.done.Load() {
		return
	}
	wt.st, wt.err = st, err
	wt.done.Store(true)
	close(wt.c)
}

// await waits for wt with no lock held. The error is that of the context,
// ErrDeadlock or ErrWorldClosed, and nil when wt is done.
func (w *World) await(ctx context.Context, wt *waiter) error {
	if !w.cfg.Auto {
		return w.block(ctx, wt.done.Load)
	}
	select {
	case <-wt.c:
		return nil
	case <-ctx.Done():
	case <-w.stop:
	}
	if wt.done.Load() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return ErrWorldClosed
}

// block drives the world until cond holds, or if a task calls, waits while others
// do.
func (w *World) block(ctx context.Context, cond func() bool) error {
	for !cond() { // which is not asked again once it held: it may have taken something
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.closed.Load() {
			return ErrWorldClosed
		}
		w.mu.Lock()
		t := w.current
		w.mu.Unlock()
		switch {
		case t != nil:
			if t.wait(ctx, cond) {
				return nil
			}
		case w.step(forever):
		case cond(): // by somebody else's step
			return nil
		default:
			return ErrDeadlock
		}
	}
	return nil
}

// failed is the status of an error of block.
func failed(err error) ndk.Status {
	switch {
	case errors.Is(err, ErrDeadlock):
		return ntstatus.InternalError
	case errors.Is(err, ErrWorldClosed):
		return ntstatus.DeviceNotReady
	}
	return ndk.StatusOf(err)
}

// Task is a thread of the simulation: a function that runs when the world lets
// it, alone, until it ends or a call of it waits. So several sides of a test can
// each be written as a straight line and still depend on nothing but the seed.
type Task struct {
	event
	w      *World
	sub    subject
	resume chan struct{}
	paused chan struct{}
	ended  chan struct{}
	out    bool            // it has control to get back; guarded by World.mu, as below
	ctx    context.Context // of the call that waits
	cond   func() bool     // what it waits for; nil: nothing
	met    bool            // cond held
}

// Go starts f as a task, which runs from the next step on. Only manual mode has
// tasks; in auto mode f gets a goroutine. A task waits only in calls of the world
// and of its objects; for other things there is World.RunUntil.
func (w *World) Go(f func()) *Task {
	t := &Task{w: w, sub: w.number(subTask), resume: make(chan struct{}), paused: make(chan struct{}), ended: make(chan struct{})}
	w.callbacks.Add(1)
	if w.cfg.Auto {
		go func() { // ends with f; Close waits
			defer w.callbacks.Done()
			defer close(t.ended)
			f()
		}()
		return t
	}
	t.run, t.out = t.step, true
	w.mu.Lock()
	w.tasks = append(w.tasks, t)
	w.mu.Unlock()
	go func() { // ends with f, which the world lets run; Close waits
		defer w.callbacks.Done()
		defer func() { // also when f ends its goroutine
			w.mu.Lock()
			w.tasks = slices.DeleteFunc(w.tasks, func(o *Task) bool { return o == t })
			w.mu.Unlock()
			w.note(t.sub, "end").end()
			close(t.ended)
			t.paused <- struct{}{}
		}()
		<-t.resume
		f()
	}()
	w.s.after(&t.event, 0)
	return t
}

// Ended is closed when the function of the task has returned.
func (t *Task) Ended() <-chan struct{} { return t.ended }

// step lets the task run until it waits or ends. Its caller drives the world.
func (t *Task) step() {
	w := t.w
	w.mu.Lock()
	if !t.out {
		w.mu.Unlock()
		return
	}
	if t.cond != nil {
		w.blocked--
	}
	before := w.current
	w.current, t.out, t.cond, t.ctx = t, false, nil, nil
	w.mu.Unlock()
	w.note(t.sub, "run").end()
	t.resume <- struct{}{}
	<-t.paused
	w.mu.Lock()
	w.current = before
	w.mu.Unlock()
}

// wait gives control back to who drives the world, until cond held, as it
// reports, ctx has ended, or the world is closed.
func (t *Task) wait(ctx context.Context, cond func() bool) (met bool) {
	w := t.w
	w.mu.Lock()
	t.out, t.cond, t.ctx, t.met = true, cond, ctx, false
	w.blocked++
	w.mu.Unlock()
	t.paused <- struct{}{}
	<-t.resume
	w.mu.Lock()
	defer w.mu.Unlock()
	return t.met
}

// turn lets one task go on that has got what it waits for, at once, so that it
// still has it. There is a step for the next one.
func (w *World) turn() {
	w.mu.Lock()
	n := len(w.tasks)
	if w.blocked == 0 {
		n = 0
	}
	w.mu.Unlock()
	first := 0
	if n > 1 && w.s.shuffle {
		first = w.s.intN(n)
	}
	for i := range n {
		w.mu.Lock()
		t := w.tasks[(first+i)%n]
		cond, ctx := t.cond, t.ctx
		w.mu.Unlock()
		if cond == nil {
			continue
		}
		if met := cond(); met || ctx.Err() != nil {
			w.s.after(&w.next, 0)
			w.mu.Lock()
			t.met = met
			w.mu.Unlock()
			t.step()
			return
		}
	}
}

// endTasks lets every task run to its end; what it waits for fails.
func (w *World) endTasks() {
	for {
		w.mu.Lock()
		if len(w.tasks) == 0 {
			w.mu.Unlock()
			return
		}
		t := w.tasks[0]
		w.mu.Unlock()
		w.s.cancel(&t.event)
		t.step()
	}
}
