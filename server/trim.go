package server

import (
	"context"
	"errors"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// trimUnit is what ranges to trim are cut to, [MS-FSA] SystemPageSize.
const trimUnit = 4096

// trim is FSCTL_FILE_LEVEL_TRIM, [MS-FSA] 2.1.5.10.6: the client does not need what is in
// some ranges. Their storage is given back, as far as whole pages within the file go, and
// they read as zeros then; where the storage cannot, it is a hint that nothing follows
// from. The answer says how many were taken.
func (c *fileControl) trim(ctx context.Context) ([]byte, ntstatus.Status) {
	const head, extent = 8, 16
	o := c.o
	if len(c.in) < head {
		return nil, ntstatus.InvalidParameter
	}
	key, n := le.Uint32(c.in), uint64(le.Uint32(c.in[4:]))
	if key != 0 || n == 0 || n > uint64(len(c.in)-head)/extent {
		return nil, ntstatus.InvalidParameter // [MS-SMB2] 3.3.5.15.14
	}
	if o.isDir || c.maxOut > 0 && c.maxOut < 4 {
		return nil, ntstatus.InvalidParameter
	}
	if o.access&smb2.FileWriteData == 0 {
		return nil, ntstatus.AccessDenied
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	o.breakReaders()
	defer o.breakReaders()
	changed := false
	for i := range n {
		r := c.in[head+i*extent:]
		off, length, st := trimRange(le.Uint64(r), le.Uint64(r[8:]), uint64(info.Size))
		if st != ntstatus.Success {
			return nil, st
		}
		if length == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, ntstatus.FromError(err)
		}
		if o.lockConflict(off, length, true) {
			return nil, ntstatus.FileLockConflict
		}
		a, ok := o.file.(vfs.Allocator)
		if !ok {
			continue
		}
		switch err := a.PunchHole(ctx, int64(off), int64(length)); {
		case err == nil:
			changed = true
		case !errors.Is(err, errors.ErrUnsupported):
			return nil, ntstatus.FromError(err)
		}
	}
	if changed {
		o.touched()
	}
	if c.maxOut >= 4 {
		return le.AppendUint32(nil, uint32(n)), ntstatus.Success
	}
	return nil, ntstatus.Success
}

// trimRange cuts a range to whole pages within a file of that size.
func trimRange(off, length, size uint64) (uint64, uint64, ntstatus.Status) {
	if over := off % trimUnit; over != 0 {
		skip := trimUnit - over
		if off+skip < off {
			return 0, 0, ntstatus.IntegerOverflow
		}
		off, length = off+skip, length-min(length, skip)
	}
	if off+length < off {
		return 0, 0, ntstatus.IntegerOverflow
	}
	if off >= size {
		return 0, 0, ntstatus.Success
	}
	length = min(length, size-off)
	return off, length - length%trimUnit, ntstatus.Success
}
