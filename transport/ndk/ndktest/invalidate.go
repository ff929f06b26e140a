package ndktest

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_INVALIDATE", invalidateUnconnected, invalidateEnds, invalidateNormal, invalidateInvalid, invalidateReuse, invalidateFence)

// An Invalidate on a QP that is not connected is refused inline and completes
// nothing.
func invalidateUnconnected(t *T) {
	t.Sub("MR", func(t *T) {
		var m *fastMR
		t.needsConnection(func(s, _ *Side) error {
			if m == nil {
				m = s.fastMR(0, 4096)
			}
			return s.QP.Invalidate("i", m.MR, 0)
		})
	})
	t.Sub("MW", func(t *T) {
		var w ndk.MW
		t.needsConnection(func(s, _ *Side) error {
			if w == nil {
				w = s.newMW()
			}
			return s.QP.Invalidate("i", w, 0)
		})
	})
}

// After the completion a peer that uses the old token is refused.
func invalidateEnds(t *T) {
	const flags = ndk.AllowRemoteRead | ndk.AllowRemoteWrite
	for _, kind := range []string{"MR", "MW"} {
		for _, op := range []string{"Write", "Read"} {
			t.Sub(kind+", "+op, func(t *T) {
				s, p := t.Connected()
				var target ndk.Invalidatable
				if kind == "MR" {
					m := s.fastMR(0, 64)
					m.register(flags)
					target = m.MR
				} else {
					w := s.newMW()
					s.bind(w, 0, 64, flags)
					target = w
				}
				addr, token := s.MR.Base(), target.RemoteToken()
				p.put(s, 0, 8, addr, token)
				p.get(0, 8, addr, token)
				s.invalidate(target)
				p.Fill(0, 8, 1)
				if op == "Write" {
					p.denied(s, p.QP.Write("x", []ndk.SGE{p.SGE(0, 8)}, addr, token, 0))
				} else {
					p.deniedRead(s, "x", p.QP.Read("x", []ndk.SGE{p.SGE(0, 8)}, addr, token, 0))
				}
				s.untouched(0, 64)
			})
		}
	}
	t.Sub("MR, local token", func(t *T) {
		s, p := t.Connected()
		m := s.fastMR(0, 64)
		m.register(0)
		s.message(p, []ndk.SGE{m.sge(0, 8)}, 0, 8)
		s.must(s.QP.Invalidate("i", m.MR, ndk.SilentSuccess))
		s.must(s.QP.Send("s", []ndk.SGE{m.sge(0, 8)}, 0))
		s.violated(s.Done(), "s", ndk.OpSend, ndk.RuleSGERange, ndk.RuleInvalidated)
	})
}

// A normally registered MR is not invalidated but deregistered.
func invalidateNormal(t *T) {
	s, p := t.Connected()
	s.refusal(s.QP.Invalidate("x", s.MR, 0), ndk.ErrNotFast, "a registered MR")
	s.refusal(s.QP.Invalidate("x", s.newMR(false), 0), ndk.ErrNotFast, "a new MR")
	p.Fill(0, 8, 1)
	p.put(s, 0, 8, s.MR.Base(), s.MR.RemoteToken()) // nothing happened to it
	s.equal(0, 8, p, 0)
	s.silence()
}

// What is not valid is not invalidated: the request fails.
func invalidateInvalid(t *T) {
	for _, tc := range []struct {
		name   string
		target func(s *Side) ndk.Invalidatable
	}{
		{"an MR that was invalidated", func(s *Side) ndk.Invalidatable {
			m := s.fastMR(0, 4096)
			s.must(m.post(s, "f", ndk.AllowRemoteRead|ndk.SilentSuccess))
			s.must(s.QP.Invalidate("i", m.MR, ndk.SilentSuccess))
			return m.MR
		}},
		{"a window that was never bound", func(s *Side) ndk.Invalidatable { return s.newMW() }},
		{"a window that was invalidated", func(s *Side) ndk.Invalidatable {
			w := s.newMW()
			s.bind(w, 0, 64, ndk.AllowRemoteRead)
			s.invalidate(w)
			return w
		}},
	} {
		for name, f := range map[string]ndk.OpFlags{"": 0, ", silent": ndk.SilentSuccess} {
			t.Sub(tc.name+name, func(t *T) {
				s, p := t.Connected()
				s.must(s.QP.Invalidate("again", tc.target(s), f))
				r := s.Done()
				s.failed(r, "again", ndk.OpInvalidate)
				s.want(r.Status, ntstatus.InvalidDeviceRequest, "Invalidate of what is not valid")
				s.lost()
				p.lost()
				s.silence()
			})
		}
	}
}

// What was invalidated can be registered or bound again, on another QP too.
func invalidateReuse(t *T) {
	const flags = ndk.AllowRemoteRead | ndk.AllowRemoteWrite
	t.Sub("MR", func(t *T) {
		s, p := t.Connected()
		s2, p2 := second(s, p)
		m := s.fastMR(0, 100)
		for i := range 4 {
			on, peer := s, p
			if i%2 == 1 {
				on, peer = s2, p2
			}
			s.must(m.post(on, "f", flags))
			on.expect(on.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
			peer.Fill(0, 100, byte(i))
			peer.put(on, 0, 100, m.base, m.MR.RemoteToken())
			s.equal(0, 100, p, 0)
			on.invalidate(m.MR)
		}
	})
	t.Sub("MW", func(t *T) {
		s, p := t.Connected()
		w := s.newMW()
		s2, p2 := second(s, p)
		for i := range 4 {
			on, peer := s, p
			if i%2 == 1 {
				on, peer = s2, p2
			}
			on.bind(w, 0, 100, flags)
			peer.Fill(0, 100, byte(i))
			peer.put(on, 0, 100, s.MR.Base(), w.RemoteToken())
			s.equal(0, 100, p, 0)
			on.invalidate(w)
		}
	})
}

// With ReadFence an Invalidate right behind a Read leaves its sink valid until
// the bytes are there.
func invalidateFence(t *T) {
	const n = 200000
	s, p := t.Connected()
	m := s.fastMR(0, n)
	for i := range 5 {
		p.Fill(0, n, byte(i))
		s.must(m.post(s, "f", ndk.AllowLocalWrite|ndk.RDMAReadSink|ndk.SilentSuccess))
		s.must(s.QP.Read("r", []ndk.SGE{m.sge(0, n)}, p.MR.Base(), p.MR.RemoteToken(), 0))
		s.must(s.QP.Invalidate("i", m.MR, ndk.ReadFence))
		s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
		s.expect(s.Done(), "i", ntstatus.Success, ndk.OpInvalidate)
		s.equal(0, n, p, 0)
	}
	s.must(s.QP.Send("s", []ndk.SGE{m.sge(0, 8)}, 0))
	s.violated(s.Done(), "s", ndk.OpSend, ndk.RuleSGERange, ndk.RuleInvalidated)
}
