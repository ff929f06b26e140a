package smb2

// NegotiateContextType is the ContextType of a negotiate context, [MS-SMB2] 2.2.3.1.
type NegotiateContextType uint16

const (
	ContextPreauthIntegrityCapabilities NegotiateContextType = 0x0001
	ContextEncryptionCapabilities       NegotiateContextType = 0x0002
	ContextCompressionCapabilities      NegotiateContextType = 0x0003
	ContextNetnameNegotiate             NegotiateContextType = 0x0005
	ContextTransportCapabilities        NegotiateContextType = 0x0006
	ContextRDMATransformCapabilities    NegotiateContextType = 0x0007
	ContextSigningCapabilities          NegotiateContextType = 0x0008
	ContextReserved                     NegotiateContextType = 0x0100
	// ContextPosixExtensions is the context of the SMB3 POSIX extensions (not in
	// [MS-SMB2]); its data is PosixExtensionsTag.
	ContextPosixExtensions NegotiateContextType = 0x0100
)

// HashAlgorithm is a preauthentication hash, [MS-SMB2] 2.2.3.1.1.
type HashAlgorithm uint16

// HashSHA512 is the one defined hash.
const HashSHA512 HashAlgorithm = 0x0001

// Cipher is an encryption algorithm, [MS-SMB2] 2.2.3.1.2. Zero in a response
// means that none is common (3.3.5.4).
type Cipher uint16

const (
	CipherAES128CCM Cipher = 0x0001
	CipherAES128GCM Cipher = 0x0002
	CipherAES256CCM Cipher = 0x0003
	CipherAES256GCM Cipher = 0x0004
)

// CompressionAlgorithm is of [MS-SMB2] 2.2.3.1.3.
type CompressionAlgorithm uint16

const (
	CompressionNone        CompressionAlgorithm = 0x0000
	CompressionLZNT1       CompressionAlgorithm = 0x0001
	CompressionLZ77        CompressionAlgorithm = 0x0002
	CompressionLZ77Huffman CompressionAlgorithm = 0x0003
	CompressionPatternV1   CompressionAlgorithm = 0x0004
	CompressionLZ4         CompressionAlgorithm = 0x0005
)

// CompressionCapabilitiesFlagChained says that chained compression is supported.
const CompressionCapabilitiesFlagChained uint32 = 0x00000001

// AcceptTransportLevelSecurity is the flag of TransportCapabilities.
const AcceptTransportLevelSecurity uint32 = 0x00000001

// RDMATransformID is of [MS-SMB2] 2.2.3.1.6.
type RDMATransformID uint16

const (
	RDMATransformNone       RDMATransformID = 0x0000
	RDMATransformEncryption RDMATransformID = 0x0001
	RDMATransformSigning    RDMATransformID = 0x0002
)

// SigningAlgorithm is of [MS-SMB2] 2.2.3.1.7.
type SigningAlgorithm uint16

const (
	SigningHMACSHA256 SigningAlgorithm = 0x0000
	SigningAESCMAC    SigningAlgorithm = 0x0001
	SigningAESGMAC    SigningAlgorithm = 0x0002
)

// NegotiateContext is one SMB2_NEGOTIATE_CONTEXT, [MS-SMB2] 2.2.3.1:
// ContextType (2), DataLength (2), Reserved (4), Data. Each begins at a multiple
// of 8 from the SMB2 header.
type NegotiateContext struct {
	Type NegotiateContextType
	Data []byte // at most 65535 octets; borrowed when parsed
}

// FindNegotiateContext returns the data of the first context of type t and the
// number of contexts of that type; more than one is an error for most types
// ([MS-SMB2] 3.2.5.2, 3.3.5.4).
func FindNegotiateContext(cs []NegotiateContext, t NegotiateContextType) (data []byte, count int) {
	for _, c := range cs {
		if c.Type == t {
			if count == 0 {
				data = c.Data
			}
			count++
		}
	}
	return data, count
}

func appendNegotiateContexts(b []byte, start int, cs []NegotiateContext) ([]byte, error) {
	const name = "negotiate context"
	if len(cs) > 0xFFFF {
		return b, tooLong(name, "list", len(cs))
	}
	for _, c := range cs {
		if len(c.Data) > 0xFFFF {
			return b, tooLong(name, "Data", len(c.Data))
		}
		b = pad(b, start, 8)
		b = le.AppendUint16(b, uint16(c.Type))
		b = le.AppendUint16(b, uint16(len(c.Data)))
		b = zeros(b, 4)
		b = append(b, c.Data...)
	}
	return b, nil
}

