package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// scanBatch is how many entries are read from a directory at a time.
const scanBatch = 128

// searchState is where an open's QUERY_DIRECTORY has got to.
type searchState struct {
	// turn holds a token for whoever may use the rest: requests on one open are
	// served one after another. It stays what it is, as it is read without.
	turn chan struct{}
	scan
}

// scan is guarded by searchState.turn.
type scan struct {
	started bool
	pattern pattern
	dots    int // "." and "..": the number of them already considered
	found   bool
	cursor  vfs.Cursor // behind the entries in batch
	batch   []vfs.DirEntry
	at      int // the next entry in batch
	atEnd   bool
	index   uint32 // of the entry considered last, counted from 1 with the dots
	given   uint32 // the index of the entry given last
	skip    uint32 // entries to pass over

	// held is an entry that did not fit the last response.
	held      smb2.DirectoryEntry
	posix     smb2.FilePosixInformation // the same for clients with POSIX extensions
	hasHeld   bool
	heldName  string             // as the storage has it
	heldClass smb2.FileInfoClass // what held and posix were made for
}

func (s *searchState) init(isDir bool) {
	if isDir {
		s.turn = make(chan struct{}, 1)
		s.turn <- struct{}{}
	}
}

// restart begins a scan with a pattern from the wire.
func (s *searchState) restart(p pattern) {
	s.scan = scan{started: true, pattern: p, cursor: vfs.CursorStart, batch: s.batch[:0]}
}

// queryDirectory serves QUERY_DIRECTORY, [MS-SMB2] 3.3.5.18.
func queryDirectory(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseQueryDirectoryRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(req.FileID)
	if st != ntstatus.Success {
		return st
	}
	defer o.release()
	if !o.isDir || uint64(req.OutputBufferLength) > uint64(r.conn.maxTransact) {
		return ntstatus.InvalidParameter
	}
	if o.access&smb2.FileListDirectory == 0 || o.dir == nil {
		return ntstatus.AccessDenied
	}
	if !smb2.IsDirectoryClass(req.FileInformationClass) && !(o.posix && req.FileInformationClass == smb2.ClassFilePosixInformation) {
		return ntstatus.InvalidInfoClass
	}
	p, ok := newPattern(smb2.DecodeUTF16(req.FileName))
	if !ok {
		return ntstatus.ObjectNameInvalid
	}
	s := &o.search
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ntstatus.Cancelled
	}
	defer func() { s.turn <- struct{}{} }()
	if !s.started || req.Flags&(smb2.QueryDirectoryRestartScans|smb2.QueryDirectoryReopen) != 0 {
		if s.started && len(req.FileName) == 0 {
			p = s.pattern
		}
		s.restart(p)
	}
	if i := req.FileIndex; req.Flags&smb2.QueryDirectoryIndexSpecified != 0 && i != 0 && i != s.given {
		p, found := s.pattern, s.found
		s.restart(p)
		s.found, s.skip = found, i
	}
	return o.list(ctx, r, &req)
}

// list answers with the entries that follow, as many as fit.
func (o *open) list(ctx context.Context, r *request, req *smb2.QueryDirectoryRequest) ntstatus.Status {
	s := &o.search
	start := len(r.out)
	r.out = beginOutput(r.out)
	list := smb2.NewEntryList(r.out, min(int(req.OutputBufferLength), r.room()))
	first := !s.found
	for {
		if s.hasHeld && s.heldClass != req.FileInformationClass { // which may tell more
			var st ntstatus.Status
			if s.hasHeld, st = o.describe(ctx, s.heldName, req.FileInformationClass); st != ntstatus.Success {
				return st
			}
		}
		if !s.hasHeld {
			more, st := o.nextEntry(ctx, req.FileInformationClass)
			if st != ntstatus.Success {
				return st
			}
			if !more {
				break
			}
		}
		if req.FileInformationClass == smb2.ClassFilePosixInformation {
			s.hasHeld = !list.AppendPosixEntry(&s.posix, s.held.FileName)
		} else {
			s.hasHeld = !list.AppendDirectoryEntry(req.FileInformationClass, &s.held)
		}
		if s.hasHeld {
			if list.Count() == 0 {
				return ntstatus.InfoLengthMismatch
			}
			break
		}
		s.found, s.given = true, s.held.FileIndex
		if req.Flags&smb2.QueryDirectoryReturnSingleEntry != 0 {
			break
		}
	}
	if list.Count() == 0 {
		if first {
			return ntstatus.NoSuchFile
		}
		return ntstatus.NoMoreFiles
	}
	r.out = endOutput(list.Bytes(), start)
	return ntstatus.Success
}

