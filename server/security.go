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

// Parts of a descriptor that are asked for or set by QUERY_INFO and SET_INFO with
// SMB2_0_INFO_SECURITY.
const (
	plainSecurity = smb2.OwnerSecurityInformation | smb2.GroupSecurityInformation | smb2.DACLSecurityInformation
	// saclSecurity are parts of the SACL for which ACCESS_SYSTEM_SECURITY is needed.
	saclSecurity = smb2.SACLSecurityInformation | smb2.ScopeSecurityInformation | smb2.BackupSecurityInformation
)

// daclControl are the control bits that belong to the DACL, saclControl to the SACL.
const (
	daclControl = smb2.SEDACLPresent | smb2.SEDACLDefaulted | smb2.SEDACLAutoInheritReq |
		smb2.SEDACLAutoInherited | smb2.SEDACLProtected
	saclControl = smb2.SESACLPresent | smb2.SESACLDefaulted | smb2.SESACLAutoInheritReq |
		smb2.SESACLAutoInherited | smb2.SESACLProtected
)

// security answers SMB2_0_INFO_SECURITY, [MS-SMB2] 3.3.5.20.3, [MS-FSA] 2.1.5.14.
func (q *infoQuery) security(ctx context.Context) ntstatus.Status {
	o, want := q.o, smb2.SecurityInformation(q.req.AdditionalInformation)
	switch {
	case o.isPipe:
		return ntstatus.NotSupported
	case want&saclSecurity != 0 && o.access&smb2.AccessSystemSecurity == 0:
		return ntstatus.AccessDenied
	case want&plainSecurity != 0 && o.access&smb2.ReadControl == 0:
		return ntstatus.AccessDenied
	}
	sd := smb2.SecurityDescriptor{}
	if want&(plainSecurity|smb2.SACLSecurityInformation) != 0 {
		info, err := o.object().Stat(ctx)
		if err != nil {
			return ntstatus.FromError(err)
		}
		sec, err := o.security(ctx, &info)
		if err != nil {
			return ntstatus.FromError(err)
		}
		sd = onlyParts(sec.descriptor(), want)
	}
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

// onlyParts are the parts of a descriptor that are asked for.
func onlyParts(sd *smb2.SecurityDescriptor, want smb2.SecurityInformation) (p smb2.SecurityDescriptor) {
	if want&smb2.OwnerSecurityInformation != 0 {
		p.Owner = sd.Owner
	}
	if want&smb2.GroupSecurityInformation != 0 {
		p.Group = sd.Group
	}
	if want&smb2.DACLSecurityInformation != 0 {
		p.DACL = sd.DACL
		p.Control |= sd.Control&daclControl | smb2.SEDACLPresent
	}
	if want&smb2.SACLSecurityInformation != 0 {
		p.SACL = sd.SACL
		p.Control |= sd.Control&saclControl | smb2.SESACLPresent
	}
	return p
}

// setSecurityInfo is SET_INFO with SMB2_0_INFO_SECURITY, [MS-SMB2] 3.3.5.21.3,
// [MS-FSA] 2.1.5.17.
func (o *open) setSecurityInfo(ctx context.Context, b []byte, what smb2.SecurityInformation) ntstatus.Status {
	const owners = smb2.OwnerSecurityInformation | smb2.GroupSecurityInformation | smb2.LabelSecurityInformation
	if o.isPipe {
		return ntstatus.NotSupported
	}
	sd, err := smb2.ParseSecurityDescriptor(b)
	if err != nil {
		return ntstatus.InvalidSecurityDescr
	}
	// What is not there changes nothing, and needs no right.
	if sd.Owner == nil {
		what &^= smb2.OwnerSecurityInformation
	}
	if sd.Group == nil {
		what &^= smb2.GroupSecurityInformation
	}
	switch {
	case o.tree.readOnly():
		return ntstatus.AccessDenied
	case what&saclSecurity != 0 && o.access&smb2.AccessSystemSecurity == 0:
		return ntstatus.AccessDenied
	case what&(smb2.DACLSecurityInformation|smb2.AttributeSecurityInformation) != 0 && o.access&smb2.WriteDAC == 0:
		return ntstatus.AccessDenied
	case what&owners != 0 && o.access&smb2.WriteOwner == 0:
		return ntstatus.AccessDenied
	case o.isLink:
		return ntstatus.AccessDenied
	}
	return o.setSecurity(ctx, &sd, what)
}

// setSecurity applies the parts of a descriptor that are asked for.
func (o *open) setSecurity(ctx context.Context, set *smb2.SecurityDescriptor, what smb2.SecurityInformation) ntstatus.Status {
	if what&(plainSecurity|smb2.SACLSecurityInformation) == 0 {
		return ntstatus.Success
	}
	if set.DACL != nil && len(set.DACL.ACEs) > maxACEs {
		return ntstatus.InvalidACL
	}
	info, err := o.object().Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if perm, ok := modeEntry(set); ok && what&smb2.DACLSecurityInformation != 0 {
		if mode := chmod(info.Mode, perm); mode != info.Mode {
			if err := o.object().SetAttr(ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: mode, Privileged: true}); err != nil {
				return ntstatus.FromError(err)
			}
			info.Mode = mode
		}
		what &^= smb2.DACLSecurityInformation
		if what&(plainSecurity|smb2.SACLSecurityInformation) == 0 {
			return ntstatus.Success
		}
	}
	sec, err := o.security(ctx, &info)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if st := o.setOwners(ctx, sec.descriptor(), set, &info, what); st != ntstatus.Success {
		return st
	}
	sd := sec.descriptor()
	if what&smb2.DACLSecurityInformation != 0 {
		sd.Control = sd.Control&^daclControl | o.storedControl(set.Control)&daclControl | smb2.SEDACLPresent
		sd.DACL = expandACL(set.DACL)
	}
	if what&smb2.SACLSecurityInformation != 0 {
		sd.Control = sd.Control&^saclControl | set.Control&saclControl&^smb2.SESACLAutoInheritReq
		sd.SACL = expandACL(set.SACL)
	}
	if what&plainSecurity&^(smb2.OwnerSecurityInformation|smb2.GroupSecurityInformation) == 0 && what&smb2.SACLSecurityInformation == 0 && !sec.stored {
		// The owner alone: who the mode bits are about has changed with it, if it is
		// one that they can be about.
		_, owner := o.srv.unixOwner(*sd.Owner)
		_, group := o.srv.unixGroup(*sd.Group)
		if owner && group {
			return ntstatus.Success
		}
	}
	return storeStatus(o.writeSecurity(ctx, sd))
}

