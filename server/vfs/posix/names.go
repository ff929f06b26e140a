//go:build linux

package posix

import (
	"context"
	"io/fs"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(ctx context.Context, name string, perm fs.FileMode) error {
	if err := f.beginChange(ctx, "mkdir", name); err != nil {
		return err
	}
	defer f.root.release()
	err := f.createAs(name, func(p place) error {
		return unix.Mkdirat(p.dir, p.last, uint32(perm&f.cfg.DirMask))
	})
	return pathError("mkdir", name, err)
}

// Symlink implements vfs.Symlinker.
func (f *FS) Symlink(ctx context.Context, target, name string) error {
	if err := f.beginChange(ctx, "symlink", name); err != nil {
		return err
	}
	defer f.root.release()
	if target == "" || strings.IndexByte(target, 0) >= 0 {
		return pathError("symlink", name, syscall.EINVAL)
	}
	err := f.createAs(name, func(p place) error {
		return unix.Symlinkat(target, p.dir, p.last)
	})
	return pathError("symlink", name, err)
}

// Mknod implements vfs.Mknoder.
func (f *FS) Mknod(ctx context.Context, name string, mode fs.FileMode) error {
	if err := f.beginChange(ctx, "mknod", name); err != nil {
		return err
	}
	defer f.root.release()
	kind := uint32(unix.S_IFIFO)
	switch mode.Type() {
	case fs.ModeNamedPipe:
	case fs.ModeSocket:
		kind = unix.S_IFSOCK
	default:
		return pathError("mknod", name, syscall.EINVAL)
	}
	err := f.createAs(name, func(p place) error {
		return unix.Mknodat(p.dir, p.last, kind|uint32(mode&f.cfg.FileMask), 0)
	})
	return pathError("mknod", name, err)
}

// create calls do, which must fail if the name exists, for a name that is free
// also if case is ignored. It returns the name as it is spelled now, by whoever
// made it.
func (f *FS) create(name string, do func(place) error) (string, error) {
	if name == vfs.Root {
		return name, syscall.EEXIST
	}
	f.names.Lock()
	defer f.names.Unlock()
	p, err := f.locate(name, true)
	if err != nil {
		return name, err
	}
	defer p.close()
	if p.found {
		return p.name, syscall.EEXIST
	}
	_, err = retry(func() (int, error) { return 0, do(p) })
	return p.name, err
}

// createAs is create with the view's rights, for those who need no name.
func (f *FS) createAs(name string, do func(place) error) error {
	return f.as.do(func() error {
		_, err := f.create(name, do)
		return err
	})
}

// Readlink implements vfs.Symlinker.
func (f *FS) Readlink(ctx context.Context, name string) (string, error) {
	if err := f.begin(ctx, "readlink", name); err != nil {
		return "", err
	}
	defer f.root.release()
	fd, name, err := f.resolveAs(name, false)
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	defer unix.Close(fd)
	_, mode, err := idOf(fd, "")
	if err == nil && mode&fs.ModeSymlink == 0 {
		err = syscall.EINVAL
	}
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	target, err := readlink(fd, "")
	return target, pathError("readlink", name, err)
}

// Remove implements vfs.FS.
func (f *FS) Remove(ctx context.Context, name string, kind vfs.Kind) error {
	return f.remove(ctx, name, func(_ vfs.FileID, mode fs.FileMode) error {
		switch {
		case kind == vfs.KindDir && !mode.IsDir():
			return syscall.ENOTDIR
		case kind == vfs.KindFile && mode.IsDir():
			return syscall.EISDIR
		}
		return nil
	})
}

// RemoveIf implements vfs.FS. The package comment says what atomicity means here.
func (f *FS) RemoveIf(ctx context.Context, name string, id vfs.FileID) error {
	return f.remove(ctx, name, func(got vfs.FileID, _ fs.FileMode) error {
		if got != id {
			return vfs.ErrChanged
		}
		return nil
	})
}

// remove removes the name if check agrees to what it refers to.
func (f *FS) remove(ctx context.Context, name string, check func(vfs.FileID, fs.FileMode) error) error {
	if err := f.beginChange(ctx, "remove", name); err != nil {
		return err
	}
	defer f.root.release()
	if name == vfs.Root {
		return pathError("remove", name, syscall.EPERM)
	}
	err := f.as.do(func() error { return f.unlink(name, check) })
	return pathError("remove", name, err)
}

func (f *FS) unlink(name string, check func(vfs.FileID, fs.FileMode) error) error {
	f.names.Lock()
	defer f.names.Unlock()
	p, err := f.locate(name, false)
	if err != nil {
		return err
	}
	defer p.close()
	id, mode, err := idOf(p.dir, p.last)
	if err == nil {
		err = check(id, mode)
	}
	if err == nil {
		flags := 0
		if mode.IsDir() {
			flags = unix.AT_REMOVEDIR
		}
		_, err = retry(func() (int, error) { return 0, unix.Unlinkat(p.dir, p.last, flags) })
	}
	if err == unix.EEXIST { // what POSIX allows in place of ENOTEMPTY
		err = unix.ENOTEMPTY
	}
	return err
}

// Link implements vfs.Linker.
func (f *FS) Link(ctx context.Context, oldname, newname string) error {
	if err := f.beginChange(ctx, "link", oldname); err != nil {
		return err
	}
	defer f.root.release()
	if !vfs.ValidName(newname) {
		return linkError("link", oldname, newname, syscall.EINVAL)
	}
	if oldname == vfs.Root {
		return linkError("link", oldname, newname, syscall.EPERM)
	}
	err := f.createAs(newname, func(to place) error {
		from, err := f.locate(oldname, false)
		if err != nil {
			return err
		}
		defer from.close()
		return unix.Linkat(from.dir, from.last, to.dir, to.last, 0)
	})
	return linkError("link", oldname, newname, err)
}

// Rename implements vfs.FS.
func (f *FS) Rename(ctx context.Context, oldname, newname string, replace bool) error {
	if err := f.beginChange(ctx, "rename", oldname); err != nil {
		return err
	}
	defer f.root.release()
	if !vfs.ValidName(newname) {
		return linkError("rename", oldname, newname, syscall.EINVAL)
	}
	if oldname == vfs.Root || newname == vfs.Root {
		return linkError("rename", oldname, newname, syscall.EPERM)
	}
	err := f.as.do(func() error { return f.rename(oldname, newname, replace) })
	return linkError("rename", oldname, newname, err)
}

func (f *FS) rename(oldname, newname string, replace bool) error {
	f.names.Lock()
	defer f.names.Unlock()
	from, err := f.locate(oldname, false)
	if err != nil {
		return err
	}
	defer from.close()
	to, err := f.locate(newname, false)
	if err != nil {
		return err
	}
	defer to.close()

	source, mode, err := idOf(from.dir, from.last)
	if err != nil {
		return err
	}
	target, _, err := idOf(to.dir, to.last)
	if err != nil && err != unix.ENOENT {
		return err
	}
	same := err == nil && source == target
	if same {
		// Either the name itself, in the same or in a new spelling, or another hard
		// link to the file, for which rename(2) would do nothing.
		fromDir, _, err := idOf(from.dir, "")
		if err != nil {
			return err
		}
		toDir, _, err := idOf(to.dir, "")
		if err != nil {
			return err
		}
		_, spelling := vfs.Split(newname)
		switch {
		case fromDir == toDir && from.last == to.last:
			if spelling == from.last {
				return nil
			}
			return renameat2(from, place{dir: to.dir, last: spelling}, false)
		case fromDir == toDir && strings.EqualFold(from.last, to.last):
			return renameat2(from, to, replace) // the storage itself may ignore case
		case !replace:
			return syscall.EEXIST
		case mode.IsDir():
			return nil // one directory under two names: a bind mount
		}
		_, err = retry(func() (int, error) { return 0, unix.Unlinkat(from.dir, from.last, 0) })
		return err
	}
	return renameat2(from, to, replace)
}

func renameat2(from, to place, replace bool) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if replace {
		flags = 0
	}
	do := func() (int, error) { return 0, unix.Renameat2(from.dir, from.last, to.dir, to.last, flags) }
	_, err := retry(do)
	if !replace && (err == unix.EINVAL || err == unix.ENOSYS) {
		// Storage without RENAME_NOREPLACE, or a directory moved beneath itself: the
		// plain rename tells.
		if _, _, serr := idOf(to.dir, to.last); serr == nil {
			return syscall.EEXIST
		} else if serr != unix.ENOENT {
			return serr
		}
		flags = 0
		_, err = retry(do)
	}
	if replace && err == unix.EEXIST {
		err = unix.ENOTEMPTY
	}
	return err
}
