package vfstest

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

func testReadDir(s *suite) {
	s.mkdir("d")
	if got := s.names("d", 10); len(got) != 0 {
		s.Errorf("an empty directory lists %q", got)
	}
	s.mkdir("d/sub")
	s.put("d/file", "x")
	want := map[string]fs.FileMode{"sub": fs.ModeDir, "file": 0}
	if l, ok := s.fs.(vfs.Symlinker); ok {
		s.ok("Symlink", l.Symlink(s.ctx, "nowhere", "d/link"))
		want["link"] = fs.ModeSymlink
	}
	d := s.openDir("d")
	for _, e := range s.list(d, vfs.CursorStart, 10) {
		typ, ok := want[e.Name]
		if !ok {
			s.Errorf("%q is listed twice or does not exist", e.Name)
		}
		if e.Type != typ && e.Type != fs.ModeIrregular {
			s.Errorf("%q is listed as %v, want %v", e.Name, e.Type, typ)
		}
		delete(want, e.Name)
	}
	if len(want) != 0 {
		s.Errorf("not listed: %v", want)
	}
	_, err := d.ReadDir(s.ctx, vfs.CursorStart, nil)
	s.wantErr("ReadDir into nothing", err, syscall.EINVAL)

	// From the start again, the listing shows what has come since.
	s.put("d/later", "")
	all := s.list(d, vfs.CursorStart, 10)
	if !slices.ContainsFunc(all, func(e vfs.DirEntry) bool { return e.Name == "later" }) {
		s.Errorf("restarted, the listing %v lacks what has come since", all)
	}
	f := s.open("d/file", vfs.OpenOptions{Access: vfs.AccessRead})
	if _, ok := f.(vfs.Dir); ok {
		s.Error("an open file is a vfs.Dir")
	}
}

// manyFiles is more than a backend is likely to read ahead at a time.
const manyFiles = 1500

func (s *suite) makeMany(dir string) []string {
	s.Helper()
	s.mkdir(dir)
	var want []string
	for i := range manyFiles {
		name := fmt.Sprintf("file-%05d-with-a-name-of-some-length", i)
		want = append(want, name)
		s.put(vfs.Join(dir, name), "")
	}
	return want
}

func testReadDirResume(s *suite) {
	want := s.makeMany("d")
	for _, batch := range []int{1, 7, 1000, 2 * manyFiles} {
		if got := s.names("d", batch); !slices.Equal(got, want) {
			s.Errorf("in batches of %d, %d names are listed, want each of %d once", batch, len(got), len(want))
		}
	}
	// Every cursor continues after its entry, in whatever order they are used.
	d := s.openDir("d")
	all := s.list(d, vfs.CursorStart, 512)
	one := make([]vfs.DirEntry, 1)
	for step := range 500 {
		i := (step * 1237) % len(all)
		n, err := d.ReadDir(s.ctx, all[i].Cursor, one)
		if i == len(all)-1 {
			if n != 0 || err != io.EOF {
				s.Errorf("after the last entry, ReadDir = %d, %v; want 0, EOF", n, err)
			}
			continue
		}
		if n != 1 || err != nil || one[0] != all[i+1] {
			s.Fatalf("after entry %d, ReadDir = %d, %v, %+v; want %+v", i, n, err, one[0], all[i+1])
		}
	}
	n, err := d.ReadDir(s.ctx, all[len(all)-1].Cursor, one)
	if n != 0 || err != io.EOF {
		s.Errorf("after the last entry, ReadDir = %d, %v; want 0, EOF", n, err)
	}
}

// What stays is listed once while other names come and go.
func testReadDirChanging(s *suite) {
	want := s.makeMany("d")
	d := s.openDir("d")
	seen := make(map[string]int)
	buf := make([]vfs.DirEntry, 50)
	from := vfs.CursorStart
	gone := make(map[string]bool)
	for i := 0; ; i++ {
		n, err := d.ReadDir(s.ctx, from, buf)
		if err == io.EOF {
			break
		}
		s.ok("ReadDir", err)
		for _, e := range buf[:n] {
			seen[e.Name]++
		}
		from = buf[n-1].Cursor
		// An entry already passed goes, so the cursor's own may be gone too.
		name := buf[n-1].Name
		if !gone[name] && i < 40 {
			s.ok("Remove", s.fs.Remove(s.ctx, vfs.Join("d", name), vfs.KindFile))
			gone[name] = true
		}
		s.put(fmt.Sprintf("d/new-%d", i), "")
	}
	for _, name := range want {
		if seen[name] != 1 {
			s.Errorf("%q, there from the start until listed, is listed %d times, want once", name, seen[name])
		}
	}
}

func testDirLstat(s *suite) {
	s.mkdir("d")
	s.put("d/f", "content")
	s.mkdir("d/sub")
	d := s.openDir("d")
	got, err := d.Lstat(s.ctx, "f")
	s.ok("Lstat", err)
	want, err := s.fs.Lstat(s.ctx, "d/f")
	s.ok("Lstat", err)
	if got != want || got.Size != 7 {
		s.Errorf("through the directory, f is %+v; by name, it is %+v", got, want)
	}
	_, err = d.Lstat(s.ctx, "missing")
	s.wantErr("Lstat of nothing", err, fs.ErrNotExist)
	for _, name := range []string{"", ".", "..", "sub/x", "/f", "f/"} {
		_, err = d.Lstat(s.ctx, name)
		s.wantErr("Lstat of "+name, err, syscall.EINVAL)
	}
	// The handle follows the directory, not its name.
	s.ok("Rename", s.fs.Rename(s.ctx, "d", "e", false))
	_, err = d.Lstat(s.ctx, "f")
	s.ok("Lstat after renaming the directory", err)
}
