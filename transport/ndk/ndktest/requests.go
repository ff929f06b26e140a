package ndktest

import (
	"errors"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// What the proofs about memory and work requests share: regions, one-line
// transfers, and ways to say that something was refused.

// newMR makes an MR that is closed with the side.
func (s *Side) newMR(fast bool) ndk.MR {
	s.t.Helper()
	m, err := s.PD.CreateMR(s.ctx, fast)
	s.must(err)
	s.close = append(s.close, m.Close)
	return m
}

// region registers n bytes at off of the buffer as a region of its own.
func (s *Side) region(off, n int, f ndk.MRFlags) ndk.MR {
	s.t.Helper()
	m := s.newMR(false)
	s.must(m.Register(s.ctx, ndk.Memory{s.Mem[off : off+n]}, n, f))
	return m
}

// in is n bytes at off of a region.
func in(m ndk.MR, off, n int) ndk.SGE {
	return ndk.SGE{Addr: m.Base() + uint64(off), Length: uint32(n), Token: m.LocalToken()}
}

// lam maps n bytes at off of the buffer; it is released with the side.
func (s *Side) lam(off, n int) (*ndk.LAM, uint32) {
	s.t.Helper()
	lam := new(ndk.LAM)
	fbo, err := s.A.BuildLAM(s.ctx, ndk.Memory{s.Mem[off : off+n]}, n, lam)
	s.must(err)
	s.close = append(s.close, func() { s.A.ReleaseLAM(lam) })
	return lam, fbo
}

// fastMR is an initialised fast-register MR with the pages that its
// registrations are of.
type fastMR struct {
	s    *Side
	MR   ndk.MR
	lam  *ndk.LAM
	fbo  uint32
	n    uint64
	base uint64 // the address of the memory, which every adapter takes as base
}

// fastMR makes a fast-register MR for n bytes at off of the buffer.
func (s *Side) fastMR(off, n int) *fastMR {
	s.t.Helper()
	m, lam, fbo := s.fast(off, n)
	return &fastMR{s: s, MR: m, lam: lam, fbo: fbo, n: uint64(n), base: s.MR.Base() + uint64(off)}
}

// post posts a FastRegister on the QP of s.
func (f *fastMR) post(s *Side, rc any, flags ndk.OpFlags) error {
	return s.QP.FastRegister(rc, f.MR, f.lam.Pages, f.fbo, f.n, f.base, flags)
}

// register registers and waits for the completion.
func (f *fastMR) register(flags ndk.OpFlags) {
	f.s.t.Helper()
	f.s.must(f.post(f.s, "register", flags))
	f.s.expect(f.s.Done(), "register", ntstatus.Success, ndk.OpFastRegister)
}

// invalidate invalidates and waits for the completion.
func (s *Side) invalidate(o ndk.Invalidatable) {
	s.t.Helper()
	s.must(s.QP.Invalidate("invalidate", o, 0))
	s.expect(s.Done(), "invalidate", ntstatus.Success, ndk.OpInvalidate)
}

// sge is n bytes at off of the registered memory.
func (f *fastMR) sge(off, n int) ndk.SGE {
	return ndk.SGE{Addr: f.base + uint64(off), Length: uint32(n), Token: f.MR.LocalToken()}
}

// newMW makes a window that is closed with the side. On an adapter without
// windows it checks that CreateMW says so, and ends the test.
func (s *Side) newMW() ndk.MW {
	s.t.Helper()
	w, err := s.PD.CreateMW(s.ctx)
	if s.Info.MaxWindowSize == 0 {
		s.want(err, ntstatus.NotSupported, "CreateMW of an adapter without windows")
		s.t.NotOffered("memory windows: MaxWindowSize is 0")
	}
	s.must(err)
	s.close = append(s.close, w.Close)
	return w
}

// bind binds n bytes at off of the buffer to w and waits for the completion.
func (s *Side) bind(w ndk.MW, off, n int, f ndk.OpFlags) {
	s.t.Helper()
	s.must(s.QP.Bind("bind", s.MR, w, s.MR.Base()+uint64(off), uint64(n), f))
	s.expect(s.Done(), "bind", ntstatus.Success, ndk.OpBind)
}

// put writes n bytes at off of s to an address of p; a message behind them
// proves that they are in place.
func (s *Side) put(p *Side, off, n int, addr uint64, token ndk.Token) {
	s.t.Helper()
	s.must(s.QP.Write("put", []ndk.SGE{s.SGE(off, n)}, addr, token, 0))
	s.expect(s.Done(), "put", ntstatus.Success, ndk.OpWrite)
	s.exchange(p)
}

// get reads n bytes from an address of the peer to off of s.
func (s *Side) get(off, n int, addr uint64, token ndk.Token) {
	s.t.Helper()
	s.must(s.QP.Read("get", []ndk.SGE{s.SGE(off, n)}, addr, token, 0))
	s.expect(s.Done(), "get", ntstatus.Success, ndk.OpRead)
}

// message sends sgl, which is n bytes, to off of the buffer of p.
func (s *Side) message(p *Side, sgl []ndk.SGE, off, n int) {
	s.t.Helper()
	p.must(p.QP.Receive("message", []ndk.SGE{p.SGE(off, n)}))
	s.must(s.QP.Send("message", sgl, 0))
	s.expect(s.Done(), "message", ntstatus.Success, ndk.OpSend)
	p.received("message", n)
}

// received takes the next receive completion, which is that of a message of n
// bytes.
func (s *Side) received(rc any, n int) {
	s.t.Helper()
	r := s.Received()
	s.expect(r, rc, ntstatus.Success, ndk.OpReceive)
	if r.Bytes != uint32(n) {
		s.t.Errorf("receive %v: %d bytes, want %d", rc, r.Bytes, n)
	}
}

// denied waits for the end of the connection at both ends: the adapter of p
// refused what s had posted with that result.
func (s *Side) denied(p *Side, err error) {
	s.t.Helper()
	s.must(err)
	s.lost()
	p.lost()
}

// deniedRead is denied for a Read, which moreover completes with a failure.
func (s *Side) deniedRead(p *Side, rc any, err error) ndk.ResultEx {
	s.t.Helper()
	s.must(err)
	r := s.Done()
	s.failed(r, rc, ndk.OpRead)
	s.lost()
	p.lost()
	return r
}

// refusal fails unless a post was refused inline for the reason of want: with its
// status, and with an error that names the rule. A post that breaks two rules may
// be refused for either.
func (s *Side) refusal(err error, want *ndk.PostError, what string, or ...*ndk.PostError) {
	s.t.Helper()
	var got *ndk.PostError
	switch {
	case !errors.Is(err, want.Status):
		s.t.Errorf("%s: %v, want %v", what, err, want)
	case !errors.As(err, &got):
		s.t.Errorf("%s: %v (%T), want a *ndk.PostError", what, err, err)
	default:
		for _, w := range append(or, want) {
			if got.Rule == w.Rule {
				return
			}
		}
		s.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// failed checks a completion that must not be a success, and that the rule it
// names, if it names one, is among rules.
func (s *Side) failed(r ndk.ResultEx, rc any, typ ndk.OpType, rules ...ndk.Rule) {
	s.t.Helper()
	if r.Status == ntstatus.Success || r.RequestContext != rc || r.Type != typ {
		s.t.Errorf("completion of %v: %v, %v; want %v: a failure, %v", r.RequestContext, r.Status, r.Type, rc, typ)
	}
	if len(rules) == 0 || r.ProviderError>>24 != uint32(ndk.RuleConnected)>>24 {
		return
	}
	for _, rule := range rules {
		if ndk.Rule(r.ProviderError) == rule {
			return
		}
	}
	s.t.Errorf("completion of %v names the rule that %v, want the rule that %v", rc, ndk.Rule(r.ProviderError), rules)
}

// violated checks a completion that failed with AccessViolation by the
// consumer's mistake.
func (s *Side) violated(r ndk.ResultEx, rc any, typ ndk.OpType, rules ...ndk.Rule) {
	s.t.Helper()
	s.failed(r, rc, typ, rules...)
	if r.Status != ntstatus.AccessViolation {
		s.t.Errorf("completion of %v: %v, want %v", rc, r.Status, ntstatus.AccessViolation)
	}
}

// untouched checks that n bytes at off of the buffer are as a new one has them.
func (s *Side) untouched(off, n int) {
	s.t.Helper()
	for i, b := range s.Mem[off : off+n] {
		if b != 0 {
			s.t.Errorf("byte %d was changed to %#x", off+i, b)
			return
		}
	}
}

// silence closes the QP of s and proves that no completion was owed any more:
// before a QP is closed all it owes is delivered. The last request was not a
// silent one, which the close might still cancel.
func (s *Side) silence() {
	s.t.Helper()
	if s.C != nil {
		s.C.Close()
	}
	s.must(ndk.CloseWait(s.ctx, s.QP))
	for what, cq := range map[string]ndk.CQ{"receive": s.RCQ, "initiator": s.ICQ} {
		var r [1]ndk.ResultEx
		if cq.PollEx(r[:]) != 0 {
			s.t.Errorf("a completion too many of the %s queue: %v, %v, %v", what, r[0].RequestContext, r[0].Status, r[0].Type)
		}
	}
}

// needsConnection proves that a request is refused inline on a QP that has no
// connection, yet or any more, and that nothing completes for it.
func (t *T) needsConnection(post func(s, p *Side) error) {
	t.Helper()
	s, p := t.Pair()
	s.refusal(post(s, p), ndk.ErrNotConnected, "before the connection")
	connect(s, p, limits, limits) // the first completion is that of its first message
	s.must(s.C.Disconnect(s.ctx))
	s.refusal(post(s, p), ndk.ErrNotConnected, "after the connection")
	s.silence()
}

// takesFlags proves that a request takes each flag of a set, all of them
// together, and no other bit. At most two requests are under way at a time, told
// apart by i: ready makes what the peer needs for one, post posts it, and arrived
// takes what comes of it at the peer.
func (s *Side) takesFlags(allowed ndk.OpFlags, typ ndk.OpType, ready func(i int), post func(i int, rc any, f ndk.OpFlags) error, arrived func(i int)) {
	s.t.Helper()
	accepted := func(f ndk.OpFlags) {
		s.t.Helper()
		ready(0)
		s.must(post(0, f, f))
		// One without flags ends a chain of deferred ones, and its completion is
		// behind the one that a silent request must not have.
		ready(1)
		s.must(post(1, "end", 0))
		if f&ndk.SilentSuccess == 0 {
			s.expect(s.Done(), f, ntstatus.Success, typ)
		}
		s.expect(s.Done(), "end", ntstatus.Success, typ)
		arrived(0)
		arrived(1)
	}
	for bit := range 32 {
		f := ndk.OpFlags(1) << bit
		if allowed&f == 0 {
			s.refusal(post(0, "refused", f), ndk.ErrFlags, "a flag of other requests")
			s.refusal(post(0, "refused", f|allowed), ndk.ErrFlags, "a flag of other requests among those that are allowed")
			continue
		}
		accepted(f)
	}
	accepted(allowed)
	accepted(allowed &^ ndk.SilentSuccess)
	s.silence()
}

// exchangeBack makes sure that what s sent has arrived at o: o reads it from the
// stream before it answers a Read.
func (s *Side) exchangeBack(o *Side) {
	s.t.Helper()
	s.must(s.QP.Read("back", []ndk.SGE{s.SGE(memSize-8, 8)}, o.MR.Base(), o.MR.RemoteToken(), 0))
	s.expect(s.Done(), "back", ntstatus.Success, ndk.OpRead)
}
