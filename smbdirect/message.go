package smbdirect

import (
	"math/bits"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// messageClasses are the sizes of buffers for SMB2 messages. A message gets the
// third at most before it has shown that it is longer.
var messageClasses = [...]int{2 << 10, 16 << 10, 128 << 10, 1 << 20, 2 << 20, 16 << 20}

const unprovenMessage = 128 << 10

// message is a Received with the buffer behind it. It belongs to who got it from
// the pool until it is put back.
type message struct {
	rx    *transport.Received
	buf   []byte
	class int
	pool  *messagePool
}

// messagePool recycles messages by size class. The garbage collector empties it
// when they are not used.
type messagePool struct {
	of [len(messageClasses)]sync.Pool
}

func (p *messagePool) get(n int) *message {
	class := 0
	for messageClasses[class] < n {
		class++
	}
	if m, ok := p.of[class].Get().(*message); ok {
		return m
	}
	m := &message{buf: make([]byte, messageClasses[class]), class: class, pool: p}
	m.rx = transport.NewReceived(func(r *transport.Received) {
		r.Data = nil
		p.put(m)
	})
	return m
}

func (p *messagePool) put(m *message) { p.of[m.class].Put(m) }

// room returns m or a message with the same n first bytes and room for more.
func (m *message) room(have, need, total int) *message {
	if need <= len(m.buf) {
		return m
	}
	bigger := m.pool.get(max(need, min(total, 8*len(m.buf))))
	copy(bigger.buf, m.buf[:have])
	m.pool.put(m)
	return bigger
}

// ring is a queue that grows and keeps its memory.
type ring[T any] struct {
	of      []T
	head, n int
}

func (r *ring[T]) push(v T) {
	if r.n == len(r.of) {
		bigger := make([]T, max(8, 2*r.n))
		k := copy(bigger, r.of[r.head:])
		copy(bigger[k:], r.of[:r.head])
		r.of, r.head = bigger, 0
	}
	r.of[(r.head+r.n)%len(r.of)] = v
	r.n++
}

func (r *ring[T]) pop() (v T) {
	var zero T
	v, r.of[r.head] = r.of[r.head], zero
	r.head = (r.head + 1) % len(r.of)
	r.n--
	return v
}

// Leased buffers have a power of two of bytes.
const minClass = 12 // 4 KiB

// classOf is the index of the size class for n bytes.
func classOf(n int) int {
	if n <= 1<<minClass {
		return 0
	}
	return bits.Len(uint(n-1)) - minClass
}

// classSize is the size of a leased buffer of n bytes.
func classSize(n int) int { return 1 << (minClass + classOf(n)) }
