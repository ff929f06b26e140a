package soft

import (
	"context"
	"fmt"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// MR implements ndk.MR.
type MR struct {
	Object
	pd     *PD
	fast   bool
	region *Region
	local  *tokenSlot
	remote *tokenSlot

	mu         sync.Mutex
	registered bool // guarded by mu, as all below; normal: Register; fast: InitializeFastRegister
	maxPages   int
	allowRem   bool   // of InitializeFastRegister
	rtoken     uint32 // what RemoteToken shows
	base       uint64 // what Base shows
	memory     ndk.Memory
	windows    int   // bound
	pipe       *Sink // of the next registration
	lastPipe   *Sink // that there was
}

// CreateMR implements ndk.PD.
func (p *PD) CreateMR(_ context.Context, fast bool) (ndk.MR, error) {
	const op = "create MR"
	d := p.dev
	if fast && d.info.FRMRPageCount == 0 {
		return nil, fail(op, ntstatus.NotSupported, nil)
	}
	r := d.newRegion()
	local, ok := d.tokens.alloc(r, tokenLocal)
	if !ok {
		return nil, fail(op, ntstatus.InsufficientResources, nil)
	}
	remote, ok := d.tokens.alloc(r, tokenRemote)
	if !ok {
		d.tokens.release(local)
		return nil, fail(op, ntstatus.InsufficientResources, nil)
	}
	m := &MR{pd: p, fast: fast, region: r, local: local, remote: remote}
	last := func() {
		r.invalidate(0)
		d.tokens.release(local)
		d.tokens.release(remote)
	}
	if err := d.InitObject(&m.Object, ndk.ObjectMR, last, &p.Object); err != nil {
		last()
		return nil, fail(op, ndk.StatusOf(err), nil)
	}
	return m, nil
}

// PD is the domain of m.
func (m *MR) PD() *PD { return m.pd }

// Fast reports whether m is for fast registration.
func (m *MR) Fast() bool { return m.fast }

// Close implements ndk.Object. With a window bound it stays pending, and so does
// the registration; else it ends with the call.
func (m *MR) Close() {
	if m.BeginClose() {
		m.Release()
	}
}

// Register implements ndk.MR.
func (m *MR) Register(_ context.Context, mem ndk.Memory, length int, f ndk.MRFlags) error {
	const op = "register MR"
	d := m.pd.dev
	if m.Closing() {
		return refuse(op, ndk.ErrClosed)
	}
	if m.fast {
		return refuse(op, ndk.ErrNotFast)
	}
	if f&^(ndk.MRAllowLocalWrite|ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink) != 0 {
		return refuse(op, ndk.ErrFlags)
	}
	if length <= 0 || uint64(length) > d.info.MaxRegistrationSize {
		return fail(op, ntstatus.InvalidParameter, fmt.Errorf("%d bytes, at least 1 and at most %d", length, d.info.MaxRegistrationSize))
	}
	b := Join(mem, length)
	if b == nil {
		return fail(op, ntstatus.InvalidParameter, fmt.Errorf("no contiguous range of %d bytes", length))
	}
	rights := d.localRights(f&ndk.MRRDMAReadSink != 0)
	if f&ndk.MRAllowLocalWrite != 0 {
		rights |= LocalWrite
	}
	if f&ndk.MRAllowRemoteRead != 0 {
		rights |= RemoteRead
	}
	if f&ndk.MRAllowRemoteWrite == ndk.MRAllowRemoteWrite {
		rights |= RemoteWrite
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered {
		return refuse(op, ndk.ErrStillValid)
	}
	token := d.tokens.fresh(m.remote)
	if !m.region.publish(contents{pd: m.pd, mem: b, base: AddressOf(b), rights: rights, rtoken: token, pipe: m.pipe}) {
		return refuse(op, ndk.ErrStillValid)
	}
	m.registered, m.rtoken, m.base, m.memory = true, token, AddressOf(b), mem
	return nil
}

// localRights is ReadSink, if it was asked for or needs no asking.
func (d *Device) localRights(sink bool) Right {
	if sink || d.sinkAnywhere {
		return ReadSink
	}
	return 0
}

// Deregister implements ndk.MR.
func (m *MR) Deregister(context.Context) error {
	const op = "deregister MR"
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.Closing():
		return refuse(op, ndk.ErrClosed)
	case m.fast || !m.registered:
		return refuse(op, ndk.ErrNotRegistered)
	case m.windows > 0:
		return fail(op, ntstatus.DeviceBusy, nil)
	}
	m.region.invalidate(0)
	m.registered, m.base, m.memory = false, 0, nil
	return nil
}

// InitializeFastRegister implements ndk.MR.
func (m *MR) InitializeFastRegister(_ context.Context, maxPages int, remote bool) error {
	const op = "initialize fast-register MR"
	limit := m.pd.dev.info.FRMRPageCount
	switch {
	case m.Closing():
		return refuse(op, ndk.ErrClosed)
	case !m.fast:
		return refuse(op, ndk.ErrNotFast)
	case maxPages < 1:
		return fail(op, ntstatus.InvalidParameter, fmt.Errorf("%d pages", maxPages))
	case maxPages > limit:
		return fail(op, ntstatus.ImplementationLimit, fmt.Errorf("%d pages, at most %d", maxPages, limit))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered {
		return fail(op, ntstatus.InvalidDeviceState, fmt.Errorf("initialised before"))
	}
	m.registered, m.maxPages, m.allowRem = true, maxPages, remote
	return nil
}

// LocalToken implements ndk.MR.
func (m *MR) LocalToken() ndk.Token { return ndk.Token(m.local.token) }

// RemoteToken implements ndk.MR.
func (m *MR) RemoteToken() ndk.Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ndk.Token(m.rtoken)
}

// Base implements ndk.MR.
func (m *MR) Base() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.base
}

