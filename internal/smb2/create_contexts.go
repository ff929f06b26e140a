package smb2

import (
	"iter"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Names of create contexts, [MS-SMB2] 2.2.13.2, as they stand on the wire.
const (
	CreateContextEABuffer               = "ExtA"
	CreateContextSDBuffer               = "SecD"
	CreateContextDurableHandle          = "DHnQ" // request and response
	CreateContextDurableHandleReconnect = "DHnC"
	CreateContextAllocationSize         = "AlSi"
	CreateContextQueryMaximalAccess     = "MxAc"
	CreateContextTimewarpToken          = "TWrp"
	CreateContextQueryOnDiskID          = "QFid"
	CreateContextLease                  = "RqLs" // v1 and v2, told apart by their size
	CreateContextDurableHandleV2        = "DH2Q" // request and response
	CreateContextDurableHandleV2Reconn  = "DH2C"
	CreateContextAppInstanceID          = "\x45\xBC\xA6\x6A\xEF\xA7\xF7\x4A\x90\x08\xFA\x46\x2E\x14\x4D\x74"
	CreateContextAppInstanceVersion     = "\xB9\x82\xD0\xB7\x3B\x56\x07\x4F\xA0\x7B\x52\x4A\x81\x16\xA0\x10"
	CreateContextSVHDXOpenDevice        = "\x9C\xCB\xCF\x9E\x04\xC1\xE6\x43\x98\x0E\x15\x8D\xA1\xF6\xEC\x83"
	CreateContextAAPL                   = "AAPL" // Apple's extension; its data is left raw
	// CreateContextPosix is the tag of the SMB3 POSIX extensions, the value
	// that [MS-SMB2] lists as SMB2_CREATECONTEXT_RESERVED.
	CreateContextPosix = "\x93\xAD\x25\x50\x9C\xB4\x11\xE7\xB4\x23\x83\xDE\x96\x8B\xCD\x7C"
)

// CreateContext is one SMB2_CREATE_CONTEXT, [MS-SMB2] 2.2.13.2:
//
//	0 Next   4 NameOffset, NameLength   8 Reserved   10 DataOffset   12 DataLength   16 Buffer
type CreateContext struct {
	Name []byte // compare as string(c.Name) == CreateContextLease; borrowed
	Data []byte // borrowed
}

const createContextSize = 16

// CreateContexts yields the contexts of a list, the Contexts of a CREATE
// request or response. At the first fault it yields an error and stops.
// Contexts in a list are at multiples of 8, which is checked, as is that names
// are not empty.
func CreateContexts(list []byte) iter.Seq2[CreateContext, error] {
	const name = "create context"
	return func(yield func(CreateContext, error) bool) {
		for len(list) > 0 {
			if len(list) < createContextSize {
				yield(CreateContext{}, short(name, len(list), createContextSize))
				return
			}
			cur := list
			next := uint64(le.Uint32(list))
			if next != 0 {
				if next%8 != 0 || next < createContextSize || next >= uint64(len(list)) {
					yield(CreateContext{}, bad(name, "Next", next, uint64(len(list))))
					return
				}
				cur = list[:next:next]
			}
			nameLen := uint64(le.Uint16(cur[6:]))
			if nameLen == 0 {
				yield(CreateContext{}, bad(name, "NameLength", 0, 4))
				return
			}
			tag, err := section(cur, name, "Name", uint64(le.Uint16(cur[4:])), nameLen, createContextSize)
			if err != nil {
				yield(CreateContext{}, err)
				return
			}
			data, err := section(cur, name, "Data", uint64(le.Uint16(cur[10:])), uint64(le.Uint32(cur[12:])), createContextSize)
			if err != nil {
				yield(CreateContext{}, err)
				return
			}
			if !yield(CreateContext{tag, data}, nil) || next == 0 {
				return
			}
			list = list[next:]
		}
	}
}

// FindCreateContext returns the data of the first context of that name (not
// nil if found, even when empty), or an error if the list up to there is malformed.
func FindCreateContext(list []byte, name string) (data []byte, found bool, err error) {
	for c, err := range CreateContexts(list) {
		if err != nil {
			return nil, false, err
		}
		if string(c.Name) == name {
			if c.Data == nil {
				return []byte{}, true, nil
			}
			return c.Data, true, nil
		}
	}
	return nil, false, nil
}

// AppendCreateContext appends a context to list, which holds the whole list so
// far (from nil or length 0) and nothing else, and links it to the one before.
// The list must be one that this function made.
func AppendCreateContext(list []byte, name string, data []byte) ([]byte, error) {
	if len(name) > 0xFF { // so that DataOffset fits with ease
		return list, tooLong("create context", "Name", len(name))
	}
	if uint64(len(data)) > 0xFFFFFFFF {
		return list, tooLong("create context", "Data", len(data))
	}
	if len(list) > 0 {
		last := 0
		for next := int(le.Uint32(list)); next != 0; next = int(le.Uint32(list[last:])) {
			last += next
		}
		list = pad(list, 0, 8)
		le.PutUint32(list[last:], uint32(len(list)-last))
	}
	start := len(list)
	list = zeros(list, 4)
	list = le.AppendUint16(list, createContextSize)
	list = le.AppendUint16(list, uint16(len(name)))
	list = zeros(list, 2)
	if len(data) > 0 {
		list = le.AppendUint16(list, uint16(alignUp(createContextSize+len(name), 8)))
	} else {
		list = zeros(list, 2)
	}
	list = le.AppendUint32(list, uint32(len(data)))
	list = append(list, name...)
	list = pad(list, start, 8)
	return append(list, data...), nil
}

// MaximalAccessRequest is the data of an "MxAc" request, [MS-SMB2] 2.2.13.2.5;
// it is empty or 8 octets.
type MaximalAccessRequest struct {
	Timestamp Filetime // FiletimeNone: not given, and encoded as empty
}

// AppendBinary appends the context's data.
func (c *MaximalAccessRequest) AppendBinary(b []byte) ([]byte, error) {
	if c.Timestamp == FiletimeNone {
		return b, nil
	}
	return le.AppendUint64(b, uint64(c.Timestamp)), nil
}

// ParseMaximalAccessRequest decodes the context's data.
func ParseMaximalAccessRequest(b []byte) (MaximalAccessRequest, error) {
	switch len(b) {
	case 0:
		return MaximalAccessRequest{}, nil
	case 8:
		return MaximalAccessRequest{Filetime(le.Uint64(b))}, nil
	}
	return MaximalAccessRequest{}, bad("MxAc request", "DataLength", uint64(len(b)), 8)
}

// MaximalAccessResponse is the data of an "MxAc" response, [MS-SMB2] 2.2.14.2.5:
// QueryStatus (4), MaximalAccess (4).
type MaximalAccessResponse struct {
	QueryStatus   ntstatus.Status
	MaximalAccess AccessMask
}

// AppendBinary appends the context's data.
func (c *MaximalAccessResponse) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint32(b, uint32(c.QueryStatus))
	return le.AppendUint32(b, uint32(c.MaximalAccess)), nil
}

