package memory

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// watch is one vfs.Watch. Whoever changes something tells it.
type watch struct {
	*vfs.EventQueue
	store   *store
	dir     *node
	options vfs.WatchOptions
}

// Watch implements vfs.Watcher.
func (f *FS) Watch(ctx context.Context, dir string, o vfs.WatchOptions) (vfs.Watch, error) {
	if err := f.begin(ctx, "watch", dir); err != nil {
		return nil, err
	}
	queue, o, err := vfs.NewEventQueue(o)
	if err != nil {
		return nil, pathError("watch", dir, err)
	}
	f.names.Lock()
	defer f.names.Unlock()
	got, err := f.resolve(dir, true)
	switch {
	case err != nil:
	case got.node.typ != fs.ModeDir:
		err = syscall.ENOTDIR
	case f.closed.Load():
		err = fs.ErrClosed
	}
	if err != nil {
		return nil, pathError("watch", dir, err)
	}
	w := &watch{EventQueue: queue, store: f.store, dir: got.node, options: o}
	f.watches[w] = struct{}{}
	f.watching.Add(1)
	return w, nil
}

// Close implements vfs.Watch.
func (w *watch) Close() error {
	w.End(fs.ErrClosed)
	w.store.names.Lock()
	defer w.store.names.Unlock()
	w.store.drop(w)
	return nil
}

// drop forgets a watch. The tree is locked.
func (s *store) drop(w *watch) {
	if _, ok := s.watches[w]; ok {
		delete(s.watches, w)
		s.watching.Add(-1)
	}
}

// endWatches ends those of a directory that has gone. The tree is locked.
func (s *store) endWatches(n *node) {
	for w := range s.watches {
		if w.dir == n {
			w.End(&fs.PathError{Op: "watch", Path: vfs.Root, Err: syscall.ENOENT})
			s.drop(w)
		}
	}
}

// rel returns an entry's name as the watch sees it. The tree is locked.
func (w *watch) rel(e *dentry) (string, bool) {
	if e.dir == w.dir {
		return e.name, true
	}
	if !w.options.Recursive {
		return "", false
	}
	names := []string{e.name}
	for dir := e.dir; dir != w.dir; dir = dir.names[0].dir {
		if len(dir.names) == 0 {
			return "", false
		}
		names = append(names, dir.names[0].name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/"), true
}

// views returns an entry's name in every watch that sees it. The tree is locked.
func (s *store) views(e *dentry) map[*watch]string {
	if s.watching.Load() == 0 {
		return nil
	}
	views := make(map[*watch]string)
	for w := range s.watches {
		if name, ok := w.rel(e); ok {
			views[w] = name
		}
	}
	return views
}

func nameChange(n *node) vfs.Changes {
	if n.typ == fs.ModeDir {
		return vfs.ChangeDirName
	}
	return vfs.ChangeFileName
}

func (w *watch) report(a vfs.EventAction, change vfs.Changes, name string) {
	if w.options.Changes&change != 0 {
		w.Push(vfs.Event{Action: a, Change: change, Name: name})
	}
}

// notifyName tells of a name that came or is about to go. The tree is locked.
func (s *store) notifyName(a vfs.EventAction, e *dentry) {
	for w, name := range s.views(e) {
		w.report(a, nameChange(e.node), name)
	}
}

// notifyMove tells of an entry that has become another, which before tells the
// old names of. The tree is locked.
func (s *store) notifyMove(before map[*watch]string, e *dentry) {
	change := nameChange(e.node)
	after := s.views(e)
	for w, oldName := range before {
		newName, inside := after[w]
		switch {
		case !inside:
			w.report(vfs.Removed, change, oldName)
		case w.options.Changes&change != 0:
			w.Push(vfs.Event{Action: vfs.RenamedOld, Change: change, Name: oldName},
				vfs.Event{Action: vfs.RenamedNew, Change: change, Name: newName})
		}
	}
	for w, newName := range after {
		if _, inside := before[w]; !inside {
			w.report(vfs.Added, change, newName)
		}
	}
}

// modified tells of a change to an object. The tree is not locked.
func (n *node) modified(change vfs.Changes) {
	s := n.store
	if s.watching.Load() == 0 {
		return
	}
	s.names.RLock()
	defer s.names.RUnlock()
	for _, e := range n.names {
		for w, name := range s.views(e) {
			w.report(vfs.Modified, change, name)
		}
	}
}
