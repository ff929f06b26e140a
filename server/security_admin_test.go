package server

import (
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
	self := smb2.SIDUnixUser(uint32(processUser().UID))
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
