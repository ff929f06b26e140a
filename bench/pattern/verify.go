package pattern

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"math/bits"
	"sync"
)

// Method is how a block says that it is whole.
type Method int

const (
	MD5 Method = iota
	CRC32
	CRC32C
	SHA1
	SHA256
	SHA512
	XXHash
	PatternOnly // the block is the pattern and nothing else
)

// methods have what fio's headers say of each, and how long the checksum's place is.
var methods = [...]struct {
	name string
	code uint16
	room int
}{
	MD5: {"md5", 2, 16}, CRC32: {"crc32", 4, 4}, CRC32C: {"crc32c", 5, 4}, SHA1: {"sha1", 16, 20}, SHA256: {"sha256", 9, 64},
	SHA512: {"sha512", 10, 128}, XXHash: {"xxhash", 15, 4}, PatternOnly: {"pattern", 18, 0},
}

func (m Method) String() string { return methods[m].name }

const (
	headMagic = 0xacca
	headSize  = 40
	headCRC   = 36 // its place
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Verify makes blocks that are known again, in the form of fio 3.33: every Interval
// bytes begin, Offset bytes in, with a header of 40 bytes, little-endian (magic 0xacca,
// method, length, seed, offset in the file, seconds, nanoseconds, thread, number of the
// write, CRC-32C of these) and the checksum of the bytes behind it. What the bytes are
// follows from Seed and the number of the write, so that an older state of a block, which
// is whole in itself, is told from the last one.
type Verify struct {
	Method   Method
	Interval int // bytes; 0: the whole block
	Offset   int // of the header in it
	Pattern  []byte
	Places   []int // in Pattern, of the offset in the file, 8 bytes each
	Seed     uint64
	Thread   uint16
}

// Check checks the settings for blocks of at least so many bytes.
func (v *Verify) Check(smallest int) error {
	if v.Method < 0 || int(v.Method) >= len(methods) {
		return fmt.Errorf("method %d of verification", v.Method)
	}
	n := v.Interval
	if n == 0 {
		n = smallest
	}
	if v.Method == PatternOnly {
		if len(v.Pattern) == 0 {
			return fmt.Errorf("verify=pattern without verify_pattern")
		}
		return nil
	}
	if need := headSize + methods[v.Method].room; v.Interval < 0 || v.Offset < 0 || n > smallest || smallest%n != 0 || v.Offset > n-need {
		return fmt.Errorf("blocks of %d bytes have no room for headers of %d bytes, %d bytes into every %d", smallest, need, v.Offset, n)
	}
	return nil
}

// seedOf is the seed of a write.
func (v *Verify) seedOf(seq uint64) uint64 { return mix(v.Seed+seq*0x9e3779b97f4a7c15, 5) }

// Seal fills a block that is written at an offset of its file as the seq-th write.
func (v *Verify) Seal(p []byte, offset int64, seq uint64, sec, nsec uint32) {
	if v.Method == PatternOnly {
		v.pattern(p, offset)
		return
	}
	seed := v.seedOf(seq)
	v.each(p, func(q []byte, at int) {
		if len(v.Pattern) > 0 {
			v.pattern(q, offset+int64(at))
		} else {
			Fill(q, seed+uint64(at))
		}
		v.exchange(q, func() {
			h := q[:headSize]
			le := binary.LittleEndian
			le.PutUint16(h, headMagic)
			le.PutUint16(h[2:], methods[v.Method].code)
			le.PutUint32(h[4:], uint32(len(q)))
			le.PutUint64(h[8:], seed)
			le.PutUint64(h[16:], uint64(offset)+uint64(at))
			le.PutUint32(h[24:], sec)
			le.PutUint32(h[28:], nsec)
			le.PutUint16(h[32:], v.Thread)
			le.PutUint16(h[34:], uint16(seq))
			le.PutUint32(h[headCRC:], ^crc32.Checksum(h[:headCRC], castagnoli))
			room := q[headSize:][:methods[v.Method].room]
			clear(room)
			v.sum(room, q[headSize+len(room):])
		})
	})
}

// each calls f for each interval of a block.
func (v *Verify) each(p []byte, f func(q []byte, at int)) {
	n := v.Interval
	if n == 0 {
		n = len(p)
	}
	for at := 0; at+n <= len(p); at += n {
		f(p[at:at+n:at+n], at)
	}
}

// exchange has f see the header at the start of the interval: fio exchanges the header
// with what is at its place.
func (v *Verify) exchange(q []byte, f func()) {
	swap := func() {
		n := headSize + methods[v.Method].room
		for i := range n {
			q[i], q[v.Offset+i] = q[v.Offset+i], q[i]
		}
	}
	if v.Offset == 0 {
		f()
		return
	}
	f()
	swap()
}

func (v *Verify) pattern(p []byte, offset int64) {
	for at := 0; at < len(p); at += len(v.Pattern) {
		n := copy(p[at:], v.Pattern)
		for _, place := range v.Places {
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], uint64(offset))
			if place < n {
				copy(p[at+place:at+n], b[:])
			}
		}
	}
}

