package server

import (
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// requestResiliency is FSCTL_LMR_REQUEST_RESILIENCY, [MS-SMB2] 3.3.5.15.9: the open
// outlives its connection whatever its oplock or lease. Where durable handles are
// turned off, and for who logged on as nobody in particular, there is no such thing.
func (r *request) requestResiliency(o *open, in []byte) ntstatus.Status {
	limit, owner := r.srv.cfg.MaxDurableTimeout, r.sess.userKey()
	switch {
	case r.conn.dialect == Dialect202:
		return ntstatus.InvalidDeviceRequest
	case o.isPipe, o.isDir, owner == "", r.tree.share.NoDurable, limit < 0:
		return ntstatus.NotSupported
	}
	m, err := smb2.ParseNetworkResiliencyRequest(in)
	timeout := time.Duration(m.Timeout) * time.Millisecond
	if err != nil || timeout > limit {
		return ntstatus.InvalidParameter
	}
	if timeout == 0 {
		timeout = min(resilientTimeout, limit)
	}
	t := &r.srv.durables
	t.mu.Lock()
	defer t.mu.Unlock()
	o.durable.kind, o.durable.timeout, o.durable.owner = resilient, timeout, owner
	return ntstatus.Success
}
