package fuse

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Symlink implements symlink(2).
func (f *filesystem) Symlink(cancel <-chan struct{}, h *gofuse.InHeader, target, name string, out *gofuse.EntryOut) gofuse.Status {
	ctx := f.begin(cancel, h)
	defer ctx.end()
	dir := f.t.get(h.NodeId)
	if dir == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	wire, err := toServer(name)
	if err == nil {
		err = f.whole(ctx, func(ctx context.Context) error {
			return f.onName(dir, wire, func(p string) error { return f.sh.Symlink(ctx, target, p) })
		}, dir)
	}
	if errors.Is(err, ntstatus.NotAReparsePoint) { // how Samba says that it has none
		err = syscall.EOPNOTSUPP
	}
	if err == nil {
		f.dirChanged(dir)
		_, err = f.lookup(ctx, dir, name, out)
	}
	if err != nil {
		f.cfg.Logger.Debug("symlink", "name", name, "err", err)
	}
	return status(err)
}

// mknodSpecial is Mknod of what is no regular file: the name is on the server, and
// what is behind it on this machine.
func (f *filesystem) mknodSpecial(ctx *request, dir *inode, in *gofuse.MknodIn, name string, out *gofuse.EntryOut) gofuse.Status {
	var mode fs.FileMode
	switch in.Mode & syscall.S_IFMT {
	case syscall.S_IFIFO:
		mode = fs.ModeNamedPipe
	case syscall.S_IFSOCK:
		mode = fs.ModeSocket
	case syscall.S_IFCHR:
		mode = fs.ModeDevice | fs.ModeCharDevice
	case syscall.S_IFBLK:
		mode = fs.ModeDevice
	default:
		return gofuse.EPERM
	}
	wire, err := toServer(name)
	if err == nil {
		major, minor := unix.Major(uint64(in.Rdev)), unix.Minor(uint64(in.Rdev))
		err = f.whole(ctx, func(ctx context.Context) error {
			return f.onName(dir, wire, func(p string) error { return f.sh.Mknod(ctx, p, mode, major, minor) })
		}, dir)
	}
	if errors.Is(err, ntstatus.NotAReparsePoint) {
		err = syscall.EOPNOTSUPP
	}
	if err == nil {
		f.dirChanged(dir)
		_, err = f.lookup(ctx, dir, name, out)
	}
	return status(err)
}
