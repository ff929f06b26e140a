package smb2

// FileBasicInformation is of [MS-FSCC] 2.4.7, 40 octets:
// four times (8 each), FileAttributes (4), Reserved (4). In SET_INFO,
// FileAttributes 0 and FiletimeNone mean "leave as it is".
type FileBasicInformation struct {
	CreationTime   Filetime
	LastAccessTime Filetime
	LastWriteTime  Filetime
	ChangeTime     Filetime
	FileAttributes FileAttributes
}

const fileBasicInformationSize = 40

// AppendBinary appends the structure.
func (m *FileBasicInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileBasicInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], uint64(m.CreationTime))
	le.PutUint64(e[8:], uint64(m.LastAccessTime))
	le.PutUint64(e[16:], uint64(m.LastWriteTime))
	le.PutUint64(e[24:], uint64(m.ChangeTime))
	le.PutUint32(e[32:], uint32(m.FileAttributes))
	return b, nil
}

// ParseFileBasicInformation decodes the structure at the start of b.
func ParseFileBasicInformation(b []byte) (FileBasicInformation, error) {
	if len(b) < fileBasicInformationSize {
		return FileBasicInformation{}, short("FileBasicInformation", len(b), fileBasicInformationSize)
	}
	return FileBasicInformation{
		CreationTime:   Filetime(le.Uint64(b)),
		LastAccessTime: Filetime(le.Uint64(b[8:])),
		LastWriteTime:  Filetime(le.Uint64(b[16:])),
		ChangeTime:     Filetime(le.Uint64(b[24:])),
		FileAttributes: FileAttributes(le.Uint32(b[32:])),
	}, nil
}

// FileStandardInformation is of [MS-FSCC] 2.4.47, 24 octets:
// AllocationSize (8), EndOfFile (8), NumberOfLinks (4),
// DeletePending (1), Directory (1), Reserved (2).
type FileStandardInformation struct {
	AllocationSize uint64
	EndOfFile      uint64
	NumberOfLinks  uint32
	DeletePending  bool
	Directory      bool
}

const fileStandardInformationSize = 24

// AppendBinary appends the structure.
func (m *FileStandardInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileStandardInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], m.AllocationSize)
	le.PutUint64(e[8:], m.EndOfFile)
	le.PutUint32(e[16:], m.NumberOfLinks)
	e[20] = boolByte(m.DeletePending)
	e[21] = boolByte(m.Directory)
	return b, nil
}

// ParseFileStandardInformation decodes the structure at the start of b.
func ParseFileStandardInformation(b []byte) (FileStandardInformation, error) {
	if len(b) < fileStandardInformationSize {
		return FileStandardInformation{}, short("FileStandardInformation", len(b), fileStandardInformationSize)
	}
	return FileStandardInformation{
		AllocationSize: le.Uint64(b),
		EndOfFile:      le.Uint64(b[8:]),
		NumberOfLinks:  le.Uint32(b[16:]),
		DeletePending:  b[20] != 0,
		Directory:      b[21] != 0,
	}, nil
}

// FileInternalInformation is of [MS-FSCC] 2.4.27, 8 octets:
// IndexNumber (8).
type FileInternalInformation struct {
	IndexNumber uint64 // 64-bit file ID
}

const fileInternalInformationSize = 8

// AppendBinary appends the structure.
func (m *FileInternalInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileInternalInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], m.IndexNumber)
	return b, nil
}

// ParseFileInternalInformation decodes the structure at the start of b.
func ParseFileInternalInformation(b []byte) (FileInternalInformation, error) {
	if len(b) < fileInternalInformationSize {
		return FileInternalInformation{}, short("FileInternalInformation", len(b), fileInternalInformationSize)
	}
	return FileInternalInformation{
		IndexNumber: le.Uint64(b),
	}, nil
}

// FileEaInformation is of [MS-FSCC] 2.4.13, 4 octets:
// EaSize (4).
type FileEaInformation struct {
	EaSize uint32 // octets of all extended attributes; a reparse point's tag
}

const fileEaInformationSize = 4

// AppendBinary appends the structure.
func (m *FileEaInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileEaInformationSize)
	e := b[start:]
	le.PutUint32(e[0:], m.EaSize)
	return b, nil
}

