package fuse

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// filesystem answers the kernel's requests out of a share.
type filesystem struct {
	gofuse.RawFileSystem // ENOSYS for what is not here
	sh                   *client.Share
	cfg                  Config
	ctx                  context.Context // ends with the mount
	t                    *table
	posix                bool           // the share has the POSIX extensions
	stat                 *client.StatFS // of the share as it was mounted

	mu         sync.RWMutex
	handles    map[uint64]*handle // guarded by mu
	dirs       map[uint64]*dirHandle
	lastFH     uint64
	listedDirs []*inode // that have a listing, the oldest first. guarded by mu

	leases    bool // are asked for
	coherent  bool // direct I/O and the kernel's pages of a file agree
	kernel    notifier
	lookout   lookout
	lookedOut chan struct{}  // closed when the lookout has ended
	aside     sync.WaitGroup // what goes on although its request is over
	minder    minder
	closings  closings
	aheads    aheads
	listings  atomic.Int32 // how many there are

	unlinks atomic.Int32 // unlinksUnknown and so on

	unanswered atomic.Bool // a close was, after the end of the mount
}

// newFilesystem looks at the share, so that a mount that cannot work fails.
func newFilesystem(ctx context.Context, sh *client.Share, cfg Config) (*filesystem, error) {
	st, err := sh.StatFS(ctx)
	if err != nil {
		return nil, err
	}
	top, err := shareRoot(cfg.Root)
	if err != nil {
		return nil, err
	}
	fi, err := sh.Lstat(ctx, top)
	if err != nil {
		return nil, err
	}
	if kindOf(fi) != syscall.S_IFDIR {
		return nil, &client.Error{Op: "mount", Path: cfg.Root, Err: syscall.ENOTDIR}
	}
	f := &filesystem{
		RawFileSystem: gofuse.NewDefaultRawFileSystem(),
		sh:            sh, cfg: cfg, ctx: ctx, stat: st, posix: sh.POSIX(),
		t:       newTable(top, cfg.NoServerInodes),
		handles: map[uint64]*handle{}, dirs: map[uint64]*dirHandle{},
	}
	f.leases = !cfg.NoLeases && cfg.Cache != CacheNone
	f.kernel = silent{}
	f.lookedOut = make(chan struct{})
	f.lookout.init()
	f.minder = minder{wake: make(chan struct{}, 1), ended: make(chan struct{})}
	if id := fi.FileID(); id != 0 && !cfg.NoServerInodes {
		f.t.root.ino = id
	}
	return f, nil
}

// shareRoot brings Config.Root into the form of paths here.
func shareRoot(root string) (string, error) {
	if root == "" || root == "/" || root == "." {
		return "", nil
	}
	if !fs.ValidPath(root) {
		return "", &client.Error{Op: "mount", Path: root, Err: fs.ErrInvalid}
	}
	return root, nil
}

// String names the file system in go-fuse's own messages.
func (f *filesystem) String() string { return "smbd-rdma" }

// errDeleted is what a file without a name fails with, where a name is needed.
var errDeleted = syscall.ESTALE

// onPath calls do with the path of an inode; once more if somebody has renamed
// something on the way meanwhile, and the server did not find it.
func (f *filesystem) onPath(n *inode, do func(path string) error) error {
	return f.retry(func() (string, bool) { return f.t.path(n) }, do)
}

// onName is onPath for a name in a directory.
func (f *filesystem) onName(dir *inode, name string, do func(path string) error) error {
	err := f.retry(func() (string, bool) { return f.t.in(dir, name) }, do)
	if len(name) > maxName && errors.Is(err, ntstatus.ObjectNameInvalid) {
		return syscall.ENAMETOOLONG // the server's limit is in octets
	}
	return err
}

func (f *filesystem) retry(path func() (string, bool), do func(path string) error) error {
	p, ok := path()
	for range 8 {
		if !ok {
			return errDeleted
		}
		err := do(p)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		was := p
		if p, ok = path(); p == was && ok {
			return err
		}
	}
	return errDeleted
}

// kindOf is the S_IFMT of a file.
func kindOf(fi *client.FileInfo) uint32 {
	switch m := fi.Mode(); {
	case m.IsRegular():
		return syscall.S_IFREG
	case m&fs.ModeSymlink != 0:
		return syscall.S_IFLNK
	case m&fs.ModeNamedPipe != 0:
		return syscall.S_IFIFO
	case m&fs.ModeSocket != 0:
		return syscall.S_IFSOCK
	case m&fs.ModeCharDevice != 0:
		return syscall.S_IFCHR
	case m&fs.ModeDevice != 0:
		return syscall.S_IFBLK
	case fi.Attributes()&client.AttrDirectory != 0:
		return syscall.S_IFDIR
	}
	return syscall.S_IFREG
}

