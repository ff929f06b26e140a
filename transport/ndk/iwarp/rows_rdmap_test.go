package iwarp

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// rdmapRows are the rows of RFC 5040 and RFC 5042.
func rdmapRows() []rowTest {
	rows := []rowTest{
		{"RDMAP-01", "control octet", rowRDMAPControl},
		{"RDMAP-02", "version 0 is valid", rowVersionZero},
		{"RDMAP-03", "opcodes and their queues", rowOpcodes},
		{"RDMAP-06", "the Invalidate STag field", rowInvalidateField},
		{"RDMAP-07", "Read Request header", rowReadRequestHeader},
		{"RDMAP-08", "Read Response", rowReadResponse},
		{"RDMAP-09", "order of Responses", rowResponseOrder},
		{"RDMAP-10", "a Response is held against its Read", rowResponseChecked},
		{"RDMAP-11", "empty Reads", rowEmptyReads},
		{"RDMAP-15", "no more than ORD Reads", rowORD},
		{"RDMAP-16", "more than IRD Read Requests", rowIRDExceeded},
		{"RDMAP-16", "IRD Read Requests at all times", rowIRDInUse},
		{"RDMAP-17", "a Read sees what came before it", rowReadAfterWrite},
		{"RDMAP-18", "requests complete in posting order", rowPostingOrder},
		{"RDMAP-19", "the fence of a sender", rowReadFence},
		{"RDMAP-20", "a Send takes a receive", rowSendKinds},
		{"RDMAP-21", "Send with Invalidate", rowSendInvalidate},
		{"RDMAP-24", "a Write completes nothing at the target", rowSilentWrites},
		{"RDMAP-25", "the Terminate is the last FPDU", rowLastFPDU},
		{"RDMAP-26", "Terminate control", rowTerminateControl},
		{"RDMAP-27", "headers in a Terminate, of what is left", rowTerminateAdvanced},
		{"RDMAP-28", "values of a Terminate", rowTerminateValues},
		{"RDMAP-29", "which headers a Terminate has", rowTerminateHeaders},
		{"RDMAP-30", "the first error counts", rowFirstError},
		{"RDMAP-31", "a Terminate is received", rowTerminateReceived},
		{"RDMAP-32", "a Terminate is not lost", rowTerminateArrives},
		{"RDMAP-33", "buffers belong to who has them", rowBufferOwner},
		{"RDMAP-34", "STags are hard to guess", rowSTags},
		{"RDMAP-35", "no sum overflows", rowOverflows},
		{"RDMAP-35", "a peer makes nobody allocate", rowPeerAllocates},
	}
	for _, c := range rdmapBadCases() {
		rows = append(rows, rowTest{c.id, c.name, c.run})
	}
	return rows
}

// refusedInvalidate is the reason of a Terminate of ours with 0/1/0x09.
const refusedInvalidate = 0x01800109

