package fuse

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// # Deleting what is open
//
// A name that is deleted is gone on POSIX, while who has the file open goes on with
// it. On SMB the name stays until the last open has ended, and what is open cannot be
// replaced. So an open file whose name is deleted or replaced gets another one, which
// this file system does not show, and is opened once more with FILE_DELETE_ON_CLOSE:
// the server deletes it when it is closed here for the last time, or when this client
// vanishes.

// doomedPrefix begins the names of files that are deleted and still open.
const doomedPrefix = ".smbd-deleted-"

func isDoomed(name string) bool {
	return strings.HasPrefix(name, doomedPrefix) && len(name) == len(doomedPrefix)+32
}

func doomedName() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: it ends the program first
	return doomedPrefix + hex.EncodeToString(b[:])
}

// doom deletes a name in this way. n is who has the file open here, and may be nil:
// then somebody else has.
func (f *filesystem) doom(ctx context.Context, n *inode, dir *inode, wire string) error {
	o := client.CreateOptions{
		Access:  client.AccessDelete | client.AccessReadAttributes | client.AccessSynchronize,
		Options: client.OptOpenReparsePoint | client.OptDeleteOnClose | client.OptNonDirectory,
	}
	name := doomedName()
	to, ok := f.t.in(dir, name)
	if !ok {
		return errDeleted
	}
	var file *client.File
	err := f.onName(dir, wire, func(p string) (err error) {
		file, err = f.sh.CreateFile(ctx, p, o)
		if !errors.Is(err, fs.ErrPermission) {
			return err
		}
		// What is read-only is not opened so.
		return f.sh.WhileWritable(ctx, p, func() (err error) {
			file, err = f.sh.CreateFile(ctx, p, o)
			return err
		})
	})
	if err != nil {
		return err
	}
	if isDoomed(wire) { // already
		name = wire
	} else if err := file.Rename(ctx, to, false); err != nil {
		// It must not be deleted now, but closing would: there is no way back from
		// FILE_DELETE_ON_CLOSE, as long as the name is not given up.
		f.cfg.Logger.Warn("an open file is deleted under its own name", "err", err)
	}
	at := link{dir, name}
	if name != wire {
		f.moved(link{dir, wire}, at)
	}
	if n != nil {
		n.mu.Lock()
		if n.opensByLocked(at) {
			n.doomed = append(n.doomed, file)
			file = nil
		}
		n.mu.Unlock()
	}
	if file == nil {
		return nil
	}
	// A file with more names than this one goes on to be open by another: on the server a
	// name goes with the last open by it ([MS-FSA] 2.1.5.5, Link.IsDeleted), which was ours.
	if err := file.Close(); err != nil {
		return err
	}
	f.t.removed(at.parent, at.name)
	if n != nil {
		n.lost()
	}
	return nil
}

// opensByLocked says whether something is open here by a name of the file. Called with n.mu
// held.
func (n *inode) opensByLocked(at link) bool {
	l := n.lockFile.Load()
	return l != nil && l.at == at || slices.ContainsFunc(n.opens, func(h *handle) bool { return h.at == at })
}

// moved notes that what had one name has another in its place, and what is open by it, too.
func (f *filesystem) moved(from, to link) {
	n := f.t.moved(from, to)
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range slices.Concat(n.opens, n.cache.idle) {
		if h.at == from {
			h.at = to
		}
	}
	if l := n.lockFile.Load(); l != nil && l.at == from {
		l.at = to
	}
}

// Unlink implements unlink(2).
func (f *filesystem) Unlink(cancel <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	ctx := f.begin(cancel, h)
	defer ctx.end()
	dir := f.t.get(h.NodeId)
	if dir == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	wire, err := toServer(name)
	if err != nil {
		return status(err)
	}
	return status(f.whole(ctx, func(ctx context.Context) error { return f.unlink(ctx, dir, wire) }, dir))
}

