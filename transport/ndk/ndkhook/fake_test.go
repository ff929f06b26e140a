package ndkhook

import (
	"context"
	"net/netip"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// fakeObject counts references as a provider does, until told to break a rule.
type fakeObject struct {
	kind    ndk.ObjectKind
	mu      sync.Mutex
	refs    int
	closing bool
	stuck   bool // its Close never ends
	done    chan struct{}
	once    sync.Once
	parents []*fakeObject
}

func (o *fakeObject) start(kind ndk.ObjectKind, parents ...*fakeObject) {
	o.kind, o.refs, o.parents, o.done = kind, 1, parents, make(chan struct{})
	for _, p := range parents {
		p.hold()
	}
}

func (o *fakeObject) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refs++
}

func (o *fakeObject) release() {
	o.mu.Lock()
	o.refs--
	last := o.refs == 0 && !o.stuck
	o.mu.Unlock()
	if last {
		o.fire()
		for _, p := range o.parents {
			p.release()
		}
	}
}

// fire makes the object closed, rightly or not.
func (o *fakeObject) fire() { o.once.Do(func() { close(o.done) }) }

func (o *fakeObject) Kind() ndk.ObjectKind    { return o.kind }
func (o *fakeObject) Version() ndk.Version    { return ndk.Version21 }
func (o *fakeObject) Closed() <-chan struct{} { return o.done }
func (o *fakeObject) Close() {
	o.mu.Lock()
	was := o.closing
	o.closing = true
	o.mu.Unlock()
	if !was {
		o.release()
	}
}
func (o *fakeObject) Extension(ndk.GUID, ndk.Version) (any, error) {
	return nil, &ndk.Error{Op: "query extension", Status: ntstatus.NotSupported}
}

type fakeProvider struct{ a *fakeAdapter }

func (p fakeProvider) Open(context.Context, netip.Addr, ndk.Version) (ndk.Adapter, error) {
	return p.a, nil
}

type fakeAdapter struct {
	ndk.Adapter
	fakeObject
	cqs   []*fakeCQ
	calls int // of BuildLAM
	freed int
	hasty bool // Close waits for nobody
}

func (a *fakeAdapter) Close() {
	a.fakeObject.Close()
	if a.hasty {
		a.fire()
	}
}

func newFakeAdapter() *fakeAdapter {
	a := &fakeAdapter{}
	a.start(ndk.ObjectAdapter)
	return a
}

func (a *fakeAdapter) Kind() ndk.ObjectKind    { return a.fakeObject.Kind() }
func (a *fakeAdapter) Version() ndk.Version    { return a.fakeObject.Version() }
func (a *fakeAdapter) Closed() <-chan struct{} { return a.fakeObject.Closed() }
func (a *fakeAdapter) Extension(g ndk.GUID, v ndk.Version) (any, error) {
	return a.fakeObject.Extension(g, v)
}
func (a *fakeAdapter) Info(context.Context) (ndk.AdapterInfo, error) {
	return ndk.AdapterInfo{VendorID: 7}, nil
}
func (a *fakeAdapter) ReleaseLAM(*ndk.LAM) {}
func (a *fakeAdapter) Alloc(n int) (b []byte, free func(), err error) {
	return make([]byte, n), func() { a.freed++ }, nil
}
func (a *fakeAdapter) BuildLAM(context.Context, ndk.Memory, int, *ndk.LAM) (uint32, error) {
	a.calls++
	return 5, nil
}

func (a *fakeAdapter) CreateCQ(_ context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	q := &fakeCQ{notify: c.Notify}
	q.start(ndk.ObjectCQ, &a.fakeObject)
	a.cqs = append(a.cqs, q)
	return q, nil
}

func (a *fakeAdapter) CreatePD(context.Context) (ndk.PD, error) {
	p := &fakePD{a: a}
	p.start(ndk.ObjectPD, &a.fakeObject)
	return p, nil
}

func (a *fakeAdapter) CreateConnector(context.Context) (ndk.Connector, error) {
	return a.connector(), nil
}

func (a *fakeAdapter) connector() *fakeConnector {
	c := &fakeConnector{}
	c.start(ndk.ObjectConnector, &a.fakeObject)
	return c
}

func (a *fakeAdapter) CreateListener(_ context.Context, onConnect func(ndk.Connector)) (ndk.Listener, error) {
	if onConnect == nil {
		return nil, &ndk.Error{Op: "create listener", Status: ntstatus.InvalidParameter}
	}
	l := &fakeListener{onConnect: onConnect}
	l.start(ndk.ObjectListener, &a.fakeObject)
	return l, nil
}

func (a *fakeAdapter) CreateSharedEndpoint(context.Context, netip.AddrPort) (ndk.SharedEndpoint, error) {
	e := &fakeEndpoint{}
	e.start(ndk.ObjectSharedEndpoint, &a.fakeObject)
	return e, nil
}

