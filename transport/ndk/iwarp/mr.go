package iwarp

import (
	"context"
	"fmt"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// mr implements ndk.MR.
type mr struct {
	object
	pd     *pd
	fast   bool
	region *region
	local  *tokenSlot
	remote *tokenSlot

	mu         sync.Mutex
	registered bool // guarded by mu, as all below; normal: Register; fast: InitializeFastRegister
	maxPages   int
	allowRem   bool   // of InitializeFastRegister
	rtoken     uint32 // what RemoteToken shows
	base       uint64 // what Base shows
	memory     ndk.Memory
	windows    int // bound
}

// CreateMR implements ndk.PD.
func (p *pd) CreateMR(_ context.Context, fast bool) (ndk.MR, error) {
	const op = "create MR"
	t := p.adapter.tokens
	r := newRegion()
	local, ok := t.alloc(r, tokenLocal)
	if !ok {
		return nil, wrap(op, ntstatus.InsufficientResources, nil)
	}
	remote, ok := t.alloc(r, tokenRemote)
	if !ok {
		t.release(local)
		return nil, wrap(op, ntstatus.InsufficientResources, nil)
	}
	m := &mr{pd: p, fast: fast, region: r, local: local, remote: remote}
	last := func() {
		r.invalidate(0)
		t.release(local)
		t.release(remote)
	}
	if err := m.init(ndk.ObjectMR, p.adapter, last, &p.object); err != nil {
		last()
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	return m, nil
}

// Close implements ndk.Object. With a window bound it stays pending, and so does
// the registration.
func (m *mr) Close() {
	if m.beginClose() {
		m.release()
	}
}

// Register implements ndk.MR.
func (m *mr) Register(_ context.Context, mem ndk.Memory, length int, f ndk.MRFlags) error {
	const op = "register MR"
	if m.fast {
		return wrap(op, ntstatus.InvalidDeviceRequest, nil)
	}
	if f&^(ndk.MRAllowLocalWrite|ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink) != 0 || length > maxRegistrationSize {
		return wrap(op, ntstatus.InvalidParameter, nil)
	}
	b := join(mem, length)
	if b == nil {
		return wrap(op, ntstatus.InvalidParameter, fmt.Errorf("no contiguous range of %d bytes", length))
	}
	var rights uint8
	if f&ndk.MRAllowLocalWrite != 0 {
		rights |= rightLocalWrite
	}
	if f&ndk.MRAllowRemoteRead != 0 {
		rights |= rightRemoteRead
	}
	if f&ndk.MRAllowRemoteWrite == ndk.MRAllowRemoteWrite {
		rights |= rightRemoteWrite
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	token := m.adapter.tokens.fresh(m.remote)
	ok := m.region.publish(func(r *region) {
		r.pd, r.mem, r.base, r.rights, r.rtoken, r.fast = m.pd, b, address(b), rights, token, false
	})
	if !ok {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	m.registered, m.rtoken, m.base, m.memory = true, token, address(b), mem
	return nil
}

// Deregister implements ndk.MR.
func (m *mr) Deregister(context.Context) error {
	const op = "deregister MR"
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.fast || !m.registered:
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	case m.windows > 0:
		return wrap(op, ntstatus.DeviceBusy, nil)
	}
	m.region.invalidate(0)
	m.registered, m.base, m.memory = false, 0, nil
	return nil
}

// InitializeFastRegister implements ndk.MR.
func (m *mr) InitializeFastRegister(_ context.Context, maxPages int, remote bool) error {
	const op = "initialize fast-register MR"
	switch {
	case !m.fast:
		return wrap(op, ntstatus.InvalidDeviceRequest, nil)
	case maxPages < 1:
		return wrap(op, ntstatus.InvalidParameter, nil)
	case maxPages > frmrPageCount:
		return wrap(op, ntstatus.ImplementationLimit, fmt.Errorf("%d pages, at most %d", maxPages, frmrPageCount))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	m.registered, m.maxPages, m.allowRem = true, maxPages, remote
	return nil
}

// LocalToken implements ndk.MR.
func (m *mr) LocalToken() ndk.Token { return ndk.Token(m.local.token) }

// RemoteToken implements ndk.MR.
func (m *mr) RemoteToken() ndk.Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ndk.Token(m.rtoken)
}

// Base implements ndk.MR.
func (m *mr) Base() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.base
}

// fastRegistration is what a FastRegister request publishes when its turn came.
type fastRegistration struct {
	mem    []byte
	base   uint64
	token  uint32
	rights uint8
}

// prepareFast checks a FastRegister request at its post and draws the token.
func (m *mr) prepareFast(pages []ndk.LogicalAddress, fbo uint32, n, base uint64, f ndk.OpFlags) (fr fastRegistration, st ndk.Status) {
	if !m.fast {
		return fr, ntstatus.InvalidDeviceRequest
	}
	var rights uint8
	if f&ndk.AllowLocalWrite != 0 {
		rights |= rightLocalWrite
	}
	if f&ndk.AllowRemoteRead != 0 {
		rights |= rightRemoteRead
	}
	if f&ndk.AllowRemoteWrite == ndk.AllowRemoteWrite {
		rights |= rightRemoteWrite
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.registered:
		return fr, ntstatus.InvalidDeviceState
	case rights&(rightRemoteRead|rightRemoteWrite) != 0 && !m.allowRem:
		return fr, ntstatus.AccessViolation
	case len(pages) > m.maxPages, base%ndk.PageSize != uint64(fbo), base+n < base:
		return fr, ntstatus.InvalidParameter
	}
	mem := m.adapter.lams.pageRun(pages, fbo, n)
	if mem == nil {
		return fr, ntstatus.InvalidParameter
	}
	m.rtoken, m.base = m.adapter.tokens.fresh(m.remote), base
	return fastRegistration{mem: mem, base: base, token: m.rtoken, rights: rights}, ntstatus.Success
}

// publishFast makes a prepared registration valid; false if the one before still
// is.
func (m *mr) publishFast(fr *fastRegistration) bool {
	return m.region.publish(func(r *region) {
		r.pd, r.mem, r.base, r.rights, r.rtoken, r.fast = m.pd, fr.mem, fr.base, fr.rights, fr.token, true
	})
}

// invalidateRemote serves a Send with Invalidate: it ends the fast registration
// or window binding under the token (RFC 5040 §5.3). false is a peer's error.
func (q *qp) invalidateRemote(token uint32) bool {
	s := q.adapter.tokens.find(token)
	if s == nil || s.kind != tokenRemote {
		return false
	}
	r := s.region
	if _, ok := r.pin(); !ok {
		return false
	}
	good := r.fast && r.rtoken == token && r.pd == q.pd && (r.qp == nil || r.qp == q)
	r.unpin()
	if !good {
		return false
	}
	if !r.invalidate(token) {
		return false
	}
	if r.window != nil {
		r.window.unbind()
	}
	return true
}
