package ndktest

import (
	"encoding/binary"
	"errors"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_FAST_REGISTER", fastUnconnected, fastRights, fastPages, fastBase, fastOrder, fastValid)

// A FastRegister on a QP that is not connected is refused inline and completes
// nothing.
func fastUnconnected(t *T) {
	var m *fastMR
	t.needsConnection(func(s, _ *Side) error {
		if m == nil {
			m = s.fastMR(0, 4096)
		}
		return m.post(s, "f", 0)
	})
}

// Remote rights need an MR that was initialised for them.
func fastRights(t *T) {
	t.Sub("remote=false", func(t *T) {
		s, _ := t.Connected()
		m := s.newMR(true)
		s.must(m.InitializeFastRegister(s.ctx, 16, false))
		lam, fbo := s.lam(1000, 20000)
		base := s.MR.Base() + 1000
		for _, f := range []ndk.OpFlags{ndk.AllowRemoteRead, ndk.AllowRemoteWrite, ndk.AllowRemoteRead | ndk.AllowRemoteWrite | ndk.RDMAReadSink} {
			s.refusal(s.QP.FastRegister("x", m, lam.Pages, fbo, 20000, base, f), ndk.ErrRemoteRight, "remote rights of an MR without")
		}
		s.must(s.QP.FastRegister("f", m, lam.Pages, fbo, 20000, base, ndk.AllowLocalWrite|ndk.RDMAReadSink))
		s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
		s.silence()
	})
	t.Sub("remote=true", func(t *T) {
		s, p := t.Connected()
		m := s.fastMR(1000, 20000)
		for _, f := range []ndk.OpFlags{ndk.AllowRemoteWrite, ndk.AllowRemoteRead, ndk.AllowRemoteRead | ndk.AllowRemoteWrite} {
			m.register(f)
			if f&ndk.AllowRemoteWrite != 0 {
				p.Fill(0, 20000, byte(f))
				p.put(s, 0, 20000, m.base, m.MR.RemoteToken())
				s.equal(1000, 20000, p, 0)
			}
			if f&ndk.AllowRemoteRead != 0 {
				p.get(30000, 20000, m.base, m.MR.RemoteToken())
				p.equal(30000, 20000, s, 1000)
			}
			s.invalidate(m.MR)
		}
	})
	// What was not asked for is not given.
	for _, tc := range []struct {
		name string
		f    ndk.OpFlags
		post func(p *Side, m *fastMR) error
	}{
		{"Write without AllowRemoteWrite", ndk.AllowRemoteRead | ndk.AllowLocalWrite, func(p *Side, m *fastMR) error {
			return p.QP.Write("x", []ndk.SGE{p.SGE(0, 8)}, m.base, m.MR.RemoteToken(), 0)
		}},
		{"Read without AllowRemoteRead", ndk.AllowRemoteWrite, func(p *Side, m *fastMR) error {
			return p.QP.Read("x", []ndk.SGE{p.SGE(0, 8)}, m.base, m.MR.RemoteToken(), 0)
		}},
		{"a byte past the end", ndk.AllowRemoteWrite, func(p *Side, m *fastMR) error {
			return p.QP.Write("x", []ndk.SGE{p.SGE(0, 8)}, m.base+20000-7, m.MR.RemoteToken(), 0)
		}},
		{"a byte before", ndk.AllowRemoteWrite, func(p *Side, m *fastMR) error {
			return p.QP.Write("x", []ndk.SGE{p.SGE(0, 8)}, m.base-1, m.MR.RemoteToken(), 0)
		}},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Connected()
			m := s.fastMR(1000, 20000)
			m.register(tc.f)
			p.Fill(0, 8, 1)
			p.denied(s, tc.post(p, m))
			s.untouched(0, 30000)
		})
	}
	t.Sub("a Receive without AllowLocalWrite", func(t *T) {
		s, p := t.Connected()
		m := s.fastMR(1000, 20000)
		m.register(ndk.AllowRemoteRead)
		p.Fill(0, 8, 1)
		s.badReceive(p, m.sge(0, 8), ndk.RuleSGERight)
		s.untouched(0, 30000)
	})
}

