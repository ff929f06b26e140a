package server

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// setInfo serves SET_INFO, [MS-SMB2] 3.3.5.21.
func setInfo(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseSetInfoRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(req.FileID)
	if st != ntstatus.Success {
		return st
	}
	defer o.release()
	if len(req.Buffer) > r.conn.maxTransact {
		return ntstatus.InvalidParameter
	}
	if st := r.awaitSetInfo(ctx, o, &req); st != ntstatus.Success {
		return st
	}
	if o.snapshot && (req.InfoType != smb2.InfoFile || !isOfHandle(smb2.FileInfoClass(req.FileInfoClass))) {
		return ntstatus.MediaWriteProtected
	}
	if r.tree.readOnly() && !o.isPipe && (req.InfoType != smb2.InfoFile || !isOfHandle(smb2.FileInfoClass(req.FileInfoClass))) {
		// Whatever the open was granted before.
		return r.tree.refuseChange(o.path(), 0, ntstatus.AccessDenied)
	}
	switch req.InfoType {
	case smb2.InfoFile:
		st = o.setFileInfo(ctx, smb2.FileInfoClass(req.FileInfoClass), req.Buffer)
	case smb2.InfoFilesystem:
		st = setFsInfo(smb2.FsInfoClass(req.FileInfoClass))
	case smb2.InfoSecurity:
		st = o.setSecurityInfo(ctx, req.Buffer, smb2.SecurityInformation(req.AdditionalInformation))
	case smb2.InfoQuota:
		st = ntstatus.NotSupported
	default:
		st = ntstatus.InvalidParameter
	}
	if st != ntstatus.Success {
		return st
	}
	o.infoSet(&req)
	if o.isListed(&req) {
		o.changedIn(ctx)
	}
	r.out, err = (&smb2.SetInfoResponse{}).AppendBinary(r.out)
	return r.appended(err)
}

// isOfHandle reports whether a class changes the open alone, not the file.
func isOfHandle(class smb2.FileInfoClass) bool {
	return class == smb2.ClassFilePositionInformation || class == smb2.ClassFileModeInformation
}

// setFsInfo refuses everything: the storage is not the clients' to configure.
func setFsInfo(class smb2.FsInfoClass) ntstatus.Status {
	switch class {
	case smb2.ClassFileFsControlInformation, smb2.ClassFileFsObjectIDInformation, smb2.ClassFileFsLabelInformation:
		return ntstatus.NotSupported
	}
	return ntstatus.InvalidInfoClass
}

// setNeeds is the right that a class needs, 3.3.5.21.1; 0 where it is checked
// later or not at all.
func setNeeds(class smb2.FileInfoClass) smb2.AccessMask {
	switch class {
	case smb2.ClassFileBasicInformation:
		return smb2.FileWriteAttributes
	case smb2.ClassFileRenameInformation, smb2.ClassFileRenameInformationEx,
		smb2.ClassFileDispositionInformation, smb2.ClassFileDispositionInformationEx, smb2.ClassFileShortNameInformation:
		return smb2.Delete
	case smb2.ClassFileFullEaInformation:
		return smb2.FileWriteEA
	case smb2.ClassFileAllocationInformation, smb2.ClassFileEndOfFileInformation, smb2.ClassFileValidDataLengthInformation:
		return smb2.FileWriteData
	}
	return 0
}

