package model

import (
	"bytes"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

const (
	negotiateReceive = 512 // at least; 3.1.4.1, 3.1.7.2
	payloadAt        = 24  // DataOffset of a message with payload, 3.1.5.4
)

// post is a receive, or several.
func (m *Model) post(e *end, ev *Event) {
	if !e.heard {
		obey(ev.Size >= negotiateReceive, Negotiation, "a receive of %d bytes for the negotiation", ev.Size)
		if ev.N < 0 {
			e.negotiatePosted = false
			return
		}
		obey(!e.negotiatePosted && ev.N <= 1, Negotiation, "more than one receive for the negotiation")
		e.negotiatePosted = ev.N == 1
		e.short = ev.N < ev.Asked
		return
	}
	obey(ev.Size == e.recvSize, OneReceive, "a receive of %d bytes, %d negotiated", ev.Size, e.recvSize)
	before := e.p
	e.p += int64(ev.N)
	e.short = ev.N < ev.Asked
	if e.short {
		m.stats.Shortfalls++
		e.room = max(int(e.p), 1) // the adapter has less room than it said
	} else if e.p > int64(e.room)+1 {
		e.room = e.ReceiveCreditMax // it has more again; one more may be the spare one
	}
	if e.Foreign || ev.N <= 0 {
		return
	}
	if e.phase == negotiating {
		obey(e.p <= e.spareMax(), Limit, "%d receives posted, ReceiveCreditMax is %d", e.p, e.ReceiveCreditMax)
		obey(e.p <= e.wish(), Target, "%d posted; the peer wants %d", e.p, e.wish())
		return
	}
	if !e.Prompt {
		// What was polled from a whole connection's queue, the connection may not
		// have looked at yet: it knows of fewer credits than the model.
		return
	}
	spare := e.credits() == 1 && e.unannounced() == 1
	if e.p > e.wish() || e.p > e.least() && spare {
		obey(spare, Target, "%d posted, %d before; the peer wants %d", e.p, before, e.wish())
		m.stats.Spares++
	}
	if e.held {
		// A peer without a credit may be lent one out of the reserve.
		lent := e.credits() <= e.reserve && e.outstanding() == 0 && e.unannounced() == 1
		obey(spare || lent, Hold, "%d receives posted while the user is behind", ev.N)
	}
}

// send is any message.
func (m *Model) send(e, o *end, ev *Event) {
	e.out++
	if !m.forged && !o.Foreign {
		e.onWire = append(e.onWire, flight{bytes.Clone(ev.Bytes), ev.Token, ev.HasToken})
	}
	if e.Foreign {
		return
	}
	if e.phase == negotiating {
		m.sendNegotiate(e, ev)
		if e.answered && !e.Prompt && !e.refuse && e.p > 0 {
			m.open(e, ev)
		}
		return
	}
	if e.requested == 0 {
		e.requested = int(parseRequested(ev.Bytes)) // of a whole connection; it stays
		obey(e.requested > 0 && e.requested <= e.SendCreditTarget, Request, "%d credits requested, target %d", e.requested, e.SendCreditTarget)
	}
	obey(e.phase == established, Negotiation, "a message before the negotiation")
	h, ok := parse(ev.Bytes)
	obey(ok, Octets, "a message of %d bytes", len(ev.Bytes))
	c := e.credits()
	obey(c >= 1, Credit, "sent with %d credits", c)
	obey(c > 1 || h.CreditsGranted > 0, LastCredit, "the last credit goes without a grant")
	obey(int(h.CreditsRequested) == e.requested, Request, "%d credits requested, target %d", h.CreditsRequested, e.requested)
	obey(uint32(len(ev.Bytes)) <= e.sendSize, Size, "%d bytes, %d negotiated", len(ev.Bytes), e.sendSize)
	e.s++
	e.g += int64(h.CreditsGranted)
	obey(e.outstanding() <= e.p, PostedFirst, "%d granted in all, %d posted", e.outstanding(), e.p)
	// A whole connection may hold a send back while it posts receives for the next.
	obey(e.unannounced() == 0 || !e.Prompt, Announced, "%d receives are posted and not announced", e.unannounced())
	limit := int64(e.ReceiveCreditMax)
	if c == 1 || !e.Prompt {
		limit = e.spareMax()
	}
	obey(h.CreditsGranted == 0 || e.outstanding() <= limit, Limit, "%d outstanding, limit %d", e.outstanding(), limit)
	if !e.held && !e.short && e.Prompt {
		obey(e.p >= e.least(), Target, "%d receives are posted before a send, the peer wants %d", e.p, e.least())
	}
	if e.Role == Initiator && !e.first {
		obey(h.CreditsGranted > 0, FirstGrant, "the first Data Transfer grants nothing")
	}
	e.first = true
	m.sendFlags(e, h, ev)
	m.sendPayload(e, o, h, ev)
	e.answer, e.blocked, e.emptied = false, false, false
	m.stats.Sends++
	m.stats.Grants += uint64(h.CreditsGranted)
}

// parseRequested is the CreditsRequested of a Data Transfer message.
func parseRequested(b []byte) uint16 {
	h, _ := parse(b)
	return h.CreditsRequested
}

// sendFlags is 3.1.5.1 and 3.1.6.2: a probe is sent when the peer was silent for
// the interval, once.
func (m *Model) sendFlags(e *end, h wire.DataTransfer, ev *Event) {
	obey(h.Flags&^wire.FlagResponseRequested == 0, Keepalive, "flags %#x", h.Flags)
	if h.Flags == 0 {
		return
	}
	obey(!e.probing, Keepalive, "a second probe")
	if e.Slack >= 0 {
		obey(ev.At >= e.arrivedAt+e.interval, Keepalive, "a probe %v after the latest message, interval %v", ev.At-e.arrivedAt, e.interval)
	}
	e.probing, e.probeAt = true, ev.At
	m.stats.Probes++
	m.stir(ev)
}

func (m *Model) sendPayload(e, o *end, h wire.DataTransfer, ev *Event) {
	if h.DataLength == 0 {
		obey(h.DataOffset == 0 && h.RemainingDataLength == 0, Octets, "an empty message with offset %d, remaining %d", h.DataOffset, h.RemainingDataLength)
		obey(len(ev.Bytes) == wire.DataTransferSize, Octets, "an empty message of %d bytes", len(ev.Bytes))
		obey(e.following == 0, Octets, "an empty message while %d octets of another are to follow", e.following)
		obey(!ev.HasToken, Token, "a token with an empty message")
		m.stats.Empties++
		m.empties++
		if min(e.target, o.target, e.room, o.room) >= 2 && !o.Foreign {
			obey(m.empties <= quietRun, Quiet, "%d messages without payload in a row", m.empties)
		}
		return
	}
	m.stir(ev)
	obey(h.DataOffset == payloadAt, Octets, "DataOffset %d", h.DataOffset)
	p, ok := h.Payload(ev.Bytes)
	obey(ok && int(payloadAt+h.DataLength) == len(ev.Bytes), Octets, "%d octets of payload in %d bytes", h.DataLength, len(ev.Bytes))
	obey(e.following == 0 || e.following == uint64(h.DataLength)+uint64(h.RemainingDataLength), Octets, "%d and %d octets, %d were to follow", h.DataLength, h.RemainingDataLength, e.following)
	e.following = uint64(h.RemainingDataLength)
	if !e.Prompt { // what it submits is not told
		obey(!ev.HasToken || e.following == 0, Token, "a token with a fragment that is not the last")
		if ev.HasToken {
			m.stats.Tokens++
		}
		return
	}
	obey(len(e.queue) > 0, Octets, "payload of nothing that waits")
	q := &e.queue[0]
	obey(q.id == ev.ID, Octets, "payload of message %d, %d is next", ev.ID, q.id)
	rest := len(q.data) - q.sent
	obey(len(p) == min(rest, int(e.sendSize)-payloadAt), Octets, "a fragment of %d octets, %d are left and %d fit", len(p), rest, e.sendSize-payloadAt)
	obey(bytes.Equal(p, q.data[q.sent:q.sent+len(p)]), Octets, "octets of message %d at %d are not its own", q.id, q.sent)
	q.sent += len(p)
	obey(int(h.RemainingDataLength) == len(q.data)-q.sent, Octets, "RemainingDataLength %d, %d octets follow", h.RemainingDataLength, len(q.data)-q.sent)
	if q.sent < len(q.data) {
		obey(!ev.HasToken, Token, "a token with a fragment that is not the last")
		m.stats.Fragments++
		return
	}
	obey(ev.HasToken == q.hasToken && (!q.hasToken || ev.Token == q.token), Token, "token %#x (%v), submitted with %#x (%v)", ev.Token, ev.HasToken, q.token, q.hasToken)
	e.toCome = append(e.toCome, *q)
	e.queue = e.queue[1:]
	m.stats.Messages++
}

func (m *Model) submit(e *end, ev *Event) {
	n := len(ev.Bytes)
	want := Accepted
	switch {
	case e.phase != established:
		want = Closed
	case n == 0 || uint64(n) > uint64(e.fragSend):
		want = TooLong
	case e.QueueDepth > 0 && len(e.queue) >= e.QueueDepth:
		want = Full
	}
	obey(ev.Result == want, Queues, "submit of %d bytes ended with result %d, want %d; %d wait", n, ev.Result, want, len(e.queue))
	if want != Accepted {
		m.stats.Refusals++
		return
	}
	m.stir(ev)
	e.queue = append(e.queue, message{id: ev.ID, data: ev.Bytes, token: ev.Token, hasToken: ev.HasToken})
	if ev.HasToken {
		m.stats.Tokens++
	}
}

func (m *Model) cancel(e *end, ev *Event) {
	for i := range e.queue {
		if e.queue[i].id != ev.ID {
			continue
		}
		obey((e.queue[i].sent == 0) == (ev.Result == Accepted), Queues, "cancel of message %d, of which %d octets are out, ended with result %d", ev.ID, e.queue[i].sent, ev.Result)
		if ev.Result == Accepted {
			e.queue = append(e.queue[:i:i], e.queue[i+1:]...)
			m.stats.Cancels++
		}
		return
	}
	obey(ev.Result == NotFound, Queues, "message %d was cancelled, which is not in the queue", ev.ID)
}
