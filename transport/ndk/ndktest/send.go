package ndktest

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

const sendFlags = ndk.SilentSuccess | ndk.ReadFence | ndk.SendAndSolicitEvent | ndk.Inline | ndk.Defer

var _ = row("NDK_FN_SEND", sendUnconnected, sendTakesFlags, sendCompletes, sendEmpty, sendInline, sendLimits)

// A Send on a QP that is not connected is refused inline and completes nothing.
func sendUnconnected(t *T) {
	t.Sub("no connection", func(t *T) {
		t.needsConnection(func(s, _ *Side) error { return s.QP.Send("s", nil, 0) })
	})
	// A message that finds no receive: over iWARP it ends the connection (RFC 5041
	// section 7.2), elsewhere it may wait for one.
	t.Sub("a connection that a Send ended", func(t *T) {
		s, p := t.Connected()
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 8)}, ndk.SilentSuccess))
		// The receive is refused if the connection has ended by then.
		if s.Info.Technology != ndk.TechnologyIWARP && p.QP.Receive("r", []ndk.SGE{p.SGE(0, 8)}) == nil {
			if r := p.Received(); r.Status == ntstatus.Success {
				return // it waited
			}
		}
		s.lost()
		p.lost()
		s.refusal(s.QP.Send("s", nil, 0), ndk.ErrNotConnected, "Send afterwards")
	})
}

// Send takes SilentSuccess, ReadFence, SendAndSolicitEvent, Inline and Defer.
func sendTakesFlags(t *T) {
	s, p := t.Connected()
	s.takesFlags(sendFlags, ndk.OpSend,
		func(i int) { p.must(p.QP.Receive(i, nil)) },
		func(_ int, rc any, f ndk.OpFlags) error { return s.QP.Send(rc, nil, f) },
		func(i int) { p.received(i, 0) })
}

// Every accepted Send has one completion of type Send, in the order of posting; a
// silent one has none if it worked, and has one if it failed.
func sendCompletes(t *T) {
	t.Sub("one each, in order", func(t *T) {
		s, p := t.Connected()
		const rounds = 20
		for round := range rounds {
			for i := range qDepth {
				p.must(p.QP.Receive(round*qDepth+i, []ndk.SGE{p.SGE(i*16, 16)}))
			}
			for i := range qDepth {
				s.Mem[i] = byte(round + i)
				f := ndk.Defer
				if i == qDepth-1 || round%2 == 1 && i%3 == 0 {
					f = 0
				}
				s.must(s.QP.Send(round*qDepth+i, []ndk.SGE{s.SGE(i, 1)}, f))
			}
			for i := range qDepth {
				s.expect(s.Done(), round*qDepth+i, ntstatus.Success, ndk.OpSend)
				p.received(round*qDepth+i, 1)
				if p.Mem[i*16] != byte(round+i) {
					t.Errorf("message %d holds %d", i, p.Mem[i*16])
				}
			}
		}
		s.silence()
	})
	t.Sub("silent", func(t *T) {
		s, p := t.Connected()
		for i := range 10 * qDepth {
			p.must(p.QP.Receive(i, nil))
			f := ndk.SilentSuccess
			if i%qDepth == qDepth-1 {
				f = 0 // its completion frees the slots of those before it
			}
			s.must(s.QP.Send(i, nil, f))
			if f == 0 {
				s.expect(s.Done(), i, ntstatus.Success, ndk.OpSend)
			}
			p.received(i, 0)
		}
		s.silence()
	})
	t.Sub("silent, failed", func(t *T) {
		s, p := t.Connected()
		bad := s.SGE(0, 8)
		bad.Addr--
		s.must(s.QP.Send("bad", []ndk.SGE{bad}, ndk.SilentSuccess|ndk.Defer))
		// What follows is cancelled, or refused if the failure is known already.
		err := s.QP.Send("behind", nil, ndk.SilentSuccess)
		s.violated(s.Done(), "bad", ndk.OpSend, ndk.RuleSGERange)
		if err != nil {
			s.refusal(err, ndk.ErrNotConnected, "Send behind one that failed")
		} else {
			s.expect(s.Done(), "behind", ntstatus.Cancelled, ndk.OpSend)
		}
		s.lost()
		p.lost()
		s.silence()
	})
}

