package server

import (
	"container/list"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// ErrServerClosed is what Serve returns after Shutdown or Close. It matches
// net.ErrClosed.
var ErrServerClosed = fmt.Errorf("server: %w", net.ErrClosed)

// Server serves shares over any number of listeners. Its methods may be called
// by many goroutines at once.
//
// Lock order: Server.mu, session.mu, conn.chanMu, openTable.mu, openSet.mu,
// notifyState.mu before openTable.mu, notifyHub.mu after it; durableTable.mu,
// conn.reqMu and creditWindow.mu are innermost. None is held across I/O.
type Server struct {
	cfg     Config
	log     *slog.Logger
	live    atomic.Pointer[live]
	ntlm    ntlm.Server
	files   openTable
	replays replayTable
	// durables are opens without a session; see durable.go.
	durables durableTable
	spare    spareFiles
	relief   relief
	notify   notifyHub
	guesses  guessTable
	bufs     bufPool
	chains   sync.Pool // of *chain
	count    counters
	machine  smb2.SID // below it are those of the server's own users

	// ctx ends with Close; what runs on behalf of no connection uses it.
	ctx    context.Context
	cancel context.CancelFunc
	// stragglerGrace is what its name says; written by New and by tests.
	stragglerGrace time.Duration
	wg             sync.WaitGroup // connections, the janitor, the scavenger and the relief

	closers  closers
	lastOpen atomic.Uint64 // open.number of the last one

	mu       sync.Mutex
	conns    map[*conn]struct{}                        // guarded by mu
	sessions map[uint64]*session                       // guarded by mu
	serving  map[transport.Listener]context.CancelFunc // guarded by mu
	closing  bool                                      // guarded by mu: no more connections
	janitor  bool                                      // guarded by mu: it runs, and so do the scavenger and the relief
	lastConn uint64                                    // guarded by mu
	ended    map[string]*transport.Stats               // guarded by mu: of connections that have gone, by scheme

	strangers list.List // guarded by mu: of *conn, oldest first, on which nobody has logged on
	evicted   int       // guarded by mu: connections in conns that had to make room
}

// New makes a server. It starts nothing: Serve does.
func New(cfg Config) (*Server, error) {
	cfg, err := copyConfig(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		log:      cfg.Logger,
		conns:    map[*conn]struct{}{},
		sessions: map[uint64]*session{},
		serving:  map[transport.Listener]context.CancelFunc{},
		ended:    map[string]*transport.Stats{},
		machine:  machineSID(cfg.identity),

		stragglerGrace: stragglerGrace,
	}
	s.files.srv, s.files.breakTimeout = s, cfg.BreakTimeout
	s.durables.wake = make(chan struct{}, 1)
	s.relief.wake, s.relief.tick = make(chan struct{}, 1), reliefTick
	l, err := newLive(&cfg)
	if err != nil {
		return nil, err
	}
	s.live.Store(l)
	s.ntlm = ntlm.Server{
		NetBIOSName:    cfg.ServerName,
		NetBIOSDomain:  cfg.Domain,
		Lookup:         s.lookupUser,
		AllowAnonymous: cfg.Guest,
		AllowGuest:     cfg.Guest,
	}
	s.chains.New = func() any {
		ch := new(chain)
		ch.mayWaitFn = ch.mayWait
		return ch
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.spare.fill()
	return s, nil
}

// Serve accepts connections from l and serves them until ctx ends, l fails or
// the server is shut down, and closes l. Connections live on after ctx has
// ended, until Shutdown or Close. The error is never nil: ErrServerClosed,
// ctx.Err() or what Accept said.
func (s *Server) Serve(ctx context.Context, l transport.Listener) error {
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ErrServerClosed
	}
	if _, twice := s.serving[l]; twice {
		s.mu.Unlock()
		return errors.New("server: listener is served already")
	}
	s.serving[l] = cancel
	if !s.janitor {
		s.janitor = true
		s.wg.Add(3)
		go s.runJanitor()   // ends with s.ctx; Close waits
		go s.runScavenger() // likewise
		go s.runRelief()    // likewise
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.serving, l)
		s.mu.Unlock()
	}()
	for {
		tc, err := l.Accept(ctx)
		if err != nil {
			s.mu.Lock()
			closing := s.closing
			s.mu.Unlock()
			switch {
			case closing:
				return ErrServerClosed
			case ctx.Err() != nil:
				return ctx.Err()
			}
			return fmt.Errorf("server: accept on %s://%v: %w", l.Scheme(), l.Addr(), err)
		}
		if !s.live.Load().hosts.admits(tc.RemoteAddr()) {
			s.log.Info("connection refused: its address may not connect", "peer", addrString(tc.RemoteAddr()))
			s.audit(nil, AuditEvent{Kind: AuditConnection, Peer: addrString(tc.RemoteAddr()), Status: ntstatus.AccessDenied})
			s.count.refused.Add(1)
			tc.Close()
			continue
		}
		if !s.start(tc, l.Scheme()) {
			s.count.refused.Add(1)
			tc.Close()
		}
	}
}

