package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// security is how the messages of the session are protected. It is immutable.
type security struct {
	sessionID uint64
	signer    *smbcrypto.Signer // nil for guests and anonymous sessions
	sealer    *smbcrypto.Sealer // nil if no cipher was negotiated
	opener    *smbcrypto.Opener
	sign      bool // every request that is not encrypted
	encrypt   bool // every request
}

// conn moves requests and answers. Requests are numbered and sent by whoever
// makes them; one goroutine receives, and one watches deadlines.
type conn struct {
	sess       *Session
	tr         transport.Conn
	rdma       transport.RDMA
	rdmaFrom   int                // bytes from which data goes by it; negative: none
	prompt     transport.Prompter // tr, if it is one
	log        *slog.Logger
	maxCredits int
	timeout    time.Duration // <= 0: none
	grace      time.Duration

	// multiCredit: CreditCharge is in use, [MS-SMB2] 3.2.4.1.5. Written once,
	// while negotiation is all there is.
	multiCredit bool
	// neg is what NEGOTIATE has settled. Written once, as multiCredit.
	neg *negotiated
	// generation is that of the session when the connection was made for it.
	generation uint64
	// speed weighs this channel against others; set before it joins the session.
	speed  atomic.Int64  // Mbit/s
	flying atomic.Int64  // bytes in READ and WRITE requests under way
	got    atomic.Uint64 // messages received

	validate sync.Mutex // held while the negotiation is validated
	valid    bool       // guarded by validate

	sec atomic.Pointer[security]

	mu sync.Mutex
	// All guarded by mu.
	iface    NetworkInterface // the server's, once it is known
	nextID   uint64           // first MessageId that was never used
	holes    []idRange        // MessageIds taken back from requests that were not sent
	credits  int              // how many MessageIds the server lets us use
	owed     int              // credits of requests whose answer will bring new ones
	owing    int              // how many such requests there are
	pending  map[uint64]*call // sent or being sent, by MessageId
	head     *call            // queue for credits, in order
	tail     *call
	orphans  []orphan // opens whose CREATE was abandoned
	recv     reception
	err      error // why the connection ended
	failedCh chan struct{}

	closing context.CancelFunc // ends Receive
	wg      sync.WaitGroup     // its goroutines

	// resume tells the goroutine in receive that it has the turn; capacity 1, sent by
	// who takes the turn for it, with mu held.
	resume chan struct{}
	// woken counts callers who were told of their answers and have not run yet.
	woken    atomic.Int32
	flushing atomic.Bool // somebody is about to flush
	clogged  atomic.Bool // the last CANCEL could not leave in time

	counters counters
}

// idRange is n MessageIds from id.
type idRange struct {
	id uint64
	n  int
}

// orphan is an open that nobody waits for any more.
type orphan struct {
	treeID  uint32
	protect protection
	id      smb2.FileID
}

// maxOrphans bounds what a server can make us remember by answering late.
const maxOrphans = 64

// maxGranted bounds the credits that are counted: a server may give more, we
// never use more.
const maxGranted = 1 << 16

func newConn(tr transport.Conn, s *Session) *conn {
	cfg := &s.cfg
	ctx, cancel := context.WithCancel(context.Background())
	c := &conn{
		sess: s, tr: tr, rdma: tr.RDMA(), log: cfg.Logger,
		maxCredits: cfg.MaxCredits, timeout: cfg.Timeout, grace: cfg.CancelGrace,
		credits:    1, // [MS-SMB2] 3.2.4.1.2: the window begins as {0}
		generation: s.generation.Load(),
		pending:    make(map[uint64]*call), failedCh: make(chan struct{}), closing: cancel,
		resume: make(chan struct{}, 1), recv: reception{taken: true},
	}
	c.prompt, _ = tr.(transport.Prompter)
	if c.rdmaFrom = cfg.RDMAThreshold; c.rdmaFrom == 0 {
		c.rdmaFrom = DefaultRDMAThreshold
		if t, ok := c.rdma.(transport.Thresholder); ok {
			c.rdmaFrom = t.Threshold()
		}
	}
	if p, ok := tr.(transport.Placer); ok {
		p.SetPlace(c.placeFor)
	}
	c.speed.Store(unknownSpeed)
	c.wg.Add(1)
	go c.receive(ctx) // ended by closing and tr.Close; Close waits
	if c.timeout > 0 || c.listens() {
		c.wg.Add(1)
		go c.watch() // ended by failedCh; Close waits
	}
	return c
}

