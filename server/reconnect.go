package server

import (
	"context"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// durableRequest is what the create contexts of a CREATE say about durable opens.
type durableRequest struct {
	v1, v2, again1, again2 bool // DHnQ, DH2Q, DHnC, DH2C

	timeout    uint32       // of DH2Q, in milliseconds
	createGUID smb2.GUID    // of DH2Q or DH2C
	flags      uint32       // likewise
	fileID     smb2.FileID  // of DHnC or DH2C
	app        *appInstance // nil without one
}

// parse notes a create context if it is one of those; err says that it is malformed.
// Those of version 2 and of application instances mean nothing before dialect 3.0.
func (d *durableRequest) parse(cc smb2.CreateContext, dialect uint16) (err error) {
	name := string(cc.Name)
	switch name {
	case smb2.CreateContextDurableHandle:
		d.v1 = true
		_, err = smb2.ParseDurableHandleRequest(cc.Data)
		return err
	case smb2.CreateContextDurableHandleReconnect:
		d.again1 = true
		m, err := smb2.ParseDurableHandleReconnect(cc.Data)
		d.fileID = m.FileID
		return err
	}
	if dialect < Dialect300 {
		return nil
	}
	switch name {
	case smb2.CreateContextDurableHandleV2:
		d.v2 = true
		m, err := smb2.ParseDurableHandleRequestV2(cc.Data)
		d.timeout, d.flags, d.createGUID = m.Timeout, m.Flags, m.CreateGUID
		return err
	case smb2.CreateContextDurableHandleV2Reconn:
		d.again2 = true
		m, err := smb2.ParseDurableHandleReconnectV2(cc.Data)
		d.fileID, d.flags, d.createGUID = m.FileID, m.Flags, m.CreateGUID
		return err
	case smb2.CreateContextAppInstanceID:
		m, err := smb2.ParseAppInstanceIDContext(cc.Data)
		d.appInstance().id = m.AppInstanceID
		return err
	case smb2.CreateContextAppInstanceVersion:
		if dialect < Dialect311 {
			return nil
		}
		m, err := smb2.ParseAppInstanceVersionContext(cc.Data)
		a := d.appInstance()
		a.versioned, a.high, a.low = true, m.AppInstanceVersionHigh, m.AppInstanceVersionLow
		return err
	}
	return nil
}

func (d *durableRequest) appInstance() *appInstance {
	if d.app == nil {
		d.app = &appInstance{}
	}
	return d.app
}

// check refuses combinations that make no sense, [MS-SMB2] 3.3.5.9.6, 3.3.5.9.7,
// 3.3.5.9.10 and 3.3.5.9.12. What DHnQ says beside DHnC is ignored.
func (d *durableRequest) check() ntstatus.Status {
	if d.v1 && (d.v2 || d.again2) || d.again1 && (d.v2 || d.again2) || d.v2 && d.again2 {
		return ntstatus.InvalidParameter
	}
	if d.again1 {
		d.v1 = false
	}
	return ntstatus.Success
}

// reconnects reports whether the CREATE asks for an open that there is.
func (d *durableRequest) reconnects() bool { return d.again1 || d.again2 }

// persistent reports whether the CREATE asks for a persistent open where there can be
// one.
func (d *durableRequest) persistent(r *request) bool {
	return (d.v2 || d.again2) && d.flags&smb2.DHandleFlagPersistent != 0 && r.tree.continuous(r.conn) && r.sess.userKey() != ""
}

// continuous reports whether opens in the tree can be persistent.
func (t *tree) continuous(c *conn) bool {
	return t.share.ContinuousAvailability && c.serverCaps&smb2.GlobalCapPersistentHandles != 0
}

// initDurable notes who makes the open, for those who will want it back.
func (c *creation) initDurable(r *request, o *open) {
	d, q := &o.durable, &c.ctxs.durable
	d.client, d.createGUID = r.conn.clientGUID, q.createGUID
	d.asked = askedFor(&c.req)
	if q.app != nil {
		d.app = *q.app
	}
}

// grantDurable makes the open durable or persistent, if that was asked for and can be:
// "Successful Open Initialization" of [MS-SMB2] 3.3.5.9.6 and 3.3.5.9.10.
func (c *creation) grantDurable(r *request, o *open) {
	d, q, limit := &o.durable, &c.ctxs.durable, r.srv.cfg.MaxDurableTimeout
	owner := r.sess.userKey()
	if !q.v1 && !q.v2 || o.isDir || o.isLink || limit < 0 || owner == "" {
		return
	}
	kind, timeout := durableV1, durableV1Timeout
	if q.v2 {
		kind, timeout = durableV2, time.Duration(q.timeout)*time.Millisecond
		if timeout == 0 {
			timeout = durableV2Timeout
		}
	}
	persistent := q.persistent(r)
	if !persistent && (r.tree.share.NoDurable || !o.cachesHandle()) {
		return
	}
	r.srv.files.mu.Lock()
	d.persistent = persistent
	r.srv.durables.mu.Lock()
	d.kind, d.timeout, d.owner = kind, min(timeout, limit), owner
	r.srv.durables.mu.Unlock()
	r.srv.files.mu.Unlock()
}

// durableContexts appends to the response what was granted, [MS-SMB2] 2.2.14.2.3 and
// 2.2.14.2.12. A CREATE that finds an open of an earlier connection is not told again,
// as on Windows since version 8.
func (c *creation) durableContexts(o *open, resp *smb2.CreateResponse) (err error) {
	q := &c.ctxs.durable
	if !q.v1 && !q.v2 {
		return nil
	}
	t := &o.srv.durables
	t.mu.Lock()
	kind, timeout := o.durable.kind, o.durable.timeout
	t.mu.Unlock()
	switch {
	case q.v1 && kind == durableV1:
		data, _ := (&smb2.DurableHandleResponse{}).AppendBinary(nil)
		resp.Contexts, err = smb2.AppendCreateContext(resp.Contexts, smb2.CreateContextDurableHandle, data)
	case q.v2 && (kind == durableV2 || o.durable.persistent):
		// Who sends a CREATE again is told what it would have been granted by that.
		if c.replayed && !o.durable.persistent &&
			c.req.RequestedOplockLevel != smb2.OplockLevelBatch && c.req.RequestedOplockLevel != smb2.OplockLevelLease {
			return nil
		}
		m := smb2.DurableHandleResponseV2{Timeout: uint32(timeout.Milliseconds())}
		if o.durable.persistent {
			m.Flags = smb2.DHandleFlagPersistent
		}
		data, _ := m.AppendBinary(nil)
		resp.Contexts, err = smb2.AppendCreateContext(resp.Contexts, smb2.CreateContextDurableHandleV2, data)
	}
	return err
}

// reconnect serves a CREATE that asks for an open that was left behind by an earlier
// connection, [MS-SMB2] 3.3.5.9.7 and 3.3.5.9.12.
func (c *creation) reconnect(ctx context.Context, r *request) ntstatus.Status {
	q, t := &c.ctxs.durable, &r.srv.durables
	claim := func() *open {
		o := t.claim(q.fileID.Persistent)
		if o == nil && q.persistent(r) {
			o = t.claimPersistent(q.createGUID)
		}
		return o
	}
	o := claim()
	if o == nil && r.awaitDeparted(ctx, r.srv.sessionWith(r.sess.userKey(), q.fileID.Persistent, q.createGUID)) {
		o = claim()
	}
	if o == nil {
		return ntstatus.ObjectNameNotFound
	}
	return c.attach(ctx, r, o, c.checkReconnect(r, o))
}

// checkReconnect says whether the open that the caller has claimed is for this client.
func (c *creation) checkReconnect(r *request, o *open) ntstatus.Status {
	q, d := &c.ctxs.durable, &o.durable
	switch {
	case q.again2 && d.createGUID != q.createGUID,
		q.again2 && d.persistent && q.flags&smb2.DHandleFlagPersistent == 0,
		o.tree.share.Name != r.tree.share.Name,
		o.access&^r.tree.rights() != 0, // the share is not what it was
		!o.outlives(false):
		return ntstatus.ObjectNameNotFound
	}
	if st := c.checkLease(r, o); st != ntstatus.Success {
		return st
	}
	switch {
	case q.again2 && !d.persistent && q.flags&smb2.DHandleFlagPersistent != 0:
		return ntstatus.InvalidParameter
	case d.owner != r.sess.userKey():
		return ntstatus.AccessDenied
	}
	return ntstatus.Success
}

// checkLease says whether the CREATE names the lease that the open has.
func (c *creation) checkLease(r *request, o *open) ntstatus.Status {
	l := c.ctxs.lease
	key, leased := o.leaseKey()
	switch {
	case leased != (l != nil):
		return ntstatus.ObjectNameNotFound
	case !leased:
		return ntstatus.Success
	case o.durable.client != r.conn.clientGUID, l.LeaseKey != key, l.Version != o.caching.version:
		return ntstatus.ObjectNameNotFound
	}
	// A file that goes with the open may have lost its name already.
	if name, st := parseName(c.req.Name, false); st != ntstatus.Success ||
		foldName(name.path) != foldName(o.path()) && !o.deletes() {
		return ntstatus.InvalidParameter
	}
	return ntstatus.Success
}

// deletes reports whether the file is to be deleted when the open is closed.
func (o *open) deletes() bool {
	o.srv.files.mu.Lock()
	defer o.srv.files.mu.Unlock()
	return o.deleteOnClose || o.pendingLocked()
}

// attach hands an open that the caller has claimed to the session of the request, and
// answers with it; or puts it back, if st is an error or the session cannot take it.
func (c *creation) attach(ctx context.Context, r *request, o *open, st ntstatus.Status) ntstatus.Status {
	s := r.srv
	if st == ntstatus.Success {
		st = r.reserveOpen()
	}
	if st != ntstatus.Success {
		s.restore(o)
		return st
	}
	if !o.awaitQuiet(ctx, reclaimGrace) {
		r.sess.opens.unreserve()
		s.restore(o)
		return ntstatus.FileNotAvailable
	}
	select {
	case <-o.closing: // by what its old session had under way
		s.files.mu.Unlock()
		r.sess.opens.unreserve()
		o.release()
		return ntstatus.ObjectNameNotFound
	default:
	}
	o.sess, o.tree, o.sequence = r.sess, r.tree, &channelSequence{current: r.hdr.ChannelSequence}
	o.id.Volatile = newFileID().Volatile
	known := r.sess.opens.add(o)
	o.durable.detached.Store(!known)
	if k := o.caching; known && k != nil && !k.isLease {
		k.announced = false // a break would name the open by an id that the client does not know
	}
	s.files.mu.Unlock()
	if !known {
		s.restore(o)
		return ntstatus.UserSessionDeleted
	}
	defer o.release()
	r.announce(o)
	if !c.replayed {
		o.endReplay() // who knows the FileId has had the answer
	}
	switch {
	case r.sess.gone.Load(): // before the open could be seen to be its
		if !s.detach(o) {
			o.shut(context.WithoutCancel(ctx))
		}
		return ntstatus.UserSessionDeleted
	case r.tree.gone.Load():
		o.shut(context.WithoutCancel(ctx))
		return ntstatus.NetworkNameDeleted
	}
	info, err := o.stat(ctx)
	if err != nil { // the client will not learn its FileId
		if !s.detach(o) {
			o.shut(context.WithoutCancel(ctx))
		}
		return ntstatus.FromError(err)
	}
	r.setOpen(o)
	c.queryMaximal(ctx, o, &info)
	action := smb2.FileOpened
	if c.replayed {
		action = o.action
	}
	return c.respond(r, o, &info, action)
}

// claimReplayed claims the persistent open that a CREATE made whose answer was lost
// with the client's only connection: 3.3.5.9, the second search of "Create Context
// Validation". Nil if there is none.
func (c *creation) claimReplayed(r *request) *open {
	q := &c.ctxs.durable
	if r.hdr.Flags&smb2.FlagReplayOperation == 0 || !q.v2 || !q.persistent(r) {
		return nil
	}
	c.replayed = true
	o := r.srv.durables.claimPersistent(q.createGUID)
	if o == nil {
		c.replayed = false
	}
	return o
}

// checkReplayed says whether the CREATE is the one that made the persistent open.
func (c *creation) checkReplayed(r *request, o *open) ntstatus.Status {
	switch {
	case o.durable.owner != r.sess.userKey():
		return ntstatus.AccessDenied
	case o.durable.asked != askedFor(&c.req), o.tree.share.Name != r.tree.share.Name:
		return ntstatus.ContextMismatch
	}
	return c.checkReplayLease(o)
}

// createParameters are those of a CREATE by which it is known again.
type createParameters struct {
	access  smb2.AccessMask
	share   smb2.ShareAccess
	options smb2.CreateOptions
}

func askedFor(q *smb2.CreateRequest) createParameters {
	return createParameters{q.DesiredAccess, q.ShareAccess, q.CreateOptions &^ (ignoredOptions | smb2.FileWriteThrough)}
}

// checkReplayLease says whether a CREATE that is sent again may name the lease that it
// names: only that of the open, [MS-SMB2] 3.3.5.9.
func (c *creation) checkReplayLease(o *open) ntstatus.Status {
	if c.req.RequestedOplockLevel != smb2.OplockLevelLease || c.ctxs.lease == nil {
		return ntstatus.Success
	}
	if key, leased := o.leaseKey(); !leased || key != c.ctxs.lease.LeaseKey {
		return ntstatus.AccessDenied
	}
	return ntstatus.Success
}
