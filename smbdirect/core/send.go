package core

import (
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// wants reports whether there is a message to send, with or without payload.
func (e *Engine) wants() bool {
	return e.queue.n > 0 || e.conn.SendImmediate || e.conn.KeepaliveRequested == Pending || e.grantWanted
}

// step is 3.1.5.1: it sends until something is missing, and sets the timers.
// What may be missing comes by another input: credits by Received, receives by
// Posted, room by SendCompleted.
func (e *Engine) step(now time.Duration) {
	if e.conn.Role != Established {
		return
	}
	for e.posting == 0 && e.sendsOut < e.cfg.SendDepth {
		n := e.creditsWanted()
		if e.grantWanted && n == 0 && e.conn.NewCredits == 0 {
			e.grantWanted = false // nothing left to grant
		}
		if !e.wants() || e.conn.SendCredits == 0 {
			break
		}
		if n > 0 {
			e.posting = n
			e.act(Action{Kind: PostReceives, Count: int(n), Size: e.conn.MaxReceiveSize})
			return // Posted goes on
		}
		if !e.maySpend() {
			break
		}
		e.sendOne(now)
	}
	e.noteCreditWait(now)
	e.arm()
}

// sendOne sends one Data Transfer message: the next fragment of the first
// message in the queue, or an empty one. The token of a message goes with its
// last fragment: the memory stays usable until the peer has all of the answer
// that takes it away, and 3.1.5.8 keeps the token of the latest fragment anyway.
func (e *Engine) sendOne(now time.Duration) {
	c := &e.conn
	a := Action{Kind: SendData, Header: wire.DataTransfer{
		CreditsRequested: uint16(c.SendCreditTarget),
		CreditsGranted:   uint16(c.NewCredits),
	}}
	c.SendCredits--
	c.NewCredits = 0
	c.SendImmediate = false
	e.grantWanted, e.spareless = false, false
	e.grantAt, e.creditAt = 0, 0
	if c.KeepaliveRequested == Pending {
		a.Header.Flags = wire.FlagResponseRequested
		c.KeepaliveRequested = Sent
		e.idleAt = now + max(e.cfg.KeepaliveTimeout, e.profile.MinKeepaliveTimeout)
	}
	if e.queue.n > 0 {
		e.stalls.end(now)
		m := e.queue.front()
		a.ID, a.Offset = m.id, m.off
		a.Length = min(m.len-m.off, c.MaxSendSize-wire.PayloadOffset)
		m.off += a.Length
		a.Header.DataOffset = wire.PayloadOffset
		a.Header.DataLength = a.Length
		a.Header.RemainingDataLength = m.len - m.off
		if m.off == m.len {
			a.Last = true
			a.Invalidate, a.HasInvalidate = m.token, m.hasToken
			e.queue.pop()
		}
	}
	e.sendsOut++
	e.act(a)
}

// urgent reports whether something is to be sent that may not wait for ever. A bare grant
// counts only if the peer can do nothing without it.
func (e *Engine) urgent() bool {
	c := &e.conn
	return e.queue.n > 0 || c.SendImmediate || c.KeepaliveRequested == Pending || e.grantWanted && e.granted() == 0
}

// noteCreditWait starts the credit timer if something urgent waits for the peer's
// credits, and stops it if not.
func (e *Engine) noteCreditWait(now time.Duration) {
	blocked := e.urgent() && e.posting == 0 && e.sendsOut < e.cfg.SendDepth
	if e.queue.n == 0 || !blocked {
		e.stalls.end(now) // what waited was sent or given up
	}
	if !blocked {
		e.creditAt = 0
		return
	}
	if e.creditAt == 0 {
		e.creditAt = now + e.cfg.CreditTimeout
	}
	if e.queue.n > 0 {
		if m := e.queue.front(); !m.stalled {
			m.stalled = true
			e.stalls.Count++
		}
		if e.stalls.Since == 0 {
			e.stalls.Since = max(now, 1)
		}
	}
}
