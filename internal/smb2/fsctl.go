package smb2

import (
	"iter"
	"net/netip"
)

// CtlCode is the CtlCode of an IOCTL: of [MS-SMB2] 2.2.31 and [MS-FSCC] 2.3.
type CtlCode uint32

const (
	FsctlDFSGetReferrals           CtlCode = 0x00060194
	FsctlDFSGetReferralsEx         CtlCode = 0x000601B0
	FsctlPipePeek                  CtlCode = 0x0011400C
	FsctlPipeWait                  CtlCode = 0x00110018
	FsctlPipeTransceive            CtlCode = 0x0011C017
	FsctlSrvCopychunk              CtlCode = 0x001440F2
	FsctlSrvCopychunkWrite         CtlCode = 0x001480F2
	FsctlSrvEnumerateSnapshots     CtlCode = 0x00144064
	FsctlSrvRequestResumeKey       CtlCode = 0x00140078
	FsctlSrvReadHash               CtlCode = 0x001441BB
	FsctlLMRRequestResiliency      CtlCode = 0x001401D4
	FsctlLMRSetLinkTracking        CtlCode = 0x001400EC
	FsctlQueryNetworkInterfaceInfo CtlCode = 0x001401FC
	FsctlValidateNegotiateInfo     CtlCode = 0x00140204
	FsctlSetReparsePoint           CtlCode = 0x000900A4
	FsctlGetReparsePoint           CtlCode = 0x000900A8
	FsctlDeleteReparsePoint        CtlCode = 0x000900AC
	FsctlFileLevelTrim             CtlCode = 0x00098208
	FsctlCreateOrGetObjectID       CtlCode = 0x000900C0
	FsctlGetObjectID               CtlCode = 0x0009009C
	FsctlSetObjectID               CtlCode = 0x00090098
	FsctlDeleteObjectID            CtlCode = 0x000900A0
	FsctlDuplicateExtentsToFile    CtlCode = 0x00098344
	FsctlDuplicateExtentsToFileEx  CtlCode = 0x000983E8
	FsctlFilesystemGetStatistics   CtlCode = 0x00090060
	FsctlGetCompression            CtlCode = 0x0009003C
	FsctlSetCompression            CtlCode = 0x0009C040
	FsctlGetIntegrityInformation   CtlCode = 0x0009027C
	FsctlSetIntegrityInformation   CtlCode = 0x0009C280
	FsctlGetNTFSVolumeData         CtlCode = 0x00090064
	FsctlGetRetrievalPointers      CtlCode = 0x00090073
	FsctlIsPathnameValid           CtlCode = 0x0009002C
	FsctlMarkHandle                CtlCode = 0x000900FC
	FsctlOffloadRead               CtlCode = 0x00094264
	FsctlOffloadWrite              CtlCode = 0x00098268
	FsctlQueryAllocatedRanges      CtlCode = 0x000940CF
	FsctlQueryFileRegions          CtlCode = 0x00090284
	FsctlQueryOnDiskVolumeInfo     CtlCode = 0x0009013C
	FsctlQuerySparingInfo          CtlCode = 0x00090138
	FsctlReadFileUSNData           CtlCode = 0x000900EB
	FsctlSetEncryption             CtlCode = 0x000900D7
	FsctlSetSparse                 CtlCode = 0x000900C4
	FsctlSetZeroData               CtlCode = 0x000980C8
	FsctlSetZeroOnDeallocation     CtlCode = 0x00090194
	FsctlWriteUSNCloseRecord       CtlCode = 0x000900EF
)

// ValidateNegotiateInfoRequest is the input of FSCTL_VALIDATE_NEGOTIATE_INFO,
// [MS-SMB2] 2.2.31.4: Capabilities (4), Guid (16), SecurityMode (2),
// DialectCount (2), Dialects.
type ValidateNegotiateInfoRequest struct {
	Capabilities Capabilities
	GUID         GUID
	SecurityMode SecurityMode
	Dialects     []Dialect // a copy when parsed
}

