package vfstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

func testOpenDispositions(s *suite) {
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
			o := vfs.OpenOptions{Access: access, Disposition: c.disposition, Kind: vfs.KindFile}
			s.put("there", "content")
			f, res, err := s.fs.Open(s.ctx, "there", o)
			switch {
			case c.ifThere == 0:
				s.wantErr(c.name+" of what is there", err, fs.ErrExist)
			case err != nil:
				s.Errorf("%s of what is there, access %d: %v", c.name, access, err)
			default:
				f.Close()
				if want := (vfs.OpenResult{Action: c.ifThere, Name: "there"}); res != want {
					s.Errorf("%s of what is there, access %d: %+v, want %+v", c.name, access, res, want)
				}
			}
			if c.ifThere == vfs.Overwritten {
				s.wantContent("there", "")
			} else {
				s.wantContent("there", "content")
			}
			s.ok("Remove", s.fs.Remove(s.ctx, "there", vfs.KindFile))

			f, res, err = s.fs.Open(s.ctx, "there", o)
			switch {
			case c.ifNot == 0:
				s.wantErr(c.name+" of what is not", err, fs.ErrNotExist)
				s.wantMissing("there")
			case err != nil:
				s.Errorf("%s of what is not, access %d: %v", c.name, access, err)
			default:
				f.Close()
				if want := (vfs.OpenResult{Action: c.ifNot, Name: "there"}); res != want {
					s.Errorf("%s of what is not, access %d: %+v, want %+v", c.name, access, res, want)
				}
				s.ok("Remove", s.fs.Remove(s.ctx, "there", vfs.KindFile))
			}
		}
	}
	_, _, err := s.fs.Open(s.ctx, "no/f", vfs.OpenOptions{Access: rw, Disposition: vfs.OpenOrCreate})
	s.wantErr("creation in nothing", err, fs.ErrNotExist)
	s.put("f", "")
	_, _, err = s.fs.Open(s.ctx, "f/f", vfs.OpenOptions{Access: rw, Disposition: vfs.OpenOrCreate})
	s.wantErr("creation in a file", err, syscall.ENOTDIR)
}

func testOpenKinds(s *suite) {
	s.mkdir("d")
	s.put("f", "x")
	for _, c := range []struct {
		what string
		name string
		o    vfs.OpenOptions
		want error
	}{
		{"a directory as a file", "d", vfs.OpenOptions{Kind: vfs.KindFile}, syscall.EISDIR},
		{"a file as a directory", "f", vfs.OpenOptions{Kind: vfs.KindDir}, syscall.ENOTDIR},
		{"a directory for writing", "d", vfs.OpenOptions{Access: rw}, syscall.EISDIR},
		{"a directory to overwrite", "d", vfs.OpenOptions{Disposition: vfs.OverwriteOrCreate}, syscall.EISDIR},
		{"overwriting as a directory", "d", vfs.OpenOptions{Kind: vfs.KindDir, Disposition: vfs.Overwrite}, syscall.EINVAL},
		{"a file as a new directory", "f", vfs.OpenOptions{Kind: vfs.KindDir, Disposition: vfs.OpenOrCreate}, syscall.ENOTDIR},
		{"a directory as a new file", "d", vfs.OpenOptions{Kind: vfs.KindFile, Disposition: vfs.OpenOrCreate}, syscall.EISDIR},
		{"an exclusive directory", "d", vfs.OpenOptions{Kind: vfs.KindDir, Disposition: vfs.CreateNew}, fs.ErrExist},
		{"an impossible disposition", "f", vfs.OpenOptions{Disposition: 99}, syscall.EINVAL},
		{"an impossible kind", "f", vfs.OpenOptions{Kind: 99}, syscall.EINVAL},
		{"an impossible access", "f", vfs.OpenOptions{Access: 0x80}, syscall.EINVAL},
	} {
		_, _, err := s.fs.Open(s.ctx, c.name, c.o)
		s.wantErr("Open of "+c.what, err, c.want)
	}
	s.wantContent("f", "x")

	for _, name := range []string{"d", vfs.Root} {
		for _, access := range []vfs.Access{0, vfs.AccessRead} {
			f := s.open(name, vfs.OpenOptions{Access: access})
			if info := s.stat(f); !info.IsDir() {
				s.Errorf("%s opened with access %d is %v, want a directory", name, access, info.Mode)
			}
			_, err := f.ReadAt(make([]byte, 1), 0)
			s.wantErr("ReadAt of a directory", err, syscall.EBADF)
		}
	}
	for i, access := range []vfs.Access{0, vfs.AccessRead} {
		name := []string{"new1", "new2"}[i]
		f, res, err := s.fs.Open(s.ctx, name, vfs.OpenOptions{Access: access, Kind: vfs.KindDir, Disposition: vfs.OpenOrCreate})
		s.ok("Open of a new directory", err)
		if _, isDir := f.(vfs.Dir); res.Action != vfs.Created || isDir != (access != 0) {
			s.Errorf("a new directory with access %d: %+v, %T", access, res, f)
		}
		f.Close()
	}
}

