package ndktest

import (
	"math"
	"sync"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_CREATE_MR", createNormalMR, createFastMR, createMRToken, createMRExhausted)

// An MR made with fast=false can be registered; InitializeFastRegister and
// FastRegister are refused.
func createNormalMR(t *T) {
	s, p := t.Connected()
	m := s.newMR(false)
	lam, fbo := s.lam(0, ndk.PageSize)
	refused := func(when string) {
		t.Helper()
		s.want(m.InitializeFastRegister(s.ctx, 1, false), ntstatus.InvalidDeviceRequest, "InitializeFastRegister "+when)
		s.refusal(s.QP.FastRegister("f", m, lam.Pages, fbo, 64, s.MR.Base(), 0), ndk.ErrNotFast, "FastRegister "+when)
	}
	refused("of a new MR")
	s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:64]}, 64, 0))
	refused("of a registered MR")
	// The refusals harmed neither the MR nor the QP.
	s.Fill(0, 64, 1)
	s.message(p, []ndk.SGE{in(m, 0, 64)}, 0, 64)
	p.equal(0, 64, s, 0)
}

// An MR made with fast=true can be initialised for fast registration, which is
// needed first; Register is refused.
func createFastMR(t *T) {
	s, p := t.Connected()
	m := s.newMR(true)
	lam, fbo := s.lam(0, ndk.PageSize)
	register := func() error { return m.Register(s.ctx, ndk.Memory{s.Mem[:64]}, 64, 0) }
	s.want(register(), ntstatus.InvalidDeviceRequest, "Register of a new fast-register MR")
	s.refusal(s.QP.FastRegister("f", m, lam.Pages, fbo, 64, s.MR.Base(), 0), ndk.ErrNotInitialized, "FastRegister before InitializeFastRegister")
	s.must(m.InitializeFastRegister(s.ctx, 1, false))
	s.want(register(), ntstatus.InvalidDeviceRequest, "Register of an initialised fast-register MR")
	s.must(s.QP.FastRegister("f", m, lam.Pages, fbo, 64, s.MR.Base(), 0))
	s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
	s.Fill(0, 64, 1)
	s.message(p, []ndk.SGE{{Addr: s.MR.Base(), Length: 64, Token: m.LocalToken()}}, 0, 64)
	p.equal(0, 64, s, 0)
}

// No token of an MR that was not registered yet works, here or for a peer.
func createMRToken(t *T) {
	for _, tc := range []struct {
		name string
		make func(s *Side) ndk.MR
	}{
		{"normal", func(s *Side) ndk.MR { return s.newMR(false) }},
		{"fast", func(s *Side) ndk.MR { return s.newMR(true) }},
		{"initialised", func(s *Side) ndk.MR {
			m := s.newMR(true)
			s.must(m.InitializeFastRegister(s.ctx, 1, true))
			return m
		}},
	} {
		t.Sub(tc.name+", local", func(t *T) {
			s, _ := t.Connected()
			m := tc.make(s)
			if b := m.Base(); b != 0 {
				t.Errorf("Base of an MR that is not registered is %#x", b)
			}
			s.must(s.QP.Send("s", []ndk.SGE{{Addr: s.MR.Base(), Length: 8, Token: m.LocalToken()}}, 0))
			s.violated(s.Done(), "s", ndk.OpSend, ndk.RuleSGERange, ndk.RuleInvalidated)
		})
		t.Sub(tc.name+", of a peer", func(t *T) {
			s, p := t.Connected()
			m := tc.make(p)
			s.Fill(0, 8, 1)
			s.denied(p, s.QP.Write("w", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), m.RemoteToken(), 0))
			p.untouched(0, 8)
		})
	}
}

// Without resources for one more MR, CreateMR says so.
func createMRExhausted(t *T) {
	s, _ := t.Pair()
	s.exhausted("NDK_FN_CREATE_MR", func() (ndk.Object, error) { return s.PD.CreateMR(s.ctx, false) })
}

var _ = row("NDK_FN_CREATE_MW", createMWToken, createMWSupport, createMWExhausted)

