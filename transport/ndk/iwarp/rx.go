package iwarp

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
	"golang.org/x/sys/unix"
)

const (
	// stageSmall is what an idle connection keeps for headers and small messages.
	stageSmall = 4 << 10
	// stageBig comes from a pool, while many small FPDUs or a CRC need it. It
	// holds any FPDU.
	stageBig = 128 << 10
	// directMin is the payload from which on it is read straight to its target
	// instead of through the stage.
	directMin = 4 << 10
	// nextHeader is what is read behind a segment that is not the last of its
	// message: the next one is tagged most likely, and so its payload starts in
	// a call of its own, at the place where it belongs.
	nextHeader = lenField + taggedLen
	// maxQuiet is how many messages in a row have the receiver forget that there were
	// transfers: of small ones it reads as many at a time as there are then.
	maxQuiet = 64
	// maxPatience is how many FPDUs in a row with less than tinyPayload are read
	// one by one: a flood of them, which no peer in its senses sends, shall not
	// cost a call each.
	maxPatience = 64
	tinyPayload = 64
)

var stagePool = sync.Pool{New: func() any { return new([stageBig]byte) }}

// target is where the payload of the current segment goes.
type target struct {
	region *soft.Region // tagged: one region, under the remote token
	gen    uint32
	addr   uint64
	piped  bool       // the region has a pipe
	sges   []soft.SGE // else: local buffers
	idx    int
	off    uint32
}

// phase is how far the receiver is with an FPDU. Where there is nothing to read it stops,
// with errAgain, and goes on from there.
type phase uint8

const (
	phaseStart   phase = iota // between FPDUs
	phaseHeader               // of which some may be there
	phaseSegment              // seg is parsed, and not judged by its kind
	phasePayload              // left octets go to dst
	phaseTrailer              // pad and CRC
)

// receiver parses the incoming stream of a QP. It is owned by who has the turn, see
// poller.go.
type receiver struct {
	q     *qp
	phase phase
	seg   segment // from phaseSegment on, as what follows
	ulpdu int
	size  int     // octets of payload
	to    *target // of the payload
	left  int     // octets of it that are to come

	polled   bool // who has the turn is the consumer
	moved    bool // something came in, since that was cleared
	news     bool // and completed something
	taken    int  // octets that the consumer has had come in, since that was cleared
	kicked   bool // a transmitter may have been started
	again    bool // there was nothing to read
	briefly  socket.Brisk
	waitStep func(fd uintptr) bool
	came     bool // of waitStep

	stage []byte // small or big
	small []byte
	big   *[stageBig]byte
	r, w  int // stage[r:w] is unread
	bulk  bool
	wary  bool // there were transfers to us of late
	quiet int  // FPDUs that were none, in a row
	fine  bool // the peer cuts its transfers into small FPDUs
	tiny  int  // FPDUs with next to nothing in them, in a row

	iov    [maxSGE + 2]unix.Iovec
	pins   [maxSGE + 1]*soft.Region
	npins  int
	direct int // octets to be read straight to dst
	ahead  int // and behind them into the stage
	least  int // ahead, if payload that has a place of its own may follow
	n      int
	err    error
	readFn func(fd uintptr) bool
	pipeFn func(fd uintptr) bool
	waitFn func(fd uintptr) bool
	fin    bool // noted while a message waited for a shared receive

	dst      *target  // of the read under way, nil for the stage
	broken   ndk.Rule // why the memory of dst is not to be had
	writeDst target   // of a Write segment

	// Queue 0: the message under way.
	msn     uint32
	mo      uint32
	inSend  bool
	total   uint64 // octets of the receive it goes to
	recvBuf [maxSGE]soft.SGE
	recvDst target
	shared  soft.Received // keeps its memory for the next one

	readMSN uint32 // queue 1
	first   bool   // no FPDU was accepted yet

	// The Read whose Response is under way.
	inRead  bool
	readSeq uint32
	readTO  uint64
	readLen uint32
	readOff uint32
	sinkBuf [maxSGE]soft.SGE
	sinkDst target
	copied  int // octets of payload of this segment that went through the stage

	due  [2]*soft.CQ // notifications to run before more is read
	dues int
}