// The pages are aligned, hold n bytes from fbo, and are no more than the MR was
// initialised for.
func fastPages(t *T) {
	const off, n = 1000, 20000 // six pages
	s, p := t.Connected()
	m := s.newMR(true)
	s.must(m.InitializeFastRegister(s.ctx, 6, true))
	lam, fbo := s.lam(off, n)
	if len(lam.Pages) != 6 || fbo != off {
		t.Fatalf("%d pages from %d, want 6 from %d", len(lam.Pages), fbo, off)
	}
	more, _ := s.lam(0, 7*ndk.PageSize)
	unaligned := append([]ndk.LogicalAddress(nil), lam.Pages...)
	unaligned[3]++
	base := s.MR.Base() + off
	full := uint64(len(lam.Pages))*ndk.PageSize - uint64(fbo)
	for _, tc := range []struct {
		what  string
		pages []ndk.LogicalAddress
		fbo   uint32
		n     uint64
		base  uint64
		or    []*ndk.PostError
	}{
		{"a byte more than the pages hold", lam.Pages, fbo, full + 1, base, nil},
		{"a length that wraps", lam.Pages, fbo, ^uint64(0) - uint64(fbo) + 1, base, []*ndk.PostError{ndk.ErrBase}},
		{"a page too few", lam.Pages[:5], fbo, n, base, nil},
		{"no page", nil, 0, 1, s.MR.Base(), nil},
		{"more pages than initialised", more.Pages, 0, 100, s.MR.Base(), nil},
		{"a first page that is not aligned", []ndk.LogicalAddress{lam.Pages[0] + 1}, fbo, 100, base, nil},
		{"another page that is not aligned", unaligned, fbo, n, base, nil},
		{"an offset behind the first page", lam.Pages, ndk.PageSize + fbo, 100, base, []*ndk.PostError{ndk.ErrBase}},
	} {
		s.refusal(s.QP.FastRegister("x", m, tc.pages, tc.fbo, tc.n, tc.base, 0), ndk.ErrPages, tc.what, tc.or...)
	}
	s.refusal(s.QP.FastRegister("x", m, lam.Pages, fbo, 100, base, ndk.Inline), ndk.ErrFlags, "a flag of another request")
	s.refusal(s.QP.FastRegister("x", s.MR, lam.Pages, fbo, 100, base, 0), ndk.ErrNotFast, "a normal MR")
	// After all that, what fits works: fewer bytes, and as many as were mapped.
	for i, k := range []uint64{1, 100, n} {
		s.must(s.QP.FastRegister(i, m, lam.Pages, fbo, k, base, ndk.AllowRemoteWrite))
		s.expect(s.Done(), i, ntstatus.Success, ndk.OpFastRegister)
		p.Fill(0, int(k), byte(i+1))
		p.put(s, 0, int(k), base, m.RemoteToken())
		s.equal(off, int(k), p, 0)
		s.invalidate(m)
	}
	s.silence()
}

// base is congruent to fbo modulo the page size: any address if the adapter takes
// more than that of the memory, and 0 only if the memory starts with a page.
func fastBase(t *T) {
	t.Sub("refused", func(t *T) {
		s, p := t.Connected()
		m := s.fastMR(1000, 20000)
		for what, base := range map[string]uint64{"a byte more": m.base + 1, "a byte less": m.base - 1, "half a page more": m.base + ndk.PageSize/2, "0 with an offset": 0} {
			s.refusal(s.QP.FastRegister("x", m.MR, m.lam.Pages, m.fbo, m.n, base, ndk.AllowRemoteWrite), ndk.ErrBase, what)
		}
		// Where other bases than the address of the memory are not offered, the
		// refusal may say that first.
		wraps := ^uint64(0) - ndk.PageSize + 1 + uint64(m.fbo)
		if err := s.QP.FastRegister("x", m.MR, m.lam.Pages, m.fbo, m.n, wraps, ndk.AllowRemoteWrite); !errors.Is(err, ntstatus.NotSupported) {
			s.refusal(err, ndk.ErrBase, "a base from which the addresses wrap", ndk.ErrPages)
		}
		m.register(ndk.AllowRemoteWrite)
		p.Fill(0, 20000, 1)
		p.put(s, 0, 20000, m.base, m.MR.RemoteToken())
		s.equal(1000, 20000, p, 0)
		s.silence()
	})
	for _, tc := range []struct {
		name string
		off  int
		base func(i int, m *fastMR) uint64
	}{
		{"0", 2 * ndk.PageSize, func(int, *fastMR) uint64 { return 0 }},
		{"no address of memory", 1000, func(i int, m *fastMR) uint64 { return uint64(i+1)<<32 + uint64(m.fbo) }},
		{"at the end of all addresses", ndk.PageSize, func(int, *fastMR) uint64 { return ^uint64(0) - 16*ndk.PageSize + 1 }},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Connected()
			m := s.fastMR(tc.off, 20000)
			for i := range 20 {
				m.base = tc.base(i, m)
				if err := m.post(s, "f", ndk.AllowRemoteRead|ndk.AllowRemoteWrite); err != nil {
					s.want(err, ntstatus.NotSupported, "FastRegister with another base")
					m.base = s.MR.Base() + uint64(tc.off)
					m.register(ndk.AllowRemoteWrite)
					t.NotOffered("a base other than the address of the memory")
				}
				s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
				if got := m.MR.Base(); got != m.base {
					t.Errorf("Base %#x, want %#x", got, m.base)
				}
				p.Fill(0, 20000, byte(i))
				p.put(s, 0, 20000, m.base, m.MR.RemoteToken())
				s.equal(tc.off, 20000, p, 0)
				p.get(30000, 20000, m.base, m.MR.RemoteToken())
				p.equal(30000, 20000, p, 0)
				s.message(p, []ndk.SGE{m.sge(100, 50)}, 60000, 50)
				p.equal(60000, 50, p, 100)
				s.invalidate(m.MR)
			}
			p.denied(s, p.QP.Write("w", []ndk.SGE{p.SGE(0, 1)}, m.base, m.MR.RemoteToken(), 0))
		})
	}
}

