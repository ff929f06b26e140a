//go:build linux

package posix

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// smallDisk mounts a tmpfs of that many bytes and inodes.
func smallDisk(t *testing.T, size, inodes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d,nr_inodes=%d", size, inodes)); err != nil {
		t.Skipf("no small disk to be had: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	return dir
}

// On a disk that is full, what does not fit is refused with ENOSPC, leaves nothing
// half done, and what was acknowledged stays.
func TestFullDisk(t *testing.T) {
	f := mustNew(t, smallDisk(t, 256<<10, 16), Config{})
	ctx := t.Context()
	h, _, err := f.Open(ctx, "f", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew, Attributes: vfs.AttrArchive})
	must(t, err)
	defer h.Close()
	st, hasStreams := h.(vfs.StreamHolder)
	var s vfs.File
	if hasStreams {
		if s, _, err = st.OpenStream(ctx, "s", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew}); err != nil {
			t.Logf("streams are left out: %v", err) // tmpfs has users' attributes since Linux 6.6
			hasStreams = false
		} else {
			defer s.Close()
			if _, err := s.WriteAt([]byte("stream"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Writing until there is no room: every byte that WriteAt counted is there.
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	var written int64
	for err == nil {
		var n int
		n, err = h.WriteAt(chunk, written)
		written += int64(n)
	}
	if !errors.Is(err, syscall.ENOSPC) || written < 128<<10 {
		t.Fatalf("after %d bytes: %v, want ENOSPC when most of 256 KiB is taken", written, err)
	}
	got := make([]byte, written)
	if n, err := h.ReadAt(got, 0); int64(n) != written {
		t.Errorf("of %d bytes written, %d can be read: %v", written, n, err)
	}
	for i := range got {
		if got[i] != chunk[i%len(chunk)] {
			t.Fatalf("byte %d is %#x, want %#x", i, got[i], chunk[i%len(chunk)])
		}
	}
	if _, err := h.WriteAt([]byte("over"), 0); err != nil {
		t.Errorf("overwriting what is there: %v", err)
	}
	if err := h.(vfs.Allocator).Allocate(ctx, 0, 1<<20, false); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Allocate: got %v, want ENOSPC", err)
	}
	if info, err := h.Stat(ctx); err != nil || info.Size != written {
		t.Errorf("after that, the size is %d, %v; want %d", info.Size, err, written)
	}
	if hasStreams {
		n, err := s.ReadAt(got[:6], 0)
		if string(got[:n]) != "stream" {
			t.Errorf("the stream reads %q, %v", got[:n], err)
		}
	}
	must(t, f.Rename(ctx, "f", "g", false))
	must(t, h.Truncate(ctx, 0))
	if _, err := h.WriteAt(chunk, 0); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// Without inodes, whatever makes an object says ENOSPC and leaves no name behind.
func TestNoInodesLeft(t *testing.T) {
	f := mustNew(t, smallDisk(t, 1<<20, 8), Config{})
	ctx := t.Context()
	var names []string
	var err error
	for err == nil {
		name := fmt.Sprint("d", len(names))
		if err = f.Mkdir(ctx, name, 0o777); err == nil {
			names = append(names, name)
		}
	}
	create := func(o vfs.OpenOptions) error {
		h, _, err := f.Open(ctx, "new", o)
		if err == nil {
			h.Close()
		}
		return err
	}
	for what, err := range map[string]error{
		"Mkdir":             err,
		"CreateNew":         create(vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew}),
		"OpenOrCreate":      create(vfs.OpenOptions{Disposition: vfs.OpenOrCreate}),
		"OverwriteOrCreate": create(vfs.OpenOptions{Disposition: vfs.OverwriteOrCreate}),
		"a new directory":   create(vfs.OpenOptions{Kind: vfs.KindDir, Disposition: vfs.CreateNew}),
		"Symlink":           f.Symlink(ctx, "target", "new"),
	} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: got %v, want ENOSPC", what, err)
		}
	}
	slices.Sort(names)
	if got := listNames(t, f, "."); !slices.Equal(got, names) {
		t.Errorf("there is now %q, want %q", got, names)
	}
	must(t, f.Remove(ctx, names[0], vfs.KindDir))
	must(t, create(vfs.OpenOptions{Disposition: vfs.CreateNew}))
	if _, err := f.Stat(ctx, "NEW"); err != nil {
		t.Errorf("what was made then: %v", err)
	}
}

// Out of descriptors, calls say so and lose none.
func TestNoDescriptorsLeft(t *testing.T) {
	f := mustNew(t, t.TempDir(), Config{})
	ctx := t.Context()
	must(t, f.Mkdir(ctx, "d", 0o777))
	_, _ = f.Stat(ctx, "d/missing") // has the cache of names open its own
	before := openFDs(t)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	// One at a time more: every place in every call runs out once.
	for extra := range uint64(6) {
		low := old
		low.Cur = uint64(before) + extra
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
		h, _, openErr := f.Open(ctx, "d/F", vfs.OpenOptions{Access: rw, Disposition: vfs.OpenOrCreate})
		dir, _, dirErr := f.Open(ctx, "D", vfs.OpenOptions{Access: vfs.AccessRead})
		_, statErr := f.Stat(ctx, "D")
		mkErr := f.Mkdir(ctx, "d/n", 0o777)
		moveErr := f.Rename(ctx, "d/n", "d/m", false)
		rmErr := f.Remove(ctx, "d/M", vfs.KindDir)
		w, watchErr := f.Watch(ctx, "d", vfs.WatchOptions{Recursive: true})
		if watchErr == nil {
			w.Close()
		}
		for _, c := range []struct {
			h   vfs.File
			err error
		}{{h, openErr}, {dir, dirErr}} {
			if c.err == nil {
				c.h.Close()
			}
		}
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
		for what, err := range map[string]error{
			"Open": openErr, "Open of a directory": dirErr, "Stat": statErr, "Mkdir": mkErr,
			"Rename": moveErr, "Remove": rmErr, "Watch": watchErr,
		} {
			if err != nil && !errors.Is(err, syscall.EMFILE) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
				t.Errorf("with %d descriptors to spare, %s: %v; want EMFILE, or success", extra, what, err)
			}
		}
		_ = f.Remove(ctx, "d/n", vfs.KindAny)
		_ = f.Remove(ctx, "d/m", vfs.KindAny)
		if after := openFDs(t); after != before {
			t.Errorf("with %d to spare, %d descriptors are open afterwards, %d were before", extra, after, before)
		}
	}
}
