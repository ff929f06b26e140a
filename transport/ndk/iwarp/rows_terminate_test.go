package iwarp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

func rowLastFPDU(t *testing.T) {
	// Requests are posted all the time; the peer's error ends them, and nothing
	// follows the Terminate. expectTerminate looks at its header.
	s := newSite(t, Config{})
	l := s.line()
	w := s.talk(l)
	done := make(chan int)
	go func() { // ends with the connection
		posts := 0
		for ; ; posts++ {
			switch err := l.qp.Send(nil, []ndk.SGE{s.sge(buffersAt, 100)}, ndk.SilentSuccess); {
			case errors.Is(err, ntstatus.NoMoreEntries):
				runtime.Gosched()
			case err != nil:
				done <- posts
				return
			}
		}
	}()
	if g := w.seg(); g.op != wSend {
		t.Errorf("%x", g.header)
	}
	bad := wSendMsg(9)
	w.send(bad)
	w.expectTerminate(termOf(1, 2, 3, bad, true, false))
	<-done
	// An error of our own is told too, once.
	l = s.line()
	w = s.talk(l)
	must(t, l.qp.Send("bad", []ndk.SGE{{Addr: 1, Length: 1, Token: 1}}, ndk.Defer))
	must(t, l.qp.Send("good", nil, 0))
	w.expectTerminate([]byte{0x00, 0x00, 0, 0})
	if r := l.expect("bad", ntstatus.AccessViolation); ndk.Rule(r.ProviderError) != ndk.RuleSGERange {
		t.Errorf("%+v", r)
	}
	l.expect("good", ntstatus.Cancelled)
	l.expectReason(0, 0, 0, true)
}

// terminate is a Terminate of the peer.
func terminate(payload ...byte) []byte {
	return wUntaggedSeg(wUntaggedLast, wTerminate, 0, 2, 1, 0, payload...)
}

func rowTerminateControl(t *testing.T) {
	for _, tc := range []struct {
		name               string
		payload            []byte
		layer, etype, code byte
	}{
		{"as the RFC has it", []byte{0x11, 0x00, 0xC0, 0}, 1, 1, 0},
		{"reserved bits set", []byte{0x12, 0x02, 0x58, 0xFF}, 1, 2, 2},
		{"siw, DDP tagged", []byte{0x11, 0x01, 0x03, 0}, 1, 1, 1},
		{"siw, DDP untagged", []byte{0x21, 0x02, 0x07, 0}, 1, 2, 2},
		{"siw, MPA CRC without headers", []byte{0x02, 0x02, 0, 0}, 2, 0, 2},
		{"siw, RDMAP access", []byte{0x10, 0x02, 0x07, 0}, 0, 1, 2},
		{"siw, RDMAP opcode, without headers", []byte{0x20, 0x06, 0, 0}, 2, 0, 6}, // cannot be told from MPA IRD
		{"a combination of nowhere", []byte{0xFF, 0xEE, 0, 0}, 0xF, 0xF, 0xEE},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t, Config{})
			l := s.line()
			w := s.talk(l)
			w.send(terminate(tc.payload...))
			w.ended()
			l.expectReason(tc.layer, tc.etype, tc.code, false)
		})
	}
}

