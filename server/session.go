package server

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// sessionState is Session.State of [MS-SMB2] 3.3.1.8. There is no Expired:
// NTLM gives no expiration time, so it is infinity (3.3.5.5.3).
type sessionState uint8

const (
	sessionInProgress sessionState = iota
	sessionValid
	sessionGone
)

// session is a logged-on user, or somebody on the way there: [MS-SMB2] 3.3.1.8.
type session struct {
	srv     *Server
	id      uint64
	created time.Time
	dialect uint16
	client  smb2.GUID

	// gone is set when the session ends, before its opens are closed: who adds an
	// open after that must take it back.
	gone atomic.Bool
	// left is closed when the session has ended and has nothing open any more.
	left chan struct{}
	// cut is set while the session has no connection. It changes with mu held.
	cut atomic.Bool

	// as is who has logged on. It is there from the beginning, and replaced by
	// reauthentication.
	as atomic.Pointer[logon]

	mu    sync.Mutex
	state sessionState // guarded by mu
	// preauth is Session.PreauthIntegrityHashValue. guarded by mu
	preauth smbcrypto.Preauth
	// auth is the exchange under way. guarded by mu
	auth *authentication
	// busy is set while a SESSION_SETUP of it is served. guarded by mu
	busy     bool
	opens    openSet
	trees    map[uint32]*tree   // guarded by mu
	nextTree uint32             // guarded by mu
	channels map[*conn]*channel // guarded by mu
	// lasting are requests under way that go on when their channel is lost while the
	// session has another. guarded by mu
	lasting map[*request]struct{}

	// The rest is written once, before state becomes Valid, and read freely by
	// requests that found it so.
	signer         *smbcrypto.Signer // with Session.SigningKey; nil for guests
	sealer         *smbcrypto.Sealer // nil without encryption
	opener         *smbcrypto.Opener
	encryptData    bool
	cipher         smbcrypto.Cipher           // of its first connection
	signing        smbcrypto.SigningAlgorithm // likewise
	wantsSigning   bool                       // the client requires it
	flags          smb2.SessionFlags          // as the client was told
	applicationKey []byte
}

// logon is who a session's user is. It does not change.
type logon struct {
	user, domain     string
	token            *accessToken
	guest, anonymous bool
}

// key tells users apart: Session.UserName as it is compared. Those who have shown no
// name have none.
func (l *logon) key() string {
	if l.anonymous || l.guest {
		return ""
	}
	return foldName(l.user)
}

// same reports whether it is the same user as another.
func (l *logon) same(o *logon) bool {
	return l.key() == o.key() && l.anonymous == o.anonymous
}

// who is the session's user now.
func (s *session) who() *logon { return s.as.Load() }

// channel is a session on one connection: [MS-SMB2] 3.3.1.14. It is immutable.
type channel struct {
	sess   *session
	conn   *conn
	signer *smbcrypto.Signer // with Channel.SigningKey; nil until authenticated, and for guests
	// mustSign is Session.SigningRequired, kept per channel: by default TCP
	// requires what SMB Direct leaves to the client.
	mustSign bool
}

// userKey tells users apart: see [logon.key].
func (s *session) userKey() string { return s.who().key() }

func (s *session) currentState() sessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// isValid reports whether somebody is logged on.
func (s *session) isValid() bool { return s.currentState() == sessionValid }

// tree returns a tree connect by its id, nil if there is none.
func (s *session) tree(id uint32) *tree {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trees[id]
}

// conns returns the connections that the session has channels on.
func (s *session) conns() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	cs := make([]*conn, 0, len(s.channels))
	for c := range s.channels {
		cs = append(cs, c)
	}
	return cs
}

// newSession makes a session of a connection and enters it in both tables.
func (c *conn) newSession() (*session, ntstatus.Status) {
	s := &session{
		left: make(chan struct{}),
		srv:  c.srv, created: time.Now(),
		dialect: c.dialect, client: c.clientGUID,
		preauth: c.preauth,
		trees:   map[uint32]*tree{}, channels: map[*conn]*channel{},
	}
	s.as.Store(&logon{})
	ch := &channel{sess: s, conn: c}
	s.channels[c] = ch
	c.chanMu.Lock()
	full := len(c.channels) >= c.srv.cfg.Limits.SessionsPerConn
	c.chanMu.Unlock()
	if full {
		return nil, ntstatus.InsufficientResources
	}
	if !c.srv.addSession(s) {
		return nil, ntstatus.InsufficientResources
	}
	c.setChannel(ch)
	return s, ntstatus.Success
}

