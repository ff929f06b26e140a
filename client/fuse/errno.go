package fuse

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// byStatus are the answers of a server whose errno depends on that this is a file
// system: what package ntstatus says of them is for programs that know SMB.
var byStatus = map[ntstatus.Status]syscall.Errno{
	ntstatus.SharingViolation:   syscall.EBUSY,
	ntstatus.FileLockConflict:   syscall.EACCES, // of READ and WRITE, as mandatory locks had it
	ntstatus.LockNotGranted:     syscall.EAGAIN,
	ntstatus.CannotDelete:       syscall.EACCES,
	ntstatus.ObjectNameInvalid:  syscall.EINVAL,
	ntstatus.InvalidHandle:      syscall.ESTALE,
	ntstatus.FileClosed:         syscall.ESTALE,
	ntstatus.NotImplemented:     syscall.EOPNOTSUPP,
	ntstatus.BadNetworkName:     syscall.EIO, // the share has gone, not the file
	ntstatus.NetworkNameDeleted: syscall.EIO,
	ntstatus.UserSessionDeleted: syscall.EIO,
}

// errnos are those that the rest of the answers may match, in the order in which
// they are asked.
var errnos = []syscall.Errno{
	syscall.ENOENT, syscall.EEXIST, syscall.EACCES, syscall.ENOTEMPTY, syscall.ENOTDIR, syscall.EISDIR,
	syscall.EINVAL, syscall.EPERM, syscall.EROFS, syscall.EBUSY, syscall.EAGAIN, syscall.ESTALE, syscall.ENAMETOOLONG,
	syscall.EXDEV, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EMLINK, syscall.EMFILE, syscall.ENOMEM,
	syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.ENODATA, syscall.E2BIG, syscall.ERANGE, syscall.ELOOP, syscall.ENXIO,
	syscall.ETIMEDOUT, syscall.EILSEQ, syscall.EINTR, syscall.EBADF, syscall.EDEADLK,
}

// ofSockets says whether an errno is that of a connection, which programs do not expect of
// files: that there is none is EIO, or ETIMEDOUT of what has waited for one.
func ofSockets(e syscall.Errno) bool {
	return e == syscall.EPIPE || e >= syscall.ENOTSOCK && e <= syscall.EINPROGRESS &&
		e != syscall.EOPNOTSUPP && e != syscall.ETIMEDOUT
}

// status is what the kernel is told of an error: EIO if nothing else is known.
func status(err error) gofuse.Status {
	if err == nil {
		return gofuse.OK
	}
	if errors.Is(err, client.ErrUncertain) || errors.Is(err, client.ErrLocksLost) {
		return gofuse.EIO // whatever the connection was lost by
	}
	var e syscall.Errno
	if errors.As(err, &e) && !ofSockets(e) {
		return gofuse.Status(e)
	}
	var st ntstatus.Status
	if errors.As(err, &st) {
		if e, ok := byStatus[st]; ok {
			return gofuse.Status(e)
		}
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return gofuse.Status(syscall.ETIMEDOUT) // also of the wait for another connection
	case errors.Is(err, net.ErrClosed):
		return gofuse.EIO // the connection
	case errors.Is(err, context.Canceled):
		return gofuse.EINTR
	}
	for _, e := range errnos {
		if errors.Is(err, e) {
			return gofuse.Status(e)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return gofuse.ENOENT
	case errors.Is(err, fs.ErrExist):
		return gofuse.Status(syscall.EEXIST)
	case errors.Is(err, fs.ErrPermission):
		return gofuse.EACCES
	case errors.Is(err, fs.ErrInvalid):
		return gofuse.EINVAL
	case errors.Is(err, errors.ErrUnsupported):
		return gofuse.ENOTSUP
	case errors.Is(err, io.ErrUnexpectedEOF):
		return gofuse.EIO
	}
	return gofuse.EIO
}
