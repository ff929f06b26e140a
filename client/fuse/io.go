package fuse

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Read is for go-fuse's loop, which no READ comes to: see device.
func (f *filesystem) Read(cancel <-chan struct{}, in *gofuse.ReadIn, buf []byte) (gofuse.ReadResult, gofuse.Status) {
	n, st := f.readInto(cancel, in, buf, nil)
	if st != gofuse.OK {
		return nil, st
	}
	return gofuse.ReadResultData(buf[:n]), gofuse.OK
}

// readInto implements read(2): into the buffer that the kernel takes the bytes from, there
// is no other one on the way from the wire; or, as far as it goes, into a pipe that is not nil.
func (f *filesystem) readInto(cancel <-chan struct{}, in *gofuse.ReadIn, buf []byte, pipe *client.Pipe) (int, gofuse.Status) {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	ctx.reads.Store(true)
	h := f.handle(in.Fh)
	if h == nil {
		return 0, gofuse.EBADF
	}
	defer h.leave(ctx)
	n, err := h.file(false).ReadAtPiped(ctx, buf[:min(len(buf), int(in.Size))], int64(in.Offset), pipe)
	if err != nil && err != io.EOF {
		return 0, status(err)
	}
	return n, gofuse.OK
}

// Write implements write(2).
func (f *filesystem) Write(cancel <-chan struct{}, in *gofuse.WriteIn, data []byte) (uint32, gofuse.Status) {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	h := f.handle(in.Fh)
	if h == nil {
		return 0, gofuse.EBADF
	}
	defer h.leave(ctx)
	h.unpin(ctx)
	if err := h.n.limbo.wait(ctx); err != nil {
		return 0, status(err)
	}
	var n int
	var err error
	if in.Flags&syscall.O_APPEND != 0 && in.WriteFlags&gofuse.WRITE_CACHE == 0 {
		n, err = f.append(ctx, h, data)
	} else {
		n, err = h.writeAt(ctx, data, int64(in.Offset))
	}
	if err != nil {
		f.settle(h)
	}
	h.written()
	f.changed(h.n)
	return wrote(n, in.WriteFlags&gofuse.WRITE_CACHE != 0, err)
}

// wrote is what the kernel is told of a write of which n bytes were written. The rest
// comes again, and fails by itself; but not of pages that the kernel writes back, which
// it takes for written whatever their number is.
func wrote(n int, back bool, err error) (uint32, gofuse.Status) {
	if err != nil && (n == 0 || back) {
		return 0, status(err)
	}
	return uint32(n), gofuse.OK
}

// writeAt writes, also where the file is locked here.
func (h *handle) writeAt(ctx context.Context, data []byte, off int64) (int, error) {
	n, err := h.file(true).WriteAtContext(ctx, data, off)
	if errors.Is(err, ntstatus.FileLockConflict) && len(data) > 0 {
		return h.writePast(ctx, bytes.Clone(data), off) // the kernel's buffer goes with the request
	}
	return n, err
}

func (h *handle) writePast(ctx context.Context, data []byte, off int64) (int, error) {
	err := h.past(ctx, off, int64(len(data)), ntstatus.FileLockConflict, func(ctx context.Context, file *client.File) error {
		_, err := file.WriteAtContext(ctx, data, off) // less than all is an error
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(data), nil
}

// change calls do, which changes a range of the file by the open that it is given; twice
// where locks of ours were in the way.
func (h *handle) change(ctx context.Context, off, length int64, do func(ctx context.Context, file *client.File) error) error {
	return h.past(ctx, off, length, do(ctx, h.file(true)), do)
}

// past goes on behind an err of do: where that is a lock, and may be one of ours, it calls
// do again with what is locked shared in the range unlocked.
func (h *handle) past(ctx context.Context, off, length int64, err error, do func(ctx context.Context, file *client.File) error) error {
	l := h.n.lockFile.Load()
	if !errors.Is(err, ntstatus.FileLockConflict) || length <= 0 || l == nil || l.f == nil || !l.writes {
		return err
	}
	over, done := h.meanwhile(ctx, func(ctx context.Context) {
		err = h.n.locks.past(ctx, l, uint64(off), uint64(off+length-1), func() error { return do(ctx, l.f) })
	})
	if !done {
		h.n.limbo.add(over)
		return context.Cause(ctx)
	}
	return err
}

// unpin has the times of a file change with what is done next by a handle.
func (h *handle) unpin(ctx context.Context) {
	if !h.pinned.Load() || !h.pinned.Swap(false) {
		return
	}
	if err := h.f.LetTimesGo(ctx); err != nil {
		h.fs.cfg.Logger.Debug("the time of modification stays as it was set", "err", err)
	}
}

// written notes that a file was written to by a handle.
func (h *handle) written() {
	if !h.wrote.Load() {
		h.wrote.Store(true)
	}
	h.n.touched()
}

// touched notes that the content of a file or directory was changed here just now, by
// the clock by which file systems stamp: a finer one would have a file that is open seem
// younger than one that was written after it.
func (n *inode) touched() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) != nil {
		return
	}
	n.wrote.Store(now.Nano() / 100 * 100) // as SMB has it
}

