package core

import (
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// ConnectionUp tells the initiator that the RDMA connection exists: it sends the
// Negotiate Request, 3.1.5.2. An acceptor waits for its peer and needs no call.
func (e *Engine) ConnectionUp() {
	if e.conn.Role != Active {
		return
	}
	e.sendsOut++
	e.act(Action{Kind: SendRequest, Request: wire.NegotiateRequest{
		MinVersion:        wire.Version,
		MaxVersion:        wire.Version,
		CreditsRequested:  e.cfg.SendCreditTarget,
		PreferredSendSize: e.conn.MaxSendSize,
		MaxReceiveSize:    e.conn.MaxReceiveSize,
		MaxFragmentedSize: e.conn.MaxFragmentedRecvSize,
	}})
}

// receiveRequest is 3.1.5.6.
func (e *Engine) receiveRequest(b []byte) {
	const section = "3.1.5.6"
	r, err := wire.ParseNegotiateRequest(b)
	if err != nil {
		e.violation(section, "length", uint64(len(b)), "at least 20")
		return
	}
	if r.MinVersion > wire.Version || r.MaxVersion < wire.Version {
		e.refuse(ntstatus.NotSupported, &ProtocolError{
			Section: section, Field: "MinVersion..MaxVersion",
			Got: uint64(r.MinVersion)<<16 | uint64(r.MaxVersion), Want: "a range with 0x0100",
		})
		return
	}
	switch {
	case r.CreditsRequested == 0:
		e.violation(section, "CreditsRequested", 0, "at least 1")
		return
	case r.MaxReceiveSize < MinMessageSize:
		e.violation(section, "MaxReceiveSize", uint64(r.MaxReceiveSize), "at least 128")
		return
	case r.MaxFragmentedSize < MinFragmentedSize:
		e.violation(section, "MaxFragmentedSize", uint64(r.MaxFragmentedSize), "at least 131072")
		return
	}
	e.profile = clientProfile(r, e.depths)
	e.adopt(r.PreferredSendSize, r.MaxReceiveSize, r.MaxFragmentedSize, r.CreditsRequested)
}

// receiveResponse is 3.1.5.7.
func (e *Engine) receiveResponse(b []byte) {
	const section = "3.1.5.7"
	r, err := wire.ParseNegotiateResponse(b)
	switch {
	case err != nil:
		e.violation(section, "length", uint64(len(b)), "at least 32")
	case r.Status != 0:
		// Before the other fields, which are 0 in a failure response.
		e.terminate(&ProtocolError{Section: section, Field: "Status", Got: uint64(r.Status), Want: "0", Err: ntstatus.Status(r.Status)})
	case r.NegotiatedVersion != wire.Version:
		e.violation(section, "NegotiatedVersion", uint64(r.NegotiatedVersion), "0x0100")
	case r.MaxReceiveSize < MinMessageSize:
		e.violation(section, "MaxReceiveSize", uint64(r.MaxReceiveSize), "at least 128")
	case r.MaxFragmentedSize < MinFragmentedSize:
		e.violation(section, "MaxFragmentedSize", uint64(r.MaxFragmentedSize), "at least 131072")
	case r.CreditsGranted == 0:
		e.violation(section, "CreditsGranted", 0, "at least 1")
	case r.CreditsRequested == 0:
		e.violation(section, "CreditsRequested", 0, "at least 1")
	case r.PreferredSendSize > e.conn.MaxReceiveSize:
		e.violation(section, "PreferredSendSize", uint64(r.PreferredSendSize), "at most the MaxReceiveSize of the request")
	default:
		e.profile = serverProfile(r)
		e.conn.MaxReadWriteSize = min(e.conn.MaxReadWriteSize, r.MaxReadWriteSize)
		e.gain(Credits(r.CreditsGranted))
		e.adopt(r.PreferredSendSize, r.MaxReceiveSize, r.MaxFragmentedSize, r.CreditsRequested)
	}
}

// adopt takes over what both kinds of negotiate message say and asks for the
// first receives, 3.1.5.9.
func (e *Engine) adopt(preferredSend, maxReceive, maxFragmented uint32, requested uint16) {
	c := &e.conn
	c.Protocol = wire.Version
	c.MaxReceiveSize = max(MinMessageSize, min(c.MaxReceiveSize, preferredSend))
	c.MaxSendSize = min(c.MaxSendSize, maxReceive)
	c.MaxFragmentedSendSize = maxFragmented
	if most := e.profile.MaxFragmentedSize; most > 0 {
		c.MaxFragmentedSendSize = min(c.MaxFragmentedSendSize, most)
	}
	if e.profile.TransfersFitMessages {
		c.MaxReadWriteSize = min(c.MaxReadWriteSize, transferFitting(c.MaxFragmentedRecvSize))
		if e.cfg.InlineData {
			c.MaxReadWriteSize = min(c.MaxReadWriteSize, transferFitting(c.MaxFragmentedSendSize))
		}
	}
	if most := Credits(e.profile.MaxCreditsRequested); most > 0 {
		c.SendCreditTarget = min(c.SendCreditTarget, most)
	}
	c.ReceiveCreditTarget = Credits(requested)
	c.KeepaliveInterval = max(e.cfg.KeepaliveInterval, e.profile.MinKeepaliveInterval)
	e.posting = e.target()
	e.act(Action{Kind: PostReceives, Count: int(e.posting), Size: c.MaxReceiveSize})
}

// finishNegotiation goes on when the first receives are posted.
func (e *Engine) finishNegotiation(now time.Duration) {
	c := &e.conn
	if c.ReceiveCredits == 0 {
		if c.Role == Passive {
			e.refuse(ntstatus.InsufficientResources, ErrNoReceives)
		} else {
			e.terminate(ErrNoReceives)
		}
		return
	}
	if c.Role == Passive {
		e.sendsOut++
		e.act(Action{Kind: SendResponse, Response: wire.NegotiateResponse{
			MinVersion:        wire.Version,
			MaxVersion:        wire.Version,
			NegotiatedVersion: c.Protocol,
			CreditsRequested:  uint16(c.SendCreditTarget),
			CreditsGranted:    uint16(c.ReceiveCredits),
			MaxReadWriteSize:  c.MaxReadWriteSize,
			PreferredSendSize: c.MaxSendSize,
			MaxReceiveSize:    c.MaxReceiveSize,
			MaxFragmentedSize: c.MaxFragmentedRecvSize,
		}})
		c.NewCredits = 0
	} else {
		e.grantAt = now + e.cfg.GrantDelay
	}
	e.negotiateAt = 0
	e.idleAt = now + c.KeepaliveInterval
	e.setRole(Established)
	e.act(Action{Kind: Connected})
	e.step(now)
}

// refuse sends a failure response and ends the connection gracefully, 3.1.5.3.
func (e *Engine) refuse(st ntstatus.Status, err error) {
	e.sendsOut++
	e.act(Action{Kind: SendResponse, Response: wire.NegotiateResponse{
		MinVersion: wire.Version,
		MaxVersion: wire.Version,
		Status:     uint32(st),
	}})
	e.close(err)
	e.act(Action{Kind: Terminate, Err: err, Graceful: true})
}
