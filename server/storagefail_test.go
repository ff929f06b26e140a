package server

import (
	"context"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

// faults says which operations of a storage fail, and how.
type faults struct{ now atomic.Pointer[fault] }

type fault struct {
	op  string
	err syscall.Errno
}

func (f *faults) set(op string, err syscall.Errno) { f.now.Store(&fault{op, err}) }
func (f *faults) clear()                           { f.now.Store(nil) }

func (f *faults) of(op string) error {
	if now := f.now.Load(); now != nil && now.op == op {
		return &fs.PathError{Op: op, Path: "secret/place", Err: now.err}
	}
	return nil
}

// faultyFS is a storage that fails when it is told to.
type faultyFS struct {
	vfs.FS
	*faults
}

type faultyFile struct {
	vfs.File
	vfs.Allocator
	vfs.StreamHolder
	vfs.Xattrer
	vfs.RangeCopier
	*faults
}

type faultyDir struct {
	vfs.Dir
	*faults
}

func (f faultyFS) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	if err := f.of("open"); err != nil {
		return nil, vfs.OpenResult{}, err
	}
	if err := f.of("create"); err != nil && o.Disposition != vfs.OpenExisting && o.Disposition != vfs.Overwrite {
		return nil, vfs.OpenResult{}, err
	}
	file, res, err := f.FS.Open(ctx, name, o)
	if err != nil {
		return nil, res, err
	}
	switch d, isDir := file.(vfs.Dir); {
	case isDir:
		return &faultyDir{d, f.faults}, res, nil
	case file.(vfs.Xattrer) != nil:
		a, _ := file.(vfs.Allocator)
		c, _ := file.(vfs.RangeCopier)
		if a == nil || c == nil {
			return file, res, nil // a link, or a directory without access
		}
		return &faultyFile{file, a, file.(vfs.StreamHolder), file.(vfs.Xattrer), c, f.faults}, res, nil
	}
	return file, res, nil
}

func (f faultyFS) Rename(ctx context.Context, oldname, newname string, replace bool) error {
	if err := f.of("rename"); err != nil {
		return err
	}
	return f.FS.Rename(ctx, oldname, newname, replace)
}

func (f faultyFS) RemoveIf(ctx context.Context, name string, id vfs.FileID) error {
	if err := f.of("remove"); err != nil {
		return err
	}
	return f.FS.RemoveIf(ctx, name, id)
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.of("read"); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.of("write"); err != nil {
		return 0, err
	}
	if err := f.of("write half"); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *faultyFile) Truncate(ctx context.Context, size int64) error {
	if err := f.of("truncate"); err != nil {
		return err
	}
	return f.File.Truncate(ctx, size)
}

func (f *faultyFile) Sync(ctx context.Context) error {
	if err := f.of("sync"); err != nil {
		return err
	}
	return f.File.Sync(ctx)
}

func (f *faultyFile) Stat(ctx context.Context) (vfs.Info, error) {
	if err := f.of("stat"); err != nil {
		return vfs.Info{}, err
	}
	return f.File.Stat(ctx)
}

func (f *faultyFile) SetAttr(ctx context.Context, a vfs.SetAttr) error {
	if err := f.of("setattr"); err != nil {
		return err
	}
	return f.File.SetAttr(ctx, a)
}

func (d *faultyDir) ReadDir(ctx context.Context, c vfs.Cursor, dst []vfs.DirEntry) (int, error) {
	if err := d.of("readdir"); err != nil {
		return 0, err
	}
	return d.Dir.ReadDir(ctx, c, dst)
}

// faultyDisk is a share on such a storage.
func faultyDisk(t *testing.T) (*faults, *peer) {
	t.Helper()
	ram, err := memory.New(memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ram.Close() })
	f := &faults{}
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].FS = faultyFS{ram, f} })
	return f, s.login(smb2.DialectSMB311).mustConnect("data")
}