// AppendBinary appends the structure.
func (m *ValidateNegotiateInfoRequest) AppendBinary(b []byte) ([]byte, error) {
	if len(m.Dialects) > 0xFFFF {
		return b, tooLong("VALIDATE_NEGOTIATE_INFO request", "Dialects", len(m.Dialects))
	}
	b = le.AppendUint32(b, uint32(m.Capabilities))
	b = append(b, m.GUID[:]...)
	b = le.AppendUint16(b, uint16(m.SecurityMode))
	b = le.AppendUint16(b, uint16(len(m.Dialects)))
	return appendIDs(b, m.Dialects), nil
}

// ParseValidateNegotiateInfoRequest decodes the structure.
func ParseValidateNegotiateInfoRequest(b []byte) (ValidateNegotiateInfoRequest, error) {
	const name = "VALIDATE_NEGOTIATE_INFO request"
	if len(b) < 24 {
		return ValidateNegotiateInfoRequest{}, short(name, len(b), 24)
	}
	dialects, err := parseIDs[Dialect](b, name, 24, le.Uint16(b[22:]))
	if err != nil {
		return ValidateNegotiateInfoRequest{}, err
	}
	return ValidateNegotiateInfoRequest{
		Capabilities: Capabilities(le.Uint32(b)),
		GUID:         GUID(b[4:20]),
		SecurityMode: SecurityMode(le.Uint16(b[20:])),
		Dialects:     dialects,
	}, nil
}

// ValidateNegotiateInfoResponse is the output, [MS-SMB2] 2.2.32.6:
// Capabilities (4), Guid (16), SecurityMode (2), Dialect (2).
type ValidateNegotiateInfoResponse struct {
	Capabilities Capabilities
	GUID         GUID
	SecurityMode SecurityMode
	Dialect      Dialect
}

// AppendBinary appends the structure.
func (m *ValidateNegotiateInfoResponse) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint32(b, uint32(m.Capabilities))
	b = append(b, m.GUID[:]...)
	b = le.AppendUint16(b, uint16(m.SecurityMode))
	return le.AppendUint16(b, uint16(m.Dialect)), nil
}

// ParseValidateNegotiateInfoResponse decodes the structure.
func ParseValidateNegotiateInfoResponse(b []byte) (ValidateNegotiateInfoResponse, error) {
	if len(b) < 24 {
		return ValidateNegotiateInfoResponse{}, short("VALIDATE_NEGOTIATE_INFO response", len(b), 24)
	}
	return ValidateNegotiateInfoResponse{
		Capabilities: Capabilities(le.Uint32(b)),
		GUID:         GUID(b[4:20]),
		SecurityMode: SecurityMode(le.Uint16(b[20:])),
		Dialect:      Dialect(le.Uint16(b[22:])),
	}, nil
}

// Capability of NetworkInterfaceInfo, [MS-SMB2] 2.2.32.5.
const (
	InterfaceRSSCapable  uint32 = 0x00000001
	InterfaceRDMACapable uint32 = 0x00000002
)

const (
	networkInterfaceInfoSize = 152
	familyInterNetwork       = 0x0002
	familyInterNetworkV6     = 0x0017
)

// NetworkInterfaceInfo is NETWORK_INTERFACE_INFO, [MS-SMB2] 2.2.32.5, an
// element of the output of FSCTL_QUERY_NETWORK_INTERFACE_INFO:
//
//	0 Next   4 IfIndex   8 Capability   12 Reserved   16 LinkSpeed
//	24 SockAddr_Storage (128): Family (2), then
//	   IPv4: Port (2), address (4)
//	   IPv6: Port (2), FlowInfo (4), address (16), ScopeId (4)
//
// Port numbers are reserved and not kept.
type NetworkInterfaceInfo struct {
	IfIndex    uint32
	Capability uint32 // InterfaceRSSCapable, InterfaceRDMACapable
	LinkSpeed  uint64 // bits per second
	// Addr is invalid (the zero value) for a family that is neither IPv4 nor
	// IPv6. ScopeId is not kept.
	Addr netip.Addr
}

