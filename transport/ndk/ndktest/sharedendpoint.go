package ndktest

import (
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_CREATE_SHARED_ENDPOINT", sharedEndpoint1, sharedEndpoint2, sharedEndpoint3, sharedEndpoint4, sharedEndpoint5)

// endpoint reserves an address of s as the source of connections.
func (s *Side) endpoint(local netip.AddrPort) ndk.SharedEndpoint {
	s.t.Helper()
	ep, err := s.A.CreateSharedEndpoint(s.ctx, local)
	s.must(err)
	s.close = append(s.close, ep.Close)
	return ep
}

// noEndpoint fails unless the address is refused as the source of connections.
func (s *Side) noEndpoint(local netip.AddrPort, want ndk.Status, what string) {
	s.t.Helper()
	ep, err := s.A.CreateSharedEndpoint(s.ctx, local)
	s.want(err, want, what)
	if ep != nil {
		s.t.Errorf("%s: an endpoint, at %v", what, ep.LocalAddr())
		ep.Close()
	}
}

// through connects s to p from an endpoint, at a listener of its own.
func through(ep ndk.SharedEndpoint, s, p *Side) (dst netip.AddrPort) {
	s.t.Helper()
	_, dst, got := p.listen()
	connected := request(s, p, dst, got, via{ep: ep, ConnParams: limits})
	accepted := exForms.answer(p, limits)
	s.must(s.result(connected))
	s.must(s.C.CompleteConnectEx(s.ctx, func(r uint32) { s.Lost <- r }))
	s.must(s.result(accepted))
	hello(s, p)
	return dst
}

// Port 0 picks one of the range, which LocalAddr shows.
func sharedEndpoint1(t *T) {
	s, _ := t.Pair()
	seen := make(map[netip.AddrPort]bool)
	for range 4 {
		ep := s.endpoint(netip.AddrPortFrom(t.local(), 0))
		if ep.Kind() != ndk.ObjectSharedEndpoint {
			t.Errorf("kind %v", ep.Kind())
		}
		addr := ep.LocalAddr()
		s.chosen(addr, "the endpoint")
		if addr.Addr() != t.local() || seen[addr] {
			t.Errorf("endpoint at %v; want a port of %v that is not in use", addr, t.local())
		}
		seen[addr] = true
	}
	given := s.unused(t.local())
	if ep := s.endpoint(given); ep.LocalAddr() != given {
		t.Errorf("endpoint at %v, want %v", ep.LocalAddr(), given)
	}
}

// An address in exclusive use is SharingViolation: that of a listener or of
// another endpoint. An endpoint uses its address so itself.
func sharedEndpoint2(t *T) {
	s, _ := t.Pair()
	l, _ := s.listener()
	s.must(l.Listen(s.ctx, netip.AddrPortFrom(t.local(), 0)))
	addr, err := l.LocalAddr()
	s.must(err)
	s.noEndpoint(addr, ntstatus.SharingViolation, "an endpoint where a listener is")
	s.closed(l)
	ep := s.endpoint(addr)
	s.noEndpoint(addr, ntstatus.SharingViolation, "an endpoint where another is")
	o, _ := s.listener()
	s.want(o.Listen(s.ctx, addr), ntstatus.SharingViolation, "Listen where an endpoint is")
	s.closed(ep)
	s.endpoint(addr)
}

// An address that the adapter does not own is InvalidAddress.
func sharedEndpoint3(t *T) {
	s, _ := t.Pair()
	s.noEndpoint(netip.AddrPortFrom(t.Foreign, 0), ntstatus.InvalidAddress, "an endpoint at an address of somebody else")
	s.noEndpoint(netip.AddrPortFrom(t.Foreign, 50505), ntstatus.InvalidAddress, "an endpoint at a port of somebody else")
}

// Without a free port of the range it is TooManyAddresses.
func sharedEndpoint4(t *T) {
	if t.FullAddress == nil {
		t.NotOffered("a test cannot take every port of an address of this device")
	}
	s, _ := t.Pair()
	s.noEndpoint(netip.AddrPortFrom(t.FullAddress(t), 0), ntstatus.TooManyAddresses, "an endpoint without a free port")
}

// The address stays reserved until the endpoint and every connector that came
// from it are closed.
func sharedEndpoint5(t *T) {
	s, p := t.Pair()
	ep := s.endpoint(netip.AddrPortFrom(t.local(), 0))
	addr := ep.LocalAddr()
	through(ep, s, p)
	s2, p2 := s.fork(), p.fork()
	through(ep, s2, p2)
	taken := func(what string) {
		t.Helper()
		s.noEndpoint(addr, ntstatus.SharingViolation, "an endpoint at an address of which "+what)
		l, _ := s.listener()
		s.want(l.Listen(s.ctx, addr), ntstatus.SharingViolation, "Listen at an address of which "+what)
	}
	taken("all are open")
	ep.Close()
	taken("two connectors are open")
	s.must(s.C.Disconnect(s.ctx))
	p.lost()
	taken("one connection and two connectors are there")
	s.closed(s.C)
	taken("a connector is open")
	s2.closed(s2.C)
	s.closed(ep)
	s.endpoint(addr)
}

var _ = row("NDK_FN_CONNECT_WITH_SHARED_ENDPOINT", connectShared1, connectShared2, connectShared3, connectShared4)

// Connectors of one endpoint, to different destinations, have the same LocalAddr.
func connectShared1(t *T) {
	s, p := t.Pair()
	ep := s.endpoint(netip.AddrPortFrom(t.local(), 0))
	for range 4 {
		o, q := s.fork(), p.fork()
		through(ep, o, q)
		if local, err := o.C.LocalAddr(); err != nil || local != ep.LocalAddr() {
			t.Errorf("LocalAddr %v, %v; want %v", local, err, ep.LocalAddr())
		}
		if peer, err := q.C.PeerAddr(); err != nil || peer != ep.LocalAddr() {
			t.Errorf("the peer sees %v, %v; want %v", peer, err, ep.LocalAddr())
		}
	}
}

// A second connection to the same destination is AddressAlreadyExists.
func connectShared2(t *T) {
	s, p := t.Pair()
	ep := s.endpoint(netip.AddrPortFrom(t.local(), 0))
	dst := through(ep, s, p)
	o, q := s.fork(), p.fork()
	o.want(o.result(o.dial(dst, via{ep: ep, ConnParams: limits})), ntstatus.AddressAlreadyExists, "Connect to the same destination")
	hello(s, p) // the first is none the worse
	through(ep, o, q)
	hello(s, p)

	// The same destination is free for another source.
	x := s.fork()
	x.want(x.result(x.dial(dst, via{ep: s.endpoint(netip.AddrPortFrom(t.local(), 0)), ConnParams: ndk.ConnParams{Private: make([]byte, s.Info.MaxCallerData+1)}})),
		ntstatus.InvalidBufferSize, "Connect to the same destination from another endpoint, with too much private data")
}

// All else is as with Connect.
func connectShared3(t *T) {
	by := func(proof func(t *T, v via)) func(t *T) {
		return func(t *T) { proof(t, shared) }
	}
	t.likewise("NDK_FN_CONNECT", by(connectAccepted), by(connectRefused), nil, by(connectSilence), by(connectParams), by(connectQP))
}

// The close of the endpoint pends until its connectors are closed, and does not
// touch them.
func connectShared4(t *T) {
	s, p := t.Pair()
	ep := s.endpoint(netip.AddrPortFrom(t.local(), 0))
	through(ep, s, p)
	s2, p2 := s.fork(), p.fork()
	through(ep, s2, p2)
	ep.Close()
	s.open(ep, "an endpoint with two connectors")
	hello(s, p)
	hello(s2, p2)
	s.closed(s.C)
	s.open(ep, "an endpoint with a connector")
	hello(s2, p2)
	s2.must(s2.C.Disconnect(s2.ctx))
	s.open(ep, "an endpoint with a connector that is not closed")
	s2.closed(s2.C)
	s.closed(ep)
	p.lost()
	p2.lost()
}

var _ = row("NDK_FN_GET_SHARED_ENDPOINT_LOCAL_ADDRESS", sharedEndpointAddress1, sharedEndpointAddress2, sharedEndpointAddress3)

// It shows the port that was chosen, the same each time.
func sharedEndpointAddress1(t *T) {
	s, _ := t.Pair()
	ep := s.endpoint(netip.AddrPortFrom(t.local(), 0))
	addr := ep.LocalAddr()
	s.chosen(addr, "the endpoint")
	if again := ep.LocalAddr(); again != addr {
		t.Errorf("LocalAddr %v, then %v", addr, again)
	}
}

// It is the LocalAddr of each connector that comes from the endpoint.
func sharedEndpointAddress2(t *T) { connectShared1(t) }

// IPv4 and IPv6 both work.
func sharedEndpointAddress3(t *T) {
	t.families(func(t *T, _ netip.AddrPort) {
		s, p := t.Pair()
		ep := s.endpoint(netip.AddrPortFrom(t.local(), 0))
		if ep.LocalAddr().Addr() != t.local() {
			t.Errorf("endpoint at %v, want %v", ep.LocalAddr(), t.local())
		}
		through(ep, s, p)
		if local, err := s.C.LocalAddr(); err != nil || local != ep.LocalAddr() {
			t.Errorf("LocalAddr %v, %v; want %v", local, err, ep.LocalAddr())
		}
	})
}
