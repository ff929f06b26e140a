//go:build linux

package posix

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

const (
	// renameWait is how long the second half of a rename may take to follow the
	// first before the name counts as gone. The kernel queues both in one go, so
	// they are at most a read apart.
	renameWait = 20 * time.Millisecond
	// renameAhead bounds how many events are held back meanwhile.
	renameAhead = 512
)

// inotify is one inotify(7) instance and its reader. All but file, done and handling is
// guarded by watcher.mu, which nobody holds while directories are read (watchscan.go):
// only from asking the kernel to watch one until its node is there.
type inotify struct {
	owner *watcher
	file  *os.File      // non-blocking, so that Close ends a Read
	done  chan struct{} // closed by the reader when it returns

	watches map[*watch]struct{}
	nodes   map[int32]*node
	moves   uint64 // how many directories have been renamed

	// handling is held by the reader while it passes events on, and by a new watch
	// that has to keep it from that. It is taken before watcher.mu.
	handling sync.Mutex
}

// node is a directory being watched.
type node struct {
	wd int32
	// refs has the directory's name relative to each watch that includes it, which has
	// the node among its own.
	refs map[*watch]string
}

// newInotify starts the reader goroutine; stop ends it and waits.
func newInotify(owner *watcher) (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	in := &inotify{
		owner:   owner,
		file:    os.NewFile(uintptr(fd), "inotify"),
		done:    make(chan struct{}),
		watches: make(map[*watch]struct{}),
		nodes:   make(map[int32]*node),
	}
	go in.read()
	return in, nil
}

// stop may be called on nil. watcher.mu must not be held: the reader takes it.
func (in *inotify) stop() {
	if in == nil {
		return
	}
	in.file.Close()
	<-in.done
}

// fd runs do with the instance's descriptor.
func (in *inotify) fd(do func(fd int) (int, error)) (n int, err error) {
	rc, err := in.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := rc.Control(func(fd uintptr) {
		n, err = retry(func() (int, error) { return do(int(fd)) })
	})
	if cerr != nil {
		return 0, fs.ErrClosed
	}
	return n, err
}

// mask is what the kernel is asked for. Names are needed in any case, to follow
// the directories of a recursive watch.
func (w *watch) mask() uint32 {
	m := uint32(unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
		unix.IN_DELETE_SELF | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK | unix.IN_MASK_ADD)
	if w.options.Changes&vfs.ChangeData != 0 {
		m |= unix.IN_MODIFY
	}
	if w.options.Changes&vfs.ChangeMetadata != 0 {
		m |= unix.IN_ATTRIB
	}
	return m
}

// drop ends the part of n in w.
func (in *inotify) drop(n *node, w *watch) {
	delete(n.refs, w)
	delete(w.nodes, n)
	if len(n.refs) == 0 {
		delete(in.nodes, n.wd)
		in.forget(n.wd)
	}
}

// forget tells the kernel; it may know already, if the directory is gone.
func (in *inotify) forget(wd int32) {
	_, _ = in.fd(func(fd int) (int, error) { return unix.InotifyRmWatch(fd, uint32(wd)) })
}

// notice is one inotify_event.
type notice struct {
	wd     int32
	mask   uint32
	cookie uint32
	name   string
}

// read is the reader goroutine. stop ends it by closing the file.
func (in *inotify) read() {
	defer close(in.done)
	buf := make([]byte, 64<<10)
	var held []notice // begins with half a rename, or is empty
	for {
		var deadline time.Time
		if len(held) > 0 {
			deadline = time.Now().Add(renameWait)
		}
		_ = in.file.SetReadDeadline(deadline)
		n, err := in.file.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			held = in.dispatch(held, true)
			continue
		case err != nil:
			in.fail(err)
			return
		}
		held = appendNotices(held, buf[:n])
		held = in.dispatch(held, len(held) > renameAhead)
	}
}

// fail ends all watches when the instance can no longer be read.
func (in *inotify) fail(err error) {
	in.owner.mu.Lock()
	defer in.owner.mu.Unlock()
	for w := range in.watches {
		w.End(err)
	}
}

// appendNotices parses what a read returned.
func appendNotices(list []notice, b []byte) []notice {
	for len(b) >= unix.SizeofInotifyEvent {
		n, name, rest := nextNotice(b)
		if rest == nil {
			return list
		}
		n.name = string(name)
		list, b = append(list, n), rest
	}
	return list
}

// dispatch passes notices on in their order and returns those that have to wait
// for the other half of a rename; with flush, none wait.
func (in *inotify) dispatch(list []notice, flush bool) []notice {
	in.handling.Lock()
	defer in.handling.Unlock()
	in.owner.mu.Lock()
	defer in.owner.mu.Unlock()
	for i := range list {
		n := &list[i]
		if n.mask&unix.IN_MOVED_FROM == 0 {
			in.handle(n)
			continue
		}
		other := -1
		for j := i + 1; j < len(list); j++ {
			if list[j].mask&unix.IN_MOVED_TO != 0 && list[j].cookie == n.cookie {
				other = j
				break
			}
		}
		switch {
		case other >= 0:
			to := list[other]
			list[other].mask = 0 // handled here
			in.moved(n, &to)
		case flush:
			in.moved(n, nil)
		default:
			return append(list[:0], list[i:]...)
		}
	}
	return list[:0]
}

