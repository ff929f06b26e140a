package iwarp

import (
	"runtime"
	"testing"
)

// A connection that is idle is cheap: here with an adapter, a CQ, a QP and a
// region of its own for each end.
func TestIdleMemory(t *testing.T) {
	const pairs, limit = 50, 64 << 10
	inUse := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := inUse()
	goroutines := runtime.NumGoroutine()
	var ends []*end
	for range pairs {
		c, s := pair(t, Config{}, Config{}, 4096)
		must(t, s.qp.Receive(nil, nil))
		must(t, c.qp.Send(nil, nil, 0))
		s.wait()
		c.wait()
		ends = append(ends, c, s)
	}
	per := (int64(inUse()) - int64(before)) / (2 * pairs)
	t.Logf("%d bytes for each idle end", per)
	if per > limit && !raceEnabled {
		t.Errorf("%d bytes for each idle end, want at most %d", per, limit)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 2*pairs {
		t.Errorf("%d goroutines for %d idle ends, want one each", n, 2*pairs)
	}
	for _, e := range ends {
		e.close()
	}
}
