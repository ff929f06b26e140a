package server

import (
	"context"
	"errors"
	"io"
	"math"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Limits of server-side copy, [MS-SMB2] 3.3.3: chunks, bytes in a chunk and bytes
// in all.
const (
	copyMaxChunks    = 256
	copyMaxChunkSize = 1 << 20
	copyMaxTotal     = 16 << 20
)

// fileControl is an FSCTL on a file under way.
type fileControl struct {
	r      *request
	o      *open
	in     []byte
	maxOut int
}

// fsctlFile serves the FSCTLs that are about an open file. With r.warnData set
// the output belongs to an error status.
func (s *Server) fsctlFile(ctx context.Context, r *request, code uint32, o *open, in []byte, maxOut int) ([]byte, ntstatus.Status) {
	c := &fileControl{r: r, o: o, in: in, maxOut: maxOut}
	if o.isPipe {
		if smb2.CtlCode(code) == smb2.FsctlPipePeek {
			return o.pipePeek(maxOut)
		}
		return nil, ntstatus.InvalidDeviceRequest
	}
	if changesFile(smb2.CtlCode(code)) {
		switch {
		case o.snapshot:
			return nil, ntstatus.MediaWriteProtected
		case r.tree.readOnly():
			return nil, r.tree.refuseChange(o.path(), 0, ntstatus.MediaWriteProtected)
		}
	}
	switch smb2.CtlCode(code) {
	case smb2.FsctlSrvRequestResumeKey:
		return c.resumeKey()
	case smb2.FsctlSrvCopychunk:
		return c.copyChunk(ctx, true)
	case smb2.FsctlSrvCopychunkWrite:
		return c.copyChunk(ctx, false)
	case smb2.FsctlDuplicateExtentsToFile:
		return c.duplicateExtents(ctx)
	case smb2.FsctlSetSparse:
		return c.setSparse(ctx)
	case smb2.FsctlSetZeroData:
		return c.setZeroData(ctx)
	case smb2.FsctlQueryAllocatedRanges:
		return c.allocatedRanges(ctx)
	case smb2.FsctlQueryFileRegions:
		return c.fileRegions(ctx)
	case smb2.FsctlFileLevelTrim:
		return c.trim(ctx)
	case smb2.FsctlGetCompression:
		return c.getCompression(ctx)
	case smb2.FsctlSetCompression:
		return c.setCompression(ctx)
	case smb2.FsctlGetReparsePoint:
		return c.getReparsePoint(ctx)
	case smb2.FsctlSetReparsePoint:
		return c.setReparsePoint(ctx)
	case smb2.FsctlDeleteReparsePoint:
		return c.deleteReparsePoint(ctx)
	case smb2.FsctlCreateOrGetObjectID, smb2.FsctlGetObjectID:
		return c.objectID(ctx)
	case smb2.FsctlLMRRequestResiliency:
		return nil, r.requestResiliency(o, in)
	case smb2.FsctlSrvEnumerateSnapshots:
		return c.enumerateSnapshots(ctx)
	case smb2.FsctlSrvReadHash:
		return nil, ntstatus.NotSupported // 3.3.5.15.7: there is no branch cache
	case smb2.FsctlIsPathnameValid:
		return nil, ntstatus.Success // CREATE will tell
	}
	// Integrity, offload, USN, NTFS volume data: the store has no such thing.
	return nil, ntstatus.InvalidDeviceRequest
}

// changesFile reports whether an FSCTL changes the file that it is about.
func changesFile(code smb2.CtlCode) bool {
	switch code {
	case smb2.FsctlSrvCopychunk, smb2.FsctlSrvCopychunkWrite, smb2.FsctlDuplicateExtentsToFile, smb2.FsctlSetSparse,
		smb2.FsctlSetZeroData, smb2.FsctlFileLevelTrim, smb2.FsctlSetCompression, smb2.FsctlSetReparsePoint,
		smb2.FsctlDeleteReparsePoint:
		return true
	}
	return false
}

// resumeKey is FSCTL_SRV_REQUEST_RESUME_KEY, [MS-SMB2] 3.3.5.15.5: the FileID,
// which nobody can guess, names the open.
func (c *fileControl) resumeKey() ([]byte, ntstatus.Status) {
	if c.maxOut < 32 {
		return nil, ntstatus.InvalidParameter
	}
	var m smb2.RequestResumeKeyResponse
	le.PutUint64(m.ResumeKey[0:], c.o.id.Persistent)
	le.PutUint64(m.ResumeKey[8:], c.o.id.Volatile)
	out, err := m.AppendBinary(nil)
	return out, c.r.appended(err)
}

// bySourceKey finds the open of the same session that a resume key names.
func (c *fileControl) bySourceKey(key smb2.ResumeKey) *open {
	return c.r.sess.opens.get(smb2.FileID{Persistent: le.Uint64(key[0:]), Volatile: le.Uint64(key[8:])})
}

// copyAnswer is the output of a copy; with an error status it goes out all the same.
func (c *fileControl) copyAnswer(m smb2.CopyChunkResponse, st ntstatus.Status) ([]byte, ntstatus.Status) {
	out, err := m.AppendBinary(nil)
	if err != nil {
		return nil, c.r.appended(err)
	}
	c.r.warnData = true
	return out, st
}

// copyChunk is FSCTL_SRV_COPYCHUNK and FSCTL_SRV_COPYCHUNK_WRITE, [MS-SMB2]
// 3.3.5.15.6.
func (c *fileControl) copyChunk(ctx context.Context, needRead bool) ([]byte, ntstatus.Status) {
	if c.maxOut < 12 {
		return nil, ntstatus.InvalidParameter
	}
	limits := func() ([]byte, ntstatus.Status) { // 3.3.5.15.6.2
		return c.copyAnswer(smb2.CopyChunkResponse{
			ChunksWritten: copyMaxChunks, ChunkBytesWritten: copyMaxChunkSize, TotalBytesWritten: copyMaxTotal,
		}, ntstatus.InvalidParameter)
	}
	m, err := smb2.ParseCopyChunkCopy(c.in)
	if err != nil {
		return limits()
	}
	src := c.bySourceKey(m.SourceKey)
	if src == nil {
		return nil, ntstatus.ObjectNameNotFound
	}
	defer src.release()
	dst := c.o
	if len(m.Chunks) > copyMaxChunks || src.isPipe {
		return limits()
	}
	total := uint64(0)
	for _, ch := range m.Chunks {
		if ch.Length == 0 || ch.Length > copyMaxChunkSize {
			return limits()
		}
		total += uint64(ch.Length)
	}
	if total > copyMaxTotal {
		return limits()
	}
	switch {
	case src.isDir || dst.isDir:
		return nil, ntstatus.InvalidDeviceRequest
	case src.access&needsRead == 0,
		dst.access&(smb2.FileWriteData|smb2.FileAppendData) == 0,
		needRead && dst.access&smb2.FileReadData == 0:
		return nil, ntstatus.AccessDenied
	}
	info, err := src.file.Stat(ctx)
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	var done smb2.CopyChunkResponse
	for _, ch := range m.Chunks {
		n := uint64(ch.Length)
		st := ntstatus.Success
		switch {
		case ch.SourceOffset > math.MaxInt64-n, ch.TargetOffset > math.MaxInt64-n:
			st = ntstatus.InvalidParameter
		case ch.SourceOffset+n > uint64(info.Size):
			st = ntstatus.InvalidViewSize // [MS-SMB2] 3.3.5.15.6, as Windows answers
		case src.lockConflict(ch.SourceOffset, n, false), dst.lockConflict(ch.TargetOffset, n, true):
			st = ntstatus.FileLockConflict
		}
		wrote := int64(0)
		if st == ntstatus.Success {
			wrote, err = c.copyRange(ctx, int64(ch.TargetOffset), src, int64(ch.SourceOffset), int64(n))
			if err != nil {
				st = ntstatus.FromError(err)
			}
		}
		done.TotalBytesWritten += uint32(wrote)
		if st != ntstatus.Success {
			done.ChunkBytesWritten = uint32(wrote)
			dst.touched()
			return c.copyAnswer(done, st)
		}
		done.ChunksWritten++
	}
	dst.touched()
	return c.copyAnswer(done, ntstatus.Success)
}

// copyRange copies within the file system if it can, through a buffer otherwise.
func (c *fileControl) copyRange(ctx context.Context, dstOff int64, src *open, srcOff, n int64) (int64, error) {
	dst := c.o
	dst.breakReaders()
	defer dst.breakReaders()
	if rc, ok := dst.file.(vfs.RangeCopier); ok && sameStorage(src.fs, dst.fs) {
		wrote, err := rc.CopyRange(ctx, dstOff, src.file, srcOff, n)
		switch {
		case err == nil && wrote == n:
			return wrote, nil
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EBADF):
			// EINVAL: ranges that overlap; EBADF: a handle that cannot be read.
			dstOff, srcOff, n = dstOff+wrote, srcOff+wrote, n-wrote
			more, err := c.copyBuffered(ctx, dstOff, src, srcOff, n)
			return wrote + more, err
		default:
			return wrote, err
		}
	}
	return c.copyBuffered(ctx, dstOff, src, srcOff, n)
}

