package server

import (
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// channelSequence keeps a request that was sent on a lost channel from being
// carried out after its repetition on another: Open.ChannelSequence,
// OutstandingRequestCount and OutstandingPreRequestCount of [MS-SMB2] 3.3.1.10.
type channelSequence struct {
	mu sync.Mutex
	// guarded by mu
	current  uint16    // at first, that of the CREATE
	now      int       // requests under way with the current number
	previous int       // and with older ones
	blocked  time.Time // since when replays are refused; zero while none is
}

// begin is [MS-SMB2] 3.3.5.2.10. Where ok is false the requests that change
// something must fail; counted says that the request owes an end.
func (s *channelSequence) begin(n uint16, replay bool) (ok, counted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch newer := n - s.current; {
	case newer == 0:
		if replay && s.previous > 0 {
			return false, false
		}
		s.now++
		return true, true
	case newer <= 0x7FFF:
		s.previous += s.now
		s.current = n
		s.now = 0
		if replay && s.previous > 0 {
			return false, false
		}
		s.now = 1
		return true, true
	}
	return false, false
}

// end is for a request that begin counted, [MS-SMB2] 3.3.4.1.
func (s *channelSequence) end(n uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == s.current {
		s.now--
	} else {
		s.previous--
	}
}

// beginSequence checks the request's ChannelSequence against the open's.
func (r *request) beginSequence(o *open) ntstatus.Status {
	if r.conn.dialect < Dialect300 || r.sequence != nil || r.pending {
		return ntstatus.Success
	}
	replay := r.hdr.Flags&smb2.FlagReplayOperation != 0
	ok, counted := o.sequence.begin(r.hdr.ChannelSequence, replay)
	if replay && o.sequence.overdue(!ok, r.srv.stragglerGrace) {
		r.endStragglers(o)
	}
	if counted {
		r.sequence = o.sequence
	}
	if !ok {
		switch r.hdr.Command {
		case smb2.CommandWrite, smb2.CommandSetInfo, smb2.CommandIoctl:
			return ntstatus.FileNotAvailable
		}
	}
	return ntstatus.Success
}

// stragglerGrace is how long requests of a lost channel may keep those that repeat
// them waiting before their connections are ended. As a rule it has ended long
// before; but a path may go silent without either end being told, and an RDMA
// operation on it takes as long to fail as the transport takes to give up.
const stragglerGrace = 5 * time.Second

// overdue notes whether a replay was refused, and reports whether replays have been
// for longer than grace.
func (s *channelSequence) overdue(refused bool, grace time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !refused || s.previous == 0 {
		s.blocked = time.Time{}
		return false
	}
	now := time.Now()
	if s.blocked.IsZero() {
		s.blocked = now
	}
	if now.Sub(s.blocked) < grace {
		return false
	}
	s.blocked = now // the next ones get their time too
	return true
}

// endStragglers ends the other connections of the session that still serve a
// request on the open with an older number than r's.
func (r *request) endStragglers(o *open) {
	for _, c := range r.sess.conns() {
		if c != r.conn && c.straggles(o, r.hdr.ChannelSequence) {
			c.log.Warn("connection ended: its requests keep those of another channel waiting that repeat them",
				"sid", r.sess.id)
			c.abort()
		}
	}
}

// straggles reports whether a request on the open is being served whose number is
// older than n.
func (c *conn) straggles(o *open, n uint16) bool {
	c.reqMu.Lock()
	defer c.reqMu.Unlock()
	for _, q := range c.requests {
		if age := n - q.number; q.fileID == o.id && q.sid == o.sess.id && q.asyncID == 0 && age != 0 && age <= 0x7FFF {
			return true
		}
	}
	return false
}

// endSequence is called once the request has been served.
func (r *request) endSequence() {
	if r.sequence != nil {
		r.sequence.end(r.hdr.ChannelSequence)
		r.sequence = nil
	}
}
