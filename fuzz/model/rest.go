package model

import "time"

// rest checks what an end must have done by now.
func (m *Model) rest(e *end, ev *Event) {
	if e.Foreign {
		return
	}
	m.settleDelivery(e)
	if e.doomed || e.refuse {
		breach(Reaction, "the connection goes on after %s", map[bool]string{true: e.why, false: "a version that is not supported"}[e.doomed])
	}
	if e.phase == negotiating && e.heard {
		breach(Negotiation, "the negotiate message has no effect")
	}
	if e.phase != established {
		return
	}
	m.claims(e, ev)
	m.progress(e, ev)
	e.payload, e.resumed = false, false
}

// claims compares the end's counters with the books.
func (m *Model) claims(e *end, ev *Event) {
	c := &ev.Claim
	if !c.Valid {
		return
	}
	obey(int64(c.SendCredits) == e.credits(), Conservation, "the end counts %d send credits", c.SendCredits)
	obey(int64(c.ReceiveCredits) == e.p, Conservation, "the end counts %d receives", c.ReceiveCredits)
	obey(int64(c.NewCredits) == e.unannounced(), Conservation, "the end counts %d receives to announce", c.NewCredits)
	obey(c.Target == e.target, Target, "the end's target is %d", c.Target)
	obey(c.Queued == len(e.queue), Queues, "the end counts %d messages in its queue", c.Queued)
	obey(c.SendSize == e.sendSize && c.ReceiveSize == e.recvSize && c.FragSend == e.fragSend, Negotiation, "the end's sizes are %d, %d, %d; want %d, %d, %d", c.SendSize, c.ReceiveSize, c.FragSend, e.sendSize, e.recvSize, e.fragSend)
	obey(uint64(c.Remaining) == e.missing, Octets, "the end misses %d octets", c.Remaining)
	if m.forged {
		return
	}
	o := &m.ends[e.name.Other()]
	if o.phase != established {
		return
	}
	// What was granted and not used is with the peer or on the way to it, in
	// one direction or the other.
	grants := int64(0)
	for _, f := range e.onWire {
		if h, ok := parse(f.bytes); ok {
			grants += int64(h.CreditsGranted)
		}
	}
	obey(e.outstanding() == o.credits()+int64(len(o.onWire))+grants, Conservation, "%d outstanding; the peer has %d, %d messages and %d credits are on the way", e.outstanding(), o.credits(), len(o.onWire), grants)
}

// canSend reports whether nothing keeps the end from sending: room, and a credit
// that may be used.
func (e *end) canSend() bool {
	if e.SendDepth > 0 && e.out >= e.SendDepth {
		return false
	}
	c := e.credits()
	switch {
	case c >= 2:
		return true
	case c < 1:
		return false
	case e.unannounced() > 0:
		return true
	}
	return e.hasRoom()
}

// progress checks that nothing waits which could go, and notes since when
// something waits for credits.
func (m *Model) progress(e *end, ev *Event) {
	can := e.canSend()
	kept := e.credits() <= e.reserve
	obey(len(e.queue) == 0 || !can || kept, Progress, "%d messages wait and could be sent", len(e.queue))
	obey(!e.answer || !can, Keepalive, "a probe is not answered")
	half := e.least() / 2
	due := (e.payload || e.resumed) && !e.held && e.outstanding() <= half && half > 0 && (e.first || e.Role == Acceptor)
	if due && !e.short && e.credits() > 0 {
		// Whether nothing at all could go; posting is what would make it.
		obey(e.SendDepth > 0 && e.out >= e.SendDepth, Refill, "the peer sends payload and has %d credits of %d", e.outstanding(), e.least())
	}
	probeDue := e.Slack >= 0 && !e.probing && ev.At >= e.arrivedAt+e.interval
	waits := len(e.queue) > 0 || e.answer || probeDue
	room := e.SendDepth == 0 || e.out < e.SendDepth
	switch {
	case !waits || !room:
		e.blocked = false
	case !e.blocked:
		e.blocked, e.blockedAt = true, ev.At
		m.stats.Stalls++
	}
	// A peer without any credit is mute until it is granted one.
	mute := e.outstanding() == 0 && !e.held && !e.short && e.credits() > 0 && room
	switch {
	case !mute:
		e.emptied = false
	case !e.emptied:
		e.emptied, e.emptyAt = true, ev.At
		m.stats.Delayed++
	}
}

