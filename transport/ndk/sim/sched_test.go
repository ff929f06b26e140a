package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The queue gives events back in order of time, those of the same time in the
// order of scheduling, each at its earliest time, and none that was cancelled; and
// it does not keep what was cancelled.
func TestQueueAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		var s sched
		s.init(&Config{})
		rnd := rand.New(rand.NewPCG(seed, 1))
		type modelled struct {
			at     time.Duration
			serial int
		}
		events := make([]event, 40)
		model := map[int]modelled{} // by index of the event
		serial, most := 0, 0
		pop := func() {
			first := -1
			for i, m := range model {
				if f := model[first]; first < 0 || m.at < f.at || m.at == f.at && m.serial < f.serial {
					first = i
				}
			}
			ev := s.next(forever)
			if first < 0 {
				if ev != nil {
					t.Fatalf("seed %d: an event that was not scheduled", seed)
				}
				return
			}
			if ev != &events[first] || s.now != model[first].at {
				t.Fatalf("seed %d: at %v came the wrong event; want event %d at %v", seed, s.now, first, model[first].at)
			}
			delete(model, first)
		}
		for range 5000 {
			i := rnd.IntN(len(events))
			switch x := rnd.IntN(10); {
			case x < 6:
				d := time.Duration(rnd.IntN(50))
				at := s.now + d
				s.after(&events[i], d)
				if m, ok := model[i]; !ok || at < m.at {
					serial++
					model[i] = modelled{at, serial}
				}
			case x < 9:
				_, had := model[i]
				if s.cancel(&events[i]) != had {
					t.Fatalf("seed %d: cancel does not know whether event %d is queued", seed, i)
				}
				delete(model, i)
			default:
				pop()
			}
			most = max(most, len(s.queue))
		}
		for range events {
			pop()
		}
		if limit := 2*len(events) + 64; most > limit {
			t.Errorf("seed %d: %d places for %d events, want at most %d", seed, most, len(events), limit)
		}
	}
}

// Ties are broken by the seed when that is wanted, and so the same each time.
func TestShuffledTies(t *testing.T) {
	order := func(seed uint64, o Order) (got []int) {
		w := newWorld(t, Config{Seed: seed, Order: o})
		for i := range 20 {
			w.After(time.Second, func() { got = append(got, i) })
		}
		w.Run()
		return got
	}
	sorted := order(1, InOrder)
	if !slices.IsSorted(sorted) || len(sorted) != 20 {
		t.Errorf("in order: %v", sorted)
	}
	a, b, c := order(1, Shuffled), order(1, Shuffled), order(2, Shuffled)
	if !slices.Equal(a, b) || slices.Equal(a, c) || slices.Equal(a, sorted) {
		t.Errorf("seed 1 twice: %v and %v; seed 2: %v", a, b, c)
	}
}
