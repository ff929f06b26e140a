package sim

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Refusal, silence and abort at each step of a connection, on both sides.
func TestHandshakeFaults(t *testing.T) {
	const ok = ntstatus.Success
	none := ndk.Status(0xFFFFFFFF) // no request came
	for _, tc := range []struct {
		name                      string
		inject                    Injection
		connect, complete, accept ndk.Status
		lost, peerLost            []Reason
		late                      bool // after the time limit
	}{
		{name: "local", inject: Injection{Point: PointConnect}, connect: ntstatus.TooManyAddresses, accept: none},
		{name: "local, another status", inject: Injection{Point: PointConnect, Status: ntstatus.HostUnreachable}, connect: ntstatus.HostUnreachable, accept: none},
		{name: "request refused", inject: Injection{Point: PointConnectRequest, Status: ntstatus.ConnectionRefused}, connect: ntstatus.ConnectionRefused, accept: none},
		{name: "request lost", inject: Injection{Point: PointConnectRequest, Status: ntstatus.IOTimeout}, connect: ntstatus.IOTimeout, accept: none, late: true},
		{name: "request cut off", inject: Injection{Point: PointConnectRequest, Status: ntstatus.ConnectionAborted}, connect: ntstatus.ConnectionAborted, accept: none},
		{name: "reply lost", inject: Injection{Point: PointReply, Status: ntstatus.IOTimeout}, connect: ntstatus.IOTimeout, accept: ntstatus.ConnectionAborted, late: true},
		{name: "reply cut off", inject: Injection{Point: PointReply, Status: ntstatus.ConnectionAborted}, connect: ntstatus.ConnectionAborted, accept: ntstatus.ConnectionAborted},
		{name: "ready lost", inject: Injection{Point: PointReady, Status: ntstatus.IOTimeout}, accept: ntstatus.IOTimeout, lost: []Reason{ReasonTimeout}, late: true},
		{name: "ready cut off", inject: Injection{Point: PointReady, Status: ntstatus.ConnectionAborted}, accept: ntstatus.ConnectionAborted, lost: []Reason{ReasonLink}},
		{name: "complete too slow", inject: Injection{Point: PointComplete, Status: ntstatus.IOTimeout}, complete: ntstatus.IOTimeout, accept: ntstatus.ConnectionAborted},
		{name: "complete aborted", inject: Injection{Point: PointComplete, Status: ntstatus.ConnectionAborted}, complete: ntstatus.ConnectionAborted, accept: ntstatus.ConnectionAborted},
		{name: "link lost with the request", inject: Injection{Point: PointLoss}, connect: ntstatus.ConnectionAborted, accept: none},
		{name: "link lost with the reply", inject: Injection{Point: PointLoss, After: 1}, connect: ntstatus.ConnectionAborted, accept: ntstatus.ConnectionAborted},
		{name: "link lost with ready", inject: Injection{Point: PointLoss, After: 2}, accept: ntstatus.ConnectionAborted, lost: []Reason{ReasonLink}},
		{name: "no fault", inject: Injection{Point: PointLoss, After: 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, s, p := pairOf(t, Config{ConnectTimeout: time.Second})
			inject(t, w, tc.inject)
			if tc.connect != ok {
				tc.complete = tc.connect
			}
			connect, complete, accept := dial(s, p)
			s.want(connect, tc.connect)
			s.want(complete, tc.complete)
			if tc.accept == none {
				if p.c != nil {
					t.Error("a connect event")
				}
			} else {
				s.want(accept, tc.accept)
			}
			if !slices.Equal(s.lost, tc.lost) || !slices.Equal(p.lost, tc.peerLost) {
				t.Errorf("disconnect events %v and %v, want %v and %v", s.lost, p.lost, tc.lost, tc.peerLost)
			}
			if late := w.Now() >= time.Second; late != tc.late {
				t.Errorf("over at %v", w.Now())
			}
			// A failed attempt leaves the QP as it was.
			if tc.connect != ok {
				s.must(s.qp.Receive("r", nil))
				s.c.Close()
				if p.c != nil {
					p.c.Close()
				}
				connect, complete, accept = dial(s, p)
				for i, err := range three(connect, complete, accept) {
					if err != nil {
						t.Errorf("step %d of a second attempt: %v", i, err)
					}
				}
			}
		})
	}
}

