package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Status is what a server is doing, in the order of the identifiers. Its lists end
// at the limit that was asked for; Totals has the full numbers.
type Status struct {
	Listeners   []ListenerStatus   `json:"listeners"`
	Connections []ConnectionStatus `json:"connections"`
	Sessions    []SessionStatus    `json:"sessions"`
	// Detached are opens whose clients have lost their connections and may come again.
	Detached []DetachedStatus `json:"detached"`
	Locks    []LockStatus     `json:"locks"`
	Leases   []LeaseStatus    `json:"leases"`
	// Totals are the counts of Stats, Transports those of all connections there
	// were and are, by the scheme of their listener.
	Totals     Stats                      `json:"totals"`
	Transports map[string]transport.Stats `json:"transports"`
}

// ListenerStatus is a listener that is being served.
type ListenerStatus struct {
	Scheme  string `json:"scheme"`
	Address string `json:"address"`
}

// ConnectionStatus is a connection.
type ConnectionStatus struct {
	ID          uint64    `json:"id"`
	Transport   string    `json:"transport"`          // scheme of the listener
	Provider    string    `json:"provider,omitempty"` // of the RDMA side; empty without one
	Local       string    `json:"local"`
	Remote      string    `json:"remote"`
	Since       time.Time `json:"since"`
	LastMessage time.Time `json:"last_message"` // when the last one came
	// Dialect, Signing and Encryption are what NEGOTIATE chose; empty before, and
	// without.
	Dialect    string `json:"dialect,omitempty"`
	Signing    string `json:"signing,omitempty"`
	Encryption string `json:"encryption,omitempty"`
	// RemoteInvalidation says that answers take the client's tokens away.
	RemoteInvalidation bool `json:"remote_invalidation"`
	// Users that are logged on by it.
	Users []string `json:"users"`
	// Requests is how many are being served. Credits is how many more the client may
	// send, of CreditsMax ([MS-SMB2] 3.3.1.2).
	Requests   int `json:"requests"`
	Credits    int `json:"credits"`
	CreditsMax int `json:"credits_max"`
	// Parameters are those of SMB Direct; nil without it.
	Parameters *transport.Parameters `json:"parameters,omitempty"`
	Stats      transport.Stats       `json:"stats"`
}

// SessionStatus is a session of somebody who has logged on. Its ID is a string in
// JSON, where numbers have fewer bits.
type SessionStatus struct {
	ID      uint64    `json:"id,string"`
	User    string    `json:"user"`
	Domain  string    `json:"domain"`
	Guest   bool      `json:"guest"`
	Since   time.Time `json:"since"`
	Dialect string    `json:"dialect,omitempty"`
	// SigningRequired on at least one of the connections; Encrypted says that
	// everything is.
	SigningRequired bool         `json:"signing_required"`
	Encrypted       bool         `json:"encrypted"`
	Connections     []uint64     `json:"connections"`
	Trees           []TreeStatus `json:"trees"`
	// OpenCount is the number of its open files, of which Opens has as many as
	// there was room for.
	OpenCount int          `json:"open_count"`
	Opens     []OpenStatus `json:"opens"`
}

// TreeStatus is a tree connect.
type TreeStatus struct {
	ID    uint32 `json:"id"`
	Share string `json:"share"`
}

