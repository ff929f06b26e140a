package server

import (
	"context"
	"errors"
	"math"
	"slices"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Byte-range locks that local processes see
//
// On a share with PosixLocking every lock that the table has granted is taken from the
// storage, too (vfs.RangeLocker, F_OFD_SETLK): it is refused if a local process has one
// in the way, and local processes see ours. They are advisory there: what a local
// process has locked is not kept from READ and WRITE. Locks of the storage replace one
// another where ours lie side by side, so that after each change those of the open
// that overlap it are set again, exclusive ones last.
//
// Ranges from 2^63-1 on, and empty ones, have no counterpart in the storage, nor have
// named streams.

// storagePoll is how often a lock is tried again that a local process keeps waiting.
const storagePoll = 250 * time.Millisecond

// rangeLocker is where the open's locks go beside the table; nil for nowhere.
func (o *open) rangeLocker() vfs.RangeLocker {
	if !o.tree.share.PosixLocking || o.isStream() {
		return nil
	}
	l, _ := o.file.(vfs.RangeLocker)
	return l
}

// inStorage is the range as the storage has it; ok is false if it has none.
func (r byteRange) inStorage() (off, n int64, ok bool) {
	if r.n == 0 || r.off >= math.MaxInt64 {
		return 0, 0, false
	}
	return int64(r.off), int64(min(r.n, math.MaxInt64-r.off)), true
}

// setStorage takes a lock from the storage. One that a handle cannot have for lack of
// access is taken as far as it can.
func setStorage(ctx context.Context, l vfs.RangeLocker, r byteRange, exclusive bool) error {
	off, n, ok := r.inStorage()
	if !ok {
		return nil
	}
	err := l.LockRange(ctx, off, n, exclusive)
	if errors.Is(err, syscall.EBADF) && exclusive {
		err = l.LockRange(ctx, off, n, false)
	}
	if errors.Is(err, syscall.EBADF) {
		return nil
	}
	return err
}

// lockStorage takes a lock from the storage that the table has granted. With wait it
// waits for local processes as long as it takes.
func (o *open) lockStorage(ctx context.Context, r *request, l byteLock, wait bool) ntstatus.Status {
	s := o.rangeLocker()
	if s == nil {
		return ntstatus.Success
	}
	for {
		err := o.tryStorage(ctx, s, l)
		switch {
		case err == nil:
			return ntstatus.Success
		case !errors.Is(err, syscall.EAGAIN):
			return ntstatus.FromError(err)
		case !wait:
			return ntstatus.LockNotGranted
		}
		if st := o.pollStorage(ctx, r); st != ntstatus.Success {
			return st
		}
	}
}

// tryStorage takes a lock from the storage if it is to be had at once.
func (o *open) tryStorage(ctx context.Context, s vfs.RangeLocker, l byteLock) error {
	o.storageLocks.Lock()
	defer o.storageLocks.Unlock()
	err := setStorage(ctx, s, l.byteRange, l.exclusive)
	if err == nil {
		restoreStorage(ctx, s, o.state.locks.ownOverlapping(o, l.byteRange))
	}
	return err
}

// pollStorage waits before a lock is tried again.
func (o *open) pollStorage(ctx context.Context, r *request) ntstatus.Status {
	if st := r.goAsync(); st != ntstatus.Success {
		return st
	}
	next := time.NewTimer(storagePoll)
	defer next.Stop()
	select {
	case <-next.C:
		return ntstatus.Success
	case <-o.closing:
		return ntstatus.RangeNotLocked
	case <-ctx.Done():
		if o.ending() {
			return ntstatus.RangeNotLocked
		}
		return ntstatus.Cancelled
	}
}

// unlock gives up a lock of exactly that range; false if there is none. The storage's
// goes first: who waits for the table's takes it from there next.
func (o *open) unlock(r byteRange) bool {
	t := &o.state.locks
	s := o.rangeLocker()
	if s == nil {
		return t.unlock(o, r)
	}
	o.storageLocks.Lock()
	defer o.storageLocks.Unlock()
	own := t.ownOverlapping(o, r)
	found := -1
	for i, l := range own {
		if l.byteRange == r && (found < 0 || l.exclusive) {
			found = i
		}
	}
	if found >= 0 {
		l := own[found]
		o.leaveStorage(s, l, slices.Delete(own, found, found+1))
	}
	return t.unlock(o, r)
}

// undoLocks gives up what a request that fails has taken.
func (o *open) undoLocks(taken []byteLock) {
	t := &o.state.locks
	s := o.rangeLocker()
	if s == nil {
		t.undo(taken)
		return
	}
	o.storageLocks.Lock()
	defer o.storageLocks.Unlock()
	for _, l := range taken {
		o.leaveStorage(s, l, nil)
	}
	t.undo(taken)
	for _, l := range taken {
		restoreStorage(context.Background(), s, t.ownOverlapping(o, l.byteRange))
	}
}

// releaseLocks gives up all that the open has locked.
func (o *open) releaseLocks() {
	if s := o.rangeLocker(); s != nil && o.nlocks.Load() > 0 {
		o.storageLocks.Lock()
		defer o.storageLocks.Unlock()
		defer o.state.locks.releaseAll(o)
		_ = s.UnlockRange(context.Background(), 0, math.MaxInt64)
		return
	}
	o.state.locks.releaseAll(o)
}

// leaveStorage gives a lock back to the storage, but for what others of the open's
// cover. An error is of a file that is closed, and its locks with it.
func (o *open) leaveStorage(s vfs.RangeLocker, l byteLock, others []byteLock) {
	if off, n, ok := l.inStorage(); ok {
		_ = s.UnlockRange(context.Background(), off, n)
		restoreStorage(context.Background(), s, others)
	}
}

// restoreStorage sets locks again that overlap a range that was changed. That one
// cannot be taken would mean that a local process has come in between: the table's
// stays.
func restoreStorage(ctx context.Context, s vfs.RangeLocker, own []byteLock) {
	for _, exclusive := range []bool{false, true} {
		for _, l := range own {
			if l.exclusive == exclusive {
				_ = setStorage(ctx, s, l.byteRange, exclusive)
			}
		}
	}
}

// ownOverlapping returns the locks of an open that overlap a range.
func (t *lockTable) ownOverlapping(of *open, r byteRange) (own []byteLock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.held {
		if l.owner == of && l.overlaps(r) {
			own = append(own, l)
		}
	}
	return own
}
