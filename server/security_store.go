package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/ntacl"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Where descriptors are kept
//
// A descriptor that was set or inherited is stored with the object, in the record
// that Samba's vfs_acl_xattr uses (package ntacl). The record says for which owner,
// mode and POSIX ACL it was made: when these have been changed by other means, chmod
// for one, the record is out of date and what the mode says holds again, as on
// Samba with "acl_xattr:ignore system acls = no".

// security is the descriptor of an object.
type security struct {
	stored bool                     // it was set or inherited; otherwise it is made of the mode
	sd     *smb2.SecurityDescriptor // nil until somebody wants to see one that is made
	info   vfs.Info                 // the object, which it may be made of
	vetoed bool                     // of a directory: nothing is put there
}

// descriptor is the descriptor itself.
func (s *security) descriptor() *smb2.SecurityDescriptor {
	if s.sd == nil {
		sd := modeDescriptor(&s.info)
		s.sd = &sd
	}
	return s.sd
}

// granted are the rights that it gives.
func (s *security) granted(t *accessToken) smb2.AccessMask {
	if s.stored {
		return t.granted(s.sd)
	}
	return t.grantedByMode(&s.info)
}

// security reads the open's descriptor; info describes the open's file as it is now.
// A stream has the descriptor of the file that it belongs to.
func (o *open) security(ctx context.Context, info *vfs.Info) (security, error) {
	if o.isStream() {
		base, err := o.object().Stat(ctx)
		if err != nil {
			return security{}, err
		}
		info = &base
	}
	return o.readSecurity(ctx, o.object(), info)
}

func (o *open) readSecurity(ctx context.Context, f vfs.File, info *vfs.Info) (security, error) {
	made := func() security { return security{info: *info} }
	h, ok := f.(vfs.SecurityHolder)
	if !ok || o.tree.share.NoACL {
		return made(), nil
	}
	raw, err := h.SecurityRecord(ctx)
	switch {
	case err == nil:
	case errors.Is(err, syscall.ENODATA), errors.Is(err, errors.ErrUnsupported):
		return made(), nil
	default:
		return security{}, err
	}
	rec, err := ntacl.Parse(raw)
	if err != nil {
		o.srv.log.Warn("security record", "share", o.tree.share.Name, "name", o.path(), "err", err)
		return made(), nil
	}
	if rec.Version >= 3 {
		sys, err := systemACL(ctx, f, info)
		if err != nil {
			return security{}, err
		}
		if !rec.Valid(&sys) {
			return made(), nil
		}
	}
	sd, err := smb2.ParseSecurityDescriptor(rec.Descriptor)
	if err != nil {
		o.srv.log.Warn("security descriptor", "share", o.tree.share.Name, "name", o.path(), "err", err)
		return made(), nil
	}
	if sd.Owner == nil || sd.Group == nil {
		owner, group := smb2.SIDUnixUser(info.UID), smb2.SIDUnixGroup(info.GID)
		if sd.Owner == nil {
			sd.Owner = &owner
		}
		if sd.Group == nil {
			sd.Group = &group
		}
	}
	if rec.Version >= 3 {
		o.srv.adopt(&sd, info)
	}
	return security{sd: &sd, stored: true, info: *info}, nil
}

// adopt turns owner and group of a record that another server has made, with SIDs of
// its own users, into those of the operating system, which the record is tied to. Its
// entries for other users of its own are nobody's here.
func (s *Server) adopt(sd *smb2.SecurityDescriptor, info *vfs.Info) {
	replace := func(p **smb2.SID, by smb2.SID) {
		old := **p
		if !s.foreign(old) {
			return
		}
		*p = &by
		if sd.DACL == nil {
			return
		}
		for i := range sd.DACL.ACEs {
			if a := &sd.DACL.ACEs[i]; a.SID == old {
				a.SID = by
			}
		}
	}
	replace(&sd.Owner, smb2.SIDUnixUser(info.UID))
	replace(&sd.Group, smb2.SIDUnixGroup(info.GID))
}

// foreign reports whether a SID is of a domain or of another machine: S-1-5-21, 96
// bits and a relative id.
func (s *Server) foreign(sid smb2.SID) bool {
	sub := sid.SubAuthorities()
	return sid.Authority == 5 && len(sub) == 5 && sub[0] == 21 && sid.Parent() != s.machine
}

