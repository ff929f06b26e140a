//go:build !race

// The race detector has pools lose what is put into them, now and then.

package pattern

import "testing"

// Sums take nothing of the heap: they are made of each block while the time is taken.
func TestSumsAllocateNothing(t *testing.T) {
	block := make([]byte, 4096)
	for m := MD5; m < PatternOnly; m++ {
		v := Verify{Method: m}
		n := testing.AllocsPerRun(1000, func() {
			var room [128]byte
			v.sum(room[:methods[m].room], block)
		})
		if n != 0 {
			t.Errorf("%v: %v allocations, want none", m, n)
		}
	}
}
