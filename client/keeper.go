package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Defaults of ChannelConfig.
const (
	// DefaultRDMAChannels is the most connections for data that a session makes by
	// itself: one for each RDMA interface of the server.
	DefaultRDMAChannels  = 4
	DefaultChannelStall  = 10 * time.Second
	DefaultChannelRetry  = 10 * time.Second
	DefaultChannelListen = 5 * time.Second
)

// MaxChannels is the most that ChannelConfig.Max may be: a Windows server binds 32
// connections to a session, of which one is left to fall back on.
const MaxChannels = 31

// Limits of what is believed of a server.
const (
	maxInterfaces = 64 // addresses of each kind that are looked at
	maxRetry      = time.Minute
	unknownSpeed  = 1000 // Mbit/s
	// refreshInterfaces is how often the server is asked again while nothing is
	// missing, as Windows does.
	refreshInterfaces = 10 * time.Minute
)

// ChannelConfig says how a session gets more connections than the one that it began
// with: multichannel, [MS-SMB2] 3.2.4.20.10 and 3.2.5.14.11. The server is asked for
// its interfaces; a connection is made to those that are best, and bound to the
// session. RDMA comes first, then receive side scaling, then speed.
//
// READ and WRITE use the connections with RDMA, if there is one, in proportion to
// their speed. Other requests stay on the oldest connection. What is under way on a
// connection that dies is sent again on another, and callers see nothing of it; the
// error of the last connection is the session's. A connection that is missing is
// tried again from time to time.
//
// The addresses are the server's word, in an answer that is signed. At most 64 with
// and 64 without RDMA are tried; those of loopback only by a session that began on
// one, as anything else would be a service of this machine. Who answers there learns
// of the user only if it gives the server's GUID, and becomes part of the session only
// if it has the session's keys.
type ChannelConfig struct {
	// Dial connects to an interface of the server: by SMB Direct if i.RDMA, else by
	// TCP. Nil means that the session has one connection. An interface that can't be
	// reached in that way is an error, which RDMAStatus tells. Dial is called by one
	// goroutine at a time.
	Dial func(ctx context.Context, i NetworkInterface) (transport.Conn, error)
	// Max is how many connections carry data, 1 to MaxChannels: they are spread over the
	// interfaces. 0 means one for each RDMA interface, at most DefaultRDMAChannels,
	// and one altogether if there is no RDMA. A TCP connection to fall back on is not
	// counted.
	Max int
	// DialTimeout bounds the making of one connection, Retry is the time after which
	// a missing one is tried again, which grows to a minute where it goes on
	// failing. 0 means DefaultChannelListen and DefaultChannelRetry.
	DialTimeout, Retry time.Duration
	// Stall is how long a connection with requests under way may be silent before it
	// is asked for a sign of life; as long again, and it is given up for another. 0
	// means DefaultChannelStall. A session with one connection, and without
	// Config.Reconnect, waits Config.Timeout.
	Stall time.Duration
}

