package smb2

// FlushRequest is the SMB2 FLUSH request, [MS-SMB2] 2.2.17:
//
//	0 StructureSize 24   2 Reserved1   4 Reserved2   8 FileId
type FlushRequest struct {
	FileID FileID
}

const flushRequestSize = 24

// AppendBinary appends the body.
func (m *FlushRequest) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint16(b, 24)
	b = zeros(b, 6)
	return m.FileID.append(b), nil
}

// ParseFlushRequest decodes a request; msg includes the header.
func ParseFlushRequest(msg []byte) (FlushRequest, error) {
	body, err := bodyOf(msg, "FLUSH request", 24, flushRequestSize)
	if err != nil {
		return FlushRequest{}, err
	}
	return FlushRequest{FileID: parseFileID(body[8:])}, nil
}

// FlushResponse is the SMB2 FLUSH response, [MS-SMB2] 2.2.18: StructureSize 4 and two reserved octets.
type FlushResponse struct{}

// AppendBinary appends the body.
func (m *FlushResponse) AppendBinary(b []byte) ([]byte, error) { return appendEmpty(b), nil }

// ParseFlushResponse checks the message; msg includes the header.
func ParseFlushResponse(msg []byte) (FlushResponse, error) {
	return FlushResponse{}, checkEmpty(msg, "FLUSH response")
}