// systemACL is the state of an object in the operating system.
func systemACL(ctx context.Context, f vfs.File, info *vfs.Info) (ntacl.SystemACL, error) {
	sys := ntacl.SystemACL{UID: info.UID, GID: info.GID, Mode: unixMode(info.Mode), IsDir: info.IsDir()}
	h, ok := f.(vfs.ACLHolder)
	if !ok {
		return sys, nil
	}
	access, def, err := h.POSIXACL(ctx)
	if err != nil {
		return sys, err
	}
	if access != nil {
		sys.Access, _ = ntacl.ParsePOSIX(access)
	}
	if def != nil {
		sys.Default, _ = ntacl.ParsePOSIX(def)
	}
	return sys, nil
}

// writeSecurity stores a descriptor: permission bits and POSIX ACL follow it, then the
// record is written for the object as it is then. Where the storage has no place for
// records, that is all that is kept.
func (o *open) writeSecurity(ctx context.Context, sd *smb2.SecurityDescriptor) error {
	f := o.object()
	info, err := f.Stat(ctx)
	if err != nil {
		return err
	}
	if !o.isLink {
		rights := o.srv.rightsOf(sd, &info, uint32(max(os.Geteuid(), 0)))
		// What the system knows is its owner's, or root's, to change. The record alone
		// will do: it is what is checked here.
		if err := rights.apply(ctx, f, &info); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		if info, err = f.Stat(ctx); err != nil {
			return err
		}
	}
	h, ok := f.(vfs.SecurityHolder)
	if !ok || o.tree.share.NoACL {
		return nil
	}
	raw, err := sd.AppendBinary(nil)
	if err != nil {
		return err
	}
	sys, err := systemACL(ctx, f, &info)
	if err != nil {
		return err
	}
	rec := ntacl.Record{
		Descriptor: raw, HashType: ntacl.HashSHA256, Description: ntacl.Description, SystemHash: sys.Hash(),
	}
	if raw, err = rec.AppendBinary(nil); err != nil {
		return err
	}
	err = h.SetSecurityRecord(ctx, raw)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// apply gives a file the permission bits and the POSIX ACL.
func (r *systemRights) apply(ctx context.Context, f vfs.File, info *vfs.Info) error {
	h, ok := f.(vfs.ACLHolder)
	if ok {
		want := r.posixACL()
		access, _, err := h.POSIXACL(ctx)
		if err != nil {
			return err
		}
		switch {
		case want != nil:
			err = h.SetPOSIXACL(ctx, ntacl.AppendPOSIX(nil, want))
			if !errors.Is(err, errors.ErrUnsupported) {
				return err // the bits have followed
			}
		case access != nil:
			if err := h.SetPOSIXACL(ctx, nil); err != nil {
				return err
			}
		}
	}
	if r.mode == info.Mode.Perm() {
		return nil
	}
	const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	return f.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: r.mode | info.Mode&special, Privileged: true})
}

// directorySecurity reads the descriptor of the directory that name is in. It is read
// with the server's own rights: taking the user's costs more than all the rest, and
// who may not reach the directory is told so by the operation that follows.
func (o *open) directorySecurity(ctx context.Context, name string) (security, error) {
	dir, _ := vfs.Split(name)
	_, sec, err := o.securityAt(ctx, vfs.Base(o.fs), dir, vfs.OpenOptions{Kind: vfs.KindDir})
	return sec, err
}

// securityOf describes what has the name, links not followed.
func (o *open) securityOf(ctx context.Context, name string) (vfs.Info, security, error) {
	return o.securityAt(ctx, o.fs, name, vfs.OpenOptions{NoFollow: true})
}

func (o *open) securityAt(ctx context.Context, fsys vfs.FS, name string, opts vfs.OpenOptions) (vfs.Info, security, error) {
	f, _, err := fsys.Open(ctx, name, opts)
	if errors.Is(err, vfs.ErrSpecial) {
		info, err := fsys.Lstat(ctx, name)
		return info, security{info: info}, err
	}
	if err != nil {
		return vfs.Info{}, security{}, err
	}
	defer f.Close()
	info, err := f.Stat(ctx)
	if err != nil {
		return info, security{}, err
	}
	sec, err := o.readSecurity(ctx, f, &info)
	sec.vetoed = o.vetoed(ctx, f)
	return info, sec, err
}
