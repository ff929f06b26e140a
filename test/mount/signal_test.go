//go:build mount

package mount

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/test/mount/site"
)

// silentCalls are calls that wait for the server, on a mount that keeps nothing: prepare
// makes what the call needs while the server is there.
var silentCalls = map[string]func(dir string) (call func() error, err error){
	"stat": func(dir string) (func() error, error) {
		return func() error { return unix.Stat(dir+"/file", new(unix.Stat_t)) }, file(dir)
	},
	"fstat": opened(unix.O_RDWR, func(fd int) error { return unix.Fstat(fd, new(unix.Stat_t)) }),
	"statfs": func(dir string) (func() error, error) {
		return func() error { return unix.Statfs(dir, new(unix.Statfs_t)) }, nil
	},
	"open": func(dir string) (func() error, error) {
		return func() error { _, err := unix.Open(dir+"/file", unix.O_RDONLY, 0); return err }, file(dir)
	},
	"create": func(dir string) (func() error, error) {
		return func() error { _, err := unix.Open(dir+"/new", unix.O_CREAT|unix.O_RDWR, 0o644); return err }, nil
	},
	"read":   opened(unix.O_RDWR, func(fd int) error { _, err := unix.Pread(fd, make([]byte, 10), 0); return err }),
	"write":  opened(unix.O_RDWR, func(fd int) error { _, err := unix.Pwrite(fd, []byte("new"), 0); return err }),
	"append": opened(unix.O_WRONLY|unix.O_APPEND, func(fd int) error { _, err := unix.Write(fd, []byte("new")); return err }),
	"read 1 MiB direct": opened(unix.O_RDWR|unix.O_DIRECT, func(fd int) error {
		_, err := unix.Pread(fd, aligned(1<<20), 0)
		return err
	}),
	"write 1 MiB direct": opened(unix.O_RDWR|unix.O_DIRECT, func(fd int) error {
		_, err := unix.Pwrite(fd, aligned(1<<20), 0)
		return err
	}),
	"fsync":     opened(unix.O_RDWR, func(fd int) error { return unix.Fsync(fd) }),
	"ftruncate": opened(unix.O_RDWR, func(fd int) error { return unix.Ftruncate(fd, 3) }),
	"fallocate": opened(unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, 0, 0, 1<<20) }),
	"lseek":     opened(unix.O_RDWR, func(fd int) error { _, err := unix.Seek(fd, 0, unix.SEEK_HOLE); return err }),
	"copy_file_range": opened(unix.O_RDWR, func(fd int) error {
		var from, to int64 = 0, 1 << 20
		_, err := unix.CopyFileRange(fd, &from, fd, &to, 1000, 0)
		return err
	}),
	"fchmod":  opened(unix.O_RDWR, func(fd int) error { return unix.Fchmod(fd, 0o400) }),
	"futimes": opened(unix.O_RDWR, func(fd int) error { return unix.Futimes(fd, make([]unix.Timeval, 2)) }),
	"fcntl": opened(unix.O_RDWR, func(fd int) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Len: 10})
	}),
	"fcntl that waits": opened(unix.O_RDWR, func(fd int) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK, Len: 10})
	}),
	"flock": opened(unix.O_RDWR, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) }),
	"getdents": func(dir string) (func() error, error) {
		return func() error {
			fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			_, err = unix.Getdents(fd, make([]byte, 4096))
			return err
		}, nil
	},
	"mkdir": func(dir string) (func() error, error) {
		return func() error { return unix.Mkdir(dir+"/new", 0o755) }, nil
	},
	"rmdir": func(dir string) (func() error, error) {
		return func() error { return unix.Rmdir(dir + "/d") }, os.Mkdir(dir+"/d", 0o755)
	},
	"unlink": func(dir string) (func() error, error) {
		return func() error { return unix.Unlink(dir + "/file") }, file(dir)
	},
	"rename": func(dir string) (func() error, error) {
		return func() error { return unix.Rename(dir+"/file", dir+"/new") }, file(dir)
	},
	"rename of a directory": func(dir string) (func() error, error) {
		return func() error { return unix.Rename(dir+"/d", dir+"/new") }, os.Mkdir(dir+"/d", 0o755)
	},
	"link": func(dir string) (func() error, error) {
		return func() error { return unix.Link(dir+"/file", dir+"/new") }, file(dir)
	},
	"symlink": func(dir string) (func() error, error) {
		return func() error { return unix.Symlink("x", dir+"/new") }, nil
	},
	"setxattr": func(dir string) (func() error, error) {
		return func() error { return unix.Setxattr(dir+"/file", "user.a", []byte("b"), 0) }, file(dir)
	},
	"getxattr": opened(unix.O_RDWR, func(fd int) error { _, err := unix.Fgetxattr(fd, "user.a", make([]byte, 10)); return err }),
	"close with locks": func(dir string) (func() error, error) {
		fd, err := unix.Open(dir+"/file", unix.O_CREAT|unix.O_RDWR, 0o644)
		if err == nil {
			err = unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Len: 10})
		}
		return func() error {
			_ = unix.Close(fd) // does not wait for long
			return unix.Stat(dir, new(unix.Stat_t))
		}, err
	},
}

