package fuse

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// A read-only file with two names loses one of them, in each way in which a name goes:
// what is left is read-only, and has one name.
func TestReadOnlyFileLosesAName(t *testing.T) {
	for _, c := range []struct {
		how  string
		lose func(k *kernel) gofuse.Status
		open bool
	}{
		{how: "unlink", lose: func(k *kernel) gofuse.Status { return k.unlink("other") }},
		{how: "unlink while open", lose: func(k *kernel) gofuse.Status { return k.unlink("other") }, open: true},
		{how: "rename over it", lose: func(k *kernel) gofuse.Status { return k.rename("new", "other") }},
		{how: "rename over it while open", lose: func(k *kernel) gofuse.Status { return k.rename("new", "other") }, open: true},
	} {
		t.Run(c.how, func(t *testing.T) {
			kernels(t, func(t *testing.T, s *nas, k *kernel) {
				if c.open && k.fs.cfg.NoServerInodes {
					return // which does not see that two names are one file, and so that it is open
				}
				id, fh := k.create("f", "content")
				var out gofuse.EntryOut
				k.ok(k.fs.Link(nil, &gofuse.LinkIn{InHeader: head(rootID), Oldnodeid: id}, "other", &out))
				_, n := k.create("new", "new")
				k.close(n)
				var a gofuse.AttrOut
				in := gofuse.SetAttrIn{SetAttrInCommon: gofuse.SetAttrInCommon{InHeader: head(id), Valid: gofuse.FATTR_MODE, Mode: 0o444}}
				k.ok(k.fs.SetAttr(nil, &in, &a))
				if !c.open {
					k.close(fh)
				}
				k.ok(c.lose(k))
				_, attr, errno := k.find("f")
				if errno != 0 || attr.Mode&0o222 != 0 || attr.Nlink != 1 {
					t.Errorf("mode %o, %d links, %v; want no write bits and one link", attr.Mode, attr.Nlink, errno)
				}
				if c.open {
					// It can be made writable, and be seen to be.
					in.Mode = 0o644
					k.ok(k.fs.SetAttr(nil, &in, &a))
					if a.Mode&0o200 == 0 {
						t.Errorf("mode %o after chmod 0644", a.Mode)
					}
					k.close(fh)
				}
				es, err := os.ReadDir(s.dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range es {
					if isDoomed(e.Name()) {
						t.Errorf("left on the server: %s", e.Name())
					}
				}
				var st syscall.Stat_t
				if err := syscall.Stat(filepath.Join(s.dir, "f"), &st); err != nil || st.Nlink != 1 {
					t.Errorf("on the server: %d links, %v", st.Nlink, err)
				}
			})
		})
	}
}

// A file is open by one of its names, or was by one that it has no more, and loses
// another in a directory: nothing stays in that, and it can be moved.
func TestNameGoesThatNothingIsOpenBy(t *testing.T) {
	for _, c := range []struct {
		how  string
		then func(k *kernel) gofuse.Status
	}{
		{"unlink", func(k *kernel) gofuse.Status { return k.unlink("d/other") }},
		{"unlink after a rename of the other", func(k *kernel) gofuse.Status {
			if st := k.rename("f", "g"); st != gofuse.OK {
				return st
			}
			return k.unlink("d/other")
		}},
		{"rename over it", func(k *kernel) gofuse.Status {
			_, fh := k.create("new", "new")
			k.close(fh)
			if st := k.rename("new", "d/other"); st != gofuse.OK {
				return st
			}
			return k.unlink("d/other")
		}},
	} {
		t.Run(c.how, func(t *testing.T) {
			kernels(t, func(t *testing.T, s *nas, k *kernel) {
				dir := k.mkdir("d")
				id, fh := k.create("f", "content")
				defer k.close(fh)
				var out gofuse.EntryOut
				k.ok(k.fs.Link(nil, &gofuse.LinkIn{InHeader: head(dir), Oldnodeid: id}, "other", &out))
				if !k.fs.cfg.NoServerInodes { // which does not see that two names are one file
					k.ok(c.then(k))
					if es, err := os.ReadDir(filepath.Join(s.dir, "d")); err != nil || len(es) > 0 {
						t.Errorf("left in the directory: %v, %v", es, err)
					}
				}
				k.ok(k.rename("d", "e"))
				if got := k.read(fh); got != "content" {
					t.Errorf("read %q by what is open, want its content", got)
				}
				var a gofuse.AttrOut
				k.ok(k.fs.GetAttr(nil, &gofuse.GetAttrIn{InHeader: head(id)}, &a))
				if !k.fs.cfg.NoServerInodes && a.Nlink != 1 {
					t.Errorf("%d links, want 1", a.Nlink)
				}
			})
		})
	}
}

// Servers with POSIX extensions take the name of an open file away at once, or (ksmbd) when
// nobody has the file open any more: which of them this one is shows when a first file is
// deleted, and either way the name is free, and the listing empty, at once.
func TestUnlinkWhileOpenWithPOSIXExtensions(t *testing.T) {
	for _, c := range []struct {
		name   string
		server client.POSIXMode
		want   int32
	}{
		{"names go at once", client.POSIXRequired, unlinksAtOnce},
		{"names go at the last close", client.POSIXOff, unlinksLater},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newNAS(t)
			k := newKernel(t, s.share(t, client.Config{POSIX: c.server}), Config{})
			k.fs.posix = true // what a server says that defers it
			dir := k.mkdir("d")
			for range 2 { // before it is known, and after
				id, fh := k.create("d/f", "content")
				var out gofuse.EntryOut
				if c.server == client.POSIXRequired {
					k.ok(k.fs.Link(nil, &gofuse.LinkIn{InHeader: head(rootID), Oldnodeid: id}, "other", &out))
				}
				k.ok(k.unlink("d/f"))
				if got := k.fs.unlinks.Load(); got != c.want {
					t.Fatalf("the server is held for one of kind %d, want %d", got, c.want)
				}
				if _, _, err := k.find("d/f"); err != syscall.ENOENT {
					t.Errorf("lookup after unlink: %v, want ENOENT", err)
				}
				if got := k.list(dir); len(got) != 0 {
					t.Errorf("the directory lists %q", got)
				}
				want := uint32(0)
				if out.NodeId != 0 {
					want = 1
				}
				var a gofuse.AttrOut
				k.ok(k.fs.GetAttr(nil, &gofuse.GetAttrIn{InHeader: head(id)}, &a))
				if a.Nlink != want || a.Size != 7 {
					t.Errorf("fstat: %d links, size %d; want %d and 7", a.Nlink, a.Size, want)
				}
				if got := k.read(fh); got != "content" {
					t.Errorf("read %q", got)
				}
				_, again := k.create("d/f", "new")
				k.close(again)
				k.ok(k.unlink("d/f"))
				k.close(fh)
				if out.NodeId != 0 {
					k.ok(k.unlink("other"))
				}
			}
			if es, _ := os.ReadDir(filepath.Join(s.dir, "d")); len(es) != 0 {
				t.Errorf("left on the server: %v", es)
			}
		})
	}
}