// requests are the operations of an initiator queue, as s posts them to p.
var requests = []struct {
	op   ndk.OpType
	post func(r *round) error
}{
	{ndk.OpSend, func(r *round) error { return r.s.qp.Send("x", r.sgl, 0) }},
	{ndk.OpWrite, func(r *round) error { return r.s.qp.Write("x", r.sgl, r.addr, r.token, 0) }},
	{ndk.OpRead, func(r *round) error { return r.s.qp.Read("x", r.sgl, r.addr, r.token, 0) }},
	{ndk.OpFastRegister, func(r *round) error { return r.s.qp.FastRegister("x", r.fast, r.lam.Pages, r.fbo, 8192, 0, 0) }},
	{ndk.OpBind, func(r *round) error { return r.s.qp.Bind("x", r.s.mr, r.window, r.base, 64, 0) }},
	{ndk.OpInvalidate, func(r *round) error {
		if err := r.s.qp.FastRegister("f", r.fast, r.lam.Pages, r.fbo, 8192, 0, ndk.SilentSuccess); err != nil {
			return err
		}
		return r.s.qp.Invalidate("x", r.fast, 0)
	}},
}

// Each operation can fail with each status that it may have, and with no other.
// The connection ends with it: what follows is cancelled, on both sides.
func TestErrorCompletions(t *testing.T) {
	data := []ndk.Status{ntstatus.InvalidDeviceRequest, ntstatus.InternalError, ntstatus.DataOverrun, ntstatus.AccessViolation, ntstatus.IOTimeout, ntstatus.RemoteResources}
	legal := map[ndk.OpType][]ndk.Status{
		ndk.OpSend: data, ndk.OpWrite: data, ndk.OpRead: data,
		ndk.OpFastRegister: data[:2], ndk.OpBind: data[:2], ndk.OpInvalidate: data[:2],
	}
	for _, q := range requests {
		for _, st := range append([]ndk.Status{ntstatus.BufferOverflow, ntstatus.Cancelled}, data...) {
			t.Run(name(q.op, " ", st), func(t *testing.T) {
				r := newRound(t, Config{})
				s, p := r.s, r.p
				_, err := s.w.Inject(Injection{Point: PointInitiator, Object: s.qp, Op: q.op, Status: st})
				if !slices.Contains(legal[q.op], st) {
					s.want(err, ntstatus.InvalidParameter)
					return
				}
				s.must(err)
				s.must(p.qp.Receive("r", r.rgl))
				s.must(q.post(r))
				s.must(s.qp.Send("behind", nil, ndk.SilentSuccess))
				if e := s.expect(s.icq, "x", st); e.Type != q.op {
					t.Errorf("type %v, want %v", e.Type, q.op)
				}
				s.expect(s.icq, "behind", ntstatus.Cancelled)
				p.expect(p.rcq, "r", ntstatus.Cancelled)
				s.w.Run()
				if !slices.Equal(p.lost, []Reason{ReasonRequest}) {
					t.Errorf("disconnect events of the peer: %v", p.lost)
				}
				s.want(s.qp.Send("late", nil, 0), ntstatus.ConnectionInvalid)
			})
		}
	}
}

// A receive fails with the status that was asked for, and so does the connection.
func TestReceiveFaults(t *testing.T) {
	for _, st := range receiveFailures {
		w, s, p := connected(t, Config{AckedSends: true})
		inject(t, w, Injection{Point: PointReceive, Object: p.qp, Status: st})
		p.must(p.qp.Receive("r", []ndk.SGE{p.sge(0, 8)}))
		p.must(p.qp.Receive("r2", nil))
		s.must(s.qp.Send("s", []ndk.SGE{s.sge(0, 8)}, 0))
		p.expect(p.rcq, "r", st)
		p.expect(p.rcq, "r2", ntstatus.Cancelled)
		s.expect(s.icq, "s", ntstatus.RemoteResources)
	}
}

