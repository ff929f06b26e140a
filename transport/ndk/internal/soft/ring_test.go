package soft

import "testing"

// What is queued keeps its position when the ring grows, also across the wrap of
// the ring and of the positions.
func TestGrowRing(t *testing.T) {
	const perSlot = 2
	for _, first := range []uint32{0, 5, 1<<32 - 3} {
		ring, sges := GrowRing[uint32](nil, nil, perSlot, first, first)
		if len(ring) != 8 || len(sges) != 8*perSlot {
			t.Fatalf("%d slots with %d SGEs at first, want 8 with 16", len(ring), len(sges))
		}
		tail := first + 8
		for s := first; s != tail; s++ {
			ring[s&7] = s
			sges[(s&7)*perSlot+1].Len = s
		}
		ring, sges = GrowRing(ring, sges, perSlot, first, tail)
		if len(ring) != 16 || len(sges) != 16*perSlot {
			t.Fatalf("%d slots with %d SGEs, want 16 with 32", len(ring), len(sges))
		}
		for s := first; s != tail; s++ {
			if k := s & 15; ring[k] != s || sges[k*perSlot+1].Len != s {
				t.Errorf("from %d: slot of %d has %d and %d", first, s, ring[k], sges[k*perSlot+1].Len)
			}
		}
	}
}
