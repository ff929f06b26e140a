package iwarp

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// The fuzz targets of this file feed octets to connections of a site, which lives
// as long as the target; each input has a connection of its own.

// fuzzSite is a site for many inputs.
type fuzzSite struct {
	*site
	clean []byte // the arena before an input
}

func newFuzzSite(f *testing.F, cfg Config) *fuzzSite {
	s := newSite(f, cfg)
	return &fuzzSite{s, bytes.Clone(s.arena)}
}

// begin readies the site for an input.
func (s *fuzzSite) begin(t *testing.T, receives int) *line {
	s.t, s.calmPeer.t = t, t
	must(t, s.calmPeer.c.SetDeadline(time.Now().Add(30*time.Second)))
	s.calmPeer.taken = nil
	copy(s.arena, s.clean)
	copy(s.want, s.clean)
	l := s.line()
	l.receive(receives)
	return l
}

// done ends an input: the connection is gone and all its requests are accounted
// for; the other connection works.
func (s *fuzzSite) done(l *line, results map[any]int) {
	l.finish()
	for l.cq.PollEx(l.buf[:]) == 1 {
		s.account(l, l.buf[0], results)
	}
	for i := range l.posted {
		if results[i] != 1 {
			s.t.Errorf("receive %d completed %d times", i, results[i])
		}
	}
	s.objects = s.objects[:len(s.objects)-1]
	l.cq.Close()
}

// finish ends the connection; every completion is there afterwards.
func (l *line) finish() {
	l.qp.Close()
	if l.c != nil {
		l.c.Close()
		<-l.c.Closed()
	}
	<-l.qp.Closed()
}

func (s *fuzzSite) account(l *line, r ndk.ResultEx, results map[any]int) {
	results[r.RequestContext]++
	if r.Type == ndk.OpReceiveAndInvalidate && r.Status == ntstatus.Success {
		s.registerFast()
	}
}

// fuzzTarget is what an input can name instead of a token, which it cannot know.
type fuzzTarget struct {
	token               uint32
	base                uint64
	at                  int // in the arena
	valid, ours         bool
	read, write, revoke bool
}

func (s *fuzzSite) targets() []fuzzTarget {
	at := func(m ndk.MR, at int, valid, ours, read, write bool) fuzzTarget {
		return fuzzTarget{uint32(m.RemoteToken()), m.Base(), at, valid, ours, read, write, false}
	}
	gone := at(s.gone, inGone, false, true, false, false)
	gone.token = uint32(s.goneToken)
	fast := at(s.fast, inFast, true, true, true, true)
	fast.base, fast.revoke = s.fastAt, true
	window := at(s.under, inWindow, true, false, true, true)
	window.token = uint32(s.window.RemoteToken())
	local := at(s.rw, inRW, false, true, false, false)
	local.token = uint32(s.rw.LocalToken())
	return []fuzzTarget{
		{}, at(s.rw, inRW, true, true, true, true), at(s.ro, inRO, true, true, true, false), at(s.wo, inWO, true, true, false, true), fast,
		at(s.foreign, inForeign, true, false, true, true), window, gone, local,
	}
}

// decode replaces the numbers of targets in a ULPDU by their tokens, and addresses
// around 1<<20 by those around their bases.
func (s *fuzzSite) decode(u []byte) []byte {
	u = bytes.Clone(u)
	targets := s.targets()
	swap := func(stag, to int) {
		if len(u) < stag+4 {
			return
		}
		n := binary.BigEndian.Uint32(u[stag:])
		if n == 0 || uint64(n) >= uint64(len(targets)) {
			return
		}
		binary.BigEndian.PutUint32(u[stag:], targets[n].token)
		if to == 0 || len(u) < to+8 {
			return
		}
		if a := binary.BigEndian.Uint64(u[to:]); a < 1<<21 {
			binary.BigEndian.PutUint64(u[to:], targets[n].base+a-1<<20)
		}
	}
	if len(u) < 6 {
		return u
	}
	if u[0]&0x80 != 0 {
		swap(2, 6)
	} else {
		swap(2, 0)
		swap(wUntaggedLen+16, wUntaggedLen+20)
	}
	return u
}

