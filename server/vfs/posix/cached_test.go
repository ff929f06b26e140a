//go:build linux

package posix

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Where a file ends is asked of the file, not told by a read that brought nothing.
func TestEndsBy(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(10); err != nil {
		t.Fatal(err)
	}
	r := &regular{file: file{handle: newHandle(int(f.Fd()))}}
	for off, want := range map[int64]bool{0: false, 9: false, 10: true, 11: true} {
		if got := r.endsBy(off); got != want {
			t.Errorf("nothing from %d on in a file of 10 bytes: %v, want %v", off, got, want)
		}
	}
}

// tmpfs does not tell what is in memory: all of it is.
func TestReadCachedOnTmpfs(t *testing.T) {
	var st unix.Statfs_t
	if unix.Statfs("/dev/shm", &st) != nil || st.Type != unix.TMPFS_MAGIC {
		t.Skip("/dev/shm is no tmpfs")
	}
	dir, err := os.MkdirTemp("/dev/shm", "cached")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("some content"); err != nil {
		t.Fatal(err)
	}
	r := &regular{file: file{handle: newHandle(int(f.Fd()))}}
	r.access = vfs.AccessRead
	for _, tc := range []struct {
		off  int64
		want string
		err  error
	}{
		{5, "cont", nil}, {10, "nt", io.EOF}, {12, "", io.EOF}, {-1, "", vfs.ErrNotCached},
	} {
		buf := make([]byte, 4)
		if n, err := r.ReadCached(buf, tc.off); string(buf[:n]) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("from %d: %q, %v; want %q, %v", tc.off, buf[:n], err, tc.want, tc.err)
		}
	}
}
