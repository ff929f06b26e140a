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

// # Access checks
//
// Every right is checked against the object's security descriptor when it is
// opened, [MS-DTYP] 2.5.3.2 and [MS-FSA] 2.1.5.1.2.1; operations then look at what
// the open was granted. That the process may do something, as root can do
// everything, counts for nothing; what it may not do is refused all the same.
//
// Directories on the way are not checked: everybody has the privilege to bypass
// that, as on Windows. A server that acts as the users' UNIX users has the kernel
// check them.

// granted are the rights that a descriptor gives to somebody. Of two entries that
// speak of a right, the first decides; what nobody speaks of is refused.
func (t *accessToken) granted(sd *smb2.SecurityDescriptor) smb2.AccessMask {
	if t.Admin {
		return smb2.FileAllAccess | smb2.AccessSystemSecurity
	}
	if sd.DACL == nil { // no DACL, or a NULL one, protects nothing
		return smb2.FileAllAccess
	}
	var allowed, denied smb2.AccessMask
	owner := sd.Owner != nil && t.has(*sd.Owner)
	if owner && !hasOwnerRights(sd.DACL) {
		allowed = smb2.ReadControl | smb2.WriteDAC
	}
	for i := range sd.DACL.ACEs {
		a := &sd.DACL.ACEs[i]
		if a.Flags&smb2.ACEInheritOnly != 0 {
			continue
		}
		if !t.has(a.SID) && !(owner && a.SID == smb2.SIDOwnerRights) {
			continue
		}
		// Conditions are not evaluated: they refuse when in doubt. Entries that grant
		// rights to a part of an object mean nothing in files, those that deny do.
		switch a.Type {
		case smb2.ACEAccessAllowed:
			allowed |= a.Mask.Expand() &^ denied
		case smb2.ACEAccessDenied, smb2.ACEAccessDeniedObject,
			smb2.ACEAccessDeniedCallback, smb2.ACEAccessDeniedCallbackObject:
			denied |= a.Mask.Expand() &^ allowed
		}
	}
	return allowed & smb2.FileAllAccess
}

// hasOwnerRights reports whether an entry says what the owner may: then he has no
// rights just for being the owner.
func hasOwnerRights(l *smb2.ACL) bool {
	for i := range l.ACEs {
		if a := &l.ACEs[i]; a.SID == smb2.SIDOwnerRights && a.Flags&smb2.ACEInheritOnly == 0 {
			return true
		}
	}
	return false
}

// token says who the tree's user is.
func (t *tree) token() *accessToken {
	who := t.sess.who()
	if t.user != nil && (t.as == nil || t.as.same(who)) {
		return t.user
	}
	return who.token
}

// grantedOn are the rights that a user has on an object, those that its directory
// gives included: to read the attributes of what one can find, and to delete what
// is in a directory with FILE_DELETE_CHILD (in a sticky one, only what one owns).
// want bounds the search: the directory is asked only if it matters.
//
// What was stored is what decides: byDescriptor says that a stored descriptor gives
// the right to delete, of which the operating system may know nothing.
func (o *open) grantedOn(ctx context.Context, sec *security, name string, want smb2.AccessMask) (g smb2.AccessMask, byDescriptor bool, err error) {
	t := o.tree.token()
	g = sec.granted(t) | smb2.FileReadAttributes
	if o.posix && !sec.stored && (t.Admin || t.UID == sec.info.UID) {
		g |= smb2.FileWriteAttributes // POSIX has the owner set times and link, whatever the mode
	}
	if g&smb2.Delete != 0 {
		return g, sec.stored, nil
	}
	if want&smb2.Delete == 0 {
		return g, false, nil
	}
	if name == vfs.Root { // it has no directory, and is not deleted
		if g&smb2.FileDeleteChild != 0 {
			g |= smb2.Delete
		}
		return g, false, nil
	}
	parent, err := o.directorySecurity(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return g, false, nil
	case err != nil:
		return 0, false, err
	case parent.granted(t)&smb2.FileDeleteChild == 0,
		parent.info.Mode&fs.ModeSticky != 0 && !t.Admin && t.UID != sec.info.UID && t.UID != parent.info.UID:
		return g, false, nil
	}
	return g | smb2.Delete, parent.stored, nil
}

