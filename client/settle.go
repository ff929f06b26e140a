package client

import (
	"context"
	"sync"
)

// unsettled counts the requests that were given up before they were answered and may
// change the data of a file all the same. Its lock is the last that is taken.
type unsettled struct {
	mu   sync.Mutex
	n    int           // guarded by mu
	over chan struct{} // closed when n is 0 again; nil while it is. guarded by mu
}

func (u *unsettled) add() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n++; u.over == nil {
		u.over = make(chan struct{})
	}
}

func (u *unsettled) done() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 {
		close(u.over)
		u.over = nil
	}
}

func (u *unsettled) wait() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.over
}

// Settled says whether the server can't change the data of the file any more because of
// calls through f that have returned: WriteAt and the like that failed because their
// context or their time had ended may still be under way.
func (f *File) Settled() bool { return f.unsettled.wait() == nil }

// Settle waits until that is so. Who writes to a file anew after a write was given up
// waits first, or the older one may come second. The error is why ctx has ended.
func (f *File) Settle(ctx context.Context) error {
	for {
		over := f.unsettled.wait()
		if over == nil {
			return nil
		}
		select {
		case <-over:
		case <-ctx.Done():
			return wrap("settle", f.name, context.Cause(ctx))
		}
	}
}

// forsake gives a call to the connection, which frees it with its answer. Called with
// conn.mu held.
func (k *call) forsake() {
	k.gone = true
	if k.changes && k.file != nil {
		k.file.unsettled.add()
	}
}

// forsaken notes that a call which was given to the connection is over. Called with
// conn.mu held.
func (k *call) forsaken() {
	if k.changes && k.file != nil {
		k.file.unsettled.done()
	}
}
