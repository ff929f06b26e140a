package server

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// appInstance names the application that has an open, which may move from one machine
// to another: Open.AppInstanceId and Open.ApplicationInstanceVersion.
type appInstance struct {
	id        smb2.GUID // zero without one
	versioned bool
	high, low uint64
}

// supersedes reports whether a later incarnation a of the application may take the
// file from the one that has it: [MS-SMB2] 3.3.5.9.13.
func (a *appInstance) supersedes(old *appInstance, dialect uint16) bool {
	if !old.versioned || dialect < Dialect311 {
		return true
	}
	return a.versioned && (a.high > old.high || a.high == old.high && a.low > old.low)
}

// closeOtherInstances closes what the application has open of the file from another
// machine, before it opens it from this one: [MS-SMB2] 3.3.5.9.13.
func (c *creation) closeOtherInstances(ctx context.Context, r *request, by *open) ntstatus.Status {
	a := c.ctxs.durable.app
	if a == nil || a.id == (smb2.GUID{}) || c.ctxs.durable.reconnects() {
		return ntstatus.Success
	}
	// Only who may read the file may take it from others.
	f, _, err := by.fs.Open(ctx, c.name.path, vfs.OpenOptions{Access: vfs.AccessRead, Kind: vfs.KindFile})
	if err != nil {
		return ntstatus.Success // there is none, or CREATE will say why
	}
	info, err := f.Stat(ctx)
	var sec security
	if err == nil {
		sec, err = by.readSecurity(ctx, f, &info)
	}
	_ = f.Close() // nothing was written
	if err != nil {
		return ntstatus.FromError(err)
	}
	if sec.granted(r.tree.token())&smb2.FileReadData == 0 {
		return ntstatus.Success // CREATE will say so
	}
	var others []*open
	refused := false
	t := &r.srv.files
	t.mu.Lock()
	if st := t.files[objectKey{info.ID, foldName(c.name.stream)}]; st != nil {
		for _, o := range st.opens {
			if o.durable.app.id != a.id || o.durable.client == r.conn.clientGUID || o.tree.share.Name != r.tree.share.Name {
				continue
			}
			if !a.supersedes(&o.durable.app, r.conn.dialect) {
				refused = true
			} else if o.acquire() {
				others = append(others, o)
			}
		}
	}
	t.mu.Unlock()
	for _, o := range others {
		if refused {
			o.release()
		} else {
			o.putAway("closing files of another instance")
		}
	}
	if refused {
		return ntstatus.FileForcedClosed
	}
	return ntstatus.Success
}