func rowTerminateAdvanced(t *testing.T) {
	// DDP Segment Length and headers of what is whole: every badCase. Here the region
	// goes away in the middle of a Response, between two batches of the transmitter.
	const size = 1 << 20
	for _, crc := range []bool{false, true} {
		e := newEnd(t, Config{CRC: crc, SendBuffer: 8 << 10}, size)
		addr, got := listenTo(t, e)
		w := dialWire(t, addr)
		must(t, w.c.SetReadBuffer(64<<10))
		w.crc = crc
		w.write(wStart(false, 0x10, 2, wEnhanced(4, 2)...))
		e.c = <-got
		must(t, e.c.Accept(context.Background(), e.qp, limits, nil))
		w.startup()
		for i := range e.mem {
			e.mem[i] = byte(i >> 3)
		}
		base := e.mr.Base()
		req := wRead(1, size, uint32(e.mr.RemoteToken()), base)
		w.send(req)
		q := e.qp.(*qp)
		for { // until the first batch is on its way
			q.mu.Lock()
			if q.batch != nil && q.batch.n > 0 {
				break
			}
			q.mu.Unlock()
			runtime.Gosched()
		}
		batch := q.batch.size
		sent := 0
		for len(w.taken) < batch { // all of it, and none of the next one
			g := w.seg()
			if !bytes.Equal(g.payload, e.mem[sent:sent+len(g.payload)]) {
				t.Fatalf("%d octets at %d are wrong", len(g.payload), sent)
			}
			sent += len(g.payload)
		}
		if len(w.taken) != batch || sent == 0 || sent == size {
			t.Fatalf("a batch of %d octets came as %d with %d of payload", batch, len(w.taken), sent)
		}
		must(t, e.mr.Deregister(context.Background()))
		q.mu.Unlock()
		want := octets([]byte{0x01, 0x00, 0xE0, 0x00}, uint16(46), req[:wUntaggedLen],
			wSinkSTag, wSinkTO+uint64(sent), uint32(size-sent), req[wUntaggedLen+16:wUntaggedLen+20], base+uint64(sent))
		w.expectTerminate(want)
	}
}

// figure9 are the values of RFC 5040 Figure 9 with those of RFC 6581, and whether
// the digest blames the oldest request for them.
var figure9 = []struct {
	layer, etype, code byte
	blames             bool
}{
	{0, 0, 0x00, false},
	{0, 1, 0x00, true}, {0, 1, 0x01, true}, {0, 1, 0x02, true}, {0, 1, 0x03, true}, {0, 1, 0x04, true}, {0, 1, 0x09, true}, {0, 1, 0xFF, true},
	{0, 2, 0x05, false}, {0, 2, 0x06, false}, {0, 2, 0x07, false}, {0, 2, 0x08, false}, {0, 2, 0x09, false}, {0, 2, 0xFF, false},
	{1, 0, 0x00, false},
	{1, 1, 0x00, true}, {1, 1, 0x01, true}, {1, 1, 0x02, true}, {1, 1, 0x03, true}, {1, 1, 0x04, true},
	{1, 2, 0x01, false}, {1, 2, 0x02, true}, {1, 2, 0x03, false}, {1, 2, 0x04, false}, {1, 2, 0x05, true}, {1, 2, 0x06, false},
	{2, 0, 0x01, false}, {2, 0, 0x02, false}, {2, 0, 0x03, false}, {2, 0, 0x04, false}, {2, 0, 0x05, false}, {2, 0, 0x06, false}, {2, 0, 0x07, false},
}

func rowTerminateValues(t *testing.T) {
	for _, v := range figure9 {
		t.Run(fmt.Sprintf("%d.%d %#02x", v.layer, v.etype, v.code), func(t *testing.T) {
			s, l, w, _ := readOut(t, Config{}, 100)
			must(t, l.qp.Send("s", nil, 0))
			if g := w.seg(); g.op != wSend {
				t.Errorf("%x", g.header)
			}
			flags := byte(0)
			if v.layer == 1 && v.etype != 0 {
				flags = 0xC0
			}
			w.send(terminate(v.layer<<4|v.etype, v.code, flags, 0))
			w.ended()
			l.expectReason(v.layer, v.etype, v.code, false)
			st := ntstatus.Cancelled
			if v.blames {
				st = ntstatus.RemoteResources
			}
			r := l.expect(0, st)
			if la, et, co, lo, ok := ParseReason(r.ProviderError); v.blames && (la != v.layer || et != v.etype || co != v.code || lo || !ok) {
				t.Errorf("the Read names %#x", r.ProviderError)
			}
			s.check()
		})
	}
	// Those that we send are among them.
	for _, c := range badCases() {
		found := false
		for _, v := range figure9 {
			found = found || c.layer == v.layer && c.etype == v.etype && c.code == v.code
		}
		if !found {
			t.Errorf("%s %s is answered with %d.%d %#02x", c.id, c.name, c.layer, c.etype, c.code)
		}
	}
}

func badCases() []badCase { return append(ddpBadCases(), rdmapBadCases()...) }

