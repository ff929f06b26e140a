package server

import (
	"context"
	"errors"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// lockShareMode makes what an open does not share known to local processes that use
// flock(2), on a share with KernelShareModes: an open that lets nobody read has the
// file's lock alone, one that lets nobody write has it with others. It is refused if a
// local process has the lock. Among clients the table has decided before.
func (o *open) lockShareMode(ctx context.Context) ntstatus.Status {
	if !o.tree.share.KernelShareModes || o.isStream() || o.access&sharesAny == 0 ||
		o.shareAccess&smb2.FileShareRead != 0 && o.shareAccess&smb2.FileShareWrite != 0 {
		return ntstatus.Success
	}
	l, ok := o.file.(vfs.FileLocker)
	if !ok {
		return ntstatus.Success
	}
	err := l.LockFile(ctx, o.shareAccess&smb2.FileShareRead == 0)
	switch {
	case err == nil:
		o.flock = l
		return ntstatus.Success
	case errors.Is(err, syscall.EAGAIN):
		return ntstatus.SharingViolation
	case errors.Is(err, syscall.EBADF):
		return ntstatus.Success // to delete only: there is no handle that could have it
	}
	return ntstatus.FromError(err)
}

// unlockShareMode gives the lock up, before others may open the file by the table.
func (o *open) unlockShareMode() {
	if o.flock != nil {
		_ = o.flock.UnlockFile(context.Background()) // an error is of a file that is closed, and its lock with it
	}
}
