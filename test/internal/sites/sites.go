// Package sites starts the file servers that measurements compare, each of them as it
// comes but for what makes it serve a local directory on loopback: this project's, Samba's
// smbd (Debian's samba, from the PATH or /usr/sbin) and DittoFS (from the PATH or
// $DITTOFS, the directory of its dfs and dfsctl). A Site belongs to who started it, and
// is used by one goroutine.
package sites

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

// ErrAbsent is for a server that is not installed.
var ErrAbsent = errors.New("not installed")

// Guest is a user whom no server knows: one started with Options.Guests admits him as
// its guest.
const Guest = "stranger"

// Options says what a server is to offer beside TCP to one user.
type Options struct {
	// Guests are admitted to the share.
	Guests bool
	// RDMA: SMB Direct on iWARP, for Own only.
	RDMA bool
}

// Site is a server that runs.
type Site struct {
	Name string
	// Addr is its HOST:PORT on TCP, RDMA that of SMB Direct if it was asked for.
	Addr, RDMA            string
	Share, User, Password string

	options Options
	cmd     *exec.Cmd
	log     *os.File
}

// Kind is a server that can be started.
type Kind struct {
	Name  string
	start func(ctx context.Context, s *Site, dir string) error
}

// The servers there are.
var (
	Own     = Kind{"smbd-rdma", startOwn}
	Samba   = Kind{"Samba", startSamba}
	DittoFS = Kind{"DittoFS", startDitto}
)

// freePort is a HOST:PORT on loopback that nobody listened on just now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Start starts a server with what it needs in dir, which must not exist yet, and returns
// when it listens. ErrAbsent says that it is not installed.
func Start(ctx context.Context, k Kind, dir string, o Options) (*Site, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Site{Name: k.Name, Addr: addr, Share: "bench", User: "games", Password: "secret", options: o}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	if err := k.start(ctx, s, dir); err != nil {
		s.Stop()
		return nil, err
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		c, err := net.Dial("tcp", s.Addr)
		if err == nil {
			c.Close()
			return s, nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			log, _ := os.ReadFile(s.log.Name())
			s.Stop()
			return nil, fmt.Errorf("does not listen: %w\n%s", err, log)
		}
	}
}

// launch starts the server's program, in a session of its own: Samba's signals its
// whole process group when it ends.
func (s *Site) launch(env []string, name string, args ...string) error {
	s.cmd = exec.Command(name, args...)
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	return s.cmd.Start()
}

// Stop ends the server and waits for it.
func (s *Site) Stop() {
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

// CPU is what the server and its children have used so far, in seconds.
func (s *Site) CPU() (float64, error) {
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

func startOwn(_ context.Context, s *Site, dir string) error {
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
	args := []string{"serve", "--user", s.User + "%" + s.Password, "--tcp", s.Addr, "--control", "none", "--signing", "offered"}
	if share = s.Share + "=" + share; s.options.Guests {
		share += ",guest"
		args = append(args, "--guest")
	}
	rdma := "none"
	if s.options.RDMA {
		var err error
		if s.RDMA, err = freePort(); err != nil {
			return err
		}
		rdma = "iwarp://" + s.RDMA
	}
	return s.launch(nil, bin, append(args, "--share", share, "--rdma", rdma)...)
}

func startSamba(ctx context.Context, s *Site, dir string) error {
	smbd, err := exec.LookPath("smbd")
	if err != nil {
		smbd = "/usr/sbin/smbd"
		if _, err := os.Stat(smbd); err != nil {
			return fmt.Errorf("%w: apt-get install samba", ErrAbsent)
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
	guests := ""
	if s.options.Guests {
		guests = "  guest ok = yes\n[global]\n  map to guest = bad user\n"
	}
	_, port, _ := net.SplitHostPort(s.Addr)
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
` + guests)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	add := exec.CommandContext(ctx, "pdbedit", "-s", conf, "-a", "-t", "-u", s.User)
	add.Stdin = strings.NewReader(s.Password + "\n" + s.Password + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		return fmt.Errorf("pdbedit: %w: %s", err, out)
	}
	return s.launch(nil, smbd, "--foreground", "--no-process-group", "-s", conf)
}

// startDitto does what DittoFS's conformance script does: stores in memory, a share, a
// user who owns it.
func startDitto(ctx context.Context, s *Site, dir string) error {
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
		return fmt.Errorf("%w: $DITTOFS names no directory with its dfs and dfsctl (github.com/marmos91/dittofs, go build ./cmd/dfs ./cmd/dfsctl)", ErrAbsent)
	}
	api, err := freePort()
	if err != nil {
		return err
	}
	_, apiPort, _ := net.SplitHostPort(api)
	_, port, _ := net.SplitHostPort(s.Addr)
	conf := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(conf, []byte(fmt.Sprintf(`logging: {level: ERROR, format: text, output: stdout}
shutdown_timeout: 5s
database: {type: sqlite, sqlite: {path: %[1]s/controlplane.db}}
controlplane: {host: 127.0.0.1, port: %[2]s, jwt: {secret: a-secret-for-this-measurement-only-32ch, access_token_duration: 60m, refresh_token_duration: 168h}}
cache: {path: %[1]s/cache, size: 256MB}
`, dir, apiPort)), 0o600); err != nil {
		return err
	}
	const admin = "Measurement2026!Secret"
	env := []string{"DITTOFS_ADMIN_INITIAL_PASSWORD=" + admin, "DITTOFS_CONTROLPLANE_SECRET=a-secret-for-this-measurement-only-32ch", "HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	if err := s.launch(env, dfs, "start", "--foreground", "--config", conf); err != nil {
		return err
	}
	s.User, s.Password, s.Share = "bencher", "Measurement2026!", "bench"
	run := func(args ...string) error {
		c := exec.CommandContext(ctx, ctl, args...)
		c.Env = append(os.Environ(), env...)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("dfsctl %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	login := []string{"login", "--server", "http://" + api, "--username", "admin", "--password", admin}
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
		{"user", "create", "--username", s.User, "--password", s.Password, "--uid", "1000"},
		{"store", "metadata", "add", "--name", "default", "--type", "memory"},
		{"store", "block", "local", "add", "--name", "default", "--type", "memory"},
		{"share", "create", "--name", "/bench", "--metadata", "default", "--local", "default", "--owner", s.User},
		{"share", "permission", "grant", "/bench", "--user", s.User, "--level", "admin"},
		{"adapter", "enable", "smb", "--port", port},
	} {
		if err := run(args...); err != nil {
			return err
		}
	}
	return nil
}
