//go:build linux

package posix

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// cString is a NUL-terminated copy for system calls that are made often: those
// of package unix make one each time.
func cString(s string) []byte { return append([]byte(s), 0) }

// getXattr is getxattr(2) of a path and a name made by cString. It allocates
// nothing.
func getXattr(path, name, buf []byte) (int, error) {
	return xattrCall(unix.SYS_GETXATTR, path, name, buf, 0)
}

// setXattr is setxattr(2) in the same way.
func setXattr(path, name, value []byte, flags int) error {
	_, err := xattrCall(unix.SYS_SETXATTR, path, name, value, flags)
	return err
}

func xattrCall(call uintptr, path, name, b []byte, flags int) (int, error) {
	return retry(func() (int, error) {
		n, _, errno := unix.Syscall6(call, uintptr(unsafe.Pointer(&path[0])), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags), 0)
		if errno != 0 {
			return 0, errno
		}
		return int(n), nil
	})
}
