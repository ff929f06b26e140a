package core

import (
	"fmt"
	"time"
)

// Role is Connection.Role, 3.1.1.1.
type Role uint8

// The roles. Closed is ours: after it no input has an effect.
const (
	Active Role = iota + 1
	Passive
	Established
	Closed
)

// String prints the role as the specification spells it.
func (r Role) String() string {
	switch r {
	case Active:
		return "ACTIVE"
	case Passive:
		return "PASSIVE"
	case Established:
		return "ESTABLISHED"
	case Closed:
		return "CLOSED"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// legal lists where each role may go.
var legal = [...][]Role{
	Active:      {Established, Closed},
	Passive:     {Established, Closed},
	Established: {Closed},
	Closed:      nil,
}

// Keepalive is Connection.KeepaliveRequested, 3.1.1.1.
type Keepalive uint8

// The keepalive states.
const (
	None Keepalive = iota
	Pending
	Sent
)

// String prints the state as the specification spells it.
func (k Keepalive) String() string {
	switch k {
	case None:
		return "NONE"
	case Pending:
		return "PENDING"
	case Sent:
		return "SENT"
	}
	return fmt.Sprintf("Keepalive(%d)", uint8(k))
}

// Credits counts credits. It cannot wrap: sums stop at maxCredits, which is more
// than any connection can use (SD-76).
type Credits uint32

const maxCredits Credits = 1 << 24

func (c Credits) plus(n Credits) Credits { return min(c+min(n, maxCredits), maxCredits) }

// Connection is the state of 3.1.1.1, but for the queues. Sizes are in bytes.
type Connection struct {
	Protocol              uint16
	Role                  Role
	MaxSendSize           uint32
	MaxReceiveSize        uint32
	MaxFragmentedSendSize uint32
	MaxFragmentedRecvSize uint32
	MaxReadWriteSize      uint32
	SendCreditTarget      Credits
	SendCredits           Credits
	ReceiveCreditMax      Credits
	ReceiveCreditTarget   Credits
	// ReceiveCredits is the number of receives posted for the peer's messages,
	// NewCredits how many of them it has not been told of.
	ReceiveCredits              Credits
	NewCredits                  Credits
	FragmentReassemblyRemaining uint32
	InvalidatedToken            uint32
	HasInvalidatedToken         bool
	KeepaliveInterval           time.Duration
	KeepaliveRequested          Keepalive
	SendImmediate               bool
}

// message is an entry of SendQueue: an SMB2 message that is being sent.
type message struct {
	id       uint64
	len, off uint32
	token    uint32
	hasToken bool
	stalled  bool
}

// queue is a ring of messages that grows up to its limit.
type queue struct {
	ring    []message
	head, n int
	limit   int
}

func (q *queue) front() *message { return &q.ring[q.head] }

// push reports false if the queue is full.
func (q *queue) push(m message) bool {
	if q.n == q.limit {
		return false
	}
	if q.n == len(q.ring) {
		bigger := make([]message, min(max(8, 2*q.n), q.limit))
		k := copy(bigger, q.ring[q.head:])
		copy(bigger[k:], q.ring[:q.head])
		q.ring, q.head = bigger, 0
	}
	q.ring[(q.head+q.n)%len(q.ring)] = m
	q.n++
	return true
}

func (q *queue) pop() {
	q.head = (q.head + 1) % len(q.ring)
	q.n--
}

// remove takes out the message id if none of it was sent.
func (q *queue) remove(id uint64) bool {
	for i := range q.n {
		m := &q.ring[(q.head+i)%len(q.ring)]
		if m.id != id {
			continue
		}
		if m.off > 0 {
			return false
		}
		for ; i < q.n-1; i++ {
			q.ring[(q.head+i)%len(q.ring)] = q.ring[(q.head+i+1)%len(q.ring)]
		}
		q.n--
		return true
	}
	return false
}
