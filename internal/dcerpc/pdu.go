package dcerpc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxFragment is the longest PDU in bytes that is taken or sent. Peers offer 4280
// (Samba, Windows over SMB) or 5840 (Windows over TCP).
const MaxFragment = 5840

const (
	minFragment = 1432 // MustRecvFragSize of [C706] 12.6.2: any peer takes this
	headerSize  = 16
	maxContexts = 16 // presentation contexts of one association
)

// Errors of this package.
var (
	// ErrProtocol means a PDU or stub that is malformed or not the one that is due.
	// The association can't go on.
	ErrProtocol = errors.New("dcerpc: protocol error")
	// ErrNoPipe means a pipe name that nothing is behind.
	ErrNoPipe = errors.New("dcerpc: no such pipe")
	// ErrEmpty means that there is nothing to read from a pipe now.
	ErrEmpty = errors.New("dcerpc: pipe is empty")
	// ErrBusy means a transaction on a pipe that still has something to read.
	ErrBusy = errors.New("dcerpc: pipe has unread data")
	// ErrRefused means that the server does not serve an interface.
	ErrRefused = errors.New("dcerpc: interface refused")
)

// Fault is the status of a fault PDU, [C706] appendix E and [MS-RPCE] 3.3.3.5.
type Fault uint32

const (
	FaultAccessDenied    Fault = 0x00000005
	FaultBadStub         Fault = 0x000006F7 // RPC_X_BAD_STUB_DATA
	FaultContextMismatch Fault = 0x1C00001A
	FaultOpRange         Fault = 0x1C010002 // nca_s_op_rng_error
	FaultProtocol        Fault = 0x1C01000B // nca_s_proto_error
)

// Error implements error.
func (f Fault) Error() string { return fmt.Sprintf("dcerpc: fault 0x%08X", uint32(f)) }

// WinError is what an operation returned, other than success, [MS-ERREF] 2.2.
type WinError uint32

const (
	ErrorAccessDenied WinError = 5
	ErrorInvalidParam WinError = 87
	ErrorInvalidLevel WinError = 124
	ErrorMoreData     WinError = 234
	ErrorNoShare      WinError = 2310 // NERR_NetNameNotFound
)

// Error implements error.
func (e WinError) Error() string { return fmt.Sprintf("dcerpc: error %d of the server", uint32(e)) }

// PDU types, [C706] 12.6.3.1.
const (
	typeRequest   = 0
	typeResponse  = 2
	typeFault     = 3
	typeBind      = 11
	typeBindAck   = 12
	typeBindNak   = 13
	typeAlter     = 14
	typeAlterResp = 15
	typeCancel    = 18
	typeOrphaned  = 19
)

// Flags, [C706] 12.6.3.1.
const (
	flagFirst         = 0x01
	flagLast          = 0x02
	flagDidNotExecute = 0x20
	flagObject        = 0x80
)

// Syntax names an interface or a transfer syntax: a UUID in its wire form, and the
// version, minor in the upper half.
type Syntax struct {
	UUID    [16]byte
	Version uint32
}

