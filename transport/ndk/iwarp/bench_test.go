package iwarp

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Throughput over loopback. A Send after each window of transfers tells that the
// peer has all of it, so that the figures are those of data that arrived. All
// transfers are between the same two buffers of 1 MiB, as those of iperf3 are
// between its two of 128 KiB.
const (
	benchSize  = 1 << 20
	benchDepth = 8
)

func benchTransfers(b *testing.B, cfg Config, post func(c, s *end) error) {
	c, s := pair(b, cfg, cfg, benchSize)
	for i := range c.mem {
		c.mem[i] = byte(i)
	}
	for i := range s.mem {
		s.mem[i] = byte(i)
	}
	sync := func() {
		must(b, s.qp.Receive(nil, nil))
		must(b, c.qp.Send(nil, nil, ndk.SilentSuccess|ndk.ReadFence))
		if r := s.wait(); r.Status != 0 {
			b.Fatal(r.Status)
		}
	}
	b.SetBytes(benchSize)
	b.ReportAllocs()
	out := 0
	for b.Loop() {
		if out == benchDepth {
			if r := c.wait(); r.Status != 0 {
				b.Fatal(r.Status)
			}
			out--
		}
		must(b, post(c, s))
		out++
	}
	for ; out > 0; out-- {
		c.wait()
	}
	sync()
	b.StopTimer()
	c.close()
	s.close()
}

func BenchmarkWrite1MiB(b *testing.B) {
	benchTransfers(b, Config{}, func(c, s *end) error {
		return c.qp.Write(nil, c.whole(), s.mr.Base(), s.mr.RemoteToken(), 0)
	})
}

func BenchmarkWrite1MiBCRC(b *testing.B) {
	benchTransfers(b, Config{CRC: true}, func(c, s *end) error {
		return c.qp.Write(nil, c.whole(), s.mr.Base(), s.mr.RemoteToken(), 0)
	})
}

// BenchmarkWrite1MiBEthernet has FPDUs of the size that fits a segment of 1460
// octets, as on a wire.
func BenchmarkWrite1MiBEthernet(b *testing.B) {
	benchTransfers(b, Config{MaxFPDU: 1460}, func(c, s *end) error {
		return c.qp.Write(nil, c.whole(), s.mr.Base(), s.mr.RemoteToken(), 0)
	})
}

func BenchmarkRead1MiB(b *testing.B) {
	benchTransfers(b, Config{}, func(c, s *end) error {
		return c.qp.Read(nil, c.whole(), s.mr.Base(), s.mr.RemoteToken(), 0)
	})
}

func BenchmarkWriteFile1MiB(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	must(b, err)
	defer f.Close()
	_, err = f.Write(make([]byte, benchSize))
	must(b, err)
	var w ndk.FileWriter
	benchTransfers(b, Config{}, func(c, s *end) error {
		if w == nil {
			e, err := c.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
			must(b, err)
			w = e.(ndk.FileWriter)
		}
		return w.WriteFile(nil, ndk.FileRange{File: f, Length: benchSize}, s.mr.Base(), s.mr.RemoteToken(), 0)
	})
}

// BenchmarkPingPong64 is a round trip of two messages of 64 octets by Send and
// Receive, by a consumer that answers in the notification callback and by one
// whose goroutine waits for it; and beside them by the bare sockets of Go, which
// is what such a provider can reach at best. The goroutine costs a switch on
// either side. Nobody may write to the memory of these ends: where a peer may, the
// header of each message is read on its own, as a Write could be next.
func BenchmarkPingPong64(b *testing.B) {
	b.Run("iwarp, callback", pingPongCallback)
	b.Run("iwarp, goroutine", func(b *testing.B) { pingPong(b, Config{}) })
	b.Run("tcp", pingPongTCP)
}

// closeToPeers registers the memory of e without remote rights.
func (e *end) closeToPeers() {
	ctx := context.Background()
	must(e.t, e.mr.Deregister(ctx))
	must(e.t, e.mr.Register(ctx, ndk.Memory{e.mem}, len(e.mem), ndk.MRAllowLocalWrite))
}

// player is an end that answers each message in its notification callback, so
// often as it is told.
type player struct {
	*end
	cq      ndk.CQ
	qp      ndk.QP
	in, out []ndk.SGE
	buf     [4]ndk.ResultEx
	left    int // owned by the callback
	done    chan struct{}
	failed  error
}

