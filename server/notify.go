package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// notifyState is what an open of a directory knows of its watch, and what one of a file
// has told others'.
type notifyState struct {
	told   atomic.Int64 // when content was last said to have changed, in Unix nanoseconds
	untold atomic.Bool  // it has since

	mu sync.Mutex
	// guarded by mu
	watch   *dirWatch // nil before the first request
	over    bool      // the open is closed
	gone    bool      // the directory is to be deleted
	counted *openSet  // whose count of watches includes this
}

// close ends the watch and every request that waits on it.
func (n *notifyState) close() { n.end(ntstatus.NotifyCleanup, func() { n.over = true }) }

// deleted ends it because the directory is to be deleted: requests that wait,
// and those to come, get STATUS_DELETE_PENDING.
func (n *notifyState) deleted() { n.end(ntstatus.DeletePending, func() { n.gone = true }) }

func (n *notifyState) end(st ntstatus.Status, why func()) {
	n.mu.Lock()
	why()
	w, c := n.watch, n.counted
	n.counted = nil
	n.mu.Unlock()
	if c != nil {
		c.watches.Add(-1)
	}
	if w != nil {
		w.end(st)
	}
}

// lostChannel is told that a session has lost a connection and has another: answers that
// were on their way are gone, and what they said is nowhere else.
func (s *session) lostChannel(c *conn) {
	for _, o := range s.opens.take(nil, false) {
		o.notify.mu.Lock()
		w := o.notify.watch
		o.notify.mu.Unlock()
		if w != nil {
			w.lostWith(c)
		}
		o.release()
	}
}

// changeNotify serves CHANGE_NOTIFY, [MS-SMB2] 3.3.5.19.
func changeNotify(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseChangeNotifyRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(req.FileID)
	if st != ntstatus.Success {
		return st
	}
	defer o.release()
	if uint64(req.OutputBufferLength) > uint64(r.conn.maxTransact) || !o.isDir {
		return ntstatus.InvalidParameter
	}
	if o.tree.share.NoNotify {
		return ntstatus.NotImplemented
	}
	if o.access&smb2.FileListDirectory == 0 {
		return ntstatus.AccessDenied
	}
	r.conn.awaitEarlier(ctx, r, o.id)
	// The watch runs before the client learns that its request is pending, so that no
	// change made after that is missed.
	w, st := o.startWatch(req.CompletionFilter, req.Flags&smb2.WatchTree != 0, int(req.OutputBufferLength))
	if st != ntstatus.Success {
		return st
	}
	q := w.wait()
	if st := r.goAsync(); st != ntstatus.Success {
		w.leave(q)
		return st
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		if w.leave(q) {
			return o.cancelStatus()
		}
		<-q.done
	}
	if q.status != ntstatus.Success {
		return q.status
	}
	w.answeredOn(r.conn)
	room := min(int(req.OutputBufferLength), w.limit, r.room())
	return answerChanges(r, q, room)
}

// cancelStatus is the status of a request whose context has ended: because the
// open is being closed, or because the client, or its going, cancelled it.
func (o *open) cancelStatus() ntstatus.Status {
	if o.ending() {
		return ntstatus.NotifyCleanup
	}
	return ntstatus.Cancelled
}

// startWatch starts the watch, once; later filters and sizes have no effect, as on
// Windows.
func (o *open) startWatch(filter smb2.NotifyFilter, tree bool, size int) (*dirWatch, ntstatus.Status) {
	w, started, st := o.addWatch(filter, tree, size)
	if started {
		o.watchLocally(w)
	}
	return w, st
}

// addWatch is the open's watch, which it makes known to the hub if there was none.
func (o *open) addWatch(filter smb2.NotifyFilter, tree bool, size int) (w *dirWatch, started bool, st ntstatus.Status) {
	n := &o.notify
	n.mu.Lock()
	defer n.mu.Unlock() // also if a file system of another's making panics
	switch {
	case n.over:
		return nil, false, ntstatus.NotifyCleanup
	case n.gone:
		return nil, false, ntstatus.DeletePending
	case n.watch != nil:
		return n.watch, false, ntstatus.Success
	}
	count := &o.sess.opens
	defer func() {
		if n.watch == nil { // too many, or a panic
			count.watches.Add(-1)
		}
	}()
	if count.watches.Add(1) > int32(o.srv.cfg.Limits.WatchesPerConn) {
		return nil, false, ntstatus.InsufficientResources
	}
	w = &dirWatch{
		hub: &o.srv.notify, fs: vfs.Base(o.fs),
		filter: filter, recursive: tree, limit: min(size, maxNotifyBuffer),
		veto: o.tree.share.VetoFiles,
	}
	w.hub.add(w, o)
	n.watch, n.counted = w, count
	return w, true, ntstatus.Success
}