// setFileInfo is SMB2_0_INFO_FILE, 3.3.5.21.1.
func (o *open) setFileInfo(ctx context.Context, class smb2.FileInfoClass, b []byte) ntstatus.Status {
	if o.isPipe {
		if class == smb2.ClassFilePipeInformation {
			m, err := smb2.ParseFilePipeInformation(b)
			if err != nil {
				return ntstatus.InfoLengthMismatch
			}
			if m.ReadMode > 1 || m.CompletionMode > 1 {
				return ntstatus.InvalidParameter
			}
			return ntstatus.Success // reading is in message mode always
		}
		return ntstatus.NotSupported
	}
	if need := setNeeds(class); o.access&need != need {
		return ntstatus.AccessDenied
	}
	switch class {
	case smb2.ClassFileBasicInformation:
		return o.setBasic(ctx, b)
	case smb2.ClassFileEndOfFileInformation:
		return o.setEndOfFile(ctx, b)
	case smb2.ClassFileAllocationInformation:
		return o.setAllocation(ctx, b)
	case smb2.ClassFileValidDataLengthInformation:
		return o.setValidDataLength(ctx, b)
	case smb2.ClassFileDispositionInformation:
		m, err := smb2.ParseFileDispositionInformation(b)
		if err != nil {
			return ntstatus.InfoLengthMismatch
		}
		return o.setDisposition(ctx, m.DeletePending, false)
	case smb2.ClassFileDispositionInformationEx:
		return o.setDispositionEx(ctx, b)
	case smb2.ClassFileRenameInformation:
		m, err := smb2.ParseFileRenameInformation(b)
		if err != nil || len(b) < 24 {
			return ntstatus.InfoLengthMismatch
		}
		return o.rename(ctx, m.FileName, m.RootDirectory, m.ReplaceIfExists, false)
	case smb2.ClassFileRenameInformationEx:
		m, err := smb2.ParseFileRenameInformationEx(b)
		if err != nil {
			return ntstatus.InfoLengthMismatch
		}
		return o.rename(ctx, m.FileName, m.RootDirectory, m.Flags&smb2.RenameReplaceIfExists != 0,
			m.Flags&smb2.RenamePosixSemantics != 0)
	case smb2.ClassFileLinkInformation, smb2.ClassFileLinkInformationEx:
		// The flags of the Ex form begin with the bit that is ReplaceIfExists.
		m, err := smb2.ParseFileLinkInformation(b)
		if err != nil {
			return ntstatus.InfoLengthMismatch
		}
		return o.link(ctx, m.FileName, m.RootDirectory, m.ReplaceIfExists)
	case smb2.ClassFilePositionInformation:
		m, err := smb2.ParseFilePositionInformation(b)
		if err != nil {
			return ntstatus.InfoLengthMismatch
		}
		if m.CurrentByteOffset < 0 {
			return ntstatus.InvalidParameter
		}
		o.pos.Store(m.CurrentByteOffset)
		return ntstatus.Success
	case smb2.ClassFileModeInformation:
		m, err := smb2.ParseFileModeInformation(b)
		if err != nil {
			return ntstatus.InfoLengthMismatch
		}
		const may = smb2.FileWriteThrough | smb2.FileSequentialOnly | smb2.FileSynchronousIOAlert | smb2.FileSynchronousIONonalert
		const sync = smb2.FileSynchronousIOAlert | smb2.FileSynchronousIONonalert
		if m.Mode&^may != 0 || m.Mode&sync == sync { // [MS-FSA] 2.1.5.15.8
			return ntstatus.InvalidParameter
		}
		o.mode.Store(uint32(m.Mode))
		return ntstatus.Success
	case smb2.ClassFileFullEaInformation:
		return o.setEA(ctx, b)
	case smb2.ClassFileShortNameInformation, smb2.ClassFileObjectIDInformation, smb2.ClassFileQuotaInformation:
		return ntstatus.NotSupported
	}
	return ntstatus.InvalidInfoClass
}

