//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// grant is what a fast registration keeps in the device, and what it lies in.
type grant struct {
	mw    *C.struct_ibv_mw // a window whose place another one took
	mr    *C.struct_ibv_mr
	exact *exact // of arena
	arena *arena
}

// letGo ends a grant.
func (a *adapter) letGo(g grant) {
	if g.mw != nil {
		a.destroyed("memory window", C.vs_dealloc_mw(g.mw))
	}
	var mem ndk.Memory
	if g.arena != nil {
		mem = g.arena.memory
	}
	a.deregister(g.mr, mem)
	if g.exact != nil {
		g.arena.dropExact(g.exact)
	}
	if g.arena != nil {
		g.arena.release()
	}
}

// mr implements ndk.MR.
//
// A normal one is a registration of the device. A fast one is a type-2 window
// over the registration of an arena, or, on a device without windows and where a
// window cannot do it, a registration made at the post of FastRegister. State
// follows the order of posts; the device follows in its own time.
type mr struct {
	soft.Object
	pd     *pd
	fast   bool
	region region
	none   *C.struct_ibv_mr // fast: a key of its own to be the local token
	win    window           // fast

	mu         sync.Mutex
	hw         *C.struct_ibv_mr // guarded by mu, as all below; normal: the registration
	grant      grant            // fast, while valid
	registered bool             // normal: Register; fast: InitializeFastRegister
	valid      bool             // fast: from FastRegister to Invalidate
	window     bool             // and by the window
	maxPages   int
	allowRem   bool
	local      ndk.Token
	remote     ndk.Token
	base       uint64
	memory     ndk.Memory
	pin        runtime.Pinner
	windows    int // bound to it
}