// A Send without bytes is a message without bytes.
func sendEmpty(t *T) {
	s, p := t.Connected()
	for i, sgl := range [][]ndk.SGE{nil, {}, {s.SGE(0, 0)}, {s.SGE(0, 0), s.SGE(100, 0)}} {
		for j, into := range [][]ndk.SGE{nil, {p.SGE(0, 16)}} {
			rc := 10*i + j
			p.must(p.QP.Receive(rc, into))
			s.must(s.QP.Send(rc, sgl[:min(len(sgl), s.QPConfig().MaxInitiatorSGE)], 0))
			s.expect(s.Done(), rc, ntstatus.Success, ndk.OpSend)
			p.received(rc, 0)
		}
	}
	p.untouched(0, 16)
}

// inlineSGL is n bytes in as many SGEs as given, with tokens and addresses that
// mean nothing.
func inlineSGL(n, sges int, seed byte) (sgl []ndk.SGE, data []byte) {
	data = make([]byte, n)
	for i := range data {
		data[i] = seed + byte(i)
	}
	rest := append([]byte(nil), data...)
	for i := range sges {
		k := min(1, len(rest))
		if i == sges-1 {
			k = len(rest)
		}
		sgl = append(sgl, ndk.SGE{Addr: 0xBAD0BAD0BAD0, Token: 0xDEAD, Inline: rest[:k:k]})
		rest = rest[k:]
	}
	return sgl, data
}

// spoil overwrites inline data, which is the caller's again after the post.
func spoil(sgl []ndk.SGE) {
	for _, e := range sgl {
		for i := range e.Inline {
			e.Inline[i] = 0xFF
		}
	}
}

// inline proves what the Inline flag means for a request that post posts and
// that arrived puts the bytes of where it returns.
func (s *Side) inline(typ ndk.OpType, post func(rc any, sgl []ndk.SGE, f ndk.OpFlags) error, arrived func(n int) []byte) {
	s.t.Helper()
	limit := s.QPConfig().InlineDataSize
	sgl, _ := inlineSGL(limit+1, 1, 0)
	s.refusal(post("long", sgl, ndk.Inline), ndk.ErrInlineTooLong, "more than InlineDataSize")
	if limit == 0 {
		s.t.NotOffered("inline data: MaxInlineDataSize is 0")
	}
	for i, sges := range []int{1, s.Info.MaxInitiatorRequestSGE + 1} {
		for _, n := range []int{1, limit} {
			sgl, data := inlineSGL(n, sges, byte(17*i+n))
			s.must(post(n, sgl, ndk.Inline|ndk.Defer))
			spoil(sgl)
			s.must(s.QP.Write("end", nil, 0, 0, ndk.SilentSuccess)) // hands on what was deferred
			s.expect(s.Done(), n, ntstatus.Success, typ)
			if got := arrived(n); string(got) != string(data) {
				s.t.Errorf("%d bytes in %d SGEs arrived as %x, want %x", n, sges, got, data)
			}
		}
	}
}

// With Inline the data is copied within the post: tokens are not looked at, there
// may be more SGEs than MaxInitiatorRequestSGE, and InlineDataSize of the QP is
// the limit.
func sendInline(t *T) {
	s, p := t.Connected()
	post := func(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
		if rc != "long" {
			p.must(p.QP.Receive(rc, []ndk.SGE{p.SGE(0, inlineSz)}))
		}
		return s.QP.Send(rc, sgl, f)
	}
	s.inline(ndk.OpSend, post, func(n int) []byte {
		p.received(n, n)
		return p.Mem[:n]
	})
}

// tooLong is an SGL of one byte more than MaxTransferLength; nil if the SGEs of
// a request cannot say that much.
func (s *Side) tooLong(sges int) (sgl []ndk.SGE) {
	const most = 1<<32 - 1
	for rest := s.Info.MaxTransferLength + 1; rest > 0; {
		if len(sgl) == sges || s.Info.MaxTransferLength+1 == 0 {
			return nil
		}
		e := s.SGE(0, 0)
		e.Length = uint32(min(rest, most))
		rest -= uint64(e.Length)
		sgl = append(sgl, e)
	}
	return sgl
}

