package memory

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"
)

// Two contents that share chunks, and change, are at every step what plain slices
// of bytes would be; and what they take is counted exactly.
func TestContentAgainstSlices(t *testing.T) {
	for seed := range uint64(20) {
		b := &budget{max: 1 << 30}
		rng := rand.New(rand.NewPCG(seed, 0))
		contents := []*content{{id: 1, budget: b}, {id: 2, budget: b}}
		models := make([][]byte, 2)
		const maxSize = 6 * chunkSize
		offset := func() int64 {
			if rng.IntN(2) == 0 {
				return rng.Int64N(5) * chunkSize
			}
			return rng.Int64N(maxSize - 1)
		}
		grown := func(m []byte, end int64) []byte {
			if end > int64(len(m)) {
				m = append(m, make([]byte, end-int64(len(m)))...)
			}
			return m
		}
		for step := range 400 {
			i := rng.IntN(2)
			c, off := contents[i], offset()
			length := 1 + rng.Int64N(maxSize-off)
			var err error
			op := rng.IntN(6)
			switch op {
			case 0, 1:
				p := make([]byte, min(length, 100_000))
				for k := range p {
					p[k] = byte(rng.Uint32())
				}
				_, err = c.writeAt(p, off)
				models[i] = grown(models[i], off+int64(len(p)))
				copy(models[i][off:], p)
			case 2:
				err = c.truncate(off)
				models[i] = grown(models[i], off)[:off:off]
			case 3:
				err = c.punch(off, length)
				if off < int64(len(models[i])) {
					clear(models[i][off:min(off+length, int64(len(models[i])))])
				}
			case 4:
				keep := rng.IntN(2) == 0
				err = c.allocate(off, length, keep)
				if !keep {
					models[i] = grown(models[i], off+length)
				}
			case 5:
				from := offset()
				length = min(length, maxSize-from)
				j := 1 - i
				if rng.IntN(3) == 0 {
					j = i
				}
				if j == i && off < from+length && from < off+length {
					continue
				}
				n := max(0, min(length, int64(len(models[j]))-from))
				var got int64
				got, err = c.copyFrom(off, contents[j], from, length, false)
				if got != n {
					t.Fatalf("seed %d, step %d: copied %d, want %d", seed, step, got, n)
				}
				if n > 0 {
					src := bytes.Clone(models[j][from : from+n])
					models[i] = grown(models[i], off+n)
					copy(models[i][off:], src)
				}
			}
			if err != nil {
				t.Fatalf("seed %d, step %d, op %d: %v", seed, step, op, err)
			}
			checkContents(t, contents, models, seed, step)
		}
		for _, c := range contents {
			c.free()
		}
		if used := b.used.Load(); used != 0 {
			t.Errorf("seed %d: %d bytes are still counted", seed, used)
		}
	}
}

func checkContents(t *testing.T, contents []*content, models [][]byte, seed uint64, step int) {
	t.Helper()
	chunks := make(map[*chunk]int32)
	for i, c := range contents {
		got := make([]byte, len(models[i])+10)
		n, err := c.readAt(got, 0)
		if err != io.EOF || n != len(models[i]) || !bytes.Equal(got[:n], models[i]) {
			t.Fatalf("seed %d, step %d: content %d reads %d bytes, %v, that differ from the %d it should", seed, step, i, n, err, len(models[i]))
		}
		last, stored := int64(-1), int64(0)
		for _, p := range c.parts {
			if p.index <= last {
				t.Fatalf("seed %d, step %d: parts are out of order", seed, step)
			}
			last = p.index
			stored += int64(len(p.data))
			chunks[p.chunk]++
		}
		if stored != c.stored {
			t.Fatalf("seed %d, step %d: %d bytes are stored, %d counted", seed, step, stored, c.stored)
		}
		for off := int64(0); off < c.size; {
			data, err := c.seekData(off)
			if errors.Is(err, syscall.ENXIO) {
				data = c.size
			}
			if z := models[i][off:data]; len(bytes.Trim(z, "\x00")) > 0 {
				t.Fatalf("seed %d, step %d: content %d has data in its hole from %d to %d", seed, step, i, off, data)
			}
			if data == c.size {
				break
			}
			if off, err = c.seekHole(data); err != nil || off <= data {
				t.Fatalf("seed %d, step %d: after data at %d, the hole is at %d, %v", seed, step, data, off, err)
			}
		}
	}
	var used int64
	for ch, n := range chunks {
		if ch.refs.Load() != n {
			t.Fatalf("seed %d, step %d: a chunk in %d places has %d references", seed, step, n, ch.refs.Load())
		}
		used += int64(len(ch.data))
	}
	if got := contents[0].budget.used.Load(); got != used {
		t.Fatalf("seed %d, step %d: %d bytes are counted, %d taken", seed, step, got, used)
	}
}

// Copies share storage until one of them changes.
func TestCopiesShare(t *testing.T) {
	b := &budget{max: 1 << 20}
	src, dst := &content{id: 1, budget: b}, &content{id: 2, budget: b}
	data := bytes.Repeat([]byte("0123456789abcdef"), 8*chunkSize/16)
	if _, err := src.writeAt(data, 0); err != nil {
		t.Fatal(err)
	}
	for range 4 { // more than there is room for
		if n, err := dst.copyFrom(0, src, 0, int64(len(data)), true); n != int64(len(data)) || err != nil {
			t.Fatalf("copying gave %d, %v", n, err)
		}
	}
	if used := b.used.Load(); used != 8*chunkSize {
		t.Errorf("a file of 8 chunks and its copy take %d bytes, want %d", used, 8*chunkSize)
	}
	if _, err := dst.writeAt([]byte("x"), 3*chunkSize); err != nil {
		t.Fatal(err)
	}
	if used := b.used.Load(); used != 9*chunkSize {
		t.Errorf("with one chunk changed, they take %d bytes, want %d", used, 9*chunkSize)
	}
	if n, err := dst.copyFrom(0, src, 1, int64(len(data)), true); n != 0 || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("cloning beyond the end gave %d, %v; want EINVAL", n, err)
	}
}

// What does not fit leaves the content as it was, and nothing is lost count of.
func TestWriteWithoutRoom(t *testing.T) {
	b := &budget{max: 2 * chunkSize}
	c := &content{id: 1, budget: b}
	if _, err := c.writeAt([]byte("keep"), 10); err != nil {
		t.Fatal(err)
	}
	before := b.used.Load()
	for _, off := range []int64{0, 12, 3 * chunkSize} {
		n, err := c.writeAt(make([]byte, 4*chunkSize), off)
		if n != 0 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("writing too much at %d gave %d, %v; want 0, ENOSPC", off, n, err)
		}
		got := make([]byte, 20)
		if n, _ := c.readAt(got, 0); n != 14 || string(got[10:14]) != "keep" {
			t.Errorf("after that, the content is %q", got[:n])
		}
	}
	if err := c.allocate(0, 1<<62, true); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("reserving too much: got %v, want ENOSPC", err)
	}
	c.free()
	if used := b.used.Load(); used != 0 {
		t.Errorf("%d bytes are counted for nothing; %d were for a few bytes", used, before)
	}
}
