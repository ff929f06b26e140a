// Package ntacl reads and writes the records in which Samba keeps security
// descriptors: the value of the extended attribute security.NTACL, which is NDR of
// xattr_NTACL (librpc/idl/xattr.idl). A share can thus move between Samba's
// vfs_acl_xattr and this server, with its access control lists.
//
//	rec, err := ntacl.Parse(value)
//	if err == nil && rec.Valid(sys) {
//		sd, err := smb2.ParseSecurityDescriptor(rec.Descriptor)
//		...
//	}
//
// A record says for which state of the file in the operating system it was made:
// SystemACL has that state, and its hash is in the record. When somebody changes
// owner, mode or POSIX ACL by other means, the hash no longer fits, and the record
// is out of date.
//
// The package is pure: functions of their arguments, safe for concurrent use.
package ntacl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// HashSize is the room for a hash in a record; SHA-256 takes the first 32 octets,
// the rest is zeros.
const HashSize = 64

// Hash types of a record.
const (
	HashNone   uint16 = 0
	HashSHA256 uint16 = 1
)

// MaxSize bounds a record, in octets: what Linux lets an extended attribute have.
const MaxSize = 64 << 10

// ErrMalformed says that a record is none, or of a version that is not known.
var ErrMalformed = errors.New("malformed NTACL record")

// Record is xattr_NTACL. Versions 1 to 4 are read; version 4 is written.
type Record struct {
	// Version is 1 (the descriptor alone), 2 (with a hash that nobody uses), 3 (with
	// DescriptorHash) or 4 (with SystemHash besides).
	Version uint16
	// Descriptor is the security descriptor in its self-relative form, [MS-DTYP]
	// 2.4.6. In the record itself its offsets count from the start of the record.
	Descriptor []byte
	// HashType says what the hashes are, in versions 3 and 4.
	HashType uint16
	// DescriptorHash is the hash of the descriptor that the file's owner, mode and
	// POSIX ACL would give, as a version 3 record without hashes. All zeros stand for
	// a record made by a server that was told to leave the system's ACLs alone.
	DescriptorHash [HashSize]byte
	// Description says what SystemHash is about; "posix_acl" everywhere.
	Description string
	// SystemHash is SystemACL.Hash.
	SystemHash [HashSize]byte
}

// Description is what records of this system say that their SystemHash is about.
const Description = "posix_acl"

var le = binary.LittleEndian

// Sizes and places of NDR: the version and its copy in front of the union, a
// pointer to the structure; then the structure, whose first member is again a
// pointer but in version 1.
const (
	headSize     = 8
	bodyAt       = headSize + 4 // behind the pointer to the descriptor
	hash2Size    = 16
	sdHeaderSize = 20  // OffsetOwner, OffsetGroup, OffsetSacl and OffsetDacl from 4 on
	maxDescr     = 256 // of Description, which is text of ours or Samba's
	referent     = 0x00020000
	referentSD   = 0x00020004
)

// Parse decodes a record. The result shares nothing with b.
func Parse(b []byte) (Record, error) {
	if len(b) < headSize || len(b) > MaxSize {
		return Record{}, fmt.Errorf("%w: %d octets", ErrMalformed, len(b))
	}
	r := Record{Version: le.Uint16(b)}
	if le.Uint16(b[2:]) != r.Version || le.Uint32(b[4:]) == 0 {
		return Record{}, fmt.Errorf("%w: version %d, discriminant %d", ErrMalformed, r.Version, le.Uint16(b[2:]))
	}
	at := headSize
	if r.Version >= 2 && r.Version <= 4 {
		if len(b) < bodyAt || le.Uint32(b[headSize:]) == 0 {
			return Record{}, fmt.Errorf("%w: version %d without a descriptor", ErrMalformed, r.Version)
		}
		at = bodyAt
	}
	short := func() (Record, error) {
		return Record{}, fmt.Errorf("%w: version %d ends after %d octets", ErrMalformed, r.Version, len(b))
	}
	switch r.Version {
	case 1:
	case 2:
		at += hash2Size
	case 3, 4:
		if len(b) < at+2+HashSize {
			return short()
		}
		r.HashType = le.Uint16(b[at:])
		at += 2
		at += copy(r.DescriptorHash[:], b[at:])
		if r.Version == 3 {
			break
		}
		end := bytes.IndexByte(b[at:min(len(b), at+maxDescr)], 0)
		if end < 0 {
			return short()
		}
		r.Description = string(b[at : at+end])
		at = align(at+end+1, 4) + 8 // a time that means nothing
		if len(b) < at+HashSize {
			return short()
		}
		at += copy(r.SystemHash[:], b[at:])
	default:
		return Record{}, fmt.Errorf("%w: version %d is not known", ErrMalformed, r.Version)
	}
	at = align(at, 4)
	if len(b)-at < sdHeaderSize {
		return short()
	}
	r.Descriptor = bytes.Clone(b[at:])
	if !rebase(r.Descriptor, -int64(at)) {
		return Record{}, fmt.Errorf("%w: a part of the descriptor lies outside it", ErrMalformed)
	}
	return r, nil
}

// rebase adds n to the offsets of a descriptor that are not 0; false if one of
// them would not lie behind the fixed part any more.
func rebase(sd []byte, n int64) bool {
	for at := 4; at < sdHeaderSize; at += 4 {
		o := int64(le.Uint32(sd[at:]))
		if o == 0 {
			continue
		}
		if o += n; o < sdHeaderSize || o > MaxSize {
			return false
		}
		le.PutUint32(sd[at:], uint32(o))
	}
	return true
}

func align(n, to int) int { return (n + to - 1) &^ (to - 1) }

// AppendBinary appends the record in version 4, whatever Version says; an error
// that matches ErrMalformed if it is too large or its description is no plain text.
func (r *Record) AppendBinary(b []byte) ([]byte, error) {
	if len(r.Description) >= maxDescr || bytes.IndexByte([]byte(r.Description), 0) >= 0 {
		return b, fmt.Errorf("%w: description %q", ErrMalformed, r.Description)
	}
	start := len(b)
	b = le.AppendUint16(b, 4)
	b = le.AppendUint16(b, 4)
	b = le.AppendUint32(b, referent)
	b = le.AppendUint32(b, referentSD)
	b = le.AppendUint16(b, r.HashType)
	b = append(b, r.DescriptorHash[:]...)
	b = append(b, r.Description...)
	b = append(b, 0)
	for (len(b)-start)%4 != 0 {
		b = append(b, 0)
	}
	b = append(b, make([]byte, 8)...)
	b = append(b, r.SystemHash[:]...)
	at := len(b) - start
	if n := at + len(r.Descriptor); n > MaxSize || len(r.Descriptor) < sdHeaderSize {
		return b[:start], fmt.Errorf("%w: %d octets, of them %d of the descriptor", ErrMalformed, n, len(r.Descriptor))
	}
	b = append(b, r.Descriptor...)
	if !rebase(b[start+at:], int64(at)) {
		return b[:start], fmt.Errorf("%w: a part of the descriptor lies outside it", ErrMalformed)
	}
	return b, nil
}

// Valid reports whether the record is about a file in the state sys. Versions 1
// and 2, and records made without regard to the system's ACLs, are always valid.
func (r *Record) Valid(sys *SystemACL) bool {
	switch {
	case r.Version < 3:
		return true
	case r.DescriptorHash == [HashSize]byte{} && r.SystemHash == [HashSize]byte{}:
		return true
	case r.HashType != HashSHA256 || r.Version != 4:
		return false
	}
	return r.SystemHash == sys.Hash()
}
