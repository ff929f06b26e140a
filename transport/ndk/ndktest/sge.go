package ndktest

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_SGE", sgePrivileged, sgeRange, sgeInline, sgeSlice, sgeEmpty)

// mapped builds a LAM of n bytes at off of the buffer, and returns the logical
// address of the first.
func (s *Side) mapped(off, n int) (lam *ndk.LAM, first uint64) {
	s.t.Helper()
	lam = new(ndk.LAM)
	fbo, err := s.build(lam, ndk.Memory{s.Mem[off : off+n]}, n)
	s.must(err)
	s.close = append(s.close, func() { s.A.ReleaseLAM(lam) })
	return lam, uint64(lam.Pages[0]) + uint64(fbo)
}

// With the privileged token the address is one of a live mapping: each byte of
// its pages that was mapped can be reached, and no other.
func sgePrivileged(t *T) {
	t.Sub("inside", func(t *T) {
		s, p := t.Connected()
		const off, n = 100, 8000
		lam, first := s.mapped(off, n)
		tok := s.PD.PrivilegedToken()
		s.Fill(off, n, 7)
		for _, at := range []int{0, 1, 3995, 3996, n - 8} { // 3996 is where the second page begins
			addr := first + uint64(at)
			if at >= 3996 {
				addr = uint64(lam.Pages[1]) + uint64(at-3996)
			}
			k := 8
			if at < 3996 {
				k = min(k, 3996-at) // one page run
			}
			p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, 8)}))
			s.must(s.QP.Send("s", []ndk.SGE{{Addr: addr, Length: uint32(k), Token: tok}}, 0))
			s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
			p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
			p.equal(0, k, s, off+at)
		}
		// Local write is a right of it, too.
		p.Fill(0, 8, 9)
		s.must(s.QP.Receive("r", []ndk.SGE{{Addr: first, Length: 8, Token: tok}}))
		p.must(p.QP.Send("s", []ndk.SGE{p.SGE(0, 8)}, ndk.SilentSuccess))
		s.expect(s.Received(), "r", ntstatus.Success, ndk.OpReceive)
		s.equal(off, 8, p, 0)
	})
	const off, n = 100, 8000
	for _, tc := range []struct {
		name string
		sge  func(lam *ndk.LAM, first uint64, s *Side) (addr uint64, length uint32)
	}{
		{"a byte before", func(_ *ndk.LAM, first uint64, _ *Side) (uint64, uint32) { return first - 1, 8 }},
		{"a byte behind", func(lam *ndk.LAM, _ uint64, _ *Side) (uint64, uint32) {
			return uint64(lam.Pages[1]) + (n - 3996) - 7, 8
		}},
		{"all of the first page and what follows", func(_ *ndk.LAM, first uint64, _ *Side) (uint64, uint32) { return first, 1<<32 - 1 }},
		{"an address of nothing", func(*ndk.LAM, uint64, *Side) (uint64, uint32) { return 1 << 20, 8 }},
		{"a wrap", func(*ndk.LAM, uint64, *Side) (uint64, uint32) { return 1<<64 - 4, 8 }},
	} {
		t.Sub(tc.name, func(t *T) {
			s, _ := t.Connected()
			lam, first := s.mapped(off, n)
			addr, length := tc.sge(lam, first, s)
			length = uint32(min(uint64(length), s.Info.MaxTransferLength))
			s.must(s.QP.Send("s", []ndk.SGE{{Addr: addr, Length: length, Token: s.PD.PrivilegedToken()}}, 0))
			s.expect(s.Done(), "s", ntstatus.AccessViolation, ndk.OpSend)
		})
	}
}

