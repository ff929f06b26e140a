package iwarp

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"golang.org/x/sys/unix"
)

// mpaRows are the rows of RFC 5044.
func mpaRows() []rowTest {
	rows := []rowTest{
		{"MPA-01", "keys of Request and Reply", rowKeys},
		{"MPA-02", "flags, and reserved bits", rowFlags},
		{"MPA-03", "what is no Request is closed without a Reply", rowNoRequest},
		{"MPA-04", "what is no Reply fails Connect", rowNoReply},
		{"MPA-05", "a Request for a Request fails Connect", rowTwoInitiators},
		{"MPA-06", "the wait for a startup frame is bounded", rowStartupTimer},
		{"MPA-07", "revisions", rowRevision},
		{"MPA-08", "length of private data", rowPrivateLength},
		{"MPA-09", "octets behind a startup frame are FPDUs", rowBehindStartup},
		{"MPA-10", "silence before Reply and Request", rowSilenceBefore},
		{"MPA-11", "the fence of the responder", rowFence},
		{"MPA-12", "accept and reject", rowReject},
		{"MPA-13", "R in a Request", rowRejectInRequest},
		{"MPA-14", "a Reply that rejects", rowRejected},
		{"MPA-15", "markers in one direction", rowMarkerDirections},
		{"MPA-16", "markers by either role", rowMarkersByBoth},
		{"MPA-17", "CRC if either side wants it", rowCRCEither},
		{"MPA-18", "CRC is a switch of the administrator", rowCRCSwitch},
		{"MPA-19", "FPDU format", rowFormat},
		{"MPA-20", "pad", rowPad},
		{"MPA-21", "CRC-32C, and where its octets go", rowCRCOctets},
		{"MPA-22", "what the CRC covers", rowCRCCover},
		{"MPA-23", "the CRC field without CRC", rowCRCField},
		{"MPA-24", "an FPDU with a wrong CRC", rowCRCWrong},
		{"MPA-25", "marker format", rowMarkers},
		{"MPA-26", "marker positions", rowMarkers},
		{"MPA-27", "FPDUPTR", rowMarkers},
		{"MPA-28", "a marker between FPDUs", rowMarkerBetween},
		{"MPA-29", "a marker between pad and CRC", rowMarkerBeforeCRC},
		{"MPA-30", "framing by ULPDU_Length", rowFramingByLength},
		{"MPA-31", "MULPDU", rowMULPDU},
		{"MPA-32", "any length and any segmentation", rowAnyLength},
		{"MPA-33", "Nagle is off, an FPDU is one write", rowOneWrite},
		{"MPA-35", "end of the stream", rowEnd},
	}
	for _, c := range []badCase{
		{id: "MPA-34", name: "a ULPDU of 0 octets", bad: func(*site, *line) [][]byte { return [][]byte{{}} }},
		{id: "MPA-34", name: "a ULPDU of 1 octet", bad: func(*site, *line) [][]byte { return [][]byte{{wUntaggedLast}} }},
		{id: "MPA-34", name: "a tagged ULPDU of 13 octets", bad: func(s *site, _ *line) [][]byte {
			return [][]byte{wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base())[:13]}
		}},
		{id: "MPA-34", name: "an untagged ULPDU of 14 octets", bad: func(*site, *line) [][]byte { return [][]byte{wSendMsg(1)[:14]} }},
		{id: "MPA-34", name: "an untagged ULPDU of 17 octets", bad: func(*site, *line) [][]byte { return [][]byte{wSendMsg(1)[:17]} }},
		{id: "MPA-34", name: "a Read Request of 18 octets", bad: func(*site, *line) [][]byte { return [][]byte{wRead(1, 1, 1, 1)[:18]} }},
		{id: "MPA-34", name: "a Read Request of 45 octets", bad: func(s *site, _ *line) [][]byte {
			return [][]byte{wRead(1, 1, uint32(s.rw.RemoteToken()), s.rw.Base())[:45]}
		}},
	} {
		c.layer, c.etype, c.code = 2, 0, 0x03
		rows = append(rows, rowTest{c.id, c.name, c.run})
	}
	return rows
}

var (
	wantRequestKey, _ = hex.DecodeString("4D504120494420526571204672616D65")
	wantReplyKey, _   = hex.DecodeString("4D504120494420526570204672616D65")
)

