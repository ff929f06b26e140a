package iwarp

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"golang.org/x/sys/unix"
)

// unmarkWire takes the markers out of a stream and calls seen for each: its
// position, and its four octets.
func unmarkWire(t *testing.T, b []byte, seen func(pos int, marker []byte)) (plain []byte) {
	t.Helper()
	for i := 0; i < len(b); i += 4 {
		o := b[i:min(i+4, len(b))]
		if len(o) < 4 {
			t.Fatalf("the stream ends with %d octets over", len(o))
		}
		if i%512 != 0 {
			plain = append(plain, o...)
		} else if seen != nil {
			seen(i, o)
		}
	}
	return plain
}

// wMark writes FPDUs without markers as a stream with them would, each with its own
// CRC: the other way round of unmarkWire.
func wMark(fpdus [][]byte, crc bool) []byte {
	var out []byte
	for _, f := range fpdus {
		start, length := len(out), -1
		for i := 0; i < len(f); i += 4 {
			if len(out)%512 == 0 {
				ptr := 0
				if length >= 0 {
					ptr = len(out) - length
				}
				out = append(out, 0, 0, byte(ptr>>8), byte(ptr))
			}
			if length < 0 {
				length = len(out)
			}
			if i+4 == len(f) {
				c := make([]byte, 4)
				if crc {
					binary.LittleEndian.PutUint32(c, crcOf(out[start:]))
				}
				out = append(out, c...)
				break
			}
			out = append(out, f[i:i+4]...)
		}
	}
	return out
}

// fpdusIn cuts a stream without markers.
func fpdusIn(t *testing.T, b []byte) (fs [][]byte) {
	t.Helper()
	for len(b) > 0 {
		n := 2 + int(binary.BigEndian.Uint16(b))
		n = (n+3)&^3 + 4
		if n > len(b) {
			t.Fatalf("%d octets of an FPDU of %d", len(b), n)
		}
		fs = append(fs, b[:n])
		b = b[n:]
	}
	return fs
}

// markedSend lets a site send messages of the sizes to a peer that asked for
// markers, and returns the stream.
func markedSend(t *testing.T, cfg Config, sizes []int) (s *site, stream []byte) {
	t.Helper()
	s = newSite(t, cfg)
	l := s.line()
	w := s.expectLine(l)
	w.write(wStart(false, 0x80, 1))
	rep := w.startup()
	if rep == nil || rep.flags&0x80 != 0 {
		t.Fatalf("Reply %+v", rep)
	}
	w.crc = rep.flags&0x40 != 0
	must(t, <-l.accepted)
	l.unfence(w)
	for i, n := range sizes {
		must(t, l.qp.Send(i, []ndk.SGE{s.sge(buffersAt, n)}, 0))
		l.expect(i, ntstatus.Success)
	}
	must(t, w.c.CloseWrite())
	stream, err := io.ReadAll(w.c)
	must(t, err)
	return s, stream
}

