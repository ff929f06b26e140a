package server

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Security descriptors
//
// No access control list is stored. What clients see is made of the owner, group
// and permission bits: the owner is S-1-22-1-uid, the group S-1-22-2-gid, and the
// DACL has an entry for each of them and one for Everyone.
//
// The other way, a DACL is read for what it says about these three (CREATOR OWNER,
// OWNER RIGHTS, CREATOR GROUP and Authenticated Users are taken for owner, group
// and Everyone) and changes the permission bits accordingly. Entries for others
// have no bit to go into and are ignored; a DACL of nothing else is accepted and
// changes nothing, so that programs that copy files with their descriptors go
// on. An owner or group that is no S-1-22 SID and is not the present one is
// refused with STATUS_INVALID_OWNER.

// rwx are permission bits of one class.
const (
	permRead  fs.FileMode = 4
	permWrite fs.FileMode = 2
	permExec  fs.FileMode = 1
)

// maskOf are the rights that permission bits stand for.
func maskOf(perm fs.FileMode, isDir, owner bool) smb2.AccessMask {
	m := smb2.FileReadAttributes | smb2.FileReadEA | smb2.ReadControl | smb2.Synchronize
	if perm&permRead != 0 {
		m |= smb2.FileGenericRead
	}
	if perm&permWrite != 0 {
		m |= smb2.FileGenericWrite | smb2.Delete
		if isDir {
			m |= smb2.FileDeleteChild
		}
	}
	if perm&permExec != 0 {
		m |= smb2.FileGenericExecute
	}
	if owner {
		m |= smb2.WriteDAC | smb2.WriteOwner | smb2.FileWriteAttributes | smb2.Delete
		if perm == permRead|permWrite|permExec {
			m = smb2.FileAllAccess
		}
	}
	return m
}

// permOf are the permission bits that rights stand for.
func permOf(m smb2.AccessMask) (perm fs.FileMode) {
	m = m.Expand()
	if m&smb2.FileReadData != 0 {
		perm |= permRead
	}
	if m&smb2.FileWriteData != 0 {
		perm |= permWrite
	}
	if m&smb2.FileExecute != 0 {
		perm |= permExec
	}
	return perm
}

// descriptor makes the parts of a security descriptor that were asked for.
func descriptor(info *vfs.Info, want smb2.SecurityInformation) smb2.SecurityDescriptor {
	owner, group := smb2.SIDUnixUser(info.UID), smb2.SIDUnixGroup(info.GID)
	var sd smb2.SecurityDescriptor
	if want&smb2.OwnerSecurityInformation != 0 {
		sd.Owner = &owner
	}
	if want&smb2.GroupSecurityInformation != 0 {
		sd.Group = &group
	}
	if want&smb2.DACLSecurityInformation != 0 {
		perm, dir := info.Mode.Perm(), info.IsDir()
		sd.DACL = &smb2.ACL{ACEs: []smb2.ACE{
			{Type: smb2.ACEAccessAllowed, SID: owner, Mask: maskOf(perm>>6&7, dir, true)},
			{Type: smb2.ACEAccessAllowed, SID: group, Mask: maskOf(perm>>3&7, dir, false)},
			{Type: smb2.ACEAccessAllowed, SID: smb2.SIDEveryone, Mask: maskOf(perm&7, dir, false)},
		}}
	}
	return sd
}

