package server

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestByteRangeOverlaps(t *testing.T) {
	const top = math.MaxUint64
	for _, c := range []struct {
		a, b byteRange
		want bool
	}{
		{byteRange{0, 10}, byteRange{10, 1}, false},
		{byteRange{0, 10}, byteRange{9, 1}, true},
		{byteRange{5, 0}, byteRange{0, 10}, true}, // between bytes 4 and 5
		{byteRange{10, 0}, byteRange{0, 10}, false},
		{byteRange{0, 0}, byteRange{0, 10}, false},
		{byteRange{5, 0}, byteRange{5, 3}, false},
		{byteRange{5, 0}, byteRange{5, 0}, false},
		{byteRange{top, 1}, byteRange{0, top}, false},
		{byteRange{top, 1}, byteRange{1, top}, true},
		{byteRange{top, 0}, byteRange{top, 1}, false},
		{byteRange{top, 0}, byteRange{top - 1, 2}, true},
	} {
		if got := c.a.overlaps(c.b); got != c.want {
			t.Errorf("%v, %v: got %v, want %v", c.a, c.b, got, c.want)
		}
		if got := c.b.overlaps(c.a); got != c.want {
			t.Errorf("%v, %v: got %v, want %v", c.b, c.a, got, c.want)
		}
	}
	for _, c := range []struct {
		r    byteRange
		want bool
	}{
		{byteRange{top, 1}, true}, {byteRange{top, 2}, false}, {byteRange{top, 0}, true},
		{byteRange{1, top}, true}, {byteRange{2, top}, false}, {byteRange{0, top}, true},
	} {
		if got := c.r.valid(); got != c.want {
			t.Errorf("%v valid: got %v, want %v", c.r, got, c.want)
		}
	}
}

// modelLock and the functions below are [MS-FSA] 2.1.4.10 byte by byte, for
// ranges that are not empty.
type modelLock struct {
	off, n uint64
	owner  int
	excl   bool
}

func modelConflict(held []modelLock, l modelLock, forLock bool) bool {
	for b := l.off; b < l.off+l.n; b++ {
		for _, h := range held {
			if b < h.off || b >= h.off+h.n {
				continue
			}
			switch {
			case h.excl && h.owner != l.owner, h.excl && forLock && l.excl, !h.excl && l.excl:
				return true
			}
		}
	}
	return false
}

// Random locks, unlocks, waits and closes of three opens give the same as the
// model: what is held, what is refused and what a range lets through.
func TestLockTableModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	var table lockTable
	opens := []*open{{}, {}, {}}
	var model []modelLock
	type waiter struct {
		w *lockWaiter
		m modelLock
	}
	var waiting []waiter
	wake := func() {
		rest := waiting[:0]
		for _, w := range waiting {
			if modelConflict(model, w.m, true) {
				rest = append(rest, w)
				continue
			}
			model = append(model, w.m)
			select {
			case <-w.w.granted:
			default:
				t.Fatalf("%+v is free and not granted", w.m)
			}
		}
		waiting = rest
		for _, w := range waiting {
			select {
			case <-w.w.granted:
				t.Fatalf("%+v is granted and not free", w.m)
			default:
			}
		}
	}
	for range 20000 {
		m := modelLock{off: uint64(rnd.IntN(12)), n: uint64(1 + rnd.IntN(4)), owner: rnd.IntN(3), excl: rnd.IntN(2) == 0}
		l := byteLock{byteRange{m.off, m.n}, opens[m.owner], m.excl}
		switch rnd.IntN(8) {
		case 0, 1, 2:
			want := !modelConflict(model, m, true)
			if got := table.tryLock(l); got != want {
				t.Fatalf("lock %+v with %+v held: got %v, want %v", m, model, got, want)
			}
			if want {
				model = append(model, m)
			}
		case 3:
			if len(waiting) > 4 {
				w := waiting[0]
				waiting = waiting[1:]
				if !table.abandon(w.w) {
					t.Fatalf("%+v was granted", w.m)
				}
				break
			}
			w := table.enqueue(l)
			if want := modelConflict(model, m, true); (w != nil) != want {
				t.Fatalf("wait for %+v with %+v held: got %v, want %v", m, model, w != nil, want)
			}
			if w != nil {
				waiting = append(waiting, waiter{w, m})
			} else {
				model = append(model, m)
			}
		case 4, 5:
			at := -1
			for i, h := range model {
				if h.owner == m.owner && h.off == m.off && h.n == m.n && (at < 0 || !model[at].excl) {
					at = i
				}
			}
			if got := table.unlock(l.owner, l.byteRange); got != (at >= 0) {
				t.Fatalf("unlock %+v with %+v held: got %v, want %v", m, model, got, at >= 0)
			}
			if at >= 0 {
				model = append(model[:at:at], model[at+1:]...)
				wake()
			}
		case 6:
			if got, want := table.conflict(l.owner, l.byteRange, m.excl), modelConflict(model, m, false); got != want {
				t.Fatalf("access %+v with %+v held: got %v, want %v", m, model, got, want)
			}
		case 7:
			if rnd.IntN(10) > 0 {
				break
			}
			table.releaseAll(l.owner)
			var rest []modelLock
			for _, h := range model {
				if h.owner != m.owner {
					rest = append(rest, h)
				}
			}
			model = rest
			wake()
		}
		if len(table.held) != len(model) || int(table.n.Load()) != len(model) {
			t.Fatalf("%d locks held, counted %d, want %d", len(table.held), table.n.Load(), len(model))
		}
	}
}
