package server

import (
	"context"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// # Clients that come again
//
// A client whose connection is lost makes another at once, and asks for what it had by
// the old one. The end of that has arrived by then, but who receives from it may not have
// been told, or have other things to do first. So where a CREATE would be refused for what
// another session has open, and where an open is to be claimed that a session still has,
// it is looked whether the peer of that session has gone, and its end is awaited.

// departedGrace is how long the end of a connection is waited for whose peer has gone. It
// may take longer where what the client had asked for hangs.
const departedGrace = 5 * time.Second

// departed reports whether the connection is about to end: its peer has closed it.
func (c *conn) departed() bool {
	if c.ctx.Err() != nil {
		return true
	}
	t, ok := c.tc.(transport.Deliverer)
	if !ok {
		return false
	}
	d, ok := t.Delivery()
	return ok && d.Ended
}

// awaitDeparted waits for the end of those of the sessions that have no connection left
// with a peer, and reports whether there were any.
func (r *request) awaitDeparted(ctx context.Context, sessions []*session) bool {
	var ends []<-chan struct{}
	for _, sess := range sessions {
		if sess != r.sess && !slices.ContainsFunc(sess.conns(), func(c *conn) bool { return !c.departed() }) {
			ends = append(ends, sess.left)
		}
	}
	if len(ends) == 0 {
		return false
	}
	r.chain.mayWait()
	limit := time.NewTimer(departedGrace)
	defer limit.Stop()
	for _, end := range ends {
		select {
		case <-end:
		case <-limit.C:
			return true
		case <-ctx.Done():
			return true
		}
	}
	return true
}

// sessionsAt are those that have the object or a stream of it open.
func (t *openTable) sessionsAt(key objectKey) (list []*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opensLocked(key.id, func(o *open) bool {
		if !o.durable.detached.Load() && !slices.Contains(list, o.sess) {
			list = append(list, o.sess)
		}
		return true
	})
	return list
}

// sessionWith is the session of a user's that has an open with that persistent part of its
// FileId, or was made with that CreateGuid if it is not zero; none if there is none.
func (s *Server) sessionWith(user string, persistent uint64, guid smb2.GUID) []*session {
	for _, sess := range s.allSessions() {
		if sess.isValid() && sess.userKey() == user && sess.opens.has(persistent, guid) {
			return []*session{sess}
		}
	}
	return nil
}

func (s *openSet) has(persistent uint64, guid smb2.GUID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, o := range s.m {
		if o.id.Persistent == persistent || guid != (smb2.GUID{}) && o.durable.createGUID == guid {
			return true
		}
	}
	return false
}
