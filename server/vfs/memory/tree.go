package memory

import (
	"io/fs"
	"slices"
	"sort"
	"strings"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// maxLinks is how many symbolic links one name may lead through.
const maxLinks = 40

// dentry is a name of an object in a directory. All is guarded by store.names.
type dentry struct {
	dir  *node
	name string
	node *node
	seq  int64   // its place in listings
	next *dentry // the next whose name differs by case only
}

// dirNames are the entries of a directory.
type dirNames struct {
	byKey map[string]*dentry // by folded name, the oldest first
	// list has them in the order in which they came, for cursors that stay good;
	// those that have gone are nil until there are too many of them.
	list []listed
	gone int
	last int64 // the last seq given out
}

type listed struct {
	seq int64
	*dentry
}

// lookup returns the entry of a directory, nil if there is none: the one spelled so,
// or else, unless exact is set, the oldest that differs by case only.
func (s *store) lookup(dir *node, name string, exact bool) *dentry {
	var space [nameMax + 1]byte
	first := dir.dir.byKey[string(vfs.AppendFold(space[:0], name))]
	for e := first; e != nil; e = e.next {
		if e.name == name {
			return e
		}
	}
	if exact {
		return nil
	}
	return first
}

// add makes a name of n; what it takes has been reserved.
func (s *store) add(dir *node, name string, n *node) *dentry {
	d := &dir.dir
	d.last++
	e := &dentry{dir: dir, name: name, node: n, seq: d.last}
	key := string(vfs.AppendFold(nil, name))
	if last := d.byKey[key]; last == nil {
		d.byKey[key] = e
	} else {
		for last.next != nil {
			last = last.next
		}
		last.next = e
	}
	d.list = append(d.list, listed{e.seq, e})
	n.names = append(n.names, e)
	n.nlink.Add(1)
	n.hold()
	dir.wrote()
	return e
}

// del removes a name, and with the last one the object once it is not open.
func (s *store) del(e *dentry) {
	d := &e.dir.dir
	key := string(vfs.AppendFold(nil, e.name))
	switch first := d.byKey[key]; {
	case first != e:
		for first.next != e {
			first = first.next
		}
		first.next = e.next
	case e.next != nil:
		d.byKey[key] = e.next
	default:
		delete(d.byKey, key)
	}
	d.list[d.after(e.seq-1)].dentry = nil
	if d.gone++; d.gone > 32 && d.gone > len(d.list)/2 {
		d.list = slices.DeleteFunc(d.list, func(l listed) bool { return l.dentry == nil })
		d.gone = 0
	}
	s.budget.give(int64(dentryCost + len(e.name)))
	n := e.node
	n.names = slices.DeleteFunc(n.names, func(o *dentry) bool { return o == e })
	n.nlink.Add(-1)
	e.dir.wrote()
	n.drop()
}

// after returns the place in the list of the first entry beyond seq.
func (d *dirNames) after(seq int64) int {
	return sort.Search(len(d.list), func(i int) bool { return d.list[i].seq > seq })
}

// walker resolves names. The tree is locked, at least for reading.
type walker struct {
	*FS
	links int
}

// step goes from the last directory of path to its entry comp, which is returned,
// and on through symbolic links; the last component's only with follow. exact says
// that case matters.
func (w *walker) step(path []*node, comp string, last, follow, exact bool) ([]*node, *dentry, error) {
	dir := path[len(path)-1]
	switch {
	case dir.typ != fs.ModeDir:
		return nil, nil, syscall.ENOTDIR
	case len(comp) > nameMax:
		return nil, nil, syscall.ENAMETOOLONG
	}
	e := w.lookup(dir, comp, exact || w.exact)
	if e == nil {
		return nil, nil, syscall.ENOENT
	}
	if e.node.typ != fs.ModeSymlink || last && !follow {
		return append(path, e.node), e, nil
	}
	if w.links++; w.links > maxLinks {
		return nil, nil, syscall.ELOOP
	}
	path, err := w.target(path, e.node.target)
	return path, e, err
}

// target follows a link that lies in the last directory of path. Its components
// have to be spelled as they are.
func (w *walker) target(path []*node, target string) ([]*node, error) {
	if strings.HasPrefix(target, "/") {
		return nil, vfs.ErrOutside
	}
	rest := target
	for rest != "" {
		var comp string
		var more bool
		comp, rest, more = strings.Cut(rest, "/")
		switch comp {
		case "", ".":
			continue
		case "..":
			if len(path) == 1 {
				return nil, vfs.ErrOutside
			}
			path = path[:len(path)-1]
			continue
		}
		var err error
		if path, _, err = w.step(path, comp, !more, true, true); err != nil {
			return nil, err
		}
		if more && path[len(path)-1].typ != fs.ModeDir {
			return nil, syscall.ENOTDIR
		}
	}
	return path, nil
}

// found is what a name means.
type found struct {
	node *node
	name string // in the spelling of its directories
	dir  *node  // the directory that it was found in; nil of the root
}

// resolve returns what a name means.
func (f *FS) resolve(name string, follow bool) (found, error) {
	if name == vfs.Root {
		return found{node: f.root, name: name}, nil
	}
	w := walker{FS: f}
	var space [16]*node
	path := append(space[:0], f.root)
	spelled := true // as in the directories so far
	start := 0
	var other []string
	for {
		comp, last := name[start:], true
		if i := strings.IndexByte(comp, '/'); i >= 0 {
			comp, last = comp[:i], false
		}
		var e *dentry
		var err error
		if path, e, err = w.step(path, comp, last, follow, false); err != nil {
			return found{}, err
		}
		if spelled && e.name != comp {
			spelled = false
			if start > 0 {
				other = append(other, name[:start-1])
			}
		}
		if !spelled {
			other = append(other, e.name)
		}
		if last {
			break
		}
		start += len(comp) + 1
	}
	if !spelled {
		name = strings.Join(other, "/")
	}
	got := found{node: path[len(path)-1], name: name}
	if len(path) > 1 {
		got.dir = path[len(path)-2]
	}
	return got, nil
}

// place is a last component in the directory that holds it.
type place struct {
	dir  *node
	last string
	e    *dentry // nil if there is none yet
	name string  // the whole name, as spelled
}

// locate finds the place of a name that is not the root.
func (f *FS) locate(name string) (place, error) {
	dirName, last := vfs.Split(name)
	dir, err := f.resolve(dirName, true)
	switch {
	case err != nil:
		return place{}, err
	case dir.node.typ != fs.ModeDir:
		return place{}, syscall.ENOTDIR
	case len(last) > nameMax:
		return place{}, syscall.ENAMETOOLONG
	}
	p := place{dir: dir.node, last: last, e: f.lookup(dir.node, last, f.exact)}
	if p.e != nil {
		last = p.e.name
	}
	p.name = vfs.Join(dir.name, last)
	return p, nil
}

// insert gives a new object its name. The tree is locked.
func (s *store) insert(p place, make func() (*node, error)) (*node, error) {
	if p.e != nil {
		return nil, syscall.EEXIST
	}
	if p.dir.nlink.Load() == 0 {
		return nil, syscall.ENOENT // removed, and reached by a handle
	}
	cost := int64(dentryCost + len(p.last))
	if err := s.budget.take(cost); err != nil {
		return nil, err
	}
	n, err := make()
	if err != nil {
		s.budget.give(cost)
		return nil, err
	}
	e := s.add(p.dir, p.last, n)
	s.notifyName(vfs.Added, e)
	return n, nil
}

// beneath reports whether n is dir or somewhere beneath it.
func beneath(n, dir *node) bool {
	for n != dir {
		if len(n.names) == 0 {
			return false // the root, or removed
		}
		n = n.names[0].dir
	}
	return true
}

// realName returns the name of n beneath the root: of a file with several the one in dir,
// if there is one, spelled last, if there is one of those. False if it has none any more.
// The tree is locked.
func (s *store) realName(n, dir *node, last string) (string, bool) {
	var comps []string
	for n != s.root {
		if len(n.names) == 0 {
			return "", false
		}
		e := n.names[0]
		for _, o := range n.names {
			if o.dir == dir && (e.dir != dir || o.name == last) {
				e = o
			}
		}
		comps = append(comps, e.name)
		n, dir = e.dir, nil
	}
	if len(comps) == 0 {
		return vfs.Root, true
	}
	slices.Reverse(comps)
	return strings.Join(comps, "/"), true
}
