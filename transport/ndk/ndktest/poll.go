package ndktest

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_GET_CQ_RESULTS", pollCount, pollOrder, pollInvalidated, pollAllocations, pollBytes)

// Poll returns 0 on an empty CQ and never more than len(dst).
func pollCount(t *T) {
	w := t.watch(16, nil)
	if n := w.cq.Poll(make([]ndk.Result, 4)); n != 0 {
		t.Errorf("%d results of an empty CQ", n)
	}
	w.messages(6, 0)
	if n := w.cq.Poll(nil); n != 0 {
		t.Errorf("%d results into nothing", n)
	}
	for total := 0; total < 6; {
		dst := make([]ndk.Result, 4)
		n := w.cq.Poll(dst[:2])
		if n < 0 || n > 2 || dst[2] != (ndk.Result{}) {
			t.Fatalf("%d results into 2, with %+v behind them", n, dst[2])
		}
		total += n
		if w.p.ctx.Err() != nil {
			t.Fatal("no completion")
		}
	}
	if n := w.cq.Poll(make([]ndk.Result, 4)); n != 0 {
		t.Errorf("%d results too many", n)
	}
}

// Initiator completions of one QP come in post order, whatever they are, and
// receive completions likewise.
func pollOrder(t *T) {
	s, p := t.Connected()
	const rounds = 4
	var want []ndk.OpType
	for i := range rounds {
		p.must(p.QP.Receive(i, nil))
		s.must(s.QP.Read(len(want), []ndk.SGE{s.SGE(0, 4096)}, p.MR.Base(), p.MR.RemoteToken(), 0))
		s.must(s.QP.Write(len(want)+1, []ndk.SGE{s.SGE(8192, 4096)}, p.MR.Base()+8192, p.MR.RemoteToken(), 0))
		s.must(s.QP.Send(len(want)+2, nil, 0))
		want = append(want, ndk.OpRead, ndk.OpWrite, ndk.OpSend)
	}
	for i, typ := range want {
		s.expect(s.Done(), i, ntstatus.Success, typ)
	}
	for i := range rounds {
		p.expect(p.Received(), i, ntstatus.Success, ndk.OpReceive)
	}
}

// invalidated makes p receive one message that invalidates a token of its own,
// and returns the token.
func invalidated(s, p *Side) ndk.Token {
	s.t.Helper()
	m, lam, fbo := p.fast(0, 4096)
	p.must(p.QP.FastRegister("fr", m, lam.Pages, fbo, 4096, p.MR.Base(), ndk.AllowRemoteWrite))
	p.expect(p.Done(), "fr", ntstatus.Success, ndk.OpFastRegister)
	token := m.RemoteToken()
	p.must(p.QP.Receive("ri", nil))
	s.must(s.QP.SendAndInvalidate("si", nil, 0, token))
	s.expect(s.Done(), "si", ntstatus.Success, ndk.OpSend)
	return token
}

// A ReceiveAndInvalidate completion is returned too, as a plain receive.
func pollInvalidated(t *T) {
	s, p := t.Connected()
	invalidated(s, p)
	var r [1]ndk.Result
	for p.RCQ.Poll(r[:]) == 0 {
		if p.ctx.Err() != nil {
			t.Fatal("no completion")
		}
	}
	if r[0].RequestContext != "ri" || r[0].Status != ntstatus.Success {
		t.Errorf("%+v", r[0])
	}
}

// Poll allocates nothing, neither on an empty CQ nor with a completion.
func pollAllocations(t *T) { pollsWithoutAllocation(t, false) }