// readEnd reads to the end of the stream, in which a Terminate is the last FPDU and
// says something that there is.
func (w *wire) readEnd() {
	w.t.Helper()
	terminated := false
	for {
		g := w.seg()
		if g == nil {
			break
		}
		if terminated {
			w.t.Fatalf("%x behind a Terminate", g.header)
		}
		switch g.op {
		case wReadResp:
		case wTerminate:
			terminated = true
			known := len(g.payload) >= 4
			for _, v := range figure9 {
				if known && g.payload[0] == v.layer<<4|v.etype && g.payload[1] == v.code {
					return
				}
			}
			w.t.Fatalf("a Terminate with %x", g.payload)
		default:
			w.t.Fatalf("%x from one who posted nothing", g.header)
		}
	}
}

// FuzzSegments reads the input as ULPDUs, each with its length before it in two
// octets, and puts them into FPDUs that are good. Only what the peer may write to
// changes.
func FuzzSegments(f *testing.F) {
	s := newFuzzSite(f, Config{LingerTimeout: 20 * time.Second})
	for _, name := range vectors(f, "fpdu-*") {
		if b := vector(f, name); len(b) < 400 {
			f.Add(b[:2+int(b[0])<<8+int(b[1])])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := s.begin(t, 3)
		w := s.join(l)
		var stream []byte
		for len(b) >= 2 && len(stream) < 1<<18 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			stream = append(stream, fpduOf(s.decode(b[2:2+n]), w.crc)...)
			b = b[2+n:]
		}
		w.write(stream)
		must(t, w.c.CloseWrite())
		w.readEnd()
		<-l.reason
		s.done(l, map[any]int{})
		for _, m := range []struct{ at, n int }{{inRW, regionLen}, {inWO, regionLen}, {inFast, regionLen},
			{s.receiveSlot(0), receiveFirst}, {s.receiveSlot(0) + receiveFirst + receiveHole, receiveRest},
			{s.receiveSlot(1), receiveFirst}, {s.receiveSlot(1) + receiveFirst + receiveHole, receiveRest},
			{s.receiveSlot(2), receiveFirst}, {s.receiveSlot(2) + receiveFirst + receiveHole, receiveRest}} {
			copy(s.want[m.at:m.at+m.n], s.arena[m.at:])
		}
		s.others()
	})
}

// messages is a model of the receiver, which an input drives: it makes segments that
// are mostly good, and says what is due for each.
type messages struct {
	s        *fuzzSite
	l        *line
	w        *wire
	in       []byte
	stream   []byte
	ts       []fuzzTarget
	results  map[any]int
	statuses []ndk.Status // of receives, in order

	msn, mo, rmsn uint32
	inSend        bool
	reads         []*wSeg // of ours
	read          int
	off           uint32
	bad           []byte // a segment that ends it
	term          []byte
}

func (m *messages) next() int {
	if len(m.in) == 0 {
		return 0
	}
	v := m.in[0]
	m.in = m.in[1:]
	return int(v)
}

// slip is mostly zero.
func (m *messages) slip() uint32 {
	if v := m.next(); v >= 0xF0 {
		return uint32(v) - 0xF7
	}
	return 0
}

// fail says that u is answered with a Terminate.
func (m *messages) fail(u []byte, layer, etype, code byte) {
	m.bad = u
	ddp := etype != 0
	m.term = termOf(layer, etype, code, u, ddp, layer == 0 && etype == 1 && u[1]&0x0F == 1)
}

// access is the code of RFC 5040 §4.8 for a use of a target, or 0xFE.
func (m *messages) access(x *fuzzTarget, to uint64, n int, right bool) byte {
	switch off := to - x.base; {
	case !x.valid:
		return 0
	case !x.ours:
		return 3
	case !right:
		return 2
	case to+uint64(n) < to:
		return 4
	case off > regionLen || uint64(n) > regionLen-off:
		return 1
	}
	return 0xFE
}

// flush writes what was made, and reads a Response if one is due.
func (m *messages) flush() {
	if len(m.stream) > 0 {
		m.w.write(m.stream)
		m.stream = nil
	}
}

