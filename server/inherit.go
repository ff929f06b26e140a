package server

import (
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// maxACEs bounds the lists of new objects and of those that clients set: about what
// an ACL of 64 KiB with SIDs of users holds on Windows. maxDedupe is how long a list
// may be for entries to be compared with all others.
const (
	maxACEs   = 1820
	maxDedupe = 256
)

// inheritable reports whether a new object of that kind gets anything of an entry.
func inheritable(a *smb2.ACE, dir bool) bool {
	if !dir {
		return a.Flags&smb2.ACEObjectInherit != 0
	}
	return a.Flags&smb2.ACEContainerInherit != 0 ||
		a.Flags&(smb2.ACEObjectInherit|smb2.ACENoPropagateInherit) == smb2.ACEObjectInherit
}

// hasInheritable reports whether a new object of that kind gets anything at all.
func hasInheritable(sd *smb2.SecurityDescriptor, dir bool) bool {
	return sd.DACL != nil && slices.ContainsFunc(sd.DACL.ACEs, func(a smb2.ACE) bool { return inheritable(&a, dir) })
}

// inheritedDACL is the DACL that a new object gets from its directory, with its
// control bits: [MS-DTYP] 2.5.3.4, ComputeInheritedACLFromParent. CREATOR OWNER and
// CREATOR GROUP stand for the new object's owner and group; a directory keeps an
// entry of theirs for what will be in it.
func inheritedDACL(parent *smb2.SecurityDescriptor, owner, group smb2.SID, dir bool) (*smb2.ACL, smb2.SecurityControl) {
	control := smb2.SEDACLPresent
	var mark uint8 // says that an entry was inherited, where the parent keeps track
	if parent.Control&smb2.SEDACLAutoInherited != 0 {
		control |= smb2.SEDACLAutoInherited
		mark = smb2.ACEInherited
	}
	l := &smb2.ACL{Revision: parent.DACL.Revision}
	add := func(a smb2.ACE) {
		same := func(b smb2.ACE) bool {
			return a.Type == b.Type && a.Flags == b.Flags && a.Mask == b.Mask && a.SID == b.SID &&
				a.ObjectFlags == b.ObjectFlags && a.ObjectType == b.ObjectType &&
				a.InheritedObjectType == b.InheritedObjectType && string(a.Data) == string(b.Data)
		}
		if len(l.ACEs) < maxACEs && (len(l.ACEs) > maxDedupe || !slices.ContainsFunc(l.ACEs, same)) {
			l.ACEs = append(l.ACEs, a)
		}
	}
	for i := range parent.DACL.ACEs {
		a := parent.DACL.ACEs[i]
		if !inheritable(&a, dir) {
			continue
		}
		creator := a.SID
		switch a.SID {
		case smb2.SIDCreatorOwner:
			a.SID = owner
		case smb2.SIDCreatorGroup:
			a.SID = group
		}
		flags := a.Flags
		a.Flags = mark
		if !dir || flags&smb2.ACENoPropagateInherit != 0 {
			add(a)
			continue
		}
		flags = flags &^ (smb2.ACEInheritOnly | smb2.ACEInherited)
		switch {
		case flags&smb2.ACEContainerInherit == 0: // for the files in it alone
			a.SID, a.Flags = creator, flags|smb2.ACEInheritOnly|mark
			add(a)
		case a.SID != creator:
			add(a)
			a.SID, a.Flags = creator, flags|smb2.ACEInheritOnly|mark
			add(a)
		default:
			a.Flags = flags | mark
			add(a)
		}
	}
	return l, control
}
