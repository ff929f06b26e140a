package sim

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// qpState is how far a QP got.
type qpState uint8

const (
	qpIdle       qpState = iota // takes receives only
	qpConnecting                // a connector works on it
	qpActive                    // takes initiator requests
	qpDraining                  // finishes what was posted, for a Disconnect
	qpEnded                     // takes nothing
)

// wrOp is the kind of an initiator request.
type wrOp uint8

const (
	wrSend wrOp = iota + 1
	wrSendInvalidate
	wrWrite
	wrRead
	wrWriteFile
	wrFastRegister
	wrBind
	wrInvalidate
)

var opTypes = [...]ndk.OpType{
	wrSend: ndk.OpSend, wrSendInvalidate: ndk.OpSend, wrWrite: ndk.OpWrite, wrRead: ndk.OpRead, wrWriteFile: ndk.OpWrite,
	wrFastRegister: ndk.OpFastRegister, wrBind: ndk.OpBind, wrInvalidate: ndk.OpInvalidate,
}

var postNames = [...]string{
	wrSend: "post Send", wrSendInvalidate: "post SendAndInvalidate", wrWrite: "post Write", wrRead: "post Read", wrWriteFile: "post WriteFile",
	wrFastRegister: "post FastRegister", wrBind: "post Bind", wrInvalidate: "post Invalidate",
}

// sendWR is one slot of the initiator queue.
type sendWR struct {
	rc       any
	op       wrOp
	done     bool
	deferred bool // was held back when it was accepted
	nsge     uint8
	flags    ndk.OpFlags
	status   ndk.Status
	rule     ndk.Rule
	length   uint32
	token    uint32 // remote token; of wrInvalidate the one to end
	raddr    uint64
	sum      uint64 // of the source, with Config.CheckBuffers
	placed   uint64 // adapter.placed at the post
	buf      []byte // inline data, or that of a file; stays with the slot
	bytes    uint32 // for Result.Bytes
	mr       *mr
	mw       *soft.MW
	reg      soft.Registration
}

// recvWR is one slot of the receive queue.
type recvWR struct {
	rc    any
	total uint64
	nsge  uint8
}

// lane is a queue whose posts the consumer serialises.
type lane struct{ busy atomic.Bool }

func (l *lane) enter() bool { return l.busy.CompareAndSwap(false, true) }
func (l *lane) leave()      { l.busy.Store(false) }

// qp implements ndk.QP.
//
// Positions in the initiator queue count from 0 and wrap: head ≤ next ≤ handed ≤
// tail. What is before head has completed, before next has started, before handed
// may start; the rest is deferred.
type qp struct {
	soft.Object
	w          *World
	a          *adapter
	pd         *pd
	sub        subject
	rcq, icq   *cq
	srq        *srq
	ctx        any
	maxRecvSGE int
	maxInitSGE int
	inlineMax  int
	recvDepth  uint32
	initDepth  uint32
	send, recv lane
	fileBuf    []byte // owned by the initiator lane

	// Guarded by World.mu, as all below.
	state    qpState
	conn     *connector
	wrs      []sendWR // a ring that grows up to initDepth
	sges     []soft.SGE
	head     uint32
	next     uint32
	handed   uint32
	tail     uint32
	initFree uint32 // with Config.StrictQueues: what is before it is free
	recvFree uint32 // likewise
	tx       event  // starts the next request
	reads    int    // on the wire
	ord      int
	failing  bool // a started request failed; nothing more starts
	recvs    []recvWR
	rsges    []soft.SGE
	rhead    uint32
	rtail    uint32
	rclosed  bool
	taken    soft.Received // from the SRQ, for the message that comes next
	hasTaken bool
	more     event // the SRQ has a buffer again
}

// CreateQP implements ndk.PD.
func (p *pd) CreateQP(_ context.Context, c ndk.QPConfig) (ndk.QP, error) {
	const op = "create QP"
	i := p.a.Limits()
	if c.ReceiveQueueDepth < 0 || c.ReceiveQueueDepth > i.MaxReceiveQueueDepth || c.MaxReceiveSGE < 0 || c.MaxReceiveSGE > i.MaxReceiveRequestSGE {
		return nil, fail(op, ntstatus.InvalidParameter, fmt.Errorf("receive queue of %d with %d SGEs", c.ReceiveQueueDepth, c.MaxReceiveSGE))
	}
	return p.createQP(op, c, nil)
}

