package fuse

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// # Signals
//
// A program that waits for a server must be able to end. The kernel tells of a signal to
// who waits (FUSE INTERRUPT) but not of which, and not of a second one. So what waits for
// longer than a moment is looked after by the lookout, which asks /proc what the signal
// means to the program: one that kills it ends the request with EINTR at once, and so does
// one that asks it to stop, and is caught (SIGHUP, SIGINT, SIGQUIT, SIGTERM), if the server
// does not answer an ECHO either. Others change nothing, as on a local disk: programs do
// not expect EINTR of files, and Go's runtime sends itself signals all the time. What another
// thread of the program has taken meanwhile can't be told any more, and may have been any:
// it ends a request only if the server is silent for much longer.
//
// What has been asked for may have been done all the same. So that nothing that is
// acknowledged later is undone by it, what changes a file or a directory waits for what
// was given up there (inode.limbo).

// lookEvery is how often the lookout looks at what waits.
const lookEvery = 100 * time.Millisecond

// silence is how long a server may take to answer an ECHO that a caught signal depends on.
const silence = 400 * time.Millisecond

// longSilence is that where nothing is known of the signal: no server that is merely slow is
// silent for so long.
const longSilence = 5 * time.Second

// request is one of the kernel's, and the context of what is asked of the server for it:
// it ends with the mount, or when the caller is not to wait any more. Requests are pooled:
// beginning and ending one allocates nothing.
type request struct {
	f      *filesystem
	cancel <-chan struct{} // of go-fuse: closed when the caller has got a signal
	pid    uint32          // the thread that waits; 0 if that is not known
	begun  time.Time       // when the lookout first saw it
	// anySignal ends it by whatever signal it was: waits for locks, as fcntl(2) has it.
	anySignal atomic.Bool
	// reads has the lookout look for signals although the kernel tells of none: it reads into
	// its cache in the name of who waits for that.
	reads atomic.Bool

	done chan struct{} // closed when it is over; the request is not used again then

	before, after *request // guarded by lookout.mu
	turn          uint64   // counts its uses. guarded by lookout.mu
}

// begin makes the context of a request, which its handler ends by end.
func (f *filesystem) begin(cancel <-chan struct{}, h *gofuse.InHeader) *request {
	r := f.lookout.spare.Get().(*request)
	r.f, r.cancel, r.pid, r.begun = f, cancel, h.Pid, time.Time{}
	r.reads.Store(false)
	r.anySignal.Store(false)
	f.lookout.add(r)
	return r
}

// end ends the use of a request.
func (r *request) end() {
	if w := &r.f.lookout; w.remove(r) {
		r.f, r.cancel = nil, nil
		w.spare.Put(r)
	}
}

// Deadline implements context.Context: the client's own timeouts count.
func (r *request) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (r *request) Done() <-chan struct{} { return r.done }

// Err implements context.Context.
func (r *request) Err() error {
	select {
	case <-r.done:
		return context.Canceled
	default:
		return nil
	}
}

// Value implements context.Context.
func (r *request) Value(any) any { return nil }

// signalled says whether go-fuse has told of a signal.
func (r *request) signalled() bool {
	select {
	case <-r.cancel:
		return true
	default:
		return false
	}
}

// lookout knows the requests that are being served, and ends those whose callers are not
// to wait any more. Its goroutine is there as long as the mount, and sleeps while nothing
// is asked for.
type lookout struct {
	mu     sync.Mutex
	all    request       // of a ring: before and after. guarded by mu
	begun  bool          // some were, since it last looked. guarded by mu
	awake  bool          // guarded by mu
	closed bool          // the mount has ended. guarded by mu
	wake   chan struct{} // has room for one
	spare  sync.Pool     // of *request: no other mount has them, whose mu is another one

	// The question whether the server is there; owned by the goroutine.
	echo    chan error // its answer; nil if it was not asked
	mute    time.Time  // when it was first asked that has not answered since
	doubted []suspect  // while it looks; owned by the goroutine
}

func (w *lookout) init() {
	w.wake = make(chan struct{}, 1)
	w.spare.New = func() any { return &request{done: make(chan struct{})} }
	w.all.before, w.all.after = &w.all, &w.all
}

