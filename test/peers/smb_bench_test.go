//go:build peers

package peers

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// benchIO moves a file of 1 GiB in requests of 1 MiB, several in flight, between
// memory of this process and the binary's server in another.
//
// Whole passes are timed, and their median is what is reported: a virtual machine
// that fetches memory from its host on first use makes some of them slow.
func benchIO(b *testing.B, prepare, between func(file string), flag int, move func(f *client.File, p []byte, off int64) (int, error)) {
	const size, inFlight, passes = 1 << 20, 4, 7
	dir, err := os.MkdirTemp(os.Getenv("SMBD_RDMA_BENCH_DIR"), "")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "big")
	prepare(file)
	s := startBinServer(b, dir, "--signing", "offered")
	ctx := context.Background()
	provider, err := iwarp.New(iwarp.Config{})
	if err != nil {
		b.Fatal(err)
	}
	d, err := smbdirect.NewDialer(provider, "iwarp", smbdirect.Config{})
	if err != nil {
		b.Fatal(err)
	}
	sess, err := client.Dial(ctx, d, s.rdma, client.Config{User: "tester", Password: "secret"})
	if err != nil {
		b.Fatal(err)
	}
	defer sess.Close()
	share, err := sess.Mount(ctx, "test")
	if err != nil {
		b.Fatal(err)
	}
	pass := func() {
		f, err := share.OpenFile(ctx, "big", flag, 0o666)
		if err != nil {
			b.Fatal(err)
		}
		var next atomic.Int64
		var wg sync.WaitGroup
		for range inFlight {
			wg.Go(func() {
				p := make([]byte, size)
				for {
					off := next.Add(size) - size
					if off >= gib {
						return
					}
					if n, err := move(f, p, off); n != size || err != nil && !errors.Is(err, io.EOF) {
						b.Errorf("%d bytes at %d: %v", n, off, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		took := make([]float64, passes)
		for i := range took {
			start := time.Now()
			pass()
			took[i] = time.Since(start).Seconds()
			between(file)
		}
		slices.Sort(took)
		b.ReportMetric(gib/1e6/took[passes/2], "MB/s")
	}
	if st := sess.Stats(); st.InlineReads+st.InlineWrites > 0 || st.BytesCopied > 0 {
		b.Errorf("not all went by RDMA: %+v", st)
	}
}

func nothing(string) {}

func remove(file string) { os.Remove(file) }

func makeBig(b *testing.B) func(string) { return func(file string) { bigFile(b, file) } }

// BenchmarkSMBRead1MiB reads a file of 1 GiB.
func BenchmarkSMBRead1MiB(b *testing.B) {
	benchIO(b, makeBig(b), nothing, os.O_RDONLY, (*client.File).ReadAt)
}

// BenchmarkSMBWrite1MiB writes a new file of 1 GiB.
func BenchmarkSMBWrite1MiB(b *testing.B) {
	benchIO(b, nothing, remove, os.O_RDWR|os.O_CREATE|os.O_EXCL, (*client.File).WriteAt)
}

// BenchmarkSMBOverwrite1MiB writes over a file of 1 GiB.
func BenchmarkSMBOverwrite1MiB(b *testing.B) {
	benchIO(b, makeBig(b), nothing, os.O_RDWR, (*client.File).WriteAt)
}
