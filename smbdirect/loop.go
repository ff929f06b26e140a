package smbdirect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// class is the share of the initiator queue that a request counts on.
type class uint8

const (
	classSend class = iota
	classWrite
	classRead
	classRegister
	classes
)

// entry is a request in the initiator queue. Entries complete in the order of
// their posts; one that succeeds in silence is known to be complete when a later
// one is.
type entry struct {
	class class
	file  bool
	slot  int32 // send buffer; -1 for none
	bytes uint32
	req   *request // nil if nobody waits
}

// slot is a receive buffer.
type slot struct {
	region *region
	off    int
	size   int
	index  int32 // in recvSlots; -1 for the negotiation's
}

// work is a request that is about to be posted.
type work struct {
	op         ndk.OpType
	entry      *entry
	sge        ndk.SGE
	addr       uint64
	token      ndk.Token
	invalidate bool // of a send
	file       ndk.FileRange
	mr         ndk.MR
	signal     bool
}

// loop is the state of a connection that belongs to its owner, see drive.go.
type loop struct {
	eng    *core.Engine
	rec    recorder
	tally  tally
	at     time.Duration // of the last look at the clock
	deadAt time.Duration // when dead was set
	timer  *time.Timer
	report bool // the credits changed
	params Parameters
	armed  bool

	page     *region // for the negotiation
	slab     *region // send buffers, then receive buffers
	negotiat slot
	sendSize int // stride of send buffers
	sendFree []int32
	slots    []slot
	recvFree []int32

	sends   list // messages in the engine's queue; the first is being sent
	waiting list // those that it had no place for
	lastID  uint64
	cur     *message // being reassembled
	curLen  int
	// complete are the messages of the batch that is being polled.
	complete []*message

	writes, reads, regs list // transfers and registrations to be posted
	holding             bool // the engine was told to hold

	queue     []entry // ring: the initiator queue
	head, n   int
	depth     [classes]int
	out       [classes]int
	moved     time.Duration // when a transfer was completed, or posted as the only one
	stall     *time.Timer   // looks at moved
	watching  bool          // stall runs
	silent    [classes]int  // posted in a row without a signal
	sendsDone int           // not told to the engine yet

	flushed   list // requests that the adapter flushed
	wait      bool // for the disconnect event
	waitUntil time.Duration

	held    work // posted when it is known whether another follows
	hasHeld bool
	// lazy: nobody is to wait for what is kept back, but for a Flush; keptBytes are those
	// of messages that the adapter was not told to send yet.
	lazy      bool
	keptBytes int

	results [64]ndk.ResultEx
	sgl     [1]ndk.SGE

	dead     bool
	graceful bool
	ran      bool // run was called: there was a connection
}

// enoughKept is how many bytes of messages are kept back at most, but for one.
const enoughKept = 64 << 10

// flushPatience is how long the disconnect event may take after the adapter
// flushed.
const flushPatience = time.Second

func (c *Conn) timerDue() {
	if c.l.dead {
		return
	}
	if c.l.wait {
		if left := c.l.waitUntil - c.l.at; left > 0 {
			c.l.timer.Reset(left) // it fired for the engine
			return
		}
		c.die(&LostError{Err: ntstatus.Cancelled}, false)
		return
	}
	l := &c.l
	l.note(evTimer, 0, 0, 0, 0, 0)
	l.eng.TimerDue(l.at)
	c.act()
	c.publish()
}

// poll handles a batch of completions and returns how many there were.
func (c *Conn) poll() int {
	l := &c.l
	n := c.cq.PollEx(l.results[:])
	for i := range n {
		r := &l.results[i]
		if l.dead {
			// What comes after the end is settled by the teardown.
		} else if s, ok := r.RequestContext.(*slot); ok {
			c.received(s, r)
		} else {
			c.completed(r.RequestContext.(*entry), r)
		}
		*r = ndk.ResultEx{}
	}
	if len(l.complete) > 0 && c.deliver() && !l.holding && !l.dead {
		l.holding = true
		l.note(evHold, 1, 0, 0, 0, 0)
		l.eng.Hold(l.at, true)
		c.act()
	}
	if l.sendsDone > 0 && !l.dead {
		k := l.sendsDone
		l.sendsDone = 0
		l.eng.SendCompleted(l.at, k)
		c.act()
	}
	return n
}

