package server

import (
	"io/fs"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Descriptors and permission bits
//
// An object without a stored descriptor has one made of its owner, group and
// permission bits: the owner is S-1-22-1-uid, the group S-1-22-2-gid, and the DACL
// has an entry for each of them and one for Everyone. An owner who may read and
// write has full control, as somebody who may change the bits has anyway. A
// directory shows besides what new objects in it will get by their mode, as entries
// of CREATOR OWNER, CREATOR GROUP and Everyone: a list that is made longer by a
// client thus stays complete for what is created later.
//
// The other way, a DACL that is set is read for what it says about owner, group and
// Everyone, and the permission bits follow, for the sake of other ways to the file.

// Permission bits of one class.
const (
	permRead  fs.FileMode = 4
	permWrite fs.FileMode = 2
	permExec  fs.FileMode = 1
)

// maskOf are the rights that permission bits stand for.
func maskOf(perm fs.FileMode, isDir, owner bool) (m smb2.AccessMask) {
	if owner && perm&(permRead|permWrite) == permRead|permWrite && (!isDir || perm&permExec != 0) {
		return smb2.FileAllAccess
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
	var more fs.FileMode // what a later class may, which would be granted to this one, too
	for i, c := range classes {
		l.ACEs = append(l.ACEs, smb2.ACE{Type: smb2.ACEAccessAllowed, SID: c.sid, Mask: c.mask})
		switch i {
		case 0:
			more = (perm>>3 | perm) & 7 &^ (perm >> 6)
		case 1:
			more = perm & 7 &^ (perm >> 3)
		case 2:
			more = 0
		}
		if more != 0 {
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

// modeOf reads permission bits out of a DACL for an object whose bits are old. As in
// an access check, the first entry that speaks of a right decides about it. The
// owner keeps the right to read, and all rights on a directory, as Samba has it: he
// could change the bits anyway, and a descriptor that refuses him is checked all the
// same. Where the server itself is the owner and no superuser, others come by its
// rights, and it keeps the right to write, too.
//
// FILE_EXECUTE is part of full control, which is what most files have, and is no
// reason for a file to be a program on the other side: with full control the bit
// stays as it was.
func modeOf(sd *smb2.SecurityDescriptor, info *vfs.Info, self uint32) fs.FileMode {
	old, dir := info.Mode.Perm(), info.IsDir()
	var classes [3]smb2.AccessMask // owner, group, everyone
	if sd.DACL == nil {
		classes = [3]smb2.AccessMask{smb2.FileAllAccess, smb2.FileAllAccess, smb2.FileAllAccess}
	} else {
		classes = classRights(sd, info)
	}
	var perm fs.FileMode
	for i, m := range classes {
		shift := 6 - 3*i
		var p fs.FileMode
		if m&smb2.FileReadData != 0 {
			p |= permRead
		}
		if m&smb2.FileWriteData != 0 {
			p |= permWrite
		}
		if m&smb2.FileExecute != 0 {
			p |= permExec
			if m == smb2.FileAllAccess && !dir {
				p = p&^permExec | old>>shift&permExec
			}
		}
		perm |= p << shift
	}
	switch {
	case dir:
		perm |= 0o700
	case info.UID == self && self != 0:
		perm |= 0o600
	default:
		perm |= 0o400
	}
	return perm
}

// classRights are what a DACL grants to owner, group and everybody else.
func classRights(sd *smb2.SecurityDescriptor, info *vfs.Info) (allowed [3]smb2.AccessMask) {
	var denied [3]smb2.AccessMask
	owners := []smb2.SID{smb2.SIDUnixUser(info.UID), smb2.SIDNFSUser(info.UID), smb2.SIDOwnerRights}
	groups := []smb2.SID{smb2.SIDUnixGroup(info.GID), smb2.SIDNFSGroup(info.GID)}
	if sd.Owner != nil {
		owners = append(owners, *sd.Owner)
	}
	if sd.Group != nil {
		groups = append(groups, *sd.Group)
	}
	is := func(sid smb2.SID, of []smb2.SID) bool {
		for _, s := range of {
			if s == sid {
				return true
			}
		}
		return false
	}
	for i := range sd.DACL.ACEs {
		a := &sd.DACL.ACEs[i]
		if a.Flags&smb2.ACEInheritOnly != 0 {
			continue
		}
		var from, to int // of the classes
		switch {
		case a.SID == smb2.SIDEveryone, a.SID == smb2.SIDAuthenticatedUsers:
			from, to = 0, 3
		case is(a.SID, owners):
			from, to = 0, 1
		case is(a.SID, groups):
			from, to = 1, 2
		default:
			continue
		}
		for c := from; c < to; c++ {
			switch a.Type {
			case smb2.ACEAccessAllowed:
				allowed[c] |= a.Mask.Expand() &^ denied[c]
			case smb2.ACEAccessDenied:
				denied[c] |= a.Mask.Expand() &^ allowed[c]
			}
		}
	}
	return allowed
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
