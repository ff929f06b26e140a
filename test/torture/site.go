package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// site is a server, its directories and the ways to it.
type site struct {
	dir     string
	keep    string
	binary  string
	jobs    int
	uid     int
	gid     int
	servers map[string]*instance
}

// instance is a server, of which there is one for each way to negotiate.
type instance struct {
	cmd  *exec.Cmd
	port string
	log  *os.File
}

// The instances: one that leaves signing to the client, one that does not.
const (
	usual = "auto"
	signs = "mandatory"
)

// The one who logs on: on the system an unprivileged user that every Debian has.
const (
	smbUser  = "tester"
	password = "secret"
	unixUser = "games"
)

func newSite(ctx context.Context, o *options) (*site, error) {
	root, err := projectRoot()
	if err != nil {
		return nil, err
	}
	s := &site{servers: map[string]*instance{}, jobs: o.jobs, binary: o.binary, keep: o.keep, uid: os.Getuid(), gid: os.Getgid()}
	if s.uid == 0 {
		u, err := user.Lookup(unixUser)
		if err != nil {
			return nil, err
		}
		if s.uid, err = strconv.Atoi(u.Uid); err != nil {
			return nil, err
		}
		if s.gid, err = strconv.Atoi(u.Gid); err != nil {
			return nil, err
		}
	}
	if s.dir, err = os.MkdirTemp("", "torture"); err != nil {
		return nil, err
	}
	if err := s.start(ctx, root); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *site) start(ctx context.Context, root string) error {
	if err := os.Chmod(s.dir, 0o755); err != nil { // for the user to come through
		return err
	}
	if s.keep == "" {
		s.keep = filepath.Join(s.dir, "logs")
	}
	if err := os.MkdirAll(s.keep, 0o755); err != nil {
		return err
	}
	if s.binary == "" {
		s.binary = filepath.Join(s.dir, "smbd-rdma")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "./cmd/smbd-rdma")
		cmd.Dir, cmd.Stderr, cmd.Env = root, os.Stderr, append(os.Environ(), "CGO_ENABLED=0")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go build: %w", err)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "test/torture/smb.conf"))
	if err != nil {
		return err
	}
	head, shares, ok := bytes.Cut(text, []byte("# shares\n"))
	if !ok {
		return errors.New(`test/torture/smb.conf: no line "# shares"`)
	}
	conf := string(head)
	for i := range s.jobs {
		conf += strings.ReplaceAll(string(shares), "@N@", strconv.Itoa(i))
	}
	conf = strings.NewReplacer("@DIR@", s.dir, "@USER@", unixUser).Replace(conf)
	for _, d := range regexp.MustCompile(`(?m)^\s*path = (/.*)$`).FindAllStringSubmatch(conf, -1) {
		if err := s.makeDir(d[1]); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "users.map"), []byte(unixUser+" = "+smbUser+"\n"), 0o644); err != nil {
		return err
	}
	for i, signing := range []string{usual, signs} {
		if err := s.serve(signing, conf, 445+i); err != nil {
			return err
		}
	}
	return nil
}

// serve starts an instance; port is for the namespace, elsewhere any one does.
func (s *site) serve(signing, conf string, port int) error {
	file := filepath.Join(s.dir, signing+".conf")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(conf, "@SIGNING@", signing)), 0o644); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.keep, "server-"+signing+".log"))
	if err != nil {
		return err
	}
	if os.Getuid() != 0 {
		port = 0
	}
	in := &instance{log: log}
	in.cmd = exec.Command(s.binary, "serve", "-c", file, "--user", smbUser+"%"+password, "--tcp", "127.0.0.1:"+strconv.Itoa(port), "--rdma", "none", "--control", "none")
	in.cmd.Stderr = log
	out, err := in.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := in.cmd.Start(); err != nil {
		return err
	}
	s.servers[signing] = in
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "listening on tcp://"); ok {
			in.port = rest[strings.LastIndexByte(rest, ':')+1:]
		}
		if lines.Text() == "ready" {
			return nil
		}
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("the server does not start: %s", text)
}

// makeDir makes the directory of a share.
func (s *site) makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	mode := fs.FileMode(0o777)
	if filepath.Base(dir) == "noperm" {
		mode = 0
	}
	if err := os.Chmod(dir, mode); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		return os.Chown(dir, s.uid, s.gid)
	}
	return nil
}

// close stops the servers and removes what they kept.
func (s *site) close() {
	for _, in := range s.servers {
		_ = in.cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan error, 1)
		go func() { done <- in.cmd.Wait() }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			fmt.Fprintln(os.Stderr, "torture: the server does not end after SIGTERM")
			_ = in.cmd.Process.Kill()
			<-done
		}
		in.log.Close()
	}
	_ = os.RemoveAll(s.dir)
}

// alive reports whether the servers are there: one that has died is not a failure of a
// single test.
func (s *site) alive() bool { return s.dead() == "" }

// dead is the last of the log of a server that is not there any more.
func (s *site) dead() string {
	for _, in := range s.servers {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", in.cmd.Process.Pid))
		if err == nil && !bytes.Contains(status, []byte("State:\tZ")) {
			continue
		}
		log, _ := os.ReadFile(in.log.Name())
		return "the server has died:\n" + string(log[max(0, len(log)-10000):])
	}
	return ""
}

// empty empties the directory of a share.
func (s *site) empty(share string) error {
	dir := filepath.Join(s.dir, share)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a share in memory: tests remove what they make
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// runAll runs the tests, several at a time, and those that failed although they are
// expected to pass once more, alone.
func (s *site) runAll(ctx context.Context, names []string, expected func(name string) bool) (map[string]result, error) {
	todo := make(chan string)
	var mu sync.Mutex
	results := make(map[string]result, len(names))
	var workers sync.WaitGroup
	for i := range s.jobs {
		workers.Go(func() {
			for n := range todo {
				r := s.one(ctx, n, i)
				mu.Lock()
				results[n] = r
				mu.Unlock()
				fmt.Println(r)
			}
		})
	}
	for _, n := range names {
		if ctx.Err() != nil || !s.alive() {
			break
		}
		todo <- n
	}
	close(todo)
	workers.Wait()
	again := 0
	for _, n := range names {
		if r, ok := results[n]; ok && r.failed() && expected(n) && again < maxAgain && ctx.Err() == nil && s.alive() {
			again++
			if r = s.one(ctx, n, 0); r.Outcome == pass {
				r.Again = true
				results[n] = r
				fmt.Println(r)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if why := s.dead(); why != "" {
		return nil, errors.New(why)
	}
	return results, nil
}

// maxAgain bounds how many tests are run a second time.
const maxAgain = 50
