package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
)

// What fallocate= does to an empty file that is to have a MiB: its length, and whether its
// space is there. A file system that can't reserve keeps the file as it is by default, and
// fails where reserving was asked for.
func TestReserve(t *testing.T) {
	const size = 1 << 20
	dir := t.TempDir()
	probe, err := os.Create(filepath.Join(dir, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Fallocate(int(probe.Fd()), 0, 0, size)
	probe.Close()
	can := !errors.Is(err, unix.EOPNOTSUPP)
	for _, c := range []struct {
		how      job.Fallocate
		length   int64
		reserved bool
		must     bool // fails where it can't be
	}{
		{job.FallocateNone, 0, false, false},
		{job.FallocateTruncate, size, false, false},
		{job.FallocateNative, size, true, false},
		{job.FallocatePosix, size, true, true},
		{job.FallocateKeep, 0, true, true},
	} {
		t.Run(string(c.how), func(t *testing.T) {
			p, name := newPosix(), filepath.Join(dir, string(c.how))
			if err := p.Open(t.Context(), 0, name, OpenFlags{Write: true, Create: true}); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if err := p.Reserve(0, c.how, size); (err != nil) != (c.must && !can) {
				t.Fatal(err)
			}
			if c.reserved && !can {
				c.length, c.reserved = 0, false
			}
			var st unix.Stat_t
			if err := unix.Stat(name, &st); err != nil {
				t.Fatal(err)
			}
			if st.Size != c.length || (st.Blocks*512 >= size) != c.reserved {
				t.Errorf("%d bytes, %d reserved", st.Size, st.Blocks*512)
			}
		})
	}
}

// A file that there is no space for is as long as before, and has no more space: other
// programs want some, too. The error says what may be done about it.
func TestReserveWithoutSpace(t *testing.T) {
	for _, before := range []int64{0, 8192} {
		p, name := newPosix(), filepath.Join(t.TempDir(), "f")
		if err := p.Open(t.Context(), 0, name, OpenFlags{Write: true, Create: true}); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.files[0].Write(make([]byte, before)); err != nil {
			t.Fatal(err)
		}
		p.allocate = func(fd int, mode uint32, _, size int64) error { // as ext4, which comes half the way
			if err := unix.Ftruncate(fd, size/2); err != nil {
				t.Fatal(err)
			}
			return unix.ENOSPC
		}
		err := p.Reserve(0, job.FallocateNative, 1<<20)
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "fallocate=none") {
			t.Errorf("error %v", err)
		}
		if st, err := os.Stat(name); err != nil || st.Size() != before {
			t.Errorf("%d bytes before, then %v, %v", before, st, err)
		}
	}
}