// sum puts the checksum of p into room.
func (v *Verify) sum(room, p []byte) {
	switch v.Method {
	case MD5:
		s := md5.Sum(p)
		copy(room, s[:])
	case SHA1:
		s := sha1.Sum(p) // which fio keeps as words of this machine's order
		for i := 0; i < len(s); i += 4 {
			binary.LittleEndian.PutUint32(room[i:], binary.BigEndian.Uint32(s[i:]))
		}
	case SHA256:
		fioSHA256(room, p)
	case SHA512:
		s := sha512.Sum512(p)
		lastBlock(room, p)
		binary.BigEndian.PutUint64(room[sha512.BlockSize-8:], uint64(len(p))*8)
		copy(room, s[:]) // behind it fio since 3.39 leaves what the last block had there
	case CRC32:
		binary.LittleEndian.PutUint32(room, crc32High(p))
	case CRC32C:
		binary.LittleEndian.PutUint32(room, ^crc32.Checksum(p, castagnoli))
	case XXHash:
		binary.LittleEndian.PutUint32(room, xxh32(p, 1))
	}
}

// lastBlock puts into b the last block that goes into a SHA of p, without the number of
// bits, for which it returns the place.
func lastBlock(b, p []byte) int {
	clear(b)
	end, n := len(b)-len(b)/8, len(p)%len(b)
	if n < end {
		copy(b, p[len(p)-n:])
		b[n] = 0x80
	}
	return end
}

// sha256Hash is a hash, and room for what it is told and tells, which the heap would have to
// have else.
type sha256Hash struct {
	hash.Hash
	pad   [sha256.BlockSize + 8]byte
	state [128]byte
}

var sha256s = sync.Pool{New: func() any { return &sha256Hash{Hash: sha256.New()} }}

// fioSHA256 is what fio calls SHA-256. The number of bits at the end of the data has its
// lowest byte first, which is not so in FIPS 180-4; and what it keeps is the last block that
// went into the hash, with the lowest byte of each word of the hash in its first 8.
func fioSHA256(room, p []byte) {
	h := sha256s.Get().(*sha256Hash)
	defer sha256s.Put(h)
	h.Reset()
	h.Write(p)
	end := lastBlock(room, p)
	n := 1 + (end+sha256.BlockSize-1-len(p)%sha256.BlockSize)%sha256.BlockSize
	clear(h.pad[:])
	h.pad[0] = 0x80
	binary.LittleEndian.PutUint64(h.pad[n:], uint64(len(p))*8)
	h.Write(h.pad[:n+8])
	copy(room[end:], h.pad[n:n+8])
	s, err := h.Hash.(encoding.BinaryAppender).AppendBinary(h.state[:0])
	if err != nil || len(s) < 4+sha256.Size {
		panic("crypto/sha256 does not tell its state") // it does since Go 1.24
	}
	for i := range sha256.Size / 4 {
		room[i] = s[4+4*i+3]
	}
}

// CheckSeq says whether a block at an offset is what the seq-th write has put there.
func (v *Verify) CheckSeq(p []byte, offset int64, seq uint64) error {
	return v.check(p, offset, seq, true)
}

// Check1 says whether a block at an offset is what some write has put there.
func (v *Verify) Check1(p []byte, offset int64) error { return v.check(p, offset, 0, false) }

