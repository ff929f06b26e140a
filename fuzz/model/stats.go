package model

import (
	"fmt"
	"strings"
)

// Stats counts what the model saw, to tell whether a run went where it should.
type Stats struct {
	Events                    uint64
	Sends, Receives           uint64 // Data Transfer messages
	Empties, Fragments        uint64 // without payload; not the last of their message
	Messages, Delivered       uint64 // SMB2 messages
	Grants                    uint64 // credits
	Spares                    uint64 // receives posted above the target for the last credit
	Stalls                    uint64 // waits for send credits
	Delayed                   uint64 // waits of a peer that has no credit at all
	Probes, Asked             uint64 // keepalive messages sent and received
	Holds, Shortfalls         uint64
	Tokens, Cancels, Refusals uint64
	Interleaved, Forbidden    uint64 // empty messages between fragments; forbidden messages
	Lost                      uint64
	Ends                      [NoReceives + 1]uint64 // by Cause
}

// fields are the counters with their names, in order.
func (s *Stats) fields() []struct {
	name string
	v    *uint64
} {
	return []struct {
		name string
		v    *uint64
	}{
		{"events", &s.Events}, {"sends", &s.Sends}, {"receives", &s.Receives}, {"empty messages", &s.Empties}, {"fragments", &s.Fragments},
		{"messages", &s.Messages}, {"delivered", &s.Delivered}, {"credits granted", &s.Grants}, {"spare receives", &s.Spares},
		{"stalls for credits", &s.Stalls}, {"grants held back", &s.Delayed}, {"probes", &s.Probes}, {"probes answered", &s.Asked},
		{"holds", &s.Holds}, {"short posts", &s.Shortfalls}, {"tokens", &s.Tokens}, {"cancels", &s.Cancels}, {"refused submits", &s.Refusals},
		{"interleaved empty messages", &s.Interleaved}, {"forbidden messages", &s.Forbidden}, {"connections lost", &s.Lost},
		{"ends: protocol", &s.Ends[Protocol]}, {"ends: refused", &s.Ends[Refused]}, {"ends: negotiate timeout", &s.Ends[NegotiateTimeout]},
		{"ends: idle timeout", &s.Ends[IdleTimeout]}, {"ends: credit timeout", &s.Ends[CreditTimeout]}, {"ends: no receives", &s.Ends[NoReceives]},
	}
}

// Add adds t to s.
func (s *Stats) Add(t Stats) {
	from := t.fields()
	for i, f := range s.fields() {
		*f.v += *from[i].v
	}
}

// Missing names the counters that are 0: states that were not reached.
func (s *Stats) Missing() []string {
	var none []string
	for _, f := range s.fields() {
		if *f.v == 0 {
			none = append(none, f.name)
		}
	}
	return none
}

// String is one line of all counters.
func (s *Stats) String() string {
	var b strings.Builder
	for i, f := range s.fields() {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d", f.name, *f.v)
	}
	return b.String()
}
