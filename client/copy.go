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
//
// Where the file system can share storage, whole clusters of a long range are cloned
// first (see CloneRange); for these the target is made as long as it will be, and stays
// that long after an error.
func (f *File) CopyRange(ctx context.Context, off int64, src *File, srcOff, n int64) (int64, error) {
	done, err := f.copyRange(ctx, off, src, srcOff, n)
	return done, wrap("copy", src.name, err)
}

// checkCopy wants two files of one session, and ranges that there can be.
func (f *File) checkCopy(off int64, src *File, srcOff, n int64) error {
	const top = 1<<63 - 1
	if f.sh.s != src.sh.s {
		return fmt.Errorf("files of two sessions: %w", errors.ErrUnsupported)
	}
	if off < 0 || srcOff < 0 || n < 0 || off > top-n || srcOff > top-n {
		return fs.ErrInvalid
	}
	return nil
}

func (f *File) copyRange(ctx context.Context, off int64, src *File, srcOff, n int64) (done int64, err error) {
	if err := f.checkCopy(off, src, srcOff, n); err != nil {
		return 0, err
	}
	if done, err = f.cloneSome(ctx, off, src, srcOff, n); err != nil || done == n {
		return done, err
	}
	more, err := f.copyChunks(ctx, off+done, src, srcOff+done, n-done)
	return done + more, err
}

// CloneRange makes n bytes from off of this file share the storage of those from srcOff
// of src, FSCTL_DUPLICATE_EXTENTS_TO_FILE ([MS-FSCC] 2.3.7). Both files are of one share;
// src was opened for reading, this one for writing. Offsets, and n if it is not up to the
// end of src, are multiples of StatFS.BlockSize; this file does not grow, so it has to be
// as long before (Truncate), and sparse if src is. errors.ErrUnsupported comes from
// servers that can't, and for files that can't share.
func (f *File) CloneRange(ctx context.Context, off int64, src *File, srcOff, n int64) error {
	err := f.checkCopy(off, src, srcOff, n)
	if err == nil && f.sh != src.sh {
		err = fmt.Errorf("files of two shares: %w", errors.ErrUnsupported)
	}
	if err == nil {
		err = f.cloneRange(ctx, off, src, srcOff, n)
	}
	return wrap("clone", src.name, err)
}

func (f *File) cloneRange(ctx context.Context, off int64, src *File, srcOff, n int64) error {
	for {
		session := f.sh.s.current() // before the number that is of it
		id, err := src.handle()
		if err != nil {
			return err
		}
		in, err := (&smb2.DuplicateExtentsData{
			SourceFileID: id, SourceFileOffset: srcOff, TargetFileOffset: off, ByteCount: n}).AppendBinary(nil)
		if err != nil {
			return err
		}
		k, _, err := f.ioctlIn(ctx, session, smb2.FsctlDuplicateExtentsToFile, in, 0)
		if err == nil {
			k.free()
			return nil
		}
		if !errors.Is(err, errSessionChanged) {
			return err
		}
	}
}

const (
	// minClone is the length from which cloning is tried: below it a request or two copy.
	minClone = copyTotalBytes
	// maxClone is the most that is cloned at once: ReFS has less than 4 GiB.
	maxClone = 2 << 30
)

// cloneSome clones what it can of the beginning of a range. Nothing is not an error.
func (f *File) cloneSome(ctx context.Context, off int64, src *File, srcOff, n int64) (done int64, err error) {
	if n < minClone || f.sh != src.sh {
		return 0, nil
	}
	cluster, err := f.sh.cloneUnit(ctx, f)
	if cluster == 0 || err != nil || off%cluster != 0 || srcOff%cluster != 0 {
		return 0, err
	}
	from, err := src.size(ctx)
	if err != nil {
		return 0, err
	}
	n = min(n, max(from-srcOff, 0)) / cluster * cluster
	to, err := f.size(ctx)
	if err != nil {
		return 0, err
	}
	if n > 0 && to < off+n {
		if err := f.set(ctx, smb2.ClassFileEndOfFileInformation, &smb2.FileEndOfFileInformation{EndOfFile: off + n}); err != nil {
			return 0, err
		}
	}
	for done < n {
		part := min(n-done, maxClone/cluster*cluster)
		err := f.cloneRange(ctx, off+done, src, srcOff+done, part)
		var st ntstatus.Status
		if errors.As(err, &st) && !errors.Is(err, ntstatus.DiskFull) && ctx.Err() == nil {
			return done, nil // the copy that follows works, or tells better why not
		}
		if err != nil {
			return done, err
		}
		done += part
	}
	return done, nil
}

