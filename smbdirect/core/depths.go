package core

import "encoding/binary"

// ReadDepths is the IRD/ORD Negotiate Header, [MS-SMBD] 6.1: the first eight
// octets of the private data on iWARP. Depths are at most 255.
//
//	 0           4           8
//	+-----------+-----------+
//	|    IRD    |    ORD    |
//	+-----------+-----------+
type ReadDepths struct {
	IRD, ORD uint32
	// HostOrder: the peer wrote them in the order of its little-endian host.
	HostOrder bool
}

// ReadDepthsSize is the size of the header in octets.
const ReadDepthsSize = 8

const (
	// absurdDepth is a depth that no adapter has: RFC 6581 has 14 bits for it.
	absurdDepth = 1<<14 - 1
	maxDepth    = 255
)

// AppendBinary writes big-endian numbers. The text gives no order; this is the one
// that Windows and current Linux have. The error is always nil.
func (d ReadDepths) AppendBinary(b []byte) ([]byte, error) {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, d.IRD), d.ORD), nil
}

// ParseReadDepths reads the header of private data; ok is false if there is none.
// Older Linux on little-endian hosts writes its own order: a depth that makes no
// sense is read the other way round, and every depth is capped.
func ParseReadDepths(b []byte) (d ReadDepths, ok bool) {
	if len(b) < ReadDepthsSize {
		return d, false
	}
	one := func(b []byte) uint32 {
		v := binary.BigEndian.Uint32(b)
		if v > absurdDepth {
			if v = binary.LittleEndian.Uint32(b); v <= absurdDepth {
				d.HostOrder = true
			}
		}
		return min(v, maxDepth)
	}
	d.IRD, d.ORD = one(b), one(b[4:])
	return d, true
}

// AcceptReadDepths is 6.2 for the acceptor of a connection whose request has the
// header d and whose own limits are in and out, RDMA Reads that the peer and we
// may have under way. reads is how many of ours may be. Not ok is a request to
// reject: a depth of 0 in it. (A depth of 0 in RFC 6581's words is no reason: a
// cifs.ko never reads and says so there.)
//
// The reply has the same number twice, so that it does not matter from which side
// the peer takes the names.
func AcceptReadDepths(d ReadDepths, in, out int) (reads int, reply ReadDepths, ok bool) {
	if d.IRD == 0 || d.ORD == 0 {
		return 0, ReadDepths{}, false
	}
	reads = min(int(d.IRD), out)
	v := uint32(max(1, min(reads, in)))
	return reads, ReadDepths{IRD: v, ORD: v}, true
}

// ReplyReadDepths is 6.2 for the initiator: how many RDMA Reads the reply d leaves
// of limit. Its numbers are named from either side, depending on who wrote it, so
// the lesser of the two is safe; a 0 is a peer that filled in nothing.
func ReplyReadDepths(d ReadDepths, limit int) int {
	if n := min(d.IRD, d.ORD); n > 0 {
		return min(limit, int(n))
	}
	return limit
}

// PeerReadDepths tells what the private data of a connection request said, before
// the first message is received. It is a hint for the choice of the [Profile].
func (e *Engine) PeerReadDepths(d ReadDepths) { e.depths = d }
