package memory

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Open implements vfs.FS.
func (f *FS) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	if err := f.begin(ctx, "open", name); err != nil {
		return nil, vfs.OpenResult{}, err
	}
	err := checkOpen(o)
	var got found
	var action vfs.Action
	if err == nil {
		got, action, err = f.open(name, o)
	}
	if err != nil {
		return nil, vfs.OpenResult{}, pathError("open", name, err)
	}
	if action == vfs.Overwritten {
		got.node.modified(vfs.ChangeData)
	}
	return newFile(got, o), vfs.OpenResult{Action: action, Name: got.name}, nil
}

func creates(d vfs.Disposition) bool {
	return d == vfs.CreateNew || d == vfs.OpenOrCreate || d == vfs.OverwriteOrCreate
}

func overwrites(d vfs.Disposition) bool { return d == vfs.Overwrite || d == vfs.OverwriteOrCreate }

func checkOpen(o vfs.OpenOptions) error {
	switch {
	case o.Access&^(vfs.AccessRead|vfs.AccessWrite) != 0,
		o.Disposition > vfs.OverwriteOrCreate,
		o.Kind > vfs.KindDir,
		o.Kind == vfs.KindDir && overwrites(o.Disposition):
		return syscall.EINVAL
	case o.Kind == vfs.KindDir && o.Access&vfs.AccessWrite != 0:
		return syscall.EISDIR
	}
	return nil
}

// open returns an object with a reference to it.
func (f *FS) open(name string, o vfs.OpenOptions) (found, vfs.Action, error) {
	if o.Disposition != vfs.CreateNew {
		// Most opens are of what is there, and those may go side by side.
		f.names.RLock()
		got, action, err := f.openExisting(name, o)
		f.names.RUnlock()
		if !errors.Is(err, syscall.ENOENT) || !creates(o.Disposition) {
			return got, action, err
		}
	}
	f.names.Lock()
	defer f.names.Unlock()
	if o.Disposition != vfs.CreateNew {
		got, action, err := f.openExisting(name, o)
		if !errors.Is(err, syscall.ENOENT) {
			return got, action, err
		}
	}
	if name == vfs.Root {
		return found{}, 0, syscall.EEXIST
	}
	p, err := f.locate(name)
	if err != nil {
		return found{}, 0, err
	}
	n, err := f.insert(p, func() (*node, error) {
		typ, perm := f.newType(o)
		n, err := f.newNode(typ, perm, f.owner)
		if err == nil {
			n.attrs = o.Attributes & vfs.AttrMask
		}
		return n, err
	})
	if err == syscall.EEXIST && o.Disposition != vfs.CreateNew {
		err = syscall.ENOENT // a link that leads nowhere, which is not created through
	}
	return found{n, p.name, p.dir}, vfs.Created, err
}

// newType returns the type and permission bits of what o creates.
func (f *FS) newType(o vfs.OpenOptions) (typ, perm fs.FileMode) {
	if o.Kind == vfs.KindDir {
		if o.Perm == 0 {
			o.Perm = fs.ModePerm
		}
		return fs.ModeDir, o.Perm & f.cfg.DirMask
	}
	if o.Perm == 0 {
		o.Perm = 0o666
	}
	return 0, o.Perm & f.cfg.FileMask
}

// openExisting is open for what is there. The tree is locked.
func (f *FS) openExisting(name string, o vfs.OpenOptions) (found, vfs.Action, error) {
	got, err := f.resolve(name, !o.NoFollow)
	if err != nil {
		return found{}, 0, err
	}
	overwrite := overwrites(o.Disposition)
	switch n := got.node; {
	case o.Kind == vfs.KindDir && n.typ != fs.ModeDir:
		err = syscall.ENOTDIR
	case n.typ == fs.ModeDir && (o.Kind == vfs.KindFile || overwrite || o.Access&vfs.AccessWrite != 0):
		err = syscall.EISDIR
	case n.typ == fs.ModeSymlink && (o.Access != 0 || overwrite):
		err = syscall.ELOOP
	case overwrite:
		if err = n.data.truncate(0); err == nil {
			n.wrote()
			if o.Attributes != 0 {
				err = n.setAttr(vfs.SetAttr{Set: vfs.SetAttributes, Attributes: o.Attributes})
			}
		}
	}
	if err != nil {
		return found{}, 0, err
	}
	got.node.hold()
	if overwrite {
		return got, vfs.Overwritten, nil
	}
	return got, vfs.Opened, nil
}

// newFile makes the handle of an object whose reference it takes over.
func newFile(got found, o vfs.OpenOptions) vfs.File {
	_, last := vfs.Split(got.name)
	var f *file
	var result vfs.File
	switch {
	case got.node.typ == fs.ModeDir && o.Access&vfs.AccessRead != 0:
		d := &dir{}
		f, result = &d.file, d
	case got.node.data != nil:
		r := &regular{}
		f, result = &r.file, r
	default:
		f = &file{}
		result = f
	}
	f.init(got.node, o.Access, last)
	f.dir = got.dir
	return result
}
