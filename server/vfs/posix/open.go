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
	var got opened
	var err error
	if f.as == nil {
		got, err = f.open(ctx, name, o)
	} else {
		got, err = f.openAs(ctx, name, o)
	}
	if err != nil {
		return nil, vfs.OpenResult{}, pathError("open", name, err)
	}
	if o.Attributes != 0 && got.action != vfs.Opened {
		f.storeAttributes(&got, o)
	}
	if f.as != nil && got.mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 && o.Access&vfs.AccessWrite != 0 {
		// The kernel does so when the owner of a descriptor writes, but not when this
		// process does.
		_, err := retry(func() (int, error) { return 0, unix.Fchmod(got.fd, uint32(got.mode.Perm())) })
		if err != nil {
			unix.Close(got.fd)
			return nil, vfs.OpenResult{}, pathError("open", name, err)
		}
	}
	return f.newFile(got, o), vfs.OpenResult{Action: got.action, Name: got.name}, nil
}

// opened is what Open found or made. Whoever has it owns the descriptor.
type opened struct {
	fd     int
	path   bool // fd is O_PATH
	blind  bool // a directory whose entries may not be looked at
	id     vfs.FileID
	mode   fs.FileMode
	name   string
	action vfs.Action
}

// openAs is open with the view's rights.
func (f *FS) openAs(ctx context.Context, name string, o vfs.OpenOptions) (got opened, err error) {
	err = f.as.do(func() (err error) {
		got, err = f.open(ctx, name, o)
		return err
	})
	return got, err
}

// storeAttributes gives what was created or overwritten its attributes, as well
// as can be.
func (f *FS) storeAttributes(got *opened, o vfs.OpenOptions) {
	a := vfs.SetAttr{Set: vfs.SetAttributes, Attributes: o.Attributes}
	if got.action == vfs.Created && got.mode.IsRegular() {
		_ = f.writeDOSInfo(got.fd, !got.path, dosInfo{}.with(a)) // there is none yet
		return
	}
	_ = f.changeDOSInfo(got.fd, !got.path, a, 0)
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

func (f *FS) open(ctx context.Context, name string, o vfs.OpenOptions) (opened, error) {
	mayCreate := o.Disposition == vfs.CreateNew || o.Disposition == vfs.OpenOrCreate ||
		o.Disposition == vfs.OverwriteOrCreate
	spelling := name
	for range maxOpenRaces {
		if err := ctx.Err(); err != nil {
			return opened{}, err
		}
		if o.Disposition != vfs.CreateNew {
			// Creation looks for other spellings itself.
			fold := !mayCreate || f.cfg.ReadOnly
			got, err := f.openExisting(spelling, fold, o)
			if !errors.Is(err, unix.ENOENT) || !mayCreate {
				return got, err
			}
		}
		if f.cfg.ReadOnly {
			return opened{}, syscall.EROFS
		}
		got, err := f.openNew(name, o)
		if !errors.Is(err, unix.EEXIST) || o.Disposition == vfs.CreateNew {
			return got, err
		}
		spelling = got.name
	}
	// The name is taken and leads nowhere: a dangling link, which is not created
	// through, or somebody very busy.
	return opened{}, syscall.ENOENT
}

// openExisting resolves the name once, looks at what it got, and opens that.
// With fold, other spellings will do.
func (f *FS) openExisting(name string, fold bool, o vfs.OpenOptions) (opened, error) {
	var fd int
	var err error
	if fold {
		fd, name, err = f.resolve(name, !o.NoFollow)
	} else {
		fd, err = f.res.open(name, !o.NoFollow)
	}
	if err != nil {
		return opened{}, err
	}
	id, mode, err := idOf(fd, "")
	if err != nil {
		unix.Close(fd)
		return opened{}, err
	}
	action, blind := vfs.Opened, false
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
			blind = err == nil && f.as != nil && !maySearch(keep)
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
			action = vfs.Overwritten
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
		return opened{}, err
	}
	return opened{fd: keep, path: keep == fd, blind: blind, id: id, mode: mode, name: name, action: action}, nil
}

// maySearch reports whether the calling thread may look at the entries of the
// directory: whether "." can be looked up there.
func maySearch(fd int) bool {
	var st unix.Stat_t
	_, err := retry(func() (int, error) { return 0, unix.Fstatat(fd, ".", &st, unix.AT_SYMLINK_NOFOLLOW) })
	return err == nil
}

// openNew creates the name and fails with EEXIST if it is taken. Then what it
// returns has the spelling by which it is.
func (f *FS) openNew(name string, o vfs.OpenOptions) (opened, error) {
	fd := -1
	spelling, err := f.create(name, func(p place) (err error) {
		fd, err = f.createAt(p, o)
		return err
	})
	if err != nil {
		return opened{name: spelling}, err
	}
	id, mode, err := idOf(fd, "")
	if err != nil {
		unix.Close(fd)
		return opened{name: spelling}, err
	}
	path := o.Kind == vfs.KindDir && o.Access == 0
	return opened{fd: fd, path: path, id: id, mode: mode, name: spelling, action: vfs.Created}, nil
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
func (f *FS) newFile(got opened, o vfs.OpenOptions) vfs.File {
	_, last := vfs.Split(got.name)
	base := file{handle: newHandle(got.fd), fs: f, id: got.id, access: o.Access, path: got.path, last: last}
	switch {
	case got.mode.IsDir() && o.Access&vfs.AccessRead != 0:
		return &dir{file: base, blind: got.blind}
	case got.mode.IsRegular():
		r := &regular{file: base, nonblock: !got.path && got.action != vfs.Created}
		r.handle.onClose = r.closeData
		return r
	}
	return &base
}
