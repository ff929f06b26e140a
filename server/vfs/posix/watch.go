//go:build linux

package posix

import (
	"context"
	"io/fs"
	"sync"

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
	w := &watch{EventQueue: queue, owner: &f.watcher, as: f.as, options: o}
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
	err := wr.cur.addRoot(ctx, w, dir)
	if err == nil {
		wr.mu.Unlock()
		return nil
	}
	idle := wr.drop(w)
	wr.mu.Unlock()
	idle.stop()
	return err
}

// remove ends w's part in the instance, and the instance if w was the last.
func (wr *watcher) remove(w *watch) {
	wr.mu.Lock()
	idle := wr.drop(w)
	wr.mu.Unlock()
	idle.stop()
}

// drop takes w out of the instance and returns the instance, no longer the
// current one, if nothing is left in it. wr.mu is held.
func (wr *watcher) drop(w *watch) *inotify {
	in := wr.cur
	if in == nil {
		return nil
	}
	in.dropWatch(w)
	if len(in.watches) > 0 {
		return nil
	}
	wr.cur = nil
	return in
}

// close ends all watches for good.
func (wr *watcher) close() {
	wr.mu.Lock()
	in := wr.cur
	wr.cur, wr.closed = nil, true
	if in != nil {
		for w := range in.watches {
			w.End(fs.ErrClosed)
			in.dropWatch(w)
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
}

// Close implements vfs.Watch.
func (w *watch) Close() error {
	w.End(fs.ErrClosed)
	w.owner.remove(w)
	return nil
}
