package main

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asCommand is set for a test binary that is to be the command.
const asCommand = "SMBD_RDMA_TEST_IS_COMMAND"

// manager is what systemd is to a service: it hands sockets over and is told how the
// service is.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	cmd  *exec.Cmd
}

func newManager(t *testing.T, listeners map[string]*net.TCPListener, args ...string) (*manager, *bufio.Scanner) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // shorter than t.TempDir, as a socket's name must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	// Where the tests run under nohup the command would, too, and take SIGHUP for nothing.
	// A signal that is caught here is at its default there.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
	// The shell knows the process's own id, which LISTEN_PID has to be.
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, exe}, args...)...)
	var names []string
	for name, l := range listeners {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		names = append(names, name)
	}
	cmd.Env = append(os.Environ(), asCommand+"=1", "NOTIFY_SOCKET="+filepath.Join(dir, "n"), "WATCHDOG_USEC=100000",
		"LISTEN_FDNAMES="+strings.Join(names, ":"))
	if len(names) > 0 {
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+string(rune('0'+len(names))))
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &manager{t, conn, cmd}, bufio.NewScanner(out)
}

// wait reads what the service says until it says want.
func (m *manager) wait(want string) {
	m.t.Helper()
	b := make([]byte, 4096)
	for {
		if err := m.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			m.t.Fatal(err)
		}
		n, err := m.conn.Read(b)
		if err != nil {
			m.t.Fatalf("the service does not say %q: %v", want, err)
		}
		if strings.Contains(string(b[:n]), want) {
			return
		}
	}
}

// A service manager hands the sockets over, is told when the service is ready, that it
// lives, that it reloads and that it stops.
func TestServiceManager(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "smb.conf")
	writeConf(t, conf, "[data]\npath = "+dir+"\n")
	writeFile(t, filepath.Join(dir, "f"), "text")
	listeners := map[string]*net.TCPListener{}
	for _, name := range []string{"tcp", "iwarp"} {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		listeners[name] = l
	}
	m, out := newManager(t, listeners, "serve", "-c", conf, "--user", "alice%secret", "--control", "none", "--rdma", "none", "--log-level", "warn")
	var lines []string
	for out.Scan() {
		lines = append(lines, out.Text())
		if out.Text() == "ready" {
			break
		}
	}
	if len(lines) != 3 {
		t.Fatalf("serve printed %q", lines)
	}
	m.wait("READY=1")
	for name, l := range listeners {
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		code, text, stderr := execute("cat", "//127.0.0.1/data/f", "-U", "alice%secret", "--transport", name, "-p", port)
		if code != exitDone || text != "text" {
			t.Errorf("by the socket for %s: %d %q %s", name, code, text, stderr)
		}
	}
	m.wait("WATCHDOG=1")
	writeConf(t, conf, "[other]\npath = "+dir+"\n")
	if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m.wait("RELOADING=1\nMONOTONIC_USEC=")
	m.wait("READY=1")
	_, port, err := net.SplitHostPort(listeners["tcp"].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := execute("cat", "//127.0.0.1/other/f", "-U", "alice%secret", "--transport", "tcp", "-p", port); code != exitDone {
		t.Errorf("after SIGHUP: %s", stderr)
	}

	// A reload that waits, as for storage, does not keep the service from saying that it
	// lives: here for somebody to write its configuration.
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fifo, conf); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m.wait("RELOADING=1")
	m.wait("WATCHDOG=1")
	writeConf(t, conf, "[data]\npath = "+dir+"\n")
	m.wait("READY=1")

	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.wait("STOPPING=1")
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("serve ended with %v", err)
	}
}

// The unit files are ones that systemd understands, where there is one to ask.
func TestUnitFiles(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	names, err := filepath.Glob("../../packaging/smbd-rdma*")
	if err != nil || len(names) != 3 {
		t.Fatalf("%v %v", names, err)
	}
	args := []string{"verify", "--man=no"}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.Base(n))
		writeConf(t, to, strings.ReplaceAll(string(b), "/usr/local/bin/smbd-rdma", exe))
		args = append(args, to)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := exec.CommandContext(ctx, analyze, args...).CombinedOutput()
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, dir) {
			t.Errorf("systemd-analyze: %s", line)
		}
	}
	if err != nil && len(b) == 0 {
		t.Error(err)
	}
}
