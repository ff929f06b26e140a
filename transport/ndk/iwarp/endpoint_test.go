package iwarp

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// host listens and accepts one connection after another, each onto a QP of its
// own.
type host struct {
	*end
	l    ndk.Listener
	addr netip.AddrPort
	got  chan ndk.Connector
}

func newHost(t *testing.T, at string) *host {
	t.Helper()
	ctx := context.Background()
	h := &host{end: newEnd(t, Config{}, 4096), got: make(chan ndk.Connector, 8)}
	var err error
	h.l, err = h.a.CreateListener(ctx, func(c ndk.Connector) { h.got <- c })
	must(t, err)
	must(t, h.l.Listen(ctx, netip.MustParseAddrPort(at)))
	h.addr, err = h.l.LocalAddr()
	must(t, err)
	t.Cleanup(func() {
		h.l.Close()
		h.close()
	})
	return h
}

// link is one connection of an end.
type link struct {
	c, peer   ndk.Connector
	qp, other ndk.QP
}

func (l *link) close() {
	l.c.Close()
	l.peer.Close()
	l.qp.Close()
	l.other.Close()
	<-l.c.Closed()
	<-l.peer.Closed()
}

// dial connects a QP of its own by f.
func (h *host) dial(e *end, f func(c ndk.Connector, qp ndk.QP) error) (*link, error) {
	h.t.Helper()
	ctx := context.Background()
	l := &link{}
	var err error
	l.c, err = e.a.CreateConnector(ctx)
	must(h.t, err)
	cfg := ndk.QPConfig{ReceiveCQ: e.cq, InitiatorCQ: e.cq}
	l.qp, err = e.pd.CreateQP(ctx, cfg)
	must(h.t, err)
	res := make(chan error, 1)
	go func() { res <- f(l.c, l.qp) }() // ends with Connect
	select {
	case l.peer = <-h.got:
	case err := <-res:
		l.c.Close()
		l.qp.Close()
		return nil, err
	}
	cfg.ReceiveCQ, cfg.InitiatorCQ = h.cq, h.cq
	l.other, err = h.pd.CreateQP(ctx, cfg)
	must(h.t, err)
	must(h.t, l.peer.Accept(ctx, l.other, ndk.ConnParams{}, nil))
	if err := <-res; err != nil {
		return nil, err
	}
	return l, l.c.CompleteConnect(ctx, nil)
}

