package iwarp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// v2Rows are the rows of RFC 6581.
func v2Rows() []rowTest {
	return []rowTest{
		{"V2-01", "S and revision 2", rowEnhancedFlag},
		{"V2-02", "the enhanced data", rowEnhancedData},
		{"V2-03", "enhanced data that is too short", rowEnhancedShort},
		{"V2-04", "a Reply is as enhanced as its Request", rowEnhancedAnswer},
		{"V2-05", "revision 2 without S", rowEnhancedWithoutS},
		{"V2-06", "a Reply that is not enhanced", rowEnhancedLost},
		{"V2-07", "the responder's read limits", rowLimitsResponder},
		{"V2-08", "the initiator's read limits", rowLimitsInitiator},
		{"V2-09", "more reads than there is room for", rowLimitsRefused},
		{"V2-10", "limits that are not negotiated", rowLimitsOpen},
		{"V2-11", "limits are shown to the consumer", rowLimitsShown},
		{"V2-12", "client-server", rowClientServer},
		{"V2-13", "peer-to-peer", rowPeerToPeer},
		{"V2-14", "one ready-to-receive message", rowRTRSent},
		{"V2-15", "no common kind", rowRTRNone},
		{"V2-16", "Accept ends with the ready-to-receive message", rowRTRReceived},
		{"V2-17", "a Read as ready-to-receive message needs a limit", rowRTRRead},
		{"V2-18", "a local failure during setup", rowSetupFailure},
	}
}

// twoWords are enhanced data without consumer data.
func (f *wFrame) twoWords(t *testing.T) (w0, w1 uint16) {
	t.Helper()
	if f == nil || len(f.private) < 4 || f.flags&0x10 == 0 {
		t.Fatalf("%+v has no enhanced data", f)
	}
	return f.words()
}

func rowEnhancedFlag(t *testing.T) {
	_, _, err := call(t, Config{}, limits, func(w *wire, req *wFrame) {
		if req.rev != 2 || req.flags&0x10 == 0 || len(req.private) < 4 {
			t.Errorf("Request %+v", req)
		}
		accepting(w, req)
	})
	must(t, err)
	_, _, err = call(t, Config{Revision: 1}, limits, func(w *wire, req *wFrame) {
		if req.rev != 1 || req.flags&0x10 != 0 || len(req.private) != 0 {
			t.Errorf("Request of revision 1 %+v", req)
		}
		w.write(wStart(true, 0, 1))
	})
	must(t, err)
	s := newSite(t, Config{})
	w := s.expectLine(s.line())
	w.write(wStart(false, 0x10, 2, wEnhanced(8, 8)...))
	if rep := w.startup(); rep == nil || rep.rev != 2 || rep.flags != 0x10 || len(rep.private) != 4 {
		t.Errorf("Reply %+v", rep)
	}
}

func rowEnhancedData(t *testing.T) {
	// Ours: 16 inbound, 3 outbound, Write and Read as kinds.
	_, _, err := call(t, Config{RTR: RTRWrite | RTRRead}, ndk.ConnParams{InboundReadLimit: 16, OutboundReadLimit: 3, Private: []byte("pd")}, func(w *wire, req *wFrame) {
		if !bytes.Equal(req.private, []byte{0x80, 16, 0xC0, 3, 'p', 'd'}) {
			t.Errorf("Request with %x", req.private)
		}
		w.write(wStart(true, 0x10, 2, wEnhanced(0x8010, 0x8003)...))
	})
	must(t, err)
	// Theirs: the words are hidden from the consumer, and count for the length.
	e := newEnd(t, Config{}, 4096)
	addr, got := listenTo(t, e)
	long := bytes.Repeat([]byte("12345678"), 64)[:508]
	for _, private := range [][]byte{nil, []byte("x"), long} {
		w := dialWire(t, addr)
		w.write(wStart(false, 0x10, 2, wEnhanced(0x0123, 0x0045, private...)...))
		c := <-got
		buf := make([]byte, 600)
		d, err := c.ConnectionData(buf)
		if err != nil || d.RequiredDataSize != len(private) || !bytes.Equal(buf[:d.RequiredDataSize], private) {
			t.Errorf("private data %q, %v, want %q", buf[:d.RequiredDataSize], err, private)
		}
		// IRD 0x123 and ORD 0x45 of the peer, cut to the 128 of the adapter.
		if d.OutboundReadLimit != 128 || d.InboundReadLimit != 0x45 {
			t.Errorf("limits %+v", d)
		}
		c.Close()
	}
}

