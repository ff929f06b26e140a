//go:build linux

package posix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Config says how a directory is served. The zero value is a good default.
type Config struct {
	// ReadOnly refuses every change with EROFS.
	ReadOnly bool
	// CaseSensitive turns off the second, case-ignoring lookup.
	CaseSensitive bool
	// NoDOSAttributes neither reads nor writes user.DOSATTRIB. It saves a system
	// call for each object described.
	NoDOSAttributes bool
	// ShowDotFiles stops names with a leading dot from having vfs.AttrHidden
	// where no attributes are stored for them.
	ShowDotFiles bool
	// MaxWatchedDirs bounds the directories watched at a time, over all watches;
	// a recursive watch takes one for every directory beneath it. Zero means
	// 16384. The kernel's fs.inotify.max_user_watches applies besides.
	MaxWatchedDirs int
	// SnapshotDir is the directory in which earlier states of the share are, each as
	// a directory named by its time in UTC, such as @GMT-2026.11.23-07.30.00 (the
	// layout of Samba's shadow_copy2). An absolute path may be anywhere, and may
	// contain and lead to symbolic links: who writes there is trusted. Any other is
	// beneath the root and cannot be left. Empty means that there are none.
	SnapshotDir string
	// FileMask and DirMask are the permission bits that creation lets through,
	// besides the process's umask. Zero means 0777 for both.
	FileMask, DirMask fs.FileMode
}

const defaultMaxWatchedDirs = 16384

// FS serves one directory, with the rights of the process or, as a view, with
// those of a user. Its methods are safe for concurrent use.
type FS struct {
	*share
	as    *identity // whose rights; nil for the process's own
	exact bool      // no case-ignoring lookup
}

// share is what an FS and its views have in common.
type share struct {
	cfg  Config
	base *FS // with the process's own rights
	root *handle
	res  resolver

	// names serialises changes of names with each other; guards no field.
	names sync.Mutex

	folds   foldCache
	attrs   attrCache
	watcher watcher
	streams streamTable
	leases  leaseMonitor
	snaps   snapshots

	// rootDev is the device of the root; metaBlocks says that it counts blocks of
	// extended attributes as the file's own.
	rootDev    uint64
	metaBlocks bool
}

// These are what FS and its files can do.
var (
	_ vfs.FS           = (*FS)(nil)
	_ vfs.Linker       = (*FS)(nil)
	_ vfs.Symlinker    = (*FS)(nil)
	_ vfs.Mknoder      = (*FS)(nil)
	_ vfs.Watcher      = (*FS)(nil)
	_ vfs.Impersonator = (*FS)(nil)
	_ vfs.CaseView     = (*FS)(nil)
	_ vfs.Snapshotter  = (*FS)(nil)
)

