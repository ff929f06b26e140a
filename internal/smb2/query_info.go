package smb2

// InfoType is of QUERY_INFO and SET_INFO, [MS-SMB2] 2.2.37.
type InfoType uint8

const (
	InfoFile       InfoType = 0x01 // FileInfoClass is a FileInfoClass
	InfoFilesystem InfoType = 0x02 // FileInfoClass is an FsInfoClass
	InfoSecurity   InfoType = 0x03
	InfoQuota      InfoType = 0x04
)

// SecurityInformation is the AdditionalInformation of QUERY_INFO and SET_INFO
// for InfoSecurity, [MS-SMB2] 2.2.37.
type SecurityInformation uint32

const (
	OwnerSecurityInformation     SecurityInformation = 0x00000001
	GroupSecurityInformation     SecurityInformation = 0x00000002
	DACLSecurityInformation      SecurityInformation = 0x00000004
	SACLSecurityInformation      SecurityInformation = 0x00000008
	LabelSecurityInformation     SecurityInformation = 0x00000010
	AttributeSecurityInformation SecurityInformation = 0x00000020
	ScopeSecurityInformation     SecurityInformation = 0x00000040
	BackupSecurityInformation    SecurityInformation = 0x00010000
)

// Flags of QUERY_INFO for FileFullEaInformation, [MS-SMB2] 2.2.37.
const (
	QueryInfoRestartScan       uint32 = 0x00000001 // SL_RESTART_SCAN
	QueryInfoReturnSingleEntry uint32 = 0x00000002 // SL_RETURN_SINGLE_ENTRY
	QueryInfoIndexSpecified    uint32 = 0x00000004 // SL_INDEX_SPECIFIED
)

// QueryInfoRequest is the SMB2 QUERY_INFO request, [MS-SMB2] 2.2.37:
//
//	 0 StructureSize 41   2 InfoType   3 FileInfoClass   4 OutputBufferLength
//	 8 InputBufferOffset 10 Reserved  12 InputBufferLength
//	16 AdditionalInformation          20 Flags   24 FileId   40 Buffer
type QueryInfoRequest struct {
	InfoType              InfoType
	FileInfoClass         uint8 // a FileInfoClass or FsInfoClass, by InfoType
	OutputBufferLength    uint32
	AdditionalInformation uint32 // SecurityInformation, or an EA index
	Flags                 uint32
	FileID                FileID
	Input                 []byte // EA or quota list; borrowed when parsed
}

const queryInfoRequestSize = 40

// AppendBinary appends the body.
func (m *QueryInfoRequest) AppendBinary(b []byte) ([]byte, error) {
	if uint64(len(m.Input)) > 0xFFFFFFFF {
		return b, tooLong("QUERY_INFO request", "Input", len(m.Input))
	}
	b = le.AppendUint16(b, 41)
	b = append(b, uint8(m.InfoType), m.FileInfoClass)
	b = le.AppendUint32(b, m.OutputBufferLength)
	if len(m.Input) > 0 {
		b = le.AppendUint16(b, HeaderSize+queryInfoRequestSize)
	} else {
		b = zeros(b, 2)
	}
	b = zeros(b, 2)
	b = le.AppendUint32(b, uint32(len(m.Input)))
	b = le.AppendUint32(b, m.AdditionalInformation)
	b = le.AppendUint32(b, m.Flags)
	b = m.FileID.append(b)
	return appendBuffer(b, m.Input), nil
}

// ParseQueryInfoRequest decodes a request; msg includes the header.
func ParseQueryInfoRequest(msg []byte) (QueryInfoRequest, error) {
	const name = "QUERY_INFO request"
	body, err := bodyOf(msg, name, 41, queryInfoRequestSize)
	if err != nil {
		return QueryInfoRequest{}, err
	}
	in, err := section(msg, name, "InputBuffer", uint64(le.Uint16(body[8:])), uint64(le.Uint32(body[12:])),
		HeaderSize+queryInfoRequestSize)
	if err != nil {
		return QueryInfoRequest{}, err
	}
	return QueryInfoRequest{
		InfoType:              InfoType(body[2]),
		FileInfoClass:         body[3],
		OutputBufferLength:    le.Uint32(body[4:]),
		AdditionalInformation: le.Uint32(body[16:]),
		Flags:                 le.Uint32(body[20:]),
		FileID:                parseFileID(body[24:]),
		Input:                 in,
	}, nil
}

// QueryInfoResponse is the SMB2 QUERY_INFO response, [MS-SMB2] 2.2.38:
//
//	0 StructureSize 9   2 OutputBufferOffset   4 OutputBufferLength   8 Buffer
type QueryInfoResponse struct {
	// OutputBufferLength is as in QueryDirectoryResponse.
	OutputBufferLength uint32
	OutputBuffer       []byte // borrowed when parsed
}

// AppendBinary appends the body.
func (m *QueryInfoResponse) AppendBinary(b []byte) ([]byte, error) {
	return appendOutputBuffer(b, "QUERY_INFO response", m.OutputBufferLength, m.OutputBuffer)
}

// ParseQueryInfoResponse decodes a response; msg includes the header.
func ParseQueryInfoResponse(msg []byte) (m QueryInfoResponse, err error) {
	m.OutputBuffer, m.OutputBufferLength, err = parseOutputBuffer(msg, "QUERY_INFO response")
	return m, err
}
