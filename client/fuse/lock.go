package fuse

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// # Locks
//
// POSIX locks belong to a process, may be locked over each other, and are unlocked in
// any piece; those of SMB belong to an open, stop others from reading and writing, and
// are unlocked as they were locked. So each file has a table of what processes of this
// machine have locked, and one open by which the union of that is locked on the
// server. Reads and writes of the file go by that open as long as it is there: locks
// are among processes here what POSIX says, and keep others out.
//
// flock(2) does not know of fcntl's locks. It locks a byte beyond all offsets of POSIX,
// which only who mounts by this package looks at.

// lockTable has the locks of one kind on one file.
type lockTable struct {
	op turn // held over changes, but not while somebody waits for a lock

	mu       sync.Mutex
	segments []segment     // guarded by mu
	waiting  chan struct{} // closed when something is unlocked; nil if nobody waits. guarded by mu

	server []serverLock // what is locked on the server; owned by who has op
}

// segment is what an owner has locked, or is about to.
type segment struct {
	owner      uint64
	start, end uint64 // both inclusive
	exclusive  bool
	pid        uint32
}

// serverLock is a range as it was locked.
type serverLock struct {
	start, end uint64
	exclusive  bool
}

// topLock is where locks of POSIX end on the server; what is locked to the end of the
// file ends here. Above are two bytes of ours, below 2^63 as some servers have no others.
const (
	topLock    = 1<<63 - 1024
	flockByte  = 1<<63 - 512 // what flock(2) locks
	appendLock = 1<<63 - 256 // who has it locked may append
)

// remote is who locks on the server: an open of client.File, or a test's.
type remote interface {
	Lock(ctx context.Context, off, length uint64, o client.LockOptions) error
	Unlock(ctx context.Context, off, length uint64) error
}

func (a segment) overlaps(start, end uint64) bool { return a.start <= end && start <= a.end }

// conflict finds what first keeps an owner from a range, nil if nothing does.
func (t *lockTable) conflict(s segment) *segment {
	t.mu.Lock()
	defer t.mu.Unlock()
	var first *segment
	for _, o := range t.segments {
		if o.owner != s.owner && o.overlaps(s.start, s.end) && (o.exclusive || s.exclusive) && (first == nil || o.start < first.start) {
			first = &o
		}
	}
	return first
}

// put replaces what an owner has in a range: by s, or by nothing.
func (t *lockTable) put(s segment, unlock bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []segment
	for _, o := range t.segments {
		if o.owner != s.owner || !o.overlaps(s.start, s.end) {
			out = append(out, o)
			continue
		}
		if o.start < s.start {
			left := o
			left.end = s.start - 1
			out = append(out, left)
		}
		if o.end > s.end {
			right := o
			right.start = s.end + 1
			out = append(out, right)
		}
	}
	if !unlock {
		// Pieces of one kind that touch are one lock.
		out = slices.DeleteFunc(out, func(o segment) bool {
			if o.owner != s.owner || o.exclusive != s.exclusive {
				return false
			}
			left, right := o.end < s.start && o.end+1 == s.start, s.end < o.start && s.end+1 == o.start
			if left {
				s.start = o.start
			}
			if right {
				s.end = o.end
			}
			return left || right
		})
		out = append(out, s)
	}
	t.segments = out
	if t.waiting != nil {
		close(t.waiting)
		t.waiting = nil
	}
}

// has says whether an owner has anything locked.
func (t *lockTable) has(owner uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.segments, func(s segment) bool { return s.owner == owner })
}

// changes returns a channel that is closed with the next change.
func (t *lockTable) changes() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil {
		t.waiting = make(chan struct{})
	}
	return t.waiting
}

// maxLocks bounds what one file has.
const maxLocks = 1 << 16

// aside calls do with a context that outlives ctx, and may return before do does when ctx
// has ended: filesystem.meanwhile.
type aside func(ctx context.Context, do func(ctx context.Context)) (over <-chan struct{}, done bool)

