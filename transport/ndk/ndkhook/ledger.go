package ndkhook

import (
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// state is how far a request got.
type state uint8

const (
	posting  state = iota // the post has not returned
	accepted              // it was taken
	refused               // it was not
	done                  // its completion was polled
	proved                // silent, and a later completion of its queue was polled
)

// request is the record of one post. The provider has it as RequestContext, the
// consumer's is in rc.
type request struct {
	lane   *lane
	rc     any
	op     ndk.OpType
	flags  ndk.OpFlags
	length uint64
	seq    uint64
	fn     string
	state  state // guarded by lane.mu
}

func (r *request) silent() bool { return r.flags&ndk.SilentSuccess != 0 }

// lane is the book of one queue: that of receives or of initiator requests of
// a QP, or of an SRQ.
type lane struct {
	o    *object // QP or SRQ
	q    *qp     // nil for an SRQ
	cq   *cq     // nil for an SRQ
	name string  // "receive" or "initiator"

	mu       sync.Mutex
	posts    uint64     // guarded by mu, as all below: seq of the newest
	open     []*request // in order of seq; with the audit on
	now      int        // posts that have not returned
	deferred bool       // the newest that was taken is deferred
	blind    bool       // its CQ is closed, or nothing is left to learn: no open ones are kept
}

// add makes the record of a post, before it is handed down: the completion may
// be polled before the post returns.
func (l *lane) add(r *request) {
	audit := l.o.a.cfg.Audit
	r.lane = l
	l.mu.Lock()
	l.posts++
	r.seq = l.posts
	l.now++
	overlap := l.now > 1
	if audit && !l.blind {
		l.open = append(l.open, r)
	}
	l.mu.Unlock()
	if !audit {
		return
	}
	if overlap {
		l.o.a.report.add("%v: the consumer posts twice at the same time to the %s queue", l.o.id, l.name)
	}
}

// settle notes how the post ended.
func (l *lane) settle(r *request, err error, late bool) {
	audit := l.o.a.cfg.Audit
	l.mu.Lock()
	l.now--
	was := r.state
	switch {
	case err == nil:
		l.deferred = r.flags&ndk.Defer != 0
		if was == posting {
			r.state = accepted
		}
	case was == posting:
		r.state = refused
		l.drop(r)
	}
	blind := l.blind
	l.mu.Unlock()
	if !audit {
		return
	}
	if err == nil && l.cq != nil {
		l.cq.expect(1) // may come behind the -1 of the completion
	}
	if err == nil && blind && was == posting && !r.silent() {
		l.o.a.report.unjudged.Add(1)
	}
	switch {
	case err == nil && late:
		l.o.a.report.add("%v: took %s #%d after its Close", l.o.id, r.fn, r.seq)
	case err != nil && was != posting:
		l.o.a.report.add("%v: %s #%d completed though its post was refused with %v", l.o.id, r.fn, r.seq, err)
	}
}

// drop takes r out of the open ones, under mu.
func (l *lane) drop(r *request) {
	for i, o := range l.open {
		if o == r {
			copy(l.open[i:], l.open[i+1:])
			l.open[len(l.open)-1] = nil
			l.open = l.open[:len(l.open)-1]
			return
		}
	}
}

// complete notes the completion of r by QP q with status st.
func (l *lane) complete(r *request, q *qp, st ndk.Status) {
	rep := &l.o.a.report
	var skipped *request
	n, order := 0, false
	l.mu.Lock()
	was := r.state
	switch was {
	case posting, accepted:
		r.state = done
		n = 1
		if l.q == nil {
			order = r.seq < q.taken
			q.taken = max(q.taken, r.seq)
			l.drop(r)
			break
		}
		keep := l.open[:0]
		for _, o := range l.open {
			switch {
			case o.seq > r.seq:
				keep = append(keep, o)
			case o == r:
			case o.silent():
				o.state = proved
				n++
			default:
				skipped = o
				keep = append(keep, o)
			}
		}
		clear(l.open[len(keep):])
		l.open = keep
	case proved:
		r.state = done
	}
	l.mu.Unlock()
	if l.cq != nil {
		l.cq.expect(-n)
	}
	switch was {
	case refused:
		rep.add("%v: %s #%d completed though its post was refused", l.o.id, r.fn, r.seq)
	case done:
		rep.add("%v: %s #%d completed twice", l.o.id, r.fn, r.seq)
	case proved:
		rep.add("%v: %s #%d completed after a later request", l.o.id, r.fn, r.seq)
	}
	if skipped != nil {
		rep.add("%v: %s #%d completed before %s #%d", l.o.id, r.fn, r.seq, skipped.fn, skipped.seq)
	}
	if order {
		rep.add("%v: %v completed %s #%d after one that was posted later", l.o.id, q.id, r.fn, r.seq)
	}
	if r.silent() && st == ntstatus.Success {
		rep.add("%v: %s #%d worked, and completed though it is silent", l.o.id, r.fn, r.seq)
	}
}

// end closes the book of a QP that is closed. With known, its CQ was empty after
// that, so that what is open never completed.
func (l *lane) end(known bool) {
	l.mu.Lock()
	var lost []*request
	for _, r := range l.open {
		if r.silent() {
			r.state = proved
		} else {
			lost = append(lost, r)
		}
	}
	n := len(l.open)
	l.open, l.blind = nil, true
	l.mu.Unlock()
	l.cq.expect(-n)
	rep := &l.o.a.report
	if !known {
		rep.unjudged.Add(uint64(len(lost)))
		return
	}
	for _, r := range lost {
		rep.add("%v: closed, and %s #%d never completed", l.o.id, r.fn, r.seq)
	}
}
