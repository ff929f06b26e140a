package client

import (
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// # Data that is received where it belongs
//
// What a READ brings in a message of its own, not signed and not encrypted, the transport
// reads from the network into the caller's memory (transport.Placer). The caller takes
// the memory back before he goes away without the answer: the connection may still be
// in the middle of it.

// placeFor is the transport.PlaceFunc of a connection. Whatever it refuses is received whole,
// and judged then.
func (c *conn) placeFor(head []byte, n int) (int, *transport.Placement) {
	if smb2.PeekProtocolID(head) != smb2.ProtocolSMB2 {
		return 0, nil
	}
	h, err := smb2.ParseHeader(head)
	if err != nil || !h.IsResponse() || h.Command != smb2.CommandRead || h.Status != ntstatus.Success ||
		h.NextCommand != 0 || h.IsSigned() {
		return 0, nil
	}
	m, at, err := smb2.PeekReadResponse(head)
	if err != nil || m.Flags != 0 || m.DataLength == 0 || uint64(at)+uint64(m.DataLength) != uint64(n) {
		return 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.pending[h.MessageID]
	if k == nil || k.cmd != smb2.CommandRead || !k.onWire || k.gone || k.signed || k.encrypted || k.placed != 0 ||
		uint64(m.DataLength) > uint64(k.room) {
		return 0, nil
	}
	k.placed = int(m.DataLength)
	return at, &k.into
}

// lend lets the connection receive the data of a READ into p, and its beginning into a pipe
// if that is not nil.
func (k *call) lend(p []byte, pipe *transport.Pipe) {
	k.into.SetPiped(p, pipe)
	k.room = len(p)
}

// takeBack ends that for a call that failed. It is not used again: the connection may
// know it still, although it must not write any more.
func (k *call) takeBack() {
	if k.room > 0 {
		k.into.Revoke()
		k.spoiled = true
	}
}

// readPlaced is the answer to a READ whose data was received where it belongs; ok is
// false if it is in the message.
func (k *call) readPlaced() (n int, ok bool) {
	if k.in == nil || k.in.r.Placed == 0 {
		return 0, false
	}
	k.conn.counters.copied.Add(uint64(k.in.r.Copied))
	return k.in.r.Placed, true
}