// received handles a completed receive.
func (c *Conn) received(s *slot, r *ndk.ResultEx) {
	l := &c.l
	if r.Status != ntstatus.Success {
		if r.Status != ntstatus.Cancelled {
			c.die(&LostError{Err: fmt.Errorf("receive: %w", r.Status)}, false)
		}
		return
	}
	invalidated := r.Type == ndk.OpReceiveAndInvalidate
	if invalidated {
		l.note(evInvalidated, 0, 0, 0, 0, uint32(r.InvalidatedToken))
		l.tally.byPeer++
		c.regs.invalidated(r.InvalidatedToken)
	}
	msg := s.region.mem[s.off : s.off+s.size]
	msg = msg[:min(int(r.Bytes), len(msg))]
	d, ok := l.eng.Received(l.at, msg, uint32(r.InvalidatedToken), invalidated)
	l.countReceive(s, msg)
	if ok {
		c.reassemble(d)
	}
	if s.index >= 0 {
		l.recvFree = append(l.recvFree, s.index)
	}
	c.act()
}

// reassemble copies a fragment out of its receive buffer.
func (c *Conn) reassemble(d core.Delivery) {
	l := &c.l
	if l.cur == nil {
		l.cur = c.dev.messages.get(min(int(d.Total), unprovenMessage))
		l.curLen = 0
	}
	end := l.curLen + len(d.Fragment)
	l.cur = l.cur.room(l.curLen, end, int(d.Total))
	copy(l.cur.buf[l.curLen:], d.Fragment)
	l.curLen = end
	if !d.Last {
		return
	}
	m := l.cur
	l.cur = nil
	m.rx.Data = m.buf[:end:end]
	m.rx.Invalidated, m.rx.HasInvalidated = d.Token, d.HasToken
	l.complete = append(l.complete, m)
}

// take starts a request, or fails it.
func (c *Conn) take(r *request) {
	l := &c.l
	switch {
	case r.kind == reqCancel:
		c.cancel(r.cancels, r.why)
		r.finish(nil)
	case r.kind == reqFlight:
		r.flight = l.snapshot()
		r.finish(nil)
	case l.dead:
		r.finish(c.err())
	case r.kind == reqSend:
		l.waiting.push(r)
		c.submitWaiting()
	case r.kind == reqRead:
		l.reads.push(r)
	case r.kind == reqWrite || r.kind == reqWriteFile:
		l.writes.push(r)
	default:
		l.regs.push(r)
	}
}

// submitWaiting hands messages to the engine as far as its queue has room.
func (c *Conn) submitWaiting() {
	l := &c.l
	for l.waiting.head != nil && l.eng.Queued() < sendQueueDepth && !l.dead {
		r := l.waiting.pop()
		l.lastID++
		r.id = l.lastID
		l.sends.push(r) // before Submit, which may send it
		if err := l.eng.Submit(l.at, r.id, uint32(r.n), r.token, r.hasToken); err != nil {
			l.sends.remove(r)
			r.finish(err)
			continue
		}
		c.act()
	}
}

// cancel gives up a request if nothing of it was posted. A message that was begun
// cannot be taken back: the rest of it is sent from a copy, so that the caller has his
// memory again. Transfers and registrations go on.
func (c *Conn) cancel(r *request, why error) {
	l := &c.l
	switch r.kind {
	case reqSend:
		if l.waiting.remove(r) {
			r.finish(errCancelled)
			return
		}
		if !l.sends.contains(r) {
			return // done already
		}
		if l.eng.Cancel(l.at, r.id) {
			l.sends.remove(r)
			r.finish(errCancelled)
			c.act()
			return
		}
		if l.dead {
			return // the engine may have sent what was not, and the teardown ends all of it
		}
		l.sends.head = r.rest() // it is the first, as no other was begun
		if l.sends.tail == r {
			l.sends.tail = l.sends.head
		}
		r.finish(nil)
	case reqWrite, reqWriteFile:
		if r.pos == 0 && l.writes.remove(r) {
			r.finish(errCancelled)
		}
	case reqRead:
		if r.pos == 0 && l.reads.remove(r) {
			r.finish(errCancelled)
		}
	case reqRegister:
		if r.part0 == 0 && l.regs.remove(r) {
			r.finish(errCancelled)
		}
	case reqInvalidate:
		// Nothing but the end of the connection gives the memory back now.
		if l.regs.contains(r) || r.out > 0 {
			c.die(fmt.Errorf("a deregistration is not waited for: %w", why), false)
		}
	}
}

