package fuse

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// # Caching
//
// Each file has a lease, which all its opens here ask for ([MS-SMB2] 3.2.4.3.8). While
// it has the right to read, the kernel's pages and attributes of the file are what the
// server has, and when it goes they are taken away before the server hears that they
// are. With the right to handles a file that is closed here stays open on the server
// for a while, so that the next open asks nobody. A directory that was listed to its
// end under a lease answers for the names in it, also for those that are not there.
//
// Of what local processes on a server do leases do not know. So what is believed
// because of a lease is asked for again after some seconds, too.
//
// Without a lease pages are not kept: reads and writes go to the server, or where a
// lease was lost with the file open, the kernel asks for the time of modification
// before each read.

const (
	// idleTime is how long a file stays open on the server that is closed here.
	idleTime = 3 * time.Second
	// maxIdle is how many such files there are.
	maxIdle = 512
	// maxListings and maxListed bound the listings that are kept, and what is in one.
	maxListings = 512
	maxListed   = 65536
	// settledTime is how long a file must not have changed for its time of modification
	// to tell it from what it becomes: clocks of file systems tick slowly.
	settledTime = 2 * time.Second
)

// listingTime is how long a listing is believed. Tests have more of it, as they know nothing
// of what else keeps the machine busy.
var listingTime = 5 * time.Second

// notifier is what the kernel is told by: go-fuse's Server.
type notifier interface {
	InodeNotify(node uint64, off int64, length int64) gofuse.Status
	EntryNotify(parent uint64, name string) gofuse.Status
}

// silent is a notifier before there is a kernel.
type silent struct{}

func (silent) InodeNotify(uint64, int64, int64) gofuse.Status { return gofuse.OK }
func (silent) EntryNotify(uint64, string) gofuse.Status       { return gofuse.OK }

// cache is what is kept of an inode.
type cache struct {
	lease *client.Lease // nil if none is asked for. guarded by inode.mu

	known *knownInfo // guarded by inode.mu
	// version is that of the file: it changes with each change made here, so that an
	// answer that was under way meanwhile is not kept. guarded by inode.mu
	version uint64

	// pages is what the file was when the kernel's pages of it were last known to be the
	// server's, nil if there are none; kept says that a lease has had the right to read
	// since. Both guarded by inode.mu
	pages *client.FileInfo
	kept  bool

	listing *listing // of a directory. guarded by inode.mu
	long    bool     // more than aheadEntries were in it when it was last listed. guarded by inode.mu
	idle    []*handle
}

// knownInfo is what the server said of a file under a lease.
type knownInfo struct {
	fi         *client.FileInfo
	generation uint64
	at         time.Time
}

// listing is a directory that was listed to its end under a lease.
type listing struct {
	file       *client.File // keeps the lease
	lease      *client.Lease
	generation uint64
	at         time.Time

	mu     sync.Mutex
	order  []dirEntry     // whose fi is nil where it is not known any more. guarded by mu
	byName map[string]int // index in order, by the server's name
	folded map[string]bool
}

