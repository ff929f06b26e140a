package server

import (
	"context"
	"sync"
)

// Closable is what CloseByID closes.
type Closable uint8

const (
	// CloseConnection ends a connection; its sessions live on if they have others.
	CloseConnection Closable = iota
	// CloseSession ends a session and closes all that it has open, [MS-SMB2] 3.3.4.12.
	CloseSession
	// CloseOpen closes an open file, as CLOSE does.
	CloseOpen
)

// CloseByID closes what has the ID in Status, and returns when it is closed, or for a
// connection when its end has begun; false if there is none. Who has it open is told by
// the errors of what he does next.
func (s *Server) CloseByID(what Closable, id uint64) bool {
	switch what {
	case CloseConnection:
		s.mu.Lock()
		var found *conn
		for c := range s.conns {
			if c.id == id {
				found = c
			}
		}
		s.mu.Unlock()
		if found == nil {
			return false
		}
		found.log.Info("connection closed by the operator")
		found.abort()
		return true
	case CloseSession:
		sess := s.findSession(id)
		if sess == nil {
			return false
		}
		s.log.Info("session closed by the operator", "user", sess.userName(), "sid", id)
		s.expel(sess)
		return true
	case CloseOpen:
		o := s.findOpen(id)
		if o == nil {
			return false
		}
		defer o.release()
		s.log.Info("open file closed by the operator", "name", o.path())
		return o.shut(s.ctx)
	}
	return false
}

// findOpen finds an open by its ID in Status, with a reference.
func (s *Server) findOpen(id uint64) *open {
	for _, sess := range s.allSessions() {
		if o := sess.opens.find(id); o != nil {
			return o
		}
	}
	return s.durables.find(id)
}

// find returns a detached open with a reference, nil if there is none.
func (t *durableTable) find(number uint64) *open {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.opens {
		if o.number == number && o.acquire() {
			return o
		}
	}
	return nil
}

// find returns the open with an ID of Status and a reference, nil if there is none.
func (s *openSet) find(id uint64) *open {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, o := range s.m {
		if o.number == id && o.acquire() {
			return o
		}
	}
	return nil
}

// allSessions are the sessions that there are.
func (s *Server) allSessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*session, 0, len(s.sessions))
	for _, sess := range s.sessions {
		out = append(out, sess)
	}
	return out
}

// CloseShare ends all tree connects to a share, which stays, and returns how many there
// were. Opens whose clients may come again are closed too. Nobody can use what was open
// any more when it returns; it is closed too, unless ctx has ended first, whose error is
// returned then, while the rest goes on and Close waits for it.
func (s *Server) CloseShare(ctx context.Context, name string) (int, error) {
	if !s.begin() {
		return 0, ErrServerClosed
	}
	defer s.wg.Done()
	var closing sync.WaitGroup
	n := 0
	for _, sess := range s.allSessions() {
		for _, t := range sess.allTrees() {
			if foldName(t.share.Name) == foldName(name) && s.cutTree(t, nil) {
				s.closeTreeAside(t, &closing)
				n++
			}
		}
	}
	s.closeDetachedOf(func(share string) bool { return foldName(share) == foldName(name) }, &closing)
	s.log.Info("share closed by the operator", "share", name, "trees", n)
	return n, s.awaitClosed(ctx, &closing)
}

// awaitClosed returns when all is closed, or ctx has ended. The caller is one whom Close
// waits for.
func (s *Server) awaitClosed(ctx context.Context, closing *sync.WaitGroup) error {
	done := make(chan struct{})
	s.wg.Add(1)
	go func() { // ends when all is closed; Close waits
		defer s.wg.Done()
		closing.Wait()
		close(done)
	}()
	return await(ctx, done)
}