// AppendNetworkInterfaceInfos appends the whole list.
func AppendNetworkInterfaceInfos(b []byte, list []NetworkInterfaceInfo) []byte {
	for i, n := range list {
		start := len(b)
		b = zeros(b, networkInterfaceInfoSize)
		e := b[start:]
		if i < len(list)-1 {
			le.PutUint32(e, networkInterfaceInfoSize)
		}
		le.PutUint32(e[4:], n.IfIndex)
		le.PutUint32(e[8:], n.Capability)
		le.PutUint64(e[16:], n.LinkSpeed)
		switch a := n.Addr.Unmap(); {
		case a.Is4():
			le.PutUint16(e[24:], familyInterNetwork)
			ip := a.As4()
			copy(e[28:], ip[:])
		case a.Is6():
			le.PutUint16(e[24:], familyInterNetworkV6)
			ip := a.As16()
			copy(e[32:], ip[:])
		}
	}
	return b
}

// NetworkInterfaceInfos yields the elements of the list in b; at the first
// fault it yields an error and stops.
func NetworkInterfaceInfos(b []byte) iter.Seq2[NetworkInterfaceInfo, error] {
	return func(yield func(NetworkInterfaceInfo, error) bool) {
		for e, err := range entries(b, "NETWORK_INTERFACE_INFO", networkInterfaceInfoSize) {
			if err != nil {
				yield(NetworkInterfaceInfo{}, err)
				return
			}
			n := NetworkInterfaceInfo{
				IfIndex:    le.Uint32(e[4:]),
				Capability: le.Uint32(e[8:]),
				LinkSpeed:  le.Uint64(e[16:]),
			}
			switch le.Uint16(e[24:]) {
			case familyInterNetwork:
				n.Addr = netip.AddrFrom4([4]byte(e[28:32]))
			case familyInterNetworkV6:
				n.Addr = netip.AddrFrom16([16]byte(e[32:48])).Unmap()
			}
			if !yield(n, nil) {
				return
			}
		}
	}
}

// ResumeKey names an open as the source of a server-side copy.
type ResumeKey [24]byte

// RequestResumeKeyResponse is the output of FSCTL_SRV_REQUEST_RESUME_KEY,
// [MS-SMB2] 2.2.32.3: ResumeKey (24), ContextLength (4), Context. Four zero
// octets stand for the context, as Windows sends it.
type RequestResumeKeyResponse struct {
	ResumeKey ResumeKey
}

// AppendBinary appends the structure.
func (m *RequestResumeKeyResponse) AppendBinary(b []byte) ([]byte, error) {
	return zeros(append(b, m.ResumeKey[:]...), 8), nil
}

// ParseRequestResumeKeyResponse decodes the structure; the context is ignored.
func ParseRequestResumeKeyResponse(b []byte) (RequestResumeKeyResponse, error) {
	if len(b) < 28 {
		return RequestResumeKeyResponse{}, short("SRV_REQUEST_RESUME_KEY", len(b), 28)
	}
	return RequestResumeKeyResponse{ResumeKey(b[:24])}, nil
}

// CopyChunk is SRV_COPYCHUNK, [MS-SMB2] 2.2.31.1.1: SourceOffset (8),
// TargetOffset (8), Length (4), Reserved (4).
type CopyChunk struct {
	SourceOffset uint64
	TargetOffset uint64
	Length       uint32 // octets
}

// CopyChunkCopy is SRV_COPYCHUNK_COPY, [MS-SMB2] 2.2.31.1, the input of
// FSCTL_SRV_COPYCHUNK and FSCTL_SRV_COPYCHUNK_WRITE: SourceKey (24),
// ChunkCount (4), Reserved (4), Chunks.
type CopyChunkCopy struct {
	SourceKey ResumeKey
	Chunks    []CopyChunk // a copy when parsed
}

