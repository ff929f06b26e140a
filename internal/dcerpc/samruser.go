package dcerpc

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Bits of an account, [MS-SAMR] 2.2.1.12.
const (
	accountDisabled = 0x00000001
	accountNormal   = 0x00000010
	accountNoExpiry = 0x00000200
)

// noGroupRID is the group of users that are in none, [MS-SAMR] 2.2.1.14.
const noGroupRID = 513

func (a *Account) control() uint32 {
	c := uint32(accountNormal | accountNoExpiry)
	if a.Disabled {
		c |= accountDisabled
	}
	return c
}

func (a *Account) primary() uint32 {
	if a.PrimaryGroup == 0 {
		return noGroupRID
	}
	return a.PrimaryGroup
}

// account finds the user of a handle.
func (h *Handler) account(o *object) (Account, bool) {
	for _, a := range h.Directory.Accounts() {
		if a.SID == o.domain.child(o.rid) {
			return a, true
		}
	}
	return Account{}, false
}

// samrOpenAccount is SamrOpenUser, SamrOpenGroup and SamrOpenAlias, [MS-SAMR] 3.1.5.1.7
// to 3.1.5.1.9. Who may list users may also open them: nothing that is kept here is
// more than their names.
func samrOpenAccount(kind objectKind) operation {
	return func(p *Pipe, r *reader, w *writer) {
		h := r.handle()
		r.u32() // DesiredAccess
		rid := r.u32()
		if r.err != nil {
			return
		}
		o, st := p.object(h, objectDomain)
		o.kind, o.rid = kind, rid
		if st == ntstatus.Success {
			st = p.h.mayOpen(&o)
		}
		p.answerHandle(w, o, st)
	}
}

func (h *Handler) mayOpen(o *object) ntstatus.Status {
	if o.kind == objectUser {
		if _, ok := h.account(o); !ok {
			return ntstatus.NoSuchUser
		}
		return ntstatus.Success
	}
	want, missing := KindGroup, ntstatus.NoSuchGroup
	if o.kind == objectAlias {
		want, missing = KindAlias, ntstatus.NoSuchAlias
	}
	if q, ok := h.bySID(o.domain.child(o.rid)); !ok || q.Kind != want {
		return missing
	}
	return ntstatus.Success
}

// samrQueryUser is SamrQueryInformationUser(2), [MS-SAMR] 3.1.5.5.5. No password leaves
// the server, nor its hash.
func samrQueryUser(p *Pipe, r *reader, w *writer) {
	h, class := r.handle(), r.u16()
	if r.err != nil {
		return
	}
	o, st := p.object(h, objectUser)
	var a Account
	if st == ntstatus.Success {
		var ok bool
		if a, ok = p.h.account(&o); !ok {
			st = ntstatus.NoSuchUser
		}
	}
	if st == ntstatus.Success {
		switch class {
		case 1, 6, 7, 8, 9, 13, 16, 21:
		default:
			st = ntstatus.InvalidInfoClass
		}
	}
	if st != ntstatus.Success {
		w.null()
		w.status(st)
		return
	}
	w.pointer()
	w.u16(class)
	w.align(4)
	switch class {
	case 1: // UserGeneralInformation
		w.ustr(a.Name)
		w.ustr(a.FullName)
		w.u32(a.primary())
		w.ustr(a.Comment)
		w.ustr("")
	case 6:
		w.ustr(a.Name)
		w.ustr(a.FullName)
	case 7:
		w.ustr(a.Name)
	case 8:
		w.ustr(a.FullName)
	case 9:
		w.u32(a.primary())
	case 13:
		w.ustr(a.Comment)
	case 16:
		w.u32(a.control())
	case 21:
		w.userAll(&a, o.rid)
	}
	w.flush()
	w.status(ntstatus.Success)
}

