package vfs

import (
	"context"
	"time"
)

// Credentials are a user as the operating system knows one.
type Credentials struct {
	UID, GID uint32
	// Groups are the supplementary groups; GID need not be among them.
	Groups []uint32
}

// Impersonator is an FS that can act with the rights of users.
type Impersonator interface {
	// As returns a view of the same storage whose calls have the rights of c: what
	// they look up, open, create, link, rename, remove and watch is what c may, and
	// what they create belongs to c. A File opened through the view keeps the
	// rights it was opened with; of its calls, those that read and change extended
	// attributes and streams, and SetAttr of mode and owner, have c's rights, and
	// the others (times and DOS attributes, the security record) the process's own,
	// the permission for them being the caller's to check.
	//
	// EPERM says that this process may not impersonate. A view is as cheap as a
	// pointer, needs no Close (its Close does nothing), and works as long as the FS
	// it was made of. c.Groups is copied.
	As(c Credentials) (FS, error)
}

// OwnerView is an FS without users of its own, in which what is created can belong to
// one all the same.
type OwnerView interface {
	// OwnedBy returns a view of the same storage in which what is created belongs to uid
	// and gid. It gives no rights and takes none. It is as cheap as a pointer, needs no
	// Close, and works as long as the FS it was made of.
	OwnedBy(uid, gid uint32) FS
}

// CaseView is an FS that looks names up without regard to case and can be made not
// to.
type CaseView interface {
	// CaseSensitive returns a view of the same storage in which names that differ by
	// case are different names. It is as cheap as a pointer, needs no Close, and works
	// as long as the FS it was made of.
	CaseSensitive() FS
}

// Base returns the FS that fsys is a view of, or fsys itself: what tells whether
// two names lie in one storage.
func Base(fsys FS) FS {
	if v, ok := fsys.(interface{ Base() FS }); ok {
		return v.Base()
	}
	return fsys
}

// Snapshotter is an FS of which earlier states can be seen ("previous
// versions").
type Snapshotter interface {
	// Snapshots lists when the states were taken, newest first, in whole seconds
	// of UTC.
	Snapshots(ctx context.Context) ([]time.Time, error)

	// At returns the state that was taken at t, which must be one of Snapshots
	// (ENOENT otherwise), as a read-only FS: every change gives EROFS. Through a
	// view (see Impersonator) it has the view's rights. It stays good until the FS
	// is closed and needs no Close. Base of it is not the FS's own.
	At(ctx context.Context, t time.Time) (FS, error)
}
