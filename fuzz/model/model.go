package model

import (
	"fmt"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// Role of an end.
type Role uint8

// The roles.
const (
	Initiator Role = iota + 1
	Acceptor
)

// End is what is known of an end before it starts: its settings, [MS-SMBD]
// 3.1.1.1, in bytes and credits.
type End struct {
	Role                      Role
	Foreign                   bool // a peer of another make: not judged, no events needed
	Prompt                    bool // says when it rests
	Deliveries                bool // tells what it delivers
	ReceiveCreditMax          int
	SendCreditTarget          int
	MaxSendSize               uint32
	MaxReceiveSize            uint32
	MaxFragmentedSize         uint32
	SendDepth, QueueDepth     int // 0: not known
	NegotiateTimeout          time.Duration
	KeepaliveInterval         time.Duration
	CreditTimeout, GrantDelay time.Duration
	// Slack is how late its timers may run. Negative: the time is not looked at.
	Slack time.Duration
}

// quietRun is how many messages without payload two ends may exchange after the
// last event that calls for one.
const quietRun = 16

type phase uint8

const (
	idle phase = iota
	negotiating
	established
	closed
)

var phaseNames = [...]string{"idle", "negotiating", "established", "closed"}

// message is one that was submitted: of which sent octets are out, and got have
// been delivered across.
type message struct {
	id       uint64
	data     []byte
	sent     int
	token    uint32
	hasToken bool
}

// flight is a message on the way.
type flight struct {
	bytes    []byte
	token    uint32
	hasToken bool
}

// end is the books of one end.
type end struct {
	End
	name  Side
	phase phase

	s, h      int64  // as a sender
	g, r, p   int64  // as a receiver
	following uint64 // octets that the message begun has to go
	first     bool   // an initiator's first Data Transfer is out
	out       int    // sends not completed

	negotiatePosted bool
	negotiateSent   bool
	heard           bool // the negotiate message of the peer arrived
	answered        bool // the acceptor's response is out
	target          int
	requested       int // of the peer, in every message
	reserve         int64
	sendSize        uint32
	recvSize        uint32
	fragSend        uint32

	queue  []message // submitted, not sent in whole
	onWire []flight  // sent, not arrived
	toCome []message // sent in whole, not delivered across

	// reassembly
	missing    uint64
	total, got uint64
	partial    []byte
	token      uint32
	hasToken   bool
	delivery   *Event // what has to be delivered now; nil: nothing

	held    bool
	room    int  // ReceiveCreditMax, or what an adapter that took fewer receives had room for
	short   bool // the adapter took fewer receives than asked; cleared by a full post
	doomed  bool // a forbidden message arrived
	refuse  bool // an unsupported version arrived
	why     string
	answer  bool // a flagged message is not answered
	resumed bool // HoldOff since the last rest
	payload bool // payload arrived since the last rest

	began     time.Duration // negotiation
	arrivedAt time.Duration // the latest arrival
	interval  time.Duration
	timeout   time.Duration
	probeAt   time.Duration // when the probe was sent
	probing   bool
	blockedAt time.Duration // since when something waits for credits
	blocked   bool
	emptyAt   time.Duration // since when the peer has no credit at all
	emptied   bool
}

func (e *end) credits() int64     { return e.h - e.s }
func (e *end) outstanding() int64 { return e.g - e.r }
func (e *end) unannounced() int64 { return e.p - e.outstanding() }

// hasRoom reports whether the adapter is known to take another receive.
func (e *end) hasRoom() bool {
	return !e.short && e.p < e.spareMax() && (e.room == e.ReceiveCreditMax || e.p < int64(e.room))
}

// spareMax is what is ever posted: a maximum of 1 to 3 may be exceeded by one,
// without which two ends with a single credit could not speak.
func (e *end) spareMax() int64 {
	if e.ReceiveCreditMax < 4 {
		return int64(e.ReceiveCreditMax) + 1
	}
	return int64(e.ReceiveCreditMax)
}

// wish is the peer's target as far as our limit allows.
func (e *end) wish() int64 { return int64(min(e.target, e.ReceiveCreditMax)) }

// least is what has to be posted for the peer at least: of a maximum of 4 and
// more one may be kept in reserve.
func (e *end) least() int64 {
	if e.room >= 4 {
		return int64(min(e.target, e.room-1))
	}
	return int64(min(e.target, e.room))
}

func (e *end) String() string {
	return fmt.Sprintf("%s S=%d H=%d C=%d | R=%d G=%d O=%d P=%d N=%d target=%d max=%d | queue=%d out=%d wire=%d missing=%d held=%v short=%v blocked=%v probing=%v",
		phaseNames[e.phase], e.s, e.h, e.credits(), e.r, e.g, e.outstanding(), e.p, e.unannounced(), e.target, e.ReceiveCreditMax,
		len(e.queue), e.out, len(e.onWire), e.missing, e.held, e.short, e.blocked, e.probing)
}

// Model is the books of a connection.
type Model struct {
	ends    [2]end
	index   int
	hash    uint64
	forged  bool
	now     time.Duration
	calmAt  time.Duration // the latest event that is not silence
	empties int
	failed  *Violation
	stats   Stats
}

// New makes a model of a connection between two ends. One of them is the
// initiator.
func New(a, b End) *Model {
	if a.Role == b.Role {
		panic("model: two ends of one role")
	}
	m := &Model{hash: 14695981039346656037}
	m.ends[A] = end{End: a, name: A, room: a.ReceiveCreditMax}
	m.ends[B] = end{End: b, name: B, room: b.ReceiveCreditMax}
	m.forged = a.Foreign || b.Foreign
	return m
}

// Stats returns what was seen so far.
func (m *Model) Stats() Stats { return m.stats }

// Hash is a digest of all events so far.
func (m *Model) Hash() uint64 { return m.hash }

// Err is the first violation, nil if there is none.
func (m *Model) Err() error {
	if m.failed == nil {
		return nil
	}
	return m.failed
}

// Undelivered is the number of messages that were submitted at s and not yet
// delivered across.
func (m *Model) Undelivered(s Side) int { return len(m.ends[s].queue) + len(m.ends[s].toCome) }

// SendCredits is what s may send, Outstanding what it has granted and not
// received, and Posted the receives that are posted at s.
func (m *Model) SendCredits(s Side) int { return int(m.ends[s].credits()) }

// Outstanding is described at SendCredits.
func (m *Model) Outstanding(s Side) int { return int(m.ends[s].outstanding()) }

// Posted is described at SendCredits.
func (m *Model) Posted(s Side) int { return int(m.ends[s].p) }

// Apply takes an event and returns the law that it breaks, as a *Violation. After
// that the model is of no more use and returns the same again.
func (m *Model) Apply(ev *Event) (err error) {
	if m.failed != nil {
		return m.failed
	}
	defer func() {
		if r := recover(); r != nil {
			b, ok := r.(broken)
			if !ok {
				panic(r)
			}
			m.failed = &Violation{Law: b.law, Index: m.index - 1, Event: ev.String(), Detail: b.detail, Ends: [2]string{m.ends[A].String(), m.ends[B].String()}}
			err = m.failed
		}
	}()
	m.index++
	m.mix(ev)
	m.now = max(m.now, ev.At)
	m.deadlines(ev)
	e, o := &m.ends[ev.End], &m.ends[ev.End.Other()]
	if e.phase == closed {
		switch ev.Kind {
		case Post, Send, Deliver, Connected, Terminate:
			obey(e.Foreign, AfterEnd, "%s at an end that has ended", kindNames[ev.Kind])
		case Submit:
			obey(ev.Result != Accepted, AfterEnd, "a message is accepted")
		}
		if ev.Kind != Still && ev.Kind != Tick && ev.Kind != Tamper {
			return nil
		}
	}
	switch ev.Kind {
	case Start:
		e.phase, e.began = negotiating, ev.At
	case Post:
		m.post(e, ev)
	case Send:
		m.send(e, o, ev)
	case Arrive:
		m.arrive(e, o, ev)
	case Deliver:
		m.deliver(e, o, ev)
	case Complete:
		e.out -= ev.N
		obey(e.out >= 0, Queues, "more sends complete than were sent")
	case Submit:
		m.submit(e, ev)
	case Cancel:
		m.cancel(e, ev)
	case HoldOn:
		e.held = true
		m.stats.Holds++
	case HoldOff:
		e.held, e.resumed = false, e.held || e.resumed
		m.stir(ev)
	case Connected:
		m.connected(e, ev)
	case Terminate:
		m.terminate(e, ev)
	case Lost:
		e.phase = closed
		m.stats.Lost++
	case Rest:
		m.rest(e, ev)
	case Tamper:
		m.forged = true
	case Still:
		m.still(ev)
	}
	if ev.Kind != Terminate && ev.Kind != Lost && ev.Kind != Tick && ev.Kind != Still {
		m.books(e)
	}
	return nil
}

// mix adds an event to the digest.
func (m *Model) mix(ev *Event) {
	m.stats.Events++
	w := func(v uint64) { m.hash = (m.hash ^ v) * 1099511628211 }
	w(uint64(ev.At))
	w(uint64(ev.Kind)<<8 | uint64(ev.End))
	w(uint64(ev.N)<<32 | uint64(ev.Size))
	w(uint64(len(ev.Bytes))<<32 | uint64(ev.Offset))
	for _, b := range ev.Bytes[:min(len(ev.Bytes), wire.DataTransferSize)] {
		w(uint64(b))
	}
	w(uint64(ev.Cause)<<8 | uint64(ev.Result))
}

// stir notes that something happened which others may answer.
func (m *Model) stir(ev *Event) { m.empties, m.calmAt = 0, ev.At }

// books checks what holds of an end at any time.
func (m *Model) books(e *end) {
	if e.Foreign || e.phase != established || e.doomed {
		return
	}
	obey(e.credits() >= 0, Credit, "%d sent with %d credits heard of", e.s, e.h)
	obey(e.p >= e.outstanding(), PostedFirst, "%d granted, %d posted", e.outstanding(), e.p)
	obey(e.p <= e.spareMax(), Limit, "%d receives posted, ReceiveCreditMax is %d", e.p, e.ReceiveCreditMax)
	obey(e.SendDepth == 0 || e.out <= e.SendDepth, Queues, "%d sends under way, limit %d", e.out, e.SendDepth)
	obey(e.QueueDepth == 0 || len(e.queue) <= e.QueueDepth, Queues, "%d messages in SendQueue, limit %d", len(e.queue), e.QueueDepth)
}

func parse(b []byte) (wire.DataTransfer, bool) {
	h, err := wire.ParseDataTransfer(b)
	return h, err == nil
}
