package client

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// SID is a security identifier, [MS-DTYP] 2.4.2: a user or a group. It is comparable; the
// zero value stands for none.
type SID struct{ sid smb2.SID }

// ParseSID reads the form S-1-5-32-544.
func ParseSID(s string) (SID, error) {
	sid, err := smb2.ParseSIDString(s)
	if err != nil {
		return SID{}, fmt.Errorf("client: not a SID: %w: %w", fs.ErrInvalid, err)
	}
	return SID{sid}, nil
}

// UnixUser is the SID by which Samba and the server of this module name a user of their
// operating system, S-1-22-1-uid.
func UnixUser(uid uint32) SID { return SID{smb2.SIDUnixUser(uid)} }

// UnixGroup is that of a group, S-1-22-2-gid.
func UnixGroup(gid uint32) SID { return SID{smb2.SIDUnixGroup(gid)} }

// IsZero reports whether it is none.
func (s SID) IsZero() bool { return s == SID{} }

// String gives the form S-1-5-32-544, "" for none.
func (s SID) String() string {
	if s.IsZero() {
		return ""
	}
	return s.sid.String()
}

// ACEType is the type of an access control entry, [MS-DTYP] 2.4.4.1.
type ACEType uint8

// The most common types.
const (
	ACEAllow ACEType = 0
	ACEDeny  ACEType = 1
	ACEAudit ACEType = 2
)

// ACEFlags say what inherits an access control entry and, of ACEAudit, what is audited,
// [MS-DTYP] 2.4.4.1.
type ACEFlags uint8

// The flags.
const (
	ACEObjectInherit    ACEFlags = 0x01 // files in the directory get it
	ACEContainerInherit ACEFlags = 0x02 // directories in it do
	ACENoPropagate      ACEFlags = 0x04 // but not what is below these
	ACEInheritOnly      ACEFlags = 0x08 // it is not for the directory itself
	ACEInherited        ACEFlags = 0x10
	ACESuccessfulAccess ACEFlags = 0x40
	ACEFailedAccess     ACEFlags = 0x80
)

// ACE is an access control entry, [MS-DTYP] 2.4.4.
type ACE struct {
	Type    ACEType
	Flags   ACEFlags
	Access  Access
	Trustee SID
	// Object has what only entries for objects of directories of users have, and Data
	// what others have behind the SID: conditions, attributes. Both are kept as they are.
	Object *ACEObject
	Data   []byte
}

// ACEObject are the fields of [MS-DTYP] 2.4.4.3: GUIDs as on the wire, zero for none.
type ACEObject struct{ Type, InheritedType [16]byte }

// SecurityControl are the control bits of a descriptor, [MS-DTYP] 2.4.6.
type SecurityControl uint16

// Those that SDDL knows.
const (
	DACLAutoInheritReq SecurityControl = 0x0100 // in SDDL AR
	SACLAutoInheritReq SecurityControl = 0x0200
	DACLAutoInherited  SecurityControl = 0x0400 // AI
	SACLAutoInherited  SecurityControl = 0x0800
	DACLProtected      SecurityControl = 0x1000 // P: nothing is inherited from above
	SACLProtected      SecurityControl = 0x2000
)

// SecurityDescriptor says who may do what with a file, [MS-DTYP] 2.4.6. String gives it
// in SDDL, and ParseSDDL reads that.
type SecurityDescriptor struct {
	Control SecurityControl
	// Owner and Group are zero where the descriptor has none.
	Owner, Group SID
	// DACL grants and denies access: in the order in which it stands, the first entries
	// that name a right decide. HasDACL without DACL grants nobody anything, NullDACL
	// (then DACL is empty) everybody everything.
	DACL              []ACE
	HasDACL, NullDACL bool
	// SACL says what is audited.
	SACL    []ACE
	HasSACL bool
}

// SecurityParts are those parts of a descriptor that a call is about, [MS-SMB2] 2.2.37.
type SecurityParts uint32

// The parts. Reading or setting the SACL takes a privilege on the server.
const (
	SecurityOwner SecurityParts = 0x00000001
	SecurityGroup SecurityParts = 0x00000002
	SecurityDACL  SecurityParts = 0x00000004
	SecuritySACL  SecurityParts = 0x00000008

	// SecurityPlain is all that takes no privilege to read.
	SecurityPlain = SecurityOwner | SecurityGroup | SecurityDACL
	securityAll   = SecurityPlain | SecuritySACL
)