func newReceiver(q *qp) *receiver {
	rx := &receiver{q: q, small: make([]byte, stageSmall), msn: 1, readMSN: 1, first: true}
	rx.stage = rx.small
	rx.readFn, rx.pipeFn, rx.waitFn = rx.read, rx.splice, rx.watch
	rx.waitStep = func(fd uintptr) bool {
		rx.came, _ = rx.briefly.Wait(fd)
		return true
	}
	return rx
}

// errAgain says that the receiver can go on when there is more to read, or, if it is run by
// the consumer, that there is something for him to look at.
var errAgain = errors.New("iwarp: nothing to read now")

// errTerminated ends the receive loop without anything to tell the peer.
var errTerminated = errors.New("iwarp: the peer sent a Terminate")

// protocolError ends the receive loop with a Terminate.
type protocolError struct {
	cause cause
	off   *offender
}

func (e *protocolError) Error() string { return "iwarp: " + e.cause.String() }

// run parses until there is nothing to read, with errAgain, or the stream ends. io.EOF is
// a FIN between FPDUs.
func (rx *receiver) run() error {
	for {
		if err := rx.fpdu(); err != nil {
			rx.notify()
			return err
		}
	}
}

// fire notes that a notification is to be run. It waits for what has come with the
// message that it is for: a consumer who polls then finds all of that.
func (rx *receiver) fire(q *soft.CQ) {
	if rx.dues == len(rx.due) {
		rx.notify()
	}
	rx.due[rx.dues] = q
	rx.dues++
}

// notify runs the notifications that are due.
func (rx *receiver) notify() {
	for rx.dues > 0 {
		rx.dues--
		q := rx.due[rx.dues]
		rx.due[rx.dues] = nil
		q.Notify()
	}
}

// fpdu handles one FPDU, or goes on with one.
func (rx *receiver) fpdu() error {
	switch rx.phase {
	case phaseStart:
		if d := rx.q.tapped; d != nil && !d.rx.on {
			d.between(rx.stage[rx.r:rx.w])
		}
		rx.phase = phaseHeader
		fallthrough
	case phaseHeader:
		if err := rx.header(); err != nil {
			return err
		}
		rx.phase = phaseSegment
		fallthrough
	case phaseSegment:
		if err := rx.segment(); err != nil {
			return err
		}
		rx.phase = phasePayload
		fallthrough
	case phasePayload:
		if rx.left > 0 {
			if err := rx.payload(); err != nil {
				return err
			}
		}
		if rx.copied > 0 {
			if rx.seg.tagged() {
				rx.q.copied.Add(uint64(rx.copied))
			}
			rx.copied = 0
		}
		rx.bulk = rx.size >= 2*directMin
		rx.phase = phaseTrailer
	}
	k := padLen(rx.ulpdu) + crcField
	if rx.w-rx.r < k {
		if err := rx.fill(k, k+nextHeader); err != nil {
			return err
		}
	}
	rx.r += k
	rx.phase = phaseStart
	if rx.first {
		// Before the consumer hears of it, who may answer, and close behind that.
		rx.first = false
		rx.q.accepted()
	}
	return rx.finish(&rx.seg, rx.size)
}

