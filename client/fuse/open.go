package fuse

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// handle is one open(2) of a file.
type handle struct {
	fs            *filesystem
	n             *inode
	f             *client.File
	reads, writes bool
	at            link         // the name that the server knows it by. guarded by inode.mu
	refs          atomic.Int32 // the last one closes
	wrote         atomic.Bool  // it has written something
	access        client.Access
	opened        *client.FileInfo // what the file was when it was opened
	idleSince     time.Time        // guarded by inode.mu
	pinned        atomic.Bool      // times were set by it: its writes do not change them
}

// Rights of opens. Attributes are read and written by what is open where there is
// something, because it is found then whatever its name is.
const (
	accessRead  = client.AccessReadData | client.AccessReadAttributes | client.AccessReadEA | client.AccessSynchronize
	accessWrite = client.AccessWriteData | client.AccessAppendData | client.AccessReadAttributes | client.AccessWriteAttributes |
		client.AccessWriteEA | client.AccessSynchronize
)

// accessOf are the rights that open(2) with these flags needs.
func accessOf(flags uint32) client.Access {
	switch flags & syscall.O_ACCMODE {
	case syscall.O_WRONLY:
		return accessWrite
	case syscall.O_RDWR:
		return accessRead | accessWrite
	}
	return accessRead
}

// Open implements open(2) of an existing file. The kernel has checked the flags that
// are about names, and truncates by SetAttr.
func (f *filesystem) Open(cancel <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	n := f.t.get(in.NodeId)
	if n == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	h, err := f.open(ctx, n, accessOf(in.Flags), in.Uid == 0)
	if errors.Is(err, fs.ErrNotExist) {
		// The name that the kernel remembers is gone: it looks it up again, and creates it
		// where the program asked for that.
		return gofuse.Status(syscall.ESTALE)
	}
	if err != nil {
		return status(err)
	}
	f.admit(h, in.Flags, out)
	f.refresh(h, out)
	return gofuse.OK
}

// refresh has the kernel ask for attributes anew where it opens a file whose pages are
// not known to be right: what others have written before the open is seen by it.
func (f *filesystem) refresh(h *handle, out *gofuse.OpenOut) {
	if out.OpenFlags&gofuse.FOPEN_KEEP_CACHE == 0 || f.remembered(h.n) == nil {
		f.kernel.InodeNotify(h.n.id, -1, 0)
	}
}

// open opens an inode on the server.
func (f *filesystem) open(ctx context.Context, n *inode, access client.Access, super bool) (*handle, error) {
	if f.cfg.Writeback && access&client.AccessWriteData != 0 {
		// The kernel fills pages that were written in part.
		if h, err := f.openAs(ctx, n, access|accessRead); err == nil || !errors.Is(err, fs.ErrPermission) {
			return h, err
		}
	}
	h, err := f.openAs(ctx, n, access)
	if super && access&client.AccessWriteData != 0 && errors.Is(err, fs.ErrPermission) {
		// Root writes to what nobody may write to.
		if again, done := f.writable(ctx, n); done {
			defer f.meanwhile(ctx, again)
			return f.openAs(ctx, n, access)
		}
	}
	return h, err
}

func (f *filesystem) openAs(ctx context.Context, n *inode, access client.Access) (*handle, error) {
	if h := n.unpark(access); h != nil {
		return h, nil
	}
	file, at, err := f.openFile(ctx, n, access)
	if err != nil {
		return nil, err
	}
	h := f.newHandle(n, file, at, access)
	version, _, generation, leased := n.versionOf()
	fi, err := file.StatContext(ctx)
	if err == nil && f.t.key(fi) != n.key {
		err = syscall.ESTALE // another file has the name now: the kernel looks again
	}
	if err != nil {
		h.leave(ctx)
		return nil, err
	}
	h.opened = fi
	if leased {
		n.learn(fi, version, generation)
	}
	return h, nil
}

