package model

import (
	"fmt"
	"time"
)

// Side names an end.
type Side uint8

// The two ends.
const (
	A Side = iota
	B
)

// Other is the end across.
func (s Side) Other() Side { return 1 - s }

// String is "A" or "B".
func (s Side) String() string { return string('A' + rune(s)) }

// Kind says what happened.
type Kind uint8

// The kinds of event. Fields not named are not looked at.
const (
	// Start: the end begins; its negotiation timer runs.
	Start Kind = iota + 1
	// Post: of Asked receives of Size bytes N were posted. A whole connection
	// posts one by one, and says -1 where the adapter refused the one before.
	Post
	// Send: Bytes are sent, a negotiate or Data Transfer message, invalidating
	// Token if HasToken. ID is the message of the payload.
	Send
	// Arrive: Bytes arrive; the adapter invalidated Token if HasToken.
	Arrive
	// Deliver: as a consequence Bytes, at Offset of a message of Total, are handed
	// up; with Last, Token goes with the message if HasToken.
	Deliver
	// Complete: N sends are done.
	Complete
	// Submit: message ID with Bytes, and Token if HasToken, is queued; Result says
	// how that ended.
	Submit
	// Cancel: message ID is taken out of the queue if Result is Accepted.
	Cancel
	// HoldOn and HoldOff: the user is behind, or no longer.
	HoldOn
	HoldOff
	// Connected: the negotiation is done. Interval and Timeout are the end's
	// keepalive times with this peer. MaxRequested and MaxFragmented, if not
	// 0, bound the credits that it asks this peer for and the messages to it, and Reserve is how many send credits it may keep
	// for messages that grant or answer.
	Connected
	// Terminate: the end ends the connection, for Cause.
	Terminate
	// Lost: the end is told that the connection is gone.
	Lost
	// Rest: the end has done what it can do now; Claim is how it counts.
	Rest
	// Tick: time has passed.
	Tick
	// Tamper: somebody changes, drops or repeats a message on the way.
	Tamper
	// Still: nothing is on the way and no send is under way.
	Still
)

var kindNames = [...]string{
	Start: "start", Post: "post", Send: "send", Arrive: "arrive", Deliver: "deliver", Complete: "complete", Submit: "submit", Cancel: "cancel",
	HoldOn: "hold", HoldOff: "resume", Connected: "connected", Terminate: "terminate", Lost: "lost", Rest: "rest", Tick: "tick", Tamper: "tamper", Still: "still",
}

// Result is how a local call ended.
type Result uint8

// The results of Submit and Cancel.
const (
	Accepted Result = iota
	Full            // SendQueue is full
	TooLong         // empty, or longer than the peer takes
	Closed          // not established
	NotFound        // Cancel: not in the queue, or begun
)

// Cause is why an end ends a connection.
type Cause uint8

// The causes.
const (
	_                Cause = iota
	Protocol               // a forbidden message
	Refused                // a version that is not supported: answered, then ended
	NegotiateTimeout       // 3.1.6.1
	IdleTimeout            // 3.1.6.2
	CreditTimeout          // 3.1.5.1
	NoReceives             // the adapter takes no receive
)

var causeNames = [...]string{"none", "protocol", "refused", "negotiate timeout", "idle timeout", "credit timeout", "no receives"}

// String names the cause.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return fmt.Sprintf("cause %d", uint8(c))
}

// Claim is how an end counts, to be compared with the model. Sizes are in bytes.
type Claim struct {
	Valid                           bool
	SendCredits, ReceiveCredits     int
	NewCredits, Target, Queued      int
	SendSize, ReceiveSize, FragSend uint32
	Remaining                       uint32
}

// Event is one thing that happened at an end.
type Event struct {
	At                    time.Duration
	End                   Side
	Kind                  Kind
	N, Asked              int
	Size                  uint32
	ID                    uint64
	Bytes                 []byte
	Offset                uint32
	Total                 uint32
	Last                  bool
	Token                 uint32
	HasToken              bool
	Result                Result
	Cause                 Cause
	Interval              time.Duration
	Timeout               time.Duration
	MaxRequested, Reserve int
	MaxFragmented         uint32
	Claim                 Claim
}

// String is a line for a person.
func (e *Event) String() string {
	s := fmt.Sprintf("%v %v %s", e.At, e.End, kindNames[e.Kind])
	switch e.Kind {
	case Post:
		s += fmt.Sprintf(" %d of %d x %d", e.N, e.Asked, e.Size)
	case Send, Arrive:
		if d, ok := parse(e.Bytes); ok {
			s += fmt.Sprintf(" req=%d grant=%d flags=%d data=%d remaining=%d", d.CreditsRequested, d.CreditsGranted, d.Flags, d.DataLength, d.RemainingDataLength)
		} else {
			s += fmt.Sprintf(" %d bytes", len(e.Bytes))
		}
	case Submit:
		s += fmt.Sprintf(" %d: %d bytes, result %d", e.ID, len(e.Bytes), e.Result)
	case Deliver:
		s += fmt.Sprintf(" [%d:%d] of %d, last %v", e.Offset, int(e.Offset)+len(e.Bytes), e.Total, e.Last)
	case Cancel:
		s += fmt.Sprintf(" %d, result %d", e.ID, e.Result)
	case Complete:
		s += fmt.Sprintf(" %d", e.N)
	case Terminate:
		s += ": " + e.Cause.String()
	}
	return s
}
