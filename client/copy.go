package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Limits of FSCTL_SRV_COPYCHUNK that servers commonly have, [MS-SMB2] 3.3.3; a
// server with others names them in its refusal.
const (
	copyChunks     = 16
	copyChunkBytes = 1 << 20
	copyTotalBytes = 16 << 20
)

// CopyRange copies n bytes from srcOff of src to off of this file, on the server
// (FSCTL_SRV_COPYCHUNK_WRITE, [MS-SMB2] 3.2.4.20.2). Both files are of one session;
// src was opened for reading, this one for writing. It returns how many bytes are
// copied; fewer than n come with an error, io.ErrUnexpectedEOF if src is shorter.
// An error that matches errors.ErrUnsupported says that this server can't.
func (f *File) CopyRange(ctx context.Context, off int64, src *File, srcOff, n int64) (int64, error) {
	done, err := f.copyRange(ctx, off, src, srcOff, n)
	return done, wrap("copy", src.name, err)
}

func (f *File) copyRange(ctx context.Context, off int64, src *File, srcOff, n int64) (done int64, err error) {
	const top = 1<<63 - 1
	if f.sh.s != src.sh.s {
		return 0, fmt.Errorf("files of two sessions: %w", errors.ErrUnsupported)
	}
	if off < 0 || srcOff < 0 || n < 0 || off > top-n || srcOff > top-n {
		return 0, fs.ErrInvalid
	}
	srcID, err := src.handle()
	if err != nil {
		return 0, err
	}
	id, err := f.handle()
	if err != nil {
		return 0, err
	}
	k, out, err := src.sh.ioctl(ctx, smb2.FsctlSrvRequestResumeKey, srcID, nil, 64, 0)
	if err != nil {
		return 0, err
	}
	key, err := smb2.ParseRequestResumeKeyResponse(out)
	if err != nil {
		err = k.badBody(err)
	}
	k.free()
	if err != nil {
		return 0, err
	}
	chunks, chunk, total := int64(copyChunks), int64(copyChunkBytes), int64(copyTotalBytes)
	adapted := false
	for done < n {
		req := smb2.CopyChunkCopy{SourceKey: key.ResumeKey}
		asked := int64(0)
		for int64(len(req.Chunks)) < chunks && asked < total && done+asked < n {
			size := min(chunk, total-asked, n-done-asked)
			req.Chunks = append(req.Chunks, smb2.CopyChunk{
				SourceOffset: uint64(srcOff + done + asked), TargetOffset: uint64(off + done + asked), Length: uint32(size)})
			asked += size
		}
		m, limits, err := f.copyOnce(ctx, id, &req, asked)
		switch {
		case limits && !adapted && m.ChunksWritten > 0 && m.ChunkBytesWritten > 0 && m.TotalBytesWritten > 0:
			adapted = true
			chunks, chunk, total = min(chunks, int64(m.ChunksWritten)), min(chunk, int64(m.ChunkBytesWritten)), min(total, int64(m.TotalBytesWritten))
			continue
		case errors.Is(err, ntstatus.InvalidViewSize), errors.Is(err, ntstatus.EndOfFile):
			return done, io.ErrUnexpectedEOF
		case err != nil:
			return done, err
		}
		if m.TotalBytesWritten == 0 {
			return done, io.ErrUnexpectedEOF
		}
		done += int64(m.TotalBytesWritten)
	}
	return done, nil
}

// copyOnce sends one request for asked bytes. limits says that it was refused with the server's
// limits in m.
func (f *File) copyOnce(ctx context.Context, id smb2.FileID, req *smb2.CopyChunkCopy, asked int64) (m smb2.CopyChunkResponse, limits bool, err error) {
	in, err := req.AppendBinary(nil)
	if err != nil {
		return m, false, err
	}
	k, out, err := f.sh.ioctl(ctx, smb2.FsctlSrvCopychunkWrite, id, in, 12, 0, ntstatus.InvalidParameter)
	if err != nil {
		return m, false, err
	}
	defer k.free()
	if m, err = smb2.ParseCopyChunkResponse(out); err != nil {
		return m, false, k.badBody(err)
	}
	if k.resp.Status == ntstatus.InvalidParameter {
		return m, true, k.resp.Status
	}
	if int64(m.TotalBytesWritten) > asked {
		return m, false, k.protocolError("3.2.5.14.3", "%d bytes copied of %d", m.TotalBytesWritten, asked)
	}
	return m, false, nil
}

// CopyFile copies src to dst within the share, on the server where it can, else
// through this client. dst is created or truncated; after an error it is left as
// far as it is.
func (sh *Share) CopyFile(ctx context.Context, src, dst string) (int64, error) {
	in, err := sh.Open(ctx, src)
	if err != nil {
		return 0, err
	}
	n, err := sh.copyTo(ctx, in, dst)
	return n, errors.Join(err, in.Close())
}

func (sh *Share) copyTo(ctx context.Context, in *File, dst string) (int64, error) {
	size, err := in.size(ctx)
	if err != nil {
		return 0, wrap("copy", in.name, err)
	}
	// Copying on the server wants to read the target too ([MS-SMB2] 3.3.5.15.6).
	out, err := sh.OpenFile(ctx, dst, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return 0, err
	}
	n, err := out.copyRange(ctx, 0, in, 0, size)
	if n == 0 && (errors.Is(err, errors.ErrUnsupported) || errors.Is(err, ntstatus.InvalidParameter)) {
		n, err = out.ReadFrom(&contextReader{ctx, in})
	}
	return n, errors.Join(wrap("copy", in.name, err), out.Close())
}

// contextReader reads a file from its position with a context.
type contextReader struct {
	ctx context.Context
	f   *File
}

// Read implements io.Reader.
func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.f.Read(p)
}
