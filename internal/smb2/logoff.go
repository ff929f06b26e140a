package smb2

// emptyBodySize is the size of a body that is nothing but StructureSize and
// two reserved octets.
const emptyBodySize = 4

func appendEmpty(b []byte) []byte { return append(b, emptyBodySize, 0, 0, 0) }

func checkEmpty(msg []byte, name string) error {
	_, err := bodyOf(msg, name, emptyBodySize, emptyBodySize)
	return err
}

// LogoffRequest is the SMB2 LOGOFF request, [MS-SMB2] 2.2.7: StructureSize 4 and two reserved octets.
type LogoffRequest struct{}

// AppendBinary appends the body.
func (m *LogoffRequest) AppendBinary(b []byte) ([]byte, error) { return appendEmpty(b), nil }

// ParseLogoffRequest checks the message; msg includes the header.
func ParseLogoffRequest(msg []byte) (LogoffRequest, error) {
	return LogoffRequest{}, checkEmpty(msg, "LOGOFF request")
}

// LogoffResponse is the SMB2 LOGOFF response, [MS-SMB2] 2.2.8: StructureSize 4 and two reserved octets.
type LogoffResponse struct{}

// AppendBinary appends the body.
func (m *LogoffResponse) AppendBinary(b []byte) ([]byte, error) { return appendEmpty(b), nil }

// ParseLogoffResponse checks the message; msg includes the header.
func ParseLogoffResponse(msg []byte) (LogoffResponse, error) {
	return LogoffResponse{}, checkEmpty(msg, "LOGOFF response")
}
