//go:build peers

package peers

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// get, put, cp and sync with Samba at the other end.
func TestFileCommandsAgainstSamba(t *testing.T) {
	s := startSamba(t, "")
	served := filepath.Join(s.dir, "test")
	_, p, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		args = append(args, "-U", sambaUser+"%"+sambaPassword, "--transport", "tcp", "-p", p)
		c := exec.Command(binary(t), args...)
		var stderr strings.Builder
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, tail(stderr.String(), 3000))
		}
		return string(out)
	}
	sum := func(out string) (r struct{ Files, Skipped, Deleted, Failed, Bytes, Resumed int64 }) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	const root = "//127.0.0.1/test"
	local := t.TempDir()
	tree, back := filepath.Join(local, "tree"), filepath.Join(local, "back")
	for name, size := range map[string]int{"empty": 0, "a/small": 100, "a/b/large": 20 << 20, "a/ü ö": 5} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, name), []byte(strings.Repeat("x", size)), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	// 64 MiB of hole with a few bytes in the middle.
	sparse := filepath.Join(tree, "sparse")
	f, err := os.Create(sparse)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("here"), 40<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	when := time.Date(2021, 1, 2, 3, 4, 5, 123456700, time.UTC)
	if err := os.Chtimes(filepath.Join(tree, "a/small"), when, when); err != nil {
		t.Fatal(err)
	}
	want := sums(t, tree)

	if r := sum(run("put", "-r", "--verify", "--json", tree, root+"/tree")); r.Files != int64(len(want)) || r.Failed != 0 || r.Bytes > 40<<20 {
		t.Errorf("put: %+v", r)
	}
	sameTree(t, want, sums(t, filepath.Join(served, "tree")))
	if i, err := os.Stat(filepath.Join(served, "tree/a/small")); err != nil || !i.ModTime().Equal(when) {
		t.Errorf("a time is %v (%v)", i.ModTime(), err)
	}
	run("get", "-r", "--verify", root+"/tree", back)
	sameTree(t, want, sums(t, back))
	for _, name := range []string{filepath.Join(served, "tree/sparse"), filepath.Join(back, "sparse")} {
		if i, err := os.Stat(name); err != nil || i.Sys().(*syscall.Stat_t).Blocks*512 > 8<<20 {
			t.Errorf("%s takes %d blocks (%v)", name, i.Sys().(*syscall.Stat_t).Blocks, err)
		}
	}
	run("cp", "-r", root+"/tree", root+"/copy")
	sameTree(t, want, sums(t, filepath.Join(served, "copy")))

	// The tree is the same by size and time on both sides, and stays so.
	if r := sum(run("sync", "--delete", "--json", tree, root+"/tree")); r.Skipped != int64(len(want)) || r.Files+r.Deleted+r.Failed != 0 {
		t.Errorf("sync of the same: %+v", r)
	}
	if err := os.Remove(filepath.Join(tree, "a/ü ö")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "new"), []byte("new"), 0o666); err != nil {
		t.Fatal(err)
	}
	if r := sum(run("sync", "--delete", "--json", tree, root+"/tree")); r.Files != 1 || r.Deleted != 1 || r.Failed != 0 {
		t.Errorf("sync: %+v", r)
	}
	if r := sum(run("sync", "--delete", "--json", root+"/tree", back)); r.Files != 1 || r.Deleted != 1 || r.Failed != 0 {
		t.Errorf("sync back: %+v", r)
	}
	sameTree(t, sums(t, tree), sums(t, back))

	// Killed in the middle, each goes on from where it was.
	const big = 600 << 20
	if err := os.WriteFile(filepath.Join(local, "big"), []byte(strings.Repeat("0123456789abcdef", big/16)), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"put", filepath.Join(local, "big"), root + "/big"}, {"get", root + "/big", filepath.Join(local, "big-back")},
	} {
		args = append(args, "--continue", "--json")
		c := exec.Command(binary(t), append(args, "-U", sambaUser+"%"+sambaPassword, "--transport", "tcp", "-p", p)...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		dir := served
		if args[0] == "get" {
			dir = local
		}
		for { // until the journal says that a part is there
			if js, _ := filepath.Glob(filepath.Join(dir, ".smbd-rdma-*.journal")); len(js) == 1 {
				if b, _ := os.ReadFile(js[0]); len(b) > 0 && !strings.Contains(string(b), " 0 ") {
					break
				}
			}
			if c.ProcessState != nil {
				t.Fatal("ended")
			}
			time.Sleep(time.Millisecond)
		}
		c.Process.Kill()
		c.Wait()
		if r := sum(run(args...)); r.Resumed < 128<<20 || r.Resumed+r.Bytes != big {
			t.Errorf("%s: %+v", args[0], r)
		}
	}
	all := sums(t, local)
	if all["big-back"] != all["big"] {
		t.Error("a wrong byte")
	}
	if js, _ := filepath.Glob(filepath.Join(served, ".smbd-rdma-*")); len(js) > 0 {
		t.Errorf("left behind: %v", js)
	}
}