// security answers SMB2_0_INFO_SECURITY, [MS-SMB2] 3.3.5.20.3.
func (q *infoQuery) security(ctx context.Context) ntstatus.Status {
	o, want := q.o, smb2.SecurityInformation(q.req.AdditionalInformation)
	const plain = smb2.OwnerSecurityInformation | smb2.GroupSecurityInformation | smb2.DACLSecurityInformation
	switch {
	case o.isPipe:
		return ntstatus.NotSupported
	case want&smb2.SACLSecurityInformation != 0:
		return ntstatus.AccessDenied // ACCESS_SYSTEM_SECURITY is never granted
	case want&plain != 0 && o.access&smb2.ReadControl == 0:
		return ntstatus.AccessDenied
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	sd := descriptor(&info, want)
	start := len(q.r.out)
	b, err := sd.AppendBinary(q.r.out)
	if err != nil {
		return q.r.appended(err)
	}
	if n := len(b) - start; n > q.room {
		q.r.out = b[:start]
		q.r.errData = le.AppendUint32(nil, uint32(n))
		return ntstatus.BufferTooSmall
	}
	q.r.out = b
	return ntstatus.Success
}

// setSecurityInfo is SET_INFO with SMB2_0_INFO_SECURITY, [MS-SMB2] 3.3.5.21.3.
func (o *open) setSecurityInfo(ctx context.Context, b []byte, what smb2.SecurityInformation) ntstatus.Status {
	const owners = smb2.OwnerSecurityInformation | smb2.GroupSecurityInformation | smb2.LabelSecurityInformation
	switch {
	case o.isPipe:
		return ntstatus.NotSupported
	case what&(smb2.SACLSecurityInformation|smb2.ScopeSecurityInformation|smb2.BackupSecurityInformation) != 0:
		return ntstatus.AccessDenied
	case what&(smb2.DACLSecurityInformation|smb2.AttributeSecurityInformation) != 0 && o.access&smb2.WriteDAC == 0:
		return ntstatus.AccessDenied
	case what&owners != 0 && o.access&smb2.WriteOwner == 0:
		return ntstatus.AccessDenied
	}
	return o.setSecurity(ctx, b, what)
}

// setSecurity applies the parts of a descriptor that are asked for.
func (o *open) setSecurity(ctx context.Context, b []byte, what smb2.SecurityInformation) ntstatus.Status {
	sd, err := smb2.ParseSecurityDescriptor(b)
	if err != nil {
		return ntstatus.InvalidSecurityDescr
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	a := vfs.SetAttr{UID: info.UID, GID: info.GID}
	if what&smb2.OwnerSecurityInformation != 0 && sd.Owner != nil && *sd.Owner != smb2.SIDUnixUser(info.UID) {
		if sd.Owner.Parent() != unixUsers {
			return ntstatus.InvalidOwner
		}
		a.UID = sd.Owner.RID()
		a.Set |= vfs.SetOwner
	}
	if what&smb2.GroupSecurityInformation != 0 && sd.Group != nil && *sd.Group != smb2.SIDUnixGroup(info.GID) {
		if sd.Group.Parent() != unixGroups {
			return ntstatus.InvalidOwner
		}
		a.GID = sd.Group.RID()
		a.Set |= vfs.SetOwner
	}
	if what&smb2.DACLSecurityInformation != 0 && !o.isLink {
		if perm, ok := permsOf(&sd, &info); ok && perm != info.Mode.Perm() {
			a.Mode = perm
			a.Set |= vfs.SetMode
		}
	}
	if a.Set == 0 {
		return ntstatus.Success
	}
	if err := o.file.SetAttr(ctx, a); err != nil {
		if a.Set&vfs.SetOwner != 0 && errors.Is(err, syscall.EPERM) {
			return ntstatus.InvalidOwner
		}
		return ntstatus.FromError(err)
	}
	return ntstatus.Success
}

var (
	unixUsers  = smb2.SIDUnixUser(0).Parent()
	unixGroups = smb2.SIDUnixGroup(0).Parent()
)

// permsOf reads permission bits out of a DACL; false if it says nothing that a
// bit could hold. As in an access check, the first entry that speaks of a right
// decides about it, and what is not granted is refused.
func permsOf(sd *smb2.SecurityDescriptor, info *vfs.Info) (fs.FileMode, bool) {
	if sd.DACL == nil {
		// No DACL at all, or a NULL one, which grants everything to everyone.
		return fs.ModePerm, sd.Control&smb2.SEDACLPresent != 0
	}
	owner, group := smb2.SIDUnixUser(info.UID), smb2.SIDUnixGroup(info.GID)
	var allowed, denied [3]fs.FileMode // owner, group, everyone
	known := len(sd.DACL.ACEs) == 0    // an empty DACL refuses everything to everyone
	for i := range sd.DACL.ACEs {
		a := &sd.DACL.ACEs[i]
		if a.Flags&smb2.ACEInheritOnly != 0 || a.Type != smb2.ACEAccessAllowed && a.Type != smb2.ACEAccessDenied {
			continue
		}
		var classes []int
		switch a.SID {
		case owner, smb2.SIDCreatorOwner, smb2.SIDOwnerRights, smb2.SIDNFSUser(info.UID):
			classes = []int{0}
		case group, smb2.SIDCreatorGroup, smb2.SIDNFSGroup(info.GID):
			classes = []int{1}
		case smb2.SIDEveryone, smb2.SIDAuthenticatedUsers:
			classes = []int{0, 1, 2}
		default:
			continue
		}
		known = true
		for _, c := range classes {
			p := permOf(a.Mask)
			if a.Type == smb2.ACEAccessAllowed {
				allowed[c] |= p &^ denied[c]
			} else {
				denied[c] |= p &^ allowed[c]
			}
		}
	}
	return allowed[0]<<6 | allowed[1]<<3 | allowed[2], known
}
