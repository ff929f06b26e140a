package ndktest

import (
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// specimen is a live object of the adapter of side.
type specimen struct {
	ndk.Object
	kind ndk.ObjectKind
	side *Side
}

// specimens connects two sides and returns at least one live object of each kind
// that the adapters offer, in an order in which each comes before its successors.
func (t *T) specimens() (s, p *Side, all []specimen) {
	t.Helper()
	s, p = t.Connected()
	add := func(o ndk.Object, err error) func(kind ndk.ObjectKind) {
		t.Helper()
		s.must(err)
		return func(kind ndk.ObjectKind) {
			all = append(all, specimen{o, kind, s})
			if kind != ndk.ObjectAdapter {
				s.close = append(s.close, o.Close)
			}
		}
	}
	add(s.A, nil)(ndk.ObjectAdapter)
	add(s.PD, nil)(ndk.ObjectPD)
	add(s.RCQ, nil)(ndk.ObjectCQ)
	add(s.ICQ, nil)(ndk.ObjectCQ)
	add(s.MR, nil)(ndk.ObjectMR)
	fast, err := s.PD.CreateMR(s.ctx, true)
	add(fast, err)(ndk.ObjectMR)
	if s.Info.MaxWindowSize > 0 {
		w, err := s.PD.CreateMW(s.ctx)
		add(w, err)(ndk.ObjectMW)
	}
	if s.Info.MaxSRQDepth > 0 {
		q, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
		add(q, err)(ndk.ObjectSRQ)
		qp, err := s.PD.CreateQPWithSRQ(s.ctx, s.QPConfig(), q)
		add(qp, err)(ndk.ObjectQP)
	}
	add(s.QP, nil)(ndk.ObjectQP)
	e, err := s.A.CreateSharedEndpoint(s.ctx, netip.AddrPortFrom(t.Local, 0))
	if err != nil {
		t.Errorf("no shared endpoint: %v", err) // the others can be looked at all the same
	} else {
		add(e, err)(ndk.ObjectSharedEndpoint)
	}
	l, err := s.A.CreateListener(s.ctx, func(c ndk.Connector) { c.Close() })
	add(l, err)(ndk.ObjectListener)
	s.must(l.Listen(s.ctx, netip.AddrPortFrom(t.Local, 0)))
	idle, err := s.A.CreateConnector(s.ctx)
	add(idle, err)(ndk.ObjectConnector)
	add(s.C, nil)(ndk.ObjectConnector)
	all = append(all, specimen{p.C, ndk.ObjectConnector, p}) // one that a listener made
	return s, p, all
}

var _ = row("NDK_FN_QUERY_EXTENSION_INTERFACE", extensionUnknown, extensionTooNew, extensionEverywhere)

// extensions are those that this API defines; the NDK header has none.
var extensions = map[string]ndk.GUID{
	"FileWriter": ndk.FileWriterExtension, "CopyCounter": ndk.CopyCounterExtension, "PeerCounter": ndk.PeerCounterExtension,
	"Poller": ndk.PollerExtension, "Hangup": ndk.HangupExtension, "Piper": ndk.PipeExtension,
}

// extended is the kind of object that an extension is of.
func extended(id ndk.GUID) ndk.ObjectKind {
	if id == ndk.PipeExtension {
		return ndk.ObjectMR
	}
	return ndk.ObjectQP
}

// An object that has no extension of that name says NotSupported, and nothing
// else.
func extensionUnknown(t *T) {
	_, _, all := t.specimens()
	for _, o := range all {
		for _, id := range []ndk.GUID{{}, {1, 2, 3}, {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}} {
			o.noExtension(id, ndk.Version{Major: 1})
			o.noExtension(id, ndk.Version{})
		}
		for _, id := range extensions {
			if o.kind != extended(id) {
				o.noExtension(id, ndk.Version{Major: 1})
			}
		}
	}
}

func (o specimen) noExtension(id ndk.GUID, v ndk.Version) {
	o.side.t.Helper()
	x, err := o.Extension(id, v)
	o.side.want(err, ntstatus.NotSupported, "Extension of "+o.kind.String())
	if x != nil {
		o.side.t.Errorf("Extension of %v: %v beside an error", o.kind, x)
	}
}

// An extension in a version that is higher than the one that is there is none.
func extensionTooNew(t *T) {
	_, _, all := t.specimens()
	offered := false
	for _, o := range all {
		for name, id := range extensions {
			x, err := o.Extension(id, ndk.Version{Major: 1})
			if err != nil {
				o.side.want(err, ntstatus.NotSupported, "Extension "+name)
				continue
			}
			offered = true
			if x == nil {
				t.Errorf("%s: neither extension nor error", name)
			}
			for _, v := range []ndk.Version{{Major: 1, Minor: 1}, {Major: 1, Minor: 0xFFFF}, {Major: 2}, {Major: 0xFFFF, Minor: 0xFFFF}} {
				o.noExtension(id, v)
			}
		}
	}
	if !offered {
		t.NotOffered("extensions: the provider has none")
	}
}

// Every kind of object answers, the adapter included, in each state of its life
// up to Close.
func extensionEverywhere(t *T) {
	s, _, all := t.specimens()
	seen := make(map[ndk.ObjectKind]bool)
	for _, o := range all {
		seen[o.kind] = true
		o.noExtension(ndk.GUID{1}, ndk.Version{Major: 1})
	}
	for k := ndk.ObjectAdapter; k < ndk.ObjectMax; k++ {
		switch {
		case k == ndk.ObjectMW && s.Info.MaxWindowSize == 0, k == ndk.ObjectSRQ && s.Info.MaxSRQDepth == 0:
		case !seen[k]:
			t.Errorf("no %v was asked", k)
		}
	}
}

var _ = row("NDK_FN_CREATE_QP", createQPLimits, createQPQueues, createQPContext, createQPOneCQ, createQPForeignCQ, createQPReceives)

// A value above the limit of the adapter, or below 0, is refused, each by itself.
func createQPLimits(t *T) {
	s, _ := t.Pair()
	for _, tc := range qpLimits {
		for _, n := range []int{tc.limit(&s.Info) + 1, 1<<31 - 1, -1, -1 << 31} {
			q := s.lean()
			tc.change(&q, n)
			s.noQP(q, tc.name)
		}
	}
	q := s.lean()
	q.ReceiveCQ = nil
	s.noQP(q, "no receive CQ")
	q = s.lean()
	q.InitiatorCQ = nil
	s.noQP(q, "no initiator CQ")
	qp, err := s.PD.CreateQP(s.ctx, s.lean()) // it was not the rest that was refused
	s.must(err)
	qp.Close()
}

func (s *Side) noQP(q ndk.QPConfig, what string) {
	s.t.Helper()
	qp, err := s.PD.CreateQP(s.ctx, q)
	s.want(err, ntstatus.InvalidParameter, "CreateQP, "+what)
	if qp != nil {
		s.t.Errorf("CreateQP, %s: a QP", what)
		qp.Close()
	}
}

// posting is a request that was posted.
type posting struct {
	rc  any
	typ ndk.OpType
}

// oneOfEach posts one initiator request of each kind that the adapter offers,
// which all succeed, each with a context of its own. Two messages arrive at p.
func (s *Side) oneOfEach(p *Side) (posted []posting) {
	s.t.Helper()
	doomed, dl, dfbo := p.fast(memSize/2, 4096) // what SendAndInvalidate invalidates
	p.must(p.QP.FastRegister("f", doomed, dl.Pages, dfbo, 4096, p.MR.Base()+memSize/2, ndk.AllowRemoteRead))
	p.expect(p.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
	p.must(p.QP.Receive("r", nil))
	p.must(p.QP.Receive("r", nil))
	m, lam, fbo := s.fast(memSize/2, 4096)
	post := func(typ ndk.OpType, f func(rc any) error) {
		s.t.Helper()
		rc := new(posting)
		s.must(f(rc))
		posted = append(posted, posting{rc, typ})
	}
	post(ndk.OpSend, func(rc any) error { return s.QP.Send(rc, nil, 0) })
	post(ndk.OpSend, func(rc any) error { return s.QP.SendAndInvalidate(rc, nil, 0, doomed.RemoteToken()) })
	post(ndk.OpRead, func(rc any) error {
		return s.QP.Read(rc, []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), p.MR.RemoteToken(), 0)
	})
	post(ndk.OpWrite, func(rc any) error {
		return s.QP.Write(rc, []ndk.SGE{s.SGE(16, 8)}, p.MR.Base()+16, p.MR.RemoteToken(), 0)
	})
	post(ndk.OpFastRegister, func(rc any) error {
		return s.QP.FastRegister(rc, m, lam.Pages, fbo, 4096, s.MR.Base()+memSize/2, ndk.AllowRemoteRead)
	})
	post(ndk.OpInvalidate, func(rc any) error { return s.QP.Invalidate(rc, m, 0) })
	if s.Info.MaxWindowSize > 0 {
		w, err := s.PD.CreateMW(s.ctx)
		s.must(err)
		s.close = append(s.close, w.Close)
		post(ndk.OpBind, func(rc any) error { return s.QP.Bind(rc, s.MR, w, s.MR.Base(), 64, ndk.AllowRemoteRead) })
		post(ndk.OpInvalidate, func(rc any) error { return s.QP.Invalidate(rc, w, 0) })
	}
	return posted
}

// Receives complete on the receive CQ only, all else on the initiator CQ only.
func createQPQueues(t *T) {
	s, p := t.Connected()
	for range 3 {
		s.must(s.QP.Receive("r", nil))
	}
	p.must(p.QP.Send("s", nil, ndk.SilentSuccess))
	for _, post := range s.oneOfEach(p) {
		s.expect(s.Done(), post.rc, ntstatus.Success, post.typ) // Done reads the initiator CQ
	}
	s.expect(s.Received(), "r", ntstatus.Success, ndk.OpReceive)
	s.C.Close()
	s.closed(s.QP)
	for range 2 { // what did not succeed takes the same way
		s.expect(s.Received(), "r", ntstatus.Cancelled, ndk.OpReceive)
	}
	s.drained("more than one completion of a request")
}

// drained fails if a CQ of s holds a completion.
func (s *Side) drained(what string) {
	s.t.Helper()
	var r [1]ndk.ResultEx
	for _, cq := range []ndk.CQ{s.RCQ, s.ICQ} {
		if cq.PollEx(r[:]) != 0 {
			s.t.Errorf("%s: %v, %v, %v", what, r[0].RequestContext, r[0].Status, r[0].Type)
		}
	}
}

// The context of the config comes back in every result, nil included.
func createQPContext(t *T) {
	type mark struct{ n int }
	for _, tc := range []struct {
		name string
		ctx  any
	}{{"a pointer", &mark{1}}, {"a value", mark{2}}, {"nil", nil}} {
		t.Sub(tc.name, func(t *T) {
			s, p := t.Pair()
			s.replaceQP(func(q *ndk.QPConfig) { q.QPContext = tc.ctx })
			_, addr, got := p.listen()
			connectTo(s, p, addr, got)
			s.exchange(p) // a peer may wait for the first message
			n := len(s.oneOfEach(p))
			s.must(s.QP.Receive("r", nil))
			for range n {
				if r := s.next(s.ICQ, s.iev); r.QPContext != tc.ctx || r.Status != ntstatus.Success {
					t.Errorf("%v has status %v and the context %v, want %v", r.Type, r.Status, r.QPContext, tc.ctx)
				}
			}
			s.C.Close()
			s.closed(s.QP)
			if r := s.next(s.RCQ, s.rev); r.QPContext != tc.ctx || r.Status != ntstatus.Cancelled {
				t.Errorf("%v has status %v and the context %v, want %v", r.Type, r.Status, r.QPContext, tc.ctx)
			}
		})
	}
}

// One CQ may be both.
func createQPOneCQ(t *T) {
	s, p := t.Pair()
	s.replaceQP(func(q *ndk.QPConfig) { q.InitiatorCQ = q.ReceiveCQ })
	_, addr, got := p.listen()
	connectTo(s, p, addr, got)
	s.must(s.QP.Receive("r", nil))
	s.must(s.QP.Read("x", []ndk.SGE{s.SGE(0, 8)}, p.MR.Base(), p.MR.RemoteToken(), 0))
	s.expect(s.Received(), "x", ntstatus.Success, ndk.OpRead)
	p.must(p.QP.Receive("r", nil))
	s.must(s.QP.Send("s", nil, ndk.SilentSuccess)) // a peer may wait for the first message
	p.must(p.QP.Send("s", nil, ndk.SilentSuccess))
	s.expect(s.Received(), "r", ntstatus.Success, ndk.OpReceive)
	p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
}

// A CQ of another adapter instance is refused.
func createQPForeignCQ(t *T) {
	s, o := t.Pair()
	for _, change := range []func(q *ndk.QPConfig){
		func(q *ndk.QPConfig) { q.InitiatorCQ = o.ICQ },
		func(q *ndk.QPConfig) { q.ReceiveCQ = o.RCQ },
		func(q *ndk.QPConfig) { q.ReceiveCQ, q.InitiatorCQ = o.RCQ, o.ICQ },
	} {
		q := s.QPConfig()
		change(&q)
		s.noQP(q, "a CQ of another adapter")
	}
}

// Receives may be posted before there is a connection, and are used by it;
// initiator requests are refused and leave nothing behind.
func createQPReceives(t *T) {
	s, p := t.Pair()
	m, lam, fbo := s.fast(0, 4096)
	for _, side := range []*Side{s, p} {
		for i := range 3 {
			side.must(side.QP.Receive(i, []ndk.SGE{side.SGE(i*8, 8)}))
		}
	}
	s.idle("before connecting")
	s.want(s.QP.SendAndInvalidate("x", nil, 0, 1), ntstatus.ConnectionInvalid, "SendAndInvalidate before connecting")
	s.want(s.QP.FastRegister("x", m, lam.Pages, fbo, 4096, s.MR.Base(), 0), ntstatus.ConnectionInvalid, "FastRegister before connecting")
	s.want(s.QP.Invalidate("x", m, 0), ntstatus.ConnectionInvalid, "Invalidate before connecting")
	if s.Info.MaxWindowSize > 0 {
		w, err := s.PD.CreateMW(s.ctx)
		s.must(err)
		s.want(s.QP.Bind("x", s.MR, w, s.MR.Base(), 8, ndk.AllowRemoteRead), ntstatus.ConnectionInvalid, "Bind before connecting")
		w.Close()
	}
	_, addr, got := p.listen()
	connectTo(s, p, addr, got)
	for i := range 3 {
		s.must(s.QP.Send(i, []ndk.SGE{s.SGE(100, 4)}, 0))
		s.expect(s.Done(), i, ntstatus.Success, ndk.OpSend)
		p.expect(p.Received(), i, ntstatus.Success, ndk.OpReceive)
		p.must(p.QP.Send(i, []ndk.SGE{p.SGE(100, 4)}, 0))
		p.expect(p.Done(), i, ntstatus.Success, ndk.OpSend)
		s.expect(s.Received(), i, ntstatus.Success, ndk.OpReceive)
	}
	s.drained("a completion of a request that was refused")
}

var _ = row("NDK_FN_CREATE_QP_WITH_SRQ", srqQPLimits, srqQPReceive, srqQPTaken, srqQPFlush, srqQPEmpty, srqQPClose)

// Values above the limit of the adapter are refused, but for those of the
// receive queue that the QP does not have.
func srqQPLimits(t *T) {
	s, p := t.Pair()
	t.needsSRQ(s)
	srq, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
	s.must(err)
	s.close = append(s.close, srq.Close)
	create := func(q ndk.QPConfig, srq ndk.SRQ, want ndk.Status, what string) {
		t.Helper()
		qp, err := s.PD.CreateQPWithSRQ(s.ctx, q, srq)
		s.want(err, want, "CreateQPWithSRQ, "+what)
		if (qp == nil) == (err == nil) {
			t.Errorf("CreateQPWithSRQ, %s: %v, %v; want one of them", what, qp, err)
		}
		if err == nil {
			qp.Close()
		}
	}
	for _, tc := range qpLimits {
		if !tc.shared {
			continue
		}
		for n, want := range map[int]ndk.Status{tc.limit(&s.Info): ntstatus.Success, tc.limit(&s.Info) + 1: ntstatus.InvalidParameter,
			1<<31 - 1: ntstatus.InvalidParameter, -1: ntstatus.InvalidParameter} {
			q := s.lean()
			q.ReceiveQueueDepth, q.MaxReceiveSGE = 0, 0
			tc.change(&q, n)
			create(q, srq, want, tc.name)
		}
	}
	create(s.lean(), nil, ntstatus.InvalidParameter, "no SRQ")
	q := s.lean()
	q.InitiatorCQ = p.ICQ
	create(q, srq, ntstatus.InvalidParameter, "a CQ of another adapter")
	other, err := p.PD.CreateSRQ(p.ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
	p.must(err)
	create(s.lean(), other, ntstatus.InvalidParameter, "an SRQ of another adapter")
	other.Close()
}

// The QP has no receive queue of its own.
func srqQPReceive(t *T) {
	q := t.share(0, nil)
	want := func(what string) {
		t.Helper()
		q.p.want(q.p.QP.Receive("own", []ndk.SGE{q.p.SGE(0, 8)}), ntstatus.InvalidDeviceRequest, what)
	}
	want("Receive of a QP with an SRQ")
	q.connect()
	want("Receive of a connected QP with an SRQ")
	// The refusal left nothing: the message goes to the SRQ.
	q.p.must(q.srq.Receive("shared", nil))
	q.s.must(q.s.QP.Send("s", nil, 0))
	q.s.expect(q.s.Done(), "s", ntstatus.Success, ndk.OpSend)
	q.p.expect(q.p.Received(), "shared", ntstatus.Success, ndk.OpReceive)
	q.p.drained("a completion of what was refused")
}

// A receive completes on the CQ of the QP that took it, with that QP's context.
func srqQPTaken(t *T) {
	q := t.share(0, nil)
	q.connect()
	s2, p2 := q.pair()
	turn := []struct{ s, p *Side }{{q.s, q.p}, {s2, p2}, {s2, p2}, {q.s, q.p}}
	for i, o := range turn {
		q.p.must(q.srq.Receive(i, []ndk.SGE{q.p.SGE(i*8, 8)}))
		o.s.Fill(0, 8, byte(i))
		o.s.must(o.s.QP.Send("s", []ndk.SGE{o.s.SGE(0, 8)}, 0))
		o.s.expect(o.s.Done(), "s", ntstatus.Success, ndk.OpSend)
		o.p.expect(o.p.Received(), i, ntstatus.Success, ndk.OpReceive) // of its own CQ; Received looks at the QPContext
		o.p.equal(i*8, 8, o.s, 0)
	}
	q.p.drained("a completion of the other QP")
	p2.drained("a completion of the other QP")
}

// Flush of one QP leaves what is queued on the SRQ to the others.
func srqQPFlush(t *T) {
	q := t.share(0, nil)
	q.connect()
	s2, p2 := q.pair()
	for i := range 4 {
		q.p.must(q.srq.Receive(i, nil))
	}
	q.p.QP.Flush()
	q.s.lost() // the connection of the flushed QP has ended
	for i := range 4 {
		s2.must(s2.QP.Send("s", nil, 0))
		s2.expect(s2.Done(), "s", ntstatus.Success, ndk.OpSend)
		p2.expect(p2.Received(), i, ntstatus.Success, ndk.OpReceive)
	}
	q.p.drained("a receive of the SRQ was flushed")
}

// A message that finds the SRQ empty waits there, and so does what comes behind
// it; other QPs go on.
func srqQPEmpty(t *T) {
	q := t.share(0, nil)
	q.connect()
	s, p := q.s, q.p
	for i := range 3 {
		s.Fill(i*8, 8, byte(i))
		s.must(s.QP.Send(i, []ndk.SGE{s.SGE(i*8, 8)}, ndk.SilentSuccess))
	}
	meanwhile(s, p) // they have arrived by now
	p.drained("a completion without a buffer")
	p.silent("an empty SRQ is no error")
	for i := range 3 {
		p.must(q.srq.Receive(i, []ndk.SGE{p.SGE(100+i*8, 8)}))
		p.expect(p.Received(), i, ntstatus.Success, ndk.OpReceive)
		p.equal(100+i*8, 8, s, i*8)
	}
	// All is well with the connection.
	p.must(q.srq.Receive("r", nil))
	s.say()
	p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
	s.exchangeBack(p)
	s.silent("an empty SRQ is no error")
}

// The SRQ is closed after its last QP.
func srqQPClose(t *T) {
	s, _ := t.Pair()
	t.needsSRQ(s)
	srq, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
	s.must(err)
	var qps [2]ndk.QP
	for i := range qps {
		qps[i], err = s.PD.CreateQPWithSRQ(s.ctx, s.QPConfig(), srq)
		s.must(err)
	}
	srq.Close()
	for _, qp := range qps {
		s.open(srq, "an SRQ with an open QP")
		s.closed(qp)
	}
	s.closed(srq)
}