// localPatience is how long the first request waits for the storage to begin watching:
// beneath a directory there may be a hundred thousand others.
const localPatience = time.Second

// watchLocally adds what local processes do to a watch, where the storage can tell.
// Where it cannot, for one as the kernel's watches are used up, clients still learn
// of each other's changes. It returns when the storage watches, also for a request that
// is cancelled at once, as later ones ask what has happened since; or takes too long: then
// the client is told to read the directory anew as soon as it does.
func (o *open) watchLocally(w *dirWatch) {
	watcher, ok := o.fs.(vfs.Watcher)
	changes := localChanges(w.filter)
	if !ok || changes == 0 {
		return
	}
	pctx, cancel := context.WithCancel(o.srv.ctx)
	if !w.stopBy(cancel) {
		cancel()
		return
	}
	const waited, began, late = 0, 1, 2
	var state atomic.Int32
	beginning := make(chan struct{})
	o.srv.wg.Add(1)
	go func() { // ends with the watch; Close waits
		defer o.srv.wg.Done()
		defer cancel()
		var once sync.Once
		begins := func() { once.Do(func() { close(beginning) }) }
		defer func() {
			if v := recover(); v != nil {
				o.srv.panicked(v, "during", "watching a directory", "share", o.tree.share.Name)
				w.lose() // what comes from now on is not seen
			}
		}()
		defer begins()
		since := time.Now()
		local, err := watcher.Watch(pctx, o.path(), vfs.WatchOptions{
			Recursive: w.recursive, Changes: changes, QueueLen: localQueue,
		})
		if err != nil && pctx.Err() == nil {
			o.srv.log.Warn("changes by local processes are not seen", "share", o.tree.share.Name, "err", err)
		}
		inTime := state.CompareAndSwap(waited, began)
		begins()
		if err != nil {
			return
		}
		defer local.Close()
		if !inTime {
			w.lose()
		}
		w.pump(pctx, local, since)
	}()
	t := time.NewTimer(localPatience)
	defer t.Stop()
	select {
	case <-beginning:
	case <-t.C:
		state.CompareAndSwap(waited, late)
	}
}

// enumDir tells the client to read the directory anew.
func enumDir(r *request) ntstatus.Status {
	r.out, _ = (&smb2.ChangeNotifyResponse{}).AppendBinary(r.out)
	r.warnData = true
	return ntstatus.NotifyEnumDir
}

// answerChanges appends the response, or tells the client to read the directory
// anew if the events need more than room bytes.
func answerChanges(r *request, q *notifyWaiter, room int) ntstatus.Status {
	if q.overflow {
		return enumDir(r)
	}
	start := len(r.out)
	r.out = beginOutput(r.out)
	list := smb2.NewEntryList(r.out, room)
	for _, e := range q.events {
		if !list.AppendNotify(smb2.FileNotifyInformation{Action: e.action, FileName: e.wireName()}) {
			r.out = r.out[:start]
			return enumDir(r)
		}
	}
	r.out = endOutput(list.Bytes(), start)
	return ntstatus.Success
}

// The kinds of change that operations of this server are.
const (
	contentChange = smb2.FileNotifyChangeSize | smb2.FileNotifyChangeLastWrite
	streamChange  = smb2.FileNotifyChangeStreamSize | smb2.FileNotifyChangeStreamWrite
	// overwriteChange is what overwriting makes of a file, [MS-FSA] 2.1.5.1.2.
	overwriteChange = contentChange | smb2.FileNotifyChangeAttributes
)

// changed publishes that the open's file or stream was changed. It costs a look at a
// counter where nobody watches.
func (o *open) changed(f smb2.NotifyFilter) {
	if o.srv.notify.active.Load() == 0 {
		return
	}
	o.publish(smb2.FileActionModified, f)
}

