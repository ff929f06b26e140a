package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"testing"
	"time"
)

// rawIWARP is the initiator's end of an iWARP connection, made of octets by hand:
// MPA (RFC 5044), DDP (RFC 5041), RDMAP (RFC 5040). It has no goroutine: whoever
// reads from it also serves the peer's RDMA, in whatever way the test wants.
type rawIWARP struct {
	t   testing.TB
	c   *net.TCPConn
	r   *bufio.Reader
	crc bool

	msn     uint32 // of the last Send
	readMSN uint32 // of the last Read Request

	// mem is what the peer may reach: by token, from offset 0 on.
	mem map[uint32][]byte
	// onRead, if set, takes a Read Request in the place of the right answer.
	onRead func(readRequest)
	// quiet makes the peer say nothing about a wrong token.
	quiet bool

	term *[3]byte // Terminate of the peer: layer, type, code
}

type readRequest struct {
	sink     uint32
	sinkTO   uint64
	size     uint32
	source   uint32
	sourceTO uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// RDMAP opcodes, RFC 5040 §4.3, with the version 01 in front.
const (
	opWrite     = 0x40
	opReadReq   = 0x41
	opReadResp  = 0x42
	opSend      = 0x43
	opSendInv   = 0x44
	opTerminate = 0x47
)

const chunk = 32 << 10 // octets of payload in one segment

// mpaRequest is an MPA Request, RFC 5044 §7.1.1.
func mpaRequest(flags, revision byte, private []byte) []byte {
	b := append([]byte("MPA ID Req Frame"), flags, revision)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(private))), private...)
}

// enhanced is the enhanced data of RFC 6581 for 32 Reads each way.
var enhanced = []byte{0, 32, 0, 32}

func dialTCP(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// dialRaw connects and does the MPA startup right.
func dialRaw(t testing.TB, addr string, crc bool) *rawIWARP {
	t.Helper()
	r := &rawIWARP{t: t, c: dialTCP(t, addr), mem: map[uint32][]byte{}}
	r.r = bufio.NewReaderSize(r.c, 128<<10)
	flags := byte(0x10)
	if crc {
		flags |= 0x40
	}
	must(t, r.write(mpaRequest(flags, 2, enhanced)))
	var reply [20]byte
	_, err := io.ReadFull(r.r, reply[:])
	must(t, err)
	if string(reply[:16]) != "MPA ID Rep Frame" || reply[16]&0x20 != 0 {
		t.Fatalf("MPA Reply %q", reply)
	}
	_, err = io.CopyN(io.Discard, r.r, int64(binary.BigEndian.Uint16(reply[18:])))
	must(t, err)
	r.crc = reply[16]&0x40 != 0
	if crc && !r.crc {
		t.Fatal("CRC was asked for and is off")
	}
	return r
}

func (r *rawIWARP) write(b []byte) error {
	_, err := r.c.Write(b)
	return err
}

// frame makes an FPDU of a ULPDU, RFC 5044 §4.
func (r *rawIWARP) frame(ulpdu []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(ulpdu)))
	b = append(b, ulpdu...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	var crc uint32
	if r.crc {
		crc = crc32.Checksum(b, castagnoli)
	}
	return binary.LittleEndian.AppendUint32(b, crc)
}

// untagged is a segment of queue qn, RFC 5041 §4.3.
func untagged(op byte, inval, qn, msn, mo uint32, last bool, payload ...byte) []byte {
	ctrl := byte(0x01)
	if last {
		ctrl |= 0x40
	}
	b := []byte{ctrl, op}
	for _, v := range []uint32{inval, qn, msn, mo} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return append(b, payload...)
}

// tagged is a segment with a steering tag, RFC 5041 §4.2.
func tagged(op byte, stag uint32, to uint64, last bool, payload ...byte) []byte {
	ctrl := byte(0x81)
	if last {
		ctrl |= 0x40
	}
	b := binary.BigEndian.AppendUint32([]byte{ctrl, op}, stag)
	return append(binary.BigEndian.AppendUint64(b, to), payload...)
}

// sendFrame is the FPDU of the next Send.
func (r *rawIWARP) sendFrame(payload []byte) []byte {
	r.msn++
	return r.frame(untagged(opSend, 0, 0, r.msn, 0, true, payload...))
}

func (r *rawIWARP) send(payload []byte) error { return r.write(r.sendFrame(payload)) }

// readFrame is the FPDU of the next Read Request.
func (r *rawIWARP) readFrame(q readRequest) []byte {
	r.readMSN++
	return r.frame(untagged(opReadReq, 0, 1, r.readMSN, 0, true, q.append(nil)...))
}

