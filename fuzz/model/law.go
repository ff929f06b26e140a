package model

import "fmt"

// Law is a rule of the model. The first fifteen are those of a direction of a
// connection; the others come from the state machines around them.
type Law uint8

// The laws.
const (
	_            Law = iota
	Credit           // nothing is sent without a send credit (3.1.5.1)
	Conservation     // no credit is lost or made on the way; both ends count as the model does
	PostedFirst      // never more is granted than is posted (3.1.5.9)
	Limit            // ReceiveCreditMax bounds what is posted and granted, but for one spare
	LastCredit       // a message that takes the last send credit grants (3.1.5.1)
	Announced        // after a send no posted receive is unannounced (3.1.5.1)
	Target           // the peer's latest wish is raised to, and never takes anything back (3.1.5.8, 3.1.5.9)
	Request          // CreditsRequested is the target for send credits, never 0 (3.1.5.1)
	OneReceive       // messages arrive in order, each into one receive of the negotiated size
	FirstGrant       // Response and first Data Transfer of an initiator grant at least one
	Progress         // what can be sent is sent; no deadlock while an end has something to say
	Quiet            // two ends with nothing to say fall silent
	Octets           // what is submitted is delivered: every octet, once, in order (3.1.5.4, 3.1.5.8)
	Token            // a token goes with one message, once, with its last fragment
	AfterEnd         // nothing happens at an end that has ended
	Keepalive        // probes are sent when due, answered, and not bounced (3.1.5.1, 3.1.6.2)
	Size             // no message is longer than what was negotiated (3.1.5.4)
	Deadline         // no wait is longer than its limit (3.1.6)
	Reaction         // a forbidden message ends the connection, an allowed one does not (3.1.5.6 to 3.1.5.8)
	Hold             // an end that is behind posts nothing but the spare
	Queues           // SendQueue and the sends under way keep to their limits; local errors (3.1.4.2)
	Negotiation      // the negotiate messages and what follows from them (3.1.5.2 to 3.1.5.7)
	Refill           // a peer that sends payload gets credits back before it has none (3.1.5.8)
	laws
)

var lawNames = [laws]string{
	Credit: "credit", Conservation: "conservation", PostedFirst: "posted first", Limit: "limit", LastCredit: "last credit",
	Announced: "announced", Target: "target", Request: "request", OneReceive: "one receive", FirstGrant: "first grant",
	Progress: "progress", Quiet: "quiet", Octets: "octets", Token: "token", AfterEnd: "after the end", Keepalive: "keepalive",
	Size: "size", Deadline: "deadline", Reaction: "reaction", Hold: "hold", Queues: "queues", Negotiation: "negotiation", Refill: "refill",
}

// Laws lists all laws.
func Laws() []Law {
	all := make([]Law, 0, laws-1)
	for l := Law(1); l < laws; l++ {
		all = append(all, l)
	}
	return all
}

// String is the law's number and name.
func (l Law) String() string {
	if l == 0 || l >= laws {
		return fmt.Sprintf("law %d", uint8(l))
	}
	return fmt.Sprintf("law %d (%s)", uint8(l), lawNames[l])
}

// Violation is a law broken by an event.
type Violation struct {
	Law    Law
	Index  int // of the event, from 0
	Event  string
	Detail string
	Ends   [2]string // the books of both ends
}

// Error names law, event and the books of both ends.
func (v *Violation) Error() string {
	return fmt.Sprintf("%v broken by event %d (%s): %s\n  A: %s\n  B: %s", v.Law, v.Index, v.Event, v.Detail, v.Ends[A], v.Ends[B])
}

// broken is how a rule reports from the depth of the model; Apply catches it.
type broken struct {
	law    Law
	detail string
}

func breach(l Law, format string, args ...any) { panic(broken{l, fmt.Sprintf(format, args...)}) }

// obey is breach unless ok.
func obey(ok bool, l Law, format string, args ...any) {
	if !ok {
		breach(l, format, args...)
	}
}
