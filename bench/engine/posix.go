package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// posix does I/O on local files, or on what is mounted: pread(2) and pwrite(2), and where
// several I/Os are under way Linux's asynchronous I/O, as fio's psync and libaio.
type posix struct {
	files []*os.File
	fds   []int // theirs

	allocate func(fd int, mode uint32, off, size int64) error // nil: unix.Fallocate
}

func newPosix() *posix { return new(posix) }

func (*posix) Stat(_ context.Context, name string) (int64, error) {
	st, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	if st.Mode().IsDir() {
		return 0, &os.PathError{Op: "open", Path: name, Err: unix.EISDIR}
	}
	if st.Mode()&os.ModeDevice != 0 {
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		n, err := f.Seek(0, io.SeekEnd)
		return n, errors.Join(err, f.Close())
	}
	return st.Size(), nil
}

func (p *posix) Open(_ context.Context, i int, name string, f OpenFlags) error {
	flags := unix.O_CLOEXEC
	switch {
	case f.Read && f.Write:
		flags |= os.O_RDWR
	case f.Write:
		flags |= os.O_WRONLY
	}
	for _, e := range []struct {
		on   bool
		flag int
	}{{f.Create, os.O_CREATE}, {f.Exclusive, os.O_EXCL}, {f.Direct, unix.O_DIRECT}, {f.Sync, unix.O_SYNC}, {f.DataSync, unix.O_DSYNC}} {
		if e.on {
			flags |= e.flag
		}
	}
	file, err := os.OpenFile(name, flags, 0o644)
	if err != nil {
		if f.Direct && errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w: this file system may have no direct I/O, set direct=0", err)
		}
		return err
	}
	for len(p.files) <= i {
		p.files, p.fds = append(p.files, nil), append(p.fds, -1)
	}
	if p.files[i] != nil {
		_ = p.files[i].Close()
	}
	p.files[i], p.fds[i] = file, int(file.Fd())
	return nil
}

func (p *posix) CloseFile(i int) error {
	f := p.files[i]
	p.files[i] = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

func (p *posix) Truncate(_ context.Context, i int, size int64) error {
	return p.files[i].Truncate(size)
}

// Reserve is fallocate(2). What that has reserved before there was no more space it keeps;
// here it is given back, so that a job that can't begin leaves no full disk.
func (p *posix) Reserve(i int, how job.Fallocate, size int64) error {
	mode, allocate := uint32(0), p.allocate
	if allocate == nil {
		allocate = unix.Fallocate
	}
	switch how {
	case job.FallocateNone:
		return nil
	case job.FallocateTruncate:
		return p.files[i].Truncate(size)
	case job.FallocateKeep:
		mode = unix.FALLOC_FL_KEEP_SIZE
	}
	before, err := p.files[i].Stat()
	if err != nil {
		return err
	}
	for {
		err := allocate(p.fds[i], mode, 0, size)
		switch {
		case err == nil:
			return nil
		case err == unix.EINTR:
		case how != job.FallocatePosix && how != job.FallocateKeep && err != unix.ENOSPC && err != unix.EDQUOT && err != unix.EFBIG:
			return nil // not this file system, or no file at all
		default:
			full := err == unix.ENOSPC || err == unix.EDQUOT
			err = fmt.Errorf("reserve %d bytes (fallocate=none does without): %w", size, err)
			if full && before.Mode().IsRegular() {
				err = errors.Join(err, p.files[i].Truncate(before.Size()))
			}
			return err
		}
	}
}

func (*posix) Remove(_ context.Context, name string) error { return os.Remove(name) }

// Forget is POSIX_FADV_DONTNEED: what is not written yet stays.
func (p *posix) Forget(i int) error {
	return unix.Fadvise(int(p.files[i].Fd()), 0, 0, unix.FADV_DONTNEED)
}

// Do calls the kernel itself: what os.File does about each call is a twentieth of one
// that is served from the page cache.
func (p *posix) Do(u *Unit) {
	u.N, u.Err = 0, nil
	if u.File >= len(p.files) || p.files[u.File] == nil {
		u.Err = errNotOpen
		return
	}
	fd := p.fds[u.File]
	switch u.Op {
	case Read:
		for u.N < len(u.Buf) {
			n, err := transfer(Read, fd, u.Buf[u.N:], u.Offset+int64(u.N))
			if u.N += n; err != nil || n == 0 {
				u.Err = err // nil at the end of the file
				return
			}
		}
	case Write:
		for u.N < len(u.Buf) {
			n, err := transfer(Write, fd, u.Buf[u.N:], u.Offset+int64(u.N))
			if u.N += n; err != nil {
				u.Err = err
				return
			}
		}
	case Sync:
		u.Err = unix.Fsync(fd)
	case DataSync:
		u.Err = unix.Fdatasync(fd)
	}
}

// transfer is pread64(2) or pwrite64(2) of p, which is not empty, without what
// golang.org/x/sys does about each: a twelfth of what it takes from the page cache.
func transfer(op Op, fd int, p []byte, off int64) (n int, err error) {
	call := uintptr(unix.SYS_PREAD64)
	if op == Write {
		call = unix.SYS_PWRITE64
	}
	for {
		if bits.UintSize < 64 { // an offset has two arguments there
			if op == Read {
				n, err = unix.Pread(fd, p, off)
			} else {
				n, err = unix.Pwrite(fd, p, off)
			}
		} else if r, _, e := syscall.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(off), 0, 0); e != 0 {
			n, err = 0, e
		} else {
			n, err = int(r), nil
		}
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func (p *posix) Stats() result.Engine { return result.Engine{Name: "posix"} }

func (p *posix) Close() error {
	var errs []error
	for i := range p.files {
		errs = append(errs, p.CloseFile(i))
	}
	return errors.Join(errs...)
}
