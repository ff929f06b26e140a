//go:build linux

package posix

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// The users of these tests need not exist; ada is in the group staff, bob is not.
const (
	ada, bob, staff = 71001, 71002, 71003
)

// views serves root for ada and for bob.
func views(t *testing.T, f *FS) (asAda, asBob vfs.FS) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may act as somebody else")
	}
	asAda, err := f.As(vfs.Credentials{UID: ada, GID: ada, Groups: []uint32{staff}})
	must(t, err)
	asBob, err = f.As(vfs.Credentials{UID: bob, GID: bob})
	must(t, err)
	return asAda, asBob
}

// reachable makes the directories above a test's own passable for everybody.
func reachable(t *testing.T, root string) {
	t.Helper()
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
}

func openAs(t *testing.T, f vfs.FS, name string, o vfs.OpenOptions) error {
	t.Helper()
	h, _, err := f.Open(t.Context(), name, o)
	if err == nil {
		must(t, h.Close())
	}
	return err
}

// What users create is theirs, and what others may not do is refused: for every
// call that takes a name.
func TestTwoUsers(t *testing.T) {
	resolvers(t, func(t *testing.T, newFS func(string, Config) *FS) {
		root := t.TempDir()
		reachable(t, root)
		must(t, os.Chmod(root, 0o777))
		f := newFS(root, Config{})
		a, b := views(t, f)
		ctx := t.Context()
		must(t, a.Mkdir(ctx, "private", 0o700))
		must(t, a.Mkdir(ctx, "shown", 0o755))
		must(t, openAs(t, a, "shown/f", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew, Perm: 0o600}))
		must(t, openAs(t, a, "shown/r", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew, Perm: 0o644}))
		must(t, openAs(t, a, "private/f", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew, Attributes: vfs.AttrHidden}))
		must(t, openAs(t, a, "private/d", vfs.OpenOptions{Disposition: vfs.CreateNew, Kind: vfs.KindDir}))
		must(t, a.(vfs.Symlinker).Symlink(ctx, "f", "private/l"))
		for _, name := range []string{"private", "shown", "shown/f", "private/f", "private/d", "private/l"} {
			info, err := f.Lstat(ctx, name)
			if err != nil || info.UID != ada || info.GID != ada {
				t.Errorf("%s belongs to %d:%d, %v; want %d:%d", name, info.UID, info.GID, err, ada, ada)
			}
		}
		if info, err := a.Stat(ctx, "private/F"); err != nil || info.Attributes != vfs.AttrHidden {
			t.Errorf("what is created hidden has attributes %#x, %v", info.Attributes, err)
		}
		_, statErr := b.Stat(ctx, "private/f")
		_, lstatErr := b.Lstat(ctx, "private/l")
		_, linkErr := b.(vfs.Symlinker).Readlink(ctx, "private/l")
		_, watchErr := b.(vfs.Watcher).Watch(ctx, "private", vfs.WatchOptions{})
		for what, err := range map[string]error{
			"Stat":                      statErr,
			"Lstat":                     lstatErr,
			"Readlink":                  linkErr,
			"Watch":                     watchErr,
			"listing":                   openAs(t, b, "private", vfs.OpenOptions{Access: vfs.AccessRead}),
			"Open":                      openAs(t, b, "private/f", vfs.OpenOptions{}),
			"Open in another case":      openAs(t, b, "PRIVATE/F", vfs.OpenOptions{}),
			"reading":                   openAs(t, b, "shown/f", vfs.OpenOptions{Access: vfs.AccessRead}),
			"writing what may be read":  openAs(t, b, "shown/r", vfs.OpenOptions{Access: rw}),
			"overwriting":               openAs(t, b, "shown/r", vfs.OpenOptions{Disposition: vfs.Overwrite}),
			"creating":                  openAs(t, b, "shown/new", vfs.OpenOptions{Disposition: vfs.OpenOrCreate}),
			"Mkdir":                     b.Mkdir(ctx, "shown/new", 0o777),
			"Symlink":                   b.(vfs.Symlinker).Symlink(ctx, "x", "shown/new"),
			"Link":                      b.(vfs.Linker).Link(ctx, "shown/r", "shown/new"),
			"Remove":                    b.Remove(ctx, "shown/f", vfs.KindFile),
			"Remove of a directory":     b.Remove(ctx, "private/d", vfs.KindDir),
			"Rename":                    b.Rename(ctx, "shown/f", "mine", false),
			"Rename of another's in it": b.Rename(ctx, "private/f", "shown/f", true),
		} {
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s by another: got %v, want fs.ErrPermission", what, err)
			}
		}
		must(t, openAs(t, b, "shown/r", vfs.OpenOptions{Access: vfs.AccessRead}))
		must(t, a.Rename(ctx, "private/f", "shown/moved", false))
		must(t, a.Remove(ctx, "private/d", vfs.KindDir))
		must(t, b.Mkdir(ctx, "bobs", 0o700))
		if err := a.Remove(ctx, "bobs/x", vfs.KindAny); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Remove in bob's by ada: got %v, want fs.ErrPermission", err)
		}
	})
}

