//go:build verbs && linux && cgo

package verbs

/*
#cgo noescape vs_post_sends
#cgo nocallback vs_post_sends
#cgo noescape vs_post_recv
#cgo nocallback vs_post_recv
#include "shim.h"
*/
import "C"

import (
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// wrOp is the kind of an initiator request.
type wrOp uint8

const (
	wrSend wrOp = iota
	wrSendInvalidate
	wrWrite
	wrRead
	wrFastRegister
	wrBind
	wrInvalidate
	wrMarker
)

var opTypes = [...]ndk.OpType{
	wrSend: ndk.OpSend, wrSendInvalidate: ndk.OpSend, wrWrite: ndk.OpWrite, wrRead: ndk.OpRead,
	wrFastRegister: ndk.OpFastRegister, wrBind: ndk.OpBind, wrInvalidate: ndk.OpInvalidate,
}

var opCodes = [...]C.uint32_t{
	wrSend: C.IBV_WR_SEND, wrSendInvalidate: C.IBV_WR_SEND_WITH_INV, wrWrite: C.IBV_WR_RDMA_WRITE, wrRead: C.IBV_WR_RDMA_READ,
	wrFastRegister: C.IBV_WR_BIND_MW, wrBind: C.IBV_WR_BIND_MW, wrInvalidate: C.IBV_WR_LOCAL_INV, wrMarker: C.IBV_WR_RDMA_WRITE,
}

// sendWR is one slot of the initiator queue.
type sendWR struct {
	rc     any
	op     wrOp
	silent bool
	hw     bool // the device does it
	done   bool
	status ndk.Status
	perr   uint32 // for ResultEx.ProviderError
	token  ndk.Token
	mr     *mr   // of FastRegister and Invalidate, held; of Invalidate of a window what it lay in
	mw     *mw   // of Bind and Invalidate, held
	grant  grant // of Invalidate: to be let go
}

// recvWR is one slot of the receive queue.
type recvWR struct {
	rc     any
	hw     bool
	done   bool
	nsge   uint8
	broken ndk.Rule // it fails when its message comes
	status ndk.Status
	perr   uint32
	bytes  uint32
	token  ndk.Token // that the peer invalidated
	with   bool      // it did
}

// wr is the slot of position s.
func (q *qp) wr(s uint32) *sendWR { return &q.wrs[s&uint32(len(q.wrs)-1)] }

// recv is the slot of position s.
func (q *qp) recv(s uint32) *recvWR { return &q.recvs[s&uint32(len(q.recvs)-1)] }

// inactive is why there is no initiator request now; nil if there may be one.
func (q *qp) inactive() *ndk.PostError {
	switch {
	case q.Closing():
		return ndk.ErrClosed
	case q.state != qpConnected:
		return ndk.ErrNotConnected
	}
	return nil
}

// admit reports whether a request can be posted. The caller holds tx, so a place
// that is free stays free.
func (q *qp) admit() *ndk.PostError {
	q.mu.Lock()
	err, full := q.inactive(), q.posted >= q.initDepth
	q.mu.Unlock()
	if err != nil || !full {
		return err
	}
	q.icq.pump() // silent ones may be done
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.inactive(); err != nil {
		return err
	}
	if q.posted >= q.initDepth {
		return ndk.ErrQueueFull
	}
	return nil
}

// finish ends a post, which unlocks tx. A request that was refused does not keep
// those before it from leaving.
func (q *qp) finish(err *ndk.PostError, f ndk.OpFlags) error {
	if err != nil || f&ndk.Defer == 0 || q.chained == len(q.chain) {
		q.ringLocked()
	}
	q.tx.Unlock()
	if err != nil {
		return err
	}
	return nil
}

// Send implements ndk.QP.
func (q *qp) Send(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
	return q.transfer(wrSend, soft.FlagsSend, rc, sgl, 0, 0, f)
}

// SendAndInvalidate implements ndk.QP.
func (q *qp) SendAndInvalidate(rc any, sgl []ndk.SGE, f ndk.OpFlags, remote ndk.Token) error {
	return q.transfer(wrSendInvalidate, soft.FlagsSend, rc, sgl, 0, remote, f)
}

// Read implements ndk.QP.
func (q *qp) Read(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	return q.transfer(wrRead, soft.FlagsRead, rc, sgl, remoteAddr, remote, f)
}

// Write implements ndk.QP.
func (q *qp) Write(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	return q.transfer(wrWrite, soft.FlagsWrite, rc, sgl, remoteAddr, remote, f)
}

func (q *qp) transfer(op wrOp, allowed ndk.OpFlags, rc any, sgl []ndk.SGE, raddr uint64, token ndk.Token, f ndk.OpFlags) error {
	q.tx.Lock()
	return q.finish(q.transferLocked(op, allowed, rc, sgl, raddr, token, f), f)
}

func (q *qp) transferLocked(op wrOp, allowed ndk.OpFlags, rc any, sgl []ndk.SGE, raddr uint64, token ndk.Token, f ndk.OpFlags) *ndk.PostError {
	if err := q.admit(); err != nil {
		return err
	}
	if f&^allowed != 0 {
		return ndk.ErrFlags
	}
	if err := q.checkSGL(op, sgl, f); err != nil {
		return err
	}
	if op == wrRead && q.outLimit == 0 {
		return ndk.ErrReadLimit
	}
	s := &q.chain[q.chained]
	s.remote_addr, s.rkey = C.uint64_t(raddr), C.uint32_t(token)
	var broken ndk.Rule
	s.num_sge = 0
	switch {
	case f&ndk.Inline != 0:
		b := q.inline[q.chained*q.inlineMax:][:0:q.inlineMax]
		for i := range sgl {
			b = append(b, sgl[i].Inline...)
		}
		if len(b) > 0 {
			q.setSGE(q.chained, 0, local{addr: soft.AddressOf(b), len: uint32(len(b))})
			s.num_sge = 1
		}
	default:
		broken = q.gather(op, sgl)
	}
	q.add(sendWR{rc: rc, op: op}, f, broken, ntstatus.AccessViolation)
	return nil
}

// checkSGL checks what a post can refuse.
func (q *qp) checkSGL(op wrOp, sgl []ndk.SGE, f ndk.OpFlags) *ndk.PostError {
	var total uint64
	if f&ndk.Inline != 0 {
		for i := range sgl {
			if sgl[i].Inline == nil && sgl[i].Length > 0 {
				return ndk.ErrNoInline // a number is no memory
			}
			total += uint64(len(sgl[i].Inline))
		}
		if total > uint64(q.inlineMax) {
			return ndk.ErrInlineTooLong
		}
		return nil
	}
	limit := q.maxInitSGE
	if op == wrRead {
		limit = q.maxReadSGE
	}
	if len(sgl) > limit {
		return ndk.ErrTooManySGEs
	}
	for i := range sgl {
		total += uint64(sgl[i].Length)
	}
	if total > q.adapter.info.MaxTransferLength {
		return ndk.ErrTooLong
	}
	return nil
}

// gather resolves the SGEs of the request that is being built.
func (q *qp) gather(op wrOp, sgl []ndk.SGE) (broken ndk.Rule) {
	var want soft.Right
	if op == wrRead {
		want = soft.LocalWrite | soft.ReadSink
	}
	a := q.adapter
	a.regionMu.RLock()
	defer a.regionMu.RUnlock()
	s := &q.chain[q.chained]
	n := 0
	for i := range sgl {
		if sgl[i].Length == 0 {
			continue // siw never gets past one beside others
		}
		l, rule := q.pd.resolve(&sgl[i], want)
		if rule != 0 {
			return rule
		}
		q.setSGE(q.chained, n, l)
		n++
	}
	s.num_sge = C.int32_t(n)
	if n == 0 && op == wrRead && a.oneSGE {
		q.setSGE(q.chained, 0, q.pd.empty())
		s.num_sge = 1
	}
	return 0
}

func (q *qp) setSGE(request, i int, l local) {
	e := &q.sges[request*max(q.maxInitSGE, 1)+i]
	e.addr, e.length, e.lkey = C.uint64_t(l.addr), C.uint32_t(l.len), C.uint32_t(l.key)
}

// add puts the request that was built in the queue: for the device, or, if it
// broke a rule, to fail with st when its turn has come. taken says that it is for
// the device.
func (q *qp) add(w sendWR, f ndk.OpFlags, broken ndk.Rule, st ndk.Status) (taken bool) {
	if broken != 0 {
		q.addOwn(w, f, broken, st)
		return false
	}
	q.mu.Lock()
	if q.poisoned || q.state != qpConnected { // ended since the post began
		q.mu.Unlock()
		q.addOwn(w, f, 0, ntstatus.Cancelled)
		return false
	}
	pos := q.tail
	w.silent, w.hw = f&ndk.SilentSuccess != 0, true
	*q.wr(pos) = w
	q.tail++
	q.posted++
	q.mu.Unlock()
	q.link(pos, w.op, f)
	return true
}

// link readies the request that was built for the device.
func (q *qp) link(pos uint32, op wrOp, f ndk.OpFlags) {
	s := &q.chain[q.chained]
	s.wr_id, s.opcode, s.flags = C.uint64_t(requestID(idSend, q.slot, pos)), opCodes[op], 0
	q.quiet++
	q.newestRC = f&ndk.SilentSuccess == 0 || q.quiet >= q.signalEvery || op == wrRead && q.adapter.readsOvertaken
	if q.newestRC {
		s.flags |= C.IBV_SEND_SIGNALED
		q.quiet = 0
	}
	if f&ndk.ReadFence != 0 {
		s.flags |= C.IBV_SEND_FENCE
	}
	if f&ndk.SendAndSolicitEvent != 0 {
		s.flags |= C.IBV_SEND_SOLICITED
	}
	if f&ndk.Inline != 0 {
		s.flags |= C.IBV_SEND_INLINE
	}
	q.chained++
}

// addOwn puts a request in the queue that the device does not see. With a status
// other than Success it fails when its turn has come, and so does what follows.
func (q *qp) addOwn(w sendWR, f ndk.OpFlags, broken ndk.Rule, st ndk.Status) {
	if st != ntstatus.Success || f&ndk.SilentSuccess == 0 {
		q.markLocked()
	}
	w.silent, w.status, w.perr = f&ndk.SilentSuccess != 0, st, uint32(broken)
	q.mu.Lock()
	*q.wr(q.tail) = w
	q.tail++
	q.posted++
	q.poisoned = q.poisoned || st != ntstatus.Success
	fire := q.reportLocked() // its turn may have come already
	q.mu.Unlock()
	if fire {
		q.icq.Spawn()
	}
}

// markLocked sees to it that the device says when it has done everything that was
// posted: by an empty Write, which needs no token, if the newest request asks for
// no completion. A request of our own that waits for it has left its place in the
// device's queue free.
func (q *qp) markLocked() {
	if q.newestRC {
		return
	}
	q.mu.Lock()
	if q.state != qpConnected && !q.canMark() {
		q.mu.Unlock()
		return
	}
	pos := q.tail
	*q.wr(pos) = sendWR{op: wrMarker, silent: true, hw: true}
	q.tail++
	q.mu.Unlock()
	if q.chained == len(q.chain) {
		q.ringLocked()
	}
	s := &q.chain[q.chained]
	s.remote_addr, s.rkey, s.num_sge = 0, 0, 0
	q.link(pos, wrMarker, 0)
}

// canMark reports whether a connection that takes no requests any more still
// sends.
func (q *qp) canMark() bool { return q.state == qpEnded && !q.flushing }

// ringLocked hands the chain to the device.
func (q *qp) ringLocked() {
	n := q.chained
	if n == 0 || q.holding && n < len(q.chain) {
		return
	}
	q.chained = 0
	var taken C.int
	if C.vs_post_sends(number(q.hw), number(unsafe.SliceData(q.chain)), C.int(n), &taken) == 0 {
		return
	}
	// The connection has ended since, as everything else was checked.
	q.cancelChain(int(taken), n)
	q.Retain()
	go func() { // ends by itself; the QP waits for it
		q.broken()
		q.Release()
	}()
}

// dropChainLocked cancels what the device has not got.
func (q *qp) dropChainLocked() {
	n := q.chained
	q.chained = 0
	q.cancelChain(0, n)
}

func (q *qp) cancelChain(from, to int) {
	if from >= to {
		return
	}
	q.mu.Lock()
	for i := from; i < to; i++ {
		w := q.wr(uint32(q.chain[i].wr_id))
		w.hw, w.status = false, ntstatus.Cancelled
	}
	q.poisoned, q.newestRC, q.quiet = true, true, 0
	q.mu.Unlock()
}

// Receive implements ndk.QP.
func (q *qp) Receive(rc any, sgl []ndk.SGE) error {
	if q.shared != nil {
		return ndk.ErrSharedReceive
	}
	if err := checkReceive(q.adapter, sgl, q.maxRecvSGE); err != nil {
		return err
	}
	q.rx.Lock()
	defer q.rx.Unlock()
	q.mu.Lock()
	if q.rtail-q.rhead >= q.recvDepth {
		q.mu.Unlock()
		q.rcq.pump() // some may be done
		q.mu.Lock()
	}
	switch {
	case q.Closing():
		q.mu.Unlock()
		return ndk.ErrClosed
	case q.state == qpEnded:
		q.mu.Unlock()
		return ndk.ErrNotConnected
	case q.rtail-q.rhead >= q.recvDepth:
		q.mu.Unlock()
		return ndk.ErrQueueFull
	}
	pos := q.rtail
	w := q.recv(pos)
	*w = recvWR{rc: rc, hw: true}
	w.nsge, w.broken = q.pd.scatter(sgl, q.recvLocal[int(pos&uint32(len(q.recvs)-1))*q.maxRecvSGE:][:len(sgl)])
	q.rtail++
	q.mu.Unlock()
	if err := q.postRecv(pos, w); err != nil {
		q.mu.Lock()
		w.hw, w.done, w.status = false, true, ntstatus.Cancelled
		fire := q.reportReceivesLocked()
		q.mu.Unlock()
		if fire {
			q.rcq.Spawn()
		}
	}
	return nil
}

// checkReceive checks what a post can refuse.
func checkReceive(a *adapter, sgl []ndk.SGE, limit int) error {
	if len(sgl) > limit {
		return ndk.ErrTooManySGEs
	}
	var total uint64
	for i := range sgl {
		total += uint64(sgl[i].Length)
	}
	if total > a.info.MaxTransferLength {
		return ndk.ErrTooLong
	}
	return nil
}

// scatter resolves the SGEs of a receive. One that breaks a rule becomes one that
// the device fails with, as a receive fails when its message comes.
func (p *pd) scatter(sgl []ndk.SGE, dst []local) (n uint8, broken ndk.Rule) {
	a := p.adapter
	a.regionMu.RLock()
	defer a.regionMu.RUnlock()
	for i := range sgl {
		if sgl[i].Length == 0 {
			continue
		}
		l, rule := p.resolve(&sgl[i], soft.LocalWrite)
		if rule != 0 {
			broken = rule
			l = p.outside(sgl[i].Length)
		}
		dst[n] = l
		n++
	}
	return n, broken
}

// postRecv hands the receive at pos to the device; the caller holds rx.
func (q *qp) postRecv(pos uint32, w *recvWR) error {
	l := q.recvLocal[int(pos&uint32(len(q.recvs)-1))*q.maxRecvSGE:][:w.nsge]
	return q.pd.postRecv(q.hw, nil, requestID(idReceive, q.slot, pos), l, q.recvSGEs)
}

// postRecv hands a receive to the device; buf is where the library reads the
// SGEs.
func (p *pd) postRecv(hw *C.struct_ibv_qp, srq *C.struct_ibv_srq, id uint64, l []local, buf []C.struct_ibv_sge) error {
	n := len(l)
	for i := range l {
		buf[i].addr, buf[i].length, buf[i].lkey = C.uint64_t(l[i].addr), C.uint32_t(l[i].len), C.uint32_t(l[i].key)
	}
	if n == 0 && p.adapter.oneSGE {
		e := p.empty()
		buf[0].addr, buf[0].length, buf[0].lkey = C.uint64_t(e.addr), 0, C.uint32_t(e.key)
		n = 1
	}
	if rc := C.vs_post_recv(number(hw), number(srq), C.uint64_t(id), number(unsafe.SliceData(buf)), C.int(n)); rc != 0 {
		return errno(rc)
	}
	return nil
}
