package ndktest

import (
	"runtime"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_PD", isKind(ndk.ObjectPD, 6), pdPends, pdMixed)

// A PD is closed after all that was made from it.
func pdPends(t *T) { t.pends("PD, MR", "PD, MW", "PD, SRQ", "PD, QP") }

// A request names objects of one PD, that of its QP.
func pdMixed(t *T) {
	t.Sub("SGE", createPDForeignMR)
	t.Sub("FastRegister and Invalidate", func(t *T) {
		s, _ := t.Connected()
		var lam ndk.LAM
		fbo, err := s.build(&lam, ndk.Memory{s.Mem[:4096]}, 4096)
		s.must(err)
		s.close = append(s.close, func() { s.A.ReleaseLAM(&lam) })
		m, err := s.domain().CreateMR(s.ctx, true)
		s.must(err)
		s.close = append(s.close, m.Close)
		s.must(m.InitializeFastRegister(s.ctx, 1, true))
		s.want(s.QP.FastRegister("f", m, lam.Pages, fbo, 4096, s.MR.Base(), ndk.AllowRemoteRead), ntstatus.AccessViolation, "FastRegister")
		s.want(s.QP.Invalidate("i", m, 0), ntstatus.AccessViolation, "Invalidate")
		s.drained("a completion of what was refused")
		s.works()
	})
	t.Sub("Bind", func(t *T) {
		s, _ := t.Connected()
		if s.Info.MaxWindowSize == 0 {
			return
		}
		w, err := s.PD.CreateMW(s.ctx)
		s.must(err)
		pd := s.domain()
		o, err := pd.CreateMW(s.ctx)
		s.must(err)
		m := s.stranger(64, ndk.MRAllowRemoteRead)
		s.close = append(s.close, w.Close, o.Close)
		s.want(s.QP.Bind("b", s.MR, o, s.MR.Base(), 8, ndk.AllowRemoteRead), ntstatus.AccessViolation, "Bind of a window of another PD")
		s.want(s.QP.Bind("b", m, w, m.Base(), 8, ndk.AllowRemoteRead), ntstatus.AccessViolation, "Bind to an MR of another PD")
		s.drained("a completion of what was refused")
		s.works()
	})
}

// works shows that the connection works, by a Write of nothing.
func (s *Side) works() {
	s.t.Helper()
	s.must(s.QP.Write("empty", nil, 0, 0, 0))
	s.expect(s.Done(), "empty", ntstatus.Success, ndk.OpWrite)
}

var _ = row("NDK_SRQ", isKind(ndk.ObjectSRQ, 10), srqPends, srqDrops)

// An SRQ is closed after the last QP that takes from it.
func srqPends(t *T) {
	s, _ := t.Pair()
	t.needsSRQ(s)
	t.pends("SRQ, QP")
}

// What is queued on an SRQ at its close is dropped when its last QP is gone,
// without a completion; until then a QP may take it.
func srqDrops(t *T) {
	q := t.share(0, nil)
	q.connect()
	q.queue(0, 4)
	q.srq.Close()
	q.s.say()
	q.p.expect(q.p.Received(), 0, ntstatus.Success, ndk.OpReceive)
	q.p.C.Close()
	q.p.closed(q.p.QP)
	q.p.ends(q.srq, "close of the SRQ")
	q.p.drained("a receive of a closed SRQ")
}

var _ = row("NDK_MR", isKind(ndk.ObjectMR, 4), mrStates, mrClose, mrKeepsMemory)

// Each call has its states; in others it fails and changes nothing.
func mrStates(t *T) {
	t.Sub("normal", func(t *T) {
		s, p := t.Connected()
		m, err := s.PD.CreateMR(s.ctx, false)
		s.must(err)
		s.close = append(s.close, m.Close)
		s.Fill(0, 64, 1)
		for range 2 { // created, and registered before
			s.want(m.Deregister(s.ctx), ntstatus.InvalidDeviceState, "Deregister before Register")
			s.want(m.InitializeFastRegister(s.ctx, 1, true), ntstatus.InvalidDeviceRequest, "InitializeFastRegister of a normal MR")
			if m.Base() != 0 {
				t.Errorf("Base %#x of an MR that is not registered", m.Base())
			}
			s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:64]}, 64, ndk.MRAllowRemoteRead))
			base, local, remote := m.Base(), m.LocalToken(), m.RemoteToken()
			s.want(m.Register(s.ctx, ndk.Memory{s.Mem[4096:8192]}, 4096, ndk.MRAllowRemoteWrite), ntstatus.InvalidDeviceState, "Register twice")
			s.want(m.InitializeFastRegister(s.ctx, 1, true), ntstatus.InvalidDeviceRequest, "InitializeFastRegister of a normal MR")
			s.want(s.QP.Invalidate("i", m, 0), ntstatus.InvalidDeviceRequest, "Invalidate of a normal MR")
			if m.Base() != base || m.LocalToken() != local || m.RemoteToken() != remote {
				t.Error("what was refused changed base or tokens")
			}
			p.must(p.QP.Read("r", []ndk.SGE{p.SGE(0, 64)}, base, remote, 0))
			p.expect(p.Done(), "r", ntstatus.Success, ndk.OpRead)
			p.equal(0, 64, s, 0)
			s.must(m.Deregister(s.ctx))
		}
	})
	t.Sub("fast", func(t *T) {
		s, p := t.Connected()
		var lam ndk.LAM
		fbo, err := s.build(&lam, ndk.Memory{s.Mem[:4096]}, 4096)
		s.must(err)
		s.close = append(s.close, func() { s.A.ReleaseLAM(&lam) })
		m, err := s.PD.CreateMR(s.ctx, true)
		s.must(err)
		s.close = append(s.close, m.Close)
		post := func() error {
			return s.QP.FastRegister("f", m, lam.Pages, fbo, 4096, s.MR.Base(), ndk.AllowRemoteRead)
		}
		never := func(state string) {
			t.Helper()
			s.want(m.Register(s.ctx, ndk.Memory{s.Mem[:64]}, 64, 0), ntstatus.InvalidDeviceRequest, "Register of a fast MR, "+state)
			if st := ndk.StatusOf(m.Deregister(s.ctx)); st != ntstatus.InvalidDeviceRequest && st != ntstatus.InvalidDeviceState {
				t.Errorf("Deregister of a fast MR, %s: %v", state, st)
			}
		}
		never("created")
		s.want(post(), ntstatus.InvalidDeviceState, "FastRegister before it was initialised")
		s.must(m.InitializeFastRegister(s.ctx, 1, true))
		never("initialised")
		s.want(m.InitializeFastRegister(s.ctx, 2, false), ntstatus.InvalidDeviceState, "InitializeFastRegister twice")
		for range 2 {
			s.must(post())
			s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
			remote := m.RemoteToken()
			never("valid")
			s.want(m.InitializeFastRegister(s.ctx, 1, true), ntstatus.InvalidDeviceState, "InitializeFastRegister of a valid MR")
			if m.RemoteToken() != remote || m.Base() != s.MR.Base() {
				t.Error("what was refused changed base or token")
			}
			p.must(p.QP.Read("r", []ndk.SGE{p.SGE(0, 64)}, m.Base(), remote, 0))
			p.expect(p.Done(), "r", ntstatus.Success, ndk.OpRead)
			s.must(s.QP.Invalidate("i", m, 0))
			s.expect(s.Done(), "i", ntstatus.Success, ndk.OpInvalidate)
		}
		// A valid one is not registered again, an invalid one not invalidated; these
		// fail when their turn comes, with which the connection ends.
		s.must(s.QP.Invalidate("j", m, 0))
		s.expect(s.Done(), "j", ntstatus.InvalidDeviceRequest, ndk.OpInvalidate)
	})
}

