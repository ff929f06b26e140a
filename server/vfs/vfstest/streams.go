package vfstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// holder skips the test where files have no streams.
func (s *suite) holder(f vfs.File) vfs.StreamHolder {
	s.Helper()
	h, ok := f.(vfs.StreamHolder)
	if !ok || !s.statfs.Streams {
		if s.statfs.Streams {
			s.Fatalf("Statfs says that there are streams, but %T is no vfs.StreamHolder", f)
		}
		s.unsupported("alternate streams")
	}
	return h
}

// openStream opens a stream and closes it at the end of the test, if it is not
// closed by then.
func (s *suite) openStream(h vfs.StreamHolder, name string, d vfs.Disposition, a vfs.Access) vfs.File {
	s.Helper()
	f, _, err := h.OpenStream(s.ctx, name, vfs.OpenOptions{Access: a, Disposition: d})
	s.ok("OpenStream "+name, err)
	s.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			s.Errorf("closing stream %q: %v", name, err)
		}
	})
	return f
}

// wantStreams checks the list of streams with their sizes.
func (s *suite) wantStreams(h vfs.StreamHolder, want map[string]int64) {
	s.Helper()
	list, err := h.Streams(s.ctx)
	s.ok("Streams", err)
	got := map[string]int64{}
	for _, i := range list {
		got[i.Name] = i.Size
		if i.Allocated < i.Size {
			s.Errorf("stream %q of %d bytes takes %d", i.Name, i.Size, i.Allocated)
		}
	}
	if len(got) != len(list) || len(got) != len(want) {
		s.Errorf("streams are %v, want %v", list, want)
	}
	for name, size := range want {
		if n, ok := got[name]; !ok || n != size {
			s.Errorf("streams are %v, want %v", list, want)
		}
	}
}

func testStreams(s *suite) {
	s.put("f", "main")
	s.mkdir("d")
	for _, c := range []struct {
		name string
		o    vfs.OpenOptions
	}{
		{"f", vfs.OpenOptions{Access: rw}},
		{"f", vfs.OpenOptions{}},
		{"d", vfs.OpenOptions{Access: vfs.AccessRead}},
		{"d", vfs.OpenOptions{}},
	} {
		f := s.open(c.name, c.o)
		h := s.holder(f)
		s.wantStreams(h, nil)
		a := s.openStream(h, "Zone.Identifier", vfs.CreateNew, rw)
		s.write(a, "[ZoneTransfer]", 0)
		s.write(a, "!", 20)
		if got, want := s.content(a), "[ZoneTransfer]\x00\x00\x00\x00\x00\x00!"; got != want {
			s.Errorf("the stream has %q, want %q", got, want)
		}
		s.ok("Truncate", a.Truncate(s.ctx, 5))
		s.ok("Truncate", a.Truncate(s.ctx, 7))
		if got, want := s.content(a), "[Zone\x00\x00"; got != want {
			s.Errorf("the stream has %q, want %q", got, want)
		}
		s.openStream(h, "空 and spaces", vfs.OpenOrCreate, 0)
		s.wantStreams(h, map[string]int64{"Zone.Identifier": 7, "空 and spaces": 0})

		// What streams are kept in does not show elsewhere.
		info, base := s.stat(a), s.stat(f)
		if info.Size != 7 || info.ID != base.ID || info.Mode != base.Mode {
			s.Errorf("the stream is %+v, want the file's %+v with size 7", info, base)
		}
		if x, ok := f.(vfs.Xattrer); ok && s.statfs.Xattrs {
			if list, err := x.ListXattr(s.ctx); err != nil || len(list) != 0 {
				s.Errorf("with streams, extended attributes are %q, %v; want none", list, err)
			}
		}
		if c.name == "f" && base.Size != 4 {
			s.Errorf("with streams, the file has %d bytes, want 4", base.Size)
		}

		// A stream outlives the handle it was opened by.
		s.ok("Close", f.Close())
		b := make([]byte, 5)
		if n, err := a.ReadAt(b, 0); n != 5 || err != nil || string(b) != "[Zone" {
			s.Errorf("after closing the file, the stream reads %q, %v", b[:n], err)
		}
		h = s.holder(s.open(c.name, vfs.OpenOptions{}))
		s.ok("RemoveStream", h.RemoveStream(s.ctx, "zone.IDENTIFIER"))
		s.ok("RemoveStream", h.RemoveStream(s.ctx, "空 and spaces"))
		s.wantErr("RemoveStream of nothing", h.RemoveStream(s.ctx, "Zone.Identifier"), fs.ErrNotExist)
		s.wantStreams(h, nil)
	}
	s.wantContent("f", "main")
}

