package tcp

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// # Files that are sent from the page cache
//
// The bytes go by splice(2) into a pipe and from there into the socket: references to
// pages of the cache move, nothing is copied. Unlike sendfile(2) that is two steps, so
// that how much there is, and that the storage has failed, is known before the header
// that announces it goes out.

const (
	// maxPipes bounds the pipes of the process, of two descriptors each, that are
	// in use; without one a file is read.
	maxPipes = 256
	pageSize = 4096
)

var (
	livePipes atomic.Int32
	// pipeLimit is above what a pipe cannot hold: /proc/sys/fs/pipe-max-size, but for
	// who has CAP_SYS_RESOURCE.
	pipeLimit atomic.Int64
	// freePipes are emptied by the garbage collector, which closes the pipes.
	freePipes sync.Pool
)

// pipe is a tail of a message: file bytes in a pipe. It belongs to who loaded it.
type pipe struct {
	r, w int
	size int // capacity
	n    int // bytes in it
}

// Len implements transport.Tail.
func (p *pipe) Len() int { return p.n }

// Release implements transport.Tail. A pipe that was not emptied is closed: what is
// in it is nobody else's.
func (p *pipe) Release() {
	if p.n > 0 {
		p.n = 0
		p.discard()
		return
	}
	freePipes.Put(p)
}

// discard closes the pipe now.
func (p *pipe) discard() {
	unix.Close(p.r)
	unix.Close(p.w)
	p.r, p.w = -1, -1
	livePipes.Add(-1)
}

// takePipe returns an empty pipe that holds n bytes, nil if there is none to be had.
func takePipe(n int) *pipe {
	if limit := pipeLimit.Load(); limit > 0 && int64(n) >= limit {
		return nil
	}
	p, _ := freePipes.Get().(*pipe)
	if p == nil {
		if livePipes.Add(1) > maxPipes {
			livePipes.Add(-1)
			return nil
		}
		var fds [2]int
		if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
			livePipes.Add(-1)
			return nil
		}
		p = &pipe{r: fds[0], w: fds[1], size: 16 * pageSize}
		runtime.SetFinalizer(p, func(p *pipe) {
			if p.r >= 0 {
				p.discard()
			}
		})
	}
	if n > p.size {
		size, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, n)
		if err != nil {
			if err == unix.EPERM {
				pipeLimit.Store(int64(n))
			}
			freePipes.Put(p)
			return nil
		}
		p.size = size
	}
	return p
}

// LoadFile implements transport.FileLoader.
func (c *Conn) LoadFile(f *os.File, off int64, n int) (transport.Tail, error) {
	if c.sock == nil || n <= 0 {
		return nil, nil
	}
	// A page that is touched takes a place of the pipe, however little of it.
	p := takePipe((int(off%pageSize) + n + pageSize - 1) &^ (pageSize - 1))
	if p == nil {
		return nil, nil
	}
	fd := int(f.Fd())
	for p.n < n {
		k, err := unix.Splice(fd, &off, p.w, nil, n-p.n, unix.SPLICE_F_NONBLOCK)
		if err == unix.EINTR {
			continue
		}
		if k > 0 {
			p.n += int(k)
			continue
		}
		if err == nil { // the end of the file
			break
		}
		got := p.n
		p.Release()
		runtime.KeepAlive(f)
		switch err {
		case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EAGAIN, unix.ENOMEM:
			return nil, nil // reading may do
		}
		if got > 0 {
			return nil, nil // reading tells how far one gets
		}
		return nil, &os.PathError{Op: "splice", Path: f.Name(), Err: err}
	}
	runtime.KeepAlive(f)
	return p, nil
}
