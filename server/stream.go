package server

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"unicode/utf8"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Streams
//
// A file or directory may have named contents beside its own, [MS-FSCC] 2.1.5: they
// are opened, shared, cached and locked on their own (objectKey), and have no times,
// attributes, security descriptor or extended attributes but the file's. What the
// storage of a share has no streams for cannot have them here either.

// maxStreamName is the longest name of a stream in UTF-16 code units, [MS-FSCC] 2.1.5.3.
const maxStreamName = 255

// streamFile is an open stream together with the file that it belongs to, which has
// everything but the content.
type streamFile struct {
	vfs.File
	base vfs.File
}

var (
	_ vfs.Xattrer        = (*streamFile)(nil)
	_ vfs.SecurityHolder = (*streamFile)(nil)
)

// Stat implements vfs.File: a stream is a file, whatever it belongs to.
func (f *streamFile) Stat(ctx context.Context) (vfs.Info, error) {
	info, err := f.File.Stat(ctx)
	info.Mode &^= fs.ModeType
	info.Attributes &^= vfs.AttrSparse
	return info, err
}

// Close implements vfs.File.
func (f *streamFile) Close() error {
	return errors.Join(f.File.Close(), f.base.Close())
}

// Xattr implements vfs.Xattrer.
func (f *streamFile) Xattr(ctx context.Context, name string) ([]byte, error) {
	if x, ok := f.base.(vfs.Xattrer); ok {
		return x.Xattr(ctx, name)
	}
	return nil, vfs.ErrNotSupported
}

// SetXattr implements vfs.Xattrer.
func (f *streamFile) SetXattr(ctx context.Context, name string, value []byte) error {
	if x, ok := f.base.(vfs.Xattrer); ok {
		return x.SetXattr(ctx, name, value)
	}
	return vfs.ErrNotSupported
}

// RemoveXattr implements vfs.Xattrer.
func (f *streamFile) RemoveXattr(ctx context.Context, name string) error {
	if x, ok := f.base.(vfs.Xattrer); ok {
		return x.RemoveXattr(ctx, name)
	}
	return vfs.ErrNotSupported
}

// ListXattr implements vfs.Xattrer.
func (f *streamFile) ListXattr(ctx context.Context) ([]string, error) {
	if x, ok := f.base.(vfs.Xattrer); ok {
		return x.ListXattr(ctx)
	}
	return nil, vfs.ErrNotSupported
}

// SecurityRecord implements vfs.SecurityHolder.
func (f *streamFile) SecurityRecord(ctx context.Context) ([]byte, error) {
	if h, ok := f.base.(vfs.SecurityHolder); ok {
		return h.SecurityRecord(ctx)
	}
	return nil, vfs.ErrNotSupported
}

// SetSecurityRecord implements vfs.SecurityHolder.
func (f *streamFile) SetSecurityRecord(ctx context.Context, record []byte) error {
	if h, ok := f.base.(vfs.SecurityHolder); ok {
		return h.SetSecurityRecord(ctx, record)
	}
	return vfs.ErrNotSupported
}

// object is the file or directory itself, for an open of one of its streams too.
func (o *open) object() vfs.File {
	if f, ok := o.file.(*streamFile); ok {
		return f.base
	}
	return o.file
}

// isStream reports whether a named stream is open.
func (o *open) isStream() bool {
	_, ok := o.file.(*streamFile)
	return ok
}

// streams is the open's file as one that may have streams; false where the share has
// none.
func (o *open) streams() (vfs.StreamHolder, bool) {
	if o.isPipe || o.tree.share.NoStreams {
		return nil, false
	}
	h, ok := o.object().(vfs.StreamHolder)
	return h, ok
}

