package vfstest

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

func testNames(s *suite) {
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", "..", "../a", "a/..", "a/../b", "./a", "a/.", "a\x00b", `a\b`, `..\a`, "a\xff",
		"../../../../../../etc/passwd", "/etc/passwd", "//host/share", `\\?\C:\x`, "a/../../x", "a/./../x", "..\x00", "../", "/..",
		// Encodings of ".." and "/" that are not UTF-8: overlong, and half a surrogate pair.
		"\xc0\xae\xc0\xae", "..\xc0\xafx", "..\xe0\x80\xafx", "\xed\xa0\x80", "a\xed\xbf\xbf",
	} {
		if _, err := s.fs.Lstat(s.ctx, name); !errors.Is(err, syscall.EINVAL) {
			s.Errorf("Lstat(%q): got error %v, want EINVAL", name, err)
		}
		_, _, err := s.fs.Open(s.ctx, name, vfs.OpenOptions{Access: rw, Disposition: vfs.OpenOrCreate})
		s.wantErr("Open "+name, err, syscall.EINVAL)
		s.wantErr("Mkdir "+name, s.fs.Mkdir(s.ctx, name, 0o777), syscall.EINVAL)
		s.wantErr("Remove "+name, s.fs.Remove(s.ctx, name, vfs.KindAny), syscall.EINVAL)
		s.wantErr("Rename from "+name, s.fs.Rename(s.ctx, name, "x", true), syscall.EINVAL)
		s.wantErr("Rename to "+name, s.fs.Rename(s.ctx, "x", name, true), syscall.EINVAL)
	}
	// These may look like a way out to somebody, and are names like others.
	for _, name := range []string{
		".. ", " ..", "...", "..%2f", "%2e%2e", "．．", "‥", "..\u200b", "..\u2215x", "．．／x", ". .", "~", "~root", "$HOME",
		"con", "nul.txt", "com1", "a.", "a ", "a:b:$DATA", "::$INDEX_ALLOCATION", "-", "*", "?", "\u202e", "a\nb",
	} {
		s.put(name, name)
		s.wantContent(name, name)
		if got := s.names(vfs.Root, 7); !slices.Equal(got, []string{name}) {
			s.Errorf("after creating %q, listing has %q", name, got)
		}
		s.ok("Remove", s.fs.Remove(s.ctx, name, vfs.KindFile))
		s.mkdir(name)
		s.put(name+"/f", "")
		if got := s.names(name, 7); !slices.Equal(got, []string{"f"}) {
			s.Errorf("in directory %q, listing has %q", name, got)
		}
		s.ok("Remove", s.fs.Remove(s.ctx, name+"/f", vfs.KindFile))
		s.ok("Remove", s.fs.Remove(s.ctx, name, vfs.KindDir))
	}
	long := strings.Repeat("n", int(s.statfs.NameMax))
	for _, name := range []string{"plain", "with space", "ünïcödé", "日本語", "🐧", "...", "-rf", "a:b", long} {
		s.put(name, name)
		s.wantContent(name, name)
		if got := s.names(vfs.Root, 7); !slices.Equal(got, []string{name}) {
			s.Errorf("listing has %q, want only %q", got, name)
		}
		s.ok("Remove", s.fs.Remove(s.ctx, name, vfs.KindFile))
	}
	_, _, err := s.fs.Open(s.ctx, long+"n", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew})
	s.wantErr("creating a name longer than NameMax", err, syscall.ENAMETOOLONG)

	// The root exists, and can be neither made, moved nor removed.
	info, err := s.fs.Stat(s.ctx, vfs.Root)
	s.ok("Stat root", err)
	if !info.IsDir() {
		s.Errorf("the root's mode is %v, want a directory", info.Mode)
	}
	s.wantErr("Mkdir root", s.fs.Mkdir(s.ctx, vfs.Root, 0o777), fs.ErrExist)
	s.wantErr("Remove root", s.fs.Remove(s.ctx, vfs.Root, vfs.KindDir), fs.ErrPermission)
	s.wantErr("RemoveIf root", s.fs.RemoveIf(s.ctx, vfs.Root, info.ID), fs.ErrPermission)
	s.wantErr("Rename root", s.fs.Rename(s.ctx, vfs.Root, "x", true), fs.ErrPermission)
	s.mkdir("d")
	s.wantErr("Rename to root", s.fs.Rename(s.ctx, "d", vfs.Root, true), fs.ErrPermission)
}