// The token of a window that was never bound is of no use to a peer.
func createMWToken(t *T) {
	for _, name := range []string{"Write", "Read"} {
		t.Sub(name, func(t *T) {
			s, p := t.Connected()
			w := p.newMW()
			s.Fill(0, 8, 1)
			if name == "Write" {
				s.denied(p, s.QP.Write("x", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), w.RemoteToken(), 0))
			} else {
				s.deniedRead(p, "x", s.QP.Read("x", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), w.RemoteToken(), 0))
			}
			p.untouched(0, 8)
		})
	}
}

// MaxWindowSize says whether there are windows.
func createMWSupport(t *T) {
	s, _ := t.Pair()
	want := ntstatus.Success
	if s.Info.MaxWindowSize == 0 {
		want = ntstatus.NotSupported
	}
	w, err := s.PD.CreateMW(s.ctx)
	s.want(err, want, "CreateMW")
	if err == nil {
		w.Close()
	}
}

// Without resources for one more window, CreateMW says so.
func createMWExhausted(t *T) {
	s, _ := t.Pair()
	s.newMW()
	s.exhausted("NDK_FN_CREATE_MW", func() (ndk.Object, error) { return s.PD.CreateMW(s.ctx) })
}

var _ = row("NDK_FN_REGISTER_MR", registerChain, registerSize, registerBase, registerLocalRights, registerRemoteRights, registerReadSink)

// The chain has no gap and is as long as length says.
func registerChain(t *T) {
	s, p := t.Connected()
	m := s.newMR(false)
	s.want(m.Register(s.ctx, ndk.Memory{s.Mem[:8]}, 9, 0), ntstatus.InvalidParameter, "a short chain")
	s.want(m.Register(s.ctx, nil, 1, 0), ntstatus.InvalidParameter, "an empty chain")
	s.want(m.Register(s.ctx, ndk.Memory{s.Mem[:8], s.Mem[9:16]}, 12, 0), ntstatus.InvalidParameter, "a gap")
	s.want(m.Register(s.ctx, ndk.Memory{s.Mem[8:16], s.Mem[:8]}, 16, 0), ntstatus.InvalidParameter, "the wrong order")
	// Elements that follow each other are one range, and length may end within.
	s.Fill(0, 32, 5)
	s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:8:8], s.Mem[8:9:9], s.Mem[9:32]}, 20, 0))
	s.message(p, []ndk.SGE{in(m, 0, 20)}, 0, 20)
	p.equal(0, 20, s, 0)
	s.must(s.QP.Send("s", []ndk.SGE{in(m, 0, 21)}, 0))
	s.violated(s.Done(), "s", ndk.OpSend, ndk.RuleSGERange)
}

// One registration is of at most MaxRegistrationSize bytes.
func registerSize(t *T) {
	s, _ := t.Pair()
	m := s.newMR(false)
	if size := s.Info.MaxRegistrationSize + 1; size != 0 {
		if mem := t.reserve(size); mem != nil { // more may not fit an address space
			s.want(m.Register(s.ctx, ndk.Memory{mem}, int(size), 0), ntstatus.InvalidParameter, "a byte too much")
		}
	}
	s.want(m.Register(s.ctx, ndk.Memory{s.Mem}, math.MaxInt, 0), ntstatus.InvalidParameter, "more than there can be")
	s.must(m.Register(s.ctx, ndk.Memory{s.Mem}, memSize, 0))
}

// Base is the address of the first byte, base+k names byte k, and 0 does not
// name the first one.
func registerBase(t *T) {
	const off, n = 100, 1000
	s, p := t.Connected()
	m := p.region(off, n, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite)
	if want := uint64(uintptr(unsafe.Pointer(&p.Mem[off]))); m.Base() != want {
		t.Errorf("Base %#x, want %#x, where the memory is", m.Base(), want)
	}
	for i, k := range []int{0, 1, 500, n - 1} {
		s.Mem[0] = byte(i + 1)
		s.put(p, 0, 1, m.Base()+uint64(k), m.RemoteToken())
		if got := p.Mem[off+k]; got != byte(i+1) {
			t.Errorf("byte %d is %d after a Write to base+%[1]d, want %d", k, got, i+1)
		}
		s.get(8, 1, m.Base()+uint64(k), m.RemoteToken())
		if got := s.Mem[8]; got != byte(i+1) {
			t.Errorf("a Read of base+%d has %d, want %d", k, got, i+1)
		}
		p.message(s, []ndk.SGE{in(m, k, 1)}, 16, 1)
		if got := s.Mem[16]; got != byte(i+1) {
			t.Errorf("a Send of base+%d has %d, want %d", k, got, i+1)
		}
	}
	s.Mem[0] = 0xFF
	s.denied(p, s.QP.Write("w", []ndk.SGE{s.SGE(0, 1)}, 0, m.RemoteToken(), 0))
	if p.Mem[off] != 1 {
		t.Error("address 0 named the first byte")
	}
}

