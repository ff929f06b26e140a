package ndkhook

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var (
	here  = netip.MustParseAddrPort("127.0.0.1:5445")
	there = netip.MustParseAddrPort("127.0.0.2:445")
)

// What is said and answered is the same on both sides of the layer.
func TestCallsGoThrough(t *testing.T) {
	for _, cfg := range []Config{{}, audited} {
		r := newRig(t, cfg)
		if i, err := r.a.Info(r.ctx); i.VendorID != 7 || err != nil {
			t.Errorf("Info: %+v, %v", i, err)
		}
		var lam ndk.LAM
		if fbo, err := r.a.BuildLAM(r.ctx, nil, 0, &lam); fbo != 5 || err != nil {
			t.Errorf("BuildLAM: %d, %v", fbo, err)
		}
		mr, mw := must(r.pd.CreateMR(r.ctx, true)), must(r.pd.CreateMW(r.ctx))
		if p, l, m, w, b := r.pd.PrivilegedToken(), mr.LocalToken(), mr.RemoteToken(), mw.RemoteToken(), mr.Base(); p != 1 || l != 2 || m != 3 || w != 4 || b != 4096 {
			t.Errorf("tokens %d, %d, %d, %d, base %d", p, l, m, w, b)
		}
		r.ok(mr.InitializeFastRegister(r.ctx, 1, true))
		r.ok(mr.Register(r.ctx, nil, 0, 0))
		r.ok(mr.Deregister(r.ctx))
		if err := r.rcq.Moderate(1, 1); !errors.Is(err, ntstatus.NotSupported) {
			t.Errorf("Moderate: %v", err)
		}
		e, l := must(r.a.CreateSharedEndpoint(r.ctx, here)), must(r.a.CreateListener(r.ctx, func(ndk.Connector) {}))
		if e.LocalAddr() != here {
			t.Errorf("LocalAddr of a shared endpoint: %v", e.LocalAddr())
		}
		if a, err := l.LocalAddr(); a.IsValid() || err != nil {
			t.Errorf("LocalAddr of a listener: %v, %v", a, err)
		}
		lost := 0
		for _, begin := range []func(ndk.Connector) error{
			func(c ndk.Connector) error { return c.CompleteConnect(r.ctx, func() { lost++ }) },
			func(c ndk.Connector) error { return c.CompleteConnectEx(r.ctx, func(n uint32) { lost += int(n) - 4 }) },
			func(c ndk.Connector) error {
				return c.Accept(r.ctx, r.qp, ndk.ConnParams{Private: []byte("p")}, func() { lost++ })
			},
			func(c ndk.Connector) error {
				return c.AcceptEx(r.ctx, r.qp, ndk.ConnParams{}, func(n uint32) { lost += int(n) - 4 })
			},
		} {
			before := lost
			c := must(r.a.CreateConnector(r.ctx))
			r.ok(begin(c))
			f := ndk.Unwrap(c).(*fakeConnector)
			f.event(5)
			if lost != before+1 {
				t.Errorf("the end of a connection was told %d times", lost-before)
			}
			if err := c.Reject([]byte("no")); !errors.Is(err, ntstatus.ConnectionAborted) || string(f.params.Private) != "no" {
				t.Errorf("Reject: %v, %q", err, f.params.Private)
			}
			if d, err := c.ConnectionData(nil); d.RequiredDataSize != 9 || !errors.Is(err, ntstatus.BufferTooSmall) {
				t.Errorf("ConnectionData: %+v, %v", d, err)
			}
			la, _ := c.LocalAddr()
			pa, _ := c.PeerAddr()
			if la != here || pa != there {
				t.Errorf("addresses %v, %v", la, pa)
			}
			r.ok(c.Disconnect(r.ctx))
			c.Close()
		}
		// Posts with objects of the layer, whatever else it does.
		for _, err := range []error{
			r.qp.Bind(1, mr, mw, 0, 0, 0), r.qp.FastRegister(1, mr, nil, 0, 0, 0, 0), r.qp.Invalidate(1, mw, 0), r.qp.SendAndInvalidate(1, nil, 0, 1),
			r.qp.Read(1, nil, 0, 0, 0), r.qp.Write(1, nil, 0, 0, 0), r.qp.Receive(1, nil),
			r.qp.Send(1, []ndk.SGE{{Inline: []byte("x")}}, ndk.Inline),
		} {
			r.ok(err)
		}
		want := []ndk.OpType{ndk.OpBind, ndk.OpFastRegister, ndk.OpInvalidate, ndk.OpSend, ndk.OpRead, ndk.OpWrite, ndk.OpReceive, ndk.OpSend}
		var got []ndk.OpType
		for _, p := range r.fq.posts {
			got = append(got, p.op)
		}
		if !slices.Equal(got, want) {
			t.Errorf("posts %v, want %v", got, want)
		}
		r.qp.Flush()
		for _, o := range []ndk.Object{e, l, mr, mw} {
			o.Close()
		}
		r.a.ReleaseLAM(&lam)
		if got := r.finish(); len(got) > 0 {
			t.Errorf("audit: %v", got)
		}
	}
}

