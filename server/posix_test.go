package server

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// posixPeer is a client that asks for the POSIX extensions, as Linux does, and whether
// it got them.
func posixPeer(t *testing.T, change func(*Config)) (*site, *peer, bool) {
	t.Helper()
	s := newSite(t, memconn.Config{}, change)
	p, got := s.posixLogin()
	return s, p, got
}

func (s *site) posixLogin() (*peer, bool) {
	s.t.Helper()
	p := s.dial()
	req := &smb2.NegotiateRequest{SecurityMode: p.mode, Capabilities: p.caps, ClientGUID: p.guid, Dialects: []smb2.Dialect{smb2.DialectSMB311}}
	tag, _ := hex.DecodeString("93AD25509CB411E7B42383DE968BCD7C")
	req.Contexts = append(p.contexts(), smb2.NegotiateContext{Type: 0x0100, Data: tag})
	st, resp := p.negotiateWith(req)
	want(s.t, "NEGOTIATE", st, ntstatus.Success)
	p.neg = resp
	want(s.t, "logon", p.logon("ann", "secret"), ntstatus.Success)
	data, n := smb2.FindNegotiateContext(resp.Contexts, smb2.ContextPosixExtensions)
	return p.mustConnect("data"), n == 1 && string(data) == string(tag)
}

// posixRequest is a CREATE with the context; mode as Linux sends it.
func posixRequest(t testing.TB, name string, d smb2.CreateDisposition, mode uint32) *smb2.CreateRequest {
	t.Helper()
	req := createRequest(name, d)
	data, _ := (&smb2.PosixCreateRequest{Mode: mode}).AppendBinary(nil)
	var err error
	if req.Contexts, err = smb2.AppendCreateContext(nil, smb2.CreateContextPosix, data); err != nil {
		t.Fatal(err)
	}
	return req
}

func TestPosixIsNegotiated(t *testing.T) {
	if _, _, got := posixPeer(t, nil); !got {
		t.Error("the extensions were not offered")
	}
	s, p, got := posixPeer(t, func(c *Config) { c.NoPOSIXExtensions = true })
	if got {
		t.Error("the extensions were offered though the configuration says not to")
	}
	// The context of a connection without them means nothing.
	s.write("File", nil)
	st, resp := p.tryCreate(posixRequest(t, "FILE", smb2.FileOpen, 0xFFFF))
	want(t, "another spelling", st, ntstatus.Success)
	if _, found, _ := smb2.FindCreateContext(resp.Contexts, smb2.CreateContextPosix); found {
		t.Error("an answer to the context")
	}
}

// A share can be without what its clients have negotiated.
func TestShareWithoutPosix(t *testing.T) {
	s, p, got := posixPeer(t, func(c *Config) { c.Shares[0].NoPOSIXExtensions = true })
	if !got {
		t.Error("the extensions were not offered, though the configuration speaks of a share")
	}
	s.write("File", nil)
	st, resp := p.tryCreate(posixRequest(t, "FILE", smb2.FileOpen, 0xFFFF))
	want(t, "another spelling", st, ntstatus.Success)
	if _, found, _ := smb2.FindCreateContext(resp.Contexts, smb2.CreateContextPosix); found {
		t.Error("an answer to the context")
	}
	const fsPosix = 100 // FileFsPosixInformation
	_, st = p.query(resp.FileID, smb2.InfoFilesystem, fsPosix, 0, 4096)
	want(t, "FileFsPosixInformation", st, ntstatus.InvalidInfoClass)
}

