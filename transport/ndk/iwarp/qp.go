package iwarp

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// qpState is how far a QP got. It only moves on.
type qpState uint8

const (
	qpIdle       qpState = iota // takes receives only
	qpConnecting                // a connector works on it
	qpActive                    // takes initiator requests
	qpEnded                     // its connection is over, or is being ended
)

// wrOp is the kind of an initiator request.
type wrOp uint8

const (
	wrSend wrOp = iota + 1
	wrSendInval
	wrWrite
	wrWriteFile
	wrRead
	wrFastRegister
	wrBind
	wrInvalidate
)

var opTypes = [...]ndk.OpType{
	wrSend: ndk.OpSend, wrSendInval: ndk.OpSend, wrWrite: ndk.OpWrite, wrWriteFile: ndk.OpWrite, wrRead: ndk.OpRead,
	wrFastRegister: ndk.OpFastRegister, wrBind: ndk.OpBind, wrInvalidate: ndk.OpInvalidate,
}

// sendWR is one slot of the initiator queue.
type sendWR struct {
	rc      any
	raddr   uint64
	length  uint32 // octets of payload
	token   uint32 // remote token; of wrInvalidate the one to end, of wrBind the new one
	flags   ndk.OpFlags
	status  ndk.Status
	perr    uint32 // for ResultEx.ProviderError: an ndk.Rule, or a reason as of ParseReason
	bytes   uint32 // for Result.Bytes
	op      wrOp
	nsge    uint8
	done    bool
	hidden  bool     // of the provider's own making: no completion
	inline  bool     // payload is in buf
	buf     []byte   // inline data; stays with the slot
	sinkTO  uint64   // of a Read: where its Response will say it goes
	mr      *soft.MR // held until the request completes, as is mw
	mw      *soft.MW
	reg     soft.Registration
	file    *os.File
	fileOff int64
}

// letGo drops what a request held of the consumer's.
func (wr *sendWR) letGo() {
	if wr.mr != nil {
		wr.mr.Release()
	}
	if wr.mw != nil {
		wr.mw.Release()
	}
	wr.rc, wr.mr, wr.mw, wr.file, wr.reg = nil, nil, nil, nil, soft.Registration{}
}

// recvWR is one slot of the receive queue.
type recvWR struct {
	rc    any
	total uint64 // octets of its SGEs
	nsge  uint8
}

// readJob is a Read Request of the peer that waits for its Response.
type readJob struct {
	req readRequest
	seg segment // of the request, for a Terminate
}

