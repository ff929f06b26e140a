package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smbconf"
	"github.com/smbd-rdma/smbd-rdma/internal/smbpasswd"
	"github.com/smbd-rdma/smbd-rdma/server"
)

// accounts knows who may log on: users of --user and those of a file in smbpasswd's
// format; and who they are for the operating system.
//
// The file is read again when it has changed, the configuration is replaced by reload.
type accounts struct {
	log  *slog.Logger
	conf atomic.Pointer[accountsConfig]

	mu    sync.Mutex
	path  string          // guarded by mu: the file that list is of
	stamp fileStamp       // guarded by mu
	list  *smbpasswd.List // guarded by mu
}

var (
	_ server.Users      = (*accounts)(nil)
	_ server.Accounts   = (*accounts)(nil)
	_ server.UserLister = (*accounts)(nil)
	_ server.UnixNames  = (*accounts)(nil)
)

// accountsConfig is what the configuration says of users.
type accountsConfig struct {
	flags    server.UserMap // of --user
	file     string         // in smbpasswd's format; empty without one
	required bool           // the file has to be there
	users    *smbconf.UserMap
	guest    string // the guest account
}

// fileStamp tells whether a file is the one that was read.
type fileStamp struct {
	ino   uint64
	size  int64
	mtime time.Time
}

func newAccounts(log *slog.Logger, c *accountsConfig) *accounts {
	a := &accounts{log: log}
	a.conf.Store(c)
	return a
}

// inGroup reports whether a UNIX user is in a UNIX group.
func inGroup(name, group string) bool {
	a, err := unixAccount(name)
	return err == nil && slices.Contains(a.Groups, group)
}

// unixName is who a client's user is here.
func (a *accounts) unixName(name string) string {
	unix, _ := a.conf.Load().users.Map(name, inGroup)
	return unix
}

// NTHash implements server.Users: the hash of the user as "username map" has him, or of
// the one who has the client's name where the map leads to nobody with a password.
func (a *accounts) NTHash(ctx context.Context, domain, name string) (server.NTHash, error) {
	unix := a.unixName(name)
	h, err := a.hash(ctx, domain, unix)
	if unix != name && errors.Is(err, fs.ErrNotExist) {
		return a.hash(ctx, domain, name)
	}
	return h, err
}

func (a *accounts) hash(ctx context.Context, domain, name string) (server.NTHash, error) {
	c := a.conf.Load()
	h, err := c.flags.NTHash(ctx, domain, name)
	if err == nil || c.file == "" {
		return h, err
	}
	l, err := a.load(c)
	if err != nil {
		// Also if there is no file that has to be there, which is why err is not wrapped:
		// users that are not known because of it are no guests.
		return h, fmt.Errorf("users: %w: %s", errNoUsers, err.Error())
	}
	e := l.Find(name)
	switch {
	case e == nil:
		return h, fmt.Errorf("user %q: %w", name, fs.ErrNotExist)
	case !e.CanLogOn():
		return h, fmt.Errorf("user %q may not log on: the account is disabled or has no password: %w", name, errDisabled)
	}
	// Files are accessed as the UNIX user: there has to be one.
	if os.Geteuid() == 0 {
		if _, err := unixAccount(a.unixName(name)); err != nil {
			return h, fmt.Errorf("user %q has no UNIX account: add one, or map the user to one by \"username map\": %w", name, errDisabled)
		}
	}
	return server.NTHash(e.Hash), nil
}

// errDisabled is an account that cannot log on. It is no fs.ErrNotExist: such a user is
// not taken for a guest.
var errDisabled = errors.New("account disabled")

// errNoUsers is a file of users that cannot be read. It is no fs.ErrNotExist either.
var errNoUsers = errors.New("the file cannot be read")