func file(dir string) error { return os.WriteFile(dir+"/file", make([]byte, 2<<20), 0o644) }

func opened(flags int, call func(fd int) error) func(string) (func() error, error) {
	return func(dir string) (func() error, error) {
		if err := file(dir); err != nil {
			return nil, err
		}
		fd, err := unix.Open(dir+"/file", flags, 0)
		return func() error { return call(fd) }, err
	}
}

// aligned is memory for direct I/O.
func aligned(n int) []byte {
	b := make([]byte, n+4096)
	skip := -uintptr(unsafe.Pointer(&b[0])) & 4095
	return b[skip:][:n]
}

// The variables of the environment by which the test's program is told to make a call.
const (
	callName = "MOUNT_TEST_CALL"
	callDir  = "MOUNT_TEST_DIR"
)

// In a process of its own: says its thread, waits for a line, makes the call, and says
// what came of it. SIGINT is caught.
func init() {
	prepare, ok := silentCalls[os.Getenv(callName)]
	if !ok {
		return
	}
	runtime.LockOSThread()
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	call, err := prepare(os.Getenv(callDir))
	if err != nil {
		fmt.Println("prepare:", err)
		os.Exit(1)
	}
	fmt.Println(unix.Gettid())
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	if err := call(); errors.Is(err, unix.EINTR) {
		fmt.Println("EINTR")
	} else {
		fmt.Println("returned:", err)
	}
	os.Exit(0)
}

// caller is such a process.
type caller struct {
	name   string
	cmd    *exec.Cmd
	thread int
	out    *bufio.Reader
	ended  chan struct{}
	said   string
	begin  func() error
}

func startCaller(name, dir string) (*caller, error) {
	c := &caller{name: name, cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), callName+"="+name, callDir+"="+dir)
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	line, _ := c.out.ReadString('\n')
	if _, err := fmt.Sscan(line, &c.thread); err != nil {
		return nil, fmt.Errorf("%s: %q", name, line)
	}
	go func() { // ends with the process; who waits for ended waits for it
		defer close(c.ended)
		c.said, _ = c.out.ReadString('\n')
		_ = c.cmd.Wait()
	}()
	c.begin = func() error { _, err := in.Write([]byte("\n")); return err }
	return c, nil
}

// waits returns when the call has got as far as the mount, or its process has ended.
func (c *caller) waits(patience time.Duration) error {
	var at string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		select {
		case <-c.ended:
			return nil // who looks at what it said tells of it
		default:
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", c.cmd.Process.Pid, c.thread))
		if at = strings.TrimSpace(string(b)); err != nil {
			at = err.Error()
			continue
		}
		var nr int
		var arg string
		if n, _ := fmt.Sscan(at, &nr, &arg); n < 2 {
			continue // it runs
		}
		pipes := (nr == unix.SYS_READ || nr == unix.SYS_WRITE) && (arg == "0x0" || arg == "0x1") // to this process
		if pipes || slices.Contains(schedulerCalls, nr) {
			continue
		}
		return nil
	}
	return fmt.Errorf("%s has not called the mount after %v: %s", c.name, patience, at)
}

// schedulerCalls are those in which a thread waits for its turn to run.
var schedulerCalls = []int{unix.SYS_FUTEX, unix.SYS_EPOLL_PWAIT, unix.SYS_NANOSLEEP, unix.SYS_SCHED_YIELD}

