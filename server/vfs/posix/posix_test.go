//go:build linux

package posix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

const rw = vfs.AccessRead | vfs.AccessWrite

func listNames(t *testing.T, f *FS, name string) []string {
	t.Helper()
	h, _, err := f.Open(t.Context(), name, vfs.OpenOptions{Access: vfs.AccessRead})
	must(t, err)
	defer h.Close()
	var names []string
	buf := make([]vfs.DirEntry, 64)
	for cursor := vfs.CursorStart; ; {
		n, err := h.(vfs.Dir).ReadDir(t.Context(), cursor, buf)
		if err == io.EOF {
			slices.Sort(names)
			return names
		}
		must(t, err)
		for _, e := range buf[:n] {
			names = append(names, e.Name)
		}
		cursor = buf[n-1].Cursor
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{{MaxWatchedDirs: -1}, {FileMask: fs.ModeDir}, {DirMask: fs.ModeSetuid | 0o777}} {
		if _, err := New(t.TempDir(), c); err == nil {
			t.Errorf("New with %+v succeeds", c)
		}
	}
	f := mustNew(t, t.TempDir(), Config{FileMask: 0o600, DirMask: 0o700})
	h, _, err := f.Open(t.Context(), "f", vfs.OpenOptions{Disposition: vfs.CreateNew})
	must(t, err)
	defer h.Close()
	must(t, f.Mkdir(t.Context(), "d", 0o777))
	for name, want := range map[string]fs.FileMode{"f": 0o600, "d": 0o700} {
		if info, err := f.Stat(t.Context(), name); err != nil || info.Mode.Perm() != want {
			t.Errorf("%s is made with mode %v, %v; want %v", name, info.Mode, err, want)
		}
	}
}

// Opening a FIFO, socket or device is refused and does not wait; everything
// else can be done with the name.
func TestSpecialFiles(t *testing.T) {
	root := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o666))
	l, err := net.Listen("unix", filepath.Join(root, "socket"))
	must(t, err)
	defer l.Close()
	special := map[string]fs.FileMode{"fifo": fs.ModeNamedPipe, "socket": fs.ModeSocket}
	if unix.Mknod(filepath.Join(root, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil {
		special["null"] = fs.ModeDevice | fs.ModeCharDevice
	}
	f := mustNew(t, root, Config{})
	ctx := t.Context()
	for name, typ := range special {
		info, err := f.Stat(ctx, name)
		if err != nil || info.Mode.Type() != typ {
			t.Errorf("Stat(%q) = %v, %v; want %v", name, info.Mode, err, typ)
		}
		for _, o := range []vfs.OpenOptions{
			{}, {Access: vfs.AccessRead}, {Access: vfs.AccessWrite}, {Access: rw, Disposition: vfs.OpenOrCreate},
			{Disposition: vfs.Overwrite}, {NoFollow: true},
		} {
			if _, _, err := f.Open(ctx, name, o); !errors.Is(err, vfs.ErrSpecial) {
				t.Errorf("Open(%q, %+v): got %v, want ErrSpecial", name, o, err)
			}
		}
		must(t, f.Rename(ctx, name, "moved", false))
		must(t, f.Remove(ctx, "moved", vfs.KindFile))
	}
	if !errors.Is(vfs.ErrSpecial, fs.ErrPermission) {
		t.Error("ErrSpecial does not match fs.ErrPermission")
	}
}

func TestReadOnly(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "f"), []byte("x"), 0o644))
	must(t, os.Mkdir(filepath.Join(root, "d"), 0o755))
	f := mustNew(t, root, Config{ReadOnly: true})
	ctx := t.Context()
	h, _, err := f.Open(ctx, "f", vfs.OpenOptions{Access: vfs.AccessRead, Disposition: vfs.OpenOrCreate})
	must(t, err)
	defer h.Close()
	x := h.(vfs.Xattrer)
	errs := map[string]error{
		"Mkdir":       f.Mkdir(ctx, "n", 0o777),
		"Remove":      f.Remove(ctx, "f", vfs.KindAny),
		"RemoveIf":    f.RemoveIf(ctx, "f", vfs.FileID{}),
		"Rename":      f.Rename(ctx, "f", "g", true),
		"Link":        f.Link(ctx, "f", "g"),
		"Symlink":     f.Symlink(ctx, "f", "g"),
		"SetAttr":     h.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: 0o600}),
		"SetXattr":    x.SetXattr(ctx, "a", nil),
		"RemoveXattr": x.RemoveXattr(ctx, "a"),

		"SetSecurityRecord": h.(vfs.SecurityHolder).SetSecurityRecord(ctx, []byte("x")),
		"RemoveStream":      h.(vfs.StreamHolder).RemoveStream(ctx, "there"),
		"RenameStream":      h.(vfs.StreamHolder).RenameStream(ctx, "there", "s", true),
	}
	for what, o := range map[string]vfs.OpenOptions{
		"OpenStream to create":    {Disposition: vfs.OpenOrCreate},
		"OpenStream to write":     {Access: vfs.AccessWrite},
		"OpenStream to overwrite": {Disposition: vfs.Overwrite},
	} {
		_, _, errs[what] = h.(vfs.StreamHolder).OpenStream(ctx, "s", o)
	}
	for what, o := range map[string]vfs.OpenOptions{
		"Open to write":     {Access: vfs.AccessWrite},
		"Open to overwrite": {Disposition: vfs.Overwrite},
	} {
		_, _, errs[what] = f.Open(ctx, "f", o)
	}
	for what, o := range map[string]vfs.OpenOptions{
		"CreateNew":              {Disposition: vfs.CreateNew},
		"OpenOrCreate":           {Disposition: vfs.OpenOrCreate},
		"CreateNew of directory": {Disposition: vfs.CreateNew, Kind: vfs.KindDir},
	} {
		_, _, errs[what] = f.Open(ctx, "new", o)
	}
	for what, err := range errs {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: got %v, want EROFS", what, err)
		}
	}
	if st, err := f.Statfs(ctx); err != nil || !st.ReadOnly {
		t.Errorf("Statfs says ReadOnly is %v, %v", st.ReadOnly, err)
	}
	if got := listNames(t, f, "."); !slices.Equal(got, []string{"d", "f"}) {
		t.Errorf("after refusals, there is %q", got)
	}
}