// rowMarkers holds a marked stream against one that the test marks itself: format
// and position of each marker, FPDUPTR, and the CRC over them. Sizes are such that
// markers fall on each place of an FPDU, and several into one.
func rowMarkers(t *testing.T) {
	for _, crc := range []bool{false, true} {
		var sizes []int
		for n := range 130 {
			sizes = append(sizes, n*5%131+4*(n%3))
		}
		sizes = append(sizes, 479, 480, 481, 3000, 9001, 20000)
		s, stream := markedSend(t, Config{CRC: crc}, sizes)
		markers, inside := 0, 0
		fs := fpdusIn(t, unmarkWire(t, stream, func(pos int, m []byte) {
			markers++
			if m[0] != 0 || m[1] != 0 || m[3]&3 != 0 {
				t.Errorf("marker %x at %d", m, pos)
			}
			if ptr := int(m[2])<<8 | int(m[3]); ptr > 512 {
				inside++
			}
		}))
		if markers != (len(stream)+511)/512 || markers < 80 || inside == 0 {
			t.Errorf("%d markers in %d octets, %d of them not the first of their FPDU", markers, len(stream), inside)
		}
		if want := wMark(fs, crc); !bytes.Equal(stream, want) {
			for i := range stream {
				if stream[i] != want[i] {
					t.Fatalf("octet %d is %#02x, want %#02x", i, stream[i], want[i])
				}
			}
		}
		if !bytes.Equal(stream[:4], []byte{0, 0, 0, 0}) {
			t.Errorf("first marker %x", stream[:4])
		}
		var got []byte
		msgs := 0
		for _, f := range fs {
			g := parseWire(t, f[2:2+binary.BigEndian.Uint16(f)])
			got = append(got, g.payload...)
			if g.last() {
				if !bytes.Equal(got, s.want[buffersAt:buffersAt+sizes[msgs]]) {
					t.Errorf("message %d of %d octets came with %d", msgs, sizes[msgs], len(got))
				}
				got, msgs = nil, msgs+1
			}
		}
		if msgs != len(sizes) {
			t.Errorf("%d messages, want %d", msgs, len(sizes))
		}
	}
}

func rowMarkerBetween(t *testing.T) {
	// 4 marker + 508 octets of FPDU: the next marker is behind it. 508 = 2 + 18 +
	// 484 + 0 pad + 4.
	_, stream := markedSend(t, Config{CRC: true}, []int{484, 1})
	if len(stream) != 512+4+28 {
		t.Fatalf("%d octets", len(stream))
	}
	if !bytes.Equal(stream[512:516], []byte{0, 0, 0, 0}) {
		t.Errorf("marker %x, want FPDUPTR 0", stream[512:516])
	}
	if got, want := binary.LittleEndian.Uint32(stream[508:]), crcOf(stream[:508]); got != want {
		t.Errorf("CRC of the first FPDU %#08x, want %#08x without the marker behind it", got, want)
	}
	if got, want := binary.LittleEndian.Uint32(stream[540:]), crcOf(stream[512:540]); got != want {
		t.Errorf("CRC of the second FPDU %#08x, want %#08x with the marker before it", got, want)
	}
}

func rowMarkerBeforeCRC(t *testing.T) {
	// Length, header and payload end at 512 with the marker at 0: 4 + 2 + 18 + 488.
	_, stream := markedSend(t, Config{CRC: true}, []int{488})
	if len(stream) != 520 {
		t.Fatalf("%d octets", len(stream))
	}
	if !bytes.Equal(stream[512:516], []byte{0, 0, 0x01, 0xFC}) {
		t.Errorf("marker %x, want FPDUPTR 01FC", stream[512:516])
	}
	if got, want := binary.LittleEndian.Uint32(stream[516:]), crcOf(stream[:516]); got != want {
		t.Errorf("CRC %#08x, want %#08x with the marker", got, want)
	}
}

