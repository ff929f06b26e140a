package server

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// openTable knows every object that is open on the server, whoever has it open:
// share modes, oplocks and leases, pending deletion and byte-range locks belong to
// the object.
//
// Objects are told apart by their objectKey, so that two names of one file, and
// two shares of one directory, are the same object. mu is never held across a
// call into a file system, nor while anything is sent.
type openTable struct {
	srv *Server // which is told of panics

	mu sync.Mutex
	// guarded by mu
	files map[objectKey]*fileState
	// streams are the named streams among files, by what they are streams of.
	streams map[vfs.FileID][]*fileState
	// epoch counts renames and removals. CREATE looks at it before it opens a
	// name and when it enters the open: if it has changed, the name may have come
	// to mean something else in between.
	epoch uint64
	// pendingDirs is the number of directories to be deleted: while it is above 0
	// CREATE asks whether its parent is one of them.
	pendingDirs atomic.Int32

	leases    map[leaseKey]*caching // guarded by mu
	dirLeases atomic.Int32          // leases of directories
	breaking  map[*caching]struct{} // guarded by mu: that have yet to be acknowledged
	// breakTimeout is how long that may take.
	breakTimeout time.Duration

	changeTimes changeTimes
	shortNames  shortNames
}

// objectKey names what is opened, shared, cached and locked: a file or directory,
// or one of a file's named streams.
type objectKey struct {
	id     vfs.FileID
	stream string // by foldName; empty is the object itself
}

// fileState is what the opens of one object have in common.
type fileState struct {
	key objectKey

	// guarded by openTable.mu
	opens    []*open
	cachings []*caching
	isDir    bool
	linked   bool      // it is a file that has had several names
	pending  *deletion // the object, or some of its names, is to be deleted
	gone     bool      // the last open is closed and the deletion under way
	removing int       // how many are removing names of it that nobody has open
	// replacing: something else is being put in its place, see beginReplacing.
	replacing bool
	changed   chan struct{} // closed when what a CREATE waits for may have happened; nil if none does

	locks lockTable

	// readers is who caches the content: nil for nobody, severalReaders for many.
	readers atomic.Pointer[caching]

	// written is the write time as clients see it.
	written writeTime

	// appending is held while data is added at the end, wherever that is.
	appending sync.Mutex
}

// deletion says by which name an object is to be deleted. Of a file with several names
// that one goes, when it has nobody who has opened it by that: a name is Link of [MS-FSA]
// 2.1.1.4, and has IsDeleted of its own.
type deletion struct {
	fs   vfs.FS
	name string // follows renames
	// stream is the stream of name that is to go; empty for the object itself.
	stream string
	// id is the object, which may be another than is open, see successor.
	id vfs.FileID
	// privileged: it may go though the user may not remove it as far as the operating
	// system knows.
	privileged bool
	// next is that of another name of the file: each goes that an open was to delete.
	next *deletion
	// going: it is being removed, and is not to be taken back.
	going bool
}

// all are the deletions of an object.
func (d *deletion) all() (list []*deletion) {
	for ; d != nil; d = d.next {
		list = append(list, d)
	}
	return list
}

// takes reports whether a name goes. In another view of the storage it may be any.
func (d *deletion) takes(fsys vfs.FS, name string) bool {
	for ; d != nil; d = d.next {
		if !sameStorage(d.fs, fsys) || strings.EqualFold(d.name, name) {
			return true
		}
	}
	return false
}

// cutLocked takes out of the deletions which ones are to be, and reports whether there
// were any.
func (st *fileState) cutLocked(which func(*deletion) bool) (found bool) {
	for p := &st.pending; *p != nil; {
		if which(*p) {
			*p, found = (*p).next, true
		} else {
			p = &(*p).next
		}
	}
	return found
}

// dooms reports whether a name of the object is to be deleted: each has to be known to be
// one of several if others may go without it.
func (st *fileState) dooms(fsys vfs.FS, name string) bool {
	return st != nil && st.pending != nil && (!st.linked || st.pending.takes(fsys, name))
}