func rowKeys(t *testing.T) {
	s := newSite(t, Config{})
	w := s.expectLine(s.line())
	w.write(octets(wantRequestKey, byte(0), byte(1), uint16(0)))
	rep := w.startup()
	if rep == nil || rep.key != string(wantReplyKey) || rep.rev != 1 || len(rep.private) != 0 {
		t.Errorf("Reply %+v", rep)
	}
	_, _, err := call(t, Config{Revision: 1}, ndk.ConnParams{Private: []byte("ab")}, func(w *wire, req *wFrame) {
		if req.key != string(wantRequestKey) || req.rev != 1 || string(req.private) != "ab" {
			t.Errorf("Request %+v", req)
		}
		w.write(octets(wantReplyKey, byte(0), byte(1), uint16(2), "cd"))
	})
	must(t, err)
}

func rowFlags(t *testing.T) {
	s := newSite(t, Config{})
	for _, flags := range []byte{0, 0x0F, 0x8F, 0x4F, 0xCF} {
		w := s.expectLine(s.line())
		w.write(wStart(false, flags, 1))
		rep := w.startup()
		// C as it came, never markers, no reject, nothing reserved.
		if rep == nil || rep.flags != flags&0x40 {
			t.Errorf("Request with flags %#02x is answered with %+v", flags, rep)
		}
		w.end()
	}
	_, w, err := call(t, Config{}, limits, func(w *wire, req *wFrame) {
		if req.flags != 0x10 {
			t.Errorf("flags of a Request %#02x, want S alone", req.flags)
		}
		w.write(wStart(true, 0x1F, 2, wEnhanced(4, 4)...))
	})
	must(t, err)
	if !w.quiet() {
		t.Error("something behind the Reply")
	}
}

// refused checks that the peer was closed without an answer.
func refusedBy(t *testing.T, w *wire) {
	t.Helper()
	b, err := io.ReadAll(w.c)
	if len(b) > 0 || err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("answered with %x, %v", b, err)
	}
}

func rowNoRequest(t *testing.T) {
	// With a timer of an hour it is not that which closes.
	s := newSite(t, Config{NegotiateTimeout: time.Hour})
	for name, b := range map[string][]byte{
		"direct TCP SMB":      {0, 0, 0, 4, 0xFE, 'S', 'M', 'B'},
		"a Reply":             wStart(true, 0, 1),
		"the last letter":     append([]byte("MPA ID Req Framf"), 0, 1, 0, 0),
		"the first letter":    append([]byte("mPA ID Req Frame"), 0, 1, 0, 0),
		"a letter wrong, cut": []byte("MPA ID R_"),
	} {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, s.addr)
			w.write(b)
			refusedBy(t, w)
		})
	}
	s.others()
}

func rowNoReply(t *testing.T) {
	for name, b := range map[string][]byte{
		"one letter":       append([]byte("MPA ID Rep Framf"), 0x10, 2, 0, 4, 0, 4, 0, 4),
		"something else":   []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"wrong at once":    {0},
		"wrong in the end": []byte("MPA ID Rep Fram\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			e, w, err := call(t, Config{ConnectTimeout: time.Hour}, limits, func(w *wire, _ *wFrame) { w.write(b) })
			if !errors.Is(err, ntstatus.ConnectionAborted) {
				t.Errorf("Connect: %v", err)
			}
			refusedBy(t, w)
			if err := e.c.CompleteConnect(context.Background(), nil); err == nil {
				t.Error("CompleteConnect after that")
			}
		})
	}
}

func rowTwoInitiators(t *testing.T) {
	_, w, err := call(t, Config{ConnectTimeout: time.Hour}, limits, func(w *wire, _ *wFrame) {
		w.write(wStart(false, 0x10, 2, wEnhanced(4, 4)...))
	})
	if !errors.Is(err, ntstatus.ConnectionAborted) {
		t.Errorf("Connect: %v", err)
	}
	refusedBy(t, w)
}

// dripping writes b octet by octet with a pause before each, until it is told to
// stop or the connection is gone.
func dripping(w *wire, b []byte, stop <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := range b {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if _, err := w.c.Write(b[i : i+1]); err != nil {
			return
		}
	}
}