func testStreamDispositions(s *suite) {
	h := s.holder(s.create("f", ""))
	for _, c := range []struct {
		name        string
		disposition vfs.Disposition
		ifThere     vfs.Action // 0 means EEXIST
		ifNot       vfs.Action // 0 means ENOENT
	}{
		{"OpenExisting", vfs.OpenExisting, vfs.Opened, 0},
		{"CreateNew", vfs.CreateNew, 0, vfs.Created},
		{"OpenOrCreate", vfs.OpenOrCreate, vfs.Opened, vfs.Created},
		{"Overwrite", vfs.Overwrite, vfs.Overwritten, 0},
		{"OverwriteOrCreate", vfs.OverwriteOrCreate, vfs.Overwritten, vfs.Created},
	} {
		for _, access := range []vfs.Access{0, vfs.AccessRead, vfs.AccessWrite, rw} {
			o := vfs.OpenOptions{Access: access, Disposition: c.disposition}
			there := s.openStream(h, "There", vfs.CreateNew, rw)
			s.write(there, "content", 0)
			f, res, err := h.OpenStream(s.ctx, "tHERE", o)
			switch {
			case c.ifThere == 0:
				s.wantErr(c.name+" of what is there", err, fs.ErrExist)
			case err != nil:
				s.Errorf("%s of what is there, access %d: %v", c.name, access, err)
			default:
				s.ok("Close", f.Close())
				if want := (vfs.OpenResult{Action: c.ifThere, Name: "There"}); res != want {
					s.Errorf("%s of what is there: %+v, want %+v", c.name, res, want)
				}
			}
			want := "content"
			if c.ifThere == vfs.Overwritten {
				want = ""
			}
			if got := s.content(there); got != want {
				s.Errorf("%s leaves %q of what is there, want %q", c.name, got, want)
			}
			s.ok("Close", there.Close())
			s.ok("RemoveStream", h.RemoveStream(s.ctx, "There"))

			f, res, err = h.OpenStream(s.ctx, "new", o)
			switch {
			case c.ifNot == 0:
				s.wantErr(c.name+" of nothing", err, fs.ErrNotExist)
				s.wantStreams(h, nil)
				continue
			case err != nil:
				s.Errorf("%s of nothing, access %d: %v", c.name, access, err)
				continue
			}
			if want := (vfs.OpenResult{Action: c.ifNot, Name: "new"}); res != want {
				s.Errorf("%s of nothing: %+v, want %+v", c.name, res, want)
			}
			_, rerr := f.ReadAt(make([]byte, 1), 0)
			_, werr := f.WriteAt([]byte("x"), 0)
			if may := rerr == nil || rerr == io.EOF; may != (access&vfs.AccessRead != 0) {
				s.Errorf("reading with access %d: %v", access, rerr)
			}
			if (werr == nil) != (access&vfs.AccessWrite != 0) {
				s.Errorf("writing with access %d: %v", access, werr)
			}
			s.ok("Close", f.Close())
			s.ok("RemoveStream", h.RemoveStream(s.ctx, "new"))
		}
	}
}