// CreateMR implements ndk.PD.
func (p *pd) CreateMR(_ context.Context, fast bool) (ndk.MR, error) {
	const op = "create MR"
	if !p.Hold() {
		return nil, refuse(op, ndk.ErrClosed)
	}
	defer p.Release()
	m := &mr{pd: p, fast: fast}
	m.region.pd = p
	if fast {
		var err error
		if m.none, err = p.powerlessKey(); err != nil {
			return nil, wrap(op, resourceStatus(err), err)
		}
		if p.adapter.windows {
			if err = m.win.open(p); err != nil {
				p.adapter.deregister(m.none, nil)
				return nil, wrap(op, resourceStatus(err), err)
			}
		}
	}
	if err := p.adapter.InitObject(&m.Object, ndk.ObjectMR, m.destroy, &p.Object); err != nil {
		m.destroy()
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	return m, nil
}

// destroy runs when nobody needs the region: also no window.
func (m *mr) destroy() {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.pd.adapter
	a.forgetRemote(m.remote, m)
	if m.local != 0 {
		a.end(m.local, &m.region, true)
	}
	if m.fast && a.windows {
		m.win.close()
	}
	a.letGo(m.grant)
	a.deregister(m.hw, m.memory)
	a.deregister(m.none, nil)
	m.pin.Unpin()
	m.memory = nil
}

// Register implements ndk.MR. Memory of the Go heap is pinned for the life of the
// registration; that of Adapter.Alloc suits better, as the heap around a pinned
// object cannot be given back.
func (m *mr) Register(_ context.Context, mem ndk.Memory, length int, f ndk.MRFlags) error {
	const op = "register MR"
	if !m.Hold() {
		return refuse(op, ndk.ErrClosed)
	}
	defer m.Release()
	a := m.pd.adapter
	if m.fast {
		return refuse(op, ndk.ErrNotFast)
	}
	if f&^(ndk.MRAllowLocalWrite|ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink) != 0 {
		return refuse(op, ndk.ErrFlags)
	}
	if length <= 0 || uint64(length) > a.info.MaxRegistrationSize {
		return wrap(op, ntstatus.InvalidParameter, fmt.Errorf("%d bytes, at most %d", length, a.info.MaxRegistrationSize))
	}
	b := soft.Join(mem, length)
	if b == nil {
		return wrap(op, ntstatus.InvalidParameter, fmt.Errorf("no contiguous range of %d bytes", length))
	}
	rights, access := a.access(f&ndk.MRAllowLocalWrite != 0, f&ndk.MRAllowRemoteRead != 0,
		f&ndk.MRAllowRemoteWrite == ndk.MRAllowRemoteWrite, f&ndk.MRRDMAReadSink != 0)
	if a.windows {
		access |= C.IBV_ACCESS_MW_BIND
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered {
		return refuse(op, ndk.ErrStillValid)
	}
	m.memory = append(m.memory[:0], mem...)
	pinMemory(&m.pin, m.memory)
	at := C.uint64_t(soft.AddressOf(b))
	hw, err := C.vs_reg_mr(m.pd.hw, at, C.uint64_t(length), at, access)
	if hw == nil {
		m.pin.Unpin()
		clear(m.memory)
		return wrap(op, resourceStatus(created(err)), created(err))
	}
	m.hw, m.registered, m.base = hw, true, soft.AddressOf(b)
	m.local, m.remote = ndk.Token(hw.lkey), 0
	if rights&(soft.RemoteRead|soft.RemoteWrite) != 0 {
		m.remote = ndk.Token(hw.rkey)
	}
	a.publish(m.local, &m.region, m.base, m.base, m.base, uint64(length), uint32(hw.lkey), rights)
	return nil
}

// access makes the rights of a region, and those of the device.
func (a *adapter) access(localWrite, remoteRead, remoteWrite, sink bool) (r soft.Right, access C.int) {
	if sink {
		r |= soft.ReadSink
		if a.sinkRemote {
			access |= C.IBV_ACCESS_REMOTE_WRITE | C.IBV_ACCESS_LOCAL_WRITE
		}
	}
	if localWrite || remoteWrite {
		r |= soft.LocalWrite
		access |= C.IBV_ACCESS_LOCAL_WRITE
	}
	if remoteRead {
		r |= soft.RemoteRead
		access |= C.IBV_ACCESS_REMOTE_READ
	}
	if remoteWrite {
		r |= soft.RemoteWrite
		access |= C.IBV_ACCESS_REMOTE_WRITE
	}
	return r, access
}

// Deregister implements ndk.MR.
func (m *mr) Deregister(context.Context) error {
	const op = "deregister MR"
	if !m.Hold() {
		return refuse(op, ndk.ErrClosed)
	}
	defer m.Release()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.fast:
		return refuse(op, ndk.ErrNotFast)
	case !m.registered:
		return refuse(op, ndk.ErrNotRegistered)
	case m.windows > 0:
		return wrap(op, ntstatus.DeviceBusy, fmt.Errorf("%d windows are bound", m.windows))
	}
	a := m.pd.adapter
	a.end(m.local, &m.region, true)
	if err := errno(C.vs_dereg_mr(m.hw)); err != nil {
		a.publish(m.local, &m.region, m.base, m.base, m.base, m.region.size, m.region.key, m.region.rights)
		return wrap(op, ntstatus.DeviceBusy, err)
	}
	m.hw, m.registered, m.base, m.local, m.remote = nil, false, 0, 0, 0
	m.pin.Unpin()
	clear(m.memory)
	return nil
}

// InitializeFastRegister implements ndk.MR.
func (m *mr) InitializeFastRegister(_ context.Context, maxPages int, remote bool) error {
	const op = "initialize fast-register MR"
	if !m.Hold() {
		return refuse(op, ndk.ErrClosed)
	}
	defer m.Release()
	switch {
	case !m.fast:
		return refuse(op, ndk.ErrNotFast)
	case maxPages < 1:
		return wrap(op, ntstatus.InvalidParameter, fmt.Errorf("%d pages", maxPages))
	case maxPages > frmrPageCount:
		return wrap(op, ntstatus.ImplementationLimit, fmt.Errorf("%d pages, at most %d", maxPages, frmrPageCount))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered {
		return wrap(op, ntstatus.InvalidDeviceState, fmt.Errorf("initialised already"))
	}
	m.registered, m.maxPages, m.allowRem = true, maxPages, remote
	m.local = ndk.Token(m.none.lkey)
	a := m.pd.adapter
	a.regionMu.Lock()
	a.regions[m.local] = &m.region
	a.regionMu.Unlock()
	return nil
}

// LocalToken implements ndk.MR.
func (m *mr) LocalToken() ndk.Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.local
}

// RemoteToken implements ndk.MR.
func (m *mr) RemoteToken() ndk.Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.remote
}