// storeStatus is the status of a descriptor that could not be stored.
func storeStatus(err error) ntstatus.Status {
	switch {
	case err == nil:
		return ntstatus.Success
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.E2BIG), errors.Is(err, syscall.ERANGE):
		return ntstatus.DiskFull // more than the storage keeps beside a file
	}
	return ntstatus.FromError(err)
}

// setOwners puts the new owner and group into sd and, if they are users and groups
// of the operating system, changes those of the object. An owner has to be one of
// the SIDs of who sets it, as nobody can give his files away.
func (o *open) setOwners(ctx context.Context, sd, set *smb2.SecurityDescriptor, info *vfs.Info, what smb2.SecurityInformation) ntstatus.Status {
	a := vfs.SetAttr{UID: info.UID, GID: info.GID, Privileged: true}
	t := o.tree.token()
	if what&smb2.OwnerSecurityInformation != 0 && set.Owner != nil && *set.Owner != *sd.Owner {
		if !t.Admin && !t.has(o.srv.canonicalOwner(*set.Owner)) {
			return ntstatus.InvalidOwner
		}
		if uid, ok := o.srv.unixOwner(*set.Owner); ok {
			a.UID = uid
		}
		owner := *set.Owner
		sd.Owner = &owner
	}
	if what&smb2.GroupSecurityInformation != 0 && set.Group != nil && *set.Group != *sd.Group {
		// Any will do, as it grants nothing by itself; the object's group becomes one
		// that the user is in.
		if gid, ok := o.srv.unixGroup(*set.Group); ok && (t.Admin || t.has(smb2.SIDUnixGroup(gid))) {
			a.GID = gid
		}
		group := *set.Group
		sd.Group = &group
	}
	if a.UID == info.UID && a.GID == info.GID {
		return ntstatus.Success
	}
	a.Set = vfs.SetOwner
	switch err := o.object().SetAttr(ctx, a); {
	case errors.Is(err, syscall.EPERM):
		return ntstatus.InvalidOwner // the server is not one who may
	case err != nil:
		return ntstatus.FromError(err)
	}
	return ntstatus.Success
}

// canonicalOwner is S-1-22-1-uid for every SID that stands for a UNIX user.
func (s *Server) canonicalOwner(sid smb2.SID) smb2.SID {
	if uid, ok := s.unixOwner(sid); ok {
		return smb2.SIDUnixUser(uid)
	}
	return sid
}

// storedControl are the control bits as they are kept: who sets AUTO_INHERITED has
// to ask for it with AUTO_INHERIT_REQ, or it is not kept; see Share.KeepAutoInherited.
func (o *open) storedControl(c smb2.SecurityControl) smb2.SecurityControl {
	if c&smb2.SEDACLAutoInheritReq == 0 && !o.tree.share.KeepAutoInherited {
		c &^= smb2.SEDACLAutoInherited
	}
	return c &^ smb2.SEDACLAutoInheritReq
}