func rowEnhancedShort(t *testing.T) {
	s := newSite(t, Config{NegotiateTimeout: time.Hour})
	for n := range 4 {
		w := dialWire(t, s.addr)
		w.write(wStart(false, 0x10, 2, make([]byte, n)...))
		refusedBy(t, w)
		_, w, err := call(t, Config{ConnectTimeout: time.Hour}, limits, func(w *wire, _ *wFrame) { w.write(wStart(true, 0x10, 2, make([]byte, n)...)) })
		if !errors.Is(err, ntstatus.ConnectionAborted) {
			t.Errorf("Connect to a Reply with %d octets: %v", n, err)
		}
		refusedBy(t, w)
	}
	s.others()
}

func rowEnhancedAnswer(t *testing.T) {
	s := newSite(t, Config{})
	for _, tc := range []struct{ flags, rev, wantFlags byte }{{0, 1, 0}, {0x40, 1, 0x40}, {0x10, 1, 0}, {0x10, 2, 0x10}, {0, 2, 0}} {
		w := s.expectLine(s.line())
		pd := []byte(nil)
		if tc.flags&0x10 != 0 {
			pd = wEnhanced(4, 4)
		}
		w.write(wStart(false, tc.flags, tc.rev, pd...))
		rep := w.startup()
		if rep == nil || rep.rev != tc.rev || rep.flags != tc.wantFlags || len(rep.private) != int(tc.wantFlags&0x10)/4 {
			t.Errorf("flags %#02x revision %d is answered with %+v", tc.flags, tc.rev, rep)
		}
		w.end()
	}
}

func rowEnhancedWithoutS(t *testing.T) {
	e := newEnd(t, Config{}, 4096)
	addr, got := listenTo(t, e)
	w := dialWire(t, addr)
	w.write(wStart(false, 0, 2, 0x80, 1, 0xC0, 1)) // consumer data, whatever it looks like
	e.c = <-got
	buf := make([]byte, 8)
	if d, err := e.c.ConnectionData(buf); err != nil || d.RequiredDataSize != 4 || !bytes.Equal(buf[:4], []byte{0x80, 1, 0xC0, 1}) {
		t.Errorf("private data %x, %v", buf, err)
	}
	must(t, e.c.Accept(context.Background(), e.qp, ndk.ConnParams{}, nil)) // no ready-to-receive message
	if rep := w.startup(); rep == nil || rep.rev != 2 || rep.flags != 0 || len(rep.private) != 0 {
		t.Errorf("Reply %+v", rep)
	}
}

func rowEnhancedLost(t *testing.T) {
	for name, rep := range map[string][]byte{
		"revision 1":            wStart(true, 0, 1),
		"revision 1 with S":     wStart(true, 0x10, 1, wEnhanced(4, 4)...),
		"revision 2 without S":  wStart(true, 0, 2),
		"revision 2, with data": wStart(true, 0, 2, wEnhanced(4, 4)...),
	} {
		t.Run(name, func(t *testing.T) {
			e, w, err := call(t, Config{}, limits, func(w *wire, _ *wFrame) { w.write(rep) })
			if !errors.Is(err, ntstatus.ConnectionAborted) {
				t.Errorf("Connect: %v", err)
			}
			refusedBy(t, w)
			// The QP is free for another try.
			if st := e.qp.(*qp).reserve(); st != ntstatus.Success {
				t.Errorf("QP: %v", st)
			}
		})
	}
}