// leaseOf is the lease of an inode, nil if none is asked for.
func (f *filesystem) leaseOf(n *inode) *client.Lease {
	if !f.leases || n.kind != syscall.S_IFREG && n.kind != syscall.S_IFDIR {
		return nil
	}
	n.mu.Lock()
	l := n.cache.lease
	n.mu.Unlock()
	if l != nil {
		return l
	}
	var above *client.Lease
	if n.kind == syscall.S_IFREG {
		if dir := f.t.above(n); dir != n {
			above = f.leaseOf(dir)
		}
	}
	l, of := f.newLease(n.kind, above)
	of.Store(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cache.lease == nil {
		n.cache.lease = l
	}
	return n.cache.lease
}

// newLease makes a lease. Whose it is may be found out later: until then breaks of it
// have nothing to take back.
func (f *filesystem) newLease(kind uint32, above *client.Lease) (l *client.Lease, of *atomic.Pointer[inode]) {
	want := client.LeaseRead | client.LeaseHandle
	if kind == syscall.S_IFREG {
		want |= client.LeaseWrite
	}
	of = new(atomic.Pointer[inode])
	return f.sh.NewLease(client.LeaseOptions{Want: want, Parent: above, OnBreak: func(_ context.Context, b client.LeaseBreak) client.LeaseState {
		if n := of.Load(); n != nil {
			f.broken(n, b)
		}
		return b.To
	}}), of
}

// adopt gives an inode the lease that it was created with, unless it has another one.
func (n *inode) adopt(l *client.Lease, of *atomic.Pointer[inode]) {
	if l == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cache.lease == nil {
		n.cache.lease = l
		of.Store(n)
	}
}

// awaitAppend waits for the append that is under way, if one is.
func (n *inode) awaitAppend(ctx context.Context) {
	if n.appending.lock(ctx) == nil {
		n.appending.unlock()
	}
}

// broken takes back what a lease has allowed.
func (f *filesystem) broken(n *inode, b client.LeaseBreak) {
	gone := b.From &^ b.To
	if n.kind == syscall.S_IFDIR {
		if gone != 0 || b.Lost {
			f.dropListing(n, true)
		}
		return
	}
	if gone&client.LeaseHandle != 0 || b.Lost {
		f.closeIdle(n)
	}
	if gone&client.LeaseWrite != 0 {
		n.awaitAppend(f.ctx) // who appends thinks that nobody else does
	}
	if gone&client.LeaseRead != 0 || b.Lost || gone&client.LeaseWrite != 0 && f.cfg.Writeback {
		n.mu.Lock()
		n.cache.known, n.cache.kept = nil, false
		n.mu.Unlock()
		// Also writes what the kernel has kept back.
		f.kernel.InodeNotify(n.id, 0, 0)
	}
}

// valid says whether a lease has a right, and has had it since generation.
func valid(l *client.Lease, right client.LeaseState, generation uint64) bool {
	return l != nil && l.State()&right == right && l.Generation() == generation
}

// versionOf is what the answer to a question that is asked now will be about.
func (n *inode) versionOf() (version uint64, l *client.Lease, generation uint64, leased bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l = n.cache.lease
	if l != nil {
		generation, leased = l.Generation(), l.State()&client.LeaseRead != 0
	}
	return n.cache.version, l, generation, leased
}

// learn keeps what the server has said, if that is still so.
func (n *inode) learn(fi *client.FileInfo, version, generation uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cache.version == version && valid(n.cache.lease, client.LeaseRead, generation) {
		n.cache.known = &knownInfo{fi: fi, generation: generation, at: time.Now()}
	}
}

// remembered is what is known of an inode without asking, nil if nothing is.
func (f *filesystem) remembered(n *inode) *client.FileInfo {
	n.mu.Lock()
	k := n.cache.known
	if k != nil && valid(n.cache.lease, client.LeaseRead, k.generation) && time.Since(k.at) <= f.cfg.AttrTimeout {
		n.mu.Unlock()
		return k.fi
	}
	open := len(n.opens) > 0
	n.mu.Unlock()
	if open && n.kind == syscall.S_IFREG {
		return nil // listings know of what is written when it is closed
	}
	dir, name, ok := f.t.newest(n)
	if !ok {
		return nil
	}
	fi, _ := f.listed(dir, name)
	return fi
}

// listed looks for a name in what is known of a directory: what is there, nil if that is
// not known, and whether it is known that nothing is.
func (f *filesystem) listed(dir *inode, name string) (fi *client.FileInfo, absent bool) {
	dir.mu.Lock()
	l := dir.cache.listing
	dir.mu.Unlock()
	if !l.valid() {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.byName[name]
	if !ok {
		return nil, l.folded == nil || !l.folded[strings.ToLower(name)]
	}
	fi = l.order[i].fi
	if fi != nil && f.t.outdated(link{dir, name}, fi, l.at) {
		return nil, false
	}
	return fi, false
}

func (l *listing) valid() bool {
	return l != nil && valid(l.lease, client.LeaseRead, l.generation) && time.Since(l.at) <= listingTime
}

// changed notes that this mount has changed a file: what is known of it is not so any
// more.
func (f *filesystem) changed(n *inode) {
	n.mu.Lock()
	n.cache.version++
	n.cache.known = nil
	n.mu.Unlock()
	n.changedAt.Store(time.Now().UnixNano())
	f.unlist(n)
}

// unlist forgets what listings say of a file.
func (f *filesystem) unlist(n *inode) {
	if f.listings.Load() == 0 {
		return
	}
	for _, at := range f.t.names(n) {
		at.parent.mu.Lock()
		l := at.parent.cache.listing
		at.parent.mu.Unlock()
		if l == nil {
			continue
		}
		l.mu.Lock()
		if i, ok := l.byName[at.name]; ok {
			l.order[i].fi = nil
		}
		l.mu.Unlock()
	}
}

// dirChanged notes that this mount has changed names in a directory.
func (f *filesystem) dirChanged(dirs ...*inode) {
	for _, n := range dirs {
		n.mu.Lock()
		n.cache.version++
		n.cache.known = nil
		n.mu.Unlock()
		n.touched()
		n.changedAt.Store(time.Now().UnixNano()) // its time of modification
		f.dropListing(n, false)
		f.unlist(n)
	}
}

// keepListing has a directory answer from a listing. It owns the listing's open.
func (f *filesystem) keepListing(n *inode, l *listing, version uint64) bool {
	if !f.posix {
		l.folded = make(map[string]bool, len(l.order))
	}
	l.byName = make(map[string]int, len(l.order))
	for i, e := range l.order {
		l.byName[e.wire] = i
		if l.folded != nil {
			l.folded[strings.ToLower(e.wire)] = true
		}
	}
	n.mu.Lock()
	if n.cache.version != version || !l.valid() || n.cache.listing != nil {
		n.mu.Unlock()
		return false
	}
	n.cache.listing = l
	n.mu.Unlock()
	f.listings.Add(1)
	f.mu.Lock()
	f.listedDirs = append(f.listedDirs, n)
	var oldest *inode
	if len(f.listedDirs) > maxListings {
		oldest = f.listedDirs[0]
		f.listedDirs = slices.Delete(f.listedDirs, 0, 1)
	}
	first := len(f.listedDirs) == 1
	f.mu.Unlock()
	if first {
		f.minder.stir()
	}
	if oldest != nil && oldest != n {
		f.dropListing(oldest, false)
	}
	return true
}

// dropListing forgets a listing. If others have changed the directory the kernel has to
// forget the names in it, too, as soon as it can: it may wait for a request of ours that
// waits for the server, which is why that is done by the minder.
func (f *filesystem) dropListing(n *inode, others bool) {
	l, x := f.takeListing(n)
	if l == nil {
		return
	}
	f.mind(func() {
		x.do()
		if !others {
			return
		}
		f.kernel.InodeNotify(n.id, -1, 0)
		l.mu.Lock()
		names := slices.Clone(l.order)
		l.mu.Unlock()
		for _, e := range names {
			f.kernel.EntryNotify(n.id, e.local)
			if child := f.t.at(n, e.wire); child != nil {
				f.kernel.InodeNotify(child.id, -1, 0)
			}
		}
	})
}

// takeListing takes a directory's listing away, nil if it has none. Its open is
// closed by the closing's do.
func (f *filesystem) takeListing(n *inode) (*listing, *closing) {
	n.mu.Lock()
	l := n.cache.listing
	if l == nil {
		n.mu.Unlock()
		return nil, nil
	}
	n.cache.listing = nil
	x := f.closings.later(n, func() { f.shut(l.file) })
	n.mu.Unlock()
	f.listings.Add(-1)
	f.mu.Lock()
	if i := slices.Index(f.listedDirs, n); i >= 0 {
		f.listedDirs = slices.Delete(f.listedDirs, i, i+1)
	}
	f.mu.Unlock()
	return l, x
}

// expire closes the oldest listing if nobody believes it any more, and says whether it did,
// or how long it is until it will.
func (f *filesystem) expire() (done bool, left time.Duration) {
	f.mu.RLock()
	var n *inode
	if len(f.listedDirs) > 0 {
		n = f.listedDirs[0]
	}
	f.mu.RUnlock()
	if n == nil {
		return false, time.Hour
	}
	n.mu.Lock()
	if l := n.cache.listing; l != nil {
		left = listingTime - time.Since(l.at)
	}
	n.mu.Unlock()
	if left > 0 {
		return false, left
	}
	if _, x := f.takeListing(n); x != nil {
		x.do()
		return true, 0
	}
	// It was dropped before it was put there.
	f.mu.Lock()
	if len(f.listedDirs) > 0 && f.listedDirs[0] == n {
		f.listedDirs = slices.Delete(f.listedDirs, 0, 1)
	}
	f.mu.Unlock()
	return true, 0
}

// # Files that stay open

// parkLocked keeps a handle that nobody uses any more, and says whether it does. Called
// with n.mu held.
func (h *handle) parkLocked() bool {
	n, f := h.n, h.fs
	if h.wrote.Load() || h.pinned.Load() || len(n.doomed)+n.pending > 0 || h.f.Lease() == nil || h.f.Lease() != n.cache.lease ||
		h.f.Lease().State()&client.LeaseHandle == 0 || f.ctx.Err() != nil || len(n.cache.idle) > 0 {
		return false
	}
	n.cache.idle = append(n.cache.idle, h)
	h.idleSince = time.Now()
	return true
}

// unpark takes such a handle, if there is one that can do what is asked for.
func (n *inode) unpark(access client.Access) *handle {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, h := range n.cache.idle {
		if h.access&access != access || h.f.Lease().State()&client.LeaseHandle == 0 {
			continue
		}
		n.cache.idle = slices.Delete(n.cache.idle, i, i+1)
		h.refs.Store(1)
		n.opens = append(n.opens, h)
		return h
	}
	return nil
}

// closeIdle closes what stays open of an inode.
func (f *filesystem) closeIdle(n *inode) {
	n.mu.Lock()
	idle := n.cache.idle
	n.cache.idle = nil
	var x *closing
	if len(idle) > 0 { // there is one at most
		x = f.closings.begin(n)
	}
	n.mu.Unlock()
	for _, h := range idle {
		h.close(x, h.f)
	}
}

// closeKept closes everything that is open on the server although nobody here has it
// open, waits for what others are closing, and says whether there was anything. Called while
// nothing new is listed ahead.
func (f *filesystem) closeKept(ctx context.Context) bool {
	ahead := f.aheads.wait(ctx)
	f.minder.mu.Lock()
	idle := f.minder.idle
	f.minder.idle = nil
	f.minder.mu.Unlock()
	for _, p := range idle {
		f.closeIdle(p.h.n)
	}
	f.mu.RLock()
	listed := slices.Clone(f.listedDirs)
	f.mu.RUnlock()
	for _, n := range listed {
		if _, x := f.takeListing(n); x != nil {
			x.do()
		}
	}
	dropped, _ := f.closings.waitFor(ctx, func(*closing) bool { return true })
	return ahead || dropped || len(idle)+len(listed) > 0
}

// minder is the goroutine that does what requests do not wait for: it closes files
// that were idle for long, and tells the kernel what to forget.
type minder struct {
	mu    sync.Mutex
	work  []func()      // guarded by mu
	idle  []parked      // in the order in which they became so. guarded by mu
	wake  chan struct{} // has room for one
	ended chan struct{} // closed when the goroutine has ended
}

// parked is a handle that became idle at a time.
type parked struct {
	h  *handle
	at time.Time
}

// mind has the minder do something.
func (f *filesystem) mind(work func()) {
	m := &f.minder
	m.mu.Lock()
	m.work = append(m.work, work)
	m.mu.Unlock()
	m.stir()
}

func (m *minder) stir() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// watch has the minder close a parked handle in time.
func (f *filesystem) watch(h *handle, at time.Time) {
	m := &f.minder
	m.mu.Lock()
	m.idle = append(m.idle, parked{h, at})
	var oldest parked
	if len(m.idle) > maxIdle {
		oldest = m.idle[0]
		m.idle = slices.Delete(m.idle, 0, 1)
	}
	first := len(m.idle) == 1
	m.mu.Unlock()
	if oldest.h != nil {
		f.closeParked(oldest)
	}
	if first {
		m.stir()
	}
}

// closeParked closes a handle if it has been parked since then.
func (f *filesystem) closeParked(p parked) {
	n := p.h.n
	n.mu.Lock()
	i := slices.Index(n.cache.idle, p.h)
	if i < 0 || p.h.idleSince.After(p.at) {
		n.mu.Unlock()
		return
	}
	n.cache.idle = slices.Delete(n.cache.idle, i, i+1)
	x := f.closings.begin(n)
	n.mu.Unlock()
	p.h.close(x, p.h.f)
}

// minding is the minder's goroutine. It ends with the file system's context, when all
// that it was to do is done.
func (f *filesystem) minding() {
	m := &f.minder
	defer close(m.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		m.mu.Lock()
		work := m.work
		m.work = nil
		var due []parked
		now := time.Now()
		next := time.Hour
		for len(m.idle) > 0 {
			left := idleTime - now.Sub(m.idle[0].at)
			if left > 0 && f.ctx.Err() == nil {
				next = left
				break
			}
			due = append(due, m.idle[0])
			m.idle = m.idle[1:]
		}
		m.mu.Unlock()
		for _, w := range work {
			w()
		}
		for _, p := range due {
			f.closeParked(p)
		}
		if len(work) > 0 {
			continue
		}
		if f.ctx.Err() != nil {
			return
		}
		expired, left := f.expire()
		if expired {
			continue
		}
		timer.Reset(min(next, left))
		select {
		case <-m.wake:
		case <-timer.C:
		case <-f.ctx.Done():
		}
	}
}

// # Pages

// keepsPages decides on an open whether the kernel's pages are still what the server
// has, and whether it may have any. fi is what the file is now.
func (f *filesystem) keepsPages(h *handle, fi *client.FileInfo) (keep, direct bool) {
	n := h.n
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &n.cache
	l := h.f.Lease()
	leased := l != nil && l == c.lease && l.State()&client.LeaseRead != 0
	if !f.leases && f.cfg.Cache == CacheStrict {
		// As with cifs.ko without leases: pages live from an open to the next.
		return fi != nil && c.pages != nil && unchanged(c.pages, fi), false
	}
	if f.cfg.Cache == CacheNone || !leased && f.cfg.Cache != CacheLoose {
		c.pages = nil
		return false, true
	}
	switch {
	case c.pages == nil: // there are none
	case leased && c.kept: // whatever other right has gone and come back
		return true, false
	case fi != nil && unchanged(c.pages, fi):
		keep = true
	}
	c.pages, c.kept = fi, leased
	return keep, false
}

// unchanged says whether two descriptions are of the same content.
func unchanged(a, b *client.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.ChangeTime().Equal(b.ChangeTime()) &&
		time.Since(a.ChangeTime()) > settledTime && !a.ChangeTime().IsZero()
}