func rowMarkerDirections(t *testing.T) {
	// Request M=1 binds the responder alone: what the peer sends has none.
	s := newSite(t, Config{})
	l := s.line()
	l.receive(1)
	w := s.expectLine(l)
	w.write(wStart(false, 0x80, 1))
	if rep := w.startup(); rep == nil || rep.flags != 0 {
		t.Fatalf("Reply %+v, want no M", rep)
	}
	must(t, <-l.accepted)
	payload := bytes.Repeat([]byte{0xA5}, 600)
	w.send(wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), payload...), wSendMsg(1, 1))
	l.expect(0, ntstatus.Success)
	copy(s.want[inRW:], payload)
	s.received(0, []byte{1})
	s.check()
	must(t, l.qp.Send("s", nil, 0))
	l.expect("s", ntstatus.Success)
	must(t, w.c.CloseWrite())
	b, err := io.ReadAll(w.c)
	must(t, err)
	if want := append([]byte{0, 0, 0, 0}, fpduOf(wSendMsg(1), false)...); !bytes.Equal(b, want) {
		t.Errorf("with M in the Request came %x, want %x", b, want)
	}

	// Reply M=1 binds the initiator alone.
	e, w, err := call(t, Config{}, limits, func(w *wire, req *wFrame) {
		if req.flags&0x80 != 0 {
			t.Error("M in the Request")
		}
		w.write(wStart(true, 0x90, 2, wEnhanced(4, 4)...))
	})
	must(t, err)
	must(t, e.qp.Receive("r", []ndk.SGE{e.sge(0, 1024)}))
	must(t, e.c.CompleteConnect(context.Background(), nil))
	w.send(wSendMsg(1, payload...))
	if r := e.wait(); r.Status != ntstatus.Success || r.Bytes != 600 {
		t.Errorf("%+v", r)
	}
	must(t, e.qp.Send("s", nil, 0))
	if r := e.wait(); r.Status != ntstatus.Success {
		t.Errorf("%+v", r)
	}
	must(t, w.c.CloseWrite())
	b, err = io.ReadAll(w.c)
	must(t, err)
	if want := append([]byte{0, 0, 0, 0}, fpduOf(wSendMsg(1), false)...); !bytes.Equal(b, want) {
		t.Errorf("with M in the Reply came %x, want %x", b, want)
	}

	// M=0 forbids them: 600 octets come without.
	s = newSite(t, Config{})
	l = s.line()
	w = s.talk(l)
	must(t, l.qp.Send("s", []ndk.SGE{s.sge(buffersAt, 600)}, 0))
	if u := w.ulpdu(); !bytes.Equal(u, wSendMsg(1, s.want[buffersAt:buffersAt+600]...)) {
		t.Errorf("%d octets, want them as they are", len(u))
	}
}

// rowMarkersByBoth has every kind of FPDU marked, by a responder and an initiator.
func rowMarkersByBoth(t *testing.T) {
	for _, crc := range []bool{false, true} {
		flags := byte(0x80)
		if crc {
			flags |= 0x40
		}
		s := newSite(t, Config{})
		l := s.line()
		w := s.expectLine(l)
		w.write(wStart(false, flags, 1))
		rep := w.startup()
		w.crc = rep.flags&0x40 != 0
		must(t, <-l.accepted)
		l.unfence(w)
		w.send(wRead(1, 3000, uint32(s.ro.RemoteToken()), s.ro.Base()))
		w.send(wRead(2, 700, 0xBAD00000, 0)) // ends with a Terminate, which is marked too
		all, err := io.ReadAll(w.c)
		must(t, err)
		fs := fpdusIn(t, unmarkWire(t, all, nil))
		if want := wMark(fs, crc); !bytes.Equal(all, want) {
			t.Errorf("CRC %v: the stream of a responder is not marked as it should", crc)
		}
		if last := fs[len(fs)-1]; last[3] != wTerminate {
			t.Errorf("the last FPDU is %x", last)
		}

		e, w, err := call(t, Config{CRC: crc}, limits, func(w *wire, _ *wFrame) { w.write(wStart(true, 0x90, 2, wEnhanced(4, 4)...)) })
		must(t, err)
		must(t, e.c.CompleteConnect(context.Background(), nil))
		for i := range e.mem {
			e.mem[i] = byte(i * 3)
		}
		must(t, e.qp.Write(0, []ndk.SGE{e.sge(0, 5000)}, 1<<40, 77, 0))
		must(t, e.qp.Read(1, []ndk.SGE{e.sge(0, 100)}, 1<<40, 77, 0))
		must(t, e.qp.Send(2, []ndk.SGE{{Inline: []byte("inline")}}, ndk.Inline))
		must(t, w.c.CloseWrite())
		all, err = io.ReadAll(w.c)
		must(t, err)
		fs = fpdusIn(t, unmarkWire(t, all, nil))
		if want := wMark(fs, crc); !bytes.Equal(all, want) || len(fs) < 3 {
			t.Errorf("CRC %v: the stream of an initiator is not marked as it should, or has %d FPDUs", crc, len(fs))
		}
	}
}

