//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// Bind implements ndk.QP.
func (q *qp) Bind(rc any, target ndk.MR, window ndk.MW, va, n uint64, f ndk.OpFlags) error {
	q.tx.Lock()
	err := q.bindLocked(rc, target, window, va, n, f)
	return q.finish(err, f)
}

func (q *qp) bindLocked(rc any, target ndk.MR, window ndk.MW, va, n uint64, f ndk.OpFlags) *ndk.PostError {
	if err := q.admit(); err != nil {
		return err
	}
	if f&^soft.FlagsBind != 0 {
		return ndk.ErrFlags
	}
	m, ok1 := unwrap[*mr](target)
	w, ok2 := unwrap[*mw](window)
	switch {
	case !ok1 || !ok2 || m.pd.adapter != q.adapter || w.pd.adapter != q.adapter:
		return ndk.ErrForeign
	case m.pd != q.pd || w.pd != q.pd:
		return ndk.ErrDomain
	}
	if !m.Hold() {
		return ndk.ErrClosed
	}
	defer m.Release()
	if !w.Hold() {
		return ndk.ErrClosed
	}
	w.win.posting.Lock()
	defer w.win.posting.Unlock()
	b, broken, err := w.bind(m, va, n, f)
	if err != nil {
		w.Release()
		return err
	}
	q.bind(sendWR{rc: rc, op: wrBind, mw: w}, f, &b, broken)
	return nil
}

// bind posts a binding, or the failure that came of it. The library looks at the
// window while it takes the request, so a binding ends its chain.
func (q *qp) bind(r sendWR, f ndk.OpFlags, b *binding, broken ndk.Rule) {
	if broken == 0 {
		r.token = b.token
		if b.win == nil { // it is done
			q.mu.Lock()
			dead := q.poisoned || q.state != qpConnected
			q.mu.Unlock()
			st := ntstatus.Success
			if dead {
				st = ntstatus.Cancelled
			}
			q.addOwn(r, f, 0, st)
			return
		}
		b.win.bound(q, b.token)
	}
	s := &q.chain[q.chained]
	s.mw, s.mr, s.rkey = b.mw, b.mr, C.uint32_t(b.token)
	s.remote_addr, s.length, s.access, s.num_sge = C.uint64_t(b.va), C.uint64_t(b.n), C.uint32_t(b.access), 0
	if q.add(r, f, broken, ntstatus.InvalidDeviceRequest) {
		q.ringLocked()
		b.mw.rkey = C.uint32_t(b.token)
	}
}

// FastRegister implements ndk.QP. Where windows do it (see mr), the range is bound
// under its own addresses: a base that is not the address of the first byte costs
// a registration, and on a device that cannot shift addresses it is refused with
// NotSupported.
func (q *qp) FastRegister(rc any, target ndk.MR, pages []ndk.LogicalAddress, fbo uint32, n, base uint64, f ndk.OpFlags) error {
	q.tx.Lock()
	err := q.fastRegisterLocked(rc, target, pages, fbo, n, base, f)
	return q.finish(err, f)
}

func (q *qp) fastRegisterLocked(rc any, target ndk.MR, pages []ndk.LogicalAddress, fbo uint32, n, base uint64, f ndk.OpFlags) *ndk.PostError {
	if err := q.admit(); err != nil {
		return err
	}
	if f&^soft.FlagsFastRegister != 0 {
		return ndk.ErrFlags
	}
	m, ok := unwrap[*mr](target)
	switch {
	case !ok || m.pd.adapter != q.adapter:
		return ndk.ErrForeign
	case m.pd != q.pd:
		return ndk.ErrDomain
	}
	if !m.Hold() {
		return ndk.ErrClosed
	}
	m.win.posting.Lock()
	defer m.win.posting.Unlock()
	b, broken, err := m.fastRegister(pages, fbo, n, base, f)
	if err != nil {
		m.Release()
		return err
	}
	q.bind(sendWR{rc: rc, op: wrFastRegister, mr: m}, f, &b, broken)
	return nil
}

// Invalidate implements ndk.QP. What the device has no request for is ended at the
// post, or when the requests before it are done if there are any.
func (q *qp) Invalidate(rc any, target ndk.Invalidatable, f ndk.OpFlags) error {
	q.tx.Lock()
	err := q.invalidateLocked(rc, target, f)
	return q.finish(err, f)
}

func (q *qp) invalidateLocked(rc any, target ndk.Invalidatable, f ndk.OpFlags) *ndk.PostError {
	if err := q.admit(); err != nil {
		return err
	}
	if f&^soft.FlagsCommon != 0 {
		return ndk.ErrFlags
	}
	if target == nil {
		return ndk.ErrForeign
	}
	var token ndk.Token
	var byWindow bool
	var g grant
	var broken ndk.Rule
	var under, m *mr
	var w *mw
	switch o := ndk.Unwrap(target).(type) {
	case *mr:
		switch {
		case o.pd.adapter != q.adapter:
			return ndk.ErrForeign
		case o.pd != q.pd:
			return ndk.ErrDomain
		case !o.fast:
			return ndk.ErrNotFast
		case !o.Hold():
			return ndk.ErrClosed
		}
		m = o
		token, byWindow, g, broken = o.invalidate()
	case *mw:
		switch {
		case o.pd.adapter != q.adapter:
			return ndk.ErrForeign
		case o.pd != q.pd:
			return ndk.ErrDomain
		case !o.Hold():
			return ndk.ErrClosed
		}
		w = o
		token, under, g, broken = o.invalidate()
		byWindow = true
	default:
		return ndk.ErrForeign
	}
	r := sendWR{rc: rc, op: wrInvalidate, token: token, grant: g, mr: m, mw: w}
	if w != nil {
		r.mr = under
	}
	if byWindow && broken == 0 && q.adapter.freeAgain {
		var win *window
		if m != nil {
			win = &m.win
		} else {
			win = &w.win
		}
		if old := win.swap(); old != nil {
			r.grant.mw, byWindow = old, false
		}
	}
	if byWindow || broken != 0 {
		s := &q.chain[q.chained]
		s.rkey, s.num_sge, s.remote_addr = C.uint32_t(token), 0, 0
		q.add(r, f, broken, ntstatus.InvalidDeviceRequest)
		return nil
	}
	q.mu.Lock()
	idle := q.head == q.tail
	dead := q.poisoned || q.state != qpConnected
	q.mu.Unlock()
	if idle { // else at its turn
		q.adapter.letGo(r.grant)
		r.grant = grant{}
	}
	st := ntstatus.Success
	if dead {
		st = ntstatus.Cancelled
	}
	q.addOwn(r, f, 0, st)
	return nil
}

// unwrap returns the provider's own object behind o.
func unwrap[T any](o ndk.Object) (t T, ok bool) {
	if o == nil {
		return t, false
	}
	t, ok = ndk.Unwrap(o).(T)
	return t, ok
}
