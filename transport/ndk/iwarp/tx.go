package iwarp

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
	"golang.org/x/sys/unix"
)

const (
	batchIOV   = 512
	batchBytes = 1 << 18 // payload that one call gathers, about: more overflows the L2 cache before the receiver gets it
	batchHdr   = 12 << 10
	// smallMessage is the payload of a Send, in octets, up to which it is copied
	// behind its header. One piece costs the kernel less than three.
	smallMessage = 512
	// hdrRoom is what an FPDU takes in the header arena at most: pad and CRC of
	// the one before and itself, length field, DDP header and the payload of a
	// Read Request or Terminate.
	hdrRoom = 2*(3+crcField) + lenField + untaggedLen + maxTerminateLen
)

// txMessage is the message whose FPDUs are being built.
type txMessage struct {
	active   bool
	response bool   // of jobs[jobHead]; else the request at next
	off      uint32 // octets of it in batches so far
	sgeIdx   int
	sgeOff   uint32
}

// txOwner says what an iovec points into, so that it can be pinned for a call.
type txOwner struct {
	region *soft.Region // nil: memory of the provider
	gen    uint32
}

// txBatch is a run of whole FPDUs on its way to the socket: headers in hdr,
// payload where it lies. It comes from a pool, so that an idle QP has none.
type txBatch struct {
	iov  [batchIOV]unix.Iovec
	own  [batchIOV]txOwner
	n    int // filled
	pos  int // first not sent
	hdr  [batchHdr]byte
	hn   int
	open bool // the last iovec ends at hdr[hn]
	size int  // octets filled
	msg  unix.Msghdr
	// crc runs over the FPDU that is being built, if crcOn.
	crcOn bool
	crc   uint32
	// For streams with markers: FPDUs are built in plain and go out from copied.
	plain, copied []byte
	tagged        int  // octets of payload of Writes and Responses that only markers copy
	answered      int  // octets of payload of Responses
	jobs          int  // Responses that end in the batch; guarded by mu of the QP
	trailer       int  // octets at its start that end the FPDU of a file
	shown         bool // to the tap
	last          bool
}

var batchPool = sync.Pool{New: func() any { return new(txBatch) }}

func (b *txBatch) reset() {
	clear(b.iov[:b.n])
	clear(b.own[:b.n])
	b.n, b.pos, b.hn, b.size, b.jobs, b.trailer, b.tagged, b.answered = 0, 0, 0, 0, 0, 0, 0, 0
	b.open, b.last, b.shown = false, false, false
	b.plain, b.copied = b.plain[:0], b.copied[:0]
}

// room reports whether another FPDU of n payload slices fits.
func (b *txBatch) room(n int) bool {
	return b.n+n+2 <= batchIOV && b.hn+hdrRoom <= batchHdr && b.size < batchBytes
}

// header adds n octets of the arena to the stream and returns them.
func (b *txBatch) header(n int) []byte {
	h := b.hdr[b.hn : b.hn+n : b.hn+n]
	if b.open {
		b.iov[b.n-1].SetLen(int(b.iov[b.n-1].Len) + n)
	} else {
		b.iov[b.n].Base = &h[0]
		b.iov[b.n].SetLen(n)
		b.own[b.n] = txOwner{}
		b.n++
		b.open = true
	}
	b.hn += n
	b.size += n
	return h
}

// payload adds p, which lies in r.
func (b *txBatch) payload(p []byte, r *soft.Region, gen uint32) {
	if len(p) == 0 {
		return
	}
	b.iov[b.n].Base = unsafe.SliceData(p)
	b.iov[b.n].SetLen(len(p))
	b.own[b.n] = txOwner{r, gen}
	b.n++
	b.open = false
	b.size += len(p)
	if b.crcOn {
		b.crc = crc32.Update(b.crc, castagnoli, p)
	}
}

// small adds a copy of p.
func (b *txBatch) small(p []byte) {
	copy(b.header(len(p)), p)
	if b.crcOn {
		b.crc = crc32.Update(b.crc, castagnoli, p)
	}
}

