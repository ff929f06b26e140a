package server

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// openTable knows every object that is open on the server, whoever has it open:
// share modes, pending deletion and byte-range locks belong to the object.
//
// Objects are told apart by their vfs.FileID, so that two names of one file, and
// two shares of one directory, are the same object. mu is never held across a
// call into a file system.
type openTable struct {
	mu sync.Mutex
	// guarded by mu
	files map[vfs.FileID]*fileState
	// epoch counts renames and removals. CREATE looks at it before it opens a
	// name and when it enters the open: if it has changed, the name may have come
	// to mean something else in between.
	epoch uint64
	// pendingDirs is the number of directories to be deleted: while it is above 0
	// CREATE asks whether its parent is one of them.
	pendingDirs atomic.Int32

	changeTimes changeTimes
}

// fileState is what the opens of one object have in common.
type fileState struct {
	id vfs.FileID

	// guarded by openTable.mu
	opens   []*open
	isDir   bool
	pending *deletion // the object is to be deleted with its last open
	gone    bool      // the last open is closed and the deletion under way

	// sparse is set by FSCTL_SET_SPARSE; the storage has no place for it.
	sparse atomic.Bool

	locks lockTable

	// written is the write time as clients see it.
	written writeTime

	// appending is held while data is added at the end, wherever that is.
	appending sync.Mutex
}

// deletion says by which name an object is to be deleted.
type deletion struct {
	fs   vfs.FS
	name string // follows renames
}

// Access rights that take part in sharing, [MS-FSA] 2.1.5.1.2.2.
const (
	sharesRead   = smb2.FileReadData | smb2.FileExecute
	sharesWrite  = smb2.FileWriteData | smb2.FileAppendData
	sharesDelete = smb2.Delete
	sharesAny    = sharesRead | sharesWrite | sharesDelete
)

// shareConflict reports whether opens with these access masks exclude each
// other: one wants what the other does not share. Opens for metadata only take
// no part in it.
func shareConflict(access smb2.AccessMask, share smb2.ShareAccess, access2 smb2.AccessMask, share2 smb2.ShareAccess) bool {
	if access&sharesAny == 0 || access2&sharesAny == 0 {
		return false
	}
	refuses := func(access smb2.AccessMask, share smb2.ShareAccess) bool {
		return access&sharesRead != 0 && share&smb2.FileShareRead == 0 ||
			access&sharesWrite != 0 && share&smb2.FileShareWrite == 0 ||
			access&sharesDelete != 0 && share&smb2.FileShareDelete == 0
	}
	return refuses(access, share2) || refuses(access2, share)
}

// begin is called before a name is opened; its result goes to enter.
func (t *openTable) begin() (epoch uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch
}

// enterResult says what became of an enter.
type enterResult uint8

const (
	entered enterResult = iota
	refused
	stale // the name may mean another object by now: open it anew
)

// enter adds an open to the object id if its share modes allow. need are rights
// that the open takes only while it begins, to overwrite. epoch is what begin
// said; sure says that the open is to be entered even if names have changed.
func (t *openTable) enter(o *open, id vfs.FileID, need smb2.AccessMask, epoch uint64, sure bool) (enterResult, ntstatus.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch != epoch && !sure {
		return stale, ntstatus.Success
	}
	st := t.files[id]
	if st == nil {
		if t.files == nil {
			t.files = make(map[vfs.FileID]*fileState)
		}
		st = &fileState{id: id, isDir: o.isDir}
		t.files[id] = st
	}
	if st.pending != nil {
		return refused, ntstatus.DeletePending
	}
	for _, p := range st.opens {
		if shareConflict(o.access|need, o.shareAccess, p.access, p.shareAccess) {
			return refused, ntstatus.SharingViolation
		}
	}
	st.opens = append(st.opens, o)
	o.state = st
	return entered, ntstatus.Success
}

// isPending reports whether the object is to be deleted.
func (t *openTable) isPending(id vfs.FileID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.files[id]
	return st != nil && st.pending != nil
}

// setDelete marks the object for deletion by the open's name, or takes that
// back. It reports whether anything changed. Emptiness of directories and the
// like have been checked.
func (t *openTable) setDelete(o *open, del bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.setDeleteLocked(o.state, o, del)
}

