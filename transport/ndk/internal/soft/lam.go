package soft

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// A logical address names a mapping in its upper 24 bits and a byte of the
// mapped pages in the lower 40. It is not an address of the process.
//
//	| use 8 | slot 16 | offset 40 |
const (
	lamOffsetBits = 40
	lamSlotBits   = 16
	lamSlots      = 1 << lamSlotBits
	lamChunkSize  = 256
)

type lamChunk [lamChunkSize]atomic.Pointer[Region]

// lamTable finds mappings without a lock.
type lamTable struct {
	most   atomic.Uint32 // mappings at a time
	mu     sync.Mutex
	live   uint32   // guarded by mu
	free   []uint32 // guarded by mu
	next   uint32   // guarded by mu
	uses   []uint8  // guarded by mu; of each slot, so that old addresses fail
	chunks [lamSlots / lamChunkSize]atomic.Pointer[lamChunk]
}

func (t *lamTable) init() {
	t.next = 1 // AddressOf 0 stays unused
	t.most.Store(lamSlots - 1)
}

// find returns the mapping of a logical address, or nil. The caller checks the
// range, which fails for an address of an earlier use of the slot.
func (t *lamTable) find(addr uint64) *Region {
	slot := uint32(addr >> lamOffsetBits & (lamSlots - 1))
	c := t.chunks[slot/lamChunkSize].Load()
	if c == nil {
		return nil
	}
	return c[slot%lamChunkSize].Load()
}

// lam is the private part of an ndk.LAM.
type lam struct {
	dev    *Device
	region *Region
	slot   uint32
	live   bool       // between BuildLAM and ReleaseLAM
	memory ndk.Memory // kept alive
}

func (t *lamTable) alloc() (slot uint32, first uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live >= t.most.Load() {
		return 0, 0, false
	}
	t.live++
	if n := len(t.free); n > 0 {
		slot, t.free = t.free[n-1], t.free[:n-1]
	} else {
		slot = t.next
		t.next++
	}
	for len(t.uses) <= int(slot) {
		t.uses = append(t.uses, 0)
	}
	t.uses[slot]++
	return slot, uint64(t.uses[slot])<<(lamOffsetBits+lamSlotBits) | uint64(slot)<<lamOffsetBits, true
}

func (t *lamTable) set(slot uint32, r *Region) {
	c := &t.chunks[slot/lamChunkSize]
	if c.Load() == nil {
		c.CompareAndSwap(nil, new(lamChunk))
	}
	c.Load()[slot%lamChunkSize].Store(r)
}

func (t *lamTable) release(slot uint32) {
	t.set(slot, nil)
	t.mu.Lock()
	t.free = append(t.free, slot)
	t.live--
	t.mu.Unlock()
}

// AddressOf is where b starts, as a number.
func AddressOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// Join returns the first n bytes of m as one slice; nil if m is shorter or has
// a gap in virtual memory before byte n.
func Join(m ndk.Memory, n int) []byte {
	var first []byte
	size := 0
	for _, b := range m {
		if len(b) == 0 {
			continue
		}
		if first == nil {
			first = b
		} else if AddressOf(b) != AddressOf(first)+uint64(size) {
			return nil
		}
		if size += len(b); size >= n {
			break
		}
	}
	switch {
	case n <= 0 || size < n:
		return nil
	case n <= cap(first):
		return first[:n:n]
	}
	// The elements lie side by side but were cut from each other; m is kept
	// alive as a whole by whoever keeps the result.
	return unsafe.Slice(unsafe.SliceData(first), n)
}

// BuildLAM implements ndk.Adapter.
func (d *Device) BuildLAM(_ context.Context, m ndk.Memory, length int, l *ndk.LAM) (uint32, error) {
	const op = "build LAM"
	if l == nil || length <= 0 || uint64(length) > d.maxMappedSize {
		return 0, fail(op, ntstatus.InvalidParameter, nil)
	}
	mem := Join(m, length)
	if mem == nil {
		return 0, fail(op, ntstatus.InvalidParameter, fmt.Errorf("no contiguous range of %d bytes", length))
	}
	fbo := uint32(AddressOf(mem) % ndk.PageSize)
	pages := (int(fbo) + length + ndk.PageSize - 1) / ndk.PageSize
	if l.Pages == nil {
		l.Pages = make([]ndk.LogicalAddress, 0, pages)
	}
	if cap(l.Pages) < pages {
		return 0, fail(op, ntstatus.BufferTooSmall, fmt.Errorf("needs %d pages", pages))
	}
	slot, first, ok := d.lams.alloc()
	if !ok {
		return 0, fail(op, ntstatus.InsufficientResources, nil)
	}
	// A mapping that was released keeps its private part for the next build. Its
	// region can be published again, unless somebody looks at an old address of
	// it right now.
	c := contents{mem: mem, base: first + uint64(fbo), rights: LocalWrite | d.localRights(false)}
	p, _ := l.Private.(*lam)
	if p == nil || p.dev != d || p.live || !p.region.publish(c) {
		p = &lam{dev: d, region: d.newRegion()}
		p.region.publish(c)
	}
	d.lams.set(slot, p.region)
	l.Pages = l.Pages[:pages]
	for i := range l.Pages {
		l.Pages[i] = ndk.LogicalAddress(first + uint64(i)*ndk.PageSize)
	}
	p.live, p.slot = true, slot
	p.memory = append(p.memory[:0], m...)
	l.Private = p
	return fbo, nil
}

// ReleaseLAM implements ndk.Adapter.
func (d *Device) ReleaseLAM(l *ndk.LAM) {
	if l == nil {
		return
	}
	p, ok := l.Private.(*lam)
	if !ok || p.dev != d || !p.live {
		return
	}
	l.Pages = l.Pages[:0]
	p.region.invalidate(0)
	p.live = false
	clear(p.memory)
	d.lams.release(p.slot)
}

// pageRun returns the n bytes from offset fbo of the first page, if the pages
// follow each other in one live mapping, and that mapping holds the bytes.
func (t *lamTable) pageRun(pages []ndk.LogicalAddress, fbo uint32, n uint64) []byte {
	if len(pages) == 0 || fbo >= ndk.PageSize || n > uint64(len(pages))*ndk.PageSize-uint64(fbo) {
		return nil
	}
	if pages[0]%ndk.PageSize != 0 {
		return nil
	}
	for i, p := range pages {
		if p != pages[0]+ndk.LogicalAddress(i)*ndk.PageSize {
			return nil
		}
	}
	r := t.find(uint64(pages[0]))
	if r == nil {
		return nil
	}
	if _, ok := r.pin(); !ok {
		return nil
	}
	mem, _ := r.Within(uint64(pages[0])+uint64(fbo), n)
	r.Unpin()
	return mem
}
