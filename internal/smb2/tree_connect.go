package smb2

import "fmt"

// Flags of a TREE_CONNECT request, [MS-SMB2] 2.2.9; 3.1.1 only.
const (
	TreeConnectFlagClusterReconnect uint16 = 0x0001
	TreeConnectFlagRedirectToOwner  uint16 = 0x0002
	TreeConnectFlagExtensionPresent uint16 = 0x0004
)

// TreeConnectContextRemotedIdentity is the ContextType of
// SMB2_REMOTED_IDENTITY_TREE_CONNECT, [MS-SMB2] 2.2.9.2.
const TreeConnectContextRemotedIdentity uint16 = 0x0001

// ShareType is of [MS-SMB2] 2.2.10.
type ShareType uint8

const (
	ShareTypeDisk  ShareType = 0x01
	ShareTypePipe  ShareType = 0x02
	ShareTypePrint ShareType = 0x03
)

// String gives the name in lower case.
func (t ShareType) String() string {
	switch t {
	case ShareTypeDisk:
		return "disk"
	case ShareTypePipe:
		return "pipe"
	case ShareTypePrint:
		return "print"
	}
	return fmt.Sprintf("share type %d", uint8(t))
}

// ShareFlags are of [MS-SMB2] 2.2.10.
type ShareFlags uint32

const (
	ShareFlagManualCaching            ShareFlags = 0x00000000
	ShareFlagDFS                      ShareFlags = 0x00000001
	ShareFlagDFSRoot                  ShareFlags = 0x00000002
	ShareFlagAutoCaching              ShareFlags = 0x00000010
	ShareFlagVDOCaching               ShareFlags = 0x00000020
	ShareFlagNoCaching                ShareFlags = 0x00000030
	ShareFlagRestrictExclusiveOpens   ShareFlags = 0x00000100
	ShareFlagForceSharedDelete        ShareFlags = 0x00000200
	ShareFlagAllowNamespaceCaching    ShareFlags = 0x00000400
	ShareFlagAccessBasedDirectoryEnum ShareFlags = 0x00000800
	ShareFlagForceLevelIIOplock       ShareFlags = 0x00001000
	ShareFlagEnableHashV1             ShareFlags = 0x00002000
	ShareFlagEnableHashV2             ShareFlags = 0x00004000
	ShareFlagEncryptData              ShareFlags = 0x00008000
	ShareFlagIdentityRemoting         ShareFlags = 0x00040000
	ShareFlagCompressData             ShareFlags = 0x00100000
	ShareFlagIsolatedTransport        ShareFlags = 0x00200000
)

// ShareCapabilities are of [MS-SMB2] 2.2.10.
type ShareCapabilities uint32

const (
	ShareCapDFS                    ShareCapabilities = 0x00000008
	ShareCapContinuousAvailability ShareCapabilities = 0x00000010
	ShareCapScaleout               ShareCapabilities = 0x00000020
	ShareCapCluster                ShareCapabilities = 0x00000040
	ShareCapAsymmetric             ShareCapabilities = 0x00000080
	ShareCapRedirectToOwner        ShareCapabilities = 0x00000100
)

// TreeConnectContext is one SMB2_TREE_CONNECT_CONTEXT, [MS-SMB2] 2.2.9.2:
// ContextType (2), DataLength (2), Reserved (4), Data.
type TreeConnectContext struct {
	Type uint16
	Data []byte // at most 65535 octets; borrowed when parsed
}

// TreeConnectRequest is the SMB2 TREE_CONNECT request, [MS-SMB2] 2.2.9:
//
//	0 StructureSize 9   2 Flags   4 PathOffset, PathLength   8 Buffer
//
// With TreeConnectFlagExtensionPresent the buffer is an extension (2.2.9.1):
//
//	8 TreeConnectContextOffset (from the body)   12 TreeConnectContextCount
//	14 Reserved   24 PathName, padding, TreeConnectContexts
type TreeConnectRequest struct {
	Flags uint16
	Path  []byte // \\server\share in UTF-16LE; borrowed when parsed
	// Contexts are encoded and decoded only with TreeConnectFlagExtensionPresent.
	Contexts []TreeConnectContext
}

const (
	treeConnectRequestSize   = 8
	treeConnectExtensionSize = 16
	treeConnectResponseSize  = 16
)

// AppendBinary appends the body.
func (m *TreeConnectRequest) AppendBinary(b []byte) ([]byte, error) {
	const name = "TREE_CONNECT request"
	if len(m.Path) > 0xFFFF {
		return b, tooLong(name, "Path", len(m.Path))
	}
	if len(m.Contexts) > 0xFFFF {
		return b, tooLong(name, "Contexts", len(m.Contexts))
	}
	ext := m.Flags&TreeConnectFlagExtensionPresent != 0
	offset := HeaderSize + treeConnectRequestSize
	if ext {
		offset += treeConnectExtensionSize
	}
	start := len(b)
	b = le.AppendUint16(b, 9)
	b = le.AppendUint16(b, m.Flags)
	b = le.AppendUint16(b, uint16(offset))
	b = le.AppendUint16(b, uint16(len(m.Path)))
	if !ext {
		return appendBuffer(b, m.Path), nil
	}
	b = zeros(b, treeConnectExtensionSize)
	b = append(b, m.Path...)
	b = pad(b, start, 8)
	le.PutUint32(b[start+8:], uint32(len(b)-start))
	le.PutUint16(b[start+12:], uint16(len(m.Contexts)))
	for _, c := range m.Contexts {
		if len(c.Data) > 0xFFFF {
			return b, tooLong(name, "context data", len(c.Data))
		}
		b = pad(b, start, 8)
		b = le.AppendUint16(b, c.Type)
		b = le.AppendUint16(b, uint16(len(c.Data)))
		b = zeros(b, 4)
		b = append(b, c.Data...)
	}
	return b, nil
}

