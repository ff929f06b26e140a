package main

import (
	"math/rand/v2"
	"path"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// generator makes calls. It learns from what came of them which names there are, so
// that most calls find something; the same seed on the same local file system makes the
// same calls.
type generator struct {
	*rand.Rand
	on      chosen
	names   []string // of which paths are made
	kinds   []string // calls, each as often as it weighs
	actor   int      // who makes the next one
	open    [actors][slots]bool
	mapped  [actors][slots]bool
	openAt  [actors][slots]string // by which name it was opened
	exists  map[string]kind
	ordered []string // of exists, so that choices depend on the seed alone
}

type kind int

const (
	aFile kind = iota
	aDirectory
	aLink
	anything
)

const (
	maxDepth = 5
	crowded  = 200 // names; when there are more, trees are removed
)

func newGenerator(seed uint64, on chosen) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x5eed)), on: on, exists: map[string]kind{}}
	var all []string
	for name := range calls {
		all = append(all, name)
	}
	sort.Strings(all)
	for _, name := range all {
		c := calls[name]
		if c.needs != "" && !on[c.needs] {
			continue
		}
		for range c.weight {
			g.kinds = append(g.kinds, name)
		}
	}
	g.names = strings.Fields("a b c d e f.txt g.tar.gz data Makefile .hidden ~tmp$ x y z d1 d2 d3 d4")
	g.names = append(g.names, "two words", "naïve", "日本語", "🙂", "NUL", "con.txt", "a'b", "%41", "@GMT-2000.01.01-00.00.00x",
		strings.Repeat("l", 255), strings.Repeat("é", 127), strings.Repeat("語", 85))
	if on["case"] {
		g.names = append(g.names, "A", "B", "DATA", "makefile")
	}
	if on["reserved"] {
		g.names = append(g.names, "a:b", "what?", "star*", `"quoted"`, "<in>", "pipe|", `back\slash`, "dot.", "space ", "dots...", " lead",
			"tab\there", "bell\a", "\x01", "new\nline", "del\x7f", ":", "*")
	}
	if on["non-utf8"] {
		g.names = append(g.names, "latin-\xe9", "\xff\xfe", "half-\xe6\x97")
	}
	return g
}

// next is a call that has not been made yet.
func (g *generator) next() op {
	o := g.any()
	if !g.on["busy"] {
		if c, ok := g.unbusy(o); ok {
			return c
		}
	}
	return o
}

// unbusy is a call that closes what is open beneath a directory that o would move or
// remove, in place of o. As what is open may have come there since, or have another name
// there, that is everything.
func (g *generator) unbusy(o op) (op, bool) {
	switch o.Call {
	case "rename", "rmdir", "wipe":
	default:
		return op{}, false
	}
	for a := range g.openAt {
		for s, p := range g.openAt[a] {
			for _, dir := range []string{o.Path, o.Path2} {
				// Samba takes names that differ in case alone for one here, whatever its share is.
				if p != "" && dir != "" && (beneath(strings.ToLower(p), strings.ToLower(path.Clean(dir))) || g.exists[path.Clean(dir)] == aDirectory) {
					return op{Call: "close", Actor: a, Slot: s}, true
				}
			}
		}
	}
	return op{}, false
}

func beneath(p, dir string) bool { return dir == "." || strings.HasPrefix(p, dir+"/") }

func (g *generator) any() op {
	if len(g.ordered) > crowded {
		return op{Call: "wipe", Actor: g.IntN(actors), Path: g.ordered[g.IntN(len(g.ordered))]}
	}
	g.actor = g.IntN(actors)
	o := op{Call: g.kinds[g.IntN(len(g.kinds))], Actor: g.actor, Slot: g.slot()}
	if c := calls[o.Call]; c.gen != nil {
		c.gen(g, &o)
	}
	if g.on["posix-modes"] && (strings.HasSuffix(o.Call, "stat") || o.Call == "temporary") {
		o.Mode = allBits
	}
	return o
}

