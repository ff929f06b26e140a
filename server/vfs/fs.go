package vfs

import (
	"context"
	"io/fs"
)

// FS is one share's file system. All methods are safe for concurrent use.
//
// Stat and Open follow symbolic links, also the last component's (Open unless
// told otherwise); a link that leaves the share gives ErrOutside. The others
// follow links only before the last component.
type FS interface {
	// Open opens or creates the file or directory at name and says which. The
	// check for existence and the creation are one atomic step: of any number of
	// simultaneous calls with CreateNew, one succeeds.
	Open(ctx context.Context, name string, o OpenOptions) (File, OpenResult, error)

	// Stat describes what name leads to; Lstat the link itself where name is a
	// symbolic link.
	Stat(ctx context.Context, name string) (Info, error)
	Lstat(ctx context.Context, name string) (Info, error)

	// Mkdir creates a directory with the permission bits of perm, as far as the
	// backend's own policy lets them through. The name must be free.
	Mkdir(ctx context.Context, name string, perm fs.FileMode) error

	// Remove removes the name. KindDir removes only an empty directory (ENOTDIR
	// otherwise), KindFile only what is not a directory (EISDIR), KindAny either.
	// Open handles stay usable.
	Remove(ctx context.Context, name string, kind Kind) error

	// RemoveIf removes the name only while it names the object id, and fails with
	// ErrChanged otherwise. The comparison and the removal are one step with
	// respect to every other call on this FS; a backend whose storage others may
	// change says what window it leaves them.
	RemoveIf(ctx context.Context, name string, id FileID) error

	// Rename moves oldname to newname in one step. With replace an existing
	// newname is overwritten (a directory only by a directory and only if empty);
	// without, it gives EEXIST, also when created in the same moment. A new
	// spelling of oldname that differs only by case is a rename like any other.
	Rename(ctx context.Context, oldname, newname string, replace bool) error

	// Statfs describes the storage under the share.
	Statfs(ctx context.Context) (Statfs, error)

	// Close releases the share's resources and ends its watches. Files still open
	// stay usable until closed. Further calls give fs.ErrClosed; closing twice
	// does nothing.
	Close() error
}

// Linker is an FS that can make hard links.
type Linker interface {
	// Link makes newname another name of the file oldname. An existing newname
	// gives EEXIST. A directory gives EPERM. A symbolic link is itself linked.
	Link(ctx context.Context, oldname, newname string) error
}

// Mknoder is an FS in which FIFOs and sockets can be made. Devices, by which a local
// process would reach hardware, cannot.
type Mknoder interface {
	// Mknod makes name a FIFO (fs.ModeNamedPipe) or a socket (fs.ModeSocket) with the
	// permission bits of mode; any other type gives EINVAL. An existing name gives
	// EEXIST. Open gives ErrSpecial for what was made.
	Mknod(ctx context.Context, name string, mode fs.FileMode) error
}

// Symlinker is an FS that has symbolic links.
type Symlinker interface {
	// Readlink returns the target as stored; EINVAL if name is no link. The
	// target is other people's text: it may be absolute, leave the share, or not
	// be UTF-8.
	Readlink(ctx context.Context, name string) (string, error)

	// Symlink makes name a link to target. The target is stored as given, need
	// not exist, and may point anywhere; following it is what is checked.
	Symlink(ctx context.Context, target, name string) error
}

// Access says what a handle is for. Zero opens for metadata only: Stat, SetAttr
// and the like work; ReadAt and WriteAt give EBADF.
type Access uint8

const (
	// AccessRead allows ReadAt, and ReadDir on a directory.
	AccessRead Access = 1 << iota
	// AccessWrite allows WriteAt, Truncate and the Allocator. EISDIR for a directory.
	AccessWrite
)

// Disposition says what Open does about a name that exists, or does not.
type Disposition uint8

const (
	// OpenExisting opens what is there; ENOENT otherwise. It is the default.
	OpenExisting Disposition = iota
	// CreateNew creates; EEXIST if the name is taken, be it by a dangling link.
	CreateNew
	// OpenOrCreate opens what is there or creates it.
	OpenOrCreate
	// Overwrite opens a file and truncates it to nothing; ENOENT if there is none.
	Overwrite
	// OverwriteOrCreate truncates a file that is there or creates one.
	OverwriteOrCreate
)

// Kind narrows a call to files or directories.
type Kind uint8

const (
	// KindAny takes either; Open creates a regular file.
	KindAny Kind = iota
	// KindFile is anything that is no directory.
	KindFile
	// KindDir is a directory; Open creates one.
	KindDir
)

// OpenOptions is the intent of an Open.
type OpenOptions struct {
	Access      Access
	Disposition Disposition
	Kind        Kind

	// NoFollow opens a symbolic link itself where name is one, for metadata only
	// (ELOOP with any Access). The handle's Info.Mode has fs.ModeSymlink.
	NoFollow bool

	// WriteThrough makes every WriteAt durable before it returns.
	WriteThrough bool

	// Perm holds the permission bits of a file or directory that is created, as
	// far as the backend's policy lets them through. Zero means 0666 for files
	// and 0777 for directories.
	Perm fs.FileMode

	// Attributes is given to what is created or overwritten, as by SetAttr.
	// Failure to store them is not an error. Zero stores nothing on creation and
	// keeps the old ones on overwriting.
	Attributes Attributes
}

// Action is what Open did.
type Action uint8

const (
	// Opened means that the object existed and its content was left alone.
	Opened Action = iota + 1
	// Created means that this call made it.
	Created
	// Overwritten means that it existed and was truncated.
	Overwritten
)

// OpenResult says how Open succeeded.
type OpenResult struct {
	Action Action
	// Name is the name opened, with the spelling it has in its directories.
	// Symbolic links in it are kept. It goes stale when somebody renames.
	Name string
}