func rdmapBadCases() []badCase {
	operation := func(id, name string, code byte, f func(s *site) []byte) badCase {
		return badCase{id: id, name: name, bad: one(f), layer: 0, etype: 2, code: code, ddp: true}
	}
	read := func(id, name string, code byte, f func(s *site) []byte) badCase {
		return badCase{id: id, name: name, bad: one(f), layer: 0, etype: 1, code: code, ddp: true, read: true}
	}
	invalidate := func(name string, f func(s *site) []byte) badCase {
		return badCase{id: "RDMAP-22", name: name, bad: one(f), layer: 0, etype: 1, code: 9, ddp: true, recv: []ndk.Status{ntstatus.InvalidDeviceRequest}, perr: refusedInvalidate}
	}
	just := func(b []byte) func(*site) []byte { return func(*site) []byte { return bytes.Clone(b) } }
	inval := func(op byte, stag uint32, payload ...byte) []byte {
		return wUntaggedSeg(wUntaggedLast, op, stag, 0, 1, 0, payload...)
	}
	ro := func(s *site) uint32 { return uint32(s.ro.RemoteToken()) }
	fast := func(s *site) uint32 { return uint32(s.fast.RemoteToken()) }
	cs := []badCase{
		operation("RDMAP-02", "version 2", 5, just(wUntaggedSeg(wUntaggedLast, 0x83, 0, 0, 1, 0, 1))),
		operation("RDMAP-02", "version 3", 5, just(wUntaggedSeg(wUntaggedLast, 0xC3, 0, 0, 1, 0, 1))),
		operation("RDMAP-02", "version 2, tagged", 5, func(s *site) []byte { return changed(wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), 1), 1, 0x80) }),
		operation("RDMAP-02", "version 3, Read Request", 5, just(changed(wRead(1, 0, 0, 0), 1, 0xC1))),
		operation("RDMAP-02", "version 2, Terminate", 5, just(wUntaggedSeg(wUntaggedLast, 0x87, 0, 2, 1, 0, 0, 0, 0, 0))),

		operation("RDMAP-05", "an untagged Write", 6, just(wUntaggedSeg(wUntaggedLast, wWrite, 0, 0, 1, 0, 1))),
		operation("RDMAP-05", "an untagged Read Response", 6, just(wUntaggedSeg(wUntaggedLast, wReadResp, 0, 0, 1, 0, 1))),
		operation("RDMAP-05", "a tagged Send", 6, func(s *site) []byte {
			return wTaggedSeg(wTaggedLast, wSend, uint32(s.rw.RemoteToken()), s.rw.Base(), 1)
		}),
		operation("RDMAP-05", "a tagged Read Request", 6, func(s *site) []byte {
			return wTaggedSeg(wTaggedLast, wReadReq, ro(s), s.ro.Base(), make([]byte, 32)...)
		}),
		operation("RDMAP-05", "a tagged Terminate", 6, just(wTaggedSeg(wTaggedLast, wTerminate, 0, 0, 0, 0, 0, 0))),
		operation("RDMAP-05", "a tagged Send with Invalidate, empty", 6, func(s *site) []byte { return wTaggedSeg(wTaggedLast, wSendInval, fast(s), 0) }),

		{id: "RDMAP-07", name: "a Read Request with an octet too much", bad: ulpdus(append(wRead(1, 0, 0, 0), 0)), layer: 1, etype: 2, code: 5, ddp: true},
		{id: "RDMAP-07", name: "a Read Request of two segments", bad: ulpdus(changed(wRead(1, 0, 0, 0), 0, wUntagged)), layer: 1, etype: 2, code: 5, ddp: true},

		read("RDMAP-12", "an STag of nothing", 0, just(wRead(1, 1, 0xBAD00000, 0))),
		read("RDMAP-12", "STag 0", 0, func(s *site) []byte { return wRead(1, 1, 0, s.ro.Base()) }),
		read("RDMAP-12", "the right index with another key", 0, func(s *site) []byte { return wRead(1, 1, ro(s)^2, s.ro.Base()) }),
		read("RDMAP-12", "a local token", 0, func(s *site) []byte { return wRead(1, 1, uint32(s.ro.LocalToken()), s.ro.Base()) }),
		read("RDMAP-12", "the privileged token", 0, func(s *site) []byte { return wRead(1, 1, uint32(s.pd.PrivilegedToken()), s.ro.Base()) }),
		read("RDMAP-12", "a region that was deregistered", 0, func(s *site) []byte { return wRead(1, 1, uint32(s.goneToken), s.gone.Base()) }),
		read("RDMAP-13", "an octet more than the region", 1, func(s *site) []byte { return wRead(1, regionLen+1, ro(s), s.ro.Base()) }),
		read("RDMAP-13", "an octet before it", 1, func(s *site) []byte { return wRead(1, 1, ro(s), s.ro.Base()-1) }),
		read("RDMAP-13", "an octet behind it", 1, func(s *site) []byte { return wRead(1, 1, ro(s), s.ro.Base()+regionLen) }),
		read("RDMAP-13", "2^32-1 octets", 1, func(s *site) []byte { return wRead(1, 0xFFFFFFFF, ro(s), s.ro.Base()) }),
		read("RDMAP-13", "another region of the domain", 1, func(s *site) []byte { return wRead(1, 1, ro(s), s.rw.Base()) }),
		read("RDMAP-13", "over the end of addresses", 4, func(s *site) []byte { return wRead(1, 2, ro(s), ^uint64(0)) }),
		read("RDMAP-13", "2^32-1 octets over the end of addresses", 4, func(s *site) []byte { return wRead(1, 0xFFFFFFFF, ro(s), ^uint64(0)-1000) }),
		read("RDMAP-13", "another protection domain", 3, func(s *site) []byte { return wRead(1, 1, uint32(s.foreign.RemoteToken()), s.foreign.Base()) }),
		read("RDMAP-13", "a window of another connection", 3, func(s *site) []byte { return wRead(1, 1, uint32(s.window.RemoteToken()), s.under.Base()) }),
		read("RDMAP-14", "a region for writing", 2, func(s *site) []byte { return wRead(1, 1, uint32(s.wo.RemoteToken()), s.wo.Base()) }),
		read("RDMAP-14", "a region for local use", 2, func(s *site) []byte { return wRead(1, 1, uint32(s.local.RemoteToken()), s.local.Base()) }),

		invalidate("an STag of nothing", just(inval(wSendInval, 0xBAD00000))),
		invalidate("STag 0, with Solicited Event", just(inval(wSendSEInval, 0))),
		invalidate("a region that cannot be invalidated", func(s *site) []byte { return inval(wSendInval, uint32(s.rw.RemoteToken())) }),
		invalidate("another key", func(s *site) []byte { return inval(wSendSEInval, fast(s)^1) }),
		invalidate("a region of another protection domain", func(s *site) []byte { return inval(wSendInval, uint32(s.foreign.RemoteToken())) }),
		invalidate("a window of another connection", func(s *site) []byte { return inval(wSendInval, uint32(s.window.RemoteToken())) }),
		invalidate("a region that was deregistered", func(s *site) []byte { return inval(wSendInval, uint32(s.goneToken)) }),
		invalidate("the local token of one that can", func(s *site) []byte { return inval(wSendInval, uint32(s.fast.LocalToken())) }),
		{id: "RDMAP-22", name: "twice", layer: 0, etype: 1, code: 9, ddp: true, recv: []ndk.Status{ntstatus.Success, ntstatus.InvalidDeviceRequest}, perr: refusedInvalidate,
			bad: func(s *site, _ *line) [][]byte {
				return [][]byte{inval(wSendInval, fast(s)), wUntaggedSeg(wUntaggedLast, wSendInval, fast(s), 0, 2, 0)}
			}},

		{id: "RDMAP-23", name: "a Write behind a Send with Invalidate", layer: 1, etype: 1, code: 0, ddp: true, recv: []ndk.Status{ntstatus.Success},
			bad: func(s *site, _ *line) [][]byte {
				return [][]byte{inval(wSendInval, fast(s)), wWriteMsg(fast(s), s.fastAt, 1)}
			}},
		{id: "RDMAP-23", name: "a Read behind a Send with Invalidate", layer: 0, etype: 1, code: 0, ddp: true, read: true, recv: []ndk.Status{ntstatus.Success},
			bad: func(s *site, _ *line) [][]byte {
				return [][]byte{inval(wSendSEInval, fast(s)), wRead(1, 1, fast(s), s.fastAt)}
			}},
		{id: "RDMAP-23", name: "the rest of a Write that was begun", layer: 1, etype: 1, code: 0, ddp: true, recv: []ndk.Status{ntstatus.Success},
			bad: func(s *site, _ *line) [][]byte {
				return [][]byte{wTaggedSeg(wTagged, wWrite, fast(s), s.fastAt, 0x61), inval(wSendInval, fast(s)), wTaggedSeg(wTaggedLast, wWrite, fast(s), s.fastAt+1, 0x62)}
			},
			placed: func(s *site) { s.want[inFast] = 0x61 }},
		{id: "RDMAP-23", name: "a Write behind a local Invalidate", layer: 1, etype: 1, code: 0, ddp: true,
			bad: func(s *site, _ *line) [][]byte { return [][]byte{wWriteMsg(invalidated(s), s.fastAt, 1)} }},
		{id: "RDMAP-23", name: "a Read behind a local Invalidate", layer: 0, etype: 1, code: 0, ddp: true, read: true,
			bad: func(s *site, _ *line) [][]byte { return [][]byte{wRead(1, 1, invalidated(s), s.fastAt)} }},
		{id: "RDMAP-23", name: "the STag of the registration before", layer: 1, etype: 1, code: 0, ddp: true,
			bad: func(s *site, _ *line) [][]byte {
				old := invalidated(s)
				s.registerFast()
				return [][]byte{wWriteMsg(old, s.fastAt, 1)}
			}},
	}
	for op := byte(8); op < 16; op++ {
		name := fmt.Sprintf("opcode %d", op)
		cs = append(cs,
			operation("RDMAP-04", name+", untagged", 6, just(wUntaggedSeg(wUntaggedLast, 0x40|op, 0, 0, 1, 0, make([]byte, 8)...))),
			operation("RDMAP-04", name+", tagged", 6, func(s *site) []byte {
				return wTaggedSeg(wTaggedLast, 0x40|op, uint32(s.rw.RemoteToken()), s.rw.Base(), 1)
			}))
	}
	return cs
}

