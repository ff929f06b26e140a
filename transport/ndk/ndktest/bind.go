package ndktest

import (
	"errors"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_BIND", bindUnconnected, bindRights, bindRange, bindReach, bindBound, bindPeer)

// A Bind on a QP that is not connected is refused inline and completes nothing.
func bindUnconnected(t *T) {
	var w ndk.MW
	t.needsConnection(func(s, _ *Side) error {
		if w == nil {
			w = s.newMW()
		}
		return s.QP.Bind("b", s.MR, w, s.MR.Base(), 64, ndk.AllowRemoteRead)
	})
}

// A window has no more rights than its MR: remote read needs remote read, remote
// write needs local write.
func bindRights(t *T) {
	for _, tc := range []struct {
		mr ndk.MRFlags
		mw ndk.OpFlags
		ok bool
	}{
		{ndk.MRAllowLocalRead, ndk.AllowRemoteRead, false},
		{ndk.MRAllowLocalRead, ndk.AllowRemoteWrite, false},
		{ndk.MRAllowRemoteRead, ndk.AllowRemoteRead, true},
		{ndk.MRAllowRemoteRead, ndk.AllowRemoteWrite, false},
		{ndk.MRAllowRemoteRead, ndk.AllowRemoteRead | ndk.AllowRemoteWrite, false},
		{ndk.MRAllowLocalWrite, ndk.AllowRemoteRead, false},
		{ndk.MRAllowLocalWrite, ndk.AllowRemoteWrite, true},
		{ndk.MRAllowRemoteWrite, ndk.AllowRemoteRead | ndk.AllowRemoteWrite, false},
		{ndk.MRAllowRemoteRead | ndk.MRAllowLocalWrite, ndk.AllowRemoteRead | ndk.AllowRemoteWrite, true},
	} {
		name := "window"
		if tc.mw&ndk.AllowRemoteRead != 0 {
			name += " to read"
		}
		if tc.mw&ndk.AllowRemoteWrite == ndk.AllowRemoteWrite {
			name += " to write"
		}
		t.Sub(rights(tc.mr)+"; "+name, func(t *T) {
			s, p := t.Connected()
			w := s.newMW()
			m := s.region(0, 64, tc.mr)
			err := s.QP.Bind("b", m, w, m.Base(), 64, tc.mw)
			if !tc.ok {
				if err != nil {
					s.refusal(err, ndk.ErrRemoteRight, "Bind")
				} else {
					s.violated(s.Done(), "b", ndk.OpBind, ndk.RuleRemoteRight)
				}
				return
			}
			s.must(err)
			s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
			if tc.mw&ndk.AllowRemoteWrite == ndk.AllowRemoteWrite {
				p.Fill(0, 64, 1)
				p.put(s, 0, 64, m.Base(), w.RemoteToken())
				s.equal(0, 64, p, 0)
			}
			if tc.mw&ndk.AllowRemoteRead != 0 {
				p.get(100, 64, m.Base(), w.RemoteToken())
				p.equal(100, 64, s, 0)
			}
			// And none that was not asked for.
			switch tc.mw {
			case ndk.AllowRemoteRead:
				p.denied(s, p.QP.Write("w", []ndk.SGE{p.SGE(500, 8)}, m.Base(), w.RemoteToken(), 0))
			case ndk.AllowRemoteWrite:
				p.deniedRead(s, "r", p.QP.Read("r", []ndk.SGE{p.SGE(500, 8)}, m.Base(), w.RemoteToken(), 0))
			}
		})
	}
}

// A range that is not all within the MR is refused; va only says where in the MR,
// and is never used as a pointer.
func bindRange(t *T) {
	s, p := t.Connected()
	w := s.newMW()
	m := s.region(4096, 1000, ndk.MRAllowRemoteWrite)
	base := m.Base()
	for _, tc := range []struct {
		what  string
		va, n uint64
	}{
		{"a byte before the MR", base - 1, 10},
		{"all before the MR", base - 10, 10},
		{"a byte past the end", base + 100, 901},
		{"all behind the end", base + 1000, 1},
		{"longer than the MR", base, 1001},
		{"another region of the same memory", s.MR.Base(), 10},
		{"no address at all", 0, 10},
		{"the last address", ^uint64(0), 1},
		{"a length that wraps", base + 100, ^uint64(0) - 50},
		{"a length that wraps back into the MR", base + 100, ^uint64(0) - base + 1},
	} {
		s.refusal(s.QP.Bind("x", m, w, tc.va, tc.n, ndk.AllowRemoteWrite), ndk.ErrWindowRange, tc.what)
	}
	// None of them did harm or completed.
	for i, r := range []struct{ off, n int }{{0, 1000}, {999, 1}, {0, 1}, {100, 900}} {
		s.must(s.QP.Bind(i, m, w, base+uint64(r.off), uint64(r.n), ndk.AllowRemoteWrite))
		s.expect(s.Done(), i, ntstatus.Success, ndk.OpBind)
		p.Fill(0, r.n, byte(i))
		p.put(s, 0, r.n, base+uint64(r.off), w.RemoteToken())
		s.equal(4096+r.off, r.n, p, 0)
		s.invalidate(w)
	}
	s.silence()
}

// A peer reaches the bytes from va to va+n with the token of the window, and none
// outside.
func bindReach(t *T) {
	const off, n = 5000, 50
	t.Sub("inside", func(t *T) {
		s, p := t.Connected()
		w := s.newMW()
		s.bind(w, off, n, ndk.AllowRemoteRead|ndk.AllowRemoteWrite)
		va := s.MR.Base() + off
		p.Fill(0, n, 1)
		for _, r := range []struct{ off, n int }{{0, n}, {0, 1}, {n - 1, 1}, {1, n - 2}} {
			clear(s.Mem[:2*off])
			p.put(s, r.off, r.n, va+uint64(r.off), w.RemoteToken())
			s.equal(off+r.off, r.n, p, r.off)
			s.untouched(0, off+r.off)
			s.untouched(off+r.off+r.n, 1000)
			p.get(1000, r.n, va+uint64(r.off), w.RemoteToken())
			p.equal(1000, r.n, s, off+r.off)
		}
	})
	for _, tc := range []struct {
		name   string
		off, n int // from va
	}{
		{"a byte past the end", 0, n + 1}, {"right behind the end", n, 1}, {"a byte before", -1, 2}, {"right before", -1, 1},
		{"much past the end", 0, 100000}, {"the start of the MR", -off, 1},
	} {
		t.Sub("Write, "+tc.name, func(t *T) {
			s, p := t.Connected()
			w := s.newMW()
			s.bind(w, off, n, ndk.AllowRemoteRead|ndk.AllowRemoteWrite)
			p.Fill(0, tc.n, 1)
			p.denied(s, p.QP.Write("w", []ndk.SGE{p.SGE(0, tc.n)}, s.MR.Base()+uint64(off+tc.off), w.RemoteToken(), 0))
			s.untouched(0, off)
			s.untouched(off+n, 200000)
		})
		t.Sub("Read, "+tc.name, func(t *T) {
			s, p := t.Connected()
			w := s.newMW()
			s.bind(w, off, n, ndk.AllowRemoteRead|ndk.AllowRemoteWrite)
			s.Fill(0, 200000, 1)
			p.deniedRead(s, "r", p.QP.Read("r", []ndk.SGE{p.SGE(0, tc.n)}, s.MR.Base()+uint64(off+tc.off), w.RemoteToken(), 0))
			p.untouched(0, tc.n)
		})
	}
	t.Sub("zero-based", func(t *T) {
		s, p := t.Connected()
		w := s.newMW()
		s.bind(w, off, n, ndk.AllowRemoteWrite)
		p.Fill(0, 8, 1)
		p.denied(s, p.QP.Write("w", []ndk.SGE{p.SGE(0, 8)}, 0, w.RemoteToken(), 0))
		s.untouched(off, n)
	})
}

// A bound window is not bound again before it was invalidated; two windows may
// overlap.
func bindBound(t *T) {
	t.Sub("bound again", func(t *T) {
		s, p := t.Connected()
		w := s.newMW()
		s.bind(w, 100, 50, ndk.AllowRemoteWrite)
		token := w.RemoteToken()
		p.Fill(0, 50, 1)
		p.put(s, 0, 50, s.MR.Base()+100, token)
		err := s.QP.Bind("again", s.MR, w, s.MR.Base()+200, 50, ndk.AllowRemoteWrite)
		if err != nil {
			if !errors.Is(err, ntstatus.InvalidDeviceRequest) {
				t.Errorf("Bind of a bound window: %v, want %v", err, ntstatus.InvalidDeviceRequest)
			}
			return
		}
		r := s.Done()
		s.failed(r, "again", ndk.OpBind, ndk.RuleWindowBound)
		s.want(r.Status, ntstatus.InvalidDeviceRequest, "Bind of a bound window")
		s.untouched(200, 50)
	})
	t.Sub("invalidated between", func(t *T) {
		s, p := t.Connected()
		w := s.newMW()
		for i := range 5 {
			off := 100 * (i + 1)
			// No wait between: the requests are in order.
			s.must(s.QP.Bind("b", s.MR, w, s.MR.Base()+uint64(off), 50, ndk.AllowRemoteWrite|ndk.SilentSuccess))
			s.must(s.QP.Invalidate("i", w, ndk.SilentSuccess))
			s.must(s.QP.Bind("b", s.MR, w, s.MR.Base()+uint64(off), 50, ndk.AllowRemoteWrite))
			s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
			p.Fill(0, 50, byte(i))
			p.put(s, 0, 50, s.MR.Base()+uint64(off), w.RemoteToken())
			s.equal(off, 50, p, 0)
			s.invalidate(w)
		}
	})
	t.Sub("overlap", func(t *T) {
		s, p := t.Connected()
		rw, ro := s.newMW(), s.newMW()
		s.bind(rw, 100, 50, ndk.AllowRemoteWrite)
		s.bind(ro, 120, 100, ndk.AllowRemoteRead)
		if rw.RemoteToken() == ro.RemoteToken() {
			t.Error("two windows have one token")
		}
		p.Fill(0, 50, 1)
		p.put(s, 0, 50, s.MR.Base()+100, rw.RemoteToken())
		p.get(200, 100, s.MR.Base()+120, ro.RemoteToken())
		p.equal(200, 30, p, 20)
		// One goes, the other stays.
		s.invalidate(ro)
		p.put(s, 0, 50, s.MR.Base()+100, rw.RemoteToken())
		p.denied(s, p.QP.Write("w", []ndk.SGE{p.SGE(0, 8)}, s.MR.Base()+120, ro.RemoteToken(), 0))
	})
}

// second makes another connection between the adapters of two sides, of which
// the ends share PD, CQs and memory with the first.
func second(s, p *Side) (s2, p2 *Side) {
	s.t.Helper()
	s2, p2 = s.sibling(nil), p.sibling(nil)
	connect(s2, p2, limits, limits)
	return s2, p2
}

// Only the peer of the QP that bound it can use a window.
func bindPeer(t *T) {
	for _, op := range []string{"Write", "Read"} {
		t.Sub(op, func(t *T) {
			s, p := t.Connected()
			w := s.newMW()
			s2, p2 := second(s, p)
			s.bind(w, 100, 50, ndk.AllowRemoteRead|ndk.AllowRemoteWrite)
			s.Fill(100, 50, 1)
			if op == "Write" {
				// The adapter of p may think that it worked.
				p2.denied(s2, p2.QP.Write("w", []ndk.SGE{p2.SGE(0, 8)}, s.MR.Base()+100, w.RemoteToken(), ndk.SilentSuccess))
			} else {
				p2.deniedRead(s2, "r", p2.QP.Read("r", []ndk.SGE{p2.SGE(0, 8)}, s.MR.Base()+100, w.RemoteToken(), 0))
			}
			p2.settle()
			p.untouched(0, 8)
			s.equal(100, 50, s, 100)
			// The window is still that of the other peer.
			p.get(0, 50, s.MR.Base()+100, w.RemoteToken())
			p.equal(0, 50, s, 100)
			p.put(s, 500, 50, s.MR.Base()+100, w.RemoteToken())
			s.equal(100, 50, p, 500)
		})
	}
}

// settle closes the QP of a sibling and polls what it still owed, so that the
// CQs are those of the other QP alone.
func (s *Side) settle() {
	s.t.Helper()
	s.C.Close()
	s.must(ndk.CloseWait(s.ctx, s.QP))
	var r [qDepth]ndk.ResultEx
	for _, cq := range []ndk.CQ{s.RCQ, s.ICQ} {
		for _, e := range r[:cq.PollEx(r[:])] {
			if e.QPContext != s || e.Status == ntstatus.Success {
				s.t.Errorf("left behind: %v, %v, %v", e.RequestContext, e.Status, e.Type)
			}
		}
	}
}
