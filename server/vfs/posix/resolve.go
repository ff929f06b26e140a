//go:build linux

package posix

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

const (
	// maxLinks is how many symbolic links one name may lead through, as in Linux.
	maxLinks = 40
	// maxDepth bounds the descriptors that a walk holds open.
	maxDepth = 256
	// maxRaces bounds the repeats of a resolution that lost against renames.
	maxRaces = 128
)

// resolver turns names into O_PATH descriptors beneath root, which its FS owns.
type resolver struct {
	root    int
	openat2 bool
}

func haveOpenat2(root int) bool {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := retry(func() (int, error) { return unix.Openat2(root, vfs.Root, &how) })
	if err != nil {
		return false // ENOSYS on old kernels, EPERM in some sandboxes
	}
	unix.Close(fd)
	return true
}

// open resolves a valid name and returns an O_PATH descriptor of what it means:
// with follow, the last component's link is followed too.
func (r *resolver) open(name string, follow bool) (int, error) {
	if !r.openat2 {
		return r.walk(name, follow)
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	for races := 0; ; {
		fd, err := unix.Openat2(r.root, name, &how)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN: // a rename elsewhere made ".." unsafe just now
			if races++; races < maxRaces {
				continue
			}
			return -1, unix.EBUSY
		case unix.EXDEV:
			return -1, vfs.ErrOutside
		}
		return -1, err
	}
}

// walk does what open does without openat2. It never asks the kernel for "..":
// it returns to a directory by the descriptor it came through.
func (r *resolver) walk(name string, follow bool) (_ int, err error) {
	stack := []int{} // descriptors beneath root; r.root is the bottom
	defer func() {
		for _, fd := range stack {
			unix.Close(fd)
		}
	}()
	top := func() int {
		if len(stack) == 0 {
			return r.root
		}
		return stack[len(stack)-1]
	}
	links := 0
	rest := name
	for rest != "" {
		var comp string
		comp, rest, _ = strings.Cut(rest, "/")
		switch comp {
		case "", ".":
			continue
		case "..": // only from links; names have none
			if len(stack) == 0 {
				return -1, vfs.ErrOutside
			}
			unix.Close(stack[len(stack)-1])
			stack = stack[:len(stack)-1]
			continue
		}
		fd, err := openComponent(top(), comp)
		if err != nil {
			return -1, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return -1, err
		}
		last := strings.Trim(rest, "/") == ""
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFLNK && (follow || !last):
			target, err := readlink(fd, "")
			unix.Close(fd)
			if err != nil {
				return -1, err
			}
			if links++; links > maxLinks {
				return -1, unix.ELOOP
			}
			if strings.HasPrefix(target, "/") {
				return -1, vfs.ErrOutside
			}
			if rest == "" {
				rest = target
			} else {
				rest = target + "/" + rest
			}
		case st.Mode&unix.S_IFMT != unix.S_IFDIR && rest != "":
			unix.Close(fd)
			return -1, unix.ENOTDIR
		case len(stack) == maxDepth:
			unix.Close(fd)
			return -1, unix.ENAMETOOLONG
		default:
			stack = append(stack, fd)
		}
	}
	if len(stack) == 0 {
		return retry(func() (int, error) { return openComponent(r.root, ".") })
	}
	fd := stack[len(stack)-1]
	stack = stack[:len(stack)-1]
	return fd, nil
}

func openComponent(dir int, comp string) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(dir, comp, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

// readlink returns the target of the link name in dir, or of dir itself for "".
func readlink(dir int, name string) (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := retry(func() (int, error) { return unix.Readlinkat(dir, name, buf) })
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		if len(buf) > unix.PathMax {
			return "", unix.ENAMETOOLONG
		}
		buf = make([]byte, 2*len(buf))
	}
}

// place is a last component in the directory that holds it.
type place struct {
	dir  int    // O_PATH descriptor: the root's, or owned by the place
	root int    // the root's
	last string // as spelled in the directory if found
	name string // the whole name, in the same spelling
	// found is set by a lookup that ignores case; without one it means nothing.
	found bool
}

