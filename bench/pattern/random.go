package pattern

import (
	"math/bits"
	"math/rand/v2"
)

// Random is a source of random numbers that is cheap enough to be asked for each I/O.
type Random struct{ rand.PCG }

// NewRandom is a source whose numbers follow from seed and stream.
func NewRandom(seed, stream uint64) *Random {
	r := new(Random)
	r.Seed(seed, stream)
	return r
}

// Below is a number of 0 to n-1; n is at least 1. Its bias is below n/2^64.
func (r *Random) Below(n uint64) uint64 {
	hi, _ := bits.Mul64(r.Uint64(), n)
	return hi
}

// Float is a number of [0, 1).
func (r *Random) Float() float64 { return float64(r.Uint64()>>11) / (1 << 53) }

// Permutation is an order of 0 to n-1 that looks random and needs no memory: a Feistel
// network whose values beyond n are sent through it again.
type Permutation struct {
	n           uint64
	left, right uint // bits of the halves
	keys        [rounds]uint64
}

const rounds = 6

// NewPermutation is the order of n numbers that follows from a key; n is at least 1.
func NewPermutation(n, key uint64) Permutation {
	p := Permutation{n: n}
	w := max(uint(bits.Len64(n-1)), 2)
	p.left, p.right = w/2, w-w/2
	r := NewRandom(key, 0x70)
	for i := range p.keys {
		p.keys[i] = r.Uint64()
	}
	return p
}

// At is the number in place i, which is below n.
func (p *Permutation) At(i uint64) uint64 {
	for {
		// In each round the halves change places, and so do their widths.
		a, b := p.left, p.right
		l, r := i>>b, i&(1<<b-1)
		for _, k := range p.keys {
			l, r = r, l^mix(r, k)&(1<<a-1)
			a, b = b, a
		}
		if i = l<<b | r; i < p.n {
			return i
		}
	}
}

func mix(x, key uint64) uint64 {
	x = (x ^ key) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}