// begin starts an FPDU with a ULPDU of n octets.
func (b *txBatch) begin(n int, s *segment, extra int) []byte {
	k := lenField + s.length()
	h := b.header(k + extra)
	binary.BigEndian.PutUint16(h, uint16(n))
	s.put(h[lenField:])
	return h[k:]
}

// sum starts the CRC of the FPDU whose octets so far are the last n of the arena.
func (b *txBatch) sum(n int) {
	if b.crcOn {
		b.crc = crc32.Checksum(b.hdr[b.hn-n:b.hn], castagnoli)
	}
}

// end writes pad and CRC behind a ULPDU of n octets.
func (b *txBatch) end(n int) {
	p := padLen(n)
	h := b.header(p + crcField)
	clear(h)
	if b.crcOn {
		binary.LittleEndian.PutUint32(h[p:], crc32.Update(b.crc, castagnoli, h[:p]))
	}
}

// mark rewrites the FPDUs added since the batch was reset as one copied run with
// markers. The regions are pinned while it copies; false if one went away.
func (q *qp) mark(b *txBatch) bool {
	b.plain = b.plain[:0]
	for i := range b.n {
		r := b.own[i].region
		if r != nil && !r.Repin(b.own[i].gen) {
			return false
		}
		b.plain = append(b.plain, unsafe.Slice(b.iov[i].Base, int(b.iov[i].Len))...)
		if r != nil {
			r.Unpin()
		}
	}
	b.copied = b.copied[:0]
	for p := b.plain; len(p) > 0; {
		n := int(binary.BigEndian.Uint16(p))
		k := fpduLen(n)
		from := len(b.copied)
		b.copied = appendMarked(b.copied, q.streamPos, p[:k-crcField], b.crcOn)
		q.streamPos += uint64(len(b.copied) - from)
		p = p[k:]
	}
	q.copied.Add(uint64(b.tagged))
	clear(b.own[:b.n])
	b.iov[0].Base = unsafe.SliceData(b.copied)
	b.iov[0].SetLen(len(b.copied))
	b.n = 1
	return true
}

// kickLocked starts a transmitter if there is something to do and none.
func (q *qp) kickLocked() {
	if q.txBusy || q.txFn == nil || q.finSent {
		return
	}
	q.txBusy = true
	q.Retain()
	go q.txFn() // ends when nothing is left to send; holds the QP meanwhile
}

func (q *qp) transmit() { q.pump(false) }

// txStep is what build found to do.
type txStep uint8

const (
	stepIdle txStep = iota
	stepWrite
	stepFile
	stepInvalidate
)

// pump is the transmitter: it sends until nothing is left. direct is set in a
// goroutine that is posting, which must not block: what the socket does not take
// goes to a goroutine of its own. The caller set txBusy and retained q.
func (q *qp) pump(direct bool) {
	for {
		q.mu.Lock()
		step := q.buildLocked()
		// Local requests may have completed on the way.
		fire := q.completeLocked()
		if step == stepIdle {
			if q.batch != nil {
				q.batch.reset()
				batchPool.Put(q.batch)
				q.batch = nil
			}
			q.endTxLocked()
			q.txBusy = false
			q.finishLocked() // unlocks
			q.notifyInitiator(fire, direct)
			q.Release()
			return
		}
		if direct && (step == stepInvalidate || step == stepWrite && q.batch.size > directBytes ||
			step == stepFile && (q.crc || q.markers)) {
			q.mu.Unlock()
			q.notifyInitiator(fire, direct)
			go q.txFn() // takes over txBusy and the reference
			return
		}
		q.mu.Unlock()
		q.notifyInitiator(fire, direct)
		ok := true
		switch step {
		case stepWrite:
			if q.markers && q.batch.pos == 0 && len(q.batch.copied) == 0 {
				ok = q.mark(q.batch)
			}
			if ok {
				ok = q.write(direct)
			}
			if ok && q.batch.pos < q.batch.n {
				go q.txFn() // direct: the socket is full; takes over
				return
			}
		case stepFile:
			var full bool
			if ok, full = q.sendFile(direct); full {
				go q.txFn() // takes over
				return
			}
		case stepInvalidate:
			q.runInvalidate()
			continue
		}
		q.mu.Lock()
		if ok {
			fire = q.sentLocked()
		} else {
			fire = false
			q.lostLocked()
		}
		q.mu.Unlock()
		q.notifyInitiator(fire, direct)
	}
}

