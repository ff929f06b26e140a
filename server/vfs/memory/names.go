package memory

import (
	"context"
	"io/fs"
	"strings"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Stat implements vfs.FS.
func (f *FS) Stat(ctx context.Context, name string) (vfs.Info, error) {
	return f.stat(ctx, "stat", name, true)
}

// Lstat implements vfs.FS.
func (f *FS) Lstat(ctx context.Context, name string) (vfs.Info, error) {
	return f.stat(ctx, "lstat", name, false)
}

func (f *FS) stat(ctx context.Context, op, name string, follow bool) (vfs.Info, error) {
	if err := f.begin(ctx, op, name); err != nil {
		return vfs.Info{}, err
	}
	f.names.RLock()
	defer f.names.RUnlock()
	got, err := f.resolve(name, follow)
	if err != nil {
		return vfs.Info{}, pathError(op, name, err)
	}
	return got.node.info(), nil
}

// create makes an object of that type at a name that is free.
func (f *FS) create(ctx context.Context, op, name string, make func() (*node, error)) error {
	if err := f.begin(ctx, op, name); err != nil {
		return err
	}
	if name == vfs.Root {
		return pathError(op, name, syscall.EEXIST)
	}
	f.names.Lock()
	defer f.names.Unlock()
	p, err := f.locate(name)
	if err == nil {
		var n *node
		if n, err = f.insert(p, make); err == nil {
			n.drop()
		}
	}
	return pathError(op, name, err)
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(ctx context.Context, name string, perm fs.FileMode) error {
	return f.create(ctx, "mkdir", name, func() (*node, error) {
		return f.newNode(fs.ModeDir, perm&f.cfg.DirMask, f.owner)
	})
}

// Symlink implements vfs.Symlinker.
func (f *FS) Symlink(ctx context.Context, target, name string) error {
	return f.create(ctx, "symlink", name, func() (*node, error) {
		switch {
		case target == "" || strings.IndexByte(target, 0) >= 0:
			return nil, syscall.EINVAL
		case len(target) > targetMax:
			return nil, syscall.ENAMETOOLONG
		}
		if err := f.budget.take(int64(len(target))); err != nil {
			return nil, err
		}
		n, err := f.newNode(fs.ModeSymlink, fs.ModePerm, f.owner)
		if err != nil {
			f.budget.give(int64(len(target)))
			return nil, err
		}
		n.target = target
		return n, nil
	})
}

// Link implements vfs.Linker.
func (f *FS) Link(ctx context.Context, oldname, newname string) error {
	if err := f.begin(ctx, "link", oldname); err != nil {
		return err
	}
	if !vfs.ValidName(newname) {
		return linkError("link", oldname, newname, syscall.EINVAL)
	}
	if oldname == vfs.Root {
		return linkError("link", oldname, newname, syscall.EPERM)
	}
	if newname == vfs.Root {
		return linkError("link", oldname, newname, syscall.EEXIST)
	}
	f.names.Lock()
	defer f.names.Unlock()
	return linkError("link", oldname, newname, f.link(oldname, newname))
}

func (f *FS) link(oldname, newname string) error {
	to, err := f.locate(newname)
	if err != nil {
		return err
	}
	from, err := f.locate(oldname)
	switch {
	case err != nil:
		return err
	case to.e != nil:
		return syscall.EEXIST
	case from.e == nil:
		return syscall.ENOENT
	case from.e.node.typ == fs.ModeDir:
		return syscall.EPERM
	}
	n, err := f.insert(to, func() (*node, error) {
		from.e.node.hold()
		return from.e.node, nil
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.changed()
	n.mu.Unlock()
	n.drop()
	return nil
}

// Readlink implements vfs.Symlinker.
func (f *FS) Readlink(ctx context.Context, name string) (string, error) {
	if err := f.begin(ctx, "readlink", name); err != nil {
		return "", err
	}
	f.names.RLock()
	defer f.names.RUnlock()
	got, err := f.resolve(name, false)
	if err == nil && got.node.typ != fs.ModeSymlink {
		err = syscall.EINVAL
	}
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	return got.node.target, nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(ctx context.Context, name string, kind vfs.Kind) error {
	return f.remove(ctx, name, func(n *node) error {
		switch {
		case kind == vfs.KindDir && n.typ != fs.ModeDir:
			return syscall.ENOTDIR
		case kind == vfs.KindFile && n.typ == fs.ModeDir:
			return syscall.EISDIR
		}
		return nil
	})
}

// RemoveIf implements vfs.FS.
func (f *FS) RemoveIf(ctx context.Context, name string, id vfs.FileID) error {
	return f.remove(ctx, name, func(n *node) error {
		if n.id != id {
			return vfs.ErrChanged
		}
		return nil
	})
}

func (f *FS) remove(ctx context.Context, name string, check func(*node) error) error {
	if err := f.begin(ctx, "remove", name); err != nil {
		return err
	}
	if name == vfs.Root {
		return pathError("remove", name, syscall.EPERM)
	}
	f.names.Lock()
	defer f.names.Unlock()
	p, err := f.locate(name)
	if err == nil && p.e == nil {
		err = syscall.ENOENT
	}
	if err == nil {
		err = check(p.e.node)
	}
	if err == nil && len(p.e.node.dir.byKey) > 0 {
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return pathError("remove", name, err)
	}
	f.notifyName(vfs.Removed, p.e)
	f.unlink(p.e)
	return nil
}

// unlink removes a name and ends the watches of what has none any more.
func (f *FS) unlink(e *dentry) {
	n := e.node
	n.hold()
	f.del(e)
	if n.nlink.Load() == 0 {
		f.endWatches(n)
	} else {
		n.mu.Lock()
		n.changed()
		n.mu.Unlock()
	}
	n.drop()
}

// Rename implements vfs.FS.
func (f *FS) Rename(ctx context.Context, oldname, newname string, replace bool) error {
	if err := f.begin(ctx, "rename", oldname); err != nil {
		return err
	}
	if !vfs.ValidName(newname) {
		return linkError("rename", oldname, newname, syscall.EINVAL)
	}
	if oldname == vfs.Root || newname == vfs.Root {
		return linkError("rename", oldname, newname, syscall.EPERM)
	}
	f.names.Lock()
	defer f.names.Unlock()
	return linkError("rename", oldname, newname, f.rename(oldname, newname, replace))
}

func (f *FS) rename(oldname, newname string, replace bool) error {
	from, err := f.locate(oldname)
	if err != nil {
		return err
	}
	to, err := f.locate(newname)
	if err != nil {
		return err
	}
	if from.e == nil {
		return syscall.ENOENT
	}
	n := from.e.node
	name := to.last
	if to.e != nil && to.e != from.e && !replace {
		return syscall.EEXIST
	}
	if n.typ == fs.ModeDir && beneath(to.dir, n) {
		return syscall.EINVAL
	}
	switch there := to.e; {
	case there == nil:
	case there == from.e: // the same name, perhaps in a new spelling
		if there.name == name {
			return nil
		}
	case beneath(from.dir, there.node):
		return syscall.ENOTEMPTY
	case there.node == n: // another link to the file, for which rename(2) would do nothing
		f.notifyName(vfs.Removed, from.e)
		f.unlink(from.e)
		return nil
	case n.typ == fs.ModeDir && there.node.typ != fs.ModeDir:
		return syscall.ENOTDIR
	case n.typ != fs.ModeDir && there.node.typ == fs.ModeDir:
		return syscall.EISDIR
	case len(there.node.dir.byKey) > 0:
		return syscall.ENOTEMPTY
	default:
		name = there.name // what is replaced keeps its spelling
	}
	if err := f.budget.take(int64(dentryCost + len(name))); err != nil {
		return err
	}
	before := f.views(from.e)
	if to.e != nil && to.e != from.e {
		f.unlink(to.e)
	}
	n.hold()
	f.del(from.e)
	e := f.add(to.dir, name, n)
	n.mu.Lock()
	n.changed()
	n.mu.Unlock()
	f.notifyMove(before, e)
	n.drop()
	return nil
}
