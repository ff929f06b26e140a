package vfs

import (
	"context"
	"sync"
	"syscall"
)

const (
	defaultQueueLen = 1024
	maxQueueLen     = 65536
)

// EventQueue is the part of a Watch that is the same for all backends: a bounded
// queue between those who see changes and Next. Its methods are safe for
// concurrent use, but for Next.
type EventQueue struct {
	max  int
	wake chan struct{} // holds a token when there may be something for Next

	mu       sync.Mutex
	queue    []Event // guarded by mu; at most max
	overflow bool    // guarded by mu; queue lost something after its last event
	err      error   // guarded by mu; why nothing more will come
}

// NewEventQueue makes a queue and fills in the defaults of o; EINVAL if o asks
// for what cannot be.
func NewEventQueue(o WatchOptions) (*EventQueue, WatchOptions, error) {
	if o.QueueLen == 0 {
		o.QueueLen = defaultQueueLen
	}
	if o.Changes == 0 {
		o.Changes = ChangeAll
	}
	if o.QueueLen < 2 || o.QueueLen > maxQueueLen || o.Changes&^ChangeAll != 0 {
		return nil, o, syscall.EINVAL
	}
	return &EventQueue{max: o.QueueLen, wake: make(chan struct{}, 1)}, o, nil
}

// Push queues events that belong together, or none of them.
func (q *EventQueue) Push(events ...Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil || q.overflow {
		return // after a loss nothing more counts until it has been reported
	}
	n := len(q.queue)
	if n > 0 && len(events) == 1 && events[0].Action == Modified && q.queue[n-1] == events[0] {
		return // said already
	}
	if n+len(events) > q.max {
		q.overflow = true
	} else {
		q.queue = append(q.queue, events...)
	}
	q.signal()
}

// Lose reports that events are missing.
func (q *EventQueue) Lose() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.overflow = true
	q.signal()
}

// End makes Next return err once the queue is empty. The first one counts.
func (q *EventQueue) End(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	q.signal()
}

// signal leaves a token for Next. q.mu is held.
func (q *EventQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Next implements Watch.
func (q *EventQueue) Next(ctx context.Context, dst []Event) (int, error) {
	if len(dst) == 0 {
		return 0, syscall.EINVAL
	}
	for {
		if n, err := q.take(dst); n > 0 || err != nil {
			return n, err
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// take moves what is there; 0 and nil mean that Next has to wait.
func (q *EventQueue) take(dst []Event) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := copy(dst, q.queue); n > 0 {
		rest := copy(q.queue, q.queue[n:])
		clear(q.queue[rest:]) // let go of the names
		q.queue = q.queue[:rest]
		return n, nil
	}
	if q.overflow {
		q.overflow = false
		return 0, ErrOverflow
	}
	if q.err != nil {
		q.signal() // for a Next that comes later
		return 0, q.err
	}
	return 0, nil
}
