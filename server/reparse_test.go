package server

import (
	"context"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

// A link that cannot be made, or that would cost the file what it has beside its content,
// leaves the file as it is; and who deletes what has become a link deletes that.
func TestLinkThatCannotBeMade(t *testing.T) {
	failing := &faults{}
	s := newSite(t, memconn.Config{}, func(c *Config) {
		fsys, err := memory.New(memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fsys.Close() })
		c.Shares[0].FS = linkingFS{faultyFS{fsys, failing}, fsys}
	})
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	link, _ := (&smb2.SymbolicLinkReparseBuffer{SubstituteName: "x", PrintName: "x", Flags: smb2.SymlinkFlagRelative}).AppendBinary(nil)
	open := func(name string, d smb2.CreateDisposition) smb2.FileID {
		req := createRequest(name, d)
		req.DesiredAccess |= smb2.FileWriteAttributes | smb2.FileWriteEA | smb2.Delete
		req.CreateOptions = smb2.FileOpenReparsePoint
		return p.create(req)
	}
	ea := func(t *testing.T, id smb2.FileID) {
		list := smb2.NewEntryList(nil, 1000)
		list.AppendEa(smb2.FileFullEaInformation{EaName: "n", EaValue: []byte("v")})
		want(t, "setting an EA", p.set(id, smb2.ClassFileFullEaInformation, list.Bytes()), ntstatus.Success)
	}
	for _, c := range []struct {
		name string
		with func(t *testing.T, id smb2.FileID)
		st   ntstatus.Status
	}{
		{"extended attributes", ea, ntstatus.EANotSupported},
		{"a stream", func(*testing.T, smb2.FileID) { p.close(p.openFile("a stream:s")) }, ntstatus.NotSupported},
		{"a full disk", func(*testing.T, smb2.FileID) { failing.set("symlink", syscall.ENOSPC) }, ntstatus.DiskFull},
		{"a rename that fails", func(*testing.T, smb2.FileID) { failing.set("rename", syscall.EIO) }, ntstatus.IODeviceError},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := open(c.name, smb2.FileCreate)
			before := p.basic(id).CreationTime
			c.with(t, id)
			_, st := p.fsctl(smb2.FsctlSetReparsePoint, id, link, 0)
			failing.clear()
			want(t, "making a link", st, c.st)
			if b := p.basic(id); b.FileAttributes&smb2.FileAttributeReparsePoint != 0 || b.CreationTime != before {
				t.Errorf("the file is now %+v", b)
			}
			p.close(id)
			p.close(open(c.name, smb2.FileOpen))
		})
	}
	p.mustConnect("data")
	if names, _ := p.list(p.openDir(""), smb2.ClassFileNamesInformation, "*", 0, 4096); len(names) != 2+4 {
		t.Errorf("there are %v, want four files beside . and ..", names)
	}
	id := open("goes", smb2.FileCreate)
	_, st := p.fsctl(smb2.FsctlSetReparsePoint, id, link, 0)
	want(t, "making a link", st, ntstatus.Success)
	want(t, "deleting it", p.set(id, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
	p.close(id)
	if st, _ := p.do(smb2.CommandCreate, createRequest("goes", smb2.FileCreate)); st != ntstatus.Success {
		t.Errorf("the name is still taken: %v", st)
	}
}

// linkingFS is a faulty storage with links.
type linkingFS struct {
	faultyFS
	vfs.Symlinker
}

func (f linkingFS) Symlink(ctx context.Context, target, name string) error {
	if err := f.of("symlink"); err != nil {
		return err
	}
	return f.Symlinker.Symlink(ctx, target, name)
}

// Who opens a file while it becomes a link waits, and finds the link.
func TestOpenOfWhatBecomesALink(t *testing.T) {
	slow := &slowLinks{began: make(chan struct{}, 1), goOn: make(chan struct{})}
	s := newSite(t, memconn.Config{}, func(c *Config) {
		fsys, err := memory.New(memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fsys.Close() })
		slow.FS, slow.Symlinker = fsys, fsys
		c.Shares[0].FS = slow
	})
	p, q := s.login(smb2.DialectSMB311).mustConnect("data"), s.login(smb2.DialectSMB311).mustConnect("data")
	req := createRequest("f", smb2.FileCreate)
	req.CreateOptions = smb2.FileOpenReparsePoint
	id := p.create(req)
	link, _ := (&smb2.SymbolicLinkReparseBuffer{SubstituteName: "x", PrintName: "x", Flags: smb2.SymlinkFlagRelative}).AppendBinary(nil)
	made := make(chan ntstatus.Status)
	go func() {
		_, st := p.fsctl(smb2.FsctlSetReparsePoint, id, link, 0)
		made <- st
	}()
	<-slow.began
	req.CreateDisposition = smb2.FileOpen
	q.begin(smb2.CommandCreate, req)
	close(slow.goOn)
	want(t, "making a link", <-made, ntstatus.Success)
	h, msg := q.answer()
	want(t, "opening it meanwhile", h.Status, ntstatus.Success)
	got, err := smb2.ParseCreateResponse(msg)
	if err != nil {
		t.Fatal(err)
	}
	if got.FileAttributes != smb2.FileAttributeReparsePoint {
		t.Errorf("what was opened has the attributes %#x, want those of the link", got.FileAttributes)
	}
}

// slowLinks is a storage in which making a link takes until it may go on.
type slowLinks struct {
	vfs.FS
	vfs.Symlinker
	began, goOn chan struct{}
}

func (s *slowLinks) Symlink(ctx context.Context, target, name string) error {
	s.began <- struct{}{}
	<-s.goOn
	return s.Symlinker.Symlink(ctx, target, name)
}
