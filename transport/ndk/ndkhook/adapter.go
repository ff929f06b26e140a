package ndkhook

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Provider is a wrapped provider.
type Provider struct {
	in  ndk.Provider
	cfg Config

	mu       sync.Mutex
	adapters []*Adapter // guarded by mu; all that were opened, with the audit on
}

// WrapProvider puts a layer between its consumer and p.
func WrapProvider(p ndk.Provider, cfg Config) *Provider { return &Provider{in: p, cfg: cfg} }

// Open implements ndk.Provider; the result is an *Adapter.
func (p *Provider) Open(ctx context.Context, local netip.Addr, min ndk.Version) (ndk.Adapter, error) {
	call := Call{Adapter: p.cfg.Name, Func: "Open"}
	if p.cfg.Trace != nil {
		p.cfg.Trace(Event{Type: Called, Call: call})
	}
	var in ndk.Adapter
	var err error
	if p.cfg.Fault != nil {
		if err = p.cfg.Fault(call); err != nil {
			err = slowFault(call.Func, err)
		}
	}
	if err == nil {
		in, err = p.in.Open(ctx, local, min)
	}
	if err != nil {
		if p.cfg.Trace != nil {
			p.cfg.Trace(Event{Type: Returned, Call: call, Err: err})
		}
		return nil, err
	}
	a := Wrap(in, p.cfg)
	if p.cfg.Trace != nil {
		p.cfg.Trace(Event{Type: Returned, Call: call, New: a.id})
	}
	if p.cfg.Audit {
		p.mu.Lock()
		p.adapters = append(p.adapters, a)
		p.mu.Unlock()
	}
	return a, nil
}

// Audit is that of all adapters that were opened.
func (p *Provider) Audit() []string {
	var all []string
	for _, a := range p.opened() {
		all = append(all, a.Audit()...)
	}
	return all
}

// Unjudged is the sum over all adapters that were opened.
func (p *Provider) Unjudged() uint64 {
	var n uint64
	for _, a := range p.opened() {
		n += a.Unjudged()
	}
	return n
}

func (p *Provider) opened() []*Adapter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.adapters[:len(p.adapters):len(p.adapters)]
}

// Check reports what Audit returns.
func (p *Provider) Check(t Reporter) {
	t.Helper()
	for _, s := range p.Audit() {
		t.Errorf("%s", s)
	}
}

// Adapter is a wrapped adapter.
type Adapter struct {
	object
	in      ndk.Adapter
	cfg     Config
	plain   bool // nothing to do for posts and polls
	track   bool // requests have records
	numbers [ndk.ObjectMax]atomic.Uint64
	report  report

	quit     chan struct{} // closed when the Close of the adapter behind returned
	quitOnce sync.Once
	watchers sync.WaitGroup

	mu    sync.Mutex
	live  map[*object]struct{} // guarded by mu; with the audit on, all that is not closed
	lams  map[*ndk.LAM]int     // guarded by mu; mappings that were built and not released
	alloc int                  // guarded by mu; allocations that were not freed
}

// Wrap puts a layer between its consumer and a.
func Wrap(a ndk.Adapter, cfg Config) *Adapter {
	w := &Adapter{
		in: a, cfg: cfg, quit: make(chan struct{}),
		track: cfg.Audit || cfg.Trace != nil || cfg.OnResult != nil,
		live:  make(map[*object]struct{}), lams: make(map[*ndk.LAM]int),
	}
	w.plain = !w.track && cfg.Fault == nil
	w.report.name = cfg.Name
	w.adopt(&w.object, ndk.ObjectAdapter, a)
	return w
}

// object is what the wrappers have in common.
type object struct {
	a      *Adapter
	id     ObjectID
	inner  ndk.Object
	closed <-chan struct{} // that of inner

	callbacks atomic.Int32 // that run now
	closing   atomic.Bool  // Close was called
	shut      atomic.Bool  // Close returned

	watched  chan struct{}        // closed when what follows from Closed is in the books
	parents  []*object            // guarded by a.mu
	children map[*object]struct{} // guarded by a.mu
}

// adopt makes o the wrapper of inner, which is a successor of parents.
func (a *Adapter) adopt(o *object, kind ndk.ObjectKind, inner ndk.Object, parents ...*object) {
	o.a, o.inner, o.closed = a, inner, inner.Closed()
	o.id = ObjectID{kind, a.numbers[kind].Add(1)}
	if !a.cfg.Audit {
		return
	}
	o.watched = make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.live[o] = struct{}{}
	o.parents = parents
	for _, p := range parents {
		p.addChild(o)
	}
}

// addChild is called under a.mu.
func (o *object) addChild(c *object) {
	if o.children == nil {
		o.children = make(map[*object]struct{})
	}
	o.children[c] = struct{}{}
}

// own finds the wrapper T of a behind o, which may have wrappers around it.
func own[T interface {
	ndk.Object
	comparable
	layer() *Adapter
}](a *Adapter, o ndk.Object) (T, bool) {
	for {
		if w, ok := o.(T); ok && w.layer() == a {
			return w, true
		}
		u, ok := o.(ndk.Unwrapper)
		if !ok {
			var none T
			return none, false
		}
		o = u.Unwrap()
	}
}

func (o *object) layer() *Adapter { return o.a }

// Kind implements ndk.Object.
func (o *object) Kind() ndk.ObjectKind { return o.inner.Kind() }

// Version implements ndk.Object.
func (o *object) Version() ndk.Version { return o.inner.Version() }