func testOpenAccess(s *suite) {
	s.put("f", "content")
	for _, access := range []vfs.Access{0, vfs.AccessRead, vfs.AccessWrite, rw} {
		f := s.open("f", vfs.OpenOptions{Access: access})
		var readErr, writeErr error
		if access&vfs.AccessRead == 0 {
			readErr = syscall.EBADF
		}
		if access&vfs.AccessWrite == 0 {
			writeErr = syscall.EBADF
		}
		_, err := f.ReadAt(make([]byte, 3), 0)
		s.wantErr("ReadAt", err, readErr)
		_, err = f.WriteAt([]byte("con"), 0)
		s.wantErr("WriteAt", err, writeErr)
		s.wantErr("Truncate", f.Truncate(s.ctx, 7), writeErr)
		if info := s.stat(f); info.Size != 7 {
			s.Errorf("with access %d, Stat gives %d bytes, want 7", access, info.Size)
		}
		s.ok("SetAttr", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: 0o600}))
	}
	s.wantContent("f", "content")
}

func testCreateNewOnce(s *suite) {
	for _, kind := range []vfs.Kind{vfs.KindFile, vfs.KindDir} {
		var created, failed atomic.Int32
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				f, _, err := s.fs.Open(s.ctx, "one", vfs.OpenOptions{Disposition: vfs.CreateNew, Kind: kind})
				switch {
				case err == nil:
					created.Add(1)
					f.Close()
				case errors.Is(err, fs.ErrExist):
					failed.Add(1)
				default:
					s.Errorf("exclusive creation: %v", err)
				}
			})
		}
		wg.Wait()
		if created.Load() != 1 || failed.Load() != 15 {
			s.Errorf("of 16 exclusive creations, %d succeeded and %d found it there; want 1 and 15", created.Load(), failed.Load())
		}
		s.ok("Remove", s.fs.Remove(s.ctx, "one", kind))
	}
	// Without the exclusion, one creates and the others open.
	var created atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			f, res, err := s.fs.Open(s.ctx, "one", vfs.OpenOptions{Access: rw, Disposition: vfs.OpenOrCreate})
			if err != nil {
				s.Errorf("OpenOrCreate: %v", err)
				return
			}
			f.Close()
			if res.Action == vfs.Created {
				created.Add(1)
			}
		})
	}
	wg.Wait()
	if created.Load() != 1 {
		s.Errorf("%d of 16 say that they created the file, want 1", created.Load())
	}
}

func testCreateMetadata(s *suite) {
	f := s.open("f", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew, Perm: 0o600, Attributes: vfs.AttrHidden | vfs.AttrArchive})
	info := s.stat(f)
	if info.Mode != 0o600 || info.Size != 0 || info.Nlink != 1 {
		s.Errorf("a new file has mode %v, %d bytes, %d names; want 0600, 0, 1", info.Mode, info.Size, info.Nlink)
	}
	if s.statfs.Attributes && info.Attributes != vfs.AttrHidden|vfs.AttrArchive {
		s.Errorf("a new file has attributes %#x, want hidden and archive", info.Attributes)
	}
	d := s.open("d", vfs.OpenOptions{Kind: vfs.KindDir, Disposition: vfs.CreateNew, Perm: 0o700, Attributes: vfs.AttrSystem})
	info = s.stat(d)
	if info.Mode != fs.ModeDir|0o700 {
		s.Errorf("a new directory has mode %v, want 0700", info.Mode)
	}
	if s.statfs.Attributes && info.Attributes != vfs.AttrSystem {
		s.Errorf("a new directory has attributes %#x, want system", info.Attributes)
	}
	// Overwriting replaces the attributes if it brings some.
	for _, c := range []struct{ give, want vfs.Attributes }{{0, vfs.AttrHidden | vfs.AttrArchive}, {vfs.AttrSystem, vfs.AttrSystem}} {
		g := s.open("f", vfs.OpenOptions{Access: rw, Disposition: vfs.Overwrite, Attributes: c.give})
		if got := s.stat(g).Attributes; s.statfs.Attributes && got != c.want {
			s.Errorf("overwritten with attributes %#x, the file has %#x, want %#x", c.give, got, c.want)
		}
	}
}

