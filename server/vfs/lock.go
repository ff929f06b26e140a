package vfs

import "context"

// LeaseKind says what a Leaser's lease is to be told of.
type LeaseKind uint8

const (
	// LeaseRead ends when somebody else opens the file for writing or truncates
	// it. The handle must be for reading only, and nobody may have the file open
	// for writing.
	LeaseRead LeaseKind = iota + 1
	// LeaseWrite ends when somebody else opens the file at all. Nobody else may
	// have it open for reading or writing.
	LeaseWrite
)

// Leaser is a File whose leases other users of the storage respect: local
// processes, and every other handle of this FS (F_SETLEASE in fcntl(2)). While
// a lease is being broken, another handle's Open of the file fails with EAGAIN,
// which is an invitation to break what the lease stands for and try again; a
// local process waits, up to /proc/sys/fs/lease-break-time.
type Leaser interface {
	// Lease takes the lease, or makes of the one held another kind. EAGAIN says
	// that others have the file open in a way that forbids it, EACCES or EPERM
	// that this process may not lease it. When somebody wants the file, broken is
	// called, once for each Lease, from a goroutine that it must not hold up; it
	// may call methods of the File. The lease is to be given up by Unlease, by
	// making a LeaseRead of a LeaseWrite, or by Close soon after.
	Lease(ctx context.Context, kind LeaseKind, broken func()) error
	// Unlease gives the lease up, if there is one. A broken that was about to be
	// called may still be called.
	Unlease(ctx context.Context) error
}

// RangeLocker is a File whose byte-range locks others who use the storage see:
// local processes (F_SETLK in fcntl(2)), and every other handle. They belong to
// the handle and end with it. They have POSIX semantics: they are advisory,
// ranges of one handle merge and split, a lock replaces what the handle had in
// its range, and unlocking what is not locked does nothing.
type RangeLocker interface {
	// LockRange locks without waiting; EAGAIN if somebody else has a lock in the
	// way. exclusive needs AccessWrite, else AccessRead is needed (EBADF). off must
	// not be negative and length above 0; a range may end beyond the file, up to
	// 2^63-1.
	LockRange(ctx context.Context, off, length int64, exclusive bool) error
	// UnlockRange ends the locks of this handle in the range.
	UnlockRange(ctx context.Context, off, length int64) error
}

// FileLocker is a File that can be locked as a whole among those who use
// flock(2), which knows nothing of byte-range locks.
type FileLocker interface {
	// LockFile locks without waiting, or makes of the lock held another kind;
	// EAGAIN if somebody else's lock is in the way. It needs data access (EBADF).
	LockFile(ctx context.Context, exclusive bool) error
	// UnlockFile ends the lock, if there is one.
	UnlockFile(ctx context.Context) error
}
