package filecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// Trees arrive with their bytes and times, in every direction.
func TestTree(t *testing.T) {
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			s := newSite(t, posix.Config{})
			when := time.Date(2020, 2, 3, 4, 5, 6, 789012300, time.UTC)
			files := map[string][]byte{"empty": {}, "small": noise(1, 100), "a/exact": noise(2, chunk), "a/b/large": noise(3, 5*chunk+17)}
			var total int64
			for n, data := range files {
				s.write(d.from+"/"+n, data)
				total += int64(len(data))
				if err := os.Chtimes(s.file(d.from+"/"+n), when, when); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(s.file(d.from+"/nothing"), 0o777); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{"a/b", "a", "nothing"} {
				if err := os.Chtimes(s.file(d.from+"/"+dir), when, when); err != nil {
					t.Fatal(err)
				}
			}
			rs := s.must(s.place(d.from), s.place(d.to), Config{}, s.tree)
			s.wantTree(d.to, "empty", "small", "a/", "a/exact", "a/b/", "a/b/large", "nothing/")
			for n, data := range files {
				s.wantFile(d.to+"/"+n, data)
			}
			for _, n := range []string{"empty", "a/b/large", "a", "a/b", "nothing"} {
				if i, err := os.Stat(s.file(d.to + "/" + n)); err != nil || !i.ModTime().Equal(when) {
					t.Errorf("%s is of %v (%v)", n, i.ModTime(), err)
				}
			}
			var moved int64
			for _, r := range rs {
				moved += r.Bytes
			}
			if len(rs) != len(files) || moved != total {
				t.Errorf("%d files, %d bytes reported; want %d, %d", len(rs), moved, len(files), total)
			}
		})
	}
}

// A server copies by itself what is on one session.
func TestCopyOnTheServer(t *testing.T) {
	s := newSite(t, posix.Config{})
	data := noise(1, 40<<20)
	s.write("share:f", data)
	before := s.sh.Session().Stats()
	s.must(s.place("share:f"), s.place("share:g"), Config{}, s.one)
	s.wantFile("share:g", data)
	after := s.sh.Session().Stats()
	if n := after.InlineBytesRead - before.InlineBytesRead; n > 0 {
		t.Errorf("%d bytes came here", n)
	}
}

// Holes stay holes, and cost no bytes.
func TestHoles(t *testing.T) {
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			s := newSite(t, posix.Config{})
			const size = 64 << 20
			s.write(d.from, nil)
			f, err := os.OpenFile(s.file(d.from), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			want := make([]byte, size)
			for off, n := range map[int64]int{3 << 20: 100, 20 << 20: 3 << 20, size - 10: 5} {
				copy(want[off:], noise(7, n))
				if _, err := f.WriteAt(noise(7, n), off); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
				t.Fatal(err)
			}
			if disk(t, s.file(d.from)) >= size {
				t.Skip("no holes on this file system")
			}
			rs := s.must(s.place(d.from), s.place(d.to), Config{Verify: true}, s.one)
			s.wantFile(d.to, want)
			if n := disk(t, s.file(d.to)); n > 8<<20 {
				t.Errorf("takes %d bytes on disk", n)
			}
			if rs[0].Bytes > 8<<20 || rs[0].Size != size {
				t.Errorf("reported %+v", rs[0])
			}
		})
	}
}

func disk(t *testing.T, name string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

var errFault = errors.New("a fault")

// What fails or is interrupted in the middle leaves no file, neither under its own name
// nor under another, and what was there stays.
func TestNothingIsLeftOfWhatFails(t *testing.T) {
	for _, d := range directions[:2] {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprint(d.name, old), func(t *testing.T) {
				s := newSite(t, posix.Config{})
				s.write(d.from+"/f", noise(1, 10*chunk))
				s.write(d.to+"/other", nil)
				want := []string{"other"}
				if old {
					s.write(d.to+"/f", []byte("old"))
					want = append(want, "f")
				}
				for _, interrupted := range []bool{false, true} {
					ctx, cancel := context.WithCancelCause(t.Context())
					from := &faulty{Place: s.place(d.from), reading: func(off int64) error {
						if off < 5*chunk {
							return nil
						}
						if interrupted {
							cancel(errFault)
							return nil
						}
						return errFault
					}}
					rs, err := s.run(from, s.place(d.to), Config{}, func(k *Copier) error { return k.Tree(ctx) })
					cancel(nil)
					if interrupted && !errors.Is(err, errFault) || !interrupted && (err != nil || len(rs) != 1 || !errors.Is(rs[0].Err, errFault)) {
						t.Errorf("interrupted %v: %v, reported %+v", interrupted, err, rs)
					}
					s.wantTree(d.to, want...)
					if old {
						s.wantFile(d.to+"/f", []byte("old"))
					}
				}
			})
		}
	}
}

