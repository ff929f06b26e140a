package network

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed alone, 20 times")
	seedsFlag = flag.Uint64("seeds", 0, "run the seeds from 1 to this")
	firstFlag = flag.Uint64("first", 1, "begin with this seed")
	timeFlag  = flag.Duration("simtime", 0, "run as many seeds as fit")
)

// TestNetwork runs seeds of whole connections. A failure is one line with its
// seed.
func TestNetwork(t *testing.T) {
	seeds, repeat := uint64(60), 1
	switch {
	case *seedFlag != 0:
		*firstFlag, seeds, repeat = *seedFlag, 1, 20
	case *seedsFlag != 0:
		seeds = *seedsFlag
	case *timeFlag != 0:
		seeds = 1 << 62
	case testing.Short():
		seeds = 25
	}
	var total model.Stats
	start, ran, done, failed := time.Now(), uint64(0), 0, 0
	for seed := *firstFlag; seed < *firstFlag+seeds && !t.Failed(); seed++ {
		if *timeFlag != 0 && time.Since(start) > *timeFlag {
			break
		}
		for range repeat {
			r := Run(Generate(seed))
			ran++
			total.Add(r.Stats)
			done += r.Done
			failed += r.Failed
			if r.Err != nil {
				t.Fatalf("seed %d: replay: go test ./fuzz/network -run TestNetwork -seed=%d\n%v", seed, seed, r.Err)
			}
		}
	}
	fmt.Printf("network: %d runs from seed %d: %d operations done, %d ended by faults; %s\n", ran, *firstFlag, done, failed, total.String())
	if ran > 20 && (done == 0 || failed == 0 || total.Tokens == 0 || total.Stalls+total.Sends == 0) {
		t.Errorf("%d operations done, %d failed, %d tokens, %d messages", done, failed, total.Tokens, total.Sends)
	}
}
