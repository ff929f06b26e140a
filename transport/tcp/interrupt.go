package tcp

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// interrupter lets the end of a context interrupt the I/O of one direction. It
// keeps its watch as long as calls come with the same context, so that a loop
// with one context sets nothing up. One goroutine at a time arms it; the end of
// the connection releases it.
type interrupter struct {
	set  func(time.Time) error // SetReadDeadline or SetWriteDeadline
	over atomic.Bool           // the deadline has come: who never waits looks here

	mu       sync.Mutex
	ctx      context.Context // guarded by mu; watched; nil if none
	stop     func() bool     // guarded by mu
	fired    chan struct{}   // closed when the watch has set the deadline
	released bool            // guarded by mu
}

// aLongTimeAgo is a deadline in the past.
var aLongTimeAgo = time.Unix(1, 0)

// arm prepares for I/O under ctx; it returns the error of one that has ended.
func (i *interrupter) arm(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.released || i.ctx != nil && i.ctx.Done() == ctx.Done() {
		return nil
	}
	if i.ctx != nil {
		if !i.stop() {
			<-i.fired
			_ = i.set(time.Time{})
			i.over.Store(false)
		}
		i.ctx = nil
	}
	if ctx.Done() == nil {
		return nil
	}
	fired := make(chan struct{})
	i.ctx, i.fired = ctx, fired
	i.stop = context.AfterFunc(ctx, func() {
		i.over.Store(true)
		_ = i.set(aLongTimeAgo)
		close(fired)
	})
	return nil
}

// release ends the watch for good, so that a context which outlives the
// connection does not keep it.
func (i *interrupter) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.released = true
	if i.ctx != nil {
		i.stop()
		i.ctx = nil
	}
}

// ended returns the error of the context if err is the interruption by it.
func (i *interrupter) ended(err error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ctx != nil && errors.Is(err, os.ErrDeadlineExceeded) && i.ctx.Err() != nil {
		return context.Cause(i.ctx)
	}
	return nil
}