// A file that was closed is open on the server until that has answered, and its name would
// stay there as long if it were deleted: who deletes it waits for that, as far as his own
// time goes, but not where names of open files go at once.
func TestUnlinkWhileClosing(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		id, fh := k.create("f", "content")
		k.close(fh)
		n, dir := k.fs.t.get(id), k.fs.t.get(rootID)
		other := k.fs.t.get(k.mkdir("other"))
		defer k.fs.closings.end(k.fs.closings.begin(other)) // which is nobody's business here
		n.mu.Lock()
		x := k.fs.closings.begin(n)
		n.mu.Unlock()
		if k.fs.posix {
			k.ok(k.unlink("f"))
			k.fs.closings.end(x)
			return
		}
		err := k.fs.unlink(ended, dir, "f")
		if err != context.Canceled { // that of a request says of which
			t.Errorf("unlink: %v; want it to have waited, and to have asked for nothing", err)
		}
		if _, err := os.Lstat(filepath.Join(s.dir, "f")); err != nil {
			t.Errorf("on the server: %v", err)
		}
		k.fs.closings.end(x)
		k.ok(k.unlink("f"))
		if names := k.list(rootID); len(names) != 1 {
			t.Errorf("the directory lists %q", names)
		}
	})
}

// What is closed aside, as what was kept open for the next open, is known to be until it is.
func TestClosings(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		for _, flags := range []uint32{syscall.O_RDONLY, syscall.O_RDWR} {
			id, fh := k.create("f", "content")
			k.close(fh)
			n := k.fs.t.get(id)
			k.close(k.open(id, flags))
			k.fs.closeIdle(n)
			if err := k.fs.closings.wait(ended, n); err != nil {
				t.Errorf("closed, and yet being closed: %v", err)
			}
			k.ok(k.unlink("f"))
		}
		k.fs.closings.mu.Lock()
		defer k.fs.closings.mu.Unlock()
		if len(k.fs.closings.all) != 0 {
			t.Errorf("%d are being closed", len(k.fs.closings.all))
		}
	})
}

