package iwarp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// ddpRows are the rows of RFC 5041.
func ddpRows() []rowTest {
	rows := []rowTest{
		{"DDP-01", "control octet", rowDDPControl},
		{"DDP-02", "tagged header", rowTaggedHeader},
		{"DDP-03", "untagged header", rowUntaggedHeader},
		{"DDP-05", "MSN of each queue", rowMSN},
		{"DDP-06", "untagged segments", rowUntaggedSegments},
		{"DDP-07", "tagged segments", rowTaggedSegments},
		{"DDP-08", "empty messages", rowEmptyMessages},
		{"DDP-15", "exactly the region", rowWholeRegion},
		{"DDP-19", "after an error nothing but the Terminate", rowDeafAfterError},
		{"DDP-20", "order of delivery and placement", rowDeliveryOrder},
		{"DDP-21", "tagged between untagged segments", rowInterleaved},
		{"DDP-22", "length of a message", rowMessageLength},
		{"DDP-23", "messages below 2^32 octets", rowMessageLimit},
		{"DDP-24", "after a graceful close", rowAfterClose},
	}
	for _, c := range ddpBadCases() {
		rows = append(rows, rowTest{c.id, c.name, c.run})
	}
	return rows
}

// one makes the case of a single ULPDU.
func one(f func(s *site) []byte) func(*site, *line) [][]byte {
	return func(s *site, _ *line) [][]byte { return [][]byte{f(s)} }
}

// ulpdus makes the case of ULPDUs that need nothing of the site.
func ulpdus(us ...[]byte) func(*site, *line) [][]byte {
	return func(*site, *line) [][]byte {
		out := make([][]byte, len(us))
		for i := range us {
			out[i] = bytes.Clone(us[i])
		}
		return out
	}
}

// changed is b with the octet at i set to v.
func changed(b []byte, i int, v byte) []byte {
	b = bytes.Clone(b)
	b[i] = v
	return b
}