// rowLimitsResponder: an IRD of at least what the initiator wants, as far as the
// consumer lets it, and never an ORD above what the initiator takes.
func rowLimitsResponder(t *testing.T) {
	s := newSite(t, Config{})
	for _, tc := range []struct {
		in, out          int    // of the consumer
		ird, ord         uint16 // of the Request
		wantIRD, wantORD uint16
	}{
		{16, 16, 8, 8, 8, 8},
		{16, 16, 32, 4, 4, 16},
		{16, 16, 4, 32, 16, 4}, // not enough: the initiator has to do with less (V2-08)
		{0, 0, 8, 8, 0, 0},
		{16, 16, 0, 0, 0, 0},
		{1000, 1000, 0x3FFE, 0x3FFE, 128, 128},
	} {
		l := s.line()
		l.params = ndk.ConnParams{InboundReadLimit: tc.in, OutboundReadLimit: tc.out}
		w := s.expectLine(l)
		w.write(wStart(false, 0x10, 2, wEnhanced(tc.ird, tc.ord)...))
		w0, w1 := w.startup().twoWords(t)
		if w0 != tc.wantIRD || w1 != tc.wantORD {
			t.Errorf("%+v: Reply with IRD %d ORD %d", tc, w0, w1)
		}
		if w1 > tc.ird {
			t.Errorf("ORD %d above the IRD %d of the Request", w1, tc.ird)
		}
		must(t, <-l.accepted)
		w.end()
	}
}

// readsAtOnce posts n Reads and a Send behind them, and checks that want Read
// Requests leave before any is answered, and one more for each that is.
func readsAtOnce(t *testing.T, e *end, w *wire, n, want int) {
	t.Helper()
	for i := range n {
		must(t, e.qp.Read(i, nil, 0, 0, 0))
	}
	must(t, e.qp.Send("s", nil, ndk.SilentSuccess))
	for i := range n {
		if i >= want {
			if !w.quiet() {
				t.Errorf("something leaves before Read Request %d may", i)
			}
			w.send(wTaggedSeg(wTaggedLast, wReadResp, 0, 0))
			if r := e.wait(); r.RequestContext != i-want || r.Status != ntstatus.Success {
				t.Errorf("%+v", r)
			}
		}
		if g := w.seg(); g == nil || g.op != wReadReq || g.msn != uint32(i)+1 {
			t.Fatalf("Read Request %d of %d came as %+v", i, n, g)
		}
	}
	if g := w.seg(); g == nil || g.op != wSend {
		t.Errorf("behind the Reads came %+v", g)
	}
}

func rowLimitsInitiator(t *testing.T) {
	for _, tc := range []struct {
		p        ndk.ConnParams
		ird, ord uint16 // of the Reply
		wantOut  int    // Reads of ours at once
		wantIn   int    // Read Requests of the peer that are served
	}{
		{ndk.ConnParams{InboundReadLimit: 8, OutboundReadLimit: 8}, 3, 2, 3, 2},
		{ndk.ConnParams{InboundReadLimit: 2, OutboundReadLimit: 2}, 9, 7, 2, 7}, // room for 7, though 2 were offered
		{ndk.ConnParams{InboundReadLimit: 8, OutboundReadLimit: 1}, 1, 8, 1, 8},
	} {
		e, w, err := call(t, Config{}, tc.p, func(w *wire, _ *wFrame) { w.write(wStart(true, 0x10, 2, wEnhanced(tc.ird, tc.ord)...)) })
		must(t, err)
		must(t, e.c.CompleteConnect(context.Background(), nil))
		readsAtOnce(t, e, w, 12, tc.wantOut)
		var us [][]byte
		for i := range tc.wantIn {
			us = append(us, wRead(uint32(i)+1, 0, 0, 0))
		}
		w.send(us...)
		for range tc.wantIn {
			if g := w.seg(); g == nil || g.op != wReadResp {
				t.Fatalf("%+v: answered with %+v", tc, g)
			}
		}
	}
	// IRD 0 of the responder: no Read leaves, and the post says so.
	e, _, err := call(t, Config{}, limits, func(w *wire, _ *wFrame) { w.write(wStart(true, 0x10, 2, wEnhanced(0, 4)...)) })
	must(t, err)
	must(t, e.c.CompleteConnect(context.Background(), nil))
	if err := e.qp.Read(nil, nil, 0, 0, 0); !errors.Is(err, ndk.ErrReadLimit) {
		t.Errorf("Read with an ORD of 0: %v", err)
	}
}

