package client

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// The names of SDDL, [MS-DTYP] 2.5.1. The first name of a value is the one written.

type sddlName[T any] struct {
	name  string
	value T
}

var sddlTypes = []sddlName[smb2.ACEType]{
	{"A", smb2.ACEAccessAllowed}, {"D", smb2.ACEAccessDenied}, {"AU", smb2.ACESystemAudit},
	{"OA", smb2.ACEAccessAllowedObject}, {"OD", smb2.ACEAccessDeniedObject}, {"OU", smb2.ACESystemAuditObject},
	{"ML", smb2.ACESystemMandatoryLabel}, {"SP", smb2.ACESystemScopedPolicyID},
}

var sddlFlags = []sddlName[ACEFlags]{
	{"OI", ACEObjectInherit}, {"CI", ACEContainerInherit}, {"NP", ACENoPropagate}, {"IO", ACEInheritOnly},
	{"ID", ACEInherited}, {"SA", ACESuccessfulAccess}, {"FA", ACEFailedAccess},
}

// sddlRights are those that are written whole: what has no name is written as a number.
var sddlRights = []sddlName[Access]{
	{"FA", 0x001F01FF}, {"FR", 0x00120089}, {"FW", 0x00120116}, {"FX", 0x001200A0},
	{"GA", AccessGenericAll}, {"GR", AccessGenericRead}, {"GW", AccessGenericWrite}, {"GX", AccessGenericExecute},
	{"RC", AccessReadControl}, {"SD", AccessDelete}, {"WD", AccessWriteDAC}, {"WO", AccessWriteOwner},
	{"CC", 0x001}, {"DC", 0x002}, {"LC", 0x004}, {"SW", 0x008}, {"RP", 0x010}, {"WP", 0x020},
	{"DT", 0x040}, {"LO", 0x080}, {"CR", 0x100},
}

// namedRights is how many of sddlRights are written by name.
const namedRights = 8

// sddlSIDs are the names that stand for one SID everywhere. Those that are of a domain,
// as DA, are refused: they mean nothing without it.
var sddlSIDs = []sddlName[smb2.SID]{
	{"WD", smb2.NewSID(1, 0)}, {"CO", smb2.NewSID(3, 0)}, {"CG", smb2.NewSID(3, 1)}, {"OW", smb2.NewSID(3, 4)},
	{"NU", smb2.NewSID(5, 2)}, {"IU", smb2.NewSID(5, 4)}, {"SU", smb2.NewSID(5, 6)}, {"AN", smb2.NewSID(5, 7)},
	{"ED", smb2.NewSID(5, 9)}, {"PS", smb2.NewSID(5, 10)}, {"AU", smb2.NewSID(5, 11)}, {"RC", smb2.NewSID(5, 12)},
	{"SY", smb2.NewSID(5, 18)}, {"LS", smb2.NewSID(5, 19)}, {"NS", smb2.NewSID(5, 20)},
	{"BA", smb2.NewSID(5, 32, 544)}, {"BU", smb2.NewSID(5, 32, 545)}, {"BG", smb2.NewSID(5, 32, 546)},
	{"PU", smb2.NewSID(5, 32, 547)}, {"AO", smb2.NewSID(5, 32, 548)}, {"SO", smb2.NewSID(5, 32, 549)},
	{"PO", smb2.NewSID(5, 32, 550)}, {"BO", smb2.NewSID(5, 32, 551)}, {"RE", smb2.NewSID(5, 32, 552)},
	{"RU", smb2.NewSID(5, 32, 554)}, {"RD", smb2.NewSID(5, 32, 555)}, {"NO", smb2.NewSID(5, 32, 556)},
	{"AC", smb2.NewSID(15, 2, 1)}, {"LW", smb2.NewSID(16, 4096)}, {"ME", smb2.NewSID(16, 8192)}, {"HI", smb2.NewSID(16, 12288)}, {"SI", smb2.NewSID(16, 16384)},
}

