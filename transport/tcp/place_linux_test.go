package tcp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// What a PlaceFunc may say of a message, and what arrives then.
func TestPlace(t *testing.T) {
	const long = 1 << 20
	for _, c := range []struct {
		name   string
		n      int
		at     int // of the placement; 0: there is none
		room   int
		asked  bool
		placed int
	}{
		{"a short message", minPlaced - 1, 80, minPlaced, false, 0},
		{"the shortest that is asked about", minPlaced, 80, minPlaced - 80, true, minPlaced - 80},
		{"a long one", long, 80, long - 80, true, long - 80},
		{"with a longer head", long, 112, long - 112, true, long - 112},
		{"no place", long, 0, 0, true, 0},
		{"a head that was not shown", long, 100_000, long - 100_000, true, 0},
		{"a head that is too short", long, transport.PlaceHead - 1, long, true, 0},
		{"less room than octets", long, 80, 1000, true, long - 80},
		{"no room any more", long, 80, 0, true, long - 80},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, Config{})
			mem := make([]byte, c.room+1)
			var to transport.Placement
			to.Set(mem[:c.room:c.room])
			asked := 0
			b.SetPlace(func(head []byte, n int) (int, *transport.Placement) {
				if n == 3<<14 { // the one behind
					return 0, nil
				}
				if asked++; n != c.n || len(head) < transport.PlaceHead || !bytes.Equal(head, pattern(c.n, 5)[:len(head)]) {
					t.Errorf("asked about %d octets, %d shown, want %d", n, len(head), c.n)
				}
				if c.at == 0 {
					return 0, nil
				}
				return c.at, &to
			})
			go func() {
				for i, n := range []int{100, c.n, 3 << 14, 100} {
					if err := a.Send(t.Context(), &transport.Message{Parts: [][]byte{pattern(n, int64(4+i))}}); err != nil {
						t.Error(err)
					}
				}
			}()
			for i, n := range []int{100, c.n, 3 << 14, 100} {
				m, err := b.Receive(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				want := pattern(n, int64(4+i))
				if i == 1 && c.placed > 0 {
					if m.Placed != c.placed || m.Copied > 4096 {
						t.Errorf("%d octets placed, %d of them copied, want %d, few", m.Placed, m.Copied, c.placed)
					}
					if got := min(c.room, c.placed); !bytes.Equal(mem[:got], want[c.at:c.at+got]) || mem[c.room] != 0 {
						t.Error("what was placed is not what was sent")
					}
					want = want[:c.at]
				} else if m.Placed != 0 {
					t.Errorf("message %d: %d octets placed, want none", i, m.Placed)
				}
				if !bytes.Equal(m.Data, want) {
					t.Errorf("message %d of %d octets differs", i, n)
				}
				m.Release()
			}
			if (asked > 0) != c.asked {
				t.Errorf("asked %d times, want it: %v", asked, c.asked)
			}
		})
	}
}

// Memory that is taken back in the middle of a message is not written to any more; the
// rest of the message is dropped, and the next one arrives.
func TestPlaceTakenBack(t *testing.T) {
	nc, c := raw(t, Config{})
	const n = 1 << 20
	mem := make([]byte, n-80)
	var to transport.Placement
	to.Set(mem)
	c.SetPlace(func([]byte, int) (int, *transport.Placement) { return 80, &to })
	f := frame(n, 1)
	if _, err := nc.Write(f[:n/2]); err != nil {
		t.Fatal(err)
	}
	for { // a Receive that is interrupted goes on where it stopped
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := c.Receive(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("half a message: %v", err)
		}
		if c.rx.got == n/2-prefixSize {
			break
		}
	}
	to.Revoke()
	was := bytes.Clone(mem)
	go nc.Write(append(f[n/2:], frame(100, 2)...))
	m, err := c.Receive(t.Context())
	if err != nil || m.Placed != n-80 || !bytes.Equal(m.Data, f[4:84]) {
		t.Fatalf("%v", err)
	}
	m.Release()
	if !bytes.Equal(mem, was) || !bytes.Equal(mem[:n/2-100], f[84:84+n/2-100]) {
		t.Error("memory was written to after it had been taken back, or not before")
	}
	if m, err = c.Receive(t.Context()); err != nil || !bytes.Equal(m.Data, pattern(100, 2)) {
		t.Fatalf("the next message: %v", err)
	}
	m.Release()
}

