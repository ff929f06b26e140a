package fuse

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// Directories that are opened one after the other tell which come next, more of them the
// longer it goes on; those that are opened in no order tell nothing.
func TestWalk(t *testing.T) {
	var order []dirEntry
	for _, name := range strings.Fields("f c a file e b d g .h i") {
		kind := uint32(syscall.S_IFDIR)
		if name == "file" {
			kind = syscall.S_IFREG
		}
		order = append(order, dirEntry{local: name, wire: name, kind: kind})
	}
	for _, c := range []struct{ how, opens, want string }{ // what comes next after each open
		{"as they were listed", "f c a e b d g .h i", "c,a a,e,b,d e,b,d,g b,d,g,.h d,g,.h,i g,.h,i .h,i i -"},
		{"by name", "a b c d e f g i", "b,c c,d,e,f d,e,f,g e,f,g,i f,g,i g,i i -"},
		{"some are left out", "a c e g", "b,c d,e,f,g f,g,i i"},
		{"one again and again", "a a a b", "b,c - - c,d,e,f"},
		{"backwards", "g f e d", "- - - -"},
		{"what was not there", "new a new b", "- b,c - c,d,e,f"},
	} {
		w := newWalk(order)
		var got []string
		for open := range strings.FieldsSeq(c.opens) {
			next := strings.Join(w.opened(open), ",")
			if next == "" {
				next = "-"
			}
			got = append(got, next)
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s, %s: %s, want %s", c.how, c.opens, got, c.want)
		}
	}
}

// A walk that has come to its end is forgotten, and so is the oldest of too many.
func TestWalksAreForgotten(t *testing.T) {
	var a aheads
	order := []dirEntry{{wire: "a", kind: syscall.S_IFDIR}, {wire: "b", kind: syscall.S_IFDIR}}
	dirs := make([]inode, maxWalks+1)
	for i := range dirs {
		w := newWalk(order)
		w.dir = &dirs[i]
		a.opened(w, "a")
	}
	if a.walkIn(&dirs[0]) != nil || len(a.walks) != maxWalks {
		t.Errorf("%d walks are known, the first: %v; want %d and none", len(a.walks), a.walkIn(&dirs[0]), maxWalks)
	}
	w := a.walkIn(&dirs[1])
	if w == nil {
		t.Fatal("the second is not known")
	}
	if a.opened(w, "b"); a.walkIn(&dirs[1]) != nil {
		t.Error("a walk that is over is known")
	}
}

// A walk is made anew when a directory is opened that it does not know, and the one above was
// listed since it was made.
func TestWalkIsMadeAnew(t *testing.T) {
	f := &filesystem{leases: true, t: newTable("", false)}
	dir := &inode{kind: syscall.S_IFDIR, lookups: 1}
	at := time.Unix(1e9, 0)
	list := func(names string) {
		at = at.Add(time.Second)
		l := &listing{at: at}
		for name := range strings.FieldsSeq(names) {
			l.order = append(l.order, dirEntry{wire: name, kind: syscall.S_IFDIR})
		}
		dir.cache.listing = l
	}
	open := func(name string) *walk {
		f.walked(&inode{kind: syscall.S_IFDIR, lookups: 1, links: []link{{dir, name}}})
		return f.aheads.walkIn(dir)
	}
	if open("c") != nil {
		t.Error("there is a walk in what was never listed")
	}
	list("a b c d e f")
	first := open("c")
	if first == nil {
		t.Fatal("there is no walk in what was listed")
	}
	if open("new") != first {
		t.Error("another walk of the same listing")
	}
	dir.cache.listing = nil
	if open("new") != first {
		t.Error("another walk without a listing")
	}
	list("a b c d e f new")
	second := open("new")
	if second == nil || second == first || !second.has("new") {
		t.Fatal("what is new is not known")
	}
	list("a b c d e f new")
	if open("a") != second {
		t.Error("another walk, although it knew what was opened")
	}
}

// family makes the directory p with directories d0 to d7, with a file in each, and has the
// kernel know all. It returns the directories.
func (k *kernel) family() (ids []uint64) {
	k.mkdir("p")
	for i := range 8 {
		ids = append(ids, k.mkdir(fmt.Sprintf("p/d%d", i)))
		_, fh := k.create(fmt.Sprintf("p/d%d/f", i), "content")
		k.close(fh)
	}
	k.list(k.found("p"))
	return ids
}

func (k *kernel) kept(id uint64) bool {
	n := k.fs.t.get(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cache.listing.valid()
}

// Who lists the directories in another one after the other finds the next ones listed, and
// in them what was changed here since. Without leases none are.
func TestListingAhead(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		ids := k.family()
		for i, id := range ids {
			if k.list(id); i == 1 {
				break
			}
			k.fs.aheads.wait(t.Context())
		}
		k.fs.aheads.wait(t.Context())
		for i, id := range ids {
			// After the first two come next, after the second four.
			if got, want := k.kept(id), k.fs.leases && i < 6; got != want {
				t.Errorf("d%d is known: %v, want %v", i, got, want)
			}
		}
		_, fh := k.create("p/d3/new", "")
		k.close(fh)
		k.ok(k.unlink("p/d4/f"))
		for i, want := range map[int][]string{2: {"f"}, 3: {"f", "new"}, 4: nil} {
			if got := k.list(ids[i]); !slices.Equal(got, want) {
				t.Errorf("d%d has %q, want %q", i, got, want)
			}
		}
	})
}