// A region without MRAllowLocalWrite is a source, and no sink.
func registerLocalRights(t *T) {
	t.Sub("source", func(t *T) {
		s, p := t.Connected()
		m := s.region(0, 64, ndk.MRAllowLocalRead)
		s.Fill(0, 64, 1)
		s.message(p, []ndk.SGE{in(m, 0, 64)}, 0, 64)
		p.equal(0, 64, s, 0)
		s.must(s.QP.Write("w", []ndk.SGE{in(m, 0, 64)}, p.MR.Base()+100, p.MR.RemoteToken(), ndk.SilentSuccess))
		s.exchange(p)
		p.equal(100, 64, s, 0)
	})
	t.Sub("sink of a Receive", func(t *T) {
		s, p := t.Connected()
		m := s.region(0, 64, ndk.MRAllowRemoteRead)
		p.Fill(0, 64, 1)
		s.badReceive(p, in(m, 0, 64), ndk.RuleSGERight)
		s.untouched(0, 64)
	})
	t.Sub("sink of a Read", func(t *T) {
		s, p := t.Connected()
		m := s.region(0, 64, ndk.MRAllowRemoteRead|ndk.MRRDMAReadSink)
		p.Fill(0, 64, 1)
		s.must(s.QP.Read("r", []ndk.SGE{in(m, 0, 64)}, p.MR.Base(), p.MR.RemoteToken(), 0))
		s.violated(s.Done(), "r", ndk.OpRead, ndk.RuleSGERight)
		s.lost()
		p.lost()
		s.untouched(0, 64)
	})
}

// badReceive posts a Receive with an SGE that it must not have and lets p send a
// message of its length: the receive completes with AccessViolation, at the latest
// then, and the connection ends.
func (s *Side) badReceive(p *Side, e ndk.SGE, rules ...ndk.Rule) {
	s.t.Helper()
	s.must(s.QP.Receive("r", []ndk.SGE{e}))
	if err := p.QP.Send("s", []ndk.SGE{p.SGE(0, int(e.Length))}, ndk.SilentSuccess); err != nil {
		p.want(err, ntstatus.ConnectionInvalid, "Send")
	}
	s.violated(s.Received(), "r", ndk.OpReceive, rules...)
	s.lost()
	p.lost()
}

// A peer reads only with MRAllowRemoteRead and writes only with
// MRAllowRemoteWrite; else the connection ends and no byte changes.
func registerRemoteRights(t *T) {
	t.Sub("both", func(t *T) {
		s, p := t.Connected()
		m := p.region(0, 64, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite)
		s.Fill(0, 64, 1)
		s.put(p, 0, 64, m.Base(), m.RemoteToken())
		p.equal(0, 64, s, 0)
		s.get(100, 64, m.Base(), m.RemoteToken())
		s.equal(100, 64, p, 0)
	})
	for _, f := range []ndk.MRFlags{ndk.MRAllowLocalRead, ndk.MRAllowLocalWrite, ndk.MRAllowLocalWrite | ndk.MRAllowRemoteRead, ndk.MRAllowRemoteWrite} {
		if f&ndk.MRAllowRemoteWrite != ndk.MRAllowRemoteWrite {
			t.Sub("Write to "+rights(f), func(t *T) {
				s, p := t.Connected()
				m := p.region(0, 64, f)
				s.Fill(0, 64, 9)
				s.denied(p, s.QP.Write("w", []ndk.SGE{s.SGE(0, 8)}, m.Base(), m.RemoteToken(), 0))
				p.untouched(0, 128)
			})
		}
		if f&ndk.MRAllowRemoteRead == 0 {
			t.Sub("Read from "+rights(f), func(t *T) {
				s, p := t.Connected()
				m := p.region(0, 64, f)
				p.Fill(0, 64, 9)
				s.deniedRead(p, "r", s.QP.Read("r", []ndk.SGE{s.SGE(0, 8)}, m.Base(), m.RemoteToken(), 0))
				s.untouched(0, 128)
			})
		}
	}
}