// contentPause is how often watches are told of a file that is being written: those who
// look at every change would not come to an end, and every WRITE would take the hub's
// lock. What is left untold is told by CLOSE.
const contentPause = int64(50 * time.Millisecond)

// contentChanged publishes a change of content, if the last one was not just now.
func (o *open) contentChanged() {
	if o.srv.notify.active.Load() == 0 {
		return
	}
	n := &o.notify
	now := time.Now().UnixNano()
	if last := n.told.Load(); last != 0 && now-last < contentPause {
		n.untold.Store(true)
		return
	}
	n.told.Store(now)
	n.untold.Store(false)
	o.publish(smb2.FileActionModified, contentChange)
}

// contentSettles publishes what contentChanged has left out. The open is going to be
// closed, and may set its write time: that is part of it, not a change by somebody else.
func (o *open) contentSettles() {
	if o.notify.untold.Swap(false) {
		o.changed(contentChange)
	} else {
		o.changed(0)
	}
}

// publish tells watches what happened to the open's file or stream.
func (o *open) publish(a smb2.NotifyAction, f smb2.NotifyFilter) {
	o.srv.files.mu.Lock()
	c := change{action: a, filter: f, name: o.name, stream: o.stream}
	o.srv.files.mu.Unlock()
	switch {
	case c.stream == "" || a != smb2.FileActionModified:
	case f&contentChange != 0:
		c.action, c.filter = smb2.FileActionModifiedStream, streamChange
	default: // attributes, times and rights are the file's
		c.stream = ""
	}
	o.srv.notify.changed(o.fs, c)
}

// opened publishes what CREATE did, [MS-FSA] 2.1.5.1.1 and 2.1.5.1.2.
func (o *open) opened(did vfs.Action, overwrites bool) {
	if o.srv.notify.idle() {
		return
	}
	switch {
	case did == vfs.Created && o.stream != "":
		o.publish(smb2.FileActionAddedStream, smb2.FileNotifyChangeStreamName)
	case did == vfs.Created:
		o.publish(smb2.FileActionAdded, nameFilter(o.isDir))
	case overwrites:
		o.publish(smb2.FileActionModified, overwriteChange)
	}
}

// removed publishes that an object has gone, [MS-FSA] 2.1.5.5.
func (h *notifyHub) removed(d *deletion, isDir bool) {
	c := change{action: smb2.FileActionRemoved, filter: nameFilter(isDir), name: d.name, stream: d.stream}
	if d.stream != "" {
		c.action, c.filter = smb2.FileActionRemovedStream, smb2.FileNotifyChangeStreamName
	}
	h.changed(d.fs, c)
}

// infoSet publishes what a SET_INFO that was carried out has changed. Sizes and names
// are published by who changes them.
func (o *open) infoSet(req *smb2.SetInfoRequest) {
	if o.srv.notify.active.Load() == 0 || o.isPipe {
		return
	}
	var f smb2.NotifyFilter
	switch req.InfoType {
	case smb2.InfoSecurity:
		f = smb2.FileNotifyChangeSecurity
	case smb2.InfoFile:
		switch smb2.FileInfoClass(req.FileInfoClass) {
		case smb2.ClassFileBasicInformation:
			if m, err := smb2.ParseFileBasicInformation(req.Buffer); err == nil {
				f = basicChange(&m)
			}
		case smb2.ClassFileFullEaInformation: // [MS-FSA] 2.1.5.15.5
			f = smb2.FileNotifyChangeEA | smb2.FileNotifyChangeAttributes
		case smb2.ClassFileAllocationInformation:
			f = smb2.FileNotifyChangeSize
		default:
			return
		}
	}
	o.publish(smb2.FileActionModified, f)
}

// basicChange is what FileBasicInformation changes, [MS-FSA] 2.1.5.15.2.
func basicChange(m *smb2.FileBasicInformation) (f smb2.NotifyFilter) {
	if m.FileAttributes != 0 {
		f |= smb2.FileNotifyChangeAttributes
	}
	if m.CreationTime.IsSet() {
		f |= smb2.FileNotifyChangeCreation
	}
	if m.LastAccessTime.IsSet() {
		f |= smb2.FileNotifyChangeLastAccess
	}
	if m.LastWriteTime.IsSet() {
		f |= smb2.FileNotifyChangeLastWrite
	}
	return f
}
