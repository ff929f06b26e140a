package iwarp

import (
	"io"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// # Writes of the peer that go into a pipe
//
// The payload of a Write to a region that has a pipe (ndk.Piper) is moved there from the
// socket by splice(2): the pages that the network has filled change hands. The headers
// between are read as ever. What is in the stage already is copied into the pipe.

// pipes reports whether payload may go into pipes: not if it has to be seen here, nor if it
// comes in pieces that are copied as fast as they are moved.
func (rx *receiver) pipes() bool { return !rx.q.crc && rx.q.tapped == nil && !rx.fine }

// beginPipe is the pipe for n octets of payload that go to t, whose region is pinned; nil
// if they go into the memory. endPipe is to follow else.
func (rx *receiver) beginPipe(t *target, n int) *ndk.Pipe {
	p := t.region.BeginPipe(t.addr, uint64(n))
	if p != nil && !rx.pipes() {
		p.Over = true
		t.region.EndPipe()
		p = nil
	}
	t.piped = p != nil
	return p
}

// splice is read for the payload of a Write to a region that has a pipe: into that alone,
// as nothing behind it is to go there.
func (rx *receiver) splice(fd uintptr) bool {
	t := rx.dst
	for {
		if !t.region.Repin(t.gen) {
			rx.err = errRegionGone
			return true
		}
		p := rx.beginPipe(t, rx.direct)
		if p == nil {
			t.region.Unpin()
			return rx.read(fd)
		}
		n, over, err := socket.Splice(p.W, int(fd), rx.direct)
		p.N += n
		p.Over = p.Over || over
		t.region.EndPipe()
		t.region.Unpin()
		rx.n = n
		switch {
		case over, err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			rx.tiny, rx.again = 0, true
		case err != nil:
			rx.err = err
		case n == 0:
			rx.err = io.ErrUnexpectedEOF
		}
		return true
	}
}

// fillPipe puts a copy of what it can of b, which goes to t, into the pipe of t's region,
// which is pinned, and returns how much that was.
func (rx *receiver) fillPipe(t *target, b []byte) int {
	p := rx.beginPipe(t, len(b))
	if p == nil {
		return 0
	}
	defer t.region.EndPipe()
	n, err := unix.Write(p.W, b)
	n = max(n, 0)
	p.N += n
	p.Over = n < len(b) || err != nil
	return n
}
