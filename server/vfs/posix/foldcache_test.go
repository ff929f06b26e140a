//go:build linux

package posix

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Names fold to the same key exactly if strings.EqualFold takes them for equal,
// and the comparison without a key agrees.
func TestFold(t *testing.T) {
	names := []string{
		"", "a", "A", "b", "k", "K", "\u212a", "s", "S", "\u017f", "ks", "\u212a\u017f", "Ks", "file.txt", "FILE.TXT",
		"σ", "ς", "Σ", "ß", "ẞ", "ss", "İ", "i", "ı", "I", "å", "Å", "\u212b", "ǆ", "ǅ", "Ǆ", "@", "`", "[", "{", "日本", "f\u0131le",
	}
	for _, a := range names {
		for _, b := range names {
			want := strings.EqualFold(a, b)
			if got := string(vfs.AppendFold(nil, a)) == string(vfs.AppendFold(nil, b)); got != want {
				t.Errorf("%q and %q fold alike: %v, want %v", a, b, got, want)
			}
			m := newFoldMatch(b)
			if got := m.matches([]byte(a)); got != want {
				t.Errorf("%q matches %q: %v, want %v", a, b, got, want)
			}
		}
	}
	for r := rune(1); r <= unicode.MaxRune; r++ {
		f := unicode.SimpleFold(r)
		if f != r && string(vfs.AppendFold(nil, string(r))) != string(vfs.AppendFold(nil, string(f))) {
			t.Errorf("%U and %U fold differently", r, f)
		}
	}
}

// cachedFS serves a directory whose names the cache knows already.
func cachedFS(t *testing.T) (*FS, string) {
	t.Helper()
	root := t.TempDir()
	f := mustNew(t, root, Config{})
	if !trustworthy(f.root.fd) {
		t.Skip("changes of this storage make no dependable events")
	}
	if _, err := f.Stat(t.Context(), "absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if !knowsAbsent(f, "absent") {
		t.Fatal("a name looked for is not known to be absent")
	}
	return f, root
}

// knowsAbsent reports whether the cache answers without the root's being read.
func knowsAbsent(f *FS, name string) bool {
	d, _, adds, state := f.folds.ask(f.root.fd, vfs.AppendFold(nil, name))
	return d != nil && state == foldReady && adds == foldAbsent
}

// What other processes do to a directory counts in the very next lookup.
func TestFoldCacheSeesOthers(t *testing.T) {
	f, root := cachedFS(t)
	ctx := t.Context()
	at := func(name string) string { return filepath.Join(root, name) }
	must(t, os.Mkdir(at("sub"), 0o755))
	must(t, os.WriteFile(at("file"), nil, 0o644))
	for _, c := range []struct {
		what string
		do   func(name string) error
	}{
		{"creat", func(n string) error { return os.WriteFile(at(n), nil, 0o644) }},
		{"mkdir", func(n string) error { return os.Mkdir(at(n), 0o755) }},
		{"mknod", func(n string) error { return unix.Mkfifo(at(n), 0o644) }},
		{"symlink", func(n string) error { return os.Symlink("file", at(n)) }},
		{"link", func(n string) error { return os.Link(at("file"), at(n)) }},
		{"rename", func(n string) error {
			return errors.Join(os.WriteFile(at("old"), nil, 0o644), os.Rename(at("old"), at(n)))
		}},
		{"rename from elsewhere", func(n string) error {
			return errors.Join(os.WriteFile(at("sub/x"), nil, 0o644), os.Rename(at("sub/x"), at(n)))
		}},
		{"exchange", func(n string) error {
			return errors.Join(os.WriteFile(at("sub/"+n), nil, 0o644), os.WriteFile(at("Other"+n), nil, 0o644),
				unix.Renameat2(unix.AT_FDCWD, at("sub/"+n), unix.AT_FDCWD, at("Other"+n), unix.RENAME_EXCHANGE),
				os.Rename(at("Other"+n), at(n)))
		}},
	} {
		for i := range 20 {
			name := fmt.Sprintf("By-%s-%d", c.what, i)
			if !knowsAbsent(f, name) {
				t.Fatalf("%s: %q is not known to be absent beforehand", c.what, name)
			}
			must(t, c.do(name))
			if err := f.Mkdir(ctx, strings.ToUpper(name), 0o777); !errors.Is(err, fs.ErrExist) {
				t.Fatalf("%s of %q by another: making it in capitals gives %v, want ErrExist", c.what, name, err)
			}
			h, res, err := f.Open(ctx, strings.ToUpper(name), vfs.OpenOptions{NoFollow: true})
			if err == nil {
				h.Close()
			}
			if (err != nil || res.Name != name) && !errors.Is(err, vfs.ErrSpecial) {
				t.Fatalf("%s of %q by another: opened as %q, %v", c.what, name, res.Name, err)
			}
			must(t, os.Remove(at(name)))
			if !knowsAbsent(f, name) {
				t.Fatalf("%q is not known to be absent after its removal", name)
			}
		}
	}
	// Moved away, and back in another spelling.
	must(t, os.WriteFile(at("Moved"), nil, 0o644))
	must(t, os.Rename(at("Moved"), at("sub/Moved")))
	if _, err := f.Stat(ctx, "moved"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file moved away: %v, want ErrNotExist", err)
	}
	must(t, os.WriteFile(at("Moved"), nil, 0o644))
	must(t, os.Rename(at("Moved"), at("mOVED")))
	if _, res, err := f.Open(ctx, "moved", vfs.OpenOptions{}); err != nil || res.Name != "mOVED" {
		t.Errorf("a file whose spelling changed is %q, %v; want mOVED", res.Name, err)
	}
	// A rename may leave something behind.
	must(t, os.WriteFile(at("White"), nil, 0o644))
	err := unix.Renameat2(unix.AT_FDCWD, at("White"), unix.AT_FDCWD, at("sub/White"), unix.RENAME_WHITEOUT)
	if err == nil {
		if _, err := f.Stat(ctx, "WHITE"); err != nil {
			t.Errorf("a whiteout: %v, want it found", err)
		}
	}
}