// String gives the descriptor in SDDL, [MS-DTYP] 2.5.1. An entry that SDDL has no words
// for here, one with a condition or attributes, is written as its type in hexadecimal,
// and ParseSDDL refuses it.
func (sd *SecurityDescriptor) String() string {
	var b strings.Builder
	if !sd.Owner.IsZero() {
		b.WriteString("O:" + sddlSID(sd.Owner))
	}
	if !sd.Group.IsZero() {
		b.WriteString("G:" + sddlSID(sd.Group))
	}
	if sd.HasDACL {
		b.WriteString("D:" + sddlControl(sd.Control, 0))
		if sd.NullDACL {
			b.WriteString(nullDACL)
		}
		sddlACEs(&b, sd.DACL)
	}
	if sd.HasSACL {
		b.WriteString("S:" + sddlControl(sd.Control, 1))
		sddlACEs(&b, sd.SACL)
	}
	return b.String()
}

const nullDACL = "NO_ACCESS_CONTROL"

// sddlControls are the flags of a list; shifted by one they are those of the SACL.
var sddlControls = []sddlName[SecurityControl]{{"P", DACLProtected}, {"AR", DACLAutoInheritReq}, {"AI", DACLAutoInherited}}

func sddlControl(c SecurityControl, shift int) (s string) {
	for _, n := range sddlControls {
		if c&(n.value<<shift) != 0 {
			s += n.name
		}
	}
	return s
}

func sddlACEs(b *strings.Builder, aces []ACE) {
	for _, a := range aces {
		kind := fmt.Sprintf("0x%02x", uint8(a.Type))
		for _, n := range sddlTypes {
			if n.value == smb2.ACEType(a.Type) && len(a.Data) == 0 {
				kind = n.name
			}
		}
		flags := ""
		for _, n := range sddlFlags {
			if a.Flags&n.value != 0 {
				flags += n.name
			}
		}
		rights := fmt.Sprintf("0x%x", uint32(a.Access))
		for _, n := range sddlRights[:namedRights] {
			if n.value == a.Access {
				rights = n.name
			}
		}
		object, inherited := "", ""
		if a.Object != nil {
			object, inherited = sddlGUID(a.Object.Type), sddlGUID(a.Object.InheritedType)
		}
		fmt.Fprintf(b, "(%s;%s;%s;%s;%s;%s)", kind, flags, rights, object, inherited, sddlSID(a.Trustee))
	}
}

func sddlSID(s SID) string {
	for _, n := range sddlSIDs {
		if n.value == s.sid {
			return n.name
		}
	}
	return s.String()
}

func sddlGUID(g [16]byte) string {
	if g == ([16]byte{}) {
		return ""
	}
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", le.Uint32(g[:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:])
}

// ParseSDDL reads a descriptor in SDDL, [MS-DTYP] 2.5.1. Not taken, with an error that
// matches fs.ErrInvalid, are names of SIDs that are of a domain (as DA), conditions and
// resource attributes.
func ParseSDDL(s string) (*SecurityDescriptor, error) {
	sd := new(SecurityDescriptor)
	seen := ""
	for rest := s; rest != ""; {
		if len(rest) < 2 || rest[1] != ':' || !strings.Contains("OGDS", rest[:1]) || strings.Contains(seen, rest[:1]) {
			return nil, badSDDL(s, "no new part begins at %q", rest)
		}
		part := rest[:1]
		seen += part
		// A part goes on to the letter and colon of the next one; neither is in a SID, a
		// flag or an entry but for the entries' parentheses.
		end := 2
		for depth := 0; end < len(rest); end++ {
			if rest[end] == '(' {
				depth++
			} else if rest[end] == ')' {
				depth--
			} else if depth == 0 && end+1 < len(rest) && rest[end+1] == ':' {
				break
			}
		}
		body := rest[2:end]
		rest = rest[end:]
		var err error
		switch part {
		case "O":
			sd.Owner, err = parseSDDLSID(body)
		case "G":
			sd.Group, err = parseSDDLSID(body)
		case "D":
			sd.HasDACL = true
			sd.DACL, err = sd.parseList(body, 0)
		case "S":
			sd.HasSACL = true
			sd.SACL, err = sd.parseList(body, 1)
		}
		if err != nil {
			return nil, badSDDL(s, "%v", err)
		}
	}
	return sd, nil
}

