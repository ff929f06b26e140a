//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"context"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// mw implements ndk.MW by a window of type 2.
type mw struct {
	soft.Object
	pd  *pd
	win window

	mu     sync.Mutex
	remote ndk.Token // guarded by mu
	under  *mr       // guarded by mu; bound to, in the order of posts; held
	grant  grant     // guarded by mu; what the device has for it
}

// CreateMW implements ndk.PD.
func (p *pd) CreateMW(context.Context) (ndk.MW, error) {
	const op = "create MW"
	if !p.Hold() {
		return nil, refuse(op, ndk.ErrClosed)
	}
	defer p.Release()
	if !p.adapter.windows {
		return nil, wrap(op, ntstatus.NotSupported, nil)
	}
	w := &mw{pd: p}
	if err := w.win.open(p); err != nil {
		return nil, wrap(op, resourceStatus(err), err)
	}
	if err := p.adapter.InitObject(&w.Object, ndk.ObjectMW, w.destroy, &p.Object); err != nil {
		w.destroy()
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	return w, nil
}

// Close implements ndk.Object. It ends the binding.
func (w *mw) Close() {
	if w.BeginClose() {
		w.Release()
	}
}

func (w *mw) destroy() {
	w.win.close()
	w.mu.Lock()
	m, g := w.endLocked()
	w.mu.Unlock()
	w.pd.adapter.letGo(g)
	m.dropWindow()
}

// RemoteToken implements ndk.MW.
func (w *mw) RemoteToken() ndk.Token {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.remote
}

// bind checks a Bind at its post, and returns what the device is to be told.
// broken is for the completion. The caller holds posting of the window.
func (w *mw) bind(m *mr, va, n uint64, f ndk.OpFlags) (b binding, broken ndk.Rule, refused *ndk.PostError) {
	if w.Closing() || m.Closing() {
		return b, 0, ndk.ErrClosed
	}
	if m.fast { // a window needs a registration that nobody else can end
		return b, 0, ndk.ErrNotFast
	}
	remoteWrite := f&ndk.AllowRemoteWrite == ndk.AllowRemoteWrite
	hw := w.win.usable()
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.region // changes under m.mu only
	switch {
	case !m.registered:
		return b, 0, ndk.ErrNotRegistered
	case f&ndk.AllowRemoteRead != 0 && r.rights&soft.RemoteRead == 0, remoteWrite && r.rights&soft.LocalWrite == 0:
		return b, 0, ndk.ErrRemoteRight
	case va < r.base || n == 0 || va-r.base > r.size || n > r.size-(va-r.base):
		return b, 0, ndk.ErrWindowRange
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.under != nil {
		return b, ndk.RuleWindowBound, nil
	}
	if hw == nil {
		return b, 0, errNoResources
	}
	b = binding{win: &w.win, mw: hw, mr: m.hw, token: nextKey(hw), va: va, n: n}
	if f&ndk.AllowRemoteRead != 0 {
		b.access |= C.IBV_ACCESS_REMOTE_READ
	}
	if remoteWrite {
		b.access |= C.IBV_ACCESS_REMOTE_WRITE
	}
	var g grant
	if w.pd.adapter.looseWindows {
		if g.mr = m.register(va, n, va, C.IBV_ACCESS_LOCAL_WRITE|C.IBV_ACCESS_MW_BIND); g.mr == nil {
			return b, 0, errNoResources
		}
		b.mr = g.mr
	}
	w.grant = g
	m.windows++
	m.Retain()
	w.remote, w.under = b.token, m
	w.pd.adapter.knowRemote(b.token, w)
	return b, 0, nil
}

// endLocked ends the binding in the order of posts. m loses a window, and g is let
// go, when the device has ended it too.
func (w *mw) endLocked() (m *mr, g grant) {
	m, g = w.under, w.grant
	w.under, w.grant = nil, grant{}
	w.pd.adapter.forgetRemote(w.remote, w)
	return m, g
}

// invalidate is that of mr.
func (w *mw) invalidate() (token ndk.Token, m *mr, g grant, broken ndk.Rule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.under == nil {
		return 0, nil, g, ndk.RuleInvalidated
	}
	token = w.remote
	m, g = w.endLocked()
	return token, m, g, 0
}

// invalidated is that of mr.
func (w *mw) invalidated(t ndk.Token, by *pd) bool {
	w.mu.Lock()
	if w.under == nil || w.remote != t {
		w.mu.Unlock()
		return false
	}
	m, g := w.endLocked()
	w.mu.Unlock()
	w.win.unbound(t)
	w.pd.adapter.letGo(g)
	m.dropWindow()
	return w.pd == by
}

// undone is that of mr.
func (w *mw) undone(ended ndk.Token, m *mr, g grant) {
	w.mu.Lock()
	var own *mr
	var ownGrant grant
	if w.under != nil && w.remote == ended {
		own, ownGrant = w.endLocked()
	}
	w.mu.Unlock()
	w.win.doubt(ownGrant, own)
	w.win.doubt(g, m)
}

// dropWindow undoes the count and the reference of a binding. nil has none.
func (m *mr) dropWindow() {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.windows--
	m.mu.Unlock()
	m.Release()
}
