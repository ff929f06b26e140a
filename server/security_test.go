package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/ntacl"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Permission bits become a descriptor that grants each class what they say, and the
// same bits come back from it.
func TestModeRoundTrip(t *testing.T) {
	const other = 77
	who := func(uid uint32, gid uint32) *accessToken {
		return &accessToken{User: smb2.NewSID(5, 21, 1, 2, 3, 1000+2*uid), Groups: []smb2.SID{
			smb2.SIDEveryone, smb2.SIDUnixUser(uid), smb2.SIDUnixGroup(gid),
		}}
	}
	classes := []struct {
		name  string
		token *accessToken
		shift int
	}{
		{"owner", who(1000, 100), 6}, {"owner outside the group", who(1000, other), 6},
		{"group", who(1001, 100), 3}, {"others", who(1001, other), 0},
	}
	for mode := range fs.FileMode(0o1000) {
		for _, typ := range []fs.FileMode{0, fs.ModeDir} {
			info := vfs.Info{Mode: typ | mode, UID: 1000, GID: 100}
			sd := modeDescriptor(&info)
			for _, c := range classes {
				perm := mode >> c.shift & 7
				got := c.token.granted(&sd)
				if short := c.token.grantedByMode(&info); short != got {
					t.Fatalf("mode %v, %s: %#x granted by the mode, %#x by its descriptor", typ|mode, c.name, short, got)
				}
				for _, r := range []struct {
					bit   fs.FileMode
					right smb2.AccessMask
				}{{permRead, smb2.FileReadData}, {permWrite, smb2.FileWriteData}} {
					if (got&r.right != 0) != (perm&r.bit != 0) {
						t.Fatalf("mode %v, %s: granted %#x", typ|mode, c.name, got)
					}
				}
				if owns := got&smb2.WriteDAC != 0; owns != (c.shift == 6) {
					t.Fatalf("mode %v, %s: may change the descriptor: %v", typ|mode, c.name, owns)
				}
			}
			// The owner keeps what he cannot be refused.
			want := mode | 0o400
			if typ == fs.ModeDir {
				want = mode | 0o700
			}
			if got := testServer.rightsOf(&sd, &info, 0).mode; got != want {
				t.Fatalf("mode %v: %v came back, want %v", typ|mode, got, want)
			}
		}
	}
}

// testServer has users of its own.
var testServer = &Server{machine: smb2.NewSID(5, 21, 7, 8, 9)}

// The permission bits that follow from a DACL for a file of user 1000, group 100,
// which had mode 0640.
func TestModeOfDACL(t *testing.T) {
	owner, group, stranger := smb2.SIDUnixUser(1000), smb2.SIDUnixGroup(100), smb2.NewSID(5, 21, 1, 2, 3, 1001)
	allow := func(sid smb2.SID, m smb2.AccessMask) smb2.ACE { return smb2.ACE{SID: sid, Mask: m} }
	deny := func(sid smb2.SID, m smb2.AccessMask) smb2.ACE {
		return smb2.ACE{Type: smb2.ACEAccessDenied, SID: sid, Mask: m}
	}
	for _, c := range []struct {
		name string
		aces []smb2.ACE
		want fs.FileMode
	}{
		{"everyone reads", []smb2.ACE{allow(smb2.SIDEveryone, smb2.GenericRead)}, 0o444},
		{"full control leaves the execute bit", []smb2.ACE{allow(owner, smb2.GenericAll)}, 0o600},
		{"read and execute sets it", []smb2.ACE{allow(group, smb2.GenericRead|smb2.GenericExecute)}, 0o450},
		{"the first entry decides", []smb2.ACE{deny(smb2.SIDEveryone, smb2.FileWriteData), allow(smb2.SIDEveryone, smb2.FileReadData|smb2.FileWriteData)}, 0o444},
		{"a stranger has no bit", []smb2.ACE{allow(stranger, smb2.GenericAll)}, 0o400},
		{"entries for what is created later do not count", []smb2.ACE{{SID: smb2.SIDEveryone, Mask: smb2.GenericAll, Flags: smb2.ACEInheritOnly | smb2.ACEObjectInherit}}, 0o400},
		{"nobody", nil, 0o400},
	} {
		info := vfs.Info{Mode: 0o640, UID: 1000, GID: 100}
		sd := smb2.SecurityDescriptor{Owner: &owner, Group: &group, DACL: &smb2.ACL{ACEs: c.aces}}
		if got := testServer.rightsOf(&sd, &info, 0).mode; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := testServer.rightsOf(&sd, &info, 1000).mode; got != c.want|0o600 {
			t.Errorf("%s, where the server is the owner: %v, want %v", c.name, got, c.want|0o600)
		}
	}
}

