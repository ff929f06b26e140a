//go:build linux

package posix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// file is what all open objects share: metadata. For a symbolic link, or a
// directory opened without AccessRead, it is all there is.
type file struct {
	*handle
	fs     *FS
	id     vfs.FileID
	access vfs.Access
	path   bool   // the descriptor is O_PATH
	last   string // the name's last component when it was opened
}

// regular is an open regular file.
type regular struct {
	file

	nonblock bool        // the descriptor has O_NONBLOCK, which is nothing to pread(2)
	leased   atomic.Bool // leaseMonitor may have it
	tmpfs    atomic.Bool // what ReadCached has found out

	osMu sync.Mutex
	os   *os.File // guarded by osMu; owns the descriptor once it is there
}

var (
	_ vfs.OSFiler     = (*regular)(nil)
	_ vfs.Allocator   = (*regular)(nil)
	_ vfs.HoleSeeker  = (*regular)(nil)
	_ vfs.Cloner      = (*regular)(nil)
	_ vfs.RangeCopier = (*regular)(nil)
	_ vfs.Xattrer     = (*regular)(nil)
	_ vfs.Xattrer     = (*dir)(nil)
	_ vfs.Dir         = (*dir)(nil)
	_ vfs.XattrPeeker = (*dir)(nil)
)

// begin keeps the descriptor for one call; the caller owes a release.
func (f *file) begin(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !f.acquire() {
		return f.wrap(op, fs.ErrClosed)
	}
	return nil
}

// beginData is begin for calls that need the data access given.
func (f *file) beginData(ctx context.Context, op string, need vfs.Access) error {
	if err := f.begin(ctx, op); err != nil {
		return err
	}
	if f.access&need != need {
		f.release()
		return f.wrap(op, syscall.EBADF)
	}
	return nil
}

// beginChange is begin for changes of metadata.
func (f *file) beginChange(ctx context.Context, op string) error {
	if err := f.begin(ctx, op); err != nil {
		return err
	}
	if f.fs.cfg.ReadOnly {
		f.release()
		return f.wrap(op, syscall.EROFS)
	}
	return nil
}

func (f *file) wrap(op string, err error) error { return pathError(op, f.last, err) }

// RealName implements vfs.RealNamer.
func (f *file) RealName(ctx context.Context) (string, error) {
	if err := f.begin(ctx, "readlink"); err != nil {
		return "", err
	}
	defer f.release()
	root, err := os.Readlink(procPath(f.fs.root.fd))
	if err != nil {
		return "", f.wrap("readlink", err)
	}
	name, err := os.Readlink(procPath(f.fd))
	if err != nil {
		return "", f.wrap("readlink", err)
	}
	if name == root {
		return vfs.Root, nil
	}
	name, beneath := strings.CutPrefix(name, strings.TrimSuffix(root, "/")+"/")
	if !beneath { // moved out meanwhile
		return "", f.wrap("readlink", fs.ErrNotExist)
	}
	return name, nil
}

// Close implements vfs.File.
func (f *file) Close() error { return f.wrap("close", f.handle.close()) }

// Stat implements vfs.File.
func (f *file) Stat(ctx context.Context) (vfs.Info, error) {
	if err := f.begin(ctx, "stat"); err != nil {
		return vfs.Info{}, err
	}
	defer f.release()
	info, err := f.fs.info(f.fd, !f.path, "", f.last)
	return info, f.wrap("stat", err)
}

// Sync implements vfs.File. Without access to data, it is the metadata that is
// written.
func (f *file) Sync(ctx context.Context) error {
	if err := f.begin(ctx, "sync"); err != nil {
		return err
	}
	defer f.release()
	_, err := retry(func() (int, error) { return 0, unix.Fsync(f.fd) })
	if err == unix.EBADF { // an O_PATH descriptor
		err = f.syncPath()
	}
	return f.wrap("sync", err)
}