// invalidated ends the fast registration and returns the token that it had.
func invalidated(s *site) uint32 {
	s.t.Helper()
	old := uint32(s.fast.RemoteToken())
	must(s.t, s.calm.qp.Invalidate("inv", s.fast, 0))
	s.calm.expect("inv", ntstatus.Success)
	return old
}

// registerFast makes the fast registration again.
func (s *site) registerFast() {
	s.t.Helper()
	fbo := uint32(s.fastAt - fastBase)
	must(s.t, s.calm.qp.FastRegister("again", s.fast, s.lam.Pages, fbo, regionLen, s.fastAt, ndk.AllowRemoteRead|ndk.AllowRemoteWrite))
	s.calm.expect("again", ntstatus.Success)
}

func rowRDMAPControl(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	l.receive(1)
	w := s.talk(l)
	w.send(wTaggedSeg(wTaggedLast, 0x70, uint32(s.rw.RemoteToken()), s.rw.Base(), 9), wUntaggedSeg(wUntaggedLast, 0x53, 0, 0, 1, 0, 8))
	l.expect(0, ntstatus.Success)
	s.received(0, []byte{8})
	s.want[inRW] = 9
	s.check()
	// Ours have version 1 and reserved bits of zero: wire.parse.
	must(t, l.qp.Send("s", nil, 0))
	if g := w.seg(); g.op != 0x43 {
		t.Errorf("%x", g.header)
	}
}