// Base implements ndk.MR.
func (m *mr) Base() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.base
}

// binding is what a request tells the device: a window to bind, or nothing.
type binding struct {
	win    *window // nil: nothing
	mw     *C.struct_ibv_mw
	mr     *C.struct_ibv_mr
	token  ndk.Token
	va, n  uint64
	access uint32
}

// errNoResources is what a post says when the device has no room for a
// registration.
var errNoResources = &ndk.PostError{Rule: ndk.RuleInitialized, Status: ntstatus.InsufficientResources}

// errBaseShift is what a post says that wants other addresses than those of the
// memory, on a device that cannot have them.
var errBaseShift = &ndk.PostError{Rule: ndk.RuleBase, Status: ntstatus.NotSupported}

// fastRegister checks a FastRegister at its post, makes the region what it says
// and returns what the device is to be told. broken is for the completion. The
// caller holds posting of the window.
func (m *mr) fastRegister(pages []ndk.LogicalAddress, fbo uint32, n, base uint64, f ndk.OpFlags) (b binding, broken ndk.Rule, refused *ndk.PostError) {
	if !m.fast {
		return b, 0, ndk.ErrNotFast
	}
	a := m.pd.adapter
	remoteWrite := f&ndk.AllowRemoteWrite == ndk.AllowRemoteWrite
	rights, access := a.access(f&ndk.AllowLocalWrite != 0, f&ndk.AllowRemoteRead != 0, remoteWrite, f&ndk.RDMAReadSink != 0)
	var hw *C.struct_ibv_mw
	remote := rights&(soft.RemoteRead|soft.RemoteWrite) != 0
	sink := rights&soft.ReadSink != 0 && a.sinkRemote
	if remote && !sink && a.windows {
		hw = m.win.usable()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.Closing():
		return b, 0, ndk.ErrClosed
	case !m.registered:
		return b, 0, ndk.ErrNotInitialized
	case remote && !m.allowRem:
		return b, 0, ndk.ErrRemoteRight
	case len(pages) > m.maxPages:
		return b, 0, ndk.ErrPages
	case base%ndk.PageSize != uint64(fbo), base+n < base:
		return b, 0, ndk.ErrBase
	}
	real, r := a.lams.pageRun(pages, fbo, n)
	if r == nil {
		return b, 0, ndk.ErrPages
	}
	taken := false
	defer func() {
		if !taken {
			r.release()
		}
	}()
	if m.valid {
		return b, ndk.RuleStillValid, nil
	}
	g := grant{arena: r}
	byWindow := hw != nil
	key, dev := uint32(0), real
	if byWindow || !remote && !sink {
		under, err := r.key(m.pd)
		if err != nil {
			return b, 0, errNoResources
		}
		key = uint32(under.lkey)
		b.mr = under
	}
	switch {
	case byWindow:
		if base != real || a.looseWindows { // a window has the addresses of what it is bound to
			if g.exact = r.exact(m.pd, real, n, base); g.exact == nil {
				return b, 0, errNoResources
			}
			b.mr = g.exact.mr
		}
		b = binding{win: &m.win, mw: hw, mr: b.mr, token: nextKey(hw), va: base, n: n}
		if rights&soft.RemoteRead != 0 {
			b.access |= C.IBV_ACCESS_REMOTE_READ
		}
		if rights&soft.RemoteWrite != 0 {
			b.access |= C.IBV_ACCESS_REMOTE_WRITE
		}
	case key != 0: // a peer may do nothing
	case base != real && a.noIOVA:
		return b, 0, errBaseShift
	default:
		if g.mr = m.register(real, n, base, access); g.mr == nil {
			return b, 0, errNoResources
		}
		if ndk.Token(g.mr.rkey) == m.remote { // a token is never that of the time before
			again := m.register(real, n, base, access)
			a.deregister(g.mr, r.memory)
			if g.mr = again; again == nil {
				return b, 0, errNoResources
			}
		}
		key, dev = uint32(g.mr.lkey), base
		b.token = ndk.Token(g.mr.rkey)
	}
	taken = true
	m.grant, m.valid, m.window, m.base = g, true, byWindow, base
	if b.token != 0 {
		m.remote = b.token
		a.knowRemote(b.token, m)
	}
	a.publish(m.local, &m.region, base, real, dev, n, key, rights)
	return b, 0, nil
}

