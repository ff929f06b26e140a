package server

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

func TestMatchFold(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "A", true}, {"a", "b", false}, {"a", "", false}, {"", "", true}, {"", "a", false},
		{"?", "ä", true}, {"??", "a", false}, {"*", "", true}, {"*", "abc", true},
		{"*.tmp", "x.TMP", true}, {"*.tmp", "x.tmp.y", false}, {"*.tmp", ".tmp", true},
		{"a*b*c", "aXbXbc", true}, {"a*b*c", "aXbXbd", false}, {"*ab", "aab", true}, {"*a*a*a*b", "aaaaaaaaaaaaaaaa", false},
		{"Thumbs.db", "thumbs.DB", true}, {"a**", "a", true},
	} {
		if got := matchFold(c.pattern, c.name); got != c.want {
			t.Errorf("matchFold(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

// What is vetoed is not there for clients, what is hidden by its name is there with
// the attribute, which nobody has to know to overwrite it.
func TestVetoedAndHidden(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) {
		for i := range c.Shares {
			c.Shares[i].VetoFiles = []string{"*.veto", "secret"}
			c.Shares[i].HideFiles = []string{"hide*"}
			c.Shares[i].HideDotFiles = true
		}
	})
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	s.mkdir("d/secret")
	for _, n := range []string{"d/a.Veto", "d/secret/f", "d/hideme", "d/.dot", "d/seen"} {
		s.write(n, nil)
	}
	for _, c := range []struct {
		name string
		disp smb2.CreateDisposition
		want ntstatus.Status
	}{
		{`d\a.veto`, smb2.FileOpen, ntstatus.ObjectNameNotFound},
		{`d\secret`, smb2.FileOpen, ntstatus.ObjectNameNotFound},
		{`d\SECRET\f`, smb2.FileOpen, ntstatus.ObjectPathNotFound},
		{`d\b.veto`, smb2.FileOpenIf, ntstatus.ObjectNameNotFound},
		{`d\hideme`, smb2.FileOverwrite, ntstatus.Success},
		{`d\.dot`, smb2.FileOverwriteIf, ntstatus.Success},
	} {
		st, _ := p.tryCreate(createRequest(c.name, c.disp))
		want(t, c.name, st, c.want)
	}
	want(t, "renaming to what is vetoed", p.rename(p.openFile(`d\seen`), `d\seen.veto`, false), ntstatus.ObjectNameNotFound)
	// Nor by a link.
	for _, l := range [][2]string{{"d/secret", "way"}, {"d/secret/f", "lead"}, {"d/seen", "fine"}} {
		if err := os.Symlink(l[0], filepath.Join(s.dir, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		disp smb2.CreateDisposition
		want ntstatus.Status
	}{
		{"lead", smb2.FileOpen, ntstatus.ObjectNameNotFound},
		{"way", smb2.FileOpen, ntstatus.ObjectNameNotFound},
		{`way\f`, smb2.FileOpen, ntstatus.ObjectNameNotFound},
		{`way\f:stream`, smb2.FileOpen, ntstatus.ObjectNameNotFound},
		{`way\new`, smb2.FileOpenIf, ntstatus.ObjectPathNotFound},
		{"fine", smb2.FileOpen, ntstatus.Success},
	} {
		st, _ := p.tryCreate(createRequest(c.name, c.disp))
		want(t, "by a link: "+c.name, st, c.want)
	}
	want(t, "renaming to where a link leads", p.rename(p.openFile(`d\seen`), `way\seen`, false), ntstatus.ObjectPathNotFound)
	list, st := p.list(p.openDir("d"), smb2.ClassFileDirectoryInformation, "*", 0, 65536)
	want(t, "listing", st, ntstatus.Success)
	if got := names(list); !slices.Equal(got, []string{".", "..", ".dot", "hideme", "seen"}) {
		t.Errorf("listed %q", got)
	}
	for _, e := range list {
		hidden := e.FileName == ".dot" || e.FileName == "hideme"
		if e.FileName == "." || e.FileName == ".." {
			continue
		}
		if e.FileAttributes&smb2.FileAttributeHidden != 0 != hidden {
			t.Errorf("%s listed with attributes %#x", e.FileName, e.FileAttributes)
		}
		b, _ := p.query(p.create(createRequest(`d\`+e.FileName, smb2.FileOpen)), smb2.InfoFile, uint8(smb2.ClassFileBasicInformation), 0, 40)
		if m, err := smb2.ParseFileBasicInformation(b); err != nil || m.FileAttributes != e.FileAttributes {
			t.Errorf("%s listed with attributes %#x, has %#x", e.FileName, e.FileAttributes, m.FileAttributes)
		}
	}
}

// What a link leads to is not there either if it is vetoed, nor how large it is, whatever
// the storage.
func TestLinkToWhatIsVetoed(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T) (vfs.FS, error)
	}{
		{"a directory", func(t *testing.T) (vfs.FS, error) { return posix.New(t.TempDir(), posix.Config{}) }},
		{"memory", func(*testing.T) (vfs.FS, error) { return memory.New(memory.Config{}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys, err := c.make(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { fsys.Close() })
			s := newSite(t, memconn.Config{}, func(c *Config) {
				c.Shares = []Share{{Name: "all", FS: fsys}, {Name: "data", FS: fsys, VetoFiles: []string{"secret"}}}
			})
			p := s.login(smb2.DialectSMB311).mustConnect("all")
			for _, n := range []string{"secret", "seen"} {
				id := p.openFile(n)
				p.writeAll(id, "0123456789")
				p.close(id)
				if err := fsys.(vfs.Symlinker).Symlink(t.Context(), n, "to "+n); err != nil {
					t.Fatal(err)
				}
			}
			p.mustConnect("data")
			st, _ := p.tryCreate(createRequest("to secret", smb2.FileOpen))
			want(t, "opening a link to what is vetoed", st, ntstatus.ObjectNameNotFound)
			st, _ = p.tryCreate(createRequest("to seen", smb2.FileOpen))
			want(t, "opening a link to what is not", st, ntstatus.Success)
			list, st := p.list(p.openDir(""), smb2.ClassFileFullDirectoryInformation, "to *", 0, 4096)
			want(t, "listing", st, ntstatus.Success)
			for _, e := range list {
				if isLink := e.FileAttributes&smb2.FileAttributeReparsePoint != 0; isLink != (e.FileName == "to secret") || !isLink && e.EndOfFile != 10 {
					t.Errorf("%s is listed with %d octets and the attributes %#x", e.FileName, e.EndOfFile, e.FileAttributes)
				}
			}
			if len(list) != 2 {
				t.Errorf("listed %q", names(list))
			}
		})
	}
}

// Nor is a client told of what happens to what is vetoed.
func TestVetoedEvents(t *testing.T) {
	w := dirWatch{limit: 1000, veto: []string{"*.veto", "secret"}}
	for _, name := range []string{"a", "b.Veto", "secret/c", "d/e.veto/f", "d/g"} {
		w.pushLocked(notifyEvent{action: smb2.FileActionAdded, name: name})
	}
	var got []string
	for _, e := range w.events {
		got = append(got, e.name)
	}
	if !slices.Equal(got, []string{"a", "d/g"}) {
		t.Errorf("told of %q", got)
	}
}
