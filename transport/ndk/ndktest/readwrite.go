package ndktest

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_READ", readUnconnected, readData, readLimit, readRemote, readSinks, readLocalInvalidate)

// A Read on a QP that is not connected is refused inline and completes nothing.
func readUnconnected(t *T) {
	t.needsConnection(func(s, p *Side) error {
		return s.QP.Read("r", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), p.MR.RemoteToken(), 0)
	})
}

// sinks is n bytes at off in as many SGEs as a Read of the suite may have, at
// most k.
func (s *Side) sinks(off, n, k int) (sgl []ndk.SGE) {
	k = min(k, s.Info.MaxReadRequestSGE, s.QPConfig().MaxInitiatorSGE)
	for i := range k {
		part := n / (k - i)
		sgl = append(sgl, s.SGE(off, part))
		off += part
		n -= part
	}
	return sgl
}

// The bytes are in the sink when the completion, of type Read, is visible.
func readData(t *T) {
	for _, k := range []int{1, 2, qSGEs} {
		s, p := t.Connected()
		for i, n := range sizes {
			p.Fill(i, n, byte(i))
			clear(s.Mem[:n+8])
			s.must(s.QP.Read(n, s.sinks(3, n, k), p.MR.Base()+uint64(i), p.MR.RemoteToken(), 0))
			s.expect(s.Done(), n, ntstatus.Success, ndk.OpRead)
			s.equal(3, n, p, i)
			s.untouched(0, 3)
			s.untouched(3+n, 5)
		}
		// Without an SGE at all it is legal too.
		s.must(s.QP.Read("nothing", nil, p.MR.Base(), p.MR.RemoteToken(), 0))
		s.expect(s.Done(), "nothing", ntstatus.Success, ndk.OpRead)
		s.silence()
	}
}

// Reads over the effective limit wait their turn, in order; with a limit of 0
// there are none.
func readLimit(t *T) {
	for _, tc := range []struct {
		name            string
		active, passive ndk.ConnParams
	}{
		{"own limit of 1", ndk.ConnParams{InboundReadLimit: 4, OutboundReadLimit: 1}, limits},
		{"peer's limit of 1", limits, ndk.ConnParams{InboundReadLimit: 1, OutboundReadLimit: 4}},
		{"4 of both", limits, limits},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Pair()
			connect(s, p, tc.active, tc.passive)
			p.Fill(0, qDepth*2048, 5)
			for i := range qDepth {
				s.must(s.QP.Read(i, []ndk.SGE{s.SGE(i*2048, 2048)}, p.MR.Base()+uint64(i*2048), p.MR.RemoteToken(), 0))
			}
			for i := range qDepth {
				s.expect(s.Done(), i, ntstatus.Success, ndk.OpRead)
				s.equal(i*2048, 2048, p, i*2048)
			}
			s.exchange(p) // and the connection goes on
		})
	}
	for _, tc := range []struct {
		name            string
		active, passive ndk.ConnParams
	}{
		{"own limit of 0", ndk.ConnParams{InboundReadLimit: 4}, limits},
		{"peer's limit of 0", limits, ndk.ConnParams{OutboundReadLimit: 4}},
	} {
		if t.ReadyByRead && tc.active.OutboundReadLimit > 0 {
			continue // the peer's limit is 1 at least
		}
		t.Sub(tc.name, func(t *T) {
			s, p := t.Pair()
			connect(s, p, tc.active, tc.passive)
			s.refusal(s.QP.Read("r", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), p.MR.RemoteToken(), 0), ndk.ErrReadLimit, "Read with a limit of 0")
			// In the other direction it is as ever.
			s.Fill(0, 8, 1)
			p.get(0, 8, s.MR.Base(), s.MR.RemoteToken())
			p.equal(0, 8, s, 0)
			s.silence()
		})
	}
}

