package server

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// snapshotName is how a snapshot is spelled for clients, [MS-SMB2] 2.2.32.2.
const snapshotName = "@GMT-2006.01.02-15.04.05"

// maxSnapshots bounds the snapshots that clients are told of.
const maxSnapshots = 1024

// locate finds out what a CREATE's name means: in which state of the share, by which
// names for short ones, and whether clients may know of it.
func (c *creation) locate(ctx context.Context, o *open) ntstatus.Status {
	if at := c.ctxs.timewarp; at != 0 {
		snaps, ok := o.fs.(vfs.Snapshotter)
		if !ok {
			return ntstatus.ObjectNameNotFound
		}
		fsys, err := snaps.At(ctx, at.Time().UTC().Truncate(time.Second))
		if errors.Is(err, fs.ErrNotExist) {
			return ntstatus.ObjectNameNotFound // [MS-SMB2] 3.3.5.9.5
		}
		if err != nil {
			return ntstatus.FromError(err)
		}
		if c.overwrites() || c.req.CreateOptions&smb2.FileDeleteOnClose != 0 {
			return ntstatus.MediaWriteProtected
		}
		o.fs, o.snapshot = fsys, true
	}
	c.name.path = o.longName(ctx, c.name.path)
	return o.tree.share.vetoed(c.name.path)
}

// enumerateSnapshots is FSCTL_SRV_ENUMERATE_SNAPSHOTS, [MS-SMB2] 3.3.5.15.1: how many
// there are, and their names if there is room for all of them.
func (c *fileControl) enumerateSnapshots(ctx context.Context) ([]byte, ntstatus.Status) {
	const head, least = 12, 16
	if c.maxOut < least {
		return nil, ntstatus.InvalidParameter
	}
	var times []time.Time
	if s, ok := c.o.tree.fs().(vfs.Snapshotter); ok {
		var err error
		if times, err = s.Snapshots(ctx); err != nil {
			return nil, ntstatus.FromError(err)
		}
	}
	times = times[:min(len(times), maxSnapshots)]
	var names []byte
	for _, t := range times {
		names = smb2.AppendUTF16(names, t.UTC().Format(snapshotName))
		names = append(names, 0, 0)
	}
	names = append(names, 0, 0)
	out := make([]byte, head, max(head+len(names), least))
	le.PutUint32(out[0:], uint32(len(times)))
	le.PutUint32(out[8:], uint32(len(names)))
	if len(times) > 0 && head+len(names) <= c.maxOut {
		le.PutUint32(out[4:], uint32(len(times)))
		out = append(out, names...)
	}
	return append(out, make([]byte, max(least-len(out), 0))...), ntstatus.Success
}
