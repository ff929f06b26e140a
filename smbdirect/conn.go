package smbdirect

import (
	"context"
	"errors"
	"fmt"
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

// sendQueueDepth bounds the messages that wait in the engine; more wait before
// it, in order.
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
	qp        ndk.QP
	file      ndk.FileWriter  // nil if the provider has none
	copies    ndk.CopyCounter // nil if the provider never copies
	peers     ndk.PeerCounter // nil if the provider does not see what the peer moves
	poller    ndk.Poller      // nil if the provider moves everything itself
	hangup    ndk.Hangup      // nil if the provider tells of the end with the event alone
	connector ndk.Connector
	local     Addr
	remote    Addr

	ready  chan struct{} // closed by the owner when negotiated
	closed chan struct{} // closed by the owner when the connection died; err is set
	left   chan struct{} // closed by the last owner of a dead connection
	done   chan struct{} // closed when everything is gone

	// Set before ready is closed and constant from then on.
	maxSend, maxReceive, maxReadWrite int
	readLimit                         int // own Reads under way; set by the set-up
	invalidation                      bool
	shortReads                        bool

	wake      chan struct{} // to the connection's goroutine: drive
	recvReady chan struct{}
	brisk     bool        // who receives polls; owned by it
	woken     atomic.Bool // somebody was told that his transfer is done, and may not run yet

	mu      sync.Mutex
	driving bool           // guarded by mu, as all below: loop has an owner
	inbox   []*request     // for the owner
	spare   []*request     // the other array of inbox
	flags   flags          // for the owner
	sealed  bool           // nothing goes into inbox any more
	cause   error          // a *closedError, set before closed is closed
	recvq   ring[*message] // complete messages
	backlog int            // bytes in recvq
	resume  bool           // the owner wants to know when backlog has shrunk
	waits   bool           // who receives wants to know when the owner leaves
	tally   tally          // as others see it

	// Registrations. See register.go.
	regs registrations

	stats  counters
	leased atomic.Int64

	l loop // belongs to the owner
}

var (
	_ transport.Prompter       = (*Conn)(nil)
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
// buffers and posted; the adapter is told later of one that says More. One whose ctx
// ends when it was begun is finished from a copy, for which the peer has
// Config.CreditTimeout. Errors: ErrTooLong and that of ctx (nothing was sent), one that
// matches net.ErrClosed.
func (c *Conn) Send(ctx context.Context, m *transport.Message) error {
	n := m.Len()
	if n == 0 || n > c.maxSend {
		return fmt.Errorf("smbdirect: send of %d bytes, limit %d: %w", n, c.maxSend, ErrTooLong)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("smbdirect: send: %w", context.Cause(ctx))
	}
	r := c.dev.requests.get(reqSend)
	r.parts, r.n, r.more = m.Parts, n, m.More
	if m.HasInvalidate && c.invalidation {
		r.token, r.hasToken = m.Invalidate, true
	}
	_, err := c.do(ctx, r)
	return err
}

// do hands a request to the owner and waits until it is done. When ctx ends the
// owner is asked to give it up, and the answer is waited for. It returns the bytes
// that came from a file.
func (c *Conn) do(ctx context.Context, r *request) (int, error) {
	if !c.request(r) {
		r.free()
		<-c.closed // is closed, or about to be
		return 0, c.err()
	}
	if r.finished() {
		n, err := r.fromFile, r.err
		r.free()
		return n, err
	}
	if r.wait != nil {
		r.wait()
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.kind == reqInvalidate && c.soon(r) {
			break
		}
		// The teardown is near if nobody takes this; it finishes r then.
		if q := cancelOf(r, context.Cause(ctx)); c.request(q) {
			if !q.finished() {
				<-q.done
			}
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

// deliver queues the messages that are complete for Receive.
func (c *Conn) deliver() (behind bool) {
	l := &c.l
	n := 0
	c.mu.Lock()
	for i, m := range l.complete {
		n += len(m.rx.Data)
		c.recvq.push(m)
		l.complete[i] = nil
	}
	c.backlog += n
	behind = c.backlog > c.cfg.ReceiveBacklog
	if behind {
		c.resume = true
	}
	c.mu.Unlock()
	c.stats.received.Add(uint64(len(l.complete)))
	c.stats.receivedBytes.Add(uint64(n))
	l.complete = l.complete[:0]
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
	c.tell(func(f *flags) { f.closing = true })
	<-c.done
	return nil
}

// fail asks the owner to end the connection.
func (c *Conn) fail(err error) {
	c.tell(func(f *flags) {
		if f.failure == nil {
			f.failure = err
		}
	})
}

// disconnected is the callback of the connector.
func (c *Conn) disconnected(reason uint32) {
	c.tell(func(f *flags) { f.lost, f.reason = true, reason })
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
