package server

import (
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Access rights that take part in sharing, [MS-FSA] 2.1.5.1.2.2.
const (
	sharesRead   = smb2.FileReadData | smb2.FileExecute
	sharesWrite  = smb2.FileWriteData | smb2.FileAppendData
	sharesDelete = smb2.Delete
	sharesAny    = sharesRead | sharesWrite | sharesDelete
)

// shareConflict reports whether opens with these access masks exclude each
// other: one wants what the other does not share. Opens for metadata only take
// no part in it.
func shareConflict(access smb2.AccessMask, share smb2.ShareAccess, access2 smb2.AccessMask, share2 smb2.ShareAccess) bool {
	if access&sharesAny == 0 || access2&sharesAny == 0 {
		return false
	}
	refuses := func(access smb2.AccessMask, share smb2.ShareAccess) bool {
		return access&sharesRead != 0 && share&smb2.FileShareRead == 0 ||
			access&sharesWrite != 0 && share&smb2.FileShareWrite == 0 ||
			access&sharesDelete != 0 && share&smb2.FileShareDelete == 0
	}
	return refuses(access, share2) || refuses(access2, share)
}

// Rights with which an open takes nothing from oplocks, and from leases: [MS-FSA]
// 2.1.4.12, case OPEN.
const (
	oplockStatAccess = smb2.FileReadAttributes | smb2.FileWriteAttributes | smb2.Synchronize
	leaseStatAccess  = oplockStatAccess | smb2.ReadControl
)

func isOplockStat(access smb2.AccessMask) bool { return access&^oplockStatAccess == 0 }
func isLeaseStat(access smb2.AccessMask) bool  { return access&^leaseStatAccess == 0 }

// rivals is what the others who have an object open leave of caching rights to who
// opens it.
type rivals struct {
	any    bool // somebody else may use the content
	oplock bool // somebody has an oplock
	handle bool // somebody caches a handle
}

// admitLocked decides whether an open may be entered beside those there are, and
// takes from oplocks and leases what stands in its way:
//
//   - where it would violate their sharing, the handles that clients keep for no user
//     of their own (H): closing one may make room;
//   - else what they may write back (W), and where the content is going to be replaced
//     all of it.
//
// wait says that some of it has to be acknowledged first.
func (t *openTable) admitLocked(st *fileState, o *open, e *entry, b *breaks) (others rivals, wait bool, status ntstatus.Status) {
	access := o.access | e.need
	violates := false
	for _, p := range st.opens {
		if p.caching == nil && !isOplockStat(p.access) {
			others.any = true
		}
		violates = violates || shareConflict(access, o.shareAccess, p.access, p.shareAccess)
	}
	take := cacheW
	if violates {
		take = cacheH
	}
	for _, c := range st.cachings {
		if c.sharesLease(&e.caching) {
			continue
		}
		if !isOplockStat(access) && !(c.isLease && isLeaseStat(access)) {
			wait = t.takeLocked(c, take, e, b) || wait
		}
		others.any = true
		others.oplock = others.oplock || !c.isLease && c.held != 0
		others.handle = others.handle || c.held&cacheH != 0
	}
	switch {
	case wait:
		return others, true, ntstatus.Success
	case violates:
		return others, false, ntstatus.SharingViolation
	}
	return others, false, ntstatus.Success
}

// takeLocked breaks what an open takes from one oplock or lease, and reports whether it
// has to wait for that.
func (t *openTable) takeLocked(c *caching, take smb2.LeaseState, e *entry, b *breaks) (wait bool) {
	keep := c.held &^ take
	if e.overwrites && take == cacheW {
		keep = 0
	}
	if keep == c.held {
		return c.breaking
	}
	if !c.isLease {
		keep &= cacheR
	}
	wait = c.held&take != 0 || c.breaking && e.again
	t.breakLocked(c, keep, b)
	return wait
}
