package memory

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/vfstest"
)

func TestConformance(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return mustNew(t, Config{}) })
}

func TestConformanceCaseSensitive(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return mustNew(t, Config{CaseSensitive: true}) })
}

func mustNew(t *testing.T, cfg Config) *FS {
	t.Helper()
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{{MaxBytes: 1}, {MaxBytes: -1}, {MaxObjects: -1}, {FileMask: fs.ModeDir}, {DirMask: fs.ModeSetuid}} {
		if _, err := New(c); err == nil {
			t.Errorf("New with %+v succeeds", c)
		}
	}
}

// Whatever is made, changed and removed, and in whichever order it is closed: in
// the end an empty share takes what an empty share takes.
func TestEverythingIsGivenBack(t *testing.T) {
	f := mustNew(t, Config{})
	ctx := t.Context()
	empty := f.budget.used.Load()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(f.Mkdir(ctx, "d", 0o777))
	h, _, err := f.Open(ctx, "d/f", vfs.OpenOptions{Access: vfs.AccessRead | vfs.AccessWrite, Disposition: vfs.CreateNew})
	must(err)
	_, err = h.WriteAt(make([]byte, 300_000), 5)
	must(err)
	must(f.Link(ctx, "d/f", "link"))
	must(f.Symlink(ctx, "d/f", "sym"))
	must(h.(vfs.Xattrer).SetXattr(ctx, "a", []byte("value")))
	must(h.(vfs.Xattrer).SetXattr(ctx, "a", []byte("longer value")))
	must(h.(vfs.SecurityHolder).SetSecurityRecord(ctx, make([]byte, 300)))
	s, _, err := h.(vfs.StreamHolder).OpenStream(ctx, "s", vfs.OpenOptions{Access: vfs.AccessWrite, Disposition: vfs.CreateNew})
	must(err)
	_, err = s.WriteAt(make([]byte, 100), 0)
	must(err)
	must(h.(vfs.StreamHolder).RenameStream(ctx, "s", "longer", false))
	must(f.Rename(ctx, "link", "with a longer name", false))
	must(f.Rename(ctx, "with a longer name", "D/F", true)) // another link to it
	must(f.Rename(ctx, "d/f", "sym", true))
	must(f.Remove(ctx, "sym", vfs.KindFile))
	must(f.Remove(ctx, "d", vfs.KindDir))
	must(h.Close())
	if used := f.budget.used.Load(); used <= empty {
		t.Errorf("with a stream of a removed file open, %d bytes are taken, as of an empty share", used)
	}
	must(s.Close())
	if used, n := f.budget.used.Load(), f.objects.Load(); used != empty || n != 1 {
		t.Errorf("%d bytes and %d objects are counted, want %d and the root", used, n, empty)
	}
}

// A share that is full refuses with ENOSPC what would take more, serves the rest,
// and works again when something has been removed.
func TestFull(t *testing.T) {
	f := mustNew(t, Config{MaxBytes: 1 << 20, MaxObjects: 3})
	ctx := t.Context()
	h, _, err := f.Open(ctx, "big", vfs.OpenOptions{Access: vfs.AccessRead | vfs.AccessWrite, Disposition: vfs.CreateNew})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var size int64
	for ; ; size += 4096 {
		if _, err = h.WriteAt(make([]byte, 4096), size); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || size < 1<<19 {
		t.Errorf("after %d bytes: %v, want ENOSPC after most of 1 MiB", size, err)
	}
	_, err = h.WriteAt(make([]byte, 4096), 0)
	if err != nil {
		t.Errorf("overwriting on a full share: %v", err)
	}
	if err := h.(vfs.Xattrer).SetXattr(ctx, "a", make([]byte, 65536)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("SetXattr on a full share: got %v, want ENOSPC", err)
	}
	if st, err := f.Statfs(ctx); err != nil || st.Avail > 16 || st.Total != 256 {
		t.Errorf("a full share has %d of %d blocks left, %v; want hardly any of 256", st.Avail, st.Total, err)
	}
	if err := h.Truncate(ctx, 0); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "b", "c"} {
		err := f.Mkdir(ctx, name, 0o777)
		if i < 2 && err != nil || i == 2 && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("object %d of 3: %v", i+2, err)
		}
	}
	if err := f.Remove(ctx, "a", vfs.KindDir); err != nil {
		t.Fatal(err)
	}
	if err := f.Mkdir(ctx, "c", 0o777); err != nil {
		t.Errorf("after a removal: %v", err)
	}
}

// Renaming a directory beneath itself is refused at every depth, as the tree would
// come loose.
func TestRenameBeneathItself(t *testing.T) {
	f := mustNew(t, Config{})
	ctx := t.Context()
	for _, name := range []string{"a", "a/b", "a/b/c"} {
		if err := f.Mkdir(ctx, name, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, to := range []string{"a/x", "a/b/x", "a/b/c/x", "A/B/C/x"} {
		if err := f.Rename(ctx, "a", to, true); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Rename to %s: got %v, want EINVAL", to, err)
		}
	}
	if err := f.Rename(ctx, "a/b/c", "a", true); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("Rename over its own parent: got %v, want ENOTEMPTY", err)
	}
}

func BenchmarkOpenStatReadClose(b *testing.B) {
	f, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	ctx := b.Context()
	if err := f.Mkdir(ctx, "d", 0o777); err != nil {
		b.Fatal(err)
	}
	h, _, err := f.Open(ctx, "d/f", vfs.OpenOptions{Access: vfs.AccessWrite, Disposition: vfs.CreateNew})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := h.WriteAt(make([]byte, 4096), 0); err != nil {
		b.Fatal(err)
	}
	h.Close()
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		h, _, err := f.Open(ctx, "d/f", vfs.OpenOptions{Access: vfs.AccessRead})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.Stat(ctx); err != nil {
			b.Fatal(err)
		}
		if _, err := h.ReadAt(buf, 0); err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}

// What a user creates is his, in the way that names are looked up which his view had
// before; what is there stays whose it was.
func TestOwnedBy(t *testing.T) {
	base, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	his := base.OwnedBy(1001, 1002)
	if vfs.Base(his) != vfs.Base(base) {
		t.Error("the view has another base")
	}
	if err := base.Mkdir(t.Context(), "before", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := his.Mkdir(t.Context(), "d", 0); err != nil {
		t.Fatal(err)
	}
	view := his.(vfs.CaseView).CaseSensitive()
	f, _, err := view.Open(t.Context(), "d/f", vfs.OpenOptions{Access: vfs.AccessWrite, Disposition: vfs.CreateNew})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := view.(vfs.Symlinker).Symlink(t.Context(), "f", "d/l"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]uint32{"before": {process.uid, process.gid}, "d": {1001, 1002}, "d/f": {1001, 1002}, "d/l": {1001, 1002}} {
		i, err := base.Lstat(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]uint32{i.UID, i.GID}; got != want {
			t.Errorf("%s belongs to %d, want %d", name, got, want)
		}
	}
}
