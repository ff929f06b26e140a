package vfs

import (
	"context"
	"strings"
	"unicode/utf8"
)

// StreamHolder is a File that can have alternate data streams: named contents
// beside its own ([MS-FSCC] 2.1.5). Names are those of [ValidStreamName],
// without the colon before and the type after. Case does not matter, whatever
// it does for the names of files, and is preserved; where another process has
// made names that differ by case only, the exact spelling wins.
//
// The methods need no access to the file's own data. A file that cannot have
// streams (a symbolic link, or any where the storage has no place for them)
// gives EOPNOTSUPP.
type StreamHolder interface {
	// OpenStream opens or creates the stream, as FS.Open does a file, and says
	// which; OpenResult.Name is the stream's name as it is spelled. Of o, Kind,
	// NoFollow, Perm and Attributes mean nothing. The File is independent of the
	// handle it was asked of, which may be closed, and of the names of both: it
	// survives renaming of the file and of the stream. Once the stream has been
	// removed or replaced, what reads or writes it gives ESTALE.
	//
	// The File's Stat describes the file with the stream's Size and Allocated, and
	// its SetAttr changes the file. WriteAt and Truncate are atomic with respect
	// to others of the same stream; what the storage has no room for gives ENOSPC
	// (or EFBIG beyond any room) and leaves the content as it was. Streams may be
	// small: 64 KiB is a common bound, and 4 KiB for all of a file's together.
	OpenStream(ctx context.Context, stream string, o OpenOptions) (File, OpenResult, error)

	// Streams lists the streams, in no order; the file's own data is not one.
	Streams(ctx context.Context) ([]StreamInfo, error)

	// RemoveStream removes the stream and its content; ENOENT without one.
	RemoveStream(ctx context.Context, stream string) error

	// RenameStream gives a stream another name in one step with respect to other
	// calls on this FS. With replace an existing newname is overwritten; without,
	// it gives EEXIST. A name that differs by case only is a new spelling.
	RenameStream(ctx context.Context, oldname, newname string, replace bool) error
}

// StreamInfo is a stream in a list. Size and Allocated are bytes.
type StreamInfo struct {
	Name            string
	Size, Allocated int64
}

// ValidStreamName reports whether name is one that methods of StreamHolder
// accept: not empty, UTF-8, and free of NUL, slash, backslash and colon, which
// have other meanings in the name of a file with its stream. Other names give
// EINVAL. Lengths are the storage's to check (ENAMETOOLONG).
func ValidStreamName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsAny(name, "\x00/\\:")
}
