package smb2

// CloseFlagPostqueryAttrib asks for, or says that there are, attributes in the
// CLOSE response ([MS-SMB2] 2.2.15, 2.2.16).
const CloseFlagPostqueryAttrib uint16 = 0x0001

// CloseRequest is the SMB2 CLOSE request, [MS-SMB2] 2.2.15:
//
//	0 StructureSize 24   2 Flags   4 Reserved   8 FileId
type CloseRequest struct {
	Flags  uint16 // CloseFlagPostqueryAttrib
	FileID FileID
}

const (
	closeRequestSize  = 24
	closeResponseSize = 60
)

// AppendBinary appends the body.
func (m *CloseRequest) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint16(b, 24)
	b = le.AppendUint16(b, m.Flags)
	b = zeros(b, 4)
	return m.FileID.append(b), nil
}

// ParseCloseRequest decodes a request; msg includes the header.
func ParseCloseRequest(msg []byte) (CloseRequest, error) {
	body, err := bodyOf(msg, "CLOSE request", 24, closeRequestSize)
	if err != nil {
		return CloseRequest{}, err
	}
	return CloseRequest{Flags: le.Uint16(body[2:]), FileID: parseFileID(body[8:])}, nil
}

// CloseResponse is the SMB2 CLOSE response, [MS-SMB2] 2.2.16. Without
// CloseFlagPostqueryAttrib all but Flags is to be zero.
//
//	 0 StructureSize 60   2 Flags   4 Reserved
//	 8 CreationTime      16 LastAccessTime   24 LastWriteTime   32 ChangeTime
//	40 AllocationSize    48 EndofFile        56 FileAttributes
type CloseResponse struct {
	Flags          uint16
	CreationTime   Filetime
	LastAccessTime Filetime
	LastWriteTime  Filetime
	ChangeTime     Filetime
	AllocationSize uint64
	EndOfFile      uint64
	FileAttributes FileAttributes
}

// AppendBinary appends the body.
func (m *CloseResponse) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint16(b, 60)
	b = le.AppendUint16(b, m.Flags)
	b = zeros(b, 4)
	b = le.AppendUint64(b, uint64(m.CreationTime))
	b = le.AppendUint64(b, uint64(m.LastAccessTime))
	b = le.AppendUint64(b, uint64(m.LastWriteTime))
	b = le.AppendUint64(b, uint64(m.ChangeTime))
	b = le.AppendUint64(b, m.AllocationSize)
	b = le.AppendUint64(b, m.EndOfFile)
	return le.AppendUint32(b, uint32(m.FileAttributes)), nil
}

// ParseCloseResponse decodes a response; msg includes the header.
func ParseCloseResponse(msg []byte) (CloseResponse, error) {
	body, err := bodyOf(msg, "CLOSE response", 60, closeResponseSize)
	if err != nil {
		return CloseResponse{}, err
	}
	return CloseResponse{
		Flags:          le.Uint16(body[2:]),
		CreationTime:   Filetime(le.Uint64(body[8:])),
		LastAccessTime: Filetime(le.Uint64(body[16:])),
		LastWriteTime:  Filetime(le.Uint64(body[24:])),
		ChangeTime:     Filetime(le.Uint64(body[32:])),
		AllocationSize: le.Uint64(body[40:]),
		EndOfFile:      le.Uint64(body[48:]),
		FileAttributes: FileAttributes(le.Uint32(body[56:])),
	}, nil
}
