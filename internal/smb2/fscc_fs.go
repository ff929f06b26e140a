package smb2

// FileFsSizeInformation is of [MS-FSCC] 2.5.8, 24 octets:
// TotalAllocationUnits (8), AvailableAllocationUnits (8),
// SectorsPerAllocationUnit (4), BytesPerSector (4).
type FileFsSizeInformation struct {
	TotalAllocationUnits     uint64
	AvailableAllocationUnits uint64
	SectorsPerAllocationUnit uint32
	BytesPerSector           uint32
}

const fileFsSizeInformationSize = 24

// AppendBinary appends the structure.
func (m *FileFsSizeInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileFsSizeInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], m.TotalAllocationUnits)
	le.PutUint64(e[8:], m.AvailableAllocationUnits)
	le.PutUint32(e[16:], m.SectorsPerAllocationUnit)
	le.PutUint32(e[20:], m.BytesPerSector)
	return b, nil
}

// ParseFileFsSizeInformation decodes the structure at the start of b.
func ParseFileFsSizeInformation(b []byte) (FileFsSizeInformation, error) {
	if len(b) < fileFsSizeInformationSize {
		return FileFsSizeInformation{}, short("FileFsSizeInformation", len(b), fileFsSizeInformationSize)
	}
	return FileFsSizeInformation{
		TotalAllocationUnits:     le.Uint64(b),
		AvailableAllocationUnits: le.Uint64(b[8:]),
		SectorsPerAllocationUnit: le.Uint32(b[16:]),
		BytesPerSector:           le.Uint32(b[20:]),
	}, nil
}

// FileFsFullSizeInformation is of [MS-FSCC] 2.5.4, 32 octets:
// TotalAllocationUnits (8), CallerAvailableAllocationUnits (8),
// ActualAvailableAllocationUnits (8), SectorsPerAllocationUnit (4), BytesPerSector (4).
type FileFsFullSizeInformation struct {
	TotalAllocationUnits           uint64
	CallerAvailableAllocationUnits uint64
	ActualAvailableAllocationUnits uint64
	SectorsPerAllocationUnit       uint32
	BytesPerSector                 uint32
}

const fileFsFullSizeInformationSize = 32

// AppendBinary appends the structure.
func (m *FileFsFullSizeInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileFsFullSizeInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], m.TotalAllocationUnits)
	le.PutUint64(e[8:], m.CallerAvailableAllocationUnits)
	le.PutUint64(e[16:], m.ActualAvailableAllocationUnits)
	le.PutUint32(e[24:], m.SectorsPerAllocationUnit)
	le.PutUint32(e[28:], m.BytesPerSector)
	return b, nil
}

// ParseFileFsFullSizeInformation decodes the structure at the start of b.
func ParseFileFsFullSizeInformation(b []byte) (FileFsFullSizeInformation, error) {
	if len(b) < fileFsFullSizeInformationSize {
		return FileFsFullSizeInformation{}, short("FileFsFullSizeInformation", len(b), fileFsFullSizeInformationSize)
	}
	return FileFsFullSizeInformation{
		TotalAllocationUnits:           le.Uint64(b),
		CallerAvailableAllocationUnits: le.Uint64(b[8:]),
		ActualAvailableAllocationUnits: le.Uint64(b[16:]),
		SectorsPerAllocationUnit:       le.Uint32(b[24:]),
		BytesPerSector:                 le.Uint32(b[28:]),
	}, nil
}

// FileFsDeviceInformation is of [MS-FSCC] 2.5.10, 8 octets:
// DeviceType (4), Characteristics (4).
type FileFsDeviceInformation struct {
	DeviceType      uint32
	Characteristics uint32
}

const fileFsDeviceInformationSize = 8

// AppendBinary appends the structure.
func (m *FileFsDeviceInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileFsDeviceInformationSize)
	e := b[start:]
	le.PutUint32(e[0:], m.DeviceType)
	le.PutUint32(e[4:], m.Characteristics)
	return b, nil
}

