package ndkhook

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// qp wraps an ndk.QP. The provider has it as QPContext, if requests have records.
type qp struct {
	object
	in      ndk.QP
	ctx     any // the consumer's QPContext
	tracked bool
	recv    lane
	init    lane
	srq     *lane  // where receives come from; nil without an SRQ
	taken   uint64 // guarded by srq.mu: seq of the newest that completed
}

const funcWriteFile = "WriteFile"

// CreateQP implements ndk.PD.
func (p *pd) CreateQP(ctx context.Context, c ndk.QPConfig) (ndk.QP, error) {
	return p.createQP("CreateQP", c, nil, func(c ndk.QPConfig) (ndk.QP, error) { return p.in.CreateQP(ctx, c) })
}

// CreateQPWithSRQ implements ndk.PD.
func (p *pd) CreateQPWithSRQ(ctx context.Context, c ndk.QPConfig, shared ndk.SRQ) (ndk.QP, error) {
	s, _ := own[*srq](p.a, shared)
	return p.createQP("CreateQPWithSRQ", c, s, func(c ndk.QPConfig) (ndk.QP, error) { return p.in.CreateQPWithSRQ(ctx, c, shared) })
}

func (p *pd) createQP(fn string, c ndk.QPConfig, s *srq, create func(ndk.QPConfig) (ndk.QP, error)) (ndk.QP, error) {
	if err := p.enter(fn); err != nil {
		return nil, err
	}
	a := p.a
	q := &qp{ctx: c.QPContext}
	rcq, ok1 := own[*cq](a, c.ReceiveCQ)
	icq, ok2 := own[*cq](a, c.InitiatorCQ)
	// Completions that do not come by a CQ of this layer are none of its business.
	q.tracked = a.track && ok1 && ok2
	if q.tracked {
		c.QPContext = q
	}
	in, err := create(c)
	if err != nil {
		return nil, p.leave(fn, err)
	}
	q.in = in
	parents := []*object{&p.object}
	q.recv.o, q.recv.q, q.recv.name = &q.object, q, "receive"
	q.init.o, q.init.q, q.init.name = &q.object, q, "initiator"
	if q.tracked {
		parents = append(parents, &rcq.object, &icq.object)
		q.recv.cq, q.init.cq = rcq, icq
	}
	if s != nil {
		parents = append(parents, &s.object)
		q.srq = &s.lane
	}
	a.adopt(&q.object, ndk.ObjectQP, in, parents...)
	switch {
	case !a.cfg.Audit:
	case q.tracked:
		rcq.attach(&q.recv)
		icq.attach(&q.init)
		if s != nil {
			s.attach(rcq)
		}
	default:
		a.report.add("%v: made with a CQ that does not come from this layer", q.id)
	}
	p.left(fn, nil, q.id)
	return q, nil
}

// post is a post under way.
type post struct {
	l    *lane
	r    *request // nil if it has no record
	rc   any      // for the provider
	late bool
	call Call
}

// begin begins a post to l. An error takes the place of the post.
func (l *lane) begin(fn string, op ndk.OpType, rc any, f ndk.OpFlags, length uint64, tracked bool) (post, error) {
	a := l.o.a
	p := post{l: l, rc: rc, late: l.o.shut.Load()}
	p.call = Call{Adapter: a.cfg.Name, Object: l.o.id, Func: fn, Post: true, RequestContext: rc, Flags: f, Length: length}
	if a.cfg.Fault != nil {
		if err := a.cfg.Fault(p.call); err != nil {
			err = postFault(err)
			if t := a.cfg.Trace; t != nil {
				t(Event{Type: Called, Call: p.call})
				t(Event{Type: Returned, Call: p.call, Err: err})
			}
			return post{}, err
		}
	}
	if tracked {
		p.r = &request{rc: rc, op: op, flags: f, length: length, fn: fn}
		l.add(p.r)
		p.rc = p.r
		p.call.Request = p.r.seq
	}
	if t := a.cfg.Trace; t != nil {
		t(Event{Type: Called, Call: p.call})
	}
	return p, nil
}

// end ends the post; it returns err.
func (p *post) end(err error) error {
	if p.r != nil {
		p.l.settle(p.r, err, p.late)
	} else if err == nil && p.l.o.a.cfg.Fault != nil {
		p.l.mu.Lock()
		p.l.deferred = p.call.Flags&ndk.Defer != 0
		p.l.mu.Unlock()
	}
	if t := p.l.o.a.cfg.Trace; t != nil {
		t(Event{Type: Returned, Call: p.call, Err: err})
	}
	return err
}

// call is the call that made r.
func (r *request) call() Call {
	o := r.lane.o
	return Call{Adapter: o.a.cfg.Name, Object: o.id, Func: r.fn, Post: true, Request: r.seq, RequestContext: r.rc, Flags: r.flags, Length: r.length}
}

// length is the number of bytes of an SGL.
func length(sgl []ndk.SGE, f ndk.OpFlags) uint64 {
	var n uint64
	for i := range sgl {
		if f&ndk.Inline != 0 && sgl[i].Inline != nil {
			n += uint64(len(sgl[i].Inline))
		} else {
			n += uint64(sgl[i].Length)
		}
	}
	return n
}