func rowStartupTimer(t *testing.T) {
	const limit = 50 * time.Millisecond // 532 octets take longer than a second
	t.Run("responder, silence", func(t *testing.T) {
		s := newSite(t, Config{NegotiateTimeout: limit})
		refusedBy(t, dialWire(t, s.addr))
	})
	t.Run("responder, octet by octet", func(t *testing.T) {
		s := newSite(t, Config{NegotiateTimeout: limit})
		w := dialWire(t, s.addr)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() { // stopped below
			defer close(done)
			dripping(w, wStart(false, 0, 1, make([]byte, 512)...), stop)
		}()
		refusedBy(t, w)
		close(stop)
		<-done
	})
	t.Run("initiator, silence", func(t *testing.T) {
		_, w, err := call(t, Config{ConnectTimeout: limit}, limits, func(*wire, *wFrame) {})
		if !errors.Is(err, ntstatus.IOTimeout) {
			t.Errorf("Connect: %v", err)
		}
		refusedBy(t, w)
	})
	t.Run("initiator, octet by octet", func(t *testing.T) {
		stop, done := make(chan struct{}), make(chan struct{})
		_, w, err := call(t, Config{ConnectTimeout: limit}, limits, func(w *wire, _ *wFrame) {
			go func() { // stopped below
				defer close(done)
				dripping(w, wStart(true, 0x10, 2, make([]byte, 512)...), stop)
			}()
		})
		close(stop)
		<-done
		if !errors.Is(err, ntstatus.IOTimeout) {
			t.Errorf("Connect: %v", err)
		}
		refusedBy(t, w)
	})
}

func rowRevision(t *testing.T) {
	s := newSite(t, Config{NegotiateTimeout: time.Hour})
	for rev, good := range map[byte]bool{0: true, 1: true, 2: true, 3: false, 255: false} {
		if !good {
			w := dialWire(t, s.addr)
			w.write(wStart(false, 0, rev))
			refusedBy(t, w)
			continue
		}
		w := s.expectLine(s.line())
		w.write(wStart(false, 0, rev))
		if rep := w.startup(); rep == nil || rep.rev != rev || rep.flags != 0 {
			t.Errorf("revision %d is answered with %+v", rev, rep)
		}
		w.end()
	}
	for _, cfg := range []Config{{ConnectTimeout: time.Hour}, {ConnectTimeout: time.Hour, Revision: 1}} {
		_, _, err := call(t, cfg, limits, func(w *wire, req *wFrame) {
			if want := byte(max(cfg.Revision, 1)); cfg.Revision == 1 && req.rev != want || cfg.Revision == 0 && req.rev != 2 {
				t.Errorf("revision %d in the Request of %+v", req.rev, cfg)
			}
			w.write(wStart(true, 0x10, 3, wEnhanced(4, 4)...))
		})
		if !errors.Is(err, ntstatus.ConnectionAborted) {
			t.Errorf("Connect to revision 3: %v", err)
		}
	}
}

func rowPrivateLength(t *testing.T) {
	s := newSite(t, Config{NegotiateTimeout: time.Hour})
	long := bytes.Repeat([]byte("private!"), 64)
	for _, n := range []int{0, 1, 252, 512} {
		// Handed up as it is: taken from the connector before it accepts.
		w := dialWire(t, s.addr)
		w.write(wStart(false, 0, 1, long[:n]...))
		l := s.line()
		s.next <- l
		if rep := w.startup(); rep == nil {
			t.Errorf("%d octets of private data are refused", n)
		}
		must(t, <-l.accepted)
		c := l.c.(*connector)
		c.mu.Lock()
		if !bytes.Equal(c.frame.Private, long[:n]) {
			t.Errorf("of %d octets of private data came %q", n, c.frame.Private)
		}
		c.mu.Unlock()
		w.end()
	}
	for _, n := range []uint16{513, 0xFFFF} {
		w := dialWire(t, s.addr)
		w.write(octets("MPA ID Req Frame", byte(0), byte(1), n))
		refusedBy(t, w)
	}
	w := dialWire(t, s.addr) // fewer than the length says
	w.write(wStart(false, 0, 1, long[:16]...)[:30])
	must(t, w.c.CloseWrite())
	refusedBy(t, w)

	for name, b := range map[string][]byte{
		"513":  octets("MPA ID Rep Frame", byte(0), byte(1), uint16(513)),
		"less": wStart(true, 0, 1, long[:16]...)[:30],
	} {
		_, w, err := call(t, Config{Revision: 1, ConnectTimeout: time.Hour}, limits, func(w *wire, _ *wFrame) {
			w.write(b)
			must(t, w.c.CloseWrite())
		})
		if !errors.Is(err, ntstatus.ConnectionAborted) && !errors.Is(err, ntstatus.ConnectionRefused) {
			t.Errorf("Connect to a Reply of %s octets: %v", name, err)
		}
		refusedBy(t, w)
	}
	e, _, err := call(t, Config{Revision: 1}, limits, func(w *wire, _ *wFrame) { w.write(wStart(true, 0, 1, long...)) })
	must(t, err)
	got := make([]byte, 600)
	d, err := e.c.ConnectionData(got)
	if err != nil || d.RequiredDataSize != 512 || !bytes.Equal(got[:512], long) {
		t.Errorf("%d octets of private data, %v", d.RequiredDataSize, err)
	}
	// Ours stay below what siw takes (256 with the enhanced data).
	if err := e.c.Connect(context.Background(), e.qp, netip.AddrPort{}, netip.MustParseAddrPort("127.0.0.1:1"), ndk.ConnParams{Private: long[:253]}); !errors.Is(err, ntstatus.InvalidBufferSize) {
		t.Errorf("Connect with 253 octets: %v", err)
	}
}

