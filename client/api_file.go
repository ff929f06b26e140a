package client

import (
	"context"
	"io"
	"io/fs"
	"time"
)

// Attributes are file attributes, [MS-FSCC] 2.6.
type Attributes uint32

const (
	AttrReadOnly     Attributes = 0x00000001
	AttrHidden       Attributes = 0x00000002
	AttrSystem       Attributes = 0x00000004
	AttrDirectory    Attributes = 0x00000010
	AttrArchive      Attributes = 0x00000020
	AttrNormal       Attributes = 0x00000080
	AttrTemporary    Attributes = 0x00000100
	AttrSparse       Attributes = 0x00000200
	AttrReparsePoint Attributes = 0x00000400
	AttrCompressed   Attributes = 0x00000800
	AttrOffline      Attributes = 0x00001000
	AttrNotIndexed   Attributes = 0x00002000
	AttrEncrypted    Attributes = 0x00004000
)

// Access is an access mask, [MS-SMB2] 2.2.13.1.
type Access uint32

const (
	AccessReadData        Access = 0x00000001 // or list a directory
	AccessWriteData       Access = 0x00000002 // or add a file
	AccessAppendData      Access = 0x00000004 // or add a directory
	AccessReadEA          Access = 0x00000008
	AccessWriteEA         Access = 0x00000010
	AccessExecute         Access = 0x00000020 // or traverse
	AccessDeleteChild     Access = 0x00000040
	AccessReadAttributes  Access = 0x00000080
	AccessWriteAttributes Access = 0x00000100
	AccessDelete          Access = 0x00010000
	AccessReadControl     Access = 0x00020000
	AccessWriteDAC        Access = 0x00040000
	AccessWriteOwner      Access = 0x00080000
	AccessSynchronize     Access = 0x00100000
	AccessMaximumAllowed  Access = 0x02000000
	AccessGenericAll      Access = 0x10000000
	AccessGenericExecute  Access = 0x20000000
	AccessGenericWrite    Access = 0x40000000
	AccessGenericRead     Access = 0x80000000
)

// ShareAccess is what other opens of the file may do meanwhile.
type ShareAccess uint32

const (
	ShareRead   ShareAccess = 1
	ShareWrite  ShareAccess = 2
	ShareDelete ShareAccess = 4
)

// Disposition says what to do if the file is there, and if not ([MS-SMB2] 2.2.13).
type Disposition uint32

const (
	Supersede   Disposition = 0 // replace, else create
	OpenExists  Disposition = 1 // open, else fail
	CreateNew   Disposition = 2 // fail, else create
	OpenIf      Disposition = 3 // open, else create
	Overwrite   Disposition = 4 // truncate, else fail
	OverwriteIf Disposition = 5 // truncate, else create
)

// Option is a CreateOptions flag of [MS-SMB2] 2.2.13.
type Option uint32

const (
	OptDirectory        Option = 0x00000001
	OptWriteThrough     Option = 0x00000002
	OptSequentialOnly   Option = 0x00000004
	OptNonDirectory     Option = 0x00000040
	OptRandomAccess     Option = 0x00000800
	OptDeleteOnClose    Option = 0x00001000
	OptOpenReparsePoint Option = 0x00200000
)

// CreateOptions are the fields of a CREATE request. The zero value opens an
// existing file to read its data and attributes, sharing everything.
type CreateOptions struct {
	Access     Access // 0 means AccessGenericRead
	Attributes Attributes
	// Share is what is shared; 0 means all three, NoSharing nothing.
	Share       ShareAccess
	NoSharing   bool
	Disposition Disposition // the zero value is taken for OpenExists unless Supersede is set
	Supersede   bool
	Options     Option
}

// CreateAction says what CREATE did, [MS-SMB2] 2.2.14.
type CreateAction uint32

const (
	ActionSuperseded  CreateAction = 0
	ActionOpened      CreateAction = 1
	ActionCreated     CreateAction = 2
	ActionOverwritten CreateAction = 3
)

// File is an open file or directory. It implements io.ReaderAt, io.WriterAt,
// io.Reader, io.Writer, io.Seeker, io.ReaderFrom, io.WriterTo, io.Closer and
// fs.ReadDirFile.
type File struct{}

// Name is the name as given to the opening call.
func (f *File) Name() string { return "" }

// Share is the share that the file is on.
func (f *File) Share() *Share { return nil }

// CreateAction says what opening did.
func (f *File) CreateAction() CreateAction { return 0 }

// ReadAt implements io.ReaderAt: fewer bytes than len(p) come with an error, at the end
// of the file with io.EOF.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return 0, errNotYet }

// ReadAtContext is ReadAt with a context.
func (f *File) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	return 0, errNotYet
}

