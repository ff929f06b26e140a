package server

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// # Breaks
//
// Who takes caching rights away changes the table at once and collects the
// notifications, which are sent when the table's lock is free again. Each connection
// has a queue of them and, while there are some, a goroutine that sends: a client that
// reads nothing holds up nobody but itself. A notification that one connection does
// not take goes by another of the client's. One that no connection takes, or that is
// not acknowledged in time, ends what the client had.

const (
	// breakTimeout is how long a client has to acknowledge a break: [MS-SMB2] 3.3.2.1
	// leaves it to us, and 35 s is what Windows gives.
	breakTimeout = 35 * time.Second
	// breakHeadStart is how long who causes breaks waits for them to be on their way,
	// so that they do not come after the answer to the request that caused them.
	breakHeadStart = 100 * time.Millisecond
	// maxBreakQueue is how many notifications wait for one connection before it ends.
	maxBreakQueue = 4096
)

// notice is a break notification on its way.
type notice struct {
	c      *caching
	serial uint32 // of the break
	ack    bool
	from   smb2.LeaseState
	to     smb2.LeaseState
	epoch  uint16
	tried  []*conn
	cause  *conn // by which the request came that causes it; nil if that is not known
	batch  *batch
}

// batch is the notifications that one request causes.
type batch struct {
	left atomic.Int32
	out  chan struct{} // closed when all are sent or cannot be
}

func newBatch(n int) *batch {
	b := &batch{out: make(chan struct{})}
	b.left.Store(int32(n))
	return b
}

func (b *batch) done() {
	if b.left.Add(-1) == 0 {
		close(b.out)
	}
}

// breaks collects notifications while openTable.mu is held.
type breaks struct {
	cause   *conn // see notice
	notices []*notice
	// announced is what clients have been told that they have.
	announced []*caching
	// unbacked are leases of the storage that are to be given up.
	unbacked []unbacked
}

type unbacked struct {
	c     *caching
	lease vfs.Leaser
}

// release gives up the leases of the storage.
func (b *breaks) release(t *openTable) {
	for _, u := range b.unbacked {
		u.c.releaseBacking(t, u.lease)
	}
	b.unbacked = nil
}

// breakLocked makes the client give up all but keep, and notes what is to be sent.
func (t *openTable) breakLocked(c *caching, keep smb2.LeaseState, b *breaks) {
	keep &= c.held
	if c.backing != nil {
		keep = 0 // there is no level II where local processes count
	}
	switch {
	case c.breaking:
		c.required &= keep // it learns of that when it has acknowledged the first
		return
	case c.held == keep:
		return
	}
	c.epoch++
	from := c.held
	if from == cacheR {
		// Nothing to write back and no handle to close: it is told, not asked.
		c.held = 0
		c.state.countReadersLocked()
		t.noteLocked(c, from, 0, false, b)
		return
	}
	c.breaking, c.requested, c.required = true, keep, keep
	t.noteLocked(c, from, keep, true, b)
}

func (t *openTable) noteLocked(c *caching, from, to smb2.LeaseState, ack bool, b *breaks) {
	c.serial++
	n := &notice{c: c, serial: c.serial, ack: ack, from: from, to: to, cause: b.cause}
	if c.version == 2 {
		n.epoch = c.epoch
	}
	b.notices = append(b.notices, n)
	if !ack {
		return
	}
	if t.breaking == nil {
		t.breaking = make(map[*caching]struct{})
	}
	t.breaking[c] = struct{}{}
	c.notified = nil
	if c.timer != nil {
		c.timer.Stop()
	}
	serial := c.serial
	c.timer = time.AfterFunc(t.breakTimeout, func() { t.giveUp(c, serial) })
}

// endBreakLocked settles a break: the client keeps held. b is nil where the file is
// going to be closed.
func (t *openTable) endBreakLocked(c *caching, held smb2.LeaseState, b *breaks) {
	c.held = held
	if c.backing != nil && b != nil {
		b.unbacked = append(b.unbacked, unbacked{c, c.backing})
		c.backing = nil
	}
	c.breaking, c.requested, c.required, c.notified = false, 0, 0, nil
	delete(t.breaking, c)
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.state.countReadersLocked()
	c.state.wakeLocked()
}

// giveUp ends what a client has that does not answer: [MS-SMB2] 3.3.6.1, 3.3.6.4.
func (t *openTable) giveUp(c *caching, serial uint32) {
	defer t.srv.contain("ending a break")
	var b breaks
	t.mu.Lock()
	if c.breaking && c.serial == serial {
		t.endBreakLocked(c, 0, &b)
	}
	t.mu.Unlock()
	b.release(t)
}