// Closed implements ndk.Object.
func (o *object) Closed() <-chan struct{} { return o.closed }

// Unwrap implements ndk.Unwrapper.
func (o *object) Unwrap() ndk.Object { return o.inner }

// Extension implements ndk.Object.
func (o *object) Extension(id ndk.GUID, v ndk.Version) (any, error) {
	const fn = "Extension"
	if err := o.enter(fn); err != nil {
		return nil, err
	}
	x, err := o.inner.Extension(id, v)
	return x, o.leave(fn, err)
}

// Close implements ndk.Object.
func (o *object) Close() {
	o.note("Close")
	o.beginClose()
	o.inner.Close()
	o.shut.Store(true)
}

// note traces a call that cannot fail.
func (o *object) note(fn string) {
	if t := o.a.cfg.Trace; t != nil {
		t(Event{Type: Called, Call: Call{Adapter: o.a.cfg.Name, Object: o.id, Func: fn}})
	}
}

// enter begins a call that is not a post. An error takes the place of the call.
func (o *object) enter(fn string) error {
	o.note(fn)
	if o.a.cfg.Fault == nil {
		return nil
	}
	if err := o.a.cfg.Fault(Call{Adapter: o.a.cfg.Name, Object: o.id, Func: fn}); err != nil {
		return o.leave(fn, slowFault(fn, err))
	}
	return nil
}

// leave ends a call that is not a post; it returns err.
func (o *object) leave(fn string, err error) error {
	o.left(fn, err, ObjectID{})
	return err
}

func (o *object) left(fn string, err error, made ObjectID) {
	if t := o.a.cfg.Trace; t != nil {
		t(Event{Type: Returned, Call: Call{Adapter: o.a.cfg.Name, Object: o.id, Func: fn}, Err: err, New: made})
	}
}

// calledBack begins a callback, which backAgain ends.
func (o *object) calledBack(e Event, serial bool) {
	if o.a.cfg.Audit {
		if n := o.callbacks.Add(1); n > 1 && serial {
			o.a.report.add("%v: %s runs twice at the same time", o.id, e.Call.Func)
		}
		if isClosed(o.closed) {
			o.a.report.add("%v: %s after it was closed", o.id, e.Call.Func)
		}
	}
	if t := o.a.cfg.Trace; t != nil {
		e.Type, e.Call.Adapter, e.Call.Object = CalledBack, o.a.cfg.Name, o.id
		t(e)
	}
}

// backAgain ends a callback.
func (o *object) backAgain(fn string) {
	if !o.a.cfg.Audit {
		return
	}
	if isClosed(o.closed) {
		o.a.report.add("%v: closed while %s ran", o.id, fn)
	}
	o.callbacks.Add(-1)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Info implements ndk.Adapter.
func (a *Adapter) Info(ctx context.Context) (ndk.AdapterInfo, error) {
	const fn = "Info"
	if err := a.enter(fn); err != nil {
		return ndk.AdapterInfo{}, err
	}
	i, err := a.in.Info(ctx)
	return i, a.leave(fn, err)
}

// CreatePD implements ndk.Adapter.
func (a *Adapter) CreatePD(ctx context.Context) (ndk.PD, error) {
	const fn = "CreatePD"
	if err := a.enter(fn); err != nil {
		return nil, err
	}
	in, err := a.in.CreatePD(ctx)
	if err != nil {
		return nil, a.leave(fn, err)
	}
	p := &pd{in: in}
	a.adopt(&p.object, ndk.ObjectPD, in, &a.object)
	a.left(fn, nil, p.id)
	return p, nil
}

// BuildLAM implements ndk.Adapter.
func (a *Adapter) BuildLAM(ctx context.Context, m ndk.Memory, length int, lam *ndk.LAM) (uint32, error) {
	const fn = "BuildLAM"
	if err := a.enter(fn); err != nil {
		return 0, err
	}
	fbo, err := a.in.BuildLAM(ctx, m, length, lam)
	if err == nil && a.cfg.Audit {
		a.mu.Lock()
		a.lams[lam]++
		a.mu.Unlock()
	}
	return fbo, a.leave(fn, err)
}

// ReleaseLAM implements ndk.Adapter.
func (a *Adapter) ReleaseLAM(lam *ndk.LAM) {
	a.note("ReleaseLAM")
	if a.cfg.Audit {
		a.mu.Lock()
		if a.lams[lam]--; a.lams[lam] <= 0 {
			delete(a.lams, lam)
		}
		a.mu.Unlock()
	}
	a.in.ReleaseLAM(lam)
}

// Alloc implements ndk.Adapter.
func (a *Adapter) Alloc(n int) ([]byte, func(), error) {
	const fn = "Alloc"
	if err := a.enter(fn); err != nil {
		return nil, nil, err
	}
	b, free, err := a.in.Alloc(n)
	if err != nil || !a.cfg.Audit {
		return b, free, a.leave(fn, err)
	}
	a.mu.Lock()
	a.alloc++
	a.mu.Unlock()
	a.left(fn, nil, ObjectID{})
	var freed atomic.Bool
	return b, func() {
		if freed.CompareAndSwap(false, true) {
			a.mu.Lock()
			a.alloc--
			a.mu.Unlock()
		}
		free()
	}, nil
}

// Close implements ndk.Object. As that of any adapter, it blocks.
func (a *Adapter) Close() {
	a.object.Close()
	a.finish()
}
