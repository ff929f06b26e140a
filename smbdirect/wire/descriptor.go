package wire

import (
	"encoding/binary"
	"errors"
)

// ErrDescriptors says that a descriptor list is not a whole number of
// descriptors.
var ErrDescriptors = errors.New("smbdirect/wire: length of a descriptor list is not a multiple of 16")

// Descriptor is a Buffer Descriptor V1, [MS-SMBD] 2.2.3.1: memory that the peer
// reaches by RDMA. Token is the steering tag as a number.
//
//	 0                       8           12          16
//	+-----------------------+-----------+-----------+
//	|         Offset        |   Token   |   Length  |
//	+-----------------------+-----------+-----------+
type Descriptor struct {
	Offset uint64
	Token  uint32
	Length uint32 // bytes
}

// DescriptorSize is the size of a Descriptor in bytes.
const DescriptorSize = 16

// AppendBinary appends the 16 octets of d. It implements
// encoding.BinaryAppender; the error is always nil.
func (d Descriptor) AppendBinary(b []byte) ([]byte, error) {
	b = binary.LittleEndian.AppendUint64(b, d.Offset)
	b = binary.LittleEndian.AppendUint32(b, d.Token)
	return binary.LittleEndian.AppendUint32(b, d.Length), nil
}

// ParseDescriptors appends the descriptors of the list b to dst. The error is
// ErrDescriptors; an empty list is none.
func ParseDescriptors(dst []Descriptor, b []byte) ([]Descriptor, error) {
	if len(b)%DescriptorSize != 0 {
		return dst, ErrDescriptors
	}
	for ; len(b) > 0; b = b[DescriptorSize:] {
		dst = append(dst, Descriptor{
			Offset: binary.LittleEndian.Uint64(b[0:]),
			Token:  binary.LittleEndian.Uint32(b[8:]),
			Length: binary.LittleEndian.Uint32(b[12:]),
		})
	}
	return dst, nil
}
