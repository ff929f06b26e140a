package server

import (
	"container/list"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

const (
	// maxIdleWorkers is how many goroutines a connection keeps waiting for work.
	maxIdleWorkers = 8
	// unauthCredits bounds the credits of a connection on which nobody is logged on.
	unauthCredits = 32
	// spareCredits are given with a logon beyond what was asked for, if that is more
	// than one.
	spareCredits = 4
	// maxSmallRequest bounds requests of other commands than those that carry
	// data, and all of them where there is no multi-credit: [MS-SMB2] 3.3.5.2.
	maxSmallRequest = 68 << 10
	// reserve is what a response needs beyond its payload: a transform header,
	// the SMB2 header and the longest fixed part, with room to spare.
	reserve = 256
)

// conn is a connection: [MS-SMB2] 3.3.1.7. One goroutine at a time receives, and serves
// messages or has them served by workers: see receive.go.
type conn struct {
	srv    *Server
	tc     transport.Conn
	rdma   transport.RDMA       // nil if the connection has none
	batch  transport.Batcher    // nil if each message is better served by a worker
	loader transport.FileLoader // nil if the connection takes no bytes from files
	scheme string
	id     uint64
	log    *slog.Logger
	since  time.Time

	// ctx ends when the connection must not be used any more; recvCtx, which ends
	// with it, when nothing more is to be received.
	ctx        context.Context
	cancel     context.CancelFunc
	recvCtx    context.Context
	stopRecv   context.CancelFunc
	done       chan struct{} // closed at the end of run
	hasFailed  atomic.Bool
	negotiated atomic.Bool   // a dialect has been chosen
	authed     atomic.Bool   // somebody has logged on
	received   atomic.Int64  // when the last message came, as Unix nanoseconds
	stranger   *list.Element // guarded by srv.mu: its place in srv.strangers
	evicted    bool          // guarded by srv.mu
	sends      atomic.Int64  // Sends under way
	sent       atomic.Int64  // when a Send last began or ended alone

	// What NEGOTIATE set. Written by the receive goroutine before any other
	// command is dispatched, not changed after that.
	negotiatedOnce    bool   // an SMB1 negotiate has been answered with 0x02FF
	dialect           uint16 // Connection.Dialect, 0 before
	clientGUID        smb2.GUID
	posix             bool // the POSIX extensions were negotiated
	clientCaps        smb2.Capabilities
	clientMode        smb2.SecurityMode
	clientDialects    []smb2.Dialect
	serverCaps        smb2.Capabilities
	serverMode        smb2.SecurityMode
	shouldSign        bool
	multiCredit       bool
	cipher            smbcrypto.Cipher
	signing           smbcrypto.SigningAlgorithm
	transforms        rdmaTransforms
	preauth           smbcrypto.Preauth
	maxRead, maxWrite int
	maxTransact       int
	maxPayload        int // of a response
	refusedLong       atomic.Bool

	window creditWindow
	// serving holds the credits' worth of requests being served: the window alone
	// does not bound them, as credits are granted before answers have been taken.
	serving *semaphore.Weighted

	chanMu   sync.RWMutex
	channels map[uint64]*channel // guarded by chanMu: Connection.SessionTable
	binding  map[uint64]*binding // guarded by chanMu: Connection.PreauthSessionTable

	reqMu     sync.Mutex
	requests  map[uint64]*request // guarded by reqMu, by MessageId: Connection.RequestList
	async     map[uint64]*request // guarded by reqMu, by AsyncId: Connection.AsyncCommandList
	lastAsync uint64              // guarded by reqMu
	draining  bool                // guarded by reqMu: requests that wait are cancelled
	settled   chan struct{}       // guarded by reqMu: see settledLocked
	renaming  atomic.Int32        // requests that rename something

	breaks breakQueue

	turn    turn
	kept    atomic.Bool    // answers may have been kept back, see transport.Message.More
	over    chan struct{}  // closed by who receives, when nothing more is received
	lastErr error          // why; written before over is closed
	work    chan *chain    // closed by run
	workers sync.WaitGroup // the workers; run waits
	idle    atomic.Int32
}

func (s *Server) newConn(tc transport.Conn, id uint64, scheme string) *conn {
	c := &conn{
		srv: s, tc: tc, rdma: tc.RDMA(), scheme: scheme, id: id,
		since:    time.Now(),
		done:     make(chan struct{}),
		channels: map[uint64]*channel{},
		binding:  map[uint64]*binding{},
		requests: map[uint64]*request{},
		async:    map[uint64]*request{},
		over:     make(chan struct{}),
		work:     make(chan *chain),
		serving:  semaphore.NewWeighted(int64(s.cfg.Limits.ServingPerConn)),
	}
	c.breaks.wake = make(chan struct{}, 1)
	c.loader, _ = tc.(transport.FileLoader)
	c.batch, _ = tc.(transport.Batcher)
	c.log = s.log.With("conn", id, "peer", addrString(tc.RemoteAddr()), "transport", scheme)
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	c.recvCtx, c.stopRecv = context.WithCancel(c.ctx)
	c.window.init(s.cfg.Limits.CreditsPerConn)
	c.received.Store(c.since.UnixNano())
	c.sizes(maxSmallRequest)
	return c
}

func addrString(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// sizes derives the largest payloads from the limits and the transport. limit is
// 64 KiB where there is no multi-credit.
func (c *conn) sizes(limit int) {
	l := &c.srv.cfg.Limits
	out, in := c.tc.MaxSendSize()-reserve, c.tc.MaxReceiveSize()-reserve
	c.maxPayload = max(out, 0)
	c.maxTransact = max(min(l.MaxTransactSize, out, in, limit), 0)
	c.maxRead, c.maxWrite = min(l.MaxReadSize, limit), min(l.MaxWriteSize, limit)
	if c.rdma != nil {
		// Reads that are too long for a message are cut short, or refused to who does
		// not take that for what it is; writes cannot come.
		// Nor does a client ask for more by RDMA than the transport negotiated; but
		// below 64 KiB it would refuse the server ([MS-SMB2] 3.2.5.2).
		n := max(c.rdma.MaxReadWriteSize(), noMultiCreditSize)
		c.maxRead, c.maxWrite = min(c.maxRead, n), min(c.maxWrite, n)
		return
	}
	c.maxRead, c.maxWrite = max(min(c.maxRead, out), 0), max(min(c.maxWrite, in), 0)
}

// run serves the connection until it ends.
func (c *conn) run() {
	defer close(c.done)
	c.log.Debug("connected")
	defer c.survive("ending the connection")
	c.receive()
	<-c.over
	err, draining := c.lastErr, c.isDraining()
	close(c.work)
	c.workers.Wait()
	c.flushKept()
	c.cancel()
	c.tc.Close()
	for _, ch := range c.allChannels() {
		c.leave(ch.sess)
	}
	c.closeBreaks()
	switch {
	case c.hasFailed.Load(): // fail has said why
	case err == nil, draining, errors.Is(err, io.EOF), errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		c.log.Debug("disconnected")
	default:
		c.log.Info("connection lost", "err", err)
	}
}

func (c *conn) leave(sess *session) {
	defer c.survive("ending a session")
	c.srv.dropChannel(sess, c)
}

// allChannels are the channels of the sessions on this connection.
func (c *conn) allChannels() []*channel {
	c.chanMu.RLock()
	defer c.chanMu.RUnlock()
	return slices.Collect(maps.Values(c.channels))
}

// fail ends the connection without an answer: the client broke the protocol, as
// the reason says.
func (c *conn) fail(reason string, args ...any) {
	if c.hasFailed.Swap(true) {
		return
	}
	c.srv.count.failed.Add(1)
	c.log.Warn("connection closed: "+reason, args...)
	c.abort()
}

// abort ends the connection at once. It does not wait.
func (c *conn) abort() {
	c.cancel()
	c.cancelWhere(func(r *request) bool { return !r.lasts })
}

func (c *conn) isDraining() bool {
	c.reqMu.Lock()
	defer c.reqMu.Unlock()
	return c.draining
}

// drain stops receiving and cancels the requests that wait for something to
// happen; run ends when the others are done.
func (c *conn) drain() {
	c.endWaiting()
	c.stopRecv()
}

// endWaiting is the part of drain that cancels what waits, and what is going to.
func (c *conn) endWaiting() {
	c.reqMu.Lock()
	c.draining = true
	c.reqMu.Unlock()
	c.cancelWhere(func(r *request) bool { return r.asyncID != 0 })
}

// cancelWhere cancels the requests for which f says so. f is called with reqMu
// held.
func (c *conn) cancelWhere(f func(*request) bool) {
	c.reqMu.Lock()
	defer c.reqMu.Unlock()
	for _, r := range c.requests {
		if f(r) {
			r.ctx.cancel()
		}
	}
}

// checkTimeouts ends the connection if the client has stopped taking part.
func (c *conn) checkTimeouts(now time.Time) {
	cfg := &c.srv.cfg
	age := now.Sub(c.since)
	quiet := now.Sub(time.Unix(0, c.received.Load()))
	switch {
	case !c.negotiated.Load():
		if age >= cfg.NegotiateTimeout {
			c.fail("no NEGOTIATE in time", "timeout", cfg.NegotiateTimeout)
		}
		return
	case !c.authed.Load():
		if age >= cfg.NegotiateTimeout+cfg.AuthTimeout {
			c.fail("nobody logged on in time", "timeout", cfg.AuthTimeout)
		}
		return
	}
	opens := 0
	var late []*session
	c.chanMu.RLock()
	for _, ch := range c.channels {
		opens += ch.sess.opens.len()
		if now.Sub(ch.sess.created) >= cfg.AuthTimeout {
			late = append(late, ch.sess)
		}
	}
	c.chanMu.RUnlock()
	for _, sess := range late {
		if sess.currentState() == sessionInProgress {
			c.srv.endSession(sess, nil)
		}
	}
	if cfg.IdleTimeout < 0 {
		return
	}
	if c.sends.Load() > 0 && now.Sub(time.Unix(0, c.sent.Load())) >= cfg.IdleTimeout {
		c.fail("client takes no answers", "timeout", cfg.IdleTimeout)
		return
	}
	if opens == 0 && quiet >= cfg.IdleTimeout {
		c.log.Debug("idle")
		c.drain()
	}
}

// send sends a message and reports whether the transport has taken it; a failure ends
// the connection.
func (c *conn) send(m *transport.Message) bool {
	if c.hasFailed.Load() {
		return false
	}
	c.sendBegins()
	err := c.tc.Send(c.ctx, m)
	c.sendEnded(err)
	return err == nil
}

// sendBegins and sendEnded stand around what may wait for the client to take answers.
func (c *conn) sendBegins() {
	if c.sends.Add(1) == 1 {
		c.sent.Store(time.Now().UnixNano())
	}
}

func (c *conn) sendEnded(err error) {
	if c.sends.Add(-1) > 0 {
		c.sent.Store(time.Now().UnixNano())
	}
	if err != nil && c.ctx.Err() == nil {
		c.log.Debug("send", "err", err)
		c.abort()
	}
}
