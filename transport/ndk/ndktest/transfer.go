package ndktest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// sizes are around every border a transport may have: pads, segments of Ethernet
// and of jumbo frames, 16-bit lengths, pages.
var sizes = []int{0, 1, 2, 3, 4, 5, 64, 1000, 1436, 1440, 4095, 4096, 4097, 8946, 61440, 65503, 65535, 65536, 100001, 300000}

var transferTests = []test{
	{"NDK_FN_SEND/sizes", func(t *T) {
		s, p := t.Connected()
		for i, n := range sizes {
			s.Fill(i, n, byte(i))
			p.must(p.QP.Receive(n, []ndk.SGE{p.SGE(0, n/3), p.SGE(n/3, 0), p.SGE(n/3, n-n/3+5)}))
			s.must(s.QP.Send(n, []ndk.SGE{s.SGE(i, n/2), s.SGE(i+n/2, n-n/2)}, 0))
			s.expect(s.Done(), n, ntstatus.Success, ndk.OpSend)
			r := p.Received()
			p.expect(r, n, ntstatus.Success, ndk.OpReceive)
			if r.Bytes != uint32(n) {
				t.Errorf("%d bytes received, want %d", r.Bytes, n)
			}
			p.equal(0, n, s, i)
		}
	}},
	{"NDK_FN_SEND/order", func(t *T) {
		s, p := t.Connected()
		const rounds = 20
		for round := range rounds {
			for i := range qDepth {
				p.must(p.QP.Receive(round*qDepth+i, []ndk.SGE{p.SGE(i*16, 16)}))
			}
			for i := range qDepth {
				s.Mem[i] = byte(round + i)
				f := ndk.Defer
				if i == qDepth-1 {
					f = 0
				}
				s.must(s.QP.Send(round*qDepth+i, []ndk.SGE{s.SGE(i, 1)}, f))
			}
			for i := range qDepth {
				s.expect(s.Done(), round*qDepth+i, ntstatus.Success, ndk.OpSend)
				p.expect(p.Received(), round*qDepth+i, ntstatus.Success, ndk.OpReceive)
				if p.Mem[i*16] != byte(round+i) {
					t.Errorf("message %d holds %d", i, p.Mem[i*16])
				}
			}
		}
	}},
	{"NDK_FN_SEND/inline errors", func(t *T) {
		s, p := t.Connected()
		many := make([]ndk.SGE, s.QPConfig().MaxInitiatorSGE+1)
		s.want(s.QP.Send("s", many, 0), ntstatus.DataOverrun, "too many SGEs")
		s.want(s.QP.Receive("r", many), ntstatus.DataOverrun, "too many SGEs of a receive")
		s.want(s.QP.Send("s", nil, ndk.AllowRemoteRead), ntstatus.InvalidParameter, "a flag of another request")
		long := make([]byte, s.QPConfig().InlineDataSize+1)
		s.want(s.QP.Send("s", []ndk.SGE{{Inline: long}}, ndk.Inline), ntstatus.BufferOverflow, "too much inline data")
		if s.Info.MaxTransferLength < 1<<32-1 {
			s.want(s.QP.Send("s", []ndk.SGE{{Addr: s.MR.Base(), Length: uint32(s.Info.MaxTransferLength + 1), Token: s.MR.LocalToken()}}, 0),
				ntstatus.BufferOverflow, "longer than a transfer may be")
		}
		for i := range qDepth {
			p.must(p.QP.Receive(i, nil))
		}
		p.want(p.QP.Receive("r", nil), ntstatus.NoMoreEntries, "a receive too many")
		for i := range qDepth {
			s.must(s.QP.Send(i, nil, ndk.Defer))
		}
		s.want(s.QP.Send("s", nil, 0), ntstatus.NoMoreEntries, "a send too many")
		// The deferred ones went out with the post that failed.
		for i := range qDepth {
			s.expect(s.Done(), i, ntstatus.Success, ndk.OpSend)
			p.expect(p.Received(), i, ntstatus.Success, ndk.OpReceive)
		}
	}},
	{"NDK_FN_SEND/inline data", func(t *T) {
		s, p := t.Connected()
		if s.Info.MaxInlineDataSize < 16 {
			t.Skip("the adapter has no inline data")
		}
		var sgl []ndk.SGE // more than MaxInitiatorRequestSGE
		for i := range 16 {
			sgl = append(sgl, ndk.SGE{Inline: []byte{byte(i + 1)}, Token: 0xDEAD})
		}
		p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, 16)}))
		s.must(s.QP.Send("s", sgl, ndk.Inline|ndk.Defer))
		for i := range sgl {
			sgl[i].Inline[0] = 0xFF // free on return
		}
		s.must(s.QP.Write("w", nil, 0, 0, ndk.SilentSuccess))
		s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
		p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
		for i := range 16 {
			if p.Mem[i] != byte(i+1) {
				t.Errorf("byte %d is %d", i, p.Mem[i])
			}
		}
	}},
	{"NDK_FN_SEND/not connected", func(t *T) {
		s, _ := t.Pair()
		s.want(s.QP.Send("s", nil, 0), ntstatus.ConnectionInvalid, "Send")
		s.want(s.QP.Write("s", nil, 0, 0, 0), ntstatus.ConnectionInvalid, "Write")
		s.want(s.QP.Read("s", nil, 0, 0, 0), ntstatus.ConnectionInvalid, "Read")
		s.want(s.QP.SendAndInvalidate("s", nil, 0, 1), ntstatus.ConnectionInvalid, "SendAndInvalidate")
		m, lam, fbo := s.fast(0, 4096)
		s.want(s.QP.FastRegister("f", m, lam.Pages, fbo, 1, uint64(fbo), 0), ntstatus.ConnectionInvalid, "FastRegister")
		s.want(s.QP.Invalidate("i", m, 0), ntstatus.ConnectionInvalid, "Invalidate")
		s.must(s.QP.Receive("r", nil))
		s.QP.Flush()
		s.expect(s.Received(), "r", ntstatus.Cancelled, ndk.OpReceive)
	}},
	{"NDK_FN_SEND/silent success", func(t *T) {
		s, p := t.Connected()
		for i := range 10 * qDepth {
			p.must(p.QP.Receive(i, nil))
			f := ndk.SilentSuccess
			if i%qDepth == qDepth-1 {
				f = 0
			}
			s.must(s.QP.Send(i, nil, f))
			if f == 0 {
				s.expect(s.Done(), i, ntstatus.Success, ndk.OpSend)
			}
			p.expect(p.Received(), i, ntstatus.Success, ndk.OpReceive)
		}
		if s.ICQ.Poll(make([]ndk.Result, 1)) != 0 {
			t.Error("a completion of a silent request")
		}
	}},
	{"NDK_FN_SEND/no receive posted", func(t *T) {
		s, p := t.Connected()
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 8)}, ndk.SilentSuccess))
		s.lost()
		p.lost()
		s.want(s.QP.Send("s", nil, 0), ntstatus.ConnectionInvalid, "Send afterwards")
	}},
	{"NDK_FN_SEND_AND_INVALIDATE/fast MR", func(t *T) {
		for _, f := range []ndk.OpFlags{0, ndk.SendAndSolicitEvent} {
			s, p := t.Connected()
			m, lam, fbo := p.fast(0, 4096)
			p.must(p.QP.FastRegister("f", m, lam.Pages, fbo, 4096, uint64(fbo), ndk.AllowRemoteWrite|ndk.SilentSuccess))
			p.exchange(s)
			tok := m.RemoteToken()
			p.must(p.QP.Receive("r", nil))
			s.must(s.QP.SendAndInvalidate("s", nil, f, tok))
			s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
			r := p.Received()
			p.expect(r, "r", ntstatus.Success, ndk.OpReceiveAndInvalidate)
			if r.InvalidatedToken != tok {
				t.Errorf("token %#x reported, want %#x", r.InvalidatedToken, tok)
			}
			s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, 1)}, uint64(fbo), tok, 0))
			p.lost()
		}
	}},
	{"NDK_FN_SEND_AND_INVALIDATE/unknown token", func(t *T) {
		s, p := t.Connected()
		p.must(p.QP.Receive("r", nil))
		s.must(s.QP.SendAndInvalidate("s", nil, ndk.SilentSuccess, 0x12345678))
		if r := p.Received(); r.Status == ntstatus.Success {
			t.Error("the receive succeeded")
		}
		s.lost()
		p.lost()
	}},
	{"NDK_FN_RECEIVE/too small", func(t *T) {
		s, p := t.Connected()
		p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, 7)}))
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 8)}, ndk.SilentSuccess))
		p.expect(p.Received(), "r", ntstatus.BufferOverflow, ndk.OpReceive)
		p.lost()
		if p.Mem[7] != 0 {
			t.Error("a byte behind the receive was written")
		}
	}},
	{"NDK_FN_WRITE/sizes", func(t *T) {
		s, p := t.Connected()
		for i, n := range sizes {
			s.Fill(i, n, byte(i))
			clear(p.Mem[:n+8])
			s.must(s.QP.Write(n, []ndk.SGE{s.SGE(i, n/3), s.SGE(i+n/3, n-n/3)}, p.MR.Base()+3, p.MR.RemoteToken(), 0))
			s.exchange(p)
			s.expect(s.Done(), n, ntstatus.Success, ndk.OpWrite)
			p.equal(3, n, s, i)
			if p.Mem[2] != 0 || p.Mem[n+3] != 0 {
				t.Errorf("size %d: a byte beside the target was written", n)
			}
		}
	}},
	{"NDK_FN_READ/sizes", func(t *T) {
		s, p := t.Connected()
		for i, n := range sizes {
			p.Fill(i, n, byte(i))
			clear(s.Mem[:n+8])
			s.must(s.QP.Read(n, []ndk.SGE{s.SGE(3, n/3), s.SGE(3+n/3, n-n/3)}[:min(2, s.Info.MaxReadRequestSGE)], p.MR.Base()+uint64(i), p.MR.RemoteToken(), 0))
			s.expect(s.Done(), n, ntstatus.Success, ndk.OpRead)
			if s.Info.MaxReadRequestSGE >= 2 {
				s.equal(3, n, p, i)
			}
			if s.Mem[2] != 0 || s.Mem[n+3] != 0 {
				t.Errorf("size %d: a byte beside the sink was written", n)
			}
		}
	}},
	{"NDK_FN_READ/more than the limit", func(t *T) {
		s, p := t.Connected() // 4 reads at once
		p.Fill(0, 64*1024, 5)
		for i := range qDepth {
			s.must(s.QP.Read(i, []ndk.SGE{s.SGE(i*2048, 2048)}, p.MR.Base()+uint64(i*2048), p.MR.RemoteToken(), 0))
		}
		for i := range qDepth {
			s.expect(s.Done(), i, ntstatus.Success, ndk.OpRead)
		}
		s.equal(0, qDepth*2048, p, 0)
	}},
	{"NDK_FN_READ/limit 0", func(t *T) {
		s, p := t.Pair()
		connect(s, p, ndk.ConnParams{InboundReadLimit: 4}, limits)
		s.want(s.QP.Read("r", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), p.MR.RemoteToken(), 0), ntstatus.InvalidParameter, "Read")
		p.must(p.QP.Read("r", []ndk.SGE{p.SGE(0, 8)}, s.MR.Base(), s.MR.RemoteToken(), 0))
		p.expect(p.Done(), "r", ntstatus.Success, ndk.OpRead)
	}},
	{"NDK_FN_READ/fence and order", func(t *T) {
		s, p := t.Connected()
		p.Fill(0, 200000, 1)
		s.must(s.QP.Read("r", []ndk.SGE{s.SGE(0, 200000)}, p.MR.Base(), p.MR.RemoteToken(), 0))
		s.must(s.QP.Write("w", []ndk.SGE{s.SGE(0, 200000)}, p.MR.Base()+300000, p.MR.RemoteToken(), ndk.ReadFence))
		s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
		s.expect(s.Done(), "w", ntstatus.Success, ndk.OpWrite)
		s.exchange(p)
		p.equal(300000, 200000, p, 0)
	}},
	{"NDK_FN_READ/local invalidate", func(t *T) {
		s, p := t.Connected()
		if s.Info.Flags&ndk.FlagRDMAReadLocalInvalidate == 0 {
			t.Skip("the adapter has no Read with local invalidate")
		}
		m, lam, fbo := s.fast(0, 4096)
		p.Fill(0, 100, 4)
		for range 3 {
			s.must(s.QP.FastRegister("f", m, lam.Pages, fbo, 4096, uint64(fbo), ndk.AllowLocalWrite|ndk.RDMAReadSink|ndk.SilentSuccess))
			s.must(s.QP.Read("r", []ndk.SGE{{Addr: uint64(fbo) + 8, Length: 100, Token: m.LocalToken()}}, p.MR.Base(), p.MR.RemoteToken(), ndk.RDMAReadLocalInvalidate))
			s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
			s.equal(8, 100, p, 0)
		}
		s.must(s.QP.Send("s", []ndk.SGE{{Addr: uint64(fbo), Length: 1, Token: m.LocalToken()}}, 0))
		s.expect(s.Done(), "s", ntstatus.AccessViolation, ndk.OpSend)
	}},
	{"FileWriterExtension/WriteFile", func(t *T) {
		s, p := t.Connected()
		x, err := s.QP.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
		if err != nil {
			s.want(err, ntstatus.NotSupported, "Extension")
			t.Skip("the provider does not write from files")
		}
		w := x.(ndk.FileWriter)
		const size = 250001
		s.Fill(0, size, 77)
		name := filepath.Join(t.TempDir(), "f")
		s.must(os.WriteFile(name, s.Mem[:size], 0o600))
		f, err := os.Open(name)
		s.must(err)
		defer f.Close()
		for _, tc := range []struct{ off, n, real int }{
			{0, size, size}, {1, 70000, 70000}, {4096, 61440, 61440}, {0, 0, 0}, {100, 3, 3}, {size - 10, 20, 10}, {size, 5000, 0},
			{size - 70000, 200000, 70000}, {size + 5, 1, 0},
		} {
			t.Run(fmt.Sprintf("%d+%d", tc.off, tc.n), func(t *testing.T) {
				for i := range tc.n + 10 {
					p.Mem[i] = 0xAA
				}
				s.must(w.WriteFile("w", ndk.FileRange{File: f, Offset: int64(tc.off), Length: uint32(tc.n)}, p.MR.Base()+5, p.MR.RemoteToken(), 0))
				s.exchange(p)
				r := s.Done()
				s.expect(r, "w", ntstatus.Success, ndk.OpWrite)
				if r.Bytes != uint32(tc.real) {
					t.Errorf("%d bytes from the file, want %d", r.Bytes, tc.real)
				}
				p.equal(5, tc.real, s, tc.off)
				for i := tc.real; i < tc.n; i++ {
					if p.Mem[5+i] != 0 {
						t.Fatalf("byte %d behind the end of the file is %#x", i, p.Mem[5+i])
					}
				}
				if p.Mem[4] != 0xAA || p.Mem[5+tc.n] != 0xAA {
					t.Error("a byte beside the target was written")
				}
			})
		}
		for i := range 2 { // two in a row, and a Send right behind
			s.must(w.WriteFile(i, ndk.FileRange{File: f, Offset: int64(i), Length: 100001}, p.MR.Base()+uint64(i)*200000, p.MR.RemoteToken(), ndk.Defer))
		}
		s.exchange(p)
		for i := range 2 {
			s.expect(s.Done(), i, ntstatus.Success, ndk.OpWrite)
			p.equal(i*200000, 100001, s, i)
		}
	}},
}
