package smbdirect

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// answerer sends one byte for each message, with the token of its first four
// bytes if it is not 0. It ends with the connection.
func answerer(c *Conn) {
	ctx := context.Background()
	m := transport.Message{Parts: [][]byte{{1}}}
	for {
		r, err := c.Receive(ctx)
		if err != nil {
			return
		}
		m.HasInvalidate = false
		if len(r.Data) == 4 {
			m.Invalidate = uint32(r.Data[0]) | uint32(r.Data[1])<<8 | uint32(r.Data[2])<<16 | uint32(r.Data[3])<<24
			m.HasInvalidate = m.Invalidate != 0
		}
		r.Release()
		if c.Send(ctx, &m) != nil {
			return
		}
	}
}

// steady are the operations of a connection at work; each is one round.
func steady(t testing.TB) map[string]func() {
	client, server := pair(t, Config{}, Config{})
	go answerer(server)
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	roundTrip := func(c *Conn, m *transport.Message) {
		check(c.Send(ctx, m))
		r, err := c.Receive(ctx)
		check(err)
		r.Release()
	}
	client2, server2 := pair(t, Config{}, Config{})
	const n = 64 << 10
	mem := make([]byte, n)
	reg, err := client2.RDMA().Register(ctx, mem, transport.PeerReads|transport.PeerWrites)
	check(err)
	check(client2.Send(ctx, msg([]byte{1})))
	receive(t, server2).Release()
	buf, err := server2.RDMA().Lease(ctx, n)
	check(err)
	path := filepath.Join(t.TempDir(), "f")
	check(os.WriteFile(path, make([]byte, n), 0o600))
	f, err := os.Open(path)
	check(err)
	t.Cleanup(func() {
		f.Close()
		buf.Release()
		// A transfer is done when the transport has its octets; those of the last one
		// are in place when the message behind it is here, and not before.
		check(server2.Send(ctx, msg([]byte{1})))
		receive(t, client2).Release()
		check(reg.Deregister(ctx, 0, false))
	})
	ds := reg.Descriptors()
	m1, m2 := msg(make([]byte, 100)), msg(make([]byte, 30<<10))
	mt := msg(make([]byte, 4))
	return map[string]func(){
		"Send and Receive, 100 bytes": func() { roundTrip(client, m1) },
		"Send and Receive, 30 KiB":    func() { roundTrip(client, m2) },
		"Write, 64 KiB":               func() { check(server2.RDMA().Write(ctx, buf, n, ds)) },
		"Read, 64 KiB":                func() { check(server2.RDMA().Read(ctx, buf, n, ds)) },
		"WriteFile, 64 KiB": func() {
			_, err := server2.RDMA().WriteFile(ctx, f, 0, n, ds)
			check(err)
		},
		"Lease and Release": func() {
			b, err := client.RDMA().Lease(ctx, n)
			check(err)
			b.Release()
		},
		"Register, Send, Deregister": func() {
			r, err := client.RDMA().Register(ctx, mem, transport.PeerWrites)
			check(err)
			roundTrip(client, m1)
			check(r.Deregister(ctx, 0, false))
		},
		"Register, Send, invalidated by the answer": func() {
			r, err := client.RDMA().Register(ctx, mem, transport.PeerWrites)
			check(err)
			tok := r.Descriptors()[0].Token
			mt.Parts[0][0], mt.Parts[0][1], mt.Parts[0][2], mt.Parts[0][3] = byte(tok), byte(tok>>8), byte(tok>>16), byte(tok>>24)
			check(client.Send(ctx, mt))
			a, err := client.Receive(ctx)
			check(err)
			inv, ok := a.Invalidated, a.HasInvalidated
			a.Release()
			check(r.Deregister(ctx, inv, ok))
		},
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget")
	}
	for name, f := range steady(t) {
		for range 300 {
			f() // rings and pools reach their size
		}
		if n := testing.AllocsPerRun(500, f); n >= 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkSteady(b *testing.B) {
	for name, f := range steady(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

// BenchmarkWrite has several transfers of 1 MiB under way, as a server with a
// deep client has.
func BenchmarkWrite(b *testing.B) {
	for _, kind := range []string{"write", "read"} {
		for _, depth := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s depth %d", kind, depth), func(b *testing.B) {
				client, server := pair(b, Config{}, Config{})
				ctx := context.Background()
				mem := make([]byte, 1<<20)
				reg, err := client.RDMA().Register(ctx, mem, transport.PeerReads|transport.PeerWrites)
				if err != nil {
					b.Fatal(err)
				}
				defer reg.Deregister(ctx, 0, false)
				if err := client.Send(ctx, msg([]byte{1})); err != nil {
					b.Fatal(err)
				}
				receive(b, server).Release()
				ds := reg.Descriptors()
				work := make(chan struct{})
				done := make(chan error, depth)
				for range depth {
					go func() { // ended by the close of work
						for range work {
							if err := transfer(ctx, server, kind == "write", ds); err != nil {
								done <- err
								return
							}
						}
						done <- nil
					}()
				}
				b.SetBytes(1 << 20)
				for b.Loop() {
					work <- struct{}{}
				}
				close(work)
				for range depth {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkMessages streams messages of a size in one direction.
func BenchmarkMessages(b *testing.B) {
	for _, n := range []int{100, 1000, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			client, server := pair(b, Config{}, Config{})
			ctx := context.Background()
			got := make(chan struct{})
			go func() { // ended by the end of the connection
				defer close(got)
				for {
					m, err := server.Receive(ctx)
					if err != nil {
						return
					}
					m.Release()
				}
			}()
			m := msg(make([]byte, n))
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if err := client.Send(ctx, m); err != nil {
					b.Fatal(err)
				}
			}
			client.Close()
			<-got
		})
	}
}

// TestIdleConnections has many connections with nothing to say.
func TestIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("needs 1200 descriptors")
	}
	l := listener(t, Config{MaxPending: 1024})
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 300
	conns := make([]transport.Conn, 0, 2*n)
	for range n {
		a, b := connect(t, d, l)
		conns = append(conns, a, b)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Heap of both ends; the registered buffers are outside of it and bounded by
	// TestConfig.
	per := int64(after.HeapAlloc-before.HeapAlloc) / (2 * n)
	t.Logf("%d KiB of heap for an idle end", per>>10)
	if per > 384<<10 {
		t.Errorf("%d bytes of heap for an idle end", per)
	}
	for _, c := range conns {
		c.Close()
	}
}

func connect(t testing.TB, d *Dialer, l *Listener) (transport.Conn, transport.Conn) {
	t.Helper()
	got := make(chan transport.Conn, 1)
	go func() {
		c, err := l.Accept(context.Background())
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	a, err := d.Dial(context.Background(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return a, <-got
}
