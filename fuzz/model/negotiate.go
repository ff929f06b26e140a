package model

import "github.com/smbd-rdma/smbd-rdma/smbdirect/wire"

const (
	minMessage    = 128    // 3.1.5.6, 3.1.5.7
	minFragmented = 131072 // likewise
)

// sendNegotiate is 3.1.5.2 and 3.1.5.3.
func (m *Model) sendNegotiate(e *end, ev *Event) {
	obey(!e.negotiateSent, Negotiation, "a second negotiate message")
	e.negotiateSent = true
	if e.Role == Initiator {
		r, err := wire.ParseNegotiateRequest(ev.Bytes)
		obey(err == nil && len(ev.Bytes) == wire.NegotiateRequestSize, Negotiation, "a request of %d bytes", len(ev.Bytes))
		obey(e.negotiatePosted, PostedFirst, "the request is sent before its receive is posted")
		obey(r.MinVersion == wire.Version && r.MaxVersion == wire.Version, Negotiation, "versions %#x to %#x", r.MinVersion, r.MaxVersion)
		obey(int(r.CreditsRequested) == e.SendCreditTarget, Request, "%d credits requested, target %d", r.CreditsRequested, e.SendCreditTarget)
		obey(r.PreferredSendSize == e.MaxSendSize && r.MaxReceiveSize == e.MaxReceiveSize && r.MaxFragmentedSize == e.MaxFragmentedSize,
			Negotiation, "sizes %d, %d, %d", r.PreferredSendSize, r.MaxReceiveSize, r.MaxFragmentedSize)
		return
	}
	obey(e.heard, Negotiation, "a response before the request")
	obey(!e.doomed, Reaction, "a forbidden request is answered: %s", e.why)
	r, err := wire.ParseNegotiateResponse(ev.Bytes)
	obey(err == nil && len(ev.Bytes) == wire.NegotiateResponseSize, Negotiation, "a response of %d bytes", len(ev.Bytes))
	if e.refuse || e.p == 0 {
		obey(r.Status != 0, Negotiation, "no failure in the response")
		e.answered = true
		return
	}
	e.answered = true
	obey(r.Status == 0 && r.NegotiatedVersion == wire.Version, Negotiation, "status %#x, version %#x", r.Status, r.NegotiatedVersion)
	obey(r.CreditsRequested > 0 && int(r.CreditsRequested) <= e.SendCreditTarget, Request, "%d credits requested, target %d", r.CreditsRequested, e.SendCreditTarget)
	e.requested = int(r.CreditsRequested)
	obey(r.CreditsGranted > 0, FirstGrant, "the response grants nothing")
	e.g += int64(r.CreditsGranted)
	obey(e.outstanding() <= e.p, PostedFirst, "%d granted, %d posted", e.outstanding(), e.p)
	obey(e.unannounced() == 0, Announced, "%d receives are posted and not announced", e.unannounced())
	obey(r.PreferredSendSize == e.sendSize && r.MaxReceiveSize == e.recvSize && r.MaxFragmentedSize == e.MaxFragmentedSize,
		Negotiation, "sizes %d, %d, %d; negotiated are %d and %d", r.PreferredSendSize, r.MaxReceiveSize, r.MaxFragmentedSize, e.sendSize, e.recvSize)
}

// hearNegotiate is 3.1.5.6 and 3.1.5.7.
func (m *Model) hearNegotiate(e *end, ev *Event) {
	if e.heard {
		e.doom("a second message during the negotiation")
		return
	}
	e.heard = true
	if e.Role == Acceptor {
		r, err := wire.ParseNegotiateRequest(ev.Bytes)
		switch {
		case err != nil:
			e.doom("a request of %d bytes", len(ev.Bytes))
		case r.MinVersion > wire.Version || r.MaxVersion < wire.Version:
			e.refuse = true
		case r.CreditsRequested == 0 || r.MaxReceiveSize < minMessage || r.MaxFragmentedSize < minFragmented:
			e.doom("a request for %d credits, sizes %d and %d", r.CreditsRequested, r.MaxReceiveSize, r.MaxFragmentedSize)
		default:
			e.adopt(r.CreditsRequested, r.PreferredSendSize, r.MaxReceiveSize, r.MaxFragmentedSize)
		}
		return
	}
	r, err := wire.ParseNegotiateResponse(ev.Bytes)
	switch {
	case err != nil:
		e.doom("a response of %d bytes", len(ev.Bytes))
	case r.Status != 0 || r.NegotiatedVersion != wire.Version:
		e.doom("a response with status %#x, version %#x", r.Status, r.NegotiatedVersion)
	case r.CreditsRequested == 0 || r.CreditsGranted == 0 || r.MaxReceiveSize < minMessage || r.MaxFragmentedSize < minFragmented || r.PreferredSendSize > e.MaxReceiveSize:
		e.doom("a response with %d and %d credits, sizes %d, %d, %d", r.CreditsRequested, r.CreditsGranted, r.PreferredSendSize, r.MaxReceiveSize, r.MaxFragmentedSize)
	default:
		e.h += int64(r.CreditsGranted)
		e.adopt(r.CreditsRequested, r.PreferredSendSize, r.MaxReceiveSize, r.MaxFragmentedSize)
		if !e.Prompt {
			m.open(e, ev)
		}
	}
}

// open begins what a whole connection, which does not say Connected, does after
// the negotiation.
func (m *Model) open(e *end, ev *Event) {
	e.phase, e.arrivedAt = established, ev.At
	m.stir(ev)
}

// adopt takes over what the peer said.
func (e *end) adopt(requested uint16, preferred, maxReceive, maxFragmented uint32) {
	e.target = int(requested)
	e.recvSize = max(minMessage, min(e.MaxReceiveSize, preferred))
	e.sendSize = min(e.MaxSendSize, maxReceive)
	e.fragSend = maxFragmented
}

func (m *Model) connected(e *end, ev *Event) {
	obey(e.Foreign || e.phase == negotiating && e.heard && !e.doomed && !e.refuse, Negotiation, "connected without an agreement")
	obey(e.Foreign || e.Role == Initiator || e.answered, Negotiation, "connected before the response")
	e.phase = established
	e.arrivedAt = ev.At
	e.interval, e.timeout = ev.Interval, ev.Timeout
	obey(e.Foreign || e.Slack < 0 || ev.Interval >= e.KeepaliveInterval, Keepalive, "interval %v, %v is set", ev.Interval, e.KeepaliveInterval)
	want := e.SendCreditTarget
	if ev.MaxRequested > 0 {
		want = min(want, ev.MaxRequested)
	}
	if ev.MaxFragmented > 0 {
		e.fragSend = min(e.fragSend, ev.MaxFragmented)
	}
	obey(e.Foreign || e.Role == Initiator || e.requested == want, Request, "%d credits were requested, want %d", e.requested, want)
	e.requested, e.reserve = want, int64(ev.Reserve)
	m.stir(ev)
}