// New serves the directory root, which may be given through symbolic links.
func New(root string, cfg Config) (*FS, error) {
	if cfg.MaxWatchedDirs < 0 {
		return nil, fmt.Errorf("posix: MaxWatchedDirs is %d, must not be negative", cfg.MaxWatchedDirs)
	}
	if cfg.MaxWatchedDirs == 0 {
		cfg.MaxWatchedDirs = defaultMaxWatchedDirs
	}
	if m := (cfg.FileMask | cfg.DirMask) &^ fs.ModePerm; m != 0 {
		return nil, fmt.Errorf("posix: FileMask and DirMask take permission bits only, not %v", m)
	}
	if cfg.FileMask == 0 {
		cfg.FileMask = fs.ModePerm
	}
	if cfg.DirMask == 0 {
		cfg.DirMask = fs.ModePerm
	}
	if d := cfg.SnapshotDir; d != "" && !path.IsAbs(d) && (!vfs.ValidName(d) || d == vfs.Root) {
		return nil, fmt.Errorf("posix: SnapshotDir %q is neither an absolute path nor a name beneath the root", d)
	}
	fd, err := retry(func() (int, error) {
		return unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	// Metadata of objects held by O_PATH descriptors is reached through /proc.
	var st unix.Stat_t
	if err := unix.Fstatat(unix.AT_FDCWD, procPath(fd), &st, 0); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("posix: /proc is needed and not usable: %w", err)
	}
	return newFS(fd, cfg), nil
}

// newFS serves the directory fd, an O_PATH descriptor that it takes over.
func newFS(fd int, cfg Config) *FS {
	sh := &share{cfg: cfg, root: newHandle(fd)}
	sh.root.onClose = func() error { // when the last call has returned
		sh.folds.close()
		return unix.Close(fd)
	}
	sh.res = resolver{root: fd, openat2: haveOpenat2(fd)}
	sh.base = &FS{share: sh}
	sh.watcher.fs = sh.base
	var st unix.Statfs_t
	if _, err := retry(func() (int, error) { return 0, unix.Fstatfs(fd, &st) }); err == nil {
		sh.metaBlocks = uint32(st.Type) == unix.EXT4_SUPER_MAGIC
	}
	if id, _, err := idOf(fd, ""); err == nil {
		sh.rootDev = id.Dev
		sh.attrs.dev, sh.attrs.enabled, sh.attrs.now = id.Dev, localStorage(fd), time.Now
	}
	return sh.base
}

// Resolver names the way in which names are kept beneath the root: "openat2" or
// "walk".
func (f *FS) Resolver() string {
	if f.res.openat2 {
		return "openat2"
	}
	return "walk"
}

// Close implements vfs.FS. That of a view does nothing.
func (f *FS) Close() error {
	if f != f.base {
		return nil
	}
	err := f.root.close()
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	f.watcher.close()
	f.leases.close()
	f.snaps.close()
	return err
}

// Statfs implements vfs.FS.
func (f *FS) Statfs(ctx context.Context) (vfs.Statfs, error) {
	if err := f.begin(ctx, "statfs", vfs.Root); err != nil {
		return vfs.Statfs{}, err
	}
	defer f.root.release()
	var st unix.Statfs_t
	_, err := retry(func() (int, error) { return 0, unix.Fstatfs(f.root.fd, &st) })
	if err != nil {
		return vfs.Statfs{}, pathError("statfs", vfs.Root, err)
	}
	bs := st.Frsize
	if bs <= 0 {
		bs = st.Bsize
	}
	if bs <= 0 {
		bs = 512
	}
	xattrs := hasXattrs(f.root.fd)
	return vfs.Statfs{
		BlockSize:     uint32(bs),
		Total:         st.Blocks,
		Free:          st.Bfree,
		Avail:         st.Bavail,
		Files:         st.Files,
		FilesFree:     st.Ffree,
		NameMax:       uint32(st.Namelen),
		Type:          uint64(uint32(st.Type)),
		TypeName:      typeName(uint32(st.Type)),
		ID:            uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32,
		ReadOnly:      f.cfg.ReadOnly || st.Flags&unix.ST_RDONLY != 0,
		CaseSensitive: f.caseSensitive(),
		Clones:        clones(uint32(st.Type)),
		Sparse:        true,
		Xattrs:        xattrs,
		Streams:       xattrs,
		Attributes:    xattrs && !f.cfg.NoDOSAttributes,
	}, nil
}

// clones reports whether a storage's kind can share storage between files. Some XFS
// cannot, and says so when it is asked to.
func clones(magic uint32) bool {
	const bcachefs = 0xCA451A4E
	switch magic {
	case unix.BTRFS_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC, bcachefs:
		return true
	}
	return false
}

func typeName(magic uint32) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case 0x2FC12FC1:
		return "zfs"
	}
	return fmt.Sprintf("%#x", magic)
}

// begin starts an operation on name: the context must live, the name be valid
// and the FS open. On success the caller owes a f.root.release().
func (f *FS) begin(ctx context.Context, op, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !vfs.ValidName(name) {
		return &fs.PathError{Op: op, Path: name, Err: syscall.EINVAL}
	}
	if !f.root.acquire() {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrClosed}
	}
	return nil
}

// beginChange is begin for operations that a read-only share refuses.
func (f *FS) beginChange(ctx context.Context, op, name string) error {
	if err := f.begin(ctx, op, name); err != nil {
		return err
	}
	if f.cfg.ReadOnly {
		f.root.release()
		return &fs.PathError{Op: op, Path: name, Err: syscall.EROFS}
	}
	return nil
}

// pathError wraps err unless it is wrapped or nil.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// linkError is pathError for two names.
func linkError(op, oldname, newname string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: oldname, New: newname, Err: err}
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// procPath is a name for the object that fd refers to, good for calls that do
// not take an O_PATH descriptor. It is a magic link: following it leads to that
// object whatever its names are.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