// asUser runs do with another user's rights on files, if this process may.
func asUser(t *testing.T, uid int, do func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can act as somebody else")
	}
	done := make(chan bool)
	go func() { // ends with do
		defer close(done)
		// The thread is not given back: it ends with the goroutine.
		runtime.LockOSThread()
		if _, err := unix.SetfsgidRetGid(uid); err != nil {
			return
		}
		if _, err := unix.SetfsuidRetUid(uid); err != nil {
			return
		}
		do()
		done <- true
	}()
	if !<-done {
		t.Fatal("the rights could not be changed")
	}
}

func TestPermissions(t *testing.T) {
	resolvers(t, func(t *testing.T, newFS func(string, Config) *FS) {
		root := t.TempDir()
		for _, d := range []struct {
			name string
			mode fs.FileMode
		}{{".", 0o755}, {"closed", 0o700}, {"blind", 0o711}, {"open", 0o777}, {"sticky", 0o777 | fs.ModeSticky}} {
			must(t, os.MkdirAll(filepath.Join(root, d.name), 0o755))
			must(t, os.WriteFile(filepath.Join(root, d.name, "f"), []byte("x"), 0o600))
			must(t, os.WriteFile(filepath.Join(root, d.name, "r"), []byte("x"), 0o644))
			must(t, os.Chmod(filepath.Join(root, d.name), d.mode))
		}
		f := newFS(root, Config{})
		ctx := t.Context()
		asUser(t, 12345, func() {
			open := func(name string, o vfs.OpenOptions) error {
				h, _, err := f.Open(ctx, name, o)
				if err == nil {
					h.Close()
				}
				return err
			}
			stat := func(name string) error { _, err := f.Stat(ctx, name); return err }
			for what, err := range map[string]error{
				"Open of another's file":             open("open/f", vfs.OpenOptions{Access: vfs.AccessRead}),
				"Open to write what may be read":     open("open/r", vfs.OpenOptions{Access: rw}),
				"Overwrite of what may be read":      open("open/r", vfs.OpenOptions{Disposition: vfs.Overwrite}),
				"Stat in a closed directory":         stat("closed/f"),
				"Listing a directory without r":      open("blind", vfs.OpenOptions{Access: vfs.AccessRead}),
				"creation in another's directory":    open("new", vfs.OpenOptions{Disposition: vfs.CreateNew}),
				"Mkdir in another's directory":       f.Mkdir(ctx, "new", 0o777),
				"removal from a sticky directory":    f.Remove(ctx, "sticky/f", vfs.KindFile),
				"renaming out of another's":          f.Rename(ctx, "f", "open/new", false),
				"removal from another's, any case":   f.Remove(ctx, "F", vfs.KindFile),
				"exclusive creation, where it fails": open("closed/new", vfs.OpenOptions{Disposition: vfs.CreateNew}),
			} {
				if !errors.Is(err, fs.ErrPermission) {
					t.Errorf("%s: got %v, want fs.ErrPermission", what, err)
				}
			}
			if err := stat("blind/missing"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Stat of nothing in a directory that cannot be listed: got %v, want fs.ErrNotExist", err)
			}
			for what, err := range map[string]error{
				"Open to read":               open("open/r", vfs.OpenOptions{Access: vfs.AccessRead}),
				"Open for metadata":          open("open/f", vfs.OpenOptions{}),
				"Stat in a blind directory":  stat("blind/f"),
				"creation in an open one":    open("open/new", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew, Perm: 0o400}),
				"removal in an open one":     f.Remove(ctx, "open/f", vfs.KindFile),
				"Mkdir in an open one":       f.Mkdir(ctx, "open/d", 0o777),
				"metadata of a closed one":   open("closed", vfs.OpenOptions{}),
				"renaming in an open one":    f.Rename(ctx, "open/d", "open/e", false),
				"opening one's own to write": open("open/e", vfs.OpenOptions{Access: vfs.AccessRead}),
			} {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	})
}

// Names that no client can spell are skipped, and cannot be reached.
func TestUnspeakableNames(t *testing.T) {
	root := t.TempDir()
	f := mustNew(t, root, Config{})
	ctx := t.Context()
	w, err := f.Watch(ctx, ".", vfs.WatchOptions{Changes: vfs.ChangeFileName})
	must(t, err)
	defer w.Close()
	for _, name := range []string{"latin1-\xe9", `back\slash`, "fine"} {
		must(t, os.WriteFile(filepath.Join(root, name), nil, 0o644))
	}
	if got := listNames(t, f, "."); !slices.Equal(got, []string{"fine"}) {
		t.Errorf("listing has %q, want only what is fine", got)
	}
	if _, err := f.Stat(ctx, "LATIN1-\ufffd"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat with the replacement character: got %v, want ErrNotExist", err)
	}
	wctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ev := make([]vfs.Event, 4)
	n, err := w.Next(wctx, ev)
	if n != 1 || err != nil || ev[0].Name != "fine" {
		t.Errorf("events are %v, %v; want one, for what is fine", ev[:n], err)
	}
}

// 10,000 entries are listed completely, and looked at through the directory.
func TestBigDirectory(t *testing.T) {
	const count = 10_000
	root := t.TempDir()
	var want []string
	for i := range count {
		name := fmt.Sprintf("%05d", i)
		want = append(want, name)
		must(t, os.Symlink(".", filepath.Join(root, name)))
	}
	f := mustNew(t, root, Config{})
	if got := listNames(t, f, "."); !slices.Equal(got, want) {
		t.Errorf("%d names are listed, want each of %d once", len(got), count)
	}
	h, _, err := f.Open(t.Context(), ".", vfs.OpenOptions{Access: vfs.AccessRead})
	must(t, err)
	defer h.Close()
	for _, name := range want[:100] {
		if info, err := h.(vfs.Dir).Lstat(t.Context(), name); err != nil || info.Mode.Type() != fs.ModeSymlink {
			t.Fatalf("Lstat(%q) = %v, %v; want a link", name, info.Mode, err)
		}
	}
}

func TestExactSpellingWins(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"name", "NAME", "Name"} {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o644))
	}
	f := mustNew(t, root, Config{})
	for _, name := range []string{"name", "NAME", "Name"} {
		h, res, err := f.Open(t.Context(), name, vfs.OpenOptions{Access: vfs.AccessRead})
		must(t, err)
		b := make([]byte, 8)
		n, _ := h.ReadAt(b, 0)
		h.Close()
		if res.Name != name || string(b[:n]) != name {
			t.Errorf("Open(%q) gives %q with content %q", name, res.Name, b[:n])
		}
	}
	if err := f.Rename(t.Context(), "name", "NAME", false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("renaming onto an exact name that differs by case: got %v, want ErrExist", err)
	}
}

