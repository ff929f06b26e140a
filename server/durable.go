package server

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// # Opens that outlive their connection
//
// An open that is durable, resilient or persistent is not closed when its session
// ends: it goes into the server's durableTable, detached, with its locks, share modes,
// oplock or lease, until its client comes again and claims it ([creation.reconnect]),
// until its time is over, or until somebody else wants to have the file and there is
// nobody to be asked to give way ([open.yields]).
//
// Who claims a detached open, by taking it out of the table, may hand it to another
// session: when nobody else has a reference, so that what is under way on it from its
// old session has ended. Others may close it as any open.
//
// All of this is in memory: persistent opens outlive connections whatever becomes of
// their oplock or lease, and are there for nobody else meanwhile, but do not outlive the
// server.

// durableKind is how an open was asked to outlive its connection.
type durableKind uint8

const (
	notDurable durableKind = iota
	durableV1              // Open.IsDurable, by [MS-SMB2] 3.3.5.9.6
	durableV2              // Open.IsDurable, by 3.3.5.9.10
	resilient              // Open.IsResilient, by 3.3.5.15.9
)

// durability is what an open knows about outliving its connection.
type durability struct {
	// Set by CREATE before the open can be found.
	client     smb2.GUID // Open.ClientGuid
	createGUID smb2.GUID // Open.CreateGuid; zero without one
	app        appInstance
	asked      createParameters
	// persistent is Open.IsPersistent. Set by CREATE, with openTable.mu held, before the
	// open can be found by its session.
	persistent bool

	// detached is set while no session has the open. It changes with openTable.mu
	// held, together with the open's sess, tree and id.
	detached atomic.Bool

	// guarded by durableTable.mu
	kind     durableKind
	owner    string        // Open.DurableOwner: userKey of who opened it, once it is durable; empty for nobody in particular
	timeout  time.Duration // DurableOpenTimeout, ResiliencyTimeout
	deadline time.Time     // while it is detached
	place    int           // in durableTable.queue

	// storage is the tree by which the file was opened, once that has ended: what it
	// holds is not given back before the open is closed.
	storage atomic.Pointer[tree]

	quiet atomic.Pointer[chan struct{}] // see awaitQuiet
}

// Timeouts of durable opens.
const (
	// durableV1Timeout is what [MS-SMB2] 3.3.5.9.6 leaves to the server, as on Windows.
	durableV1Timeout = 2 * time.Minute
	// durableV2Timeout is for clients that leave it to the server, 3.3.5.9.10.
	durableV2Timeout = time.Minute
	// resilientTimeout likewise, 3.3.5.15.9.
	resilientTimeout = 2 * time.Minute
	// reclaimGrace is how long a client that comes again waits for what its old
	// connection has left under way on the open.
	reclaimGrace = 5 * time.Second
)

// durableTable holds the opens that are detached: of GlobalOpenTable what no
// Session.OpenTable has.
type durableTable struct {
	mu sync.Mutex
	// guarded by mu
	opens  map[uint64]*open // by FileId.Persistent
	queue  expiryQueue      // the same, by deadline
	users  map[string]int   // how many each owner has
	closed bool             // no more

	// wake tells the scavenger that the first deadline has changed; made by New.
	wake chan struct{}
}

// expiryQueue is a heap of opens by their deadlines.
type expiryQueue []*open

func (q expiryQueue) Len() int           { return len(q) }
func (q expiryQueue) Less(i, j int) bool { return q[i].durable.deadline.Before(q[j].durable.deadline) }
func (q expiryQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].durable.place, q[j].durable.place = i, j
}
func (q *expiryQueue) Push(x any) {
	o := x.(*open)
	o.durable.place = len(*q)
	*q = append(*q, o)
}
func (q *expiryQueue) Pop() any {
	last := len(*q) - 1
	o := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return o
}

// addLocked enters an open, if there is room for it. The table takes over the
// reference of the openSet that the open has left.
func (t *durableTable) addLocked(o *open, deadline time.Time, limits *Limits) bool {
	d := &o.durable
	if t.closed || len(t.opens) >= limits.DurableOpens || t.users[d.owner] >= limits.DurableOpensPerUser {
		return false
	}
	if _, taken := t.opens[o.id.Persistent]; taken {
		return false
	}
	if t.opens == nil {
		t.opens, t.users = make(map[uint64]*open), make(map[string]int)
	}
	t.opens[o.id.Persistent] = o
	t.users[d.owner]++
	d.deadline = deadline
	heap.Push(&t.queue, o)
	if t.queue[0] == o {
		select {
		case t.wake <- struct{}{}:
		default: // it has not heard of the one before yet
		}
	}
	return true
}