func rowCRCEither(t *testing.T) {
	for _, ours := range []bool{false, true} {
		for _, theirs := range []bool{false, true} {
			t.Run(fmt.Sprintf("responder, ours %v theirs %v", ours, theirs), func(t *testing.T) {
				s := newSite(t, Config{CRC: ours})
				l := s.line()
				l.receive(2)
				w := s.expectLine(l)
				flags := byte(0)
				if theirs {
					flags = 0x40
				}
				w.write(wStart(false, flags, 1))
				rep := w.startup()
				if rep == nil || rep.flags&0x40 != 0 != (ours || theirs) {
					t.Fatalf("Reply %+v", rep)
				}
				must(t, <-l.accepted)
				crcInForce(t, w, l.qp, l.wait, ours || theirs)
			})
			t.Run(fmt.Sprintf("initiator, ours %v theirs %v", ours, theirs), func(t *testing.T) {
				e, w, err := call(t, Config{CRC: ours}, limits, func(w *wire, req *wFrame) {
					if req.flags&0x40 != 0 != ours {
						t.Errorf("Request %+v", req)
					}
					flags := byte(0x10)
					if theirs {
						flags |= 0x40
					}
					w.write(wStart(true, flags, 2, wEnhanced(4, 4)...))
				})
				must(t, err)
				must(t, e.qp.Receive(0, []ndk.SGE{e.sge(0, 64)}))
				must(t, e.qp.Receive(1, []ndk.SGE{e.sge(0, 64)}))
				must(t, e.c.CompleteConnect(context.Background(), nil))
				crcInForce(t, w, e.qp, e.wait, ours || theirs)
			})
		}
	}
}

// crcInForce checks both directions of a connection with two receives posted.
func crcInForce(t *testing.T, w *wire, qp ndk.QP, wait func() ndk.ResultEx, want bool) {
	t.Helper()
	w.crc = want
	w.send(wSendMsg(1, 1, 2, 3))
	if r := wait(); r.Status != ntstatus.Success || r.Bytes != 3 {
		t.Errorf("%+v", r)
	}
	must(t, qp.Send("s", []ndk.SGE{{Inline: []byte{9, 8}}}, ndk.Inline))
	if r := wait(); r.RequestContext != "s" || r.Status != ntstatus.Success {
		t.Errorf("%+v", r)
	}
	if u := w.ulpdu(); !bytes.Equal(u, wSendMsg(1, 9, 8)) { // with its CRC
		t.Errorf("%x", u)
	}
	w.crc = !want // now one that is wrong, if there is one
	w.send(wSendMsg(2, 4))
	w.crc = want
	if r := wait(); r.Status == ntstatus.Success == want {
		t.Errorf("CRC in force %v: %+v", want, r)
	}
}

func rowCRCSwitch(t *testing.T) {
	for _, on := range []bool{true, false} {
		_, _, err := call(t, Config{CRC: on}, limits, func(w *wire, req *wFrame) {
			if req.flags&0x40 != 0 != on {
				t.Errorf("Config.CRC %v: flags of the Request %#02x", on, req.flags)
			}
			accepting(w, req)
		})
		must(t, err)
		s := newSite(t, Config{CRC: on})
		w := s.expectLine(s.line())
		w.write(wStart(false, 0, 1))
		if rep := w.startup(); rep == nil || rep.flags&0x40 != 0 != on {
			t.Errorf("Config.CRC %v: Reply %+v", on, rep)
		}
	}
}

