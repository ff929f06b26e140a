//go:build linux

package posix

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// rights are what the kernel checks a thread's access to files against. With a
// uid other than 0, the kernel takes the capabilities that pass over
// permissions out of what is in effect (CAP_DAC_OVERRIDE and the like; see
// capabilities(7), "Effect of user ID changes"), and gives them back with 0.
type rights struct {
	uid, gid int
	groups   []uint32
	// keepGroups says that those it changes places with are the same: each change
	// costs some 2 µs.
	keepGroups bool
}

// identity is a user whose rights a call can have.
type identity struct {
	user, own rights
	set       func(*rights) error // setRights, but for tests
}

// As implements vfs.Impersonator. It needs a process that runs as root, on Linux
// 5.8 or later.
func (f *FS) As(c vfs.Credentials) (vfs.FS, error) {
	if c.UID == math.MaxUint32 || c.GID == math.MaxUint32 || len(c.Groups) > maxGroups {
		return nil, fmt.Errorf("posix: rights of uid %d, gid %d and %d groups: %w", c.UID, c.GID, len(c.Groups), syscall.EINVAL)
	}
	own, err := ownRights()
	if err != nil {
		return nil, fmt.Errorf("posix: acting as uid %d: %w", c.UID, err)
	}
	id := &identity{
		user: rights{uid: int(c.UID), gid: int(c.GID), groups: slices.Clone(c.Groups)},
		own:  *own,
		set:  setRights,
	}
	if slices.Equal(id.user.groups, id.own.groups) {
		id.user.keepGroups, id.own.keepGroups = true, true
	}
	return &FS{share: f.share, exact: f.exact, as: id}, nil
}

// CaseSensitive implements vfs.CaseView.
func (f *FS) CaseSensitive() vfs.FS {
	if f.caseSensitive() {
		return f
	}
	return &FS{share: f.share, as: f.as, exact: true}
}

func (f *FS) caseSensitive() bool { return f.exact || f.cfg.CaseSensitive }

// Base returns the FS that f is a view of; see vfs.Base.
func (f *FS) Base() vfs.FS { return f.base }

// ownRights are those of the process, once it is known that its threads can
// take others and come back.
var ownRights = sync.OnceValues(func() (*rights, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("only root may act as somebody else: %w", syscall.EPERM)
	}
	own := &rights{uid: os.Geteuid(), gid: os.Getegid()}
	groups, err := os.Getgroups()
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		own.groups = append(own.groups, uint32(g))
	}
	const nobody = 65534
	id := &identity{user: rights{uid: nobody, gid: nobody}, own: *own, set: setRights}
	var left bool
	err = id.do(func() (err error) {
		// It is what permissions are asked by where no other call would tell.
		if err := unix.Faccessat2(unix.AT_FDCWD, "/", unix.X_OK, unix.AT_EACCESS); err == unix.ENOSYS || err == unix.EPERM {
			return fmt.Errorf("faccessat2 is needed, of Linux 5.8 or later: %w", syscall.EPERM)
		}
		left, err = passesOver()
		return err
	})
	if err == nil && left {
		err = fmt.Errorf("the thread of another user keeps its capabilities (securebits?): %w", syscall.EPERM)
	}
	if err != nil {
		return nil, err
	}
	return own, nil
})

// passesOver reports whether the thread has a capability by which permissions
// of files do not count.
func passesOver() (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, err
	}
	const over = 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER | 1<<unix.CAP_CHOWN
	return data[0].Effective&over != 0, nil
}

// do calls fn with the identity's rights, on a thread that nobody else uses
// meanwhile, or directly if id is nil. fn must not start goroutines that are to
// have these rights, nor go on after it has returned.
//
// If the process's rights do not come back, the calling goroutine keeps its thread,
// which ends with it and is used for nothing else. Until then the goroutine has the
// user's rights where it should have the process's: less than it is due, but for
// other users, whose rights each call takes anew, or fails.
func (id *identity) do(fn func() error) error {
	if id == nil {
		return fn()
	}
	runtime.LockOSThread()
	defer func() { // also if fn panics
		if id.set(&id.own) == nil {
			runtime.UnlockOSThread()
		}
	}()
	if err := id.set(&id.user); err != nil {
		return fmt.Errorf("taking the rights of uid %d: %w", id.user.uid, err)
	}
	return fn()
}

// setRights changes those of the calling thread, which must be locked. It is
// kept from the C library and from package syscall, which would change all
// threads.
func setRights(r *rights) error {
	if !r.keepGroups {
		first := unsafe.Pointer(unsafe.SliceData(r.groups))
		if _, _, errno := unix.RawSyscall(sysSetgroups, uintptr(len(r.groups)), uintptr(first), 0); errno != 0 {
			return fmt.Errorf("setgroups: %w", errno)
		}
	}
	// These report no failure; asking with an impossible id tells.
	_, _ = unix.SetfsgidRetGid(r.gid)
	_, _ = unix.SetfsuidRetUid(r.uid)
	if gid, _ := unix.SetfsgidRetGid(-1); gid != r.gid {
		return fmt.Errorf("setfsgid %d: %w", r.gid, syscall.EPERM)
	}
	if uid, _ := unix.SetfsuidRetUid(-1); uid != r.uid {
		return fmt.Errorf("setfsuid %d: %w", r.uid, syscall.EPERM)
	}
	return nil
}