func testMkdir(s *suite) {
	s.mkdir("d")
	s.mkdir("d/e")
	s.wantErr("Mkdir of a directory", s.fs.Mkdir(s.ctx, "d", 0o777), fs.ErrExist)
	s.put("f", "x")
	s.wantErr("Mkdir of a file", s.fs.Mkdir(s.ctx, "f", 0o777), fs.ErrExist)
	s.wantErr("Mkdir in nothing", s.fs.Mkdir(s.ctx, "no/d", 0o777), fs.ErrNotExist)
	s.wantErr("Mkdir in a file", s.fs.Mkdir(s.ctx, "f/d", 0o777), syscall.ENOTDIR)
	if got := s.names("d", 10); !slices.Equal(got, []string{"e"}) {
		s.Errorf("d contains %q, want only e", got)
	}
}

func testRemove(s *suite) {
	s.mkdir("full")
	s.put("full/f", "x")
	s.mkdir("empty")
	s.put("f", "x")
	for _, c := range []struct {
		name string
		kind vfs.Kind
		want error
	}{
		{"missing", vfs.KindAny, fs.ErrNotExist},
		{"no/missing", vfs.KindAny, fs.ErrNotExist},
		{"f/below", vfs.KindAny, syscall.ENOTDIR},
		{"f", vfs.KindDir, syscall.ENOTDIR},
		{"empty", vfs.KindFile, syscall.EISDIR},
		{"full", vfs.KindDir, syscall.ENOTEMPTY},
		{"full", vfs.KindAny, syscall.ENOTEMPTY},
	} {
		s.wantErr("Remove "+c.name, s.fs.Remove(s.ctx, c.name, c.kind), c.want)
	}
	s.wantContent("full/f", "x")
	s.wantContent("f", "x")
	s.ok("Remove f", s.fs.Remove(s.ctx, "f", vfs.KindFile))
	s.ok("Remove empty", s.fs.Remove(s.ctx, "empty", vfs.KindDir))
	s.ok("Remove full/f", s.fs.Remove(s.ctx, "full/f", vfs.KindAny))
	s.ok("Remove full", s.fs.Remove(s.ctx, "full", vfs.KindAny))
	if got := s.names(vfs.Root, 10); len(got) != 0 {
		s.Errorf("left over: %q", got)
	}
}

func testRemoveIf(s *suite) {
	old := s.create("f", "old")
	id := s.stat(old).ID
	s.put("g", "new")
	s.ok("Rename", s.fs.Rename(s.ctx, "g", "f", true))
	err := s.fs.RemoveIf(s.ctx, "f", id)
	s.wantErr("RemoveIf of a replaced file", err, vfs.ErrChanged)
	s.wantErr("RemoveIf of a replaced file", err, fs.ErrNotExist)
	s.wantContent("f", "new")
	s.wantErr("RemoveIf of nothing", s.fs.RemoveIf(s.ctx, "missing", id), fs.ErrNotExist)
	info, err := s.fs.Lstat(s.ctx, "f")
	s.ok("Lstat", err)
	s.ok("RemoveIf", s.fs.RemoveIf(s.ctx, "f", info.ID))
	s.wantMissing("f")

	s.mkdir("d")
	s.put("d/f", "")
	info, err = s.fs.Lstat(s.ctx, "d")
	s.ok("Lstat", err)
	s.wantErr("RemoveIf of a full directory", s.fs.RemoveIf(s.ctx, "d", info.ID), syscall.ENOTEMPTY)
	s.ok("Remove", s.fs.Remove(s.ctx, "d/f", vfs.KindFile))
	s.ok("RemoveIf of an empty directory", s.fs.RemoveIf(s.ctx, "d", info.ID))
	s.wantMissing("d")
}