// CreateQPWithSRQ implements ndk.PD.
func (p *pd) CreateQPWithSRQ(_ context.Context, c ndk.QPConfig, shared ndk.SRQ) (ndk.QP, error) {
	const op = "create QP with SRQ"
	if p.a.Limits().MaxSRQDepth == 0 {
		return nil, fail(op, ntstatus.NotSupported, nil)
	}
	var s *srq
	if shared != nil {
		s, _ = ndk.Unwrap(shared).(*srq)
	}
	if s == nil || s.p.a != p.a {
		return nil, breaks(op, ndk.ErrForeign)
	}
	if s.p != p {
		return nil, fail(op, ntstatus.InvalidParameter, ndk.ErrDomain)
	}
	c.ReceiveQueueDepth, c.MaxReceiveSGE = 0, 0
	return p.createQP(op, c, s)
}

func (p *pd) createQP(op string, c ndk.QPConfig, s *srq) (ndk.QP, error) {
	a, i := p.a, p.a.Limits()
	if c.InitiatorQueueDepth < 0 || c.InitiatorQueueDepth > i.MaxInitiatorQueueDepth || c.MaxInitiatorSGE < 0 ||
		c.MaxInitiatorSGE > i.MaxInitiatorRequestSGE || c.InlineDataSize < 0 || c.InlineDataSize > i.MaxInlineDataSize {
		return nil, fail(op, ntstatus.InvalidParameter, fmt.Errorf("initiator queue of %d with %d SGEs and %d bytes inline", c.InitiatorQueueDepth, c.MaxInitiatorSGE, c.InlineDataSize))
	}
	if c.ReceiveCQ == nil || c.InitiatorCQ == nil {
		return nil, fail(op, ntstatus.InvalidParameter, nil)
	}
	rcq, ok1 := ndk.Unwrap(c.ReceiveCQ).(*cq)
	icq, ok2 := ndk.Unwrap(c.InitiatorCQ).(*cq)
	if !ok1 || !ok2 || rcq.a != a || icq.a != a {
		return nil, breaks(op, ndk.ErrForeign)
	}
	if err := a.creating(op, ndk.ObjectQP); err != nil {
		return nil, err
	}
	q := &qp{
		w: a.w, a: a, pd: p, rcq: rcq, icq: icq, srq: s, ctx: c.QPContext, sub: a.w.number(subQP),
		maxRecvSGE: c.MaxReceiveSGE, maxInitSGE: c.MaxInitiatorSGE, inlineMax: c.InlineDataSize,
		recvDepth: uint32(c.ReceiveQueueDepth), initDepth: uint32(c.InitiatorQueueDepth),
	}
	q.tx.run, q.more.run = q.step, q.resume
	parents := []*soft.Object{&p.Object, &rcq.Object, &icq.Object}
	if s != nil {
		parents = append(parents, &s.Object)
	}
	if err := a.InitObject(&q.Object, ndk.ObjectQP, q.last, parents...); err != nil {
		return nil, fail(op, ndk.StatusOf(err), nil)
	}
	rcq.Attach(q)
	icq.Attach(q)
	if s != nil {
		s.Attach(q)
	}
	a.w.mu.Lock()
	a.qps = append(a.qps, q)
	a.w.mu.Unlock()
	a.w.note(q.sub, "create").of("rcq", rcq.sub).of("icq", icq.sub).end()
	return q, nil
}

// last takes the QP off its queues. It may run under World.mu.
func (q *qp) last() {
	q.rcq.Detach(q)
	q.icq.Detach(q)
	if q.srq != nil {
		q.srq.Detach(q)
	}
}

