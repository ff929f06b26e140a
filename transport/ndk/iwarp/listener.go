package iwarp

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// listener implements ndk.Listener.
//
// A connection whose Request is not complete costs a goroutine and a place in
// half, of which there are Config.MaxHalfOpen; the oldest one has to go when
// there is none left. So a peer that opens connections and says nothing keeps
// out only peers that are slower than its own next MaxHalfOpen connects.
type listener struct {
	soft.Object
	adapter   *adapter
	onConnect func(ndk.Connector)
	slots     chan struct{} // one for each goroutine that reads a Request
	wake      chan struct{} // capacity 1: resumed, or closed

	mu     sync.Mutex
	ln     *net.TCPListener // guarded by mu, as all below
	raw    syscall.RawConn
	addr   netip.AddrPort
	paused bool
	half   list.List // of net.Conn, oldest first
}

// CreateListener implements ndk.Adapter.
func (a *adapter) CreateListener(_ context.Context, onConnect func(ndk.Connector)) (ndk.Listener, error) {
	const op = "create listener"
	if onConnect == nil {
		return nil, wrap(op, ntstatus.InvalidParameter, nil)
	}
	l := &listener{adapter: a, onConnect: onConnect, slots: make(chan struct{}, a.cfg.MaxHalfOpen), wake: make(chan struct{}, 1)}
	if err := a.InitObject(&l.Object, ndk.ObjectListener, nil, &a.Object); err != nil {
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	return l, nil
}

// Listen implements ndk.Listener.
func (l *listener) Listen(ctx context.Context, addr netip.AddrPort) error {
	const op = "listen"
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ln != nil || l.Closing() {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	ip := addr.Addr().Unmap()
	if !ip.IsValid() || ip.IsUnspecified() && l.adapter.local.IsValid() {
		ip = l.adapter.local
	} else if l.adapter.local.IsValid() && ip != l.adapter.local {
		return wrap(op, ntstatus.InvalidAddress, nil)
	}
	host := ""
	if ip.IsValid() {
		host = ip.String()
	}
	ln, err := l.adapter.listenTCP(ctx, host, addr.Port())
	if err != nil {
		return wrap(op, socketStatus(err), err)
	}
	raw, err := ln.SyscallConn()
	if err == nil && l.paused {
		err = pauseListen(raw)
	}
	if err != nil {
		_ = ln.Close()
		return wrap(op, ntstatus.InsufficientResources, err)
	}
	l.ln, l.raw, l.addr = ln, raw, unmapped(ln.Addr())
	l.Retain()
	go l.run(ln) // Close ends it by closing ln, and waits for it
	return nil
}

// listenTCP binds to a port, or to one of the range of NDK for 0.
func (a *adapter) listenTCP(ctx context.Context, host string, port uint16) (ln *net.TCPListener, err error) {
	if ln := a.inherited(host, port); ln != nil {
		return ln, nil
	}
	var c net.ListenConfig
	listen := func(p uint16) bool {
		var l net.Listener
		if l, err = c.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(p)))); err == nil {
			ln = l.(*net.TCPListener)
		}
		return !errors.Is(err, syscall.EADDRINUSE)
	}
	switch {
	case port != 0:
		listen(port)
	case !a.ports.each(listen):
		err = ntstatus.TooManyAddresses
	}
	return ln, err
}

// inherited finds the socket of Config.Inherited that listens on the address, nil if
// there is none.
func (a *adapter) inherited(host string, port uint16) *net.TCPListener {
	for _, ln := range a.cfg.Inherited {
		ap := unmapped(ln.Addr())
		if ap.Port() == port && (host == ap.Addr().String() || host == "" && ap.Addr().IsUnspecified()) {
			return ln
		}
	}
	return nil
}

