package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// site is a running `serve` with the share data, which is dir, and ro, which is
// the same and read-only.
type site struct {
	t    *testing.T
	dir  string
	sock string                           // the control socket
	port map[string]string                // by scheme, of 127.0.0.1
	stop func() (code int, stderr string) // ends serve as a signal does
}

func newSite(t *testing.T, more ...string) *site {
	t.Helper()
	ctl, err := os.MkdirTemp("", "ctl") // shorter than the names of t.TempDir, as a socket's must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(ctl) })
	s := &site{t: t, dir: t.TempDir(), sock: filepath.Join(ctl, "s"), port: map[string]string{}}
	args := append([]string{"serve", "--share", "data=" + s.dir, "--share", "ro=" + s.dir + ",ro", "--user", "alice%secret",
		"--http", "127.0.0.1:0", "--control", s.sock}, more...)
	for _, l := range [][2]string{{"--tcp", "127.0.0.1:0"}, {"--rdma", "iwarp://127.0.0.1:0"}} {
		if i := slices.Index(more, l[0]); i < 0 || more[i+1] != "none" {
			args = append(args, l[0], l[1])
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	pr, pw := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() { // ended by cancel; stop waits
		code := run(ctx, args, strings.NewReader(""), pw, &stderr)
		pw.Close()
		ended <- code
	}()
	stopped := false
	s.stop = func() (int, string) {
		stopped = true
		cancel()
		go io.Copy(io.Discard, pr) // ends with serve
		return <-ended, stderr.String()
	}
	t.Cleanup(func() {
		if !stopped {
			if code, log := s.stop(); code != exitDone {
				t.Errorf("serve ended with %d: %s", code, log)
			}
		}
	})
	lines := bufio.NewScanner(pr)
	for lines.Scan() && lines.Text() != "ready" {
		u, err := url.Parse(strings.TrimPrefix(lines.Text(), "listening on "))
		if err != nil || !strings.HasPrefix(lines.Text(), "listening on ") {
			t.Fatalf("serve printed %q", lines.Text())
		}
		if u.Hostname() == "127.0.0.1" {
			s.port[u.Scheme] = u.Port()
		} else {
			s.port[u.Scheme+"6"] = u.Port()
		}
	}
	if lines.Text() != "ready" {
		code, log := s.stop()
		t.Fatalf("serve ended with %d: %s", code, log)
	}
	return s
}

// do runs a client command over a transport and wants an exit status.
func (s *site) do(want int, transport string, args ...string) (stdout, stderr string) {
	s.t.Helper()
	code, stdout, stderr := execute(append(args, "-U", "alice%secret", "--log-level", "error",
		"--transport", transport, "-p", s.port[transport])...)
	if code != want {
		s.t.Fatalf("%v: exit status %d, want %d; standard error: %s", args, code, want, stderr)
	}
	if want != exitDone && stderr == "" {
		s.t.Errorf("%v: failed without a word", args)
	}
	return stdout, stderr
}

func writeFile(t *testing.T, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o666); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s has %d bytes (%v), want %d others", name, len(got), err, len(want))
	}
}

// summary is the last object that --json prints.
func summary(t *testing.T, out string) (r report) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil || r.Type != "summary" {
		t.Fatalf("no summary: %v, %s", err, out)
	}
	return r
}

// names lists what is in a directory.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		list = append(list, e.Name())
	}
	return list
}