// QueueFailed implements soft.QueueUser.
func (q *qp) QueueFailed() {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	q.w.note(q.sub, "queue failed").end()
	switch c := q.conn; {
	case c != nil && c.state == connConnected:
		c.sendPlain(pkReset, ReasonQueue)
		c.lost(ReasonQueue, ntstatus.Cancelled)
	case c != nil && c.leaving && !c.flushed:
		c.cutShort(ReasonQueue)
	default:
		q.end(ntstatus.Cancelled)
	}
}

// BufferPosted implements soft.SRQUser. It is called with any lock held.
func (q *qp) BufferPosted() { q.w.s.after(&q.more, 0) }

// resume lets a message that waits for a receive arrive.
func (q *qp) resume() {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	if c := q.conn; c != nil && c.wire != nil && c.wire.ends[c.end] == c {
		c.wire.dir[1-c.end].resume()
	} else {
		q.leaveLine()
	}
}

// Close implements ndk.Object.
func (q *qp) Close() {
	if !q.BeginClose() {
		return
	}
	w := q.w
	w.mu.Lock()
	w.note(q.sub, "close").end()
	q.flush()
	for i, o := range q.a.qps {
		if o == q {
			q.a.qps = append(q.a.qps[:i], q.a.qps[i+1:]...)
			break
		}
	}
	w.mu.Unlock()
	q.Release()
}

// Flush implements ndk.QP. On a connected QP it ends the connection; on one that
// never was connected it cancels the receives and leaves the QP usable.
func (q *qp) Flush() {
	w := q.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(q.sub, "flush").end()
	if q.state == qpIdle || q.state == qpConnecting {
		q.flushReceives()
		return
	}
	q.flush()
}

// flush ends the connection, if there is one, and completes what is under way.
func (q *qp) flush() {
	c := q.conn
	switch {
	case c != nil && c.state == connConnected:
		c.setState(connEnded)
		c.onLost = nil // the consumer knows
		c.sendPlain(pkReset, ReasonReset)
		c.detach()
	case c != nil && c.leaving && !c.flushed:
		c.cutShort(ReasonReset)
	}
	if q.Closing() || q.state != qpConnecting {
		q.end(ntstatus.Cancelled)
		return
	}
	q.flushReceives()
}

// establish makes the QP take initiator requests, unless it was closed or one of
// its queues failed meanwhile.
func (q *qp) establish(c *connector) {
	q.ord = c.limits.OutboundReadLimit
	if q.state == qpConnecting {
		q.state = qpActive
	}
}

// end completes everything that is under way: the oldest initiator request with
// st, the others with Cancelled. It may be called again.
func (q *qp) end(st ndk.Status) {
	q.state = qpEnded
	q.w.s.cancel(&q.tx)
	for s := q.head; s != q.tail; s++ {
		wr := q.wr(s)
		if wr.done {
			continue
		}
		wr.done = true
		if wr.status == ntstatus.Success {
			wr.status, st = st, ntstatus.Cancelled
		}
	}
	q.next, q.handed = q.tail, q.tail
	q.reads = 0
	q.failing = true
	q.complete()
	q.rclosed = true
	q.flushReceives()
	q.leaveLine()
}

// leaveLine says that no message waits for a receive of the SRQ any more.
func (q *qp) leaveLine() {
	if q.srq != nil {
		q.srq.Leave(q)
	}
}

// peerLeft stops what was posted, and leaves it for the consumer to flush.
func (q *qp) peerLeft() {
	q.state = qpEnded
	q.w.s.cancel(&q.tx)
}

// drain finishes what was posted, and then tells the connector.
func (q *qp) drain() {
	q.state = qpDraining
	q.handed = q.tail
	q.kick()
	q.checkDrained()
}

func (q *qp) checkDrained() {
	if q.state == qpDraining && q.head == q.tail {
		q.conn.drained()
	}
}

func (q *qp) flushReceives() {
	for q.rhead != q.rtail {
		q.completeReceive(&ndk.ResultEx{Result: ndk.Result{Status: ntstatus.Cancelled}, Type: ndk.OpReceive}, false)
	}
	if q.hasTaken {
		q.completeReceive(&ndk.ResultEx{Result: ndk.Result{Status: ntstatus.Cancelled}, Type: ndk.OpReceive}, false)
	}
}

