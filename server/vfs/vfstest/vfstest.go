package vfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Run checks the file systems that newFS makes. Each is to be empty, writable
// and independent of the others; Run closes it. newFS may use t.Cleanup.
func Run(t *testing.T, newFS func(t *testing.T) vfs.FS) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"Names", testNames},
		{"OpenDispositions", testOpenDispositions},
		{"OpenKinds", testOpenKinds},
		{"OpenAccess", testOpenAccess},
		{"CreateNewOnce", testCreateNewOnce},
		{"CreateMetadata", testCreateMetadata},
		{"ReadWrite", testReadWrite},
		{"Truncate", testTruncate},
		{"ConcurrentIO", testConcurrentIO},
		{"ReadWriteAllocs", testAllocs},
		{"Mkdir", testMkdir},
		{"Remove", testRemove},
		{"RemoveIf", testRemoveIf},
		{"Rename", testRename},
		{"RenameCase", testRenameCase},
		{"HandleOutlivesName", testHandleOutlivesName},
		{"Case", testCase},
		{"ReadDir", testReadDir},
		{"ReadDirResume", testReadDirResume},
		{"ReadDirChanging", testReadDirChanging},
		{"DirLstat", testDirLstat},
		{"Stat", testStat},
		{"SetAttr", testSetAttr},
		{"Attributes", testAttributes},
		{"Statfs", testStatfs},
		{"Sync", testSync},
		{"CloseFile", testCloseFile},
		{"CloseFS", testCloseFS},
		{"Context", testContext},
		{"Link", testLink},
		{"Symlink", testSymlink},
		{"Mknod", testMknod},
		{"OSFile", testOSFile},
		{"CachedReader", testCachedReader},
		{"Allocate", testAllocate},
		{"Holes", testHoles},
		{"RealName", testRealName},
		{"Clone", testClone},
		{"CopyRange", testCopyRange},
		{"Xattrs", testXattrs},
		{"Streams", testStreams},
		{"StreamDispositions", testStreamDispositions},
		{"StreamNames", testStreamNames},
		{"StreamRename", testStreamRename},
		{"StreamOutlivesName", testStreamOutlivesName},
		{"StreamLimits", testStreamLimits},
		{"StreamConcurrency", testStreamConcurrency},
		{"StreamAllocs", testStreamAllocs},
		{"SecurityRecord", testSecurityRecord},
		{"LockRange", testLockRange},
		{"LockFile", testLockFile},
		{"Lease", testLease},
		{"Sparse", testSparse},
		{"Allocated", testAllocated},
		{"Watch", testWatch},
		{"WatchRename", testWatchRename},
		{"WatchRecursive", testWatchRecursive},
		{"WatchFilter", testWatchFilter},
		{"WatchOverflow", testWatchOverflow},
		{"WatchEnds", testWatchEnds},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, fs: newFS(t), ctx: t.Context()}
			defer func() {
				if err := s.fs.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			st, err := s.fs.Statfs(s.ctx)
			if err != nil {
				t.Fatalf("Statfs: %v", err)
			}
			s.statfs = st
			c.test(s)
		})
	}
}

// suite is one subtest with its own FS. Its helpers end the test on surprises.
type suite struct {
	*testing.T
	fs     vfs.FS
	ctx    context.Context
	statfs vfs.Statfs
}

// unsupported skips the subtest, unless the environment says that it must run.
func (s *suite) unsupported(what string) {
	s.Helper()
	_, name, _ := strings.Cut(s.Name(), "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	if slices.Contains(strings.Split(os.Getenv("VFS_REQUIRE"), ","), name) {
		s.Fatalf("%s is required and not supported", what)
	}
	s.Skipf("%s is not supported", what)
}