// qp implements ndk.QP, ndk.FileWriter, ndk.CopyCounter, ndk.PeerCounter, ndk.Poller and
// ndk.Hangup.
//
// Lock order: rmu and mu are never held together; cq.mu and mr.mu may be taken
// under either. No lock is held across a system call.
//
// The connection has two engines. The receiver (rx) has one goroutine from the
// moment the connection is up until its end, in whose place consumers may run it for
// moments (poller.go). The transmitter is whoever set
// txBusy: a posting goroutine that tries a write without blocking, or a goroutine
// that lives while there is more than the socket takes at once. A buffer of a
// posted request is touched by them only, so requests are flushed when
// flushWanted is set, txBusy is not, and rx is out of its placing loop.
type qp struct {
	soft.Object
	adapter    *adapter
	pd         *pd
	rcq, icq   *soft.CQ
	srq        *soft.SRQ // nil: receives are the QP's own
	ctx        any
	maxRecvSGE int
	maxInitSGE int
	inlineMax  int
	copied     atomic.Uint64 // see ndk.CopyCounter; added to once for each segment or batch
	peerWrote  atomic.Uint64 // see ndk.PeerCounter; likewise
	peerRead   atomic.Uint64
	recvDepth  uint32
	initDepth  uint32

	rmu      sync.Mutex
	recvs    []recvWR   // guarded by rmu, as all of this block; a ring that grows up to recvDepth
	recvSGEs []soft.SGE // maxRecvSGE for each slot
	rhead    uint32
	rtail    uint32
	rclosed  bool // flushed for good
	taken    any  // context of the receive that came from srq and is being filled
	isTaken  bool

	mu    sync.Mutex
	state qpState // guarded by mu, as all of this block
	wrs   []sendWR
	sges  []soft.SGE // maxInitSGE for each slot
	head  uint32     // oldest request without completion
	sent  uint32     // first one not wholly handed to TCP
	next  uint32     // first one not built
	tail  uint32     // where the next post goes
	own   uint32     // of the provider's making, between head and tail

	txBusy   bool
	fenced   bool        // nothing is sent before the peer's first FPDU (MPA-11)
	unfence  *time.Timer // of early, while it may still run
	batch    *txBatch
	cur      txMessage
	turn     bool      // a Response is next, when there are both
	jobs     []readJob // ring of len 2*ird
	jobHead  int
	jobCount int
	reads    []uint32 // ring of len ord: the Reads on the wire, as positions in wrs
	readHead int
	readsOut int
	reading  atomic.Int32 // readsOut, for the receiver to look at without mu
	serial   uint32       // of Reads, for sinkTO
	sendMSN  uint32
	readMSN  uint32

	flushWanted bool
	rxPlacing   bool
	rxWaits     bool // the receiver waits for a buffer of srq
	posted      bool // it is its turn to take one
	leaving     bool // Disconnect runs: who waits for a buffer waits no longer
	drain       bool // send what was posted, then FIN
	stopTx      bool // drop what was posted, then FIN
	hardClose   bool // no linger
	finSent     bool
	term        []byte // payload of a Terminate to be sent; nil when there is none
	terminating bool   // a Terminate is to be sent, or was
	termSent    bool
	reason      uint32
	timedOut    bool // the peer did not end its half in time

	// Set when the connection is made and constant from then on.
	conn      *socket.Conn
	raw       syscall.RawConn
	connector *connector
	crc       bool
	markers   bool // the peer wants them
	maxSeg    int  // MULPDU
	ird, ord  int
	noReads   bool // the consumer may post none
	sinkSTag  uint32
	streamPos uint64 // octets sent; owned by the transmitter, counted with markers only
	rtrSend   bool   // the first empty Send of the peer is its ready-to-receive message
	firstFPDU chan struct{}
	txDone    chan struct{} // closed by the transmitter after its last octet
	ended     chan struct{} // closed when both engines are gone
	rx        *receiver
	who       turn // runs rx
	txFn      func()
	writeFn   func(fd uintptr) bool
	writeErr  error                 // owned by the transmitter
	step      func(fd uintptr) bool // owned by the transmitter, as stepped: see rawWrite
	stepped   bool                  // it is done
	stepFn    func(fd uintptr) bool
	file      fileTx
	tapped    *tapped // nil without a Tap
}

// directBytes is the most that is written from within a post.
const directBytes = 128 << 10

// CreateQP implements ndk.PD.
func (p *pd) CreateQP(_ context.Context, c ndk.QPConfig) (ndk.QP, error) {
	if c.ReceiveQueueDepth < 0 || c.ReceiveQueueDepth > maxQueueDepth || c.MaxReceiveSGE < 0 || c.MaxReceiveSGE > maxSGE {
		return nil, wrap("create QP", ntstatus.InvalidParameter, fmt.Errorf("a receive queue of depth %d with %d SGEs, at most %d and %d",
			c.ReceiveQueueDepth, c.MaxReceiveSGE, maxQueueDepth, maxSGE))
	}
	return p.createQP("create QP", c, nil)
}

// CreateQPWithSRQ implements ndk.PD. The receive depth and SGE count of c have no
// meaning.
func (p *pd) CreateQPWithSRQ(_ context.Context, c ndk.QPConfig, shared ndk.SRQ) (ndk.QP, error) {
	const op = "create QP with SRQ"
	srq, ok := ndk.Unwrap(shared).(*soft.SRQ)
	switch {
	case !ok || srq.PD().Device() != p.Device():
		return nil, refused(op, ndk.ErrForeign)
	case srq.PD() != &p.PD:
		return nil, wrap(op, ntstatus.InvalidParameter, ndk.ErrDomain)
	}
	c.ReceiveQueueDepth, c.MaxReceiveSGE = 0, 0
	return p.createQP(op, c, srq)
}