func rowBehindStartup(t *testing.T) {
	// A Request and FPDUs in one write: no peer should, but none of them is lost.
	s := newSite(t, Config{})
	l := s.line()
	l.receive(1)
	w := s.expectLine(l)
	w.write(wStart(false, 0, 1, 1, 2, 3), fpduOf(wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), 7), false), fpduOf(wSendMsg(1, 5, 6), false))
	if w.startup() == nil {
		t.Fatal("no Reply")
	}
	must(t, <-l.accepted)
	if r := l.expect(0, ntstatus.Success); r.Bytes != 2 {
		t.Errorf("%d octets", r.Bytes)
	}
	s.received(0, []byte{5, 6})
	s.want[inRW] = 7
	s.check()

	// A Reply and an FPDU behind it, as siw sends them (MPA-11).
	e, _, err := call(t, Config{}, limits, func(w *wire, _ *wFrame) {
		w.write(wStart(true, 0x10, 2, wEnhanced(4, 4, 1, 2)...), fpduOf(wSendMsg(1, 4, 3, 2), false))
	})
	must(t, err)
	must(t, e.qp.Receive("r", []ndk.SGE{e.sge(0, 8)}))
	must(t, e.c.CompleteConnect(context.Background(), nil))
	if r := e.wait(); r.Status != ntstatus.Success || r.Bytes != 3 || !bytes.Equal(e.mem[:4], []byte{4, 3, 2, 0}) {
		t.Errorf("%+v with %x", r, e.mem[:4])
	}
}

func rowSilenceBefore(t *testing.T) {
	s := newSite(t, Config{})
	w := s.expectLine(s.line())
	w.write([]byte("MPA ID Req Frame")) // not all of it
	if !w.quiet() {
		t.Error("an octet before the Request is complete")
	}
	w.write([]byte{0, 1, 0, 0})
	if w.startup() == nil {
		t.Error("no Reply")
	}
	e, w, err := call(t, Config{RTR: RTRWrite}, limits, func(w *wire, _ *wFrame) {
		if !w.quiet() {
			t.Error("an octet between Request and Reply")
		}
		w.write(wStart(true, 0x10, 2, wEnhanced(0x8004, 0x8004)...))
	})
	must(t, err)
	// Nor before the consumer has completed the connection.
	if err := e.qp.Send(nil, nil, 0); !errors.Is(err, ndk.ErrNotConnected) {
		t.Errorf("Send before CompleteConnect: %v", err)
	}
	if !w.quiet() {
		t.Error("an octet before CompleteConnect")
	}
	must(t, e.c.CompleteConnect(context.Background(), nil))
	if u := w.ulpdu(); !bytes.Equal(u[:2], []byte{wTaggedLast, wWrite}) || len(u) != wTaggedLen {
		t.Errorf("the first FPDU is %x", u)
	}
}

func rowFence(t *testing.T) {
	for _, markers := range []byte{0, 0x80} {
		s := newSite(t, Config{})
		l := s.line()
		l.receive(1)
		w := s.expectLine(l)
		w.write(wStart(false, markers, 1))
		if w.startup() == nil {
			t.Fatal("no Reply")
		}
		must(t, <-l.accepted)
		must(t, l.qp.Send("s", []ndk.SGE{s.sge(buffersAt, 5)}, 0))
		must(t, l.qp.Write("w", nil, 0, 0, 0))
		// A Read Request of ours would be noticed too; and an FPDU that is not
		// complete lifts nothing.
		f := fpduOf(wSendMsg(1, 1), false)
		w.write(f[:10])
		// What the other connection does takes longer than a Send would.
		s.others()
		if !w.quiet() {
			t.Error("an octet before the first FPDU was there")
		}
		l.silent()
		w.write(f[10:])
		l.expect(0, ntstatus.Success)
		s.received(0, []byte{1})
		l.expect("s", ntstatus.Success)
		l.expect("w", ntstatus.Success)
		must(t, w.c.CloseWrite())
		b, err := io.ReadAll(w.c)
		must(t, err)
		if markers != 0 {
			b = unmarkWire(t, b, nil)
		}
		if want := append(fpduOf(wSendMsg(1, s.want[buffersAt:buffersAt+5]...), false), fpduOf(wWriteMsg(0, 0), false)...); !bytes.Equal(b, want) {
			t.Errorf("behind the fence came %x, want %x", b, want)
		}
	}
	// An error in the first FPDU: its sender is in full operation and hears of it.
	s := newSite(t, Config{})
	w := s.join(s.line())
	w.send(wSendMsg(2))
	w.expectTerminate(termOf(1, 2, 3, wSendMsg(2), true, false))
}

