package pattern

import "math/bits"

// blockMap knows which blocks of a file had their turn, where I/Os differ in length: a
// bit for each block, and above a bit for each word that is full.
type blockMap struct {
	n    uint64
	left uint64
	bits []uint64
	full []uint64
}

func newBlockMap(n uint64) *blockMap {
	m := &blockMap{n: n, bits: make([]uint64, (n+63)/64), full: make([]uint64, ((n+63)/64+63)/64)}
	m.reset()
	return m
}

func (m *blockMap) reset() {
	clear(m.bits)
	clear(m.full)
	m.left = m.n
	// What is beyond the end is taken.
	if r := m.n % 64; r != 0 {
		m.bits[len(m.bits)-1] = ^uint64(0) << r
	}
	if r := len(m.bits) % 64; r != 0 {
		m.full[len(m.full)-1] = ^uint64(0) << r
	}
}

// free is the first free block at or after b, or else from the start. There is one.
func (m *blockMap) free(b uint64) uint64 {
	w := b / 64
	if v := ^m.bits[w] >> (b % 64); v != 0 {
		return b + uint64(bits.TrailingZeros64(v))
	}
	f := (w + 1) / 64
	if f < uint64(len(m.full)) {
		if v := ^m.full[f] >> ((w + 1) % 64); v != 0 {
			return m.in(w + 1 + uint64(bits.TrailingZeros64(v)))
		}
	}
	for k := range uint64(len(m.full)) {
		i := (f + 1 + k) % uint64(len(m.full))
		if v := ^m.full[i]; v != 0 {
			return m.in(i*64 + uint64(bits.TrailingZeros64(v)))
		}
	}
	return m.in(0) // not reached while left is above 0
}

func (m *blockMap) in(w uint64) uint64 { return w*64 + uint64(bits.TrailingZeros64(^m.bits[w])) }

// take marks at most k blocks from b on, which is free, up to the next that is not, and
// returns how many.
func (m *blockMap) take(b, k uint64) uint64 {
	n := uint64(0)
	for ; n < k && b+n < m.n; n++ {
		w, bit := (b+n)/64, uint64(1)<<((b+n)%64)
		if m.bits[w]&bit != 0 {
			break
		}
		if m.bits[w] |= bit; m.bits[w] == ^uint64(0) {
			m.full[w/64] |= 1 << (w % 64)
		}
	}
	m.left -= n
	return n
}
