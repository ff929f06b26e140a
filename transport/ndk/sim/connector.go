package sim

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// Reason is why a connection ended, as the Ex disconnect callbacks get it.
type Reason uint32

// The reasons.
const (
	ReasonNone      Reason = 0 // the peer disconnected, or nobody knows
	ReasonReset     Reason = 1 // the peer closed or flushed
	ReasonLink      Reason = 2 // the network lost it
	ReasonAccess    Reason = 3 // a remote token was misused
	ReasonNoReceive Reason = 4 // a message found no receive
	ReasonReceive   Reason = 5 // a message did not fit its receive, or that failed
	ReasonToken     Reason = 6 // a token to be invalidated was bad
	ReasonRequest   Reason = 7 // a request of the side that made it failed there
	ReasonQueue     Reason = 8 // a CQ or SRQ failed
	ReasonRemoved   Reason = 9 // a device was removed
	ReasonTimeout   Reason = 10
)

var reasonNames = [...]string{"none", "reset", "link", "access", "no receive", "receive", "token", "request", "queue", "removed", "timeout"}

// String names the reason.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint32(r))
}

// connState is how far a connector got.
type connState uint8

const (
	connIdle       connState = iota
	connConnecting           // Connect waits
	connAccepted             // the peer accepted; CompleteConnect or Reject is next
	connRequest              // passive: handed out
	connAccepting            // Accept waits
	connConnected
	connEnded  // was connected
	connFailed // was not, and will not be
)

// connector implements ndk.Connector.
type connector struct {
	soft.Object
	w      *World
	a      *adapter
	sub    subject
	holder soft.Object // an antecedent that stands for those that come and go

	// Guarded by World.mu, as all below.
	state   connState
	q       *qp // held from Connect or Accept on, until a failure or the end
	local   netip.AddrPort
	peer    netip.AddrPort
	own     *binding // of the local address
	ep      *endpoint
	epPeer  netip.AddrPort // noted there
	wire    *wire
	end     int // of the wire
	wait    *waiter
	timer   event
	gone    bool   // the peer left before we were connected
	goneFor Reason // and why
	rejects bool   // the active side was rejected: the data is still readable
	data    []byte
	limits  ndk.ConnData
	asked   ndk.ConnParams // of Connect
	onLost  func(uint32)   // until it ran or is of no use
	leaving bool           // Disconnect was called
	finSent bool
	flushed bool // and was successful, or the connection is over for us
}

func (w *World) initConnector(c *connector, a *adapter) error {
	c.w, c.a, c.sub = w, a, w.number(subConnector)
	c.timer.run = c.expired
	_ = c.holder.Init(ndk.ObjectConnector, a.Version(), c.letGo) // has no antecedent that could refuse
	err := a.InitObject(&c.Object, ndk.ObjectConnector, c.last, &a.Object, &c.holder)
	c.holder.Release() // from here on it is held by c alone
	return err
}

// last gives back what the connector holds to its end.
func (c *connector) last() {
	c.w.unbind(c.own)
	if c.ep != nil {
		c.w.unshare(c.ep.own, c.epPeer)
	}
}

// letGo releases the other antecedents, after the close of c was told.
func (c *connector) letGo() {
	if c.ep != nil {
		c.ep.Release()
	}
	if c.q != nil {
		c.q.Release()
	}
}

// CreateConnector implements ndk.Adapter.
func (a *adapter) CreateConnector(context.Context) (ndk.Connector, error) {
	const op = "create connector"
	if err := a.creating(op, ndk.ObjectConnector); err != nil {
		return nil, err
	}
	c := &connector{}
	if err := a.w.initConnector(c, a); err != nil {
		return nil, fail(op, ndk.StatusOf(err), nil)
	}
	a.w.note(c.sub, "create").end()
	return c, nil
}

// reserve takes the QP for c.
func (c *connector) reserve(op string, target ndk.QP) error {
	q, ok := ndk.Unwrap(target).(*qp)
	if !ok || q.a != c.a {
		return breaks(op, ndk.ErrForeign)
	}
	if q.state != qpIdle {
		return fail(op, ntstatus.ConnectionActive, nil)
	}
	if !q.Hold() {
		return breaks(op, ndk.ErrClosed)
	}
	q.state, q.conn, c.q = qpConnecting, c, q
	return nil
}