// ParseMaximalAccessResponse decodes the context's data.
func ParseMaximalAccessResponse(b []byte) (MaximalAccessResponse, error) {
	if len(b) < 8 {
		return MaximalAccessResponse{}, short("MxAc response", len(b), 8)
	}
	return MaximalAccessResponse{ntstatus.Status(le.Uint32(b)), AccessMask(le.Uint32(b[4:]))}, nil
}

// OnDiskIDResponse is the data of a "QFid" response, [MS-SMB2] 2.2.14.2.9:
// DiskFileId (8), VolumeId (8), Reserved (16). The request has no data.
type OnDiskIDResponse struct {
	DiskFileID uint64
	VolumeID   uint64
}

// AppendBinary appends the context's data.
func (c *OnDiskIDResponse) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint64(b, c.DiskFileID)
	b = le.AppendUint64(b, c.VolumeID)
	return zeros(b, 16), nil
}

// ParseOnDiskIDResponse decodes the context's data.
func ParseOnDiskIDResponse(b []byte) (OnDiskIDResponse, error) {
	if len(b) < 32 {
		return OnDiskIDResponse{}, short("QFid response", len(b), 32)
	}
	return OnDiskIDResponse{le.Uint64(b), le.Uint64(b[8:])}, nil
}

// Flags of Lease, [MS-SMB2] 2.2.13.2.10, 2.2.14.2.10 and 2.2.14.2.11.
const (
	LeaseFlagBreakInProgress   uint32 = 0x00000002
	LeaseFlagParentLeaseKeySet uint32 = 0x00000004
)

