package filecopy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// What is interrupted goes on where it was, in every direction, if the source is the
// same, and from the start where anything speaks against that.
func TestContinue(t *testing.T) {
	const size, reached = 40 * chunk, 20 * chunk
	for _, d := range directions[:2] {
		for _, c := range []struct {
			name    string
			between func(t *testing.T, source, partial, journal string, done int64)
			resumes bool
		}{
			{"as it was left", func(*testing.T, string, string, string, int64) {}, true},
			{"the journal is torn", func(t *testing.T, _, _, journal string, _ int64) { scribble(t, journal, 30) }, false},
			{"the journal is gone", func(t *testing.T, _, _, journal string, _ int64) {
				if err := os.Remove(journal); err != nil {
					t.Fatal(err)
				}
			}, false},
			{"the end of what is there is something else", func(t *testing.T, _, partial, _ string, done int64) { scribble(t, partial, done-5) }, false},
			{"what is there is shorter", func(t *testing.T, _, partial, _ string, done int64) {
				if err := os.Truncate(partial, done-1); err != nil {
					t.Fatal(err)
				}
			}, false},
			{"what is there goes on with garbage", func(t *testing.T, _, partial, _ string, _ int64) {
				if err := os.Truncate(partial, size); err != nil {
					t.Fatal(err)
				}
				scribble(t, partial, size-100)
			}, true},
			{"the source has another time", func(t *testing.T, source, _, _ string, _ int64) {
				if err := os.Chtimes(source, time.Time{}, time.Unix(1e9, 0)); err != nil {
					t.Fatal(err)
				}
			}, false},
		} {
			t.Run(d.name+"/"+c.name, func(t *testing.T) {
				s := newSite(t, posix.Config{})
				data := noise(1, size)
				s.write(d.from, data)
				s.write(d.to+"-dir/other", nil)
				to := d.to + "-dir/f"
				// Pieces are read in any order: all of those before the fault are waited for.
				var before atomic.Int64
				all := make(chan struct{})
				from := &faulty{Place: s.place(d.from), reading: func(off int64) error {
					if off >= reached {
						<-all
						return errFault
					}
					return nil
				}}
				counting := &faulty{Place: s.place(to), writing: func(p []byte, off int64) {
					if len(p) == chunk && before.Add(1) == reached/chunk {
						time.AfterFunc(0, func() { close(all) })
					}
				}}
				cfg := Config{Continue: true, Ranges: 4, Jobs: 1}
				rs, err := s.run(from, counting, cfg, s.one)
				if err != nil || len(rs) != 1 || !errors.Is(rs[0].Err, errFault) {
					t.Fatalf("%v, %+v", err, rs)
				}
				partials, err := filepath.Glob(s.file(d.to+"-dir/") + "/" + tempPrefix + "*")
				if err != nil || len(partials) != 2 || partials[1] != partials[0]+".journal" {
					t.Fatalf("%v, %v", partials, err)
				}
				info, err := os.Stat(s.file(d.from))
				if err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(partials[1])
				if err != nil {
					t.Fatal(err)
				}
				done := max(recorded(b, size, info.ModTime().Truncate(100).UnixNano()), recorded(b, size, info.ModTime().UnixNano()))
				if done <= 0 {
					t.Fatalf("the journal says %q", b)
				}
				c.between(t, s.file(d.from), partials[0], partials[1], done)
				rs = s.must(s.place(d.from), s.place(to), cfg, s.one)
				s.wantFile(to, data)
				if got := rs[0].Resumed > 0; got != c.resumes || rs[0].Resumed+rs[0].Bytes != size {
					t.Errorf("reported %+v", rs[0])
				}
				if c.name != "the source has another time" { // whose partial file has another name
					s.wantTree(d.to+"-dir", "f", "other")
				}
				// A third time there is nothing to do.
				if rs = s.must(s.place(d.from), s.place(to), cfg, s.one); rs[0].Action != ActionSkip {
					t.Errorf("and again: %+v", rs[0])
				}
			})
		}
	}
}

