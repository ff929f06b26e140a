package server

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// notifyState is the watch of a directory's open. The first CHANGE_NOTIFY
// starts it; between requests the watch itself keeps what happens, up to its
// bound, after which clients are told to read the directory anew.
type notifyState struct {
	mu sync.Mutex
	// guarded by mu
	line    []chan struct{} // requests in order of arrival; closed: it is its turn
	watch   vfs.Watch       // nil before the first request
	idle    bool            // watching for nothing: the filter had no valid bit
	over    bool            // the open is closed
	gone    bool            // the directory is to be deleted
	overCh  chan struct{}   // closed when either becomes true, for idle watches
	counted *openSet        // whose count of watches includes this
}

func (n *notifyState) init(isDir bool) {
	if !isDir {
		return
	}
	n.overCh = make(chan struct{})
}

// close ends the watch and every request that waits on it.
func (n *notifyState) close() { n.end(func() { n.over = true }) }

// deleted ends it because the directory is to be deleted: requests that wait,
// and those to come, get STATUS_DELETE_PENDING.
func (n *notifyState) deleted() { n.end(func() { n.gone = true }) }

func (n *notifyState) end(why func()) {
	if n.overCh == nil {
		return // no directory
	}
	n.mu.Lock()
	first := !n.over && !n.gone
	why()
	w, c := n.watch, n.counted
	n.counted = nil
	n.mu.Unlock()
	if first {
		close(n.overCh)
	}
	if c != nil {
		c.watches.Add(-1)
	}
	if w != nil {
		_ = w.Close() // closing twice does nothing
	}
}

// join lines a request up. Requests on one open are answered in the order they
// came; what join returns is closed when it is this one's turn.
func (n *notifyState) join() chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	turn := make(chan struct{})
	n.line = append(n.line, turn)
	if len(n.line) == 1 {
		close(turn)
	}
	return turn
}

// leave takes a request out of the line.
func (n *notifyState) leave(turn chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.Index(n.line, turn)
	n.line = slices.Delete(n.line, i, i+1)
	if i == 0 && len(n.line) > 0 {
		close(n.line[0])
	}
}

// ended is the status of a request whose watch has been ended.
func (n *notifyState) ended() (ntstatus.Status, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.over:
		return ntstatus.NotifyCleanup, true
	case n.gone:
		return ntstatus.DeletePending, true
	}
	return ntstatus.Success, false
}

// notifyChanges translates a completion filter ([MS-SMB2] 2.2.35). The storage
// tells changes apart less finely than the protocol does.
func notifyChanges(f smb2.NotifyFilter) vfs.Changes {
	var c vfs.Changes
	if f&smb2.FileNotifyChangeFileName != 0 {
		c |= vfs.ChangeFileName
	}
	if f&smb2.FileNotifyChangeDirName != 0 {
		c |= vfs.ChangeDirName
	}
	if f&(smb2.FileNotifyChangeSize|smb2.FileNotifyChangeLastWrite) != 0 {
		c |= vfs.ChangeData
	}
	if f&(smb2.FileNotifyChangeAttributes|smb2.FileNotifyChangeLastWrite|smb2.FileNotifyChangeLastAccess|
		smb2.FileNotifyChangeCreation|smb2.FileNotifyChangeEA|smb2.FileNotifyChangeSecurity) != 0 {
		c |= vfs.ChangeMetadata
	}
	return c
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
	if o.access&smb2.FileListDirectory == 0 {
		return ntstatus.AccessDenied
	}
	watcher, ok := o.fs.(vfs.Watcher)
	if !ok {
		return ntstatus.NotSupported
	}
	n := &o.notify
	if st, ended := n.ended(); ended {
		return st
	}
	r.conn.awaitEarlier(ctx, r, o.id)
	turn := n.join()
	defer n.leave(turn)
	start := func() ntstatus.Status {
		return o.startWatch(ctx, watcher, req.CompletionFilter, req.Flags&smb2.WatchTree != 0)
	}
	select {
	case <-turn:
		// The watch runs before the client learns that its request is pending, so
		// that no change made after that is missed.
		if st := start(); st != ntstatus.Success {
			return st
		}
	default: // somebody is before it
	}
	if st := r.goAsync(); st != ntstatus.Success {
		return st
	}
	select {
	case <-turn:
	case <-ctx.Done():
		return o.cancelStatus()
	case <-n.overCh:
		st, _ := n.ended()
		return st
	}
	if st := start(); st != ntstatus.Success { // unless it runs
		return st
	}
	return o.awaitChanges(ctx, r, min(int(req.OutputBufferLength), r.room()))
}

