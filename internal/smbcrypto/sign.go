package smbcrypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"

	"github.com/aead/cmac"
)

// The fields of the SMB2 header that protection needs, [MS-SMB2] 2.2.1.
const (
	// HeaderSize is the length of an SMB2 header in bytes.
	HeaderSize = 64

	offsetCommand   = 12
	offsetFlags     = 16
	offsetMessageID = 24
	offsetSignature = 48

	// SignatureSize is the length of the Signature field in bytes.
	SignatureSize = 16

	flagSigned    = 0x00000008
	commandCancel = 0x000C
)

// SigningAlgorithm is a SigningAlgorithmId of [MS-SMB2] 2.2.3.1.7.
type SigningAlgorithm uint16

const (
	HMACSHA256 SigningAlgorithm = 0x0000 // dialects 2.0.2 and 2.1
	AESCMAC    SigningAlgorithm = 0x0001 // dialect 3.0 and later
	AESGMAC    SigningAlgorithm = 0x0002 // dialect 3.1.1, if negotiated
)

// String returns the name of the algorithm as the specification writes it.
func (a SigningAlgorithm) String() string {
	switch a {
	case HMACSHA256:
		return "HMAC-SHA256"
	case AESCMAC:
		return "AES-CMAC"
	case AESGMAC:
		return "AES-GMAC"
	}
	return fmt.Sprintf("signing algorithm 0x%04X", uint16(a))
}

// DefaultSigning returns the algorithm of a connection that negotiated none,
// [MS-SMB2] 3.1.4.1: HMAC-SHA256 below dialect 3.0, AES-CMAC from there on.
func DefaultSigning(dialect uint16) SigningAlgorithm {
	if dialect < 0x0300 {
		return HMACSHA256
	}
	return AESCMAC
}

// Role says which end of the connection a [Signer] speaks for. AES-GMAC puts it
// into the nonce, so that the two directions never share one.
type Role uint8

const (
	RoleClient Role = iota
	RoleServer
)

func (r Role) peer() Role { return r ^ 1 }

// Errors of this package.
var (
	// ErrSignature means that a message is not what its signer signed.
	ErrSignature = errors.New("smbcrypto: signature does not match")
	// ErrMessage means that a message is too short, or its header is not the one
	// that the operation works on.
	ErrMessage = errors.New("smbcrypto: malformed message")
	// ErrKey means that a key has not the length that the algorithm needs.
	ErrKey = errors.New("smbcrypto: bad key length")
	// ErrAlgorithm means an algorithm, cipher or dialect that is not known.
	ErrAlgorithm = errors.New("smbcrypto: unknown algorithm")
	// ErrDecrypt means that a sealed message is not what its sender sealed.
	ErrDecrypt = errors.New("smbcrypto: decryption failed")
	// ErrNonceExhausted means that a key has sealed all it may.
	ErrNonceExhausted = errors.New("smbcrypto: nonces exhausted")
)

// Signer signs and verifies messages with one signing key, [MS-SMB2] 3.1.4.1 and
// 3.1.5.1. It is safe for concurrent use.
type Signer struct {
	alg   SigningAlgorithm
	role  Role
	first *macKey
	other *macKey // of AcceptAlso, nil if there is none
	// chosen is the key that the peer has proved to have, first or other; nil while
	// it has not, and Sign then takes the first.
	chosen atomic.Pointer[macKey]

	// Where AES-GMAC nonces of RDMA payloads come from, see payloadNonce.
	payloads     atomic.Uint64 // how many were signed
	payloadStart uint64        // where the counter begins, at random
	payloadSalt  [3]byte       // the part that stays, at random
}

// macKey is a key and what computes with it.
type macKey struct {
	key  []byte
	pool sync.Pool // of *macState

	// Of AES-GMAC.
	gmac    cipher.AEAD  // nil for the others
	hashKey fieldElement // H
	powers  [keptPowers]atomic.Pointer[hashPower]
	oldest  atomic.Uint32 // of powers, if that is taken modulo their number
}

// macState is what computing one signature needs, kept to be used again.
type macState struct {
	hash  hash.Hash // nil for AES-GMAC
	sum   [sha256.Size]byte
	nonce [12]byte
	join  []byte // the message, or what is before its payload, in one piece for AES-GMAC
}

// maxPooledJoin is the largest joining buffer that a pool keeps: a maximal SMB2
// payload of 8 MiB and its headers are not worth holding on to.
const maxPooledJoin = 1<<20 + 4096

var zeroSignature [SignatureSize]byte

// NewSigner returns a signer for key, which must be 16 bytes long, as every
// signing key of [MS-SMB2] is. The key is copied.
func NewSigner(alg SigningAlgorithm, key []byte, role Role) (*Signer, error) {
	if role > RoleServer {
		return nil, fmt.Errorf("%w: role %d", ErrAlgorithm, role)
	}
	k, err := newMACKey(alg, key)
	if err != nil {
		return nil, err
	}
	s := &Signer{alg: alg, role: role, first: k}
	var r [11]byte
	rand.Read(r[:]) // never fails: it ends the program first
	s.payloadStart = binary.LittleEndian.Uint64(r[:])
	copy(s.payloadSalt[:], r[8:])
	return s, nil
}

