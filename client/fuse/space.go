package fuse

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Fallocate implements fallocate(2) without its modes that move data.
func (f *filesystem) Fallocate(cancel <-chan struct{}, in *gofuse.FallocateIn) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	h := f.handle(in.Fh)
	if h == nil {
		return gofuse.EBADF
	}
	defer h.leave(ctx)
	if in.Length == 0 || in.Offset > 1<<63-1 || in.Length > 1<<63-1-in.Offset {
		return gofuse.Status(syscall.EFBIG)
	}
	off, length, mode := int64(in.Offset), int64(in.Length), in.Mode
	if err := h.n.limbo.wait(ctx); err != nil {
		return status(err)
	}
	h.refs.Add(1)
	return status(f.goOn(ctx, func(ctx context.Context) error {
		defer h.release()
		return f.fallocate(ctx, h, off, length, mode)
	}, h.n))
}

func (f *filesystem) fallocate(ctx context.Context, h *handle, off, length int64, mode uint32) error {
	file, end := h.file(true), off+length
	keep := mode&unix.FALLOC_FL_KEEP_SIZE != 0
	if err := h.n.appending.lock(ctx); err != nil { // the end must not move under what follows
		return err
	}
	defer h.n.appending.unlock()
	h.unpin(ctx)
	defer f.changed(h.n)
	defer h.written()
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case unix.FALLOC_FL_PUNCH_HOLE:
		if !keep {
			return syscall.EOPNOTSUPP
		}
		// A file that cannot be sparse reads as zeros all the same.
		if err := file.SetSparse(ctx, true); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return h.zero(ctx, off, length)
	case unix.FALLOC_FL_ZERO_RANGE:
		if err := h.zero(ctx, off, length); err != nil {
			return err
		}
	case 0:
	default:
		return syscall.EOPNOTSUPP
	}
	fi, err := file.StatContext(ctx)
	if err != nil {
		return err
	}
	// A server cuts a file to its allocation.
	if err := file.Allocate(ctx, max(end, fi.Size())); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if !keep && end > fi.Size() {
		return file.Truncate(ctx, end)
	}
	return nil
}

func (h *handle) zero(ctx context.Context, off, length int64) error {
	return h.change(ctx, off, length, func(ctx context.Context, file *client.File) error { return file.ZeroRange(ctx, off, length) })
}

// Lseek implements lseek(2) with SEEK_DATA and SEEK_HOLE.
func (f *filesystem) Lseek(cancel <-chan struct{}, in *gofuse.LseekIn, out *gofuse.LseekOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	h := f.handle(in.Fh)
	if h == nil {
		return gofuse.EBADF
	}
	defer h.leave(ctx)
	if in.Offset > 1<<63-1 {
		return gofuse.Status(syscall.ENXIO)
	}
	seek := (*client.File).SeekData
	switch in.Whence {
	case unix.SEEK_DATA:
	case unix.SEEK_HOLE:
		seek = (*client.File).SeekHole
	default:
		return gofuse.EINVAL
	}
	r := h
	if !h.reads { // the server tells it who may read
		if r = h.n.openFor(func(h *handle) bool { return h.reads }); r == nil {
			var err error
			if r, err = f.openAs(ctx, h.n, accessRead); err != nil {
				return status(err)
			}
		}
		defer r.leave(ctx)
	}
	if w := h.n.openFor(func(h *handle) bool { return h.writes }); w != nil {
		// The server does not know of data that the kernel has kept back: what was written
		// through a map, or with a write-back cache. Forgetting its pages it writes them.
		_, done := f.meanwhile(ctx, func(context.Context) {
			defer w.release()
			f.kernel.InodeNotify(h.n.id, 0, 0)
		})
		if !done {
			return gofuse.EINTR
		}
	}
	at, err := seek(r.f, ctx, int64(in.Offset))
	out.Offset = uint64(at)
	return status(err)
}

// maxCopy bounds one CopyFileRange: the answer has 32 bits.
const maxCopy = 1 << 30

// CopyFileRange implements copy_file_range(2): the server copies.
func (f *filesystem) CopyFileRange(cancel <-chan struct{}, in *gofuse.CopyFileRangeIn) (uint32, gofuse.Status) {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	src := f.handle(in.FhIn)
	if src == nil {
		return 0, gofuse.EBADF
	}
	defer src.leave(ctx)
	dst := f.handle(in.FhOut)
	if dst == nil {
		return 0, gofuse.EBADF
	}
	defer dst.leave(ctx)
	n, err := f.copyRange(ctx, dst, src, in)
	if n > 0 {
		return uint32(n), gofuse.OK
	}
	return 0, status(err)
}

func (f *filesystem) copyRange(ctx context.Context, dst, src *handle, in *gofuse.CopyFileRangeIn) (int64, error) {
	if in.Flags != 0 {
		return 0, syscall.EINVAL
	}
	if in.OffIn > 1<<63-1 || in.OffOut > 1<<63-1-maxCopy {
		return 0, syscall.EFBIG
	}
	from := src.file(false)
	fi, err := from.StatContext(ctx)
	if err != nil {
		return 0, err
	}
	// At the end of the source there is nothing to copy, which is no error.
	n := min(int64(min(in.Len, maxCopy)), fi.Size()-int64(in.OffIn))
	if n <= 0 {
		return 0, nil
	}
	dst.unpin(ctx)
	defer f.changed(dst.n)
	defer dst.written()
	var done int64
	err = f.changing(ctx, dst, func(ctx context.Context) (err error) {
		done, err = dst.file(true).CopyRange(ctx, int64(in.OffOut), from, int64(in.OffIn), n)
		return err
	})
	switch {
	case done > 0, errors.Is(err, io.ErrUnexpectedEOF):
		return done, nil
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrInvalid), errors.Is(err, ntstatus.FileLockConflict):
		return 0, syscall.EOPNOTSUPP // the kernel reads and writes then
	}
	return 0, err
}