// load returns the users of the file, read anew if it has changed.
func (a *accounts) load(c *accountsConfig) (*smbpasswd.List, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fi, err := os.Stat(c.file)
	if errors.Is(err, fs.ErrNotExist) && !c.required {
		return &smbpasswd.List{}, nil
	}
	if err != nil {
		return nil, err
	}
	st := fileStamp{size: fi.Size(), mtime: fi.ModTime()}
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		st.ino = s.Ino
	}
	if a.list != nil && a.path == c.file && a.stamp == st {
		return a.list, nil
	}
	l, bad, err := smbpasswd.Read(c.file)
	if err != nil {
		return nil, err
	}
	for _, e := range bad {
		a.log.Warn("users: a line is ignored", "err", e)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		a.log.Warn("users: others may access the file, and who reads it can log on as anybody in it: chmod 600", "file", c.file, "mode", fi.Mode())
	}
	a.path, a.stamp, a.list = c.file, st, l
	return l, nil
}

// Account implements server.Accounts.
func (a *accounts) Account(_ context.Context, name string) (server.Account, error) {
	return unixAccount(a.unixName(name))
}

// Guest implements server.Accounts.
func (a *accounts) Guest(context.Context) (server.Account, error) {
	return unixAccount(a.conf.Load().guest)
}

// ListUsers implements server.UserLister: users of the flags, then those of the file.
func (a *accounts) ListUsers(ctx context.Context) ([]server.UserInfo, error) {
	c := a.conf.Load()
	list, err := c.flags.ListUsers(ctx)
	if err != nil || c.file == "" {
		return list, err
	}
	l, err := a.load(c)
	if err != nil {
		return nil, err
	}
	for e := range l.All() {
		if _, twice := c.flags[strings.ToUpper(e.Name)]; !twice && e.Flags&smbpasswd.Trust == 0 {
			list = append(list, server.UserInfo{Name: e.Name, FullName: fullName(a.unixName(e.Name)), Disabled: !e.CanLogOn()})
		}
	}
	return list, nil
}

// fullName is what the operating system says that a user is called; empty if it does not.
func fullName(name string) string {
	u, err := user.Lookup(name)
	if err != nil {
		return ""
	}
	return u.Name
}

// UserName implements server.UnixNames.
func (a *accounts) UserName(_ context.Context, uid uint32) (string, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "", notExist(err)
	}
	return u.Username, nil
}

// GroupName implements server.UnixNames.
func (a *accounts) GroupName(_ context.Context, gid uint32) (string, error) {
	g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10))
	if err != nil {
		return "", notExist(err)
	}
	return g.Name, nil
}

// Group implements server.Accounts.
func (a *accounts) Group(_ context.Context, name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, notExist(err)
	}
	return id(g.Gid)
}

// unixAccount looks a user up in the operating system, in lower case if not as it is.
func unixAccount(name string) (server.Account, error) {
	u, err := user.Lookup(name)
	if lower := strings.ToLower(name); err != nil && lower != name {
		if v, e := user.Lookup(lower); e == nil {
			u, err = v, nil
		}
	}
	if err != nil {
		return server.Account{}, notExist(err)
	}
	acc := server.Account{Name: u.Username, Home: u.HomeDir}
	if acc.UID, err = id(u.Uid); err != nil {
		return server.Account{}, err
	}
	if acc.GID, err = id(u.Gid); err != nil {
		return server.Account{}, err
	}
	gids, err := u.GroupIds()
	if err != nil {
		return server.Account{}, fmt.Errorf("groups of %q: %w", name, err)
	}
	for _, s := range append([]string{u.Gid}, gids...) {
		gid, err := id(s)
		if err != nil {
			return server.Account{}, err
		}
		if gid == acc.GID && len(acc.Groups) > 0 || slices.Contains(acc.GIDs, gid) {
			continue
		}
		if gid != acc.GID {
			acc.GIDs = append(acc.GIDs, gid)
		}
		if g, err := user.LookupGroupId(s); err == nil { // one without a name is on no list
			acc.Groups = append(acc.Groups, g.Name)
		}
	}
	return acc, nil
}

func id(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// notExist makes the errors of os/user match fs.ErrNotExist.
func notExist(err error) error {
	var (
		u   user.UnknownUserError
		g   user.UnknownGroupError
		uid user.UnknownUserIdError
		gid user.UnknownGroupIdError
	)
	if errors.As(err, &u) || errors.As(err, &g) || errors.As(err, &uid) || errors.As(err, &gid) {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return err
}
