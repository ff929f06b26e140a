package engine

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// page is memory outside of the heap, as the kernel has its address.
func page(t *testing.T, n int) []byte {
	t.Helper()
	b, err := NewBuffers(1, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b.At(0)[:n]
}

// A transfer of which the kernel leaves a part off is gone on with, from where it left off; one
// at the end of a file is short, as it is for Do.
func TestAIOGoesOn(t *testing.T) {
	const size = 12 << 10
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for i := range data {
		data[i] ^= byte(i >> 8)
	}
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		op     Op
		offset int64
		len    int
		first  int // of the first result, of which the kernel is made to do no more
		want   int
	}{
		{"all at once", Read, 4096, 4096, 0, 4096},
		{"the rest of a read", Read, 4096, 8192, 1000, 8192},
		{"the rest of a write", Write, 0, 8192, 5000, 8192},
		{"the end of the file", Read, 8192, 8192, 0, 4096},
		{"behind the end", Read, size, 4096, 0, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := newPosix()
			if err := p.Open(context.Background(), 0, name, OpenFlags{Read: true, Write: true}); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			queue, err := p.Queue(2, c.len)
			if err != nil {
				t.Fatal(err)
			}
			defer queue.Close()
			q := queue.(*aioQueue)
			u := &Unit{Op: c.op, Offset: c.offset, Buf: page(t, c.len), Slot: 1, N: 77}
			if c.op == Write {
				copy(u.Buf, data[c.offset:])
			}
			if c.first == 0 {
				if n, err := q.Submit([]*Unit{u}); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			} else { // as if it had been submitted, and this had been its result
				if c.op == Read {
					copy(u.Buf, data[c.offset:c.offset+int64(c.first)])
				}
				op := uint16(aioRead)
				if c.op == Write {
					op = aioWrite
				}
				u.N = 0
				q.cbs[1] = iocb{data: 1, fd: uint32(p.fds[0]), op: op, offset: c.offset, nbytes: uint64(c.len), buf: uint64(uintptr(unsafe.Pointer(&u.Buf[0])))}
				q.units[1], q.n = u, 1
				if !q.goesOn(u, int64(c.first)) {
					t.Fatalf("it does not go on: %v", u.Err)
				}
			}
			out := make([]*Unit, 2)
			if n, err := q.Reap(out, 1, -1); n != 1 || err != nil || out[0] != u || q.n != 0 || q.units[1] != nil {
				t.Fatalf("%d, %v, %d under way", n, err, q.n)
			}
			if u.N != c.want || u.Err != nil {
				t.Fatalf("%d bytes and %v, want %d", u.N, u.Err, c.want)
			}
			if !bytes.Equal(u.Buf[:u.N], data[c.offset:c.offset+int64(u.N)]) {
				t.Error("it has other bytes")
			}
		})
	}
	if after, err := os.ReadFile(name); err != nil || !bytes.Equal(after, data) {
		t.Errorf("what was written, from where the first part ended, is not what was there: %v", err)
	}
}

// An error ends a transfer, also of its rest; only where the rest can't be asked for at all, as
// with direct I/O at the end of a file, it is short.
func TestAIOErrors(t *testing.T) {
	q := new(aioQueue)
	for _, c := range []struct {
		before int
		res    int64
		want   error
	}{{0, -int64(unix.EIO), unix.EIO}, {512, -int64(unix.ENOSPC), unix.ENOSPC}, {0, -int64(unix.EINVAL), unix.EINVAL}, {512, -int64(unix.EINVAL), nil}} {
		u := &Unit{Op: Write, Buf: make([]byte, 1024), N: c.before}
		if q.goesOn(u, c.res) || u.Err != c.want || u.N != c.before {
			t.Errorf("%d after %d bytes: %d bytes, %v", c.res, c.before, u.N, u.Err)
		}
	}
}
