package server

import (
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// channelSequence keeps a request that was sent on a lost channel from being
// carried out after its repetition on another: Open.ChannelSequence,
// OutstandingRequestCount and OutstandingPreRequestCount of [MS-SMB2] 3.3.1.10.
type channelSequence struct {
	mu sync.Mutex
	// guarded by mu
	current  uint16
	now      int // requests under way with the current number
	previous int // and with older ones
}

// set is for CREATE: the first number is the one it came with.
func (s *channelSequence) set(n uint16) {
	s.mu.Lock()
	s.current = n
	s.mu.Unlock()
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
	if r.conn.dialect < Dialect300 || r.sequence != nil {
		return ntstatus.Success
	}
	ok, counted := o.sequence.begin(r.hdr.ChannelSequence, r.hdr.Flags&smb2.FlagReplayOperation != 0)
	if counted {
		r.sequence = &o.sequence
	}
	if !ok {
		switch r.hdr.Command {
		case smb2.CommandWrite, smb2.CommandSetInfo, smb2.CommandIoctl:
			return ntstatus.FileNotAvailable
		}
	}
	return ntstatus.Success
}

// endSequence is called once the request has been served.
func (r *request) endSequence() {
	if r.sequence != nil {
		r.sequence.end(r.hdr.ChannelSequence)
		r.sequence = nil
	}
}
