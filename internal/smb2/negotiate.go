package smb2

import "fmt"

// Dialect is a dialect revision number, [MS-SMB2] 2.2.3 and 2.2.4.
type Dialect uint16

const (
	DialectSMB202   Dialect = 0x0202
	DialectSMB210   Dialect = 0x0210
	DialectSMB300   Dialect = 0x0300
	DialectSMB302   Dialect = 0x0302
	DialectSMB311   Dialect = 0x0311
	DialectWildcard Dialect = 0x02FF // responses to a multi-protocol negotiate only
)

// String gives the usual name, such as "3.1.1".
func (d Dialect) String() string {
	switch d {
	case DialectSMB202:
		return "2.0.2"
	case DialectSMB210:
		return "2.1"
	case DialectSMB300:
		return "3.0"
	case DialectSMB302:
		return "3.0.2"
	case DialectSMB311:
		return "3.1.1"
	case DialectWildcard:
		return "2.???"
	}
	return fmt.Sprintf("dialect 0x%04X", uint16(d))
}

// SecurityMode is the SecurityMode of NEGOTIATE and SESSION_SETUP.
type SecurityMode uint16

const (
	NegotiateSigningEnabled  SecurityMode = 0x0001
	NegotiateSigningRequired SecurityMode = 0x0002
)

// Capabilities are the global capabilities of NEGOTIATE and SESSION_SETUP.
type Capabilities uint32

const (
	GlobalCapDFS               Capabilities = 0x00000001
	GlobalCapLeasing           Capabilities = 0x00000002
	GlobalCapLargeMTU          Capabilities = 0x00000004
	GlobalCapMultiChannel      Capabilities = 0x00000008
	GlobalCapPersistentHandles Capabilities = 0x00000010
	GlobalCapDirectoryLeasing  Capabilities = 0x00000020
	GlobalCapEncryption        Capabilities = 0x00000040
	GlobalCapNotifications     Capabilities = 0x00000080
)

// NegotiateRequest is the SMB2 NEGOTIATE request, [MS-SMB2] 2.2.3:
//
//	 0 StructureSize 36   2 DialectCount   4 SecurityMode   6 Reserved
//	 8 Capabilities      12 ClientGuid
//	28 NegotiateContextOffset, NegotiateContextCount, Reserved2; or ClientStartTime
//	36 Dialects, padding, NegotiateContextList
type NegotiateRequest struct {
	SecurityMode SecurityMode
	Capabilities Capabilities
	ClientGUID   GUID
	Dialects     []Dialect
	// Contexts are encoded and decoded only if Dialects has DialectSMB311.
	Contexts []NegotiateContext
}

const (
	negotiateRequestSize  = 36
	negotiateResponseSize = 64
)

// HasDialect reports whether the request offers d.
func (m *NegotiateRequest) HasDialect(d Dialect) bool {
	for _, have := range m.Dialects {
		if have == d {
			return true
		}
	}
	return false
}

// AppendBinary appends the body.
func (m *NegotiateRequest) AppendBinary(b []byte) ([]byte, error) {
	if len(m.Dialects) > 0xFFFF {
		return b, tooLong("NEGOTIATE request", "Dialects", len(m.Dialects))
	}
	start := len(b)
	b = le.AppendUint16(b, 36)
	b = le.AppendUint16(b, uint16(len(m.Dialects)))
	b = le.AppendUint16(b, uint16(m.SecurityMode))
	b = zeros(b, 2)
	b = le.AppendUint32(b, uint32(m.Capabilities))
	b = append(b, m.ClientGUID[:]...)
	b = zeros(b, 8)
	for _, d := range m.Dialects {
		b = le.AppendUint16(b, uint16(d))
	}
	if !m.HasDialect(DialectSMB311) || len(m.Contexts) == 0 {
		return b, nil
	}
	b = pad(b, start, 8)
	le.PutUint32(b[start+28:], uint32(HeaderSize+len(b)-start))
	le.PutUint16(b[start+32:], uint16(len(m.Contexts)))
	return appendNegotiateContexts(b, start, m.Contexts)
}

// ParseNegotiateRequest decodes a request; msg includes the header.
// The contexts borrow msg.
func ParseNegotiateRequest(msg []byte) (NegotiateRequest, error) {
	const name = "NEGOTIATE request"
	body, err := bodyOf(msg, name, 36, negotiateRequestSize)
	if err != nil {
		return NegotiateRequest{}, err
	}
	m := NegotiateRequest{
		SecurityMode: SecurityMode(le.Uint16(body[4:])),
		Capabilities: Capabilities(le.Uint32(body[8:])),
		ClientGUID:   GUID(body[12:28]),
	}
	n := int(le.Uint16(body[2:]))
	if len(body) < negotiateRequestSize+2*n {
		return NegotiateRequest{}, bad(name, "DialectCount", uint64(n), uint64(len(body)-negotiateRequestSize)/2)
	}
	m.Dialects = make([]Dialect, n)
	for i := range m.Dialects {
		m.Dialects[i] = Dialect(le.Uint16(body[negotiateRequestSize+2*i:]))
	}
	if m.HasDialect(DialectSMB311) {
		m.Contexts, err = parseNegotiateContexts(msg, name, le.Uint32(body[28:]), le.Uint16(body[32:]),
			HeaderSize+negotiateRequestSize+2*n)
		if err != nil {
			return NegotiateRequest{}, err
		}
	}
	return m, nil
}

