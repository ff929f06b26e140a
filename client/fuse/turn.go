package fuse

import (
	"context"
	"slices"
	"sync"
)

// turn is a mutex for what is held while the server is asked: who waits for it gives up
// when its context ends, and they have it in the order in which they came.
type turn struct {
	mu      sync.Mutex
	taken   bool            // guarded by mu
	waiting []chan struct{} // closed when the turn is theirs. guarded by mu
}

// lock takes the turn. The error is why ctx has ended.
func (t *turn) lock(ctx context.Context) error {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.waiting = append(t.waiting, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(t.waiting, mine)
	if i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 { // it was given to us just now
		t.unlock()
	}
	return context.Cause(ctx)
}

// unlock gives the turn to who has waited longest.
func (t *turn) unlock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.taken = false
		return
	}
	close(t.waiting[0])
	t.waiting = slices.Delete(t.waiting, 0, 1)
}