const (
	copyChunkCopySize = 32
	copyChunkSize     = 24
)

// AppendBinary appends the structure.
func (m *CopyChunkCopy) AppendBinary(b []byte) ([]byte, error) {
	if uint64(len(m.Chunks)) > 0xFFFFFFFF {
		return b, tooLong("SRV_COPYCHUNK_COPY", "Chunks", len(m.Chunks))
	}
	b = append(b, m.SourceKey[:]...)
	b = le.AppendUint32(b, uint32(len(m.Chunks)))
	b = zeros(b, 4)
	for _, c := range m.Chunks {
		b = le.AppendUint64(b, c.SourceOffset)
		b = le.AppendUint64(b, c.TargetOffset)
		b = le.AppendUint32(b, c.Length)
		b = zeros(b, 4)
	}
	return b, nil
}

// ParseCopyChunkCopy decodes the structure.
func ParseCopyChunkCopy(b []byte) (CopyChunkCopy, error) {
	const name = "SRV_COPYCHUNK_COPY"
	if len(b) < copyChunkCopySize {
		return CopyChunkCopy{}, short(name, len(b), copyChunkCopySize)
	}
	count := uint64(le.Uint32(b[24:]))
	if fit := uint64(len(b)-copyChunkCopySize) / copyChunkSize; count > fit {
		return CopyChunkCopy{}, bad(name, "ChunkCount", count, fit)
	}
	m := CopyChunkCopy{SourceKey: ResumeKey(b[:24]), Chunks: make([]CopyChunk, count)}
	for i := range m.Chunks {
		c := b[copyChunkCopySize+i*copyChunkSize:]
		m.Chunks[i] = CopyChunk{le.Uint64(c), le.Uint64(c[8:]), le.Uint32(c[16:])}
	}
	return m, nil
}

// CopyChunkResponse is SRV_COPYCHUNK_RESPONSE, [MS-SMB2] 2.2.32.1. With
// STATUS_INVALID_PARAMETER the fields are the server's limits: chunks, octets
// per chunk, octets in all.
type CopyChunkResponse struct {
	ChunksWritten     uint32
	ChunkBytesWritten uint32
	TotalBytesWritten uint32
}

// AppendBinary appends the structure.
func (m *CopyChunkResponse) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint32(b, m.ChunksWritten)
	b = le.AppendUint32(b, m.ChunkBytesWritten)
	return le.AppendUint32(b, m.TotalBytesWritten), nil
}

// ParseCopyChunkResponse decodes the structure.
func ParseCopyChunkResponse(b []byte) (CopyChunkResponse, error) {
	if len(b) < 12 {
		return CopyChunkResponse{}, short("SRV_COPYCHUNK_RESPONSE", len(b), 12)
	}
	return CopyChunkResponse{le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])}, nil
}

// SnapshotArray is SRV_SNAPSHOT_ARRAY, [MS-SMB2] 2.2.32.2, the output of
// FSCTL_SRV_ENUMERATE_SNAPSHOTS: NumberOfSnapShots (4), NumberOfSnapShotsReturned (4),
// SnapShotArraySize (4), SnapShots, each of which ends with a NUL, as does the row.
type SnapshotArray struct {
	Total, Returned uint32
	Size            uint32 // octets of the names of all, whether they are there or not
	Names           []string
}

const snapshotArrayHeader = 12

