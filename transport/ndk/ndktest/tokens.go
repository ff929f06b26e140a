package ndktest

import (
	"encoding/binary"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_GET_PRIVILEGED_MEMORY_REGION_TOKEN", privilegedAddresses, privilegedRights, privilegedRemote, privilegedSink)

// An SGE with the privileged token has a logical address of a live LAM; one with
// any other token has a virtual address.
func privilegedAddresses(t *T) {
	const off, n = 5000, 10000 // ends within its third page
	t.Sub("logical", func(t *T) {
		s, p := t.Connected()
		lam, fbo := s.lam(off, n)
		priv := s.PD.PrivilegedToken()
		if again := s.PD.PrivilegedToken(); again != priv {
			t.Errorf("privileged token %#x, then %#x", priv, again)
		}
		s.Fill(off, n, 3)
		var sgl []ndk.SGE // one for each page
		sent := 0
		for i, page := range lam.Pages {
			e := ndk.SGE{Addr: uint64(page), Length: ndk.PageSize, Token: priv}
			if i == 0 {
				e.Addr += uint64(fbo)
				e.Length -= fbo
			}
			e.Length = min(e.Length, uint32(n-sent))
			if len(sgl) < s.QPConfig().MaxInitiatorSGE {
				sgl = append(sgl, e)
				sent += int(e.Length)
			}
		}
		s.must(s.QP.Write("w", sgl, p.MR.Base(), p.MR.RemoteToken(), ndk.SilentSuccess))
		s.exchange(p)
		p.equal(0, sent, s, off)
		p.untouched(sent, 100)
		s.message(p, sgl, 20000, sent)
		p.equal(20000, sent, s, off)
	})
	for _, tc := range []struct {
		name string
		sge  func(s *Side, lam *ndk.LAM) ndk.SGE
	}{
		{"a virtual address of memory that is not mapped", func(s *Side, _ *ndk.LAM) ndk.SGE {
			return ndk.SGE{Addr: s.MR.Base() + 500000, Token: s.PD.PrivilegedToken()}
		}},
		{"a page behind the mapping", func(s *Side, lam *ndk.LAM) ndk.SGE {
			return ndk.SGE{Addr: uint64(lam.Pages[2]) + ndk.PageSize, Token: s.PD.PrivilegedToken()}
		}},
		{"a page before the mapping", func(s *Side, lam *ndk.LAM) ndk.SGE {
			return ndk.SGE{Addr: uint64(lam.Pages[0]) - ndk.PageSize, Token: s.PD.PrivilegedToken()}
		}},
		{"a mapping that was released", func(s *Side, lam *ndk.LAM) ndk.SGE {
			e := ndk.SGE{Addr: uint64(lam.Pages[1]), Token: s.PD.PrivilegedToken()}
			s.A.ReleaseLAM(lam)
			return e
		}},
		{"a logical address under the token of a region", func(s *Side, lam *ndk.LAM) ndk.SGE {
			addr := uint64(lam.Pages[1])
			if addr-s.MR.Base() < memSize {
				addr += memSize // where logical addresses are virtual ones, that is within the region
			}
			return ndk.SGE{Addr: addr, Token: s.MR.LocalToken()}
		}},
	} {
		t.Sub(tc.name, func(t *T) {
			s, _ := t.Connected()
			lam := new(ndk.LAM)
			_, err := s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[off : off+n]}, n, lam)
			s.must(err)
			e := tc.sge(s, lam)
			e.Length = 8
			s.must(s.QP.Send("s", []ndk.SGE{e}, 0))
			s.violated(s.Done(), "s", ndk.OpSend, ndk.RuleSGERange)
			s.A.ReleaseLAM(lam) // which may be done twice
		})
	}
}

// The privileged token gives local read and local write.
func privilegedRights(t *T) {
	s, p := t.Connected()
	lam, fbo := s.lam(100, 64)
	e := []ndk.SGE{{Addr: uint64(lam.Pages[0]) + uint64(fbo), Length: 64, Token: s.PD.PrivilegedToken()}}
	s.Fill(100, 64, 1)
	s.message(p, e, 0, 64)
	p.equal(0, 64, s, 100)
	s.must(s.QP.Receive("r", e))
	p.Fill(0, 64, 2)
	p.must(p.QP.Send("s", []ndk.SGE{p.SGE(0, 64)}, ndk.SilentSuccess))
	s.received("r", 64)
	s.equal(100, 64, p, 0)
	s.untouched(0, 100)
	s.untouched(164, 100)
}

