package smb2

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestSIDStrings(t *testing.T) {
	for s, want := range map[string]SID{
		"S-1-1-0":              SIDEveryone,
		"S-1-5-32-544":         SIDAdministrators,
		"S-1-5-18":             SIDLocalSystem,
		"S-1-22-1-4294967295":  SIDUnixUser(0xFFFFFFFF),
		"S-1-5-88-3-33188":     SIDNFSMode(0o100644),
		"S-1-5":                NewSID(5),
		"S-1-0x123456789abc-7": NewSID(0x123456789abc, 7),
		"S-1-5-21-1-2-3-4-5-6-7-8-9-10-11-12-13-14": NewSID(5, 21, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
	} {
		if got := want.String(); got != s {
			t.Errorf("String: got %s, want %s", got, s)
		}
		got, err := ParseSIDString(s)
		if err != nil || got != want {
			t.Errorf("ParseSIDString(%s) = %v, %v", s, got, err)
		}
		if back, err := ParseSID(want.Append(nil)); err != nil || back != want {
			t.Errorf("ParseSID of %s: %v, %v", s, back, err)
		}
	}
	for _, s := range []string{"", "S", "S-", "S-1", "S-2-5", "S-1-", "X-1-5", "S-1-5-", "S-1-5--1", "S-1-5-4294967296", "S-1-281474976710656",
		"S-1-5" + strings.Repeat("-1", 16)} {
		if got, err := ParseSIDString(s); err == nil {
			t.Errorf("ParseSIDString(%q) = %v, want an error", s, got)
		}
	}
	s := SIDAdministrators
	if s.Parent() != NewSID(5, 32) || s.Parent().Child(544) != s || s.RID() != 544 || !reflect.DeepEqual(s.SubAuthorities(), []uint32{32, 544}) {
		t.Errorf("Parent %v, RID %d, sub-authorities %v", s.Parent(), s.RID(), s.SubAuthorities())
	}
	_, err := ParseSID(append([]byte{1, 16}, make([]byte, 100)...))
	wantMalformed(t, err, "16 sub-authorities")
	_, err = ParseSID(append([]byte{2, 0}, make([]byte, 6)...))
	wantMalformed(t, err, "revision 2")
}

// A descriptor put together by hand from [MS-DTYP] 2.4.4 to 2.4.6: owner
// Administrators, group Everyone, one entry that allows Everyone everything and
// one object entry.
const sdWire = `01 00 0490 4c000000 5c000000 00000000 14000000
	02 00 3800 0200 0000
	00 03 1400 ff011f00 010100000000000100000000
	05 00 1c00 01000000 00000000 010100000000000512000000 aabbccdd
	0102000000000005 20000000 20020000
	0101000000000001 00000000`

func sdValue() SecurityDescriptor {
	owner, group := SIDAdministrators, SIDEveryone
	return SecurityDescriptor{
		Control: SESelfRelative | SEDACLPresent | SEDACLProtected,
		Owner:   &owner,
		Group:   &group,
		DACL: &ACL{Revision: ACLRevision, ACEs: []ACE{
			{Type: ACEAccessAllowed, Flags: ACEObjectInherit | ACEContainerInherit, Mask: FileAllAccess, SID: SIDEveryone},
			{Type: ACEAccessAllowedObject, Mask: 1, SID: SIDLocalSystem, Data: []byte{0xaa, 0xbb, 0xcc, 0xdd}},
		}},
	}
}

func TestSecurityDescriptor(t *testing.T) {
	wire, want := unhex(t, sdWire), sdValue()
	got, err := ParseSecurityDescriptor(wire)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
	}
	if b, err := want.AppendBinary([]byte{9}); err != nil || !bytes.Equal(b[1:], wire) {
		t.Errorf("AppendBinary\n got %x, %v\nwant %x", b, err, wire)
	}
	for n := range wire {
		_, err := ParseSecurityDescriptor(wire[:n:n])
		wantMalformed(t, err, "truncated")
	}
	for name, spoil := range map[string]func([]byte){
		"Revision":                 func(b []byte) { b[0] = 2 },
		"not self-relative":        func(b []byte) { b[3] &^= 0x80 },
		"owner in the header":      func(b []byte) { b[4] = 4 },
		"owner beyond the end":     func(b []byte) { le.PutUint32(b[4:], 0xFFFFFFFF) },
		"DACL beyond the end":      func(b []byte) { le.PutUint32(b[16:], 0x10000) },
		"AclRevision":              func(b []byte) { b[20] = 1 },
		"AclSize below the header": func(b []byte) { b[22] = 7 },
		"AclSize beyond the end":   func(b []byte) { le.PutUint16(b[22:], 0xFFFF) },
		"AceCount":                 func(b []byte) { b[24] = 3 },
		"AceCount huge":            func(b []byte) { le.PutUint16(b[24:], 0xFFFF) },
		"AceSize 0":                func(b []byte) { b[30] = 0 },
		"AceSize too small":        func(b []byte) { b[30] = 8 },
		"AceSize too large":        func(b []byte) { b[30] = 0xFF },
		"GUID that is not there":   func(b []byte) { b[48+8] = 1 },
	} {
		b := bytes.Clone(wire)
		spoil(b)
		_, err := ParseSecurityDescriptor(b)
		wantMalformed(t, err, name)
	}
}

