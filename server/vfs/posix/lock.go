//go:build linux

package posix

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

var (
	_ vfs.Leaser      = (*regular)(nil)
	_ vfs.RangeLocker = (*regular)(nil)
	_ vfs.FileLocker  = (*regular)(nil)
)

// LockRange implements vfs.RangeLocker by a lock of the open file description
// (F_OFD_SETLK in fcntl(2)): others' locks of the process do not matter to it,
// and closing another descriptor of the file does not end it.
func (r *regular) LockRange(ctx context.Context, off, length int64, exclusive bool) error {
	typ, need := int16(unix.F_RDLCK), vfs.AccessRead
	if exclusive {
		typ, need = unix.F_WRLCK, vfs.AccessWrite
	}
	return r.setRangeLock(ctx, "lock", typ, need, off, length)
}

// UnlockRange implements vfs.RangeLocker.
func (r *regular) UnlockRange(ctx context.Context, off, length int64) error {
	return r.setRangeLock(ctx, "unlock", unix.F_UNLCK, 0, off, length)
}

func (r *regular) setRangeLock(ctx context.Context, op string, typ int16, need vfs.Access, off, length int64) error {
	if err := r.beginData(ctx, op, need); err != nil {
		return err
	}
	defer r.release()
	if r.access == 0 {
		return r.wrap(op, syscall.EBADF)
	}
	if err := checkRange(off, length); err != nil {
		return r.wrap(op, err)
	}
	lock := unix.Flock_t{Type: typ, Start: off, Len: length}
	_, err := retry(func() (int, error) {
		return 0, unix.FcntlFlock(uintptr(r.fd), unix.F_OFD_SETLK, &lock)
	})
	if err == unix.EACCES { // what POSIX allows in place of EAGAIN
		err = unix.EAGAIN
	}
	return r.wrap(op, err)
}

// LockFile implements vfs.FileLocker by flock(2).
func (r *regular) LockFile(ctx context.Context, exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	return r.flock(ctx, "lock file", how)
}

// UnlockFile implements vfs.FileLocker.
func (r *regular) UnlockFile(ctx context.Context) error {
	return r.flock(ctx, "unlock file", unix.LOCK_UN)
}

func (r *regular) flock(ctx context.Context, op string, how int) error {
	if err := r.begin(ctx, op); err != nil {
		return err
	}
	defer r.release()
	if r.access == 0 {
		return r.wrap(op, syscall.EBADF)
	}
	_, err := retry(func() (int, error) { return 0, unix.Flock(r.fd, how|unix.LOCK_NB) })
	return r.wrap(op, err)
}

// leaseMonitor tells of leases that others break. The kernel says by SIGIO that
// some lease of the process is being broken, and each is asked whether it is the
// one: a signal that carries the descriptor would not pass through package
// os/signal.
type leaseMonitor struct {
	mu      sync.Mutex
	held    map[*regular]*lease // guarded by mu
	signals chan os.Signal      // guarded by mu; nil until there is a lease
	closed  bool                // guarded by mu

	quit, done chan struct{} // made with signals
}

type lease struct {
	kind   int // F_RDLCK or F_WRLCK
	broken func()
}

// Lease implements vfs.Leaser by F_SETLEASE.
func (r *regular) Lease(ctx context.Context, kind vfs.LeaseKind, broken func()) error {
	if err := r.begin(ctx, "lease"); err != nil {
		return err
	}
	defer r.release()
	typ := unix.F_WRLCK
	switch {
	case r.access == 0:
		return r.wrap("lease", syscall.EBADF)
	case kind == vfs.LeaseRead:
		typ = unix.F_RDLCK
	case kind != vfs.LeaseWrite:
		return r.wrap("lease", syscall.EINVAL)
	}
	return r.wrap("lease", r.fs.leases.take(r, typ, broken))
}

// Unlease implements vfs.Leaser.
func (r *regular) Unlease(ctx context.Context) error {
	if err := r.begin(ctx, "unlease"); err != nil {
		return err
	}
	defer r.release()
	if !r.fs.leases.drop(r) {
		return nil
	}
	_, err := unix.FcntlInt(uintptr(r.fd), unix.F_SETLEASE, unix.F_UNLCK)
	return r.wrap("unlease", err)
}

// take sets the lease. The lock is held meanwhile, so that a break that follows
// at once finds it.
func (m *leaseMonitor) take(r *regular, typ int, broken func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fs.ErrClosed
	}
	if m.signals == nil {
		m.start()
	}
	// The process, not the thread that happens to ask, which may end.
	if _, err := unix.FcntlInt(uintptr(r.fd), unix.F_SETOWN, os.Getpid()); err != nil {
		return fmt.Errorf("F_SETOWN: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(r.fd), unix.F_SETLEASE, typ); err != nil {
		return err
	}
	r.leased.Store(true)
	m.held[r] = &lease{kind: typ, broken: broken}
	return nil
}

// drop forgets a file's lease and reports whether there was one.
func (m *leaseMonitor) drop(r *regular) bool {
	if !r.leased.Swap(false) {
		return false // most files, which is why it is known without the lock
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, r)
	return true
}

// start begins to listen. close ends the goroutine and waits for it. m.mu is held.
func (m *leaseMonitor) start() {
	m.held = make(map[*regular]*lease)
	m.signals, m.quit, m.done = make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(m.signals, unix.SIGIO)
	go func(signals <-chan os.Signal) {
		defer close(m.done)
		for {
			select {
			case <-signals: // one may stand for several
				m.tell()
			case <-m.quit:
				return
			}
		}
	}(m.signals)
}

// tell calls those whose leases are being broken.
func (m *leaseMonitor) tell() {
	var broken []func()
	m.mu.Lock()
	for r, l := range m.held {
		if l.broken == nil || !r.acquire() {
			continue // told already, or being closed
		}
		now, err := unix.FcntlInt(uintptr(r.fd), unix.F_GETLEASE, 0)
		r.release()
		if err != nil || now != l.kind {
			broken = append(broken, l.broken)
			l.broken = nil
		}
	}
	m.mu.Unlock()
	for _, call := range broken {
		call()
	}
}

func (m *leaseMonitor) close() {
	m.mu.Lock()
	m.closed, m.held = true, nil
	signals := m.signals
	m.mu.Unlock()
	if signals != nil {
		signal.Stop(signals)
		close(m.quit)
		<-m.done
	}
}