// scribble changes a byte.
func scribble(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A file that changes while it is copied is no copy of anything.
func TestContinueSeesChanges(t *testing.T) {
	s := newSite(t, posix.Config{})
	s.write("local:f", noise(1, 8*chunk))
	from := &faulty{Place: s.place("local:f"), reading: func(off int64) error {
		return os.Chtimes(s.file("local:f"), time.Time{}, time.Unix(1e9, 0))
	}}
	rs, err := s.run(from, s.place("share:f"), Config{Continue: true}, s.one)
	if err != nil || len(rs) != 1 || rs[0].Err == nil || !strings.Contains(rs[0].Err.Error(), "has changed") {
		t.Errorf("%v, %+v", err, rs)
	}
	s.wantTree("share:")
}

// Two at once do not write one file.
func TestContinueIsAlone(t *testing.T) {
	for _, d := range directions[:2] {
		s := newSite(t, posix.Config{})
		s.write(d.from, noise(1, 8*chunk))
		first := true
		var inner []Result
		from := &faulty{Place: s.place(d.from), reading: func(int64) error {
			if first {
				first = false
				var err error
				inner, err = s.run(s.place(d.from), s.place(d.to), Config{Continue: true}, s.one)
				return err
			}
			return nil
		}}
		s.must(from, s.place(d.to), Config{Continue: true, Ranges: 1}, s.one)
		if len(inner) != 1 || inner[0].Err == nil {
			t.Errorf("%s: the second one did %+v", d.name, inner)
		}
		s.wantFile(d.to, noise(1, 8*chunk))
	}
}

func TestMarks(t *testing.T) {
	for _, c := range []struct {
		from int64
		done [][2]int64
		want int64
	}{
		{0, nil, 0},
		{0, [][2]int64{{0, 5}}, 5},
		{0, [][2]int64{{5, 9}}, 0},
		{0, [][2]int64{{5, 9}, {9, 12}, {0, 5}}, 12},
		{7, [][2]int64{{8, 9}}, 7},
		{7, [][2]int64{{8, 9}, {7, 8}}, 9},
	} {
		var m marks
		m.begin(c.from)
		for _, d := range c.done {
			m.done(d[0], d[1])
		}
		if got := m.lowest(); got != c.want {
			t.Errorf("from %d, %v done: %d, want %d", c.from, c.done, got, c.want)
		}
	}
}

func TestRecord(t *testing.T) {
	good := record(100, -5, 70)
	if len(good) != recordSize {
		t.Fatalf("a record of %d bytes", len(good))
	}
	if got := recorded(good, 100, -5); got != 70 {
		t.Errorf("read back %d", got)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": good[:recordSize-1], "another size": record(101, -5, 70), "another time": record(100, 5, 70),
		"beyond the end": record(100, -5, 101), "negative": record(100, -5, -1), "no number": []byte("smbd-rdma-journal 1 100 -5 x"),
	} {
		if got := recorded(b, 100, -5); got != 0 {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// The name of what is not whole can be guessed: what others have put there is not gone
// on with, nor is it written to what a link of theirs leads to.
func TestWhatOthersHavePutThere(t *testing.T) {
	const temp = tempPrefix + "guessed"
	for _, c := range []struct {
		name string
		put  func(dir string) error
	}{
		{"a link", func(dir string) error { return os.Symlink("precious", filepath.Join(dir, temp)) }},
		{"a link to nothing", func(dir string) error { return os.Symlink("none", filepath.Join(dir, temp)) }},
		{"a directory", func(dir string) error { return os.Mkdir(filepath.Join(dir, temp), 0o700) }},
		{"another user's file", func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, temp), nil, 0o666); err != nil {
				return err
			}
			return os.Chown(filepath.Join(dir, temp), os.Geteuid()+1, -1)
		}},
	} {
		for _, rel := range []string{"", "f"} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "precious"), []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.put(dir); errors.Is(err, os.ErrPermission) {
				t.Logf("%s: only root can make that: %v", c.name, err)
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			p := Local(dir)
			if rel == "" {
				p = Local(filepath.Join(dir, "f"))
			}
			if w, err := p.Create(t.Context(), rel, temp, true); err == nil {
				t.Errorf("%s, place itself %v: it is gone on with", c.name, rel == "")
				w.Abort(t.Context(), true)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "precious")); err != nil || string(b) != "old" {
				t.Errorf("%s: another file is %q, %v", c.name, b, err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
