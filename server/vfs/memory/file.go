package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// file is what all handles share: metadata. For a symbolic link, or a directory
// opened without AccessRead, it is all there is.
type file struct {
	node   *node // the handle has a reference
	access vfs.Access
	last   string // the name's last component when it was opened
	dir    *node  // where it was found then

	refs   atomic.Int64 // 1 for the owner, 1 for each call in progress
	closed atomic.Bool
}

// regular is an open file.
type regular struct{ file }

// dir is a directory opened for reading.
type dir struct {
	file

	mu sync.Mutex
	// end is the last entry that there was when the listing began: those who add
	// names as fast as they are listed do not make it endless.
	end int64 // guarded by mu
}

var (
	_ vfs.Allocator      = (*regular)(nil)
	_ vfs.HoleSeeker     = (*regular)(nil)
	_ vfs.Cloner         = (*regular)(nil)
	_ vfs.RangeCopier    = (*regular)(nil)
	_ vfs.RealNamer      = (*file)(nil)
	_ vfs.CachedReader   = (*regular)(nil)
	_ vfs.Xattrer        = (*file)(nil)
	_ vfs.StreamHolder   = (*file)(nil)
	_ vfs.SecurityHolder = (*file)(nil)
	_ vfs.Dir            = (*dir)(nil)
	_ vfs.XattrPeeker    = (*dir)(nil)
)

func (f *file) init(n *node, access vfs.Access, last string) {
	f.node, f.access, f.last = n, access, last
	f.refs.Store(1)
}

func (f *file) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return pathError(op, f.last, err)
}

