package server

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// Administrators of a share are not held back by descriptors, may give files to
// anybody, and alone see and set SACLs.
func TestAdministrator(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].AdminUsers = []string{"ann"} })
	ann := s.login(smb2.DialectSMB311).mustConnect("data")
	bob := s.dial()
	bob.negotiate(smb2.DialectSMB311)
	want(t, "bob's logon", bob.logon("bob", "hunter2"), ntstatus.Success)
	bob.mustConnect("data")
	s.write("f", nil)

	req := createRequest("f", smb2.FileOpen)
	req.DesiredAccess = smb2.AccessSystemSecurity | smb2.ReadControl | smb2.WriteDAC | smb2.WriteOwner
	st, _ := bob.tryCreate(req)
	want(t, "bob asks for SACLs", st, ntstatus.PrivilegeNotHeld)
	f := ann.create(req)
	stranger := smb2.NewSID(5, 32, 551)
	sd := smb2.SecurityDescriptor{
		Owner: &stranger, DACL: &smb2.ACL{},
		SACL: &smb2.ACL{ACEs: []smb2.ACE{{Type: smb2.ACESystemAudit, Flags: smb2.ACEFailedAccess, SID: smb2.SIDEveryone, Mask: smb2.GenericWrite}}},
	}
	const all = plainSecurity | smb2.SACLSecurityInformation
	want(t, "an empty DACL, a SACL and another owner", ann.setSecurityOf(f, sd, all&^smb2.GroupSecurityInformation), ntstatus.Success)
	got := ann.securityOf(f, all)
	if *got.Owner != stranger || got.DACL == nil || len(got.DACL.ACEs) != 0 || got.SACL == nil || len(got.SACL.ACEs) != 1 {
		t.Fatalf("got %+v", got)
	}
	if a := got.SACL.ACEs[0]; a.Type != smb2.ACESystemAudit || a.Mask != smb2.FileGenericWrite || a.SID != smb2.SIDEveryone {
		t.Errorf("the SACL's entry is %+v", a)
	}
	if got := ann.securityOf(f, smb2.DACLSecurityInformation); got.SACL != nil || got.Owner != nil {
		t.Errorf("asked for the DACL alone: %+v", got)
	}
	ann.close(f)
	st, _ = bob.tryCreate(createRequest("f", smb2.FileOpen))
	want(t, "bob opens it", st, ntstatus.AccessDenied)
	st, _ = ann.tryCreate(createRequest("f", smb2.FileOpen))
	want(t, "ann opens it", st, ntstatus.Success)
}

// What a client sends with CREATE for a new file's descriptor, [MS-SMB2] 3.3.5.9.2.
func TestCreateWithDescriptor(t *testing.T) {
	_, p := disk(t)
	self := smb2.SIDUnixUser(processUser().UID)
	creating := func(name string, sd smb2.SecurityDescriptor) *smb2.CreateRequest {
		t.Helper()
		b, err := sd.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		req := createRequest(name, smb2.FileCreate)
		req.DesiredAccess |= smb2.ReadControl
		if req.Contexts, err = smb2.AppendCreateContext(nil, smb2.CreateContextSDBuffer, b); err != nil {
			t.Fatal(err)
		}
		return req
	}
	dacl := &smb2.ACL{ACEs: []smb2.ACE{{SID: self, Mask: smb2.GenericRead}}}
	st, resp := p.tryCreate(creating("f", smb2.SecurityDescriptor{DACL: dacl}))
	want(t, "with a DACL", st, ntstatus.Success)
	got := p.securityOf(resp.FileID, plainSecurity)
	if len(got.DACL.ACEs) != 1 || got.DACL.ACEs[0].Mask != smb2.FileGenericRead || *got.Owner != self {
		t.Errorf("got %+v", got)
	}
	// The creator has what he asked for; the next open goes by the descriptor.
	st, _ = p.tryCreate(createRequest("f", smb2.FileOpen))
	want(t, "opened again for writing", st, ntstatus.AccessDenied)

	users, stranger := smb2.SIDUsers, smb2.NewSID(5, 21, 1, 2, 3, 1000)
	st, resp = p.tryCreate(creating("g", smb2.SecurityDescriptor{Owner: &users, DACL: dacl}))
	want(t, "for a group that the user is in", st, ntstatus.Success)
	if got := p.securityOf(resp.FileID, plainSecurity); *got.Owner != users {
		t.Errorf("owner %v, want %v", *got.Owner, users)
	}
	for name, sd := range map[string]smb2.SecurityDescriptor{
		"stranger": {Owner: &stranger, DACL: dacl},
		"audit":    {SACL: &smb2.ACL{ACEs: []smb2.ACE{{Type: smb2.ACESystemAudit, SID: self}}}},
	} {
		st, _ := p.tryCreate(creating(name, sd))
		if status := map[string]ntstatus.Status{"stranger": ntstatus.InvalidOwner, "audit": ntstatus.PrivilegeNotHeld}[name]; st != status {
			t.Errorf("%s: %v, want %v", name, st, status)
		}
		if st, _ := p.tryCreate(createRequest(name, smb2.FileOpen)); st != ntstatus.ObjectNameNotFound {
			t.Errorf("%s: what could not be made as asked for is there: %v", name, st)
		}
	}
}

