package server

import (
	"context"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// handler serves one command. It may block. When it returns Success, or a
// warning that comes with data ([request.warnData]), it has appended its
// response body to r.out; for every other status the dispatcher drops what was
// appended and sends an ERROR response, with r.errData as its ErrorData if set.
type handler func(ctx context.Context, r *request) ntstatus.Status

// request is one SMB2 request: an element of a chain, which is what came in one
// transport message. It belongs to the goroutine that serves the chain, but for
// the fields that say otherwise.
type request struct {
	srv  *Server
	conn *conn
	sess *session // nil where the command has none
	tree *tree    // nil where the command has none

	hdr     smb2.Header
	msg     []byte // header and body of this element, borrowed until the handler returns
	out     []byte // response body of this element: handlers append to it
	errData []byte // ErrorData of an ERROR response
	related *open  // the open of an earlier element of a related chain, or nil

	// warnData lets a status other than Success go out with r.out as its body.
	// BufferOverflow and MoreProcessingRequired do so without asking.
	warnData bool

	// tail is payload that follows out in the response without being copied into
	// it; its length must be in the body already. tailBuf is given back after it
	// has been sent.
	tail    []byte
	tailBuf *ioBuf
	// fileTail is payload that goes from the page cache, in the place of tail.
	fileTail transport.Tail

	chain      *chain
	ch         *channel // of sess on this connection
	encrypted  bool     // the request came encrypted
	signedOK   bool     // the request was signed and its signature verified
	isCancel   bool
	unknown    bool   // there is no such command
	sid        uint64 // the session that the request claims, for CANCEL; does not change
	invalidate uint32 // token that the final response invalidates, if hasInval
	hasInval   bool
	signer     *smbcrypto.Signer     // signs the response whatever the session says
	noSign     bool                  // an interim response, see responseSigner
	onSend     func(parts ...[]byte) // is called with the response as it goes out, once

	sequence *channelSequence // of the open that the request is counted with

	ctx     reqCtx
	asyncID uint64      // guarded by conn.reqMu; 0 until goAsync
	fileID  smb2.FileID // see noteFile; written before others can see the request
	number  uint16      // ChannelSequence; likewise
	renames bool        // it renames something; likewise
	held    bool        // guarded by conn.reqMu: see hold
	lasts   bool        // see makeLasting; guarded by conn.reqMu
	pending bool        // an interim response has been sent; owned by the serving goroutine
	respHdr [smb2.HeaderSize]byte
	outBuf  []byte // backing of out, kept for the next request
}

// open finds the open that a request names and takes a reference, which the
// caller drops by o.release(). In a related chain all ones mean the open of the
// element before ([MS-SMB2] 3.3.5.2.7.2).
func (r *request) open(id smb2.FileID) (*open, ntstatus.Status) {
	if r.related != nil && id == smb2.AnyFileID {
		o := r.related
		if o.sess != r.sess || o.tree != r.tree || !o.acquire() {
			return nil, ntstatus.FileClosed
		}
		select {
		case <-o.closing:
			o.release()
			return nil, ntstatus.FileClosed
		default:
		}
		return r.found(o)
	}
	o := r.sess.opens.get(id)
	if o == nil {
		return nil, ntstatus.FileClosed
	}
	if o.tree != r.tree {
		o.release()
		return nil, ntstatus.FileClosed
	}
	r.setOpen(o)
	return r.found(o)
}

// found is the last step of open: an open that is there may still not be for a
// request that comes too late.
func (r *request) found(o *open) (*open, ntstatus.Status) {
	// What a compound does with its own open does not say that the client has had
	// the answer to the CREATE.
	if r.hdr.Command != smb2.CommandClose && o != r.related {
		o.endReplay()
	}
	if st := r.beginSequence(o); st != ntstatus.Success {
		o.release()
		return nil, st
	}
	return o, ntstatus.Success
}

// setOpen tells the chain which open the elements after this one mean by all
// ones. CREATE calls it; open does so itself.
func (r *request) setOpen(o *open) {
	if len(r.chain.reqs) > 1 {
		r.chain.setOpen(o)
	}
}

// room is how many octets of response body, beyond its fixed part, fit the
// connection: an answer that the client left space for may still be too long
// for SMB Direct.
func (r *request) room() int { return r.conn.maxPayload }

// appended is the end of a handler that has appended its response: an encoding
// error is ours.
func (r *request) appended(err error) ntstatus.Status {
	if err != nil {
		r.conn.log.Error("response cannot be encoded", "op", r.hdr.Command, "err", err)
		return ntstatus.InternalError
	}
	return ntstatus.Success
}

// goAsync sends the interim response, once, and gives the request an AsyncId:
// it may wait for as long as it takes then, until its ctx ends. ctx is cancelled
// by SMB2 CANCEL, LOGOFF, TREE_DISCONNECT and the end of the connection; CLOSE
// closes the open's closing channel. InsufficientResources says that the
// connection has too many of them.
func (r *request) goAsync() ntstatus.Status { return r.conn.goAsync(r) }

// reqCtx is the context of a request, without the allocations of
// context.WithCancel: its channel is made when somebody asks for it.
type reqCtx struct {
	mu    sync.Mutex
	done  chan struct{}      // guarded by mu; nil until asked for
	ended bool               // guarded by mu
	after map[*func()]func() // guarded by mu
}

var _ context.Context = (*reqCtx)(nil)

// Deadline implements context.Context: there is none.
func (*reqCtx) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context: there are none.
func (*reqCtx) Value(any) any { return nil }

// Done implements context.Context.
func (c *reqCtx) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.ended {
			close(c.done)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *reqCtx) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return context.Canceled
	}
	return nil
}

// AfterFunc spares contexts derived from this one a goroutine each.
func (c *reqCtx) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		go f() // not here: the caller holds a lock that f takes
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = map[*func()]func(){}
	}
	key := &f
	c.after[key] = f
	c.mu.Unlock()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waiting := c.after[key]
		delete(c.after, key)
		return waiting
	}
}

func (c *reqCtx) cancel() {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended = true
	if c.done != nil {
		close(c.done)
	}
	after := c.after
	c.after = nil
	c.mu.Unlock()
	for _, f := range after {
		f()
	}
}