// unreserve leaves the QP as it was before the attempt.
func (c *connector) unreserve() {
	if q := c.q; q != nil {
		c.q = nil
		if q.state == qpConnecting {
			q.state = qpIdle
		}
		q.conn = nil
		q.Release()
	}
}

// attach puts c at an end of a wire.
func (c *connector) attach(x *wire, end int) {
	c.wire, c.end = x, end
	x.ends[end] = c
	c.a.host.ends = append(c.a.host.ends, c)
}

// detach takes it away; what comes for it is dropped.
func (c *connector) detach() {
	c.w.s.cancel(&c.timer)
	if c.wire == nil || c.wire.ends[c.end] != c {
		return
	}
	c.wire.ends[c.end] = nil
	h := c.a.host
	for i, o := range h.ends {
		if o == c {
			h.ends = append(h.ends[:i], h.ends[i+1:]...)
			break
		}
	}
}

func (c *connector) out() *link { return &c.wire.dir[c.end] }

// sendPlain sends a packet without a payload.
func (c *connector) sendPlain(k packetKind, r Reason) {
	p := c.w.packet(k)
	p.reason = r
	c.w.note(c.sub, "send").text(packetNames[k]).end()
	c.out().send(p)
}

// connMoves are the states that follow each state.
var connMoves = [...][]connState{
	connIdle:       {connConnecting, connRequest},
	connConnecting: {connIdle, connAccepted, connFailed},
	connAccepted:   {connConnected, connFailed},
	connRequest:    {connAccepting, connFailed},
	connAccepting:  {connConnected, connFailed},
	connConnected:  {connEnded},
	connEnded:      {},
	connFailed:     {},
}

// setState is the only way to another state.
func (c *connector) setState(s connState) {
	if !slices.Contains(connMoves[c.state], s) {
		panic(fmt.Sprintf("sim: connector%d goes from state %d to %d", c.sub.n, c.state, s))
	}
	c.state = s
}

// fail ends an attempt to connect.
func (c *connector) fail(st ndk.Status, err error) {
	c.w.note(c.sub, "failed").status(st).end()
	c.setState(connFailed)
	c.detach()
	c.unreserve()
	c.leaveAddress()
	c.wait.finish(st, err)
}

// leaveAddress gives the local address back.
func (c *connector) leaveAddress() {
	c.w.unbind(c.own)
	if c.ep != nil {
		c.w.unshare(c.ep.own, c.epPeer)
		c.ep.Release()
		c.ep = nil
	}
}

// blockOn waits for c.wait, with World.mu held at the call and free at its end.
// A call that is abandoned fails the connector and tells the peer.
func (c *connector) blockOn(ctx context.Context, op string) error {
	w := c.w
	wt := newWaiter()
	c.wait = wt
	c.Retain()
	w.mu.Unlock()
	err := w.await(ctx, wt)
	w.mu.Lock()
	if err != nil && !wt.done.Load() {
		st := failed(err)
		w.note(c.sub, "abandon").status(st).end()
		c.abandon(st, err)
	}
	if c.wait == wt {
		c.wait = nil
	}
	c.Release()
	w.mu.Unlock()
	if wt.st != ntstatus.Success {
		return fail(op, wt.st, wt.err)
	}
	return nil
}

// abandon ends whatever the connector is at.
func (c *connector) abandon(st ndk.Status, err error) {
	switch c.state {
	case connConnecting, connAccepting:
		c.sendPlain(pkReset, ReasonReset)
		c.fail(st, err)
	case connEnded: // Disconnect
		c.finishDisconnect(st, err)
	default:
		c.wait.finish(st, err)
	}
}

// expired is the end of a time limit.
func (c *connector) expired() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.note(c.sub, "timeout").end()
	switch c.state {
	case connConnecting, connAccepting:
		c.sendPlain(pkReset, ReasonTimeout)
		c.fail(ntstatus.IOTimeout, nil)
	case connConnected: // an Accept that did not wait
		c.wire.lose(ReasonTimeout, ntstatus.IOTimeout)
	case connEnded:
		if c.leaving && !c.flushed {
			c.finishDisconnect(ntstatus.IOTimeout, nil)
		}
	}
}