// step makes a segment.
func (m *messages) step() {
	add := func(u []byte) { m.stream = append(m.stream, fpduOf(u, m.w.crc)...) }
	fill := func(n int) []byte { return bytes.Repeat([]byte{byte(len(m.in)) | 1}, n) }
	place := func(at int, p []byte) { copy(m.s.want[at:], p) }
	switch kind := m.next() % 6; kind {
	case 0: // a segment of a Send
		mode, n := m.next(), m.next()%90
		op := wSend + byte(mode>>1&3)
		x := &m.ts[mode>>3%len(m.ts)]
		ctrl := wUntagged
		if mode&1 != 0 {
			ctrl = wUntaggedLast
		}
		msn, mo := m.msn+m.slip(), m.mo+m.slip()
		p := fill(n)
		u := wUntaggedSeg(ctrl, op, x.token, 0, msn, mo, p...)
		add(u)
		switch {
		case msn != m.msn:
			m.fail(u, 1, 2, 3)
			return
		case mo != m.mo:
			m.fail(u, 1, 2, 4)
			return
		case !m.inSend && len(m.statuses) == m.l.posted:
			m.fail(u, 1, 2, 2)
			return
		case int(mo)+n > receiveLen:
			m.statuses = append(m.statuses, ntstatus.BufferOverflow)
			m.inSend = false
			m.fail(u, 1, 2, 5)
			return
		}
		m.inSend = true
		at := m.s.receiveSlot(len(m.statuses))
		for i, o := range p {
			k := int(mo) + i
			if k >= receiveFirst {
				k += receiveHole
			}
			m.s.want[at+k] = o
		}
		m.mo += uint32(n)
		if ctrl == wUntaggedLast {
			m.inSend, m.mo = false, 0
			m.msn++
			st := ntstatus.Success
			if op == wSendInval || op == wSendSEInval {
				if x.valid && x.ours && x.revoke {
					x.valid = false
				} else {
					st = ntstatus.InvalidDeviceRequest
					m.fail(u, 0, 1, 9)
				}
			}
			m.statuses = append(m.statuses, st)
		}
	case 1: // a Write
		x := &m.ts[m.next()%len(m.ts)]
		to := x.base + uint64(int64(int8(m.next())))*32 + uint64(m.next())
		if m.next() == 0xFF {
			to = ^uint64(0) - uint64(m.next())
		}
		n := m.next() * (1 + m.next()&31)
		p := fill(n)
		u := wTaggedSeg([]byte{wTagged, wTaggedLast}[m.next()&1], wWrite, x.token, to, p...)
		add(u)
		if n == 0 {
			return
		}
		switch c := m.access(x, to, n, x.write); c {
		case 0xFE:
			place(x.at+int(to-x.base), p)
		case 2: // no right
			m.fail(u, 1, 1, 0)
		case 3: // stream
			m.fail(u, 1, 1, 2)
		case 4: // wrap
			m.fail(u, 1, 1, 3)
		default:
			m.fail(u, 1, 1, c)
		}
	case 2: // a Read Request
		x := &m.ts[m.next()%len(m.ts)]
		to := x.base + uint64(int64(int8(m.next())))*32 + uint64(m.next())
		size := m.next() * (1 + m.next()&31)
		msn := m.rmsn + m.slip()
		u := wRead(msn, uint32(size), x.token, to)
		add(u)
		if msn != m.rmsn {
			m.fail(u, 1, 2, 3)
			return
		}
		if c := m.access(x, to, size, x.read); size > 0 && c != 0xFE {
			m.fail(u, 0, 1, c)
			return
		}
		m.rmsn++
		m.flush()
		segs, payload := m.w.message()
		if segs[0].op != wReadResp || len(payload) != size || size > 0 && !bytes.Equal(payload, m.s.want[x.at+int(to-x.base):][:size]) {
			m.s.t.Fatalf("a Read of %d octets is answered with %x and %d octets", size, segs[0].header, len(payload))
		}
	case 3: // a Read Response
		var stag uint32
		var to uint64
		var left uint32
		if m.read < len(m.reads) {
			stag, to = sinkOf(m.reads[m.read])
			to += uint64(m.off)
			left = be32(m.reads[m.read].payload[12:]) - m.off
		}
		n := uint32(m.next())
		last := n >= left
		if last {
			n = left
		}
		n += m.slip()
		n = min(n, 1000)
		ds, dt := m.slip(), m.slip()
		if m.slip() != 0 {
			last = !last
		}
		ctrl := wTagged
		if last {
			ctrl = wTaggedLast
		}
		p := fill(int(n))
		u := wTaggedSeg(ctrl, wReadResp, stag+ds, to+uint64(int64(int32(dt))), p...)
		add(u)
		switch {
		case m.read == len(m.reads):
			m.fail(u, 1, 0, 0)
			return
		case ds != 0:
			m.fail(u, 1, 1, 0)
			return
		case dt != 0 || n > left || last != (n == left):
			m.fail(u, 1, 1, 1)
			return
		}
		place(buffersAt+m.read*4096+int(m.off), p)
		if m.off += n; last {
			m.read++
			m.off = 0
		}
	case 4: // a header with something wrong
		u := wUntaggedSeg(wUntaggedLast, wSend, 0, 0, m.msn, m.mo)
		if m.next()&1 != 0 {
			u = wWriteMsg(m.ts[1].token, m.ts[1].base)
		}
		tagged := u[0]&0x80 != 0
		switch m.next() % 4 {
		case 0:
			u[0] = u[0]&^3 | []byte{0, 2, 3}[m.next()%3]
			add(u)
			if tagged {
				m.fail(u, 1, 1, 4)
			} else {
				m.fail(u, 1, 2, 6)
			}
		case 1:
			u[1] = u[1]&0x3F | 0x80 | byte(m.next()&1)<<6
			add(u)
			m.fail(u, 0, 2, 5)
		case 2:
			u[1] = 0x48 | byte(m.next()&7)
			add(u)
			m.fail(u, 0, 2, 6)
		default:
			u = u[:m.next()%wTaggedLen]
			add(u)
			m.bad, m.term = u, []byte{0x20, 3, 0, 0}
		}
	case 5: // an empty Write between
		add(wWriteMsg(uint32(m.next()), uint64(m.next())))
	}
}

