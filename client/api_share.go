package client

import (
	"context"
	"io/fs"
	"time"
)

// Share is a connected share.
type Share struct{}

// Name is the name of the share as given to Mount.
func (sh *Share) Name() string { return "" }

// Session is the session that the share belongs to.
func (sh *Share) Session() *Session { return nil }

// Encrypted says whether requests to this share are encrypted.
func (sh *Share) Encrypted() bool { return false }

// RDMAStatus is that of the session, with the share's own encryption considered.
func (sh *Share) RDMAStatus() (used bool, why string) { return false, "" }

// Unmount disconnects the share; the server closes its files.
func (sh *Share) Unmount(ctx context.Context) error { return errNotYet }

// Open opens an existing file or directory for reading.
func (sh *Share) Open(ctx context.Context, name string) (*File, error) { return nil, errNotYet }

// Create creates a file, or truncates it if it exists, for reading and writing.
func (sh *Share) Create(ctx context.Context, name string) (*File, error) { return nil, errNotYet }

// OpenFile opens with the flags of package os: one of O_RDONLY, O_WRONLY and
// O_RDWR, with O_CREATE, O_EXCL, O_TRUNC, O_APPEND and O_SYNC. Of perm only the
// owner's write bit has a meaning: without it a new file gets the read-only attribute.
func (sh *Share) OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	return nil, errNotYet
}

// CreateFile opens or creates as o says: the CREATE request of [MS-SMB2] 2.2.13.
func (sh *Share) CreateFile(ctx context.Context, name string, o CreateOptions) (*File, error) {
	return nil, errNotYet
}

// Stat describes the named file, following symbolic links as far as the server does.
func (sh *Share) Stat(ctx context.Context, name string) (*FileInfo, error) { return nil, errNotYet }

// Lstat is Stat, but describes a reparse point (symbolic link) itself.
func (sh *Share) Lstat(ctx context.Context, name string) (*FileInfo, error) { return nil, errNotYet }

// ReadDir lists a directory, sorted by name. The entries are *FileInfo.
func (sh *Share) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	return nil, errNotYet
}

// ReadFile reads a whole file.
func (sh *Share) ReadFile(ctx context.Context, name string) ([]byte, error) { return nil, errNotYet }

// WriteFile writes a whole file, creating or truncating it.
func (sh *Share) WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	return errNotYet
}

// Mkdir creates a directory; fs.ErrExist if the name is taken.
func (sh *Share) Mkdir(ctx context.Context, name string) error { return errNotYet }

// MkdirAll creates a directory and those above it; nil if it is there already.
func (sh *Share) MkdirAll(ctx context.Context, name string) error { return errNotYet }

// Remove removes a file or an empty directory.
func (sh *Share) Remove(ctx context.Context, name string) error { return errNotYet }

// RemoveAll removes a file, or a directory with all in it; nil if there is none.
// Symbolic links are removed, not followed.
func (sh *Share) RemoveAll(ctx context.Context, name string) error { return errNotYet }

// Rename moves a file or directory within the share. If newName exists it is
// replaced if replace is set (a directory never is), else the error is fs.ErrExist.
func (sh *Share) Rename(ctx context.Context, oldName, newName string, replace bool) error {
	return errNotYet
}

// Link makes newName a hard link to oldName.
func (sh *Share) Link(ctx context.Context, oldName, newName string) error { return errNotYet }

// Truncate sets the size of a file in bytes.
func (sh *Share) Truncate(ctx context.Context, name string, size int64) error { return errNotYet }

// Chtimes sets access and modification time, to 100 ns; a zero time is left as it is.
func (sh *Share) Chtimes(ctx context.Context, name string, atime, mtime time.Time) error {
	return errNotYet
}

// SetAttributes sets the file attributes that may be set; 0 means AttrNormal.
func (sh *Share) SetAttributes(ctx context.Context, name string, a Attributes) error {
	return errNotYet
}

// StatFS describes the file system below a share.
type StatFS struct {
	BlockSize   int64 // bytes in an allocation unit
	TotalBlocks uint64
	// FreeBlocks are all that are free, AvailableBlocks those that the user may use.
	FreeBlocks, AvailableBlocks uint64
	MaxNameLen                  int    // characters in one element of a name
	FSType                      string // as "NTFS"
	Label                       string
	VolumeSerial                uint32
	FSAttributes                uint32 // [MS-FSCC] 2.5.1
}

// StatFS describes the file system below the share.
func (sh *Share) StatFS(ctx context.Context) (*StatFS, error) { return nil, errNotYet }

// WalkDir walks the tree at root as filepath.WalkDir does, in lexical order. The
// paths have forward slashes. A symbolic link is not followed.
func (sh *Share) WalkDir(ctx context.Context, root string, fn fs.WalkDirFunc) error {
	return errNotYet
}

// CopyFile copies src to dst within the share, on the server where it can
// (FSCTL_SRV_COPYCHUNK), else through this client; dst is created or truncated.
func (sh *Share) CopyFile(ctx context.Context, src, dst string) (int64, error) { return 0, errNotYet }

// FS is the share as fs.FS, rooted at its root; it is also fs.StatFS, fs.ReadDirFS
// and fs.ReadFileFS. Its operations use ctx.
func (sh *Share) FS(ctx context.Context) fs.FS { return nil }

// Watch opens a directory to be told of changes in it.
func (sh *Share) Watch(ctx context.Context, dir string, o WatchOptions) (*Watcher, error) {
	return nil, errNotYet
}

// WatchOptions say what a Watcher is told of.
type WatchOptions struct {
	// Filter is what changes count; 0 means names, sizes, writes and attributes.
	Filter    WatchFilter
	Recursive bool // the whole tree below, not the directory alone
	// BufferSize is how many bytes of changes the server keeps between two calls
	// of Next, 0 means 65536, which is also the most.
	BufferSize int
}

// WatchFilter is a CompletionFilter, [MS-SMB2] 2.2.35.
type WatchFilter uint32

const (
	WatchFileName   WatchFilter = 0x001
	WatchDirName    WatchFilter = 0x002
	WatchAttributes WatchFilter = 0x004
	WatchSize       WatchFilter = 0x008
	WatchLastWrite  WatchFilter = 0x010
	WatchLastAccess WatchFilter = 0x020
	WatchCreation   WatchFilter = 0x040
	WatchEA         WatchFilter = 0x080
	WatchSecurity   WatchFilter = 0x100
	WatchStreamName WatchFilter = 0x200
	WatchStreamSize WatchFilter = 0x400
	WatchStreamData WatchFilter = 0x800
)

// Action is what happened to a name, [MS-FSCC] 2.7.1.
type Action uint32

const (
	ActionAdded      Action = 1
	ActionRemoved    Action = 2
	ActionModified   Action = 3
	ActionRenamedOld Action = 4
	ActionRenamedNew Action = 5
)

// Change is one change. Name is relative to the watched directory, with forward slashes.
type Change struct {
	Action Action
	Name   string
}

// Watcher is a watched directory.
type Watcher struct{}

// Next waits for changes. An empty result without an error says that there were
// more changes than the server kept: look at the directory again. When ctx ends,
// the changes to come stay with the server for the next call.
func (w *Watcher) Next(ctx context.Context) ([]Change, error) { return nil, errNotYet }

// Close ends the watch; a Next under way fails with ErrClosed.
func (w *Watcher) Close() error { return errNotYet }
