package sim

import (
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// newWR is an initiator request on its way into the queue.
type newWR struct {
	op     wrOp
	rc     any
	sgl    []ndk.SGE
	flags  ndk.OpFlags
	raddr  uint64
	token  uint32
	mr     *mr
	mw     *soft.MW
	reg    soft.Registration
	length uint32
	file   []byte // what was read of a file
	failed bool   // and could not be
}

// post takes a request, or refuses it. prepare, for requests that have one,
// makes what can be made only once the request has its place.
func (q *qp) post(n *newWR, allowed ndk.OpFlags, early *ndk.PostError, pages []ndk.LogicalAddress, fbo uint32, size, base uint64) error {
	w := q.w
	if n.op != wrWriteFile { // which has entered
		if q.enter() {
			defer q.send.leave()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e := q.accept(n, allowed, early, pages, fbo, size, base)
	w.note(q.sub, postNames[n.op]).num("bytes", uint64(n.length)).hex("flags", uint64(n.flags)).status(refusal(e)).end()
	if e != nil {
		if q.state == qpActive {
			// A post that fails first hands on what was deferred before it.
			q.handOn()
		}
		return e
	}
	if n.flags&ndk.Defer == 0 {
		q.handOn()
	}
	if !w.faulty() {
		return nil
	}
	if n.flags&ndk.Defer == 0 {
		if _, hit := w.strike(passing{point: PointEarly, who: q.sub, o1: q, op: opTypes[n.op]}); hit {
			for q.canStart() {
				q.start()
			}
		}
	}
	if _, hit := w.strike(passing{point: PointRemoval, who: q.sub, o1: q}); hit {
		w.removeLocked(q.a.host)
	}
	return nil
}

// enter reports whether the initiator lane is the caller's, to be left again; it
// is if the consumer serialises its posts.
func (q *qp) enter() bool {
	if q.send.enter() {
		return true
	}
	q.w.report(fmt.Sprintf("two posts to the initiator queue of %v%d at the same time", q.Kind(), q.sub.n))
	return false
}

// accept checks a request and gives it a slot.
func (q *qp) accept(n *newWR, allowed ndk.OpFlags, early *ndk.PostError, pages []ndk.LogicalAddress, fbo uint32, size, base uint64) *ndk.PostError {
	switch {
	case q.Closing():
		return ndk.ErrClosed
	case q.state != qpActive:
		return ndk.ErrNotConnected
	case n.flags&^allowed != 0:
		return ndk.ErrFlags
	case early != nil:
		return early
	}
	if e := q.checkSGL(n); e != nil {
		return e
	}
	if n.op == wrRead && q.ord == 0 {
		return ndk.ErrReadLimit
	}
	if q.tail-q.first(q.head, q.initFree) >= q.initDepth {
		return ndk.ErrQueueFull
	}
	if q.w.faulty() {
		if _, hit := q.w.strike(passing{point: PointPost, who: q.sub, o1: q, op: opTypes[n.op]}); hit {
			return ndk.ErrQueueFull
		}
	}
	var e *ndk.PostError
	switch n.op {
	case wrFastRegister:
		n.reg, e = n.mr.PrepareFast(pages, fbo, size, base, n.flags)
	case wrBind:
		n.reg, e = n.mw.PrepareBind(n.mr.MR, base, size, n.flags)
	}
	if e == nil && !n.hold() {
		e = ndk.ErrClosed
	}
	if e != nil {
		return e
	}
	if int(q.tail-q.head) == len(q.wrs) {
		q.wrs, q.sges = soft.GrowRing(q.wrs, q.sges, q.maxInitSGE, q.head, q.tail)
	}
	wr := q.wr(q.tail)
	*wr = sendWR{
		buf: wr.buf[:0], rc: n.rc, op: n.op, flags: n.flags, length: n.length, raddr: n.raddr, token: n.token,
		mr: n.mr, mw: n.mw, reg: n.reg, deferred: n.flags&ndk.Defer != 0,
	}
	if n.op == wrWriteFile {
		wr.bytes = uint32(len(n.file))
		wr.buf = append(wr.buf, n.file...)
		wr.buf = append(wr.buf, make([]byte, int(n.length)-len(n.file))...)
		if n.failed {
			wr.status = ntstatus.IODeviceError
		}
	} else if n.flags&ndk.Inline != 0 {
		for i := range n.sgl {
			wr.buf = append(wr.buf, n.sgl[i].Inline...)
		}
	} else {
		wr.nsge = uint8(len(n.sgl))
		dst := q.wrSGEs(q.tail)
		for i := range n.sgl {
			dst[i] = soft.MakeSGE(&n.sgl[i])
		}
		if q.w.cfg.CheckBuffers && (n.op == wrSend || n.op == wrSendInvalidate || n.op == wrWrite) {
			wr.sum, wr.placed = q.sourceSum(dst[:wr.nsge]), q.a.placed
		}
	}
	q.tail++
	return nil
}

// hold keeps the objects of a request from being closed until it completes, by
// letGo of its slot; false if one is being closed.
func (n *newWR) hold() bool {
	if n.mr != nil && !n.mr.Hold() {
		return false
	}
	if n.mw != nil && !n.mw.Hold() {
		if n.mr != nil {
			n.mr.Release()
		}
		return false
	}
	return true
}

// letGo forgets what a request has of its consumer.
func (wr *sendWR) letGo() {
	if wr.mr != nil {
		wr.mr.Release()
	}
	if wr.mw != nil {
		wr.mw.Release()
	}
	wr.rc, wr.mr, wr.mw, wr.reg = nil, nil, nil, soft.Registration{}
}

// checkSGL checks the SGEs of a request and adds them up.
func (q *qp) checkSGL(n *newWR) *ndk.PostError {
	var total uint64
	if n.op == wrWriteFile {
		return nil // has none, and WriteFile checked the length
	}
	if n.flags&ndk.Inline != 0 {
		for i := range n.sgl {
			if n.sgl[i].Inline == nil && n.sgl[i].Length > 0 {
				return ndk.ErrNoInline // a number is no memory
			}
			total += uint64(len(n.sgl[i].Inline))
		}
		if total > uint64(q.inlineMax) {
			return ndk.ErrInlineTooLong
		}
		n.length = uint32(total)
		return nil
	}
	limit := q.w.info.MaxInitiatorRequestSGE
	if n.op == wrRead {
		limit = q.w.info.MaxReadRequestSGE
	}
	if len(n.sgl) > min(q.maxInitSGE, limit) {
		return ndk.ErrTooManySGEs
	}
	for i := range n.sgl {
		total += uint64(n.sgl[i].Length)
	}
	if total > q.w.info.MaxTransferLength {
		return ndk.ErrTooLong
	}
	n.length = uint32(total)
	return nil
}

// handOn lets what was deferred start. A request that was accepted may fail here
// for the first time.
func (q *qp) handOn() {
	for s := q.handed; s != q.tail && q.w.faulty(); s++ {
		wr := q.wr(s)
		if !wr.deferred {
			continue
		}
		if _, hit := q.w.strike(passing{point: PointDeferred, who: q.sub, o1: q, op: opTypes[wr.op]}); hit {
			wr.status = ntstatus.InternalError
		}
	}
	q.handed = q.tail
	if q.w.mayDirect() {
		q.w.atOnce(q)
	} else {
		q.kick()
	}
}

// Send implements ndk.QP.
func (q *qp) Send(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
	n := newWR{op: wrSend, rc: rc, sgl: sgl, flags: f}
	return q.post(&n, soft.FlagsSend, nil, nil, 0, 0, 0)
}

// SendAndInvalidate implements ndk.QP.
func (q *qp) SendAndInvalidate(rc any, sgl []ndk.SGE, f ndk.OpFlags, remote ndk.Token) error {
	n := newWR{op: wrSendInvalidate, rc: rc, sgl: sgl, flags: f, token: uint32(remote)}
	return q.post(&n, soft.FlagsSend, nil, nil, 0, 0, 0)
}

// Write implements ndk.QP.
func (q *qp) Write(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	n := newWR{op: wrWrite, rc: rc, sgl: sgl, flags: f, raddr: remoteAddr, token: uint32(remote)}
	return q.post(&n, soft.FlagsWrite, nil, nil, 0, 0, 0)
}

// Read implements ndk.QP.
func (q *qp) Read(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	n := newWR{op: wrRead, rc: rc, sgl: sgl, flags: f, raddr: remoteAddr, token: uint32(remote)}
	return q.post(&n, soft.FlagsRead, nil, nil, 0, 0, 0)
}

// FastRegister implements ndk.QP.
func (q *qp) FastRegister(rc any, target ndk.MR, pages []ndk.LogicalAddress, fbo uint32, size, base uint64, f ndk.OpFlags) error {
	n := newWR{op: wrFastRegister, rc: rc, flags: f}
	var e *ndk.PostError
	n.mr, e = q.region(target)
	if e == nil && !n.mr.Fast() {
		e = ndk.ErrNotFast
	}
	return q.post(&n, soft.FlagsFastRegister, e, pages, fbo, size, base)
}

// region is the MR of a request, and the rule that it breaks.
func (q *qp) region(target ndk.MR) (*mr, *ndk.PostError) {
	if target == nil {
		return nil, ndk.ErrForeign
	}
	m, ok := ndk.Unwrap(target).(*mr)
	switch {
	case !ok || m.p.a != q.a:
		return nil, ndk.ErrForeign
	case m.p != q.pd:
		return nil, ndk.ErrDomain
	case m.Closing():
		return nil, ndk.ErrClosed
	}
	return m, nil
}

// window is the MW of a request, and the rule that it breaks.
func (q *qp) window(target ndk.Object) (*soft.MW, *ndk.PostError) {
	if target == nil {
		return nil, ndk.ErrForeign
	}
	m, ok := ndk.Unwrap(target).(*soft.MW)
	switch {
	case !ok || m.PD().Device() != &q.a.Device:
		return nil, ndk.ErrForeign
	case m.PD() != &q.pd.PD:
		return nil, ndk.ErrDomain
	case m.Closing():
		return nil, ndk.ErrClosed
	}
	return m, nil
}

// Bind implements ndk.QP.
func (q *qp) Bind(rc any, target ndk.MR, window ndk.MW, va, size uint64, f ndk.OpFlags) error {
	n := newWR{op: wrBind, rc: rc, flags: f}
	var e, e2 *ndk.PostError
	n.mr, e = q.region(target)
	if n.mw, e2 = q.window(window); e == nil {
		e = e2
	}
	return q.post(&n, soft.FlagsBind, e, nil, 0, size, va)
}

// Invalidate implements ndk.QP.
func (q *qp) Invalidate(rc any, target ndk.Invalidatable, f ndk.OpFlags) error {
	n := newWR{op: wrInvalidate, rc: rc, flags: f}
	var e *ndk.PostError
	if target == nil {
		e = ndk.ErrForeign
	} else if t, ok := ndk.Unwrap(target).(ndk.MR); ok {
		if n.mr, e = q.region(t); e == nil && !n.mr.Fast() {
			e = ndk.ErrNotFast
		}
	} else {
		n.mw, e = q.window(ndk.Unwrap(target))
	}
	// Not from target, which may be somebody else's table.
	switch {
	case e != nil:
	case n.mr != nil:
		n.token = uint32(n.mr.RemoteToken())
	default:
		n.token = uint32(n.mw.RemoteToken())
	}
	return q.post(&n, soft.FlagsCommon, e, nil, 0, 0, 0)
}
