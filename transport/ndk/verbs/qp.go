//go:build verbs && linux && cgo

package verbs

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"context"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// qpState is how far a QP got.
type qpState uint8

const (
	qpIdle      qpState = iota // takes receives only
	qpConnected                // takes initiator requests
	qpEnded                    // its connection is over, or it was flushed
)

// qp implements ndk.QP.
//
// Requests stand in two rings, in the order of their posts. Most of them are
// requests of the device as well; the others, which failed a check or which the
// device cannot do, complete when everything before them has. A completion of the
// device tells also about the requests before it that did not ask for one.
type qp struct {
	soft.Object
	adapter    *adapter
	pd         *pd
	rcq, icq   *cq
	ctx        any
	slot       uint32
	shared     *srq // nil: receives are its own
	recvDepth  uint32
	initDepth  uint32
	maxRecvSGE int
	maxInitSGE int
	maxReadSGE int
	inlineMax  int
	// signalEvery is how many requests of the device may follow each other without
	// asking for a completion.
	signalEvery int

	// tx is the lane of the initiator queue: it serialises the calls of the device.
	// Posts have it to themselves but for a Flush or disconnect at the same time.
	tx       sync.Mutex
	hw       *C.struct_ibv_qp   // changes under tx, rx and mu
	chain    []C.struct_vs_send // guarded by tx, as all of this block; off the heap
	chained  int                // requests in chain that the device has not got
	sges     []C.struct_ibv_sge // maxInitSGE for each of chain
	inline   []byte             // inlineMax for each of chain
	quiet    int                // requests since the newest one that asks for a completion
	newestRC bool               // the newest request of the device asks for one
	holding  bool               // the chain waits for the peer's first message

	// rx is the same of the receive queue.
	rx       sync.Mutex
	recvSGEs []C.struct_ibv_sge // guarded by rx; off the heap

	mu        sync.Mutex
	state     qpState    // guarded by mu, as all below
	connector *connector // the one that works on it
	wrs       []sendWR   // ring
	head      uint32     // oldest request that was not reported
	tail      uint32
	posted    uint32 // requests of the consumer between them
	poisoned  bool   // a request that was taken cannot work, so none behind it is tried
	outLimit  int
	recvs     []recvWR // ring
	recvLocal []local  // maxRecvSGE for each slot
	rhead     uint32
	rtail     uint32
	flushing  bool // flushed requests are reported
	moved     bool // the device's QP is not as it was made
	requeue   bool // flushed receives are kept, to be posted again
	draining  bool
	heard     chan struct{} // closed and nil when the peer's first message came, or nobody waits for it
	drained   chan struct{} // closed when everything was reported, after draining was set

	windowMu sync.Mutex
	windows  map[*window]struct{} // guarded by windowMu; may be bound through this QP
}

const chainMax = 32

// CreateQP implements ndk.PD.
func (p *pd) CreateQP(_ context.Context, c ndk.QPConfig) (ndk.QP, error) { return p.createQP(c, nil) }

// CreateQPWithSRQ implements ndk.PD.
func (p *pd) CreateQPWithSRQ(_ context.Context, c ndk.QPConfig, target ndk.SRQ) (ndk.QP, error) {
	const op = "create QP with SRQ"
	if p.adapter.info.MaxSRQDepth == 0 {
		return nil, wrap(op, ntstatus.NotSupported, nil)
	}
	s, ok := unwrap[*srq](target)
	switch {
	case !ok || s.pd.adapter != p.adapter:
		return nil, refuse(op, ndk.ErrForeign)
	case s.pd != p:
		return nil, refuse(op, &ndk.PostError{Rule: ndk.RuleDomain, Status: ntstatus.InvalidParameter})
	}
	return p.createQP(c, s)
}