// rowTerminateHeaders holds what the cases want against Figure 10. That they get it
// is for their own tests.
func rowTerminateHeaders(t *testing.T) {
	for _, c := range badCases() {
		ddp := c.layer == 1 && c.etype != 0 || c.layer == 0 && c.etype != 0
		if c.ddp != ddp {
			t.Errorf("%s %s wants a DDP header: %v", c.id, c.name, c.ddp)
		}
		s := newSite(t, Config{})
		us := c.bad(s, nil)
		bad := us[len(us)-1]
		if read := c.layer == 0 && c.etype == 1 && bad[1]&0x0F == 1; c.read != read { // only Read Requests have an RDMAP header
			t.Errorf("%s %s wants an RDMAP header: %v", c.id, c.name, c.read)
		}
	}
}

func rowFirstError(t *testing.T) {
	s := newSite(t, Config{})
	bads := []struct {
		ulpdu              []byte
		layer, etype, code byte
		ddp, read          bool
	}{
		{wSendMsg(2), 1, 2, 3, true, false},
		{wWriteMsg(0xBAD00000, 0, 1), 1, 1, 0, true, false},
		{wRead(1, 1, 0xBAD00000, 0), 0, 1, 0, true, true},
		{wUntaggedSeg(wUntaggedLast, 0x48, 0, 0, 1, 0), 0, 2, 6, true, false},
		{[]byte{0x41}, 2, 0, 3, false, false},
	}
	for i, a := range bads {
		for k, b := range bads {
			if i == k {
				continue
			}
			l := s.line()
			w := s.talk(l)
			w.send(a.ulpdu, b.ulpdu)
			w.expectTerminate(termOf(a.layer, a.etype, a.code, a.ulpdu, a.ddp, a.read))
			l.expectReason(a.layer, a.etype, a.code, true)
		}
	}
	// An error of ours behind theirs, before the Terminate leaves.
	l := s.line()
	w := s.talk(l)
	q := l.inner()
	q.mu.Lock()
	for q.txBusy { // one that is, and would take this one's place
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
	}
	q.txBusy = true // as if a transmitter were at work
	q.mu.Unlock()
	w.send(bads[0].ulpdu)
	for {
		q.mu.Lock()
		if q.terminating {
			break
		}
		q.mu.Unlock()
		runtime.Gosched()
	}
	q.failLocked(causeLocal, nil)
	q.txBusy = false
	q.kickLocked()
	q.mu.Unlock()
	w.expectTerminate(termOf(1, 2, 3, bads[0].ulpdu, true, false))
	l.expectReason(1, 2, 3, true)
}

func rowTerminateReceived(t *testing.T) {
	type tcase struct {
		name  string
		ulpdu []byte
		known bool
	}
	var tcs []tcase
	for _, n := range vectors(t, "fpdu-term-*") {
		b := vector(t, n)
		tcs = append(tcs, tcase{n, b[2 : 2+int(b[0])<<8+int(b[1])], true})
	}
	good := []byte{0x11, 0x00, 0xC0, 0}
	tcs = append(tcs,
		tcase{"without its control field", terminate(), false},
		tcase{"of 3 octets", terminate(good[:3]...), false},
		tcase{"with headers that it does not have", terminate(good...), true},
		tcase{"with MSN 7", changed(terminate(good...), 13, 7), true},
		tcase{"with MO 7", changed(terminate(good...), 17, 7), true},
		tcase{"not the last segment", changed(terminate(good...), 0, wUntagged), true},
		tcase{"as long as can be", terminate(append(bytes.Clone(good), make([]byte, 60000)...)...), true},
	)
	for _, tc := range tcs {
		for _, crc := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, CRC %v", tc.name, crc), func(t *testing.T) {
				s, l, w, _ := readOut(t, Config{CRC: crc}, 100, 100)
				l.receive(2)
				held := ndk.ReadFence
				if crc {
					held = ndk.Defer // could go at any time
				}
				must(t, l.qp.Send("held", []ndk.SGE{s.sge(buffersAt, 8)}, ndk.SilentSuccess|held))
				w.send(tc.ulpdu, wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), 1), wSendMsg(1, 1), wRead(1, 1, uint32(s.ro.RemoteToken()), s.ro.Base()))
				w.ended() // nothing is sent, no Terminate either
				_ = w.c.CloseWrite()
				want := map[any]ndk.Status{0: ntstatus.Cancelled, 1: ntstatus.Cancelled, "held": ntstatus.Cancelled}
				for range 5 {
					r := l.wait()
					if _, read := r.RequestContext.(int); r.Type == ndk.OpReceive && read {
						if r.Status != ntstatus.Cancelled {
							t.Errorf("receive %v ends with %v", r.RequestContext, r.Status)
						}
						continue
					}
					if st := r.Status; st != want[r.RequestContext] && !(r.RequestContext == 0 && st == ntstatus.RemoteResources) {
						t.Errorf("%v ends with %v", r.RequestContext, st)
					}
				}
				reason := <-l.reason
				if _, _, _, local, ok := ParseReason(reason); local || !ok {
					t.Errorf("reason %#x", reason)
				}
				if !tc.known && reason&0x7FFFFF != 0 {
					t.Errorf("reason %#x of what cannot be read", reason)
				}
				l.expectDead()
				s.check()
				s.others()
			})
		}
	}
}

