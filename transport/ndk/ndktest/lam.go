package ndktest

import (
	"context"
	"fmt"
	"regexp"
	"runtime"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_BUILD_LAM", buildLAMGap, buildLAMShort, buildLAMPages, buildLAMSmall, buildLAMUndone, buildLAMResources)

// build maps n bytes of m.
func (s *Side) build(lam *ndk.LAM, m ndk.Memory, n int) (fbo uint32, err error) {
	return s.A.BuildLAM(s.ctx, m, n, lam)
}

// unmapped fails unless lam is no mapping.
func (s *Side) unmapped(lam *ndk.LAM, what string) {
	s.t.Helper()
	if len(lam.Pages) != 0 {
		s.t.Errorf("%s: %d pages are there all the same", what, len(lam.Pages))
	}
	s.A.ReleaseLAM(lam) // of nothing: harmless
}

// A chain whose segments do not follow each other is refused, one whose segments
// do is not, and neither is one with a gap behind the bytes that are asked for.
func buildLAMGap(t *T) {
	s, _ := t.Pair()
	m := s.Mem
	for _, tc := range []struct {
		name  string
		chain ndk.Memory
		n     int
		want  ndk.Status
	}{
		{"a byte left out", ndk.Memory{m[:10], m[11:20]}, 19, ntstatus.InvalidParameter},
		{"a byte twice", ndk.Memory{m[:10], m[9:20]}, 20, ntstatus.InvalidParameter},
		{"in the wrong order", ndk.Memory{m[10:20], m[:10]}, 20, ntstatus.InvalidParameter},
		{"a gap in the third segment", ndk.Memory{m[:4096], m[4096:8192], m[12288:16384]}, 12288, ntstatus.InvalidParameter},
		{"adjacent", ndk.Memory{m[:10:10], m[10:20:20], m[20:5000:5000]}, 5000, ntstatus.Success},
		{"adjacent, with an empty one", ndk.Memory{m[:10], nil, m[10:10], m[10:20]}, 20, ntstatus.Success},
		{"a gap behind the length", ndk.Memory{m[:10], m[11:20]}, 10, ntstatus.Success},
	} {
		var lam ndk.LAM
		_, err := s.build(&lam, tc.chain, tc.n)
		s.want(err, tc.want, tc.name)
		if err != nil {
			s.unmapped(&lam, tc.name)
			continue
		}
		s.A.ReleaseLAM(&lam)
	}
}

// More bytes than the chain has are refused.
func buildLAMShort(t *T) {
	s, _ := t.Pair()
	for _, tc := range []struct {
		name  string
		chain ndk.Memory
		n     int
	}{
		{"a byte more", ndk.Memory{s.Mem[:10]}, 11},
		{"a byte more than two segments", ndk.Memory{s.Mem[:10], s.Mem[10:20]}, 21},
		{"far more", ndk.Memory{s.Mem[:10]}, 1<<63 - 1},
		{"no memory", nil, 1},
		{"an empty chain", ndk.Memory{nil, s.Mem[:0]}, 1},
		{"less than none", ndk.Memory{s.Mem[:10]}, -1},
	} {
		var lam ndk.LAM
		_, err := s.build(&lam, tc.chain, tc.n)
		s.want(err, ntstatus.InvalidParameter, tc.name)
		s.unmapped(&lam, tc.name)
	}
}

// lamShapes are ranges of page-aligned memory, with what their mapping has.
var lamShapes = []struct{ off, n, pages, fbo int }{
	{0, 1, 1, 0}, {0, 4096, 1, 0}, {0, 4097, 2, 0}, {1, 4095, 1, 1}, {1, 4096, 2, 1}, {4095, 1, 1, 4095}, {4095, 2, 2, 4095},
	{4096, 4096, 1, 0}, {100, 8192, 3, 100}, {5000, 10000, 3, 904}, {0, 1 << 20, 256, 0},
}

// Pages are aligned, FBO is where the first byte is in the first of them, and
// there are as many as the bytes from there need.
func buildLAMPages(t *T) {
	s, _ := t.Pair()
	for _, tc := range lamShapes {
		var lam ndk.LAM
		fbo, err := s.build(&lam, ndk.Memory{s.Mem[tc.off : tc.off+tc.n]}, tc.n)
		s.must(err)
		if len(lam.Pages) != tc.pages || fbo != uint32(tc.fbo) {
			t.Errorf("%d bytes at %d: %d pages, first byte %d; want %d, %d", tc.n, tc.off, len(lam.Pages), fbo, tc.pages, tc.fbo)
		}
		s.aligned(&lam)
		s.A.ReleaseLAM(&lam)
	}
}

func (s *Side) aligned(lam *ndk.LAM) {
	s.t.Helper()
	for _, p := range lam.Pages {
		if p%ndk.PageSize != 0 {
			s.t.Errorf("page %#x is not aligned", p)
		}
	}
}

// A list that is too small is refused with the number of pages that are needed,
// and with that many it is enough.
func buildLAMSmall(t *T) {
	s, _ := t.Pair()
	for _, tc := range lamShapes {
		lam := ndk.LAM{Pages: make([]ndk.LogicalAddress, 0, tc.pages-1)}
		m := ndk.Memory{s.Mem[tc.off : tc.off+tc.n]}
		_, err := s.build(&lam, m, tc.n)
		s.want(err, ntstatus.BufferTooSmall, fmt.Sprintf("room for %d pages of %d", tc.pages-1, tc.pages))
		if err != nil && !regexp.MustCompile(fmt.Sprintf(`\b%d\b`, tc.pages)).MatchString(err.Error()) {
			t.Errorf("%q does not say that %d pages are needed", err, tc.pages)
		}
		s.unmapped(&lam, "too small a list")
		lam.Pages = make([]ndk.LogicalAddress, 0, tc.pages)
		before := lam.Pages[:tc.pages]
		_, err = s.build(&lam, m, tc.n)
		s.must(err)
		if len(lam.Pages) != tc.pages || &lam.Pages[0] != &before[0] {
			t.Error("the list that was given is not the one that was filled")
		}
		s.A.ReleaseLAM(&lam)
	}
}

// A failure leaves nothing behind: after many of each kind the same LAM can be
// built.
func buildLAMUndone(t *T) {
	s, _ := t.Pair()
	m := s.Mem
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	lam := ndk.LAM{Pages: make([]ndk.LogicalAddress, 0, 4)}
	for range 1000 {
		_, err := s.build(&lam, ndk.Memory{m[:4096], m[4096:8192], m[12288:16384]}, 12288)
		s.want(err, ntstatus.InvalidParameter, "a gap behind two good segments")
		_, err = s.build(&lam, ndk.Memory{m[:4096], m[4096:5000]}, 8192)
		s.want(err, ntstatus.InvalidParameter, "a chain that ends too early")
		_, err = s.build(&lam, ndk.Memory{m[:65536]}, 65536)
		s.want(err, ntstatus.BufferTooSmall, "a list that is too small")
		if _, err = s.A.BuildLAM(cancelled, ndk.Memory{m[:4096]}, 4096, &lam); err == nil {
			s.A.ReleaseLAM(&lam) // there was nothing to wait for
		} else {
			s.want(err, ntstatus.Cancelled, "a context that has ended")
		}
		if len(lam.Pages) != 0 || t.Failed() {
			t.Fatalf("%d pages after a failure", len(lam.Pages))
		}
	}
	_, err := s.build(&lam, ndk.Memory{m[:16384]}, 16384)
	s.must(err)
	s.A.ReleaseLAM(&lam)
}

// Without resources a build may fail, with InsufficientResources and nothing
// mapped, and works again when there are some.
func buildLAMResources(t *T) {
	s, _ := t.Pair()
	if t.Exhaust != nil {
		if restore := t.Exhaust(t, s.A, "NDK_FN_BUILD_LAM"); restore != nil {
			var lam ndk.LAM
			_, err := s.build(&lam, ndk.Memory{s.Mem[:8192]}, 8192)
			s.want(err, ntstatus.InsufficientResources, "without resources")
			s.unmapped(&lam, "without resources")
			restore()
		}
	}
	lams := make([]ndk.LAM, 256)
	for range 2 {
		for i := range lams {
			if _, err := s.build(&lams[i], ndk.Memory{s.Mem}, memSize); err != nil {
				s.want(err, ntstatus.InsufficientResources, "one of many")
				s.unmapped(&lams[i], "one of many")
				if i == 0 {
					t.Error("not even one")
				}
			}
		}
		for i := range lams {
			s.A.ReleaseLAM(&lams[i])
		}
	}
}

var _ = row("NDK_FN_RELEASE_LAM", releaseLAMMemory, releaseLAMOld, releaseLAMInUse, releaseLAMRepeated)

// Release leaves the memory as it is, and what else its owner registered of it.
func releaseLAMMemory(t *T) {
	s, p := t.Connected()
	s.Fill(0, 10000, 5)
	want := append([]byte(nil), s.Mem[:10000]...)
	var lam ndk.LAM
	_, err := s.build(&lam, ndk.Memory{s.Mem[:10000]}, 10000)
	s.must(err)
	s.A.ReleaseLAM(&lam)
	s.A.ReleaseLAM(&lam) // twice is harmless
	if string(s.Mem[:10000]) != string(want) {
		t.Error("the memory was changed")
	}
	// The region over the same memory is as good as before, both ways.
	s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, 10000)}, p.MR.Base(), p.MR.RemoteToken(), ndk.SilentSuccess))
	s.exchange(p)
	p.equal(0, 10000, s, 0)
	p.Fill(0, 10000, 6)
	p.must(p.QP.Write("w", []ndk.SGE{p.SGE(0, 10000)}, s.MR.Base(), s.MR.RemoteToken(), ndk.SilentSuccess))
	p.exchange(s)
	s.equal(0, 10000, p, 0)
}