// ParseFileEaInformation decodes the structure at the start of b.
func ParseFileEaInformation(b []byte) (FileEaInformation, error) {
	if len(b) < fileEaInformationSize {
		return FileEaInformation{}, short("FileEaInformation", len(b), fileEaInformationSize)
	}
	return FileEaInformation{
		EaSize: le.Uint32(b),
	}, nil
}

// FileAccessInformation is of [MS-FSCC] 2.4.1, 4 octets:
// AccessFlags (4).
type FileAccessInformation struct {
	AccessFlags AccessMask
}

const fileAccessInformationSize = 4

// AppendBinary appends the structure.
func (m *FileAccessInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileAccessInformationSize)
	e := b[start:]
	le.PutUint32(e[0:], uint32(m.AccessFlags))
	return b, nil
}

// ParseFileAccessInformation decodes the structure at the start of b.
func ParseFileAccessInformation(b []byte) (FileAccessInformation, error) {
	if len(b) < fileAccessInformationSize {
		return FileAccessInformation{}, short("FileAccessInformation", len(b), fileAccessInformationSize)
	}
	return FileAccessInformation{
		AccessFlags: AccessMask(le.Uint32(b)),
	}, nil
}

// FilePositionInformation is of [MS-FSCC] 2.4.40, 8 octets:
// CurrentByteOffset (8).
type FilePositionInformation struct {
	CurrentByteOffset int64
}

const filePositionInformationSize = 8

// AppendBinary appends the structure.
func (m *FilePositionInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, filePositionInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], uint64(m.CurrentByteOffset))
	return b, nil
}

// ParseFilePositionInformation decodes the structure at the start of b.
func ParseFilePositionInformation(b []byte) (FilePositionInformation, error) {
	if len(b) < filePositionInformationSize {
		return FilePositionInformation{}, short("FilePositionInformation", len(b), filePositionInformationSize)
	}
	return FilePositionInformation{
		CurrentByteOffset: int64(le.Uint64(b)),
	}, nil
}

// FileModeInformation is of [MS-FSCC] 2.4.31, 4 octets:
// Mode (4).
type FileModeInformation struct {
	Mode CreateOptions
}

const fileModeInformationSize = 4

// AppendBinary appends the structure.
func (m *FileModeInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileModeInformationSize)
	e := b[start:]
	le.PutUint32(e[0:], uint32(m.Mode))
	return b, nil
}

// ParseFileModeInformation decodes the structure at the start of b.
func ParseFileModeInformation(b []byte) (FileModeInformation, error) {
	if len(b) < fileModeInformationSize {
		return FileModeInformation{}, short("FileModeInformation", len(b), fileModeInformationSize)
	}
	return FileModeInformation{
		Mode: CreateOptions(le.Uint32(b)),
	}, nil
}

// FileAlignmentInformation is of [MS-FSCC] 2.4.3, 4 octets:
// AlignmentRequirement (4).
type FileAlignmentInformation struct {
	AlignmentRequirement uint32 // a power of two less 1; 0 is octet alignment
}

const fileAlignmentInformationSize = 4

// AppendBinary appends the structure.
func (m *FileAlignmentInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileAlignmentInformationSize)
	e := b[start:]
	le.PutUint32(e[0:], m.AlignmentRequirement)
	return b, nil
}

// ParseFileAlignmentInformation decodes the structure at the start of b.
func ParseFileAlignmentInformation(b []byte) (FileAlignmentInformation, error) {
	if len(b) < fileAlignmentInformationSize {
		return FileAlignmentInformation{}, short("FileAlignmentInformation", len(b), fileAlignmentInformationSize)
	}
	return FileAlignmentInformation{
		AlignmentRequirement: le.Uint32(b),
	}, nil
}

// FileAllocationInformation is of [MS-FSCC] 2.4.4, 8 octets:
// AllocationSize (8).
type FileAllocationInformation struct {
	AllocationSize int64
}

const fileAllocationInformationSize = 8

// AppendBinary appends the structure.
func (m *FileAllocationInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileAllocationInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], uint64(m.AllocationSize))
	return b, nil
}

// ParseFileAllocationInformation decodes the structure at the start of b.
func ParseFileAllocationInformation(b []byte) (FileAllocationInformation, error) {
	if len(b) < fileAllocationInformationSize {
		return FileAllocationInformation{}, short("FileAllocationInformation", len(b), fileAllocationInformationSize)
	}
	return FileAllocationInformation{
		AllocationSize: int64(le.Uint64(b)),
	}, nil
}