// One address is the source of connections to different destinations, of one to
// each, and nobody else's while the endpoint or one of them is there.
func TestSharedEndpoint(t *testing.T) {
	ctx := context.Background()
	for _, ip := range []string{"127.0.0.1", "::1"} {
		t.Run(ip, func(t *testing.T) {
			any := netip.AddrPortFrom(netip.MustParseAddr(ip), 0)
			h1, h2 := newHost(t, any.String()), newHost(t, any.String())
			e := newEnd(t, Config{}, 4096)
			defer e.close()
			ep, err := e.a.CreateSharedEndpoint(ctx, any)
			must(t, err)
			local := ep.LocalAddr()
			if local.Addr() != any.Addr() || local.Port() < ephemeral.first {
				t.Errorf("the endpoint is at %v", local)
			}
			shared := func(dst netip.AddrPort) func(c ndk.Connector, qp ndk.QP) error {
				return func(c ndk.Connector, qp ndk.QP) error { return c.ConnectShared(ctx, qp, ep, dst, ndk.ConnParams{}) }
			}
			named := func(dst netip.AddrPort) func(c ndk.Connector, qp ndk.QP) error {
				return func(c ndk.Connector, qp ndk.QP) error { return c.Connect(ctx, qp, local, dst, ndk.ConnParams{}) }
			}
			l1, err := h1.dial(e, shared(h1.addr))
			must(t, err)
			l2, err := h2.dial(e, shared(h2.addr))
			must(t, err)
			for _, l := range []*link{l1, l2} {
				a, err := l.c.LocalAddr()
				b, err2 := l.peer.PeerAddr()
				if err != nil || err2 != nil || a != local || b != local {
					t.Errorf("a connection from %v has the addresses %v and %v: %v %v", local, a, b, err, err2)
				}
			}
			refused := func(what string, err error, want ndk.Status) {
				t.Helper()
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
			_, err = h1.dial(e, shared(h1.addr))
			refused("the same destination again", err, ntstatus.AddressAlreadyExists)
			_, err = h1.dial(e, named(h1.addr))
			refused("the same connection by its address", err, ntstatus.AddressAlreadyExists)
			h3 := newHost(t, any.String())
			_, err = h3.dial(e, named(h3.addr))
			refused("the address for another connection", err, ntstatus.SharingViolation)
			_, err = e.a.CreateSharedEndpoint(ctx, local)
			refused("a second endpoint", err, ntstatus.SharingViolation)
			_, err = e.a.CreateSharedEndpoint(ctx, h1.addr)
			refused("the address of a listener", err, ntstatus.SharingViolation)

			ep.Close()
			l1.close()
			select {
			case <-ep.Closed():
				t.Error("closed while a connector is there")
			default:
			}
			l2.close()
			<-ep.Closed()
			ep, err = e.a.CreateSharedEndpoint(ctx, local)
			must(t, err)
			l3, err := h3.dial(e, shared(h3.addr))
			must(t, err)
			l3.close()
			must(t, ndk.CloseWait(ctx, ep))
		})
	}
}

func TestSharedEndpointNeedsAnAddress(t *testing.T) {
	ctx := context.Background()
	e := newEnd(t, Config{}, 4096)
	defer e.close()
	for _, addr := range []string{"192.0.2.1:0", "0.0.0.0:0", "[2001:db8::1]:0", "[::]:5445"} {
		if _, err := e.a.CreateSharedEndpoint(ctx, netip.MustParseAddrPort(addr)); !errors.Is(err, ntstatus.InvalidAddress) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// With no port left of the range each call that draws one says so.
func TestNoPortLeft(t *testing.T) {
	ctx := context.Background()
	h := newHost(t, "127.0.0.1:0")
	e := newEnd(t, Config{}, 4096)
	defer e.close()
	e.a.(*adapter).ports = portRange{h.addr.Port(), h.addr.Port()}
	local := netip.MustParseAddrPort("127.0.0.1:0")
	if _, err := e.a.CreateSharedEndpoint(ctx, local); !errors.Is(err, ntstatus.TooManyAddresses) {
		t.Errorf("CreateSharedEndpoint: %v", err)
	}
	l, err := e.a.CreateListener(ctx, func(ndk.Connector) {})
	must(t, err)
	if err := l.Listen(ctx, local); !errors.Is(err, ntstatus.TooManyAddresses) {
		t.Errorf("Listen: %v", err)
	}
	l.Close()
	for _, src := range []netip.AddrPort{{}, local} {
		_, err = h.dial(e, func(c ndk.Connector, qp ndk.QP) error { return c.Connect(ctx, qp, src, h.addr, ndk.ConnParams{}) })
		if !errors.Is(err, ntstatus.TooManyAddresses) {
			t.Errorf("Connect from %v: %v", src, err)
		}
	}
}

// A socket that is bound to its own destination connects to itself; that is no
// connection.
func TestNoConnectionToItself(t *testing.T) {
	ctx := context.Background()
	e := newEnd(t, Config{}, 4096)
	defer e.close()
	ep, err := e.a.CreateSharedEndpoint(ctx, netip.MustParseAddrPort("127.0.0.1:0")) // a port that nobody has
	must(t, err)
	at := ep.LocalAddr()
	ep.Close()
	<-ep.Closed()
	e.a.(*adapter).ports = portRange{at.Port(), at.Port()}
	for _, tc := range []struct {
		src  netip.AddrPort
		want ndk.Status
	}{
		{at, ntstatus.SharingViolation},
		{netip.AddrPort{}, ntstatus.TooManyAddresses},
	} {
		c, err := e.a.CreateConnector(ctx)
		must(t, err)
		if err := c.Connect(ctx, e.qp, tc.src, at, ndk.ConnParams{}); !errors.Is(err, tc.want) {
			t.Errorf("from %v: %v, want %v", tc.src, err, tc.want)
		}
		c.Close()
		<-c.Closed()
	}
}
