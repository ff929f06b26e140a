package wire

import (
	"encoding/binary"
	"errors"
)

// ErrShort says that a message is shorter than its fixed part.
var ErrShort = errors.New("smbdirect/wire: message is shorter than its fixed part")

// Flags of a DataTransfer, [MS-SMBD] 2.2.3.
const (
	// FlagResponseRequested, SMB_DIRECT_RESPONSE_REQUESTED: the peer is to send
	// a message promptly.
	FlagResponseRequested = 0x0001
)

// DataTransfer is the header of a Data Transfer message, [MS-SMBD] 2.2.3.
//
//	 0           2           4           6           8
//	+-----------+-----------+-----------+-----------+
//	|  CrRequest| CrGranted |   Flags   |  Reserved |
//	+-----------+-----------+-----------+-----------+
//	|  RemainingDataLength  |       DataOffset      |  8
//	+-----------------------+-----------------------+
//	|       DataLength      |  Padding to DataOffset| 16
//	+-----------------------+-----------------------+
//	|  DataLength octets at DataOffset ...
type DataTransfer struct {
	CreditsRequested    uint16
	CreditsGranted      uint16
	Flags               uint16
	RemainingDataLength uint32 // bytes of the SMB2 message that follow this fragment
	DataOffset          uint32 // bytes from the start of the message
	DataLength          uint32 // bytes
}

const (
	// DataTransferSize is the size of the header, and of a message without
	// payload, in bytes.
	DataTransferSize = 20
	// PayloadOffset is the DataOffset of messages that we send: the header and
	// four octets of padding.
	PayloadOffset = 24
	// payloadAlign is what DataOffset is a multiple of, 3.1.5.4.
	payloadAlign = 8
)

// AppendBinary appends the header, and the padding up to DataOffset if there is
// payload; the caller appends DataLength octets of payload. It implements
// encoding.BinaryAppender; the error is always nil.
func (d DataTransfer) AppendBinary(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	b = le.AppendUint16(b, d.CreditsRequested)
	b = le.AppendUint16(b, d.CreditsGranted)
	b = le.AppendUint16(b, d.Flags)
	b = le.AppendUint16(b, 0) // Reserved
	b = le.AppendUint32(b, d.RemainingDataLength)
	b = le.AppendUint32(b, d.DataOffset)
	b = le.AppendUint32(b, d.DataLength)
	if d.DataLength > 0 {
		for i := uint32(DataTransferSize); i < d.DataOffset; i++ {
			b = append(b, 0)
		}
	}
	return b, nil
}

// ParseDataTransfer reads the header of a message. The error is ErrShort.
func ParseDataTransfer(b []byte) (DataTransfer, error) {
	if len(b) < DataTransferSize {
		return DataTransfer{}, ErrShort
	}
	le := binary.LittleEndian
	return DataTransfer{
		CreditsRequested:    le.Uint16(b[0:]),
		CreditsGranted:      le.Uint16(b[2:]),
		Flags:               le.Uint16(b[4:]),
		RemainingDataLength: le.Uint32(b[8:]),
		DataOffset:          le.Uint32(b[12:]),
		DataLength:          le.Uint32(b[16:]),
	}, nil
}

// Aligned reports whether DataOffset is a multiple of 8, 3.1.5.8.
func (d DataTransfer) Aligned() bool { return d.DataOffset%payloadAlign == 0 }

// End is DataOffset + DataLength, which may be beyond 32 bits.
func (d DataTransfer) End() uint64 { return uint64(d.DataOffset) + uint64(d.DataLength) }

// MessageLength is DataLength + RemainingDataLength, which may be beyond 32 bits:
// the length of the rest of the SMB2 message from this fragment on.
func (d DataTransfer) MessageLength() uint64 {
	return uint64(d.DataLength) + uint64(d.RemainingDataLength)
}

// Payload is the part of the message b that d speaks of; ok is false if it lies
// outside of b or, not being empty, inside the header.
func (d DataTransfer) Payload(b []byte) (p []byte, ok bool) {
	if d.End() > uint64(len(b)) || d.DataLength > 0 && d.DataOffset < DataTransferSize {
		return nil, false
	}
	return b[d.DataOffset:d.End()], true
}
