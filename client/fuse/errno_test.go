package fuse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

func TestErrnos(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{&client.Error{Op: "open", Err: ntstatus.ObjectNameNotFound}, syscall.ENOENT},
		{&client.Error{Op: "open", Err: ntstatus.ObjectNameCollision}, syscall.EEXIST},
		{&client.Error{Op: "remove", Err: ntstatus.DirectoryNotEmpty}, syscall.ENOTEMPTY},
		{&client.Error{Op: "remove", Err: ntstatus.CannotDelete}, syscall.EACCES},
		{&client.Error{Op: "open", Err: ntstatus.FileIsADirectory}, syscall.EISDIR},
		{&client.Error{Op: "open", Err: ntstatus.NotADirectory}, syscall.ENOTDIR},
		{&client.Error{Op: "open", Err: ntstatus.SharingViolation}, syscall.EBUSY},
		{&client.Error{Op: "read", Err: ntstatus.FileLockConflict}, syscall.EACCES},
		{&client.Error{Op: "lock", Err: ntstatus.LockNotGranted}, syscall.EAGAIN},
		{&client.Error{Op: "write", Err: ntstatus.DiskFull}, syscall.ENOSPC},
		{&client.Error{Op: "write", Err: ntstatus.MediaWriteProtected}, syscall.EROFS},
		{&client.Error{Op: "rename", Err: ntstatus.NotSameDevice}, syscall.EXDEV},
		{&client.Error{Op: "seek", Err: syscall.ENXIO}, syscall.ENXIO},
		{&client.Error{Op: "read", Err: ntstatus.FileClosed}, syscall.ESTALE},
		{client.ErrStale, syscall.ESTALE},
		{client.ErrUncertain, syscall.EIO},
		{client.ErrLocksLost, syscall.EIO},
		{fmt.Errorf("lost: %w", net.ErrClosed), syscall.EIO},
		{context.DeadlineExceeded, syscall.ETIMEDOUT},
		{fmt.Errorf("lost: %w", syscall.EPIPE), syscall.EIO},
		{fmt.Errorf("lost: %w: %w", net.ErrClosed, syscall.ECONNRESET), syscall.EIO},
		{&client.Error{Op: "rename", Err: fmt.Errorf("%w: %w: %w", client.ErrUncertain, net.ErrClosed, syscall.EPIPE)}, syscall.EIO},
		{fmt.Errorf("no connection: %w (%w: %w)", os.ErrDeadlineExceeded, net.ErrClosed, syscall.ECONNRESET), syscall.ETIMEDOUT},
		{fmt.Errorf("lost: %w", syscall.ETIMEDOUT), syscall.ETIMEDOUT},
		{syscall.EOPNOTSUPP, syscall.EOPNOTSUPP},
		{fs.ErrInvalid, syscall.EINVAL},
		{errors.ErrUnsupported, syscall.EOPNOTSUPP},
		{errors.New("something else"), syscall.EIO},
	} {
		if got := syscall.Errno(status(c.err)); got != c.want {
			t.Errorf("status(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}
