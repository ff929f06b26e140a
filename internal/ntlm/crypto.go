package ntlm

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"crypto/subtle"
	"encoding/binary"
	"strings"
	"time"

	"golang.org/x/crypto/md4" //nolint:staticcheck // the NT hash is MD4; no other will do
)

// NTHash returns the NT hash of a password, NTOWFv1 of [MS-NLMP] 3.3.1: MD4 of the
// password in UTF-16. It is as good as the password and to be kept like it.
func NTHash(password string) (h [16]byte) {
	m := md4.New()
	m.Write(encodeUTF16(password))
	m.Sum(h[:0])
	return h
}

// ntowfv2 is NTOWFv2 of [MS-NLMP] 3.3.2, the response key of NTLMv2. The user name
// is uppercased, the domain is not.
func ntowfv2(hash [16]byte, user, domain string) []byte {
	return hmacMD5(hash[:], encodeUTF16(upper(user)), encodeUTF16(domain))
}

// upper uppercases as Windows does: rune by rune, where the result is one rune.
func upper(s string) string { return strings.ToUpper(s) }

func hmacMD5(key []byte, parts ...[]byte) []byte {
	m := hmac.New(md5.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func md5Sum(parts ...[]byte) []byte {
	m := md5.New()
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// rc4K is RC4K of [MS-NLMP] 6: it encrypts a 16-byte key with a 16-byte key.
func rc4K(key, data []byte) []byte {
	c, err := rc4.NewCipher(key)
	if err != nil {
		panic("ntlm: " + err.Error()) // keys here are MD5 sums
	}
	out := make([]byte, len(data))
	c.XORKeyStream(out, data)
	return out
}

// fileTime returns t as a FILETIME: 100 ns units since 1601, [MS-DTYP] 2.3.3.
func fileTime(t time.Time) uint64 {
	const unixEpoch = 116444736000000000
	return uint64(t.Unix()*1e7+int64(t.Nanosecond())/100) + unixEpoch
}

// The constants of [MS-NLMP] 3.4.5.2 and 3.4.5.3, with their terminating nulls.
const (
	clientSigningMagic = "session key to client-to-server signing key magic constant\x00"
	serverSigningMagic = "session key to server-to-client signing key magic constant\x00"
	clientSealingMagic = "session key to client-to-server sealing key magic constant\x00"
	serverSealingMagic = "session key to server-to-client sealing key magic constant\x00"
)

// session is the message security of an authentication that has succeeded: one
// direction to sign with, one to verify, [MS-NLMP] 3.4.
type session struct{ out, in half }

// half signs or verifies the messages of one direction, in their order.
type half struct {
	flags uint32
	key   []byte
	rc4   *rc4.Cipher
	seq   uint32
}

func newSession(flags uint32, key [16]byte, server bool) *session {
	c := newHalf(flags, key, clientSigningMagic, clientSealingMagic)
	s := newHalf(flags, key, serverSigningMagic, serverSealingMagic)
	if server {
		return &session{out: s, in: c}
	}
	return &session{out: c, in: s}
}

func newHalf(flags uint32, key [16]byte, signing, sealing string) half {
	seal := key[:]
	switch { // SEALKEY with extended session security, 3.4.5.3
	case flags&Flag128 != 0:
	case flags&Flag56 != 0:
		seal = key[:7]
	default:
		seal = key[:5]
	}
	c, err := rc4.NewCipher(md5Sum(seal, []byte(sealing)))
	if err != nil {
		panic("ntlm: " + err.Error())
	}
	return half{flags: flags, key: md5Sum(key[:], []byte(signing)), rc4: c}
}

// mac is MAC of [MS-NLMP] 3.4.4.2: version 1, a checksum of 8 bytes that is
// encrypted if keys are exchanged, and the sequence number.
func (h *half) mac(msg []byte) []byte {
	var seq [4]byte
	binary.LittleEndian.PutUint32(seq[:], h.seq)
	sum := hmacMD5(h.key, seq[:], msg)[:8]
	if h.flags&FlagKeyExchange != 0 {
		h.rc4.XORKeyStream(sum, sum)
	}
	h.seq++
	out := append(make([]byte, 0, 16), 1, 0, 0, 0)
	out = append(out, sum...)
	return append(out, seq[:]...)
}

func (s *session) getMIC(msg []byte) ([]byte, error) {
	if s == nil {
		return nil, ErrState
	}
	return s.out.mac(msg), nil
}

func (s *session) verifyMIC(msg, mic []byte) error {
	if s == nil {
		return ErrState
	}
	if subtle.ConstantTimeCompare(s.in.mac(msg), mic) != 1 {
		return ErrMIC
	}
	return nil
}