// openStream opens or creates a stream, and with it the file if that is missing and
// the disposition creates.
func (c *creation) openStream(ctx context.Context, o *open) (vfs.Action, string, ntstatus.Status) {
	opts := vfs.OpenOptions{
		NoFollow:   c.req.CreateOptions&smb2.FileOpenReparsePoint != 0,
		Attributes: c.attrs,
		Perm:       o.tree.share.filePerm(0o666),
	}
	if c.creates() && !o.tree.readOnly() {
		opts.Disposition = vfs.OpenOrCreate
	}
	if st := c.prepareParent(ctx, o, &opts); st != ntstatus.Success {
		return 0, "", st
	}
	base, res, err := o.fs.Open(ctx, c.name.path, opts)
	if err != nil {
		st := c.openError(ctx, o, err)
		if st == ntstatus.ObjectNameNotFound && c.mayNotCreate {
			st = ntstatus.AccessDenied
		}
		return 0, "", st
	}
	if o.vetoed(ctx, base) {
		_ = base.Close()
		return 0, "", ntstatus.ObjectNameNotFound
	}
	c.streamOnly = res.Action != vfs.Created
	if c.streamOnly {
		if st := c.authorizeStream(ctx, o, base, res.Name); st != ntstatus.Success {
			_ = base.Close()
			return 0, "", st
		}
	}
	action, st := c.openStreamOf(ctx, o, base)
	if st != ntstatus.Success {
		if res.Action == vfs.Created {
			if info, err := base.Stat(ctx); err == nil {
				_ = o.fs.RemoveIf(context.WithoutCancel(ctx), res.Name, info.ID)
			}
		}
		_ = base.Close()
	}
	return action, res.Name, st
}

// openStreamOf opens the stream of a file, which is the open's if it succeeds.
func (c *creation) openStreamOf(ctx context.Context, o *open, base vfs.File) (vfs.Action, ntstatus.Status) {
	h, ok := base.(vfs.StreamHolder)
	if !ok {
		return 0, c.noStreams()
	}
	opts := vfs.OpenOptions{WriteThrough: c.req.CreateOptions&smb2.FileWriteThrough != 0}
	switch {
	case c.req.CreateDisposition == smb2.FileCreate:
		opts.Disposition = vfs.CreateNew
	case c.creates() && !o.tree.readOnly() && !(c.streamOnly && c.mayNotCreate):
		opts.Disposition = vfs.OpenOrCreate
	}
	access := c.access
	if c.maximum {
		access |= o.tree.rights()
	}
	if access&needsRead != 0 {
		opts.Access |= vfs.AccessRead
	}
	if (access|c.need)&needsWrite != 0 || c.overwrites() {
		opts.Access |= vfs.AccessWrite
	}
	if o.snapshot {
		opts.Access &^= vfs.AccessWrite
	}
	f, res, err := h.OpenStream(ctx, c.name.stream, opts)
	if errors.Is(err, fs.ErrPermission) && c.maximum && !c.creates() && (c.access|c.need)&needsWrite == 0 && !c.overwrites() {
		opts.Access, access = vfs.AccessRead, access&^needsWrite
		f, res, err = h.OpenStream(ctx, c.name.stream, opts)
	}
	switch {
	case err == nil:
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENAMETOOLONG):
		return 0, c.noStreams()
	case errors.Is(err, syscall.EEXIST):
		return 0, ntstatus.ObjectNameCollision
	case errors.Is(err, fs.ErrNotExist) && c.streamOnly && c.mayNotCreate && c.creates():
		o.srv.denied(o, c.name.path, smb2.FileWriteData)
		return 0, ntstatus.AccessDenied
	case errors.Is(err, fs.ErrNotExist):
		return 0, ntstatus.ObjectNameNotFound
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return 0, ntstatus.DiskFull
	default:
		return 0, ntstatus.FromError(err)
	}
	o.file, o.access, o.stream = &streamFile{f, base}, access, res.Name
	c.setFile(o, opts)
	return res.Action, ntstatus.Success
}

// noStreams is the status where the storage has no place for the stream.
func (c *creation) noStreams() ntstatus.Status {
	if c.creates() {
		return ntstatus.ObjectNameInvalid
	}
	return ntstatus.ObjectNameNotFound
}

// dropStreams removes the streams of a file that is being overwritten, [MS-FSA]
// 2.1.5.1.2.1: they go with the old content.
func (o *open) dropStreams(ctx context.Context) error {
	h, ok := o.streams()
	if !ok || o.isStream() {
		return nil
	}
	list, err := h.Streams(ctx)
	if err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			err = nil
		}
		return err
	}
	for _, s := range list {
		if err := h.RemoveStream(ctx, s.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		o.srv.notify.changed(o.fs, o.streamChange(smb2.FileActionRemovedStream, s.Name))
	}
	return nil
}