func TestCommandsOverEveryTransport(t *testing.T) {
	s := newSite(t)
	big := strings.Repeat("0123456789abcdef", 3<<20/16) + "end"
	for _, transport := range []string{"iwarp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			s := &site{t: t, dir: s.dir, port: s.port}
			local, root := t.TempDir(), "//127.0.0.1/data/"+transport
			writeFile(t, filepath.Join(local, "tree", "big"), big)
			writeFile(t, filepath.Join(local, "tree", "empty"), "")
			writeFile(t, filepath.Join(local, "tree", "sub", "a b ü"), "small")
			if err := os.Mkdir(filepath.Join(local, "tree", "nothing"), 0o777); err != nil {
				t.Fatal(err)
			}

			out, _ := s.do(exitDone, transport, "put", "-r", "--json", filepath.Join(local, "tree"), root)
			r := summary(t, out)
			if r.Files != 3 || r.Bytes != int64(len(big)+5) {
				t.Errorf("put --json: %s", out)
			}
			rdma, provider := uint64(0), ""
			if transport == "iwarp" {
				rdma, provider = uint64(len(big)-3), "iwarp" // the rest is below --rdma-threshold
			}
			if r.RDMABytes != rdma || r.Provider != provider {
				t.Errorf("%d bytes by RDMA of %q, want %d of %q", r.RDMABytes, r.Provider, rdma, provider)
			}
			wantFile(t, filepath.Join(s.dir, transport, "big"), big)

			out, _ = s.do(exitDone, transport, "ls", root)
			if out != "big\nempty\nnothing/\nsub/\n" {
				t.Errorf("ls: %q", out)
			}
			out, _ = s.do(exitDone, transport, "ls", "-r", "--json", root)
			var rows []fileRow
			if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 5 {
				t.Fatalf("ls -r --json: %v, %s", err, out)
			}
			if rows[0].Name != "big" || rows[0].Size != int64(len(big)) || rows[0].Directory ||
				rows[4].Name != "sub/a b ü" || rows[4].Size != 5 || !rows[3].Directory {
				t.Errorf("ls -r --json: %+v", rows)
			}
			if out, _ = s.do(exitDone, transport, "ls", "//127.0.0.1"); !strings.Contains(out, "data") || !strings.Contains(out, "IPC$") {
				t.Errorf("shares: %q", out)
			}
			if out, _ = s.do(exitDone, transport, "cat", root+"/big"); out != big {
				t.Errorf("cat: %d bytes", len(out))
			}
			out, _ = s.do(exitDone, transport, "stat", "--json", root+"/sub/a b ü")
			var row fileRow
			info, err := os.Stat(filepath.Join(local, "tree", "sub", "a b ü"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(out), &row); err != nil || row.Name != "a b ü" || row.Size != 5 || row.Links != 1 ||
				row.Modified.Sub(info.ModTime()).Abs() > 100 {
				t.Errorf("stat --json: %v, %s; the file is of %v", err, out, info.ModTime())
			}

			s.do(exitDone, transport, "get", "-r", root, filepath.Join(local, "back"))
			wantFile(t, filepath.Join(local, "back", "big"), big)
			wantFile(t, filepath.Join(local, "back", "empty"), "")
			wantFile(t, filepath.Join(local, "back", "sub", "a b ü"), "small")
			if l := names(t, filepath.Join(local, "back")); !slices.Equal(l, []string{"big", "empty", "nothing", "sub"}) {
				t.Errorf("got %v", l)
			}

			s.do(exitDone, transport, "mkdir", root+"/new")
			s.do(exitFailed, transport, "mkdir", root+"/new")
			s.do(exitFailed, transport, "mkdir", root+"/x/y")
			s.do(exitDone, transport, "mkdir", "--parents", root+"/x/y", root+"/x/y")
			s.do(exitDone, transport, "mv", root+"/empty", root+"/new")
			s.do(exitDone, transport, "mv", root+"/new/empty", root+"/new/void")
			writeFile(t, filepath.Join(s.dir, transport, "other"), "other")
			s.do(exitFailed, transport, "mv", root+"/other", root+"/new/void")
			s.do(exitDone, transport, "mv", "-f", root+"/other", root+"/new/void")
			wantFile(t, filepath.Join(s.dir, transport, "new", "void"), "other")
			s.do(exitFailed, transport, "rm", root+"/new")
			s.do(exitDone, transport, "rm", root+"/new/void", root+"/new")
			s.do(exitFailed, transport, "rm", root+"/new")
			s.do(exitDone, transport, "rm", "-f", root+"/new")
			s.do(exitDone, transport, "rm", "-r", root)
			s.do(exitFailed, transport, "rm", "-r", root)
			if l := names(t, s.dir); slices.Contains(l, transport) {
				t.Errorf("after rm -r there is %v", l)
			}
		})
	}
	for k, want := range map[string]string{"/healthz": "ok\n", "/metrics": `smbd_rdma_open{kind="file"} 0`} {
		resp, err := http.Get("http://127.0.0.1:" + s.port["http"] + k)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %v, %s", k, err, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// Where LOCAL and PATH go, as their help says.
func TestWhereFilesGo(t *testing.T) {
	s := newSite(t)
	local := t.TempDir()
	writeFile(t, filepath.Join(local, "f"), "f")
	writeFile(t, filepath.Join(local, "d", "in"), "in")
	f, d, root := filepath.Join(local, "f"), filepath.Join(local, "d"), "//127.0.0.1/data"
	for _, c := range []struct {
		code int
		args []string
		want string // below the share, with the content of its last element
	}{
		{exitDone, []string{"put", f, root}, "f"},
		{exitDone, []string{"put", f, root + "/"}, "f"},
		{exitDone, []string{"put", f, root + "/g"}, "g"},
		{exitFailed, []string{"put", f, root + "/no/"}, ""},
		{exitFailed, []string{"put", f, root + "/no/g"}, ""},
		{exitDone, []string{"put", "-r", d, root + "/e/deep"}, "e/deep/in"},
		{exitDone, []string{"put", "-r", d, root + "/e"}, "e/in"},
		{exitDone, []string{"put", "-r", d, root + "/e/"}, "e/d/in"},
		{exitDone, []string{"put", f, root + "/e"}, "e/f"},
		{exitFailed, []string{"put", "-r", d, root + "/f"}, ""},
		{exitUsage, []string{"put", d, root + "/f"}, ""},
		{exitFailed, []string{"put", filepath.Join(local, "absent"), root}, ""},
		{exitFailed, []string{"put", "/dev/null", root}, ""},
	} {
		s.do(c.code, "iwarp", c.args...)
		if c.want != "" {
			content := filepath.Base(c.want)
			if content == "g" {
				content = "f"
			}
			wantFile(t, filepath.Join(s.dir, c.want), content)
			if err := os.Remove(filepath.Join(s.dir, c.want)); err != nil {
				t.Error(err)
			}
			if c.want == "f" {
				writeFile(t, filepath.Join(s.dir, "f"), "f")
			}
		}
	}
	for _, dir := range []string{"into", "r2"} {
		if err := os.Mkdir(filepath.Join(local, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(s.dir, "e", "in"), "in")
	for _, c := range []struct {
		code int
		args []string
		want string
	}{
		{exitDone, []string{"get", root + "/f", filepath.Join(local, "into")}, "into/f"},
		{exitDone, []string{"get", root + "/f", filepath.Join(local, "h")}, "h"},
		{exitDone, []string{"get", "-r", root + "/e", filepath.Join(local, "r1")}, "r1/in"},
		{exitDone, []string{"get", "-r", root + "/e", filepath.Join(local, "r2")}, "r2/in"},
		{exitDone, []string{"get", "-r", root + "/e", filepath.Join(local, "r2") + "/"}, "r2/e/in"},
		{exitFailed, []string{"get", root + "/f", filepath.Join(local, "no", "f")}, ""},
		{exitFailed, []string{"get", root + "/absent", local}, ""},
		{exitFailed, []string{"get", "-r", root + "/e", f}, ""},
		{exitUsage, []string{"get", root + "/e", local}, ""},
	} {
		s.do(c.code, "iwarp", c.args...)
		if c.want != "" {
			content := filepath.Base(c.want)
			if content == "h" {
				content = "f"
			}
			wantFile(t, filepath.Join(local, c.want), content)
		}
	}
}

// What can't be copied is named, the rest is, and the exit status is 1.
func TestWhatFailsIsNamed(t *testing.T) {
	s := newSite(t)
	local := t.TempDir()
	for _, n := range []string{"good", "sub/good", `back\slash`, "colon:name", "not\xffutf8", "bad\xfedir/in"} {
		writeFile(t, filepath.Join(local, "tree", n), n)
	}
	_, stderr := s.do(exitFailed, "iwarp", "put", "-r", filepath.Join(local, "tree"), "//127.0.0.1/data/t")
	for _, want := range []string{`"back\\slash"`, "colon:name", `"not\xffutf8"`, `"bad\xfedir"`, "put: 4 files or directories failed"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("standard error is %q, without %q", stderr, want)
		}
	}
	if strings.Contains(stderr, "dir/in") {
		t.Errorf("a file below a directory that failed is named: %q", stderr)
	}
	wantFile(t, filepath.Join(s.dir, "t", "good"), "good")
	wantFile(t, filepath.Join(s.dir, "t", "sub", "good"), "sub/good")

	_, stderr = s.do(exitFailed, "iwarp", "put", filepath.Join(local, "tree", "good"), "//127.0.0.1/ro/x")
	if !strings.Contains(stderr, "x: STATUS_ACCESS_DENIED") && !strings.Contains(stderr, "x: STATUS_MEDIA_WRITE_PROTECTED") ||
		strings.Count(stderr, "\n") != 1 {
		t.Errorf("a read-only share: %q", stderr)
	}
	// A directory is in the way of one file.
	back := filepath.Join(local, "back")
	if err := os.MkdirAll(filepath.Join(back, "good"), 0o777); err != nil {
		t.Fatal(err)
	}
	_, stderr = s.do(exitFailed, "tcp", "get", "-r", "//127.0.0.1/data/t", back)
	if !strings.Contains(stderr, filepath.Join(back, "good")) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("a directory in the way: %q", stderr)
	}
	wantFile(t, filepath.Join(back, "sub", "good"), "sub/good")
}

// The same for what can't be read, on either side.
func TestWhatMayNotBeReadIsNamed(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	s := newSite(t)
	local := t.TempDir()
	tree := filepath.Join(local, "tree")
	for _, top := range []string{tree, filepath.Join(s.dir, "t")} {
		writeFile(t, filepath.Join(top, "good"), "good")
		writeFile(t, filepath.Join(top, "file"), "file")
		writeFile(t, filepath.Join(top, "dir", "in"), "in")
		for _, n := range []string{"file", "dir"} {
			name := filepath.Join(top, n)
			if err := os.Chmod(name, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(name, 0o700) }) // so that it can be removed
		}
	}
	_, stderr := s.do(exitFailed, "iwarp", "put", "-r", tree, "//127.0.0.1/data/p")
	for _, want := range []string{filepath.Join(tree, "file"), filepath.Join(tree, "dir"), "put: 2 files or directories failed"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("put says %q, without %q", stderr, want)
		}
	}
	wantFile(t, filepath.Join(s.dir, "p", "good"), "good")
	_, stderr = s.do(exitFailed, "iwarp", "get", "-r", "//127.0.0.1/data/t", filepath.Join(local, "g"))
	for _, want := range []string{"t/file", "t/dir", "get: 2 files or directories failed"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("get says %q, without %q", stderr, want)
		}
	}
	wantFile(t, filepath.Join(local, "g", "good"), "good")
}