// FuzzMessages holds a QP against the model of messages: what is placed, what
// completes, what a peer is told.
func FuzzMessages(f *testing.F) {
	sites := []*fuzzSite{newFuzzSite(f, Config{LingerTimeout: 20 * time.Second}), newFuzzSite(f, Config{CRC: true, LingerTimeout: 20 * time.Second})}
	f.Add(false, []byte{0, 1, 5, 0, 0, 1, 1, 0, 9, 0, 30, 2, 1, 2, 2, 0, 0, 20, 3, 3, 100, 0, 0, 0, 0})
	f.Add(true, []byte{0, 4<<3 | 3, 5, 0, 0, 1, 4, 0, 0, 0, 9, 1, 1})
	f.Fuzz(func(t *testing.T, crc bool, in []byte) {
		s := sites[0]
		if crc {
			s = sites[1]
		}
		l := s.begin(t, 4)
		w := s.talk(l)
		m := &messages{s: s, l: l, w: w, in: in, ts: s.targets(), results: map[any]int{}, msn: 1, rmsn: 1}
		for i, n := range []int{300, 0} { // of 2 that are allowed
			must(t, l.qp.Read([]string{"a", "b"}[i], []ndk.SGE{s.sge(buffersAt+i*4096, n)}, 0, 0, 0))
			g := w.seg()
			if g == nil || g.op != wReadReq {
				t.Fatalf("a Read came as %+v", g)
			}
			m.reads = append(m.reads, g)
		}
		for range 60 {
			if len(m.in) == 0 || m.bad != nil {
				break
			}
			m.step()
		}
		m.flush()
		if m.bad != nil {
			w.expectTerminate(m.term)
		} else {
			w.end()
		}
		<-l.reason
		l.finish()
		receives := 0
		for l.cq.PollEx(l.buf[:]) == 1 {
			r := l.buf[0]
			s.account(l, r, m.results)
			want := ntstatus.Cancelled
			switch rc := r.RequestContext.(type) {
			case int:
				if rc != receives {
					t.Errorf("receive %d completes as number %d", rc, receives)
				}
				if rc < len(m.statuses) {
					want = m.statuses[rc]
				}
				receives++
			case string:
				if int(rc[0]-'a') < m.read {
					want = ntstatus.Success
				}
			}
			if r.Status != want {
				t.Errorf("%v ends with %v, want %v", r.RequestContext, r.Status, want)
			}
		}
		s.check()
		s.done(l, m.results)
		if m.results["a"] != 1 || m.results["b"] != 1 {
			t.Errorf("Reads completed %d and %d times", m.results["a"], m.results["b"])
		}
		s.others()
	})
}

