//go:build linux

package posix

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Security records are kept where Samba keeps security descriptors. Its
// namespace takes CAP_SYS_ADMIN to write, so that the owner of a file cannot
// change the record behind the server's back; a server without that right keeps
// them among the users' own attributes.
const (
	xattrNTACL     = "security.NTACL"
	xattrUserNTACL = userPrefix + "NTACL"
)

// POSIX ACLs as the kernel hands them out.
const (
	posixAccess  = "system.posix_acl_access"
	posixDefault = "system.posix_acl_default"
)

var (
	_ vfs.SecurityHolder = (*file)(nil)
	_ vfs.ACLHolder      = (*file)(nil)
)

// securityXattr is the attribute that this process can use.
var securityXattr = sync.OnceValue(func() string {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3, Pid: int32(os.Getpid())}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return xattrNTACL
	}
	return xattrUserNTACL
})

// SecurityRecord implements vfs.SecurityHolder. A server without rights reads
// what one with rights, or Samba, has left, unless it has a record of its own.
func (f *file) SecurityRecord(ctx context.Context) ([]byte, error) {
	name := securityXattr()
	record, err := f.systemXattr(ctx, name)
	if name != xattrNTACL && errors.Is(err, syscall.ENODATA) {
		record, err = f.systemXattr(ctx, xattrNTACL)
	}
	return record, err
}

// POSIXACL implements vfs.ACLHolder.
func (f *file) POSIXACL(ctx context.Context) (access, def []byte, err error) {
	if access, err = f.systemXattr(ctx, posixAccess); !noACL(err) {
		return nil, nil, err
	}
	if def, err = f.systemXattr(ctx, posixDefault); !noACL(err) {
		return nil, nil, err
	}
	return access, def, nil
}

// noACL reports whether err is nil or says that there is no ACL, or can be none: a
// file has no default ACL (EACCES), a storage may have none at all.
func noACL(err error) bool {
	return err == nil || errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EACCES)
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
	return f.setSystemXattr(ctx, securityXattr(), record)
}

// SetPOSIXACL implements vfs.ACLHolder.
func (f *file) SetPOSIXACL(ctx context.Context, access []byte) error {
	err := f.setSystemXattr(ctx, posixAccess, access)
	if access == nil && noACL(err) {
		err = nil
	}
	return err
}

// setSystemXattr changes an attribute outside the users' namespace; nil removes it.
func (f *file) setSystemXattr(ctx context.Context, name string, value []byte) error {
	if err := f.beginChange(ctx, "setxattr"); err != nil {
		return err
	}
	defer f.release()
	path := procPath(f.fd)
	var err error
	switch {
	case len(value) > maxXattr:
		err = unix.E2BIG
	case value == nil:
		_, err = retry(func() (int, error) { return 0, unix.Removexattr(path, name) })
		if err == unix.ENODATA {
			err = nil
		}
	default:
		_, err = retry(func() (int, error) { return 0, unix.Setxattr(path, name, value, 0) })
		err = roomError(err)
	}
	return f.wrap("setxattr", err)
}
