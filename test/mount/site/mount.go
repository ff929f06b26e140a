package site

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Mount is a share that is mounted.
type Mount struct {
	Dir  string
	log  string
	proc *process
}

// Mount mounts the server's share on dir, which it makes. transport is "tcp" or
// "iwarp"; options are the command's, without user and port.
func (s *Server) Mount(dir, transport string, options ...string) (*Mount, error) {
	bin, err := Binary()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	port := s.Port
	if transport != "tcp" {
		port = s.RDMAPort
		options = append([]string{"rdma=" + transport}, options...)
	}
	options = append([]string{"user=" + s.User, "port=" + port}, options...)
	m := &Mount{Dir: dir, log: filepath.Clean(dir) + ".log"}
	m.proc, err = startProcess(m.log, []string{"PASSWD=" + s.Password}, bin, "mount", "//127.0.0.1/share", dir, "-f", "-o", strings.Join(options, ","))
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if strings.Contains(m.Log(), "mounted //127.0.0.1/share on "+dir+"\n") {
			return m, nil
		}
		if m.proc.over() {
			return nil, fmt.Errorf("mount of //127.0.0.1/share (%s): %w\n%s", strings.Join(options, ","), m.proc.err, m.Log())
		}
		if time.Now().After(end) {
			m.Kill()
			return nil, fmt.Errorf("mount of //127.0.0.1/share: not there after 30 s\n%s", m.Log())
		}
	}
}

// Log is what the mount has written.
func (m *Mount) Log() string {
	b, _ := os.ReadFile(m.log)
	return string(b)
}

// Unmount ends the mount by SIGTERM, which has to succeed.
func (m *Mount) Unmount() error {
	if m.proc.over() {
		return fmt.Errorf("the mount had ended: %w\n%s", m.proc.err, m.Log())
	}
	_ = m.proc.cmd.Process.Signal(syscall.SIGTERM)
	if !m.proc.wait(30 * time.Second) {
		m.Kill()
		return fmt.Errorf("the mount has not ended 30 s after SIGTERM\n%s", m.Log())
	}
	if m.proc.err != nil {
		return fmt.Errorf("the mount ended with %w\n%s", m.proc.err, m.Log())
	}
	if Mounted(m.Dir) {
		m.Kill()
		return errors.New("the mount has ended and is still in /proc/mounts")
	}
	return nil
}

// Kill ends the mount at once: calls that are under way on it fail.
func (m *Mount) Kill() {
	m.proc.stop(syscall.SIGKILL, 5*time.Second)
	if Mounted(m.Dir) {
		_ = exec.Command("fusermount3", "-uz", m.Dir).Run()
	}
}

// Running is true until the mount's process has ended.
func (m *Mount) Running() bool { return !m.proc.over() }

// CPU is what the mount's process has used, in seconds.
func (m *Mount) CPU() float64 { return m.proc.cpu() }

// Peak is the most memory its process has had, in bytes.
func (m *Mount) Peak() int64 {
	for l := range strings.SplitSeq(string(m.proc.status()), "\n") {
		if rest, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			var kb int64
			_, _ = fmt.Sscan(rest, &kb)
			return kb << 10
		}
	}
	return 0
}

// Mounted is true if something is mounted on dir.
func Mounted(dir string) bool {
	b, _ := os.ReadFile("/proc/self/mounts")
	for l := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(l); len(f) > 1 && f[1] == dir {
			return true
		}
	}
	return false
}