// A peer that presents the privileged token is refused, whatever the address.
func privilegedRemote(t *T) {
	for _, logical := range []bool{false, true} {
		name := "virtual"
		if logical {
			name = "logical"
		}
		addr := func(p *Side) uint64 {
			lam, fbo := p.lam(0, 64)
			if logical {
				return uint64(lam.Pages[0]) + uint64(fbo)
			}
			return p.MR.Base()
		}
		t.Sub("Write to a "+name+" address", func(t *T) {
			s, p := t.Connected()
			s.Fill(0, 64, 1)
			s.denied(p, s.QP.Write("w", []ndk.SGE{s.SGE(0, 8)}, addr(p), p.PD.PrivilegedToken(), 0))
			p.untouched(0, 64)
		})
		t.Sub("Read from a "+name+" address", func(t *T) {
			s, p := t.Connected()
			p.Fill(0, 64, 1)
			s.deniedRead(p, "r", s.QP.Read("r", []ndk.SGE{s.SGE(0, 8)}, addr(p), p.PD.PrivilegedToken(), 0))
			s.untouched(0, 64)
		})
	}
}

// Memory under the privileged token is the sink of a Read only where
// FlagRDMAReadSinkNotRequired is set.
func privilegedSink(t *T) {
	s, p := t.Connected()
	lam, fbo := s.lam(0, 64)
	p.Fill(0, 64, 4)
	s.readSink(p, []ndk.SGE{{Addr: uint64(lam.Pages[0]) + uint64(fbo), Length: 64, Token: s.PD.PrivilegedToken()}})
}

var _ = row("NDK_FN_GET_LOCAL_TOKEN_FROM_MR", localTokenValid, localTokenRange, localTokenRemote, localTokenPrivileged)

// The local token is good as soon as Register or InitializeFastRegister returned
// with success.
func localTokenValid(t *T) {
	t.Sub("Register", func(t *T) {
		s, p := t.Connected()
		s.Fill(0, 64, 1)
		m := s.region(0, 64, 0)
		s.message(p, []ndk.SGE{in(m, 0, 64)}, 0, 64)
		p.equal(0, 64, s, 0)
	})
	t.Sub("InitializeFastRegister", func(t *T) {
		s, p := t.Connected()
		s.Fill(0, 64, 2)
		f := s.fastMR(0, 64)
		e := f.sge(0, 64)
		s.must(f.post(s, "f", ndk.SilentSuccess))
		s.message(p, []ndk.SGE{e}, 0, 64)
		p.equal(0, 64, s, 0)
	})
}

// An SGE reaches every byte of its region and none outside, as a source and as a
// sink.
func localTokenRange(t *T) {
	const off, n = 4096, 100
	t.Sub("inside", func(t *T) {
		s, p := t.Connected()
		m := s.region(off, n, ndk.MRAllowLocalWrite)
		s.Fill(off, n, 1)
		for _, r := range [][2]int{{0, n}, {0, 1}, {n - 1, 1}, {n, 0}, {1, n - 2}} {
			s.message(p, []ndk.SGE{in(m, r[0], r[1])}, 0, r[1])
			p.equal(0, r[1], s, off+r[0])
		}
		s.must(s.QP.Receive("r", []ndk.SGE{in(m, 0, n)}))
		p.Fill(200, n, 2)
		p.must(p.QP.Send("s", []ndk.SGE{p.SGE(200, n)}, ndk.SilentSuccess))
		s.received("r", n)
		s.equal(off, n, p, 200)
		s.untouched(0, off)
		s.untouched(off+n, 100)
	})
	for _, tc := range []struct {
		name   string
		change func(e *ndk.SGE) // of all the region
	}{
		{"a byte behind", func(e *ndk.SGE) { e.Length++ }},
		{"one byte, right behind", func(e *ndk.SGE) { e.Addr, e.Length = e.Addr+n, 1 }},
		{"a byte before", func(e *ndk.SGE) { e.Addr-- }},
		{"one byte, right before", func(e *ndk.SGE) { e.Addr, e.Length = e.Addr-1, 1 }},
		{"a wrap", func(e *ndk.SGE) { e.Addr, e.Length = ^uint64(0)-3, 8 }},
		{"an unknown token", func(e *ndk.SGE) { e.Token ^= 0x5500 }},
	} {
		t.Sub("source, "+tc.name, func(t *T) {
			s, _ := t.Connected()
			e := in(s.region(off, n, ndk.MRAllowLocalWrite), 0, n)
			tc.change(&e)
			s.must(s.QP.Send("s", []ndk.SGE{e}, 0))
			s.violated(s.Done(), "s", ndk.OpSend, ndk.RuleSGERange)
		})
		t.Sub("sink, "+tc.name, func(t *T) {
			s, p := t.Connected()
			e := in(s.region(off, n, ndk.MRAllowLocalWrite), 0, n)
			tc.change(&e)
			p.Fill(0, int(e.Length), 1)
			s.badReceive(p, e, ndk.RuleSGERange)
			s.untouched(off-1, 1)
			s.untouched(off+n, 1)
		})
	}
}