func badSDDL(s, format string, args ...any) error {
	return fmt.Errorf("client: SDDL %q: %s: %w", s, fmt.Sprintf(format, args...), fs.ErrInvalid)
}

// parseList reads flags and entries of a list.
func (sd *SecurityDescriptor) parseList(s string, shift int) ([]ACE, error) {
	at := strings.IndexByte(s, '(')
	if at < 0 {
		at = len(s)
	}
	flags, s := s[:at], s[at:]
	if shift == 0 && flags == nullDACL && s == "" {
		sd.NullDACL = true
		return nil, nil
	}
next:
	for flags != "" {
		for _, n := range sddlControls {
			if rest, ok := strings.CutPrefix(flags, n.name); ok {
				sd.Control |= n.value << shift
				flags = rest
				continue next
			}
		}
		return nil, fmt.Errorf("flags %q of a list", flags)
	}
	var aces []ACE
	for s != "" {
		end := strings.IndexByte(s, ')')
		if s[0] != '(' || end < 0 {
			return nil, fmt.Errorf("an entry in parentheses is wanted at %q", s)
		}
		a, err := parseSDDLACE(s[1:end])
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", s[:end+1], err)
		}
		aces = append(aces, a)
		s = s[end+1:]
	}
	return aces, nil
}

func parseSDDLACE(s string) (a ACE, err error) {
	fields := strings.Split(s, ";")
	if len(fields) != 6 {
		return a, fmt.Errorf("%d fields, not 6", len(fields))
	}
	kind := -1
	for _, n := range sddlTypes {
		if strings.EqualFold(n.name, fields[0]) {
			kind = int(n.value)
		}
	}
	if kind < 0 {
		return a, fmt.Errorf("type %q", fields[0])
	}
	a.Type = ACEType(kind)
	for f := fields[1]; f != ""; {
		flag := ACEFlags(0)
		for _, n := range sddlFlags {
			if len(f) >= 2 && strings.EqualFold(f[:2], n.name) {
				flag = n.value
			}
		}
		if flag == 0 {
			return a, fmt.Errorf("flags %q", f)
		}
		a.Flags |= flag
		f = f[2:]
	}
	if a.Access, err = parseSDDLRights(fields[2]); err != nil {
		return a, err
	}
	if isObjectACE(a.Type) {
		a.Object = new(ACEObject)
		if err := parseSDDLGUID(fields[3], &a.Object.Type); err != nil {
			return a, err
		}
		if err := parseSDDLGUID(fields[4], &a.Object.InheritedType); err != nil {
			return a, err
		}
	} else if fields[3] != "" || fields[4] != "" {
		return a, fmt.Errorf("a GUID in an entry that has none")
	}
	a.Trustee, err = parseSDDLSID(fields[5])
	return a, err
}

// parseSDDLRights reads a number, or names of two letters.
func parseSDDLRights(s string) (Access, error) {
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil {
			return 0, fmt.Errorf("rights %q", s)
		}
		return Access(n), nil
	}
	var a Access
	for ; s != ""; s = s[2:] {
		found := false
		for _, n := range sddlRights {
			if len(s) >= 2 && strings.EqualFold(s[:2], n.name) {
				a, found = a|n.value, true
				break
			}
		}
		if !found {
			return 0, fmt.Errorf("rights %q", s)
		}
	}
	return a, nil
}

func parseSDDLSID(s string) (SID, error) {
	for _, n := range sddlSIDs {
		if strings.EqualFold(n.name, s) {
			return SID{n.value}, nil
		}
	}
	sid, err := smb2.ParseSIDString(s)
	if err != nil {
		return SID{}, fmt.Errorf("SID %q is neither S-1-… nor a name that is the same everywhere", s)
	}
	return SID{sid}, nil
}

func parseSDDLGUID(s string, g *[16]byte) error {
	if s == "" {
		return nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || len(s) != 36 {
		return fmt.Errorf("GUID %q", s)
	}
	*g = [16]byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]}
	copy(g[8:], b[8:])
	return nil
}
