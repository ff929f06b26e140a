//go:build linux

package posix

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Attributes of entries are the same by the system calls and by /proc, and a link's are
// never those of what it leads to.
func TestEntryXattr(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o666))
	if err := unix.Setxattr(filepath.Join(dir, "f"), xattrDOSAttrib, []byte("0x20"), 0); err != nil {
		t.Skipf("user attributes: %v", err)
	}
	must(t, os.Symlink("f", filepath.Join(dir, "l")))
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	was := noXattrAt.Load()
	defer noXattrAt.Store(was)
	for _, proc := range []bool{false, true} {
		noXattrAt.Store(proc || was)
		var buf [64]byte
		n, err := entryXattr(fd, "f", xattrDOSAttribC, buf[:])
		if err != nil || string(buf[:n]) != "0x20" {
			t.Errorf("proc %v: value %q, %v", proc, buf[:n], err)
		}
		n, err = entryXattrs(fd, "f", buf[:])
		if err != nil || !bytes.Contains(buf[:n], xattrDOSAttribC) {
			t.Errorf("proc %v: names %q, %v", proc, buf[:n], err)
		}
		if _, err = entryXattr(fd, "l", xattrDOSAttribC, buf[:]); err != unix.ENODATA && err != unix.EOPNOTSUPP {
			t.Errorf("proc %v: attribute of a link: %v", proc, err)
		}
		if _, err = entryXattr(fd, "none", xattrDOSAttribC, buf[:]); err != unix.ENOENT {
			t.Errorf("proc %v: attribute of nothing: %v", proc, err)
		}
		if _, err = entryXattrs(fd, "f", buf[:1]); err != unix.ERANGE {
			t.Errorf("proc %v: names without room: %v", proc, err)
		}
	}
}
