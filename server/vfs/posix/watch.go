//go:build linux

package posix

import (
	"context"
	"io/fs"
	"sync"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

const (
	defaultQueueLen = 1024
	maxQueueLen     = 65536
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
	if o.QueueLen == 0 {
		o.QueueLen = defaultQueueLen
	}
	if o.Changes == 0 {
		o.Changes = vfs.ChangeAll
	}
	if o.QueueLen < 2 || o.QueueLen > maxQueueLen || o.Changes&^vfs.ChangeAll != 0 {
		return nil, pathError("watch", dir, syscall.EINVAL)
	}
	w := &watch{
		owner:   &f.watcher,
		as:      f.as,
		options: o,
		wake:    make(chan struct{}, 1),
	}
	err := f.as.do(func() error { return f.watcher.add(ctx, w, dir) })
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
			w.end(fs.ErrClosed)
			in.dropWatch(w)
		}
	}
	wr.mu.Unlock()
	in.stop()
}

// watch is one vfs.Watch: a bounded queue between the instance's reader and Next.
type watch struct {
	owner   *watcher
	as      *identity // whose rights decide what is watched
	options vfs.WatchOptions
	wake    chan struct{} // holds a token when there may be something for Next

	// root is an O_PATH descriptor of the directory, if the watch is recursive.
	root    int  // guarded by owner.mu
	hasRoot bool // guarded by owner.mu

	mu       sync.Mutex
	queue    []vfs.Event // guarded by mu; at most options.QueueLen
	overflow bool        // guarded by mu; queue lost something after its last event
	err      error       // guarded by mu; why nothing more will come
}

// push queues events that belong together, or none of them.
func (w *watch) push(events ...vfs.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || w.overflow {
		return // after a loss nothing more counts until it has been reported
	}
	n := len(w.queue)
	if n > 0 && len(events) == 1 && events[0].Action == vfs.Modified && w.queue[n-1] == events[0] {
		return // said already
	}
	if n+len(events) > w.options.QueueLen {
		w.overflow = true
	} else {
		w.queue = append(w.queue, events...)
	}
	w.signal()
}

// lose reports that events are missing.
func (w *watch) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.overflow = true
	w.signal()
}

// end makes Next return err once the queue is empty. The first one counts.
func (w *watch) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.signal()
}

// signal leaves a token for Next. w.mu is held.
func (w *watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next implements vfs.Watch.
func (w *watch) Next(ctx context.Context, dst []vfs.Event) (int, error) {
	if len(dst) == 0 {
		return 0, syscall.EINVAL
	}
	for {
		if n, err := w.take(dst); n > 0 || err != nil {
			return n, err
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// take moves what is there; 0 and nil mean that Next has to wait.
func (w *watch) take(dst []vfs.Event) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := copy(dst, w.queue); n > 0 {
		rest := copy(w.queue, w.queue[n:])
		clear(w.queue[rest:]) // let go of the names
		w.queue = w.queue[:rest]
		return n, nil
	}
	if w.overflow {
		w.overflow = false
		return 0, vfs.ErrOverflow
	}
	if w.err != nil {
		w.signal() // for a Next that comes later
		return 0, w.err
	}
	return 0, nil
}

// Close implements vfs.Watch.
func (w *watch) Close() error {
	w.end(fs.ErrClosed)
	w.owner.remove(w)
	return nil
}