// setBasic sets times and attributes, [MS-FSA] 2.1.5.15.2. Of the times, 0 leaves
// one as it is, -1 keeps it from following this open's operations and -2 ends
// that. A change time is kept apart from the file, see changeTimes.
func (o *open) setBasic(ctx context.Context, b []byte) ntstatus.Status {
	m, err := smb2.ParseFileBasicInformation(b)
	if err != nil {
		return ntstatus.InfoLengthMismatch
	}
	for _, t := range []smb2.Filetime{m.CreationTime, m.LastAccessTime, m.LastWriteTime, m.ChangeTime} {
		if t > smb2.FiletimeMax && t < smb2.FiletimeResume {
			return ntstatus.InvalidParameter
		}
	}
	var a vfs.SetAttr
	if at := m.FileAttributes; at != 0 {
		switch {
		case at&smb2.FileAttributeDirectory != 0 && !o.isDir, at&smb2.FileAttributeTemporary != 0 && o.isDir:
			return ntstatus.InvalidParameter
		}
		a.Set |= vfs.SetAttributes
		a.Attributes = vfs.Attributes(at) & vfs.AttrMask
	}
	if m.CreationTime.IsSet() {
		a.Set |= vfs.SetBirthTime
		a.BirthTime = m.CreationTime.Time()
	}
	if m.LastAccessTime.IsSet() {
		a.Set |= vfs.SetAccessTime
		a.AccessTime = m.LastAccessTime.Time()
	}
	if m.LastWriteTime.IsSet() {
		a.Set |= vfs.SetWriteTime
		a.WriteTime = m.LastWriteTime.Time()
	}
	if a.Set != 0 {
		if err := o.file.SetAttr(ctx, a); err != nil {
			return ntstatus.FromError(err)
		}
	}
	if st := o.pinTimes(ctx, &m); st != ntstatus.Success {
		return st
	}
	o.flushTimes(ctx)
	return ntstatus.Success
}

// pinTimes keeps a write or change time that was set, or is not to change, from
// following what is done through this open.
func (o *open) pinTimes(ctx context.Context, m *smb2.FileBasicInformation) ntstatus.Status {
	var info vfs.Info
	if m.LastWriteTime == smb2.FiletimeNoChange || m.ChangeTime == smb2.FiletimeNoChange {
		var err error
		if info, err = o.stat(ctx); err != nil {
			return ntstatus.FromError(err)
		}
	}
	pin := func(sticky *bool, at *time.Time, asked smb2.Filetime, is time.Time) {
		switch {
		case asked == smb2.FiletimeNone:
		case asked == smb2.FiletimeNoChange:
			*sticky, *at = true, is
		case asked.IsSet():
			*sticky, *at = true, asked.Time()
		default:
			*sticky = false
		}
	}
	t := &o.times
	t.mu.Lock()
	pin(&t.stickyWrite, &t.write, m.LastWriteTime, info.WriteTime)
	pin(&t.stickyChange, &t.change, m.ChangeTime, info.ChangeTime)
	if m.LastWriteTime.IsSet() {
		t.dirty = false
	}
	dirty, sticky, at := t.dirty, t.stickyChange, t.change
	t.mu.Unlock()
	switch {
	case m.LastWriteTime.IsSet():
		o.state.written.show()
	case m.LastWriteTime == smb2.FiletimeNoChange && dirty:
		o.state.written.hold(info.WriteTime)
	}
	if sticky {
		o.keepChangeTime(ctx, at)
	}
	return ntstatus.Success
}

// setEndOfFile changes the size, [MS-FSA] 2.1.5.15.5.
func (o *open) setEndOfFile(ctx context.Context, b []byte) ntstatus.Status {
	m, err := smb2.ParseFileEndOfFileInformation(b)
	if err != nil {
		return ntstatus.InfoLengthMismatch
	}
	if m.EndOfFile < 0 || o.isDir {
		return ntstatus.InvalidParameter
	}
	return o.truncate(ctx, m.EndOfFile)
}

func (o *open) truncate(ctx context.Context, size int64) ntstatus.Status {
	info, err := o.file.Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	// What lies between the sizes changes, and must not be locked by others.
	low, high := min(info.Size, size), max(info.Size, size)
	if o.lockConflict(uint64(low), uint64(high-low), true) {
		return ntstatus.FileLockConflict
	}
	o.breakReaders()
	defer o.breakReaders()
	if err := o.file.Truncate(ctx, size); err != nil {
		if errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.EINVAL) {
			return ntstatus.InvalidParameter
		}
		return ntstatus.FromError(err)
	}
	o.touched()
	o.flushTimes(ctx)
	return ntstatus.Success
}

