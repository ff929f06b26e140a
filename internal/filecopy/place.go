package filecopy

import (
	"context"
	"io/fs"
	"time"
)

// Entry is a file, a directory or a link in a Place.
type Entry struct {
	Name string      // the last element
	Size int64       // bytes; 0 for what is no file
	Disk int64       // bytes that it takes; fewer than Size says that it may have holes
	Mode fs.FileMode // its type, and permissions as far as there are such
	Mod  time.Time   // when its data was last written; zero if nobody knows
	ID   uint64      // a server's number of it; 0 if it has none
}

// Extent is a part of a file, in bytes.
type Extent struct{ Off, Len int64 }

// Place is a tree of files. Its methods may be called by many goroutines. Errors say
// what they are about.
type Place interface {
	// Path is how people spell a name below the place.
	Path(rel string) string
	// Stat describes what rel names, or with follow what it leads to if it is a link.
	Stat(ctx context.Context, rel string, follow bool) (Entry, error)
	// List calls fn with some entries of a directory at a time, in any order; never
	// with none, "." or "..", nor with a name that is no single element. With whole
	// it calls fn once it has closed the directory. Errors of fn end it, and are returned.
	List(ctx context.Context, rel string, whole bool, fn func([]Entry) error) error
	// Open opens a file to read it. A link is followed.
	Open(ctx context.Context, rel string) (Reader, error)
	// Create begins a file that is to be called rel, by the name temp in the same
	// directory. With keep it opens one of that name which may be there, and keeps
	// others from doing so; else there must be none. If temp is empty the file is
	// written under its own name.
	Create(ctx context.Context, rel, temp string, keep bool) (Writer, error)
	// Mkdir makes a directory and those above it; nil if it is there.
	Mkdir(ctx context.Context, rel string) error
	// Remove removes a file or link, or with tree a directory with all in it.
	Remove(ctx context.Context, rel string, tree bool) error
	// Chtimes sets the time of modification.
	Chtimes(ctx context.Context, rel string, mod time.Time) error
	// Readlink says what a link leads to.
	Readlink(ctx context.Context, rel string) (string, error)
	// Symlink makes a link, in place of a file or link of that name.
	Symlink(ctx context.Context, target, rel string) error
	// Check says why a name can't be one here.
	Check(rel string) error
	// FoldsCase reports whether names that differ only in case are one. It may make
	// and remove a file in the place to find out.
	FoldsCase(ctx context.Context) (bool, error)
	// Lost is the reason why nothing works any more here, nil as a rule.
	Lost() error
	// Close gives back what the place holds. What it was made of stays open.
	Close() error
}

// Reader is a file that is read.
type Reader interface {
	// ReadAt is io.ReaderAt's, with a context.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// NextData is the first data at or after off and before end, which is the size of
	// the file; an Extent of no length says that the rest is a hole. Extents are merged
	// as far as is cheap.
	NextData(ctx context.Context, off, end int64) (Extent, error)
	Stat(ctx context.Context) (Entry, error)
	Close() error
}

// Writer is a file that is written.
type Writer interface {
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// Size is the size in bytes.
	Size(ctx context.Context) (int64, error)
	Truncate(ctx context.Context, size int64) error
	// SetSparse says that what is not written should take no room.
	SetSparse(ctx context.Context) error
	// Sync returns when what has been written is on stable storage.
	Sync(ctx context.Context) error
	// InOrder says that this is a pipe or a device: it is written from start to end, has
	// no size, and can't be read.
	InOrder() bool
	// CopiesFrom reports whether CopyFrom is worth a try.
	CopiesFrom(src Reader) bool
	// CopyFrom copies n bytes without moving them through this process. The error
	// matches errors.ErrUnsupported if that can't be.
	CopyFrom(ctx context.Context, off int64, src Reader, srcOff, n int64) (int64, error)
	// Commit sets the time unless that is zero, gives the file its name and closes it.
	Commit(ctx context.Context, mod time.Time) error
	// Abort closes the file, and removes it unless keep. After Commit it does nothing.
	Abort(ctx context.Context, keep bool)
}

// batch is how many entries a List hands over at a time, at most.
const batch = 512