func (f *filesystem) unlink(ctx context.Context, dir *inode, wire string) error {
	n := f.t.at(dir, wire)
	defer f.dirChanged(dir)
	if n != nil {
		f.closeIdle(n)
		defer f.changed(n)
		if !f.posix {
			if err := f.closings.wait(ctx, n); err != nil {
				return err
			}
		}
	}
	if n != nil && n.isOpen() {
		switch {
		case !f.posix:
			return f.doom(ctx, n, dir, wire)
		case f.unlinks.Load() != unlinksAtOnce:
			return f.unlinkOpen(ctx, n, link{dir, wire})
		}
	}
	err := f.onName(dir, wire, func(p string) error { return f.sh.Remove(ctx, p) })
	if err == nil {
		if n != nil {
			n.lost()
		}
		f.t.removed(dir, wire)
	}
	return err
}

// lost notes that a file has one name less.
func (n *inode) lost() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nlink > 0 {
		n.nlink--
	}
}

// What becomes of the name of an open file that is deleted, on a share with the POSIX
// extensions.
const (
	unlinksUnknown int32 = iota
	unlinksAtOnce        // it is gone
	unlinksLater         // ksmbd goes on to list it until the last open has ended, and lets nobody have it
)

// unlinkOpen is unlink of what is open, where it is not known that names go at once: the
// file gets a hidden one first, and what is seen of that then tells how it is.
func (f *filesystem) unlinkOpen(ctx context.Context, n *inode, at link) error {
	hidden := link{at.parent, doomedName()}
	if err := f.put(ctx, at, hidden); err != nil {
		return err
	}
	err := f.onName(hidden.parent, hidden.name, func(p string) error { return f.sh.Remove(ctx, p) })
	if err != nil {
		if back := f.put(ctx, hidden, at); back != nil {
			f.cfg.Logger.Error("a file that was not deleted has not got its name back", "name", at.name, "is", hidden.name, "err", back)
		}
		return err
	}
	f.t.removed(hidden.parent, hidden.name)
	if f.unlinks.Load() == unlinksUnknown {
		err := f.onName(hidden.parent, hidden.name, func(p string) error {
			_, err := f.sh.Lstat(ctx, p)
			return err
		})
		switch {
		case errors.Is(err, ntstatus.DeletePending):
			f.unlinks.Store(unlinksLater)
		case errors.Is(err, fs.ErrNotExist):
			f.unlinks.Store(unlinksAtOnce)
		}
	}
	if f.unlinks.Load() != unlinksLater {
		n.lost()
		return nil
	}
	n.mu.Lock()
	if len(n.opens) > 0 {
		n.pending++
	}
	n.mu.Unlock()
	return nil
}

// put gives what has one name another one, which nothing has.
func (f *filesystem) put(ctx context.Context, from, to link) error {
	target, ok := f.t.in(to.parent, to.name)
	if !ok {
		return errDeleted
	}
	err := f.onName(from.parent, from.name, func(p string) error { return f.sh.Rename(ctx, p, target, false) })
	if err == nil {
		f.moved(from, to)
	}
	return err
}

// Rename implements renameat2(2), of whose flags SMB can carry RENAME_NOREPLACE.
func (f *filesystem) Rename(cancel <-chan struct{}, in *gofuse.RenameIn, oldName, newName string) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	from, to := f.t.get(in.NodeId), f.t.get(in.Newdir)
	if from == nil || to == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	if in.Flags&^unix.RENAME_NOREPLACE != 0 {
		return gofuse.EINVAL
	}
	oldWire, err := toServer(oldName)
	if err != nil {
		return status(err)
	}
	newWire, err := toServer(newName)
	if err != nil {
		return status(err)
	}
	replace := in.Flags&unix.RENAME_NOREPLACE == 0
	return status(f.whole(ctx, func(ctx context.Context) error {
		return f.rename(ctx, link{from, oldWire}, link{to, newWire}, replace)
	}, from, to))
}

func (f *filesystem) rename(ctx context.Context, from, to link, replace bool) error {
	move := func() error {
		target, ok := f.t.in(to.parent, to.name)
		if !ok {
			return errDeleted
		}
		return f.onName(from.parent, from.name, func(p string) error {
			return f.sh.Rename(ctx, p, target, replace)
		})
	}
	defer f.dirChanged(from.parent, to.parent)
	defer f.aheads.hold()()
	for _, l := range []link{from, to} {
		if n := f.t.at(l.parent, l.name); n != nil {
			f.closeIdle(n)
			defer f.changed(n)
		}
	}
	var err error
	if n := f.t.at(to.parent, to.name); replace && !f.posix && n != nil && n.kind != syscall.S_IFDIR && n.isOpen() {
		if err := f.mayReplace(ctx, from, to); err != nil {
			return err
		}
		err = f.inPlaceOf(ctx, to, move)
	} else {
		err = move()
	}
	if n := f.t.at(from.parent, from.name); errors.Is(err, fs.ErrPermission) && n != nil && n.kind == syscall.S_IFDIR && f.closeKept(ctx) {
		err = move() // what was open in the directory was so for our convenience
	}
	if err != nil && replace && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EISDIR)) {
		if room, rerr := f.makeRoom(ctx, from, to, move); rerr != nil || room {
			err = rerr
		}
	}
	if err == nil {
		f.moved(from, to)
		f.tellOpens()
	}
	return err
}