// A peer cannot use the local token, unless it is the remote token too and there
// are remote rights.
func localTokenRemote(t *T) {
	for _, f := range []ndk.MRFlags{ndk.MRAllowLocalWrite, ndk.MRAllowRemoteWrite | ndk.MRAllowRemoteRead} {
		for _, name := range []string{"Write to ", "Read from "} {
			t.Sub(name+rights(f), func(t *T) {
				s, p := t.Connected()
				m := p.region(0, 64, f)
				if f&ndk.MRAllowRemoteRead != 0 && m.LocalToken() == m.RemoteToken() {
					return // one token for both, with remote rights
				}
				s.Fill(0, 8, 1)
				if name == "Write to " {
					s.denied(p, s.QP.Write("x", []ndk.SGE{s.SGE(0, 8)}, m.Base(), m.LocalToken(), 0))
				} else {
					s.deniedRead(p, "x", s.QP.Read("x", []ndk.SGE{s.SGE(0, 8)}, m.Base(), m.LocalToken(), 0))
				}
				p.untouched(0, 64)
			})
		}
	}
}

// No region has the privileged token.
func localTokenPrivileged(t *T) {
	s, _ := t.Connected()
	priv := s.PD.PrivilegedToken()
	f := s.fastMR(0, 64)
	f.register(ndk.AllowRemoteRead)
	for what, m := range map[string]ndk.MR{"a normal region": s.MR, "one without remote rights": s.region(0, 64, 0), "a fast-registered one": f.MR} {
		if m.LocalToken() == priv {
			t.Errorf("the local token of %s is the privileged token", what)
		}
	}
}

var _ = row("NDK_FN_GET_REMOTE_TOKEN_FROM_MR", remoteTokenValid, remoteTokenEarly, remoteTokenFresh, remoteTokenOver)

// The remote token is good as soon as Register with remote rights returned.
func remoteTokenValid(t *T) {
	s, p := t.Connected()
	for i := range 3 {
		m := p.region(i*100, 100, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite)
		s.Fill(0, 100, byte(i))
		s.put(p, 0, 100, m.Base(), m.RemoteToken())
		p.equal(i*100, 100, s, 0)
		s.get(1000, 100, m.Base(), m.RemoteToken())
		s.equal(1000, 100, p, i*100)
	}
}

// The remote token of a fast-register MR is the new one when FastRegister
// returns, before the request completes.
func remoteTokenEarly(t *T) {
	s, p := t.Connected()
	f := s.fastMR(0, 64)
	before := f.MR.RemoteToken()
	// Behind the Read the registration cannot be done before bytes came from the
	// peer, and deferred it need not even have started.
	p.must(p.QP.Receive("s", nil))
	s.must(s.QP.Read("r", []ndk.SGE{s.SGE(200000, 200000)}, p.MR.Base(), p.MR.RemoteToken(), ndk.Defer))
	s.must(f.post(s, "f", ndk.AllowRemoteRead|ndk.AllowRemoteWrite|ndk.ReadFence|ndk.Defer))
	token := f.MR.RemoteToken()
	if token == before {
		t.Errorf("remote token %#x before and after FastRegister", token)
	}
	s.must(s.QP.Send("s", nil, 0))
	s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
	s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
	s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
	p.received("s", 0)
	if now := f.MR.RemoteToken(); now != token {
		t.Errorf("remote token %#x after the completion, %#x before", now, token)
	}
	p.Fill(0, 64, 1)
	p.put(s, 0, 64, f.base, token)
	s.equal(0, 64, p, 0)
}