// A handle keeps the rights that it was opened with; what its calls check is
// what vfs.Impersonator says.
func TestHandlesOfUsers(t *testing.T) {
	root := t.TempDir()
	reachable(t, root)
	must(t, os.Chmod(root, 0o777))
	f := mustNew(t, root, Config{})
	a, b := views(t, f)
	ctx := t.Context()
	must(t, openAs(t, a, "f", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew, Perm: 0o644}))
	h, _, err := b.Open(ctx, "f", vfs.OpenOptions{Access: vfs.AccessRead})
	must(t, err)
	defer h.Close()
	x, st := h.(vfs.Xattrer), h.(vfs.StreamHolder)
	_, _, create := st.OpenStream(ctx, "s", vfs.OpenOptions{Disposition: vfs.OpenOrCreate})
	_, _, write := st.OpenStream(ctx, "s", vfs.OpenOptions{Access: vfs.AccessWrite})
	for what, err := range map[string]error{
		"chmod":            h.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: 0o777}),
		"chown":            h.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetOwner, UID: bob, GID: bob}),
		"SetXattr":         x.SetXattr(ctx, "a", []byte("1")),
		"creating streams": create,
		"writing streams":  write,
		"removing streams": st.RemoveStream(ctx, "s"),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s of what may only be read: got %v, want fs.ErrPermission", what, err)
		}
	}
	own, _, err := a.Open(ctx, "f", vfs.OpenOptions{Access: rw})
	must(t, err)
	defer own.Close()
	must(t, own.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: 0o600}))
	must(t, own.(vfs.Xattrer).SetXattr(ctx, "a", []byte("1")))
	s, _, err := own.(vfs.StreamHolder).OpenStream(ctx, "s", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew})
	must(t, err)
	defer s.Close()
	if _, err := s.WriteAt([]byte("x"), 0); err != nil {
		t.Errorf("writing one's own stream: %v", err)
	}
	if _, err := x.Xattr(ctx, "a"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("reading an attribute of what may no longer be read: got %v, want fs.ErrPermission", err)
	}
	// What is left to the caller to check.
	must(t, h.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetAttributes, Attributes: vfs.AttrHidden}))
	must(t, h.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetOwner, UID: bob, GID: ada, Privileged: true}))
	if info, err := h.Stat(ctx); err != nil || info.UID != bob || info.Attributes != vfs.AttrHidden {
		t.Errorf("after that, the file is %+v, %v; want bob's, and hidden", info, err)
	}
	if vfs.Base(a) != vfs.FS(f) || vfs.Base(b) != vfs.Base(a) || vfs.Base(f) != vfs.FS(f) {
		t.Error("views do not know their base")
	}
	rc, ok := own.(vfs.RangeCopier)
	src, _, err := f.Open(ctx, "f", vfs.OpenOptions{Access: rw})
	must(t, err)
	defer src.Close()
	if _, err := src.WriteAt([]byte("12"), 0); err != nil || !ok {
		t.Fatal(err, ok)
	}
	if _, err := rc.CopyRange(ctx, 8, src, 0, 2); err != nil {
		t.Errorf("copying between views: %v", err)
	}
}