// copyBuffered reads a chunk as a whole before it writes any of it, so that
// ranges of one file may overlap.
func (c *fileControl) copyBuffered(ctx context.Context, dstOff int64, src *open, srcOff, n int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	buf := make([]byte, n)
	got, err := src.file.ReadAt(buf, srcOff)
	if got < len(buf) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	wrote, err := c.o.file.WriteAt(buf, dstOff)
	return int64(wrote), err
}

// duplicateExtents is FSCTL_DUPLICATE_EXTENTS_TO_FILE, [MS-FSA] 2.1.5.10.4. Byte-range
// locks do not matter to it, and no file becomes longer: what would lie behind the end
// of the target is left out without a word. So it is on Windows.
func (c *fileControl) duplicateExtents(ctx context.Context) ([]byte, ntstatus.Status) {
	m, err := smb2.ParseDuplicateExtentsData(c.in)
	if err != nil {
		return nil, ntstatus.BufferTooSmall
	}
	src, st := c.r.open(m.SourceFileID)
	if st != ntstatus.Success {
		return nil, ntstatus.InvalidHandle
	}
	defer src.release()
	dst := c.o
	switch {
	case m.ByteCount == 0:
		return nil, ntstatus.Success
	case m.ByteCount < 0, m.SourceFileOffset < 0, m.TargetFileOffset < 0,
		m.SourceFileOffset > math.MaxInt64-m.ByteCount, m.TargetFileOffset > math.MaxInt64-m.ByteCount,
		src.isPipe:
		return nil, ntstatus.InvalidParameter
	case src.isDir, dst.isDir, src.isStream(), dst.isStream():
		return nil, ntstatus.NotSupported
	case dst.access&smb2.FileWriteData == 0, src.access&needsRead == 0:
		return nil, ntstatus.AccessDenied
	}
	from, err := src.file.Stat(ctx)
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	to, err := dst.file.Stat(ctx)
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	apart := m.SourceFileOffset - m.TargetFileOffset
	switch {
	case m.SourceFileOffset+m.ByteCount > from.Size,
		from.Attributes&^to.Attributes&vfs.AttrSparse != 0,
		from.ID == to.ID && apart < m.ByteCount && -apart < m.ByteCount:
		return nil, ntstatus.NotSupported
	}
	cl, ok := dst.file.(vfs.Cloner)
	if !ok || !sameStorage(src.fs, dst.fs) {
		return nil, ntstatus.NotSupported
	}
	dst.breakReaders()
	defer dst.breakReaders()
	n := m.ByteCount
	var rest int64 // before an end at which storage cannot be shared
	if room := max(to.Size-m.TargetFileOffset, 0); room < n {
		n, rest = room&^(clusterSize-1), room&(clusterSize-1)
	}
	if n > 0 {
		err = cl.CloneRange(ctx, m.TargetFileOffset, src.file, m.SourceFileOffset, n)
	}
	if err == nil && rest > 0 {
		_, err = c.copyRange(ctx, m.TargetFileOffset+n, src, m.SourceFileOffset+n, rest)
	}
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	dst.touched()
	return nil, ntstatus.Success
}