// Contexts come back by identity, of any type, through Poll and PollEx.
func TestContextsComeBack(t *testing.T) {
	for _, cfg := range []Config{{}, audited, {Trace: func(Event) {}}, {OnResult: func(*ndk.ResultEx) {}}} {
		r := newRig(t, cfg)
		rc := []any{nil, 7, "s", &r, []byte{1}[:0:0] == nil, struct{}{}}
		for i, c := range rc {
			r.ok(r.qp.Send(c, nil, 0))
			r.fq.finish(i, ok)
		}
		got := r.drain()
		if len(got) != len(rc) {
			t.Fatalf("%d completions, want %d", len(got), len(rc))
		}
		for i := range rc {
			if got[i].RequestContext != rc[i] || got[i].QPContext != any(r) {
				t.Errorf("contexts %v, %v; want %v, %v", got[i].RequestContext, got[i].QPContext, rc[i], r)
			}
		}
		r.finish()
	}
}

// An empty layer hands the contexts of the consumer down as they are.
func TestEmptyConfigPassesThrough(t *testing.T) {
	r := newRig(t, Config{})
	r.ok(r.qp.Send("rc", nil, 0))
	if r.fq.posts[0].rc != "rc" || r.fq.ctx != any(r) {
		t.Errorf("the provider has %v and %v", r.fq.posts[0].rc, r.fq.ctx)
	}
	r.finish()
}

// Two layers, each with its books.
func TestLayersNest(t *testing.T) {
	fa := newFakeAdapter()
	inner := Wrap(fa, audited)
	outer := Wrap(inner, audited)
	ctx := t.Context()
	pd := must(outer.CreatePD(ctx))
	cq := must(outer.CreateCQ(ctx, ndk.CQConfig{Depth: 4}))
	q := must(pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: cq, InitiatorCQ: cq, QPContext: "q"}))
	c := must(outer.CreateConnector(ctx))
	if err := c.Connect(ctx, q, here, here, ndk.ConnParams{}); err != nil {
		t.Fatal(err)
	}
	f := ndk.Unwrap(q).(*fakeQP)
	if err := q.Send("rc", nil, 0); err != nil {
		t.Fatal(err)
	}
	f.finish(0, ok)
	var res [2]ndk.Result
	if n := cq.Poll(res[:]); n != 1 || res[0].QPContext != "q" || res[0].RequestContext != "rc" {
		t.Errorf("%d completions, the first %+v", n, res[0])
	}
	f.noFlush = true
	if err := q.Send("lost", nil, 0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	q.Close()
	cq.Close()
	pd.Close()
	outer.Close()
	for _, a := range []*Adapter{inner, outer} {
		if got, want := strings.Join(a.Audit(), "; "), "QP 1: closed, and Send #2 never completed"; got != want {
			t.Errorf("audit %q, want %q", got, want)
		}
	}
}

