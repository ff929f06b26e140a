package fuse

import (
	"sync"
	"unsafe"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	hugePage = 2 << 20
	// keptBytes is the memory for buffers that last, in bytes: with the usual size of
	// requests that is for all that the kernel sends by itself, and some more. Buffers beyond
	// are the garbage collector's.
	keptBytes = 40 << 20
	// leastBuffer is the data of a buffer at least, in bytes: the kernel reads into no less
	// than 8 KiB, and the value of an attribute has up to 64 KiB.
	leastBuffer = 128 << 10
	leastKept   = 4
	mostKept    = 64
)

// buffer is what a request of the kernel's is read into, and what an answer with data is
// written from. The data is apart from what is in front of it, as the kernel copies whole
// pages then. It belongs to who has taken it from buffers.
type buffer struct {
	_    [0]uint64                             // head is aligned
	head [unsafe.Sizeof(gofuse.WriteIn{})]byte // that of a WRITE, which is longer than others; or an answer's
	data []byte
	iov  [2]unix.Iovec

	pipe pipe // none where it is not kept: nobody would close that with it

	kept bool // in arena
	lent bool
}

// buffers are a device's.
type buffers struct {
	mu    sync.Mutex
	free  []*buffer // the one used last is taken first: it is in the processor's cache. guarded by mu
	arena []byte    // the data of those that are kept
	spare sync.Pool // of *buffer
}

// newBuffers are for requests that move up to most bytes, a multiple of the page size. Those
// that last are on huge pages, where there are some: the kernel looks up each page each time.
func newBuffers(most int) *buffers {
	b := new(buffers)
	b.spare.New = func() any { return &buffer{pipe: newPipe(), data: make([]byte, most)} }
	n := min(max(keptBytes/most, leastKept), mostKept)
	arena, err := unix.Mmap(-1, 0, n*most+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return b
	}
	_ = unix.Madvise(arena, unix.MADV_HUGEPAGE) // or small ones
	b.arena = arena
	first := -int(uintptr(unsafe.Pointer(&arena[0]))) & (hugePage - 1)
	for i := range n {
		at := first + (n-1-i)*most // the first one is taken first
		b.free = append(b.free, &buffer{kept: true, pipe: newPipe(), data: arena[at : at+most : at+most]})
	}
	return b
}

// get takes a buffer, which is to be given back by put.
func (b *buffers) get() *buffer {
	b.mu.Lock()
	defer b.mu.Unlock()
	var p *buffer
	if n := len(b.free) - 1; n >= 0 {
		p = b.free[n]
		b.free = b.free[:n]
	} else {
		p = b.spare.Get().(*buffer)
	}
	p.lent = true
	return p
}

// put gives a buffer back; a second time panics.
func (b *buffers) put(p *buffer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !p.lent {
		panic("fuse: a buffer given back twice")
	}
	p.lent = false
	if p.kept {
		b.free = append(b.free, p)
	} else {
		b.spare.Put(p)
	}
}

// close gives the memory back, when nobody has any of it.
func (b *buffers) close() {
	for _, p := range b.free {
		p.pipe.close()
	}
	if b.arena != nil {
		_ = unix.Munmap(b.arena)
		b.arena, b.free = nil, nil
	}
}

// vector is of the first octets of head and data.
func (p *buffer) vector(head, data int) []unix.Iovec {
	p.iov[0].Base, p.iov[1].Base = &p.head[0], &p.data[0]
	p.iov[0].SetLen(head)
	p.iov[1].SetLen(data)
	return p.iov[:]
}

// read reads a request from a descriptor.
func (p *buffer) read(fd int) (int, error) {
	v := p.vector(len(p.head), len(p.data))
	n, _, errno := unix.Syscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&v[0])), uintptr(len(v)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// write writes an answer, whose header is in head, with n octets of data.
func (p *buffer) write(fd, n int) error {
	v := p.vector(answerHeader, n)
	if n == 0 {
		v = v[:1]
	}
	if _, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&v[0])), uintptr(len(v))); errno != 0 {
		return errno
	}
	return nil
}

// header is that of the request that was read.
func (p *buffer) header() *gofuse.InHeader { return (*gofuse.InHeader)(unsafe.Pointer(&p.head[0])) }

// request is the first n octets of what was read, in the pieces in which they lie.
func (p *buffer) request(n int) (head, data []byte) {
	return p.head[:min(n, len(p.head))], p.data[:max(n-len(p.head), 0)]
}
