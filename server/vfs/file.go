package vfs

import (
	"context"
	"io"
	"os"
)

// File is an open file, directory or symbolic link. It refers to the object,
// not to the name: it survives renaming and removal of every name.
//
// All methods are safe for concurrent use. Transfers that overlap in the file
// have no order, and none is atomic with respect to another.
type File interface {
	// ReadAt reads as io.ReaderAt does: less than len(p) comes with an error,
	// io.EOF at the end of the file. A hole reads as zeros. It does not allocate.
	io.ReaderAt

	// WriteAt writes as io.WriterAt does, extending the file as needed; the gap
	// up to off reads as zeros. It does not allocate. It does not retain p.
	io.WriterAt

	// Truncate makes the file size bytes long, cutting it or adding zeros.
	Truncate(ctx context.Context, size int64) error

	// Sync makes content and metadata durable.
	Sync(ctx context.Context) error

	// Stat describes the open object, whatever its name has become.
	Stat(ctx context.Context) (Info, error)

	// SetAttr changes the metadata that a.Set names, in one call but not in one
	// step: after an error some of it may have been changed. What the backend has
	// no place for is ignored.
	SetAttr(ctx context.Context, a SetAttr) error

	// Close releases the handle. Closing twice gives fs.ErrClosed.
	Close() error
}

// Dir is a File that is a directory opened with AccessRead.
type Dir interface {
	File

	// ReadDir fills dst with entries that follow cursor, in the directory's own
	// order, and returns how many. 0 and io.EOF say that none follow; no entries
	// come with any error. "." and ".." are not among them, nor are names that
	// ValidName would refuse.
	//
	// A cursor is CursorStart or the Cursor of an entry this handle returned, and
	// stays good while the handle is open, so that a reader may go back to any
	// entry. An entry that is there throughout is returned exactly once from the
	// start to the end; one that comes, goes or is renamed meanwhile may be
	// returned or not.
	//
	// Calls on one handle are carried out one after another.
	ReadDir(ctx context.Context, cursor Cursor, dst []DirEntry) (int, error)

	// Lstat describes the entry with that single-component name, links not
	// followed. It costs no resolution of the path: listings use it on the
	// entries they want to know more about.
	Lstat(ctx context.Context, name string) (Info, error)
}

// RealNamer is a File that knows the name it has without symbolic links on the way.
type RealNamer interface {
	// RealName returns the name beneath the root of the FS by which the object is
	// there now; one of them if it has several. An object without a name there gives
	// an error or a name that nothing has.
	RealName(ctx context.Context) (string, error)
}

// OSFiler is a File backed by a descriptor of the operating system.
type OSFiler interface {
	// OSFile returns the file for use by sendfile(2) and the like, the same one
	// each time, or nil if the handle has none that can move data. The File keeps
	// owning it: do not Close it, do not move its offset, and do not use it once
	// the File is closed.
	OSFile() *os.File
}

// CachedReader is a File that knows what can be read without waiting for the storage.
type CachedReader interface {
	// ReadCached is ReadAt for what is in memory: it reads as much from off on as is,
	// and says ErrNotCached if that is less than p, and io.EOF if the file ends before.
	// It does not fail for other reasons: ReadAt, which is due then, tells them.
	ReadCached(p []byte, off int64) (n int, err error)
}

// Allocator is a File whose storage can be reserved and returned. Offsets and
// lengths are bytes; off+length must not exceed 2^63-1, length must be above 0.
type Allocator interface {
	// Allocate reserves storage for the range, so that writes to it do not run out
	// of space. The size grows to cover it unless keepSize is set.
	Allocate(ctx context.Context, off, length int64, keepSize bool) error
	// PunchHole makes the range read as zeros and gives its storage back. The size
	// stays.
	PunchHole(ctx context.Context, off, length int64) error
	// ZeroRange makes the range read as zeros and may keep its storage. The size
	// stays.
	ZeroRange(ctx context.Context, off, length int64) error
}

// HoleSeeker is a File that knows where it holds data.
type HoleSeeker interface {
	// SeekData returns the first offset at or after off that is in a data range;
	// ENXIO if there is none before the end of the file. It moves no position.
	SeekData(ctx context.Context, off int64) (int64, error)
	// SeekHole returns the first offset at or after off that is in a hole, the end
	// of the file counting as one; ENXIO at or after the end.
	SeekHole(ctx context.Context, off int64) (int64, error)
}

// Cloner is a File that can share storage with another of the same FS.
type Cloner interface {
	// CloneRange makes length bytes at dstOff of this file share the storage of
	// those at srcOff of src, copy on write. EOPNOTSUPP where the storage cannot,
	// EINVAL for a range that is not aligned as it needs.
	CloneRange(ctx context.Context, dstOff int64, src File, srcOff, length int64) error
}

// RangeCopier is a File into which another of the same FS can be copied without
// passing through this process.
type RangeCopier interface {
	// CopyRange copies length bytes from srcOff of src to dstOff of this file and
	// returns how many it copied: fewer only with an error or at the end of src
	// (then io.EOF). Overlapping ranges in one file give EINVAL.
	CopyRange(ctx context.Context, dstOff int64, src File, srcOff, length int64) (int64, error)
}

// Xattrer is a File with extended attributes. Names are the users' own, without
// a namespace prefix of the operating system; attributes that the backend keeps
// for itself are not among them, and their names give EINVAL. A missing attribute
// gives ENODATA.
type Xattrer interface {
	// Xattr returns the value of the attribute.
	Xattr(ctx context.Context, name string) ([]byte, error)
	// SetXattr creates or replaces the attribute.
	SetXattr(ctx context.Context, name string, value []byte) error
	// RemoveXattr removes the attribute.
	RemoveXattr(ctx context.Context, name string) error
	// ListXattr returns the names of all attributes, in no order.
	ListXattr(ctx context.Context) ([]string, error)
}

// XattrPeeker is a Dir that can tell which of its entries have attributes of an
// Xattrer, links not followed, without opening them.
type XattrPeeker interface {
	// HasXattrs reports whether the entry with that single-component name has any.
	// info is what Lstat has said of it, as it was. Being wrong costs the caller time
	// only.
	HasXattrs(ctx context.Context, name string, info *Info) (bool, error)
}

// SecurityHolder is a File that keeps a security descriptor. What is in the
// record is not looked at; it belongs to the object, survives renaming, and is
// read and written with the process's own rights.
type SecurityHolder interface {
	// SecurityRecord returns the record; ENODATA without one, EOPNOTSUPP where the
	// storage has no place for it.
	SecurityRecord(ctx context.Context) ([]byte, error)
	// SetSecurityRecord replaces the record; nil removes it, also where there is
	// none. A record may have up to 64 KiB (E2BIG); the storage may take less
	// (ENOSPC), and keeps the old one then.
	SetSecurityRecord(ctx context.Context, record []byte) error
}

// ACLHolder is a File that may have access control lists of the operating system.
type ACLHolder interface {
	// POSIXACL returns the values of the extended attributes
	// system.posix_acl_access and system.posix_acl_default, as Linux has them; nil
	// for one that is not there.
	POSIXACL(ctx context.Context) (access, def []byte, err error)
	// SetPOSIXACL replaces the value of system.posix_acl_access, with the rights of
	// the process, by which the permission bits follow it; nil removes it, also where
	// there is none. EOPNOTSUPP says that the storage has no place for it.
	SetPOSIXACL(ctx context.Context, access []byte) error
}