// A Read past the end of the remote region, or without the right, fails and ends
// the connection.
func readRemote(t *T) {
	for _, tc := range []struct {
		name  string
		flags ndk.MRFlags
		off   int // from the base of a region of 64 bytes
		n     int
		want  ndk.Status // Success: any failure
	}{
		{"a byte past the end", ndk.MRAllowRemoteRead, 0, 65, ntstatus.RemoteResources},
		{"right behind the end", ndk.MRAllowRemoteRead, 64, 1, ntstatus.RemoteResources},
		{"a byte before", ndk.MRAllowRemoteRead, -1, 8, ntstatus.RemoteResources},
		{"much past the end", ndk.MRAllowRemoteRead, 0, 200000, ntstatus.RemoteResources},
		{"without remote read", ndk.MRAllowRemoteWrite, 0, 8, ntstatus.Success},
		{"without remote rights", ndk.MRAllowLocalWrite, 0, 8, ntstatus.Success},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Connected()
			m := p.region(4096, 64, tc.flags)
			p.Fill(0, 300000, 9)
			r := s.deniedRead(p, "r", s.QP.Read("r", []ndk.SGE{s.SGE(0, tc.n)}, m.Base()+uint64(tc.off), m.RemoteToken(), 0))
			if tc.want != ntstatus.Success && r.Status != tc.want {
				t.Errorf("%v, want %v", r.Status, tc.want)
			}
			s.untouched(0, tc.n)
		})
	}
}

// The sink needs local write and, on adapters that ask for it, RDMAReadSink.
func readSinks(t *T) {
	sinks := []struct {
		name        string
		write, sink bool
	}{{"all", true, true}, {"no local write", false, true}, {"no RDMAReadSink", true, false}}
	for _, fast := range []bool{false, true} {
		for _, tc := range sinks {
			name := "registered, "
			if fast {
				name = "fast-registered, "
			}
			t.Sub(name+tc.name, func(t *T) {
				s, p := t.Connected()
				p.Fill(0, 64, 3)
				var e ndk.SGE
				if fast {
					var f ndk.OpFlags
					if tc.write {
						f |= ndk.AllowLocalWrite
					}
					if tc.sink {
						f |= ndk.RDMAReadSink
					}
					m := s.fastMR(0, 64)
					m.register(f)
					e = m.sge(0, 64)
				} else {
					var f ndk.MRFlags
					if tc.write {
						f |= ndk.MRAllowLocalWrite
					}
					if tc.sink {
						f |= ndk.MRRDMAReadSink
					}
					e = in(s.region(0, 64, f), 0, 64)
				}
				if tc.write && !tc.sink {
					s.readSink(p, []ndk.SGE{e})
					return
				}
				s.must(s.QP.Read("r", []ndk.SGE{e}, p.MR.Base(), p.MR.RemoteToken(), 0))
				if tc.write {
					s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
					s.equal(0, 64, p, 0)
					return
				}
				s.violated(s.Done(), "r", ndk.OpRead, ndk.RuleSGERight)
				s.untouched(0, 64)
			})
		}
	}
}

// With RDMAReadLocalInvalidate the token of the first SGE is dead after a Read
// that worked; without the capability the flag does nothing.
func readLocalInvalidate(t *T) {
	s, p := t.Connected()
	m := s.fastMR(0, 4096)
	p.Fill(0, 100, 4)
	read := func() {
		s.must(s.QP.Read("r", []ndk.SGE{m.sge(8, 100)}, p.MR.Base(), p.MR.RemoteToken(), ndk.RDMAReadLocalInvalidate))
		s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
		s.equal(8, 100, p, 0)
	}
	const flags = ndk.AllowLocalWrite | ndk.RDMAReadSink
	if s.Info.Flags&ndk.FlagRDMAReadLocalInvalidate == 0 {
		m.register(flags)
		read()
		s.message(p, []ndk.SGE{m.sge(8, 100)}, 200, 100)
		s.invalidate(m.MR)
		t.NotOffered("Read with local invalidate: FlagRDMAReadLocalInvalidate is not set")
	}
	for range 3 {
		m.register(flags) // which a valid MR could not be
		read()
	}
	// A normal region is not invalidated by it.
	s.must(s.QP.Read("n", []ndk.SGE{s.SGE(8, 100)}, p.MR.Base(), p.MR.RemoteToken(), ndk.RDMAReadLocalInvalidate))
	s.expect(s.Done(), "n", ntstatus.Success, ndk.OpRead)
	s.message(p, []ndk.SGE{s.SGE(8, 100)}, 200, 100)
	s.must(s.QP.Send("s", []ndk.SGE{m.sge(0, 1)}, 0))
	s.violated(s.Done(), "s", ndk.OpSend, ndk.RuleSGERange, ndk.RuleInvalidated)
}

