//go:build linux && !386 && !arm

package posix

import "golang.org/x/sys/unix"

// sysSetgroups is the system call with 32-bit ids.
const sysSetgroups = unix.SYS_SETGROUPS
