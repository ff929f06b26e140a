//go:build linux

package posix

import (
	"io"
	"math"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

var _ vfs.CachedReader = (*regular)(nil)

// ReadCached implements vfs.CachedReader by RWF_NOWAIT, which ext4, xfs and btrfs know.
// tmpfs, which does not, is in memory but for what was swapped out; of other storage nothing
// is said to be.
func (r *regular) ReadCached(p []byte, off int64) (n int, err error) {
	if r.access&vfs.AccessRead == 0 || off < 0 || off > math.MaxInt64-int64(len(p)) || !r.acquire() {
		return 0, vfs.ErrNotCached
	}
	defer r.release()
	for n < len(p) {
		var m int
		var err error
		if r.tmpfs.Load() {
			m, err = unix.Pread(r.fd, p[n:], off+int64(n))
		} else {
			m, err = unix.Preadv2(r.fd, [][]byte{p[n:]}, off+int64(n), unix.RWF_NOWAIT)
		}
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EOPNOTSUPP && !r.tmpfs.Load() && onTmpfs(r.fd):
			r.tmpfs.Store(true)
			continue
		case err != nil:
			return n, vfs.ErrNotCached
		case m == 0:
			// Linux 5.9 and 5.10 say that of what is not in memory, too: preadv2(2).
			if !r.endsBy(off + int64(n)) {
				return n, vfs.ErrNotCached
			}
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

// endsBy reports whether the file has nothing at off and beyond.
func (r *regular) endsBy(off int64) bool {
	var st unix.Stat_t
	return unix.Fstat(r.fd, &st) == nil && off >= st.Size
}

func onTmpfs(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Type == unix.TMPFS_MAGIC
}