// fill makes the kernel's attributes of the server's.
func (f *filesystem) fill(n *inode, fi *client.FileInfo, a *gofuse.Attr) {
	if n.kind == syscall.S_IFDIR {
		n.gone.Store(fi)
	}
	a.Ino = n.ino
	a.Size = uint64(fi.Size())
	a.Blocks = (uint64(max(fi.AllocationSize(), 0)) + 511) / 512
	a.Blksize = 4096
	setTime(&a.Atime, &a.Atimensec, fi.AccessTime())
	mtime := fi.ModTime()
	if w := n.wrote.Load(); w > mtime.UnixNano() && (n.isOpen() || n.kind == syscall.S_IFDIR && !f.t.named(n)) {
		mtime = time.Unix(0, w)
	}
	if t := n.times.Load(); t != nil {
		if !t[0].IsZero() {
			setTime(&a.Atime, &a.Atimensec, t[0])
		}
		if !t[1].IsZero() && n.wrote.Load() == 0 {
			mtime = t[1]
		}
	}
	setTime(&a.Mtime, &a.Mtimensec, mtime)
	setTime(&a.Ctime, &a.Ctimensec, fi.ChangeTime())
	a.Uid, a.Gid = f.cfg.UID, f.cfg.GID
	if uid, gid, ok := fi.Owner(); ok {
		if !f.cfg.ForceUID {
			a.Uid = uid
		}
		if !f.cfg.ForceGID {
			a.Gid = gid
		}
	}
	a.Nlink = f.links(n, fi)
	a.Mode = n.kind | f.mode(n, fi)
	if n.kind != syscall.S_IFREG && n.kind != syscall.S_IFDIR {
		n.mu.Lock()
		a.Size, a.Rdev = uint64(len(n.target)), n.rdev
		n.mu.Unlock()
	}
}

// mode has the permission bits.
func (f *filesystem) mode(n *inode, fi *client.FileInfo) uint32 {
	if m := n.mode.Load(); m != 0 {
		return m &^ modeSet
	}
	switch {
	case n.kind == syscall.S_IFLNK:
		return 0o777
	case f.posix:
		return unixMode(fi.Mode())
	case n.kind == syscall.S_IFDIR:
		return uint32(f.cfg.DirMode)
	}
	m := uint32(f.cfg.FileMode)
	if fi.Attributes()&client.AttrReadOnly != 0 {
		m &^= 0o222
	}
	return m
}

// links is the number of names: listings do not tell it, so that the last one that
// was told, or the usual one, stands for it.
func (f *filesystem) links(n *inode, fi *client.FileInfo) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := fi.Links(); l != 0 {
		n.nlink = l
	}
	l := n.nlink
	if d := uint32(len(n.doomed) + n.pending + n.burying); d > 0 { // names that are not shown
		return max(l, d) - d
	}
	switch {
	case n.kind == syscall.S_IFDIR:
		return max(l, 2)
	case f.posix:
		return fi.Links()
	}
	return max(l, 1)
}

// setTime splits a time; one that the server does not say is 0.
func setTime(sec *uint64, nsec *uint32, t time.Time) {
	if t.IsZero() {
		*sec, *nsec = 0, 0
		return
	}
	*sec, *nsec = uint64(t.Unix()), uint32(t.Nanosecond())
}

// StatFs implements statfs(2).
func (f *filesystem) StatFs(cancel <-chan struct{}, h *gofuse.InHeader, out *gofuse.StatfsOut) gofuse.Status {
	ctx := f.begin(cancel, h)
	defer ctx.end()
	st, err := f.sh.StatFS(ctx)
	if err != nil {
		return status(err)
	}
	bs := st.BlockSize
	if bs <= 0 || bs > 1<<30 {
		bs = 4096
	}
	out.Bsize, out.Frsize = uint32(bs), uint32(bs)
	out.Blocks, out.Bfree, out.Bavail = st.TotalBlocks, st.FreeBlocks, st.AvailableBlocks
	out.NameLen = maxName
	return gofuse.OK
}

// Forget implements the kernel's dropping of an inode.
func (f *filesystem) Forget(id, n uint64) { f.t.forget(id, n) }

// Access is asked only where the kernel does not judge itself: the server will.
func (f *filesystem) Access(_ <-chan struct{}, in *gofuse.AccessIn) gofuse.Status {
	if f.cfg.ReadOnly && in.Mask&gofuse.W_OK != 0 {
		return gofuse.EROFS
	}
	return gofuse.OK
}
