package fuse

import (
	"os"
	"sync/atomic"
	"unsafe"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// # What is read without copying it here
//
// Behind the header of an answer the data of a READ goes through a pipe: pages that the
// network has filled are moved there from the socket, and the kernel copies from them to
// where the data was asked for. That is the only copy. It takes a pipe with a place for each
// piece in which the network has brought the data, and one more: for 1 MiB that is more than
// may be had by who has not CAP_SYS_RESOURCE, unless fs.pipe-max-size allows it. What does
// not fit, or does not come by a way that knows pipes, is in the buffer as ever.

const (
	// pipeFrom is the smallest READ that a pipe is taken for, in bytes. Less is copied as
	// fast as pages are moved.
	pipeFrom = 128 << 10
	// pipeRoom is a pipe's size for each byte of an answer: where messages of the network
	// end within pages, pages take two places.
	pipeRoom = 2
	// commonRoom is the size of a pipe that everybody may have, in bytes.
	commonRoom = 1 << 20
	// pipeRest is how many READs do without pipes when one was too small.
	pipeRest = 256
)

// pipe is what an answer goes through. It belongs to who has the buffer.
type pipe struct {
	r      int // the reading end; -1 if there is none
	room   int // its size in bytes, for whole pages
	failed bool
	in     client.Pipe
}

// newPipe is one that is made when it is first asked for.
func newPipe() pipe { return pipe{r: -1} }

// pipes is whether there are to be any, of a device.
type pipes struct{ rest atomic.Int32 } // READs that do without from now on

// wanted says whether a READ of size bytes is to have one.
func (s *pipes) wanted(size int) bool {
	if size < pipeFrom {
		return false
	}
	if s.rest.Load() > 0 {
		s.rest.Add(-1)
		return false
	}
	return true
}

// open prepares a pipe for an answer of size bytes, of up to most, with the header that it
// has if it is not shorter; nil if there is none.
func (p *pipe) open(unique uint64, size, most int) *client.Pipe {
	if p.r < 0 && !p.failed {
		p.failed = !p.make(pipeRoom*most) && !p.make(min(pipeRoom*most, commonRoom))
	}
	if p.r < 0 || size > p.room/pipeRoom {
		return nil
	}
	p.in = client.Pipe{W: p.in.W}
	h := gofuse.OutHeader{Length: uint32(answerHeader + size), Unique: unique}
	if n, err := unix.Write(p.in.W, unsafe.Slice((*byte)(unsafe.Pointer(&h)), answerHeader)); n != answerHeader || err != nil {
		p.close()
		return nil
	}
	return &p.in
}

// make makes it, for size bytes in pieces of pages.
func (p *pipe) make(size int) bool {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return false
	}
	p.r, p.in.W = fds[0], fds[1]
	var err error
	if p.room, err = unix.FcntlInt(uintptr(p.r), unix.F_SETPIPE_SZ, size); err != nil {
		p.close()
	}
	return err == nil
}

// close closes it, with what is in it.
func (p *pipe) close() {
	if p.r < 0 {
		return
	}
	_ = unix.Close(p.r)
	_ = unix.Close(p.in.W)
	p.r = -1
}

// answer writes an answer of n bytes, all of which are in the pipe.
func (p *pipe) answer(fd, n int) error {
	n += answerHeader
	k, err := unix.Splice(p.r, nil, fd, nil, n, 0)
	if err == nil && int(k) != n {
		err = unix.EIO
	}
	return err
}

// drain takes what was put into the pipe from the first byte on out of it, to data.
func (p *pipe) drain(data []byte) error {
	var h [answerHeader]byte
	if p.in.N == 0 || p.in.Spoilt {
		if n, err := unix.Read(p.r, h[:]); n != answerHeader || err != nil || p.in.Spoilt {
			p.close()
		}
		return nil
	}
	v := [][]byte{h[:], data[:p.in.N]}
	n, err := unix.Readv(p.r, v)
	if err == nil && n != answerHeader+p.in.N {
		err = os.ErrInvalid
	}
	if err != nil {
		p.close()
	}
	return err
}