// A byte that was not written as it was read is found before the file has its name.
func TestVerifyFindsAWrongByte(t *testing.T) {
	for _, d := range directions[:2] {
		s := newSite(t, posix.Config{})
		s.write(d.from, noise(1, 3*chunk))
		to := &faulty{Place: s.place(d.to), writing: func(p []byte, off int64) {
			if off == chunk {
				p[777] ^= 4
			}
		}}
		rs, err := s.run(s.place(d.from), to, Config{Verify: true}, s.one)
		if err != nil || len(rs) != 1 || rs[0].Err == nil || !strings.Contains(rs[0].Err.Error(), "differs") {
			t.Errorf("%s: %v, %+v", d.name, err, rs)
		}
		if _, err := os.Stat(s.file(d.to)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the file is there (%v)", d.name, err)
		}
	}
	s := newSite(t, posix.Config{})
	s.write("local:abc", []byte("abc"))
	rs := s.must(s.place("local:abc"), s.place("share:abc"), Config{Verify: true}, s.one)
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; rs[0].SHA256 != want { // FIPS 180-2, B.1
		t.Errorf("SHA-256 is %s, want %s", rs[0].SHA256, want)
	}
}

// A share that ignores case can't have two names that differ only in that: the second
// one does not replace the first.
func TestNamesThatDifferInCase(t *testing.T) {
	for _, c := range []struct {
		exact  bool
		failed int
	}{{false, 1}, {true, 0}} {
		s := newSite(t, posix.Config{CaseSensitive: c.exact})
		s.write("local:from/readme", []byte("one"))
		s.write("local:from/README", []byte("other"))
		rs, err := s.run(s.place("local:from"), s.place("share:to"), Config{}, s.tree)
		failed := 0
		for _, r := range rs {
			if r.Err != nil {
				failed++
			}
		}
		if err != nil || failed != c.failed {
			t.Errorf("told apart %v: %v, %+v", c.exact, err, rs)
		}
		if l, _ := os.ReadDir(s.file("share:to")); len(l) != 2-c.failed {
			t.Errorf("told apart %v: there is %v", c.exact, l)
		}
	}
}