// ParseFileFsDeviceInformation decodes the structure at the start of b.
func ParseFileFsDeviceInformation(b []byte) (FileFsDeviceInformation, error) {
	if len(b) < fileFsDeviceInformationSize {
		return FileFsDeviceInformation{}, short("FileFsDeviceInformation", len(b), fileFsDeviceInformationSize)
	}
	return FileFsDeviceInformation{
		DeviceType:      le.Uint32(b),
		Characteristics: le.Uint32(b[4:]),
	}, nil
}

// Values of FileFsDeviceInformation, [MS-FSCC] 2.5.10.
const (
	DeviceTypeCDROM uint32 = 0x00000002
	DeviceTypeDisk  uint32 = 0x00000007

	DeviceRemovableMedia uint32 = 0x00000001
	DeviceReadOnly       uint32 = 0x00000002
	DeviceFloppyDiskette uint32 = 0x00000004
	DeviceWriteOnceMedia uint32 = 0x00000008
	DeviceRemote         uint32 = 0x00000010
	DeviceIsMounted      uint32 = 0x00000020
	DeviceVirtualVolume  uint32 = 0x00000040
	DeviceSecureOpen     uint32 = 0x00000100
)

// FileFsControlInformation is of [MS-FSCC] 2.5.2, 48 octets:
// FreeSpaceStartFiltering, FreeSpaceThreshold,
// FreeSpaceStopFiltering, DefaultQuotaThreshold, DefaultQuotaLimit (8 each),
// FileSystemControlFlags (4), Padding (4).
type FileFsControlInformation struct {
	FreeSpaceStartFiltering int64
	FreeSpaceThreshold      int64
	FreeSpaceStopFiltering  int64
	DefaultQuotaThreshold   uint64
	DefaultQuotaLimit       uint64
	FileSystemControlFlags  uint32
}

const fileFsControlInformationSize = 48

// AppendBinary appends the structure.
func (m *FileFsControlInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileFsControlInformationSize)
	e := b[start:]
	le.PutUint64(e[0:], uint64(m.FreeSpaceStartFiltering))
	le.PutUint64(e[8:], uint64(m.FreeSpaceThreshold))
	le.PutUint64(e[16:], uint64(m.FreeSpaceStopFiltering))
	le.PutUint64(e[24:], m.DefaultQuotaThreshold)
	le.PutUint64(e[32:], m.DefaultQuotaLimit)
	le.PutUint32(e[40:], m.FileSystemControlFlags)
	return b, nil
}

// ParseFileFsControlInformation decodes the structure at the start of b.
func ParseFileFsControlInformation(b []byte) (FileFsControlInformation, error) {
	if len(b) < fileFsControlInformationSize {
		return FileFsControlInformation{}, short("FileFsControlInformation", len(b), fileFsControlInformationSize)
	}
	return FileFsControlInformation{
		FreeSpaceStartFiltering: int64(le.Uint64(b)),
		FreeSpaceThreshold:      int64(le.Uint64(b[8:])),
		FreeSpaceStopFiltering:  int64(le.Uint64(b[16:])),
		DefaultQuotaThreshold:   le.Uint64(b[24:]),
		DefaultQuotaLimit:       le.Uint64(b[32:]),
		FileSystemControlFlags:  le.Uint32(b[40:]),
	}, nil
}

// FileFsObjectIDInformation is of [MS-FSCC] 2.5.6, 64 octets:
// ObjectId (16), ExtendedInfo (48).
type FileFsObjectIDInformation struct {
	ObjectID     GUID
	ExtendedInfo [48]byte
}

const fileFsObjectIDInformationSize = 64

// AppendBinary appends the structure.
func (m *FileFsObjectIDInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileFsObjectIDInformationSize)
	e := b[start:]
	copy(e[0:], m.ObjectID[:])
	copy(e[16:], m.ExtendedInfo[:])
	return b, nil
}

// ParseFileFsObjectIDInformation decodes the structure at the start of b.
func ParseFileFsObjectIDInformation(b []byte) (FileFsObjectIDInformation, error) {
	if len(b) < fileFsObjectIDInformationSize {
		return FileFsObjectIDInformation{}, short("FileFsObjectIDInformation", len(b), fileFsObjectIDInformationSize)
	}
	return FileFsObjectIDInformation{
		ObjectID:     GUID(b[0:16]),
		ExtendedInfo: [48]byte(b[16:64]),
	}, nil
}

