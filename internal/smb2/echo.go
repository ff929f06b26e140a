package smb2

// EchoRequest is the SMB2 ECHO request, [MS-SMB2] 2.2.28: StructureSize 4 and two reserved octets.
type EchoRequest struct{}

// AppendBinary appends the body.
func (m *EchoRequest) AppendBinary(b []byte) ([]byte, error) { return appendEmpty(b), nil }

// ParseEchoRequest checks the message; msg includes the header.
func ParseEchoRequest(msg []byte) (EchoRequest, error) {
	return EchoRequest{}, checkEmpty(msg, "ECHO request")
}

// EchoResponse is the SMB2 ECHO response, [MS-SMB2] 2.2.29: StructureSize 4 and two reserved octets.
type EchoResponse struct{}

// AppendBinary appends the body.
func (m *EchoResponse) AppendBinary(b []byte) ([]byte, error) { return appendEmpty(b), nil }

// ParseEchoResponse checks the message; msg includes the header.
func ParseEchoResponse(msg []byte) (EchoResponse, error) {
	return EchoResponse{}, checkEmpty(msg, "ECHO response")
}
