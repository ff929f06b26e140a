package tcp

import (
	"context"
	"errors"
	"os"
	"time"
)

// interrupter lets the end of a context interrupt the I/O of one direction. It
// keeps its watch as long as calls come with the same context, so that a loop
// with one context sets nothing up. One goroutine at a time uses it.
type interrupter struct {
	set   func(time.Time) error // SetReadDeadline or SetWriteDeadline
	ctx   context.Context       // watched; nil if none
	stop  func() bool
	fired chan struct{} // closed when the watch has set the deadline
}

// aLongTimeAgo is a deadline in the past.
var aLongTimeAgo = time.Unix(1, 0)

// arm prepares for I/O under ctx; it returns the error of one that has ended.
func (i *interrupter) arm(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if i.ctx != nil && i.ctx.Done() == ctx.Done() {
		return nil
	}
	if i.ctx != nil {
		if !i.stop() {
			<-i.fired
			_ = i.set(time.Time{})
		}
		i.ctx = nil
	}
	if ctx.Done() == nil {
		return nil
	}
	fired := make(chan struct{})
	i.ctx, i.fired = ctx, fired
	i.stop = context.AfterFunc(ctx, func() {
		_ = i.set(aLongTimeAgo)
		close(fired)
	})
	return nil
}

// ended returns the error of the context if err is the interruption by it.
func (i *interrupter) ended(err error) error {
	if i.ctx != nil && errors.Is(err, os.ErrDeadlineExceeded) && i.ctx.Err() != nil {
		return context.Cause(i.ctx)
	}
	return nil
}
