package server

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// guessTable slows down who guesses passwords. It counts what failed by source, and by
// source and user: that somebody else guesses a user's password from elsewhere does not
// slow the user down. After a few failures attempts get a time each, one after the
// other, at which they are answered, right or wrong alike: an answer that is slow says
// nothing, and opening more connections makes nothing faster. Who has lately logged on
// from a source is not slowed down by what others there do wrong: many may share an
// address.
type guessTable struct {
	mu sync.Mutex
	// guarded by mu
	sources, users map[guessKey]*guessEntry
	known          map[guessKey]time.Time // when a user last logged on from a source
}

type guessKey struct{ source, user string }

// guessEntry is what is known of a source, or of a user from it.
type guessEntry struct {
	failures int       // lately: halved every guessHalf
	since    time.Time // when failures was true
	next     time.Time // when the next attempt is answered
}

const (
	freeGuesses = 5                      // typing errors
	firstDelay  = 100 * time.Millisecond // between attempts after those; doubled for each failure
	longestWait = 2 * time.Second        // at most
	maxQueue    = 20 * time.Second       // who would have to wait longer is refused
	guessHalf   = time.Minute
	knownFor    = 24 * time.Hour
	maxGuesses  = 4096 // entries of each table
)

// fade forgets what is long ago.
func (e *guessEntry) fade(now time.Time) {
	for now.Sub(e.since) >= guessHalf && e.failures > 0 {
		e.failures /= 2
		e.since = e.since.Add(guessHalf)
	}
	if e.failures == 0 {
		e.since = now
	}
}

// spacing is the time between attempts.
func (e *guessEntry) spacing() time.Duration {
	n := e.failures - freeGuesses
	if n < 0 {
		return 0
	}
	return min(firstDelay<<min(n, 10), longestWait)
}

// slot is when an attempt may be answered, if it is not too late then.
func (g *guessTable) slot(source, user string, now time.Time) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, b := g.sources[guessKey{source: source}], g.users[guessKey{source, user}]
	if last, ok := g.known[guessKey{source, user}]; ok && now.Sub(last) < knownFor {
		a = nil
	}
	at := now
	for _, e := range []*guessEntry{a, b} {
		if e == nil {
			continue
		}
		e.fade(now)
		if e.spacing() > 0 && e.next.After(at) {
			at = e.next
		}
	}
	if at.Sub(now) > maxQueue {
		return 0, false
	}
	for _, e := range []*guessEntry{a, b} {
		if e != nil && e.spacing() > 0 {
			e.next = at.Add(e.spacing())
		}
	}
	return at.Sub(now), true
}

// failed counts a wrong password, or a user that there is not.
func (g *guessTable) failed(source, user string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sources == nil {
		g.sources, g.users = map[guessKey]*guessEntry{}, map[guessKey]*guessEntry{}
	}
	count(g.sources, guessKey{source: source}, now)
	count(g.users, guessKey{source, user}, now)
}

func count(m map[guessKey]*guessEntry, k guessKey, now time.Time) {
	e := m[k]
	if e == nil {
		if len(m) >= maxGuesses {
			makeRoom(m, now)
		}
		e = &guessEntry{since: now}
		m[k] = e
	}
	e.fade(now)
	e.failures++
	e.next = now.Add(e.spacing())
}

// makeRoom forgets those of whom there is nothing left to know, and if there is nobody
// those with the fewest failures: names that are made up go together.
func makeRoom(m map[guessKey]*guessEntry, now time.Time) {
	fewest := 0
	for k, e := range m {
		if e.fade(now); e.failures == 0 {
			delete(m, k)
		} else if fewest == 0 || e.failures < fewest {
			fewest = e.failures
		}
	}
	if len(m) < maxGuesses {
		return
	}
	for k, e := range m {
		if e.failures == fewest {
			delete(m, k)
		}
	}
}

// succeeded forgets what the user did wrong, and knows him from now on. The source stays
// under watch: it may have one password and guess others.
func (g *guessTable) succeeded(source, user string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := guessKey{source, user}
	delete(g.users, k)
	if g.known == nil {
		g.known = map[guessKey]time.Time{}
	}
	if _, ok := g.known[k]; !ok && len(g.known) >= maxGuesses {
		at := slices.SortedFunc(maps.Values(g.known), time.Time.Compare)[maxGuesses/8]
		maps.DeleteFunc(g.known, func(_ guessKey, t time.Time) bool { return !t.After(at) })
	}
	g.known[k] = now
}

// sourceOf is where a connection comes from: an address, or the network of 64 bits that
// one of IPv6 is in.
func sourceOf(tc transport.Conn) string {
	host := addrString(tc.RemoteAddr())
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}

// errGivenUp says that who wanted to log on did not wait for the answer. He has learned
// nothing, and nothing has failed.
var errGivenUp = errors.New("server: a logon was given up before its turn")

// awaitSlot keeps an attempt to log on waiting for its turn. It fails if there are too
// many before it, and with errGivenUp if the client has gone.
func (c *conn) awaitSlot(ctx context.Context, user string) error {
	wait, ok := c.srv.guesses.slot(sourceOf(c.tc), user, time.Now())
	if !ok {
		return ntlm.ErrLogon
	}
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
	case <-c.ctx.Done():
	}
	return errGivenUp
}

// guessed notes how an attempt ended.
func (c *conn) guessed(user string, right bool) {
	if right {
		c.srv.guesses.succeeded(sourceOf(c.tc), user, time.Now())
	} else {
		c.srv.guesses.failed(sourceOf(c.tc), user, time.Now())
	}
}