// Objects of every kind unwrap to those of the provider, and report as they do.
func TestObjectsUnwrap(t *testing.T) {
	r := newRig(t, audited)
	s := must(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{Depth: 1}))
	var handed ndk.Connector
	l := must(r.a.CreateListener(r.ctx, func(c ndk.Connector) { handed = c }))
	r.ok(l.Listen(r.ctx, here))
	fc := r.fa.connector()
	ndk.Unwrap(l).(*fakeListener).onConnect(fc)
	if handed == ndk.Connector(fc) || ndk.Unwrap(handed) != ndk.Object(fc) {
		t.Errorf("the connect event handed out %T", handed)
	}
	for _, o := range []ndk.Object{handed, l, s, must(r.pd.CreateMR(r.ctx, true)), must(r.pd.CreateMW(r.ctx)),
		must(r.a.CreateSharedEndpoint(r.ctx, here)), must(r.a.CreateConnector(r.ctx)), r.qp, r.rcq, r.icq, r.pd, r.a} {
		in := ndk.Unwrap(o)
		if in == o || in.Kind() != o.Kind() || in.Version() != o.Version() || in.Closed() != o.Closed() {
			t.Errorf("%v: kind %v, version %v", in.Kind(), o.Kind(), o.Version())
		}
		if _, err := o.Extension(ndk.GUID{1}, ndk.Version11); !errors.Is(err, ntstatus.NotSupported) {
			t.Errorf("%v: an unknown extension gives %v", o.Kind(), err)
		}
		if o != ndk.Object(r.a) {
			o.Close()
		}
	}
	r.a.Close()
	r.a.Check(t)
}

// Extensions of a QP that do not post are handed on as they are.
func TestExtensions(t *testing.T) {
	r := newRig(t, audited)
	x := must(r.qp.Extension(ndk.CopyCounterExtension, ndk.Version{Major: 1}))
	if x.(ndk.CopyCounter).BytesCopied() != 42 {
		t.Error("not the CopyCounter of the provider")
	}
	w := must(r.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})).(ndk.FileWriter)
	r.ok(w.WriteFile("rc", ndk.FileRange{Length: 10}, 0, 0, 0))
	r.fq.finish(0, ok)
	if got := r.drain(); len(got) != 1 || got[0].RequestContext != "rc" {
		t.Errorf("completions %v", got)
	}
	if got := r.finish(); len(got) > 0 {
		t.Error(got)
	}
}