// A file is known by a name in a directory that the kernel has forgotten since. When that is
// found again, and another file takes the name, what is done to the first one is not done
// to the other.
func TestNameInAForgottenDirectory(t *testing.T) {
	for _, c := range []struct {
		how     string
		replace func(k *kernel) // what is at d/b by "new"
	}{
		{"its name is not looked up again", func(k *kernel) {
			if err := k.fs.sh.Rename(k.t.Context(), "new", "d/b", true); err != nil {
				k.t.Fatal(err)
			}
		}},
		{"its name is replaced", func(k *kernel) {
			k.found("d/b")
			k.ok(k.rename("new", "d/b"))
		}},
	} {
		t.Run(c.how, func(t *testing.T) {
			kernels(t, func(t *testing.T, s *nas, k *kernel) {
				id, fh := k.create("a", "a")
				k.close(fh)
				_, fh = k.create("new", "new")
				k.close(fh)
				dir := k.mkdir("d")
				var out gofuse.EntryOut
				k.ok(k.fs.Link(nil, &gofuse.LinkIn{InHeader: head(dir), Oldnodeid: id}, "b", &out))
				if out.NodeId != id {
					return // without numbers of the server's they are two
				}
				k.fs.t.forget(dir, 1<<32)
				if again := k.found("d"); again == dir {
					t.Fatal("the directory was not forgotten")
				}
				c.replace(k)
				var a gofuse.AttrOut
				k.ok(k.fs.SetAttr(nil, &gofuse.SetAttrIn{SetAttrInCommon: gofuse.SetAttrInCommon{
					InHeader: head(id), Valid: gofuse.FATTR_MODE, Mode: 0o444}}, &a))
				if _, attr, errno := k.find("a"); errno != 0 || attr.Mode&0o222 != 0 {
					t.Errorf("the file has mode %o, %v; want no write bits", attr.Mode, errno)
				}
				if _, attr, errno := k.find("d/b"); errno != 0 || attr.Mode&0o200 == 0 || attr.Size != 3 {
					t.Errorf("the other has mode %o and %d bytes, %v; want it to be as it was", attr.Mode, attr.Size, errno)
				}
			})
		})
	}
}

// A directory whose listing is kept has an open on the server, and so has one that was just
// dropped and that nobody has got to closing yet: its name is gone with rmdir all the same.
func TestRemovalOfWhatWasListed(t *testing.T) {
	for _, c := range []struct {
		how  string
		drop func(k *kernel, n *inode)
	}{
		{"kept", func(*kernel, *inode) {}},
		{"dropped", func(k *kernel, n *inode) {
			busy := make(chan struct{})
			k.t.Cleanup(func() { close(busy) })
			k.fs.mind(func() { <-busy })
			k.fs.dropListing(n, false)
		}},
		{"forgotten and found again", func(k *kernel, n *inode) {
			busy := make(chan struct{})
			k.t.Cleanup(func() { close(busy) })
			k.fs.mind(func() { <-busy })
			k.forget(n.id)
			k.found("d/e")
		}},
	} {
		t.Run(c.how, func(t *testing.T) {
			kernels(t, func(t *testing.T, s *nas, k *kernel) {
				k.mkdir("d")
				id := k.mkdir("d/e")
				k.list(id)
				c.drop(k, k.fs.t.get(id))
				for _, name := range []string{"d/e", "d"} {
					dir, base := k.in(name)
					k.ok(k.fs.Rmdir(nil, &gofuse.InHeader{NodeId: dir}, base))
					if _, err := os.Stat(filepath.Join(s.dir, name)); !os.IsNotExist(err) {
						t.Errorf("%s on the server after rmdir: %v", name, err)
					}
				}
			})
		})
	}
}
