//go:build linux

package posix

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
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
	// maxWatchDepth bounds the directories beneath a recursive watch.
	maxWatchDepth = 256
)

// inotify is one inotify(7) instance and its reader. All but file and
// done is guarded by watcher.mu.
type inotify struct {
	owner *watcher
	file  *os.File      // non-blocking, so that Close ends a Read
	done  chan struct{} // closed by the reader when it returns

	watches map[*watch]struct{}
	nodes   map[int32]*node
}

// node is a directory being watched.
type node struct {
	wd int32
	// refs has the directory's name relative to each watch that includes it.
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

// addRoot starts w. watcher.mu is held.
func (in *inotify) addRoot(ctx context.Context, w *watch, dir string) error {
	in.watches[w] = struct{}{}
	fd, _, err := in.owner.fs.resolve(dir, true)
	if err != nil {
		return err
	}
	if w.options.Recursive {
		if w.root, err = openComponent(fd, "."); err != nil {
			unix.Close(fd)
			return err
		}
		w.hasRoot = true
	}
	return in.addTree(ctx, w, fd, "", 0, nil)
}

// addTree watches the directory fd, which it takes over, as rel within w, and
// what is beneath it if w is recursive. found is told the names it meets there,
// if not nil.
func (in *inotify) addTree(ctx context.Context, w *watch, fd int, rel string, depth int, found func(rel string, isDir bool)) error {
	defer unix.Close(fd)
	if err := ctx.Err(); err != nil {
		return err
	}
	wd, err := in.fd(func(ifd int) (int, error) { return unix.InotifyAddWatch(ifd, procPath(fd), w.mask()) })
	if err != nil {
		return err
	}
	n := in.nodes[int32(wd)]
	if n == nil {
		if len(in.nodes) >= in.owner.fs.cfg.MaxWatchedDirs {
			in.forget(int32(wd))
			return unix.ENOSPC
		}
		n = &node{wd: int32(wd), refs: make(map[*watch]string)}
		in.nodes[n.wd] = n
	}
	n.refs[w] = rel
	if !w.options.Recursive || depth == maxWatchDepth {
		return nil
	}
	list, err := openDir(fd)
	if err != nil {
		return err
	}
	type entry struct {
		name string
		dir  bool
	}
	// Kept for after the scan, so that neither its buffer nor its descriptor is
	// held while recursing; as many as can be watched, and more files than a queue
	// takes are not told apart.
	var entries []entry
	dirs, files := 0, 0
	err = scanDir(list, func(d dirent) bool {
		name := string(d.name)
		if !vfs.ValidComponent(name) {
			return true
		}
		isDir := d.typ == unix.DT_DIR
		if d.typ == unix.DT_UNKNOWN {
			_, mode, err := idOf(fd, name)
			isDir = err == nil && mode.IsDir()
		}
		if isDir || found != nil && files <= w.options.QueueLen {
			entries = append(entries, entry{name, isDir})
		}
		if isDir {
			dirs++
		} else {
			files++
		}
		return dirs <= in.owner.fs.cfg.MaxWatchedDirs
	})
	unix.Close(list)
	if err != nil {
		return err
	}
	for _, e := range entries {
		sub := joinRel(rel, e.name)
		if found != nil {
			found(sub, e.dir)
		}
		if !e.dir {
			continue
		}
		child, err := openComponent(fd, e.name)
		if err == nil {
			err = in.addTree(ctx, w, child, sub, depth+1, found)
		}
		// It may have gone, become something else, or be closed to us.
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.EACCES) {
			return err
		}
	}
	return nil
}

func joinRel(rel, name string) string {
	if rel == "" {
		return name
	}
	return rel + "/" + name
}

// dropWatch takes w out of all nodes. watcher.mu is held.
func (in *inotify) dropWatch(w *watch) {
	if w.hasRoot {
		unix.Close(w.root)
		w.hasRoot = false
	}
	delete(in.watches, w)
	for _, n := range in.nodes {
		in.dropRef(n, w)
	}
}

func (in *inotify) dropRef(n *node, w *watch) {
	delete(n.refs, w)
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

// extend adds the directory rel of w to it, if it is still there, and returns
// what is in it if that is new.
func (in *inotify) extend(w *watch, rel string, isNew bool) (list []below) {
	var found func(string, bool)
	if isNew {
		found = func(rel string, isDir bool) {
			if len(list) <= w.options.QueueLen { // one more makes it overflow
				list = append(list, below{rel, isDir})
			}
		}
	}
	err := w.as.do(func() error {
		fd, err := in.openRel(w, rel)
		if err != nil {
			return err
		}
		return in.addTree(context.Background(), w, fd, rel, strings.Count(rel, "/")+1, found)
	})
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.EACCES) {
		w.Lose() // out of watches or descriptors: changes there will be missed
	}
	return list
}

// refresh finds out anew which directories a recursive watch includes and what
// they are called, events that said so having been lost. It comes before the
// loss is reported: what is changed after that is seen.
func (in *inotify) refresh(w *watch) {
	if !w.hasRoot {
		return
	}
	for _, n := range in.nodes {
		if n.refs[w] != "" { // the root stays what it is
			delete(n.refs, w)
		}
	}
	// What cannot be watched again is part of the loss.
	_ = w.as.do(func() error {
		fd, err := openComponent(w.root, ".")
		if err != nil {
			return err
		}
		return in.addTree(context.Background(), w, fd, "", 0, nil)
	})
	// Only now: each watch removed makes an event of its own.
	for _, n := range in.nodes {
		if len(n.refs) == 0 {
			delete(in.nodes, n.wd)
			in.forget(n.wd)
		}
	}
}

// openRel opens what rel means to w.
func (in *inotify) openRel(w *watch, rel string) (int, error) {
	r := resolver{root: w.root, openat2: in.owner.fs.res.openat2}
	return r.open(rel, false)
}

// moved reports a rename, or that half of it which is watched; from or to may
// be nil.
func (in *inotify) moved(from, to *notice) {
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
	for _, n := range in.nodes {
		rel, ok := n.refs[w]
		if !ok {
			continue
		}
		rest, beneath := strings.CutPrefix(rel, oldName)
		if !beneath || rest != "" && rest[0] != '/' {
			continue
		}
		if newName == "" {
			in.dropRef(n, w)
		} else {
			n.refs[w] = newName + rest
			followed = followed || rest == ""
		}
	}
	if newName != "" && !followed {
		return in.extend(w, newName, true)
	}
	return nil
}