func (p place) close() {
	if p.dir != p.root {
		unix.Close(p.dir)
	}
}

// openParent is resolver.open for the directory of a place.
func (f *FS) openParent(name string) (int, error) {
	if name == vfs.Root {
		return f.root.fd, nil // held by whoever is at work
	}
	return f.res.open(name, true)
}

// locate opens the directory of a name that is not the root. If case does not
// matter, it also finds out how the name is spelled there. missing says that
// the exact spelling is probably not there, which is only about speed.
func (f *FS) locate(name string, missing bool) (place, error) {
	dirName, last := vfs.Split(name)
	dir, err := f.openParent(dirName)
	if err == unix.ENOENT && !f.caseSensitive() && dirName != vfs.Root {
		up, uerr := f.locate(dirName, true)
		if uerr != nil {
			return place{}, uerr
		}
		up.close()
		if !up.found {
			return place{}, unix.ENOENT
		}
		dirName, missing = up.name, false
		dir, err = f.openParent(dirName)
	}
	if err != nil {
		return place{}, err
	}
	p := place{dir: dir, root: f.root.fd, last: last, name: vfs.Join(dirName, last)}
	if f.caseSensitive() {
		return p, nil
	}
	err = unix.ENOENT
	if !missing {
		var st unix.Stat_t
		_, err = retry(func() (int, error) {
			return 0, unix.Fstatat(dir, last, &st, unix.AT_SYMLINK_NOFOLLOW)
		})
	}
	if err == unix.ENOENT {
		var spelling string
		spelling, err = f.folds.find(dir, last)
		if err == unix.EACCES { // a directory that may be passed but not read
			err = nil
		}
		if spelling != "" {
			p.last, p.name, p.found = spelling, vfs.Join(dirName, spelling), true
		}
	} else if err == nil {
		p.found = true
	}
	if err != nil {
		p.close()
		return place{}, err
	}
	return p, nil
}

// resolve is resolver.open with the second lookup. It also returns the name in
// the spelling of its directories.
func (f *FS) resolve(name string, follow bool) (int, string, error) {
	fd, err := f.res.open(name, follow)
	if err != unix.ENOENT || f.caseSensitive() || name == vfs.Root {
		return fd, name, err
	}
	p, err := f.locate(name, true)
	if err != nil {
		return -1, name, err
	}
	p.close()
	if !p.found {
		return -1, p.name, unix.ENOENT
	}
	fd, err = f.res.open(p.name, follow)
	return fd, p.name, err
}

// resolveAs is resolve with the view's rights.
func (f *FS) resolveAs(name string, follow bool) (int, string, error) {
	if f.as == nil {
		return f.resolve(name, follow)
	}
	fd, spelling := -1, name
	err := f.as.do(func() (err error) {
		fd, spelling, err = f.resolve(name, follow)
		return err
	})
	return fd, spelling, err
}

// findFold looks for an entry of dir whose name equals want but for case; the
// exact one first, then the first in the directory's order. "" means none. If
// each is not nil, it is told every name that a client can spell, and the search
// does not end early.
func findFold(dir int, want string, each func(name []byte)) (string, error) {
	fd, err := openDir(dir)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	m := newFoldMatch(want)
	found := ""
	err = scanDir(fd, func(d dirent) bool {
		if each != nil && vfs.ValidComponent(string(d.name)) {
			each(d.name)
		}
		if !m.matches(d.name) {
			return true
		}
		if string(d.name) == want {
			found = want
			return each != nil
		}
		if found == "" && vfs.ValidComponent(string(d.name)) {
			found = string(d.name)
		}
		return true
	})
	return found, err
}

// openDir opens the directory behind an O_PATH descriptor for reading.
func openDir(fd int) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	list, err := retry(func() (int, error) { return unix.Openat(fd, ".", flags, 0) })
	if err == unix.EACCES { // "." takes the right to search it, too
		list, err = retry(func() (int, error) { return unix.Open(procPath(fd), flags, 0) })
	}
	return list, err
}

// fileMode translates st_mode.
func fileMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	}
	if m&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if m&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if m&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}