type fakeEndpoint struct{ fakeObject }

func (e *fakeEndpoint) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:5445") }

type fakeCQ struct {
	fakeObject
	notify func(ndk.Status)
	mu     sync.Mutex
	queue  []ndk.ResultEx
	excess int           // added to what Poll returns
	gate   chan struct{} // Poll waits for it; nil does not
	inside chan struct{} // Poll tells that it waits
}

func (c *fakeCQ) push(r ndk.ResultEx) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, r)
}

func (c *fakeCQ) Arm(ndk.ArmType) {}

func (c *fakeCQ) PollEx(dst []ndk.ResultEx) int {
	c.mu.Lock()
	gate := c.gate
	c.mu.Unlock()
	if gate != nil {
		c.inside <- struct{}{}
		<-gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(dst, c.queue)
	c.queue = c.queue[n:]
	return n + c.excess
}

func (c *fakeCQ) Poll(dst []ndk.Result) int {
	ex := make([]ndk.ResultEx, len(dst))
	n := c.PollEx(ex)
	for i := range ex[:min(n, len(ex))] {
		dst[i] = ex[i].Result
	}
	return n
}

func (c *fakeCQ) Resize(_ context.Context, depth int) error {
	if depth < 1 {
		return &ndk.Error{Op: "resize CQ", Status: ntstatus.InvalidParameter}
	}
	return nil
}
func (c *fakeCQ) Moderate(uint32, uint32) error {
	return &ndk.Error{Op: "moderate CQ", Status: ntstatus.NotSupported}
}

type fakePD struct {
	fakeObject
	a *fakeAdapter
}

func (p *fakePD) PrivilegedToken() ndk.Token { return 1 }

func (p *fakePD) CreateMR(context.Context, bool) (ndk.MR, error) {
	m := &fakeMR{}
	m.start(ndk.ObjectMR, &p.fakeObject)
	return m, nil
}

func (p *fakePD) CreateMW(context.Context) (ndk.MW, error) {
	w := &fakeMW{}
	w.start(ndk.ObjectMW, &p.fakeObject)
	return w, nil
}

func (p *fakePD) CreateSRQ(_ context.Context, c ndk.SRQConfig) (ndk.SRQ, error) {
	s := &fakeSRQ{notify: c.Notify}
	s.start(ndk.ObjectSRQ, &p.fakeObject)
	return s, nil
}

func (p *fakePD) CreateQP(_ context.Context, c ndk.QPConfig) (ndk.QP, error) {
	return p.create(c, nil), nil
}

func (p *fakePD) CreateQPWithSRQ(_ context.Context, c ndk.QPConfig, s ndk.SRQ) (ndk.QP, error) {
	return p.create(c, ndk.Unwrap(s).(*fakeSRQ)), nil
}

func (p *fakePD) create(c ndk.QPConfig, s *fakeSRQ) *fakeQP {
	q := &fakeQP{ctx: c.QPContext, rcq: ndk.Unwrap(c.ReceiveCQ).(*fakeCQ), icq: ndk.Unwrap(c.InitiatorCQ).(*fakeCQ)}
	parents := []*fakeObject{&p.fakeObject, &q.rcq.fakeObject, &q.icq.fakeObject}
	if s != nil {
		parents = append(parents, &s.fakeObject)
	}
	q.start(ndk.ObjectQP, parents...)
	return q
}

type fakeMR struct{ fakeObject }

func (*fakeMR) Register(context.Context, ndk.Memory, int, ndk.MRFlags) error { return nil }
func (*fakeMR) Deregister(context.Context) error                             { return nil }
func (*fakeMR) InitializeFastRegister(context.Context, int, bool) error      { return nil }
func (*fakeMR) LocalToken() ndk.Token                                        { return 2 }
func (*fakeMR) RemoteToken() ndk.Token                                       { return 3 }
func (*fakeMR) Base() uint64                                                 { return 4096 }

type fakeMW struct{ fakeObject }

func (*fakeMW) RemoteToken() ndk.Token { return 4 }

// fakePost is what a queue was given.
type fakePost struct {
	rc   any
	op   ndk.OpType
	over bool // it completed, or never will
}

type fakeSRQ struct {
	fakeObject
	notify func(ndk.Status)
	posts  []fakePost
}

func (s *fakeSRQ) Receive(rc any, _ []ndk.SGE) error {
	s.posts = append(s.posts, fakePost{rc: rc, op: ndk.OpReceive})
	return nil
}

func (s *fakeSRQ) Modify(context.Context, int, int) error { return nil }

// fakeQP completes what it is told to, and on Close the rest as cancelled.
type fakeQP struct {
	fakeObject
	ctx      any
	rcq, icq *fakeCQ
	posts    []fakePost // of both queues
	refuse   error
	during   func(fakePost) // runs inside a post
	noFlush  bool
	kicked   int // posts that it refuses itself
}

func (q *fakeQP) post(rc any, op ndk.OpType) error {
	p := fakePost{rc: rc, op: op}
	if q.refuse == nil {
		q.posts = append(q.posts, p)
	}
	if q.during != nil {
		q.during(p)
	}
	return q.refuse
}

func (q *fakeQP) Send(rc any, _ []ndk.SGE, f ndk.OpFlags) error {
	if f&ndk.AllowRemoteRead != 0 {
		q.kicked++
		return ndk.ErrFlags
	}
	return q.post(rc, ndk.OpSend)
}
func (q *fakeQP) SendAndInvalidate(rc any, _ []ndk.SGE, _ ndk.OpFlags, _ ndk.Token) error {
	return q.post(rc, ndk.OpSend)
}
func (q *fakeQP) Receive(rc any, _ []ndk.SGE) error { return q.post(rc, ndk.OpReceive) }
func (q *fakeQP) Read(rc any, _ []ndk.SGE, _ uint64, _ ndk.Token, _ ndk.OpFlags) error {
	return q.post(rc, ndk.OpRead)
}
func (q *fakeQP) Write(rc any, _ []ndk.SGE, _ uint64, _ ndk.Token, _ ndk.OpFlags) error {
	return q.post(rc, ndk.OpWrite)
}
func (q *fakeQP) Bind(rc any, _ ndk.MR, _ ndk.MW, _, _ uint64, _ ndk.OpFlags) error {
	return q.post(rc, ndk.OpBind)
}
func (q *fakeQP) FastRegister(rc any, _ ndk.MR, _ []ndk.LogicalAddress, _ uint32, _, _ uint64, _ ndk.OpFlags) error {
	return q.post(rc, ndk.OpFastRegister)
}
func (q *fakeQP) Invalidate(rc any, _ ndk.Invalidatable, _ ndk.OpFlags) error {
	return q.post(rc, ndk.OpInvalidate)
}
func (q *fakeQP) WriteFile(rc any, _ ndk.FileRange, _ uint64, _ ndk.Token, _ ndk.OpFlags) error {
	return q.post(rc, ndk.OpWrite)
}
func (q *fakeQP) Flush()              {}
func (q *fakeQP) BytesCopied() uint64 { return 42 }

func (q *fakeQP) Extension(id ndk.GUID, v ndk.Version) (any, error) {
	switch id {
	case ndk.FileWriterExtension:
		return ndk.FileWriter(q), nil
	case ndk.CopyCounterExtension:
		return ndk.CopyCounter(q), nil
	}
	return q.fakeObject.Extension(id, v)
}

// result is the right completion of post i.
func (q *fakeQP) result(i int, st ndk.Status) ndk.ResultEx {
	p := q.posts[i]
	return ndk.ResultEx{Result: ndk.Result{Status: st, QPContext: q.ctx, RequestContext: p.rc}, Type: p.op}
}

// finish completes post i.
func (q *fakeQP) finish(i int, st ndk.Status) {
	q.posts[i].over = true
	q.queue(q.posts[i].op).push(q.result(i, st))
}

func (q *fakeQP) queue(op ndk.OpType) *fakeCQ {
	if op == ndk.OpReceive {
		return q.rcq
	}
	return q.icq
}

func (q *fakeQP) Close() {
	for i := range q.posts {
		if !q.posts[i].over && !q.noFlush {
			q.finish(i, ntstatus.Cancelled)
		}
	}
	q.fakeObject.Close()
}

type fakeConnector struct {
	ndk.Connector
	fakeObject
	event  func(uint32)
	params ndk.ConnParams
}

func (c *fakeConnector) Kind() ndk.ObjectKind    { return c.fakeObject.Kind() }
func (c *fakeConnector) Version() ndk.Version    { return c.fakeObject.Version() }
func (c *fakeConnector) Close()                  { c.fakeObject.Close() }
func (c *fakeConnector) Closed() <-chan struct{} { return c.fakeObject.Closed() }
func (c *fakeConnector) Extension(g ndk.GUID, v ndk.Version) (any, error) {
	return c.fakeObject.Extension(g, v)
}
func (c *fakeConnector) Connect(_ context.Context, q ndk.QP, _, _ netip.AddrPort, _ ndk.ConnParams) error {
	return c.join(&ndk.Unwrap(q).(*fakeQP).fakeObject)
}
func (c *fakeConnector) ConnectShared(_ context.Context, q ndk.QP, e ndk.SharedEndpoint, _ netip.AddrPort, _ ndk.ConnParams) error {
	return c.join(&ndk.Unwrap(q).(*fakeQP).fakeObject, &ndk.Unwrap(e).(*fakeEndpoint).fakeObject)
}
func (c *fakeConnector) CompleteConnectEx(_ context.Context, f func(uint32)) error {
	c.event = f
	return nil
}
func (c *fakeConnector) AcceptEx(_ context.Context, q ndk.QP, _ ndk.ConnParams, f func(uint32)) error {
	c.event = f
	return c.join(&ndk.Unwrap(q).(*fakeQP).fakeObject)
}
func (c *fakeConnector) CompleteConnect(_ context.Context, f func()) error {
	c.event = func(uint32) { f() }
	return nil
}
func (c *fakeConnector) Accept(_ context.Context, q ndk.QP, p ndk.ConnParams, f func()) error {
	c.params, c.event = p, func(uint32) { f() }
	return c.join(&ndk.Unwrap(q).(*fakeQP).fakeObject)
}
func (c *fakeConnector) Reject(private []byte) error {
	c.params.Private = private
	return &ndk.Error{Op: "reject", Status: ntstatus.ConnectionAborted}
}
func (c *fakeConnector) ConnectionData(buf []byte) (ndk.ConnData, error) {
	return ndk.ConnData{RequiredDataSize: 9}, &ndk.Error{Op: "data", Status: ntstatus.BufferTooSmall}
}
func (c *fakeConnector) LocalAddr() (netip.AddrPort, error)   { return here, nil }
func (c *fakeConnector) PeerAddr() (netip.AddrPort, error)    { return there, nil }
func (c *fakeConnector) Disconnect(ctx context.Context) error { return ctx.Err() }

func (c *fakeConnector) join(parents ...*fakeObject) error {
	for _, p := range parents {
		p.hold()
		c.parents = append(c.parents, p)
	}
	return nil
}

type fakeListener struct {
	fakeObject
	onConnect func(ndk.Connector)
}

func (l *fakeListener) Listen(context.Context, netip.AddrPort) error { return nil }
func (l *fakeListener) ControlConnectEvents(bool)                    {}
func (l *fakeListener) LocalAddr() (netip.AddrPort, error)           { return netip.AddrPort{}, nil }

// rig is a wrapped adapter with a QP on two CQs, and the fakes behind it.
type rig struct {
	t          *testing.T
	ctx        context.Context
	a          *Adapter
	pd         ndk.PD
	rcq, icq   ndk.CQ
	qp         ndk.QP
	fa         *fakeAdapter
	frcq, ficq *fakeCQ
	fq         *fakeQP
	onNotify   func() // runs in the notification of rcq
}

const rigDepth = 8

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, ctx: context.Background(), fa: newFakeAdapter()}
	r.a = Wrap(r.fa, cfg)
	r.pd = must(r.a.CreatePD(r.ctx))
	r.rcq = must(r.a.CreateCQ(r.ctx, ndk.CQConfig{Depth: rigDepth, Notify: func(ndk.Status) {
		if r.onNotify != nil {
			r.onNotify()
		}
	}}))
	r.icq = must(r.a.CreateCQ(r.ctx, ndk.CQConfig{Depth: rigDepth, Notify: func(ndk.Status) {}}))
	r.frcq, r.ficq = r.fa.cqs[0], r.fa.cqs[1]
	r.qp = r.newQP(nil)
	r.fq = ndk.Unwrap(r.qp).(*fakeQP)
	return r
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (r *rig) newQP(s ndk.SRQ) ndk.QP {
	c := ndk.QPConfig{ReceiveCQ: r.rcq, InitiatorCQ: r.icq, QPContext: r}
	if s != nil {
		return must(r.pd.CreateQPWithSRQ(r.ctx, c, s))
	}
	return must(r.pd.CreateQP(r.ctx, c))
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// drain polls both CQs until they are empty, by turns with Poll and PollEx.
func (r *rig) drain() (all []ndk.ResultEx) {
	for _, c := range []ndk.CQ{r.rcq, r.icq} {
		for i := 0; ; i++ {
			var ex [3]ndk.ResultEx
			var plain [3]ndk.Result
			var n int
			if i%2 == 0 {
				n = c.PollEx(ex[:])
			} else {
				n = c.Poll(plain[:])
				for i := range plain[:n] {
					ex[i].Result = plain[i]
				}
			}
			all = append(all, ex[:n]...)
			if n == 0 {
				break
			}
		}
	}
	return all
}

// finish closes all and returns the audit.
func (r *rig) finish() []string {
	r.qp.Close()
	r.drain()
	r.rcq.Close()
	r.icq.Close()
	r.pd.Close()
	r.a.Close()
	return r.a.Audit()
}
