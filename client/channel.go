package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// channels are the connections of a session, Session.ChannelList of [MS-SMB2]
// 3.2.1.3. A value is never changed: it is replaced.
type channels struct {
	// main carries what is not READ or WRITE: the oldest that lives. When all
	// are lost it is the last one, whose error everybody gets.
	main *conn
	all  []*conn // in the order in which they came
	data []*conn // those for READ and WRITE: the best kind there is
}

// main is the connection for requests other than READ and WRITE.
func (s *Session) main() *conn { return s.set.Load().main }

// dialect is the session's: all its channels have the same.
func (s *Session) dialect() Dialect { return s.main().neg.dialect }

// best is the connection for the next READ or WRITE: of those of the best kind the
// one with the least under way for its speed.
func (s *Session) best() *conn {
	set := s.set.Load()
	if len(set.data) < 2 {
		return set.data[0]
	}
	best := set.data[0]
	for _, c := range set.data[1:] {
		// a/b < c/d without division; bytes under way are far below 1<<40.
		if (c.flying.Load()+1)*best.speed.Load() < (best.flying.Load()+1)*c.speed.Load() {
			best = c
		}
	}
	return best
}

// publish makes list the session's channels. Called with chanMu held.
func (s *Session) publish(list []*conn) {
	set := &channels{all: list}
	if len(list) == 0 {
		set.main = s.set.Load().main
		set.data = []*conn{set.main}
		s.set.Store(set)
		return
	}
	set.main = list[0]
	for _, c := range list {
		if used, _ := c.rdmaStatus(false); used {
			set.data = append(set.data, c)
		}
	}
	if len(set.data) == 0 {
		for _, c := range list { // the kind of the first, so that speeds compare
			if (c.rdma != nil) == (set.main.rdma != nil) {
				set.data = append(set.data, c)
			}
		}
	}
	s.set.Store(set)
}

// join adds a channel; an error says that the session has ended meanwhile.
func (s *Session) join(c *conn) error {
	s.chanMu.Lock()
	defer s.chanMu.Unlock()
	if s.err != nil {
		return s.err
	}
	if err := c.failed(); err != nil {
		return err
	}
	if s.down != nil || c.generation != s.generation.Load() || c.sec.Load().sessionID != s.sessionID.Load() {
		return errSessionChanged // it was bound to the session of before
	}
	var list []*conn
	if set := s.set.Load(); set != nil {
		list = slices.Clone(set.all)
	}
	s.publish(append(list, c))
	return nil
}

// lost is [MS-SMB2] 3.2.7.1 for a connection that has failed: the channel goes, and
// the ChannelSequence rises before anything is sent again. Whoever sees the failure
// first does it. The end of the last channel is that of the session.
func (s *Session) lost(c *conn) {
	if left := s.drop(c); left > 0 {
		s.cfg.Logger.Warn("channel lost, going on with another", "server", s.server, "remote", c.tr.RemoteAddr(),
			"rdma", c.rdma != nil, "left", left, "err", c.failed())
	}
}

// drop takes a channel out. It returns how many are left for a session that goes on.
func (s *Session) drop(c *conn) int {
	s.chanMu.Lock()
	defer s.chanMu.Unlock()
	set := s.set.Load()
	if set == nil {
		return 0
	}
	i := slices.Index(set.all, c)
	if i < 0 {
		return 0
	}
	s.sequence.Add(1)
	s.dead = append(s.dead, c)
	list := slices.Delete(slices.Clone(set.all), i, i+1)
	s.publish(list)
	if len(list) == 0 {
		if cause := c.failed(); s.err == nil && s.reconnects() && !s.leaving.Load() {
			s.goDown(cause)
			return 0
		} else if s.err == nil {
			s.err = cause
		}
		s.suspendLeases()
		close(s.done)
	} else if s.err == nil {
		s.counters.failovers.Add(1)
		s.wakeKeeper()
		return len(list)
	}
	return 0
}

// end ends the session for a reason; it does not wait.
func (s *Session) end(cause error) {
	s.chanMu.Lock()
	if s.err == nil {
		s.err = cause
	}
	list := s.set.Load().all
	s.chanMu.Unlock()
	for _, c := range slices.Backward(list) { // the data first, as main is for all else
		_ = c.fail(cause)
	}
}

// reap waits for the goroutines of dead channels and keeps their figures.
func (s *Session) reap() {
	s.chanMu.Lock()
	dead := slices.Clone(s.dead)
	s.chanMu.Unlock()
	for _, c := range dead {
		c.close()
		st := c.stats()
		st.Credits, st.InFlight = 0, 0
		s.chanMu.Lock()
		if i := slices.Index(s.dead, c); i >= 0 {
			s.dead = slices.Delete(s.dead, i, i+1)
			s.past.add(&st)
		}
		s.chanMu.Unlock()
	}
}

// maxReplays bounds how often one request is sent again because channels die
// under it. Every time one channel is gone, and new ones come slowly.
const maxReplays = 16

// maxRenewals bounds likewise how often one request is lost with the whole session.
const maxRenewals = 64

