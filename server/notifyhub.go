package server

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// notifyHub passes changes on to the directories that clients watch. There are two
// sources: what this server does is published by who does it, with everything the
// protocol tells apart; what local processes do comes from the storage, which also
// says once more what the server did. The hub remembers for a moment what was
// published, and drops the echo of that (echo.go).
type notifyHub struct {
	active atomic.Int32 // watches: nobody takes the lock where there are none
	leased atomic.Int32 // watches of leases, which are about names only

	underway underway // what may change names and has not published that yet

	mu sync.Mutex
	// guarded by mu
	dirs   map[dirKey][]*dirWatch
	recent map[dirKey]recentChange
}

// dirKey is a name in a storage, whatever view of it was used.
type dirKey struct {
	fs   vfs.FS
	name string
}

// change is something that happened to a name.
type change struct {
	action smb2.NotifyAction
	filter smb2.NotifyFilter // the kinds of change; none: only the storage's echo is dropped
	name   string            // in the share
	stream string            // of the file, or empty
	// unless has kinds of change that tell a watch more of the same.
	unless smb2.NotifyFilter
}

const (
	// maxNotifyBuffer bounds the changes kept for one watch, in bytes as they are sent.
	maxNotifyBuffer = 128 << 10
	// localQueue is how many changes the storage keeps until they are fetched.
	localQueue = 4096
)

// notifyEvent is a change as one watch sees it.
type notifyEvent struct {
	action smb2.NotifyAction
	name   string // relative to the directory
	stream string
}

// wireSize is what the event takes in FILE_NOTIFY_INFORMATION, [MS-FSCC] 2.7.1, at
// most: UTF-16 never has more units than UTF-8 has bytes.
func (e *notifyEvent) wireSize() int { return (12 + 2*(len(e.name)+1+len(e.stream)) + 3) &^ 3 }

// wireName is the name as it is sent, [MS-FSA] 2.1.4.1.
func (e *notifyEvent) wireName() string {
	if e.stream == "" {
		return toWirePath(e.name)
	}
	return toWirePath(e.name) + ":" + e.stream
}

// dirWatch is the watch of one open of a directory. The first CHANGE_NOTIFY makes
// it, with a filter and a size of buffer that later ones do not change.
type dirWatch struct {
	hub       *notifyHub
	fs        vfs.FS // the storage, not a view
	filter    smb2.NotifyFilter
	recursive bool
	limit     int      // of the buffer, in bytes
	veto      []string // names of which the client is not to know
	// heard is called, in place of gathering events, when somebody else than the server
	// has changed something: the watch is a lease's. It must not block.
	heard func()

	// guarded by hub.mu
	name     string
	events   []notifyEvent
	size     int  // of events as they are sent
	overflow bool // events is not all that happened
	touched  bool // events came since the waiters were looked at
	waiting  []*notifyWaiter
	ended    bool
	status   ntstatus.Status    // of requests from now on, once ended
	cancel   context.CancelFunc // ends pump; nil if the storage does not tell
	answered *conn              // by which the last answer went; nil if the client has it
	// published is when something that the watch includes was last published. pump waits
	// without a limit while poke is not nil, which ends that.
	published time.Time
	poke      context.CancelFunc
}

// notifyWaiter is a request that waits; it gets all that there is at once.
type notifyWaiter struct {
	done     chan struct{} // closed when the rest is set
	events   []notifyEvent
	overflow bool
	status   ntstatus.Status // Success, or why the watch has ended
}

// add begins a watch of o, whose name cannot change meanwhile.
func (h *notifyHub) add(w *dirWatch, o *open) {
	o.srv.files.mu.Lock()
	defer o.srv.files.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	w.name = o.name
	if h.dirs == nil {
		h.dirs = map[dirKey][]*dirWatch{}
	}
	k := dirKey{w.fs, w.name}
	h.dirs[k] = append(h.dirs[k], w)
	w.count().Add(1)
}

// count is the counter that the watch is in.
func (w *dirWatch) count() *atomic.Int32 {
	if w.heard != nil {
		return &w.hub.leased
	}
	return &w.hub.active
}

// idle reports whether nobody wants to know of names.
func (h *notifyHub) idle() bool { return h.active.Load() == 0 && h.leased.Load() == 0 }