func rowVersionZero(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	l.receive(1)
	w := s.talk(l)
	w.send(wTaggedSeg(wTaggedLast, 0x00, uint32(s.rw.RemoteToken()), s.rw.Base(), 9), changed(wRead(1, 1, uint32(s.ro.RemoteToken()), s.ro.Base()), 1, 0x01),
		wUntaggedSeg(wUntaggedLast, 0x03, 0, 0, 1, 0, 8))
	l.expect(0, ntstatus.Success)
	s.received(0, []byte{8})
	s.want[inRW] = 9
	s.check()
	if g := w.seg(); g.op != wReadResp { // in version 1 all the same
		t.Errorf("%x", g.header)
	}
}

func rowOpcodes(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	for i, tc := range []struct {
		post  func() error
		ctrl  byte
		op    byte
		qn    uint32
		stag  uint32
		plain bool
	}{
		{func() error { return l.qp.Write("x", nil, 3, 7, 0) }, 0xC1, 0x40, 0, 7, true},
		{func() error { return l.qp.Send("x", nil, 0) }, 0x41, 0x43, 0, 0, true},
		{func() error { return l.qp.SendAndInvalidate("x", nil, 0, 7) }, 0x41, 0x44, 0, 7, true},
		{func() error { return l.qp.Send("x", nil, ndk.SendAndSolicitEvent) }, 0x41, 0x45, 0, 0, true},
		{func() error { return l.qp.SendAndInvalidate("x", nil, ndk.SendAndSolicitEvent, 7) }, 0x41, 0x46, 0, 7, true},
		{func() error { return l.qp.Read("x", nil, 3, 7, 0) }, 0x41, 0x41, 1, 0, false},
	} {
		must(t, tc.post())
		g := w.seg()
		if g.ctrl != tc.ctrl || g.op != tc.op || g.qn != tc.qn || g.stag != tc.stag {
			t.Errorf("post %d came as %x", i, g.header)
		}
		if !tc.plain {
			w.send(wTaggedSeg(wTaggedLast, wReadResp, 0, 0))
		}
		l.expect("x", ntstatus.Success)
	}
	w.send(wRead(1, 0, 0, 0))
	if g := w.seg(); g.ctrl != 0xC1 || g.op != 0x42 {
		t.Errorf("a Response came as %x", g.header)
	}
	w.send(wSendMsg(5))
	if g := w.seg(); g.ctrl != 0x41 || g.op != 0x47 || g.qn != 2 {
		t.Errorf("a Terminate came as %x", g.header)
	}
}

func rowInvalidateField(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	l.receive(2)
	w := s.talk(l)
	fast := uint32(s.fast.RemoteToken())
	// In these it means nothing, even if it names something.
	w.send(wUntaggedSeg(wUntaggedLast, wSend, fast, 0, 1, 0, 1), wUntaggedSeg(wUntaggedLast, wSendSE, fast, 0, 2, 0, 2),
		wUntaggedSeg(wUntaggedLast, wReadReq, fast, 1, 1, 0, octets(wSinkSTag, wSinkTO, uint32(1), fast, s.fastAt)...))
	for i := range 2 {
		if r := l.expect(i, ntstatus.Success); r.Type != ndk.OpReceive {
			t.Errorf("%+v", r)
		}
		s.received(i, []byte{byte(i + 1)})
	}
	if g := w.seg(); g.op != wReadResp || !bytes.Equal(g.payload, s.want[inFast:inFast+1]) { // it is still valid
		t.Errorf("%x", g.header)
	}
	s.check()
	// Ours: zero where it means nothing. rowOpcodes has where it does.
	must(t, l.qp.Send("s", nil, ndk.SendAndSolicitEvent))
	must(t, l.qp.Read("r", nil, 1, 2, 0))
	for range 2 {
		if g := w.seg(); g.stag != 0 {
			t.Errorf("%x", g.header)
		}
	}
	w.send(wUntaggedSeg(wUntaggedLast, wTerminate, fast, 2, 1, 0, 0x00, 0, 0, 0))
	l.expectReason(0, 0, 0, false)
}

func rowReadRequestHeader(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	must(t, l.qp.Read("r", []ndk.SGE{s.sge(buffersAt, 48)}, 0x00000000ABCDE012, 0x1A00BC56, 0))
	u := w.ulpdu()
	if len(u) != 46 || !bytes.Equal(u[:wUntaggedLen], octets(wUntaggedLast, wReadReq, uint32(0), uint32(1), uint32(1), uint32(0))) {
		t.Fatalf("%x", u)
	}
	if !bytes.Equal(u[wUntaggedLen+12:], octets(uint32(48), uint32(0x1A00BC56), uint64(0xABCDE012))) || be32(u[wUntaggedLen:]) == 0 {
		t.Errorf("Read Request with %x", u[wUntaggedLen:])
	}
	// The fields of the figure are where the vector has them.
	v := vector(t, "fpdu-read-req")
	want := fpduOf(wUntaggedSeg(wUntaggedLast, wReadReq, 0, 1, 1, 0, octets(uint32(0x200), uint64(0x7000), uint32(48), uint32(0x1A00BC56), uint64(0xABCDE012))...), true)
	if !bytes.Equal(v, want) {
		t.Errorf("the vector is %x, want %x", v, want)
	}
}

