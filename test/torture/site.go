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
	dir    string
	keep   string
	binary string
	jobs   int
	uid    int
	gid    int
	server *exec.Cmd
	port   string
	log    *os.File
}

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
	s := &site{jobs: o.jobs, binary: o.binary, keep: o.keep, uid: os.Getuid(), gid: os.Getgid()}
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
	file := filepath.Join(s.dir, "smb.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return err
	}
	if s.log, err = os.Create(filepath.Join(s.keep, "server.log")); err != nil {
		return err
	}
	addr := "127.0.0.1:0"
	if os.Getuid() == 0 {
		addr = "127.0.0.1:445" // in the namespace
	}
	s.server = exec.Command(s.binary, "serve", "-c", file, "--user", smbUser+"%"+password, "--tcp", addr, "--rdma", "none", "--control", "none")
	s.server.Stderr = s.log
	out, err := s.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.server.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "listening on tcp://"); ok {
			s.port = rest[strings.LastIndexByte(rest, ':')+1:]
		}
		if lines.Text() == "ready" {
			return nil
		}
	}
	log, _ := os.ReadFile(s.log.Name())
	return fmt.Errorf("the server does not start: %s", log)
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

// close stops the server and removes what it kept.
func (s *site) close() {
	if s.server != nil && s.server.Process != nil {
		_ = s.server.Process.Signal(syscall.SIGTERM)
		done := make(chan error, 1)
		go func() { done <- s.server.Wait() }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			fmt.Fprintln(os.Stderr, "torture: the server does not end after SIGTERM")
			_ = s.server.Process.Kill()
			<-done
		}
	}
	if s.log != nil {
		s.log.Close()
	}
	_ = os.RemoveAll(s.dir)
}

// alive reports whether the server is there: one that has died is not a failure of a
// single test.
func (s *site) alive() bool { return s.server.Process.Signal(syscall.Signal(0)) == nil }

// empty empties the directory of a share.
func (s *site) empty(share string) error {
	dir := filepath.Join(s.dir, share)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// runAll runs the tests, several at a time, and those that failed once more, alone.
func (s *site) runAll(ctx context.Context, names []string) (map[string]result, error) {
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
		if r, ok := results[n]; ok && r.failed() && again < maxAgain && ctx.Err() == nil && s.alive() {
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
	if !s.alive() {
		log, _ := os.ReadFile(s.log.Name())
		return nil, fmt.Errorf("the server has died:\n%s", log[max(0, len(log)-10000):])
	}
	return results, nil
}

// maxAgain bounds how many tests are run a second time.
const maxAgain = 150