func (v *Verify) check(p []byte, offset int64, seq uint64, known bool) (err error) {
	if v.Method == PatternOnly {
		for i, b := range p {
			w := v.Pattern[i%len(v.Pattern)]
			for _, place := range v.Places {
				if k := i%len(v.Pattern) - place; k >= 0 && k < 8 {
					w = byte(uint64(offset) >> (8 * k))
				}
			}
			if b != w {
				return fmt.Errorf("byte %d of the block is %#02x, and the pattern has %#02x", i, b, w)
			}
		}
		return nil
	}
	n := v.Interval
	if n == 0 {
		n = len(p)
	}
	for at := 0; at+n <= len(p); at += n {
		if err := v.checkOne(p[at:at+n], offset+int64(at), seq, known); err != nil {
			return fmt.Errorf("%d bytes into the block: %w", at, err)
		}
	}
	return nil
}

func (v *Verify) checkOne(q []byte, offset int64, seq uint64, known bool) (err error) {
	if v.Offset > 0 {
		// As it was before the header went to its place.
		m := headSize + methods[v.Method].room
		for i := m - 1; i >= 0; i-- {
			q[i], q[v.Offset+i] = q[v.Offset+i], q[i]
		}
	}
	le := binary.LittleEndian
	room := q[headSize:][:methods[v.Method].room]
	var sum [128]byte
	v.sum(sum[:len(room)], q[headSize+len(room):])
	switch {
	case le.Uint16(q) != headMagic:
		return fmt.Errorf("the header begins with %#04x, not %#04x: it was never written, or written over", le.Uint16(q), headMagic)
	case le.Uint32(q[headCRC:]) != ^crc32.Checksum(q[:headCRC], castagnoli):
		return fmt.Errorf("the header is damaged: its checksum is %#08x, and of what it says %#08x", le.Uint32(q[headCRC:]), ^crc32.Checksum(q[:headCRC], castagnoli))
	case le.Uint16(q[2:]) != methods[v.Method].code || le.Uint32(q[4:]) != uint32(len(q)):
		return fmt.Errorf("the header is of another job: method %d for %d bytes", le.Uint16(q[2:]), le.Uint32(q[4:]))
	case le.Uint64(q[16:]) != uint64(offset):
		return fmt.Errorf("the header is of offset %d, and was read at %d", le.Uint64(q[16:]), offset)
	case known && (le.Uint64(q[8:]) != v.seedOf(seq) || le.Uint16(q[34:]) != uint16(seq)):
		return fmt.Errorf("an older state, or another job's: write %d of seed %#x, and the last was write %d of seed %#x",
			le.Uint16(q[34:]), le.Uint64(q[8:]), uint16(seq), v.seedOf(seq))
	case string(sum[:len(room)]) != string(room):
		return fmt.Errorf("the %s of the bytes is %x, and the header says %x", v.Method, sum[:len(room)], room)
	}
	return nil
}

// highTable is of crc32High, for each byte.
var highTable = func() (t [256]uint32) {
	for i := range t {
		c := uint32(i) << 24
		for range 8 {
			c = c<<1 ^ c>>31*0x04c11db7
		}
		t[i] = c
	}
	return t
}()

// crc32High is fio's CRC-32: highest bit first, from zero, not inverted.
func crc32High(p []byte) (c uint32) {
	for _, b := range p {
		c = c<<8 ^ highTable[byte(c>>24)^b]
	}
	return c
}

// xxh32 is XXH32 of p.
func xxh32(p []byte, seed uint32) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	le := binary.LittleEndian
	total := uint32(len(p))
	h := seed + p5
	if len(p) >= 16 {
		a := [4]uint32{1: seed + p2, 2: seed}
		x, y := uint32(p1), uint32(p2)
		a[0], a[3] = seed+x+y, seed-x
		for ; len(p) >= 16; p = p[16:] {
			for i := range a {
				a[i] = bits.RotateLeft32(a[i]+le.Uint32(p[4*i:])*p2, 13) * p1
			}
		}
		h = bits.RotateLeft32(a[0], 1) + bits.RotateLeft32(a[1], 7) + bits.RotateLeft32(a[2], 12) + bits.RotateLeft32(a[3], 18)
	}
	h += total
	for ; len(p) >= 4; p = p[4:] {
		h = bits.RotateLeft32(h+le.Uint32(p)*p3, 17) * p4
	}
	for _, b := range p {
		h = bits.RotateLeft32(h+uint32(b)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
