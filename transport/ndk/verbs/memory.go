//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
	"golang.org/x/sys/unix"
)

// arena is a range of memory that is registered whole, once in each domain that
// needs it, for local use and for windows: what Alloc gave out, or what a LAM
// maps of other memory. References: of who made it, and of each LAM.
type arena struct {
	a      *adapter
	start  uint64
	size   uint64
	mapped []byte     // of Alloc; to be unmapped
	memory ndk.Memory // of a LAM; kept alive and unmoved
	pin    runtime.Pinner
	refs   atomic.Int32

	keys atomic.Pointer[[]arenaKey]
	mu   sync.Mutex // serialises changes of keys

	exactMu sync.Mutex
	exacts  []*exact // guarded by exactMu; the one used last is the last
}

// exact is a registration of a part of an arena for a window that is bound to all
// of it. It gives a peer nothing by itself, so it is kept for the next time: the
// window decides.
type exact struct {
	pd            *pd
	real, n, base uint64
	mr            *C.struct_ibv_mr
	users         int // guarded by exactMu of the arena
}

// exactsKept bounds the registrations of an arena that no window uses now.
const exactsKept = 64

// exact returns the registration of n bytes at real, with the addresses from base
// on, in p; nil if the device has no room. It is given back by dropExact.
func (r *arena) exact(p *pd, real, n, base uint64) *exact {
	r.exactMu.Lock()
	for i, e := range r.exacts {
		if e.pd == p && e.real == real && e.n == n && e.base == base {
			e.users++
			copy(r.exacts[i:], r.exacts[i+1:])
			r.exacts[len(r.exacts)-1] = e
			r.exactMu.Unlock()
			return e
		}
	}
	r.exactMu.Unlock()
	hw, _ := C.vs_reg_mr(p.hw, C.uint64_t(real), C.uint64_t(n), C.uint64_t(base), C.IBV_ACCESS_LOCAL_WRITE|C.IBV_ACCESS_MW_BIND)
	if hw == nil {
		return nil
	}
	e := &exact{pd: p, real: real, n: n, base: base, mr: hw, users: 1}
	r.exactMu.Lock()
	r.exacts = append(r.exacts, e)
	r.exactMu.Unlock()
	r.a.arenas.note(r)
	return e
}

func (r *arena) dropExact(e *exact) {
	var old *exact
	r.exactMu.Lock()
	e.users--
	idle := 0
	for _, x := range r.exacts {
		if x.users == 0 {
			idle++
		}
	}
	if idle > exactsKept {
		i := slices.IndexFunc(r.exacts, func(x *exact) bool { return x.users == 0 })
		old = r.exacts[i]
		r.exacts = slices.Delete(r.exacts, i, i+1)
	}
	r.exactMu.Unlock()
	if old != nil {
		r.a.deregister(old.mr, r.memory)
	}
}

// dropExacts ends the registrations in p, or all of them if that is nil. No
// window uses them any more.
func (r *arena) dropExacts(p *pd) {
	r.exactMu.Lock()
	defer r.exactMu.Unlock()
	r.exacts = slices.DeleteFunc(r.exacts, func(e *exact) bool {
		if p != nil && e.pd != p {
			return false
		}
		r.a.deregister(e.mr, r.memory)
		return true
	})
}

type arenaKey struct {
	pd *pd
	mr *C.struct_ibv_mr
}

// arenaTable has the arenas of an adapter.
type arenaTable struct {
	mu      sync.RWMutex
	alloced []*arena            // guarded by mu, as all below; of Alloc, by address
	all     map[*arena]struct{} // those with a registration
	pds     []*pd
}

func (t *arenaTable) addPD(p *pd) {
	t.mu.Lock()
	t.pds = append(t.pds, p)
	t.mu.Unlock()
}

// note has r among those with a registration.
func (t *arenaTable) note(r *arena) {
	t.mu.Lock()
	if t.all == nil {
		t.all = make(map[*arena]struct{})
	}
	t.all[r] = struct{}{}
	t.mu.Unlock()
}

// dropPD ends every key of p.
func (t *arenaTable) dropPD(p *pd) {
	t.mu.Lock()
	if i := slices.Index(t.pds, p); i >= 0 {
		t.pds = slices.Delete(t.pds, i, i+1)
	}
	var with []*arena
	for r := range t.all {
		with = append(with, r)
	}
	t.mu.Unlock()
	for _, r := range with {
		r.dropExacts(p)
		r.dropKey(p)
	}
}

// domains are the PDs that are open.
func (t *arenaTable) domains() []*pd {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clone(t.pds)
}