func newPlayer(b *testing.B) *player {
	b.Helper()
	ctx := context.Background()
	p := &player{end: newEnd(b, Config{}, 1<<16), done: make(chan struct{}, 1)}
	var err error
	p.cq, err = p.a.CreateCQ(ctx, ndk.CQConfig{Depth: 64, Notify: p.notify})
	must(b, err)
	p.qp, err = p.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: p.cq, InitiatorCQ: p.end.cq, ReceiveQueueDepth: 4, InitiatorQueueDepth: 16, MaxReceiveSGE: 1, MaxInitiatorSGE: 1})
	must(b, err)
	p.closeToPeers()
	p.in, p.out = []ndk.SGE{p.sge(0, 64)}, []ndk.SGE{p.sge(64, 64)}
	must(b, p.qp.Receive(nil, p.in))
	p.cq.Arm(ndk.ArmAny)
	return p
}

func (p *player) notify(ndk.Status) {
	for {
		n := p.cq.PollEx(p.buf[:])
		for _, r := range p.buf[:n] {
			if r.Status != 0 {
				return // the end
			}
			if p.failed = p.qp.Receive(nil, p.in); p.failed != nil {
				break
			}
			if p.left--; p.left == 0 {
				p.done <- struct{}{}
				continue
			}
			if p.failed = p.qp.Send(nil, p.out, ndk.SilentSuccess); p.failed != nil {
				break
			}
		}
		if n == 0 {
			p.cq.Arm(ndk.ArmAny)
			return
		}
	}
}

func (p *player) close() {
	p.qp.Close()
	p.cq.Close()
	p.end.close()
}

func pingPongCallback(b *testing.B) {
	ctx := context.Background()
	c, s := newPlayer(b), newPlayer(b)
	got := make(chan ndk.Connector, 1)
	l, err := s.a.CreateListener(ctx, func(c ndk.Connector) { got <- c })
	must(b, err)
	must(b, l.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0")))
	addr, err := l.LocalAddr()
	must(b, err)
	c.c, err = c.a.CreateConnector(ctx)
	must(b, err)
	res := make(chan error, 1)
	go func() { // ends with Accept
		s.c = <-got
		res <- s.c.Accept(ctx, s.qp, ndk.ConnParams{}, nil)
	}()
	must(b, c.c.Connect(ctx, c.qp, netip.AddrPort{}, addr, ndk.ConnParams{}))
	must(b, c.c.CompleteConnect(ctx, nil))
	must(b, <-res)
	l.Close()

	const rounds = 64 // so that the goroutine of the benchmark costs nothing
	b.SetBytes(128)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; n%rounds == 0 {
			c.left = rounds
			must(b, c.qp.Send(nil, c.out, ndk.SilentSuccess))
			<-c.done
		}
	}
	b.StopTimer()
	c.close()
	s.close()
	if c.failed != nil || s.failed != nil {
		b.Fatal(c.failed, s.failed)
	}
}

func pingPong(b *testing.B, cfg Config) {
	c, s := pair(b, cfg, cfg, 1<<16)
	c.closeToPeers()
	s.closeToPeers()
	done := make(chan struct{})
	must(b, s.qp.Receive(nil, []ndk.SGE{s.sge(0, 64)}))
	go func() { // ends with the connection; waited for below
		defer close(done)
		in, out := []ndk.SGE{s.sge(0, 64)}, []ndk.SGE{s.sge(64, 64)}
		for {
			if r := s.wait(); r.Status != 0 || s.qp.Receive(nil, in) != nil || s.qp.Send(nil, out, ndk.SilentSuccess) != nil {
				return
			}
		}
	}()
	in, out := []ndk.SGE{c.sge(0, 64)}, []ndk.SGE{c.sge(64, 64)}
	b.SetBytes(128)
	b.ReportAllocs()
	for b.Loop() {
		must(b, c.qp.Receive(nil, in))
		must(b, c.qp.Send(nil, out, ndk.SilentSuccess))
		if r := c.wait(); r.Status != 0 {
			b.Fatal(r.Status)
		}
	}
	b.StopTimer()
	c.close()
	s.qp.Flush()
	<-done
	s.close()
}

func pingPongTCP(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer l.Close()
	done := make(chan struct{})
	go func() { // ends with the connection; waited for below
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 64)
		for {
			if _, err := io.ReadFull(conn, buf); err != nil {
				return
			}
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	must(b, err)
	buf := make([]byte, 64)
	b.SetBytes(128)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	conn.Close()
	<-done
}

// whole is an SGE list for the first benchSize octets, made once.
func (e *end) whole() []ndk.SGE {
	if e.sgl == nil {
		e.sgl = []ndk.SGE{e.sge(0, benchSize)}
	}
	return e.sgl
}
