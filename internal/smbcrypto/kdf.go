package smbcrypto

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Dialects of [MS-SMB2] 2.2.3 at which key derivation changes.
const (
	dialect300 = 0x0300
	dialect302 = 0x0302
	dialect311 = 0x0311
)

// KDF derives a key of bits bits, at most 256 and a multiple of 8, by the
// counter mode of NIST SP 800-108 §5.1 with HMAC-SHA256 and a counter of 32 bits,
// [MS-SMB2] 3.1.4.2. Label and context are taken as they are, so a terminating
// null that belongs to one must be in it. One block of the PRF is enough for every
// key of SMB3, and KDF panics if asked for more.
func KDF(key, label, context []byte, bits int) []byte {
	if bits <= 0 || bits > 8*sha256.Size || bits%8 != 0 {
		panic(fmt.Sprintf("smbcrypto: KDF of %d bits", bits))
	}
	var n [4]byte
	m := hmac.New(sha256.New, key)
	binary.BigEndian.PutUint32(n[:], 1)
	m.Write(n[:])
	m.Write(label)
	m.Write([]byte{0})
	m.Write(context)
	binary.BigEndian.PutUint32(n[:], uint32(bits))
	m.Write(n[:])
	return m.Sum(nil)[: bits/8 : bits/8]
}

// Keys are what a session key yields, [MS-SMB2] 3.2.5.3.1 and 3.3.5.5.3. They are
// named by direction, so they mean the same at either end: what the client calls
// EncryptionKey is ClientToServer, and what the server calls so is ServerToClient.
type Keys struct {
	Signing        []byte // 16 bytes
	ClientToServer []byte // 16 or 32 bytes by cipher; nil below dialect 3.0
	ServerToClient []byte // likewise
	Application    []byte // 16 bytes, Session.ApplicationKey
}

// SessionKey returns Session.SessionKey, [MS-SMB2] 3.3.1.8: the first 16 bytes of
// the key that authentication yielded, with zeros after a shorter one.
func SessionKey(key []byte) []byte {
	k := make([]byte, 16)
	copy(k, key)
	return k
}

// DeriveKeys derives the keys of a session. sessionKey is the whole key that
// authentication yielded (Session.FullSessionKey); all but the 256-bit cipher keys
// come from its first 16 bytes. preauthHash is Session.PreauthIntegrityHashValue,
// 64 bytes, and is used by dialect 3.1.1 alone. cipherID is Connection.CipherId; 0
// stands for AES-128-CCM. Below dialect 3.0 nothing is derived, and signing and
// application key are the session key.
//
// The signing key is 128 bits long and derived with L = 128 whatever the cipher, as
// Windows, Samba and ksmbd do; see [AltSigningKey] for the peer that does not.
func DeriveKeys(dialect uint16, sessionKey, preauthHash []byte, cipherID uint16) (Keys, error) {
	if len(sessionKey) == 0 {
		return Keys{}, fmt.Errorf("%w: no session key", ErrKey)
	}
	key := SessionKey(sessionKey)
	if dialect < dialect300 {
		return Keys{Signing: key, Application: SessionKey(sessionKey)}, nil
	}
	l, err := labelsOf(dialect, preauthHash)
	if err != nil {
		return Keys{}, err
	}
	full, bits := key, 128
	switch Cipher(cipherID) {
	case 0, AES128CCM, AES128GCM:
	case AES256CCM, AES256GCM:
		full, bits = sessionKey, 256
	default:
		return Keys{}, fmt.Errorf("%w: %v", ErrAlgorithm, Cipher(cipherID))
	}
	if dialect != dialect311 && bits != 128 {
		return Keys{}, fmt.Errorf("%w: %v in dialect 0x%04X", ErrAlgorithm, Cipher(cipherID), dialect)
	}
	return Keys{
		Signing:        l.signing.derive(key, 128),
		ClientToServer: l.clientToServer.derive(full, bits),
		ServerToClient: l.serverToClient.derive(full, bits),
		Application:    l.application.derive(key, 128),
	}, nil
}

// ChannelSigningKey derives Channel.SigningKey for a connection that binds to an
// existing session, [MS-SMB2] 3.3.5.5.3: as the session's signing key, but from
// the key of this connection's authentication and, in dialect 3.1.1, the hash of
// this connection's messages (PreauthSession.PreauthIntegrityHashValue).
func ChannelSigningKey(dialect uint16, sessionKey, preauthHash []byte) ([]byte, error) {
	if len(sessionKey) == 0 {
		return nil, fmt.Errorf("%w: no session key", ErrKey)
	}
	l, err := labelsOf(dialect, preauthHash)
	if err != nil {
		return nil, err
	}
	return l.signing.derive(SessionKey(sessionKey), 128), nil
}

// AltSigningKey derives the signing key that the Linux client has where a 256-bit
// cipher was negotiated. [MS-SMB2] 3.1.4.2 gives L by the cipher alone, for keys of
// every use; that client takes it at its word, and has the first 16 bytes of a key
// derived with L = 256. Windows (and the test suites for it), Samba and ksmbd take
// L = 128 for signing keys always. Where the two agree AltSigningKey returns nil.
//
// preauthHash is that of the session, or of the connection that binds to it. A server
// gives the result to [Signer.AcceptAlso]; no server is known that needs it of a
// client.
func AltSigningKey(dialect uint16, sessionKey, preauthHash []byte, cipherID uint16) ([]byte, error) {
	if c := Cipher(cipherID); dialect != dialect311 || c.KeySize() != 32 {
		return nil, nil
	}
	if len(sessionKey) == 0 {
		return nil, fmt.Errorf("%w: no session key", ErrKey)
	}
	l, err := labelsOf(dialect, preauthHash)
	if err != nil {
		return nil, err
	}
	return l.signing.derive(SessionKey(sessionKey), 256)[:16], nil
}

// derivation is a label and a context, with their terminating nulls.
type derivation struct{ label, context []byte }

func (d derivation) derive(key []byte, bits int) []byte {
	return KDF(key, d.label, d.context, bits)
}

type labels struct {
	signing, clientToServer, serverToClient, application derivation
}

func labelsOf(dialect uint16, preauthHash []byte) (labels, error) {
	d := func(label, context string) derivation {
		return derivation{[]byte(label + "\x00"), []byte(context + "\x00")}
	}
	switch dialect {
	case dialect300, dialect302:
		return labels{
			signing:        d("SMB2AESCMAC", "SmbSign"),
			clientToServer: d("SMB2AESCCM", "ServerIn "), // the blank is part of it
			serverToClient: d("SMB2AESCCM", "ServerOut"),
			application:    d("SMB2APP", "SmbRpc"),
		}, nil
	case dialect311:
		if len(preauthHash) != PreauthSize {
			return labels{}, fmt.Errorf("%w: preauthentication hash of %d bytes", ErrKey, len(preauthHash))
		}
		p := func(label string) derivation {
			return derivation{[]byte(label + "\x00"), preauthHash}
		}
		return labels{
			signing:        p("SMBSigningKey"),
			clientToServer: p("SMBC2SCipherKey"),
			serverToClient: p("SMBS2CCipherKey"),
			application:    p("SMBAppKey"),
		}, nil
	}
	return labels{}, fmt.Errorf("%w: no key derivation for dialect 0x%04X", ErrAlgorithm, dialect)
}
