//go:build linux

package posix

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

const secret = "outside the share"

// outsideAndRoot makes a directory with a secret and, beside it, one to serve.
func outsideAndRoot(t *testing.T) (outside, root string) {
	t.Helper()
	base := t.TempDir()
	outside, root = filepath.Join(base, "outside"), filepath.Join(base, "root")
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.Mkdir(root, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "f"), []byte(secret), 0o644))
	return outside, root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLinksCannotLeave(t *testing.T) {
	resolvers(t, func(t *testing.T, newFS func(string, Config) *FS) {
		outside, root := outsideAndRoot(t)
		must(t, os.MkdirAll(filepath.Join(root, "a/b/c"), 0o755))
		must(t, os.WriteFile(filepath.Join(root, "inside"), []byte("in"), 0o644))
		for name, target := range map[string]string{
			"absolute":    outside,
			"absolutein":  root, // absolute links leave even when they come back
			"up":          "../outside",
			"a/up":        "../../outside",
			"a/b/chain":   "../../up",
			"tortuous":    "a/b/../../a/../../outside",
			"out-and-in":  "../root",
			"proc":        "/proc/self/root",
			"a/b/c/fine":  "../../../inside",
			"a/b/c/chain": "fine",
		} {
			must(t, os.Symlink(target, filepath.Join(root, name)))
		}
		f := newFS(root, Config{})
		ctx := t.Context()
		for _, link := range []string{"absolute", "absolutein", "up", "a/up", "a/b/chain", "tortuous", "out-and-in", "proc"} {
			for _, name := range []string{link, link + "/f"} {
				if _, err := f.Stat(ctx, name); !errors.Is(err, vfs.ErrOutside) {
					t.Errorf("Stat(%q): got %v, want ErrOutside", name, err)
				}
				if h, _, err := f.Open(ctx, name, vfs.OpenOptions{}); !errors.Is(err, vfs.ErrOutside) {
					t.Errorf("Open(%q) = %v, %v; want ErrOutside", name, h, err)
				}
				if w, err := f.Watch(ctx, name, vfs.WatchOptions{}); !errors.Is(err, vfs.ErrOutside) {
					t.Errorf("Watch(%q) = %v, %v; want ErrOutside", name, w, err)
				}
			}
			below := link + "/f"
			for what, err := range map[string]error{
				"Mkdir":       f.Mkdir(ctx, link+"/new", 0o777),
				"Remove":      f.Remove(ctx, below, vfs.KindAny),
				"Rename from": f.Rename(ctx, below, "taken", true),
				"Rename to":   f.Rename(ctx, "inside", below, true),
				"Link from":   f.Link(ctx, below, "taken"),
				"Link to":     f.Link(ctx, "inside", link+"/new"),
				"Symlink":     f.Symlink(ctx, "x", link+"/new"),
			} {
				if !errors.Is(err, vfs.ErrOutside) {
					t.Errorf("%s through %q: got %v, want ErrOutside", what, link, err)
				}
			}
		}
		if info, err := f.Stat(ctx, "a/b/c/chain"); err != nil || info.Size != 2 {
			t.Errorf("a link that stays inside: %d bytes, %v; want the 2 of the file", info.Size, err)
		}
		assertUntouched(t, outside)
	})
}

func assertUntouched(t *testing.T, outside string) {
	t.Helper()
	entries, err := os.ReadDir(outside)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("outside the share there is now %v", entries)
	}
	if b, err := os.ReadFile(filepath.Join(outside, "f")); err != nil || string(b) != secret {
		t.Errorf("the file outside the share is now %q, %v", b, err)
	}
	for _, name := range []string{outside, filepath.Join(outside, "f")} {
		if n, err := unix.Llistxattr(name, nil); err == nil && n > 0 {
			t.Errorf("%s has extended attributes now", name)
		}
	}
}

