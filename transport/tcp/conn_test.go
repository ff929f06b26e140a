package tcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns two connected ends; cfg is that of the second.
func pair(t testing.TB, cfg Config) (*Conn, *Conn) {
	t.Helper()
	ctx := t.Context()
	l, err := Listen(ctx, "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := NewDialer(Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.Dial(ctx, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*Conn), b.(*Conn)
}

// raw returns a plain socket connected to a Conn.
func raw(t testing.TB, cfg Config) (*net.TCPConn, *Conn) {
	t.Helper()
	l, err := Listen(t.Context(), "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); c.Close() })
	return nc.(*net.TCPConn), c.(*Conn)
}

func pattern(n int, seed int64) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

func TestRoundTripSizes(t *testing.T) {
	a, b := pair(t, Config{})
	for _, n := range []int{1, 3, 4, 507, 508, 509, 4096, 4097, 64 << 10, 64<<10 + 1, 1 << 20, 5<<20 + 3, DefaultMaxReceiveSize, 17} {
		want := pattern(n, int64(n))
		errc := make(chan error, 1)
		go func() {
			errc <- a.Send(t.Context(), &transport.Message{Parts: [][]byte{want[:n/3], nil, want[n/3 : n/2], want[n/2:]}})
		}()
		m, err := b.Receive(t.Context())
		if err != nil {
			t.Fatalf("n %d: %v", n, err)
		}
		if err := <-errc; err != nil {
			t.Fatalf("n %d: send: %v", n, err)
		}
		if !bytes.Equal(m.Data, want) {
			t.Fatalf("n %d: data differ, got %d bytes", n, len(m.Data))
		}
		m.Release()
	}
	as, bs := a.Stats(), b.Stats()
	if as.MessagesSent != 14 || bs.MessagesReceived != 14 || as.BytesSent != bs.BytesReceived {
		t.Errorf("stats %+v and %+v", as, bs)
	}
}

func TestConcurrentSendersDoNotMix(t *testing.T) {
	a, b := pair(t, Config{})
	const senders, each = 8, 50
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				p := bytes.Repeat([]byte{byte(s)}, 1+(i*977)%20000)
				if err := a.Send(t.Context(), &transport.Message{Parts: [][]byte{p[:1], p[1:]}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range senders * each {
		m, err := b.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(m.Data, m.Data[:1]); n != len(m.Data) {
			t.Fatalf("message of %d bytes is mixed", len(m.Data))
		}
		m.Release()
	}
	wg.Wait()
}

// [MS-SMB2] 2.1 and RFC 1002 §4.3: what a peer may put in the prefix.
func TestFrames(t *testing.T) {
	for _, tc := range []struct {
		name   string
		send   []byte
		err    error  // of Receive; nil: a message "x" is delivered
		answer []byte // what the peer reads before the end
	}{
		{"message", []byte{0, 0, 0, 1, 'x'}, nil, nil},
		{"keepalives before a message", []byte{0x85, 0, 0, 0, 0x85, 0, 0, 0, 0, 0, 0, 1, 'x'}, nil, nil},
		{"keepalive with a length", []byte{0x85, 0, 0, 1, 0}, net.ErrClosed, nil},
		{"session request", append([]byte{0x81, 0, 0, 68}, make([]byte, 68)...), net.ErrClosed, []byte{0x83, 0, 0, 1, 0x8f}},
		{"MPA request", []byte("MPA ID Req Frame\x40\x01\x00\x00"), ErrMPA, nil},
		{"first octet of an MPA request", []byte("M"), ErrMPA, nil},
		{"empty message", []byte{0, 0, 0, 0}, net.ErrClosed, nil},
		{"too long by one", []byte{0, 0, 0x10, 0x01}, ErrTooLarge, nil},
		{"largest length there is", []byte{0, 0xff, 0xff, 0xff}, ErrTooLarge, nil},
		{"positive response nobody asked for", []byte{0x82, 0, 0, 0}, net.ErrClosed, nil},
		{"other first octet", []byte{1, 0, 0, 1, 'x'}, net.ErrClosed, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nc, c := raw(t, Config{MaxReceiveSize: 4096})
			if _, err := nc.Write(tc.send); err != nil {
				t.Fatal(err)
			}
			m, err := c.Receive(t.Context())
			if tc.err == nil {
				if err != nil || string(m.Data) != "x" {
					t.Fatalf("got %v, want a message", err)
				}
				m.Release()
				return
			}
			if !errors.Is(err, tc.err) || !errors.Is(err, net.ErrClosed) {
				t.Fatalf("error %v, want %v and net.ErrClosed", err, tc.err)
			}
			var pe *ProtocolError
			if !errors.As(err, &pe) || pe.Type != tc.send[0] {
				t.Errorf("error %#v is not a ProtocolError of the type", err)
			}
			got, _ := io.ReadAll(nc) // ends: the connection is closed
			if !bytes.Equal(got, tc.answer) {
				t.Errorf("peer got % x, want % x", got, tc.answer)
			}
			if err := c.Send(t.Context(), &transport.Message{Parts: [][]byte{{1}}}); !errors.Is(err, net.ErrClosed) {
				t.Errorf("send afterwards: %v", err)
			}
		})
	}
}

func TestMPAOnlyAtTheStart(t *testing.T) {
	nc, c := raw(t, Config{})
	nc.Write([]byte{0, 0, 0, 1, 'x', 'M', 'P', 'A', ' '})
	m, err := c.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.Release()
	if _, err = c.Receive(t.Context()); errors.Is(err, ErrMPA) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestEndOfStream(t *testing.T) {
	for _, tc := range []struct {
		name string
		send []byte
		want error
	}{
		{"between messages", nil, io.EOF},
		{"inside the prefix", []byte{0, 0}, io.ErrUnexpectedEOF},
		{"after the prefix", []byte{0, 0, 0, 9}, io.ErrUnexpectedEOF},
		{"inside the message", []byte{0, 0, 0, 9, 1, 2}, io.ErrUnexpectedEOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nc, c := raw(t, Config{})
			nc.Write(tc.send)
			nc.CloseWrite()
			if _, err := c.Receive(t.Context()); !errors.Is(err, tc.want) || tc.want == io.EOF && err != io.EOF {
				t.Errorf("first: %v, want %v", err, tc.want)
			}
			if _, err := c.Receive(t.Context()); !errors.Is(err, tc.want) || !errors.Is(err, net.ErrClosed) {
				t.Errorf("second: %v", err)
			}
		})
	}
}

// A peer that announces much and sends little costs what it sent.
func TestAnnouncedLengthCostsNothing(t *testing.T) {
	nc, c := raw(t, Config{MaxReceiveSize: MaxMessageSize})
	nc.Write([]byte{0, 0xff, 0xff, 0xff, 1})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if len(c.rx.cur.buf) != firstClass {
		t.Errorf("%d bytes held after 1 octet, want %d", len(c.rx.cur.buf), firstClass)
	}
	// The same call goes on where it stopped; four times the memory for each
	// time it was filled.
	payload := pattern(MaxMessageSize-1, 7)
	go nc.Write(payload)
	m, err := c.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Data) != MaxMessageSize || m.Data[0] != 1 || !bytes.Equal(m.Data[1:], payload) {
		t.Error("message differs")
	}
	m.Release()
}

func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	_, c := raw(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if c.rx.cur != nil {
		t.Error("a buffer is leased while nothing was announced")
	}
}

func TestReceiveContextThenMore(t *testing.T) {
	nc, c := raw(t, Config{})
	nc.Write([]byte{0, 0})
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if _, err := c.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
	}
	nc.Write([]byte{0, 2, 'o', 'k'})
	m, err := c.Receive(t.Context())
	if err != nil || string(m.Data) != "ok" {
		t.Fatalf("%v", err)
	}
	m.Release()
}

func TestSendContext(t *testing.T) {
	a, _ := pair(t, Config{MaxReceiveSize: MaxMessageSize})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	small := &transport.Message{Parts: [][]byte{{'s'}}}
	if err := a.Send(ended, small); !errors.Is(err, context.Canceled) {
		t.Fatalf("ended context: %v", err)
	}
	if err := a.Send(t.Context(), small); err != nil {
		t.Fatalf("the connection must live on: %v", err)
	}
}

// A message whose sender gives up in the middle of it arrives all the same, as it was when
// he did, and what comes after it: on a connection that has its descriptor, and on one that
// has not.
func TestSendGivenUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		plain bool
		kept  bool // a message was kept back before
	}{{"descriptor", false, false}, {"after a message that was kept back", false, true}, {"net.Conn", true, false}, {"net.Conn, kept back", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, Config{MaxReceiveSize: MaxMessageSize})
			if c.plain {
				x, y := net.Pipe()
				a = newConn(x, a.cfg, new(pool), nil)
				b = newConn(y, b.cfg, new(pool), nil)
				t.Cleanup(func() { a.Close(); b.Close() })
			}
			big := pattern(MaxMessageSize, 7)
			var want [][]byte
			if c.kept {
				m := pattern(100, 3)
				if err := a.Send(t.Context(), &transport.Message{Parts: [][]byte{m}, More: true}); err != nil {
					t.Fatal(err)
				}
				want = append(want, m)
			}
			want = append(want, bytes.Clone(big), pattern(10, 5))
			ctx, cancel := context.WithCancel(t.Context())
			sent := make(chan error, 1)
			go func() {
				sent <- a.Send(ctx, &transport.Message{Parts: [][]byte{big[:1000], big[1000:5000], big[5000:]}})
			}()
			// It has begun, and comes no further: nobody reads.
			if _, err := b.nc.Read(b.rx.few[:1]); err != nil {
				t.Fatal(err)
			}
			b.rx.w = 1
			cancel()
			if err := <-sent; err != nil {
				t.Fatalf("a message that was begun: %v", err)
			}
			clear(big) // it is ours again
			short, stop := context.WithTimeout(t.Context(), time.Millisecond)
			defer stop()
			if err := a.Send(short, &transport.Message{Parts: [][]byte{{1}}}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) {
				t.Errorf("one behind it, which has no time: %v", err)
			}
			go func() { sent <- a.Send(t.Context(), &transport.Message{Parts: [][]byte{pattern(10, 5)}}) }()
			for i, w := range want {
				m, err := b.Receive(t.Context())
				if err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
				if !bytes.Equal(m.Data, w) {
					t.Errorf("message %d of %d octets is not what was sent", i, len(w))
				}
				m.Release()
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

// Close ends the sending of the rest, and waits for it.
func TestSendGivenUpAndClosed(t *testing.T) {
	a, b := pair(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() {
		sent <- a.Send(ctx, &transport.Message{Parts: [][]byte{make([]byte, MaxMessageSize)}})
	}()
	if _, err := b.nc.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	a.Close()
	if a.rest != nil {
		t.Error("the rest is still being sent")
	}
	if err := a.Send(t.Context(), &transport.Message{Parts: [][]byte{{1}}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// countedCtx counts the watches on it.
type countedCtx struct {
	context.Context
	done    chan struct{}
	watches atomic.Int32
}

func (c *countedCtx) Done() <-chan struct{} { return c.done }

// AfterFunc is what context.AfterFunc asks for.
func (c *countedCtx) AfterFunc(func()) (stop func() bool) {
	c.watches.Add(1)
	return func() bool { c.watches.Add(-1); return true }
}

// A context may live longer than the connections that it was used with; a closed
// one leaves nothing in it.
func TestCloseEndsWatches(t *testing.T) {
	a, b := pair(t, Config{})
	ctx := &countedCtx{Context: context.Background(), done: make(chan struct{})}
	if err := a.Send(ctx, &transport.Message{Parts: [][]byte{{1}}}); err != nil {
		t.Fatal(err)
	}
	m, err := b.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m.Release()
	if n := ctx.watches.Load(); n != 2 {
		t.Fatalf("%d watches of two connections at work", n)
	}
	a.Close()
	b.Close()
	if n := ctx.watches.Load(); n != 0 {
		t.Errorf("%d watches are left after Close", n)
	}
	if err := a.Send(ctx, &transport.Message{Parts: [][]byte{{1}}}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if n := ctx.watches.Load(); n != 0 {
		t.Errorf("%d watches after a Send that came too late", n)
	}
}

func TestSendSize(t *testing.T) {
	a, _ := pair(t, Config{})
	for _, m := range []*transport.Message{{}, {Parts: [][]byte{make([]byte, MaxMessageSize), {1}}}} {
		if err := a.Send(t.Context(), m); !errors.Is(err, ErrTooLarge) || errors.Is(err, net.ErrClosed) {
			t.Errorf("%d bytes: %v", m.Len(), err)
		}
	}
}

func TestCloseEndsCalls(t *testing.T) {
	a, b := pair(t, Config{})
	errs := make(chan error, 3)
	go func() { _, err := a.Receive(t.Context()); errs <- err }()
	for range 2 {
		go func() {
			errs <- a.Send(t.Context(), &transport.Message{Parts: [][]byte{make([]byte, MaxMessageSize)}})
		}()
	}
	if _, err := b.nc.Read(make([]byte, 4)); err != nil { // a sender has begun
		t.Fatal(err)
	}
	a.Close()
	a.Close()
	for range 3 {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestListener(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0", Config{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Accept(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	dial()
	c, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// One above the limit is closed; after a close there is room again.
	if _, err := dial().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("connection above the limit: %v", err)
	}
	c.Close()
	dial()
	if c, err = l.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepts := make(chan error)
	go func() { _, err := l.Accept(t.Context()); accepts <- err }()
	l.Close()
	l.Close()
	if err := <-accepts; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if l.Scheme() != "tcp" || c.RDMA() != nil {
		t.Error("scheme or RDMA side")
	}
}

func TestConfig(t *testing.T) {
	for _, n := range []int{-1, 1, 63, MaxMessageSize + 1} {
		if _, err := NewDialer(Config{MaxReceiveSize: n}); err == nil {
			t.Errorf("MaxReceiveSize %d accepted", n)
		}
	}
	if _, err := Listen(t.Context(), "127.0.0.1:0", Config{MaxReceiveSize: 1}); err == nil {
		t.Error("Listen accepted a bad Config")
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget")
	}
	a, b := pair(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, n := range []int{100, 3000, 200 << 10} {
		m := &transport.Message{Parts: [][]byte{make([]byte, 64), make([]byte, n-64)}}
		got := testing.AllocsPerRun(200, func() {
			if err := a.Send(ctx, m); err != nil {
				t.Fatal(err)
			}
			r, err := b.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			r.Release()
		})
		if got >= 1 {
			t.Errorf("%d bytes: %v allocations per message", n, got)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'x'}, uint8(1))
	f.Add([]byte{0x85, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0x81, 0, 0, 0}, uint8(3))
	f.Add([]byte("MPA ID Req Frame"), uint8(5))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		near, far := net.Pipe()
		c, err := NewConn(near, Config{MaxReceiveSize: 4096})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { // ended by the end of its input or of the pipe
			defer close(done)
			defer far.Close()
			far.SetReadDeadline(time.Now()) // it never takes an answer
			for p := in; len(p) > 0; {
				k := min(len(p), int(cut)+1)
				if _, err := far.Write(p[:k]); err != nil {
					return
				}
				p = p[k:]
			}
		}()
		// What comes out is what a plain reading of the frames says.
		rest := in
		for {
			m, err := c.Receive(context.Background())
			for len(rest) >= 4 && rest[0] == 0x85 && binary.BigEndian.Uint32(rest)&0xffffff == 0 {
				rest = rest[4:]
			}
			if err != nil {
				if len(rest) > 4 && rest[0] == 0 {
					if n := int(binary.BigEndian.Uint32(rest)); n > 0 && n <= 4096 && n <= len(rest)-4 {
						t.Fatalf("message of %d refused: %v", n, err)
					}
				}
				if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("error %v", err)
				}
				break
			}
			n := int(binary.BigEndian.Uint32(rest))
			if n != len(m.Data) || !bytes.Equal(m.Data, rest[4:4+n]) {
				t.Fatalf("got %d bytes, want %d", len(m.Data), n)
			}
			rest = rest[4+n:]
			m.Release()
		}
		c.Close()
		<-done
	})
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, n := range []int{256, 64 << 10, 1 << 20} {
		b.Run(byteCount(n), func(b *testing.B) {
			a, c := pair(b, Config{})
			ctx := context.Background()
			go func() { // ended by the Close of the pair
				for {
					m, err := c.Receive(ctx)
					if err != nil {
						return
					}
					_ = c.Send(ctx, &transport.Message{Parts: [][]byte{m.Data[:1]}})
					m.Release()
				}
			}()
			m := &transport.Message{Parts: [][]byte{make([]byte, n)}}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if err := a.Send(ctx, m); err != nil {
					b.Fatal(err)
				}
				r, err := a.Receive(ctx)
				if err != nil {
					b.Fatal(err)
				}
				r.Release()
			}
		})
	}
}

func byteCount(n int) string {
	if n >= 1<<20 {
		return "1MiB"
	} else if n >= 1<<10 {
		return "64KiB"
	}
	return "256B"
}
