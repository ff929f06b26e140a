package server

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// oplockBreak serves OPLOCK_BREAK acknowledgments, [MS-SMB2] 3.3.5.22. This
// version grants neither oplocks nor leases, so nothing is ever being broken and
// every acknowledgment is out of place.
func oplockBreak(_ context.Context, r *request) ntstatus.Status {
	if smb2.IsLeaseBreak(r.msg) {
		if _, err := smb2.ParseLeaseBreakAcknowledgment(r.msg); err != nil {
			return ntstatus.InvalidParameter
		}
		return ntstatus.ObjectNameNotFound // no lease has that key, 3.3.5.22.2
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
	if ack.OplockLevel == smb2.OplockLevelLease {
		return ntstatus.InvalidParameter // 3.3.5.22.1
	}
	if ack.OplockLevel == smb2.OplockLevelExclusive || ack.OplockLevel == smb2.OplockLevelBatch {
		return ntstatus.InvalidOplockProtocol
	}
	return ntstatus.InvalidDeviceState // Open.OplockState is not Breaking
}
