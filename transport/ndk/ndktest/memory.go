package ndktest

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var memoryTests = []test{
	{"NDK_FN_BUILD_LAM/pages", func(t *T) {
		s, _ := t.Pair()
		for _, tc := range []struct{ off, n, pages, fbo int }{
			{0, 1, 1, 0}, {0, 4096, 1, 0}, {0, 4097, 2, 0}, {4095, 2, 2, 4095}, {100, 8192, 3, 100},
		} {
			var lam ndk.LAM
			fbo, err := s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[tc.off : tc.off+tc.n]}, tc.n, &lam)
			s.must(err)
			if len(lam.Pages) != tc.pages || fbo != uint32(tc.fbo) {
				t.Errorf("%d bytes at %d: %d pages, first byte %d; want %d, %d", tc.n, tc.off, len(lam.Pages), fbo, tc.pages, tc.fbo)
			}
			for _, p := range lam.Pages {
				if p%ndk.PageSize != 0 {
					t.Errorf("page %#x is not aligned", p)
				}
			}
			s.A.ReleaseLAM(&lam)
		}
	}},
	{"NDK_FN_BUILD_LAM/refusals", func(t *T) {
		s, _ := t.Pair()
		var lam ndk.LAM
		_, err := s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[:10], s.Mem[11:20]}, 19, &lam)
		s.want(err, ntstatus.InvalidParameter, "a gap")
		_, err = s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[:10]}, 11, &lam)
		s.want(err, ntstatus.InvalidParameter, "a short chain")
		_, err = s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[:10:10], s.Mem[10:20]}, 20, &lam)
		s.must(err)
		s.A.ReleaseLAM(&lam)
		lam.Pages = make([]ndk.LogicalAddress, 0, 1)
		_, err = s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[:8192]}, 8192, &lam)
		s.want(err, ntstatus.BufferTooSmall, "room for one page")
	}},
	{"NDK_FN_RELEASE_LAM/old addresses", func(t *T) {
		s, _ := t.Connected()
		var lam ndk.LAM
		fbo, err := s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[:64]}, 64, &lam)
		s.must(err)
		addr := uint64(lam.Pages[0]) + uint64(fbo)
		s.A.ReleaseLAM(&lam)
		s.must(s.QP.Send("s", []ndk.SGE{{Addr: addr, Length: 8, Token: s.PD.PrivilegedToken()}}, 0))
		s.expect(s.Done(), "s", ntstatus.AccessViolation, ndk.OpSend)
	}},
	{"NDK_FN_GET_PRIVILEGED_MEMORY_REGION_TOKEN/use", func(t *T) {
		s, p := t.Connected()
		var lam ndk.LAM
		s.Fill(5000, 10000, 3)
		fbo, err := s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[5000:15000]}, 10000, &lam)
		s.must(err)
		s.must(s.QP.Write("w", []ndk.SGE{{Addr: uint64(lam.Pages[0]) + uint64(fbo), Length: 4096 - fbo, Token: s.PD.PrivilegedToken()}},
			p.MR.Base(), p.MR.RemoteToken(), ndk.SilentSuccess))
		s.exchange(p)
		p.equal(0, int(4096-fbo), s, 5000)
		if s.PD.PrivilegedToken() == s.MR.LocalToken() {
			t.Error("the privileged token is that of a region")
		}
		s.A.ReleaseLAM(&lam)
	}},
	{"NDK_FN_REGISTER_MR/arguments", func(t *T) {
		s, _ := t.Pair()
		m, err := s.PD.CreateMR(s.ctx, false)
		s.must(err)
		s.want(m.Deregister(s.ctx), ntstatus.InvalidDeviceState, "Deregister before Register")
		s.want(m.Register(s.ctx, ndk.Memory{s.Mem[:8]}, 9, 0), ntstatus.InvalidParameter, "a short chain")
		s.want(m.Register(s.ctx, ndk.Memory{s.Mem[:8], s.Mem[9:16]}, 12, 0), ntstatus.InvalidParameter, "a gap")
		s.want(m.InitializeFastRegister(s.ctx, 16, true), ntstatus.InvalidDeviceRequest, "a normal MR")
		s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:8]}, 8, ndk.MRAllowRemoteRead))
		old := m.RemoteToken()
		if m.Base() != s.MR.Base() {
			t.Errorf("Base %#x, want that of the same memory, %#x", m.Base(), s.MR.Base())
		}
		s.want(m.Register(s.ctx, ndk.Memory{s.Mem[:8]}, 8, 0), ntstatus.InvalidDeviceState, "Register twice")
		s.must(m.Deregister(s.ctx))
		s.must(m.Register(s.ctx, ndk.Memory{s.Mem[8:16]}, 8, ndk.MRAllowRemoteRead))
		if m.RemoteToken() == old {
			t.Error("the second registration has the token of the first")
		}
		m.Close()
		f, err := s.PD.CreateMR(s.ctx, true)
		s.must(err)
		s.want(f.Register(s.ctx, ndk.Memory{s.Mem[:8]}, 8, 0), ntstatus.InvalidDeviceRequest, "a fast MR")
		f.Close()
	}},
	{"NDK_FN_GET_LOCAL_TOKEN_FROM_MR/bounds", func(t *T) {
		for _, tc := range []struct {
			name string
			sge  func(s *Side) ndk.SGE
		}{
			{"a byte behind", func(s *Side) ndk.SGE { return s.SGE(memSize-7, 8) }},
			{"a byte before", func(s *Side) ndk.SGE { g := s.SGE(0, 8); g.Addr--; return g }},
			{"unknown token", func(s *Side) ndk.SGE { g := s.SGE(0, 8); g.Token ^= 0x5500; return g }},
			{"a wrap", func(s *Side) ndk.SGE { g := s.SGE(0, 8); g.Addr = ^uint64(0) - 3; return g }},
		} {
			t.Sub(tc.name, func(t *T) {
				s, _ := t.Connected()
				s.must(s.QP.Send("s", []ndk.SGE{tc.sge(s)}, 0))
				s.expect(s.Done(), "s", ntstatus.AccessViolation, ndk.OpSend)
			})
		}
	}},
	{"NDK_FN_CREATE_PD/another domain", func(t *T) {
		s, _ := t.Connected()
		pd, err := s.A.CreatePD(s.ctx)
		s.must(err)
		m, err := pd.CreateMR(s.ctx, false)
		s.must(err)
		s.must(m.Register(s.ctx, ndk.Memory{s.Mem}, memSize, ndk.MRAllowLocalWrite))
		s.must(s.QP.Send("s", []ndk.SGE{{Addr: m.Base(), Length: 8, Token: m.LocalToken()}}, 0))
		s.expect(s.Done(), "s", ntstatus.AccessViolation, ndk.OpSend)
		m.Close()
		pd.Close()
	}},
	{"NDK_FN_REGISTER_MR/remote rights", func(t *T) {
		for _, tc := range []struct {
			name  string
			flags ndk.MRFlags
			post  func(s *Side, addr uint64, tok ndk.Token) error
		}{
			{"Write without the right", ndk.MRAllowRemoteRead | ndk.MRAllowLocalWrite, func(s *Side, addr uint64, tok ndk.Token) error {
				return s.QP.Write("x", []ndk.SGE{s.SGE(0, 8)}, addr, tok, 0)
			}},
			{"Read without the right", ndk.MRAllowRemoteWrite, func(s *Side, addr uint64, tok ndk.Token) error {
				return s.QP.Read("x", []ndk.SGE{s.SGE(0, 8)}, addr, tok, 0)
			}},
			{"Write a byte too far", ndk.MRAllowRemoteWrite, func(s *Side, addr uint64, tok ndk.Token) error {
				return s.QP.Write("x", []ndk.SGE{s.SGE(0, 65)}, addr, tok, 0)
			}},
			{"Read a byte too far", ndk.MRAllowRemoteRead, func(s *Side, addr uint64, tok ndk.Token) error {
				return s.QP.Read("x", []ndk.SGE{s.SGE(0, 65)}, addr, tok, 0)
			}},
		} {
			t.Sub(tc.name, func(t *T) {
				s, p := t.Connected()
				m, err := p.PD.CreateMR(p.ctx, false)
				p.must(err)
				p.must(m.Register(p.ctx, ndk.Memory{p.Mem[:64]}, 64, tc.flags))
				s.Fill(0, 128, 9)
				s.must(tc.post(s, m.Base(), m.RemoteToken()))
				s.lost()
				p.lost()
				for i := range 128 {
					if p.Mem[i] != 0 {
						t.Fatalf("byte %d was changed", i)
					}
				}
				m.Close()
			})
		}
	}},
	{"NDK_FN_DEREGISTER_MR/old token", func(t *T) {
		s, p := t.Connected()
		m, err := p.PD.CreateMR(p.ctx, false)
		p.must(err)
		p.must(m.Register(p.ctx, ndk.Memory{p.Mem[:64]}, 64, ndk.MRAllowRemoteWrite))
		s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, 8)}, m.Base(), m.RemoteToken(), ndk.SilentSuccess))
		s.exchange(p)
		addr, tok := m.Base(), m.RemoteToken()
		p.must(m.Deregister(p.ctx))
		s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, 8)}, addr, tok, 0))
		p.lost()
		m.Close()
	}},
	{"NDK_FN_FAST_REGISTER/cycle", func(t *T) {
		s, p := t.Connected()
		m, lam, fbo := s.fast(1000, 20000)
		last := ndk.Token(0)
		for i := range 20 {
			// base need not be an address at all.
			base := uint64(i)<<32 + uint64(fbo)
			s.must(s.QP.FastRegister("f", m, lam.Pages, fbo, 20000, base, ndk.AllowRemoteRead|ndk.AllowRemoteWrite))
			tok := m.RemoteToken()
			if tok == last {
				t.Errorf("token %#x twice", tok)
			}
			last = tok
			p.must(p.QP.Receive("r", nil))
			s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 0)}, ndk.SilentSuccess)) // no wait between
			s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
			p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
			p.Fill(0, 20000, byte(i))
			p.must(p.QP.Write("w", []ndk.SGE{p.SGE(0, 20000)}, base, tok, ndk.SilentSuccess))
			p.exchange(s)
			s.equal(1000, 20000, p, 0)
			s.must(s.QP.Invalidate("i", m, 0))
			s.expect(s.Done(), "i", ntstatus.Success, ndk.OpInvalidate)
		}
		p.must(p.QP.Write("w", []ndk.SGE{p.SGE(0, 1)}, uint64(fbo), last, 0))
		s.lost()
	}},
	{"NDK_FN_FAST_REGISTER/refusals", func(t *T) {
		s, _ := t.Connected()
		m, lam, fbo := s.fast(1000, 20000)
		fr := func(pages []ndk.LogicalAddress, fbo uint32, n, base uint64, f ndk.OpFlags) error {
			return s.QP.FastRegister("f", m, pages, fbo, n, base, f)
		}
		ok := uint64(fbo)
		s.want(fr(lam.Pages, fbo, uint64(len(lam.Pages))*ndk.PageSize-ok+1, ok, 0), ntstatus.InvalidParameter, "longer than the pages")
		s.want(fr(lam.Pages, fbo, 100, ok+1, 0), ntstatus.InvalidParameter, "base not congruent")
		s.want(fr([]ndk.LogicalAddress{lam.Pages[0] + 1}, fbo, 100, ok, 0), ntstatus.InvalidParameter, "unaligned page")
		s.want(fr(nil, 0, 1, 0, 0), ntstatus.InvalidParameter, "no page")
		s.want(fr(lam.Pages, fbo, 100, ok, ndk.Inline), ntstatus.InvalidParameter, "a flag of another request")
		local, err := s.PD.CreateMR(s.ctx, true)
		s.must(err)
		s.must(local.InitializeFastRegister(s.ctx, 16, false))
		s.want(s.QP.FastRegister("f", local, lam.Pages, fbo, 100, ok, ndk.AllowRemoteRead), ntstatus.AccessViolation, "remote rights of an MR without")
		local.Close()
		s.want(s.QP.FastRegister("f", s.MR, lam.Pages, fbo, 100, ok, 0), ntstatus.InvalidDeviceRequest, "a normal MR")
		s.want(s.QP.Invalidate("i", s.MR, 0), ntstatus.InvalidDeviceRequest, "Invalidate of a normal MR")
		// What was refused leaves the QP usable; registering twice does not.
		s.must(fr(lam.Pages, fbo, 100, ok, ndk.AllowRemoteRead|ndk.SilentSuccess))
		s.must(fr(lam.Pages, fbo, 100, ok, ndk.AllowRemoteRead|ndk.SilentSuccess))
		s.expect(s.Done(), "f", ntstatus.InvalidDeviceRequest, ndk.OpFastRegister)
	}},
	{"NDK_FN_INVALIDATE/twice", func(t *T) {
		s, _ := t.Connected()
		m, lam, fbo := s.fast(0, 4096)
		s.must(s.QP.FastRegister("f", m, lam.Pages, fbo, 4096, uint64(fbo), ndk.AllowRemoteRead|ndk.SilentSuccess))
		s.must(s.QP.Invalidate("i", m, ndk.SilentSuccess))
		s.must(s.QP.Invalidate("j", m, ndk.SilentSuccess))
		s.expect(s.Done(), "j", ntstatus.InvalidDeviceRequest, ndk.OpInvalidate)
	}},
	{"NDK_FN_BIND/window", func(t *T) {
		s, p := t.Connected()
		if s.Info.MaxWindowSize == 0 {
			_, err := s.PD.CreateMW(s.ctx)
			s.want(err, ntstatus.NotSupported, "CreateMW")
			t.Skip("the adapter has no memory windows")
		}
		w, err := s.PD.CreateMW(s.ctx)
		s.must(err)
		s.want(s.QP.Bind("b", s.MR, w, s.MR.Base()+100, memSize-99, ndk.AllowRemoteWrite), ntstatus.InvalidParameter, "past the end of the MR")
		s.must(s.QP.Bind("b", s.MR, w, s.MR.Base()+100, 50, ndk.AllowRemoteWrite))
		s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
		p.Fill(0, 50, 1)
		p.must(p.QP.Write("w", []ndk.SGE{p.SGE(0, 50)}, s.MR.Base()+100, w.RemoteToken(), ndk.SilentSuccess))
		p.exchange(s)
		s.equal(100, 50, p, 0)
		s.want(s.MR.Deregister(s.ctx), ntstatus.DeviceBusy, "Deregister with a window bound")
		s.must(s.QP.Invalidate("i", w, 0))
		s.expect(s.Done(), "i", ntstatus.Success, ndk.OpInvalidate)
		s.must(s.QP.Bind("b", s.MR, w, s.MR.Base()+100, 50, ndk.AllowRemoteWrite|ndk.SilentSuccess))
		s.exchange(p)
		p.must(p.QP.Write("w", []ndk.SGE{p.SGE(0, 51)}, s.MR.Base()+100, w.RemoteToken(), 0))
		s.lost()
		if s.Mem[150] != 0 {
			t.Error("a byte behind the window was written")
		}
		w.Close()
	}},
}