// rights names the rights of a region.
func rights(f ndk.MRFlags) string {
	name := "local read"
	if f&ndk.MRAllowLocalWrite != 0 {
		name += ", local write"
	}
	if f&ndk.MRAllowRemoteRead != 0 {
		name += ", remote read"
	}
	if f&ndk.MRAllowRemoteWrite == ndk.MRAllowRemoteWrite {
		name += ", remote write"
	}
	return name
}

// MRRDMAReadSink is taken by every adapter, and needed for the sink of a Read
// unless FlagRDMAReadSinkNotRequired is set.
func registerReadSink(t *T) {
	t.Sub("with the flag", func(t *T) {
		s, p := t.Connected()
		m := s.region(0, 64, ndk.MRAllowLocalWrite|ndk.MRRDMAReadSink)
		p.Fill(0, 64, 2)
		s.must(s.QP.Read("r", []ndk.SGE{in(m, 0, 64)}, p.MR.Base(), p.MR.RemoteToken(), 0))
		s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
		s.equal(0, 64, p, 0)
	})
	t.Sub("without the flag", func(t *T) {
		s, p := t.Connected()
		m := s.region(0, 64, ndk.MRAllowLocalWrite)
		p.Fill(0, 64, 2)
		s.readSink(p, []ndk.SGE{in(m, 0, 64)})
	})
}

// readSink reads 64 bytes from p to the start of the buffer of s through an SGE
// that was not made for it, which works where FlagRDMAReadSinkNotRequired is set
// and fails elsewhere.
func (s *Side) readSink(p *Side, sgl []ndk.SGE) {
	s.t.Helper()
	s.must(s.QP.Read("r", sgl, p.MR.Base(), p.MR.RemoteToken(), 0))
	if s.Info.Flags&ndk.FlagRDMAReadSinkNotRequired != 0 {
		s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
		s.equal(0, 64, p, 0)
		return
	}
	s.failed(s.Done(), "r", ndk.OpRead, ndk.RuleReadSink)
	s.lost()
	p.lost()
	s.untouched(0, 64)
}

var _ = row("NDK_FN_DEREGISTER_MR", deregisterTokens, deregisterAgain, deregisterBound, deregisterState)

// After Deregister neither token works, here or for a peer.
func deregisterTokens(t *T) {
	const all = ndk.MRAllowRemoteRead | ndk.MRAllowRemoteWrite | ndk.MRRDMAReadSink
	for _, name := range []string{"Write of the peer", "Read of the peer"} {
		t.Sub(name, func(t *T) {
			s, p := t.Connected()
			m := p.region(0, 64, all)
			addr, tok := m.Base(), m.RemoteToken()
			s.put(p, 0, 8, addr, tok)
			s.get(0, 8, addr, tok)
			p.must(m.Deregister(p.ctx))
			if b := m.Base(); b != 0 {
				t.Errorf("Base %#x of an MR that is not registered", b)
			}
			s.Fill(0, 8, 1)
			if name == "Write of the peer" {
				s.denied(p, s.QP.Write("x", []ndk.SGE{s.SGE(0, 8)}, addr, tok, 0))
			} else {
				s.deniedRead(p, "x", s.QP.Read("x", []ndk.SGE{s.SGE(0, 8)}, addr, tok, 0))
			}
			p.untouched(0, 64)
		})
	}
	for _, name := range []string{"Send", "Receive", "Read"} {
		t.Sub(name, func(t *T) {
			s, p := t.Connected()
			m := s.region(0, 64, all)
			e := in(m, 0, 64)
			s.message(p, []ndk.SGE{e}, 0, 64)
			s.must(m.Deregister(s.ctx))
			p.Fill(0, 64, 1)
			switch name {
			case "Send":
				s.must(s.QP.Send("s", []ndk.SGE{e}, 0))
				s.violated(s.Done(), "s", ndk.OpSend, ndk.RuleSGERange, ndk.RuleInvalidated)
			case "Receive":
				s.badReceive(p, e, ndk.RuleSGERange, ndk.RuleInvalidated)
			case "Read":
				s.must(s.QP.Read("r", []ndk.SGE{e}, p.MR.Base(), p.MR.RemoteToken(), 0))
				s.violated(s.Done(), "r", ndk.OpRead, ndk.RuleSGERange, ndk.RuleInvalidated)
			}
			s.untouched(0, 64)
		})
	}
}