// header parses the header of an FPDU, and checks what depends on no state but the CRC.
func (rx *receiver) header() error {
	if err := rx.fill(lenField, nextHeader); err != nil {
		if err == io.ErrUnexpectedEOF && rx.r == rx.w {
			return io.EOF
		}
		return err
	}
	n := int(binary.BigEndian.Uint16(rx.stage[rx.r:]))
	if rx.q.crc {
		total := fpduLen(n)
		if err := rx.fill(total, 0); err != nil {
			return err
		}
		f := rx.stage[rx.r : rx.r+total]
		if crc32.Checksum(f[:total-crcField], castagnoli) != binary.LittleEndian.Uint32(f[total-crcField:]) {
			return &protocolError{cause: causeMPACRC}
		}
	} else {
		// The tagged length first: more would take payload into the stage.
		if err := rx.fill(lenField+min(n, taggedLen), nextHeader); err != nil {
			return err
		}
		if n > taggedLen && rx.stage[rx.r+lenField]&ddpTagged == 0 {
			if err := rx.fill(lenField+min(n, untaggedLen), fpduLen(n)+nextHeader); err != nil {
				return err
			}
		}
	}
	s, ok := parseSegment(rx.stage[rx.r+lenField : min(rx.r+lenField+min(n, untaggedLen), rx.w)])
	if !ok {
		return &protocolError{cause: causeMPALen} // MPA-34
	}
	rx.r += lenField + s.length()
	rx.seg, rx.ulpdu, rx.size = s, n, n-s.length()
	if c, bad := rx.check(&rx.seg); bad {
		return rx.offence(c)
	}
	rx.observe(&rx.seg, rx.size)
	return nil
}

// offence is a mistake of the peer's in the current segment.
func (rx *receiver) offence(c cause) error {
	return &protocolError{c, &offender{valid: true, seg: rx.seg, ulpdu: rx.ulpdu}}
}

// check tests versions, opcode and queue, which depend on no state.
func (rx *receiver) check(s *segment) (cause, bool) {
	switch {
	case s.ddp&ddpVerMask != ddpVersion && s.tagged():
		return causeTaggedVersion, true
	case s.ddp&ddpVerMask != ddpVersion:
		return causeUntaggedVersion, true
	case !s.tagged() && s.qn > queueTerminate:
		return causeQN, true
	case s.rdmap&rdmapVerMask != rdmapVersion && s.rdmap&rdmapVerMask != 0: // RDMAP-02
		return causeVersion, true
	case s.op() > opTerminate:
		return causeOpcode, true
	case s.tagged() != (s.op() == opWrite || s.op() == opReadResponse): // RDMAP-05
		return causeOpcode, true
	}
	if !s.tagged() {
		qn := uint32(queueSend)
		switch s.op() {
		case opReadRequest:
			qn = queueReadReq
		case opTerminate:
			qn = queueTerminate
		}
		if s.qn != qn {
			return causeQN, true
		}
	}
	return cause{}, false
}

// segment checks the current segment against the state of its kind, and says where its
// payload goes, if it is not that of a request, which is taken.
func (rx *receiver) segment() error {
	s, payload := &rx.seg, rx.size
	rx.to, rx.left = nil, 0
	switch s.op() {
	case opWrite:
		if payload == 0 {
			return nil // DDP-08: no check of STag and TO
		}
		r, gen, _, a := rx.q.pd.Remote(rx.q, s.stag, s.to, uint64(payload), soft.RemoteWrite)
		if a != soft.AccessOK {
			return rx.offence(writeCauses[a])
		}
		piped := r.Piped()
		r.Unpin()
		rx.writeDst = target{region: r, gen: gen, addr: s.to, piped: piped}
		rx.to, rx.left = &rx.writeDst, payload
		return nil
	case opReadResponse:
		if c, bad := rx.startRead(s, payload); bad {
			return rx.offence(c)
		}
		rx.to, rx.left = &rx.sinkDst, payload
		return nil
	case opReadRequest:
		if c, bad := rx.checkReadRequest(s, payload); bad {
			return rx.offence(c)
		}
		if err := rx.fill(payload, payload); err != nil {
			return err
		}
		return rx.readRequest(s, rx.ulpdu)
	case opTerminate:
		if err := rx.fill(min(payload, 4), 0); err != nil {
			return err
		}
		c, ok := parseTerminate(rx.stage[rx.r : rx.r+min(payload, 4)])
		rx.q.terminated(c, ok)
		return errTerminated
	}
	c, bad, err := rx.startSend(s, payload)
	if err != nil {
		return err
	}
	if bad {
		return rx.offence(c)
	}
	rx.to, rx.left = &rx.recvDst, payload
	return nil
}