// fail ends the connection for a reason, if it has not ended yet. It does not
// wait for the goroutines, so that they may call it.
func (c *conn) fail(cause error) error {
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return err
	}
	switch {
	case errors.Is(cause, io.EOF): // which means the end of a file to our callers
		cause = &lostError{errServerClosed}
	case !errors.Is(cause, net.ErrClosed):
		cause = &lostError{cause}
	}
	c.err = cause
	for _, p := range c.pending {
		if p.gone {
			p.forsaken()
		}
		p.err, p.state = cause, callAnswered
		p.wake()
	}
	clear(c.pending)
	for w := c.head; w != nil; w = w.next {
		w.err, w.state = cause, callAnswered
		w.wake()
	}
	c.head, c.tail = nil, nil
	close(c.failedCh)
	c.mu.Unlock()
	c.closing()
	if err := c.tr.Close(); err != nil {
		c.log.Debug("transport close", "err", err)
	}
	c.sess.lost(c)
	return cause
}

// close is fail by the program, and waits for the goroutines.
func (c *conn) close() {
	_ = c.fail(ErrClosed)
	c.wg.Wait()
}

func (c *conn) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

var errServerClosed = errors.New("the server closed it")

// lostError is why a connection was lost; it matches net.ErrClosed too.
type lostError struct{ cause error }

func (e *lostError) Error() string   { return "connection lost: " + e.cause.Error() }
func (e *lostError) Unwrap() []error { return []error{e.cause, net.ErrClosed} }

// protocolError ends the connection over a fault of the server's.
func (c *conn) protocolError(section, format string, args ...any) error {
	err := c.fail(&ProtocolError{Section: section, Problem: fmt.Sprintf(format, args...)})
	c.log.Warn("server broke the protocol", "conn", c.tr.RemoteAddr(), "err", err)
	return err
}

// protocolError ends the connection that the answer to k came by.
func (k *call) protocolError(section, format string, args ...any) error {
	return k.conn.protocolError(section, format, args...)
}

// badBody ends the connection that the answer to k came by, which does not parse.
func (k *call) badBody(cause error) error { return k.conn.badBody(k.cmd, cause) }

// badBody ends the connection over an answer that does not parse.
func (c *conn) badBody(cmd smb2.Command, cause error) error {
	err := c.fail(&ProtocolError{Section: "3.2.5", Problem: "malformed " + cmd.String() + " response", Err: cause})
	c.log.Warn("server broke the protocol", "conn", c.tr.RemoteAddr(), "err", err)
	return err
}

// errTooFewCredits says that the server will not give the credits that a request
// of this size costs. The connection lives; a smaller request may pass.
var errTooFewCredits = errors.New("client: server grants too few credits")

// creditLimit is how many credits a request may cost that is to be sent soon.
func (c *conn) creditLimit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(1, c.credits+c.owed)
}

// start sends requests, as one compound if there are several. When it returns nil
// each of them must be waited for; otherwise none was sent. The payload of the
// last one is free when start returns.
func (c *conn) start(ctx context.Context, calls []*call) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	first := calls[0]
	need := 0
	for _, k := range calls {
		if k.conn = c; c.sess.reconnects() {
			if err := k.address(c); err != nil {
				return err
			}
		}
		need += int(k.charge)
	}
	if err := c.acquire(ctx, first, need, calls); err != nil {
		return err
	}
	msg, err := c.seal(calls)
	if err == nil {
		for _, k := range calls {
			k.left = true
		}
		err = c.send(ctx, msg)
	}
	for _, k := range calls {
		k.payload = nil
	}
	clear(msg.Parts)
	c.mu.Lock()
	if err == nil {
		for _, k := range calls {
			if k.state == callSending {
				k.state = callSent
			}
		}
		c.mu.Unlock()
		c.counters.requests.Add(uint64(len(calls)))
		return nil
	}
	if c.err != nil { // then everything pending was answered by fail
		err = c.err
		c.mu.Unlock()
		return err
	}
	if isClosed(err) {
		c.mu.Unlock()
		return c.transportError(ctx, "send", err)
	}
	// Nothing was sent: the MessageIds are still to be used, or the server's
	// window would not move on.
	for _, k := range calls {
		if k.state == callSending {
			delete(c.pending, k.id)
			c.owing--
			c.owed -= int(k.charge)
			k.state = callIdle
		}
	}
	c.putBack(first.id, need)
	c.mu.Unlock()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// isClosed says whether an error of the transport is that of its end.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) }

