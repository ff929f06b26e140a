package iwarp

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
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
	bytes   uint32 // for Result.Bytes
	op      wrOp
	nsge    uint8
	done    bool
	hidden  bool   // of the provider's own making: no completion
	inline  bool   // payload is in buf
	buf     []byte // inline data; stays with the slot
	sinkTO  uint64 // of a Read: where its Response will say it goes
	mr      *mr
	mw      *mw
	reg     fastRegistration
	file    *os.File
	fileOff int64
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

// qp implements ndk.QP, ndk.FileWriter and ndk.CopyCounter.
//
// Lock order: rmu and mu are never held together; cq.mu and mr.mu may be taken
// under either. No lock is held across a system call.
//
// The connection has two engines. The receiver (rx) is one goroutine from the
// moment the connection is up until its end. The transmitter is whoever set
// txBusy: a posting goroutine that tries a write without blocking, or a goroutine
// that lives while there is more than the socket takes at once. A buffer of a
// posted request is touched by them only, so requests are flushed when
// flushWanted is set, txBusy is not, and rx is out of its placing loop.
type qp struct {
	object
	pd         *pd
	rcq, icq   *cq
	ctx        any
	maxRecvSGE int
	maxInitSGE int
	inlineMax  int
	copied     atomic.Uint64 // see ndk.CopyCounter; added to once for each segment or batch
	recvDepth  uint32
	initDepth  uint32

	rmu      sync.Mutex
	recvs    []recvWR // guarded by rmu, as all of this block; a ring that grows up to recvDepth
	recvSGEs []sge    // maxRecvSGE for each slot
	rhead    uint32
	rtail    uint32
	rclosed  bool // flushed for good

	mu    sync.Mutex
	state qpState // guarded by mu, as all of this block
	wrs   []sendWR
	sges  []sge  // maxInitSGE for each slot
	head  uint32 // oldest request without completion
	sent  uint32 // first one not wholly handed to TCP
	next  uint32 // first one not built
	tail  uint32 // where the next post goes

	txBusy   bool
	fenced   bool // nothing is sent before the peer's first FPDU (MPA-11)
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
	conn      *net.TCPConn
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
	txFn      func()
	writeFn   func(fd uintptr) bool
	writeErr  error // owned by the transmitter
	writeOnce bool  // owned by the transmitter: give up when the socket is full
	file      fileTx
}

const (
	queueFirstSize = 8
	directBytes    = 128 << 10 // at most this much is written from within a post
)

