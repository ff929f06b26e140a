package smb2

// ACEType is of [MS-DTYP] 2.4.4.1.
type ACEType uint8

const (
	ACEAccessAllowed               ACEType = 0x00
	ACEAccessDenied                ACEType = 0x01
	ACESystemAudit                 ACEType = 0x02
	ACEAccessAllowedObject         ACEType = 0x05
	ACEAccessDeniedObject          ACEType = 0x06
	ACESystemAuditObject           ACEType = 0x07
	ACEAccessAllowedCallback       ACEType = 0x09
	ACEAccessDeniedCallback        ACEType = 0x0A
	ACEAccessAllowedCallbackObject ACEType = 0x0B
	ACEAccessDeniedCallbackObject  ACEType = 0x0C
	ACESystemAuditCallback         ACEType = 0x0D
	ACESystemAuditCallbackObject   ACEType = 0x0F
	ACESystemMandatoryLabel        ACEType = 0x11
	ACESystemResourceAttribute     ACEType = 0x12
	ACESystemScopedPolicyID        ACEType = 0x13
)

// Flags of an ACE, [MS-DTYP] 2.4.4.1.
const (
	ACEObjectInherit      uint8 = 0x01
	ACEContainerInherit   uint8 = 0x02
	ACENoPropagateInherit uint8 = 0x04
	ACEInheritOnly        uint8 = 0x08
	ACEInherited          uint8 = 0x10
	ACESuccessfulAccess   uint8 = 0x40
	ACEFailedAccess       uint8 = 0x80
)

// Flags that say which GUIDs an object ACE has, [MS-DTYP] 2.4.4.3.
const (
	ACEObjectTypePresent          uint32 = 0x00000001
	ACEInheritedObjectTypePresent uint32 = 0x00000002
)

// SecurityControl are the Control bits of a security descriptor, [MS-DTYP] 2.4.6.
type SecurityControl uint16

const (
	SEOwnerDefaulted     SecurityControl = 0x0001
	SEGroupDefaulted     SecurityControl = 0x0002
	SEDACLPresent        SecurityControl = 0x0004
	SEDACLDefaulted      SecurityControl = 0x0008
	SESACLPresent        SecurityControl = 0x0010
	SESACLDefaulted      SecurityControl = 0x0020
	SEDACLTrusted        SecurityControl = 0x0040
	SEServerSecurity     SecurityControl = 0x0080
	SEDACLAutoInheritReq SecurityControl = 0x0100
	SESACLAutoInheritReq SecurityControl = 0x0200
	SEDACLAutoInherited  SecurityControl = 0x0400
	SESACLAutoInherited  SecurityControl = 0x0800
	SEDACLProtected      SecurityControl = 0x1000
	SESACLProtected      SecurityControl = 0x2000
	SERMControlValid     SecurityControl = 0x4000
	SESelfRelative       SecurityControl = 0x8000
)

// ACL revisions, [MS-DTYP] 2.4.5.
const (
	ACLRevision   uint8 = 0x02
	ACLRevisionDS uint8 = 0x04
)

// ACE is an access control entry, [MS-DTYP] 2.4.4:
//
//	0 AceType   1 AceFlags   2 AceSize   4 Mask
//	object types only: 8 Flags (4), ObjectType (16), InheritedObjectType (16) by Flags
//	Sid, and application data to the end
//
// An ACE of a type not listed above has only Type, Flags and Data, which is all
// of it behind AceSize.
type ACE struct {
	Type                ACEType
	Flags               uint8
	Mask                AccessMask
	ObjectFlags         uint32 // object types only
	ObjectType          GUID   // with ACEObjectTypePresent
	InheritedObjectType GUID   // with ACEInheritedObjectTypePresent
	SID                 SID
	Data                []byte // borrowed when parsed
}

const (
	aceHeaderSize = 4
	minACESize    = 16 // header, Mask and the shortest SID: no type of 2.4.4.1 has less
	aclHeaderSize = 8
	sdHeaderSize  = 20
)

func (t ACEType) isObject() bool {
	switch t {
	case ACEAccessAllowedObject, ACEAccessDeniedObject, ACESystemAuditObject,
		ACEAccessAllowedCallbackObject, ACEAccessDeniedCallbackObject, ACESystemAuditCallbackObject:
		return true
	}
	return false
}

func (t ACEType) isPlain() bool {
	switch t {
	case ACEAccessAllowed, ACEAccessDenied, ACESystemAudit,
		ACEAccessAllowedCallback, ACEAccessDeniedCallback, ACESystemAuditCallback,
		ACESystemMandatoryLabel, ACESystemResourceAttribute, ACESystemScopedPolicyID:
		return true
	}
	return false
}

