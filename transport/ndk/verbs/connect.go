//go:build verbs && linux && cgo

package verbs

/*
#include "cm.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Connect implements ndk.Connector. On an iWARP device an attempt that ctx ends
// goes on in the background until the peer answers or the driver gives up (10 s
// with siw, or what TCP takes); only then the connector is closed and its QP can
// be used again.
func (c *connector) Connect(ctx context.Context, target ndk.QP, src, dst netip.AddrPort, p ndk.ConnParams) error {
	return c.connect(ctx, "connect", target, src, nil, dst, p)
}

// ConnectShared implements ndk.Connector.
func (c *connector) ConnectShared(ctx context.Context, target ndk.QP, ep ndk.SharedEndpoint, dst netip.AddrPort, p ndk.ConnParams) error {
	const op = "connect with shared endpoint"
	e, ok := ndk.Unwrap(ep).(*sharedEndpoint)
	if !ok || e.adapter != c.adapter {
		return wrap(op, ntstatus.InvalidParameter, nil)
	}
	return c.connect(ctx, op, target, e.addr, e, dst, p)
}

func (c *connector) connect(ctx context.Context, op string, target ndk.QP, src netip.AddrPort, ep *sharedEndpoint, dst netip.AddrPort, p ndk.ConnParams) error {
	a := c.adapter
	if len(p.Private) > a.info.MaxCallerData {
		return wrap(op, ntstatus.InvalidBufferSize, fmt.Errorf("%d bytes of private data", len(p.Private)))
	}
	dst = unmap(dst)
	if !dst.IsValid() || dst.Port() == 0 || p.InboundReadLimit < 0 || p.OutboundReadLimit < 0 {
		return wrap(op, ntstatus.InvalidParameter, nil)
	}
	if ip := dst.Addr(); ip.IsMulticast() || ip.IsUnspecified() || ip == broadcast {
		return wrap(op, ntstatus.NetworkUnreachable, fmt.Errorf("%v is no address of one machine", ip))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !c.begin(connIdle, connConnecting, cancel) {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	defer c.Release()
	q, st := c.take(target)
	if st != ntstatus.Success {
		c.settle(connIdle)
		return wrap(op, st, nil)
	}
	if ep != nil && !c.Attach(&ep.Object) {
		q.detach()
		c.settle(connIdle)
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	at := &attempt{c: c, q: q, endpoint: ep, dst: dst, params: p}
	err := at.run(ctx, src)
	for i := 1; at.tcpPortTaken && src.Port() == 0 && i < connectAttempts; i++ {
		at.retire()
		err = at.run(ctx, src)
	}
	if err == nil && c.settle(connAccepted) {
		return nil
	}
	switch {
	case at.abandoned:
	case a.iwarp && at.asked && ctx.Err() != nil:
		// An iWARP id that waits for the peer is destroyed only when that answers
		// or its own time is up.
		c.Retain()
		go func() { // ends with that; Close of the connector waits for it
			at.undo()
			c.Release()
		}()
	default:
		at.undo()
	}
	c.settle(connFailed)
	switch {
	case err == nil: // closed meanwhile
		return wrap(op, ntstatus.Cancelled, nil)
	case ctx.Err() != nil && !errors.Is(err, ntstatus.ConnectionRefused):
		return wrap(op, ndk.StatusOf(ctx.Err()), ctx.Err())
	}
	var f *cmFailure
	if errors.As(err, &f) {
		return &ndk.Error{Op: op, Status: f.status, ProviderError: f.reason, Err: f.err}
	}
	return wrap(op, ndk.StatusOf(err), err)
}

// broadcast is the one destination that is no machine and that an RDMA device
// would try to talk to.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// cmFailure is a step of a handshake that failed.
type cmFailure struct {
	status ndk.Status
	reason uint32 // of a rejection
	err    error
}

func (f *cmFailure) Error() string {
	if f.err == nil {
		return f.status.String()
	}
	return f.err.Error()
}

func (f *cmFailure) Unwrap() []error {
	if f.err == nil {
		return []error{f.status}
	}
	return []error{f.status, f.err}
}

// failure is the error of an event that stands for st.
func (e *cmEvent) failure(st ndk.Status) error {
	f := &cmFailure{status: st}
	if errno := e.errno(); errno != 0 {
		f.err = errno
	}
	return f
}

func failCM(call string, e syscall.Errno) error { return failAs(cmStatus(e), call, e) }

func failAs(st ndk.Status, call string, e syscall.Errno) error {
	return &cmFailure{status: st, err: os.NewSyscallError(call, e)}
}

// attempt is one Connect.
type attempt struct {
	c         *connector
	q         *qp
	id        *cmID
	endpoint  *sharedEndpoint
	dst       netip.AddrPort
	params    ndk.ConnParams
	asked     bool // the peer may have heard of it
	abandoned bool // a call still uses id and q; its goroutine undoes
	// The port was free for the connection manager and is not for TCP, which an
	// iWARP driver finds out when it connects.
	tcpPortTaken bool
}

// connectAttempts bounds the search for a source port that TCP has too.
const connectAttempts = 16

// retire gives back the id of the attempt, and with it the source address.
func (at *attempt) retire() {
	c := at.c
	c.mu.Lock()
	c.dropPairLocked()
	c.mu.Unlock()
	if at.id != nil {
		at.id.destroy()
	}
}

// undo gives back all that the attempt took.
func (at *attempt) undo() {
	at.retire()
	at.q.detach()
}

// run connects up to the answer of the peer.
func (at *attempt) run(ctx context.Context, src netip.AddrPort) error {
	c, a := at.c, at.c.adapter
	if err := ctx.Err(); err != nil {
		return err
	}
	at.tcpPortTaken = false
	id, err := a.cm.newID(c)
	if err != nil {
		return &cmFailure{status: ntstatus.InsufficientResources, err: err}
	}
	at.id = id
	c.mu.Lock()
	c.id = id
	c.mu.Unlock()
	if err := at.bind(unmap(src)); err != nil {
		return err
	}
	if e := id.resolveAddr(at.dst, a.cfg.ResolveTimeout); e != 0 {
		return failCM("rdma_resolve_addr", e)
	}
	if err := at.step(ctx, C.RDMA_CM_EVENT_ADDR_RESOLVED); err != nil {
		return err
	}
	if name := id.device(); name != a.device {
		return &cmFailure{status: ntstatus.NetworkUnreachable, err: fmt.Errorf("the way to %v is by device %q, not %q", at.dst.Addr(), name, a.device)}
	}
	local, _ := id.addrs()
	c.mu.Lock()
	c.local, c.peer = local, at.dst
	c.claimed = a.cm.claimPair(local, at.dst)
	claimed := c.claimed
	c.mu.Unlock()
	if !claimed {
		return &cmFailure{status: ntstatus.AddressAlreadyExists}
	}
	if e := id.resolveRoute(a.cfg.ResolveTimeout); e != 0 {
		return failCM("rdma_resolve_route", e)
	}
	if err := at.step(ctx, C.RDMA_CM_EVENT_ROUTE_RESOLVED); err != nil {
		return err
	}
	return at.ask(ctx)
}

// anyAddr is the adapter's own address of the family of peer, or else one that
// leaves the choice to the routes.
func (a *adapter) anyAddr(peer netip.Addr) netip.Addr {
	switch {
	case a.local.IsValid() && a.local.Is6() == peer.Is6():
		return a.local
	case peer.Is6():
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// bind gives the id its source.
func (at *attempt) bind(src netip.AddrPort) error {
	a := at.c.adapter
	if !src.Addr().IsValid() || src.Addr().IsUnspecified() {
		src = netip.AddrPortFrom(a.anyAddr(at.dst.Addr()), src.Port())
	}
	if at.endpoint != nil {
		if e := at.id.shareAddr(); e != 0 {
			return failCM("rdma_set_option", e)
		}
	}
	err := a.bindHere(at.id, src)
	if errors.Is(err, ntstatus.SharingViolation) && a.cm.hasPair(src, at.dst) {
		return &cmFailure{status: ntstatus.AddressAlreadyExists, err: err}
	}
	return err
}

// step waits for an answer, which is to be want.
func (at *attempt) step(ctx context.Context, want C.enum_rdma_cm_event_type) error {
	limited, stop := context.WithTimeout(ctx, at.c.adapter.cfg.ConnectTimeout)
	defer stop()
	ev, err := at.c.await(limited)
	if err != nil {
		return err
	}
	if ev.kind == want && ev.status == 0 {
		return nil
	}
	return resolveError(ev)
}

// resolveError is the error of an event that ends the search for a way.
func resolveError(ev *cmEvent) error {
	e := ev.errno()
	switch ev.kind {
	case C.RDMA_CM_EVENT_ADDR_ERROR, C.RDMA_CM_EVENT_ROUTE_ERROR:
		f := &cmFailure{status: ntstatus.HostUnreachable, err: fmt.Errorf("no way to the destination: %w", e)}
		if e == syscall.ENETUNREACH || e == syscall.ENODEV || e == syscall.ENETDOWN || ev.kind == C.RDMA_CM_EVENT_ROUTE_ERROR && e != syscall.ETIMEDOUT {
			f.status = ntstatus.NetworkUnreachable
		}
		return f
	case C.RDMA_CM_EVENT_DEVICE_REMOVAL:
		return &cmFailure{status: ntstatus.DeviceRemoved}
	}
	return &cmFailure{status: ntstatus.InternalError, err: fmt.Errorf("unexpected event %d, status %d", ev.kind, ev.status)}
}

// ask sends the request and waits for its answer.
func (at *attempt) ask(ctx context.Context) error {
	c, a := at.c, at.c.adapter
	in, out := a.capLimits(at.params.InboundReadLimit, at.params.OutboundReadLimit)
	param := at.q.param(in, out, at.params.Private)
	if a.iwarp {
		// The driver moves the QP itself, from this state.
		if err := at.q.ready(at.id, C.IBV_QPS_INIT, in, out); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	at.asked = true
	limited, stop := context.WithTimeout(ctx, a.cfg.ConnectTimeout)
	defer stop()
	if e, ok := at.callConnect(limited, param); !ok {
		return limited.Err()
	} else if e != 0 {
		f := &cmFailure{status: cmStatus(e), err: os.NewSyscallError("rdma_connect", e)}
		at.tcpPortTaken = e == syscall.EADDRINUSE || e == syscall.EADDRNOTAVAIL
		if e == syscall.EADDRNOTAVAIL { // TCP has a connection of these two addresses
			f.status = ntstatus.AddressAlreadyExists
		}
		return f
	}
	ev, err := c.await(limited)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = ndk.ConnData{RequiredDataSize: len(ev.private)}
	switch ev.kind {
	case C.RDMA_CM_EVENT_CONNECT_RESPONSE, C.RDMA_CM_EVENT_ESTABLISHED:
		if ev.status != 0 {
			return ev.failure(ntstatus.ConnectionAborted)
		}
		if a.iwarp {
			ev.in, ev.out = ev.out, ev.in
		}
		c.q, c.private, c.haveData = at.q, ev.private, true
		c.limits.InboundReadLimit, c.limits.OutboundReadLimit = min(in, ev.in), min(out, ev.out)
		return nil
	case C.RDMA_CM_EVENT_REJECTED:
		// Only the peer's consumer sends private data with it.
		c.private, c.haveData = ev.private, a.iwarp || ev.status == rejectConsumer
		return rejection(ev)
	case C.RDMA_CM_EVENT_UNREACHABLE, C.RDMA_CM_EVENT_CONNECT_ERROR:
		st := cmStatus(ev.errno())
		if st == ntstatus.Success || ev.kind == C.RDMA_CM_EVENT_CONNECT_ERROR && st != ntstatus.IOTimeout {
			st = ntstatus.ConnectionAborted
		}
		return ev.failure(st)
	}
	return resolveError(ev)
}

// Reasons of a CM REJ (InfiniBand, volume 1, 12.6.7.2): the peer's end, not its
// consumer, gave up waiting for us; and the one for the peer's consumer.
const (
	rejectTimeout  = 4
	rejectConsumer = 28
)

// rejection is the error of a rejected request. The status of the event is the
// reason of the peer's connection manager on InfiniBand and RoCE, and a negative
// errno on iWARP.
func rejection(ev *cmEvent) error {
	f := &cmFailure{status: ntstatus.ConnectionRefused}
	if ev.status > 0 {
		f.reason = uint32(ev.status)
		if ev.status == rejectTimeout {
			f.status = ntstatus.IOTimeout
		}
	} else if e := ev.errno(); e != 0 {
		f.err = e
	}
	return f
}

// callConnect makes the call. On an iWARP device it may wait for TCP, so it gets
// a goroutine there, which ends with the call and undoes the attempt if nobody
// waits for it any more; the connector cannot be closed before. ok is false if
// ctx ended first.
func (at *attempt) callConnect(ctx context.Context, param *C.struct_cm_param) (e syscall.Errno, ok bool) {
	if !at.c.adapter.iwarp {
		return at.id.connect(param), true
	}
	done := make(chan syscall.Errno)
	at.c.Retain()
	go func() {
		defer at.c.Release()
		e := at.id.connect(param)
		select {
		case done <- e:
		case <-ctx.Done():
			at.undo()
		}
	}()
	select {
	case e := <-done:
		return e, true
	case <-ctx.Done():
		at.abandoned = true
		return 0, false
	}
}

// CompleteConnect implements ndk.Connector.
func (c *connector) CompleteConnect(ctx context.Context, onDisconnect func()) error {
	return c.CompleteConnectEx(ctx, withoutReason(onDisconnect))
}

// CompleteConnectEx implements ndk.Connector. On InfiniBand and RoCE it is what
// ends the Accept of the peer; an iWARP connection is there since Connect, and
// only our own posts waited for this.
func (c *connector) CompleteConnectEx(_ context.Context, onDisconnect func(reason uint32)) error {
	const op = "complete connect"
	c.mu.Lock()
	if c.state != connAccepted || c.Closing() {
		c.mu.Unlock()
		return wrap(op, ntstatus.ConnectionInvalid, nil)
	}
	q, id, lim, gone := c.q, c.id, c.limits, c.gone
	c.state, c.event, c.haveData = connCompleting, onDisconnect, false
	c.Retain() // the owner's is there still: the connector is not closed
	c.mu.Unlock()
	defer c.Release()

	var err error
	if !gone && !c.adapter.iwarp {
		if err = q.ready(id, C.IBV_QPS_RTS, lim.InboundReadLimit, lim.OutboundReadLimit); err == nil {
			if e := id.establish(); e != 0 {
				err = e
			}
		}
	}
	if !gone && err == nil {
		q.setConnected(lim.InboundReadLimit, lim.OutboundReadLimit)
		if c.connected() {
			return nil
		}
		q.disconnected(true)
	}
	id.destroy()
	q.detach()
	c.mu.Lock()
	c.state, c.event = connFailed, nil
	c.dropPairLocked()
	c.mu.Unlock()
	return wrap(op, ntstatus.ConnectionAborted, err)
}

// connected makes the connection one that events are about; false if the
// connector was closed meanwhile. A loss since the handshake is told now.
func (c *connector) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = nil
	if c.Closing() {
		return false
	}
	c.state = connConnected
	if c.gone {
		c.state = connEnded
		c.Retain()  // of the caller's
		go func() { // ends with the callback; Close of the connector waits for it
			c.sayLost(0)
			c.Release()
		}()
	}
	return true
}