// WriteAt implements io.WriterAt.
func (f *File) WriteAt(p []byte, off int64) (int, error) { return 0, errNotYet }

// WriteAtContext is WriteAt with a context.
func (f *File) WriteAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	return 0, errNotYet
}

// Read reads at the file position.
func (f *File) Read(p []byte) (int, error) { return 0, errNotYet }

// Write writes at the file position, or at the end of a file opened with O_APPEND.
func (f *File) Write(p []byte) (int, error) { return 0, errNotYet }

// Seek sets the file position.
func (f *File) Seek(offset int64, whence int) (int64, error) { return 0, errNotYet }

// ReadFrom writes all of r at the file position, keeping writes in flight.
func (f *File) ReadFrom(r io.Reader) (int64, error) { return 0, errNotYet }

// WriteTo reads from the file position to the end into w, reading ahead.
func (f *File) WriteTo(w io.Writer) (int64, error) { return 0, errNotYet }

// Stat implements fs.File; the result is a *FileInfo.
func (f *File) Stat() (fs.FileInfo, error) { return nil, errNotYet }

// StatContext describes the file.
func (f *File) StatContext(ctx context.Context) (*FileInfo, error) { return nil, errNotYet }

// Sync asks the server to have the file on stable storage (FLUSH).
func (f *File) Sync(ctx context.Context) error { return errNotYet }

// Truncate sets the size in bytes.
func (f *File) Truncate(ctx context.Context, size int64) error { return errNotYet }

// Chtimes sets access and modification time; a zero time is left as it is.
func (f *File) Chtimes(ctx context.Context, atime, mtime time.Time) error { return errNotYet }

// SetAttributes sets the file attributes that may be set; 0 means AttrNormal.
func (f *File) SetAttributes(ctx context.Context, a Attributes) error { return errNotYet }

// Rename is Share.Rename for an open file; it was opened with AccessDelete.
func (f *File) Rename(ctx context.Context, newName string, replace bool) error { return errNotYet }

// LockOptions say how a byte range is locked.
type LockOptions struct {
	Shared bool // else exclusive
	Wait   bool // until it is free, else fail at once with syscall.EAGAIN
}

// Lock locks length bytes from off, [MS-SMB2] 2.2.26.
func (f *File) Lock(ctx context.Context, off, length uint64, o LockOptions) error { return errNotYet }

// Unlock unlocks a range exactly as it was locked.
func (f *File) Unlock(ctx context.Context, off, length uint64) error { return errNotYet }

// CopyRange copies n bytes from srcOff of src to off of this file, on the server;
// both on one session. An error that matches errors.ErrUnsupported says that this
// server can't.
func (f *File) CopyRange(ctx context.Context, off int64, src *File, srcOff, n int64) (int64, error) {
	return 0, errNotYet
}

// ReadDir implements fs.ReadDirFile: up to n entries from the directory position, in
// the server's order without "." and "..", and io.EOF at the end; all for n <= 0.
func (f *File) ReadDir(n int) ([]fs.DirEntry, error) { return nil, errNotYet }

// ReadDirContext is ReadDir with a context.
func (f *File) ReadDirContext(ctx context.Context, n int) ([]fs.DirEntry, error) {
	return nil, errNotYet
}

// Close closes the file; a second call fails with fs.ErrClosed.
func (f *File) Close() error { return errNotYet }

// FileInfo describes a file. It implements fs.FileInfo and fs.DirEntry.
type FileInfo struct{}

func (fi *FileInfo) Name() string               { return "" }
func (fi *FileInfo) Size() int64                { return 0 }
func (fi *FileInfo) Mode() fs.FileMode          { return 0 }
func (fi *FileInfo) Type() fs.FileMode          { return 0 }
func (fi *FileInfo) IsDir() bool                { return false }
func (fi *FileInfo) Info() (fs.FileInfo, error) { return fi, nil }
func (fi *FileInfo) Sys() any                   { return fi }
func (fi *FileInfo) ModTime() time.Time         { return time.Time{} }
func (fi *FileInfo) AccessTime() time.Time      { return time.Time{} }
func (fi *FileInfo) ChangeTime() time.Time      { return time.Time{} }
func (fi *FileInfo) BirthTime() time.Time       { return time.Time{} }
func (fi *FileInfo) Attributes() Attributes     { return 0 }
func (fi *FileInfo) AllocationSize() int64      { return 0 }
func (fi *FileInfo) ReparseTag() uint32         { return 0 }

// FileID is the server's number of the file, 0 if it has none.
func (fi *FileInfo) FileID() uint64 { return 0 }

// Links is the number of hard links, 0 if not known (in listings).
func (fi *FileInfo) Links() uint32 { return 0 }
