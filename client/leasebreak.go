package client

import (
	"context"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// LeaseBreakTimeout is how long LeaseOptions.OnBreak may take: a little less than
// servers wait (35 s on Windows and Samba) before they go on without an answer.
const LeaseBreakTimeout = 30 * time.Second

// maxBreakers is how many goroutines of a session run OnBreak, each for another lease.
const maxBreakers = 32

// breakQueue is the leases whose OnBreak is to be called, each at most once, and the
// goroutines that do so. It is guarded by Session.leaseMu.
type breakQueue struct {
	leases  []*Lease
	workers int
	closed  bool // no goroutine is started any more
}

// leaseBroken is a notification, [MS-SMB2] 3.2.5.19.2.
func (s *Session) leaseBroken(c *conn, n *smb2.LeaseBreakNotification) {
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	l := s.leases[n.LeaseKey]
	if l == nil || c.generation != s.generation.Load() {
		return // its last open is being closed, which answers it
	}
	if c.leaseVersion() == 2 {
		if l.known && int16(n.NewEpoch-l.epoch) <= 0 {
			return // it came by two channels, or late
		}
		l.epoch, l.known = n.NewEpoch, true
	}
	if l.told == 0 && l.held == 0 { // it has overtaken the answer to the CREATE
		l.held = LeaseState(n.CurrentLeaseState) & l.o.Want
		l.told = l.held
	}
	l.ack = l.ack || n.Flags&smb2.NotifyBreakLeaseFlagAckRequired != 0
	l.serial++
	l.setLocked(l.held & LeaseState(n.NewLeaseState))
	s.queueBreakLocked(l)
}

// queueBreakLocked has OnBreak called.
func (s *Session) queueBreakLocked(l *Lease) {
	q := &s.breaks
	if l.queued {
		l.again = true
		return
	}
	if q.closed {
		return
	}
	l.queued = true
	q.leases = append(q.leases, l)
	if q.workers < maxBreakers && !s.leasesDown {
		q.workers++
		go s.runBreaks() // ended by an empty queue; Close waits
	}
}

// startBreakersLocked is for what was queued while there was no connection.
func (s *Session) startBreakersLocked() {
	q := &s.breaks
	for !q.closed && q.workers < min(maxBreakers, len(q.leases)) {
		q.workers++
		go s.runBreaks() // as above
	}
}

// runBreaks calls OnBreak for what is queued.
func (s *Session) runBreaks() {
	q := &s.breaks
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	for len(q.leases) > 0 && !q.closed && !s.leasesDown {
		l := q.leases[0]
		q.leases = append(q.leases[:0], q.leases[1:]...)
		s.handleBreakLocked(l)
		l.queued = false
		if l.again {
			l.again = false
			s.queueBreakLocked(l)
		}
	}
	q.workers--
	s.leaseCond.Broadcast()
}

// handleBreakLocked tells OnBreak what the lease has lost, and the server what is kept.
// It lets go of leaseMu meanwhile.
func (s *Session) handleBreakLocked(l *Lease) {
	b := LeaseBreak{Lease: l, From: l.told, To: l.held, Lost: l.lost}
	if l.uses == 0 { // closed meanwhile: that was the answer
		return
	}
	if b.Lost {
		b.To = LeaseNone
	}
	l.lost = false
	ack, serial, generation := l.ack, l.serial, s.generation.Load()
	l.ack = false
	keep := b.To
	if l.o.OnBreak != nil && b.From&^b.To != 0 {
		s.leaseMu.Unlock()
		ctx, cancel := context.WithTimeout(s.ctx, LeaseBreakTimeout)
		late := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(late)
			s.leaseMu.Lock()
			defer s.leaseMu.Unlock()
			if l.uses > 0 { // the server goes on without an answer
				l.overdue = ack
				l.generation.Add(1)
				l.publishLocked()
			}
		})
		keep &= l.o.OnBreak(ctx, b)
		if !stop() {
			<-late // what it says is taken back below
		}
		cancel()
		s.leaseMu.Lock()
	}
	if l.uses == 0 {
		return
	}
	if b.Lost {
		keep = l.held // what there is was given after that
	}
	l.told = keep | l.held
	l.purging = l.lost
	l.overdue = l.overdue && ack
	l.publishLocked()
	switch {
	case !ack, s.generation.Load() != generation: // or nobody waits for it any more
		return
	case l.serial != serial: // there is more to give up first
		l.ack = true
		return
	}
	if keep != l.held {
		l.setLocked(keep)
	}
	s.leaseMu.Unlock()
	err := s.acknowledge(l, keep)
	s.leaseMu.Lock()
	l.overdue = false
	if err != nil && l.uses > 0 && s.generation.Load() == generation {
		// [MS-SMB2] 3.2.5.19.4: the server has taken it all. Where the session was lost
		// that is for who makes it anew.
		s.cfg.Logger.Debug("lease lost", "server", s.server, "err", err)
		l.told |= l.held
		s.purgeLocked(l)
		l.setLocked(0)
	}
	l.publishLocked()
}

// acknowledge sends LEASE_BREAK Acknowledgment, [MS-SMB2] 2.2.24.2.
func (s *Session) acknowledge(l *Lease, keep LeaseState) error {
	k := l.sh.call(smb2.CommandOplockBreak)
	defer k.free()
	k.session = s.current()
	err := k.encode(&smb2.LeaseBreakAcknowledgment{LeaseKey: l.key, LeaseState: smb2.LeaseState(keep)})
	if err != nil {
		return err
	}
	if err := s.do(s.ctx, k); err != nil {
		return err
	}
	m, err := smb2.ParseLeaseBreakResponse(k.msg)
	if err != nil {
		return k.badBody(err)
	}
	if m.LeaseKey != l.key {
		return k.protocolError("3.2.5.19.4", "a break of another lease is answered")
	}
	return nil
}

// closeBreaks waits for the goroutines that call OnBreak.
func (s *Session) closeBreaks() {
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	s.breaks.closed = true
	for s.breaks.workers > 0 {
		s.leaseCond.Wait()
	}
}

// resumeLeases is for a session that has a connection again.
func (s *Session) resumeLeases() {
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	s.leasesDown = false
	for _, l := range s.leases {
		l.suspended = false
		l.publishLocked()
	}
	s.startBreakersLocked()
}

// loseLeases is for leases that no open was claimed with.
func (s *Session) loseLeases(kept map[*Lease]bool) {
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	for _, l := range s.leases {
		if kept[l] {
			continue
		}
		l.ack = false
		if l.told|l.held != 0 {
			l.told |= l.held
			s.purgeLocked(l)
			l.setLocked(0)
		}
	}
}

func (s *Session) hasLeases() bool {
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	return len(s.leases) > 0
}

// suspendLeases makes all leases unusable while there is no connection, or for ever.
func (s *Session) suspendLeases() {
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	s.leasesDown = true
	for _, l := range s.leases {
		l.suspended = true
		l.publishLocked()
	}
}