func testReadWrite(s *suite) {
	f := s.create("f", "")
	if n, err := f.ReadAt(make([]byte, 4), 0); n != 0 || err != io.EOF {
		s.Errorf("ReadAt of an empty file = %d, %v; want 0, EOF", n, err)
	}
	big := pattern(3<<20+7, 1)
	if n, err := f.WriteAt(big, 5); n != len(big) || err != nil {
		s.Fatalf("WriteAt = %d, %v", n, err)
	}
	got := make([]byte, len(big)+5)
	if n, err := f.ReadAt(got, 0); n != len(got) || err != nil && err != io.EOF {
		s.Fatalf("ReadAt = %d, %v", n, err)
	}
	if !bytes.Equal(got[:5], make([]byte, 5)) || !bytes.Equal(got[5:], big) {
		s.Error("what is read differs from five zeros and what was written")
	}
	size := int64(len(got))
	for _, c := range []struct {
		what    string
		n       int
		off     int64
		want    int
		wantErr error
	}{
		{"within", 10, 100, 10, nil},
		{"nothing", 0, 100, 0, nil},
		{"across the end", 10, size - 4, 4, io.EOF},
		{"at the end", 10, size, 0, io.EOF},
		{"beyond the end", 10, size + 1000, 0, io.EOF},
		{"at the largest offset", 10, math.MaxInt64, 0, io.EOF},
		{"before the start", 10, -1, 0, syscall.EINVAL},
	} {
		n, err := f.ReadAt(make([]byte, c.n), c.off)
		if n != c.want || !errors.Is(err, c.wantErr) {
			s.Errorf("ReadAt %s = %d, %v; want %d, %v", c.what, n, err, c.want, c.wantErr)
		}
	}
	_, err := f.WriteAt([]byte("x"), -1)
	s.wantErr("WriteAt before the start", err, syscall.EINVAL)
	_, err = f.WriteAt([]byte("xx"), math.MaxInt64-1)
	s.wantErr("WriteAt beyond the largest offset", err, syscall.EFBIG)
	if info := s.stat(f); info.Size != size {
		s.Errorf("Size is %d, want %d", info.Size, size)
	}
	// What one handle wrote, others read.
	s.write(f, "shared", 0)
	g := s.open("f", vfs.OpenOptions{Access: vfs.AccessRead})
	b := make([]byte, 6)
	if _, err := g.ReadAt(b, 0); err != nil || string(b) != "shared" {
		s.Errorf("another handle reads %q, %v; want what was written", b, err)
	}
	w := s.open("f", vfs.OpenOptions{Access: vfs.AccessWrite, WriteThrough: true})
	s.write(w, "through", 0)
	if _, err := g.ReadAt(b, 0); err != nil || string(b) != "throug" {
		s.Errorf("another handle reads %q, %v; want what was written through", b, err)
	}
}

func testTruncate(s *suite) {
	f := s.create("f", "0123456789")
	s.ok("Truncate", f.Truncate(s.ctx, 4))
	s.wantContent("f", "0123")
	s.ok("Truncate", f.Truncate(s.ctx, 6))
	s.wantContent("f", "0123\x00\x00")
	s.ok("Truncate", f.Truncate(s.ctx, 0))
	s.wantContent("f", "")
	s.wantErr("Truncate below zero", f.Truncate(s.ctx, -1), syscall.EINVAL)
	s.ok("Truncate", f.Truncate(s.ctx, 5<<30))
	if info := s.stat(f); info.Size != 5<<30 || s.statfs.Sparse && info.Allocated > 1<<20 {
		s.Errorf("grown to 5 GiB, the file has size %d and storage %d", info.Size, info.Allocated)
	}
	b := []byte("xxxx")
	if n, err := f.ReadAt(b, 5<<30-4); n != 4 || !bytes.Equal(b, make([]byte, 4)) {
		s.Errorf("ReadAt in a hole past 4 GiB = %q, %v; want four zeros", b[:n], err)
	}
}

func testConcurrentIO(s *suite) {
	const workers, block, rounds = 8, 64 << 10, 8
	f := s.create("f", "")
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for r := range rounds {
				want := pattern(block, uint64(w*rounds+r))
				off := int64(r*workers+w) * block
				if _, err := f.WriteAt(want, off); err != nil {
					s.Errorf("WriteAt: %v", err)
					return
				}
				got := make([]byte, block)
				if _, err := f.ReadAt(got, off); err != nil && err != io.EOF {
					s.Errorf("ReadAt: %v", err)
				} else if !bytes.Equal(got, want) {
					s.Errorf("the block at %d differs from what was written", off)
				}
			}
		})
	}
	wg.Wait()
	if got, want := s.stat(f).Size, int64(workers*block*rounds); got != want {
		s.Errorf("Size is %d, want %d", got, want)
	}
}

func testAllocs(s *suite) {
	f := s.create("f", string(make([]byte, 64<<10)))
	buf := make([]byte, 16<<10)
	for name, do := range map[string]func() (int, error){
		"ReadAt":  func() (int, error) { return f.ReadAt(buf, 4096) },
		"WriteAt": func() (int, error) { return f.WriteAt(buf, 4096) },
	} {
		n := testing.AllocsPerRun(100, func() {
			if _, err := do(); err != nil {
				s.Fatalf("%s: %v", name, err)
			}
		})
		if n != 0 {
			s.Errorf("%s allocates %v times, want 0", name, n)
		}
	}
}