// A connection that ends within a message of either kind says so.
func TestPlaceEnd(t *testing.T) {
	for _, n := range []int{prefixSize + 10, prefixSize + transport.PlaceHead + 1, 100_000} {
		nc, c := raw(t, Config{})
		var to transport.Placement
		to.Set(make([]byte, 1<<20))
		c.SetPlace(func([]byte, int) (int, *transport.Placement) { return 80, &to })
		if _, err := nc.Write(frame(1<<20, 1)[:n]); err != nil {
			t.Fatal(err)
		}
		nc.Close()
		if _, err := c.Receive(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("after %d octets: %v", n, err)
		}
	}
}

// What has a pipe in front of its place goes there as far as there is room, and then into
// memory: nothing of it is lost, twice there or out of order.
func TestPlacePiped(t *testing.T) {
	const n = 1<<20 + 80
	for _, c := range []struct {
		name string
		size int // of the pipe, in bytes
	}{
		{"room for all, or nearly: that depends on how it is cut", 1 << 20},
		{"room for some", 64 << 10},
		{"room for a piece", 4096},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, Config{})
			var fds [2]int
			if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fds[0])
			defer unix.Close(fds[1])
			if _, err := unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, c.size); err != nil {
				t.Fatal(err)
			}
			mem := make([]byte, n-80)
			pipe := transport.Pipe{W: fds[1]}
			var to transport.Placement
			to.SetPiped(mem, &pipe)
			b.SetPlace(func(head []byte, n int) (int, *transport.Placement) { return 80, &to })
			go func() {
				for i, n := range []int{n, 100} {
					if err := a.Send(t.Context(), &transport.Message{Parts: [][]byte{pattern(n, int64(i))}}); err != nil {
						t.Error(err)
					}
				}
			}()
			m, err := b.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Placed != n-80 || pipe.N == 0 || c.size == 4096 && !pipe.Over {
				t.Errorf("%d octets placed, %d of them in a pipe of %d", m.Placed, pipe.N, c.size)
			}
			m.Release()
			got := make([]byte, pipe.N+1)
			if k, err := unix.Read(fds[0], got); err != nil || k != pipe.N {
				t.Fatalf("%d octets in the pipe, want %d: %v", k, pipe.N, err)
			}
			if !bytes.Equal(append(got[:pipe.N], mem[pipe.N:]...), pattern(n, 0)[80:]) {
				t.Error("what was placed is not what was sent")
			}
			if !bytes.Equal(mem[:pipe.N], make([]byte, pipe.N)) {
				t.Error("what went into the pipe is in memory, too")
			}
			if m, err = b.Receive(t.Context()); err != nil || !bytes.Equal(m.Data, pattern(100, 1)) {
				t.Fatalf("the next message: %v", err)
			}
			m.Release()
		})
	}
}

// A connection that is reset says so, also where it is a pipe into which it was received.
func TestPlacePipedReset(t *testing.T) {
	nc, c := raw(t, Config{})
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	const n, sent = 100_000, 20_000
	pipe := transport.Pipe{W: fds[1]}
	var to transport.Placement
	to.SetPiped(make([]byte, n-80), &pipe)
	c.SetPlace(func([]byte, int) (int, *transport.Placement) { return 80, &to })
	if _, err := nc.Write(frame(n, 1)[:sent]); err != nil {
		t.Fatal(err)
	}
	for c.rx.got != sent-prefixSize { // a Receive that is interrupted goes on where it stopped
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := c.Receive(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a part of a message: %v", err)
		}
	}
	if pipe.N != sent-prefixSize-80 || pipe.Over {
		t.Fatalf("%d octets in the pipe, which is over: %v", pipe.N, pipe.Over)
	}
	if err := nc.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if _, err := c.Receive(t.Context()); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%v, want that the connection was reset", err)
	}
}