// run accepts connections until the listener is closed.
func (l *listener) run(ln *net.TCPListener) {
	defer l.Release()
	backoff := acceptBackoff
	for {
		conn, err := ln.AcceptTCP()
		switch {
		case err == nil:
			backoff = acceptBackoff
			l.take(conn)
		case l.Closing():
			return
		case l.isPaused():
			<-l.wake
		default:
			// Out of descriptors, or a connection that was gone before it was
			// taken: the port goes on.
			l.adapter.cfg.Logger.Warn("accept", slog.Any("err", err))
			select {
			case <-time.After(backoff):
				backoff = min(2*backoff, maxAcceptBackoff)
			case <-l.wake:
			}
		}
	}
}

const (
	acceptBackoff    = 5 * time.Millisecond
	maxAcceptBackoff = time.Second
)

func (l *listener) isPaused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused
}

// take starts the negotiation with a peer.
func (l *listener) take(conn *net.TCPConn) {
	select {
	case l.slots <- struct{}{}:
	default:
		l.mu.Lock()
		if e := l.half.Front(); e != nil {
			_ = e.Value.(*net.TCPConn).Close()
			l.half.Remove(e)
		}
		l.mu.Unlock()
		l.slots <- struct{}{} // its goroutine ends now
	}
	l.mu.Lock()
	if l.Closing() || l.paused {
		l.mu.Unlock()
		<-l.slots
		_ = conn.Close()
		return
	}
	e := l.half.PushBack(conn)
	l.mu.Unlock()
	l.Retain()
	go func() { // ends with the Request or its deadline, or when conn is closed
		defer l.Release()
		c := l.request(conn)
		l.mu.Lock()
		l.half.Remove(e)
		deliver := c != nil && !l.paused && !l.Closing()
		l.mu.Unlock()
		<-l.slots
		switch {
		case deliver:
			l.onConnect(c)
		case c != nil:
			c.Close()
		default:
			_ = conn.Close()
		}
	}()
}

// request reads the Request and makes the connector of it; nil if the peer is
// none of ours.
func (l *listener) request(conn *net.TCPConn) *connector {
	a := l.adapter
	if a.tune(conn) != nil || conn.SetDeadline(time.Now().Add(a.cfg.NegotiateTimeout)) != nil {
		return nil
	}
	frame, err := readStartup(conn, false)
	if err != nil {
		a.cfg.Logger.Debug("startup", slog.Any("err", err), slog.String("peer", conn.RemoteAddr().String()))
		return nil
	}
	if conn.SetDeadline(time.Time{}) != nil {
		return nil
	}
	c := &connector{adapter: a, passive: true, state: connRequest, conn: conn, frame: frame}
	if a.InitObject(&c.Object, ndk.ObjectConnector, c.forget, &a.Object) != nil {
		return nil
	}
	c.setAddrs(conn)
	_, _, c.limits = c.answer(atMost)
	return c
}

// ControlConnectEvents implements ndk.Listener.
func (l *listener) ControlConnectEvents(pause bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused == pause || l.Closing() {
		return
	}
	l.paused = pause
	if l.ln == nil {
		return
	}
	if pause {
		if err := pauseListen(l.raw); err != nil {
			l.adapter.cfg.Logger.Warn("pause", slog.Any("err", err))
		}
		return
	}
	if err := resumeListen(l.raw); err != nil {
		l.adapter.cfg.Logger.Warn("resume", slog.Any("err", err))
	}
	l.signal()
}

func (l *listener) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// LocalAddr implements ndk.Listener.
func (l *listener) LocalAddr() (netip.AddrPort, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ln == nil {
		return netip.AddrPort{}, wrap("get listener address", ntstatus.InvalidDeviceState, nil)
	}
	return l.addr, nil
}

// Close implements ndk.Object. It stops listening and refuses who has not
// completed a Request.
func (l *listener) Close() {
	if !l.BeginClose() {
		return
	}
	l.mu.Lock()
	if l.ln != nil {
		_ = l.ln.Close()
	}
	for e := l.half.Front(); e != nil; e = e.Next() {
		_ = e.Value.(*net.TCPConn).Close()
	}
	l.mu.Unlock()
	l.signal()
	l.Release()
}