// SecurityDescriptor returns parts of the descriptor of a file or directory, of a link
// itself.
func (sh *Share) SecurityDescriptor(ctx context.Context, name string, parts SecurityParts) (*SecurityDescriptor, error) {
	sd, err := sh.securityDescriptor(ctx, name, parts)
	return sd, wrap("get descriptor of", name, err)
}

func (sh *Share) securityDescriptor(ctx context.Context, name string, parts SecurityParts) (*SecurityDescriptor, error) {
	k, err := sh.securityQuery(smb2.AnyFileID, parts)
	if err != nil {
		return nil, err
	}
	defer k.free()
	o := CreateOptions{Access: AccessReadControl | AccessSynchronize, Options: OptOpenReparsePoint}
	if parts&SecuritySACL != 0 {
		o.Access |= AccessSystemSecurity
	}
	if err := sh.on(ctx, name, o, k); err != nil {
		return nil, err
	}
	return k.descriptor()
}

// SecurityDescriptor returns parts of the descriptor of the file, which was opened with
// AccessReadControl.
func (f *File) SecurityDescriptor(ctx context.Context, parts SecurityParts) (*SecurityDescriptor, error) {
	sd, err := f.securityDescriptor(ctx, parts)
	return sd, wrap("get descriptor of", f.name, err)
}

func (f *File) securityDescriptor(ctx context.Context, parts SecurityParts) (*SecurityDescriptor, error) {
	id, err := f.handle()
	if err != nil {
		return nil, err
	}
	k, err := f.sh.securityQuery(id, parts)
	if err != nil {
		return nil, err
	}
	defer k.free()
	k.file = f
	if err := f.sh.s.do(ctx, k); err != nil {
		return nil, err
	}
	return k.descriptor()
}

// SetSecurityDescriptor sets parts of the descriptor of a file or directory, of a link
// itself; what sd has of other parts does not count.
func (sh *Share) SetSecurityDescriptor(ctx context.Context, name string, parts SecurityParts, sd *SecurityDescriptor) error {
	w, err := sd.wire(parts)
	if err == nil {
		err = sh.setSecurityOn(ctx, name, smb2.SecurityInformation(parts), w, OptOpenReparsePoint)
	}
	return wrap("set descriptor of", name, err)
}

// SetSecurityDescriptor sets parts of the descriptor of the file, which was opened with
// AccessWriteDAC for the DACL and AccessWriteOwner for owner and group.
func (f *File) SetSecurityDescriptor(ctx context.Context, parts SecurityParts, sd *SecurityDescriptor) error {
	w, err := sd.wire(parts)
	if err == nil {
		err = f.setSecurity(ctx, smb2.SecurityInformation(parts), w)
	}
	return wrap("set descriptor of", f.name, err)
}

// securityQuery makes a QUERY_INFO request for parts of a descriptor.
func (sh *Share) securityQuery(id smb2.FileID, parts SecurityParts) (*call, error) {
	if parts == 0 || parts&^securityAll != 0 {
		return nil, fmt.Errorf("parts 0x%x of a descriptor: %w", uint32(parts), fs.ErrInvalid)
	}
	k := sh.call(smb2.CommandQueryInfo)
	err := k.encode(&smb2.QueryInfoRequest{InfoType: smb2.InfoSecurity, AdditionalInformation: uint32(parts),
		OutputBufferLength: uint32(min(maxDescriptor, sh.s.maxAnswer())), FileID: id})
	if err != nil {
		k.free()
		return nil, err
	}
	return k, nil
}

// descriptor reads the answer.
func (k *call) descriptor() (*SecurityDescriptor, error) {
	out, err := k.queried(maxDescriptor)
	if err != nil {
		return nil, err
	}
	m, err := smb2.ParseSecurityDescriptor(out)
	if err != nil {
		return nil, k.badBody(err)
	}
	sd := &SecurityDescriptor{
		Control: SecurityControl(m.Control),
		HasDACL: m.Control&smb2.SEDACLPresent != 0, NullDACL: m.Control&smb2.SEDACLPresent != 0 && m.DACL == nil,
		HasSACL: m.SACL != nil, DACL: acesOf(m.DACL), SACL: acesOf(m.SACL),
	}
	if m.Owner != nil {
		sd.Owner = SID{*m.Owner}
	}
	if m.Group != nil {
		sd.Group = SID{*m.Group}
	}
	return sd, nil
}

