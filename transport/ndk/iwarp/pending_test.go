package iwarp

import "golang.org/x/sys/unix"

// pending is how many octets wait in the socket.
func pending(fd uintptr) int {
	n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	if err != nil {
		return -1
	}
	return n
}