const writeFlags = ndk.SilentSuccess | ndk.ReadFence | ndk.Inline | ndk.Defer

var _ = row("NDK_FN_WRITE", writeUnconnected, writePlaced, writeUnnoticed, writeRemote, writeTakesFlags, writeEmpty)

// A Write on a QP that is not connected is refused inline and completes nothing.
func writeUnconnected(t *T) {
	t.needsConnection(func(s, p *Side) error {
		return s.QP.Write("w", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), p.MR.RemoteToken(), 0)
	})
}

// The bytes of a Write are in place when the receive of a later Send completes.
func writePlaced(t *T) {
	t.Sub("sizes", func(t *T) {
		s, p := t.Connected()
		for i, n := range sizes {
			s.Fill(i, n, byte(i))
			clear(p.Mem[:n+8])
			s.must(s.QP.Write(n, s.split(i, n, 2), p.MR.Base()+3, p.MR.RemoteToken(), 0))
			s.exchange(p)
			p.equal(3, n, s, i)
			p.untouched(0, 3)
			p.untouched(3+n, 5)
			s.expect(s.Done(), n, ntstatus.Success, ndk.OpWrite)
		}
	})
	t.Sub("many before one Send", func(t *T) {
		s, p := t.Connected()
		const n = 20000
		s.Fill(0, n*(qDepth-1), 3)
		for i := range qDepth - 1 {
			s.must(s.QP.Write(i, []ndk.SGE{s.SGE(i*n, n)}, p.MR.Base()+uint64(i*n), p.MR.RemoteToken(), ndk.Defer))
		}
		s.exchange(p)
		p.equal(0, n*(qDepth-1), s, 0)
		for i := range qDepth - 1 {
			s.expect(s.Done(), i, ntstatus.Success, ndk.OpWrite)
		}
	})
}

// A Write takes no receive of the peer, and neither completes nor notifies there.
func writeUnnoticed(t *T) {
	w := t.watch(16, nil)
	s, p := w.s, w.p
	p.must(p.QP.Receive("only", nil))
	w.cq.Arm(ndk.ArmAny)
	s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, 100)}, p.MR.Base(), p.MR.RemoteToken(), ndk.SilentSuccess))
	s.exchangeBack(p) // the Write is done when a Read behind it is
	var r [2]ndk.ResultEx
	if n := w.cq.PollEx(r[:]); n != 0 || w.n.Load() != 0 {
		t.Errorf("a Write caused %d completions and %d notifications", n, w.n.Load())
	}
	w.cq.Arm(ndk.ArmAny) // had it notified, this would arm once more
	s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
	w.wait()
	if n := w.cq.PollEx(r[:]); n != 1 {
		t.Fatalf("%d completions of one message", n)
	}
	p.expect(r[0], "only", ntstatus.Success, ndk.OpReceive)
	if n := w.total(); n != 1 {
		t.Errorf("%d notifications of one message", n)
	}
}

