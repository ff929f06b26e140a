package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzConfig has any file as smb.conf: it is taken over or refused with an error
// that names it.
func FuzzConfig(f *testing.F) {
	f.Add("[global]\nserver string = x\n[data]\npath = /srv\nread only = no\nvalid users = a b\n")
	f.Add("path = /srv\n[data]\n")
	f.Add("[global]\nserver min protocol = SMB2_10\nserver signing = mandatory\n")
	f.Add("[data]\npath\n")
	f.Add("[a\n=\n[]\n")
	name := filepath.Join(f.TempDir(), "smb.conf")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a := &app{log: slog.New(slog.DiscardHandler)}
		set, err := a.settings(serveFlags{config: name, users: []string{"a%b"}})
		if err != nil {
			if !strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), "no share") {
				t.Errorf("%v does not name the file", err)
			}
			return
		}
		for _, sh := range set.shares {
			if sh.Name == "" || sh.path == "" {
				t.Errorf("a share without a name or a path: %+v", sh)
			}
			if err := sh.Check(); err != nil {
				t.Errorf("a share that the server refuses: %v", err)
			}
		}
	})
}

// FuzzArguments has the words that a user types: where a share is, and what to
// serve.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{"//host/share/a/b", `\\host\share\x`, "//[::1]/s", "smb://h/s", "data=/srv,ro,guest", "=", "//", "a=b=c,ro"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if g, err := parseTarget(s); err == nil && (g.host == "" || g.share == "" && g.path != "") {
			t.Errorf("%q is %+v", s, g)
		}
		if g, err := parseShareTarget(s); err == nil && (g.host == "" || g.share == "") {
			t.Errorf("%q is %+v", s, g)
		}
		if sh, err := parseShare(s); err == nil && (sh.Name == "" || sh.path == "") {
			t.Errorf("%q is %+v", s, sh)
		}
	})
}
