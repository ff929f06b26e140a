package iwarp

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is in memory is known to be, and so is what has to come from storage.
func TestCached(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 20
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	var p probe
	fd := int(f.Fd())
	if !p.cached(fd, size-1) {
		t.Skip("this file system does not tell")
	}
	if !p.cached(fd, size) {
		t.Error("the end of the file has to be waited for")
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	resident := make([]byte, size/os.Getpagesize())
	m, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	if err := mincore(m, resident); err != nil {
		t.Fatal(err)
	}
	if resident[len(resident)-1]&1 != 0 {
		t.Skip("this file system keeps everything in memory")
	}
	if p.cached(fd, size-1) {
		t.Error("what is not in memory is not waited for")
	}
	if p.cached(-1, 0) {
		t.Error("nothing is no file")
	}
}

// tmpfs does not tell what is in memory: all of it is.
func TestCachedOnTmpfs(t *testing.T) {
	var p probe
	if unix.Statfs("/dev/shm", &p.fs) != nil || p.fs.Type != unix.TMPFS_MAGIC {
		t.Skip("/dev/shm is no tmpfs")
	}
	f, err := os.CreateTemp("/dev/shm", "cached")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if err := f.Truncate(100); err != nil {
		t.Fatal(err)
	}
	if !p.cached(int(f.Fd()), 50) {
		t.Error("tmpfs has to be waited for")
	}
}

func mincore(m, v []byte) error {
	_, _, e := unix.Syscall(unix.SYS_MINCORE, addressOf(m), uintptr(len(m)), addressOf(v))
	if e != 0 {
		return e
	}
	return nil
}

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