// ParseSnapshotArray decodes the structure.
func ParseSnapshotArray(b []byte) (SnapshotArray, error) {
	const name = "SRV_SNAPSHOT_ARRAY"
	if len(b) < snapshotArrayHeader {
		return SnapshotArray{}, short(name, len(b), snapshotArrayHeader)
	}
	m := SnapshotArray{Total: le.Uint32(b), Returned: le.Uint32(b[4:]), Size: le.Uint32(b[8:])}
	rest := b[snapshotArrayHeader:]
	// This bounds the allocation too: a name has one code unit and its NUL.
	if fit := uint64(len(rest)) / 4; uint64(m.Returned) > fit || m.Returned > m.Total {
		return SnapshotArray{}, bad(name, "NumberOfSnapShotsReturned", uint64(m.Returned), min(fit, uint64(m.Total)))
	}
	for range m.Returned {
		end := 0
		for end+1 < len(rest) && le.Uint16(rest[end:]) != 0 {
			end += 2
		}
		if end+1 >= len(rest) || end == 0 {
			return SnapshotArray{}, bad(name, "end of a name", uint64(end), uint64(len(rest)))
		}
		m.Names = append(m.Names, DecodeUTF16(rest[:end]))
		rest = rest[end+2:]
	}
	return m, nil
}

// NetworkResiliencyRequest is the input of FSCTL_LMR_REQUEST_RESILIENCY,
// [MS-SMB2] 2.2.31.3: Timeout (4), Reserved (4).
type NetworkResiliencyRequest struct {
	Timeout uint32 // milliseconds
}

// AppendBinary appends the structure.
func (m *NetworkResiliencyRequest) AppendBinary(b []byte) ([]byte, error) {
	return zeros(le.AppendUint32(b, m.Timeout), 4), nil
}

// ParseNetworkResiliencyRequest decodes the structure.
func ParseNetworkResiliencyRequest(b []byte) (NetworkResiliencyRequest, error) {
	if len(b) < 8 {
		return NetworkResiliencyRequest{}, short("NETWORK_RESILIENCY_REQUEST", len(b), 8)
	}
	return NetworkResiliencyRequest{le.Uint32(b)}, nil
}

// PipeWaitRequest is the input of FSCTL_PIPE_WAIT, [MS-FSCC] 2.3.49:
// Timeout (8), NameLength (4), TimeoutSpecified (1), Padding (1), Name.
type PipeWaitRequest struct {
	Timeout          int64 // units of 100 milliseconds by [MS-FSCC]; see TimeoutSpecified
	TimeoutSpecified bool  // false: wait for ever
	Name             string
}

// AppendBinary appends the structure.
func (m *PipeWaitRequest) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint64(b, uint64(m.Timeout))
	b = le.AppendUint32(b, uint32(UTF16Len(m.Name)))
	b = append(b, boolByte(m.TimeoutSpecified), 0)
	return AppendUTF16(b, m.Name), nil
}

// ParsePipeWaitRequest decodes the structure.
func ParsePipeWaitRequest(b []byte) (PipeWaitRequest, error) {
	const name, size = "FSCTL_PIPE_WAIT", 14
	if len(b) < size {
		return PipeWaitRequest{}, short(name, len(b), size)
	}
	pipe, err := nameSection(b, name, "Name", size, uint64(le.Uint32(b[8:])), size)
	if err != nil {
		return PipeWaitRequest{}, err
	}
	return PipeWaitRequest{int64(le.Uint64(b)), b[12] != 0, DecodeUTF16(pipe)}, nil
}

// ZeroDataInformation is FILE_ZERO_DATA_INFORMATION, the input of
// FSCTL_SET_ZERO_DATA, [MS-FSCC] 2.3.85: FileOffset (8), BeyondFinalZero (8).
type ZeroDataInformation struct {
	FileOffset      int64
	BeyondFinalZero int64 // the first octet not zeroed
}

// AppendBinary appends the structure.
func (m *ZeroDataInformation) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint64(b, uint64(m.FileOffset))
	return le.AppendUint64(b, uint64(m.BeyondFinalZero)), nil
}

// ParseZeroDataInformation decodes the structure.
func ParseZeroDataInformation(b []byte) (ZeroDataInformation, error) {
	if len(b) < 16 {
		return ZeroDataInformation{}, short("FILE_ZERO_DATA_INFORMATION", len(b), 16)
	}
	return ZeroDataInformation{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))}, nil
}

