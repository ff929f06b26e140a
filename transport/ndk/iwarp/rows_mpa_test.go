package iwarp

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"slices"
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
		// What is sent completes in its order; what was received may come between, as
		// receives and sends complete apart.
		var sent []any
		for range 3 {
			r := l.wait()
			if r.Status != ntstatus.Success {
				t.Errorf("completion of %v with %v", r.RequestContext, r.Status)
			}
			if r.RequestContext != 0 {
				sent = append(sent, r.RequestContext)
			}
		}
		if !slices.Equal(sent, []any{"s", "w"}) {
			t.Errorf("completions of what was sent: %v, want [s w], and the receive's", sent)
		}
		s.received(0, []byte{1})
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
