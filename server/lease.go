package server

import (
	"slices"
	"strings"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Oplocks and leases
//
// A client may cache what nobody else changes: the content (R), its own changes (W)
// and the handle (H), [MS-SMB2] 2.2.13.2.8. An oplock says so for one open, a lease
// for all opens that a client makes with its key. Oplocks are leases here that have
// one open: level II is R, exclusive RW, batch RWH.
//
// What others do takes caching rights away: the holder is sent a break (break.go), and
// if it may have something to write back or handles to close, it has to acknowledge
// that before the other one can go on. CREATE waits; see admitLocked for what takes
// what. The rules are those of [MS-FSA] 2.1.4.12 and 2.1.5.18; where Windows and Samba
// differ from them alike, theirs.

// Caching rights by oplock level.
const (
	cacheR   = smb2.LeaseReadCaching
	cacheW   = smb2.LeaseWriteCaching
	cacheH   = smb2.LeaseHandleCaching
	cacheRWH = cacheR | cacheW | cacheH
)

// leaseKey names a lease: [MS-SMB2] has a LeaseTable for each ClientGuid.
type leaseKey struct {
	client, key smb2.GUID
}

// caching is an oplock or a lease. Fields without a remark do not change; the others
// are guarded by openTable.mu.
type caching struct {
	state   *fileState
	isLease bool
	key     leaseKey // of a lease
	version int      // of a lease: 1 or 2
	// parent is the key of the lease of the directory, if hasParent.
	parent    smb2.GUID
	hasParent bool

	// Guarded by openTable.mu.

	opens []*open
	held  smb2.LeaseState
	epoch uint16
	// While breaking is set the client has yet to acknowledge that it keeps no more
	// than requested; required is what it may keep in the end.
	breaking            bool
	requested, required smb2.LeaseState
	timer               *time.Timer // ends the wait for an acknowledgment
	serial              uint32      // counts breaks, for the timer to know its own
	notified            *conn       // where the notification went that awaits an answer
	announced           bool        // the client has been told what it has
	parked              []*notice   // to be sent when it has
	backing             vfs.Leaser  // the storage's lease behind an oplock; nil without one
	watch               *dirWatch   // of local changes, of a directory; nil without one
	counted             *openSet    // whose count of watches includes it
}

// severalReaders stands in fileState.readers for more than one.
var severalReaders = new(caching)

// readsOnly reports whether the client caches content that others may change.
func (c *caching) readsOnly() bool { return c.held&(cacheR|cacheW) == cacheR }

// countReadersLocked keeps fileState.readers, which WRITE looks at. Who caches its own
// changes is alone with the content.
func (st *fileState) countReadersLocked() {
	var r *caching
	for _, c := range st.cachings {
		if !c.readsOnly() {
			continue
		}
		if r != nil {
			r = severalReaders
			break
		}
		r = c
	}
	st.readers.Store(r)
}

// level is the oplock level that a client knows the caching by.
func (c *caching) level() smb2.OplockLevel {
	switch {
	case c.isLease:
		return smb2.OplockLevelLease
	case c.held == cacheRWH:
		return smb2.OplockLevelBatch
	case c.held&cacheW != 0:
		return smb2.OplockLevelExclusive
	case c.held != 0:
		return smb2.OplockLevelII
	}
	return smb2.OplockLevelNone
}

// cachesHandle reports whether the client may keep the open's handle after its user
// has closed it: it has a batch oplock, or a lease with handle caching. Only such
// opens become durable ([MS-SMB2] 3.3.5.9.6, 3.3.5.9.10).
func (o *open) cachesHandle() bool {
	if o.caching == nil {
		return false
	}
	o.srv.files.mu.Lock()
	defer o.srv.files.mu.Unlock()
	return o.caching.held&cacheH != 0
}

// isBreaking reports whether the client has been asked to give up something and has
// not answered: Open.OplockState is Breaking.
func (o *open) isBreaking() bool {
	if o.caching == nil {
		return false
	}
	o.srv.files.mu.Lock()
	defer o.srv.files.mu.Unlock()
	return o.caching.breaking
}

// leaseKey is the key of the open's lease, ok if it has one.
func (o *open) leaseKey() (key smb2.GUID, ok bool) {
	if o.caching == nil || !o.caching.isLease {
		return key, false
	}
	return o.caching.key.key, true
}

// cachingRequest is what a CREATE asks for. The zero value asks for nothing.
type cachingRequest struct {
	level smb2.OplockLevel
	key   leaseKey
	lease smb2.Lease // with OplockLevelLease
	// directories says that the client may have leases of directories.
	directories bool
}

// wanted is what is asked for, as caching rights.
func (q *cachingRequest) wanted() smb2.LeaseState {
	switch q.level {
	case smb2.OplockLevelII:
		return cacheR
	case smb2.OplockLevelExclusive:
		return cacheR | cacheW
	case smb2.OplockLevelBatch:
		return cacheRWH
	case smb2.OplockLevelLease:
		return q.lease.LeaseState & cacheRWH
	}
	return 0
}

// parent is the lease that the client says it has of the directory; zero without one.
func (q *cachingRequest) parent() leaseKey {
	if q.lease.Flags&smb2.LeaseFlagParentLeaseKeySet == 0 || q.lease.Version != 2 {
		return leaseKey{}
	}
	return leaseKey{q.key.client, q.lease.ParentLeaseKey}
}

// cachingRequest reads what a CREATE asks for, [MS-SMB2] 3.3.5.9.8 and 3.3.5.9.11. What the
// connection or the share does not have counts as not asked for.
func (r *request) cachingRequest(level smb2.OplockLevel, lease *smb2.Lease) cachingRequest {
	switch level {
	case smb2.OplockLevelII, smb2.OplockLevelExclusive, smb2.OplockLevelBatch:
		if r.tree.share.NoOplocks {
			return cachingRequest{}
		}
		return cachingRequest{level: level}
	case smb2.OplockLevelLease:
		d := r.conn.dialect
		if lease == nil || lease.LeaseKey == (smb2.GUID{}) || d < Dialect210 || lease.Version == 2 && d < Dialect300 ||
			r.tree.share.NoOplocks || r.tree.share.NoLeases {
			return cachingRequest{}
		}
		return cachingRequest{
			level: level, lease: *lease, key: leaseKey{r.conn.clientGUID, lease.LeaseKey},
			directories: r.conn.serverCaps&smb2.GlobalCapDirectoryLeasing != 0 && lease.Version == 2 &&
				!r.tree.share.KernelOplocks,
		}
	}
	return cachingRequest{}
}

// leaseElsewhere reports whether the lease that a CREATE names belongs to another
// file: "Lease.Filename does not match the file name for the incoming request",
// [MS-SMB2] 3.3.5.9.8.
func (t *openTable) leaseElsewhere(q *cachingRequest, fsys vfs.FS, name, stream string) bool {
	if q.level != smb2.OplockLevelLease {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.leases[q.key]
	if c == nil || len(c.opens) == 0 {
		return false
	}
	o := c.opens[0]
	return c.state.pending == nil &&
		(!sameStorage(o.fs, fsys) || !strings.EqualFold(o.name, name) || c.state.key.stream != foldName(stream))
}

// sharesLease reports whether a CREATE names this lease: it takes nothing from it.
func (c *caching) sharesLease(q *cachingRequest) bool {
	return c.isLease && q.level == smb2.OplockLevelLease && c.key == q.key
}

// grantLocked gives an open that has just been entered what it asks for, as far as
// the others leave that: [MS-FSA] 2.1.5.18.
func (t *openTable) grantLocked(st *fileState, o *open, e *entry, others *rivals) {
	q := &e.caching
	want := q.wanted()
	lease := q.level == smb2.OplockLevelLease
	switch {
	case q.level == smb2.OplockLevelNone:
		return
	case st.isDir && !(lease && q.directories):
		return // 2.1.5.18: directories have leases only
	case !lease && !e.created && isOplockStat(o.access|e.need):
		return
	case st.isDir:
		want &^= cacheW
	}
	if lease && want&cacheR == 0 {
		want = 0
	}
	if o.tree.share.KernelOplocks && (lease || want&cacheW == 0 || others.any) {
		want = 0 // nothing that could be shared
	}
	if others.any {
		want &^= cacheW
	}
	if want&cacheW == 0 && st.locks.n.Load() > 0 && !e.overwrites {
		want = 0 // 2.1.5.18.2: nothing is shared beside byte-range locks
	}
	switch {
	case lease && others.oplock:
		want &^= cacheH
	case !lease && others.handle:
		want = 0
	case !lease && want&cacheW == 0:
		want &= cacheR
	}
	if !lease {
		if want != 0 {
			o.caching = t.newCachingLocked(&caching{state: st, held: want}, o)
		}
		return
	}
	if c := t.leases[q.key]; c != nil && c.state == st {
		asked := q.lease.LeaseState & cacheRWH
		if st.isDir {
			asked &^= cacheW
		}
		c.upgradeLocked(asked, want)
		c.opens = append(c.opens, o)
		o.caching = c
		st.countReadersLocked()
		return
	} else if c != nil {
		return // of a file that is about to be deleted, see leaseElsewhere
	}
	c := &caching{
		state: st, isLease: true, key: q.key, version: q.lease.Version, held: want,
		parent: q.lease.ParentLeaseKey, hasParent: q.lease.Flags&smb2.LeaseFlagParentLeaseKeySet != 0,
		epoch: q.lease.Epoch,
	}
	if want != 0 {
		c.epoch++
	}
	if t.leases == nil {
		t.leases = make(map[leaseKey]*caching)
	}
	t.leases[q.key] = c
	if st.isDir {
		t.dirLeases.Add(1)
	}
	o.caching = t.newCachingLocked(c, o)
}

func (t *openTable) newCachingLocked(c *caching, o *open) *caching {
	c.opens = append(c.opens, o)
	c.state.cachings = append(c.state.cachings, c)
	c.state.countReadersLocked()
	return c
}

// upgradeLocked gives a lease what another open by it asks for, if that contains what
// there is and nothing of it has to be left out, and no break is under way.
func (c *caching) upgradeLocked(asked, want smb2.LeaseState) {
	if c.breaking || asked&c.held != c.held || want != asked || want == c.held {
		return
	}
	c.held = want
	c.epoch++
}

// leaveCachingLocked takes an open out of its oplock or lease, which ends with the last
// one. The caller ends the watch that it returns, without the lock.
func (t *openTable) leaveCachingLocked(o *open) (w *dirWatch) {
	c := o.caching
	if c == nil {
		return nil
	}
	i := slices.Index(c.opens, o)
	if i < 0 {
		return nil
	}
	c.opens = slices.Delete(c.opens, i, i+1)
	if len(c.opens) > 0 {
		return nil
	}
	t.endBreakLocked(c, 0, nil)
	for _, n := range c.parked {
		n.batch.done()
	}
	c.parked = nil
	if c.isLease && t.leases[c.key] == c {
		delete(t.leases, c.key)
		if c.state.isDir {
			t.dirLeases.Add(-1)
		}
	}
	st := c.state
	st.cachings = slices.DeleteFunc(st.cachings, func(p *caching) bool { return p == c })
	st.countReadersLocked()
	if w, c.watch = c.watch, nil; w != nil {
		c.counted.watches.Add(-1)
	}
	return w
}

// respondCaching puts what the open may cache into the response: the level, and for
// a lease its context.
func (o *open) respondCaching(resp *smb2.CreateResponse) error {
	c := o.caching
	if c == nil {
		return nil
	}
	o.srv.files.mu.Lock()
	resp.OplockLevel = c.level()
	l := smb2.Lease{Version: c.version, LeaseKey: c.key.key, LeaseState: c.held}
	if c.breaking {
		l.Flags |= smb2.LeaseFlagBreakInProgress
	}
	if c.version == 2 {
		l.Epoch = c.epoch
		if c.hasParent {
			l.Flags |= smb2.LeaseFlagParentLeaseKeySet
			l.ParentLeaseKey = c.parent
		}
	}
	o.srv.files.mu.Unlock()
	if !c.isLease {
		return nil
	}
	data, err := l.AppendBinary(nil)
	if err != nil {
		return err
	}
	resp.Contexts, err = smb2.AppendCreateContext(resp.Contexts, smb2.CreateContextLease, data)
	return err
}

// cachingStatus says what an open's client may cache, for [OpenStatus]: "" for
// nothing, an oplock level, or the letters of a lease.
func (o *open) cachingStatus() string {
	c := o.caching
	if c == nil {
		return ""
	}
	o.srv.files.mu.Lock()
	defer o.srv.files.mu.Unlock()
	s := ""
	switch c.level() {
	case smb2.OplockLevelLease:
		s = "lease " + c.held.String()
	case smb2.OplockLevelBatch:
		s = "batch"
	case smb2.OplockLevelExclusive:
		s = "exclusive"
	case smb2.OplockLevelII:
		s = "level II"
	}
	if c.breaking {
		s += ", breaking"
	}
	return s
}
