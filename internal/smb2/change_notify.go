package smb2

// WatchTree is the flag of a CHANGE_NOTIFY request that asks for the whole
// tree below the directory, [MS-SMB2] 2.2.35.
const WatchTree uint16 = 0x0001

// NotifyFilter is the CompletionFilter of CHANGE_NOTIFY, [MS-SMB2] 2.2.35.
type NotifyFilter uint32

const (
	FileNotifyChangeFileName    NotifyFilter = 0x00000001
	FileNotifyChangeDirName     NotifyFilter = 0x00000002
	FileNotifyChangeAttributes  NotifyFilter = 0x00000004
	FileNotifyChangeSize        NotifyFilter = 0x00000008
	FileNotifyChangeLastWrite   NotifyFilter = 0x00000010
	FileNotifyChangeLastAccess  NotifyFilter = 0x00000020
	FileNotifyChangeCreation    NotifyFilter = 0x00000040
	FileNotifyChangeEA          NotifyFilter = 0x00000080
	FileNotifyChangeSecurity    NotifyFilter = 0x00000100
	FileNotifyChangeStreamName  NotifyFilter = 0x00000200
	FileNotifyChangeStreamSize  NotifyFilter = 0x00000400
	FileNotifyChangeStreamWrite NotifyFilter = 0x00000800
)

// ChangeNotifyRequest is the SMB2 CHANGE_NOTIFY request, [MS-SMB2] 2.2.35:
//
//	0 StructureSize 32   2 Flags   4 OutputBufferLength   8 FileId
//	24 CompletionFilter 28 Reserved
type ChangeNotifyRequest struct {
	Flags              uint16 // WatchTree
	OutputBufferLength uint32 // octets
	FileID             FileID
	CompletionFilter   NotifyFilter
}

const changeNotifyRequestSize = 32

// AppendBinary appends the body.
func (m *ChangeNotifyRequest) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint16(b, 32)
	b = le.AppendUint16(b, m.Flags)
	b = le.AppendUint32(b, m.OutputBufferLength)
	b = m.FileID.append(b)
	b = le.AppendUint32(b, uint32(m.CompletionFilter))
	return zeros(b, 4), nil
}

// ParseChangeNotifyRequest decodes a request; msg includes the header.
func ParseChangeNotifyRequest(msg []byte) (ChangeNotifyRequest, error) {
	body, err := bodyOf(msg, "CHANGE_NOTIFY request", 32, changeNotifyRequestSize)
	if err != nil {
		return ChangeNotifyRequest{}, err
	}
	return ChangeNotifyRequest{
		Flags:              le.Uint16(body[2:]),
		OutputBufferLength: le.Uint32(body[4:]),
		FileID:             parseFileID(body[8:]),
		CompletionFilter:   NotifyFilter(le.Uint32(body[24:])),
	}, nil
}

// ChangeNotifyResponse is the SMB2 CHANGE_NOTIFY response, [MS-SMB2] 2.2.36:
//
//	0 StructureSize 9   2 OutputBufferOffset   4 OutputBufferLength   8 Buffer
type ChangeNotifyResponse struct {
	// OutputBufferLength is as in QueryDirectoryResponse.
	OutputBufferLength uint32
	OutputBuffer       []byte // see FileNotifyInformations; borrowed when parsed
}

// AppendBinary appends the body.
func (m *ChangeNotifyResponse) AppendBinary(b []byte) ([]byte, error) {
	return appendOutputBuffer(b, "CHANGE_NOTIFY response", m.OutputBufferLength, m.OutputBuffer)
}

// ParseChangeNotifyResponse decodes a response; msg includes the header.
func ParseChangeNotifyResponse(msg []byte) (m ChangeNotifyResponse, err error) {
	m.OutputBuffer, m.OutputBufferLength, err = parseOutputBuffer(msg, "CHANGE_NOTIFY response")
	return m, err
}