// attempt is one to lock a range. What the server is asked for is asked to the end, as the
// table has to know what is locked there; who has given up meanwhile does not get it.
type attempt struct {
	decided atomic.Bool // it has come to its end, or was given up
	gap     *serverLock
	err     error
}

// try makes an attempt.
func (t *lockTable) try(ctx context.Context, r remote, s segment, a *attempt) {
	if err := t.op.lock(ctx); err != nil {
		a.err = err
		a.decided.Store(true)
		return
	}
	defer t.op.unlock()
	a.err = syscall.EAGAIN
	if t.conflict(s) == nil {
		a.gap, a.err = t.take(ctx, r, s)
	}
	if a.err == nil && len(t.segments) >= maxLocks {
		a.err = syscall.ENOLCK
	}
	if a.decided.CompareAndSwap(false, true) && a.err == nil {
		t.put(s, false)
	}
	t.settle(ctx, r)
}

// lock locks a range for an owner; EAGAIN if somebody else has it, and with wait only
// when ctx has ended.
func (t *lockTable) lock(ctx context.Context, meanwhile aside, r remote, s segment, wait bool) error {
	for {
		changes := t.changes()
		a := new(attempt)
		_, done := meanwhile(ctx, func(ctx context.Context) { t.try(ctx, r, s, a) })
		if !done && a.decided.CompareAndSwap(false, true) {
			return syscall.EINTR
		}
		gap, err := a.gap, a.err
		if err == nil || !wait || !errors.Is(err, syscall.EAGAIN) {
			return err
		}
		if gap == nil { // somebody here
			select {
			case <-changes:
			case <-ctx.Done():
				return syscall.EINTR
			}
			continue
		}
		// Somebody elsewhere: when the server gives it to us it is only to begin again,
		// as others here may have come first.
		switch err := r.Lock(ctx, gap.start, gap.end-gap.start+1, client.LockOptions{Shared: !gap.exclusive, Wait: true}); {
		case err == nil:
			_ = t.op.lock(context.Background()) // who has it is asking the server, who is there
			t.server = append(t.server, *gap)
			t.op.unlock()
		case ctx.Err() != nil:
			return syscall.EINTR
		default:
			return err
		}
	}
}

// take locks on the server what a new segment needs beyond what is locked there. If
// that fails all is as it was, and gap is what could not be had. Called with op held.
func (t *lockTable) take(ctx context.Context, r remote, s segment) (gap *serverLock, err error) {
	var released []serverLock
	if s.exclusive {
		// What is shared can't be locked exclusively, not even by who has it.
		for _, l := range t.server {
			if !l.exclusive && l.start <= s.end && s.start <= l.end {
				released = append(released, l)
			}
		}
		for _, l := range released {
			if err := t.shrink(ctx, r, l, s); err != nil {
				return nil, err
			}
		}
	}
	var got []serverLock
	for _, g := range t.gaps(s) {
		if err = r.Lock(ctx, g.start, g.end-g.start+1, client.LockOptions{Shared: !g.exclusive}); err != nil {
			if errors.Is(err, syscall.EAGAIN) {
				gap = &g
			}
			break
		}
		got = append(got, g)
	}
	t.server = append(t.server, got...)
	if err == nil {
		return nil, nil
	}
	for _, g := range got {
		err = errors.Join(err, t.drop(ctx, r, g))
	}
	for _, l := range released { // what others could have taken meanwhile is lost
		for _, g := range t.gaps(segment{start: max(l.start, s.start), end: min(l.end, s.end)}) {
			if lerr := r.Lock(ctx, g.start, g.end-g.start+1, client.LockOptions{Shared: true}); lerr == nil {
				t.server = append(t.server, g)
			}
		}
	}
	if errors.Is(err, syscall.EAGAIN) {
		return gap, syscall.EAGAIN
	}
	return nil, err
}

