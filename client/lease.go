package client

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// LeaseState says what a client may cache, [MS-SMB2] 2.2.13.2.8.
type LeaseState uint32

// The rights of a lease.
const (
	LeaseNone LeaseState = 0
	// LeaseRead lets what was read be kept: of a file its data and attributes, of a
	// directory its entries.
	LeaseRead LeaseState = 1
	// LeaseHandle lets an open be kept that the application has closed.
	LeaseHandle LeaseState = 2
	// LeaseWrite lets what is written be kept back.
	LeaseWrite LeaseState = 4

	leaseAll = LeaseRead | LeaseHandle | LeaseWrite
)

// String gives the letters of the rights, such as "RWH", or "none".
func (s LeaseState) String() string { return smb2.LeaseState(s).String() }

// LeaseOptions say what a lease is to be.
type LeaseOptions struct {
	// Want is asked for with every open by the lease; the server gives what others
	// leave of it. LeaseWrite is left out for directories. A lease without LeaseRead
	// is never given; LeaseNone may be asked for to name the Parent.
	Want LeaseState
	// Parent is the lease of the directory that the file lies in, if there is one:
	// changes made by opens of this lease do not break that one ([MS-SMB2]
	// 3.2.4.3.8, from dialect 3.0).
	Parent *Lease
	// OnBreak is called when rights are taken away, and says which of b.To are kept.
	// Nil keeps b.To. It runs on a goroutine of the session's, for one lease one at a
	// time, and may use the session, but not close it. What is done for the server
	// (writing back, closing) has to be done when it returns; ctx ends after
	// LeaseBreakTimeout, or with the session. Breaks that come meanwhile are one more
	// call. After the session's end it is not called.
	OnBreak func(ctx context.Context, b LeaseBreak) LeaseState
}

// LeaseBreak is a loss of rights.
type LeaseBreak struct {
	Lease *Lease
	// From is what the lease had when OnBreak was last told, To what is left. Data
	// that was kept back has to be written if LeaseWrite goes, what was read to be
	// forgotten if LeaseRead goes, and opens that are kept without need to be closed
	// if LeaseHandle goes.
	From, To LeaseState
	// Lost says that the rights went without a question of the server's: the
	// connection was lost, and meanwhile others may have changed the file. To is
	// LeaseNone, and [Lease.State] stays that until OnBreak has returned.
	Lost bool
}

// Lease is the right to cache what one file or directory holds. It is asked for with
// CreateOptions.Lease, shared by all opens of the file that name it, and ends with the
// last of them. All methods may be called by many goroutines at once.
//
// What was cached is valid if [Lease.State] has the right that it needs, and
// [Lease.Generation] is what it was before the data was asked for.
type Lease struct {
	sh     *Share
	o      LeaseOptions
	key    smb2.GUID
	hidden bool // not the caller's: an open's own, which makes it durable

	state      atomic.Uint32 // LeaseState that may be used: held, but for suspended and purging
	generation atomic.Uint64

	// All guarded by Session.leaseMu.
	uses      int        // CREATEs under way and opens; the lease is in Session.leases while there are some
	held      LeaseState // as far as the server has told
	told      LeaseState // what OnBreak knows of
	epoch     uint16
	known     bool // epoch is the server's
	ack       bool // the server waits for an answer
	lost      bool // OnBreak has to be told so
	purging   bool // nothing may be used before OnBreak was told
	suspended bool // there is no connection
	queued    bool // in breakQueue, or with a worker
	again     bool // to be queued once more
	serial    uint64
	overdue   bool // OnBreak did not return in time
}

// NewLease makes a lease that opens of one file or directory of the share can ask for.
// It asks nobody yet.
func (sh *Share) NewLease(o LeaseOptions) *Lease {
	o.Want &= leaseAll
	l := &Lease{sh: sh, o: o}
	rand.Read(l.key[:]) // never fails: it ends the program first
	return l
}

// State is what may be cached now. It falls when the server takes rights away, before
// OnBreak is called, and is LeaseNone while the session has no connection.
func (l *Lease) State() LeaseState { return LeaseState(l.state.Load()) }

// Generation changes whenever a right is taken away, also if it comes back.
func (l *Lease) Generation() uint64 { return l.generation.Load() }

// Key is the LeaseKey.
func (l *Lease) Key() [16]byte { return l.key }

// setLocked makes held what the lease has. Called with leaseMu held, as are all
// methods here that end in Locked.
func (l *Lease) setLocked(held LeaseState) {
	if l.held&^held != 0 {
		l.generation.Add(1)
	}
	l.held = held
	l.publishLocked()
}

func (l *Lease) publishLocked() {
	if l.suspended || l.purging || l.overdue {
		l.state.Store(0)
	} else {
		l.state.Store(uint32(l.held))
	}
}

// leaseVersion is that of the lease contexts of the session's dialect, 0 if the
// server has no leases.
func (c *conn) leaseVersion() int {
	switch {
	case c.neg.dialect < SMB210 || c.neg.capabilities&smb2.GlobalCapLeasing == 0:
		return 0
	case c.neg.dialect < SMB300:
		return 1
	}
	return 2
}

