package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// POSIXMode says whether the SMB 3.1.1 POSIX extensions are used, which Linux, Samba,
// ksmbd and the server of this module have, and no specification. With them, on shares of
// files,
//
//   - case matters in names, and all characters but the slash, the backslash and NUL may
//     be in them (servers may list those that Windows forbids as U+F001 to U+F029, which
//     Linux turns back),
//   - files and directories are created with permission bits (CreateOptions.Perm, the perm
//     of OpenFile), and FileInfo tells them, with the owner and the group,
//   - what is removed loses its name at once, although it is open, and Rename replaces what
//     is open, and empty directories,
//   - the server stops on every symbolic link at the end of a name, and this package
//     follows it.
type POSIXMode uint8

const (
	// POSIXOff does not ask for them. The default.
	POSIXOff POSIXMode = iota
	// POSIXIfOffered uses them with servers that have them; Info says whether.
	POSIXIfOffered
	// POSIXRequired refuses a server that has not.
	POSIXRequired
)

// noPosixMode is what Linux sends as the mode where nothing is to be created.
const noPosixMode = 0xFFFF

// posix reports whether opens on this share have the extensions.
func (sh *Share) posix() bool {
	return sh.kind == smb2.ShareTypeDisk && !sh.noPosix && sh.s.main().neg.posix
}

// POSIX reports whether the share has the POSIX extensions, and they are used.
func (sh *Share) POSIX() bool { return sh.posix() }

// probePosix finds out whether a share that was just connected has the extensions, which
// servers may leave to the share: an open of its root says so.
func (sh *Share) probePosix(ctx context.Context) error {
	if !sh.posix() {
		return nil
	}
	k, err := sh.createCall("", CreateOptions{Access: AccessReadAttributes | AccessSynchronize})
	if err != nil {
		return err
	}
	defer k.free()
	err = sh.s.do(ctx, k)
	if k.msg == nil || k.resp.Status != ntstatus.Success {
		if k.msg != nil {
			return nil // the user may not open the root: nothing is known
		}
		return err
	}
	m, err := smb2.ParseCreateResponse(k.msg)
	if err != nil {
		return k.badBody(err)
	}
	_, has, err := smb2.FindCreateContext(m.Contexts, smb2.CreateContextPosix)
	if err != nil {
		return k.badBody(err)
	}
	if sh.noPosix = !has; sh.noPosix && sh.s.cfg.POSIX == POSIXRequired {
		err = fmt.Errorf("the share has no POSIX extensions: %w", errors.ErrUnsupported)
	}
	return errors.Join(err, sh.closeAfter(ctx, k))
}

// posixContext appends the create context to those of a CREATE.
func (sh *Share) posixContext(contexts []byte, o *CreateOptions) ([]byte, error) {
	if !sh.posix() {
		return contexts, nil
	}
	m := smb2.PosixCreateRequest{Mode: noPosixMode}
	if o.HasPerm && o.Disposition != OpenExisting && o.Disposition != Overwrite {
		m.Mode = unixMode(o.Perm)
	}
	data, err := m.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return smb2.AppendCreateContext(contexts, smb2.CreateContextPosix, data)
}

// takePosix is the server's part of the negotiation.
func (n *negotiated) takePosix(c *conn, cfg *Config, cs []smb2.NegotiateContext) error {
	data, count := smb2.FindNegotiateContext(cs, smb2.ContextPosixExtensions)
	if count > 0 && (cfg.POSIX == POSIXOff || string(data) != smb2.PosixExtensionsTag) {
		return c.protocolError("3.2.5.2", "POSIX extensions of %d octets, which were not offered", len(data))
	}
	n.posix = count > 0
	return nil
}

// unixMode is a mode as POSIX has it: permission bits, set-user-ID, set-group-ID, sticky.
func unixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	for _, s := range specialBits {
		if m&s.mode != 0 {
			u |= s.unix
		}
	}
	return u
}

// goMode is the inverse.
func goMode(u uint32) fs.FileMode {
	m := fs.FileMode(u & 0o777)
	for _, s := range specialBits {
		if u&s.unix != 0 {
			m |= s.mode
		}
	}
	return m
}

var specialBits = [...]struct {
	mode fs.FileMode
	unix uint32
}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}}

// posixTypes are the file types in FilePosixInformation.Mode, above the twelve lower
// bits. Older servers have those of st_mode there, some numbers of which are others here,
// but the server does not say which it is: links and directories are known otherwise.
var posixTypes = map[uint32]fs.FileMode{
	3: fs.ModeDevice | fs.ModeCharDevice, 4: fs.ModeDevice, 5: fs.ModeNamedPipe, 6: fs.ModeSocket,
}

