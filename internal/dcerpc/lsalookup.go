package dcerpc

import (
	"fmt"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// domainList gathers LSAPR_REFERENCED_DOMAIN_LIST, [MS-LSAT] 2.2.12.
type domainList struct {
	names []string
	sids  []SID
}

// index is the place of a domain in the list, which is added if it is new.
func (d *domainList) index(name string, sid SID) int32 {
	for i := range d.sids {
		if d.sids[i] == sid {
			return int32(i)
		}
	}
	d.names, d.sids = append(d.names, name), append(d.sids, sid)
	return int32(len(d.sids) - 1)
}

// of is the index of the domain that a principal is in. A domain is in itself.
func (d *domainList) of(p *Principal) int32 {
	if p.Kind == KindDomain {
		return d.index(p.Domain, p.SID)
	}
	sid, _, ok := p.SID.split()
	if !ok {
		return -1
	}
	return d.index(p.Domain, sid)
}

// put writes a pointer to the list.
func (d *domainList) put(w *writer) {
	w.pointer()
	w.array(len(d.sids), func(i int) {
		w.ustr(d.names[i])
		w.sidPtr(d.sids[i])
	})
	w.u32(32) // MaxEntries, of no meaning
	w.flush()
}

// mapped is the status of a lookup of n things of which some were found.
func mapped(n, found int) ntstatus.Status {
	switch {
	case found == n:
		return ntstatus.Success
	case found == 0:
		return ntstatus.NoneMapped
	}
	return ntstatus.SomeNotMapped
}

// lsaLookupNames is LsarLookupNames and its later versions, [MS-LSAT] 3.1.4.5 to
// 3.1.4.8. The fourth has no policy handle and is for domain controllers, by their
// secure channel only.
func lsaLookupNames(version int) operation {
	return func(p *Pipe, r *reader, w *writer) {
		var st ntstatus.Status
		if version == 4 {
			st = ntstatus.AccessDenied
		} else {
			_, st = p.object(r.handle(), objectPolicy)
		}
		count := r.u32()
		n := r.count(count, 8)
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
		var domains domainList
		found := 0
		list := make([]Principal, n)
		index := make([]int32, n)
		if st == ntstatus.Success {
			for i := range names {
				q, ok := p.h.byName(names[i])
				if !ok {
					q, index[i] = Principal{Kind: KindUnknown}, -1
				} else {
					index[i] = domains.of(&q)
					found++
				}
				list[i] = q
			}
			st = mapped(n, found)
		} else {
			list = nil
		}
		domains.put(w)
		w.array(len(list), func(i int) {
			q := &list[i]
			w.align(4)
			w.u16(uint16(q.Kind))
			if version >= 3 {
				w.align(4)
				w.sidPtr(q.SID)
			} else {
				w.u32(relativeID(q))
			}
			w.u32(uint32(index[i]))
			if version >= 2 {
				w.u32(0) // Flags
			}
		})
		w.flush()
		w.u32(uint32(found))
		w.status(st)
	}
}

// relativeID is the RelativeId of LSA_TRANSLATED_SID; all ones for who has none.
func relativeID(p *Principal) uint32 {
	if p.Kind == KindDomain || p.Kind == KindUnknown {
		return 0xFFFFFFFF
	}
	_, rid, _ := p.SID.split()
	return rid
}

// lsaLookupSIDs is LsarLookupSids and its later versions, [MS-LSAT] 3.1.4.9 to
// 3.1.4.11. The third is like LsarLookupNames4.
func lsaLookupSIDs(version int) operation {
	return func(p *Pipe, r *reader, w *writer) {
		var st ntstatus.Status
		if version == 3 {
			st = ntstatus.AccessDenied
		} else {
			_, st = p.object(r.handle(), objectPolicy)
		}
		count := r.u32()
		n := 0
		if r.pointer() {
			n = r.count(count, 4)
		} else if count != 0 {
			r.fail("%d SIDs that are not there", count)
		}
		there := make([]bool, n)
		for i := range there {
			there[i] = r.pointer()
		}
		sids := make([]SID, n)
		for i := range sids {
			if !there[i] {
				r.fail("null SID")
				break
			}
			sids[i] = r.sid()
		}
		if r.err != nil {
			return
		}
		var domains domainList
		found := 0
		list := make([]Principal, n)
		index := make([]int32, n)
		if st == ntstatus.Success {
			for i, sid := range sids {
				q, ok := p.h.bySID(sid)
				if ok {
					index[i] = domains.of(&q)
					found++
				} else {
					q, index[i] = Principal{SID: sid, Name: sid.String(), Kind: KindUnknown}, -1
				}
				list[i] = q
			}
			st = mapped(n, found)
		} else {
			list = nil
		}
		domains.put(w)
		w.array(len(list), func(i int) {
			q := &list[i]
			w.align(4)
			w.u16(uint16(q.Kind))
			w.ustr(q.Name)
			w.u32(uint32(index[i]))
			if version >= 2 {
				w.u32(0) // Flags
			}
		})
		w.flush()
		w.u32(uint32(found))
		w.status(st)
	}
}

// String is the SID in the form of [MS-DTYP] 2.4.2.1.
func (s SID) String() string {
	if len(s) < 8 {
		return ""
	}
	var authority uint64
	for _, b := range []byte(s[2:8]) {
		authority = authority<<8 | uint64(b)
	}
	var t strings.Builder
	if fmt.Fprintf(&t, "S-%d-", s[0]); authority < 1<<32 {
		fmt.Fprintf(&t, "%d", authority)
	} else {
		fmt.Fprintf(&t, "0x%012X", authority)
	}
	for b := []byte(s[8:]); len(b) >= 4; b = b[4:] {
		fmt.Fprintf(&t, "-%d", uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16|uint32(b[3])<<24)
	}
	return t.String()
}