// authorize checks what a CREATE asks of an object that exists, and finds out what
// MAXIMUM_ALLOWED means for it: o.access is what will be granted. Who creates an
// object gets what he asks for.
func (c *creation) authorize(ctx context.Context, o *open, name string, info *vfs.Info, action vfs.Action) ntstatus.Status {
	if action == vfs.Created {
		return ntstatus.Success
	}
	need := c.access
	if c.overwrites() {
		need |= c.need | smb2.FileWriteData
	}
	if c.req.CreateOptions&smb2.FileDeleteOnClose != 0 {
		need |= smb2.Delete // which MAXIMUM_ALLOWED may leave to be found out
	}
	if o.tree.share.ExecuteAlways {
		need &^= smb2.FileExecute
	}
	if need&^smb2.FileReadAttributes == 0 && !c.maximum {
		return ntstatus.Success
	}
	sec, err := o.security(ctx, info)
	if err != nil {
		return ntstatus.FromError(err)
	}
	want := need
	if c.maximum {
		want |= smb2.Delete
	}
	g, byDescriptor, err := o.grantedOn(ctx, &sec, name, want)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if need&^g != 0 {
		o.srv.denied(o, name, need&^g)
		return ntstatus.AccessDenied
	}
	o.mayDelete = byDescriptor
	if c.maximum {
		o.access &= g | c.access
	}
	return ntstatus.Success
}

// authorizeStream checks that a stream may be made of a file that exists: it is a
// change of that, [MS-FSA] 2.1.5.1.1.
func (c *creation) authorizeStream(ctx context.Context, o *open, base vfs.File, name string) ntstatus.Status {
	if !c.creates() {
		return ntstatus.Success
	}
	info, err := base.Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	sec, err := o.readSecurity(ctx, base, &info)
	if err != nil {
		return ntstatus.FromError(err)
	}
	need := c.access | smb2.FileWriteData
	g, _, err := o.grantedOn(ctx, &sec, name, need)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if c.req.CreateDisposition != smb2.FileCreate {
		// It may be there; authorize looks again then.
		need, c.mayNotCreate = c.access, g&smb2.FileWriteData == 0
	}
	if need&^g != 0 {
		o.srv.denied(o, name, need&^g)
		return ntstatus.AccessDenied
	}
	return ntstatus.Success
}

// denied leaves a trace of an access that was refused.
func (s *Server) denied(o *open, name string, missing smb2.AccessMask) {
	o.tree.refused(name, missing, ntstatus.AccessDenied)
}

// refuseChange is the status st of a change that a share refuses that is read-only for the
// tree's user, and leaves a trace of it. missing are the rights it would have taken, 0
// where it is not a question of rights alone.
func (t *tree) refuseChange(name string, missing smb2.AccessMask, st ntstatus.Status) ntstatus.Status {
	if !t.ipc {
		t.refused(name, missing, st)
	}
	return st
}

func (t *tree) refused(name string, missing smb2.AccessMask, st ntstatus.Status) {
	s := t.sess.srv
	s.log.Debug("access denied", "user", t.sess.who().user, "share", t.share.Name, "name", name, "missing", missing, "read only", t.readOnly())
	s.audit(nil, AuditEvent{
		Kind: AuditAccess, Peer: addrString(t.peer), User: t.sess.userName(), Account: t.token().Name, Share: t.share.Name,
		Name: name, Missing: uint32(missing), Status: st, ReadOnly: t.readOnly(),
	})
}

// queryMaximal finds what QUERY_MAXIMAL_ACCESS answers, [MS-SMB2] 3.3.5.9.5: what
// MAXIMUM_ALLOWED would be granted, but for the attribute read-only.
func (c *creation) queryMaximal(ctx context.Context, o *open, info *vfs.Info) {
	if !c.ctxs.maxAccess {
		return
	}
	sec, err := o.security(ctx, info)
	var g smb2.AccessMask
	if err == nil {
		g, _, err = o.grantedOn(ctx, &sec, o.path(), smb2.Delete)
	}
	if err != nil {
		c.maximal.QueryStatus = ntstatus.FromError(err)
		return
	}
	c.maximal.MaximalAccess = g & o.tree.rights()
}

