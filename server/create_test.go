package server

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// disk is a peer with the share "data" connected.
func disk(t *testing.T) (*site, *peer) {
	t.Helper()
	s := newSite(t, memconn.Config{}, nil)
	return s, s.login(smb2.DialectSMB311).mustConnect("data")
}

// tryCreate sends a CREATE and returns its answer if it succeeded.
func (p *peer) tryCreate(m *smb2.CreateRequest) (ntstatus.Status, smb2.CreateResponse) {
	p.t.Helper()
	st, msg := p.do(smb2.CommandCreate, m)
	if st != ntstatus.Success {
		return st, smb2.CreateResponse{}
	}
	resp, err := smb2.ParseCreateResponse(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	return st, resp
}

func (p *peer) close(id smb2.FileID) {
	p.t.Helper()
	if st, _ := p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id}); st != ntstatus.Success {
		p.t.Errorf("CLOSE: %v", st)
	}
}

func (s *site) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(s.dir, name))
	return err == nil
}

func (s *site) mkdir(name string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Join(s.dir, name), 0o777); err != nil {
		s.t.Fatal(err)
	}
}

// A CREATE for which there is no room has changed nothing.
func TestCreateOverTheLimit(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Limits.OpensPerSession = 2 })
	s.write("f", []byte("content"))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	missing, _ := p.tryCreate(createRequest("none", smb2.FileOpen)) // takes no room
	want(t, "a missing file", missing, ntstatus.ObjectNameNotFound)
	a := p.openFile("a")
	p.openFile("b")
	overwrite := createRequest("f", smb2.FileOverwriteIf)
	remove := createRequest("f", smb2.FileOpen)
	remove.CreateOptions |= smb2.FileDeleteOnClose
	for name, m := range map[string]*smb2.CreateRequest{
		"overwriting": overwrite, "to be deleted on close": remove, "new": createRequest("new", smb2.FileCreate),
	} {
		st, _ := p.tryCreate(m)
		want(t, name, st, ntstatus.InsufficientResources)
	}
	if s.exists("new") || string(s.read("f")) != "content" {
		t.Errorf("new exists: %v; f holds %q", s.exists("new"), s.read("f"))
	}
	p.close(a)
	p.openFile("a")
	p.mustConnect("IPC$")
	st, _ := p.tryCreate(createRequest("srvsvc", smb2.FileOpen))
	want(t, "a pipe", st, ntstatus.InsufficientResources)
}

// [MS-SMB2] 2.2.13 and 2.2.14: every disposition, on a file that exists and on one
// that does not.
func TestCreateDispositions(t *testing.T) {
	s, p := disk(t)
	type result struct {
		st     ntstatus.Status
		action smb2.CreateAction
		size   uint64 // afterwards
	}
	const ok = ntstatus.Success
	for _, c := range []struct {
		name            string
		d               smb2.CreateDisposition
		exists, missing result
	}{
		{"SUPERSEDE", smb2.FileSupersede, result{ok, smb2.FileSuperseded, 0}, result{ok, smb2.FileCreated, 0}},
		{"OPEN", smb2.FileOpen, result{ok, smb2.FileOpened, 5}, result{ntstatus.ObjectNameNotFound, 0, 0}},
		{"CREATE", smb2.FileCreate, result{ntstatus.ObjectNameCollision, 0, 0}, result{ok, smb2.FileCreated, 0}},
		{"OPEN_IF", smb2.FileOpenIf, result{ok, smb2.FileOpened, 5}, result{ok, smb2.FileCreated, 0}},
		{"OVERWRITE", smb2.FileOverwrite, result{ok, smb2.FileOverwritten, 0}, result{ntstatus.ObjectNameNotFound, 0, 0}},
		{"OVERWRITE_IF", smb2.FileOverwriteIf, result{ok, smb2.FileOverwritten, 0}, result{ok, smb2.FileCreated, 0}},
	} {
		for _, there := range []bool{true, false} {
			want := c.missing
			os.Remove(filepath.Join(s.dir, "f"))
			if there {
				want = c.exists
				s.write("f", []byte("12345"))
			}
			st, resp := p.tryCreate(createRequest("f", c.d))
			if st != want.st || st == ok && (resp.CreateAction != want.action || resp.EndOfFile != want.size) {
				t.Errorf("%s, exists %v: got %v, action %d, size %d; want %v, %d, %d", c.name, there,
					st, resp.CreateAction, resp.EndOfFile, want.st, want.action, want.size)
			}
			if st == ok {
				p.close(resp.FileID)
			}
		}
	}
}

