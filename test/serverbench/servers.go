package main

import (
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

// errAbsent is for a server that is not installed.
var errAbsent = errors.New("not installed")

// server is one that runs.
type server struct {
	name, addr, share, user, password string
	cmd                               *exec.Cmd
	log                               *os.File
}

// kind is how a server is started. The first is ours.
type kind struct {
	name  string
	start func(ctx context.Context, s *server, dir, port string) error
}

var kinds = []kind{{"smbd-rdma", startOwn}, {"Samba", startSamba}, {"DittoFS", startDitto}}

func start(ctx context.Context, k kind, dir string) (*server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	s := &server{name: k.name, addr: net.JoinHostPort("127.0.0.1", port), share: "bench", user: "games", password: "secret"}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	if err := k.start(ctx, s, dir, port); err != nil {
		s.stop()
		return nil, err
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
			return s, nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			log, _ := os.ReadFile(s.log.Name())
			s.stop()
			return nil, fmt.Errorf("does not listen: %w\n%s", err, log)
		}
	}
}

// launch starts the server's program, in a session of its own: Samba's signals its
// whole process group when it ends.
func (s *server) launch(env []string, name string, args ...string) error {
	s.cmd = exec.Command(name, args...)
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	return s.cmd.Start()
}

func (s *server) stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = s.cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = s.cmd.Process.Kill()
			<-done
		}
	}
	s.log.Close()
}

// cpu is what the server and its children have used so far, in seconds.
func (s *server) cpu() (float64, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	type proc struct {
		parent int
		ticks  float64
	}
	procs := map[int]proc{}
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f2 := strings.Fields(rest)
		if len(f2) < 15 {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		p := proc{}
		p.parent, _ = strconv.Atoi(f2[1])
		for _, i := range []int{11, 12, 13, 14} { // its own, and that of children who have ended
			t, _ := strconv.ParseFloat(f2[i], 64)
			p.ticks += t
		}
		procs[pid] = p
	}
	sum := 0.0
	for pid, p := range procs {
		for at := pid; at != 0; at = procs[at].parent {
			if at == s.cmd.Process.Pid {
				sum += p.ticks
				break
			}
		}
	}
	return sum / 100, nil // USER_HZ
}

func startOwn(_ context.Context, s *server, dir, port string) error {
	share := filepath.Join(dir, "share")
	if err := os.Mkdir(share, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(share, 0o777); err != nil { // whatever the umask
		return err
	}
	bin := os.Getenv("SMBD_RDMA_BIN")
	if bin == "" {
		bin = "bin/smbd-rdma"
	}
	return s.launch(nil, bin, "serve", "--share", "bench="+share, "--user", s.user+"%"+s.password,
		"--tcp", "127.0.0.1:"+port, "--rdma", "none", "--control", "none", "--signing", "offered")
}

func startSamba(ctx context.Context, s *server, dir, port string) error {
	smbd, err := exec.LookPath("smbd")
	if err != nil {
		smbd = "/usr/sbin/smbd"
		if _, err := os.Stat(smbd); err != nil {
			return fmt.Errorf("%w: apt-get install samba", errAbsent)
		}
	}
	for _, d := range []string{"private", "lock", "state", "cache", "run", "ncalrpc", "share"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "share"), 0o777); err != nil {
		return err
	}
	conf := filepath.Join(dir, "smb.conf")
	text := strings.NewReplacer("@DIR@", dir, "@PORT@", port).Replace(`[global]
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
[bench]
  path = @DIR@/share
  read only = no
`)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	add := exec.CommandContext(ctx, "pdbedit", "-s", conf, "-a", "-t", "-u", s.user)
	add.Stdin = strings.NewReader(s.password + "\n" + s.password + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		return fmt.Errorf("pdbedit: %w: %s", err, out)
	}
	return s.launch(nil, smbd, "--foreground", "--no-process-group", "-s", conf)
}

// startDitto does what DittoFS's conformance script does: stores in memory, a share, a
// user who owns it.
func startDitto(ctx context.Context, s *server, dir, port string) error {
	at := os.Getenv("DITTOFS")
	find := func(name string) (string, error) {
		if at != "" {
			return exec.LookPath(filepath.Join(at, name))
		}
		return exec.LookPath(name)
	}
	dfs, err := find("dfs")
	ctl, err2 := find("dfsctl")
	if err != nil || err2 != nil {
		return fmt.Errorf("%w: $DITTOFS names no directory with its dfs and dfsctl (github.com/marmos91/dittofs, go build ./cmd/dfs ./cmd/dfsctl)", errAbsent)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, api, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	conf := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(conf, []byte(fmt.Sprintf(`logging: {level: ERROR, format: text, output: stdout}
shutdown_timeout: 5s
database: {type: sqlite, sqlite: {path: %[1]s/controlplane.db}}
controlplane: {host: 127.0.0.1, port: %[2]s, jwt: {secret: a-secret-for-this-measurement-only-32ch, access_token_duration: 60m, refresh_token_duration: 168h}}
cache: {path: %[1]s/cache, size: 256MB}
`, dir, api)), 0o600); err != nil {
		return err
	}
	const admin = "Measurement2026!Secret"
	env := []string{"DITTOFS_ADMIN_INITIAL_PASSWORD=" + admin, "DITTOFS_CONTROLPLANE_SECRET=a-secret-for-this-measurement-only-32ch", "HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	if err := s.launch(env, dfs, "start", "--foreground", "--config", conf); err != nil {
		return err
	}
	s.user, s.password, s.share = "bencher", "Measurement2026!", "bench"
	run := func(args ...string) error {
		c := exec.CommandContext(ctx, ctl, args...)
		c.Env = append(os.Environ(), env...)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("dfsctl %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	login := []string{"login", "--server", "http://127.0.0.1:" + api, "--username", "admin", "--password", admin}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(300 * time.Millisecond) {
		if err = run(login...); err == nil {
			break
		}
		if time.Now().After(end) || ctx.Err() != nil {
			log, _ := os.ReadFile(s.log.Name())
			return fmt.Errorf("%w\n%s", err, log)
		}
	}
	// The first password has to be changed.
	if err := run("user", "change-password", "--current", admin, "--new", admin+"2"); err != nil {
		return err
	}
	login[len(login)-1] = admin + "2"
	for _, args := range [][]string{
		login,
		{"user", "create", "--username", s.user, "--password", s.password, "--uid", "1000"},
		{"store", "metadata", "add", "--name", "default", "--type", "memory"},
		{"store", "block", "local", "add", "--name", "default", "--type", "memory"},
		{"share", "create", "--name", "/bench", "--metadata", "default", "--local", "default", "--owner", s.user},
		{"share", "permission", "grant", "/bench", "--user", s.user, "--level", "admin"},
		{"adapter", "enable", "smb", "--port", port},
	} {
		if err := run(args...); err != nil {
			return err
		}
	}
	return nil
}