// shrink takes s out of a shared range of the server: what is left of it is locked
// first. Called with op held.
func (t *lockTable) shrink(ctx context.Context, r remote, l serverLock, s segment) error {
	var rest []serverLock
	if l.start < s.start {
		rest = append(rest, serverLock{l.start, s.start - 1, false})
	}
	if l.end > s.end {
		rest = append(rest, serverLock{s.end + 1, l.end, false})
	}
	for _, p := range rest {
		if err := r.Lock(ctx, p.start, p.end-p.start+1, client.LockOptions{Shared: true}); err != nil {
			return err
		}
		t.server = append(t.server, p)
	}
	return t.drop(ctx, r, l)
}

// drop unlocks a range on the server. Called with op held.
func (t *lockTable) drop(ctx context.Context, r remote, l serverLock) error {
	if i := slices.Index(t.server, l); i >= 0 {
		t.server = slices.Delete(t.server, i, i+1)
	}
	return r.Unlock(ctx, l.start, l.end-l.start+1)
}

// gaps are the parts of a segment that are not locked on the server as it needs.
// Called with op held.
func (t *lockTable) gaps(s segment) []serverLock {
	left := []serverLock{{s.start, s.end, s.exclusive}}
	for _, l := range t.server {
		if s.exclusive && !l.exclusive {
			continue
		}
		left = subtract(left, l.start, l.end)
	}
	return left
}

// subtract takes a range out of others.
func subtract(from []serverLock, start, end uint64) []serverLock {
	var out []serverLock
	for _, p := range from {
		if p.end < start || end < p.start {
			out = append(out, p)
			continue
		}
		if p.start < start {
			out = append(out, serverLock{p.start, start - 1, p.exclusive})
		}
		if p.end > end {
			out = append(out, serverLock{end + 1, p.end, p.exclusive})
		}
	}
	return out
}

// needed are the parts of a range of the server that somebody here has locked, in
// order: exclusively, or at least shared.
func (t *lockTable) needed(l serverLock, exclusive bool) []serverLock {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := []serverLock{{l.start, l.end, exclusive}}
	for _, s := range t.segments {
		if s.exclusive || !exclusive {
			left = subtract(left, s.start, s.end)
		}
	}
	// What is left is not needed; the rest is.
	out := []serverLock{{l.start, l.end, exclusive}}
	for _, p := range left {
		out = subtract(out, p.start, p.end)
	}
	return out
}

// settle unlocks on the server what nobody here has locked any more. A part of an
// exclusive range is unlocked with the whole, and the rest locked again: between the
// two another client may get it, which SMB does not prevent.
func (t *lockTable) settle(ctx context.Context, r remote) {
	for _, l := range slices.Clone(t.server) {
		keep := t.needed(l, l.exclusive)
		if len(keep) == 1 && keep[0] == l {
			continue
		}
		if l.exclusive {
			_ = t.drop(ctx, r, l) // else it goes with the open
			for _, p := range keep {
				t.again(ctx, r, p)
			}
			for _, p := range t.needed(l, false) {
				for _, g := range t.gaps(segment{start: p.start, end: p.end}) {
					t.again(ctx, r, g)
				}
			}
			continue
		}
		for _, p := range keep {
			t.again(ctx, r, p)
		}
		_ = t.drop(ctx, r, l)
	}
}

// again locks a part of what was locked.
func (t *lockTable) again(ctx context.Context, r remote, p serverLock) {
	if r.Lock(ctx, p.start, p.end-p.start+1, client.LockOptions{Shared: !p.exclusive}) == nil {
		t.server = append(t.server, p)
	}
}

// unlock unlocks what an owner has in a range.
func (t *lockTable) unlock(ctx context.Context, r remote, owner, start, end uint64) {
	if t.op.lock(ctx) != nil {
		return // the mount has ended
	}
	defer t.op.unlock()
	t.put(segment{owner: owner, start: start, end: end}, true)
	t.settle(ctx, r)
}

// reset forgets everything: the open that has the locks is closed.
func (t *lockTable) reset() {
	_ = t.op.lock(context.Background()) // it was the last open, whose calls are over
	defer t.op.unlock()
	t.server = nil
	t.mu.Lock()
	defer t.mu.Unlock()
	t.segments = nil
}