// AppendBinary appends the entry, padded with zeros to a multiple of 4.
func (a *ACE) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = append(b, uint8(a.Type), a.Flags, 0, 0)
	if a.Type.isObject() || a.Type.isPlain() {
		b = le.AppendUint32(b, uint32(a.Mask))
		if a.Type.isObject() {
			b = le.AppendUint32(b, a.ObjectFlags)
			if a.ObjectFlags&ACEObjectTypePresent != 0 {
				b = append(b, a.ObjectType[:]...)
			}
			if a.ObjectFlags&ACEInheritedObjectTypePresent != 0 {
				b = append(b, a.InheritedObjectType[:]...)
			}
		}
		b = a.SID.Append(b)
	}
	b = append(b, a.Data...)
	b = pad(b, start, 4)
	n := len(b) - start
	if n > 0xFFFF {
		return b[:start], tooLong("ACE", "AceSize", n)
	}
	le.PutUint16(b[start+2:], uint16(n))
	return b, nil
}

// ParseACE decodes the entry at the start of b and returns it with its AceSize,
// which is at least 16.
func ParseACE(b []byte) (ACE, int, error) {
	const name = "ACE"
	if len(b) < aceHeaderSize {
		return ACE{}, 0, short(name, len(b), aceHeaderSize)
	}
	size := int(le.Uint16(b[2:]))
	if size < minACESize || size > len(b) {
		return ACE{}, 0, bad(name, "AceSize", uint64(size), uint64(len(b)))
	}
	a := ACE{Type: ACEType(b[0]), Flags: b[1]}
	rest := b[aceHeaderSize:size:size]
	if a.Type.isObject() || a.Type.isPlain() {
		if len(rest) < 4 {
			return ACE{}, 0, short(name, size, 8)
		}
		a.Mask = AccessMask(le.Uint32(rest))
		rest = rest[4:]
		if a.Type.isObject() {
			var err error
			if rest, err = a.parseObject(rest); err != nil {
				return ACE{}, 0, err
			}
		}
		sid, err := ParseSID(rest)
		if err != nil {
			return ACE{}, 0, err
		}
		a.SID, rest = sid, rest[sid.Len():]
	}
	if len(rest) > 0 {
		a.Data = rest
	}
	return a, size, nil
}

func (a *ACE) parseObject(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, short("object ACE", len(b), 4)
	}
	a.ObjectFlags = le.Uint32(b)
	b = b[4:]
	for _, g := range [...]struct {
		flag uint32
		to   *GUID
	}{{ACEObjectTypePresent, &a.ObjectType}, {ACEInheritedObjectTypePresent, &a.InheritedObjectType}} {
		if a.ObjectFlags&g.flag == 0 {
			continue
		}
		if len(b) < len(g.to) {
			return nil, short("object ACE", len(b), len(g.to))
		}
		copy(g.to[:], b)
		b = b[len(g.to):]
	}
	return b, nil
}

// ACL is an access control list, [MS-DTYP] 2.4.5: AclRevision (1), Sbz1 (1),
// AclSize (2), AceCount (2), Sbz2 (2), ACEs.
type ACL struct {
	Revision uint8 // 0 is encoded as ACLRevision
	ACEs     []ACE
}

// AppendBinary appends the list.
func (l *ACL) AppendBinary(b []byte) ([]byte, error) {
	if len(l.ACEs) > 0xFFFF {
		return b, tooLong("ACL", "AceCount", len(l.ACEs))
	}
	rev := l.Revision
	if rev == 0 {
		rev = ACLRevision
	}
	start := len(b)
	b = append(b, rev, 0, 0, 0)
	b = le.AppendUint16(b, uint16(len(l.ACEs)))
	b = zeros(b, 2)
	for i := range l.ACEs {
		var err error
		if b, err = l.ACEs[i].AppendBinary(b); err != nil {
			return b[:start], err
		}
	}
	n := len(b) - start
	if n > 0xFFFF {
		return b[:start], tooLong("ACL", "AclSize", n)
	}
	le.PutUint16(b[start+2:], uint16(n))
	return b, nil
}

// ParseACL decodes the list at the start of b. Octets of AclSize behind the
// last entry are allowed and ignored.
func ParseACL(b []byte) (ACL, error) {
	const name = "ACL"
	if len(b) < aclHeaderSize {
		return ACL{}, short(name, len(b), aclHeaderSize)
	}
	if b[0] != ACLRevision && b[0] != ACLRevisionDS {
		return ACL{}, bad(name, "AclRevision", uint64(b[0]), uint64(ACLRevision))
	}
	size := int(le.Uint16(b[2:]))
	if size < aclHeaderSize || size > len(b) {
		return ACL{}, bad(name, "AclSize", uint64(size), uint64(len(b)))
	}
	count := int(le.Uint16(b[4:]))
	rest := b[aclHeaderSize:size:size]
	// This bounds the allocation too: an ACE takes nine times as much in memory.
	if fit := len(rest) / minACESize; count > fit {
		return ACL{}, bad(name, "AceCount", uint64(count), uint64(fit))
	}
	l := ACL{Revision: b[0]}
	if count > 0 {
		l.ACEs = make([]ACE, 0, count)
	}
	for range count {
		a, n, err := ParseACE(rest)
		if err != nil {
			return ACL{}, err
		}
		l.ACEs = append(l.ACEs, a)
		rest = rest[n:]
	}
	return l, nil
}