// appendWait is how long an append waits for those of others at most: each of them is
// one write. Who has the lock for longer hangs, and may do so for ever.
const appendWait = time.Minute

// append writes at the end of a file, wherever that is by now. Clients of this make
// keep out of each other's way by a lock on a byte beyond all files.
func (f *filesystem) append(ctx *request, h *handle, data []byte) (n int, err error) {
	ctx.anySignal.Store(true) // while it waits for others
	if err := h.n.appending.lock(ctx); err != nil {
		return 0, err
	}
	locked := false
	defer func() {
		if err == nil && !locked {
			h.n.appending.unlock()
			return
		}
		// What was given up may still be written, where the end was.
		h.meanwhile(ctx, func(ctx context.Context) {
			_ = h.file(true).Settle(ctx)
			if locked {
				if err := h.f.Unlock(ctx, appendLock, 1); err != nil {
					f.cfg.Logger.Debug("unlock after an append", "err", err)
				}
			}
			h.n.appending.unlock()
		})
	}()
	if l := h.f.Lease(); l != nil && l.State()&client.LeaseWrite != 0 { // nobody else has it open
		ctx.anySignal.Store(false)
		return f.appendAlone(ctx, h, data)
	}
	err = h.f.Lock(ctx, appendLock, 1, client.LockOptions{})
	if errors.Is(err, syscall.EAGAIN) {
		wait, stop := context.WithTimeout(ctx, appendWait)
		err = h.f.Lock(wait, appendLock, 1, client.LockOptions{Wait: true})
		stop()
	}
	ctx.anySignal.Store(false)
	switch {
	case err == nil:
		locked = true
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrInvalid), errors.Is(err, ntstatus.InvalidLockRange):
		// A server without locks, or without such offsets: appends of this client are
		// in order all the same.
	default:
		return 0, err
	}
	return f.appendAlone(ctx, h, data)
}

// appendAlone is append by who knows that nobody else does. Called with appending held.
func (f *filesystem) appendAlone(ctx context.Context, h *handle, data []byte) (int, error) {
	fi, err := h.f.StatContext(ctx)
	if err != nil {
		return 0, err
	}
	return h.writeAt(ctx, data, fi.Size())
}

// flushWait is how long close(2) waits for locks to be unlocked on the server.
const flushWait = time.Second / 2

// Flush implements close(2) of one of several descriptors.
func (f *filesystem) Flush(cancel <-chan struct{}, in *gofuse.FlushIn) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	h := f.handle(in.Fh)
	if h == nil {
		return gofuse.EBADF
	}
	defer h.leave(ctx)
	if h.n.locks.has(in.LockOwner) {
		// Of a program that is killed the kernel does not tell here that it was.
		wait, stop := context.WithTimeout(ctx, flushWait)
		defer stop()
		h.unlockAll(wait, &h.n.locks, in.LockOwner)
	}
	return gofuse.OK
}

// Fsync implements fsync(2): what was written is on the server's disks then.
func (f *filesystem) Fsync(cancel <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	h := f.handle(in.Fh)
	if h == nil {
		return gofuse.EBADF
	}
	defer h.leave(ctx)
	if f.cfg.NoSync {
		return gofuse.OK
	}
	if h.writes {
		err := h.f.Sync(ctx)
		if l := h.file(true); l != h.f { // which knows whether its writes may have been lost
			err = cmp.Or(err, l.Sync(ctx))
		}
		return status(err)
	}
	// A server flushes by an open that may write ([MS-SMB2] 3.3.5.11).
	w := h.n.openFor(func(h *handle) bool { return h.writes })
	if w == nil {
		var err error
		if w, err = f.openAs(ctx, h.n, accessWrite); errors.Is(err, fs.ErrPermission) || errors.Is(err, errDeleted) || errors.Is(err, fs.ErrNotExist) {
			return gofuse.OK // who may not write has nothing to flush, and what is deleted need not last
		} else if err != nil {
			return status(err)
		}
	}
	defer w.leave(ctx)
	return status(w.f.Sync(ctx))
}