// openFile opens an inode by its newest name, which is at.
func (f *filesystem) openFile(ctx context.Context, n *inode, access client.Access) (file *client.File, at link, err error) {
	o := client.CreateOptions{
		Access: access, Options: client.OptNonDirectory | client.OptOpenReparsePoint, Lease: f.leaseOf(n)}
	path := func() (p string, ok bool) {
		p, at, ok = f.t.newestPath(n)
		return p, ok
	}
	err = f.retry(path, func(p string) (err error) {
		file, err = f.sh.CreateFile(ctx, p, o)
		if o.Lease != nil && errors.Is(err, ntstatus.InvalidParameter) {
			// A lease goes with one name of a file ([MS-SMB2] 3.3.5.9.8), and this is
			// another one; or another file, which the caller will see.
			o.Lease = nil
			file, err = f.sh.CreateFile(ctx, p, o)
		}
		return err
	})
	return file, at, err
}

// writable takes the read-only attribute off a file for the moment: again puts it
// back. done is false if that is not what keeps a file from being written.
func (f *filesystem) writable(ctx context.Context, n *inode) (again func(ctx context.Context), done bool) {
	fi, err := f.info(ctx, n)
	if err != nil || fi.Attributes()&client.AttrReadOnly == 0 {
		return nil, false
	}
	set := func(ctx context.Context, a client.Attributes) error {
		return f.onPath(n, func(p string) error { return f.sh.SetAttributes(ctx, p, a) })
	}
	again = func(ctx context.Context) {
		if err := set(ctx, fi.Attributes()); err != nil {
			f.cfg.Logger.Warn("a file that was opened for writing has lost its read-only attribute", "err", err)
		}
	}
	if set(ctx, fi.Attributes()&^client.AttrReadOnly) != nil {
		if ctx.Err() != nil { // it may have been done, or be under way
			f.meanwhile(ctx, again)
		}
		return nil, false
	}
	return again, true
}

// newHandle counts an open of an inode. The caller has one reference.
func (f *filesystem) newHandle(n *inode, file *client.File, at link, access client.Access) *handle {
	h := &handle{fs: f, n: n, f: file, at: at,
		access: access, reads: access&client.AccessReadData != 0, writes: access&client.AccessWriteData != 0}
	h.refs.Store(1)
	n.mu.Lock()
	n.opens = append(n.opens, h)
	n.mu.Unlock()
	return h
}

// admit gives a handle to the kernel.
func (f *filesystem) admit(h *handle, flags uint32, out *gofuse.OpenOut) {
	f.mu.Lock()
	f.lastFH++
	out.Fh = f.lastFH
	f.handles[out.Fh] = h
	f.mu.Unlock()
	keep, direct := f.keepsPages(h, h.opened)
	switch {
	case direct, flags&syscall.O_APPEND != 0:
		// What is appended goes where the file ends then, which the kernel cannot know.
		out.OpenFlags = gofuse.FOPEN_DIRECT_IO | gofuse.FOPEN_PARALLEL_DIRECT_WRITES
	case flags&syscall.O_DIRECT != 0 && f.coherent:
		// Who asks for no cache has writes that go to the server side by side: the kernel
		// lets only those that are told so at the open.
		out.OpenFlags = gofuse.FOPEN_DIRECT_IO | gofuse.FOPEN_PARALLEL_DIRECT_WRITES
		if keep {
			out.OpenFlags |= gofuse.FOPEN_KEEP_CACHE // it is that of others
		}
	case keep:
		out.OpenFlags = gofuse.FOPEN_KEEP_CACHE
	}
}

// handle borrows what the kernel has opened, nil if it has not. Its user calls release.
func (f *filesystem) handle(fh uint64) *handle {
	f.mu.RLock()
	defer f.mu.RUnlock()
	h := f.handles[fh]
	if h != nil {
		h.refs.Add(1)
	}
	return h
}

// anyOpen borrows an open of an inode, nil if there is none. Its user calls release.
func (n *inode) anyOpen() *handle { return n.openFor(func(*handle) bool { return true }) }