// infoOfPosix is infoOfAll for FilePosixInformation.
func infoOfPosix(fi *FileInfo, name string, m *smb2.FilePosixInformation) {
	*fi = FileInfo{
		name: name, size: size64(m.EndOfFile), alloc: size64(m.AllocationSize), attr: Attributes(m.DosAttributes),
		access: m.LastAccessTime, write: m.LastWriteTime, change: m.ChangeTime, born: m.CreationTime,
		id: m.Inode, links: m.HardLinks, posix: posixInfo{is: true, mode: m.Mode, device: m.DeviceID},
	}
	uid, ok1 := unixID(&m.Owner, &unixUsers)
	gid, ok2 := unixID(&m.Group, &unixGroups)
	fi.posix.uid, fi.posix.gid, fi.posix.owned = uid, gid, ok1 && ok2
	if fi.attr&AttrReparsePoint != 0 {
		fi.setTag(m.ReparseTag)
	} else if fi.attr&AttrDirectory == 0 {
		fi.kind = posixTypes[m.Mode>>12&0o17]
	}
}

// posixInfo is what FileInfo has with the POSIX extensions.
type posixInfo struct {
	is, owned    bool // owned: the server has said who the owner and the group are
	mode, device uint32
	uid, gid     uint32
}

// Owner are the numbers of the owner and the group on the server, which only the POSIX
// extensions tell, and only of files that belong to users of the server's operating
// system; else ok is false.
func (fi *FileInfo) Owner() (uid, gid uint32, ok bool) {
	return fi.posix.uid, fi.posix.gid, fi.posix.owned
}

// The SIDs that have the number of a user or group as their last one: those of Samba and of
// Services for NFS.
var (
	unixUsers  = [...]smb2.SID{smb2.SIDUnixUser(0).Parent(), smb2.SIDNFSUser(0).Parent()}
	unixGroups = [...]smb2.SID{smb2.SIDUnixGroup(0).Parent(), smb2.SIDNFSGroup(0).Parent()}
)

// unixID is the last number of a SID that is one of others but for that.
func unixID(sid *smb2.SID, others *[2]smb2.SID) (uint32, bool) {
	parent := sid.Parent()
	for i := range others {
		if parent == others[i] {
			return sid.RID(), true
		}
	}
	return 0, false
}

// Device is the number of the file system on the server, which only the POSIX extensions
// tell; 0 without.
func (fi *FileInfo) Device() uint32 {
	return fi.posix.device
}

// MkdirPerm is Mkdir with permission bits, which only the POSIX extensions carry.
func (sh *Share) MkdirPerm(ctx context.Context, name string, perm fs.FileMode) error {
	return wrap("mkdir", name, sh.on(ctx, name, CreateOptions{
		Access: AccessReadAttributes | AccessSynchronize, Disposition: CreateNew, Options: OptDirectory,
		Perm: perm, HasPerm: true}, nil))
}

// Chmod sets the permission bits, with set-user-ID, set-group-ID and sticky bit, of a file
// or directory, of a link itself. It takes the POSIX extensions; without them there is
// only the read-only attribute of files, which is set if nobody may write (0222).
func (sh *Share) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	var err error
	if sh.posix() {
		err = sh.setSecurityOn(ctx, name, smb2.DACLSecurityInformation, modeDescriptor(mode), OptOpenReparsePoint)
	} else {
		err = chmodAttributes(mode,
			func() (*FileInfo, error) { return sh.stat(ctx, name, OptOpenReparsePoint) },
			func(a Attributes) error {
				return sh.setOn(ctx, name, CreateOptions{Access: AccessWriteAttributes | AccessSynchronize, Options: OptOpenReparsePoint},
					smb2.ClassFileBasicInformation, attributes(a))
			})
	}
	return wrap("chmod", name, err)
}

// Chmod is Share.Chmod for an open file, which was opened with AccessWriteDAC, or without
// the POSIX extensions with AccessWriteAttributes.
func (f *File) Chmod(ctx context.Context, mode fs.FileMode) error {
	var err error
	if f.sh.posix() {
		err = f.setSecurity(ctx, smb2.DACLSecurityInformation, modeDescriptor(mode))
	} else {
		err = chmodAttributes(mode,
			func() (*FileInfo, error) { return f.stat(ctx) },
			func(a Attributes) error { return f.set(ctx, smb2.ClassFileBasicInformation, attributes(a)) })
	}
	return wrap("chmod", f.name, err)
}

// chmodAttributes is the mode as far as attributes have it.
func chmodAttributes(mode fs.FileMode, stat func() (*FileInfo, error), set func(Attributes) error) error {
	fi, err := stat()
	if err != nil || fi.attr&AttrDirectory != 0 { // on a directory it means something else
		return err
	}
	a := fi.attr &^ (AttrReadOnly | AttrNormal)
	if mode&0o222 == 0 {
		a |= AttrReadOnly
	}
	if a == fi.attr&^AttrNormal {
		return nil
	}
	return set(a)
}

