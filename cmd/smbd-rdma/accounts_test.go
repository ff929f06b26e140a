package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smbconf"
	"github.com/smbd-rdma/smbd-rdma/internal/smbpasswd"
	"github.com/smbd-rdma/smbd-rdma/server"
)

// Where the file that has to be there is not, nobody is taken for a guest: its users would
// find themselves as such.
func TestAccountsWithoutTheirFile(t *testing.T) {
	for required, guest := range map[bool]bool{true: false, false: true} {
		a := newAccounts(slog.New(slog.DiscardHandler), &accountsConfig{flags: server.UserMap{}, users: &smbconf.UserMap{},
			file: filepath.Join(t.TempDir(), "absent"), required: required})
		if _, err := a.NTHash(t.Context(), "", "alice"); err == nil || errors.Is(err, fs.ErrNotExist) != guest {
			t.Errorf("required %v: %v", required, err)
		}
	}
}

// Who may log on with which password, by --user, the file and "username map".
func TestAccounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "smbpasswd")
	put := func(es ...smbpasswd.Entry) {
		t.Helper()
		err := smbpasswd.Update(t.Context(), file, func(l *smbpasswd.List) error {
			for _, e := range es {
				if err := l.Put(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	entry := func(name, password string, f smbpasswd.Flags) smbpasswd.Entry {
		return smbpasswd.Entry{Name: name, Hash: server.HashPassword(password), HasHash: true, Flags: f}
	}
	put(entry("root", "of root", smbpasswd.User), entry("off", "of off", smbpasswd.User|smbpasswd.Disabled),
		entry("inner", "of inner", smbpasswd.User), entry("host$", "of host", smbpasswd.Trust))
	users, bad, err := smbconf.ParseUserMap(strings.NewReader("root = admin \"the boss\" inner\nother = flagged outer"))
	if err != nil || len(bad) > 0 {
		t.Fatal(err, bad)
	}
	c := &accountsConfig{flags: server.UserMap{}, file: file, users: users, guest: "root"}
	c.flags.Add("flagged", "of flagged")
	c.flags.Add("plain", "of plain")
	a := newAccounts(slog.New(slog.DiscardHandler), c)
	for _, x := range []struct {
		name, password string // "" for nobody there, "-" for one who cannot log on
	}{
		{"root", "of root"},
		{"ROOT", "of root"},
		{"Admin", "of root"},      // mapped
		{"The Boss", "of root"},   // likewise
		{"inner", "of root"},      // the map comes first
		{"flagged", "of flagged"}, // mapped to one who has no password: his own
		{"outer", ""},
		{"nobody here", ""},
		{"off", "-"},
		{"host$", "-"},
	} {
		h, err := a.NTHash(t.Context(), "", x.name)
		switch x.password {
		case "":
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, want that there is none", x.name, err)
			}
		case "-":
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, want one who cannot log on", x.name, err)
			}
		default:
			if err != nil || h != server.HashPassword(x.password) {
				t.Errorf("%s: %v, or another's password", x.name, err)
			}
		}
	}
	for name, known := range map[string]bool{"root": true, "ADMIN": true, "Root": true, "no such user": false} {
		acc, err := a.Account(t.Context(), name)
		if known && (err != nil || acc.Name != "root" || acc.UID != 0 || acc.Home == "" || len(acc.Groups) == 0) ||
			!known && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is %+v, %v", name, acc, err)
		}
	}
	if g, err := a.Guest(t.Context()); err != nil || g.Name != "root" {
		t.Errorf("guest: %+v %v", g, err)
	}
	if g, err := a.Group(t.Context(), "root"); err != nil || g != 0 {
		t.Errorf("group root: %d %v", g, err)
	}
	if _, err := a.Group(t.Context(), "no such group"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no group: %v", err)
	}
	if n, err := a.UserName(t.Context(), 0); err != nil || n != "root" {
		t.Errorf("uid 0: %q %v", n, err)
	}
	if _, err := a.GroupName(t.Context(), 4_000_000_000); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no gid: %v", err)
	}
	list, err := a.ListUsers(t.Context())
	var names []string
	for _, u := range list {
		name := u.Name
		if u.Disabled {
			name += " disabled"
		}
		names = append(names, name)
	}
	if got := strings.Join(names, ","); err != nil || got != "flagged,plain,root,off disabled,inner" {
		t.Errorf("users: %q %v", got, err)
	}

	// A change of the file is seen at once; one that cannot be read lets nobody on.
	put(entry("root", "new", smbpasswd.User))
	if h, err := a.NTHash(t.Context(), "", "root"); err != nil || h != server.HashPassword("new") {
		t.Errorf("after a change: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := a.NTHash(t.Context(), "", "root"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	required := *c
	required.required = true
	a.conf.Store(&required)
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := a.NTHash(t.Context(), "", "root"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	if h, err := a.NTHash(t.Context(), "", "plain"); err != nil || h != server.HashPassword("of plain") {
		t.Errorf("--user beside a file that cannot be read: %v", err)
	}
	if _, err := a.NTHash(t.Context(), "", "flagged"); err == nil {
		t.Error("a user is taken for one who may have a password in a file that cannot be read")
	}
}
