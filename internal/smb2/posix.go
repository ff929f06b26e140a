package smb2

import "iter"

// The structures of the SMB3 POSIX extensions, which [MS-SMB2] and [MS-FSCC]
// reserve values for but do not describe; as Samba and the Linux client use them.

// PosixExtensionsTag is the data of the negotiate context ContextPosixExtensions.
const PosixExtensionsTag = CreateContextPosix

// PosixCreateRequest is the data of the create context CreateContextPosix in
// a request: Mode (4).
type PosixCreateRequest struct {
	Mode uint32 // permission bits
}

// AppendBinary appends the context's data.
func (m *PosixCreateRequest) AppendBinary(b []byte) ([]byte, error) {
	return le.AppendUint32(b, m.Mode), nil
}

// ParsePosixCreateRequest decodes the context's data.
func ParsePosixCreateRequest(b []byte) (PosixCreateRequest, error) {
	if len(b) != 4 {
		return PosixCreateRequest{}, bad("POSIX create request", "DataLength", uint64(len(b)), 4)
	}
	return PosixCreateRequest{le.Uint32(b)}, nil
}

// PosixCreateResponse is the data of the create context CreateContextPosix in
// a response: HardLinks (4), ReparseTag (4), Mode (4), owner SID, group SID.
type PosixCreateResponse struct {
	HardLinks  uint32
	ReparseTag ReparseTag
	Mode       uint32
	Owner      SID
	Group      SID
}

const posixCreateSize = 12

// AppendBinary appends the context's data.
func (m *PosixCreateResponse) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint32(b, m.HardLinks)
	b = le.AppendUint32(b, uint32(m.ReparseTag))
	b = le.AppendUint32(b, m.Mode)
	b = m.Owner.Append(b)
	return m.Group.Append(b), nil
}

// ParsePosixCreateResponse decodes the context's data.
func ParsePosixCreateResponse(b []byte) (m PosixCreateResponse, err error) {
	if _, err := m.parse(b); err != nil {
		return PosixCreateResponse{}, err
	}
	return m, nil
}

// parse decodes the data at the start of b, and returns what is behind it. After an error
// part of m is set.
func (m *PosixCreateResponse) parse(b []byte) (rest []byte, err error) {
	if len(b) < posixCreateSize {
		return nil, short("POSIX create response", len(b), posixCreateSize)
	}
	m.HardLinks = le.Uint32(b)
	m.ReparseTag = ReparseTag(le.Uint32(b[4:]))
	m.Mode = le.Uint32(b[8:])
	b = b[posixCreateSize:]
	if m.Owner, err = ParseSID(b); err != nil {
		return nil, err
	}
	b = b[m.Owner.Len():]
	if m.Group, err = ParseSID(b); err != nil {
		return nil, err
	}
	return b[m.Group.Len():], nil
}

// FilePosixInformation is the query class ClassFilePosixInformation:
//
//	 0 CreationTime   8 LastAccessTime   16 LastWriteTime   24 ChangeTime
//	32 EndOfFile     40 AllocationSize   48 DosAttributes   52 Inode
//	60 DeviceId      64 Zero             68 HardLinks, ReparseTag, Mode, owner SID, group SID
//
// QUERY_DIRECTORY entries of that class have NextEntryOffset (4) and Ignored
// (4) before and FileNameLength (4) and FileName behind it.
type FilePosixInformation struct {
	CreationTime   Filetime
	LastAccessTime Filetime
	LastWriteTime  Filetime
	ChangeTime     Filetime
	EndOfFile      uint64
	AllocationSize uint64
	DosAttributes  FileAttributes
	Inode          uint64
	DeviceID       uint32
	PosixCreateResponse
}

const filePosixSize = 68

// AppendBinary appends the structure.
func (m *FilePosixInformation) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint64(b, uint64(m.CreationTime))
	b = le.AppendUint64(b, uint64(m.LastAccessTime))
	b = le.AppendUint64(b, uint64(m.LastWriteTime))
	b = le.AppendUint64(b, uint64(m.ChangeTime))
	b = le.AppendUint64(b, m.EndOfFile)
	b = le.AppendUint64(b, m.AllocationSize)
	b = le.AppendUint32(b, uint32(m.DosAttributes))
	b = le.AppendUint64(b, m.Inode)
	b = le.AppendUint32(b, m.DeviceID)
	b = zeros(b, 4)
	return m.PosixCreateResponse.AppendBinary(b)
}

// ParseFilePosixInformation decodes the structure.
func ParseFilePosixInformation(b []byte) (m FilePosixInformation, err error) {
	if _, err := m.parse(b); err != nil {
		return FilePosixInformation{}, err
	}
	return m, nil
}

