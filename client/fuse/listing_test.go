package fuse

import (
	"slices"
	"syscall"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// page reads entries of an open directory from a position on, and where the next begin.
// Those without attributes, which the kernel looks up, have NodeId 0.
func (k *kernel) page(fh, off uint64, size int) (names []string, outs []gofuse.EntryOut, next uint64) {
	k.t.Helper()
	out := gofuse.NewDirEntryList(make([]byte, size), off)
	k.ok(k.fs.ReadDirPlus(nil, &gofuse.ReadIn{Fh: fh, Offset: off}, out))
	es, outs, err := gofuse.ParseDirLookupEntries(out.Bytes())
	if err != nil {
		k.t.Fatal(err)
	}
	for _, e := range es {
		names = append(names, e.Name)
	}
	return names, outs, out.Offset
}

// opendir opens a directory as opendir(3) does, which has its beginning read at once.
func (k *kernel) opendir(id uint64) (fh uint64) {
	k.t.Helper()
	return k.openDirectory(id, syscall.O_DIRECTORY)
}

func (k *kernel) openDirectory(id uint64, flags uint32) (fh uint64) {
	k.t.Helper()
	var o gofuse.OpenOut
	k.ok(k.fs.OpenDir(nil, &gofuse.OpenIn{InHeader: head(id), Flags: flags}, &o))
	return o.Fh
}

// forget has the kernel drop an inode, however often it was looked up.
func (k *kernel) forget(id uint64) { k.fs.Forget(id, 1<<62) }

// linked makes a directory d, and a file that has the names f and d/other, by which the
// kernel was told of it once each.
func (k *kernel) linked() (dir, f, other uint64) {
	k.t.Helper()
	dir = k.mkdir("d")
	f, fh := k.create("f", "content")
	k.close(fh)
	var out gofuse.EntryOut
	k.ok(k.fs.Link(nil, &gofuse.LinkIn{InHeader: head(dir), Oldnodeid: f}, "other", &out))
	return dir, f, out.NodeId
}

// A listing that is kept tells of a file by one of its names. When another one, elsewhere,
// goes, and the kernel has forgotten the file, so that nobody here knows whose name that
// was, the listing must not speak for the file.
func TestListingAndANameElsewhere(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		dir, id, other := k.linked()
		k.list(dir)
		k.forget(id)
		k.forget(other)
		k.ok(k.unlink("f"))

		d := k.opendir(dir)
		defer k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: d})
		names, outs, _ := k.page(d, 0, 4096)
		i := slices.Index(names, "other")
		if i < 0 {
			t.Fatalf("listed: %q", names)
		}
		if outs[i].NodeId != 0 && outs[i].Nlink != 1 {
			t.Errorf("the listing says that there are %d links, want 1 or nothing", outs[i].Nlink)
		}
		if _, a, err := k.find("d/other"); err != 0 || a.Nlink != 1 {
			t.Errorf("lookup: %d links, %v; want 1", a.Nlink, err)
		}
	})
}

// Neither does it know how many names there are, where the server has no POSIX extensions:
// a file that is known to have had two is not told to have one.
func TestListingOfAFileWithTwoNames(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		if k.fs.cfg.NoServerInodes {
			return // which does not see that two names are one file
		}
		dir, id, _ := k.linked()
		k.forget(id)
		d := k.opendir(dir)
		defer k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: d})
		names, outs, _ := k.page(d, 2, 4096) // behind "." and ".."
		if len(names) != 1 || outs[0].NodeId != 0 && outs[0].Nlink != 2 {
			t.Errorf("listed: %q, %d links; want other with 2 or nothing", names, outs[0].Nlink)
		}
		if _, a, err := k.find("d/other"); err != 0 || a.Nlink != 2 {
			t.Errorf("lookup: %d links, %v; want 2", a.Nlink, err)
		}
	})
}

