package smb2

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxSubAuthorities is the most sub-authorities that a SID has, [MS-DTYP] 2.4.2.2.
const MaxSubAuthorities = 15

// SID is a security identifier, [MS-DTYP] 2.4.2.2: Revision 1 (1),
// SubAuthorityCount (1), IdentifierAuthority (6, big-endian), SubAuthority (4
// each). It is comparable; make one with NewSID, ParseSID or ParseSIDString.
type SID struct {
	Authority uint64 // 48 bits
	count     uint8
	sub       [MaxSubAuthorities]uint32
}

// Well-known SIDs, [MS-DTYP] 2.4.2.4.
var (
	SIDNull               = NewSID(0, 0)
	SIDEveryone           = NewSID(1, 0)
	SIDCreatorOwner       = NewSID(3, 0)
	SIDCreatorGroup       = NewSID(3, 1)
	SIDOwnerRights        = NewSID(3, 4)
	SIDAnonymous          = NewSID(5, 7)
	SIDAuthenticatedUsers = NewSID(5, 11)
	SIDLocalSystem        = NewSID(5, 18)
	SIDAdministrators     = NewSID(5, 32, 544)
	SIDUsers              = NewSID(5, 32, 545)
	SIDGuests             = NewSID(5, 32, 546)
)

// SIDUnixUser is S-1-22-1-uid, as Samba names a local user without a mapping.
func SIDUnixUser(uid uint32) SID { return NewSID(22, 1, uid) }

// SIDUnixGroup is S-1-22-2-gid.
func SIDUnixGroup(gid uint32) SID { return NewSID(22, 2, gid) }

// SIDNFSUser is S-1-5-88-1-uid, by which clients tell each other Unix owners.
func SIDNFSUser(uid uint32) SID { return NewSID(5, 88, 1, uid) }

// SIDNFSGroup is S-1-5-88-2-gid.
func SIDNFSGroup(gid uint32) SID { return NewSID(5, 88, 2, gid) }

// SIDNFSMode is S-1-5-88-3-mode.
func SIDNFSMode(mode uint32) SID { return NewSID(5, 88, 3, mode) }

// NewSID makes a SID. Only 48 bits of the authority and the first
// MaxSubAuthorities sub-authorities are kept.
func NewSID(authority uint64, sub ...uint32) SID {
	s := SID{Authority: authority & (1<<48 - 1)}
	s.count = uint8(copy(s.sub[:], sub))
	return s
}

// SubAuthorities returns a copy of the sub-authorities.
func (s SID) SubAuthorities() []uint32 { return append([]uint32(nil), s.sub[:s.count]...) }

// RID returns the last sub-authority, 0 if there is none.
func (s SID) RID() uint32 {
	if s.count == 0 {
		return 0
	}
	return s.sub[s.count-1]
}

// Parent returns s without its last sub-authority.
func (s SID) Parent() SID {
	if s.count > 0 {
		s.count--
		s.sub[s.count] = 0
	}
	return s
}

// Child returns s with one sub-authority more; s itself if it is full.
func (s SID) Child(rid uint32) SID {
	if s.count < MaxSubAuthorities {
		s.sub[s.count] = rid
		s.count++
	}
	return s
}

// Len returns the size on the wire, in octets: 8 to 68.
func (s SID) Len() int { return 8 + 4*int(s.count) }

// Append appends the SID.
func (s SID) Append(b []byte) []byte {
	a := s.Authority
	b = append(b, 1, s.count, byte(a>>40), byte(a>>32), byte(a>>24), byte(a>>16), byte(a>>8), byte(a))
	for _, v := range s.sub[:s.count] {
		b = le.AppendUint32(b, v)
	}
	return b
}

// AppendBinary is Append as encoding.BinaryAppender; the error is always nil.
func (s SID) AppendBinary(b []byte) ([]byte, error) { return s.Append(b), nil }

// ParseSID decodes the SID at the start of b; Len tells how much of b it is.
func ParseSID(b []byte) (SID, error) {
	if len(b) < 8 {
		return SID{}, short("SID", len(b), 8)
	}
	if b[0] != 1 {
		return SID{}, bad("SID", "Revision", uint64(b[0]), 1)
	}
	if b[1] > MaxSubAuthorities {
		return SID{}, bad("SID", "SubAuthorityCount", uint64(b[1]), MaxSubAuthorities)
	}
	s := SID{count: b[1]}
	if len(b) < s.Len() {
		return SID{}, short("SID", len(b), s.Len())
	}
	for _, c := range b[2:8] {
		s.Authority = s.Authority<<8 | uint64(c)
	}
	for i := range int(s.count) {
		s.sub[i] = le.Uint32(b[8+4*i:])
	}
	return s, nil
}

// String gives the form of [MS-DTYP] 2.4.2.1, such as S-1-5-32-544.
func (s SID) String() string {
	b := append(make([]byte, 0, 64), "S-1-"...)
	if s.Authority < 1<<32 {
		b = strconv.AppendUint(b, s.Authority, 10)
	} else {
		b = fmt.Appendf(b, "0x%012x", s.Authority)
	}
	for _, v := range s.sub[:s.count] {
		b = append(b, '-')
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	return string(b)
}

// ParseSIDString is the inverse of String.
func ParseSIDString(str string) (SID, error) {
	malformed := func() (SID, error) { return SID{}, fmt.Errorf("SID %q: %w", str, ErrMalformed) }
	if len(str) < 2 || !strings.EqualFold(str[:2], "S-") {
		return malformed()
	}
	parts := strings.Split(str[2:], "-")
	if len(parts) < 2 || len(parts) > 2+MaxSubAuthorities || parts[0] != "1" {
		return malformed()
	}
	var s SID
	base, digits := 10, parts[1]
	if len(digits) > 2 && strings.EqualFold(digits[:2], "0x") {
		base, digits = 16, digits[2:]
	}
	var err error
	if s.Authority, err = strconv.ParseUint(digits, base, 48); err != nil {
		return malformed()
	}
	for _, p := range parts[2:] {
		v, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return malformed()
		}
		s.sub[s.count] = uint32(v)
		s.count++
	}
	return s, nil
}