// Lease is the data of an "RqLs" context, request and response, versions 1
// (32 octets) and 2 (52 octets), [MS-SMB2] 2.2.13.2.8, 2.2.13.2.10:
//
//	0 LeaseKey   16 LeaseState   20 Flags   24 LeaseDuration
//	32 ParentLeaseKey   48 Epoch   50 Reserved
type Lease struct {
	Version        int // 1 or 2; 0 is encoded as 1
	LeaseKey       GUID
	LeaseState     LeaseState
	Flags          uint32
	ParentLeaseKey GUID   // version 2
	Epoch          uint16 // version 2
}

const (
	leaseV1Size = 32
	leaseV2Size = 52
)

// AppendBinary appends the context's data.
func (c *Lease) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, c.LeaseKey[:]...)
	b = le.AppendUint32(b, uint32(c.LeaseState))
	b = le.AppendUint32(b, c.Flags)
	b = zeros(b, 8)
	if c.Version < 2 {
		return b, nil
	}
	b = append(b, c.ParentLeaseKey[:]...)
	b = le.AppendUint16(b, c.Epoch)
	return zeros(b, 2), nil
}

// ParseLease decodes the context's data; its length decides the version.
func ParseLease(b []byte) (Lease, error) {
	if len(b) != leaseV1Size && len(b) != leaseV2Size {
		return Lease{}, bad("RqLs", "DataLength", uint64(len(b)), leaseV1Size)
	}
	c := Lease{
		Version:    1,
		LeaseKey:   GUID(b[:16]),
		LeaseState: LeaseState(le.Uint32(b[16:])),
		Flags:      le.Uint32(b[20:]),
	}
	if len(b) == leaseV2Size {
		c.Version = 2
		c.ParentLeaseKey = GUID(b[32:48])
		c.Epoch = le.Uint16(b[48:])
	}
	return c, nil
}

// DurableHandleRequest is the data of a "DHnQ" request, [MS-SMB2] 2.2.13.2.3:
// 16 reserved octets.
type DurableHandleRequest struct{}

// AppendBinary appends the context's data.
func (c *DurableHandleRequest) AppendBinary(b []byte) ([]byte, error) { return zeros(b, 16), nil }

// ParseDurableHandleRequest checks the context's data.
func ParseDurableHandleRequest(b []byte) (DurableHandleRequest, error) {
	if len(b) != 16 {
		return DurableHandleRequest{}, bad("DHnQ request", "DataLength", uint64(len(b)), 16)
	}
	return DurableHandleRequest{}, nil
}

// DurableHandleResponse is the data of a "DHnQ" response, [MS-SMB2] 2.2.14.2.3:
// 8 reserved octets.
type DurableHandleResponse struct{}

// AppendBinary appends the context's data.
func (c *DurableHandleResponse) AppendBinary(b []byte) ([]byte, error) { return zeros(b, 8), nil }