// acknowledgeLocked is what the client keeps, of what it was asked to. If it has to
// give up more by now it is told so.
func (t *openTable) acknowledgeLocked(c *caching, keep smb2.LeaseState, b *breaks) {
	if keep&^c.required == 0 {
		t.endBreakLocked(c, keep, b)
		return
	}
	required := c.required
	c.held = keep
	if keep&(cacheW|cacheH) == 0 {
		t.endBreakLocked(c, 0, b)
		t.noteLocked(c, keep, 0, false, b)
		return
	}
	// Windows takes W and H first and R in a step of its own.
	c.requested, c.required = required|keep&cacheR, required
	c.state.countReadersLocked()
	c.state.wakeLocked()
	t.noteLocked(c, keep, c.requested, true, b)
}

// breakReaders takes what others than the open cache of a file's content, as it is
// changed: before that, so that they do not use what they have, and after it, so that
// what somebody has read in between is not kept. It costs nothing where nobody
// caches, and does not wait. A level II oplock does not outlive its own open's changes
// either: [MS-FSA] 2.1.4.12 compares no keys there.
func (o *open) breakReaders() {
	if o.caching != nil && o.caching.isLease {
		o.breakReadersBut(o.caching)
	} else {
		o.breakReadersBut(nil)
	}
}

// breakReadersBut takes what all but one cache of a file's content.
func (o *open) breakReadersBut(but *caching) {
	st := o.state
	if r := st.readers.Load(); r == nil || r == but {
		return
	}
	var b breaks
	t := &o.srv.files
	t.mu.Lock()
	for _, c := range st.cachings {
		if c != but && c.readsOnly() {
			t.breakLocked(c, 0, &b)
		}
	}
	t.mu.Unlock()
	o.srv.sendBreaks(&b)
}

// awaitSetInfo takes the handles that others cache of what a SET_INFO is about, and
// waits until they have been given up: [MS-FSA] 2.1.4.12, cases SET_INFORMATION and
// SET_SECURITY. What the request lacks in rights is for those to say who carry it out.
func (r *request) awaitSetInfo(ctx context.Context, o *open, q *smb2.SetInfoRequest) ntstatus.Status {
	if o.state == nil || r.tree.readOnly() {
		return ntstatus.Success
	}
	class := smb2.FileInfoClass(q.FileInfoClass)
	switch {
	case q.InfoType == smb2.InfoSecurity && o.access&(smb2.WriteDAC|smb2.WriteOwner) != 0:
		return r.awaitHandles(ctx, o, o.key())
	case q.InfoType != smb2.InfoFile:
		return ntstatus.Success
	}
	switch class {
	case smb2.ClassFileDispositionInformation, smb2.ClassFileDispositionInformationEx:
		if o.access&smb2.Delete != 0 && len(q.Buffer) > 0 && q.Buffer[0]&1 != 0 { // DeletePending, FILE_DISPOSITION_DELETE
			return r.awaitHandles(ctx, o, o.key())
		}
	case smb2.ClassFileRenameInformation, smb2.ClassFileRenameInformationEx:
		if o.access&smb2.Delete == 0 {
			return ntstatus.Success
		}
		m, err := smb2.ParseFileRenameInformation(q.Buffer)
		if err != nil {
			return ntstatus.Success
		}
		if st := r.awaitReplaced(ctx, o, m.FileName, m.RootDirectory); st != ntstatus.Success {
			return st
		}
		if o.isDir {
			if st := r.awaitBeneath(ctx, o); st != ntstatus.Success {
				return st
			}
		}
		return r.awaitHandles(ctx, o, o.key())
	case smb2.ClassFileLinkInformation, smb2.ClassFileLinkInformationEx:
		if m, err := smb2.ParseFileLinkInformation(q.Buffer); err == nil {
			return r.awaitReplaced(ctx, o, m.FileName, m.RootDirectory)
		}
	}
	return ntstatus.Success
}

// awaitReplaced is awaitHandles for the file that has the name already which o is to
// get: while it is open it is not replaced.
func (r *request) awaitReplaced(ctx context.Context, o *open, name string, root uint64) ntstatus.Status {
	to, st := o.target(name, root)
	if st != ntstatus.Success {
		return ntstatus.Success
	}
	there, err := o.fs.Lstat(ctx, to)
	if err != nil || there.ID == o.state.key.id {
		return ntstatus.Success
	}
	return r.awaitHandles(ctx, o, objectKey{id: there.ID})
}

