package ntlm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
)

// Flags of [MS-NLMP] 2.2.2.5.
const (
	FlagUnicode          = 0x00000001
	FlagOEM              = 0x00000002
	FlagRequestTarget    = 0x00000004
	FlagSign             = 0x00000010
	FlagSeal             = 0x00000020
	FlagDatagram         = 0x00000040
	FlagLMKey            = 0x00000080
	FlagNTLM             = 0x00000200
	FlagAnonymous        = 0x00000800
	FlagAlwaysSign       = 0x00008000
	FlagTargetTypeDomain = 0x00010000
	FlagTargetTypeServer = 0x00020000
	FlagExtendedSecurity = 0x00080000
	FlagTargetInfo       = 0x00800000
	FlagVersion          = 0x02000000
	Flag128              = 0x20000000
	FlagKeyExchange      = 0x40000000
	Flag56               = 0x80000000
)

// AvIDs of [MS-NLMP] 2.2.2.1.
const (
	avEOL             = 0x0000
	avNbComputerName  = 0x0001
	avNbDomainName    = 0x0002
	avDNSComputerName = 0x0003
	avDNSDomainName   = 0x0004
	avDNSTreeName     = 0x0005
	avFlags           = 0x0006
	avTimestamp       = 0x0007
	avTargetName      = 0x0009
	avChannelBindings = 0x000A

	avFlagMIC = 0x00000002
)

const (
	typeNegotiate    = 1
	typeChallenge    = 2
	typeAuthenticate = 3

	negotiateSize    = 32 // without Version, which old clients leave out
	challengeSize    = 48 // likewise
	authenticateSize = 64 // likewise, and without MIC
	versionSize      = 8
	micOffset        = 72
	micSize          = 16

	// maxMessage bounds what is decoded: the largest real messages have a few
	// hundred bytes, and each field is under 64 KiB by its 16-bit length.
	maxMessage = 1 << 16
	// maxAVPairs bounds the list in a message; the specification knows 11 kinds.
	maxAVPairs = 64
)

var signature = [8]byte{'N', 'T', 'L', 'M', 'S', 'S', 'P', 0}

// version goes into our messages, [MS-NLMP] 2.2.2.10; peers ignore it but for
// debugging. It says 10.0, build 0, NTLMSSP_REVISION_W2K3.
var version = [versionSize]byte{10, 0, 0, 0, 0, 0, 0, 0x0F}

// Errors of this package.
var (
	// ErrMessage means a message that is malformed, or not the one that is due.
	ErrMessage = errors.New("ntlm: malformed message")
	// ErrWeak means that the peer wants less than NTLMv2 with 128-bit keys and
	// extended session security.
	ErrWeak = errors.New("ntlm: peer offers too little security")
	// ErrLogon means that user, password or integrity code are wrong. It never says
	// which.
	ErrLogon = errors.New("ntlm: logon failure")
	// ErrMIC means a signature over the mechanism list that is not the peer's.
	ErrMIC = errors.New("ntlm: message signature does not match")
	// ErrState means a call out of order.
	ErrState = errors.New("ntlm: call out of order")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMessage, fmt.Sprintf(format, args...))
}

// IsMessage reports whether b begins as a message of NTLMSSP does, which is how
// one is told from a SPNEGO token.
func IsMessage(b []byte) bool {
	return len(b) >= 12 && [8]byte(b[:8]) == signature
}

// field returns the payload that the 8 bytes of a descriptor at offset at point
// to: length, maximum length (ignored) and offset, [MS-NLMP] 2.2.1.1.
func field(msg []byte, at int, name string) ([]byte, error) {
	n := uint64(binary.LittleEndian.Uint16(msg[at:]))
	off := uint64(binary.LittleEndian.Uint32(msg[at+4:]))
	if n == 0 {
		return nil, nil
	}
	if off+n > uint64(len(msg)) {
		return nil, malformed("%s of %d bytes at %d in %d", name, n, off, len(msg))
	}
	return msg[off : off+n : off+n], nil
}

func header(msg []byte, kind uint32, size int) error {
	if len(msg) > maxMessage {
		return malformed("%d bytes", len(msg))
	}
	if !IsMessage(msg) {
		return malformed("no NTLMSSP signature")
	}
	if t := binary.LittleEndian.Uint32(msg[8:]); t != kind {
		return malformed("message type %d where %d is due", t, kind)
	}
	if len(msg) < size {
		return malformed("type %d of %d bytes", kind, len(msg))
	}
	return nil
}

// Negotiate is NEGOTIATE_MESSAGE, [MS-NLMP] 2.2.1.1. Its domain and workstation
// are OEM strings that nothing depends on, and are left alone.
//
//	0  Signature "NTLMSSP\0"     12  NegotiateFlags
//	8  MessageType 1             16  DomainName, Workstation: 8 bytes each
//	                             32  Version
type Negotiate struct {
	Flags uint32
}

