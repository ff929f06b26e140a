package smb2

// SessionSetupFlagBinding binds, in a request, an existing session to a new
// connection ([MS-SMB2] 2.2.5).
const SessionSetupFlagBinding uint8 = 0x01

// SessionFlags are those of the response, [MS-SMB2] 2.2.6.
type SessionFlags uint16

const (
	SessionFlagIsGuest     SessionFlags = 0x0001
	SessionFlagIsNull      SessionFlags = 0x0002
	SessionFlagEncryptData SessionFlags = 0x0004
)

// SessionSetupRequest is the SMB2 SESSION_SETUP request, [MS-SMB2] 2.2.5:
//
//	 0 StructureSize 25   2 Flags   3 SecurityMode   4 Capabilities   8 Channel
//	12 SecurityBufferOffset, SecurityBufferLength   16 PreviousSessionId   24 Buffer
type SessionSetupRequest struct {
	Flags             uint8        // SessionSetupFlagBinding
	SecurityMode      SecurityMode // one octet on the wire
	Capabilities      Capabilities
	PreviousSessionID uint64
	SecurityBuffer    []byte // at most 65535 octets; borrowed when parsed
}

const (
	sessionSetupRequestSize  = 24
	sessionSetupResponseSize = 8
)

// AppendBinary appends the body.
func (m *SessionSetupRequest) AppendBinary(b []byte) ([]byte, error) {
	if len(m.SecurityBuffer) > 0xFFFF {
		return b, tooLong("SESSION_SETUP request", "SecurityBuffer", len(m.SecurityBuffer))
	}
	b = le.AppendUint16(b, 25)
	b = append(b, m.Flags, uint8(m.SecurityMode))
	b = le.AppendUint32(b, uint32(m.Capabilities))
	b = zeros(b, 4)
	b = le.AppendUint16(b, HeaderSize+sessionSetupRequestSize)
	b = le.AppendUint16(b, uint16(len(m.SecurityBuffer)))
	b = le.AppendUint64(b, m.PreviousSessionID)
	return appendBuffer(b, m.SecurityBuffer), nil
}

// appendBuffer appends the buffer of a structure with an odd StructureSize:
// one zero octet when there is none.
func appendBuffer(b, buf []byte) []byte {
	if len(buf) == 0 {
		return append(b, 0)
	}
	return append(b, buf...)
}

// ParseSessionSetupRequest decodes a request; msg includes the header.
func ParseSessionSetupRequest(msg []byte) (SessionSetupRequest, error) {
	const name = "SESSION_SETUP request"
	body, err := bodyOf(msg, name, 25, sessionSetupRequestSize)
	if err != nil {
		return SessionSetupRequest{}, err
	}
	buf, err := section(msg, name, "SecurityBuffer", uint64(le.Uint16(body[12:])), uint64(le.Uint16(body[14:])),
		HeaderSize+sessionSetupRequestSize)
	if err != nil {
		return SessionSetupRequest{}, err
	}
	return SessionSetupRequest{
		Flags:             body[2],
		SecurityMode:      SecurityMode(body[3]),
		Capabilities:      Capabilities(le.Uint32(body[4:])),
		PreviousSessionID: le.Uint64(body[16:]),
		SecurityBuffer:    buf,
	}, nil
}

// SessionSetupResponse is the SMB2 SESSION_SETUP response, [MS-SMB2] 2.2.6:
//
//	0 StructureSize 9   2 SessionFlags   4 SecurityBufferOffset, SecurityBufferLength   8 Buffer
//
// It comes with STATUS_SUCCESS and STATUS_MORE_PROCESSING_REQUIRED.
type SessionSetupResponse struct {
	SessionFlags   SessionFlags
	SecurityBuffer []byte // at most 65535 octets; borrowed when parsed
}

// AppendBinary appends the body.
func (m *SessionSetupResponse) AppendBinary(b []byte) ([]byte, error) {
	if len(m.SecurityBuffer) > 0xFFFF {
		return b, tooLong("SESSION_SETUP response", "SecurityBuffer", len(m.SecurityBuffer))
	}
	b = le.AppendUint16(b, 9)
	b = le.AppendUint16(b, uint16(m.SessionFlags))
	b = le.AppendUint16(b, HeaderSize+sessionSetupResponseSize)
	b = le.AppendUint16(b, uint16(len(m.SecurityBuffer)))
	return appendBuffer(b, m.SecurityBuffer), nil
}

// ParseSessionSetupResponse decodes a response; msg includes the header.
func ParseSessionSetupResponse(msg []byte) (SessionSetupResponse, error) {
	const name = "SESSION_SETUP response"
	body, err := bodyOf(msg, name, 9, sessionSetupResponseSize)
	if err != nil {
		return SessionSetupResponse{}, err
	}
	buf, err := section(msg, name, "SecurityBuffer", uint64(le.Uint16(body[4:])), uint64(le.Uint16(body[6:])),
		HeaderSize+sessionSetupResponseSize)
	if err != nil {
		return SessionSetupResponse{}, err
	}
	return SessionSetupResponse{SessionFlags: SessionFlags(le.Uint16(body[2:])), SecurityBuffer: buf}, nil
}
