package soft

import (
	"context"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// MW implements ndk.MW. Its region is a part of that of the MR it is bound to,
// for the peer of one QP.
type MW struct {
	Object
	pd     *PD
	region *Region
	remote *tokenSlot

	mu     sync.Mutex
	rtoken uint32 // guarded by mu; what RemoteToken shows
}

// CreateMW implements ndk.PD.
func (p *PD) CreateMW(context.Context) (ndk.MW, error) {
	const op = "create MW"
	d := p.dev
	if d.info.MaxWindowSize == 0 {
		return nil, fail(op, ntstatus.NotSupported, nil)
	}
	w := &MW{pd: p, region: d.newRegion()}
	s, ok := d.tokens.alloc(w.region, tokenRemote)
	if !ok {
		return nil, fail(op, ntstatus.InsufficientResources, nil)
	}
	w.remote = s
	last := func() {
		w.unbind() // from what a Bind bound it to whose turn came after Close
		d.tokens.release(s)
	}
	if err := d.InitObject(&w.Object, ndk.ObjectMW, last, &p.Object); err != nil {
		d.tokens.release(s)
		return nil, fail(op, ndk.StatusOf(err), nil)
	}
	return w, nil
}

// PD is the domain of w.
func (w *MW) PD() *PD { return w.pd }

// Close implements ndk.Object. It ends the binding.
func (w *MW) Close() {
	if w.BeginClose() {
		w.unbind()
		w.Release()
	}
}

// unbind ends the binding of a window that is being closed. It runs in Close and
// behind the last release, which are one after the other.
func (w *MW) unbind() {
	if m, _ := w.region.end(0); m != nil {
		m.countWindow(-1)
		w.parents = append(w.parents, &m.Object) // with the reference of the binding
	}
}

// RemoteToken implements ndk.MW.
func (w *MW) RemoteToken() ndk.Token {
	w.mu.Lock()
	defer w.mu.Unlock()
	return ndk.Token(w.rtoken)
}

// PrepareBind checks a Bind at its post and draws the token, which RemoteToken
// shows from now on. m and w are of one domain.
func (w *MW) PrepareBind(m *MR, va, n uint64, f ndk.OpFlags) (reg Registration, err *ndk.PostError) {
	var rights Right
	if f&ndk.AllowRemoteRead != 0 {
		rights |= RemoteRead
	}
	if f&ndk.AllowRemoteWrite == ndk.AllowRemoteWrite {
		rights |= RemoteWrite
	}
	if m.Closing() || w.Closing() {
		return reg, ndk.ErrClosed
	}
	if m.fast { // a window needs a registration that nobody else can end
		return reg, ndk.ErrNotFast
	}
	gen, ok := m.region.pin()
	if !ok {
		return reg, ndk.ErrNotRegistered
	}
	defer m.region.Unpin()
	if rights&RemoteRead != 0 && m.region.rights&RemoteRead == 0 ||
		rights&RemoteWrite != 0 && m.region.rights&LocalWrite == 0 {
		return reg, ndk.ErrRemoteRight
	}
	mem, ok := m.region.Within(va, n)
	if !ok || n == 0 || n > w.pd.dev.info.MaxWindowSize {
		return reg, ndk.ErrWindowRange
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rtoken = w.pd.dev.tokens.fresh(w.remote)
	return Registration{mem: mem, base: va, token: w.rtoken, rights: rights, gen: gen}, nil
}

// Bind makes a prepared binding valid for the peer of the QP owner. The status of
// a completion whose Bind broke a rule is InvalidDeviceRequest.
func (w *MW) Bind(owner any, m *MR, reg *Registration) (broken ndk.Rule) {
	// A Close that begins from here on finds the binding, or ends it when the last
	// holder goes.
	if !w.Hold() {
		return ndk.RuleOpen
	}
	defer w.Release()
	if !m.Hold() {
		return ndk.RuleOpen
	}
	if broken = m.addWindow(reg); broken != 0 {
		m.Release()
		return broken
	}
	ok := w.region.publish(contents{pd: w.pd, mem: reg.mem, base: reg.base, rights: reg.rights, fast: true, rtoken: reg.token, owner: owner, under: m})
	if !ok {
		m.dropWindow()
		return ndk.RuleWindowBound
	}
	return 0
}

// addWindow counts a window, if the registration it was prepared for is there
// still: another one of the same memory may give less.
func (m *MR) addWindow(reg *Registration) (broken ndk.Rule) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.registered || !m.region.Repin(reg.gen) {
		return ndk.RuleInitialized
	}
	m.region.Unpin()
	m.windows++
	return 0
}

func (m *MR) countWindow(n int) {
	m.mu.Lock()
	m.windows += n
	m.mu.Unlock()
}

// dropWindow undoes addWindow, and gives the window's reference back.
func (m *MR) dropWindow() {
	m.countWindow(-1)
	m.Release()
}

// Invalidate ends the binding that has the remote token, and returns when nobody
// works in it any more. RuleInvalidated is broken if there is none; the status of
// such a completion is InvalidDeviceRequest.
func (w *MW) Invalidate(token uint32) (broken ndk.Rule) {
	if token == 0 || !w.region.invalidate(token) {
		return ndk.RuleInvalidated
	}
	return 0
}