// A directory turns into a link that leaves, and back, while names are resolved
// through it. Nothing outside is read, made or removed.
func TestSwapRace(t *testing.T) {
	resolvers(t, func(t *testing.T, newFS func(string, Config) *FS) {
		outside, root := outsideAndRoot(t)
		dir, link := filepath.Join(root, "dir"), filepath.Join(root, "link")
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("in"), 0o644))
		must(t, os.Symlink(outside, link))
		f := newFS(root, Config{})
		ctx := t.Context()

		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { // ended by stop, waited for below
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
					t.Errorf("exchanging directory and link: %v", err)
					return
				}
				runtime.Gosched()
			}
		})
		reached, refused := 0, 0
		for i := 0; i < 1500 || (reached == 0 || refused == 0) && i < 50_000; i++ {
			h, _, err := f.Open(ctx, "dir/f", vfs.OpenOptions{Access: vfs.AccessRead})
			switch {
			case err == nil:
				b := make([]byte, 64)
				n, _ := h.ReadAt(b, 0)
				if string(b[:n]) != "in" {
					t.Errorf("Open by a name beneath the root read %q", b[:n])
				}
				h.Close()
				reached++
			case errors.Is(err, vfs.ErrOutside), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EBUSY),
				errors.Is(err, unix.ENOTDIR):
				refused++
			default:
				t.Errorf("Open: %v", err)
			}
			if h, _, err := f.Open(ctx, "dir/new", vfs.OpenOptions{Disposition: vfs.CreateNew, Attributes: vfs.AttrHidden}); err == nil {
				_ = h.(vfs.SecurityHolder).SetSecurityRecord(ctx, []byte("inside"))
				_ = h.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: 0o600})
				if s, _, err := h.(vfs.StreamHolder).OpenStream(ctx, "s", vfs.OpenOptions{Disposition: vfs.OpenOrCreate}); err == nil {
					s.Close()
				}
				h.Close()
			}
			if info, err := f.Stat(ctx, "dir/f"); err == nil && info.Size != 2 {
				t.Errorf("Stat by a name beneath the root describes a file of %d bytes", info.Size)
			}
			_ = f.Link(ctx, "dir/f", "dir/link")
			_ = f.Symlink(ctx, "f", "dir/symlink")
			_ = f.Remove(ctx, "dir/symlink", vfs.KindAny)
			_ = f.Remove(ctx, "dir/link", vfs.KindAny)
			_ = f.Mkdir(ctx, "dir/newdir", 0o777)
			_ = f.Rename(ctx, "dir/new", "dir/new2", true)
			_ = f.Remove(ctx, "dir/new2", vfs.KindAny)
			_ = f.Remove(ctx, "dir/newdir", vfs.KindAny)
		}
		close(stop)
		wg.Wait()
		if reached == 0 || refused == 0 {
			t.Errorf("the race was not run: %d opens reached the file, %d were refused", reached, refused)
		}
		assertUntouched(t, outside)
	})
}

// The root is what it was when it was opened, whatever its own name comes to mean.
func TestRootMayBeALink(t *testing.T) {
	outside, root := outsideAndRoot(t)
	link := filepath.Join(filepath.Dir(root), "link")
	must(t, os.Symlink(root, link))
	f := mustNew(t, link, Config{})
	must(t, os.Remove(link))
	must(t, os.Symlink(outside, link)) // the share stays where it was
	if _, err := f.Stat(t.Context(), "f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat after the link was changed: got %v, want ErrNotExist", err)
	}
	if _, err := New(filepath.Join(outside, "f"), Config{}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("serving a file: got %v, want ENOTDIR", err)
	}
	if _, err := New(filepath.Join(outside, "missing"), Config{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("serving nothing: got %v, want ErrNotExist", err)
	}
}

func TestWalkLimits(t *testing.T) {
	root := t.TempDir()
	f := mustNew(t, root, Config{})
	f.res.openat2 = false
	ctx := t.Context()
	name := "d"
	for range maxDepth - 1 {
		name += "/d"
	}
	must(t, os.MkdirAll(filepath.Join(root, name, "d"), 0o755))
	if _, err := f.Stat(ctx, name); err != nil {
		t.Errorf("Stat at depth %d: %v", maxDepth, err)
	}
	if _, err := f.Stat(ctx, name+"/d"); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("Stat at depth %d: got %v, want ENAMETOOLONG", maxDepth+1, err)
	}
	must(t, os.Symlink("l1", filepath.Join(root, "l0")))
	must(t, os.Symlink("l0", filepath.Join(root, "l1")))
	if _, err := f.Stat(ctx, "l0/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("Stat through a loop: got %v, want ELOOP", err)
	}
	if fds := openFDs(t); fds > 200 {
		t.Errorf("%d descriptors are open after refused walks", fds)
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// Every path, refused or not, gives its descriptors back.
func TestNoDescriptorLeaks(t *testing.T) {
	resolvers(t, func(t *testing.T, newFS func(string, Config) *FS) {
		_, root := outsideAndRoot(t)
		must(t, os.Symlink("../outside", filepath.Join(root, "up")))
		must(t, os.MkdirAll(filepath.Join(root, "a/b"), 0o755))
		must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o644))
		f := newFS(root, Config{})
		ctx := t.Context()
		_, _ = f.Stat(ctx, "a/missing") // has the cache of names open its own
		before := openFDs(t)
		for _, name := range []string{"a", "A/B", "a/missing", "missing/x", "up", "up/f", "fifo", "a/new", "fifo/x", strings.Repeat("n", 300)} {
			for _, o := range []vfs.OpenOptions{
				{}, {Access: vfs.AccessRead}, {Access: vfs.AccessWrite, Disposition: vfs.OpenOrCreate},
				{Disposition: vfs.CreateNew, Kind: vfs.KindDir}, {Kind: vfs.KindFile, Disposition: vfs.Overwrite}, {NoFollow: true},
			} {
				if h, _, err := f.Open(ctx, name, o); err == nil {
					h.Close()
				}
			}
			_, _ = f.Stat(ctx, name)
			_, _ = f.Readlink(ctx, name)
			_ = f.Link(ctx, name, "a/link")
			_ = f.Rename(ctx, name, "A/renamed", false)
			_ = f.Remove(ctx, name, vfs.KindAny)
			if w, err := f.Watch(ctx, name, vfs.WatchOptions{Recursive: true}); err == nil {
				w.Close()
			}
		}
		if after := openFDs(t); after != before {
			t.Errorf("%d descriptors are open, %d were before", after, before)
		}
	})
}
