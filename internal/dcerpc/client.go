package dcerpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Transact sends a message into a pipe and returns the message that answers, as
// FSCTL_PIPE_TRANSCEIVE does. Without a message to send it reads the next one.
// more means that the message goes on, and that the rest is to be read.
type Transact func(in []byte) (out []byte, more bool, err error)

// Client makes calls of one interface through a pipe. It is for one goroutine at
// a time.
type Client struct {
	transact Transact
	fragment int // the longest PDU that the server takes
	callID   uint32
	broken   error
}

// Dial binds to an interface, with NDR 2.0 and without authentication. The error
// wraps [ErrRefused], [ErrProtocol] or what transact returned.
func Dial(iface Syntax, transact Transact) (*Client, error) {
	c := &Client{transact: transact, fragment: minFragment, callID: 1}
	b := begin(nil, typeBind, flagFirst|flagLast, c.callID)
	b = binary.LittleEndian.AppendUint16(b, MaxFragment)
	b = binary.LittleEndian.AppendUint16(b, MaxFragment)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, 1, 0, 0, 0)
	b = append(b, 0, 0, 1, 0) // context 0, one transfer syntax
	b = appendSyntax(appendSyntax(b, iface), ndr)
	h, pdu, err := c.exchange(finish(b))
	if err != nil {
		return nil, err
	}
	switch h.kind {
	case typeBindAck:
	case typeBindNak:
		return nil, fmt.Errorf("%w: bind_nak", ErrRefused)
	default:
		return nil, malformed("PDU type %d in answer to bind", h.kind)
	}
	_, recv, results, err := parseBindAck(pdu)
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, malformed("%d results for one context", len(results))
	}
	if r := results[0]; r.result != resultAccept || r.transfer != ndr {
		return nil, fmt.Errorf("%w: result %d, reason %d", ErrRefused, r.result, r.reason)
	}
	c.fragment = max(minFragment, min(int(recv), MaxFragment))
	return c, nil
}

// exchange sends a PDU, or nothing, and returns the PDU that comes.
func (c *Client) exchange(out []byte) (header, []byte, error) {
	var pdu []byte
	for more := true; more; out = nil {
		var in []byte
		var err error
		if in, more, err = c.transact(out); err != nil {
			return header{}, nil, err
		}
		if len(in) == 0 {
			return header{}, nil, malformed("empty message")
		}
		if pdu = append(pdu, in...); len(pdu) > MaxFragment {
			return header{}, nil, malformed("message of more than %d bytes", MaxFragment)
		}
	}
	if len(pdu) < headerSize {
		return header{}, nil, malformed("message of %d bytes", len(pdu))
	}
	h, err := parseHeader(pdu)
	if err != nil {
		return h, nil, err
	}
	if h.fragLen != len(pdu) || h.authLen != 0 {
		return h, nil, malformed("fragment of %d bytes in a message of %d", h.fragLen, len(pdu))
	}
	if h.callID != c.callID {
		return h, nil, malformed("answer to call %d, not %d", h.callID, c.callID)
	}
	return h, pdu, nil
}

// Call makes a call and returns the stub of its response. An error is a [Fault] of
// the server, after which other calls may be made, or ends the client.
func (c *Client) Call(opnum uint16, stub []byte) ([]byte, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	out, err := c.call(opnum, stub)
	var fault Fault
	if err != nil && !errors.As(err, &fault) {
		c.broken = err
	}
	return out, err
}

func (c *Client) call(opnum uint16, stub []byte) ([]byte, error) {
	// What is sent here fits into the smallest fragment but for names of thousands
	// of characters, which no server has.
	if len(stub) > c.fragment-requestHeaderSize {
		return nil, malformed("request of %d bytes", len(stub))
	}
	c.callID++
	b := begin(nil, typeRequest, flagFirst|flagLast, c.callID)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(stub)))
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint16(b, opnum)
	b = finish(append(b, stub...))
	var out []byte
	for first := true; ; first, b = false, nil {
		h, pdu, err := c.exchange(b)
		if err != nil {
			return nil, err
		}
		if h.kind == typeFault {
			if len(pdu) < requestHeaderSize+4 {
				return nil, malformed("fault of %d bytes", len(pdu))
			}
			return nil, Fault(binary.LittleEndian.Uint32(pdu[requestHeaderSize:]))
		}
		if h.kind != typeResponse || len(pdu) < requestHeaderSize {
			return nil, malformed("PDU type %d of %d bytes in answer to a request", h.kind, len(pdu))
		}
		if (h.flags&flagFirst != 0) != first {
			return nil, malformed("fragments out of order")
		}
		if len(pdu) == requestHeaderSize && h.flags&flagLast == 0 {
			return nil, malformed("fragment without data")
		}
		if out = append(out, pdu[requestHeaderSize:]...); len(out) > maxResponse {
			return nil, malformed("response of more than %d bytes", maxResponse)
		}
		if h.flags&flagLast != 0 {
			return out, nil
		}
	}
}

