//go:build linux

package posix

import (
	"context"
	"io/fs"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Stat implements vfs.FS.
func (f *FS) Stat(ctx context.Context, name string) (vfs.Info, error) {
	return f.stat(ctx, "stat", name, true)
}

// Lstat implements vfs.FS.
func (f *FS) Lstat(ctx context.Context, name string) (vfs.Info, error) {
	return f.stat(ctx, "lstat", name, false)
}

func (f *FS) stat(ctx context.Context, op, name string, follow bool) (vfs.Info, error) {
	if err := f.begin(ctx, op, name); err != nil {
		return vfs.Info{}, err
	}
	defer f.root.release()
	fd, name, err := f.resolveAs(name, follow)
	if err != nil {
		return vfs.Info{}, pathError(op, name, err)
	}
	defer unix.Close(fd)
	_, last := vfs.Split(name)
	info, err := f.info(fd, false, "", last)
	return info, pathError(op, name, err)
}

// info describes the entry name of the directory fd, or fd itself where name is
// "". data says that fd is no O_PATH descriptor. last is its name for the sake of
// dot files.
func (f *FS) info(fd int, data bool, name, last string) (vfs.Info, error) {
	var st unix.Statx_t
	if err := statx(fd, name, &st); err != nil {
		return vfs.Info{}, err
	}
	info := vfs.Info{
		Mode: fileMode(uint32(st.Mode)),
		// st_dev as the kernel's 32-bit dev_t joins it fits both halves in 64 bits.
		ID:         vfs.FileID{Dev: uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), Ino: st.Ino},
		Allocated:  clampBytes(st.Blocks, 512),
		Nlink:      st.Nlink,
		UID:        st.Uid,
		GID:        st.Gid,
		AccessTime: statxTime(st.Atime),
		WriteTime:  statxTime(st.Mtime),
		ChangeTime: statxTime(st.Ctime),
	}
	if !info.Mode.IsDir() {
		info.Size = clampBytes(st.Size, 1)
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		info.BirthTime = statxTime(st.Btime)
	} else {
		info.BirthTime = earliest(info.AccessTime, info.WriteTime, info.ChangeTime)
	}
	f.addDOSInfo(&info, fd, data, name, last)
	if f.metaBlocks && info.ID.Dev == f.rootDev && info.Mode.IsRegular() {
		info.Allocated -= metaBlock(&info, int64(st.Blksize), fd, data)
	}
	return info, nil
}

// statx is statx(2) of the entry name of the directory fd, or of fd itself where name
// is "". It allocates nothing.
func statx(fd int, name string, st *unix.Statx_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var path [unix.NAME_MAX + 1]byte
	if len(name) >= len(path) {
		return unix.ENAMETOOLONG
	}
	copy(path[:], name)
	_, err := retry(func() (int, error) {
		_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&path[0])), uintptr(flags),
			unix.STATX_BASIC_STATS|unix.STATX_BTIME, uintptr(unsafe.Pointer(st)), 0)
		if errno != 0 {
			return 0, errno
		}
		return 0, nil
	})
	return err
}

// metaBlock returns how much of what ext4 counts as a file's storage is the
// block in which it keeps extended attributes, or a map of the content: one block
// or nothing. It is told by there being a block more than the size takes, and
// what is reserved beyond the end, for which only a descriptor for data can be
// asked.
func metaBlock(info *vfs.Info, block int64, fd int, data bool) int64 {
	if block <= 0 || block > 1<<16 {
		return 0
	}
	end := (info.Size/block + min(info.Size%block, 1)) * block
	extra := info.Allocated - end
	if extra < block || extra > block && !data {
		return 0
	}
	if data {
		extra -= reservedFrom(fd, end)
	}
	if extra != block {
		return 0
	}
	return block
}

// reservedFrom returns how much storage a file has for content at or after off,
// as far as that is in few pieces.
func reservedFrom(fd int, off int64) (sum int64) {
	const fiemap = 0xC020660B // FS_IOC_FIEMAP
	type extent struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
	m := struct {
		start, length         uint64
		flags, mapped, places uint32
		_                     uint32
		extents               [4]extent
	}{start: uint64(off), length: math.MaxUint64 - uint64(off), places: 4}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fiemap, uintptr(unsafe.Pointer(&m)))
	if errno != 0 {
		return 0
	}
	for _, e := range m.extents[:min(m.mapped, 4)] {
		from := max(e.logical, uint64(off))
		sum += int64(max(e.logical+e.length, from) - from)
	}
	return sum
}

// addDOSInfo adds what is stored beside the file, or the defaults.
func (f *FS) addDOSInfo(info *vfs.Info, fd int, data bool, name, last string) {
	if !f.cfg.NoDOSAttributes && (info.Mode.IsRegular() || info.Mode.IsDir()) {
		if d, ok := f.knownDOSInfo(info, fd, data, name); ok {
			if d.hasAttrib {
				info.Attributes = vfs.Attributes(d.attrib) & (vfs.AttrMask | vfs.AttrSparse | vfs.AttrCompressed)
			}
			if !d.created.IsZero() {
				info.BirthTime = d.created
			}
			if d.hasAttrib {
				return
			}
		}
	}
	info.Attributes = f.defaultAttributes(last)
}

// defaultAttributes are those of an object for which none are stored.
func (f *FS) defaultAttributes(last string) vfs.Attributes {
	if !f.cfg.ShowDotFiles && len(last) > 1 && last[0] == '.' {
		return vfs.AttrHidden
	}
	return 0
}

func clampBytes(n, unit uint64) int64 {
	if n > math.MaxInt64/unit {
		return math.MaxInt64
	}
	return int64(n * unit)
}

func statxTime(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

func earliest(t time.Time, more ...time.Time) time.Time {
	for _, u := range more {
		if u.Before(t) {
			t = u
		}
	}
	return t
}

// idOf returns the identity of fd, or of its entry name, link not followed.
func idOf(fd int, name string) (vfs.FileID, fs.FileMode, error) {
	var st unix.Stat_t
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	_, err := retry(func() (int, error) { return 0, unix.Fstatat(fd, name, &st, flags) })
	if err != nil {
		return vfs.FileID{}, 0, err
	}
	dev := uint64(unix.Major(st.Dev))<<32 | uint64(unix.Minor(st.Dev))
	return vfs.FileID{Dev: dev, Ino: st.Ino}, fileMode(st.Mode), nil
}