func parseNegotiateContexts(msg []byte, parent string, offset uint32, count uint16, low int) ([]NegotiateContext, error) {
	if count == 0 {
		return nil, nil
	}
	const name, size = "negotiate context", 8
	if offset%8 != 0 {
		return nil, bad(parent, "NegotiateContextOffset", uint64(offset), uint64(offset&^7))
	}
	off := uint64(offset)
	if off < uint64(low) {
		return nil, bad(parent, "NegotiateContextOffset", off, uint64(low))
	}
	// A context takes 8 octets at least, so this bounds the allocation too.
	if end := off + uint64(count)*size; end > uint64(len(msg)) {
		return nil, bad(parent, "NegotiateContextCount end", end, uint64(len(msg)))
	}
	cs := make([]NegotiateContext, 0, count)
	for range count {
		off = (off + 7) &^ 7
		if off+size > uint64(len(msg)) {
			return nil, bad(name, "end", off+size, uint64(len(msg)))
		}
		n := uint64(le.Uint16(msg[off+2:]))
		data, err := section(msg, name, "Data", off+size, n, low)
		if err != nil {
			return nil, err
		}
		cs = append(cs, NegotiateContext{Type: NegotiateContextType(le.Uint16(msg[off:])), Data: data})
		off += size + n
	}
	return cs, nil
}

// appendIDs appends 16-bit identifiers.
func appendIDs[T ~uint16](b []byte, ids []T) []byte {
	for _, id := range ids {
		b = le.AppendUint16(b, uint16(id))
	}
	return b
}

// parseIDs reads count identifiers at off; it copies them.
func parseIDs[T ~uint16](b []byte, name string, off int, count uint16) ([]T, error) {
	if end := off + 2*int(count); end > len(b) {
		return nil, bad(name, "count end", uint64(end), uint64(len(b)))
	}
	ids := make([]T, count)
	for i := range ids {
		ids[i] = T(le.Uint16(b[off+2*i:]))
	}
	return ids, nil
}

// PreauthIntegrityCapabilities is the data of SMB2_PREAUTH_INTEGRITY_CAPABILITIES,
// [MS-SMB2] 2.2.3.1.1: HashAlgorithmCount (2), SaltLength (2), HashAlgorithms, Salt.
type PreauthIntegrityCapabilities struct {
	HashAlgorithms []HashAlgorithm
	Salt           []byte // borrowed when parsed
}

// AppendBinary appends the context's data.
func (c *PreauthIntegrityCapabilities) AppendBinary(b []byte) ([]byte, error) {
	const name = "PREAUTH_INTEGRITY_CAPABILITIES"
	if len(c.HashAlgorithms) > 0xFFFF {
		return b, tooLong(name, "HashAlgorithms", len(c.HashAlgorithms))
	}
	if len(c.Salt) > 0xFFFF {
		return b, tooLong(name, "Salt", len(c.Salt))
	}
	b = le.AppendUint16(b, uint16(len(c.HashAlgorithms)))
	b = le.AppendUint16(b, uint16(len(c.Salt)))
	b = appendIDs(b, c.HashAlgorithms)
	return append(b, c.Salt...), nil
}

// ParsePreauthIntegrityCapabilities decodes the context's data.
func ParsePreauthIntegrityCapabilities(b []byte) (c PreauthIntegrityCapabilities, err error) {
	const name = "PREAUTH_INTEGRITY_CAPABILITIES"
	if len(b) < 4 {
		return c, short(name, len(b), 4)
	}
	if c.HashAlgorithms, err = parseIDs[HashAlgorithm](b, name, 4, le.Uint16(b)); err != nil {
		return PreauthIntegrityCapabilities{}, err
	}
	off := 4 + 2*len(c.HashAlgorithms)
	if c.Salt, err = section(b, name, "Salt", uint64(off), uint64(le.Uint16(b[2:])), off); err != nil {
		return PreauthIntegrityCapabilities{}, err
	}
	return c, nil
}

// EncryptionCapabilities is the data of SMB2_ENCRYPTION_CAPABILITIES,
// [MS-SMB2] 2.2.3.1.2: CipherCount (2), Ciphers.
type EncryptionCapabilities struct {
	Ciphers []Cipher
}

// AppendBinary appends the context's data.
func (c *EncryptionCapabilities) AppendBinary(b []byte) ([]byte, error) {
	if len(c.Ciphers) > 0xFFFF {
		return b, tooLong("ENCRYPTION_CAPABILITIES", "Ciphers", len(c.Ciphers))
	}
	b = le.AppendUint16(b, uint16(len(c.Ciphers)))
	return appendIDs(b, c.Ciphers), nil
}

// ParseEncryptionCapabilities decodes the context's data.
func ParseEncryptionCapabilities(b []byte) (c EncryptionCapabilities, err error) {
	const name = "ENCRYPTION_CAPABILITIES"
	if len(b) < 2 {
		return c, short(name, len(b), 2)
	}
	c.Ciphers, err = parseIDs[Cipher](b, name, 2, le.Uint16(b))
	return c, err
}

// CompressionCapabilities is the data of SMB2_COMPRESSION_CAPABILITIES,
// [MS-SMB2] 2.2.3.1.3: CompressionAlgorithmCount (2), Padding (2), Flags (4),
// CompressionAlgorithms.
type CompressionCapabilities struct {
	Flags                 uint32
	CompressionAlgorithms []CompressionAlgorithm
}

