//go:build verbs && linux && cgo

package verbs

import (
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// region is what a local token stands for. All fields are guarded by regionMu of
// the adapter.
type region struct {
	pd     *pd
	valid  bool
	used   bool   // was valid before
	base   uint64 // of the addresses that SGEs have
	real   uint64 // where the memory is
	dev    uint64 // and for the device
	size   uint64
	key    uint32 // for the device
	rights soft.Right
}

// local is what a request hands to the device for an SGE.
type local struct {
	addr uint64
	len  uint32
	key  uint32
	real uint64 // where the memory is
}

// resolve turns an SGE that is not empty, of a request of p, into what the device
// wants. A rule other
// than 0 was broken; the completion of the request fails with AccessViolation.
// The caller holds regionMu for reading.
func (p *pd) resolve(s *ndk.SGE, want soft.Right) (local, ndk.Rule) {
	a := p.adapter
	if uint32(s.Token) == p.noneKey {
		real, r := a.lams.resolve(s.Addr, uint64(s.Length))
		switch {
		case r == nil:
			return local{}, ndk.RuleSGERange
		case want&soft.ReadSink != 0 && a.sinkRemote:
			return local{}, ndk.RuleReadSink
		}
		m, err := r.key(p)
		if err != nil {
			return local{}, ndk.RuleSGERange
		}
		return local{real, s.Length, uint32(m.lkey), real}, 0
	}
	r := a.regions[s.Token]
	if r == nil {
		return local{}, ndk.RuleSGERange
	}
	off := s.Addr - r.base // wraps far away if the address is before the base
	switch {
	case r.pd != p:
		return local{}, ndk.RuleDomain
	case !r.valid && r.used:
		return local{}, ndk.RuleInvalidated
	case !r.valid, s.Addr < r.base, off > r.size, uint64(s.Length) > r.size-off:
		return local{}, ndk.RuleSGERange
	case want&^r.rights&soft.LocalWrite != 0:
		return local{}, ndk.RuleSGERight
	case want&^r.rights&soft.ReadSink != 0:
		return local{}, ndk.RuleReadSink
	}
	return local{r.dev + off, s.Length, r.key, r.real + off}, 0
}

// empty is an SGE of no bytes that any device takes.
func (p *pd) empty() local {
	at := soft.AddressOf(p.adapter.page)
	return local{at, 0, p.noneKey, at}
}

// outside is an SGE that fails when the device uses it.
func (p *pd) outside(n uint32) local {
	return local{addr: soft.AddressOf(p.adapter.page) + ndk.PageSize, len: max(n, 1), key: p.noneKey}
}

// publish makes r stand for memory, under the token.
func (a *adapter) publish(t ndk.Token, r *region, base, real, dev, size uint64, key uint32, rights soft.Right) {
	if !a.sinkRemote {
		rights |= soft.ReadSink
	}
	a.regionMu.Lock()
	r.valid, r.used = true, true
	r.base, r.real, r.dev, r.size, r.key, r.rights = base, real, dev, size, key, rights
	a.regions[t] = r
	a.regionMu.Unlock()
}

// end makes r stand for nothing; with forget the token is free as well.
func (a *adapter) end(t ndk.Token, r *region, forget bool) {
	a.regionMu.Lock()
	r.valid = false
	if forget && a.regions[t] == r {
		delete(a.regions, t)
	}
	a.regionMu.Unlock()
}