// Close ends the registration; with a window bound to it, when that is gone.
func mrClose(t *T) {
	t.Sub("deregisters", func(t *T) {
		s, p := t.Connected()
		m, err := p.PD.CreateMR(p.ctx, false)
		p.must(err)
		p.must(m.Register(p.ctx, ndk.Memory{p.Mem[:64]}, 64, ndk.MRAllowRemoteWrite))
		base, token := m.Base(), m.RemoteToken()
		s.Fill(0, 8, 1)
		s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, 8)}, base, token, ndk.SilentSuccess))
		s.exchange(p)
		p.equal(0, 8, s, 0)
		p.closed(m)
		clear(p.Mem[:8])
		s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, 8)}, base, token, 0))
		p.lost()
		for i, b := range p.Mem[:8] {
			if b != 0 {
				t.Fatalf("byte %d was written under the token of a closed MR", i)
			}
		}
	})
	t.pends("MR, bound MW")
}

// The memory of a registered MR is kept, where it is, by the MR itself.
func mrKeepsMemory(t *T) {
	s, p := t.Connected()
	m, err := p.PD.CreateMR(p.ctx, false)
	p.must(err)
	p.close = append(p.close, m.Close)
	var gone atomic.Bool
	const n = 1 << 16
	func() { // leaves no reference of the test's own
		mem := make([]byte, n)
		for i := range mem {
			mem[i] = byte(i) + byte(i>>8)
		}
		runtime.AddCleanup(&mem[0], func(g *atomic.Bool) { g.Store(true) }, &gone)
		p.must(m.Register(p.ctx, ndk.Memory{mem[:n/2], mem[n/2:]}, n, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite))
	}()
	for range 3 {
		runtime.GC()
		_ = make([]byte, n) // what might take its place
	}
	if gone.Load() {
		t.Fatal("the memory of a registered MR was collected")
	}
	s.must(s.QP.Read("r", []ndk.SGE{s.SGE(0, n)}, m.Base(), m.RemoteToken(), 0))
	s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
	for i := range n {
		if s.Mem[i] != byte(i)+byte(i>>8) {
			t.Fatalf("byte %d is %#x", i, s.Mem[i])
		}
	}
	s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, n)}, m.Base(), m.RemoteToken(), ndk.SilentSuccess))
	s.exchange(p)
	if gone.Load() {
		t.Error("the memory of a registered MR was collected")
	}
	p.must(m.Deregister(p.ctx))
}