// refusedWith checks that Connect failed, and that the peer got one Terminate.
func refusedWith(t *testing.T, w *wire, err error, code byte) {
	t.Helper()
	if !errors.Is(err, ntstatus.ConnectionAborted) {
		t.Errorf("Connect: %v", err)
	}
	w.expectTerminate([]byte{0x20, code, 0, 0})
}

func rowLimitsRefused(t *testing.T) {
	for _, flags := range []byte{0x10, 0x50} {
		for _, ord := range []uint16{129, 0x3FFE} {
			_, w, err := call(t, Config{}, limits, func(w *wire, _ *wFrame) {
				w.crc = flags&0x40 != 0
				w.write(wStart(true, flags, 2, wEnhanced(4, ord)...))
			})
			refusedWith(t, w, err, 0x06)
		}
	}
	_, _, err := call(t, Config{}, limits, func(w *wire, _ *wFrame) { w.write(wStart(true, 0x10, 2, wEnhanced(4, 128)...)) })
	must(t, err) // there is room for as many
	// With markers asked for it is marked: the first four octets of the stream.
	_, w, err := call(t, Config{}, limits, func(w *wire, _ *wFrame) { w.write(wStart(true, 0x90, 2, wEnhanced(4, 129)...)) })
	if !errors.Is(err, ntstatus.ConnectionAborted) {
		t.Errorf("Connect: %v", err)
	}
	b, rerr := io.ReadAll(w.c)
	must(t, rerr)
	want := append([]byte{0, 0, 0, 0}, fpduOf(wUntaggedSeg(wUntaggedLast, wTerminate, 0, 2, 1, 0, 0x20, 0x06, 0, 0), false)...)
	if !bytes.Equal(b, want) {
		t.Errorf("came %x, want %x", b, want)
	}
}

func rowLimitsOpen(t *testing.T) {
	s := newSite(t, Config{})
	for _, tc := range []struct{ ird, ord, wantIRD, wantORD uint16 }{
		{0x3FFF, 0x3FFF, 0x3FFF, 0x3FFF}, {0x3FFF, 1, 1, 0x3FFF}, {1, 0x3FFF, 0x3FFF, 1},
	} {
		l := s.line() // limits of 2 and 2
		w := s.expectLine(l)
		w.write(wStart(false, 0x10, 2, wEnhanced(tc.ird, tc.ord)...))
		if w0, w1 := w.startup().twoWords(t); w0 != tc.wantIRD || w1 != tc.wantORD {
			t.Errorf("%+v: Reply with IRD %#x ORD %#x", tc, w0, w1)
		}
		must(t, <-l.accepted)
		// What was left alone is what the consumer said.
		wantIn, wantOut := 2, 2
		if tc.ord == 1 {
			wantIn = 1
		}
		if tc.ird == 1 {
			wantOut = 1
		}
		q := l.inner()
		q.mu.Lock()
		if q.ird != wantIn || q.ord != wantOut {
			t.Errorf("%+v: in force are %d and %d", tc, q.ird, q.ord)
		}
		q.mu.Unlock()
		w.end()
	}
	e, w, err := call(t, Config{}, ndk.ConnParams{InboundReadLimit: 5, OutboundReadLimit: 3}, func(w *wire, _ *wFrame) {
		w.write(wStart(true, 0x10, 2, wEnhanced(0x3FFF, 0x3FFF)...))
	})
	must(t, err)
	if d, err := e.c.ConnectionData(nil); err != nil || d.InboundReadLimit != 5 || d.OutboundReadLimit != 3 {
		t.Errorf("%+v, %v", d, err)
	}
	must(t, e.c.CompleteConnect(context.Background(), nil))
	readsAtOnce(t, e, w, 6, 3)
}