func rowReadResponse(t *testing.T) {
	for _, crc := range []bool{false, true} {
		s := newSite(t, Config{CRC: crc})
		l := s.line()
		w := s.talk(l)
		l.withMULPDU(1000)
		for i, n := range []int{0, 1, 985, 986, 987, 1972, 1973, regionLen} {
			off := (regionLen - n) / 2
			sinkTO := ^uint64(0) - 500 // the sum of TO and octets may wrap: it is the peer's own
			w.send(wUntaggedSeg(wUntaggedLast, wReadReq, 0, 1, uint32(i)+1, 0, octets(uint32(0xFEED0000+i), sinkTO, uint32(n), uint32(s.ro.RemoteToken()), s.ro.Base()+uint64(off))...))
			segs, payload := w.message()
			if !bytes.Equal(payload, s.want[inRO+off:inRO+off+n]) {
				t.Errorf("%d octets came as %d", n, len(payload))
			}
			if len(segs) != max(1, (n+985)/986) || segs[0].op != wReadResp || segs[0].stag != uint32(0xFEED0000+i) || segs[0].to != sinkTO {
				t.Errorf("%d octets: %d segments, %x", n, len(segs), segs[0].header)
			}
			for k, g := range segs {
				if g.last() != (k == len(segs)-1) {
					t.Errorf("segment %d of %d is %x", k, len(segs), g.header)
				}
			}
		}
	}
}

func rowResponseOrder(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	l.withMULPDU(500)
	next, others := uint32(0), 0
	take := func() {
		segs, payload := w.message() // nothing between the segments of one
		if segs[0].op != wReadResp {
			others++
			return
		}
		if segs[0].stag != next || len(payload) != 2000 {
			t.Errorf("a Response to %d of %d octets, want %d", segs[0].stag, len(payload), next)
		}
		next++
	}
	for i := range uint32(40) {
		w.send(wUntaggedSeg(wUntaggedLast, wReadReq, 0, 1, i+1, 0, octets(i, uint64(0), uint32(2000), uint32(s.ro.RemoteToken()), s.ro.Base())...))
		must(t, l.qp.Send("s", []ndk.SGE{s.sge(buffersAt, 1200)}, ndk.SilentSuccess))
		must(t, l.qp.Write("w", []ndk.SGE{s.sge(buffersAt, 1200)}, 0, 1, 0))
		for next < i { // two at once
			take()
		}
		l.expect("w", ntstatus.Success)
	}
	for next < 40 || others < 80 {
		take()
	}
}

// readOut joins a peer and posts Reads of the lengths; it returns their requests.
func readOut(t *testing.T, cfg Config, lengths ...int) (s *site, l *line, w *wire, reqs []*wSeg) {
	s = newSite(t, cfg)
	l = s.line()
	w = s.talk(l)
	at := buffersAt
	for i, n := range lengths {
		must(t, l.qp.Read(i, []ndk.SGE{s.sge(at, n/2), s.sge(at+n/2+64, n-n/2)}, 1<<40, 77, 0))
		g := w.seg()
		if g == nil || g.op != wReadReq {
			t.Fatalf("a Read came as %+v", g)
		}
		reqs = append(reqs, g)
		at += 4096
	}
	return s, l, w, reqs
}

// sinkOf are STag and TO that a Read Request names.
func sinkOf(g *wSeg) (stag uint32, to uint64) {
	return be32(g.payload), uint64(be32(g.payload[4:]))<<32 | uint64(be32(g.payload[8:]))
}