// rowFormat holds FPDUs of every pad length against the test's own.
func rowFormat(t *testing.T) {
	for _, crc := range []bool{false, true} {
		s := newSite(t, Config{CRC: crc})
		l := s.line()
		w := s.talk(l)
		for n := range 9 {
			must(t, l.qp.Send(n, []ndk.SGE{s.sge(buffersAt+1, n)}, 0))
			f := w.fpdu()
			if want := fpduOf(wSendMsg(uint32(n)+1, s.want[buffersAt+1:buffersAt+1+n]...), crc); !bytes.Equal(f.raw, want) {
				t.Errorf("%d octets: FPDU %x, want %x", n, f.raw, want)
			}
			l.expect(n, ntstatus.Success)
		}
	}
}

func rowPad(t *testing.T) {
	// Ours is zero and the length goes up to a multiple of 4: rowFormat and every
	// FPDU that wire.fpdu reads. Theirs may be anything the CRC agrees with.
	for _, crc := range []bool{false, true} {
		s := newSite(t, Config{CRC: crc})
		l := s.line()
		w := s.talk(l)
		for n := range 4 {
			l.receive(1)
			f := fpduOf(wSendMsg(uint32(n)+1, 1, 2, 3, 4)[:wUntaggedLen+1+n], crc)
			body := f[:len(f)-4]
			for i := 2 + wUntaggedLen + 1 + n; i < len(body); i++ {
				body[i] = 0xFF
			}
			if crc {
				binary.LittleEndian.PutUint32(f[len(body):], crcOf(body))
			}
			w.write(f)
			if r := l.expect(n, ntstatus.Success); int(r.Bytes) != 1+n {
				t.Errorf("%d octets, want %d", r.Bytes, 1+n)
			}
			s.received(n, []byte{1, 2, 3, 4}[:1+n])
		}
		s.check()
	}
}

func rowCRCOctets(t *testing.T) {
	// The sums of two figures of RFC 5044, appendix: 52 23 99 83 and 84 92 58 98.
	for name, want := range map[string]string{"fpdu-marker-first": "52239983", "fpdu-marker-inside": "84925898"} {
		b := vector(t, name)
		c := make([]byte, 4)
		binary.LittleEndian.PutUint32(c, crcOf(b[:len(b)-4]))
		if got := hex.EncodeToString(c); got != want || !bytes.Equal(c, b[len(b)-4:]) {
			t.Errorf("%s: CRC %s, want %s", name, got, want)
		}
	}
	if crcOf([]byte("123456789")) != 0xE3069283 { // the check value of CRC-32C
		t.Error("the test's CRC is none")
	}
	// And ours is that, on the wire: wire.fpdu compares each.
	s := newSite(t, Config{CRC: true})
	l := s.line()
	w := s.talk(l)
	must(t, l.qp.Send("s", []ndk.SGE{s.sge(buffersAt, 13)}, 0))
	f := w.fpdu()
	if len(f.raw) != 40 || f.crc == 0 {
		t.Errorf("FPDU %x", f.raw)
	}
}

// rowCRCCover flips each bit of an FPDU: none is accepted.
func rowCRCCover(t *testing.T) {
	s := newSite(t, Config{CRC: true})
	ref := fpduOf(wSendMsg(1, 0xAA), true) // 2 + 19 + 3 + 4
	for bit := range len(ref) * 8 {
		l := s.line()
		l.receive(1)
		w := s.join(l)
		f := bytes.Clone(ref)
		f[bit/8] ^= 1 << (bit % 8)
		w.write(f)
		// A length that grew asks for more, which does not come.
		must(t, w.c.CloseWrite())
		for {
			g := w.seg()
			if g == nil {
				break
			}
			if g.op != wTerminate || !bytes.Equal(g.payload, []byte{0x20, 0x02, 0, 0}) {
				t.Errorf("bit %d of octet %d: answered with %x %x", bit%8, bit/8, g.header, g.payload)
			}
		}
		<-l.reason
		// One that came to nothing for want of octets leaves the receive alone.
		l.qp.Flush()
		l.expect(0, ntstatus.Cancelled)
		l.Close()
	}
	s.check()
	s.others()
}

