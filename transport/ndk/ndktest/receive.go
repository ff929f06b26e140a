package ndktest

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// sizes are around every border a transport may have: pads, segments of Ethernet
// and of jumbo frames, 16-bit lengths, pages.
var sizes = []int{0, 1, 2, 3, 4, 5, 64, 1000, 1436, 1440, 4095, 4096, 4097, 8946, 61440, 65503, 65535, 65536, 100001, 300000}

var _ = row("NDK_FN_RECEIVE", receiveEarly, receiveOrder, receiveSmall, receiveLimits, receiveScatter, receiveCancelled)

// A Receive is accepted before the QP is connected, on either side.
func receiveEarly(t *T) {
	s, p := t.Pair()
	for i := range 3 {
		s.must(s.QP.Receive(i, []ndk.SGE{s.SGE(i*100, 100)}))
		p.must(p.QP.Receive(i, []ndk.SGE{p.SGE(i*100, 100)}))
	}
	_, addr, got := p.listen()
	connectTo(s, p, addr, got)
	s.Fill(1000, 100, 1)
	p.Fill(1000, 100, 2)
	for i := range 3 {
		s.must(s.QP.Send(i, []ndk.SGE{s.SGE(1000+i, 50+i)}, ndk.SilentSuccess))
		p.received(i, 50+i)
		p.equal(i*100, 50+i, s, 1000+i)
	}
	for i := range 3 {
		p.must(p.QP.Send(i, []ndk.SGE{p.SGE(1000+i, 50+i)}, ndk.SilentSuccess))
		s.received(i, 50+i)
		s.equal(i*100, 50+i, p, 1000+i)
	}
}

// Receives complete in the order of posting, with the length of their message.
func receiveOrder(t *T) {
	t.Sub("lengths", func(t *T) {
		s, p := t.Connected()
		for i, n := range sizes {
			s.Fill(i, n, byte(i))
			p.must(p.QP.Receive(n, []ndk.SGE{p.SGE(0, n+5)}))
			s.must(s.QP.Send(n, s.split(i, n, 2), 0))
			s.expect(s.Done(), n, ntstatus.Success, ndk.OpSend)
			p.received(n, n)
			p.equal(0, n, s, i)
		}
	})
	t.Sub("order", func(t *T) {
		s, p := t.Connected()
		for i := range qDepth {
			p.must(p.QP.Receive(i, []ndk.SGE{p.SGE(i*100, 100)}))
		}
		s.Fill(0, 200, 9)
		for i := range qDepth {
			s.must(s.QP.Send("s", []ndk.SGE{s.SGE(i, i)}, ndk.SilentSuccess))
		}
		for i := range qDepth {
			p.received(i, i)
			p.equal(i*100, i, s, i)
		}
		p.silence()
	})
}

// split is n bytes at off in k SGEs, if the requests of the suite may have that
// many, with an empty one among them if they may have one more.
func (s *Side) split(off, n, k int) (sgl []ndk.SGE) {
	most := s.QPConfig().MaxInitiatorSGE
	k = min(k, most)
	for i := range k {
		part := n / (k - i)
		sgl = append(sgl, s.SGE(off, part))
		off += part
		n -= part
		if i == 0 && k < most {
			sgl = append(sgl, s.SGE(off, 0))
		}
	}
	return sgl
}

// A message longer than the receive completes it with BufferOverflow and ends the
// connection; no byte behind the receive changes.
func receiveSmall(t *T) {
	for _, tc := range []struct {
		name       string
		room, size int
	}{{"a byte too long", 7, 8}, {"no room", 0, 1}, {"much too long", 100, 100000}} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Connected()
			s.Fill(0, tc.size, 1)
			p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(8, tc.room)}))
			p.must(p.QP.Receive("behind", []ndk.SGE{p.SGE(500000, 100)}))
			s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, tc.size)}, ndk.SilentSuccess))
			r := p.Received()
			p.failed(r, "r", ndk.OpReceive, ndk.RuleReceiveSize)
			if r.Status != ntstatus.BufferOverflow {
				t.Errorf("%v, want %v", r.Status, ntstatus.BufferOverflow)
			}
			s.lost()
			p.lost()
			p.QP.Flush() // if the end of the connection has not done it
			p.expect(p.Received(), "behind", ntstatus.Cancelled, ndk.OpReceive)
			p.untouched(0, 8)
			p.untouched(8+tc.room, 200000)
			p.untouched(500000, 100)
		})
	}
}

