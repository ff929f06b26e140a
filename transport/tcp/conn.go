package tcp

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
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
	sendArray net.Buffers   // owned by who has sending
	prefix    [prefixSize]byte
	kept      *[]byte // owned by who has sending: messages that are kept back; nil if none are
	keptCount int
	sendCtx   interrupter
	sock      *socket.Conn    // nc, if it has a descriptor that is used here; else nil
	raw       syscall.RawConn // of sock
	tx        rawSend         // owned by who has sending
	rest      []byte          // owned by who has sending: of a message that was given up; nil without

	rx      receiver // owned by who is in Receive
	recvCtx interrupter

	closeOnce sync.Once
	closed    chan struct{} // closed by fail

	mu    sync.Mutex
	cause error // guarded by mu; set before closed is closed
	// finished is closed when the rest was sent that was last left. guarded by mu
	finished chan struct{}

	sent, received, sentBytes, receivedBytes atomic.Uint64
}

var (
	_ transport.Conn       = (*Conn)(nil)
	_ transport.FileLoader = (*Conn)(nil)
	_ transport.Batcher    = (*Conn)(nil)
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
	c.initRaw()
	c.sendCtx.set = c.nc.SetWriteDeadline
	c.recvCtx.set = c.nc.SetReadDeadline
	c.rx.buf = c.rx.few[:]
	return c
}

// Send implements transport.Conn. It returns when the system has the message, or at
// once with a copy of a small one that says More.
// The end of ctx after that beginning costs a copy: the rest of the message is sent
// nevertheless, within half a minute, or the connection ends; one with a Tail ends it.
// Errors: ErrTooLarge and that of ctx (nothing was sent), one that matches net.ErrClosed.
func (c *Conn) Send(ctx context.Context, m *transport.Message) error {
	n := m.Len()
	if n == 0 || n > MaxMessageSize {
		return fmt.Errorf("tcp: send of %d bytes: %w", n, ErrTooLarge)
	}
	if err := c.maySend(ctx); err != nil {
		return err
	}
	defer c.doneSending()
	if m.More && m.Tail == nil && n <= maxKept {
		if c.kept != nil && len(*c.kept) >= enoughKept { // the send below was interrupted
			if err := c.send(ctx, nil, nil, 0); err != nil {
				return err
			}
		}
		c.keep(m, n)
		if len(*c.kept) >= enoughKept && c.rest == nil {
			if err := c.send(ctx, nil, nil, 0); err != nil && c.err() != nil {
				return err
			}
		}
		return nil
	}
	return c.send(ctx, m.Parts, m.Tail, n)
}

// Flush implements transport.Batcher.
func (c *Conn) Flush(ctx context.Context) error {
	if err := c.maySend(ctx); err != nil {
		return err
	}
	defer c.doneSending()
	return c.send(ctx, nil, nil, 0)
}

// maySend waits for the right to write, which the caller gives up.
func (c *Conn) maySend(ctx context.Context) error {
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
	return nil
}

const (
	// maxKept is the longest message that is kept back, in bytes: to copy it costs less
	// than to send it by itself.
	maxKept = 8 << 10
	// enoughKept is how much is kept back at most, but for one message.
	enoughKept = 48 << 10
)

// keptPool recycles what messages are kept back in.
var keptPool = sync.Pool{New: func() any {
	b := make([]byte, 0, enoughKept+maxKept+prefixSize)
	return &b
}}

// keep copies a message of n bytes behind those that are kept already.
func (c *Conn) keep(m *transport.Message, n int) {
	if c.kept == nil {
		c.kept = keptPool.Get().(*[]byte)
	}
	b := binary.BigEndian.AppendUint32(*c.kept, uint32(n))
	for _, p := range m.Parts {
		b = append(b, p...)
	}
	*c.kept = b
	c.keptCount++
}

// send sends what is kept, then a message of n bytes, if n is not 0. The caller has
// the right to write.
func (c *Conn) send(ctx context.Context, parts [][]byte, tail transport.Tail, n int) error {
	c.sendArray = c.sendArray[:0]
	count := c.keptCount
	total := n - count*prefixSize
	if c.kept != nil {
		c.sendArray = append(c.sendArray, *c.kept)
		total += len(*c.kept)
	}
	if n > 0 {
		binary.BigEndian.PutUint32(c.prefix[:], uint32(n))
		c.sendArray = append(c.sendArray, c.prefix[:])
		c.sendArray = append(c.sendArray, parts...)
		count++
	}
	if count == 0 {
		return nil
	}
	if err := c.sendCtx.arm(ctx); err != nil {
		return fmt.Errorf("tcp: send: %w", err)
	}
	written, err := c.write(c.sendArray, tail)
	var ended error
	if err != nil {
		if ended = c.sendCtx.ended(err); ended != nil {
			if written == 0 {
				clear(c.sendArray)
				return fmt.Errorf("tcp: send: %w", ended)
			}
			if c.sock == nil { // writePlain
				written = 0
			}
			if tail == nil && c.leave(c.sendArray, written) {
				err = nil
			}
		}
	}
	clear(c.sendArray)
	if err == nil {
		c.sent.Add(uint64(count))
		c.sentBytes.Add(uint64(total))
		if c.kept != nil {
			*c.kept = (*c.kept)[:0]
			keptPool.Put(c.kept)
			c.kept, c.keptCount = nil, 0
		}
		return nil
	}
	if ended != nil {
		err = ended
	}
	return c.fail(fmt.Errorf("write: %w", err))
}

// writePlain writes parts by the methods of net.Conn, and takes out of them what it has
// written.
func writePlain(nc net.Conn, parts net.Buffers) (int64, error) { return parts.WriteTo(nc) }

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
	c.awaitFinish()
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
