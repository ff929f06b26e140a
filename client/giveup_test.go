package client

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// narrows is between a client and a server, and lets no more than so many octets of the
// client's pass until it is opened.
type narrows struct {
	addr           string
	mu             sync.Mutex
	left           int // guarded by mu; < 0: any number
	full, released chan struct{}
	once, filled   sync.Once
}

func newNarrows(t *testing.T, server string) *narrows {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &narrows{addr: l.Addr().String(), left: -1, full: make(chan struct{}), released: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with l
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		s, err := net.Dial("tcp", server)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		wg.Go(func() { // ends with the server
			defer c.Close()
			_, _ = c.(*net.TCPConn).ReadFrom(s)
		})
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err == nil {
				w.pass(n)
				_, err = s.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { w.open(); l.Close(); wg.Wait() })
	return w
}

// pass waits if these are too many.
func (w *narrows) pass(n int) {
	w.mu.Lock()
	before := w.left
	if before >= 0 {
		w.left = max(before-n, 0)
	}
	w.mu.Unlock()
	if before >= 0 && before < n {
		w.filled.Do(func() { close(w.full) })
		<-w.released
	}
}

func (w *narrows) narrow(n int) {
	w.mu.Lock()
	w.left = n
	w.mu.Unlock()
}

func (w *narrows) open() {
	w.narrow(-1)
	w.once.Do(func() { close(w.released) })
}

// Who gives up a WRITE in the middle of its message leaves the connection to the others,
// and what arrives of it is what he had said.
func TestWriteGivenUpMidway(t *testing.T) {
	s := overTCP(t)
	w := newNarrows(t, s.addr)
	d, err := tcp.NewDialer(tcp.Config{})
	must(t, err)
	s.d = through{d, w.addr}
	sh := s.mount(t, Config{})
	ctx := context.Background()
	f, err := sh.Create(ctx, "f")
	must(t, err)
	data := random(24 << 20) // more than all sockets hold
	for i := range data {
		data[i] |= 1
	}
	p := append([]byte(nil), data...)
	w.narrow(1 << 20)
	short, cancel := context.WithCancel(ctx)
	wrote := make(chan error)
	go func() { _, err := f.WriteAtContext(short, p, 0); wrote <- err }()
	<-w.full
	cancel()
	if err := <-wrote; !errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	for i := range p {
		p[i] = 2
	}
	w.open()
	must(t, sh.Session().Echo(ctx))
	_, err = f.WriteAt([]byte("others"), int64(len(data)))
	must(t, err)
	must(t, f.Close())
	got, err := os.ReadFile(filepath.Join(s.dir, "f"))
	must(t, err)
	for i, b := range data {
		if got[i] != 0 && got[i] != b {
			t.Fatalf("octet %d is %#x, want %#x, or 0 if it was not written", i, got[i], b)
		}
	}
	if string(got[len(data):]) != "others" {
		t.Errorf("%q", got[len(data):])
	}
	must(t, sh.Session().Err())
}

// through dials another address.
type through struct {
	transport.Dialer
	addr string
}

func (d through) Dial(ctx context.Context, _ string) (transport.Conn, error) {
	return d.Dialer.Dial(ctx, d.addr)
}
