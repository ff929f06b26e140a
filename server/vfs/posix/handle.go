//go:build linux

package posix

import (
	"io/fs"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// handle is a descriptor that is closed when its owner has closed it and the
// last call that uses it has returned, so that no call meets a descriptor
// number that has come to mean something else.
type handle struct {
	fd     int
	refs   atomic.Int64 // 1 for the owner, 1 for each call in progress
	closed atomic.Bool

	// onClose closes in place of unix.Close; set before the handle is shared.
	onClose func() error
}

func newHandle(fd int) *handle {
	h := &handle{fd: fd}
	h.refs.Store(1)
	return h
}

// acquire keeps the descriptor open until release. It fails once closed.
func (h *handle) acquire() bool {
	for {
		n := h.refs.Load()
		if n <= 0 || h.closed.Load() {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release returns what closing gave, if this was the last reference.
func (h *handle) release() error {
	switch n := h.refs.Add(-1); {
	case n > 0:
		return nil
	case n < 0:
		panic("posix: handle released more often than acquired")
	}
	if h.onClose != nil {
		return h.onClose()
	}
	return unix.Close(h.fd)
}

// close gives up the owner's reference; fs.ErrClosed the second time.
func (h *handle) close() error {
	if h.closed.Swap(true) {
		return fs.ErrClosed
	}
	return h.release()
}