// awaitHandles takes the handles that others than o cache of an object, and waits
// until they have been given up.
func (r *request) awaitHandles(ctx context.Context, o *open, key objectKey) ntstatus.Status {
	t := &r.srv.files
	return r.awaitBroken(ctx, func(b *breaks) <-chan struct{} {
		if st := t.files[key]; st != nil && t.breakHandlesLocked(st, o.caching, b) {
			return st.awaitLocked()
		}
		return nil
	})
}

// awaitBeneath is awaitHandles for everything in the directory o: it is not renamed
// while anything in it is open.
func (r *request) awaitBeneath(ctx context.Context, o *open) ntstatus.Status {
	t := &r.srv.files
	return r.awaitBroken(ctx, func(b *breaks) (wait <-chan struct{}) {
		for _, st := range t.files {
			if st.key.id == o.state.key.id || len(st.cachings) == 0 || !slices.ContainsFunc(st.opens, func(p *open) bool {
				return sameStorage(p.fs, o.fs) && beneath(o.name, p.name)
			}) {
				continue
			}
			if t.breakHandlesLocked(st, nil, b) {
				wait = st.awaitLocked()
			}
		}
		return wait
	})
}

// awaitBroken calls f, with openTable.mu held, until it has nothing to wait for.
func (r *request) awaitBroken(ctx context.Context, f func(*breaks) <-chan struct{}) ntstatus.Status {
	t := &r.srv.files
	for {
		b := breaks{cause: r.conn}
		t.mu.Lock()
		wait := f(&b)
		t.mu.Unlock()
		r.srv.sendBreaks(&b)
		if wait == nil {
			return ntstatus.Success
		}
		if st := r.await(ctx, wait); st != ntstatus.Success {
			return st
		}
	}
}

// breakHandlesLocked takes the handle caching of all but one, and reports whether that
// has to be acknowledged.
func (t *openTable) breakHandlesLocked(st *fileState, but *caching, b *breaks) (wait bool) {
	for _, c := range st.cachings {
		if c == but || c.held&cacheH == 0 {
			continue
		}
		keep := c.held &^ cacheH
		if !c.isLease {
			keep &= cacheR
		}
		t.breakLocked(c, keep, b)
		wait = true
	}
	return wait
}

// await waits, with an interim response, until others have given something up. What
// is in the middle of a compound and cannot have one just waits: there is an end to
// every break.
func (r *request) await(ctx context.Context, wait <-chan struct{}) ntstatus.Status {
	return r.awaitAny(ctx, wait, nil)
}

// awaitAny waits for one of two things.
func (r *request) awaitAny(ctx context.Context, wait, or <-chan struct{}) ntstatus.Status {
	switch st := r.goAsync(); st {
	case ntstatus.Success:
	case ntstatus.InternalError:
		r.conn.hold(r)
		r.chain.mayWait()
	default:
		return st
	}
	select {
	case <-wait:
		return ntstatus.Success
	case <-or:
		return ntstatus.Success
	case <-ctx.Done():
		return ntstatus.Cancelled
	}
}

// announce is called before the response of a CREATE goes out: until then a break of
// what it grants would name something that the client does not know, be it new or
// claimed.
func (r *request) announce(o *open) {
	if o.caching != nil {
		r.chain.after.announced = append(r.chain.after.announced, o.caching)
	}
}

// afterwards has notifications sent when the response is on its way.
func (r *request) afterwards(b *breaks) {
	r.chain.after.notices = append(r.chain.after.notices, b.notices...)
	r.chain.after.unbacked = append(r.chain.after.unbacked, b.unbacked...)
}

// sendBreaks sends what has been collected, and gives that a head start over what the
// caller does next. No lock is held.
func (s *Server) sendBreaks(b *breaks) {
	sent := s.postBreaks(b)
	if sent == nil {
		return
	}
	head := time.NewTimer(breakHeadStart)
	defer head.Stop()
	select {
	case <-sent:
	case <-head.C:
	}
}

// postBreaks is sendBreaks without the wait: sent is closed when all are on their way,
// and nil if there are none.
func (s *Server) postBreaks(b *breaks) (sent <-chan struct{}) {
	b.release(&s.files)
	for _, c := range b.announced {
		s.files.mu.Lock()
		parked := c.parked
		c.parked, c.announced = nil, true
		s.files.mu.Unlock()
		for _, n := range parked {
			s.route(n)
		}
	}
	if len(b.notices) == 0 {
		return nil
	}
	all := newBatch(len(b.notices))
	for _, n := range b.notices {
		n.batch = all
		s.route(n)
	}
	return all.out
}

