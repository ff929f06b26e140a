package fuse

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// inode is a file or directory that the kernel knows. It lives while the kernel has
// looked it up more often than it has forgotten it, or somebody has it open.
type inode struct {
	id   uint64 // the kernel's number, never used twice
	ino  uint64 // the number that stat shows
	key  fileKey
	kind uint32 // S_IFMT bits

	// The names by which the file is known here, the newest last; none for one that
	// was deleted, and for the root. guarded by table.mu
	links   []link
	lookups uint64 // guarded by table.mu

	mu      sync.Mutex
	opens   []*handle      // guarded by mu
	nlink   uint32         // as the server last said it, 0 if it has not. guarded by mu
	rdev    uint32         // of a device. guarded by mu
	target  string         // of a symbolic link, "" until it was read. guarded by mu
	doomed  []*client.File // opens that delete it when they are closed. guarded by mu
	pending int            // how many names the server takes away when it is closed. guarded by mu
	burying int            // how many names go with opens that are being closed. guarded by mu

	// wrote is when somebody here last wrote to it, or changed names in it, in Unix
	// nanoseconds, and 0 if times were set since: servers show that of a file that is open
	// late, and no more of a directory that was removed.
	wrote atomic.Int64

	// mode has the permission bits of a file that has lost its name, and modeSet, if they
	// were changed since.
	mode atomic.Uint32

	// times are those of access and modification that were set on a file that has lost
	// its name, by who has it open for reading, or on a directory that was removed.
	times atomic.Pointer[[2]time.Time]
	// gone is what a directory last was, for who is in it when it is removed.
	gone atomic.Pointer[client.FileInfo]

	appending turn // held over an append: the end must not move under it

	limbo     limbo // what was given up and may still change it
	cache     cache
	changedAt atomic.Int64 // when it was last changed here, in Unix nanoseconds

	lockOpen turn // held while lockFile is opened
	lockFile atomic.Pointer[lockFile]
	locks    lockTable // of fcntl(2)
	flocks   lockTable // of flock(2)
}

// link is a name in a directory, as the server spells it.
type link struct {
	parent *inode
	name   string
}

// fileKey tells files apart: the server's number, and the time of birth because
// numbers are used again.
type fileKey struct {
	file uint64
	born int64 // in Unix nanoseconds, as far as those go
	kind uint32
}

// maxLinks bounds the names that are remembered of one file.
const maxLinks = 16

// maxLinked bounds the files that are remembered for having several names.
const maxLinked = 1 << 16

// table has the inodes.
type table struct {
	mu     sync.Mutex
	byID   map[uint64]*inode  // guarded by mu
	byKey  map[fileKey]*inode // guarded by mu
	byLink map[link]*inode    // guarded by mu
	last   uint64             // guarded by mu
	forgot int64              // changedAt of the last changed inode that was forgotten. guarded by mu
	linked map[fileKey]bool   // that were forgotten with several names: listings need not tell how many. guarded by mu
	own    bool               // numbers are ours, not the server's
	root   *inode
	top    string // the path of root on the share
}

const rootID = 1

func newTable(top string, own bool) *table {
	root := &inode{id: rootID, ino: rootID, kind: syscall.S_IFDIR, lookups: 1}
	return &table{
		byID: map[uint64]*inode{rootID: root}, byKey: map[fileKey]*inode{}, byLink: map[link]*inode{},
		linked: map[fileKey]bool{}, last: rootID, own: own, root: root, top: top,
	}
}

// get finds the inode of a request. The kernel names only those that it has.
func (t *table) get(id uint64) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// key is by what a file is known again.
func (t *table) key(fi *client.FileInfo) fileKey {
	k := fileKey{fi.FileID(), fi.BirthTime().UnixNano(), kindOf(fi)}
	if t.own {
		k.file = 0
	}
	return k
}

// found returns the inode of what is at a name, which counts as looked up once.
func (t *table) found(parent *inode, name string, fi *client.FileInfo) *inode {
	l, key := link{parent, name}, t.key(fi)
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byKey[key]
	if key.file == 0 {
		n = t.byLink[l]
		if n != nil && n.key != key {
			n = nil
		}
	}
	if n == nil {
		t.last++
		n = &inode{id: t.last, ino: t.last, key: key, kind: key.kind}
		if key.file != 0 {
			n.ino = key.file
			t.byKey[key] = n
		}
		// It may be one that was changed and then forgotten: what was listed before that is
		// no more believed of it than if it were not known.
		n.changedAt.Store(t.forgot)
		t.byID[n.id] = n
	}
	n.lookups++
	t.name(n, l)
	return n
}

// name makes l the newest name of n, and nobody else's. Called with t.mu held.
func (t *table) name(n *inode, l link) {
	if last := len(n.links) - 1; last >= 0 && n.links[last] == l {
		return
	}
	t.unname(l)
	for _, old := range slices.Clone(n.links) {
		if !t.live(old.parent) { // l may be the same one, in the same directory
			t.unname(old)
		}
	}
	if len(n.links) == maxLinks {
		t.unname(n.links[0])
	}
	t.byLink[l] = n
	if isDoomed(l.name) { // any other name is better
		n.links = slices.Insert(n.links, 0, l)
		return
	}
	n.links = append(n.links, l)
}