// enter keeps the object for one call; the caller owes an exit.
func (f *file) enter(op string) error {
	for {
		n := f.refs.Load()
		if n <= 0 || f.closed.Load() {
			return f.wrap(op, fs.ErrClosed)
		}
		if f.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (f *file) exit() {
	if f.refs.Add(-1) == 0 {
		f.node.drop()
	}
}

// begin is enter for calls with a context.
func (f *file) begin(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.enter(op)
}

// beginData is begin for calls that need the data access given.
func (f *file) beginData(ctx context.Context, op string, need vfs.Access) error {
	if err := f.begin(ctx, op); err != nil {
		return err
	}
	if f.access&need != need {
		f.exit()
		return f.wrap(op, syscall.EBADF)
	}
	return nil
}

// Close implements vfs.File.
func (f *file) Close() error {
	if f.closed.Swap(true) {
		return f.wrap("close", fs.ErrClosed)
	}
	f.exit()
	return nil
}

// RealName implements vfs.RealNamer.
func (f *file) RealName(ctx context.Context) (string, error) {
	if err := f.begin(ctx, "realname"); err != nil {
		return "", err
	}
	defer f.exit()
	s := f.node.store
	s.names.RLock()
	defer s.names.RUnlock()
	name, ok := s.realName(f.node, f.dir, f.last)
	if !ok {
		return "", f.wrap("realname", fs.ErrNotExist)
	}
	return name, nil
}

// Stat implements vfs.File.
func (f *file) Stat(ctx context.Context) (vfs.Info, error) {
	if err := f.begin(ctx, "stat"); err != nil {
		return vfs.Info{}, err
	}
	defer f.exit()
	return f.node.info(), nil
}

// Sync implements vfs.File. There is nothing to do.
func (f *file) Sync(ctx context.Context) error {
	if err := f.begin(ctx, "sync"); err != nil {
		return err
	}
	f.exit()
	return nil
}

// SetAttr implements vfs.File.
func (f *file) SetAttr(ctx context.Context, a vfs.SetAttr) error {
	return f.change(ctx, "setattr", func() error { return f.node.setAttr(a) })
}

// change runs do, which changes metadata, and tells of it.
func (f *file) change(ctx context.Context, op string, do func() error) error {
	if err := f.begin(ctx, op); err != nil {
		return err
	}
	defer f.exit()
	err := do()
	if err == nil {
		f.node.modified(vfs.ChangeMetadata)
	}
	return f.wrap(op, err)
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

// Xattr implements vfs.Xattrer.
func (f *file) Xattr(ctx context.Context, name string) ([]byte, error) {
	if err := f.begin(ctx, "getxattr"); err != nil {
		return nil, err
	}
	defer f.exit()
	value, err := f.node.xattr(name)
	return value, f.wrap("getxattr", err)
}

// SetXattr implements vfs.Xattrer.
func (f *file) SetXattr(ctx context.Context, name string, value []byte) error {
	return f.change(ctx, "setxattr", func() error { return f.node.setXattr(name, value) })
}

// RemoveXattr implements vfs.Xattrer.
func (f *file) RemoveXattr(ctx context.Context, name string) error {
	return f.change(ctx, "removexattr", func() error { return f.node.removeXattr(name) })
}

// ListXattr implements vfs.Xattrer.
func (f *file) ListXattr(ctx context.Context) ([]string, error) {
	if err := f.begin(ctx, "listxattr"); err != nil {
		return nil, err
	}
	defer f.exit()
	return f.node.listXattr(), nil
}

// SecurityRecord implements vfs.SecurityHolder.
func (f *file) SecurityRecord(ctx context.Context) ([]byte, error) {
	if err := f.begin(ctx, "get security record"); err != nil {
		return nil, err
	}
	defer f.exit()
	record, err := f.node.securityRecord()
	return record, f.wrap("get security record", err)
}

// SetSecurityRecord implements vfs.SecurityHolder.
func (f *file) SetSecurityRecord(ctx context.Context, record []byte) error {
	return f.change(ctx, "set security record", func() error { return f.node.setSecurityRecord(record) })
}

// enterData is enter for transfers.
func (f *file) enterData(op string, need vfs.Access) error {
	if err := f.enter(op); err != nil {
		return err
	}
	if f.access&need == 0 {
		f.exit()
		return f.wrap(op, syscall.EBADF)
	}
	return nil
}

// ReadAt implements vfs.File.
func (r *regular) ReadAt(p []byte, off int64) (int, error) {
	if err := r.enterData("read", vfs.AccessRead); err != nil {
		return 0, err
	}
	defer r.exit()
	n, err := r.node.data.readAt(p, off)
	return n, r.wrap("read", err)
}

// ReadCached implements vfs.CachedReader: everything is in memory.
func (r *regular) ReadCached(p []byte, off int64) (int, error) {
	n, err := r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = vfs.ErrNotCached
	}
	return n, err
}

// WriteAt implements vfs.File.
func (r *regular) WriteAt(p []byte, off int64) (int, error) {
	if err := r.enterData("write", vfs.AccessWrite); err != nil {
		return 0, err
	}
	defer r.exit()
	n, err := r.node.data.writeAt(p, off)
	if n > 0 {
		r.wrote()
	}
	return n, r.wrap("write", err)
}

func (r *regular) wrote() {
	r.node.wrote()
	r.node.modified(vfs.ChangeData)
}

// changeData runs do, which changes content.
func (r *regular) changeData(ctx context.Context, op string, do func() error) error {
	if err := r.beginData(ctx, op, vfs.AccessWrite); err != nil {
		return err
	}
	defer r.exit()
	err := do()
	if err == nil {
		r.wrote()
	}
	return r.wrap(op, err)
}

// Truncate implements vfs.File.
func (r *regular) Truncate(ctx context.Context, size int64) error {
	return r.changeData(ctx, "truncate", func() error { return r.node.data.truncate(size) })
}

// checkRange refuses a range that is empty, negative or past the largest offset.
func checkRange(off, length int64) error {
	if off < 0 || length <= 0 || off > math.MaxInt64-length {
		return fmt.Errorf("range of %d bytes at %d: %w", length, off, syscall.EINVAL)
	}
	return nil
}

// changeRange is changeData for a range.
func (r *regular) changeRange(ctx context.Context, op string, off, length int64, do func() error) error {
	return r.changeData(ctx, op, func() error {
		if err := checkRange(off, length); err != nil {
			return err
		}
		return do()
	})
}

// Allocate implements vfs.Allocator.
func (r *regular) Allocate(ctx context.Context, off, length int64, keepSize bool) error {
	return r.changeRange(ctx, "allocate", off, length, func() error {
		return r.node.data.allocate(off, length, keepSize)
	})
}

// PunchHole implements vfs.Allocator.
func (r *regular) PunchHole(ctx context.Context, off, length int64) error {
	return r.changeRange(ctx, "punch hole", off, length, func() error { return r.node.data.punch(off, length) })
}

// ZeroRange implements vfs.Allocator.
func (r *regular) ZeroRange(ctx context.Context, off, length int64) error {
	return r.changeRange(ctx, "zero range", off, length, func() error { return r.node.data.punch(off, length) })
}

// SeekData implements vfs.HoleSeeker.
func (r *regular) SeekData(ctx context.Context, off int64) (int64, error) {
	return r.seek(ctx, "seek data", off, r.node.data.seekData)
}

// SeekHole implements vfs.HoleSeeker.
func (r *regular) SeekHole(ctx context.Context, off int64) (int64, error) {
	return r.seek(ctx, "seek hole", off, r.node.data.seekHole)
}

func (r *regular) seek(ctx context.Context, op string, off int64, seek func(int64) (int64, error)) (int64, error) {
	if err := r.begin(ctx, op); err != nil {
		return 0, err
	}
	defer r.exit()
	if r.access == 0 {
		return 0, r.wrap(op, syscall.EBADF)
	}
	at, err := seek(off)
	return at, r.wrap(op, err)
}

// CloneRange implements vfs.Cloner. No alignment is needed; what is aligned to
// 64 KiB in both is shared.
func (r *regular) CloneRange(ctx context.Context, dstOff int64, src vfs.File, srcOff, length int64) error {
	_, err := r.copy(ctx, "clone", dstOff, src, srcOff, length, true)
	return err
}

// CopyRange implements vfs.RangeCopier, in the same way as CloneRange.
func (r *regular) CopyRange(ctx context.Context, dstOff int64, src vfs.File, srcOff, length int64) (int64, error) {
	n, err := r.copy(ctx, "copy", dstOff, src, srcOff, length, false)
	if err == nil && n < length {
		err = io.EOF
	}
	return n, err
}

func (r *regular) copy(ctx context.Context, op string, dstOff int64, src vfs.File, srcOff, length int64, whole bool) (int64, error) {
	from, ok := src.(*regular)
	if !ok || from.node.store != r.node.store {
		return 0, r.wrap(op, syscall.EXDEV)
	}
	if err := r.beginData(ctx, op, vfs.AccessWrite); err != nil {
		return 0, err
	}
	defer r.exit()
	if err := from.beginData(ctx, op, vfs.AccessRead); err != nil {
		return 0, err
	}
	defer from.exit()
	if err := errors.Join(checkRange(dstOff, length), checkRange(srcOff, length)); err != nil {
		return 0, r.wrap(op, err)
	}
	if r.node == from.node && dstOff < srcOff+length && srcOff < dstOff+length {
		return 0, r.wrap(op, fmt.Errorf("overlapping ranges: %w", syscall.EINVAL))
	}
	n, err := r.node.data.copyFrom(dstOff, from.node.data, srcOff, length, whole)
	if n > 0 {
		r.wrote()
	}
	return n, r.wrap(op, err)
}

// ReadDir implements vfs.Dir. Cursors are dentry.seq.
func (d *dir) ReadDir(ctx context.Context, cursor vfs.Cursor, dst []vfs.DirEntry) (int, error) {
	if err := d.begin(ctx, "readdir"); err != nil {
		return 0, err
	}
	defer d.exit()
	if len(dst) == 0 {
		return 0, d.wrap("readdir", syscall.EINVAL)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.node.store
	s.names.RLock()
	defer s.names.RUnlock()
	names := &d.node.dir
	if cursor == vfs.CursorStart {
		d.end = names.last
	}
	n := 0
	for _, l := range names.list[names.after(int64(cursor)):] {
		if l.seq > d.end {
			break
		}
		if l.dentry == nil {
			continue
		}
		dst[n] = vfs.DirEntry{Name: l.name, Type: l.node.typ, Cursor: vfs.Cursor(l.seq)}
		if n++; n == len(dst) {
			break
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Lstat implements vfs.Dir.
func (d *dir) Lstat(ctx context.Context, name string) (info vfs.Info, err error) {
	err = d.entry(ctx, "lstat", name, func(n *node) { info = n.info() })
	return info, err
}

// HasXattrs implements vfs.XattrPeeker.
func (d *dir) HasXattrs(ctx context.Context, name string, _ *vfs.Info) (has bool, err error) {
	err = d.entry(ctx, "listxattr", name, func(n *node) {
		n.mu.Lock()
		defer n.mu.Unlock()
		has = len(n.xattrs) > 0
	})
	return has, err
}

// entry looks at the object of an entry.
func (d *dir) entry(ctx context.Context, op, name string, look func(*node)) error {
	if err := d.begin(ctx, op); err != nil {
		return err
	}
	defer d.exit()
	if !vfs.ValidComponent(name) {
		return pathError(op, name, syscall.EINVAL)
	}
	if len(name) > nameMax {
		return pathError(op, name, syscall.ENAMETOOLONG)
	}
	s := d.node.store
	s.names.RLock()
	defer s.names.RUnlock()
	e := s.lookup(d.node, name, true)
	if e == nil {
		return pathError(op, name, syscall.ENOENT)
	}
	look(e.node)
	return nil
}