func rowTerminateArrives(t *testing.T) {
	for _, crc := range []bool{false, true} {
		s := newSite(t, Config{CRC: crc})
		l := s.line()
		w := s.talk(l)
		bad := wSendMsg(5)
		w.send(bad)
		// Much more than it will ever read, sent before the peer looks at what came.
		more := fpduOf(wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), make([]byte, 4000)...), crc)
		for range 1000 {
			w.write(more)
		}
		w.expectTerminate(termOf(1, 2, 3, bad, true, false)) // fails on a reset
		s.check()
	}
}

func rowBufferOwner(t *testing.T) {
	// A receive that was cancelled is the consumer's again: what the peer sends to it
	// still goes nowhere.
	s := newSite(t, Config{})
	l := s.line()
	l.receive(1)
	w := s.talk(l)
	w.send(wUntaggedSeg(wUntagged, wSend, 0, 0, 1, 0, 1, 2, 3))
	w.send(wRead(1, 0, 0, 0))
	if g := w.seg(); g.op != wReadResp {
		t.Errorf("%x", g.header)
	}
	s.received(0, []byte{1, 2, 3})
	s.check()
	l.qp.Flush()
	l.expect(0, ntstatus.Cancelled)
	at := s.receiveSlot(0)
	for i := range receiveStep {
		s.arena[at+i], s.want[at+i] = 0xD0, 0xD0
	}
	_, _ = w.c.Write(fpduOf(wUntaggedSeg(wUntaggedLast, wSend, 0, 0, 1, 3, bytes.Repeat([]byte{0xEE}, 20)...), false)) // may be refused by now
	<-l.inner().ended
	s.check()
	// And so is the sink of a Read.
	s, l, w, reqs := readOut(t, Config{}, 100)
	stag, to := sinkOf(reqs[0])
	l.qp.Flush()
	l.expect(0, ntstatus.Cancelled)
	_, _ = w.c.Write(fpduOf(wTaggedSeg(wTaggedLast, wReadResp, stag, to, bytes.Repeat([]byte{0xEE}, 100)...), false))
	<-l.inner().ended
	s.check()
	s.others()
}

