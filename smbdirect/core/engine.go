package core

import (
	"fmt"
	"time"
)

// Engine is one end of an SMB Direct connection.
type Engine struct {
	cfg     Config
	conn    Connection
	profile Profile
	depths  ReadDepths // of the peer's connection request
	err     error      // why it is closed

	actions []Action
	next    int

	queue    queue
	sendsOut int     // sends under way
	posting  Credits // asked for by PostReceives, Posted has not come yet
	started  bool

	// held is set while the user is behind with messages: no more credits.
	held bool
	// grantWanted: a bare grant is due.
	grantWanted bool
	// mostCredits is the most that SendCredits ever was.
	mostCredits Credits
	// spareless: the adapter had no receive to spare for the last send credit.
	spareless bool
	// retrying: the receives asked for are those that the adapter refused before.
	retrying bool

	// reassembly
	inMessage  bool
	reassembly uint32 // bytes of the message that are in
	total      uint32

	// Times at which something is due; 0 is never.
	negotiateAt, idleAt, creditAt, grantAt, retryAt time.Duration

	retryDelay time.Duration // how long after a refusal the adapter is asked again
	armed      time.Duration

	stalls Stalls
}

// Stalls is what the lack of the peer's credits cost.
type Stalls struct {
	// Count is the number of messages that had to wait for credits.
	Count uint64
	// Total is the time during which a message waited and no fragment could be
	// sent for lack of credits, Longest the longest of such times. One that lasts
	// is in neither.
	Total, Longest time.Duration
	// Since is when the one that lasts began; 0 if there is none.
	Since time.Duration
}

// end is the end of a stall, if there is one.
func (s *Stalls) end(now time.Duration) {
	if s.Since == 0 {
		return
	}
	d := now - s.Since
	s.Total += d
	s.Longest = max(s.Longest, d)
	s.Since = 0
}

// maxRetryDelays bounds the wait for an adapter that refused receives, in
// Config.GrantDelay.
const maxRetryDelays = 16

// New makes an engine. The error names a field of cfg that is out of range.
func New(cfg Config) (*Engine, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &Engine{
		cfg:     cfg,
		profile: profileAny,
		queue:   queue{limit: cfg.QueueDepth},
		conn: Connection{
			Role:                  cfg.Role,
			MaxSendSize:           cfg.MaxSendSize,
			MaxReceiveSize:        cfg.MaxReceiveSize,
			MaxFragmentedRecvSize: cfg.MaxFragmentedRecvSize,
			MaxReadWriteSize:      cfg.MaxReadWriteSize,
			SendCreditTarget:      Credits(cfg.SendCreditTarget),
			ReceiveCreditMax:      Credits(cfg.ReceiveCreditMax),
			KeepaliveInterval:     cfg.KeepaliveInterval,
		},
	}, nil
}

// ReceiveDepth is the number of receives posted at once for a ReceiveCreditMax,
// without the one for the negotiation.
func ReceiveDepth(receiveCreditMax uint16) int {
	return int(spareLimit(Credits(receiveCreditMax)))
}

// Connection returns a copy of the state.
func (e *Engine) Connection() Connection { return e.conn }

// Profile returns what is known of the peer's kind.
func (e *Engine) Profile() Profile { return e.profile }

// Err returns why the engine is closed, nil if it is not.
func (e *Engine) Err() error { return e.err }

// Stalls says how often and for how long messages waited for credits.
func (e *Engine) Stalls() Stalls { return e.stalls }

// Credits returns SendCredits and ReceiveCredits of the state.
func (e *Engine) Credits() (send, receive Credits) { return e.conn.SendCredits, e.conn.ReceiveCredits }

// MidMessage reports whether a message has been received in part.
func (e *Engine) MidMessage() bool { return e.inMessage }

// Queued is the number of messages in SendQueue.
func (e *Engine) Queued() int { return e.queue.n }

// Start begins: a receive for the first message, the negotiation timer (3.1.4.1,
// 3.1.7.2). The connection may come up before or after.
func (e *Engine) Start(now time.Duration) {
	if e.started {
		panic("core: started twice")
	}
	e.started = true
	e.negotiateAt = now + e.cfg.NegotiateTimeout
	e.posting = 1
	e.act(Action{Kind: PostReceives, Count: 1, Size: NegotiateReceiveSize})
	e.arm()
}

