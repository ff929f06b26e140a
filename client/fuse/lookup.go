package fuse

import (
	"context"
	"errors"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// Lookup implements the search for a name in a directory.
func (f *filesystem) Lookup(cancel <-chan struct{}, h *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	ctx := f.begin(cancel, h)
	defer ctx.end()
	dir := f.t.get(h.NodeId)
	if dir == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	_, err := f.lookup(ctx, dir, name, out)
	return status(err)
}

// lookup asks the server for a name, and gives the kernel its inode.
func (f *filesystem) lookup(ctx context.Context, dir *inode, name string, out *gofuse.EntryOut) (*inode, error) {
	wire, err := toServer(name)
	if err != nil {
		if err == syscall.EILSEQ { // there can be no such file
			err = syscall.ENOENT
		}
		return nil, err
	}
	if isDoomed(wire) {
		return nil, syscall.ENOENT
	}
	fi, absent := f.listed(dir, wire)
	switch {
	case absent && len(name) > maxName: // as the server sees it
	case absent:
		return nil, syscall.ENOENT
	case fi != nil && (kindOf(fi) == syscall.S_IFREG || kindOf(fi) == syscall.S_IFDIR):
		if n := f.t.at(dir, wire); n == nil || !n.isOpen() {
			return f.entry(ctx, dir, wire, fi, out)
		}
	}
	err = f.onName(dir, wire, func(p string) (err error) {
		fi, err = f.sh.Lstat(ctx, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f.entry(ctx, dir, wire, fi, out)
}

// entry gives the kernel the inode of what the server has told about.
func (f *filesystem) entry(ctx context.Context, dir *inode, wire string, fi *client.FileInfo, out *gofuse.EntryOut) (*inode, error) {
	n := f.t.found(dir, wire, fi)
	if n.kind != syscall.S_IFREG && n.kind != syscall.S_IFDIR {
		if err := f.special(ctx, n); err != nil {
			f.t.forget(n.id, 1)
			return nil, err
		}
	}
	f.fillEntry(n, fi, out)
	return n, nil
}

func (f *filesystem) fillEntry(n *inode, fi *client.FileInfo, out *gofuse.EntryOut) {
	out.NodeId, out.Generation = n.id, 1
	f.fill(n, fi, &out.Attr)
	out.SetEntryTimeout(f.cfg.AttrTimeout)
	out.SetAttrTimeout(f.attrTimeout(n))
}

// attrTimeout is how long the kernel may believe an inode's attributes.
func (f *filesystem) attrTimeout(n *inode) time.Duration {
	if f.leases && n.kind == syscall.S_IFREG && n.isOpen() {
		if _, _, _, leased := n.versionOf(); !leased {
			return 0 // others write to it
		}
	}
	return f.cfg.AttrTimeout
}

// info asks the server about an inode: by a handle that is open, which finds it also
// when it has been renamed or deleted, else by name.
func (f *filesystem) info(ctx context.Context, n *inode) (*client.FileInfo, error) {
	if fi := f.remembered(n); fi != nil {
		return fi, nil
	}
	version, _, generation, leased := n.versionOf()
	fi, err := f.ask(ctx, n)
	if err == nil && leased {
		n.learn(fi, version, generation)
	}
	return fi, err
}

// ask is info that asks.
func (f *filesystem) ask(ctx context.Context, n *inode) (*client.FileInfo, error) {
	if h := n.anyOpen(); h != nil {
		defer h.leave(ctx)
		return h.f.StatContext(ctx)
	}
	var fi *client.FileInfo
	err := f.onPath(n, func(p string) (err error) {
		fi, err = f.sh.Lstat(ctx, p)
		return err
	})
	if errors.Is(err, errDeleted) && n.kind == syscall.S_IFDIR {
		// Somebody is in a directory that has been removed.
		if was := n.gone.Load(); was != nil {
			return was, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if k := f.t.key(fi); n.id != rootID && k != n.key {
		// Another file has that name now.
		return nil, syscall.ESTALE
	}
	return fi, nil
}

// GetAttr implements stat(2).
func (f *filesystem) GetAttr(cancel <-chan struct{}, in *gofuse.GetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	n := f.t.get(in.NodeId)
	if n == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	fi, err := f.info(ctx, n)
	if err != nil {
		return status(err)
	}
	f.fillAsked(n, fi, &out.Attr)
	out.SetTimeout(f.attrTimeout(n))
	return gofuse.OK
}

// fillAsked is fill for stat(2) of an inode, which may be a directory that was removed.
func (f *filesystem) fillAsked(n *inode, fi *client.FileInfo, a *gofuse.Attr) {
	f.fill(n, fi, a)
	if n.kind == syscall.S_IFDIR && n.id != rootID && f.t.nameless(n) {
		a.Nlink = 0
	}
}

// Statx implements statx(2), of which the time of birth is what stat has not.
func (f *filesystem) Statx(cancel <-chan struct{}, in *gofuse.StatxIn, out *gofuse.StatxOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	n := f.t.get(in.NodeId)
	if n == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	fi, err := f.info(ctx, n)
	if err != nil {
		return status(err)
	}
	var a gofuse.Attr
	f.fillAsked(n, fi, &a)
	out.SetTimeout(f.attrTimeout(n))
	out.Statx = gofuse.Statx{
		Mask: statxBasicStats, Blksize: a.Blksize, Nlink: a.Nlink, Uid: a.Uid, Gid: a.Gid, Mode: uint16(a.Mode),
		Ino: a.Ino, Size: a.Size, Blocks: a.Blocks,
		Atime: gofuse.SxTime{Sec: a.Atime, Nsec: a.Atimensec},
		Mtime: gofuse.SxTime{Sec: a.Mtime, Nsec: a.Mtimensec},
		Ctime: gofuse.SxTime{Sec: a.Ctime, Nsec: a.Ctimensec},
	}
	if !fi.BirthTime().IsZero() {
		out.Mask |= statxBtime
		setTime(&out.Btime.Sec, &out.Btime.Nsec, fi.BirthTime())
	}
	return gofuse.OK
}

// Of statx(2).
const (
	statxBasicStats = 0x07ff
	statxBtime      = 0x0800
)

// Readlink implements readlink(2).
func (f *filesystem) Readlink(cancel <-chan struct{}, h *gofuse.InHeader) ([]byte, gofuse.Status) {
	ctx := f.begin(cancel, h)
	defer ctx.end()
	n := f.t.get(h.NodeId)
	if n == nil {
		return nil, gofuse.Status(syscall.ESTALE)
	}
	if n.kind != syscall.S_IFLNK {
		return nil, gofuse.EINVAL
	}
	if err := f.special(ctx, n); err != nil {
		return nil, status(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.target) >= unix.PathMax {
		return nil, gofuse.Status(syscall.ENAMETOOLONG) // the kernel takes no longer ones
	}
	return []byte(n.target), gofuse.OK
}

// special reads what a link or device is, once: that does not change in its lifetime.
func (f *filesystem) special(ctx context.Context, n *inode) error {
	n.mu.Lock()
	known := n.target != "" || n.rdev != 0 || n.kind == syscall.S_IFIFO || n.kind == syscall.S_IFSOCK
	n.mu.Unlock()
	if known {
		return nil
	}
	var sp *client.Special
	err := f.onPath(n, func(p string) (err error) {
		sp, err = f.sh.Special(ctx, p)
		return err
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.target = plain(sp.Target) // whose elements are names
	n.rdev = uint32(unix.Mkdev(sp.Major, sp.Minor))
	n.mu.Unlock()
	return nil
}
