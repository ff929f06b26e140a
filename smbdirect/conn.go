package smbdirect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// sendQueueDepth bounds the calls of Send that wait in the engine; more wait
// before it, in order.
const sendQueueDepth = 256

// Conn is an SMB Direct connection. It implements [transport.Conn]; see there
// for ownership and concurrency.
type Conn struct {
	cfg     Config
	dev     *device
	role    core.Role
	start   time.Time
	onClose func() // of the listener; runs once, at the end
	counted bool   // guarded by the listener's mu: it counts as open
	over    bool   // guarded by the listener's mu: onClose ran
	rdma    rdmaSide

	cq        ndk.CQ
	event     *ndk.Event
	qp        ndk.QP
	file      ndk.FileWriter  // nil if the provider has none
	copies    ndk.CopyCounter // nil if the provider never copies
	peers     ndk.PeerCounter // nil if the provider does not see what the peer moves
	connector ndk.Connector
	local     Addr
	remote    Addr

	ready  chan struct{} // closed by the loop when negotiated
	closed chan struct{} // closed by the loop when the connection died; err is set
	done   chan struct{} // closed when everything is gone

	// Set before ready is closed and constant from then on.
	maxSend, maxReceive, maxReadWrite int
	readLimit                         int // own Reads under way; set before the loop runs
	invalidation                      bool

	sending chan struct{} // places in the engine's queue
	wake    chan struct{} // to the loop: look at inbox, closing and lost

	mu        sync.Mutex
	inbox     []*request // guarded by mu
	spare     []*request // guarded by mu; the other array of inbox
	sealed    bool       // guarded by mu; nothing goes into inbox any more
	cause     error      // guarded by mu; a *closedError, set before closed is closed
	closing   bool       // guarded by mu; Close was called
	failure   error      // guarded by mu; why the loop is to end the connection
	lost      bool       // guarded by mu; the disconnect event came
	reason    uint32     // guarded by mu; of the disconnect event
	recvq     ring[*message]
	backlog   int  // guarded by mu; bytes in recvq
	resume    bool // guarded by mu; the loop wants to know when backlog has shrunk
	recvReady chan struct{}

	// Registrations. See register.go.
	regs registrations

	stats  counters
	tally  published
	leased atomic.Int64

	l loop // owned by the loop goroutine
}

var (
	_ transport.Negotiator     = (*Conn)(nil)
	_ transport.FlightRecorder = (*Conn)(nil)
)

// Addr is the address of one end of a connection.
type Addr struct {
	netip.AddrPort
	Net string // the provider's name, as "iwarp"
}

// Network implements net.Addr.
func (a Addr) Network() string { return a.Net }

// Send implements transport.Conn. It returns when the message is in registered
// buffers and posted. Errors: ErrTooLong (nothing was sent), that of ctx, one that
// matches net.ErrClosed.
func (c *Conn) Send(ctx context.Context, m *transport.Message) error {
	n := m.Len()
	if n == 0 || n > c.maxSend {
		return fmt.Errorf("smbdirect: send of %d bytes, limit %d: %w", n, c.maxSend, ErrTooLong)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("smbdirect: send: %w", context.Cause(ctx))
	}
	select {
	case c.sending <- struct{}{}:
	default:
		select {
		case c.sending <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("smbdirect: send: %w", context.Cause(ctx))
		case <-c.closed:
			return c.err()
		}
	}
	r := c.dev.requests.get(reqSend)
	r.parts, r.n = m.Parts, n
	if m.HasInvalidate && c.invalidation {
		r.token, r.hasToken = m.Invalidate, true
	}
	_, err := c.do(ctx, r)
	<-c.sending
	return err
}

// do hands a request to the loop and waits until it is done. When ctx ends the
// loop is asked to give it up, and the answer is waited for. It returns the bytes
// that came from a file.
func (c *Conn) do(ctx context.Context, r *request) (int, error) {
	if !c.request(r) {
		r.free()
		<-c.closed // is closed, or about to be
		return 0, c.err()
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.kind == reqInvalidate && c.soon(r) {
			break
		}
		// The loop is at its end if it does not take this; it finishes r then.
		if q := cancelOf(r, context.Cause(ctx)); c.request(q) {
			<-q.done
			q.free()
		}
		<-r.done
		if errors.Is(r.err, errCancelled) {
			r.err = fmt.Errorf("smbdirect: %v: %w", r.kind, context.Cause(ctx))
		}
	}
	n, err := r.fromFile, r.err
	r.free()
	return n, err
}