// expandACL is a copy of l with generic rights turned into those of files.
func expandACL(l *smb2.ACL) *smb2.ACL {
	if l == nil {
		return nil
	}
	e := &smb2.ACL{Revision: l.Revision, ACEs: make([]smb2.ACE, len(l.ACEs))}
	for i, a := range l.ACEs {
		a.Mask = a.Mask.Expand()
		e.ACEs[i] = a
	}
	return e
}

// modeEntry finds the one entry of a DACL by which a client with POSIX extensions
// sets the mode: S-1-5-88-3-mode, with the bits of chmod(2).
func modeEntry(sd *smb2.SecurityDescriptor) (mode uint32, ok bool) {
	if sd.DACL == nil || len(sd.DACL.ACEs) != 1 || sd.DACL.ACEs[0].SID.Parent() != nfsModes {
		return 0, false
	}
	return sd.DACL.ACEs[0].SID.RID() & maxPosixMode, true
}

// chmod is the mode that an object of the mode old gets by a client's chmod. No client
// makes a program setuid, or anything setgid that was not; a directory keeps what it
// has of that, and is sticky, as the client says.
func chmod(old fs.FileMode, mode uint32) fs.FileMode {
	m := old.Type() | fs.FileMode(mode)&fs.ModePerm
	if old.IsDir() {
		if mode&0o2000 != 0 {
			m |= old & fs.ModeSetgid
		}
		if mode&0o1000 != 0 {
			m |= fs.ModeSticky
		}
	}
	return m
}

// newSecurity gives a new object the descriptor that its creator asks for, b, and
// what it inherits: [MS-DTYP] 2.5.3.4. Without either it keeps the one that its mode
// bits make.
func (c *creation) newSecurity(ctx context.Context, o *open) ntstatus.Status {
	if c.streamOnly {
		return ntstatus.Success // the file has its descriptor
	}
	var set smb2.SecurityDescriptor
	if c.ctxs.sd != nil {
		var err error
		if set, err = smb2.ParseSecurityDescriptor(c.ctxs.sd); err != nil {
			return ntstatus.InvalidSecurityDescr
		}
		if set.SACL != nil && len(set.SACL.ACEs) > 0 && o.access&smb2.AccessSystemSecurity == 0 {
			return ntstatus.PrivilegeNotHeld
		}
		if set.DACL != nil && len(set.DACL.ACEs) > maxACEs {
			return ntstatus.InvalidACL
		}
	}
	asked := set.Control&smb2.SEDACLPresent != 0
	inherits := !o.posix && c.parent != nil && c.parent.stored && hasInheritable(c.parent.descriptor(), o.isDir)
	inheritOwner := c.parent != nil && o.tree.share.InheritOwner
	if !asked && !inherits && !inheritOwner && set.Owner == nil && set.Group == nil {
		return ntstatus.Success
	}
	info, err := o.object().Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	heir := inheritOwner && set.Owner == nil
	if heir {
		known, st := o.inheritOwner(ctx, c.parent, &info)
		if st != ntstatus.Success || known && !asked && !inherits && set.Group == nil {
			return st
		}
	}
	sd := modeDescriptor(&info)
	if heir {
		sd.Owner = c.parent.descriptor().Owner
	}
	const owners = smb2.OwnerSecurityInformation | smb2.GroupSecurityInformation
	if st := o.setOwners(ctx, &sd, &set, &info, owners); st != ntstatus.Success {
		return st
	}
	if inherits {
		l, control := inheritedDACL(c.parent.descriptor(), *sd.Owner, *sd.Group, o.isDir)
		sd.DACL, sd.Control = l, control
	}
	if asked {
		sd.Control = sd.Control&^daclControl | o.storedControl(set.Control)&daclControl
		sd.DACL = expandACL(set.DACL)
	}
	if set.SACL != nil && o.access&smb2.AccessSystemSecurity != 0 {
		sd.SACL = expandACL(set.SACL)
	}
	return storeStatus(o.writeSecurity(ctx, &sd))
}

// inheritOwner gives a new object the UNIX owner of its directory; info follows. It
// reports whether the directory's owner is one.
func (o *open) inheritOwner(ctx context.Context, parent *security, info *vfs.Info) (bool, ntstatus.Status) {
	uid, ok := o.srv.unixOwner(*parent.descriptor().Owner)
	if !ok || uid == info.UID {
		return ok, ntstatus.Success
	}
	err := o.object().SetAttr(ctx, vfs.SetAttr{Set: vfs.SetOwner, UID: uid, GID: info.GID, Privileged: true})
	switch {
	case errors.Is(err, syscall.EPERM):
		return false, ntstatus.Success // the server may not: the record alone says so
	case err != nil:
		return false, ntstatus.FromError(err)
	}
	info.UID = uid
	return true, ntstatus.Success
}