func TestSecurityDescriptorParts(t *testing.T) {
	// A NULL DACL is present and has offset 0.
	b, err := (&SecurityDescriptor{Control: SEDACLPresent}).AppendBinary(nil)
	if want := unhex(t, `01 00 0480 00000000 00000000 00000000 00000000`); err != nil || !bytes.Equal(b, want) {
		t.Errorf("NULL DACL: %x, %v, want %x", b, err, want)
	}
	if d, err := ParseSecurityDescriptor(b); err != nil || d.DACL != nil || d.Control&SEDACLPresent == 0 {
		t.Errorf("NULL DACL: %+v, %v", d, err)
	}
	// An empty DACL is not the same.
	b, _ = (&SecurityDescriptor{DACL: &ACL{}}).AppendBinary(nil)
	if d, err := ParseSecurityDescriptor(b); err != nil || d.DACL == nil || len(d.DACL.ACEs) != 0 {
		t.Errorf("empty DACL: %+v, %v", d, err)
	}
	// Object GUIDs, a SACL, and an entry of a type that is not known.
	want := SecurityDescriptor{Control: SESelfRelative | SESACLPresent, SACL: &ACL{Revision: ACLRevisionDS, ACEs: []ACE{
		{Type: ACESystemAuditObject, Flags: ACEFailedAccess, Mask: 7, ObjectFlags: ACEObjectTypePresent | ACEInheritedObjectTypePresent,
			ObjectType: guidA, InheritedObjectType: guidB, SID: SIDEveryone},
		{Type: 0x7f, Data: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
	}}}
	b, err = want.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := ParseSecurityDescriptor(b); err != nil || !reflect.DeepEqual(d, want) {
		t.Errorf("got %+v, %v\nwant %+v", d, err, want)
	}
}

// [MS-DTYP] 2.4.4.1: whatever the type, an entry has a mask and a SID behind its
// header, 16 octets at least. A list of shorter ones, which would take many times
// its size in memory, is refused.
func TestShortACEs(t *testing.T) {
	for size, ok := range map[int]bool{4: false, 8: false, 12: false, 16: true, 20: true} {
		const total = 0xFFF8
		count := (total - aclHeaderSize) / size
		b := make([]byte, aclHeaderSize+count*size)
		b[0] = ACLRevision
		le.PutUint16(b[2:], uint16(len(b)))
		le.PutUint16(b[4:], uint16(count))
		for at := aclHeaderSize; at < len(b); at += size {
			b[at] = 0x7f // no known type
			b[at+2] = uint8(size)
		}
		l, err := ParseACL(b)
		if !ok {
			wantMalformed(t, err, "short entries")
		} else if err != nil || len(l.ACEs) != count {
			t.Errorf("entries of %d: %d, %v, want %d", size, len(l.ACEs), err, count)
		}
		one := bytes.Clone(b[:aclHeaderSize+size])
		le.PutUint16(one[2:], uint16(len(one)))
		le.PutUint16(one[4:], 1)
		if _, err := ParseACL(one); (err == nil) != ok {
			t.Errorf("one entry of %d: %v", size, err)
		}
	}
}
