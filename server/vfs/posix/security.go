//go:build linux

package posix

import (
	"context"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// The attribute of the security record: where Samba keeps its own if the process
// is root, which alone may write there; in the users' namespace otherwise.
const (
	xattrSecurityRoot = "security.NTACL"
	xattrSecurityUser = userPrefix + "NTACL"
)

var xattrSecurity = func() string {
	if os.Geteuid() == 0 {
		return xattrSecurityRoot
	}
	return xattrSecurityUser
}()

var (
	_ vfs.SecurityHolder = (*file)(nil)
	_ vfs.ACLHolder      = (*file)(nil)
)

// SecurityRecord implements vfs.SecurityHolder.
func (f *file) SecurityRecord(ctx context.Context) ([]byte, error) {
	return f.systemXattr(ctx, xattrSecurity)
}

// POSIXACL implements vfs.ACLHolder.
func (f *file) POSIXACL(ctx context.Context) (access, def []byte, err error) {
	if access, err = f.systemXattr(ctx, "system.posix_acl_access"); err != nil && !noACL(err) {
		return nil, nil, err
	}
	if def, err = f.systemXattr(ctx, "system.posix_acl_default"); err != nil && !noACL(err) {
		return nil, nil, err
	}
	return access, def, nil
}

// noACL reports whether err says that there is no ACL, or can be none: a file has
// no default ACL (EACCES), a storage may have none at all.
func noACL(err error) bool {
	return errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EACCES)
}

// systemXattr reads an attribute outside the users' namespace.
func (f *file) systemXattr(ctx context.Context, name string) ([]byte, error) {
	if err := f.begin(ctx, "getxattr"); err != nil {
		return nil, err
	}
	defer f.release()
	path := procPath(f.fd)
	// Most have none: a small buffer is enough to hear that.
	var small [512]byte
	n, err := retry(func() (int, error) { return unix.Getxattr(path, name, small[:]) })
	if err == nil {
		return append([]byte(nil), small[:n]...), nil
	}
	var value []byte
	if err == unix.ERANGE {
		value, err = readGrowing(func(buf []byte) (int, error) { return unix.Getxattr(path, name, buf) })
	}
	return value, f.wrap("getxattr", err)
}

// SetSecurityRecord implements vfs.SecurityHolder.
func (f *file) SetSecurityRecord(ctx context.Context, record []byte) error {
	if err := f.beginChange(ctx, "setxattr"); err != nil {
		return err
	}
	defer f.release()
	path := procPath(f.fd)
	var err error
	switch {
	case len(record) > maxXattr:
		err = unix.E2BIG
	case record == nil:
		_, err = retry(func() (int, error) { return 0, unix.Removexattr(path, xattrSecurity) })
		if err == unix.ENODATA {
			err = nil
		}
	default:
		_, err = retry(func() (int, error) { return 0, unix.Setxattr(path, xattrSecurity, record, 0) })
	}
	return f.wrap("setxattr", err)
}