// register makes a registration whose addresses start at base; nil on failure.
func (m *mr) register(real, n, base uint64, access C.int) *C.struct_ibv_mr {
	hw, _ := C.vs_reg_mr(m.pd.hw, C.uint64_t(real), C.uint64_t(n), C.uint64_t(base), access)
	return hw
}

// invalidate ends the registration in the order of posts. window says that the
// device is to be told; g is to be let go when the request is done.
func (m *mr) invalidate() (token ndk.Token, window bool, g grant, broken ndk.Rule) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.valid {
		return 0, false, g, ndk.RuleInvalidated
	}
	return m.remote, m.window, m.endLocked(), 0
}

func (m *mr) endLocked() grant {
	a := m.pd.adapter
	a.forgetRemote(m.remote, m)
	a.end(m.local, &m.region, false)
	g := m.grant
	m.valid, m.grant = false, grant{}
	return g
}

// invalidated notes that the peer ended the registration under the token.
func (m *mr) invalidated(t ndk.Token, by *pd) bool {
	m.mu.Lock()
	if !m.valid || m.remote != t {
		m.mu.Unlock()
		return false
	}
	g := m.endLocked()
	m.mu.Unlock()
	m.win.unbound(t)
	m.pd.adapter.letGo(g)
	return m.pd == by
}

// undone says that the device may not have done a FastRegister or Invalidate,
// whose connection ended. ended is the token of a FastRegister, g what an
// Invalidate would have let go.
func (m *mr) undone(ended ndk.Token, g grant) {
	a := m.pd.adapter
	m.mu.Lock()
	var own grant
	if m.valid && m.remote == ended {
		own = m.endLocked()
	}
	window := m.window
	m.mu.Unlock()
	if window {
		m.win.doubt(own, nil)
		m.win.doubt(g, nil)
		return
	}
	a.letGo(own)
	a.letGo(g)
}

// invalidatee is what a peer's token stands for.
type invalidatee interface {
	invalidated(t ndk.Token, by *pd) bool
}

// knowRemote makes o findable by a token of a fast registration or window.
func (a *adapter) knowRemote(t ndk.Token, o invalidatee) {
	a.regionMu.Lock()
	a.remotes[t] = o
	a.regionMu.Unlock()
}

func (a *adapter) forgetRemote(t ndk.Token, o invalidatee) {
	a.regionMu.Lock()
	if a.remotes[t] == o {
		delete(a.remotes, t)
	}
	a.regionMu.Unlock()
}

// remotelyInvalidated notes what a message says that was received in the domain;
// false if the token is not one that its peer may invalidate.
func (a *adapter) remotelyInvalidated(t ndk.Token, by *pd) bool {
	a.regionMu.RLock()
	o := a.remotes[t]
	a.regionMu.RUnlock()
	return o != nil && o.invalidated(t, by)
}
