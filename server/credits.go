package server

import "sync"

// creditWindow is Connection.CommandSequenceWindow and the count of credits
// that the client holds, [MS-SMB2] 3.3.1.1 and 3.3.1.2.
//
// Message ids from low up to high have been granted; of those, the ones whose
// bit is set have been received. Ids below low have all been received. The span
// from low to high is bounded by the size of the bitmap, so a client that sits on
// one old id gets no more credits instead of more memory.
type creditWindow struct {
	mu   sync.Mutex
	low  uint64   // guarded by mu
	high uint64   // guarded by mu
	held int      // guarded by mu: credits the client has and has not used
	max  int      // guarded by mu
	bits []uint64 // guarded by mu; bit id%span is set once id was received
}

// init makes the window { 0 } of a new connection that may hold limit credits.
func (w *creditWindow) init(limit int) {
	span := 64
	for span < 4*limit {
		span *= 2
	}
	w.bits = make([]uint64, span/64)
	w.low, w.high, w.held, w.max = 0, 1, 1, limit
}

func (w *creditWindow) span() uint64 { return uint64(len(w.bits)) * 64 }

func (w *creditWindow) bit(id uint64) (word *uint64, mask uint64) {
	i := id & (w.span() - 1)
	return &w.bits[i/64], 1 << (i % 64)
}

// take removes charge consecutive ids from the window, or reports that they are
// not all in it: the client has overdrawn, or repeats itself (3.3.5.2.3).
func (w *creditWindow) take(id uint64, charge uint16) bool {
	n := uint64(max(charge, 1))
	w.mu.Lock()
	defer w.mu.Unlock()
	if id < w.low || id > w.high || n > w.high-id {
		return false
	}
	for i := id; i < id+n; i++ {
		if word, mask := w.bit(i); *word&mask != 0 {
			return false
		}
	}
	for i := id; i < id+n; i++ {
		word, mask := w.bit(i)
		*word |= mask
	}
	w.held -= int(n)
	for w.low < w.high {
		word, mask := w.bit(w.low)
		if *word&mask == 0 {
			break
		}
		*word &^= mask
		w.low++
	}
	return true
}

// grant decides about the credits of a response to a client that asked for
// want, and widens the window by them. It is at least 1 if the client has none
// left: it could never ask again.
func (w *creditWindow) grant(want uint16, limit int) uint16 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(int(want), min(limit, w.max)-w.held)
	if room := w.span() - (w.high - w.low); uint64(max(n, 0)) > room {
		n = int(room)
	}
	if n < 1 {
		n = 0
		if w.held <= 0 {
			n = 1
		}
	}
	if w.high+uint64(n) < w.high {
		return 0 // the ids wrap: the client runs dry, and its connection ends
	}
	w.high += uint64(n)
	w.held += n
	return uint16(n)
}