// payload places the rest of the current segment.
func (rx *receiver) payload() error {
	err := rx.place(rx.to, rx.ulpdu, rx.seg.last())
	switch rx.seg.op() {
	case opWrite:
		if err == errRegionGone {
			return rx.offence(causeTaggedSTag)
		}
		if err == nil {
			rx.q.peerWrote.Add(uint64(rx.size))
		}
	case opReadResponse:
		if err == errRegionGone {
			rx.q.failRead(rx.readSeq, rx.broken)
			return &protocolError{cause: causeLocal}
		}
	default:
		if err == errRegionGone {
			return rx.failReceive(ntstatus.AccessViolation, uint32(rx.broken), &protocolError{cause: causeLocal})
		}
	}
	return err
}

var writeCauses = [...]cause{
	soft.AccessToken: causeTaggedSTag, soft.AccessBounds: causeTaggedBounds, soft.AccessRight: causeTaggedSTag,
	soft.AccessStream: causeTaggedStream, soft.AccessWrap: causeTaggedWrap,
}

// failRead notes that the sink of a Read of our own is not there.
func (q *qp) failRead(seq uint32, broken ndk.Rule) {
	q.mu.Lock()
	if wr := q.wr(seq); !q.flushWanted {
		wr.status, wr.perr = ntstatus.AccessViolation, uint32(broken)
	}
	q.mu.Unlock()
}

// checkReadRequest checks a Read Request as far as it can be without its payload.
func (rx *receiver) checkReadRequest(s *segment, payload int) (c cause, bad bool) {
	switch {
	case payload < readRequestLen:
		return causeMPALen, true
	case s.msn != rx.readMSN:
		return causeMSN, true
	case s.mo != 0:
		return causeMO, true
	case payload > readRequestLen || !s.last():
		return causeTooLong, true
	}
	return cause{}, false
}

// readRequest queues a Read Request; its payload is at stage[r:].
func (rx *receiver) readRequest(s *segment, ulpdu int) error {
	req := parseReadRequest(rx.stage[rx.r:])
	rx.r += readRequestLen
	rx.readMSN++
	q := rx.q
	if req.size > 0 {
		r, _, _, a := q.pd.Remote(q, req.srcSTag, req.srcTO, uint64(req.size), soft.RemoteRead)
		if a != soft.AccessOK {
			return &protocolError{readCauses[a], &offender{valid: true, seg: *s, ulpdu: ulpdu, hasRead: true, read: req}}
		}
		r.Unpin()
	}
	q.mu.Lock()
	// The peer may have seen the end of a Response, and asked for more, before we
	// have noted that TCP took it: those in the batch on its way count no more.
	waiting := q.jobCount
	if q.batch != nil {
		waiting -= q.batch.jobs
	}
	if waiting >= q.ird {
		q.mu.Unlock()
		return &protocolError{causeNoBuffer, &offender{valid: true, seg: *s, ulpdu: ulpdu}} // RDMAP-16
	}
	q.jobs[(q.jobHead+q.jobCount)%len(q.jobs)] = readJob{req, *s}
	q.jobCount++
	// In the first FPDU it may still be fenced off; accepted kicks then.
	if !q.fenced {
		rx.kicked = true
		q.kickLocked()
	}
	q.mu.Unlock()
	return nil
}

// startRead checks a segment of a Read Response against the oldest Read on the
// wire (RDMAP-10).
func (rx *receiver) startRead(s *segment, payload int) (c cause, bad bool) {
	q := rx.q
	if !rx.inRead {
		q.mu.Lock()
		if q.readsOut == 0 {
			q.mu.Unlock()
			return causeUnsolicited, true
		}
		rx.readSeq = q.reads[q.readHead]
		wr := q.wr(rx.readSeq)
		rx.readTO, rx.readLen, rx.readOff = wr.sinkTO, wr.length, 0
		n := copy(rx.sinkBuf[:], q.wrSGEs(rx.readSeq))
		q.mu.Unlock()
		rx.sinkDst = target{sges: rx.sinkBuf[:n]}
		rx.inRead = true
	}
	switch {
	case rx.readLen == 0 && payload == 0 && s.last():
		return cause{}, false
	case s.stag != q.sinkSTag:
		return causeTaggedSTag, true
	case s.to != rx.readTO+uint64(rx.readOff), uint64(payload) > uint64(rx.readLen-rx.readOff),
		s.last() != (rx.readOff+uint32(payload) == rx.readLen):
		return causeTaggedBounds, true
	}
	return cause{}, false
}

