package sim

import (
	"context"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// lost is the end of the connection by an error, or of the attempt by somebody
// else than the consumer. st is the status of the oldest request that is under way, if it
// is not Cancelled.
func (c *connector) lost(r Reason, st ndk.Status) {
	c.w.note(c.sub, "lost").text(r.String()).status(st).end()
	switch c.state {
	case connConnecting, connAccepting:
		if st != ntstatus.DeviceRemoved {
			st = ntstatus.ConnectionAborted
		}
		c.fail(st, nil)
	case connAccepted, connRequest:
		c.gone, c.goneFor = true, r
	case connConnected:
		c.setState(connEnded)
		c.detach()
		c.q.end(st)
		c.notify(r)
	case connEnded:
		switch {
		case c.leaving && !c.flushed && st == ntstatus.IOTimeout:
			c.finishDisconnect(ntstatus.IOTimeout, nil)
		case c.leaving && !c.flushed:
			c.finishDisconnect(ntstatus.Success, nil)
		default:
			c.detach() // the consumer knows already, and flushes when it likes
		}
	}
}

// cut ends the connection because the device is gone.
func (c *connector) cut(r Reason, st ndk.Status) {
	p := c.w.packet(pkReset)
	p.reason = ReasonLink
	c.out().send(p)
	c.lost(r, st)
	c.detach()
}

// notify has the disconnect callback run, once.
func (c *connector) notify(r Reason) {
	f := c.onLost
	c.onLost = nil
	if f == nil {
		return
	}
	w := c.w
	d := w.lateness(c.sub, c)
	c.Retain()
	w.soon(func() {
		if !c.Closing() {
			w.note(c.sub, "callback disconnect").text(r.String()).end()
			f(uint32(r))
		}
		c.Release()
	}, d)
}

// lateness is how late a callback comes.
func (w *World) lateness(who subject, o ndk.Object) (d time.Duration) {
	if i, hit := w.strike(passing{point: PointNotify, who: who, o1: o}); hit {
		d = i.Delay
	}
	return d
}

// peerLeft is the news that the peer disconnected or closed. By itself it
// cancels nothing here.
func (c *connector) peerLeft(r Reason) {
	c.setState(connEnded)
	c.q.peerLeft()
	c.notify(r)
}

// fin is the arrival of the peer's farewell.
func (c *connector) fin() {
	c.w.note(c.sub, "arrive").text("fin").end()
	switch {
	case c.state == connConnected:
		c.peerLeft(ReasonNone)
		c.farewell(pkFinAck)
	case c.leaving && !c.flushed:
		c.farewell(pkFinAck)
		c.finishDisconnect(ntstatus.Success, nil)
	}
}

// farewell sends a Fin or its answer, unless that gets lost.
func (c *connector) farewell(k packetKind) {
	if _, hit := c.w.strike(passing{point: PointFin, who: c.sub, o1: c, o2: c.q}); !hit {
		c.sendPlain(k, ReasonNone)
	}
}

// drained is called by the QP when a Disconnect waits and nothing is under way.
func (c *connector) drained() {
	if c.leaving && !c.finSent {
		c.finSent = true
		c.farewell(pkFin)
	}
}

// Disconnect implements ndk.Connector. After the peer's own disconnect, or the
// loss of the connection, it only flushes.
func (c *connector) Disconnect(ctx context.Context) error {
	const op = "disconnect"
	w := c.w
	w.mu.Lock()
	if c.Closing() || c.state != connConnected && c.state != connEnded || c.leaving {
		w.mu.Unlock()
		return fail(op, ntstatus.ConnectionInvalid, nil)
	}
	w.note(c.sub, "disconnect").end()
	c.leaving, c.onLost = true, nil
	if c.state == connEnded {
		c.flushed = true
		c.q.end(ntstatus.Cancelled)
		c.detach()
		w.mu.Unlock()
		return nil
	}
	c.setState(connEnded)
	w.s.after(&c.timer, w.cfg.ConnectTimeout)
	c.q.drain()
	return c.blockOn(ctx, op)
}

// finishDisconnect flushes and lets Disconnect return.
func (c *connector) finishDisconnect(st ndk.Status, err error) {
	c.flushed = true
	if st != ntstatus.Success {
		c.sendPlain(pkReset, ReasonTimeout)
	}
	c.detach()
	c.q.end(ntstatus.Cancelled)
	c.w.note(c.sub, "disconnected").status(st).end()
	c.wait.finish(st, err)
}

// cutShort ends a Disconnect that waits, on this side's account. A peer that did
// not hear the farewell hears of the end.
func (c *connector) cutShort(r Reason) {
	if !c.finSent {
		c.sendPlain(pkReset, r)
	}
	c.finishDisconnect(ntstatus.Success, nil)
}

// Close implements ndk.Object. It drops a connection at once, refuses a request
// that is not answered, and cancels what waits.
func (c *connector) Close() {
	if !c.BeginClose() {
		return
	}
	w := c.w
	w.mu.Lock()
	w.note(c.sub, "close").end()
	c.onLost = nil
	switch c.state {
	case connConnecting, connAccepting:
		c.abandon(ntstatus.Cancelled, nil)
	case connAccepted:
		if !c.gone {
			c.sendPlain(pkReset, ReasonReset)
		}
		c.fail(ntstatus.Cancelled, nil)
	case connRequest:
		if !c.gone {
			c.answer(pkReject, nil, false)
		}
		c.fail(ntstatus.Cancelled, nil)
	case connConnected:
		c.setState(connEnded)
		c.sendPlain(pkReset, ReasonReset)
		c.detach()
		c.q.end(ntstatus.Cancelled)
	case connEnded:
		if c.leaving && !c.flushed {
			c.finishDisconnect(ntstatus.Cancelled, nil)
		} else {
			c.detach()
			c.q.end(ntstatus.Cancelled)
		}
	}
	w.mu.Unlock()
	c.Release()
}