// Status returns what the server is doing, with at most limit listeners,
// connections, sessions, trees of all sessions, opens of all sessions, and of each other
// kind. It may be
// called at any time; things that change meanwhile may be seen before or after.
func (s *Server) Status(limit int) Status {
	st := Status{Totals: s.Stats()}
	s.mu.Lock()
	for l := range s.serving {
		st.Listeners = append(st.Listeners, ListenerStatus{l.Scheme(), l.Addr().String()})
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	sessions := make([]*session, 0, len(s.sessions))
	for _, sess := range s.sessions {
		sessions = append(sessions, sess)
	}
	s.mu.Unlock()
	slices.SortFunc(st.Listeners, func(a, b ListenerStatus) int {
		return cmp.Or(cmp.Compare(a.Scheme, b.Scheme), cmp.Compare(a.Address, b.Address))
	})
	st.Listeners = atMost(st.Listeners, limit)
	slices.SortFunc(conns, func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
	slices.SortFunc(sessions, func(a, b *session) int { return cmp.Compare(a.id, b.id) })
	for _, c := range atMost(conns, limit) {
		st.Connections = append(st.Connections, c.status())
	}
	trees, opens := limit, limit
	for _, sess := range sessions {
		if len(st.Sessions) == limit {
			break
		}
		if x, ok := sess.status(&trees, &opens); ok {
			st.Sessions = append(st.Sessions, x)
		}
	}
	st.Transports = s.TransportStats()
	st.Detached, st.Locks, st.Leases = s.detachedStatus(limit), s.lockStatus(limit), s.leaseStatus(limit)
	return st
}

func atMost[T any](s []T, n int) []T { return s[:min(len(s), max(n, 0))] }

// TransportStats returns the counts of all connections there were and are, by the
// scheme of their listener. What a connection has now, as its credits, is that of
// those there are.
func (s *Server) TransportStats() map[string]transport.Stats {
	s.mu.Lock()
	out := make(map[string]transport.Stats, len(s.ended))
	for k, v := range s.ended {
		out[k] = *v
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns { // one that ends meanwhile is not in the sums above
		sum, x := out[c.scheme], c.tc.Stats()
		sum.Add(&x)
		sum.SendCredits += x.SendCredits
		sum.ReceiveCredits += x.ReceiveCredits
		sum.Registrations += x.Registrations
		sum.LeasedBuffers += x.LeasedBuffers
		sum.RDMAOutstanding += x.RDMAOutstanding
		out[c.scheme] = sum
	}
	return out
}

// endedLocked adds what a connection counted to the sums. s.mu is held.
func (s *Server) endedLocked(c *conn) {
	sum := s.ended[c.scheme]
	if sum == nil {
		sum = &transport.Stats{}
		s.ended[c.scheme] = sum
	}
	x := c.tc.Stats()
	sum.Add(&x)
}

// Transport returns the transport of the connection with an ID of Status, to look
// at, and false if there is none any more.
func (s *Server) Transport(id uint64) (transport.Conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.id == id {
			return c.tc, true
		}
	}
	return nil, false
}

func (c *conn) status() ConnectionStatus {
	st := ConnectionStatus{
		ID: c.id, Transport: c.scheme, Local: addrString(c.tc.LocalAddr()), Remote: addrString(c.tc.RemoteAddr()),
		Since: c.since, LastMessage: time.Unix(0, c.received.Load()), Stats: c.tc.Stats(),
	}
	if c.rdma != nil {
		st.Provider, st.RemoteInvalidation = c.rdma.Provider(), c.rdma.RemoteInvalidation()
	}
	if n, ok := c.tc.(transport.Negotiator); ok {
		p := n.Parameters()
		st.Parameters = &p
	}
	if c.negotiated.Load() { // what it says was set before
		st.Dialect = smb2.Dialect(c.dialect).String()
		if c.dialect >= Dialect300 {
			st.Signing = c.signing.String()
		} else {
			st.Signing = "HMAC-SHA256"
		}
		if c.cipher != 0 {
			st.Encryption = c.cipher.String()
		}
	}
	c.chanMu.RLock()
	sessions := make([]*session, 0, len(c.channels))
	for _, ch := range c.channels {
		sessions = append(sessions, ch.sess)
	}
	c.chanMu.RUnlock()
	for _, sess := range sessions {
		if sess.isValid() {
			st.Users = append(st.Users, sess.userName())
		}
	}
	slices.Sort(st.Users)
	c.reqMu.Lock()
	st.Requests = len(c.requests)
	c.reqMu.Unlock()
	c.window.mu.Lock()
	st.Credits, st.CreditsMax = c.window.held, c.window.max
	c.window.mu.Unlock()
	return st
}

// userName is what the user is called in Status. The session is valid.
func (s *session) userName() string {
	who := s.who()
	switch {
	case who.anonymous:
		return "(anonymous)"
	case who.domain != "":
		return who.domain + `\` + who.user
	}
	return who.user
}

// status fills in at most as many trees and opens as there is room for, and says
// how much is left; ok is false if nobody is logged on.
func (s *session) status(trees, opens *int) (st SessionStatus, ok bool) {
	s.mu.Lock()
	if s.state != sessionValid {
		s.mu.Unlock()
		return st, false
	}
	who := s.who()
	st = SessionStatus{
		ID: s.id, User: who.user, Domain: who.domain, Guest: who.guest || who.anonymous, Since: s.created,
		Dialect: smb2.Dialect(s.dialect).String(), Encrypted: s.encryptData,
	}
	if who.anonymous {
		st.User = s.userName()
	}
	for c, ch := range s.channels {
		st.Connections = append(st.Connections, c.id)
		st.SigningRequired = st.SigningRequired || ch.mustSign
	}
	for _, t := range s.trees {
		if *trees == 0 {
			break
		}
		*trees--
		st.Trees = append(st.Trees, TreeStatus{t.id, t.share.Name})
	}
	s.mu.Unlock()
	slices.Sort(st.Connections)
	slices.SortFunc(st.Trees, func(a, b TreeStatus) int { return cmp.Compare(a.ID, b.ID) })
	list := s.opens.some(*opens, &st.OpenCount)
	*opens -= len(list)
	for _, o := range list {
		st.Opens = append(st.Opens, o.status())
		o.release()
	}
	slices.SortFunc(st.Opens, func(a, b OpenStatus) int {
		return cmp.Or(cmp.Compare(a.Share, b.Share), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return st, true
}

// some returns at most limit opens, each with a reference, and how many there are.
func (s *openSet) some(limit int, n *int) []*open {
	s.mu.RLock()
	defer s.mu.RUnlock()
	*n = len(s.m)
	list := make([]*open, 0, min(len(s.m), limit))
	for _, o := range s.m {
		if len(list) == limit {
			break
		}
		if o.acquire() {
			list = append(list, o)
		}
	}
	return list
}