// A user's recursive watch sees what he may look at, also in what comes later.
func TestWatchOfUser(t *testing.T) {
	root := t.TempDir()
	reachable(t, root)
	must(t, os.Chmod(root, 0o777))
	f := mustNew(t, root, Config{})
	a, b := views(t, f)
	ctx := t.Context()
	must(t, b.Mkdir(ctx, "old", 0o700))
	w, err := a.(vfs.Watcher).Watch(ctx, ".", vfs.WatchOptions{Recursive: true, Changes: vfs.ChangeFileName | vfs.ChangeDirName})
	must(t, err)
	defer w.Close()
	must(t, b.Mkdir(ctx, "new", 0o700))
	must(t, b.Mkdir(ctx, "shown", 0o755))
	for _, name := range []string{"old/f", "new/f", "shown/f"} {
		must(t, openAs(t, b, name, vfs.OpenOptions{Disposition: vfs.CreateNew}))
	}
	must(t, a.Mkdir(ctx, "last", 0o777))
	seen := map[string]bool{}
	wctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for buf := make([]vfs.Event, 8); !seen["last"]; {
		n, err := w.Next(wctx, buf)
		must(t, err)
		for _, e := range buf[:n] {
			seen[e.Name] = true
		}
	}
	want := map[string]bool{"new": true, "shown": true, "shown/f": true, "last": true}
	if !maps.Equal(seen, want) {
		t.Errorf("ada sees %v, want %v", seen, want)
	}
}

// Groups count: ada's supplementary ones, and nobody else's.
func TestGroupsOfUsers(t *testing.T) {
	root := t.TempDir()
	reachable(t, root)
	f := mustNew(t, root, Config{})
	a, b := views(t, f)
	for name, gid := range map[string]int{"staff": staff, "root": 0} {
		must(t, os.WriteFile(filepath.Join(root, name), []byte("x"), 0o640))
		must(t, os.Chown(filepath.Join(root, name), 0, gid))
		must(t, os.Chmod(filepath.Join(root, name), 0o640))
	}
	must(t, openAs(t, a, "staff", vfs.OpenOptions{Access: vfs.AccessRead}))
	for what, err := range map[string]error{
		"bob in staff": openAs(t, b, "staff", vfs.OpenOptions{Access: vfs.AccessRead}),
		"ada in root":  openAs(t, a, "root", vfs.OpenOptions{Access: vfs.AccessRead}),
		"bob in root":  openAs(t, b, "root", vfs.OpenOptions{Access: vfs.AccessRead}),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: got %v, want fs.ErrPermission", what, err)
		}
	}
	must(t, os.Mkdir(filepath.Join(root, "listed"), 0o744))
	must(t, os.WriteFile(filepath.Join(root, "listed/f"), nil, 0o644))
	d, _, err := b.Open(t.Context(), "listed", vfs.OpenOptions{Access: vfs.AccessRead})
	must(t, err)
	defer d.Close()
	if _, err := d.(vfs.Dir).Lstat(t.Context(), "f"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Lstat in a directory that may be read and not searched: got %v, want fs.ErrPermission", err)
	}
}

// The kernel forgets the set-user-ID bit when the user of a descriptor writes. The
// server writes with its own rights, and has to.
func TestSetuidDoesNotOutliveWriting(t *testing.T) {
	root := t.TempDir()
	reachable(t, root)
	f := mustNew(t, root, Config{})
	a, _ := views(t, f)
	name := filepath.Join(root, "tool")
	must(t, os.WriteFile(name, []byte("x"), 0o777))
	must(t, os.Chmod(name, 0o777|fs.ModeSetuid|fs.ModeSetgid))
	must(t, openAs(t, a, "tool", vfs.OpenOptions{Access: vfs.AccessRead}))
	if info, err := os.Stat(name); err != nil || info.Mode()&fs.ModeSetuid == 0 {
		t.Fatalf("reading made the mode %v, %v", info.Mode(), err)
	}
	must(t, openAs(t, a, "tool", vfs.OpenOptions{Access: vfs.AccessWrite}))
	if info, err := os.Stat(name); err != nil || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		t.Errorf("opened for writing by another, the mode is %v, %v; want none of the two bits", info.Mode(), err)
	}
}

