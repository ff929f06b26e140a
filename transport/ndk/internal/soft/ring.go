package soft

// ringFirstSize is the first length of a queue of requests; it doubles up to the
// depth that was asked for, rounded up to a power of two.
const ringFirstSize = 8

// GrowRing returns a queue of requests and the SGEs of its slots, each slot with
// room for perSlot of them, at twice the length. The requests from position head
// up to tail keep their positions: those of slot s are at s modulo the length.
func GrowRing[T any](ring []T, sges []SGE, perSlot int, head, tail uint32) ([]T, []SGE) {
	n := max(2*len(ring), ringFirstSize)
	r, g := make([]T, n), make([]SGE, n*perSlot)
	for s := head; s != tail; s++ {
		o, d := int(s&uint32(len(ring)-1)), int(s&uint32(n-1))
		r[d] = ring[o]
		copy(g[d*perSlot:(d+1)*perSlot], sges[o*perSlot:])
	}
	return r, g
}
