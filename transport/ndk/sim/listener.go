package sim

import (
	"context"
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// listener implements ndk.Listener.
type listener struct {
	soft.Object
	w         *World
	a         *adapter
	sub       subject
	onConnect func(ndk.Connector)
	runFn     func() // hand, made once

	// Guarded by World.mu.
	addr    netip.AddrPort
	own     *binding // nil: does not listen
	paused  bool
	queue   []*connector // wait for the callback; at most Config.Backlog
	handing bool         // the callback is scheduled, or runs
}

// CreateListener implements ndk.Adapter.
func (a *adapter) CreateListener(_ context.Context, onConnect func(ndk.Connector)) (ndk.Listener, error) {
	const op = "create listener"
	if onConnect == nil {
		return nil, fail(op, ntstatus.InvalidParameter, nil)
	}
	if err := a.creating(op, ndk.ObjectListener); err != nil {
		return nil, err
	}
	l := &listener{w: a.w, a: a, onConnect: onConnect, sub: a.w.number(subListener)}
	l.runFn = l.hand
	if err := a.InitObject(&l.Object, ndk.ObjectListener, nil, &a.Object); err != nil {
		return nil, fail(op, ndk.StatusOf(err), nil)
	}
	a.w.note(l.sub, "create").end()
	return l, nil
}

// Listen implements ndk.Listener.
func (l *listener) Listen(ctx context.Context, addr netip.AddrPort) error {
	const op = "listen"
	if err := ctx.Err(); err != nil {
		return fail(op, ndk.StatusOf(err), err)
	}
	w, h := l.w, l.a.host
	w.mu.Lock()
	defer w.mu.Unlock()
	addr = plain(addr)
	ip := addr.Addr()
	if !ip.IsValid() {
		ip = netip.IPv6Unspecified()
	}
	switch {
	case l.Closing():
		return breaks(op, ndk.ErrClosed)
	case l.own != nil:
		return fail(op, ntstatus.InvalidDeviceState, nil)
	case h.removed:
		return fail(op, ntstatus.DeviceRemoved, nil)
	case !ip.IsUnspecified() && !h.has(ip):
		return fail(op, ntstatus.InvalidAddress, nil)
	}
	addrs := []netip.Addr{ip}
	if ip.IsUnspecified() {
		addrs = addrs[:0]
		for _, a := range h.addrs {
			if a.Is4() || ip.Is6() { // :: is for both families
				addrs = append(addrs, a)
			}
		}
	}
	if len(addrs) == 0 {
		return fail(op, ntstatus.InvalidAddress, nil)
	}
	b := &binding{listener: l}
	port, st := w.bind(addrs, addr.Port(), b)
	if st != ntstatus.Success {
		return fail(op, st, nil)
	}
	l.own, l.addr = b, netip.AddrPortFrom(ip, port)
	h.lists = append(h.lists, l)
	w.note(l.sub, "listen").addr("at", l.addr).end()
	return nil
}

// take makes a connector of an incoming request; nil refuses it.
func (l *listener) take(x *wire, p *packet, active *connector) *connector {
	w := l.w
	if l.Closing() || l.paused || l.a.host.removed || len(l.queue) >= w.cfg.Backlog {
		return nil
	}
	c := &connector{}
	if w.initConnector(c, l.a) != nil {
		return nil
	}
	c.setState(connRequest)
	c.attach(x, 1)
	c.local, c.peer = active.peer, active.local
	c.data = append([]byte(nil), p.buf...)
	if w.cfg.PadPrivateData {
		c.data = pad(c.data, w.info.MaxCallerData)
	}
	c.limits = ndk.ConnData{
		InboundReadLimit:  min(w.info.MaxInboundReadLimit, p.out),
		OutboundReadLimit: min(w.info.MaxOutboundReadLimit, p.in),
		RequiredDataSize:  len(c.data),
	}
	w.note(c.sub, "request").of("at", l.sub).of("of", active.sub).num("bytes", uint64(len(p.buf))).end()
	l.queue = append(l.queue, c)
	l.schedule()
	return c
}

func (l *listener) schedule() {
	if !l.handing && len(l.queue) > 0 {
		l.handing = true
		l.Retain()
		l.w.soon(l.runFn, l.w.lateness(l.sub, l))
	}
}

// hand gives the oldest request to the consumer. One call follows the other.
func (l *listener) hand() {
	w := l.w
	w.mu.Lock()
	var c *connector
	if len(l.queue) > 0 {
		c = l.queue[0]
		l.queue = append(l.queue[:0], l.queue[1:]...)
	}
	w.mu.Unlock()
	if c != nil {
		w.note(l.sub, "callback connect").of("with", c.sub).end()
		l.onConnect(c)
	}
	w.mu.Lock()
	l.handing = false
	l.schedule()
	w.mu.Unlock()
	l.Release()
}

// refuseAll refuses the requests that were not handed out.
func (l *listener) refuseAll() {
	for _, c := range l.queue {
		if c.BeginClose() {
			if !c.gone {
				c.answer(pkReject, nil, false)
			}
			c.fail(ntstatus.Cancelled, nil)
			c.Release()
		}
	}
	clear(l.queue)
	l.queue = l.queue[:0]
}

// ControlConnectEvents implements ndk.Listener.
func (l *listener) ControlConnectEvents(pause bool) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.Closing() || l.paused == pause {
		return
	}
	l.paused = pause
	what := "resume"
	if pause {
		what = "pause"
	}
	l.w.note(l.sub, what).end()
	if pause {
		l.refuseAll()
	}
}

