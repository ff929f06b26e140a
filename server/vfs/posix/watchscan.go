//go:build linux

package posix

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Reading the directories of a recursive watch
//
// A tree may be large and its storage slow, so it is read without watcher.mu, while events
// of it are passed on. The reader of the events reads, too, what they say has come. As it
// hears of renames in their order, what it finds is where it says. A new watch may find a
// directory just before the reader hears that it was renamed: it leaves names alone that
// the reader has given, looks again if some directory was renamed since it opened this
// one, and begins anew if it was this one.

const (
	// maxWatchDepth bounds the directories beneath a recursive watch.
	maxWatchDepth = 256
	// maxScans is how often a new watch begins anew before it keeps the reader from
	// hearing of renames.
	maxScans = 3
)

// errMoved says that a directory is not where it was found any more.
var errMoved = errors.New("posix: a directory was renamed while it was looked at")

// scan is one reading of directories for a watch.
type scan struct {
	in     *inotify
	w      *watch
	reader bool // the reader's own
	// isNew has the names that are there gathered in news, at most as many as make the
	// watch's queue overflow.
	isNew bool
	news  []below
}

// start has w watch the directory, and what is beneath it if it is recursive. w is among
// the watches already. watcher.mu is not held.
func (in *inotify) start(ctx context.Context, w *watch, dir string) error {
	fd, _, err := in.owner.fs.resolve(dir, true)
	if err != nil {
		return err
	}
	if w.options.Recursive {
		if err := in.setRoot(w, fd); err != nil {
			unix.Close(fd)
			return err
		}
	}
	s := scan{in: in, w: w}
	var old []*node
	defer func() {
		in.owner.mu.Lock()
		defer in.owner.mu.Unlock()
		in.forgetUnused(old)
	}()
	for try := 1; ; try++ {
		if err = s.tree(ctx, fd, "", 0, 0); err != errMoved {
			return err
		}
		// What is beneath a directory that was entered may not have been. Should the
		// next reading miss it, as it is renamed just then, the reader of the events has
		// to find it new, to look beneath it.
		in.owner.mu.Lock()
		old = append(old, in.unname(w)...)
		in.owner.mu.Unlock()
		if fd, err = in.openRel(w, ""); err != nil {
			return err
		}
		if try == maxScans {
			in.handling.Lock()
			defer in.handling.Unlock()
		}
	}
}

// setRoot keeps the directory fd for w.
func (in *inotify) setRoot(w *watch, fd int) error {
	root, err := openComponent(fd, ".")
	if err != nil {
		return err
	}
	in.owner.mu.Lock()
	defer in.owner.mu.Unlock()
	if _, there := in.watches[w]; !there {
		unix.Close(root)
		return fs.ErrClosed
	}
	w.root, w.hasRoot = root, true
	return nil
}

// tree watches the directory fd, which it takes over, as rel within the watch, and what
// is beneath it if that is recursive. moves is what inotify.moves was before fd was
// opened.
func (s *scan) tree(ctx context.Context, fd int, rel string, depth int, moves uint64) error {
	defer unix.Close(fd)
	if err := ctx.Err(); err != nil {
		return err
	}
	moves, err := s.enter(ctx, fd, rel, moves)
	if err != nil {
		return err
	}
	if !s.w.options.Recursive || depth == maxWatchDepth {
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
		if isDir || s.isNew && files <= s.w.options.QueueLen {
			entries = append(entries, entry{name, isDir})
		}
		if isDir {
			dirs++
		} else {
			files++
		}
		return dirs <= s.in.owner.fs.cfg.MaxWatchedDirs
	})
	unix.Close(list)
	if err != nil {
		return err
	}
	for _, e := range entries {
		sub := joinRel(rel, e.name)
		if s.isNew && len(s.news) <= s.w.options.QueueLen { // one more makes it overflow
			s.news = append(s.news, below{sub, e.dir})
		}
		if !e.dir {
			continue
		}
		err := s.child(ctx, fd, e.name, sub, depth+1, moves)
		if err != nil && !passing(err) {
			return err
		}
	}
	return nil
}

// child reads what parent, which is watched, has by that name, as rel. What is found in a
// new directory that has another name by then may have come into it under that one. As
// the watch hears of the rename later, it is left to that, by which it is new.
func (s *scan) child(ctx context.Context, parent int, name, rel string, depth int, moves uint64) error {
	fd, err := openComponent(parent, name)
	if err != nil {
		return err
	}
	if !s.isNew {
		return s.tree(ctx, fd, rel, depth, moves)
	}
	was, _, err := idOf(fd, "")
	if err != nil {
		unix.Close(fd)
		return err
	}
	known := len(s.news)
	if err := s.tree(ctx, fd, rel, depth, moves); err != nil {
		return err
	}
	if is, _, err := idOf(parent, name); err != nil || is != was {
		s.news = s.news[:known]
		s.leave(rel)
	}
	return nil
}