// nextEntry puts the next entry that matches into s.held; false at the end.
func (o *open) nextEntry(ctx context.Context, class smb2.FileInfoClass) (bool, ntstatus.Status) {
	s := &o.search
	for s.dots < 2 {
		s.dots++
		name := ".."[:s.dots]
		if !s.next() || !s.pattern.match(name) {
			continue
		}
		return o.describe(ctx, name, class)
	}
	for {
		if s.at == len(s.batch) {
			if more, err := s.fill(ctx, o.dir); err != nil {
				return false, ntstatus.FromError(err)
			} else if !more {
				return false, ntstatus.Success
			}
		}
		e := &s.batch[s.at]
		s.at++
		if !s.next() {
			continue
		}
		if !s.pattern.match(toWire(e.Name)) || matchesAny(o.tree.share.VetoFiles, e.Name) {
			continue
		}
		if o.tree.share.HideUnreadable {
			if ok, err := o.mayRead(ctx, vfs.Join(o.path(), e.Name)); err != nil {
				return false, ntstatus.FromError(err)
			} else if !ok {
				continue
			}
		}
		if there, st := o.describe(ctx, e.Name, class); there || st != ntstatus.Success {
			return there, st
		}
	}
}

// describe makes an entry, or "." or "..", the next one to be given, with what the class
// tells of it; false if it has gone since it was read.
func (o *open) describe(ctx context.Context, entry string, class smb2.FileInfoClass) (bool, ntstatus.Status) {
	s := &o.search
	s.heldName, s.heldClass = entry, class
	if entry == "." || entry == ".." {
		info, err := o.dotInfo(ctx, entry)
		if err != nil {
			return false, ntstatus.FromError(err)
		}
		o.srv.files.showTimes(&info)
		s.hold(entry, &info, class)
		return true, ntstatus.Success
	}
	name := toWire(entry)
	if class == smb2.ClassFileNamesInformation {
		s.held = smb2.DirectoryEntry{FileName: name, FileIndex: s.index}
		return true, ntstatus.Success
	}
	info, led, err := o.entryInfo(ctx, entry)
	if errors.Is(err, fs.ErrNotExist) {
		return false, ntstatus.Success
	}
	if err != nil {
		return false, ntstatus.FromError(err)
	}
	eaSize := uint32(reparseTag(&info))
	if smb2.HasEaSize(class) && !led {
		eaSize = o.entryEASize(ctx, entry, &info)
	}
	o.srv.files.showTimes(&info)
	s.hold(name, &info, class)
	s.held.EaSize = eaSize
	if o.tree.share.hides(entry) {
		s.hide()
	}
	if smb2.HasShortName(class) {
		s.held.ShortName = shortName(name)
	}
	return true, ntstatus.Success
}

// hold makes the next entry.
func (s *searchState) hold(name string, info *vfs.Info, class smb2.FileInfoClass) {
	s.held = directoryEntry(name, info)
	s.held.FileIndex = s.index
	if class == smb2.ClassFilePosixInformation {
		s.posix = posixInfo(info, s.held.FileAttributes)
	}
}