// useLease enters a lease in the session's table, so that a break finds it; one more
// CREATE or open uses it.
func (s *Session) useLease(l *Lease) {
	if l == nil {
		return
	}
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	if l.uses++; l.uses == 1 {
		s.leases[l.key] = l
		l.suspended = s.leasesDown
	}
}

// leaveLease is the end of one use. With the last one the lease is over: the server
// drops it with the last open.
func (s *Session) leaveLease(l *Lease) {
	if l == nil {
		return
	}
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	if l.uses--; l.uses > 0 {
		return
	}
	delete(s.leases, l.key)
	l.ack, l.lost, l.purging, l.overdue, l.suspended, l.told = false, false, false, false, false, 0
	l.setLocked(0)
}

// leaseContext asks for a lease without what is in drop, [MS-SMB2] 3.2.4.3.8, or for
// the one that there was. ok is false where the server has none of the kind.
func (s *Session) leaseContext(contexts []byte, l *Lease, drop LeaseState, reclaim bool, version int) (_ []byte, ok bool, err error) {
	if version == 0 || version == 1 && (drop&LeaseWrite != 0 || l.o.Want == 0) { // 2.1 has none for directories
		return contexts, false, nil
	}
	m := smb2.Lease{Version: version, LeaseKey: l.key, LeaseState: smb2.LeaseState(l.o.Want &^ drop)}
	s.leaseMu.Lock()
	if reclaim {
		m.LeaseState = smb2.LeaseState(l.held)
	}
	if version == 2 {
		// The specification would have 0 here. The number that was last heard makes that
		// of a lease that begins again under its key come after those that it had.
		m.Epoch = l.epoch
	}
	s.leaseMu.Unlock()
	if p := l.o.Parent; p != nil && version == 2 {
		m.ParentLeaseKey, m.Flags = p.key, smb2.LeaseFlagParentLeaseKeySet
	}
	data, err := m.AppendBinary(nil)
	if err != nil {
		return contexts, false, err
	}
	contexts, err = smb2.AppendCreateContext(contexts, smb2.CreateContextLease, data)
	return contexts, err == nil, err
}

// granted takes the lease from the answer to a CREATE. It is called where answers
// arrive, so that it comes before a break that was sent after it. An error says that
// the server broke the protocol.
func (s *Session) granted(c *conn, l *Lease, h smb2.Header, msg []byte) error {
	if h.Status != ntstatus.Success {
		return nil
	}
	m, err := smb2.ParseCreateResponse(msg)
	if err != nil {
		return nil // for who waits, to complain of
	}
	g, found, err := leaseGranted(&m, l.key)
	if err != nil {
		return err
	}
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	switch {
	case !found || c.generation != s.generation.Load():
		return nil // this open has none
	case g.Flags&smb2.LeaseFlagBreakInProgress != 0:
		// What comes with the break counts: its epoch is that of this answer already.
		return nil
	}
	s.grantLocked(l, &g)
	return nil
}

// leaseGranted finds the lease in the answer to a CREATE that asked for it.
func leaseGranted(m *smb2.CreateResponse, key smb2.GUID) (g smb2.Lease, found bool, err error) {
	data, found, err := smb2.FindCreateContext(m.Contexts, smb2.CreateContextLease)
	switch {
	case err != nil:
		return g, false, err
	case found != (m.OplockLevel == smb2.OplockLevelLease):
		return g, false, errors.New("an oplock level of a lease without one, or a lease without the level")
	case !found:
		return g, false, nil
	}
	if g, err = smb2.ParseLease(data); err == nil && g.LeaseKey != key {
		err = errors.New("a lease that was not asked for")
	}
	return g, err == nil, err
}

// grantLocked is [MS-SMB2] 3.2.5.7.4 and 3.2.5.7.5.
func (s *Session) grantLocked(l *Lease, g *smb2.Lease) {
	state := LeaseState(g.LeaseState) & leaseAll & l.o.Want
	gone := l.held&^state != 0 // in between, and nobody was told
	if g.Version == 2 && l.known {
		d := int16(g.Epoch - l.epoch)
		if d < 0 || d == 0 && l.held&^state == 0 && l.held != state {
			return // a break has overtaken the answer
		}
		if d == 0 { // of a server that does not count as it should no more is believed than it says
			state &= l.held
		}
		gone = gone || l.held != 0 && (d > 1 || d == 1 && l.held == state)
	}
	if gone {
		s.purgeLocked(l)
	}
	l.epoch, l.known = g.Epoch, g.Version == 2
	l.overdue = false
	if !l.queued {
		l.told = state
	}
	l.setLocked(state)
}

// purgeLocked makes OnBreak forget all before anything may be used again.
func (s *Session) purgeLocked(l *Lease) {
	if l.told == 0 {
		l.told = l.held
	}
	l.generation.Add(1)
	l.lost, l.purging = true, true
	l.publishLocked()
	s.queueBreakLocked(l)
}
