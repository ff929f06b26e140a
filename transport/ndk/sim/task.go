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
	for !cond() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.closed.Load() {
			return ErrWorldClosed
		}
		w.mu.Lock()
		t := w.current
		w.mu.Unlock()
		if t != nil {
			t.wait(ctx, cond)
		} else if !w.step(forever) && !cond() {
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
	cond   func() bool     // what it waits for; nil: its turn
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

// wait gives control back to who drives the world, until cond may hold or ctx
// may have ended.
func (t *Task) wait(ctx context.Context, cond func() bool) {
	w := t.w
	w.mu.Lock()
	t.out, t.cond, t.ctx = true, cond, ctx
	w.blocked++
	w.mu.Unlock()
	t.paused <- struct{}{}
	<-t.resume
}

// checkTasks gives a turn to tasks that have got what they wait for.
func (w *World) checkTasks() {
	w.mu.Lock()
	if w.blocked == 0 {
		w.mu.Unlock()
		return
	}
	tasks := slices.Clone(w.tasks)
	w.mu.Unlock()
	for _, t := range tasks {
		w.mu.Lock()
		cond, ctx := t.cond, t.ctx
		w.mu.Unlock()
		if cond != nil && (ctx.Err() != nil || cond()) {
			w.s.after(&t.event, 0)
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