func (w *lookout) add(r *request) {
	w.mu.Lock()
	r.turn++
	r.before, r.after = w.all.before, &w.all
	r.before.after, w.all.before = r, r
	w.begun = true
	stir := !w.awake
	w.awake = true
	if w.closed {
		w.drop(r)
		close(r.done)
	}
	w.mu.Unlock()
	if stir {
		w.wake <- struct{}{} // there is room: awake was false
	}
}

// remove takes a request out, and says whether it may be used again.
func (w *lookout) remove(r *request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.before == nil {
		return false // it is over
	}
	w.drop(r)
	return true
}

// drop takes a request out of the ring. Called with mu held.
func (w *lookout) drop(r *request) {
	r.before.after, r.after.before = r.after, r.before
	r.before, r.after = nil, nil
}

// lookingOut is the lookout's goroutine. It ends with the file system's context, and ends
// with that whatever is under way.
func (f *filesystem) lookingOut() {
	w := &f.lookout
	defer close(f.lookedOut)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		tick.Stop()
		select {
		case <-w.wake:
		case <-f.ctx.Done():
			w.endAll()
			return
		}
		for tick.Reset(lookEvery); ; {
			select {
			case <-tick.C:
			case <-f.ctx.Done():
				w.endAll()
				return
			}
			if !f.look() {
				break
			}
		}
	}
}

// endAll ends all requests, and those that are still to come.
func (w *lookout) endAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for r := w.all.after; r != &w.all; r = w.all.after {
		w.drop(r)
		close(r.done)
	}
	if w.echo != nil {
		<-w.echo // its context has ended, too
	}
}

// suspect is a request whose caller may have got a signal.
type suspect struct {
	r       *request
	turn    uint64 // r.turn as it was: r may be another one since
	pid     uint32
	told    bool // the kernel has told of the signal
	pending signals
}

// ends says whether the signal ends the request, where the server has been silent for so
// long, or has failed to answer, and whether that depends on the server.
func (s *suspect) ends(silent time.Duration, failed bool) (over, asks bool) {
	switch {
	case s.pending == signalKills:
		return true, false
	case s.pending == signalStops:
		return failed || silent >= silence, true
	case s.pending == signalUnknown && s.told:
		return silent >= longSilence, true
	}
	return false, false
}

// look looks at each request once. It is false if there is nothing to look at. /proc is
// asked without the lock, which each request takes to begin and to end.
func (f *filesystem) look() bool {
	w := &f.lookout
	now := time.Now()
	if !w.suspects(now) {
		return false
	}
	for i := range w.doubted {
		s := &w.doubted[i]
		s.pending = signalsOf(s.pid)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	doubt := false
	silent, failed := w.silent(now)
	for _, s := range w.doubted {
		over, asks := s.ends(silent, failed)
		doubt = doubt || asks
		if over && s.r.turn == s.turn && s.r.before != nil {
			w.drop(s.r)
			close(s.r.done)
		}
	}
	clear(w.doubted)
	w.doubted = w.doubted[:0]
	switch {
	case w.echo != nil:
	case doubt:
		w.ask(f, now)
	default:
		w.mute = time.Time{} // nobody wants to know
	}
	return true
}

// suspects ends those that any signal ends, and finds those of whose signals /proc has to
// be asked. It is false if there is nothing to look at.
func (w *lookout) suspects(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all.after == &w.all && !w.begun && w.echo == nil {
		w.awake = false
		return false
	}
	w.begun = false
	var next *request
	for r := w.all.after; r != &w.all; r = next {
		next = r.after
		if r.begun.IsZero() {
			r.begun = now
		}
		told := r.signalled()
		switch {
		case told && r.anySignal.Load():
			w.drop(r)
			close(r.done)
		case told, r.reads.Load() && now.Sub(r.begun) >= silence:
			w.doubted = append(w.doubted, suspect{r: r, turn: r.turn, pid: r.pid, told: told})
		}
	}
	return true
}

// ask asks the server for a sign of life.
func (w *lookout) ask(f *filesystem, now time.Time) {
	answer := make(chan error, 1)
	w.echo = answer
	if w.mute.IsZero() {
		w.mute = now
	}
	go func() { // ends with its context; silent or endAll takes what it says
		ctx, stop := context.WithTimeout(f.ctx, silence)
		defer stop()
		answer <- f.sh.Session().Echo(ctx)
	}()
}

// silent says how long the server has given no sign of life that was asked for, and whether
// it has just failed to, as when its connection is lost.
func (w *lookout) silent(now time.Time) (since time.Duration, failed bool) {
	select {
	case err := <-w.echo: // never of nil
		w.echo = nil
		if failed = err != nil; !failed {
			w.mute = time.Time{}
		}
	default:
	}
	if w.mute.IsZero() {
		return 0, false
	}
	return now.Sub(w.mute), failed
}

// # What is given up and may still happen

// limbo is what was given up on an inode and may still change it: channels that are
// closed when that is over.
type limbo struct {
	mu      sync.Mutex
	pending []<-chan struct{} // guarded by mu
}

// add notes something that is under way until over is closed.
func (l *limbo) add(over <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What is over by now nobody has to wait for: an inode that nobody changes again would
	// keep one more with each that is given up on it.
	l.pending = append(slices.DeleteFunc(l.pending, isOver), over)
}

func isOver(over <-chan struct{}) bool {
	select {
	case <-over:
		return true
	default:
		return false
	}
}

// wait returns when nothing is under way any more, or ctx has ended.
func (l *limbo) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		if len(l.pending) == 0 {
			l.mu.Unlock()
			return nil
		}
		over := l.pending[0]
		l.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		l.mu.Lock()
		if l.pending = slices.DeleteFunc(l.pending, isOver); len(l.pending) == 0 {
			l.pending = nil
		}
		l.mu.Unlock()
	}
}

