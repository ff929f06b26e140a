package smb2

import "iter"

// DirectoryEntry is an entry of a directory listing, with the fields of every
// class of [MS-FSCC] 2.4 that QUERY_DIRECTORY may ask for. A class uses those
// that it has and leaves the others zero:
//
//	FileDirectoryInformation             common fields
//	FileFullDirectoryInformation         + EaSize
//	FileIdFullDirectoryInformation       + EaSize, FileID
//	FileBothDirectoryInformation         + EaSize, ShortName
//	FileIdBothDirectoryInformation       + EaSize, ShortName, FileID
//	FileIdExtdDirectoryInformation       + EaSize, ReparsePointTag, FileID128
//	FileId64ExtdDirectoryInformation     + EaSize, ReparsePointTag, FileID
//	FileId64ExtdBothDirectoryInformation + EaSize, ReparsePointTag, FileID, ShortName
//	FileIdAllExtdDirectoryInformation    + EaSize, ReparsePointTag, FileID, FileID128
//	FileIdAllExtdBothDirectoryInformation + the same and ShortName
//	FileNamesInformation                 FileIndex and FileName only
//
// For a reparse point, EaSize holds the reparse tag in the classes that have
// no ReparsePointTag.
type DirectoryEntry struct {
	FileIndex       uint32
	CreationTime    Filetime
	LastAccessTime  Filetime
	LastWriteTime   Filetime
	ChangeTime      Filetime
	EndOfFile       uint64
	AllocationSize  uint64
	FileAttributes  FileAttributes
	EaSize          uint32
	ReparsePointTag ReparseTag
	FileID          uint64
	FileID128       [16]byte
	ShortName       string // 8.3 name, at most 12 UTF-16 code units
	FileName        string
}

// dirLayout has the offsets of a class's fields, 0 for a field it has not.
// All but FileNamesInformation begin alike:
//
//	 0 NextEntryOffset   4 FileIndex        8 CreationTime    16 LastAccessTime
//	24 LastWriteTime    32 ChangeTime      40 EndOfFile       48 AllocationSize
//	56 FileAttributes   60 FileNameLength
type dirLayout struct {
	nameLen, ea, tag, id, id128, short, name int
}

const shortNameSize = 24

func dirLayoutOf(class FileInfoClass) (l dirLayout, ok bool) {
	switch class {
	case ClassFileDirectoryInformation:
		return dirLayout{nameLen: 60, name: 64}, true
	case ClassFileFullDirectoryInformation:
		return dirLayout{nameLen: 60, ea: 64, name: 68}, true
	case ClassFileIDFullDirectoryInformation:
		return dirLayout{nameLen: 60, ea: 64, id: 72, name: 80}, true
	case ClassFileBothDirectoryInformation:
		return dirLayout{nameLen: 60, ea: 64, short: 68, name: 94}, true
	case ClassFileIDBothDirectoryInformation:
		return dirLayout{nameLen: 60, ea: 64, short: 68, id: 96, name: 104}, true
	case ClassFileIDExtdDirectoryInformation:
		return dirLayout{nameLen: 60, ea: 64, tag: 68, id128: 72, name: 88}, true
	case ClassFileID64ExtdDirectoryInformation:
		return dirLayout{nameLen: 60, ea: 64, tag: 68, id: 72, name: 80}, true
	case ClassFileID64ExtdBothDirectoryInfo:
		return dirLayout{nameLen: 60, ea: 64, tag: 68, id: 72, short: 80, name: 106}, true
	case ClassFileIDAllExtdDirectoryInformation:
		return dirLayout{nameLen: 60, ea: 64, tag: 68, id: 72, id128: 80, name: 96}, true
	case ClassFileIDAllExtdBothDirectoryInfo:
		return dirLayout{nameLen: 60, ea: 64, tag: 68, id: 72, id128: 80, short: 96, name: 122}, true
	case ClassFileNamesInformation:
		return dirLayout{nameLen: 8, name: 12}, true
	}
	return dirLayout{}, false
}

// IsDirectoryClass reports whether QUERY_DIRECTORY entries of the class can be
// encoded and decoded here.
func IsDirectoryClass(class FileInfoClass) bool {
	_, ok := dirLayoutOf(class)
	return ok
}

// HasShortName reports whether entries of the class have a ShortName.
func HasShortName(class FileInfoClass) bool {
	l, _ := dirLayoutOf(class)
	return l.short != 0
}

// HasEaSize reports whether entries of the class have an EaSize.
func HasEaSize(class FileInfoClass) bool {
	l, _ := dirLayoutOf(class)
	return l.ea != 0
}

