package socket

import "golang.org/x/sys/unix"

// Splice moves up to n octets that have come in on a socket into a pipe, whose writing end
// is w; neither of them blocks. Like read(2) it returns 0 at the end of the stream and
// EAGAIN where nothing has come. over says that no more go into the pipe, because it is full
// or cannot take them: then they are to be read.
func Splice(w, fd, n int) (k int, over bool, err error) {
	for range 2 {
		var moved int64
		if moved, err = unix.Splice(fd, nil, w, nil, n, unix.SPLICE_F_NONBLOCK); err == nil {
			return int(moved), false, nil
		}
		switch err {
		case unix.EINTR:
			return 0, false, err
		case unix.ECONNRESET, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH:
			return 0, false, err // the socket's, which tells it once
		}
		// There was nothing, or there is no room for it. Twice, with something there, is the latter.
		if queued, qerr := unix.IoctlGetInt(fd, unix.SIOCINQ); err != unix.EAGAIN || qerr != nil {
			break
		} else if queued == 0 {
			return 0, false, err
		}
	}
	return 0, true, err
}