// soon waits a little longer for an invalidation, whose context has ended: to
// give it up costs the connection, and it takes no more than what was posted
// before it.
func (c *Conn) soon(r *request) bool {
	t := time.NewTimer(c.cfg.CloseTimeout)
	defer t.Stop()
	select {
	case <-r.done:
		return true
	case <-t.C:
		return false
	}
}

// request puts a request into the inbox of the loop; it reports false if there is
// no loop any more.
func (c *Conn) request(r *request) bool {
	c.mu.Lock()
	if c.sealed {
		c.mu.Unlock()
		return false
	}
	c.inbox = append(c.inbox, r)
	first := len(c.inbox) == 1
	c.mu.Unlock()
	if first {
		c.wakeLoop()
	}
	return true
}

func (c *Conn) wakeLoop() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Receive implements transport.Conn. Messages that came before the end of the
// connection are returned before the error; those that nobody took before Close
// are gone.
func (c *Conn) Receive(ctx context.Context) (*transport.Received, error) {
	for {
		c.mu.Lock()
		if c.closing {
			c.mu.Unlock()
			<-c.closed
			return nil, c.err()
		}
		if c.recvq.n > 0 {
			m := c.recvq.pop()
			c.backlog -= len(m.rx.Data)
			wake := c.resume && c.backlog <= c.cfg.ReceiveBacklog/2
			if wake {
				c.resume = false
			}
			c.mu.Unlock()
			if wake {
				c.wakeLoop()
			}
			return m.rx.Lend(), nil
		}
		c.mu.Unlock()
		select {
		case <-c.recvReady:
			continue
		default:
		}
		select {
		case <-c.recvReady:
		case <-ctx.Done():
			return nil, fmt.Errorf("smbdirect: receive: %w", context.Cause(ctx))
		case <-c.closed:
			c.mu.Lock()
			n := c.recvq.n
			c.mu.Unlock()
			if n > 0 {
				continue
			}
			err := c.err()
			if errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			return nil, err
		}
	}
}

// deliver queues a complete message for Receive.
func (c *Conn) deliver(m *message) (behind bool) {
	n := len(m.rx.Data)
	c.stats.received.Add(1)
	c.stats.receivedBytes.Add(uint64(n))
	c.mu.Lock()
	c.recvq.push(m)
	c.backlog += n
	behind = c.backlog > c.cfg.ReceiveBacklog
	if behind {
		c.resume = true
	}
	c.mu.Unlock()
	select {
	case c.recvReady <- struct{}{}:
	default:
	}
	return behind
}

// err returns why the connection is closed, nil if it is not.
func (c *Conn) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Close implements transport.Conn.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.wakeLoop()
	<-c.done
	return nil
}

// fail asks the loop to end the connection.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.failure == nil {
		c.failure = err
	}
	c.mu.Unlock()
	c.wakeLoop()
}

// disconnected is the callback of the connector.
func (c *Conn) disconnected(reason uint32) {
	c.mu.Lock()
	c.lost, c.reason = true, reason
	c.mu.Unlock()
	c.wakeLoop()
}

// RDMA implements transport.Conn.
func (c *Conn) RDMA() transport.RDMA { return &c.rdma }

// MaxSendSize implements transport.Conn: the peer's MaxFragmentedSize.
func (c *Conn) MaxSendSize() int { return c.maxSend }

// MaxReceiveSize implements transport.Conn: our MaxFragmentedSize.
func (c *Conn) MaxReceiveSize() int { return c.maxReceive }

// LocalAddr implements transport.Conn. The address is an [Addr].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements transport.Conn. The address is an [Addr].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Parameters are the negotiated values of a connection, [MS-SMBD] 3.1.4.7.
type Parameters = transport.Parameters

// Parameters returns the negotiated values.
func (c *Conn) Parameters() Parameters { return c.l.params }

// toInt keeps a 32-bit size of the peer within int.
func toInt(v uint32) int { return int(min(uint64(v), math.MaxInt32)) }