// begin begins a post to the initiator queue.
func (q *qp) begin(fn string, op ndk.OpType, rc any, f ndk.OpFlags, n uint64) (post, error) {
	p, err := q.init.begin(fn, op, rc, f, n, q.tracked)
	if err != nil {
		q.undefer()
	}
	return p, err
}

// undefer makes the provider hand on what was deferred, as it does before it
// refuses a post: by a post that it refuses, for a flag that Send does not take.
func (q *qp) undefer() {
	l := &q.init
	l.mu.Lock()
	deferred := l.deferred
	l.deferred = false
	l.mu.Unlock()
	if deferred {
		_ = q.in.Send(nil, nil, ndk.AllowRemoteRead)
	}
}

// Receive implements ndk.QP.
func (q *qp) Receive(rc any, sgl []ndk.SGE) error {
	if q.a.plain {
		return q.in.Receive(rc, sgl)
	}
	p, err := q.recv.begin("Receive", ndk.OpReceive, rc, 0, length(sgl, 0), q.tracked)
	if err != nil {
		return err
	}
	return p.end(q.in.Receive(p.rc, sgl))
}

// Send implements ndk.QP.
func (q *qp) Send(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
	if q.a.plain {
		return q.in.Send(rc, sgl, f)
	}
	p, err := q.begin("Send", ndk.OpSend, rc, f, length(sgl, f))
	if err != nil {
		return err
	}
	return p.end(q.in.Send(p.rc, sgl, f))
}

// SendAndInvalidate implements ndk.QP.
func (q *qp) SendAndInvalidate(rc any, sgl []ndk.SGE, f ndk.OpFlags, remote ndk.Token) error {
	if q.a.plain {
		return q.in.SendAndInvalidate(rc, sgl, f, remote)
	}
	p, err := q.begin("SendAndInvalidate", ndk.OpSend, rc, f, length(sgl, f))
	if err != nil {
		return err
	}
	return p.end(q.in.SendAndInvalidate(p.rc, sgl, f, remote))
}

// Read implements ndk.QP.
func (q *qp) Read(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	if q.a.plain {
		return q.in.Read(rc, sgl, remoteAddr, remote, f)
	}
	p, err := q.begin("Read", ndk.OpRead, rc, f, length(sgl, f))
	if err != nil {
		return err
	}
	return p.end(q.in.Read(p.rc, sgl, remoteAddr, remote, f))
}

// Write implements ndk.QP.
func (q *qp) Write(rc any, sgl []ndk.SGE, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	if q.a.plain {
		return q.in.Write(rc, sgl, remoteAddr, remote, f)
	}
	p, err := q.begin("Write", ndk.OpWrite, rc, f, length(sgl, f))
	if err != nil {
		return err
	}
	return p.end(q.in.Write(p.rc, sgl, remoteAddr, remote, f))
}

// Bind implements ndk.QP.
func (q *qp) Bind(rc any, mr ndk.MR, mw ndk.MW, va, n uint64, f ndk.OpFlags) error {
	if q.a.plain {
		return q.in.Bind(rc, mr, mw, va, n, f)
	}
	p, err := q.begin("Bind", ndk.OpBind, rc, f, n)
	if err != nil {
		return err
	}
	return p.end(q.in.Bind(p.rc, mr, mw, va, n, f))
}

// FastRegister implements ndk.QP.
func (q *qp) FastRegister(rc any, mr ndk.MR, pages []ndk.LogicalAddress, fbo uint32, n, base uint64, f ndk.OpFlags) error {
	if q.a.plain {
		return q.in.FastRegister(rc, mr, pages, fbo, n, base, f)
	}
	p, err := q.begin("FastRegister", ndk.OpFastRegister, rc, f, n)
	if err != nil {
		return err
	}
	return p.end(q.in.FastRegister(p.rc, mr, pages, fbo, n, base, f))
}

// Invalidate implements ndk.QP.
func (q *qp) Invalidate(rc any, target ndk.Invalidatable, f ndk.OpFlags) error {
	if q.a.plain {
		return q.in.Invalidate(rc, target, f)
	}
	p, err := q.begin("Invalidate", ndk.OpInvalidate, rc, f, 0)
	if err != nil {
		return err
	}
	return p.end(q.in.Invalidate(p.rc, target, f))
}

// Flush implements ndk.QP.
func (q *qp) Flush() {
	q.note("Flush")
	q.in.Flush()
}

// Extension implements ndk.Object. The posts of a FileWriter are in the books
// like those of the QP; other extensions are passed on as they are.
func (q *qp) Extension(id ndk.GUID, v ndk.Version) (any, error) {
	x, err := q.object.Extension(id, v)
	if w, ok := x.(ndk.FileWriter); ok && err == nil && id == ndk.FileWriterExtension {
		return &fileWriter{q: q, in: w}, nil
	}
	return x, err
}

// fileWriter wraps the ndk.FileWriter of a QP.
type fileWriter struct {
	q  *qp
	in ndk.FileWriter
}

// WriteFile implements ndk.FileWriter.
func (w *fileWriter) WriteFile(rc any, r ndk.FileRange, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	if w.q.a.plain {
		return w.in.WriteFile(rc, r, remoteAddr, remote, f)
	}
	p, err := w.q.begin(funcWriteFile, ndk.OpWrite, rc, f, uint64(r.Length))
	if err != nil {
		return err
	}
	return p.end(w.in.WriteFile(p.rc, r, remoteAddr, remote, f))
}
