package iwarp

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// rowTest proves a row of testdata/rows.tsv, or a part of it.
type rowTest struct {
	id, name string
	run      func(t *testing.T)
}

func rowTests() []rowTest { return slices.Concat(mpaRows(), v2Rows(), ddpRows(), rdmapRows()) }

// TestRows has a subtest for each row of testdata/rows.tsv, named after it: what
// RFC 5044, 6581, 5041 and 5040 ask of an end of a connection, seen from a peer
// that speaks octets (rows_wire_test.go).
func TestRows(t *testing.T) {
	for _, r := range rowTests() {
		t.Run(r.id+" "+r.name, r.run)
	}
}

// TestEveryRowHasATest compares the table of tests with the rows.
func TestEveryRowHasATest(t *testing.T) {
	b, err := os.ReadFile("testdata/rows.tsv")
	must(t, err)
	rows := map[string]int{}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 4 {
			t.Fatalf("line %d has %d columns, want 4", i+1, len(f))
		}
		if i == 0 {
			continue
		}
		if _, twice := rows[f[0]]; twice {
			t.Errorf("row %s is there twice", f[0])
		}
		rows[f[0]] = 0
	}
	for _, r := range rowTests() {
		if _, ok := rows[r.id]; !ok {
			t.Errorf("%s %q is a test of no row", r.id, r.name)
		}
		rows[r.id]++
	}
	for id, n := range rows {
		if n == 0 {
			t.Errorf("row %s has no test", id)
		}
	}
	if len(rows) < 100 {
		t.Errorf("%d rows, want them all", len(rows))
	}
}

// The arena of a site: regions with guards of regionGap octets around each, then
// buffers of receives and the sources and sinks of requests.
const (
	regionLen = 4096
	regionGap = 1024

	inRW      = regionGap + iota*(regionLen+regionGap) // remote read and write
	inRO                                               // remote read
	inWO                                               // remote write
	inForeign                                          // remote read and write, of another domain
	inGone                                             // remote read and write, and deregistered
	inFast                                             // by FastRegister, remote read and write
	inWindow                                           // of a window for the peer of the other connection
	inLocal                                            // local only: what follows

	receiveAt   = inLocal // of receiveStep octets each, receiveFirst and receiveRest of them used
	receiveStep = 128
	buffersAt   = receiveAt + 2048

	receiveFirst, receiveHole, receiveRest = 40, 8, 24
	receiveLen                             = receiveFirst + receiveRest

	arenaLen = 128 << 10
)

// fastBase is the address of the fast registration: not that of its memory.
const fastBase = 0x0123_4567_8000_0000

// site is an adapter under test, with an arena of which every octet is accounted
// for, and a second connection that nobody disturbs.
type site struct {
	t         testing.TB
	a         ndk.Adapter
	pd, other ndk.PD
	l         ndk.Listener
	addr      netip.AddrPort
	next      chan *line // who gets the next connection

	arena, want []byte
	free        func()
	objects     []ndk.Object
	lam         ndk.LAM

	rw, ro, wo, foreign, gone, fast, under, local ndk.MR
	window                                        ndk.MW
	goneToken                                     ndk.Token
	fastAt                                        uint64 // address of the first octet of the fast registration

	calm     *line // the connection that nobody disturbs
	calmPeer *wire
}

// line is a connection of a site.
type line struct {
	s        *site
	cq       ndk.CQ
	ev       *ndk.Event
	qp       ndk.QP
	c        ndk.Connector
	params   ndk.ConnParams
	accepted chan error
	reason   chan uint32
	posted   int // receives
	buf      [1]ndk.ResultEx
	msn      uint32 // of the next Send of the peer
	reads    uint32 // MSN of its next Read Request
}

// wantRead and wantWrite are the rights of a region.
const (
	wantRead  = ndk.MRAllowRemoteRead
	wantWrite = ndk.MRAllowRemoteWrite
)