// Users and groups of the operating system get entries in the POSIX ACL, each once,
// in the order that the kernel wants.
func TestNamedRights(t *testing.T) {
	machine := testServer.machine
	sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{
		{Type: smb2.ACEAccessDenied, SID: smb2.SIDUnixUser(33), Mask: smb2.FileWriteData},
		{SID: smb2.SIDUnixGroup(50), Mask: smb2.FileGenericRead},
		{SID: machine.Child(1000 + 2*33), Mask: smb2.FileAllAccess},
		{SID: smb2.SIDUnixUser(7), Mask: smb2.FileGenericRead | smb2.FileGenericExecute},
		{SID: smb2.SIDUnixUser(1000), Mask: smb2.FileGenericRead | smb2.FileGenericWrite},
		{SID: machine.Child(nameRID("somebody")), Mask: smb2.FileAllAccess},
		{SID: smb2.SIDUnixUser(8), Mask: smb2.FileAllAccess, Flags: smb2.ACEInheritOnly | smb2.ACEObjectInherit},
	}}}
	r := testServer.rightsOf(&sd, &vfs.Info{Mode: 0o644, UID: 1000, GID: 100}, 0)
	want := []ntacl.Entry{
		{Tag: ntacl.TagUserObj, Perm: 6},
		{Tag: ntacl.TagUser, ID: 7, Perm: 5}, {Tag: ntacl.TagUser, ID: 33, Perm: 5},
		{Tag: ntacl.TagGroupObj, Perm: 0}, {Tag: ntacl.TagGroup, ID: 50, Perm: 4},
		{Tag: ntacl.TagMask, Perm: 5}, {Tag: ntacl.TagOther, Perm: 0},
	}
	if got := r.posixACL(); r.mode != 0o600 || !slices.Equal(got, want) {
		t.Errorf("mode %v, %v; want 0600, %v", r.mode, got, want)
	}
	sd.DACL.ACEs = sd.DACL.ACEs[4:5]
	if r := testServer.rightsOf(&sd, &vfs.Info{Mode: 0o644, UID: 1000, GID: 100}, 0); r.posixACL() != nil {
		t.Errorf("the owner alone: %v, want no ACL", r.posixACL())
	}
}

// A file that another server has made belongs to its UNIX owner here, and so do the
// entries for its owner.
func TestForeignOwner(t *testing.T) {
	owner, group, other := smb2.NewSID(5, 21, 1, 2, 3, 1000), smb2.NewSID(5, 21, 1, 2, 3, 513), smb2.NewSID(5, 21, 1, 2, 3, 1001)
	own := testServer.machine.Child(1000)
	sd := smb2.SecurityDescriptor{Owner: &owner, Group: &group, DACL: &smb2.ACL{ACEs: []smb2.ACE{
		{SID: owner}, {SID: group}, {SID: other}, {SID: smb2.SIDEveryone},
	}}}
	testServer.adopt(&sd, &vfs.Info{UID: 1000, GID: 100})
	u, g := smb2.SIDUnixUser(1000), smb2.SIDUnixGroup(100)
	for i, want := range []smb2.SID{u, g, other, smb2.SIDEveryone} {
		if got := sd.DACL.ACEs[i].SID; got != want {
			t.Errorf("entry %d is of %v, want %v", i, got, want)
		}
	}
	if *sd.Owner != u || *sd.Group != g {
		t.Errorf("owner %v, group %v, want %v, %v", *sd.Owner, *sd.Group, u, g)
	}
	for _, sid := range []smb2.SID{own, smb2.SIDEveryone, smb2.SIDAdministrators, u} {
		sd := smb2.SecurityDescriptor{Owner: &sid, Group: &g}
		if testServer.adopt(&sd, &vfs.Info{UID: 1000, GID: 100}); *sd.Owner != sid {
			t.Errorf("owner %v became %v", sid, *sd.Owner)
		}
	}
}

// accountUsers gives the users ann and bob UNIX accounts.
type accountUsers struct {
	UserMap
	accounts map[string]Account
}

func (u accountUsers) Account(_ context.Context, name string) (Account, error) {
	if a, ok := u.accounts[name]; ok {
		return a, nil
	}
	return Account{}, fs.ErrNotExist
}
func (u accountUsers) Guest(context.Context) (Account, error)        { return Account{}, fs.ErrNotExist }
func (u accountUsers) Group(context.Context, string) (uint32, error) { return 0, fs.ErrNotExist }