func rowLimitsShown(t *testing.T) {
	// Initiator: with a yes, and with a no that says what would have been needed.
	for _, reject := range []byte{0, 0x20} {
		e, _, err := call(t, Config{}, ndk.ConnParams{InboundReadLimit: 20, OutboundReadLimit: 10}, func(w *wire, _ *wFrame) {
			w.write(wStart(true, 0x10|reject, 2, wEnhanced(7, 9, 'w', 'h', 'y')...))
		})
		if (err == nil) != (reject == 0) || err != nil && !errors.Is(err, ntstatus.ConnectionRefused) {
			t.Errorf("Connect: %v", err)
		}
		buf := make([]byte, 3)
		d, err := e.c.ConnectionData(buf)
		if err != nil || d.InboundReadLimit != 9 || d.OutboundReadLimit != 7 || d.RequiredDataSize != 3 || string(buf) != "why" {
			t.Errorf("reject %#02x: %+v %q, %v", reject, d, buf, err)
		}
	}
	// Responder: before it decides.
	e := newEnd(t, Config{}, 4096)
	addr, got := listenTo(t, e)
	w := dialWire(t, addr)
	w.write(wStart(false, 0x10, 2, wEnhanced(6, 11)...))
	e.c = <-got
	if d, err := e.c.ConnectionData(nil); err != nil || d.InboundReadLimit != 11 || d.OutboundReadLimit != 6 {
		t.Errorf("%+v, %v", d, err)
	}
	// And the other way: our reject says what we would have taken.
	must(t, e.c.Reject(nil))
	rep := w.startup()
	if w0, w1 := rep.twoWords(t); rep.flags != 0x30 || w0 != 11 || w1 != 6 {
		t.Errorf("reject %+v", rep)
	}
	w.ended()
}

func rowClientServer(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.expectLine(l)
	w.write(wStart(false, 0x10, 2, wEnhanced(0x4002, 0xC002)...)) // B, C, D without A
	if w0, w1 := w.startup().twoWords(t); w0 != 2 || w1 != 2 {
		t.Errorf("Reply %#04x %#04x", w0, w1)
	}
	must(t, <-l.accepted) // does not wait for a message
	l.receive(1)
	w.send(wSendMsg(1)) // an empty Send is a Send then
	l.expect(0, ntstatus.Success)

	e, w, err := call(t, Config{}, limits, func(w *wire, req *wFrame) {
		if w0, w1 := req.twoWords(t); w0 != 4 || w1 != 4 {
			t.Errorf("Request %#04x %#04x", w0, w1)
		}
		w.write(wStart(true, 0x10, 2, wEnhanced(0x4004, 0xC004)...))
	})
	must(t, err)
	must(t, e.c.CompleteConnect(context.Background(), nil))
	must(t, e.qp.Send("s", nil, 0))
	if u := w.ulpdu(); !bytes.Equal(u, wSendMsg(1)) { // the first FPDU: no ready-to-receive message
		t.Errorf("%x", u)
	}
	// A was asked for and the answer is no: client-server.
	e, w, err = call(t, Config{RTR: RTRWrite}, limits, func(w *wire, _ *wFrame) { w.write(wStart(true, 0x10, 2, wEnhanced(4, 4)...)) })
	must(t, err)
	must(t, e.c.CompleteConnect(context.Background(), nil))
	must(t, e.qp.Send("s", nil, 0))
	if u := w.ulpdu(); !bytes.Equal(u, wSendMsg(1)) {
		t.Errorf("%x", u)
	}
}