func testStreamNames(s *suite) {
	f := s.create("f", "x")
	h := s.holder(f)
	for _, name := range []string{"", "a/b", `a\b`, "a:b", "a:$DATA", ":", "..\x00", "\xff", "\x00"} {
		_, _, err := h.OpenStream(s.ctx, name, vfs.OpenOptions{Disposition: vfs.OpenOrCreate})
		s.wantErr("OpenStream "+name, err, syscall.EINVAL)
		s.wantErr("RemoveStream "+name, h.RemoveStream(s.ctx, name), syscall.EINVAL)
		s.wantErr("RenameStream to "+name, h.RenameStream(s.ctx, "a", name, true), syscall.EINVAL)
		s.wantErr("RenameStream from "+name, h.RenameStream(s.ctx, name, "a", true), syscall.EINVAL)
	}
	_, _, err := h.OpenStream(s.ctx, strings.Repeat("n", 256), vfs.OpenOptions{Disposition: vfs.OpenOrCreate})
	s.wantErr("a stream with a name too long", err, syscall.ENAMETOOLONG)
	s.wantStreams(h, nil)
	// These mean something in names of files only.
	want := map[string]int64{}
	for _, name := range []string{".", "..", "$DATA", "a*?b", "UPPER"} {
		s.ok("Close", s.openStream(h, name, vfs.CreateNew, 0).Close())
		want[name] = 0
	}
	s.wantStreams(h, want)
	_, _, err = h.OpenStream(s.ctx, "upper", vfs.OpenOptions{Disposition: vfs.CreateNew})
	s.wantErr("creating a stream under another case", err, fs.ErrExist)
	s.wantContent("f", "x")
}

func testStreamRename(s *suite) {
	f := s.create("f", "")
	h := s.holder(f)
	a := s.openStream(h, "a", vfs.CreateNew, rw)
	s.write(a, "A", 0)
	b := s.openStream(h, "b", vfs.CreateNew, rw)
	s.write(b, "BB", 0)
	s.wantErr("RenameStream of nothing", h.RenameStream(s.ctx, "none", "c", true), fs.ErrNotExist)
	s.wantErr("RenameStream onto another", h.RenameStream(s.ctx, "a", "B", false), fs.ErrExist)
	s.ok("RenameStream to itself", h.RenameStream(s.ctx, "a", "a", false))
	s.ok("RenameStream to a free name", h.RenameStream(s.ctx, "A", "c", false))
	s.wantStreams(h, map[string]int64{"c": 1, "b": 2})
	s.write(a, "AAA", 0) // the handle follows
	s.ok("RenameStream to another case", h.RenameStream(s.ctx, "c", "C", false))
	s.wantStreams(h, map[string]int64{"C": 3, "b": 2})
	s.ok("RenameStream over another", h.RenameStream(s.ctx, "c", "B", true))
	s.wantStreams(h, map[string]int64{"B": 3})
	s.write(a, "D", 3)
	if got := s.content(s.openStream(h, "b", vfs.OpenExisting, vfs.AccessRead)); got != "AAAD" {
		s.Errorf("after renaming, the stream reads %q, want AAAD", got)
	}
	// The one that was replaced is no more.
	_, err := b.ReadAt(make([]byte, 1), 0)
	s.wantErr("ReadAt of a replaced stream", err, syscall.ESTALE)
	_, err = b.WriteAt([]byte("x"), 0)
	s.wantErr("WriteAt of a replaced stream", err, syscall.ESTALE)
	s.wantErr("Truncate of a replaced stream", b.Truncate(s.ctx, 0), syscall.ESTALE)
	s.wantStreams(h, map[string]int64{"B": 4})
	if info := s.stat(b); info.Size != 0 || info.ID != s.stat(f).ID {
		s.Errorf("a replaced stream is %+v, want the file with size 0", info)
	}
}