// act carries out what the engine asks for.
func (c *Conn) act() {
	l := &c.l
	for a, ok := l.eng.Next(); ok; a, ok = l.eng.Next() {
		if l.dead {
			continue
		}
		switch a.Kind {
		case core.PostReceives:
			n := c.postReceives(a.Count, int(a.Size))
			l.note(evPost, 0, 0, 0, uint32(n), a.Size)
			l.eng.Posted(l.at, n)
		case core.SendRequest:
			b, _ := a.Request.AppendBinary(l.page.mem[negotiateSend:negotiateSend])
			c.sendNegotiate(len(b))
		case core.SendResponse:
			l.tally.granted += uint64(a.Response.CreditsGranted)
			b, _ := a.Response.AppendBinary(l.page.mem[negotiateSend:negotiateSend])
			c.sendNegotiate(len(b))
		case core.SendData:
			c.sendData(&a)
		case core.Connected:
			c.connected()
		case core.ArmTimer:
			if l.wait {
				continue
			}
			l.timer.Reset(max(a.At-l.at, 0))
		case core.Terminate:
			c.die(a.Err, a.Graceful)
		}
	}
	l.report = true
}

// countReceive counts and records a message that the engine has looked at.
func (l *loop) countReceive(s *slot, msg []byte) {
	t := &l.tally
	t.receives++
	if s.index < 0 {
		l.noteMessage(evNegotiateRx, msg)
		// The engine took over the grant of a Response, if it was good.
		if h, err := wire.ParseNegotiateResponse(msg); err == nil && l.eng.Connection().Role == core.Active && l.eng.Err() == nil {
			t.gained += uint64(h.CreditsGranted)
		}
		return
	}
	l.noteMessage(evReceive, msg)
	if h, err := wire.ParseDataTransfer(msg); err == nil {
		t.gained += uint64(h.CreditsGranted)
		if h.Flags&wire.FlagResponseRequested != 0 {
			t.keepalivesRecv++
		}
	}
}

// Offsets in the page of the negotiation.
const (
	negotiateSend = core.NegotiateReceiveSize // the message that we send
	pageSize      = negotiateSend + wire.NegotiateResponseSize
)

// postReceives posts up to n receives and returns how many the adapter took: all, if
// the connection is gone.
func (c *Conn) postReceives(n, size int) int {
	l := &c.l
	if l.eng.Connection().Protocol == 0 {
		l.negotiat = slot{region: l.page, size: core.NegotiateReceiveSize, index: -1}
		l.sgl[0] = l.page.sge(0, core.NegotiateReceiveSize)
		if err := c.qp.Receive(&l.negotiat, l.sgl[:]); err != nil {
			return 0
		}
		return 1
	}
	if l.slab == nil && !c.makeSlab(size) {
		return 0
	}
	posted := 0
	for posted < n && len(l.recvFree) > 0 {
		i := l.recvFree[len(l.recvFree)-1]
		s := &l.slots[i]
		l.sgl[0] = s.region.sge(s.off, s.size)
		if err := c.qp.Receive(s, l.sgl[:]); err != nil {
			if errors.Is(err, ntstatus.ConnectionInvalid) {
				c.awaitLoss() // nothing comes any more, with or without receives
				return n
			}
			break
		}
		l.recvFree = l.recvFree[:len(l.recvFree)-1]
		posted++
	}
	return posted
}

// makeSlab allocates the buffers for messages; their sizes are known now.
func (c *Conn) makeSlab(recvSize int) bool {
	l := &c.l
	const line = 64
	round := func(n int) int { return (n + line - 1) &^ (line - 1) }
	sends, recvs := l.depth[classSend], core.ReceiveDepth(uint16(c.cfg.ReceiveCreditMax))
	l.sendSize = round(int(l.eng.Connection().MaxSendSize))
	recvStride := round(recvSize)
	r, err := c.dev.newRegion(context.Background(), sends*l.sendSize+recvs*recvStride, 0, ndk.MRAllowLocalWrite)
	if err != nil {
		c.cfg.Logger.Warn("no memory for a connection", "conn", c.remote, "err", err)
		return false
	}
	l.slab = r
	l.sendFree = make([]int32, sends)
	for i := range l.sendFree {
		l.sendFree[i] = int32(sends - 1 - i)
	}
	l.slots = make([]slot, recvs)
	l.recvFree = make([]int32, recvs)
	for i := range l.slots {
		l.slots[i] = slot{region: r, off: sends*l.sendSize + i*recvStride, size: recvSize, index: int32(i)}
		l.recvFree[i] = int32(recvs - 1 - i)
	}
	return true
}

