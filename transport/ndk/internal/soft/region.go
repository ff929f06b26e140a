package soft

import (
	"sync"
	"sync/atomic"
)

// Right is a set of rights in a region.
type Right uint8

// The rights. Local read is always there. ReadSink is the right to be the sink
// of a Read; where the adapter does not ask for it, every region has it.
const (
	LocalWrite Right = 1 << iota
	RemoteRead
	RemoteWrite
	ReadSink
)

// Region is memory that requests and peers can reach while it is valid: what an
// MR registered, a window was bound to, or a LAM mapped.
//
// The state word decides. Whoever is about to let the kernel or a copy loop
// touch the memory pins the region first and looks at nothing else of it before
// that; pins are held for one non-blocking call at most. invalidate first stops
// new pins and then waits for the old ones, so that after it returned no byte
// is placed or fetched any more.
type Region struct {
	state atomic.Uint64 // generation 32 | valid 1 | waiter 1 | pins 30
	drain chan struct{} // the last pin tells the waiter; capacity 1

	mu     sync.Mutex // serialises publish
	ending sync.Mutex // serialises invalidate; held while it waits for pins

	registered *atomic.Int64 // of the device

	// Written by publish while the region is invalid and unpinned, read under a
	// pin.
	contents
}

// contents is what publish gives to a region.
type contents struct {
	pd     *PD // nil: that of a mapping, which any may use
	mem    []byte
	base   uint64 // AddressOf of mem[0]
	rights Right
	fast   bool   // can be invalidated by requests and by peers
	rtoken uint32 // the remote token in force
	owner  any    // of a window: whose peer alone may use it
	under  *MR    // of a window: what it is bound to, held
	pipe   *Sink  // for what a peer writes; nil without
}

const (
	regionValid   = 1 << 31
	regionWaiter  = 1 << 30
	regionPinMask = regionWaiter - 1
	regionGenUnit = 1 << 32
)

func (d *Device) newRegion() *Region {
	return &Region{drain: make(chan struct{}, 1), registered: &d.registered}
}

// generation is that of a state word. It changes with every invalidation.
func generation(state uint64) uint32 { return uint32(state >> 32) }

// pin keeps the region valid until Unpin; ok is false if it is invalid now. gen
// names the registration that was found.
func (r *Region) pin() (gen uint32, ok bool) {
	for {
		s := r.state.Load()
		if s&regionValid == 0 {
			return generation(s), false
		}
		if r.state.CompareAndSwap(s, s+1) {
			return generation(s), true
		}
	}
}

// Repin pins the registration that gen names again; false if that has ended.
func (r *Region) Repin(gen uint32) bool {
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

// Unpin undoes a pin of Repin, PD.Local or PD.Remote.
func (r *Region) Unpin() {
	s := r.state.Add(^uint64(0))
	if s&(regionPinMask|regionWaiter) == regionWaiter {
		r.state.And(^uint64(regionWaiter))
		r.drain <- struct{}{}
	}
}

// publish makes the region valid with c; false if it is valid already, or still
// in use from before.
func (r *Region) publish(c contents) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state.Load()
	if s&(regionValid|regionWaiter|regionPinMask) != 0 {
		return false
	}
	r.contents = c
	r.registered.Add(int64(len(c.mem)))
	if r.remoteWritable() {
		r.pd.writable.Add(1)
	}
	r.state.Store(s | regionValid)
	return true
}

func (r *Region) remoteWritable() bool { return r.pd != nil && r.rights&RemoteWrite != 0 }

// invalidate ends the registration, and returns when nobody works in the region
// any more; false if it was not valid, or if it was not the registration with
// remote token want (0 is any). If somebody else is about to end it, it waits for
// that: whoever calls with 0 may use the memory for something else afterwards.
// A window lets go of its MR.
func (r *Region) invalidate(want uint32) bool {
	under, ok := r.end(want)
	if under != nil {
		under.dropWindow()
	}
	return ok
}

func (r *Region) end(want uint32) (under *MR, ok bool) {
	r.ending.Lock()
	defer r.ending.Unlock()
	if _, ok := r.pin(); !ok {
		return nil, false
	}
	// Nobody else makes it invalid now.
	if want != 0 && r.rtoken != want {
		r.Unpin()
		return nil, false
	}
	under = r.under
	if r.remoteWritable() {
		r.pd.writable.Add(-1)
	}
	r.registered.Add(-int64(len(r.mem)))
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
			r.forget()
			return under, true
		}
	}
}

// forget lets go of what the region held, unless it holds something else by now.
func (r *Region) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Load()&(regionValid|regionPinMask) == 0 {
		r.contents = contents{}
	}
}

// Within returns the memory at [addr, addr+n), or false. The region is pinned.
// All arithmetic is on numbers; no address is ever turned into a pointer.
func (r *Region) Within(addr, n uint64) ([]byte, bool) {
	size := uint64(len(r.mem))
	off := addr - r.base // wraps far away if addr < base
	if addr < r.base || off > size || n > size-off {
		return nil, false
	}
	return r.mem[off : off+n : off+n], true
}