// live says whether the kernel knows a directory. One that it has forgotten is another inode
// when it is found again, and what becomes of names in it then is not noted of those that
// were known before. Called with t.mu held.
func (t *table) live(dir *inode) bool { return dir == t.root || dir.lookups > 0 }

// newestLink is the newest name of an inode in a directory that the kernel knows, else the newest.
// Called with t.mu held.
func (t *table) newestLink(n *inode) (l link, ok bool) {
	for _, l := range slices.Backward(n.links) {
		if t.live(l.parent) {
			return l, true
		}
	}
	if len(n.links) == 0 {
		return link{}, false
	}
	return n.links[len(n.links)-1], true
}

// buried notes that the names which stand for deleted ones are gone, too.
func (t *table) buried(n *inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range slices.Clone(n.links) {
		if isDoomed(l.name) {
			t.unname(l)
		}
	}
}

// unname takes a name away from whoever has it. Called with t.mu held.
func (t *table) unname(l link) {
	n := t.byLink[l]
	if n == nil {
		return
	}
	delete(t.byLink, l)
	if i := slices.Index(n.links, l); i >= 0 {
		n.links = slices.Delete(n.links, i, i+1)
	}
}

// at is the inode at a name, if that is known.
func (t *table) at(parent *inode, name string) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byLink[link{parent, name}]
}

// removed notes that a name is no more.
func (t *table) removed(parent *inode, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unname(link{parent, name})
}

// nameless says whether an inode has lost every name that was known of it.
func (t *table) nameless(n *inode) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(n.links) == 0
}

// moved notes that what had one name has another in its place, and returns what it is,
// nil if that is not known.
func (t *table) moved(from, to link) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byLink[from]
	t.unname(from)
	t.unname(to)
	if n != nil {
		t.name(n, to)
	}
	return n
}

// outdated says whether a listing that was begun at a time may be wrong about what it has
// at a name: that was changed here since, the listing does not tell all about it, or a
// directory elsewhere has another name of it, whose going shows nowhere in this one.
func (t *table) outdated(l link, fi *client.FileInfo, at time.Time) bool {
	if fi.Links() > 1 && fi.Attributes()&client.AttrDirectory == 0 {
		return true
	}
	key := t.key(fi)
	t.mu.Lock()
	n, changed, linked := t.byKey[key], t.forgot, t.linked[key]
	if key.file == 0 {
		n = t.byLink[l]
	}
	t.mu.Unlock()
	if n == nil { // it may be one that was changed and then forgotten
		return linked || changed >= at.UnixNano()
	}
	return n.changedAt.Load() >= at.UnixNano() || n.unlistable()
}

// unlistable says whether listings do not tell what the file is: what is written shows in
// them when it is closed, and how many names there are not at all.
func (n *inode) unlistable() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kind == syscall.S_IFREG && (len(n.opens) > 0 || n.nlink > 1)
}

// severalNames says whether it is a file that was last said to have several.
func (n *inode) severalNames() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kind == syscall.S_IFREG && n.nlink > 1
}

// newest is the newest name of an inode.
func (t *table) newest(n *inode) (dir *inode, name string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.newestLink(n)
	return l.parent, l.name, ok
}

// named is false of what has been deleted.
func (t *table) named(n *inode) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n == t.root || len(n.links) > 0
}

// names are all names that are known of an inode.
func (t *table) names(n *inode) []link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(n.links)
}

// forget takes back n lookups.
func (t *table) forget(id, n uint64) {
	node := t.get(id)
	if node == nil || id == rootID {
		return
	}
	linked := node.severalNames()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[id] != node {
		return
	}
	if node.lookups > n {
		node.lookups -= n
		return
	}
	node.lookups = 0
	t.forgot = max(t.forgot, node.changedAt.Load())
	delete(t.byID, id)
	if t.byKey[node.key] == node {
		delete(t.byKey, node.key)
		switch {
		case !linked:
			delete(t.linked, node.key)
		case len(t.linked) < maxLinked:
			t.linked[node.key] = true
		}
	}
	for _, l := range node.links {
		delete(t.byLink, l)
	}
	// The links themselves stay: who still holds the inode, or one in it, can ask for
	// its path.
}

// hold has an inode be there until it is forgotten once more, unless the kernel has forgotten it.
func (t *table) hold(n *inode) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[n.id] != n || n.lookups == 0 {
		return false
	}
	n.lookups++
	return true
}

// maxDepth bounds paths: a deeper one is longer than any server takes.
const maxDepth = 32768

// path is the newest name of an inode, relative to the share; ok is false for one
// that has been deleted.
func (t *table) path(n *inode) (p string, ok bool) {
	p, _, ok = t.newestPath(n)
	return p, ok
}

// newestPath is path, and the name at its end.
func (t *table) newestPath(n *inode) (p string, at link, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for n != t.root {
		l, ok := t.newestLink(n)
		if !ok || len(parts) > maxDepth {
			return "", link{}, false
		}
		if parts = append(parts, l.name); len(parts) == 1 {
			at = l
		}
		n = l.parent
	}
	if t.top != "" {
		parts = append(parts, t.top)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/"), at, true
}

// in is the path of a name in a directory.
func (t *table) in(dir *inode, name string) (string, bool) {
	p, ok := t.path(dir)
	if p == "" {
		return name, ok
	}
	return p + "/" + name, ok
}
