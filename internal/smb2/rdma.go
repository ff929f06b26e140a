package smb2

import "iter"

// BufferDescriptorSize is the size of SMB_DIRECT_BUFFER_DESCRIPTOR_V1, in octets.
const BufferDescriptorSize = 16

// BufferDescriptor is SMB_DIRECT_BUFFER_DESCRIPTOR_V1, [MS-SMBD] 2.2.3.1:
// Offset (8), Token (4), Length (4). It grants access to Length octets at
// Offset in the memory that Token names.
type BufferDescriptor struct {
	Offset uint64
	Token  uint32
	Length uint32 // octets
}

// Append appends the 16 octets.
func (d BufferDescriptor) Append(b []byte) []byte {
	b = le.AppendUint64(b, d.Offset)
	b = le.AppendUint32(b, d.Token)
	return le.AppendUint32(b, d.Length)
}

// BufferDescriptors is the channel information of READ and WRITE with
// ChannelRDMAV1 and ChannelRDMAV1Invalidate: descriptors in a row. It borrows
// the message. Make one with ParseBufferDescriptors.
type BufferDescriptors []byte

// ParseBufferDescriptors checks that info is at least one descriptor and a
// whole number of them. It does not allocate.
func ParseBufferDescriptors(info []byte) (BufferDescriptors, error) {
	if len(info) == 0 || len(info)%BufferDescriptorSize != 0 {
		return nil, bad("BUFFER_DESCRIPTOR_V1 list", "length", uint64(len(info)), BufferDescriptorSize)
	}
	return BufferDescriptors(info), nil
}

// Len returns the number of descriptors.
func (l BufferDescriptors) Len() int { return len(l) / BufferDescriptorSize }

// At returns descriptor i; it panics if i is out of range.
func (l BufferDescriptors) At(i int) BufferDescriptor {
	b := l[i*BufferDescriptorSize : (i+1)*BufferDescriptorSize]
	return BufferDescriptor{le.Uint64(b), le.Uint32(b[8:]), le.Uint32(b[12:])}
}

// All yields the descriptors in order.
func (l BufferDescriptors) All() iter.Seq[BufferDescriptor] {
	return func(yield func(BufferDescriptor) bool) {
		for i := range l.Len() {
			if !yield(l.At(i)) {
				return
			}
		}
	}
}

// TotalLength returns the sum of the lengths, in octets.
func (l BufferDescriptors) TotalLength() uint64 {
	var n uint64
	for i := range l.Len() {
		n += uint64(l.At(i).Length)
	}
	return n
}

// RDMATransformType is of [MS-SMB2] 2.2.43.1.
type RDMATransformType uint16

const (
	RDMATransformTypeEncryption RDMATransformType = 0x0001
	RDMATransformTypeSigning    RDMATransformType = 0x0002
)

const (
	rdmaTransformSize       = 16
	rdmaCryptoTransformSize = 8
	maxRDMASignature        = 16
)

// RDMACryptoTransform is SMB2_RDMA_CRYPTO_TRANSFORM, [MS-SMB2] 2.2.43.1:
// TransformType (2), SignatureLength (2), NonceLength (2), Reserved (2),
// Signature, Nonce, padding to a multiple of 8.
type RDMACryptoTransform struct {
	TransformType RDMATransformType
	Signature     []byte // at most 16 octets when encoded; borrowed when parsed
	Nonce         []byte // borrowed when parsed
}

// RDMATransform is SMB2_RDMA_TRANSFORM, [MS-SMB2] 2.2.43, with the one crypto
// transform that 3.2.5.11 and 3.3.5.13 accept:
//
//	0 RdmaDescriptorOffset, RdmaDescriptorLength   4 Channel
//	8 TransformCount   10 Reserved1   12 Reserved2
//	16 SMB2_RDMA_CRYPTO_TRANSFORM, padding, descriptors
//
// It is the channel information of a WRITE request with ChannelRDMATransform
// and the buffer of a READ response with ReadFlagResponseRDMATransform.
type RDMATransform struct {
	Channel        Channel // ChannelNone (READ response), ChannelRDMAV1 or ChannelRDMAV1Invalidate
	TransformCount uint16  // when parsed; always encoded as 1
	Crypto         RDMACryptoTransform
	Descriptors    []byte // see ParseBufferDescriptors; borrowed when parsed
}