// syncPath syncs through a descriptor that can.
func (f *file) syncPath() error {
	fd, err := retry(func() (int, error) {
		return unix.Open(procPath(f.fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if err == unix.ELOOP { // a symbolic link has no content
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = retry(func() (int, error) { return 0, unix.Fsync(fd) })
	return err
}

// ReadAt, WriteAt and Truncate implement vfs.File for what has no content.
func (f *file) ReadAt([]byte, int64) (int, error)  { return 0, f.noData("read") }
func (f *file) WriteAt([]byte, int64) (int, error) { return 0, f.noData("write") }
func (f *file) Truncate(ctx context.Context, _ int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.noData("truncate")
}

func (f *file) noData(op string) error {
	if f.closed.Load() {
		return f.wrap(op, fs.ErrClosed)
	}
	return f.wrap(op, syscall.EBADF)
}

// SetAttr implements vfs.File.
func (f *file) SetAttr(ctx context.Context, a vfs.SetAttr) error {
	if err := f.beginChange(ctx, "setattr"); err != nil {
		return err
	}
	defer f.release()
	return f.wrap("setattr", f.setAttr(a))
}

func (f *file) setAttr(a vfs.SetAttr) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	if a.Set&vfs.SetAccessTime != 0 {
		ts, err := unix.TimeToTimespec(a.AccessTime)
		if err != nil || a.AccessTime.IsZero() {
			return fmt.Errorf("access time %v: %w", a.AccessTime, syscall.EINVAL)
		}
		times[0] = ts
	}
	if a.Set&vfs.SetWriteTime != 0 {
		ts, err := unix.TimeToTimespec(a.WriteTime)
		if err != nil || a.WriteTime.IsZero() {
			return fmt.Errorf("write time %v: %w", a.WriteTime, syscall.EINVAL)
		}
		times[1] = ts
	}
	if a.Set&vfs.SetBirthTime != 0 && a.BirthTime.IsZero() {
		return fmt.Errorf("birth time %v: %w", a.BirthTime, syscall.EINVAL)
	}
	// The magic link names the object itself, be it a symbolic link.
	path := procPath(f.fd)
	if a.Set&(vfs.SetOwner|vfs.SetMode) != 0 {
		as := f.fs.as
		if a.Privileged {
			as = nil
		}
		if err := as.do(func() error { return f.setOwnerMode(path, a) }); err != nil {
			return err
		}
	}
	if a.Set&vfs.SetCompressed != 0 {
		f.compress(a.Compressed)
	}
	if a.Set&(vfs.SetAttributes|vfs.SetSparse|vfs.SetCompressed|vfs.SetBirthTime) != 0 {
		if err := f.fs.changeDOSInfo(f.fd, !f.path, a, f.fs.defaultAttributes(f.last)); err != nil {
			return err
		}
	}
	if a.Set&(vfs.SetAccessTime|vfs.SetWriteTime) != 0 {
		_, err := retry(func() (int, error) {
			return 0, unix.UtimesNanoAt(unix.AT_FDCWD, path, times[:], 0)
		})
		return err
	}
	return nil
}

// compress asks the storage to compress what is written to the file from now on, or
// to stop that. Few can (btrfs, f2fs), and nothing depends on it.
func (f *file) compress(on bool) {
	fd := f.fd
	if f.path {
		data, err := retry(func() (int, error) {
			return unix.Open(procPath(f.fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return
		}
		defer unix.Close(data)
		fd = data
	}
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return
	}
	want := flags &^ fsComprFlag
	if on {
		want |= fsComprFlag
	}
	if want != flags {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(want))
	}
}

// fsComprFlag is FS_COMPR_FL of linux/fs.h.
const fsComprFlag = 0x4

func (f *file) setOwnerMode(path string, a vfs.SetAttr) error {
	if a.Set&vfs.SetOwner != 0 {
		_, err := retry(func() (int, error) {
			return 0, unix.Fchownat(f.fd, "", int(a.UID), int(a.GID), unix.AT_EMPTY_PATH)
		})
		if err != nil {
			return err
		}
	}
	if a.Set&vfs.SetMode != 0 { // after the owner, whose change clears setuid
		_, err := retry(func() (int, error) {
			return 0, unix.Fchmodat(unix.AT_FDCWD, path, chmodBits(a.Mode), 0)
		})
		return err
	}
	return nil
}

// chmodBits are the bits of a mode that chmod(2) changes.
func chmodBits(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		bits |= unix.S_ISUID
	}
	if m&fs.ModeSetgid != 0 {
		bits |= unix.S_ISGID
	}
	if m&fs.ModeSticky != 0 {
		bits |= unix.S_ISVTX
	}
	return bits
}

// OSFile implements vfs.OSFiler. The os.File is made when it is first asked for:
// that takes system calls.
func (r *regular) OSFile() *os.File {
	if r.access == 0 || !r.acquire() {
		return nil
	}
	defer r.release()
	r.osMu.Lock()
	defer r.osMu.Unlock()
	if r.os == nil {
		if r.nonblock { // or the os.File would try to poll it
			_, _ = unix.FcntlInt(uintptr(r.fd), unix.F_SETFL, 0)
		}
		r.os = os.NewFile(uintptr(r.fd), r.last)
	}
	return r.os
}

// closeData closes the descriptor, when nobody uses it any more.
func (r *regular) closeData() error {
	r.fs.leases.drop(r)
	r.osMu.Lock()
	defer r.osMu.Unlock()
	if r.os != nil {
		return r.os.Close()
	}
	return unix.Close(r.fd)
}

var errNegativeOffset = fmt.Errorf("negative offset: %w", syscall.EINVAL)

// ReadAt implements vfs.File.
func (r *regular) ReadAt(p []byte, off int64) (n int, err error) {
	if !r.acquire() {
		return 0, r.wrap("read", fs.ErrClosed)
	}
	defer r.release()
	if r.access&vfs.AccessRead == 0 {
		return 0, r.wrap("read", syscall.EBADF)
	}
	if off < 0 {
		return 0, r.wrap("read", errNegativeOffset)
	}
	for n < len(p) {
		if off > math.MaxInt64-int64(n) {
			return n, io.EOF
		}
		m, err := unix.Pread(r.fd, p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EINVAL && off > math.MaxInt64-int64(len(p)):
			return n, io.EOF // the range ends beyond what offsets can express
		case err != nil:
			return n, r.wrap("read", err)
		case m == 0:
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

// WriteAt implements vfs.File.
func (r *regular) WriteAt(p []byte, off int64) (n int, err error) {
	if !r.acquire() {
		return 0, r.wrap("write", fs.ErrClosed)
	}
	defer r.release()
	if r.access&vfs.AccessWrite == 0 {
		return 0, r.wrap("write", syscall.EBADF)
	}
	if off < 0 {
		return 0, r.wrap("write", errNegativeOffset)
	}
	if off > math.MaxInt64-int64(len(p)) {
		return 0, r.wrap("write", syscall.EFBIG)
	}
	for n < len(p) {
		m, err := unix.Pwrite(r.fd, p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, r.wrap("write", err)
		case m == 0:
			return n, r.wrap("write", io.ErrShortWrite)
		}
		n += m
	}
	return n, nil
}

// Truncate implements vfs.File.
func (r *regular) Truncate(ctx context.Context, size int64) error {
	if err := r.beginData(ctx, "truncate", vfs.AccessWrite); err != nil {
		return err
	}
	defer r.release()
	if size < 0 {
		return r.wrap("truncate", syscall.EINVAL)
	}
	_, err := retry(func() (int, error) { return 0, unix.Ftruncate(r.fd, size) })
	return r.wrap("truncate", err)
}

// checkRange refuses a range that is empty, negative or past the largest offset.
func checkRange(off, length int64) error {
	if off < 0 || length <= 0 || off > math.MaxInt64-length {
		return fmt.Errorf("range of %d bytes at %d: %w", length, off, syscall.EINVAL)
	}
	return nil
}

func (r *regular) fallocate(ctx context.Context, op string, mode uint32, off, length int64) error {
	if err := r.beginData(ctx, op, vfs.AccessWrite); err != nil {
		return err
	}
	defer r.release()
	err := checkRange(off, length)
	if err == nil {
		_, err = retry(func() (int, error) { return 0, unix.Fallocate(r.fd, mode, off, length) })
	}
	return r.wrap(op, err)
}

// Allocate implements vfs.Allocator.
func (r *regular) Allocate(ctx context.Context, off, length int64, keepSize bool) error {
	var mode uint32
	if keepSize {
		mode = unix.FALLOC_FL_KEEP_SIZE
	}
	return r.fallocate(ctx, "allocate", mode, off, length)
}

// PunchHole implements vfs.Allocator.
func (r *regular) PunchHole(ctx context.Context, off, length int64) error {
	return r.fallocate(ctx, "punch hole", unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
}

// ZeroRange implements vfs.Allocator. Storage that cannot keep zeroed space
// gives it back instead.
func (r *regular) ZeroRange(ctx context.Context, off, length int64) error {
	err := r.fallocate(ctx, "zero range", unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return r.PunchHole(ctx, off, length)
	}
	return err
}

// SeekData implements vfs.HoleSeeker.
func (r *regular) SeekData(ctx context.Context, off int64) (int64, error) {
	return r.seek(ctx, "seek data", off, unix.SEEK_DATA)
}

// SeekHole implements vfs.HoleSeeker.
func (r *regular) SeekHole(ctx context.Context, off int64) (int64, error) {
	return r.seek(ctx, "seek hole", off, unix.SEEK_HOLE)
}

// seek moves the descriptor's own position, which nothing here uses.
func (r *regular) seek(ctx context.Context, op string, off int64, whence int) (int64, error) {
	if err := r.begin(ctx, op); err != nil {
		return 0, err
	}
	defer r.release()
	if r.access == 0 {
		return 0, r.wrap(op, syscall.EBADF)
	}
	if off < 0 {
		return 0, r.wrap(op, syscall.EINVAL)
	}
	for {
		pos, err := unix.Seek(r.fd, off, whence)
		if err == unix.EINTR {
			continue
		}
		return pos, r.wrap(op, err)
	}
}

// beginPair starts a transfer between two files of this FS.
func (r *regular) beginPair(ctx context.Context, op string, src vfs.File) (*regular, error) {
	from, ok := src.(*regular)
	if !ok || from.fs.share != r.fs.share {
		return nil, r.wrap(op, syscall.EXDEV)
	}
	if err := r.beginData(ctx, op, vfs.AccessWrite); err != nil {
		return nil, err
	}
	if err := from.beginData(ctx, op, vfs.AccessRead); err != nil {
		r.release()
		return nil, err
	}
	return from, nil
}

// CloneRange implements vfs.Cloner.
func (r *regular) CloneRange(ctx context.Context, dstOff int64, src vfs.File, srcOff, length int64) error {
	from, err := r.beginPair(ctx, "clone", src)
	if err != nil {
		return err
	}
	defer r.release()
	defer from.release()
	// FICLONERANGE would take length 0 for "to the end".
	if err := errors.Join(checkRange(dstOff, length), checkRange(srcOff, length)); err != nil {
		return r.wrap("clone", err)
	}
	arg := unix.FileCloneRange{
		Src_fd:      int64(from.fd),
		Src_offset:  uint64(srcOff),
		Src_length:  uint64(length),
		Dest_offset: uint64(dstOff),
	}
	_, err = retry(func() (int, error) { return 0, unix.IoctlFileCloneRange(r.fd, &arg) })
	if err == unix.ENOTTY || err == unix.ENOSYS {
		err = vfs.ErrNotSupported
	}
	return r.wrap("clone", err)
}

// copyStep bounds one copy_file_range(2), so that a context is looked at in between.
const copyStep = 64 << 20

// CopyRange implements vfs.RangeCopier.
func (r *regular) CopyRange(ctx context.Context, dstOff int64, src vfs.File, srcOff, length int64) (int64, error) {
	from, err := r.beginPair(ctx, "copy", src)
	if err != nil {
		return 0, err
	}
	defer r.release()
	defer from.release()
	if err := errors.Join(checkRange(dstOff, length), checkRange(srcOff, length)); err != nil {
		return 0, r.wrap("copy", err)
	}
	if r.id == from.id && dstOff < srcOff+length && srcOff < dstOff+length {
		return 0, r.wrap("copy", fmt.Errorf("overlapping ranges: %w", syscall.EINVAL))
	}
	var done int64
	for done < length {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		in, out := srcOff+done, dstOff+done
		step := int(min(length-done, copyStep))
		n, err := unix.CopyFileRange(from.fd, &in, r.fd, &out, step, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EXDEV || err == unix.ENOSYS:
			return done, r.wrap("copy", vfs.ErrNotSupported)
		case err != nil:
			return done, r.wrap("copy", err)
		case n == 0:
			return done, io.EOF
		}
		done += int64(n)
	}
	return done, nil
}