// wakeLocked lets CREATEs try again that wait for the object.
func (st *fileState) wakeLocked() {
	if st.changed != nil {
		close(st.changed)
		st.changed = nil
	}
}

// awaitLocked is closed at the next wakeLocked.
func (st *fileState) awaitLocked() <-chan struct{} {
	if st.changed == nil {
		st.changed = make(chan struct{})
	}
	return st.changed
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
	stale    // the name may mean another object by now: open it anew
	mustWait // others have to give up something first
)

// entry is what CREATE enters an open with.
type entry struct {
	key objectKey
	// need are rights that the open takes only while it begins, to overwrite.
	need smb2.AccessMask
	// epoch is what begin said; sure says that the open is to be entered even if
	// names have changed.
	epoch uint64
	sure  bool
	// created says that the object is new, overwrites that its content is going to be
	// replaced, again that the open has had to wait before.
	created, overwrites, again bool
	linked                     bool // it is a file with several names

	caching cachingRequest
}

// enter adds an open to its object if those who have it open allow that, and gives it
// what it may cache. With mustWait the caller tries again when wait is closed. What is
// in b is to be sent in any case.
func (t *openTable) enter(o *open, e *entry, b *breaks) (res enterResult, status ntstatus.Status, wait <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch != e.epoch && !e.sure {
		return stale, ntstatus.Success, nil
	}
	base := t.files[objectKey{id: e.key.id}]
	if base != nil {
		base.linked = base.linked || e.linked
		switch {
		case base.replacing:
			return mustWait, ntstatus.Success, base.awaitLocked()
		case base.dooms(o.fs, o.name):
			return refused, ntstatus.DeletePending, nil
		case base.gone: // by another name
			return mustWait, ntstatus.Success, base.awaitLocked()
		}
	}
	if e.key.stream == "" && o.access&smb2.Delete != 0 && t.streamsForbidDeleteLocked(e.key.id) {
		return refused, ntstatus.SharingViolation, nil
	}
	st := t.files[e.key]
	if st == nil {
		st = t.addLocked(e.key)
		st.isDir = o.isDir
		st.linked = e.linked && e.key.stream == ""
	}
	if st != base && st.pending != nil {
		return refused, ntstatus.DeletePending, nil
	}
	for _, p := range st.opens {
		if p.durable.persistent && p.durable.detached.Load() {
			return refused, ntstatus.FileNotAvailable, nil // [MS-SMB2] 3.3.5.9
		}
	}
	others, must, status := t.admitLocked(st, o, e, b)
	switch {
	case must:
		return mustWait, ntstatus.Success, st.awaitLocked()
	case status != ntstatus.Success:
		return refused, status, nil
	}
	t.grantLocked(st, o, e, &others)
	st.opens = append(st.opens, o)
	o.state = st
	return entered, ntstatus.Success, nil
}

func (t *openTable) addLocked(key objectKey) *fileState {
	if t.files == nil {
		t.files = make(map[objectKey]*fileState)
		t.streams = make(map[vfs.FileID][]*fileState)
	}
	st := &fileState{key: key}
	t.files[key] = st
	if key.stream != "" {
		t.streams[key.id] = append(t.streams[key.id], st)
	}
	return st
}

// dropLocked forgets an object that nobody has open.
func (t *openTable) dropLocked(st *fileState) {
	if t.files[st.key] != st {
		return
	}
	delete(t.files, st.key)
	if st.key.stream == "" {
		return
	}
	rest := slices.DeleteFunc(t.streams[st.key.id], func(p *fileState) bool { return p == st })
	if len(rest) == 0 {
		delete(t.streams, st.key.id)
	} else {
		t.streams[st.key.id] = rest
	}
}

// opensLocked calls f for each open of the object and of its streams, until f
// returns false.
func (t *openTable) opensLocked(id vfs.FileID, f func(*open) bool) {
	if st := t.files[objectKey{id: id}]; st != nil {
		for _, o := range st.opens {
			if !f(o) {
				return
			}
		}
	}
	for _, st := range t.streams[id] {
		for _, o := range st.opens {
			if !f(o) {
				return
			}
		}
	}
}