// What one user grants another by a descriptor he may do, although the kernel checks,
// too; and root's rights are nobody's.
func TestTwoUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can act as its users")
	}
	s := newSite(t, memconn.Config{}, func(c *Config) {
		c.Users = accountUsers{c.Users.(UserMap), map[string]Account{
			"ann": {Name: "ann", UID: 20001, GID: 20001}, "bob": {Name: "bob", UID: 20002, GID: 20002, GIDs: []uint32{20003}},
		}}
	})
	for _, dir := range []string{s.dir, filepath.Dir(s.dir)} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	ann := s.login(smb2.DialectSMB311).mustConnect("data")
	bob := s.dial()
	bob.negotiate(smb2.DialectSMB311)
	want(t, "bob's logon", bob.logon("bob", "hunter2"), ntstatus.Success)
	bob.mustConnect("data")

	reading := func(name string) *smb2.CreateRequest {
		req := createRequest(name, smb2.FileOpen)
		req.DesiredAccess = smb2.FileReadData
		return req
	}
	s.write("roots", nil)
	if err := os.Chmod(filepath.Join(s.dir, "roots"), 0o600); err != nil {
		t.Fatal(err)
	}
	st, _ := bob.tryCreate(reading("roots"))
	want(t, "root's file", st, ntstatus.AccessDenied)

	req := createRequest("f", smb2.FileCreate)
	req.DesiredAccess |= smb2.ReadControl | smb2.WriteDAC | smb2.WriteOwner
	f := ann.create(req)
	sd := ann.securityOf(f, plainSecurity)
	if *sd.Owner != smb2.SIDUnixUser(20001) {
		t.Fatalf("owner %v, want ann", *sd.Owner)
	}
	only := func(aces ...smb2.ACE) smb2.SecurityDescriptor {
		return smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: append(aces, smb2.ACE{SID: *sd.Owner, Mask: smb2.FileAllAccess})}}
	}
	bobs := s.srv.machine.Child(1000 + 2*20002)
	for _, c := range []struct {
		name  string
		sd    smb2.SecurityDescriptor
		reads ntstatus.Status
	}{
		{"ann alone", only(), ntstatus.AccessDenied},
		{"bob by his SID", only(smb2.ACE{SID: bobs, Mask: smb2.FileGenericRead}), ntstatus.Success},
		{"bob's group", only(smb2.ACE{SID: smb2.SIDUnixGroup(20003), Mask: smb2.FileGenericRead}), ntstatus.Success},
		{"everyone but bob", only(smb2.ACE{Type: smb2.ACEAccessDenied, SID: bobs, Mask: smb2.FileReadData}, smb2.ACE{SID: smb2.SIDEveryone, Mask: smb2.FileGenericRead}), ntstatus.AccessDenied},
		{"everyone", only(smb2.ACE{SID: smb2.SIDEveryone, Mask: smb2.FileGenericRead}), ntstatus.Success},
	} {
		want(t, c.name, ann.setSecurityOf(f, c.sd, smb2.DACLSecurityInformation), ntstatus.Success)
		st, _ := bob.tryCreate(reading("f"))
		want(t, c.name+": bob reads", st, c.reads)
		if got := ann.securityOf(f, smb2.DACLSecurityInformation); len(got.DACL.ACEs) != len(c.sd.DACL.ACEs) {
			t.Errorf("%s: %d entries came back, want %d", c.name, len(got.DACL.ACEs), len(c.sd.DACL.ACEs))
		}
	}
	st, _ = bob.tryCreate(createRequest("f", smb2.FileOpen))
	want(t, "bob writes", st, ntstatus.AccessDenied)
	owner := smb2.SIDUnixUser(20002)
	want(t, "ann gives the file away", ann.setSecurityOf(f, smb2.SecurityDescriptor{Owner: &owner}, smb2.OwnerSecurityInformation), ntstatus.InvalidOwner)

	// With the right to it, bob takes the file.
	want(t, "WRITE_OWNER for bob", ann.setSecurityOf(f, only(smb2.ACE{SID: bobs, Mask: smb2.WriteOwner | smb2.ReadControl}), smb2.DACLSecurityInformation), ntstatus.Success)
	ann.close(f)
	req = createRequest("f", smb2.FileOpen)
	req.DesiredAccess = smb2.WriteOwner
	f = bob.create(req)
	want(t, "bob takes it", bob.setSecurityOf(f, smb2.SecurityDescriptor{Owner: &owner}, smb2.OwnerSecurityInformation), ntstatus.Success)
	if i, err := os.Stat(filepath.Join(s.dir, "f")); err != nil || i.Sys().(*syscall.Stat_t).Uid != 20002 {
		t.Errorf("owner %v, %v, want bob", i.Sys().(*syscall.Stat_t).Uid, err)
	}
}