// FileFsSectorSizeInformation is of [MS-FSCC] 2.5.7, 28 octets:
// seven fields of 4.
type FileFsSectorSizeInformation struct {
	LogicalBytesPerSector                       uint32
	PhysicalBytesPerSectorForAtomicity          uint32
	PhysicalBytesPerSectorForPerformance        uint32
	EffectivePhysicalBytesPerSectorForAtomicity uint32
	Flags                                       uint32
	ByteOffsetForSectorAlignment                uint32
	ByteOffsetForPartitionAlignment             uint32
}

const fileFsSectorSizeInformationSize = 28

// AppendBinary appends the structure.
func (m *FileFsSectorSizeInformation) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = zeros(b, fileFsSectorSizeInformationSize)
	e := b[start:]
	le.PutUint32(e[0:], m.LogicalBytesPerSector)
	le.PutUint32(e[4:], m.PhysicalBytesPerSectorForAtomicity)
	le.PutUint32(e[8:], m.PhysicalBytesPerSectorForPerformance)
	le.PutUint32(e[12:], m.EffectivePhysicalBytesPerSectorForAtomicity)
	le.PutUint32(e[16:], m.Flags)
	le.PutUint32(e[20:], m.ByteOffsetForSectorAlignment)
	le.PutUint32(e[24:], m.ByteOffsetForPartitionAlignment)
	return b, nil
}

// ParseFileFsSectorSizeInformation decodes the structure at the start of b.
func ParseFileFsSectorSizeInformation(b []byte) (FileFsSectorSizeInformation, error) {
	if len(b) < fileFsSectorSizeInformationSize {
		return FileFsSectorSizeInformation{}, short("FileFsSectorSizeInformation", len(b), fileFsSectorSizeInformationSize)
	}
	return FileFsSectorSizeInformation{
		LogicalBytesPerSector:                       le.Uint32(b),
		PhysicalBytesPerSectorForAtomicity:          le.Uint32(b[4:]),
		PhysicalBytesPerSectorForPerformance:        le.Uint32(b[8:]),
		EffectivePhysicalBytesPerSectorForAtomicity: le.Uint32(b[12:]),
		Flags:                           le.Uint32(b[16:]),
		ByteOffsetForSectorAlignment:    le.Uint32(b[20:]),
		ByteOffsetForPartitionAlignment: le.Uint32(b[24:]),
	}, nil
}

// Flags of FileFsSectorSizeInformation, [MS-FSCC] 2.5.7.
const (
	SectorSizeAlignedDevice            uint32 = 0x00000001
	SectorSizePartitionAlignedOnDevice uint32 = 0x00000002
	SectorSizeNoSeekPenalty            uint32 = 0x00000004
	SectorSizeTrimEnabled              uint32 = 0x00000008
)

// FileFsVolumeInformation is of [MS-FSCC] 2.5.9: VolumeCreationTime (8),
// VolumeSerialNumber (4), VolumeLabelLength (4), SupportsObjects (1),
// Reserved (1), VolumeLabel.
type FileFsVolumeInformation struct {
	VolumeCreationTime Filetime
	VolumeSerialNumber uint32
	SupportsObjects    bool
	VolumeLabel        string
}

const fileFsVolumeInformationSize = 18

// AppendBinary appends the structure.
func (m *FileFsVolumeInformation) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint64(b, uint64(m.VolumeCreationTime))
	b = le.AppendUint32(b, m.VolumeSerialNumber)
	b = le.AppendUint32(b, uint32(UTF16Len(m.VolumeLabel)))
	b = append(b, boolByte(m.SupportsObjects), 0)
	return AppendUTF16(b, m.VolumeLabel), nil
}

