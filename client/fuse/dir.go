package fuse

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// dirHandle is one opendir(3): a listing that grows as the kernel asks for more of
// it, and stays, so that telldir's positions mean the same until rewinddir.
type dirHandle struct {
	n *inode

	turn      turn // held over the requests of a listing, which has one position
	f         *client.File
	entries   []dirEntry // guarded by turn
	done      bool       // guarded by turn
	begun     bool       // the kernel has asked for some of it. guarded by turn
	unread    bool       // it was opened, and nothing of it read. guarded by turn
	keep      *listing   // what the directory is to answer from if all goes well. guarded by turn
	beginning            // of the listing. guarded by turn
}

// dirEntry is an entry with its local name. Without fi no more than what is here is
// known.
type dirEntry struct {
	local, wire string
	kind        uint32 // S_IFMT
	ino         uint64
	fi          *client.FileInfo
}

// maxEntries bounds what a server can make this process remember of one directory.
const maxEntries = 8 << 20

// OpenDir implements opendir(3). What is opened as opendir does it is read at once, in the
// same round trip; not what may be opened for fsync(2), and not where what is read now would
// be too old when it is asked for.
func (f *filesystem) OpenDir(cancel <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	n := f.t.get(in.NodeId)
	if n == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	d := &dirHandle{n: n}
	if err := f.aheads.of(n).wait(ctx); err != nil {
		return status(err)
	}
	if !d.fromListing() {
		if err := d.start(ctx, f, in.Flags&syscall.O_DIRECTORY != 0 && f.cfg.AttrTimeout > 0); err != nil {
			return status(err)
		}
	}
	f.mu.Lock()
	f.lastFH++
	out.Fh = f.lastFH
	f.dirs[out.Fh] = d
	f.mu.Unlock()
	f.walked(n)
	return gofuse.OK
}

// fromListing takes what is known of the directory, if that is all. Called as start.
func (d *dirHandle) fromListing() bool {
	d.n.mu.Lock()
	l, version := d.n.cache.listing, d.n.cache.version
	d.n.mu.Unlock()
	if !l.valid() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d.stop()
	d.entries, d.done, d.unread, d.version, d.at = slices.Clone(l.order), true, false, version, l.at
	return true
}

// start opens the directory anew and forgets the listing. read says that its beginning is to
// be read in the same round trip. Called with d.turn held, or before anybody else has d.
func (d *dirHandle) start(ctx context.Context, f *filesystem, read bool) error {
	f.dropListing(d.n, false)
	o := client.CreateOptions{Lease: f.leaseOf(d.n)}
	open := f.sh.OpenDir
	if !read {
		o.Access, o.Options = client.AccessReadData|client.AccessReadAttributes|client.AccessSynchronize, client.OptDirectory
		open = f.sh.CreateFile
	}
	var file *client.File
	var began beginning
	err := f.onPath(d.n, func(p string) (err error) {
		began = d.n.beginning(p, o.Lease)
		file, err = open(ctx, p, o)
		if o.Lease != nil && errors.Is(err, ntstatus.InvalidParameter) { // as openFile
			o.Lease = nil
			file, err = open(ctx, p, o)
		}
		return err
	})
	if err != nil {
		return err
	}
	d.stop()
	d.f, d.entries, d.done, d.unread = file, nil, false, !read
	d.reads(began, o.Lease)
	return nil
}

// beginning is what a directory was when its listing began.
type beginning struct {
	path       string
	version    uint64    // of the inode
	at         time.Time // of what has changed since the listing says nothing
	generation uint64    // of the lease
}

// beginning is for a listing that is to be asked for now, by that path.
func (n *inode) beginning(path string, lease *client.Lease) beginning {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := beginning{path: path, version: n.cache.version, at: time.Now()}
	if lease != nil {
		b.generation = lease.Generation()
	}
	return b
}

// reads notes when the listing began, and whether it is to be kept. Called as start.
func (d *dirHandle) reads(b beginning, lease *client.Lease) {
	d.beginning, d.keep = b, nil
	if lease != nil && lease.State()&client.LeaseRead != 0 {
		d.keep = &listing{file: d.f, lease: lease, generation: b.generation, at: b.at}
	}
}

// aged says whether the directory may be another than when it was opened, which is when the
// first part of the listing was read: who goes back to the beginning before he has read
// anything sees what is there now, and the kernel does not tell who has. Called with d.turn
// held.
func (d *dirHandle) aged(f *filesystem) bool {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	return d.n.cache.version != d.version || time.Since(d.at) > f.cfg.AttrTimeout
}

// stop closes the directory; what is listed stays.
func (d *dirHandle) stop() {
	if d.f != nil {
		_ = d.f.Close() // nothing was changed by it
		d.f = nil
	}
}

