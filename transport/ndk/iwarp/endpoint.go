package iwarp

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
	"golang.org/x/sys/unix"
)

// portRange is what port 0 is drawn from: all of it, in order, from a random
// start.
type portRange struct{ first, last uint16 }

// ephemeral is the range that NDK names for port 0.
var ephemeral = portRange{49152, 65535}

// each calls f with the ports of the range until f returns true; false if it
// never did.
func (r portRange) each(f func(port uint16) (done bool)) bool {
	n := uint32(r.last) - uint32(r.first) + 1
	start := rand.Uint32N(n)
	for i := range n {
		if f(r.first + uint16((start+i)%n)) {
			return true
		}
	}
	return false
}

// tuple is a connection as TCP tells them apart.
type tuple struct{ local, peer netip.AddrPort }

// tuples are the connections of a provider whose local port the consumer named,
// itself or by a shared endpoint. To the kernel a second one is like any port in
// use; here it is told apart.
type tuples struct {
	mu sync.Mutex
	m  map[tuple]struct{} // guarded by mu
}

// add reports whether t was not there yet.
func (s *tuples) add(t tuple) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.m[t]; ok {
		return false
	}
	if s.m == nil {
		s.m = make(map[tuple]struct{})
	}
	s.m[t] = struct{}{}
	return true
}

func (s *tuples) remove(t tuple) {
	s.mu.Lock()
	delete(s.m, t)
	s.mu.Unlock()
}

// has reports whether t is there. Its local address may be unspecified.
func (s *tuples) has(t tuple) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := t.local.Addr(); a.IsValid() && !a.IsUnspecified() {
		_, ok := s.m[t]
		return ok
	}
	for u := range s.m {
		if u.peer == t.peer && u.local.Port() == t.local.Port() {
			return true
		}
	}
	return false
}

// endpoint implements ndk.SharedEndpoint. A socket that is bound, and neither
// connects nor listens, keeps the address: without SO_REUSEADDR nobody binds to
// it beside. While one of our connectors binds, it has the option, and so have
// they.
type endpoint struct {
	soft.Object
	adapter *adapter
	addr    netip.AddrPort
	holder  *net.TCPListener
	raw     syscall.RawConn

	mu      sync.Mutex
	binding int // guarded by mu; connectors that are about to bind
}

// CreateSharedEndpoint implements ndk.Adapter. The address is one of the
// adapter, not the unspecified one: it is what every connection shows.
func (a *adapter) CreateSharedEndpoint(ctx context.Context, local netip.AddrPort) (ndk.SharedEndpoint, error) {
	const op = "create shared endpoint"
	ip := local.Addr().Unmap()
	if a.local.IsValid() && (!ip.IsValid() || ip.IsUnspecified()) {
		ip = a.local
	}
	if !ip.IsValid() || ip.IsUnspecified() || a.local.IsValid() && ip != a.local {
		return nil, wrap(op, ntstatus.InvalidAddress, fmt.Errorf("address %v", local.Addr()))
	}
	ln, err := a.listenTCP(ctx, ip.String(), local.Port())
	if err != nil {
		return nil, wrap(op, socketStatus(err), err)
	}
	raw, err := ln.SyscallConn()
	if err == nil {
		err = pauseListen(raw)
	}
	if err != nil {
		_ = ln.Close()
		return nil, wrap(op, ntstatus.InsufficientResources, err)
	}
	e := &endpoint{adapter: a, holder: ln, raw: raw, addr: unmapped(ln.Addr())}
	if err := a.InitObject(&e.Object, ndk.ObjectSharedEndpoint, func() { _ = ln.Close() }, &a.Object); err != nil {
		_ = ln.Close()
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	return e, nil
}

// LocalAddr implements ndk.SharedEndpoint.
func (e *endpoint) LocalAddr() netip.AddrPort { return e.addr }

// share lets others bind to the address while n of them are about to.
func (e *endpoint) share(n int) (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.binding += n
	v := min(e.binding, 1)
	cerr := e.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, v) })
	if err == nil {
		err = cerr
	}
	return err
}

// unmapped is the address of a TCP socket.
func unmapped(a net.Addr) netip.AddrPort {
	p := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