func ddpBadCases() []badCase {
	tagged := func(id, name string, code byte, f func(s *site) []byte) badCase {
		return badCase{id: id, name: name, bad: one(f), layer: 1, etype: 1, code: code, ddp: true}
	}
	untagged := func(id, name string, code byte, us ...[]byte) badCase {
		return badCase{id: id, name: name, bad: ulpdus(us...), layer: 1, etype: 2, code: code, ddp: true}
	}
	full := bytes.Repeat([]byte{0x42}, receiveLen)
	placed := func(p []byte) func(s *site) { return func(s *site) { s.received(0, p) } }
	rw := func(s *site) uint32 { return uint32(s.rw.RemoteToken()) }
	cs := []badCase{
		untagged("DDP-09", "a Send on queue 1", 1, wUntaggedSeg(wUntaggedLast, wSend, 0, 1, 1, 0, 1)),
		untagged("DDP-09", "a Send on queue 2", 1, wUntaggedSeg(wUntaggedLast, wSend, 0, 2, 1, 0, 1)),
		untagged("DDP-09", "queue 3", 1, wUntaggedSeg(wUntaggedLast, wSend, 0, 3, 1, 0, 1)),
		untagged("DDP-09", "queue 3, and nothing else that is right above it", 1, wUntaggedSeg(wUntaggedLast, 0x8F, 0, 3, 0, 9, 1)),
		untagged("DDP-09", "queue 2^32-1", 1, wUntaggedSeg(wUntaggedLast, wSend, 0, 0xFFFFFFFF, 1, 0, 1)),
		untagged("DDP-09", "a Read Request on queue 0", 1, changed(wRead(1, 0, 0, 0), 9, 0)),
		untagged("DDP-09", "a Read Request on queue 2", 1, changed(wRead(1, 0, 0, 0), 9, 2)),
		untagged("DDP-09", "a Terminate on queue 0", 1, wUntaggedSeg(wUntaggedLast, wTerminate, 0, 0, 1, 0, 0, 0, 0, 0)),

		{id: "DDP-10", name: "more Sends than receives", bad: ulpdus(wSendMsg(1, 1), wSendMsg(2, 2), wSendMsg(3, 3)), layer: 1, etype: 2, code: 2, ddp: true,
			recv: []ndk.Status{ntstatus.Success, ntstatus.Success}, placed: func(s *site) { s.received(0, []byte{1}); s.received(1, []byte{2}) }},
		{id: "DDP-10", name: "an empty Send more than receives", bad: ulpdus(wSendMsg(1), wSendMsg(2), wSendMsg(3)), layer: 1, etype: 2, code: 2, ddp: true,
			recv: []ndk.Status{ntstatus.Success, ntstatus.Success}},

		untagged("DDP-11", "MSN 0 first", 3, wSendMsg(0, 1)),
		untagged("DDP-11", "MSN 2 first", 3, wSendMsg(2, 1)),
		untagged("DDP-11", "MSN 2^32-1 first", 3, wSendMsg(0xFFFFFFFF, 1)),
		untagged("DDP-11", "another MSN inside a message", 3, wUntaggedSeg(wUntagged, wSend, 0, 0, 1, 0), wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 2, 0, 1)),
		{id: "DDP-11", name: "the same MSN twice", bad: ulpdus(wSendMsg(1), wSendMsg(1)), layer: 1, etype: 2, code: 3, ddp: true, recv: []ndk.Status{ntstatus.Success}},
		untagged("DDP-11", "a Read Request with MSN 2 first", 3, wRead(2, 0, 0, 0)),
		untagged("DDP-11", "a Read Request with MSN 0", 3, wRead(0, 0, 0, 0)),

		untagged("DDP-12", "MO 1 first", 4, wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 1, 1, 1)),
		untagged("DDP-12", "MO beyond the buffer", 4, wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 1, receiveLen+1, 1)),
		untagged("DDP-12", "MO 2^32-1", 4, wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 1, 0xFFFFFFFF, 1, 2)),
		{id: "DDP-12", name: "a gap", bad: ulpdus(wUntaggedSeg(wUntagged, wSend, 0, 0, 1, 0, 7), wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 1, 2, 1)),
			layer: 1, etype: 2, code: 4, ddp: true, placed: placed([]byte{7})},
		{id: "DDP-12", name: "the same octets again", bad: ulpdus(wUntaggedSeg(wUntagged, wSend, 0, 0, 1, 0, 7), wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 1, 0, 8)),
			layer: 1, etype: 2, code: 4, ddp: true, placed: placed([]byte{7})},
		untagged("DDP-12", "a Read Request with MO 1", 4, changed(wRead(1, 0, 0, 0), 17, 1)),

		{id: "DDP-13", name: "one octet more than the receive", bad: ulpdus(wSendMsg(1, make([]byte, receiveLen+1)...)), layer: 1, etype: 2, code: 5, ddp: true,
			recv: []ndk.Status{ntstatus.BufferOverflow}, perr: uint32(ndk.RuleReceiveSize)},
		{id: "DDP-13", name: "as much as a segment holds", bad: ulpdus(wSendMsg(1, make([]byte, 65535-wUntaggedLen)...)), layer: 1, etype: 2, code: 5, ddp: true,
			recv: []ndk.Status{ntstatus.BufferOverflow}, perr: uint32(ndk.RuleReceiveSize)},
		{id: "DDP-13", name: "in the second segment", bad: ulpdus(wUntaggedSeg(wUntagged, wSend, 0, 0, 1, 0, full...), wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 1, receiveLen, 1)),
			layer: 1, etype: 2, code: 5, ddp: true, recv: []ndk.Status{ntstatus.BufferOverflow}, perr: uint32(ndk.RuleReceiveSize), placed: placed(full)},

		tagged("DDP-14", "an STag of nothing", 0, func(s *site) []byte { return wWriteMsg(0xBAD00000, s.rw.Base(), 1) }),
		tagged("DDP-14", "STag 0", 0, func(s *site) []byte { return wWriteMsg(0, s.rw.Base(), 1) }),
		tagged("DDP-14", "the right index with another key", 0, func(s *site) []byte { return wWriteMsg(rw(s)^0x01, s.rw.Base(), 1) }),
		tagged("DDP-14", "the right key with another index", 0, func(s *site) []byte { return wWriteMsg(rw(s)^0x80000000, s.rw.Base(), 1) }),
		tagged("DDP-14", "a local token", 0, func(s *site) []byte { return wWriteMsg(uint32(s.rw.LocalToken()), s.rw.Base(), 1) }),
		tagged("DDP-14", "the privileged token", 0, func(s *site) []byte { return wWriteMsg(uint32(s.pd.PrivilegedToken()), s.rw.Base(), 1) }),
		tagged("DDP-14", "a region that was deregistered", 0, func(s *site) []byte { return wWriteMsg(uint32(s.goneToken), s.gone.Base(), 1) }),
		tagged("DDP-14", "a long segment", 0, func(s *site) []byte { return wWriteMsg(0xBAD00000, s.rw.Base(), make([]byte, 60000)...) }),

		tagged("DDP-15", "an octet before", 1, func(s *site) []byte { return wWriteMsg(rw(s), s.rw.Base()-1, 1) }),
		tagged("DDP-15", "beginning before", 1, func(s *site) []byte { return wWriteMsg(rw(s), s.rw.Base()-1, 1, 2) }),
		tagged("DDP-15", "an octet behind", 1, func(s *site) []byte { return wWriteMsg(rw(s), s.rw.Base()+regionLen, 1) }),
		tagged("DDP-15", "ending behind", 1, func(s *site) []byte { return wWriteMsg(rw(s), s.rw.Base()+regionLen-1, 1, 2) }),
		tagged("DDP-15", "longer than the region", 1, func(s *site) []byte { return wWriteMsg(rw(s), s.rw.Base(), make([]byte, regionLen+1)...) }),
		tagged("DDP-15", "TO 0", 1, func(s *site) []byte { return wWriteMsg(rw(s), 0, 1) }),
		tagged("DDP-15", "another region of the domain", 1, func(s *site) []byte { return wWriteMsg(rw(s), s.wo.Base(), 1) }),
		tagged("DDP-15", "the memory of a registration with an address of its own", 1, func(s *site) []byte {
			return wWriteMsg(uint32(s.fast.RemoteToken()), s.fastAt-1, 1)
		}),
		{id: "DDP-15", name: "the second segment of a message", layer: 1, etype: 1, code: 1, ddp: true,
			bad: func(s *site, _ *line) [][]byte {
				return [][]byte{wTaggedSeg(wTagged, wWrite, rw(s), s.rw.Base()+regionLen-2, 0x31, 0x32), wTaggedSeg(wTaggedLast, wWrite, rw(s), s.rw.Base()+regionLen, 0x33)}
			},
			placed: func(s *site) { copy(s.want[inRW+regionLen-2:], []byte{0x31, 0x32}) }},

		tagged("DDP-16", "two octets at 2^64-1", 3, func(s *site) []byte { return wWriteMsg(rw(s), ^uint64(0), 1, 2) }),
		tagged("DDP-16", "a whole region at 2^64-100", 3, func(s *site) []byte { return wWriteMsg(rw(s), ^uint64(99), make([]byte, regionLen)...) }),

		tagged("DDP-17", "another protection domain", 2, func(s *site) []byte { return wWriteMsg(uint32(s.foreign.RemoteToken()), s.foreign.Base(), 1) }),
		tagged("DDP-17", "a window of another connection", 2, func(s *site) []byte { return wWriteMsg(uint32(s.window.RemoteToken()), s.under.Base(), 1) }),

		tagged("DDP-18", "a region for reading", 0, func(s *site) []byte { return wWriteMsg(uint32(s.ro.RemoteToken()), s.ro.Base(), 1) }),
		tagged("DDP-18", "a region for local use", 0, func(s *site) []byte { return wWriteMsg(uint32(s.local.RemoteToken()), s.local.Base(), 1) }),
	}
	for _, dv := range []byte{0, 2, 3} {
		name := "DV " + string('0'+rune(dv))
		cs = append(cs,
			badCase{id: "DDP-04", name: name + ", tagged", layer: 1, etype: 1, code: 4, ddp: true, bad: one(func(s *site) []byte { return changed(wWriteMsg(rw(s), s.rw.Base(), 1), 0, 0xC0|dv) })},
			badCase{id: "DDP-04", name: name + ", tagged and empty", layer: 1, etype: 1, code: 4, ddp: true, bad: ulpdus(changed(wWriteMsg(0, 0), 0, 0xC0|dv))},
			badCase{id: "DDP-04", name: name + ", untagged", layer: 1, etype: 2, code: 6, ddp: true, bad: ulpdus(changed(wSendMsg(1, 1), 0, 0x40|dv))},
			badCase{id: "DDP-04", name: name + ", Read Request", layer: 1, etype: 2, code: 6, ddp: true, bad: ulpdus(changed(wRead(1, 0, 0, 0), 0, 0x40|dv))})
	}
	return cs
}