func (q *qp) notifyInitiator(fire, direct bool) {
	switch {
	case !fire:
	case direct:
		q.icq.Spawn()
	default:
		q.icq.Notify()
	}
}

// sentLocked accounts for a batch that TCP took.
func (q *qp) sentLocked() (fire bool) {
	b := q.batch
	for ; q.sent != q.next; q.sent++ {
		if wr := q.wr(q.sent); wr.op != wrRead {
			wr.done = true
		}
	}
	if b.answered > 0 {
		q.peerRead.Add(uint64(b.answered))
	}
	q.jobHead += b.jobs
	if len(q.jobs) > 0 {
		q.jobHead %= len(q.jobs)
	}
	q.jobCount -= b.jobs
	if b.last {
		q.termSent = true
	}
	b.reset()
	return q.completeLocked()
}

// lostLocked notes that the transmitter found the connection broken.
func (q *qp) lostLocked() {
	q.stopTx = true
	q.flushWanted = true
	q.hardClose = true
	if q.state == qpActive {
		q.state = qpEnded
	}
	_ = q.conn.SetReadDeadline(longPast)
	q.who.interrupt()
}

// endTxLocked sends FIN once nothing more will be sent.
func (q *qp) endTxLocked() {
	if q.finSent || !(q.stopTx || q.drain || q.termSent) || q.conn == nil {
		return
	}
	q.finSent = true
	if !q.hardClose {
		// shutdown(2) does not block; a failure shows as the end of the stream.
		_ = q.conn.CloseWrite()
	}
	close(q.txDone)
}

// buildLocked fills the batch, and says what to do with it. Requests that need
// no octets on the wire are executed on the way.
func (q *qp) buildLocked() txStep {
	if q.finSent || q.conn == nil {
		return stepIdle
	}
	if q.stopTx {
		return stepIdle
	}
	if q.file.begun {
		return stepFile // of which an FPDU may be half sent
	}
	b := q.batch
	if b != nil && b.pos < b.n {
		return stepWrite // the rest of what was built before
	}
	if b == nil {
		b = batchPool.Get().(*txBatch)
		b.reset()
		b.crcOn = q.crc
		q.batch = b
	}
	if b.n == 0 {
		q.fileTrailer(b)
	}
	for {
		if q.term != nil {
			if b.room(0) {
				q.buildTerminate(b)
			}
			return stepWrite // with the Terminate, or full, and then it
		}
		if q.fenced || q.termSent {
			return stepIdle
		}
		if q.cur.active {
			if !q.buildMessage(b) {
				if q.stopTx {
					return stepIdle
				}
				return stepWrite // full
			}
			continue
		}
		if q.jobCount > b.jobs && (q.turn || !q.canStartLocked()) {
			q.turn = false
			q.startResponse(b)
			continue
		}
		if !q.canStartLocked() {
			break
		}
		q.turn = true
		wr := q.wr(q.next)
		switch wr.op {
		case wrWriteFile:
			if b.n > 0 && b.size == b.trailer && wr.length > 0 {
				q.file.tail = b.trailer // goes with the first header of this one
				b.reset()
			}
			if b.n > 0 && wr.length > 0 {
				return stepWrite
			}
			if wr.length > 0 {
				return stepFile
			}
			fallthrough // an empty one is an empty Write
		case wrSend, wrSendInval, wrWrite:
			if !wr.inline {
				if broken := q.checkSources(q.next); broken != 0 {
					q.failRequest(wr, ntstatus.AccessViolation, broken)
					continue
				}
			}
			q.cur = txMessage{active: true}
		case wrRead:
			if !b.room(0) {
				return stepWrite
			}
			q.buildReadRequest(b, wr)
		case wrFastRegister:
			if broken := wr.mr.PublishFast(&wr.reg); broken != 0 {
				q.failRequest(wr, ntstatus.InvalidDeviceRequest, broken)
				continue
			}
			q.localDone(wr)
		case wrBind:
			if broken := wr.mw.Bind(q, wr.mr, &wr.reg); broken != 0 {
				q.failRequest(wr, ntstatus.InvalidDeviceRequest, broken)
				continue
			}
			q.localDone(wr)
		case wrInvalidate:
			if b.n > 0 {
				return stepWrite // what is before it must be out first
			}
			return stepInvalidate
		}
	}
	if b.n > 0 {
		return stepWrite
	}
	return stepIdle
}

