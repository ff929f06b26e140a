package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Defaults of ReconnectConfig.
const (
	DefaultReconnectDial     = 10 * time.Second
	DefaultReconnectMinDelay = 100 * time.Millisecond
	DefaultReconnectMaxDelay = 5 * time.Second
)

// ReopenPolicy says what becomes of a file whose open the server does not have any
// more, because it was started again or because others wanted the file.
type ReopenPolicy uint8

const (
	// ReopenNever: calls fail with ErrStale. The default.
	ReopenNever ReopenPolicy = iota
	// ReopenSame opens it again by its name, if that is provably the same file: if the
	// number that its file system gives it and its time of creation are the same. Locks
	// are lost then, see ErrLocksLost. If something was written and not synced, which
	// is lost if the server's machine went down, the next Sync fails once, with ErrUncertain.
	ReopenSame
	// ReopenSameTrusting does not have Sync fail: it trusts that the machine went on,
	// and what was written is there.
	ReopenSameTrusting
)

// ReconnectConfig says what is done when the last connection of a session is lost: the
// network was cut, or the server started again.
//
// With Enabled the session is made anew, and its shares and opens with it. Calls wait
// meanwhile, as long as their context or Config.Timeout allows. What can be done twice
// without harm is sent again. Of what cannot (making what must not exist, renaming,
// removing, a lock on a file that could not be claimed) and whose answer was lost,
// the caller is told that it may have happened: ErrUncertain.
//
// Opens of files are made so that the server keeps them for a while when their
// connection is lost, with their locks: durable, which takes a lease with LeaseHandle,
// or persistent where the share has that ([MS-SMB2] 3.2.4.3.5, 3.2.4.4). An open without
// a CreateOptions.Lease gets one of its own.
//
// What Sync has acknowledged is on stable storage. What was written and not synced is
// kept as long as the server's machine runs, be its process killed or not; an open that
// was claimed proves that it did.
type ReconnectConfig struct {
	Enabled bool
	// Dial makes a connection to the server. Nil means that of Dial; New needs one.
	Dial func(ctx context.Context) (transport.Conn, error)
	// DialTimeout bounds the making of one connection, MinDelay and MaxDelay the time
	// between two tries, which grows. 0 means DefaultReconnectDial,
	// DefaultReconnectMinDelay and DefaultReconnectMaxDelay.
	DialTimeout, MinDelay, MaxDelay time.Duration
	// GiveUp is for how long it is tried before the session ends; 0 means until Close.
	// A user whom the server does not take any more ends it at once.
	GiveUp time.Duration
	Reopen ReopenPolicy
	// DurableTimeout is for how long the server is asked to keep opens, at most 1193
	// hours; 0 leaves it to the server.
	DurableTimeout time.Duration
	// OnEvent is told when the connection is lost, and when there is one again. It is
	// called by one goroutine, which goes on when it returns: it must not use the
	// session. Leases that were lost are told of by their OnBreak.
	OnEvent func(ReconnectEvent)
}

// ReconnectEvent tells that the last connection of a session was lost (Up is false), or
// that there is one again.
type ReconnectEvent struct {
	Up  bool
	Err error // why the connection was lost
	// With Up: after how many tries, and how long it took.
	Attempts int
	Downtime time.Duration
	// With Up: how many opens were claimed as they were, opened again, and lost.
	Reclaimed, Reopened, Stale int
}

