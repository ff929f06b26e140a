// Package socket is TCP connections beside the poller of the Go runtime, and waiting for
// them on one's own thread.
//
// That poller is told of every octet that comes in on a socket it knows, whoever reads it,
// and wakes a thread for that. Where who receives waits for the next message himself
// (Brisk), or comes upon it, that is a wakeup for nothing with each message. So the sockets
// here are not known to it. Who has to wait for long does so by a gate: an epoll of the
// socket's own, which the runtime's poller knows, and which says something only once each
// time it was asked to.
package socket

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection as a net.Conn. One goroutine at a time reads, and one writes.
type Conn struct {
	file          *os.File // owns the descriptor
	raw           syscall.RawConn
	local, remote net.Addr
	in            *gate

	readUntil, writeUntil atomic.Int64 // the deadlines in nanoseconds since base; 0 for none

	mu     sync.Mutex
	out    *gate     // guarded by mu: made when a Write first has to wait
	until  time.Time // guarded by mu: the deadline of writing
	closed bool      // guarded by mu
}

var _ net.Conn = (*Conn)(nil)

// New makes a connection of the descriptor of another, which it shares: that one is to be
// closed, and not used any more. On failure it is as it was.
func New(tc *net.TCPConn) (*Conn, error) {
	orig, err := tc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Conn{local: tc.LocalAddr(), remote: tc.RemoteAddr()}
	cerr := orig.Control(func(fd uintptr) {
		var own int
		if own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return
		}
		// What blocks is not for the poller, by which os.NewFile tells. The flag is one
		// that the two descriptors share; nobody uses them yet.
		_ = unix.SetNonblock(own, false)
		s.file = os.NewFile(uintptr(own), "tcp")
		_ = unix.SetNonblock(own, true)
		s.in, err = newGate(own)
	})
	if err == nil {
		err = cerr
	}
	if err == nil {
		s.raw, err = s.file.SyscallConn()
	}
	if err != nil {
		if s.in != nil {
			s.in.close()
		}
		if s.file != nil {
			_ = s.file.Close()
		}
		return nil, fmt.Errorf("descriptor of a connection: %w", err)
	}
	return s, nil
}

// inEvents are those of something to read, or of the end of it.
const inEvents = unix.EPOLLIN | unix.EPOLLRDHUP

// SyscallConn gives access to the descriptor. Its Read and Write call their function once
// and do not wait, so it is to return true.
func (s *Conn) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

// WaitIn waits until there may be something to read, or the peer has ended the connection:
// then, and only then, it returns nil.
func (s *Conn) WaitIn() error { return s.in.wait(inEvents) }

// WaitHangup is WaitIn for the end alone, which may be behind what is to be read, and for
// an error.
func (s *Conn) WaitHangup() error { return s.in.wait(unix.EPOLLRDHUP) }

// WaitError is WaitIn for an error alone.
func (s *Conn) WaitError() error { return s.in.wait(0) }

// ReadOverdue reports whether the deadline of reading has passed, for who never waits.
func (s *Conn) ReadOverdue() bool { return overdue(&s.readUntil) }

// WriteOverdue reports whether that of writing has.
func (s *Conn) WriteOverdue() bool { return overdue(&s.writeUntil) }

func overdue(until *atomic.Int64) bool {
	t := until.Load()
	return t != 0 && int64(time.Since(base)) >= t
}

// base makes deadlines follow the clock that is never set, as the runtime's do.
var base = time.Now()

// nanoseconds is a deadline as it is kept.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return int64(t.Sub(base)) | 1 // as 0 is none
}

