package engine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Buffers are n buffers of size bytes, each at the start of a page, as I/O without a
// cache and RDMA want them; Close gives the memory back.
type Buffers struct {
	mem    []byte
	stride int
	size   int
}

// NewBuffers allocates them, present in memory.
func NewBuffers(n, size int) (*Buffers, error) {
	const page = 4096
	stride := (max(size, 1) + page - 1) &^ (page - 1)
	if n < 1 || stride > 1<<40/n {
		return nil, fmt.Errorf("%d buffers of %d bytes are too much memory", n, size)
	}
	mem, err := unix.Mmap(-1, 0, n*stride, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("%d buffers of %d bytes: %w", n, size, err)
	}
	return &Buffers{mem, stride, size}, nil
}

// At is the i-th.
func (b *Buffers) At(i int) []byte { return b.mem[i*b.stride:][:b.size:b.size] }

// Close gives the memory back. Nobody may use it any more.
func (b *Buffers) Close() error { return unix.Munmap(b.mem) }