// end ends a watch and everybody who waits for it. Only the first call counts.
func (w *dirWatch) end(st ntstatus.Status) {
	h := w.hub
	h.mu.Lock()
	if w.ended {
		h.mu.Unlock()
		return
	}
	w.ended, w.status = true, st
	h.dropLocked(w)
	if w.count().Add(-1); h.idle() {
		clear(h.recent)
	}
	waiting, cancel := w.waiting, w.cancel
	w.waiting, w.events = nil, nil
	h.mu.Unlock()
	for _, q := range waiting {
		q.status = st
		close(q.done)
	}
	if cancel != nil {
		cancel()
	}
}

// stopBy has cancel called at the end of the watch. It reports false if that was before.
func (w *dirWatch) stopBy(cancel context.CancelFunc) bool {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if w.ended {
		return false
	}
	w.cancel = cancel
	return true
}

func (h *notifyHub) dropLocked(w *dirWatch) {
	k := dirKey{w.fs, w.name}
	ws := slices.DeleteFunc(h.dirs[k], func(x *dirWatch) bool { return x == w })
	if len(ws) == 0 {
		delete(h.dirs, k)
	} else {
		h.dirs[k] = ws
	}
}

// wait takes what has been gathered, or lines up for what comes.
func (w *dirWatch) wait() *notifyWaiter {
	q := &notifyWaiter{done: make(chan struct{})}
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if w.ended {
		q.status = w.status
		close(q.done)
		return q
	}
	w.answered = nil // who asks again has had the answer
	w.waiting = append(w.waiting, q)
	w.deliverLocked()
	return q
}

// answeredOn notes the connection that an answer goes by, until the client asks again.
func (w *dirWatch) answeredOn(c *conn) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.answered = c
}

// lostWith tells the client to read the directory anew if the last answer may have been
// lost with a connection.
func (w *dirWatch) lostWith(c *conn) {
	w.hub.mu.Lock()
	lost := w.answered == c && !w.ended
	w.answered = nil
	w.hub.mu.Unlock()
	if lost {
		w.lose()
	}
}

// leave takes a request out of the line. It reports false if that has its answer.
func (w *dirWatch) leave(q *notifyWaiter) bool {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	i := slices.Index(w.waiting, q)
	if i < 0 {
		return false
	}
	w.waiting = slices.Delete(w.waiting, i, i+1)
	return true
}

// deliverLocked gives the first in the line what there is.
func (w *dirWatch) deliverLocked() {
	w.touched = false
	if len(w.waiting) == 0 || len(w.events) == 0 && !w.overflow {
		return
	}
	q := w.waiting[0]
	w.waiting = slices.Delete(w.waiting, 0, 1)
	q.events, q.overflow = w.events, w.overflow
	w.events, w.size, w.overflow = nil, 0, false
	close(q.done)
}

// pushLocked keeps an event, as far as the buffer goes. What was said last is not
// said twice.
func (w *dirWatch) pushLocked(e notifyEvent) {
	if w.overflow || vetoed(w.veto, e.name) {
		return
	}
	if n := len(w.events); n > 0 && w.events[n-1] == e &&
		(e.action == smb2.FileActionModified || e.action == smb2.FileActionModifiedStream) {
		return
	}
	w.touched = true
	if w.size += e.wireSize(); w.size > w.limit {
		w.loseLocked()
		return
	}
	w.events = append(w.events, e)
}

// loseLocked notes that the client must read the directory anew.
func (w *dirWatch) loseLocked() {
	w.events, w.size, w.overflow, w.touched = nil, 0, true, true
}

// changed publishes what the server has done, in its order: the changes of one call
// reach a client in one answer.
func (h *notifyHub) changed(fsys vfs.FS, changes ...change) {
	if h.idle() {
		return
	}
	fsys = vfs.Base(fsys)
	h.mu.Lock()
	defer h.mu.Unlock()
	var touched [8]*dirWatch
	list := touched[:0]
	var now time.Time // when, if somebody sees it
	for _, c := range changes {
		h.watchersLocked(fsys, c.name, func(w *dirWatch, rel string) {
			if now.IsZero() {
				now = time.Now()
			}
			w.publishedLocked(now)
			if w.heard != nil || w.filter&c.filter == 0 || w.filter&c.unless != 0 {
				return
			}
			w.pushLocked(notifyEvent{c.action, rel, c.stream})
			if w.touched && !slices.Contains(list, w) {
				list = append(list, w)
			}
		})
	}
	for _, w := range list {
		w.deliverLocked()
	}
	if !now.IsZero() {
		for _, c := range changes {
			h.rememberLocked(dirKey{fsys, c.name}, c.action, now)
		}
	}
}

