package iwarp

import (
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// Receive implements ndk.QP.
func (q *qp) Receive(rc any, sgl []ndk.SGE) error {
	if q.srq != nil {
		return ndk.ErrSharedReceive
	}
	if len(sgl) > q.maxRecvSGE {
		return ndk.ErrTooManySGEs
	}
	var total uint64
	for i := range sgl {
		total += uint64(sgl[i].Length)
	}
	if total > maxTransferLength {
		return ndk.ErrTooLong
	}
	q.rmu.Lock()
	defer q.rmu.Unlock()
	switch {
	case q.Closing():
		return ndk.ErrClosed
	case q.rclosed:
		return ndk.ErrNotConnected
	case q.rtail-q.rhead >= q.recvDepth:
		return ndk.ErrQueueFull
	}
	if int(q.rtail-q.rhead) == len(q.recvs) {
		q.recvs, q.recvSGEs = soft.GrowRing(q.recvs, q.recvSGEs, q.maxRecvSGE, q.rhead, q.rtail)
	}
	slot := q.rtail & uint32(len(q.recvs)-1)
	q.recvs[slot] = recvWR{rc: rc, total: total, nsge: uint8(len(sgl))}
	dst := q.recvSGEs[int(slot)*q.maxRecvSGE:]
	for i := range sgl {
		dst[i] = soft.MakeSGE(&sgl[i])
	}
	q.rtail++
	return nil
}

// checkSGL checks what a post can refuse inline.
func (q *qp) checkSGL(sgl []ndk.SGE, f ndk.OpFlags) (length uint32, err *ndk.PostError) {
	var total uint64
	if f&ndk.Inline != 0 {
		for i := range sgl {
			if sgl[i].Inline == nil && sgl[i].Length > 0 {
				return 0, ndk.ErrNoInline // a number is no memory
			}
			total += uint64(len(sgl[i].Inline))
		}
		if total > uint64(q.inlineMax) {
			return 0, ndk.ErrInlineTooLong
		}
		return uint32(total), nil
	}
	if len(sgl) > q.maxInitSGE {
		return 0, ndk.ErrTooManySGEs
	}
	for i := range sgl {
		total += uint64(sgl[i].Length)
	}
	if total > maxTransferLength {
		return 0, ndk.ErrTooLong
	}
	return uint32(total), nil
}

// inactive is why there is no initiator request now.
func (q *qp) inactive() *ndk.PostError {
	if q.Closing() {
		return ndk.ErrClosed
	}
	return ndk.ErrNotConnected
}

// openSlot locks mu and returns the slot for a new request, or unlocks and says
// why there is none.
func (q *qp) openSlot() (*sendWR, error) {
	q.mu.Lock()
	if q.state != qpActive {
		q.mu.Unlock()
		return nil, q.inactive()
	}
	if q.tail-q.head-q.own >= q.initDepth {
		return nil, q.refuseLocked(ndk.ErrQueueFull)
	}
	return q.slotLocked(), nil
}

func (q *qp) slotLocked() *sendWR {
	if int(q.tail-q.head) == len(q.wrs) {
		q.wrs, q.sges = soft.GrowRing(q.wrs, q.sges, q.maxInitSGE, q.head, q.tail)
	}
	wr := q.wr(q.tail)
	*wr = sendWR{buf: wr.buf[:0]}
	return wr
}

// refuseLocked unlocks mu after it handed on what was deferred before a request
// that is refused.
func (q *qp) refuseLocked(err *ndk.PostError) error {
	if q.next != q.tail {
		q.kickLocked()
	}
	q.mu.Unlock()
	return err
}

// refuse is refuseLocked for checks that need no lock.
func (q *qp) refuse(err *ndk.PostError) error {
	q.mu.Lock()
	if q.state != qpActive {
		err = q.inactive()
	}
	return q.refuseLocked(err)
}

// submit queues the slot that openSlot gave, and unlocks mu. It sends at once,
// as far as that does not block, unless the request is deferred.
func (q *qp) submit(f ndk.OpFlags) {
	q.tail++
	if f&ndk.Defer != 0 || q.txBusy || q.fenced {
		q.mu.Unlock()
		return
	}
	q.txBusy = true
	q.Retain()
	q.mu.Unlock()
	q.pump(true)
}

// data posts a request with an SGL.
func (q *qp) data(op wrOp, rc any, sgl []ndk.SGE, raddr uint64, token uint32, f ndk.OpFlags) error {
	length, bad := q.checkSGL(sgl, f)
	if bad != nil {
		return q.refuse(bad)
	}
	wr, err := q.openSlot()
	if err != nil {
		return err
	}
	if op == wrRead && q.noReads {
		return q.refuseLocked(ndk.ErrReadLimit)
	}
	wr.rc, wr.op, wr.flags, wr.length, wr.raddr, wr.token = rc, op, f, length, raddr, token
	if f&ndk.Inline != 0 {
		wr.inline = true
		for i := range sgl {
			wr.buf = append(wr.buf, sgl[i].Inline...)
		}
		if op == wrWrite {
			q.copied.Add(uint64(length))
		}
	} else {
		wr.nsge = uint8(len(sgl))
		dst := q.wrSGEs(q.tail)
		for i := range sgl {
			dst[i] = soft.MakeSGE(&sgl[i])
		}
	}
	q.submit(f)
	return nil
}

// Send implements ndk.QP.
func (q *qp) Send(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
	if f&^soft.FlagsSend != 0 {
		return q.refuse(ndk.ErrFlags)
	}
	return q.data(wrSend, rc, sgl, 0, 0, f)
}

// SendAndInvalidate implements ndk.QP.
func (q *qp) SendAndInvalidate(rc any, sgl []ndk.SGE, f ndk.OpFlags, remote ndk.Token) error {
	if f&^soft.FlagsSend != 0 {
		return q.refuse(ndk.ErrFlags)
	}
	return q.data(wrSendInval, rc, sgl, 0, uint32(remote), f)
}

// Write implements ndk.QP.
func (q *qp) Write(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	if f&^soft.FlagsWrite != 0 {
		return q.refuse(ndk.ErrFlags)
	}
	return q.data(wrWrite, rc, sgl, remoteAddr, uint32(remote), f)
}

// Read implements ndk.QP.
func (q *qp) Read(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	if f&^soft.FlagsRead != 0 {
		return q.refuse(ndk.ErrFlags)
	}
	return q.data(wrRead, rc, sgl, remoteAddr, uint32(remote), f)
}

// WriteFile implements ndk.FileWriter.
func (q *qp) WriteFile(rc any, r ndk.FileRange, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	switch {
	case f&^soft.FlagsCommon != 0:
		return q.refuse(ndk.ErrFlags)
	case r.File == nil || r.Offset < 0 || r.Offset+int64(r.Length) < r.Offset:
		return q.refuse(ndk.ErrFileRange)
	case r.Length > maxTransferLength:
		return q.refuse(ndk.ErrTooLong)
	}
	wr, err := q.openSlot()
	if err != nil {
		return err
	}
	wr.rc, wr.op, wr.flags, wr.length, wr.raddr, wr.token = rc, wrWriteFile, f, r.Length, remoteAddr, uint32(remote)
	wr.file, wr.fileOff = r.File, r.Offset
	q.submit(f)
	return nil
}

// FastRegister implements ndk.QP.
func (q *qp) FastRegister(rc any, target ndk.MR, pages []ndk.LogicalAddress, fbo uint32, n, base uint64, f ndk.OpFlags) error {
	if f&^soft.FlagsFastRegister != 0 {
		return q.refuse(ndk.ErrFlags)
	}
	m, bad := q.ownMR(target)
	if bad != nil {
		return q.refuse(bad)
	}
	wr, err := q.openSlot()
	if err != nil {
		return err
	}
	reg, bad := m.PrepareFast(pages, fbo, n, base, f)
	if bad == nil && !m.Hold() {
		bad = ndk.ErrClosed
	}
	if bad != nil {
		return q.refuseLocked(bad)
	}
	wr.rc, wr.op, wr.flags, wr.mr, wr.reg = rc, wrFastRegister, f, m, reg
	q.submit(f)
	return nil
}

// foreign says why an object of the domain p has no place in a request of q; nil
// if it has.
func (q *qp) foreign(p *soft.PD) *ndk.PostError {
	switch {
	case p.Device() != q.pd.Device():
		return ndk.ErrForeign
	case p != &q.pd.PD:
		return ndk.ErrDomain
	}
	return nil
}

// ownMR is the region behind an argument.
func (q *qp) ownMR(target ndk.MR) (*soft.MR, *ndk.PostError) {
	m, ok := ndk.Unwrap(target).(*soft.MR)
	if !ok {
		return nil, ndk.ErrForeign
	}
	return m, q.foreign(m.PD())
}

// ownMW is the window behind an argument.
func (q *qp) ownMW(target ndk.MW) (*soft.MW, *ndk.PostError) {
	w, ok := ndk.Unwrap(target).(*soft.MW)
	if !ok {
		return nil, ndk.ErrForeign
	}
	return w, q.foreign(w.PD())
}

// ownTarget is the region or the window behind the argument of Invalidate.
func (q *qp) ownTarget(target ndk.Invalidatable) (m *soft.MR, w *soft.MW, bad *ndk.PostError) {
	switch o := ndk.Unwrap(target).(type) {
	case *soft.MR:
		if bad = q.foreign(o.PD()); bad == nil && !o.Fast() {
			bad = ndk.ErrNotFast
		}
		return o, nil, bad
	case *soft.MW:
		return nil, o, q.foreign(o.PD())
	}
	return nil, nil, ndk.ErrForeign
}

// Invalidate implements ndk.QP. One that comes second, behind the peer's Send
// with Invalidate or another of ours, fails with InvalidDeviceRequest and
// RuleInvalidated, and as any failed request ends the connection.
func (q *qp) Invalidate(rc any, target ndk.Invalidatable, f ndk.OpFlags) error {
	if f&^soft.FlagsCommon != 0 {
		return q.refuse(ndk.ErrFlags)
	}
	m, w, bad := q.ownTarget(target)
	if bad != nil {
		return q.refuse(bad)
	}
	wr, err := q.openSlot()
	if err != nil {
		return err
	}
	if m != nil && !m.Hold() || w != nil && !w.Hold() {
		return q.refuseLocked(ndk.ErrClosed)
	}
	wr.rc, wr.op, wr.flags, wr.mr, wr.mw = rc, wrInvalidate, f, m, w
	if m != nil {
		wr.token = uint32(m.RemoteToken())
	} else {
		wr.token = uint32(w.RemoteToken())
	}
	q.submit(f)
	return nil
}

// Bind implements ndk.QP.
func (q *qp) Bind(rc any, target ndk.MR, window ndk.MW, va, n uint64, f ndk.OpFlags) error {
	if f&^soft.FlagsBind != 0 {
		return q.refuse(ndk.ErrFlags)
	}
	m, bad := q.ownMR(target)
	if bad != nil {
		return q.refuse(bad)
	}
	w, bad := q.ownMW(window)
	if bad != nil {
		return q.refuse(bad)
	}
	wr, err := q.openSlot()
	if err != nil {
		return err
	}
	reg, bad := w.PrepareBind(m, va, n, f)
	if bad == nil && !m.Hold() {
		bad = ndk.ErrClosed
	}
	if bad == nil && !w.Hold() {
		m.Release()
		bad = ndk.ErrClosed
	}
	if bad != nil {
		return q.refuseLocked(bad)
	}
	wr.rc, wr.op, wr.flags, wr.mr, wr.mw, wr.reg = rc, wrBind, f, m, w, reg
	q.submit(f)
	return nil
}