// handle passes on what is not the first half of a rename.
func (in *inotify) handle(n *notice) {
	if n.mask&unix.IN_Q_OVERFLOW != 0 {
		for w := range in.watches {
			in.refresh(w)
			w.Lose()
		}
		return
	}
	node := in.nodes[n.wd]
	if node == nil {
		return
	}
	isDir := n.mask&unix.IN_ISDIR != 0
	switch {
	case n.mask&(unix.IN_IGNORED|unix.IN_DELETE_SELF|unix.IN_UNMOUNT) != 0:
		for w, rel := range node.refs {
			if rel == "" {
				w.End(&fs.PathError{Op: "watch", Path: vfs.Root, Err: syscall.ENOENT})
			}
		}
		if n.mask&unix.IN_IGNORED != 0 {
			for w := range node.refs {
				delete(w.nodes, node)
			}
			delete(in.nodes, n.wd)
		}
	case !vfs.ValidComponent(n.name):
		// About the directory itself, whose parent says it too, or unspeakable.
	case n.mask&unix.IN_MOVED_TO != 0:
		in.moved(nil, n)
	case n.mask&unix.IN_CREATE != 0:
		for w, rel := range node.refs {
			in.appeared(w, joinRel(rel, n.name), isDir, true)
		}
	case n.mask&unix.IN_DELETE != 0:
		for w, rel := range node.refs {
			w.report(vfs.Removed, joinRel(rel, n.name), isDir)
		}
	case n.mask&unix.IN_MODIFY != 0:
		for w, rel := range node.refs {
			w.modified(vfs.ChangeData, joinRel(rel, n.name))
		}
	case n.mask&unix.IN_ATTRIB != 0:
		for w, rel := range node.refs {
			w.modified(vfs.ChangeMetadata, joinRel(rel, n.name))
		}
	}
}

func (w *watch) report(a vfs.EventAction, name string, isDir bool) {
	change := nameChange(isDir)
	if w.options.Changes&change != 0 {
		w.Push(vfs.Event{Action: a, Change: change, Name: name})
	}
}

func (w *watch) modified(change vfs.Changes, name string) {
	if w.options.Changes&change != 0 {
		w.Push(vfs.Event{Action: vfs.Modified, Change: change, Name: name})
	}
}

func nameChange(isDir bool) vfs.Changes {
	if isDir {
		return vfs.ChangeDirName
	}
	return vfs.ChangeFileName
}

// below is a name found in a directory that a watch has just come to.
type below struct {
	rel   string
	isDir bool
}

// appeared reports a new name and extends a recursive watch to what is beneath
// it, in the opposite order: who acts upon the report is already watched. What
// was made there before that is reported if it is new.
func (in *inotify) appeared(w *watch, rel string, isDir, isNew bool) {
	var found []below
	if isDir && w.options.Recursive {
		found = in.extend(w, rel, isNew)
	}
	w.report(vfs.Added, rel, isDir)
	w.reportAll(found)
}

func (w *watch) reportAll(found []below) {
	for _, b := range found {
		w.report(vfs.Added, b.rel, b.isDir)
	}
}

// moved reports a rename, or that half of it which is watched; from or to may
// be nil.
func (in *inotify) moved(from, to *notice) {
	if from != nil && from.mask&unix.IN_ISDIR != 0 || to != nil && to.mask&unix.IN_ISDIR != 0 {
		in.moves++
	}
	fromRefs, toRefs := in.refsOf(from), in.refsOf(to)
	for w, oldDir := range fromRefs {
		isDir := from.mask&unix.IN_ISDIR != 0
		oldName := joinRel(oldDir, from.name)
		newDir, inside := toRefs[w]
		if !inside {
			w.report(vfs.Removed, oldName, isDir)
			in.moveTree(w, isDir, oldName, "")
			continue
		}
		newName := joinRel(newDir, to.name)
		found := in.moveTree(w, isDir, oldName, newName)
		if change := nameChange(isDir); w.options.Changes&change != 0 {
			w.Push(vfs.Event{Action: vfs.RenamedOld, Change: change, Name: oldName},
				vfs.Event{Action: vfs.RenamedNew, Change: change, Name: newName})
		}
		w.reportAll(found)
	}
	for w, newDir := range toRefs {
		if _, inside := fromRefs[w]; inside {
			continue
		}
		in.appeared(w, joinRel(newDir, to.name), to.mask&unix.IN_ISDIR != 0, false)
	}
}

// refsOf returns the watches that see the notice, none for nil or for a name
// that they cannot be told.
func (in *inotify) refsOf(n *notice) map[*watch]string {
	if n == nil || !vfs.ValidComponent(n.name) || in.nodes[n.wd] == nil {
		return nil
	}
	return in.nodes[n.wd].refs
}

// moveTree renames the directories that w watches at oldName and beneath it, or
// stops watching them for "". It returns what it found in a directory that was
// renamed before the watch had come to it.
func (in *inotify) moveTree(w *watch, isDir bool, oldName, newName string) []below {
	if !isDir || !w.options.Recursive {
		return nil
	}
	followed := false
	for n := range w.nodes {
		rel := n.refs[w]
		rest, beneath := strings.CutPrefix(rel, oldName)
		if !beneath || rest != "" && rest[0] != '/' {
			continue
		}
		if newName == "" {
			in.drop(n, w)
		} else {
			n.refs[w] = newName + rest
			followed = followed || rest == ""
		}
	}
	if newName != "" && !followed {
		return in.extend(w, newName, !w.starting)
	}
	return nil
}

func joinRel(rel, name string) string {
	if rel == "" {
		return name
	}
	return rel + "/" + name
}
