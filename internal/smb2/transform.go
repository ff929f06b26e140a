package smb2

// TransformHeaderSize is the size of SMB2 TRANSFORM_HEADER, in octets.
const TransformHeaderSize = 52

// TransformFlagEncrypted is the Flags value of 3.1.1; as EncryptionAlgorithm
// of 3.0 and 3.0.2 the same number is AES-128-CCM ([MS-SMB2] 2.2.41).
const TransformFlagEncrypted uint16 = 0x0001

// TransformHeader is SMB2 TRANSFORM_HEADER, [MS-SMB2] 2.2.41; the encrypted
// message follows.
//
//	 0 ProtocolId   4 Signature   20 Nonce   36 OriginalMessageSize
//	40 Reserved    42 Flags or EncryptionAlgorithm   44 SessionId
//
// CCM uses the first 11 octets of Nonce, GCM the first 12; the rest is zero.
// The octets from Nonce to the end are the additional authenticated data
// (3.1.4.3): see TransformAAD.
type TransformHeader struct {
	Signature           [16]byte
	Nonce               [16]byte
	OriginalMessageSize uint32
	Flags               uint16
	SessionID           uint64
}

// Append appends the 52 octets.
func (h *TransformHeader) Append(b []byte) []byte {
	b = le.AppendUint32(b, uint32(ProtocolTransform))
	b = append(b, h.Signature[:]...)
	b = append(b, h.Nonce[:]...)
	b = le.AppendUint32(b, h.OriginalMessageSize)
	b = zeros(b, 2)
	b = le.AppendUint16(b, h.Flags)
	return le.AppendUint64(b, h.SessionID)
}

// AppendBinary is Append as encoding.BinaryAppender; the error is always nil.
func (h *TransformHeader) AppendBinary(b []byte) ([]byte, error) { return h.Append(b), nil }

// TransformAAD returns the additional authenticated data of a message that
// begins with a transform header, and SetTransformSignature stores the tag;
// both panic if msg is shorter than the header.
func TransformAAD(msg []byte) []byte { return msg[20:TransformHeaderSize:TransformHeaderSize] }

// SetTransformSignature stores the authentication tag.
func SetTransformSignature(msg []byte, sig [16]byte) { copy(msg[4:TransformHeaderSize], sig[:]) }

// ParseTransformHeader decodes the header at the start of a transport message
// and returns what follows, the ciphertext, which borrows msg. It checks that
// OriginalMessageSize is not more than there is, and at least an SMB2 header
// ([MS-SMB2] 3.2.5.1.1.1, 3.3.5.2.1.1).
func ParseTransformHeader(msg []byte) (TransformHeader, []byte, error) {
	const name = "TRANSFORM_HEADER"
	if len(msg) < TransformHeaderSize {
		return TransformHeader{}, nil, short(name, len(msg), TransformHeaderSize)
	}
	if id := le.Uint32(msg); id != uint32(ProtocolTransform) {
		return TransformHeader{}, nil, bad(name, "ProtocolId", uint64(id), uint64(ProtocolTransform))
	}
	h := TransformHeader{
		Signature:           [16]byte(msg[4:20]),
		Nonce:               [16]byte(msg[20:36]),
		OriginalMessageSize: le.Uint32(msg[36:]),
		Flags:               le.Uint16(msg[42:]),
		SessionID:           le.Uint64(msg[44:]),
	}
	n, have := uint64(h.OriginalMessageSize), uint64(len(msg)-TransformHeaderSize)
	if n > have || n < HeaderSize {
		return TransformHeader{}, nil, bad(name, "OriginalMessageSize", n, have)
	}
	return h, msg[TransformHeaderSize : TransformHeaderSize+n : TransformHeaderSize+n], nil
}

// CompressionHeaderSize is the size of the unchained compression header, in
// octets; a chained one has 8 and then payload headers.
const CompressionHeaderSize = 16

// CompressionFlagChained is the Flags value of a chained header, [MS-SMB2] 2.2.42.2.1.
const CompressionFlagChained uint16 = 0x0001

// CompressionHeader is SMB2_COMPRESSION_TRANSFORM_HEADER_UNCHAINED, [MS-SMB2]
// 2.2.42.1, or, if IsChained, the start of a chained one with its first
// payload header (2.2.42.2):
//
//	0 ProtocolId   4 OriginalCompressedSegmentSize
//	8 CompressionAlgorithm   10 Flags   12 Offset (unchained) or Length (chained)
type CompressionHeader struct {
	OriginalCompressedSegmentSize uint32
	CompressionAlgorithm          CompressionAlgorithm
	Flags                         uint16
	// Offset is where the compressed data begins, from the end of this header;
	// what is before it is not compressed. In a chained header it is the Length
	// of the first payload.
	Offset uint32
}

// IsChained reports whether the header is the chained one.
func (h *CompressionHeader) IsChained() bool { return h.Flags&CompressionFlagChained != 0 }

// Append appends the 16 octets.
func (h *CompressionHeader) Append(b []byte) []byte {
	b = le.AppendUint32(b, uint32(ProtocolCompression))
	b = le.AppendUint32(b, h.OriginalCompressedSegmentSize)
	b = le.AppendUint16(b, uint16(h.CompressionAlgorithm))
	b = le.AppendUint16(b, h.Flags)
	return le.AppendUint32(b, h.Offset)
}

// AppendBinary is Append as encoding.BinaryAppender; the error is always nil.
func (h *CompressionHeader) AppendBinary(b []byte) ([]byte, error) { return h.Append(b), nil }

// ParseCompressionHeader decodes the header at the start of a transport
// message and returns what follows its 16 octets, which borrows msg. Offset
// is checked to be within that.
func ParseCompressionHeader(msg []byte) (CompressionHeader, []byte, error) {
	const name = "COMPRESSION_TRANSFORM_HEADER"
	if len(msg) < CompressionHeaderSize {
		return CompressionHeader{}, nil, short(name, len(msg), CompressionHeaderSize)
	}
	if id := le.Uint32(msg); id != uint32(ProtocolCompression) {
		return CompressionHeader{}, nil, bad(name, "ProtocolId", uint64(id), uint64(ProtocolCompression))
	}
	h := CompressionHeader{
		OriginalCompressedSegmentSize: le.Uint32(msg[4:]),
		CompressionAlgorithm:          CompressionAlgorithm(le.Uint16(msg[8:])),
		Flags:                         le.Uint16(msg[10:]),
		Offset:                        le.Uint32(msg[12:]),
	}
	rest := msg[CompressionHeaderSize:]
	if uint64(h.Offset) > uint64(len(rest)) {
		return CompressionHeader{}, nil, bad(name, "Offset", uint64(h.Offset), uint64(len(rest)))
	}
	return h, rest, nil
}