// What changes while a directory is being listed is not told of as it was, also when the
// kernel has forgotten the file in between and found it again.
func TestListingOfWhatIsForgottenMeanwhile(t *testing.T) {
	for name, begun := range map[string]bool{"read to its end": true, "opened": false} {
		t.Run(name, func(t *testing.T) {
			kernels(t, func(t *testing.T, s *nas, k *kernel) {
				dir := k.mkdir("d")
				id, fh := k.create("d/f", "content")
				k.close(fh)
				d := k.opendir(dir)
				defer k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: d})
				if begun {
					k.page(d, 0, 4096)
				}
				var a gofuse.AttrOut
				in := gofuse.SetAttrIn{SetAttrInCommon: gofuse.SetAttrInCommon{InHeader: head(id), Valid: gofuse.FATTR_SIZE, Size: 3}}
				k.ok(k.fs.SetAttr(nil, &in, &a))
				k.forget(id)
				names, outs, _ := k.page(d, 2, 4096) // behind "." and ".."
				if len(names) != 1 || outs[0].NodeId != 0 && outs[0].Size != 3 {
					t.Errorf("listed: %q, %d bytes; want f with 3 or nothing", names, outs[0].Size)
				}
				id, attr, err := k.find("d/f")
				if err != 0 || attr.Size != 3 {
					t.Errorf("lookup: %d bytes, %v; want 3", attr.Size, err)
				}
				k.ok(k.fs.GetAttr(nil, &gofuse.GetAttrIn{InHeader: head(id)}, &a))
				if a.Size != 3 {
					t.Errorf("stat of what was found again: %d bytes, want 3", a.Size)
				}
			})
		})
	}
}

// A directory's times change with what is in it, which the listing of the one above does
// not tell if it was begun before.
func TestListingOfADirectoryThatChangesMeanwhile(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		dir := k.mkdir("d")
		id := k.mkdir("d/sub")
		var a gofuse.AttrOut
		in := gofuse.SetAttrIn{SetAttrInCommon: gofuse.SetAttrInCommon{InHeader: head(id), Valid: gofuse.FATTR_MTIME, Mtime: 1e9}}
		k.ok(k.fs.SetAttr(nil, &in, &a))
		d := k.opendir(dir)
		defer k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: d})
		_, fh := k.create("d/sub/f", "content")
		k.close(fh)
		names, outs, _ := k.page(d, 2, 4096) // behind "." and ".."
		if len(names) != 1 || outs[0].NodeId != 0 && outs[0].Mtime == 1e9 {
			t.Errorf("listed: %q, changed at %d; want sub at a later time or nothing", names, outs[0].Mtime)
		}
		k.ok(k.fs.GetAttr(nil, &gofuse.GetAttrIn{InHeader: head(id)}, &a))
		if a.Mtime == 1e9 {
			t.Errorf("stat: changed at %d, want a later time", a.Mtime)
		}
	})
}

// What was opened by a name that another directory has had since, or had before, is no
// listing to answer from: which of them the server has opened nobody knows.
func TestListingOfWhatWasRenamedMeanwhile(t *testing.T) {
	for how, flags := range map[string]uint32{"open(2)": 0, "opendir(3)": syscall.O_DIRECTORY} {
		t.Run(how, func(t *testing.T) {
			kernels(t, func(t *testing.T, s *nas, k *kernel) {
				id := k.mkdir("d")
				for _, c := range []struct {
					name string
					kept bool
				}{{"d", true}, {"e", false}} {
					n := k.fs.t.get(id)
					k.fs.dropListing(n, false)
					d := k.openDirectory(id, flags)
					k.fs.t.moved(link{k.fs.t.root, "d"}, link{k.fs.t.root, c.name})
					k.page(d, 0, 4096)
					k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: d})
					if got, want := k.kept(id), k.fs.leases && c.kept; got != want {
						t.Errorf("opened as d, and read as %s: kept %v, want %v", c.name, got, want)
					}
				}
			})
		})
	}
}
