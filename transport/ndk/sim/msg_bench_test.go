package sim

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// BenchmarkMessages streams small Sends in batches of 32, as a connection at work
// does: receives posted again, silent sends, one completion for a batch.
func BenchmarkMessages(b *testing.B) {
	_, s, p := connected(b, Config{Latency: -1, TraceBytes: -1})
	sgl, rgl := []ndk.SGE{s.sge(0, 124)}, []ndk.SGE{p.sge(0, 512)}
	var res [64]ndk.ResultEx
	const batch = 32
	b.ReportAllocs()
	for b.Loop() {
		for range batch {
			s.must(p.qp.Receive(p, rgl))
		}
		for i := range batch {
			f := ndk.SilentSuccess | ndk.Defer
			if i == batch-1 {
				f = 0
			}
			s.must(s.qp.Send(s, sgl, f))
		}
		for s.w.Step() {
		}
		if n := s.icq.PollEx(res[:]); n != 1 {
			b.Fatalf("%d sends", n)
		}
		if n := p.rcq.PollEx(res[:]); n != batch {
			b.Fatalf("%d receives", n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/message")
}