// get writes by way of another name, which must fit and must not stay, and keeps
// the mode of what it replaces.
func TestGetReplacesWholeFiles(t *testing.T) {
	s := newSite(t)
	local := t.TempDir()
	long := strings.Repeat("n", 255)
	writeFile(t, filepath.Join(s.dir, long), "new")
	writeFile(t, filepath.Join(local, long), "old")
	if err := os.Chmod(filepath.Join(local, long), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(long, filepath.Join(local, "link")); err != nil {
		t.Fatal(err)
	}
	s.do(exitDone, "iwarp", "get", "//127.0.0.1/data/"+long, filepath.Join(local, "link"))
	wantFile(t, filepath.Join(local, long), "new")
	i, err := os.Lstat(filepath.Join(local, long))
	if err != nil || i.Mode() != 0o640 {
		t.Errorf("mode %v, want 0640 (%v)", i.Mode(), err)
	}
	if l := names(t, local); !slices.Equal(l, []string{"link", long}) {
		t.Errorf("left behind: %v", l)
	}
}

// Interrupted, get leaves nothing behind and says why, on one line.
func TestInterruptedGet(t *testing.T) {
	s := newSite(t)
	local := t.TempDir()
	writeFile(t, filepath.Join(s.dir, "huge"), strings.Repeat("no hole ", 256<<20/8))
	ctx, cancel := context.WithCancelCause(context.Background())
	begun := make(chan struct{})
	go func() { // ends as soon as get has begun to write
		defer close(begun)
		for {
			if es, _ := os.ReadDir(local); len(es) > 0 {
				cancel(io.ErrClosedPipe)
				return
			}
			runtime.Gosched()
		}
	}()
	var stderr bytes.Buffer
	code := run(ctx, []string{"get", "//127.0.0.1/data/huge", filepath.Join(local, "huge"), "-U", "alice%secret",
		"--transport", "iwarp", "-p", s.port["iwarp"], "--log-level", "error"}, strings.NewReader(""), io.Discard, &stderr)
	<-begun
	if code != exitFailed || stderr.String() != "smbd-rdma get: "+io.ErrClosedPipe.Error()+"\n" {
		t.Errorf("exit status %d, %q", code, stderr.String())
	}
	if l := names(t, local); len(l) != 0 {
		t.Errorf("left behind: %v", l)
	}
}

// --transport auto takes SMB Direct where it is, else TCP, and says so.
func TestAutoFallsBackAndSaysSo(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		scheme string
		said   bool
	}{{"iwarp", false}, {"tcp", true}} {
		code, stdout, stderr := execute("stat", "//127.0.0.1/data", "-U", "alice%secret", "-p", s.port[c.scheme])
		if code != exitDone || stdout == "" {
			t.Errorf("auto at %s: exit status %d, %s", c.scheme, code, stderr)
		}
		if strings.Contains(stderr, "falling back to TCP") != c.said {
			t.Errorf("auto at %s says %q", c.scheme, stderr)
		}
	}
	code, _, stderr := execute("ls", "//127.0.0.1/data", "-U", "alice%secret", "-p", s.port["tcp"], "--transport", "iwarp")
	if code != exitFailed || strings.Count(stderr, "\n") != 1 {
		t.Errorf("iwarp at TCP's port: exit status %d, %q", code, stderr)
	}
	for _, transport := range []string{"iwarp", "tcp"} {
		code, _, stderr = execute("ls", "//127.0.0.1/data", "-U", "alice%wrong", "-p", s.port[transport], "--transport", transport)
		if code != exitFailed || !strings.Contains(stderr, "STATUS_LOGON_FAILURE") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("a wrong password: exit status %d, %q", code, stderr)
		}
	}
}

