package tcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// First octet of the prefix. Other than typeMessage they are the packet types of
// RFC 1002 §4.3.1.
const (
	typeMessage        = 0x00 // [MS-SMB2] 2.1: "Zero"
	typeRequest        = 0x81 // session request
	typeKeepAlive      = 0x85 // session keepalive
	typeMPA            = 'M'  // of "MPA ID Req Frame", RFC 5044 §7.1
	negativeResponse   = 0x83
	unspecifiedError   = 0x8f // RFC 1002 §4.3.4
	prefixSize         = 4
	readAhead          = 512
	maxKeepAliveLength = 0
)

// Conn is a direct-hosting connection. It implements [transport.Conn]; see there
// for ownership and concurrency.
type Conn struct {
	cfg     Config
	nc      net.Conn
	pool    *pool
	onClose func() // of the listener; runs once

	sending   chan struct{} // the right to write; waiters are served in order
	sendBufs  net.Buffers   // owned by who has sending
	sendArray net.Buffers   // keeps the array of sendBufs
	prefix    [prefixSize]byte
	sendCtx   interrupter
	raw       syscall.RawConn // nil if nc has no descriptor
	tail      tailSend        // owned by who has sending

	// Receive side, owned by the goroutine in Receive.
	ahead   [readAhead]byte
	r, w    int      // unread part of ahead
	cur     *message // message being read; nil between messages
	curLen  int
	got     int // bytes of cur that are in
	trust   int // length of the last complete message
	seen    bool
	recvCtx interrupter

	closeOnce sync.Once
	closed    chan struct{} // closed by fail

	mu    sync.Mutex
	cause error // guarded by mu; set before closed is closed

	sent, received, sentBytes, receivedBytes atomic.Uint64
}

var (
	_ transport.Conn       = (*Conn)(nil)
	_ transport.FileLoader = (*Conn)(nil)
	_ transport.Deliverer  = (*Conn)(nil)
)

// NewConn makes a connection of nc, which it owns from then on. It fails for a
// Config out of range and then leaves nc alone.
func NewConn(nc net.Conn, cfg Config) (*Conn, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return newConn(nc, cfg, new(pool), nil), nil
}

func newConn(nc net.Conn, cfg Config, p *pool, onClose func()) *Conn {
	if t, ok := nc.(*net.TCPConn); ok {
		// Failures leave the defaults of the system, which do as well.
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: cfg.KeepAlive > 0, Idle: cfg.KeepAlive})
	}
	c := &Conn{
		cfg: cfg, nc: nc, pool: p, onClose: onClose,
		sending: make(chan struct{}, 1),
		closed:  make(chan struct{}),
	}
	c.sendCtx.set = nc.SetWriteDeadline
	c.recvCtx.set = nc.SetReadDeadline
	c.initRaw()
	return c
}

// Send implements transport.Conn. It returns when the system has the message.
// Errors: ErrTooLarge (nothing was sent), that of ctx (if the message was begun
// the connection is gone), one that matches net.ErrClosed.
func (c *Conn) Send(ctx context.Context, m *transport.Message) error {
	n := m.Len()
	if n == 0 || n > MaxMessageSize {
		return fmt.Errorf("tcp: send of %d bytes: %w", n, ErrTooLarge)
	}
	if err := c.err(); err != nil {
		return err
	}
	select {
	case c.sending <- struct{}{}:
	default:
		select {
		case c.sending <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("tcp: send: %w", context.Cause(ctx))
		case <-c.closed:
			return c.err()
		}
	}
	defer func() { <-c.sending }()
	if err := c.sendCtx.arm(ctx); err != nil {
		return fmt.Errorf("tcp: send: %w", err)
	}
	binary.BigEndian.PutUint32(c.prefix[:], uint32(n))
	c.sendArray = append(c.sendArray[:0], c.prefix[:])
	c.sendArray = append(c.sendArray, m.Parts...)
	var written int64
	var err error
	if m.Tail != nil {
		written, err = c.sendTail(c.sendArray, m.Tail)
	} else {
		c.sendBufs = c.sendArray
		written, err = c.sendBufs.WriteTo(c.nc)
	}
	clear(c.sendArray)
	if err == nil {
		c.sent.Add(1)
		c.sentBytes.Add(uint64(n))
		return nil
	}
	if cerr := c.sendCtx.ended(err); cerr != nil {
		err = cerr
		if written == 0 {
			return fmt.Errorf("tcp: send: %w", err)
		}
	}
	return c.fail(fmt.Errorf("write: %w", err))
}

// Receive implements transport.Conn. A call that ctx ended loses nothing: the
// next one goes on where it stopped.
func (c *Conn) Receive(ctx context.Context) (*transport.Received, error) {
	if err := c.err(); err != nil {
		return nil, err
	}
	if err := c.recvCtx.arm(ctx); err != nil {
		return nil, fmt.Errorf("tcp: receive: %w", err)
	}
	err := c.readMessage()
	if err == nil {
		m := c.cur
		m.rx.Data = m.buf[:c.curLen:c.curLen]
		m.rx.Invalidated, m.rx.HasInvalidated = 0, false
		c.trust = c.curLen
		c.cur = nil
		c.received.Add(1)
		c.receivedBytes.Add(uint64(c.curLen))
		return m.rx.Lend(), nil
	}
	if cerr := c.recvCtx.ended(err); cerr != nil {
		return nil, fmt.Errorf("tcp: receive: %w", cerr)
	}
	if c.cur != nil {
		c.pool.put(c.cur)
		c.cur = nil
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}
	var pe *ProtocolError
	if errors.As(err, &pe) {
		c.cfg.Logger.Debug("connection dropped", "conn", c.nc.RemoteAddr(), "err", err)
	} else if !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read: %w", err)
	}
	if closed := c.fail(err); !errors.Is(err, io.EOF) {
		return nil, closed
	}
	if own := c.err(); !errors.Is(own, io.EOF) {
		return nil, own // somebody else ended it before
	}
	return nil, io.EOF
}

