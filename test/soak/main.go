// Command soak keeps a server busy for a while with many clients of two makes (this
// project's and go-smb2) that check every byte, beside a crowd of idle sessions, and
// fails if anything goes wrong or grows: memory, goroutines, descriptors.
//
//	go run ./test/soak -time 5m -clients 100 -idle 2000
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// limits of what counts as growth, from after the first fifth of the time to its end.
const (
	idleMemory   = 300 << 20 // of 2,000 idle sessions
	memoryGrowth = 1.25
	memorySlack  = 48 << 20
)

func run() error {
	length := flag.Duration("time", 5*time.Minute, "how long the clients are busy")
	clients := flag.Int("clients", 100, "busy clients")
	idle := flag.Int("idle", 2000, "idle sessions beside them")
	binary := flag.String("binary", "bin/smbd-rdma", "the server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := raiseDescriptors(uint64(*idle + 2**clients + 1000)); err != nil {
		return err
	}
	s, err := start(ctx, *binary, *idle+*clients+100)
	if err != nil {
		return err
	}
	defer s.close()
	empty, err := s.look()
	if err != nil {
		return err
	}
	fmt.Println("empty:      ", empty)

	crowd, err := s.crowd(ctx, *idle)
	if err != nil {
		return fmt.Errorf("idle sessions: %w", err)
	}
	time.Sleep(2 * time.Second)
	quiet, err := s.look()
	if err != nil {
		return err
	}
	fmt.Printf("%d idle:  %v\n", *idle, quiet)
	var bad []error
	if quiet.memory > idleMemory*int64(max(*idle, 2000))/2000 {
		bad = append(bad, fmt.Errorf("%d MiB with %d idle sessions", quiet.memory>>20, *idle))
	}

	work, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	var done counters
	busy, busyCtx := errgroup.WithContext(work)
	for i := range *clients {
		busy.Go(func() error {
			err := s.client(busyCtx, i, &done)
			if err != nil && work.Err() == nil {
				return fmt.Errorf("client %d: %w", i, err)
			}
			return nil
		})
	}
	var early looks
	watch := make(chan struct{})
	go func() { // ends with the work
		defer close(watch)
		select {
		case <-busyCtx.Done():
			return
		case <-time.After(*length / 5):
		}
		early, err = s.look()
		if err == nil {
			fmt.Println("after 1/5:  ", early)
		}
	}()
	failed := busy.Wait()
	<-watch
	if failed != nil {
		return failed
	}
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	late, err := s.look()
	if err != nil {
		return err
	}
	fmt.Println("at the end: ", late)
	fmt.Println(&done)
	if float64(late.memory) > memoryGrowth*float64(early.memory)+memorySlack {
		bad = append(bad, fmt.Errorf("memory grew from %d to %d MiB", early.memory>>20, late.memory>>20))
	}
	for _, sess := range crowd {
		if sess.Err() != nil {
			bad = append(bad, fmt.Errorf("an idle session has ended: %w", sess.Err()))
			break
		}
	}
	var ending sync.WaitGroup
	for _, sess := range crowd {
		ending.Go(func() { sess.Close() })
	}
	ending.Wait()
	after := late
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if after, err = s.look(); err != nil {
			return err
		}
		if after.descriptors <= empty.descriptors+5 && after.goroutines <= empty.goroutines+5 {
			break
		}
	}
	fmt.Println("all gone:   ", after)
	if after.descriptors > empty.descriptors+5 {
		bad = append(bad, fmt.Errorf("%d descriptors are left of %d at the beginning", after.descriptors, empty.descriptors))
	}
	if after.goroutines > empty.goroutines+5 {
		bad = append(bad, fmt.Errorf("%d goroutines are left of %d at the beginning", after.goroutines, empty.goroutines))
	}
	left, err := os.ReadDir(s.share)
	if err != nil || len(left) != *clients {
		bad = append(bad, err, fmt.Errorf("%d names in the share, want a directory for each client", len(left)))
	}
	return errors.Join(bad...)
}

// site is the server.
type site struct {
	dir, share string
	addr, http string
	cmd        *exec.Cmd
	log        *os.File
}

func start(ctx context.Context, binary string, conns int) (*site, error) {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, share: filepath.Join(dir, "share")}
	if err := os.Mkdir(s.share, 0o777); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("[global]\n  max smbd processes = %d\n[soak]\n  path = %s\n  read only = no\n", conns, s.share)
	if err := os.WriteFile(filepath.Join(dir, "smb.conf"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	s.http = "127.0.0.1:0"
	l, err := freePort()
	if err != nil {
		return nil, err
	}
	s.http = l
	s.cmd = exec.Command(binary, "serve", "-c", filepath.Join(dir, "smb.conf"), "--user", "soak%secret",
		"--tcp", "127.0.0.1:0", "--rdma", "none", "--control", "none", "--http", s.http, "--log-level", "warn")
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "listening on tcp://"); ok {
			s.addr = rest
		}
		if lines.Text() == "ready" {
			return s, nil
		}
	}
	log, _ := os.ReadFile(s.log.Name())
	s.close()
	return nil, fmt.Errorf("the server does not start: %s", log)
}

func (s *site) close() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
	s.log.Close()
	_ = os.RemoveAll(s.dir)
}

// looks is what is seen of the server's process.
type looks struct {
	memory      int64
	goroutines  int
	descriptors int
}

func (l looks) String() string {
	return fmt.Sprintf("%4d MiB resident, %5d goroutines, %5d descriptors", l.memory>>20, l.goroutines, l.descriptors)
}

func (s *site) look() (looks, error) {
	var l looks
	proc := fmt.Sprintf("/proc/%d", s.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return l, fmt.Errorf("the server has died: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return l, err
			}
			l.memory = kib << 10
		}
	}
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return l, err
	}
	l.descriptors = len(fds)
	resp, err := http.Get("http://" + s.http + "/metrics")
	if err != nil {
		return l, err
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return l, err
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			l.goroutines = int(n)
			return l, err
		}
	}
	return l, errors.New("/metrics has no go_goroutines")
}

// crowd logs sessions on that are connected to the share and do nothing more.
func (s *site) crowd(ctx context.Context, n int) ([]*client.Session, error) {
	out := make([]*client.Session, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for i := range n {
		g.Go(func() error {
			sess, err := s.dial(ctx)
			if err != nil {
				return err
			}
			out[i] = sess
			_, err = sess.Mount(ctx, "soak")
			return err
		})
	}
	return out, g.Wait()
}

func (s *site) dial(ctx context.Context) (*client.Session, error) {
	d, err := tcp.NewDialer(tcp.Config{})
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, d, s.addr, client.Config{User: "soak", Password: "secret", Timeout: 2 * time.Minute})
}

// counters are of all clients.
type counters struct {
	operations, bytes, sessions atomic.Int64
}

func (c *counters) String() string {
	return fmt.Sprintf("%d operations, %d MB checked, %d sessions, no error", c.operations.Load(), c.bytes.Load()/1e6, c.sessions.Load())
}