// ParseDurableHandleResponse checks the context's data.
func ParseDurableHandleResponse(b []byte) (DurableHandleResponse, error) {
	if len(b) < 8 {
		return DurableHandleResponse{}, short("DHnQ response", len(b), 8)
	}
	return DurableHandleResponse{}, nil
}

// DurableHandleReconnect is the data of "DHnC", [MS-SMB2] 2.2.13.2.4.
type DurableHandleReconnect struct {
	FileID FileID
}

// AppendBinary appends the context's data.
func (c *DurableHandleReconnect) AppendBinary(b []byte) ([]byte, error) {
	return c.FileID.append(b), nil
}

// ParseDurableHandleReconnect decodes the context's data.
func ParseDurableHandleReconnect(b []byte) (DurableHandleReconnect, error) {
	if len(b) != 16 {
		return DurableHandleReconnect{}, bad("DHnC", "DataLength", uint64(len(b)), 16)
	}
	return DurableHandleReconnect{parseFileID(b)}, nil
}

// DHandleFlagPersistent is the flag of the version 2 durable handle contexts.
const DHandleFlagPersistent uint32 = 0x00000002

// DurableHandleRequestV2 is the data of a "DH2Q" request, [MS-SMB2] 2.2.13.2.11:
// Timeout (4), Flags (4), Reserved (8), CreateGuid (16).
type DurableHandleRequestV2 struct {
	Timeout    uint32 // milliseconds; 0 leaves it to the server
	Flags      uint32 // DHandleFlagPersistent
	CreateGUID GUID
}

// AppendBinary appends the context's data.
func (c *DurableHandleRequestV2) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint32(b, c.Timeout)
	b = le.AppendUint32(b, c.Flags)
	b = zeros(b, 8)
	return append(b, c.CreateGUID[:]...), nil
}

// ParseDurableHandleRequestV2 decodes the context's data.
func ParseDurableHandleRequestV2(b []byte) (DurableHandleRequestV2, error) {
	if len(b) != 32 {
		return DurableHandleRequestV2{}, bad("DH2Q request", "DataLength", uint64(len(b)), 32)
	}
	return DurableHandleRequestV2{le.Uint32(b), le.Uint32(b[4:]), GUID(b[16:32])}, nil
}

// DurableHandleResponseV2 is the data of a "DH2Q" response, [MS-SMB2] 2.2.14.2.12:
// Timeout (4), Flags (4).
type DurableHandleResponseV2 struct {
	Timeout uint32 // milliseconds
	Flags   uint32 // DHandleFlagPersistent
}

// AppendBinary appends the context's data.
func (c *DurableHandleResponseV2) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint32(b, c.Timeout)
	return le.AppendUint32(b, c.Flags), nil
}

// ParseDurableHandleResponseV2 decodes the context's data.
func ParseDurableHandleResponseV2(b []byte) (DurableHandleResponseV2, error) {
	if len(b) < 8 {
		return DurableHandleResponseV2{}, short("DH2Q response", len(b), 8)
	}
	return DurableHandleResponseV2{le.Uint32(b), le.Uint32(b[4:])}, nil
}

// DurableHandleReconnectV2 is the data of "DH2C", [MS-SMB2] 2.2.13.2.12:
// FileId (16), CreateGuid (16), Flags (4).
type DurableHandleReconnectV2 struct {
	FileID     FileID
	CreateGUID GUID
	Flags      uint32 // DHandleFlagPersistent
}

// AppendBinary appends the context's data.
func (c *DurableHandleReconnectV2) AppendBinary(b []byte) ([]byte, error) {
	b = c.FileID.append(b)
	b = append(b, c.CreateGUID[:]...)
	return le.AppendUint32(b, c.Flags), nil
}

// ParseDurableHandleReconnectV2 decodes the context's data.
func ParseDurableHandleReconnectV2(b []byte) (DurableHandleReconnectV2, error) {
	if len(b) != 36 {
		return DurableHandleReconnectV2{}, bad("DH2C", "DataLength", uint64(len(b)), 36)
	}
	return DurableHandleReconnectV2{parseFileID(b), GUID(b[16:32]), le.Uint32(b[32:])}, nil
}