// past calls do, which writes to a range by the open that locks. What is locked shared
// nobody may write to on SMB, not even who has it locked ([MS-FSA] 2.1.4.10), and POSIX
// lets everybody: it is unlocked meanwhile. Nobody else has the file open where there is a
// lease to write; else another client may get the range in between, and keeps it.
func (t *lockTable) past(ctx context.Context, r remote, start, end uint64, do func() error) error {
	if err := t.op.lock(ctx); err != nil {
		return err
	}
	defer t.op.unlock()
	var off []serverLock
	for _, l := range slices.Clone(t.server) {
		if !l.exclusive && l.start <= end && start <= l.end {
			_ = t.drop(ctx, r, l) // else it goes with the open
			off = append(off, l)
		}
	}
	err := do()
	for _, l := range off {
		t.again(ctx, r, l)
	}
	return err
}

// blocking says what would keep an owner from a range, nil if nothing does. Of a lock
// of another client only its kind is known.
func (t *lockTable) blocking(ctx context.Context, r remote, s segment) (*segment, error) {
	if c := t.conflict(s); c != nil {
		return c, nil
	}
	if err := t.op.lock(ctx); err != nil {
		return nil, err
	}
	defer t.op.unlock()
	for _, exclusive := range []bool{s.exclusive, false} {
		try := s
		try.exclusive = exclusive
		for _, g := range t.gaps(try) {
			err := r.Lock(ctx, g.start, g.end-g.start+1, client.LockOptions{Shared: !g.exclusive})
			if err == nil {
				_ = r.Unlock(ctx, g.start, g.end-g.start+1) // else it goes with the open
				continue
			}
			if !errors.Is(err, syscall.EAGAIN) {
				return nil, err
			}
			if !exclusive {
				return &segment{start: g.start, end: g.end, exclusive: true}, nil
			}
		}
		if !s.exclusive {
			return nil, nil
		}
		if exclusive && len(t.gaps(try)) == 0 {
			return nil, nil
		}
	}
	return nil, nil
}

// nobodyElse is a remote that has no one to keep out.
type nobodyElse struct{}

// Lock implements remote.
func (nobodyElse) Lock(context.Context, uint64, uint64, client.LockOptions) error { return nil }

// Unlock implements remote.
func (nobodyElse) Unlock(context.Context, uint64, uint64) error { return nil }

// lockFile is the open by which a file is locked.
type lockFile struct {
	remote
	f             *client.File // nil where remote is nobodyElse
	at            link         // as handle.at. guarded by inode.mu
	reads, writes bool
}

// lockOn returns it, and opens it if need be. The caller holds a reference of h.
func (f *filesystem) lockOn(ctx context.Context, h *handle) (*lockFile, error) {
	n := h.n
	if err := n.lockOpen.lock(ctx); err != nil {
		return nil, err
	}
	defer n.lockOpen.unlock()
	if l := n.lockFile.Load(); l != nil {
		return l, nil
	}
	if _, named := f.t.path(n); !named {
		// Nobody else can open it any more, and so the lock need not leave this machine.
		l := &lockFile{remote: nobodyElse{}}
		n.lockFile.Store(l)
		return l, nil
	}
	for _, access := range []client.Access{accessRead | accessWrite, accessRead, accessWrite} {
		file, at, err := f.openFile(ctx, n, access)
		if errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l := &lockFile{remote: file, f: file, at: at, reads: access&client.AccessReadData != 0, writes: access&client.AccessWriteData != 0}
		n.lockFile.Store(l)
		return l, nil
	}
	return nil, syscall.EACCES
}

// file is the open by which a handle reads or writes.
func (h *handle) file(write bool) *client.File {
	if l := h.n.lockFile.Load(); l != nil && (write && l.writes || !write && l.reads) {
		return l.f
	}
	return h.f
}