// readMessage reads until c.cur is complete.
func (c *Conn) readMessage() error {
	for c.cur == nil {
		n, err := c.readPrefix()
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		// The memory is bounded by what has arrived: 64 KiB, or as much as the
		// last message really had.
		c.cur, c.curLen, c.got = c.pool.get(min(n, max(firstClass, c.trust))), n, 0
		k := copy(c.cur.buf[:min(n, len(c.cur.buf))], c.ahead[c.r:c.w])
		c.r += k
		c.got = k
	}
	for c.got < c.curLen {
		if c.got == len(c.cur.buf) {
			bigger := c.pool.get(min(c.curLen, 4*len(c.cur.buf)))
			copy(bigger.buf, c.cur.buf)
			c.pool.put(c.cur)
			c.cur = bigger
		}
		n, err := c.nc.Read(c.cur.buf[c.got:min(c.curLen, len(c.cur.buf))])
		c.got += n
		if err != nil && c.got < c.curLen {
			return err
		}
	}
	return nil
}

// readPrefix reads one prefix and acts on it. It returns the length of the
// message that follows, 0 if the frame was none.
func (c *Conn) readPrefix() (int, error) {
	for c.w-c.r < prefixSize {
		if c.w > c.r && c.ahead[c.r] == typeMPA && !c.seen {
			break // four octets may never come: the other side waits for us
		}
		if c.r > 0 {
			c.w = copy(c.ahead[:], c.ahead[c.r:c.w])
			c.r = 0
		}
		n, err := c.nc.Read(c.ahead[c.w:])
		c.w += n
		if err != nil && c.w < prefixSize {
			if c.w > 0 && errors.Is(err, io.EOF) {
				return 0, io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	typ := c.ahead[c.r]
	n := 0
	if c.w-c.r >= prefixSize {
		n = int(binary.BigEndian.Uint32(c.ahead[c.r:]) & 0xffffff)
	}
	first := !c.seen
	c.seen = true
	c.r += min(prefixSize, c.w-c.r)
	switch {
	case typ == typeMessage && n == 0:
		return 0, &ProtocolError{typ, n, errors.New("empty message")}
	case typ == typeMessage && n > c.cfg.MaxReceiveSize:
		return 0, &ProtocolError{typ, n, fmt.Errorf("%w, limit %d", ErrTooLarge, c.cfg.MaxReceiveSize)}
	case typ == typeMessage:
		return n, nil
	case typ == typeKeepAlive && n == maxKeepAliveLength:
		return 0, nil
	case typ == typeRequest && first:
		c.refuse()
		return 0, &ProtocolError{typ, n, errors.New("NetBIOS session request refused")}
	case typ == typeMPA && first:
		return 0, &ProtocolError{typ, n, ErrMPA}
	}
	return 0, &ProtocolError{typ, n, errors.New("unknown frame")}
}

// refuse sends a negative session response if nobody is writing.
func (c *Conn) refuse() {
	select {
	case c.sending <- struct{}{}:
		// The connection is new, so the five octets fit; if not, so be it.
		_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.nc.Write([]byte{negativeResponse, 0, 0, 1, unspecifiedError})
		<-c.sending
	default:
	}
}

// fail ends the connection with a cause, if nothing ended it before, and returns
// the error that everybody gets from now on.
func (c *Conn) fail(cause error) error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.cause = &closedError{cause}
		c.mu.Unlock()
		close(c.closed)
		if t, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = t.CloseWrite() // what was sent goes out before the FIN
		}
		_ = c.nc.Close()
		c.sendCtx.release()
		c.recvCtx.release()
		if c.onClose != nil {
			c.onClose()
		}
	})
	return c.err()
}

// err returns why the connection is closed, nil if it is not.
func (c *Conn) err() error {
	select {
	case <-c.closed:
	default:
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Close implements transport.Conn.
func (c *Conn) Close() error {
	_ = c.fail(nil)
	return nil
}

// RDMA implements transport.Conn: there is none.
func (c *Conn) RDMA() transport.RDMA { return nil }

// MaxSendSize implements transport.Conn. The limit of the peer is not known.
func (c *Conn) MaxSendSize() int { return MaxMessageSize }

// MaxReceiveSize implements transport.Conn.
func (c *Conn) MaxReceiveSize() int { return c.cfg.MaxReceiveSize }

// LocalAddr implements transport.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr implements transport.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Stats implements transport.Conn.
func (c *Conn) Stats() transport.Stats {
	return transport.Stats{
		MessagesSent:     c.sent.Load(),
		MessagesReceived: c.received.Load(),
		BytesSent:        c.sentBytes.Load(),
		BytesReceived:    c.receivedBytes.Load(),
	}
}