func TestPasswordsFromElsewhere(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "cred")
	writeFile(t, file, "username = alice\npassword = secret\n")
	to := []string{"stat", "//127.0.0.1/data", "--transport", "tcp", "-p", s.port["tcp"]}
	if code, _, stderr := execute(append(to, "-A", file)...); code != exitDone {
		t.Errorf("-A: exit status %d, %s", code, stderr)
	}
	t.Setenv("PASSWD", "secret")
	if code, _, stderr := execute(append(to, "-U", "alice")...); code != exitDone {
		t.Errorf("PASSWD: exit status %d, %s", code, stderr)
	}
	writeFile(t, file, "password = secret\n")
	if code, _, stderr := execute(append(to, "-A", file)...); code != exitFailed || !strings.Contains(stderr, "no line username=NAME") {
		t.Errorf("-A without a name: exit status %d, %s", code, stderr)
	}
}

func TestServeOnIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	l.Close()
	s := newSite(t, "--tcp", "[::1]:0", "--rdma", "iwarp://[::1]:0")
	writeFile(t, filepath.Join(s.dir, "f"), "f")
	for _, transport := range []string{"iwarp", "tcp"} {
		code, stdout, stderr := execute("cat", "//[::1]/data/f", "-U", "alice%secret", "--transport", transport, "-p", s.port[transport+"6"])
		if code != exitDone || stdout != "f" {
			t.Errorf("%s: exit status %d, %q, %q", transport, code, stdout, stderr)
		}
	}
}