// LocalAddr implements ndk.Listener.
func (l *listener) LocalAddr() (netip.AddrPort, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.own == nil {
		return netip.AddrPort{}, fail("get listener address", ntstatus.InvalidDeviceState, nil)
	}
	return l.addr, nil
}

// Close implements ndk.Object.
func (l *listener) Close() {
	if !l.BeginClose() {
		return
	}
	w := l.w
	w.mu.Lock()
	w.note(l.sub, "close").end()
	w.unbind(l.own)
	h := l.a.host
	for i, o := range h.lists {
		if o == l {
			h.lists = append(h.lists[:i], h.lists[i+1:]...)
			break
		}
	}
	l.refuseAll()
	w.mu.Unlock()
	l.Release()
}

// endpoint implements ndk.SharedEndpoint.
type endpoint struct {
	soft.Object
	a    *adapter
	addr netip.AddrPort
	own  *binding
}

// CreateSharedEndpoint implements ndk.Adapter.
func (a *adapter) CreateSharedEndpoint(_ context.Context, local netip.AddrPort) (ndk.SharedEndpoint, error) {
	const op = "create shared endpoint"
	if err := a.creating(op, ndk.ObjectSharedEndpoint); err != nil {
		return nil, err
	}
	w := a.w
	local = plain(local)
	w.mu.Lock()
	defer w.mu.Unlock()
	ip := local.Addr()
	if !ip.IsValid() || ip.IsUnspecified() {
		ip = a.host.addrs[0]
	}
	if !a.host.has(ip) {
		return nil, fail(op, ntstatus.InvalidAddress, nil)
	}
	e := &endpoint{a: a, own: &binding{dests: make(map[netip.AddrPort]bool)}}
	port, st := w.bind([]netip.Addr{ip}, local.Port(), e.own)
	if st != ntstatus.Success {
		return nil, fail(op, st, nil)
	}
	e.addr = netip.AddrPortFrom(ip, port)
	if err := a.InitObject(&e.Object, ndk.ObjectSharedEndpoint, func() { w.unbind(e.own) }, &a.Object); err != nil {
		w.unbind(e.own)
		return nil, fail(op, ndk.StatusOf(err), nil)
	}
	w.note(w.number(subEndpoint), "create").addr("at", e.addr).end()
	return e, nil
}

// LocalAddr implements ndk.SharedEndpoint.
func (e *endpoint) LocalAddr() netip.AddrPort { return e.addr }
