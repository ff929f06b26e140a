package engine

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Linux's asynchronous I/O, io_submit(2).
const (
	aioRead     = 0
	aioWrite    = 1
	aioSync     = 2
	aioDataSync = 3
	maxAIODepth = 65536
	aioBatch    = 64
)

// iocb is a request (linux/aio_abi.h).
type iocb struct {
	data   uint64
	_      [2]uint32 // key, rw_flags
	op     uint16
	_      int16 // priority
	fd     uint32
	buf    uint64
	nbytes uint64
	offset int64
	_      uint64    // reserved
	_      [2]uint32 // flags, eventfd
}

// ioEvent is a result.
type ioEvent struct {
	data, obj uint64
	res, res2 int64
}

// aioQueue is the posix engine's Queue. The buffers of its units are not in Go's heap, and
// units and iocbs are kept by the queue, so the kernel may have their addresses.
type aioQueue struct {
	p      *posix
	ctx    uint64
	cbs    []iocb // by Slot
	units  []*Unit
	ptrs   []*iocb
	events []ioEvent
	n      int // under way
}

// Queue is nil for one I/O at a time, which pread and pwrite serve faster.
func (p *posix) Queue(depth, _ int) (Queue, error) {
	if depth < 2 {
		return nil, nil
	}
	if depth > maxAIODepth {
		return nil, fmt.Errorf("iodepth %d is above %d", depth, maxAIODepth)
	}
	q := &aioQueue{p: p, cbs: make([]iocb, depth), units: make([]*Unit, depth), ptrs: make([]*iocb, 0, depth), events: make([]ioEvent, min(depth, aioBatch))}
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&q.ctx)), 0); e != 0 {
		return nil, fmt.Errorf("io_setup for %d I/Os: %w", depth, e)
	}
	return q, nil
}

func (q *aioQueue) Submit(us []*Unit) (int, error) {
	q.ptrs = q.ptrs[:0]
	for _, u := range us {
		if u.Slot < 0 || u.Slot >= len(q.cbs) || q.units[u.Slot] != nil {
			return 0, fmt.Errorf("slot %d of %d is not free", u.Slot, len(q.cbs))
		}
		if u.File >= len(q.p.files) || q.p.files[u.File] == nil {
			return 0, errNotOpen
		}
		cb := &q.cbs[u.Slot]
		*cb = iocb{data: uint64(u.Slot), fd: uint32(q.p.fds[u.File]), offset: u.Offset, nbytes: uint64(len(u.Buf))}
		if len(u.Buf) > 0 {
			cb.buf = uint64(uintptr(unsafe.Pointer(&u.Buf[0])))
		}
		u.N, u.Err = 0, nil
		switch u.Op {
		case Read:
			cb.op = aioRead
		case Write:
			cb.op = aioWrite
		case Sync:
			cb.op, cb.offset, cb.nbytes, cb.buf = aioSync, 0, 0, 0
		case DataSync:
			cb.op, cb.offset, cb.nbytes, cb.buf = aioDataSync, 0, 0, 0
		}
		q.ptrs = append(q.ptrs, cb)
	}
	for {
		n, _, e := unix.Syscall(unix.SYS_IO_SUBMIT, uintptr(q.ctx), uintptr(len(q.ptrs)), uintptr(unsafe.Pointer(unsafe.SliceData(q.ptrs))))
		switch {
		case e == unix.EINTR:
			continue
		case e == unix.EAGAIN:
			return 0, nil
		case e != 0:
			return 0, fmt.Errorf("io_submit: %w", e)
		}
		for _, u := range us[:n] {
			q.units[u.Slot] = u
		}
		q.n += int(n)
		return int(n), nil
	}
}

func (q *aioQueue) Reap(out []*Unit, least int, wait time.Duration) (int, error) {
	least = min(least, q.n)
	var ts *unix.Timespec
	if wait >= 0 {
		t := unix.NsecToTimespec(int64(wait))
		ts = &t
	}
	for {
		limit := min(len(out), len(q.events))
		n, _, e := unix.Syscall6(unix.SYS_IO_GETEVENTS, uintptr(q.ctx), uintptr(min(least, limit)), uintptr(limit), uintptr(unsafe.Pointer(&q.events[0])), uintptr(unsafe.Pointer(ts)), 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return 0, fmt.Errorf("io_getevents: %w", e)
		}
		done := 0
		for _, ev := range q.events[:n] {
			u := q.units[ev.data]
			if q.goesOn(u, ev.res) {
				continue
			}
			q.units[ev.data] = nil
			out[done] = u
			done++
		}
		q.n -= done
		if done > 0 || n == 0 || wait >= 0 {
			return done, nil
		}
	}
}

// goesOn books a result of u. If that was not all, it hands over the rest, as Do goes on with
// what the kernel leaves off, and returns true: there is another result to come.
func (q *aioQueue) goesOn(u *Unit, res int64) bool {
	if res < 0 {
		// What is left behind the end of a file may have no length for direct I/O.
		if e := unix.Errno(-res); u.N == 0 || e != unix.EINVAL {
			u.Err = e
		}
		return false
	}
	u.N += int(res)
	if res == 0 || u.N >= len(u.Buf) || u.Op > Write {
		return false
	}
	cb := &q.cbs[u.Slot]
	cb.buf, cb.offset, cb.nbytes = uint64(uintptr(unsafe.Pointer(&u.Buf[u.N]))), u.Offset+int64(u.N), uint64(len(u.Buf)-u.N)
	q.ptrs = append(q.ptrs[:0], cb)
	for {
		n, _, e := unix.Syscall(unix.SYS_IO_SUBMIT, uintptr(q.ctx), 1, uintptr(unsafe.Pointer(&q.ptrs[0])))
		switch {
		case e == unix.EINTR:
			continue
		case e == 0 && n == 1:
			return true
		case e != 0 && e != unix.EINVAL:
			u.Err = fmt.Errorf("io_submit of the last %d of %d bytes: %w", len(u.Buf)-u.N, len(u.Buf), e)
		}
		return false
	}
}

// Close waits for what is under way: io_destroy(2) does.
func (q *aioQueue) Close() error {
	if _, _, e := unix.Syscall(unix.SYS_IO_DESTROY, uintptr(q.ctx), 0, 0); e != 0 {
		return fmt.Errorf("io_destroy: %w", e)
	}
	return nil
}