// A directory that is too long to be listed ahead is found to be so once; when it is listed
// and has become shorter, it is worth it again.
func TestLongDirectoriesAreNotListedAhead(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		if !k.fs.leases {
			return
		}
		id := k.mkdir("long")
		n := k.fs.t.get(id)
		var names []string
		for i := range aheadEntries + 1 {
			names = append(names, filepath.Join(s.dir, "long", fmt.Sprint(i)))
			if err := os.WriteFile(names[i], nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if !n.worthAhead() {
			t.Fatal("it is not worth it before anything is known of it")
		}
		k.fs.listAhead(n)
		k.fs.aheads.wait(t.Context())
		if n.worthAhead() || k.kept(id) {
			t.Errorf("too long: kept: %v, to be listed ahead again: %v", k.kept(id), n.worthAhead())
		}
		for _, name := range names[1:] {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		if got := k.list(id); len(got) != 1 {
			t.Errorf("%d entries are listed, want 1", len(got))
		}
		k.fs.dropListing(n, false)
		if !n.worthAhead() {
			t.Error("it is short, and not worth it")
		}
	})
}

// A directory that is being listed ahead, or was, can be removed and renamed, as can the one
// above it, at once: on servers that do not let go of what is open, too.
func TestChangesOfWhatIsListedAhead(t *testing.T) {
	for _, over := range []bool{false, true} {
		t.Run(fmt.Sprintf("over=%v", over), func(t *testing.T) {
			kernels(t, func(t *testing.T, s *nas, k *kernel) {
				ids := k.family()
				for i := range ids {
					k.ok(k.unlink(fmt.Sprintf("p/d%d/f", i)))
				}
				p := k.found("p")
				k.list(p)
				walk := func(id uint64) {
					k.list(id)
					if over {
						k.fs.aheads.wait(t.Context())
					}
				}
				walk(ids[0])
				h := head(p)
				k.ok(k.fs.Rmdir(nil, &h, "d1"))
				if _, err := os.Stat(filepath.Join(s.dir, "p/d1")); !os.IsNotExist(err) {
					t.Errorf("d1 on the server after rmdir: %v", err)
				}
				walk(ids[2])
				k.ok(k.rename("p/d3", "p/other"))
				walk(ids[4])
				k.ok(k.rename("p", "q"))
				if got, want := k.list(k.found("q")), []string{"d0", "d2", "d4", "d5", "d6", "d7", "other"}; !slices.Equal(got, want) {
					t.Errorf("there are %q, want %q", got, want)
				}
			})
		})
	}
}

// Listings that nobody believes any more are closed on the server, one after the other.
func TestOldListingsAreClosed(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		if !k.fs.leases {
			return
		}
		a, b := k.mkdir("a"), k.mkdir("b")
		k.list(a)
		k.list(b)
		if done, left := k.fs.expire(); done || left <= 0 {
			t.Errorf("just listed: closed: %v, %v left", done, left)
		}
		k.fs.mu.Lock() // as if there was one that was dropped just before
		k.fs.listedDirs = append([]*inode{k.fs.t.root}, k.fs.listedDirs...)
		k.fs.mu.Unlock()
		for _, id := range []uint64{a, b} {
			n := k.fs.t.get(id)
			n.mu.Lock()
			n.cache.listing.at = n.cache.listing.at.Add(-listingTime)
			n.mu.Unlock()
		}
		for done := true; done; {
			done, _ = k.fs.expire()
		}
		k.fs.mu.RLock()
		defer k.fs.mu.RUnlock()
		if n := len(k.fs.listedDirs) + int(k.fs.listings.Load()); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}

// What waits for a directory that is being listed ahead does so no longer than its caller.
func TestWaitingForAListingAhead(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		id := k.mkdir("d")
		n := k.fs.t.get(id)
		x := k.fs.aheads.begin(n)
		if k.fs.aheads.begin(n) != nil {
			t.Error("it is listed ahead twice")
		}
		r := k.fs.begin(nil, &gofuse.InHeader{})
		k.fs.lookout.mu.Lock() // as look does when the caller is killed
		k.fs.lookout.drop(r)
		close(r.done)
		k.fs.lookout.mu.Unlock()
		if err := k.fs.aheads.of(n).wait(r); err == nil {
			t.Error("who was killed has waited for it")
		}
		x.err = syscall.ETIMEDOUT
		k.fs.aheads.end(x)
		if err := x.wait(t.Context()); err != syscall.ETIMEDOUT {
			t.Errorf("a server that does not answer: %v, want ETIMEDOUT", err)
		}
		if got := k.list(id); len(got) != 0 {
			t.Errorf("listed: %q", got)
		}
		release := k.fs.aheads.hold()
		if k.fs.aheads.begin(n) != nil {
			t.Error("something is listed ahead while that is held up")
		}
		release()
	})
}
