package tcp

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// filePair is two connected ends and a file of n bytes.
func filePair(t *testing.T, n int) (from, to *Conn, f *os.File, data []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if from, err = NewConn(a, Config{}); err != nil {
		t.Fatal(err)
	}
	if to, err = NewConn(b, Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { from.Close(); to.Close() })
	data = make([]byte, n)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = os.Open(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return from, to, f, data
}

func TestSendFromFile(t *testing.T) {
	const size = 3<<20 + 777
	from, to, f, data := filePair(t, size)
	for _, c := range []struct {
		name   string
		off    int64
		n, got int
	}{
		{"an octet", 0, 1, 1},
		{"less than a page, not at its beginning", 4095, 2, 2},
		{"64 KiB", 0, 64 << 10, 64 << 10},
		{"as much as a pipe may hold", 1 << 20, 1 << 20, 1 << 20},
		{"not aligned", 12345, 500000, 500000},
		{"more than there is", size - 1000, 100000, 1000},
		{"nothing, at the end", size, 100000, 0},
		{"nothing, beyond the end", size + 1<<20, 100000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tail, err := from.LoadFile(f, c.off, c.n)
			if err != nil {
				t.Fatal(err)
			}
			if tail == nil {
				t.Fatal("the file is to be read")
			}
			defer tail.Release()
			if tail.Len() != c.got {
				t.Fatalf("%d bytes, want %d", tail.Len(), c.got)
			}
			if c.got == 0 {
				return
			}
			head := []byte("a header")
			m := transport.Message{Parts: [][]byte{head[:3], nil, head[3:]}, Tail: tail}
			if m.Len() != len(head)+c.got {
				t.Fatalf("message of %d bytes", m.Len())
			}
			sent := make(chan error, 1)
			go func() { sent <- from.Send(t.Context(), &m) }()
			r, err := to.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want := append(bytes.Clone(head), data[c.off:c.off+int64(c.got)]...); !bytes.Equal(r.Data, want) {
				t.Errorf("%d bytes that differ from the file's", len(r.Data))
			}
			r.Release()
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if tail.Len() != 0 {
				t.Errorf("%d bytes are left", tail.Len())
			}
		})
	}
}

// A pipe holds no more than the system allows: then the file is read.
func TestSendFromFileTooMuch(t *testing.T) {
	from, _, f, _ := filePair(t, 100)
	limit := pipeLimit.Load()
	defer pipeLimit.Store(limit)
	pipeLimit.Store(256 << 10)
	if tail, err := from.LoadFile(f, 0, 256<<10); tail != nil || err != nil {
		t.Errorf("%v, %v", tail, err)
	}
}

// A tail that is not sent leaves nothing to the next one.
func TestTailThatIsNotSent(t *testing.T) {
	from, to, f, data := filePair(t, 10000)
	before := livePipes.Load()
	for range 3 * maxPipes {
		tail, err := from.LoadFile(f, 100, 5000)
		if err != nil || tail == nil {
			t.Fatal(tail, err)
		}
		tail.Release()
	}
	if n := livePipes.Load() - before; n > 1 {
		t.Errorf("%d pipes are left", n)
	}
	tail, err := from.LoadFile(f, 7, 11)
	if err != nil {
		t.Fatal(err)
	}
	if err := from.Send(t.Context(), &transport.Message{Parts: [][]byte{{'h'}}, Tail: tail}); err != nil {
		t.Fatal(err)
	}
	tail.Release()
	r, err := to.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if !bytes.Equal(r.Data[1:], data[7:18]) {
		t.Errorf("got % x", r.Data)
	}
}

// A peer that takes nothing is given up with the context, and the connection with it.
func TestSendFromFileInterrupted(t *testing.T) {
	from, _, f, _ := filePair(t, 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := make(chan error)
	go func() {
		var err error
		for err == nil { // until the socket is full, and for as long as ctx lasts
			var tail transport.Tail
			if tail, err = from.LoadFile(f, 0, 1<<20); err == nil {
				err = from.Send(ctx, &transport.Message{Parts: [][]byte{{'h'}}, Tail: tail})
				tail.Release()
			}
		}
		sent <- err
	}()
	for last := uint64(1); last != from.sentBytes.Load(); time.Sleep(20 * time.Millisecond) {
		last = from.sentBytes.Load()
	}
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// What is no regular file is read, or refused, in the usual way.
func TestSendFromWhatIsNoFile(t *testing.T) {
	from, _, _, _ := filePair(t, 1)
	d, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if tail, err := from.LoadFile(d, 0, 100); tail != nil {
		t.Errorf("%v, %v", tail, err)
	}
	a, b := net.Pipe() // no descriptor
	defer b.Close()
	c, err := NewConn(a, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if tail, err := c.LoadFile(d, 0, 100); tail != nil || err != nil {
		t.Errorf("%v, %v", tail, err)
	}
}
