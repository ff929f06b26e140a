package fuse

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// # Listing ahead
//
// Who walks a tree (ls -R, find, rsync, git status) lists one directory after the other, and
// waits for the server in between. When the directories in another are opened one after the
// other, in the order in which they were listed or in that of their names, those that come
// next are listed meanwhile. What comes of it is a listing as of who has listed them to the
// end (keepListing): it answers as long as a lease says that it is right, and is forgotten
// as others are. Without a lease nothing is listed ahead.

const (
	// aheadAtOnce is how many directories are listed ahead at a time, and of how many of a
	// walk that has been going on for a while.
	aheadAtOnce = 4
	// aheadEntries is how much of a directory is read ahead: a longer one is not kept, and
	// when that is known not begun.
	aheadEntries = 2048
	// maxWalks is of how many directories it is known how they are walked through.
	maxWalks = 256
)

// walk is what is known of the order in which the directories in a directory are opened. It
// is no more than a guess: what it names need not be there any more.
type walk struct {
	dir  *inode
	from time.Time // when the listing began that it was made from

	// What follows is guarded by aheads.mu, but for at, which stays.
	dirs [2][]string // by their names on the server: as they were listed, and sorted
	at   map[string][2]int
	last [2]int // which was opened last; -1 before the first
	run  int    // how many were opened in order
	by   int    // which order that is: an index of dirs
}

func newWalk(order []dirEntry) *walk {
	w := &walk{at: map[string][2]int{}, last: [2]int{-1, -1}}
	for _, e := range order {
		if e.kind == syscall.S_IFDIR {
			w.dirs[0] = append(w.dirs[0], e.wire)
		}
	}
	w.dirs[1] = slices.Sorted(slices.Values(w.dirs[0]))
	for i, name := range w.dirs[0] {
		w.at[name] = [2]int{i}
	}
	for i, name := range w.dirs[1] {
		w.at[name] = [2]int{w.at[name][0], i}
	}
	return w
}

// opened notes that a directory was opened, and returns the names of those that come next,
// nil if there is no order in it.
func (w *walk) opened(name string) []string {
	at, ok := w.at[name]
	if !ok || at == w.last {
		return nil
	}
	by, least := 0, aheadAtOnce+1
	for _, o := range [...]int{w.by, 1 - w.by} {
		// Some may be left out, as those whose names begin with a dot.
		gap := at[o] - w.last[o]
		if gap >= 1 && gap < least && (gap == 1 || w.last[o] < 0 || w.run > 0 && o == w.by) {
			by, least = o, gap
		}
	}
	w.last = at
	if least > aheadAtOnce {
		w.run = 0
		return nil
	}
	w.by = by
	w.run++
	from, many := at[by]+1, min(1<<min(w.run, aheadAtOnce), aheadAtOnce)
	return w.dirs[by][from:min(from+many, len(w.dirs[by]))]
}

// has says whether a directory had that name when the walk was made.
func (w *walk) has(name string) bool {
	_, ok := w.at[name]
	return ok
}

// over says whether the last one was opened, in order.
func (w *walk) over() bool { return w.run > 0 && w.last[w.by] == len(w.dirs[w.by])-1 }

// aheads are the directories that are being listed ahead.
type aheads struct {
	mu      sync.Mutex // the last lock that is taken
	running []*ahead   // guarded by mu
	held    int        // how many want that there are no new ones. guarded by mu
	walks   []*walk    // one of a directory, that which went on last at the end. guarded by mu
}

// walkIn is what is known of how a directory is walked through, nil if nothing is.
func (a *aheads) walkIn(dir *inode) *walk {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.walks, func(w *walk) bool { return w.dir == dir })
	if i < 0 {
		return nil
	}
	return a.walks[i]
}

