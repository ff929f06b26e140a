package server

import (
	"io/fs"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// FuzzDescriptor has a descriptor from the wire checked, inherited and turned into
// permission bits. What an object inherits fits into a descriptor, speaks of nobody
// whom the parent did not speak of, and grants nothing that an entry of the parent
// does not have.
func FuzzDescriptor(f *testing.F) {
	owner, group := smb2.SIDUnixUser(1), smb2.SIDUnixGroup(2)
	for _, flags := range []uint8{0, smb2.ACEObjectInherit | smb2.ACEContainerInherit, smb2.ACEContainerInherit | smb2.ACENoPropagateInherit | smb2.ACEInheritOnly} {
		sd := smb2.SecurityDescriptor{Owner: &owner, Group: &group, Control: smb2.SEDACLAutoInherited, DACL: &smb2.ACL{ACEs: []smb2.ACE{
			{SID: smb2.SIDCreatorOwner, Flags: flags, Mask: smb2.GenericAll}, {SID: smb2.SIDOwnerRights, Flags: flags, Mask: smb2.FileReadData},
			{Type: smb2.ACEAccessDenied, SID: smb2.SIDEveryone, Flags: flags, Mask: smb2.FileWriteData}, {SID: smb2.SIDNFSMode(0o755)},
		}}}
		b, err := sd.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(0o755), true)
		f.Add(b, uint16(0o640), false)
	}
	token := testServer.newToken("ann", &Account{UID: 1, GID: 2, GIDs: []uint32{3}}, false)
	f.Fuzz(func(t *testing.T, b []byte, mode uint16, dir bool) {
		sd, err := smb2.ParseSecurityDescriptor(b)
		if err != nil {
			return
		}
		got := token.granted(&sd)
		if got&^smb2.FileAllAccess != 0 {
			t.Fatalf("granted %#x", got)
		}
		info := vfs.Info{Mode: fsMode(mode, dir), UID: 1, GID: 2}
		r := testServer.rightsOf(&sd, &info, 0)
		if r.mode&^0o777 != 0 || r.mode&0o400 == 0 || len(r.named) > maxNamed {
			t.Fatalf("mode %v with %d entries", r.mode, len(r.named))
		}
		r.posixACL()
		modeEntry(&sd)
		if sd.DACL == nil {
			return
		}
		l, _ := inheritedDACL(&sd, owner, group, dir)
		if (len(l.ACEs) > 0) != hasInheritable(&sd, dir) {
			t.Fatalf("%d entries inherited, inheritable %v", len(l.ACEs), hasInheritable(&sd, dir))
		}
		for _, a := range l.ACEs {
			found := a.SID == owner || a.SID == group
			for _, p := range sd.DACL.ACEs {
				found = found || a.SID == p.SID && a.Mask == p.Mask
			}
			if !found {
				t.Fatalf("inherited %+v out of nothing", a)
			}
		}
		child := smb2.SecurityDescriptor{Owner: &owner, DACL: l}
		if len(l.ACEs) <= maxACEs/2 {
			if _, err := child.AppendBinary(nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func fsMode(m uint16, dir bool) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	if dir {
		mode |= fs.ModeDir
	}
	return mode
}

// FuzzPosixName: a name that is taken is one of the storage, and stays beneath the
// root.
func FuzzPosixName(f *testing.F) {
	for _, s := range []string{"", "a/b", `a\..\b`, "../x", "a:b*", "\uf022", "a/./b/", "\x00"} {
		f.Add(smb2.EncodeUTF16(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, st := posixName(b)
		if st != ntstatus.Success {
			return
		}
		if n.path != vfs.Root && !vfs.ValidName(n.path) || n.hasStream() {
			t.Fatalf("%x became %+v", b, n)
		}
	})
}
