package tcp

import (
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// classes are the sizes of receive buffers. firstClass is what a message gets
// before it has shown that it is longer.
var classes = [...]int{4 << 10, 16 << 10, firstClass, 256 << 10, 1 << 20, 4 << 20, 16 << 20}

const firstClass = 64 << 10

// message is a Received with the buffer behind it. It belongs to who got it from
// the pool until it is put back.
type message struct {
	rx    *transport.Received
	buf   []byte
	class int
}

// pool recycles messages by size class. The garbage collector empties it when
// they are not used.
type pool struct{ of [len(classes)]sync.Pool }

// get returns a message whose buffer holds n bytes, n <= MaxMessageSize.
func (p *pool) get(n int) *message {
	class := 0
	for classes[class] < n {
		class++
	}
	if m, ok := p.of[class].Get().(*message); ok {
		return m
	}
	m := &message{buf: make([]byte, classes[class]), class: class}
	m.rx = transport.NewReceived(func(r *transport.Received) {
		r.Data = nil
		p.put(m)
	})
	return m
}

func (p *pool) put(m *message) { p.of[m.class].Put(m) }