// FileEndOfFileInformation is of [MS-FSCC] 2.4.14, 8 octets:
// EndOfFile (8).
type FileEndOfFileInformation struct {
	EndOfFile int64
}

const fileEndOfFileInformationSize = 8

// AppendBinary appends the structure.
func (m *FileEndOfFileInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileEndOfFileInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], uint64(m.EndOfFile))
	return b, nil
}

// ParseFileEndOfFileInformation decodes the structure at the start of b.
func ParseFileEndOfFileInformation(b []byte) (FileEndOfFileInformation, error) {
	if len(b) < fileEndOfFileInformationSize {
		return FileEndOfFileInformation{}, short("FileEndOfFileInformation", len(b), fileEndOfFileInformationSize)
	}
	return FileEndOfFileInformation{
		EndOfFile: int64(le.Uint64(b)),
	}, nil
}

// FileValidDataLengthInformation is of [MS-FSCC] 2.4.50, 8 octets:
// ValidDataLength (8).
type FileValidDataLengthInformation struct {
	ValidDataLength int64
}

const fileValidDataLengthInformationSize = 8

// AppendBinary appends the structure.
func (m *FileValidDataLengthInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileValidDataLengthInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], uint64(m.ValidDataLength))
	return b, nil
}

// ParseFileValidDataLengthInformation decodes the structure at the start of b.
func ParseFileValidDataLengthInformation(b []byte) (FileValidDataLengthInformation, error) {
	if len(b) < fileValidDataLengthInformationSize {
		return FileValidDataLengthInformation{}, short("FileValidDataLengthInformation", len(b), fileValidDataLengthInformationSize)
	}
	return FileValidDataLengthInformation{
		ValidDataLength: int64(le.Uint64(b)),
	}, nil
}

// FileDispositionInformation is of [MS-FSCC] 2.4.11, 1 octets:
// DeletePending (1).
type FileDispositionInformation struct {
	DeletePending bool
}

const fileDispositionInformationSize = 1

// AppendBinary appends the structure.
func (m *FileDispositionInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileDispositionInformationSize)
	e := b[start:]
	e[0] = boolByte(m.DeletePending)
	return b, nil
}

// ParseFileDispositionInformation decodes the structure at the start of b.
func ParseFileDispositionInformation(b []byte) (FileDispositionInformation, error) {
	if len(b) < fileDispositionInformationSize {
		return FileDispositionInformation{}, short("FileDispositionInformation", len(b), fileDispositionInformationSize)
	}
	return FileDispositionInformation{
		DeletePending: b[0] != 0,
	}, nil
}

// FileDispositionInformationEx is of [MS-FSCC] 2.4.12, 4 octets:
// Flags (4).
type FileDispositionInformationEx struct {
	Flags uint32 // DispositionDelete and so on
}

const fileDispositionInformationExSize = 4

// AppendBinary appends the structure.
func (m *FileDispositionInformationEx) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileDispositionInformationExSize)
	e := b[start:]
	le.PutUint32(e[0:], m.Flags)
	return b, nil
}

// ParseFileDispositionInformationEx decodes the structure at the start of b.
func ParseFileDispositionInformationEx(b []byte) (FileDispositionInformationEx, error) {
	if len(b) < fileDispositionInformationExSize {
		return FileDispositionInformationEx{}, short("FileDispositionInformationEx", len(b), fileDispositionInformationExSize)
	}
	return FileDispositionInformationEx{
		Flags: le.Uint32(b),
	}, nil
}

// Flags of FileDispositionInformationEx, [MS-FSCC] 2.4.12.
const (
	DispositionDelete                  uint32 = 0x00000001
	DispositionPosixSemantics          uint32 = 0x00000002
	DispositionForceImageSectionCheck  uint32 = 0x00000004
	DispositionOnClose                 uint32 = 0x00000008
	DispositionIgnoreReadonlyAttribute uint32 = 0x00000010
)

// FileCompressionInformation is of [MS-FSCC] 2.4.9, 16 octets:
// CompressedFileSize (8), CompressionFormat (2),
// CompressionUnitShift (1), ChunkShift (1), ClusterShift (1), Reserved (3).
type FileCompressionInformation struct {
	CompressedFileSize   int64
	CompressionFormat    CompressionFormat
	CompressionUnitShift uint8
	ChunkShift           uint8
	ClusterShift         uint8
}