// ParseNegotiate decodes a NEGOTIATE_MESSAGE. As some clients end it after the
// flags, nothing behind them is required.
func ParseNegotiate(b []byte) (Negotiate, error) {
	if err := header(b, typeNegotiate, 16); err != nil {
		return Negotiate{}, err
	}
	return Negotiate{Flags: binary.LittleEndian.Uint32(b[12:])}, nil
}

// AppendBinary appends the encoded message to b.
func (m *Negotiate) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, signature[:]...)
	b = binary.LittleEndian.AppendUint32(b, typeNegotiate)
	b = binary.LittleEndian.AppendUint32(b, m.Flags)
	const end = negotiateSize + versionSize
	b = appendField(b, 0, end)
	b = appendField(b, 0, end)
	return append(b, version[:]...), nil
}

// Challenge is CHALLENGE_MESSAGE, [MS-NLMP] 2.2.1.2.
//
//	 0  Signature                 24  ServerChallenge, 8 bytes
//	 8  MessageType 2             32  Reserved, 8 bytes
//	12  TargetName, 8 bytes       40  TargetInfo, 8 bytes
//	20  NegotiateFlags            48  Version
type Challenge struct {
	Flags           uint32
	ServerChallenge [8]byte
	TargetName      string
	TargetInfo      []AVPair // nil if there is none
}

// ParseChallenge decodes a CHALLENGE_MESSAGE.
func ParseChallenge(b []byte) (Challenge, error) {
	var m Challenge
	if err := header(b, typeChallenge, 32); err != nil {
		return m, err
	}
	m.Flags = binary.LittleEndian.Uint32(b[20:])
	copy(m.ServerChallenge[:], b[24:])
	name, err := field(b, 12, "TargetName")
	if err != nil {
		return m, err
	}
	if m.TargetName, err = decodeString(name, m.Flags); err != nil {
		return m, err
	}
	if m.Flags&FlagTargetInfo != 0 {
		if len(b) < challengeSize {
			return m, malformed("challenge of %d bytes", len(b))
		}
		info, err := field(b, 40, "TargetInfo")
		if err != nil {
			return m, err
		}
		if m.TargetInfo, _, err = parseAVPairs(info); err != nil {
			return m, err
		}
	}
	return m, nil
}

// AppendBinary appends the encoded message to b. TargetName is written as Unicode.
func (m *Challenge) AppendBinary(b []byte) ([]byte, error) {
	name := encodeUTF16(m.TargetName)
	info := appendAVPairs(nil, m.TargetInfo)
	if len(name) > 0xFFFF || len(info) > 0xFFFF {
		return nil, malformed("target of %d and information of %d bytes", len(name), len(info))
	}
	off := challengeSize + versionSize
	b = append(b, signature[:]...)
	b = binary.LittleEndian.AppendUint32(b, typeChallenge)
	b = appendField(b, len(name), off)
	b = binary.LittleEndian.AppendUint32(b, m.Flags)
	b = append(b, m.ServerChallenge[:]...)
	b = append(b, make([]byte, 8)...)
	b = appendField(b, len(info), off+len(name))
	b = append(b, version[:]...)
	b = append(b, name...)
	return append(b, info...), nil
}

// Authenticate is AUTHENTICATE_MESSAGE, [MS-NLMP] 2.2.1.3.
//
//	 0  Signature                 52  EncryptedRandomSessionKey, 8 bytes
//	 8  MessageType 3             60  NegotiateFlags
//	12  LmChallengeResponse       64  Version
//	20  NtChallengeResponse       72  MIC, 16 bytes
//	28  DomainName                88  payload
//	36  UserName
//	44  Workstation (each a descriptor of 8 bytes)
//
// Old clients leave out MIC, or Version and MIC; the payload then starts earlier.
type Authenticate struct {
	LMResponse  []byte
	NTResponse  []byte
	Domain      string
	User        string
	Workstation string
	SessionKey  []byte // EncryptedRandomSessionKey
	Flags       uint32
	MIC         [micSize]byte // zero if there is no room for one
	HasMIC      bool          // whether the message is laid out with a MIC field
}

