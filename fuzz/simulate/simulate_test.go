package simulate

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed alone")
	fileFlag  = flag.String("minimised", "", "run the scenario of this file alone")
	seedsFlag = flag.Uint64("seeds", 0, "run the seeds from 1 to this")
	firstFlag = flag.Uint64("first", 1, "begin with this seed")
	timeFlag  = flag.Duration("simtime", 0, "run as many seeds as fit")
)

// failures is where minimised scenarios are left.
var failures = filepath.Join("testdata", "failures")

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
	file := filepath.Join(failures, fmt.Sprintf("%d.json", s.Seed))
	if err := os.MkdirAll(failures, 0o755); err != nil {
		t.Error(err)
	}
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

// TestScenarios runs the scenarios of testdata: those that showed something once,
// and those that failed just now.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	more, err := filepath.Glob(filepath.Join(failures, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, more...) {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".json"), func(t *testing.T) {
			s, err := Load(f)
			if err != nil {
				t.Fatal(err)
			}
			if r := Run(s); r.Err != nil {
				t.Error(r.Err)
			}
		})
	}
}

// The same seed gives the same events, and what was saved is what was run.
func TestDeterminism(t *testing.T) {
	seen := map[uint64]uint64{}
	for seed := uint64(1); seed <= 60; seed++ {
		s := Generate(seed)
		r := Run(s)
		if again := Run(Generate(seed)); again.Hash != r.Hash || again.Stats != r.Stats {
			t.Errorf("seed %d: digests %016x and %016x", seed, r.Hash, again.Hash)
		}
		file := filepath.Join(t.TempDir(), "s.json")
		if err := s.Save(file); err != nil {
			t.Fatal(err)
		}
		l, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := Run(l); got.Hash != r.Hash {
			t.Errorf("seed %d from a file: digests %016x and %016x", seed, r.Hash, got.Hash)
		}
		if other, ok := seen[r.Hash]; ok {
			t.Errorf("seeds %d and %d are the same run", other, seed)
		}
		seen[r.Hash] = seed
	}
}

// spoils are changes of what the model is told, and the law that has to notice.
// Those of an engine itself are for make mutate.
var spoils = []struct {
	name string
	law  model.Law
	do   func(n int) func(*model.Event)
}{
	{"a credit more in a message", model.PostedFirst, nth(model.Send, func(e *model.Event) { e.Bytes[2]++ })},
	{"no grant in a message", model.Announced, nth(model.Send, func(e *model.Event) {
		if len(e.Bytes) != wire.NegotiateResponseSize || e.ID != 0 {
			e.Bytes[2], e.Bytes[3] = 0, 0
		}
	})},
	{"a receive less", model.PostedFirst, nth(model.Post, func(e *model.Event) { e.N-- })},
	{"another CreditsRequested", model.Request, nth(model.Send, func(e *model.Event) { e.Bytes[0] ^= 1 })},
	{"a changed octet", model.Octets, nth(model.Send, func(e *model.Event) {
		if e.ID != 0 {
			e.Bytes[len(e.Bytes)-1] ^= 1
		}
	})},
	{"a lost octet", model.Octets, nth(model.Deliver, func(e *model.Event) { e.Bytes = e.Bytes[:max(len(e.Bytes)-1, 0)] })},
	{"a probe out of time", model.Keepalive, nth(model.Send, func(e *model.Event) {
		if len(e.Bytes) != wire.NegotiateResponseSize {
			e.Bytes[4] = 1
		}
	})},
	{"a token of nobody's", model.Token, nth(model.Send, func(e *model.Event) { e.HasToken = true })},
}

// nth changes each event of a kind from the n-th on, in a copy.
func nth(k model.Kind, change func(*model.Event)) func(int) func(*model.Event) {
	return func(n int) func(*model.Event) {
		return func(e *model.Event) {
			if e.Kind != k {
				return
			}
			if n--; n < 0 {
				e.Bytes = bytes.Clone(e.Bytes)
				change(e)
			}
		}
	}
}

// TestSpoils has a model that is told a lie at some point: it notices, and the run
// gets short.
func TestSpoils(t *testing.T) {
	for _, c := range spoils {
		t.Run(c.name, func(t *testing.T) {
			found := false
			for seed := uint64(1); seed < 40 && !found; seed++ {
				lie := func(s Scenario) Result { return run(s, nil, c.do(12)) }
				s := Generate(seed)
				if law(lie(s).Err) != c.law {
					continue
				}
				found = true
				if m := shrink(s, lie, 600); law(lie(m).Err) != c.law || len(m.Actions) > len(s.Actions)/4 {
					t.Errorf("seed %d: %d actions shrunk to %d, which end with %v", seed, len(s.Actions), len(m.Actions), lie(m).Err)
				}
			}
			if !found {
				t.Errorf("no breach of %v in 40 runs", c.law)
			}
		})
	}
}