const fileCompressionInformationSize = 16

// AppendBinary appends the structure.
func (m *FileCompressionInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileCompressionInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], uint64(m.CompressedFileSize))
	le.PutUint16(e[8:], uint16(m.CompressionFormat))
	e[10] = m.CompressionUnitShift
	e[11] = m.ChunkShift
	e[12] = m.ClusterShift
	return b, nil
}

// ParseFileCompressionInformation decodes the structure at the start of b.
func ParseFileCompressionInformation(b []byte) (FileCompressionInformation, error) {
	if len(b) < fileCompressionInformationSize {
		return FileCompressionInformation{}, short("FileCompressionInformation", len(b), fileCompressionInformationSize)
	}
	return FileCompressionInformation{
		CompressedFileSize:   int64(le.Uint64(b)),
		CompressionFormat:    CompressionFormat(le.Uint16(b[8:])),
		CompressionUnitShift: b[10],
		ChunkShift:           b[11],
		ClusterShift:         b[12],
	}, nil
}

// FileNetworkOpenInformation is of [MS-FSCC] 2.4.34, 56 octets:
// four times (8 each), AllocationSize (8), EndOfFile (8),
// FileAttributes (4), Reserved (4).
type FileNetworkOpenInformation struct {
	CreationTime   Filetime
	LastAccessTime Filetime
	LastWriteTime  Filetime
	ChangeTime     Filetime
	AllocationSize uint64
	EndOfFile      uint64
	FileAttributes FileAttributes
}

const fileNetworkOpenInformationSize = 56

// AppendBinary appends the structure.
func (m *FileNetworkOpenInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileNetworkOpenInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], uint64(m.CreationTime))
	le.PutUint64(e[8:], uint64(m.LastAccessTime))
	le.PutUint64(e[16:], uint64(m.LastWriteTime))
	le.PutUint64(e[24:], uint64(m.ChangeTime))
	le.PutUint64(e[32:], m.AllocationSize)
	le.PutUint64(e[40:], m.EndOfFile)
	le.PutUint32(e[48:], uint32(m.FileAttributes))
	return b, nil
}

// ParseFileNetworkOpenInformation decodes the structure at the start of b.
func ParseFileNetworkOpenInformation(b []byte) (FileNetworkOpenInformation, error) {
	if len(b) < fileNetworkOpenInformationSize {
		return FileNetworkOpenInformation{}, short("FileNetworkOpenInformation", len(b), fileNetworkOpenInformationSize)
	}
	return FileNetworkOpenInformation{
		CreationTime:   Filetime(le.Uint64(b)),
		LastAccessTime: Filetime(le.Uint64(b[8:])),
		LastWriteTime:  Filetime(le.Uint64(b[16:])),
		ChangeTime:     Filetime(le.Uint64(b[24:])),
		AllocationSize: le.Uint64(b[32:]),
		EndOfFile:      le.Uint64(b[40:]),
		FileAttributes: FileAttributes(le.Uint32(b[48:])),
	}, nil
}

// FileAttributeTagInformation is of [MS-FSCC] 2.4.6, 8 octets:
// FileAttributes (4), ReparseTag (4).
type FileAttributeTagInformation struct {
	FileAttributes FileAttributes
	ReparseTag     ReparseTag
}

const fileAttributeTagInformationSize = 8

// AppendBinary appends the structure.
func (m *FileAttributeTagInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileAttributeTagInformationSize)
	e := b[start:]
	le.PutUint32(e[0:], uint32(m.FileAttributes))
	le.PutUint32(e[4:], uint32(m.ReparseTag))
	return b, nil
}

// ParseFileAttributeTagInformation decodes the structure at the start of b.
func ParseFileAttributeTagInformation(b []byte) (FileAttributeTagInformation, error) {
	if len(b) < fileAttributeTagInformationSize {
		return FileAttributeTagInformation{}, short("FileAttributeTagInformation", len(b), fileAttributeTagInformationSize)
	}
	return FileAttributeTagInformation{
		FileAttributes: FileAttributes(le.Uint32(b)),
		ReparseTag:     ReparseTag(le.Uint32(b[4:])),
	}, nil
}

