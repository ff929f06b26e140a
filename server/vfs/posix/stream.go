//go:build linux

package posix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Streams are kept as Samba's module streams_xattr keeps them: the stream s is
// the extended attribute user.DosStream.s:$DATA, whose value is the content and
// one NUL, as some storage keeps no empty values. (Samba leaves the type out of
// the name on request, which is understood; a last byte other than NUL says that
// the content goes on in other attributes, which is not.)
const (
	streamPrefix = userPrefix + "DosStream."
	streamType   = ":$DATA"

	// maxStream is the longest content: an attribute's limit but for the NUL.
	maxStream = maxXattr - 1
	// streamUnit is what the storage of a stream is counted in.
	streamUnit = 512
)

// streamKey names a stream among all of a share.
type streamKey struct {
	id    vfs.FileID
	xattr string
}

// streamTable has the streams that are open, so that all handles of one share a
// lock and learn of its end. The locks are held over the system calls that look
// up, create, remove and rename streams, as FS.names is for names of files.
type streamTable struct{ shards [16]streamShard }

type streamShard struct {
	mu   sync.Mutex
	open map[streamKey]*openStream // guarded by mu
}

func (t *streamTable) shard(id vfs.FileID) *streamShard {
	return &t.shards[(id.Ino*0x9E3779B97F4A7C15)>>60]
}

// openStream is one stream with at least one handle.
type openStream struct {
	refs int // guarded by the shard's mu

	mu    sync.Mutex
	xattr string // guarded by mu, and changed with the shard's mu held too
	cname []byte // guarded by mu; cString(xattr)
	gone  bool   // guarded by mu; removed or replaced
}

// stream is an open stream: a file without data of its own, and the stream.
type stream struct {
	file         // its descriptor is O_PATH
	cpath        []byte
	st           *openStream
	writeThrough bool
}

var (
	_ vfs.StreamHolder = (*file)(nil)
	_ vfs.StreamHolder = (*regular)(nil)
	_ vfs.StreamHolder = (*dir)(nil)
	_ vfs.File         = (*stream)(nil)
)

// streamBufs are for whole values.
var streamBufs = sync.Pool{New: func() any { b := make([]byte, maxXattr); return &b }}

// streamXattr is the attribute in which a stream of that name is created.
func streamXattr(name string) (string, error) {
	full := streamPrefix + name + streamType
	switch {
	case !vfs.ValidStreamName(name):
		return "", fmt.Errorf("stream name %q: %w", name, syscall.EINVAL)
	case len(full) > 255:
		return "", syscall.ENAMETOOLONG
	}
	return full, nil
}

// streamName is the reverse; it also takes names without type.
func streamName(xattr string) (string, bool) {
	name, ok := strings.CutPrefix(xattr, streamPrefix)
	name = strings.TrimSuffix(name, streamType)
	return name, ok && vfs.ValidStreamName(name)
}

// findStream returns the attribute of the stream, "" if there is none.
func findStream(path []byte, name string) (string, error) {
	exact, err := streamXattr(name)
	if err != nil {
		return "", err
	}
	switch _, err := getXattr(path, cString(exact), nil); err {
	case nil:
		return exact, nil
	case unix.ENODATA:
	case unix.EOPNOTSUPP:
		return "", vfs.ErrNotSupported
	default:
		return "", err
	}
	found := ""
	err = eachXattr(path, func(xattr string) {
		s, ok := streamName(xattr)
		if ok && strings.EqualFold(s, name) && (found == "" || s == name) {
			found = xattr
		}
	})
	return found, err
}

// eachXattr calls yield for the names of all extended attributes.
func eachXattr(path []byte, yield func(xattr string)) error {
	list, err := readGrowing(func(buf []byte) (int, error) {
		return unix.Listxattr(string(path[:len(path)-1]), buf)
	})
	if err != nil {
		return err
	}
	for name := range bytes.SplitSeq(list, []byte{0}) {
		if len(name) > 0 {
			yield(string(name))
		}
	}
	return nil
}

// OpenStream implements vfs.StreamHolder.
func (f *file) OpenStream(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	if err := f.begin(ctx, "open stream"); err != nil {
		return nil, vfs.OpenResult{}, err
	}
	defer f.release()
	s, res, err := f.openStream(name, o)
	if err != nil {
		return nil, vfs.OpenResult{}, f.wrap("open stream", err)
	}
	return s, res, nil
}