func newSite(t testing.TB, cfg Config) *site {
	t.Helper()
	ctx := context.Background()
	p, err := New(cfg)
	must(t, err)
	s := &site{t: t, next: make(chan *line, 1)}
	s.a, err = p.Open(ctx, netip.Addr{}, ndk.Version21)
	must(t, err)
	s.pd, err = s.a.CreatePD(ctx)
	must(t, err)
	s.other, err = s.a.CreatePD(ctx)
	must(t, err)
	s.arena, s.free, err = s.a.Alloc(arenaLen)
	must(t, err)
	for i := range s.arena {
		s.arena[i] = byte(i*7 + i>>8)
	}
	s.want = bytes.Clone(s.arena)
	region := func(pd ndk.PD, off, n int, f ndk.MRFlags) ndk.MR {
		m, err := pd.CreateMR(ctx, false)
		must(t, err)
		must(t, m.Register(ctx, ndk.Memory{s.arena[off : off+n]}, n, f))
		s.objects = append(s.objects, m)
		return m
	}
	s.rw = region(s.pd, inRW, regionLen, wantRead|wantWrite)
	s.ro = region(s.pd, inRO, regionLen, wantRead)
	s.wo = region(s.pd, inWO, regionLen, wantWrite)
	s.foreign = region(s.other, inForeign, regionLen, wantRead|wantWrite)
	s.under = region(s.pd, inWindow, regionLen, wantRead|wantWrite)
	s.local = region(s.pd, inLocal, arenaLen-inLocal, ndk.MRAllowLocalWrite)
	s.gone = region(s.pd, inGone, regionLen, wantRead|wantWrite)
	s.goneToken = s.gone.RemoteToken()
	must(t, s.gone.Deregister(ctx))

	s.l, err = s.a.CreateListener(ctx, func(c ndk.Connector) {
		l := <-s.next
		l.c = c
		l.accepted <- c.AcceptEx(ctx, l.qp, l.params, func(r uint32) { l.reason <- r })
	})
	must(t, err)
	must(t, s.l.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0")))
	s.addr, err = s.l.LocalAddr()
	must(t, err)
	t.Cleanup(s.close)

	s.calm = s.line()
	s.calmPeer = s.join(s.calm)
	s.calmPeer.send(wWriteMsg(0, 0))
	s.fast, err = s.pd.CreateMR(ctx, true)
	must(t, err)
	must(t, s.fast.InitializeFastRegister(ctx, 2, true))
	s.lam.Pages = make([]ndk.LogicalAddress, 2)
	fbo, err := s.a.BuildLAM(ctx, ndk.Memory{s.arena[inFast : inFast+regionLen]}, regionLen, &s.lam)
	must(t, err)
	s.fastAt = fastBase + uint64(fbo)
	must(t, s.calm.qp.FastRegister("fast", s.fast, s.lam.Pages, fbo, regionLen, s.fastAt, ndk.AllowRemoteRead|ndk.AllowRemoteWrite))
	s.calm.expect("fast", ntstatus.Success)
	s.window, err = s.pd.CreateMW(ctx)
	must(t, err)
	must(t, s.calm.qp.Bind("bind", s.under, s.window, s.under.Base(), regionLen, ndk.AllowRemoteRead|ndk.AllowRemoteWrite))
	s.calm.expect("bind", ntstatus.Success)
	return s
}

func (s *site) close() {
	for _, o := range append([]ndk.Object{s.l}, s.objects...) {
		o.Close()
	}
	if s.fast != nil {
		s.fast.Close()
	}
	if s.window != nil {
		s.window.Close()
	}
	s.pd.Close()
	s.other.Close()
	s.a.ReleaseLAM(&s.lam)
	s.a.Close()
	s.free()
}

// line makes a QP of a site for a connection that is to come.
func (s *site) line() *line {
	s.t.Helper()
	ctx := context.Background()
	l := &line{s: s, ev: ndk.NewEvent(), accepted: make(chan error, 1), reason: make(chan uint32, 1),
		params: ndk.ConnParams{InboundReadLimit: 2, OutboundReadLimit: 2}, msn: 1, reads: 1}
	var err error
	l.cq, err = s.a.CreateCQ(ctx, ndk.CQConfig{Depth: 256, Notify: l.ev.Notify})
	must(s.t, err)
	l.qp, err = s.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: l.cq, InitiatorCQ: l.cq, ReceiveQueueDepth: 64, InitiatorQueueDepth: 64,
		MaxReceiveSGE: 4, MaxInitiatorSGE: 4, InlineDataSize: 256})
	must(s.t, err)
	s.objects = append(s.objects, l)
	return l
}

// Close of a line closes what belongs to it.
func (l *line) Close() {
	l.qp.Close()
	l.cq.Close()
	if l.c != nil {
		l.c.Close()
	}
}

// The rest of ndk.Object, for the list of what a site closes.
func (l *line) Kind() ndk.ObjectKind                             { return ndk.ObjectQP }
func (l *line) Version() ndk.Version                             { return l.qp.Version() }
func (l *line) Closed() <-chan struct{}                          { return l.qp.Closed() }
func (l *line) Extension(i ndk.GUID, v ndk.Version) (any, error) { return l.qp.Extension(i, v) }

// expectLine makes l take the next connection.
func (s *site) expectLine(l *line) *wire {
	s.t.Helper()
	s.next <- l
	return dialWire(s.t, s.addr)
}