// parse is as that of PosixCreateResponse.
func (m *FilePosixInformation) parse(b []byte) (rest []byte, err error) {
	if len(b) < filePosixSize {
		return nil, short("FilePosixInformation", len(b), filePosixSize)
	}
	m.CreationTime = Filetime(le.Uint64(b))
	m.LastAccessTime = Filetime(le.Uint64(b[8:]))
	m.LastWriteTime = Filetime(le.Uint64(b[16:]))
	m.ChangeTime = Filetime(le.Uint64(b[24:]))
	m.EndOfFile = le.Uint64(b[32:])
	m.AllocationSize = le.Uint64(b[40:])
	m.DosAttributes = FileAttributes(le.Uint32(b[48:]))
	m.Inode = le.Uint64(b[52:])
	m.DeviceID = le.Uint32(b[60:])
	return m.PosixCreateResponse.parse(b[filePosixSize:])
}

// AppendPosixEntry adds a QUERY_DIRECTORY entry of ClassFilePosixInformation
// and reports whether it fitted.
func (l *EntryList) AppendPosixEntry(p *FilePosixInformation, fileName string) bool {
	size := UTF16Len(fileName)
	fixed := 8 + filePosixSize + posixCreateSize + p.Owner.Len() + p.Group.Len()
	e := l.begin(fixed+4+size, 8)
	if e == nil {
		return false
	}
	p.AppendBinary(e[:8]) // gives no error
	le.PutUint32(e[fixed:], uint32(size))
	AppendUTF16(e[:fixed+4], fileName)
	return true
}

// PosixEntry is a QUERY_DIRECTORY entry of ClassFilePosixInformation.
type PosixEntry struct {
	FilePosixInformation
	FileName string
}

// PosixEntries yields the entries of ClassFilePosixInformation in b; at the
// first fault it yields an error and stops.
func PosixEntries(b []byte) iter.Seq2[PosixEntry, error] {
	const name = "POSIX directory entry"
	return func(yield func(PosixEntry, error) bool) {
		for e, err := range entries(b, name, 8+filePosixSize+posixCreateSize) {
			var p PosixEntry
			var rest []byte
			if err == nil {
				rest, err = p.FilePosixInformation.parse(e[8:])
			}
			if err == nil {
				p.FileName, err = parseName32(rest, name, "FileName")
			}
			if err != nil {
				yield(PosixEntry{}, err)
				return
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// FileFsPosixInformation is the class ClassFileFsPosixInformation:
// OptimalTransferSize (4), BlockSize (4), TotalBlocks (8), BlocksAvail (8),
// UserBlocksAvail (8), TotalFileNodes (8), FreeFileNodes (8), FileSysIdentifier (8).
type FileFsPosixInformation struct {
	OptimalTransferSize uint32
	BlockSize           uint32
	TotalBlocks         uint64
	BlocksAvail         uint64
	UserBlocksAvail     uint64
	TotalFileNodes      uint64
	FreeFileNodes       uint64
	FileSysIdentifier   uint64
}

const fileFsPosixSize = 56

// AppendBinary appends the structure.
func (m *FileFsPosixInformation) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint32(b, m.OptimalTransferSize)
	b = le.AppendUint32(b, m.BlockSize)
	b = le.AppendUint64(b, m.TotalBlocks)
	b = le.AppendUint64(b, m.BlocksAvail)
	b = le.AppendUint64(b, m.UserBlocksAvail)
	b = le.AppendUint64(b, m.TotalFileNodes)
	b = le.AppendUint64(b, m.FreeFileNodes)
	return le.AppendUint64(b, m.FileSysIdentifier), nil
}

// ParseFileFsPosixInformation decodes the structure.
func ParseFileFsPosixInformation(b []byte) (FileFsPosixInformation, error) {
	if len(b) < fileFsPosixSize {
		return FileFsPosixInformation{}, short("FileFsPosixInformation", len(b), fileFsPosixSize)
	}
	return FileFsPosixInformation{
		OptimalTransferSize: le.Uint32(b),
		BlockSize:           le.Uint32(b[4:]),
		TotalBlocks:         le.Uint64(b[8:]),
		BlocksAvail:         le.Uint64(b[16:]),
		UserBlocksAvail:     le.Uint64(b[24:]),
		TotalFileNodes:      le.Uint64(b[32:]),
		FreeFileNodes:       le.Uint64(b[40:]),
		FileSysIdentifier:   le.Uint64(b[48:]),
	}, nil
}
