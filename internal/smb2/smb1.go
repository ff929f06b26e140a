package smb2

import (
	"bytes"
	"strings"
)

// Dialect strings of an SMB 1 NEGOTIATE that lead to SMB2, [MS-SMB2] 3.3.5.3.
const (
	SMB1DialectSMB2002     = "SMB 2.002"
	SMB1DialectSMB2Unknown = "SMB 2.???"
)

const (
	smb1HeaderSize       = 32
	smb1CommandNegotiate = 0x72
	smb1DialectFormat    = 0x02
	smb1FlagReply        = 0x80
)

// SMB1Negotiate is what matters of an SMB_COM_NEGOTIATE request ([MS-CIFS]
// 2.2.4.52.1), the multi-protocol negotiate of [MS-SMB2] 3.2.4.2.1.
type SMB1Negotiate struct {
	Dialects []string
}

// HasDialect reports whether d is offered.
func (m *SMB1Negotiate) HasDialect(d string) bool {
	for _, have := range m.Dialects {
		if have == d {
			return true
		}
	}
	return false
}

// ParseSMB1Negotiate decodes an SMB 1 NEGOTIATE request: a header of 32 octets
// (protocol FF 'SMB', command at 4), WordCount, parameter words, ByteCount (2),
// and dialects, each an octet 02 and a NUL-terminated string. Strings are copied.
func ParseSMB1Negotiate(msg []byte) (SMB1Negotiate, error) {
	const name = "SMB_COM_NEGOTIATE"
	if len(msg) < smb1HeaderSize+3 {
		return SMB1Negotiate{}, short(name, len(msg), smb1HeaderSize+3)
	}
	if id := le.Uint32(msg); id != uint32(ProtocolSMB1) {
		return SMB1Negotiate{}, bad(name, "protocol", uint64(id), uint64(ProtocolSMB1))
	}
	if msg[4] != smb1CommandNegotiate {
		return SMB1Negotiate{}, bad(name, "command", uint64(msg[4]), smb1CommandNegotiate)
	}
	if msg[9]&smb1FlagReply != 0 {
		return SMB1Negotiate{}, bad(name, "flags", uint64(msg[9]), 0)
	}
	off := smb1HeaderSize + 1 + 2*int(msg[smb1HeaderSize])
	if off+2 > len(msg) {
		return SMB1Negotiate{}, bad(name, "WordCount", uint64(msg[smb1HeaderSize]), uint64(len(msg)))
	}
	n := int(le.Uint16(msg[off:]))
	data := msg[off+2:]
	if n > len(data) {
		return SMB1Negotiate{}, bad(name, "ByteCount", uint64(n), uint64(len(data)))
	}
	data = data[:n]
	var m SMB1Negotiate
	for len(data) > 0 {
		if data[0] != smb1DialectFormat {
			return SMB1Negotiate{}, bad(name, "BufferFormat", uint64(data[0]), smb1DialectFormat)
		}
		end := bytes.IndexByte(data, 0)
		if end < 0 {
			return SMB1Negotiate{}, bad(name, "dialect end", uint64(n), uint64(n))
		}
		m.Dialects = append(m.Dialects, string(data[1:end]))
		data = data[end+1:]
	}
	return m, nil
}

// AppendBinary appends the whole message, header included, as a client sends
// it for a multi-protocol negotiate.
func (m *SMB1Negotiate) AppendBinary(b []byte) ([]byte, error) {
	n := 0
	for _, d := range m.Dialects {
		if strings.IndexByte(d, 0) >= 0 {
			return b, tooLong("SMB_COM_NEGOTIATE", "dialect with NUL", len(d))
		}
		n += len(d) + 2
	}
	if n > 0xFFFF {
		return b, tooLong("SMB_COM_NEGOTIATE", "dialects", n)
	}
	start := len(b)
	b = zeros(b, smb1HeaderSize)
	h := b[start:]
	le.PutUint32(h, uint32(ProtocolSMB1))
	h[4] = smb1CommandNegotiate
	h[9] = 0x18                  // Flags: canonical, caseless paths
	le.PutUint16(h[10:], 0xC853) // Flags2 as in [MS-SMB2] 4.1: Unicode, NT status, extended security, EAs, long names
	le.PutUint16(h[24:], 0xFFFF) // TID
	le.PutUint16(h[26:], 0xFEFF) // PID
	b = append(b, 0)             // WordCount
	b = le.AppendUint16(b, uint16(n))
	for _, d := range m.Dialects {
		b = append(b, smb1DialectFormat)
		b = append(b, d...)
		b = append(b, 0)
	}
	return b, nil
}