// Len returns the length of the structure in octets, with its padding and
// descriptors.
func (m *RDMATransform) Len() int {
	return alignUp(rdmaTransformSize+rdmaCryptoTransformSize+len(m.Crypto.Signature)+len(m.Crypto.Nonce), 8) + len(m.Descriptors)
}

// AppendBinary appends the structure, padded to a multiple of 8. It does not
// allocate if b has room.
func (m *RDMATransform) AppendBinary(b []byte) ([]byte, error) {
	const name = "RDMA_TRANSFORM"
	if len(m.Crypto.Signature) > maxRDMASignature {
		return b, tooLong(name, "Signature", len(m.Crypto.Signature))
	}
	if len(m.Crypto.Nonce) > 0xFF {
		return b, tooLong(name, "Nonce", len(m.Crypto.Nonce))
	}
	if len(m.Descriptors) > 0xFFFF {
		return b, tooLong(name, "descriptors", len(m.Descriptors))
	}
	start := len(b)
	if m.Channel != ChannelNone || len(m.Descriptors) > 0 {
		off := alignUp(rdmaTransformSize+rdmaCryptoTransformSize+len(m.Crypto.Signature)+len(m.Crypto.Nonce), 8)
		b = le.AppendUint16(b, uint16(off))
		b = le.AppendUint16(b, uint16(len(m.Descriptors)))
	} else {
		b = zeros(b, 4)
	}
	b = le.AppendUint32(b, uint32(m.Channel))
	b = le.AppendUint16(b, 1)
	b = zeros(b, 6)
	b = le.AppendUint16(b, uint16(m.Crypto.TransformType))
	b = le.AppendUint16(b, uint16(len(m.Crypto.Signature)))
	b = le.AppendUint16(b, uint16(len(m.Crypto.Nonce)))
	b = zeros(b, 2)
	b = append(b, m.Crypto.Signature...)
	b = append(b, m.Crypto.Nonce...)
	b = pad(b, start, 8)
	return append(b, m.Descriptors...), nil
}

// ParseRDMATransform decodes the structure and its first crypto transform. A
// TransformCount other than 1 is malformed (3.2.5.11, 3.3.5.13), as are
// descriptors that do not begin at the first multiple of 8 behind the crypto
// transform (2.2.43.1, 3.3.5.13). The lengths of signature and nonce are the
// receiver's to judge, as what is wrong with them has statuses of its own. It does
// not allocate.
func ParseRDMATransform(b []byte) (RDMATransform, error) {
	const name, fixed = "RDMA_TRANSFORM", rdmaTransformSize + rdmaCryptoTransformSize
	if len(b) < fixed {
		return RDMATransform{}, short(name, len(b), fixed)
	}
	m := RDMATransform{Channel: Channel(le.Uint32(b[4:])), TransformCount: le.Uint16(b[8:])}
	if m.TransformCount != 1 {
		return RDMATransform{}, bad(name, "TransformCount", uint64(m.TransformCount), 1)
	}
	m.Crypto.TransformType = RDMATransformType(le.Uint16(b[16:]))
	sig, nonce := uint64(le.Uint16(b[18:])), uint64(le.Uint16(b[20:]))
	var err error
	if m.Crypto.Signature, err = section(b, name, "Signature", fixed, sig, fixed); err != nil {
		return RDMATransform{}, err
	}
	if m.Crypto.Nonce, err = section(b, name, "Nonce", fixed+sig, nonce, fixed); err != nil {
		return RDMATransform{}, err
	}
	if m.Channel != ChannelNone {
		off, want := uint64(le.Uint16(b)), alignUp(fixed+int(sig+nonce), 8)
		if off != uint64(want) {
			return RDMATransform{}, bad(name, "RdmaDescriptorOffset", off, uint64(want))
		}
		m.Descriptors, err = section(b, name, "RdmaDescriptor", off, uint64(le.Uint16(b[2:])), want)
		if err != nil {
			return RDMATransform{}, err
		}
	}
	return m, nil
}