// ParseAuthenticate decodes an AUTHENTICATE_MESSAGE.
func ParseAuthenticate(b []byte) (Authenticate, error) {
	var m Authenticate
	if err := header(b, typeAuthenticate, authenticateSize); err != nil {
		return m, err
	}
	m.Flags = binary.LittleEndian.Uint32(b[60:])
	var domain, user, workstation []byte
	first := uint64(len(b)) // where the payload starts
	for _, f := range []struct {
		at   int
		name string
		to   *[]byte
	}{
		{12, "LmChallengeResponse", &m.LMResponse},
		{20, "NtChallengeResponse", &m.NTResponse},
		{28, "DomainName", &domain},
		{36, "UserName", &user},
		{44, "Workstation", &workstation},
		{52, "EncryptedRandomSessionKey", &m.SessionKey},
	} {
		var err error
		if *f.to, err = field(b, f.at, f.name); err != nil {
			return m, err
		}
		if *f.to != nil {
			first = min(first, uint64(binary.LittleEndian.Uint32(b[f.at+4:])))
		}
	}
	var err error
	if m.Domain, err = decodeString(domain, m.Flags); err != nil {
		return m, err
	}
	if m.User, err = decodeString(user, m.Flags); err != nil {
		return m, err
	}
	if m.Workstation, err = decodeString(workstation, m.Flags); err != nil {
		return m, err
	}
	if first >= micOffset+micSize && len(b) >= micOffset+micSize {
		m.HasMIC = true
		copy(m.MIC[:], b[micOffset:])
	}
	return m, nil
}

// AppendBinary appends the encoded message to b, with a MIC field, and strings in
// Unicode.
func (m *Authenticate) AppendBinary(b []byte) ([]byte, error) {
	domain, user, workstation := encodeUTF16(m.Domain), encodeUTF16(m.User), encodeUTF16(m.Workstation)
	const payload = micOffset + micSize
	order := [][]byte{domain, user, workstation, m.LMResponse, m.NTResponse, m.SessionKey}
	off, at := payload, make([]int, len(order))
	for i, p := range order {
		if len(p) > 0xFFFF {
			return nil, malformed("field of %d bytes", len(p))
		}
		at[i] = off
		off += len(p)
	}
	b = append(b, signature[:]...)
	b = binary.LittleEndian.AppendUint32(b, typeAuthenticate)
	for _, i := range []int{3, 4, 0, 1, 2, 5} {
		b = appendField(b, len(order[i]), at[i])
	}
	b = binary.LittleEndian.AppendUint32(b, m.Flags)
	b = append(b, version[:]...)
	b = append(b, m.MIC[:]...)
	for _, p := range order {
		b = append(b, p...)
	}
	return b, nil
}

func appendField(b []byte, n, off int) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(n))
	b = binary.LittleEndian.AppendUint16(b, uint16(n))
	return binary.LittleEndian.AppendUint32(b, uint32(off))
}

// AVPair is AV_PAIR, [MS-NLMP] 2.2.2.1, without the MsvAvEOL that ends a list.
type AVPair struct {
	ID    uint16
	Value []byte
}

// parseAVPairs decodes a list up to its MsvAvEOL and returns what follows that.
func parseAVPairs(b []byte) (pairs []AVPair, rest []byte, err error) {
	pairs = []AVPair{}
	for {
		if len(b) < 4 {
			return nil, nil, malformed("AV pairs without an end")
		}
		id, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if n > len(b)-4 {
			return nil, nil, malformed("AV pair %d of %d bytes in %d", id, n, len(b)-4)
		}
		if id == avEOL {
			return pairs, b[4+n:], nil
		}
		if len(pairs) == maxAVPairs {
			return nil, nil, malformed("more than %d AV pairs", maxAVPairs)
		}
		pairs = append(pairs, AVPair{id, b[4 : 4+n : 4+n]})
		b = b[4+n:]
	}
}

func appendAVPairs(b []byte, pairs []AVPair) []byte {
	for _, p := range pairs {
		b = binary.LittleEndian.AppendUint16(b, p.ID)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(p.Value)))
		b = append(b, p.Value...)
	}
	return append(b, 0, 0, 0, 0)
}

func findAV(pairs []AVPair, id uint16) ([]byte, bool) {
	i := slices.IndexFunc(pairs, func(p AVPair) bool { return p.ID == id })
	if i < 0 {
		return nil, false
	}
	return pairs[i].Value, true
}

func encodeUTF16(s string) []byte {
	if s == "" {
		return nil
	}
	u := utf16.Encode([]rune(s))
	b := make([]byte, 0, 2*len(u))
	for _, c := range u {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

// decodeString decodes a string in the character set that flags tell. OEM strings
// are read as ASCII, which is all that code pages agree on.
func decodeString(b []byte, flags uint32) (string, error) {
	if flags&FlagUnicode == 0 {
		for _, c := range b {
			if c >= 0x80 {
				return "", malformed("OEM string beyond ASCII")
			}
		}
		return string(b), nil
	}
	if len(b)%2 != 0 {
		return "", malformed("Unicode string of %d bytes", len(b))
	}
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u)), nil
}