func (p *pd) createQP(c ndk.QPConfig, s *srq) (ndk.QP, error) {
	const op = "create QP"
	if !p.Hold() {
		return nil, refuse(op, ndk.ErrClosed)
	}
	defer p.Release()
	a, i := p.adapter, &p.adapter.info
	if s != nil {
		c.ReceiveQueueDepth, c.MaxReceiveSGE = 0, 0
	}
	for _, f := range []struct {
		name   string
		v, max int
	}{
		{"ReceiveQueueDepth", c.ReceiveQueueDepth, i.MaxReceiveQueueDepth},
		{"InitiatorQueueDepth", c.InitiatorQueueDepth, i.MaxInitiatorQueueDepth},
		{"MaxReceiveSGE", c.MaxReceiveSGE, i.MaxReceiveRequestSGE},
		{"MaxInitiatorSGE", c.MaxInitiatorSGE, i.MaxInitiatorRequestSGE},
		{"InlineDataSize", c.InlineDataSize, i.MaxInlineDataSize},
	} {
		if f.v < 0 || f.v > f.max {
			return nil, wrap(op, ntstatus.InvalidParameter, fmt.Errorf("%s is %d, at most %d", f.name, f.v, f.max))
		}
	}
	rcq, ok1 := unwrap[*cq](c.ReceiveCQ)
	icq, ok2 := unwrap[*cq](c.InitiatorCQ)
	if !ok1 || !ok2 || rcq.a != a || icq.a != a {
		return nil, refuse(op, ndk.ErrForeign)
	}
	// The device's queues are there for as long as these are held.
	parents := []*soft.Object{&p.Object, &rcq.Object, &icq.Object}
	if s != nil {
		parents = append(parents, &s.Object)
	}
	for _, o := range parents {
		if !o.Hold() {
			return nil, refuse(op, ndk.ErrClosed)
		}
		defer o.Release()
	}
	q := &qp{
		adapter: a, pd: p, rcq: rcq, icq: icq, ctx: c.QPContext, shared: s,
		recvDepth: uint32(c.ReceiveQueueDepth), initDepth: uint32(c.InitiatorQueueDepth),
		maxRecvSGE: c.MaxReceiveSGE, maxInitSGE: c.MaxInitiatorSGE, inlineMax: c.InlineDataSize,
		maxReadSGE:  min(c.MaxInitiatorSGE, i.MaxReadRequestSGE),
		signalEvery: max(1, (c.InitiatorQueueDepth+1)/2),
		drained:     make(chan struct{}),
		newestRC:    true,
	}
	if !q.alloc() {
		q.freeBuffers()
		return nil, wrap(op, ntstatus.InsufficientResources, nil)
	}
	var err error
	if q.hw, err = q.make(); err != nil {
		q.freeBuffers()
		return nil, wrap(op, resourceStatus(err), err)
	}
	q.slot = a.addQP(q)
	if err := a.InitObject(&q.Object, ndk.ObjectQP, q.destroy, parents...); err != nil {
		a.destroyed("queue pair", C.vs_destroy_qp(q.hw))
		a.dropQP(q)
		q.freeBuffers()
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	a.numberQP(q, 0, q.num())
	rcq.Attach(q)
	icq.Attach(q)
	if s != nil {
		s.attach(q)
	}
	return q, nil
}

// alloc makes the buffers that the library reads.
func (q *qp) alloc() bool {
	perInit, perRecv := max(q.maxInitSGE, 1), max(q.maxRecvSGE, 1)
	chain := (*C.struct_vs_send)(C.calloc(chainMax, C.size_t(unsafe.Sizeof(C.struct_vs_send{}))))
	sges := (*C.struct_ibv_sge)(C.calloc(C.size_t(chainMax*perInit), C.size_t(unsafe.Sizeof(C.struct_ibv_sge{}))))
	recv := (*C.struct_ibv_sge)(C.calloc(C.size_t(perRecv), C.size_t(unsafe.Sizeof(C.struct_ibv_sge{}))))
	inline := (*byte)(C.calloc(C.size_t(chainMax), C.size_t(max(q.inlineMax, 1))))
	q.chain, q.sges, q.recvSGEs = unsafe.Slice(chain, chainMax), unsafe.Slice(sges, chainMax*perInit), unsafe.Slice(recv, perRecv)
	q.inline = unsafe.Slice(inline, chainMax*max(q.inlineMax, 1))
	if chain == nil || sges == nil || recv == nil || inline == nil {
		return false
	}
	for i := range q.chain {
		q.chain[i].sges = &q.sges[i*perInit]
	}
	// One more for each request that is not the device's, see marker.
	q.wrs = make([]sendWR, ringSize(2*q.initDepth))
	q.recvs = make([]recvWR, ringSize(q.recvDepth))
	q.recvLocal = make([]local, len(q.recvs)*q.maxRecvSGE)
	return true
}

// ringSize is the power of two that has room for n.
func ringSize(n uint32) int {
	size := 1
	for size < int(n) {
		size *= 2
	}
	return size
}

func (q *qp) freeBuffers() {
	C.free(unsafe.Pointer(unsafe.SliceData(q.chain)))
	C.free(unsafe.Pointer(unsafe.SliceData(q.sges)))
	C.free(unsafe.Pointer(unsafe.SliceData(q.recvSGEs)))
	C.free(unsafe.Pointer(unsafe.SliceData(q.inline)))
	q.chain, q.sges, q.recvSGEs, q.inline = nil, nil, nil, nil
}

// make creates the device's QP and readies it for receives.
func (q *qp) make() (*C.struct_ibv_qp, error) {
	var init C.struct_ibv_qp_init_attr
	init.send_cq, init.recv_cq, init.qp_type = q.icq.hw, q.rcq.hw, C.IBV_QPT_RC
	init.cap.max_send_wr, init.cap.max_recv_wr = C.uint32_t(q.initDepth+1), C.uint32_t(max(q.recvDepth, 1))
	init.cap.max_send_sge, init.cap.max_recv_sge = C.uint32_t(max(q.maxInitSGE, 1)), C.uint32_t(max(q.maxRecvSGE, 1))
	init.cap.max_inline_data = C.uint32_t(q.inlineMax)
	if q.shared != nil {
		init.srq, init.cap.max_recv_wr = q.shared.hw, 0
	}
	hw, err := C.vs_create_qp(q.pd.hw, &init)
	if hw == nil {
		return nil, created(err)
	}
	var attr C.struct_ibv_qp_attr
	attr.qp_state, attr.port_num = C.IBV_QPS_INIT, C.uint8_t(q.adapter.port)
	attr.qp_access_flags = C.IBV_ACCESS_REMOTE_READ | C.IBV_ACCESS_REMOTE_WRITE
	mask := C.int(C.IBV_QP_STATE | C.IBV_QP_PKEY_INDEX | C.IBV_QP_PORT | C.IBV_QP_ACCESS_FLAGS)
	if err := errno(C.vs_modify_qp(hw, &attr, mask)); err != nil {
		C.vs_destroy_qp(hw)
		return nil, err
	}
	return hw, nil
}

// destroy runs when nobody needs the QP: it was flushed, and its connector is
// closed.
func (q *qp) destroy() {
	a, num := q.adapter, q.num()
	q.leaveWindows()
	q.tx.Lock() // a post that began before Close may not be through with them
	q.rx.Lock()
	a.destroyed("queue pair", C.vs_destroy_qp(q.hw))
	q.freeBuffers()
	q.rx.Unlock()
	q.tx.Unlock()
	// What is left of it in the queues is gone before its slot has another one.
	q.icq.pump()
	q.rcq.pump()
	q.rcq.Detach(q)
	q.icq.Detach(q)
	if q.shared != nil {
		q.shared.detach(q)
	}
	a.numberQP(q, num, 0)
	a.dropQP(q)
}

// Close implements ndk.Object.
func (q *qp) Close() {
	if q.BeginClose() {
		go func() { // ends when everything was reported; Closed comes after it
			q.abort()
			<-q.drained
			q.Release()
		}()
	}
}

// num is the number of the QP for the connection manager.
func (q *qp) num() uint32 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return uint32(q.hw.qp_num)
}