// lockRequest is what a request of the kernel's is about.
func (n *inode) lockRequest(in *gofuse.LkIn) (*lockTable, segment) {
	s := segment{owner: in.Owner, start: in.Lk.Start, end: in.Lk.End, exclusive: in.Lk.Typ == syscall.F_WRLCK, pid: in.Lk.Pid}
	if in.LkFlags&gofuse.LK_FLOCK != 0 {
		s.start, s.end = flockByte, flockByte
		return &n.flocks, s
	}
	s.start, s.end = min(s.start, topLock-1), min(s.end, topLock-1)
	return &n.locks, s
}

// GetLk implements fcntl(2) with F_GETLK.
func (f *filesystem) GetLk(cancel <-chan struct{}, in *gofuse.LkIn, out *gofuse.LkOut) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	h := f.handle(in.Fh)
	if h == nil {
		return gofuse.EBADF
	}
	defer h.leave(ctx)
	l, err := f.lockOn(ctx, h)
	if err != nil {
		return status(err)
	}
	t, s := h.n.lockRequest(in)
	var c *segment
	// What is locked to see is unlocked again.
	if _, done := h.meanwhile(ctx, func(ctx context.Context) { c, err = t.blocking(ctx, l, s) }); !done {
		return gofuse.EINTR
	}
	if err != nil {
		return status(err)
	}
	if c == nil {
		out.Lk = gofuse.FileLock{Typ: syscall.F_UNLCK}
		return gofuse.OK
	}
	out.Lk = gofuse.FileLock{Start: c.start, End: c.end, Typ: syscall.F_RDLCK, Pid: c.pid}
	if c.end >= topLock-1 {
		out.Lk.End = 1<<63 - 1 // the end of the file, wherever that is
	}
	if c.exclusive {
		out.Lk.Typ = syscall.F_WRLCK
	}
	return gofuse.OK
}

// SetLk implements fcntl(2) with F_SETLK, and flock(2) with LOCK_NB.
func (f *filesystem) SetLk(cancel <-chan struct{}, in *gofuse.LkIn) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	return status(f.setLock(ctx, in, false))
}

// SetLkw is SetLk that waits, until the caller gets a signal.
func (f *filesystem) SetLkw(cancel <-chan struct{}, in *gofuse.LkIn) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	ctx.anySignal.Store(true)
	return status(f.setLock(ctx, in, true))
}

func (f *filesystem) setLock(ctx context.Context, in *gofuse.LkIn, wait bool) error {
	h := f.handle(in.Fh)
	if h == nil {
		return syscall.EBADF
	}
	defer h.leave(ctx)
	l, err := f.lockOn(ctx, h)
	if err != nil {
		return err
	}
	t, s := h.n.lockRequest(in)
	if in.Lk.Typ == syscall.F_UNLCK {
		return f.unlock(ctx, h, t, l, s)
	}
	if err := t.lock(ctx, h.meanwhile, l, s, wait); err != nil {
		if t == &h.n.flocks && errors.Is(err, syscall.EAGAIN) {
			return errors.Join(err, f.unlock(ctx, h, t, l, s)) // flock(2): what could not be changed is lost
		}
		return err
	}
	if _, _, _, leased := h.n.versionOf(); !leased {
		// Who had it locked before may have written.
		f.kernel.InodeNotify(h.n.id, 0, 0)
	}
	return nil
}

// unlock unlocks a range; EINTR if that is still under way as the request is over.
func (f *filesystem) unlock(ctx context.Context, h *handle, t *lockTable, l *lockFile, s segment) error {
	if _, done := h.meanwhile(ctx, func(ctx context.Context) { t.unlock(ctx, l, s.owner, s.start, s.end) }); !done {
		return context.Cause(ctx)
	}
	return nil
}

// unlockAll unlocks what an owner has, when it closes the file. It may go on when ctx has
// ended.
func (h *handle) unlockAll(ctx context.Context, t *lockTable, owner uint64) {
	l := h.n.lockFile.Load()
	if l == nil || !t.has(owner) {
		return
	}
	_ = h.fs.unlock(ctx, h, t, l, segment{owner: owner, end: 1<<64 - 1})
}
