package run

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// transfer does the I/O of the job.
func (w *worker) transfer() error {
	if q, ok := w.target.(engine.Queuer); ok && !w.job.Offload {
		queue, err := q.Queue(len(w.units), longest(w.job))
		if err != nil {
			return err
		}
		if queue != nil {
			err := errors.Join(w.pump(queue), queue.Close())
			w.runOut()
			return errors.Join(err, w.sync())
		}
	}
	var lanes sync.WaitGroup
	for i := range w.units {
		lanes.Go(func() { w.lane(i) })
	}
	lanes.Wait()
	w.runOut()
	return w.sync()
}

// lane has one I/O after the other under way.
func (w *worker) lane(slot int) {
	u := &w.units[slot]
	t := now()
	var turn turns
	first := true
	for {
		w.mu.Lock()
		if !first {
			w.complete(u, t)
			w.res.Submits[1]++ // one at a time
			w.res.Completes[1]++
		}
		first = false
		for slot >= w.limit && !w.over {
			w.parked.Wait()
			t = now()
		}
		wait, v := w.next(u, t)
		for v == blocked {
			w.parked.Wait()
			t = now()
			wait, v = w.next(u, t)
		}
		w.mu.Unlock()
		if v == noMore {
			return
		}
		w.load(u)
		if wait > 0 {
			until(wait, w.stopped)
			w.mu.Lock()
			early := w.stopped() && now() < wait
			if early { // it never is due
				w.land(u)
				w.end()
			} else {
				w.begins()
			}
			w.mu.Unlock()
			if early {
				return
			}
		}
		turn.give(t)
		u.Issued = now()
		u.Begun = u.Issued
		w.target.Do(u)
		t = now()
		w.inspect(u)
	}
}

// inspect verifies what a job has read that writes nothing: the headers of whoever wrote
// it are all there is to know.
func (w *worker) inspect(u *engine.Unit) {
	if w.seals == nil || w.job.RW.Writes || u.Op != engine.Read || u.Err != nil || u.N < len(u.Buf) {
		return
	}
	err := w.seals.check(u)
	if err != nil {
		err = fmt.Errorf("%s at %d: %w", w.files[u.File], u.Offset, err)
	}
	w.mu.Lock()
	w.checked(err)
	w.mu.Unlock()
}

// pump has all I/Os of the job under way, by a queue.
func (w *worker) pump(q engine.Queue) error {
	depth := len(w.units)
	batch := max(w.job.IODepthBatch, 1)
	least, most := w.job.IODepthBatchCompleteMin, w.job.IODepthBatchCompleteMax
	if most < 1 {
		most = depth
	}
	free := make([]int, depth)
	for i := range free {
		free[i] = depth - 1 - i
	}
	var (
		ready   = make([]*engine.Unit, 0, batch)
		out     = make([]*engine.Unit, min(most, depth))
		wait    int64 // of the unit that is not handed over yet
		turn    turns
		waited  bool // for that unit, which is not counted yet
		ended   bool
		t       = now()
		under   int
		submits [7]int64 // to be booked
		low     = w.job.IODepthLow
		fill    = true // below low since the depth was reached
	)
	for {
		// Take I/Os as long as there is room, and hand them over in batches.
		w.mu.Lock()
		limit := min(w.limit, depth)
		for fill && !ended && wait == 0 && len(ready) < batch && under+len(ready) < limit {
			u := &w.units[free[len(free)-1]]
			at, v := w.next(u, t)
			if v != goOn {
				ended = v == noMore
				break
			}
			free = free[:len(free)-1]
			ready = append(ready, u)
			if at > 0 {
				wait, waited = at, true
			}
		}
		w.mu.Unlock()
		if wait > 0 && t >= wait {
			wait = 0
		}
		if len(ready) > 0 && w.stopped() {
			if waited { // the last has not begun
				ready, waited = ready[:len(ready)-1], false
			}
			w.abandon(ready)
			ready, wait, ended = ready[:0], 0, true
		}
		if n := len(ready); n > 0 && wait == 0 {
			for _, u := range ready {
				if u.Begun == 0 {
					w.load(u)
				}
			}
			if waited {
				w.mu.Lock()
				w.begins()
				w.mu.Unlock()
				waited = false
			}
			t = now()
			for _, u := range ready {
				u.Begun = t
			}
			taken, err := q.Submit(ready)
			if err != nil {
				w.abandon(ready)
				return err
			}
			t = now()
			for _, u := range ready[:taken] {
				u.Issued = t
			}
			under += taken
			submits[result.BatchClass(taken)]++
			ready = ready[:copy(ready, ready[taken:])]
			if under >= limit || len(ready) > 0 {
				fill = low <= 0 || low >= limit
			} else if !ended {
				continue // there is room
			}
		}
		if under == 0 {
			fill = true
			if wait > 0 {
				until(wait, w.stopped)
				t = now()
				continue
			}
			if ended && len(ready) == 0 {
				return nil
			}
			if w.stopped() || len(ready) > 0 {
				continue
			}
		}
		patience := time.Duration(-1)
		want := max(least, 1)
		if least == 0 && under < limit && !ended {
			want = 1
		}
		if wait > 0 {
			patience = time.Duration(max(wait-now(), 0))
		}
		n, err := q.Reap(out, min(want, under), patience)
		t = now()
		if err != nil {
			return err
		}
		if n > 0 {
			under -= n
			for _, u := range out[:n] {
				w.inspect(u)
			}
			w.mu.Lock()
			w.res.Completes[result.BatchClass(n)]++
			for i, n := range submits {
				w.res.Submits[i] += n
				submits[i] = 0
			}
			for _, u := range out[:n] {
				w.complete(u, t)
				free = append(free, u.Slot)
			}
			w.mu.Unlock()
			turn.give(t)
			if under <= low || low <= 0 || low >= limit {
				fill = true
			}
		}
	}
}

// abandon takes back units that no engine has.
func (w *worker) abandon(us []*engine.Unit) {
	w.mu.Lock()
	w.inflight -= len(us)
	w.mu.Unlock()
}

// sync makes durable what was written, if the job says so.
func (w *worker) sync() error {
	if !w.job.EndFsync && !w.job.FsyncOnClose || !w.job.RW.Writes {
		return nil
	}
	for i := range w.files {
		u := engine.Unit{Op: engine.Sync, File: i, Begun: now()}
		if w.target.Do(&u); u.Err != nil {
			return fmt.Errorf("fsync of %s: %w", w.files[i], u.Err)
		}
		w.mu.Lock()
		w.last = now()
		w.res.Sync.Record(w.last - u.Begun)
		w.mu.Unlock()
	}
	return nil
}