// The logical addresses of a mapping that was released are refused, also when
// other mappings came after it.
func releaseLAMOld(t *T) {
	for _, again := range []int{0, 1, 3} {
		t.Sub(fmt.Sprintf("%d mappings since", again), func(t *T) {
			s, _ := t.Connected()
			var lam ndk.LAM
			fbo, err := s.build(&lam, ndk.Memory{s.Mem[:64]}, 64)
			s.must(err)
			old := uint64(lam.Pages[0]) + uint64(fbo)
			s.A.ReleaseLAM(&lam)
			others := make([]ndk.LAM, again)
			for i := range others { // elsewhere: a mapping of the same pages might have the same address
				_, err := s.build(&others[i], ndk.Memory{s.Mem[65536:131072]}, 65536)
				s.must(err)
				s.close = append(s.close, func() { s.A.ReleaseLAM(&others[i]) })
			}
			s.must(s.QP.Send("s", []ndk.SGE{{Addr: old, Length: 8, Token: s.PD.PrivilegedToken()}}, 0))
			s.expect(s.Done(), "s", ntstatus.AccessViolation, ndk.OpSend)
		})
	}
}

// Who releases a mapping that a request uses makes a mistake. A provider that
// watches for it says so; any completes the request once and stays whole.
func releaseLAMInUse(t *T) {
	s, p := t.Connected()
	var lam ndk.LAM
	fbo, err := p.build(&lam, ndk.Memory{p.Mem[:4096]}, 4096)
	p.must(err)
	p.must(p.QP.Receive("r", []ndk.SGE{{Addr: uint64(lam.Pages[0]) + uint64(fbo), Length: 64, Token: p.PD.PrivilegedToken()}}))
	if t.Misuse != nil {
		if got := t.Misuse(p.A); len(got) != 0 {
			t.Errorf("mistakes before there was one: %q", got)
		}
	}
	p.A.ReleaseLAM(&lam)
	s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 8)}, ndk.SilentSuccess))
	r := p.Received()
	if r.RequestContext != "r" || r.Type != ndk.OpReceive ||
		r.Status != ntstatus.Success && r.Status != ntstatus.AccessViolation && r.Status != ntstatus.Cancelled {
		t.Errorf("the request completes as %v: %v, %v", r.RequestContext, r.Status, r.Type)
	}
	if t.Misuse == nil {
		// Without a watch for mistakes the request itself has to tell of this one.
		if r.Status != ntstatus.AccessViolation {
			t.NotOffered("a watch for mappings that are released while in use")
		}
		return
	}
	if got := t.Misuse(p.A); len(got) != 1 {
		t.Errorf("%d mistakes noticed, want the one: %q", len(got), got)
	}
}