// isPending reports whether the file or directory is to be deleted, by that name.
func (t *openTable) isPending(id vfs.FileID, fsys vfs.FS, name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.files[objectKey{id: id}].dooms(fsys, name)
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
	if !del && st.pending == nil || st.gone && !(del && st.linked) {
		return false
	}
	was := st.pending
	if del {
		for d := was; d != nil; d = d.next {
			if d.name == o.name || st.isDir || o.stream != "" {
				return false
			}
		}
		st.pending = &deletion{fs: o.fs, name: o.name, stream: o.stream, id: st.key.id, privileged: o.mayDelete, next: was}
		st.pending.became(o)
	} else {
		own := st.cutLocked(func(d *deletion) bool { return d.name == o.name && !d.going })
		if !own && !st.linked {
			st.pending = nil // by the one name it has, however that is spelled
		}
		if !own && st.linked {
			return false
		}
	}
	if st.isDir && (was == nil) != (st.pending == nil) {
		if del {
			t.pendingDirs.Add(1)
		} else {
			t.pendingDirs.Add(-1)
		}
	}
	return true
}

// deletePending reports whether the object is to be deleted, or what it is a stream
// of.
func (o *open) deletePending() bool {
	t := &o.srv.files
	t.mu.Lock()
	defer t.mu.Unlock()
	return o.pendingLocked()
}

func (o *open) pendingLocked() bool {
	base := o.srv.files.files[objectKey{id: o.state.key.id}]
	return o.state != base && o.state.pending != nil || base.dooms(o.fs, o.name)
}

// doomedNames is how many names of the open's file are to go.
func (o *open) doomedNames() (n uint32) {
	t := &o.srv.files
	t.mu.Lock()
	defer t.mu.Unlock()
	if base := t.files[objectKey{id: o.state.key.id}]; base != nil {
		for d := base.pending; d != nil; d = d.next {
			n++
		}
	}
	if n == 0 && o.state.pending != nil {
		n = 1 // the stream goes
	}
	return n
}