// ParseFileFsVolumeInformation decodes the structure.
func ParseFileFsVolumeInformation(b []byte) (FileFsVolumeInformation, error) {
	const name, size = "FileFsVolumeInformation", fileFsVolumeInformationSize
	if len(b) < size {
		return FileFsVolumeInformation{}, short(name, len(b), size)
	}
	label, err := nameSection(b, name, "VolumeLabel", size, uint64(le.Uint32(b[12:])), size)
	if err != nil {
		return FileFsVolumeInformation{}, err
	}
	return FileFsVolumeInformation{
		VolumeCreationTime: Filetime(le.Uint64(b)),
		VolumeSerialNumber: le.Uint32(b[8:]),
		SupportsObjects:    b[16] != 0,
		VolumeLabel:        DecodeUTF16(label),
	}, nil
}

// FileFsLabelInformation is of [MS-FSCC] 2.5.5: VolumeLabelLength (4), VolumeLabel.
type FileFsLabelInformation struct {
	VolumeLabel string
}

// AppendBinary appends the structure.
func (m *FileFsLabelInformation) AppendBinary(b []byte) ([]byte, error) {
	return appendName32(b, m.VolumeLabel), nil
}

// ParseFileFsLabelInformation decodes the structure.
func ParseFileFsLabelInformation(b []byte) (FileFsLabelInformation, error) {
	s, err := parseName32(b, "FileFsLabelInformation", "VolumeLabel")
	return FileFsLabelInformation{s}, err
}

// FsAttributes are of [MS-FSCC] 2.5.1.
type FsAttributes uint32

const (
	FsCaseSensitiveSearch        FsAttributes = 0x00000001
	FsCasePreservedNames         FsAttributes = 0x00000002
	FsUnicodeOnDisk              FsAttributes = 0x00000004
	FsPersistentACLs             FsAttributes = 0x00000008
	FsFileCompression            FsAttributes = 0x00000010
	FsVolumeQuotas               FsAttributes = 0x00000020
	FsSupportsSparseFiles        FsAttributes = 0x00000040
	FsSupportsReparsePoints      FsAttributes = 0x00000080
	FsSupportsRemoteStorage      FsAttributes = 0x00000100
	FsReturnsCleanupResultInfo   FsAttributes = 0x00000200
	FsSupportsPosixUnlinkRename  FsAttributes = 0x00000400
	FsVolumeIsCompressed         FsAttributes = 0x00008000
	FsSupportsObjectIDs          FsAttributes = 0x00010000
	FsSupportsEncryption         FsAttributes = 0x00020000
	FsNamedStreams               FsAttributes = 0x00040000
	FsReadOnlyVolume             FsAttributes = 0x00080000
	FsSequentialWriteOnce        FsAttributes = 0x00100000
	FsSupportsTransactions       FsAttributes = 0x00200000
	FsSupportsHardLinks          FsAttributes = 0x00400000
	FsSupportsExtendedAttributes FsAttributes = 0x00800000
	FsSupportsOpenByFileID       FsAttributes = 0x01000000
	FsSupportsUSNJournal         FsAttributes = 0x02000000
	FsSupportsIntegrityStreams   FsAttributes = 0x04000000
	FsSupportsBlockRefcounting   FsAttributes = 0x08000000
	FsSupportsSparseVDL          FsAttributes = 0x10000000
)

// FileFsAttributeInformation is of [MS-FSCC] 2.5.1: FileSystemAttributes (4),
// MaximumComponentNameLength (4), FileSystemNameLength (4), FileSystemName.
type FileFsAttributeInformation struct {
	FileSystemAttributes       FsAttributes
	MaximumComponentNameLength uint32 // characters
	FileSystemName             string // such as "NTFS"
}

// AppendBinary appends the structure.
func (m *FileFsAttributeInformation) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint32(b, uint32(m.FileSystemAttributes))
	b = le.AppendUint32(b, m.MaximumComponentNameLength)
	return appendName32(b, m.FileSystemName), nil
}

// ParseFileFsAttributeInformation decodes the structure.
func ParseFileFsAttributeInformation(b []byte) (FileFsAttributeInformation, error) {
	const name = "FileFsAttributeInformation"
	if len(b) < 12 {
		return FileFsAttributeInformation{}, short(name, len(b), 12)
	}
	s, err := parseName32(b[8:], name, "FileSystemName")
	if err != nil {
		return FileFsAttributeInformation{}, err
	}
	return FileFsAttributeInformation{FsAttributes(le.Uint32(b)), le.Uint32(b[4:]), s}, nil
}
