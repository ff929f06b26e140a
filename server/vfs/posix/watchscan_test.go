//go:build linux

package posix

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// pausing is a context that holds up who asks it whether it has ended, from the second
// time on: a scan asks at each directory.
type pausing struct {
	context.Context
	asked  chan struct{}
	goOn   chan struct{}
	first  sync.Once
	second sync.Once
}

func (p *pausing) Err() error {
	isFirst := false
	p.first.Do(func() { isFirst = true })
	if !isFirst {
		p.second.Do(func() { close(p.asked) })
		<-p.goOn
	}
	return p.Context.Err()
}

func watchOf(t *testing.T, f *FS, ctx context.Context, dir string, recursive bool) vfs.Watch {
	t.Helper()
	w, err := f.Watch(ctx, dir, vfs.WatchOptions{Changes: vfs.ChangeFileName | vfs.ChangeDirName, Recursive: recursive, QueueLen: 4096})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// next returns the names of events until one has the suffix.
func next(t *testing.T, w vfs.Watch, last string) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	buf := make([]vfs.Event, 16)
	for {
		n, err := w.Next(ctx, buf)
		if err != nil {
			t.Fatalf("%v after %q, waiting for %s", err, names, last)
		}
		for _, e := range buf[:n] {
			names = append(names, e.Name)
			if strings.HasSuffix(e.Name, last) {
				return names
			}
		}
	}
}

