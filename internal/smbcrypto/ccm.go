package smbcrypto

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"
)

const (
	ccmNonceSize = 11
	ccmBlock     = 16
	// The first octet of the formatted blocks, RFC 3610 §2.2 and §2.3: a tag of 16
	// octets, a length of 4, and whether there is additional data.
	ccmFlagsCounter = 4 - 1
	ccmFlagsMAC     = 8*((tagSize-2)/2) + ccmFlagsCounter
	ccmFlagsAAD     = 64
	// ccmMaxAAD is the longest additional data whose length takes two octets.
	ccmMaxAAD = 0xFF00 - 1
)

var errCCM = errors.New("smbcrypto: CCM tag does not match")

// ccm is AES-CCM (RFC 3610) with the parameters of [MS-SMB2] 2.2.41: nonces of 11
// octets, tags of 16. Unlike the implementation of others that tests compare it
// with, it opens a message where it lies. It is safe for concurrent use.
type ccm struct {
	block cipher.Block
	pool  sync.Pool // of *ccmState
}

// ccmState is what one operation needs, kept to be used again.
type ccmState struct{ mac, block, tag [ccmBlock]byte }

var _ cipher.AEAD = (*ccm)(nil)

func newCCM(b cipher.Block) *ccm {
	return &ccm{block: b, pool: sync.Pool{New: func() any { return new(ccmState) }}}
}

// NonceSize implements cipher.AEAD.
func (*ccm) NonceSize() int { return ccmNonceSize }

// Overhead implements cipher.AEAD.
func (*ccm) Overhead() int { return tagSize }

// check panics where the caller broke the contract of cipher.AEAD.
func (*ccm) check(nonce, text, aad []byte) {
	if len(nonce) != ccmNonceSize || uint64(len(text)) > math.MaxUint32 || len(aad) > ccmMaxAAD {
		panic("smbcrypto: nonce, message or additional data of a length that CCM does not take here")
	}
}

// Seal implements cipher.AEAD.
func (c *ccm) Seal(dst, nonce, plain, aad []byte) []byte {
	c.check(nonce, plain, aad)
	st := c.pool.Get().(*ccmState)
	defer c.pool.Put(st)
	n := len(plain)
	out := slices.Grow(dst, n+tagSize)[:len(dst)+n+tagSize]
	text := out[len(dst):]
	c.mac(st, nonce, plain, aad) // before it is overwritten
	stream := c.stream(st, nonce)
	stream.XORKeyStream(st.tag[:], st.mac[:])
	stream.XORKeyStream(text[:n], plain)
	copy(text[n:], st.tag[:])
	return out
}

// Open implements cipher.AEAD. What it has written is zeroed if the tag does not
// match.
func (c *ccm) Open(dst, nonce, sealed, aad []byte) ([]byte, error) {
	n := len(sealed) - tagSize
	if n < 0 {
		return nil, errCCM
	}
	c.check(nonce, sealed[:n], aad)
	st := c.pool.Get().(*ccmState)
	defer c.pool.Put(st)
	out := slices.Grow(dst, n)[:len(dst)+n]
	text := out[len(dst):]
	stream := c.stream(st, nonce)
	stream.XORKeyStream(st.tag[:], sealed[n:])
	stream.XORKeyStream(text, sealed[:n])
	c.mac(st, nonce, text, aad)
	if subtle.ConstantTimeCompare(st.mac[:], st.tag[:]) != 1 {
		clear(text)
		return nil, errCCM
	}
	return out, nil
}

// stream is the key stream from counter 0 on, whose first block is for the tag.
func (c *ccm) stream(st *ccmState, nonce []byte) cipher.Stream {
	st.block = [ccmBlock]byte{ccmFlagsCounter}
	copy(st.block[1:], nonce)
	return cipher.NewCTR(c.block, st.block[:])
}

// mac leaves the CBC-MAC of RFC 3610 §2.2 in st.mac.
func (c *ccm) mac(st *ccmState, nonce, plain, aad []byte) {
	st.mac = [ccmBlock]byte{ccmFlagsMAC}
	copy(st.mac[1:], nonce)
	binary.BigEndian.PutUint32(st.mac[12:], uint32(len(plain)))
	if len(aad) == 0 {
		c.block.Encrypt(st.mac[:], st.mac[:])
	} else {
		st.mac[0] |= ccmFlagsAAD
		c.block.Encrypt(st.mac[:], st.mac[:])
		st.block = [ccmBlock]byte{}
		binary.BigEndian.PutUint16(st.block[:], uint16(len(aad)))
		n := copy(st.block[2:], aad)
		c.fold(st, st.block[:])
		c.fold(st, aad[n:])
	}
	c.fold(st, plain)
}

// fold takes data into the MAC, the last block filled up with zeros.
func (c *ccm) fold(st *ccmState, data []byte) {
	for len(data) > 0 {
		n := subtle.XORBytes(st.mac[:], st.mac[:], data)
		c.block.Encrypt(st.mac[:], st.mac[:])
		data = data[n:]
	}
}