// ParseTreeConnectRequest decodes a request; msg includes the header.
func ParseTreeConnectRequest(msg []byte) (TreeConnectRequest, error) {
	const name = "TREE_CONNECT request"
	body, err := bodyOf(msg, name, 9, treeConnectRequestSize)
	if err != nil {
		return TreeConnectRequest{}, err
	}
	m := TreeConnectRequest{Flags: le.Uint16(body[2:])}
	low := HeaderSize + treeConnectRequestSize
	ext := m.Flags&TreeConnectFlagExtensionPresent != 0
	if ext {
		low += treeConnectExtensionSize
		if len(msg) < low {
			return TreeConnectRequest{}, short(name+" extension", len(msg), low)
		}
	}
	m.Path, err = nameSection(msg, name, "Path", uint64(le.Uint16(body[4:])), uint64(le.Uint16(body[6:])), low)
	if err != nil {
		return TreeConnectRequest{}, err
	}
	if ext {
		off, count := uint64(le.Uint32(body[8:])), le.Uint16(body[12:])
		if m.Contexts, err = parseTreeConnectContexts(body, off, count); err != nil {
			return TreeConnectRequest{}, err
		}
	}
	return m, nil
}

func parseTreeConnectContexts(body []byte, off uint64, count uint16) ([]TreeConnectContext, error) {
	if count == 0 {
		return nil, nil
	}
	const name, size = "tree connect context", 8
	const low = treeConnectRequestSize + treeConnectExtensionSize
	if off < low {
		return nil, bad(name, "offset", off, low)
	}
	if end := off + uint64(count)*size; end > uint64(len(body)) {
		return nil, bad(name, "count end", end, uint64(len(body)))
	}
	cs := make([]TreeConnectContext, 0, count)
	for range count {
		off = (off + 7) &^ 7
		if off+size > uint64(len(body)) {
			return nil, bad(name, "end", off+size, uint64(len(body)))
		}
		n := uint64(le.Uint16(body[off+2:]))
		data, err := section(body, name, "Data", off+size, n, low)
		if err != nil {
			return nil, err
		}
		cs = append(cs, TreeConnectContext{Type: le.Uint16(body[off:]), Data: data})
		off += size + n
	}
	return cs, nil
}

// TreeConnectResponse is the SMB2 TREE_CONNECT response, [MS-SMB2] 2.2.10:
//
//	0 StructureSize 16   2 ShareType   3 Reserved   4 ShareFlags   8 Capabilities   12 MaximalAccess
type TreeConnectResponse struct {
	ShareType     ShareType
	ShareFlags    ShareFlags
	Capabilities  ShareCapabilities
	MaximalAccess AccessMask
}

// AppendBinary appends the body.
func (m *TreeConnectResponse) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint16(b, 16)
	b = append(b, uint8(m.ShareType), 0)
	b = le.AppendUint32(b, uint32(m.ShareFlags))
	b = le.AppendUint32(b, uint32(m.Capabilities))
	return le.AppendUint32(b, uint32(m.MaximalAccess)), nil
}

// ParseTreeConnectResponse decodes a response; msg includes the header.
func ParseTreeConnectResponse(msg []byte) (TreeConnectResponse, error) {
	body, err := bodyOf(msg, "TREE_CONNECT response", 16, treeConnectResponseSize)
	if err != nil {
		return TreeConnectResponse{}, err
	}
	return TreeConnectResponse{
		ShareType:     ShareType(body[2]),
		ShareFlags:    ShareFlags(le.Uint32(body[4:])),
		Capabilities:  ShareCapabilities(le.Uint32(body[8:])),
		MaximalAccess: AccessMask(le.Uint32(body[12:])),
	}, nil
}

// TreeDisconnectRequest is the SMB2 TREE_DISCONNECT request, [MS-SMB2] 2.2.11: StructureSize 4 and two reserved octets.
type TreeDisconnectRequest struct{}

// AppendBinary appends the body.
func (m *TreeDisconnectRequest) AppendBinary(b []byte) ([]byte, error) { return appendEmpty(b), nil }

// ParseTreeDisconnectRequest checks the message; msg includes the header.
func ParseTreeDisconnectRequest(msg []byte) (TreeDisconnectRequest, error) {
	return TreeDisconnectRequest{}, checkEmpty(msg, "TREE_DISCONNECT request")
}

// TreeDisconnectResponse is the SMB2 TREE_DISCONNECT response, [MS-SMB2] 2.2.12: StructureSize 4 and two reserved octets.
type TreeDisconnectResponse struct{}

// AppendBinary appends the body.
func (m *TreeDisconnectResponse) AppendBinary(b []byte) ([]byte, error) { return appendEmpty(b), nil }

// ParseTreeDisconnectResponse checks the message; msg includes the header.
func ParseTreeDisconnectResponse(msg []byte) (TreeDisconnectResponse, error) {
	return TreeDisconnectResponse{}, checkEmpty(msg, "TREE_DISCONNECT response")
}
