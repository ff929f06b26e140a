package sim

import (
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// canStart reports whether there is a request that may start now.
func (q *qp) canStart() bool {
	if q.state != qpActive && q.state != qpDraining || q.failing || q.next == q.handed {
		return false
	}
	wr := q.wr(q.next)
	if wr.flags&ndk.ReadFence != 0 && q.reads > 0 {
		return false
	}
	return wr.op != wrRead || q.reads < q.ord
}

// kick schedules the start of the next request, unless it is scheduled.
func (q *qp) kick() {
	if q.w.direct {
		for q.canStart() {
			q.start()
		}
		return
	}
	if !q.canStart() || q.w.s.queued(&q.tx) {
		return
	}
	d := q.w.s.upTo(q.w.cfg.Jitter)
	if i, hit := q.w.strike(passing{point: PointSlow, who: q.sub, o1: q}); hit {
		d += i.Delay
	}
	q.w.s.after(&q.tx, d)
}

// step is the event of a start.
func (q *qp) step() {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	if q.canStart() {
		q.start()
		q.kick()
	}
}

// start executes the next request, as far as that is done on this side.
func (q *qp) start() {
	w := q.w
	s := q.next
	wr := q.wr(s)
	q.next++
	w.note(q.sub, "start").text(opTypes[wr.op].String()).num("n", uint64(s)).num("bytes", uint64(wr.length)).end()
	if w.faulty() {
		if i, hit := w.strike(passing{point: PointInitiator, who: q.sub, o1: q, op: opTypes[wr.op]}); hit {
			wr.status = i.Status
		}
	}
	if wr.status == ntstatus.IODeviceError && wr.op == wrWriteFile {
		wr.done = true // nothing was promised to the peer, so the connection goes on
		q.complete()
		return
	}
	if wr.status != ntstatus.Success {
		q.failWR(wr, wr.status, 0)
		return
	}
	switch wr.op {
	case wrSend, wrSendInvalidate, wrWrite, wrWriteFile:
		q.startSend(s, wr)
	case wrRead:
		q.startRead(s, wr)
	case wrFastRegister:
		q.local(wr, wr.mr.PublishFast(&wr.reg))
	case wrBind:
		q.local(wr, wr.mw.Bind(q, wr.mr.MR, &wr.reg))
	case wrInvalidate:
		if wr.mr != nil {
			q.local(wr, wr.mr.Invalidate(wr.token))
		} else {
			q.local(wr, wr.mw.Invalidate(wr.token))
		}
	}
}

// local ends a request that has nothing to do with the peer.
func (q *qp) local(wr *sendWR, broken ndk.Rule) {
	if broken != 0 {
		q.failWR(wr, ntstatus.InvalidDeviceRequest, broken)
		return
	}
	wr.done = true
	q.complete()
}

// failWR notes that a request failed. Those before it still complete as they
// would; then it does, and the connection ends.
func (q *qp) failWR(wr *sendWR, st ndk.Status, rule ndk.Rule) {
	wr.status, wr.rule, wr.done = st, rule, true
	q.failing = true
	q.complete()
}

func (q *qp) startSend(s uint32, wr *sendWR) {
	w := q.w
	p := w.packet(pkSend)
	if wr.op == wrWrite || wr.op == wrWriteFile {
		p.kind = pkWrite
	}
	p.seq, p.addr, p.token = s, wr.raddr, wr.token
	p.invalidate, p.solicited = wr.op == wrSendInvalidate, wr.flags&ndk.SendAndSolicitEvent != 0
	if wr.flags&ndk.Inline != 0 || wr.op == wrWriteFile {
		p.buf = append(p.buf, wr.buf...)
	} else {
		sges := q.wrSGEs(s)
		// What the adapter itself placed meanwhile, it may have placed there: behind a
		// fence, say.
		if wr.sum != 0 && wr.placed == q.a.placed && q.changed(sges, wr.sum) {
			w.report(fmt.Sprintf("the buffer of a %v on %v%d was changed while it was posted", opTypes[wr.op], q.Kind(), q.sub.n))
		}
		var broken ndk.Rule
		if p.buf, broken = q.gather(p.buf, sges); broken != 0 {
			w.free(p)
			q.failWR(wr, ntstatus.AccessViolation, broken)
			return
		}
	}
	q.conn.out().send(p)
	if !w.cfg.AckedSends {
		wr.done = true
		q.complete()
	}
}

// gather appends what the SGEs name to b.
func (q *qp) gather(b []byte, sges []soft.SGE) ([]byte, ndk.Rule) {
	for _, g := range sges {
		if g.Len == 0 {
			continue
		}
		r, _, mem, broken := q.pd.Local(g.Token, g.Addr, uint64(g.Len), 0)
		if broken != 0 {
			return b, broken
		}
		b = append(b, mem...)
		r.Unpin()
	}
	return b, 0
}

// checkSink is the first rule that the SGEs break as a sink, or 0.
func (q *qp) checkSink(sges []soft.SGE, want soft.Right) ndk.Rule {
	for _, g := range sges {
		if broken := q.pd.CheckLocal(g, want); broken != 0 {
			return broken
		}
	}
	return 0
}

// scatter places b in the SGEs, which are at least as long.
func (q *qp) scatter(sges []soft.SGE, b []byte, want soft.Right) ndk.Rule {
	for _, g := range sges {
		if len(b) == 0 {
			break
		}
		if g.Len == 0 {
			continue
		}
		r, _, mem, broken := q.pd.Local(g.Token, g.Addr, uint64(g.Len), want)
		if broken != 0 {
			return broken
		}
		b = b[copy(mem, b):]
		q.a.placed++
		r.Unpin()
	}
	return 0
}

func (q *qp) startRead(s uint32, wr *sendWR) {
	if broken := q.checkSink(q.wrSGEs(s), soft.LocalWrite|soft.ReadSink); broken != 0 {
		q.failWR(wr, ntstatus.AccessViolation, broken)
		return
	}
	q.reads++
	p := q.w.packet(pkReadRequest)
	p.seq, p.addr, p.token, p.length = s, wr.raddr, wr.token, wr.length
	q.conn.out().send(p)
}

// complete reports what is done, in order, and frees the slots. A request that
// failed ends the connection behind its completion.
func (q *qp) complete() {
	broken := false
	for q.head != q.next {
		wr := q.wr(q.head)
		if !wr.done {
			break
		}
		if wr.status != ntstatus.Success || wr.flags&ndk.SilentSuccess == 0 {
			e := ndk.ResultEx{Type: opTypes[wr.op], ProviderError: uint32(wr.rule)}
			e.Status, e.Bytes, e.QPContext, e.RequestContext = wr.status, wr.bytes, q.ctx, wr.rc
			q.w.note(q.sub, "complete").text(opTypes[wr.op].String()).num("n", uint64(q.head)).status(wr.status).end()
			q.icq.push(q, &e, false)
		}
		st := wr.status
		if st == ntstatus.IODeviceError && wr.op == wrWriteFile {
			st = ntstatus.Success // as far as the connection is concerned
		}
		wr.letGo()
		q.head++
		if st != ntstatus.Success && q.state != qpEnded {
			broken = true
			break
		}
	}
	if broken {
		q.breakDown(ReasonRequest, 0, false)
		return
	}
	q.checkDrained()
}

// breakDown ends the connection because of a request, and tells the peer why:
// with has, that its request seq is to blame.
func (q *qp) breakDown(r Reason, seq uint32, has bool) {
	c := q.conn
	if c == nil || c.wire == nil {
		q.end(ntstatus.Cancelled)
		return
	}
	p := q.w.packet(pkTerminate)
	p.reason, p.seq, p.has = r, seq, has
	q.w.note(c.sub, "send").text("terminate").text(r.String()).end()
	c.out().send(p)
	switch c.state {
	case connConnected:
		c.lost(r, ntstatus.Cancelled)
	case connEnded:
		if c.leaving && !c.flushed {
			c.finishDisconnect(ntstatus.Success, nil)
			return
		}
		c.detach()
		q.end(ntstatus.Cancelled)
	}
}
