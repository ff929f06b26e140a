package vfstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"slices"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

func testOSFile(s *suite) {
	f := s.create("f", "content")
	o, ok := f.(vfs.OSFiler)
	if !ok {
		s.unsupported("vfs.OSFiler")
	}
	osf := o.OSFile()
	if osf == nil {
		s.Fatal("OSFile is nil for a file opened for reading and writing")
	}
	b := make([]byte, 7)
	if _, err := osf.ReadAt(b, 0); err != nil || string(b) != "content" {
		s.Errorf("through OSFile, the file reads %q, %v", b, err)
	}
	if o.OSFile() != osf {
		s.Error("OSFile returns another file the second time")
	}
	if m, ok := s.open("f", vfs.OpenOptions{}).(vfs.OSFiler); ok && m.OSFile() != nil {
		s.Error("OSFile of a handle without access to data is not nil")
	}
	s.ok("Close", f.Close())
	if o.OSFile() != nil {
		s.Error("OSFile of a closed file is not nil")
	}
	if _, err := osf.Stat(); !errors.Is(err, fs.ErrClosed) {
		s.Errorf("the OSFile of a closed file: got %v, want closed", err)
	}
}

func testCachedReader(s *suite) {
	f := s.create("f", "some content")
	c, ok := f.(vfs.CachedReader)
	if !ok {
		s.unsupported("vfs.CachedReader")
	}
	buf := make([]byte, 4)
	if n, err := c.ReadCached(buf, 5); errors.Is(err, vfs.ErrNotCached) {
		s.unsupported("reading what is cached")
	} else if err != nil || string(buf[:n]) != "cont" {
		s.Errorf("4 bytes from 5: %q, %v", buf[:n], err)
	}
	for _, tc := range []struct {
		name string
		off  int64
		want string
		err  error
	}{
		{"beyond the end", 100, "", io.EOF},
		{"at the end", 12, "", io.EOF},
		{"across the end", 10, "nt", io.EOF},
		{"a negative offset", -1, "", vfs.ErrNotCached},
	} {
		n, err := c.ReadCached(buf, tc.off)
		if string(buf[:n]) != tc.want || !errors.Is(err, tc.err) {
			s.Errorf("%s: %q, %v; want %q, %v", tc.name, buf[:n], err, tc.want, tc.err)
		}
	}
	if n, err := c.ReadCached(buf, math.MaxInt64); n != 0 || err == nil {
		s.Errorf("at the last offset: %d bytes, %v", n, err)
	}
	if c, ok := s.open("f", vfs.OpenOptions{Access: vfs.AccessWrite}).(vfs.CachedReader); ok {
		if n, err := c.ReadCached(buf, 0); n != 0 || !errors.Is(err, vfs.ErrNotCached) {
			s.Errorf("through a handle that may not read: %d bytes, %v", n, err)
		}
	}
	s.ok("Close", f.Close())
	if n, err := c.ReadCached(buf, 0); n != 0 || !errors.Is(err, vfs.ErrNotCached) {
		s.Errorf("of a closed file: %d bytes, %v", n, err)
	}
}

func testAllocate(s *suite) {
	f := s.create("f", "")
	a, ok := f.(vfs.Allocator)
	if !ok {
		s.unsupported("vfs.Allocator")
	}
	err := a.Allocate(s.ctx, 0, 1<<20, true)
	if isNotSupported(err) {
		s.unsupported("allocation")
	}
	s.ok("Allocate", err)
	if info := s.stat(f); info.Size != 0 || info.Allocated < 1<<20 {
		s.Errorf("with 1 MiB reserved, size is %d and storage %d; want 0 and at least 1 MiB", info.Size, info.Allocated)
	}
	s.ok("Allocate", a.Allocate(s.ctx, 0, 1<<20, false))
	if info := s.stat(f); info.Size != 1<<20 {
		s.Errorf("with 1 MiB allocated, size is %d", info.Size)
	}
	data := pattern(1<<20, 3)
	s.write(f, string(data), 0)
	for _, c := range []struct {
		what        string
		do          func(off, length int64) error
		off, length int64
	}{
		{"PunchHole", func(off, n int64) error { return a.PunchHole(s.ctx, off, n) }, 64 << 10, 128 << 10},
		{"PunchHole unaligned", func(off, n int64) error { return a.PunchHole(s.ctx, off, n) }, 300001, 5003},
		{"ZeroRange", func(off, n int64) error { return a.ZeroRange(s.ctx, off, n) }, 512<<10 + 1, 70001},
		{"ZeroRange past the end", func(off, n int64) error { return a.ZeroRange(s.ctx, off, n) }, 1<<20 - 10, 1 << 20},
	} {
		err := c.do(c.off, c.length)
		if isNotSupported(err) {
			s.unsupported(c.what)
		}
		s.ok(c.what, err)
		clear(data[c.off:min(c.off+c.length, int64(len(data)))])
		if got := s.content(f); got != string(data) {
			s.Errorf("after %s, the file of %d bytes is not what it was with zeros in the range", c.what, len(got))
		}
		for _, r := range [][2]int64{{-1, 10}, {0, 0}, {0, -1}, {math.MaxInt64, 1}, {1, math.MaxInt64}} {
			s.wantErr(c.what+" of an impossible range", c.do(r[0], r[1]), syscall.EINVAL)
		}
	}
	ro := s.open("f", vfs.OpenOptions{Access: vfs.AccessRead}).(vfs.Allocator)
	s.wantErr("PunchHole without write access", ro.PunchHole(s.ctx, 0, 1), syscall.EBADF)
}