// wantErr checks an error against an errno or a sentinel.
func (s *suite) wantErr(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func (s *suite) ok(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

const rw = vfs.AccessRead | vfs.AccessWrite

// open opens name and closes it at the end of the test, if it is not closed by then.
func (s *suite) open(name string, o vfs.OpenOptions) vfs.File {
	s.Helper()
	f, _, err := s.fs.Open(s.ctx, name, o)
	s.ok(fmt.Sprintf("Open(%q, %+v)", name, o), err)
	s.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			s.Errorf("closing %q: %v", name, err)
		}
	})
	return f
}

// create makes a new file with this content and returns it open.
func (s *suite) create(name, content string) vfs.File {
	s.Helper()
	f := s.open(name, vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew, Kind: vfs.KindFile})
	s.write(f, content, 0)
	return f
}

func (s *suite) write(f vfs.File, content string, off int64) {
	s.Helper()
	n, err := f.WriteAt([]byte(content), off)
	if err != nil || n != len(content) {
		s.Fatalf("WriteAt(%d bytes, %d) = %d, %v", len(content), off, n, err)
	}
}

// put makes a new file with this content.
func (s *suite) put(name, content string) {
	s.Helper()
	s.ok("Close", s.create(name, content).Close())
}

func (s *suite) mkdir(name string) {
	s.Helper()
	s.ok("Mkdir "+name, s.fs.Mkdir(s.ctx, name, 0o777))
}

// content reads the whole of an open file.
func (s *suite) content(f vfs.File) string {
	s.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	s.ok("reading", err)
	return string(b)
}

func (s *suite) wantContent(name, want string) {
	s.Helper()
	f, _, err := s.fs.Open(s.ctx, name, vfs.OpenOptions{Access: vfs.AccessRead})
	if err != nil {
		s.Errorf("opening %q, which should contain %q: %v", name, want, err)
		return
	}
	defer f.Close()
	if got := s.content(f); got != want {
		s.Errorf("%q contains %q, want %q", name, got, want)
	}
}

func (s *suite) wantMissing(name string) {
	s.Helper()
	_, err := s.fs.Lstat(s.ctx, name)
	s.wantErr("Lstat "+name, err, fs.ErrNotExist)
}

func (s *suite) stat(f vfs.File) vfs.Info {
	s.Helper()
	info, err := f.Stat(s.ctx)
	s.ok("Stat", err)
	return info
}

// names lists a directory in order, batch entries at a time.
func (s *suite) names(name string, batch int) []string {
	s.Helper()
	d := s.openDir(name)
	defer d.Close()
	var names []string
	for _, e := range s.list(d, vfs.CursorStart, batch) {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return names
}

func (s *suite) openDir(name string) vfs.Dir {
	s.Helper()
	f := s.open(name, vfs.OpenOptions{Access: vfs.AccessRead, Kind: vfs.KindDir})
	d, ok := f.(vfs.Dir)
	if !ok {
		s.Fatalf("directory %q opened for reading is a %T, which is no vfs.Dir", name, f)
	}
	return d
}

func (s *suite) list(d vfs.Dir, from vfs.Cursor, batch int) []vfs.DirEntry {
	s.Helper()
	var all []vfs.DirEntry
	buf := make([]vfs.DirEntry, batch)
	for {
		n, err := d.ReadDir(s.ctx, from, buf)
		if err == io.EOF && n == 0 {
			return all
		}
		s.ok("ReadDir", err)
		if n < 1 || n > batch {
			s.Fatalf("ReadDir returned %d entries for %d places and no error", n, batch)
		}
		all = append(all, buf[:n]...)
		from = buf[n-1].Cursor
	}
}

// pattern is recognisable content that differs at every 8-byte place.
func pattern(n int, seed uint64) []byte {
	var b bytes.Buffer
	for i := uint64(0); b.Len() < n; i++ {
		x := (i + 1 + seed<<32) * 0x9E3779B97F4A7C15
		for range 8 {
			b.WriteByte(byte(x))
			x >>= 8
		}
	}
	return b.Bytes()[:n]
}

func isNotSupported(err error) bool {
	return errors.Is(err, vfs.ErrNotSupported) || errors.Is(err, syscall.ENOTSUP)
}
