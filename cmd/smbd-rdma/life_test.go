package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server"
)

// confSite is a site with a configuration file that can be changed.
func confSite(t *testing.T, conf string, more ...string) (*site, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "smb.conf")
	writeConf(t, name, conf)
	return newSite(t, append([]string{"-c", name}, more...)...), name
}

func writeConf(t *testing.T, name, conf string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tool runs a command that talks to the control socket.
func (s *site) tool(want int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	code, stdout, stderr := execute(append(args, "--socket", s.sock)...)
	if code != want {
		s.t.Fatalf("%v: exit status %d, want %d; %s", args, code, want, stderr)
	}
	return stdout, stderr
}

func TestReloadOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	share := func(name, more string) string { return "[" + name + "]\npath = " + dir + "\n" + more + "\n" }
	s, conf := confSite(t, share("one", "read only = no")+share("two", ""), "--audit", filepath.Join(dir, "audit"))
	writeFile(t, filepath.Join(dir, "f"), "text")
	s.do(exitDone, "tcp", "cat", "//127.0.0.1/two/f")

	writeConf(t, conf, share("one", "valid users = somebody")+share("three", ""))
	s.tool(exitDone, "reload")
	s.do(exitDone, "tcp", "cat", "//127.0.0.1/three/f")
	_, stderr := s.do(exitFailed, "tcp", "cat", "//127.0.0.1/two/f")
	if !strings.Contains(stderr, "BAD_NETWORK_NAME") {
		t.Errorf("a share that is gone: %s", stderr)
	}
	_, stderr = s.do(exitFailed, "iwarp", "cat", "//127.0.0.1/one/f")
	if !strings.Contains(stderr, "ACCESS_DENIED") {
		t.Errorf("a share for others: %s", stderr)
	}

	// A file with an error changes nothing, and the command says so.
	writeConf(t, conf, share("four", "read only = perhaps"))
	_, stderr = s.tool(exitFailed, "reload")
	if !strings.Contains(stderr, "stays as it was") {
		t.Errorf("reload of a bad file: %s", stderr)
	}
	s.do(exitDone, "tcp", "cat", "//127.0.0.1/three/f")

	code, log := s.stop()
	if code != exitDone {
		t.Errorf("serve ended with %d", code)
	}
	if !strings.Contains(log, conf+":3") || !strings.Contains(log, "perhaps") {
		t.Errorf("the log does not name the line: %s", log)
	}
	b, err := os.ReadFile(filepath.Join(dir, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for line := range strings.Lines(string(b)) {
		var e struct{ Kind, User, Share, Result string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		found[e.Kind+" "+e.User+" "+e.Share+" "+e.Result]++
	}
	for _, want := range []string{"tree alice three STATUS_SUCCESS", "tree alice one STATUS_ACCESS_DENIED"} {
		if found[want] == 0 {
			t.Errorf("the audit has no %q: %v", want, found)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, "audit")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode of the audit file: %v %v", fi.Mode(), err)
	}
}

func TestHealth(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "share")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, _ := confSite(t, "[x]\npath = "+dir+"\n", "--pprof")
	get := func(path string) (int, string) {
		r, err := http.Get("http://127.0.0.1:" + s.port["http"] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var b bytes.Buffer
		if _, err := b.ReadFrom(r.Body); err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, b.String()
	}
	if code, body := get("/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthy: %d %q", code, body)
	}
	if code, body := get("/debug/pprof/goroutine?debug=1"); code != http.StatusOK || !strings.Contains(body, "goroutine profile") {
		t.Errorf("pprof: %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
	plain := newSite(t)
	s.port = plain.port
	if code, _ := get("/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("pprof without --pprof: %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestClose(t *testing.T) {
	s := newSite(t)
	writeFile(t, filepath.Join(s.dir, "f"), "text")
	for _, args := range [][]string{{"--session", "17"}, {"--connection", "99999"}, {"--open", "5"}} {
		_, stderr := s.tool(exitFailed, append([]string{"close"}, args...)...)
		if !strings.Contains(stderr, "no ") {
			t.Errorf("close %v: %s", args, stderr)
		}
	}
	if out, _ := s.tool(exitDone, "close", "--share", "data"); out != "closed 0 tree connects\n" {
		t.Errorf("close --share: %q", out)
	}
	s.tool(exitUsage, "close")
	s.tool(exitUsage, "close", "--share", "data", "--open", "1")
}

func TestPasswd(t *testing.T) {
	dir := t.TempDir()
	conf, file := filepath.Join(dir, "smb.conf"), filepath.Join(dir, "smbpasswd")
	writeConf(t, conf, "[global]\npassdb backend = smbpasswd:"+file+"\nusername map = "+filepath.Join(dir, "map")+"\n[mine]\npath = "+dir+"\n")
	writeConf(t, filepath.Join(dir, "map"), "root = carol bob\n")
	passwd := func(want int, stdin string, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"passwd", "-c", conf}, args...), strings.NewReader(stdin), &stdout, &stderr); code != want {
			t.Fatalf("%v: exit status %d, want %d: %s", args, code, want, stderr.String())
		}
		return stderr.String()
	}
	passwd(exitFailed, "x\nx\n", "-s", "carol") // not there
	passwd(exitFailed, "x\ny\n", "-s", "-a", "carol")
	passwd(exitFailed, "\n\n", "-s", "-a", "carol")
	passwd(exitUsage, "", "-a", "carol")
	passwd(exitUsage, "", "-a", "a:b")
	passwd(exitDone, "first\nfirst\n", "-s", "-a", "carol")
	if b, err := os.ReadFile(file); err != nil || strings.Contains(string(b), "first") {
		t.Fatalf("%s %v", b, err)
	}
	s := newSite(t, "-c", conf)
	writeFile(t, filepath.Join(dir, "f"), "text")
	logon := func(want int, user, password string) {
		t.Helper()
		code, _, stderr := execute("cat", "//127.0.0.1/mine/f", "-U", user+"%"+password, "--transport", "tcp", "-p", s.port["tcp"])
		if code != want {
			t.Errorf("%s%%%s: exit status %d, want %d: %s", user, password, code, want, stderr)
		}
	}
	logon(exitDone, "Carol", "first")
	logon(exitFailed, "carol", "second")
	passwd(exitDone, "second\nsecond\n", "-s", "CAROL")
	logon(exitFailed, "carol", "first")
	logon(exitDone, "carol", "second")
	passwd(exitDone, "", "-d", "carol")
	logon(exitFailed, "carol", "second")
	passwd(exitDone, "", "-e", "carol")
	logon(exitDone, "carol", "second")
	passwd(exitDone, "", "-n", "carol")
	logon(exitFailed, "carol", "second")
	logon(exitFailed, "carol", "")
	passwd(exitFailed, "", "-e", "carol")
	passwd(exitDone, "", "-x", "carol")
	logon(exitFailed, "carol", "second")
	logon(exitDone, "alice", "secret") // of --user, all the time
}

func TestTestparm(t *testing.T) {
	name := filepath.Join(t.TempDir(), "smb.conf")
	for _, c := range []struct {
		conf   string
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{"[d]\npath = /\nguest ok = yes\n", []string{"-s"}, exitDone, "# Global parameters\n[global]\n\n\n[d]\n\tguest ok = Yes\n\tpath = /\n\n\n", ""},
		{"[d]\npath = /\n", []string{"-s", "--section-name", "d", "--parameter-name", "writeable"}, exitDone, "No\n", ""},
		{"[d]\npath = /\nraed only = no\n", []string{"-s", "--section-name", "d", "--parameter-name", "path"}, exitDone, "/\n", name + `:3: warning: "raed only" is unknown, to Samba too` + "\n"},
		{"[d]\npath = /\nraed only = no\n", []string{"--strict", "-s"}, exitFailed, "", ":3: error: "},
		{"[d]\npath = /\nhosts allow = example.org\n", []string{"-s"}, exitFailed, "", "names are not looked up"},
		{"[d]\nread only = no\n", []string{"-s"}, exitFailed, "", name + ":1: error: [d] has no path"},
		{"[d]\npath = /nonexistent\n", []string{"-s", "--section-name", "d", "--parameter-name", "path"}, exitDone, "/nonexistent\n", ":2: warning: [d]: path = /nonexistent is not a directory"},
		{"[d]\npath = /nonexistent\n", []string{"-s", "--strict"}, exitFailed, "", ":2: error: [d]: path = /nonexistent is not a directory"},
		{"[homes]\nread only = no\n", []string{"-s", "--section-name", "homes", "--parameter-name", "read only"}, exitDone, "No\n", ""},
		{"[d]\npath = /\ninvalid users = LAB\\bob\n", []string{"-s", "--section-name", "d", "--parameter-name", "path"}, exitDone, "/\n", name + `:3: warning: [d]: invalid users: LAB\bob is nobody here` + ""},
		{"log level = auth:10\n[d]\npath = /\n", []string{"-s", "--section-name", "d", "--parameter-name", "path"}, exitDone, "/\n", ""},
		{"[d]\npath = /\n", []string{"-s", "--section-name", "e"}, exitFailed, "", "no section"},
		{"[d]\npath = /\n", []string{"-s", "--parameter-name", "load printers"}, exitFailed, "", "no parameter"},
	} {
		writeConf(t, name, c.conf)
		code, stdout, stderr := execute(append([]string{"testparm", name}, c.args...)...)
		if code != c.code || stdout != c.stdout || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
			t.Errorf("%q %v: exit status %d, %q, %q", c.conf, c.args, code, stdout, stderr)
		}
	}
	if code, _, stderr := execute("testparm", filepath.Join(t.TempDir(), "absent")); code != exitFailed || !strings.Contains(stderr, "no such file") {
		t.Errorf("a file that is not there: %d %q", code, stderr)
	}
}

// Each variable part of a path is one element of it.
func TestPathsOfUsers(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"alice", "nogroup"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var st stores
	addr := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
	for _, c := range []struct {
		path string
		who  server.Client
		ok   bool
	}{
		{"/%U", server.Client{User: "Alice", Addr: addr}, true},
		{"/%u", server.Client{User: "x", Account: server.Account{Name: "alice"}}, true},
		{"/%g", server.Client{Account: server.Account{Groups: []string{"nogroup", "alice"}}}, true},
		{"/%U", server.Client{User: "bob"}, false}, // has no directory
		{"/%U", server.Client{User: ""}, false},    // a guest
		{"/%U", server.Client{User: ".."}, false},  // would leave
		{"/%U", server.Client{User: "a/../b"}, false},
		{"/%I", server.Client{Addr: addr}, false},
	} {
		sh := shareSettings{path: root + c.path}
		fsys, release, err := sh.opener(&st)(context.Background(), c.who)
		if (err == nil) != c.ok {
			t.Errorf("%s for %+v: %v", c.path, c.who, err)
		}
		if err == nil {
			if _, err := fsys.Stat(t.Context(), "."); err != nil {
				t.Error(err)
			}
			release()
		}
	}
	if n := len(st.keys()); n != 0 {
		t.Errorf("%d file systems are held by nobody", n)
	}
}

func TestInterfaceFilter(t *testing.T) {
	for _, c := range []struct {
		list, yes, no string
	}{
		{"", "eth0/192.0.2.1 eth1/2001:db8::1", ""},
		{"eth*", "eth0/192.0.2.1 eth1/2001:db8::1", "lo/127.0.0.1"},
		{"lo 192.0.2.0/24", "lo/127.0.0.1 eth0/192.0.2.9", "eth0/192.0.3.1"},
		{"192.0.2.7/24", "eth0/192.0.2.9", "eth0/192.0.3.1"},
		{"192.0.2.7/255.255.255.0", "eth0/192.0.2.9", "eth0/192.0.3.1"},
		{"192.0.2.7;speed=1000", "eth0/192.0.2.7", "eth0/192.0.2.8"},
		{"2001:db8::/32", "eth0/2001:db8::1", "eth0/192.0.2.1"},
	} {
		f, err := newInterfaceFilter(strings.Fields(c.list))
		if err != nil {
			t.Errorf("%q: %v", c.list, err)
			continue
		}
		for _, l := range []struct {
			list string
			want bool
		}{{c.yes, true}, {c.no, false}} {
			for _, x := range strings.Fields(l.list) {
				name, addr, _ := strings.Cut(x, "/")
				if f.has(name, mustAddr(t, addr)) != l.want {
					t.Errorf("%q: %s %v", c.list, x, !l.want)
				}
			}
		}
	}
	for _, bad := range []string{"192.0.2.0/33", "192.0.2.0/255.0.255.0", "eth[", "x/y"} {
		if _, err := newInterfaceFilter([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func mustAddr(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSharesInMemory(t *testing.T) {
	s, conf := confSite(t, "[ram]\npath = memory:2M\nread only = no\n", "--share", "flag=memory:")
	local := filepath.Join(t.TempDir(), "f")
	writeFile(t, local, strings.Repeat("x", 1<<20))
	s.do(exitDone, "tcp", "put", local, "//127.0.0.1/ram/f")
	s.do(exitDone, "iwarp", "put", local, "//127.0.0.1/flag/f")
	_, stderr := s.do(exitFailed, "tcp", "put", local, "//127.0.0.1/ram/g")
	if !strings.Contains(stderr, "DISK_FULL") {
		t.Errorf("more than it may hold: %s", stderr)
	}
	// What it holds stays when the configuration is read again.
	writeConf(t, conf, "[ram]\npath = memory:2M\nread only = yes\n")
	s.tool(exitDone, "reload")
	if out, _ := s.do(exitDone, "tcp", "cat", "//127.0.0.1/ram/f"); len(out) != 1<<20 {
		t.Errorf("%d bytes after the reload", len(out))
	}
	for path, want := range map[string]int64{"memory:": 0, "memory:1M": 1 << 20, "memory:3g": 3 << 30, "memory:1048576": 1 << 20} {
		if n, err := memorySize(path); err != nil || n != want {
			t.Errorf("%s: %d, %v", path, n, err)
		}
	}
	for _, path := range []string{"memory:0", "memory:x", "memory:-1M", "memory:1K", "memory:9999999999999T", "memory:k", "memory:2000T"} {
		if n, err := memorySize(path); err == nil {
			t.Errorf("%s is %d", path, n)
		}
	}
}

// A share whose directory is not there, as of a file system that is not mounted, keeps
// neither the server nor a reload from serving the others, and is there when it is.
func TestShareThatIsNotThere(t *testing.T) {
	root := t.TempDir()
	one, two := filepath.Join(root, "one"), filepath.Join(root, "two")
	s, conf := confSite(t, "[x]\npath = "+one+"\n")
	healthy := func(want int, name string) {
		t.Helper()
		r, err := http.Get("http://127.0.0.1:" + s.port["http"] + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var b bytes.Buffer
		if _, err := b.ReadFrom(r.Body); err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != want || !strings.Contains(b.String(), name) {
			t.Errorf("health is %d %q, want %d and %q", r.StatusCode, b.String(), want, name)
		}
	}
	refused := func(share string) {
		t.Helper()
		if _, stderr := s.do(exitFailed, "tcp", "ls", "//127.0.0.1/"+share); !strings.Contains(stderr, "BAD_NETWORK_NAME") {
			t.Errorf("a share that is not there: %s", stderr)
		}
	}
	s.do(exitDone, "tcp", "ls", "//127.0.0.1/data")
	refused("x")
	healthy(http.StatusServiceUnavailable, one)
	writeConf(t, conf, "[x]\npath = "+one+"\n[y]\npath = "+two+"\n")
	s.tool(exitDone, "reload")
	refused("y")
	healthy(http.StatusServiceUnavailable, two)
	for _, dir := range []string{one, two} {
		writeFile(t, filepath.Join(dir, "f"), "text")
	}
	s.do(exitDone, "tcp", "cat", "//127.0.0.1/x/f")
	s.do(exitDone, "tcp", "cat", "//127.0.0.1/y/f")
	healthy(http.StatusOK, "ok")
	if _, log := s.stop(); !strings.Contains(log, "share cannot be opened") {
		t.Errorf("the log does not say so: %s", log)
	}
}

// What a share in memory holds is nowhere else: no change of the configuration but its
// own end takes it away.
func TestReloadKeepsWhatIsInMemory(t *testing.T) {
	s, conf := confSite(t, "[ram]\npath = memory:8M\nread only = no\n")
	src := filepath.Join(t.TempDir(), "f")
	writeFile(t, src, "text")
	s.do(exitDone, "tcp", "put", src, "//127.0.0.1/ram/f")
	for _, more := range []string{
		"path = memory:16M\nread only = no", "path = memory:8M\nhide dot files = no", "path = memory:\nstore dos attributes = no",
		"path = memory:8M\ncase sensitive = yes\nvfs objects = shadow_copy2",
	} {
		writeConf(t, conf, "[ram]\n"+more+"\n")
		s.tool(exitDone, "reload")
		if text, _ := s.do(exitDone, "tcp", "cat", "//127.0.0.1/ram/f"); text != "text" {
			t.Errorf("%s: the file has %q", more, text)
		}
	}
}

// Root who has logged on has a runtime directory of his own, and a service has not: status
// finds it all the same.
func TestWhereServersAreLookedFor(t *testing.T) {
	for _, c := range []struct {
		euid      int
		xdg, want string
	}{
		{0, "/run/user/0", "/run/user/0/smbd-rdma /run/smbd-rdma"},
		{1000, "/run/user/1000", "/run/user/1000/smbd-rdma"},
	} {
		t.Setenv("XDG_RUNTIME_DIR", c.xdg)
		if got := strings.Join(controlDirs(c.euid), " "); got != c.want {
			t.Errorf("user %d with %s looks in %s, want %s", c.euid, c.xdg, got, c.want)
		}
	}
}
