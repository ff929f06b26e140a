package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

var errRegionGone = errors.New("iwarp: memory was invalidated while it was in use")

// sendmsg sends without blocking, and without SIGPIPE.
func sendmsg(fd uintptr, m *unix.Msghdr) (int, syscall.Errno) {
	n, _, e := syscall.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(m)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return int(n), e
}

// send is sendmsg for one buffer; more says that the next call follows at once.
func send(fd uintptr, b []byte, more bool) (int, syscall.Errno) {
	flags := uintptr(unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL)
	if more {
		flags |= unix.MSG_MORE
	}
	n, _, e := syscall.Syscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	return int(n), e
}

// readv reads into the first n of iov. The socket is in non-blocking mode.
func readv(fd uintptr, iov *unix.Iovec, n int) (int, syscall.Errno) {
	k, _, e := syscall.Syscall(unix.SYS_READV, fd, uintptr(unsafe.Pointer(iov)), uintptr(n))
	return int(k), e
}

// sendfile moves n octets of the file at *off to the socket and advances *off.
func sendfile(fd uintptr, file int, off *int64, n int) (int, syscall.Errno) {
	k, _, e := syscall.Syscall6(unix.SYS_SENDFILE, fd, uintptr(file), uintptr(unsafe.Pointer(off)), uintptr(n), 0, 0)
	return int(k), e
}

// probe is memory for cached.
type probe struct {
	iov unix.Iovec
	b   [1]byte
	fs  unix.Statfs_t
}

// cached reports whether the octet at off of a file, or its end, can be had without
// waiting for storage; where the file system does not tell, it is not. tmpfs, which knows
// no RWF_NOWAIT, is in memory but for what was swapped out.
func (p *probe) cached(file int, off int64) bool {
	p.iov.Base = &p.b[0]
	p.iov.SetLen(1)
	_, _, e := syscall.Syscall6(unix.SYS_PREADV2, uintptr(file), uintptr(unsafe.Pointer(&p.iov)), 1, uintptr(off), uintptr(off>>32), unix.RWF_NOWAIT)
	if e == unix.EOPNOTSUPP && unix.Fstatfs(file, &p.fs) == nil {
		return p.fs.Type == unix.TMPFS_MAGIC
	}
	return e == 0
}

// segmentSize is the TCP segment size of the connection in octets, 0 if unknown.
func segmentSize(raw syscall.RawConn) (emss int) {
	_ = raw.Control(func(fd uintptr) {
		if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG); err == nil {
			emss = v
		}
	})
	return emss
}

// pauseListen makes a listening socket refuse connections and keep its port. On
// Linux a shutdown takes it out of the listening state and nothing else; without
// SO_REUSEADDR, which Go sets, nobody else gets the port meanwhile.
func pauseListen(raw syscall.RawConn) (err error) {
	cerr := raw.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0), unix.Shutdown(int(fd), unix.SHUT_RD))
	})
	return errors.Join(cerr, err)
}

// resumeListen undoes pauseListen.
func resumeListen(raw syscall.RawConn) (err error) {
	cerr := raw.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Listen(int(fd), unix.SOMAXCONN))
	})
	return errors.Join(cerr, err)
}

// shareSource lets a source port that we chose serve many destinations, and be
// taken again while old connections from it are in TIME-WAIT.
func shareSource(_, _ string, raw syscall.RawConn) (err error) {
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errors.Join(cerr, err)
}

// sourceFor is the address of this machine that packets to dst have as source.
// Nothing is sent.
func sourceFor(dst netip.AddrPort) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(dst))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// probeLocal checks that the machine owns the address.
func probeLocal(a netip.Addr) error {
	var c net.ListenConfig
	l, err := c.Listen(context.Background(), "tcp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		return err
	}
	return l.Close()
}

// hungUp reports whether the peer sent FIN, be it behind octets that were not read
// yet, or why the connection is lost.
func hungUp(fd uintptr) (fin bool, errno syscall.Errno) {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(p[:], 0); n <= 0 || err != nil {
		return false, 0
	}
	if p[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
		if v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && v != 0 {
			return true, syscall.Errno(v)
		}
		return true, syscall.ECONNRESET
	}
	return p[0].Revents&unix.POLLRDHUP != 0, 0
}

// ending is hungUp for who only asks: an error is left for who receives.
func ending(fd uintptr) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p[:], 0)
	return err == nil && n > 0
}

// peerGone reports whether the peer closed or reset the connection, without
// taking anything from the stream.
func peerGone(conn *net.TCPConn) (gone bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	var b [1]byte
	err = raw.Control(func(fd uintptr) {
		n, _, e := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = e == nil && n == 0 || e != nil && e != unix.EAGAIN && e != unix.EINTR
	})
	return gone || err != nil
}
