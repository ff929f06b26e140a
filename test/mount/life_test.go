//go:build mount

package mount

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/test/mount/site"
)

var tcp = columns[0]

// SIGTERM while a program has files open: the mount goes at once, what was written is on
// the server, the program may go on with what it has open, and when it has closed that,
// the process ends with status 0.
func TestUnmountWithOpenFiles(t *testing.T) {
	y := newYard(t)
	s := y.serve(tcp)
	m := y.mount(s, tcp, "mnt")
	f, err := os.Create(filepath.Join(m.Dir, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content(3)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Unmount() }()
	y.within(time.Minute, "unmounting", func() error {
		return eventually(func() error {
			if site.Mounted(m.Dir) {
				return errors.New("it is mounted")
			}
			return nil
		})
	})
	got, err := os.ReadFile(filepath.Join(s.Share, "open"))
	if err != nil || string(got) != string(content(3)) {
		t.Errorf("the server has %d bytes, %v; written were %d", len(got), err, len(content(3)))
	}
	if err := f.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	y.within(time.Minute, "the process's end", func() error { return <-done })
	y.mounts = nil
}

// Without -f the command returns when the mount can be used, and fusermount3 -u ends it.
func TestBackground(t *testing.T) {
	y := newYard(t)
	s := y.serve(tcp)
	bin, err := site.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(y.dir, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("fusermount3", "-uz", dir).Run() })
	credentials := filepath.Join(y.dir, "credentials")
	if err := os.WriteFile(credentials, []byte("username="+s.User+"\npassword="+s.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(bin, "mount", "//127.0.0.1/share", dir, "-o", "credentials="+credentials+",port="+s.Port)
	cmd.ExtraFiles = []*os.File{w} // as a lock of the script that mounts
	y.within(time.Minute, "mounting", cmd.Run)
	if !site.Mounted(dir) {
		t.Fatal("the command has returned and nothing is mounted")
	}
	w.Close()
	y.within(time.Minute, "whoever else has what the command was given to end", func() error {
		_, err := io.ReadAll(r)
		return err
	})
	if err := os.WriteFile(filepath.Join(dir, "f"), content(1), 0o666); err != nil {
		t.Error(err)
	}
	if err := command(30*time.Second, "fusermount3", "-u", dir); err != nil {
		t.Error(err)
	}
	if site.Mounted(dir) {
		t.Error("still mounted")
	}
}

// What can't be mounted is told at once, or within the timeout, by an exit status and a
// line, and leaves nothing mounted.
func TestMountFails(t *testing.T) {
	y := newYard(t)
	s := y.serve(tcp)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	port := func(l net.Listener) string { _, p, _ := net.SplitHostPort(l.Addr().String()); return p }
	bin, err := site.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(y.dir, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, source, dir, options string }{
		{"nobody listens", "//127.0.0.1/share", dir, "user=tester,pass=secret,port=" + port(closed)},
		{"nobody answers", "//127.0.0.1/share", dir, "user=tester,pass=secret,port=" + port(silent)},
		{"wrong password", "//127.0.0.1/share", dir, "user=tester,pass=wrong,port=" + s.Port},
		{"no such share", "//127.0.0.1/nosuch", dir, "user=tester,pass=secret,port=" + s.Port},
		{"no such directory", "//127.0.0.1/share", dir + "/nosuch", "user=tester,pass=secret,port=" + s.Port},
		{"no such option", "//127.0.0.1/share", dir, "user=tester,pass=secret,frobnicate=7,port=" + s.Port},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := exec.Command("timeout", "90", bin, "mount", c.source, c.dir, "-o", c.options).CombinedOutput()
			var status *exec.ExitError
			if !errors.As(err, &status) {
				t.Fatalf("%v, want a failure\n%s", err, out)
			}
			if code := status.ExitCode(); code != 1 && code != 2 {
				t.Errorf("status %d, want 1 or 2", code)
			}
			if len(strings.TrimSpace(string(out))) == 0 {
				t.Error("it says nothing")
			}
			if site.Mounted(c.dir) {
				t.Error("it has mounted something")
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	y := newYard(t)
	s := y.serve(tcp)
	name := filepath.Join(s.Share, "f")
	if err := os.WriteFile(name, content(2), 0o666); err != nil {
		t.Fatal(err)
	}
	m := y.mount(s, tcp, "mnt", "ro")
	at := filepath.Join(m.Dir, "f")
	if got, err := os.ReadFile(at); err != nil || string(got) != string(content(2)) {
		t.Errorf("reading: %d bytes, %v", len(got), err)
	}
	for what, err := range map[string]error{
		"write":    os.WriteFile(at, nil, 0o666),
		"truncate": os.Truncate(at, 0),
		"create":   os.WriteFile(at+"2", nil, 0o666),
		"mkdir":    os.Mkdir(at+"d", 0o755),
		"remove":   os.Remove(at),
		"rename":   os.Rename(at, at+"2"),
		"chmod":    os.Chmod(at, 0o444),
		"link":     os.Link(at, at+"l"),
		"symlink":  os.Symlink("f", at+"s"),
		"utimes":   os.Chtimes(at, time.Now(), time.Now()),
		"setxattr": unix.Setxattr(at, "user.a", []byte("x"), 0),
	} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
	y.unmount()
}

// A large file is read in pieces of 1 MiB; what has been read is not kept in the
// process.
func TestMemoryOfReading(t *testing.T) {
	size := int64(2) << 30
	if *long {
		size = 100 << 30
	}
	for _, c := range columns[:2] {
		t.Run(c.name, func(t *testing.T) {
			y := newYard(t)
			s := y.serve(c)
			name := filepath.Join(s.Share, "sparse")
			if err := os.WriteFile(name, nil, 0o666); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(name, size); err != nil {
				t.Fatal(err)
			}
			m := y.mount(s, c, "mnt")
			y.within(2*time.Hour, "reading", func() error {
				return command(2*time.Hour, "dd", "if="+filepath.Join(m.Dir, "sparse"), "of=/dev/null", "bs=1M", "status=none")
			})
			peak := m.Peak()
			t.Log(fmt.Sprintf("%d MiB at most", peak>>20))
			if peak == 0 || peak > 100<<20 {
				t.Errorf("the mount has had %d MiB, want at most 100", peak>>20)
			}
			y.unmount()
		})
	}
}
