package core

import "time"

// TimerDue tells that the time of the last ArmTimer has come. It may come late,
// or for a time that is not due any more.
func (e *Engine) TimerDue(now time.Duration) {
	e.armed = 0
	due := func(at time.Duration) bool { return at != 0 && now >= at }
	switch {
	case e.conn.Role == Closed:
		return
	case due(e.negotiateAt): // 3.1.6.1
		e.terminate(&TimeoutError{Section: "3.1.6.1", Waiting: "negotiate message"})
		return
	case due(e.creditAt):
		e.terminate(&TimeoutError{Section: "3.1.5.1", Waiting: "send credit"})
		return
	case due(e.idleAt): // 3.1.6.2
		if e.conn.KeepaliveRequested != None {
			e.terminate(&TimeoutError{Section: "3.1.6.2", Waiting: "answer to a keepalive message"})
			return
		}
		e.conn.KeepaliveRequested = Pending
		e.idleAt = now + max(e.cfg.KeepaliveTimeout, e.profile.MinKeepaliveTimeout)
	}
	if due(e.grantAt) {
		e.grantAt = 0
		e.grantWanted = !e.held
	}
	if due(e.retryAt) {
		if e.retry(); e.posting > 0 {
			return // Posted goes on
		}
	}
	if e.conn.Role == Established {
		e.step(now)
	} else {
		e.arm()
	}
}

// arm asks for a timer if the earliest time due is before the one asked for. A
// time that moved back is left alone: TimerDue comes early and asks again.
func (e *Engine) arm() {
	at := time.Duration(0)
	for _, t := range [...]time.Duration{e.negotiateAt, e.idleAt, e.creditAt, e.grantAt, e.retryAt} {
		if t != 0 && (at == 0 || t < at) {
			at = t
		}
	}
	if at != 0 && (e.armed == 0 || at < e.armed) {
		e.armed = at
		e.act(Action{Kind: ArmTimer, At: at})
	}
}
