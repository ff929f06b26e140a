package server

import (
	"context"
	"strings"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Short names
//
// A name that DOS could not spell has another one that it could, [MS-FSCC] 2.1.5.2.1:
// up to eight characters, a dot and up to three. Nothing stores it. It is made of the
// name, two of its characters and a hash, and found by going through the directory:
// AB1C2D~E.TXT. If two names of a directory have the same, it means neither. A name
// that is short already has no other.

const (
	shortBase = 8
	shortExt  = 3
	// shortTilde is where the tilde is in a short name that was made.
	shortTilde = 6
	// shortDigits is how many digits of the hash there are, four of them before the
	// tilde, of base 36.
	shortDigits = 5

	// maxShortNames bounds the short names that are remembered.
	maxShortNames = 1024
)

const base36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// isShortChar reports whether an octet may be in a short name.
func isShortChar(c byte) bool {
	switch {
	case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
		return true
	}
	return strings.IndexByte("!#$%&'()-@^_`{}~", c) >= 0
}

// isShort reports whether DOS could have the name as it is.
func isShort(name string) bool {
	base, ext, dot := strings.Cut(name, ".")
	if base == "" || len(base) > shortBase || len(ext) > shortExt || dot && ext == "" {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !isShortChar(c) && (c != '.' || i != len(base)) {
			return false
		}
	}
	return true
}

// shortName is the short name of a name as clients spell it; "" if it is short itself.
func shortName(name string) string {
	if isShort(name) {
		return ""
	}
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	var b [shortBase + 1 + shortExt]byte
	n := appendShort(b[:0], base, 2)
	for len(n) < 2 {
		n = append(n, '_')
	}
	h := foldHash(name)
	for i := range shortDigits {
		if i == shortDigits-1 {
			n = append(n, '~')
		}
		n = append(n, base36[h%36])
		h /= 36
	}
	if dotted := appendShort(append(n, '.'), ext, shortExt); len(dotted) > len(n)+1 {
		n = dotted
	}
	return string(n)
}

// appendShort appends the first most characters of s that a short name may have, in
// capitals.
func appendShort(b []byte, s string, most int) []byte {
	for i := 0; i < len(s) && most > 0; i++ {
		c := s[i]
		if !isShortChar(c) || c == '~' {
			continue
		}
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
		most--
	}
	return b
}

// foldHash is a hash of the name in capitals: FNV-1a.
func foldHash(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		c := name[i]
		if c >= 0x80 {
			return foldHashFull(name)
		}
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

func foldHashFull(name string) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range []byte(foldName(name)) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// looksShort reports whether a component may be a short name that was made here.
func looksShort(name string) bool {
	base, _, _ := strings.Cut(name, ".")
	return len(base) == shortBase && base[shortTilde] == '~' && isShort(name)
}

// longName puts the names themselves in the place of short names in a path. What is
// no short name, or of nothing that is there, stays.
func (o *open) longName(ctx context.Context, path string) string {
	if !strings.Contains(path, "~") {
		return path
	}
	long := vfs.Root
	for comp := range strings.SplitSeq(path, "/") {
		long = vfs.Join(long, o.longComponent(ctx, long, comp))
	}
	return long
}

// longDir is longName for the directories before the last component: that one is a new
// name, whatever it looks like.
func (o *open) longDir(ctx context.Context, path string) string {
	dir, last := vfs.Split(path)
	if dir == vfs.Root {
		return path
	}
	return vfs.Join(o.longName(ctx, dir), last)
}

func (o *open) longComponent(ctx context.Context, dir, name string) string {
	if !looksShort(name) {
		return name
	}
	if _, err := o.fs.Lstat(ctx, vfs.Join(dir, name)); err == nil {
		return name
	}
	f, _, err := o.fs.Open(ctx, dir, vfs.OpenOptions{Access: vfs.AccessRead, Kind: vfs.KindDir})
	if err != nil {
		return name
	}
	defer f.Close()
	d, ok := f.(vfs.Dir)
	if !ok {
		return name
	}
	found := ""
	batch := make([]vfs.DirEntry, scanBatch)
	for cursor := vfs.CursorStart; ; {
		n, err := d.ReadDir(ctx, cursor, batch)
		for _, e := range batch[:n] {
			if strings.EqualFold(shortName(toWire(e.Name)), name) {
				if found != "" {
					return name // ambiguous
				}
				found = e.Name
			}
		}
		if err != nil || n == 0 {
			break
		}
		cursor = batch[n-1].Cursor
	}
	if found == "" {
		if found = o.srv.files.shortNames.get(shortKey{vfs.Base(o.fs), dir, foldName(name)}); found == "" {
			return name
		}
	}
	return found
}

// alternateName is the short name of the open's file, and is remembered: a program
// that replaces a file by this name then gets the name that the file had.
func (o *open) alternateName() string {
	dir, last := vfs.Split(o.path())
	name := toWire(last)
	short := shortName(name)
	if short == "" {
		return name
	}
	o.srv.files.shortNames.add(shortKey{vfs.Base(o.fs), dir, short}, last)
	return short
}

// shortNames remembers what short names stand for that clients have asked for, the
// oldest giving way.
type shortNames struct {
	mu sync.Mutex
	// guarded by mu
	m     map[shortKey]string
	order []shortKey // ring of the keys of m, oldest at next
	next  int
}

type shortKey struct {
	fs         vfs.FS
	dir, short string
}

func (s *shortNames) add(k shortKey, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[shortKey]string)
	}
	if _, ok := s.m[k]; !ok {
		if len(s.order) < maxShortNames {
			s.order = append(s.order, k)
		} else {
			delete(s.m, s.order[s.next])
			s.order[s.next] = k
			s.next = (s.next + 1) % maxShortNames
		}
	}
	s.m[k] = name
}

// get returns the name, "" if it is not known.
func (s *shortNames) get(k shortKey) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[k]
}