func rowCRCField(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	for n, c := range [][]byte{{0, 0, 0, 0}, {0xFF, 0xFF, 0xFF, 0xFF}, {0xDE, 0xAD, 0xBE, 0xEF}} {
		l.receive(1)
		f := fpduOf(wSendMsg(uint32(n)+1, byte(n)), false)
		w.write(f[:len(f)-4], c)
		l.expect(n, ntstatus.Success)
		s.received(n, []byte{byte(n)})
	}
	s.check()
	must(t, l.qp.Send("s", nil, 0))
	if f := w.fpdu(); f == nil || f.crc != 0 || len(f.raw) != 24 {
		t.Errorf("FPDU %+v, want a CRC field of zero", f)
	}
}

func rowCRCWrong(t *testing.T) {
	for name, bad := range map[string]func(s *site) [][]byte{
		"a Write": func(s *site) [][]byte {
			return [][]byte{wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), 1, 2, 3, 4)}
		},
		"a Send": func(s *site) [][]byte { return [][]byte{wSendMsg(1, 1, 2, 3)} },
		"the end of a Send": func(s *site) [][]byte {
			return [][]byte{wUntaggedSeg(wUntagged, wSend, 0, 0, 1, 0, 1), wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 1, 1, 2)}
		},
		"a Read Request": func(s *site) [][]byte { return [][]byte{wRead(1, 4, uint32(s.ro.RemoteToken()), s.ro.Base())} },
		"a long Write": func(s *site) [][]byte {
			return [][]byte{wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), make([]byte, regionLen)...)}
		},
		"a Send w/o receives": func(s *site) [][]byte { return [][]byte{wSendMsg(9, 1)} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, Config{CRC: true})
			l := s.line()
			l.receive(2)
			w := s.talk(l)
			us := bad(s)
			var stream []byte
			for i, u := range us {
				f := fpduOf(u, true)
				if i == len(us)-1 {
					f[len(f)-1] ^= 0x80
				} else {
					s.received(0, []byte{1}) // placed, but not delivered
				}
				stream = append(stream, f...)
			}
			for _, u := range [][]byte{wSendMsg(1, 1), wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), 9)} {
				stream = append(stream, fpduOf(u, true)...)
			}
			w.write(stream)
			w.expectTerminate([]byte{0x20, 0x02, 0, 0})
			l.expectReason(2, 0, 2, true)
			l.expect(0, ntstatus.Cancelled)
			l.expect(1, ntstatus.Cancelled)
			l.expectDead()
			s.check()
			s.others()
		})
	}
}

func rowFramingByLength(t *testing.T) {
	// The length alone says where the next FPDU is, whatever TCP did to the stream
	// and whatever the payload looks like.
	s := newSite(t, Config{})
	l := s.line()
	l.receive(3)
	w := s.talk(l)
	inner := fpduOf(wSendMsg(1, 0xEE), false) // an FPDU as payload is payload
	var stream []byte
	for i := range 3 {
		stream = append(stream, fpduOf(wSendMsg(uint32(i)+1, inner...), false)...)
		s.received(i, inner)
	}
	for len(stream) > 0 {
		n := min(len(stream), 7)
		w.write(stream[:n])
		stream = stream[n:]
	}
	for i := range 3 {
		if r := l.expect(i, ntstatus.Success); int(r.Bytes) != len(inner) {
			t.Errorf("%d octets", r.Bytes)
		}
	}
	s.check()
	// What the length says and the header can not be is the error of this layer.
	w.send([]byte{wUntaggedLast})
	w.expectTerminate([]byte{0x20, 0x03, 0, 0})
}

