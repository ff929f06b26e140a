//go:build verbs && linux && cgo

package verbs

import (
	"context"
	"fmt"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// A logical address names a mapping in its upper 24 bits and a byte of the
// mapped pages in the lower 40; the device gets the virtual address behind it.
//
//	| use 8 | slot 16 | offset 40 |
const (
	lamOffsetBits = 40
	lamSlotBits   = 16
	lamSlots      = 1 << lamSlotBits
)

// lam is the private part of an ndk.LAM.
type lam struct {
	a     *adapter
	slot  uint32
	first uint64 // logical address of the first page
	fbo   uint64
	real  uint64 // address of the first byte
	size  uint64
	arena *arena // nil when it was released
}

// lamTable finds mappings.
type lamTable struct {
	mu   sync.RWMutex
	lams []*lam // guarded by mu, as all below; by slot
	uses []uint8
	free []uint32
}

func (t *lamTable) init() { t.lams, t.uses = make([]*lam, 1), make([]uint8, 1) } // address 0 stays unused

// add gives l a slot and its addresses; false if there is none left.
func (t *lamTable) add(l *lam) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := uint32(len(t.lams))
	switch n := len(t.free); {
	case n > 0:
		slot, t.free = t.free[n-1], t.free[:n-1]
	case slot == lamSlots:
		return false
	default:
		t.lams, t.uses = append(t.lams, nil), append(t.uses, 0)
	}
	t.uses[slot]++
	t.lams[slot] = l
	l.slot = slot
	l.first = uint64(t.uses[slot])<<(lamOffsetBits+lamSlotBits) | uint64(slot)<<lamOffsetBits
	return true
}

func (t *lamTable) drop(l *lam) {
	t.mu.Lock()
	t.lams[l.slot] = nil
	t.free = append(t.free, l.slot)
	t.mu.Unlock()
}

// resolve turns n bytes at a logical address into their address; nil if they are
// not in one live mapping. The arena lives as long as the mapping.
func (t *lamTable) resolve(at, n uint64) (real uint64, r *arena) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.resolveLocked(at, n)
}

func (t *lamTable) resolveLocked(at, n uint64) (real uint64, r *arena) {
	slot := at >> lamOffsetBits & (lamSlots - 1)
	if slot >= uint64(len(t.lams)) || t.lams[slot] == nil {
		return 0, nil
	}
	l := t.lams[slot]
	off := at - (l.first + l.fbo) // wraps far away if at is before the first byte
	if at < l.first+l.fbo || off > l.size || n > l.size-off {
		return 0, nil
	}
	return l.real + off, l.arena
}

// pageRun returns the address of n bytes from offset fbo of the first page, if the
// pages follow each other in one live mapping that holds the bytes. r has a
// reference more.
func (t *lamTable) pageRun(pages []ndk.LogicalAddress, fbo uint32, n uint64) (real uint64, r *arena) {
	if len(pages) == 0 || fbo >= ndk.PageSize || n == 0 || n > uint64(len(pages))*ndk.PageSize-uint64(fbo) || pages[0]%ndk.PageSize != 0 {
		return 0, nil
	}
	for i, p := range pages {
		if p != pages[0]+ndk.LogicalAddress(i)*ndk.PageSize {
			return 0, nil
		}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if real, r = t.resolveLocked(uint64(pages[0])+uint64(fbo), n); r != nil {
		r.refs.Add(1) // the mapping has one
	}
	return real, r
}

// BuildLAM implements ndk.Adapter. Memory of Alloc is registered already; other
// memory is registered here, or at the first use on a device without windows, and
// is kept alive and unmoved until ReleaseLAM.
func (a *adapter) BuildLAM(_ context.Context, m ndk.Memory, length int, l *ndk.LAM) (uint32, error) {
	const op = "build LAM"
	if !a.Hold() {
		return 0, refuse(op, ndk.ErrClosed)
	}
	defer a.Release()
	if l == nil || length <= 0 || uint64(length) > a.info.MaxRegistrationSize {
		return 0, wrap(op, ntstatus.InvalidParameter, nil)
	}
	mem := soft.Join(m, length)
	if mem == nil {
		return 0, wrap(op, ntstatus.InvalidParameter, fmt.Errorf("no contiguous range of %d bytes", length))
	}
	start := soft.AddressOf(mem)
	fbo := uint32(start % ndk.PageSize)
	pages := (int(fbo) + length + ndk.PageSize - 1) / ndk.PageSize
	if l.Pages == nil {
		l.Pages = make([]ndk.LogicalAddress, 0, pages)
	}
	if cap(l.Pages) < pages {
		return 0, wrap(op, ntstatus.BufferTooSmall, fmt.Errorf("needs %d pages", pages))
	}
	r := a.arenas.find(start, uint64(length))
	if r == nil {
		r = &arena{a: a, start: start, size: uint64(length), memory: append(ndk.Memory(nil), m...)}
		r.refs.Store(1)
		pinMemory(&r.pin, r.memory)
	}
	if a.windows { // which are bound to this registration
		for _, p := range a.arenas.domains() {
			if _, err := r.key(p); err != nil {
				r.release()
				return 0, wrap(op, resourceStatus(err), err)
			}
		}
	}
	p, _ := l.Private.(*lam) // one that was released is used again
	if p == nil || p.a != a || p.arena != nil {
		p = &lam{a: a}
	}
	p.fbo, p.real, p.size, p.arena = uint64(fbo), start, uint64(length), r
	if !a.lams.add(p) {
		p.arena = nil
		r.release()
		return 0, wrap(op, ntstatus.InsufficientResources, nil)
	}
	l.Pages = l.Pages[:pages]
	for i := range l.Pages {
		l.Pages[i] = ndk.LogicalAddress(p.first + uint64(i)*ndk.PageSize)
	}
	l.Private = p
	return fbo, nil
}

// ReleaseLAM implements ndk.Adapter.
func (a *adapter) ReleaseLAM(l *ndk.LAM) {
	if l == nil {
		return
	}
	p, ok := l.Private.(*lam)
	if !ok || p.a != a || p.arena == nil {
		return
	}
	l.Pages = l.Pages[:0]
	a.lams.drop(p)
	r := p.arena
	p.arena = nil
	r.release()
}