// AppendDirectoryEntry adds an entry of the class and reports whether it
// fitted. Entries are at multiples of 8. A class that is not IsDirectoryClass
// never fits. A ShortName longer than 12 code units is left out.
func (l *EntryList) AppendDirectoryEntry(class FileInfoClass, d *DirectoryEntry) bool {
	lay, ok := dirLayoutOf(class)
	if !ok {
		return false
	}
	size := UTF16Len(d.FileName)
	e := l.begin(lay.name+size, 8)
	if e == nil {
		return false
	}
	le.PutUint32(e[4:], d.FileIndex)
	le.PutUint32(e[lay.nameLen:], uint32(size))
	AppendUTF16(e[:lay.name], d.FileName)
	if class == ClassFileNamesInformation {
		return true
	}
	le.PutUint64(e[8:], uint64(d.CreationTime))
	le.PutUint64(e[16:], uint64(d.LastAccessTime))
	le.PutUint64(e[24:], uint64(d.LastWriteTime))
	le.PutUint64(e[32:], uint64(d.ChangeTime))
	le.PutUint64(e[40:], d.EndOfFile)
	le.PutUint64(e[48:], d.AllocationSize)
	le.PutUint32(e[56:], uint32(d.FileAttributes))
	if lay.ea != 0 {
		le.PutUint32(e[lay.ea:], d.EaSize)
	}
	if lay.tag != 0 {
		le.PutUint32(e[lay.tag:], uint32(d.ReparsePointTag))
	}
	if lay.id != 0 {
		le.PutUint64(e[lay.id:], d.FileID)
	}
	if lay.id128 != 0 {
		copy(e[lay.id128:], d.FileID128[:])
	}
	if lay.short != 0 {
		if n := UTF16Len(d.ShortName); n <= shortNameSize {
			e[lay.short] = uint8(n)
			AppendUTF16(e[:lay.short+2], d.ShortName)
		}
	}
	return true
}

// DirectoryEntries yields the entries of the class in b, the buffer of a
// QUERY_DIRECTORY response. At the first fault it yields an error and stops.
func DirectoryEntries(b []byte, class FileInfoClass) iter.Seq2[DirectoryEntry, error] {
	const name = "directory entry"
	return func(yield func(DirectoryEntry, error) bool) {
		lay, ok := dirLayoutOf(class)
		if !ok {
			yield(DirectoryEntry{}, bad(name, "FileInformationClass", uint64(class), 0))
			return
		}
		for e, err := range entries(b, name, lay.name) {
			var d DirectoryEntry
			if err == nil {
				d, err = parseDirectoryEntry(e, class, lay)
			}
			if err != nil {
				yield(DirectoryEntry{}, err)
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func parseDirectoryEntry(e []byte, class FileInfoClass, lay dirLayout) (DirectoryEntry, error) {
	const name = "directory entry"
	file, err := nameSection(e, name, "FileName", uint64(lay.name), uint64(le.Uint32(e[lay.nameLen:])), lay.name)
	if err != nil {
		return DirectoryEntry{}, err
	}
	d := DirectoryEntry{FileIndex: le.Uint32(e[4:]), FileName: DecodeUTF16(file)}
	if class == ClassFileNamesInformation {
		return d, nil
	}
	d.CreationTime = Filetime(le.Uint64(e[8:]))
	d.LastAccessTime = Filetime(le.Uint64(e[16:]))
	d.LastWriteTime = Filetime(le.Uint64(e[24:]))
	d.ChangeTime = Filetime(le.Uint64(e[32:]))
	d.EndOfFile = le.Uint64(e[40:])
	d.AllocationSize = le.Uint64(e[48:])
	d.FileAttributes = FileAttributes(le.Uint32(e[56:]))
	if lay.ea != 0 {
		d.EaSize = le.Uint32(e[lay.ea:])
	}
	if lay.tag != 0 {
		d.ReparsePointTag = ReparseTag(le.Uint32(e[lay.tag:]))
	}
	if lay.id != 0 {
		d.FileID = le.Uint64(e[lay.id:])
	}
	if lay.id128 != 0 {
		d.FileID128 = [16]byte(e[lay.id128:])
	}
	if lay.short != 0 {
		n := uint64(e[lay.short])
		if n > shortNameSize || n%2 != 0 {
			return DirectoryEntry{}, bad(name, "ShortNameLength", n, shortNameSize)
		}
		d.ShortName = DecodeUTF16(e[lay.short+2:][:n])
	}
	return d, nil
}