// cancelStatus is the status of a request whose context has ended: because the
// open is being closed, or because the client, or its going, cancelled it.
func (o *open) cancelStatus() ntstatus.Status {
	if o.ending() {
		return ntstatus.NotifyCleanup
	}
	return ntstatus.Cancelled
}

// startWatch starts the watch, once; later filters have no effect, as on
// Windows. The caller has the turn.
func (o *open) startWatch(ctx context.Context, w vfs.Watcher, filter smb2.NotifyFilter, tree bool) ntstatus.Status {
	n := &o.notify
	n.mu.Lock()
	running := n.watch != nil || n.idle
	n.mu.Unlock()
	if running {
		return ntstatus.Success
	}
	changes := notifyChanges(filter)
	c := &o.sess.opens
	if c.watches.Add(1) > int32(o.srv.cfg.Limits.WatchesPerConn) {
		c.watches.Add(-1)
		return ntstatus.InsufficientResources
	}
	var watch vfs.Watch
	if changes != 0 {
		var err error
		// Also for a request that is cancelled at once: it starts the watch that later
		// ones ask what has happened since.
		watch, err = w.Watch(context.WithoutCancel(ctx), o.path(), vfs.WatchOptions{Recursive: tree, Changes: changes})
		if err != nil {
			c.watches.Add(-1)
			return ntstatus.FromError(err)
		}
	}
	n.mu.Lock()
	ended := n.over || n.gone
	n.watch, n.idle = watch, watch == nil
	if !ended {
		n.counted = c
	}
	n.mu.Unlock()
	if ended {
		c.watches.Add(-1)
		if watch != nil {
			_ = watch.Close()
		}
	}
	return ntstatus.Success
}

// notifyBatch is how many events one response may carry.
const notifyBatch = 64

// awaitChanges waits for events and answers with them. The caller has the turn.
func (o *open) awaitChanges(ctx context.Context, r *request, room int) ntstatus.Status {
	n := &o.notify
	n.mu.Lock()
	watch := n.watch
	n.mu.Unlock()
	if watch == nil {
		select {
		case <-ctx.Done():
			return o.cancelStatus()
		case <-n.overCh:
			st, _ := n.ended()
			return st
		}
	}
	var events [notifyBatch]vfs.Event
	count, err := watch.Next(ctx, events[:])
	switch {
	case err == nil:
	case errors.Is(err, vfs.ErrOverflow):
		return enumDir(r)
	case errors.Is(err, fs.ErrNotExist):
		if st, ended := n.ended(); ended {
			return st
		}
		return ntstatus.DeletePending
	default:
		if st, ended := n.ended(); ended {
			return st
		}
		if ctx.Err() != nil {
			return o.cancelStatus()
		}
		return ntstatus.FromError(err)
	}
	return answerChanges(r, events[:count], room)
}

// enumDir tells the client to read the directory anew.
func enumDir(r *request) ntstatus.Status {
	r.out, _ = (&smb2.ChangeNotifyResponse{}).AppendBinary(r.out)
	r.warnData = true
	return ntstatus.NotifyEnumDir
}

// notifyActions are of [MS-FSCC] 2.7.1.
var notifyActions = [...]smb2.NotifyAction{
	vfs.Added:      smb2.FileActionAdded,
	vfs.Removed:    smb2.FileActionRemoved,
	vfs.Modified:   smb2.FileActionModified,
	vfs.RenamedOld: smb2.FileActionRenamedOldName,
	vfs.RenamedNew: smb2.FileActionRenamedNewName,
}

// answerChanges appends the response, or tells the client to read the directory
// anew if the events need more than room bytes.
func answerChanges(r *request, events []vfs.Event, room int) ntstatus.Status {
	start := len(r.out)
	r.out = beginOutput(r.out)
	list := smb2.NewEntryList(r.out, room)
	for _, e := range events {
		if int(e.Action) >= len(notifyActions) || e.Action == 0 {
			continue
		}
		if !list.AppendNotify(smb2.FileNotifyInformation{Action: notifyActions[e.Action], FileName: toWirePath(e.Name)}) {
			r.out = r.out[:start]
			return enumDir(r)
		}
	}
	r.out = endOutput(list.Bytes(), start)
	return ntstatus.Success
}