func newMACKey(alg SigningAlgorithm, key []byte) (*macKey, error) {
	if len(key) != 16 {
		return nil, fmt.Errorf("%w: %d for %v, want 16", ErrKey, len(key), alg)
	}
	k := &macKey{key: append([]byte(nil), key...)}
	switch alg {
	case HMACSHA256:
		k.pool.New = func() any { return &macState{hash: hmac.New(sha256.New, k.key)} }
	case AESCMAC:
		block, err := aes.NewCipher(k.key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		if _, err := cmac.New(block); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
		}
		k.pool.New = func() any {
			// The same call succeeded above and depends on the block size alone.
			h, _ := cmac.New(block)
			return &macState{hash: h}
		}
	case AESGMAC:
		block, err := aes.NewCipher(k.key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		if k.gmac, err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
		}
		var h [gcmBlock]byte
		block.Encrypt(h[:], h[:])
		k.hashKey = elementOf(h[:])
		k.pool.New = func() any { return new(macState) }
	default:
		return nil, fmt.Errorf("%w: %v", ErrAlgorithm, alg)
	}
	return k, nil
}

// AcceptAlso gives the signer a second key that the peer may have in place of the
// first, see [AltSigningKey]. The first message that verifies tells which one it
// has; from then on that key alone signs and verifies, in both directions. Before
// that Sign takes the first key. A nil key changes nothing. AcceptAlso is to be
// called before the signer is used.
func (s *Signer) AcceptAlso(key []byte) error {
	if key == nil {
		return nil
	}
	k, err := newMACKey(s.alg, key)
	if err != nil {
		return err
	}
	s.other = k
	return nil
}

// current is the key to sign with.
func (s *Signer) current() *macKey {
	if k := s.chosen.Load(); k != nil {
		return k
	}
	return s.first
}

// Algorithm returns the algorithm that the signer was made for.
func (s *Signer) Algorithm() SigningAlgorithm { return s.alg }

// Sign sets SMB2_FLAGS_SIGNED in the header of a message and fills in its
// Signature. The message is what the parts are in a row; the first holds at least
// the 64-byte header and is written to, the others are only read. In a compound
// the message is one element with its padding. Only AES-GMAC joins the parts in a
// buffer, where there is more than one, but for a last one of 32 KiB and more.
func (s *Signer) Sign(parts ...[]byte) error {
	if len(parts) == 0 || len(parts[0]) < HeaderSize {
		return fmt.Errorf("%w: no SMB2 header to sign", ErrMessage)
	}
	h := parts[0]
	binary.LittleEndian.PutUint32(h[offsetFlags:], binary.LittleEndian.Uint32(h[offsetFlags:])|flagSigned)
	k := s.current()
	st := k.pool.Get().(*macState)
	sig := h[offsetSignature : offsetSignature+SignatureSize]
	copy(sig, zeroSignature[:])
	k.sum(st, s.role, parts)
	copy(sig, st.sum[:])
	k.put(st)
	return nil
}

// Verify checks the signature that the peer put into a message, given in one or
// more parts as to [Signer.Sign], and returns nil or an error that wraps
// [ErrSignature] or [ErrMessage]. Whether the message claims to be signed is the
// caller's to check. AES-GMAC clears the Signature field while it computes and
// puts it back, so nobody else may read the message meanwhile.
func (s *Signer) Verify(parts ...[]byte) error {
	if len(parts) == 0 || len(parts[0]) < HeaderSize {
		return fmt.Errorf("%w: no SMB2 header to verify", ErrMessage)
	}
	if k := s.chosen.Load(); k != nil || s.other == nil {
		if k == nil {
			k = s.first
		}
		if !k.verify(s.role.peer(), parts) {
			return ErrSignature
		}
		return nil
	}
	for _, k := range [...]*macKey{s.first, s.other} {
		if k.verify(s.role.peer(), parts) {
			// Whoever was first has proved the same key, or the keys are equal.
			s.chosen.CompareAndSwap(nil, k)
			return nil
		}
	}
	return ErrSignature
}

// verify reports whether a message has the signature of the key.
func (k *macKey) verify(from Role, parts [][]byte) bool {
	sig := parts[0][offsetSignature : offsetSignature+SignatureSize]
	var got [SignatureSize]byte
	copy(got[:], sig)
	st := k.pool.Get().(*macState)
	copy(sig, zeroSignature[:])
	k.sum(st, from, parts)
	copy(sig, got[:])
	ok := subtle.ConstantTimeCompare(got[:], st.sum[:SignatureSize]) == 1
	k.put(st)
	return ok
}

