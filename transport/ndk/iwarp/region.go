package iwarp

import (
	crand "crypto/rand"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// Rights of a region.
const (
	rightLocalWrite = 1 << iota
	rightRemoteRead
	rightRemoteWrite
)

// region is memory that requests and peers can reach while it is valid: what an
// MR registered, a window was bound to, or a LAM mapped.
//
// The state word decides. Whoever is about to let the kernel or a copy loop
// touch the memory pins the region first and looks at nothing else of it before
// that; pins are held for one non-blocking call at most. invalidate first stops
// new pins and then waits for the old ones, so that after it returned no octet
// is placed or fetched any more.
type region struct {
	state atomic.Uint64 // generation 32 | valid 1 | waiter 1 | pins 30
	drain chan struct{} // the last pin tells the waiter; capacity 1

	mu     sync.Mutex // serialises publish
	ending sync.Mutex // serialises invalidate; held while it waits for pins

	// Written by publish while the region is invalid and unpinned, read under a
	// pin.
	pd     *pd
	mem    []byte
	base   uint64 // address of mem[0]
	rights uint8
	rtoken uint32 // the remote token in force
	qp     *qp    // of a window: the only QP whose peer may use it
	fast   bool   // can be invalidated by requests and by peers
	window *mw    // of a window: constant
}

const (
	regionValid   = 1 << 31
	regionWaiter  = 1 << 30
	regionPinMask = regionWaiter - 1
	regionGenUnit = 1 << 32
)

func newRegion() *region { return &region{drain: make(chan struct{}, 1)} }

// generation is that of a state word. It changes with every invalidation.
func generation(state uint64) uint32 { return uint32(state >> 32) }

// pin keeps the region valid until unpin; ok is false if it is invalid now. gen
// names the registration that was found.
func (r *region) pin() (gen uint32, ok bool) {
	for {
		s := r.state.Load()
		if s&regionValid == 0 {
			return 0, false
		}
		if r.state.CompareAndSwap(s, s+1) {
			return generation(s), true
		}
	}
}

// repin is pin that fails also if another registration took the place of gen.
func (r *region) repin(gen uint32) bool {
	for {
		s := r.state.Load()
		if s&regionValid == 0 || generation(s) != gen {
			return false
		}
		if r.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

func (r *region) unpin() {
	s := r.state.Add(^uint64(0))
	if s&(regionPinMask|regionWaiter) == regionWaiter {
		r.state.And(^uint64(regionWaiter))
		r.drain <- struct{}{}
	}
}

// valid reports whether there is a registration now.
func (r *region) valid() bool { return r.state.Load()&regionValid != 0 }

// publish makes the region valid with what set stores into it; false if it is
// valid already, or still in use from before.
func (r *region) publish(set func(*region)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state.Load()
	if s&(regionValid|regionWaiter|regionPinMask) != 0 {
		return false
	}
	set(r)
	if r.remoteWritable() {
		r.pd.writable.Add(1)
	}
	r.state.Store(s | regionValid)
	return true
}

func (r *region) remoteWritable() bool { return r.pd != nil && r.rights&rightRemoteWrite != 0 }

// invalidate ends the registration, and returns when nobody works in the region
// any more; false if it was not valid, or if it was not the registration with
// remote token want (0 is any). If somebody else is about to end it, it waits for
// that: whoever calls with 0 may use the memory for something else afterwards.
func (r *region) invalidate(want uint32) bool {
	r.ending.Lock()
	defer r.ending.Unlock()
	if _, ok := r.pin(); !ok {
		return false
	}
	// Nobody else makes it invalid now.
	if want != 0 && r.rtoken != want {
		r.unpin()
		return false
	}
	if r.remoteWritable() {
		r.pd.writable.Add(-1)
	}
	for {
		s := r.state.Load()
		// Our own pin goes with the same step.
		n := (s + regionGenUnit - 1) &^ regionValid
		if n&regionPinMask != 0 {
			n |= regionWaiter
		}
		if r.state.CompareAndSwap(s, n) {
			if n&regionWaiter != 0 {
				<-r.drain
			}
			return true
		}
	}
}

// within returns mem at [addr, addr+n), or false. All arithmetic is on numbers;
// no address is ever turned into a pointer.
func (r *region) within(addr, n uint64) ([]byte, bool) {
	size := uint64(len(r.mem))
	off := addr - r.base // wraps far away if addr < base
	if addr < r.base || off > size || n > size-off {
		return nil, false
	}
	return r.mem[off : off+n : off+n], true
}

// tokenKind says what a slot of the token table is for.
type tokenKind uint8

const (
	tokenLocal  tokenKind = iota + 1
	tokenRemote           // of a region or a window
	tokenPrivileged
)

// tokenSlot is one entry of the token table.
type tokenSlot struct {
	region *region
	slot   uint32
	kind   tokenKind
	token  uint32 // local and privileged: fixed. remote: see region.rtoken
}

// tokenTable maps tokens to regions. A token is an index of 24 bits and a key of
// 8 bits (RFC 5040 calls it STag). Slots are numbered from 0 up, and the index is
// a keyed permutation of the slot number, so that it tells nothing about other
// tokens; the key is drawn anew for each registration and differs from the one
// before (RFC 5042 §6.1.1). Look-ups take no lock.
type tokenTable struct {
	round [4]uint32 // keys of the permutation

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

func newTokenTable() *tokenTable {
	var seed [32]byte
	crand.Read(seed[:]) // never fails
	t := &tokenTable{rnd: rand.NewChaCha8(seed)}
	for i := range t.round {
		t.round[i] = uint32(t.rnd.Uint64())
	}
	return t
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
func (t *tokenTable) alloc(r *region, kind tokenKind) (s *tokenSlot, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s = &tokenSlot{region: r, kind: kind}
	if n := len(t.free); n > 0 {
		s.slot, t.free = t.free[n-1], t.free[:n-1]
	} else {
		if t.next == maxTokens {
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

// access is the outcome of a remote token check.
type access uint8

const (
	accessOK access = iota
	accessSTag
	accessBounds
	accessRight
	accessStream
	accessWrap
)

// remote checks the use of a remote token by the peer of q (RFC 5041 §7.1, RFC
// 5040 §7.2), and leaves the region pinned if it may be used.
func (t *tokenTable) remote(q *qp, token uint32, to, n uint64, right uint8) (r *region, gen uint32, mem []byte, a access) {
	s := t.find(token)
	if s == nil || s.kind != tokenRemote {
		return nil, 0, nil, accessSTag
	}
	r = s.region
	gen, ok := r.pin()
	if !ok {
		return nil, 0, nil, accessSTag
	}
	switch {
	case r.rtoken != token:
		a = accessSTag
	case r.pd != q.pd || r.qp != nil && r.qp != q:
		a = accessStream
	case r.rights&right == 0:
		a = accessRight
	case to+n < to:
		a = accessWrap
	default:
		if mem, ok = r.within(to, n); ok {
			return r, gen, mem, accessOK
		}
		a = accessBounds
	}
	r.unpin()
	return nil, 0, nil, a
}

// sge is one local buffer of a posted request.
type sge struct {
	addr  uint64
	len   uint32
	token uint32
}

// local resolves [addr, addr+n) under a local token of p and leaves the region
// pinned; mem is nil if that is not allowed. right 0 asks for reading.
func (p *pd) local(token uint32, addr, n uint64, right uint8) (r *region, gen uint32, mem []byte) {
	if token == p.privileged.token {
		r = p.adapter.lams.find(addr)
		if r == nil {
			return nil, 0, nil
		}
	} else {
		s := p.adapter.tokens.find(token)
		if s == nil || s.kind != tokenLocal || s.token != token {
			return nil, 0, nil
		}
		r = s.region
	}
	gen, ok := r.pin()
	if !ok {
		return nil, 0, nil
	}
	if r.pd == p || r.pd == nil {
		if right == 0 || r.rights&right != 0 {
			if mem, ok = r.within(addr, n); ok {
				return r, gen, mem
			}
		}
	}
	r.unpin()
	return nil, 0, nil
}

// localOK reports whether [addr, addr+n) can be used under the token.
func (p *pd) localOK(s sge, right uint8) bool {
	if s.len == 0 {
		return true
	}
	r, _, mem := p.local(s.token, s.addr, uint64(s.len), right)
	if mem == nil {
		return false
	}
	r.unpin()
	return true
}

// newSTag draws a number that names no region, for the sink of Reads.
func (t *tokenTable) newSTag() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if v := uint32(t.rnd.Uint64()); v != 0 {
			return v
		}
	}
}
