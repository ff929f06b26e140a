package iwarp

import (
	"encoding/binary"
	"fmt"
)

// RDMAP control octet, RFC 5040 §4.1: RV 2 bits, reserved 2 bits, opcode 4 bits.
const (
	rdmapVersion = 0x40
	rdmapVerMask = 0xC0
	rdmapOpMask  = 0x0F
)

// Opcodes, RFC 5040 Figure 4.
const (
	opWrite         = 0 // tagged
	opReadRequest   = 1 // queue 1
	opReadResponse  = 2 // tagged
	opSend          = 3 // queue 0, as the next three
	opSendInval     = 4
	opSendSE        = 5
	opSendSEInval   = 6
	opTerminate     = 7 // queue 2
	readRequestLen  = 28
	maxTerminateLen = 4 + 2 + untaggedLen + readRequestLen
)

// readRequest is the payload of a Read Request, RFC 5040 §4.4:
//
//	| SinkSTag 4 | SinkTO 8 | size 4 | SrcSTag 4 | SrcTO 8 |
type readRequest struct {
	sinkSTag uint32
	sinkTO   uint64
	size     uint32
	srcSTag  uint32
	srcTO    uint64
}

func (r *readRequest) put(b []byte) int {
	binary.BigEndian.PutUint32(b, r.sinkSTag)
	binary.BigEndian.PutUint64(b[4:], r.sinkTO)
	binary.BigEndian.PutUint32(b[12:], r.size)
	binary.BigEndian.PutUint32(b[16:], r.srcSTag)
	binary.BigEndian.PutUint64(b[20:], r.srcTO)
	return readRequestLen
}

// parseReadRequest reads 28 octets.
func parseReadRequest(b []byte) readRequest {
	_ = b[readRequestLen-1]
	return readRequest{
		sinkSTag: binary.BigEndian.Uint32(b),
		sinkTO:   binary.BigEndian.Uint64(b[4:]),
		size:     binary.BigEndian.Uint32(b[12:]),
		srcSTag:  binary.BigEndian.Uint32(b[16:]),
		srcTO:    binary.BigEndian.Uint64(b[20:]),
	}
}

// Layers of a Terminate, RFC 5040 §4.8.
const (
	layerRDMAP = 0
	layerDDP   = 1
	layerLLP   = 2
)

// cause is the layer, error type and code of a Terminate, RFC 5040 Figure 9.
type cause struct{ layer, etype, code byte }

// Causes, RFC 5040 Figure 9, RFC 5041 §7, RFC 5044 §8, RFC 6581 §9.
var (
	causeLocal = cause{layerRDMAP, 0, 0} // local catastrophic

	causeReadSTag   = cause{layerRDMAP, 1, 0x00}
	causeReadBounds = cause{layerRDMAP, 1, 0x01}
	causeReadAccess = cause{layerRDMAP, 1, 0x02}
	causeReadStream = cause{layerRDMAP, 1, 0x03}
	causeReadWrap   = cause{layerRDMAP, 1, 0x04}
	causeInvalidate = cause{layerRDMAP, 1, 0x09}

	causeVersion = cause{layerRDMAP, 2, 0x05}
	causeOpcode  = cause{layerRDMAP, 2, 0x06}

	causeUnsolicited   = cause{layerDDP, 0, 0x00}
	causeTaggedSTag    = cause{layerDDP, 1, 0x00}
	causeTaggedBounds  = cause{layerDDP, 1, 0x01}
	causeTaggedStream  = cause{layerDDP, 1, 0x02}
	causeTaggedWrap    = cause{layerDDP, 1, 0x03}
	causeTaggedVersion = cause{layerDDP, 1, 0x04}

	causeQN              = cause{layerDDP, 2, 0x01}
	causeNoBuffer        = cause{layerDDP, 2, 0x02}
	causeMSN             = cause{layerDDP, 2, 0x03}
	causeMO              = cause{layerDDP, 2, 0x04}
	causeTooLong         = cause{layerDDP, 2, 0x05}
	causeUntaggedVersion = cause{layerDDP, 2, 0x06}

	causeMPALost  = cause{layerLLP, 0, 0x01}
	causeMPACRC   = cause{layerLLP, 0, 0x02}
	causeMPALen   = cause{layerLLP, 0, 0x03}
	causeMPALocal = cause{layerLLP, 0, 0x05} // RFC 6581 §8
	causeMPAIRD   = cause{layerLLP, 0, 0x06}
	causeMPARTR   = cause{layerLLP, 0, 0x07}
)

