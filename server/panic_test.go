package server

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// bomb panics in one operation of a storage, whenever that is called, while it is armed.
type bomb struct {
	op   atomic.Pointer[string]
	went atomic.Int32
}

func (b *bomb) arm(op string) { b.op.Store(&op) }
func (b *bomb) disarm()       { b.op.Store(nil) }

func (b *bomb) in(op string) {
	if now := b.op.Load(); now != nil && *now == op {
		b.went.Add(1)
		panic("the storage panics in " + op)
	}
}

// minedFS is a storage with a bomb in it.
type minedFS struct {
	*posix.FS
	b *bomb
}

func (f minedFS) Open(c context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	f.b.in("FS.Open")
	file, res, err := f.FS.Open(c, name, o)
	if d, ok := file.(minedDirFile); ok && err == nil {
		return &minedDir{d, f.b}, res, err
	}
	if m, ok := file.(minedFile); ok && err == nil {
		return &mined{m, f.b}, res, err
	}
	return file, res, err
}

func (f minedFS) Stat(c context.Context, name string) (vfs.Info, error) {
	f.b.in("FS.Stat")
	return f.FS.Stat(c, name)
}
func (f minedFS) Lstat(c context.Context, name string) (vfs.Info, error) {
	f.b.in("FS.Lstat")
	return f.FS.Lstat(c, name)
}
func (f minedFS) RemoveIf(c context.Context, name string, id vfs.FileID) error {
	f.b.in("FS.RemoveIf")
	return f.FS.RemoveIf(c, name, id)
}
func (f minedFS) Rename(c context.Context, from, to string, replace bool) error {
	f.b.in("FS.Rename")
	return f.FS.Rename(c, from, to, replace)
}
func (f minedFS) Statfs(c context.Context) (vfs.Statfs, error) {
	f.b.in("FS.Statfs")
	return f.FS.Statfs(c)
}
func (f minedFS) Link(c context.Context, from, to string) error {
	f.b.in("FS.Link")
	return f.FS.Link(c, from, to)
}
func (f minedFS) Symlink(c context.Context, to, at string) error {
	f.b.in("FS.Symlink")
	return f.FS.Symlink(c, to, at)
}
func (f minedFS) Readlink(c context.Context, n string) (string, error) {
	f.b.in("FS.Readlink")
	return f.FS.Readlink(c, n)
}
func (f minedFS) Snapshots(c context.Context) ([]time.Time, error) {
	f.b.in("FS.Snapshots")
	return f.FS.Snapshots(c)
}
func (f minedFS) Watch(c context.Context, dir string, o vfs.WatchOptions) (vfs.Watch, error) {
	f.b.in("FS.Watch")
	w, err := f.FS.Watch(c, dir, o)
	return minedWatch{w, f.b}, err
}

type minedWatch struct {
	vfs.Watch
	b *bomb
}

func (w minedWatch) Next(c context.Context, dst []vfs.Event) (int, error) {
	n, err := w.Watch.Next(c, dst)
	w.b.in("Watch.Next")
	return n, err
}

// minedFile is what the server finds in files of posix, but for their descriptors.
type minedFile interface {
	vfs.File
	vfs.Allocator
	vfs.HoleSeeker
	vfs.RangeCopier
	vfs.Xattrer
	vfs.SecurityHolder
	vfs.StreamHolder
	vfs.RangeLocker
	vfs.FileLocker
	vfs.Leaser
}

type mined struct {
	minedFile
	b *bomb
}