// After Deregister an MR can be registered over other memory, with other rights
// and with another token.
func deregisterAgain(t *T) {
	s, p := t.Connected()
	m := p.region(0, 8, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite)
	if m.Base() != p.MR.Base() {
		t.Errorf("Base %#x, want that of the same memory, %#x", m.Base(), p.MR.Base())
	}
	p.want(m.Register(p.ctx, ndk.Memory{p.Mem[:8]}, 8, 0), ntstatus.InvalidDeviceState, "Register twice")
	s.put(p, 0, 8, m.Base(), m.RemoteToken())
	for i, f := range []ndk.MRFlags{ndk.MRAllowRemoteWrite, ndk.MRAllowRemoteRead} {
		old := m.RemoteToken()
		p.must(m.Deregister(p.ctx))
		off := 4096*i + 8
		p.must(m.Register(p.ctx, ndk.Memory{p.Mem[off : off+16]}, 16, f))
		if m.RemoteToken() == old {
			t.Error("the new registration has the token of the old one")
		}
		if m.Base() != p.MR.Base()+uint64(off) {
			t.Errorf("Base %#x, want %#x, where the new memory is", m.Base(), p.MR.Base()+uint64(off))
		}
		if f == ndk.MRAllowRemoteWrite {
			s.Fill(0, 16, 7)
			s.put(p, 0, 16, m.Base(), m.RemoteToken())
			p.equal(off, 16, s, 0)
		} else {
			p.Fill(off, 16, 8)
			s.get(100, 16, m.Base(), m.RemoteToken())
			s.equal(100, 16, p, off)
		}
	}
	// The rights are those of the last registration.
	s.denied(p, s.QP.Write("w", []ndk.SGE{s.SGE(200, 8)}, m.Base(), m.RemoteToken(), 0))
}

// While a window is bound, Deregister answers DeviceBusy and the MR stays as it
// was.
func deregisterBound(t *T) {
	s, p := t.Connected()
	w := s.newMW()
	s.bind(w, 100, 50, ndk.AllowRemoteWrite)
	s.want(s.MR.Deregister(s.ctx), ntstatus.DeviceBusy, "Deregister with a window bound")
	p.Fill(0, 50, 1)
	p.put(s, 0, 50, s.MR.Base()+1000, s.MR.RemoteToken())
	s.equal(1000, 50, p, 0)
	p.put(s, 0, 50, s.MR.Base()+100, w.RemoteToken())
	s.equal(100, 50, p, 0)
	s.message(p, []ndk.SGE{s.SGE(100, 50)}, 200, 50)
	s.invalidate(w)
	s.must(s.MR.Deregister(s.ctx))
}

// Deregister of an MR that is not registered answers InvalidDeviceState.
func deregisterState(t *T) {
	s, _ := t.Pair()
	m := s.newMR(false)
	s.want(m.Deregister(s.ctx), ntstatus.InvalidDeviceState, "before Register")
	s.want(m.Register(s.ctx, ndk.Memory{s.Mem[:8]}, 9, 0), ntstatus.InvalidParameter, "a short chain")
	s.want(m.Deregister(s.ctx), ntstatus.InvalidDeviceState, "after a Register that failed")
	s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:8]}, 8, 0))
	s.must(m.Deregister(s.ctx))
	s.want(m.Deregister(s.ctx), ntstatus.InvalidDeviceState, "twice")
}

var _ = row("NDK_FN_INITIALIZE_FAST_REGISTER_MR", initializeLimit, initializeNormal, initializeLocal, initializeParallel, initializeToken)