// route gives a notification to the first connection of the client's that takes it
// and has not been tried. Where there is none, the client keeps nothing.
func (s *Server) route(n *notice) {
	all := n.batch // n is another's when it is parked
	if s.routeOn(n) {
		return
	}
	s.undeliverable(n)
	all.done()
}

// routeOn is route for a notification that may have arrived already; it reports false
// if there is no other connection.
func (s *Server) routeOn(n *notice) bool {
	all := n.batch
	for {
		live, parked, sessions := s.files.holders(n)
		if parked {
			return true
		}
		if !live {
			all.done()
			return true
		}
		next := s.breakConn(n, sessions)
		if next == nil {
			return false
		}
		n.tried = append(n.tried, next)
		if next == n.cause {
			// Who waits for a connection to take this would wait for it to take the answer.
			if next.sendBreak(n) {
				all.done()
				return true
			}
			continue
		}
		if next.breaks.put(next, n) {
			return true
		}
	}
}

// holders returns the sessions whose opens have what is to be broken; live is false if
// nothing is, any more. If the client does not know yet what it has, the notification
// waits for that, and parked is true.
func (t *openTable) holders(n *notice) (live, parked bool, sessions []*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !n.currentLocked():
		return false, false, nil
	case !n.c.announced:
		n.c.parked = append(n.c.parked, n)
		return false, true, nil
	}
	for _, o := range n.c.opens {
		if !slices.Contains(sessions, o.sess) && !o.sess.gone.Load() {
			sessions = append(sessions, o.sess)
		}
	}
	return true, false, sessions
}

// currentLocked reports whether the client still has to be told.
func (n *notice) currentLocked() bool {
	return len(n.c.opens) > 0 && (!n.ack || n.c.breaking && n.c.serial == n.serial)
}

// breakConn is the oldest connection by which the client has not been tried: for an
// oplock one of the channels of the session ([MS-SMB2] 3.3.4.6), for a lease one with
// the ClientGuid (3.3.4.7), on which the user of the lease is logged on.
func (s *Server) breakConn(n *notice, sessions []*session) *conn {
	var next *conn
	try := func(c *conn) {
		if (next == nil || c.id < next.id) && !slices.Contains(n.tried, c) {
			next = c
		}
	}
	for _, sess := range sessions {
		for _, c := range sess.conns() {
			try(c)
		}
	}
	if !n.c.isLease || len(sessions) == 0 {
		return next
	}
	user := sessions[0].userKey()
	var same []*conn
	s.mu.Lock()
	for c := range s.conns {
		if c.authed.Load() && c.clientGUID == n.c.key.client {
			same = append(same, c)
		}
	}
	s.mu.Unlock()
	for _, c := range same {
		if c.hasUser(user) {
			try(c)
		}
	}
	return next
}

// hasUser reports whether a user is logged on to the connection.
func (c *conn) hasUser(key string) bool {
	var list []*session
	c.chanMu.RLock()
	for _, ch := range c.channels {
		list = append(list, ch.sess)
	}
	c.chanMu.RUnlock()
	return slices.ContainsFunc(list, func(s *session) bool { return s.isValid() && s.userKey() == key })
}

// undeliverable ends what a client has that cannot be told. Its opens that nobody can
// reach are closed: somebody else needs what they stand for.
func (s *Server) undeliverable(n *notice) {
	t := &s.files
	t.mu.Lock()
	var away []*open
	for _, o := range n.c.opens {
		if o.yields() && o.acquire() {
			away = append(away, o)
		}
	}
	t.mu.Unlock()
	evict(away)
	t.giveUp(n.c, n.serial)
}

// rerouteBreaks sends the notifications again that went out on a connection which has
// ended, and have not been acknowledged: the client may not have seen them.
func (s *Server) rerouteBreaks(c *conn) {
	var b breaks
	t := &s.files
	t.mu.Lock()
	for p := range t.breaking {
		if p.notified == c {
			n := &notice{c: p, serial: p.serial, ack: true, from: p.held, to: p.requested, tried: []*conn{c}}
			if p.version == 2 {
				n.epoch = p.epoch
			}
			p.notified = nil
			b.notices = append(b.notices, n)
		}
	}
	t.mu.Unlock()
	s.sendBreaks(&b)
}