// openFor borrows an open that ok likes.
func (n *inode) openFor(ok func(*handle) bool) *handle {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.opens {
		if ok(h) {
			h.refs.Add(1)
			return h
		}
	}
	return nil
}

// allOpen borrows all opens that ok likes.
func (n *inode) allOpen(ok func(*handle) bool) []*handle {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*handle
	for _, h := range n.opens {
		if ok(h) {
			h.refs.Add(1)
			out = append(out, h)
		}
	}
	return out
}

// isOpen says whether somebody has the inode open.
func (n *inode) isOpen() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.opens) > 0
}

// release ends one use of a handle. The last one closes it, and with the last open of
// a file whose name was deleted the file goes.
func (h *handle) release() { h.leave(context.Background()) }

// leave is release for who does not wait for the server when its request is over.
func (h *handle) leave(ctx context.Context) {
	if h.refs.Add(-1) > 0 {
		return
	}
	n := h.n
	n.mu.Lock()
	i := slices.Index(n.opens, h)
	if i < 0 || h.refs.Load() > 0 { // somebody has found it meanwhile, or has closed it
		n.mu.Unlock()
		return
	}
	n.opens = slices.Delete(n.opens, i, i+1)
	files := []*client.File{h.f}
	park := h.parkLocked()
	if park {
		files = nil
	}
	since, dying := h.idleSince, 0
	if len(n.opens) == 0 {
		if l := n.lockFile.Swap(nil); l != nil {
			if l.f != nil {
				files = append(files, l.f)
			}
			n.locks.reset()
			n.flocks.reset()
		}
		files = append(files, n.doomed...)
		dying, n.doomed, n.pending = len(n.doomed)+n.pending, nil, 0
		n.burying += dying
	}
	buried := len(files) > 0 && len(n.opens) == 0
	var x *closing
	if len(files) > 0 {
		x = h.fs.closings.begin(n)
	}
	n.mu.Unlock()
	if ctx.Done() == nil || len(files) == 0 {
		h.shut(buried, dying, x, files)
	} else {
		h.fs.meanwhile(ctx, func(context.Context) { h.shut(buried, dying, x, files) })
	}
	if park {
		h.fs.watch(h, since)
	}
	if h.wrote.Load() {
		h.fs.changed(n) // the server tells of what was written from now on
	}
}

// shut closes what the last use of a handle has left; buried says that nothing is open
// of the file any more, dying how many of its names go with that.
func (h *handle) shut(buried bool, dying int, x *closing, files []*client.File) {
	h.close(x, files...)
	if buried {
		h.fs.t.buried(h.n)
	}
	if dying > 0 {
		h.n.mu.Lock()
		h.n.burying -= dying
		h.n.mu.Unlock()
		h.fs.changed(h.n) // what was said of it counts names that are gone
	}
}

// close closes files that were taken off the inode when x began.
func (h *handle) close(x *closing, files ...*client.File) {
	for _, file := range files {
		h.fs.shut(file)
	}
	h.fs.closings.end(x)
}

// shut closes a file. When the mount has ended and one is closed without an answer, the
// rest goes with the session: each would be waited for as long.
func (f *filesystem) shut(file *client.File) {
	if f.unanswered.Load() {
		return
	}
	err := file.Close()
	if err == nil {
		return
	}
	f.cfg.Logger.Debug("close", "file", file.Name(), "err", err)
	var answer ntstatus.Status
	if f.ctx.Err() != nil && !errors.As(err, &answer) {
		f.unanswered.Store(true)
	}
}

// Release implements the end of the last descriptor.
func (f *filesystem) Release(_ <-chan struct{}, in *gofuse.ReleaseIn) {
	f.mu.Lock()
	h := f.handles[in.Fh]
	delete(f.handles, in.Fh)
	f.mu.Unlock()
	if h == nil {
		return
	}
	if in.ReleaseFlags&releaseFlockUnlock != 0 {
		h.unlockAll(f.ctx, &h.n.flocks, in.LockOwner)
	}
	h.release()
}

