//go:build mount

package mount

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/test/mount/site"
)

var long = flag.Bool("long", false, "make mount-soak: more of the same, for longer")

// columns are the ways in which a share is mounted.
var columns = []column{
	{name: "TCP", transport: "tcp"},
	{name: "iWARP", transport: "iwarp"},
	// Pages that no lease protects are read and written by who does not hold a lock on
	// them, which SMB's mandatory locks refuse: sqlite's shared memory wants nobrl then.
	{name: "no leases", transport: "tcp", options: []string{"nolease"}, loads: []string{"nobrl"}},
	// Samba 4.17 makes no symbolic links for clients, and has no POSIX extensions.
	{name: "Samba", samba: true, transport: "tcp", without: "symlinks,busy,times,links"},
}

// withoutPOSIX is a column that asks for no POSIX extensions: open files that are
// deleted have a hidden name, whose end changes its directory's times, links are listed as
// what they lead to, and a directory with something open in it is not moved.
var withoutPOSIX = column{name: "no POSIX extensions", transport: "tcp", options: []string{"noposix"}, without: "symlinks,busy,times,order"}

type column struct {
	name      string
	samba     bool
	transport string
	options   []string
	loads     []string // more options for the loads
	without   string   // features of diff that the server does not have
}

// yard is a directory for a test, which other users can get into, with what runs in it.
type yard struct {
	t      *testing.T
	dir    string
	mounts []*site.Mount
}

func newYard(t *testing.T) *yard {
	t.Helper()
	if _, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Fatalf("%v: these tests need FUSE", err)
	}
	dir, err := os.MkdirTemp("", "mount-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	y := &yard{t: t, dir: dir}
	t.Cleanup(func() {
		for _, m := range y.mounts {
			m.Kill()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return y
}

// serve starts the column's server.
func (y *yard) serve(c column) *site.Server {
	y.t.Helper()
	dir := filepath.Join(y.dir, "server")
	if err := os.Mkdir(dir, 0o755); err != nil {
		y.t.Fatal(err)
	}
	start := func() (*site.Server, error) { return site.Own(dir) }
	if c.samba {
		start = func() (*site.Server, error) { return site.Samba(dir) }
	}
	s, err := start()
	if errors.Is(err, site.ErrAbsent) {
		y.t.Skip(err)
	}
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() {
		if y.t.Failed() && s.Log() != "" {
			y.t.Logf("server:\n%s", tail(s.Log()))
		}
		for _, m := range y.mounts {
			m.Kill()
		}
		s.Stop()
	})
	return s
}

// mount mounts the share on a directory called name.
func (y *yard) mount(s *site.Server, c column, name string, options ...string) *site.Mount {
	y.t.Helper()
	m, err := s.Mount(filepath.Join(y.dir, name), c.transport, append(append([]string(nil), c.options...), options...)...)
	if err != nil {
		y.t.Fatal(err)
	}
	y.mounts = append(y.mounts, m)
	y.t.Cleanup(func() {
		if log := m.Log(); y.t.Failed() {
			y.t.Logf("%s:\n%s", name, tail(log))
		}
	})
	return m
}

// unmount ends all mounts in good order.
func (y *yard) unmount() {
	y.t.Helper()
	for _, m := range y.mounts {
		if err := m.Unmount(); err != nil {
			y.t.Error(err)
		}
	}
	y.mounts = nil
}

// within runs f, which has to return in time. If it does not, the mounts are killed, so
// that what waits in the kernel returns, and the test ends.
func (y *yard) within(d time.Duration, what string, f func() error) {
	y.t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			y.t.Errorf("%s: %v", what, err)
		}
	case <-time.After(d):
		for _, m := range y.mounts {
			m.Kill()
		}
		<-done
		y.t.Fatalf("%s: not done after %v", what, d)
	}
}

func tail(s string) string {
	l := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(l[max(0, len(l)-15):], "\n")
}

// command runs a program, and is an error with the end of what it said if it fails.
func command(timeout time.Duration, name string, args ...string) error {
	out, err := exec.Command("timeout", append([]string{"-k", "5", fmt.Sprint(timeout.Seconds()), name}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, tail(string(out)))
	}
	return nil
}