// tellOpens tells opens by which name they are to be had again when the connection is
// lost, after names have changed: also those in a directory that was renamed.
func (f *filesystem) tellOpens() {
	tell := func(n *inode, file *client.File) {
		if p, ok := f.t.path(n); ok && file != nil {
			_ = file.Moved(p) // a path of ours is one of the client's
		}
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, h := range f.handles {
		tell(h.n, h.f)
		if l := h.n.lockFile.Load(); l != nil {
			tell(h.n, l.f)
		}
	}
	for _, n := range f.listedDirs {
		n.mu.Lock()
		l := n.cache.listing
		n.mu.Unlock()
		if l != nil {
			tell(n, l.file)
		}
	}
}

// mayReplace has the errors of rename(2) about what is at both names.
func (f *filesystem) mayReplace(ctx context.Context, from, to link) error {
	var a, b *client.FileInfo
	err := f.onName(from.parent, from.name, func(p string) (err error) {
		a, err = f.sh.Lstat(ctx, p)
		return err
	})
	if err != nil {
		return err
	}
	err = f.onName(to.parent, to.name, func(p string) (err error) {
		b, err = f.sh.Lstat(ctx, p)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	default:
		ka, kb := kindOf(a), kindOf(b)
		switch {
		case ka == syscall.S_IFDIR && kb != syscall.S_IFDIR:
			return syscall.ENOTDIR
		case ka != syscall.S_IFDIR && kb == syscall.S_IFDIR:
			return syscall.EISDIR
		}
	}
	return nil
}

// makeRoom moves where a server does not replace and rename(2) does: an empty directory
// by a directory, and a file that is read-only or that another client has open. room is
// false if that is not what keeps the server from it. The two steps are not one: who
// looks in between finds nothing.
func (f *filesystem) makeRoom(ctx context.Context, from, to link, move func() error) (room bool, err error) {
	if err := f.mayReplace(ctx, from, to); err != nil {
		return false, err
	}
	var fi *client.FileInfo
	err = f.onName(to.parent, to.name, func(p string) (err error) {
		fi, err = f.sh.Lstat(ctx, p)
		return err
	})
	if err != nil {
		return false, nil // what the server said of the rename counts
	}
	if kindOf(fi) == syscall.S_IFDIR {
		if err := f.rmdir(ctx, to.parent, to.name); err != nil {
			return true, err
		}
		err := move()
		if err != nil { // there has to be one, as before
			_ = f.onName(to.parent, to.name, func(p string) error { return f.sh.MkdirPerm(ctx, p, fi.Mode().Perm()) })
		}
		return true, err
	}
	return true, f.inPlaceOf(ctx, to, move)
}

// inPlaceOf calls move while the file that has the name to has a hidden one. If move
// succeeds the file is deleted, as doom does; else it gets its name back: a rename(2)
// that fails has replaced nothing.
func (f *filesystem) inPlaceOf(ctx context.Context, to link, move func() error) error {
	hidden := link{to.parent, doomedName()}
	if err := f.put(ctx, to, hidden); errors.Is(err, fs.ErrNotExist) {
		return move() // somebody else has deleted it
	} else if err != nil {
		return err
	}
	err := move()
	if err != nil {
		back := f.put(ctx, hidden, to)
		// If the answer to the move was lost, and the name is taken, then it has been made.
		if back == nil || !errors.Is(err, client.ErrUncertain) || !errors.Is(back, fs.ErrExist) {
			if back != nil {
				f.cfg.Logger.Error("a file that was not replaced has not got its name back", "name", to.name, "is", hidden.name, "err", back)
			}
			return err
		}
	}
	if derr := f.doom(ctx, f.t.at(hidden.parent, hidden.name), hidden.parent, hidden.name); derr != nil {
		f.cfg.Logger.Warn("a file that was replaced is still there", "name", hidden.name, "err", derr)
	}
	return err
}

// Link implements link(2).
func (f *filesystem) Link(cancel <-chan struct{}, in *gofuse.LinkIn, name string, out *gofuse.EntryOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	dir, n := f.t.get(in.NodeId), f.t.get(in.Oldnodeid)
	if dir == nil || n == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	wire, err := toServer(name)
	if err == nil {
		err = f.whole(ctx, func(ctx context.Context) error {
			return f.onPath(n, func(p string) error {
				to, ok := f.t.in(dir, wire)
				if !ok {
					return errDeleted
				}
				return f.sh.Link(ctx, p, to)
			})
		}, dir)
	}
	if err == nil {
		f.changed(n) // it has one more name
		f.dirChanged(dir)
		_, err = f.lookup(ctx, dir, name, out)
	}
	return status(err)
}

// SetAttr implements chmod(2), chown(2), truncate(2) and utimensat(2).
func (f *filesystem) SetAttr(cancel <-chan struct{}, in *gofuse.SetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	n := f.t.get(in.NodeId)
	if n == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	set := *in
	if err := f.whole(ctx, func(ctx context.Context) error { return f.setAttr(ctx, n, &set) }, n); err != nil {
		return status(err)
	}
	fi, err := f.info(ctx, n)
	if err != nil {
		return status(err)
	}
	f.fill(n, fi, &out.Attr)
	out.SetTimeout(f.attrTimeout(n))
	return gofuse.OK
}

// setAttr sets what is asked for, the size first: it may be what is not allowed.
func (f *filesystem) setAttr(ctx context.Context, n *inode, in *gofuse.SetAttrIn) error {
	defer f.changed(n) // what was known before, that is
	if size, ok := in.GetSize(); ok {
		if err := f.truncate(ctx, n, in, size); err != nil {
			return err
		}
	}
	if err := f.chown(ctx, n, in); err != nil {
		return err
	}
	if mode, ok := in.GetMode(); ok {
		if err := f.chmod(ctx, n, mode); err != nil {
			return err
		}
	}
	atime, setA := in.GetATime()
	mtime, setM := in.GetMTime()
	if !setA && !setM {
		return nil
	}
	return f.chtimes(ctx, n, atime, mtime)
}

func (f *filesystem) truncate(ctx context.Context, n *inode, in *gofuse.SetAttrIn, size uint64) error {
	if size > 1<<63-1 {
		return syscall.EFBIG
	}
	var h *handle
	if fh, ok := in.GetFh(); ok {
		if h = f.handle(fh); h != nil {
			defer h.leave(ctx)
			if h.writes {
				return h.truncate(ctx, int64(size))
			}
		}
	}
	if h = n.openFor(func(h *handle) bool { return h.writes }); h == nil {
		var err error
		if h, err = f.open(ctx, n, client.AccessWriteData|client.AccessReadAttributes|client.AccessSynchronize, in.Uid == 0); err != nil {
			return err
		}
	}
	defer h.leave(ctx)
	return h.truncate(ctx, int64(size))
}

func (h *handle) truncate(ctx context.Context, size int64) error {
	h.unpin(ctx)
	defer h.written()
	// What lies between the sizes, of which the old one is not known.
	return h.change(ctx, 0, topLock, func(ctx context.Context, file *client.File) error { return file.Truncate(ctx, size) })
}

// chmod sets the mode, as far as the server has one: without POSIX extensions that is
// the one bit whether a file may be written to.
func (f *filesystem) chmod(ctx context.Context, n *inode, mode uint32) error {
	if n.kind == syscall.S_IFLNK || !f.posix && n.kind != syscall.S_IFREG {
		return nil
	}
	if _, named := f.t.path(n); !named { // it is seen by who has it open alone
		n.mode.Store(mode | modeSet)
		return nil
	}
	return f.onPath(n, func(p string) error { return f.sh.Chmod(ctx, p, goMode(mode)) })
}

// modeSet marks inode.mode as being in force.
const modeSet = 1 << 31

// goMode is the mode of package fs for permission bits as the kernel has them.
func goMode(m uint32) fs.FileMode {
	out := fs.FileMode(m & 0o777)
	for bit, mode := range map[uint32]fs.FileMode{syscall.S_ISUID: fs.ModeSetuid, syscall.S_ISGID: fs.ModeSetgid, syscall.S_ISVTX: fs.ModeSticky} {
		if m&bit != 0 {
			out |= mode
		}
	}
	return out
}

// unixMode is the way back.
func unixMode(m fs.FileMode) uint32 {
	out := uint32(m.Perm())
	for bit, mode := range map[uint32]fs.FileMode{syscall.S_ISUID: fs.ModeSetuid, syscall.S_ISGID: fs.ModeSetgid, syscall.S_ISVTX: fs.ModeSticky} {
		if m&mode != 0 {
			out |= bit
		}
	}
	return out
}

// chown changes owners where the server says who they are. Else they are what the mount
// says, and as with cifs.ko it does nothing.
func (f *filesystem) chown(ctx context.Context, n *inode, in *gofuse.SetAttrIn) error {
	uid, gid := -1, -1
	if u, ok := in.GetUID(); ok && !f.cfg.ForceUID {
		uid = int(u)
	}
	if g, ok := in.GetGID(); ok && !f.cfg.ForceGID {
		gid = int(g)
	}
	if !f.posix || uid < 0 && gid < 0 {
		return nil
	}
	return f.onPath(n, func(p string) error { return f.sh.Chown(ctx, p, uid, gid) })
}

// chtimes sets times by name, or by each open that has written: the server would have
// the time of that writing as the file's when it is closed. What is set by an open
// stays when that writes again, until LetTimesGo.
func (f *filesystem) chtimes(ctx context.Context, n *inode, atime, mtime time.Time) error {
	if n.kind != syscall.S_IFREG && n.kind != syscall.S_IFDIR {
		return f.onPath(n, func(p string) error { // of a link itself
			file, err := f.sh.CreateFile(ctx, p, client.CreateOptions{
				Access: client.AccessWriteAttributes | client.AccessSynchronize, Options: client.OptOpenReparsePoint})
			if err != nil {
				return err
			}
			return errors.Join(file.Chtimes(ctx, atime, mtime), file.Close())
		})
	}
	if !mtime.IsZero() {
		n.wrote.Store(0)
	}
	done := false
	for _, h := range n.allOpen(func(h *handle) bool { return h.wrote.Load() }) {
		err := h.f.Chtimes(ctx, atime, mtime)
		h.pinned.Store(true)
		h.release()
		if err != nil {
			return err
		}
		done = true
	}
	if done {
		return nil
	}
	if n.kind == syscall.S_IFDIR && !f.t.named(n) { // nobody else sees it
		n.setTimes(atime, mtime)
		return nil
	}
	return f.onFile(ctx, n, func(p string) error { return f.sh.Chtimes(ctx, p, atime, mtime) },
		func(file *client.File) error {
			err := file.Chtimes(ctx, atime, mtime)
			if errors.Is(err, fs.ErrPermission) { // it was opened for reading, and nobody else sees it
				n.setTimes(atime, mtime)
				err = nil
			}
			return err
		})
}

// setTimes has a file without a name show times; a zero time is not set.
func (n *inode) setTimes(atime, mtime time.Time) {
	t := [2]time.Time{atime, mtime}
	if was := n.times.Load(); was != nil {
		for i := range t {
			if t[i].IsZero() {
				t[i] = was[i]
			}
		}
	}
	n.times.Store(&t)
}

// onFile calls byPath with the path of an inode, or byOpen with an open of one that has
// none any more.
func (f *filesystem) onFile(ctx context.Context, n *inode, byPath func(p string) error, byOpen func(*client.File) error) error {
	if _, ok := f.t.path(n); !ok {
		if h := n.openFor(func(h *handle) bool { return h.writes }); h != nil {
			defer h.leave(ctx)
			return byOpen(h.f)
		}
		if h := n.anyOpen(); h != nil {
			defer h.leave(ctx)
			return byOpen(h.f)
		}
		if n.gone.Load() != nil {
			return nil // of a directory that was removed, nobody else is told
		}
	}
	return f.onPath(n, byPath)
}