// modeDescriptor says the mode as Linux does: by an entry for the SID S-1-5-88-3-mode.
func modeDescriptor(mode fs.FileMode) *smb2.SecurityDescriptor {
	return &smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{
		Type: smb2.ACEAccessAllowed, SID: smb2.SIDNFSMode(unixMode(mode)),
	}}}}
}

// Chown sets the numbers of the owner and the group of a file or directory, of a link
// itself; -1 leaves one as it is. Servers allow it as their operating system does. It
// takes the POSIX extensions: else errors.ErrUnsupported.
func (sh *Share) Chown(ctx context.Context, name string, uid, gid int) error {
	parts, sd, err := ownerDescriptor(sh, uid, gid)
	if err == nil && parts != 0 {
		err = sh.setSecurityOn(ctx, name, parts, sd, OptOpenReparsePoint)
	}
	return wrap("chown", name, err)
}

// Chown is Share.Chown for an open file, which was opened with AccessWriteOwner.
func (f *File) Chown(ctx context.Context, uid, gid int) error {
	parts, sd, err := ownerDescriptor(f.sh, uid, gid)
	if err == nil && parts != 0 {
		err = f.setSecurity(ctx, parts, sd)
	}
	return wrap("chown", f.name, err)
}

func ownerDescriptor(sh *Share, uid, gid int) (parts smb2.SecurityInformation, sd *smb2.SecurityDescriptor, err error) {
	if !sh.posix() {
		return 0, nil, fmt.Errorf("without POSIX extensions owners have no numbers: %w", errors.ErrUnsupported)
	}
	if uid < -1 || gid < -1 || int64(uid) >= math.MaxUint32 || int64(gid) >= math.MaxUint32 {
		return 0, nil, fmt.Errorf("owner %d, group %d: %w", uid, gid, fs.ErrInvalid)
	}
	sd = new(smb2.SecurityDescriptor)
	if uid >= 0 {
		sid := smb2.SIDUnixUser(uint32(uid))
		sd.Owner, parts = &sid, smb2.OwnerSecurityInformation
	}
	if gid >= 0 {
		sid := smb2.SIDUnixGroup(uint32(gid))
		sd.Group, parts = &sid, parts|smb2.GroupSecurityInformation
	}
	return parts, sd, nil
}

// accessToSet are the rights that setting parts of a descriptor takes, [MS-SMB2]
// 3.3.5.21.3.
func accessToSet(parts smb2.SecurityInformation) Access {
	a := AccessReadControl | AccessSynchronize
	if parts&(smb2.OwnerSecurityInformation|smb2.GroupSecurityInformation) != 0 {
		a |= AccessWriteOwner
	}
	if parts&smb2.DACLSecurityInformation != 0 {
		a |= AccessWriteDAC
	}
	if parts&smb2.SACLSecurityInformation != 0 {
		a |= AccessSystemSecurity
	}
	return a
}

// securityCall makes a SET_INFO request for parts of a descriptor.
func (sh *Share) securityCall(id smb2.FileID, parts smb2.SecurityInformation, sd *smb2.SecurityDescriptor) (*call, error) {
	buf, err := sd.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if len(buf) > maxDescriptor {
		return nil, fmt.Errorf("a security descriptor of %d octets: %w", len(buf), ntstatus.InvalidParameter)
	}
	k := sh.call(smb2.CommandSetInfo)
	if err := k.encode(&smb2.SetInfoRequest{InfoType: smb2.InfoSecurity, AdditionalInformation: uint32(parts), FileID: id, Buffer: buf}); err != nil {
		k.free()
		return nil, err
	}
	return k, nil
}

// maxDescriptor bounds a security descriptor in octets, so that it is one credit's worth.
const maxDescriptor = 65536

func (sh *Share) setSecurityOn(ctx context.Context, name string, parts smb2.SecurityInformation, sd *smb2.SecurityDescriptor, opt Option) error {
	k, err := sh.securityCall(smb2.AnyFileID, parts, sd)
	if err != nil {
		return err
	}
	defer k.free()
	return sh.on(ctx, name, CreateOptions{Access: accessToSet(parts), Options: opt}, k)
}

func (f *File) setSecurity(ctx context.Context, parts smb2.SecurityInformation, sd *smb2.SecurityDescriptor) error {
	id, err := f.handle()
	if err != nil {
		return err
	}
	k, err := f.sh.securityCall(id, parts, sd)
	if err != nil {
		return err
	}
	defer k.free()
	k.file = f
	return f.sh.s.do(ctx, k)
}
