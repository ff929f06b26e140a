package server

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

func (p *peer) writeAll(id smb2.FileID, content string) {
	p.t.Helper()
	st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte(content)})
	want(p.t, "WRITE", st, ntstatus.Success)
}

func (p *peer) readAll(id smb2.FileID) string {
	p.t.Helper()
	st, msg := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: id, Length: 1000})
	if st == ntstatus.EndOfFile {
		return ""
	}
	want(p.t, "READ", st, ntstatus.Success)
	m, err := smb2.ParseReadResponse(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(m.Data)
}

// streamsOf lists the names of streams in order.
func (p *peer) streamsOf(id smb2.FileID) []string {
	p.t.Helper()
	b, st := p.query(id, smb2.InfoFile, uint8(smb2.ClassFileStreamInformation), 0, 4096)
	want(p.t, "streams", st, ntstatus.Success)
	var names []string
	for m, err := range smb2.FileStreamInformations(b) {
		if err != nil {
			p.t.Fatal(err)
		}
		names = append(names, m.StreamName)
	}
	slices.Sort(names)
	return names
}

// streamDisk is disk on storage that has streams.
func streamDisk(t *testing.T) (*site, *peer) {
	s, p := disk(t)
	st, resp := p.tryCreate(createRequest("probe:s", smb2.FileCreate))
	if st == ntstatus.ObjectNameInvalid {
		t.Skip("the storage of temporary files has no extended attributes to keep streams in")
	}
	p.close(resp.FileID)
	return s, p
}