// SetSparseBuffer is the input of FSCTL_SET_SPARSE, [MS-FSCC] 2.3.83; an empty
// input means true.
type SetSparseBuffer struct {
	SetSparse bool
}

// AppendBinary appends the structure.
func (m *SetSparseBuffer) AppendBinary(b []byte) ([]byte, error) {
	return append(b, boolByte(m.SetSparse)), nil
}

// ParseSetSparseBuffer decodes the structure. It never gives an error.
func ParseSetSparseBuffer(b []byte) (SetSparseBuffer, error) {
	return SetSparseBuffer{len(b) == 0 || b[0] != 0}, nil
}

// AllocatedRange is FILE_ALLOCATED_RANGE_BUFFER, [MS-FSCC] 2.3.51 and 2.3.52:
// FileOffset (8), Length (8). One is the input of
// FSCTL_QUERY_ALLOCATED_RANGES, a row of them its output.
type AllocatedRange struct {
	FileOffset int64
	Length     int64
}

const allocatedRangeSize = 16

// AppendBinary appends one range.
func (m *AllocatedRange) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint64(b, uint64(m.FileOffset))
	return le.AppendUint64(b, uint64(m.Length)), nil
}

// ParseAllocatedRange decodes the range at the start of b.
func ParseAllocatedRange(b []byte) (AllocatedRange, error) {
	if len(b) < allocatedRangeSize {
		return AllocatedRange{}, short("FILE_ALLOCATED_RANGE_BUFFER", len(b), allocatedRangeSize)
	}
	return AllocatedRange{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))}, nil
}

// ParseAllocatedRanges decodes a row of ranges, all of b.
func ParseAllocatedRanges(b []byte) ([]AllocatedRange, error) {
	if len(b)%allocatedRangeSize != 0 {
		return nil, bad("FILE_ALLOCATED_RANGE_BUFFER", "length", uint64(len(b)), allocatedRangeSize)
	}
	list := make([]AllocatedRange, 0, len(b)/allocatedRangeSize)
	for ; len(b) > 0; b = b[allocatedRangeSize:] {
		list = append(list, AllocatedRange{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))})
	}
	return list, nil
}

// Usages of a FileRegion, [MS-FSCC] 2.3.55.
const (
	FileRegionValidCached    uint32 = 0x00000001
	FileRegionValidNoncached uint32 = 0x00000002
)

// FileRegion is FILE_REGION_INPUT and FILE_REGION_INFO, [MS-FSCC] 2.3.55 and 2.3.56.1:
// FileOffset (8), Length (8), DesiredUsage (4), Reserved (4).
type FileRegion struct {
	FileOffset, Length int64
	Usage              uint32
}

const (
	fileRegionSize       = 24
	fileRegionHeaderSize = 16
	// FileRegionOutputSize is the size of a FileRegionOutput with one region, in
	// octets.
	FileRegionOutputSize = fileRegionHeaderSize + fileRegionSize
)

// AppendBinary appends the structure.
func (m *FileRegion) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint64(b, uint64(m.FileOffset))
	b = le.AppendUint64(b, uint64(m.Length))
	return zeros(le.AppendUint32(b, m.Usage), 4), nil
}

// ParseFileRegion decodes the structure at the start of b.
func ParseFileRegion(b []byte) (FileRegion, error) {
	if len(b) < fileRegionSize {
		return FileRegion{}, short("FILE_REGION_INPUT", len(b), fileRegionSize)
	}
	return FileRegion{int64(le.Uint64(b)), int64(le.Uint64(b[8:])), le.Uint32(b[16:])}, nil
}

// FileRegionOutput is FILE_REGION_OUTPUT, [MS-FSCC] 2.3.56, the output of
// FSCTL_QUERY_FILE_REGIONS: Flags (4), TotalRegionEntryCount (4),
// RegionEntryCount (4), Reserved (4), Region.
type FileRegionOutput struct {
	Total   uint32       // regions that there are
	Regions []FileRegion // those that fit; a copy when parsed
}

