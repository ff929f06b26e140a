package smb2

// SetInfoRequest is the SMB2 SET_INFO request, [MS-SMB2] 2.2.39:
//
//	0 StructureSize 33   2 InfoType   3 FileInfoClass   4 BufferLength
//	8 BufferOffset      10 Reserved  12 AdditionalInformation   16 FileId   32 Buffer
type SetInfoRequest struct {
	InfoType              InfoType
	FileInfoClass         uint8 // a FileInfoClass or FsInfoClass, by InfoType
	AdditionalInformation uint32
	FileID                FileID
	Buffer                []byte // borrowed when parsed
}

const (
	setInfoRequestSize  = 32
	setInfoResponseSize = 2
)

// AppendBinary appends the body.
func (m *SetInfoRequest) AppendBinary(b []byte) ([]byte, error) {
	if uint64(len(m.Buffer)) > 0xFFFFFFFF {
		return b, tooLong("SET_INFO request", "Buffer", len(m.Buffer))
	}
	b = le.AppendUint16(b, 33)
	b = append(b, uint8(m.InfoType), m.FileInfoClass)
	b = le.AppendUint32(b, uint32(len(m.Buffer)))
	b = le.AppendUint16(b, HeaderSize+setInfoRequestSize)
	b = zeros(b, 2)
	b = le.AppendUint32(b, m.AdditionalInformation)
	b = m.FileID.append(b)
	return appendBuffer(b, m.Buffer), nil
}

// ParseSetInfoRequest decodes a request; msg includes the header.
func ParseSetInfoRequest(msg []byte) (SetInfoRequest, error) {
	const name = "SET_INFO request"
	body, err := bodyOf(msg, name, 33, setInfoRequestSize)
	if err != nil {
		return SetInfoRequest{}, err
	}
	buf, err := section(msg, name, "Buffer", uint64(le.Uint16(body[8:])), uint64(le.Uint32(body[4:])),
		HeaderSize+setInfoRequestSize)
	if err != nil {
		return SetInfoRequest{}, err
	}
	return SetInfoRequest{
		InfoType:              InfoType(body[2]),
		FileInfoClass:         body[3],
		AdditionalInformation: le.Uint32(body[12:]),
		FileID:                parseFileID(body[16:]),
		Buffer:                buf,
	}, nil
}

// SetInfoResponse is the SMB2 SET_INFO response, [MS-SMB2] 2.2.40: StructureSize 2.
type SetInfoResponse struct{}

// AppendBinary appends the body.
func (m *SetInfoResponse) AppendBinary(b []byte) ([]byte, error) {
	return le.AppendUint16(b, setInfoResponseSize), nil
}

// ParseSetInfoResponse checks the message; msg includes the header.
func ParseSetInfoResponse(msg []byte) (SetInfoResponse, error) {
	_, err := bodyOf(msg, "SET_INFO response", 2, setInfoResponseSize)
	return SetInfoResponse{}, err
}
