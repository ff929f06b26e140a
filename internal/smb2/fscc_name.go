package smb2

// appendName32 appends a name behind its length in four octets.
func appendName32(b []byte, s string) []byte {
	b = le.AppendUint32(b, uint32(UTF16Len(s)))
	return AppendUTF16(b, s)
}

func parseName32(b []byte, name, field string) (string, error) {
	if len(b) < 4 {
		return "", short(name, len(b), 4)
	}
	s, err := nameSection(b, name, field, 4, uint64(le.Uint32(b)), 4)
	if err != nil {
		return "", err
	}
	return DecodeUTF16(s), nil
}

// FileNameInformation is FILE_NAME_INFORMATION, [MS-FSCC] 2.1.7, the form of
// FileNameInformation, FileAlternateNameInformation, FileShortNameInformation
// and FileNormalizedNameInformation: FileNameLength (4), FileName.
type FileNameInformation struct {
	FileName string
}

// AppendBinary appends the structure.
func (m *FileNameInformation) AppendBinary(b []byte) ([]byte, error) {
	return appendName32(b, m.FileName), nil
}

// ParseFileNameInformation decodes the structure.
func ParseFileNameInformation(b []byte) (FileNameInformation, error) {
	s, err := parseName32(b, "FileNameInformation", "FileName")
	return FileNameInformation{s}, err
}

// FileNormalizedNameInformation is of [MS-FSCC] 2.4.35; the name is relative
// to the share.
type FileNormalizedNameInformation = FileNameInformation

// FileAllInformation is of [MS-FSCC] 2.4.2: Basic (40), Standard (24),
// Internal (8), Ea (4), Access (4), Position (8), Mode (4), Alignment (4),
// Name (4 and the name).
type FileAllInformation struct {
	Basic     FileBasicInformation
	Standard  FileStandardInformation
	Internal  FileInternalInformation
	Ea        FileEaInformation
	Access    FileAccessInformation
	Position  FilePositionInformation
	Mode      FileModeInformation
	Alignment FileAlignmentInformation
	Name      FileNameInformation
}

// FileAllInformationSize is the size of the fixed part, FileNameLength
// included, in octets.
const FileAllInformationSize = 100

// AppendBinary appends the structure.
func (m *FileAllInformation) AppendBinary(b []byte) ([]byte, error) {
	// None of the parts has anything that might be too long.
	b, _ = m.Basic.AppendBinary(b)
	b, _ = m.Standard.AppendBinary(b)
	b, _ = m.Internal.AppendBinary(b)
	b, _ = m.Ea.AppendBinary(b)
	b, _ = m.Access.AppendBinary(b)
	b, _ = m.Position.AppendBinary(b)
	b, _ = m.Mode.AppendBinary(b)
	b, _ = m.Alignment.AppendBinary(b)
	return m.Name.AppendBinary(b)
}

// ParseFileAllInformation decodes the structure.
func ParseFileAllInformation(b []byte) (m FileAllInformation, err error) {
	if len(b) < FileAllInformationSize {
		return m, short("FileAllInformation", len(b), FileAllInformationSize)
	}
	if m.Name, err = ParseFileNameInformation(b[96:]); err != nil {
		return FileAllInformation{}, err
	}
	// The others are of fixed size and within the hundred octets.
	m.Basic, _ = ParseFileBasicInformation(b)
	m.Standard, _ = ParseFileStandardInformation(b[40:])
	m.Internal, _ = ParseFileInternalInformation(b[64:])
	m.Ea, _ = ParseFileEaInformation(b[72:])
	m.Access, _ = ParseFileAccessInformation(b[76:])
	m.Position, _ = ParseFilePositionInformation(b[80:])
	m.Mode, _ = ParseFileModeInformation(b[88:])
	m.Alignment, _ = ParseFileAlignmentInformation(b[92:])
	return m, nil
}