// Calls that take resources find none; what was made before is none the worse.
func TestExhaustion(t *testing.T) {
	for _, tc := range []struct {
		kind ndk.ObjectKind
		call string
		f    func(r *round) error
	}{
		{ndk.ObjectCQ, "create CQ", func(r *round) error { _, err := r.s.a.CreateCQ(ctx, ndk.CQConfig{Depth: 1}); return err }},
		{ndk.ObjectPD, "create PD", func(r *round) error { _, err := r.s.a.CreatePD(ctx); return err }},
		{ndk.ObjectConnector, "create connector", func(r *round) error { _, err := r.s.a.CreateConnector(ctx); return err }},
		{ndk.ObjectListener, "create listener", func(r *round) error {
			_, err := r.s.a.CreateListener(ctx, func(ndk.Connector) {})
			return err
		}},
		{ndk.ObjectSharedEndpoint, "create shared endpoint", func(r *round) error {
			_, err := r.s.a.CreateSharedEndpoint(ctx, netipPort(testHosts[0][0], 0))
			return err
		}},
		{ndk.ObjectMR, "create MR", func(r *round) error { _, err := r.s.pd.CreateMR(ctx, true); return err }},
		{ndk.ObjectMW, "create MW", func(r *round) error { _, err := r.s.pd.CreateMW(ctx); return err }},
		{ndk.ObjectSRQ, "create SRQ", func(r *round) error {
			_, err := r.s.pd.CreateSRQ(ctx, ndk.SRQConfig{Depth: 1})
			return err
		}},
		{ndk.ObjectQP, "create QP", func(r *round) error { _, err := r.s.pd.CreateQP(ctx, r.s.config()); return err }},
		{0, "build LAM", func(r *round) error {
			_, err := r.s.a.BuildLAM(ctx, ndk.Memory{r.s.mem}, 1, &ndk.LAM{})
			return err
		}},
		{0, "alloc", func(r *round) error { _, _, err := r.s.a.Alloc(1); return err }},
		{0, "resize CQ", func(r *round) error { return r.s.rcq.Resize(ctx, 300) }},
	} {
		t.Run(tc.call, func(t *testing.T) {
			r := newRound(t, Config{Report: func(string) {}})
			point := PointRequest
			if tc.kind != 0 {
				point = PointCreate
				inject(t, r.s.w, Injection{Point: point, Kind: tc.kind, Object: r.p.a}) // of another adapter
			}
			inject(t, r.s.w, Injection{Point: point, Kind: tc.kind, Call: tc.call, Object: r.s.a, After: 1, Times: 2})
			before := r.s.a.(*adapter).Count(tc.kind)
			for i, want := range []ndk.Status{ntstatus.Success, ntstatus.InsufficientResources, ntstatus.InsufficientResources, ntstatus.Success} {
				if err := tc.f(r); ndk.StatusOf(err) != want {
					t.Errorf("call %d: %v, want %v", i, err, want)
				}
			}
			if n := r.s.a.(*adapter).Count(tc.kind) - before; tc.kind != 0 && n != 2 {
				t.Errorf("%d objects more, want the 2 that were made", n)
			}
			r.run()
		})
	}
}

