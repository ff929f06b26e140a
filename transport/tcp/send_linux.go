package tcp

import (
	"errors"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// rawSend is the sending of parts and a tail on a descriptor; it is owned by who has
// sending.
type rawSend struct {
	step func(fd uintptr) bool // made once

	iov     []unix.Iovec // of the parts that are left
	left    []unix.Iovec // the part of iov that is left
	pipe    *pipe        // nil without a tail
	written int64
	err     error
	wait    bool // there is no room
	header  unix.Msghdr
}

// maxIovecs is the kernel's UIO_MAXIOV.
const maxIovecs = 1024

// initRaw makes the connection use its descriptor itself, if it has one.
func (c *Conn) initRaw() {
	t, ok := c.nc.(*net.TCPConn)
	if !ok {
		return
	}
	sock, err := socket.New(t)
	if err != nil {
		// Out of descriptors: the one that is there does.
		c.cfg.Logger.Debug("the poller of the runtime is used", "conn", c.nc.RemoteAddr(), "err", err)
		return
	}
	_ = t.Close()
	c.nc, c.sock = sock, sock
	c.raw, _ = sock.SyscallConn()
	c.tx.step = c.tx.run
	c.rx.step = c.receiveStep
}

// write sends parts, then the tail. Called with the right to write; it keeps nothing.
func (c *Conn) write(parts net.Buffers, tail transport.Tail) (int64, error) {
	if c.sock == nil {
		if tail != nil {
			return 0, errForeignTail
		}
		return writePlain(c.nc, parts)
	}
	s := &c.tx
	s.pipe = nil
	if tail != nil {
		p, ok := tail.(*pipe)
		if !ok {
			return 0, errForeignTail
		}
		s.pipe = p
	}
	s.iov = s.iov[:0]
	for _, p := range parts {
		if len(p) > 0 {
			v := unix.Iovec{Base: unsafe.SliceData(p)}
			v.SetLen(len(p))
			s.iov = append(s.iov, v)
		}
	}
	s.left, s.written, s.err = s.iov, 0, nil
	err := c.writeRaw()
	clear(s.iov)
	s.left, s.pipe, s.header.Iov = nil, nil, nil
	return s.written, err
}

func (c *Conn) writeRaw() error {
	s := &c.tx
	for {
		if err := c.raw.Write(s.step); err != nil {
			return err
		}
		if !s.wait {
			return s.err
		}
		if err := c.sock.WaitOut(); err != nil {
			return err
		}
	}
}

var errForeignTail = errors.New("a tail that is not of this connection's making")

// run sends as much as the socket takes.
func (s *rawSend) run(fd uintptr) bool {
	s.wait = false
	for len(s.left) > 0 {
		n := min(len(s.left), maxIovecs)
		flags := unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
		if s.pipe != nil || n < len(s.left) {
			flags |= unix.MSG_MORE
		}
		s.header.Iov = &s.left[0]
		s.header.SetIovlen(n)
		k, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.header)), uintptr(flags))
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			s.wait = true
			return true
		case errno != 0:
			s.err = os.NewSyscallError("sendmsg", errno)
			return true
		}
		s.sent(int(k))
	}
	for s.pipe != nil && s.pipe.n > 0 {
		k, err := unix.Splice(s.pipe.r, nil, int(fd), nil, s.pipe.n, unix.SPLICE_F_NONBLOCK)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			s.wait = true
			return true
		case err != nil:
			s.err = os.NewSyscallError("splice", err)
			return true
		case k == 0:
			s.err = errors.New("the pipe of a file has lost bytes")
			return true
		}
		s.written += k
		s.pipe.n -= int(k)
	}
	return true
}

// sent takes k bytes off the parts that are left.
func (s *rawSend) sent(k int) {
	s.written += int64(k)
	for k > 0 {
		v := &s.left[0]
		m := min(k, int(v.Len))
		k -= m
		if m == int(v.Len) {
			s.left = s.left[1:]
			continue
		}
		v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), m))
		v.SetLen(int(v.Len) - m)
	}
}
