package smbdirect

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

func frame(p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...)
}

// Direct TCP framing, [MS-SMB2] 2.1, cut at every place.
func TestNetConnFraming(t *testing.T) {
	a, b := pair(t, Config{}, Config{})
	na, nb := NetConn(a), NetConn(b)
	small := append(frame([]byte("first")), frame([]byte("second!"))...)
	for cut := 1; cut < len(small); cut++ {
		for _, p := range [][]byte{small[:cut], small[cut:]} {
			if n, err := na.Write(p); n != len(p) || err != nil {
				t.Fatalf("cut %d: %d, %v", cut, n, err)
			}
		}
		// read in pieces of another size
		var got []byte
		for len(got) < len(small) {
			p := make([]byte, 1+cut%7)
			n, err := nb.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p[:n]...)
		}
		if !bytes.Equal(got, small) {
			t.Fatalf("cut %d: got %q", cut, got)
		}
	}
	big := frame(pattern(300000, 1))
	go na.Write(big)
	got := make([]byte, len(big))
	if _, err := io.ReadFull(nb, got); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("%v", err)
	}
	// Over SMB Direct there is no prefix (SM-01).
	go na.Write(frame([]byte("bare")))
	m := receive(t, b)
	if string(m.Data) != "bare" {
		t.Errorf("got %q", m.Data)
	}
	m.Release()
	if _, err := na.Write([]byte{0xff, 0xff, 0xff, 0xff}); !errors.Is(err, ErrTooLong) {
		t.Errorf("length of 4 GiB: %v", err)
	}
	na.Close()
	if _, err := nb.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read after the end: %v", err)
	}
	if _, err := na.Write(frame([]byte("x"))); err == nil {
		t.Error("write after close")
	}
	if na.LocalAddr().String() != nb.RemoteAddr().String() {
		t.Error("addresses")
	}
	nb.Close()
}

func TestNetConnDeadlines(t *testing.T) {
	a, b := pair(t, Config{}, Config{ReceiveBacklog: 1, ReceiveCreditMax: 4})
	na, nb := NetConn(a), NetConn(b)
	timedOut := func(op string, err error) {
		t.Helper()
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%s: %v", op, err)
		}
	}
	p := make([]byte, 10)
	nb.SetReadDeadline(time.Now().Add(-time.Second))
	_, err := nb.Read(p)
	timedOut("passed", err)
	nb.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	_, err = nb.Read(p)
	timedOut("passing", err)
	_, err = nb.Read(p)
	timedOut("still passed", err)
	// One set by another goroutine wakes a Read.
	nb.SetReadDeadline(time.Time{})
	errs := make(chan error, 1)
	go func() { _, err := nb.Read(p); errs <- err }()
	nb.SetReadDeadline(time.Now())
	timedOut("woken", <-errs)
	// And nothing was lost.
	nb.SetDeadline(time.Time{})
	na.Write(frame([]byte("ok")))
	if n, err := io.ReadFull(nb, p[:6]); err != nil || string(p[4:n]) != "ok" {
		t.Errorf("%q, %v", p, err)
	}
	// Nobody reads, so the credits run out.
	na.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for err = nil; err == nil; {
		_, err = na.Write(frame(make([]byte, 5000)))
	}
	timedOut("write", err)
	na.SetWriteDeadline(time.Now().Add(-1))
	_, err = na.Write(frame([]byte("x")))
	timedOut("write again", err)
	na.Close()
	nb.Close()
	if _, err := nb.Read(p); err == nil {
		t.Error("read after close")
	}
}

// shyConn is a connection whose Sends wait for nothing but their context until
// open is closed.
type shyConn struct {
	transport.Conn
	open chan struct{}
	sent [][]byte
}

func (c *shyConn) MaxSendSize() int { return 1 << 20 }

func (c *shyConn) Send(ctx context.Context, m *transport.Message) error {
	select {
	case <-c.open:
		c.sent = append(c.sent, bytes.Join(m.Parts, nil))
		return nil
	case <-ctx.Done():
		return fmt.Errorf("send: %w", context.Cause(ctx))
	}
}

// A Write that timed out says how much it took, and the caller goes on from
// there: nothing of the rest may be kept.
func TestNetConnWriteAgainAfterDeadline(t *testing.T) {
	for cut := range 7 {
		c := &shyConn{open: make(chan struct{})}
		n := NetConn(c)
		p := frame([]byte("abc"))
		if k, err := n.Write(p[:cut]); k != cut || err != nil {
			t.Fatal(k, err)
		}
		n.SetWriteDeadline(time.Now().Add(time.Millisecond))
		k, err := n.Write(p[cut:])
		if k != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("cut %d: %d, %v", cut, k, err)
		}
		n.SetWriteDeadline(time.Time{})
		close(c.open)
		if k, err := n.Write(p[cut:]); k != len(p)-cut || err != nil {
			t.Errorf("cut %d, again: %d, %v", cut, k, err)
		}
		if len(c.sent) != 1 || string(c.sent[0]) != "abc" {
			t.Errorf("cut %d: sent %q", cut, c.sent)
		}
	}
}

// What waited for a deadline that has passed reports that, though the deadline is
// moved before it looks.
func TestNetConnDeadlineMovedTooLate(t *testing.T) {
	var d deadline
	d.now = newExpiry()
	ctx := d.expiry()
	d.set(time.Now().Add(-time.Second))
	<-ctx.Done()
	d.set(time.Now().Add(time.Hour))
	defer d.stop()
	if err := context.Cause(ctx); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := d.expiry().Err(); err != nil {
		t.Errorf("the next operation: %v", err)
	}
}
