//go:build linux

package posix

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// maxOpenRaces bounds how often Open starts over because a name came and went.
const maxOpenRaces = 16

// Open implements vfs.FS.
func (f *FS) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	if err := f.begin(ctx, "open", name); err != nil {
		return nil, vfs.OpenResult{}, err
	}
	defer f.root.release()
	if err := f.checkOpen(o); err != nil {
		return nil, vfs.OpenResult{}, pathError("open", name, err)
	}
	file, res, err := f.open(ctx, name, o)
	if err != nil {
		return nil, vfs.OpenResult{}, pathError("open", name, err)
	}
	return file, res, nil
}

func (f *FS) checkOpen(o vfs.OpenOptions) error {
	overwrites := o.Disposition == vfs.Overwrite || o.Disposition == vfs.OverwriteOrCreate
	switch {
	case o.Access&^(vfs.AccessRead|vfs.AccessWrite) != 0,
		o.Disposition > vfs.OverwriteOrCreate,
		o.Kind > vfs.KindDir,
		o.Kind == vfs.KindDir && overwrites:
		return syscall.EINVAL
	case o.Kind == vfs.KindDir && o.Access&vfs.AccessWrite != 0:
		return syscall.EISDIR
	case f.cfg.ReadOnly && o.Access&vfs.AccessWrite != 0,
		f.cfg.ReadOnly && overwrites:
		return syscall.EROFS
	}
	return nil
}

func (f *FS) open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	mayCreate := o.Disposition == vfs.CreateNew || o.Disposition == vfs.OpenOrCreate ||
		o.Disposition == vfs.OverwriteOrCreate
	spelling := name
	for range maxOpenRaces {
		if err := ctx.Err(); err != nil {
			return nil, vfs.OpenResult{}, err
		}
		if o.Disposition != vfs.CreateNew {
			// Creation looks for other spellings itself.
			fold := !mayCreate || f.cfg.ReadOnly
			file, res, err := f.openExisting(spelling, fold, o)
			if !errors.Is(err, unix.ENOENT) || !mayCreate {
				return file, res, err
			}
		}
		if f.cfg.ReadOnly {
			return nil, vfs.OpenResult{}, syscall.EROFS
		}
		var file vfs.File
		var res vfs.OpenResult
		var err error
		file, res, spelling, err = f.openNew(name, o)
		if !errors.Is(err, unix.EEXIST) || o.Disposition == vfs.CreateNew {
			return file, res, err
		}
	}
	// The name is taken and leads nowhere: a dangling link, which is not created
	// through, or somebody very busy.
	return nil, vfs.OpenResult{}, syscall.ENOENT
}

// openExisting resolves the name once, looks at what it got, and opens that.
// With fold, other spellings will do.
func (f *FS) openExisting(name string, fold bool, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	var fd int
	var err error
	if fold {
		fd, name, err = f.resolve(name, !o.NoFollow)
	} else {
		fd, err = f.res.open(name, !o.NoFollow)
	}
	if err != nil {
		return nil, vfs.OpenResult{}, err
	}
	id, mode, err := idOf(fd, "")
	if err != nil {
		unix.Close(fd)
		return nil, vfs.OpenResult{}, err
	}
	res := vfs.OpenResult{Action: vfs.Opened, Name: name}
	overwrite := o.Disposition == vfs.Overwrite || o.Disposition == vfs.OverwriteOrCreate
	keep := fd // the descriptor the file will have
	switch {
	case o.Kind == vfs.KindDir && !mode.IsDir():
		err = syscall.ENOTDIR
	case mode.IsDir():
		switch {
		case o.Kind == vfs.KindFile || overwrite || o.Access&vfs.AccessWrite != 0:
			err = syscall.EISDIR
		case o.Access != 0:
			keep, err = openDir(fd)
		}
	case mode&fs.ModeSymlink != 0:
		if o.Access != 0 || overwrite {
			err = syscall.ELOOP
		}
	case !mode.IsRegular():
		err = vfs.ErrSpecial
	case o.Access != 0 || overwrite:
		flags := accessFlags(o)
		if overwrite {
			flags |= unix.O_TRUNC
			res.Action = vfs.Overwritten
			if o.Access&vfs.AccessWrite == 0 {
				flags = flags&^unix.O_ACCMODE | unix.O_RDWR
				if o.Access == 0 {
					flags = flags&^unix.O_ACCMODE | unix.O_WRONLY
				}
			}
		}
		// Not by name again: this is the object that was looked at.
		keep, err = retry(func() (int, error) { return unix.Open(procPath(fd), flags, 0) })
	}
	if keep != fd || err != nil {
		unix.Close(fd)
	}
	if err != nil {
		return nil, vfs.OpenResult{}, err
	}
	file := f.newFile(keep, id, mode, name, o)
	if r, ok := file.(*regular); ok && keep != fd {
		r.nonblock = true
	}
	if res.Action == vfs.Overwritten && o.Attributes != 0 {
		// Best effort, as OpenOptions says.
		_ = f.changeDOSInfo(keep, o.Access != 0, vfs.SetAttr{Set: vfs.SetAttributes, Attributes: o.Attributes})
	}
	return file, res, nil
}

