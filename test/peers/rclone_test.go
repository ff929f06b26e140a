//go:build peers

package peers

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRcloneDay is a day of rclone's: a tree goes up, is compared, listed, changed,
// synchronised both ways, moved and purged.
func TestRcloneDay(t *testing.T) {
	bin, err := exec.LookPath("rclone")
	if err != nil {
		t.Skip("rclone is not installed")
	}
	shareDir, local, back := t.TempDir(), t.TempDir(), t.TempDir()
	port := serveTCP(t, shareDir)
	obscured, err := exec.Command(bin, "obscure", "secret").Output()
	if err != nil {
		t.Fatal(err)
	}
	remote := fmt.Sprintf(":smb,host=127.0.0.1,port=%s,user=tester,pass='%s':data", port, strings.TrimSpace(string(obscured)))
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, append([]string{"--config", os.DevNull, "--retries", "1", "--low-level-retries", "1"}, args...)...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("rclone %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
		}
		return string(out)
	}
	write := func(dir, name string, data []byte) {
		t.Helper()
		f := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return b
	}
	for i := range 60 {
		write(local, fmt.Sprintf("dir %d/sub/file %d.bin", i%5, i), noise(i*i*40))
	}
	write(local, "große Datei äöü €.bin", noise(20<<20))
	write(local, "empty", nil)

	run("copy", local, remote+"/tree", "--transfers", "8", "--checkers", "8")
	run("check", local, remote+"/tree", "--download")
	same(t, local, filepath.Join(shareDir, "tree"))

	names := strings.Split(strings.TrimSpace(run("lsf", "-R", "--files-only", remote+"/tree")), "\n")
	if len(names) != 62 || !slices.Contains(names, "große Datei äöü €.bin") {
		t.Errorf("%d names of 62: %q", len(names), names)
	}
	if got := run("cat", remote+"/tree/dir 1/sub/file 1.bin"); len(got) != 40 {
		t.Errorf("cat gives %d bytes of 40", len(got))
	}
	// What changed goes up, what is gone goes there too.
	when := time.Date(2020, 2, 29, 12, 0, 0, 0, time.UTC)
	write(local, "dir 1/sub/file 1.bin", noise(5000))
	if err := os.Chtimes(filepath.Join(local, "empty"), when, when); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(local, "dir 2")); err != nil {
		t.Fatal(err)
	}
	run("sync", local, remote+"/tree")
	run("check", local, remote+"/tree")
	same(t, local, filepath.Join(shareDir, "tree"))
	if st, err := os.Stat(filepath.Join(shareDir, "tree", "empty")); err != nil || !st.ModTime().Equal(when) {
		t.Errorf("the time of a file: %v, %v", st, err)
	}
	run("moveto", remote+"/tree/empty", remote+"/elsewhere/still empty")
	run("move", remote+"/tree", remote+"/elsewhere/moved")
	run("copy", remote+"/elsewhere/moved", back, "--transfers", "8")
	if err := os.Remove(filepath.Join(local, "empty")); err != nil {
		t.Fatal(err)
	}
	same(t, local, back)
	run("deletefile", remote+"/elsewhere/still empty")
	run("purge", remote+"/elsewhere")
	run("rmdirs", remote, "--leave-root")
	if left, err := os.ReadDir(shareDir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// same compares two trees, names and contents.
func same(t *testing.T, a, b string) {
	t.Helper()
	read := func(root string) map[string]string {
		m := map[string]string{}
		if err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(p)
			rel, _ := filepath.Rel(root, p)
			m[rel] = string(data)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return m
	}
	x, y := read(a), read(b)
	for n, v := range x {
		if w, ok := y[n]; !ok {
			t.Errorf("%s is missing in %s", n, b)
		} else if w != v {
			t.Errorf("%s differs", n)
		}
	}
	for n := range y {
		if _, ok := x[n]; !ok {
			t.Errorf("%s is only in %s", n, b)
		}
	}
}