// Building and releasing over and over takes no more memory each time.
func releaseLAMRepeated(t *T) {
	s, _ := t.Pair()
	pages := make([]ndk.LogicalAddress, 0, 16)
	cycles := func(n int) {
		for range n {
			lam := ndk.LAM{Pages: pages}
			_, err := s.build(&lam, ndk.Memory{s.Mem[:65536]}, 65536)
			s.must(err)
			s.A.ReleaseLAM(&lam)
		}
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const n = 1000
	cycles(n)
	before := heap()
	cycles(n)
	if grown := heap() - before; grown > n*48 {
		t.Errorf("%d more bytes are in use after %d mappings", grown, n)
	}
}

var _ = row("NDK_LOGICAL_ADDRESS_MAPPING", lamEntries, lamScattered, lamReused)

// The entries are as many as there are pages, each aligned.
func lamEntries(t *T) {
	s, _ := t.Pair()
	for _, tc := range lamShapes {
		var lam ndk.LAM
		_, err := s.build(&lam, ndk.Memory{s.Mem[tc.off : tc.off+tc.n]}, tc.n)
		s.must(err)
		if len(lam.Pages) != tc.pages {
			t.Errorf("%d bytes at %d: %d entries, want %d", tc.n, tc.off, len(lam.Pages), tc.pages)
		}
		s.aligned(&lam)
		s.A.ReleaseLAM(&lam)
	}
}

// Each page is named by its own entry: an SGE for each page reaches the range,
// whatever lies between the addresses.
func lamScattered(t *T) {
	s, p := t.Connected()
	const off, n = 5000, 10000
	s.Fill(off, n, 3)
	var lam ndk.LAM
	fbo, err := s.build(&lam, ndk.Memory{s.Mem[off : off+n]}, n)
	s.must(err)
	defer s.A.ReleaseLAM(&lam)
	tok := s.PD.PrivilegedToken()
	at := 0
	var sgl []ndk.SGE
	write := func() {
		s.must(s.QP.Write("w", sgl, p.MR.Base()+uint64(at), p.MR.RemoteToken(), 0))
		s.expect(s.Done(), "w", ntstatus.Success, ndk.OpWrite)
		for _, g := range sgl {
			at += int(g.Length)
		}
		sgl = sgl[:0]
	}
	skip, left := uint64(fbo), n
	for _, page := range lam.Pages {
		k := min(left, ndk.PageSize-int(skip))
		sgl = append(sgl, ndk.SGE{Addr: uint64(page) + skip, Length: uint32(k), Token: tok})
		if left -= k; len(sgl) == s.QPConfig().MaxInitiatorSGE {
			write()
		}
		skip = 0
	}
	if len(sgl) > 0 {
		write()
	}
	s.exchange(p)
	if at != n {
		t.Errorf("the pages hold %d bytes, want %d", at, n)
	}
	p.equal(0, n, s, off)
}

// One LAM serves one mapping after the other, of whatever size.
func lamReused(t *T) {
	s, p := t.Connected()
	lam := ndk.LAM{Pages: make([]ndk.LogicalAddress, 0, 8)}
	for i := range 20 {
		off, n := i*3000, 500+i*1000
		s.Fill(off, n, byte(i))
		fbo, err := s.build(&lam, ndk.Memory{s.Mem[off : off+n]}, n)
		s.must(err)
		first := min(n, ndk.PageSize-int(fbo))
		s.must(s.QP.Write("w", []ndk.SGE{{Addr: uint64(lam.Pages[0]) + uint64(fbo), Length: uint32(first), Token: s.PD.PrivilegedToken()}},
			p.MR.Base(), p.MR.RemoteToken(), 0))
		s.expect(s.Done(), "w", ntstatus.Success, ndk.OpWrite)
		s.exchange(p)
		p.equal(0, first, s, off)
		s.A.ReleaseLAM(&lam)
	}
}
