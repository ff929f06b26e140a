//go:build verbs && linux && cgo

package verbs

/*
#include "cm.h"
*/
import "C"

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// listener implements ndk.Listener.
//
// While paused it keeps its id and refuses each request itself: the kernel lets
// no second id hold the port of one that is to listen, so giving up the id would
// give up the port.
type listener struct {
	soft.Object
	adapter   *adapter
	onConnect func(ndk.Connector)
	slots     chan struct{} // one for each callback that runs

	mu     sync.Mutex
	id     *cmID // guarded by mu, as all below; nil before Listen
	any    bool  // listens on all devices; requests for others are refused
	addr   netip.AddrPort
	paused bool
}

// CreateListener implements ndk.Adapter.
func (a *adapter) CreateListener(_ context.Context, onConnect func(ndk.Connector)) (ndk.Listener, error) {
	const op = "create listener"
	if onConnect == nil {
		return nil, wrap(op, ntstatus.InvalidParameter, nil)
	}
	l := &listener{adapter: a, onConnect: onConnect, slots: make(chan struct{}, a.cfg.Backlog)}
	if err := a.InitObject(&l.Object, ndk.ObjectListener, l.free, &a.Object); err != nil {
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	return l, nil
}

func (l *listener) free() {
	l.mu.Lock()
	id := l.id
	l.mu.Unlock()
	if id != nil {
		id.destroy()
	}
}

// listenAttempts bounds the search for a port that TCP has too, which an iWARP
// driver finds out when it listens.
const listenAttempts = 64

// Listen implements ndk.Listener.
func (l *listener) Listen(_ context.Context, addr netip.AddrPort) error {
	const op = "listen"
	if !l.Hold() {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	defer l.Release()
	addr = unmap(addr)
	a := l.adapter
	ip := addr.Addr()
	if !ip.IsValid() || ip.IsUnspecified() {
		if a.local.IsValid() {
			ip = a.local
		} else if !ip.IsValid() {
			ip = netip.IPv6Unspecified() // takes IPv4 too
		}
	}
	l.mu.Lock()
	busy := l.id != nil
	l.mu.Unlock()
	if busy {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	both := !addr.Addr().IsValid() && ip.IsUnspecified()
	attempts := 1
	if addr.Port() == 0 {
		attempts = listenAttempts
	}
	var err error
	for range attempts {
		var id *cmID
		if id, err = l.open(netip.AddrPortFrom(ip, addr.Port()), both); err == nil {
			return l.start(id, ip.IsUnspecified())
		}
		if st := ndk.StatusOf(err); st != ntstatus.SharingViolation {
			break
		}
	}
	if addr.Port() == 0 && ndk.StatusOf(err) == ntstatus.SharingViolation {
		return wrap(op, ntstatus.TooManyAddresses, err)
	}
	return wrap(op, ndk.StatusOf(err), err)
}

// open makes an id that listens, whose requests are refused until start.
func (l *listener) open(addr netip.AddrPort, both bool) (*cmID, error) {
	a := l.adapter
	id, err := a.cm.newID(l)
	if err != nil {
		return nil, &cmFailure{status: ntstatus.InsufficientResources, err: err}
	}
	if addr.Addr().Is6() && !both {
		if e := id.ownFamily(); e != 0 {
			id.destroy()
			return nil, failCM("rdma_set_option", e)
		}
	}
	if err := a.bindHere(id, addr); err != nil {
		id.destroy()
		return nil, err
	}
	if e := id.listen(a.cfg.Backlog); e != 0 {
		id.destroy()
		return nil, failCM("rdma_listen", e)
	}
	return id, nil
}

// start lets requests through.
func (l *listener) start(id *cmID, any bool) error {
	local, _ := id.addrs()
	l.mu.Lock()
	if l.id != nil || l.Closing() { // another Listen, or Close, was faster
		l.mu.Unlock()
		id.destroy()
		return wrap("listen", ntstatus.InvalidDeviceState, nil)
	}
	l.id, l.any, l.addr = id, any, local
	l.mu.Unlock()
	return nil
}

// onEvent implements sink.
func (l *listener) onEvent(ev *cmEvent) {
	if ev.kind != C.RDMA_CM_EVENT_CONNECT_REQUEST {
		if ev.kind == C.RDMA_CM_EVENT_DEVICE_REMOVAL {
			l.adapter.cfg.Logger.Warn("listener: the device is gone", slog.String("device", l.adapter.device))
		}
		return
	}
	c := l.adapter.newRequest(ev)
	if c == nil {
		C.cm_destroy(ev.id) // which refuses it
		return
	}
	l.mu.Lock()
	deliver := l.id != nil && !l.paused && (!l.any || c.id.device() == l.adapter.device) && l.Hold()
	l.mu.Unlock()
	if deliver {
		select {
		case l.slots <- struct{}{}:
		default: // more than Backlog callbacks run
			deliver = false
			go l.Release() // a last reference is not for this goroutine
		}
	}
	if !deliver {
		go c.Close() // at once; not here, as it may be the last of the adapter
		return
	}
	go func() { // ends with the callback; Close of the listener waits for it
		l.onConnect(c)
		<-l.slots
		l.Release()
	}()
}

// ControlConnectEvents implements ndk.Listener.
func (l *listener) ControlConnectEvents(pause bool) {
	l.mu.Lock()
	l.paused = pause
	l.mu.Unlock()
}

// LocalAddr implements ndk.Listener.
func (l *listener) LocalAddr() (netip.AddrPort, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == nil {
		return netip.AddrPort{}, wrap("get listener address", ntstatus.InvalidDeviceState, nil)
	}
	return l.addr, nil
}

// Close implements ndk.Object. It stops listening and refuses who was not handed
// out. On an iWARP device the kernel forgets a request that has just come, and its
// peer waits for the time limit of its driver: 10 s with siw.
func (l *listener) Close() {
	if !l.BeginClose() {
		return
	}
	l.free()
	l.Release()
}
