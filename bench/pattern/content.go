package pattern

import (
	"encoding/binary"
	"fmt"
)

// Content says what is written. The zero value is random bytes that are made once and
// changed a little for each I/O, as fio's are.
type Content struct {
	Zero    bool
	Pattern []byte // repeated; nil: none
	// Refill makes each buffer anew. Compress and Dedupe do so as well.
	Refill bool
	// Still leaves a buffer that is not made anew exactly as it is.
	Still bool
	// Compress is how many percent of each Chunk (0: of each buffer) are Pattern, or zeros.
	Compress, Chunk int
	// Dedupe is how many percent of the buffers are equal to one before.
	Dedupe int
}

// Filler fills the buffers of a job. It is its user's alone.
type Filler struct {
	c    Content
	rand *Random
	old  [64]uint64 // seeds of earlier buffers
	n    int
}

// NewFiller checks c.
func NewFiller(c Content, seed uint64) (*Filler, error) {
	if c.Compress < 0 || c.Compress > 100 || c.Dedupe < 0 || c.Dedupe > 100 || c.Chunk < 0 {
		return nil, fmt.Errorf("buffers that are %d %% compressible in chunks of %d bytes, %d %% alike", c.Compress, c.Chunk, c.Dedupe)
	}
	return &Filler{c: c, rand: NewRandom(seed, 2)}, nil
}

// First fills a buffer before its first use.
func (f *Filler) First(p []byte) {
	switch {
	case f.c.Zero:
		clear(p)
	case f.c.Pattern != nil && f.c.Compress == 0:
		repeat(p, f.c.Pattern)
	default:
		f.fill(p, f.seed())
	}
}

// Next prepares a buffer for a write at an offset.
func (f *Filler) Next(p []byte, offset int64) {
	switch {
	case f.c.Zero:
	case f.c.Refill || f.c.Compress > 0 || f.c.Dedupe > 0:
		f.First(p)
	case f.c.Pattern == nil && !f.c.Still:
		// Eight bytes in each sector differ from those of any other I/O.
		r := f.rand.Uint64()
		for i := 0; i+512 <= len(p); i += 512 {
			binary.LittleEndian.PutUint64(p[i+int(r>>58)*8:], r^uint64(offset+int64(i)))
		}
	}
}

// seed is a new one, or one that was there already.
func (f *Filler) seed() uint64 {
	if f.n > 0 && int(f.rand.Below(100)) < f.c.Dedupe {
		return f.old[f.rand.Below(uint64(min(f.n, len(f.old))))]
	}
	s := f.rand.Uint64()
	f.old[f.n%len(f.old)] = s
	f.n++
	return s
}

func (f *Filler) fill(p []byte, seed uint64) {
	if f.c.Compress == 0 {
		Fill(p, seed)
		return
	}
	chunk := f.c.Chunk
	if chunk == 0 {
		chunk = len(p)
	}
	for len(p) > 0 {
		q := p[:min(chunk, len(p))]
		k := len(q) - len(q)*f.c.Compress/100
		seed = Fill(q[:k], seed)
		if f.c.Pattern != nil {
			repeat(q[k:], f.c.Pattern)
		} else {
			clear(q[k:])
		}
		p = p[len(q):]
	}
}

// Fill makes random bytes that follow from a seed, and returns the seed for more.
func Fill(p []byte, seed uint64) uint64 {
	for len(p) >= 8 {
		seed += 0x9e3779b97f4a7c15
		binary.LittleEndian.PutUint64(p, mix(seed, 0))
		p = p[8:]
	}
	if len(p) > 0 {
		seed += 0x9e3779b97f4a7c15
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], mix(seed, 0))
		copy(p, b[:])
	}
	return seed
}

func repeat(p, pattern []byte) {
	n := copy(p, pattern)
	for n > 0 && n < len(p) {
		n += copy(p[n:], p[:n])
	}
}