// initiatorLimits proves the inline refusals of a request: too many SGEs, too
// many bytes, a full queue. What was deferred before a refused post goes out with
// it, and completes, and nothing else does. ready makes what the peer p needs for
// a request, arrived takes what comes of it there.
func (s *Side) initiatorLimits(p *Side, typ ndk.OpType, ready func(rc any), post func(rc any, sgl []ndk.SGE, f ndk.OpFlags) error, arrived func(rc any)) {
	s.t.Helper()
	q := s.QPConfig()
	s.refusal(post("x", make([]ndk.SGE, q.MaxInitiatorSGE+1), 0), ndk.ErrTooManySGEs, "an SGE too many")
	if sgl := s.tooLong(q.MaxInitiatorSGE); sgl != nil {
		s.refusal(post("x", sgl, 0), ndk.ErrTooLong, "a byte more than MaxTransferLength")
	}
	done := func(rc any) {
		s.t.Helper()
		s.expect(s.Done(), rc, ntstatus.Success, typ)
		arrived(rc)
	}
	ready(0) // one that is deferred, with nothing but the refusal to hand it on
	s.must(post(0, nil, ndk.Defer))
	s.refusal(post("x", make([]ndk.SGE, q.MaxInitiatorSGE+1), 0), ndk.ErrTooManySGEs, "an SGE too many, behind one that is deferred")
	done(0)
	// Nothing completes before the Reads in front of it, so the queue is full
	// then, unless they are done already; in that case it is tried again.
	const slow, attempts = 4, 100
	full := false
	for n := 0; !full; n++ {
		if n == attempts {
			s.t.Fatalf("%d times %d requests were accepted at once, with a depth of %d", n, qDepth+1, qDepth)
		}
		for i := range qDepth - slow {
			ready(i)
		}
		ready("x")
		for range slow {
			s.must(s.QP.Read("slow", []ndk.SGE{s.SGE(0, memSize)}, p.MR.Base(), p.MR.RemoteToken(), 0))
		}
		for i := range qDepth - slow {
			s.must(post(i, nil, ndk.Defer))
		}
		err := post("x", nil, 0)
		full = err != nil
		if full {
			s.refusal(err, ndk.ErrQueueFull, "a request too many")
		}
		for range slow {
			s.expect(s.Done(), "slow", ntstatus.Success, ndk.OpRead)
		}
		for i := range qDepth - slow {
			done(i)
		}
		if full { // there is room again
			s.must(post("x", nil, 0))
		}
		done("x")
	}
	s.silence()
}

// A full queue, too many SGEs and too many bytes are refused inline.
func sendLimits(t *T) {
	s, p := t.Connected()
	s.initiatorLimits(p, ndk.OpSend,
		func(rc any) { p.must(p.QP.Receive(rc, nil)) },
		func(rc any, sgl []ndk.SGE, f ndk.OpFlags) error { return s.QP.Send(rc, sgl, f) },
		func(rc any) { p.received(rc, 0) })
}

var _ = row("NDK_FN_SEND_AND_INVALIDATE", invalidateCompletes, invalidateDead, invalidatePolled, invalidateBad, invalidateLocal, invalidateLimits)

// The sender sees a Send, the receiver a ReceiveAndInvalidate with the token.
func invalidateCompletes(t *T) {
	for name, f := range map[string]ndk.OpFlags{"plain": 0, "solicited": ndk.SendAndSolicitEvent} {
		t.Sub("MR, "+name, func(t *T) {
			s, p := t.Connected()
			m := p.fastMR(0, 4096)
			for i := range 5 { // after each the MR can be registered again, with no Invalidate
				m.register(ndk.AllowRemoteWrite)
				token := m.MR.RemoteToken()
				s.Fill(0, 100, byte(i))
				p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(8192, 200)}))
				s.must(s.QP.SendAndInvalidate("s", []ndk.SGE{s.SGE(0, 100)}, f, token))
				s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
				r := p.Received()
				p.expect(r, "r", ntstatus.Success, ndk.OpReceiveAndInvalidate)
				if r.InvalidatedToken != token || r.Bytes != 100 {
					t.Errorf("token %#x and %d bytes reported, want %#x and 100", r.InvalidatedToken, r.Bytes, token)
				}
				p.equal(8192, 100, s, 0)
			}
		})
		t.Sub("MW, "+name, func(t *T) {
			s, p := t.Connected()
			w := p.newMW()
			for range 5 {
				p.bind(w, 0, 64, ndk.AllowRemoteWrite)
				p.must(p.QP.Receive("r", nil))
				s.must(s.QP.SendAndInvalidate("s", nil, f, w.RemoteToken()))
				s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
				r := p.Received()
				p.expect(r, "r", ntstatus.Success, ndk.OpReceiveAndInvalidate)
				if r.InvalidatedToken != w.RemoteToken() {
					t.Errorf("token %#x reported, want %#x", r.InvalidatedToken, w.RemoteToken())
				}
			}
		})
	}
}