// retry is what do keeps about a request that may have to be sent again.
type retry struct {
	replays  int
	renewals int       // the same, in sessions that were made anew
	err      error     // what the caller is told in place of the loss of the connection
	busy     int       // how often the server said FILE_NOT_AVAILABLE
	deadline time.Time // for that; zero until the first
}

// failover says where to send requests again that conn c took down with it; nil if
// they must not be, or cannot.
func (s *Session) failover(ctx context.Context, c *conn, r *retry, calls ...*call) *conn {
	r.err = nil
	cause := c.failed()
	if cause == nil || ctx.Err() != nil || errors.Is(cause, ErrClosed) || r.replays >= maxReplays {
		return nil
	}
	if err := s.Err(); err != nil {
		if s.reconnects() { // it has ended for another reason, later
			r.err = err
		}
		return nil
	}
	// It is gone for everybody before anybody is told of the failure.
	s.lost(c)
	for _, k := range calls {
		if k.stay || k.once && k.left || k.gone {
			if k.once && k.cmd == smb2.CommandCreate {
				r.err = fmt.Errorf("%w: %w", ErrUncertain, cause)
			}
			return nil
		}
	}
	next := s.main()
	for next.failed() != nil { // as several may have, of which none was taken out yet
		if s.lost(next); s.main() == next { // the last
			if !s.reconnects() {
				return nil
			}
			if r.err = repeatable(cause, calls); r.err == nil {
				r.err = s.awaitUp(ctx, cause)
			}
			if r.err != nil {
				return nil
			}
		}
		next = s.main()
	}
	anew := next.generation != c.generation
	if !anew {
		r.replays++
	} else if r.err = repeatable(cause, calls); r.err != nil {
		return nil // nor if it took no time to make the session anew
	} else if r.renewals++; r.renewals > maxRenewals {
		return nil
	}
	for _, k := range calls {
		k.dropAnswer()
		if !anew || k.opening != nil && k.opening.persistent {
			k.replay()
		} else if k.opening != nil {
			k.opening.rename(k)
		}
		k.resent = true
	}
	s.counters.replays.Add(uint64(len(calls)))
	return next
}

// survives says whether a request that is not sent again by itself failed because
// its channel was lost while another lives.
func (s *Session) survives(ctx context.Context, k *call) bool {
	var r retry
	return k.conn != nil && s.failover(ctx, k.conn, &r) != nil
}

// replay marks a request that may have been carried out already: those that change
// something, [MS-SMB2] 3.2.7.1 and 3.2.5.12.
func (k *call) replay() {
	switch k.cmd {
	case smb2.CommandWrite, smb2.CommandSetInfo, smb2.CommandIoctl, smb2.CommandCreate:
		k.flags |= smb2.FlagReplayOperation
	}
}

// repeated says whether a status of a request that was sent again means that it was
// carried out the first time.
func (k *call) repeated(st ntstatus.Status) bool {
	switch k.cmd {
	case smb2.CommandClose:
		return st == ntstatus.FileClosed
	case smb2.CommandTreeDisconnect:
		return st == ntstatus.NetworkNameDeleted
	case smb2.CommandLogoff:
		return st == ntstatus.UserSessionDeleted
	}
	return false
}

// busy says whether a request was refused because others of a lost channel are
// still being served, so that it is to be sent once more ([MS-SMB2] 3.2.5.12,
// 3.2.5.14, 3.2.5.18, and for a CREATE its first), and waits a moment then.
func (s *Session) busy(ctx context.Context, k *call, r *retry) bool {
	if k.resp.Status != ntstatus.FileNotAvailable || !s.multichannel() {
		return false
	}
	switch k.cmd {
	case smb2.CommandWrite, smb2.CommandSetInfo, smb2.CommandIoctl:
	case smb2.CommandCreate:
		if !k.resent { // it is the file that is not available
			return false
		}
	default:
		return false
	}
	now := time.Now()
	switch {
	case r.deadline.IsZero():
		limit := s.cfg.Timeout
		if limit < 0 {
			limit = DefaultTimeout
		}
		r.deadline = now.Add(limit)
	case now.After(r.deadline):
		return false
	}
	r.busy++
	t := time.NewTimer(min(time.Millisecond<<min(r.busy, 10), maxBusyPause))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// maxBusyPause is the longest time between two tries of a request that has to wait
// for those of a lost channel.
const maxBusyPause = 100 * time.Millisecond

// several says whether the session has more than one channel, or may have when the
// answer comes to what is sent now.
func (s *Session) several() bool {
	return (len(s.set.Load().all) > 1 || s.keeper.busy.Load()) && s.multichannel()
}

// multichannel says whether the session may have several channels, and so whether
// requests must be such that they can be sent again.
func (s *Session) multichannel() bool {
	n := s.main().neg
	return s.cfg.Channels.Dial != nil && n.dialect >= SMB300 && n.capabilities&smb2.GlobalCapMultiChannel != 0 &&
		s.base.Load() != nil
}
