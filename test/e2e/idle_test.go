package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

const (
	// childVariable, set to a directory, makes the test program a server of it.
	childVariable = "E2E_SERVE"
	// childScheme says on what transport, childFiles how many descriptors there are.
	childScheme = "E2E_SERVE_SCHEME"
	childFiles  = "E2E_SERVE_FILES"
)

// childServer serves with default settings. It says where, and for each line on its
// standard input how much memory it uses.
func childServer() int {
	fail := func(err error) int { fmt.Fprintln(os.Stderr, err); return 1 }
	debug.SetMemoryLimit(3 << 30)
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: 8 << 30, Max: 8 << 30}); err != nil {
		return fail(err)
	}
	fsys, err := posix.New(os.Getenv(childVariable), posix.Config{})
	if err != nil {
		return fail(err)
	}
	users, err := server.ParseUsers(user + "%" + password)
	if err != nil {
		return fail(err)
	}
	srv, err := server.New(server.Config{Shares: []server.Share{{Name: "data", FS: fsys}}, Users: users, ServerName: "NAS"})
	if err != nil {
		return fail(err)
	}
	l, err := childListener()
	if err != nil {
		return fail(err)
	}
	if n, err := strconv.ParseUint(os.Getenv(childFiles), 10, 31); err == nil {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return fail(err)
		}
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }() // ended by Close below
	fmt.Println(l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		runtime.GC()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		rss, err := residentBytes()
		if err != nil {
			return fail(err)
		}
		fmt.Println(rss, m.HeapAlloc+m.StackInuse, srv.Stats().Connections)
	}
	srv.Close()
	<-served
	fsys.Close()
	return 0
}

func childListener() (transport.Listener, error) {
	if os.Getenv(childScheme) == "tcp" {
		return tcp.Listen(context.Background(), "127.0.0.1:0", tcp.Config{})
	}
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		return nil, err
	}
	return smbdirect.Listen(context.Background(), p, "iwarp", "127.0.0.1:0", smbdirect.Config{})
}

// residentBytes is VmRSS of this process.
func residentBytes() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b), "VmRSS:")
	if !ok {
		return 0, fmt.Errorf("no VmRSS in %q", b)
	}
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return n << 10, err
}

// child is a server in a process of its own.
type child struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr string
	dir  string

	killed bool
}

// startChild starts one with settings of its own, each NAME=VALUE.
func startChild(t testing.TB, settings ...string) *child {
	t.Helper()
	return startChildOn(t, t.TempDir(), settings...)
}

func startChildOn(t testing.TB, dir string, settings ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	c := &child{t: t, dir: dir, cmd: cmd}
	cmd.Env = append(append(os.Environ(), childVariable+"="+c.dir), settings...)
	cmd.Stderr = os.Stderr
	c.in, err = cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		c.in.Close()
		if c.killed {
			return
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server's process: %v", err)
		}
	})
	c.out = bufio.NewReader(out)
	c.addr = c.line()
	return c
}

// kill ends the process at once, as kill -9 does.
func (c *child) kill() {
	c.t.Helper()
	c.killed = true
	must(c.t, c.cmd.Process.Kill())
	_ = c.cmd.Wait()
}

// descriptors that the process has open.
func (c *child) descriptors() int {
	c.t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
	must(c.t, err)
	return len(names)
}

func (c *child) line() string {
	c.t.Helper()
	s, err := c.out.ReadString('\n')
	must(c.t, err)
	return strings.TrimSpace(s)
}

// memory is what the server's process uses now, after a garbage collection.
func (c *child) memory() (rss, heap int64, conns int) {
	c.t.Helper()
	_, err := fmt.Fprintln(c.in)
	must(c.t, err)
	_, err = fmt.Sscan(c.line(), &rss, &heap, &conns)
	must(c.t, err)
	return rss, heap, conns
}

// A thousand connections that are logged on and have nothing to say, with the
// default settings of both ends: all work afterwards, and the server's process
// grew by less than 1 MiB for each, also after all have been busy.
func TestIdleConnections(t *testing.T) {
	n, limit := 1000, int64(1<<20)
	// A socket here, and one there.
	if fds := descriptorLimit(t) - 300; fds < n {
		t.Logf("only %d connections: RLIMIT_NOFILE", fds)
		n = fds
	}
	c := startChild(t)
	ctx := context.Background()
	p, err := iwarp.New(iwarp.Config{})
	must(t, err)
	d, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	must(t, err)
	var shares []*client.Share
	defer func() {
		for _, sh := range shares {
			sh.Session().Close()
		}
	}()
	connect := func() {
		sh, err := mount(ctx, d, c.addr, client.Config{})
		must(t, err)
		shares = append(shares, sh)
	}
	for range 10 { // what the first ones cost is not theirs
		connect()
	}
	baseRSS, baseHeap, base := c.memory()
	if base != 10 {
		t.Fatalf("%d connections", base)
	}
	judge := func(what string) {
		t.Helper()
		rss, heap, conns := c.memory()
		if conns != len(shares) {
			t.Fatalf("the server has %d connections, want %d", conns, len(shares))
		}
		m := int64(conns - base)
		t.Logf("%s: %d connections, each %d KiB of RSS, %d KiB of it heap and stacks", what, conns, (rss-baseRSS)/m>>10, (heap-baseHeap)/m>>10)
		if (rss-baseRSS)/m > limit && !raceEnabled {
			t.Fatalf("%d octets for an idle connection, want at most %d", (rss-baseRSS)/m, limit)
		}
	}
	// Small numbers first: a mistake here must not fill the machine.
	for _, upTo := range []int{20, 100, n} {
		for len(shares) < upTo {
			connect()
		}
		judge("idle")
	}
	var g errgroup.Group
	g.SetLimit(8)
	for i, sh := range shares {
		g.Go(func() error {
			name := fmt.Sprint("f", i)
			want := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 5000)
			if err := sh.WriteFile(ctx, name, want, 0o666); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			got, err := sh.ReadFile(ctx, name)
			if err == nil && !bytes.Equal(got, want) {
				err = fmt.Errorf("connection %d reads other octets than it wrote", i)
			}
			return err
		})
	}
	must(t, g.Wait())
	judge("idle again after some work")

	// Those who talked long enough have touched every buffer of theirs: the
	// receives and the sends go round. Twenty stand for all.
	before, _, _ := c.memory()
	const busy = 20
	for _, sh := range shares[:busy] {
		g.Go(func() error {
			for range 300 { // more than the 255 receives
				if err := sh.Session().Echo(ctx); err != nil {
					return err
				}
			}
			_, err := sh.ReadDir(ctx, "")
			return err
		})
	}
	must(t, g.Wait())
	after, _, _ := c.memory()
	idle := (before - baseRSS) / int64(len(shares)-base)
	most := idle + max(after-before, 0)/busy
	t.Logf("idle again after 300 requests: %d KiB of RSS", most>>10)
	if most > limit && !raceEnabled {
		t.Errorf("%d octets for an idle connection that was busy, want at most %d", most, limit)
	}
}
