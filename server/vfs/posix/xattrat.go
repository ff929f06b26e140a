//go:build linux

package posix

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The extended attributes of a directory's entry, link not followed. Linux 6.13 has
// system calls for it; before, the way leads through /proc, which takes several times
// as long. Listings make one or two such calls for each entry.

// Numbers of the system calls, which are the same everywhere.
const (
	sysGetxattrat  = 464
	sysListxattrat = 465
)

// xattrArgs is struct xattr_args of linux/xattr.h.
type xattrArgs struct {
	value unsafe.Pointer
	_     [8 - unsafe.Sizeof(uintptr(0))]byte
	size  uint32
	flags uint32
}

// noXattrAt says that the system calls are not there, or not let through.
var noXattrAt atomic.Bool

// entryXattr reads the attribute attr, which cString made, of the entry name of the
// directory fd.
func entryXattr(fd int, name string, attr, buf []byte) (int, error) {
	return entryXattrCall(name, func(path *byte) (int, unix.Errno) {
		args := xattrArgs{value: unsafe.Pointer(unsafe.SliceData(buf)), size: uint32(len(buf))}
		n, _, errno := unix.Syscall6(sysGetxattrat, uintptr(fd), uintptr(unsafe.Pointer(path)), unix.AT_SYMLINK_NOFOLLOW,
			uintptr(unsafe.Pointer(&attr[0])), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
		return int(n), errno
	}, func() (int, error) {
		return unix.Lgetxattr(procPath(fd)+"/"+name, string(attr[:len(attr)-1]), buf)
	})
}

// entryXattrs reads the names of all attributes of the entry, each with a NUL.
func entryXattrs(fd int, name string, buf []byte) (int, error) {
	return entryXattrCall(name, func(path *byte) (int, unix.Errno) {
		n, _, errno := unix.Syscall6(sysListxattrat, uintptr(fd), uintptr(unsafe.Pointer(path)), unix.AT_SYMLINK_NOFOLLOW,
			uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
		return int(n), errno
	}, func() (int, error) {
		return unix.Llistxattr(procPath(fd)+"/"+name, buf)
	})
}

func entryXattrCall(name string, at func(path *byte) (int, unix.Errno), proc func() (int, error)) (int, error) {
	if noXattrAt.Load() {
		return retry(proc)
	}
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, err := retry(func() (int, error) {
		n, errno := at(path)
		if errno != 0 {
			return 0, errno
		}
		return n, nil
	})
	if err != unix.ENOSYS && err != unix.EPERM {
		return n, err
	}
	// EPERM may be a sandbox's, for system calls that it does not know.
	n, procErr := retry(proc)
	if err == unix.ENOSYS || procErr != unix.EPERM {
		noXattrAt.Store(true)
	}
	return n, procErr
}
