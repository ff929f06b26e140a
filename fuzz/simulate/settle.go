package simulate

import (
	"time"

	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
)

const (
	pause    = 6 * time.Millisecond // longer than a grant is held back
	maxSteps = 400_000              // messages until everything is through
	asked    = 24                   // pauses in which an adapter is asked again
)

// settle lets the link run after the actions and checks that the run ends as it
// should.
func (w *world) settle() {
	for _, p := range w.ports {
		p.short = 0
		if p.eng != nil && w.err == nil {
			w.hold(p, false)
		}
	}
	w.drain()
	if w.err != nil || w.ended() {
		w.poke()
		return
	}
	steady := !w.odd && w.ports[0].up && w.ports[1].up
	if steady {
		w.arrived()
	}
	w.quiet(steady)
	w.probe(steady)
	w.deaf()
	w.poke()
}

func (w *world) ended() bool { return w.ports[0].dead && w.ports[1].dead }

func (w *world) sends() uint64 { return w.model.Stats().Sends }

// flow delivers and completes until nothing is on the way.
func (w *world) flow(limit int) {
	for n := 0; w.err == nil; n++ {
		idle := true
		for _, p := range w.ports {
			if p.out > 0 {
				w.complete(p, p.out)
				idle = false
			}
			if len(p.in) > 0 {
				w.deliver(p, 1)
				idle = false
			}
			if p.peer != nil && !p.dead && p.peer.settle() {
				idle = false
			}
		}
		if idle {
			w.tell(w.ports[0], model.Event{Kind: model.Still})
			return
		}
		if n > limit {
			w.fail("%v: no end of messages after %d steps", model.Quiet, n)
		}
	}
}

// waiting is the number of messages that are submitted and not delivered.
func (w *world) waiting() int {
	n := 0
	for _, p := range w.ports {
		switch o := w.other(p); {
		case p.eng == nil || p.dead:
		case o.peer != nil && !w.odd:
			n += len(o.peer.want)
		default:
			n += p.eng.Queued()
		}
	}
	return n
}

// drain lets everything through. Grants that are held back need the clock, and so
// do adapters that refused receives, which are asked again a little later. What one
// that has no room for good has left without a way out ends by a time limit.
func (w *world) drain() {
	stuck := 0
	for round := 0; w.err == nil && !w.ended(); round++ {
		before := w.sends()
		w.flow(maxSteps)
		if w.waiting() == 0 && (w.ports[0].up && w.ports[1].up || round > 2) {
			return
		}
		if w.sends() == before {
			stuck++
		} else {
			stuck = 0
		}
		switch {
		case stuck > 3 && !w.odd && w.ports[0].up && w.ports[1].up && w.model.Stats().Shortfalls == 0,
			stuck > asked && !w.odd && w.ports[0].up && w.ports[1].up && w.ports[0].room+w.ports[1].room == 0:
			w.fail("%v: deadlock: %d messages wait, nothing is on the way, and the clock changes nothing", model.Progress, w.waiting())
		case stuck > 40 || round > 60_000:
			w.fail("%v: %d messages wait, and nothing comes of it", model.Progress, w.waiting())
		case stuck > asked:
			w.advance(30 * time.Second)
		default:
			w.advance(pause + max(w.ports[0].set.Late, w.ports[1].set.Late))
		}
	}
}

// arrived checks that what was submitted is across.
func (w *world) arrived() {
	for _, p := range w.ports {
		if p.eng == nil || w.err != nil {
			continue
		}
		if o := w.other(p); o.peer != nil {
			if len(o.peer.want) > 0 {
				w.fail("%v: %d messages of %v did not arrive", model.Octets, len(o.peer.want), p.side)
			}
		} else if n := w.model.Undelivered(p.side); n > 0 {
			w.fail("%v: %d messages of %v did not arrive", model.Octets, n, p.side)
		}
	}
}

// quiet checks that two ends with nothing to say say nothing. With a target of 1
// the only credit has to circulate.
func (w *world) quiet(steady bool) {
	for range 8 {
		w.advance(pause)
		w.flow(maxSteps) // a lenient peer may still have much to say
	}
	before := w.sends()
	if !steady || !w.restful() || w.ports[0].set.KeepaliveInterval != 0 || w.ports[1].set.KeepaliveInterval != 0 {
		return
	}
	w.advance(time.Second)
	w.flow(1000)
	if n := w.sends() - before; w.err == nil && n > 0 {
		// The idle timer may have come due just now.
		probes := w.model.Stats().Probes
		w.advance(time.Second)
		w.flow(1000)
		if more := w.sends() - before - n; more > 0 && w.model.Stats().Probes == probes {
			w.fail("%v: %d messages while there is nothing to say", model.Quiet, more)
		}
	}
}

// restful reports whether both ends are engines that can be silent.
func (w *world) restful() bool {
	for _, p := range w.ports {
		if p.eng == nil || p.dead {
			return false
		}
		if c := p.eng.Connection(); min(c.ReceiveCreditTarget, c.ReceiveCreditMax) < 2 {
			return false
		}
	}
	return true
}

// probe lets the keepalive interval pass: both stay, because they answer.
func (w *world) probe(steady bool) {
	if w.err != nil || w.ended() {
		return
	}
	end := w.now + time.Hour
	for _, p := range w.ports {
		if p.eng != nil && !p.dead {
			end = min(end, w.now+2*p.eng.Connection().KeepaliveInterval+time.Second)
		}
	}
	probes := w.model.Stats().Probes
	for w.now < end && w.err == nil && !w.ended() {
		// Not further than the answer may take.
		w.advance(15 * time.Millisecond)
		w.flow(1000)
		w.leap(end)
	}
	// With too few receives an end may have nothing to grant with its last credit.
	if w.err != nil || !steady || w.ports[0].eng == nil || w.ports[1].eng == nil || w.ports[0].room+w.ports[1].room > 0 {
		return
	}
	if w.ports[0].dead || w.ports[1].dead {
		w.fail("%v: an idle connection ended", model.Keepalive)
	}
	if w.restful() && w.model.Stats().Probes == probes {
		w.fail("%v: nobody probed the other", model.Keepalive)
	}
}

// leap moves the clock to just before the next timer.
func (w *world) leap(end time.Duration) {
	next := end
	for _, p := range w.ports {
		if p.timer != 0 && p.timer < next {
			next = p.timer
		}
	}
	if next > w.now+time.Microsecond {
		w.advance(next - w.now - time.Microsecond)
	}
}

// deaf lets nothing through any more: both ends give up.
func (w *world) deaf() {
	for range 40 {
		if w.err != nil || w.ended() {
			return
		}
		for _, p := range w.ports {
			p.in = nil
			w.complete(p, p.out)
		}
		w.advance(30 * time.Second)
	}
	for _, p := range w.ports {
		if p.eng != nil && !p.dead && w.err == nil {
			w.fail("%v: %v waits for a dead peer for ever", model.Deadline, p.side)
		}
	}
}

// poke calls a closed engine: nothing comes of it.
func (w *world) poke() {
	for _, p := range w.ports {
		if p.eng == nil || !p.dead || w.err != nil {
			continue
		}
		w.submit(p, 10, false)
		w.hold(p, true)
		w.complete(p, p.out)
		h := wire24()
		if d, ok := p.eng.Received(w.now, h, 1, true); ok {
			w.fail("%v: %d octets are delivered by a closed end", model.AfterEnd, len(d.Fragment))
		}
		w.carry(p)
		p.eng.TimerDue(w.now)
		w.carry(p)
	}
}