// rtrWords are the words of a Request or Reply with those kinds and limits.
func rtrWords(kinds string, ird, ord uint16) []byte {
	ird |= 0x8000
	for _, k := range kinds {
		switch k {
		case 'B':
			ird |= 0x4000
		case 'C':
			ord |= 0x8000
		case 'D':
			ord |= 0x4000
		}
	}
	return wEnhanced(ird, ord)
}

// rtrMessage is a ready-to-receive message.
func rtrMessage(kind string) []byte {
	switch kind {
	case "B":
		return wSendMsg(1)
	case "C":
		return wWriteMsg(1, 0)
	}
	return wRead(1, 0, 1, 0)
}

func rowPeerToPeer(t *testing.T) {
	s := newSite(t, Config{})
	for _, kinds := range []string{"", "B", "C", "D", "BC", "BD", "CD", "BCD"} {
		l := s.line()
		w := s.expectLine(l)
		w.write(wStart(false, 0x10, 2, rtrWords(kinds, 2, 2)...))
		w0, w1 := w.startup().twoWords(t)
		if w0&0x8000 == 0 {
			t.Errorf("kinds %q: A=1 is answered with %#04x %#04x", kinds, w0, w1)
		}
		var want []byte
		if want = rtrWords(kinds, 2, 2); kinds == "" {
			want = rtrWords("C", 2, 2) // at least one
		}
		if got := wEnhanced(w0, w1); !bytes.Equal(got, want) {
			t.Errorf("kinds %q: Reply %x, want %x", kinds, got, want)
		}
		kind := "C"
		if kinds != "" {
			kind = kinds[:1]
		}
		w.send(rtrMessage(kind))
		must(t, <-l.accepted)
		w.c.Close()
	}
	for kinds, rtr := range map[string]RTR{"B": RTRSend, "C": RTRWrite, "D": RTRRead, "BCD": RTRSend | RTRWrite | RTRRead} {
		_, _, err := call(t, Config{RTR: rtr}, limits, func(w *wire, req *wFrame) {
			if !bytes.Equal(req.private, rtrWords(kinds, 4, 4)) {
				t.Errorf("kinds %q: Request %x", kinds, req.private)
			}
			w.write(wStart(true, 0x10, 2, rtrWords(kinds, 4, 4)...))
		})
		must(t, err)
	}
}

func rowRTRSent(t *testing.T) {
	all := RTRSend | RTRWrite | RTRRead
	for _, tc := range []struct {
		offer RTR
		agree string
		want  string
	}{
		{RTRSend, "B", "B"}, {RTRWrite, "C", "C"}, {RTRRead, "D", "D"}, {all, "BCD", "C"}, {all, "BD", "D"}, {all, "B", "B"},
		{RTRWrite, "BCD", "C"}, {RTRRead | RTRSend, "CD", "D"},
	} {
		t.Run(fmt.Sprintf("offered %d, agreed %s", tc.offer, tc.agree), func(t *testing.T) {
			e, w, err := call(t, Config{RTR: tc.offer}, limits, func(w *wire, _ *wFrame) { w.write(wStart(true, 0x10, 2, rtrWords(tc.agree, 4, 4)...)) })
			must(t, err)
			must(t, e.c.CompleteConnect(context.Background(), nil))
			must(t, e.qp.Send("s", nil, 0))
			g := w.seg()
			op := map[string]byte{"B": wSend, "C": wWrite, "D": wReadReq}[tc.want]
			if g.op != op || !g.last() {
				t.Fatalf("the first FPDU is %x", g.header)
			}
			msn := uint32(1)
			switch tc.want {
			case "B":
				if msn = 2; len(g.payload) != 0 || g.msn != 1 || g.qn != 0 {
					t.Errorf("%x", g.header)
				}
			case "C":
				if len(g.payload) != 0 {
					t.Errorf("a Write of %d octets", len(g.payload))
				}
			case "D":
				if len(g.payload) != wReadLen || !bytes.Equal(g.payload[12:16], []byte{0, 0, 0, 0}) {
					t.Errorf("a Read Request with %x", g.payload)
				}
			}
			// One, then what the consumer posted.
			if u := w.ulpdu(); !bytes.Equal(u, wSendMsg(msn)) {
				t.Errorf("the second FPDU is %x", u)
			}
			if tc.want == "D" { // its Response is awaited by nobody else
				w.send(octets(wTaggedLast, wReadResp, g.payload[:12]))
			}
			// No completion but that of the Send.
			if r := e.wait(); r.RequestContext != "s" || r.Status != ntstatus.Success {
				t.Errorf("%+v", r)
			}
			w.end()
			if n := e.cq.PollEx(e.buf[:]); n != 0 {
				t.Errorf("a completion for the ready-to-receive message: %+v", e.buf[0])
			}
		})
	}
}

