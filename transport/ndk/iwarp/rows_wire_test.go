package iwarp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// The peer of the tests of rows: it speaks octets of its own making, and parses
// what comes by itself. Nothing here uses the codec of the package, so that a
// mistake of that is not confirmed by itself.

// crcOf is CRC-32C by the bit, RFC 5044 §4.4: polynomial 0x82F63B78 reflected,
// all ones before and after.
func crcOf(b []byte) uint32 {
	c := ^uint32(0)
	for _, o := range b {
		c ^= uint32(o)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0x82F63B78
			} else {
				c >>= 1
			}
		}
	}
	return ^c
}

// fpduOf puts a ULPDU into an FPDU without markers.
func fpduOf(ulpdu []byte, crc bool) []byte {
	b := append([]byte{byte(len(ulpdu) >> 8), byte(len(ulpdu))}, ulpdu...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	c := make([]byte, 4)
	if crc {
		binary.LittleEndian.PutUint32(c, crcOf(b))
	}
	return append(b, c...)
}

// octets joins what is put into a header, most significant octet first.
func octets(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch v := p.(type) {
		case byte:
			b = append(b, v)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, v)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, v)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		case []byte:
			b = append(b, v...)
		case string:
			b = append(b, v...)
		}
	}
	return b
}

// RFC 5041 §4.1, RFC 5040 §4.1.
const (
	wTagged, wTaggedLast     = byte(0x81), byte(0xC1)
	wUntagged, wUntaggedLast = byte(0x01), byte(0x41)

	wWrite, wReadReq, wReadResp                   = byte(0x40), byte(0x41), byte(0x42)
	wSend, wSendInval, wSendSE, wSendSEInval      = byte(0x43), byte(0x44), byte(0x45), byte(0x46)
	wTerminate                                    = byte(0x47)
	wTaggedLen, wUntaggedLen, wReadLen, wStartLen = 14, 18, 28, 20
)

func wTaggedSeg(ctrl, op byte, stag uint32, to uint64, payload ...byte) []byte {
	return octets(ctrl, op, stag, to, payload)
}

func wUntaggedSeg(ctrl, op byte, inval, qn, msn, mo uint32, payload ...byte) []byte {
	return octets(ctrl, op, inval, qn, msn, mo, payload)
}

// wSendMsg is a Send in one segment.
func wSendMsg(msn uint32, payload ...byte) []byte {
	return wUntaggedSeg(wUntaggedLast, wSend, 0, 0, msn, 0, payload...)
}

// wWriteMsg is an RDMA Write in one segment.
func wWriteMsg(stag uint32, to uint64, payload ...byte) []byte {
	return wTaggedSeg(wTaggedLast, wWrite, stag, to, payload...)
}

// The sink that the Read Requests of the peer name.
const (
	wSinkSTag = uint32(0x51AC0001)
	wSinkTO   = uint64(0x1122334455660000)
)

// wRead is a Read Request.
func wRead(msn, size, stag uint32, to uint64) []byte {
	return wUntaggedSeg(wUntaggedLast, wReadReq, 0, 1, msn, 0, octets(wSinkSTag, wSinkTO, size, stag, to)...)
}

// wStart is a startup frame.
func wStart(reply bool, flags, rev byte, private ...byte) []byte {
	key := "MPA ID Req Frame"
	if reply {
		key = "MPA ID Rep Frame"
	}
	return octets(key, flags, rev, uint16(len(private)), private)
}

// wEnhanced is the enhanced data of RFC 6581 §9.
func wEnhanced(w0, w1 uint16, private ...byte) []byte { return octets(w0, w1, private) }

// wFrame is a startup frame as it came.
type wFrame struct {
	key     string
	flags   byte
	rev     byte
	private []byte
}

// words are the two words of enhanced data.
func (f *wFrame) words() (w0, w1 uint16) {
	return binary.BigEndian.Uint16(f.private), binary.BigEndian.Uint16(f.private[2:])
}

// wire is the peer's end of a connection.
type wire struct {
	t   testing.TB
	c   *net.TCPConn
	crc bool
	// taken are all the octets of full operation that were read.
	taken []byte
}

func newWire(t testing.TB, c net.Conn) *wire {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	t.Cleanup(func() { c.Close() })
	return &wire{t: t, c: c.(*net.TCPConn)}
}