func rowDDPControl(t *testing.T) {
	// Reserved bits of a peer count for nothing. Ours are zero: wire.parse.
	s := newSite(t, Config{})
	l := s.line()
	l.receive(2)
	w := s.talk(l)
	for i, bits := range []byte{0x04, 0x3C} {
		w.send(changed(wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base()+uint64(i), bits), 0, wTaggedLast|bits), changed(wSendMsg(uint32(i)+1, bits), 0, wUntaggedLast|bits))
		l.expect(i, ntstatus.Success)
		s.received(i, []byte{bits})
		s.want[inRW+i] = bits
	}
	w.send(changed(wRead(1, 1, uint32(s.ro.RemoteToken()), s.ro.Base()), 0, wUntaggedLast|0x3C))
	if u := w.ulpdu(); !bytes.Equal(u, wTaggedSeg(wTaggedLast, wReadResp, wSinkSTag, wSinkTO, s.want[inRO])) {
		t.Errorf("answered with %x", u)
	}
	s.check()
	must(t, l.qp.Write("w", []ndk.SGE{s.sge(buffersAt, 1)}, 5, 6, 0))
	if g := w.seg(); g.ctrl != wTaggedLast {
		t.Errorf("control octet of a Write %#02x", g.ctrl)
	}
	must(t, l.qp.Send("s", nil, 0))
	if g := w.seg(); g.ctrl != wUntaggedLast {
		t.Errorf("control octet of a Send %#02x", g.ctrl)
	}
}