func (f *mined) ReadAt(p []byte, off int64) (int, error) {
	f.b.in("ReadAt")
	return f.minedFile.ReadAt(p, off)
}
func (f *mined) WriteAt(p []byte, off int64) (int, error) {
	f.b.in("WriteAt")
	return f.minedFile.WriteAt(p, off)
}
func (f *mined) Truncate(c context.Context, n int64) error {
	f.b.in("Truncate")
	return f.minedFile.Truncate(c, n)
}
func (f *mined) Sync(c context.Context) error             { f.b.in("Sync"); return f.minedFile.Sync(c) }
func (f *mined) Stat(c context.Context) (vfs.Info, error) { f.b.in("Stat"); return f.minedFile.Stat(c) }
func (f *mined) Close() error                             { f.b.in("Close"); return f.minedFile.Close() }
func (f *mined) SetAttr(c context.Context, a vfs.SetAttr) error {
	f.b.in("SetAttr")
	return f.minedFile.SetAttr(c, a)
}
func (f *mined) Allocate(c context.Context, off, n int64, keep bool) error {
	f.b.in("Allocate")
	return f.minedFile.Allocate(c, off, n, keep)
}
func (f *mined) ZeroRange(c context.Context, off, n int64) error {
	f.b.in("ZeroRange")
	return f.minedFile.ZeroRange(c, off, n)
}
func (f *mined) SeekData(c context.Context, off int64) (int64, error) {
	f.b.in("SeekData")
	return f.minedFile.SeekData(c, off)
}
func (f *mined) CopyRange(c context.Context, to int64, src vfs.File, off, n int64) (int64, error) {
	f.b.in("CopyRange")
	return f.minedFile.CopyRange(c, to, src.(*mined).minedFile, off, n)
}
func (f *mined) Xattr(c context.Context, name string) ([]byte, error) {
	f.b.in("Xattr")
	return f.minedFile.Xattr(c, name)
}
func (f *mined) SetXattr(c context.Context, name string, v []byte) error {
	f.b.in("SetXattr")
	return f.minedFile.SetXattr(c, name, v)
}
func (f *mined) ListXattr(c context.Context) ([]string, error) {
	f.b.in("ListXattr")
	return f.minedFile.ListXattr(c)
}
func (f *mined) SecurityRecord(c context.Context) ([]byte, error) {
	f.b.in("SecurityRecord")
	return f.minedFile.SecurityRecord(c)
}
func (f *mined) SetSecurityRecord(c context.Context, r []byte) error {
	f.b.in("SetSecurityRecord")
	return f.minedFile.SetSecurityRecord(c, r)
}
func (f *mined) OpenStream(c context.Context, s string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	f.b.in("OpenStream")
	return f.minedFile.OpenStream(c, s, o)
}
func (f *mined) Streams(c context.Context) ([]vfs.StreamInfo, error) {
	f.b.in("Streams")
	return f.minedFile.Streams(c)
}
func (f *mined) RemoveStream(c context.Context, s string) error {
	f.b.in("RemoveStream")
	return f.minedFile.RemoveStream(c, s)
}
func (f *mined) LockRange(c context.Context, off, n int64, exclusive bool) error {
	f.b.in("LockRange")
	return f.minedFile.LockRange(c, off, n, exclusive)
}
func (f *mined) UnlockRange(c context.Context, off, n int64) error {
	f.b.in("UnlockRange")
	return f.minedFile.UnlockRange(c, off, n)
}
func (f *mined) LockFile(c context.Context, exclusive bool) error {
	f.b.in("LockFile")
	return f.minedFile.LockFile(c, exclusive)
}
func (f *mined) UnlockFile(c context.Context) error {
	f.b.in("UnlockFile")
	return f.minedFile.UnlockFile(c)
}
func (f *mined) Lease(c context.Context, k vfs.LeaseKind, broken func()) error {
	f.b.in("Lease")
	return f.minedFile.Lease(c, k, broken)
}

type minedDirFile interface {
	vfs.Dir
	vfs.Xattrer
	vfs.SecurityHolder
	vfs.StreamHolder
}

type minedDir struct {
	minedDirFile
	b *bomb
}

func (d *minedDir) ReadDir(c context.Context, at vfs.Cursor, dst []vfs.DirEntry) (int, error) {
	d.b.in("ReadDir")
	return d.minedDirFile.ReadDir(c, at, dst)
}
func (d *minedDir) Close() error { d.b.in("Dir.Close"); return d.minedDirFile.Close() }