func rowRTRNone(t *testing.T) {
	for _, tc := range []struct {
		offer RTR
		agree string
	}{{RTRWrite, "D"}, {RTRRead, "BC"}, {RTRSend | RTRWrite, "D"}, {RTRSend | RTRWrite | RTRRead, ""}} {
		for _, flags := range []byte{0x10, 0x50} {
			_, w, err := call(t, Config{RTR: tc.offer}, limits, func(w *wire, _ *wFrame) {
				w.crc = flags&0x40 != 0
				w.write(wStart(true, flags, 2, rtrWords(tc.agree, 4, 4)...))
			})
			refusedWith(t, w, err, 0x07)
		}
	}
}

func rowRTRReceived(t *testing.T) {
	for _, kind := range []string{"B", "C", "D"} {
		t.Run(kind, func(t *testing.T) {
			s := newSite(t, Config{})
			l := s.line()
			l.receive(1)
			w := s.expectLine(l)
			w.write(wStart(false, 0x10, 2, rtrWords(kind, 2, 2)...))
			if w.startup() == nil {
				t.Fatal("no Reply")
			}
			s.others() // time for an Accept that would not wait
			select {
			case err := <-l.accepted:
				t.Fatalf("Accept ended before the message, with %v", err)
			default:
			}
			w.send(rtrMessage(kind))
			must(t, <-l.accepted)
			msn := uint32(1)
			switch kind {
			case "B":
				msn = 2
			case "D":
				if u := w.ulpdu(); !bytes.Equal(u, wTaggedSeg(wTaggedLast, wReadResp, wSinkSTag, wSinkTO)) {
					t.Errorf("the Read is answered with %x", u)
				}
			}
			l.silent()
			w.send(wSendMsg(msn, 1, 2)) // takes the receive that was posted
			if r := l.expect(0, ntstatus.Success); r.Bytes != 2 {
				t.Errorf("%d octets", r.Bytes)
			}
			s.received(0, []byte{1, 2})
			s.check()
		})
	}
	t.Run("a Send with Invalidate is no ready-to-receive message", func(t *testing.T) {
		s := newSite(t, Config{})
		l := s.line()
		l.receive(1)
		w := s.expectLine(l)
		w.write(wStart(false, 0x10, 2, rtrWords("B", 2, 2)...))
		w.startup()
		bad := wUntaggedSeg(wUntaggedLast, wSendInval, uint32(s.rw.RemoteToken()), 0, 1, 0)
		w.send(bad)
		w.expectTerminate(termOf(0, 1, 9, bad, true, false))
		if err := <-l.accepted; err != nil && !errors.Is(err, ntstatus.ConnectionAborted) {
			t.Errorf("Accept: %v", err)
		}
		l.expect(0, ntstatus.InvalidDeviceRequest)
	})
	t.Run("none in time", func(t *testing.T) {
		s := newSite(t, Config{NegotiateTimeout: 50 * time.Millisecond})
		l := s.line()
		w := s.expectLine(l)
		w.write(wStart(false, 0x10, 2, rtrWords("C", 2, 2)...))
		w.startup()
		if err := <-l.accepted; !errors.Is(err, ntstatus.IOTimeout) {
			t.Errorf("Accept: %v", err)
		}
		refusedBy(t, w)
	})
	t.Run("the end instead", func(t *testing.T) {
		s := newSite(t, Config{})
		l := s.line()
		w := s.expectLine(l)
		w.write(wStart(false, 0x10, 2, rtrWords("C", 2, 2)...))
		w.startup()
		w.end()
		if err := <-l.accepted; !errors.Is(err, ntstatus.ConnectionAborted) {
			t.Errorf("Accept: %v", err)
		}
	})
}