// A name found missing stays known if it has been made again meanwhile.
func TestFoldCacheGoneAndBack(t *testing.T) {
	f, root := cachedFS(t)
	path, key := filepath.Join(root, "Name"), vfs.AppendFold(nil, "Name")
	must(t, os.WriteFile(path, nil, 0o644))
	must(t, os.Rename(path, filepath.Join(root, "elsewhere")))
	d, spelling, adds, _ := f.folds.ask(f.root.fd, key)
	if spelling != "Name" {
		t.Fatalf("the cache has %q, want a name that may be there", spelling)
	}
	must(t, os.WriteFile(path, nil, 0o644))
	f.folds.ask(f.root.fd, key) // somebody else's lookup takes the event
	f.folds.gone(d, key, spelling, adds)
	if _, err := f.Stat(t.Context(), "NAME"); err != nil {
		t.Errorf("a name that came back while it was looked at: %v", err)
	}
}

// A directory that replaces another, perhaps with its inode number, is another.
func TestFoldCacheReplacedDirectory(t *testing.T) {
	f, root := cachedFS(t)
	dir := filepath.Join(root, "d")
	for range 50 {
		must(t, os.Mkdir(dir, 0o755))
		if _, err := f.Stat(t.Context(), "d/NAME"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("in a new directory: %v, want ErrNotExist", err)
		}
		must(t, os.WriteFile(filepath.Join(dir, "name"), nil, 0o644))
		if _, err := f.Stat(t.Context(), "d/NAME"); err != nil {
			t.Fatalf("in a new directory with the name: %v", err)
		}
		must(t, os.RemoveAll(dir))
	}
}

// More events than the kernel keeps are not mistaken for none.
func TestFoldCacheOverflow(t *testing.T) {
	f, root := cachedFS(t)
	var limit int
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	if _, err := fmt.Sscan(string(b), &limit); err != nil || limit > 100_000 {
		t.Skipf("the kernel keeps %d events (%v)", limit, err)
	}
	x, y := filepath.Join(root, "x"), filepath.Join(root, "y")
	must(t, os.WriteFile(x, nil, 0o644))
	for range limit/2 + 1 {
		must(t, os.Rename(x, y))
		must(t, os.Rename(y, x))
	}
	must(t, os.WriteFile(filepath.Join(root, "Last"), nil, 0o644))
	if _, err := f.Stat(t.Context(), "LAST"); err != nil {
		t.Errorf("a file made after events were lost: %v", err)
	}
	if _, err := f.Stat(t.Context(), "absent"); !errors.Is(err, fs.ErrNotExist) || !knowsAbsent(f, "absent") {
		t.Errorf("after events were lost, the directory is not read again (%v)", err)
	}
}