func acesOf(l *smb2.ACL) []ACE {
	if l == nil {
		return nil
	}
	aces := make([]ACE, 0, len(l.ACEs))
	for i := range l.ACEs {
		a := &l.ACEs[i]
		e := ACE{Type: ACEType(a.Type), Flags: ACEFlags(a.Flags), Access: Access(a.Mask), Trustee: SID{a.SID}}
		if a.Data != nil {
			e.Data = append([]byte(nil), a.Data...)
		}
		if isObjectACE(e.Type) {
			e.Object = &ACEObject{Type: a.ObjectType, InheritedType: a.InheritedObjectType}
		}
		aces = append(aces, e)
	}
	return aces
}

// isObjectACE reports whether entries of a type have an ACEObject.
func isObjectACE(t ACEType) bool {
	switch smb2.ACEType(t) {
	case smb2.ACEAccessAllowedObject, smb2.ACEAccessDeniedObject, smb2.ACESystemAuditObject,
		smb2.ACEAccessAllowedCallbackObject, smb2.ACEAccessDeniedCallbackObject, smb2.ACESystemAuditCallbackObject:
		return true
	}
	return false
}

// wire is the descriptor with these parts as it is sent.
func (sd *SecurityDescriptor) wire(parts SecurityParts) (*smb2.SecurityDescriptor, error) {
	if parts == 0 || parts&^securityAll != 0 {
		return nil, fmt.Errorf("parts 0x%x of a descriptor: %w", uint32(parts), fs.ErrInvalid)
	}
	m := &smb2.SecurityDescriptor{}
	for _, s := range []struct {
		part SecurityParts
		sid  SID
		to   **smb2.SID
	}{{SecurityOwner, sd.Owner, &m.Owner}, {SecurityGroup, sd.Group, &m.Group}} {
		switch {
		case parts&s.part == 0:
		case s.sid.IsZero():
			return nil, fmt.Errorf("an owner or group to be set that the descriptor does not have: %w", fs.ErrInvalid)
		default:
			sid := s.sid.sid
			*s.to = &sid
		}
	}
	const dacl, sacl = DACLAutoInheritReq | DACLAutoInherited | DACLProtected, SACLAutoInheritReq | SACLAutoInherited | SACLProtected
	if parts&SecurityDACL != 0 {
		m.Control |= smb2.SecurityControl(sd.Control&dacl) | smb2.SEDACLPresent
		if !sd.NullDACL {
			m.DACL = wireACL(sd.DACL)
		} else if len(sd.DACL) > 0 {
			return nil, fmt.Errorf("a null DACL with entries: %w", fs.ErrInvalid)
		}
	}
	if parts&SecuritySACL != 0 {
		m.Control |= smb2.SecurityControl(sd.Control & sacl)
		m.SACL = wireACL(sd.SACL)
	}
	return m, nil
}

func wireACL(aces []ACE) *smb2.ACL {
	l := &smb2.ACL{ACEs: make([]smb2.ACE, 0, len(aces))}
	for _, a := range aces {
		e := smb2.ACE{Type: smb2.ACEType(a.Type), Flags: uint8(a.Flags), Mask: smb2.AccessMask(a.Access), SID: a.Trustee.sid, Data: a.Data}
		if a.Object != nil && isObjectACE(a.Type) {
			l.Revision = smb2.ACLRevisionDS
			e.ObjectType, e.InheritedObjectType = a.Object.Type, a.Object.InheritedType
			if e.ObjectType != (smb2.GUID{}) {
				e.ObjectFlags |= smb2.ACEObjectTypePresent
			}
			if e.InheritedObjectType != (smb2.GUID{}) {
				e.ObjectFlags |= smb2.ACEInheritedObjectTypePresent
			}
		}
		l.ACEs = append(l.ACEs, e)
	}
	return l
}
