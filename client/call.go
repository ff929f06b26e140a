package client

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// callState is where a request is. It is guarded by conn.mu.
type callState uint8

const (
	callIdle     callState = iota // owned by whoever got it from conn.newCall
	callQueued                    // waits for credits
	callSending                   // has its MessageId and is in pending
	callSent                      // transport has it
	callAnswered                  // resp, msg and in, or err, are set
)

// protection says what must be done to a request beside what the session does.
type protection uint8

const (
	protectSign    protection = 1 << iota // sign it, and insist on a signed answer
	protectEncrypt                        // encrypt it: the share wants that
	protectRaw                            // neither; whoever waits checks the answer
	protectBind                           // sign it, and leave the answer to whoever waits
	protectOnce                           // not to be sent again on another channel; for ioctlOn
	protectStay                           // about its own channel, so never sent on another; for ioctlOn
)

// call is one request and its answer. Calls are pooled; one that its waiter
// abandoned is left to the garbage collector.
type call struct {
	home    *sync.Pool
	conn    *conn // where it was last sent, or is being sent
	cmd     smb2.Command
	flags   smb2.Flags
	treeID  uint32
	charge  uint16
	protect protection
	// long marks a request that waits for somebody else: Config.Timeout is not
	// for it. hold marks one whose memory the server may reach. Cancelling either
	// waits Config.CancelGrace for the answer, which may be a lock, or changes,
	// that must not be lost, or the end of the server's use of the memory.
	// once marks one that must not be sent again on another channel, stay one that
	// must not be sent on another even if it never left.
	long, hold, once, stay bool
	// lease is what a CREATE asks for; session is 1 more than the generation of the
	// session that the request is about, 0 for any.
	lease   *Lease
	session uint64
	// sh and file are what its numbers are of, if that is known; see address. uncertain
	// marks one that must not be sent again in a session that was made anew.
	sh        *Share
	file      *File
	opening   *opening // of a CREATE
	uncertain bool
	changes   bool // it changes the data of file
	// left says that it was given to a transport, so that the server may have it.
	left bool
	// resent says that it was sent again after its channel was lost.
	resent bool

	buf     []byte // header and body, appended to by the owner
	payload []byte // the caller's bytes that follow; nil after the message was sent
	sealed  []byte // the encrypted message
	out     transport.Message
	parts   [4][]byte
	self    [1]*call // the call as a slice
	info    []byte   // channel information, scratch for READ and WRITE

	// What was done to the request, and so is demanded of the answer. Written
	// before onWire is set, and not changed after.
	signed, encrypted bool

	// The fields up to after are guarded by conn.mu.
	state    callState
	id       uint64
	sequence uint16 // ChannelSequence
	need     int    // credits that a queued call waits for
	asyncID  uint64
	async    bool // an interim response came, with the credits
	onWire   bool // how it is protected is decided: an answer may come
	gone     bool // the waiter has given up
	expired  bool // deadline passed
	deadline time.Time
	next     *call // in the queue for credits
	// parked: its caller waits and does not receive; it is between before and after.
	// woken: it was answered then, and counts in conn.woken until it runs. turn: it is
	// to receive.
	parked, woken, turn bool
	before, after       *call

	// into is the caller's memory, of room octets, for the data of a READ; placed is how
	// many octets the connection has found for it, guarded by conn.mu. spoiled: the call
	// is not used again.
	into         transport.Placement
	room, placed int
	spoiled      bool

	ready chan struct{} // capacity 1: state or expired has changed

	// The answer, the waiter's after callAnswered.
	resp smb2.Header
	// answerSealed: it came encrypted.
	answerSealed bool
	msg          []byte // with header
	in           *inbound
	err          error // the connection's
}

// maxKept is the largest buffer that a pooled call keeps, in bytes: a request of
// 1 MiB with its headers.
const maxKept = 1<<20 + 4096

// inbound is a received message that several answers of a compound share.
type inbound struct {
	r    *transport.Received
	refs atomic.Int32
}

var inboundPool = sync.Pool{New: func() any { return new(inbound) }}

func newInbound(r *transport.Received) *inbound {
	in := inboundPool.Get().(*inbound)
	in.r = r
	in.refs.Store(1)
	return in
}

func (in *inbound) release() {
	if in.refs.Add(-1) == 0 {
		in.r.Release()
		in.r = nil
		inboundPool.Put(in)
	}
}

// newCall leases a call with room for the header in buf. It is given back by free.
func (conn *conn) newCall(cmd smb2.Command) *call { return conn.sess.newCall(cmd) }

func (s *Session) newCall(cmd smb2.Command) *call {
	c, _ := s.calls.Get().(*call)
	if c == nil {
		c = &call{home: &s.calls, ready: make(chan struct{}, 1), buf: make([]byte, 0, 512)}
		c.self[0] = c
	}
	c.cmd = cmd
	c.flags, c.treeID, c.charge, c.protect = 0, 0, 1, 0
	c.long, c.hold, c.once, c.stay, c.left, c.resent = false, false, false, false, false, false
	c.lease, c.session, c.sh, c.file, c.opening, c.uncertain, c.changes = nil, 0, nil, nil, nil, false, false
	c.buf = append(c.buf[:0], zeroHeader[:]...)
	c.payload = nil
	c.state = callIdle
	return c
}

var zeroHeader [smb2.HeaderSize]byte

// dropAnswer gives back the message of the answer, so that the call can be sent
// once more.
func (c *call) dropAnswer() {
	if c.in != nil {
		c.in.release()
	}
	c.in, c.msg, c.err = nil, nil, nil
}

// free gives the call and its answer back. An abandoned call belongs to the
// reader: there free does nothing.
func (c *call) free() {
	if c.gone {
		return
	}
	c.dropAnswer()
	if c.spoiled {
		return
	}
	if c.room > 0 {
		c.into.Revoke()
		c.room, c.placed = 0, 0
	}
	select {
	case <-c.ready:
	default:
	}
	c.lease, c.sh, c.file, c.opening = nil, nil, nil, nil
	c.payload, c.out.Parts, c.parts, c.conn = nil, nil, [4][]byte{}, nil
	if cap(c.sealed) > maxKept {
		c.sealed = nil
	}
	if cap(c.buf) > maxKept {
		c.buf = nil
	}
	c.async, c.expired, c.signed, c.encrypted = false, false, false, false
	c.home.Put(c)
}

// wake tells the waiter to look. Called with conn.mu held.
func (c *call) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// body is an AppendBinary method's receiver.
type body interface {
	AppendBinary(b []byte) ([]byte, error)
}

// encode appends the body of the request.
func (c *call) encode(m body) error {
	b, err := m.AppendBinary(c.buf)
	if err != nil {
		return err
	}
	c.buf = b
	return nil
}
