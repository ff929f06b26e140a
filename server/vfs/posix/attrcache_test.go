//go:build linux

package posix

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// agedFS serves a directory in which everything counts as left alone for long.
func agedFS(t *testing.T) (f *FS, root string) {
	t.Helper()
	root = t.TempDir()
	f = mustNew(t, root, Config{})
	if !f.attrs.enabled || !hasXattrs(f.root.fd) {
		t.Skip("the times of this storage are not trusted, or it keeps no attributes")
	}
	f.attrs.now = func() time.Time { return time.Now().Add(time.Hour) }
	return f, root
}

// told is what a listing says of an entry.
type told struct {
	attributes vfs.Attributes
	born       time.Time
	eas        bool
}

func tell(t *testing.T, f *FS, name string) (told, vfs.Info) {
	t.Helper()
	file, _, err := f.Open(t.Context(), vfs.Root, vfs.OpenOptions{Access: vfs.AccessRead})
	must(t, err)
	defer file.Close()
	d := file.(*dir)
	info, err := d.Lstat(t.Context(), name)
	must(t, err)
	eas, err := d.HasXattrs(t.Context(), name, &info)
	must(t, err)
	return told{info.Attributes, info.BirthTime, eas}, info
}

// until repeats what moves the object's ChangeTime until it has: the clock has a grain,
// which attrAge is there for in life.
func until(t *testing.T, path string, change func() error) {
	t.Helper()
	var before, after unix.Stat_t
	must(t, unix.Lstat(path, &before))
	for after = before; after.Ctim == before.Ctim && after.Ino == before.Ino; {
		must(t, change())
		must(t, unix.Lstat(path, &after))
	}
}

// What others do to an object shows in the very next listing.
func TestAttrCacheSeesOthers(t *testing.T) {
	hidden := dosInfo{attrib: uint32(vfs.AttrHidden), hasAttrib: true}
	born := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	dos := func(d dosInfo) func(string) error {
		return func(p string) error { return unix.Setxattr(p, xattrDOSAttrib, d.appendBinary(nil), 0) }
	}
	for _, c := range []struct {
		what          string
		first, change func(path string) error
		want          told // born is looked at if it is set
	}{
		{"attributes set", nil, dos(hidden), told{attributes: vfs.AttrHidden}},
		{"attributes removed", dos(hidden), func(p string) error {
			if err := unix.Removexattr(p, xattrDOSAttrib); err != unix.ENODATA {
				return err
			}
			return os.Chmod(p, 0o644)
		}, told{}},
		{"creation time set", nil, dos(dosInfo{created: born}), told{born: born}},
		{"an extended attribute set", nil, func(p string) error { return unix.Setxattr(p, "user.x", []byte("1"), 0) }, told{eas: true}},
		{"one of another kind set", nil, func(p string) error {
			return unix.Setxattr(p, "user.DosStream.s:$DATA", []byte("1"), 0)
		}, told{}},
		{"replaced", dos(hidden), func(p string) error {
			if err := os.WriteFile(p+".new", nil, 0o644); err != nil {
				return err
			}
			return os.Rename(p+".new", p)
		}, told{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			f, root := agedFS(t)
			path := filepath.Join(root, "f")
			must(t, os.WriteFile(path, nil, 0o644))
			if c.first != nil {
				must(t, c.first(path))
			}
			_, info := tell(t, f, "f")
			if r, ok := f.attrs.get(&info); !ok || r.known&(knowsDOS|knowsEAs) != knowsDOS|knowsEAs {
				t.Fatalf("the cache has %+v, %v after a listing", r, ok)
			}
			until(t, path, func() error { return c.change(path) })
			for range 2 { // read, and from the cache
				got, _ := tell(t, f, "f")
				if c.want.born.IsZero() {
					got.born = time.Time{}
				}
				if got.attributes != c.want.attributes || got.eas != c.want.eas || !got.born.Equal(c.want.born) {
					t.Fatalf("a listing tells %+v, want %+v", got, c.want)
				}
			}
		})
	}
}

// What has just changed may change again within the same tick of the clock, so it is
// not kept; nor is what is on another device.
func TestAttrCacheKeepsOnlyTheSettled(t *testing.T) {
	changed := time.Unix(1000, 5)
	for _, c := range []struct {
		what string
		age  time.Duration
		dev  uint64
		want bool
	}{
		{"settled", attrAge, 1, true},
		{"too fresh", attrAge - 1, 1, false},
		{"from the future", -time.Hour, 1, false},
		{"of another device", attrAge, 2, false},
	} {
		cache := attrCache{dev: 1, enabled: true, now: func() time.Time { return changed.Add(c.age) }}
		info := vfs.Info{ID: vfs.FileID{Dev: c.dev, Ino: 7}, ChangeTime: changed}
		cache.add(&info, attrRecord{known: knowsEAs})
		if _, ok := cache.get(&info); ok != c.want {
			t.Errorf("%s: kept is %v, want %v", c.what, ok, c.want)
		}
		info.ChangeTime = changed.Add(1)
		if r, ok := cache.get(&info); ok {
			t.Errorf("%s: %+v of a state that nobody has read", c.what, r)
		}
	}
}

// Memory is bounded, and what is used stays longer than what is not.
func TestAttrCacheIsBounded(t *testing.T) {
	cache := attrCache{dev: 1, enabled: true, now: time.Now}
	at := func(ino uint64) *vfs.Info {
		return &vfs.Info{ID: vfs.FileID{Dev: 1, Ino: ino}, ChangeTime: time.Unix(1000, 0)}
	}
	for i := range uint64(10 * attrShards * attrRoom) {
		cache.add(at(i), attrRecord{known: knowsEAs | hasEAs})
		if _, ok := cache.get(at(0)); !ok {
			t.Fatalf("what is asked for all the time is forgotten after %d others", i)
		}
	}
	n := 0
	for i := range cache.shards {
		n += len(cache.shards[i].young) + len(cache.shards[i].old)
	}
	if most := 2 * attrShards * attrRoom; n > most {
		t.Errorf("%d objects are known, at most %d should be", n, most)
	}
}
