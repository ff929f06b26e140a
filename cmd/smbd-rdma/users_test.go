package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A server that runs as root accesses files as the UNIX user who logged on, and as those
// whom the share names.
func TestFilesAreAccessedAsTheirUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: every file is accessed as the user who runs this")
	}
	uid := map[string]uint32{}
	for _, name := range []string{"games", "nobody", "daemon"} {
		acc, err := unixAccount(name)
		if err != nil {
			t.Skipf("no UNIX user %s: %v", name, err)
		}
		uid[name] = acc.UID
	}
	root, err := os.MkdirTemp("", "users") // t.TempDir's parents may be closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, mode := range map[string]os.FileMode{"all": 0o777, "private": 0o700} {
		p := filepath.Join(root, dir)
		if err := os.Mkdir(p, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(p, int(uid["games"]), -1); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	writeConf(t, filepath.Join(root, "map"), "games = ann\nnobody = bob\n")
	all, private := "path = "+filepath.Join(root, "all")+"\nread only = no\n", "path = "+filepath.Join(root, "private")+"\nread only = no\n"
	s, _ := confSite(t, "[global]\nmap to guest = bad user\nguest account = daemon\nusername map = "+filepath.Join(root, "map")+"\n"+
		"[all]\n"+all+"create mask = 0666\nforce create mode = 0020\n"+
		"[private]\n"+private+
		"[forced]\n"+private+"force user = games\n"+
		"[admin]\n"+private+"admin users = nobody\n"+
		"[guests]\n"+all+"guest ok = yes\n"+
		"[one]\n"+all+"valid users = games\n"+
		"[each]\n"+all+"valid users = %u\nforce user = %u\ncomment = of %U\n"+
		"[other]\n"+all+"valid users = not%u\n",
		"--user", "ann%secret", "--user", "bob%secret")
	local := filepath.Join(t.TempDir(), "f")
	writeFile(t, local, "text")
	put := func(user, password, share, name string) (code int, stderr string) {
		var out, log bytes.Buffer
		code = run(t.Context(), []string{"put", local, "//127.0.0.1/" + share + "/" + name, "-U", user + "%" + password, "--transport", "tcp",
			"-p", s.port["tcp"], "--log-level", "error"}, strings.NewReader(""), &out, &log)
		return code, log.String()
	}
	for _, c := range []struct {
		user, share string
		owner       string // of what is created; "" where it is refused
		mode        os.FileMode
	}{
		{"ann", "all", "games", 0o666},
		{"bob", "all", "nobody", 0o666},
		{"ann", "private", "games", 0o644},
		{"bob", "private", "", 0},
		{"bob", "forced", "games", 0o644},
		{"bob", "admin", "root", 0o644},
		{"stranger", "guests", "daemon", 0o644},
		{"stranger", "all", "", 0},
		{"ann", "one", "games", 0o644},
		{"bob", "one", "", 0},
		{"bob", "each", "nobody", 0o644},
		{"ann", "other", "", 0},
	} {
		name := c.user + "-" + c.share
		code, stderr := put(c.user, "secret", c.share, name)
		if (code == exitDone) != (c.owner != "") {
			t.Errorf("%s on %s: exit status %d, %s", c.user, c.share, code, stderr)
			continue
		}
		if c.owner == "" {
			if !strings.Contains(stderr, "ACCESS_DENIED") {
				t.Errorf("%s on %s: %s", c.user, c.share, stderr)
			}
			continue
		}
		dir := "all"
		if slices.Contains([]string{"private", "forced", "admin"}, c.share) {
			dir = "private"
		}
		fi, err := os.Stat(filepath.Join(root, dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := fi.Sys().(*syscall.Stat_t).Uid; got != uid[c.owner] || fi.Mode().Perm() != c.mode {
			t.Errorf("%s on %s: the file belongs to %d with mode %v, want %s and %v", c.user, c.share, got, fi.Mode().Perm(), c.owner, c.mode)
		}
	}
	if code, out, stderr := execute("ls", "//127.0.0.1", "-U", "ann%secret", "--transport", "tcp", "-p", s.port["tcp"]); code != exitDone || !strings.Contains(out, "of ann") {
		t.Errorf("listing shares: exit status %d, %s %s; want the comment of one for ann", code, out, stderr)
	}
	// What one may read by its mode bits another may not.
	secret := filepath.Join(root, "all", "ann-all")
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]int{"ann": exitDone, "bob": exitFailed} {
		code, _, stderr := execute("cat", "//127.0.0.1/all/ann-all", "-U", user+"%secret", "--transport", "tcp", "-p", s.port["tcp"])
		if code != want {
			t.Errorf("%s reads a file of 0600: exit status %d, %s", user, code, stderr)
		}
	}
}

// An address that may not connect gets no answer; one that may is not dropped by a change.
func TestHostsOfTheServer(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "f"), "text")
	share := "[x]\npath = " + dir + "\n"
	s, conf := confSite(t, "[global]\nhosts deny = ALL\n"+share, "--audit", filepath.Join(dir, "audit"))
	s.do(exitFailed, "tcp", "cat", "//127.0.0.1/x/f")
	writeConf(t, conf, "[global]\nhosts allow = 127.\nhosts deny = ALL\n"+share)
	s.tool(exitDone, "reload")
	s.do(exitDone, "tcp", "cat", "//127.0.0.1/x/f")
	s.do(exitDone, "iwarp", "cat", "//127.0.0.1/x/f")
	writeConf(t, conf, "[global]\nhosts allow = 127.\nhosts deny = ALL\n"+share+"hosts allow = 192.0.2.1\nhosts deny = 127.0.0.1\n")
	s.tool(exitDone, "reload")
	_, stderr := s.do(exitFailed, "tcp", "cat", "//127.0.0.1/x/f")
	if !strings.Contains(stderr, "ACCESS_DENIED") {
		t.Errorf("a share for other addresses: %s", stderr)
	}
	b, err := os.ReadFile(filepath.Join(dir, "audit"))
	if err != nil || !strings.Contains(string(b), `"kind":"connection"`) {
		t.Errorf("the audit has no refused connection (%v): %s", err, b)
	}
}