// Programs that wait for a server which does not answer can be ended: those that are
// killed are gone at once, and calls of those that catch a signal by which they are asked
// to stop return EINTR. When the server is there again nothing is left behind and the
// mount is as good as before.
func TestSignals(t *testing.T) {
	for _, c := range columns {
		t.Run(c.name, func(t *testing.T) {
			y := newYard(t)
			s := y.serve(c)
			m := y.mount(s, c, "mnt", "nolease", "actimeo=0", "noposix")
			for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGINT} {
				y.within(time.Minute, sig.String(), func() error { return y.interrupt(s, m, sig, c) })
			}
			y.unmount()
			left, err := filepath.Glob(s.Share + "/*/.smbd-deleted-*")
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %q %v", left, err)
			}
		})
	}
}

func (y *yard) interrupt(s *site.Server, m *site.Mount, sig unix.Signal, col column) error {
	var callers []*caller
	for name := range silentCalls {
		if col.samba && name == "symlink" || // it makes none
			sig != unix.SIGKILL && (strings.HasPrefix(name, "fcntl") || name == "flock" || // which begin anew, with SA_RESTART
				strings.HasPrefix(name, "close")) { // and this has no error
			continue
		}
		dir := filepath.Join(m.Dir, strings.ReplaceAll(name, " ", "-")+fmt.Sprint(int(sig)))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		c, err := startCaller(name, dir)
		if err != nil {
			return err
		}
		callers = append(callers, c)
	}
	if err := s.Freeze(); err != nil {
		return err
	}
	defer s.Thaw()
	for _, c := range callers {
		if err := c.begin(); err != nil {
			return err
		}
	}
	var errs []error
	for _, c := range callers {
		if err := c.waits(30 * time.Second); err != nil {
			errs = append(errs, err)
		}
	}
	for _, c := range callers {
		select {
		case <-c.ended:
			errs = append(errs, fmt.Errorf("%s did not wait for the server: %s", c.name, c.said))
			continue
		default:
		}
		if err := unix.Tgkill(c.cmd.Process.Pid, c.thread, sig); err != nil {
			errs = append(errs, err)
		}
	}
	patience, stop := context.WithTimeout(context.Background(), 15*time.Second) // a second, and what a busy machine takes
	defer stop()
	for _, c := range callers {
		select {
		case <-c.ended:
		case <-patience.Done():
		}
		select {
		case <-c.ended:
		default:
			errs = append(errs, fmt.Errorf("%s: %v does not end it", c.name, sig))
			_ = c.cmd.Process.Kill()
			continue
		}
		if sig != unix.SIGKILL && c.said != "EINTR\n" {
			errs = append(errs, fmt.Errorf("%s after %v: %q, want EINTR", c.name, sig, c.said))
		}
	}
	s.Thaw()
	// The same directories, as what was given up may still be under way there.
	for _, c := range callers {
		name := filepath.Join(m.Dir, strings.ReplaceAll(c.name, " ", "-")+fmt.Sprint(int(sig)), "after")
		if err := os.WriteFile(name, []byte("content"), 0o644); err != nil {
			errs = append(errs, err)
		} else if got, err := os.ReadFile(name); err != nil || string(got) != "content" {
			errs = append(errs, fmt.Errorf("%s: %q %v", name, got, err))
		}
	}
	return errors.Join(errs...)
}

// A mount whose server does not answer can be taken away with what waits there.
func TestUnmountWithoutAnswer(t *testing.T) {
	y := newYard(t)
	s := y.serve(tcp)
	m := y.mount(s, tcp, "mnt", "nolease", "actimeo=0", "timeout=5")
	if err := os.Mkdir(m.Dir+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := startCaller("read", m.Dir+"/d")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	defer s.Thaw()
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	if err := command(5*time.Second, "fusermount3", "-u", "-z", m.Dir); err != nil {
		t.Error(err)
	}
	if site.Mounted(m.Dir) {
		t.Error("it is still mounted")
	}
	if err := c.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	y.within(10*time.Second, "the end of who has read there", func() error { <-c.ended; return nil })
	y.within(30*time.Second, "the end of the mount's process", func() error {
		for m.Running() {
			time.Sleep(20 * time.Millisecond)
		}
		return nil
	})
	y.mounts = nil
}