// find returns the arena of Alloc that holds [start, start+n), with a reference,
// or nil.
func (t *arenaTable) find(start, n uint64) *arena {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, ok := slices.BinarySearchFunc(t.alloced, start, func(r *arena, at uint64) int {
		switch {
		case r.start < at:
			return -1
		case r.start > at:
			return 1
		}
		return 0
	})
	if !ok {
		i--
	}
	if i < 0 {
		return nil
	}
	if r := t.alloced[i]; start-r.start <= r.size && n <= r.size-(start-r.start) {
		r.refs.Add(1)
		return r
	}
	return nil
}

// key returns the registration in p. The first call for a domain is a system
// call, others take no lock.
func (r *arena) key(p *pd) (*C.struct_ibv_mr, error) {
	if m := r.have(p); m != nil {
		return m, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.have(p); m != nil {
		return m, nil
	}
	if r.refs.Load() <= 0 { // released while a post looked at it
		return nil, syscall.EFAULT
	}
	access := C.int(C.IBV_ACCESS_LOCAL_WRITE)
	if r.a.windows {
		access |= C.IBV_ACCESS_MW_BIND
	}
	m, err := C.vs_reg_mr(p.hw, C.uint64_t(r.start), C.uint64_t(r.size), C.uint64_t(r.start), access)
	if m == nil {
		return nil, created(err)
	}
	var keys []arenaKey
	if old := r.keys.Load(); old != nil {
		keys = slices.Clone(*old)
	}
	keys = append(keys, arenaKey{p, m})
	r.keys.Store(&keys)
	r.a.arenas.note(r)
	return m, nil
}

func (r *arena) have(p *pd) *C.struct_ibv_mr {
	if keys := r.keys.Load(); keys != nil {
		for i := range *keys {
			if (*keys)[i].pd == p {
				return (*keys)[i].mr
			}
		}
	}
	return nil
}

// dropKey ends the registration in p.
func (r *arena) dropKey(p *pd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.keys.Load()
	if old == nil {
		return
	}
	keys := slices.Clone(*old)
	if i := slices.IndexFunc(keys, func(k arenaKey) bool { return k.pd == p }); i >= 0 {
		r.a.deregister(keys[i].mr, r.memory)
		keys = slices.Delete(keys, i, i+1)
		r.keys.Store(&keys)
	}
}

// release gives a reference back. The last one ends the registrations and lets
// go of the memory.
func (r *arena) release() {
	if r.refs.Add(-1) > 0 {
		return
	}
	r.dropExacts(nil)
	r.mu.Lock()
	if keys := r.keys.Swap(nil); keys != nil {
		for _, k := range *keys {
			r.a.deregister(k.mr, r.memory)
		}
	}
	r.mu.Unlock()
	// Now: a domain that is being closed meanwhile finds it, and waits for us.
	t := &r.a.arenas
	t.mu.Lock()
	delete(t.all, r)
	t.mu.Unlock()
	r.pin.Unpin()
	r.memory = nil
	if r.mapped != nil {
		_ = unix.Munmap(r.mapped)
	}
}

// Alloc implements ndk.Adapter. The memory is registered at its first use in a
// domain and stays so until it is given back, so a LAM of it costs no system
// call.
func (a *adapter) Alloc(n int) ([]byte, func(), error) {
	const op = "alloc"
	if !a.Hold() {
		return nil, nil, refuse(op, ndk.ErrClosed)
	}
	defer a.Release()
	if n <= 0 || uint64(n) > a.info.MaxRegistrationSize {
		return nil, nil, wrap(op, ntstatus.InvalidParameter, nil)
	}
	size := (n + ndk.PageSize - 1) &^ (ndk.PageSize - 1)
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, nil, wrap(op, ntstatus.InsufficientResources, err)
	}
	r := &arena{a: a, start: soft.AddressOf(m), size: uint64(size), mapped: m}
	r.refs.Store(1)
	t := &a.arenas
	t.mu.Lock()
	i, _ := slices.BinarySearchFunc(t.alloced, r, func(x, y *arena) int {
		if x.start < y.start {
			return -1
		}
		return 1
	})
	t.alloced = slices.Insert(t.alloced, i, r)
	t.mu.Unlock()
	var once sync.Once
	return m[:n], func() {
		once.Do(func() {
			t.mu.Lock()
			if i := slices.Index(t.alloced, r); i >= 0 {
				t.alloced = slices.Delete(t.alloced, i, i+1)
			}
			t.mu.Unlock()
			r.release()
		})
	}, nil
}

// pinMemory keeps the elements of m where they are. Memory outside the Go heap
// stays there anyway.
func pinMemory(p *runtime.Pinner, m ndk.Memory) {
	for _, b := range m {
		if len(b) > 0 {
			p.Pin(unsafe.SliceData(b))
		}
	}
}