// A Write past the remote region or without the right changes no byte outside the
// region and ends the connection.
func writeRemote(t *T) {
	const size = 50000
	for _, tc := range []struct {
		name    string
		flags   ndk.MRFlags
		off     int // from the base of the region
		n       int
		partial bool // may begin to be placed
	}{
		{"a byte past the end", ndk.MRAllowRemoteWrite, size - 64, 65, false},
		{"right behind the end", ndk.MRAllowRemoteWrite, size, 1, false},
		{"a byte before", ndk.MRAllowRemoteWrite, -1, 8, false},
		{"much past the end", ndk.MRAllowRemoteWrite, 0, 4 * size, true},
		{"without remote write", ndk.MRAllowRemoteRead | ndk.MRAllowLocalWrite, 0, 8, false},
		{"without remote rights", ndk.MRAllowLocalWrite, 0, 8, false},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Connected()
			m := p.region(4096, size, tc.flags)
			s.Fill(0, tc.n, 9)
			s.denied(p, s.QP.Write("w", []ndk.SGE{s.SGE(0, tc.n)}, m.Base()+uint64(tc.off), m.RemoteToken(), 0))
			p.untouched(0, 4096)
			p.untouched(4096+size, 5*size)
			if !tc.partial {
				p.untouched(4096, size)
			}
		})
	}
}

// Write takes SilentSuccess, ReadFence, Inline and Defer.
func writeTakesFlags(t *T) {
	t.Sub("flags", func(t *T) {
		s, p := t.Connected()
		s.takesFlags(writeFlags, ndk.OpWrite, func(int) {}, func(_ int, rc any, f ndk.OpFlags) error {
			return s.QP.Write(rc, nil, p.MR.Base(), p.MR.RemoteToken(), f)
		}, func(int) {})
	})
	t.Sub("silent, failed", func(t *T) {
		s, p := t.Connected()
		bad := s.SGE(0, 8)
		bad.Addr--
		s.must(s.QP.Write("bad", []ndk.SGE{bad}, p.MR.Base(), p.MR.RemoteToken(), ndk.SilentSuccess))
		s.violated(s.Done(), "bad", ndk.OpWrite, ndk.RuleSGERange)
		s.silence()
	})
	t.Sub("fence", func(t *T) {
		s, p := t.Connected()
		const n = 200000
		p.Fill(0, n, 1)
		for i := range 3 {
			off := n * (i + 1)
			s.must(s.QP.Read("r", []ndk.SGE{s.SGE(0, n)}, p.MR.Base(), p.MR.RemoteToken(), 0))
			s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, n)}, p.MR.Base()+uint64(off), p.MR.RemoteToken(), ndk.ReadFence))
			s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
			s.expect(s.Done(), "w", ntstatus.Success, ndk.OpWrite)
			s.exchange(p)
			p.equal(off, n, p, 0)
			clear(s.Mem[:n])
		}
	})
	t.Sub("inline", func(t *T) {
		s, p := t.Connected()
		post := func(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
			return s.QP.Write(rc, sgl, p.MR.Base(), p.MR.RemoteToken(), f)
		}
		s.inline(ndk.OpWrite, post, func(n int) []byte {
			s.exchange(p)
			return p.Mem[:n]
		})
	})
	t.Sub("limits", func(t *T) {
		s, p := t.Connected()
		s.initiatorLimits(p, ndk.OpWrite, func(any) {}, func(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
			return s.QP.Write(rc, sgl, p.MR.Base(), p.MR.RemoteToken(), f)
		}, func(any) {})
	})
}

// A Write of no bytes succeeds; whatever it names, nothing is reached.
func writeEmpty(t *T) {
	s, p := t.Connected()
	ro := p.region(0, 64, ndk.MRAllowRemoteRead)
	for i, tc := range []struct {
		addr  uint64
		token ndk.Token
	}{
		{p.MR.Base(), p.MR.RemoteToken()}, {p.MR.Base() + memSize, p.MR.RemoteToken()}, {0, p.MR.RemoteToken()},
		{ro.Base(), ro.RemoteToken()}, {0, 0}, {0, 0x12345678},
	} {
		for j, sgl := range [][]ndk.SGE{nil, {s.SGE(0, 0)}} {
			rc := 10*i + j
			s.must(s.QP.Write(rc, sgl, tc.addr, tc.token, 0))
			s.expect(s.Done(), rc, ntstatus.Success, ndk.OpWrite)
		}
	}
	s.message(p, []ndk.SGE{s.SGE(0, 8)}, 0, 8) // the connection goes on
	s.silence()
}