func TestFaultsOfCalls(t *testing.T) {
	cause := errors.New("cause")
	for _, tc := range []struct {
		fault error
		st    ndk.Status
		is    error
	}{
		{ntstatus.InsufficientResources, ntstatus.InsufficientResources, ntstatus.InsufficientResources},
		{&ndk.Error{Op: "x", Status: ntstatus.DeviceRemoved, Err: cause}, ntstatus.DeviceRemoved, cause},
		{cause, ndk.StatusOf(cause), cause},
	} {
		var at string
		var seen []Call
		r := newRig(t, Config{Name: "n", Audit: true, Fault: func(c Call) error {
			if c.Func != at {
				return nil
			}
			seen = append(seen, c)
			return tc.fault
		}})
		mr, conn := must(r.pd.CreateMR(r.ctx, true)), must(r.a.CreateConnector(r.ctx))
		srq := must(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{Depth: 1}))
		l := must(r.a.CreateListener(r.ctx, func(ndk.Connector) {}))
		first := func(_ any, err error) error { return err }
		calls := []struct {
			fn   string
			kind ndk.ObjectKind
			do   func() error
		}{
			{"Info", ndk.ObjectAdapter, func() error { return first(r.a.Info(r.ctx)) }},
			{"CreateCQ", ndk.ObjectAdapter, func() error { return first(r.a.CreateCQ(r.ctx, ndk.CQConfig{})) }},
			{"CreatePD", ndk.ObjectAdapter, func() error { return first(r.a.CreatePD(r.ctx)) }},
			{"CreateSharedEndpoint", ndk.ObjectAdapter, func() error { return first(r.a.CreateSharedEndpoint(r.ctx, here)) }},
			{"CreateConnector", ndk.ObjectAdapter, func() error { return first(r.a.CreateConnector(r.ctx)) }},
			{"CreateListener", ndk.ObjectAdapter, func() error { return first(r.a.CreateListener(r.ctx, func(ndk.Connector) {})) }},
			{"BuildLAM", ndk.ObjectAdapter, func() error { return first(r.a.BuildLAM(r.ctx, nil, 0, new(ndk.LAM))) }},
			{"Alloc", ndk.ObjectAdapter, func() error { _, _, err := r.a.Alloc(1); return err }},
			{"Extension", ndk.ObjectQP, func() error { return first(r.qp.Extension(ndk.CopyCounterExtension, ndk.Version{})) }},
			{"Resize", ndk.ObjectCQ, func() error { return r.rcq.Resize(r.ctx, 1) }},
			{"Moderate", ndk.ObjectCQ, func() error { return r.rcq.Moderate(1, 1) }},
			{"CreateMR", ndk.ObjectPD, func() error { return first(r.pd.CreateMR(r.ctx, true)) }},
			{"CreateMW", ndk.ObjectPD, func() error { return first(r.pd.CreateMW(r.ctx)) }},
			{"CreateSRQ", ndk.ObjectPD, func() error { return first(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{})) }},
			{"CreateQP", ndk.ObjectPD, func() error { return first(r.pd.CreateQP(r.ctx, ndk.QPConfig{})) }},
			{"CreateQPWithSRQ", ndk.ObjectPD, func() error { return first(r.pd.CreateQPWithSRQ(r.ctx, ndk.QPConfig{}, nil)) }},
			{"Register", ndk.ObjectMR, func() error { return mr.Register(r.ctx, nil, 0, 0) }},
			{"Deregister", ndk.ObjectMR, func() error { return mr.Deregister(r.ctx) }},
			{"InitializeFastRegister", ndk.ObjectMR, func() error { return mr.InitializeFastRegister(r.ctx, 1, true) }},
			{"Modify", ndk.ObjectSRQ, func() error { return srq.Modify(r.ctx, 0, 0) }},
			{"Connect", ndk.ObjectConnector, func() error { return conn.Connect(r.ctx, r.qp, here, here, ndk.ConnParams{}) }},
			{"ConnectShared", ndk.ObjectConnector, func() error { return conn.ConnectShared(r.ctx, r.qp, nil, here, ndk.ConnParams{}) }},
			{"CompleteConnect", ndk.ObjectConnector, func() error { return conn.CompleteConnect(r.ctx, nil) }},
			{"CompleteConnectEx", ndk.ObjectConnector, func() error { return conn.CompleteConnectEx(r.ctx, nil) }},
			{"Accept", ndk.ObjectConnector, func() error { return conn.Accept(r.ctx, r.qp, ndk.ConnParams{}, nil) }},
			{"AcceptEx", ndk.ObjectConnector, func() error { return conn.AcceptEx(r.ctx, r.qp, ndk.ConnParams{}, nil) }},
			{"Reject", ndk.ObjectConnector, func() error { return conn.Reject(nil) }},
			{"ConnectionData", ndk.ObjectConnector, func() error { return first(conn.ConnectionData(nil)) }},
			{"LocalAddr", ndk.ObjectConnector, func() error { return first(conn.LocalAddr()) }},
			{"PeerAddr", ndk.ObjectConnector, func() error { return first(conn.PeerAddr()) }},
			{"Disconnect", ndk.ObjectConnector, func() error { return conn.Disconnect(r.ctx) }},
			{"Listen", ndk.ObjectListener, func() error { return l.Listen(r.ctx, here) }},
			{"LocalAddr", ndk.ObjectListener, func() error { return first(l.LocalAddr()) }},
		}
		for _, c := range calls {
			at, seen = c.fn, nil
			err := c.do()
			ne, typed := errors.AsType[*ndk.Error](err)
			if !typed || ne.Status != tc.st || !errors.Is(err, tc.is) {
				t.Errorf("%s with fault %v: %v", c.fn, tc.fault, err)
			}
			want := Call{Adapter: "n", Object: ObjectID{c.kind, 1}, Func: c.fn}
			if len(seen) != 1 || seen[0] != want {
				t.Errorf("%s: Fault was asked about %+v, want %+v once", c.fn, seen, want)
			}
		}
		if r.fa.calls != 0 {
			t.Error("a call went down in spite of its fault")
		}
		at = ""
		for _, o := range []ndk.Object{mr, conn, srq, l} {
			o.Close()
		}
		if got := r.finish(); len(got) > 0 {
			t.Errorf("faults are in the audit: %v", got)
		}
	}
}

