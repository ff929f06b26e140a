package smbdirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func provider(t testing.TB) ndk.Provider {
	t.Helper()
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listener listens on the loopback address and is closed with the test.
func listener(t testing.TB, cfg Config) *Listener {
	t.Helper()
	l, err := Listen(context.Background(), provider(t), "iwarp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		select { // nobody may still hold anything
		case <-l.dev.closed:
		case <-time.After(10 * time.Second):
			t.Errorf("the device has %d users left", l.dev.refs.Load())
		}
	})
	return l
}

// pair returns a client and a server connection over iWARP on loopback.
func pair(t testing.TB, client, server Config) (*Conn, *Conn) {
	t.Helper()
	l := listener(t, server)
	d, err := NewDialer(provider(t), "iwarp", client)
	if err != nil {
		t.Fatal(err)
	}
	return dialTo(t, d, l)
}

func dialTo(t testing.TB, d *Dialer, l *Listener) (*Conn, *Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	type result struct {
		c   transport.Conn
		err error
	}
	got := make(chan result, 1)
	go func() {
		c, err := l.Accept(ctx)
		got <- result{c, err}
	}()
	a, err := d.Dial(ctx, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() {
		a.Close()
		r.c.Close()
		for _, c := range []*Conn{a.(*Conn), r.c.(*Conn)} {
			if s := c.Stats(); s.LeasedBuffers != 0 || s.Registrations != 0 {
				t.Errorf("left behind: %+v", s)
			}
		}
	})
	return a.(*Conn), r.c.(*Conn)
}

func pattern(n int, seed int64) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

func msg(parts ...[]byte) *transport.Message { return &transport.Message{Parts: parts} }

func receive(t testing.TB, c *Conn) *transport.Received {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	m, err := c.Receive(ctx)
	if err != nil {
		var sb strings.Builder
		c.FlightRecorder(&sb)
		t.Fatalf("receive: %v\n%s", err, sb.String())
	}
	return m
}