// setSparse is FSCTL_SET_SPARSE, [MS-FSA] 2.1.5.10.38. Data does not move: a file that
// is not sparse any more keeps the holes it has.
func (c *fileControl) setSparse(ctx context.Context) ([]byte, ntstatus.Status) {
	o := c.o
	switch {
	case o.isDir, o.isStream():
		return nil, ntstatus.InvalidParameter
	case o.access&(smb2.FileWriteData|smb2.FileAppendData|smb2.FileWriteAttributes) == 0:
		return nil, ntstatus.AccessDenied
	}
	sparse := true
	if len(c.in) > 0 {
		m, err := smb2.ParseSetSparseBuffer(c.in)
		if err != nil {
			return nil, ntstatus.InvalidParameter
		}
		sparse = m.SetSparse
	}
	if err := o.file.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetSparse, Sparse: sparse}); err != nil {
		return nil, ntstatus.FromError(err)
	}
	o.changed(smb2.FileNotifyChangeAttributes)
	return nil, ntstatus.Success
}

// setZeroData is FSCTL_SET_ZERO_DATA, [MS-FSA] 2.1.5.10.39.
func (c *fileControl) setZeroData(ctx context.Context) ([]byte, ntstatus.Status) {
	o := c.o
	if o.isDir {
		return nil, ntstatus.InvalidParameter
	}
	if o.access&smb2.FileWriteData == 0 {
		return nil, ntstatus.AccessDenied
	}
	m, err := smb2.ParseZeroDataInformation(c.in)
	if err != nil || m.FileOffset < 0 || m.BeyondFinalZero < 0 || m.FileOffset > m.BeyondFinalZero {
		return nil, ntstatus.InvalidParameter
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	off, end := m.FileOffset, min(m.BeyondFinalZero, info.Size)
	if off >= end {
		return nil, ntstatus.Success
	}
	if o.lockConflict(uint64(off), uint64(end-off), true) {
		return nil, ntstatus.FileLockConflict
	}
	o.breakReaders()
	defer o.breakReaders()
	err = zeroRange(ctx, o.file, off, end-off, isSparse(&info))
	o.touched()
	return nil, ntstatus.FromError(err)
}

// zeroRange makes a range within the file read as zeros; a sparse file gives its
// storage back, if the backend can.
func zeroRange(ctx context.Context, f vfs.File, off, n int64, sparse bool) error {
	if a, ok := f.(vfs.Allocator); ok {
		err := vfs.ErrNotSupported
		if sparse {
			err = a.PunchHole(ctx, off, n)
		}
		if errors.Is(err, errors.ErrUnsupported) {
			err = a.ZeroRange(ctx, off, n)
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	zeros := make([]byte, min(n, 1<<20))
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		w, err := f.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off, n = off+int64(w), n-int64(w)
	}
	return nil
}

// allocatedRanges is FSCTL_QUERY_ALLOCATED_RANGES, [MS-FSA] 2.1.5.10.22. A file
// that is not sparse has no holes, and so has one on storage that does not know
// where they are.
func (c *fileControl) allocatedRanges(ctx context.Context) ([]byte, ntstatus.Status) {
	o := c.o
	if o.isDir {
		return nil, ntstatus.InvalidParameter
	}
	if o.access&smb2.FileReadData == 0 {
		return nil, ntstatus.AccessDenied
	}
	q, err := smb2.ParseAllocatedRange(c.in)
	if err != nil || q.FileOffset < 0 || q.Length < 0 || q.FileOffset > math.MaxInt64-q.Length {
		return nil, ntstatus.InvalidParameter
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	off, end := q.FileOffset, min(q.FileOffset+q.Length, info.Size)
	sparse := isSparse(&info)
	var out []byte
	for off < end {
		start, stop := off, end
		if sparse {
			if start, stop, err = dataRange(ctx, o.file, off, end); err != nil {
				return nil, ntstatus.FromError(err)
			}
		}
		if start >= end {
			break
		}
		if len(out)+16 > c.maxOut {
			if len(out) == 0 {
				return nil, ntstatus.BufferTooSmall
			}
			return out, ntstatus.BufferOverflow
		}
		out, _ = (&smb2.AllocatedRange{FileOffset: start, Length: stop - start}).AppendBinary(out)
		off = stop
	}
	return out, ntstatus.Success
}

// dataRange finds the first range of data within off and end; start is end if
// there is none.
func dataRange(ctx context.Context, f vfs.File, off, end int64) (start, stop int64, err error) {
	h, ok := f.(vfs.HoleSeeker)
	if !ok {
		return off, end, nil
	}
	start, err = h.SeekData(ctx, off)
	switch {
	case errors.Is(err, syscall.ENXIO):
		return end, end, nil
	case errors.Is(err, errors.ErrUnsupported):
		return off, end, nil
	case err != nil:
		return 0, 0, err
	}
	stop, err = h.SeekHole(ctx, start)
	if errors.Is(err, syscall.ENXIO) { // cut short in between
		return end, end, nil
	}
	return start, max(min(stop, end), start), err
}

// fileRegions is FSCTL_QUERY_FILE_REGIONS, [MS-FSA] 2.1.5.10.24: which part of the file
// has been written. What has not reads as zeros here, and all of it is valid.
func (c *fileControl) fileRegions(ctx context.Context) ([]byte, ntstatus.Status) {
	q := smb2.FileRegion{Length: math.MaxInt64, Usage: smb2.FileRegionValidCached}
	if len(c.in) > 0 {
		var err error
		if q, err = smb2.ParseFileRegion(c.in); err != nil {
			return nil, ntstatus.BufferTooSmall
		}
	}
	switch {
	case c.o.isDir, q.Length <= 0, q.FileOffset < 0, q.FileOffset > math.MaxInt64-q.Length,
		q.Usage&smb2.FileRegionValidCached == 0:
		return nil, ntstatus.InvalidParameter
	case c.maxOut < smb2.FileRegionOutputSize:
		return nil, ntstatus.BufferTooSmall
	}
	info, err := c.o.file.Stat(ctx)
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	if q.FileOffset > info.Size || q.FileOffset == info.Size && info.Size > 0 {
		return nil, ntstatus.Success
	}
	out := smb2.FileRegion{FileOffset: q.FileOffset, Length: min(q.Length, info.Size-q.FileOffset)}
	if info.Size > 0 {
		out.Usage = q.Usage
	}
	b, err := (&smb2.FileRegionOutput{Total: 1, Regions: []smb2.FileRegion{out}}).AppendBinary(nil)
	return b, c.r.appended(err)
}

// getCompression is FSCTL_GET_COMPRESSION, [MS-FSA] 2.1.5.10.9.
func (c *fileControl) getCompression(ctx context.Context) ([]byte, ntstatus.Status) {
	if c.maxOut < 2 {
		return nil, ntstatus.InvalidParameter
	}
	info, err := c.o.file.Stat(ctx)
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	return smb2.AppendCompressionFormat(nil, compressionOf(&info)), ntstatus.Success
}

// compressionOf is the format in which the content is said to be kept.
func compressionOf(i *vfs.Info) smb2.CompressionFormat {
	if i.Attributes&vfs.AttrCompressed != 0 {
		return smb2.CompressionFormatLZNT1
	}
	return smb2.CompressionFormatNone
}

// compresses reports whether the share remembers what is to be compressed.
func (o *open) compresses(sf *vfs.Statfs) bool {
	return sf.Attributes && !o.tree.share.NoDOSAttributes
}

// setCompression is FSCTL_SET_COMPRESSION, [MS-FSA] 2.1.5.10.30. What a client asks for
// is kept with the file; what comes of it is the storage's affair.
func (c *fileControl) setCompression(ctx context.Context) ([]byte, ntstatus.Status) {
	f, err := smb2.ParseCompressionFormat(c.in)
	switch {
	case err != nil:
		return nil, ntstatus.InvalidParameter
	case c.o.access&smb2.FileWriteData == 0: // FILE_ADD_FILE of a directory
		return nil, ntstatus.AccessDenied
	case f != smb2.CompressionFormatNone && f != smb2.CompressionFormatDefault && f != smb2.CompressionFormatLZNT1:
		return nil, ntstatus.InvalidParameter
	}
	on := f != smb2.CompressionFormatNone
	if sf, err := c.o.fs.Statfs(ctx); err != nil || !c.o.compresses(&sf) {
		if on {
			return nil, ntstatus.NotSupported
		}
		return nil, ntstatus.Success
	}
	if err := c.o.object().SetAttr(ctx, vfs.SetAttr{Set: vfs.SetCompressed, Compressed: on}); err != nil {
		return nil, ntstatus.FromError(err)
	}
	c.o.changed(smb2.FileNotifyChangeAttributes)
	return nil, ntstatus.Success
}

// objectID is FSCTL_CREATE_OR_GET_OBJECT_ID, [MS-FSCC] 2.3.1: an id made of the
// file's identity, the same each time.
func (c *fileControl) objectID(ctx context.Context) ([]byte, ntstatus.Status) {
	const size = 64 // FILE_OBJECTID_BUFFER type 1, [MS-FSCC] 2.1.3.1
	if c.maxOut < size {
		return nil, ntstatus.InvalidParameter
	}
	info, err := c.o.file.Stat(ctx)
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	out := make([]byte, size)
	id := fileID128(info.ID)
	copy(out, id[:])                    // ObjectId
	copy(out[16:], c.r.srv.cfg.GUID[:]) // BirthVolumeId
	copy(out[32:], id[:])               // BirthObjectId
	return out, ntstatus.Success
}