// NegotiateResponse is the SMB2 NEGOTIATE response, [MS-SMB2] 2.2.4:
//
//	 0 StructureSize 65   2 SecurityMode   4 DialectRevision   6 NegotiateContextCount
//	 8 ServerGuid        24 Capabilities  28 MaxTransactSize  32 MaxReadSize
//	36 MaxWriteSize      40 SystemTime    48 ServerStartTime
//	56 SecurityBufferOffset, SecurityBufferLength   60 NegotiateContextOffset
//	64 Buffer, padding, NegotiateContextList
type NegotiateResponse struct {
	SecurityMode    SecurityMode
	DialectRevision Dialect
	ServerGUID      GUID
	Capabilities    Capabilities
	MaxTransactSize uint32 // octets
	MaxReadSize     uint32 // octets
	MaxWriteSize    uint32 // octets
	SystemTime      Filetime
	ServerStartTime Filetime
	SecurityBuffer  []byte // GSS token; at most 65535 octets
	// Contexts are encoded and decoded only for DialectSMB311.
	Contexts []NegotiateContext
}

// AppendBinary appends the body.
func (m *NegotiateResponse) AppendBinary(b []byte) ([]byte, error) {
	const name = "NEGOTIATE response"
	if len(m.SecurityBuffer) > 0xFFFF {
		return b, tooLong(name, "SecurityBuffer", len(m.SecurityBuffer))
	}
	start := len(b)
	b = le.AppendUint16(b, 65)
	b = le.AppendUint16(b, uint16(m.SecurityMode))
	b = le.AppendUint16(b, uint16(m.DialectRevision))
	b = zeros(b, 2)
	b = append(b, m.ServerGUID[:]...)
	b = le.AppendUint32(b, uint32(m.Capabilities))
	b = le.AppendUint32(b, m.MaxTransactSize)
	b = le.AppendUint32(b, m.MaxReadSize)
	b = le.AppendUint32(b, m.MaxWriteSize)
	b = le.AppendUint64(b, uint64(m.SystemTime))
	b = le.AppendUint64(b, uint64(m.ServerStartTime))
	b = le.AppendUint16(b, HeaderSize+negotiateResponseSize)
	b = le.AppendUint16(b, uint16(len(m.SecurityBuffer)))
	b = zeros(b, 4)
	b = append(b, m.SecurityBuffer...)
	if m.DialectRevision == DialectSMB311 && len(m.Contexts) > 0 {
		b = pad(b, start, 8)
		le.PutUint16(b[start+6:], uint16(len(m.Contexts)))
		le.PutUint32(b[start+60:], uint32(HeaderSize+len(b)-start))
		return appendNegotiateContexts(b, start, m.Contexts)
	}
	if len(m.SecurityBuffer) == 0 {
		b = append(b, 0)
	}
	return b, nil
}

// ParseNegotiateResponse decodes a response; msg includes the header.
// SecurityBuffer and the contexts borrow msg.
func ParseNegotiateResponse(msg []byte) (NegotiateResponse, error) {
	const name = "NEGOTIATE response"
	body, err := bodyOf(msg, name, 65, negotiateResponseSize)
	if err != nil {
		return NegotiateResponse{}, err
	}
	m := NegotiateResponse{
		SecurityMode:    SecurityMode(le.Uint16(body[2:])),
		DialectRevision: Dialect(le.Uint16(body[4:])),
		ServerGUID:      GUID(body[8:24]),
		Capabilities:    Capabilities(le.Uint32(body[24:])),
		MaxTransactSize: le.Uint32(body[28:]),
		MaxReadSize:     le.Uint32(body[32:]),
		MaxWriteSize:    le.Uint32(body[36:]),
		SystemTime:      Filetime(le.Uint64(body[40:])),
		ServerStartTime: Filetime(le.Uint64(body[48:])),
	}
	const low = HeaderSize + negotiateResponseSize
	m.SecurityBuffer, err = section(msg, name, "SecurityBuffer",
		uint64(le.Uint16(body[56:])), uint64(le.Uint16(body[58:])), low)
	if err != nil {
		return NegotiateResponse{}, err
	}
	if m.DialectRevision == DialectSMB311 {
		m.Contexts, err = parseNegotiateContexts(msg, name, le.Uint32(body[60:]), le.Uint16(body[6:]), low)
		if err != nil {
			return NegotiateResponse{}, err
		}
	}
	return m, nil
}