func rowTaggedHeader(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	must(t, l.qp.Write("w", []ndk.SGE{s.sge(buffersAt, 3)}, 0x0102030405060708, 0x11223344, 0))
	want := append([]byte{0xC1, 0x40, 0x11, 0x22, 0x33, 0x44, 1, 2, 3, 4, 5, 6, 7, 8}, s.want[buffersAt:buffersAt+3]...)
	if u := w.ulpdu(); !bytes.Equal(u, want) {
		t.Errorf("%x, want %x", u, want)
	}
	l.expect("w", ntstatus.Success)
}

func rowUntaggedHeader(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	must(t, l.qp.SendAndInvalidate("s", []ndk.SGE{s.sge(buffersAt, 2)}, 0, 0x11223344))
	want := append([]byte{0x41, 0x44, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, s.want[buffersAt:buffersAt+2]...)
	if u := w.ulpdu(); !bytes.Equal(u, want) {
		t.Errorf("%x, want %x", u, want)
	}
	l.expect("s", ntstatus.Success)
}

func rowMSN(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	q := l.inner()
	// Ours: each queue from 1, and over the end.
	for _, tc := range []struct {
		first uint32
		n     int
	}{{1, 3}, {0xFFFFFFFE, 4}} {
		q.mu.Lock()
		q.sendMSN, q.readMSN = tc.first, tc.first
		q.mu.Unlock()
		for i := range tc.n {
			must(t, l.qp.Send("s", nil, ndk.SilentSuccess))
			must(t, l.qp.Read("r", nil, 0, 0, ndk.SilentSuccess))
			for _, op := range []byte{wSend, wReadReq} {
				if g := w.seg(); g.op != op || g.msn != tc.first+uint32(i) || g.qn != uint32(map[byte]int{wSend: 0, wReadReq: 1}[op]) {
					t.Errorf("%d from %#x: %x", i, tc.first, g.header)
				}
			}
			w.send(wTaggedSeg(wTaggedLast, wReadResp, 0, 0))
		}
	}
	// Theirs. The receiver takes mu for a Read Request and rmu for a Send, so that it
	// sees what is set here under the same lock.
	msn, reads := uint32(1), uint32(1)
	send := func() {
		t.Helper()
		l.receive(1)
		w.send(wSendMsg(msn, byte(msn)))
		l.expect(l.posted-1, ntstatus.Success)
		s.received(l.posted-1, []byte{byte(msn)})
		msn++
	}
	read := func() {
		t.Helper()
		w.send(wRead(reads, 0, 0, 0))
		if g := w.seg(); g.op != wReadResp {
			t.Fatalf("%x", g.header)
		}
		reads++
	}
	send()
	read()
	q.mu.Lock()
	q.rx.msn = 0xFFFFFFFE
	q.mu.Unlock()
	read()
	msn = 0xFFFFFFFE
	q.mu.Lock() // behind what the receiver did with the last Read Request
	limit := q.ird
	q.mu.Unlock()
	if limit != 2 {
		t.Errorf("the inbound read limit is %d, want 2", limit)
	}
	q.rmu.Lock()
	q.rx.readMSN = 0xFFFFFFFE
	q.rmu.Unlock()
	send()
	reads = 0xFFFFFFFE
	for range 4 { // FFFFFFFF, 0, 1, 2 and FFFFFFFE, FFFFFFFF, 0, 1
		send()
		read()
	}
	s.check()
	// A Terminate always has MSN 1, and queue 2 of its own.
	w.send(wSendMsg(77))
	w.expectTerminate(termOf(1, 2, 3, wSendMsg(77), true, false))
}

// withMULPDU makes the QP cut at the figure of the RFC's examples.
func (l *line) withMULPDU(n int) {
	q := l.inner()
	q.mu.Lock()
	q.maxSeg = n
	q.mu.Unlock()
}

func rowUntaggedSegments(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	l.withMULPDU(1500)
	must(t, l.qp.Send("s", []ndk.SGE{s.sge(buffersAt, 1000), s.sge(buffersAt+1000, 1048)}, 0))
	segs, payload := w.message() // checks MO and what must not change
	if len(segs) != 2 || len(segs[0].payload) != 1482 || len(segs[1].payload) != 566 || segs[0].ctrl != wUntagged || segs[1].ctrl != wUntaggedLast {
		t.Errorf("%d segments of %d octets", len(segs), len(payload))
	}
	if segs[1].mo != 1482 || !bytes.Equal(payload, s.want[buffersAt:buffersAt+2048]) {
		t.Errorf("MO %d, %d octets", segs[1].mo, len(payload))
	}
	// Sizes around whole numbers of segments, of every Send kind.
	for _, n := range []int{0, 1, 1481, 1482, 1483, 2 * 1482, 2*1482 + 1, 9999} {
		must(t, l.qp.SendAndInvalidate("s", []ndk.SGE{s.sge(buffersAt, n)}, ndk.SendAndSolicitEvent, 5))
		segs, payload := w.message()
		if len(segs) != max(1, (n+1481)/1482) || !bytes.Equal(payload, s.want[buffersAt:buffersAt+n]) || segs[0].op != wSendSEInval || segs[0].stag != 5 {
			t.Errorf("%d octets came as %d segments of %d octets", n, len(segs), len(payload))
		}
	}
}

func rowTaggedSegments(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	l.withMULPDU(1500)
	must(t, l.qp.Write("w", []ndk.SGE{s.sge(buffersAt, 2048)}, 16384, 0xABCD, 0))
	segs, payload := w.message()
	if len(segs) != 2 || len(segs[0].payload) != 1486 || len(segs[1].payload) != 562 || segs[0].to != 16384 || segs[1].to != 17870 {
		t.Errorf("%d segments of %d octets", len(segs), len(payload))
	}
	if segs[0].ctrl != wTagged || segs[1].ctrl != wTaggedLast || segs[1].stag != 0xABCD || !bytes.Equal(payload, s.want[buffersAt:buffersAt+2048]) {
		t.Errorf("%x and %x", segs[0].header, segs[1].header)
	}
	// The TO may pass 2^64 on its way: the peer is to judge that.
	must(t, l.qp.Write("w", []ndk.SGE{s.sge(buffersAt, 3000)}, ^uint64(0)-10, 1, 0))
	if segs, _ := w.message(); len(segs) != 3 {
		t.Errorf("%d segments", len(segs))
	}
	for _, n := range []int{1485, 1486, 1487, 4 * 1486} {
		must(t, l.qp.Write("w", []ndk.SGE{s.sge(buffersAt, n)}, 7, 1, 0))
		if segs, payload := w.message(); len(segs) != (n+1485)/1486 || !bytes.Equal(payload, s.want[buffersAt:buffersAt+n]) {
			t.Errorf("%d octets came as %d segments", n, len(segs))
		}
	}
}

func rowEmptyMessages(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	l.receive(3)
	w := s.talk(l)
	// Theirs: whatever STag and TO are; an empty Send is a message.
	w.send(wWriteMsg(0, 0), wWriteMsg(0xBAD00000, ^uint64(0)), wWriteMsg(uint32(s.ro.RemoteToken()), 1), wWriteMsg(uint32(s.foreign.RemoteToken()), 0), wSendMsg(1))
	if r := l.expect(0, ntstatus.Success); r.Bytes != 0 {
		t.Errorf("%d octets", r.Bytes)
	}
	// An empty segment that is not the last is legal and changes nothing.
	w.send(wUntaggedSeg(wUntagged, wSend, 0, 0, 2, 0), wTaggedSeg(wTagged, wWrite, 0, 0), wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 2, 0, 5))
	if r := l.expect(1, ntstatus.Success); r.Bytes != 1 {
		t.Errorf("%d octets", r.Bytes)
	}
	s.received(1, []byte{5})
	s.check()
	// Ours: one segment with L.
	must(t, l.qp.Send("s", nil, 0))
	must(t, l.qp.Write("w", nil, 9, 8, 0))
	must(t, l.qp.Write("w", []ndk.SGE{{Token: 1, Addr: 1}}, 9, 8, 0)) // an SGE of nothing
	for _, want := range [][]byte{wSendMsg(1), wWriteMsg(8, 9), wWriteMsg(8, 9)} {
		if u := w.ulpdu(); !bytes.Equal(u, want) {
			t.Errorf("%x, want %x", u, want)
		}
	}
}