func rowResponseChecked(t *testing.T) {
	p := bytes.Repeat([]byte{0x99}, 200)
	for _, tc := range []struct {
		name  string
		resp  func(stag uint32, to uint64) [][]byte
		etype byte
		code  byte
		good  int // octets in place before
	}{
		{"another STag", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTaggedLast, wReadResp, stag^1, to, p[:100]...)}
		}, 1, 0, 0},
		{"a TO before", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTaggedLast, wReadResp, stag, to-1, p[:100]...)}
		}, 1, 1, 0},
		{"a TO behind", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTaggedLast, wReadResp, stag, to+1, p[:99]...)}
		}, 1, 1, 0},
		{"too long", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTaggedLast, wReadResp, stag, to, p[:101]...)}
		}, 1, 1, 0},
		{"too long, and not the last", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTagged, wReadResp, stag, to, p[:101]...)}
		}, 1, 1, 0},
		{"as long as can be", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTaggedLast, wReadResp, stag, to, make([]byte, 65521)...)}
		}, 1, 1, 0},
		{"too short", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTaggedLast, wReadResp, stag, to, p[:99]...)}
		}, 1, 1, 0},
		{"empty", func(stag uint32, to uint64) [][]byte { return [][]byte{wTaggedSeg(wTaggedLast, wReadResp, stag, to)} }, 1, 1, 0},
		{"complete but not the last", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTagged, wReadResp, stag, to, p[:100]...)}
		}, 1, 1, 0},
		{"a gap", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTagged, wReadResp, stag, to, p[:10]...), wTaggedSeg(wTaggedLast, wReadResp, stag, to+11, p[:89]...)}
		}, 1, 1, 10},
		{"too long in the second segment", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTagged, wReadResp, stag, to, p[:60]...), wTaggedSeg(wTaggedLast, wReadResp, stag, to+60, p[:41]...)}
		}, 1, 1, 60},
		{"of the other Read", func(stag uint32, to uint64) [][]byte {
			return [][]byte{wTaggedSeg(wTaggedLast, wReadResp, stag, to+1<<32, p[:50]...)}
		}, 1, 1, 0},
	} {
		for _, crc := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, CRC %v", tc.name, crc), func(t *testing.T) {
				s, l, w, reqs := readOut(t, Config{CRC: crc}, 100, 50)
				us := tc.resp(sinkOf(reqs[0]))
				w.send(us...)
				w.expectTerminate(termOf(1, tc.etype, tc.code, us[len(us)-1], true, false))
				l.expectReason(1, tc.etype, tc.code, true)
				l.expect(0, ntstatus.Cancelled)
				l.expect(1, ntstatus.Cancelled)
				l.expectDead()
				copy(s.want[buffersAt:buffersAt+50], p[:min(tc.good, 50)])
				if tc.good > 50 {
					copy(s.want[buffersAt+50+64:], p[:tc.good-50])
				}
				s.check()
				s.others()
			})
		}
	}
	unasked := func(t *testing.T, s *site, l *line, w *wire, stag uint32, to uint64) {
		t.Helper()
		w.send(wTaggedSeg(wTaggedLast, wReadResp, stag, to, 1, 2, 3))
		w.expectTerminate([]byte{0x10, 0x00, 0, 0}) // local catastrophic: no headers
		l.expectReason(1, 0, 0, true)
		s.check()
		s.others()
	}
	t.Run("for no Read", func(t *testing.T) {
		s := newSite(t, Config{})
		l := s.line()
		unasked(t, s, l, s.talk(l), uint32(s.rw.RemoteToken()), s.rw.Base())
	})
	t.Run("for no Read, empty", func(t *testing.T) {
		s := newSite(t, Config{})
		l := s.line()
		w := s.talk(l)
		w.send(wTaggedSeg(wTaggedLast, wReadResp, 0, 0))
		w.expectTerminate([]byte{0x10, 0x00, 0, 0})
	})
	t.Run("twice", func(t *testing.T) {
		s, l, w, reqs := readOut(t, Config{}, 100)
		stag, to := sinkOf(reqs[0])
		w.send(wTaggedSeg(wTaggedLast, wReadResp, stag, to, p[:100]...))
		l.expect(0, ntstatus.Success)
		copy(s.want[buffersAt:], p[:50])
		copy(s.want[buffersAt+50+64:], p[:50])
		unasked(t, s, l, w, stag, to)
	})
}

func rowEmptyReads(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	// Theirs: nothing is looked up.
	for i, g := range [][]byte{wRead(1, 0, 0, 0), wRead(2, 0, 0xBAD00000, ^uint64(0)), wRead(3, 0, uint32(s.wo.RemoteToken()), 1), wRead(4, 0, uint32(s.foreign.RemoteToken()), 0)} {
		w.send(g)
		if u := w.ulpdu(); !bytes.Equal(u, wTaggedSeg(wTaggedLast, wReadResp, wSinkSTag, wSinkTO)) {
			t.Errorf("Read %d is answered with %x", i, u)
		}
	}
	// Ours: completes by an empty Response.
	must(t, l.qp.Read("r", nil, 5, 6, 0))
	g := w.seg()
	if g.op != wReadReq || be32(g.payload[12:]) != 0 {
		t.Errorf("%x %x", g.header, g.payload)
	}
	l.silent()
	stag, to := sinkOf(g)
	w.send(wTaggedSeg(wTaggedLast, wReadResp, stag, to))
	l.expect("r", ntstatus.Success)
	s.check()
}

func rowORD(t *testing.T) {
	for _, ord := range []int{1, 2, 5, 128} {
		e, w, err := call(t, Config{}, ndk.ConnParams{InboundReadLimit: 1, OutboundReadLimit: ord}, func(w *wire, _ *wFrame) {
			w.write(wStart(true, 0x10, 2, wEnhanced(200, 1)...))
		})
		must(t, err)
		must(t, e.c.CompleteConnect(context.Background(), nil))
		readsAtOnce(t, e, w, ord+3, ord)
	}
}

