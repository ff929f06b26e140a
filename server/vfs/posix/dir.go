//go:build linux

package posix

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

const (
	// direntBuf is how much one getdents64(2) may return: some 1,000 entries.
	direntBuf = 32 << 10
	// scanBuf is the same where a directory is read from end to end.
	scanBuf = 64 << 10
)

var scanBufs = sync.Pool{New: func() any { b := make([]byte, scanBuf); return &b }}

// dir is a directory opened for reading.
type dir struct {
	file
	blind bool // it may be read and not searched

	mu sync.Mutex
	// The rest is guarded by mu: the descriptor's position, and entries read ahead
	// of what was asked for.
	buf  []byte // of direntBuf, allocated by the first ReadDir
	have []byte // the part of buf not returned yet
	at   int64  // the cursor before have
}

// ReadDir implements vfs.Dir. Cursors are what the file system gives as d_off.
func (d *dir) ReadDir(ctx context.Context, cursor vfs.Cursor, dst []vfs.DirEntry) (int, error) {
	if err := d.begin(ctx, "readdir"); err != nil {
		return 0, err
	}
	defer d.release()
	if len(dst) == 0 {
		return 0, d.wrap("readdir", syscall.EINVAL)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.buf == nil {
		d.buf = make([]byte, direntBuf)
	}
	// The start is read afresh: a rewound listing shows what is there now.
	if int64(cursor) != d.at || cursor == vfs.CursorStart {
		d.have = nil
		if _, err := unix.Seek(d.fd, int64(cursor), io.SeekStart); err != nil {
			d.at = -1
			return 0, d.wrap("readdir", err)
		}
		d.at = int64(cursor)
	}
	n := 0
	for n < len(dst) {
		if len(d.have) == 0 {
			if n > 0 {
				break // what is there is enough for one call
			}
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			m, err := retry(func() (int, error) { return unix.Getdents(d.fd, d.buf) })
			if err != nil {
				return 0, d.wrap("readdir", err)
			}
			if m == 0 {
				return 0, io.EOF
			}
			d.have = d.buf[:m]
		}
		e, rest, err := nextDirent(d.have)
		if err != nil {
			d.have, d.at = nil, -1
			return 0, d.wrap("readdir", err)
		}
		d.have, d.at = rest, e.off
		if isDots(e.name) {
			continue
		}
		name := string(e.name)
		if !vfs.ValidComponent(name) {
			continue
		}
		dst[n] = vfs.DirEntry{Name: name, Type: e.fileType(), Cursor: vfs.Cursor(e.off)}
		n++
	}
	return n, nil
}

// Lstat implements vfs.Dir.
func (d *dir) Lstat(ctx context.Context, name string) (vfs.Info, error) {
	if err := d.begin(ctx, "lstat"); err != nil {
		return vfs.Info{}, err
	}
	defer d.release()
	if !vfs.ValidComponent(name) {
		return vfs.Info{}, pathError("lstat", name, syscall.EINVAL)
	}
	if d.blind {
		return vfs.Info{}, pathError("lstat", name, syscall.EACCES)
	}
	info, err := d.fs.info(d.fd, true, name, name)
	return info, pathError("lstat", name, err)
}

// dirent is one entry of getdents64(2).
type dirent struct {
	off  int64  // the place after it
	typ  byte   // DT_...
	name []byte // in the buffer it was read into
}

// 0        8        16     18   19
// +--------+--------+------+----+----------- - -
// | d_ino  | d_off  |reclen|type| name NUL, padding
// +--------+--------+------+----+----------- - -
const (
	direntOff    = 8
	direntReclen = 16
	direntType   = 18
	direntName   = 19
)

func nextDirent(b []byte) (dirent, []byte, error) {
	if len(b) < direntName {
		return dirent{}, nil, fmt.Errorf("directory record of %d bytes: %w", len(b), syscall.EIO)
	}
	size := int(binary.NativeEndian.Uint16(b[direntReclen:]))
	if size < direntName || size > len(b) {
		return dirent{}, nil, fmt.Errorf("directory record of %d bytes: %w", size, syscall.EIO)
	}
	name := b[direntName:size]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return dirent{
		off:  int64(binary.NativeEndian.Uint64(b[direntOff:])),
		typ:  b[direntType],
		name: name,
	}, b[size:], nil
}

func (d dirent) fileType() fs.FileMode {
	switch d.typ {
	case unix.DT_REG:
		return 0
	case unix.DT_DIR:
		return fs.ModeDir
	case unix.DT_LNK:
		return fs.ModeSymlink
	case unix.DT_FIFO:
		return fs.ModeNamedPipe
	case unix.DT_SOCK:
		return fs.ModeSocket
	case unix.DT_BLK:
		return fs.ModeDevice
	case unix.DT_CHR:
		return fs.ModeDevice | fs.ModeCharDevice
	}
	return fs.ModeIrregular
}

func isDots(name []byte) bool {
	return len(name) == 1 && name[0] == '.' || len(name) == 2 && name[0] == '.' && name[1] == '.'
}

// scanDir calls yield for every entry of a directory descriptor from its
// position on, until yield returns false. Names are good within yield only.
func scanDir(fd int, yield func(dirent) bool) error {
	bp := scanBufs.Get().(*[]byte)
	defer scanBufs.Put(bp)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, *bp) })
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for b := (*bp)[:n]; len(b) > 0; {
			var d dirent
			if d, b, err = nextDirent(b); err != nil {
				return err
			}
			if !isDots(d.name) && !yield(d) {
				return nil
			}
		}
	}
}

// foldMatch compares names with one name, ignoring case.
type foldMatch struct {
	want  []byte
	first byte // want's first in lower case; 0 if it may fold to more than ASCII
	// fixed says that equal names have equal lengths: want is ASCII without k and
	// s, which the Kelvin sign and the long s fold to.
	fixed bool
}

func newFoldMatch(want string) foldMatch {
	m := foldMatch{want: []byte(want), fixed: true}
	for i, c := range m.want {
		plain := c < utf8.RuneSelf && c|0x20 != 'k' && c|0x20 != 's'
		m.fixed = m.fixed && plain
		if i == 0 && plain {
			m.first = c | 0x20
		}
	}
	return m
}

// matches is bytes.EqualFold with a quick no for most names.
func (m *foldMatch) matches(name []byte) bool {
	if m.fixed && len(name) != len(m.want) ||
		m.first != 0 && len(name) > 0 && name[0]|0x20 != m.first {
		return false
	}
	return bytes.EqualFold(name, m.want)
}
