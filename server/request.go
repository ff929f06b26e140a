package server

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
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

	// warnData lets a warning go out with r.out as its body. BufferOverflow does
	// so without asking.
	warnData bool

	// tail is payload that follows out in the response without being copied into
	// it; its length must be in the body already. tailBuf is given back after it
	// has been sent.
	tail    []byte
	tailBuf *ioBuf

	chain      *chain
	encrypted  bool // the request came encrypted
	signedOK   bool // the request was signed and its signature verified
	invalidate transport.Descriptor
	hasInval   bool // the final response invalidates invalidate.Token

	ctx     reqCtx
	asyncID uint64 // guarded by conn.reqMu; 0 until goAsync
	charge  uint16 // credits that the request cost
	credits uint16 // credits granted by a response that is ready
	respHdr [smb2.HeaderSize]byte
	outBuf  []byte // backing of out, kept for the next request
}