func rowIRDExceeded(t *testing.T) {
	// The peer reads nothing, so that the Responses get stuck.
	const size = 16 << 20
	for _, crc := range []bool{false, true} {
		e := newEnd(t, Config{CRC: crc}, size)
		addr, got := listenTo(t, e)
		w := dialWire(t, addr)
		// Less than a Response, and more than a segment of loopback's 64 KiB: of a smaller
		// one TCP drops segments, and sends them again after longer and longer times.
		must(t, w.c.SetReadBuffer(1<<20))
		w.crc = crc
		w.write(wStart(false, 0x10, 2, wEnhanced(4, 2)...))
		e.c = <-got
		reason := make(chan uint32, 1)
		must(t, e.c.AcceptEx(context.Background(), e.qp, ndk.ConnParams{InboundReadLimit: 2, OutboundReadLimit: 2}, func(r uint32) { reason <- r }))
		w.startup()
		token := uint32(e.mr.RemoteToken())
		bad := wRead(3, 1, token, e.mr.Base())
		w.send(wRead(1, size, token, e.mr.Base()), wRead(2, size, token, e.mr.Base()), bad)
		if la, et, co, lo, _ := ParseReason(<-reason); la != 1 || et != 2 || co != 2 || !lo {
			t.Errorf("reason %d/%d/%d", la, et, co)
		}
		w.expectTerminate(termOf(1, 2, 2, bad, true, false))
	}
	// A limit of 0 is one too.
	s := newSite(t, Config{})
	l := s.line()
	l.params = ndk.ConnParams{}
	w := s.talk(l)
	bad := wRead(1, 1, uint32(s.ro.RemoteToken()), s.ro.Base())
	w.send(bad)
	w.expectTerminate(termOf(1, 2, 2, bad, true, false))
}

func rowIRDInUse(t *testing.T) {
	// As many as agreed at any time, each asked for as soon as the octets of the one
	// before are here, is never one too many.
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l) // 2
	token := uint32(s.ro.RemoteToken())
	msn := uint32(1)
	ask := func() {
		w.send(wRead(msn, 1+msn%100, token, s.ro.Base()))
		msn++
	}
	ask()
	ask()
	for i := range uint32(3000) {
		g := w.seg()
		if g.op != wReadResp || len(g.payload) != int(1+(i+1)%100) {
			t.Fatalf("Response %d is %x", i, g.header)
		}
		ask()
	}
}

func rowReadAfterWrite(t *testing.T) {
	for _, crc := range []bool{false, true} {
		s := newSite(t, Config{CRC: crc})
		l := s.line()
		w := s.talk(l)
		token, base := uint32(s.rw.RemoteToken()), s.rw.Base()
		for i := range 50 {
			p := bytes.Repeat([]byte{byte(i + 1)}, regionLen)
			w.send(wWriteMsg(token, base, p...), wRead(uint32(i)+1, regionLen, token, base))
			if _, payload := w.message(); !bytes.Equal(payload, p) {
				t.Fatalf("round %d: the Read does not see the Write before it", i)
			}
		}
	}
}

func rowPostingOrder(t *testing.T) {
	s, l, w, reqs := readOut(t, Config{}, 100)
	// They leave, but do not complete before the Read.
	must(t, l.qp.Send("s", nil, 0))
	must(t, l.qp.Write("w", nil, 1, 2, 0))
	must(t, l.qp.Send("silent", nil, ndk.SilentSuccess))
	for i, op := range []byte{wSend, wWrite, wSend} {
		if g := w.seg(); g.op != op {
			t.Errorf("FPDU %d is %x", i, g.header)
		}
	}
	l.silent()
	stag, to := sinkOf(reqs[0])
	p := bytes.Repeat([]byte{7}, 100)
	w.send(wTaggedSeg(wTagged, wReadResp, stag, to, p[:60]...))
	w.send(wRead(1, 0, 0, 0)) // was handled when it is answered
	if g := w.seg(); g.op != wReadResp {
		t.Errorf("%x", g.header)
	}
	l.silent()
	w.send(wTaggedSeg(wTaggedLast, wReadResp, stag, to+60, p[60:]...))
	l.expect(0, ntstatus.Success)
	l.expect("s", ntstatus.Success)
	l.expect("w", ntstatus.Success)
	copy(s.want[buffersAt:], p[:50])
	copy(s.want[buffersAt+50+64:], p[50:])
	s.check()
	// Without a Read before them they complete when TCP has them.
	must(t, l.qp.Send("s2", nil, 0))
	l.expect("s2", ntstatus.Success)
}