// watchersLocked calls f for each watch that includes name, with the name as it is
// called there. A directory's watch does not include the directory itself.
func (h *notifyHub) watchersLocked(fsys vfs.FS, name string, f func(w *dirWatch, rel string)) {
	if name == vfs.Root {
		return
	}
	direct := true
	for dir := name; dir != vfs.Root; direct = false {
		dir, _ = vfs.Split(dir)
		rel := name
		if dir != vfs.Root {
			rel = name[len(dir)+1:]
		}
		for _, w := range h.dirs[dirKey{fsys, dir}] {
			if direct || w.recursive {
				f(w, rel)
			}
		}
	}
}

func joinName(dir, rel string) string {
	if dir == vfs.Root {
		return rel
	}
	return dir + "/" + rel
}

// renamed publishes the rename of a file or directory, [MS-FSA] 2.1.5.15.11, and
// tells the watches beneath it what they are called now.
func (h *notifyHub) renamed(fsys vfs.FS, from, to string, isDir bool) {
	if h.idle() {
		return
	}
	base := vfs.Base(fsys)
	if isDir {
		h.mu.Lock()
		var moved []*dirWatch
		for k, ws := range h.dirs {
			if k.fs == base && beneath(from, k.name) {
				moved = append(moved, ws...)
				delete(h.dirs, k)
			}
		}
		for _, w := range moved {
			w.name = to + w.name[len(from):]
			k := dirKey{w.fs, w.name}
			h.dirs[k] = append(h.dirs[k], w)
		}
		h.mu.Unlock()
	}
	kind := nameFilter(isDir)
	gone, come := smb2.FileActionRenamedOldName, smb2.FileActionRenamedNewName
	fromDir, _ := vfs.Split(from)
	if toDir, _ := vfs.Split(to); fromDir != toDir {
		gone, come = smb2.FileActionRemoved, smb2.FileActionAdded
	}
	changes := []change{{action: gone, filter: kind, name: from}, {action: come, filter: kind, name: to}}
	if !isDir {
		// A file that gets a name is also one that has new attributes and times, to who
		// is not told of names.
		changes = append(changes, change{
			action: smb2.FileActionModified, name: to,
			filter: smb2.FileNotifyChangeAttributes | smb2.FileNotifyChangeCreation, unless: kind,
		})
	}
	h.changed(fsys, changes...)
}

// nameFilter is the filter of names that come, go and change.
func nameFilter(isDir bool) smb2.NotifyFilter {
	if isDir {
		return smb2.FileNotifyChangeDirName
	}
	return smb2.FileNotifyChangeFileName
}

// localFilter is what a change that the storage saw may be. It tells them apart less
// finely than the protocol does.
func localFilter(c vfs.Changes) (f smb2.NotifyFilter) {
	if c&vfs.ChangeFileName != 0 {
		f |= smb2.FileNotifyChangeFileName
	}
	if c&vfs.ChangeDirName != 0 {
		f |= smb2.FileNotifyChangeDirName
	}
	if c&vfs.ChangeData != 0 {
		f |= smb2.FileNotifyChangeSize | smb2.FileNotifyChangeLastWrite
	}
	if c&vfs.ChangeMetadata != 0 {
		f |= smb2.FileNotifyChangeAttributes | smb2.FileNotifyChangeLastWrite | smb2.FileNotifyChangeLastAccess |
			smb2.FileNotifyChangeCreation | smb2.FileNotifyChangeEA | smb2.FileNotifyChangeSecurity
	}
	return f
}

// localChanges is what the storage is asked for.
func localChanges(f smb2.NotifyFilter) (c vfs.Changes) {
	for k := vfs.ChangeFileName; k <= vfs.ChangeMetadata; k <<= 1 {
		if localFilter(k)&f != 0 {
			c |= k
		}
	}
	return c
}

// localActions are of [MS-FSCC] 2.7.1.
var localActions = [...]smb2.NotifyAction{
	vfs.Added:      smb2.FileActionAdded,
	vfs.Removed:    smb2.FileActionRemoved,
	vfs.Modified:   smb2.FileActionModified,
	vfs.RenamedOld: smb2.FileActionRenamedOldName,
	vfs.RenamedNew: smb2.FileActionRenamedNewName,
}

// lose notes that changes of local processes were missed.
func (w *dirWatch) lose() {
	if w.heard != nil {
		w.heard()
		return
	}
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.loseLocked()
	w.deliverLocked()
}