// breakQueue holds the notifications that wait for a connection.
type breakQueue struct {
	mu      sync.Mutex
	list    []*notice      // guarded by mu
	running bool           // guarded by mu: sendBreaks runs
	closed  bool           // guarded by mu
	sender  sync.WaitGroup // sendBreaks
	wake    chan struct{}  // of one element; says that list has grown
}

// put queues a notification, unless the connection has ended. One that does not keep up
// ends: its client would go on with what it caches and has not been told to give up.
func (q *breakQueue) put(c *conn, n *notice) bool {
	if q.isFull() {
		c.fail("client takes no break notifications", "waiting", maxBreakQueue)
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.list = append(q.list, n)
	select {
	case q.wake <- struct{}{}: // awaitDelivery
	default:
	}
	if !q.running {
		q.running = true
		q.sender.Add(1)
		go c.sendBreaks() // ends when all has arrived or the connection ends; closeBreaks waits
	}
	return true
}

func (q *breakQueue) isFull() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.closed && len(q.list) >= maxBreakQueue
}

// sendBreaks sends what is in the queue.
func (c *conn) sendBreaks() {
	q := &c.breaks
	defer q.sender.Done()
	var n *notice
	defer func() {
		if v := recover(); v != nil {
			c.panicked(v, "during", "sending breaks")
			q.putBack(n)
		}
	}()
	var sent deliveries
	for {
		q.mu.Lock()
		if q.closed || len(q.list) == 0 && len(sent) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		n = nil
		if len(q.list) > 0 {
			n = q.list[0]
			q.list = slices.Delete(q.list, 0, 1)
		}
		q.mu.Unlock()
		switch {
		case n == nil:
			sent = c.awaitDelivery(sent)
		case c.sendBreak(n):
			n.batch.done()
			sent = sent.add(c, n)
		default:
			c.srv.route(n)
		}
	}
}

// putBack leaves a notification to closeBreaks that could not be sent.
func (q *breakQueue) putBack(n *notice) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n != nil {
		q.list = append(q.list, n)
	}
}

// closeBreaks is called when the connection has ended: what it has not sent, or what
// may not have arrived, goes by others.
func (c *conn) closeBreaks() {
	q := &c.breaks
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.sender.Wait()
	q.mu.Lock()
	list := q.list
	q.list = nil
	q.mu.Unlock()
	for _, n := range list {
		c.srv.route(n)
	}
	c.srv.rerouteBreaks(c)
}

// sendBreak sends one notification and reports whether the connection took it.
func (c *conn) sendBreak(n *notice) bool {
	t := &c.srv.files
	t.mu.Lock()
	if !n.currentLocked() {
		t.mu.Unlock()
		return true // there is nothing to tell any more
	}
	if n.ack {
		n.c.notified = c
	}
	o := n.c.opens[0]
	id, sess, encrypt := o.id, o.sess, o.sess.encryptData || o.tree.encrypt
	t.mu.Unlock()

	h := smb2.Header{Command: smb2.CommandOplockBreak, Flags: smb2.FlagServerToRedir, MessageID: smb2.NoMessageID}
	msg := make([]byte, smb2.HeaderSize, smb2.HeaderSize+64)
	var err error
	if n.c.isLease {
		m := smb2.LeaseBreakNotification{
			NewEpoch: n.epoch, LeaseKey: n.c.key.key, CurrentLeaseState: n.from, NewLeaseState: n.to,
		}
		if n.ack {
			m.Flags = smb2.NotifyBreakLeaseFlagAckRequired
		}
		msg, err = m.AppendBinary(msg)
	} else {
		h.SessionID = sess.id
		m := smb2.OplockBreakNotification{FileID: id}
		if n.to&cacheR != 0 {
			m.OplockLevel = smb2.OplockLevelII
		}
		msg, err = m.AppendBinary(msg)
	}
	if err != nil {
		c.log.Error("break notification cannot be encoded", "err", err)
		return false
	}
	h.Put(msg)
	// A lease's is of no session, and so under nobody's key: the client would end the
	// connection for it, [MS-SMB2] 3.2.5.1.1.1.
	if encrypt && sess.sealer != nil && !n.c.isLease {
		sealed, err := sess.sealer.Seal(make([]byte, 0, len(msg)+smbcrypto.SealSlack), sess.id, msg)
		if err != nil {
			c.log.Error("break notification cannot be encrypted", "err", err)
			return false
		}
		msg = sealed
	}
	if !c.send(&transport.Message{Parts: [][]byte{msg}}) {
		c.loseChannels() // before it is asked who has another: who receives may see the end later
		return false
	}
	return true
}
