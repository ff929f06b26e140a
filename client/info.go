package client

import (
	"io/fs"
	"path"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// Attributes are file attributes, [MS-FSCC] 2.6.
type Attributes uint32

// The attributes.
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

// FileInfo describes a file. It implements fs.FileInfo and fs.DirEntry, and does
// not change.
type FileInfo struct {
	name                        string
	size, alloc                 int64
	attr                        Attributes
	access, write, change, born smb2.Filetime
	id                          uint64
	links                       uint32
	tag                         smb2.ReparseTag
	kind                        fs.FileMode // of a reparse point that stands for something
	posix                       posixInfo   // zero without the POSIX extensions
}

// Name is the last element of the name that the file was found by.
func (fi *FileInfo) Name() string { return fi.name }

// Size is the size in bytes.
func (fi *FileInfo) Size() int64 { return fi.size }

// Mode gives the type: directory, symbolic link, FIFO, socket or device by the reparse
// tag (in listings irregular for those of Services for NFS, of which Lstat and
// Share.Special know more), irregular for mount points, else regular. The permissions say only whether there is a read-only
// attribute, as SMB has no others: 0444 or 0666, with 0111 for directories. With the
// POSIX extensions they are those of the server.
func (fi *FileInfo) Mode() fs.FileMode {
	m := fs.FileMode(0o666)
	if fi.attr&AttrReadOnly != 0 && fi.attr&AttrDirectory == 0 { // on a directory it means something else
		m = 0o444
	}
	if fi.posix.is {
		m = goMode(fi.posix.mode)
		if fi.kind == 0 && fi.attr&AttrDirectory != 0 {
			return fs.ModeDir | m
		}
		return fi.kind | m
	}
	switch {
	case fi.kind == fs.ModeSymlink:
		return fs.ModeSymlink | 0o777
	case fi.kind == fs.ModeIrregular:
		return fs.ModeIrregular | m | 0o111
	case fi.kind != 0:
		return fi.kind | m
	case fi.attr&AttrDirectory != 0:
		return fs.ModeDir | m | 0o111
	}
	return m
}

// Type implements fs.DirEntry.
func (fi *FileInfo) Type() fs.FileMode { return fi.Mode().Type() }

// IsDir implements fs.FileInfo.
func (fi *FileInfo) IsDir() bool { return fi.Mode().IsDir() }

// Info implements fs.DirEntry. It asks nobody: the listing had it all.
func (fi *FileInfo) Info() (fs.FileInfo, error) { return fi, nil }

// Sys returns fi.
func (fi *FileInfo) Sys() any { return fi }

// String formats fi as fs.FormatFileInfo.
func (fi *FileInfo) String() string { return fs.FormatFileInfo(fi) }

// ModTime is when the data was last written. This and the other times are in UTC,
// to 100 ns, and zero if the server does not say.
func (fi *FileInfo) ModTime() time.Time { return fi.write.Time() }

// AccessTime is when the file was last read.
func (fi *FileInfo) AccessTime() time.Time { return fi.access.Time() }

// ChangeTime is when anything about the file last changed.
func (fi *FileInfo) ChangeTime() time.Time { return fi.change.Time() }

// BirthTime is when the file was created.
func (fi *FileInfo) BirthTime() time.Time { return fi.born.Time() }

// Attributes are the file attributes.
func (fi *FileInfo) Attributes() Attributes { return fi.attr }

// AllocationSize is how many bytes the file takes on disk.
func (fi *FileInfo) AllocationSize() int64 { return fi.alloc }

// ReparseTag is the tag of a reparse point, [MS-FSCC] 2.1.2.1; 0 for others.
func (fi *FileInfo) ReparseTag() uint32 { return uint32(fi.tag) }

// FileID is the server's number of the file, 0 if it has none, and in the listings of
// Share.ReadDir and Share.WalkDir without the POSIX extensions, which do not ask for it.
func (fi *FileInfo) FileID() uint64 { return fi.id }

// Links is the number of hard links; 0 in listings, which have it only with the POSIX
// extensions.
func (fi *FileInfo) Links() uint32 { return fi.links }

// size64 takes a size from the wire: a server that claims more than an int64 holds
// gets the most that it does.
func size64(n uint64) int64 { return int64(min(n, 1<<63-1)) }

func infoOfEntry(fi *FileInfo, d *smb2.DirectoryEntry) {
	*fi = FileInfo{
		name: d.FileName, size: size64(d.EndOfFile), alloc: size64(d.AllocationSize),
		attr:   Attributes(d.FileAttributes),
		access: d.LastAccessTime, write: d.LastWriteTime, change: d.ChangeTime, born: d.CreationTime,
		id: d.FileID,
	}
	if fi.attr&AttrReparsePoint != 0 {
		fi.setTag(smb2.ReparseTag(d.EaSize))
	}
}

// infoClass is the class that describes a file.
func (sh *Share) infoClass() smb2.FileInfoClass {
	if sh.posix() {
		return smb2.ClassFilePosixInformation
	}
	return smb2.ClassFileAllInformation
}

// infoOf reads an answer of that class.
func (sh *Share) infoOf(k *call, name string, out []byte) (*FileInfo, error) {
	if sh.posix() {
		m, err := smb2.ParseFilePosixInformation(out)
		if err != nil {
			return nil, k.badBody(err)
		}
		fi := new(FileInfo)
		infoOfPosix(fi, path.Base(name), &m)
		return fi, nil
	}
	m, err := smb2.ParseFileAllInformation(out)
	if err != nil {
		return nil, k.badBody(err)
	}
	return infoOfAll(name, &m), nil
}

func infoOfAll(name string, m *smb2.FileAllInformation) *FileInfo {
	fi := &FileInfo{
		name: path.Base(name), size: size64(m.Standard.EndOfFile), alloc: size64(m.Standard.AllocationSize),
		attr:   Attributes(m.Basic.FileAttributes),
		access: m.Basic.LastAccessTime, write: m.Basic.LastWriteTime, change: m.Basic.ChangeTime, born: m.Basic.CreationTime,
		id: m.Internal.IndexNumber, links: m.Standard.NumberOfLinks,
	}
	if fi.attr&AttrReparsePoint != 0 {
		fi.setTag(smb2.ReparseTag(m.Ea.EaSize))
	}
	return fi
}

// setTag says what a reparse point is as far as its tag tells. Those that mean nothing
// here, as of deduplicated files, are what they are without it.
func (fi *FileInfo) setTag(tag smb2.ReparseTag) {
	fi.tag = tag
	switch tag {
	case smb2.ReparseTagSymlink:
		fi.kind = fs.ModeSymlink
	case smb2.ReparseTagMountPoint, smb2.ReparseTagNFS:
		fi.kind = fs.ModeIrregular
	}
	for _, k := range specials {
		if k.wsl == tag {
			fi.kind = k.mode
		}
	}
}
