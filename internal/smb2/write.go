package smb2

// Flags of a WRITE request, [MS-SMB2] 2.2.21.
const (
	WriteFlagWriteThrough    uint32 = 0x00000001 // not 2.0.2
	WriteFlagWriteUnbuffered uint32 = 0x00000002 // 3.0.2 and 3.1.1
)

// WriteRequest is the SMB2 WRITE request, [MS-SMB2] 2.2.21:
//
//	 0 StructureSize 49   2 DataOffset   4 Length   8 Offset   16 FileId
//	32 Channel           36 RemainingBytes
//	40 WriteChannelInfoOffset, WriteChannelInfoLength   44 Flags   48 Buffer
//
// AppendBinary puts ChannelInfo at offset 112 from the header and Data at the
// first multiple of 8 behind it. With an RDMA channel and no data in the
// message, DataOffset is 0.
type WriteRequest struct {
	// Length is the length of the data in octets. If Data is nil, AppendBinary
	// stores it and leaves the data to the caller, who sends it right behind
	// the body. If Data is not nil, AppendBinary ignores it.
	Length         uint32
	Offset         uint64
	FileID         FileID
	Channel        Channel
	RemainingBytes uint32 // octets to be fetched by RDMA
	Flags          uint32
	ChannelInfo    []byte // buffer descriptors or an RDMA transform; borrowed when parsed
	Data           []byte // borrowed when parsed
}

const (
	writeRequestSize  = 48
	writeResponseSize = 16

	// WriteDataOffset is the DataOffset of a WRITE request without channel information.
	WriteDataOffset = HeaderSize + writeRequestSize
)

// AppendBinary appends the body: 48 octets, ChannelInfo, padding and Data. It
// does not allocate if b has room.
func (m *WriteRequest) AppendBinary(b []byte) ([]byte, error) {
	const name = "WRITE request"
	n := m.Length
	if m.Data != nil {
		if uint64(len(m.Data)) > 0xFFFFFFFF {
			return b, tooLong(name, "Data", len(m.Data))
		}
		n = uint32(len(m.Data))
	}
	offset := WriteDataOffset + len(m.ChannelInfo)
	if n > 0 {
		offset = alignUp(offset, 8)
	} else if m.Channel != ChannelNone {
		offset = 0
	}
	if offset > 0xFFFF || len(m.ChannelInfo) > 0xFFFF {
		return b, tooLong(name, "WriteChannelInfo", len(m.ChannelInfo))
	}
	start := len(b)
	b = le.AppendUint16(b, 49)
	b = le.AppendUint16(b, uint16(offset))
	b = le.AppendUint32(b, n)
	b = le.AppendUint64(b, m.Offset)
	b = m.FileID.append(b)
	b = le.AppendUint32(b, uint32(m.Channel))
	b = le.AppendUint32(b, m.RemainingBytes)
	if len(m.ChannelInfo) > 0 {
		b = le.AppendUint16(b, WriteDataOffset)
		b = le.AppendUint16(b, uint16(len(m.ChannelInfo)))
	} else {
		b = zeros(b, 4)
	}
	b = le.AppendUint32(b, m.Flags)
	b = append(b, m.ChannelInfo...)
	if n > 0 {
		b = pad(b, start, 8)
	}
	return append(b, m.Data...), nil
}

// ParseWriteRequest decodes a request; msg includes the header. It does not
// allocate. ChannelInfo is left nil, its offset and length unread, when
// Channel is ChannelNone.
func ParseWriteRequest(msg []byte) (WriteRequest, error) {
	const name = "WRITE request"
	body, err := bodyOf(msg, name, 49, writeRequestSize)
	if err != nil {
		return WriteRequest{}, err
	}
	m := WriteRequest{
		Length:         le.Uint32(body[4:]),
		Offset:         le.Uint64(body[8:]),
		FileID:         parseFileID(body[16:]),
		Channel:        Channel(le.Uint32(body[32:])),
		RemainingBytes: le.Uint32(body[36:]),
		Flags:          le.Uint32(body[44:]),
	}
	m.Data, err = section(msg, name, "Data", uint64(le.Uint16(body[2:])), uint64(m.Length), WriteDataOffset)
	if err != nil {
		return WriteRequest{}, err
	}
	if m.Channel != ChannelNone {
		m.ChannelInfo, err = section(msg, name, "WriteChannelInfo", uint64(le.Uint16(body[40:])), uint64(le.Uint16(body[42:])),
			HeaderSize+writeRequestSize)
		if err != nil {
			return WriteRequest{}, err
		}
	}
	return m, nil
}

// WriteResponse is the SMB2 WRITE response, [MS-SMB2] 2.2.22:
//
//	0 StructureSize 17   2 Reserved   4 Count   8 Remaining
//	12 WriteChannelInfoOffset, WriteChannelInfoLength
type WriteResponse struct {
	Count uint32 // octets written
}

// AppendBinary appends the body.
func (m *WriteResponse) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint16(b, 17)
	b = zeros(b, 2)
	b = le.AppendUint32(b, m.Count)
	return zeros(b, 8), nil
}

// ParseWriteResponse decodes a response; msg includes the header. It does not
// allocate.
func ParseWriteResponse(msg []byte) (WriteResponse, error) {
	body, err := bodyOf(msg, "WRITE response", 17, writeResponseSize)
	if err != nil {
		return WriteResponse{}, err
	}
	return WriteResponse{Count: le.Uint32(body[4:])}, nil
}