// sendNegotiate sends the negotiate message of n bytes in the page.
func (c *Conn) sendNegotiate(n int) {
	l := &c.l
	l.tally.sends++
	l.noteMessage(evNegotiateTx, l.page.mem[negotiateSend:negotiateSend+n])
	e := c.newEntry(classSend)
	c.post(&work{op: ndk.OpSend, entry: e, sge: l.page.sge(negotiateSend, n), signal: true})
}

// sendData sends a Data Transfer message; the payload is copied to a send buffer.
func (c *Conn) sendData(a *core.Action) {
	l := &c.l
	i := l.sendFree[len(l.sendFree)-1]
	l.sendFree = l.sendFree[:len(l.sendFree)-1]
	off := int(i) * l.sendSize
	b, _ := a.Header.AppendBinary(l.slab.mem[off : off : off+l.sendSize])
	e := c.newEntry(classSend)
	e.slot = i
	w := &work{op: ndk.OpSend, entry: e, token: ndk.Token(a.Invalidate), invalidate: a.HasInvalidate}
	size := len(b)
	if a.Length > 0 {
		r := l.sends.head
		r.copyTo(l.slab.mem[off+size : off+size+int(a.Length)])
		size += int(a.Length)
		if a.Last {
			l.sends.pop()
			c.stats.sent.Add(1)
			c.stats.sentBytes.Add(uint64(r.n))
			r.finish(nil)
		}
	}
	w.sge = l.slab.sge(off, size)
	w.signal = c.due(classSend)
	l.countSend(a, l.slab.mem[off:off+size])
	c.post(w)
}

// countSend counts and records a Data Transfer message.
func (l *loop) countSend(a *core.Action, msg []byte) {
	t := &l.tally
	t.sends++
	t.granted += uint64(a.Header.CreditsGranted)
	if a.Header.Flags&wire.FlagResponseRequested != 0 {
		t.keepalivesSent++
	}
	l.noteMessage(evSend, msg)
	if a.HasInvalidate {
		l.rec.ring[(l.rec.n-1)%recorderSize].code = 1
	}
}

// connected takes over the results of the negotiation.
func (c *Conn) connected() {
	l := &c.l
	k, p := l.eng.Connection(), l.eng.Profile()
	c.maxSend, c.maxReceive = toInt(k.MaxFragmentedSendSize), toInt(k.MaxFragmentedRecvSize)
	c.maxReadWrite = toInt(k.MaxReadWriteSize)
	c.shortReads = !p.NoShortReads
	if p.MaxDescriptors > 0 && c.role == core.Active && c.regs.maxPart > 0 {
		c.maxReadWrite = min(c.maxReadWrite, p.MaxDescriptors*c.regs.maxPart)
	}
	l.params = Parameters{
		MaxSendSize: int(k.MaxSendSize), MaxFragmentedSendSize: c.maxSend,
		MaxReceiveSize: int(k.MaxReceiveSize), MaxFragmentedRecvSize: c.maxReceive,
		MaxReadWriteSize: c.maxReadWrite, KeepaliveInterval: k.KeepaliveInterval,
		Peer: p.Name, ReadLimit: c.readLimit,
	}
	l.note(evState, 0, uint64(c.maxReadWrite), 0, k.MaxSendSize, k.MaxReceiveSize)
	c.publish()
	close(c.ready)
}

// newEntry appends an entry to the initiator queue. There is room: each class
// keeps to its share.
func (c *Conn) newEntry(k class) *entry {
	l := &c.l
	if l.n == len(l.queue) {
		panic("smbdirect: initiator queue overrun")
	}
	e := &l.queue[(l.head+l.n)%len(l.queue)]
	*e = entry{class: k, slot: -1}
	l.n++
	l.out[k]++
	return e
}