// [MS-FSCC] 2.1.5: a stream has content of its own and everything else of its file.
func TestStreams(t *testing.T) {
	s, p := streamDisk(t)
	s.write("f", []byte("main"))
	a := p.create(createRequest("f:Stream", smb2.FileCreate))
	p.writeAll(a, "one")
	f := p.openFile("f")
	if got := p.readAll(f); got != "main" {
		t.Errorf("the file has %q, want what it had", got)
	}
	for _, name := range []string{"f:stream", "f:STREAM:$data", "f:Stream:$DATA"} {
		id := p.create(createRequest(name, smb2.FileOpen))
		if got := p.readAll(id); got != "one" {
			t.Errorf("%s has %q, want one", name, got)
		}
		p.close(id)
	}
	if got := p.streamsOf(f); !slices.Equal(got, []string{"::$DATA", ":Stream:$DATA"}) {
		t.Errorf("streams %q", got)
	}
	b, _ := p.query(a, smb2.InfoFile, uint8(smb2.ClassFileAllInformation), 0, 400)
	m, err := smb2.ParseFileAllInformation(b)
	if err != nil || m.Standard.EndOfFile != 3 || m.Name.FileName != `\f:Stream` || m.Standard.Directory {
		t.Errorf("the stream is %+v, %v", m, err)
	}
	b, _ = p.query(f, smb2.InfoFile, uint8(smb2.ClassFileInternalInformation), 0, 8)
	if id := le.Uint64(b); id != m.Internal.IndexNumber {
		t.Errorf("the stream's file id is %d, the file's %d", m.Internal.IndexNumber, id)
	}
	for _, c := range []struct {
		name string
		disp smb2.CreateDisposition
		opts smb2.CreateOptions
		want ntstatus.Status
	}{
		{"f:none", smb2.FileOpen, 0, ntstatus.ObjectNameNotFound},
		{"none:s", smb2.FileOpen, 0, ntstatus.ObjectNameNotFound},
		{`none\f:s`, smb2.FileCreate, 0, ntstatus.ObjectPathNotFound},
		{"f:stream", smb2.FileCreate, 0, ntstatus.ObjectNameCollision},
		{"f:new", smb2.FileOpenIf, smb2.FileDirectoryFile, ntstatus.NotADirectory},
		{"f:a/b", smb2.FileOpenIf, 0, ntstatus.ObjectNameInvalid},
		{"f::$DATA", smb2.FileOpen, 0, ntstatus.Success},
	} {
		req := createRequest(c.name, c.disp)
		req.CreateOptions = c.opts
		st, _ := p.tryCreate(req)
		want(t, c.name, st, c.want)
	}
	// A directory has streams, too, and is none of them.
	s.mkdir("d")
	d := p.create(createRequest("d:s", smb2.FileCreate))
	p.writeAll(d, "of a directory")
	b, _ = p.query(d, smb2.InfoFile, uint8(smb2.ClassFileBasicInformation), 0, 40)
	if basic, err := smb2.ParseFileBasicInformation(b); err != nil || basic.FileAttributes&smb2.FileAttributeDirectory != 0 {
		t.Errorf("a directory's stream is %+v, %v", basic, err)
	}
	if got := p.streamsOf(p.openDir("d")); !slices.Equal(got, []string{":s:$DATA"}) {
		t.Errorf("a directory's streams %q", got)
	}
	// So has the root.
	r := p.create(createRequest(":s", smb2.FileCreate))
	if got := p.streamsOf(p.openDir("")); !slices.Equal(got, []string{":s:$DATA"}) {
		t.Errorf("the root's streams %q", got)
	}
	want(t, "deleting the root's stream", p.set(r, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
	p.close(r)
	// A file comes with its first stream.
	p.create(createRequest("new:s", smb2.FileOpenIf))
	if !s.exists("new") {
		t.Error("a stream without a file")
	}
	// Overwriting a file takes its streams along.
	p.close(a)
	p.close(f)
	if got := p.streamsOf(p.create(createRequest("f", smb2.FileOverwrite))); !slices.Equal(got, []string{"::$DATA"}) {
		t.Errorf("streams %q of an overwritten file", got)
	}
}

// [MS-FSA] 2.1.5.1.1: a stream is made by who may write to its file, whatever he wants
// to do with it then; and a file that comes with its stream has the share's mode.
func TestStreamsAreMadeByWriters(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].CreateMask = 0o600 })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	st, resp := p.tryCreate(createRequest("f:there", smb2.FileCreate))
	if st == ntstatus.ObjectNameInvalid {
		t.Skip("the storage of temporary files has no extended attributes to keep streams in")
	}
	want(t, "a file with a stream", st, ntstatus.Success)
	p.close(resp.FileID)
	if i, err := os.Stat(filepath.Join(s.dir, "f")); err != nil || i.Mode().Perm()&^0o600 != 0 {
		t.Errorf("mode %v, %v, want what 0600 lets through", i.Mode(), err)
	}
	req := createRequest("f", smb2.FileOpen)
	req.DesiredAccess = smb2.WriteDAC
	f := p.create(req)
	self := smb2.SIDUnixUser(processUser().UID)
	sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: self, Mask: smb2.FileGenericRead}}}}
	want(t, "setting a DACL", p.setSecurityOf(f, sd, smb2.DACLSecurityInformation), ntstatus.Success)
	for _, c := range []struct {
		name string
		disp smb2.CreateDisposition
		want ntstatus.Status
	}{
		{"f:new", smb2.FileCreate, ntstatus.AccessDenied},
		{"f:new", smb2.FileOpenIf, ntstatus.AccessDenied},
		{"f:new", smb2.FileOverwriteIf, ntstatus.AccessDenied},
		{"f:new", smb2.FileSupersede, ntstatus.AccessDenied},
		{"f:new", smb2.FileOpen, ntstatus.ObjectNameNotFound},
		{"f:there", smb2.FileOverwriteIf, ntstatus.AccessDenied},
		{"f:there", smb2.FileOpenIf, ntstatus.Success},
	} {
		req := createRequest(c.name, c.disp)
		req.DesiredAccess = smb2.FileReadData
		st, _ := p.tryCreate(req)
		want(t, fmt.Sprint(c.name, " with disposition ", c.disp), st, c.want)
	}
	if got := p.streamsOf(p.create(&smb2.CreateRequest{
		DesiredAccess: smb2.FileReadAttributes, ShareAccess: 7, CreateDisposition: smb2.FileOpen, Name: smb2.EncodeUTF16("f"),
	})); !slices.Equal(got, []string{"::$DATA", ":there:$DATA"}) {
		t.Errorf("streams %q", got)
	}
}