func rowRTRRead(t *testing.T) {
	// An initiator with no Reads of its own asks for the one that the message needs.
	e, w, err := call(t, Config{RTR: RTRRead}, ndk.ConnParams{InboundReadLimit: 4}, func(w *wire, req *wFrame) {
		if !bytes.Equal(req.private, rtrWords("D", 4, 1)) {
			t.Errorf("Request %x", req.private)
		}
		w.write(wStart(true, 0x10, 2, rtrWords("D", 1, 4)...))
	})
	must(t, err)
	must(t, e.c.CompleteConnect(context.Background(), nil))
	if g := w.seg(); g.op != wReadReq {
		t.Errorf("the first FPDU is %x", g.header)
	}
	if err := e.qp.Read(nil, nil, 0, 0, 0); !errors.Is(err, ndk.ErrReadLimit) {
		t.Errorf("a Read of the consumer, whose limit is 0: %v", err)
	}
	// A responder that takes no Reads takes this one, also of an initiator that
	// says ORD 0.
	s := newSite(t, Config{})
	for _, ord := range []uint16{0, 1} {
		l := s.line()
		l.params = ndk.ConnParams{}
		w := s.expectLine(l)
		w.write(wStart(false, 0x10, 2, rtrWords("D", 0, ord)...))
		if rep := w.startup(); rep == nil || !bytes.Equal(rep.private, rtrWords("D", 1, 0)) {
			t.Errorf("ORD %d: Reply %+v", ord, rep)
		}
		w.send(rtrMessage("D"))
		must(t, <-l.accepted)
		if u := w.ulpdu(); !bytes.Equal(u, wTaggedSeg(wTaggedLast, wReadResp, wSinkSTag, wSinkTO)) {
			t.Errorf("ORD %d: answered with %x", ord, u)
		}
	}
}

func rowSetupFailure(t *testing.T) {
	for name, flags := range map[string]byte{"plain": 0x10, "CRC": 0x50} {
		t.Run("the QP is gone, "+name, func(t *testing.T) {
			e, w, err := call(t, Config{}, limits, func(w *wire, _ *wFrame) {
				w.crc = flags&0x40 != 0
				w.write(wStart(true, flags, 2, wEnhanced(4, 4)...))
			})
			must(t, err)
			e.qp.Close()
			if err := e.c.CompleteConnect(context.Background(), nil); !errors.Is(err, ntstatus.ConnectionAborted) {
				t.Errorf("CompleteConnect: %v", err)
			}
			w.expectTerminate([]byte{0x20, 0x05, 0, 0})
		})
	}
	for name, give := range map[string]func(c ndk.Connector){
		"the consumer says no":    func(c ndk.Connector) { must(t, c.Reject([]byte("no"))) },
		"the connector is closed": func(c ndk.Connector) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			e, w, err := call(t, Config{}, limits, accepting)
			must(t, err)
			give(e.c)
			w.expectTerminate([]byte{0x20, 0x05, 0, 0})
		})
	}
	t.Run("revision 1 knows no such code", func(t *testing.T) {
		e, w, err := call(t, Config{Revision: 1}, limits, func(w *wire, _ *wFrame) { w.write(wStart(true, 0, 1)) })
		must(t, err)
		e.qp.Close()
		if err := e.c.CompleteConnect(context.Background(), nil); !errors.Is(err, ntstatus.ConnectionAborted) {
			t.Errorf("CompleteConnect: %v", err)
		}
		refusedBy(t, w)
	})
}
