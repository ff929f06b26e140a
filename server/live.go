package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"

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
// they give, and any other change, is there when somebody connects the next time. Reload returns when all that has ended
// that is to end, or ctx has.
func (s *Server) Reload(ctx context.Context, c Config) error {
	l, err := newLive(&c)
	if err != nil {
		return err
	}
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.live.Store(l)
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	sessions := make([]*session, 0, len(s.sessions))
	for _, sess := range s.sessions {
		sessions = append(sessions, sess)
	}
	s.mu.Unlock()
	for _, c := range conns {
		if !l.hosts.admits(c.tc.RemoteAddr()) {
			c.log.Info("connection ended: its address may not connect any more")
			c.drain()
		}
	}
	for _, sess := range sessions {
		for _, t := range sess.allTrees() {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.keepTree(ctx, t)
		}
	}
	s.closeDetachedOf(func(share string) bool { return l.byName[foldName(share)] == nil && l.homes == nil })
	return nil
}

// keepTree looks at a tree by the configuration as it is now: it ends the tree, and
// reports false, if its user could not connect any more.
func (s *Server) keepTree(ctx context.Context, t *tree) bool {
	if t.ipc {
		return true
	}
	if share := s.findShare(t.sess, t.share.Name); share != nil {
		if grant, st := s.admit(ctx, t.sess.who(), t.peer, share); st == ntstatus.Success {
			t.readOnlyNow.Store(grant.readOnly)
			return true
		}
	}
	s.log.Info("tree connect ended by a change of the configuration", "user", t.sess.who().user, "share", t.share.Name)
	s.endTree(t, nil)
	return false
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