func pollsWithoutAllocation(t *T, ex bool) {
	const runs = 20
	t.Bare()
	w := t.watch(32, nil)
	r, x := make([]ndk.Result, 1), make([]ndk.ResultEx, 1)
	poll := func() int {
		if ex {
			return w.cq.PollEx(x)
		}
		return w.cq.Poll(r)
	}
	if n := testing.AllocsPerRun(runs, func() { poll() }); n != 0 {
		t.Errorf("%v allocations for an empty poll", n)
	}
	w.messages(runs+1, 0) // AllocsPerRun makes one run more
	got := 0
	if n := testing.AllocsPerRun(runs, func() { got += poll() }); n != 0 {
		t.Errorf("%v allocations for a poll", n)
	}
	w.drain(runs + 1 - got)
}

// Bytes is the length of the message, for receives.
func pollBytes(t *T) {
	s, p := t.Connected()
	for _, n := range []int{0, 1, 100, 4096} {
		p.must(p.QP.Receive(n, []ndk.SGE{p.SGE(0, 8192)}))
		s.must(s.QP.Send(n, []ndk.SGE{s.SGE(0, n)}, ndk.SilentSuccess))
		r := p.Received()
		p.expect(r, n, ntstatus.Success, ndk.OpReceive)
		if int(r.Bytes) != n {
			t.Errorf("%d bytes of a message of %d", r.Bytes, n)
		}
	}
}

var _ = row("NDK_FN_GET_CQ_RESULTS_EX", pollMixed, pollTypes, pollToken, pollProviderError, pollExAllocations)

// PollEx takes from the same queue as Poll, in the same order, and the two may
// be mixed.
func pollMixed(t *T) {
	const messages = 12
	w := t.watch(16, nil)
	for i := range messages {
		w.p.must(w.p.QP.Receive(i, nil))
		w.s.must(w.s.QP.Send(i, nil, ndk.SilentSuccess))
	}
	var r [1]ndk.Result
	var x [1]ndk.ResultEx
	for next := 0; next < messages; {
		n := w.cq.Poll(r[:])
		if n == 1 && r[0].RequestContext != next {
			t.Errorf("Poll: %v, want %d", r[0].RequestContext, next)
		}
		next += n
		n = w.cq.PollEx(x[:])
		if n == 1 && x[0].RequestContext != next {
			t.Errorf("PollEx: %v, want %d", x[0].RequestContext, next)
		}
		next += n
		if w.p.ctx.Err() != nil {
			t.Fatal("no completion")
		}
	}
}

// ops posts one request of each kind of operation of the initiator queue.
func (s *Side) ops(p *Side, f ndk.OpFlags) (want []ndk.OpType) {
	t := s.t
	t.Helper()
	post := func(typ ndk.OpType, err error) {
		t.Helper()
		s.must(err)
		want = append(want, typ)
	}
	m, lam, fbo := s.fast(0, 4096)
	post(ndk.OpSend, s.QP.Send(ndk.OpSend, nil, f))
	post(ndk.OpFastRegister, s.QP.FastRegister(ndk.OpFastRegister, m, lam.Pages, fbo, 4096, s.MR.Base(), f|ndk.AllowRemoteRead))
	post(ndk.OpInvalidate, s.QP.Invalidate(ndk.OpInvalidate, m, f))
	if s.Info.MaxWindowSize > 0 {
		mw, err := s.PD.CreateMW(s.ctx)
		s.must(err)
		s.close = append(s.close, mw.Close)
		post(ndk.OpBind, s.QP.Bind(ndk.OpBind, s.MR, mw, s.MR.Base(), 64, f|ndk.AllowRemoteRead))
	}
	post(ndk.OpWrite, s.QP.Write(ndk.OpWrite, []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), p.MR.RemoteToken(), f))
	post(ndk.OpRead, s.QP.Read(ndk.OpRead, []ndk.SGE{s.SGE(8192, 8)}, p.MR.Base(), p.MR.RemoteToken(), f))
	return want
}