// severalNames notes that a file has got another name.
func (o *open) severalNames() {
	t := &o.srv.files
	t.mu.Lock()
	defer t.mu.Unlock()
	if base := t.files[objectKey{id: o.state.key.id}]; base != nil {
		base.linked = true
	}
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
// its last open. A file goes with the last open of all its streams; one of its names, if it
// has several, with the last open of all by that name.
func (t *openTable) leave(ctx context.Context, o *open) {
	var watch *dirWatch
	var b breaks
	defer func() {
		if watch != nil {
			watch.end(ntstatus.Success)
		}
		o.srv.sendBreaks(&b)
	}()
	if t.takeOut(ctx, o, &watch, &b) {
		t.wakeWatches(o.state)
	}
}

// takeOut is leave, but for what it leaves in watch and b, and that the directory's
// watches are to be woken if it says so.
func (t *openTable) takeOut(ctx context.Context, o *open, watch **dirWatch, b *breaks) (wake bool) {
	st := o.state
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(st.opens, o)
	if i < 0 {
		return false
	}
	st.opens = slices.Delete(st.opens, i, i+1)
	*watch = t.leaveCachingLocked(o)
	if o.deleteOnClose && t.setDeleteLocked(st, o, true) {
		// Who keeps a handle for no user of its own keeps the file from going.
		t.breakHandlesLocked(st, nil, b)
	}
	st.wakeLocked()
	wake = st.pending != nil && st.isDir
	if o.posix && st.pending != nil && !st.gone && len(st.opens) > 0 && onlyPosix(st.opens) {
		t.unlinkLocked(ctx, st, o)
	}
	t.removeNamesLocked(ctx, o)
	if len(st.opens) > 0 {
		return wake
	}
	t.settleLocked(ctx, st, o)
	return false
}

// settleLocked forgets an object that nobody has open any more, and deletes it if it was
// to be; o was the last. mu is given up meanwhile.
func (t *openTable) settleLocked(ctx context.Context, st *fileState, o *open) {
	// The entry stays while the object goes, so that CREATE finds it pending.
	for v := t.victimLocked(st); v != nil; {
		t.deleteLocked(ctx, v, o)
		if base := t.files[objectKey{id: v.key.id}]; base != nil {
			v = t.victimLocked(base)
		} else {
			v = nil
		}
	}
}

// deleteLocked deletes an object and forgets it. mu is given up meanwhile, and had again
// even if the storage panics.
func (t *openTable) deleteLocked(ctx context.Context, v *fileState, o *open) {
	v.gone = true
	names := v.pending.all()
	defer func() {
		t.epoch++
		t.dropLocked(v)
		if v.isDir {
			t.pendingDirs.Add(-1)
		}
		v.wakeLocked()
	}()
	t.removeUnlocked(ctx, names, o, func(d *deletion) {
		o.srv.notify.removed(d, v.isDir)
		o.srv.changedIn(ctx, d.fs, d.name, o)
	})
}

// removeUnlocked removes names as they are now and calls done for each that was there. mu
// is given up meanwhile, and had again even if the storage panics.
func (t *openTable) removeUnlocked(ctx context.Context, names []*deletion, o *open, done func(*deletion)) {
	// Also where no request asks for it, as a connection has ended.
	defer o.srv.notify.underway.end(o.srv.notify.underway.begin())
	todo := make([]deletion, len(names))
	for i, d := range names {
		todo[i] = *d
	}
	t.mu.Unlock()
	defer t.mu.Lock()
	for i := range todo {
		if d := &todo[i]; d.remove(ctx, &o.srv.spare) {
			done(d)
		}
	}
}

// removeNamesLocked removes those names of a file that are to go and by which nobody has it
// open any more, while others have it open by other names; o has left. mu is given up
// meanwhile, and the object not forgotten by whoever else leaves.
func (t *openTable) removeNamesLocked(ctx context.Context, o *open) {
	st := t.files[objectKey{id: o.state.key.id}]
	if st == nil || !st.linked || st.pending == nil || st.gone || st.replacing {
		return
	}
	var names []*deletion
	for d := st.pending; d != nil; d = d.next {
		left, used := false, false
		t.opensLocked(st.key.id, func(p *open) bool {
			left = true
			used = !sameStorage(d.fs, p.fs) || strings.EqualFold(d.name, p.name)
			return !used
		})
		if left && !used && !d.going {
			names = append(names, d)
			d.going = true
		}
	}
	if len(names) == 0 {
		return
	}
	st.removing++
	defer func() {
		t.epoch++
		st.removing--
		st.cutLocked(func(d *deletion) bool { return slices.Contains(names, d) })
		st.wakeLocked()
	}()
	t.removeUnlocked(ctx, names, o, func(d *deletion) {
		o.srv.notify.removed(d, false)
		o.srv.changedIn(ctx, d.fs, d.name, o)
	})
}

// unlinkLocked takes the name of an object away that is to be deleted, although it is
// open: those who have it open go on with it. mu is given up meanwhile.
func (t *openTable) unlinkLocked(ctx context.Context, st *fileState, o *open) {
	if st.key.stream != "" || len(t.streams[st.key.id]) > 0 {
		return // the file waits for its streams
	}
	st.gone = true
	names := st.pending.all()
	defer func() {
		t.epoch++
		st.gone = false
		st.cutLocked(func(d *deletion) bool { return slices.Contains(names, d) })
		if st.isDir {
			t.pendingDirs.Add(-1)
		}
		st.wakeLocked()
	}()
	t.removeUnlocked(ctx, names, o, func(d *deletion) { o.srv.notify.removed(d, st.isDir) })
}

// victimLocked forgets an object that is not open any more, unless it is to be
// deleted: then it returns what can go now. A stream goes alone, or with its file,
// which waits for all its streams to be closed.
func (t *openTable) victimLocked(st *fileState) *fileState {
	if len(st.opens) > 0 || st.gone || st.replacing || st.removing > 0 {
		return nil
	}
	base := t.files[objectKey{id: st.key.id}]
	if st != base {
		if st.pending != nil && (base == nil || base.pending == nil) {
			return st
		}
		t.dropLocked(st)
		if base == nil || len(base.opens) > 0 || base.gone || base.removing > 0 {
			return nil
		}
	}
	switch {
	case base.pending == nil:
		t.dropLocked(base)
		return nil
	case len(t.streams[base.key.id]) > 0:
		return nil
	}
	return base
}

// became makes the object that which has taken the place of the open's, at its name.
func (d *deletion) became(o *open) {
	for n := o.became.Load(); n != nil && d != nil; d = d.next {
		if d.stream == "" && d.name == o.name {
			d.id = n.id
		}
	}
}

// remove removes the name if it still means the object, or is a symbolic
// link that leads to it: then it is the link that goes; or the stream. Nobody waits
// for an error: the CLOSE that caused it succeeds all the same, as on other servers.
// It reports whether something was removed.
func (d *deletion) remove(ctx context.Context, spare *spareFiles) bool {
	// A client that has gone away must not stop a deletion it asked for.
	ctx = context.WithoutCancel(ctx)
	return spare.do(func() error {
		if d.stream != "" {
			return d.removeStream(ctx)
		}
		return d.removeName(ctx)
	}) == nil
}

func (d *deletion) removeName(ctx context.Context) error {
	err := d.fs.RemoveIf(ctx, d.name, d.id)
	if errors.Is(err, fs.ErrPermission) && d.privileged {
		// The operating system does not know of the right, which was checked.
		err = vfs.Base(d.fs).RemoveIf(ctx, d.name, d.id)
	}
	if !errors.Is(err, vfs.ErrChanged) {
		return err
	}
	link, err := d.fs.Lstat(ctx, d.name)
	if err != nil {
		return err
	}
	if link.Mode&fs.ModeSymlink == 0 {
		return vfs.ErrChanged
	}
	target, err := d.fs.Stat(ctx, d.name)
	if err != nil {
		return err
	}
	if target.ID != d.id {
		return vfs.ErrChanged
	}
	return d.fs.RemoveIf(ctx, d.name, link.ID)
}

func (d *deletion) removeStream(ctx context.Context) error {
	f, _, err := d.fs.Open(ctx, d.name, vfs.OpenOptions{})
	if err != nil {
		return err
	}
	defer f.Close()
	h, ok := f.(vfs.StreamHolder)
	if !ok {
		return vfs.ErrChanged
	}
	info, err := f.Stat(ctx)
	if err != nil {
		return err
	}
	if info.ID != d.id {
		return vfs.ErrChanged
	}
	return h.RemoveStream(ctx, d.stream)
}

// sameStorage reports whether two views show the same names.
func sameStorage(a, b vfs.FS) bool { return a == b || vfs.Base(a) == vfs.Base(b) }

// beneath reports whether name is dir or something in it.
func beneath(dir, name string) bool {
	return dir == vfs.Root || name == dir || strings.HasPrefix(name, dir) && name[len(dir)] == '/'
}

// openBeneath reports whether anything in the directory of o is open that keeps it from
// being renamed: o's own directory does not, and what has the POSIX extensions does not
// where o has them.
func (t *openTable) openBeneath(o *open) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range t.files {
		if st.key.id == o.state.key.id {
			continue
		}
		for _, p := range st.opens {
			if sameStorage(p.fs, o.fs) && beneath(o.name, p.name) && !(o.posix && p.posix) {
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
	st := t.files[objectKey{id: id}]
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

// isOpen reports whether anybody has the object or one of its streams open.
func (t *openTable) isOpen(id vfs.FileID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := false
	t.opensLocked(id, func(*open) bool { found = true; return false })
	return found
}

// renamed changes the names of all opens at or beneath oldname, after the file
// system has done so.
func (t *openTable) renamed(fsys vfs.FS, oldname, newname string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	for _, st := range t.files {
		for _, p := range st.opens {
			if sameStorage(p.fs, fsys) && beneath(oldname, p.name) {
				p.name = newname + p.name[len(oldname):]
			}
		}
		for d := st.pending; d != nil; d = d.next {
			if sameStorage(d.fs, fsys) && beneath(oldname, d.name) {
				d.name = newname + d.name[len(oldname):]
			}
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