// A port that is taken is one line and 1.
func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir, taken := t.TempDir(), l.Addr().String()
	for _, flags := range [][]string{
		{"--tcp", taken, "--rdma", "none"},
		{"--tcp", "none", "--rdma", "iwarp://" + taken},
		{"--tcp", "127.0.0.1:0", "--rdma", "none", "--http", taken},
	} {
		code, stdout, stderr := execute(append([]string{"serve", "--share", "d=" + dir, "--user", "a%b"}, flags...)...)
		if code != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "address already in use") || strings.Contains(stdout, "ready") {
			t.Errorf("%v: exit status %d, %q, %q", flags, code, stdout, stderr)
		}
	}
}

// Ended in the middle of a put, serve finishes what is under way and ends with 0;
// the client fails, and says which file.
func TestServeEndsDuringPut(t *testing.T) {
	s := newSite(t)
	local := filepath.Join(t.TempDir(), "huge")
	writeFile(t, local, strings.Repeat("no hole ", 256<<20/8))
	done := make(chan string, 1)
	go func() { // ends with its connection
		code, _, stderr := execute("put", local, "//127.0.0.1/data/huge", "-U", "alice%secret", "--log-level", "error",
			"--transport", "iwarp", "-p", s.port["iwarp"])
		if code != exitFailed {
			stderr = "exit status is not 1: " + stderr
		}
		done <- stderr
	}()
	for {
		es, err := os.ReadDir(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) > 0 {
			if i, err := es[0].Info(); err == nil && i.Size() > 0 {
				break
			}
		}
		runtime.Gosched()
	}
	code, log := s.stop()
	if code != exitDone || strings.Contains(log, "level=ERROR") {
		t.Errorf("serve: exit status %d, %s", code, log)
	}
	if stderr := <-done; !strings.HasPrefix(stderr, "smbd-rdma put: ") || !strings.Contains(stderr, "huge") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("put says %q", stderr)
	}
}