func (f *file) openStream(name string, o vfs.OpenOptions) (*stream, vfs.OpenResult, error) {
	o.Kind = vfs.KindAny
	if err := f.fs.checkOpen(o); err != nil {
		return nil, vfs.OpenResult{}, err
	}
	fd, err := f.reopen(o.Access)
	if err != nil {
		return nil, vfs.OpenResult{}, err
	}
	s := &stream{
		file:         file{handle: newHandle(fd), fs: f.fs, id: f.id, access: o.Access, path: true, last: f.last},
		cpath:        cString(procPath(fd)),
		writeThrough: o.WriteThrough,
	}
	res, err := s.attach(f, name, o)
	if err != nil {
		s.handle.close()
		return nil, vfs.OpenResult{}, err
	}
	s.handle.onClose = s.detach
	return s, res, nil
}

// reopen gives a descriptor of the object that only names it, after a look at
// whether the user may do to the object what access says: extended attributes
// come with the permissions of the content.
func (f *file) reopen(access vfs.Access) (int, error) {
	if err := f.mayAccess(access); err != nil {
		return -1, err
	}
	return retry(func() (int, error) { return unix.Open(procPath(f.fd), unix.O_PATH|unix.O_CLOEXEC, 0) })
}

// mayAccess checks the permissions that a view's user has now. Without one, the
// kernel does with each call.
func (f *file) mayAccess(access vfs.Access) error {
	if f.fs.as == nil || access == 0 {
		return nil
	}
	mode := uint32(0)
	if access&vfs.AccessRead != 0 {
		mode |= unix.R_OK
	}
	if access&vfs.AccessWrite != 0 {
		mode |= unix.W_OK
	}
	path := procPath(f.fd)
	return f.fs.as.do(func() error {
		_, err := retry(func() (int, error) { return 0, unix.Faccessat2(unix.AT_FDCWD, path, mode, unix.AT_EACCESS) })
		return err
	})
}