// Registration is a FastRegister or Bind between its post and its turn. The zero
// value is none.
type Registration struct {
	mem    []byte
	base   uint64
	token  uint32
	rights Right
	gen    uint32 // of a Bind: the registration that it was checked against
	pipe   *Sink
}

// Token is what the peer will present.
func (r *Registration) Token() ndk.Token { return ndk.Token(r.token) }

// PrepareFast checks a FastRegister at its post and draws the token, which
// RemoteToken shows from now on.
func (m *MR) PrepareFast(pages []ndk.LogicalAddress, fbo uint32, n, base uint64, f ndk.OpFlags) (reg Registration, err *ndk.PostError) {
	d := m.pd.dev
	if !m.fast {
		return reg, ndk.ErrNotFast
	}
	rights := d.localRights(f&ndk.RDMAReadSink != 0)
	if f&ndk.AllowLocalWrite != 0 {
		rights |= LocalWrite
	}
	if f&ndk.AllowRemoteRead != 0 {
		rights |= RemoteRead
	}
	if f&ndk.AllowRemoteWrite == ndk.AllowRemoteWrite {
		rights |= RemoteWrite
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.Closing():
		return reg, ndk.ErrClosed
	case !m.registered:
		return reg, ndk.ErrNotInitialized
	case rights&(RemoteRead|RemoteWrite) != 0 && !m.allowRem:
		return reg, ndk.ErrRemoteRight
	case len(pages) > m.maxPages:
		return reg, ndk.ErrPages
	case base%ndk.PageSize != uint64(fbo), base+n < base:
		return reg, ndk.ErrBase
	}
	mem := d.lams.pageRun(pages, fbo, n)
	if mem == nil {
		return reg, ndk.ErrPages
	}
	m.rtoken, m.base = d.tokens.fresh(m.remote), base
	return Registration{mem: mem, base: base, token: m.rtoken, rights: rights, pipe: m.pipe}, nil
}

// PublishFast makes a prepared registration valid. RuleStillValid is broken if
// the one before was not invalidated; the status of such a completion is
// InvalidDeviceRequest.
func (m *MR) PublishFast(reg *Registration) (broken ndk.Rule) {
	if !m.region.publish(contents{pd: m.pd, mem: reg.mem, base: reg.base, rights: reg.rights, rtoken: reg.token, fast: true, pipe: reg.pipe}) {
		return ndk.RuleStillValid
	}
	return 0
}

// Invalidate ends the fast registration that has the remote token, and returns
// when nobody works in it any more. RuleInvalidated is broken if there is none;
// the status of such a completion is InvalidDeviceRequest.
func (m *MR) Invalidate(token uint32) (broken ndk.Rule) {
	if token == 0 || !m.region.invalidate(token) {
		return ndk.RuleInvalidated
	}
	return 0
}