// A stream's handle refers to the object, as a file's does.
func testStreamOutlivesName(s *suite) {
	f := s.create("f", "x")
	h := s.holder(f)
	a := s.openStream(h, "a", vfs.CreateNew, rw)
	s.ok("Rename", s.fs.Rename(s.ctx, "f", "g", false))
	s.write(a, "one", 0)
	g := s.holder(s.open("g", vfs.OpenOptions{}))
	if got := s.content(s.openStream(g, "A", vfs.OpenExisting, vfs.AccessRead)); got != "one" {
		s.Errorf("after renaming the file, its stream reads %q, want one", got)
	}
	s.ok("RemoveStream", g.RemoveStream(s.ctx, "a"))
	_, err := a.ReadAt(make([]byte, 1), 0)
	s.wantErr("ReadAt of a removed stream", err, syscall.ESTALE)
	s.openStream(g, "a", vfs.CreateNew, rw) // another one
	_, err = a.WriteAt([]byte("x"), 0)
	s.wantErr("WriteAt of a removed stream", err, syscall.ESTALE)

	b := s.openStream(g, "b", vfs.CreateNew, rw)
	s.ok("Remove", s.fs.Remove(s.ctx, "g", vfs.KindFile))
	s.write(b, "two", 0)
	if got := s.content(b); got != "two" {
		s.Errorf("after removing the file, its stream reads %q, want two", got)
	}
	s.ok("Sync", b.Sync(s.ctx))
	s.ok("Close", b.Close())
	_, err = b.ReadAt(make([]byte, 1), 0)
	s.wantErr("ReadAt of a closed stream", err, fs.ErrClosed)
	_, err = b.Stat(s.ctx)
	s.wantErr("Stat of a closed stream", err, fs.ErrClosed)
	s.wantErr("closing again", b.Close(), fs.ErrClosed)
}

// What does not fit is refused and changes nothing.
func testStreamLimits(s *suite) {
	f := s.create("f", "")
	h := s.holder(f)
	a := s.openStream(h, "a", vfs.CreateNew, rw)
	s.write(a, "keep", 0)
	noRoom := func(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) }
	for _, size := range []int64{1 << 50, math.MaxInt64} {
		if err := a.Truncate(s.ctx, size); err != nil && !noRoom(err) {
			s.Errorf("Truncate to %d: got %v, want ENOSPC or EFBIG, or a stream with holes", size, err)
		}
		if _, err := a.WriteAt([]byte("x"), size-1); err != nil && !noRoom(err) {
			s.Errorf("WriteAt of a byte at %d: got %v, want ENOSPC or EFBIG, or a stream with holes", size-1, err)
		}
	}
	s.ok("Truncate", a.Truncate(s.ctx, 4))
	s.wantErr("Truncate to -1", a.Truncate(s.ctx, -1), syscall.EINVAL)
	_, err := a.WriteAt([]byte("x"), -1)
	s.wantErr("WriteAt -1", err, syscall.EINVAL)
	_, err = a.ReadAt([]byte("x"), -1)
	s.wantErr("ReadAt -1", err, syscall.EINVAL)
	if n, err := a.ReadAt(make([]byte, 1), math.MaxInt64); n != 0 || err != io.EOF {
		s.Errorf("ReadAt far beyond the end = %d, %v; want EOF", n, err)
	}
	// Fill it up: every refusal keeps what was acknowledged.
	content := []byte("keep")
	chunk := pattern(1000, 9)
	for len(content) < 200_000 {
		n, err := a.WriteAt(chunk, int64(len(content)))
		if err != nil {
			if !noRoom(err) || n != 0 {
				s.Errorf("WriteAt beyond the room = %d, %v; want 0, ENOSPC or EFBIG", n, err)
			}
			break
		}
		content = append(content, chunk...)
	}
	if len(content) < 1004 {
		s.Errorf("a stream takes only %d bytes", len(content))
	}
	if got := s.content(a); got != string(content) {
		s.Errorf("after that, the stream of %d bytes is not what was written", len(got))
	}
}