func rowWholeRegion(t *testing.T) {
	for _, crc := range []bool{false, true} {
		s := newSite(t, Config{CRC: crc})
		l := s.line()
		l.receive(1)
		w := s.talk(l)
		var us [][]byte
		for i, m := range []struct {
			at, off int
			token   ndk.Token
			base    uint64
		}{
			{inRW, 0, s.rw.RemoteToken(), s.rw.Base()}, {inWO, 0, s.wo.RemoteToken(), s.wo.Base()}, {inFast, 0, s.fast.RemoteToken(), s.fastAt},
			{inRW, regionLen - 1, s.rw.RemoteToken(), s.rw.Base() + regionLen - 1},
		} {
			p := bytes.Repeat([]byte{byte(0x80 + i)}, regionLen-m.off)
			us = append(us, wWriteMsg(uint32(m.token), m.base, p...))
			copy(s.want[m.at+m.off:], p)
		}
		w.send(append(us, wSendMsg(1))...)
		l.expect(0, ntstatus.Success)
		s.check()
	}
}

func rowDeafAfterError(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	l.receive(2)
	w := s.talk(l)
	bad := wSendMsg(9, 1)
	var after [][]byte
	for range 50 {
		after = append(after, wSendMsg(1, 1), wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), bytes.Repeat([]byte{1}, 1000)...),
			wRead(1, 4, uint32(s.ro.RemoteToken()), s.ro.Base()), wUntaggedSeg(wUntaggedLast, wTerminate, 0, 2, 1, 0, 0, 0, 0, 0), wSendMsg(9, 1))
	}
	w.send(append([][]byte{bad}, after...)...)
	w.expectTerminate(termOf(1, 2, 3, bad, true, false))
	l.expectReason(1, 2, 3, true) // not that of the peer's Terminate behind it
	l.expect(0, ntstatus.Cancelled)
	l.expect(1, ntstatus.Cancelled)
	l.expectDead()
	s.check()
	s.others()
}

