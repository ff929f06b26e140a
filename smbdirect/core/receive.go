package core

import (
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// Received takes a completed receive: the octets of the message, and the local
// token that the adapter invalidated with it if has. ok says that d has a
// fragment to keep. This is 3.1.5.5.
func (e *Engine) Received(now time.Duration, msg []byte, token uint32, has bool) (d Delivery, ok bool) {
	switch e.conn.Role {
	case Passive, Active:
		if e.conn.Protocol != 0 || e.posting > 0 {
			// A second message before the first was answered: it found no
			// receive, or the driver made it up.
			e.violation("2.2", "messages before the negotiation ended", 2, "1")
		} else if e.conn.Role == Passive {
			e.receiveRequest(msg)
		} else {
			e.receiveResponse(msg)
		}
		return Delivery{}, false
	case Established:
		e.idleAt = now + e.conn.KeepaliveInterval
		e.conn.KeepaliveRequested = None
		if !e.urgent() {
			e.creditAt = 0 // a probe alone has waited; what waits from now on has not yet
		}
		if d, ok = e.receiveData(now, msg, token, has); e.conn.Role == Established {
			e.step(now)
		}
		return d, ok
	}
	return Delivery{}, false
}

// receiveData is 3.1.5.8.
func (e *Engine) receiveData(now time.Duration, msg []byte, token uint32, has bool) (d Delivery, ok bool) {
	const section = "3.1.5.8"
	c := &e.conn
	h, err := wire.ParseDataTransfer(msg)
	switch {
	case err != nil:
		e.violation(section, "length", uint64(len(msg)), "at least 20")
		return d, false
	case h.CreditsRequested == 0:
		e.violation(section, "CreditsRequested", 0, "at least 1")
		return d, false
	case !h.Aligned():
		e.violation(section, "DataOffset", uint64(h.DataOffset), "a multiple of 8")
		return d, false
	case h.End() > uint64(len(msg)):
		e.violation(section, "DataOffset + DataLength", h.End(), "at most the length of the message")
		return d, false
	case h.MessageLength() > uint64(c.MaxFragmentedRecvSize):
		e.violation(section, "DataLength + RemainingDataLength", h.MessageLength(), "at most MaxFragmentedRecvSize")
		return d, false
	case e.granted() == 0:
		e.violation("3.1.5.1", "messages without a credit", 1, "0")
		return d, false
	}
	payload, inside := h.Payload(msg)
	if !inside {
		e.violation("2.2.3", "DataOffset", uint64(h.DataOffset), "beyond the header")
		return d, false
	}

	c.ReceiveCredits--
	c.ReceiveCreditTarget = Credits(h.CreditsRequested)
	e.gain(Credits(h.CreditsGranted))
	if h.Flags&wire.FlagResponseRequested != 0 {
		c.SendImmediate = true
	}
	if grant, later := e.wantGrant(h.DataLength > 0); grant {
		e.grantWanted = true
	} else if later && e.grantAt == 0 {
		e.grantAt = now + e.cfg.GrantDelay
	}
	if has {
		c.InvalidatedToken, c.HasInvalidatedToken = token, true
	}
	return e.reassemble(h, payload)
}

// reassemble is the rest of 3.1.5.8: the rules of RemainingDataLength.
func (e *Engine) reassemble(h wire.DataTransfer, payload []byte) (d Delivery, ok bool) {
	const section = "3.1.5.8"
	c := &e.conn
	if h.MessageLength() == 0 {
		return d, false // control only; also between fragments
	}
	if !e.inMessage {
		e.total, e.reassembly = uint32(h.MessageLength()), 0
	} else {
		missing := c.FragmentReassemblyRemaining
		if h.DataLength > missing {
			e.violation(section, "DataLength", uint64(h.DataLength), "at most the octets missing")
			return d, false
		}
		if h.RemainingDataLength != missing-h.DataLength {
			e.violation(section, "RemainingDataLength", uint64(h.RemainingDataLength), "the octets still missing")
			return d, false
		}
	}
	c.FragmentReassemblyRemaining = h.RemainingDataLength
	e.inMessage = h.RemainingDataLength > 0
	d = Delivery{Fragment: payload, Offset: e.reassembly, Total: e.total}
	e.reassembly += h.DataLength
	if !e.inMessage {
		d.Last = true
		d.Token, d.HasToken = c.InvalidatedToken, c.HasInvalidatedToken
		c.InvalidatedToken, c.HasInvalidatedToken = 0, false
	}
	return d, true
}