// Mode, links, owner and group, in the places where Linux looks for them.
func TestPosixInformation(t *testing.T) {
	s, p, _ := posixPeer(t, nil)
	st, resp := p.tryCreate(posixRequest(t, "f", smb2.FileCreate, 0o640))
	want(t, "create", st, ntstatus.Success)
	path := filepath.Join(s.dir, "f")
	i, err := os.Stat(path)
	if err != nil || i.Mode().Perm() != 0o640 {
		t.Fatalf("mode %v, %v, want 0640", i.Mode(), err)
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	sids := append([]byte{1, 2, 0, 0, 0, 0, 0, 22, 1, 0, 0, 0}, le.AppendUint32(nil, uid)...)
	sids = append(append(sids, 1, 2, 0, 0, 0, 0, 0, 22, 2, 0, 0, 0), le.AppendUint32(nil, gid)...)
	check := func(what string, b []byte, links, tag, mode uint32) {
		t.Helper()
		if len(b) < 12+len(sids) || le.Uint32(b) != links || le.Uint32(b[4:]) != tag || le.Uint32(b[8:]) != mode || string(b[12:12+len(sids)]) != string(sids) {
			t.Errorf("%s: %x, want %d links, tag %#x, mode %#o and %x", what, b, links, tag, mode, sids)
		}
	}
	data, found, err := smb2.FindCreateContext(resp.Contexts, smb2.CreateContextPosix)
	if !found || err != nil {
		t.Fatalf("no answer to the context: %v", err)
	}
	check("create context", data, 1, 0, 0o640)
	if len(data) != 12+len(sids) {
		t.Errorf("the context has %d octets, want %d", len(data), 12+len(sids))
	}

	const class = uint8(smb2.ClassFilePosixInformation)
	b, st := p.query(resp.FileID, smb2.InfoFile, class, 0, 1024)
	want(t, "query", st, ntstatus.Success)
	if len(b) != 80+len(sids) {
		t.Fatalf("%d octets, want %d", len(b), 80+len(sids))
	}
	check("query", b[68:], 1, 0, 0o640)
	if ino := i.Sys().(*syscall.Stat_t).Ino; le.Uint64(b[52:]) != ino || le.Uint64(b[32:]) != 0 || le.Uint32(b[48:]) != uint32(smb2.FileAttributeArchive) {
		t.Errorf("inode %d, size %d, attributes %#x; want %d, 0, archive", le.Uint64(b[52:]), le.Uint64(b[32:]), le.Uint32(b[48:]), ino)
	}
	b, st = p.query(resp.FileID, smb2.InfoFilesystem, class, 0, 1024)
	want(t, "query of the file system", st, ntstatus.Success)
	if len(b) != 56 || le.Uint32(b[4:]) == 0 || le.Uint64(b[8:]) == 0 {
		t.Errorf("file system: %x", b)
	}
	// An open without the context has none of it.
	_, st = p.query(p.create(createRequest("f", smb2.FileOpen)), smb2.InfoFile, class, 0, 1024)
	want(t, "query without the context", st, ntstatus.InvalidInfoClass)

	// In listings links are links, whatever they lead to.
	if err := os.Symlink("f", filepath.Join(s.dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(s.dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	req := posixRequest(t, "", smb2.FileOpen, 0xFFFF)
	req.DesiredAccess, req.CreateOptions = smb2.FileListDirectory|smb2.FileReadAttributes, smb2.FileDirectoryFile
	dir := p.create(req)
	st, msg := p.do(smb2.CommandQueryDirectory, &smb2.QueryDirectoryRequest{
		FileInformationClass: smb2.ClassFilePosixInformation, FileID: dir, FileName: smb2.EncodeUTF16("*"), OutputBufferLength: 4096,
	})
	want(t, "listing", st, ntstatus.Success)
	list, err := smb2.ParseQueryDirectoryResponse(msg)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint32{}
	for e, err := range smb2.PosixEntries(list.OutputBuffer) {
		if err != nil {
			t.Fatal(err)
		}
		got[e.FileName] = e.Mode
	}
	for name, mode := range map[string]uint32{"f": 0o640, "link": 2<<12 | 0o777, "pipe": 5<<12 | 0o600} {
		if got[name] != mode {
			t.Errorf("listing: %s has mode %#o, want %#o (all: %v)", name, got[name], mode, got)
		}
	}
	if _, ok := got["."]; !ok || len(got) != 5 {
		t.Errorf("listing: %v", got)
	}
}

func TestPosixNames(t *testing.T) {
	s, p, _ := posixPeer(t, nil)
	for _, name := range []string{"readme", "README", "a:b", "d*"} {
		st, _ := p.tryCreate(posixRequest(t, name, smb2.FileCreate, 0o600))
		want(t, name, st, ntstatus.Success)
		if _, err := os.Stat(filepath.Join(s.dir, name)); err != nil {
			t.Error(err)
		}
	}
	st, _ := p.tryCreate(posixRequest(t, "ReadMe", smb2.FileOpen, 0xFFFF))
	want(t, "a spelling that is not there", st, ntstatus.ObjectNameNotFound)
	st, _ = p.tryCreate(createRequest("ReadMe", smb2.FileOpen))
	want(t, "for others it is", st, ntstatus.Success)
	if err := os.Mkdir(filepath.Join(s.dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("dir/f", nil)
	for name, status := range map[string]ntstatus.Status{
		"dir/f": ntstatus.Success, `dir\f`: ntstatus.Success, "./dir//f": ntstatus.Success, "dir/../readme": ntstatus.Success,
		"../x": ntstatus.ObjectPathSyntaxBad, "dir/../../x": ntstatus.ObjectPathSyntaxBad, "a\x00b": ntstatus.ObjectNameInvalid,
		"\uF022": ntstatus.ObjectNameNotFound,
	} {
		st, _ := p.tryCreate(posixRequest(t, name, smb2.FileOpen, 0xFFFF))
		want(t, name, st, status)
	}
}

// A link at the end of the name is not followed; the client is told where it leads.
func TestPosixStopsOnLinks(t *testing.T) {
	s, p, _ := posixPeer(t, nil)
	s.write("f", nil)
	for name, c := range map[string]struct{ target, told string }{
		"l":         {"f", "f"},
		"dangling":  {"dir/nothing", `dir\nothing`},
		"away":      {"/etc/passwd", `\etc\passwd`},
		"here":      {".", "."},
		"backslash": {`a\b/c:d`, "a\uf026b\\c\uf022d"},
	} {
		if err := os.Symlink(c.target, filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
		for _, d := range []smb2.CreateDisposition{smb2.FileOpen, smb2.FileOverwriteIf} {
			st, msg := p.do(smb2.CommandCreate, posixRequest(t, name, d, 0xFFFF))
			want(t, name, st, ntstatus.StoppedOnSymlink)
			e, err := smb2.ParseErrorResponse(msg)
			if err != nil {
				t.Fatal(err)
			}
			data, err := e.Data(smb2.ErrorIDDefault)
			if err != nil {
				t.Fatal(err)
			}
			m, err := smb2.ParseSymbolicLinkErrorResponse(data)
			if err != nil || smb2.DecodeUTF16(m.SubstituteName) != c.told || (m.Flags == smb2.SymlinkFlagRelative) != (c.target[0] != '/') {
				t.Errorf("%s: %+v, %v, want %s", name, m, err, c.told)
			}
		}
		req := posixRequest(t, name, smb2.FileOpen, 0xFFFF)
		req.DesiredAccess, req.CreateOptions = smb2.FileReadAttributes, smb2.FileOpenReparsePoint
		st, _ := p.tryCreate(req)
		want(t, name+" itself", st, ntstatus.Success)
	}
}

// A name that is deleted is free at once, and what was opened by it goes on, unless
// somebody without the extensions has it open.
func TestPosixUnlink(t *testing.T) {
	s, p, _ := posixPeer(t, nil)
	unlink := func() {
		t.Helper()
		req := posixRequest(t, "f", smb2.FileOpen, 0xFFFF)
		req.DesiredAccess, req.CreateOptions = smb2.Delete, smb2.FileDeleteOnClose
		p.close(p.create(req))
	}
	gone := func() bool {
		_, err := os.Stat(filepath.Join(s.dir, "f"))
		return errors.Is(err, fs.ErrNotExist)
	}
	s.write("f", []byte("old"))
	f := p.create(posixRequest(t, "f", smb2.FileOpen, 0xFFFF))
	unlink()
	if !gone() {
		t.Fatal("the name is there while somebody has the file open")
	}
	st, _ := p.tryCreate(posixRequest(t, "f", smb2.FileCreate, 0o600))
	want(t, "the name again", st, ntstatus.Success)
	st, msg := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 3})
	if r, err := smb2.ParseReadResponse(msg); st != ntstatus.Success || err != nil || string(r.Data) != "old" {
		t.Errorf("the old file: %v, %v, %q", st, err, r.Data)
	}
	p.close(f)
	if gone() {
		t.Error("the new file went with the old one")
	}
	unlink()

	s.write("f", nil)
	f = p.create(createRequest("f", smb2.FileOpen))
	unlink()
	if gone() {
		t.Error("deleted under somebody who does not expect it")
	}
	p.close(f)
	if !gone() {
		t.Error("not deleted with the last open")
	}
}

// Renaming replaces what is open, unless somebody without the extensions has it open.
func TestPosixRename(t *testing.T) {
	s, p, _ := posixPeer(t, nil)
	s.write("new", []byte("new"))
	s.write("old", []byte("old"))
	f := p.create(posixRequest(t, "new", smb2.FileOpen, 0xFFFF))
	other := p.create(createRequest("old", smb2.FileOpen))
	want(t, "onto what others have open", p.rename(f, "old", true), ntstatus.AccessDenied)
	p.close(other)
	old := p.create(posixRequest(t, "old", smb2.FileOpen, 0xFFFF))
	want(t, "onto what is open", p.rename(f, "old", true), ntstatus.Success)
	if got := string(s.read("old")); got != "new" {
		t.Errorf("the name has %q, want new", got)
	}
	st, msg := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: old, Length: 3})
	if r, err := smb2.ParseReadResponse(msg); st != ntstatus.Success || err != nil || string(r.Data) != "old" {
		t.Errorf("the old file: %v, %v, %q", st, err, r.Data)
	}
	want(t, "another spelling is another name", p.rename(f, "OLD", false), ntstatus.Success)
	if _, err := os.Stat(filepath.Join(s.dir, "OLD")); err != nil {
		t.Error(err)
	}
}

// chmod and chown come as descriptors.
func TestPosixChmod(t *testing.T) {
	s, p, _ := posixPeer(t, nil)
	s.write("f", nil)
	req := posixRequest(t, "f", smb2.FileOpen, 0xFFFF)
	req.DesiredAccess = smb2.WriteDAC | smb2.WriteOwner | smb2.ReadControl
	f := p.create(req)
	mode := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: smb2.SIDNFSMode(0o604)}}}}
	want(t, "chmod", p.setSecurityOf(f, mode, smb2.DACLSecurityInformation), ntstatus.Success)
	if i, err := os.Stat(filepath.Join(s.dir, "f")); err != nil || i.Mode().Perm() != 0o604 {
		t.Errorf("mode %v, %v, want 0604", i.Mode(), err)
	}
	self := smb2.SIDNFSUser(uint32(os.Getuid()))
	want(t, "chown to oneself", p.setSecurityOf(f, smb2.SecurityDescriptor{Owner: &self}, smb2.OwnerSecurityInformation), ntstatus.Success)
}

