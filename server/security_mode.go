package server

import (
	"cmp"
	"io/fs"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/ntacl"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Descriptors and permission bits
//
// An object without a stored descriptor has one made of its owner, group and
// permission bits: the owner is S-1-22-1-uid, the group S-1-22-2-gid, and the DACL
// has an entry for each of them and one for Everyone. An owner who may read and
// write has full control, as somebody who may change the bits has anyway; but the
// right to delete is the directory's to give, as it is there. A
// directory shows besides what new objects in it will get by their mode, as entries
// of CREATOR OWNER, CREATOR GROUP and Everyone: a list that is made longer by a
// client thus stays complete for what is created later.
//
// The other way, a DACL that is set is read for what it says about owner, group,
// Everyone, and other users and groups of the operating system, and permission bits
// and POSIX ACL follow: for other ways to the file, and for the kernel, which checks
// them, too, where the server acts as its users.

// Permission bits of one class.
const (
	permRead  fs.FileMode = 4
	permWrite fs.FileMode = 2
	permExec  fs.FileMode = 1
)

// maskOf are the rights that permission bits stand for.
func maskOf(perm fs.FileMode, isDir, owner bool) (m smb2.AccessMask) {
	if owner && perm&(permRead|permWrite) == permRead|permWrite && (!isDir || perm&permExec != 0) {
		return smb2.FileAllAccess &^ smb2.Delete
	}
	if perm&permRead != 0 {
		m |= smb2.FileGenericRead
	}
	if perm&permWrite != 0 {
		m |= smb2.FileGenericWrite
		if isDir {
			m |= smb2.FileDeleteChild
		}
	}
	if perm&permExec != 0 {
		m |= smb2.FileGenericExecute
	}
	return m
}

// ownMask are the rights that permission bits stand for and that no other bit has.
func ownMask(perm fs.FileMode, isDir bool) (m smb2.AccessMask) {
	if perm&permRead != 0 {
		m |= smb2.FileReadData | smb2.FileReadEA
	}
	if perm&permWrite != 0 {
		m |= smb2.FileWriteData | smb2.FileAppendData | smb2.FileWriteEA | smb2.FileWriteAttributes
		if isDir {
			m |= smb2.FileDeleteChild
		}
	}
	if perm&permExec != 0 {
		m |= smb2.FileExecute
	}
	return m
}

// laterPerm are the bits that a class (owner, group, others) lacks and a later one has,
// which would be granted to it as one of those, too.
func laterPerm(perm fs.FileMode, class int) fs.FileMode {
	switch class {
	case 0:
		return (perm>>3 | perm) & 7 &^ (perm >> 6)
	case 1:
		return perm & 7 &^ (perm >> 3)
	}
	return 0
}

// grantedByMode are the rights that the descriptor made of the mode bits gives.
func (t *accessToken) grantedByMode(info *vfs.Info) smb2.AccessMask {
	if t.Admin {
		return smb2.FileAllAccess | smb2.AccessSystemSecurity
	}
	perm, dir := info.Mode.Perm(), info.IsDir()
	in := [...]bool{t.has(smb2.SIDUnixUser(info.UID)), t.has(smb2.SIDUnixGroup(info.GID)), t.has(smb2.SIDEveryone)}
	var allowed, denied smb2.AccessMask
	if in[0] {
		allowed = smb2.ReadControl | smb2.WriteDAC
	}
	for class, is := range in {
		if is {
			allowed |= maskOf(perm>>(6-3*class)&7, dir, class == 0) &^ denied
			denied |= ownMask(laterPerm(perm, class), dir) &^ allowed
		}
	}
	return allowed
}

// modeDescriptor makes the descriptor of an object that has none.
func modeDescriptor(info *vfs.Info) smb2.SecurityDescriptor {
	owner, group := smb2.SIDUnixUser(info.UID), smb2.SIDUnixGroup(info.GID)
	perm, dir := info.Mode.Perm(), info.IsDir()
	l := &smb2.ACL{ACEs: make([]smb2.ACE, 0, 6)}
	classes := [...]struct {
		sid, heir smb2.SID
		mask      smb2.AccessMask
		heirMask  smb2.AccessMask
	}{
		{owner, smb2.SIDCreatorOwner, maskOf(perm>>6&7, dir, true), smb2.FileAllAccess},
		{group, smb2.SIDCreatorGroup, maskOf(perm>>3&7, dir, false), smb2.FileGenericRead | smb2.FileGenericExecute},
		{smb2.SIDEveryone, smb2.SIDEveryone, maskOf(perm&7, dir, false), smb2.FileGenericRead | smb2.FileGenericExecute},
	}
	for i, c := range classes {
		l.ACEs = append(l.ACEs, smb2.ACE{Type: smb2.ACEAccessAllowed, SID: c.sid, Mask: c.mask})
		if more := laterPerm(perm, i); more != 0 {
			l.ACEs = append(l.ACEs, smb2.ACE{Type: smb2.ACEAccessDenied, SID: c.sid, Mask: ownMask(more, dir)})
		}
	}
	if dir {
		for _, c := range classes {
			l.ACEs = append(l.ACEs, smb2.ACE{
				Type: smb2.ACEAccessAllowed, SID: c.heir, Mask: c.heirMask,
				Flags: smb2.ACEObjectInherit | smb2.ACEContainerInherit | smb2.ACEInheritOnly,
			})
		}
	}
	return smb2.SecurityDescriptor{Control: smb2.SEDACLPresent, Owner: &owner, Group: &group, DACL: l}
}

// systemRights are what a DACL means to the operating system.
type systemRights struct {
	// mode are the permission bits of owner, group and others.
	mode fs.FileMode
	// named are the entries of a POSIX ACL for other users and groups that the DACL
	// speaks of, in order.
	named []ntacl.Entry
}

// maxNamed bounds the entries for users and groups; the DACL may have more, which
// then have their rights through this server only.
const maxNamed = 256

// rightsOf reads a DACL for an object whose permission bits are old: for each class,
// and each user and group of the operating system that it names, what somebody of
// whom nothing else is known is granted. The owner keeps the right to read, and all
// rights on a directory, as Samba has it: he could change the bits anyway, and a
// descriptor that refuses him is checked all the same. Where the server itself is the
// owner and no superuser (self), others come by its rights, and it keeps the right to
// write, too.
//
// FILE_EXECUTE is part of full control, which is what most files have, and is no
// reason for a file to be a program on the other side: with full control the bit
// stays as it was.
func (s *Server) rightsOf(sd *smb2.SecurityDescriptor, info *vfs.Info, self uint32) (r systemRights) {
	everyone := []smb2.SID{
		smb2.SIDEveryone, smb2.SIDAuthenticatedUsers, smb2.SIDUsers, sidNetwork, s.machine.Child(ridNone),
	}
	perm := func(old fs.FileMode, sids ...smb2.SID) (p fs.FileMode) {
		m := (&accessToken{Groups: append(sids, everyone...)}).granted(sd)
		if m&smb2.FileReadData != 0 {
			p |= permRead
		}
		if m&smb2.FileWriteData != 0 {
			p |= permWrite
		}
		if m&smb2.FileExecute != 0 {
			p |= permExec
			if m|smb2.Delete == smb2.FileAllAccess && !info.IsDir() {
				p = p&^permExec | old&permExec
			}
		}
		return p
	}
	old := info.Mode.Perm()
	owners, groups := s.sidsOfUser(info.UID), s.sidsOfGroup(info.GID)
	if sd.Owner != nil {
		owners = append(owners, *sd.Owner)
	}
	if sd.Group != nil {
		groups = append(groups, *sd.Group)
	}
	r.mode = perm(old>>6, append(owners, smb2.SIDOwnerRights)...)<<6 | perm(old>>3, groups...)<<3 | perm(old)
	switch {
	case info.IsDir():
		r.mode |= 0o700
	case info.UID == self && self != 0:
		r.mode |= 0o600
	default:
		r.mode |= 0o400
	}
	if sd.DACL == nil {
		return r
	}
	for i := range sd.DACL.ACEs {
		a := &sd.DACL.ACEs[i]
		if a.Flags&smb2.ACEInheritOnly != 0 || len(r.named) == maxNamed ||
			slices.Contains(owners, a.SID) || slices.Contains(groups, a.SID) {
			continue
		}
		var e ntacl.Entry
		var sids []smb2.SID
		if uid, ok := s.unixOwner(a.SID); ok {
			e, sids = ntacl.Entry{Tag: ntacl.TagUser, ID: uid}, s.sidsOfUser(uid)
		} else if gid, ok := s.unixGroup(a.SID); ok {
			e, sids = ntacl.Entry{Tag: ntacl.TagGroup, ID: gid}, s.sidsOfGroup(gid)
		} else {
			continue
		}
		if !slices.ContainsFunc(r.named, func(o ntacl.Entry) bool { return o.Tag == e.Tag && o.ID == e.ID }) {
			e.Perm = uint32(perm(0, sids...))
			r.named = append(r.named, e)
		}
	}
	slices.SortFunc(r.named, func(a, b ntacl.Entry) int {
		return cmp.Or(cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.ID, b.ID))
	})
	return r
}