// Flags of FileRenameInformationEx and FileLinkInformationEx, [MS-FSCC] 2.4.43.
const (
	RenameReplaceIfExists               uint32 = 0x00000001
	RenamePosixSemantics                uint32 = 0x00000002
	RenameSuppressPinStateInheritance   uint32 = 0x00000004
	RenameSuppressStorageReserveInherit uint32 = 0x00000008
	RenameNoIncreaseAvailableSpace      uint32 = 0x00000010
	RenameNoDecreaseAvailableSpace      uint32 = 0x00000020
	RenameIgnoreReadonlyAttribute       uint32 = 0x00000040
	RenameForceResizeTarget             uint32 = 0x00000080
	RenameForceResizeSource             uint32 = 0x00000100
)

const (
	renameSize    = 20
	renameMinSize = 24 // with padding
)

// FileRenameInformation is FILE_RENAME_INFORMATION_TYPE_2, [MS-FSCC] 2.4.42.2:
// ReplaceIfExists (1), Reserved (7), RootDirectory (8), FileNameLength (4),
// FileName, padding to 24 octets. RootDirectory is written as zero; the rules
// for it are left to the reader.
type FileRenameInformation struct {
	ReplaceIfExists bool
	RootDirectory   uint64 // when parsed; must be 0 by 2.4.42.2
	FileName        string // relative to the share
}

// AppendBinary appends the structure.
func (m *FileRenameInformation) AppendBinary(b []byte) ([]byte, error) {
	return appendRename(b, uint32(boolByte(m.ReplaceIfExists)), m.FileName), nil
}

// ParseFileRenameInformation decodes the structure.
func ParseFileRenameInformation(b []byte) (FileRenameInformation, error) {
	_, root, file, err := parseRename(b, "FileRenameInformation")
	if err != nil {
		return FileRenameInformation{}, err
	}
	return FileRenameInformation{b[0] != 0, root, file}, nil
}

// FileRenameInformationEx is of [MS-FSCC] 2.4.43: Flags (4), Reserved (4),
// RootDirectory (8), FileNameLength (4), FileName, padding to 24 octets.
type FileRenameInformationEx struct {
	Flags         uint32 // RenameReplaceIfExists and so on
	RootDirectory uint64 // when parsed
	FileName      string // relative to the share
}

// AppendBinary appends the structure.
func (m *FileRenameInformationEx) AppendBinary(b []byte) ([]byte, error) {
	return appendRename(b, m.Flags, m.FileName), nil
}

// ParseFileRenameInformationEx decodes the structure.
func ParseFileRenameInformationEx(b []byte) (FileRenameInformationEx, error) {
	flags, root, file, err := parseRename(b, "FileRenameInformationEx")
	return FileRenameInformationEx{flags, root, file}, err
}

// FileLinkInformation is FILE_LINK_INFORMATION_TYPE_2, [MS-FSCC] 2.4.28.2, the
// same as FileRenameInformation.
type FileLinkInformation struct {
	ReplaceIfExists bool
	RootDirectory   uint64 // when parsed; must be 0 by 2.4.28.2
	FileName        string // relative to the share
}

// AppendBinary appends the structure.
func (m *FileLinkInformation) AppendBinary(b []byte) ([]byte, error) {
	return appendRename(b, uint32(boolByte(m.ReplaceIfExists)), m.FileName), nil
}

// ParseFileLinkInformation decodes the structure.
func ParseFileLinkInformation(b []byte) (FileLinkInformation, error) {
	_, root, file, err := parseRename(b, "FileLinkInformation")
	if err != nil {
		return FileLinkInformation{}, err
	}
	return FileLinkInformation{b[0] != 0, root, file}, nil
}

func appendRename(b []byte, flags uint32, file string) []byte {
	start := len(b)
	b = le.AppendUint32(b, flags)
	b = zeros(b, 12)
	b = appendName32(b, file)
	if n := len(b) - start; n < renameMinSize {
		b = zeros(b, renameMinSize-n)
	}
	return b
}

func parseRename(b []byte, name string) (flags uint32, root uint64, file string, err error) {
	if len(b) < renameSize {
		return 0, 0, "", short(name, len(b), renameSize)
	}
	if file, err = parseName32(b[16:], name, "FileName"); err != nil {
		return 0, 0, "", err
	}
	return le.Uint32(b), le.Uint64(b[8:]), file, nil
}