func rowSTags(t *testing.T) {
	s := newSite(t, Config{})
	ctx := context.Background()
	m, err := s.pd.CreateMR(ctx, false)
	must(t, err)
	defer m.Close()
	mem := ndk.Memory{s.arena[inGone : inGone+regionLen]}
	// One slot: the value changes each time, and by no fixed step.
	steps := map[uint32]bool{}
	last := uint32(0)
	for i := range 600 {
		must(t, m.Register(ctx, mem, regionLen, wantRead))
		v := uint32(m.RemoteToken())
		if v == last || v == 0 {
			t.Fatalf("registration %d has STag %#x after %#x", i, v, last)
		}
		steps[v-last] = true
		last = v
		must(t, m.Deregister(ctx))
	}
	if len(steps) < 100 {
		t.Errorf("only %d different steps from one STag to the next", len(steps))
	}
	// Many slots: no two alike, and indexes tell nothing of each other.
	seen := map[uint32]bool{}
	gaps := map[uint32]bool{}
	last = 0
	for range 500 {
		n, err := s.pd.CreateMR(ctx, false)
		must(t, err)
		defer n.Close()
		must(t, n.Register(ctx, mem, regionLen, wantRead))
		v := uint32(n.RemoteToken())
		if seen[v>>8] {
			t.Fatalf("index %#x twice", v>>8)
		}
		seen[v>>8] = true
		gaps[v>>8-last] = true
		last = v >> 8
	}
	if len(gaps) < 490 {
		t.Errorf("only %d different gaps between 500 indexes", len(gaps))
	}
	// Another adapter has another order.
	a, b := newSite(t, Config{}), newSite(t, Config{})
	if a.rw.RemoteToken() == b.rw.RemoteToken() && a.ro.RemoteToken() == b.ro.RemoteToken() {
		t.Error("two adapters give the same STags")
	}
	// Revoked before the memory is used again: DDP-14, RDMAP-12 with a region that
	// was deregistered. None of 256 keys but one opens an index.
	for range 3 {
		l := s.line()
		w := s.talk(l)
		bad := wWriteMsg(uint32(s.rw.RemoteToken())+1, s.rw.Base(), 1)
		w.send(bad)
		w.expectTerminate(termOf(1, 1, 0, bad, true, false))
	}
	s.check()
}

// rowOverflows tries sums of extreme numbers: each is refused with one of the codes
// of its kind, and nothing is touched.
func rowOverflows(t *testing.T) {
	s := newSite(t, Config{})
	extremes := []uint64{0, 1, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, ^uint64(0) - regionLen, ^uint64(0) - 1, ^uint64(0)}
	codes := func(w *wire, layer byte) {
		t.Helper()
		n := 0
		for {
			g := w.seg()
			if g == nil {
				break
			}
			n++
			if g.op != wTerminate || g.payload[0] != layer<<4|1 || g.payload[1] != 1 && g.payload[1] != 3 && g.payload[1] != 4 {
				t.Errorf("answered with %x %x", g.header, g.payload)
			}
		}
		if n != 1 {
			t.Errorf("%d answers", n)
		}
		_ = w.c.CloseWrite()
	}
	for _, to := range extremes {
		for _, size := range []uint32{2, regionLen, regionLen + 1, 1<<31 - 1, 1 << 31, 0xFFFFFFFF} {
			w := s.talk(s.line())
			w.send(wRead(1, size, uint32(s.rw.RemoteToken()), to))
			codes(w, 0)
			if size <= regionLen {
				w := s.talk(s.line())
				w.send(wWriteMsg(uint32(s.rw.RemoteToken()), to, make([]byte, size)...))
				codes(w, 1)
			}
		}
		// Relative to the region, so that the sum comes out inside it.
		w := s.talk(s.line())
		w.send(wRead(1, 0xFFFFFFFF, uint32(s.rw.RemoteToken()), s.rw.Base()-to|1))
		codes(w, 0)
	}
	s.check()
	s.others()
}

// rowPeerAllocates: what peers claim costs nothing beyond the stage of a connection.
func rowPeerAllocates(t *testing.T) {
	s := newSite(t, Config{CRC: true})
	inUse := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const peers = 100
	var ws []*wire
	for range peers {
		l := s.line()
		l.receive(1)
		ws = append(ws, s.talk(l))
	}
	before := inUse()
	for _, w := range ws {
		w.write([]byte{0xFF, 0xFF}) // an FPDU of 64 KiB that does not come
	}
	for _, w := range ws { // each is read by the time the next connection has worked
		_ = w
		s.others()
		s.calm.posted = 12
	}
	if per := (inUse() - before) / peers; per > stageBig+(16<<10) {
		t.Errorf("%d octets for each announced FPDU", per)
	}
	// Queues of a QP are as long as was agreed.
	q := s.calm.inner()
	q.mu.Lock()
	if len(q.jobs) > 2*2 || len(q.reads) > 2 {
		t.Errorf("room for %d Read Requests and %d Reads with limits of 2", len(q.jobs), len(q.reads))
	}
	q.mu.Unlock()
	s.check()
}