// Many calls of several users at a time: nobody ever has another's rights, the
// process keeps its own, and threads come back clean.
func TestUsersAtATime(t *testing.T) {
	root := t.TempDir()
	reachable(t, root)
	must(t, os.Chmod(root, 0o777))
	f := mustNew(t, root, Config{CaseSensitive: true})
	a, b := views(t, f)
	must(t, os.WriteFile(filepath.Join(root, "roots"), nil, 0o600))
	ctx := t.Context()
	must(t, a.Mkdir(ctx, "ada", 0o700))
	must(t, b.Mkdir(ctx, "bob", 0o700))
	var wg sync.WaitGroup
	for range 4 {
		for _, u := range []struct {
			fs   vfs.FS
			mine string
			not  []string
		}{{a, "ada", []string{"bob", "roots"}}, {b, "bob", []string{"ada", "roots"}}} {
			wg.Go(func() { // waited for below
				for range 100 {
					if err := openAs(t, u.fs, u.mine, vfs.OpenOptions{Access: vfs.AccessRead}); err != nil {
						t.Errorf("%s's own: %v", u.mine, err)
						return
					}
					for _, not := range u.not {
						if err := openAs(t, u.fs, not, vfs.OpenOptions{Access: vfs.AccessRead}); !errors.Is(err, fs.ErrPermission) {
							t.Errorf("%s, as %s: got %v, want fs.ErrPermission", not, u.mine, err)
							return
						}
					}
				}
			})
		}
		wg.Go(func() { // waited for below
			for range 200 {
				for _, name := range []string{"ada", "bob", "roots"} {
					if err := openAs(t, f, name, vfs.OpenOptions{Access: vfs.AccessRead}); err != nil {
						t.Errorf("%s, as the process: %v", name, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// A thread that cannot be given the process's rights back ends.
func TestThreadIsNotReused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may act as somebody else")
	}
	own, err := ownRights()
	must(t, err)
	var tid int
	id := &identity{user: rights{uid: ada, gid: ada}, own: *own}
	id.set = func(r *rights) error {
		if r == &id.own {
			return syscall.ENOMEM
		}
		tid = unix.Gettid()
		return setRights(r)
	}
	act := func() {
		done := make(chan error)
		go func() { done <- id.do(func() error { return nil }) }()
		must(t, <-done)
	}
	act()
	if tid == os.Getpid() {
		// The process's first thread does not end before the process does: Go stops
		// it for good instead, so that the next one is another.
		act()
	}
	// The thread's end follows the goroutine's; signal 0 only asks.
	for range 10_000 {
		if err := unix.Tgkill(os.Getpid(), tid, 0); err == unix.ESRCH {
			return
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	t.Errorf("thread %d with a user's rights is still there", tid)
}

// A call that panics leaves no rights behind, and the panic is the caller's.
func TestPanicGivesRightsBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may act as somebody else")
	}
	own, err := ownRights()
	must(t, err)
	id := &identity{user: rights{uid: ada, gid: ada}, own: *own, set: setRights}
	runtime.LockOSThread() // so that it is the same thread that is asked
	defer runtime.UnlockOSThread()
	func() {
		defer func() {
			if got := recover(); got != "below" {
				t.Errorf("recovered %v", got)
			}
		}()
		_ = id.do(func() error { panic("below") })
	}()
	if uid, _ := unix.SetfsuidRetUid(-1); uid != own.uid {
		t.Errorf("the thread has uid %d afterwards, want %d", uid, own.uid)
	}
}

// If the rights cannot be taken, nothing is done.
func TestRightsThatCannotBeTaken(t *testing.T) {
	id := &identity{}
	id.set = func(r *rights) error {
		if r == &id.user {
			return syscall.EPERM
		}
		return nil
	}
	called := false
	err := id.do(func() error { called = true; return nil })
	if !errors.Is(err, syscall.EPERM) || called {
		t.Errorf("got %v, and it is %v that the call was made; want EPERM and no call", err, called)
	}
	f := mustNew(t, t.TempDir(), Config{})
	for _, c := range []vfs.Credentials{
		{UID: math.MaxUint32}, {GID: math.MaxUint32}, {Groups: make([]uint32, maxGroups+1)},
	} {
		if _, err := f.As(c); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("As(uid %d, gid %d, %d groups): got %v, want EINVAL", c.UID, c.GID, len(c.Groups), err)
		}
	}
}
