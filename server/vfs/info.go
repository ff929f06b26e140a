package vfs

import (
	"io/fs"
	"time"
)

// FileID identifies an object for as long as it exists, and for as long as a
// handle on it is open. Ino alone is unique on one storage device only.
type FileID struct {
	Dev, Ino uint64
}

// Info describes a file, directory, link or special file.
type Info struct {
	// Mode has the type bits of io/fs and the permission bits.
	Mode fs.FileMode
	// Size is the length in bytes; 0 for a directory, the target's length for a link.
	Size int64
	// Allocated is the storage that the content takes, in bytes; less than Size
	// for a sparse file. What metadata takes beside it is not counted.
	Allocated int64
	// ID tells the object from others.
	ID FileID
	// Nlink is the number of names.
	Nlink uint32
	// UID and GID own the object.
	UID, GID uint32
	// BirthTime is when the object was created, or what SetAttr made of it; the
	// earliest of the other times where the storage does not know.
	BirthTime  time.Time
	AccessTime time.Time
	WriteTime  time.Time
	// ChangeTime is when the metadata last changed. It cannot be set.
	ChangeTime time.Time
	// Attributes are the DOS attributes stored with the object, AttrSparse and
	// AttrCompressed.
	Attributes Attributes
}

// IsDir reports whether the object is a directory.
func (i *Info) IsDir() bool { return i.Mode.IsDir() }

// Attributes are the DOS attributes that a user may set. The values are those
// of [MS-FSCC] 2.6; attributes that follow from the object itself (directory,
// normal, reparse point) are not among them and are masked away.
type Attributes uint32

const (
	AttrReadOnly          Attributes = 0x0001
	AttrHidden            Attributes = 0x0002
	AttrSystem            Attributes = 0x0004
	AttrArchive           Attributes = 0x0020
	AttrTemporary         Attributes = 0x0100
	AttrOffline           Attributes = 0x1000
	AttrNotContentIndexed Attributes = 0x2000

	// AttrSparse says that the file may have holes. It is set by SetSparse alone:
	// setting the others neither sets nor clears it.
	AttrSparse Attributes = 0x0200

	// AttrCompressed says that the content, or what is created in the directory, is to
	// be compressed where the storage can. It is set by SetCompressed alone.
	AttrCompressed Attributes = 0x0800

	// AttrMask is all that SetAttributes changes.
	AttrMask = AttrReadOnly | AttrHidden | AttrSystem | AttrArchive | AttrTemporary |
		AttrOffline | AttrNotContentIndexed
)

// SetMask says which fields of a SetAttr count.
type SetMask uint16

const (
	SetMode SetMask = 1 << iota
	SetOwner
	SetAccessTime
	SetWriteTime
	SetBirthTime
	SetAttributes
	SetSparse
	SetCompressed
)

// SetAttr is a change of metadata. Fields whose bit is missing from Set are
// ignored.
type SetAttr struct {
	Set SetMask
	// Mode gives the permission bits, setuid, setgid and sticky; type bits are ignored.
	Mode fs.FileMode
	// UID and GID are the new owner.
	UID, GID uint32
	// Times are stored as finely as the storage can. A zero Time is an error.
	AccessTime, WriteTime, BirthTime time.Time
	// Attributes replace the old ones as a whole, but for AttrSparse and
	// AttrCompressed.
	Attributes Attributes
	// Sparse says whether the file is to have AttrSparse. It moves no data.
	Sparse bool
	// Compressed says likewise whether it is to have AttrCompressed. A directory's is
	// not inherited here: that is the caller's to do.
	Compressed bool
	// Privileged makes the change with the rights of the process where the file
	// was opened through a view of an Impersonator; Mode and owner are otherwise
	// changed with the view's.
	Privileged bool
}

// Cursor is a place between two entries of a directory. Only CursorStart means
// anything to a caller.
type Cursor int64

// CursorStart is the place before the first entry.
const CursorStart Cursor = 0

// DirEntry is what a listing knows without looking at the object.
type DirEntry struct {
	// Name is a single component.
	Name string
	// Type has the type bits of io/fs only; fs.ModeIrregular where the directory
	// does not tell.
	Type fs.FileMode
	// Cursor is the place after this entry.
	Cursor Cursor
}

// Statfs describes a file system and its storage. Free is what exists, Avail
// what this process may use; both in units of BlockSize bytes, as is Total.
type Statfs struct {
	BlockSize          uint32
	Total, Free, Avail uint64
	// Files and FilesFree count objects; 0 where there is no limit.
	Files, FilesFree uint64
	// NameMax is the longest component, in bytes of UTF-8.
	NameMax uint32
	// Type is the storage's kind as the operating system numbers it, TypeName in
	// words ("ext4"); ID tells one storage from another.
	Type     uint64
	TypeName string
	ID       uint64

	ReadOnly      bool
	CaseSensitive bool
	// Clones says that storage can be shared between files: CloneRange may work.
	Clones bool
	// Sparse, Xattrs, Streams and Attributes say that holes, extended attributes,
	// alternate streams and DOS attributes are kept.
	Sparse, Xattrs, Streams, Attributes bool
}
