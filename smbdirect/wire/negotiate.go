package wire

import "encoding/binary"

// Version is the only protocol version there is.
const Version = 0x0100

// NegotiateRequest is the first message of the initiator, [MS-SMBD] 2.2.1.
//
//	 0           2           4           6                   8
//	+-----------+-----------+-----------+-------------------+
//	| MinVersion| MaxVersion|  Reserved | CreditsRequested  |
//	+-----------+-----------+-----------+-------------------+
//	|   PreferredSendSize   |        MaxReceiveSize         |  8
//	+-----------------------+-------------------------------+
//	|   MaxFragmentedSize   |                                 16
//	+-----------------------+
type NegotiateRequest struct {
	MinVersion        uint16
	MaxVersion        uint16
	CreditsRequested  uint16
	PreferredSendSize uint32 // bytes
	MaxReceiveSize    uint32 // bytes
	MaxFragmentedSize uint32 // bytes
}

// NegotiateRequestSize is the size of a NegotiateRequest in bytes.
const NegotiateRequestSize = 20

// AppendBinary appends the 20 octets of r. It implements
// encoding.BinaryAppender; the error is always nil.
func (r NegotiateRequest) AppendBinary(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	b = le.AppendUint16(b, r.MinVersion)
	b = le.AppendUint16(b, r.MaxVersion)
	b = le.AppendUint16(b, 0) // Reserved
	b = le.AppendUint16(b, r.CreditsRequested)
	b = le.AppendUint32(b, r.PreferredSendSize)
	b = le.AppendUint32(b, r.MaxReceiveSize)
	b = le.AppendUint32(b, r.MaxFragmentedSize)
	return b, nil
}

// ParseNegotiateRequest reads a request. Octets after it are ignored. The error
// is ErrShort.
func ParseNegotiateRequest(b []byte) (NegotiateRequest, error) {
	if len(b) < NegotiateRequestSize {
		return NegotiateRequest{}, ErrShort
	}
	le := binary.LittleEndian
	return NegotiateRequest{
		MinVersion:        le.Uint16(b[0:]),
		MaxVersion:        le.Uint16(b[2:]),
		CreditsRequested:  le.Uint16(b[6:]),
		PreferredSendSize: le.Uint32(b[8:]),
		MaxReceiveSize:    le.Uint32(b[12:]),
		MaxFragmentedSize: le.Uint32(b[16:]),
	}, nil
}

// NegotiateResponse is the answer to a NegotiateRequest, [MS-SMBD] 2.2.2.
//
//	 0           2           4                   6           8
//	+-----------+-----------+-------------------+-----------+
//	| MinVersion| MaxVersion| NegotiatedVersion |  Reserved |
//	+-----------+-----------+-------------------+-----------+
//	|  CrRequest| CrGranted |            Status             |  8
//	+-----------+-----------+-------------------------------+
//	|    MaxReadWriteSize   |       PreferredSendSize       | 16
//	+-----------------------+-------------------------------+
//	|     MaxReceiveSize    |       MaxFragmentedSize       | 24
//	+-----------------------+-------------------------------+
type NegotiateResponse struct {
	MinVersion        uint16
	MaxVersion        uint16
	NegotiatedVersion uint16
	CreditsRequested  uint16
	CreditsGranted    uint16
	Status            uint32 // NTSTATUS
	MaxReadWriteSize  uint32 // bytes
	PreferredSendSize uint32 // bytes
	MaxReceiveSize    uint32 // bytes
	MaxFragmentedSize uint32 // bytes
}

// NegotiateResponseSize is the size of a NegotiateResponse in bytes.
const NegotiateResponseSize = 32

// AppendBinary appends the 32 octets of r. It implements
// encoding.BinaryAppender; the error is always nil.
func (r NegotiateResponse) AppendBinary(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	b = le.AppendUint16(b, r.MinVersion)
	b = le.AppendUint16(b, r.MaxVersion)
	b = le.AppendUint16(b, r.NegotiatedVersion)
	b = le.AppendUint16(b, 0) // Reserved
	b = le.AppendUint16(b, r.CreditsRequested)
	b = le.AppendUint16(b, r.CreditsGranted)
	b = le.AppendUint32(b, r.Status)
	b = le.AppendUint32(b, r.MaxReadWriteSize)
	b = le.AppendUint32(b, r.PreferredSendSize)
	b = le.AppendUint32(b, r.MaxReceiveSize)
	b = le.AppendUint32(b, r.MaxFragmentedSize)
	return b, nil
}

// ParseNegotiateResponse reads a response. Octets after it are ignored. The
// error is ErrShort.
func ParseNegotiateResponse(b []byte) (NegotiateResponse, error) {
	if len(b) < NegotiateResponseSize {
		return NegotiateResponse{}, ErrShort
	}
	le := binary.LittleEndian
	return NegotiateResponse{
		MinVersion:        le.Uint16(b[0:]),
		MaxVersion:        le.Uint16(b[2:]),
		NegotiatedVersion: le.Uint16(b[4:]),
		CreditsRequested:  le.Uint16(b[8:]),
		CreditsGranted:    le.Uint16(b[10:]),
		Status:            le.Uint32(b[12:]),
		MaxReadWriteSize:  le.Uint32(b[16:]),
		PreferredSendSize: le.Uint32(b[20:]),
		MaxReceiveSize:    le.Uint32(b[24:]),
		MaxFragmentedSize: le.Uint32(b[28:]),
	}, nil
}
