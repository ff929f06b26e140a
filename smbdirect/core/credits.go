package core

// smallMax is the ReceiveCreditMax from which on one credit is kept in reserve.
const smallMax = 4

// grantLimit is how many receives the peer's wishes alone can have posted.
func grantLimit(max Credits) Credits {
	if max >= smallMax {
		return max - 1
	}
	return max
}

// spareLimit is how many receives are ever posted at once.
func spareLimit(max Credits) Credits {
	if max >= smallMax {
		return max
	}
	return max + 1
}

// target is what ReceiveCredits is raised to: the peer's wish within our limit.
func (e *Engine) target() Credits {
	return min(e.conn.ReceiveCreditTarget, grantLimit(e.conn.ReceiveCreditMax))
}

// retry asks the adapter again for the receives that it refused. Unless it takes
// all, or the peer has no credit, nothing is sent for that: two ends whose adapters
// never have them would not fall silent. Where none are due, because the user is
// behind or the peer has what it wishes, step asks if it needs one for the last
// send credit.
func (e *Engine) retry() {
	e.retryAt = 0
	limit := Credits(e.cfg.ReceiveCreditMax)
	full := min(e.conn.ReceiveCreditTarget, grantLimit(limit))
	if e.held || e.conn.ReceiveCredits >= full {
		e.conn.ReceiveCreditMax, e.spareless = limit, false
		return
	}
	e.posting, e.retrying = full-e.conn.ReceiveCredits, true
	e.act(Action{Kind: PostReceives, Count: int(e.posting), Size: e.conn.MaxReceiveSize})
}

// granted is the number of credits that the peer has or will have when our
// messages under way arrive.
func (e *Engine) granted() Credits { return e.conn.ReceiveCredits - e.conn.NewCredits }

// creditsWanted is 3.1.5.9: how many receives to post before the next send.
func (e *Engine) creditsWanted() Credits {
	c := &e.conn
	if t := e.target(); c.ReceiveCredits < t && !e.held {
		return t - c.ReceiveCredits
	}
	// The last send credit goes only with a grant. If something waits, one
	// receive is posted even above the target.
	waits := e.queue.n > 0 || c.SendImmediate || c.KeepaliveRequested == Pending
	if waits && c.SendCredits == 1 && c.NewCredits == 0 && c.ReceiveCredits < spareLimit(c.ReceiveCreditMax) && !e.spareless {
		return 1
	}
	if e.lends() && e.granted() == 0 && c.NewCredits == 0 && c.ReceiveCredits < spareLimit(c.ReceiveCreditMax) && !e.spareless {
		return 1
	}
	return 0
}

// lends reports whether a message that waits may go out of the reserve although the
// user is behind, with a credit for a peer that has none: it may have some to give
// and nothing to send them with. Half of the reserve is left for the grants that
// are due when the user has caught up, as nobody else could make them.
func (e *Engine) lends() bool {
	c, kept := &e.conn, e.reserve()
	return e.held && e.queue.n > 0 && c.SendCredits <= kept && c.SendCredits > kept/2
}

// maySpend reports whether a send credit may go now. The last one goes only with a
// grant (3.1.5.1). Those in reserve go only with what is urgent by itself: a grant
// that is due, as the peer can give credits no more once it has none, or an answer.
// A fragment that waits goes with it.
func (e *Engine) maySpend() bool {
	c := &e.conn
	if c.SendCredits == 1 && c.NewCredits == 0 {
		return false
	}
	return c.SendCredits > e.reserve() || c.SendImmediate || c.KeepaliveRequested == Pending ||
		c.NewCredits > 0 && (e.grantWanted || e.lends())
}

// reserve is how many send credits are kept for grants beyond the rule of the last
// one: at most a sixteenth of what the peer ever gave, so that a peer which gives
// few gets its messages.
func (e *Engine) reserve() Credits {
	return min(e.profile.ReserveCredits, e.mostCredits/16)
}

// gain adds credits of the peer.
func (e *Engine) gain(n Credits) {
	e.conn.SendCredits = e.conn.SendCredits.plus(n)
	e.mostCredits = max(e.mostCredits, e.conn.SendCredits)
}

// wantGrant decides after a message of the peer whether a bare grant is due. See
// the package comment for why it is not always.
func (e *Engine) wantGrant(payload bool) (now, later bool) {
	if e.held {
		return false, false
	}
	left, t := e.granted(), e.target()
	switch {
	case left == 0 && (payload || t > 1):
		return true, false
	case left == 0:
		return false, true
	case payload:
		return left <= t/2, false
	default:
		return left <= 1 && t >= 3, false
	}
}

// check panics if the credits contradict each other. Tests call it after every
// step.
func (e *Engine) check() {
	c := &e.conn
	switch {
	case c.NewCredits > c.ReceiveCredits:
		panic("core: NewCredits above ReceiveCredits")
	case c.ReceiveCredits > spareLimit(c.ReceiveCreditMax):
		panic("core: ReceiveCredits above the limit")
	case c.SendCredits > maxCredits:
		panic("core: SendCredits above the limit")
	case e.sendsOut < 0 || e.sendsOut > e.cfg.SendDepth:
		panic("core: sends under way out of range")
	case e.queue.n > e.cfg.QueueDepth:
		panic("core: SendQueue too long")
	case e.inMessage != (c.FragmentReassemblyRemaining > 0):
		panic("core: reassembly without octets missing")
	}
}