// finish ends a segment whose octets are all there.
func (rx *receiver) finish(s *segment, payload int) error {
	switch s.op() {
	case opReadResponse:
		rx.readOff += uint32(payload)
		if s.last() {
			rx.inRead = false
			rx.completeRead()
		}
	case opSend, opSendSE, opSendInval, opSendSEInval:
		if !rx.inSend { // the ready-to-receive message
			rx.msn++
			return nil
		}
		rx.mo += uint32(payload)
		if !s.last() {
			return nil
		}
		rx.inSend = false
		rx.msn++
		e := ndk.ResultEx{Result: ndk.Result{Bytes: rx.mo}, Type: ndk.OpReceive}
		rx.mo = 0
		if s.op() == opSendInval || s.op() == opSendSEInval {
			if !rx.q.pd.InvalidateRemote(rx.q, s.stag) {
				off := &offender{valid: true, seg: *s, ulpdu: payload + untaggedLen}
				return rx.failReceive(ntstatus.InvalidDeviceRequest, reason(causeInvalidate, true), &protocolError{causeInvalidate, off})
			}
			e.Type, e.InvalidatedToken = ndk.OpReceiveAndInvalidate, ndk.Token(s.stag)
		}
		rx.completeReceive(e, s.op() == opSendSE || s.op() == opSendSEInval)
	}
	return nil
}

// completeRead ends the oldest Read on the wire.
func (rx *receiver) completeRead() {
	q := rx.q
	q.mu.Lock()
	wr := q.wr(rx.readSeq)
	if wr.flags&ndk.RDMAReadLocalInvalidate != 0 && wr.nsge > 0 {
		token := rx.sinkBuf[0].Token
		q.mu.Unlock()
		q.pd.InvalidateLocal(token)
		q.mu.Lock()
		wr = q.wr(rx.readSeq)
	}
	wr.done = true
	rx.news = true
	q.readHead = (q.readHead + 1) % q.ord
	q.readsOut--
	q.reading.Store(int32(q.readsOut))
	fire := q.completeLocked()
	if q.next != q.tail {
		rx.kicked = true
		q.kickLocked() // it may have waited for this
	}
	q.mu.Unlock()
	if fire {
		rx.fire(q.icq)
	}
}

// observe learns from a segment how the peer cuts its stream.
func (rx *receiver) observe(s *segment, payload int) {
	switch {
	case !s.tagged():
	case payload >= directMin:
		rx.fine = false
	case !s.last():
		rx.fine = true
	}
	if rx.quiet++; s.tagged() {
		rx.wary, rx.quiet = true, 0
	}
	if rx.tiny++; payload >= tinyPayload {
		rx.tiny = 0
	}
}

// careful reports whether payload that has a place of its own may be next in the
// stream, and is worth a call of its own: no more than the header in front of it
// is then read into the stage. Where there was one transfer there will be more,
// so it does not go back and forth with each registration: one that is made
// between this answer and the call to the kernel would come too late. But when many
// messages have come and no transfer, and nothing is registered for one, it ends.
func (rx *receiver) careful() bool {
	q := rx.q
	if q.crc {
		return false
	}
	open := q.reading.Load() > 0 || q.pd.PeerMayWrite()
	if open {
		rx.wary, rx.quiet = true, 0
	}
	rx.wary = rx.wary && rx.quiet < maxQuiet
	return rx.wary && !rx.fine && rx.tiny < maxPatience
}

