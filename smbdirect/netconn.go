package smbdirect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// NetConn is a view of c as a net.Conn that carries the framing of direct hosting,
// [MS-SMB2] 2.1: a four-octet prefix before each message. A library that speaks
// SMB over TCP runs over SMB Direct by it, without RDMA transfers.
//
// Reads and writes may be cut anywhere. A Write returns when the messages that it
// completes are sent; the beginning of another is kept. A deadline that passes
// in the middle of sending a message ends the connection. Closing the view closes
// c. Nobody else may use c meanwhile.
func NetConn(c transport.Conn) net.Conn {
	n := &netConn{c: c}
	n.readDeadline.now = newExpiry()
	n.writeDeadline.now = newExpiry()
	return n
}

const prefixSize = 4

// netConn implements net.Conn.
type netConn struct {
	c                           transport.Conn
	readDeadline, writeDeadline deadline

	readMu sync.Mutex
	prefix [prefixSize]byte // guarded by readMu, as all of this block
	pos    int              // of the prefix and message together
	cur    *transport.Received

	writeMu sync.Mutex
	begun   []byte // guarded by writeMu; prefix and octets of an incomplete message
}

// Read implements net.Conn.
func (n *netConn) Read(p []byte) (int, error) {
	n.readMu.Lock()
	defer n.readMu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for n.cur == nil {
		m, err := n.c.Receive(n.readDeadline.expiry())
		if err != nil {
			return 0, deadlineError("read", err)
		}
		binary.BigEndian.PutUint32(n.prefix[:], uint32(len(m.Data)))
		n.cur, n.pos = m, 0
	}
	k := 0
	if n.pos < prefixSize {
		k = copy(p, n.prefix[n.pos:])
	}
	if rest := n.pos + k - prefixSize; rest >= 0 {
		k += copy(p[k:], n.cur.Data[rest:])
	}
	n.pos += k
	if n.pos == prefixSize+len(n.cur.Data) {
		n.cur.Release()
		n.cur = nil
	}
	return k, nil
}

// Write implements net.Conn.
func (n *netConn) Write(p []byte) (int, error) {
	n.writeMu.Lock()
	defer n.writeMu.Unlock()
	ctx := n.writeDeadline.expiry()
	if err := ctx.Err(); err != nil {
		return 0, deadlineError("write", err)
	}
	written := 0
	for len(p) > 0 {
		// Octets of the message that come first, as far as they are here.
		k := 0
		kept := len(n.begun)
		if kept < prefixSize {
			k = min(prefixSize-len(n.begun), len(p))
			n.begun = append(n.begun, p[:k]...)
			if len(n.begun) < prefixSize {
				return written + k, nil
			}
		}
		size := int(binary.BigEndian.Uint32(n.begun))
		if size == 0 || size > n.c.MaxSendSize() {
			n.begun = n.begun[:kept]
			return written, fmt.Errorf("smbdirect: write of a message with prefix %#08x: %w", size, ErrTooLong)
		}
		missing := prefixSize + size - len(n.begun)
		if len(p)-k < missing {
			n.begun = append(n.begun, p[k:]...)
			return written + len(p), nil
		}
		m := transport.Message{Parts: [][]byte{n.begun[prefixSize:], p[k : k+missing]}}
		if err := n.c.Send(ctx, &m); err != nil {
			n.begun = n.begun[:kept] // the rest of p is the caller's to write again
			return written, deadlineError("write", err)
		}
		n.begun = n.begun[:0]
		p = p[k+missing:]
		written += k + missing
	}
	return written, nil
}

// Close implements net.Conn.
func (n *netConn) Close() error {
	err := n.c.Close()
	n.readDeadline.stop()
	n.writeDeadline.stop()
	n.readMu.Lock()
	defer n.readMu.Unlock()
	if n.cur != nil {
		n.cur.Release()
		n.cur = nil
	}
	return err
}

// LocalAddr implements net.Conn.
func (n *netConn) LocalAddr() net.Addr { return n.c.LocalAddr() }

// RemoteAddr implements net.Conn.
func (n *netConn) RemoteAddr() net.Addr { return n.c.RemoteAddr() }

// SetDeadline implements net.Conn.
func (n *netConn) SetDeadline(t time.Time) error {
	n.readDeadline.set(t)
	n.writeDeadline.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (n *netConn) SetReadDeadline(t time.Time) error {
	n.readDeadline.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (n *netConn) SetWriteDeadline(t time.Time) error {
	n.writeDeadline.set(t)
	return nil
}

// deadlineError makes the error a net.Error where a deadline passed.
func deadlineError(op string, err error) error {
	switch {
	case err == io.EOF:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &net.OpError{Op: op, Net: "smbdirect", Err: os.ErrDeadlineExceeded}
	}
	return err
}

// deadline is a time that may be moved while somebody waits for it.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	now   *expiry // guarded by mu; another one after it was over
	era   int     // guarded by mu; tells an old timer from a new one
}

// expiry returns the context of an operation that begins now. It ends when the
// time has passed, also if that is moved meanwhile.
func (d *deadline) expiry() *expiry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// set moves the deadline; the zero time is none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.era++
	if d.now.Err() != nil {
		d.now = newExpiry()
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		close(d.now.done)
		return
	}
	era := d.era
	d.timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.era == era {
			close(d.now.done)
		}
	})
}

func (d *deadline) stop() { d.set(time.Time{}) }

// expiry is a context that ends with os.ErrDeadlineExceeded, and then for good:
// who saw it end finds that error, whatever became of the deadline.
type expiry struct{ done chan struct{} }

var _ context.Context = (*expiry)(nil)

func newExpiry() *expiry { return &expiry{make(chan struct{})} }

// Deadline implements context.Context. The time may be moved, so there is none.
func (e *expiry) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (e *expiry) Done() <-chan struct{} { return e.done }

// Err implements context.Context.
func (e *expiry) Err() error {
	select {
	case <-e.done:
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// Value implements context.Context.
func (e *expiry) Value(any) any { return nil }