// More pages than FRMRPageCount are refused with ImplementationLimit.
func initializeLimit(t *T) {
	s, _ := t.Pair()
	m := s.newMR(true)
	s.want(m.InitializeFastRegister(s.ctx, s.Info.FRMRPageCount+1, true), ntstatus.ImplementationLimit, "a page too many")
	s.want(m.InitializeFastRegister(s.ctx, math.MaxInt, true), ntstatus.ImplementationLimit, "more pages than there can be")
	s.must(m.InitializeFastRegister(s.ctx, s.Info.FRMRPageCount, true))
}

// An MR made with fast=false is not initialised for fast registration.
func initializeNormal(t *T) {
	s, _ := t.Pair()
	m := s.newMR(false)
	for _, remote := range []bool{false, true} {
		s.want(m.InitializeFastRegister(s.ctx, 16, remote), ntstatus.InvalidDeviceRequest, "a normal MR")
	}
}

// With remote=false a FastRegister that asks for remote rights fails with
// AccessViolation, and one for local rights works.
func initializeLocal(t *T) {
	s, p := t.Connected()
	m := s.newMR(true)
	s.must(m.InitializeFastRegister(s.ctx, 16, false))
	lam, fbo := s.lam(0, 100)
	for _, f := range []ndk.OpFlags{ndk.AllowRemoteRead, ndk.AllowRemoteWrite, ndk.AllowRemoteRead | ndk.AllowLocalWrite} {
		s.refusal(s.QP.FastRegister("f", m, lam.Pages, fbo, 100, s.MR.Base(), f), ndk.ErrRemoteRight, "remote rights of an MR without")
	}
	s.must(s.QP.FastRegister("f", m, lam.Pages, fbo, 100, s.MR.Base(), ndk.AllowLocalWrite))
	s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
	s.must(s.QP.Receive("r", []ndk.SGE{{Addr: s.MR.Base(), Length: 100, Token: m.LocalToken()}}))
	p.Fill(0, 100, 3)
	p.must(p.QP.Send("s", []ndk.SGE{p.SGE(0, 100)}, ndk.SilentSuccess))
	s.received("r", 100)
	s.equal(0, 100, p, 0)
}

// MRs can be initialised at the same time, and all of them work.
func initializeParallel(t *T) {
	s, p := t.Connected()
	var all sync.WaitGroup
	mrs := make([]ndk.MR, 16)
	for i := range mrs {
		all.Go(func() { // ends with the initialisation
			m, err := s.PD.CreateMR(s.ctx, true)
			if err != nil {
				t.Errorf("CreateMR: %v", err)
				return
			}
			mrs[i] = m
			if err := m.InitializeFastRegister(s.ctx, min(s.Info.FRMRPageCount, 1+i), i%2 == 0); err != nil {
				t.Errorf("InitializeFastRegister: %v", err)
			}
		})
	}
	all.Wait()
	for _, m := range mrs {
		if m != nil {
			s.close = append(s.close, m.Close)
		}
	}
	if t.Failed() {
		return
	}
	for i, m := range mrs {
		off := i * ndk.PageSize
		s.Fill(off, 100, byte(i))
		lam, fbo := s.lam(off, 100)
		base := s.MR.Base() + uint64(off)
		s.must(s.QP.FastRegister("f", m, lam.Pages, fbo, 100, base, 0))
		s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
		s.message(p, []ndk.SGE{{Addr: base, Length: 100, Token: m.LocalToken()}}, 0, 100)
		p.equal(0, 100, s, off)
	}
}

// The local token is there when InitializeFastRegister returned: it is the one
// that works after every FastRegister.
func initializeToken(t *T) {
	s, p := t.Connected()
	f := s.fastMR(0, 100)
	e := f.sge(0, 100) // with the token as it is now
	for i := range 3 {
		s.Fill(0, 100, byte(i))
		f.register(0)
		if got := f.MR.LocalToken(); got != e.Token {
			t.Errorf("local token %#x after FastRegister, %#x before", got, e.Token)
		}
		s.message(p, []ndk.SGE{e}, 0, 100)
		p.equal(0, 100, s, 0)
		s.invalidate(f.MR)
	}
}
