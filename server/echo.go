package server

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Telling what local processes did from what the server did
//
// The storage says of both that a name has changed, and nothing else. Of a change by the
// server it may say so before that is published, or afterwards, and nobody knows how much
// later on a machine that has other things to do. So time is not measured from when a
// change is heard of, but from when it may have come about:
//
//   - A change was made after its watch was last known to have nothing more to say
//     (localEvent.after). It is the echo of what was published at about that time or later.
//     Who fetches the changes of a watch looks again at short intervals after something was
//     published, so that this is never long ago.
//   - It is held back until all requests that may have made it have published what they
//     did (underway), or too long for that.

const (
	// echoTime is how long after a change that was published the storage may say it
	// again, and how long a local change waits to be told from that.
	echoTime = 100 * time.Millisecond
	// echoMemory is how long what was published is remembered at all.
	echoMemory = 10 * time.Second
	// echoPatience is how long a local change waits for requests that take their time: a
	// CREATE waits for who has the file open, and storage may hang.
	echoPatience = time.Second
	// maxRecent bounds what is remembered. Beyond it echoes are heard.
	maxRecent = 16384
)

// recentChange is when a name was last changed by this server: how it came to be, how it
// went, and at all.
type recentChange struct {
	came, went, at time.Time
}

func (h *notifyHub) rememberLocked(k dirKey, a smb2.NotifyAction, now time.Time) {
	if h.recent == nil {
		h.recent = map[dirKey]recentChange{}
	}
	r, known := h.recent[k]
	r.at = now
	switch a {
	case smb2.FileActionAdded, smb2.FileActionRenamedNewName:
		r.came = now
	case smb2.FileActionRemoved, smb2.FileActionRenamedOldName:
		r.went = now
	}
	if !known && len(h.recent) >= maxRecent {
		for k, r := range h.recent {
			if now.Sub(r.at) > 2*echoTime {
				delete(h.recent, k)
			}
		}
		if len(h.recent) >= maxRecent {
			return
		}
	}
	h.recent[k] = r
}

// isEchoLocked reports whether the server has said itself what the storage saw.
func (h *notifyHub) isEchoLocked(w *dirWatch, e *localEvent) bool {
	r, ok := h.recent[dirKey{w.fs, joinName(w.name, e.Name)}]
	if !ok {
		return false
	}
	at := r.at
	switch e.Action {
	case vfs.Added, vfs.RenamedNew:
		at = r.came
	case vfs.Removed, vfs.RenamedOld:
		at = r.went
	}
	return e.after.Sub(at) <= echoTime && e.seen.Sub(at) <= echoMemory
}

// underway counts the requests that change something and publish that at their end, in
// two generations: those of the older one are over when the next generation begins. The
// zero value is ready.
type underway struct {
	generation atomic.Uint32
	n          [2]atomic.Int64
}

// begin counts a request. end is to be called with what it returns.
func (u *underway) begin() (ticket uint32) {
	ticket = u.generation.Load() & 1
	u.n[ticket].Add(1)
	return ticket
}

func (u *underway) end(ticket uint32) { u.n[ticket].Add(-1) }

// over reports whether all requests that were counted when generation was the current one
// have ended. That takes two turns: one may have been counted as of the generation before.
func (u *underway) over(generation uint32) bool {
	for u.generation.Load()-generation < 2 {
		now := u.generation.Load()
		if u.n[(now+1)&1].Load() != 0 {
			return false
		}
		u.generation.CompareAndSwap(now, now+1)
	}
	return true
}

// localEvent is a change that the storage saw, held back until it is known whether
// it is an echo.
type localEvent struct {
	vfs.Event
	after      time.Time // it has come about after this,
	seen       time.Time // and before this
	generation uint32    // of requests under way at that time
}

// publishedLocked notes that echoes are to be expected.
func (w *dirWatch) publishedLocked(now time.Time) {
	w.published = now
	if w.poke != nil {
		w.poke()
		w.poke = nil
	}
}

// pump passes on what local processes do, from what the storage says since the time
// given. It ends when the watch does.
func (w *dirWatch) pump(ctx context.Context, local vfs.Watch, since time.Time) {
	var held []localEvent
	var buf [16]vfs.Event
	for drained := since; ; { // when there was nothing more to be fetched
		wait, cancel := w.until(ctx, held, drained)
		asked := time.Now()
		n, err := local.Next(wait, buf[:])
		cancel()
		now, generation := time.Now(), w.hub.underway.generation.Load()
		for _, e := range buf[:n] {
			held = append(held, localEvent{e, drained, now, generation})
		}
		if n < len(buf) {
			drained = asked
		}
		if held = w.passOn(held, now); len(held) > localQueue {
			held, err = nil, vfs.ErrOverflow
		}
		switch {
		case err == nil, ctx.Err() == nil && errors.Is(err, wait.Err()):
		case errors.Is(err, vfs.ErrOverflow):
			w.lose()
		case errors.Is(err, fs.ErrNotExist):
			w.end(ntstatus.DeletePending) // the directory has gone
			return
		default:
			return // closed; or the storage cannot tell any more, and the server still can
		}
	}
}

// until makes the context by which pump waits for changes: until some that are held may
// be passed on, or for a moment if echoes are expected, or else until they are.
func (w *dirWatch) until(ctx context.Context, held []localEvent, drained time.Time) (context.Context, context.CancelFunc) {
	const pause = echoTime / 4
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.poke = nil
	now := time.Now()
	due := now.Add(pause)
	echoes := !w.published.IsZero() && drained.Sub(w.published) <= echoTime
	switch {
	case len(held) > 0:
		if ripe := held[0].seen.Add(echoTime); ripe.After(now) && (!echoes || ripe.Before(due)) {
			due = ripe
		}
	case !echoes:
		wait, cancel := context.WithCancel(ctx)
		w.poke = cancel
		return wait, cancel
	}
	return context.WithDeadline(ctx, due)
}

// passOn delivers the events that have been held for long enough, and drops echoes.
func (w *dirWatch) passOn(held []localEvent, now time.Time) []localEvent {
	h := w.hub
	heard := false
	defer func() {
		if heard {
			w.heard()
		}
	}()
	h.mu.Lock()
	defer h.mu.Unlock()
	rest := held[:0]
	for i := range held {
		e := &held[i]
		switch {
		case h.isEchoLocked(w, e):
		case len(rest) > 0 || !h.isRipe(e, now): // in their order
			rest = append(rest, *e)
		case w.heard != nil:
			heard = true
		case int(e.Action) < len(localActions) && e.Action != 0 && localFilter(e.Change)&w.filter != 0:
			w.pushLocked(notifyEvent{localActions[e.Action], e.Name, ""})
		}
	}
	if w.touched {
		w.deliverLocked()
	}
	clear(held[len(rest):])
	return rest
}

// isRipe reports whether what the server does would have been published by now.
func (h *notifyHub) isRipe(e *localEvent, now time.Time) bool {
	age := now.Sub(e.seen)
	return age >= echoTime && h.underway.over(e.generation) || age >= echoPatience
}