// When the receive completion is visible the token is dead.
func invalidateDead(t *T) {
	for _, op := range []string{"Write", "Read"} {
		t.Sub(op, func(t *T) {
			s, p := t.Connected()
			m := p.fastMR(0, 4096)
			m.register(ndk.AllowRemoteWrite | ndk.AllowRemoteRead)
			token := m.MR.RemoteToken()
			s.put(p, 0, 8, m.base, token)
			s.sendAndInvalidate(p, token)
			s.Fill(0, 8, 1)
			if op == "Write" {
				s.denied(p, s.QP.Write("x", []ndk.SGE{s.SGE(0, 8)}, m.base, token, 0))
			} else {
				s.deniedRead(p, "x", s.QP.Read("x", []ndk.SGE{s.SGE(0, 8)}, m.base, token, 0))
			}
			p.untouched(0, 8)
		})
	}
	t.Sub("local", func(t *T) {
		s, p := t.Connected()
		m := p.fastMR(0, 4096)
		m.register(ndk.AllowRemoteWrite)
		e := m.sge(0, 8)
		p.message(s, []ndk.SGE{e}, 0, 8)
		s.sendAndInvalidate(p, m.MR.RemoteToken())
		p.must(p.QP.Send("s", []ndk.SGE{e}, 0))
		p.violated(p.Done(), "s", ndk.OpSend, ndk.RuleSGERange, ndk.RuleInvalidated)
	})
}

// Poll shows a receive, without the token; the token is dead all the same.
func invalidatePolled(t *T) {
	s, p := t.Connected()
	m := p.fastMR(0, 4096)
	m.register(ndk.AllowRemoteWrite)
	token := m.MR.RemoteToken()
	p.must(p.QP.Receive("r", nil))
	s.must(s.QP.SendAndInvalidate("s", nil, 0, token))
	s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
	var r [1]ndk.Result
	for p.RCQ.Poll(r[:]) == 0 {
		p.RCQ.Arm(ndk.ArmAny)
		select {
		case <-p.rev.C():
		case <-p.ctx.Done():
			t.Fatal("no completion")
		}
	}
	if want := (ndk.Result{QPContext: p, RequestContext: "r"}); r[0] != want {
		t.Errorf("Poll has %+v, want %+v", r[0], want)
	}
	s.denied(p, s.QP.Write("w", []ndk.SGE{s.SGE(0, 1)}, m.base, token, 0))
}

// A token that the peer may not invalidate makes the receiver end the connection,
// and the sender hears of it later.
func invalidateBad(t *T) {
	for _, tc := range []struct {
		name  string
		token func(s, p *Side) ndk.Token
	}{
		{"unknown", func(_, _ *Side) ndk.Token { return 0x12345678 }},
		{"of a normal MR", func(_, p *Side) ndk.Token { return p.MR.RemoteToken() }},
		{"privileged", func(_, p *Side) ndk.Token { return p.PD.PrivilegedToken() }},
		{"of another PD", func(s, p *Side) ndk.Token {
			// Registered on a connection of its own.
			pd, err := p.A.CreatePD(p.ctx)
			p.must(err)
			y := p.shallow()
			y.PD = pd
			y.QP, err = pd.CreateQP(p.ctx, y.QPConfig())
			p.must(err)
			p.close = append(p.close, pd.Close, y.QP.Close)
			connect(s.sibling(nil), y, limits, limits)
			m := y.fastMR(0, 64)
			m.register(ndk.AllowRemoteWrite)
			p.close = append(p.close, append([]func(){y.C.Close}, y.close...)...)
			return m.MR.RemoteToken()
		}},
		{"invalidated before", func(s, p *Side) ndk.Token {
			m := p.fastMR(0, 64)
			m.register(ndk.AllowRemoteWrite)
			s.sendAndInvalidate(p, m.MR.RemoteToken())
			return m.MR.RemoteToken()
		}},
		{"of a registration before", func(_, p *Side) ndk.Token {
			m := p.fastMR(0, 64)
			m.register(ndk.AllowRemoteWrite)
			token := m.MR.RemoteToken()
			p.invalidate(m.MR)
			m.register(ndk.AllowRemoteWrite)
			return token
		}},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Connected()
			token := tc.token(s, p)
			p.must(p.QP.Receive("r", nil))
			s.must(s.QP.SendAndInvalidate("s", nil, ndk.SilentSuccess, token))
			p.failed(p.Received(), "r", ndk.OpReceive)
			s.lost()
			p.lost()
			if err := s.QP.Send("later", nil, 0); err != nil {
				s.refusal(err, ndk.ErrNotConnected, "Send afterwards")
				return
			}
			r := s.Done()
			if r.RequestContext == "s" { // the failure came back to the sender
				s.failed(r, "s", ndk.OpSend)
				r = s.Done()
			}
			s.failed(r, "later", ndk.OpSend)
		})
	}
}