func (p *pd) createQP(op string, c ndk.QPConfig, srq *soft.SRQ) (ndk.QP, error) {
	if c.InitiatorQueueDepth < 0 || c.InitiatorQueueDepth > maxQueueDepth || c.MaxInitiatorSGE < 0 || c.MaxInitiatorSGE > maxSGE ||
		c.InlineDataSize < 0 || c.InlineDataSize > maxInlineData {
		return nil, wrap(op, ntstatus.InvalidParameter, fmt.Errorf("an initiator queue of depth %d with %d SGEs and %d bytes inline, at most %d, %d and %d",
			c.InitiatorQueueDepth, c.MaxInitiatorSGE, c.InlineDataSize, maxQueueDepth, maxSGE, maxInlineData))
	}
	rcq, ok1 := ndk.Unwrap(c.ReceiveCQ).(*soft.CQ)
	icq, ok2 := ndk.Unwrap(c.InitiatorCQ).(*soft.CQ)
	if !ok1 || !ok2 || rcq.Device() != p.Device() || icq.Device() != p.Device() {
		return nil, refused(op, ndk.ErrForeign)
	}
	q := &qp{
		adapter: p.adapter, pd: p, rcq: rcq, icq: icq, srq: srq, ctx: c.QPContext,
		maxRecvSGE: c.MaxReceiveSGE, maxInitSGE: c.MaxInitiatorSGE, inlineMax: c.InlineDataSize,
		recvDepth: uint32(c.ReceiveQueueDepth), initDepth: uint32(c.InitiatorQueueDepth),
		sendMSN: 1, readMSN: 1,
		who: turn{resume: make(chan struct{}, 1), shut: true},
	}
	last := func() {
		rcq.Detach(q)
		icq.Detach(q)
		if srq != nil {
			srq.Detach(q)
		}
	}
	parents := []*soft.Object{&p.Object, &rcq.Object, &icq.Object}
	if srq != nil {
		parents = append(parents, &srq.Object)
	}
	if err := p.adapter.InitObject(&q.Object, ndk.ObjectQP, last, parents...); err != nil {
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	rcq.Attach(q)
	icq.Attach(q)
	if srq != nil {
		srq.Attach(q)
	}
	return q, nil
}

// Extension implements ndk.Object: ndk.FileWriterExtension, ndk.CopyCounterExtension,
// ndk.PeerCounterExtension, ndk.PollerExtension and ndk.HangupExtension, all 1.0.
func (q *qp) Extension(id ndk.GUID, v ndk.Version) (any, error) {
	if !(ndk.Version{Major: 1}).Less(v) {
		switch id {
		case ndk.FileWriterExtension:
			return ndk.FileWriter(q), nil
		case ndk.CopyCounterExtension:
			return ndk.CopyCounter(q), nil
		case ndk.PeerCounterExtension:
			return ndk.PeerCounter(q), nil
		case ndk.PollerExtension:
			return ndk.Poller(q), nil
		case ndk.HangupExtension:
			return ndk.Hangup(q), nil
		}
	}
	return q.Object.Extension(id, v)
}

// PeerBytes implements ndk.PeerCounter.
func (q *qp) PeerBytes() (written, read uint64) { return q.peerWrote.Load(), q.peerRead.Load() }

// HungUp implements ndk.Hangup.
func (q *qp) HungUp() (gone bool) {
	q.mu.Lock()
	state, raw := q.state, q.raw
	q.mu.Unlock()
	if state != qpActive {
		return state == qpEnded
	}
	err := raw.Control(func(fd uintptr) { gone = ending(fd) })
	return gone || err != nil
}

// BytesCopied implements ndk.CopyCounter.
func (q *qp) BytesCopied() uint64 { return q.copied.Load() }

// QueueFailed implements soft.QueueUser.
func (q *qp) QueueFailed() { q.abort() }

// Close implements ndk.Object.
func (q *qp) Close() {
	if q.BeginClose() {
		q.abort()
		q.Release()
	}
}

// Flush implements ndk.QP. On a connected QP it ends the connection; on one that
// never was connected it cancels the receives and leaves the QP usable.
func (q *qp) Flush() {
	q.mu.Lock()
	if q.state == qpIdle || q.state == qpConnecting {
		q.mu.Unlock()
		q.flushReceives(false)
		return
	}
	q.mu.Unlock()
	q.abort()
}

// abort ends the connection at once, if there is one, and flushes. A Terminate
// that was about to leave still does (RFC 5040 §5.4 wants the peer to hear why),
// within LingerTimeout: the consumer may have closed the QP because of it.
func (q *qp) abort() {
	q.mu.Lock()
	q.state = qpEnded
	q.flushWanted = true
	if q.terminating && !q.stopTx && !q.finSent {
		q.kickLocked()
		q.finishLocked()
		return
	}
	q.stopTx = true
	q.hardClose = true
	q.wakeLocked()
	q.finishLocked()
}

// BufferPosted implements soft.SRQUser.
func (q *qp) BufferPosted() {
	q.mu.Lock()
	q.posted = true
	q.nudgeLocked()
	q.mu.Unlock()
}

// nudgeLocked makes the receiver look again, if it waits for a buffer.
func (q *qp) nudgeLocked() {
	if q.rxWaits {
		_ = q.conn.SetReadDeadline(longPast) // its own again behind the wait
	}
}

// wakeLocked makes both engines look at the state of the QP.
func (q *qp) wakeLocked() {
	if q.conn != nil {
		_ = q.conn.SetDeadline(longPast) // a closed socket needs no waking
		q.who.interrupt()
	}
	q.kickLocked()
}

// finishLocked unlocks mu, after it flushed what may be flushed by now.
func (q *qp) finishLocked() {
	if !q.flushWanted || q.txBusy || q.rxPlacing {
		q.mu.Unlock()
		return
	}
	fire := q.flushLocked()
	q.mu.Unlock()
	if fire {
		q.icq.Spawn()
	}
	q.flushReceives(true)
}

// flushLocked completes every initiator request that is not done.
func (q *qp) flushLocked() (fire bool) {
	for s := q.head; s != q.tail; s++ {
		if wr := q.wr(s); !wr.done {
			wr.done = true
			if wr.status == ntstatus.Success {
				wr.status = ntstatus.Cancelled
			}
		}
	}
	q.sent, q.next = q.tail, q.tail
	q.cur = txMessage{}
	q.jobCount, q.readsOut = 0, 0
	q.reading.Store(0)
	return q.completeLocked()
}

// flushReceives cancels the posted receives; for good, if closed. What waits in an
// SRQ is for others.
func (q *qp) flushReceives(closed bool) {
	q.rmu.Lock()
	q.rclosed = q.rclosed || closed
	fire := false
	cancelled := ndk.ResultEx{Result: ndk.Result{Status: ntstatus.Cancelled}, Type: ndk.OpReceive}
	if q.isTaken {
		fire = q.completeTakenLocked(cancelled, false)
	}
	for q.rhead != q.rtail {
		fire = q.completeReceiveLocked(cancelled, false) || fire
	}
	q.rmu.Unlock()
	if fire {
		q.rcq.Spawn()
	}
}

// completeReceiveLocked ends the oldest receive, under rmu.
func (q *qp) completeReceiveLocked(e ndk.ResultEx, solicited bool) (fire bool) {
	w := &q.recvs[q.rhead&uint32(len(q.recvs)-1)]
	e.QPContext, e.RequestContext = q.ctx, w.rc
	w.rc = nil
	q.rhead++
	return q.rcq.Push(&e, solicited)
}

// completeTakenLocked ends the receive that came from srq, under rmu.
func (q *qp) completeTakenLocked(e ndk.ResultEx, solicited bool) (fire bool) {
	e.QPContext, e.RequestContext = q.ctx, q.taken
	q.taken, q.isTaken = nil, false
	return q.rcq.Push(&e, solicited)
}

// wr is the slot of position s.
func (q *qp) wr(s uint32) *sendWR { return &q.wrs[s&uint32(len(q.wrs)-1)] }

// wrSGEs are the SGEs of position s.
func (q *qp) wrSGEs(s uint32) []soft.SGE {
	i := int(s&uint32(len(q.wrs)-1)) * q.maxInitSGE
	return q.sges[i : i+int(q.wr(s).nsge)]
}

// completeLocked reports what is done, in order of posting, and frees the slots.
func (q *qp) completeLocked() (fire bool) {
	for q.head != q.sent {
		wr := q.wr(q.head)
		if !wr.done {
			break
		}
		if wr.hidden {
			q.own--
		} else if wr.status != ntstatus.Success || wr.flags&ndk.SilentSuccess == 0 {
			e := ndk.ResultEx{Type: opTypes[wr.op]}
			e.Status, e.Bytes, e.QPContext, e.RequestContext = wr.status, wr.bytes, q.ctx, wr.rc
			if wr.status != ntstatus.Success {
				e.ProviderError = wr.perr
			}
			fire = q.icq.Push(&e, false) || fire
		}
		wr.letGo()
		q.head++
	}
	return fire
}
