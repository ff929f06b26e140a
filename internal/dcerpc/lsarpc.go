package dcerpc

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// LSARPC is 12345778-1234-abcd-ef00-0123456789ab version 0.0, [MS-LSAD] 1.9.
var LSARPC = Syntax{[16]byte{0x78, 0x57, 0x34, 0x12, 0x34, 0x12, 0xCD, 0xAB, 0xEF, 0x00, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAB}, 0}

// lsarpcOps are of [MS-LSAD] 3.1.4 and [MS-LSAT] 3.1.4: what is asked of a file server
// to show who owns what. Nothing can be changed.
var lsarpcOps = map[uint16]operation{
	0:  closeHandle,
	2:  lsaEnumPrivileges,
	6:  lsaOpenPolicy,
	7:  lsaQueryInformationPolicy,
	11: lsaEnumNone, // LsarEnumerateAccounts: nobody has privileges
	13: lsaEnumNone, // LsarEnumerateTrustedDomains
	14: lsaLookupNames(1),
	15: lsaLookupSIDs(1),
	44: lsaOpenPolicy,
	45: lsaGetUserName,
	46: lsaQueryInformationPolicy,
	50: lsaEnumNone, // LsarEnumerateTrustedDomainsEx
	57: lsaLookupSIDs(2),
	58: lsaLookupNames(2),
	68: lsaLookupNames(3),
	76: lsaLookupSIDs(3),
	77: lsaLookupNames(4),
}

// lsaOpenPolicy is LsarOpenPolicy and LsarOpenPolicy2, [MS-LSAD] 3.1.4.4.1. What the
// client wants to do with it does not matter: all that can be done is reading.
func lsaOpenPolicy(p *Pipe, _ *reader, w *writer) {
	st := ntstatus.Success
	if p.h.refusesStranger() {
		st = ntstatus.AccessDenied
	}
	p.answerHandle(w, object{kind: objectPolicy}, st)
}

// Classes of policy information, [MS-LSAD] 2.2.4.1.
const (
	policyAudit         = 2
	policyPrimaryDomain = 3
	policyAccountDomain = 5
	policyServerRole    = 6
	policyDNSDomain     = 12
)

// lsaQueryInformationPolicy is LsarQueryInformationPolicy(2), [MS-LSAD] 3.1.4.4.4: of a
// server that is in no domain.
func lsaQueryInformationPolicy(p *Pipe, r *reader, w *writer) {
	h, class := r.handle(), r.u16()
	if r.err != nil {
		return
	}
	_, st := p.object(h, objectPolicy)
	if st == ntstatus.Success {
		switch class {
		case policyPrimaryDomain, policyAccountDomain, policyServerRole, policyDNSDomain:
		case policyAudit:
			st = ntstatus.AccessDenied
		default:
			st = ntstatus.InvalidInfoClass
		}
	}
	if st != ntstatus.Success {
		w.null()
		w.status(st)
		return
	}
	s := p.h.Server.withDefaults()
	w.pointer()
	w.u16(class)
	w.align(4)
	switch class {
	case policyPrimaryDomain:
		w.ustr(s.Domain) // a workgroup: it has no SID
		w.null()
	case policyAccountDomain:
		w.ustr(s.Name)
		w.sidPtr(p.h.Directory.Machine())
	case policyServerRole:
		w.u16(3) // PolicyServerRolePrimary: its own accounts
	case policyDNSDomain:
		w.ustr(s.Domain)
		w.ustr("")
		w.ustr("")
		w.b = append(w.b, make([]byte, 16)...) // no GUID
		w.null()
	}
	w.flush()
	w.status(ntstatus.Success)
}

// lsaEnumNone answers what lists things of which there are none.
func lsaEnumNone(p *Pipe, r *reader, w *writer) {
	h := r.handle()
	r.u32() // EnumerationContext
	r.u32() // PreferedMaximumLength
	if r.err != nil {
		return
	}
	_, st := p.object(h, objectPolicy)
	if st == ntstatus.Success {
		st = ntstatus.NoMoreEntries
	}
	w.u32(0)
	w.u32(0)
	w.null()
	w.status(st)
}

// lsaEnumPrivileges is LsarEnumeratePrivileges, [MS-LSAD] 3.1.4.8.1: there are none.
func lsaEnumPrivileges(p *Pipe, r *reader, w *writer) { lsaEnumNone(p, r, w) }

// lsaGetUserName is LsarGetUserName, [MS-LSAT] 3.1.4.4: who the caller is.
func lsaGetUserName(p *Pipe, r *reader, w *writer) {
	r.optStr() // SystemName
	if r.pointer() {
		r.ustr()
	}
	wantsDomain := r.pointer()
	if wantsDomain && r.pointer() {
		r.ustr()
	}
	if r.err != nil {
		return
	}
	name, domain := p.h.Caller.Name, p.h.Server.Name
	if p.h.Caller.Stranger {
		name, domain = "ANONYMOUS LOGON", ntAuthority
	}
	w.pointer()
	w.ustr(name)
	w.flush()
	if wantsDomain {
		w.pointer()
		w.pointer()
		w.ustr(domain)
		w.flush()
	} else {
		w.null()
	}
	w.status(ntstatus.Success)
}
