//go:build mount

package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/test/mount/site"
)

// world is a mount namespace: a machine on which the program is installed and which has a
// table of file systems, while nothing of that is to be seen outside.
type world struct {
	t   *testing.T
	dir string // of the yard
	pid int    // a process in it
}

// nobody is a user who is not root.
const nobody = 65534

// newWorld makes one in which /etc/fstab has the lines of fstab.
func newWorld(y *yard, fstab string) *world {
	y.t.Helper()
	bin, err := site.Binary()
	if err != nil {
		y.t.Fatal(err)
	}
	holder := exec.Command("cat") // ends with its input, so with this process
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	in, err := holder.StdinPipe()
	if err != nil {
		y.t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		y.t.Fatal(err)
	}
	w := &world{t: y.t, dir: y.dir, pid: holder.Process.Pid}
	y.t.Cleanup(func() {
		for _, pid := range w.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		in.Close()
		_ = holder.Wait()
	})
	table, programs, links := filepath.Join(y.dir, "fstab"), filepath.Join(y.dir, "bin"), filepath.Join(y.dir, "sbin")
	// The programs that mount(8) starts have no PATH: a shell takes its own, which begins
	// with /usr/local/sbin.
	if err := errors.Join(os.WriteFile(table, []byte(fstab), 0o644), os.Mkdir(programs, 0o755), os.Mkdir(links, 0o755),
		os.WriteFile(filepath.Join(programs, "smbd-rdma"), nil, 0o755),
		os.Symlink("/usr/local/sbin/smbd-rdma", filepath.Join(links, "mount.smbd-rdma"))); err != nil {
		y.t.Fatal(err)
	}
	steps := [][]string{{"mount", "-t", "tmpfs", "tmpfs", "/run"}} // where mount(8) keeps what it knows
	for _, f := range w.all() {
		// Of others, who would wait for this one's going after they have unmounted it.
		steps = append(steps, []string{"umount", "-c", "-i", "-l", strings.ReplaceAll(f[1], `\040`, " ")})
	}
	for _, c := range append(steps, [][]string{
		{"mount", "--bind", programs, "/usr/local/sbin"},
		{"mount", "--bind", bin, "/usr/local/sbin/smbd-rdma"},
		{"mount", "--bind", table, "/etc/fstab"},
	}...) {
		if out, err := w.run(0, c...); err != nil {
			y.t.Fatalf("%s: %v\n%s", strings.Join(c, " "), err, out)
		}
	}
	return w
}

// run runs a command there, as a user, and has what it says.
func (w *world) run(uid int, command ...string) (string, error) {
	args := []string{"--mount", "--target", strconv.Itoa(w.pid)}
	if uid != 0 {
		args = append(args, "setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), "--clear-groups")
	}
	cmd := exec.Command("nsenter", append(append(args, "timeout", "-k", "5", "60"), command...)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must is run for what has to succeed.
func (w *world) must(uid int, command ...string) string {
	w.t.Helper()
	out, err := w.run(uid, command...)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return out
}

// refused is run for what has to fail with one line that has the words in it, and with
// nothing left.
func (w *world) refused(words string, command ...string) {
	w.t.Helper()
	before, running := w.table(), len(w.processes())
	out, err := w.run(0, command...)
	var status *exec.ExitError
	if !errors.As(err, &status) {
		w.t.Errorf("%s: %v, want a failure\n%s", strings.Join(command, " "), err, out)
	}
	if strings.Count(out, "\n") != 1 || !strings.Contains(out, words) {
		w.t.Errorf("%s says %q, want one line with %q", strings.Join(command, " "), out, words)
	}
	if after := w.table(); after != before {
		w.t.Errorf("%s: mounts were\n%s\nand are\n%s", strings.Join(command, " "), before, after)
	}
	if after := len(w.processes()); after != running {
		w.t.Errorf("%s: there were %d processes of mounts, and are %d", strings.Join(command, " "), running, after)
	}
}

// gone waits until neither mounts nor their processes nor notes of mount(8) are left.
func (w *world) gone() {
	w.t.Helper()
	if err := eventually(func() error {
		if p := w.processes(); len(p) > 0 {
			return fmt.Errorf("process %d is still there", p[0])
		}
		if t := w.table(); t != "" {
			return fmt.Errorf("still mounted:\n%s", t)
		}
		if notes, _ := os.ReadFile(w.path("/run/mount/utab")); len(notes) > 0 {
			return fmt.Errorf("mount(8) has kept %q", notes)
		}
		return nil
	}); err != nil {
		w.t.Error(err)
	}
}

// path is what the world has under a name, as root has it from outside.
func (w *world) path(name string) string { return fmt.Sprintf("/proc/%d/root%s", w.pid, name) }

// all are the fields of the table of mounts for what is of this type.
func (w *world) all() (lines [][]string) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", w.pid))
	if err != nil {
		w.t.Error(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 3 && f[2] == "fuse.smbd-rdma" {
			lines = append(lines, f)
		}
	}
	return lines
}

// table are the lines of all for the yard.
func (w *world) table() string {
	var s string
	for _, f := range w.all() {
		if strings.HasPrefix(f[1], w.dir+"/") {
			s += strings.Join(f, " ") + "\n"
		}
	}
	return s
}

// mounted is the line of the table for a directory, which has just one.
func (w *world) mounted(dir string) (source, options string) {
	w.t.Helper()
	n := 0
	for l := range strings.Lines(w.table()) {
		if f := strings.Fields(l); f[1] == strings.ReplaceAll(dir, " ", `\040`) {
			source, options = f[0], f[3]
			n++
		}
	}
	if n != 1 {
		w.t.Fatalf("%s is mounted %d times:\n%s", dir, n, w.table())
	}
	return source, options
}

// processes are those of mounts in the yard.
func (w *world) processes() []int {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var pids []int
	for _, name := range names {
		line, _ := os.ReadFile(name) // one that has ended has none
		if strings.Contains(string(line), "\x00--child") && strings.Contains(string(line), "\x00"+w.dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}
