package server

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/dcerpc"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// UserLister is implemented by [Users] that can say whom they know. Clients ask when
// somebody is to be given rights to a file.
type UserLister interface {
	// ListUsers returns the users, in an order that stays.
	ListUsers(ctx context.Context) ([]UserInfo, error)
}

// UserInfo is what others may know of a user.
type UserInfo struct {
	Name, FullName string
	// Disabled users cannot log on.
	Disabled bool
}

// UnixNames is implemented by [Users] that knows what the ids of the operating system
// are called. Errors match fs.ErrNotExist for ids that nobody has.
type UnixNames interface {
	UserName(ctx context.Context, uid uint32) (string, error)
	GroupName(ctx context.Context, gid uint32) (string, error)
}

// ListUsers implements [UserLister]. Names are as they are compared.
func (m UserMap) ListUsers(context.Context) ([]UserInfo, error) {
	list := make([]UserInfo, 0, len(m))
	for name := range m {
		list = append(list, UserInfo{Name: strings.ToLower(name)})
	}
	slices.SortFunc(list, func(a, b UserInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// rpcHandler answers the calls of a pipe of the session.
func (s *Server) rpcHandler(sess *session, peer net.Addr) *dcerpc.Handler {
	who := sess.who()
	h := &dcerpc.Handler{
		Server: dcerpc.ServerInfo{Name: s.cfg.ServerName, Comment: s.cfg.Comment, Domain: s.cfg.Domain},
		Caller: dcerpc.Caller{
			Name: who.user, Domain: who.domain, Stranger: who.guest || who.anonymous,
			Admin: s.isAdmin(sess),
		},
		Shares:      func() []dcerpc.Share { return s.listShares(sess, peer) },
		Sessions:    s.rpcSessions,
		Files:       s.rpcFiles,
		Connections: s.rpcConnections,
	}
	h.Directory = &rpcDirectory{s: s}
	return h
}

// isAdmin reports whether the session's user is an administrator of all shares: then he
// may know what others do with them.
func (s *Server) isAdmin(sess *session) bool {
	who := sess.who()
	if who.guest || who.anonymous {
		return false
	}
	id, err := s.identity(s.ctx, who.user, false)
	return err == nil && s.anyShare(func(*Share) bool { return true }) &&
		!s.anyShare(func(sh *Share) bool { return !id.on(sh.AdminUsers) })
}

// rpcLimit bounds what is listed for one call.
const rpcLimit = 10000

func seconds(since, now time.Time) uint32 { return uint32(max(now.Sub(since), 0) / time.Second) }

// hostOf is an address without its port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// eachSession calls f for the sessions there are, with the address of their client.
func (s *Server) eachSession(f func(x *SessionStatus, client string, idle time.Time)) {
	st := s.Status(rpcLimit)
	conns := make(map[uint64]*ConnectionStatus, len(st.Connections))
	for i := range st.Connections {
		conns[st.Connections[i].ID] = &st.Connections[i]
	}
	for i := range st.Sessions {
		x, client, last := &st.Sessions[i], "", time.Time{}
		for _, id := range x.Connections {
			if c := conns[id]; c != nil {
				client = hostOf(c.Remote)
				if c.LastMessage.After(last) {
					last = c.LastMessage
				}
			}
		}
		f(x, client, last)
	}
}

func (s *Server) rpcSessions() (list []dcerpc.Session) {
	now := time.Now()
	s.eachSession(func(x *SessionStatus, client string, last time.Time) {
		list = append(list, dcerpc.Session{
			Client: client, User: x.User, Opens: uint32(x.OpenCount), Guest: x.Guest,
			Active: seconds(x.Since, now), Idle: seconds(last, now),
		})
	})
	return list
}

func (s *Server) rpcFiles() (list []dcerpc.File) {
	s.eachSession(func(x *SessionStatus, _ string, _ time.Time) {
		for _, o := range x.Opens {
			f := dcerpc.File{ID: uint32(len(list) + 1), User: x.User, Path: `C:\` + o.Share + `\` + strings.ReplaceAll(o.Name, "/", `\`)}
			access := smb2.AccessMask(o.Access)
			if access&(smb2.FileReadData|smb2.FileExecute) != 0 {
				f.Access |= 1
			}
			if access&(smb2.FileWriteData|smb2.FileAppendData) != 0 {
				f.Access |= 2
			}
			list = append(list, f)
		}
	})
	return list
}

func (s *Server) rpcConnections() (list []dcerpc.Connection) {
	now := time.Now()
	s.eachSession(func(x *SessionStatus, client string, _ time.Time) {
		for _, t := range x.Trees {
			c := dcerpc.Connection{ID: t.ID, Client: client, User: x.User, Share: t.Share, Active: seconds(x.Since, now)}
			if t.Share == ipcShare.Name {
				c.Type = dcerpc.ShareIPC
			}
			for _, o := range x.Opens {
				if o.Share == t.Share {
					c.Opens++
				}
			}
			list = append(list, c)
		}
	})
	return list
}

// rpcDirectory is what lsarpc and samr know: the users that may log on, and those of the
// operating system by the SIDs that stand for them. It is for one pipe, which looks its
// users up once.
type rpcDirectory struct {
	s        *Server
	once     sync.Once
	accounts []dcerpc.Account // after once
}

const (
	unixUserDomain  = "Unix User"
	unixGroupDomain = "Unix Group"
	noneGroup       = "None" // the primary group of users of a stand-alone server
	guestName       = "Guest"
)

func rpcSID(s smb2.SID) dcerpc.SID { return dcerpc.SID(s.Append(nil)) }

func (d *rpcDirectory) Machine() dcerpc.SID { return rpcSID(d.s.machine) }

// user is a user of the server by name.
func (d *rpcDirectory) user(name string) dcerpc.Principal {
	sid := d.s.machine.Child(nameRID(name))
	if t, err := d.s.logonToken(d.s.ctx, name, false, false); err == nil {
		sid = t.User
	}
	return dcerpc.Principal{SID: rpcSID(sid), Domain: d.s.cfg.ServerName, Name: name, Kind: dcerpc.KindUser}
}

func (d *rpcDirectory) Accounts() []dcerpc.Account {
	d.once.Do(func() {
		l, ok := d.s.cfg.Users.(UserLister)
		if !ok {
			return
		}
		list, err := l.ListUsers(d.s.ctx)
		if err != nil {
			d.s.log.Error("users cannot be listed", "err", err)
		}
		for _, u := range list {
			d.accounts = append(d.accounts, dcerpc.Account{
				Principal: d.user(u.Name), FullName: u.FullName, Disabled: u.Disabled, PrimaryGroup: ridNone,
			})
		}
	})
	return d.accounts
}

func (d *rpcDirectory) Groups() []dcerpc.Principal {
	return []dcerpc.Principal{{
		SID: rpcSID(d.s.machine.Child(ridNone)), Domain: d.s.cfg.ServerName, Name: noneGroup, Kind: dcerpc.KindGroup,
	}}
}

func (d *rpcDirectory) ByName(domain, name string) (p dcerpc.Principal, ok bool) {
	ctx, server := d.s.ctx, d.s.cfg.ServerName
	own := domain == "" || strings.EqualFold(domain, server)
	if own {
		switch {
		case strings.EqualFold(name, noneGroup):
			return d.Groups()[0], true
		case strings.EqualFold(name, guestName):
			return dcerpc.Principal{SID: rpcSID(d.s.machine.Child(ridGuest)), Domain: server, Name: guestName, Kind: dcerpc.KindUser}, true
		}
		for _, a := range d.Accounts() {
			if strings.EqualFold(a.Name, name) {
				return a.Principal, true
			}
		}
	}
	accounts, known := d.s.cfg.Users.(Accounts)
	if !known {
		return p, false
	}
	if domain == "" || strings.EqualFold(domain, unixUserDomain) {
		if a, err := accounts.Account(ctx, name); err == nil {
			return dcerpc.Principal{SID: rpcSID(smb2.SIDUnixUser(a.UID)), Domain: unixUserDomain, Name: a.Name, Kind: dcerpc.KindUser}, true
		}
	}
	if domain == "" || strings.EqualFold(domain, unixGroupDomain) {
		if gid, err := accounts.Group(ctx, name); err == nil {
			return dcerpc.Principal{SID: rpcSID(smb2.SIDUnixGroup(gid)), Domain: unixGroupDomain, Name: name, Kind: dcerpc.KindGroup}, true
		}
	}
	return p, false
}

func (d *rpcDirectory) BySID(want dcerpc.SID) (p dcerpc.Principal, ok bool) {
	sid, err := smb2.ParseSID([]byte(want))
	if err != nil {
		return p, false
	}
	names, _ := d.s.cfg.Users.(UnixNames)
	switch sid.Parent() {
	case d.s.machine:
		switch sid.RID() {
		case ridNone:
			return d.Groups()[0], true
		case ridGuest:
			return d.ByName("", guestName)
		}
		for _, a := range d.Accounts() {
			if a.SID == want {
				return a.Principal, true
			}
		}
	case unixUsers:
		if names == nil {
			return p, false
		}
		if name, err := names.UserName(d.s.ctx, sid.RID()); err == nil {
			return dcerpc.Principal{SID: want, Domain: unixUserDomain, Name: name, Kind: dcerpc.KindUser}, true
		} else if !errors.Is(err, fs.ErrNotExist) {
			d.s.log.Error("name of a user", "uid", sid.RID(), "err", err)
		}
	case unixGroups:
		if names == nil {
			return p, false
		}
		if name, err := names.GroupName(d.s.ctx, sid.RID()); err == nil {
			return dcerpc.Principal{SID: want, Domain: unixGroupDomain, Name: name, Kind: dcerpc.KindGroup}, true
		} else if !errors.Is(err, fs.ErrNotExist) {
			d.s.log.Error("name of a group", "gid", sid.RID(), "err", err)
		}
	}
	return p, false
}