// cloneUnit is the size of a cluster of the share's file system in bytes if it can share
// storage, else 0. It is asked for once.
func (sh *Share) cloneUnit(ctx context.Context, f *File) (int64, error) {
	if n := sh.cluster.Load(); n != 0 {
		return max(n, 0), nil
	}
	var st StatFS
	switch err := f.statFS(ctx, &st); {
	case err != nil && ctx.Err() != nil:
		return 0, err
	case err != nil || st.FSAttributes&FSClone == 0 || st.BlockSize <= 0 || st.BlockSize > 16<<20:
		sh.cluster.Store(-1)
		return 0, nil
	}
	sh.cluster.Store(st.BlockSize)
	return st.BlockSize, nil
}

// copyChunks copies by FSCTL_SRV_COPYCHUNK_WRITE.
func (f *File) copyChunks(ctx context.Context, off int64, src *File, srcOff, n int64) (done int64, err error) {
	key, session, err := src.resumeKey(ctx)
	if err != nil {
		return 0, err
	}
	chunks, chunk, total := int64(copyChunks), int64(copyChunkBytes), int64(copyTotalBytes)
	adapted := false
	for done < n {
		req := smb2.CopyChunkCopy{SourceKey: key}
		asked := int64(0)
		for int64(len(req.Chunks)) < chunks && asked < total && done+asked < n {
			size := min(chunk, total-asked, n-done-asked)
			req.Chunks = append(req.Chunks, smb2.CopyChunk{
				SourceOffset: uint64(srcOff + done + asked), TargetOffset: uint64(off + done + asked), Length: uint32(size)})
			asked += size
		}
		m, limits, err := f.copyOnce(ctx, session, &req, asked)
		switch {
		case errors.Is(err, errSessionChanged): // the key was the open's of before
			if key, session, err = src.resumeKey(ctx); err != nil {
				return done, err
			}
			continue
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

// resumeKey asks for the number of the open in requests to copy from it, which is good
// in one session.
func (f *File) resumeKey(ctx context.Context) (key [24]byte, session uint64, err error) {
	session = f.sh.s.current() // before the number that is of it
	k, out, err := f.ioctl(ctx, smb2.FsctlSrvRequestResumeKey, nil, 64, 0)
	if err != nil {
		return key, 0, err
	}
	defer k.free()
	m, err := smb2.ParseRequestResumeKeyResponse(out)
	if err != nil {
		return key, 0, k.badBody(err)
	}
	return m.ResumeKey, session, nil
}

// copyOnce sends one request for asked bytes. limits says that it was refused with the server's
// limits in m.
func (f *File) copyOnce(ctx context.Context, session uint64, req *smb2.CopyChunkCopy, asked int64) (m smb2.CopyChunkResponse, limits bool, err error) {
	in, err := req.AppendBinary(nil)
	if err != nil {
		return m, false, err
	}
	k, out, err := f.ioctlIn(ctx, session, smb2.FsctlSrvCopychunkWrite, in, 12, ntstatus.InvalidParameter)
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
	if n == 0 && notCopied(err) {
		n, err = out.ReadFrom(&contextReader{ctx, in})
	}
	return n, errors.Join(wrap("copy", in.name, err), out.Close())
}

// notCopied reports whether a copy on the server failed in a way that leaves one through
// this client to be tried.
func notCopied(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, ntstatus.InvalidParameter) ||
		errors.Is(err, ntstatus.AccessDenied) || errors.Is(err, ntstatus.ObjectNameNotFound)
}

// copyFrom copies src from its position to its end to the position of f, on the server.
// ok is false if that can't be done and nothing has been.
func (f *File) copyFrom(ctx context.Context, src *File, n int64) (total int64, ok bool, err error) {
	if f == src || f.sh.s != src.sh.s || f.dir || src.dir {
		return 0, false, nil
	}
	// The two positions are locked in the same order by everybody.
	first, second := f, src
	if first.order > second.order {
		first, second = second, first
	}
	first.posMu.Lock()
	defer first.posMu.Unlock()
	second.posMu.Lock()
	defer second.posMu.Unlock()
	if err := f.toEnd(ctx); err != nil {
		return 0, true, wrap("write", f.name, err)
	}
	for total < n {
		size, err := src.size(ctx)
		if err != nil {
			return total, true, wrap("copy", src.name, err)
		}
		part := min(size-src.pos, n-total)
		if part <= 0 {
			break
		}
		done, err := f.copyRange(ctx, f.pos, src, src.pos, part)
		f.pos += done
		src.pos += done
		total += done
		switch {
		case total == 0 && notCopied(err):
			return 0, false, nil
		case errors.Is(err, io.ErrUnexpectedEOF) && done > 0: // it has become shorter: ask again
		case err != nil:
			return total, true, wrap("copy", src.name, err)
		}
	}
	return total, true, nil
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