// Connect implements ndk.Connector.
func (c *connector) Connect(ctx context.Context, target ndk.QP, src, dst netip.AddrPort, p ndk.ConnParams) error {
	return c.connect(ctx, "connect", target, nil, src, dst, p)
}

// ConnectShared implements ndk.Connector.
func (c *connector) ConnectShared(ctx context.Context, target ndk.QP, shared ndk.SharedEndpoint, dst netip.AddrPort, p ndk.ConnParams) error {
	const op = "connect with shared endpoint"
	var ep *endpoint
	if shared != nil {
		ep, _ = ndk.Unwrap(shared).(*endpoint)
	}
	if ep == nil || ep.a != c.a {
		return breaks(op, ndk.ErrForeign)
	}
	return c.connect(ctx, op, target, ep, ep.LocalAddr(), dst, p)
}

func (c *connector) connect(ctx context.Context, op string, target ndk.QP, ep *endpoint, src, dst netip.AddrPort, p ndk.ConnParams) error {
	w := c.w
	dst = plain(dst)
	if p.InboundReadLimit < 0 || p.OutboundReadLimit < 0 || !dst.Addr().IsValid() || dst.Port() == 0 {
		return fail(op, ntstatus.InvalidParameter, nil)
	}
	if n := len(p.Private); n > w.info.MaxCallerData {
		return fail(op, ntstatus.InvalidBufferSize, fmt.Errorf("%d bytes of private data, at most %d", n, w.info.MaxCallerData))
	}
	if err := ctx.Err(); err != nil {
		return fail(op, ndk.StatusOf(err), err)
	}
	w.mu.Lock()
	st, err := c.begin(op, target, ep, plain(src), dst, p)
	if err != nil {
		w.mu.Unlock()
		return err
	}
	if st != ntstatus.Success {
		c.fail(st, nil)
		w.mu.Unlock()
		return fail(op, st, nil)
	}
	return c.blockOn(ctx, op)
}