// With any other token the bytes lie in the region of the token; one byte
// outside fails the request, and with it the connection.
func sgeRange(t *T) {
	const off, n = 8192, 100
	for _, tc := range []struct {
		name   string
		at     int64 // from the first byte of the region
		length uint32
		want   ndk.Status
	}{
		{"all of it", 0, n, ntstatus.Success},
		{"the last byte", n - 1, 1, ntstatus.Success},
		{"nothing, at the end", n, 0, ntstatus.Success},
		{"a byte too many", 0, n + 1, ntstatus.AccessViolation},
		{"a byte behind", n, 1, ntstatus.AccessViolation},
		{"a byte before", -1, 1, ntstatus.AccessViolation},
		{"from a byte before", -1, n, ntstatus.AccessViolation},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Connected()
			m, err := s.PD.CreateMR(s.ctx, false)
			s.must(err)
			s.close = append(s.close, m.Close)
			s.must(m.Register(s.ctx, ndk.Memory{s.Mem[off : off+n]}, n, ndk.MRAllowLocalWrite|ndk.MRRDMAReadSink))
			sge := []ndk.SGE{{Addr: m.Base() + uint64(tc.at), Length: tc.length, Token: m.LocalToken()}}
			p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, 2*n)}))
			s.must(s.QP.Send("s", sge, 0))
			s.expect(s.Done(), "s", tc.want, ndk.OpSend)
			if tc.want == ntstatus.Success {
				p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
				// The same as a sink.
				s.must(s.QP.Read("x", sge, p.MR.Base(), p.MR.RemoteToken(), 0))
				s.expect(s.Done(), "x", ntstatus.Success, ndk.OpRead)
				return
			}
			p.lost()
		})
	}
	t.Sub("a wrap", func(t *T) {
		s, _ := t.Connected()
		s.must(s.QP.Send("s", []ndk.SGE{{Addr: 1<<64 - 4, Length: 8, Token: s.MR.LocalToken()}}, 0))
		s.expect(s.Done(), "s", ntstatus.AccessViolation, ndk.OpSend)
	})
	t.Sub("as a sink of a message", func(t *T) {
		s, p := t.Connected()
		g := p.SGE(memSize-4, 8)
		p.must(p.QP.Receive("r", []ndk.SGE{g}))
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 8)}, ndk.SilentSuccess))
		p.expect(p.Received(), "r", ntstatus.AccessViolation, ndk.OpReceive)
		p.lost()
	})
}

// Of an inline request the token means nothing, and the bytes are the caller's
// again when the post returns.
func sgeInline(t *T) {
	s, p := t.Connected()
	limit := s.QPConfig().InlineDataSize
	if limit == 0 {
		s.want(s.QP.Send("s", []ndk.SGE{{Inline: []byte{1}}}, ndk.Inline), ntstatus.BufferOverflow, "a byte of inline data")
		t.NotOffered("inline data: MaxInlineDataSize is 0")
	}
	n := min(limit, 16)
	data := make([]byte, n)
	want := make([]byte, n)
	for round := range 4 {
		for i := range data {
			data[i], want[i] = byte(round*n+i), byte(round*n+i)
		}
		// Parts of it are as good as the whole.
		sgl := []ndk.SGE{{Inline: data[:n/2], Token: 0xDEAD}, {Inline: data[n/2:], Token: p.MR.RemoteToken(), Addr: 1}}
		p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, n)}))
		s.must(s.QP.Send("s", sgl, ndk.Inline|ndk.Defer))
		clear(data)
		s.must(s.QP.Write("w", nil, 0, 0, ndk.SilentSuccess)) // which sends what was deferred
		s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
		r := p.Received()
		p.expect(r, "r", ntstatus.Success, ndk.OpReceive)
		if r.Bytes != uint32(n) || string(p.Mem[:n]) != string(want) {
			t.Errorf("round %d: %d bytes %x arrived, want %x", round, r.Bytes, p.Mem[:n], want)
		}
	}
}

