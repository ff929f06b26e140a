package sim

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// ready reports whether a message can arrive. If not, it waits for a receive; a
// QP with an SRQ stands in line for one.
func (q *qp) ready() bool {
	if q.srq == nil {
		return !q.w.cfg.WaitForReceive || q.rhead != q.rtail || q.rclosed
	}
	if q.hasTaken {
		return true
	}
	w := q.w
	if _, hit := w.strike(passing{point: PointFatalSRQ, who: q.srq.sub, o1: q.srq, o2: q}); hit {
		if q.srq.Fail() {
			q.srq.Spawn()
		}
		return true // and finds no receive; the QP is about to end
	}
	ok, fire := q.srq.Take(q, &q.taken)
	if fire {
		if d := w.lateness(q.srq.sub, q.srq); d > 0 {
			w.soon(q.srq.Notify, d)
		} else {
			q.srq.Spawn()
		}
	}
	q.hasTaken = ok
	return ok
}

// arrive is the arrival of a packet of a connection that is up.
func (q *qp) arrive(p *packet) {
	w := q.w
	w.note(q.sub, "arrive").text(packetNames[p.kind]).num("n", uint64(p.seq)).num("bytes", uint64(len(p.buf))).end()
	if p.kind == pkTerminate {
		q.terminated(p)
		return
	}
	switch p.kind {
	case pkSend:
		q.message(p)
	case pkWrite:
		r, _, mem, a := q.pd.Remote(q, p.token, p.addr, uint64(len(p.buf)), soft.RemoteWrite)
		if len(p.buf) == 0 && a != soft.AccessOK {
			q.acknowledge(p) // a zero-length Write reaches no memory
			return
		}
		if a != soft.AccessOK {
			q.breakDown(ReasonAccess, p.seq, true)
			return
		}
		copy(mem, p.buf)
		q.a.placed++
		r.Unpin()
		q.acknowledge(p)
	case pkReadRequest:
		q.respond(p)
	case pkReadResponse:
		q.readDone(p)
	case pkAck:
		if wr := q.underWay(p.seq); wr != nil {
			wr.done = true
			q.complete()
		}
	}
}

// placePart places what arrived of a packet whose end is missing: b. Nothing
// completes by it.
func (q *qp) placePart(p *packet, b []byte) {
	switch p.kind {
	case pkWrite:
		// The whole range has to be allowed.
		if r, _, mem, a := q.pd.Remote(q, p.token, p.addr, uint64(len(p.buf)), soft.RemoteWrite); a == soft.AccessOK {
			copy(mem, b)
			q.a.placed++
			r.Unpin()
		}
	case pkReadResponse:
		if wr := q.underWay(p.seq); wr != nil {
			q.scatter(q.wrSGEs(p.seq), b, soft.LocalWrite|soft.ReadSink)
		}
	}
}

// underWay is the request at position s if it has started and is not done.
func (q *qp) underWay(s uint32) *sendWR {
	if s-q.head >= q.next-q.head {
		return nil
	}
	if wr := q.wr(s); !wr.done {
		return wr
	}
	return nil
}

func (q *qp) acknowledge(p *packet) {
	if q.w.cfg.AckedSends {
		a := q.w.packet(pkAck)
		a.seq = p.seq
		q.conn.out().send(a)
	}
}

// message is the arrival of a Send.
func (q *qp) message(p *packet) {
	w := q.w
	var sges []soft.SGE
	var total uint64
	switch {
	case q.srq != nil && q.hasTaken:
		sges, total = q.taken.SGEs, q.taken.Total
	case q.srq == nil && q.rhead != q.rtail && !q.rclosed:
		sges, total = q.recvSGEs(q.rhead), q.recvs[q.rhead&uint32(len(q.recvs)-1)].total
	default:
		q.breakDown(ReasonNoReceive, p.seq, true)
		return
	}
	e := ndk.ResultEx{Type: ndk.OpReceive}
	broken := ndk.Rule(0)
	reason := ReasonReceive
	if w.faulty() {
		if i, hit := w.strike(passing{point: PointReceive, who: q.sub, o1: q, op: ndk.OpReceive}); hit {
			e.Status = i.Status
		}
	}
	if e.Status != ntstatus.Success {
		// It failed.
	} else if uint64(len(p.buf)) > total {
		e.Status, broken = ntstatus.BufferOverflow, ndk.RuleReceiveSize
	} else if broken = q.scatter(sges, p.buf, soft.LocalWrite); broken != 0 {
		e.Status = ntstatus.AccessViolation
	} else if p.invalidate {
		_, bad := w.strike(passing{point: PointInvalidate, who: q.sub, o1: q})
		if bad || !q.pd.InvalidateRemote(q, p.token) {
			e.Status, reason = ntstatus.Cancelled, ReasonToken
		} else {
			e.Type, e.InvalidatedToken = ndk.OpReceiveAndInvalidate, ndk.Token(p.token)
		}
	}
	if e.Status == ntstatus.Success {
		e.Bytes = uint32(len(p.buf))
	} else {
		e.ProviderError = uint32(broken)
	}
	q.completeReceive(&e, p.solicited)
	if e.Status != ntstatus.Success {
		q.breakDown(reason, p.seq, true)
		return
	}
	q.acknowledge(p)
}

// completeReceive ends the oldest receive, or the one that was taken from the
// SRQ.
func (q *qp) completeReceive(e *ndk.ResultEx, solicited bool) {
	e.QPContext = q.ctx
	if q.hasTaken {
		e.RequestContext = q.taken.RequestContext
		q.taken.RequestContext, q.hasTaken = nil, false
	} else {
		r := &q.recvs[q.rhead&uint32(len(q.recvs)-1)]
		e.RequestContext = r.rc
		r.rc = nil
		q.rhead++
	}
	q.w.note(q.sub, "complete").text(e.Type.String()).num("bytes", uint64(e.Bytes)).status(e.Status).end()
	q.rcq.push(q, e, solicited)
}

// respond serves a Read of the peer.
func (q *qp) respond(p *packet) {
	k := q.w.packet(pkReadResponse)
	k.seq = p.seq
	r, _, mem, a := q.pd.Remote(q, p.token, p.addr, uint64(p.length), soft.RemoteRead)
	if a == soft.AccessOK {
		k.buf = append(k.buf, mem...)
		r.Unpin()
	} else if p.length > 0 {
		q.w.free(k)
		q.breakDown(ReasonAccess, p.seq, true)
		return
	}
	q.conn.out().send(k)
}

// readDone is the arrival of the data of a Read.
func (q *qp) readDone(p *packet) {
	wr := q.underWay(p.seq)
	if wr == nil || wr.op != wrRead {
		return
	}
	q.reads--
	sges := q.wrSGEs(p.seq)
	if broken := q.scatter(sges, p.buf, soft.LocalWrite|soft.ReadSink); broken != 0 {
		q.failWR(wr, ntstatus.AccessViolation, broken)
		return
	}
	if wr.flags&ndk.RDMAReadLocalInvalidate != 0 && len(sges) > 0 && q.w.info.Flags&ndk.FlagRDMAReadLocalInvalidate != 0 {
		q.pd.InvalidateLocal(sges[0].Token)
	}
	wr.done = true
	q.complete()
	q.kick()
}

// terminated is the news that the peer ended the connection, and maybe which of
// our requests was the reason.
func (q *qp) terminated(p *packet) {
	c := q.conn
	if p.has {
		if wr := q.underWay(p.seq); wr != nil {
			wr.status = ntstatus.RemoteResources
		}
	}
	c.lost(p.reason, ntstatus.Cancelled)
}