// channel returns the session's channel on this connection.
func (c *conn) channel(id uint64) *channel {
	c.chanMu.RLock()
	defer c.chanMu.RUnlock()
	return c.channels[id]
}

// replaceChannel puts the channel of a session that is established in the place
// of the one it began with; false if that has gone.
func (c *conn) replaceChannel(ch *channel) bool {
	c.chanMu.Lock()
	defer c.chanMu.Unlock()
	if old := c.channels[ch.sess.id]; old == nil || old.sess != ch.sess {
		return false
	}
	c.channels[ch.sess.id] = ch
	return true
}

// dropSession takes a session out of the connection's tables.
func (c *conn) dropSession(sess *session) {
	c.chanMu.Lock()
	defer c.chanMu.Unlock()
	delete(c.channels, sess.id)
	delete(c.binding, sess.id)
}

func (c *conn) setChannel(ch *channel) {
	c.chanMu.Lock()
	c.channels[ch.sess.id] = ch
	c.chanMu.Unlock()
}

// endSession takes a session out of every table, cancels its requests but for
// self, and closes what it has open, but for the opens that are to outlive it
// ([MS-SMB2] 3.3.5.6, 3.3.7.1). Only the first call does something.
func (s *Server) endSession(sess *session, self *request) { s.removeAll(sess, self, true) }

// expel ends a session as endSession does, and leaves nothing of it.
func (s *Server) expel(sess *session) { s.removeAll(sess, nil, false) }

func (s *Server) removeAll(sess *session, self *request, keep bool) {
	sess.mu.Lock()
	if sess.state == sessionGone {
		sess.mu.Unlock()
		return
	}
	sess.state = sessionGone
	sess.auth = nil
	trees := sess.trees
	sess.trees = map[uint32]*tree{}
	channels := sess.channels
	sess.channels = map[*conn]*channel{}
	sess.cut.Store(true)
	sess.cancelLastingLocked(func(r *request) bool { return r != self })
	sess.mu.Unlock()
	sess.gone.Store(true)
	for _, t := range trees {
		t.hold()
		t.end()
		defer t.drop() // when the opens are closed, or have taken it over
	}
	for c := range channels {
		c.dropSession(sess)
		c.cancelWhere(func(r *request) bool { return r.sess == sess && r != self })
	}
	defer close(sess.left)
	// Only then: who comes in its place has to find it as long as it has something.
	defer s.removeSession(sess)
	s.closeSessionOpens(sess, keep)
}

// loseChannel takes the channel on a connection that has ended out of the session,
// while requests that came by it may still be served: nothing is sent to the client by
// it any more. Without another channel nobody waits for lasting requests.
func (s *session) loseChannel(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.channels, c)
	if len(s.channels) == 0 {
		s.cut.Store(true)
		s.cancelLastingLocked(func(*request) bool { return true })
	}
}

// dropChannel is the end of a connection for a session, when no request that came by
// it is being served any more: it lives on while it has another channel.
func (s *Server) dropChannel(sess *session, c *conn) {
	sess.mu.Lock()
	delete(sess.channels, c)
	last := len(sess.channels) == 0
	sess.mu.Unlock()
	if last {
		s.endSession(sess, nil)
	} else {
		sess.lostChannel(c)
	}
}

// makeLasting makes the request one that goes on when its channel is lost while the session
// has another: who sends it again on that asks for what it does. over must follow. It
// still ends by CANCEL, and with its session, its tree and the server.
func (r *request) makeLasting() (over func()) {
	s := r.sess
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lasting == nil {
		s.lasting = make(map[*request]struct{})
	}
	s.lasting[r] = struct{}{}
	r.conn.reqMu.Lock()
	r.lasts = true
	r.conn.reqMu.Unlock()
	return func() {
		s.mu.Lock()
		delete(s.lasting, r)
		s.mu.Unlock()
	}
}

// cancelLastingLocked cancels lasting requests, which may be those of connections
// that the session has lost.
func (s *session) cancelLastingLocked(which func(*request) bool) {
	for r := range s.lasting {
		if which(r) {
			r.ctx.cancel()
		}
	}
}
