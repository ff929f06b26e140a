package smb2

// Channel says what the channel information of READ and WRITE is,
// [MS-SMB2] 2.2.19 and 2.2.21.
type Channel uint32

const (
	ChannelNone             Channel = 0x00000000
	ChannelRDMAV1           Channel = 0x00000001
	ChannelRDMAV1Invalidate Channel = 0x00000002 // 3.0.2 and 3.1.1
	ChannelRDMATransform    Channel = 0x00000003 // 3.1.1, WRITE only
)

// Flags of a READ request, [MS-SMB2] 2.2.19.
const (
	ReadFlagReadUnbuffered    uint8 = 0x01 // 3.0.2 and 3.1.1
	ReadFlagRequestCompressed uint8 = 0x02 // 3.1.1
)

// Flags of a READ response, [MS-SMB2] 2.2.20; 3.1.1 only.
const (
	ReadFlagResponseNone          uint32 = 0x00000000
	ReadFlagResponseRDMATransform uint32 = 0x00000001
)

// ReadRequest is the SMB2 READ request, [MS-SMB2] 2.2.19:
//
//	 0 StructureSize 49   2 Padding   3 Flags   4 Length   8 Offset   16 FileId
//	32 MinimumCount      36 Channel  40 RemainingBytes
//	44 ReadChannelInfoOffset, ReadChannelInfoLength   48 Buffer
type ReadRequest struct {
	Padding        uint8 // where the client wants the data, from the header; ReadDataOffset is customary
	Flags          uint8
	Length         uint32 // octets
	Offset         uint64
	FileID         FileID
	MinimumCount   uint32
	Channel        Channel
	RemainingBytes uint32
	ChannelInfo    []byte // buffer descriptors, see BufferDescriptors; borrowed when parsed
}

const (
	readRequestSize  = 48
	readResponseSize = 16

	// ReadDataOffset is the DataOffset of the READ responses made here: data
	// follows the fixed part at once.
	ReadDataOffset = HeaderSize + readResponseSize
)

// AppendBinary appends the body.
func (m *ReadRequest) AppendBinary(b []byte) ([]byte, error) {
	if len(m.ChannelInfo) > 0xFFFF {
		return b, tooLong("READ request", "ReadChannelInfo", len(m.ChannelInfo))
	}
	b = le.AppendUint16(b, 49)
	b = append(b, m.Padding, m.Flags)
	b = le.AppendUint32(b, m.Length)
	b = le.AppendUint64(b, m.Offset)
	b = m.FileID.append(b)
	b = le.AppendUint32(b, m.MinimumCount)
	b = le.AppendUint32(b, uint32(m.Channel))
	b = le.AppendUint32(b, m.RemainingBytes)
	if len(m.ChannelInfo) == 0 {
		return zeros(b, 5), nil // no channel information, and the octet that stands for the buffer
	}
	b = le.AppendUint16(b, HeaderSize+readRequestSize)
	b = le.AppendUint16(b, uint16(len(m.ChannelInfo)))
	return append(b, m.ChannelInfo...), nil
}

// ParseReadRequest decodes a request; msg includes the header. It does not
// allocate. ChannelInfo is left nil, its offset and length unread, when
// Channel is ChannelNone, as 2.2.19 has the server ignore them.
func ParseReadRequest(msg []byte) (ReadRequest, error) {
	const name = "READ request"
	body, err := bodyOf(msg, name, 49, readRequestSize)
	if err != nil {
		return ReadRequest{}, err
	}
	m := ReadRequest{
		Padding:        body[2],
		Flags:          body[3],
		Length:         le.Uint32(body[4:]),
		Offset:         le.Uint64(body[8:]),
		FileID:         parseFileID(body[16:]),
		MinimumCount:   le.Uint32(body[32:]),
		Channel:        Channel(le.Uint32(body[36:])),
		RemainingBytes: le.Uint32(body[40:]),
	}
	if m.Channel != ChannelNone {
		m.ChannelInfo, err = section(msg, name, "ReadChannelInfo", uint64(le.Uint16(body[44:])), uint64(le.Uint16(body[46:])),
			HeaderSize+readRequestSize)
		if err != nil {
			return ReadRequest{}, err
		}
	}
	return m, nil
}

// ReadResponse is the SMB2 READ response, [MS-SMB2] 2.2.20:
//
//	0 StructureSize 17   2 DataOffset   3 Reserved   4 DataLength   8 DataRemaining
//	12 Flags            16 Buffer
//
// For data sent by RDMA, DataRemaining is its length and Data is empty, or an
// RDMA transform (see RDMATransform) if Flags has ReadFlagResponseRDMATransform.
type ReadResponse struct {
	DataRemaining uint32 // octets sent on the channel
	Flags         uint32 // ReadFlagResponseRDMATransform
	// DataLength is the length of the data in octets. If Data is nil,
	// AppendBinary stores it and leaves the data to the caller, who sends it
	// right behind the body. If Data is not nil, AppendBinary ignores it.
	DataLength uint32
	Data       []byte // borrowed when parsed
}

// AppendBinary appends the body: 16 octets and Data. It does not allocate if b
// has room.
func (m *ReadResponse) AppendBinary(b []byte) ([]byte, error) {
	n := m.DataLength
	if m.Data != nil {
		if uint64(len(m.Data)) > 0xFFFFFFFF {
			return b, tooLong("READ response", "Data", len(m.Data))
		}
		n = uint32(len(m.Data))
	}
	b = le.AppendUint16(b, 17)
	b = append(b, ReadDataOffset, 0)
	b = le.AppendUint32(b, n)
	b = le.AppendUint32(b, m.DataRemaining)
	b = le.AppendUint32(b, m.Flags)
	return append(b, m.Data...), nil
}

// PeekReadResponse decodes as much of a response as comes before its data: msg is a
// message that may have been cut off behind ReadDataOffset. Data is nil; offset is where
// it begins in the message, not less than ReadDataOffset.
func PeekReadResponse(msg []byte) (m ReadResponse, offset int, err error) {
	const name = "READ response"
	body, err := bodyOf(msg, name, 17, readResponseSize)
	if err != nil {
		return ReadResponse{}, 0, err
	}
	if body[2] < ReadDataOffset {
		return ReadResponse{}, 0, bad(name, "Data offset", uint64(body[2]), ReadDataOffset)
	}
	return ReadResponse{DataRemaining: le.Uint32(body[8:]), Flags: le.Uint32(body[12:]), DataLength: le.Uint32(body[4:])},
		int(body[2]), nil
}

// ParseReadResponse decodes a response; msg includes the header. It does not
// allocate.
func ParseReadResponse(msg []byte) (ReadResponse, error) {
	const name = "READ response"
	body, err := bodyOf(msg, name, 17, readResponseSize)
	if err != nil {
		return ReadResponse{}, err
	}
	n := le.Uint32(body[4:])
	data, err := section(msg, name, "Data", uint64(body[2]), uint64(n), ReadDataOffset)
	if err != nil {
		return ReadResponse{}, err
	}
	return ReadResponse{
		DataRemaining: le.Uint32(body[8:]),
		Flags:         le.Uint32(body[12:]),
		DataLength:    n,
		Data:          data,
	}, nil
}