// SecurityDescriptor is SECURITY_DESCRIPTOR in its self-relative form,
// [MS-DTYP] 2.4.6:
//
//	0 Revision 1   1 Sbz1   2 Control   4 OffsetOwner   8 OffsetGroup
//	12 OffsetSacl 16 OffsetDacl        20 Sacl, Dacl, OwnerSid, GroupSid
//
// A nil DACL with SEDACLPresent in Control grants everything to everyone; a
// nil DACL without it says nothing about access.
type SecurityDescriptor struct {
	// Control: AppendBinary adds SESelfRelative, and the present bits of the
	// ACLs that are not nil.
	Control SecurityControl
	SBZ1    uint8 // resource manager's octet, with SERMControlValid
	Owner   *SID
	Group   *SID
	SACL    *ACL
	DACL    *ACL
}

// AppendBinary appends the descriptor.
func (d *SecurityDescriptor) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	control := d.Control | SESelfRelative
	if d.SACL != nil {
		control |= SESACLPresent
	}
	if d.DACL != nil {
		control |= SEDACLPresent
	}
	b = append(b, 1, d.SBZ1)
	b = le.AppendUint16(b, uint16(control))
	b = zeros(b, 16)
	for _, part := range [...]struct {
		acl *ACL
		at  int
	}{{d.SACL, 12}, {d.DACL, 16}} {
		if part.acl == nil {
			continue
		}
		le.PutUint32(b[start+part.at:], uint32(len(b)-start))
		var err error
		if b, err = part.acl.AppendBinary(b); err != nil {
			return b[:start], err
		}
	}
	for _, part := range [...]struct {
		sid *SID
		at  int
	}{{d.Owner, 4}, {d.Group, 8}} {
		if part.sid == nil {
			continue
		}
		le.PutUint32(b[start+part.at:], uint32(len(b)-start))
		b = part.sid.Append(b)
	}
	return b, nil
}

// ParseSecurityDescriptor decodes a self-relative descriptor. An ACL whose
// present bit is clear is not looked at.
func ParseSecurityDescriptor(b []byte) (SecurityDescriptor, error) {
	const name = "SECURITY_DESCRIPTOR"
	if len(b) < sdHeaderSize {
		return SecurityDescriptor{}, short(name, len(b), sdHeaderSize)
	}
	if b[0] != 1 {
		return SecurityDescriptor{}, bad(name, "Revision", uint64(b[0]), 1)
	}
	d := SecurityDescriptor{SBZ1: b[1], Control: SecurityControl(le.Uint16(b[2:]))}
	if d.Control&SESelfRelative == 0 {
		return SecurityDescriptor{}, bad(name, "Control", uint64(d.Control), uint64(d.Control|SESelfRelative))
	}
	at := func(field string, off int) ([]byte, error) {
		o := uint64(le.Uint32(b[off:]))
		if o == 0 {
			return nil, nil
		}
		if o < sdHeaderSize || o > uint64(len(b)) {
			return nil, bad(name, field, o, uint64(len(b)))
		}
		return b[o:], nil
	}
	for _, part := range [...]struct {
		field string
		off   int
		to    **SID
	}{{"OffsetOwner", 4, &d.Owner}, {"OffsetGroup", 8, &d.Group}} {
		p, err := at(part.field, part.off)
		if err != nil {
			return SecurityDescriptor{}, err
		}
		if p == nil {
			continue
		}
		sid, err := ParseSID(p)
		if err != nil {
			return SecurityDescriptor{}, err
		}
		*part.to = &sid
	}
	for _, part := range [...]struct {
		field   string
		off     int
		present SecurityControl
		to      **ACL
	}{{"OffsetSacl", 12, SESACLPresent, &d.SACL}, {"OffsetDacl", 16, SEDACLPresent, &d.DACL}} {
		if d.Control&part.present == 0 {
			continue
		}
		p, err := at(part.field, part.off)
		if err != nil {
			return SecurityDescriptor{}, err
		}
		if p == nil {
			continue
		}
		acl, err := ParseACL(p)
		if err != nil {
			return SecurityDescriptor{}, err
		}
		*part.to = &acl
	}
	return d, nil
}
