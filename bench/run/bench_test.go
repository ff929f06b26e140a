package run

import (
	"math"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
)

// BenchmarkGenerator is what the bench itself costs for an I/O: of the null engine, which
// does nothing, on one processor. One operation is one I/O with its buffer, its two
// histograms and its place in the random order.
func BenchmarkGenerator(b *testing.B) {
	for _, c := range []struct {
		name  string
		rw    job.RW
		depth int
	}{
		{"read/depth=1", reads, 1},
		{"read/depth=32", reads, 32},
		{"randread/depth=1", randReads, 1},
		{"randread/depth=32", randReads, 32},
		{"randrw/depth=32", randBoth, 32},
	} {
		b.Run(c.name, func(b *testing.B) {
			j := with(aJob("a", job.EngineNull, c.rw, 4096, 1<<30), func(j *job.Job) {
				j.IODepth, j.IODepthBatchCompleteMax = c.depth, c.depth
				j.NumberIOs, j.Loops = uint64(b.N), math.MaxInt32
			})
			b.ReportAllocs()
			rs, err := do(b, j)
			if err != nil {
				b.Fatal(err)
			}
			if n := rs[0].Traffic[0].IOs + rs[0].Traffic[1].IOs; n != int64(b.N) {
				b.Fatalf("%d I/Os, want %d", n, b.N)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "MIO/s")
		})
	}
}