// localDone ends a request that needed nothing on the wire.
func (q *qp) localDone(wr *sendWR) {
	wr.done = true
	if q.sent == q.next {
		q.sent++
	}
	q.next++
}

// failRequest ends the connection because of a request of our own.
func (q *qp) failRequest(wr *sendWR, st ndk.Status, broken ndk.Rule) {
	wr.status, wr.perr = st, uint32(broken)
	q.localDone(wr)
	q.failLocked(causeLocal, nil)
}

// canStartLocked reports whether the next request may start: fences and the
// read limit hold back it and all behind it (RDMAP-15).
func (q *qp) canStartLocked() bool {
	if q.next == q.tail {
		return false
	}
	wr := q.wr(q.next)
	if wr.flags&ndk.ReadFence != 0 && q.readsOut > 0 {
		return false
	}
	return wr.op != wrRead || q.readsOut < q.ord
}

// checkSources looks at the SGEs of a Send or Write before its first octet goes
// out. It returns the rule that one breaks, or 0.
func (q *qp) checkSources(s uint32) ndk.Rule {
	for _, e := range q.wrSGEs(s) {
		if broken := q.pd.CheckLocal(e, 0); broken != 0 {
			return broken
		}
	}
	return 0
}

// runInvalidate executes the Invalidate at next. It may wait for the end of a
// copy in another goroutine, so it runs without mu.
func (q *qp) runInvalidate() {
	q.mu.Lock()
	wr := q.wr(q.next)
	m, w, token := wr.mr, wr.mw, wr.token
	q.mu.Unlock()
	var broken ndk.Rule
	if m != nil {
		broken = m.Invalidate(token)
	} else {
		broken = w.Invalidate(token)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	wr = q.wr(q.next) // the ring may have grown
	if broken == 0 {
		q.localDone(wr)
	} else {
		q.failRequest(wr, ntstatus.InvalidDeviceRequest, broken)
	}
}

// buildReadRequest adds the Read Request for the request at next.
func (q *qp) buildReadRequest(b *txBatch, wr *sendWR) {
	for _, e := range q.wrSGEs(q.next) {
		if broken := q.pd.CheckLocal(e, soft.LocalWrite|soft.ReadSink); broken != 0 {
			q.failRequest(wr, ntstatus.AccessViolation, broken)
			return
		}
	}
	q.serial++
	wr.sinkTO = uint64(q.serial) << 32
	s := segment{ddp: ddpLast | ddpVersion, rdmap: rdmapVersion | opReadRequest, qn: queueReadReq, msn: q.readMSN}
	q.readMSN++
	r := readRequest{sinkSTag: q.sinkSTag, sinkTO: wr.sinkTO, size: wr.length, srcSTag: wr.token, srcTO: wr.raddr}
	r.put(b.begin(untaggedLen+readRequestLen, &s, readRequestLen))
	b.sum(lenField + untaggedLen + readRequestLen)
	b.end(untaggedLen + readRequestLen)
	q.reads[(q.readHead+q.readsOut)%q.ord] = q.next
	q.readsOut++
	q.reading.Store(int32(q.readsOut))
	q.next++
}

// startResponse begins the Response to the oldest Read Request that is not in
// the batch yet.
func (q *qp) startResponse(b *txBatch) {
	j := &q.jobs[(q.jobHead+b.jobs)%len(q.jobs)]
	if j.req.size > 0 {
		r, _, _, a := q.pd.Remote(q, j.req.srcSTag, j.req.srcTO, uint64(j.req.size), soft.RemoteRead)
		if a != soft.AccessOK {
			q.refuseRead(j, a)
			return
		}
		r.Unpin()
	}
	q.cur = txMessage{active: true, response: true}
}

var readCauses = [...]cause{
	soft.AccessToken: causeReadSTag, soft.AccessBounds: causeReadBounds, soft.AccessRight: causeReadAccess,
	soft.AccessStream: causeReadStream, soft.AccessWrap: causeReadWrap,
}

func (q *qp) refuseRead(j *readJob, a soft.Access) {
	q.failLocked(readCauses[a], &offender{valid: true, seg: j.seg, ulpdu: untaggedLen + readRequestLen, hasRead: true, read: j.req})
}

// buildMessage adds FPDUs of the current message; false when the batch is full
// or the connection failed.
func (q *qp) buildMessage(b *txBatch) bool {
	m := &q.cur
	if m.response {
		return q.buildResponse(b)
	}
	wr := q.wr(q.next)
	s := segment{ddp: ddpVersion}
	switch wr.op {
	case wrWrite, wrWriteFile:
		s.ddp |= ddpTagged
		s.rdmap, s.stag = rdmapVersion|opWrite, wr.token
	case wrSend, wrSendInval:
		s.rdmap, s.qn, s.msn = rdmapVersion|sendOpcode(wr), queueSend, q.sendMSN
		if wr.op == wrSendInval {
			s.stag = wr.token
		}
	}
	var sges []soft.SGE
	if !wr.inline {
		sges = q.wrSGEs(q.next)
	}
	for {
		if !b.room(len(sges) + 1) {
			return false
		}
		n := min(uint32(q.maxSeg-s.length()), wr.length-m.off)
		if m.off+n == wr.length {
			s.ddp |= ddpLast
		}
		s.mo, s.to = m.off, wr.raddr+uint64(m.off)
		u := s.length() + int(n)
		b.begin(u, &s, 0)
		b.sum(lenField + s.length())
		switch {
		case wr.inline:
			b.payload(wr.buf[m.off:m.off+n], nil, 0)
		case !q.gather(b, sges, n, !s.tagged() && n <= smallMessage && b.hn+int(n)+hdrRoom <= batchHdr):
			// The memory went away under the request: nothing whole can be sent.
			wr.status, wr.perr = ntstatus.AccessViolation, uint32(ndk.RuleInvalidated)
			q.breakLocked()
			return false
		case s.tagged():
			b.tagged += int(n)
		}
		b.end(u)
		m.off += n
		if m.off == wr.length {
			break
		}
	}
	if wr.op == wrSend || wr.op == wrSendInval {
		q.sendMSN++
	}
	q.cur = txMessage{}
	q.next++
	return true
}

// gather adds the next n octets of the SGEs to the batch: where they lie, or as a
// copy next to their header, which is cheaper for a few.
func (q *qp) gather(b *txBatch, sges []soft.SGE, n uint32, copied bool) bool {
	m := &q.cur
	for n > 0 {
		e := sges[m.sgeIdx]
		k := min(n, e.Len-m.sgeOff)
		if k > 0 {
			r, gen, mem, _ := q.pd.Local(e.Token, e.Addr+uint64(m.sgeOff), uint64(k), 0)
			if mem == nil {
				return false
			}
			if copied {
				b.small(mem)
			} else {
				b.payload(mem, r, gen)
			}
			r.Unpin()
			n -= k
			m.sgeOff += k
		}
		if m.sgeOff == e.Len {
			m.sgeIdx++
			m.sgeOff = 0
		}
	}
	return true
}

func sendOpcode(wr *sendWR) byte {
	switch se := wr.flags&ndk.SendAndSolicitEvent != 0; {
	case wr.op == wrSend && !se:
		return opSend
	case wr.op == wrSend:
		return opSendSE
	case !se:
		return opSendInval
	}
	return opSendSEInval
}

// buildResponse adds FPDUs of a Read Response. The token is checked for each of
// them, as the region may be invalidated meanwhile.
func (q *qp) buildResponse(b *txBatch) bool {
	m := &q.cur
	j := &q.jobs[(q.jobHead+b.jobs)%len(q.jobs)]
	s := segment{ddp: ddpTagged | ddpVersion, rdmap: rdmapVersion | opReadResponse, stag: j.req.sinkSTag}
	for {
		if !b.room(1) {
			return false
		}
		n := min(uint32(q.maxSeg-taggedLen), j.req.size-m.off)
		if m.off+n == j.req.size {
			s.ddp |= ddpLast
		}
		s.to = j.req.sinkTO + uint64(m.off)
		var r *soft.Region
		var gen uint32
		var mem []byte
		if n > 0 {
			var a soft.Access
			r, gen, mem, a = q.pd.Remote(q, j.req.srcSTag, j.req.srcTO+uint64(m.off), uint64(n), soft.RemoteRead)
			if a != soft.AccessOK {
				j.req.sinkTO, j.req.srcTO, j.req.size = s.to, j.req.srcTO+uint64(m.off), j.req.size-m.off
				q.cur = txMessage{}
				q.refuseRead(j, a)
				return true
			}
		}
		u := taggedLen + int(n)
		b.begin(u, &s, 0)
		b.sum(lenField + taggedLen)
		if n > 0 {
			b.payload(mem, r, gen)
			r.Unpin()
			b.tagged += int(n)
			b.answered += int(n)
		}
		b.end(u)
		m.off += n
		if m.off == j.req.size {
			break
		}
	}
	b.jobs++
	q.cur = txMessage{}
	return true
}

// buildTerminate adds the Terminate as the last FPDU of the connection.
func (q *qp) buildTerminate(b *txBatch) {
	s := segment{ddp: ddpLast | ddpVersion, rdmap: rdmapVersion | opTerminate, qn: queueTerminate, msn: 1}
	u := untaggedLen + len(q.term)
	copy(b.begin(u, &s, len(q.term)), q.term)
	b.sum(lenField + u)
	b.end(u)
	q.term = nil
	b.last = true
}

// breakLocked ends the connection without a Terminate: an FPDU is half built.
func (q *qp) breakLocked() {
	q.batch.reset()
	q.state = qpEnded
	q.lostLocked()
}

// write hands the batch to the socket. In a posting goroutine it tries once;
// else it waits. false means that the connection is broken, or that memory in
// the batch is no longer there.
func (q *qp) write(direct bool) bool {
	q.writeErr = nil
	if d := q.tapped; d != nil && !q.batch.shown {
		q.batch.shown = true
		d.batch(q.batch)
	}
	return q.rawWrite(q.writeFn, direct) && q.writeErr == nil
}

// rawWrite runs a step of writing until it is done, and waits in between for the socket
// to take more, or does so once. It fails with the deadline and the connection.
func (q *qp) rawWrite(step func(fd uintptr) bool, once bool) bool {
	q.step = step
	for {
		if q.conn.WriteOverdue() || q.raw.Write(q.stepFn) != nil {
			return false
		}
		if q.stepped || once {
			return true
		}
		if q.conn.WaitOut() != nil {
			return false
		}
	}
}

// writeBatch is the body of write: it returns false to be called again when the
// socket takes more.
func (q *qp) writeBatch(fd uintptr) bool {
	b := q.batch
	for b.pos < b.n {
		from := b.pos
		pinned := from
		for ; pinned < b.n; pinned++ {
			if o := b.own[pinned]; o.region != nil && !o.region.Repin(o.gen) {
				break
			}
		}
		ok := pinned == b.n
		var n int
		var errno unix.Errno
		if ok {
			b.msg.Iov = &b.iov[from]
			b.msg.SetIovlen(b.n - from)
			n, errno = sendmsg(fd, &b.msg)
		}
		for i := from; i < pinned; i++ {
			if r := b.own[i].region; r != nil {
				r.Unpin()
			}
		}
		switch {
		case !ok:
			q.writeErr = errRegionGone
			return true
		case errno == unix.EAGAIN:
			return false
		case errno == unix.EINTR:
			continue
		case errno != 0:
			q.writeErr = errno
			return true
		}
		for n > 0 {
			k := min(n, int(b.iov[b.pos].Len))
			n -= k
			if k == int(b.iov[b.pos].Len) {
				b.pos++
				continue
			}
			b.iov[b.pos].Base = (*byte)(unsafe.Add(unsafe.Pointer(b.iov[b.pos].Base), k))
			b.iov[b.pos].SetLen(int(b.iov[b.pos].Len) - k)
		}
		for b.pos < b.n && b.iov[b.pos].Len == 0 {
			b.pos++
		}
	}
	return true
}