// CreateQP implements ndk.PD.
func (p *pd) CreateQP(_ context.Context, c ndk.QPConfig) (ndk.QP, error) {
	const op = "create QP"
	bad := wrap(op, ntstatus.InvalidParameter, nil)
	if c.ReceiveQueueDepth < 0 || c.ReceiveQueueDepth > maxQueueDepth || c.InitiatorQueueDepth < 0 || c.InitiatorQueueDepth > maxQueueDepth ||
		c.MaxReceiveSGE < 0 || c.MaxReceiveSGE > maxSGE || c.MaxInitiatorSGE < 0 || c.MaxInitiatorSGE > maxSGE ||
		c.InlineDataSize < 0 || c.InlineDataSize > maxInlineData || c.ReceiveCQ == nil || c.InitiatorCQ == nil {
		return nil, bad
	}
	rcq, ok1 := ndk.Unwrap(c.ReceiveCQ).(*cq)
	icq, ok2 := ndk.Unwrap(c.InitiatorCQ).(*cq)
	if !ok1 || !ok2 || rcq.adapter != p.adapter || icq.adapter != p.adapter {
		return nil, bad
	}
	q := &qp{
		pd: p, rcq: rcq, icq: icq, ctx: c.QPContext,
		maxRecvSGE: c.MaxReceiveSGE, maxInitSGE: c.MaxInitiatorSGE, inlineMax: c.InlineDataSize,
		recvDepth: uint32(c.ReceiveQueueDepth), initDepth: uint32(c.InitiatorQueueDepth),
		sendMSN: 1, readMSN: 1,
	}
	last := func() {
		rcq.detach(q)
		icq.detach(q)
	}
	if err := q.init(ndk.ObjectQP, p.adapter, last, &p.object, &rcq.object, &icq.object); err != nil {
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	rcq.attach(q)
	icq.attach(q)
	return q, nil
}

// Extension implements ndk.Object: ndk.FileWriterExtension and
// ndk.CopyCounterExtension, both 1.0.
func (q *qp) Extension(id ndk.GUID, v ndk.Version) (any, error) {
	if !(ndk.Version{Major: 1}).Less(v) {
		switch id {
		case ndk.FileWriterExtension:
			return ndk.FileWriter(q), nil
		case ndk.CopyCounterExtension:
			return ndk.CopyCounter(q), nil
		}
	}
	return q.object.Extension(id, v)
}

// BytesCopied implements ndk.CopyCounter.
func (q *qp) BytesCopied() uint64 { return q.copied.Load() }

// Close implements ndk.Object.
func (q *qp) Close() {
	if q.beginClose() {
		q.abort()
		q.release()
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

// wakeLocked makes both engines look at the state of the QP.
func (q *qp) wakeLocked() {
	if q.conn != nil {
		_ = q.conn.SetDeadline(time.Unix(1, 0)) // long past; a closed socket needs no waking
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
		q.icq.spawnNotify()
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

// flushReceives cancels the posted receives; for good, if closed.
func (q *qp) flushReceives(closed bool) {
	q.rmu.Lock()
	q.rclosed = q.rclosed || closed
	fire := false
	for q.rhead != q.rtail {
		fire = q.completeReceiveLocked(ndk.ResultEx{Result: ndk.Result{Status: ntstatus.Cancelled}, Type: ndk.OpReceive}, false) || fire
	}
	q.rmu.Unlock()
	if fire {
		q.rcq.spawnNotify()
	}
}

// completeReceiveLocked ends the oldest receive, under rmu.
func (q *qp) completeReceiveLocked(e ndk.ResultEx, solicited bool) (fire bool) {
	w := &q.recvs[q.rhead&uint32(len(q.recvs)-1)]
	e.QPContext, e.RequestContext = q.ctx, w.rc
	w.rc = nil
	q.rhead++
	return q.rcq.push(&e, solicited)
}

// wr is the slot of position s.
func (q *qp) wr(s uint32) *sendWR { return &q.wrs[s&uint32(len(q.wrs)-1)] }

// wrSGEs are the SGEs of position s.
func (q *qp) wrSGEs(s uint32) []sge {
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
		if !wr.hidden && (wr.status != ntstatus.Success || wr.flags&ndk.SilentSuccess == 0) {
			e := ndk.ResultEx{Type: opTypes[wr.op]}
			e.Status, e.Bytes, e.QPContext, e.RequestContext = wr.status, wr.bytes, q.ctx, wr.rc
			fire = q.icq.push(&e, false) || fire
		}
		wr.rc, wr.mr, wr.mw, wr.file, wr.reg.mem = nil, nil, nil, nil, nil
		q.head++
	}
	return fire
}

// Receive implements ndk.QP.
func (q *qp) Receive(rc any, sgl []ndk.SGE) error {
	if len(sgl) > q.maxRecvSGE {
		return ntstatus.DataOverrun
	}
	var total uint64
	for i := range sgl {
		total += uint64(sgl[i].Length)
	}
	if total > maxTransferLength {
		return ntstatus.BufferOverflow
	}
	q.rmu.Lock()
	defer q.rmu.Unlock()
	if q.rclosed || q.closing.Load() {
		return ntstatus.ConnectionInvalid
	}
	if q.rtail-q.rhead >= q.recvDepth {
		return ntstatus.NoMoreEntries
	}
	if int(q.rtail-q.rhead) == len(q.recvs) {
		q.growReceives()
	}
	slot := q.rtail & uint32(len(q.recvs)-1)
	q.recvs[slot] = recvWR{rc: rc, total: total, nsge: uint8(len(sgl))}
	dst := q.recvSGEs[int(slot)*q.maxRecvSGE:]
	for i := range sgl {
		dst[i] = sge{sgl[i].Addr, sgl[i].Length, uint32(sgl[i].Token)}
	}
	q.rtail++
	return nil
}

func (q *qp) growReceives() {
	n := max(2*len(q.recvs), queueFirstSize)
	recvs, sges := make([]recvWR, n), make([]sge, n*q.maxRecvSGE)
	for s := q.rhead; s != q.rtail; s++ {
		o, d := int(s&uint32(len(q.recvs)-1)), int(s&uint32(n-1))
		recvs[d] = q.recvs[o]
		copy(sges[d*q.maxRecvSGE:(d+1)*q.maxRecvSGE], q.recvSGEs[o*q.maxRecvSGE:])
	}
	q.recvs, q.recvSGEs = recvs, sges
}

func (q *qp) growSends() {
	n := max(2*len(q.wrs), queueFirstSize)
	wrs, sges := make([]sendWR, n), make([]sge, n*q.maxInitSGE)
	for s := q.head; s != q.tail; s++ {
		o, d := int(s&uint32(len(q.wrs)-1)), int(s&uint32(n-1))
		wrs[d] = q.wrs[o]
		copy(sges[d*q.maxInitSGE:(d+1)*q.maxInitSGE], q.sges[o*q.maxInitSGE:])
	}
	q.wrs, q.sges = wrs, sges
}

const (
	flagsCommon = ndk.SilentSuccess | ndk.ReadFence | ndk.Defer
	flagsSend   = flagsCommon | ndk.SendAndSolicitEvent | ndk.Inline
	flagsWrite  = flagsCommon | ndk.Inline
	flagsRead   = flagsCommon | ndk.RDMAReadLocalInvalidate
	flagsBind   = flagsCommon | ndk.AllowRemoteRead | ndk.AllowRemoteWrite
	flagsFast   = flagsCommon | ndk.AllowRemoteRead | ndk.AllowLocalWrite | ndk.AllowRemoteWrite | ndk.RDMAReadSink
)

// checkSGL checks what a post can refuse inline.
func (q *qp) checkSGL(sgl []ndk.SGE, f ndk.OpFlags) (length uint32, st ndk.Status) {
	var total uint64
	if f&ndk.Inline != 0 {
		for i := range sgl {
			if sgl[i].Inline == nil && sgl[i].Length > 0 {
				return 0, ntstatus.InvalidParameter // a number is no memory
			}
			total += uint64(len(sgl[i].Inline))
		}
		if total > uint64(q.inlineMax) {
			return 0, ntstatus.BufferOverflow
		}
		return uint32(total), ntstatus.Success
	}
	if len(sgl) > q.maxInitSGE {
		return 0, ntstatus.DataOverrun
	}
	for i := range sgl {
		total += uint64(sgl[i].Length)
	}
	if total > maxTransferLength {
		return 0, ntstatus.BufferOverflow
	}
	return uint32(total), ntstatus.Success
}

// openSlot locks mu and returns the slot for a new request, or unlocks and says
// why there is none.
func (q *qp) openSlot() (*sendWR, ndk.Status) {
	q.mu.Lock()
	if q.state != qpActive {
		q.mu.Unlock()
		return nil, ntstatus.ConnectionInvalid
	}
	if q.tail-q.head >= q.initDepth {
		return nil, q.refuseLocked(ntstatus.NoMoreEntries)
	}
	return q.slotLocked(), ntstatus.Success
}

func (q *qp) slotLocked() *sendWR {
	if int(q.tail-q.head) == len(q.wrs) {
		q.growSends()
	}
	wr := q.wr(q.tail)
	*wr = sendWR{buf: wr.buf[:0]}
	return wr
}

// refuseLocked unlocks mu after it handed on what was deferred before a request
// that is refused.
func (q *qp) refuseLocked(st ndk.Status) ndk.Status {
	if q.next != q.tail {
		q.kickLocked()
	}
	q.mu.Unlock()
	return st
}

// refuse is refuseLocked for checks that need no lock.
func (q *qp) refuse(st ndk.Status) ndk.Status {
	q.mu.Lock()
	if q.state != qpActive {
		st = ntstatus.ConnectionInvalid
	}
	return q.refuseLocked(st)
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
	q.retain()
	q.mu.Unlock()
	q.pump(true)
}

// data posts a request with an SGL.
func (q *qp) data(op wrOp, rc any, sgl []ndk.SGE, raddr uint64, token uint32, f ndk.OpFlags) error {
	length, st := q.checkSGL(sgl, f)
	if st != ntstatus.Success {
		return q.refuse(st)
	}
	wr, st := q.openSlot()
	if st != ntstatus.Success {
		return st
	}
	if op == wrRead && q.noReads {
		return q.refuseLocked(ntstatus.InvalidParameter)
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
			dst[i] = sge{sgl[i].Addr, sgl[i].Length, uint32(sgl[i].Token)}
		}
	}
	q.submit(f)
	return nil
}

// Send implements ndk.QP.
func (q *qp) Send(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
	if f&^flagsSend != 0 {
		return q.refuse(ntstatus.InvalidParameter)
	}
	return q.data(wrSend, rc, sgl, 0, 0, f)
}

// SendAndInvalidate implements ndk.QP.
func (q *qp) SendAndInvalidate(rc any, sgl []ndk.SGE, f ndk.OpFlags, remote ndk.Token) error {
	if f&^flagsSend != 0 {
		return q.refuse(ntstatus.InvalidParameter)
	}
	return q.data(wrSendInval, rc, sgl, 0, uint32(remote), f)
}

// Write implements ndk.QP.
func (q *qp) Write(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	if f&^flagsWrite != 0 {
		return q.refuse(ntstatus.InvalidParameter)
	}
	return q.data(wrWrite, rc, sgl, remoteAddr, uint32(remote), f)
}

// Read implements ndk.QP.
func (q *qp) Read(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	if f&^flagsRead != 0 {
		return q.refuse(ntstatus.InvalidParameter)
	}
	return q.data(wrRead, rc, sgl, remoteAddr, uint32(remote), f)
}

// WriteFile implements ndk.FileWriter.
func (q *qp) WriteFile(rc any, r ndk.FileRange, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	if f&^flagsCommon != 0 || r.File == nil || r.Offset < 0 || r.Offset+int64(r.Length) < r.Offset {
		return q.refuse(ntstatus.InvalidParameter)
	}
	if r.Length > maxTransferLength {
		return q.refuse(ntstatus.BufferOverflow)
	}
	wr, st := q.openSlot()
	if st != ntstatus.Success {
		return st
	}
	wr.rc, wr.op, wr.flags, wr.length, wr.raddr, wr.token = rc, wrWriteFile, f, r.Length, remoteAddr, uint32(remote)
	wr.file, wr.fileOff = r.File, r.Offset
	q.submit(f)
	return nil
}

// FastRegister implements ndk.QP.
func (q *qp) FastRegister(rc any, target ndk.MR, pages []ndk.LogicalAddress, fbo uint32, n, base uint64, f ndk.OpFlags) error {
	m, ok := ndk.Unwrap(target).(*mr)
	if f&^flagsFast != 0 || !ok || m.adapter != q.adapter {
		return q.refuse(ntstatus.InvalidParameter)
	}
	if m.pd != q.pd {
		return q.refuse(ntstatus.AccessViolation)
	}
	wr, st := q.openSlot()
	if st != ntstatus.Success {
		return st
	}
	reg, st := m.prepareFast(pages, fbo, n, base, f)
	if st != ntstatus.Success {
		return q.refuseLocked(st)
	}
	wr.rc, wr.op, wr.flags, wr.mr, wr.reg = rc, wrFastRegister, f, m, reg
	q.submit(f)
	return nil
}

// Invalidate implements ndk.QP.
func (q *qp) Invalidate(rc any, target ndk.Invalidatable, f ndk.OpFlags) error {
	if f&^flagsCommon != 0 || target == nil {
		return q.refuse(ntstatus.InvalidParameter)
	}
	var m *mr
	var w *mw
	var p *pd
	switch o := ndk.Unwrap(target).(type) {
	case *mr:
		if m, p = o, o.pd; !o.fast {
			return q.refuse(ntstatus.InvalidDeviceRequest)
		}
	case *mw:
		w, p = o, o.pd
	default:
		return q.refuse(ntstatus.InvalidParameter)
	}
	if p != q.pd {
		return q.refuse(ntstatus.AccessViolation)
	}
	wr, st := q.openSlot()
	if st != ntstatus.Success {
		return st
	}
	wr.rc, wr.op, wr.flags, wr.mr, wr.mw = rc, wrInvalidate, f, m, w
	wr.token = uint32(target.RemoteToken())
	q.submit(f)
	return nil
}

// Bind implements ndk.QP.
func (q *qp) Bind(rc any, target ndk.MR, window ndk.MW, va, n uint64, f ndk.OpFlags) error {
	m, ok1 := ndk.Unwrap(target).(*mr)
	w, ok2 := ndk.Unwrap(window).(*mw)
	if f&^flagsBind != 0 || !ok1 || !ok2 || m.adapter != q.adapter || w.adapter != q.adapter {
		return q.refuse(ntstatus.InvalidParameter)
	}
	if m.pd != q.pd || w.pd != q.pd {
		return q.refuse(ntstatus.AccessViolation)
	}
	wr, st := q.openSlot()
	if st != ntstatus.Success {
		return st
	}
	reg, st := w.prepare(m, va, n, f)
	if st != ntstatus.Success {
		return q.refuseLocked(st)
	}
	wr.rc, wr.op, wr.flags, wr.mr, wr.mw, wr.reg = rc, wrBind, f, m, w, reg
	q.submit(f)
	return nil
}