// opened is that of a walk, which is remembered in place of what was known of its directory.
// One that is over is forgotten, and so is that which has not gone on for longest, if there
// are too many.
func (a *aheads) opened(w *walk, name string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := w.opened(name)
	a.walks = slices.DeleteFunc(a.walks, func(o *walk) bool { return o.dir == w.dir })
	if !w.over() {
		a.walks = append(a.walks, w)
	}
	if len(a.walks) > maxWalks {
		a.walks = slices.Delete(a.walks, 0, 1)
	}
	return next
}

// ahead is a directory that is being listed ahead.
type ahead struct {
	n    *inode
	over chan struct{}
	err  error // if the server did not answer. Not to be read before over is closed
}

// of is the directory if it is being listed ahead, else nil.
func (a *aheads) of(n *inode) *ahead {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.running, func(x *ahead) bool { return x.n == n })
	if i < 0 {
		return nil
	}
	return a.running[i]
}

// begin notes that a directory is going to be listed ahead, nil if it is not to be.
func (a *aheads) begin(n *inode) *ahead {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held > 0 || len(a.running) >= aheadAtOnce || slices.ContainsFunc(a.running, func(x *ahead) bool { return x.n == n }) {
		return nil
	}
	x := &ahead{n: n, over: make(chan struct{})}
	a.running = append(a.running, x)
	return x
}

func (a *aheads) end(x *ahead) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running = slices.DeleteFunc(a.running, func(o *ahead) bool { return o == x })
	close(x.over)
}

// hold has nothing be listed ahead until release is called.
func (a *aheads) hold() (release func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.held--
	}
}

// wait returns when nothing is being listed ahead that was when it was called, or ctx has
// ended, and says whether anything was.
func (a *aheads) wait(ctx context.Context) bool {
	a.mu.Lock()
	running := slices.Clone(a.running)
	a.mu.Unlock()
	for _, x := range running {
		if x.wait(ctx) != nil {
			break
		}
	}
	return len(running) > 0
}

// wait returns when a directory has been listed ahead, and the error if the server does not
// answer. x may be nil.
func (x *ahead) wait(ctx context.Context) error {
	if x == nil {
		return nil
	}
	select {
	case <-x.over:
		return x.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// walked notes that a directory was opened, and lists those ahead that come next.
func (f *filesystem) walked(n *inode) {
	if !f.leases || n == f.t.root {
		return
	}
	dir, name, ok := f.t.newest(n)
	if !ok {
		return
	}
	dir.mu.Lock()
	l := dir.cache.listing
	dir.mu.Unlock()
	w := f.aheads.walkIn(dir)
	if w == nil && l == nil {
		return
	}
	if w == nil || !w.has(name) && l != nil && l.at.After(w.from) { // it may be new
		l.mu.Lock()
		w = newWalk(l.order)
		l.mu.Unlock()
		w.dir, w.from = dir, l.at
	}
	for _, name := range f.aheads.opened(w, name) {
		if child := f.t.at(dir, name); child != nil && child.kind == syscall.S_IFDIR {
			f.listAhead(child)
		}
	}
}

// worthAhead says whether a directory is to be listed ahead: not if it is known what is in
// it, or that it is too long.
func (n *inode) worthAhead() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cache.listing.valid() && !n.cache.long
}

// listAhead lists a directory if it is worth it, unless enough is being listed.
func (f *filesystem) listAhead(n *inode) {
	if !n.worthAhead() || f.ctx.Err() != nil {
		return
	}
	x := f.aheads.begin(n)
	if x == nil {
		return
	}
	if !f.t.hold(n) {
		f.aheads.end(x)
		return
	}
	f.aside.Add(1)
	go func() { // ends with f.ctx or the client's timeout at the latest; closeAll waits
		defer f.aside.Done()
		defer f.t.forget(n.id, 1)
		defer f.aheads.end(x)
		d := &dirHandle{n: n}
		defer d.stop()
		err := d.start(f.ctx, f, true)
		if err == nil && d.keep != nil {
			err = d.more(f.ctx, f, aheadEntries)
		}
		if status(err) == gofuse.Status(syscall.ETIMEDOUT) {
			x.err = err
		}
	}()
}
