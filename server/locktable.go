package server

import (
	"slices"
	"sync"
	"sync/atomic"
)

// byteRange is a range of bytes from off, n long. It may reach the last byte of
// 2^64, and n may be 0: such a range lies between two bytes.
type byteRange struct{ off, n uint64 }

// valid reports whether the range ends within 64 bits, [MS-FSA] 2.1.5.8.
func (r byteRange) valid() bool { return r.n == 0 || r.off+r.n-1 >= r.off }

// overlaps compares the last bytes and not the ends, which may be 2^64. For an
// empty range the last byte is the one before it, so that it conflicts with a
// range that it lies strictly inside of; {0, 0} has no byte before it and
// conflicts with nothing ([MS-FSA] 2.1.4.10).
func (r byteRange) overlaps(s byteRange) bool {
	if r == (byteRange{}) || s == (byteRange{}) {
		return false
	}
	return r.off <= s.off+s.n-1 && s.off <= r.off+r.n-1
}

// byteLock is a lock held, or one waited for.
type byteLock struct {
	byteRange
	owner     *open
	exclusive bool
}

// lockWaiter is a LOCK request that waits for its range.
type lockWaiter struct {
	byteLock
	granted chan struct{} // closed by the table when the lock is held
}

// maxLocksPerFile bounds what many opens of a file can make every READ and WRITE
// of it look through. It is asked once for a request, which may go beyond it.
const maxLocksPerFile = 1 << 16

// lockTable holds the byte-range locks of one file. Every operation is a scan:
// files with many locks are rare, and Limits.LocksPerOpen and maxLocksPerFile bound
// them.
type lockTable struct {
	n atomic.Int32 // len(held), to tell READ and WRITE quickly that there are none

	mu sync.Mutex
	// guarded by mu
	held    []byteLock
	waiting []*lockWaiter // in order of arrival
}

// blocks is the rule of [MS-FSA] 2.1.4.10 for one held lock. forLock says that
// the access is a lock itself, else it is a read or write.
func (l *byteLock) blocks(by *open, r byteRange, exclusive, forLock bool) bool {
	if !l.overlaps(r) {
		return false
	}
	if l.exclusive {
		return l.owner != by || exclusive && forLock
	}
	// A shared lock stops every writer, its owner too.
	return exclusive
}

func (t *lockTable) conflictLocked(by *open, r byteRange, exclusive, forLock bool) bool {
	for i := range t.held {
		if t.held[i].blocks(by, r, exclusive, forLock) {
			return true
		}
	}
	return false
}

// conflict reports whether a lock stops the open from reading or writing.
func (t *lockTable) conflict(by *open, r byteRange, write bool) bool {
	if t.n.Load() == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conflictLocked(by, r, write, false)
}

// tryLock takes the lock if nothing stands in its way.
func (t *lockTable) tryLock(l byteLock) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conflictLocked(l.owner, l.byteRange, l.exclusive, true) {
		return false
	}
	t.addLocked(l)
	return true
}

func (t *lockTable) addLocked(l byteLock) {
	t.held = append(t.held, l)
	t.n.Store(int32(len(t.held)))
}

// enqueue takes the lock or waits for it: a nil waiter says that it is held.
func (t *lockTable) enqueue(l byteLock) *lockWaiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.conflictLocked(l.owner, l.byteRange, l.exclusive, true) {
		t.addLocked(l)
		return nil
	}
	w := &lockWaiter{byteLock: l, granted: make(chan struct{})}
	t.waiting = append(t.waiting, w)
	return w
}

// abandon ends the wait. It reports false if the lock has been granted.
func (t *lockTable) abandon(w *lockWaiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting, w)
	if i < 0 {
		return false
	}
	t.waiting = slices.Delete(t.waiting, i, i+1)
	return true
}

// unlock gives up one lock of exactly that range. If the open holds both an
// exclusive lock and shared ones of it, the exclusive one goes first
// ([MS-FSA] 2.1.5.9).
func (t *lockTable) unlock(by *open, r byteRange) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := -1
	for i := range t.held {
		if l := &t.held[i]; l.owner == by && l.byteRange == r {
			found = i
			if l.exclusive {
				break
			}
		}
	}
	if found < 0 {
		return false
	}
	t.held = slices.Delete(t.held, found, found+1)
	t.wakeLocked()
	return true
}

// undo takes the locks back that a failed request had been granted: the latest
// equal to each.
func (t *lockTable) undo(locks []byteLock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range locks {
		for i := len(t.held) - 1; i >= 0; i-- {
			if t.held[i] == l {
				t.held = slices.Delete(t.held, i, i+1)
				break
			}
		}
	}
	t.wakeLocked()
}

// releaseAll gives up what an open holds.
func (t *lockTable) releaseAll(of *open) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.held)
	t.held = slices.DeleteFunc(t.held, func(l byteLock) bool { return l.owner == of })
	if len(t.held) != n {
		t.wakeLocked()
	}
}

// wakeLocked grants what has become free, the longest waiter first.
func (t *lockTable) wakeLocked() {
	t.waiting = slices.DeleteFunc(t.waiting, func(w *lockWaiter) bool {
		if t.conflictLocked(w.owner, w.byteRange, w.exclusive, true) {
			return false
		}
		t.held = append(t.held, w.byteLock)
		close(w.granted)
		return true
	})
	t.n.Store(int32(len(t.held)))
}

// lockConflict reports whether a byte-range lock stops the open from reading
// or writing n bytes at off.
func (o *open) lockConflict(off, n uint64, write bool) bool {
	if o.state == nil || n == 0 {
		return false
	}
	return o.state.locks.conflict(o, byteRange{off, n}, write)
}