// whole does something that must not be left half done, or is better known to be done:
// when the request is over before it is, it goes on until the mount ends, and the caller
// is told EINTR. It waits for what was given up on the inodes that it changes, and what
// it leaves is waited for by others. do must not touch what belongs to the request.
func (f *filesystem) whole(r *request, do func(ctx context.Context) error, changes ...*inode) error {
	if err := settled(r, changes); err != nil {
		return err
	}
	return f.goOn(r, do, changes...)
}

// settled waits for what was given up on inodes.
func settled(ctx context.Context, changes []*inode) error {
	for _, n := range changes {
		if err := n.limbo.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// goOn is whole when nothing is to be waited for: do is called.
func (f *filesystem) goOn(r *request, do func(ctx context.Context) error, changes ...*inode) error {
	var err error
	over, done := f.meanwhile(r, func(ctx context.Context) { err = do(ctx) })
	if done {
		return err
	}
	for _, n := range changes {
		n.limbo.add(over)
	}
	return context.Cause(r)
}

// meanwhile does something that is to be done whatever becomes of a request, and returns
// when it is done or ctx, that of the request, has ended. Then over is closed when it is.
func (f *filesystem) meanwhile(ctx context.Context, do func(ctx context.Context)) (over <-chan struct{}, done bool) {
	end := make(chan struct{})
	f.aside.Add(1)
	go func() { // ends with f.ctx or the client's timeout at the latest; closeAll waits
		defer f.aside.Done()
		defer close(end)
		do(f.ctx)
	}()
	select {
	case <-end:
		return end, true
	case <-ctx.Done():
	}
	select {
	case <-end: // just now
		return end, true
	default:
		return end, false
	}
}

// meanwhile is that of the file system, and keeps the handle open for as long.
func (h *handle) meanwhile(ctx context.Context, do func(ctx context.Context)) (over <-chan struct{}, done bool) {
	h.refs.Add(1)
	return h.fs.meanwhile(ctx, func(ctx context.Context) {
		defer h.release()
		do(ctx)
	})
}

// changing calls do, which changes the data of an inode by an open of it. What of that is
// given up without an answer is waited for by the next that changes it.
func (f *filesystem) changing(ctx context.Context, h *handle, do func(ctx context.Context) error) error {
	if err := h.n.limbo.wait(ctx); err != nil {
		return err
	}
	err := do(ctx)
	if err != nil {
		f.settle(h)
	}
	return err
}

// ended is a context that has.
var ended = func() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	return ctx
}()

// settle sees to it that what was given up by a handle is waited for.
func (f *filesystem) settle(h *handle) {
	for _, file := range []*client.File{h.f, h.file(true)} {
		if file.Settled() {
			continue
		}
		over, _ := h.meanwhile(ended, func(ctx context.Context) { _ = file.Settle(ctx) })
		h.n.limbo.add(over)
	}
}