func rowReadFence(t *testing.T) {
	_, l, w, reqs := readOut(t, Config{}, 10)
	must(t, l.qp.Send("free", nil, 0)) // overtakes
	if g := w.seg(); g.op != wSend {
		t.Errorf("%x", g.header)
	}
	must(t, l.qp.Send("fenced", nil, ndk.ReadFence))
	must(t, l.qp.Write("behind", nil, 1, 2, 0))
	w.send(wRead(1, 0, 0, 0)) // is answered all the same
	if g := w.seg(); g.op != wReadResp {
		t.Errorf("%x", g.header)
	}
	if !w.quiet() {
		t.Error("something passed the fence")
	}
	stag, to := sinkOf(reqs[0])
	w.send(wTaggedSeg(wTaggedLast, wReadResp, stag, to, make([]byte, 10)...))
	for _, op := range []byte{wSend, wWrite} {
		if g := w.seg(); g.op != op {
			t.Errorf("%x", g.header)
		}
	}
	for _, rc := range []any{0, "free", "fenced", "behind"} {
		l.expect(rc, ntstatus.Success)
	}
}

func rowSendKinds(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	for i, op := range []byte{wSend, wSendSE, wSend, wSendSE} {
		l.receive(1)
		payload := bytes.Repeat([]byte{byte(i)}, i/2*7) // empty ones too
		w.send(wUntaggedSeg(wUntaggedLast, op, 0, 0, uint32(i)+1, 0, payload...))
		r := l.expect(i, ntstatus.Success)
		if int(r.Bytes) != len(payload) || r.Type != ndk.OpReceive || r.InvalidatedToken != 0 {
			t.Errorf("%+v", r)
		}
		s.received(i, payload)
	}
	// Many at once complete in the order of their arrival.
	l.receive(10)
	var us [][]byte
	for i := range uint32(10) {
		us = append(us, wSendMsg(5+i, bytes.Repeat([]byte{byte(i)}, int(i))...))
		s.received(4+int(i), us[i][wUntaggedLen:])
	}
	w.send(us...)
	for i := range 10 {
		if r := l.expect(4+i, ntstatus.Success); int(r.Bytes) != i {
			t.Errorf("%+v", r)
		}
	}
	s.check()
}

func rowSendInvalidate(t *testing.T) {
	for _, op := range []byte{wSendInval, wSendSEInval} {
		s := newSite(t, Config{})
		l := s.line()
		l.receive(4)
		w := s.talk(l)
		// A fast registration, several times; in one segment, and in two.
		for i := range uint32(3) {
			token := uint32(s.fast.RemoteToken())
			w.send(wWriteMsg(token, s.fastAt, byte(i)), wUntaggedSeg(wUntagged, op, token, 0, i+1, 0, 1), wWriteMsg(token, s.fastAt+1, byte(i)),
				wUntaggedSeg(wUntaggedLast, op, token, 0, i+1, 1, 2))
			r := l.expect(int(i), ntstatus.Success)
			if r.Type != ndk.OpReceiveAndInvalidate || r.InvalidatedToken != ndk.Token(token) || r.Bytes != 2 {
				t.Errorf("%+v", r)
			}
			s.received(int(i), []byte{1, 2})
			s.want[inFast], s.want[inFast+1] = byte(i), byte(i)
			s.check()
			// It ended before the completion: else this would be refused.
			s.registerFast()
			if uint32(s.fast.RemoteToken()) == token {
				t.Error("the same STag again")
			}
		}
		// A window of this connection.
		mw, err := s.pd.CreateMW(context.Background())
		must(t, err)
		defer mw.Close()
		must(t, l.qp.Bind("b", s.rw, mw, s.rw.Base()+16, 16, ndk.AllowRemoteWrite))
		l.expect("b", ntstatus.Success)
		w.send(wWriteMsg(uint32(mw.RemoteToken()), s.rw.Base()+16, 5), wUntaggedSeg(wUntaggedLast, op, uint32(mw.RemoteToken()), 0, 4, 0))
		if r := l.expect(3, ntstatus.Success); r.InvalidatedToken != mw.RemoteToken() {
			t.Errorf("%+v", r)
		}
		s.want[inRW+16] = 5
		bad := wWriteMsg(uint32(mw.RemoteToken()), s.rw.Base()+16, 6)
		w.send(bad)
		w.expectTerminate(termOf(1, 1, 0, bad, true, false))
		s.check()
		s.others()
	}
}

func rowSilentWrites(t *testing.T) {
	s := newSite(t, Config{})
	l := s.line()
	l.receive(2)
	w := s.talk(l)
	var us [][]byte
	for i := range 100 {
		us = append(us, wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base()+uint64(i), byte(i)))
		s.want[inRW+i] = byte(i)
	}
	w.send(us...)
	w.send(wRead(1, 0, 0, 0)) // all of them were handled when it is answered
	if g := w.seg(); g.op != wReadResp {
		t.Errorf("%x", g.header)
	}
	l.silent()
	w.send(wSendMsg(1))
	l.expect(0, ntstatus.Success)
	s.check()
	l.silent()
}