// Every FastRegister gives the MR another remote token than it had.
func remoteTokenFresh(t *T) {
	s, _ := t.Connected()
	f := s.fastMR(0, 64)
	for range 40 {
		before := f.MR.RemoteToken()
		f.register(ndk.AllowRemoteRead)
		if f.MR.RemoteToken() == before {
			t.Errorf("token %#x twice in a row", before)
		}
		s.invalidate(f.MR)
	}
}

// A peer that uses a token after the end of its registration is refused, also
// when the MR is registered again.
func remoteTokenOver(t *T) {
	const flags = ndk.AllowRemoteRead | ndk.AllowRemoteWrite
	for _, tc := range []struct {
		name string
		end  func(s, p *Side) (addr uint64, token ndk.Token) // of p
	}{
		{"Deregister", func(s, p *Side) (uint64, ndk.Token) {
			m := p.region(0, 64, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite)
			addr, token := m.Base(), m.RemoteToken()
			s.put(p, 0, 8, addr, token)
			p.must(m.Deregister(p.ctx))
			return addr, token
		}},
		{"Deregister and Register", func(s, p *Side) (uint64, ndk.Token) {
			m := p.region(0, 64, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite)
			addr, token := m.Base(), m.RemoteToken()
			p.must(m.Deregister(p.ctx))
			p.must(m.Register(p.ctx, ndk.Memory{p.Mem[:64]}, 64, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite))
			s.put(p, 0, 8, m.Base(), m.RemoteToken())
			return addr, token
		}},
		{"Close", func(s, p *Side) (uint64, ndk.Token) {
			m := p.region(0, 64, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite)
			addr, token := m.Base(), m.RemoteToken()
			p.must(ndk.CloseWait(p.ctx, m))
			return addr, token
		}},
		{"Invalidate", func(s, p *Side) (uint64, ndk.Token) {
			f := p.fastMR(0, 64)
			f.register(flags)
			s.put(p, 0, 8, f.base, f.MR.RemoteToken())
			token := f.MR.RemoteToken()
			p.invalidate(f.MR)
			return f.base, token
		}},
		{"Invalidate and FastRegister", func(s, p *Side) (uint64, ndk.Token) {
			f := p.fastMR(0, 64)
			f.register(flags)
			token := f.MR.RemoteToken()
			p.invalidate(f.MR)
			f.register(flags)
			s.put(p, 0, 8, f.base, f.MR.RemoteToken())
			return f.base, token
		}},
		{"SendAndInvalidate of the peer", func(s, p *Side) (uint64, ndk.Token) {
			f := p.fastMR(0, 64)
			f.register(flags)
			token := f.MR.RemoteToken()
			s.put(p, 0, 8, f.base, token)
			s.sendAndInvalidate(p, token)
			return f.base, token
		}},
	} {
		t.Sub(tc.name+", Write", func(t *T) {
			s, p := t.Connected()
			addr, token := tc.end(s, p)
			s.Fill(0, 8, 1)
			s.denied(p, s.QP.Write("w", []ndk.SGE{s.SGE(0, 8)}, addr, token, 0))
			p.untouched(0, 64)
		})
		t.Sub(tc.name+", Read", func(t *T) {
			s, p := t.Connected()
			addr, token := tc.end(s, p)
			p.Fill(0, 8, 1)
			s.deniedRead(p, "r", s.QP.Read("r", []ndk.SGE{s.SGE(0, 8)}, addr, token, 0))
			s.untouched(0, 64)
		})
	}
}

// sendAndInvalidate lets s end a token of p with a message, and waits for it.
func (s *Side) sendAndInvalidate(p *Side, token ndk.Token) {
	s.t.Helper()
	p.must(p.QP.Receive("invalidated", nil))
	s.must(s.QP.SendAndInvalidate("invalidates", nil, 0, token))
	s.expect(s.Done(), "invalidates", ntstatus.Success, ndk.OpSend)
	r := p.Received()
	p.expect(r, "invalidated", ntstatus.Success, ndk.OpReceiveAndInvalidate)
	if r.InvalidatedToken != token {
		s.t.Errorf("token %#x is reported as invalidated, want %#x", r.InvalidatedToken, token)
	}
}