func testRename(s *suite) {
	s.put("a", "A")
	s.put("b", "B")
	s.mkdir("d1")
	s.mkdir("d2")
	s.mkdir("full")
	s.put("full/x", "X")

	for _, c := range []struct {
		old, new string
		replace  bool
		want     error
	}{
		{"missing", "n", false, fs.ErrNotExist},
		{"missing", "n", true, fs.ErrNotExist},
		{"a", "no/n", false, fs.ErrNotExist},
		{"a", "b/n", false, syscall.ENOTDIR},
		{"a", "b", false, fs.ErrExist},
		{"a", "d1", false, fs.ErrExist},
		{"a", "d1", true, syscall.EISDIR},
		{"d1", "d2", false, fs.ErrExist},
		{"d1", "a", true, syscall.ENOTDIR},
		{"d1", "full", true, syscall.ENOTEMPTY},
		{"full", "full/below", true, syscall.EINVAL},
		{"full", "full/below", false, syscall.EINVAL},
	} {
		if err := s.fs.Rename(s.ctx, c.old, c.new, c.replace); !errors.Is(err, c.want) {
			s.Errorf("Rename(%q, %q, %v): got error %v, want %v", c.old, c.new, c.replace, err, c.want)
		}
	}
	s.wantContent("a", "A")
	s.wantContent("b", "B")
	s.wantContent("full/x", "X")

	s.ok("Rename over itself", s.fs.Rename(s.ctx, "a", "a", true))
	s.wantContent("a", "A")
	s.ok("Rename to a free name", s.fs.Rename(s.ctx, "a", "d1/c", false))
	s.wantMissing("a")
	s.wantContent("d1/c", "A")
	s.ok("Rename over a file", s.fs.Rename(s.ctx, "d1/c", "b", true))
	s.wantMissing("d1/c")
	s.wantContent("b", "A")
	s.ok("Rename over an empty directory", s.fs.Rename(s.ctx, "full", "d2", true))
	s.wantContent("d2/x", "X")
	s.wantMissing("full")
}

func testRenameCase(s *suite) {
	s.put("name", "x")
	s.ok("Rename to another case", s.fs.Rename(s.ctx, "name", "NAME", false))
	if got := s.names(vfs.Root, 10); !slices.Equal(got, []string{"NAME"}) {
		s.Errorf("listing has %q, want the new spelling only", got)
	}
	s.mkdir("dir")
	s.ok("Rename to another case", s.fs.Rename(s.ctx, "dir", "Dir", true))
	if got := s.names(vfs.Root, 10); !slices.Equal(got, []string{"Dir", "NAME"}) {
		s.Errorf("listing has %q, want Dir and NAME", got)
	}
	s.wantContent("NAME", "x")
}

func testHandleOutlivesName(s *suite) {
	f := s.create("f", "one")
	id := s.stat(f).ID
	s.ok("Rename", s.fs.Rename(s.ctx, "f", "g", false))
	s.write(f, "two", 3)
	s.wantContent("g", "onetwo")
	s.put("f", "other")
	if got := s.stat(f); got.ID != id || got.Size != 6 {
		s.Errorf("after renaming, the handle describes %+v of %d bytes, want %+v of 6", got.ID, got.Size, id)
	}
	s.ok("Remove", s.fs.Remove(s.ctx, "g", vfs.KindFile))
	if got := s.content(f); got != "onetwo" {
		s.Errorf("after removal, the handle reads %q, want %q", got, "onetwo")
	}
	if got := s.stat(f); got.Nlink != 0 {
		s.Errorf("after removal, there are %d names, want 0", got.Nlink)
	}
	s.ok("Truncate after removal", f.Truncate(s.ctx, 1))
	s.wantContent("f", "other")
}

