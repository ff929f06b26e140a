package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// live is the part of the configuration that Reload changes. It is replaced as a
// whole and does not change.
type live struct {
	shares []*Share          // in the order of Config
	byName map[string]*Share // by folded name
	homes  *Share
	hosts  hostRule
}

// newLive makes the shares its own and checks them.
func newLive(c *Config) (*live, error) {
	hosts, err := newHostRule(c.HostsAllow, c.HostsDeny)
	if err != nil {
		return nil, fmt.Errorf("server: Config.%w", err)
	}
	l := &live{byName: map[string]*Share{}, hosts: hosts}
	for i := range c.Shares {
		s, err := c.Shares[i].own()
		if err != nil {
			return nil, err
		}
		key := foldName(s.Name)
		if l.byName[key] != nil || key == foldName(ipcShare.Name) {
			return nil, fmt.Errorf("server: Config.Shares has %q twice, want different names, none of them IPC$", s.Name)
		}
		l.byName[key] = s
		l.shares = append(l.shares, s)
	}
	if c.Homes != nil {
		if l.homes, err = c.Homes.own(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Reload puts shares, Homes, HostsAllow and HostsDeny of c in the place of those that
// there are; nothing else of c is looked at. If it fails nothing changes.
//
// No connection is dropped, unless its peer is on the list of hosts that may not
// connect now. Tree connects to shares that are gone, or whose users may not connect to
// them any more, end, and what is open by them is closed. The others stay, and what was
// granted on them: what ReadOnly, ReadList and WriteList take away is gone at once; what
// they give, and any other change, is there when somebody connects the next time.
//
// Reload returns when all that has ended that is to end, or ctx has. With the error of ctx
// the configuration is in force: no share that is gone can be used any more; it is the
// accounts of users that are still being looked up, and files on storage that hangs that
// are still being closed, which goes on. Close waits for it.
func (s *Server) Reload(ctx context.Context, c Config) error {
	l, err := newLive(&c)
	if err != nil {
		return err
	}
	if !s.begin() {
		return ErrServerClosed
	}
	s.live.Store(l)
	closing, done := new(sync.WaitGroup), make(chan struct{})
	bySession := make(map[*session][]*tree)
	for _, sess := range s.allSessions() {
		for _, t := range sess.allTrees() {
			switch {
			case t.ipc:
			case s.findShare(sess, t.share.Name) == nil:
				s.expelTree(t, closing)
			default:
				bySession[sess] = append(bySession[sess], t)
			}
		}
	}
	s.closeDetachedOf(func(share string) bool { return l.byName[foldName(share)] == nil && l.homes == nil }, closing)
	go func() { // ends when accounts are looked up and files closed; Close waits
		defer s.wg.Done()
		defer close(done)
		for _, c := range s.allConns() {
			// By what is in force now: another Reload may have come after this one.
			if !s.live.Load().hosts.admits(c.tc.RemoteAddr()) {
				c.log.Info("connection ended: its address may not connect any more")
				c.drain()
			}
		}
		var lookups errgroup.Group
		lookups.SetLimit(reloadLookups)
		for _, trees := range bySession {
			lookups.Go(func() error {
				for _, t := range trees {
					s.judge(t, closing)
				}
				return nil
			})
		}
		_ = lookups.Wait()
		closing.Wait()
	}()
	return await(ctx, done)
}

// judge ends a tree if the configuration as it is now does not admit it. Whom it cannot
// judge, as the lookup of his account panics, it does not let go on.
func (s *Server) judge(t *tree, closing *sync.WaitGroup) {
	admitted := false
	defer func() {
		if !admitted {
			s.expelTree(t, closing)
		}
	}()
	defer s.contain("looking a user up")
	admitted = s.admitsNow(s.ctx, t)
}

// reloadLookups is how many sessions' users are looked up at once.
const reloadLookups = 8

// expelTree ends a tree that the configuration does not admit any more. closing counts
// what is still to be closed.
func (s *Server) expelTree(t *tree, closing *sync.WaitGroup) {
	if s.cutTree(t, nil) {
		s.log.Info("tree connect ended by a change of the configuration", "user", t.sess.who().user, "share", t.share.Name)
		s.closeTreeAside(t, closing)
	}
}

// admitsNow looks at a tree by the configuration as it is now, which may be replaced
// meanwhile: it takes from the tree what that does not give, and reports false if the
// tree's user could not connect any more.
func (s *Server) admitsNow(ctx context.Context, t *tree) bool {
	if t.ipc {
		return true
	}
	for {
		l := s.live.Load()
		share := s.findShare(t.sess, t.share.Name)
		if share == nil {
			return false
		}
		grant, st := s.admit(ctx, t.sess.who(), t.peer, share)
		if st != ntstatus.Success {
			return false
		}
		t.readOnlyNow.Store(grant.readOnly)
		if s.live.Load() == l {
			return true
		}
	}
}

// allConns are the connections that there are.
func (s *Server) allConns() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

// allTrees are the tree connects that a session has.
func (s *session) allTrees() []*tree {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*tree, 0, len(s.trees))
	for _, t := range s.trees {
		out = append(out, t)
	}
	return out
}

// findShare looks a share up by the name that a session's user asks for; nil if there
// is none.
func (s *Server) findShare(sess *session, name string) *Share {
	key := foldName(name)
	if key == foldName(ipcShare.Name) {
		return &ipcShare
	}
	l := s.live.Load()
	if sh := l.byName[key]; sh != nil {
		return sh
	}
	if user := sess.userKey(); l.homes != nil && user != "" && (key == user || key == foldName(l.homes.Name)) {
		h := *l.homes
		h.Name = sess.who().user
		return &h
	}
	return nil
}

// visible are the shares that a session is shown.
func (l *live) visible(s *Server, sess *session, peer net.Addr) []*Share {
	var out []*Share
	for _, sh := range l.shares {
		if sh.Hidden {
			continue
		}
		if sh.AccessBased {
			if a, _ := s.admit(s.ctx, sess.who(), peer, sh); a == nil {
				continue
			}
		}
		out = append(out, sh)
	}
	if l.homes != nil && !l.homes.Hidden && sess.userKey() != "" && l.byName[sess.userKey()] == nil {
		h := *l.homes
		h.Name = sess.who().user
		out = append(out, &h)
	}
	return out
}

// commentFor is the Comment of a share for a session that looks.
func (s *Server) commentFor(sess *session, peer net.Addr, sh *Share) string {
	if sh.Expand == nil || !hasVariable(sh.Comment) {
		return sh.Comment
	}
	user := sess.who()
	a := &admission{guest: user.anonymous || user.guest}
	who, err := s.identity(s.ctx, user.user, a.guest)
	if err != nil {
		return ""
	}
	a.account = who.account
	comment, _ := sh.Expand(sh.Comment, clientOf(sh, user, a, peer))
	return comment
}

// anyShare reports whether there is a share for which f holds.
func (s *Server) anyShare(f func(*Share) bool) bool {
	l := s.live.Load()
	return slices.ContainsFunc(l.shares, f) || l.homes != nil && f(l.homes)
}

// admission is what a session gets of a share.
type admission struct {
	account  Account // of who connects, or as whom he does
	known    bool    // account is one of the operating system
	asOther  bool    // account is not that of the session's user
	guest    bool
	admin    bool
	readOnly bool
}

// clientOf says who connects to a share, as he was admitted.
func clientOf(sh *Share, user *logon, a *admission, peer net.Addr) Client {
	c := Client{Share: sh.Name, Account: a.account, Addr: peer}
	if !a.guest {
		c.User, c.Domain = user.user, user.domain
	}
	return c
}

// errLookup is an error of Accounts that says nothing of the user.
var errLookup = errors.New("server: account lookup")

// admit decides whether a user may connect to a share from where he comes, and as whom.
// The status is why not. It takes the user, not the session, which may become another's
// between two looks at it.
func (s *Server) admit(ctx context.Context, user *logon, peer net.Addr, sh *Share) (*admission, ntstatus.Status) {
	if sh == &ipcShare {
		return &admission{}, ntstatus.Success
	}
	if !sh.hosts.admits(peer) {
		return nil, ntstatus.AccessDenied
	}
	a := &admission{guest: user.anonymous || user.guest}
	if a.guest && !sh.Guest {
		return nil, ntstatus.AccessDenied
	}
	if sh.GuestOnly && sh.Guest && !a.guest {
		a.guest, a.asOther = true, true
	}
	who, err := s.identity(ctx, user.user, a.guest)
	if err != nil {
		return nil, ntstatus.InternalError
	}
	a.account, a.known = who.account, who.known
	mine, err := sh.expanded(clientOf(sh, user, a, peer))
	if err != nil {
		s.log.Error("force user or group", "share", sh.Name, "err", err)
		return nil, ntstatus.AccessDenied
	}
	sh = mine
	switch {
	case who.on(sh.InvalidUsers),
		len(sh.Users) > 0 && !who.on(sh.Users):
		return nil, ntstatus.AccessDenied
	}
	a.readOnly = sh.ReadOnly || who.on(sh.ReadList)
	if who.on(sh.WriteList) {
		a.readOnly = false
	}
	a.admin = who.on(sh.AdminUsers)
	if err := s.force(ctx, sh, a); err != nil {
		s.log.Error("force user or group", "share", sh.Name, "err", err)
		return nil, ntstatus.AccessDenied
	}
	return a, ntstatus.Success
}

// force makes the account that of ForceUser and ForceGroup.
func (s *Server) force(ctx context.Context, sh *Share, a *admission) error {
	if sh.ForceUser == "" && sh.ForceGroup == "" {
		return nil
	}
	accounts, ok := s.cfg.Users.(Accounts)
	if !ok {
		return nil
	}
	if sh.ForceUser != "" {
		forced, err := accounts.Account(ctx, sh.ForceUser)
		if err != nil {
			return err
		}
		a.account, a.known, a.asOther = forced, true, true
	}
	if sh.ForceGroup != "" {
		group, members := sh.ForceGroup, false
		if group[0] == '+' {
			group, members = group[1:], true
		}
		gid, err := accounts.Group(ctx, group)
		if err != nil {
			return err
		}
		if !members || a.account.GID == gid || slices.Contains(a.account.GIDs, gid) {
			a.account.GIDs = append(slices.Clone(a.account.GIDs), a.account.GID)
			a.account.GID, a.asOther = gid, true
		}
	}
	return nil
}

// identity is who somebody is for lists of users.
type identity struct {
	name    string // folded; empty for a guest without an account
	groups  []string
	account Account
	known   bool
}

// identity looks the account of a user up; one whom the operating system does not know
// is who he says.
func (s *Server) identity(ctx context.Context, user string, guest bool) (identity, error) {
	who := identity{}
	if !guest {
		who.name = foldName(user)
	}
	accounts, ok := s.cfg.Users.(Accounts)
	if !ok {
		return who, nil
	}
	var err error
	if guest {
		who.account, err = accounts.Guest(ctx)
	} else {
		who.account, err = accounts.Account(ctx, user)
	}
	switch {
	case err == nil:
		who.known = true
		who.name = foldName(who.account.Name)
		for _, g := range who.account.Groups {
			who.groups = append(who.groups, foldName(g))
		}
	case !errors.Is(err, fs.ErrNotExist):
		s.log.Error("account lookup", "user", user, "err", err)
		return who, fmt.Errorf("%w of %q: %w", errLookup, user, err)
	}
	return who, nil
}

// on reports whether a list has the user or one of his groups.
func (w *identity) on(list []string) bool {
	for _, e := range list {
		switch name := foldName(e); name[0] {
		case '@', '+', '&':
			for len(name) > 0 && (name[0] == '@' || name[0] == '+' || name[0] == '&') {
				name = name[1:]
			}
			if slices.Contains(w.groups, name) {
				return true
			}
		default:
			if name == w.name {
				return true
			}
		}
	}
	return false
}