func rowMULPDU(t *testing.T) {
	for _, tc := range []struct {
		emss    int
		markers byte
		want    int // MULPDU
	}{{1460, 0, 1454}, {1460, 0x80, 1442}, {1463, 0, 1454}, {1464, 0, 1458}, {256, 0, 250}} {
		s := newSite(t, Config{MaxFPDU: tc.emss})
		l := s.line()
		w := s.expectLine(l)
		w.write(wStart(false, tc.markers, 1))
		w.startup()
		must(t, <-l.accepted)
		l.unfence(w)
		const n = 10000
		must(t, l.qp.Send("s", []ndk.SGE{s.sge(buffersAt, n)}, 0))
		l.expect("s", ntstatus.Success)
		must(t, w.c.CloseWrite())
		b, err := io.ReadAll(w.c)
		must(t, err)
		if tc.markers != 0 {
			b = unmarkWire(t, b, nil)
		}
		fs := fpdusIn(t, b)
		for i, f := range fs {
			// All but the last are as long as they may be.
			if got := int(binary.BigEndian.Uint16(f)); got != tc.want && i < len(fs)-1 || got > tc.want {
				t.Errorf("EMSS %d, markers %#02x: ULPDU %d of %d has %d octets, want %d", tc.emss, tc.markers, i, len(fs), got, tc.want)
			}
		}
	}
	// Never below 128, whatever TCP says.
	for _, emss := range []int{0, 1, 100, 133} {
		if got := mulpdu(emss, false); got != 128 {
			t.Errorf("EMSS %d: MULPDU %d, want 128", emss, got)
		}
		if got := mulpdu(emss, true); got != 128 {
			t.Errorf("EMSS %d with markers: MULPDU %d, want 128", emss, got)
		}
	}
}

func rowAnyLength(t *testing.T) {
	for _, crc := range []bool{false, true} {
		// We cut ours to 256 octets; theirs are as long as a length field can say.
		e := newEnd(t, Config{CRC: crc, MaxFPDU: 256}, 1<<18)
		addr, got := listenTo(t, e)
		w := dialWire(t, addr)
		w.crc = crc
		w.write(wStart(false, 0, 1))
		e.c = <-got
		must(t, e.c.Accept(context.Background(), e.qp, ndk.ConnParams{}, nil))
		if w.startup() == nil {
			t.Fatal("no Reply")
		}
		for i, n := range []int{0, 1, 2, 3, 4093, 4094, 4095, 4096, 8192, 40000, 65535 - wUntaggedLen} {
			payload := bytes.Repeat([]byte{byte(i + 1)}, n)
			must(t, e.qp.Receive(i, []ndk.SGE{e.sge(0, n)}))
			clear(e.mem)
			w.send(wSendMsg(uint32(i)+1, payload...))
			if r := e.wait(); r.Status != ntstatus.Success || int(r.Bytes) != n || !bytes.Equal(e.mem[:n], payload) || e.mem[n] != 0 {
				t.Errorf("a Send of %d octets: %+v", n, r)
			}
			if i == len("whole")-1 {
				// A tagged one, as long as there is.
				long := bytes.Repeat([]byte{0x77}, 65535-wTaggedLen)
				w.send(wWriteMsg(uint32(e.mr.RemoteToken()), e.mr.Base()+100000, long...))
			}
		}
		if !bytes.Equal(e.mem[100000:100010], make([]byte, 10)) {
			t.Error("the Write came after what followed it")
		}
		// One octet at a time, and many in one segment.
		stream := fpduOf(wWriteMsg(uint32(e.mr.RemoteToken()), e.mr.Base(), bytes.Repeat([]byte{3}, 300)...), crc)
		for i := range 5 {
			stream = append(stream, fpduOf(wWriteMsg(uint32(e.mr.RemoteToken()), e.mr.Base()+uint64(i), byte(0xF0+i)), crc)...)
		}
		stream = append(stream, fpduOf(wSendMsg(12), crc)...)
		must(t, e.qp.Receive("last", nil))
		w.trickle(stream)
		if r := e.wait(); r.RequestContext != "last" || r.Status != ntstatus.Success {
			t.Errorf("%+v", r)
		}
		if !bytes.Equal(e.mem[:6], []byte{0xF0, 0xF1, 0xF2, 0xF3, 0xF4, 3}) || e.mem[299] != 3 {
			t.Errorf("memory begins with %x", e.mem[:6])
		}
	}
}

