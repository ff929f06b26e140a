package core

import (
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// benchEnd is an engine with a driver that copies a message from one end straight
// into a receive buffer of the other: an adapter that costs nothing.
type benchEnd struct {
	e    *Engine
	peer *benchEnd
	in   [][]byte // receive buffers that are full
	free [][]byte
	sent int // sends to be reported complete
	got  int // messages delivered
	buf  [16]byte
}

func (s *benchEnd) run(now time.Duration) {
	for a, ok := s.e.Next(); ok; a, ok = s.e.Next() {
		switch a.Kind {
		case PostReceives:
			s.e.Posted(now, a.Count)
		case SendRequest:
			b, _ := a.Request.AppendBinary(s.peer.buffer())
			s.peer.in = append(s.peer.in, b)
			s.sent++
		case SendResponse:
			b, _ := a.Response.AppendBinary(s.peer.buffer())
			s.peer.in = append(s.peer.in, b)
			s.sent++
		case SendData:
			b, _ := a.Header.AppendBinary(s.peer.buffer())
			if a.Length > 0 {
				b = b[:wire.PayloadOffset]
				b = append(b, s.buf[:a.Length]...)
			}
			s.peer.in = append(s.peer.in, b)
			s.sent++
		case Terminate:
			panic(a.Err)
		}
	}
}

func (s *benchEnd) buffer() []byte {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b[:0]
	}
	return make([]byte, 0, 2048)
}

// pump completes what was sent and takes in what came.
func (s *benchEnd) pump(now time.Duration) (worked bool) {
	if n := s.sent; n > 0 {
		s.sent = 0
		s.e.SendCompleted(now, n)
		s.run(now)
		worked = true
	}
	in := s.in
	s.in = nil
	for _, b := range in {
		if d, ok := s.e.Received(now, b, 0, false); ok && d.Last {
			s.got++
		}
		s.run(now)
		s.free = append(s.free, b)
		worked = true
	}
	if s.in == nil {
		s.in = in[:0]
	}
	return worked
}

// BenchmarkMessages is what the engines at both ends cost for a small message.
func BenchmarkMessages(b *testing.B) {
	newEnd := func(r Role) *benchEnd {
		e, err := New(Config{Role: r})
		if err != nil {
			b.Fatal(err)
		}
		return &benchEnd{e: e}
	}
	p, q := newEnd(Active), newEnd(Passive)
	p.peer, q.peer = q, p
	now := time.Duration(1)
	p.e.Start(now)
	q.e.Start(now)
	p.run(now)
	q.run(now)
	p.e.ConnectionUp()
	p.run(now)
	settle := func() {
		for p.pump(now) || q.pump(now) {
		}
	}
	settle()
	if p.e.Connection().Role != Established || q.e.Connection().Role != Established {
		b.Fatal("not established")
	}
	const batch = 32
	id := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		now++
		for range batch {
			id++
			if err := p.e.Submit(now, id, 16, 0, false); err != nil {
				b.Fatal(err)
			}
			p.run(now)
		}
		settle()
	}
	if uint64(q.got) != id {
		b.Fatalf("%d of %d messages", q.got, id)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(id), "ns/message")
}