func TestFaultOfOpen(t *testing.T) {
	fail := true
	p := WrapProvider(fakeProvider{newFakeAdapter()}, Config{Audit: true, Fault: func(c Call) error {
		if fail && c.Func == "Open" {
			return ntstatus.DeviceNotReady
		}
		return nil
	}})
	if _, err := p.Open(t.Context(), netip.Addr{}, ndk.Version21); !errors.Is(err, ntstatus.DeviceNotReady) {
		t.Errorf("Open: %v", err)
	}
	fail = false
	a := must(p.Open(t.Context(), netip.Addr{}, ndk.Version21))
	if got := p.Audit(); !slices.Equal(got, []string{"Adapter 1: never closed"}) {
		t.Errorf("audit: %q", got)
	}
	a.Close()
	p.Check(t)
}

// A fault of a post is a PostError or a bare Status, is not in the books, and
// hands on what was deferred before it.
func TestFaultsOfPosts(t *testing.T) {
	var fault error
	var asked Call
	for _, audit := range []bool{false, true} {
		r := newRig(t, Config{Audit: audit, Fault: func(c Call) error { asked = c; return fault }})
		w := must(r.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})).(ndk.FileWriter)
		srq := must(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{Depth: 1}))
		const f = ndk.SilentSuccess
		posts := []struct {
			fn  string
			n   uint64
			do  func() error
			one bool // of the initiator queue
		}{
			{"Send", 12, func() error { return r.qp.Send("rc", append(sge(4), sge(8)...), f) }, true},
			{"SendAndInvalidate", 4, func() error { return r.qp.SendAndInvalidate("rc", sge(4), f, 1) }, true},
			{"Read", 4, func() error { return r.qp.Read("rc", sge(4), 0, 0, f) }, true},
			{"Write", 4, func() error { return r.qp.Write("rc", sge(4), 0, 0, f) }, true},
			{"WriteFile", 9, func() error { return w.WriteFile("rc", ndk.FileRange{Length: 9}, 0, 0, f) }, true},
			{"Bind", 5, func() error { return r.qp.Bind("rc", nil, nil, 0, 5, f) }, true},
			{"FastRegister", 6, func() error { return r.qp.FastRegister("rc", nil, nil, 0, 6, 0, f) }, true},
			{"Invalidate", 0, func() error { return r.qp.Invalidate("rc", nil, f) }, true},
			{"Receive", 4, func() error { return r.qp.Receive("rc", sge(4)) }, false},
			{"Receive", 4, func() error { return srq.Receive("rc", sge(4)) }, false},
		}
		for _, p := range posts {
			for _, fl := range []struct{ give, want error }{
				{ndk.ErrQueueFull, ndk.ErrQueueFull},
				{ntstatus.ConnectionInvalid, ntstatus.ConnectionInvalid},
				{io.ErrUnexpectedEOF, ndk.StatusOf(io.ErrUnexpectedEOF)},
			} {
				fault = nil
				r.ok(r.qp.Send("deferred", nil, ndk.Defer|f))
				fault = fl.give
				before, kicked := len(r.fq.posts), r.fq.kicked
				if err := p.do(); err != fl.want {
					t.Errorf("%s: %#v, want %#v", p.fn, err, fl.want)
				}
				if len(r.fq.posts) != before {
					t.Errorf("%s went down in spite of its fault", p.fn)
				}
				if got := r.fq.kicked > kicked; got != p.one {
					t.Errorf("%s: deferred requests handed on: %v, want %v", p.fn, got, p.one)
				}
				if asked.Func != p.fn || !asked.Post || asked.RequestContext != "rc" || asked.Length != p.n || asked.Request != 0 {
					t.Errorf("%s: Fault was asked about %+v", p.fn, asked)
				}
			}
		}
		fault = nil
		srq.Close()
		if got := r.finish(); len(got) > 0 {
			t.Errorf("audit: %v", got)
		}
	}
}

// OnResult changes what the consumer gets; the audit goes by what the provider
// said.
func TestOnResult(t *testing.T) {
	var types []ndk.OpType
	r := newRig(t, Config{Audit: true, OnResult: func(e *ndk.ResultEx) {
		types = append(types, e.Type)
		if e.RequestContext == "fail" {
			e.Status = ntstatus.IOTimeout
		}
	}})
	r.ok(r.qp.Send("fail", nil, 0))
	r.ok(r.qp.Read("work", nil, 0, 0, 0))
	r.fq.finish(0, ok)
	r.fq.finish(1, ok)
	var res [2]ndk.Result
	if n := r.icq.Poll(res[:]); n != 2 || res[0].Status != ntstatus.IOTimeout || res[1].Status != ok {
		t.Errorf("%d completions: %+v", n, res)
	}
	if !slices.Equal(types, []ndk.OpType{ndk.OpSend, ndk.OpRead}) {
		t.Errorf("OnResult saw types %v of a plain Poll", types)
	}
	if got := r.finish(); len(got) > 0 {
		t.Errorf("audit: %v", got)
	}
}

