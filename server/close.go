package server

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// closeFile serves CLOSE, [MS-SMB2] 3.3.5.10.
func closeFile(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseCloseRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(req.FileID)
	if st != ntstatus.Success {
		// One that comes again because the answer to the first was lost with a channel
		// means that the file is closed: it must be.
		r.sess.opens.awaitGone(ctx, req.FileID)
		return st
	}
	defer o.release()
	r.conn.awaitEarlier(ctx, r, o.id)
	// A file that goes with its last open goes also if the connection does.
	ctx = context.WithoutCancel(ctx)
	var resp smb2.CloseResponse
	if req.Flags&smb2.CloseFlagPostqueryAttrib != 0 && !o.isPipe {
		o.settleTimes(ctx)
		if info, err := o.stat(ctx); err == nil {
			b := timesOf(&info)
			resp = smb2.CloseResponse{
				Flags:          smb2.CloseFlagPostqueryAttrib,
				CreationTime:   b.CreationTime,
				LastAccessTime: b.LastAccessTime,
				LastWriteTime:  b.LastWriteTime,
				ChangeTime:     b.ChangeTime,
				AllocationSize: allocationSize(&info),
				EndOfFile:      uint64(info.Size),
				FileAttributes: fileAttributes(&info),
			}
		}
	}
	if !o.shut(ctx) {
		r.sess.opens.awaitGone(ctx, o.id)
		return ntstatus.FileClosed // another CLOSE was first
	}
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}