// Type is right for each kind of operation, for failed and cancelled requests
// too. A ReceiveAndInvalidate is in the proof of statement 3.
func pollTypes(t *T) {
	t.Sub("success", func(t *T) {
		s, p := t.Connected()
		p.must(p.QP.Receive("r", nil))
		for _, typ := range s.ops(p, 0) {
			s.expect(s.Done(), typ, ntstatus.Success, typ)
		}
		p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
	})
	t.Sub("cancelled", func(t *T) {
		// Behind Reads and a fence they are not done when the Flush comes; if they are
		// all the same, which is legal, it is tried again.
		const slow, tries = 4, 50
		for range tries {
			s, p := t.Connected()
			p.must(p.QP.Receive("r", nil))
			s.must(s.QP.Receive("r", nil))
			for range slow {
				s.must(s.QP.Read("slow", []ndk.SGE{s.SGE(0, memSize)}, p.MR.Base(), p.MR.RemoteToken(), 0))
			}
			want := s.ops(p, ndk.Defer|ndk.ReadFence)
			s.QP.Flush()
			for range slow {
				if r := s.Done(); r.RequestContext != "slow" || r.Type != ndk.OpRead {
					t.Fatalf("completion of %v, %v; want that of a Read", r.RequestContext, r.Type)
				}
			}
			cancelled := 0
			for _, typ := range want {
				r := s.Done()
				if r.Status == ntstatus.Cancelled {
					cancelled++
				}
				if r.RequestContext != typ || r.Type != typ || r.Status != ntstatus.Cancelled && r.Status != ntstatus.Success {
					t.Errorf("completion of %v: %v, %v; want the type of the request, cancelled", r.RequestContext, r.Status, r.Type)
				}
			}
			s.expect(s.Received(), "r", ntstatus.Cancelled, ndk.OpReceive)
			if cancelled == len(want) {
				return
			}
		}
		t.Errorf("%d times some of the requests had worked before the Flush", tries)
	})
	for _, tc := range []struct {
		typ  ndk.OpType
		post func(s, p *Side, bad ndk.SGE) error
	}{
		{ndk.OpSend, func(s, _ *Side, bad ndk.SGE) error { return s.QP.Send("x", []ndk.SGE{bad}, 0) }},
		{ndk.OpWrite, func(s, p *Side, bad ndk.SGE) error {
			return s.QP.Write("x", []ndk.SGE{bad}, p.MR.Base(), p.MR.RemoteToken(), 0)
		}},
		{ndk.OpRead, func(s, p *Side, bad ndk.SGE) error {
			return s.QP.Read("x", []ndk.SGE{bad}, p.MR.Base(), p.MR.RemoteToken(), 0)
		}},
	} {
		t.Sub("failed "+tc.typ.String(), func(t *T) {
			s, p := t.Connected()
			bad := s.SGE(memSize-4, 8) // four bytes past the region
			s.must(tc.post(s, p, bad))
			s.expect(s.Done(), "x", ntstatus.AccessViolation, tc.typ)
		})
	}
}

// ReceiveAndInvalidate carries the token that was invalidated.
func pollToken(t *T) {
	s, p := t.Connected()
	token := invalidated(s, p)
	r := p.Received()
	p.expect(r, "ri", ntstatus.Success, ndk.OpReceiveAndInvalidate)
	if r.InvalidatedToken != token {
		t.Errorf("token %#x, want %#x", r.InvalidatedToken, token)
	}
}

// ProviderError is 0 on success.
func pollProviderError(t *T) {
	s, p := t.Connected()
	p.must(p.QP.Receive("r", nil))
	for range s.ops(p, 0) {
		if r := s.Done(); r.ProviderError != 0 || r.Err() != nil {
			t.Errorf("provider error %#x, %v of a successful %v", r.ProviderError, r.Err(), r.Type)
		}
	}
	if r := p.Received(); r.ProviderError != 0 {
		t.Errorf("provider error %#x of a successful %v", r.ProviderError, r.Type)
	}
}

// PollEx allocates nothing.
func pollExAllocations(t *T) { pollsWithoutAllocation(t, true) }
