package tcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// frame is a message of n bytes as it is on the wire.
func frame(n int, seed int64) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(n)), pattern(n, seed)...)
}

// Messages that are kept back arrive in the order in which they were sent, before the
// one after them, or when they are flushed.
func TestKeptMessages(t *testing.T) {
	for _, tc := range []struct {
		name  string
		sizes []int
		more  []bool
		flush bool
	}{
		{"sent with the next one", []int{100, 200, 300}, []bool{true, true, false}, false},
		{"flushed", []int{100, 200}, []bool{true, true}, true},
		{"too long to be kept", []int{10, maxKept, maxKept + 1}, []bool{true, true, true}, false},
		{"so many that they are sent at once", []int{maxKept, maxKept, maxKept, maxKept, maxKept, maxKept}, []bool{true, true, true, true, true, true}, false},
		{"nothing to flush", nil, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := pair(t, Config{})
			total := 0
			for i, n := range tc.sizes {
				p := pattern(n, int64(i))
				m := &transport.Message{Parts: [][]byte{p[:n/2], p[n/2:]}, More: tc.more[i]}
				if err := a.Send(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				clear(p) // the caller's again
				total += n
			}
			if tc.flush {
				if err := a.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for i, n := range tc.sizes {
				m, err := b.Receive(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(m.Data, pattern(n, int64(i))) {
					t.Errorf("message %d differs", i)
				}
				m.Release()
			}
			if s := a.Stats(); s.MessagesSent != uint64(len(tc.sizes)) || s.BytesSent != uint64(total) {
				t.Errorf("%d messages of %d bytes counted, want %d of %d", s.MessagesSent, s.BytesSent, len(tc.sizes), total)
			}
			if a.kept != nil {
				t.Error("a buffer is held although everything is sent")
			}
		})
	}
}

// A message that is kept back is not on its way.
func TestKeptMessageWaits(t *testing.T) {
	a, b := pair(t, Config{})
	if err := a.Send(t.Context(), &transport.Message{Parts: [][]byte{{1}}, More: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("received before the flush: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := a.Flush(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("flush under a context that has ended: %v", err)
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := b.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.Release()
	a.Close()
	if err := a.Flush(t.Context()); err == nil {
		t.Error("a connection that is closed can be flushed")
	}
}

// However a stream of messages is cut, and whatever their lengths, they are what was
// sent; and what has been read ahead is known of.
func TestReadAhead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		sizes []int
	}{
		{"many small ones", repeat(120, 500)},
		{"pages", repeat(4176, 100)},
		{"small ones around a large one", append(append(repeat(120, 40), 1<<20), repeat(120, 40)...)},
		{"as long as is copied, and longer", []int{maxCopied - 1, maxCopied, maxCopied + 1, 5, maxCopied, 7}},
		{"growing", []int{508, 509, 4092, 4093, 16380, 16381, 65532, 65533, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nc, c := raw(t, Config{})
			var stream []byte
			for i, n := range tc.sizes {
				stream = append(stream, frame(n, int64(i))...)
				if i%7 == 3 {
					stream = append(stream, 0x85, 0, 0, 0) // a keepalive in between
				}
			}
			go nc.Write(stream)
			for i, n := range tc.sizes {
				sure, before := c.Buffered(), c.rx.w
				m, err := c.Receive(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if sure && c.rx.w != before {
					t.Fatalf("message %d was there, and more was read", i)
				}
				if !bytes.Equal(m.Data, pattern(n, int64(i))) {
					t.Fatalf("message %d of %d bytes differs", i, n)
				}
				m.Release()
			}
			if c.Buffered() {
				t.Error("there is a message more")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := c.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			if c.rx.big != nil {
				t.Error("a connection that waits holds a buffer")
			}
		})
	}
}

func repeat(n, times int) []int {
	s := make([]int, times)
	for i := range s {
		s[i] = n
	}
	return s
}

// Several small messages that are there are read at once.
func TestReadTogether(t *testing.T) {
	nc, c := raw(t, Config{})
	one := frame(120, 1)
	buffered := 0
	for range 50 {
		if _, err := nc.Write(bytes.Repeat(one, 8)); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			m, err := c.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			m.Release()
			if c.Buffered() {
				buffered++
			}
		}
	}
	// Of each eight, at least those that came in the read of the first: all of them once
	// the buffer has grown.
	if buffered < 50*7-20 {
		t.Errorf("%d of %d messages came with the one before them", buffered, 50*7)
	}
}

// A peer that answers at once is waited for without the poller, and so are the end of
// the connection, that of the context and its being closed.
func TestBriskWait(t *testing.T) {
	a, b := pair(t, Config{})
	errc := make(chan error, 1)
	go func() {
		for {
			m, err := b.Receive(t.Context())
			if err != nil {
				errc <- err
				return
			}
			err = b.Send(t.Context(), &transport.Message{Parts: [][]byte{m.Data}})
			m.Release()
			if err != nil {
				errc <- err
				return
			}
		}
	}()
	for range 300 {
		if err := a.Send(t.Context(), &transport.Message{Parts: [][]byte{{1, 2}}}); err != nil {
			t.Fatal(err)
		}
		m, err := a.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m.Release()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := a.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after a context has ended: %v", err)
	}
	a.Close()
	if err := <-errc; !errors.Is(err, io.EOF) {
		t.Errorf("the peer has closed: %v", err)
	}
}

// A context that ends while a message comes in ends its receiving, though the peer never
// lets the connection wait; nothing is lost by it.
func TestReceiveEndsWhilePeerSends(t *testing.T) {
	nc, c := raw(t, Config{})
	want := pattern(100<<10, 1)
	if _, err := nc.Write(frame(len(want), 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.recvCtx.arm(ctx); err != nil { // as Receive does
		t.Fatal(err)
	}
	cancel()
	<-c.recvCtx.fired
	if _, err := c.receive(); !errors.Is(err, context.Canceled) {
		t.Fatalf("receiving goes on: %v", err)
	}
	m, err := c.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Data, want) {
		t.Error("the message differs")
	}
	m.Release()
}
