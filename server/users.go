package server

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
)

// NTHash is the MD4 of a password in UTF-16LE, NTOWFv1 of [MS-NLMP] 3.3.1. Who
// has it can log on: it is as secret as the password.
type NTHash [16]byte

// Users knows who may log on. Its methods may be called by many goroutines.
type Users interface {
	// NTHash returns the hash of the user's password; an error that matches
	// fs.ErrNotExist for a user it does not know, who may be taken for a guest, and
	// another one for a user who cannot log on. name is as the client sent it,
	// to be compared without regard to case; domain is what the client believes
	// the user's domain to be, and may be ignored.
	NTHash(ctx context.Context, domain, name string) (NTHash, error)
}

// UserMap is a fixed set of users. Keys are as [UserMap.Add] makes them.
type UserMap map[string]NTHash

// ParseUsers makes a UserMap of strings of the form NAME%PASSWORD. A password
// may contain any character, and may be empty only after an explicit %.
func ParseUsers(users ...string) (UserMap, error) {
	m := UserMap{}
	for _, u := range users {
		name, password, ok := strings.Cut(u, "%")
		if !ok || name == "" {
			return nil, fmt.Errorf("server: user %q is not of the form NAME%%PASSWORD", name)
		}
		if _, twice := m[foldName(name)]; twice {
			return nil, fmt.Errorf("server: user %q is given twice", name)
		}
		m.Add(name, password)
	}
	return m, nil
}

// HashPassword is the hash of a password.
func HashPassword(password string) NTHash { return NTHash(ntlm.NTHash(password)) }

// Add sets the password of a user.
func (m UserMap) Add(name, password string) { m[foldName(name)] = HashPassword(password) }

// NTHash implements [Users]. The domain is ignored.
func (m UserMap) NTHash(_ context.Context, _, name string) (NTHash, error) {
	h, ok := m[foldName(name)]
	if !ok {
		return NTHash{}, fmt.Errorf("user %q: %w", name, fs.ErrNotExist)
	}
	return h, nil
}

// Account is what the operating system knows of a user.
type Account struct {
	// Name is the user's name there, by which lists of users know him: that of
	// [Users] mapped, if names are.
	Name string
	// UID and GID are the user and his primary group, GIDs all his other groups.
	UID, GID uint32
	GIDs     []uint32
	// Groups has the names of all his groups, the primary one first.
	Groups []string
	// Home is his home directory.
	Home string
}

// Accounts is implemented by [Users] that knows the users of the operating system.
// Its methods may be called by many goroutines. Their errors match fs.ErrNotExist
// for those it does not know.
type Accounts interface {
	// Account finds who a client's user is here.
	Account(ctx context.Context, name string) (Account, error)
	// Guest is who guests and anonymous users are.
	Guest(ctx context.Context) (Account, error)
	// Group finds a group's id.
	Group(ctx context.Context, name string) (gid uint32, err error)
}
