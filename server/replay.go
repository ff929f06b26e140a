package server

import (
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// # CREATE that comes again
//
// A client whose channel is lost before the answer to a CREATE has come sends it
// again on another, with the flag of a replay and the same CreateGuid. It gets the
// open that the first one made, [MS-SMB2] 3.3.5.9 and 3.3.5.9.10, or is told
// STATUS_FILE_NOT_AVAILABLE while the first one is still being served, as it may be for
// long where an oplock has to be broken: the client tries again then. Directories and
// opens without access to data are known again too: nothing forbids it, and a client
// that makes a directory or removes a file needs it as much.
//
// The first one may also come last: it waits in a queue of the lost channel while the
// one that was sent again is served. Nobody wants what it would open, nor would close
// it. So it is refused, as one whose number is taken.

// replayKey names a CREATE: who sent it, and the number that it gave it.
type replayKey struct {
	client, create smb2.GUID
}

// replayTable holds the opens that are replay eligible, and the CREATEs with a
// CreateGuid under way. The opens' limit and the requests' bound it. The zero value
// is ready.
type replayTable struct {
	mu sync.Mutex
	m  map[replayKey]*replayEntry // guarded by mu
	// late are CREATEs of which only what was sent again has come, the last of them in
	// a ring of those in the order in which they came.
	late map[replayKey]struct{}    // guarded by mu
	ring [maxLateCreates]replayKey // guarded by mu
	next int                       // guarded by mu: in ring
}

// maxLateCreates bounds how many CREATEs are remembered that may come late.
const maxLateCreates = 1024

// expect notes that the first of a CREATE that was sent again may still come. Called
// with mu held.
func (t *replayTable) expect(key replayKey) {
	if _, ok := t.late[key]; ok {
		return
	}
	if t.late == nil {
		t.late = make(map[replayKey]struct{})
	}
	delete(t.late, t.ring[t.next])
	t.ring[t.next] = key
	t.next = (t.next + 1) % len(t.ring)
	t.late[key] = struct{}{}
}

// replayEntry is a CREATE with a CreateGuid.
type replayEntry struct {
	table *replayTable
	key   replayKey
	o     *open // guarded by replayTable.mu; nil while the CREATE is being served
}

// beginReplay looks a CREATE up. Either it finds the open that an earlier one made,
// with a reference; or the entry is the caller's, to be ended, nil if nobody will look
// for one.
func (c *creation) beginReplay(r *request) (*open, *replayEntry, ntstatus.Status) {
	guid := c.ctxs.durable.createGUID
	if guid == (smb2.GUID{}) {
		return nil, nil, ntstatus.Success
	}
	t, key := &r.srv.replays, replayKey{r.conn.clientGUID, guid}
	again := r.hdr.Flags&smb2.FlagReplayOperation != 0
	for {
		e, o, mine := t.lookup(key, again)
		switch {
		case mine:
			return nil, e, ntstatus.Success
		case !again:
			return nil, nil, ntstatus.DuplicateObjectID
		case o == nil:
			return nil, nil, ntstatus.FileNotAvailable
		}
		r.srv.files.mu.Lock()
		ok, detached, same := o.acquire(), o.durable.detached.Load(), o.sess == r.sess && o.tree == r.tree
		r.srv.files.mu.Unlock()
		if !ok {
			t.remove(e) // it is closed: this one is the first
			continue
		}
		select {
		case <-o.closing:
			o.release()
			t.remove(e)
			continue
		default:
		}
		if !same || detached {
			o.release()
			return nil, nil, ntstatus.DuplicateObjectID
		}
		if st := c.checkReplayLease(o); st != ntstatus.Success {
			o.release()
			return nil, nil, st
		}
		return o, nil, ntstatus.Success
	}
}

// lookup returns what there is by the number. Without anything, but for a CREATE that
// comes too late, the entry is the caller's.
func (t *replayTable) lookup(key replayKey, again bool) (e *replayEntry, o *open, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e = t.m[key]; e != nil {
		return e, e.o, false
	}
	if _, late := t.late[key]; late && !again {
		return nil, nil, false
	}
	if again {
		t.expect(key)
	}
	if t.m == nil {
		t.m = make(map[replayKey]*replayEntry)
	}
	e = &replayEntry{table: t, key: key}
	t.m[key] = e
	return e, nil, true
}

// end says what became of a CREATE: o is nil if it failed.
func (e *replayEntry) end(o *open) {
	if e == nil {
		return
	}
	if o == nil {
		e.table.remove(e)
		return
	}
	o.replayKey = e.key
	e.table.mu.Lock()
	e.o = o
	e.table.mu.Unlock()
	o.replayable.Store(true)
	select {
	case <-o.closing: // before it could be told
		o.endReplay()
	default:
	}
}

// endReplay makes the open one that no CREATE finds again: it is closed, or the
// client has used it, and so has had the answer.
func (o *open) endReplay() {
	if !o.replayable.Load() || !o.replayable.Swap(false) {
		return
	}
	t := &o.srv.replays
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.m[o.replayKey]; e != nil && e.o == o {
		delete(t.m, o.replayKey)
	}
}

func (t *replayTable) remove(e *replayEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[e.key] == e {
		delete(t.m, e.key)
	}
}