// releaseFlockUnlock is FUSE_RELEASE_FLOCK_UNLOCK of the kernel's header.
const releaseFlockUnlock = 1 << 1

// Create implements open(2) with O_CREAT of a name that the kernel has not seen.
func (f *filesystem) Create(cancel <-chan struct{}, in *gofuse.CreateIn, name string, out *gofuse.CreateOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	dir := f.t.get(in.NodeId)
	if dir == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	o := client.CreateOptions{
		Access: accessOf(in.Flags), Disposition: client.OpenIf,
		Options: client.OptNonDirectory | client.OptOpenReparsePoint,
	}
	if f.cfg.Writeback && o.Access&client.AccessWriteData != 0 {
		o.Access |= accessRead
	}
	if in.Flags&syscall.O_EXCL != 0 {
		o.Disposition = client.CreateNew
	}
	f.setPerm(&o, in.Mode)
	h, err := f.create(ctx, dir, name, o, &out.EntryOut)
	if err != nil {
		return status(err)
	}
	if in.Flags&syscall.O_TRUNC != 0 && h.f.CreateAction() == client.Opened && h.writes {
		err := f.changing(ctx, h, func(ctx context.Context) error { return h.f.Truncate(ctx, 0) })
		if err != nil {
			f.t.forget(h.n.id, 1)
			h.leave(ctx)
			return status(err)
		}
		out.Size = 0
	}
	f.admit(h, in.Flags, &out.OpenOut)
	return gofuse.OK
}

// setPerm gives what is created its mode.
func (f *filesystem) setPerm(o *client.CreateOptions, mode uint32) {
	if f.posix {
		o.Perm, o.HasPerm = goMode(mode), true
	} else if mode&0o222 == 0 {
		o.Attributes = client.AttrReadOnly
	}
}

// create opens or creates a name in a directory, and gives the kernel its inode.
func (f *filesystem) create(ctx context.Context, dir *inode, name string, o client.CreateOptions, out *gofuse.EntryOut) (*handle, error) {
	wire, err := toServer(name)
	if err == nil {
		err = dir.limbo.wait(ctx)
	}
	if err != nil {
		return nil, err
	}
	var of *atomic.Pointer[inode]
	if f.leases {
		o.Lease, of = f.newLease(syscall.S_IFREG, f.leaseOf(dir))
	}
	var file *client.File
	err = f.onName(dir, wire, func(p string) (err error) {
		file, err = f.sh.CreateFile(ctx, p, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	if file.CreateAction() != client.Opened {
		f.dirChanged(dir)
	}
	fi, err := file.StatContext(ctx)
	if err == nil && kindOf(fi) != syscall.S_IFREG {
		err = syscall.ELOOP // a link, of another client's making: the kernel follows it next time
		if kindOf(fi) != syscall.S_IFLNK {
			err = syscall.ENXIO
		}
	}
	if err != nil {
		f.meanwhile(ctx, func(context.Context) { f.shut(file) })
		return nil, err
	}
	n := f.t.found(dir, wire, fi)
	n.adopt(o.Lease, of)
	h := f.newHandle(n, file, link{dir, wire}, o.Access)
	h.opened = fi
	f.fillEntry(n, fi, out)
	return h, nil
}

// Mknod implements mknod(2), of which regular files are what programs use.
func (f *filesystem) Mknod(cancel <-chan struct{}, in *gofuse.MknodIn, name string, out *gofuse.EntryOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	dir := f.t.get(in.NodeId)
	if dir == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	if in.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return f.mknodSpecial(ctx, dir, in, name, out)
	}
	o := client.CreateOptions{
		Access: client.AccessReadAttributes | client.AccessSynchronize, Disposition: client.CreateNew,
		Options: client.OptNonDirectory,
	}
	f.setPerm(&o, in.Mode)
	h, err := f.create(ctx, dir, name, o, out)
	if err != nil {
		return status(err)
	}
	h.leave(ctx)
	return gofuse.OK
}