// openNew creates the name and fails with EEXIST if it is taken. Then it also
// returns the spelling by which it is.
func (f *FS) openNew(name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, string, error) {
	fd := -1
	spelling, err := f.create(name, func(p place) (err error) {
		fd, err = f.createAt(p, o)
		return err
	})
	if err != nil {
		return nil, vfs.OpenResult{}, spelling, err
	}
	id, mode, err := idOf(fd, "")
	if err != nil {
		unix.Close(fd)
		return nil, vfs.OpenResult{}, spelling, err
	}
	if o.Attributes != 0 {
		// Best effort, as OpenOptions says.
		a := vfs.SetAttr{Set: vfs.SetAttributes, Attributes: o.Attributes}
		if mode.IsRegular() {
			_ = f.writeDOSInfo(fd, true, dosInfo{}.with(a)) // there is none yet
		} else {
			_ = f.changeDOSInfo(fd, o.Access != 0, a)
		}
	}
	return f.newFile(fd, id, mode, spelling, o), vfs.OpenResult{Action: vfs.Created, Name: spelling}, spelling, nil
}

func (f *FS) createAt(p place, o vfs.OpenOptions) (int, error) {
	if o.Kind != vfs.KindDir {
		perm := o.Perm
		if perm == 0 {
			perm = 0o666
		}
		// There is nothing to wait for in a file that nobody has seen.
		flags := accessFlags(o)&^unix.O_NONBLOCK | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
		return retry(func() (int, error) {
			return unix.Openat(p.dir, p.last, flags, uint32(perm&f.cfg.FileMask))
		})
	}
	perm := o.Perm
	if perm == 0 {
		perm = fs.ModePerm
	}
	if err := unix.Mkdirat(p.dir, p.last, uint32(perm&f.cfg.DirMask)); err != nil {
		return -1, err
	}
	flags := unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if o.Access&vfs.AccessRead == 0 {
		flags |= unix.O_PATH
	}
	fd, err := retry(func() (int, error) { return unix.Openat(p.dir, p.last, flags, 0) })
	if err != nil {
		// Out of descriptors, or made without the right to read it: nothing stays
		// behind of a call that fails.
		_ = unix.Unlinkat(p.dir, p.last, unix.AT_REMOVEDIR)
	}
	return fd, err
}

// accessFlags never waits for anything, be it a terminal or a lease's breaking.
func accessFlags(o vfs.OpenOptions) int {
	flags := unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	switch o.Access {
	case vfs.AccessRead | vfs.AccessWrite:
		flags |= unix.O_RDWR
	case vfs.AccessWrite:
		flags |= unix.O_WRONLY
	}
	if o.WriteThrough {
		flags |= unix.O_DSYNC
	}
	return flags
}

// newFile makes the file of a descriptor it takes over.
func (f *FS) newFile(fd int, id vfs.FileID, mode fs.FileMode, name string, o vfs.OpenOptions) vfs.File {
	_, last := vfs.Split(name)
	base := file{handle: newHandle(fd), fs: f, id: id, access: o.Access, last: last}
	switch {
	case mode.IsDir() && o.Access&vfs.AccessRead != 0:
		return &dir{file: base}
	case mode.IsRegular():
		r := &regular{file: base}
		r.handle.onClose = r.closeData
		return r
	}
	return &base
}