// transportError is what to make of an error of the transport's. If it is that of its
// end then it is the connection's too: whoever looks whether it has failed must not
// depend on receive, which may be told of it later.
func (c *conn) transportError(ctx context.Context, what string, err error) error {
	switch {
	case isClosed(err):
		return c.fail(fmt.Errorf("%s: %w", what, err))
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// acquire waits for credits, numbers the calls and makes them pending.
func (c *conn) acquire(ctx context.Context, first *call, need int, calls []*call) error {
	deadline := time.Time{}
	if c.timeout > 0 && !first.long {
		if _, ok := ctx.Deadline(); !ok {
			deadline = time.Now().Add(c.timeout)
		}
	}
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return err
	}
	first.deadline, first.expired, first.err = deadline, false, nil
	first.need = need
	if c.head == nil && c.take(first) {
		c.register(calls, deadline)
		c.mu.Unlock()
		return nil
	}
	if c.owing == 0 {
		have := c.credits
		c.mu.Unlock()
		return c.starved(have, need)
	}
	first.state, first.next = callQueued, nil
	if c.tail == nil {
		c.head = first
	} else {
		c.tail.next = first
	}
	c.tail = first
	c.needReceiver()
	c.mu.Unlock()
	c.counters.creditWaits.Add(1)
	for {
		var cause error
		select {
		case <-first.ready:
		case <-ctx.Done():
			cause = context.Cause(ctx)
		}
		c.mu.Lock()
		switch {
		case first.state == callAnswered || c.err != nil:
			err := first.err
			if err == nil {
				err = c.err
			}
			first.err, first.state = nil, callIdle
			alive := c.err == nil
			c.mu.Unlock()
			if alive && !errors.Is(err, errTooFewCredits) {
				err = c.fail(err) // no request can be sent on it any more
			}
			return err
		case first.state == callSending && cause == nil:
			c.register(calls, deadline)
			c.mu.Unlock()
			return nil
		case first.state == callSending:
			first.state = callIdle
			c.putBack(first.id, need)
			c.mu.Unlock()
			return cause
		case first.expired:
			cause = fmt.Errorf("no credits from the server within %v: %w", c.timeout, os.ErrDeadlineExceeded)
		}
		if cause != nil {
			c.unqueue(first)
			first.state = callIdle
			c.mu.Unlock()
			return cause
		}
		c.mu.Unlock()
	}
}

// starved is the answer to a request for credits that nothing under way will bring.
func (c *conn) starved(have, need int) error {
	if have == 0 {
		return c.protocolError("3.3.1.2", "no credits are left and none are owed")
	}
	return fmt.Errorf("%w: %d for a request that costs %d", errTooFewCredits, have, need)
}

// take gives first its MessageIds if there are credits. Called with mu held.
func (c *conn) take(first *call) bool {
	if c.credits < first.need {
		return false
	}
	fresh := c.credits // those of them from nextID on
	for i := range c.holes {
		h := &c.holes[i]
		fresh -= h.n
		if h.n < first.need {
			continue
		}
		c.credits -= first.need
		first.id = h.id
		h.id += uint64(first.need)
		h.n -= first.need
		if h.n == 0 {
			c.holes = append(c.holes[:i], c.holes[i+1:]...)
		}
		return true
	}
	if fresh < first.need {
		// A request's MessageIds are consecutive ([MS-SMB2] 3.2.4.1.5): behind
		// those left the server's window would be exceeded.
		return false
	}
	c.credits -= first.need
	first.id = c.nextID
	c.nextID += uint64(first.need)
	return true
}

// putBack returns MessageIds of requests that were not sent. Called with mu held.
func (c *conn) putBack(id uint64, n int) {
	if id+uint64(n) == c.nextID {
		c.nextID = id
	} else {
		c.holes = append(c.holes, idRange{id, n})
	}
	c.credits += n
	c.pump()
}

// register makes numbered calls pending. Called with mu held.
func (c *conn) register(calls []*call, deadline time.Time) {
	id := calls[0].id
	for _, k := range calls {
		k.id = id
		id += uint64(k.charge)
		k.state, k.async, k.asyncID, k.expired, k.onWire, k.err = callSending, false, 0, false, false, nil
		// Not later: once the connection has failed the number is that of what is
		// sent again, which the server must be able to tell from this.
		k.sequence = uint16(c.sess.sequence.Load())
		k.deadline = deadline
		c.pending[k.id] = k
		c.owing++
		c.owed += int(k.charge)
	}
}

// pump hands credits to those who wait. Called with mu held.
func (c *conn) pump() {
	for c.head != nil {
		w := c.head
		switch {
		case c.take(w):
			w.state = callSending
		case c.owing == 0 && c.credits > 0:
			w.err = fmt.Errorf("%w: %d for a request that costs %d", errTooFewCredits, c.credits, w.need)
			w.state = callAnswered
		case c.owing == 0:
			w.err = &ProtocolError{Section: "3.3.1.2", Problem: "no credits are left and none are owed"}
			w.state = callAnswered
		default:
			return
		}
		if c.head = w.next; c.head == nil {
			c.tail = nil
		}
		w.next = nil
		w.wake()
	}
}

// unqueue takes a call out of the queue for credits. Called with mu held.
func (c *conn) unqueue(k *call) {
	var prev *call
	for w := c.head; w != nil; prev, w = w, w.next {
		if w != k {
			continue
		}
		if prev == nil {
			c.head = w.next
		} else {
			prev.next = w.next
		}
		if c.tail == w {
			c.tail = prev
		}
		w.next = nil
		break
	}
	c.pump() // those behind may need less
}

// creditRequest is what a request asks for: what it costs, and what is missing
// from the target. Called with mu held, after register.
func (c *conn) creditRequest(k *call) uint16 {
	n := int(k.charge) + c.maxCredits - c.credits - c.owed
	return uint16(min(max(n, 1), 0xFFFF))
}

// seal fills in the headers and protects the message.
func (c *conn) seal(calls []*call) (*transport.Message, error) {
	sec := c.sec.Load()
	last := len(calls) - 1
	encrypt := false
	for _, k := range calls {
		encrypt = encrypt || sec != nil && k.protect&protectRaw == 0 && (sec.encrypt || k.protect&protectEncrypt != 0)
	}
	for i, k := range calls {
		k.encrypted = encrypt
		k.signed = !encrypt && sec != nil && sec.signer != nil && k.protect&protectRaw == 0 &&
			(sec.sign || k.protect&(protectSign|protectBind) != 0)
		if i != last {
			for len(k.buf)%8 != 0 {
				k.buf = append(k.buf, 0)
			}
		}
		h := smb2.Header{Command: k.cmd, Flags: k.flags, MessageID: k.id, TreeID: k.treeID}
		if c.multiCredit {
			h.CreditCharge = k.charge
		}
		if c.neg != nil && c.neg.dialect >= SMB300 { // [MS-SMB2] 3.2.4.1.1
			h.ChannelSequence = k.sequence
		} else {
			h.Flags &^= smb2.FlagReplayOperation
		}
		if k.cmd == smb2.CommandCancel {
			h.CreditCharge = 0
		} else {
			c.mu.Lock()
			h.Credits = c.creditRequest(k)
			k.onWire = true
			c.mu.Unlock()
		}
		if k.async {
			h.Flags |= smb2.FlagAsyncCommand
			h.AsyncID = k.asyncID
		}
		if i != last {
			h.NextCommand = uint32(len(k.buf))
		}
		if sec != nil {
			h.SessionID = sec.sessionID
		}
		h.Put(k.buf)
	}
	first := calls[0]
	m := &first.out
	m.Parts = append(first.parts[:0], m.Parts[:0]...)
	for i, k := range calls {
		var err error
		m.Parts = append(m.Parts, k.buf)
		if i == last && len(k.payload) > 0 {
			m.Parts = append(m.Parts, k.payload)
		}
		if k.signed {
			if i == last && len(k.payload) > 0 {
				if sec.signer.Algorithm() == smbcrypto.AESGMAC {
					c.counters.copied.Add(uint64(len(k.payload))) // it joins the parts
				}
				err = sec.signer.Sign(k.buf, k.payload)
			} else {
				err = sec.signer.Sign(k.buf)
			}
		}
		if err != nil {
			return m, err
		}
	}
	if !encrypt {
		return m, nil
	}
	if sec.sealer == nil {
		return m, fmt.Errorf("client: encryption is needed and was not negotiated: %w", ntstatus.NotSupported)
	}
	c.counters.copied.Add(uint64(len(calls[last].payload)))
	var err error
	if first.sealed, err = sec.sealer.Seal(first.sealed[:0], sec.sessionID, m.Parts...); err != nil {
		return m, err
	}
	m.Parts = append(m.Parts[:0], first.sealed)
	return m, nil
}

// wait waits for the answer to a call that was started. A nil error means that
// there is one, whatever its status. An error means that the connection is lost,
// that ctx ended, or that the time is over; then the call is abandoned.
func (c *conn) wait(ctx context.Context, k *call) error {
	c.mu.Lock()
	for {
		switch {
		case k.state == callAnswered:
			c.mu.Unlock()
			return k.err
		case k.expired:
			c.mu.Unlock()
			return c.abandon(k, fmt.Errorf("no answer within %v: %w", c.timeout, os.ErrDeadlineExceeded))
		case c.prompt != nil && !c.recv.taken && ctx.Err() == nil:
			c.recv.taken = true
			c.mu.Unlock()
			c.receiveFor(ctx, k)
			c.mu.Lock()
			continue
		}
		c.park(k)
		c.mu.Unlock()
		over := false
		select {
		case <-k.ready:
		case <-ctx.Done():
			over = true
		}
		c.mu.Lock()
		c.unpark(k)
		if k.woken {
			k.woken = false
			c.woken.Add(-1)
		}
		if k.turn {
			k.turn = false
			if over || k.state == callAnswered || k.expired {
				c.passOn()
			} else {
				c.mu.Unlock()
				c.receiveFor(ctx, k)
				c.mu.Lock()
			}
		}
		if over && k.state != callAnswered {
			c.mu.Unlock()
			return c.abandon(k, context.Cause(ctx))
		}
	}
}

// abandon cancels a call. It returns nil if an answer came meanwhile that is more
// than the echo of the cancellation.
func (c *conn) abandon(k *call, cause error) error {
	c.cancel(k)
	if (k.hold || k.long) && c.grace > 0 {
		t := time.NewTimer(c.grace)
		defer t.Stop()
		c.mu.Lock()
		c.needReceiver()
		c.mu.Unlock()
		for over := false; !over; {
			select {
			case <-k.ready:
			case <-t.C:
				over = true
			}
			c.mu.Lock()
			answered := k.state == callAnswered
			c.mu.Unlock()
			if answered {
				return k.outcome(cause)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.state == callAnswered {
		return k.outcome(cause)
	}
	k.forsake()
	return cause
}

// outcome of a cancelled call that was answered.
func (k *call) outcome(cause error) error {
	if k.err == nil && k.resp.Status == ntstatus.Cancelled {
		return cause
	}
	return k.err
}

// cancelTimeout bounds how long a CANCEL may take to leave.
const cancelTimeout = 200 * time.Millisecond

// cancel sends SMB2 CANCEL for a call, [MS-SMB2] 3.2.4.24. It has no answer and
// costs no credit.
func (c *conn) cancel(k *call) {
	x := c.newCall(smb2.CommandCancel)
	defer x.free()
	c.mu.Lock()
	sent := k.state == callSent
	x.id, x.async, x.asyncID, x.treeID, x.sequence = k.id, k.async, k.asyncID, k.treeID, k.sequence
	x.protect = k.protect & (protectEncrypt | protectRaw)
	c.mu.Unlock()
	if !sent || x.encode(&smb2.CancelRequest{}) != nil {
		return
	}
	msg, err := c.seal([]*call{x})
	if err == nil {
		limit := cancelTimeout
		if c.clogged.Load() { // many may be cancelled at once
			limit = time.Millisecond
		}
		ctx, stop := context.WithTimeout(context.Background(), limit)
		err = c.tr.Send(ctx, msg)
		stop()
		c.clogged.Store(err != nil)
	}
	if err != nil {
		c.log.Debug("cancel not sent", "mid", x.id, "err", err)
		return
	}
	c.counters.cancels.Add(1)
}

// listens says whether a connection that is silent is given up for another.
func (c *conn) listens() bool { return c.sess.cfg.Channels.Dial != nil || c.sess.reconnects() }

// watch ends calls whose time is over, and the connection if its peer takes no
// message for that long. It looks four times in each Timeout. Of a session that has
// another channel it ends the connection too if that is silent.
func (c *conn) watch() {
	defer c.wg.Done()
	every := c.timeout / 4
	if stall := c.sess.cfg.Channels.Stall; c.listens() && (every <= 0 || stall/4 < every) {
		every = stall / 4
	}
	t := time.NewTicker(max(every, time.Millisecond))
	defer t.Stop()
	var p probe
	for {
		select {
		case <-c.failedCh:
			return
		case now := <-t.C:
			if c.listens() && c.silent(now, &p) && c.sess.giveUp(c) {
				return
			}
			if c.timeout > 0 && c.expire(now) {
				_ = c.fail(fmt.Errorf("the server took no message within %v: %w", c.timeout, os.ErrDeadlineExceeded))
			}
		}
	}
}

// expire wakes those whose deadline has passed. It reports whether one of them is
// still being sent.
func (c *conn) expire(now time.Time) (stuck bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.pending {
		if k.expired || k.deadline.IsZero() || now.Before(k.deadline) {
			continue
		}
		if k.state == callSending {
			stuck = true
			continue
		}
		k.expired = true
		k.wake()
	}
	for k := c.head; k != nil; k = k.next {
		if !k.deadline.IsZero() && !now.Before(k.deadline) {
			k.expired = true
			k.wake()
		}
	}
	return stuck
}