// A full queue and too many SGEs are refused inline, and nothing completes for
// what was refused.
func receiveLimits(t *T) {
	s, p := t.Connected()
	p.refusal(p.QP.Receive("x", make([]ndk.SGE, p.QPConfig().MaxReceiveSGE+1)), ndk.ErrTooManySGEs, "an SGE too many")
	for i := range qDepth {
		p.must(p.QP.Receive(i, nil))
	}
	p.refusal(p.QP.Receive("x", nil), ndk.ErrQueueFull, "a receive too many")
	for i := range qDepth {
		s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
		p.received(i, 0)
		if i == 0 { // there is room again
			p.must(p.QP.Receive(qDepth, nil))
			p.refusal(p.QP.Receive("x", nil), ndk.ErrQueueFull, "a receive too many")
		}
	}
	p.QP.Flush()
	p.expect(p.Received(), qDepth, ntstatus.Cancelled, ndk.OpReceive)
	p.silence()
}

// A message fills the SGEs in their order; what is behind its end is untouched.
func receiveScatter(t *T) {
	s, p := t.Connected()
	const gap, room = 10000, 5000
	k := p.QPConfig().MaxReceiveSGE
	for i, n := range []int{0, 1, room - 1, room, room + 1, k*room - 1, k * room} {
		s.Fill(0, n, byte(i))
		clear(p.Mem[:(k+1)*gap])
		var sgl []ndk.SGE
		for j := range k { // from the end of the buffer to its start
			sgl = append(sgl, p.SGE((k-1-j)*gap+1, room))
		}
		p.must(p.QP.Receive(n, sgl))
		s.must(s.QP.Send(n, []ndk.SGE{s.SGE(0, n)}, 0))
		s.expect(s.Done(), n, ntstatus.Success, ndk.OpSend)
		p.received(n, n)
		for j := range k {
			part := min(room, max(0, n-j*room))
			off := (k-1-j)*gap + 1
			p.equal(off, part, s, j*room)
			p.untouched(off-1, 1)
			p.untouched(off+part, gap-1-part)
		}
	}
	t.Sub("an empty SGE", func(t *T) {
		s, p := t.Connected()
		if k < 3 {
			return // a receive cannot have one in the middle
		}
		for _, n := range sizes {
			s.Fill(0, n, byte(n))
			p.must(p.QP.Receive(n, []ndk.SGE{p.SGE(0, n/3), p.SGE(n/3, 0), p.SGE(n/3, n-n/3)}))
			s.must(s.QP.Send(n, s.split(0, n, 2), 0))
			s.expect(s.Done(), n, ntstatus.Success, ndk.OpSend)
			p.received(n, n)
			p.equal(0, n, s, 0)
		}
	})
}

// What is still queued at a disconnect, a flush or a close completes with
// Cancelled.
func receiveCancelled(t *T) {
	for _, tc := range []struct {
		name string
		end  func(s, p *Side)
	}{
		{"Disconnect", func(s, _ *Side) { s.must(s.C.Disconnect(s.ctx)) }},
		{"Disconnect of both", func(s, p *Side) {
			p.must(p.C.Disconnect(p.ctx))
			s.lost()
			s.must(s.C.Disconnect(s.ctx))
		}},
		{"Flush", func(s, _ *Side) { s.QP.Flush() }},
		{"Close of the connector", func(s, _ *Side) { s.C.Close() }},
		{"Close of the QP", func(s, _ *Side) { s.QP.Close() }},
	} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Connected()
			p.exchange(s)
			for i := range 5 {
				s.must(s.QP.Receive(i, []ndk.SGE{s.SGE(0, 8)}))
			}
			tc.end(s, p)
			for i := range 5 {
				s.expect(s.Received(), i, ntstatus.Cancelled, ndk.OpReceive)
			}
			s.silence()
			s.untouched(0, 8)
		})
	}
	t.Sub("Close, done", func(t *T) {
		s, _ := t.Connected()
		for i := range 5 {
			s.must(s.QP.Receive(i, nil))
		}
		s.C.Close()
		s.must(ndk.CloseWait(s.ctx, s.QP))
		var r [6]ndk.ResultEx
		if n := s.RCQ.PollEx(r[:]); n != 5 {
			t.Fatalf("%d of 5 receives completed before the QP was closed", n)
		}
		for i := range 5 {
			s.expect(r[i], i, ntstatus.Cancelled, ndk.OpReceive)
		}
	})
}