// plain is an address as the network has it.
func plain(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().IsValid() {
		return a
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// begin sends the request. err leaves the connector as it was; st fails it.
func (c *connector) begin(op string, target ndk.QP, ep *endpoint, src, dst netip.AddrPort, p ndk.ConnParams) (ndk.Status, error) {
	w, h := c.w, c.a.host
	switch {
	case c.Closing():
		return 0, breaks(op, ndk.ErrClosed)
	case c.state != connIdle:
		return 0, fail(op, ntstatus.InvalidDeviceState, errors.New("a connector serves one connection in its life"))
	}
	if err := c.reserve(op, target); err != nil {
		return 0, err
	}
	c.setState(connConnecting)
	c.asked = p
	w.note(c.sub, "connect").of("to", c.q.sub).addr("dst", dst).end()
	if h.removed {
		return ntstatus.DeviceRemoved, nil
	}
	if i, hit := w.strike(passing{point: PointConnect, who: c.sub, o1: c, o2: c.q}); hit {
		if i.Status == 0 {
			i.Status = ntstatus.TooManyAddresses
		}
		return i.Status, nil
	}
	from := src.Addr()
	if !from.IsValid() || from.IsUnspecified() {
		var ok bool
		if from, ok = c.a.source(dst.Addr()); !ok {
			return ntstatus.NetworkUnreachable, nil
		}
	}
	switch {
	case !h.has(from):
		return ntstatus.InvalidAddress, nil
	case from.Is4() != dst.Addr().Is4():
		return ntstatus.NetworkUnreachable, nil
	}
	if ep != nil {
		if !ep.Hold() {
			c.setState(connIdle)
			c.unreserve()
			return 0, breaks(op, ndk.ErrClosed)
		}
		if !w.share(ep.own, dst) {
			ep.Release()
			return ntstatus.AddressAlreadyExists, nil
		}
		c.ep, c.epPeer, c.local = ep, dst, src
	} else {
		c.own = &binding{peer: dst}
		port, st := w.bind([]netip.Addr{from}, src.Port(), c.own)
		if st != ntstatus.Success {
			return st, nil
		}
		c.local = netip.AddrPortFrom(from, port)
	}
	c.peer = dst
	to := w.owners[dst.Addr()]
	switch {
	case to == nil && dst.Addr().IsMulticast() || dst.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return ntstatus.NetworkUnreachable, nil
	case to == nil || to.removed || from == dst.Addr() && w.info.Flags&ndk.FlagLoopbackConnections == 0:
		return ntstatus.HostUnreachable, nil
	}
	c.attach(w.newWire(c, pair{from, dst.Addr()}), 0)
	w.s.after(&c.timer, w.cfg.ConnectTimeout)
	st := ntstatus.Success
	if i, hit := w.strike(passing{point: PointConnectRequest, who: c.sub, o1: c, o2: c.q}); hit {
		st = i.Status
	}
	switch st {
	case ntstatus.IOTimeout:
	case ntstatus.ConnectionRefused:
		c.bounce(pkReject)
	case ntstatus.ConnectionAborted:
		c.bounce(pkReset)
	default:
		k := w.packet(pkRequest)
		k.in, k.out = min(p.InboundReadLimit, w.info.MaxInboundReadLimit), min(p.OutboundReadLimit, w.info.MaxOutboundReadLimit)
		k.buf = append(k.buf, p.Private...)
		c.out().send(k)
	}
	return ntstatus.Success, nil
}

// bounce sends c a packet in the name of its peer.
func (c *connector) bounce(k packetKind) {
	p := c.w.packet(k)
	p.reason = ReasonLink
	c.wire.dir[1-c.end].send(p)
}

// request is the arrival of a connection request at the passive device.
func (w *World) request(x *wire, p *packet) {
	a := x.ends[0]
	if a == nil {
		return // it gave up
	}
	l := w.at(a.peer)
	var c *connector
	if l != nil {
		c = l.take(x, p, a)
	}
	if c == nil {
		a.bounce(pkReject)
		return
	}
	// From here on it is the consumer's turn.
	w.s.cancel(&a.timer)
	if w.cfg.AnswerTimeout > 0 {
		w.s.after(&a.timer, w.cfg.AnswerTimeout)
	}
}

// ready reports whether c can take p now: what the peer may send before our
// CompleteConnect waits for that, and messages wait for an SRQ.
func (c *connector) ready(p *packet) bool {
	switch p.kind {
	case pkRequest, pkReply, pkReject, pkReady, pkReset:
		return true
	}
	if c.state == connAccepted && c.end == 0 {
		return false
	}
	return p.kind != pkSend || p.cut || c.q == nil || c.q.ready()
}

// receive is the arrival of anything but a request.
func (c *connector) receive(p *packet) {
	w := c.w
	switch p.kind {
	case pkReply, pkReject:
		if c.state != connConnecting {
			return
		}
		w.note(c.sub, "arrive").text(packetNames[p.kind]).num("bytes", uint64(len(p.buf))).end()
		w.s.cancel(&c.timer)
		c.data = append([]byte(nil), p.buf...)
		if p.padded {
			c.data = pad(c.data, w.info.MaxCalleeData)
		}
		c.limits = ndk.ConnData{
			InboundReadLimit:  min(c.asked.InboundReadLimit, w.info.MaxInboundReadLimit, p.out),
			OutboundReadLimit: min(c.asked.OutboundReadLimit, w.info.MaxOutboundReadLimit, p.in),
			RequiredDataSize:  len(c.data),
		}
		if p.kind == pkReject {
			c.rejects = p.has
			c.fail(ntstatus.ConnectionRefused, nil)
			return
		}
		c.setState(connAccepted)
		if o := c.wire.ends[1]; o != nil && o.state == connAccepting {
			w.s.cancel(&o.timer)
			if w.cfg.AnswerTimeout > 0 {
				w.s.after(&o.timer, w.cfg.AnswerTimeout)
			}
		}
		c.wait.finish(ntstatus.Success, nil)
	case pkReady:
		w.note(c.sub, "arrive").text("ready").end()
		w.s.cancel(&c.timer)
		if c.state == connAccepting {
			c.establish()
			c.wait.finish(ntstatus.Success, nil)
		}
	case pkReset:
		w.note(c.sub, "arrive").text("reset").end()
		if c.state == connConnected && p.reason == ReasonReset {
			c.peerLeft(p.reason)
		} else {
			c.lost(p.reason, ntstatus.Cancelled)
		}
	case pkFin:
		c.fin()
	case pkFinAck:
		if c.leaving && !c.flushed {
			c.finishDisconnect(ntstatus.Success, nil)
		}
	default:
		if c.q != nil {
			c.q.arrive(p)
		}
	}
}

func pad(b []byte, n int) []byte { return append(b, make([]byte, n-len(b))...) }

// establish makes the connection usable on this side.
func (c *connector) establish() {
	c.setState(connConnected)
	c.data = nil
	c.q.establish(c)
	c.w.note(c.sub, "connected").num("in", uint64(c.limits.InboundReadLimit)).num("out", uint64(c.limits.OutboundReadLimit)).end()
}

// CompleteConnect implements ndk.Connector.
func (c *connector) CompleteConnect(ctx context.Context, onDisconnect func()) error {
	return c.CompleteConnectEx(ctx, withoutReason(onDisconnect))
}

func withoutReason(f func()) func(uint32) {
	if f == nil {
		return nil
	}
	return func(uint32) { f() }
}

// CompleteConnectEx implements ndk.Connector.
func (c *connector) CompleteConnectEx(ctx context.Context, onDisconnect func(reason uint32)) error {
	const op = "complete connect"
	w := c.w
	if err := ctx.Err(); err != nil {
		return fail(op, ndk.StatusOf(err), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case c.Closing() || c.state != connAccepted:
		return fail(op, ntstatus.ConnectionInvalid, nil)
	case c.gone:
		st := ntstatus.ConnectionAborted
		if c.goneFor == ReasonTimeout {
			st = ntstatus.IOTimeout
		}
		c.fail(st, nil)
		return fail(op, st, errors.New("the peer gave up"))
	}
	if i, hit := w.strike(passing{point: PointComplete, who: c.sub, o1: c, o2: c.q}); hit {
		c.sendPlain(pkReset, ReasonTimeout)
		c.fail(i.Status, nil)
		return fail(op, i.Status, nil)
	}
	c.onLost = onDisconnect
	st := ntstatus.Success
	if i, hit := w.strike(passing{point: PointReady, who: c.sub, o1: c, o2: c.q}); hit {
		st = i.Status
	}
	o := c.wire.ends[1]
	switch {
	case st == ntstatus.ConnectionAborted:
		// The network cuts the connection off: the passive side learns it now, this
		// one when the news are here.
		c.sendPlain(pkReset, ReasonLink)
		c.bounce(pkReset)
	case st != ntstatus.Success:
		c.out().lost = true // and all that would follow it
		if o != nil {
			w.s.after(&o.timer, w.cfg.ConnectTimeout)
		}
	default:
		c.sendPlain(pkReady, 0)
		if o != nil && o.state == connAccepting {
			w.s.cancel(&o.timer)
			w.s.after(&o.timer, w.cfg.ConnectTimeout)
		}
	}
	c.establish()
	c.wire.dir[1].resume()
	return nil
}

// Accept implements ndk.Connector.
func (c *connector) Accept(ctx context.Context, target ndk.QP, p ndk.ConnParams, onDisconnect func()) error {
	return c.AcceptEx(ctx, target, p, withoutReason(onDisconnect))
}

// AcceptEx implements ndk.Connector.
func (c *connector) AcceptEx(ctx context.Context, target ndk.QP, p ndk.ConnParams, onDisconnect func(reason uint32)) error {
	const op = "accept"
	w := c.w
	if n := len(p.Private); n > w.info.MaxCalleeData {
		return fail(op, ntstatus.InvalidBufferSize, fmt.Errorf("%d bytes of private data, at most %d", n, w.info.MaxCalleeData))
	}
	if p.InboundReadLimit < 0 || p.OutboundReadLimit < 0 {
		return fail(op, ntstatus.InvalidParameter, nil)
	}
	if err := ctx.Err(); err != nil {
		return fail(op, ndk.StatusOf(err), err)
	}
	w.mu.Lock()
	if c.Closing() || c.state != connRequest {
		w.mu.Unlock()
		return fail(op, ntstatus.InvalidDeviceState, nil)
	}
	if err := c.reserve(op, target); err != nil {
		w.mu.Unlock()
		return err
	}
	w.note(c.sub, "accept").of("to", c.q.sub).end()
	c.setState(connAccepting)
	if c.gone || c.a.host.removed {
		c.fail(ntstatus.ConnectionAborted, nil)
		w.mu.Unlock()
		return fail(op, ntstatus.ConnectionAborted, errors.New("the peer gave up"))
	}
	c.onLost = onDisconnect
	// What the request shows is what the peer can do; less if asked.
	c.limits.InboundReadLimit = min(c.limits.InboundReadLimit, p.InboundReadLimit)
	c.limits.OutboundReadLimit = min(c.limits.OutboundReadLimit, p.OutboundReadLimit)
	c.answer(pkReply, p.Private, true)
	if w.cfg.EarlyAccept {
		w.s.cancel(&c.timer)
		c.establish()
		w.mu.Unlock()
		return nil
	}
	return c.blockOn(ctx, op)
}

// answer sends a reply or a rejection. has says that the consumer made it.
func (c *connector) answer(k packetKind, private []byte, has bool) {
	w := c.w
	st := ntstatus.Success
	if has {
		var o2 ndk.Object
		if c.q != nil {
			o2 = c.q
		}
		if i, hit := w.strike(passing{point: PointReply, who: c.sub, o1: c, o2: o2}); hit {
			st = i.Status
		}
	}
	// The active side waits for this, and if it gets lost not for ever.
	if o := c.wire.ends[0]; o != nil {
		w.s.cancel(&o.timer)
		w.s.after(&o.timer, w.cfg.ConnectTimeout)
	}
	switch st {
	case ntstatus.Success:
		p := w.packet(k)
		p.in, p.out, p.has, p.padded = c.limits.InboundReadLimit, c.limits.OutboundReadLimit, has, has && w.cfg.PadPrivateData
		p.buf = append(p.buf, private...)
		w.note(c.sub, "send").text(packetNames[k]).num("bytes", uint64(len(private))).end()
		c.out().send(p)
	case ntstatus.ConnectionAborted:
		c.sendPlain(pkReset, ReasonLink)
		c.bounce(pkReset)
	default: // lost; the timeout of the active side ends both
	}
}

// Reject implements ndk.Connector. The data of an active side has no place to go
// and is dropped.
func (c *connector) Reject(private []byte) error {
	const op = "reject"
	w := c.w
	if n := len(private); n > w.info.MaxCalleeData {
		return fail(op, ntstatus.InvalidBufferSize, fmt.Errorf("%d bytes of private data, at most %d", n, w.info.MaxCalleeData))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.Closing() || c.state != connRequest && c.state != connAccepted {
		return fail(op, ntstatus.InvalidDeviceState, nil)
	}
	gone := c.gone
	w.note(c.sub, "reject").end()
	if !gone {
		if c.state == connRequest {
			c.answer(pkReject, private, true)
		} else {
			c.sendPlain(pkReset, ReasonReset)
		}
	}
	c.rejects = c.state == connRequest
	c.fail(ntstatus.ConnectionRefused, nil)
	if gone {
		return fail(op, ntstatus.ConnectionAborted, nil)
	}
	return nil
}

// ConnectionData implements ndk.Connector.
func (c *connector) ConnectionData(buf []byte) (ndk.ConnData, error) {
	const op = "get connection data"
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	switch {
	case c.state == connRequest, c.state == connAccepted, c.state == connFailed && c.rejects && c.end == 0:
	default:
		return ndk.ConnData{}, fail(op, ntstatus.InvalidDeviceState, nil)
	}
	if buf != nil && copy(buf, c.data) < len(c.data) {
		return c.limits, fail(op, ntstatus.BufferTooSmall, nil)
	}
	return c.limits, nil
}

// LocalAddr implements ndk.Connector.
func (c *connector) LocalAddr() (netip.AddrPort, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if !c.local.IsValid() {
		return netip.AddrPort{}, fail("get local address", ntstatus.ConnectionInvalid, nil)
	}
	return c.local, nil
}

// PeerAddr implements ndk.Connector.
func (c *connector) PeerAddr() (netip.AddrPort, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if !c.peer.IsValid() {
		return netip.AddrPort{}, fail("get peer address", ntstatus.ConnectionInvalid, nil)
	}
	return c.peer, nil
}