func TestTrace(t *testing.T) {
	var b bytes.Buffer
	fault := error(nil)
	r := newRig(t, Config{Name: "a", Trace: TraceTo(&b), Fault: func(Call) error { return fault }})
	b.Reset()
	r.ok(r.qp.Receive("r", sge(64)))
	r.fq.refuse = ndk.ErrQueueFull
	_ = r.qp.Send("s", sge(8), ndk.SilentSuccess|ndk.ReadFence)
	r.fq.refuse = nil
	e := r.fq.result(0, ok)
	e.Type, e.Bytes, e.InvalidatedToken = ndk.OpReceiveAndInvalidate, 60, 0x123
	r.fq.posts[0].over = true
	r.frcq.push(e)
	r.rcq.Arm(ndk.ArmAny)
	r.frcq.notify(ok)
	r.rcq.PollEx(make([]ndk.ResultEx, 1))
	fault = ntstatus.InsufficientResources
	_ = r.qp.Send("s", sge(8), 0)
	_, _ = r.pd.CreateMR(r.ctx, false)
	fault = nil
	l := must(r.a.CreateListener(r.ctx, func(c ndk.Connector) {
		r.ok(c.AcceptEx(r.ctx, r.qp, ndk.ConnParams{Private: []byte("secret")}, func(uint32) {}))
		ndk.Unwrap(c).(*fakeConnector).event(0x10)
		c.Close()
	}))
	l.ControlConnectEvents(true)
	ndk.Unwrap(l).(*fakeListener).onConnect(r.fa.connector())
	r.qp.Flush()
	r.qp.Close()
	want := `a QP 1 Receive #1 len=64
a QP 1 Receive #1 len=64 = ok
a QP 1 Send #1 len=8 flags=0x3
a QP 1 Send #1 len=8 flags=0x3 = ` + ndk.ErrQueueFull.Error() + `
a CQ 1 Arm
a CQ 1 Notify called back: ` + ok.String() + `
a QP 1 Receive #1 len=64 done: ReceiveAndInvalidate ` + ok.String() + ` bytes=60 invalidated=0x123
a QP 1 Send len=8
a QP 1 Send len=8 = ` + ntstatus.InsufficientResources.Error() + `
a PD 1 CreateMR
a PD 1 CreateMR = ndk: CreateMR: ` + ntstatus.InsufficientResources.String() + `
a Adapter 1 CreateListener
a Adapter 1 CreateListener = Listener 1
a Listener 1 ControlConnectEvents
a Listener 1 onConnect called back: Connector 1
a Connector 1 AcceptEx
a Connector 1 AcceptEx = ok
a Connector 1 onDisconnect called back: reason 0x10
a Connector 1 Close
a QP 1 Flush
a QP 1 Close
`
	if got := b.String(); got != want {
		t.Errorf("trace:\n%s\nwant:\n%s", got, want)
	}
	r.finish()
}

// A nil callback stays nil: the provider may refuse it, or save the call.
func TestNilCallbacksStayNil(t *testing.T) {
	r := newRig(t, audited)
	if _, err := r.a.CreateListener(r.ctx, nil); !errors.Is(err, ntstatus.InvalidParameter) {
		t.Errorf("CreateListener(nil): %v", err)
	}
	c := must(r.a.CreateConnector(r.ctx))
	r.ok(c.CompleteConnectEx(r.ctx, nil))
	q := must(r.a.CreateCQ(r.ctx, ndk.CQConfig{Depth: 1}))
	s := must(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{Depth: 1}))
	if ndk.Unwrap(c).(*fakeConnector).event != nil || ndk.Unwrap(q).(*fakeCQ).notify != nil || ndk.Unwrap(s).(*fakeSRQ).notify != nil {
		t.Error("a nil callback became one")
	}
	for _, o := range []ndk.Object{c, q, s} {
		o.Close()
	}
	if got := r.finish(); len(got) > 0 {
		t.Error(got)
	}
}