func testCase(s *suite) {
	s.mkdir("Dir")
	s.put("Dir/File", "x")
	s.put("Straße-É", "y")
	others := map[string]string{"dir/FILE": "Dir/File", "DIR/file": "Dir/File", "Dir/fILE": "Dir/File", "stRAßE-é": "Straße-É"}
	if s.statfs.CaseSensitive {
		for other := range others {
			s.wantMissing(other)
		}
		s.mkdir("DIR")
		return
	}
	for other, spelled := range others {
		f, res, err := s.fs.Open(s.ctx, other, vfs.OpenOptions{Access: vfs.AccessRead, Disposition: vfs.OpenOrCreate})
		s.ok("Open "+other, err)
		f.Close()
		if res.Action != vfs.Opened || res.Name != spelled {
			s.Errorf("Open(%q) = action %d, name %q; want opened, name %q", other, res.Action, res.Name, spelled)
		}
		_, err = s.fs.Stat(s.ctx, other)
		s.ok("Stat "+other, err)
		_, _, err = s.fs.Open(s.ctx, other, vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew})
		s.wantErr("exclusive creation of "+other, err, fs.ErrExist)
		s.wantErr("Mkdir "+other, s.fs.Mkdir(s.ctx, other, 0o777), fs.ErrExist)
	}
	// A new name gets the spelling asked for, its directories keep theirs.
	f, res, err := s.fs.Open(s.ctx, "DIR/New", vfs.OpenOptions{Access: rw, Disposition: vfs.OpenOrCreate})
	s.ok("Open", err)
	f.Close()
	if want := (vfs.OpenResult{Action: vfs.Created, Name: "Dir/New"}); res != want {
		s.Errorf("Open(DIR/New) = %+v, want %+v", res, want)
	}
	if got := s.names("dIR", 10); !slices.Equal(got, []string{"File", "New"}) {
		s.Errorf("listing has %q, want File and New", got)
	}
	s.wantErr("Rename onto another case", s.fs.Rename(s.ctx, "dir/new", "dir/FILE", false), fs.ErrExist)
	s.ok("Rename", s.fs.Rename(s.ctx, "dir/new", "dir/FILE", true))
	if got := s.names("Dir", 10); len(got) != 1 {
		s.Errorf("after replacing, the listing has %q, want one name", got)
	}
	s.wantContent("Dir/file", "")
	s.ok("Remove", s.fs.Remove(s.ctx, "DIR/file", vfs.KindFile))
	s.ok("Remove", s.fs.Remove(s.ctx, "dir", vfs.KindDir))
}

func testLink(s *suite) {
	l, ok := s.fs.(vfs.Linker)
	if !ok {
		s.unsupported("vfs.Linker")
	}
	f := s.create("a", "x")
	s.mkdir("d")
	s.ok("Link", l.Link(s.ctx, "a", "d/b"))
	s.wantContent("d/b", "x")
	info, err := s.fs.Stat(s.ctx, "d/b")
	s.ok("Stat", err)
	if info.Nlink != 2 || info.ID != s.stat(f).ID {
		s.Errorf("the link has %d names and is %+v; want 2 names and the file's %+v", info.Nlink, info.ID, s.stat(f).ID)
	}
	s.wantErr("Link to a name that is taken", l.Link(s.ctx, "a", "d/b"), fs.ErrExist)
	s.wantErr("Link of nothing", l.Link(s.ctx, "missing", "c"), fs.ErrNotExist)
	s.wantErr("Link of a directory", l.Link(s.ctx, "d", "c"), syscall.EPERM)
	s.wantErr("Link to an invalid name", l.Link(s.ctx, "a", "../c"), syscall.EINVAL)

	// POSIX rename(2) would leave both names; a rename here leaves one.
	s.wantErr("Rename onto another link", s.fs.Rename(s.ctx, "a", "d/b", false), fs.ErrExist)
	s.ok("Rename over another link", s.fs.Rename(s.ctx, "a", "d/b", true))
	s.wantMissing("a")
	s.wantContent("d/b", "x")
}

func testMknod(s *suite) {
	m, ok := s.fs.(vfs.Mknoder)
	if !ok {
		s.unsupported("vfs.Mknoder")
	}
	for name, kind := range map[string]fs.FileMode{"fifo": fs.ModeNamedPipe, "socket": fs.ModeSocket} {
		s.ok("Mknod "+name, m.Mknod(s.ctx, name, kind|0o600))
		info, err := s.fs.Lstat(s.ctx, name)
		if err != nil || info.Mode.Type() != kind {
			s.Errorf("%s is %v, %v; want %v", name, info.Mode, err, kind)
		}
		_, _, err = s.fs.Open(s.ctx, name, vfs.OpenOptions{Access: vfs.AccessRead})
		s.wantErr("Open of "+name, err, vfs.ErrSpecial)
		s.wantErr("Mknod of what is there", m.Mknod(s.ctx, name, kind), fs.ErrExist)
		s.ok("Remove "+name, s.fs.Remove(s.ctx, name, vfs.KindFile))
	}
	for _, kind := range []fs.FileMode{0, fs.ModeDir, fs.ModeSymlink, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice} {
		s.wantErr("Mknod of "+kind.String(), m.Mknod(s.ctx, "other", kind|0o600), syscall.EINVAL)
		s.wantMissing("other")
	}
	s.wantErr("Mknod of an invalid name", m.Mknod(s.ctx, "../x", fs.ModeNamedPipe), syscall.EINVAL)
}

