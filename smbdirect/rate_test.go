package smbdirect

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/sim"
)

// simPair is a connection over a network without latency.
func simPair(t testing.TB, cfg Config) (client, server *Conn) {
	t.Helper()
	hosts := [][]netip.Addr{{netip.MustParseAddr("10.0.0.1")}, {netip.MustParseAddr("10.0.0.2")}}
	w, err := sim.New(sim.Config{Auto: true, Latency: -1, TraceBytes: -1, Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	l, err := Listen(context.Background(), w, "sim", "10.0.0.2:445", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d, err := NewDialer(w, "sim", cfg)
	if err != nil {
		t.Fatal(err)
	}
	a, b := connect(t, d, l)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*Conn), b.(*Conn)
}

// cpuTime is what the process has used of the processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMessageRate streams messages of 64 bytes over one connection on sim
// without latency, and reports how many a core carries a second: both ends, the
// provider and the callers counted.
func BenchmarkMessageRate(b *testing.B) {
	for _, senders := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("%d senders", senders), func(b *testing.B) {
			client, server := simPair(b, Config{})
			ctx := context.Background()
			var all sync.WaitGroup
			all.Go(func() {
				for range b.N {
					m, err := server.Receive(ctx)
					if err != nil {
						b.Error(err)
						return
					}
					m.Release()
				}
			})
			b.ReportAllocs()
			b.ResetTimer()
			start := cpuTime()
			for i := range senders {
				n := b.N / senders
				if i == 0 {
					n += b.N % senders
				}
				all.Go(func() {
					m := msg(make([]byte, 64))
					for range n {
						if err := client.Send(ctx, m); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			used := cpuTime() - start
			b.ReportMetric(float64(b.N)/used.Seconds(), "messages/core-s")
			b.ReportMetric(float64(client.Stats().CreditStalls), "stalls")
		})
	}
}

// BenchmarkRegistration is a read of 64 KiB as client and server do it, over
// loopback iWARP: register, ask, RDMA Write, answer with the token to invalidate,
// deregister. It reports which part of the time the registration takes.
func BenchmarkRegistration(b *testing.B) {
	client, server := pair(b, Config{}, Config{})
	ctx := context.Background()
	const n = 64 << 10
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer client.Close()
	all.Go(func() { // ends with the connection
		buf, err := server.RDMA().Lease(ctx, n)
		if err != nil {
			b.Error(err)
			return
		}
		defer buf.Release()
		answer := transport.Message{Parts: [][]byte{{1}}, HasInvalidate: true}
		ds := make([]transport.Descriptor, 1)
		for {
			m, err := server.Receive(ctx)
			if err != nil {
				return
			}
			le := binary.LittleEndian
			ds[0] = transport.Descriptor{Offset: le.Uint64(m.Data), Token: le.Uint32(m.Data[8:]), Length: n}
			m.Release()
			answer.Invalidate = ds[0].Token
			if server.RDMA().Write(ctx, buf, n, ds) != nil || server.Send(ctx, &answer) != nil {
				return
			}
		}
	})
	mem, ask := make([]byte, n), msg(make([]byte, 100))
	var registration time.Duration
	b.SetBytes(n)
	b.ReportAllocs()
	for b.Loop() {
		t0 := time.Now()
		reg, err := client.RDMA().Register(ctx, mem, transport.PeerWrites)
		check(err)
		registration += time.Since(t0)
		d := reg.Descriptors()[0]
		binary.LittleEndian.PutUint64(ask.Parts[0], d.Offset)
		binary.LittleEndian.PutUint32(ask.Parts[0][8:], d.Token)
		check(client.Send(ctx, ask))
		m, err := client.Receive(ctx)
		check(err)
		token, ok := m.Invalidated, m.HasInvalidated
		m.Release()
		t0 = time.Now()
		check(reg.Deregister(ctx, token, ok))
		registration += time.Since(t0)
	}
	b.ReportMetric(100*float64(registration)/float64(b.Elapsed()), "%registration")
}
