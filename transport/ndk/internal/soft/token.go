package soft

import (
	crand "crypto/rand"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// tokenKind says what a slot of the token table is for.
type tokenKind uint8

const (
	tokenLocal  tokenKind = iota + 1
	tokenRemote           // of a region or a window
	tokenPrivileged
)

// tokenSlot is one entry of the token table.
type tokenSlot struct {
	region *Region
	slot   uint32
	kind   tokenKind
	token  uint32 // local and privileged: fixed. remote: see Region.rtoken
}

// tokenTable maps tokens to regions. A token is an index of 24 bits and a key of
// 8 bits (RFC 5040 calls it STag). Slots are numbered from 0 up, and the index is
// a keyed permutation of the slot number, so that it tells nothing about other
// tokens; the key is drawn anew for each registration and differs from the one
// before (RFC 5042 §6.1.1). Look-ups take no lock.
type tokenTable struct {
	round [4]uint32 // keys of the permutation
	limit uint32    // slots

	mu   sync.Mutex
	rnd  *rand.ChaCha8 // guarded by mu
	free []uint32      // guarded by mu
	next uint32        // guarded by mu
	keys []uint8       // guarded by mu; the last key of each slot

	chunks [tokenChunks]atomic.Pointer[tokenChunk]
}

const (
	tokenChunkSize = 512
	tokenChunks    = 2048
	maxTokens      = tokenChunkSize * tokenChunks // 1 Mi
)

type tokenChunk [tokenChunkSize]atomic.Pointer[tokenSlot]

func (t *tokenTable) init(seed *[32]byte, limit uint32) {
	if seed == nil {
		seed = new([32]byte)
		crand.Read(seed[:]) // never fails
	}
	t.limit = limit
	t.rnd = rand.NewChaCha8(*seed)
	for i := range t.round {
		t.round[i] = uint32(t.rnd.Uint64())
	}
}

func feistel(half, key uint32) uint32 {
	x := (half ^ key) * 0x9E3779B1
	x ^= x >> 15
	x = (x + key) * 0x85EBCA77
	return (x >> 13) & 0xFFF
}

// index is the permutation of 24 bits.
func (t *tokenTable) index(slot uint32) uint32 {
	l, r := slot>>12&0xFFF, slot&0xFFF
	for _, k := range t.round {
		l, r = r, l^feistel(r, k)
	}
	return l<<12 | r
}

// slot undoes index.
func (t *tokenTable) slot(index uint32) uint32 {
	l, r := index>>12&0xFFF, index&0xFFF
	for i := len(t.round) - 1; i >= 0; i-- {
		l, r = r^feistel(l, t.round[i]), l
	}
	return l<<12 | r
}

// alloc takes a slot for r; ok is false if all are in use.
func (t *tokenTable) alloc(r *Region, kind tokenKind) (s *tokenSlot, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s = &tokenSlot{region: r, kind: kind}
	if n := len(t.free); n > 0 {
		s.slot, t.free = t.free[n-1], t.free[:n-1]
	} else {
		if t.next == t.limit {
			return nil, false
		}
		s.slot = t.next
		t.next++
		t.keys = append(t.keys, uint8(t.rnd.Uint64()))
	}
	s.token = t.freshLocked(s.slot)
	c := &t.chunks[s.slot/tokenChunkSize]
	if c.Load() == nil {
		c.Store(new(tokenChunk))
	}
	c.Load()[s.slot%tokenChunkSize].Store(s)
	return s, true
}

// release gives the slot back.
func (t *tokenTable) release(s *tokenSlot) {
	t.chunks[s.slot/tokenChunkSize].Load()[s.slot%tokenChunkSize].Store(nil)
	t.mu.Lock()
	t.free = append(t.free, s.slot)
	t.mu.Unlock()
}

// fresh returns a new token for the slot.
func (t *tokenTable) fresh(s *tokenSlot) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.freshLocked(s.slot)
}

func (t *tokenTable) freshLocked(slot uint32) uint32 {
	k := t.keys[slot] + 1 + uint8(t.rnd.Uint64()%255)
	if k == 0 { // keeps the token 0 out of use, which a wire zero would name
		k = 1
		if t.keys[slot] == 1 {
			k = 2
		}
	}
	t.keys[slot] = k
	return t.index(slot)<<8 | uint32(k)
}

// find returns the slot that the index part of the token names, or nil.
func (t *tokenTable) find(token uint32) *tokenSlot {
	slot := t.slot(token >> 8)
	if slot >= maxTokens {
		return nil
	}
	c := t.chunks[slot/tokenChunkSize].Load()
	if c == nil {
		return nil
	}
	return c[slot%tokenChunkSize].Load()
}

func (t *tokenTable) inUse() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int(t.next) - len(t.free)
}

// random draws a number that is not 0.
func (t *tokenTable) random() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if v := uint32(t.rnd.Uint64()); v != 0 {
			return v
		}
	}
}