// start serves a connection on its own goroutine, unless there are too many. Of
// those the oldest on which nobody has logged on makes room, so that peers who
// connect and say nothing do not keep others out.
func (s *Server) start(tc transport.Conn, scheme string) bool {
	s.mu.Lock()
	var victim *conn
	if limit := s.cfg.Limits.Connections; !s.closing && len(s.conns)-s.evicted >= limit {
		// Those that are on their way out are bounded too.
		if s.evicted < max(limit/4, 1) {
			victim = s.evictLocked()
		}
		if victim == nil {
			s.mu.Unlock()
			return false
		}
	}
	if s.closing {
		s.mu.Unlock()
		return false
	}
	s.lastConn++
	c := s.newConn(tc, s.lastConn, scheme)
	s.conns[c] = struct{}{}
	c.stranger = s.strangers.PushBack(c)
	s.count.accepted.Add(1)
	s.wg.Add(1)
	go func() { // ends when the connection does; Close and Shutdown wait
		defer s.wg.Done()
		defer s.forget(c)
		c.run()
	}()
	s.mu.Unlock()
	if victim != nil {
		victim.fail("too many connections, and nobody logged on to this one")
	}
	return true
}

// forget takes a connection that has ended out of the server's books.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.endedLocked(c)
	s.introducedLocked(c)
	if c.evicted {
		s.evicted--
	}
}

// evictLocked chooses who makes room, nil if all have logged on.
func (s *Server) evictLocked() *conn {
	e := s.strangers.Front()
	if e == nil {
		return nil
	}
	c := e.Value.(*conn)
	s.introducedLocked(c)
	c.evicted = true
	s.evicted++
	return c
}

// introduced notes that somebody logged on to c.
func (s *Server) introduced(c *conn) {
	if c.authed.Swap(true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.introducedLocked(c)
}

func (s *Server) introducedLocked(c *conn) {
	if c.stranger != nil {
		s.strangers.Remove(c.stranger)
		c.stranger = nil
	}
}

// stopAccepting ends every Serve and returns the connections there are. No open
// outlives its session from now on.
func (s *Server) stopAccepting() []*conn {
	s.durables.refuse()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for l, cancel := range s.serving {
		cancel()
		l.Close()
	}
	cs := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		cs = append(cs, c)
	}
	return cs
}

// Shutdown stops accepting, lets requests under way finish (those that wait for
// something to happen are answered STATUS_CANCELLED) and closes connections and
// sessions. If ctx ends first it closes at once, as Close does, and returns
// ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error {
	conns := s.stopAccepting()
	for _, c := range conns { // before one gets what another gives up as it ends
		c.endWaiting()
	}
	for _, c := range conns {
		c.drain()
	}
	done := make(chan struct{})
	go func() { // ends when the connections have; Close below makes them
		s.waitConns()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.Close()
	<-done
	return err
}

// waitConns returns when no connection is left.
func (s *Server) waitConns() {
	s.mu.Lock()
	var last []<-chan struct{}
	for c := range s.conns {
		last = append(last, c.done)
	}
	s.mu.Unlock()
	for _, d := range last {
		<-d
	}
}

// Close ends everything at once and returns when all goroutines have gone. It
// may be called more than once. The error is always nil.
func (s *Server) Close() error {
	for _, c := range s.stopAccepting() {
		c.abort()
	}
	s.cancel()
	s.wg.Wait()
	s.closeDetached()
	s.spare.close()
	return nil
}

// addSession gives a session its id and enters it; false over the limit.
func (s *Server) addSession(sess *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= s.cfg.Limits.Connections*s.cfg.Limits.SessionsPerConn {
		return false
	}
	for {
		// 32 bits, for clients that keep no more of it. It is no secret: a session is
		// proven by its keys.
		var b [4]byte
		rand.Read(b[:]) // never fails: it ends the program first
		id := uint64(binary.LittleEndian.Uint32(b[:]))
		if id == 0 || s.sessions[id] != nil {
			continue
		}
		sess.id = id
		s.sessions[id] = sess
		return true
	}
}

func (s *Server) removeSession(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[sess.id] == sess {
		delete(s.sessions, sess.id)
	}
}

// findSession looks in GlobalSessionTable.
func (s *Server) findSession(id uint64) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// runJanitor closes connections that do not negotiate, log on or say anything.
func (s *Server) runJanitor() {
	defer s.wg.Done()
	shortest := min(s.cfg.NegotiateTimeout, s.cfg.AuthTimeout)
	if s.cfg.IdleTimeout > 0 {
		shortest = min(shortest, s.cfg.IdleTimeout)
	}
	t := time.NewTicker(max(shortest/8, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-t.C:
			s.mu.Lock()
			cs := make([]*conn, 0, len(s.conns))
			for c := range s.conns {
				cs = append(cs, c)
			}
			s.mu.Unlock()
			for _, c := range cs {
				c.checkTimeouts(now)
			}
		}
	}
}
