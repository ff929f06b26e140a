package server

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// # Order
//
// Requests are served side by side, and clients that send several without waiting
// must not care in which order that happens. They do care about CLOSE: one may
// follow a READ or a SET_INFO on the same file at once, and the file must not be
// gone before these have begun, nor be deleted before they are done. So CLOSE
// waits for the requests on its file that came before it and have not gone
// asynchronous. And they do care about names: a CREATE that follows a rename finds what
// that has made of them, or it still waiting for somebody else.

// noteFile takes note of the file that a request names, for CLOSE to compare.
// Requests that name the file of another element are served after that anyhow.
func (r *request) noteFile() {
	r.fileID, r.number, r.renames = smb2.AnyFileID, r.hdr.ChannelSequence, false
	if r.unknown {
		return
	}
	if off := fileIDOffset[r.hdr.Command]; off != 0 && len(r.msg) >= smb2.HeaderSize+off+16 && r.hdr.Command != smb2.CommandClose {
		b := r.msg[smb2.HeaderSize+off:]
		r.fileID = smb2.FileID{Persistent: le.Uint64(b), Volatile: le.Uint64(b[8:])}
	}
	if r.hdr.Command == smb2.CommandSetInfo && len(r.msg) >= smb2.HeaderSize+4 {
		typ, class := smb2.InfoType(r.msg[smb2.HeaderSize+2]), smb2.FileInfoClass(r.msg[smb2.HeaderSize+3])
		r.renames = typ == smb2.InfoFile &&
			(class == smb2.ClassFileRenameInformation || class == smb2.ClassFileRenameInformationEx)
	}
}

// settledLocked wakes those who wait for a request to be over or asynchronous.
// The caller holds reqMu.
func (c *conn) settledLocked() {
	if c.settled != nil {
		close(c.settled)
		c.settled = nil
	}
}

// awaitEarlier waits until no request on the file is being served that came before
// r and is not waiting for something itself.
func (c *conn) awaitEarlier(ctx context.Context, r *request, id smb2.FileID) {
	c.awaitSettled(ctx, r, func(q *request) bool { return q.fileID == id })
}

// awaitRenames is awaitEarlier for all requests that rename something.
func (c *conn) awaitRenames(ctx context.Context, r *request) {
	if c.renaming.Load() > 0 {
		c.awaitSettled(ctx, r, func(q *request) bool { return q.renames && !q.held })
	}
}

// hold says that the request waits for somebody else though it has not gone
// asynchronous.
func (c *conn) hold(r *request) {
	c.reqMu.Lock()
	r.held = true
	c.settledLocked()
	c.reqMu.Unlock()
}

func (c *conn) awaitSettled(ctx context.Context, r *request, concerns func(*request) bool) {
	c.awaitRequests(ctx, r, func(q *request) bool {
		return concerns(q) && q.sid == r.sid && q.asyncID == 0 && q.hdr.MessageID < r.hdr.MessageID && q.chain != r.chain
	})
}

// awaitRequests has r wait until no request on the connection, which may be another than
// its own, concerns it. concerns is called with reqMu held.
func (c *conn) awaitRequests(ctx context.Context, r *request, concerns func(*request) bool) {
	for {
		var wait chan struct{}
		c.reqMu.Lock()
		for _, q := range c.requests {
			if concerns(q) {
				if c.settled == nil {
					c.settled = make(chan struct{})
				}
				wait = c.settled
				break
			}
		}
		c.reqMu.Unlock()
		if wait == nil {
			return
		}
		r.chain.mayWait()
		select {
		case <-wait:
		case <-ctx.Done():
			return
		}
	}
}
