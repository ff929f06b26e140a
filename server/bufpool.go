package server

import "sync"

// ioBuf is a pooled buffer. It belongs to whoever got it until put.
type ioBuf struct {
	b     []byte
	class int
}

// bufClasses are the sizes of pooled buffers: a message of 8 MiB of data has
// its headers, and room for sealing it, in the largest.
var bufClasses = [...]int{4 << 10, 64<<10 + 1024, 256<<10 + 1024, 1<<20 + 1024, 8<<20 + 4096}

// bufPool recycles buffers by size class.
type bufPool struct{ of [len(bufClasses)]sync.Pool }

// get returns a buffer whose b is n bytes long; its content is anything.
func (p *bufPool) get(n int) *ioBuf {
	for i, size := range bufClasses {
		if n > size {
			continue
		}
		if x, ok := p.of[i].Get().(*ioBuf); ok {
			x.b = x.b[:n]
			return x
		}
		return &ioBuf{b: make([]byte, n, size), class: i}
	}
	return &ioBuf{b: make([]byte, n), class: -1}
}

// put takes a buffer back. nil is fine.
func (p *bufPool) put(x *ioBuf) {
	if x != nil && x.class >= 0 {
		p.of[x.class].Put(x)
	}
}