var layerNames = [...]string{"RDMAP", "DDP", "MPA"}

// String prints layer/type/code.
func (c cause) String() string {
	if int(c.layer) < len(layerNames) {
		return fmt.Sprintf("%s/%d/%#02x", layerNames[c.layer], c.etype, c.code)
	}
	return fmt.Sprintf("%d/%d/%#02x", c.layer, c.etype, c.code)
}

// known reports whether Figure 9 of RFC 5040 has the cause.
func (c cause) known() bool {
	switch [2]byte{c.layer, c.etype} {
	case [2]byte{layerRDMAP, 0}, [2]byte{layerDDP, 0}:
		return true
	case [2]byte{layerRDMAP, 1}:
		return c.code <= 4 || c.code == 9 || c.code == 0xFF
	case [2]byte{layerRDMAP, 2}:
		return c.code >= 5 && c.code <= 9 || c.code == 0xFF
	case [2]byte{layerDDP, 1}:
		return c.code <= 4
	case [2]byte{layerDDP, 2}:
		return c.code >= 1 && c.code <= 6
	case [2]byte{layerLLP, 0}:
		return c.code >= 1 && c.code <= 7
	}
	return false
}

// headers says which headers of the offending message the Terminate carries,
// RFC 5040 Figure 10: remote protection errors that of DDP and of the Read
// Request, other errors of RDMAP and DDP that of DDP, the rest none.
func (c cause) headers() (ddp, rdmap bool) {
	switch {
	case c.layer == layerRDMAP && c.etype == 1:
		return true, true
	case c.layer == layerRDMAP && c.etype == 2, c.layer == layerDDP && c.etype != 0:
		return true, false
	}
	return false, false
}

// Terminate control, RFC 5040 §4.8: octet 0 layer<<4 | type, octet 1 code, octet
// 2 M 0x80, D 0x40, R 0x20.
const (
	termM = 0x80
	termD = 0x40
	termR = 0x20
)

// offender is what a Terminate tells about the message that caused it.
type offender struct {
	valid   bool
	seg     segment
	ulpdu   int // octets of its ULPDU: the DDP Segment Length
	hasRead bool
	read    readRequest
}

// appendTerminate appends the payload of a Terminate.
func appendTerminate(b []byte, c cause, o *offender) []byte {
	ddp, rdmap := c.headers()
	ddp = ddp && o != nil && o.valid
	rdmap = rdmap && ddp && o.hasRead
	var flags byte
	if ddp {
		flags |= termM | termD
	}
	if rdmap {
		flags |= termR
	}
	b = append(b, c.layer<<4|c.etype, c.code, flags, 0)
	if ddp {
		b = binary.BigEndian.AppendUint16(b, uint16(o.ulpdu))
		var h [untaggedLen]byte
		b = append(b, h[:o.seg.put(h[:])]...)
	}
	if rdmap {
		var h [readRequestLen]byte
		b = append(b, h[:o.read.put(h[:])]...)
	}
	return b
}

// parseTerminate reads the control field of a received Terminate. Linux siw on
// little-endian hosts swaps the halves of octet 0 and puts M, D and R into the
// low bits: reserved low bits, or a combination that does not exist, show that
// form. ok is false if there is no control field; the connection ends all the
// same (RDMAP-31).
func parseTerminate(b []byte) (c cause, ok bool) {
	if len(b) < 4 {
		return cause{}, false
	}
	c = cause{b[0] >> 4, b[0] & 0x0F, b[1]}
	swapped := cause{c.etype, c.layer, c.code}
	if b[2]&0x07 != 0 || !c.known() && swapped.known() {
		c = swapped
	}
	return c, true
}
