package e2e

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// BenchmarkDepth32 keeps 32 requests under way on one connection over loopback
// iWARP, and reports for which part of the time either end had something to send
// and no credit.
func BenchmarkDepth32(b *testing.B) {
	const depth, size = 32, 64 << 20
	for _, tc := range []struct {
		name      string
		bs        int
		threshold int
		write     bool
	}{
		{"read 64 KiB by RDMA", 64 << 10, 4096, false},
		{"write 64 KiB by RDMA", 64 << 10, 4096, true},
		{"read 4 KiB by RDMA", 4 << 10, 4096, false},
		{"write 4 KiB by RDMA", 4 << 10, 4096, true},
		{"read 4 KiB inline", 4 << 10, 1 << 20, false},
		{"write 4 KiB inline", 4 << 10, 1 << 20, true},
	} {
		b.Run(tc.name, func(b *testing.B) {
			s := newSite(b, options{server: offeredSigning})
			ctx := context.Background()
			sh, err := mount(ctx, dialer(b, "iwarp"), s.addr("iwarp"), client.Config{RDMAThreshold: tc.threshold})
			must(b, err)
			sess := sh.Session()
			defer sess.Close()
			must(b, sh.WriteFile(ctx, "f", make([]byte, size), 0o666))
			f, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
			must(b, err)
			blocks := make(chan int64)
			var all sync.WaitGroup
			for range depth {
				all.Go(func() {
					p := make([]byte, tc.bs)
					for off := range blocks {
						var n int
						var err error
						if tc.write {
							n, err = f.WriteAt(p, off)
						} else {
							n, err = f.ReadAt(p, off)
						}
						if n != len(p) {
							b.Error(n, err)
						}
					}
				})
			}
			stalled := func() (mine, theirs time.Duration) {
				s.rdm.mu.Lock()
				defer s.rdm.mu.Unlock()
				for c := range s.rdm.conns {
					theirs += c.Stats().CreditStallTime
				}
				return sess.TransportStats().CreditStallTime, theirs
			}
			c0, s0 := stalled()
			start := time.Now()
			b.SetBytes(int64(tc.bs))
			i := int64(0)
			for b.Loop() {
				blocks <- i * int64(tc.bs) % size
				i++
			}
			close(blocks)
			all.Wait()
			took := time.Since(start)
			c1, s1 := stalled()
			b.ReportMetric(100*float64(c1-c0)/float64(took), "%stalled-client")
			b.ReportMetric(100*float64(s1-s0)/float64(took), "%stalled-server")
			must(b, f.Close())
		})
	}
}