// What the storage refuses, the client hears as a status that fits; nothing is
// acknowledged that was not done, the open stays good, and when the storage works
// again so does the share.
func TestStorageFails(t *testing.T) {
	f, p := faultyDisk(t)
	dir := p.openDir("dir")
	req := createRequest("f", smb2.FileOpenIf)
	req.DesiredAccess |= smb2.FileWriteAttributes | smb2.Delete
	id := p.create(req)
	p.writeAll(id, "content")
	eof, _ := (&smb2.FileEndOfFileInformation{EndOfFile: 3}).AppendBinary(nil)
	basic, _ := (&smb2.FileBasicInformation{LastWriteTime: 0x01DC_0000_0000_0000}).AppendBinary(nil)
	ops := map[string]struct {
		op string
		do func() ntstatus.Status
	}{
		"CREATE of what is there": {"open", func() ntstatus.Status {
			st, _ := p.tryCreate(createRequest("f", smb2.FileOpen))
			return st
		}},
		"CREATE of what is not": {"create", func() ntstatus.Status {
			st, _ := p.tryCreate(createRequest("new", smb2.FileCreate))
			return st
		}},
		"READ": {"read", func() ntstatus.Status {
			st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: id, Length: 7})
			return st
		}},
		"WRITE": {"write", func() ntstatus.Status {
			st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("CONTENT")})
			return st
		}},
		"FLUSH": {"sync", func() ntstatus.Status {
			st, _ := p.do(smb2.CommandFlush, &smb2.FlushRequest{FileID: id})
			return st
		}},
		"QUERY_INFO": {"stat", func() ntstatus.Status {
			_, st := p.query(id, smb2.InfoFile, uint8(smb2.ClassFileBasicInformation), 0, 100)
			return st
		}},
		"SET_INFO of the end": {"truncate", func() ntstatus.Status {
			return p.set(id, smb2.ClassFileEndOfFileInformation, eof)
		}},
		"SET_INFO of a time": {"setattr", func() ntstatus.Status {
			return p.set(id, smb2.ClassFileBasicInformation, basic)
		}},
		"SET_INFO of the name": {"rename", func() ntstatus.Status { return p.rename(id, "g", false) }},
		"QUERY_DIRECTORY": {"readdir", func() ntstatus.Status {
			_, st := p.list(dir, smb2.ClassFileNamesInformation, "*", smb2.QueryDirectoryRestartScans, 4096)
			return st
		}},
	}
	for errno, st := range map[syscall.Errno]ntstatus.Status{
		syscall.EIO:    ntstatus.IODeviceError,
		syscall.ENOSPC: ntstatus.DiskFull,
		syscall.EDQUOT: ntstatus.QuotaExceeded,
		syscall.ENOMEM: ntstatus.InsufficientResources,
		syscall.EMFILE: ntstatus.TooManyOpenedFiles,
		syscall.EROFS:  ntstatus.MediaWriteProtected,
	} {
		for what, c := range ops {
			f.set(c.op, errno)
			want(t, what+" with "+errno.Error(), c.do(), st)
			f.clear()
		}
		if got := p.readAll(id); got != "content" {
			t.Fatalf("after %v everywhere, the file reads %q", errno, got)
		}
	}
	st, _ := p.tryCreate(createRequest("new", smb2.FileOpen))
	want(t, "what was never made", st, ntstatus.ObjectNameNotFound)
	for what, c := range ops {
		if c.op == "create" || c.op == "rename" {
			continue
		}
		want(t, what+" when the storage works again", c.do(), ntstatus.Success)
	}
	want(t, "renaming when the storage works again", p.rename(id, "h", false), ntstatus.Success)
}

// A write of which only half could be stored is no success.
func TestHalfAWrite(t *testing.T) {
	f, p := faultyDisk(t)
	id := p.openFile("f")
	p.writeAll(id, "01234567")
	f.set("write half", syscall.ENOSPC)
	st, msg := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("abcdefgh")})
	f.clear()
	switch st {
	case ntstatus.DiskFull:
	case ntstatus.Success: // then it says how much
		m, err := smb2.ParseWriteResponse(msg)
		if err != nil || m.Count != 4 {
			t.Errorf("half a write is acknowledged as %d octets, %v; want 4", m.Count, err)
		}
	default:
		t.Errorf("half a write: %v, want %v", st, ntstatus.DiskFull)
	}
	if got := p.readAll(id); got != "abcd4567" {
		t.Errorf("the file reads %q", got)
	}
}

// A file that cannot be deleted on CLOSE stays, and is no longer to be deleted.
func TestDeletionFails(t *testing.T) {
	f, p := faultyDisk(t)
	req := createRequest("f", smb2.FileCreate)
	req.CreateOptions = smb2.FileDeleteOnClose
	req.DesiredAccess |= smb2.Delete
	id := p.create(req)
	f.set("remove", syscall.EIO)
	st, _ := p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id})
	f.clear()
	if st != ntstatus.Success && st != ntstatus.IODeviceError {
		t.Errorf("CLOSE: %v", st)
	}
	id = p.openFile("f")
	p.writeAll(id, "still here")
	p.close(id)
	st, _ = p.tryCreate(createRequest("f", smb2.FileOpen))
	want(t, "the file afterwards", st, ntstatus.Success)
}
