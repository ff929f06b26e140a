package server

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// [MS-SMB2] 3.3.5.15.1 and 3.3.5.9.5: earlier states are listed, opened by their time,
// and not changed.
func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	put("f", "now")
	put(".snap/@GMT-2020.01.02-03.04.05/f", "then")
	put(".snap/@GMT-2021.01.02-03.04.05/g", "later")
	s := newSite(t, memconn.Config{}, func(c *Config) {
		fsys, err := posix.New(dir, posix.Config{SnapshotDir: ".snap"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fsys.Close() })
		c.Shares[0].FS = fsys
	})
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	root := p.openDir("")
	names := "@GMT-2021.01.02-03.04.05\x00@GMT-2020.01.02-03.04.05\x00\x00"
	for _, c := range []struct {
		room  uint32
		count uint32 // given
		st    ntstatus.Status
	}{
		{15, 0, ntstatus.InvalidParameter},
		{16, 0, ntstatus.Success},
		{12 + 101, 0, ntstatus.Success},
		{12 + 102, 2, ntstatus.Success},
	} {
		out, st := p.fsctl(smb2.FsctlSrvEnumerateSnapshots, root, nil, c.room)
		want(t, "listing snapshots", st, c.st)
		if st != ntstatus.Success {
			continue
		}
		// 25 code units each and one at the end, two octets apiece.
		if le.Uint32(out) != 2 || le.Uint32(out[4:]) != c.count || le.Uint32(out[8:]) != 102 {
			t.Errorf("in %d octets: % x", c.room, out[:12])
		}
		if c.count > 0 && smb2.DecodeUTF16(out[12:]) != names {
			t.Errorf("names %q", smb2.DecodeUTF16(out[12:]))
		}
	}
	at := func(name string, year int, change func(*smb2.CreateRequest)) (ntstatus.Status, smb2.FileID) {
		t.Helper()
		req := createRequest(name, smb2.FileOpen)
		when := smb2.FiletimeOf(time.Date(year, 1, 2, 3, 4, 5, 0, time.UTC))
		data, _ := (&smb2.TimewarpToken{Timestamp: when}).AppendBinary(nil)
		var err error
		if req.Contexts, err = smb2.AppendCreateContext(nil, smb2.CreateContextTimewarpToken, data); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(req)
		}
		st, resp := p.tryCreate(req)
		return st, resp.FileID
	}
	st, f := at("f", 2020, nil)
	want(t, "opening what there was", st, ntstatus.Success)
	if got := p.readAll(f); got != "then" {
		t.Errorf("read %q", got)
	}
	st, _ = at("g", 2020, nil)
	want(t, "what came later", st, ntstatus.ObjectNameNotFound)
	st, _ = at("f", 2019, nil)
	want(t, "no such snapshot", st, ntstatus.ObjectNameNotFound)
	st, _ = at("f", 2020, func(m *smb2.CreateRequest) { m.CreateDisposition = smb2.FileOverwrite })
	want(t, "overwriting", st, ntstatus.MediaWriteProtected)
	st, _ = at("new", 2020, func(m *smb2.CreateRequest) { m.CreateDisposition = smb2.FileCreate })
	want(t, "creating", st, ntstatus.MediaWriteProtected)
	st, _ = at("f", 2020, func(m *smb2.CreateRequest) { m.CreateOptions = smb2.FileDeleteOnClose })
	want(t, "deleting on close", st, ntstatus.MediaWriteProtected)
	st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Data: []byte("x")})
	want(t, "WRITE", st, ntstatus.MediaWriteProtected)
	want(t, "end of file", p.set(f, smb2.ClassFileEndOfFileInformation, make([]byte, 8)), ntstatus.MediaWriteProtected)
	want(t, "deleting", p.set(f, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.MediaWriteProtected)
	want(t, "position", p.set(f, smb2.ClassFilePositionInformation, make([]byte, 8)), ntstatus.Success)
	_, st = p.fsctl(smb2.FsctlSetSparse, f, nil, 0)
	want(t, "SET_SPARSE", st, ntstatus.MediaWriteProtected)
	st, d := at("", 2021, func(m *smb2.CreateRequest) { m.CreateOptions = smb2.FileDirectoryFile })
	want(t, "the root", st, ntstatus.Success)
	list, st := p.list(d, smb2.ClassFileNamesInformation, "?", 0, 4096)
	if st != ntstatus.Success || len(list) != 2 || list[1].FileName != "g" {
		t.Errorf("the root lists %+v, %v", list, st)
	}
	if got := p.readAll(p.openFile("f")); got != "now" {
		t.Errorf("the present has %q", got)
	}
}