// due says whether the next request of a class is to report its success: often
// enough that its share never fills with silent ones.
func (c *Conn) due(k class) bool {
	l := &c.l
	l.silent[k]++
	if l.silent[k] < max(1, l.depth[k]/4) {
		return false
	}
	l.silent[k] = 0
	return true
}

// post posts w when the next request or flush comes, so that requests that follow
// each other go to the adapter as one chain.
func (c *Conn) post(w *work) {
	c.postHeld(ndk.Defer)
	c.l.held, c.l.hasHeld = *w, true
}

// flush ends the chain.
func (c *Conn) flush() { c.postHeld(0) }

func (c *Conn) postHeld(f ndk.OpFlags) {
	l := &c.l
	if !l.hasHeld || l.wait || l.dead && !l.graceful {
		l.hasHeld = false
		return
	}
	l.hasHeld = false
	w := &l.held
	if f&ndk.Defer == 0 {
		l.keptBytes = 0
	} else {
		l.keptBytes += int(w.sge.Length)
	}
	if !w.signal {
		f |= ndk.SilentSuccess
	}
	l.sgl[0] = w.sge
	var err error
	switch {
	case w.op == ndk.OpSend && w.invalidate:
		err = c.qp.SendAndInvalidate(w.entry, l.sgl[:], f|ndk.SendAndSolicitEvent, w.token)
	case w.op == ndk.OpSend:
		err = c.qp.Send(w.entry, l.sgl[:], f|ndk.SendAndSolicitEvent)
	case w.op == ndk.OpWrite && w.file.File != nil:
		err = c.file.WriteFile(w.entry, w.file, w.addr, w.token, f)
	case w.op == ndk.OpWrite:
		err = c.qp.Write(w.entry, l.sgl[:], w.addr, w.token, f)
	case w.op == ndk.OpRead:
		err = c.qp.Read(w.entry, l.sgl[:], w.addr, w.token, f)
	case w.op == ndk.OpInvalidate:
		err = c.qp.Invalidate(w.entry, w.mr, f)
	}
	l.held = work{}
	if err != nil {
		c.postFailed(err)
	}
}

// postFailed ends the connection: the adapter refused what its limits allow. If
// it did so because the connection is gone, the disconnect event knows better
// why, and messages that came before it are still to be read.
func (c *Conn) postFailed(err error) {
	if errors.Is(err, ntstatus.ConnectionInvalid) {
		c.awaitLoss()
		return
	}
	c.die(&LostError{Err: fmt.Errorf("post: %w", err)}, false)
}

// awaitLoss stops posting until the disconnect event comes, which is near.
func (c *Conn) awaitLoss() {
	if !c.l.wait {
		c.l.wait, c.l.waitUntil = true, c.l.at+flushPatience
		c.l.timer.Reset(flushPatience)
	}
}

// completed handles a completion of the initiator queue: that of e, and with it
// of the silent ones before.
func (c *Conn) completed(e *entry, r *ndk.ResultEx) {
	l := &c.l
	for {
		h := &l.queue[l.head]
		l.head = (l.head + 1) % len(l.queue)
		l.n--
		if h != e {
			c.settle(h, ntstatus.Success, h.bytes)
			if l.n == 0 {
				panic("smbdirect: completion of an unknown request")
			}
			continue
		}
		c.settle(h, r.Status, r.Bytes)
		break
	}
	if r.Status != ntstatus.Cancelled || !l.wait { // one flush is told, not what led to it overwritten
		l.note(evComplete, uint8(r.Type), 0, 0, uint32(r.Status), uint32(l.n))
	}
	switch {
	case r.Status == ntstatus.Success:
	case r.Status == ntstatus.Cancelled:
		// Flushed: the disconnect event, which is near, says why.
		c.awaitLoss()
	case r.Status == ntstatus.IODeviceError && e.file:
		// The file could not be read; the connection goes on if it can.
	default:
		c.die(&LostError{Err: fmt.Errorf("%v: %w", r.Type, r.Status)}, false)
	}
}

