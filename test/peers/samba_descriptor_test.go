//go:build peers

package peers

import (
	"context"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server"
)

// account is the one user, who has the UNIX account that he has on Samba.
type account struct {
	server.UserMap
	unix server.Account
}

func (a account) Account(context.Context, string) (server.Account, error) { return a.unix, nil }
func (a account) Guest(context.Context) (server.Account, error) {
	return server.Account{}, fs.ErrNotExist
}
func (a account) Group(context.Context, string) (uint32, error) { return 0, fs.ErrNotExist }

// One directory, served by smbd and by us: a descriptor that was set by the one is that
// of the other, and a chmod outdates it for both.
func TestDescriptorsSharedWithSamba(t *testing.T) {
	python := "/usr/bin/python3" // the one that Debian's python3-impacket is for
	if exec.Command(python, "-c", "import impacket").Run() != nil {
		t.Skip("python3-impacket is not installed")
	}
	s := startSamba(t, "vfs objects = acl_xattr")
	unix, err := user.Lookup("games")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(unix.Uid, 10, 32)
	gid, _ := strconv.ParseUint(unix.Gid, 10, 32)
	users, err := server.ParseUsers("tester%secret")
	if err != nil {
		t.Fatal(err)
	}
	ours := serveUsers(t, filepath.Join(s.dir, "test"), account{users, server.Account{Name: "games", UID: uint32(uid), GID: uint32(gid)}})
	type place struct{ name, port, share string }
	samba, us := place{"samba", port(t, s.addr), "test"}, place{"ours", ours, "data"}
	run := func(at place, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), python, append([]string{"testdata/descriptor.py", at.port, at.share}, args...)...)
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", at.name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	parse := func(text string) smb2.SecurityDescriptor {
		t.Helper()
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		sd, err := smb2.ParseSecurityDescriptor(b)
		if err != nil || sd.DACL == nil {
			t.Fatalf("%x: %+v, %v", b, sd, err)
		}
		return sd
	}
	owner, group, other := smb2.SIDUnixUser(uint32(uid)), smb2.SIDUnixGroup(uint32(gid)), smb2.SIDUnixUser(33)
	dacls := map[string][]smb2.ACE{
		"plain": {
			{SID: owner, Mask: smb2.FileAllAccess}, {SID: group, Mask: smb2.FileGenericRead},
		},
		"another user": {
			{SID: owner, Mask: smb2.FileAllAccess}, {SID: other, Mask: smb2.FileGenericRead | smb2.FileGenericWrite},
		},
		"denied": {
			{Type: smb2.ACEAccessDenied, SID: other, Mask: smb2.FileWriteData},
			{SID: owner, Mask: smb2.FileAllAccess}, {SID: smb2.SIDEveryone, Mask: smb2.FileGenericRead},
		},
		"for what is created": {
			{SID: owner, Mask: smb2.FileAllAccess, Flags: smb2.ACEObjectInherit | smb2.ACEContainerInherit},
			{SID: smb2.SIDEveryone, Mask: smb2.FileGenericRead | smb2.FileGenericExecute},
		},
	}
	for _, by := range []place{samba, us} {
		for what, aces := range dacls {
			t.Run(by.name+"/"+what, func(t *testing.T) {
				path := filepath.Join(s.dir, "test", by.name+" "+what)
				if what == "for what is created" {
					err = os.Mkdir(path, 0o750)
				} else {
					err = os.WriteFile(path, nil, 0o640)
				}
				if err == nil {
					err = os.Chown(path, int(uid), int(gid))
				}
				if err != nil {
					t.Fatal(err)
				}
				set, err := (&smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: aces}}).AppendBinary(nil)
				if err != nil {
					t.Fatal(err)
				}
				name := filepath.Base(path)
				first := run(by, name, hex.EncodeToString(set))
				for _, at := range []place{samba, us} {
					got := parse(run(at, name))
					same := func(a, b smb2.ACE) bool {
						return a.Type == b.Type && a.Flags == b.Flags && a.Mask == b.Mask && (a.SID == b.SID || b.SID == owner)
					}
					if !slices.EqualFunc(got.DACL.ACEs, aces, same) {
						t.Errorf("%s shows %+v, want %+v (%s)", at.name, got.DACL.ACEs, aces, first)
					}
				}
				if err := os.Chmod(path, 0o700); err != nil {
					t.Fatal(err)
				}
				for _, at := range []place{samba, us} {
					if got := parse(run(at, name)); slices.ContainsFunc(got.DACL.ACEs, func(a smb2.ACE) bool { return a.Type == smb2.ACEAccessDenied }) || got.DACL.ACEs[0].Mask&smb2.FileReadData == 0 {
						t.Errorf("%s after chmod: %+v", at.name, got.DACL.ACEs)
					}
				}
			})
		}
	}
}