// PayloadTag is what travels beside an RDMA payload that is signed or encrypted,
// in its SMB2_RDMA_CRYPTO_TRANSFORM, [MS-SMB2] 2.2.43.1.
type PayloadTag struct {
	Signature [SignatureSize]byte
	Nonce     [12]byte
	NonceSize int // how much of Nonce is in use: 0, 11 or 12 bytes
}

// SignPayload returns the signature of an RDMA payload. AES-GMAC has a nonce,
// which no other payload and no message has, see payloadNonce; the other algorithms
// have none.
func (s *Signer) SignPayload(data []byte) PayloadTag {
	var t PayloadTag
	if s.alg == AESGMAC {
		s.payloadNonce(&t.Nonce)
		t.NonceSize = len(t.Nonce)
	}
	s.payloadSum(&t.Signature, &t.Nonce, data)
	return t
}

// payloadNonce writes the AES-GMAC nonce of the next payload: 8 bytes that count
// from a random start, the bits that tell the directions apart and payloads from
// messages (whose nonces have the MessageId in the place of the counter), and 3
// random bytes of this signer. So a nonce comes again after 2^64 payloads, and if
// two signers should have the same key, only if 88 random bits agree as well.
func (s *Signer) payloadNonce(n *[12]byte) {
	putNonce(n, s.payloadStart+s.payloads.Add(1), s.role, false)
	n[8] |= nonceBitPayload
	copy(n[9:], s.payloadSalt[:])
}

// VerifyPayload checks the signature of an RDMA payload from the peer. The nonce
// is of the peer's choice; it and the signature are covered by the signature of
// the message that they came in, which must have been verified.
func (s *Signer) VerifyPayload(sig, nonce, data []byte) error {
	if len(sig) != SignatureSize {
		return fmt.Errorf("%w: payload signature of %d bytes", ErrMessage, len(sig))
	}
	var n [12]byte
	if s.alg == AESGMAC {
		if len(nonce) != len(n) {
			return fmt.Errorf("%w: payload nonce of %d bytes", ErrMessage, len(nonce))
		}
		copy(n[:], nonce)
	}
	var want [SignatureSize]byte
	s.payloadSum(&want, &n, data)
	if subtle.ConstantTimeCompare(want[:], sig) != 1 {
		return ErrSignature
	}
	return nil
}

func (s *Signer) payloadSum(sig *[SignatureSize]byte, nonce *[12]byte, data []byte) {
	k := s.current()
	st := k.pool.Get().(*macState)
	if k.gmac != nil {
		st.nonce = *nonce
		k.gmac.Seal(st.sum[:0], st.nonce[:], nil, data)
	} else {
		st.hash.Reset()
		st.hash.Write(data)
		st.hash.Sum(st.sum[:0])
	}
	copy(sig[:], st.sum[:])
	k.put(st)
}

func (k *macKey) put(st *macState) {
	if cap(st.join) > maxPooledJoin {
		st.join = nil
	}
	k.pool.Put(st)
}

// sum leaves the signature of a message whose Signature field is zero in the
// first 16 bytes of st.sum.
func (k *macKey) sum(st *macState, from Role, parts [][]byte) {
	if k.gmac == nil {
		st.hash.Reset()
		for _, p := range parts {
			st.hash.Write(p)
		}
		st.hash.Sum(st.sum[:0])
		return
	}
	h := parts[0]
	cancel := binary.LittleEndian.Uint16(h[offsetCommand:]) == commandCancel
	putNonce(&st.nonce, binary.LittleEndian.Uint64(h[offsetMessageID:]), from, cancel)
	last := len(parts) - 1
	if last == 0 {
		k.gmac.Seal(st.sum[:0], st.nonce[:], nil, parts[0])
		return
	}
	n, rest := 0, []byte(nil)
	for _, p := range parts {
		n += len(p)
	}
	if len(parts[last]) >= minApart {
		n -= len(parts[last])
		n += -n & (gcmBlock - 1)
	}
	if n > cap(st.join) {
		st.join = make([]byte, 0, n) // append would make it larger than the pool takes back
	}
	st.join = st.join[:0]
	for _, p := range parts {
		there := min(len(p), n-len(st.join))
		st.join, rest = append(st.join, p[:there]...), p[there:]
	}
	if len(rest) > 0 {
		k.sumApart(st, st.join, rest)
		return
	}
	k.gmac.Seal(st.sum[:0], st.nonce[:], nil, st.join)
}

const (
	nonceBitServer  = 1 << 0
	nonceBitCancel  = 1 << 1
	nonceBitPayload = 1 << 2
)

// putNonce writes the AES-GMAC nonce of [MS-SMB2] 3.1.4.1: the MessageId, then in
// 4 bytes whether a server sends and whether the message is a CANCEL.
func putNonce(n *[12]byte, messageID uint64, from Role, cancel bool) {
	binary.LittleEndian.PutUint64(n[:], messageID)
	var bits uint32
	if from == RoleServer {
		bits |= nonceBitServer
	}
	if cancel {
		bits |= nonceBitCancel
	}
	binary.LittleEndian.PutUint32(n[8:], bits)
}