// logText is what a server has logged.
type logText struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// minedDisk is a share on such a storage, and the log of the server.
func minedDisk(t *testing.T, change func(*Share)) (*site, *bomb, *logText) {
	t.Helper()
	streamDisk(t) // or there is nothing to be tried here
	b, log := &bomb{}, &logText{}
	s := newSite(t, memconn.Config{}, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
		c.Shares[0].FS = minedFS{c.Shares[0].FS.(*posix.FS), b}
		if change != nil {
			change(&c.Shares[0])
		}
	})
	return s, b, log
}

// A panic of the storage, in whatever it was asked for, ends the connection whose request
// that was for, and says so; the others go on, and nothing is left behind that would be
// in their way: not even where the storage panics again while all that is cleared away.
func TestPanicEndsOneConnection(t *testing.T) {
	all := func(name string, d smb2.CreateDisposition) *smb2.CreateRequest {
		req := createRequest(name, d)
		req.DesiredAccess |= smb2.FileWriteAttributes | smb2.FileReadEA | smb2.FileWriteEA | smb2.ReadControl | smb2.WriteDAC
		return req
	}
	// What a client has open, whose request is the last.
	type held struct{ f, dir, g, link, stream smb2.FileID }
	set := func(id smb2.FileID, c smb2.FileInfoClass, m body) *smb2.SetInfoRequest {
		b, err := m.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return &smb2.SetInfoRequest{InfoType: smb2.InfoFile, FileInfoClass: uint8(c), FileID: id, Buffer: b}
	}
	query := func(id smb2.FileID, typ smb2.InfoType, class smb2.FileInfoClass, add smb2.SecurityInformation) *smb2.QueryInfoRequest {
		return &smb2.QueryInfoRequest{InfoType: typ, FileInfoClass: uint8(class), FileID: id, AdditionalInformation: uint32(add), OutputBufferLength: 4096}
	}
	control := func(id smb2.FileID, code smb2.CtlCode, in []byte) *smb2.IoctlRequest {
		return &smb2.IoctlRequest{CtlCode: code, FileID: id, Input: in, MaxOutputResponse: 4096, Flags: smb2.IoctlFlagIsFsctl}
	}
	link, _ := (&smb2.SymbolicLinkReparseBuffer{SubstituteName: "x", PrintName: "x", Flags: smb2.SymlinkFlagRelative}).AppendBinary(nil)
	rename := &smb2.FileRenameInformation{FileName: "to", ReplaceIfExists: true}
	const reparse = smb2.FileOpenReparsePoint
	for _, c := range []struct {
		op  string
		cmd smb2.Command
		do  func(p *peer, h held) body
	}{
		{"FS.Open", smb2.CommandCreate, func(p *peer, h held) body { return all("new", smb2.FileCreate) }},
		{"FS.Stat", smb2.CommandSetInfo, func(p *peer, h held) body { return set(h.f, smb2.ClassFileRenameInformation, rename) }},
		{"FS.Lstat", smb2.CommandSetInfo, func(p *peer, h held) body { return set(h.f, smb2.ClassFileRenameInformation, rename) }},
		{"FS.Rename", smb2.CommandSetInfo, func(p *peer, h held) body { return set(h.f, smb2.ClassFileRenameInformation, rename) }},
		{"FS.Statfs", smb2.CommandQueryInfo, func(p *peer, h held) body {
			return query(h.f, smb2.InfoFilesystem, smb2.FileInfoClass(smb2.ClassFileFsSizeInformation), 0)
		}},
		{"FS.RemoveIf", smb2.CommandClose, func(p *peer, h held) body {
			want(p.t, "deleting", p.set(h.g, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
			return &smb2.CloseRequest{FileID: h.g}
		}},
		{"FS.Link", smb2.CommandSetInfo, func(p *peer, h held) body {
			return set(h.f, smb2.ClassFileLinkInformation, &smb2.FileLinkInformation{FileName: "another"})
		}},
		{"FS.Symlink", smb2.CommandIoctl, func(p *peer, h held) body { return control(h.g, smb2.FsctlSetReparsePoint, link) }},
		{"FS.Readlink", smb2.CommandIoctl, func(p *peer, h held) body { return control(h.link, smb2.FsctlGetReparsePoint, nil) }},
		{"FS.Snapshots", smb2.CommandIoctl, func(p *peer, h held) body { return control(h.f, smb2.FsctlSrvEnumerateSnapshots, nil) }},
		{"ReadAt", smb2.CommandRead, func(p *peer, h held) body { return &smb2.ReadRequest{FileID: h.f, Length: 10} }},
		{"WriteAt", smb2.CommandWrite, func(p *peer, h held) body { return &smb2.WriteRequest{FileID: h.f, Data: []byte("x")} }},
		{"Stat", smb2.CommandWrite, func(p *peer, h held) body { // while the end must not move
			req := all("to", smb2.FileOpen)
			req.DesiredAccess = smb2.FileAppendData
			return &smb2.WriteRequest{FileID: p.create(req), Offset: writeToEnd, Data: []byte("x")}
		}},
		{"Stat", smb2.CommandCreate, func(p *peer, h held) body { return all("new", smb2.FileCreate) }},
		{"Truncate", smb2.CommandSetInfo, func(p *peer, h held) body {
			return set(h.f, smb2.ClassFileEndOfFileInformation, &smb2.FileEndOfFileInformation{EndOfFile: 1})
		}},
		{"Truncate", smb2.CommandCreate, func(p *peer, h held) body { return all("to", smb2.FileOverwrite) }},
		{"Sync", smb2.CommandFlush, func(p *peer, h held) body { return &smb2.FlushRequest{FileID: h.f} }},
		{"SetAttr", smb2.CommandSetInfo, func(p *peer, h held) body {
			return set(h.f, smb2.ClassFileBasicInformation, &smb2.FileBasicInformation{LastWriteTime: 0x01DC_0000_0000_0000})
		}},
		{"Close", smb2.CommandClose, func(p *peer, h held) body { return &smb2.CloseRequest{FileID: h.f} }},
		{"Dir.Close", smb2.CommandClose, func(p *peer, h held) body { return &smb2.CloseRequest{FileID: h.dir} }},
		{"ReadDir", smb2.CommandQueryDirectory, func(p *peer, h held) body {
			return &smb2.QueryDirectoryRequest{FileInformationClass: smb2.ClassFileNamesInformation, FileID: h.dir,
				FileName: smb2.EncodeUTF16("*"), OutputBufferLength: 4096}
		}},
		{"Allocate", smb2.CommandSetInfo, func(p *peer, h held) body {
			return set(h.f, smb2.ClassFileAllocationInformation, &smb2.FileAllocationInformation{AllocationSize: 1 << 20})
		}},
		{"ZeroRange", smb2.CommandIoctl, func(p *peer, h held) body {
			in := le.AppendUint64(make([]byte, 8), 4096)
			return control(h.f, smb2.FsctlSetZeroData, in)
		}},
		{"SeekData", smb2.CommandIoctl, func(p *peer, h held) body {
			_, st := p.fsctl(smb2.FsctlSetSparse, h.f, nil, 0)
			want(p.t, "making it sparse", st, ntstatus.Success)
			return control(h.f, smb2.FsctlQueryAllocatedRanges, le.AppendUint64(make([]byte, 8), 1<<20))
		}},
		{"CopyRange", smb2.CommandIoctl, func(p *peer, h held) body {
			out, st := p.fsctl(smb2.FsctlSrvRequestResumeKey, h.f, nil, 32)
			want(p.t, "resume key", st, ntstatus.Success)
			key, _ := smb2.ParseRequestResumeKeyResponse(out)
			in, _ := (&smb2.CopyChunkCopy{SourceKey: key.ResumeKey, Chunks: []smb2.CopyChunk{{Length: 4096}}}).AppendBinary(nil)
			return control(h.g, smb2.FsctlSrvCopychunkWrite, in)
		}},
		{"ListXattr", smb2.CommandQueryInfo, func(p *peer, h held) body {
			return query(h.f, smb2.InfoFile, smb2.ClassFileFullEaInformation, 0)
		}},
		{"SetXattr", smb2.CommandSetInfo, func(p *peer, h held) body {
			return &smb2.SetInfoRequest{InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileFullEaInformation), FileID: h.f, Buffer: eaList("n", "v")}
		}},
		{"SecurityRecord", smb2.CommandQueryInfo, func(p *peer, h held) body {
			return query(h.f, smb2.InfoSecurity, 0, smb2.DACLSecurityInformation)
		}},
		{"SetSecurityRecord", smb2.CommandSetInfo, func(p *peer, h held) body {
			sd := p.securityOf(h.f, smb2.DACLSecurityInformation)
			b, _ := sd.AppendBinary(nil)
			return &smb2.SetInfoRequest{InfoType: smb2.InfoSecurity, AdditionalInformation: uint32(smb2.DACLSecurityInformation), FileID: h.f, Buffer: b}
		}},
		{"OpenStream", smb2.CommandCreate, func(p *peer, h held) body { return all("f:another", smb2.FileCreate) }},
		{"Streams", smb2.CommandQueryInfo, func(p *peer, h held) body {
			return query(h.f, smb2.InfoFile, smb2.ClassFileStreamInformation, 0)
		}},
		{"RemoveStream", smb2.CommandClose, func(p *peer, h held) body {
			want(p.t, "deleting", p.set(h.stream, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
			return &smb2.CloseRequest{FileID: h.stream}
		}},
		{"LockRange", smb2.CommandLock, func(p *peer, h held) body {
			return &smb2.LockRequest{FileID: h.f, Locks: []smb2.LockElement{{Length: 1, Flags: lockNow}}}
		}},
		{"UnlockRange", smb2.CommandClose, func(p *peer, h held) body {
			want(p.t, "LOCK", p.lock(h.f, smb2.LockElement{Length: 1, Flags: lockNow}), ntstatus.Success)
			return &smb2.CloseRequest{FileID: h.f}
		}},
		{"LockFile", smb2.CommandCreate, func(p *peer, h held) body {
			req := all("to", smb2.FileOpen)
			req.ShareAccess = 0
			return req
		}},
		{"UnlockFile", smb2.CommandClose, func(p *peer, h held) body {
			req := all("to", smb2.FileOpen)
			req.ShareAccess = 0
			return &smb2.CloseRequest{FileID: p.create(req)}
		}},
		{"Lease", smb2.CommandCreate, func(p *peer, h held) body {
			req := all("to", smb2.FileOpen)
			req.RequestedOplockLevel = smb2.OplockLevelBatch
			return req
		}},
	} {
		t.Run(c.op+" "+c.cmd.String(), func(t *testing.T) {
			s, b, log := minedDisk(t, func(sh *Share) {
				sh.PosixLocking, sh.KernelShareModes, sh.KernelOplocks = true, true, true
			})
			s.write("f", make([]byte, 8192))
			s.write("to", make([]byte, 100))
			q := s.login(smb2.DialectSMB311).mustConnect("data")
			mine := q.openFile("mine")
			p := s.login(smb2.DialectSMB311).mustConnect("data")
			h := held{f: p.create(all("f", smb2.FileOpen)), stream: p.create(all("f:s", smb2.FileCreate)), dir: p.openDir("")}
			if c.op == "FS.Rename" || c.op == "FS.Stat" || c.op == "FS.Lstat" { // else they keep the file from that
				p.close(h.stream)
				p.close(h.dir)
			}
			g := all("g", smb2.FileCreate)
			g.CreateOptions = reparse
			h.g = p.create(g)
			if c.op == "FS.Readlink" {
				l := all("link", smb2.FileCreate)
				l.CreateOptions = reparse
				h.link = p.create(l)
				_, st := p.fsctl(smb2.FsctlSetReparsePoint, h.link, link, 0)
				want(t, "making a link", st, ntstatus.Success)
			}
			m := c.do(p, h)
			b.arm(c.op)
			p.post(p.header(c.cmd), m)
			p.gone()
			if st, _ := q.do(smb2.CommandEcho, &smb2.EchoRequest{}); st != ntstatus.Success {
				t.Errorf("ECHO of another: %v", st)
			}
			s.until("the connection is forgotten", func() bool { return s.srv.Stats().Connections == 1 })
			b.disarm()
			if b.went.Load() == 0 {
				t.Fatal("the storage was not asked for that")
			}
			if st := s.srv.Stats(); st.Panics == 0 || st.Opens != 1 || st.DetachedOpens != 0 {
				t.Errorf("%d panics, %d opens, %d detached; want some, 1, 0", st.Panics, st.Opens, st.DetachedOpens)
			}
			if text := log.String(); !strings.Contains(text, "the storage panics in "+c.op) || !strings.Contains(text, "panic_test.go") {
				t.Errorf("the log does not say where:\n%s", text)
			}
			q.writeAll(mine, "still good")
			if got := q.readAll(mine); got != "still good" {
				t.Errorf("another's file reads %q", got)
			}
			// Nothing is in the way of who wants all of it for himself.
			for _, name := range []string{"f", "to", "g", "new", "f:s", "f:another"} {
				req := all(name, smb2.FileOpenIf)
				req.ShareAccess = 0
				id := q.create(req)
				want(t, "LOCK of "+name, q.lock(id, smb2.LockElement{Length: 1 << 40, Flags: lockNow}), ntstatus.Success)
				st, _ := q.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Offset: 7, Data: []byte("z")})
				want(t, "WRITE to "+name, st, ntstatus.Success)
				q.close(id)
			}
			if _, st := q.list(q.openDir(""), smb2.ClassFileNamesInformation, "*", 0, 4096); st != ntstatus.Success {
				t.Errorf("listing: %v", st)
			}
			if files, opens := s.srv.files.counts(); opens != 2 || files != 2 {
				t.Errorf("the table knows %d files, open %d times; want 2, 2", files, opens)
			}
		})
	}
}

// One that the storage has panicked for while its session ended is closed all the same,
// and so are the others of the session.
func TestPanicWhenAConnectionEnds(t *testing.T) {
	for _, op := range []string{"Close", "SetAttr", "FS.RemoveIf"} {
		s, b, _ := minedDisk(t, nil)
		q := s.login(smb2.DialectSMB311).mustConnect("data")
		p := s.login(smb2.DialectSMB311).mustConnect("data")
		for _, name := range []string{"1", "2", "3"} {
			id := p.openFile(name)
			p.writeAll(id, "x")
			want(t, "deleting", p.set(id, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
		}
		b.arm(op)
		p.c.Close()
		s.until("all are closed", func() bool { st := s.srv.Stats(); return st.Sessions == 1 && st.Opens == 0 && st.Connections == 1 })
		b.disarm()
		if n := b.went.Load(); n != 3 && op != "SetAttr" {
			t.Errorf("%s: %d panics, want 3", op, n)
		}
		for _, name := range []string{"1", "2", "3"} {
			req := createRequest(name, smb2.FileOpenIf)
			req.ShareAccess = 0
			q.close(q.create(req))
		}
	}
}

// What a compound has handed on is given back once, even if the storage panics over that.
func TestPanicOverWhatACompoundHandsOn(t *testing.T) {
	s, b, _ := minedDisk(t, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	b.arm("Close")
	p.transmit(p.compoundMessage(part{smb2.CommandCreate, createRequest("f", smb2.FileOpenIf), false, nil},
		part{smb2.CommandClose, &smb2.CloseRequest{FileID: smb2.AnyFileID}, true, nil}))
	s.until("it is forgotten", func() bool { return s.srv.Stats().Connections == 0 })
	b.disarm()
	if st := s.srv.Stats(); st.Panics != 1 || b.went.Load() != 1 || st.Opens != 0 {
		t.Errorf("%d panics, %d of them of the storage, %d opens; want 1, 1, 0", st.Panics, b.went.Load(), st.Opens)
	}
}

// A LOCK that the storage has panicked over is not waited for by the one that comes again
// in its place, and has locked nothing.
func TestPanicOverALockThatComesAgain(t *testing.T) {
	s, b, _ := minedDisk(t, func(sh *Share) { sh.PosixLocking = true })
	p := s.login(smb2.DialectSMB210).mustConnect("data")
	id := p.create(createRequest("f", smb2.FileOpenIf))
	want(t, "resiliency", p.resilient(id, time.Minute), ntstatus.Success)
	lock := &smb2.LockRequest{FileID: id, LockSequenceIndex: 1, LockSequenceNumber: 5,
		Locks: []smb2.LockElement{{Offset: 1, Length: 2, Flags: smb2.LockFlagExclusiveLock | smb2.LockFlagFailImmediately}}}
	b.arm("LockRange")
	p.post(p.header(smb2.CommandLock), lock)
	p.gone()
	s.until("the open is kept", func() bool { return s.srv.durables.len() == 1 })
	b.disarm()
	q := s.login(smb2.DialectSMB210).mustConnect("data")
	st, resp := q.created(reconnect1(t, "f", id))
	want(t, "coming again", st, ntstatus.Success)
	lock.FileID = resp.FileID
	st, _ = q.do(smb2.CommandLock, lock)
	want(t, "LOCK again", st, ntstatus.Success)
}

// minedUsers are users with a bomb among them.
type minedUsers struct {
	Users
	b *bomb
}

func (u minedUsers) NTHash(ctx context.Context, domain, name string) (NTHash, error) {
	u.b.in("NTHash")
	return u.Users.NTHash(ctx, domain, name)
}

// Who shows again who he is, by one of several channels, and meets a panic, may do so by
// another.
func TestPanicOverALogonOnOneChannel(t *testing.T) {
	b := &bomb{}
	s := newSite(t, memconn.Config{}, func(c *Config) {
		multichannel(c)
		c.Users = minedUsers{c.Users, b}
	})
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	q := p.bound()
	init := spnego.NewInitiator(p.neg.SecurityBuffer, &ntlm.Client{User: "ann", Password: "secret", Domain: "NAS"})
	req := &smb2.SessionSetupRequest{SecurityMode: 1}
	step := func(in []byte) {
		t.Helper()
		token, _, err := init.Step(in)
		if err != nil {
			t.Fatal(err)
		}
		req.SecurityBuffer = token
	}
	step(nil)
	st, msg := p.do(smb2.CommandSessionSetup, req)
	want(t, "the first message", st, ntstatus.MoreProcessingRequired)
	resp, err := smb2.ParseSessionSetupResponse(msg)
	if err != nil {
		t.Fatal(err)
	}
	step(resp.SecurityBuffer)
	b.arm("NTHash")
	p.post(p.header(smb2.CommandSessionSetup), req)
	p.gone()
	b.disarm()
	if n := b.went.Load(); n != 1 {
		t.Fatalf("%d panics, want 1", n)
	}
	want(t, "by the other channel", q.setup("ann", "secret", p.sid, smb2.SessionSetupRequest{SecurityMode: 1}), ntstatus.Success)
}

// A panic of the relief ends the connection that it was about, and the relief goes on.
func TestPanicOfTheRelief(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	w := &s.srv.relief // which sleeps
	broken := s.srv.newConn(plainConn{}, 1, "test")
	broken.turn.n.Store(1) // it serves, and has done so at the last look
	broken.turn.seen = 1
	broken.turn.watched.Store(true)
	close(broken.work)
	w.conns = append(w.conns, broken)
	if !w.look() || s.srv.Stats().Panics != 1 || broken.ctx.Err() == nil {
		t.Errorf("%d panics, the connection: %v; want 1, and an end", s.srv.Stats().Panics, broken.ctx.Err())
	}
	if !w.mu.TryLock() {
		t.Error("the relief's lock is held")
	}
}

// plainConn is a connection by which nothing comes.
type plainConn struct{ transport.Conn }

func (plainConn) RDMA() transport.RDMA { return nil }
func (plainConn) RemoteAddr() net.Addr { return nil }
func (plainConn) MaxSendSize() int     { return 1 << 20 }
func (plainConn) MaxReceiveSize() int  { return 1 << 20 }

// Where the storage panics over a watch, the client is told to look for itself.
func TestPanicOfAWatch(t *testing.T) {
	for _, op := range []string{"FS.Watch", "Watch.Next"} {
		s, b, _ := minedDisk(t, nil)
		s.mkdir("d")
		p := s.login(smb2.DialectSMB311).mustConnect("data")
		id := p.openToWatch("d")
		b.arm(op)
		p.post(p.header(smb2.CommandChangeNotify), &smb2.ChangeNotifyRequest{
			FileID: id, CompletionFilter: smb2.FileNotifyChangeFileName, OutputBufferLength: 1000})
		h, _ := p.answer()
		if h.Status == ntstatus.Pending {
			s.write("d/f", nil)
			h, _ = p.answer()
		}
		want(t, op, h.Status, ntstatus.NotifyEnumDir)
		s.until("it is counted", func() bool { return s.srv.Stats().Panics > 0 })
		b.disarm()
		p.close(p.openFile(`d\g`))
	}
}

// baseless panics when it is asked what it is a view of.
type baseless struct{ vfs.FS }

func (baseless) Base() vfs.FS { panic("the storage panics in FS.Base") }

// One that panics while a watch is made known leaves no lock held and nothing counted, and
// another may watch.
func TestPanicBeforeAWatch(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	share := &s.srv.cfg.Shares[0]
	o := &open{srv: s.srv, sess: new(session), tree: &tree{share: share}, fs: baseless{share.FS}}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it has not panicked")
			}
		}()
		o.addWatch(smb2.FileNotifyChangeFileName, false, 1000)
	}()
	o.fs = share.FS
	count, all := &o.sess.opens.watches, &s.srv.notify.active
	if n, m := count.Load(), all.Load(); n != 0 || m != 0 {
		t.Errorf("after the panic %d watches of the session and %d in all are counted, want none", n, m)
	}
	w, started, st := o.addWatch(smb2.FileNotifyChangeFileName, false, 1000)
	if n, m := count.Load(), all.Load(); !started || st != ntstatus.Success || n != 1 || m != 1 {
		t.Fatalf("started %v, %v; %d and %d are counted, want 1 and 1", started, st, n, m)
	}
	if again, started, st := o.addWatch(smb2.FileNotifyChangeFileName, false, 1000); again != w || started || st != ntstatus.Success {
		t.Errorf("another request for it: started %v, %v", started, st)
	}
	o.notify.close()
	if n, m := count.Load(), all.Load(); n != 0 || m != 0 {
		t.Errorf("at the end %d and %d are counted, want none", n, m)
	}
}

// A lock that a panic has left held is told from one that is only busy.
func TestHeldForGood(t *testing.T) {
	var free, held sync.Mutex
	held.Lock()
	locks := []namedLock{{"free", &free}, {"held", &held}}
	if got := heldForGood(locks, 10*time.Millisecond); got != "held" {
		t.Errorf("got %q, want held", got)
	}
	held.Unlock()
	if got := heldForGood(locks, patience); got != "" {
		t.Errorf("got %q, want none", got)
	}
}

// brokenListener accepts connections that panic when a message is to be received, where
// there is no request yet that it would be about.
type brokenListener struct{ *memconn.Listener }

type brokenConn struct {
	transport.Conn
	left int // messages that are received before that
}

func (l brokenListener) Accept(ctx context.Context) (transport.Conn, error) {
	c, err := l.Listener.Accept(ctx)
	return &brokenConn{c, 1}, err
}

func (c *brokenConn) Receive(ctx context.Context) (*transport.Received, error) {
	if c.left--; c.left < 0 {
		panic("the connection panics")
	}
	return c.Conn.Receive(ctx)
}

func TestPanicOfWhoReceives(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	q := s.login(smb2.DialectSMB311).mustConnect("data")
	l := brokenListener{memconn.Listen(memconn.Config{})}
	served := make(chan error, 1)
	ctx, stop := context.WithCancel(s.ctx)
	go func() { served <- s.srv.Serve(ctx, l) }()
	other := *s
	other.l = l.Listener
	p := other.dial()
	p.negotiate(smb2.DialectSMB311)
	p.gone()
	s.until("it is forgotten", func() bool { return s.srv.Stats().Connections == 1 })
	if n := s.srv.Stats().Panics; n != 1 {
		t.Errorf("%d panics, want 1", n)
	}
	q.close(q.openFile("f"))
	stop()
	<-served
}
