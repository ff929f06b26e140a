//go:build peers

package peers

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binServer is the built command, serving a directory as share "test" to user
// "tester" with password "secret", on free loopback ports.
type binServer struct {
	tcp, rdma string // HOST:PORT
	cmd       *exec.Cmd
	log       *bytes.Buffer
}

func binary(t testing.TB) string {
	t.Helper()
	bin := os.Getenv("SMBD_RDMA_BIN")
	if bin == "" {
		bin, _ = filepath.Abs("../../bin/smbd-rdma")
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return bin
}

// startBinServer starts the command and stops it with SIGTERM at the end of the
// test, which fails if it does not exit with 0.
func startBinServer(t testing.TB, dir string, args ...string) *binServer {
	t.Helper()
	s := &binServer{log: &bytes.Buffer{}}
	args = append([]string{"serve", "--share", "test=" + dir, "--user", "tester%secret",
		"--tcp", "127.0.0.1:0", "--rdma", "iwarp://127.0.0.1:0"}, args...)
	s.cmd = exec.Command(binary(t), args...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan error, 1)
		go func() { done <- s.cmd.Wait() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the server ended with %v:\n%s", err, s.log)
			}
		case <-time.After(30 * time.Second):
			s.cmd.Process.Kill()
			t.Errorf("the server did not end after SIGTERM:\n%s", s.log)
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", tail(s.log.String(), 4000))
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		l := lines.Text()
		if l == "ready" {
			go io.Copy(io.Discard, out)
			return s
		}
		if a, ok := strings.CutPrefix(l, "listening on tcp://"); ok {
			s.tcp = a
		}
		if a, ok := strings.CutPrefix(l, "listening on iwarp://"); ok {
			s.rdma = a
		}
	}
	t.Fatalf("the server did not become ready:\n%s", s.log)
	return nil
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// command runs a program to its end and returns its output.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, tail(string(out), 3000))
	}
	return string(out)
}

// smbclientRun runs commands of smbclient on the share, over TCP.
func smbclientRun(t *testing.T, s *binServer, dir, commands string, extra ...string) string {
	t.Helper()
	args := append([]string{"//127.0.0.1/test", "-p", port(t, s.tcp), "-U", "tester%secret", "-m", "SMB3"}, extra...)
	return command(t, dir, "smbclient", append(args, "-c", commands)...)
}

// ours runs a client command of the binary over SMB Direct.
func ours(t *testing.T, s *binServer, args ...string) string {
	t.Helper()
	args = append(args, "-U", "tester%secret", "--transport", "iwarp", "-p", port(t, s.rdma))
	c := exec.Command(binary(t), args...)
	var stderr strings.Builder
	c.Stderr = &stderr // the log, which is not the result
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, tail(stderr.String(), 3000))
	}
	return string(out)
}

// sums has the SHA-256 of every regular file below root, by relative name.
func sums(t *testing.T, root string) map[string][sha256.Size]byte {
	t.Helper()
	out := map[string][sha256.Size]byte{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		rel, _ := filepath.Rel(root, p)
		out[rel] = [sha256.Size]byte(h.Sum(nil))
		return errors.Join(err, f.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameTree compares two trees file by file.
func sameTree(t *testing.T, want, got map[string][sha256.Size]byte) {
	t.Helper()
	wrong := 0
	for name, sum := range want {
		if g, ok := got[name]; !ok || g != sum {
			if wrong++; wrong < 10 {
				t.Errorf("%s: there: %v, content equal: %v", name, ok, g == sum)
			}
		}
	}
	if len(got) != len(want) || wrong > 0 {
		t.Errorf("%d files, want %d; %d missing or different", len(got), len(want), wrong)
	}
}