// Interfaces and transfer syntaxes.
var (
	// SRVSVC is 4b324fc8-1670-01d3-1278-5a47bf6ee188 version 3.0, [MS-SRVS] 1.9.
	SRVSVC = Syntax{[16]byte{0xC8, 0x4F, 0x32, 0x4B, 0x70, 0x16, 0xD3, 0x01, 0x12, 0x78, 0x5A, 0x47, 0xBF, 0x6E, 0xE1, 0x88}, 3}
	// WKSSVC is 6bffd098-a112-3610-9833-46c3f87e345a version 1.0, [MS-WKST] 1.9.
	WKSSVC = Syntax{[16]byte{0x98, 0xD0, 0xFF, 0x6B, 0x12, 0xA1, 0x10, 0x36, 0x98, 0x33, 0x46, 0xC3, 0xF8, 0x7E, 0x34, 0x5A}, 1}

	// ndr is 8a885d04-1ceb-11c9-9fe8-08002b104860 version 2.0, [C706] appendix I.
	ndr = Syntax{[16]byte{0x04, 0x5D, 0x88, 0x8A, 0xEB, 0x1C, 0xC9, 0x11, 0x9F, 0xE8, 0x08, 0x00, 0x2B, 0x10, 0x48, 0x60}, 2}
	// bindTimeFeatures begins 6cb71c2c-9812-4540-…; the last 8 bytes are a bitmask,
	// [MS-RPCE] 2.2.2.14.
	bindTimeFeatures = [8]byte{0x2C, 0x1C, 0xB7, 0x6C, 0x12, 0x98, 0x40, 0x45}
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// header is the common header, [C706] 12.6.3.1:
//
//	0  version 5, minor 0 or 1      8  frag_length  u16
//	2  PDU type                    10  auth_length  u16
//	3  flags                       12  call_id      u32
//	4  data representation, 4 bytes, 0x10: little endian, ASCII, IEEE
type header struct {
	kind    byte
	flags   byte
	fragLen int
	authLen int
	callID  uint32
}

// parseHeader decodes the header of a PDU of which at least headerSize bytes are
// there; the PDU itself may be longer than b.
func parseHeader(b []byte) (header, error) {
	h := header{
		kind:    b[2],
		flags:   b[3],
		fragLen: int(binary.LittleEndian.Uint16(b[8:])),
		authLen: int(binary.LittleEndian.Uint16(b[10:])),
		callID:  binary.LittleEndian.Uint32(b[12:]),
	}
	switch {
	case b[0] != 5 || b[1] > 1:
		return h, malformed("version %d.%d", b[0], b[1])
	case b[4] != 0x10:
		return h, malformed("data representation 0x%02X", b[4])
	case h.fragLen < headerSize || h.fragLen > MaxFragment:
		return h, malformed("fragment of %d bytes", h.fragLen)
	}
	return h, nil
}

// begin appends a header to be completed by finish.
func begin(b []byte, kind, flags byte, callID uint32) []byte {
	b = append(b, 5, 0, kind, flags, 0x10, 0, 0, 0, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, callID)
}

// finish fills in the length of the only PDU in b.
func finish(b []byte) []byte {
	binary.LittleEndian.PutUint16(b[8:], uint16(len(b)))
	return b
}

// context is an element of p_cont_list_t, [C706] 12.6.3.1.
type context struct {
	id       uint16
	abstract Syntax
	transfer []Syntax
}

// bind is the body of bind and alter_context.
type bind struct {
	maxXmit, maxRecv uint16
	group            uint32
	contexts         []context
}

func parseBind(b []byte) (bind, error) {
	var m bind
	if len(b) < 12 {
		return m, malformed("bind of %d bytes", len(b))
	}
	m.maxXmit = binary.LittleEndian.Uint16(b)
	m.maxRecv = binary.LittleEndian.Uint16(b[2:])
	m.group = binary.LittleEndian.Uint32(b[4:])
	n := int(b[8])
	if n == 0 || n > maxContexts {
		return m, malformed("bind with %d contexts", n)
	}
	b = b[12:]
	for range n {
		if len(b) < 24 {
			return m, malformed("context of %d bytes", len(b))
		}
		c := context{id: binary.LittleEndian.Uint16(b), abstract: syntaxAt(b[4:])}
		k := int(b[2])
		b = b[24:]
		if len(b) < 20*k {
			return m, malformed("%d transfer syntaxes in %d bytes", k, len(b))
		}
		for i := range k {
			c.transfer = append(c.transfer, syntaxAt(b[20*i:]))
		}
		b = b[20*k:]
		m.contexts = append(m.contexts, c)
	}
	return m, nil
}

func syntaxAt(b []byte) Syntax {
	return Syntax{[16]byte(b[:16]), binary.LittleEndian.Uint32(b[16:])}
}

func appendSyntax(b []byte, s Syntax) []byte {
	return binary.LittleEndian.AppendUint32(append(b, s.UUID[:]...), s.Version)
}

// Results of p_cont_def_result_t and their reasons, [C706] 12.6.3.1 and, for the
// last, [MS-RPCE] 2.2.2.4.
const (
	resultAccept    = 0
	resultReject    = 2
	resultNegotiate = 3

	reasonNone     = 0
	reasonAbstract = 1
	reasonTransfer = 2
)

type result struct {
	result, reason uint16
	transfer       Syntax
}

// appendBindAck appends the body of bind_ack and alter_context_resp, behind the
// header of the only PDU in b: as the results are aligned in it, that matters.
func appendBindAck(b []byte, maxXmit, maxRecv uint16, group uint32, address string, results []result) []byte {
	b = binary.LittleEndian.AppendUint16(b, maxXmit)
	b = binary.LittleEndian.AppendUint16(b, maxRecv)
	b = binary.LittleEndian.AppendUint32(b, group)
	if address == "" {
		b = binary.LittleEndian.AppendUint16(b, 0)
	} else {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(address)+1))
		b = append(append(b, address...), 0)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b = append(b, byte(len(results)), 0, 0, 0)
	for _, r := range results {
		b = binary.LittleEndian.AppendUint16(b, r.result)
		b = binary.LittleEndian.AppendUint16(b, r.reason)
		b = appendSyntax(b, r.transfer)
	}
	return b
}

// parseBindAck decodes a whole bind_ack or alter_context_resp.
func parseBindAck(pdu []byte) (maxXmit, maxRecv uint16, results []result, err error) {
	if len(pdu) < headerSize+10 {
		return 0, 0, nil, malformed("bind_ack of %d bytes", len(pdu))
	}
	maxXmit = binary.LittleEndian.Uint16(pdu[headerSize:])
	maxRecv = binary.LittleEndian.Uint16(pdu[headerSize+2:])
	at := headerSize + 10 + int(binary.LittleEndian.Uint16(pdu[headerSize+8:]))
	at = (at + 3) &^ 3
	if at+4 > len(pdu) {
		return 0, 0, nil, malformed("bind_ack with an address up to %d of %d", at, len(pdu))
	}
	n := int(pdu[at])
	at += 4
	if n > maxContexts || at+24*n > len(pdu) {
		return 0, 0, nil, malformed("bind_ack with %d results", n)
	}
	for range n {
		results = append(results, result{
			result:   binary.LittleEndian.Uint16(pdu[at:]),
			reason:   binary.LittleEndian.Uint16(pdu[at+2:]),
			transfer: syntaxAt(pdu[at+4:]),
		})
		at += 24
	}
	return maxXmit, maxRecv, results, nil
}

// requestHeader is what follows the header of a request: alloc_hint u32, context
// u16, opnum u16, and an object UUID if the flags say so. A response and a fault
// have the same 8 bytes, with a cancel count in place of the opnum.
const requestHeaderSize = headerSize + 8