// FileIDInformation is of [MS-FSCC] 2.4.26, 24 octets:
// VolumeSerialNumber (8), FileId (16).
type FileIDInformation struct {
	VolumeSerialNumber uint64
	FileID             [16]byte
}

const fileIDInformationSize = 24

// AppendBinary appends the structure.
func (m *FileIDInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileIDInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], m.VolumeSerialNumber)
	copy(e[8:], m.FileID[:])
	return b, nil
}

// ParseFileIDInformation decodes the structure at the start of b.
func ParseFileIDInformation(b []byte) (FileIDInformation, error) {
	if len(b) < fileIDInformationSize {
		return FileIDInformation{}, short("FileIDInformation", len(b), fileIDInformationSize)
	}
	return FileIDInformation{
		VolumeSerialNumber: le.Uint64(b),
		FileID:             [16]byte(b[8:24]),
	}, nil
}

// FilePipeInformation is of [MS-FSCC] 2.4.37, 8 octets:
// ReadMode (4), CompletionMode (4).
type FilePipeInformation struct {
	ReadMode       uint32 // 0 byte stream, 1 messages
	CompletionMode uint32 // 0 queue, 1 complete
}

const filePipeInformationSize = 8

// AppendBinary appends the structure.
func (m *FilePipeInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, filePipeInformationSize)
	e := b[start:]
	le.PutUint32(e[0:], m.ReadMode)
	le.PutUint32(e[4:], m.CompletionMode)
	return b, nil
}

// ParseFilePipeInformation decodes the structure at the start of b.
func ParseFilePipeInformation(b []byte) (FilePipeInformation, error) {
	if len(b) < filePipeInformationSize {
		return FilePipeInformation{}, short("FilePipeInformation", len(b), filePipeInformationSize)
	}
	return FilePipeInformation{
		ReadMode:       le.Uint32(b),
		CompletionMode: le.Uint32(b[4:]),
	}, nil
}

// FilePipeLocalInformation is of [MS-FSCC] 2.4.38, 40 octets:
// ten fields of 4.
type FilePipeLocalInformation struct {
	NamedPipeType          uint32
	NamedPipeConfiguration uint32
	MaximumInstances       uint32
	CurrentInstances       uint32
	InboundQuota           uint32
	ReadDataAvailable      uint32
	OutboundQuota          uint32
	WriteQuotaAvailable    uint32
	NamedPipeState         uint32
	NamedPipeEnd           uint32
}

const filePipeLocalInformationSize = 40

// AppendBinary appends the structure.
func (m *FilePipeLocalInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, filePipeLocalInformationSize)
	e := b[start:]
	le.PutUint32(e[0:], m.NamedPipeType)
	le.PutUint32(e[4:], m.NamedPipeConfiguration)
	le.PutUint32(e[8:], m.MaximumInstances)
	le.PutUint32(e[12:], m.CurrentInstances)
	le.PutUint32(e[16:], m.InboundQuota)
	le.PutUint32(e[20:], m.ReadDataAvailable)
	le.PutUint32(e[24:], m.OutboundQuota)
	le.PutUint32(e[28:], m.WriteQuotaAvailable)
	le.PutUint32(e[32:], m.NamedPipeState)
	le.PutUint32(e[36:], m.NamedPipeEnd)
	return b, nil
}

// ParseFilePipeLocalInformation decodes the structure at the start of b.
func ParseFilePipeLocalInformation(b []byte) (FilePipeLocalInformation, error) {
	if len(b) < filePipeLocalInformationSize {
		return FilePipeLocalInformation{}, short("FilePipeLocalInformation", len(b), filePipeLocalInformationSize)
	}
	return FilePipeLocalInformation{
		NamedPipeType:          le.Uint32(b),
		NamedPipeConfiguration: le.Uint32(b[4:]),
		MaximumInstances:       le.Uint32(b[8:]),
		CurrentInstances:       le.Uint32(b[12:]),
		InboundQuota:           le.Uint32(b[16:]),
		ReadDataAvailable:      le.Uint32(b[20:]),
		OutboundQuota:          le.Uint32(b[24:]),
		WriteQuotaAvailable:    le.Uint32(b[28:]),
		NamedPipeState:         le.Uint32(b[32:]),
		NamedPipeEnd:           le.Uint32(b[36:]),
	}, nil
}
