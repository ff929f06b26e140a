package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// accessToken says who somebody is, for access checks: his SID and those of all
// groups that he is in, and who he is for the operating system. It does not change.
//
// A user whom the operating system knows ([Accounts]) has S-1-22-1-uid beside his
// own SID, and S-1-22-2-gid for each of his groups. One whom it does not know acts
// as the user that the server runs as, with whose uid and groups his token is
// filled: all such users own the same files. What tells them apart is their own
// SIDs, in access control lists.
type accessToken struct {
	User   smb2.SID
	Groups []smb2.SID // with well-known ones; not User
	// Owner and Group are what new objects belong to.
	Owner, Group smb2.SID

	UID, GID uint32
	GIDs     []uint32 // other groups of the operating system
	Name     string
	Guest    bool
	// Admin is not held back by security descriptors.
	Admin bool
	// Account says that the operating system knows the user.
	Account bool
}

// has reports whether the token is of somebody who is sid or belongs to it.
func (t *accessToken) has(sid smb2.SID) bool {
	return sid == t.User || slices.Contains(t.Groups, sid)
}

// Relative ids below the machine's SID, [MS-DTYP] 2.4.2.4 and [MS-SAMR] 2.2.1.14;
// users' begin at firstRID.
const (
	ridGuest      uint32 = 501
	ridNone       uint32 = 513 // the primary group of users of a stand-alone server
	firstRID      uint32 = 1000
	firstNamedRID uint32 = 1 << 30
)

// sidNetwork is NETWORK, S-1-5-2: who came by one.
var sidNetwork = smb2.NewSID(5, 2)

// machineSID makes the SID below which the server's users have theirs:
// S-1-5-21 and 96 bits of what identifies the server for good.
func machineSID(identity string) smb2.SID {
	h := sha256.Sum256([]byte("machine SID\x00" + identity))
	return smb2.NewSID(5, 21, binary.LittleEndian.Uint32(h[0:]), binary.LittleEndian.Uint32(h[4:]), binary.LittleEndian.Uint32(h[8:]))
}

// uidRID is the relative id of a user with an account: as Samba makes it where no
// other is written down (algorithmic rid base = 1000).
func uidRID(uid uint32) (rid uint32, ok bool) {
	if uid >= (firstNamedRID-firstRID)/2 {
		return 0, false
	}
	return firstRID + 2*uid, true
}

// ridUID is the inverse.
func ridUID(rid uint32) (uid uint32, ok bool) {
	if rid < firstRID || rid >= firstNamedRID || rid%2 != 0 {
		return 0, false
	}
	return (rid - firstRID) / 2, true
}

// nameRID is the relative id of a user without an account, who has but a name.
func nameRID(name string) uint32 {
	h := sha256.Sum256([]byte(foldName(name)))
	return firstNamedRID | binary.LittleEndian.Uint32(h[:])&(firstNamedRID-1)
}

// logonToken makes the token of somebody who has logged on. The error is that of
// Accounts; a user whom it does not know is one without an account.
func (s *Server) logonToken(ctx context.Context, user string, guest, anonymous bool) (*accessToken, error) {
	var account *Account
	if accounts, ok := s.cfg.Users.(Accounts); ok {
		var a Account
		var err error
		if guest || anonymous {
			a, err = accounts.Guest(ctx)
		} else {
			a, err = accounts.Account(ctx, user)
		}
		switch {
		case err == nil:
			account = &a
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return s.newToken(user, account, guest || anonymous), nil
}

// newToken makes a token; account is nil for who has none.
func (s *Server) newToken(user string, account *Account, guest bool) *accessToken {
	t := &accessToken{Name: user, Guest: guest}
	t.Groups = []smb2.SID{smb2.SIDEveryone, sidNetwork}
	if guest {
		t.User = s.machine.Child(ridGuest)
		t.Groups = append(t.Groups, smb2.SIDGuests)
	} else {
		t.User = s.machine.Child(nameRID(user))
		t.Groups = append(t.Groups, smb2.SIDAuthenticatedUsers, smb2.SIDUsers, s.machine.Child(ridNone))
	}
	if account != nil {
		t.Account = true
		t.UID, t.GID, t.GIDs = account.UID, account.GID, slices.Clone(account.GIDs)
		if rid, ok := uidRID(account.UID); ok && !guest {
			t.User = s.machine.Child(rid)
		}
	} else {
		self := processUser()
		t.UID, t.GID, t.GIDs = self.UID, self.GID, self.GIDs
	}
	t.Owner, t.Group = smb2.SIDUnixUser(t.UID), smb2.SIDUnixGroup(t.GID)
	t.Groups = append(t.Groups, t.Owner, t.Group)
	for _, gid := range t.GIDs {
		if sid := smb2.SIDUnixGroup(gid); sid != t.Group {
			t.Groups = append(t.Groups, sid)
		}
	}
	return t
}

// treeToken is the token of somebody who was admitted to a share: his own, or that of
// whom the share makes of him.
func (s *Server) treeToken(user *logon, a *admission) *accessToken {
	var account *Account
	if a.known {
		account = &a.account
	}
	t := s.newToken(user.user, account, a.guest)
	if a.admin {
		t = t.asAdmin()
	}
	return t
}

// asAdmin is the token of the same user where he is not held back by security
// descriptors.
func (t *accessToken) asAdmin() *accessToken {
	a := *t
	a.Admin = true
	a.Groups = append(slices.Clone(t.Groups), smb2.SIDAdministrators)
	return &a
}

// processUser is the user that the server runs as.
func processUser() Account {
	a := Account{UID: uint32(max(os.Geteuid(), 0)), GID: uint32(max(os.Getegid(), 0))}
	groups, err := os.Getgroups()
	if err != nil {
		return a // without them: less is granted
	}
	for _, g := range groups {
		a.GIDs = append(a.GIDs, uint32(g))
	}
	return a
}

// unixOwner finds the UNIX user that a SID stands for; false if none.
func (s *Server) unixOwner(sid smb2.SID) (uid uint32, ok bool) {
	switch sid.Parent() {
	case unixUsers, nfsUsers:
		return sid.RID(), true
	case s.machine:
		return ridUID(sid.RID())
	}
	return 0, false
}

// unixGroup is unixOwner of groups.
func (s *Server) unixGroup(sid smb2.SID) (gid uint32, ok bool) {
	switch sid.Parent() {
	case unixGroups, nfsGroups:
		return sid.RID(), true
	}
	return 0, false
}

var (
	unixUsers  = smb2.SIDUnixUser(0).Parent()
	unixGroups = smb2.SIDUnixGroup(0).Parent()
	nfsUsers   = smb2.SIDNFSUser(0).Parent()
	nfsGroups  = smb2.SIDNFSGroup(0).Parent()
	nfsModes   = smb2.SIDNFSMode(0).Parent()
)