func TestWatchLimit(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "a/b/c"), 0o755))
	f := mustNew(t, root, Config{MaxWatchedDirs: 3})
	ctx := t.Context()
	if _, err := f.Watch(ctx, ".", vfs.WatchOptions{Recursive: true}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("watching four directories of three: got %v, want ENOSPC", err)
	}
	// The refusal left nothing behind: three fit, and a fourth is told of.
	w, err := f.Watch(ctx, "a", vfs.WatchOptions{Recursive: true, Changes: vfs.ChangeDirName})
	must(t, err)
	defer w.Close()
	must(t, os.Mkdir(filepath.Join(root, "a/d"), 0o755))
	wctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := w.Next(wctx, make([]vfs.Event, 4)); !errors.Is(err, vfs.ErrOverflow) {
		t.Errorf("a directory too many: got %v, want ErrOverflow", err)
	}
}

// A directory that is renamed at once after its creation is still followed.
func TestWatchRenamedBeforeSeen(t *testing.T) {
	root := t.TempDir()
	f := mustNew(t, root, Config{})
	ctx := t.Context()
	w, err := f.Watch(ctx, ".", vfs.WatchOptions{Recursive: true, Changes: vfs.ChangeFileName})
	must(t, err)
	defer w.Close()
	wctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for i := range 50 {
		a, b := filepath.Join(root, fmt.Sprint("a", i)), filepath.Join(root, fmt.Sprint("b", i))
		must(t, os.Mkdir(a, 0o755))
		must(t, os.Rename(a, b))
		must(t, os.WriteFile(filepath.Join(b, "f"), nil, 0o644))
	}
	missing := make(map[string]bool)
	for i := range 50 {
		missing[fmt.Sprintf("b%d/f", i)] = true
	}
	ev := make([]vfs.Event, 16)
	for len(missing) > 0 {
		n, err := w.Next(wctx, ev)
		if err != nil {
			t.Fatalf("%v, with %d files not reported", err, len(missing))
		}
		for _, e := range ev[:n] {
			delete(missing, e.Name)
		}
	}
}

