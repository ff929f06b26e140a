package server

import (
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// register enters the requests of a chain in Connection.RequestList, so that
// CANCEL finds them. A MessageId that is there already has been received twice,
// which the sequence window does not let through, but for CANCEL, which is not
// entered.
func (c *conn) register(ch *chain) {
	c.reqMu.Lock()
	defer c.reqMu.Unlock()
	for i := range ch.reqs {
		if r := &ch.reqs[i]; !r.isCancel {
			r.noteFile()
			if r.renames {
				c.renaming.Add(1)
			}
			c.requests[r.hdr.MessageID] = r
		}
	}
}

// unregister takes a request out; it cannot be cancelled any more.
func (c *conn) unregister(r *request) {
	if r.isCancel {
		return
	}
	c.reqMu.Lock()
	defer c.reqMu.Unlock()
	if c.requests[r.hdr.MessageID] == r && r.renames {
		c.renaming.Add(-1)
	}
	delete(c.requests, r.hdr.MessageID)
	c.settledLocked()
	if r.asyncID != 0 {
		delete(c.async, r.asyncID)
	}
}

// attach notes whose request it is, for those who cancel by session or tree.
func (c *conn) attach(r *request, ch *channel, t *tree) {
	c.reqMu.Lock()
	defer c.reqMu.Unlock()
	r.ch, r.tree = ch, t
	r.sess = nil
	if ch != nil {
		r.sess = ch.sess
	}
}

// setTree makes t the tree of the request: of its response, and of the elements
// that follow in a related chain.
func (r *request) setTree(t *tree) {
	r.hdr.TreeID = t.id
	r.conn.attach(r, r.ch, t)
}

// setSession likewise makes ch the channel of the request.
func (r *request) setSession(ch *channel) {
	r.hdr.SessionID = ch.sess.id
	r.conn.attach(r, ch, nil)
}

// goAsync is [MS-SMB2] 3.3.4.2.
func (c *conn) goAsync(r *request) ntstatus.Status {
	if r.pending {
		return ntstatus.Success
	}
	if r != &r.chain.reqs[len(r.chain.reqs)-1] && r.hdr.Command != smb2.CommandCreate {
		// Those after it would have to wait. Windows too fails what cannot be
		// answered at once and is not the last, [MS-SMB2] 3.3.5.2.7, but for a CREATE
		// that waits for an oplock or lease to break.
		return ntstatus.InternalError
	}
	c.reqMu.Lock()
	if len(c.async) >= c.srv.cfg.Limits.AsyncPerConn {
		c.reqMu.Unlock()
		return ntstatus.InsufficientResources
	}
	c.lastAsync++
	r.asyncID = c.lastAsync
	c.async[r.asyncID] = r
	c.settledLocked()
	if c.draining {
		r.ctx.cancel()
	}
	c.reqMu.Unlock()
	r.chain.mayWait()
	// What waits for others must not keep those waiting who repeat what a lost
	// channel took with it: [MS-SMB2] 3.3.4.1 counts the interim response, which the
	// client may have acted on before sending it has returned.
	r.endSequence()
	r.chain.interim(r)
	r.pending = true
	r.chain.served() // AsyncPerConn bounds those that wait
	return ntstatus.Success
}

// cancelRequest is CANCEL, [MS-SMB2] 3.3.5.16. It has no answer, whatever
// happens.
func (c *conn) cancelRequest(r *request) {
	c.reqMu.Lock()
	defer c.reqMu.Unlock()
	var target *request
	if r.hdr.Flags&smb2.FlagAsyncCommand != 0 {
		target = c.async[r.hdr.AsyncID]
	} else {
		target = c.requests[r.hdr.MessageID]
	}
	// A session cancels its own requests only.
	if target != nil && target.sid == r.sid {
		target.ctx.cancel()
	}
}