func (t *openTable) setDeleteLocked(st *fileState, o *open, del bool) bool {
	if del == (st.pending != nil) {
		return false
	}
	n := int32(1)
	if del {
		st.pending = &deletion{fs: o.fs, name: o.name}
	} else {
		st.pending = nil
		n = -1
	}
	if st.isDir {
		t.pendingDirs.Add(n)
	}
	return true
}

// deletePending reports whether the object is to be deleted.
func (o *open) deletePending() bool {
	o.srv.files.mu.Lock()
	defer o.srv.files.mu.Unlock()
	return o.state.pending != nil
}

// wakeWatches ends the watches of a directory that is to be deleted.
func (t *openTable) wakeWatches(st *fileState) {
	t.mu.Lock()
	opens := slices.Clone(st.opens)
	t.mu.Unlock()
	for _, p := range opens {
		p.notify.deleted()
	}
}

// leave takes an open out and deletes the object if it was to be and this was
// its last open.
func (t *openTable) leave(ctx context.Context, o *open) {
	st := o.state
	t.mu.Lock()
	i := slices.Index(st.opens, o)
	if i < 0 {
		t.mu.Unlock()
		return
	}
	st.opens = slices.Delete(st.opens, i, i+1)
	if o.deleteOnClose {
		t.setDeleteLocked(st, o, true)
	}
	if len(st.opens) > 0 {
		wake := st.pending != nil && st.isDir
		t.mu.Unlock()
		if wake {
			t.wakeWatches(st)
		}
		return
	}
	if st.pending == nil {
		delete(t.files, st.id)
		t.mu.Unlock()
		return
	}
	// The entry stays while the object goes, so that CREATE finds it pending.
	st.gone = true
	d := *st.pending
	t.mu.Unlock()

	removeObject(ctx, d.fs, d.name, st.id)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	delete(t.files, st.id)
	if st.isDir {
		t.pendingDirs.Add(-1)
	}
}

// removeObject removes name if it still means the object id, or is a symbolic
// link that leads to it: then it is the link that goes. Nobody waits for an
// error: the CLOSE that caused it succeeds all the same, as on other servers.
func removeObject(ctx context.Context, fsys vfs.FS, name string, id vfs.FileID) {
	// A client that has gone away must not stop a deletion it asked for.
	ctx = context.WithoutCancel(ctx)
	err := fsys.RemoveIf(ctx, name, id)
	if !errors.Is(err, vfs.ErrChanged) {
		return
	}
	link, err := fsys.Lstat(ctx, name)
	if err != nil || link.Mode&fs.ModeSymlink == 0 {
		return
	}
	if target, err := fsys.Stat(ctx, name); err == nil && target.ID == id {
		_ = fsys.RemoveIf(ctx, name, link.ID)
	}
}

// beneath reports whether name is dir or something in it.
func beneath(dir, name string) bool {
	return dir == vfs.Root || name == dir || strings.HasPrefix(name, dir) && name[len(dir)] == '/'
}

// openBeneath reports whether anything in the directory of o is open, o's own
// directory not counted.
func (t *openTable) openBeneath(o *open) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range t.files {
		if st == o.state {
			continue
		}
		for _, p := range st.opens {
			if p.fs == o.fs && beneath(o.name, p.name) {
				return true
			}
		}
	}
	return false
}

// conflicts reports whether an open of the object with these rights would be
// refused for sharing.
func (t *openTable) conflicts(id vfs.FileID, access smb2.AccessMask, share smb2.ShareAccess) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.files[id]
	if st == nil {
		return false
	}
	for _, p := range st.opens {
		if shareConflict(access, share, p.access, p.shareAccess) {
			return true
		}
	}
	return false
}

// isOpen reports whether anybody has the object open.
func (t *openTable) isOpen(id vfs.FileID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.files[id]
	return st != nil && len(st.opens) > 0
}

// renamed changes the names of all opens at or beneath oldname, after the file
// system has done so.
func (t *openTable) renamed(fsys vfs.FS, oldname, newname string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	for _, st := range t.files {
		for _, p := range st.opens {
			if p.fs == fsys && beneath(oldname, p.name) {
				p.name = newname + p.name[len(oldname):]
			}
		}
		if d := st.pending; d != nil && d.fs == fsys && beneath(oldname, d.name) {
			d.name = newname + d.name[len(oldname):]
		}
	}
}

// changed is called when a name has come to mean another object otherwise.
func (t *openTable) changed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
}

// counts are the numbers of objects and opens.
func (t *openTable) counts() (files, opens int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range t.files {
		opens += len(st.opens)
	}
	return len(t.files), opens
}