// first is the position of the first request that counts to the depth of a queue.
func (q *qp) first(head, free uint32) uint32 {
	if q.w.cfg.StrictQueues {
		return free
	}
	return head
}

// wr is the slot of position s.
func (q *qp) wr(s uint32) *sendWR { return &q.wrs[s&uint32(len(q.wrs)-1)] }

// wrSGEs are the SGEs of position s.
func (q *qp) wrSGEs(s uint32) []soft.SGE {
	i := int(s&uint32(len(q.wrs)-1)) * q.maxInitSGE
	return q.sges[i : i+int(q.wr(s).nsge)]
}

// recvSGEs are those of the receive at position s.
func (q *qp) recvSGEs(s uint32) []soft.SGE {
	k := s & uint32(len(q.recvs)-1)
	i := int(k) * q.maxRecvSGE
	return q.rsges[i : i+int(q.recvs[k].nsge)]
}

// Receive implements ndk.QP.
func (q *qp) Receive(rc any, sgl []ndk.SGE) error {
	w := q.w
	if !q.recv.enter() {
		w.report(fmt.Sprintf("QP.Receive: two posts to the receive queue of %v%d at the same time", q.Kind(), q.sub.n))
	} else {
		defer q.recv.leave()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e := q.receive(rc, sgl)
	w.note(q.sub, "post Receive").num("sges", uint64(len(sgl))).status(refusal(e)).end()
	if e != nil {
		return e
	}
	if w.cfg.WaitForReceive && q.state != qpIdle {
		w.s.after(&q.more, 0)
	}
	return nil
}

func refusal(e *ndk.PostError) ndk.Status {
	if e == nil {
		return ntstatus.Success
	}
	return e.Status
}

func (q *qp) receive(rc any, sgl []ndk.SGE) *ndk.PostError {
	var total uint64
	for i := range sgl {
		total += uint64(sgl[i].Length)
	}
	switch {
	case q.srq != nil:
		return ndk.ErrSharedReceive
	case len(sgl) > q.maxRecvSGE:
		return ndk.ErrTooManySGEs
	case total > q.w.info.MaxTransferLength:
		return ndk.ErrTooLong
	case q.Closing():
		return ndk.ErrClosed
	case q.rclosed:
		return ndk.ErrNotConnected
	case q.rtail-q.first(q.rhead, q.recvFree) >= q.recvDepth:
		return ndk.ErrQueueFull
	}
	if q.w.faulty() {
		if _, hit := q.w.strike(passing{point: PointPostReceive, who: q.sub, o1: q}); hit {
			return ndk.ErrQueueFull
		}
	}
	if int(q.rtail-q.rhead) == len(q.recvs) {
		q.recvs, q.rsges = soft.GrowRing(q.recvs, q.rsges, q.maxRecvSGE, q.rhead, q.rtail)
	}
	slot := q.rtail & uint32(len(q.recvs)-1)
	q.recvs[slot] = recvWR{rc: rc, total: total, nsge: uint8(len(sgl))}
	dst := q.rsges[int(slot)*q.maxRecvSGE:]
	for i := range sgl {
		dst[i] = soft.MakeSGE(&sgl[i])
	}
	q.rtail++
	return nil
}

// sumSeed is that of the check of Config.CheckBuffers.
var sumSeed = maphash.MakeSeed()

// sourceSum is a hash over the source of a Send or Write that can be read; 0 if
// it cannot, which is found out when its turn comes.
func (q *qp) sourceSum(sges []soft.SGE) uint64 {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	for _, g := range sges {
		if g.Len == 0 {
			continue
		}
		r, _, mem, broken := q.pd.Local(g.Token, g.Addr, uint64(g.Len), 0)
		if broken != 0 {
			return 0
		}
		h.Write(mem)
		r.Unpin()
	}
	return h.Sum64()
}

// changed reports whether the source can still be read and is not what it was.
func (q *qp) changed(sges []soft.SGE, sum uint64) bool {
	now := q.sourceSum(sges)
	return now != 0 && now != sum
}