// handle is a ServerName as servers like it: with backslashes.
func handle(server string) string {
	if server == "" {
		return ""
	}
	return `\\` + strings.TrimLeft(server, `\`)
}

// status reads what every operation ends with.
func (r *reader) status() error {
	v := r.u32()
	if r.err != nil {
		return r.err
	}
	if v != 0 {
		return WinError(v)
	}
	return nil
}

// maxShares bounds the shares of a server.
const maxShares = 1 << 16

// ShareEnum lists the shares of a server with type and comment: NetrShareEnum at
// level 1, as often as it takes. server is the name that the server was reached
// by, and may be empty.
func (c *Client) ShareEnum(server string) ([]Share, error) {
	const level, preferred = 1, 0xFFFFFFFF
	var all []Share
	for resume := uint32(0); ; {
		w := &writer{}
		w.optStr(handle(server))
		w.u32(level)
		w.u32(level)
		w.pointer()
		w.u32(0)
		w.null()
		w.u32(preferred)
		w.pointer()
		w.u32(resume)
		stub, err := c.Call(15, w.b)
		if err != nil {
			return nil, fmt.Errorf("NetrShareEnum: %w", err)
		}
		r := &reader{b: stub}
		if l, arm := r.u32(), r.u32(); l != level || arm != level {
			r.fail("level %d, union of %d", l, arm)
		}
		shares := readShares(r)
		r.u32() // TotalEntries
		if r.pointer() {
			resume = r.u32()
		}
		status := r.status()
		if r.err != nil {
			return nil, fmt.Errorf("NetrShareEnum: %w", r.err)
		}
		if len(all)+len(shares) > maxShares {
			return nil, fmt.Errorf("NetrShareEnum: %w", malformed("more than %d shares", maxShares))
		}
		all = append(all, shares...)
		switch {
		case status == nil:
			return all, nil
		case status != ErrorMoreData || len(shares) == 0:
			return nil, fmt.Errorf("NetrShareEnum: %w", status)
		}
	}
}

// readShares reads a pointer to SHARE_INFO_1_CONTAINER.
func readShares(r *reader) []Share {
	if !r.pointer() {
		return nil
	}
	count := r.u32()
	if !r.pointer() {
		return nil
	}
	n := r.u32()
	const size = 12 // of SHARE_INFO_1
	if n != count || uint64(n)*size > uint64(len(r.b)-r.off) {
		r.fail("array of %d with %d shares", n, count)
		return nil
	}
	shares := make([]Share, n)
	has := make([][2]bool, n)
	for i := range shares {
		has[i][0] = r.pointer()
		shares[i].Type = r.u32()
		has[i][1] = r.pointer()
	}
	for i := range shares {
		if has[i][0] {
			shares[i].Name = r.str()
		}
		if has[i][1] {
			shares[i].Comment = r.str()
		}
	}
	return shares
}

// ShareInfo asks for one share by name: NetrShareGetInfo at level 1. For a share
// that there is not the error is [ErrorNoShare].
func (c *Client) ShareInfo(server, name string) (Share, error) {
	var s Share
	w := &writer{}
	w.optStr(handle(server))
	w.str(name)
	w.u32(1)
	stub, err := c.Call(16, w.b)
	if err != nil {
		return s, fmt.Errorf("NetrShareGetInfo: %w", err)
	}
	r := &reader{b: stub}
	if arm := r.u32(); arm != 1 {
		r.fail("union of %d", arm)
	}
	if r.pointer() {
		hasName := r.pointer()
		s.Type = r.u32()
		hasComment := r.pointer()
		if hasName {
			s.Name = r.str()
		}
		if hasComment {
			s.Comment = r.str()
		}
	}
	if err := r.status(); err != nil {
		return Share{}, fmt.Errorf("NetrShareGetInfo: %w", err)
	}
	return s, nil
}

// ServerInfo asks what a server is: NetrServerGetInfo at level 101.
func (c *Client) ServerInfo(server string) (ServerInfo, error) {
	var s ServerInfo
	w := &writer{}
	w.optStr(handle(server))
	w.u32(101)
	stub, err := c.Call(21, w.b)
	if err != nil {
		return s, fmt.Errorf("NetrServerGetInfo: %w", err)
	}
	r := &reader{b: stub}
	if arm := r.u32(); arm != 101 {
		r.fail("union of %d", arm)
	}
	if r.pointer() {
		s.Platform = r.u32()
		hasName := r.pointer()
		s.VersionMajor, s.VersionMinor, s.Type = r.u32(), r.u32(), r.u32()
		hasComment := r.pointer()
		if hasName {
			s.Name = r.str()
		}
		if hasComment {
			s.Comment = r.str()
		}
	}
	if err := r.status(); err != nil {
		return ServerInfo{}, fmt.Errorf("NetrServerGetInfo: %w", err)
	}
	return s, nil
}
