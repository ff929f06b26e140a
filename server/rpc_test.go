package server

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/dcerpc"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// household knows the users of a UserMap, and ann as uid 1000 of group staff, 50.
type household struct{ UserMap }

func (household) Account(_ context.Context, name string) (Account, error) {
	if strings.EqualFold(name, "ann") {
		return Account{Name: "ann", UID: 1000, GID: 50, Groups: []string{"staff"}}, nil
	}
	return Account{}, fmt.Errorf("user %q: %w", name, fs.ErrNotExist)
}

func (household) Guest(context.Context) (Account, error) { return Account{}, fs.ErrNotExist }

func (household) Group(_ context.Context, name string) (uint32, error) {
	if name == "staff" {
		return 50, nil
	}
	return 0, fs.ErrNotExist
}

func (household) UserName(_ context.Context, uid uint32) (string, error) {
	if uid == 1000 {
		return "ann", nil
	}
	return "", fs.ErrNotExist
}

func (household) GroupName(_ context.Context, gid uint32) (string, error) {
	if gid == 50 {
		return "staff", nil
	}
	return "", fs.ErrNotExist
}

// Who is called what: SIDs as access control lists have them, and back.
func TestDirectoryOfUsers(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.ServerName, c.Users = "NAS", household{c.Users.(UserMap)} })
	machine := s.srv.machine
	ann, err := s.srv.logonToken(t.Context(), "ann", false, false)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := s.srv.logonToken(t.Context(), "bob", false, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		domain, name string
		sid          smb2.SID
		kind         dcerpc.Kind
		back         string // the name of the SID
	}{
		{"", "Ann", ann.User, dcerpc.KindUser, `NAS\ann`},
		{"nas", "BOB", bob.User, dcerpc.KindUser, `NAS\bob`},
		{"", "None", machine.Child(ridNone), dcerpc.KindGroup, `NAS\None`},
		{"", "guest", machine.Child(ridGuest), dcerpc.KindUser, `NAS\Guest`},
		{"Unix User", "ann", smb2.SIDUnixUser(1000), dcerpc.KindUser, `Unix User\ann`},
		{"Unix Group", "staff", smb2.SIDUnixGroup(50), dcerpc.KindGroup, `Unix Group\staff`},
		{"", "staff", smb2.SIDUnixGroup(50), dcerpc.KindGroup, `Unix Group\staff`},
	} {
		d := &rpcDirectory{s: s.srv}
		p, ok := d.ByName(c.domain, c.name)
		if !ok || p.SID != rpcSID(c.sid) || p.Kind != c.kind {
			t.Errorf("%s\\%s is %v, kind %d, %v, want %v, kind %d", c.domain, c.name, p.SID, p.Kind, ok, c.sid, c.kind)
		}
		if q, ok := d.BySID(rpcSID(c.sid)); !ok || q.Domain+`\`+q.Name != c.back || q.Kind != c.kind {
			t.Errorf("%v is %s\\%s, %v, want %s", c.sid, q.Domain, q.Name, ok, c.back)
		}
	}
	d := &rpcDirectory{s: s.srv}
	for _, name := range []string{"nobody", ""} {
		if p, ok := d.ByName("", name); ok {
			t.Errorf("%q is %v", name, p)
		}
	}
	for _, sid := range []smb2.SID{machine.Child(4711), smb2.SIDUnixUser(4711), smb2.SIDUnixGroup(4711), smb2.NewSID(5, 21, 9, 9, 9, 500)} {
		if p, ok := d.BySID(rpcSID(sid)); ok {
			t.Errorf("%v is %v", sid, p)
		}
	}
}

// Who may see what others do: an administrator of all shares.
func TestRPCAdministrators(t *testing.T) {
	for _, c := range []struct {
		name   string
		admins [][]string // of each share
		want   bool
	}{
		{"of none", [][]string{nil, nil}, false},
		{"of one", [][]string{{"ann"}, nil}, false},
		{"of all", [][]string{{"ann"}, {"bob", "ann"}}, true},
	} {
		s := newSite(t, memconn.Config{}, func(cfg *Config) {
			share := cfg.Shares[0]
			cfg.Shares = nil
			for i, admins := range c.admins {
				share.Name, share.AdminUsers = fmt.Sprint("s", i), admins
				cfg.Shares = append(cfg.Shares, share)
			}
		})
		p := s.login(smb2.DialectSMB311)
		if got := s.srv.isAdmin(s.srv.findSession(p.sid)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