// join connects a peer by revision 2 without a ready-to-receive message.
func (s *site) join(l *line) *wire {
	s.t.Helper()
	w := s.expectLine(l)
	w.write(wStart(false, 0x10, 2, wEnhanced(8, 8)...))
	rep := w.startup()
	if rep == nil {
		s.t.Fatal("closed without a Reply")
	}
	w.crc = rep.flags&0x40 != 0
	must(s.t, <-l.accepted)
	return w
}

// talk joins a peer and lifts the fence with an empty Write.
func (s *site) talk(l *line) *wire {
	s.t.Helper()
	w := s.join(l)
	l.unfence(w)
	return w
}

func (l *line) unfence(w *wire) {
	w.send(wWriteMsg(0, 0))
	<-l.inner().firstFPDU
}

func (l *line) inner() *qp { return l.qp.(*qp) }

// receive posts n receives.
func (l *line) receive(n int) {
	l.s.t.Helper()
	for range n {
		at := l.s.receiveSlot(l.posted)
		must(l.s.t, l.qp.Receive(l.posted, []ndk.SGE{l.s.sge(at, receiveFirst), l.s.sge(at, 0), l.s.sge(at+receiveFirst+receiveHole, receiveRest)}))
		l.posted++
	}
}

// receiveSlot is the offset of the buffers of a receive in the arena.
func (s *site) receiveSlot(i int) int { return receiveAt + i*receiveStep }

// received enters what a receive got into what the arena should hold.
func (s *site) received(slot int, p []byte) {
	at := s.receiveSlot(slot)
	n := copy(s.want[at:at+receiveFirst], p)
	copy(s.want[at+receiveFirst+receiveHole:][:receiveRest], p[n:])
}

// sge names a part of the arena that is for local use.
func (s *site) sge(off, n int) ndk.SGE {
	return ndk.SGE{Addr: s.local.Base() + uint64(off-inLocal), Length: uint32(n), Token: s.local.LocalToken()}
}

func (l *line) wait() ndk.ResultEx {
	for {
		if l.cq.PollEx(l.buf[:]) == 1 {
			return l.buf[0]
		}
		l.cq.Arm(ndk.ArmAny)
		if l.cq.PollEx(l.buf[:]) == 1 {
			return l.buf[0]
		}
		<-l.ev.C()
	}
}

// silent checks that there is no completion. What came before on the connection
// was handled.
func (l *line) silent() {
	l.s.t.Helper()
	if l.cq.PollEx(l.buf[:]) != 0 {
		l.s.t.Errorf("completion %+v where none is due", l.buf[0])
	}
}

// expect takes the next completion.
func (l *line) expect(rc any, st ndk.Status) ndk.ResultEx {
	l.s.t.Helper()
	r := l.wait()
	if r.RequestContext != rc || r.Status != st {
		l.s.t.Errorf("completion of %v with %v, want %v with %v", r.RequestContext, r.Status, rc, st)
	}
	return r
}

// expectReason takes the reason of the disconnect event.
func (l *line) expectReason(layer, etype, code byte, local bool) {
	l.s.t.Helper()
	la, et, co, lo, ok := ParseReason(<-l.reason)
	if la != layer || et != etype || co != code || lo != local || !ok {
		l.s.t.Errorf("the disconnect event says %d/%d/%#02x local %v %v, want %d/%d/%#02x local %v", la, et, co, lo, ok, layer, etype, code, local)
	}
}

// expectDead checks that nothing can be posted any more, and that the refusal
// names the rule.
func (l *line) expectDead() {
	l.s.t.Helper()
	for name, post := range map[string]func() error{
		"Send": func() error { return l.qp.Send(nil, nil, 0) },
		"Read": func() error { return l.qp.Read(nil, nil, 0, 0, 0) },
	} {
		if err := post(); !errors.Is(err, ndk.ErrNotConnected) || !errors.Is(err, ntstatus.ConnectionInvalid) {
			l.s.t.Errorf("%s after the end: %v", name, err)
		}
	}
	// Receives are taken until the flush, and cancelled by it.
	err := l.qp.Receive(nil, nil)
	for err == nil || errors.Is(err, ntstatus.NoMoreEntries) {
		runtime.Gosched()
		err = l.qp.Receive(nil, nil)
	}
	if !errors.Is(err, ndk.ErrNotConnected) {
		l.s.t.Errorf("Receive after the end: %v", err)
	}
}

// check compares the whole arena with what it should hold.
func (s *site) check() {
	s.t.Helper()
	for i := range s.arena {
		if s.arena[i] != s.want[i] {
			s.t.Errorf("octet %d of the arena is %#02x, want %#02x", i, s.arena[i], s.want[i])
			return
		}
	}
}

