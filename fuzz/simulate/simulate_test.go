package simulate

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed alone")
	fileFlag  = flag.String("minimised", "", "run the scenario of this file alone")
	seedsFlag = flag.Uint64("seeds", 0, "run the seeds from 1 to this")
	firstFlag = flag.Uint64("first", 1, "begin with this seed")
	timeFlag  = flag.Duration("simtime", 0, "run as many seeds as fit")
)

const quick = 1200 // seeds of a plain go test

// TestSimulation runs seeds. A failure is one line with its seed; a minimised
// scenario that breaks the same law is left in testdata/failures, which
// TestRegressions runs from then on.
func TestSimulation(t *testing.T) {
	switch {
	case *fileFlag != "":
		s, err := Load(*fileFlag)
		if err != nil {
			t.Fatal(err)
		}
		r := Trace(s, trace())
		t.Logf("hash %016x\n%s", r.Hash, r.Stats.String())
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return
	case *seedFlag != 0:
		s := Generate(*seedFlag)
		r := Trace(s, trace())
		t.Logf("seed %d: hash %016x\n%s", s.Seed, r.Hash, r.Stats.String())
		if r.Err != nil {
			report(t, s, r.Err)
		}
		return
	}
	seeds := uint64(quick)
	switch {
	case *seedsFlag != 0:
		seeds = *seedsFlag
	case *timeFlag != 0:
		seeds = 1 << 62
	case testing.Short():
		seeds = quick / 2
	}
	var total model.Stats
	start, ran := time.Now(), uint64(0)
	for seed := *firstFlag; seed < *firstFlag+seeds && !t.Failed(); seed++ {
		if *timeFlag != 0 && time.Since(start) > *timeFlag {
			break
		}
		s := Generate(seed)
		r := Run(s)
		ran++
		total.Add(r.Stats)
		if r.Err != nil {
			report(t, s, r.Err)
		}
	}
	fmt.Printf("simulate: seeds %d to %d: %s\n", *firstFlag, *firstFlag+ran-1, total.String())
	if none := total.Missing(); ran >= quick/2 && !t.Failed() && len(none) > 0 {
		t.Errorf("not reached in %d seeds: %s", ran, strings.Join(none, ", "))
	}
}

// trace is where the events of a single run go: with -v, to the standard output.
func trace() io.Writer {
	if testing.Verbose() {
		return os.Stdout
	}
	return nil
}

func report(t *testing.T, s Scenario, err error) {
	t.Helper()
	m := Minimise(s, 1500)
	file := filepath.Join("testdata", "failures", fmt.Sprintf("%d.json", s.Seed))
	if err := m.Save(file); err != nil {
		t.Error(err)
	}
	t.Errorf("seed %d: %s, replay: go test ./fuzz/simulate -run TestSimulation -seed=%d or -minimised=%s (%d actions)\n%v", s.Seed, head(err), s.Seed, file, len(m.Actions), Run(m).Err)
}

// head is the law of an error.
func head(err error) string {
	if l := law(err); l != 0 {
		return l.String()
	}
	return err.Error()
}
