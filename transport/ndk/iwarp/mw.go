package iwarp

import (
	"context"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// mw implements ndk.MW. Its region is a part of that of the MR it is bound to,
// for the peer of one QP.
type mw struct {
	object
	pd     *pd
	region *region
	remote *tokenSlot

	mu     sync.Mutex
	rtoken uint32 // guarded by mu; what RemoteToken shows
	bound  *mr    // guarded by mu; holds it
}

// CreateMW implements ndk.PD.
func (p *pd) CreateMW(context.Context) (ndk.MW, error) {
	const op = "create MW"
	t := p.adapter.tokens
	w := &mw{pd: p, region: newRegion()}
	w.region.window = w
	s, ok := t.alloc(w.region, tokenRemote)
	if !ok {
		return nil, wrap(op, ntstatus.InsufficientResources, nil)
	}
	w.remote = s
	if err := w.init(ndk.ObjectMW, p.adapter, func() { t.release(s) }, &p.object); err != nil {
		t.release(s)
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	return w, nil
}

// Close implements ndk.Object. It ends the binding.
func (w *mw) Close() {
	if w.beginClose() {
		if w.region.invalidate(0) {
			w.unbind()
		}
		w.release()
	}
}

// RemoteToken implements ndk.MW.
func (w *mw) RemoteToken() ndk.Token {
	w.mu.Lock()
	defer w.mu.Unlock()
	return ndk.Token(w.rtoken)
}

// prepare checks a Bind at its post and draws the token.
func (w *mw) prepare(m *mr, va, n uint64, f ndk.OpFlags) (reg fastRegistration, st ndk.Status) {
	var rights uint8
	if f&ndk.AllowRemoteRead != 0 {
		rights |= rightRemoteRead
	}
	if f&ndk.AllowRemoteWrite == ndk.AllowRemoteWrite {
		rights |= rightRemoteWrite
	}
	if _, ok := m.region.pin(); !ok {
		return reg, ntstatus.InvalidDeviceState
	}
	defer m.region.unpin()
	if m.region.fast { // a window needs a registration that nobody else can end
		return reg, ntstatus.InvalidDeviceRequest
	}
	if rights&rightRemoteRead != 0 && m.region.rights&rightRemoteRead == 0 ||
		rights&rightRemoteWrite != 0 && m.region.rights&rightLocalWrite == 0 {
		return reg, ntstatus.AccessViolation
	}
	mem, ok := m.region.within(va, n)
	if !ok || len(mem) == 0 {
		return reg, ntstatus.InvalidParameter
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rtoken = w.adapter.tokens.fresh(w.remote)
	return fastRegistration{mem: mem, base: va, token: w.rtoken, rights: rights}, ntstatus.Success
}

// bind makes a prepared binding valid for the peer of q.
func (w *mw) bind(q *qp, m *mr, reg *fastRegistration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.registered || m.closing.Load() {
		return false
	}
	ok := w.region.publish(func(r *region) {
		r.pd, r.mem, r.base, r.rights, r.rtoken, r.qp, r.fast = w.pd, reg.mem, reg.base, reg.rights, reg.token, q, true
	})
	if !ok {
		return false
	}
	m.windows++
	m.retain()
	w.mu.Lock()
	w.bound = m
	w.mu.Unlock()
	return true
}

// unbind lets go of the MR; called once by whoever ended the binding.
func (w *mw) unbind() {
	w.mu.Lock()
	m := w.bound
	w.bound = nil
	w.mu.Unlock()
	if m != nil {
		m.mu.Lock()
		m.windows--
		m.mu.Unlock()
		m.release()
	}
}
