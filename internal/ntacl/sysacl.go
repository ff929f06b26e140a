package ntacl

import "crypto/sha256"

// Tag says whom an entry of a POSIX ACL is about. The values are those of the
// hashed form.
type Tag uint16

const (
	TagUser     Tag = 1 // the user ID
	TagUserObj  Tag = 2 // the owner
	TagGroup    Tag = 3 // the group ID
	TagGroupObj Tag = 4 // the owning group
	TagOther    Tag = 5
	TagMask     Tag = 6
)

// Entry is an entry of a POSIX ACL.
type Entry struct {
	Tag  Tag
	ID   uint32 // of TagUser and TagGroup
	Perm uint32 // 4 read, 2 write, 1 execute
}

// SystemACL is what the operating system knows of who may use a file:
// smb_acl_wrapper of Samba's librpc/idl/smb_acl.idl.
type SystemACL struct {
	// Access is the POSIX ACL, Default that for new files of a directory; nil for
	// those that have none of their own. A file without an ACL has the three
	// entries that its mode stands for: see ModeEntries.
	Access, Default []Entry
	IsDir           bool
	UID, GID        uint32
	// Mode is st_mode, with the bits of the file's type.
	Mode uint32
}

// ModeEntries are the entries that the permission bits of a mode stand for.
func ModeEntries(mode uint32) []Entry {
	return []Entry{
		{Tag: TagUserObj, Perm: mode >> 6 & 7},
		{Tag: TagGroupObj, Perm: mode >> 3 & 7},
		{Tag: TagOther, Perm: mode & 7},
	}
}

// Hash is SHA-256 of the NDR of a.
func (a *SystemACL) Hash() (h [HashSize]byte) {
	sum := sha256.Sum256(a.ndr(make([]byte, 0, 256)))
	copy(h[:], sum[:])
	return h
}

// ndr encodes a: pointers to the ACLs, owner and group as 64-bit numbers, the
// mode; then the ACLs, each with its count twice. b must be empty.
func (a *SystemACL) ndr(b []byte) []byte {
	pad := func(n int) {
		for len(b)%n != 0 {
			b = append(b, 0)
		}
	}
	list := func(l []Entry) {
		pad(4)
		b = le.AppendUint32(b, uint32(len(l)))
		pad(8)
		b = le.AppendUint32(b, uint32(len(l)))
		b = le.AppendUint32(b, 0)
		for _, e := range l {
			pad(8)
			b = le.AppendUint16(b, uint16(e.Tag))
			b = le.AppendUint16(b, uint16(e.Tag))
			if e.Tag == TagUser || e.Tag == TagGroup {
				pad(8)
				b = le.AppendUint64(b, uint64(e.ID))
			}
			b = le.AppendUint32(b, e.Perm)
		}
	}
	b = le.AppendUint32(b, referent)
	if a.IsDir {
		b = le.AppendUint32(b, referentSD)
	} else {
		b = le.AppendUint32(b, 0)
	}
	b = le.AppendUint64(b, uint64(a.UID))
	b = le.AppendUint64(b, uint64(a.GID))
	b = le.AppendUint32(b, a.Mode)
	access := a.Access
	if access == nil {
		access = ModeEntries(a.Mode)
	}
	list(access)
	if a.IsDir {
		list(a.Default)
	}
	return b
}

// posixACLVersion is that of the extended attributes system.posix_acl_access and
// system.posix_acl_default.
const posixACLVersion = 2

// ParsePOSIX decodes the value of system.posix_acl_access or
// system.posix_acl_default as Linux keeps them: the version, then tag, permissions
// and id of each entry; false if it is no such value.
func ParsePOSIX(b []byte) ([]Entry, bool) {
	if len(b) < 4 || len(b) > MaxSize || le.Uint32(b) != posixACLVersion || (len(b)-4)%8 != 0 {
		return nil, false
	}
	list := make([]Entry, 0, (len(b)-4)/8)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		e := Entry{Perm: uint32(le.Uint16(b[2:])) & 7}
		switch le.Uint16(b) {
		case 0x01:
			e.Tag = TagUserObj
		case 0x02:
			e.Tag, e.ID = TagUser, le.Uint32(b[4:])
		case 0x04:
			e.Tag = TagGroupObj
		case 0x08:
			e.Tag, e.ID = TagGroup, le.Uint32(b[4:])
		case 0x10:
			e.Tag = TagMask
		case 0x20:
			e.Tag = TagOther
		default:
			return nil, false
		}
		list = append(list, e)
	}
	return list, true
}

// AppendPOSIX is the inverse of ParsePOSIX.
func AppendPOSIX(b []byte, list []Entry) []byte {
	tags := [...]uint16{TagUser: 0x02, TagUserObj: 0x01, TagGroup: 0x08, TagGroupObj: 0x04, TagOther: 0x20, TagMask: 0x10}
	b = le.AppendUint32(b, posixACLVersion)
	for _, e := range list {
		id := e.ID
		if e.Tag != TagUser && e.Tag != TagGroup {
			id = 0xFFFFFFFF // ACL_UNDEFINED_ID
		}
		b = le.AppendUint16(b, tags[e.Tag])
		b = le.AppendUint16(b, uint16(e.Perm))
		b = le.AppendUint32(b, id)
	}
	return b
}
