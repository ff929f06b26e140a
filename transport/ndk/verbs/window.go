//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// window is the type-2 window of the device beneath an MW or a fast-register MR.
//
// A connection that ends may leave it bound, or in doubt: then it cannot be bound
// again, its region cannot be deregistered, and its QP cannot be destroyed. Another
// takes its place before its next use, and before the QP is destroyed.
type window struct {
	a  *adapter
	pd *pd

	// posting is held from the check of a binding until the device has taken it,
	// and while another window takes the place of this one. It comes after qp.tx
	// and before any other lock.
	posting sync.Mutex

	mu    sync.Mutex       // comes after the lock of the object
	hw    *C.struct_ibv_mw // guarded by mu, as all below; nil if there is none
	on    *qp              // bound through it, as far as we know
	token ndk.Token        // by the binding that was posted last
	stale bool
	held  []grant // what a stale one may still use
	under []*mr   // and what it may still be bound to
}

// open makes the window.
func (w *window) open(p *pd) error {
	w.a, w.pd = p.adapter, p
	var err error
	if w.hw, err = C.vs_alloc_mw2(p.hw); w.hw == nil {
		return created(err)
	}
	return nil
}

// close destroys it.
func (w *window) close() {
	w.mu.Lock()
	hw, on, held, under := w.hw, w.on, w.held, w.under
	w.hw, w.on, w.held, w.under = nil, nil, nil, nil
	w.mu.Unlock()
	if on != nil {
		on.dropWindow(w)
	}
	if hw != nil {
		w.a.destroyed("memory window", C.vs_dealloc_mw(hw))
	}
	w.a.release(held, under)
}

// release lets go of what a window held.
func (a *adapter) release(held []grant, under []*mr) {
	for _, g := range held {
		a.letGo(g)
	}
	for _, m := range under {
		m.dropWindow()
	}
}

// usable returns the window of the device, a new one in place of a stale one; nil
// if there is none. The caller holds posting, and no lock that comes after it.
func (w *window) usable() *C.struct_ibv_mw {
	w.mu.Lock()
	stale := w.stale
	w.mu.Unlock()
	if stale {
		w.replace()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hw
}

// replace puts another window in the place of this one; the caller holds posting.
func (w *window) replace() {
	w.mu.Lock()
	if w.hw != nil {
		w.a.destroyed("memory window", C.vs_dealloc_mw(w.hw))
	}
	w.hw, _ = C.vs_alloc_mw2(w.pd.hw)
	w.stale = false
	held, under, on := w.held, w.under, w.on
	w.held, w.under, w.on = nil, nil, nil
	w.mu.Unlock()
	if on != nil {
		on.dropWindow(w)
	}
	w.a.release(held, under)
}

// bound notes that a binding with the token was posted to q.
func (w *window) bound(q *qp, t ndk.Token) {
	w.mu.Lock()
	old := w.on
	w.on, w.token = q, t
	w.mu.Unlock()
	if old != nil && old != q {
		old.dropWindow(w)
	}
	q.addWindow(w)
}

// unbound notes that the device has ended the binding with the token.
func (w *window) unbound(t ndk.Token) {
	w.mu.Lock()
	on := w.on
	if w.token != t {
		on = nil // it is bound again
	} else {
		w.on = nil
	}
	w.mu.Unlock()
	if on != nil {
		on.dropWindow(w)
	}
}

// doubt notes that the device may or may not have done what was asked.
func (w *window) doubt(g grant, m *mr) {
	w.mu.Lock()
	w.stale = true
	if g != (grant{}) {
		w.held = append(w.held, g)
	}
	if m != nil {
		w.under = append(w.under, m)
	}
	w.mu.Unlock()
}

// leave has another window take the place of this one if it is bound through q,
// which is about to be destroyed.
func (w *window) leave(q *qp) {
	w.posting.Lock()
	defer w.posting.Unlock()
	w.mu.Lock()
	bound := w.on == q && w.hw != nil
	w.mu.Unlock()
	if bound {
		w.replace()
	}
}

// swap has another window take the place of this one, which the caller lets go
// when the requests before are done; nil if there is no other.
func (w *window) swap() (old *C.struct_ibv_mw) {
	w.posting.Lock()
	defer w.posting.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	hw, _ := C.vs_alloc_mw2(w.pd.hw)
	if hw == nil {
		return nil
	}
	old, w.hw = w.hw, hw
	if w.on != nil {
		w.on.dropWindow(w)
		w.on = nil
	}
	return old
}

// nextKey is the token that a window gets by its next binding.
func nextKey(hw *C.struct_ibv_mw) ndk.Token {
	k := uint32(hw.rkey)
	return ndk.Token(k&^0xFF | (k+1)&0xFF)
}

// addWindow and dropWindow keep the windows that may be bound through q.
func (q *qp) addWindow(w *window) {
	q.windowMu.Lock()
	if q.windows == nil {
		q.windows = make(map[*window]struct{})
	}
	q.windows[w] = struct{}{}
	q.windowMu.Unlock()
}

func (q *qp) dropWindow(w *window) {
	q.windowMu.Lock()
	delete(q.windows, w)
	q.windowMu.Unlock()
}

// leaveWindows frees the windows before q is destroyed.
func (q *qp) leaveWindows() {
	q.windowMu.Lock()
	var all []*window
	for w := range q.windows {
		all = append(all, w)
	}
	q.windowMu.Unlock()
	for _, w := range all {
		w.leave(q)
	}
}
