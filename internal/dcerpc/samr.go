package dcerpc

import (
	"strings"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// SAMR is 12345778-1234-abcd-ef00-0123456789ac version 1.0, [MS-SAMR] 1.9.
var SAMR = Syntax{[16]byte{0x78, 0x57, 0x34, 0x12, 0x34, 0x12, 0xCD, 0xAB, 0xEF, 0x00, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAC}, 1}

// samrOps are of [MS-SAMR] 3.1.5: finding users and groups, and what users may know of
// themselves. Nothing can be changed.
var samrOps = map[uint16]operation{
	0:  samrConnect,
	1:  closeHandle,
	5:  samrLookupDomain,
	6:  samrEnumDomains,
	7:  samrOpenDomain,
	8:  samrQueryDomain,
	11: samrEnumGroups,
	13: samrEnumUsers,
	15: samrEnumAliases,
	16: samrGetAliasMembership,
	17: samrLookupNames,
	18: samrLookupIDs,
	19: samrOpenAccount(objectGroup),
	27: samrOpenAccount(objectAlias),
	33: samrGetAliasMembers,
	34: samrOpenAccount(objectUser),
	36: samrQueryUser,
	39: samrGetGroupsForUser,
	40: samrQueryDisplay,
	44: samrUserPasswordInformation,
	46: samrQueryDomain,
	47: samrQueryUser,
	48: samrQueryDisplay,
	51: samrQueryDisplay,
	56: samrDomainPasswordInformation,
	57: samrConnect,
	62: samrConnect,
	64: samrConnect5,
}

// samrConnect is SamrConnect, SamrConnect2 and SamrConnect4, [MS-SAMR] 3.1.5.1. What the
// client wants to do with it does not matter: all that can be done is reading.
func samrConnect(p *Pipe, _ *reader, w *writer) {
	p.answerHandle(w, object{kind: objectSAM}, p.h.samAccess())
}

// samAccess is the answer to who wants to know users.
func (h *Handler) samAccess() ntstatus.Status {
	if h.refusesStranger() {
		return ntstatus.AccessDenied
	}
	return ntstatus.Success
}

// samrConnect5 is SamrConnect5, [MS-SAMR] 3.1.5.1.1.
func samrConnect5(p *Pipe, r *reader, w *writer) {
	r.optStr() // ServerName
	r.u32()    // DesiredAccess
	version, arm := r.u32(), r.u32()
	if r.err != nil {
		return
	}
	if version != 1 || arm != 1 {
		r.fail("revision %d with the union of %d", version, arm)
		return
	}
	w.u32(1) // OutVersion
	w.u32(1)
	w.u32(3) // Revision
	w.u32(0) // SupportedFeatures
	p.answerHandle(w, object{kind: objectSAM}, p.h.samAccess())
}

// samrLookupDomain is SamrLookupDomainInSamServer, [MS-SAMR] 3.1.5.11.1.
func samrLookupDomain(p *Pipe, r *reader, w *writer) {
	h, name := r.handle(), r.ustr()
	if r.err != nil {
		return
	}
	_, st := p.object(h, objectSAM)
	var sid SID
	if st == ntstatus.Success {
		switch {
		case strings.EqualFold(name, p.h.Server.Name):
			sid = p.h.Directory.Machine()
		case strings.EqualFold(name, builtinName):
			sid = builtin
		default:
			st = ntstatus.NoSuchDomain
		}
	}
	if st != ntstatus.Success {
		w.null()
	} else {
		w.pointer()
		w.sid(sid)
	}
	w.status(st)
}

// enumeration writes SAMPR_ENUMERATION_BUFFER, [MS-SAMR] 2.2.7.10, for what follows a
// context: as many as the client takes, at about 100 bytes each, and one at least.
func enumeration(w *writer, from, preferred uint32, list []Principal, st ntstatus.Status) {
	if st == ntstatus.Success {
		list = list[min(uint64(from), uint64(len(list))):]
		if n := max(1, min(int(preferred/100), 1000)); n < len(list) {
			list, st = list[:n], ntstatus.MoreEntries
		}
	} else {
		list = nil
	}
	w.u32(from + uint32(len(list)))
	w.pointer()
	w.array(len(list), func(i int) {
		_, rid, _ := list[i].SID.split()
		if list[i].Kind == KindDomain {
			rid = 0
		}
		w.u32(rid)
		w.ustr(list[i].Name)
	})
	w.flush()
	w.u32(uint32(len(list)))
	w.status(st)
}

// samrEnumDomains is SamrEnumerateDomainsInSamServer, [MS-SAMR] 3.1.5.2.1.
func samrEnumDomains(p *Pipe, r *reader, w *writer) {
	h, from, preferred := r.handle(), r.u32(), r.u32()
	if r.err != nil {
		return
	}
	_, st := p.object(h, objectSAM)
	enumeration(w, from, preferred, []Principal{
		{Name: p.h.Server.Name, Kind: KindDomain}, {Name: samBuiltin, Kind: KindDomain},
	}, st)
}

// samrOpenDomain is SamrOpenDomain, [MS-SAMR] 3.1.5.1.5.
func samrOpenDomain(p *Pipe, r *reader, w *writer) {
	h := r.handle()
	r.u32() // DesiredAccess
	sid := r.sid()
	if r.err != nil {
		return
	}
	_, st := p.object(h, objectSAM)
	if st == ntstatus.Success && sid != builtin && sid != p.h.Directory.Machine() {
		st = ntstatus.NoSuchDomain
	}
	p.answerHandle(w, object{kind: objectDomain, domain: sid}, st)
}

// never is a time or an interval that does not come.
const never = 0x7FFFFFFFFFFFFFFF

// samrQueryDomain is SamrQueryInformationDomain(2), [MS-SAMR] 3.1.5.5.1.
func samrQueryDomain(p *Pipe, r *reader, w *writer) {
	h, class := r.handle(), r.u16()
	if r.err != nil {
		return
	}
	o, st := p.object(h, objectDomain)
	if st == ntstatus.Success {
		switch class {
		case 1, 2, 3, 4, 5, 6, 7, 8, 9:
		default:
			st = ntstatus.InvalidInfoClass
		}
	}
	if st != ntstatus.Success {
		w.null()
		w.status(st)
		return
	}
	name, users, groups, aliases := samBuiltin, 0, 0, len(p.h.group(o.domain, KindAlias))
	if o.domain != builtin {
		name, users, groups = p.h.Server.Name, len(p.h.Directory.Accounts()), len(p.h.group(o.domain, KindGroup))
	}
	w.pointer()
	w.u16(class)
	w.align(4)
	switch class {
	case 1: // password policy: none that is known here
		w.u16(0)
		w.u16(0)
		w.u32(0)
		w.time(1 << 63) // MaxPasswordAge: never, as an interval
		w.time(0)
	case 2:
		w.time(1 << 63) // ForceLogoff: never
		w.ustr("")      // OemInformation
		w.ustr(name)
		w.ustr("") // ReplicaSourceNodeName
		w.time(1)  // DomainModifiedCount
		w.u32(1)   // DomainServerEnabled
		w.u32(3)   // DomainServerRolePrimary
		w.u8(1)    // UasCompatibilityRequired
		w.u32(uint32(users))
		w.u32(uint32(groups))
		w.u32(uint32(aliases))
	case 3:
		w.time(1 << 63)
	case 4:
		w.ustr("")
	case 5:
		w.ustr(name)
	case 6:
		w.ustr("")
	case 7:
		w.u32(3)
	case 8:
		w.time(1)
		w.time(0)
	case 9:
		w.u32(1)
	}
	w.flush()
	w.status(ntstatus.Success)
}

// group lists the groups of a kind in a domain.
func (h *Handler) group(domain SID, kind Kind) (list []Principal) {
	all := wellKnown
	if domain != builtin {
		all = h.Directory.Groups()
	}
	for _, g := range all {
		if d, _, ok := g.SID.split(); ok && d == domain && g.Kind == kind {
			list = append(list, g)
		}
	}
	return list
}

// samrEnumUsers is SamrEnumerateUsersInDomain, [MS-SAMR] 3.1.5.2.5.
func samrEnumUsers(p *Pipe, r *reader, w *writer) {
	h, from := r.handle(), r.u32()
	flags, preferred := r.u32(), r.u32()
	if r.err != nil {
		return
	}
	o, st := p.object(h, objectDomain)
	var list []Principal
	if st == ntstatus.Success && o.domain != builtin && (flags == 0 || flags&accountNormal != 0) {
		for _, a := range p.h.Directory.Accounts() {
			list = append(list, a.Principal)
		}
	}
	enumeration(w, from, preferred, list, st)
}

func samrEnumOf(kind Kind) operation {
	return func(p *Pipe, r *reader, w *writer) {
		h, from, preferred := r.handle(), r.u32(), r.u32()
		if r.err != nil {
			return
		}
		o, st := p.object(h, objectDomain)
		var list []Principal
		if st == ntstatus.Success {
			list = p.h.group(o.domain, kind)
		}
		enumeration(w, from, preferred, list, st)
	}
}

// SamrEnumerateGroupsInDomain and SamrEnumerateAliasesInDomain, [MS-SAMR] 3.1.5.2.3 and
// 3.1.5.2.4.
var (
	samrEnumGroups  = samrEnumOf(KindGroup)
	samrEnumAliases = samrEnumOf(KindAlias)
)

// samrLookupNames is SamrLookupNamesInDomain, [MS-SAMR] 3.1.5.11.2.
func samrLookupNames(p *Pipe, r *reader, w *writer) {
	h, count := r.handle(), r.u32()
	n := r.varying(count, 8)
	refs := make([]ustring, n)
	for i := range refs {
		refs[i] = r.ustring()
	}
	names := make([]string, n)
	for i := range names {
		names[i] = r.text(refs[i])
	}
	if r.err != nil {
		return
	}
	o, st := p.object(h, objectDomain)
	rids, kinds := make([]uint32, n), make([]Kind, n)
	if st == ntstatus.Success {
		found := 0
		for i, name := range names {
			kinds[i] = KindUnknown
			q, ok := p.h.byName(p.h.domainName(o.domain) + `\` + name)
			if d, rid, split := q.SID.split(); ok && split && d == o.domain {
				rids[i], kinds[i] = rid, q.Kind
				found++
			}
		}
		if st = mapped(n, found); st == ntstatus.NoneMapped {
			n = 0
		}
	} else {
		n = 0
	}
	w.array(n, func(i int) { w.u32(rids[i]) })
	w.flush()
	w.array(n, func(i int) { w.u32(uint32(kinds[i])) })
	w.flush()
	w.status(st)
}

func (h *Handler) domainName(domain SID) string {
	if domain == builtin {
		return samBuiltin
	}
	return h.Server.Name
}

// samrLookupIDs is SamrLookupIdsInDomain, [MS-SAMR] 3.1.5.11.3.
func samrLookupIDs(p *Pipe, r *reader, w *writer) {
	h, count := r.handle(), r.u32()
	n := r.varying(count, 4)
	rids := make([]uint32, n)
	for i := range rids {
		rids[i] = r.u32()
	}
	if r.err != nil {
		return
	}
	o, st := p.object(h, objectDomain)
	list := make([]Principal, n)
	if st == ntstatus.Success {
		found := 0
		for i, rid := range rids {
			q, ok := p.h.bySID(o.domain.child(rid))
			if !ok {
				q = Principal{Kind: KindUnknown}
			} else {
				found++
			}
			list[i] = q
		}
		if st = mapped(n, found); st == ntstatus.NoneMapped {
			n = 0
		}
	} else {
		n = 0
	}
	w.array(n, func(i int) { w.ustr(list[i].Name) })
	w.flush()
	w.array(n, func(i int) { w.u32(uint32(list[i].Kind)) })
	w.flush()
	w.status(st)
}

// samrGetAliasMembership is SamrGetAliasMembership, [MS-SAMR] 3.1.5.9.2: nobody is in
// an alias for all to see.
func samrGetAliasMembership(p *Pipe, r *reader, w *writer) {
	h := r.handle()
	if r.err != nil {
		return
	}
	_, st := p.object(h, objectDomain)
	w.array(0, nil)
	w.status(st)
}

// samrGetAliasMembers is SamrGetMembersInAlias, [MS-SAMR] 3.1.5.8.3.
func samrGetAliasMembers(p *Pipe, r *reader, w *writer) {
	h := r.handle()
	if r.err != nil {
		return
	}
	_, st := p.object(h, objectAlias)
	w.array(0, nil)
	w.status(st)
}

// samrUserPasswordInformation is SamrGetUserDomainPasswordInformation, [MS-SAMR]
// 3.1.5.13.4.
func samrUserPasswordInformation(p *Pipe, r *reader, w *writer) {
	h := r.handle()
	if r.err != nil {
		return
	}
	_, st := p.object(h, objectUser)
	passwordPolicy(w, st)
}

// samrDomainPasswordInformation is SamrGetDomainPasswordInformation, [MS-SAMR]
// 3.1.5.13.3.
func samrDomainPasswordInformation(p *Pipe, _ *reader, w *writer) {
	passwordPolicy(w, p.h.samAccess())
}

func passwordPolicy(w *writer, st ntstatus.Status) {
	w.u16(0) // MinPasswordLength
	w.u32(0) // PasswordProperties
	w.status(st)
}