func testStreamConcurrency(s *suite) {
	f := s.create("f", "")
	h := s.holder(f)
	const writers, size = 8, 64
	s.openStream(h, "s", vfs.CreateNew, 0)
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		w := s.openStream(h, "S", vfs.OpenExisting, rw)
		wg.Go(func() { // waited for below
			for round := range 20 {
				_, err := w.WriteAt(bytes.Repeat([]byte{byte('a' + i)}, size), int64(i*size))
				if err == nil && round == 10 {
					_, err = h.Streams(context.Background())
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	s.ok("writing at a time", errors.Join(errs...))
	var want []byte
	for i := range writers {
		want = append(want, bytes.Repeat([]byte{byte('a' + i)}, size)...)
	}
	if got := s.content(s.openStream(h, "s", vfs.OpenExisting, vfs.AccessRead)); got != string(want) {
		s.Errorf("the writers' stream is %q", got)
	}
	// Of simultaneous exclusive creations one succeeds.
	var made [writers]bool
	for i := range writers {
		wg.Go(func() { // waited for below
			f, _, err := h.OpenStream(context.Background(), "once", vfs.OpenOptions{Disposition: vfs.CreateNew})
			if err == nil {
				made[i] = true
				err = f.Close()
			} else if errors.Is(err, fs.ErrExist) {
				err = nil
			}
			errs[i] = err
		})
	}
	wg.Wait()
	s.ok("creating at a time", errors.Join(errs...))
	if n := len(slices.DeleteFunc(made[:], func(b bool) bool { return !b })); n != 1 {
		s.Errorf("%d exclusive creations succeeded, want 1", n)
	}
}

func testStreamAllocs(s *suite) {
	a := s.openStream(s.holder(s.create("f", "")), "a", vfs.CreateNew, rw)
	buf := pattern(512, 1)
	s.write(a, string(buf), 0)
	for what, do := range map[string]func() (int, error){
		"WriteAt": func() (int, error) { return a.WriteAt(buf, 0) },
		"ReadAt":  func() (int, error) { return a.ReadAt(buf, 0) },
	} {
		n := testing.AllocsPerRun(100, func() {
			if _, err := do(); err != nil {
				s.Fatalf("%s: %v", what, err)
			}
		})
		if n >= 1 {
			s.Errorf("%s allocates %v times", what, n)
		}
	}
}

func testSecurityRecord(s *suite) {
	s.put("f", "x")
	s.mkdir("d")
	for _, c := range []struct {
		name string
		o    vfs.OpenOptions
	}{
		{"f", vfs.OpenOptions{Access: rw}},
		{"f", vfs.OpenOptions{}},
		{"d", vfs.OpenOptions{Access: vfs.AccessRead}},
		{"d", vfs.OpenOptions{}},
	} {
		f := s.open(c.name, c.o)
		h, ok := f.(vfs.SecurityHolder)
		if !ok {
			s.unsupported("vfs.SecurityHolder")
		}
		_, err := h.SecurityRecord(s.ctx)
		if isNotSupported(err) {
			s.unsupported("keeping security records")
		}
		s.wantErr("SecurityRecord of a new object", err, syscall.ENODATA)
		s.ok("removing what is not there", h.SetSecurityRecord(s.ctx, nil))
		for _, record := range [][]byte{pattern(700, 11), {0}, pattern(60, 12)} {
			s.ok("SetSecurityRecord", h.SetSecurityRecord(s.ctx, record))
			again := s.open(c.name, vfs.OpenOptions{}).(vfs.SecurityHolder)
			if got, err := again.SecurityRecord(s.ctx); err != nil || !bytes.Equal(got, record) {
				s.Errorf("SecurityRecord = %d bytes, %v; want the %d stored", len(got), err, len(record))
			}
		}
		if err := h.SetSecurityRecord(s.ctx, make([]byte, 1<<17)); !errors.Is(err, syscall.E2BIG) {
			s.Errorf("SetSecurityRecord of 128 KiB: got %v, want E2BIG", err)
		}
		if got, err := h.SecurityRecord(s.ctx); err != nil || len(got) != 60 {
			s.Errorf("after a refusal, SecurityRecord = %d bytes, %v; want the 60 from before", len(got), err)
		}
		if x, ok := f.(vfs.Xattrer); ok && s.statfs.Xattrs {
			if list, err := x.ListXattr(s.ctx); err != nil || len(list) != 0 {
				s.Errorf("with a record, extended attributes are %q, %v; want none", list, err)
			}
		}
		s.ok("removing", h.SetSecurityRecord(s.ctx, nil))
		_, err = h.SecurityRecord(s.ctx)
		s.wantErr("SecurityRecord of nothing", err, syscall.ENODATA)
		s.ok("Close", f.Close())
		s.wantErr("SetSecurityRecord of a closed file", h.SetSecurityRecord(s.ctx, nil), fs.ErrClosed)
	}
}

func testSparse(s *suite) {
	if !s.statfs.Attributes {
		s.unsupported("keeping DOS attributes")
	}
	f := s.create("f", "x")
	for _, c := range []struct {
		set  vfs.SetAttr
		want vfs.Attributes
	}{
		{vfs.SetAttr{Set: vfs.SetSparse, Sparse: true}, vfs.AttrSparse},
		{vfs.SetAttr{Set: vfs.SetAttributes, Attributes: vfs.AttrHidden}, vfs.AttrSparse | vfs.AttrHidden},
		{vfs.SetAttr{Set: vfs.SetSparse | vfs.SetAttributes}, 0},
		{vfs.SetAttr{Set: vfs.SetAttributes, Attributes: vfs.AttrSparse | vfs.AttrArchive}, vfs.AttrArchive},
		{vfs.SetAttr{Set: vfs.SetSparse, Sparse: true}, vfs.AttrSparse | vfs.AttrArchive},
		{vfs.SetAttr{Set: vfs.SetCompressed, Compressed: true}, vfs.AttrCompressed | vfs.AttrSparse | vfs.AttrArchive},
		{vfs.SetAttr{Set: vfs.SetSparse}, vfs.AttrCompressed | vfs.AttrArchive},
		{vfs.SetAttr{Set: vfs.SetAttributes, Attributes: vfs.AttrCompressed | vfs.AttrHidden}, vfs.AttrCompressed | vfs.AttrHidden},
		{vfs.SetAttr{Set: vfs.SetCompressed | vfs.SetAttributes}, 0},
	} {
		s.ok("SetAttr", f.SetAttr(s.ctx, c.set))
		info, err := s.fs.Stat(s.ctx, "f")
		if err != nil || info.Attributes != c.want {
			s.Errorf("after %+v, attributes are %#x, %v; want %#x", c.set, info.Attributes, err, c.want)
		}
	}
	s.wantContent("f", "x")
}

// Storage that metadata takes is not the content's.
func testAllocated(s *suite) {
	f := s.create("f", "")
	s.ok("SetAttr", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetAttributes, Attributes: vfs.AttrArchive}))
	if x, ok := f.(vfs.Xattrer); ok && s.statfs.Xattrs {
		s.ok("SetXattr", x.SetXattr(s.ctx, "a", pattern(1000, 3)))
	}
	if h, ok := f.(vfs.SecurityHolder); ok {
		if err := h.SetSecurityRecord(s.ctx, pattern(500, 4)); !isNotSupported(err) {
			s.ok("SetSecurityRecord", err)
		}
	}
	check := func(what string, want int64) {
		s.Helper()
		byHandle := s.stat(f)
		byName, err := s.fs.Stat(s.ctx, "f")
		s.ok("Stat", err)
		if byHandle.Allocated != want || byName.Allocated != want {
			s.Errorf("%s takes %d by handle and %d by name, want %d", what, byHandle.Allocated, byName.Allocated, want)
		}
	}
	check("an empty file with attributes", 0)
	block := int64(s.statfs.BlockSize)
	if a, ok := f.(vfs.Allocator); ok {
		if err := a.Allocate(s.ctx, 0, block, true); !isNotSupported(err) {
			s.ok("Allocate", err)
			if got := s.stat(f).Allocated; got != block {
				s.Errorf("an empty file with a block reserved takes %d, want %d", got, block)
			}
		}
	}
	s.write(f, strings.Repeat("x", int(block)+1), 0)
	s.ok("Sync", f.Sync(s.ctx))
	check("a file of a block and a byte", 2*block)
}