// slot is one that data go through, mostly one that is open; the last four are for locks.
func (g *generator) slot() int {
	s := g.IntN(slots - 4)
	for range 6 {
		if g.open[g.actor][s] {
			break
		}
		s = g.IntN(slots - 4)
	}
	return s
}

func (g *generator) mappedSlot() int {
	for s, m := range g.mapped[g.actor] {
		if m && g.IntN(3) > 0 {
			return s
		}
	}
	return g.slot()
}

func (g *generator) flockSlot() int { return slots - 4 + g.IntN(2) }
func (g *generator) lockSlot() int  { return slots - 2 + g.IntN(2) }

func (g *generator) name() string {
	if g.IntN(3) > 0 {
		return g.names[g.IntN(18)] // the plain ones meet more often
	}
	return g.names[g.IntN(len(g.names))]
}

// path is mostly one that is there, else a new one in a directory that is there, and
// sometimes one that can't be.
func (g *generator) path(want kind) string {
	switch g.IntN(40) {
	case 0:
		return g.odd()
	case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12:
		return g.fresh()
	}
	if p, ok := g.existing(want); ok {
		return p
	}
	return g.fresh()
}

// favourite is one of the few names that calls of which several have to meet on one
// object come back to.
func (g *generator) favourite() string {
	if n := min(4, len(g.ordered)); n > 0 && g.IntN(10) > 0 {
		return g.ordered[g.IntN(n)]
	}
	return g.path(anything)
}

func (g *generator) existing(want kind) (string, bool) {
	for range 8 {
		if len(g.ordered) == 0 {
			break
		}
		p := g.ordered[g.IntN(len(g.ordered))]
		if want == anything || g.exists[p] == want {
			return p, true
		}
	}
	if want == aDirectory {
		return ".", true
	}
	return "", false
}

func (g *generator) fresh() string {
	if dir, ok := g.existing(aDirectory); ok && dir != "." && g.IntN(3) > 0 && strings.Count(dir, "/") < maxDepth {
		return dir + "/" + g.name()
	}
	return g.name()
}

func (g *generator) odd() string {
	p, ok := g.existing(anything)
	if !ok {
		p = g.name()
	}
	switch g.IntN(9) {
	case 0:
		return p + "/"
	case 1:
		return p + "/."
	case 2:
		return p + "//" + g.name()
	case 3:
		return p + "/nowhere/" + g.name()
	case 4:
		return strings.Repeat("n", 256)
	case 5:
		return strings.Repeat("語", 86) // 258 bytes
	case 6:
		return strings.Repeat("deep/", 900) + "er" // longer than a path may be
	case 7:
		if i := strings.IndexByte(p, '/'); i > 0 {
			return p[:i] + "/../" + p
		}
		return "./" + p
	}
	return ""
}

func (g *generator) attribute() string {
	return "user." + []string{"a", "b", "comment", "mime_type", "x.y"}[g.IntN(5)]
}

// offset is in a file that may be read whole.
func (g *generator) offset() int64 {
	switch g.IntN(10) {
	case 0:
		return 0
	case 1:
		return int64(g.IntN(64)) * 4096
	case 2:
		return int64(g.IntN(64))*4096 + int64(g.IntN(3)) - min(1, int64(g.IntN(2)))
	case 3:
		return int64(g.IntN(3 << 20))
	case 4, 5:
		return int64(g.IntN(300_000))
	}
	return int64(g.IntN(20_000))
}

func (g *generator) size() int64 {
	switch g.IntN(12) {
	case 0:
		return 0
	case 1:
		return int64(1+g.IntN(32)) * 4096
	case 2:
		return int64(g.IntN(300_000))
	case 3, 4, 5:
		return int64(g.IntN(20_000))
	}
	return int64(g.IntN(2000))
}

// oldTime is in nanoseconds, of SMB's 100, between 1990 and 2010.
func (g *generator) oldTime() int64 {
	from := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	return from + g.Int64N(int64(20*365*24*time.Hour))/100*100
}