func rowDeliveryOrder(t *testing.T) {
	for _, crc := range []bool{false, true} {
		s := newSite(t, Config{CRC: crc})
		l := s.line()
		w := s.talk(l)
		const rounds = 40
		l.receive(8)
		token, base := uint32(s.rw.RemoteToken()), s.rw.Base()
		var stream []byte
		for i := range rounds {
			// Each round overwrites the region in pieces and says so with a Send.
			for off := 0; off < regionLen; off += 512 {
				ctrl := wTagged
				if off+512 == regionLen {
					ctrl = wTaggedLast
				}
				stream = append(stream, fpduOf(wTaggedSeg(ctrl, wWrite, token, base+uint64(off), bytes.Repeat([]byte{byte(i + 1)}, 512)...), crc)...)
			}
			stream = append(stream, fpduOf(wSendMsg(uint32(i)+1, byte(i+1)), crc)...)
			w.write(stream)
			stream = stream[:0]
			r := l.expect(i, ntstatus.Success)
			if r.Bytes != 1 {
				t.Fatalf("%+v", r)
			}
			if got := s.arena[inRW : inRW+regionLen]; !bytes.Equal(got, bytes.Repeat([]byte{byte(i + 1)}, regionLen)) {
				t.Fatalf("round %d: the Send was delivered before all of the Write is in place", i)
			}
			s.received(i%8, []byte{byte(i + 1)})
			at := s.receiveSlot(i % 8)
			must(t, l.qp.Receive(i+8, []ndk.SGE{s.sge(at, receiveFirst), s.sge(at+receiveFirst+receiveHole, receiveRest)}))
		}
		copy(s.want[inRW:], bytes.Repeat([]byte{rounds}, regionLen))
		s.check()
	}
}

