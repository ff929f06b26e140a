package dcerpc

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxRequest  = 64 << 10 // bytes of an assembled request stub
	maxResponse = 8 << 20  // bytes of a reply stub
	maxUnread   = 64 << 10 // bytes of replies beyond which nothing more is answered
)

// Handler answers calls for a server, to one caller. Its fields may not change once a
// pipe has been opened. The functions in it are called once for a call that needs
// them, by whoever writes to the pipe, and must not use the pipe; each may be nil.
type Handler struct {
	Server ServerInfo
	Caller Caller
	// Shares returns the shares that this caller may see, in an order that stays.
	Shares func() []Share
	// Directory knows users and groups. Without one there are neither lsarpc nor samr.
	Directory Directory
	// Sessions, Files and Connections are what others do, in an order that stays.
	Sessions    func() []Session
	Files       func() []File
	Connections func() []Connection
	// Now is the clock, nil for time.Now.
	Now func() time.Time

	groups atomic.Uint32 // association groups handed out
}

// operation answers one call: it reads its parameters and writes its results. The
// caller holds the pipe's mu.
type operation func(p *Pipe, r *reader, w *writer)

// service is an interface behind a pipe name.
type service struct {
	syntax    Syntax
	ops       map[uint16]operation
	directory bool // needs one
}

var services = map[string][]service{
	"srvsvc": {{syntax: SRVSVC, ops: srvsvcOps}},
	"wkssvc": {{syntax: WKSSVC, ops: wkssvcOps}},
	"lsarpc": {{syntax: LSARPC, ops: lsarpcOps, directory: true}, {syntax: DSSETUP, ops: dssetupOps}},
	"samr":   {{syntax: SAMR, ops: samrOps, directory: true}},
}

// Pipe is one open of a named pipe in message mode. It is safe for concurrent use.
type Pipe struct {
	h    *Handler
	name string

	mu       sync.Mutex
	broken   error              // guarded by mu; after a protocol error
	in       []byte             // guarded by mu; the beginning of a PDU
	out      [][]byte           // guarded by mu; PDUs to be read, the first in part
	unread   int                // guarded by mu; bytes in out
	contexts map[uint16]service // guarded by mu; what has been bound
	bound    bool               // guarded by mu
	fragment int                // guarded by mu; the longest PDU that the client takes
	group    uint32             // guarded by mu
	call     *call              // guarded by mu; a request of which fragments are due

	handles    map[contextHandle]object // guarded by mu
	lastHandle uint64                   // guarded by mu
}

type call struct {
	id      uint32
	context uint16
	opnum   uint16
	stub    []byte
}