// A local Invalidate of what the peer has invalidated fails.
func invalidateLocal(t *T) {
	t.Sub("MR", func(t *T) {
		s, p := t.Connected()
		m := p.fastMR(0, 4096)
		m.register(ndk.AllowRemoteWrite)
		s.sendAndInvalidate(p, m.MR.RemoteToken())
		p.must(p.QP.Invalidate("i", m.MR, 0))
		p.expect(p.Done(), "i", ntstatus.InvalidDeviceRequest, ndk.OpInvalidate)
	})
	t.Sub("MW", func(t *T) {
		s, p := t.Connected()
		w := p.newMW()
		p.bind(w, 0, 64, ndk.AllowRemoteWrite)
		s.sendAndInvalidate(p, w.RemoteToken())
		p.must(p.QP.Invalidate("i", w, 0))
		p.expect(p.Done(), "i", ntstatus.InvalidDeviceRequest, ndk.OpInvalidate)
	})
}

// Flags and limits are those of Send.
func invalidateLimits(t *T) {
	t.Sub("connection", func(t *T) {
		t.needsConnection(func(s, _ *Side) error { return s.QP.SendAndInvalidate("s", nil, 0, 1) })
	})
	t.Sub("flags", func(t *T) {
		s, p := t.Connected()
		ms := []*fastMR{p.fastMR(0, 64), p.fastMR(4096, 64)}
		s.takesFlags(sendFlags, ndk.OpSend,
			func(i int) {
				ms[i].register(ndk.AllowRemoteWrite)
				p.must(p.QP.Receive(i, nil))
			},
			func(i int, rc any, f ndk.OpFlags) error {
				return s.QP.SendAndInvalidate(rc, nil, f, ms[i].MR.RemoteToken())
			},
			func(i int) { p.expect(p.Received(), i, ntstatus.Success, ndk.OpReceiveAndInvalidate) })
	})
	t.Sub("silent, failed", func(t *T) {
		s, p := t.Connected()
		m := p.fastMR(0, 64)
		m.register(ndk.AllowRemoteWrite)
		bad := s.SGE(0, 8)
		bad.Addr--
		s.must(s.QP.SendAndInvalidate("bad", []ndk.SGE{bad}, ndk.SilentSuccess, m.MR.RemoteToken()))
		s.violated(s.Done(), "bad", ndk.OpSend, ndk.RuleSGERange)
		s.silence()
	})
	t.Sub("inline", func(t *T) {
		s, p := t.Connected()
		m := p.fastMR(4096, 64)
		post := func(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
			if rc != "long" {
				m.register(ndk.AllowRemoteWrite)
				p.must(p.QP.Receive(rc, []ndk.SGE{p.SGE(0, inlineSz)}))
			}
			return s.QP.SendAndInvalidate(rc, sgl, f, m.MR.RemoteToken())
		}
		s.inline(ndk.OpSend, post, func(n int) []byte {
			r := p.Received()
			p.expect(r, n, ntstatus.Success, ndk.OpReceiveAndInvalidate)
			return p.Mem[:r.Bytes]
		})
	})
	t.Sub("limits", func(t *T) {
		s, p := t.Connected()
		ms := make(map[any]*fastMR)
		for i := range qDepth {
			ms[i] = p.fastMR(i*ndk.PageSize, 64)
		}
		ms["x"] = ms[qDepth-1]
		s.initiatorLimits(p, ndk.OpSend,
			func(rc any) {
				ms[rc].register(ndk.AllowRemoteWrite)
				p.must(p.QP.Receive(rc, nil))
			},
			func(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
				return s.QP.SendAndInvalidate(rc, sgl, f, ms[rc].MR.RemoteToken())
			},
			func(rc any) { p.expect(p.Received(), rc, ntstatus.Success, ndk.OpReceiveAndInvalidate) })
	})
}