func testHoles(s *suite) {
	f := s.create("f", "")
	h, ok := f.(vfs.HoleSeeker)
	if !ok {
		s.unsupported("vfs.HoleSeeker")
	}
	if !s.statfs.Sparse {
		s.unsupported("holes")
	}
	const mib = 1 << 20
	s.ok("Truncate", f.Truncate(s.ctx, 4*mib))
	s.write(f, string(pattern(mib, 4)), mib)
	s.ok("Sync", f.Sync(s.ctx))
	for _, c := range []struct {
		what string
		seek func(off int64) (int64, error)
		off  int64
		want int64
		err  error
	}{
		{"data from the start", func(o int64) (int64, error) { return h.SeekData(s.ctx, o) }, 0, mib, nil},
		{"data within data", func(o int64) (int64, error) { return h.SeekData(s.ctx, o) }, mib + 5, mib + 5, nil},
		{"data after the last", func(o int64) (int64, error) { return h.SeekData(s.ctx, o) }, 3 * mib, 0, syscall.ENXIO},
		{"a hole from the start", func(o int64) (int64, error) { return h.SeekHole(s.ctx, o) }, 0, 0, nil},
		{"a hole within data", func(o int64) (int64, error) { return h.SeekHole(s.ctx, o) }, mib, 2 * mib, nil},
		{"a hole at the end", func(o int64) (int64, error) { return h.SeekHole(s.ctx, o) }, 4 * mib, 0, syscall.ENXIO},
		{"a hole before the start", func(o int64) (int64, error) { return h.SeekHole(s.ctx, o) }, -1, 0, syscall.EINVAL},
	} {
		got, err := c.seek(c.off)
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			s.Errorf("%s at %d: %d, %v; want %d, %v", c.what, c.off, got, err, c.want, c.err)
		}
	}
}

func testClone(s *suite) {
	const block = 1 << 20
	data := pattern(2*block, 5)
	src := s.create("src", string(data))
	dst := s.create("dst", "")
	c, ok := dst.(vfs.Cloner)
	if !ok {
		s.unsupported("vfs.Cloner")
	}
	for _, r := range [][3]int64{{-1, 0, block}, {0, -1, block}, {0, 0, 0}, {0, 0, -1}, {1, 0, math.MaxInt64}} {
		s.wantErr("CloneRange of an impossible range", c.CloneRange(s.ctx, r[0], src, r[1], r[2]), syscall.EINVAL)
	}
	err := c.CloneRange(s.ctx, 0, src, block, block)
	if isNotSupported(err) {
		s.unsupported("cloning")
	}
	s.ok("CloneRange", err)
	if got := s.content(dst); got != string(data[block:]) {
		s.Error("the clone differs from its source")
	}
	s.write(dst, "changed", 0)
	if got := s.content(src); got != string(data) {
		s.Error("a change to the clone changed its source")
	}
}

func testCopyRange(s *suite) {
	data := pattern(300_001, 6)
	src := s.create("src", string(data))
	dst := s.create("dst", "")
	c, ok := dst.(vfs.RangeCopier)
	if !ok {
		s.unsupported("vfs.RangeCopier")
	}
	n, err := c.CopyRange(s.ctx, 7, src, 1, 200_000)
	if isNotSupported(err) {
		s.unsupported("copying")
	}
	if n != 200_000 || err != nil {
		s.Fatalf("CopyRange = %d, %v; want 200000", n, err)
	}
	want := append(make([]byte, 7), data[1:200_001]...)
	if got := s.content(dst); !bytes.Equal([]byte(got), want) {
		s.Errorf("the copy of %d bytes differs from the source's range", len(got))
	}
	n, err = c.CopyRange(s.ctx, 0, src, 300_000, 100)
	if n != 1 || err != io.EOF {
		s.Errorf("CopyRange across the end = %d, %v; want 1, EOF", n, err)
	}
	same := src.(vfs.RangeCopier)
	_, err = same.CopyRange(s.ctx, 10, src, 0, 100)
	s.wantErr("CopyRange onto itself", err, syscall.EINVAL)
	n, err = same.CopyRange(s.ctx, 1000, src, 0, 100)
	if n != 100 || err != nil {
		s.Errorf("CopyRange within a file = %d, %v; want 100", n, err)
	}
	for _, r := range [][3]int64{{-1, 0, 1}, {0, -1, 1}, {0, 0, 0}, {0, 0, -1}, {math.MaxInt64, 0, 1}, {0, 1, math.MaxInt64}} {
		_, err := c.CopyRange(s.ctx, r[0], src, r[1], r[2])
		s.wantErr("CopyRange of an impossible range", err, syscall.EINVAL)
	}
	ro := s.open("dst", vfs.OpenOptions{Access: vfs.AccessRead}).(vfs.RangeCopier)
	_, err = ro.CopyRange(s.ctx, 0, src, 0, 1)
	s.wantErr("CopyRange without write access", err, syscall.EBADF)
	_, err = c.CopyRange(s.ctx, 0, s.open("src", vfs.OpenOptions{Access: vfs.AccessWrite}), 0, 1)
	s.wantErr("CopyRange without read access", err, syscall.EBADF)
}