// deadlines checks that no time limit passed without effect.
func (m *Model) deadlines(ev *Event) {
	if ev.Kind != Tick && ev.Kind != Rest {
		return // an end may be just about to do it
	}
	for i := range m.ends {
		e := &m.ends[i]
		if e.Foreign || e.Slack < 0 {
			continue
		}
		late := func(from, limit time.Duration) bool { return ev.At > from+limit+e.Slack }
		switch e.phase {
		case negotiating:
			obey(!late(e.began, e.NegotiateTimeout), Deadline, "%v: the negotiation goes on after %v", e.name, ev.At-e.began)
		case established:
			if e.Prompt {
				obey(!e.blocked || !late(e.blockedAt, e.CreditTimeout), Deadline, "%v: something has waited for credits for %v", e.name, ev.At-e.blockedAt)
				obey(!e.emptied || !late(e.emptyAt, e.GrantDelay), Deadline, "%v: the peer has had no credit for %v", e.name, ev.At-e.emptyAt)
			}
			if e.probing {
				obey(!late(e.probeAt, e.timeout), Keepalive, "%v: a probe is unanswered for %v", e.name, ev.At-e.probeAt)
				break
			}
			limit := e.interval
			if !e.canSend() {
				limit += e.timeout
			}
			obey(!late(e.arrivedAt, limit+e.Slack), Keepalive, "%v: no probe, and the peer has been silent for %v", e.name, ev.At-e.arrivedAt)
		}
	}
}

// terminate checks that there is a reason to end the connection.
func (m *Model) terminate(e *end, ev *Event) {
	if e.Foreign {
		e.phase = closed
		return
	}
	reached := func(from, limit time.Duration) bool { return e.Slack < 0 || ev.At >= from+limit }
	ok := false
	switch ev.Cause {
	case Protocol:
		ok = e.doomed
		obey(ok, Reaction, "the connection is ended for a message that is allowed")
	case Refused:
		ok = e.refuse && e.answered
		obey(ok, Reaction, "refused without a reason or an answer")
	case NegotiateTimeout:
		ok = e.phase == negotiating && reached(e.began, e.NegotiateTimeout)
	case IdleTimeout:
		ok = e.phase == established && (e.probing && reached(e.probeAt, e.timeout) || !e.probing && reached(e.arrivedAt, e.interval+e.timeout))
	case CreditTimeout:
		ok = e.phase == established && (!e.Prompt || reached(min(e.since(e.blocked, e.blockedAt), e.since(e.credits() <= 1, e.arrivedAt)), e.CreditTimeout))
	case NoReceives:
		ok = e.short
	}
	obey(ok, Deadline, "ended for %v, which is not so", ev.Cause)
	if int(ev.Cause) < len(m.stats.Ends) {
		m.stats.Ends[ev.Cause]++
	}
	e.phase = closed
	e.delivery = nil
}

// since is at, or a time that never comes if not on.
func (e *end) since(on bool, at time.Duration) time.Duration {
	if !on {
		return 1 << 62
	}
	return at
}

// still checks that the silence is not a deadlock.
func (m *Model) still(ev *Event) {
	for i := range m.ends {
		e := &m.ends[i]
		// Where an adapter took fewer receives than its end counts on, it is asked
		// again before anything is said to be over.
		if m.forged || e.phase != established || e.held || e.short || e.room < e.ReceiveCreditMax {
			return
		}
	}
	wait := max(m.ends[A].GrantDelay+m.ends[A].Slack, m.ends[B].GrantDelay+m.ends[B].Slack)
	if ev.At <= m.calmAt+wait {
		return // a grant that was held back may be on its way
	}
	for i := range m.ends {
		e := &m.ends[i]
		obey(len(e.onWire) == 0, Progress, "a message is on the way for ever")
		obey(len(e.queue) == 0, Progress, "deadlock: %d messages wait at %v and nothing is on the way", len(e.queue), e.name)
	}
}