// Read implements net.Conn.
func (s *Conn) Read(p []byte) (n int, err error) {
	for {
		rerr := s.raw.Read(func(fd uintptr) bool {
			n, err = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), p) })
			return true
		})
		switch {
		case rerr != nil:
			return 0, rerr
		case err == unix.EAGAIN:
			if err := s.in.wait(inEvents); err != nil {
				return 0, err
			}
			continue
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Write implements net.Conn.
func (s *Conn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		k := 0
		werr := s.raw.Write(func(fd uintptr) bool {
			k, err = ignoringEINTR(func() (int, error) {
				return unix.SendmsgN(int(fd), p[n:], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			})
			return true
		})
		switch {
		case werr != nil:
			return n, werr
		case err == unix.EAGAIN:
			if err := s.WaitOut(); err != nil {
				return n, err
			}
			continue
		case err != nil:
			return n, os.NewSyscallError("sendmsg", err)
		}
		n += k
	}
	return n, nil
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

// WaitOut waits until there is room to write to, or the end of the connection or the
// deadline.
func (s *Conn) WaitOut() error {
	g, err := s.outGate()
	switch {
	case err == nil:
		return g.wait(unix.EPOLLOUT)
	case err == net.ErrClosed:
		return err
	}
	// Out of descriptors, for example: that a peer takes its time is no reason to lose it.
	s.mu.Lock()
	until := s.until
	s.mu.Unlock()
	if !until.IsZero() && time.Until(until) <= 0 {
		return os.ErrDeadlineExceeded
	}
	time.Sleep(GatelessWait)
	return nil
}

// GatelessWait is how long who writes waits, before he tries again, where no gate is to
// be had.
const GatelessWait = 5 * time.Millisecond

func (s *Conn) outGate() (*gate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if s.out == nil {
		var err error
		cerr := s.raw.Control(func(fd uintptr) { s.out, err = newGate(int(fd)) })
		if err == nil {
			err = cerr
		}
		if err != nil {
			return nil, err
		}
		_ = s.out.ep.SetReadDeadline(s.until)
	}
	return s.out, nil
}

// CloseWrite ends the sending half.
func (s *Conn) CloseWrite() error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); cerr != nil {
		return cerr
	}
	return err
}

// Close implements net.Conn. The descriptor is closed when the last call that uses it
// has returned.
func (s *Conn) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	err := s.file.Close()
	s.in.close()
	if s.out != nil {
		s.out.close()
	}
	return err
}

// LocalAddr implements net.Conn.
func (s *Conn) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn.
func (s *Conn) RemoteAddr() net.Addr { return s.remote }

// SetDeadline implements net.Conn.
func (s *Conn) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn. It bounds waiting: what is there is read.
func (s *Conn) SetReadDeadline(t time.Time) error {
	s.readUntil.Store(nanoseconds(t))
	return s.in.ep.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn, likewise.
func (s *Conn) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = t
	s.writeUntil.Store(nanoseconds(t))
	if s.out != nil {
		return s.out.ep.SetReadDeadline(t)
	}
	return nil
}

// gate is where one goroutine at a time waits for one direction of a socket.
type gate struct {
	ep   *os.File // an epoll that has the socket, in the runtime's poller
	raw  syscall.RawConn
	step func(fd uintptr) bool // made once

	// Owned by who waits.
	sock   int32
	events uint32 // that are waited for
	asked  bool
	got    [1]unix.EpollEvent
}

func newGate(sock int) (*gate, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	_ = unix.SetNonblock(fd, true)
	g := &gate{ep: os.NewFile(uintptr(fd), "epoll"), sock: int32(sock)}
	ev := unix.EpollEvent{Events: unix.EPOLLONESHOT, Fd: g.sock}
	if err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, sock, &ev); err == nil {
		g.raw, err = g.ep.SyscallConn()
	}
	if err != nil {
		g.close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	g.step = g.look
	return g, nil
}

func (g *gate) close() { _ = g.ep.Close() }

// wait returns when one of the events may be there, with nil, or the deadline or the end
// of the connection has come.
func (g *gate) wait(events uint32) error {
	g.asked, g.events = false, events|unix.EPOLLONESHOT
	return g.raw.Read(g.step)
}

// look asks for an event, once, and then whether it is there; false has the runtime's
// poller wait for it.
func (g *gate) look(fd uintptr) bool {
	if !g.asked {
		// By EPOLL_CTL_MOD no other socket can be meant, should the number be another's.
		g.got[0] = unix.EpollEvent{Events: g.events, Fd: g.sock}
		if unix.EpollCtl(int(fd), unix.EPOLL_CTL_MOD, int(g.sock), &g.got[0]) != nil {
			return true // who uses the socket will hear what is wrong
		}
		g.asked = true
	}
	n, err := unix.EpollWait(int(fd), g.got[:], 0)
	return n > 0 || err != nil && err != unix.EINTR
}