// After the kernel has lost events, a recursive watch knows the directories that
// they were about, by their names of now.
func TestWatchRefreshed(t *testing.T) {
	var limit int
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	if _, err := fmt.Sscan(string(b), &limit); err != nil || limit > 100_000 {
		t.Skipf("the kernel keeps %d events (%v)", limit, err)
	}
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	must(t, os.MkdirAll(at("old/below"), 0o755))
	must(t, os.Mkdir(at("gone"), 0o755))
	f := mustNew(t, root, Config{})
	w, err := f.Watch(t.Context(), ".", vfs.WatchOptions{Recursive: true, Changes: vfs.ChangeDirName})
	must(t, err)
	defer w.Close()
	wctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	f.watcher.mu.Lock() // stops the reader
	must(t, os.WriteFile(at("x"), nil, 0o644))
	for range limit/2 + 2048 { // it may have read a buffer full before it stopped
		must(t, os.Rename(at("x"), at("y")))
		must(t, os.Rename(at("y"), at("x")))
	}
	must(t, os.Mkdir(at("late"), 0o755))
	must(t, os.Rename(at("old"), at("new")))
	must(t, os.Remove(at("gone")))
	f.watcher.mu.Unlock()

	ev := make([]vfs.Event, 1)
	if n, err := w.Next(wctx, ev); !errors.Is(err, vfs.ErrOverflow) {
		t.Fatalf("after more events than the kernel keeps: %v, %v; want ErrOverflow", ev[:n], err)
	}
	for _, name := range []string{"late/x", "new/x", "new/below/x", "x.d"} {
		must(t, os.Mkdir(at(name), 0o755))
		n, err := w.Next(wctx, ev)
		if want := (vfs.Event{Action: vfs.Added, Change: vfs.ChangeDirName, Name: name}); err != nil || ev[0] != want {
			t.Fatalf("after the loss: %v, %v; want %v", ev[:n], err, want)
		}
	}
	f.watcher.mu.Lock()
	defer f.watcher.mu.Unlock()
	if n := len(f.watcher.cur.nodes); n != 8 { // the root, late, new, below and the new four
		t.Errorf("%d directories are watched, want 8", n)
	}
}

func BenchmarkReadAt(b *testing.B) {
	root := b.TempDir()
	if err := os.WriteFile(filepath.Join(root, "f"), make([]byte, 1<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	f, err := New(root, Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h, _, err := f.Open(b.Context(), "f", vfs.OpenOptions{Access: vfs.AccessRead})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	buf := make([]byte, 64<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.ReadAt(buf, 4096); err != nil {
			b.Fatal(err)
		}
	}
}

// A view tells names apart by case where the FS does not, in both directions.
func TestCaseSensitiveView(t *testing.T) {
	ctx := context.Background()
	f, err := New(t.TempDir(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v := f.CaseSensitive()
	if vfs.Base(v) != vfs.Base(f) {
		t.Error("the view is of another storage")
	}
	if err := f.Mkdir(ctx, "Dir", 0o777); err != nil {
		t.Fatal(err)
	}
	open := func(fsys vfs.FS, name string, d vfs.Disposition) (string, error) {
		file, res, err := fsys.Open(ctx, name, vfs.OpenOptions{Disposition: d})
		if err == nil {
			err = file.Close()
		}
		return res.Name, err
	}
	if name, err := open(f, "dir/File", vfs.CreateNew); err != nil || name != "Dir/File" {
		t.Fatalf("created %q, %v", name, err)
	}
	for _, name := range []string{"dir/File", "Dir/file"} {
		if _, err := open(v, name, vfs.OpenExisting); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s in the view: %v, want not there", name, err)
		}
		if _, err := open(f, name, vfs.OpenExisting); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if name, err := open(v, "Dir/file", vfs.CreateNew); err != nil || name != "Dir/file" {
		t.Errorf("another spelling beside it: %q, %v", name, err)
	}
	if _, err := open(f, "Dir/FILE", vfs.CreateNew); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a third one without the view: %v, want a collision", err)
	}
}