// hide gives the next entry the attribute hidden.
func (s *searchState) hide() {
	s.held.FileAttributes = s.held.FileAttributes&^smb2.FileAttributeNormal | smb2.FileAttributeHidden
	s.posix.DosAttributes = s.held.FileAttributes
}

// next counts an entry, and reports whether it is not to be passed over. The count is
// the entry's FileIndex: a client may go on behind an entry that it has been told of.
func (s *searchState) next() bool {
	s.index++
	if s.skip > 0 {
		s.skip--
		return false
	}
	return true
}

// fill reads the next batch of entries.
func (s *searchState) fill(ctx context.Context, d vfs.Dir) (bool, error) {
	if s.atEnd {
		return false, nil
	}
	if cap(s.batch) < scanBatch {
		s.batch = make([]vfs.DirEntry, scanBatch)
	}
	s.batch = s.batch[:scanBatch]
	n, err := d.ReadDir(ctx, s.cursor, s.batch)
	s.batch, s.at = s.batch[:n], 0
	if errors.Is(err, io.EOF) {
		s.atEnd = true
		return n > 0, nil
	}
	if err != nil || n == 0 {
		s.atEnd = err == nil
		return false, err
	}
	s.cursor = s.batch[n-1].Cursor
	return true, nil
}

// dotInfo describes the directory itself or its parent. The root of a share is
// its own parent: nothing outside is shown.
func (o *open) dotInfo(ctx context.Context, name string) (vfs.Info, error) {
	path := o.path()
	if name == "." || path == vfs.Root {
		return o.file.Stat(ctx)
	}
	dir, _ := vfs.Split(path)
	return o.fs.Stat(ctx, dir)
}

// entryInfo describes an entry of the directory: what a symbolic link leads to, with led,
// and the link itself if it leads nowhere or out of the share. A listing agrees with opens
// by that, which follow links: a link shown as one would keep Windows clients from going
// into the directory that it leads to, as its attributes do not say that it does.
func (o *open) entryInfo(ctx context.Context, name string) (info vfs.Info, led bool, err error) {
	info, err = o.dir.Lstat(ctx, name)
	if err != nil || o.posix || info.Mode&fs.ModeSymlink == 0 {
		return info, false, err
	}
	if target, ok := o.ledTo(ctx, vfs.Join(o.path(), name)); ok {
		return target, true, nil
	}
	return info, false, nil
}

// ledTo describes what a symbolic link leads to, if clients may see that.
func (o *open) ledTo(ctx context.Context, name string) (vfs.Info, bool) {
	if len(o.tree.share.VetoFiles) == 0 {
		info, err := o.fs.Stat(ctx, name)
		return info, err == nil
	}
	f, _, err := o.fs.Open(ctx, name, vfs.OpenOptions{})
	if err != nil {
		return vfs.Info{}, false
	}
	defer f.Close()
	if o.vetoed(ctx, f) {
		return vfs.Info{}, false
	}
	info, err := f.Stat(ctx)
	return info, err == nil
}

func directoryEntry(name string, info *vfs.Info) smb2.DirectoryEntry {
	t := timesOf(info)
	e := smb2.DirectoryEntry{
		CreationTime:    t.CreationTime,
		LastAccessTime:  t.LastAccessTime,
		LastWriteTime:   t.LastWriteTime,
		ChangeTime:      t.ChangeTime,
		EndOfFile:       uint64(info.Size),
		AllocationSize:  allocationSize(info),
		FileAttributes:  fileAttributes(info),
		ReparsePointTag: reparseTag(info),
		EaSize:          uint32(reparseTag(info)),
		FileID:          info.ID.Ino,
		FileName:        name,
	}
	e.FileID128 = fileID128(info.ID)
	return e
}

// fileID128 is a 128-bit file id: the inode number, then the device's.
func fileID128(id vfs.FileID) (b [16]byte) {
	binary.LittleEndian.PutUint64(b[:8], id.Ino)
	binary.LittleEndian.PutUint64(b[8:], id.Dev)
	return b
}