// Posted reports how many of the receives of the last PostReceives the adapter
// took.
func (e *Engine) Posted(now time.Duration, n int) {
	asked := e.posting
	if n < 0 || Credits(n) > asked || asked == 0 {
		panic(fmt.Sprintf("core: %d receives posted, %d asked for", n, asked))
	}
	e.posting = 0
	switch {
	case e.conn.Role == Closed:
	case e.conn.Role != Established && e.conn.Protocol == 0:
		// The receive for the negotiation; it carries no credit.
		if n == 0 {
			e.terminate(ErrNoReceives)
		}
	case e.conn.Role != Established:
		e.conn.ReceiveCredits += Credits(n)
		e.conn.NewCredits += Credits(n)
		e.finishNegotiation(now)
	default:
		e.conn.ReceiveCredits += Credits(n)
		e.conn.NewCredits += Credits(n)
		if Credits(n) < asked {
			// The adapter has less room than it said: live with what there is, and
			// try again a little later.
			if e.conn.ReceiveCredits == 0 {
				e.terminate(ErrNoReceives)
				return
			}
			e.conn.ReceiveCreditMax = e.conn.ReceiveCredits
			if e.conn.NewCredits == 0 {
				e.spareless = true
			}
			e.retryDelay = min(max(2*e.retryDelay, e.cfg.GrantDelay), maxRetryDelays*e.cfg.GrantDelay)
			e.retryAt = now + e.retryDelay
		} else if e.retrying || e.conn.ReceiveCreditMax == Credits(e.cfg.ReceiveCreditMax) {
			e.conn.ReceiveCreditMax, e.retryDelay = Credits(e.cfg.ReceiveCreditMax), 0
		}
		if e.retrying && n > 0 {
			left, all := e.granted(), Credits(n) == asked
			e.grantWanted = e.grantWanted || left == 0 || all && left <= e.target()/2
		}
		e.retrying = false
		e.step(now)
	}
}

// SendCompleted reports that n sends are done and their buffers free.
func (e *Engine) SendCompleted(now time.Duration, n int) {
	e.sendsOut -= n
	if e.sendsOut < 0 {
		panic("core: more sends completed than sent")
	}
	e.step(now)
}

// Submit queues an SMB2 message of n bytes, with a token of the peer's to
// invalidate if has. The id comes back in the SendData actions. Errors: ErrClosed,
// ErrTooLong, ErrQueueFull.
func (e *Engine) Submit(now time.Duration, id uint64, n uint32, token uint32, has bool) error {
	if e.conn.Role != Established {
		return ErrClosed
	}
	if n == 0 || n > e.conn.MaxFragmentedSendSize {
		return ErrTooLong // 3.1.4.2
	}
	if !e.queue.push(message{id: id, len: n, token: token, hasToken: has}) {
		return ErrQueueFull
	}
	e.step(now)
	return nil
}

// Cancel takes message id out of the queue. It reports false if a part of the
// message was sent, or if it is not in the queue.
func (e *Engine) Cancel(now time.Duration, id uint64) bool {
	if !e.queue.remove(id) {
		return false
	}
	e.step(now)
	return true
}

// Hold stops (true) or resumes the granting of credits, for a user who is behind
// with the messages delivered. Answers to the peer still go out.
func (e *Engine) Hold(now time.Duration, hold bool) {
	if e.held == hold {
		return
	}
	e.held = hold
	if !hold && e.conn.Role == Established && e.granted() <= e.target()/2 {
		e.grantWanted = true
	}
	e.step(now)
}

// Disconnected reports the loss of the connection below, 3.1.7.1.
func (e *Engine) Disconnected(err error) {
	if e.conn.Role != Closed {
		e.close(err)
	}
}

// setRole is the only place where Role changes.
func (e *Engine) setRole(r Role) {
	for _, to := range legal[e.conn.Role] {
		if to == r {
			e.conn.Role = r
			return
		}
	}
	panic(fmt.Sprintf("core: role %v after %v", r, e.conn.Role))
}

func (e *Engine) close(err error) {
	e.setRole(Closed)
	e.err = err
	e.negotiateAt, e.idleAt, e.creditAt, e.grantAt, e.retryAt = 0, 0, 0, 0, 0
}

// terminate ends the connection; no further message is processed (SD-79).
func (e *Engine) terminate(err error) {
	e.close(err)
	e.act(Action{Kind: Terminate, Err: err})
}

// violation ends the connection because of a mistake of the peer.
func (e *Engine) violation(section, field string, got uint64, want string) {
	e.terminate(&ProtocolError{Section: section, Field: field, Got: got, Want: want})
}