// The right to delete of a stored descriptor holds where the mode bits of the directory
// do not know of it, and those decide where nothing is stored, with the sticky bit.
func TestDeleteByDescriptor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can act as its users")
	}
	s := newSite(t, memconn.Config{}, func(c *Config) {
		c.Users = accountUsers{c.Users.(UserMap), map[string]Account{
			"ann": {Name: "ann", UID: 20001, GID: 20001}, "bob": {Name: "bob", UID: 20002, GID: 20002},
		}}
	})
	for dir, mode := range map[string]fs.FileMode{s.dir: 0o755, filepath.Dir(s.dir): 0o755, filepath.Join(s.dir, "open"): 0o777, filepath.Join(s.dir, "sticky"): 0o777 | fs.ModeSticky, filepath.Join(s.dir, "closed"): 0o755} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	ann := s.login(smb2.DialectSMB311).mustConnect("data")
	bob := s.dial()
	bob.negotiate(smb2.DialectSMB311)
	want(t, "bob's logon", bob.logon("bob", "hunter2"), ntstatus.Success)
	bob.mustConnect("data")
	remove := func(p *peer, name string) ntstatus.Status {
		req := createRequest(name, smb2.FileOpen)
		req.DesiredAccess, req.CreateOptions = smb2.Delete, smb2.FileDeleteOnClose
		st, resp := p.tryCreate(req)
		if st == ntstatus.Success {
			p.close(resp.FileID)
			if _, err := os.Stat(filepath.Join(s.dir, name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is there after it was deleted: %v", name, err)
			}
		}
		return st
	}
	for _, c := range []struct {
		dir      string
		ann, bob ntstatus.Status
	}{
		{"open", ntstatus.Success, ntstatus.Success},
		{"sticky", ntstatus.Success, ntstatus.AccessDenied},
		{"closed", ntstatus.AccessDenied, ntstatus.AccessDenied},
	} {
		for _, who := range []struct {
			name string
			p    *peer
			want ntstatus.Status
		}{{"bob", bob, c.bob}, {"ann", ann, c.ann}} {
			path := filepath.Join(s.dir, c.dir, "f")
			s.write(c.dir+"/f", nil)
			if err := os.Chown(path, 20001, 20001); err != nil {
				t.Fatal(err)
			}
			want(t, c.dir+": "+who.name+" deletes ann's file", remove(who.p, c.dir+"/f"), who.want)
		}
	}
	// Ann gives bob the right, though neither may write to the directory.
	s.write("closed/f", nil)
	if err := os.Chown(filepath.Join(s.dir, "closed/f"), 20001, 20001); err != nil {
		t.Fatal(err)
	}
	req := createRequest("closed/f", smb2.FileOpen)
	req.DesiredAccess = smb2.WriteDAC
	f := ann.create(req)
	sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: smb2.SIDUnixUser(20002), Mask: smb2.Delete}}}}
	want(t, "ann gives bob the right to delete", ann.setSecurityOf(f, sd, smb2.DACLSecurityInformation), ntstatus.Success)
	ann.close(f)
	want(t, "bob deletes", remove(bob, "closed/f"), ntstatus.Success)
}

// Creating, renaming and deleting take rights in the directory.
func TestDirectoryRights(t *testing.T) {
	s, p := disk(t)
	for _, name := range []string{"d", "open"} {
		if err := os.Mkdir(filepath.Join(s.dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		s.write(name+"/f", nil)
	}
	req := createRequest("d", smb2.FileOpen)
	req.DesiredAccess = smb2.WriteDAC | smb2.ReadControl
	d := p.create(req)
	self := smb2.SIDUnixUser(uint32(os.Getuid()))
	rights := func(m smb2.AccessMask) {
		t.Helper()
		sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: self, Mask: m}}}}
		want(t, "setting a DACL", p.setSecurityOf(d, sd, smb2.DACLSecurityInformation), ntstatus.Success)
	}
	try := func(name string, disp smb2.CreateDisposition, options smb2.CreateOptions, access smb2.AccessMask) ntstatus.Status {
		req := createRequest(name, disp)
		req.CreateOptions, req.DesiredAccess = options, access
		st, resp := p.tryCreate(req)
		if st == ntstatus.Success {
			p.close(resp.FileID)
		}
		return st
	}
	const deny, ok = ntstatus.AccessDenied, ntstatus.Success
	rights(smb2.FileGenericRead)
	want(t, "a file", try("d/new", smb2.FileCreate, 0, smb2.FileReadData), deny)
	want(t, "a file, or what is there", try("d/new", smb2.FileOpenIf, 0, smb2.FileReadData), deny)
	want(t, "what is there", try("d/f", smb2.FileOpenIf, 0, smb2.FileReadData), ok)
	want(t, "a name that is taken", try("d/f", smb2.FileCreate, 0, smb2.FileReadData), ntstatus.ObjectNameCollision)
	want(t, "a directory", try("d/new", smb2.FileCreate, smb2.FileDirectoryFile, smb2.FileReadData), deny)
	rights(smb2.FileGenericRead | smb2.FileAppendData)
	want(t, "a directory, with the right to", try("d/sub", smb2.FileCreate, smb2.FileDirectoryFile, smb2.FileReadData), ok)
	want(t, "a file, with that right", try("d/new", smb2.FileCreate, 0, smb2.FileReadData), deny)
	f := p.create(createRequest("open/f", smb2.FileOpen))
	want(t, "renaming into it", p.rename(f, `d\moved`, false), deny)
	rights(smb2.FileGenericRead | smb2.FileWriteData)
	want(t, "renaming into it, with the right to", p.rename(f, `d\moved`, false), ok)
	want(t, "renaming onto another", p.rename(f, `d\f`, true), deny)
	rights(smb2.FileGenericRead | smb2.FileWriteData | smb2.FileDeleteChild)
	want(t, "renaming onto another, with the right to delete that", p.rename(f, `d\f`, true), ok)
	p.close(f)

	// A file whose descriptor refuses it is deleted by the directory's right.
	req = createRequest("d/f", smb2.FileOpen)
	req.DesiredAccess = smb2.WriteDAC
	f = p.create(req)
	sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: self, Mask: smb2.FileReadData}}}}
	want(t, "setting a DACL", p.setSecurityOf(f, sd, smb2.DACLSecurityInformation), ok)
	p.close(f)
	rights(smb2.FileGenericRead)
	want(t, "deleting", try("d/f", smb2.FileOpen, 0, smb2.Delete), deny)
	rights(smb2.FileGenericRead | smb2.FileDeleteChild)
	want(t, "deleting, with the right to in the directory", try("d/f", smb2.FileOpen, smb2.FileDeleteOnClose, smb2.Delete), ok)
	if _, err := os.Stat(filepath.Join(s.dir, "d/f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

// MAXIMUM_ALLOWED and QUERY_MAXIMAL_ACCESS, [MS-SMB2] 3.3.5.9.5.
func TestMaximumAllowed(t *testing.T) {
	s, p := disk(t)
	s.write("f", nil)
	req := createRequest("f", smb2.FileOpen)
	req.DesiredAccess = smb2.WriteDAC
	f := p.create(req)
	self := smb2.SIDUnixUser(uint32(os.Getuid()))
	sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{
		{Type: smb2.ACEAccessDenied, SID: self, Mask: smb2.FileReadEA}, {SID: self, Mask: smb2.FileGenericRead | smb2.FileAppendData},
	}}}
	want(t, "setting a DACL", p.setSecurityOf(f, sd, smb2.DACLSecurityInformation), ntstatus.Success)
	// The owner may read and change the descriptor, the directory gives the right to
	// delete, and what can be found shows its attributes.
	const all = (smb2.FileGenericRead&^smb2.FileReadEA | smb2.FileAppendData) | smb2.ReadControl | smb2.WriteDAC | smb2.Delete | smb2.FileReadAttributes
	req = createRequest("f", smb2.FileOpen)
	req.DesiredAccess = smb2.MaximumAllowed
	var err error
	if req.Contexts, err = smb2.AppendCreateContext(nil, smb2.CreateContextQueryMaximalAccess, nil); err != nil {
		t.Fatal(err)
	}
	st, resp := p.tryCreate(req)
	want(t, "MAXIMUM_ALLOWED", st, ntstatus.Success)
	b, st := p.query(resp.FileID, smb2.InfoFile, uint8(smb2.ClassFileAccessInformation), 0, 4)
	if st != ntstatus.Success || smb2.AccessMask(le.Uint32(b)) != all {
		t.Errorf("granted %x, %v, want %#x", b, st, all)
	}
	data, _, _ := smb2.FindCreateContext(resp.Contexts, smb2.CreateContextQueryMaximalAccess)
	if len(data) != 8 || le.Uint32(data) != 0 || smb2.AccessMask(le.Uint32(data[4:])) != all {
		t.Errorf("maximal access %x, want %#x", data, all)
	}
	for mask, status := range map[smb2.AccessMask]ntstatus.Status{
		smb2.FileAppendData: ntstatus.Success, smb2.FileReadEA: ntstatus.AccessDenied, smb2.WriteOwner: ntstatus.AccessDenied,
		smb2.GenericWrite: ntstatus.AccessDenied, smb2.AccessSystemSecurity: ntstatus.PrivilegeNotHeld,
	} {
		req.DesiredAccess = smb2.MaximumAllowed | mask
		st, _ := p.tryCreate(req)
		want(t, "MAXIMUM_ALLOWED and more", st, status)
	}
}

