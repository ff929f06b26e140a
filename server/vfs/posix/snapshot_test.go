//go:build linux

package posix

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

func TestSnapshots(t *testing.T) {
	for _, where := range []string{".snapshots", "beside the root"} {
		t.Run(where, func(t *testing.T) {
			base := t.TempDir()
			root := filepath.Join(base, "root")
			cfg := Config{SnapshotDir: where}
			dir := filepath.Join(root, where)
			if where != ".snapshots" {
				dir = filepath.Join(base, "snapshots")
				cfg.SnapshotDir = dir
			}
			for name, content := range map[string]string{
				filepath.Join(root, "Dir/f"):                             "now",
				filepath.Join(dir, "@GMT-2026.11.23-07.30.00/Dir/f"):     "today",
				filepath.Join(dir, "@GMT-1999.12.31-23.59.59/Dir/f"):     "before",
				filepath.Join(dir, "@GMT-2026.11.23-7.30.00/Dir/f"):      "misspelled",
				filepath.Join(dir, "@GMT-2026.13.23-07.30.00/Dir/f"):     "impossible",
				filepath.Join(dir, "@GMT-2026.11.23-07.30.00.old/Dir/f"): "more",
				filepath.Join(dir, "else/f"):                             "else",
			} {
				must(t, os.MkdirAll(filepath.Dir(name), 0o755))
				must(t, os.WriteFile(name, []byte(content), 0o644))
			}
			must(t, os.WriteFile(filepath.Join(dir, "@GMT-2000.01.01-00.00.00"), nil, 0o644))
			f := mustNew(t, root, cfg)
			ctx := t.Context()
			today, before := time.Date(2026, 11, 23, 7, 30, 0, 0, time.UTC), time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)
			got, err := f.Snapshots(ctx)
			want := []time.Time{today, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), before}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("Snapshots = %v, %v; want %v", got, err, want)
			}
			for at, content := range map[time.Time]string{today: "today", before: "before"} {
				snap, err := f.At(ctx, at.Local())
				must(t, err)
				h, _, err := snap.Open(ctx, "dir/F", vfs.OpenOptions{Access: vfs.AccessRead})
				must(t, err)
				b := make([]byte, 20)
				if n, _ := h.ReadAt(b, 0); string(b[:n]) != content {
					t.Errorf("at %v, the file reads %q, want %q", at, b[:n], content)
				}
				must(t, h.Close())
				if _, _, err := snap.Open(ctx, "Dir/f", vfs.OpenOptions{Access: rw}); !errors.Is(err, syscall.EROFS) {
					t.Errorf("writing to the past: got %v, want EROFS", err)
				}
				if again, err := f.At(ctx, at); err != nil || again != snap {
					t.Errorf("asked again, there is another: %v", err)
				}
				if vfs.Base(snap) == vfs.Base(f) {
					t.Error("the past has the base of the present")
				}
			}
			for _, at := range []time.Time{today.Add(time.Second), today.Add(1), {}, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
				if _, err := f.At(ctx, at); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("At(%v): got %v, want fs.ErrNotExist", at, err)
				}
			}
			if _, err := f.At(ctx, want[1]); !errors.Is(err, syscall.ENOTDIR) {
				t.Errorf("At of a file: got %v, want ENOTDIR", err)
			}
			must(t, os.RemoveAll(filepath.Join(dir, "@GMT-2026.11.23-07.30.00")))
			if _, err := f.At(ctx, today); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("At of what has been deleted: got %v, want fs.ErrNotExist", err)
			}
			must(t, f.Close())
			if _, err := f.At(ctx, before); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("At of a closed FS: got %v, want fs.ErrClosed", err)
			}
		})
	}
}

// A client can write to a directory of snapshots beneath the root, but not make
// one of what lies outside.
func TestSnapshotsCannotLeave(t *testing.T) {
	outside, root := outsideAndRoot(t)
	must(t, os.Mkdir(filepath.Join(root, "s"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(root, "s/@GMT-2026.11.23-07.30.00")))
	must(t, os.Symlink("../../outside", filepath.Join(root, "s/@GMT-2026.11.23-07.30.01")))
	f := mustNew(t, root, Config{SnapshotDir: "s"})
	for s := range 2 {
		at := time.Date(2026, 11, 23, 7, 30, s, 0, time.UTC)
		if snap, err := f.At(t.Context(), at); !errors.Is(err, vfs.ErrOutside) {
			t.Errorf("At of a link that leaves = %v, %v; want ErrOutside", snap, err)
		}
	}
	must(t, os.Symlink(outside, filepath.Join(root, "out")))
	f = mustNew(t, root, Config{SnapshotDir: "out"})
	if _, err := f.Snapshots(t.Context()); !errors.Is(err, vfs.ErrOutside) {
		t.Errorf("Snapshots of a link that leaves: got %v, want ErrOutside", err)
	}
	for _, dir := range []string{"../s", ".", "s/", "a\x00"} {
		if _, err := New(root, Config{SnapshotDir: dir}); err == nil {
			t.Errorf("SnapshotDir %q is accepted", dir)
		}
	}
	f = mustNew(t, root, Config{})
	if list, err := f.Snapshots(t.Context()); len(list) != 0 || err != nil {
		t.Errorf("without a directory, Snapshots = %v, %v; want none", list, err)
	}
}