// The slice of SGEs is the caller's again when the post returns.
func sgeSlice(t *T) {
	s, p := t.Connected()
	s.Fill(0, 64, 1)
	p.Fill(100, 64, 2)
	sgl := make([]ndk.SGE, 1)
	nothing := ndk.SGE{Addr: 1<<64 - 1, Length: 1<<32 - 1, Token: 0xDEAD}
	post := func(g ndk.SGE, f func(sgl []ndk.SGE) error) {
		t.Helper()
		sgl[0] = g
		s.must(f(sgl))
		sgl[0] = nothing
	}
	sgl[0] = p.SGE(0, 64)
	p.must(p.QP.Receive("r", sgl))
	sgl[0] = nothing
	post(s.SGE(512, 64), func(sgl []ndk.SGE) error { return s.QP.Receive("r", sgl) })
	post(s.SGE(0, 64), func(sgl []ndk.SGE) error { return s.QP.Send("s", sgl, ndk.Defer) })
	post(s.SGE(0, 64), func(sgl []ndk.SGE) error {
		return s.QP.Write("w", sgl, p.MR.Base()+256, p.MR.RemoteToken(), ndk.Defer)
	})
	post(s.SGE(1024, 64), func(sgl []ndk.SGE) error {
		return s.QP.Read("x", sgl, p.MR.Base()+100, p.MR.RemoteToken(), 0)
	})
	s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
	s.expect(s.Done(), "w", ntstatus.Success, ndk.OpWrite)
	s.expect(s.Done(), "x", ntstatus.Success, ndk.OpRead)
	p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
	sgl[0] = p.SGE(100, 64)
	p.must(p.QP.Send("s", sgl, ndk.Defer))
	sgl[0] = nothing
	p.must(p.QP.Write("w", nil, 0, 0, ndk.SilentSuccess))
	s.expect(s.Received(), "r", ntstatus.Success, ndk.OpReceive)
	p.equal(0, 64, s, 0)
	p.equal(256, 64, s, 0)
	s.equal(512, 64, p, 100)
	s.equal(1024, 64, p, 100)
}

// An SGE of no bytes is one, anywhere in a list.
func sgeEmpty(t *T) {
	s, p := t.Connected()
	s.Fill(0, 64, 1)
	p.Fill(200, 64, 2)
	for _, tc := range []struct {
		name string
		list func(o *Side, at int) []ndk.SGE
		n    int
	}{
		{"alone", func(o *Side, at int) []ndk.SGE { return []ndk.SGE{o.SGE(at, 0)} }, 0},
		{"first", func(o *Side, at int) []ndk.SGE { return []ndk.SGE{o.SGE(at, 0), o.SGE(at, 64)} }, 64},
		{"last", func(o *Side, at int) []ndk.SGE { return []ndk.SGE{o.SGE(at, 64), o.SGE(at, 0)} }, 64},
		{"between", func(o *Side, at int) []ndk.SGE { return []ndk.SGE{o.SGE(at, 32), o.SGE(at, 0), o.SGE(at+32, 32)} }, 64},
		{"none but", func(o *Side, at int) []ndk.SGE {
			return []ndk.SGE{o.SGE(at, 0), o.SGE(at+1, 0), o.SGE(at+memSize/2, 0)}
		}, 0},
	} {
		fits := func(o *Side, most int) bool { return len(tc.list(o, 0)) <= most }
		if fits(s, s.QPConfig().MaxInitiatorSGE) && fits(p, p.QPConfig().MaxReceiveSGE) {
			clear(p.Mem[:64])
			p.must(p.QP.Receive("r", tc.list(p, 0)))
			s.must(s.QP.Send("s", tc.list(s, 0), 0))
			s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
			r := p.Received()
			p.expect(r, "r", ntstatus.Success, ndk.OpReceive)
			if r.Bytes != uint32(tc.n) {
				t.Errorf("%s: %d bytes arrived, want %d", tc.name, r.Bytes, tc.n)
			}
			p.equal(0, tc.n, s, 0)
			clear(p.Mem[:64])
			s.must(s.QP.Write("w", tc.list(s, 0), p.MR.Base(), p.MR.RemoteToken(), 0))
			s.expect(s.Done(), "w", ntstatus.Success, ndk.OpWrite)
			s.exchange(p)
			p.equal(0, tc.n, s, 0)
		}
		if fits(s, min(s.QPConfig().MaxInitiatorSGE, s.Info.MaxReadRequestSGE)) {
			clear(s.Mem[1000:1064])
			s.must(s.QP.Read("x", tc.list(s, 1000), p.MR.Base()+200, p.MR.RemoteToken(), 0))
			s.expect(s.Done(), "x", ntstatus.Success, ndk.OpRead)
			s.equal(1000, tc.n, p, 200)
		}
	}
}