// streamInfo lists the streams, [MS-FSCC] 2.4.49. A directory has no unnamed one.
func (q *infoQuery) streamInfo(ctx context.Context) ntstatus.Status {
	const least = 32 // an entry with the shortest name and its padding
	if q.room < least {
		return ntstatus.InfoLengthMismatch
	}
	info, err := q.o.object().Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	list := smb2.NewEntryList(q.r.out, q.room)
	fits := true
	if !info.IsDir() {
		fits = list.AppendStream(smb2.FileStreamInformation{
			StreamName: "::$DATA", StreamSize: uint64(info.Size), StreamAllocationSize: allocationSize(&info),
		})
	}
	if h, ok := q.o.streams(); ok && fits {
		streams, err := h.Streams(ctx)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return ntstatus.FromError(err)
		}
		for _, s := range streams {
			if !shownStream(s.Name) {
				continue
			}
			size := vfs.Info{Size: s.Size, Allocated: s.Allocated}
			if fits = list.AppendStream(smb2.FileStreamInformation{
				StreamName: ":" + s.Name + ":$DATA", StreamSize: uint64(s.Size), StreamAllocationSize: allocationSize(&size),
			}); !fits {
				break
			}
		}
	}
	q.r.out = list.Bytes()
	if !fits {
		return ntstatus.BufferOverflow
	}
	return ntstatus.Success
}

// shownStream reports whether clients could open a stream by this name.
func shownStream(name string) bool {
	return utf8.ValidString(name) && smb2.UTF16Len(name) <= 2*maxStreamName
}

// renameStream gives the open's stream another name, [MS-FSA] 2.1.5.15.11: name is
// ":NEW" or ":NEW:$DATA"; "::$DATA" makes its content the file's own.
func (o *open) renameStream(ctx context.Context, name string, replace bool) ntstatus.Status {
	if name == "" || name[0] != ':' {
		return ntstatus.SharingViolation // the file is in use: this stream of it is open
	}
	var n wireName
	if st := n.parseStream(name[1:]); st != ntstatus.Success {
		return st
	}
	if n.dirStream {
		return ntstatus.ObjectNameInvalid
	}
	h, ok := o.streams()
	if !ok || o.tree.readOnly() {
		return ntstatus.AccessDenied
	}
	if o.deletePending() {
		return ntstatus.AccessDenied
	}
	if n.stream == "" {
		return o.becomeUnnamed(ctx, h, replace)
	}
	t := &o.srv.files
	from, claim, st := t.claimStream(o, n.stream)
	switch {
	case st != ntstatus.Success && !replace:
		return ntstatus.ObjectNameCollision
	case st != ntstatus.Success:
		return st
	}
	if err := h.RenameStream(ctx, from, n.stream, replace); err != nil {
		t.unclaimStream(claim)
		return streamError(err)
	}
	t.renamedStream(o.state, claim, n.stream)
	o.srv.notify.changed(o.fs, o.streamChange(smb2.FileActionRemovedStream, from), o.streamChange(smb2.FileActionAddedStream, n.stream))
	return ntstatus.Success
}

// streamChange is that a stream of the open's file has come or gone.
func (o *open) streamChange(a smb2.NotifyAction, stream string) change {
	return change{action: a, filter: smb2.FileNotifyChangeStreamName, name: o.path(), stream: stream}
}

// becomeUnnamed puts the stream's content in the place of the file's, and removes
// the stream when it is there.
func (o *open) becomeUnnamed(ctx context.Context, h vfs.StreamHolder, replace bool) ntstatus.Status {
	t := &o.srv.files
	base := objectKey{id: o.state.key.id}
	switch {
	case !replace:
		return ntstatus.ObjectNameCollision
	case t.isKeyOpen(base):
		return ntstatus.AccessDenied
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	src, _, err := h.OpenStream(ctx, t.streamOf(o), vfs.OpenOptions{Access: vfs.AccessRead})
	if err != nil {
		return streamError(err)
	}
	defer src.Close()
	dst, _, err := o.fs.Open(ctx, o.path(), vfs.OpenOptions{Access: vfs.AccessWrite, Kind: vfs.KindFile})
	if err != nil {
		return ntstatus.FromError(err)
	}
	defer dst.Close()
	if there, err := dst.Stat(ctx); err != nil || there.ID != base.id {
		return ntstatus.AccessDenied
	}
	if err := replaceContent(ctx, dst, src, info.Size); err != nil {
		return ntstatus.FromError(err)
	}
	stream := t.streamOf(o)
	if err := h.RemoveStream(ctx, stream); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return streamError(err)
	}
	o.srv.notify.changed(o.fs, o.streamChange(smb2.FileActionRemovedStream, stream),
		change{action: smb2.FileActionModified, filter: contentChange, name: o.path()})
	o.changedIn(ctx)
	return ntstatus.Success
}