// userAll writes SAMPR_USER_ALL_INFORMATION, [MS-SAMR] 2.2.6.6, with the fields that
// there are.
func (w *writer) userAll(a *Account, rid uint32) {
	w.time(0)     // LastLogon
	w.time(0)     // LastLogoff
	w.time(0)     // PasswordLastSet
	w.time(never) // AccountExpires
	w.time(0)     // PasswordCanChange
	w.time(never) // PasswordMustChange
	w.ustr(a.Name)
	w.ustr(a.FullName)
	for range 4 { // HomeDirectory, HomeDirectoryDrive, ScriptPath, ProfilePath
		w.ustr("")
	}
	w.ustr(a.Comment)
	for range 3 { // WorkStations, UserComment, Parameters
		w.ustr("")
	}
	for range 3 { // LmOwfPassword, NtOwfPassword, PrivateData: an empty string has their form
		w.ustr("")
	}
	w.u32(0) // SecurityDescriptor: none
	w.null()
	w.u32(rid)
	w.u32(a.primary())
	w.u32(a.control())
	w.u32(0x00FFFFFF) // WhichFields: USER_ALL_* but for passwords and private data
	const hours = 168
	w.u16(hours)
	w.align(4)
	w.deferred(func() { // all hours of a week: a bit each, in an array of 1260 at most
		w.u32(1260)
		w.u32(0)
		w.u32(hours / 8)
		for range hours / 8 {
			w.u8(0xFF)
		}
	})
	w.u16(0) // BadPasswordCount
	w.u16(0) // LogonCount
	w.u16(0) // CountryCode
	w.u16(0) // CodePage
	w.b = append(w.b, 0, 0, 0, 0)
}

// samrGetGroupsForUser is SamrGetGroupsForUser, [MS-SAMR] 3.1.5.9.1.
func samrGetGroupsForUser(p *Pipe, r *reader, w *writer) {
	h := r.handle()
	if r.err != nil {
		return
	}
	o, st := p.object(h, objectUser)
	var groups []uint32
	if st == ntstatus.Success {
		a, ok := p.h.account(&o)
		if !ok {
			st = ntstatus.NoSuchUser
		} else {
			groups = append([]uint32{a.primary()}, a.Groups...)
		}
	}
	if st != ntstatus.Success {
		w.null()
		w.status(st)
		return
	}
	w.pointer()
	w.array(len(groups), func(i int) {
		w.u32(groups[i])
		w.u32(7) // mandatory, enabled by default, enabled
	})
	w.flush()
	w.status(ntstatus.Success)
}

// samrQueryDisplay is SamrQueryDisplayInformation(2, 3), [MS-SAMR] 3.1.5.3.1, of users
// (1) and groups (3).
func samrQueryDisplay(p *Pipe, r *reader, w *writer) {
	h, class := r.handle(), r.u16()
	from, entries, preferred := r.u32(), r.u32(), r.u32()
	if r.err != nil {
		return
	}
	o, st := p.object(h, objectDomain)
	if st == ntstatus.Success && class != 1 && class != 3 {
		st = ntstatus.InvalidInfoClass
	}
	var users []Account
	switch {
	case st != ntstatus.Success:
	case class == 1 && o.domain != builtin:
		users = p.h.Directory.Accounts()
	case class == 3:
		for _, g := range p.h.group(o.domain, KindGroup) {
			users = append(users, Account{Principal: g})
		}
	}
	total := len(users)
	users = users[min(uint64(from), uint64(total)):]
	if n := max(1, min(int(entries), int(preferred/100), 1000)); n < len(users) {
		users, st = users[:n], ntstatus.MoreEntries
	}
	w.u32(uint32(total) * 100)
	w.u32(uint32(len(users)) * 100)
	w.u16(class)
	if class != 1 && class != 3 {
		w.status(st)
		return
	}
	w.align(4)
	w.array(len(users), func(i int) {
		a := &users[i]
		_, rid, _ := a.SID.split()
		w.u32(from + uint32(i) + 1)
		w.u32(rid)
		if class == 3 {
			w.u32(7)
			w.ustr(a.Name)
			w.ustr(a.Comment)
			return
		}
		w.u32(a.control())
		w.ustr(a.Name)
		w.ustr(a.Comment)
		w.ustr(a.FullName)
	})
	w.flush()
	w.status(st)
}
