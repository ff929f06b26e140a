package pattern

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// Buffers compress about as well as they are said to.
func TestCompress(t *testing.T) {
	for _, c := range []struct {
		content  Content
		from, to int // percent that are left
	}{
		{Content{}, 99, 101},
		{Content{Zero: true}, 0, 1},
		{Content{Pattern: []byte("abc")}, 0, 1},
		{Content{Compress: 50}, 48, 52},
		{Content{Compress: 75, Chunk: 4096}, 23, 29},
		{Content{Compress: 30, Pattern: []byte{1, 2, 3, 4}}, 68, 73},
	} {
		f, err := NewFiller(c.content, 1)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 1<<20)
		f.First(p)
		f.Next(p, 0)
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, flate.BestCompression)
		w.Write(p)
		w.Close()
		if left := b.Len() * 100 / len(p); left < c.from || left > c.to {
			t.Errorf("%+v: %d %% are left, want %d to %d", c.content, left, c.from, c.to)
		}
	}
}

// So many percent of the buffers are equal to one before; without, none is.
func TestDedupe(t *testing.T) {
	for _, c := range []struct {
		content  Content
		from, to int
	}{{Content{}, 0, 0}, {Content{Refill: true}, 0, 0}, {Content{Dedupe: 40}, 35, 45}, {Content{Dedupe: 100}, 99, 100}} {
		f, err := NewFiller(c.content, 2)
		if err != nil {
			t.Fatal(err)
		}
		const n = 2000
		p := make([]byte, 4096)
		f.First(p)
		seen, again := make(map[string]bool), 0
		for i := range n {
			f.Next(p, int64(i)*4096)
			if seen[string(p)] {
				again++
			}
			seen[string(p)] = true
		}
		if pc := (again*100 + n/2) / n; pc < c.from || pc > c.to {
			t.Errorf("%+v: %d %% were there before, want %d to %d", c.content, pc, c.from, c.to)
		}
	}
}

// XXH32 has the values of its specification, with seeds 0 and 0x9e3779b1.
func TestXXH32(t *testing.T) {
	p := make([]byte, 101)
	gen := uint32(2654435761)
	for i := range p {
		p[i] = byte(gen >> 24)
		gen *= gen
	}
	for _, c := range []struct {
		n          int
		seed, want uint32
	}{{0, 0, 0x02cc5d05}, {0, 2654435761, 0x36b78ae7}, {1, 0, 0xb85cbee5}, {1, 2654435761, 0xd5845d64}, {14, 0, 0xe5aa0ab4}, {14, 2654435761, 0x4481951d}, {101, 0, 0x1f1aa412}, {101, 2654435761, 0x498ec8e2}} {
		if got := xxh32(p[:c.n], c.seed); got != c.want {
			t.Errorf("%d bytes, seed %#x: %#08x, want %#08x", c.n, c.seed, got, c.want)
		}
	}
}

var allMethods = []Method{MD5, CRC32, CRC32C, SHA1, SHA256, SHA512, XXHash, PatternOnly}

func aVerify(m Method) Verify {
	v := Verify{Method: m, Seed: 77, Thread: 3}
	if m == PatternOnly {
		v.Pattern = []byte{0xde, 0xad, 0xbe, 0xef}
	}
	return v
}

// Of SHA-512 fio keeps the digest (that of "abc" is in FIPS 180-4's examples), and behind it
// the second half of the last block that went in: for "abc" 64 bytes of zeros but for the
// number of bits, 24; for 112 bytes and more that block has no data.
func TestSHA512AsFioKeepsIt(t *testing.T) {
	v := Verify{Method: SHA512}
	room := make([]byte, 128)
	v.sum(room, []byte("abc"))
	want := "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a" + "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f" +
		strings.Repeat("00", 63) + "18"
	if got := hex.EncodeToString(room); got != want {
		t.Errorf("abc:\n%s, want\n%s", got, want)
	}
	v.sum(room, bytes.Repeat([]byte{0xee}, 112))
	if got, want := hex.EncodeToString(room[64:]), strings.Repeat("00", 62)+"0380"; got != want {
		t.Errorf("112 bytes: second half\n%s, want\n%s", got, want)
	}
	v.sum(room, bytes.Repeat([]byte{0xee}, 100))
	if got, want := hex.EncodeToString(room[64:]), strings.Repeat("ee", 36)+"80"+strings.Repeat("00", 25)+"0320"; got != want {
		t.Errorf("100 bytes: second half\n%s, want\n%s", got, want)
	}
}

// A header has fio's form: 40 bytes, then the checksum of the rest.
func TestHeader(t *testing.T) {
	v := aVerify(CRC32C)
	p := make([]byte, 512)
	v.Seal(p, 0x123400, 0x10002, 1, 2)
	got := hex.EncodeToString(slices.Concat(p[:8], p[16:36]))
	// magic, crc32c, 512 bytes; offset, seconds, nanoseconds, thread, write
	if want := "caac" + "0500" + "00020000" +
		"0034120000000000" + "01000000" + "02000000" + "0300" + "0200"; got != want {
		t.Errorf("header %s, want %s", got, want)
	}
}

// What was written is known again, and whatever has become of it is noticed: each bit,
// another place, an older write, one that never came.
func TestVerify(t *testing.T) {
	for _, m := range allMethods {
		for _, shape := range []struct{ size, interval, offset int }{{4096, 0, 0}, {4096, 512, 0}, {4096, 1024, 200}} {
			v := aVerify(m)
			v.Interval, v.Offset = shape.interval, shape.offset
			if err := v.Check(shape.size); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, shape.size)
			v.Seal(p, 8192, 5, 1000, 2000)
			good := slices.Clone(p)
			check := func(want bool, what string, offset int64, seq uint64) {
				t.Helper()
				q := slices.Clone(p)
				if err := v.CheckSeq(q, offset, seq); (err == nil) != want {
					t.Errorf("%s, %+v: %s: %v", m, shape, what, err)
				}
			}
			check(true, "as it was written", 8192, 5)
			for _, bit := range []int{0, 7, 100, 8*shape.size/2 + 3, 8*shape.size - 1} {
				p[bit/8] ^= 1 << (bit % 8)
				check(false, "a bit has changed", 8192, 5)
				copy(p, good)
			}
			clear(p)
			check(false, "a write that never came", 8192, 5)
			copy(p, good)
			if m != PatternOnly { // which says nothing of where and when
				check(false, "another place", 4096, 5)
				check(false, "an older write", 8192, 6)
				check(false, "a write of so much longer ago that its number is the same", 8192, 5+1<<16)
				if err := v.Check1(p, 8192); err != nil {
					t.Errorf("%s: of whatever write: %v", m, err)
				}
			}
		}
	}
}

// Headers that have no room are refused.
func TestVerifyRefused(t *testing.T) {
	for name, v := range map[string]Verify{
		"an interval that does not divide": {Method: MD5, Interval: 1000},
		"an interval beyond the block":     {Method: MD5, Interval: 8192},
		"no room for the header":           {Method: SHA512, Interval: 128},
		"an offset without room behind it": {Method: MD5, Interval: 512, Offset: 500},
		"a pattern of nothing":             {Method: PatternOnly},
		"no such method":                   {Method: 99},
	} {
		if err := v.Check(4096); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
