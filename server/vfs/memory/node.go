package memory

import (
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// node is a file, directory or symbolic link.
type node struct {
	store  *store
	id     vfs.FileID
	typ    fs.FileMode // the type bits
	target string      // of a link
	data   *content    // of a file

	refs  atomic.Int64 // its names and open handles; the last gives its storage back
	nlink atomic.Int32 // its names; 1 for the root

	// Guarded by store.names.
	names []*dentry // where it is
	dir   dirNames  // of a directory

	mu sync.Mutex
	// The rest is guarded by mu.
	perm                         fs.FileMode
	uid, gid                     uint32
	birth, access, write, change time.Time
	attrs                        vfs.Attributes
	xattrs                       map[string][]byte
	record                       []byte
	streams                      map[string]*namedStream // by folded name
}

// newNode makes an object that has no name yet.
func (s *store) newNode(typ, perm fs.FileMode, owner ids) (*node, error) {
	if s.objects.Add(1) > s.cfg.MaxObjects+1 { // the root is not counted
		s.objects.Add(-1)
		return nil, fmt.Errorf("the share has %d objects: %w", s.cfg.MaxObjects, syscall.ENOSPC)
	}
	if err := s.budget.take(nodeCost); err != nil {
		s.objects.Add(-1)
		return nil, err
	}
	now := time.Now().Round(0)
	n := &node{
		store: s, id: vfs.FileID{Dev: s.dev, Ino: s.inos.Add(1)}, typ: typ, perm: perm & fs.ModePerm,
		uid: owner.uid, gid: owner.gid, birth: now, access: now, write: now, change: now,
	}
	n.refs.Store(1) // the caller's
	switch typ {
	case 0:
		n.data = s.newContent()
	case fs.ModeDir:
		n.dir.byKey = make(map[string]*dentry)
	}
	return n, nil
}

func (s *store) newContent() *content { return &content{id: s.inos.Add(1), budget: &s.budget} }

// hold takes a reference; somebody must have one, or the tree be locked.
func (n *node) hold() { n.refs.Add(1) }

// drop gives a reference up.
func (n *node) drop() {
	if n.refs.Add(-1) > 0 {
		return
	}
	if n.data != nil {
		n.data.free()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	cost := int64(nodeCost + len(n.target) + len(n.record))
	for name, value := range n.xattrs {
		cost += xattrBytes(name, value)
	}
	for _, st := range n.streams {
		cost += st.cost()
		st.data.free()
	}
	n.xattrs, n.streams, n.record = nil, nil, nil
	n.store.budget.give(cost)
	n.store.objects.Add(-1)
}

// info describes the object.
func (n *node) info() vfs.Info {
	i := vfs.Info{Mode: n.typ, ID: n.id, Nlink: uint32(n.nlink.Load())}
	switch {
	case n.data != nil:
		i.Size, i.Allocated = n.data.sizes()
	case n.typ == fs.ModeSymlink:
		i.Size = int64(len(n.target))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	i.Mode |= n.perm
	i.UID, i.GID = n.uid, n.gid
	i.BirthTime, i.AccessTime, i.WriteTime, i.ChangeTime = n.birth, n.access, n.write, n.change
	i.Attributes = n.attrs
	return i
}

// wrote notes a change of content.
func (n *node) wrote() {
	now := time.Now().Round(0)
	n.mu.Lock()
	n.write, n.change = now, now
	n.mu.Unlock()
}

// changed notes a change of metadata. n.mu is held.
func (n *node) changed() { n.change = time.Now().Round(0) }

// setAttr implements vfs.File's SetAttr.
func (n *node) setAttr(a vfs.SetAttr) error {
	for _, t := range []struct {
		bit  vfs.SetMask
		time time.Time
	}{{vfs.SetAccessTime, a.AccessTime}, {vfs.SetWriteTime, a.WriteTime}, {vfs.SetBirthTime, a.BirthTime}} {
		if a.Set&t.bit != 0 && t.time.IsZero() {
			return fmt.Errorf("a time to set is zero: %w", syscall.EINVAL)
		}
	}
	if a.Set == 0 {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if a.Set&vfs.SetOwner != 0 {
		n.uid, n.gid = a.UID, a.GID
	}
	if a.Set&vfs.SetMode != 0 {
		n.perm = a.Mode.Perm()
	}
	if a.Set&vfs.SetAttributes != 0 {
		n.attrs = n.attrs&^vfs.AttrMask | a.Attributes&vfs.AttrMask
	}
	flag := func(set vfs.SetMask, attr vfs.Attributes, on bool) {
		switch {
		case a.Set&set == 0:
		case on:
			n.attrs |= attr
		default:
			n.attrs &^= attr
		}
	}
	flag(vfs.SetSparse, vfs.AttrSparse, a.Sparse)
	flag(vfs.SetCompressed, vfs.AttrCompressed, a.Compressed)
	if a.Set&vfs.SetAccessTime != 0 {
		n.access = a.AccessTime.Round(0)
	}
	if a.Set&vfs.SetWriteTime != 0 {
		n.write = a.WriteTime.Round(0)
	}
	if a.Set&vfs.SetBirthTime != 0 {
		n.birth = a.BirthTime.Round(0)
	}
	n.changed()
	return nil
}

func xattrBytes(name string, value []byte) int64 { return int64(xattrCost + len(name) + len(value)) }

// maxValue is the largest extended attribute or security record, as in Linux.
const maxValue = 65536

func checkXattr(name string) error {
	switch {
	case name == "" || !validXattr(name):
		return syscall.EINVAL
	case len(name) > nameMax:
		return syscall.ENAMETOOLONG
	}
	return nil
}

func validXattr(name string) bool {
	return !slices.Contains([]byte(name), 0)
}

func (n *node) xattr(name string) ([]byte, error) {
	if err := checkXattr(name); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.xattrs[name]
	if !ok {
		return nil, syscall.ENODATA
	}
	return slices.Clone(v), nil
}

func (n *node) setXattr(name string, value []byte) error {
	if err := checkXattr(name); err != nil {
		return err
	}
	if len(value) > maxValue {
		return syscall.E2BIG
	}
	if n.typ == fs.ModeSymlink {
		return vfs.ErrNotSupported
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	cost := xattrBytes(name, value)
	if old, ok := n.xattrs[name]; ok {
		cost -= xattrBytes(name, old)
	}
	if err := n.store.budget.take(cost); err != nil {
		return err
	}
	if n.xattrs == nil {
		n.xattrs = make(map[string][]byte)
	}
	n.xattrs[name] = append([]byte{}, value...)
	n.changed()
	return nil
}

func (n *node) removeXattr(name string) error {
	if err := checkXattr(name); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	old, ok := n.xattrs[name]
	if !ok {
		return syscall.ENODATA
	}
	delete(n.xattrs, name)
	n.store.budget.give(xattrBytes(name, old))
	n.changed()
	return nil
}

func (n *node) listXattr() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for name := range n.xattrs {
		names = append(names, name)
	}
	return names
}

func (n *node) securityRecord() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.record == nil {
		return nil, syscall.ENODATA
	}
	return slices.Clone(n.record), nil
}

func (n *node) setSecurityRecord(record []byte) error {
	if len(record) > maxValue {
		return syscall.E2BIG
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.store.budget.take(int64(len(record) - len(n.record))); err != nil {
		return err
	}
	if n.record = nil; record != nil {
		n.record = append([]byte{}, record...)
	}
	n.changed()
	return nil
}
