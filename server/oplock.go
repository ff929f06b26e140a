package server

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// oplockBreak serves OPLOCK_BREAK acknowledgments, [MS-SMB2] 3.3.5.22.
func oplockBreak(_ context.Context, r *request) ntstatus.Status {
	if smb2.IsLeaseBreak(r.msg) {
		return leaseAcknowledged(r)
	}
	ack, err := smb2.ParseOplockBreakAcknowledgment(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(ack.FileID)
	if st != ntstatus.Success {
		return st
	}
	defer o.release()
	c := o.caching
	if c == nil {
		return ntstatus.InvalidDeviceState // Open.OplockState is not Breaking
	}
	var b breaks
	t := &r.srv.files
	t.mu.Lock()
	switch {
	case c.isLease:
		st = ntstatus.InvalidParameter
	case !c.breaking:
		st = ntstatus.InvalidOplockProtocol
	case ack.OplockLevel == smb2.OplockLevelII && c.requested&cacheR != 0:
		t.acknowledgeLocked(c, cacheR, &b)
	case ack.OplockLevel == smb2.OplockLevelII, ack.OplockLevel == smb2.OplockLevelNone,
		ack.OplockLevel == smb2.OplockLevelExclusive && c.held == cacheRWH:
		t.endBreakLocked(c, 0, &b)
	case ack.OplockLevel == smb2.OplockLevelLease:
		t.endBreakLocked(c, 0, &b)
		st = ntstatus.InvalidParameter
	default:
		t.endBreakLocked(c, 0, &b)
		st = ntstatus.InvalidOplockProtocol
	}
	// What is left of it may be broken again in this moment.
	resp := smb2.OplockBreakResponse{OplockLevel: smb2.OplockLevelNone, FileID: o.id}
	if c.held&cacheR != 0 || len(b.notices) > 0 {
		resp.OplockLevel = smb2.OplockLevelII
	}
	t.mu.Unlock()
	r.afterwards(&b)
	if st != ntstatus.Success {
		return st
	}
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}

// leaseAcknowledged is 3.3.5.22.2.
func leaseAcknowledged(r *request) ntstatus.Status {
	ack, err := smb2.ParseLeaseBreakAcknowledgment(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	var b breaks
	t := &r.srv.files
	t.mu.Lock()
	c := t.leases[leaseKey{r.conn.clientGUID, ack.LeaseKey}]
	st := ntstatus.Success
	switch {
	case c == nil:
		st = ntstatus.ObjectNameNotFound
	case !c.breaking:
		st = ntstatus.Unsuccessful
	case ack.LeaseState&^c.requested != 0:
		st = ntstatus.RequestNotAccepted
	default:
		t.acknowledgeLocked(c, ack.LeaseState, &b)
	}
	t.mu.Unlock()
	if st != ntstatus.Success {
		return st
	}
	r.afterwards(&b)
	resp := smb2.LeaseBreakResponse(ack)
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}