// demo works with nothing, and with next to nothing.
func TestDemoWithSmallTrees(t *testing.T) {
	one := t.TempDir()
	writeFile(t, filepath.Join(one, "empty"), "")
	for dir, files := range map[string]int64{t.TempDir(): 1, one: 2} {
		code, stdout, stderr := execute("demo", "--dir", dir, "--large", "1", "--json")
		var r demoResult
		if err := json.Unmarshal([]byte(stdout), &r); code != exitDone || err != nil {
			t.Fatalf("exit status %d, %v, %s, %s", code, err, stdout, stderr)
		}
		if r.Files != files || r.FilesComparedBySHA != files || r.RDMABytes != uint64(r.Bytes) || r.Bytes < 2<<20 ||
			r.TreeBytes != 0 || r.LargeBytes != 1<<20 || r.Provider != "iwarp" || r.Dialect != "3.1.1" {
			t.Errorf("%d files: %s", files, stdout)
		}
	}
	if code, _, stderr := execute("demo", "--dir", one, "--large", "1048576"); code != exitFailed || !strings.Contains(stderr, "are needed") {
		if err := checkSpace(os.TempDir(), 3<<40); err != nil { // there are machines with room for it
			t.Errorf("1 TiB: exit status %d, %q", code, stderr)
		}
	}
}

func TestHelpOfWhatIsNot(t *testing.T) {
	code, stdout, stderr := execute("help", "frobnicate")
	if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit status %d, %q, %q", code, stdout, stderr)
	}
	for _, args := range [][]string{{"-h"}, {"help"}, {"help", "put"}} {
		if code, stdout, _ := execute(args...); code != exitDone || !strings.Contains(stdout, "Usage:") || strings.Count(stdout, "\n") > 60 {
			t.Errorf("%v: exit status %d, %s", args, code, stdout)
		}
	}
}

// Mistakes that need no server are found without one.
func TestMistakesAreFoundFirst(t *testing.T) {
	for _, args := range []string{
		"mv //127.0.0.1/a/x //127.0.0.1/b/x", "mv //127.0.0.1/a //127.0.0.1/a/x", "rm //127.0.0.1/a/x //127.0.0.1/a",
		"mkdir //127.0.0.1/a", "cat //127.0.0.1/a/x y", "get x //127.0.0.1/a/x",
	} {
		code, stdout, stderr := execute(append(strings.Fields(args), "-U", "a%b", "-p", "1", "--transport", "tcp")...)
		if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit status %d, %q", args, code, stderr)
		}
	}
}
