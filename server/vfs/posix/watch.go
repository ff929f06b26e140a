//go:build linux

package posix

import (
	"context"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// watcher holds the one inotify instance that an FS's watches share: instances
// are scarce (fs.inotify.max_user_instances is 128), watches are not. The
// instance exists while there are watches.
type watcher struct {
	fs *FS

	mu     sync.Mutex
	cur    *inotify // guarded by mu; nil without watches
	closed bool     // guarded by mu
}

// Watch implements vfs.Watcher.
func (f *FS) Watch(ctx context.Context, dir string, o vfs.WatchOptions) (vfs.Watch, error) {
	if err := f.begin(ctx, "watch", dir); err != nil {
		return nil, err
	}
	defer f.root.release()
	queue, o, err := vfs.NewEventQueue(o)
	if err != nil {
		return nil, pathError("watch", dir, err)
	}
	w := &watch{EventQueue: queue, owner: &f.watcher, as: f.as, options: o, nodes: map[*node]struct{}{}}
	err = f.as.do(func() error { return f.watcher.add(ctx, w, dir) })
	if err != nil {
		return nil, pathError("watch", dir, err)
	}
	return w, nil
}

// add starts w on the directory, and the instance if w is the first.
func (wr *watcher) add(ctx context.Context, w *watch, dir string) error {
	wr.mu.Lock()
	if wr.closed {
		wr.mu.Unlock()
		return fs.ErrClosed
	}
	if wr.cur == nil {
		in, err := newInotify(wr)
		if err != nil {
			wr.mu.Unlock()
			return err
		}
		wr.cur = in
	}
	in := wr.cur // which stays as long as it has w
	in.watches[w] = struct{}{}
	w.starting = true
	wr.mu.Unlock()

	err := in.start(ctx, w, dir)

	wr.mu.Lock()
	w.starting = false
	wr.mu.Unlock()
	if err != nil {
		wr.remove(w)
	}
	return err
}

// dropAtOnce is how many directories of a watch that ends are given up before others have
// their turn: each is a system call.
const dropAtOnce = 64

// remove ends w's part in the instance, and the instance if w was the last.
func (wr *watcher) remove(w *watch) {
	wr.mu.Lock()
	in := wr.cur
	if in == nil {
		wr.mu.Unlock()
		return
	}
	in.part(w)
	if len(in.watches) == 0 {
		wr.cur = nil
		wr.mu.Unlock()
		in.stop() // and with it all that it watches
		return
	}
	for n := 0; len(w.nodes) > 0; {
		for node := range w.nodes {
			in.drop(node, w)
			if n++; n%dropAtOnce == 0 {
				wr.mu.Unlock()
				wr.mu.Lock()
				break
			}
		}
	}
	wr.mu.Unlock()
}

// part takes w from those that are told of events. watcher.mu is held.
func (in *inotify) part(w *watch) {
	if w.hasRoot {
		unix.Close(w.root)
		w.hasRoot = false
	}
	delete(in.watches, w)
}

// close ends all watches for good.
func (wr *watcher) close() {
	wr.mu.Lock()
	in := wr.cur
	wr.cur, wr.closed = nil, true
	if in != nil {
		for w := range in.watches {
			w.End(fs.ErrClosed)
			in.part(w)
		}
	}
	wr.mu.Unlock()
	in.stop()
}

// watch is one vfs.Watch: a bounded queue between the instance's reader and Next.
type watch struct {
	*vfs.EventQueue

	owner   *watcher
	as      *identity // whose rights decide what is watched
	options vfs.WatchOptions

	// root is an O_PATH descriptor of the directory, if the watch is recursive.
	root    int  // guarded by owner.mu
	hasRoot bool // guarded by owner.mu

	nodes    map[*node]struct{} // guarded by owner.mu: the directories that it includes
	starting bool               // guarded by owner.mu: its directories are being read
}

// Close implements vfs.Watch.
func (w *watch) Close() error {
	w.End(fs.ErrClosed)
	w.owner.remove(w)
	return nil
}