// more makes entry i there, if there is one.
func (d *dirHandle) more(ctx context.Context, f *filesystem, i int) error {
	for !d.done && i >= len(d.entries) {
		es, err := d.f.ReadDirContext(ctx, 256)
		for _, e := range es {
			fi := e.(*client.FileInfo)
			local, ok := fromServer(fi.Name())
			if !ok || isDoomed(fi.Name()) {
				continue
			}
			wire, err := toServer(local) // as lookups spell it
			if err != nil {
				wire = fi.Name()
			}
			d.entries = append(d.entries, dirEntry{local, wire, f.kindListed(ctx, d.n, wire, fi), fi.FileID(), fi})
		}
		if long := len(d.entries) > aheadEntries; long || err == io.EOF {
			d.n.mu.Lock()
			d.n.cache.long = long
			d.n.mu.Unlock()
		}
		switch {
		case err == io.EOF:
			d.done = true
			p, _ := f.t.path(d.n)
			if l := d.keep; l != nil && len(d.entries) <= maxListed && p == d.path { // else it may be another directory's
				l.order = slices.Clone(d.entries)
				if f.keepListing(d.n, l, d.version) {
					d.f = nil
				}
			}
			d.stop()
		case err != nil:
			return err
		case len(d.entries) > maxEntries:
			return syscall.EOVERFLOW
		}
	}
	return nil
}

// kindListed is the kind of an entry. Of a reparse point of Services for NFS a listing does
// not tell what it stands for: the server is asked.
func (f *filesystem) kindListed(ctx context.Context, dir *inode, wire string, fi *client.FileInfo) uint32 {
	if fi.Mode()&fs.ModeIrregular == 0 || fi.Attributes()&client.AttrReparsePoint == 0 {
		return kindOf(fi)
	}
	is := fi
	err := f.onName(dir, wire, func(p string) (err error) {
		is, err = f.sh.Lstat(ctx, p)
		return err
	})
	if err != nil {
		return kindOf(fi)
	}
	return kindOf(is)
}

// ReadDir implements getdents(2) without attributes.
func (f *filesystem) ReadDir(cancel <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	return f.list(ctx, in, func(off uint64, d dirEntry, _ *dirHandle) bool {
		return out.AddDirEntry(gofuse.DirEntry{Name: d.local, Off: off, Ino: d.ino, Mode: d.kind})
	})
}

// ReadDirPlus implements getdents(2) where the kernel wants the inodes too.
func (f *filesystem) ReadDirPlus(cancel <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	return f.list(ctx, in, func(off uint64, e dirEntry, d *dirHandle) bool {
		fi := e.fi
		entry := out.AddDirLookupEntry(gofuse.DirEntry{Name: e.local, Off: off, Ino: e.ino, Mode: e.kind})
		if entry == nil {
			return false
		}
		if fi == nil || fi.Attributes()&client.AttrReparsePoint != 0 && e.kind != syscall.S_IFDIR {
			return true // what it is, and how long its target, the listing does not have
		}
		if !d.names(f.t, e) || f.t.outdated(link{d.n, e.wire}, fi, d.at) {
			return true // the kernel looks it up
		}
		f.fillEntry(f.t.found(d.n, e.wire, fi), fi, entry)
		return true
	})
}

// names says whether an entry's name is still that of what was listed, as far as names were
// changed here. Called with d.turn held.
func (d *dirHandle) names(t *table, e dirEntry) bool {
	if n := t.at(d.n, e.wire); n != nil {
		return n.key == t.key(e.fi)
	}
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	return d.n.cache.version == d.version
}

// list calls add for the entries from the position on, until that has no room. "." and
// ".." have no name on the server, and are without fi.
func (f *filesystem) list(ctx context.Context, in *gofuse.ReadIn, add func(off uint64, e dirEntry, d *dirHandle) bool) gofuse.Status {
	f.mu.RLock()
	d := f.dirs[in.Fh]
	f.mu.RUnlock()
	if d == nil {
		return gofuse.EBADF
	}
	if err := d.turn.lock(ctx); err != nil {
		return status(err)
	}
	defer d.turn.unlock()
	switch {
	case d.unread:
		d.unread = false
		d.reads(d.n.beginning(d.path, d.f.Lease()), d.f.Lease()) // by the path that was opened
	case in.Offset == 0 && (d.begun || d.f == nil || d.aged(f)) && !d.fromListing(): // rewinddir
		if err := d.start(ctx, f, true); err != nil {
			return status(err)
		}
	}
	d.begun = true
	added := false
	for at := in.Offset; ; at++ {
		var ok bool
		switch at {
		case 0:
			ok = add(1, dirEntry{local: ".", kind: syscall.S_IFDIR, ino: d.n.ino}, d)
		case 1:
			ok = add(2, dirEntry{local: "..", kind: syscall.S_IFDIR, ino: f.t.above(d.n).ino}, d)
		default:
			i := at - 2
			if i > maxEntries {
				return gofuse.EINVAL
			}
			if err := d.more(ctx, f, int(i)); err != nil && !added {
				return status(err)
			} else if err != nil || int(i) >= len(d.entries) {
				return gofuse.OK
			}
			ok = add(at+1, d.entries[i], d)
		}
		if !ok {
			return gofuse.OK
		}
		added = true
	}
}