// A recursive watch that has much to read holds up no other: they begin, see what happens,
// and end meanwhile.
func TestWatchesWhileOneReadsItsTree(t *testing.T) {
	root := t.TempDir()
	f, err := New(root, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, d := range []string{"deep/a/b", "other"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	ctx := &pausing{Context: t.Context(), asked: make(chan struct{}), goOn: make(chan struct{})}
	started := make(chan vfs.Watch)
	go func() { started <- watchOf(t, f, ctx, "deep", true) }()
	<-ctx.asked
	other := watchOf(t, f, t.Context(), "other", false)
	if err := os.Mkdir(filepath.Join(root, "other/seen"), 0o777); err != nil {
		t.Fatal(err)
	}
	next(t, other, "seen")
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	// What comes and goes meanwhile is where it is in the end.
	if err := os.Rename(filepath.Join(root, "deep/a"), filepath.Join(root, "deep/c")); err != nil {
		t.Fatal(err)
	}
	close(ctx.goOn)
	deep := <-started
	defer deep.Close()
	if err := os.Mkdir(filepath.Join(root, "deep/c/b/seen"), 0o777); err != nil {
		t.Fatal(err)
	}
	if names := next(t, deep, "seen"); names[len(names)-1] != "c/b/seen" || slices.Contains(names, "c/b") {
		t.Errorf("events for %q, want the renames and c/b/seen", names)
	}
}

// asking is a context that tells, each time that it is asked whether it has ended, how
// often it was: a scan asks at each directory.
type asking struct {
	context.Context
	n    int
	asks func(n int)
}

func (a *asking) Err() error {
	a.n++
	a.asks(a.n)
	return a.Context.Err()
}

// listed returns the names of a directory in the order in which the storage tells them.
func listed(t *testing.T, dir string) []string {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A directory that a new watch has come to, but not to what is beneath it, is renamed so
// that the watch begins anew, and once more so that the second reading misses it: what is
// beneath it is watched in the end.
func TestWatchMissesDirectoryAtSecondReading(t *testing.T) {
	root := t.TempDir()
	f, err := New(root, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 4 {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprintf("d%d", i), "x"), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	all := watchOf(t, f, t.Context(), vfs.Root, true)
	defer all.Close()
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
			t.Fatal(err)
		}
		next(t, all, to) // what the kernel says of it was heard
	}
	order := listed(t, root)
	victim, other := order[0], order[1]
	// Asked before all, for the root, the victim and what is beneath it, and again as something
	// was renamed; the second time for the root and what is read first.
	const beneath, second = 4, 7
	ctx := &asking{Context: t.Context()}
	ctx.asks = func(n int) {
		switch n {
		case beneath:
			for i := 0; i == 0 || listed(t, root)[0] == victim; i++ { // it must not be what is read first
				to := fmt.Sprintf("v%d", i)
				rename(victim, to)
				victim = to
				to = fmt.Sprintf("o%d", i)
				rename(other, to)
				other = to
			}
		case second:
			rename(victim, "last")
		}
	}
	w := watchOf(t, f, ctx, vfs.Root, true)
	defer w.Close()
	if ctx.n < second {
		t.Fatalf("the watch looked at %d directories, want a second reading", ctx.n)
	}
	if err := os.Mkdir(filepath.Join(root, "last/x/seen"), 0o777); err != nil {
		t.Fatal(err)
	}
	next(t, w, "last/x/seen")
}

// What comes into a new directory that is renamed before it has been read is reported
// under the name that it has then.
func TestWatchReadsNewDirectoryThatIsRenamed(t *testing.T) {
	root := t.TempDir()
	f, err := New(root, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := watchOf(t, f, t.Context(), vfs.Root, true)
	defer all.Close()
	w, in := all.(*watch), f.watcher.cur
	in.handling.Lock() // the test reads, in place of the reader
	if err := os.MkdirAll(filepath.Join(root, "a/x"), 0o777); err != nil {
		t.Fatal(err)
	}
	ctx := &asking{Context: t.Context()}
	ctx.asks = func(n int) {
		if n > 1 {
			return
		}
		if err := os.Rename(filepath.Join(root, "a"), filepath.Join(root, "b")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "b/f"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	parent, err := in.openRel(w, "")
	if err != nil {
		t.Fatal(err)
	}
	s := scan{in: in, w: w, reader: true, isNew: true}
	err = s.child(ctx, parent, "a", "a", 1, 0)
	unix.Close(parent)
	if err != nil || len(s.news) != 0 {
		t.Errorf("%v, %v is news", err, s.news)
	}
	in.handling.Unlock()
	next(t, all, "b/f")
	if err := os.Mkdir(filepath.Join(root, "b/x/seen"), 0o777); err != nil {
		t.Fatal(err)
	}
	next(t, all, "b/x/seen")
}

// However directories are renamed while recursive watches begin and end, each directory
// has the right name in each watch, and none is left when all have ended.
func TestWatchesWhileDirectoriesAreRenamed(t *testing.T) {
	root := t.TempDir()
	f, err := New(root, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const dirs, depth = 8, 3
	for i := range dirs {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprintf("d%d", i), "x/y"), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "quiet"), 0o777); err != nil {
		t.Fatal(err)
	}
	quiet := watchOf(t, f, t.Context(), "quiet", false)
	defer quiet.Close()
	all := watchOf(t, f, t.Context(), vfs.Root, true)
	defer all.Close()
	stop := make(chan struct{})
	var renaming sync.WaitGroup
	renaming.Go(func() { // ends with stop
		for i := range 4000 { // two events each: fewer than the kernel keeps
			select {
			case <-stop:
				return
			default:
			}
			from, to := filepath.Join(root, fmt.Sprintf("d%d", i%dirs)), filepath.Join(root, fmt.Sprintf("e%d", i%dirs))
			if i/dirs%2 == 1 {
				from, to = to, from
			}
			if err := os.Rename(from, to); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var watches []vfs.Watch
	for i := range 200 {
		w := watchOf(t, f, t.Context(), vfs.Root, true)
		if i%20 == 0 {
			watches = append(watches, w)
		} else if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	renaming.Wait()
	if err := os.Mkdir(filepath.Join(root, "quiet/last"), 0o777); err != nil {
		t.Fatal(err)
	}
	next(t, quiet, "last") // all before it has been heard of
	f.watcher.mu.Lock()
	in := f.watcher.cur
	f.watcher.mu.Unlock()
	in.handling.Lock()
	f.watcher.mu.Lock()
	if want := 3 + dirs*depth; len(in.nodes) != want {
		t.Errorf("%d directories are watched, want %d", len(in.nodes), want)
	}
	for _, w := range append(watches, all) {
		w := w.(*watch)
		if len(w.nodes) != len(in.nodes) {
			t.Errorf("a watch has %d directories of %d", len(w.nodes), len(in.nodes))
		}
		for n := range w.nodes {
			dir, err := os.Open(filepath.Join(root, n.refs[w]))
			if err != nil {
				t.Errorf("a watch calls a directory what it is not: %v", err)
				continue
			}
			wd, err := in.fd(func(fd int) (int, error) { return unix.InotifyAddWatch(fd, procPath(int(dir.Fd())), w.mask()) })
			if err != nil || int32(wd) != n.wd {
				t.Errorf("%s is another directory for a watch (%v)", n.refs[w], err)
			}
			dir.Close()
		}
	}
	f.watcher.mu.Unlock()
	in.handling.Unlock()
	for _, w := range watches {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	f.watcher.mu.Lock()
	defer f.watcher.mu.Unlock()
	for _, n := range in.nodes {
		_, more := n.refs[quiet.(*watch)]
		if _, ours := n.refs[all.(*watch)]; !ours || len(n.refs) > 1 && !more {
			t.Errorf("%q is in %d watches, one is left", n.refs[all.(*watch)], len(n.refs))
		}
	}
}