// srq is the shared receive queue, nil without.
func (q *qp) srq() *srq { return q.shared }

// attach makes c the connector of the QP; false if it has one already or is over.
// Whoever attached holds the QP (Hold) for as long as the connector needs it.
func (q *qp) attach(c *connector) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.connector != nil || q.state != qpIdle || q.Closing() {
		return false
	}
	q.connector = c
	return true
}

// detach undoes attach after an attempt that failed, and makes the QP usable for
// another one: posted receives stay posted. It may wait for the device.
func (q *qp) detach() {
	q.mu.Lock()
	again := q.state == qpIdle && (q.moved || q.adapter.iwarp) && !q.Closing()
	q.mu.Unlock()
	if again {
		q.renew()
	}
	q.mu.Lock()
	q.connector = nil // now, as the next one looks at what renew replaces
	q.mu.Unlock()
}

// renew gives a QP that was never connected another QP of the device, which has
// the same receives posted.
func (q *qp) renew() {
	q.tx.Lock()
	defer q.tx.Unlock()
	q.rx.Lock()
	defer q.rx.Unlock()
	if C.vs_error_state(q.hw) != 0 {
		return
	}
	q.mu.Lock()
	q.requeue = true
	q.mu.Unlock()
	q.settle(func() bool { // under mu
		for s := q.rhead; s != q.rtail; s++ {
			if w := q.recv(s); w.hw && !w.done {
				return false
			}
		}
		return true
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	q.requeue = false
	if q.state != qpIdle {
		return // flushed meanwhile: whoever did sees to the rest
	}
	hw, err := q.make()
	if err != nil {
		q.adapter.cfg.Logger.Warn("queue pair after a failed attempt", "device", q.adapter.device, "err", err)
		return
	}
	old := q.hw
	q.hw, q.moved, q.requeue = hw, false, true
	q.mu.Unlock()
	q.adapter.numberQP(q, uint32(old.qp_num), uint32(hw.qp_num))
	q.adapter.destroyed("queue pair", C.vs_destroy_qp(old))
	q.rcq.pump() // what is left of it must not be taken for the same receives posted again
	q.mu.Lock()
	q.requeue = false
	for s := q.rhead; s != q.rtail; s++ {
		w := q.recv(s)
		w.hw, w.done, w.status = true, false, ntstatus.Success
		if q.postRecv(s, w) != nil {
			w.hw, w.done, w.status = false, true, ntstatus.InternalError
		}
	}
}

// modify is ibv_modify_qp.
func (q *qp) modify(attr *C.struct_ibv_qp_attr, mask C.int) error {
	q.mu.Lock()
	hw := q.hw
	if mask&C.IBV_QP_STATE != 0 && attr.qp_state != C.IBV_QPS_INIT {
		q.moved = true
	}
	q.mu.Unlock()
	return errno(C.vs_modify_qp(hw, attr, mask))
}

// setConnected lets initiator requests be posted. in and out are the effective
// read limits.
func (q *qp) setConnected(_, out int) {
	q.mu.Lock()
	up := q.state == qpIdle
	if up {
		q.state, q.outLimit = qpConnected, out
	}
	q.mu.Unlock()
	if !up {
		return
	}
	q.adapter.sentry.add(q)
	q.mu.Lock()
	up = q.state == qpConnected
	q.mu.Unlock()
	if !up { // ended meanwhile, by who may have been too early to find it there
		q.adapter.sentry.drop(q)
	}
}

// disconnected refuses initiator requests from now on; flush also completes what
// is under way with Cancelled.
func (q *qp) disconnected(flush bool) {
	if flush {
		q.abort()
		return
	}
	q.adapter.sentry.drop(q)
	q.mu.Lock()
	if q.state == qpConnected {
		q.state = qpEnded
	}
	q.mu.Unlock()
	q.look()
}

// established is told when data came before the connection manager knew.
func (q *qp) established() {
	q.mu.Lock()
	c := q.connector
	q.mu.Unlock()
	if c != nil {
		c.commEstablished()
	}
}

// failed is told when the device ended the QP. While a connection is being made
// the connection manager says what became of it.
func (q *qp) failed() {
	q.mu.Lock()
	up := q.state != qpIdle
	q.mu.Unlock()
	if up {
		q.broken()
	}
}

// broken ends the connection of a QP that the device, or a request that failed,
// has ended.
func (q *qp) broken() {
	q.abort()
	q.mu.Lock()
	c := q.connector
	q.mu.Unlock()
	if c != nil {
		c.lost(0)
	}
}

// QueueFailed implements soft.QueueUser.
func (q *qp) QueueFailed() { q.broken() }

// Flush implements ndk.QP. The connection is over after it; a QP that never was
// connected is of no use any more.
func (q *qp) Flush() {
	q.abort()
	q.mu.Lock()
	c := q.connector
	q.mu.Unlock()
	if c != nil {
		c.flushed()
	}
}

// abort ends the connection at once, if there is one, and sees to it that every
// request is reported.
func (q *qp) abort() {
	q.mu.Lock()
	q.state, q.flushing = qpEnded, true
	first := !q.draining
	q.draining = true
	q.mu.Unlock()
	q.adapter.sentry.drop(q)
	if first {
		q.tx.Lock()
		q.letGoLocked()
		q.dropChainLocked()
		if err := errno(C.vs_error_state(q.hw)); err != nil {
			q.adapter.cfg.Logger.Debug("flush", "device", q.adapter.device, "err", err)
		}
		q.tx.Unlock()
		q.Retain()
		go func() { // ends when everything was reported; the QP is closed after it
			q.settle(func() bool { return q.head == q.tail && q.rhead == q.rtail })
			q.giveUp()
			close(q.drained)
			q.Release()
		}()
	}
	q.look()
}

// look fetches what the device has, and reports what may be reported now.
func (q *qp) look() {
	q.icq.pump()
	if q.rcq != q.icq {
		q.rcq.pump()
	}
	q.mu.Lock()
	fireI, fireR := q.reportLocked(), q.reportReceivesLocked()
	q.mu.Unlock()
	if fireI {
		q.icq.Spawn()
	}
	if fireR {
		q.rcq.Spawn()
	}
}

// The device reports what it flushes within moments. One that says nothing for
// this long says nothing any more.
const (
	settleLimit = time.Second
	settleFirst = 100 * time.Microsecond
	settleLast  = 20 * time.Millisecond
)

// settle looks until done, which runs under mu, or until nothing has happened for
// settleLimit.
func (q *qp) settle(done func() bool) {
	wait := settleFirst
	t := time.NewTimer(wait)
	defer t.Stop()
	var idle time.Duration
	var last [2]uint32
	for {
		q.look()
		q.mu.Lock()
		ok, at := done(), [2]uint32{q.head, q.rhead}
		q.mu.Unlock()
		if ok || idle >= settleLimit || q.icq.Failed() != ntstatus.Success || q.rcq.Failed() != ntstatus.Success {
			return
		}
		if at != last {
			last, idle, wait = at, 0, settleFirst
		}
		t.Reset(wait)
		<-t.C
		idle += wait
		wait = min(2*wait, settleLast)
	}
}

// giveUp reports what the device did not.
func (q *qp) giveUp() {
	q.mu.Lock()
	left := q.head != q.tail || q.rhead != q.rtail
	q.mu.Unlock()
	if left && !q.adapter.iwarp {
		// The device may use the memory of a request until it was flushed. This
		// empties its queues without completions; iWARP has no such state.
		q.tx.Lock()
		attr := C.struct_ibv_qp_attr{qp_state: C.IBV_QPS_RESET}
		if err := errno(C.vs_modify_qp(q.hw, &attr, C.IBV_QP_STATE)); err != nil {
			q.adapter.cfg.Logger.Debug("reset", "device", q.adapter.device, "err", err)
		}
		q.tx.Unlock()
	}
	q.mu.Lock()
	for s := q.head; s != q.tail; s++ {
		if w := q.wr(s); !w.done {
			w.done = true
			if w.status == ntstatus.Success {
				w.status = ntstatus.Cancelled
			}
		}
	}
	for s := q.rhead; s != q.rtail; s++ {
		if w := q.recv(s); !w.done {
			w.done, w.status = true, ntstatus.Cancelled
		}
	}
	q.mu.Unlock()
	q.look()
}

// drain waits until the device has done what was posted, or ctx ends.
func (q *qp) drain(ctx context.Context) {
	q.tx.Lock()
	q.letGoLocked()
	q.markLocked()
	q.ringLocked()
	q.tx.Unlock()
	wait := settleFirst
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		q.look()
		q.mu.Lock()
		done := q.head == q.tail || q.flushing
		q.mu.Unlock()
		if done {
			return
		}
		t.Reset(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, settleLast)
	}
}