func rowInterleaved(t *testing.T) {
	for _, crc := range []bool{false, true} {
		s := newSite(t, Config{CRC: crc})
		l := s.line()
		l.receive(2)
		w := s.talk(l)
		token, base := uint32(s.rw.RemoteToken()), s.rw.Base()
		w.send(
			wUntaggedSeg(wUntagged, wSend, 0, 0, 1, 0, 1, 2),
			wTaggedSeg(wTagged, wWrite, token, base, 0x11, 0x12, 0x13),
			wRead(1, 2, uint32(s.ro.RemoteToken()), s.ro.Base()), // another queue has its own state
			wUntaggedSeg(wUntagged, wSend, 0, 0, 1, 2, 3),
			wTaggedSeg(wTaggedLast, wWrite, token, base+3, 0x14),
			wWriteMsg(uint32(s.wo.RemoteToken()), s.wo.Base(), 0x21),
			wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 1, 3, 4),
			wSendMsg(2, 5))
		if r := l.expect(0, ntstatus.Success); r.Bytes != 4 {
			t.Errorf("%d octets", r.Bytes)
		}
		l.expect(1, ntstatus.Success)
		if u := w.ulpdu(); !bytes.Equal(u, wTaggedSeg(wTaggedLast, wReadResp, wSinkSTag, wSinkTO, s.want[inRO:inRO+2]...)) {
			t.Errorf("%x", u)
		}
		s.received(0, []byte{1, 2, 3, 4})
		s.received(1, []byte{5})
		copy(s.want[inRW:], []byte{0x11, 0x12, 0x13, 0x14})
		s.want[inWO] = 0x21
		s.check()
	}
}