func rowOneWrite(t *testing.T) {
	nodelay := func(c *socket.Conn) int {
		t.Helper()
		raw, err := c.SyscallConn()
		must(t, err)
		v := -1
		must(t, raw.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY) }))
		must(t, err)
		return v
	}
	segments := func(c *socket.Conn) uint32 {
		t.Helper()
		raw, err := c.SyscallConn()
		must(t, err)
		var info *unix.TCPInfo
		must(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
		must(t, err)
		return info.Data_segs_out
	}
	for _, crc := range []bool{false, true} {
		c, s := pair(t, Config{CRC: crc}, Config{}, 1<<16)
		for _, e := range []*end{c, s} {
			conn := e.qp.(*qp).conn
			if nodelay(conn) != 1 {
				t.Error("Nagle is on")
			}
		}
		must(t, s.qp.Receive(nil, []ndk.SGE{s.sge(0, 1000)}))
		conn := c.qp.(*qp).conn
		before := segments(conn)
		// Header, three pieces of payload, pad and CRC.
		must(t, c.qp.Send(nil, []ndk.SGE{c.sge(0, 11), c.sge(100, 7), c.sge(5, 333)}, 0))
		s.wait()
		c.wait()
		if n := segments(conn) - before; n != 1 {
			t.Errorf("CRC %v: an FPDU left as %d segments, want 1", crc, n)
		}
		c.close()
		s.close()
	}
}

func rowEnd(t *testing.T) {
	t.Run("between FPDUs", func(t *testing.T) {
		s := newSite(t, Config{})
		l := s.line()
		l.receive(2)
		w := s.talk(l)
		w.send(wSendMsg(1, 1))
		l.expect(0, ntstatus.Success)
		s.received(0, []byte{1})
		w.end()
		if r := <-l.reason; r != 0 {
			t.Errorf("reason %#x, want none", r)
		}
		l.silent() // the event flushes nothing
		if err := l.qp.Send(nil, nil, 0); !errors.Is(err, ndk.ErrNotConnected) {
			t.Errorf("Send: %v", err)
		}
		must(t, l.c.Disconnect(context.Background()))
		l.expect(1, ntstatus.Cancelled)
		s.check()
		s.others()
	})
	whole := fpduOf(wSendMsg(1, 1, 2, 3, 4, 5), true)
	for _, crc := range []bool{false, true} {
		for _, cut := range []int{1, 2, 10, 20, 21, len(whole) - 5, len(whole) - 4, len(whole) - 1} {
			t.Run(fmt.Sprintf("behind octet %d of an FPDU, CRC %v", cut, crc), func(t *testing.T) {
				s := newSite(t, Config{CRC: crc})
				l := s.line()
				l.receive(1)
				w := s.talk(l)
				w.write(whole[:cut])
				w.end() // nothing is sent: the stream below is lost
				l.expectReason(2, 0, 1, true)
				l.expect(0, ntstatus.Cancelled)
				l.expectDead()
				if !crc { // what was placed before is not delivered
					if n := min(cut, 2+wUntaggedLen+5) - (2 + wUntaggedLen); n > 0 {
						s.received(0, []byte{1, 2, 3, 4, 5}[:n])
					}
				}
				s.check()
				s.others()
			})
		}
	}
	// Inside a startup frame: MPA-08 for a Request, and here for a Reply.
	for _, n := range []int{0, 5, 20, 22} {
		_, _, err := call(t, Config{ConnectTimeout: time.Hour}, limits, func(w *wire, _ *wFrame) {
			w.write(wStart(true, 0x10, 2, wEnhanced(1, 1)...)[:n])
			must(t, w.c.CloseWrite())
		})
		if !errors.Is(err, ntstatus.ConnectionRefused) {
			t.Errorf("Connect to %d octets of a Reply: %v", n, err)
		}
	}
}
