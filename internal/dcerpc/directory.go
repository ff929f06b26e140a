package dcerpc

import (
	"encoding/binary"
	"strings"
)

// Caller is who makes the calls of a pipe: the user of its SMB session.
type Caller struct {
	Name, Domain string
	// Stranger has not shown who he is: a guest, or nobody. Strangers see the shares
	// and what the server is called, and no users.
	Stranger bool
	// Admin may see what others do.
	Admin bool
}

// Kind is what a SID stands for: SID_NAME_USE, [MS-LSAT] 2.2.13.
type Kind uint16

// Kinds.
const (
	KindUser      Kind = 1
	KindGroup     Kind = 2
	KindDomain    Kind = 3
	KindAlias     Kind = 4
	KindWellKnown Kind = 5
	KindUnknown   Kind = 8
)

// SID is a security identifier in the form of [MS-DTYP] 2.4.2.2, as a string, so that
// SIDs compare. The empty one is none.
type SID string

// NewSID makes a SID of an authority of 48 bits and up to 15 sub-authorities.
func NewSID(authority uint64, sub ...uint32) SID {
	b := make([]byte, 8, 8+4*len(sub))
	binary.BigEndian.PutUint64(b, authority)
	b[0], b[1] = 1, byte(len(sub))
	for _, v := range sub {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return SID(b)
}

// split takes the last sub-authority off; ok is false if there is none.
func (s SID) split() (domain SID, rid uint32, ok bool) {
	if len(s) < 12 {
		return "", 0, false
	}
	b := []byte(s)
	rid = binary.LittleEndian.Uint32(b[len(b)-4:])
	b = b[:len(b)-4]
	b[1]--
	return SID(b), rid, true
}

// child adds a sub-authority.
func (s SID) child(rid uint32) SID {
	b := binary.LittleEndian.AppendUint32([]byte(s), rid)
	b[1]++
	return SID(b)
}

// Principal is somebody, or a group, with name and SID. That of a domain is the
// domain's own.
type Principal struct {
	SID          SID
	Domain, Name string
	Kind         Kind
}

// Account is a user of the server.
type Account struct {
	Principal
	FullName, Comment string
	// Disabled users cannot log on.
	Disabled bool
	// PrimaryGroup is a relative id below the machine's SID; Groups are others.
	PrimaryGroup uint32
	Groups       []uint32
}

// Directory knows users and groups. Its methods may be called by many goroutines.
type Directory interface {
	// Machine is the SID below which the server's own users and groups have theirs.
	Machine() SID
	// ByName finds who has a name, without regard to case. The domain is empty if the
	// client did not say.
	ByName(domain, name string) (Principal, bool)
	// BySID finds who a SID stands for.
	BySID(SID) (Principal, bool)
	// Accounts lists the users, in an order that stays.
	Accounts() []Account
	// Groups lists the groups below the machine's SID likewise.
	Groups() []Principal
}

// wellKnown are SIDs that mean the same everywhere, [MS-DTYP] 2.4.2.4.
var wellKnown = []Principal{
	{NewSID(0, 0), "", "NULL SID", KindWellKnown},
	{NewSID(1, 0), "", "Everyone", KindWellKnown},
	{NewSID(2, 0), "", "LOCAL", KindWellKnown},
	{NewSID(3, 0), "", "CREATOR OWNER", KindWellKnown},
	{NewSID(3, 1), "", "CREATOR GROUP", KindWellKnown},
	{NewSID(3, 4), "", "OWNER RIGHTS", KindWellKnown},
	{NewSID(5, 1), ntAuthority, "DIALUP", KindWellKnown},
	{NewSID(5, 2), ntAuthority, "NETWORK", KindWellKnown},
	{NewSID(5, 3), ntAuthority, "BATCH", KindWellKnown},
	{NewSID(5, 4), ntAuthority, "INTERACTIVE", KindWellKnown},
	{NewSID(5, 6), ntAuthority, "SERVICE", KindWellKnown},
	{NewSID(5, 7), ntAuthority, "ANONYMOUS LOGON", KindWellKnown},
	{NewSID(5, 9), ntAuthority, "ENTERPRISE DOMAIN CONTROLLERS", KindWellKnown},
	{NewSID(5, 10), ntAuthority, "SELF", KindWellKnown},
	{NewSID(5, 11), ntAuthority, "Authenticated Users", KindWellKnown},
	{NewSID(5, 12), ntAuthority, "RESTRICTED", KindWellKnown},
	{NewSID(5, 13), ntAuthority, "TERMINAL SERVER USER", KindWellKnown},
	{NewSID(5, 18), ntAuthority, "SYSTEM", KindWellKnown},
	{NewSID(5, 19), ntAuthority, "LOCAL SERVICE", KindWellKnown},
	{NewSID(5, 20), ntAuthority, "NETWORK SERVICE", KindWellKnown},
	{builtin.child(544), builtinName, "Administrators", KindAlias},
	{builtin.child(545), builtinName, "Users", KindAlias},
	{builtin.child(546), builtinName, "Guests", KindAlias},
}

const (
	ntAuthority = "NT AUTHORITY"
	builtinName = "BUILTIN"
	samBuiltin  = "Builtin" // the same, as [MS-SAMR] servers spell it
)

// builtin is the domain of the groups that every machine has.
var builtin = NewSID(5, 32)

// refusesStranger reports whether the caller may not ask about users.
func (h *Handler) refusesStranger() bool { return h.Caller.Stranger || h.Directory == nil }

// bySID finds who a SID stands for.
func (h *Handler) bySID(s SID) (Principal, bool) {
	for i := range wellKnown {
		if wellKnown[i].SID == s {
			return wellKnown[i], true
		}
	}
	switch s {
	case builtin:
		return Principal{s, builtinName, "", KindDomain}, true
	case h.Directory.Machine():
		return Principal{s, h.Server.Name, "", KindDomain}, true
	}
	return h.Directory.BySID(s)
}

// byName finds who a client means by a name, [MS-LSAT] 3.1.4.5: DOMAIN\name,
// name@domain, a name alone, or a domain.
func (h *Handler) byName(text string) (Principal, bool) {
	domain, name, ok := strings.Cut(text, `\`)
	if !ok {
		if name, domain, ok = strings.Cut(text, "@"); !ok {
			domain, name = "", text
		}
	}
	for i := range wellKnown {
		p := &wellKnown[i]
		if strings.EqualFold(p.Name, name) && (domain == "" || strings.EqualFold(p.Domain, domain)) {
			return *p, true
		}
	}
	if p, ok := h.Directory.ByName(domain, name); ok {
		return p, true
	}
	switch {
	case domain != "" && name != "":
	case strings.EqualFold(domain+name, builtinName):
		return Principal{builtin, builtinName, "", KindDomain}, true
	case strings.EqualFold(domain+name, h.Server.Name):
		return Principal{h.Directory.Machine(), h.Server.Name, "", KindDomain}, true
	}
	return Principal{}, false
}