// Streams are shared on their own, and a file is deleted with the last of them.
func TestStreamSharing(t *testing.T) {
	s, p := streamDisk(t)
	s.write("f", nil)
	req := createRequest("f:s", smb2.FileCreate)
	req.ShareAccess = 0
	a := p.create(req)
	open := func(name string, access smb2.AccessMask) ntstatus.Status {
		req := createRequest(name, smb2.FileOpen)
		req.DesiredAccess = access
		st, id := p.tryCreate(req)
		if st == ntstatus.Success {
			p.close(id.FileID)
		}
		return st
	}
	want(t, "the same stream", open("f:S", smb2.FileReadData), ntstatus.SharingViolation)
	want(t, "the file", open("f", smb2.FileReadData|smb2.FileWriteData), ntstatus.Success)
	want(t, "the file, to delete it", open("f", smb2.Delete), ntstatus.SharingViolation)
	f := p.create(func() *smb2.CreateRequest {
		req := createRequest("f", smb2.FileOpen)
		req.DesiredAccess &^= smb2.Delete
		return req
	}())
	p.close(f)
	p.close(a)
	req = createRequest("f:s", smb2.FileOpen)
	req.DesiredAccess = smb2.FileReadData | smb2.FileWriteData
	a = p.create(req)
	p.writeAll(a, "still here")
	f = p.openFile("f")
	want(t, "renaming with a stream open", p.rename(f, "g", false), ntstatus.AccessDenied)
	want(t, "deleting with a stream open", p.set(f, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
	p.close(f)
	if got := p.readAll(a); got != "still here" {
		t.Errorf("the stream of a deleted file has %q", got)
	}
	want(t, "a file that goes", open("f", smb2.FileReadData), ntstatus.DeletePending)
	want(t, "a stream that goes", open("f:s", smb2.FileReadData), ntstatus.DeletePending)
	p.close(a)
	if s.exists("f") {
		t.Error("the file is still there")
	}
}

// [MS-FSA] 2.1.5.15.12.1.
func TestStreamRename(t *testing.T) {
	s, p := streamDisk(t)
	s.write("f", []byte("main"))
	for _, name := range []string{"f:a", "f:b", "f:open"} {
		id := p.create(createRequest(name, smb2.FileCreate))
		p.writeAll(id, name)
		if name != "f:open" {
			p.close(id)
		}
	}
	a := p.create(createRequest("f:a", smb2.FileOpen))
	want(t, "another name", p.rename(a, ":c", false), ntstatus.Success)
	want(t, "another spelling", p.rename(a, ":C:$DATA", false), ntstatus.Success)
	want(t, "taken", p.rename(a, ":B", false), ntstatus.ObjectNameCollision)
	want(t, "what is open", p.rename(a, ":OPEN", true), ntstatus.AccessDenied)
	want(t, "replacing", p.rename(a, ":b", true), ntstatus.Success)
	want(t, "to another file", p.rename(a, "g:b", true), ntstatus.SharingViolation)
	want(t, "no name", p.rename(a, ":b:$INDEX_ALLOCATION", true), ntstatus.ObjectNameInvalid)
	b, _ := p.query(a, smb2.InfoFile, uint8(smb2.ClassFileNormalizedNameInformation), 0, 100)
	if m, err := smb2.ParseFileNameInformation(b); err != nil || m.FileName != "f:b" {
		t.Errorf("the open's name is %q, %v", m.FileName, err)
	}
	st, _ := p.tryCreate(createRequest("f:a", smb2.FileOpen))
	want(t, "the old name", st, ntstatus.ObjectNameNotFound)
	id := p.create(createRequest("f:b", smb2.FileOpen))
	if got := p.readAll(id); got != "f:a" {
		t.Errorf("the new name has %q", got)
	}
	p.close(id)
	// To the unnamed stream: the content becomes the file's.
	want(t, "to the file, not replacing it", p.rename(a, "::$DATA", false), ntstatus.ObjectNameCollision)
	want(t, "to the file", p.rename(a, "::$DATA", true), ntstatus.Success)
	p.close(a)
	f := p.openFile("f")
	if got := p.readAll(f); got != "f:a" {
		t.Errorf("the file has %q", got)
	}
	if got := p.streamsOf(f); !slices.Equal(got, []string{"::$DATA", ":open:$DATA"}) {
		t.Errorf("streams %q", got)
	}
	// A stream is deleted as a file is.
	o := p.create(createRequest("f:open", smb2.FileOpen))
	want(t, "deleting a stream", p.set(o, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
}

// Whatever is done to the streams of a file at once, nothing of it stays in the table
// when all is closed.
func TestStreamsAtOnce(t *testing.T) {
	s, _ := streamDisk(t)
	s.write("f", []byte("main"))
	var all sync.WaitGroup
	for client := range 4 {
		p := s.login(smb2.DialectSMB311).mustConnect("data")
		all.Add(1)
		go func() {
			defer all.Done()
			rnd := rand.New(rand.NewPCG(1, uint64(client)))
			stream := func() string { return string(rune('a' + rnd.IntN(3))) }
			for range 150 {
				name := "f:" + stream()
				if rnd.IntN(6) == 0 {
					name = "f"
				}
				req := createRequest(name, []smb2.CreateDisposition{smb2.FileOpen, smb2.FileOpenIf, smb2.FileOverwriteIf}[rnd.IntN(3)])
				if rnd.IntN(5) == 0 {
					req.CreateOptions = smb2.FileDeleteOnClose
				}
				st, msg := p.do(smb2.CommandCreate, req)
				if st != ntstatus.Success {
					continue
				}
				resp, err := smb2.ParseCreateResponse(msg)
				if err != nil {
					t.Error(err)
					return
				}
				switch rnd.IntN(3) {
				case 0:
					p.rename(resp.FileID, ":"+stream(), rnd.IntN(2) == 0)
				case 1:
					p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: resp.FileID, Data: []byte("x")})
				}
				p.close(resp.FileID)
			}
		}()
	}
	all.Wait()
	tab := &s.srv.files
	tab.mu.Lock()
	defer tab.mu.Unlock()
	if len(tab.files) != 0 || len(tab.streams) != 0 {
		t.Errorf("%d objects and streams of %d files are left", len(tab.files), len(tab.streams))
	}
}