func testSymlink(s *suite) {
	l, ok := s.fs.(vfs.Symlinker)
	if !ok {
		s.unsupported("vfs.Symlinker")
	}
	s.mkdir("d")
	s.put("d/f", "x")
	for name, target := range map[string]string{
		"file": "d/f", "dir": "d", "d/up": "../d/./f", "dangling": "nowhere", "loop": "loop",
		"outside": "../x", "absolute": "/etc/passwd", "deep": "d/../../x", "d/out": "../../x",
	} {
		s.ok("Symlink "+name, l.Symlink(s.ctx, target, name))
		got, err := l.Readlink(s.ctx, name)
		if err != nil || got != target {
			s.Errorf("Readlink(%q) = %q, %v; want %q", name, got, err, target)
		}
		info, err := s.fs.Lstat(s.ctx, name)
		if err != nil || info.Mode.Type() != fs.ModeSymlink || info.Size != int64(len(target)) {
			s.Errorf("Lstat(%q) = %v of %d bytes, %v; want a link of %d", name, info.Mode, info.Size, err, len(target))
		}
	}
	s.wantErr("Symlink over a name that is taken", l.Symlink(s.ctx, "x", "file"), fs.ErrExist)
	_, err := l.Readlink(s.ctx, "d/f")
	s.wantErr("Readlink of a file", err, syscall.EINVAL)
	_, err = l.Readlink(s.ctx, "missing")
	s.wantErr("Readlink of nothing", err, fs.ErrNotExist)

	for _, name := range []string{"file", "dir/f", "d/up", "dir/up"} {
		s.wantContent(name, "x")
		info, err := s.fs.Stat(s.ctx, name)
		if err != nil || !info.Mode.IsRegular() {
			s.Errorf("Stat(%q) = %v, %v; want the file", name, info.Mode, err)
		}
	}
	for name, want := range map[string]error{
		"dangling": fs.ErrNotExist, "loop": syscall.ELOOP,
		"outside": vfs.ErrOutside, "absolute": vfs.ErrOutside, "deep": vfs.ErrOutside, "d/out": vfs.ErrOutside,
		"dir/out": vfs.ErrOutside, "outside/y": vfs.ErrOutside, "absolute/y": vfs.ErrOutside,
	} {
		_, err := s.fs.Stat(s.ctx, name)
		s.wantErr("Stat "+name, err, want)
		for _, d := range []vfs.Disposition{vfs.OpenExisting, vfs.OpenOrCreate, vfs.Overwrite} {
			_, _, err = s.fs.Open(s.ctx, name, vfs.OpenOptions{Access: rw, Disposition: d})
			s.wantErr("Open "+name, err, want)
		}
	}
	_, _, err = s.fs.Open(s.ctx, "dangling", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew})
	s.wantErr("exclusive creation of a dangling link", err, fs.ErrExist)
	s.wantErr("creation through a link that leaves", s.fs.Mkdir(s.ctx, "outside/y", 0o777), vfs.ErrOutside)
	s.wantErr("ErrOutside", vfs.ErrOutside, fs.ErrPermission)

	// The link itself.
	f := s.open("outside", vfs.OpenOptions{NoFollow: true})
	if info := s.stat(f); info.Mode.Type() != fs.ModeSymlink {
		s.Errorf("with NoFollow, Stat gives %v, want a link", info.Mode)
	}
	_, _, err = s.fs.Open(s.ctx, "file", vfs.OpenOptions{NoFollow: true, Access: vfs.AccessRead})
	s.wantErr("reading a link", err, syscall.ELOOP)
	_, _, err = s.fs.Open(s.ctx, "dir", vfs.OpenOptions{NoFollow: true, Kind: vfs.KindDir})
	s.wantErr("a link as a directory", err, syscall.ENOTDIR)
	s.ok("Rename of a link", s.fs.Rename(s.ctx, "absolute", "moved", false))
	s.ok("Remove of a link", s.fs.Remove(s.ctx, "moved", vfs.KindFile))
	s.ok("Remove of a link to a directory", s.fs.Remove(s.ctx, "dir", vfs.KindFile))
	s.wantContent("d/f", "x")
}
