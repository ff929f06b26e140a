package server

import (
	"context"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// # CREATE that comes again
//
// A client whose channel is lost before the answer to a CREATE has come sends it
// again on another, with the flag of a replay and the same CreateGuid. It gets the
// open that the first one made, [MS-SMB2] 3.3.5.9 and 3.3.5.9.10. The specification
// has that for durable handles; here none are granted, and the session that has the
// open is what says whose it is. Directories and opens without access to data are
// known again too: nothing forbids it, and a client that makes a directory or removes
// a file needs it as much.
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
	done  chan struct{} // closed when o is set; the open is not there before
	o     *open
	mine  bool // o is for the one who asked, with a reference
}

// beginReplay looks a CREATE up. An entry without an open is the caller's to end; nil
// is one that nobody will look for.
func (r *request) beginReplay(ctx context.Context, guid smb2.GUID) (*replayEntry, ntstatus.Status) {
	if guid == (smb2.GUID{}) || r.conn.dialect < Dialect300 {
		return nil, ntstatus.Success
	}
	t, key := &r.srv.replays, replayKey{r.conn.clientGUID, guid}
	again := r.hdr.Flags&smb2.FlagReplayOperation != 0
	for {
		t.mu.Lock()
		e := t.m[key]
		if e == nil {
			if _, late := t.late[key]; late && !again {
				t.mu.Unlock()
				return nil, ntstatus.DuplicateObjectID
			}
			if again {
				t.expect(key)
			}
			if t.m == nil {
				t.m = make(map[replayKey]*replayEntry)
			}
			e = &replayEntry{table: t, key: key, done: make(chan struct{})}
			t.m[key] = e
			t.mu.Unlock()
			return e, ntstatus.Success
		}
		t.mu.Unlock()
		if !again {
			return nil, ntstatus.DuplicateObjectID
		}
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, ntstatus.Cancelled
		}
		o := e.o
		switch {
		case o == nil || !o.acquire():
			t.remove(e) // it has failed, or is closed: this one is the first
		case o.ending():
			o.release()
			t.remove(e)
		case o.sess != r.sess || o.tree != r.tree:
			o.release()
			return nil, ntstatus.DuplicateObjectID
		default:
			return &replayEntry{o: o, mine: true}, ntstatus.Success
		}
	}
}

// open is the open that an earlier CREATE made, with a reference; nil if there is
// none.
func (e *replayEntry) open() *open {
	if e == nil || !e.mine {
		return nil
	}
	return e.o
}

// end says what became of a CREATE: o is nil if it failed.
func (e *replayEntry) end(o *open) {
	if e == nil {
		return
	}
	e.o = o
	if o == nil {
		e.table.remove(e)
		close(e.done)
		return
	}
	o.replayKey = e.key
	o.replayable.Store(true)
	close(e.done)
	if o.ending() { // before it could be told
		o.endReplay()
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
	if e := t.m[o.replayKey]; e != nil {
		select {
		case <-e.done:
			if e.o == o {
				delete(t.m, o.replayKey)
			}
		default: // another CREATE by that number
		}
	}
}

func (t *replayTable) remove(e *replayEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[e.key] == e {
		delete(t.m, e.key)
	}
}
