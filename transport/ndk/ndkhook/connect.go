package ndkhook

import (
	"context"
	"net/netip"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// connector wraps an ndk.Connector.
type connector struct {
	object
	in   ndk.Connector
	lost atomic.Int32 // calls of onDisconnect
}

// CreateConnector implements ndk.Adapter.
func (a *Adapter) CreateConnector(ctx context.Context) (ndk.Connector, error) {
	const fn = "CreateConnector"
	if err := a.enter(fn); err != nil {
		return nil, err
	}
	in, err := a.in.CreateConnector(ctx)
	if err != nil {
		return nil, a.leave(fn, err)
	}
	c := &connector{in: in}
	a.adopt(&c.object, ndk.ObjectConnector, in, &a.object)
	a.left(fn, nil, c.id)
	return c, nil
}

// hold makes c a successor of p, which it became by Connect or Accept.
func (c *connector) hold(p *object) {
	a := c.a
	if !a.cfg.Audit {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, live := a.live[&c.object]; live {
		c.parents = append(c.parents, p)
		p.addChild(&c.object)
	}
}

func (c *connector) holdQP(o ndk.QP) {
	if q, ok := own[*qp](c.a, o); ok {
		c.hold(&q.object)
	}
}

// Connect implements ndk.Connector.
func (c *connector) Connect(ctx context.Context, q ndk.QP, src, dst netip.AddrPort, p ndk.ConnParams) error {
	const fn = "Connect"
	if err := c.enter(fn); err != nil {
		return err
	}
	err := c.in.Connect(ctx, q, src, dst, p)
	if err == nil {
		c.holdQP(q)
	}
	return c.leave(fn, err)
}

// ConnectShared implements ndk.Connector.
func (c *connector) ConnectShared(ctx context.Context, q ndk.QP, ep ndk.SharedEndpoint, dst netip.AddrPort, p ndk.ConnParams) error {
	const fn = "ConnectShared"
	if err := c.enter(fn); err != nil {
		return err
	}
	err := c.in.ConnectShared(ctx, q, ep, dst, p)
	if err == nil {
		c.holdQP(q)
		if e, ok := own[*endpoint](c.a, ep); ok {
			c.hold(&e.object)
		}
	}
	return c.leave(fn, err)
}

func (c *connector) disconnected(reason uint32) {
	c.calledBack(Event{Call: Call{Func: funcOnDisconnect}, Reason: reason}, true)
	if c.lost.Add(1) > 1 && c.a.cfg.Audit {
		c.a.report.add("%v: told twice of the end of its connection", c.id)
	}
}

// onEnd and onEndEx wrap the callbacks of a disconnect; nil stays nil.
func (c *connector) onEnd(user func()) func() {
	if user == nil || c.a.plain {
		return user
	}
	return func() {
		c.disconnected(0)
		user()
		c.backAgain(funcOnDisconnect)
	}
}

func (c *connector) onEndEx(user func(uint32)) func(uint32) {
	if user == nil || c.a.plain {
		return user
	}
	return func(reason uint32) {
		c.disconnected(reason)
		user(reason)
		c.backAgain(funcOnDisconnect)
	}
}

// CompleteConnect implements ndk.Connector.
func (c *connector) CompleteConnect(ctx context.Context, onDisconnect func()) error {
	const fn = "CompleteConnect"
	if err := c.enter(fn); err != nil {
		return err
	}
	return c.leave(fn, c.in.CompleteConnect(ctx, c.onEnd(onDisconnect)))
}

// CompleteConnectEx implements ndk.Connector.
func (c *connector) CompleteConnectEx(ctx context.Context, onDisconnect func(reason uint32)) error {
	const fn = "CompleteConnectEx"
	if err := c.enter(fn); err != nil {
		return err
	}
	return c.leave(fn, c.in.CompleteConnectEx(ctx, c.onEndEx(onDisconnect)))
}

// Accept implements ndk.Connector.
func (c *connector) Accept(ctx context.Context, q ndk.QP, p ndk.ConnParams, onDisconnect func()) error {
	const fn = "Accept"
	if err := c.enter(fn); err != nil {
		return err
	}
	err := c.in.Accept(ctx, q, p, c.onEnd(onDisconnect))
	if err == nil {
		c.holdQP(q)
	}
	return c.leave(fn, err)
}

// AcceptEx implements ndk.Connector.
func (c *connector) AcceptEx(ctx context.Context, q ndk.QP, p ndk.ConnParams, onDisconnect func(reason uint32)) error {
	const fn = "AcceptEx"
	if err := c.enter(fn); err != nil {
		return err
	}
	err := c.in.AcceptEx(ctx, q, p, c.onEndEx(onDisconnect))
	if err == nil {
		c.holdQP(q)
	}
	return c.leave(fn, err)
}

// Reject implements ndk.Connector.
func (c *connector) Reject(private []byte) error {
	const fn = "Reject"
	if err := c.enter(fn); err != nil {
		return err
	}
	return c.leave(fn, c.in.Reject(private))
}

// ConnectionData implements ndk.Connector.
func (c *connector) ConnectionData(buf []byte) (ndk.ConnData, error) {
	const fn = "ConnectionData"
	if err := c.enter(fn); err != nil {
		return ndk.ConnData{}, err
	}
	d, err := c.in.ConnectionData(buf)
	return d, c.leave(fn, err)
}

// LocalAddr implements ndk.Connector.
func (c *connector) LocalAddr() (netip.AddrPort, error) {
	return c.addr("LocalAddr", c.in.LocalAddr)
}

// PeerAddr implements ndk.Connector.
func (c *connector) PeerAddr() (netip.AddrPort, error) {
	return c.addr("PeerAddr", c.in.PeerAddr)
}

// addr is a call that returns an address.
func (o *object) addr(fn string, get func() (netip.AddrPort, error)) (netip.AddrPort, error) {
	if err := o.enter(fn); err != nil {
		return netip.AddrPort{}, err
	}
	ap, err := get()
	return ap, o.leave(fn, err)
}

// Disconnect implements ndk.Connector.
func (c *connector) Disconnect(ctx context.Context) error {
	const fn = "Disconnect"
	if err := c.enter(fn); err != nil {
		return err
	}
	return c.leave(fn, c.in.Disconnect(ctx))
}

// listener wraps an ndk.Listener.
type listener struct {
	object
	in       ndk.Listener
	listened atomic.Bool // Listen was called
}

// CreateListener implements ndk.Adapter.
func (a *Adapter) CreateListener(ctx context.Context, onConnect func(ndk.Connector)) (ndk.Listener, error) {
	const fn = "CreateListener"
	if err := a.enter(fn); err != nil {
		return nil, err
	}
	l := &listener{}
	down := onConnect
	if onConnect != nil {
		down = func(in ndk.Connector) {
			c := &connector{in: in}
			a.adopt(&c.object, ndk.ObjectConnector, in, &a.object)
			l.calledBack(Event{Call: Call{Func: funcOnConnect}, New: c.id}, false)
			if a.cfg.Audit && !l.listened.Load() {
				a.report.add("%v: a connect event before Listen", l.id)
			}
			onConnect(c)
			l.backAgain(funcOnConnect)
		}
	}
	in, err := a.in.CreateListener(ctx, down)
	if err != nil {
		return nil, a.leave(fn, err)
	}
	l.in = in
	a.adopt(&l.object, ndk.ObjectListener, in, &a.object)
	a.left(fn, nil, l.id)
	return l, nil
}

// Listen implements ndk.Listener.
func (l *listener) Listen(ctx context.Context, addr netip.AddrPort) error {
	const fn = "Listen"
	if err := l.enter(fn); err != nil {
		return err
	}
	l.listened.Store(true)
	return l.leave(fn, l.in.Listen(ctx, addr))
}

// ControlConnectEvents implements ndk.Listener.
func (l *listener) ControlConnectEvents(pause bool) {
	l.note("ControlConnectEvents")
	l.in.ControlConnectEvents(pause)
}

// LocalAddr implements ndk.Listener.
func (l *listener) LocalAddr() (netip.AddrPort, error) {
	return l.addr("LocalAddr", l.in.LocalAddr)
}

// endpoint wraps an ndk.SharedEndpoint.
type endpoint struct {
	object
	in ndk.SharedEndpoint
}

// CreateSharedEndpoint implements ndk.Adapter.
func (a *Adapter) CreateSharedEndpoint(ctx context.Context, local netip.AddrPort) (ndk.SharedEndpoint, error) {
	const fn = "CreateSharedEndpoint"
	if err := a.enter(fn); err != nil {
		return nil, err
	}
	in, err := a.in.CreateSharedEndpoint(ctx, local)
	if err != nil {
		return nil, a.leave(fn, err)
	}
	e := &endpoint{in: in}
	a.adopt(&e.object, ndk.ObjectSharedEndpoint, in, &a.object)
	a.left(fn, nil, e.id)
	return e, nil
}

// LocalAddr implements ndk.SharedEndpoint.
func (e *endpoint) LocalAddr() netip.AddrPort { return e.in.LocalAddr() }