func dialWire(t testing.TB, addr netip.AddrPort) *wire {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	must(t, err)
	return newWire(t, c)
}

func (w *wire) write(b ...[]byte) {
	w.t.Helper()
	if _, err := w.c.Write(bytes.Join(b, nil)); err != nil {
		w.t.Fatalf("write: %v", err)
	}
}

// trickle writes octet by octet, as far as the other end lets it: what it has read may
// have made it end the connection.
func (w *wire) trickle(b []byte) {
	w.t.Helper()
	for i := range b {
		if _, err := w.c.Write(b[i : i+1]); errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return
		} else if err != nil {
			w.t.Fatalf("write: %v", err)
		}
	}
}

// send frames ULPDUs and writes them in one go.
func (w *wire) send(ulpdus ...[]byte) {
	w.t.Helper()
	var b []byte
	for _, u := range ulpdus {
		b = append(b, fpduOf(u, w.crc)...)
	}
	w.write(b)
}

// startup reads a startup frame; nil if the stream ends before its first octet.
func (w *wire) startup() *wFrame {
	w.t.Helper()
	b := make([]byte, wStartLen)
	if n, err := io.ReadFull(w.c, b); n == 0 && errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		w.t.Fatalf("%d octets of a startup frame, %v", n, err)
	}
	f := &wFrame{key: string(b[:16]), flags: b[16], rev: b[17], private: make([]byte, binary.BigEndian.Uint16(b[18:]))}
	if _, err := io.ReadFull(w.c, f.private); err != nil {
		w.t.Fatalf("private data: %v", err)
	}
	return f
}

// wFPDU is an FPDU without markers as it came.
type wFPDU struct {
	ulpdu, pad []byte
	crc        uint32
	raw        []byte
}

// fpdu reads an FPDU, checks its pad and CRC, and returns nil when the peer closed
// its half between FPDUs. A reset fails the test.
func (w *wire) fpdu() *wFPDU {
	w.t.Helper()
	l := make([]byte, 2)
	if n, err := io.ReadFull(w.c, l); n == 0 && err == io.EOF {
		return nil
	} else if err != nil {
		w.t.Fatalf("%d octets of an FPDU, %v", n, err)
	}
	n := int(binary.BigEndian.Uint16(l))
	pad := (4 - (2+n)%4) % 4
	b := append(l, make([]byte, n+pad+4)...)
	if k, err := io.ReadFull(w.c, b[2:]); err != nil {
		w.t.Fatalf("%d of %d octets of an FPDU, %v", k+2, len(b), err)
	}
	w.taken = append(w.taken, b...)
	f := &wFPDU{ulpdu: b[2 : 2+n], pad: b[2+n : 2+n+pad], crc: binary.LittleEndian.Uint32(b[len(b)-4:]), raw: b}
	want := uint32(0)
	if w.crc {
		want = crcOf(b[:len(b)-4])
	}
	if f.crc != want {
		w.t.Errorf("CRC field %#08x, want %#08x, of %x", f.crc, want, b)
	}
	if !bytes.Equal(f.pad, make([]byte, pad)) {
		w.t.Errorf("pad %x", f.pad)
	}
	return f
}

// ulpdu is fpdu for who wants to see no more.
func (w *wire) ulpdu() []byte {
	w.t.Helper()
	f := w.fpdu()
	if f == nil {
		return nil
	}
	return f.ulpdu
}

// wSeg is a DDP segment as it came.
type wSeg struct {
	ctrl, op    byte
	stag        uint32 // tagged; else the STag to invalidate
	to          uint64
	qn, msn, mo uint32
	header      []byte
	payload     []byte
}

func (s *wSeg) last() bool { return s.ctrl&0x40 != 0 }

// parseWire takes a ULPDU apart and fails the test on one that is malformed.
func (w *wire) parse(u []byte) *wSeg {
	w.t.Helper()
	return parseWire(w.t, u)
}