// AppendBinary appends the context's data.
func (c *CompressionCapabilities) AppendBinary(b []byte) ([]byte, error) {
	if len(c.CompressionAlgorithms) > 0xFFFF {
		return b, tooLong("COMPRESSION_CAPABILITIES", "CompressionAlgorithms", len(c.CompressionAlgorithms))
	}
	b = le.AppendUint16(b, uint16(len(c.CompressionAlgorithms)))
	b = zeros(b, 2)
	b = le.AppendUint32(b, c.Flags)
	return appendIDs(b, c.CompressionAlgorithms), nil
}

// ParseCompressionCapabilities decodes the context's data.
func ParseCompressionCapabilities(b []byte) (c CompressionCapabilities, err error) {
	const name = "COMPRESSION_CAPABILITIES"
	if len(b) < 8 {
		return c, short(name, len(b), 8)
	}
	c.Flags = le.Uint32(b[4:])
	c.CompressionAlgorithms, err = parseIDs[CompressionAlgorithm](b, name, 8, le.Uint16(b))
	return c, err
}

// NetnameContext is the data of SMB2_NETNAME_NEGOTIATE_CONTEXT_ID, [MS-SMB2]
// 2.2.3.1.4: the server's name as the client knows it, not NUL-terminated.
type NetnameContext struct {
	NetName string
}

// AppendBinary appends the context's data.
func (c *NetnameContext) AppendBinary(b []byte) ([]byte, error) {
	return AppendUTF16(b, c.NetName), nil
}

// ParseNetnameContext decodes the context's data.
func ParseNetnameContext(b []byte) (NetnameContext, error) {
	if len(b)%2 != 0 {
		return NetnameContext{}, bad("NETNAME_NEGOTIATE_CONTEXT_ID", "length", uint64(len(b)), uint64(len(b)-1))
	}
	return NetnameContext{DecodeUTF16(b)}, nil
}

// TransportCapabilities is the data of SMB2_TRANSPORT_CAPABILITIES, [MS-SMB2] 2.2.3.1.5.
type TransportCapabilities struct {
	Flags uint32
}

// AppendBinary appends the context's data.
func (c *TransportCapabilities) AppendBinary(b []byte) ([]byte, error) {
	return le.AppendUint32(b, c.Flags), nil
}

// ParseTransportCapabilities decodes the context's data.
func ParseTransportCapabilities(b []byte) (TransportCapabilities, error) {
	if len(b) < 4 {
		return TransportCapabilities{}, short("TRANSPORT_CAPABILITIES", len(b), 4)
	}
	return TransportCapabilities{le.Uint32(b)}, nil
}

// RDMATransformCapabilities is the data of SMB2_RDMA_TRANSFORM_CAPABILITIES,
// [MS-SMB2] 2.2.3.1.6: TransformCount (2), Reserved1 (2), Reserved2 (4), RDMATransformIds.
type RDMATransformCapabilities struct {
	RDMATransformIDs []RDMATransformID
}

// AppendBinary appends the context's data.
func (c *RDMATransformCapabilities) AppendBinary(b []byte) ([]byte, error) {
	if len(c.RDMATransformIDs) > 0xFFFF {
		return b, tooLong("RDMA_TRANSFORM_CAPABILITIES", "RDMATransformIds", len(c.RDMATransformIDs))
	}
	b = le.AppendUint16(b, uint16(len(c.RDMATransformIDs)))
	b = zeros(b, 6)
	return appendIDs(b, c.RDMATransformIDs), nil
}

// ParseRDMATransformCapabilities decodes the context's data.
func ParseRDMATransformCapabilities(b []byte) (c RDMATransformCapabilities, err error) {
	const name = "RDMA_TRANSFORM_CAPABILITIES"
	if len(b) < 8 {
		return c, short(name, len(b), 8)
	}
	c.RDMATransformIDs, err = parseIDs[RDMATransformID](b, name, 8, le.Uint16(b))
	return c, err
}

// SigningCapabilities is the data of SMB2_SIGNING_CAPABILITIES, [MS-SMB2]
// 2.2.3.1.7: SigningAlgorithmCount (2), SigningAlgorithms.
type SigningCapabilities struct {
	SigningAlgorithms []SigningAlgorithm
}

// AppendBinary appends the context's data.
func (c *SigningCapabilities) AppendBinary(b []byte) ([]byte, error) {
	if len(c.SigningAlgorithms) > 0xFFFF {
		return b, tooLong("SIGNING_CAPABILITIES", "SigningAlgorithms", len(c.SigningAlgorithms))
	}
	b = le.AppendUint16(b, uint16(len(c.SigningAlgorithms)))
	return appendIDs(b, c.SigningAlgorithms), nil
}

// ParseSigningCapabilities decodes the context's data.
func ParseSigningCapabilities(b []byte) (c SigningCapabilities, err error) {
	const name = "SIGNING_CAPABILITIES"
	if len(b) < 2 {
		return c, short(name, len(b), 2)
	}
	c.SigningAlgorithms, err = parseIDs[SigningAlgorithm](b, name, 2, le.Uint16(b))
	return c, err
}
