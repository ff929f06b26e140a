//go:build linux

package posix

import (
	"bytes"
	"context"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// userPrefix is the namespace in which clients' attributes are kept. It is
// where Samba keeps them too.
const userPrefix = "user."

// maxXattr is the largest value, and list of names, that Linux keeps.
const maxXattr = 65536

// xattrName turns a client's name into the kernel's.
func xattrName(name string) (string, error) {
	full := userPrefix + name
	switch {
	case name == "" || strings.IndexByte(name, 0) >= 0 || full == xattrDOSAttrib || full == xattrSecurityUser:
		return "", syscall.EINVAL
	case len(full) > 255:
		return "", syscall.ENAMETOOLONG
	}
	return full, nil
}

// Xattr implements vfs.Xattrer.
func (f *file) Xattr(ctx context.Context, name string) ([]byte, error) {
	if err := f.begin(ctx, "getxattr"); err != nil {
		return nil, err
	}
	defer f.release()
	full, err := xattrName(name)
	if err != nil {
		return nil, f.wrap("getxattr", err)
	}
	value, err := readGrowing(func(buf []byte) (int, error) { return unix.Getxattr(procPath(f.fd), full, buf) })
	return value, f.wrap("getxattr", err)
}

// SetXattr implements vfs.Xattrer.
func (f *file) SetXattr(ctx context.Context, name string, value []byte) error {
	if err := f.beginChange(ctx, "setxattr"); err != nil {
		return err
	}
	defer f.release()
	full, err := xattrName(name)
	if err == nil {
		_, err = retry(func() (int, error) { return 0, unix.Setxattr(procPath(f.fd), full, value, 0) })
	}
	return f.wrap("setxattr", err)
}

// RemoveXattr implements vfs.Xattrer.
func (f *file) RemoveXattr(ctx context.Context, name string) error {
	if err := f.beginChange(ctx, "removexattr"); err != nil {
		return err
	}
	defer f.release()
	full, err := xattrName(name)
	if err == nil {
		_, err = retry(func() (int, error) { return 0, unix.Removexattr(procPath(f.fd), full) })
	}
	return f.wrap("removexattr", err)
}

// ListXattr implements vfs.Xattrer.
func (f *file) ListXattr(ctx context.Context) ([]string, error) {
	if err := f.begin(ctx, "listxattr"); err != nil {
		return nil, err
	}
	defer f.release()
	list, err := readGrowing(func(buf []byte) (int, error) { return unix.Listxattr(procPath(f.fd), buf) })
	if err != nil {
		return nil, f.wrap("listxattr", err)
	}
	var names []string
	for full := range bytes.SplitSeq(list, []byte{0}) {
		name, ok := strings.CutPrefix(string(full), userPrefix)
		if ok && name != "" && string(full) != xattrDOSAttrib && string(full) != xattrSecurityUser {
			names = append(names, name)
		}
	}
	return names, nil
}

// readGrowing reads something whose size is only known by trying.
func readGrowing(read func([]byte) (int, error)) ([]byte, error) {
	for size := 1024; ; size *= 8 {
		size = min(size, maxXattr)
		buf := make([]byte, size)
		n, err := retry(func() (int, error) { return read(buf) })
		if err == nil {
			return buf[:n], nil
		}
		if err != unix.ERANGE || size == maxXattr {
			return nil, err
		}
	}
}