// AllocationSizeContext is the data of "AlSi", [MS-SMB2] 2.2.13.2.6.
type AllocationSizeContext struct {
	AllocationSize uint64 // octets
}

// AppendBinary appends the context's data.
func (c *AllocationSizeContext) AppendBinary(b []byte) ([]byte, error) {
	return le.AppendUint64(b, c.AllocationSize), nil
}

// ParseAllocationSizeContext decodes the context's data.
func ParseAllocationSizeContext(b []byte) (AllocationSizeContext, error) {
	if len(b) != 8 {
		return AllocationSizeContext{}, bad("AlSi", "DataLength", uint64(len(b)), 8)
	}
	return AllocationSizeContext{le.Uint64(b)}, nil
}

// TimewarpToken is the data of "TWrp", [MS-SMB2] 2.2.13.2.7.
type TimewarpToken struct {
	Timestamp Filetime
}

// AppendBinary appends the context's data.
func (c *TimewarpToken) AppendBinary(b []byte) ([]byte, error) {
	return le.AppendUint64(b, uint64(c.Timestamp)), nil
}

// ParseTimewarpToken decodes the context's data.
func ParseTimewarpToken(b []byte) (TimewarpToken, error) {
	if len(b) != 8 {
		return TimewarpToken{}, bad("TWrp", "DataLength", uint64(len(b)), 8)
	}
	return TimewarpToken{Filetime(le.Uint64(b))}, nil
}

// AppInstanceIDContext is the data of SMB2_CREATE_APP_INSTANCE_ID, [MS-SMB2]
// 2.2.13.2.13: StructureSize 20 (2), Reserved (2), AppInstanceId (16).
type AppInstanceIDContext struct {
	AppInstanceID GUID
}

// AppendBinary appends the context's data.
func (c *AppInstanceIDContext) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, 20, 0, 0, 0)
	return append(b, c.AppInstanceID[:]...), nil
}

// ParseAppInstanceIDContext decodes the context's data.
func ParseAppInstanceIDContext(b []byte) (AppInstanceIDContext, error) {
	if len(b) < 20 {
		return AppInstanceIDContext{}, short("APP_INSTANCE_ID", len(b), 20)
	}
	if n := le.Uint16(b); n != 20 {
		return AppInstanceIDContext{}, bad("APP_INSTANCE_ID", "StructureSize", uint64(n), 20)
	}
	return AppInstanceIDContext{GUID(b[4:20])}, nil
}

// AppInstanceVersionContext is the data of SMB2_CREATE_APP_INSTANCE_VERSION,
// [MS-SMB2] 2.2.13.2.15: StructureSize 24 (2), Reserved (2), Padding (4),
// AppInstanceVersionHigh (8), AppInstanceVersionLow (8).
type AppInstanceVersionContext struct {
	AppInstanceVersionHigh uint64
	AppInstanceVersionLow  uint64
}

// AppendBinary appends the context's data.
func (c *AppInstanceVersionContext) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, 24, 0, 0, 0, 0, 0, 0, 0)
	b = le.AppendUint64(b, c.AppInstanceVersionHigh)
	return le.AppendUint64(b, c.AppInstanceVersionLow), nil
}

// ParseAppInstanceVersionContext decodes the context's data.
func ParseAppInstanceVersionContext(b []byte) (AppInstanceVersionContext, error) {
	if len(b) < 24 {
		return AppInstanceVersionContext{}, short("APP_INSTANCE_VERSION", len(b), 24)
	}
	if n := le.Uint16(b); n != 24 {
		return AppInstanceVersionContext{}, bad("APP_INSTANCE_VERSION", "StructureSize", uint64(n), 24)
	}
	return AppInstanceVersionContext{le.Uint64(b[8:]), le.Uint64(b[16:])}, nil
}