var _ = row("NDK_MW", isKind(ndk.ObjectMW, 5), mwStates, mwOne)

// needsMW ends the test on an adapter without windows, after it refused one.
func (t *T) needsMW(s *Side) {
	t.Helper()
	if s.Info.MaxWindowSize > 0 {
		return
	}
	_, err := s.PD.CreateMW(s.ctx)
	s.want(err, ntstatus.NotSupported, "CreateMW without the capability")
	t.NotOffered("memory windows: MaxWindowSize is 0")
}

// A window is invalid until it is bound, and again when it was invalidated, here
// or by the peer, or closed; Bind wants it invalid, Invalidate wants it bound.
func mwStates(t *T) {
	t.Sub("invalid at first", func(t *T) {
		s, _ := t.Connected()
		t.needsMW(s)
		w, err := s.PD.CreateMW(s.ctx)
		s.must(err)
		s.close = append(s.close, w.Close)
		s.must(s.QP.Invalidate("i", w, 0))
		s.expect(s.Done(), "i", ntstatus.InvalidDeviceRequest, ndk.OpInvalidate)
	})
	for name, end := range map[string]func(s, p *Side, w ndk.MW){
		"Invalidate": func(s, p *Side, w ndk.MW) {
			s.must(s.QP.Invalidate("i", w, 0))
			s.expect(s.Done(), "i", ntstatus.Success, ndk.OpInvalidate)
		},
		"SendAndInvalidate": func(s, p *Side, w ndk.MW) {
			s.must(s.QP.Receive("r", nil))
			p.must(p.QP.SendAndInvalidate("s", nil, ndk.SilentSuccess, w.RemoteToken()))
			s.expect(s.Received(), "r", ntstatus.Success, ndk.OpReceiveAndInvalidate)
		},
		"Close": func(s, p *Side, w ndk.MW) { s.closed(w) },
	} {
		t.Sub(name, func(t *T) {
			s, p := t.Connected()
			t.needsMW(s)
			w, err := s.PD.CreateMW(s.ctx)
			s.must(err)
			s.close = append(s.close, w.Close)
			rounds := 2 // it can be bound again
			if name == "Close" {
				rounds = 1
			}
			var token ndk.Token
			for range rounds {
				s.must(s.QP.Bind("b", s.MR, w, s.MR.Base(), 64, ndk.AllowRemoteWrite))
				token = w.RemoteToken()
				s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
				p.must(p.QP.Write("w", []ndk.SGE{p.SGE(0, 8)}, s.MR.Base(), token, ndk.SilentSuccess))
				p.exchange(s)
				end(s, p, w)
			}
			p.must(p.QP.Write("w", []ndk.SGE{p.SGE(0, 8)}, s.MR.Base(), token, 0))
			s.lost()
		})
	}
}

// A window is bound to one MR, through one QP: a second Bind fails, and peers of
// other QPs do not get in.
func mwOne(t *T) {
	for _, via := range []string{"the same QP", "another QP"} {
		t.Sub("bound again through "+via, func(t *T) {
			s, p := t.Connected()
			t.needsMW(s)
			w, err := s.PD.CreateMW(s.ctx)
			s.must(err)
			s.close = append(s.close, w.Close)
			s.must(s.QP.Bind("b", s.MR, w, s.MR.Base(), 64, ndk.AllowRemoteWrite))
			s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
			x := s
			if via == "another QP" {
				var y *Side
				x, y = s.fork(), p.fork()
				connect(x, y, limits, limits)
			}
			// Refused by the post, or by its completion.
			if err := x.QP.Bind("again", s.MR, w, s.MR.Base(), 64, ndk.AllowRemoteWrite); err != nil {
				x.want(err, ntstatus.InvalidDeviceRequest, "Bind of a bound window")
			} else {
				x.expect(x.Done(), "again", ntstatus.InvalidDeviceRequest, ndk.OpBind)
			}
		})
	}
	t.Sub("peer of another QP", func(t *T) {
		s, p := t.Connected()
		t.needsMW(s)
		w, err := s.PD.CreateMW(s.ctx)
		s.must(err)
		s.close = append(s.close, w.Close)
		x, y := s.fork(), p.fork()
		connect(x, y, limits, limits)
		s.must(s.QP.Bind("b", s.MR, w, s.MR.Base(), 64, ndk.AllowRemoteWrite))
		s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
		p.Fill(0, 8, 1)
		y.must(y.QP.Write("w", []ndk.SGE{p.SGE(0, 8)}, s.MR.Base(), w.RemoteToken(), 0))
		x.lost()
		y.lost()
		if s.Mem[0] != 0 || s.Mem[7] != 0 {
			t.Error("the peer of another QP wrote through the window")
		}
		// The right one gets in still.
		p.must(p.QP.Write("w", []ndk.SGE{p.SGE(0, 8)}, s.MR.Base(), w.RemoteToken(), ndk.SilentSuccess))
		p.exchange(s)
		s.equal(0, 8, p, 0)
	})
}