// learn takes note of what a call did to the names.
func (g *generator) learn(o op, r result) {
	if r.Errno != 0 {
		return
	}
	switch o.Call {
	case "open":
		g.open[o.Actor][o.Slot], g.mapped[o.Actor][o.Slot] = true, false
		g.openAt[o.Actor][o.Slot] = path.Clean(o.Path)
	case "close":
		g.open[o.Actor][o.Slot], g.mapped[o.Actor][o.Slot] = false, false
		g.openAt[o.Actor][o.Slot] = ""
	case "mmap":
		g.mapped[o.Actor][o.Slot] = true
	case "munmap":
		g.mapped[o.Actor][o.Slot] = false
	}
	switch o.Call {
	case "rename":
		g.follow(path.Clean(o.Path), path.Clean(o.Path2))
	case "save":
		g.follow(path.Clean(o.Path2), path.Clean(o.Path))
	case "unlink", "rmdir", "wipe":
		g.lose(path.Clean(o.Path), path.Dir(path.Clean(o.Path)))
	case "empty":
		g.lose(path.Clean(o.Path), path.Clean(o.Path))
	}
	p := strings.TrimSuffix(o.Path, "/")
	if strings.Contains(p, "/../") || strings.Contains(p, "//") || strings.HasPrefix(p, "./") || strings.HasSuffix(p, "/.") {
		return
	}
	switch o.Call {
	case "open":
		if o.Flags&unix.O_CREAT != 0 {
			g.add(p, aFile)
		}
	case "order":
		g.add(p, aFile)
		g.add(o.Path2, aFile)
	case "mkdir":
		g.add(p, aDirectory)
	case "symlink":
		g.add(p, aLink)
	case "link":
		if k, ok := g.exists[p]; ok {
			g.add(o.Path2, k)
		}
	case "unlink", "rmdir":
		g.remove(p)
	case "rename":
		if p != o.Path2 {
			g.move(p, strings.TrimSuffix(o.Path2, "/"))
		}
	case "save":
		g.move(o.Path2, p)
		g.add(p, aFile)
	case "wipe":
		for _, q := range append([]string(nil), g.ordered...) {
			if q == p || strings.HasPrefix(q, p+"/") {
				g.remove(q)
			}
		}
	case "empty":
		for _, q := range append([]string(nil), g.ordered...) {
			if strings.HasPrefix(q, p+"/") && !strings.Contains(q[len(p)+1:], "/") && g.exists[q] != aDirectory {
				g.remove(q)
			}
		}
	}
}

// nameless is what is open without a name, and still in a directory: SMB has it there
// until it is closed.
const nameless = "\x00"

// lose notes that what is at p, or beneath it, has no name any more, and is in dir.
func (g *generator) lose(p, dir string) {
	for a := range g.openAt {
		for s, q := range g.openAt[a] {
			if q == p || beneath(q, p) {
				g.openAt[a][s] = path.Join(dir, nameless)
			}
		}
	}
}

// follow notes where what is open is now, and that what was replaced has no name.
func (g *generator) follow(from, to string) {
	if from != to {
		g.lose(to, path.Dir(to))
	}
	for a := range g.openAt {
		for s, p := range g.openAt[a] {
			if p == from {
				g.openAt[a][s] = to
			} else if rest, ok := strings.CutPrefix(p, from+"/"); ok {
				g.openAt[a][s] = to + "/" + rest
			}
		}
	}
}

func (g *generator) add(p string, k kind) {
	if _, ok := g.exists[p]; ok {
		return
	}
	g.exists[p] = k
	g.ordered = append(g.ordered, p)
}

func (g *generator) remove(p string) {
	delete(g.exists, p)
	for i, q := range g.ordered {
		if q == p {
			g.ordered = append(g.ordered[:i], g.ordered[i+1:]...)
			return
		}
	}
}

func (g *generator) move(from, to string) {
	k, ok := g.exists[from]
	if !ok {
		return
	}
	g.remove(to)
	g.remove(from)
	g.add(to, k)
	if k != aDirectory {
		return
	}
	for _, q := range append([]string(nil), g.ordered...) {
		if rest, ok := strings.CutPrefix(q, from+"/"); ok {
			k := g.exists[q]
			g.remove(q)
			g.add(to+"/"+rest, k)
		}
	}
}