// [MS-FSA] 2.1.5.1.2.1: who asks for the most that he may does not delete on close
// what he may not delete.
func TestDeleteOnCloseWithMaximumAllowed(t *testing.T) {
	s, p := disk(t)
	s.mkdir("d")
	s.write("d/f", []byte("x"))
	self := smb2.SIDUnixUser(processUser().UID)
	protect := func(name string, without smb2.AccessMask) {
		t.Helper()
		req := createRequest(name, smb2.FileOpen)
		req.DesiredAccess = smb2.WriteDAC
		f := p.create(req)
		sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: self, Mask: smb2.FileAllAccess &^ without}}}}
		want(t, "setting a DACL", p.setSecurityOf(f, sd, smb2.DACLSecurityInformation), ntstatus.Success)
		p.close(f)
	}
	protect("d", smb2.FileDeleteChild)
	protect("d/f", smb2.Delete)
	req := createRequest("d/f", smb2.FileOpen)
	req.DesiredAccess, req.CreateOptions = smb2.MaximumAllowed, smb2.FileDeleteOnClose
	st, resp := p.tryCreate(req)
	if st == ntstatus.Success {
		p.close(resp.FileID)
	}
	want(t, "deleting on close what may not be deleted", st, ntstatus.AccessDenied)
	if !s.exists("d/f") {
		t.Error("the file is gone")
	}
	protect("d/f", 0)
	st, resp = p.tryCreate(req)
	want(t, "what may be deleted", st, ntstatus.Success)
	p.close(resp.FileID)
	if s.exists("d/f") {
		t.Error("the file is still there")
	}
}