// attach finds or makes the stream.
func (s *stream) attach(f *file, name string, o vfs.OpenOptions) (vfs.OpenResult, error) {
	shard := s.fs.streams.shard(s.id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	xattr, err := findStream(s.cpath, name)
	if err != nil {
		return vfs.OpenResult{}, err
	}
	res := vfs.OpenResult{Action: vfs.Opened, Name: name}
	creates := o.Disposition == vfs.CreateNew || o.Disposition == vfs.OpenOrCreate || o.Disposition == vfs.OverwriteOrCreate
	overwrites := o.Disposition == vfs.Overwrite || o.Disposition == vfs.OverwriteOrCreate
	switch {
	case xattr == "" && !creates:
		err = syscall.ENOENT
	case xattr == "" && s.fs.cfg.ReadOnly:
		err = syscall.EROFS
	case xattr == "":
		res.Action = vfs.Created
		if err = f.mayAccess(vfs.AccessWrite); err == nil {
			xattr, _ = streamXattr(name)
			err = setXattr(s.cpath, cString(xattr), []byte{0}, unix.XATTR_CREATE)
		}
	case o.Disposition == vfs.CreateNew:
		err = syscall.EEXIST
	case overwrites:
		res.Action = vfs.Overwritten
		if err = f.mayAccess(vfs.AccessWrite); err == nil {
			err = shard.clear(streamKey{s.id, xattr}, s.cpath)
		}
	}
	if err != nil {
		return vfs.OpenResult{}, roomError(err)
	}
	res.Name, _ = streamName(xattr)
	key := streamKey{s.id, xattr}
	st := shard.open[key]
	if st == nil {
		st = &openStream{xattr: xattr, cname: cString(xattr)}
		if shard.open == nil {
			shard.open = make(map[streamKey]*openStream)
		}
		shard.open[key] = st
	}
	st.refs++
	s.st = st
	return res, nil
}

// detach gives up the handle's part in the stream, when nobody uses it any more.
func (s *stream) detach() error {
	shard := s.fs.streams.shard(s.id)
	shard.mu.Lock()
	if s.st.refs--; s.st.refs == 0 && !s.st.gone {
		delete(shard.open, streamKey{s.id, s.st.xattr})
	}
	shard.mu.Unlock()
	return unix.Close(s.fd)
}

// clear empties a stream. The shard's mu is held.
func (sh *streamShard) clear(key streamKey, path []byte) error {
	if st := sh.open[key]; st != nil { // not between somebody's reading and writing it
		st.mu.Lock()
		defer st.mu.Unlock()
	}
	return setXattr(path, cString(key.xattr), []byte{0}, unix.XATTR_REPLACE)
}

// end makes handles of the stream stale. The shard's mu is held.
func (sh *streamShard) end(key streamKey) {
	st := sh.open[key]
	if st == nil {
		return
	}
	delete(sh.open, key)
	st.mu.Lock()
	st.gone = true
	st.mu.Unlock()
}

// Streams implements vfs.StreamHolder.
func (f *file) Streams(ctx context.Context) ([]vfs.StreamInfo, error) {
	if err := f.begin(ctx, "list streams"); err != nil {
		return nil, err
	}
	defer f.release()
	var list []vfs.StreamInfo
	path := cString(procPath(f.fd))
	shard := f.fs.streams.shard(f.id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	err := eachXattr(path, func(xattr string) {
		name, ok := streamName(xattr)
		if !ok {
			return
		}
		n, err := getXattr(path, cString(xattr), nil)
		if err != nil {
			return // it has gone since
		}
		size := int64(max(n-1, 0))
		list = append(list, vfs.StreamInfo{Name: name, Size: size, Allocated: streamAllocated(size)})
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = vfs.ErrNotSupported
	}
	return list, f.wrap("list streams", err)
}

func streamAllocated(size int64) int64 { return (size + streamUnit - 1) / streamUnit * streamUnit }

// RemoveStream implements vfs.StreamHolder.
func (f *file) RemoveStream(ctx context.Context, name string) error {
	if err := f.beginChange(ctx, "remove stream"); err != nil {
		return err
	}
	defer f.release()
	if err := f.mayAccess(vfs.AccessWrite); err != nil {
		return f.wrap("remove stream", err)
	}
	path := procPath(f.fd)
	shard := f.fs.streams.shard(f.id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	xattr, err := findStream(cString(path), name)
	switch {
	case err != nil:
	case xattr == "":
		err = syscall.ENOENT
	default:
		if err = unix.Removexattr(path, xattr); err == unix.ENODATA {
			err = syscall.ENOENT
		}
		if err == nil {
			shard.end(streamKey{f.id, xattr})
		}
	}
	return f.wrap("remove stream", err)
}

// RenameStream implements vfs.StreamHolder. The storage cannot rename an
// attribute: for a moment there are both, and there must be room for that.
func (f *file) RenameStream(ctx context.Context, oldname, newname string, replace bool) error {
	if err := f.beginChange(ctx, "rename stream"); err != nil {
		return err
	}
	defer f.release()
	if err := f.mayAccess(vfs.AccessWrite); err != nil {
		return f.wrap("rename stream", err)
	}
	return f.wrap("rename stream", f.renameStream(oldname, newname, replace))
}

func (f *file) renameStream(oldname, newname string, replace bool) error {
	to, err := streamXattr(newname)
	if err != nil {
		return err
	}
	path := cString(procPath(f.fd))
	shard := f.fs.streams.shard(f.id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	from, err := findStream(path, oldname)
	if err == nil && from == "" {
		err = syscall.ENOENT
	}
	if err != nil || from == to {
		return err
	}
	there, err := findStream(path, newname)
	if err != nil {
		return err
	}
	if there != "" && there != from && !replace {
		return syscall.EEXIST
	}
	st := shard.open[streamKey{f.id, from}]
	if st != nil {
		st.mu.Lock() // nothing is written to the old name any more
		defer st.mu.Unlock()
	}
	replaced := shard.open[streamKey{f.id, there}]
	if there == from {
		replaced = nil
	}
	if replaced != nil { // nor by those whose stream goes
		replaced.mu.Lock()
		defer replaced.mu.Unlock()
	}
	bp := streamBufs.Get().(*[]byte)
	defer streamBufs.Put(bp)
	n, err := getXattr(path, cString(from), *bp)
	if err != nil {
		return err
	}
	// Nothing goes before the new one is there: a crash in between leaves both.
	if err := setXattr(path, cString(to), (*bp)[:n], 0); err != nil {
		return roomError(err)
	}
	for _, old := range []string{from, there} {
		if old == "" || old == to {
			continue
		}
		if err := unix.Removexattr(procPath(f.fd), old); err != nil && err != unix.ENODATA {
			return err
		}
	}
	if replaced != nil {
		delete(shard.open, streamKey{f.id, there})
		replaced.gone = true
	}
	if st != nil {
		delete(shard.open, streamKey{f.id, from})
		shard.open[streamKey{f.id, to}] = st
		st.xattr, st.cname = to, cString(to)
	}
	return nil
}

// roomError makes ENOSPC of the ways in which storage says that a value is too
// large for it.
func roomError(err error) error {
	if err == unix.E2BIG || err == unix.ERANGE {
		return fmt.Errorf("no room among the extended attributes: %w", syscall.ENOSPC)
	}
	return err
}

// load reads the stream into buf and returns its content, which is followed by
// the one byte of buf that is the NUL. st.mu is held.
func (s *stream) load(buf []byte) ([]byte, error) {
	if s.st.gone {
		return nil, syscall.ESTALE
	}
	n, err := getXattr(s.cpath, s.st.cname, buf)
	switch {
	case err == unix.ENODATA: // removed by another process
		return nil, syscall.ESTALE
	case err != nil:
		return nil, err
	case n == 0:
		return buf[:0], nil
	case buf[n-1] != 0:
		return nil, fmt.Errorf("stream in several attributes: %w", vfs.ErrNotSupported)
	}
	return buf[:n-1], nil
}

// store replaces the content. st.mu is held.
func (s *stream) store(content []byte) error {
	value := append(content, 0)
	err := setXattr(s.cpath, s.st.cname, value, unix.XATTR_REPLACE)
	if err == unix.ENODATA {
		return syscall.ESTALE
	}
	if err == nil && s.writeThrough {
		err = s.syncPath()
	}
	return roomError(err)
}

// ReadAt implements vfs.File.
func (s *stream) ReadAt(p []byte, off int64) (int, error) {
	if err := s.beginData(context.Background(), "read", vfs.AccessRead); err != nil {
		return 0, err
	}
	defer s.release()
	if off < 0 {
		return 0, s.wrap("read", errNegativeOffset)
	}
	bp := streamBufs.Get().(*[]byte)
	defer streamBufs.Put(bp)
	s.st.mu.Lock()
	content, err := s.load(*bp)
	s.st.mu.Unlock()
	if err != nil {
		return 0, s.wrap("read", err)
	}
	if off > int64(len(content)) {
		return 0, io.EOF
	}
	n := copy(p, content[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements vfs.File.
func (s *stream) WriteAt(p []byte, off int64) (int, error) {
	if err := s.beginData(context.Background(), "write", vfs.AccessWrite); err != nil {
		return 0, err
	}
	defer s.release()
	switch {
	case off < 0:
		return 0, s.wrap("write", errNegativeOffset)
	case len(p) == 0:
		return 0, nil
	case off > maxStream || int64(len(p)) > maxStream-off:
		return 0, s.wrap("write", syscall.EFBIG)
	}
	bp := streamBufs.Get().(*[]byte)
	defer streamBufs.Put(bp)
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	content, err := s.load(*bp)
	if err == nil {
		if size := int(off) + len(p); size > len(content) {
			content = grow(content, size)
		}
		copy(content[off:], p)
		err = s.store(content)
	}
	if err != nil {
		return 0, s.wrap("write", err)
	}
	return len(p), nil
}

// grow extends content within its buffer by zeros.
func grow(content []byte, size int) []byte {
	old := len(content)
	content = content[:size]
	clear(content[old:])
	return content
}

// Truncate implements vfs.File.
func (s *stream) Truncate(ctx context.Context, size int64) error {
	if err := s.beginData(ctx, "truncate", vfs.AccessWrite); err != nil {
		return err
	}
	defer s.release()
	if size < 0 {
		return s.wrap("truncate", syscall.EINVAL)
	}
	if size > maxStream {
		return s.wrap("truncate", syscall.EFBIG)
	}
	bp := streamBufs.Get().(*[]byte)
	defer streamBufs.Put(bp)
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	content, err := s.load(*bp)
	switch {
	case err != nil:
	case int(size) <= len(content):
		err = s.store(content[:size])
	default:
		err = s.store(grow(content, int(size)))
	}
	return s.wrap("truncate", err)
}

// Stat implements vfs.File.
func (s *stream) Stat(ctx context.Context) (vfs.Info, error) {
	info, err := s.file.Stat(ctx)
	if err != nil {
		return info, err
	}
	if !s.acquire() {
		return vfs.Info{}, s.noData("stat") // which says that it is closed
	}
	defer s.release()
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	n, err := getXattr(s.cpath, s.st.cname, nil)
	if s.st.gone || err == unix.ENODATA {
		n, err = 0, nil // what remains is what closing needs
	}
	info.Size = int64(max(n-1, 0))
	info.Allocated = streamAllocated(info.Size)
	return info, s.wrap("stat", err)
}