func (q readRequest) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, q.sink)
	b = binary.BigEndian.AppendUint64(b, q.sinkTO)
	b = binary.BigEndian.AppendUint32(b, q.size)
	b = binary.BigEndian.AppendUint32(b, q.source)
	return binary.BigEndian.AppendUint64(b, q.sourceTO)
}

// ulpdu reads the next FPDU.
func (r *rawIWARP) ulpdu() ([]byte, error) {
	var l [2]byte
	if _, err := io.ReadFull(r.r, l[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(l[:]))
	b := make([]byte, n+(4-(n+2)%4)%4+4)
	if _, err := io.ReadFull(r.r, b); err != nil {
		return nil, err
	}
	if r.crc {
		if c := crc32.Update(crc32.Checksum(l[:], castagnoli), castagnoli, b[:len(b)-4]); c != binary.LittleEndian.Uint32(b[len(b)-4:]) {
			return nil, errors.New("CRC of the server's FPDU is wrong")
		}
	}
	return b[:n], nil
}

var errTerminated = errors.New("the peer sent a Terminate")

// next serves the peer's RDMA until something for the layer above comes: the
// payload of a Send, with the token that it invalidates.
func (r *rawIWARP) next() (payload []byte, inval uint32, err error) {
	var message []byte
	for {
		u, err := r.ulpdu()
		if err != nil {
			return nil, 0, err
		}
		be := binary.BigEndian
		switch op := u[1] & 0x0F; {
		case u[0]&0x80 != 0 && op == opWrite&0x0F:
			stag, to, data := be.Uint32(u[2:]), be.Uint64(u[6:]), u[14:]
			m := r.mem[stag]
			if to > uint64(len(m)) || uint64(len(data)) > uint64(len(m))-to {
				if err := r.protest(0x11, 0); err != nil {
					return nil, 0, err
				}
				continue
			}
			copy(m[to:], data)
		case u[0]&0x80 != 0:
			return u, 0, nil // a Read Response: the test looks at it
		case op == opReadReq&0x0F:
			q := readRequest{be.Uint32(u[18:]), be.Uint64(u[22:]), be.Uint32(u[30:]), be.Uint32(u[34:]), be.Uint64(u[38:])}
			if r.onRead != nil {
				r.onRead(q)
				continue
			}
			m := r.mem[q.source]
			if q.sourceTO > uint64(len(m)) || uint64(q.size) > uint64(len(m))-q.sourceTO {
				if err := r.protest(0x01, 0); err != nil {
					return nil, 0, err
				}
				continue
			}
			if err := r.respond(q, m[q.sourceTO:][:q.size]); err != nil {
				return nil, 0, err
			}
		case op == opTerminate&0x0F:
			r.term = &[3]byte{u[18] >> 4, u[18] & 0x0F, u[19]}
			return nil, 0, errTerminated
		default:
			message = append(message, u[18:]...)
			if u[0]&0x40 != 0 {
				if op&1 == 0 { // Send with Invalidate
					inval = be.Uint32(u[2:])
					if r.mem[inval] == nil && !r.quiet {
						return nil, 0, fmt.Errorf("the server invalidates token %#x", inval)
					}
					delete(r.mem, inval)
				}
				return message, inval, nil
			}
		}
	}
}

// protest is the Terminate of an adapter that finds a wrong token, RFC 5040 §4.8.
func (r *rawIWARP) protest(layerType, code byte) error {
	if r.quiet {
		return nil
	}
	return r.write(r.frame(untagged(opTerminate, 0, 2, 1, 0, true, layerType, code, 0, 0)))
}

// respond answers a Read Request.
func (r *rawIWARP) respond(q readRequest, data []byte) error {
	for off := 0; ; off += chunk {
		n := min(chunk, len(data)-off)
		last := off+n == len(data)
		if err := r.write(r.frame(tagged(opReadResp, q.sink, q.sinkTO+uint64(off), last, data[off:off+n]...))); err != nil || last {
			return err
		}
	}
}

// ended reads until the server has ended the connection, and returns its
// Terminate if there was one.
func (r *rawIWARP) ended() *[3]byte {
	r.t.Helper()
	for {
		switch _, _, err := r.next(); {
		case err == nil, errors.Is(err, errTerminated):
		case isTimeout(err):
			r.t.Fatal("the server did not end the connection")
		default:
			r.c.Close()
			return r.term
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// closed reads until the other side has ended a connection.
func closed(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); isTimeout(err) {
		t.Fatal("the server did not end the connection")
	}
	c.Close()
}

// rawDirect is SMB Direct, [MS-SMBD], on a rawIWARP.
type rawDirect struct {
	*rawIWARP
	maxSend int // octets of the largest message that the server takes
	owed    int // messages received for which no credit was given back
	// ungranted is a peer that gives no credits.
	ungranted bool
	partial   []byte
}

// negotiateRequest is a Negotiate Request, [MS-SMBD] 2.2.1.
func negotiateRequest(min, max, credits uint16, send, receive, fragmented uint32) []byte {
	b := make([]byte, 20)
	le := binary.LittleEndian
	le.PutUint16(b[0:], min)
	le.PutUint16(b[2:], max)
	le.PutUint16(b[6:], credits)
	le.PutUint32(b[8:], send)
	le.PutUint32(b[12:], receive)
	le.PutUint32(b[16:], fragmented)
	return b
}

var goodNegotiate = negotiateRequest(0x100, 0x100, 255, 1364, 8192, 1<<20)

// data is a Data Transfer message, [MS-SMBD] 2.2.3, with any header.
func data(requested, granted, flags uint16, remaining, offset, length uint32, payload []byte) []byte {
	b := make([]byte, 20, 24+len(payload))
	le := binary.LittleEndian
	le.PutUint16(b[0:], requested)
	le.PutUint16(b[2:], granted)
	le.PutUint16(b[4:], flags)
	le.PutUint32(b[8:], remaining)
	le.PutUint32(b[12:], offset)
	le.PutUint32(b[16:], length)
	if len(payload) > 0 {
		b = append(append(b, 0, 0, 0, 0), payload...)
	}
	return b
}

// dialDirect is dialRaw and the negotiation of SMB Direct.
func dialDirect(t testing.TB, addr string, crc bool) *rawDirect {
	t.Helper()
	d := &rawDirect{rawIWARP: dialRaw(t, addr, crc), owed: 250}
	must(t, d.rawIWARP.send(goodNegotiate))
	b, _, err := d.next()
	must(t, err)
	if len(b) != 32 || binary.LittleEndian.Uint32(b[12:]) != 0 {
		t.Fatalf("Negotiate Response %x", b)
	}
	d.maxSend = int(binary.LittleEndian.Uint32(b[24:]))
	return d
}

func (d *rawDirect) grant() uint16 {
	if d.ungranted {
		return 0
	}
	n := d.owed
	d.owed = 0
	return uint16(n)
}

// Send sends an SMB2 message, in fragments as it must be. It fits the credits of
// the server: its messages are few.
func (d *rawDirect) Send(b []byte) error {
	for {
		n := min(len(b), d.maxSend-24)
		rest := b[n:]
		if err := d.rawIWARP.send(data(255, d.grant(), 0, uint32(len(rest)), 24, uint32(n), b[:n])); err != nil {
			return err
		}
		if b = rest; len(b) == 0 {
			return nil
		}
	}
}

// Receive returns the next SMB2 message.
func (d *rawDirect) Receive() ([]byte, error) {
	for {
		b, _, err := d.next()
		if err != nil {
			return nil, err
		}
		if len(b) < 20 {
			return nil, fmt.Errorf("Data Transfer message %x", b)
		}
		le := binary.LittleEndian
		remaining, off, n := le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint32(b[16:])
		if d.owed++; d.owed > 100 && !d.ungranted {
			if err := d.rawIWARP.send(data(255, d.grant(), 0, 0, 0, 0, nil)); err != nil {
				return nil, err
			}
		}
		if n == 0 {
			continue
		}
		d.partial = append(d.partial, b[off:][:n]...)
		if remaining == 0 {
			m := d.partial
			d.partial = nil
			return m, nil
		}
	}
}

func (d *rawDirect) Close() error { return d.c.Close() }

// rawTCP is direct hosting, [MS-SMB2] 2.1.
type rawTCP struct {
	c *net.TCPConn
	r *bufio.Reader
}

func dialHosting(t testing.TB, addr string) *rawTCP {
	t.Helper()
	c := dialTCP(t, addr)
	return &rawTCP{c, bufio.NewReader(c)}
}

func prefixed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func (d *rawTCP) Send(b []byte) error {
	_, err := d.c.Write(prefixed(b))
	return err
}

func (d *rawTCP) Receive() ([]byte, error) {
	var l [4]byte
	if _, err := io.ReadFull(d.r, l[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(l[:]))
	_, err := io.ReadFull(d.r, b)
	return b, err
}

func (d *rawTCP) Close() error { return d.c.Close() }