func parseWire(t testing.TB, u []byte) *wSeg {
	t.Helper()
	if len(u) < wTaggedLen || u[0]&0x80 == 0 && len(u) < wUntaggedLen {
		t.Fatalf("ULPDU %x is shorter than its header", u)
	}
	s := &wSeg{ctrl: u[0], op: u[1], stag: binary.BigEndian.Uint32(u[2:])}
	if u[0]&0x3F != 1 || u[1]&0xF0 != 0x40 { // reserved bits zero, versions 1 (DDP-01, RDMAP-01)
		t.Errorf("control octets %x", u[:2])
	}
	n := wTaggedLen
	if u[0]&0x80 != 0 {
		s.to = binary.BigEndian.Uint64(u[6:])
	} else {
		s.qn, s.msn, s.mo = binary.BigEndian.Uint32(u[6:]), binary.BigEndian.Uint32(u[10:]), binary.BigEndian.Uint32(u[14:])
		n = wUntaggedLen
	}
	s.header, s.payload = u[:n], u[n:]
	return s
}

// seg reads an FPDU and takes it apart; nil at the end of the stream.
func (w *wire) seg() *wSeg {
	w.t.Helper()
	u := w.ulpdu()
	if u == nil {
		return nil
	}
	return w.parse(u)
}

// message reads the segments of the next message and checks that they continue
// each other (DDP-06, -07).
func (w *wire) message() (segs []*wSeg, payload []byte) {
	w.t.Helper()
	for {
		s := w.seg()
		if s == nil {
			w.t.Fatalf("the stream ends after %d segments of a message", len(segs))
		}
		if len(segs) > 0 {
			f := segs[0]
			if s.op != f.op || s.stag != f.stag || s.ctrl&0x80 != f.ctrl&0x80 || s.qn != f.qn || s.msn != f.msn {
				w.t.Errorf("segment %x does not continue %x", s.header, f.header)
			}
			if s.ctrl&0x80 != 0 && s.to != f.to+uint64(len(payload)) {
				w.t.Errorf("TO %#x, want %#x", s.to, f.to+uint64(len(payload)))
			}
		}
		if s.ctrl&0x80 == 0 && s.mo != uint32(len(payload)) {
			w.t.Errorf("MO %d, want %d", s.mo, len(payload))
		}
		segs = append(segs, s)
		payload = append(payload, s.payload...)
		if s.last() {
			return segs, payload
		}
	}
}

// quiet reports that nothing waits to be read.
func (w *wire) quiet() bool { return !peerHasData(w.c) }

// end closes the peer's half and reads to the end of the stream, in which there is
// nothing more.
func (w *wire) end() {
	w.t.Helper()
	must(w.t, w.c.CloseWrite())
	w.ended()
}

// ended reads the end of the stream.
func (w *wire) ended() {
	w.t.Helper()
	b, err := io.ReadAll(w.c)
	if len(b) > 0 || err != nil {
		w.t.Errorf("%d octets where the stream should end: %x, %v", len(b), b[:min(len(b), 100)], err)
	}
}

// termOf builds what the payload of a Terminate has to be, RFC 5040 §4.8: control
// field; with ddp Segment Length and DDP header of the ULPDU that is to blame; with
// read the 28 octets of the Read Request in it.
func termOf(layer, etype, code byte, bad []byte, ddp, read bool) []byte {
	b := []byte{layer<<4 | etype, code, 0, 0}
	if !ddp {
		return b
	}
	b[2] = 0xC0
	n := wUntaggedLen
	if bad[0]&0x80 != 0 {
		n = wTaggedLen
	}
	b = octets(b, uint16(len(bad)), bad[:n])
	if read {
		b[2] |= 0x20
		b = append(b, bad[wUntaggedLen:wUntaggedLen+wReadLen]...)
	}
	return b
}

// expectTerminate reads exactly one Terminate with that payload and the end of the
// stream behind it. Segments of other kinds may come before it.
func (w *wire) expectTerminate(want []byte) {
	w.t.Helper()
	for {
		s := w.seg()
		if s == nil {
			w.t.Errorf("the stream ends without a Terminate, want %x", want)
			return
		}
		if s.op != wTerminate {
			continue
		}
		if h := octets(wUntaggedLast, wTerminate, uint32(0), uint32(2), uint32(1), uint32(0)); !bytes.Equal(s.header, h) { // RDMAP-25
			w.t.Errorf("header of the Terminate is %x, want %x", s.header, h)
		}
		if !bytes.Equal(s.payload, want) {
			w.t.Errorf("Terminate says %x\nwant          %x", s.payload, want)
		}
		w.ended()
		_ = w.c.CloseWrite() // which the other end waits for, for a while
		return
	}
}