// AppendBinary appends the structure.
func (m *FileRegionOutput) AppendBinary(b []byte) ([]byte, error) {
	if uint64(len(m.Regions)) > 0xFFFFFFFF {
		return b, tooLong("FILE_REGION_OUTPUT", "Region", len(m.Regions))
	}
	b = zeros(b, 4)
	b = le.AppendUint32(b, m.Total)
	b = le.AppendUint32(b, uint32(len(m.Regions)))
	b = zeros(b, 4)
	for i := range m.Regions {
		b, _ = m.Regions[i].AppendBinary(b)
	}
	return b, nil
}

// ParseFileRegionOutput decodes the structure.
func ParseFileRegionOutput(b []byte) (FileRegionOutput, error) {
	const name = "FILE_REGION_OUTPUT"
	if len(b) < fileRegionHeaderSize {
		return FileRegionOutput{}, short(name, len(b), fileRegionHeaderSize)
	}
	count := uint64(le.Uint32(b[8:]))
	if fit := uint64(len(b)-fileRegionHeaderSize) / fileRegionSize; count > fit {
		return FileRegionOutput{}, bad(name, "RegionEntryCount", count, fit)
	}
	m := FileRegionOutput{Total: le.Uint32(b[4:]), Regions: make([]FileRegion, count)}
	for i := range m.Regions {
		m.Regions[i], _ = ParseFileRegion(b[fileRegionHeaderSize+i*fileRegionSize:])
	}
	return m, nil
}

// DuplicateExtentsData is SMB2_DUPLICATE_EXTENTS_DATA, the input of
// FSCTL_DUPLICATE_EXTENTS_TO_FILE, [MS-FSCC] 2.3.7.2: SourceFileID (16),
// SourceFileOffset (8), TargetFileOffset (8), ByteCount (8).
type DuplicateExtentsData struct {
	SourceFileID     FileID
	SourceFileOffset int64
	TargetFileOffset int64
	ByteCount        int64
}

// AppendBinary appends the structure.
func (m *DuplicateExtentsData) AppendBinary(b []byte) ([]byte, error) {
	b = m.SourceFileID.append(b)
	b = le.AppendUint64(b, uint64(m.SourceFileOffset))
	b = le.AppendUint64(b, uint64(m.TargetFileOffset))
	return le.AppendUint64(b, uint64(m.ByteCount)), nil
}

// ParseDuplicateExtentsData decodes the structure.
func ParseDuplicateExtentsData(b []byte) (DuplicateExtentsData, error) {
	if len(b) < 40 {
		return DuplicateExtentsData{}, short("DUPLICATE_EXTENTS_DATA", len(b), 40)
	}
	return DuplicateExtentsData{
		SourceFileID:     parseFileID(b),
		SourceFileOffset: int64(le.Uint64(b[16:])),
		TargetFileOffset: int64(le.Uint64(b[24:])),
		ByteCount:        int64(le.Uint64(b[32:])),
	}, nil
}

// CompressionFormat is of [MS-FSCC] 2.3.18 and 2.4.9.
type CompressionFormat uint16

const (
	CompressionFormatNone    CompressionFormat = 0x0000
	CompressionFormatDefault CompressionFormat = 0x0001
	CompressionFormatLZNT1   CompressionFormat = 0x0002
)

// AppendCompressionFormat appends the output of FSCTL_GET_COMPRESSION, which
// is also the input of FSCTL_SET_COMPRESSION ([MS-FSCC] 2.3.18, 2.3.67).
func AppendCompressionFormat(b []byte, f CompressionFormat) []byte {
	return le.AppendUint16(b, uint16(f))
}

// ParseCompressionFormat decodes what AppendCompressionFormat makes.
func ParseCompressionFormat(b []byte) (CompressionFormat, error) {
	if len(b) < 2 {
		return 0, short("compression state", len(b), 2)
	}
	return CompressionFormat(le.Uint16(b)), nil
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}