// A link in a local directory does not lead what is copied out of it.
func TestLocalLinksLeadNowhere(t *testing.T) {
	s := newSite(t, posix.Config{})
	s.write("share:from/sub/f", []byte("new"))
	s.write("local:outside/f", []byte("old"))
	if err := os.Mkdir(s.file("local:to"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", s.file("local:to/sub")); err != nil {
		t.Fatal(err)
	}
	rs, err := s.run(s.place("share:from"), s.place("local:to"), Config{}, s.tree)
	if err != nil || len(rs) != 1 || rs[0].Err == nil {
		t.Errorf("%v, %+v", err, rs)
	}
	s.wantFile("local:outside/f", []byte("old"))
}

func TestSymbolicLinks(t *testing.T) {
	for _, c := range []struct {
		links Links
		want  []string
	}{
		{LinksToFiles, []string{"f", "to-file"}},
		{LinksSkip, []string{"f"}},
		{LinksCopy, []string{"f", "to-file", "to-dir", "to-nothing"}},
	} {
		s := newSite(t, posix.Config{})
		s.write("local:from/f", []byte("f"))
		for name, target := range map[string]string{"to-file": "f", "to-dir": ".", "to-nothing": "absent"} {
			if err := os.Symlink(target, s.file("local:from/"+name)); err != nil {
				t.Fatal(err)
			}
		}
		s.must(s.place("local:from"), s.place("share:to"), Config{Links: c.links}, s.tree)
		s.wantTree("share:to", c.want...)
		if c.links == LinksToFiles {
			s.wantFile("share:to/to-file", []byte("f"))
		}
		if c.links != LinksCopy {
			continue
		}
		for name, target := range map[string]string{"to-file": "f", "to-dir": ".", "to-nothing": "absent"} {
			if got, err := s.sh.Readlink(t.Context(), "to/"+name); got != target {
				t.Errorf("%s leads to %q, want %q (%v)", name, got, target, err)
			}
		}
		// The server follows those that lead to something, so that a directory is in itself.
		rs, err := s.run(s.place("share:to"), s.place("local:back"), Config{Links: c.links}, s.tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if (r.Err != nil) != strings.HasSuffix(r.From, "/to-dir") {
				t.Errorf("%+v", r)
			}
		}
		if got, err := os.Readlink(s.file("local:back/to-nothing")); got != "absent" {
			t.Errorf("to-nothing leads to %q (%v)", got, err)
		}
	}
}

// More entries than fit into a part of a listing, and deeper than directories stay open.
func TestWideAndDeep(t *testing.T) {
	s := newSite(t, posix.Config{})
	deep := strings.Repeat("d/", openDepth+3)
	s.write("local:from/"+deep+"f", []byte("deep"))
	for i := range batch + 100 {
		s.write(fmt.Sprintf("local:from/w/%d", i), nil)
	}
	s.must(s.place("local:from"), s.place("share:to"), Config{}, s.tree)
	s.must(s.place("share:to"), s.place("local:back"), Config{}, s.tree)
	s.wantFile("local:back/"+deep+"f", []byte("deep"))
	if l, err := os.ReadDir(s.file("local:back/w")); len(l) != batch+100 {
		t.Errorf("%d files, want %d (%v)", len(l), batch+100, err)
	}
}

// A directory that lists the same for ever is left at the first name that comes twice.
func TestEndlessDirectory(t *testing.T) {
	s := newSite(t, posix.Config{})
	s.write("share:from/a", []byte("a"))
	s.write("share:from/b", []byte("b"))
	from := &faulty{Place: s.place("share:from"), listing: func(fn func([]Entry) error) error {
		for {
			if err := fn([]Entry{{Name: "a", Size: 1}, {Name: "b", Size: 1}}); err != nil {
				return err
			}
		}
	}}
	rs, err := s.run(from, s.place("local:to"), Config{}, s.tree)
	failed := 0
	for _, r := range rs {
		if r.Err != nil {
			failed++
			if r.Action != ActionList || !strings.Contains(r.Err.Error(), `lists "a" twice`) {
				t.Errorf("%+v", r)
			}
		}
	}
	if err != nil || failed != 1 {
		t.Errorf("%v, %+v", err, rs)
	}
	s.wantTree("local:to", "a", "b")
}

// In place, the file that is there gets the bytes.
func TestInPlace(t *testing.T) {
	s := newSite(t, posix.Config{})
	s.write("share:f", noise(1, 3*chunk))
	if err := os.Link(s.file("share:f"), s.file("share:same")); err != nil {
		t.Fatal(err)
	}
	s.write("local:f", []byte("new"))
	s.must(s.place("local:f"), s.place("share:f"), Config{InPlace: true}, s.one)
	s.wantFile("share:same", []byte("new"))
}

// Pipes and devices are written to as they are.
func TestToAPipe(t *testing.T) {
	s := newSite(t, posix.Config{})
	data := noise(1, 3*chunk+5)
	s.write("share:f", data)
	pipe := filepath.Join(s.local, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 1)
	go func() { // ends with the pipe
		b, _ := os.ReadFile(pipe)
		got <- b
	}()
	s.must(s.place("share:f"), Local(pipe), Config{Continue: true}, s.one)
	if b := <-got; string(b) != string(data) {
		t.Errorf("%d bytes came, want %d", len(b), len(data))
	}
	if l, _ := os.ReadDir(s.local); len(l) != 1 {
		t.Errorf("left behind: %v", l)
	}
}

func TestFilter(t *testing.T) {
	top := func(name string) bool { return name == "a" }
	for _, c := range []struct {
		f    Filter
		rel  string
		dir  bool
		want bool
	}{
		{Filter{}, "a/b", false, true},
		{Filter{Exclude: []string{"*.tmp"}}, "a/b.tmp", false, false},
		{Filter{Exclude: []string{"*.tmp"}}, "a/b.tmp/c", false, true}, // nobody asks: b.tmp is not looked into
		{Filter{Exclude: []string{"tmp/"}}, "tmp", false, true},
		{Filter{Exclude: []string{"tmp/"}}, "a/tmp", true, false},
		{Filter{Exclude: []string{"/tmp"}}, "a/tmp", true, true},
		{Filter{Exclude: []string{"/tmp"}}, "tmp", true, false},
		{Filter{Exclude: []string{"a/*.o"}}, "a/b.o", false, false},
		{Filter{Exclude: []string{"a/*.o"}}, "a/b/c.o", false, true},
		{Filter{Exclude: []string{"a/**/*.o"}}, "a/b/c/d.o", false, false},
		{Filter{Exclude: []string{"a/**/*.o"}}, "a/d.o", false, false},
		{Filter{Exclude: []string{"**/x/**"}}, "a/x/b", false, false},
		{Filter{Exclude: []string{"a/**"}}, "ab/c", false, true},
		{Filter{Include: []string{"*.go"}}, "a/b.go", false, true},
		{Filter{Include: []string{"*.go"}}, "a/b.c", false, false},
		{Filter{Include: []string{"*.go"}}, "a", true, true},
		{Filter{Include: []string{"*.go"}, Exclude: []string{"x*"}}, "x.go", false, false},
		{Filter{Top: top}, "a/b/c", false, true},
		{Filter{Top: top}, "b/a", false, false},
	} {
		if got := c.f.takes(c.rel, c.dir); got != c.want {
			t.Errorf("%+v of %q: %v, want %v", c.f, c.rel, got, c.want)
		}
	}
	for _, bad := range []string{"a[", "", "/", `a\`} {
		if err := (&Filter{Include: []string{bad}}).check(); err == nil {
			t.Errorf("%q is taken for a pattern", bad)
		}
	}
	// Patterns that come back often do not take long.
	f := Filter{Exclude: []string{strings.Repeat("**/a/", 50) + "b"}}
	if f.takes(strings.Repeat("a/", 5000)+"c", false) != true {
		t.Error("a long name matches")
	}
}