// replaceContent makes the size bytes of src all that dst holds.
func replaceContent(ctx context.Context, dst, src vfs.File, size int64) error {
	buf := make([]byte, min(size, copyMaxChunkSize))
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := src.ReadAt(buf[:min(size-off, int64(len(buf)))], off)
		if n == 0 && err != nil {
			return err
		}
		if _, err := dst.WriteAt(buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return dst.Truncate(ctx, size)
}

// streamError is the status of a change of a stream's name that failed.
func streamError(err error) ntstatus.Status {
	switch {
	case errors.Is(err, syscall.EEXIST):
		return ntstatus.ObjectNameCollision
	case errors.Is(err, fs.ErrNotExist):
		return ntstatus.ObjectNameNotFound
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENAMETOOLONG):
		return ntstatus.ObjectNameInvalid
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ntstatus.DiskFull
	}
	return ntstatus.FromError(err)
}

// streamOf is the name of the open's stream, as renames have changed it since.
func (t *openTable) streamOf(o *open) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return o.stream
}

// wirePath is the name in the share as clients spell it, with the stream.
func (o *open) wirePath() string {
	t := &o.srv.files
	t.mu.Lock()
	name, stream := o.name, o.stream
	t.mu.Unlock()
	if stream != "" {
		return toWirePath(name) + ":" + stream
	}
	return toWirePath(name)
}

// isKeyOpen reports whether anybody has just this object or stream open.
func (t *openTable) isKeyOpen(key objectKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.files[key]
	return st != nil && len(st.opens) > 0
}

// streamsOpen reports whether anybody has a named stream of the object open.
func (t *openTable) streamsOpen(id vfs.FileID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range t.streams[id] {
		if len(st.opens) > 0 {
			return true
		}
	}
	return false
}

// streamsForbidDeleteLocked reports whether somebody has a stream of the object open
// who does not share its deletion: the object would take the stream along.
func (t *openTable) streamsForbidDeleteLocked(id vfs.FileID) bool {
	for _, st := range t.streams[id] {
		for _, p := range st.opens {
			if p.access&sharesAny != 0 && p.shareAccess&smb2.FileShareDelete == 0 {
				return true
			}
		}
	}
	return false
}

// claimStream makes room for the open's stream to be renamed: nobody else opens the new
// name until renamedStream or unclaimStream. claim is nil where only the spelling is to
// change. A stream that is open is not replaced.
func (t *openTable) claimStream(o *open, name string) (from string, claim *fileState, st ntstatus.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := objectKey{o.state.key.id, foldName(name)}
	if key == o.state.key {
		return o.stream, nil, ntstatus.Success
	}
	if t.files[key] != nil {
		return "", nil, ntstatus.AccessDenied
	}
	claim = t.addLocked(key)
	claim.pending, claim.gone = &deletion{fs: o.fs, name: o.name, stream: name}, true
	return o.stream, claim, ntstatus.Success
}

// unclaimStream takes a claim back.
func (t *openTable) unclaimStream(claim *fileState) {
	if claim == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocked(claim)
	claim.wakeLocked()
}

// renamedStream makes st the stream that was claimed, after the file system has done so.
func (t *openTable) renamedStream(st, claim *fileState, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	for _, p := range st.opens {
		p.stream = name
	}
	if st.pending != nil {
		st.pending.stream = name
	}
	if claim == nil {
		return
	}
	t.dropLocked(claim)
	claim.wakeLocked()
	delete(t.files, st.key)
	st.key.stream = claim.key.stream // the id is read without the lock
	t.files[st.key] = st
}

// key names what is open, as renames of a stream have changed it since.
func (o *open) key() objectKey {
	t := &o.srv.files
	t.mu.Lock()
	defer t.mu.Unlock()
	return o.state.key
}