// ReleaseDir implements closedir(3).
func (f *filesystem) ReleaseDir(in *gofuse.ReleaseIn) {
	f.mu.Lock()
	d := f.dirs[in.Fh]
	delete(f.dirs, in.Fh)
	f.mu.Unlock()
	if d != nil {
		_ = d.turn.lock(context.Background()) // nobody else is left
		defer d.turn.unlock()
		d.stop()
	}
}

// FsyncDir has nothing to do: names are not kept back here, and SMB has no request by
// which a server would be asked to write its own.
func (f *filesystem) FsyncDir(<-chan struct{}, *gofuse.FsyncIn) gofuse.Status { return gofuse.OK }

// above is the directory that an inode is in, itself for the root.
func (t *table) above(n *inode) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.newestLink(n); ok {
		return l.parent
	}
	return n
}

// Mkdir implements mkdir(2).
func (f *filesystem) Mkdir(cancel <-chan struct{}, in *gofuse.MkdirIn, name string, out *gofuse.EntryOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	dir := f.t.get(in.NodeId)
	if dir == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	wire, err := toServer(name)
	if err == nil {
		mode := goMode(in.Mode)
		err = f.whole(ctx, func(ctx context.Context) error {
			return f.onName(dir, wire, func(p string) error { return f.sh.MkdirPerm(ctx, p, mode) })
		}, dir)
	}
	if err == nil {
		f.dirChanged(dir)
		_, err = f.lookup(ctx, dir, name, out)
	}
	return status(err)
}

// Rmdir implements rmdir(2).
func (f *filesystem) Rmdir(cancel <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
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
	return status(f.whole(ctx, func(ctx context.Context) error { return f.rmdir(ctx, dir, wire) }, dir))
}

func (f *filesystem) rmdir(ctx context.Context, dir *inode, wire string) error {
	remove := func() error {
		return f.onName(dir, wire, func(p string) error { return f.sh.Remove(ctx, p) })
	}
	defer f.aheads.hold()()
	n := f.t.at(dir, wire)
	if n != nil {
		for _, n := range f.sameListed(n) {
			_ = f.aheads.of(n).wait(ctx)
			f.dropListing(n, false)
		}
		if !f.posix { // else its name would stay until then, and the one above be not empty
			if err := f.closings.wait(ctx, n); err != nil {
				return err
			}
		}
	}
	err := remove()
	if errors.Is(err, syscall.ENOTEMPTY) && f.evacuate(ctx, dir, wire) {
		err = remove()
	}
	if err == nil {
		if n != nil && !f.posix {
			f.stopDirs(ctx, n)
		}
		f.t.removed(dir, wire)
		f.dirChanged(dir)
	}
	return err
}

// stopDirs closes a directory that was removed for those who have it open: its name stays
// on the server until then. They have nothing to read any more, and the kernel does not ask.
func (f *filesystem) stopDirs(ctx context.Context, n *inode) {
	var open []*dirHandle
	f.mu.RLock()
	for _, d := range f.dirs {
		if d.n.key == n.key {
			open = append(open, d)
		}
	}
	f.mu.RUnlock()
	for _, d := range open {
		if d.turn.lock(ctx) != nil {
			return // the name goes with the last of them
		}
		d.stop()
		d.entries, d.done, d.unread, d.keep = nil, true, false, nil
		d.turn.unlock()
	}
}

// sameListed is an inode, and those that it was before the kernel forgot it and found it
// again which keep a listing, or are being listed, and so have it open.
func (f *filesystem) sameListed(n *inode) []*inode {
	same := []*inode{n}
	add := func(o *inode) {
		if o.key == n.key && !slices.Contains(same, o) {
			same = append(same, o)
		}
	}
	f.aheads.mu.Lock()
	for _, x := range f.aheads.running {
		add(x.n)
	}
	f.aheads.mu.Unlock()
	f.mu.RLock()
	for _, o := range f.listedDirs {
		add(o)
	}
	f.mu.RUnlock()
	return same
}

// evacuate moves what is in a directory only because it is still open into the one
// above, and says whether nothing else was there.
func (f *filesystem) evacuate(ctx context.Context, dir *inode, wire string) bool {
	p, ok := f.t.in(dir, wire)
	if !ok {
		return false
	}
	es, err := f.sh.ReadDir(ctx, p)
	if err != nil {
		return false
	}
	for _, e := range es {
		if !isDoomed(e.Name()) {
			return false
		}
	}
	for _, e := range es {
		to, ok := f.t.in(dir, e.Name())
		if !ok {
			return false
		}
		if err := f.sh.Rename(ctx, p+"/"+e.Name(), to, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if n := f.t.at(dir, wire); n != nil {
			f.moved(link{n, e.Name()}, link{dir, e.Name()})
		}
	}
	return true
}