func TestRoundTripSizes(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{ReceiveCreditMax: 1, SendCreditTarget: 1},
		{ReceiveCreditMax: 2, SendCreditTarget: 2, SendDepth: 2, MaxSendSize: 128, MaxReceiveSize: 128},
		{MaxSendSize: 8136, MaxReceiveSize: 8192},
	} {
		t.Run(fmt.Sprintf("credits %d size %d", cfg.ReceiveCreditMax, cfg.MaxSendSize), func(t *testing.T) {
			a, b := pair(t, cfg, cfg)
			sizes := []int{1, 2, 103, 104, 105, 1339, 1340, 1341, 2680, 2681, 65535, 131072, 131073, a.MaxSendSize()}
			if cfg.ReceiveCreditMax == 1 {
				sizes = sizes[:12]
			}
			for _, n := range sizes {
				want := pattern(n, int64(n))
				errc := make(chan error, 1)
				go func() { errc <- a.Send(context.Background(), msg(want[:n/3], nil, want[n/3:n/2], want[n/2:])) }()
				m := receive(t, b)
				if err := <-errc; err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(m.Data, want) || m.HasInvalidated {
					t.Fatalf("%d bytes: got %d, invalidated %v", n, len(m.Data), m.HasInvalidated)
				}
				m.Release()
				// and an answer
				go func() { errc <- b.Send(context.Background(), msg(want[:1])) }()
				m = receive(t, a)
				if err := <-errc; err != nil || len(m.Data) != 1 {
					t.Fatal(err)
				}
				m.Release()
			}
			for _, n := range []int{0, a.MaxSendSize() + 1} {
				if err := a.Send(context.Background(), msg(make([]byte, n))); !errors.Is(err, ErrTooLong) { // SD-40
					t.Errorf("SD-40: send of %d: %v", n, err)
				}
			}
			if s := a.Stats(); s.MessagesSent != uint64(len(sizes)) || s.MessagesReceived != uint64(len(sizes)) || s.BytesCopied != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestConcurrentSenders(t *testing.T) {
	a, b := pair(t, Config{}, Config{ReceiveCreditMax: 16})
	const senders, each = 8, 60
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				p := bytes.Repeat([]byte{byte(s)}, 1+(i*977)%9000)
				if err := a.Send(context.Background(), msg(p[:1], p[1:])); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range senders * each {
		m := receive(t, b)
		if n := bytes.Count(m.Data, m.Data[:1]); n != len(m.Data) {
			t.Fatalf("message of %d bytes is mixed", len(m.Data))
		}
		m.Release()
	}
	wg.Wait()
}

// SD-80, deadlocks 1 to 3: both sides send all the time with few credits.
func TestCreditStress(t *testing.T) {
	for _, max := range []int{1, 2, 3, 255} {
		t.Run(fmt.Sprint(max), func(t *testing.T) {
			cfg := Config{ReceiveCreditMax: max, SendCreditTarget: max, SendDepth: 4}
			a, b := pair(t, cfg, cfg)
			var wg sync.WaitGroup
			n := 400
			if max == 1 {
				n = 40
			}
			for _, c := range []*Conn{a, b} {
				wg.Go(func() {
					for i := range n {
						if err := c.Send(context.Background(), msg(bytes.Repeat([]byte{byte(i)}, 1+i*13%4000))); err != nil {
							t.Error(err)
							return
						}
					}
				})
				wg.Go(func() {
					for i := range n {
						m, err := c.Receive(context.Background())
						if err != nil {
							t.Error(err)
							return
						}
						if len(m.Data) != 1+i*13%4000 || m.Data[0] != byte(i) {
							t.Errorf("message %d: %d bytes of %d", i, len(m.Data), m.Data[0])
						}
						m.Release()
					}
				})
			}
			wg.Wait()
			if max < 255 && a.Stats().CreditStalls == 0 {
				t.Error("no send waited for credits")
			}
		})
	}
}

// SD-114: the end of the peer with everything under way.
func TestSD114PeerKilled(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	ctx := context.Background()
	mem := make([]byte, 4<<20)
	reg, err := client.RDMA().Register(ctx, mem, transport.PeerReads|transport.PeerWrites)
	if err != nil {
		t.Fatal(err)
	}
	ds := reg.Descriptors()
	if err := client.Send(ctx, msg([]byte("go"))); err != nil {
		t.Fatal(err)
	}
	receive(t, server).Release()
	errs := make(chan error, 100)
	var running sync.WaitGroup
	call := func(f func() error) {
		running.Go(func() {
			for {
				if err := f(); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for range 3 {
		call(func() error { return server.Send(ctx, msg(make([]byte, 100000))) })
		call(func() error { return transfer(ctx, server, true, ds) })
		call(func() error { return transfer(ctx, server, false, ds) })
		call(func() error {
			r, err := server.RDMA().Register(ctx, make([]byte, 10000), transport.PeerReads)
			if err != nil {
				return err
			}
			return r.Deregister(ctx, 0, false)
		})
	}
	call(func() error {
		m, err := server.Receive(ctx)
		if err == nil {
			m.Release()
		}
		return err
	})
	for range 5 {
		receive(t, client).Release()
	}
	client.connector.Close() // without a word
	client.qp.Flush()
	running.Wait()
	close(errs)
	for err := range errs {
		if !errors.Is(err, net.ErrClosed) && err != io.EOF {
			t.Errorf("error %v", err)
		}
	}
	if err := reg.Deregister(ctx, 0, false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("deregister: %v", err)
	}
	if s := server.Stats(); s.Registrations != 0 || s.LeasedBuffers != 0 {
		t.Errorf("left: %+v", s)
	}
}

func transfer(ctx context.Context, c *Conn, write bool, ds []transport.Descriptor) error {
	b, err := c.RDMA().Lease(ctx, 1<<20)
	if err != nil {
		return err
	}
	defer b.Release()
	if write {
		return c.RDMA().Write(ctx, b, 1<<20, ds)
	}
	return c.RDMA().Read(ctx, b, 1<<20, ds)
}

func TestCloseIsSeenAsEOF(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	if err := client.Send(context.Background(), msg([]byte("last words"))); err != nil {
		t.Fatal(err)
	}
	client.Close()
	client.Close()
	if err := client.Send(context.Background(), msg([]byte{1})); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
	if _, err := client.Receive(context.Background()); !errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		t.Errorf("receive after close: %v", err)
	}
	if _, err := client.RDMA().Lease(context.Background(), 1); !errors.Is(err, net.ErrClosed) {
		t.Errorf("lease after close: %v", err)
	}
	if _, err := client.RDMA().Register(context.Background(), []byte{1}, transport.PeerReads); !errors.Is(err, net.ErrClosed) {
		t.Errorf("register after close: %v", err)
	}
	m := receive(t, server)
	if string(m.Data) != "last words" {
		t.Errorf("got %q", m.Data)
	}
	m.Release()
	for range 2 {
		if _, err := server.Receive(context.Background()); err != io.EOF {
			t.Errorf("got %v, want io.EOF", err)
		}
	}
	var sb strings.Builder
	if err := server.FlightRecorder(&sb); err != nil || !strings.Contains(sb.String(), "established") || !strings.Contains(sb.String(), "end: EOF") {
		t.Errorf("flight recorder: %v\n%s", err, sb.String())
	}
}

// What the peer sent before it closed arrives, also while we go on sending.
func TestMessagesBeforeTheEnd(t *testing.T) {
	for range 20 {
		client, server := pair(t, Config{}, Config{})
		ctx := context.Background()
		go func() { // ends with the connection
			for client.Send(ctx, msg(make([]byte, 3000))) == nil {
			}
		}()
		receive(t, server).Release()
		const n = 50
		for i := range n {
			if err := server.Send(ctx, msg(bytes.Repeat([]byte{byte(i)}, 2000))); err != nil {
				t.Fatal(err)
			}
		}
		server.Close()
		for i := range n {
			m := receive(t, client)
			if m.Data[0] != byte(i) {
				t.Fatalf("message %d is %d", i, m.Data[0])
			}
			m.Release()
		}
		if _, err := client.Receive(ctx); err != io.EOF && !errors.Is(err, net.ErrClosed) {
			t.Errorf("end: %v", err)
		}
		client.Close()
	}
}

// An ended context does not cost the connection where the work is done soon.
func TestDeregisterWithEndedContext(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for range 50 {
		r, err := client.RDMA().Register(context.Background(), make([]byte, 5000), transport.PeerReads)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Deregister(ended, 0, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Send(context.Background(), msg([]byte{1})); err != nil {
		t.Fatal(err)
	}
	receive(t, server).Release()
}

func TestListenAnyAddress(t *testing.T) {
	l, err := Listen(context.Background(), provider(t), "iwarp", ":0", Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with Accept
		if c, err := l.Accept(context.Background()); err == nil {
			c.Close()
		}
	}()
	c, err := d.Dial(context.Background(), "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(context.Background()); err != io.EOF {
		t.Error(err)
	}
	c.Close()
}

func TestContexts(t *testing.T) {
	client, server := pair(t, Config{}, Config{Memory: 8 << 20, Registrations: 1})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := client.Send(ended, msg([]byte{1})); !errors.Is(err, context.Canceled) {
		t.Errorf("send: %v", err)
	}
	if _, err := client.Receive(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("receive: %v", err)
	}
	// Leases wait in order, and give up.
	ctx := context.Background()
	a, err := server.RDMA().Lease(ctx, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel2 := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel2()
	if _, err := server.RDMA().Lease(short, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lease: %v", err)
	}
	next := make(chan error)
	go func() {
		b, err := server.RDMA().Lease(ctx, 5<<20)
		if err == nil {
			b.Release()
		}
		next <- err
	}()
	a.Release()
	if err := <-next; err != nil {
		t.Error(err)
	}
	r, err := server.RDMA().Register(ctx, make([]byte, 100), transport.PeerReads)
	if err != nil {
		t.Fatal(err)
	}
	short3, cancel3 := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel3()
	if _, err := server.RDMA().Register(short3, make([]byte, 100), transport.PeerReads); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("register: %v", err)
	}
	// A lease and a registration that wait fail with the connection.
	b, err := server.RDMA().Lease(ctx, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	waiters := make(chan error, 2)
	go func() { _, err := server.RDMA().Lease(ctx, 1); waiters <- err }()
	go func() { _, err := server.RDMA().Register(ctx, make([]byte, 1), transport.PeerReads); waiters <- err }()
	server.Close()
	for range 2 {
		if err := <-waiters; !errors.Is(err, net.ErrClosed) {
			t.Errorf("waiter: %v", err)
		}
	}
	b.Release()
	if err := r.Deregister(ctx, 0, false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("deregister: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("second Release does not panic")
		}
	}()
	b.Release()
}