// prepareParent looks at the directory in which something may be created, for the
// right to do so and for what is inherited from it. Without the right, what is
// there already may still be opened.
func (c *creation) prepareParent(ctx context.Context, o *open, opts *vfs.OpenOptions) ntstatus.Status {
	c.parent, c.mayNotCreate = nil, false
	if opts.Disposition == vfs.OpenExisting || c.name.path == vfs.Root {
		return ntstatus.Success
	}
	parent, err := o.directorySecurity(ctx, c.name.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, vfs.ErrOutside) {
		return ntstatus.Success // opening says what is wrong with the path
	}
	if err != nil {
		return ntstatus.FromError(err)
	}
	if parent.vetoed {
		return ntstatus.ObjectPathNotFound
	}
	c.parent, c.compress = &parent, parent.info.Attributes&vfs.AttrCompressed != 0
	if parent.granted(o.tree.token())&addRight(c.kind == vfs.KindDir) == 0 {
		c.mayNotCreate = true
		opts.Disposition = vfs.OpenExisting
	}
	return ntstatus.Success
}

// addRight is the right in a directory that is needed to put something there.
func addRight(isDir bool) smb2.AccessMask {
	if isDir {
		return smb2.FileAppendData // FILE_ADD_SUBDIRECTORY
	}
	return smb2.FileWriteData // FILE_ADD_FILE
}

// mayAdd checks that the directory of name may get one more entry: for a rename or
// a link, [MS-FSA] 2.1.5.15.11.
func (o *open) mayAdd(ctx context.Context, name string, isDir bool) ntstatus.Status {
	parent, err := o.directorySecurity(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return ntstatus.Success // the operation says what is missing
	}
	if err != nil {
		return ntstatus.FromError(err)
	}
	if parent.vetoed {
		return ntstatus.ObjectPathNotFound
	}
	if need := addRight(isDir); parent.granted(o.tree.token())&need == 0 {
		o.srv.denied(o, name, need)
		return ntstatus.AccessDenied
	}
	return ntstatus.Success
}

// mayRemove checks that what has the name may be deleted, as it is when something
// else takes its place.
func (o *open) mayRemove(ctx context.Context, name string) ntstatus.Status {
	_, sec, err := o.securityOf(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return ntstatus.Success
	}
	if err != nil {
		return ntstatus.FromError(err)
	}
	g, _, err := o.grantedOn(ctx, &sec, name, smb2.Delete)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if g&smb2.Delete == 0 {
		o.srv.denied(o, name, smb2.Delete)
		return ntstatus.AccessDenied
	}
	return ntstatus.Success
}

// readable are the rights without which something is hidden where
// Share.HideUnreadable is set.
const readable = smb2.FileReadData | smb2.FileReadEA | smb2.FileReadAttributes | smb2.ReadControl

// mayRead reports whether the entry may be seen in a listing that hides what
// cannot be read. Of a symbolic link that is what it leads to, for who does not see the
// link; one that leads nowhere hides nothing.
func (o *open) mayRead(ctx context.Context, name string) (bool, error) {
	info, sec, err := o.securityOf(ctx, name)
	if err == nil && !o.posix && info.Mode&fs.ModeSymlink != 0 {
		switch _, target, e := o.securityAt(ctx, o.fs, name, vfs.OpenOptions{}); {
		case e == nil:
			sec = target
		case errors.Is(e, vfs.ErrOutside), errors.Is(e, fs.ErrNotExist), errors.Is(e, syscall.ELOOP), errors.Is(e, syscall.ENOTDIR):
		default:
			err = e
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return false, nil
	case err != nil:
		return false, err
	}
	return sec.granted(o.tree.token())&readable == readable, nil
}