func (c *ReconnectConfig) setDefaults() error {
	for _, d := range []struct {
		field    string
		v        *time.Duration
		def, max time.Duration
	}{
		{"DialTimeout", &c.DialTimeout, DefaultReconnectDial, 1 << 62}, {"MinDelay", &c.MinDelay, DefaultReconnectMinDelay, 1 << 62},
		{"MaxDelay", &c.MaxDelay, DefaultReconnectMaxDelay, 1 << 62}, {"GiveUp", &c.GiveUp, 0, 1 << 62},
		{"DurableTimeout", &c.DurableTimeout, 0, 0xFFFFFFFF * time.Millisecond},
	} {
		if *d.v < 0 || *d.v > d.max {
			return fmt.Errorf("client: Config.Reconnect.%s %v is not in 0..%v: %w", d.field, *d.v, d.max, fs.ErrInvalid)
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Reopen > ReopenSameTrusting {
		return fmt.Errorf("client: Config.Reconnect.Reopen %d is not a ReopenPolicy: %w", c.Reopen, fs.ErrInvalid)
	}
	c.MaxDelay = max(c.MaxDelay, c.MinDelay)
	return nil
}

// reconnects says whether the session is made anew when its last connection is lost.
func (s *Session) reconnects() bool { return s.cfg.Reconnect.Enabled && s.cfg.Reconnect.Dial != nil }

// goDown begins to make the session anew. Called with chanMu held, when the last
// channel has been taken out, of a session that goes on.
func (s *Session) goDown(cause error) {
	s.down = make(chan struct{})
	s.generation.Add(1)
	s.suspendLeases()
	s.reviving.Add(1)
	go s.revive(cause) // ended by its success and by ctx; Close waits
}

// isDown says whether there is no connection now.
func (s *Session) isDown() bool {
	s.chanMu.Lock()
	defer s.chanMu.Unlock()
	return s.down != nil
}

// closedByServer is for a session that the server has ended, on all its channels. It is
// made anew, or over.
func (s *Session) closedByServer(c *conn) error {
	if !s.reconnects() {
		s.end(&lostError{errSessionClosed})
		return c.fail(errSessionClosed)
	}
	for _, o := range s.set.Load().all {
		_ = o.fail(errSessionClosed)
	}
	return c.fail(errSessionClosed)
}

// isChannel says whether the connection is one of the session's already.
func (c *conn) isChannel() bool {
	set := c.sess.set.Load()
	return set != nil && slices.Contains(set.all, c)
}

// awaitUp waits until the session has a connection, after the loss of the one before. It
// is bounded by Config.Timeout where ctx has no deadline.
func (s *Session) awaitUp(ctx context.Context, lost error) error {
	if s.cfg.Timeout > 0 {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.Timeout,
				fmt.Errorf("no connection to the server within %v: %w (%w)", s.cfg.Timeout, os.ErrDeadlineExceeded, lost))
			defer cancel()
		}
	}
	for {
		s.chanMu.Lock()
		down, err := s.down, s.err
		s.chanMu.Unlock()
		if err != nil || down == nil {
			return err
		}
		select {
		case <-down:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// revive makes the session anew: [MS-SMB2] 3.2.4.4 and 3.2.7.1.
func (s *Session) revive(cause error) {
	defer s.reviving.Done()
	s.reviveMu.Lock() // if the one before is still telling
	defer s.reviveMu.Unlock()
	cfg := &s.cfg.Reconnect
	began := time.Now()
	s.cfg.Logger.Warn("connection lost, making another", "server", s.server, "err", cause)
	s.tell(ReconnectEvent{Err: cause})
	ctx := s.ctx
	if cfg.GiveUp > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.GiveUp)
		defer cancel()
	}
	delay := cfg.MinDelay
	if !s.upAt.IsZero() && began.Sub(s.upAt) < cfg.MaxDelay {
		// The last one did not live for long: not without a pause, and a longer one each time.
		delay = s.pause
		s.rest(ctx, &delay)
	}
	for n := 1; ; n++ {
		e := ReconnectEvent{Up: true, Err: cause, Attempts: n}
		c, err := s.attempt(ctx, &e)
		if err == nil {
			e.Downtime = time.Since(began)
			s.upAt, s.pause = time.Now(), delay
			s.comeUp(c)
			s.cfg.Logger.Info("connection made again", "server", s.server, "attempts", n, "after", e.Downtime,
				"reclaimed", e.Reclaimed, "reopened", e.Reopened, "stale", e.Stale)
			s.tell(e)
			s.reap()
			return
		}
		s.cfg.Logger.Debug("no connection", "server", s.server, "attempt", n, "err", err)
		if !isRefusal(err) && s.rest(ctx, &delay) {
			continue
		}
		s.neverUp(fmt.Errorf("%w; making another: %w", cause, err))
		return
	}
}

// rest waits before the next try, and makes the wait after it longer. It is false if ctx
// has ended.
func (s *Session) rest(ctx context.Context, delay *time.Duration) bool {
	t := time.NewTimer(*delay)
	defer t.Stop()
	*delay = min(2**delay, s.cfg.Reconnect.MaxDelay)
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

func (s *Session) tell(e ReconnectEvent) {
	if s.cfg.Reconnect.OnEvent != nil {
		s.cfg.Reconnect.OnEvent(e)
	}
}

// refusal is that of a user, which trying again does not change, and may lock out.
type refusal struct{ error }

func (e refusal) Unwrap() error { return e.error }

func isRefusal(err error) bool {
	var r refusal
	return errors.As(err, &r)
}

// attempt makes a connection with everything that the session has. It is not the
// session's yet when it returns.
func (s *Session) attempt(ctx context.Context, e *ReconnectEvent) (*conn, error) {
	short, cancel := context.WithTimeout(ctx, s.cfg.Reconnect.DialTimeout)
	defer cancel()
	tr, err := s.cfg.Reconnect.Dial(short)
	if err != nil {
		return nil, err
	}
	c := newConn(tr, s)
	if err := s.renew(ctx, short, c, e); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// renew logs on and gets the shares and opens again.
func (s *Session) renew(ctx, short context.Context, c *conn, e *ReconnectEvent) (err error) {
	if c.neg, err = negotiate(short, c, &s.cfg, s.server); err != nil {
		return err
	}
	guest, anonymous := s.guest.Load(), s.anonymous.Load()
	if err := s.logon(short, c, false); err != nil {
		if st := ntstatus.Status(0); c.failed() == nil && errors.As(err, &st) && errors.Is(st, fs.ErrPermission) {
			return refusal{err}
		}
		return err
	}
	if guest != s.guest.Load() || anonymous != s.anonymous.Load() {
		return refusal{fmt.Errorf("the server takes the user for another than before: %w", ntstatus.AccessDenied)}
	}
	shares, files := s.opened()
	for _, sh := range shares {
		if err := s.remount(ctx, c, sh); err != nil {
			return fmt.Errorf("share %s: %w", sh.name, err)
		}
	}
	return s.recover(ctx, c, files, e)
}

// remount connects to a share again. Only the loss of the connection is an error: a
// share that is not there any more fails what is asked of it.
func (s *Session) remount(ctx context.Context, c *conn, sh *Share) error {
	k := s.newCall(smb2.CommandTreeConnect)
	defer k.free()
	k.stay = true
	short, cancel := context.WithTimeout(ctx, s.cfg.Reconnect.DialTimeout)
	defer cancel()
	m, err := s.treeConnect(short, c, k, sh)
	if err == nil {
		var p protection
		if p, err = sh.protectionFor(c, &m); err == nil && p != sh.protect {
			err = fmt.Errorf("the share's encryption is not what it was: %w", ntstatus.AccessDenied)
		}
	}
	if err == nil {
		sh.treeID.Store(k.resp.TreeID)
		err = s.validateNegotiate(short, c, sh)
	}
	if short.Err() != nil && err != nil {
		return err
	}
	if lost := c.failed(); lost != nil {
		return lost
	}
	if err != nil {
		err = wrap("mount again", sh.name, err)
	}
	sh.lost.Store(&err)
	return nil
}

// comeUp makes the connection the session's.
func (s *Session) comeUp(c *conn) {
	s.counters.reconnects.Add(1)
	s.chanMu.Lock()
	ended := s.err != nil
	if ended {
		close(s.done)
	} else {
		s.publish([]*conn{c})
		s.resumeLeases()
	}
	close(s.down)
	s.down = nil
	s.chanMu.Unlock()
	switch {
	case ended:
		c.close()
	case c.failed() != nil: // before it was known as the session's
		s.lost(c)
	default:
		s.wakeKeeper()
	}
}

// neverUp ends the session.
func (s *Session) neverUp(err error) {
	s.chanMu.Lock()
	defer s.chanMu.Unlock()
	if s.err == nil {
		s.err = &lostError{err}
	}
	close(s.done)
	close(s.down)
	s.down = nil
}

// opened lists what has to be had again.
func (s *Session) opened() (shares []*Share, files []*File) {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	for sh := range s.shares {
		shares = append(shares, sh)
	}
	for f := range s.files {
		files = append(files, f)
	}
	return shares, files
}

// current names the session as it is, for call.session.
func (s *Session) current() uint64 { return s.main().generation + 1 }

// enter has a share or file had again when the session is made anew. It is false if
// that was so since the connection c answered: what c has opened is gone.
func (s *Session) enter(c *conn, sh *Share, f *File) bool {
	if !s.reconnects() {
		return true
	}
	s.openMu.Lock()
	defer s.openMu.Unlock()
	if c.generation != s.generation.Load() {
		return false
	}
	if sh != nil {
		s.shares[sh] = struct{}{}
	}
	if f != nil {
		s.files[f] = struct{}{}
	}
	return true
}

func (s *Session) leave(sh *Share, f *File) {
	if !s.reconnects() {
		return
	}
	s.openMu.Lock()
	defer s.openMu.Unlock()
	delete(s.shares, sh)
	delete(s.files, f)
}

// repeatable says whether calls that were lost with the session's last connection may be
// sent on that of the next: an error is what their caller is told.
func repeatable(cause error, calls []*call) error {
	for _, k := range calls {
		switch {
		case k.left && k.uncertain:
			return fmt.Errorf("%w: %w", ErrUncertain, cause)
		case k.session != 0 && (k.left || k.cmd == smb2.CommandTreeDisconnect || k.cmd == smb2.CommandLogoff):
			return errSessionChanged // without waiting for nothing
		}
	}
	return nil
}
