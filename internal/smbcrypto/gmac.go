package smbcrypto

import "encoding/binary"

// # AES-GMAC of what is not in one piece
//
// Package cipher wants the data in one piece, and the header of a message is apart from
// its payload. Joining them takes as long as computing the sum does. But the hash in it is
// a polynomial in H over GF(2^128) (NIST SP 800-38D 6.4), so the blocks of the front can
// be added to the sum of the rest:
//
//	tag(front || rest) = tag(rest) + P(front)·H^(n+1) + (L(front || rest) + L(rest))·H
//
// with n the blocks of rest, L the block with the length, and P(front) the hash of the
// blocks of front without a length, which ends at a block's end.

// minApart is the least length in bytes of a payload that is not joined: below, copying is
// cheaper than the arithmetic.
const minApart = 32 << 10

const gcmBlock = 16

// fieldElement is one of GF(2^128) in the order of GCM: the first bit is that of x^0.
type fieldElement struct{ hi, lo uint64 }

func elementOf(b []byte) fieldElement {
	return fieldElement{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (x fieldElement) plus(y fieldElement) fieldElement {
	return fieldElement{x.hi ^ y.hi, x.lo ^ y.lo}
}

// times is the product. It takes the same time for all values, as H is secret.
func (x fieldElement) times(y fieldElement) (z fieldElement) {
	const reduction = 0xE1 << 56 // x^128 = x^7 + x^2 + x + 1
	for _, word := range [...]uint64{x.hi, x.lo} {
		for bit := 63; bit >= 0; bit-- {
			take := -(word >> bit & 1)
			z.hi ^= y.hi & take
			z.lo ^= y.lo & take
			over := -(y.lo & 1)
			y.lo = y.lo>>1 | y.hi<<63
			y.hi = y.hi>>1 ^ reduction&over
		}
	}
	return z
}

// power is x^n, for n above 0.
func (x fieldElement) power(n uint64) fieldElement {
	var z fieldElement
	for started := false; n > 0; n >>= 1 {
		if n&1 != 0 {
			if started {
				z = z.times(x)
			} else {
				z, started = x, true
			}
		}
		x = x.times(x)
	}
	return z
}

// hashPower is a power of a key's H.
type hashPower struct {
	n     uint64
	value fieldElement
}

// keptPowers is how many powers a key keeps.
const keptPowers = 8

// powerOf is H^n. Transfers are of few lengths: the last few powers are kept.
func (k *macKey) powerOf(n uint64) fieldElement {
	for i := range k.powers {
		if p := k.powers[i].Load(); p == nil {
			break
		} else if p.n == n {
			return p.value
		}
	}
	p := &hashPower{n, k.hashKey.power(n)}
	k.powers[(k.oldest.Add(1)-1)%keptPowers].Store(p)
	return p.value
}

// lengthBlock is the last block of the hash of n bytes that are authenticated only.
func lengthBlock(n int) fieldElement { return fieldElement{hi: uint64(n) * 8} }

// sumApart is AES-GMAC of front, of whole blocks, and rest in a row, by the nonce in st.
func (k *macKey) sumApart(st *macState, front, rest []byte) {
	k.gmac.Seal(st.sum[:0], st.nonce[:], nil, rest)
	var p fieldElement
	for b := front; len(b) > 0; b = b[gcmBlock:] {
		p = p.plus(elementOf(b)).times(k.hashKey)
	}
	blocks := (uint64(len(rest)) + gcmBlock - 1) / gcmBlock
	p = p.times(k.powerOf(blocks + 1))
	length := lengthBlock(len(front) + len(rest)).plus(lengthBlock(len(rest)))
	p = p.plus(length.times(k.hashKey)).plus(elementOf(st.sum[:]))
	binary.BigEndian.PutUint64(st.sum[:], p.hi)
	binary.BigEndian.PutUint64(st.sum[8:], p.lo)
}