// leave takes back that the watch has entered rel and what is beneath it.
func (s *scan) leave(rel string) {
	s.in.owner.mu.Lock()
	defer s.in.owner.mu.Unlock()
	for n := range s.w.nodes {
		if rest, beneath := strings.CutPrefix(n.refs[s.w], rel); beneath && (rest == "" || rest[0] == '/') {
			s.in.drop(n, s.w)
		}
	}
}

// passing reports whether a directory cannot be watched because it has gone, become
// something else, or is closed to the watch's user.
func passing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES)
}

// enter enters the directory fd as rel. It returns inotify.moves of then.
func (s *scan) enter(ctx context.Context, fd int, rel string, moves uint64) (uint64, error) {
	mu := &s.in.owner.mu
	for {
		mu.Lock()
		now := s.in.moves
		if s.reader || rel == "" || now == moves {
			err := s.enterLocked(fd, rel)
			mu.Unlock()
			return now, err
		}
		mu.Unlock()
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := s.in.isAt(s.w, rel, fd); err != nil {
			return 0, err
		}
		moves = now
	}
}

func (s *scan) enterLocked(fd int, rel string) error {
	in, w := s.in, s.w
	if _, there := in.watches[w]; !there {
		return fs.ErrClosed
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
	if _, named := n.refs[w]; !named || s.reader {
		n.refs[w] = rel
		w.nodes[n] = struct{}{}
	}
	return nil
}

// isAt reports by errMoved that the directory fd is not, or not any more, what rel means
// to w.
func (in *inotify) isAt(w *watch, rel string, fd int) error {
	there, err := in.openRel(w, rel)
	if err != nil {
		if passing(err) {
			return errMoved
		}
		return err
	}
	defer unix.Close(there)
	a, _, err := idOf(there, "")
	if err != nil {
		return err
	}
	b, _, err := idOf(fd, "")
	if err != nil {
		return err
	}
	if a != b {
		return errMoved
	}
	return nil
}

// openRel opens what rel means to w. watcher.mu is not held.
func (in *inotify) openRel(w *watch, rel string) (int, error) {
	in.owner.mu.Lock()
	if !w.hasRoot {
		in.owner.mu.Unlock()
		return -1, fs.ErrClosed
	}
	root, err := unix.FcntlInt(uintptr(w.root), unix.F_DUPFD_CLOEXEC, 0)
	in.owner.mu.Unlock()
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	if rel == "" {
		return openComponent(root, ".")
	}
	r := resolver{root: root, openat2: in.owner.fs.res.openat2}
	return r.open(rel, false)
}

// extend adds the directory rel of w to it, if it is still there, and returns
// what is in it if that is new. It is the reader's; watcher.mu is given up meanwhile.
func (in *inotify) extend(w *watch, rel string, isNew bool) []below {
	s := scan{in: in, w: w, reader: true, isNew: isNew}
	dir, name := "", rel
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		dir, name = rel[:i], rel[i+1:]
	}
	in.owner.mu.Unlock()
	defer in.owner.mu.Lock()
	err := w.as.do(func() error {
		parent, err := in.openRel(w, dir)
		if err != nil {
			return err
		}
		defer unix.Close(parent)
		return s.child(context.Background(), parent, name, rel, strings.Count(rel, "/")+1, 0)
	})
	if err != nil && !passing(err) {
		w.Lose() // out of watches or descriptors: changes there will be missed
	}
	return s.news
}

// refresh finds out anew which directories a recursive watch includes and what
// they are called, events that said so having been lost. It comes before the
// loss is reported: what is changed after that is seen. It is the reader's; watcher.mu is
// given up meanwhile.
func (in *inotify) refresh(w *watch) {
	if !w.hasRoot {
		return
	}
	in.moves++ // for all that is known of them
	old := in.unname(w)
	in.owner.mu.Unlock()
	// What cannot be watched again is part of the loss.
	_ = w.as.do(func() error {
		fd, err := in.openRel(w, "")
		if err != nil {
			return err
		}
		s := scan{in: in, w: w, reader: true}
		return s.tree(context.Background(), fd, "", 0, 0)
	})
	in.owner.mu.Lock()
	in.forgetUnused(old)
}

// unname takes all directories but its root from w, and returns them for forgetUnused:
// most are found again. watcher.mu is held.
func (in *inotify) unname(w *watch) []*node {
	old := make([]*node, 0, len(w.nodes))
	for n := range w.nodes {
		if n.refs[w] != "" { // the root stays what it is
			delete(n.refs, w)
			delete(w.nodes, n)
			old = append(old, n)
		}
	}
	return old
}

// forgetUnused ends the watching of those directories that no watch includes any more:
// each makes an event of its own. watcher.mu is held.
func (in *inotify) forgetUnused(old []*node) {
	for _, n := range old {
		if len(n.refs) == 0 && in.nodes[n.wd] == n {
			delete(in.nodes, n.wd)
			in.forget(n.wd)
		}
	}
}