func testSync(s *suite) {
	s.mkdir("d")
	s.put("f", "x")
	for _, name := range []string{"d", "f", vfs.Root} {
		for _, access := range []vfs.Access{0, vfs.AccessRead} {
			s.ok("Sync of "+name, s.open(name, vfs.OpenOptions{Access: access}).Sync(s.ctx))
		}
	}
	f := s.open("f", vfs.OpenOptions{Access: rw})
	s.write(f, "y", 0)
	s.ok("Sync", f.Sync(s.ctx))
}

func testCloseFile(s *suite) {
	s.mkdir("d")
	s.put("f", "x")
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
		s.ok("Close", f.Close())
		s.wantErr("second Close", f.Close(), fs.ErrClosed)
		_, err := f.Stat(s.ctx)
		s.wantErr("Stat after Close", err, fs.ErrClosed)
		_, err = f.ReadAt(make([]byte, 1), 0)
		s.wantErr("ReadAt after Close", err, fs.ErrClosed)
		_, err = f.WriteAt(make([]byte, 1), 0)
		s.wantErr("WriteAt after Close", err, fs.ErrClosed)
		s.wantErr("Truncate after Close", f.Truncate(s.ctx, 0), fs.ErrClosed)
		s.wantErr("Sync after Close", f.Sync(s.ctx), fs.ErrClosed)
		s.wantErr("SetAttr after Close", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: 0o600}), fs.ErrClosed)
		if d, ok := f.(vfs.Dir); ok {
			_, err = d.ReadDir(s.ctx, vfs.CursorStart, make([]vfs.DirEntry, 1))
			s.wantErr("ReadDir after Close", err, fs.ErrClosed)
			_, err = d.Lstat(s.ctx, "x")
			s.wantErr("Lstat after Close", err, fs.ErrClosed)
		}
	}
	// Close while others read and write: each call works or says closed.
	f := s.open("f", vfs.OpenOptions{Access: rw})
	started := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			b := make([]byte, 1)
			started <- struct{}{}
			for {
				if _, err := f.ReadAt(b, 0); errors.Is(err, fs.ErrClosed) {
					return
				} else if err != nil {
					s.Errorf("ReadAt beside Close: %v", err)
					return
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	s.ok("Close", f.Close())
	wg.Wait()
}

func testCloseFS(s *suite) {
	f := s.create("f", "x")
	s.ok("Close", s.fs.Close())
	s.ok("second Close", s.fs.Close())
	if got := s.content(f); got != "x" {
		s.Errorf("after the FS is closed, an open file reads %q, want %q", got, "x")
	}
	s.stat(f)
	_, err := s.fs.Stat(s.ctx, "f")
	s.wantErr("Stat", err, fs.ErrClosed)
	_, _, err = s.fs.Open(s.ctx, "f", vfs.OpenOptions{})
	s.wantErr("Open", err, fs.ErrClosed)
	_, err = s.fs.Statfs(s.ctx)
	s.wantErr("Statfs", err, fs.ErrClosed)
	s.wantErr("Mkdir", s.fs.Mkdir(s.ctx, "d", 0o777), fs.ErrClosed)
	s.wantErr("Remove", s.fs.Remove(s.ctx, "f", vfs.KindAny), fs.ErrClosed)
	s.wantErr("Rename", s.fs.Rename(s.ctx, "f", "g", true), fs.ErrClosed)
	if w, ok := s.fs.(vfs.Watcher); ok {
		_, err = w.Watch(s.ctx, vfs.Root, vfs.WatchOptions{})
		s.wantErr("Watch", err, fs.ErrClosed)
	}
}

func testContext(s *suite) {
	s.put("f", "x")
	f := s.open("f", vfs.OpenOptions{Access: rw})
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.fs.Stat(ended, "f")
	s.wantErr("Stat", err, context.Canceled)
	_, _, err = s.fs.Open(ended, "g", vfs.OpenOptions{Disposition: vfs.CreateNew})
	s.wantErr("Open", err, context.Canceled)
	s.wantErr("Mkdir", s.fs.Mkdir(ended, "d", 0o777), context.Canceled)
	s.wantErr("Remove", s.fs.Remove(ended, "f", vfs.KindAny), context.Canceled)
	s.wantErr("Rename", s.fs.Rename(ended, "f", "g", true), context.Canceled)
	s.wantErr("Truncate", f.Truncate(ended, 0), context.Canceled)
	s.wantMissing("g")
	s.wantMissing("d")
	s.wantContent("f", "x")
}