// Open opens a pipe by its name in IPC$, in any case: "srvsvc", "wkssvc", "lsarpc" or
// "samr", also with "\pipe\" before it. Another name is an error that wraps [ErrNoPipe].
func (h *Handler) Open(name string) (*Pipe, error) {
	n := strings.ToLower(strings.TrimPrefix(name, `\`))
	n = strings.TrimPrefix(n, `pipe\`)
	if s, ok := services[n]; !ok || s[0].directory && h.Directory == nil {
		return nil, fmt.Errorf("%w: %q", ErrNoPipe, name)
	}
	return &Pipe{h: h, name: n, contexts: map[uint16]service{}, fragment: minFragment}, nil
}

// Name returns the name of the pipe, in lower case and without a path.
func (p *Pipe) Name() string { return p.name }

// Write takes a message of the client, one PDU or a part of it or several, and
// answers it as far as it is complete. An error wraps [ErrProtocol] and stays: the
// pipe is then to be closed. Writing on with more than maxUnread bytes of replies not
// yet read is such an error. b is not kept.
func (p *Pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.write(b)
}

func (p *Pipe) write(b []byte) (int, error) {
	n := len(b)
	for p.broken == nil {
		pdu := b
		if len(p.in) > 0 { // complete what is there before looking at it
			want := headerSize
			if len(p.in) >= headerSize {
				want = int(binary.LittleEndian.Uint16(p.in[8:]))
			}
			k := min(want-len(p.in), len(b))
			p.in = append(p.in, b[:k]...)
			b = b[k:]
			pdu = p.in
		}
		if len(pdu) < headerSize {
			p.in = append(p.in[:0], pdu...)
			return n, nil
		}
		h, err := parseHeader(pdu)
		if err != nil {
			p.broken = err
			break
		}
		if len(pdu) < h.fragLen {
			if len(p.in) == 0 {
				p.in = append(p.in, pdu...)
				return n, nil
			}
			if len(b) == 0 {
				return n, nil
			}
			continue // the header is there now, the rest is still in b
		}
		if len(p.in) == 0 {
			b = b[h.fragLen:]
		}
		if err := p.handle(h, pdu[:h.fragLen]); err != nil {
			p.broken = err
			break
		}
		p.in = p.in[:0]
		if len(b) == 0 {
			return n, nil
		}
	}
	p.in, p.call = nil, nil
	return 0, p.broken
}

// Read fills b from the reply that is due, at most one PDU at a time as message
// mode wants it. more means that the PDU has more than b takes, and that the rest
// comes with the next Read. Without anything to read the error wraps [ErrEmpty].
func (p *Pipe) Read(b []byte) (n int, more bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.out) == 0 {
		if p.broken != nil {
			return 0, false, p.broken
		}
		return 0, false, ErrEmpty
	}
	n = copy(b, p.out[0])
	p.unread -= n
	if n < len(p.out[0]) {
		p.out[0] = p.out[0][n:]
		return n, true, nil
	}
	p.out = p.out[1:]
	return n, false, nil
}

// Transact is Write and then Read of up to limit bytes, as FSCTL_PIPE_TRANSCEIVE
// is. If something is still to be read nothing is written, and the error wraps
// [ErrBusy].
func (p *Pipe) Transact(in []byte, limit int) (out []byte, more bool, err error) {
	p.mu.Lock()
	if len(p.out) > 0 {
		p.mu.Unlock()
		return nil, false, ErrBusy
	}
	_, err = p.write(in)
	size := 0
	if len(p.out) > 0 {
		size = min(limit, len(p.out[0]))
	}
	p.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	out = make([]byte, max(size, 0))
	n, more, err := p.Read(out)
	return out[:n], more, err
}

// Available returns how many bytes there are to read, and how many of them are of
// the first message, for FSCTL_PIPE_PEEK.
func (p *Pipe) Available() (all, first int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.out) > 0 {
		first = len(p.out[0])
	}
	return p.unread, first
}

// reply queues a PDU to be read.
func (p *Pipe) reply(pdu []byte) {
	p.out = append(p.out, pdu)
	p.unread += len(pdu)
}

// handle answers one whole PDU. The caller holds mu.
func (p *Pipe) handle(h header, pdu []byte) error {
	if p.unread > maxUnread {
		return malformed("%d bytes of replies are not being read", p.unread)
	}
	switch h.kind {
	case typeBind, typeAlter:
		if h.flags&(flagFirst|flagLast) != flagFirst|flagLast {
			return malformed("bind in fragments")
		}
		if p.bound != (h.kind == typeAlter) {
			return malformed("PDU type %d, bound %v", h.kind, p.bound)
		}
		if h.authLen != 0 {
			return p.refuseAuth(h)
		}
		m, err := parseBind(pdu[headerSize:])
		if err != nil {
			return err
		}
		return p.bind(h, m)
	case typeRequest:
		if !p.bound {
			return malformed("request before bind")
		}
		if h.authLen != 0 {
			return malformed("request with authentication")
		}
		return p.request(h, pdu)
	case typeOrphaned:
		if p.call != nil && p.call.id == h.callID {
			p.call = nil
		}
		return nil
	case typeCancel: // calls are over before one can come
		return nil
	}
	return malformed("PDU type %d from a client", h.kind)
}

// refuseAuth answers a bind that wants authentication: the client may try without.
func (p *Pipe) refuseAuth(h header) error {
	if h.kind == typeAlter {
		p.fault(h.callID, 0, FaultAccessDenied)
		return nil
	}
	const reasonAuthType = 8 // authentication_type_not_recognized, [MS-RPCE] 2.2.2.5
	b := begin(nil, typeBindNak, flagFirst|flagLast, h.callID)
	b = binary.LittleEndian.AppendUint16(b, reasonAuthType)
	b = append(b, 1, 5, 0) // one version: 5.0
	p.reply(finish(b))
	return nil
}

func (p *Pipe) bind(h header, m bind) error {
	results := make([]result, len(m.contexts))
	for i, c := range m.contexts {
		if len(p.contexts) == maxContexts {
			return malformed("more than %d contexts", maxContexts)
		}
		results[i] = p.offer(c)
	}
	kind, address := byte(typeAlterResp), ""
	if h.kind == typeBind {
		kind, address = typeBindAck, `\PIPE\`+p.name
		p.bound = true
		p.fragment = max(minFragment, min(int(m.maxRecv), MaxFragment))
		p.group = m.group
		if p.group == 0 {
			p.group = 0x5000 + p.h.groups.Add(1)
		}
	}
	b := begin(nil, kind, flagFirst|flagLast, h.callID)
	b = appendBindAck(b, uint16(p.fragment), min(max(m.maxXmit, minFragment), MaxFragment), p.group, address, results)
	p.reply(finish(b))
	return nil
}

// offer decides on one presentation context, [MS-RPCE] 3.3.1.5.3 for bind time
// features, of which none are taken.
func (p *Pipe) offer(c context) result {
	for _, t := range c.transfer {
		if [8]byte(t.UUID[:8]) == bindTimeFeatures {
			return result{result: resultNegotiate, reason: 0}
		}
	}
	all := services[p.name]
	i := slices.IndexFunc(all, func(s service) bool { return s.syntax == c.abstract })
	if i < 0 {
		return result{result: resultReject, reason: reasonAbstract}
	}
	for _, t := range c.transfer {
		if t == ndr {
			p.contexts[c.id] = all[i]
			return result{result: resultAccept, reason: reasonNone, transfer: ndr}
		}
	}
	return result{result: resultReject, reason: reasonTransfer}
}

// request takes a fragment of a request and answers the request that is complete.
func (p *Pipe) request(h header, pdu []byte) error {
	at := requestHeaderSize
	if h.flags&flagObject != 0 {
		at += 16
	}
	if len(pdu) < at {
		return malformed("request of %d bytes", len(pdu))
	}
	ctx := binary.LittleEndian.Uint16(pdu[headerSize+4:])
	opnum := binary.LittleEndian.Uint16(pdu[headerSize+6:])
	stub := pdu[at:]
	if h.flags&flagFirst != 0 {
		if p.call != nil {
			return malformed("call %d within call %d", h.callID, p.call.id)
		}
		p.call = &call{id: h.callID, context: ctx, opnum: opnum}
	} else if c := p.call; c == nil || c.id != h.callID || c.context != ctx || c.opnum != opnum {
		return malformed("fragment of no call")
	}
	c := p.call
	if len(c.stub)+len(stub) > maxRequest {
		return malformed("request of more than %d bytes", maxRequest)
	}
	c.stub = append(c.stub, stub...)
	if h.flags&flagLast == 0 {
		return nil
	}
	p.call = nil
	p.answer(c)
	return nil
}

func (p *Pipe) answer(c *call) {
	s, ok := p.contexts[c.context]
	if !ok {
		p.fault(c.id, c.context, FaultContextMismatch)
		return
	}
	op, ok := s.ops[c.opnum]
	if !ok {
		p.fault(c.id, c.context, FaultOpRange)
		return
	}
	r, w := &reader{b: c.stub}, &writer{}
	op(p, r, w)
	if r.err != nil {
		p.fault(c.id, c.context, FaultBadStub)
		return
	}
	stub := w.b
	// All fragments but the last are to hold a multiple of 8 bytes.
	room := (p.fragment - requestHeaderSize) &^ 7
	for flags := byte(flagFirst); ; flags = 0 {
		n := min(room, len(stub))
		if n == len(stub) {
			flags |= flagLast
		}
		b := begin(make([]byte, 0, requestHeaderSize+n), typeResponse, flags, c.id)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(stub)))
		b = binary.LittleEndian.AppendUint16(b, c.context)
		b = append(b, 0, 0)
		p.reply(finish(append(b, stub[:n]...)))
		stub = stub[n:]
		if flags&flagLast != 0 {
			return
		}
	}
}

func (p *Pipe) fault(id uint32, ctx uint16, status Fault) {
	b := begin(nil, typeFault, flagFirst|flagLast|flagDidNotExecute, id)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint16(b, ctx)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(status))
	b = binary.LittleEndian.AppendUint32(b, 0)
	p.reply(finish(b))
}