// A directory keeps the special bits that the client says it has, and what is made in
// it those that it has of it, as without a server in between. Nobody gets more.
func TestPosixSpecialBits(t *testing.T) {
	for _, c := range []struct {
		old  fs.FileMode
		mode uint32
		want fs.FileMode
	}{
		{fs.ModeDir | 0o755, 0o775, fs.ModeDir | 0o775},
		{fs.ModeDir | fs.ModeSetgid | 0o755, 0o2775, fs.ModeDir | fs.ModeSetgid | 0o775},
		{fs.ModeDir | fs.ModeSetgid | fs.ModeSticky | 0o755, 0o755, fs.ModeDir | 0o755},
		{fs.ModeDir | 0o755, 0o7777, fs.ModeDir | fs.ModeSticky | 0o777},
		{0o755, 0o7777, 0o777},
		{fs.ModeSetuid | fs.ModeSetgid | 0o755, 0o6755, 0o755},
	} {
		if got := chmod(c.old, c.mode); got != c.want {
			t.Errorf("chmod %#o of %v: %v, want %v", c.mode, c.old, got, c.want)
		}
	}

	s, p, _ := posixPeer(t, nil)
	s.mkdir("d")
	if err := os.Chmod(filepath.Join(s.dir, "d"), 0o755|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	mode := func(name string) fs.FileMode {
		t.Helper()
		i, err := os.Stat(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return i.Mode()
	}
	req := posixRequest(t, "d/e", smb2.FileCreate, 0o777) // more than the umask lets through
	req.CreateOptions = smb2.FileDirectoryFile
	req.DesiredAccess = smb2.WriteDAC
	e := p.create(req)
	if got := mode("d/e"); got != fs.ModeDir|fs.ModeSetgid|0o777 {
		t.Errorf("a new directory has %v", got)
	}
	sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: smb2.SIDNFSMode(0o3770)}}}}
	want(t, "chmod", p.setSecurityOf(e, sd, smb2.DACLSecurityInformation), ntstatus.Success)
	if got := mode("d/e"); got != fs.ModeDir|fs.ModeSetgid|fs.ModeSticky|0o770 {
		t.Errorf("after chmod 3770: %v", got)
	}
}

func TestWireMode(t *testing.T) {
	for _, c := range []struct {
		mode fs.FileMode
		want uint32
	}{
		{0o644, 0o644}, {fs.ModeDir | 0o755, 0o755}, {fs.ModeDir | fs.ModeSticky | 0o777, 0o1777},
		{fs.ModeSetuid | 0o755, 0o4755}, {fs.ModeSymlink | 0o777, 0x2000 | 0o777},
		{fs.ModeDevice | fs.ModeCharDevice | 0o600, 0x3000 | 0o600}, {fs.ModeDevice | 0o600, 0x4000 | 0o600},
		{fs.ModeNamedPipe | 0o600, 0x5000 | 0o600}, {fs.ModeSocket | 0o600, 0x6000 | 0o600},
	} {
		if got := wireMode(c.mode); got != c.want {
			t.Errorf("%v: %#o, want %#o", c.mode, got, c.want)
		}
	}
	info := vfs.Info{ID: vfs.FileID{Dev: 8<<32 | 1, Ino: 7}}
	if got := posixInfo(&info, 0).DeviceID; got != 8<<20|1 {
		t.Errorf("device %#x, want 0x800001", got)
	}
}