// [MS-FSA] 2.1.5.1: what is refused, and with what.
func TestCreateRefused(t *testing.T) {
	s, p := disk(t)
	s.write("file", []byte("x"))
	s.mkdir("dir/sub")
	type m = smb2.CreateRequest
	for _, c := range []struct {
		name   string
		change func(*m)
		want   ntstatus.Status
	}{
		{"missing leaf", func(m *m) { m.Name = smb2.EncodeUTF16("none") }, ntstatus.ObjectNameNotFound},
		{"missing leaf in a directory", func(m *m) { m.Name = smb2.EncodeUTF16(`dir\none`) }, ntstatus.ObjectNameNotFound},
		{"missing parent", func(m *m) { m.Name = smb2.EncodeUTF16(`none\f`) }, ntstatus.ObjectPathNotFound},
		{"parent is a file", func(m *m) { m.Name = smb2.EncodeUTF16(`file\f`) }, ntstatus.ObjectPathNotFound},
		{"directory as file", func(m *m) {
			m.Name = smb2.EncodeUTF16("dir")
			m.CreateOptions = smb2.FileNonDirectoryFile
		}, ntstatus.FileIsADirectory},
		{"file as directory", func(m *m) { m.CreateOptions = smb2.FileDirectoryFile }, ntstatus.NotADirectory},
		{"directory and no directory", func(m *m) {
			m.CreateOptions = smb2.FileDirectoryFile | smb2.FileNonDirectoryFile
		}, ntstatus.InvalidParameter},
		{"overwriting a directory as one", func(m *m) {
			m.CreateOptions = smb2.FileDirectoryFile
			m.CreateDisposition = smb2.FileOverwrite
		}, ntstatus.InvalidParameter},
		{"overwriting a directory", func(m *m) {
			m.Name = smb2.EncodeUTF16("dir")
			m.CreateDisposition = smb2.FileOverwriteIf
		}, ntstatus.ObjectNameCollision},
		{"overwriting the root", func(m *m) {
			m.Name = nil
			m.CreateDisposition = smb2.FileOverwriteIf
		}, ntstatus.AccessDenied},
		{"no access", func(m *m) { m.DesiredAccess = 0 }, ntstatus.AccessDenied},
		{"access bits that are reserved", func(m *m) { m.DesiredAccess |= 0x04000000 }, ntstatus.AccessDenied},
		{"wrong access and wrong attributes", func(m *m) {
			m.DesiredAccess = 0x04000000
			m.FileAttributes = 8
		}, ntstatus.AccessDenied},
		{"audit", func(m *m) { m.DesiredAccess |= smb2.AccessSystemSecurity }, ntstatus.PrivilegeNotHeld},
		{"unknown share access", func(m *m) { m.ShareAccess = 8 }, ntstatus.InvalidParameter},
		{"unknown disposition", func(m *m) { m.CreateDisposition = 6 }, ntstatus.InvalidParameter},
		{"unknown option", func(m *m) { m.CreateOptions = 0x01000000 }, ntstatus.InvalidParameter},
		{"by file id", func(m *m) { m.CreateOptions = smb2.FileOpenByFileID }, ntstatus.NotSupported},
		{"unknown attribute", func(m *m) { m.FileAttributes = 0x8 }, ntstatus.InvalidParameter},
		{"impersonation", func(m *m) { m.ImpersonationLevel = 4 }, ntstatus.BadImpersonationLevel},
		{"delete on close without DELETE", func(m *m) {
			m.CreateOptions = smb2.FileDeleteOnClose
			m.DesiredAccess = smb2.FileReadData
		}, ntstatus.InvalidParameter},
		{"leading backslash", func(m *m) { m.Name = smb2.EncodeUTF16(`\file`) }, ntstatus.InvalidParameter},
		{"wildcard", func(m *m) { m.Name = smb2.EncodeUTF16("f*") }, ntstatus.ObjectNameInvalid},
		{"named stream", func(m *m) { m.Name = smb2.EncodeUTF16("file:s") }, ntstatus.ObjectNameNotFound},
		{"file with a backslash at the end", func(m *m) {
			m.Name = smb2.EncodeUTF16(`file\`)
			m.CreateOptions = smb2.FileNonDirectoryFile
		}, ntstatus.ObjectNameInvalid},
		{"temporary directory", func(m *m) {
			m.Name = smb2.EncodeUTF16("new")
			m.CreateDisposition = smb2.FileCreate
			m.CreateOptions = smb2.FileDirectoryFile
			m.FileAttributes = smb2.FileAttributeTemporary
		}, ntstatus.InvalidParameter},
		{"snapshot", func(m *m) {
			data, _ := (&smb2.TimewarpToken{Timestamp: 1}).AppendBinary(nil)
			m.Contexts, _ = smb2.AppendCreateContext(nil, smb2.CreateContextTimewarpToken, data)
		}, ntstatus.ObjectNameNotFound},
		{"context with a name of three octets", func(m *m) {
			m.Contexts, _ = smb2.AppendCreateContext(nil, "abc", nil)
		}, ntstatus.InvalidParameter},
		{"reconnecting a durable handle", func(m *m) {
			data, _ := (&smb2.DurableHandleReconnect{}).AppendBinary(nil)
			m.Contexts, _ = smb2.AppendCreateContext(nil, smb2.CreateContextDurableHandleReconnect, data)
		}, ntstatus.ObjectNameNotFound},
	} {
		req := createRequest("file", smb2.FileOpen)
		c.change(req)
		st, resp := p.tryCreate(req)
		if want(t, c.name, st, c.want); st == ntstatus.Success {
			p.close(resp.FileID)
		}
	}
	if string(s.read("file")) != "x" {
		t.Errorf("file changed to %q", s.read("file"))
	}
}

// Requests for oplocks, leases and durable handles succeed without them, and
// unknown contexts are ignored.
func TestCreateContextsNotGranted(t *testing.T) {
	_, p := disk(t)
	var list []byte
	for _, c := range []struct {
		name string
		m    body
	}{
		{smb2.CreateContextDurableHandleV2, &smb2.DurableHandleRequestV2{CreateGUID: smb2.GUID{1}}},
		{smb2.CreateContextLease, &smb2.Lease{Version: 2, LeaseState: smb2.LeaseReadCaching}},
		{smb2.CreateContextAAPL, &smb2.TimewarpToken{}},
		{"Zzzz", &smb2.TimewarpToken{}},
		{smb2.CreateContextQueryMaximalAccess, &smb2.MaximalAccessRequest{}},
		{smb2.CreateContextQueryOnDiskID, &smb2.MaximalAccessRequest{}},
	} {
		data, err := c.m.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if list, err = smb2.AppendCreateContext(list, c.name, data); err != nil {
			t.Fatal(err)
		}
	}
	req := createRequest("f", smb2.FileCreate)
	req.RequestedOplockLevel, req.Contexts = smb2.OplockLevelLease, list
	st, resp := p.tryCreate(req)
	want(t, "CREATE", st, ntstatus.Success)
	if resp.OplockLevel != smb2.OplockLevelNone {
		t.Errorf("oplock level %d, want none", resp.OplockLevel)
	}
	got := map[string][]byte{}
	for c, err := range smb2.CreateContexts(resp.Contexts) {
		if err != nil {
			t.Fatal(err)
		}
		got[string(c.Name)] = c.Data
	}
	if len(got) != 2 || len(got[smb2.CreateContextQueryOnDiskID]) != 32 {
		t.Errorf("contexts %v, want MxAc and QFid", got)
	}
	m, err := smb2.ParseMaximalAccessResponse(got[smb2.CreateContextQueryMaximalAccess])
	if err != nil || m.QueryStatus != ntstatus.Success || m.MaximalAccess != smb2.FileAllAccess {
		t.Errorf("maximal access %+v, %v; want all", m, err)
	}
}

// [MS-FSA] 2.1.5.1.2.2, through the door: the second open is refused for good
// reason only, and both may be of one file by different names.
func TestCreateSharing(t *testing.T) {
	s, p := disk(t)
	s.write("f", nil)
	if err := os.Link(filepath.Join(s.dir, "f"), filepath.Join(s.dir, "g")); err != nil {
		t.Fatal(err)
	}
	first := createRequest("f", smb2.FileOpen)
	first.ShareAccess = smb2.FileShareRead
	id := p.create(first)
	second := createRequest("g", smb2.FileOpen)
	st, _ := p.tryCreate(second)
	want(t, "second open for writing by another name", st, ntstatus.SharingViolation)
	second.DesiredAccess = smb2.FileReadAttributes
	st, resp := p.tryCreate(second)
	want(t, "second open for attributes", st, ntstatus.Success)
	p.close(resp.FileID)
	over := createRequest("g", smb2.FileOverwrite)
	over.DesiredAccess = smb2.FileReadAttributes
	s.write("f", []byte("data"))
	st, _ = p.tryCreate(over)
	want(t, "overwriting with metadata access", st, ntstatus.SharingViolation)
	if string(s.read("f")) != "data" {
		t.Error("the file was truncated before the sharing was checked")
	}
	p.close(id)
	st, _ = p.tryCreate(createRequest("g", smb2.FileOpen))
	want(t, "open after CLOSE", st, ntstatus.Success)
}

// A read-only share lets nothing be changed, and a read-only file neither.
func TestCreateReadOnly(t *testing.T) {
	s, p := disk(t)
	s.write("f", []byte("data"))
	req := createRequest("attr", smb2.FileCreate)
	req.FileAttributes = smb2.FileAttributeReadonly
	id := p.create(req)
	st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("x")})
	want(t, "writing through the open that created it", st, ntstatus.Success)
	p.close(id)
	st, _ = p.tryCreate(createRequest("attr", smb2.FileOpen))
	want(t, "opening a read-only file for writing", st, ntstatus.AccessDenied)
	req = createRequest("attr", smb2.FileOpen)
	req.DesiredAccess = smb2.FileReadData | smb2.Delete
	req.CreateOptions = smb2.FileDeleteOnClose
	st, _ = p.tryCreate(req)
	want(t, "deleting a read-only file on close", st, ntstatus.CannotDelete)
	req = createRequest("attr", smb2.FileOpen)
	req.DesiredAccess = smb2.MaximumAllowed
	id = p.create(req)
	st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("x")})
	want(t, "writing with all the access there is", st, ntstatus.AccessDenied)

	p.mustConnect("ro")
	for _, d := range []smb2.CreateDisposition{smb2.FileCreate, smb2.FileOverwriteIf, smb2.FileSupersede} {
		req := createRequest("new", d)
		req.DesiredAccess = smb2.FileReadData
		st, _ := p.tryCreate(req)
		want(t, "creating on a read-only share", st, ntstatus.AccessDenied)
	}
	st, _ = p.tryCreate(createRequest("f", smb2.FileOpen))
	want(t, "writing on a read-only share", st, ntstatus.AccessDenied)
	req = createRequest("f", smb2.FileOpen)
	req.DesiredAccess = smb2.MaximumAllowed
	st, resp := p.tryCreate(req)
	want(t, "all the access there is", st, ntstatus.Success)
	st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: resp.FileID, Data: []byte("x")})
	want(t, "writing with that", st, ntstatus.AccessDenied)
	if string(s.read("f")) != "data" || s.exists("new") {
		t.Error("the share was changed")
	}
}

// [MS-FSA] 2.1.5.5: delete on close takes effect with the last open; until then
// new opens are refused.
func TestDeleteOnClose(t *testing.T) {
	s, p := disk(t)
	s.write("f", nil)
	other := p.create(createRequest("f", smb2.FileOpen))
	req := createRequest("f", smb2.FileOpen)
	req.CreateOptions = smb2.FileDeleteOnClose
	id := p.create(req)
	st, resp := p.tryCreate(createRequest("f", smb2.FileOpen))
	want(t, "open while the open that will delete lives", st, ntstatus.Success)
	p.close(resp.FileID)
	p.close(id)
	if !s.exists("f") {
		t.Error("deleted before the last open was closed")
	}
	for _, d := range []smb2.CreateDisposition{smb2.FileOpen, smb2.FileCreate, smb2.FileOpenIf} {
		st, _ = p.tryCreate(createRequest("f", d))
		want(t, "open of a file to be deleted", st, ntstatus.DeletePending)
	}
	p.close(other)
	if s.exists("f") {
		t.Error("not deleted with the last open")
	}
	st, _ = p.tryCreate(createRequest("f", smb2.FileOpen))
	want(t, "open of a deleted file", st, ntstatus.ObjectNameNotFound)
}

// Each name of a file goes by which an open was to delete it, and no other.
func TestDeleteOnCloseOfSeveralNames(t *testing.T) {
	s, p := disk(t)
	s.write("f", nil)
	for _, name := range []string{"a", "b", "kept"} {
		if err := os.Link(filepath.Join(s.dir, "f"), filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var ids []smb2.FileID
	for _, name := range []string{"f", "a", "b", "a"} {
		req := createRequest(name, smb2.FileOpen)
		req.CreateOptions = smb2.FileDeleteOnClose
		ids = append(ids, p.create(req))
	}
	for _, id := range ids {
		p.close(id)
	}
	for name, want := range map[string]bool{"f": false, "a": false, "b": false, "kept": true} {
		if got := s.exists(name); got != want {
			t.Errorf("%s is there: %v, want %v", name, got, want)
		}
	}
}

// [MS-FSA] 2.1.1.4: a name that is to be deleted says nothing of the file's other names,
// and goes with the last open by it.
func TestDeletePendingIsOfTheName(t *testing.T) {
	s, p := disk(t)
	s.write("a", []byte("data"))
	for _, name := range []string{"b", "c"} {
		if err := os.Link(filepath.Join(s.dir, "a"), filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	links := func(what string, id smb2.FileID, n uint32, pending bool) {
		t.Helper()
		b, st := p.query(id, smb2.InfoFile, uint8(smb2.ClassFileStandardInformation), 0, 64)
		want(t, what, st, ntstatus.Success)
		m, err := smb2.ParseFileStandardInformation(b)
		if err != nil || m.NumberOfLinks != n || m.DeletePending != pending {
			t.Errorf("%s: %d links, pending %v, %v; want %d, %v", what, m.NumberOfLinks, m.DeletePending, err, n, pending)
		}
	}
	there := func(when string, names string) {
		t.Helper()
		got := ""
		for _, name := range []string{"a", "b", "c"} {
			if s.exists(name) {
				got += name
			}
		}
		if got != names {
			t.Errorf("%s there is %q, want %q", when, got, names)
		}
	}
	mark := func(id smb2.FileID, del byte) {
		t.Helper()
		want(t, "marking it", p.set(id, smb2.ClassFileDispositionInformation, []byte{del}), ntstatus.Success)
	}

	a := p.create(createRequest("a", smb2.FileOpen))
	again := p.create(createRequest("a", smb2.FileOpen))
	mark(a, 1)
	for _, d := range []smb2.CreateDisposition{smb2.FileOpen, smb2.FileCreate, smb2.FileOpenIf} {
		st, _ := p.tryCreate(createRequest("A", d))
		want(t, "open by the name that goes", st, ntstatus.DeletePending)
	}
	st, _ := p.tryCreate(createRequest("b", smb2.FileCreate))
	want(t, "creating another name of it", st, ntstatus.ObjectNameCollision)
	b := p.create(createRequest("b", smb2.FileOpen))
	links("the name that goes", again, 2, true)
	links("another", b, 2, false)
	mark(b, 0) // nothing of what a is
	p.close(a)
	there("with one of two opens by the name", "abc")
	p.close(again)
	there("with an open by another name", "bc")
	links("the other", b, 2, false)

	mark(b, 1)
	links("the other", b, 1, true)
	mark(b, 0)
	links("the other", b, 2, false)
	mark(b, 1)
	c := p.create(createRequest("c", smb2.FileOpen))
	mark(c, 1)
	p.close(b)
	there("while the last name is open", "c")
	links("the last name", c, 0, true)
	p.close(c)
	there("at the end", "")
	if files, opens := s.srv.files.counts(); files != 0 || opens != 0 {
		t.Errorf("%d files and %d opens are left", files, opens)
	}
}

// What has been put in the place of a file meanwhile is not deleted for it.
func TestDeleteOnCloseComparesIdentity(t *testing.T) {
	s, p := disk(t)
	s.write("f", nil)
	req := createRequest("f", smb2.FileOpen)
	req.CreateOptions = smb2.FileDeleteOnClose
	id := p.create(req)
	s.write("other", []byte("keep"))
	if err := os.Rename(filepath.Join(s.dir, "other"), filepath.Join(s.dir, "f")); err != nil {
		t.Fatal(err)
	}
	p.close(id)
	if !s.exists("f") {
		t.Error("another file was deleted")
	}
}

// The end of a session deletes too.
func TestDeleteOnCloseAtLogoff(t *testing.T) {
	s, p := disk(t)
	req := createRequest("f", smb2.FileCreate)
	req.CreateOptions = smb2.FileDeleteOnClose
	p.create(req)
	st, _ := p.do(smb2.CommandLogoff, &smb2.LogoffRequest{})
	want(t, "LOGOFF", st, ntstatus.Success)
	if s.exists("f") {
		t.Error("not deleted at LOGOFF")
	}
	if files, opens := s.srv.files.counts(); files != 0 || opens != 0 {
		t.Errorf("%d files, %d opens left", files, opens)
	}
}

// A listing shows what an open of the same name would, as on Samba: what a link leads to.
// A link that leads nowhere or out of the share is shown itself, so that it can be removed.
func TestListingOfLinks(t *testing.T) {
	s, p := disk(t)
	s.write("target", []byte("12345"))
	s.mkdir("d")
	for _, l := range [][2]string{{"target", "file"}, {"d", "dir"}, {"nowhere", "dangling"}, {"/etc/passwd", "outside"}} {
		if err := os.Symlink(l[0], filepath.Join(s.dir, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	type shown struct {
		attributes smb2.FileAttributes
		tag        uint32
		size       uint64
	}
	dir := p.openDir("")
	got := map[string]shown{}
	list, st := p.list(dir, smb2.ClassFileFullDirectoryInformation, "*", 0, 4096)
	want(t, "QUERY_DIRECTORY", st, ntstatus.Success)
	for _, e := range list {
		got[e.FileName] = shown{e.FileAttributes & (smb2.FileAttributeDirectory | smb2.FileAttributeReparsePoint), e.EaSize, e.EndOfFile}
	}
	const symlink = 0xA000000C // IO_REPARSE_TAG_SYMLINK, [MS-FSCC] 2.1.2.1
	for name, want := range map[string]shown{
		"file":     {0, 0, 5},
		"dir":      {smb2.FileAttributeDirectory, 0, got["d"].size},
		"dangling": {smb2.FileAttributeReparsePoint, symlink, got["dangling"].size},
		"outside":  {smb2.FileAttributeReparsePoint, symlink, got["outside"].size},
	} {
		if got[name] != want {
			t.Errorf("%s is listed as %+v, want %+v", name, got[name], want)
		}
		req := createRequest(name, smb2.FileOpen)
		req.CreateOptions = smb2.FileOpenReparsePoint
		st, resp := p.tryCreate(req)
		if st != ntstatus.Success || resp.FileAttributes&smb2.FileAttributeReparsePoint == 0 {
			t.Errorf("%s itself: %v, attributes %#x", name, st, resp.FileAttributes)
		}
	}
}

// A symbolic link is followed; opened itself it is a reparse point, and it is the
// link that is deleted by its name. FIFOs can be looked at and deleted.
func TestCreateLinksAndSpecial(t *testing.T) {
	s, p := disk(t)
	s.write("target", []byte("12345"))
	for _, l := range [][2]string{{"target", "link"}, {"nowhere", "dangling"}, {"/etc/passwd", "outside"}} {
		if err := os.Symlink(l[0], filepath.Join(s.dir, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	st, resp := p.tryCreate(createRequest("link", smb2.FileOpen))
	want(t, "link", st, ntstatus.Success)
	if resp.EndOfFile != 5 {
		t.Errorf("size through the link %d, want 5", resp.EndOfFile)
	}
	p.close(resp.FileID)
	st, _ = p.tryCreate(createRequest("dangling", smb2.FileOpen))
	want(t, "dangling link", st, ntstatus.ObjectNameNotFound)
	st, _ = p.tryCreate(createRequest("outside", smb2.FileOpen))
	want(t, "link that leaves the share", st, ntstatus.AccessDenied)
	req := createRequest("outside", smb2.FileOpen)
	req.CreateOptions = smb2.FileOpenReparsePoint
	st, resp = p.tryCreate(req)
	want(t, "link itself", st, ntstatus.Success)
	if resp.FileAttributes != smb2.FileAttributeReparsePoint {
		t.Errorf("attributes %#x, want a reparse point", resp.FileAttributes)
	}
	out, st := p.fsctl(smb2.FsctlGetReparsePoint, resp.FileID, nil, 4096)
	want(t, "GET_REPARSE_POINT", st, ntstatus.Success)
	if m, err := smb2.ParseSymbolicLinkReparseBuffer(out); err != nil || m.SubstituteName != `\etc\passwd` || m.Flags != 0 {
		t.Errorf("reparse point %+v, %v", m, err)
	}
	p.close(resp.FileID)
	req = createRequest("link", smb2.FileOpen)
	req.CreateOptions = smb2.FileDeleteOnClose
	p.close(p.create(req))
	if s.exists("link") || !s.exists("target") {
		t.Error("deleting through a link took the wrong one")
	}

	if err := syscall.Mkfifo(filepath.Join(s.dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	req = createRequest("fifo", smb2.FileOpen)
	req.DesiredAccess = smb2.Delete | smb2.FileReadAttributes
	req.CreateOptions = smb2.FileDeleteOnClose
	st, _ = p.tryCreate(req)
	want(t, "a FIFO that is to be read", st, ntstatus.IOReparseTagNotHandled)
	req.CreateOptions |= smb2.FileOpenReparsePoint
	p.close(p.create(req))
	if s.exists("fifo") {
		t.Error("FIFO not deleted")
	}
}

// CLOSE tells the attributes when asked, [MS-SMB2] 3.3.5.10, and only once.
func TestClose(t *testing.T) {
	s, p := disk(t)
	s.write("f", []byte("12345"))
	id := p.openFile("f")
	st, msg := p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id, Flags: smb2.CloseFlagPostqueryAttrib})
	want(t, "CLOSE", st, ntstatus.Success)
	resp, err := smb2.ParseCloseResponse(msg)
	if err != nil || resp.Flags != smb2.CloseFlagPostqueryAttrib || resp.EndOfFile != 5 || resp.LastWriteTime == 0 {
		t.Errorf("%+v, %v", resp, err)
	}
	st, _ = p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id})
	want(t, "second CLOSE", st, ntstatus.FileClosed)
	id = p.openFile("f")
	_, msg = p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id})
	if resp, err = smb2.ParseCloseResponse(msg); err != nil || resp != (smb2.CloseResponse{}) {
		t.Errorf("without the flag: %+v, %v; want zeros", resp, err)
	}
	id = p.openFile("f")
	id.Persistent++
	st, _ = p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id})
	want(t, "CLOSE with half of a FileId", st, ntstatus.FileClosed)
}

// Who closes a file that is already being closed is told so only when others see it
// leave, so that it can be waited for: at first it is still in the session's set.
func TestClosedTwiceAtOnce(t *testing.T) {
	s, p := disk(t)
	s.write("f", nil)
	id := p.openFile("f")
	sess := s.srv.allSessions()[0]
	o := sess.opens.get(id)
	defer o.release()
	var let atomic.Bool
	sess.opens.mu.Lock() // the first can't take it out
	var wg sync.WaitGroup
	wg.Go(func() {
		if !o.shut(context.Background()) {
			t.Error("the first was not the first")
		}
	})
	<-o.closing
	wg.Go(func() {
		if o.shut(context.Background()) {
			t.Error("the second was the first")
		}
		if !let.Load() {
			t.Error("the second did not wait for the open to leave")
		}
	})
	time.Sleep(20 * time.Millisecond) // for the second, should it not wait
	let.Store(true)
	sess.opens.mu.Unlock()
	wg.Wait()
	st, _ := p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id})
	want(t, "CLOSE of what has been closed", st, ntstatus.FileClosed)
}

// fsctl sends an IOCTL and returns its output.
func (p *peer) fsctl(code smb2.CtlCode, id smb2.FileID, in []byte, room uint32) ([]byte, ntstatus.Status) {
	p.t.Helper()
	st, msg := p.do(smb2.CommandIoctl, &smb2.IoctlRequest{
		CtlCode: code, FileID: id, Input: in, MaxOutputResponse: room, Flags: smb2.IoctlFlagIsFsctl,
	})
	if resp, err := smb2.ParseIoctlResponse(msg); err == nil {
		return resp.Output, st
	}
	return nil, st
}