func (c *ChannelConfig) setDefaults() error {
	if c.Max < 0 || c.Max > MaxChannels {
		return fmt.Errorf("client: Config.Channels.Max %d is not in 0..%d: %w", c.Max, MaxChannels, fs.ErrInvalid)
	}
	for _, d := range []struct {
		field string
		v     *time.Duration
		def   time.Duration
	}{{"DialTimeout", &c.DialTimeout, DefaultChannelListen}, {"Retry", &c.Retry, DefaultChannelRetry}, {"Stall", &c.Stall, DefaultChannelStall}} {
		if *d.v < 0 {
			return fmt.Errorf("client: Config.Channels.%s %v is negative: %w", d.field, *d.v, fs.ErrInvalid)
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	return nil
}

// keeper is the goroutine that looks after a session's channels. Its fields but
// those under mu are set before the session is known to anybody.
type keeper struct {
	on     bool // Config.Channels has a Dial
	cancel context.CancelFunc
	wake   chan struct{} // capacity 1: a channel was lost
	first  chan struct{} // closed after the first attempt
	busy   atomic.Bool   // channels are being made
	ended  chan struct{} // closed by the goroutine; nil if there is none

	mu     sync.Mutex
	reason string // guarded by mu: why there is no RDMA
}

func (k *keeper) why() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reason
}

func (k *keeper) setWhy(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reason = fmt.Sprintf(format, args...)
}

// startKeeper starts the keeper if there is something to do for it.
func (s *Session) startKeeper() {
	k := &s.keeper
	k.on = s.cfg.Channels.Dial != nil
	n := s.main().neg
	switch {
	case !k.on:
	case n.dialect < SMB300:
		k.setWhy("dialect %v has no multichannel", n.dialect)
	case n.capabilities&smb2.GlobalCapMultiChannel == 0:
		k.setWhy("the server has no multichannel")
	case s.base.Load() == nil:
		k.setWhy("a session of %s has one channel", s.who())
	default:
		k.setWhy("the server was not asked for its interfaces yet")
		ctx, cancel := context.WithCancel(context.Background())
		k.cancel, k.ended = cancel, make(chan struct{})
		go s.keep(ctx) // ended by stopKeeper, which waits, and by the end of the session
		return
	}
	close(k.first)
}

// stopKeeper may be called more than once.
func (s *Session) stopKeeper() {
	if s.keeper.ended != nil {
		s.keeper.cancel()
		<-s.keeper.ended
	}
}

func (s *Session) wakeKeeper() {
	select {
	case s.keeper.wake <- struct{}{}:
	default:
	}
}

// AwaitChannels waits until the session has tried once to make the connections that
// Config.Channels asks for, or until ctx ends. It need not be called: a session
// works from the start, and moves.
func (s *Session) AwaitChannels(ctx context.Context) {
	select {
	case <-s.keeper.first:
	case <-s.done:
	case <-ctx.Done():
	}
}

// keep makes channels, and again those that were lost.
func (s *Session) keep(ctx context.Context) {
	k := &s.keeper
	defer close(k.ended)
	delay := s.cfg.Channels.Retry
	for first := true; ; first = false {
		k.busy.Store(true)
		complete := s.extend(ctx)
		k.busy.Store(false)
		if first {
			close(k.first)
		}
		began := time.Now()
		wait := refreshInterfaces
		if complete {
			delay = s.cfg.Channels.Retry
		} else {
			wait = delay
			delay = min(2*delay, max(maxRetry, s.cfg.Channels.Retry))
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.done:
		case <-t.C:
		case <-k.wake:
			// At once if the channel had lived for a while, else it would be made and
			// lost without end.
			t.Reset(max(0, s.cfg.Channels.Retry-time.Since(began)))
			s.reap()
			select {
			case <-ctx.Done():
			case <-s.done:
			case <-t.C:
			}
		}
		t.Stop()
		s.reap()
		if ctx.Err() != nil || s.Err() != nil {
			return
		}
	}
}

// extend makes the channels that are missing. It reports whether none is.
func (s *Session) extend(ctx context.Context) (complete bool) {
	list, sh, err := s.queryInterfaces(ctx)
	if err != nil {
		s.keeper.setWhy("the server did not list its interfaces: %v", err)
		return errors.Is(err, errors.ErrUnsupported) // which will not change
	}
	defer sh.unmountQuietly(ctx)
	list = s.elsewhere(list)
	s.placeFirst(list)
	rdma, plain := groups(list, true), groups(list, false)
	complete = true

	want := s.cfg.Channels.Max
	if want == 0 {
		want = min(len(rdma), DefaultRDMAChannels)
	}
	haveRDMA := s.count(true)
	switch {
	case s.cfg.RDMAThreshold < 0:
		s.keeper.setWhy("RDMAThreshold is negative")
	case len(rdma) == 0:
		s.keeper.setWhy("none of the server's %d interfaces is RDMA capable", len(plain))
	default:
		s.knownFirst(rdma, want-haveRDMA)
		if err := s.spread(ctx, sh, rdma, want-haveRDMA); err != nil {
			complete = false
			s.keeper.setWhy("%v", err)
			s.cfg.Logger.Debug("no SMB Direct channel", "server", s.server, "err", err)
		}
		haveRDMA = s.count(true)
	}
	want = 1 // to fall back on
	if haveRDMA == 0 {
		want = max(want, s.cfg.Channels.Max)
	}
	if err := s.spread(ctx, sh, plain, want-s.count(false)); err != nil {
		complete = false
		s.cfg.Logger.Debug("no further TCP channel", "server", s.server, "err", err)
	}
	return complete
}

// count says how many channels with or without an RDMA side live.
func (s *Session) count(rdma bool) (n int) {
	for _, c := range s.set.Load().all {
		if (c.rdma != nil) == rdma {
			n++
		}
	}
	return n
}

// placeFirst gives the connection that the session began with its interface.
func (s *Session) placeFirst(list []NetworkInterface) {
	for _, c := range s.set.Load().all {
		if c.place().Addr.IsValid() {
			continue
		}
		ap, err := netip.ParseAddrPort(c.tr.RemoteAddr().String())
		if err != nil {
			continue
		}
		for _, i := range list {
			if i.Addr == ap.Addr().Unmap().WithZone("") && i.RDMA == (c.rdma != nil) {
				c.setPlace(i)
			}
		}
	}
}

// elsewhere leaves out addresses of loopback, but for a session that began on one.
func (s *Session) elsewhere(list []NetworkInterface) []NetworkInterface {
	ap, err := netip.ParseAddrPort(s.main().tr.RemoteAddr().String())
	if err != nil || ap.Addr().Unmap().IsLoopback() {
		return list
	}
	return slices.DeleteFunc(list, func(i NetworkInterface) bool { return i.Addr.Unmap().IsLoopback() })
}

// place is the interface of the server's that the connection leads to, if known.
func (c *conn) place() NetworkInterface {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.iface
}

func (c *conn) setPlace(i NetworkInterface) {
	c.mu.Lock()
	c.iface = i
	c.mu.Unlock()
	c.speed.Store(i.weight())
}

// weight is the speed of an interface in Mbit/s, at least 1, and bounded so that
// what a server claims makes no sum overflow.
func (i *NetworkInterface) weight() int64 {
	return int64(min(max(i.LinkSpeed/1e6, 1), 1<<20))
}

// groups sorts the interfaces of one kind as they are to be used: by RSS, by speed.
// It looks at no more than maxInterfaces addresses, the first of the list.
// Those of one index are one interface with several addresses.
func groups(list []NetworkInterface, rdma bool) [][]NetworkInterface {
	var gs [][]NetworkInterface
	n := 0
	for _, i := range list {
		if n == maxInterfaces {
			break
		}
		if i.RDMA != rdma || !i.Addr.IsValid() || i.Addr.IsUnspecified() || i.Addr.IsMulticast() ||
			i.Addr.Is6() && i.Addr.IsLinkLocalUnicast() { // its zone is ours, and not told
			continue
		}
		at := slices.IndexFunc(gs, func(g []NetworkInterface) bool { return g[0].Index == i.Index })
		switch {
		case at < 0:
			gs = append(gs, []NetworkInterface{i})
			n++
		case !slices.ContainsFunc(gs[at], func(o NetworkInterface) bool { return o.Addr == i.Addr }):
			gs[at] = append(gs[at], i)
			n++
		}
	}
	slices.SortStableFunc(gs, func(a, b []NetworkInterface) int {
		if a[0].RSS != b[0].RSS {
			if a[0].RSS {
				return -1
			}
			return 1
		}
		return int(b[0].weight() - a[0].weight())
	})
	return gs
}

// knownFirst lets the address that the session came by be the first of its interface,
// as it can be reached for sure. If each of the interfaces gets one of n channels, that
// interface is the first: the best one may be one that leads nowhere from here, as that
// of a bridge within the server, and take DialTimeout to show it.
func (s *Session) knownFirst(gs [][]NetworkInterface, n int) {
	ap, err := netip.ParseAddrPort(s.main().tr.RemoteAddr().String())
	if err != nil {
		return
	}
	addr := ap.Addr().Unmap().WithZone("")
	for i, g := range gs {
		at := slices.IndexFunc(g, func(i NetworkInterface) bool { return i.Addr == addr })
		if at < 0 {
			continue
		}
		g[0], g[at] = g[at], g[0]
		if n >= len(gs) {
			copy(gs[1:i+1], gs[:i])
			gs[0] = g
		}
		return
	}
}

// spread makes n more channels on interfaces, first on those that have the fewest.
func (s *Session) spread(ctx context.Context, sh *Share, gs [][]NetworkInterface, n int) error {
	var failed error
	gs = slices.Clone(gs)
	for ; n > 0 && len(gs) > 0; n-- {
		have := make(map[uint32]int)
		for _, c := range s.set.Load().all {
			if (c.rdma != nil) == gs[0][0].RDMA {
				have[c.place().Index]++
			}
		}
		at := 0
		for i, g := range gs {
			if have[g[0].Index] < have[gs[at][0].Index] {
				at = i
			}
		}
		g := gs[at]
		if err := s.reach(ctx, sh, g); err != nil {
			failed = errors.Join(failed, err)
			gs = slices.Delete(gs, at, at+1) // the others may do
			n++
		}
		if ctx.Err() != nil || s.Err() != nil {
			return failed
		}
	}
	if n > 0 && failed == nil {
		failed = errors.New("the server lists no such interface")
	}
	if n == 0 {
		failed = nil
	}
	return failed
}

// reach makes a channel on one of the addresses of an interface.
func (s *Session) reach(ctx context.Context, sh *Share, addrs []NetworkInterface) error {
	var errs []error
	is4 := true
	if ap, err := netip.ParseAddrPort(s.main().tr.RemoteAddr().String()); err == nil {
		is4 = ap.Addr().Unmap().Is4()
	}
	for _, same := range []bool{true, false} { // the family that is known to work first
		for _, i := range addrs {
			if (i.Addr.Is4() == is4) != same {
				continue
			}
			err := s.dialChannel(ctx, sh, i)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
			if ctx.Err() != nil || s.Err() != nil {
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(errs...)
}

// dialChannel connects to an address and binds the connection to the session.
func (s *Session) dialChannel(ctx context.Context, sh *Share, i NetworkInterface) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Channels.DialTimeout)
	defer cancel()
	if i.RDMA {
		s.keeper.setWhy("SMB Direct to %v is being tried", i.Addr)
	}
	tr, err := s.cfg.Channels.Dial(ctx, i)
	if err != nil {
		return err
	}
	c := newConn(tr, s)
	c.setPlace(i)
	if err := s.bind(ctx, sh, c); err != nil {
		c.close()
		return fmt.Errorf("binding a channel to %v: %w", tr.RemoteAddr(), err)
	}
	s.counters.bindings.Add(1)
	used, why := c.rdmaStatus(false)
	level := slog.LevelDebug
	select {
	case <-s.keeper.first:
		level = slog.LevelInfo // one that was missing
	default:
	}
	s.cfg.Logger.Log(ctx, level, "channel added", "server", s.server, "remote", tr.RemoteAddr(), "rdma", used, "why_not", why)
	return nil
}

// bind makes a connection a channel of the session: [MS-SMB2] 3.2.4.2.2.2 and
// 3.2.4.2.3. What was negotiated for the session is all that is offered.
func (s *Session) bind(ctx context.Context, sh *Share, c *conn) error {
	n := s.main().neg
	cfg := s.cfg
	cfg.MinDialect, cfg.MaxDialect = n.dialect, n.dialect
	if n.cipher == 0 {
		cfg.Encryption = EncryptOff
	} else {
		cfg.Ciphers = []Cipher{Cipher(n.cipher)}
	}
	if len(n.transforms) > 0 { // else nothing is known: a server may say so on RDMA alone
		cfg.RDMATransforms = n.transforms
	}
	var err error
	if c.neg, err = negotiate(ctx, c, &cfg, s.server); err != nil {
		return err
	}
	switch m := c.neg; {
	case m.serverGUID != n.serverGUID:
		return errors.New("another server answers there")
	case m.cipher != n.cipher:
		return fmt.Errorf("cipher %v instead of the session's %v: %w", m.cipher, n.cipher, ntstatus.InvalidNetworkResponse)
	case m.capabilities&smb2.GlobalCapMultiChannel == 0:
		return fmt.Errorf("the server has no multichannel there: %w", errors.ErrUnsupported)
	}
	if err := s.logon(ctx, c, true); err != nil {
		return err
	}
	if err := s.validateNegotiate(ctx, c, sh); err != nil {
		return err
	}
	return s.join(c)
}

// probe is what watch remembers of a connection's silence.
type probe struct {
	got   uint64    // messages received when it last looked
	quiet time.Time // since when nothing came although something was asked
	sent  bool      // it has been asked for a sign of life
}

// silent asks a channel with requests under way that has become silent for a sign of
// life, if the session has another or is made anew, and reports that there was none. One
// that is made anew asks so too if it has leases: it would not learn that they are lost. A
// connection that is still to be bound has ChannelConfig.DialTimeout.
func (c *conn) silent(now time.Time, p *probe) bool {
	got, set := c.got.Load(), c.sess.set.Load()
	again := c.sess.reconnects()
	if got != p.got || p.quiet.IsZero() || set == nil || len(set.all) < 2 && !again || !slices.Contains(set.all, c) ||
		!c.waiting() && !(again && c.sess.hasLeases()) {
		p.got, p.quiet, p.sent = got, now, false
		return false
	}
	stall := c.sess.cfg.Channels.Stall
	if now.Sub(p.quiet) < stall {
		return false
	}
	if p.sent {
		return true
	}
	p.sent, p.quiet = true, now
	k := c.newCall(smb2.CommandEcho)
	ctx, cancel := context.WithTimeout(context.Background(), stall)
	defer cancel()
	if k.encode(&smb2.EchoRequest{}) == nil && c.start(ctx, k.self[:]) == nil {
		c.mu.Lock()
		k.gone = k.state != callAnswered // else it is ours, with its answer
		c.mu.Unlock()
	}
	k.free()
	return false
}

// giveUp ends a silent channel, unless those beside it have gone meanwhile: when all
// are silent it may be the server that stands still, and one of them stays.
func (s *Session) giveUp(c *conn) bool {
	s.giveUpMu.Lock()
	defer s.giveUpMu.Unlock()
	for _, o := range s.set.Load().all {
		if o != c && o.failed() == nil {
			_ = c.fail(fmt.Errorf("no answer and no sign of life for %v: %w", 2*s.cfg.Channels.Stall, os.ErrDeadlineExceeded))
			return true
		}
	}
	if s.reconnects() {
		_ = c.fail(fmt.Errorf("no answer and no sign of life for %v: %w", 2*s.cfg.Channels.Stall, os.ErrDeadlineExceeded))
		return true
	}
	return false
}

// waiting reports whether the server owes an answer that does not depend on others.
func (c *conn) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.pending {
		if !k.long && !k.gone {
			return true
		}
	}
	return false
}

// ChannelInfo is one connection of a session.
type ChannelInfo struct {
	Local, Remote net.Addr
	RDMAProvider  string           // "" without an RDMA side
	Interface     NetworkInterface // the server's; its Addr is invalid while that is not known
	UsesRDMA      bool             // READ and WRITE go by RDMA
	Data          bool             // READ and WRITE use it
	Stats         Stats            // of this connection
}

// Channels lists the connections of the session, oldest first.
func (s *Session) Channels() []ChannelInfo {
	set := s.set.Load()
	out := make([]ChannelInfo, 0, len(set.all))
	for _, c := range set.all {
		i := ChannelInfo{Local: c.tr.LocalAddr(), Remote: c.tr.RemoteAddr(), Interface: c.place(), Stats: c.stats()}
		if c.rdma != nil {
			i.RDMAProvider = c.rdma.Provider()
		}
		i.UsesRDMA, _ = c.rdmaStatus(false)
		i.Data = slices.Contains(set.data, c)
		out = append(out, i)
	}
	return out
}