// What cannot be read is not shown where the share says so.
func TestHideUnreadable(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].HideUnreadable = true })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	s.write("seen", nil)
	s.write("hidden", nil)
	req := createRequest("hidden", smb2.FileOpen)
	req.DesiredAccess = smb2.WriteDAC
	f := p.create(req)
	sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: smb2.SIDEveryone, Mask: smb2.FileGenericRead &^ smb2.FileReadData}}}}
	want(t, "setting a DACL", p.setSecurityOf(f, sd, smb2.DACLSecurityInformation), ntstatus.Success)
	// A link is what it leads to; one that leads nowhere hides nothing.
	for link, target := range map[string]string{"to hidden": "hidden", "to seen": "seen", "nowhere": "absent"} {
		if err := os.Symlink(target, filepath.Join(s.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	dir := p.openDir("")
	list, st := p.list(dir, smb2.ClassFileNamesInformation, "*", 0, 4096)
	want(t, "listing", st, ntstatus.Success)
	var names []string
	for _, e := range list {
		names = append(names, e.FileName)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{".", "..", "nowhere", "seen", "to seen"}) {
		t.Errorf("listed %q", names)
	}
}

// [MS-DTYP] 2.5.3.2, with the rules for owners of [MS-DTYP] 2.5.3.2 and OWNER RIGHTS.
func TestAccessCheck(t *testing.T) {
	me, group, stranger := smb2.NewSID(5, 21, 1, 2, 3, 1000), smb2.NewSID(5, 21, 1, 2, 3, 513), smb2.NewSID(5, 21, 1, 2, 3, 1001)
	token := &accessToken{User: me, Groups: []smb2.SID{group, smb2.SIDEveryone}}
	ace := func(typ smb2.ACEType, flags uint8, sid smb2.SID, m smb2.AccessMask) smb2.ACE {
		return smb2.ACE{Type: typ, Flags: flags, SID: sid, Mask: m}
	}
	const (
		allow, deny = smb2.ACEAccessAllowed, smb2.ACEAccessDenied
		r, w        = smb2.FileReadData, smb2.FileWriteData
		implicit    = smb2.ReadControl | smb2.WriteDAC
	)
	for _, c := range []struct {
		name  string
		owner smb2.SID
		aces  []smb2.ACE
		want  smb2.AccessMask
	}{
		{"an empty list grants nothing", stranger, nil, 0},
		{"but to the owner", me, nil, implicit},
		{"an owner by his group is one", group, nil, implicit},
		{"user and groups add up", stranger, []smb2.ACE{ace(allow, 0, me, r), ace(allow, 0, group, w)}, r | w},
		{"others' entries do not count", stranger, []smb2.ACE{ace(allow, 0, stranger, r)}, 0},
		{"denied first", stranger, []smb2.ACE{ace(deny, 0, group, w), ace(allow, 0, me, r|w)}, r},
		{"allowed first", stranger, []smb2.ACE{ace(allow, 0, me, w), ace(deny, 0, group, r|w), ace(allow, 0, me, r)}, w},
		{"generic rights", stranger, []smb2.ACE{ace(allow, 0, me, smb2.GenericRead)}, smb2.FileGenericRead},
		{"inherit only", stranger, []smb2.ACE{ace(allow, smb2.ACEInheritOnly|smb2.ACEObjectInherit, me, r)}, 0},
		{"OWNER RIGHTS instead of the implicit ones", me, []smb2.ACE{ace(allow, 0, smb2.SIDOwnerRights, r)}, r},
		{"OWNER RIGHTS inherit only changes nothing", me, []smb2.ACE{ace(allow, smb2.ACEInheritOnly, smb2.SIDOwnerRights, r)}, implicit},
		{"OWNER RIGHTS is nobody else's", stranger, []smb2.ACE{ace(allow, 0, smb2.SIDOwnerRights, r)}, 0},
		{"OWNER RIGHTS denied", me, []smb2.ACE{ace(deny, 0, smb2.SIDOwnerRights, w), ace(allow, 0, me, r|w)}, r},
		{"a condition cannot be met", stranger, []smb2.ACE{ace(smb2.ACEAccessAllowedCallback, 0, me, r)}, 0},
		{"but may refuse", stranger, []smb2.ACE{ace(smb2.ACEAccessDeniedCallback, 0, me, r), ace(allow, 0, me, r)}, 0},
		{"an audit entry grants nothing", stranger, []smb2.ACE{ace(smb2.ACESystemAudit, 0, me, r)}, 0},
	} {
		sd := smb2.SecurityDescriptor{Owner: &c.owner, DACL: &smb2.ACL{ACEs: c.aces}}
		if got := token.granted(&sd); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	if got := token.granted(&smb2.SecurityDescriptor{Owner: &stranger, Control: smb2.SEDACLPresent}); got != smb2.FileAllAccess {
		t.Errorf("NULL DACL: %#x, want everything", got)
	}
	refusing := smb2.SecurityDescriptor{Owner: &stranger, DACL: &smb2.ACL{}}
	if got := token.asAdmin().granted(&refusing); got != smb2.FileAllAccess|smb2.AccessSystemSecurity {
		t.Errorf("administrator: %#x, want everything", got)
	}
}

// [MS-DTYP] 2.5.3.4: what a file and a directory get of one entry of their directory.
func TestInheritance(t *testing.T) {
	const (
		oi, ci, np, io, id = smb2.ACEObjectInherit, smb2.ACEContainerInherit, smb2.ACENoPropagateInherit, smb2.ACEInheritOnly, smb2.ACEInherited
	)
	owner, group, user := smb2.NewSID(5, 21, 1, 2, 3, 1000), smb2.NewSID(5, 21, 1, 2, 3, 513), smb2.NewSID(5, 21, 1, 2, 3, 1001)
	type entry struct {
		sid   smb2.SID
		flags uint8
	}
	for _, c := range []struct {
		name      string
		sid       smb2.SID
		flags     uint8
		file, dir []entry
	}{
		{"nothing", user, 0, nil, nil},
		{"OI", user, oi, []entry{{user, 0}}, []entry{{user, oi | io}}},
		{"CI", user, ci, nil, []entry{{user, ci}}},
		{"OI CI", user, oi | ci, []entry{{user, 0}}, []entry{{user, oi | ci}}},
		{"OI NP", user, oi | np, []entry{{user, 0}}, nil},
		{"CI NP", user, ci | np, nil, []entry{{user, 0}}},
		{"OI CI NP", user, oi | ci | np, []entry{{user, 0}}, []entry{{user, 0}}},
		{"OI IO", user, oi | io, []entry{{user, 0}}, []entry{{user, oi | io}}},
		{"OI CI IO", user, oi | ci | io, []entry{{user, 0}}, []entry{{user, oi | ci}}},
		{"inherited itself", user, oi | ci | id, []entry{{user, 0}}, []entry{{user, oi | ci}}},
		{"creator owner", smb2.SIDCreatorOwner, oi | ci | io, []entry{{owner, 0}},
			[]entry{{owner, 0}, {smb2.SIDCreatorOwner, oi | ci | io}}},
		{"creator group", smb2.SIDCreatorGroup, oi | ci, []entry{{group, 0}},
			[]entry{{group, 0}, {smb2.SIDCreatorGroup, oi | ci | io}}},
		{"creator owner for files", smb2.SIDCreatorOwner, oi | io, []entry{{owner, 0}}, []entry{{smb2.SIDCreatorOwner, oi | io}}},
		{"creator owner NP", smb2.SIDCreatorOwner, ci | np | io, nil, []entry{{owner, 0}}},
	} {
		for _, auto := range []bool{false, true} {
			parent := smb2.SecurityDescriptor{Owner: &user, DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: c.sid, Flags: c.flags, Mask: smb2.FileReadData}}}}
			control, mark := smb2.SEDACLPresent, uint8(0)
			if auto {
				parent.Control |= smb2.SEDACLAutoInherited
				control, mark = control|smb2.SEDACLAutoInherited, id
			}
			for _, kind := range []struct {
				dir  bool
				want []entry
			}{{false, c.file}, {true, c.dir}} {
				if got := hasInheritable(&parent, kind.dir); got != (len(kind.want) > 0) {
					t.Errorf("%s, directory %v: inheritable %v", c.name, kind.dir, got)
				}
				l, gotControl := inheritedDACL(&parent, owner, group, kind.dir)
				if gotControl != control {
					t.Errorf("%s: control %#x, want %#x", c.name, gotControl, control)
				}
				var got []entry
				for _, a := range l.ACEs {
					got = append(got, entry{a.SID, a.Flags &^ id})
					if a.Flags&id != mark || a.Mask != smb2.FileReadData {
						t.Errorf("%s: entry %+v, want flag INHERITED %#x", c.name, a, mark)
					}
				}
				if len(got) != len(kind.want) {
					t.Errorf("%s, directory %v: %v, want %v", c.name, kind.dir, got, kind.want)
					continue
				}
				for i := range got {
					if got[i] != kind.want[i] {
						t.Errorf("%s, directory %v: %v, want %v", c.name, kind.dir, got, kind.want)
					}
				}
			}
		}
	}
}