// Requests behind it on the QP may use the MR without a wait: as a source, and by
// the token that a message carries to the peer.
func fastOrder(t *T) {
	s, p := t.Connected()
	m := s.fastMR(1000, 20000)
	last := ndk.Token(0)
	for i := range 20 {
		s.Fill(1000, 20000, byte(i))
		p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, 4)}))
		s.must(s.QP.Write("before", nil, p.MR.Base(), p.MR.RemoteToken(), ndk.SilentSuccess))
		s.must(m.post(s, "f", ndk.AllowRemoteRead|ndk.AllowRemoteWrite))
		token := m.MR.RemoteToken()
		if token == last {
			t.Errorf("token %#x twice", token)
		}
		last = token
		s.must(s.QP.Write("w", []ndk.SGE{m.sge(0, 20000)}, p.MR.Base()+50000, p.MR.RemoteToken(), ndk.SilentSuccess))
		binary.BigEndian.PutUint32(s.Mem, uint32(token))
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 4)}, 0))
		p.received("r", 4)
		p.equal(50000, 20000, s, 1000)
		p.Fill(100000, 20000, byte(i+1))
		p.put(s, 100000, 20000, m.base, ndk.Token(binary.BigEndian.Uint32(p.Mem)))
		s.equal(1000, 20000, p, 100000)
		s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
		s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
		s.invalidate(m.MR)
	}
	p.denied(s, p.QP.Write("w", []ndk.SGE{p.SGE(0, 1)}, m.base, last, 0))
}

// An MR that is valid is not registered again: the request fails.
func fastValid(t *T) {
	for name, f := range map[string]ndk.OpFlags{"": 0, "silent": ndk.SilentSuccess} {
		t.Sub(name, func(t *T) {
			s, p := t.Connected()
			m := s.fastMR(1000, 20000)
			s.must(m.post(s, "f", ndk.AllowRemoteRead|ndk.SilentSuccess))
			s.must(m.post(s, "again", ndk.AllowRemoteRead|f))
			r := s.Done()
			s.failed(r, "again", ndk.OpFastRegister, ndk.RuleStillValid)
			s.want(r.Status, ntstatus.InvalidDeviceRequest, "FastRegister of a valid MR")
			s.lost()
			p.lost()
			s.silence()
		})
	}
	t.Sub("invalidated between", func(t *T) {
		s, _ := t.Connected()
		m := s.fastMR(1000, 20000)
		for i := range 5 {
			s.must(m.post(s, "f", ndk.AllowRemoteRead|ndk.SilentSuccess))
			s.must(s.QP.Invalidate("i", m.MR, ndk.SilentSuccess))
			s.must(m.post(s, i, ndk.AllowRemoteRead))
			s.expect(s.Done(), i, ntstatus.Success, ndk.OpFastRegister)
			s.invalidate(m.MR)
		}
	})
}