// others checks that the other connection of the adapter works as before, and that
// nothing else in the arena changes by it.
func (s *site) others() {
	s.t.Helper()
	l, w := s.calm, s.calmPeer
	l.posted = 12
	l.receive(1)
	w.send(wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base()+8, 1, 2, 3, 4, 5), wSendMsg(l.msn, 9, 8, 7),
		wRead(l.reads, 5, uint32(s.rw.RemoteToken()), s.rw.Base()+8))
	copy(s.want[inRW+8:], []byte{1, 2, 3, 4, 5})
	s.received(12, []byte{9, 8, 7})
	l.msn++
	l.reads++
	if u := w.ulpdu(); !bytes.Equal(u, wTaggedSeg(wTaggedLast, wReadResp, wSinkSTag, wSinkTO, 1, 2, 3, 4, 5)) {
		s.t.Errorf("the other connection answers a Read with %x", u)
	}
	if r := l.expect(12, ntstatus.Success); r.Bytes != 3 {
		s.t.Errorf("%d octets", r.Bytes)
	}
	s.check()
}

// badCase is something that a peer must not send, and what it gets for it.
type badCase struct {
	id, name string
	// bad are the ULPDUs that the peer sends; the last one is to blame.
	bad                func(s *site, l *line) [][]byte
	layer, etype, code byte
	ddp, read          bool         // the headers in the Terminate
	recv               []ndk.Status // of the receives that are not just cancelled, in order
	perr               uint32       // ProviderError of the last of them
	placed             func(s *site)
}

// run sends it at once, with CRC, and octet by octet; there is more behind it in
// the stream that would be good on another connection.
func (c *badCase) run(t *testing.T) {
	for _, mode := range []struct {
		name         string
		crc, trickle bool
	}{{"at once", false, false}, {"CRC", true, false}, {"octet by octet", false, true}} {
		t.Run(mode.name, func(t *testing.T) {
			s := newSite(t, Config{CRC: mode.crc})
			l := s.line()
			l.receive(2)
			w := s.join(l)
			us := c.bad(s, l)
			must(t, l.qp.Read("read", []ndk.SGE{s.sge(buffersAt, 8)}, 1, 2, 0))
			var stream []byte
			for _, u := range append(us[:len(us):len(us)], wSendMsg(1, 1, 2, 3), wWriteMsg(uint32(s.rw.RemoteToken()), s.rw.Base(), 1, 2, 3),
				wRead(1, 4, uint32(s.ro.RemoteToken()), s.ro.Base())) {
				stream = append(stream, fpduOf(u, mode.crc)...)
			}
			if mode.trickle {
				w.trickle(stream)
			} else {
				w.write(stream)
			}
			w.expectTerminate(termOf(c.layer, c.etype, c.code, us[len(us)-1], c.ddp, c.read))
			l.expectReason(c.layer, c.etype, c.code, true)
			// The Read is the only request; receives end in their order.
			want := append(c.recv[:len(c.recv):len(c.recv)], ntstatus.Cancelled, ntstatus.Cancelled)[:2]
			for n, read := 0, false; n < 2 || !read; {
				r := l.wait()
				if r.RequestContext == "read" {
					read = true
					if r.Status != ntstatus.Cancelled {
						t.Errorf("the Read ends with %v", r.Status)
					}
					continue
				}
				if r.RequestContext != n || r.Status != want[n] {
					t.Errorf("receive %v ends with %v, want %d with %v", r.RequestContext, r.Status, n, want[n])
				}
				if n == len(c.recv)-1 && r.ProviderError != c.perr {
					t.Errorf("receive %d has provider error %#x, want %#x", n, r.ProviderError, c.perr)
				}
				n++
			}
			l.expectDead()
			if c.placed != nil {
				c.placed(s)
			}
			s.check()
			s.others()
		})
	}
}

// call is the active side against a peer that answers as the test says. It returns
// when Connect did.
func call(t *testing.T, cfg Config, p ndk.ConnParams, answer func(w *wire, req *wFrame)) (*end, *wire, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	e := newEnd(t, cfg, 1<<16)
	t.Cleanup(e.close)
	e.c, err = e.a.CreateConnector(context.Background())
	must(t, err)
	done := make(chan error, 1)
	go func() { // ends with Connect
		done <- e.c.Connect(context.Background(), e.qp, netip.AddrPort{}, ln.Addr().(*net.TCPAddr).AddrPort(), p)
	}()
	c, err := ln.Accept()
	must(t, err)
	w := newWire(t, c)
	req := w.startup()
	if req == nil {
		t.Fatal("closed without a Request")
	}
	answer(w, req)
	return e, w, <-done
}

// accepting answers a Request of revision 2 with yes.
func accepting(w *wire, _ *wFrame) { w.write(wStart(true, 0x10, 2, wEnhanced(8, 8)...)) }

// limits are what most tests connect with.
var limits = ndk.ConnParams{InboundReadLimit: 4, OutboundReadLimit: 4}