// Posts are refused as if a queue were full, and nothing of them remains.
func TestFullQueues(t *testing.T) {
	for _, q := range requests {
		r := newRound(t, Config{})
		inject(t, r.s.w, Injection{Point: PointPost, Object: r.s.qp, Op: q.op})
		r.s.want(q.post(r), ntstatus.NoMoreEntries)
		r.s.w.Run()
		if n := r.s.icq.Poll(make([]ndk.Result, 1)); n != 0 {
			t.Errorf("%v: a completion of a request that was refused", q.op)
		}
		r.p.must(r.p.qp.Receive("r", nil))
		r.s.must(r.s.qp.Send("s", nil, 0))
		r.s.expect(r.s.icq, "s", ntstatus.Success)
	}
	w, s, p := connected(t, Config{})
	srq, err := s.pd.CreateSRQ(ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
	s.must(err)
	defer srq.Close()
	inject(t, w, Injection{Point: PointPostReceive, Object: s.qp})
	inject(t, w, Injection{Point: PointPostReceive, Object: srq})
	s.want(s.qp.Receive("r", nil), ntstatus.NoMoreEntries)
	s.want(srq.Receive("r", nil), ntstatus.NoMoreEntries)
	s.must(srq.Receive("r", nil))
	s.must(s.qp.Receive("r", nil))
	p.must(p.qp.Send("s", nil, 0))
	s.expect(s.rcq, "r", ntstatus.Success)
}

// With StrictQueues a place is free when a completion that proves it was polled.
func TestStrictQueues(t *testing.T) {
	for _, strict := range []bool{false, true} {
		w, s, p := connected(t, Config{StrictQueues: strict})
		depth := s.config().InitiatorQueueDepth
		full := ntstatus.Success
		if strict {
			full = ntstatus.NoMoreEntries
		}
		for i := range depth {
			p.must(p.qp.Receive(i, nil))
			f := ndk.SilentSuccess
			if i == depth/2 {
				f = 0
			}
			s.must(s.qp.Send(i, nil, f))
			w.Run()
		}
		s.want(s.qp.Send("x", nil, ndk.SilentSuccess), full)
		s.want(p.qp.Receive("x", nil), full)
		w.Run()
		s.expect(s.icq, depth/2, ntstatus.Success) // and with it what is before it
		p.expect(p.rcq, 0, ntstatus.Success)
		for range depth/2 + 1 {
			if !strict {
				break
			}
			s.must(s.qp.Send("y", nil, ndk.SilentSuccess|ndk.Defer))
		}
		if strict {
			s.want(s.qp.Write("y", nil, 0, 0, ndk.SilentSuccess|ndk.Defer), full)
			p.must(p.qp.Receive("y", nil))
			p.want(p.qp.Receive("y", nil), full)
		}
	}
}

// A request that was deferred, and accepted, fails when the chain is handed on.
func TestDeferredFailure(t *testing.T) {
	w, s, p := connected(t, Config{})
	inject(t, w, Injection{Point: PointDeferred, Object: s.qp, After: 1})
	for i := range 4 {
		p.must(p.qp.Receive(i, nil))
		f := ndk.Defer
		if i == 3 {
			f = 0
		}
		s.must(s.qp.Send(i, nil, f))
		if i < 3 && w.Step() {
			t.Error("a deferred request does something")
		}
	}
	s.expect(s.icq, 0, ntstatus.Success)
	s.expect(s.icq, 1, ntstatus.InternalError)
	s.expect(s.icq, 2, ntstatus.Cancelled)
	s.expect(s.icq, 3, ntstatus.Cancelled)
	p.expect(p.rcq, 0, ntstatus.Success)
	p.expect(p.rcq, 1, ntstatus.Cancelled)
}

// The completion is there before the post returns, if that is asked for, and
// never else.
func TestEarlyCompletion(t *testing.T) {
	w, s, p := connected(t, Config{})
	var r [1]ndk.ResultEx
	for i := range 4 {
		p.must(p.qp.Receive(i, nil))
		if i%2 == 1 {
			inject(t, w, Injection{Point: PointEarly, Object: s.qp})
		}
		s.must(s.qp.Send(i, nil, 0))
		if n := s.icq.PollEx(r[:]); n != i%2 {
			t.Errorf("message %d: %d completions when the post returns", i, n)
		}
		if i%2 == 0 {
			s.expect(s.icq, i, ntstatus.Success)
		}
		p.expect(p.rcq, i, ntstatus.Success)
	}
}

// Arming with leftovers may notify, and does what the fault says.
func TestLeftoverArm(t *testing.T) {
	for _, fires := range []bool{false, true} {
		w, s, p := pairOf(t, Config{})
		n := 0
		cq, err := p.a.CreateCQ(ctx, ndk.CQConfig{Depth: 8, Notify: func(ndk.Status) { n++ }})
		p.must(err)
		p.qp.Close()
		p.rcq.Close()
		p.rcq = cq
		p.qp, err = p.pd.CreateQP(ctx, p.config())
		p.must(err)
		p.must(errors.Join(three(dial(s, p))...))
		p.must(p.qp.Receive("r", nil))
		cq.Arm(ndk.ArmAny)
		s.must(s.qp.Send("s", nil, ndk.SilentSuccess))
		w.Run()
		if fires {
			inject(t, w, Injection{Point: PointLeftover})
		}
		cq.Arm(ndk.ArmAny) // what is queued was notified of
		w.Run()
		if want := map[bool]int{false: 1, true: 2}[fires]; n != want {
			t.Errorf("leftovers notify %v: %d notifications, want %d", fires, n, want)
		}
	}
}

// A queue fails, and its QPs with it; the peer learns of it.
func TestQueueFailures(t *testing.T) {
	for _, tc := range []struct {
		point Point
		srq   bool
		want  ndk.Status
	}{
		{PointOverrun, false, ntstatus.BufferOverflow},
		{PointFatalCQ, false, ntstatus.InternalError},
		{PointFatalSRQ, true, ntstatus.InternalError},
	} {
		t.Run(tc.point.String(), func(t *testing.T) {
			w, s, p := pairOf(t, Config{})
			var got []ndk.Status
			note := func(st ndk.Status) { got = append(got, st) }
			cq, err := p.a.CreateCQ(ctx, ndk.CQConfig{Depth: 8, Notify: note})
			p.must(err)
			p.qp.Close()
			p.rcq.Close()
			p.rcq = cq
			var hit ndk.Object = cq
			post := func() error { return p.qp.Receive("r", nil) }
			if tc.srq {
				srq, err := p.pd.CreateSRQ(ctx, ndk.SRQConfig{Depth: 8, MaxReceiveSGE: 1, NotifyThreshold: 1, Notify: note})
				p.must(err)
				defer srq.Close()
				p.qp, err = p.pd.CreateQPWithSRQ(ctx, p.config(), srq)
				p.must(err)
				hit, post = srq, func() error { return srq.Receive("r", nil) }
			} else {
				p.qp, err = p.pd.CreateQP(ctx, p.config())
				p.must(err)
			}
			p.must(errors.Join(three(dial(s, p))...))
			inject(t, w, Injection{Point: tc.point, Object: hit, After: 1})
			cq.Arm(ndk.ArmErrors)
			for range 3 {
				p.must(post())
				s.must(s.qp.Send("s", nil, ndk.SilentSuccess))
			}
			w.Run()
			if len(got) != 1 || got[0] != tc.want {
				t.Errorf("notified with %v, want %v once", got, tc.want)
			}
			if len(s.lost) != 1 {
				t.Errorf("disconnect events of the peer: %v", s.lost)
			}
			s.want(p.qp.Send("late", nil, 0), ntstatus.ConnectionInvalid)
		})
	}
}

// Exactly so many bytes of what a side sends arrive.
func TestLinkLossAtByte(t *testing.T) {
	const payload = 1000
	for _, n := range []int{0, headerSize, headerSize + 1, headerSize + 500, headerSize + payload - 1, headerSize + payload, headerSize + payload + 1} {
		t.Run(name(n), func(t *testing.T) {
			w, s, p := connected(t, Config{AckedSends: true})
			for i := range payload {
				s.mem[i] = 1
			}
			inject(t, w, Injection{Point: PointLoss, Object: s.qp, Bytes: n})
			p.must(p.qp.Receive("r", nil))
			s.must(s.qp.Write("w", []ndk.SGE{s.sge(0, payload)}, p.mr.Base(), p.mr.RemoteToken(), 0))
			s.must(s.qp.Send("s", nil, 0))
			first, second := ntstatus.IOTimeout, ntstatus.Cancelled
			if n >= headerSize+payload { // all of the Write, and nothing of the Send
				first, second = ntstatus.Success, ntstatus.IOTimeout
			}
			e := s.next(s.icq)
			// The answer to the Write may have been on its way when the link broke.
			if e.Status == ntstatus.IOTimeout && first == ntstatus.Success {
				second = ntstatus.Cancelled
			} else if e.Status != first {
				t.Errorf("the Write completes with %v, want %v", e.Status, first)
			}
			s.expect(s.icq, "s", second)
			p.expect(p.rcq, "r", ntstatus.Cancelled)
			w.Run()
			want := min(max(n-headerSize, 0), payload)
			for i := range payload {
				if got := p.mem[i] == 1; got != (i < want) {
					t.Fatalf("byte %d arrived: %v; %d bytes should have", i, got, want)
				}
			}
			if !slices.Equal(s.lost, []Reason{ReasonLink}) || !slices.Equal(p.lost, []Reason{ReasonLink}) {
				t.Errorf("disconnect events %v and %v", s.lost, p.lost)
			}
		})
	}
}

// A farewell that is lost, or its answer, makes Disconnect late and no more.
func TestDisconnectFaults(t *testing.T) {
	for after := range 3 {
		w, s, p := connected(t, Config{ConnectTimeout: time.Second})
		start := w.Now()
		inject(t, w, Injection{Point: PointFin, After: after})
		s.must(s.qp.Receive("r", nil))
		want := ntstatus.IOTimeout
		if after == 2 {
			want = ntstatus.Success
		}
		s.want(s.c.Disconnect(ctx), want)
		if late := w.Now()-start >= time.Second; late != (after < 2) {
			t.Errorf("loss %d: Disconnect took %v", after, w.Now()-start)
		}
		s.expect(s.rcq, "r", ntstatus.Cancelled)
		w.Run()
		if len(p.lost) != 1 || len(s.lost) != 0 {
			t.Errorf("loss %d: disconnect events %v here, %v there", after, s.lost, p.lost)
		}
	}
}

// A token that is good counts as bad, and that ends the connection.
func TestInvalidateFault(t *testing.T) {
	r := newRound(t, Config{AckedSends: true})
	s, p := r.s, r.p
	inject(t, s.w, Injection{Point: PointInvalidate, Object: s.qp})
	s.must(s.qp.FastRegister("f", r.fast, r.lam.Pages, r.fbo, 8192, 0, ndk.AllowRemoteRead|ndk.SilentSuccess))
	s.must(s.qp.Receive("r", nil))
	p.must(p.qp.SendAndInvalidate("s", nil, 0, r.fast.RemoteToken()))
	if e := s.next(s.rcq); e.Status == ntstatus.Success {
		t.Error("the receive succeeded")
	}
	p.expect(p.icq, "s", ntstatus.RemoteResources)
	s.w.Run()
	if !slices.Equal(p.lost, []Reason{ReasonToken}) {
		t.Errorf("disconnect events %v", p.lost)
	}
}

// A device goes away in the middle of a request and comes back.
func TestRemoval(t *testing.T) {
	w, s, p := connected(t, Config{})
	inject(t, w, Injection{Point: PointRemoval, Object: s.qp, After: 1})
	p.must(p.qp.Receive("1", nil))
	p.must(p.qp.Receive("2", nil))
	s.must(s.qp.Receive("r", nil))
	s.must(s.qp.Send("1", nil, 0))
	s.must(s.qp.Send("2", nil, 0))
	s.expect(s.icq, "1", ntstatus.DeviceRemoved)
	s.expect(s.icq, "2", ntstatus.Cancelled)
	s.expect(s.rcq, "r", ntstatus.Cancelled)
	p.expect(p.rcq, "1", ntstatus.Cancelled)
	w.Run()
	if !slices.Equal(s.lost, []Reason{ReasonRemoved}) || !slices.Equal(p.lost, []Reason{ReasonLink}) {
		t.Errorf("disconnect events %v and %v", s.lost, p.lost)
	}
	_, err := s.a.CreatePD(ctx)
	s.want(err, ntstatus.DeviceRemoved)
	_, err = w.Open(ctx, testHosts[0][0], ndk.Version11)
	s.want(err, ntstatus.DeviceNotReady)
	k, err := p.a.CreateConnector(ctx)
	p.must(err)
	qp, err := p.pd.CreateQP(ctx, p.config())
	p.must(err)
	p.want(k.Connect(ctx, qp, netipPort(testHosts[1][0], 0), netipPort(testHosts[0][0], 5445), ndk.ConnParams{}), ntstatus.HostUnreachable)
	k.Close()
	qp.Close()
	w.Restore(testHosts[0][0])
	a := mustOpen(t, w, testHosts[0][0])
	a.Close()
}

// Delays hold back what they are for, and nothing else.
func TestDelays(t *testing.T) {
	for _, tc := range []struct {
		point Point
		of    func(s, p *side) ndk.Object
	}{
		{PointSlow, func(s, p *side) ndk.Object { return s.qp }},
		{PointDelay, func(s, p *side) ndk.Object { return s.qp }},
	} {
		w, s, p := connected(t, Config{Latency: -1})
		start := w.Now()
		inject(t, w, Injection{Point: tc.point, Object: tc.of(s, p), Delay: time.Second})
		s.must(s.qp.Receive("r", nil))
		for i := range 3 {
			p.must(p.qp.Receive(i, nil))
			s.must(s.qp.Send(i, nil, ndk.SilentSuccess))
		}
		p.must(p.qp.Send("s", nil, ndk.SilentSuccess))
		s.expect(s.rcq, "r", ntstatus.Success)
		if d := w.Now() - start; d != 0 {
			t.Errorf("%v: the other direction took %v", tc.point, d)
		}
		for i := range 3 { // in order, all behind the delay
			p.expect(p.rcq, i, ntstatus.Success)
			if d := w.Now() - start; d != time.Second {
				t.Errorf("%v: message %d came after %v, want 1s", tc.point, i, d)
			}
		}
	}
}

// Whatever a device may do by itself, it does only if it is asked to.
func TestInjectRefusesNonsense(t *testing.T) {
	w := newWorld(t, Config{})
	for _, i := range []Injection{
		{Point: numPoints}, {Point: PointLoss, Bytes: -1}, {Point: PointSlow, Delay: -1}, {Point: PointPost, After: -1},
		{Point: PointPost, Status: ntstatus.InternalError}, {Point: PointReady, Status: ntstatus.HostUnreachable},
		{Point: PointCreate, Status: ntstatus.BufferOverflow},
	} {
		if _, err := w.Inject(i); !errors.Is(err, ntstatus.InvalidParameter) {
			t.Errorf("%+v: %v", i, err)
		}
	}
	undo, err := w.Inject(Injection{Point: PointOpen})
	if err != nil {
		t.Fatal(err)
	}
	undo()
	undo()
	mustOpen(t, w, addr("10.0.0.1")).Close()
}

// A file that cannot be read fails its request and nothing else, as nothing of it
// was promised to the peer.
func TestWriteFileReadError(t *testing.T) {
	_, s, p := connected(t, Config{})
	x, err := s.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
	s.must(err)
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	s.must(err)
	if _, err := f.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	w := x.(ndk.FileWriter)
	s.must(w.WriteFile("good", ndk.FileRange{File: f, Offset: 3, Length: 100}, p.mr.Base(), p.mr.RemoteToken(), 0))
	s.must(f.Close())
	s.must(w.WriteFile("bad", ndk.FileRange{File: f, Length: 10}, p.mr.Base(), p.mr.RemoteToken(), ndk.SilentSuccess))
	p.must(p.qp.Receive("r", nil))
	s.must(s.qp.Send("s", nil, 0))
	if e := s.expect(s.icq, "good", ntstatus.Success); e.Bytes != 4 || e.Type != ndk.OpWrite {
		t.Errorf("%d bytes of a %v from the file, want 4 of a Write", e.Bytes, e.Type)
	}
	s.expect(s.icq, "bad", ntstatus.IODeviceError)
	s.expect(s.icq, "s", ntstatus.Success)
	p.expect(p.rcq, "r", ntstatus.Success)
	if got := string(p.mem[:5]); got != "tent\x00" {
		t.Errorf("%q arrived", got)
	}
	for want, err := range map[*ndk.PostError]error{
		ndk.ErrFileRange: w.WriteFile("x", ndk.FileRange{Offset: -1}, 0, 0, 0),
		ndk.ErrNoInline:  s.qp.Send("x", []ndk.SGE{s.sge(0, 8)}, ndk.Inline),
	} {
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	s.want(w.WriteFile("x", ndk.FileRange{File: f}, 0, 0, ndk.Inline), ntstatus.InvalidParameter)
}
