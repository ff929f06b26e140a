package run

import (
	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// verdict is what next has.
type verdict int

const (
	goOn    verdict = iota // an I/O
	blocked                // one that has to wait for another to end
	noMore
)

// next makes the next I/O, and returns the moment before which it must not begin, 0 if
// it may at once. mu is held.
func (w *worker) next(u *engine.Unit, t int64) (wait int64, v verdict) {
	j := w.job
	if w.over || w.stopped() || w.ends > 0 && t >= w.ends || w.err != nil {
		w.timed = w.timed || !w.over && w.ends > 0 && t >= w.ends
		w.end()
		return 0, noMore
	}
	u.Due, u.Begun = 0, 0
	switch {
	case j.Fsync > 0 && w.unsynced >= j.Fsync:
		w.unsynced = 0
		w.barrier(u, engine.Sync)
		return 0, goOn
	case j.Fdatasync > 0 && w.undata >= j.Fdatasync:
		w.undata = 0
		w.barrier(u, engine.DataSync)
		return 0, goOn
	}
	if j.NumberIOs > 0 && w.issued >= j.NumberIOs {
		w.end()
		return 0, noMore
	}
	if !w.held && !w.advance(t) {
		if w.loops--; w.loops <= 0 || !w.again(t) {
			w.end()
			return 0, noMore
		}
	}
	w.held = false
	if w.seals != nil && w.io.Write || j.SerializeOverlap {
		if w.overlaps(&w.io, u.Slot) {
			w.held = true
			return 0, blocked
		}
		w.flying[u.Slot] = true
	}
	d := job.Read
	u.Op = engine.Read
	if w.io.Write {
		d, u.Op = job.Write, engine.Write
	}
	if p := &w.pace[d]; p.on() {
		u.Due = p.due(w.io.Size)
		if u.Due > t {
			wait = u.Due
		}
	}
	if j.ThinkTime > 0 && w.pause > t {
		wait = max(wait, w.pause)
	}
	if w.ends > 0 && wait >= w.ends {
		w.land(u)
		w.timed = true
		w.end()
		return 0, noMore
	}
	if j.ThinkTime > 0 {
		if w.think++; w.think >= max(j.ThinkTimeBlocks, 1) {
			w.think, w.pause = 0, max(t, wait)+int64(j.ThinkTime)
			for d := range w.pace {
				if j.RateIgnoreThinkTime {
					w.pace[d].next += float64(j.ThinkTime)
				}
			}
		}
	}
	u.File, u.Offset = w.io.File, w.io.Offset
	u.Buf = w.bufs.At(u.Slot)[:w.io.Size]
	w.issued++
	if wait == 0 {
		w.begins()
	}
	if w.io.Write {
		w.unsynced++
		w.undata++
		u.Seq = w.seq
		w.seq++
		if w.seals != nil {
			w.seals.wrote(u)
		}
	}
	return wait, goOn
}

// begins counts an I/O as under way. mu is held.
func (w *worker) begins() {
	w.inflight++
	w.res.Depths[result.DepthClass(w.inflight)]++
}

func (w *worker) barrier(u *engine.Unit, op engine.Op) {
	u.Op, u.File, u.Offset, u.Buf = op, w.io.File, 0, nil
	w.inflight++
}

// end says that no I/O is to begin. mu is held.
func (w *worker) end() {
	if !w.over {
		w.over, w.ceased = true, now()
		w.parked.Broadcast()
	}
}

// again begins the next loop. mu is held.
func (w *worker) again(t int64) bool {
	w.gen.Extend(w.total)
	return w.advance(t)
}

// advance makes the next I/O of the pattern. Where reads and writes have rates of their
// own it is the one that is due first: neither waits behind the other. Where one of them
// has a rate, the other is not held up by what is not due. mu is held.
func (w *worker) advance(t int64) bool {
	r, wr := &w.pace[job.Read], &w.pace[job.Write]
	if !w.job.RW.Reads || !w.job.RW.Writes || !r.on() && !wr.on() {
		return w.gen.Next(&w.io)
	}
	d := 0
	if r.on() && wr.on() {
		if wr.next < r.next {
			d = 1
		}
	} else if d = w.gen.Direction(); w.pace[d].on() && w.pace[d].next > float64(t) {
		d = 1 - d
	}
	return w.gen.NextOf(&w.io, d)
}

// load puts into a buffer what is to be written.
func (w *worker) load(u *engine.Unit) {
	if u.Op != engine.Write {
		return
	}
	if w.seals != nil {
		w.seals.seal(u)
		return
	}
	w.fill[u.Slot].Next(u.Buf, u.Offset)
}

// land says that an I/O is not under way any more. mu is held.
func (w *worker) land(u *engine.Unit) {
	if w.seals != nil || w.job.SerializeOverlap {
		w.flying[u.Slot] = false
		w.parked.Broadcast()
	}
}