func (c *foldCache) check(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for _, d := range c.dirs {
		names := 0
		for _, name := range d.names {
			names += len(name)
		}
		if d.cost < names || d.cost < 0 {
			t.Errorf("%d names with %d bytes cost %d", len(d.names), names, d.cost)
		}
		total += d.cost
	}
	if total != c.cost || c.cost > maxFoldCost || len(c.dirs) > maxFoldDirs {
		t.Errorf("%d directories cost %d, counted as %d", len(c.dirs), total, c.cost)
	}
}

// The number of directories is bounded, here and in the kernel.
func TestFoldCacheEviction(t *testing.T) {
	f, root := cachedFS(t)
	for round := range 2 {
		for i := range maxFoldDirs + 20 {
			name := fmt.Sprint("d", i)
			if round == 0 {
				must(t, os.Mkdir(filepath.Join(root, name), 0o755))
				must(t, os.WriteFile(filepath.Join(root, name, "Name"), nil, 0o644))
			}
			if _, err := f.Stat(t.Context(), name+"/NAME"); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Stat(t.Context(), name+"/other"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		f.folds.check(t)
		info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.folds.fd))
		must(t, err)
		if n := strings.Count(string(info), "inotify wd:"); n != maxFoldDirs {
			t.Errorf("the kernel watches %d directories, want %d", n, maxFoldDirs)
		}
	}
}

// With the cache or without, and whoever makes the changes, the answers are the same.
func TestFoldCacheAgainstScan(t *testing.T) {
	f, root := cachedFS(t)
	plain := mustNew(t, root, Config{})
	plain.folds.disabled = true
	ctx := t.Context()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	name := func() string {
		b := []byte("abk")[:1+r.IntN(3)]
		for i := range b {
			if r.IntN(2) == 0 {
				b[i] -= 0x20
			}
		}
		return string(b)
	}
	for step := range 3000 {
		a, b := name(), name()
		pa, pb := filepath.Join(root, a), filepath.Join(root, b)
		switch r.IntN(8) {
		case 0:
			_ = os.WriteFile(pa, nil, 0o644)
		case 1, 2:
			_ = os.Remove(pa)
		case 3:
			_ = os.Rename(pa, pb)
		case 4:
			_ = f.Rename(ctx, a, b, r.IntN(2) == 0)
		case 5:
			_ = f.Remove(ctx, a, vfs.KindAny)
		default:
			if h, _, err := f.Open(ctx, a, vfs.OpenOptions{Disposition: vfs.OpenOrCreate}); err == nil {
				h.Close()
			}
		}
		for range 4 {
			n := name()
			got, gerr := f.Stat(ctx, n)
			want, werr := plain.Stat(ctx, n)
			if (gerr == nil) != (werr == nil) || got.ID != want.ID {
				t.Fatalf("step %d: Stat(%q) gives object %v, %v; without the cache, %v, %v", step, n, got.ID, gerr, want.ID, werr)
			}
		}
	}
	f.folds.check(t)
}

// Lookups that fill the cache miss nothing that is made meanwhile.
func TestFoldCacheConcurrent(t *testing.T) {
	f, root := cachedFS(t)
	const count = 400
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() { // waited for below
			for i := range count {
				name := fmt.Sprintf("File-%d-%d", g, i)
				if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
					t.Error(err)
					return
				}
				if _, err := f.Stat(t.Context(), strings.ToLower(name)); err != nil {
					t.Errorf("%q, just made: %v", name, err)
					return
				}
				if i%20 == g { // begin anew
					f.folds.mu.Lock()
					f.folds.reset()
					f.folds.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	f.folds.check(t)
}

// A directory that could be made but not opened does not stay behind.
func TestFailedDirectoryIsGone(t *testing.T) {
	root := t.TempDir()
	must(t, os.Chmod(root, 0o777))
	f := mustNew(t, root, Config{})
	asUser(t, 12345, func() {
		_, _, err := f.Open(t.Context(), "d", vfs.OpenOptions{
			Access: vfs.AccessRead, Disposition: vfs.CreateNew, Kind: vfs.KindDir, Perm: 0o300,
		})
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("making and reading a directory that may not be read: %v, want ErrPermission", err)
		}
	})
	if got := listNames(t, f, "."); len(got) != 0 {
		t.Errorf("the failure left %q", got)
	}
}
