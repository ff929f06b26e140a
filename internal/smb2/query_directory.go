package smb2

// Flags of a QUERY_DIRECTORY request, [MS-SMB2] 2.2.33.
const (
	QueryDirectoryRestartScans      uint8 = 0x01
	QueryDirectoryReturnSingleEntry uint8 = 0x02
	QueryDirectoryIndexSpecified    uint8 = 0x04
	QueryDirectoryReopen            uint8 = 0x10
)

// QueryDirectoryRequest is the SMB2 QUERY_DIRECTORY request, [MS-SMB2] 2.2.33:
//
//	 0 StructureSize 33   2 FileInformationClass   3 Flags   4 FileIndex   8 FileId
//	24 FileNameOffset, FileNameLength   28 OutputBufferLength   32 Buffer
type QueryDirectoryRequest struct {
	FileInformationClass FileInfoClass
	Flags                uint8
	FileIndex            uint32
	FileID               FileID
	FileName             []byte // search pattern, UTF-16LE; borrowed when parsed
	OutputBufferLength   uint32 // octets
}

const (
	queryDirectoryRequestSize = 32
	outputBufferResponseSize  = 8

	// OutputBufferOffset is that of the responses to QUERY_DIRECTORY,
	// CHANGE_NOTIFY and QUERY_INFO made here.
	OutputBufferOffset = HeaderSize + outputBufferResponseSize
)

// AppendBinary appends the body.
func (m *QueryDirectoryRequest) AppendBinary(b []byte) ([]byte, error) {
	if len(m.FileName) > 0xFFFF {
		return b, tooLong("QUERY_DIRECTORY request", "FileName", len(m.FileName))
	}
	b = le.AppendUint16(b, 33)
	b = append(b, uint8(m.FileInformationClass), m.Flags)
	b = le.AppendUint32(b, m.FileIndex)
	b = m.FileID.append(b)
	b = le.AppendUint16(b, HeaderSize+queryDirectoryRequestSize)
	b = le.AppendUint16(b, uint16(len(m.FileName)))
	b = le.AppendUint32(b, m.OutputBufferLength)
	return appendBuffer(b, m.FileName), nil
}

// ParseQueryDirectoryRequest decodes a request; msg includes the header.
func ParseQueryDirectoryRequest(msg []byte) (QueryDirectoryRequest, error) {
	const name = "QUERY_DIRECTORY request"
	body, err := bodyOf(msg, name, 33, queryDirectoryRequestSize)
	if err != nil {
		return QueryDirectoryRequest{}, err
	}
	file, err := nameSection(msg, name, "FileName", uint64(le.Uint16(body[24:])), uint64(le.Uint16(body[26:])),
		HeaderSize+queryDirectoryRequestSize)
	if err != nil {
		return QueryDirectoryRequest{}, err
	}
	return QueryDirectoryRequest{
		FileInformationClass: FileInfoClass(body[2]),
		Flags:                body[3],
		FileIndex:            le.Uint32(body[4:]),
		FileID:               parseFileID(body[8:]),
		FileName:             file,
		OutputBufferLength:   le.Uint32(body[28:]),
	}, nil
}

// appendOutputBuffer and parseOutputBuffer are the layout that three responses
// share: StructureSize 9, OutputBufferOffset (2), OutputBufferLength (4), Buffer.
func appendOutputBuffer(b []byte, name string, n uint32, buf []byte) ([]byte, error) {
	if buf != nil {
		if uint64(len(buf)) > 0xFFFFFFFF {
			return b, tooLong(name, "OutputBuffer", len(buf))
		}
		n = uint32(len(buf))
	}
	b = le.AppendUint16(b, 9)
	b = le.AppendUint16(b, OutputBufferOffset)
	b = le.AppendUint32(b, n)
	if n == 0 {
		return append(b, 0), nil
	}
	return append(b, buf...), nil
}

func parseOutputBuffer(msg []byte, name string) ([]byte, uint32, error) {
	body, err := bodyOf(msg, name, 9, outputBufferResponseSize)
	if err != nil {
		return nil, 0, err
	}
	n := le.Uint32(body[4:])
	buf, err := section(msg, name, "OutputBuffer", uint64(le.Uint16(body[2:])), uint64(n), OutputBufferOffset)
	if err != nil {
		return nil, 0, err
	}
	return buf, n, nil
}

// QueryDirectoryResponse is the SMB2 QUERY_DIRECTORY response, [MS-SMB2] 2.2.34:
//
//	0 StructureSize 9   2 OutputBufferOffset   4 OutputBufferLength   8 Buffer
type QueryDirectoryResponse struct {
	// OutputBufferLength, in octets, is stored by AppendBinary if OutputBuffer
	// is nil; the caller then sends that many octets right behind the body.
	OutputBufferLength uint32
	OutputBuffer       []byte // see DirectoryEntries; borrowed when parsed
}

// AppendBinary appends the body.
func (m *QueryDirectoryResponse) AppendBinary(b []byte) ([]byte, error) {
	return appendOutputBuffer(b, "QUERY_DIRECTORY response", m.OutputBufferLength, m.OutputBuffer)
}

// ParseQueryDirectoryResponse decodes a response; msg includes the header.
func ParseQueryDirectoryResponse(msg []byte) (m QueryDirectoryResponse, err error) {
	m.OutputBuffer, m.OutputBufferLength, err = parseOutputBuffer(msg, "QUERY_DIRECTORY response")
	return m, err
}
