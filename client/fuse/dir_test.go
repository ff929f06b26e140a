package fuse

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// A listing that the kernel takes in pieces does not speak for what was changed since it
// began: its attributes and names would replace those that are right.
func TestListingOfWhatChangesMeanwhile(t *testing.T) {
	kernels(t, func(t *testing.T, _ *nas, k *kernel) {
		dir := k.mkdir("d")
		for _, name := range []string{"left", "removed", "replaced", "written", "z"} {
			_, fh := k.create("d/"+name, "old")
			k.close(fh)
		}
		d := k.opendir(dir)
		defer k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: d})
		piece := func(off uint64, size int) *gofuse.DirEntryList {
			out := gofuse.NewDirEntryList(make([]byte, size), off)
			k.ok(k.fs.ReadDirPlus(nil, &gofuse.ReadIn{Fh: d, Offset: off}, out))
			return out
		}
		first := piece(0, 400) // "." and ".." take 160 bytes each
		fh := k.open(k.found("d/written"), syscall.O_RDWR)
		if n, st := k.fs.Write(nil, &gofuse.WriteIn{Fh: fh}, []byte("longer")); st != gofuse.OK || n != 6 {
			t.Fatal(n, st)
		}
		k.close(fh)
		k.ok(k.unlink("d/removed"))
		k.ok(k.rename("d/z", "d/replaced"))
		known := map[string]uint64{"left": k.found("d/left"), "replaced": k.found("d/replaced"), "written": k.found("d/written")}
		es, infos, err := gofuse.ParseDirLookupEntries(piece(first.Offset, 4096).Bytes())
		if err != nil || len(es) != 5 {
			t.Fatal(len(es), err)
		}
		for i, e := range es {
			if is := infos[i]; is.NodeId != 0 && (is.NodeId != known[e.Name] || e.Name == "written" && is.Size != 6) {
				t.Errorf("%s is inode %d of %d bytes, and was told to be %d", e.Name, is.NodeId, is.Size, known[e.Name])
			} else if e.Name == "left" && is.NodeId == 0 {
				t.Error("what has not changed was not told about")
			}
		}
	})
}

// Who begins to read a directory sees what was done in it since it was opened, and who has
// read it and goes back to the beginning, too: however it was opened.
func TestListingAnew(t *testing.T) {
	for how, flags := range map[string]uint32{"open(2)": 0, "opendir(3)": syscall.O_DIRECTORY} {
		t.Run(how, func(t *testing.T) { listingAnew(t, flags) })
	}
}

func listingAnew(t *testing.T, flags uint32) {
	kernels(t, func(t *testing.T, _ *nas, k *kernel) {
		for _, c := range []struct {
			how    string
			begins bool // to read before the change
			change func()
			want   []string
		}{
			{"made", false, func() { k.mkdir("d/new") }, []string{".", "..", "new", "old"}},
			{"removed", false, func() { k.ok(k.unlink("d/old")) }, []string{".", ".."}},
			{"renamed", false, func() { k.ok(k.rename("d/old", "d/older")) }, []string{".", "..", "older"}},
			{"made after it was read", true, func() { k.mkdir("d/new") }, []string{".", "..", "new", "old"}},
			{"removed after it was read", true, func() { k.ok(k.unlink("d/old")) }, []string{".", ".."}},
		} {
			dir := k.mkdir("d")
			_, fh := k.create("d/old", "")
			k.close(fh)
			d := k.openDirectory(dir, flags)
			read := func() (names []string) {
				out := gofuse.NewDirEntryList(make([]byte, 4096), 0)
				k.ok(k.fs.ReadDir(nil, &gofuse.ReadIn{Fh: d}, out))
				es, err := gofuse.ParseDirEntries(out.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range es {
					names = append(names, e.Name)
				}
				slices.Sort(names)
				return names
			}
			if c.begins {
				read()
			}
			c.change()
			if got := read(); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q is listed, want %q", c.how, got, c.want)
			}
			k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: d})
			k.ok(k.rename("d", "done "+c.how))
		}
	})
}

// A directory that is removed while it is open, in each way in which it can be, is gone at
// once from the one above and from the server, whose names otherwise stay until the last
// close; so that the one above can be removed, too.
func TestRmdirWhileOpen(t *testing.T) {
	for _, c := range []struct {
		how   string
		flags uint32
		read  bool
	}{
		{"open(2)", 0, false},
		{"open(2), read in part", 0, true},
		{"opendir(3)", syscall.O_DIRECTORY, false},
		{"opendir(3), read in part", syscall.O_DIRECTORY, true},
	} {
		t.Run(c.how, func(t *testing.T) {
			s := newNAS(t)
			k := newKernel(t, s.share(t, client.Config{POSIX: client.POSIXOff}), Config{AttrTimeout: time.Hour})
			k.mkdir("above")
			dir := k.mkdir("above/d")
			// What is open has more in it than one piece of the kernel's has room for.
			for i := range 3 {
				_, fh := k.create(fmt.Sprintf("above/d/%d", i), "")
				k.close(fh)
			}
			d := k.openDirectory(dir, c.flags)
			part := func() gofuse.Status {
				return k.fs.ReadDir(nil, &gofuse.ReadIn{Fh: d}, gofuse.NewDirEntryList(make([]byte, 64), 0))
			}
			if c.read {
				k.ok(part())
			}
			for i := range 3 {
				k.ok(k.unlink(fmt.Sprintf("above/d/%d", i)))
			}
			k.ok(k.rmdir("above/d"))
			if es, err := os.ReadDir(filepath.Join(s.dir, "above")); err != nil || len(es) > 0 {
				t.Errorf("left on the server: %v, %v", es, err)
			}
			if got := k.list(k.found("above")); len(got) > 0 {
				t.Errorf("still listed: %q", got)
			}
			var a gofuse.AttrOut
			k.ok(k.fs.GetAttr(nil, &gofuse.GetAttrIn{InHeader: head(dir)}, &a))
			if a.Nlink != 0 {
				t.Errorf("%d links of what was removed", a.Nlink)
			}
			if st := part(); st != gofuse.ENOENT && st != gofuse.Status(syscall.ESTALE) {
				t.Errorf("reading what was removed, which Linux answers itself: %v", st)
			}
			k.ok(k.rmdir("above"))
			k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: d})
		})
	}
}