func rowMessageLength(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	p := s.want[buffersAt : buffersAt+receiveLen]
	for i, cuts := range [][]int{{0}, {1}, {receiveLen}, {1, 0, 1}, {receiveFirst, receiveRest}, {receiveFirst - 1, 2, 3}, {0, 0, 5}, {receiveLen, 0}} {
		l.receive(1)
		var us [][]byte
		at := 0
		for k, n := range cuts {
			ctrl := wUntagged
			if k == len(cuts)-1 {
				ctrl = wUntaggedLast
			}
			us = append(us, wUntaggedSeg(ctrl, wSend, 0, 0, uint32(i)+1, uint32(at), p[at:at+n]...))
			at += n
		}
		w.send(us...)
		if r := l.expect(i, ntstatus.Success); int(r.Bytes) != at {
			t.Errorf("cut into %v: %d octets, want %d", cuts, r.Bytes, at)
		}
		s.received(i, p[:at])
		s.check()
	}
}

func rowMessageLimit(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	gib := ndk.SGE{Addr: s.local.Base(), Length: 1 << 30, Token: s.local.LocalToken()}
	for name, post := range map[string]func(sgl []ndk.SGE) error{
		"Send":    func(sgl []ndk.SGE) error { return l.qp.Send(nil, sgl, 0) },
		"Write":   func(sgl []ndk.SGE) error { return l.qp.Write(nil, sgl, 0, 0, 0) },
		"Read":    func(sgl []ndk.SGE) error { return l.qp.Read(nil, sgl, 0, 0, 0) },
		"Receive": func(sgl []ndk.SGE) error { return l.qp.Receive(nil, sgl) },
	} {
		// 2^32 octets, which would be 0 in 32 bits.
		if err := post([]ndk.SGE{gib, gib, gib, gib}); !errors.Is(err, ndk.ErrTooLong) {
			t.Errorf("%s of 2^32 octets: %v", name, err)
		}
		if err := post([]ndk.SGE{{Length: 0xFFFFFFFF}, {Length: 1}}); !errors.Is(err, ndk.ErrTooLong) {
			t.Errorf("%s of 2^32 octets: %v", name, err)
		}
	}
	// Nothing of it reached the wire.
	must(t, l.qp.Send("s", nil, 0))
	if u := w.ulpdu(); !bytes.Equal(u, wSendMsg(1)) {
		t.Errorf("%x", u)
	}
}

func rowAfterClose(t *testing.T) {
	// The peer's half is closed: what was posted before leaves, more is refused.
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	w.end()
	<-l.reason
	if err := l.qp.Send(nil, nil, 0); !errors.Is(err, ndk.ErrNotConnected) {
		t.Errorf("Send after the peer's close: %v", err)
	}
	// Ours: what was posted before leaves, and nothing after.
	l = s.line()
	w = s.talk(l)
	must(t, l.qp.Send("s", []ndk.SGE{s.sge(buffersAt, 1)}, 0))
	done := make(chan error, 1)
	go func() { done <- l.c.Disconnect(context.Background()) }() // ends with the peer's close
	if u := w.ulpdu(); !bytes.Equal(u, wSendMsg(1, s.want[buffersAt])) {
		t.Errorf("%x", u)
	}
	w.ended()
	if err := l.qp.Send(nil, nil, 0); !errors.Is(err, ndk.ErrNotConnected) {
		t.Errorf("Send after our close: %v", err)
	}
	must(t, w.c.CloseWrite())
	must(t, <-done)
	l.expect("s", ntstatus.Success)
	l.expectDead()
	s.check()
	s.others()
}

// be32 reads a number of a header.
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