// place moves the octets of payload that are left to t: what is in the stage by copy,
// much of the rest straight from the socket.
func (rx *receiver) place(t *target, ulpdu int, last bool) error {
	for rx.left > 0 {
		n := rx.left
		if k := min(n, rx.w-rx.r); k > 0 {
			if !rx.copyTo(t, rx.stage[rx.r:rx.r+k]) {
				return errRegionGone
			}
			rx.r += k
			rx.left -= k
			continue
		}
		rx.r, rx.w = 0, 0
		var err error
		rx.least = padLen(ulpdu) + crcField + nextHeader
		if n >= directMin || rx.careful() {
			rx.ahead = rx.least
			if last {
				rx.ahead = stageSmall
			}
			rx.direct = n
			if err = rx.readSocket(t); err == nil {
				rx.left -= min(n, rx.n)
			}
		} else {
			rx.ahead = rx.room()
			rx.least += n
			err = rx.readSocket(nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// room is how much a read into the stage asks for.
func (rx *receiver) room() int {
	if rx.bulk {
		return min(stageSmall, len(rx.stage)-rx.w)
	}
	return len(rx.stage) - rx.w
}

// fill makes at least n octets lie in stage[r:w]. Behind careful octets payload
// may begin that is not to be read along.
func (rx *receiver) fill(n, careful int) error {
	for rx.w-rx.r < n {
		if rx.r == rx.w {
			rx.r, rx.w = 0, 0
		} else if rx.r+n > len(rx.stage) {
			rx.w = copy(rx.stage, rx.stage[rx.r:rx.w])
			rx.r = 0
		}
		if n > len(rx.stage) {
			rx.enlarge()
		}
		rx.ahead = max(rx.room(), n-(rx.w-rx.r))
		rx.least = min(max(n, careful)-(rx.w-rx.r), len(rx.stage)-rx.w)
		if err := rx.readSocket(nil); err != nil {
			return err
		}
		if rx.n == rx.ahead && rx.ahead != rx.least && !rx.bulk && rx.big == nil {
			rx.enlarge() // the peer sends more than the small stage takes at once
		}
	}
	return nil
}

// enlarge takes a big stage from the pool.
func (rx *receiver) enlarge() {
	if rx.big != nil {
		return
	}
	rx.big = stagePool.Get().(*[stageBig]byte)
	rx.w = copy(rx.big[:], rx.stage[rx.r:rx.w])
	rx.r = 0
	rx.stage = rx.big[:]
}

// reduce gives the big stage back, if it is empty.
func (rx *receiver) reduce() {
	if rx.big != nil && rx.r == rx.w {
		rx.stage = rx.small
		rx.r, rx.w = 0, 0
		stagePool.Put(rx.big)
		rx.big = nil
	}
}

// readSocket reads up to rx.direct octets to t and up to rx.ahead behind them
// into the stage. rx.n is how many came in all.
func (rx *receiver) readSocket(t *target) error {
	rx.notify()
	if rx.polled && (rx.news || rx.taken >= pollOctets) {
		return errAgain // who runs this is waited for, or waits himself
	}
	if t == nil {
		rx.direct = 0
	}
	rx.dst, rx.err, rx.again = t, nil, false
	if rx.q.conn.ReadOverdue() {
		return os.ErrDeadlineExceeded
	}
	step := rx.readFn
	if t != nil && t.piped {
		step = rx.pipeFn
	}
	if err := rx.q.raw.Read(step); err != nil {
		return err
	}
	switch {
	case rx.again:
		return errAgain
	case rx.err != nil:
		return rx.err
	}
	rx.moved = true
	if rx.polled {
		rx.taken += rx.n
	}
	if t != nil {
		k := min(rx.n, rx.direct)
		t.advance(k)
		rx.w += rx.n - k
	} else {
		rx.w += rx.n
	}
	return nil
}

// read is the body of readSocket. The regions are looked up and pinned anew for
// each call to the kernel, which does not wait.
func (rx *receiver) read(fd uintptr) bool {
	for {
		n := 0
		if rx.direct > 0 {
			if n = rx.pinIOV(); n < 0 {
				rx.err = errRegionGone
				return true
			}
		}
		if rx.ahead > rx.least && rx.careful() {
			rx.ahead = rx.least
		}
		if rx.ahead > 0 {
			rx.iov[n].Base = &rx.stage[rx.w]
			rx.iov[n].SetLen(rx.ahead)
			n++
		}
		k, errno := readv(fd, &rx.iov[0], n)
		if d := rx.q.tapped; d != nil && (d.rx.on || d.fresh) && errno == 0 {
			d.received(rx, k)
		}
		for i := range rx.npins {
			rx.pins[i].Unpin()
			rx.pins[i] = nil
		}
		rx.npins = 0
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			rx.tiny, rx.again = 0, true
		case errno != 0:
			rx.err = errno
		case k == 0:
			rx.err = io.ErrUnexpectedEOF
		}
		rx.n = k
		return true
	}
}

// pinIOV points iov at the next rx.direct octets of rx.dst; -1 if they are gone.
func (rx *receiver) pinIOV() int {
	t := rx.dst
	if t.region != nil {
		if !t.region.Repin(t.gen) {
			return -1
		}
		rx.pins[0], rx.npins = t.region, 1
		mem, ok := t.region.Within(t.addr, uint64(rx.direct))
		if !ok {
			t.region.Unpin()
			rx.npins = 0
			return -1
		}
		rx.iov[0].Base = unsafe.SliceData(mem)
		rx.iov[0].SetLen(len(mem))
		return 1
	}
	n, left, off := 0, uint32(rx.direct), t.off
	for i := t.idx; left > 0; i++ {
		if i == len(t.sges) {
			panic("iwarp: payload beyond the buffers it was checked against")
		}
		k := min(left, t.sges[i].Len-off)
		if k > 0 {
			r, _, mem, broken := rx.q.pd.Local(t.sges[i].Token, t.sges[i].Addr+uint64(off), uint64(k), soft.LocalWrite)
			if mem == nil {
				rx.broken = broken
				for j := range rx.npins {
					rx.pins[j].Unpin()
					rx.pins[j] = nil
				}
				rx.npins = 0
				return -1
			}
			rx.pins[rx.npins] = r
			rx.npins++
			rx.iov[n].Base = unsafe.SliceData(mem)
			rx.iov[n].SetLen(len(mem))
			n++
			left -= k
		}
		off = 0
	}
	return n
}

// advance moves on by n octets.
func (t *target) advance(n int) {
	if t.region != nil {
		t.addr += uint64(n)
		return
	}
	left := uint32(n)
	for left > 0 {
		k := min(left, t.sges[t.idx].Len-t.off)
		t.off += k
		left -= k
		if t.off == t.sges[t.idx].Len {
			t.idx++
			t.off = 0
		}
	}
}

// copyTo copies p to t; false if the memory is gone.
func (rx *receiver) copyTo(t *target, p []byte) bool {
	rx.copied += len(p)
	if t.region != nil {
		if !t.region.Repin(t.gen) {
			return false
		}
		if t.piped {
			n := rx.fillPipe(t, p)
			t.addr += uint64(n)
			p = p[n:]
		}
		mem, ok := t.region.Within(t.addr, uint64(len(p)))
		if ok {
			copy(mem, p)
			t.addr += uint64(len(p))
		}
		t.region.Unpin()
		return ok
	}
	for len(p) > 0 {
		e := t.sges[t.idx]
		k := min(uint32(len(p)), e.Len-t.off)
		if k > 0 {
			r, _, mem, broken := rx.q.pd.Local(e.Token, e.Addr+uint64(t.off), uint64(k), soft.LocalWrite)
			if mem == nil {
				rx.broken = broken
				return false
			}
			copy(mem, p[:k])
			r.Unpin()
			p = p[k:]
		}
		if t.off += k; t.off == e.Len {
			t.idx++
			t.off = 0
		}
	}
	return true
}

// discard reads and drops until the stream ends or until; late is set if that
// came first.
func (rx *receiver) discard(until time.Time) (late bool) {
	rx.q.mu.Lock()
	if !rx.q.hardClose { // or it ends at once, by the deadline that is set
		_ = rx.q.conn.SetReadDeadline(until)
	}
	rx.q.mu.Unlock()
	rx.bulk = false
	for {
		rx.r, rx.w, rx.ahead, rx.least = 0, 0, len(rx.stage), len(rx.stage)
		err := rx.readSocket(nil)
		if err == errAgain {
			err = rx.q.conn.WaitIn()
		}
		if err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}