// settle accounts for a request that is complete.
func (c *Conn) settle(e *entry, st ndk.Status, bytes uint32) {
	l := &c.l
	l.out[e.class]--
	r := e.req
	e.req = nil
	switch e.class {
	case classSend:
		l.sendsDone++
		if e.slot >= 0 {
			l.sendFree = append(l.sendFree, e.slot)
		}
		return
	case classRead:
		l.moved = c.l.at
		if st == ntstatus.Success {
			c.stats.read.Add(uint64(e.bytes))
			l.tally.reads++
		}
	case classWrite:
		l.moved = c.l.at
		if st != ntstatus.Success {
			break
		}
		c.stats.written.Add(uint64(e.bytes))
		l.tally.writes++
		if e.file {
			r.fromFile += int(bytes)
			c.stats.fromFile.Add(uint64(bytes))
		}
	}
	if r == nil {
		return // a FastRegister: Register did not wait
	}
	r.out--
	switch {
	case st == ntstatus.Success || r.err != nil:
	case st == ntstatus.Cancelled:
		r.err = errFlushed
	default:
		r.err = fmt.Errorf("smbdirect: %v: %w", r.kind, st)
	}
	switch {
	case r.out > 0 || !r.posted():
	case r.err == errFlushed:
		l.flushed.push(r)
	case r.finish(r.err):
		c.woken.Store(true)
	}
}

// errFlushed marks a request that ended with the connection; it gets the error of
// that when it is known.
var errFlushed = errors.New("smbdirect: flushed")

// die ends the connection: everybody who waits is told, and the owner leaves to
// the teardown. cause is nil for Close.
func (c *Conn) die(cause error, graceful bool) {
	l := &c.l
	if l.dead {
		return
	}
	if graceful {
		c.flush()
	}
	if len(l.complete) > 0 {
		c.deliver() // before anybody hears of the end
	}
	l.dead, l.graceful = true, graceful
	l.deadAt, l.rec.cause = l.at, cause
	l.note(evEnd, 0, 0, 0, 0, 0)
	c.publish()
	c.mu.Lock()
	c.cause = &closedError{cause}
	c.mu.Unlock()
	if c.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) {
		c.cfg.Logger.Debug("connection ended", "conn", c.remote, "err", cause, "events", l.snapshot().String())
	}
	close(c.closed)
}

// teardown ends the RDMA connection and frees what belongs to it. Its caller is
// the last owner. Nobody but the callbacks of the provider is left, and they end
// before it does.
func (c *Conn) teardown() {
	l := &c.l
	l.timer.Stop()
	l.stall.Stop()
	c.mu.Lock()
	c.sealed = true
	in := c.inbox
	c.inbox, c.spare = nil, nil
	c.mu.Unlock()
	if c.connector != nil {
		if l.graceful {
			ctx, cancel := context.WithTimeout(context.Background(), c.cfg.CloseTimeout)
			_ = c.connector.Disconnect(ctx) // the connection is gone either way
			cancel()
		}
		c.connector.Close()
	}
	if c.qp != nil {
		c.qp.Close()
		<-c.qp.Closed()
	}
	if c.connector != nil {
		<-c.connector.Closed()
	}
	// From here on nothing of the adapter touches our memory on behalf of this
	// connection, but for what the peer still knows tokens of.
	c.regs.close(c.dev)
	if c.cq != nil {
		c.cq.Close()
		<-c.cq.Closed()
	}
	err := c.err()
	for ; l.n > 0; l.n-- {
		e := &l.queue[l.head]
		l.head = (l.head + 1) % len(l.queue)
		if r := e.req; r != nil {
			e.req = nil
			if r.out--; r.out == 0 && r.posted() {
				r.finish(err) // the others are in a list
			}
		}
	}
	for _, q := range []*list{&l.flushed, &l.waiting, &l.sends, &l.writes, &l.reads, &l.regs} {
		for q.head != nil {
			q.pop().finish(err)
		}
	}
	for _, r := range in {
		if r.kind == reqFlight {
			r.flight = l.snapshot()
		}
		r.finish(err)
	}
	if l.cur != nil {
		l.cur.pool.put(l.cur)
		l.cur = nil
	}
	c.mu.Lock()
	for c.flags.closing && c.recvq.n > 0 {
		m := c.recvq.pop()
		m.pool.put(m)
	}
	c.mu.Unlock()
	if l.slab != nil {
		l.slab.close()
	}
	if l.page != nil {
		l.page.close()
	}
	if c.onClose != nil {
		c.onClose()
	}
	c.tellDeath()
	c.dev.release()
	close(c.done)
}
