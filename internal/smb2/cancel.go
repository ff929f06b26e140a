package smb2

// CancelRequest is the SMB2 CANCEL request, [MS-SMB2] 2.2.30: StructureSize 4 and two reserved octets.
type CancelRequest struct{}

// AppendBinary appends the body.
func (m *CancelRequest) AppendBinary(b []byte) ([]byte, error) { return appendEmpty(b), nil }

// ParseCancelRequest checks the message; msg includes the header.
func ParseCancelRequest(msg []byte) (CancelRequest, error) {
	return CancelRequest{}, checkEmpty(msg, "CANCEL request")
}