func testXattrs(s *suite) {
	if !s.statfs.Xattrs {
		s.unsupported("extended attributes")
	}
	s.put("f", "")
	s.mkdir("d")
	for _, c := range []struct {
		name string
		o    vfs.OpenOptions
	}{
		{"f", vfs.OpenOptions{Access: rw}},
		{"f", vfs.OpenOptions{}},
		{"d", vfs.OpenOptions{Access: vfs.AccessRead}},
	} {
		f := s.open(c.name, c.o)
		x, ok := f.(vfs.Xattrer)
		if !ok {
			s.Fatalf("Statfs says that there are extended attributes, but %T is no vfs.Xattrer", f)
		}
		// What the backend keeps for itself does not show.
		s.ok("SetAttr", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetAttributes, Attributes: vfs.AttrHidden}))
		list, err := x.ListXattr(s.ctx)
		if err != nil || len(list) != 0 {
			s.Errorf("ListXattr = %q, %v; want none", list, err)
		}
		peek := func(want bool) {
			dir := s.openDir(vfs.Root)
			p, ok := dir.(vfs.XattrPeeker)
			if !ok {
				return
			}
			info, err := dir.Lstat(s.ctx, c.name)
			s.ok("Lstat", err)
			if got, err := p.HasXattrs(s.ctx, c.name, &info); err != nil || got != want {
				s.Errorf("HasXattrs(%q) = %v, %v; want %v", c.name, got, err, want)
			}
		}
		peek(false)
		values := map[string][]byte{"a": []byte("1"), "Long.Name": pattern(2000, 7), "empty": {}}
		for name, v := range values {
			s.ok("SetXattr", x.SetXattr(s.ctx, name, v))
		}
		s.ok("SetXattr", x.SetXattr(s.ctx, "a", []byte("replaced")))
		values["a"] = []byte("replaced")
		for name, v := range values {
			got, err := x.Xattr(s.ctx, name)
			if err != nil || !bytes.Equal(got, v) {
				s.Errorf("Xattr(%q) = %d bytes, %v; want the %d stored", name, len(got), err, len(v))
			}
		}
		list, err = x.ListXattr(s.ctx)
		slices.Sort(list)
		if err != nil || !slices.Equal(list, []string{"Long.Name", "a", "empty"}) {
			s.Errorf("ListXattr = %q, %v", list, err)
		}
		peek(true)
		peeks := func(want bool) {
			s.Helper()
			dir := s.openDir(vfs.Root)
			p, ok := dir.(vfs.XattrPeeker)
			if !ok {
				return
			}
			info, err := dir.Lstat(s.ctx, c.name)
			s.ok("Lstat", err)
			if has, err := p.HasXattrs(s.ctx, c.name, &info); has != want || err != nil {
				s.Errorf("HasXattrs(%q) = %v, %v; want %v", c.name, has, err, want)
			}
			_, err = p.HasXattrs(s.ctx, "missing", new(vfs.Info))
			s.wantErr("HasXattrs of nothing", err, fs.ErrNotExist)
			_, err = p.HasXattrs(s.ctx, "../"+c.name, new(vfs.Info))
			s.wantErr("HasXattrs elsewhere", err, syscall.EINVAL)
		}
		peeks(true)
		for name := range values {
			s.ok("RemoveXattr", x.RemoveXattr(s.ctx, name))
		}
		peeks(false)
		peek(false)
		_, err = x.Xattr(s.ctx, "a")
		s.wantErr("Xattr of nothing", err, syscall.ENODATA)
		s.wantErr("RemoveXattr of nothing", x.RemoveXattr(s.ctx, "a"), syscall.ENODATA)
		s.wantErr("SetXattr without a name", x.SetXattr(s.ctx, "", nil), syscall.EINVAL)
		s.wantErr("SetXattr with NUL", x.SetXattr(s.ctx, "a\x00b", nil), syscall.EINVAL)
	}
}