// listenTo is a listener whose requests the test gets.
func listenTo(t *testing.T, e *end) (netip.AddrPort, chan ndk.Connector) {
	t.Helper()
	got := make(chan ndk.Connector, 8)
	l, err := e.a.CreateListener(context.Background(), func(c ndk.Connector) { got <- c })
	must(t, err)
	must(t, l.Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0")))
	addr, err := l.LocalAddr()
	must(t, err)
	t.Cleanup(func() {
		l.Close()
		e.close()
	})
	return addr, got
}

func rowReject(t *testing.T) {
	e := newEnd(t, Config{}, 4096)
	addr, got := listenTo(t, e)
	for _, private := range []string{"", "not today"} {
		w := dialWire(t, addr)
		w.write(wStart(false, 0x40, 1))
		c := <-got
		must(t, c.Reject([]byte(private)))
		rep := w.startup()
		if rep == nil || rep.key != string(wantReplyKey) || rep.flags != 0x60 || rep.rev != 1 || string(rep.private) != private {
			t.Errorf("reject with %q came as %+v", private, rep)
		}
		w.ended()
		c.Close()
	}
	w := dialWire(t, addr)
	w.write(wStart(false, 0x40, 1))
	e.c = <-got
	must(t, e.c.Accept(context.Background(), e.qp, ndk.ConnParams{Private: []byte("yes")}, nil))
	if rep := w.startup(); rep == nil || rep.flags != 0x40 || string(rep.private) != "yes" {
		t.Errorf("accept came as %+v", rep)
	}
}

func rowRejectInRequest(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.expectLine(l)
	w.write(wStart(false, 0x20, 1))
	if rep := w.startup(); rep == nil || rep.flags != 0 {
		t.Errorf("a Request with R is answered with %+v, want a plain yes", rep)
	}
	must(t, <-l.accepted)
	l.receive(1)
	w.send(wSendMsg(1, 3))
	l.expect(0, ntstatus.Success)
	// Ours have R zero: MPA-02.
}

func rowRejected(t *testing.T) {
	for name, rep := range map[string][]byte{
		"revision 1":         wStart(true, 0x20, 1, []byte("no room")...),
		"revision 2":         wStart(true, 0x30, 2, wEnhanced(3, 5, []byte("no room")...)...),
		"revision 2, S zero": wStart(true, 0x20, 2, []byte("no room")...),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{}
			if rep[17] == 1 {
				cfg.Revision = 1
			}
			e, w, err := call(t, cfg, limits, func(w *wire, _ *wFrame) { w.write(rep) })
			if !errors.Is(err, ntstatus.ConnectionRefused) {
				t.Errorf("Connect: %v", err)
			}
			refusedBy(t, w)
			buf := make([]byte, 32)
			if d, err := e.c.ConnectionData(buf); err != nil || string(buf[:d.RequiredDataSize]) != "no room" {
				t.Errorf("private data %q, %v", buf[:d.RequiredDataSize], err)
			}
			if err := e.c.CompleteConnect(context.Background(), nil); !errors.Is(err, ntstatus.ConnectionInvalid) {
				t.Errorf("CompleteConnect: %v", err)
			}
			if err := e.qp.Send(nil, nil, 0); !errors.Is(err, ndk.ErrNotConnected) {
				t.Errorf("Send: %v", err)
			}
		})
	}
}

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
	nodelay := func(c *net.TCPConn) int {
		t.Helper()
		raw, err := c.SyscallConn()
		must(t, err)
		v := -1
		must(t, raw.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY) }))
		must(t, err)
		return v
	}
	segments := func(c *net.TCPConn) uint32 {
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