var _ = row("NDK_FN_GET_REMOTE_TOKEN_FROM_MW", windowTokenEarly, windowTokenSent, windowTokenFresh, windowTokenOver)

// The token of a window is the new one when Bind returns, before it completes.
func windowTokenEarly(t *T) {
	s, p := t.Connected()
	w := s.newMW()
	before := w.RemoteToken()
	s.must(s.QP.Read("r", []ndk.SGE{s.SGE(200000, 200000)}, p.MR.Base(), p.MR.RemoteToken(), 0))
	s.must(s.QP.Bind("b", s.MR, w, s.MR.Base(), 64, ndk.AllowRemoteWrite|ndk.ReadFence)) // cannot be done before the Read is
	token := w.RemoteToken()
	if token == before {
		t.Errorf("token %#x before and after Bind", token)
	}
	s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
	s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
	if now := w.RemoteToken(); now != token {
		t.Errorf("token %#x after the completion, %#x before", now, token)
	}
	p.Fill(0, 64, 1)
	p.put(s, 0, 64, s.MR.Base(), token)
	s.equal(0, 64, p, 0)
}

// A Send right behind the Bind may carry the token: the peer has it only when the
// window is bound.
func windowTokenSent(t *T) {
	s, p := t.Connected()
	w := s.newMW()
	for i := range 10 {
		p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, 4)}))
		s.must(s.QP.Bind("b", s.MR, w, s.MR.Base(), 64, ndk.AllowRemoteWrite|ndk.SilentSuccess))
		binary.BigEndian.PutUint32(s.Mem[1000:], uint32(w.RemoteToken()))
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(1000, 4)}, 0))
		p.received("r", 4)
		p.Fill(100, 64, byte(i))
		p.put(s, 100, 64, s.MR.Base(), ndk.Token(binary.BigEndian.Uint32(p.Mem)))
		s.equal(0, 64, p, 100)
		s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
		s.invalidate(w)
	}
}

// Every Bind gives the window another token than it had.
func windowTokenFresh(t *T) {
	s, _ := t.Connected()
	w := s.newMW()
	for range 40 {
		before := w.RemoteToken()
		s.bind(w, 0, 64, ndk.AllowRemoteRead)
		if w.RemoteToken() == before {
			t.Errorf("token %#x twice in a row", before)
		}
		s.invalidate(w)
	}
}

// The token of a window is refused after Invalidate, by this end or by the peer,
// after the next Bind and after Close.
func windowTokenOver(t *T) {
	for _, tc := range []struct {
		name string
		end  func(s, p *Side, w ndk.MW)
	}{
		{"Invalidate", func(s, p *Side, w ndk.MW) { p.invalidate(w) }},
		{"Invalidate and Bind", func(s, p *Side, w ndk.MW) {
			p.invalidate(w)
			p.bind(w, 0, 64, ndk.AllowRemoteRead|ndk.AllowRemoteWrite)
		}},
		{"SendAndInvalidate of the peer", func(s, p *Side, w ndk.MW) { s.sendAndInvalidate(p, w.RemoteToken()) }},
		{"Close", func(s, p *Side, w ndk.MW) { p.must(ndk.CloseWait(p.ctx, w)) }},
	} {
		for _, op := range []string{"Write", "Read"} {
			t.Sub(tc.name+", "+op, func(t *T) {
				s, p := t.Connected()
				w := p.newMW()
				p.bind(w, 0, 64, ndk.AllowRemoteRead|ndk.AllowRemoteWrite)
				token := w.RemoteToken()
				s.put(p, 0, 8, p.MR.Base(), token)
				s.get(0, 8, p.MR.Base(), token)
				tc.end(s, p, w)
				s.Fill(0, 8, 1)
				if op == "Write" {
					s.denied(p, s.QP.Write("x", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), token, 0))
				} else {
					s.deniedRead(p, "x", s.QP.Read("x", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), token, 0))
				}
				p.untouched(0, 64)
			})
		}
	}
}