// A new stream of a file that is there changes nothing of the file's descriptor; a file
// that comes with its stream inherits one.
func TestStreamsHaveNoDescriptor(t *testing.T) {
	s, p := disk(t)
	if err := os.Mkdir(filepath.Join(s.dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	self := processUser().UID
	inherited := smb2.ACE{SID: smb2.SIDUnixUser(self), Mask: smb2.FileAllAccess, Flags: smb2.ACEObjectInherit | smb2.ACEContainerInherit}
	change := func(name string, aces ...smb2.ACE) {
		t.Helper()
		req := createRequest(name, smb2.FileOpenIf)
		req.DesiredAccess = smb2.WriteDAC
		f := p.create(req)
		want(t, "setting a DACL", p.setSecurityOf(f, smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: aces}}, smb2.DACLSecurityInformation), ntstatus.Success)
		p.close(f)
	}
	change("d", inherited)
	change("d/f", smb2.ACE{SID: smb2.SIDEveryone, Mask: smb2.FileAllAccess})
	for _, c := range []struct {
		name string
		want smb2.SID
	}{{"d/f", smb2.SIDEveryone}, {"d/new", smb2.SIDUnixUser(self)}} {
		st, resp := p.tryCreate(createRequest(c.name+":stream", smb2.FileCreate))
		if st == ntstatus.ObjectNameInvalid {
			t.Skip("the test's file system keeps no streams")
		}
		want(t, c.name, st, ntstatus.Success)
		p.close(resp.FileID)
		req := createRequest(c.name, smb2.FileOpen)
		req.DesiredAccess = smb2.ReadControl
		f := p.create(req)
		if got := p.securityOf(f, smb2.DACLSecurityInformation); len(got.DACL.ACEs) != 1 || got.DACL.ACEs[0].SID != c.want {
			t.Errorf("%s: %+v, want an entry of %v", c.name, got.DACL.ACEs, c.want)
		}
		p.close(f)
	}
}

// Where the share says so, what is created belongs to its directory's owner, who has
// the owner's rights.
func TestInheritOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	s := newSite(t, memconn.Config{}, func(c *Config) {
		c.Shares[0].InheritOwner = true
		c.Users = accountUsers{c.Users.(UserMap), map[string]Account{"ann": {Name: "ann", UID: 20001, GID: 20001}}}
	})
	for _, dir := range []string{s.dir, filepath.Dir(s.dir)} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(s.dir, 20002, -1); err != nil {
		t.Fatal(err)
	}
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	req := createRequest("f", smb2.FileCreate)
	req.DesiredAccess = smb2.ReadControl
	got := p.securityOf(p.create(req), plainSecurity)
	owner := smb2.SIDUnixUser(20002)
	if *got.Owner != owner || got.DACL.ACEs[0].SID != owner {
		t.Errorf("owner %v, first entry of %v, want %v", *got.Owner, got.DACL.ACEs[0].SID, owner)
	}
	if i, err := os.Stat(filepath.Join(s.dir, "f")); err != nil || i.Sys().(*syscall.Stat_t).Uid != 20002 {
		t.Errorf("the file is not its directory's owner's: %+v, %v", i, err)
	}
}