// setAllocation changes the storage reserved, [MS-FSA] 2.1.5.15.1: below the size
// it cuts the file.
func (o *open) setAllocation(ctx context.Context, b []byte) ntstatus.Status {
	m, err := smb2.ParseFileAllocationInformation(b)
	if err != nil {
		return ntstatus.InfoLengthMismatch
	}
	if m.AllocationSize < 0 || o.isDir {
		return ntstatus.InvalidParameter
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if m.AllocationSize < info.Size {
		return o.truncate(ctx, m.AllocationSize)
	}
	return o.allocate(ctx, uint64(m.AllocationSize))
}

// allocate reserves storage, where the backend can. That it cannot is no error:
// the reservation is a hint then.
func (o *open) allocate(ctx context.Context, size uint64) ntstatus.Status {
	if size > math.MaxInt64 {
		return ntstatus.DiskFull
	}
	a, ok := o.file.(vfs.Allocator)
	if !ok || size == 0 {
		return ntstatus.Success
	}
	o.breakReaders()
	err := a.Allocate(ctx, 0, int64(size), true)
	switch {
	case err == nil, errors.Is(err, errors.ErrUnsupported):
		return ntstatus.Success
	case errors.Is(err, syscall.EFBIG):
		return ntstatus.DiskFull
	}
	return ntstatus.FromError(err)
}

// setValidDataLength is [MS-FSA] 2.1.5.15.14. What has not been written reads as
// zeros here, so there is nothing to make valid; only the arguments are checked.
func (o *open) setValidDataLength(ctx context.Context, b []byte) ntstatus.Status {
	m, err := smb2.ParseFileValidDataLengthInformation(b)
	if err != nil {
		return ntstatus.InfoLengthMismatch
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if m.ValidDataLength < 0 || m.ValidDataLength > info.Size || o.isDir {
		return ntstatus.InvalidParameter
	}
	return ntstatus.Success
}

// setDisposition marks the file for deletion or takes that back, [MS-FSA]
// 2.1.5.15.3.
func (o *open) setDisposition(ctx context.Context, del, ignoreReadOnly bool) ntstatus.Status {
	t := &o.srv.files
	if !del {
		t.setDelete(o, false)
		return ntstatus.Success
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if info.Attributes&vfs.AttrReadOnly != 0 && !ignoreReadOnly || o.path() == vfs.Root && !o.isStream() {
		return ntstatus.CannotDelete
	}
	if o.isDir {
		if st := o.isEmpty(ctx); st != ntstatus.Success {
			return st
		}
	}
	if t.setDelete(o, true) && o.isDir {
		t.wakeWatches(o.state)
	}
	return ntstatus.Success
}

// setDispositionEx is [MS-FSA] 2.1.5.15.4. POSIX semantics would remove the name
// at once; here it goes with the last open, as without the flag.
func (o *open) setDispositionEx(ctx context.Context, b []byte) ntstatus.Status {
	m, err := smb2.ParseFileDispositionInformationEx(b)
	if err != nil {
		return ntstatus.InfoLengthMismatch
	}
	del := m.Flags&smb2.DispositionDelete != 0
	if m.Flags&smb2.DispositionOnClose != 0 {
		if o.options&smb2.FileDeleteOnClose == 0 && !del {
			return ntstatus.NotSupported // [MS-FSA]: only for opens that asked for it
		}
		if !del {
			o.srv.files.mu.Lock()
			o.deleteOnClose = false
			o.srv.files.mu.Unlock()
			return ntstatus.Success
		}
	}
	return o.setDisposition(ctx, del, m.Flags&smb2.DispositionIgnoreReadonlyAttribute != 0)
}

// isEmpty looks for an entry in the directory.
func (o *open) isEmpty(ctx context.Context) ntstatus.Status {
	d := o.dir
	if d == nil {
		f, _, err := o.fs.Open(ctx, o.path(), vfs.OpenOptions{Access: vfs.AccessRead, Kind: vfs.KindDir, NoFollow: o.isLink})
		if err != nil {
			return ntstatus.FromError(err)
		}
		defer f.Close()
		var ok bool
		if d, ok = f.(vfs.Dir); !ok {
			return ntstatus.Success // removal will tell
		}
	}
	var e [1]vfs.DirEntry
	n, err := d.ReadDir(ctx, vfs.CursorStart, e[:])
	switch {
	case n > 0:
		return ntstatus.DirectoryNotEmpty
	case err == nil, isEOF(err):
		return ntstatus.Success
	}
	return ntstatus.FromError(err)
}

// target checks and translates the new name of a rename or link request.
func (o *open) target(name string, root uint64) (string, ntstatus.Status) {
	if root != 0 {
		return "", ntstatus.InvalidParameter
	}
	n, st := parseName(smb2.EncodeUTF16(name), true)
	if o.posix {
		n, st = posixName(smb2.EncodeUTF16(name))
	}
	switch {
	case st != ntstatus.Success:
		return "", st
	case n.hasStream():
		return "", ntstatus.ObjectNameInvalid
	case n.path == vfs.Root, n.slash && !o.isDir:
		return "", ntstatus.ObjectNameInvalid
	}
	return n.path, ntstatus.Success
}

// rename moves the file, [MS-FSA] 2.1.5.15.11.
func (o *open) rename(ctx context.Context, name string, root uint64, replace, posix bool) ntstatus.Status {
	if o.isStream() && root == 0 {
		return o.renameStream(ctx, name, replace)
	}
	to, st := o.target(name, root)
	if st != ntstatus.Success {
		return st
	}
	to = o.longDir(ctx, to)
	if st := o.tree.share.vetoed(to); st != ntstatus.Success {
		return st
	}
	t := &o.srv.files
	from := o.path()
	switch {
	case from == vfs.Root:
		return ntstatus.AccessDenied
	case from == to:
		return ntstatus.Success
	case o.isDir && t.openBeneath(o), t.streamsOpen(o.state.key.id):
		return ntstatus.AccessDenied
	}
	if st := o.checkParents(ctx, to); st != ntstatus.Success {
		return st
	}
	if st := o.mayAdd(ctx, to, o.isDir); st != ntstatus.Success {
		return st
	}
	if st := o.checkReplace(ctx, from, to, &replace, posix || o.posix); st != ntstatus.Success {
		return st
	}
	if st := o.checkTargetDir(ctx, to); st != ntstatus.Success {
		return st
	}
	if err := o.fs.Rename(ctx, from, to, replace); err != nil {
		return o.renameError(ctx, to, err)
	}
	t.renamed(o.fs, from, to)
	o.srv.notify.renamed(o.fs, from, to, o.isDir)
	o.srv.changedIn(ctx, o.fs, from, o)
	o.srv.changedIn(ctx, o.fs, to, o)
	return ntstatus.Success
}

// checkParents refuses to move something into a directory that is to be deleted.
func (o *open) checkParents(ctx context.Context, to string) ntstatus.Status {
	if o.srv.files.pendingDirs.Load() == 0 {
		return ntstatus.Success
	}
	dir, _ := vfs.Split(to)
	if info, err := o.fs.Stat(ctx, dir); err == nil && o.srv.files.isPending(info.ID, o.fs, dir) {
		return ntstatus.DeletePending
	}
	return ntstatus.Success
}

// checkTargetDir refuses to move something into a directory that somebody has
// open in a way that does not go with it: Windows opens the directory for adding a
// file, and shares that with readers and writers only.
func (o *open) checkTargetDir(ctx context.Context, to string) ntstatus.Status {
	dir, _ := vfs.Split(to)
	info, err := o.fs.Stat(ctx, dir)
	if err != nil {
		return ntstatus.Success // Rename says what is wrong
	}
	if o.srv.files.conflicts(info.ID, smb2.FileWriteData, smb2.FileShareRead|smb2.FileShareWrite) {
		return ntstatus.SharingViolation
	}
	return ntstatus.Success
}

// checkReplace looks at what has the new name. The file system makes the final
// decision; here are the rules it does not know: what is open, a directory, or
// read-only is not replaced. A new name that is the file itself (another spelling
// of the name, where case does not matter) replaces nothing.
func (o *open) checkReplace(ctx context.Context, from, to string, replace *bool, posix bool) ntstatus.Status {
	there, err := o.fs.Lstat(ctx, to)
	if err != nil {
		return ntstatus.Success // nothing there, or Rename says what is wrong
	}
	if own, err := o.fs.Lstat(ctx, from); err == nil && own.ID == there.ID {
		*replace = false
		return ntstatus.Success
	}
	switch {
	case !*replace:
		return ntstatus.ObjectNameCollision
	case there.IsDir() && !posix, there.IsDir() != o.isDir:
		return ntstatus.AccessDenied
	case there.Attributes&vfs.AttrReadOnly != 0:
		return ntstatus.AccessDenied
	case o.srv.files.isOpen(there.ID) && !posix, o.posix && o.srv.files.openWithoutPosix(there.ID):
		return ntstatus.AccessDenied
	}
	return o.mayRemove(ctx, to)
}

// renameError is the status of a Rename or Link that failed.
func (o *open) renameError(ctx context.Context, to string, err error) ntstatus.Status {
	switch {
	case errors.Is(err, syscall.EXDEV):
		return ntstatus.NotSameDevice
	case errors.Is(err, syscall.EINVAL):
		return ntstatus.AccessDenied // a directory into itself
	case errors.Is(err, fs.ErrNotExist):
		if st := nameError(ctx, o.fs, to, err); st == ntstatus.ObjectPathNotFound {
			return st
		}
		return ntstatus.ObjectNameNotFound
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENOTEMPTY):
		if st := nameError(ctx, o.fs, to, err); st == ntstatus.ObjectPathNotFound {
			return st
		}
		return ntstatus.AccessDenied
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return ntstatus.AccessDenied
	}
	return ntstatus.FromError(err)
}

// link makes another name for the file, [MS-FSA] 2.1.5.15.7. What has the name
// already goes only when the link is there to take its place.
func (o *open) link(ctx context.Context, name string, root uint64, replace bool) ntstatus.Status {
	if o.isDir {
		return ntstatus.FileIsADirectory
	}
	if o.tree.readOnly() {
		return ntstatus.AccessDenied
	}
	linker, ok := o.fs.(vfs.Linker)
	if !ok {
		return ntstatus.NotSupported
	}
	to, st := o.target(name, root)
	if st != ntstatus.Success {
		return st
	}
	to = o.longDir(ctx, to)
	if st := o.tree.share.vetoed(to); st != ntstatus.Success {
		return st
	}
	from := o.path()
	if from == to {
		if replace {
			return ntstatus.Success
		}
		return ntstatus.ObjectNameCollision
	}
	if o.deletePending() {
		return ntstatus.AccessDenied
	}
	if st := o.checkParents(ctx, to); st != ntstatus.Success {
		return st
	}
	if st := o.mayAdd(ctx, to, false); st != ntstatus.Success {
		return st
	}
	if there, err := o.fs.Lstat(ctx, to); err == nil {
		if there.ID == o.state.key.id {
			if replace {
				return ntstatus.Success
			}
			return ntstatus.ObjectNameCollision
		}
		if st := o.checkReplace(ctx, from, to, &replace, false); st != ntstatus.Success {
			return st
		}
		if err := o.linkOver(ctx, linker, from, to); err != nil {
			return o.renameError(ctx, to, err)
		}
		o.srv.files.changed()
	} else if err := linker.Link(ctx, from, to); err != nil {
		return o.renameError(ctx, to, err)
	}
	o.severalNames()
	o.srv.notify.changed(o.fs, change{action: smb2.FileActionAdded, filter: smb2.FileNotifyChangeFileName, name: to})
	o.srv.changedIn(ctx, o.fs, to, o)
	return ntstatus.Success
}

// linkOver links to a name of its own first, which is then renamed over the one that
// is taken: a link that cannot be made costs nobody a file.
func (o *open) linkOver(ctx context.Context, linker vfs.Linker, from, to string) error {
	ctx = context.WithoutCancel(ctx) // both steps or none
	dir, _ := vfs.Split(to)
	between := nameBetween(dir)
	if err := linker.Link(ctx, from, between); err != nil {
		return err
	}
	err := o.fs.Rename(ctx, between, to, true)
	if err != nil {
		_ = o.fs.Remove(ctx, between, vfs.KindFile)
	}
	return err
}
