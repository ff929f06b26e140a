package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Write times
//
// The write time that clients see follows writes late, as it does on Windows
// ([MS-FSA] 2.1.4.17 leaves it to the server when): the first WRITE through an open
// shows two seconds later, those that follow when the open is closed, or when the
// client flushes, changes the size, or sets attributes or times. Clients that keep
// content in their caches compare this time, and programs that write in small pieces
// do not make a file look new with each of them.
//
// The storage's own write time moves with every write meanwhile, for local programs.
// Nothing waits and no timer runs: what is to be shown is decided when somebody asks.

// writeTimeDelay is how long the first write through an open does not show.
const writeTimeDelay = 2 * time.Second

// writeTimePhase says how far an object's write time is from the storage's.
type writeTimePhase uint8

const (
	// timeShown is the storage's time.
	timeShown writeTimePhase = iota
	// timePending is the time told last until it is due, then the storage's.
	timePending
	// timeHeld is the time told last.
	timeHeld
)

// writeTime is the write time of an object as clients see it. The zero value shows
// the storage's.
type writeTime struct {
	mu sync.Mutex
	// guarded by mu
	phase writeTimePhase
	due   time.Time
	told  time.Time // what was told last; zero before the first

	// late says that phase is not timeShown: another WRITE changes nothing then, and
	// need not take mu. It is set with mu held.
	late atomic.Bool
}

// become sets the phase.
func (w *writeTime) become(p writeTimePhase) {
	w.phase = p
	w.late.Store(p != timeShown)
}

// tell puts into info the write time to be shown at now, and remembers it.
func (w *writeTime) tell(info *vfs.Info, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == timePending && !now.Before(w.due) {
		w.become(timeShown)
	}
	if w.phase == timeShown || w.told.IsZero() {
		w.told = info.WriteTime
		return
	}
	info.WriteTime = w.told
}

// wrote notes a write at now, which was the first one through its open or not.
func (w *writeTime) wrote(first bool, now time.Time) {
	if !first && w.late.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case first && w.phase != timePending:
		w.become(timePending)
		w.due = now.Add(writeTimeDelay)
	case w.phase == timeShown:
		w.become(timeHeld)
	}
}

// hold keeps showing t until show.
func (w *writeTime) hold(t time.Time) {
	w.mu.Lock()
	w.become(timeHeld)
	w.told = t
	w.mu.Unlock()
}

// show ends what keeps the storage's time from being shown, and reports whether it
// had been held back: then nobody has been told of the last writes in time.
func (w *writeTime) show() (held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	held = w.phase == timeHeld
	w.become(timeShown)
	return held
}

// timeState is what an open has done to the times of its file: a time that the client
// has set, or frozen by -1, does not follow the open's own operations while the
// handle lives ([MS-FSCC] 2.4.7).
type timeState struct {
	mu sync.Mutex
	// guarded by mu
	stickyWrite  bool      // the write time does not follow WRITE
	write        time.Time // what it is to be
	stickyChange bool      // likewise the change time
	change       time.Time
	written      bool // the open has written before
	dirty        bool // and has not settled the time since
}

// wrote keeps the books after a WRITE of n bytes at off.
func (o *open) wrote(off int64, n int) {
	if n == 0 {
		return
	}
	o.pos.Store(off + int64(n))
	o.touched()
}

// touched keeps the books after a change of content.
func (o *open) touched() {
	t := &o.times
	t.mu.Lock()
	first := !t.written
	sticky, at := t.stickyWrite, t.write
	t.written, t.dirty = true, true
	t.mu.Unlock()
	o.contentChanged()
	switch {
	case sticky:
		o.state.written.hold(at)
	case !o.posix: // those see what local programs do
		o.state.written.wrote(first, time.Now())
	}
}

// stat describes the file as its clients are to see it.
func (o *open) stat(ctx context.Context) (vfs.Info, error) {
	f := o.file
	if l := o.became.Load(); l != nil {
		f = l.file
	}
	info, err := f.Stat(ctx)
	if err == nil {
		o.present(&info)
	}
	return info, err
}

// showTimes puts the times into info that clients are to see.
func (o *open) showTimes(info *vfs.Info) {
	o.srv.files.changeTimes.apply(info)
	o.times.mu.Lock()
	if o.times.stickyChange {
		info.ChangeTime = o.times.change
	}
	o.times.mu.Unlock()
	o.state.written.tell(info, time.Now())
}

// showTimes is open.showTimes for an object that may be open or not.
func (t *openTable) showTimes(info *vfs.Info) {
	t.changeTimes.apply(info)
	t.mu.Lock()
	st := t.files[objectKey{id: info.ID}]
	t.mu.Unlock()
	if st != nil {
		st.written.tell(info, time.Now())
	}
}

// settleTimes makes the times of the storage what the open's end makes of them.
func (o *open) settleTimes(ctx context.Context) {
	o.settleWrite(ctx, false)
	o.times.mu.Lock()
	sticky, at := o.times.stickyChange, o.times.change
	o.times.mu.Unlock()
	if sticky {
		o.keepChangeTime(ctx, at)
	}
}

// settleWrite ends the delay of the open's writes, if there were any. A write time that
// the client has pinned is put back; one that has been held, or is to be later than
// what was shown whatever the storage's clock ticks like, becomes the present time.
func (o *open) settleWrite(ctx context.Context, now bool) {
	t := &o.times
	t.mu.Lock()
	due, sticky, at := t.dirty, t.stickyWrite, t.write
	t.dirty = false
	t.mu.Unlock()
	if !due {
		return
	}
	if held := o.state.written.show(); !sticky {
		if !held && !now {
			return
		}
		at = time.Now()
	}
	// Where it cannot be set, the time is the storage's.
	_ = o.file.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetWriteTime, WriteTime: at})
}

// flushTimes ends the delay of the open's writes: the client has asked for something
// that shows them.
func (o *open) flushTimes(ctx context.Context) {
	o.times.mu.Lock()
	sticky := o.times.stickyWrite
	o.times.mu.Unlock()
	if !sticky {
		o.settleWrite(ctx, true)
	}
}

// keepChangeTime makes at the change time of the object as it is now.
func (o *open) keepChangeTime(ctx context.Context, at time.Time) {
	if info, err := o.file.Stat(ctx); err == nil {
		o.srv.files.changeTimes.set(&info, at)
	}
}
