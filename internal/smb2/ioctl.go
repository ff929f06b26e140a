package smb2

// IoctlFlagIsFsctl (SMB2_0_IOCTL_IS_FSCTL) marks a request as an FSCTL,
// [MS-SMB2] 2.2.31.
const IoctlFlagIsFsctl uint32 = 0x00000001

// IoctlRequest is the SMB2 IOCTL request, [MS-SMB2] 2.2.31:
//
//	 0 StructureSize 57   2 Reserved   4 CtlCode   8 FileId
//	24 InputOffset       28 InputCount     32 MaxInputResponse
//	36 OutputOffset      40 OutputCount    44 MaxOutputResponse
//	48 Flags             52 Reserved2      56 Buffer
type IoctlRequest struct {
	CtlCode           CtlCode
	FileID            FileID
	MaxInputResponse  uint32 // octets
	MaxOutputResponse uint32 // octets
	Flags             uint32 // IoctlFlagIsFsctl
	Input             []byte // borrowed when parsed
	Output            []byte // the client sends none by 2.2.31; decoded, never encoded
}

const (
	ioctlRequestSize  = 56
	ioctlResponseSize = 48

	// IoctlOutputOffset is OutputOffset of a response without input.
	IoctlOutputOffset = HeaderSize + ioctlResponseSize
)

// AppendBinary appends the body.
func (m *IoctlRequest) AppendBinary(b []byte) ([]byte, error) {
	if uint64(len(m.Input)) > 0xFFFFFFFF {
		return b, tooLong("IOCTL request", "Input", len(m.Input))
	}
	b = le.AppendUint16(b, 57)
	b = zeros(b, 2)
	b = le.AppendUint32(b, uint32(m.CtlCode))
	b = m.FileID.append(b)
	b = le.AppendUint32(b, HeaderSize+ioctlRequestSize)
	b = le.AppendUint32(b, uint32(len(m.Input)))
	b = le.AppendUint32(b, m.MaxInputResponse)
	b = zeros(b, 8)
	b = le.AppendUint32(b, m.MaxOutputResponse)
	b = le.AppendUint32(b, m.Flags)
	b = zeros(b, 4)
	return appendBuffer(b, m.Input), nil
}

// ParseIoctlRequest decodes a request; msg includes the header.
func ParseIoctlRequest(msg []byte) (IoctlRequest, error) {
	const name = "IOCTL request"
	body, err := bodyOf(msg, name, 57, ioctlRequestSize)
	if err != nil {
		return IoctlRequest{}, err
	}
	const low = HeaderSize + ioctlRequestSize
	m := IoctlRequest{
		CtlCode:           CtlCode(le.Uint32(body[4:])),
		FileID:            parseFileID(body[8:]),
		MaxInputResponse:  le.Uint32(body[32:]),
		MaxOutputResponse: le.Uint32(body[44:]),
		Flags:             le.Uint32(body[48:]),
	}
	if m.Input, err = section(msg, name, "Input", uint64(le.Uint32(body[24:])), uint64(le.Uint32(body[28:])), low); err != nil {
		return IoctlRequest{}, err
	}
	if m.Output, err = section(msg, name, "Output", uint64(le.Uint32(body[36:])), uint64(le.Uint32(body[40:])), low); err != nil {
		return IoctlRequest{}, err
	}
	return m, nil
}

// IoctlResponse is the SMB2 IOCTL response, [MS-SMB2] 2.2.32:
//
//	 0 StructureSize 49   2 Reserved   4 CtlCode   8 FileId
//	24 InputOffset       28 InputCount   32 OutputOffset   36 OutputCount
//	40 Flags             44 Reserved2    48 Buffer
type IoctlResponse struct {
	CtlCode CtlCode
	FileID  FileID
	Flags   uint32
	Input   []byte // almost always empty; borrowed when parsed
	Output  []byte // borrowed when parsed
}

// AppendBinary appends the body. Output begins at a multiple of 8.
func (m *IoctlResponse) AppendBinary(b []byte) ([]byte, error) {
	const name = "IOCTL response"
	if uint64(len(m.Input)) > 0xFFFFFFF0-IoctlOutputOffset {
		return b, tooLong(name, "Input", len(m.Input))
	}
	if uint64(len(m.Output)) > 0xFFFFFFFF {
		return b, tooLong(name, "Output", len(m.Output))
	}
	start := len(b)
	b = le.AppendUint16(b, 49)
	b = zeros(b, 2)
	b = le.AppendUint32(b, uint32(m.CtlCode))
	b = m.FileID.append(b)
	b = le.AppendUint32(b, IoctlOutputOffset)
	b = le.AppendUint32(b, uint32(len(m.Input)))
	b = le.AppendUint32(b, uint32(alignUp(IoctlOutputOffset+len(m.Input), 8)))
	b = le.AppendUint32(b, uint32(len(m.Output)))
	b = le.AppendUint32(b, m.Flags)
	b = zeros(b, 4)
	b = append(b, m.Input...)
	if len(m.Input) > 0 {
		b = pad(b, start, 8)
		return append(b, m.Output...), nil
	}
	return appendBuffer(b, m.Output), nil
}

// ParseIoctlResponse decodes a response; msg includes the header.
func ParseIoctlResponse(msg []byte) (IoctlResponse, error) {
	const name = "IOCTL response"
	body, err := bodyOf(msg, name, 49, ioctlResponseSize)
	if err != nil {
		return IoctlResponse{}, err
	}
	m := IoctlResponse{
		CtlCode: CtlCode(le.Uint32(body[4:])),
		FileID:  parseFileID(body[8:]),
		Flags:   le.Uint32(body[40:]),
	}
	if m.Input, err = section(msg, name, "Input", uint64(le.Uint32(body[24:])), uint64(le.Uint32(body[28:])), IoctlOutputOffset); err != nil {
		return IoctlResponse{}, err
	}
	if m.Output, err = section(msg, name, "Output", uint64(le.Uint32(body[32:])), uint64(le.Uint32(body[36:])), IoctlOutputOffset); err != nil {
		return IoctlResponse{}, err
	}
	return m, nil
}
