package smbcrypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// Cipher is a CipherId of [MS-SMB2] 2.2.3.1.2.
type Cipher uint16

const (
	AES128CCM Cipher = 0x0001 // the cipher of dialects 3.0 and 3.0.2
	AES128GCM Cipher = 0x0002
	AES256CCM Cipher = 0x0003
	AES256GCM Cipher = 0x0004
)

// String returns the name of the cipher as the specification writes it.
func (c Cipher) String() string {
	switch c {
	case AES128CCM:
		return "AES-128-CCM"
	case AES128GCM:
		return "AES-128-GCM"
	case AES256CCM:
		return "AES-256-CCM"
	case AES256GCM:
		return "AES-256-GCM"
	}
	return fmt.Sprintf("cipher 0x%04X", uint16(c))
}

// KeySize returns the length in bytes of the cipher's key, 0 for one not known.
func (c Cipher) KeySize() int {
	switch c {
	case AES128CCM, AES128GCM:
		return 16
	case AES256CCM, AES256GCM:
		return 32
	}
	return 0
}

// aead returns the cipher in the mode and with the nonce length of 2.2.41.
func (c Cipher) aead(key []byte) (cipher.AEAD, error) {
	n := c.KeySize()
	if n == 0 {
		return nil, fmt.Errorf("%w: %v", ErrAlgorithm, c)
	}
	if len(key) != n {
		return nil, fmt.Errorf("%w: %d for %v, want %d", ErrKey, len(key), c, n)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if c == AES128CCM || c == AES256CCM {
		return newCCM(block), nil
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	return a, nil
}

// The layout of SMB2 TRANSFORM_HEADER, [MS-SMB2] 2.2.41:
//
//	 0  ProtocolId 0xFD 'S' 'M' 'B'
//	 4  Signature             16 bytes, the tag
//	20  Nonce                 16 bytes, the first 11 or 12 in use
//	36  OriginalMessageSize    4 bytes
//	40  Reserved               2 bytes
//	42  Flags                  2 bytes, 0x0001
//	44  SessionId              8 bytes
//
// Everything from Nonce on is the additional authenticated data (3.1.4.3).
const (
	// TransformHeaderSize is the length in bytes of a TRANSFORM_HEADER.
	TransformHeaderSize = 52

	tagSize = 16

	offsetTag         = 4
	offsetNonce       = 20
	offsetSize        = 36
	offsetReserved    = 40
	offsetEncFlags    = 42
	offsetSessionID   = 44
	aadSize           = TransformHeaderSize - offsetNonce
	flagEncrypted     = 0x0001
	transformProtocol = 0x424D53FD // FD 'S' 'M' 'B' in memory
)

// SealSlack is how much longer than the message, in bytes, a buffer must be for
// [Sealer.Seal] to fill it without allocating: the header, and room for the tag
// while it is computed.
const SealSlack = TransformHeaderSize + tagSize

// IsTransform reports whether a message begins as a TRANSFORM_HEADER does.
func IsTransform(msg []byte) bool {
	return len(msg) >= 4 && binary.LittleEndian.Uint32(msg) == transformProtocol
}

// TransformSessionID returns the SessionId of an encrypted message, by which the
// receiver finds the key. Nothing vouches for it before [Opener.Open] succeeds.
func TransformSessionID(msg []byte) (id uint64, ok bool) {
	if !IsTransform(msg) || len(msg) < TransformHeaderSize {
		return 0, false
	}
	return binary.LittleEndian.Uint64(msg[offsetSessionID:]), true
}

// maxSealed is how many times one key may seal. Nonces are distinct for all 2^64
// values of the counter; the bound leaves room for goroutines that pass it at the
// same time before they see it.
const maxSealed = math.MaxUint64 / 2

// Sealer encrypts messages with one key, [MS-SMB2] 3.1.4.3. It is safe for
// concurrent use. There must be only one for a key, see the package comment.
type Sealer struct {
	aead   cipher.AEAD
	prefix [4]byte // the part of the nonce that stays: 3 bytes for CCM, 4 for GCM
	start  uint64  // where the counter begins, at random
	sealed atomic.Uint64
	pool   sync.Pool // of *[12]byte, nonces of payloads
}

// NewSealer returns a sealer. The key must be of [Cipher.KeySize] bytes.
func NewSealer(c Cipher, key []byte) (*Sealer, error) {
	a, err := c.aead(key)
	if err != nil {
		return nil, err
	}
	s := &Sealer{aead: a}
	s.pool.New = func() any { return new([12]byte) }
	var r [12]byte
	rand.Read(r[:]) // never fails: it ends the program first
	copy(s.prefix[:], r[:4])
	s.start = binary.LittleEndian.Uint64(r[4:])
	return s, nil
}

// nonce writes the next nonce, in use up to the AEAD's nonce size and zero beyond.
func (s *Sealer) nonce(dst []byte) error {
	n := s.sealed.Add(1)
	if n > maxSealed {
		s.sealed.Store(maxSealed)
		return ErrNonceExhausted
	}
	clear(dst)
	binary.LittleEndian.PutUint64(dst, s.start+n)
	copy(dst[8:s.aead.NonceSize()], s.prefix[:])
	return nil
}

// Seal appends to dst a TRANSFORM_HEADER and the message, encrypted, and returns
// the longer slice. The message is what the parts are in a row; they are only
// read, and must not overlap the free space of dst. With SealSlack bytes more than
// the message free in dst nothing is allocated. It fails for a message of 4 GiB or
// more and when the key has sealed all it may.
func (s *Sealer) Seal(dst []byte, sessionID uint64, parts ...[]byte) ([]byte, error) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	start := len(dst)
	if need := start + n + SealSlack; cap(dst) < need {
		grown := make([]byte, start, need)
		copy(grown, dst)
		dst = grown
	}
	dst = dst[:start+TransformHeaderSize]
	for _, p := range parts {
		dst = append(dst, p...)
	}
	out, err := s.SealInPlace(dst[start:], sessionID)
	if err != nil {
		return dst[:start], err
	}
	return dst[:start+len(out)], nil
}

// SealInPlace encrypts a message where it lies: the first TransformHeaderSize
// bytes of buf are for the header, the message follows. It returns buf, or a copy
// if buf has not 16 bytes of capacity left over, which it writes to.
func (s *Sealer) SealInPlace(buf []byte, sessionID uint64) ([]byte, error) {
	if len(buf) < TransformHeaderSize {
		return nil, fmt.Errorf("%w: no room for a transform header", ErrMessage)
	}
	n := len(buf) - TransformHeaderSize
	if uint64(n) > math.MaxUint32 {
		return nil, fmt.Errorf("%w: %d bytes to encrypt", ErrMessage, n)
	}
	if cap(buf) < len(buf)+tagSize {
		grown := make([]byte, len(buf), len(buf)+tagSize)
		copy(grown, buf)
		buf = grown
	}
	h := buf[:TransformHeaderSize]
	if err := s.nonce(h[offsetNonce:offsetSize]); err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint32(h, transformProtocol)
	binary.LittleEndian.PutUint32(h[offsetSize:], uint32(n))
	binary.LittleEndian.PutUint16(h[offsetReserved:], 0)
	binary.LittleEndian.PutUint16(h[offsetEncFlags:], flagEncrypted)
	binary.LittleEndian.PutUint64(h[offsetSessionID:], sessionID)
	body := buf[TransformHeaderSize:]
	sealed := s.aead.Seal(body[:0], h[offsetNonce:offsetNonce+s.aead.NonceSize()], body, h[offsetNonce:])
	copy(h[offsetTag:], sealed[n:])
	return buf, nil
}

// PayloadRoom is how many bytes of capacity beyond the payload its buffer needs
// while [Sealer.SealPayload] or [Opener.OpenPayload] has the tag there.
const PayloadRoom = tagSize

// SealPayload encrypts an RDMA payload, [MS-SMB2] 2.2.43.1, from data to dst, and
// returns what goes into the transform: the tag as Signature, and the nonce, which
// comes out of the same sequence as those of messages. dst has the length of data
// and PayloadRoom bytes of capacity more, which are written to, or it is an error
// that wraps [ErrMessage]; it is data itself or does not overlap it.
func (s *Sealer) SealPayload(dst, data []byte) (PayloadTag, error) {
	t := PayloadTag{NonceSize: s.aead.NonceSize()}
	if len(dst) != len(data) || cap(dst) < len(dst)+PayloadRoom {
		return t, fmt.Errorf("%w: no room for a payload and its tag", ErrMessage)
	}
	st := s.pool.Get().(*[12]byte)
	defer s.pool.Put(st)
	if err := s.nonce(st[:]); err != nil {
		return t, err
	}
	t.Nonce = *st
	sealed := s.aead.Seal(dst[:0], st[:t.NonceSize], data, nil)
	copy(t.Signature[:], sealed[len(data):])
	return t, nil
}

// Opener decrypts messages with one key, [MS-SMB2] 3.2.5.1.1.1 and 3.3.5.2.1.1.
// It is safe for concurrent use.
type Opener struct {
	aead cipher.AEAD
	pool sync.Pool // of *[aadSize]byte
}

// NewOpener returns an opener. The key must be of [Cipher.KeySize] bytes.
func NewOpener(c Cipher, key []byte) (*Opener, error) {
	a, err := c.aead(key)
	if err != nil {
		return nil, err
	}
	o := &Opener{aead: a}
	o.pool.New = func() any { return new([aadSize]byte) }
	return o, nil
}

// Open decrypts in place a message that begins with a TRANSFORM_HEADER and
// returns the plaintext, which is part of msg. An error wraps [ErrMessage] if the
// header does not fit the message, or [ErrDecrypt]; either way the connection
// must end, and msg holds nothing of use. The SMB2 headers inside still have to
// be compared with [TransformSessionID], taken before the call.
func (o *Opener) Open(msg []byte) ([]byte, error) {
	if !IsTransform(msg) || len(msg) <= TransformHeaderSize {
		return nil, fmt.Errorf("%w: no transform header with a message", ErrMessage)
	}
	if f := binary.LittleEndian.Uint16(msg[offsetEncFlags:]); f != flagEncrypted {
		return nil, fmt.Errorf("%w: transform flags 0x%04X", ErrMessage, f)
	}
	n := len(msg) - TransformHeaderSize
	if size := binary.LittleEndian.Uint32(msg[offsetSize:]); uint64(size) != uint64(n) {
		return nil, fmt.Errorf("%w: OriginalMessageSize %d of %d bytes", ErrMessage, size, n)
	}
	// The AEAD wants the tag behind the ciphertext. Moving the ciphertext over the
	// end of the header makes room for it without a byte beyond msg.
	aad := o.pool.Get().(*[aadSize]byte)
	defer o.pool.Put(aad)
	copy(aad[:], msg[offsetNonce:TransformHeaderSize])
	var tag [tagSize]byte
	copy(tag[:], msg[offsetTag:])
	body := msg[TransformHeaderSize-tagSize:]
	copy(body, msg[TransformHeaderSize:])
	copy(body[n:], tag[:])
	plain, err := o.aead.Open(body[:0], aad[:o.aead.NonceSize()], body, aad[:])
	if err != nil {
		return nil, ErrDecrypt
	}
	return plain, nil
}

// NonceSize returns the length in bytes of the cipher's nonces.
func (o *Opener) NonceSize() int { return o.aead.NonceSize() }

// OpenPayload decrypts an RDMA payload from data to dst with the Signature and
// Nonce of its SMB2_RDMA_CRYPTO_TRANSFORM, [MS-SMB2] 2.2.43.1. dst has the length
// of data, which needs PayloadRoom bytes of capacity more, which are written to;
// dst is data itself or does not overlap it. An error wraps [ErrMessage] or
// [ErrDecrypt]; dst is zero then.
func (o *Opener) OpenPayload(dst, data, sig, nonce []byte) error {
	err := o.openPayload(dst, data, sig, nonce)
	if err != nil {
		clear(dst)
	}
	return err
}

func (o *Opener) openPayload(dst, data, sig, nonce []byte) error {
	if len(sig) != tagSize || len(nonce) != o.aead.NonceSize() {
		return fmt.Errorf("%w: payload signature of %d and nonce of %d bytes", ErrMessage, len(sig), len(nonce))
	}
	if len(dst) != len(data) || cap(data) < len(data)+PayloadRoom {
		return fmt.Errorf("%w: no room for a payload and its tag", ErrMessage)
	}
	sealed := append(data, sig...)
	if _, err := o.aead.Open(dst[:0], nonce, sealed, nil); err != nil {
		return ErrDecrypt
	}
	return nil
}
