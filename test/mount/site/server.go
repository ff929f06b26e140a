// Package site starts servers and mounts for the tests of the mount: this project's
// server or Samba's, on loopback, with a directory of its own, and `smbd-rdma mount`
// of its share.
package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrAbsent is for a program that is not installed.
var ErrAbsent = errors.New("not installed")

// Server is one that runs, or ran and may be started again on the same ports.
type Server struct {
	Name           string
	Share          string // the directory behind //127.0.0.1/share
	User, Password string
	Port, RDMAPort string // RDMAPort is "" where it has no SMB Direct

	dir   string
	start func(*Server) error
	proc  *process
}

// Binary is the program under test: $SMBD_RDMA_BIN, or bin/smbd-rdma of the module that
// the working directory is in.
func Binary() (string, error) {
	if b := os.Getenv("SMBD_RDMA_BIN"); b != "" {
		return filepath.Abs(b)
	}
	dir, err := os.Getwd()
	for err == nil {
		b := filepath.Join(dir, "bin", "smbd-rdma")
		if _, e := os.Stat(b); e == nil {
			return b, nil
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("%w: bin/smbd-rdma; make build makes it, SMBD_RDMA_BIN names another", ErrAbsent)
}

// Own starts this project's server with TCP and iWARP. dir is to be empty; lines are
// added to the share's configuration.
func Own(dir string, lines ...string) (*Server, error) {
	bin, err := Binary()
	if err != nil {
		return nil, err
	}
	s := &Server{Name: "smbd-rdma", User: "tester", Password: "secret", dir: dir}
	if s.Port, s.RDMAPort, err = twoPorts(); err != nil {
		return nil, err
	}
	if err := s.makeShare(); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "smb.conf")
	text := "[global]\n  server signing = auto\n[share]\n  path = " + s.Share + "\n  read only = no\n  case sensitive = yes\n"
	for _, l := range lines {
		text += "  " + l + "\n"
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	s.start = func(s *Server) error {
		return s.launch(bin, "serve", "-c", conf, "--user", s.User+"%"+s.Password, "--tcp", "127.0.0.1:"+s.Port,
			"--rdma", "iwarp://127.0.0.1:"+s.RDMAPort, "--control", "none", "--log-level", "warn")
	}
	return s, s.Start()
}

// Samba starts smbd as Debian has it.
func Samba(dir string) (*Server, error) {
	smbd, err := exec.LookPath("smbd")
	if err != nil {
		smbd = "/usr/sbin/smbd"
		if _, err := os.Stat(smbd); err != nil {
			return nil, fmt.Errorf("%w: smbd; apt-get install samba", ErrAbsent)
		}
	}
	s := &Server{Name: "Samba", User: "games", Password: "secret", dir: dir}
	if s.Port, _, err = twoPorts(); err != nil {
		return nil, err
	}
	if err := s.makeShare(); err != nil {
		return nil, err
	}
	for _, d := range []string{"private", "lock", "state", "cache", "run", "ncalrpc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	conf := filepath.Join(dir, "smb.conf")
	text := strings.NewReplacer("@DIR@", dir, "@PORT@", s.Port).Replace(`[global]
  server role = standalone server
  disable netbios = yes
  smb ports = @PORT@
  interfaces = 127.0.0.1/8
  bind interfaces only = yes
  private dir = @DIR@/private
  lock directory = @DIR@/lock
  state directory = @DIR@/state
  cache directory = @DIR@/cache
  pid directory = @DIR@/run
  ncalrpc dir = @DIR@/ncalrpc
  log file = @DIR@/smbd.log
  load printers = no
  disable spoolss = yes
  server signing = auto
  passdb backend = tdbsam:@DIR@/private/passdb.tdb
[share]
  path = @DIR@/share
  read only = no
  case sensitive = yes
  mangled names = no
`)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	add := exec.Command("pdbedit", "-s", conf, "-a", "-t", "-u", s.User)
	add.Stdin = strings.NewReader(s.Password + "\n" + s.Password + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pdbedit: %w: %s", err, out)
	}
	s.start = func(s *Server) error { return s.launch(smbd, "--foreground", "--no-process-group", "-s", conf) }
	return s, s.Start()
}

func (s *Server) makeShare() error {
	s.Share = filepath.Join(s.dir, "share")
	if err := os.MkdirAll(s.Share, 0o777); err != nil {
		return err
	}
	return os.Chmod(s.Share, 0o777) // whatever the umask
}

// FreePort is one of loopback's that nobody listens on for the moment.
func FreePort() (string, error) {
	p, _, err := twoPorts()
	return p, err
}

// twoPorts are free for the moment.
func twoPorts() (a, b string, err error) {
	var ls [2]net.Listener
	for i := range ls {
		if ls[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", "", err
		}
		defer ls[i].Close()
	}
	_, a, _ = net.SplitHostPort(ls[0].Addr().String())
	_, b, _ = net.SplitHostPort(ls[1].Addr().String())
	return a, b, nil
}

func (s *Server) launch(name string, args ...string) (err error) {
	s.proc, err = startProcess(filepath.Join(s.dir, "server.log"), nil, name, args...)
	return err
}

// Start starts a server that was stopped or killed; it listens when Start returns.
func (s *Server) Start() error {
	if err := s.start(s); err != nil {
		return err
	}
	for _, port := range []string{s.Port, s.RDMAPort} {
		for end := time.Now().Add(30 * time.Second); port != ""; time.Sleep(20 * time.Millisecond) {
			c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
			if err == nil {
				c.Close()
				break
			}
			if s.proc.over() || time.Now().After(end) {
				log := s.Log()
				s.Stop()
				return fmt.Errorf("%s does not listen: %w\n%s", s.Name, err, log)
			}
		}
	}
	return nil
}

// Log is what the server has written.
func (s *Server) Log() string {
	log, _ := os.ReadFile(filepath.Join(s.dir, "server.log"))
	return string(log)
}

// Stop ends the server in good order.
func (s *Server) Stop() { s.proc.stop(syscall.SIGTERM, 20*time.Second) }

// Kill ends it by SIGKILL, with all its processes.
func (s *Server) Kill() { s.proc.stop(syscall.SIGKILL, 5*time.Second) }

// Freeze stops the server, which then neither answers nor goes away, until Thaw. When it
// returns, no thread of it runs any more: the signal is only sent by kill(2).
func (s *Server) Freeze() error {
	group := s.proc.cmd.Process.Pid
	if err := syscall.Kill(-group, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze the server: %w", err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		runs := running(group)
		if runs == "" {
			return nil
		}
		if time.Now().After(end) {
			s.Thaw()
			return fmt.Errorf("freeze the server: 30 s after SIGSTOP %s runs still", runs)
		}
	}
}

// running is a thread of a process group that is neither stopped nor dead, as /proc names
// it; "" if there is none.
func running(group int) string {
	stats, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*/stat")
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := bytes.Cut(b, []byte(") "))
		f := strings.Fields(string(rest)) // from the state on: parent and group come next
		if len(f) > 2 && f[2] == strconv.Itoa(group) && !strings.Contains("TtZX", f[0]) {
			return name
		}
	}
	return ""
}

// Thaw has a frozen server go on.
func (s *Server) Thaw() { _ = syscall.Kill(-s.proc.cmd.Process.Pid, syscall.SIGCONT) }

// CPU is what the server has used, in seconds.
func (s *Server) CPU() float64 { return s.proc.cpu() }

// process is a program in a session of its own, so that its children end with it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended, by a goroutine that waits for it
	err  error
}

func startProcess(log string, env []string, name string, args ...string) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &process{cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) over() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait is false when it has not ended in time.
func (p *process) wait(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// stop sends sig to it and its children and waits, then kills them.
func (p *process) stop(sig syscall.Signal, patience time.Duration) {
	if p == nil || p.over() {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	if !p.wait(patience) {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

func (p *process) status() []byte {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	return b
}

func (p *process) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	f := bytes.Fields(rest)
	if len(f) < 15 {
		return 0
	}
	sum := 0.0
	for _, i := range []int{11, 12, 13, 14} { // its own, and that of children who have ended
		var t float64
		_, _ = fmt.Sscan(string(f[i]), &t)
		sum += t
	}
	return sum / 100 // USER_HZ
}