// takeLocked takes an open out; false if it is not there.
func (t *durableTable) takeLocked(o *open) bool {
	if t.opens[o.id.Persistent] != o {
		return false
	}
	delete(t.opens, o.id.Persistent)
	if t.users[o.durable.owner]--; t.users[o.durable.owner] == 0 {
		delete(t.users, o.durable.owner)
	}
	heap.Remove(&t.queue, o.durable.place)
	return true
}

// claimLocked takes an open out for the caller, with a reference for it beside the
// table's.
func (t *durableTable) claimLocked(o *open) bool {
	if !t.takeLocked(o) {
		return false
	}
	o.refs.Add(1)
	return true
}

// claim claims the open that has the id; nil if there is none. The caller attaches,
// restores or closes it.
func (t *durableTable) claim(persistent uint64) *open {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.opens[persistent]
	if o == nil || !t.claimLocked(o) {
		return nil
	}
	return o
}

// claimPersistent claims the persistent open that was created with the CreateGuid,
// [MS-SMB2] 3.3.5.9.12; nil if there is none.
func (t *durableTable) claimPersistent(guid smb2.GUID) *open {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.opens {
		if o.durable.persistent && o.durable.createGUID == guid && t.claimLocked(o) {
			return o
		}
	}
	return nil
}

// claimDue claims the open whose time has been over for longest, or with anyOpen the
// one whose time is over first. If there is none next is how long that will be so.
func (t *durableTable) claimDue(now time.Time, anyOpen bool) (o *open, next time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		return nil, time.Hour
	}
	first := t.queue[0]
	if left := first.durable.deadline.Sub(now); left > 0 && !anyOpen {
		return nil, left
	}
	t.claimLocked(first)
	return first, 0
}

// restore puts an open back that was claimed for nothing, and closes it if the table
// has been closed or filled meanwhile, or its lock or lease is not what it was.
func (s *Server) restore(o *open) {
	defer o.release()
	t := &s.durables
	t.mu.Lock()
	kept := t.addLocked(o, o.durable.deadline, &s.cfg.Limits)
	t.mu.Unlock()
	if !kept {
		o.shut(context.Background())
		return
	}
	o.checkDetached()
}

// forget takes an open out that is being closed.
func (t *durableTable) forget(o *open) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.takeLocked(o)
}

// len is the number of detached opens.
func (t *durableTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.opens)
}

// outlives reports whether the open is to be kept while no session has it, by the rules
// of [MS-SMB2] 3.3.7.1. ending says that its session ends now: if its oplock or lease is
// being broken then, it is not kept for that.
func (o *open) outlives(ending bool) bool {
	o.srv.durables.mu.Lock()
	kind, owner := o.durable.kind, o.durable.owner
	o.srv.durables.mu.Unlock()
	switch {
	case kind == notDurable, owner == "":
		return false
	case o.durable.persistent, kind == resilient:
		return true
	}
	return o.cachesHandle() && !(ending && o.isBreaking())
}

// isDurable reports whether the open is durable, resilient or persistent.
func (o *open) isDurable() bool {
	if o.durable.persistent {
		return true
	}
	o.srv.durables.mu.Lock()
	defer o.srv.durables.mu.Unlock()
	return o.durable.kind != notDurable
}

// detach keeps an open whose session has ended, if it is to be kept; false leaves it to
// the caller to close it. The caller has a reference; that of the openSet goes to the
// table. An open that the session does not have any more is for who has taken it out:
// it is being closed, or has been detached, and may be somebody else's by now.
func (s *Server) detach(o *open) bool {
	if !o.outlives(true) {
		return false
	}
	d, t := &o.durable, &s.durables
	there, gone := o.sess.opens.remove(o)
	defer gone()
	if !there {
		return true
	}
	if d.storage.Load() == nil {
		o.tree.hold()
		d.storage.Store(o.tree)
	}
	s.files.mu.Lock()
	t.mu.Lock()
	kept := t.addLocked(o, time.Now().Add(d.timeout), &s.cfg.Limits)
	if kept {
		d.detached.Store(true)
	}
	t.mu.Unlock()
	s.files.mu.Unlock()
	if !kept {
		return false
	}
	o.checkDetached()
	return true
}

// checkDetached is called when an open has been entered in the table, with a
// reference: it closes the open if what made it worth keeping was lost before others
// could see that it is detached, and takes it out if it has been closed.
func (o *open) checkDetached() {
	select {
	case <-o.closing:
		o.srv.durables.forget(o)
		o.durable.letStorage()
		return
	default:
	}
	if !o.outlives(false) {
		o.shut(context.Background())
	}
}

// letStorage gives up the tree of an open that is closed.
func (d *durability) letStorage() {
	if t := d.storage.Swap(nil); t != nil {
		t.drop()
	}
}