// sidsOfUser are the SIDs by which a UNIX user is known, sidsOfGroup those of a group.
func (s *Server) sidsOfUser(uid uint32) []smb2.SID {
	sids := []smb2.SID{smb2.SIDUnixUser(uid), smb2.SIDNFSUser(uid)}
	if rid, ok := uidRID(uid); ok {
		sids = append(sids, s.machine.Child(rid))
	}
	return sids
}

func (s *Server) sidsOfGroup(gid uint32) []smb2.SID {
	return []smb2.SID{smb2.SIDUnixGroup(gid), smb2.SIDNFSGroup(gid)}
}

// posixACL is the POSIX ACL for the rights, nil where the permission bits say it all.
func (r *systemRights) posixACL() []ntacl.Entry {
	if len(r.named) == 0 {
		return nil
	}
	base := ntacl.ModeEntries(uint32(r.mode))
	mask := base[1].Perm
	l := []ntacl.Entry{base[0]}
	for _, tag := range []ntacl.Tag{ntacl.TagUser, ntacl.TagGroup} {
		if tag == ntacl.TagGroup {
			l = append(l, base[1])
		}
		for _, e := range r.named {
			if e.Tag == tag {
				l = append(l, e)
				mask |= e.Perm
			}
		}
	}
	return append(l, ntacl.Entry{Tag: ntacl.TagMask, Perm: mask}, base[2])
}

// unixMode is st_mode of an object: type, permission and special bits.
func unixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	for _, b := range [...]struct {
		bit  fs.FileMode
		mode uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&b.bit != 0 {
			u |= b.mode
		}
	}
	switch m.Type() {
	case 0:
		u |= 0o100000
	case fs.ModeDir:
		u |= 0o040000
	case fs.ModeSymlink:
		u |= 0o120000
	case fs.ModeNamedPipe:
		u |= 0o010000
	case fs.ModeSocket:
		u |= 0o140000
	case fs.ModeDevice:
		u |= 0o060000
	case fs.ModeDevice | fs.ModeCharDevice:
		u |= 0o020000
	}
	return u
}