// FuzzFraming cuts a stream of good messages into writes as the input says and
// flips a bit of it. With CRC what is before that is delivered and nothing from
// there on.
func FuzzFraming(f *testing.F) {
	s := newFuzzSite(f, Config{CRC: true, LingerTimeout: 20 * time.Second})
	f.Add([]byte{1, 2, 3, 64}, []byte{1, 5, 200}, uint16(0xFFFF))
	f.Add([]byte{64, 0, 10}, []byte{}, uint16(40*8))
	f.Add([]byte{7, 7, 7, 7, 7, 7}, []byte{255, 1, 1, 1}, uint16(3))
	f.Fuzz(func(t *testing.T, sizes, cuts []byte, flip uint16) {
		sizes = sizes[:min(len(sizes), 12)]
		l := s.begin(t, len(sizes))
		w := s.talk(l)
		var stream []byte
		good := len(sizes)
		for i, n := range sizes {
			p := bytes.Repeat([]byte{byte(i + 1)}, int(n)%(receiveLen+1))
			from := len(stream)
			stream = append(stream, fpduOf(wSendMsg(uint32(i)+1, p...), true)...)
			if at := int(flip / 8); at >= from && at < len(stream) {
				good = i
			}
			if good > i {
				s.received(i, p)
			}
		}
		if good < len(sizes) {
			stream[flip/8] ^= 1 << (flip % 8)
		}
		for rest := stream; len(rest) > 0; {
			n := len(rest)
			if len(cuts) > 0 {
				n = min(n, 1+int(cuts[0]))
				cuts = cuts[1:]
			}
			w.write(rest[:n])
			rest = rest[n:]
		}
		must(t, w.c.CloseWrite())
		for {
			g := w.seg()
			if g == nil {
				break
			}
			if g.op != wTerminate || !bytes.Equal(g.payload, []byte{0x20, 2, 0, 0}) || good == len(sizes) {
				t.Fatalf("%x %x", g.header, g.payload)
			}
		}
		<-l.reason
		l.qp.Flush()
		for i := range sizes {
			st := ntstatus.Success
			if i >= good {
				st = ntstatus.Cancelled
			}
			l.expect(i, st)
		}
		s.check()
		results := map[any]int{}
		for i := range sizes {
			results[i] = 1
		}
		s.done(l, results)
	})
}

// FuzzRequest sends the input in place of a Request. A good one gets a Reply that
// fits it, and what is behind it is in full operation; anything else gets nothing.
func FuzzRequest(f *testing.F) {
	s := newFuzzSite(f, Config{NegotiateTimeout: 5 * time.Second, LingerTimeout: 20 * time.Second})
	for _, n := range vectors(f, "mpa-*") {
		f.Add(vector(f, n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 4096)]
		l := s.begin(t, 0)
		defer func() {
			select {
			case <-s.next: // left by an input that failed
			default:
			}
		}()
		w := s.expectLine(l)
		// A refused peer may have more to say than is read.
		_, _ = w.c.Write(b)
		private := -1
		if len(b) >= wStartLen && string(b[:16]) == string(wantRequestKey) && b[17] <= 2 {
			if n := int(binary.BigEndian.Uint16(b[18:])); n <= 512 && len(b) >= wStartLen+n && (b[17] < 2 || b[16]&0x10 == 0 || n >= 4) {
				private = n
			}
		}
		if private < 0 {
			_ = w.c.CloseWrite() // or it is closed by now
			if got, _ := io.ReadAll(w.c); len(got) > 0 {
				t.Fatalf("%x is answered with %x", b, got)
			}
			<-s.next
		} else {
			rep := w.startup()
			flags := b[16] & 0x40
			if b[17] == 2 {
				flags |= b[16] & 0x10
			}
			if rep == nil || rep.key != string(wantReplyKey) || rep.rev != b[17] || rep.flags != flags || len(rep.private) != int(flags&0x10)/4 {
				t.Fatalf("%x is answered with %+v", b, rep)
			}
			_ = w.c.CloseWrite()
			<-l.accepted
			w.c.Close()
		}
		s.done(l, map[any]int{})
		s.check()
		s.others()
	})
}