// yields reports whether the open is closed when its oplock or lease would have to be
// broken: its client is gone and cannot be told ([MS-SMB2] 3.3.4.6, 3.3.4.7).
// Resilient and persistent opens stay until their time is over. Called with
// openTable.mu held.
func (o *open) yields() bool {
	if o.durable.persistent || !o.durable.detached.Load() && !o.sess.cut.Load() {
		return false
	}
	o.srv.durables.mu.Lock()
	defer o.srv.durables.mu.Unlock()
	return o.durable.kind != resilient
}

// evict closes detached opens and drops the caller's reference to each, which was
// acquired with openTable.mu or durableTable.mu held when it was known to be detached:
// so none is handed to its client in between. The caller holds no lock.
func evict(opens []*open) {
	for _, o := range opens {
		o.putAway("closing files left behind")
	}
}

// claimedRefs are the references of a claimed open that nobody else uses: the table's
// and the claim's.
const claimedRefs = 2

// awaitQuiet waits until nobody uses the open but the one who has claimed it: until
// what its old session had under way has ended. It returns with openTable.mu held, so
// that nobody acquires the open.
func (o *open) awaitQuiet(ctx context.Context, grace time.Duration) bool {
	wake := make(chan struct{}, 1)
	o.durable.quiet.Store(&wake)
	defer o.durable.quiet.Store(nil)
	limit := time.NewTimer(grace)
	defer limit.Stop()
	for {
		o.srv.files.mu.Lock()
		if o.refs.Load() == claimedRefs {
			return true
		}
		o.srv.files.mu.Unlock()
		select {
		case <-wake:
		case <-limit.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// released wakes the one who waits for an open to be quiet.
func (d *durability) released() {
	if c := d.quiet.Load(); c != nil {
		select {
		case *c <- struct{}{}:
		default:
		}
	}
}

// hasPersistent reports whether the server has shares with persistent opens.
func (s *Server) hasPersistent() bool {
	if s.cfg.MaxDurableTimeout < 0 {
		return false
	}
	for _, sh := range s.live.Load().shares {
		if sh.ContinuousAvailability {
			return true
		}
	}
	return false
}

// runScavenger closes detached opens whose time is over: the timers of [MS-SMB2]
// 3.3.2.2 and 3.3.2.4.
func (s *Server) runScavenger() {
	defer s.wg.Done()
	t := &s.durables
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		o, next := t.claimDue(time.Now(), false)
		if o != nil {
			s.log.Debug("open not reclaimed in time", "file", o.path(), "user", o.durable.owner)
			o.putAway("closing files left behind")
			continue
		}
		timer.Reset(next)
		select {
		case <-s.ctx.Done():
			return
		case <-t.wake:
		case <-timer.C:
		}
	}
}

// refuse makes the table take no more opens.
func (t *durableTable) refuse() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
}

// closeDetached closes all detached opens, when there is nobody left who could claim one.
func (s *Server) closeDetached() {
	s.durables.refuse()
	for s.closeOldest() {
	}
}

// closeOldest closes the detached open whose time is over first, for want of resources;
// false if there is none.
func (s *Server) closeOldest() bool {
	o, _ := s.durables.claimDue(time.Time{}, true)
	if o == nil {
		return false
	}
	o.putAway("closing files left behind")
	return true
}

// some returns detached opens for which f says so, each with a reference: with that
// none is handed to a session.
func (t *durableTable) some(f func(*open) bool) []*open {
	t.mu.Lock()
	defer t.mu.Unlock()
	var opens []*open
	for _, o := range t.opens {
		if f(o) && o.acquire() {
			opens = append(opens, o)
		}
	}
	return opens
}

// closeDetachedOf closes the detached opens of shares for which gone says so.
func (s *Server) closeDetachedOf(gone func(share string) bool, closing *sync.WaitGroup) {
	var names []string
	opens := s.durables.some(func(o *open) bool {
		of := o.durable.storage.Load() // nil of one that is being closed
		if of == nil || !gone(of.share.Name) {
			return false
		}
		names = append(names, of.share.Name)
		return true
	})
	for i, o := range opens {
		s.closeOpensAside(names[i], []*open{o}, nil, closing)
	}
}

// durableStatus says how the open outlives its connection, for [OpenStatus]: "" if it
// does not.
func (o *open) durableStatus() string {
	if o.durable.persistent {
		return "persistent"
	}
	o.srv.durables.mu.Lock()
	defer o.srv.durables.mu.Unlock()
	switch o.durable.kind {
	case durableV1, durableV2:
		return "durable"
	case resilient:
		return "resilient"
	}
	return ""
}
