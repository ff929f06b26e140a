//go:build linux

package posix

import (
	"bytes"
	"context"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
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
	case name == "" || strings.IndexByte(name, 0) >= 0 || isPrivate(full):
		return "", syscall.EINVAL
	case len(full) > 255:
		return "", syscall.ENAMETOOLONG
	}
	return full, nil
}

// isPrivate reports whether a user attribute is one that this package or Samba
// keeps for itself. Case does not matter, as it does not to clients.
func isPrivate(full string) bool {
	name := full[len(userPrefix):]
	switch strings.ToUpper(name) {
	case "DOSATTRIB", "NTACL", "SAMBA_PAI", "SAMBA_STREAMS":
		return true
	}
	return hasPrefixFold(name, "DosStream.") || hasPrefixFold(name, "DosStreamExt.")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
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
	var value []byte
	err = f.fs.as.do(func() (err error) {
		value, err = readGrowing(func(buf []byte) (int, error) { return unix.Getxattr(procPath(f.fd), full, buf) })
		return err
	})
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
		err = f.fs.as.do(func() error {
			_, err := retry(func() (int, error) { return 0, unix.Setxattr(procPath(f.fd), full, value, 0) })
			return roomError(err)
		})
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
		err = f.fs.as.do(func() error {
			_, err := retry(func() (int, error) { return 0, unix.Removexattr(procPath(f.fd), full) })
			return err
		})
	}
	return f.wrap("removexattr", err)
}

// ListXattr implements vfs.Xattrer.
func (f *file) ListXattr(ctx context.Context) ([]string, error) {
	if err := f.begin(ctx, "listxattr"); err != nil {
		return nil, err
	}
	defer f.release()
	var names []string
	err := eachXattr(cString(procPath(f.fd)), func(full string) {
		name, ok := strings.CutPrefix(full, userPrefix)
		if ok && name != "" && !isPrivate(full) {
			names = append(names, name)
		}
	})
	if err != nil {
		return nil, f.wrap("listxattr", err)
	}
	return names, nil
}

// HasXattrs implements vfs.XattrPeeker.
func (d *dir) HasXattrs(ctx context.Context, name string, info *vfs.Info) (bool, error) {
	if err := d.begin(ctx, "listxattr"); err != nil {
		return false, err
	}
	defer d.release()
	if !vfs.ValidComponent(name) {
		return false, pathError("listxattr", name, syscall.EINVAL)
	}
	if d.blind {
		return false, pathError("listxattr", name, syscall.EACCES)
	}
	if r, ok := d.fs.attrs.get(info); ok && r.known&knowsEAs != 0 {
		return r.known&hasEAs != 0, nil
	}
	has, err := entryHasXattrs(d.fd, name)
	if err != nil {
		return false, pathError("listxattr", name, err)
	}
	r := attrRecord{known: knowsEAs}
	if has {
		r.known |= hasEAs
	}
	d.fs.attrs.add(info, r)
	return has, nil
}

// entryHasXattrs reports whether the entry name of the directory fd has users'
// attributes.
func entryHasXattrs(fd int, name string) (bool, error) {
	var buf [256]byte
	// The entry may be exchanged for a link.
	n, err := entryXattrs(fd, name, buf[:])
	switch err {
	case nil:
	case unix.ERANGE:
		return true, nil
	case unix.EOPNOTSUPP:
		return false, nil
	default:
		return false, err
	}
	for list := buf[:n]; len(list) > 0; {
		full, rest, _ := bytes.Cut(list, []byte{0})
		if list = rest; bytes.HasPrefix(full, []byte(userPrefix)) && !isPrivate(string(full)) {
			return true, nil
		}
	}
	return false, nil
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