// setSecurityOf changes parts of a descriptor.
func (p *peer) setSecurityOf(f smb2.FileID, sd smb2.SecurityDescriptor, what smb2.SecurityInformation) ntstatus.Status {
	b, err := sd.AppendBinary(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	st, _ := p.do(smb2.CommandSetInfo, &smb2.SetInfoRequest{InfoType: smb2.InfoSecurity, AdditionalInformation: uint32(what), FileID: f, Buffer: b})
	return st
}

// securityOf reads parts of a descriptor.
func (p *peer) securityOf(f smb2.FileID, what smb2.SecurityInformation) smb2.SecurityDescriptor {
	p.t.Helper()
	b, st := p.query(f, smb2.InfoSecurity, 0, uint32(what), 64<<10)
	want(p.t, "query of a descriptor", st, ntstatus.Success)
	sd, err := smb2.ParseSecurityDescriptor(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return sd
}

// [MS-SMB2] 3.3.5.20.3 and 3.3.5.21.3.
func TestSecurityInfo(t *testing.T) {
	s, p := disk(t)
	s.write("f", nil)
	req := createRequest("f", smb2.FileOpen)
	req.DesiredAccess |= smb2.ReadControl | smb2.WriteDAC | smb2.WriteOwner
	f := p.create(req)
	const all = uint32(plainSecurity)
	b, st := p.query(f, smb2.InfoSecurity, 0, all, 4096)
	want(t, "query", st, ntstatus.Success)
	sd, err := smb2.ParseSecurityDescriptor(b)
	if err != nil || sd.Owner == nil || *sd.Owner != smb2.SIDUnixUser(uint32(os.Getuid())) || sd.DACL == nil || len(sd.DACL.ACEs) != 3 {
		t.Fatalf("%+v, %v", sd, err)
	}
	need, st := p.query(f, smb2.InfoSecurity, 0, all, uint32(len(b)-1))
	want(t, "too little room", st, ntstatus.BufferTooSmall)
	if len(need) != 4 || le.Uint32(need) != uint32(len(b)) {
		t.Errorf("needed length %x, want %d", need, len(b))
	}
	_, st = p.query(f, smb2.InfoSecurity, 0, uint32(smb2.SACLSecurityInformation), 4096)
	want(t, "SACL", st, ntstatus.AccessDenied)

	// What is set is what is read, and the permission bits follow.
	group := smb2.SIDUnixGroup(uint32(os.Getgid()))
	dacl := smb2.SecurityDescriptor{Control: smb2.SEDACLProtected, DACL: &smb2.ACL{ACEs: []smb2.ACE{
		{Type: smb2.ACEAccessDenied, SID: smb2.NewSID(5, 21, 1, 2, 3, 1000), Mask: smb2.FileReadData},
		{SID: *sd.Owner, Mask: smb2.GenericAll},
		{SID: group, Mask: smb2.FileGenericRead},
	}}}
	want(t, "setting a DACL", p.setSecurityOf(f, dacl, smb2.DACLSecurityInformation), ntstatus.Success)
	got := p.securityOf(f, smb2.DACLSecurityInformation)
	if got.Owner != nil || got.DACL == nil || len(got.DACL.ACEs) != 3 || got.Control&smb2.SEDACLProtected == 0 {
		t.Fatalf("got %+v", got)
	}
	for i, m := range []smb2.AccessMask{smb2.FileReadData, smb2.FileAllAccess, smb2.FileGenericRead} {
		if a := got.DACL.ACEs[i]; a.Mask != m || a.SID != dacl.DACL.ACEs[i].SID || a.Type != dacl.DACL.ACEs[i].Type {
			t.Errorf("entry %d: %+v, want mask %#x", i, a, m)
		}
	}
	path := filepath.Join(s.dir, "f")
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v, want 0640", i.Mode(), err)
	}

	stranger := smb2.NewSID(5, 21, 1, 2, 3, 1000)
	want(t, "an owner that is somebody else", p.setSecurityOf(f, smb2.SecurityDescriptor{Owner: &stranger}, smb2.OwnerSecurityInformation), ntstatus.InvalidOwner)
	want(t, "the owner as it is", p.setSecurityOf(f, smb2.SecurityDescriptor{Owner: sd.Owner}, smb2.OwnerSecurityInformation), ntstatus.Success)
	users := smb2.SIDUsers
	want(t, "any group", p.setSecurityOf(f, smb2.SecurityDescriptor{Group: &users}, smb2.GroupSecurityInformation), ntstatus.Success)
	if got := p.securityOf(f, plainSecurity); *got.Group != users || len(got.DACL.ACEs) != 3 {
		t.Errorf("got %+v", got)
	}
	want(t, "nothing at all", p.setSecurityOf(f, smb2.SecurityDescriptor{}, smb2.OwnerSecurityInformation|smb2.GroupSecurityInformation), ntstatus.Success)
	st, _ = p.do(smb2.CommandSetInfo, &smb2.SetInfoRequest{InfoType: smb2.InfoSecurity, AdditionalInformation: 4, FileID: f, Buffer: []byte{1}})
	want(t, "malformed", st, ntstatus.InvalidSecurityDescr)

	// A local chmod is stronger than what was set before.
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if got := p.securityOf(f, smb2.DACLSecurityInformation); got.Control&smb2.SEDACLProtected != 0 || got.DACL.ACEs[0].SID != *sd.Owner {
		t.Errorf("after chmod: %+v", got)
	}
	p.close(f)

	req.DesiredAccess = smb2.FileReadData
	f = p.create(req)
	_, st = p.query(f, smb2.InfoSecurity, 0, all, 4096)
	want(t, "query without READ_CONTROL", st, ntstatus.AccessDenied)
	_, st = p.query(f, smb2.InfoSecurity, 0, 0, 4096)
	want(t, "query of nothing", st, ntstatus.Success)
	want(t, "DACL without WRITE_DAC", p.setSecurityOf(f, dacl, smb2.DACLSecurityInformation), ntstatus.AccessDenied)
	want(t, "owner without WRITE_OWNER", p.setSecurityOf(f, smb2.SecurityDescriptor{Owner: sd.Owner}, smb2.OwnerSecurityInformation), ntstatus.AccessDenied)
}
