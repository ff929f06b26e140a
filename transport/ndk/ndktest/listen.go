package ndktest

import (
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_CREATE_LISTENER", createListener1, createListener2, createListener3, createListener4)

// listener makes a listener of s that does not listen yet; the channel gets its
// connectors.
func (s *Side) listener() (ndk.Listener, chan ndk.Connector) {
	s.t.Helper()
	got := make(chan ndk.Connector, 16)
	l, err := s.A.CreateListener(s.ctx, func(c ndk.Connector) { got <- c })
	s.must(err)
	s.close = append(s.close, l.Close)
	return l, got
}

// turnedAway makes a request of s that p gets and rejects.
func turnedAway(s, p *Side, addr netip.AddrPort, got chan ndk.Connector) {
	s.t.Helper()
	connected := request(s, p, addr, got, direct)
	p.must(p.C.Reject(nil))
	s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect that was rejected")
	p.closed(p.C)
	s.closed(s.C)
}

// No connect event comes before Listen has succeeded.
func createListener1(t *T) {
	s, p := t.Pair()
	l, got := p.listener()
	addr := p.unused(t.Listen.Addr())
	s.refused(addr, "Connect before Listen")
	p.quiet(got, "before Listen")

	_, taken, gotTaken := p.listen()
	p.want(l.Listen(p.ctx, taken), ntstatus.SharingViolation, "Listen at an address in use")
	turnedAway(s, p, taken, gotTaken)
	p.quiet(got, "after a Listen that failed")

	m, got := p.listener()
	p.must(m.Listen(p.ctx, addr))
	turnedAway(s, p, addr, got)
	p.quiet(got, "a second one for one request")
}

// A nil callback is refused.
func createListener2(t *T) {
	s, _ := t.Pair()
	l, err := s.A.CreateListener(s.ctx, nil)
	s.want(err, ntstatus.InvalidParameter, "CreateListener without a callback")
	if l != nil {
		t.Error("a listener beside the error")
		l.Close()
	}
}

// Listeners at different ports do not touch each other.
func createListener3(t *T) {
	s, p := t.Pair()
	l1, addr1, got1 := p.listen()
	l2, addr2, got2 := p.listen()
	if addr1 == addr2 {
		t.Fatalf("both listen at %v", addr1)
	}
	both := func() {
		t.Helper()
		turnedAway(s, p, addr1, got1)
		p.quiet(got2, "a request for the other listener")
		turnedAway(s, p, addr2, got2)
		p.quiet(got1, "a request for the other listener")
	}
	both()
	l1.ControlConnectEvents(true)
	s.refused(addr1, "Connect to a paused listener")
	turnedAway(s, p, addr2, got2)
	l1.ControlConnectEvents(false)
	both()
	l1.Close()
	s.refused(addr1, "Connect to a closed listener")
	turnedAway(s, p, addr2, got2)
	p.closed(l1)
	p.open(l2, "the other listener")
}

// Exhaustion gives InsufficientResources, and nothing is used up.
func createListener4(t *T) {
	s, _ := t.Pair()
	s.exhausted("NDK_FN_CREATE_LISTENER", func() (ndk.Object, error) {
		return s.A.CreateListener(s.ctx, func(c ndk.Connector) { c.Close() })
	})
}

var _ = row("NDK_FN_LISTEN", listen1, listen2, listen3, listen4, listen5)

// Port 0 picks one of the range; without a free one it is TooManyAddresses.
func listen1(t *T) {
	_, p := t.Pair()
	seen := make(map[netip.AddrPort]bool)
	for range 8 {
		_, addr, _ := p.listen()
		p.chosen(addr, "the listener")
		if addr.Addr() != t.Listen.Addr() {
			t.Errorf("listens at %v, want %v", addr.Addr(), t.Listen.Addr())
		}
		if seen[addr] {
			t.Errorf("%v was chosen twice", addr)
		}
		seen[addr] = true
	}
	if t.FullAddress != nil {
		l, _ := p.listener()
		p.want(l.Listen(p.ctx, netip.AddrPortFrom(t.FullAddress(t), 0)), ntstatus.TooManyAddresses, "Listen without a free port")
	}
}

// An address in use is SharingViolation, one of somebody else InvalidAddress.
func listen2(t *T) {
	s, p := t.Pair()
	used, addr, got := p.listen()
	for _, tc := range []struct {
		at   netip.AddrPort
		want ndk.Status
		what string
	}{
		{addr, ntstatus.SharingViolation, "Listen at an address in use"},
		{netip.AddrPortFrom(t.Foreign, 0), ntstatus.InvalidAddress, "Listen at an address of somebody else"},
		{netip.AddrPortFrom(t.Foreign, addr.Port()), ntstatus.InvalidAddress, "Listen at a port of somebody else"},
	} {
		l, _ := p.listener()
		p.want(l.Listen(p.ctx, tc.at), tc.want, tc.what)
		p.closed(l)
	}
	turnedAway(s, p, addr, got) // who was there first still listens
	p.closed(used)
	l, got := p.listener()
	p.must(l.Listen(p.ctx, addr)) // and is in nobody's way afterwards
	turnedAway(s, p, addr, got)
}

// The unspecified address means all addresses of this adapter, and no others.
func listen3(t *T) {
	s, p := t.Pair()
	wild := netip.IPv4Unspecified()
	if t.Listen.Addr().Is6() {
		wild = netip.IPv6Unspecified()
	}
	l, got := p.listener()
	p.must(l.Listen(p.ctx, netip.AddrPortFrom(wild, 0)))
	addr, err := l.LocalAddr()
	p.must(err)
	p.chosen(addr, "the listener")
	at := netip.AddrPortFrom(t.Listen.Addr(), addr.Port())
	turnedAway(s, p, at, got)
	o, _ := p.listener()
	p.want(o.Listen(p.ctx, at), ntstatus.SharingViolation, "Listen at one of these addresses")
	if !t.Elsewhere.IsValid() || t.Provider == nil {
		return // the machine has no other address, or the adapter has them all
	}
	a, err := t.Provider(t).Open(s.ctx, t.Local, ndk.Version11)
	s.must(err)
	q := newSide(t, a)
	l, got = q.listener()
	q.must(l.Listen(q.ctx, netip.AddrPortFrom(wild, 0)))
	addr, err = l.LocalAddr()
	q.must(err)
	q.chosen(addr, "the listener")
	turnedAway(s, q, netip.AddrPortFrom(t.Local, addr.Port()), got)
	s.refused(netip.AddrPortFrom(t.Elsewhere, addr.Port()), "Connect to an address that is not the adapter's")
	q.quiet(got, "a request to an address that is not the adapter's")
}

// A second Listen is InvalidDeviceState and changes nothing.
func listen4(t *T) {
	s, p := t.Pair()
	l, addr, got := p.listen()
	p.want(l.Listen(p.ctx, addr), ntstatus.InvalidDeviceState, "Listen twice")
	p.want(l.Listen(p.ctx, t.Listen), ntstatus.InvalidDeviceState, "Listen twice, at another port")
	if again, err := l.LocalAddr(); err != nil || again != addr {
		t.Errorf("LocalAddr %v, %v; want %v still", again, err, addr)
	}
	turnedAway(s, p, addr, got)
}

// Close stops listening at once, also while accepted connections live on.
func listen5(t *T) {
	s, p := t.Pair()
	l, addr, got := p.listen()
	connectTo(s, p, addr, got)
	hello(s, p)
	l.Close()
	o := s.fork()
	o.refused(addr, "Connect to a closed listener")
	p.quiet(got, "a closed listener")
	p.closed(l) // does not wait for the connections
	hello(s, p)
}

var _ = row("NDK_FN_CONNECT_EVENT_CALLBACK", connectEvent1, connectEvent2, connectEvent3, connectEvent4, connectEvent5)

// There is one event for each request, with a connector of its own, which is the
// consumer's.
func connectEvent1(t *T) {
	const requests = 8
	s, p := t.Pair()
	l, addr, got := p.listen()
	refused := make(chan error, requests)
	for range requests {
		o := s.sibling(nil)
		c := o.connector()
		go func() { refused <- c.Connect(o.ctx, o.QP, netip.AddrPort{}, addr, limits) }() // ends with Connect
	}
	connectors, peers := make(map[ndk.Connector]bool), make(map[netip.AddrPort]bool)
	for range requests {
		c := p.take(got)
		if c == nil {
			t.Fatalf("%d events for %d requests", len(connectors), requests)
		}
		p.close = append(p.close, c.Close)
		peer, err := c.PeerAddr()
		p.must(err)
		if connectors[c] || peers[peer] {
			t.Errorf("a second event for the request from %v", peer)
		}
		connectors[c], peers[peer] = true, true
	}
	p.closed(l)
	p.quiet(got, "more of them than requests")
	for c := range connectors {
		p.open(c, "a connector that the consumer did not close")
		p.must(c.Reject(nil))
		p.open(c, "a connector that the consumer did not close")
		p.closed(c)
	}
	for range requests {
		s.want(s.result(refused), ntstatus.ConnectionRefused, "Connect")
	}
}

// A request may be looked at and answered within the event or after it, from any
// goroutine.
func connectEvent2(t *T) {
	for _, tc := range []struct {
		name   string
		answer func(p *Side) error
		up     bool
	}{
		{"Accept", func(p *Side) error { return p.C.Accept(p.ctx, p.QP, limits, nil) }, true},
		{"AcceptEx", func(p *Side) error { return p.C.AcceptEx(p.ctx, p.QP, limits, nil) }, true},
		{"Reject", func(p *Side) error { return p.C.Reject(nil) }, false},
		{"Close", func(p *Side) error { p.C.Close(); return nil }, false},
	} {
		for _, within := range []bool{true, false} {
			name := tc.name + " after the event"
			if within {
				name = tc.name + " within the event"
			}
			t.Sub(name, func(t *T) {
				s, p := t.Pair()
				answered := make(chan error, 1)
				l, err := p.A.CreateListener(p.ctx, func(c ndk.Connector) {
					answer := func() {
						p.C = c
						_, err := c.ConnectionData(nil)
						if err == nil {
							err = tc.answer(p)
						}
						answered <- err
					}
					if within {
						answer()
					} else {
						go answer() // ends with the answer, which is waited for
					}
				})
				p.must(err)
				p.close = append(p.close, l.Close)
				p.must(l.Listen(p.ctx, t.Listen))
				addr, err := l.LocalAddr()
				p.must(err)
				err = s.result(s.dial(addr, direct))
				if !tc.up {
					s.want(err, ntstatus.ConnectionRefused, "Connect")
					p.must(p.result(answered))
					return
				}
				s.must(err)
				s.must(s.C.CompleteConnect(s.ctx, nil))
				p.must(p.result(answered))
				hello(s, p)
			})
		}
	}
}

// The provider lets the consumer take its time: a request waits while several
// others come and go.
func connectEvent3(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	connected := request(s, p, addr, got, direct)
	for range 4 {
		meanwhile(s, p)
	}
	accepted := plainForms.answer(p, limits)
	s.must(s.result(connected))
	for range 4 {
		meanwhile(s, p)
	}
	s.must(s.C.CompleteConnect(s.ctx, nil)) // nor is that hurried
	s.must(s.result(accepted))
	hello(s, p)
}

// No event comes while the listener is paused, before Listen, or after its close
// has finished.
func connectEvent4(t *T) {
	s, p := t.Pair()
	var silence atomic.Bool // no event may come
	events := make(chan struct{}, 64)
	create := func() ndk.Listener {
		l, err := p.A.CreateListener(p.ctx, func(c ndk.Connector) {
			if silence.Load() {
				t.Error("a connect event")
			}
			c.Close()
			events <- struct{}{}
		})
		p.must(err)
		p.close = append(p.close, l.Close)
		return l
	}
	addr := p.unused(t.Listen.Addr())
	l := create()
	silence.Store(true)
	s.refused(addr, "Connect before Listen")
	silence.Store(false)
	p.must(l.Listen(p.ctx, addr))
	s.refused(addr, "Connect that is not answered")
	select {
	case <-events:
	case <-s.ctx.Done():
		t.Fatal("no connect event")
	}
	l.ControlConnectEvents(true)
	silence.Store(true)
	for range 3 {
		s.refused(addr, "Connect to a paused listener")
	}
	silence.Store(false)
	l.ControlConnectEvents(false)

	const requests = 4
	for range 4 { // requests that come while it closes are refused, with or without an event
		ended := make(chan error, requests)
		for range requests {
			o := s.sibling(nil)
			c := o.connector()
			go func() { ended <- c.Connect(o.ctx, o.QP, netip.AddrPort{}, addr, limits) }() // ends with Connect
		}
		p.closed(l)
		silence.Store(true)
		for range requests {
			err := s.result(ended)
			if t.CloseDropsRequests && errors.Is(err, ntstatus.IOTimeout) {
				continue
			}
			s.want(err, ntstatus.ConnectionRefused, "Connect while the listener closes")
		}
		s.refused(addr, "Connect to a closed listener")
		silence.Store(false)
		l = create()
		p.must(l.Listen(p.ctx, addr))
	}
}

// To close the connector without an answer refuses the request.
func connectEvent5(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	for range 3 {
		connected := request(s, p, addr, got, direct)
		p.closed(p.C)
		s.want(s.result(connected), ntstatus.ConnectionRefused, "Connect")
	}
}

var _ = row("NDK_FN_CONTROL_CONNECT_EVENTS", controlConnectEvents1, controlConnectEvents2, controlConnectEvents3, controlConnectEvents4)

// While paused a Connect fails as if nobody listened.
func controlConnectEvents1(t *T) {
	s, p := t.Pair()
	l, addr, got := p.listen()
	turnedAway(s, p, addr, got)
	l.ControlConnectEvents(true)
	for range 3 {
		s.refused(addr, "Connect to a paused listener")
	}
	if _, err := s.connector().ConnectionData(nil); err == nil {
		t.Error("private data of nobody")
	}
	p.quiet(got, "while paused")
}

// After a restart connects work at the same port, which stayed reserved.
func controlConnectEvents2(t *T) {
	s, p := t.Pair()
	l, addr, got := p.listen()
	for range 3 {
		l.ControlConnectEvents(true)
		s.refused(addr, "Connect to a paused listener")
		if at, err := l.LocalAddr(); err != nil || at != addr {
			t.Errorf("LocalAddr while paused: %v, %v; want %v", at, err, addr)
		}
		o, _ := p.listener()
		p.want(o.Listen(p.ctx, addr), ntstatus.SharingViolation, "Listen at the port of a paused listener")
		p.closed(o)
		l.ControlConnectEvents(false)
		if at, err := l.LocalAddr(); err != nil || at != addr {
			t.Errorf("LocalAddr after a restart: %v, %v; want %v", at, err, addr)
		}
		turnedAway(s, p, addr, got)
	}
	connectTo(s, p, addr, got)
	hello(s, p)
}

// Requests that were handed out before can still be answered.
func controlConnectEvents3(t *T) {
	s, p := t.Pair()
	l, addr, got := p.listen()
	s2, p2 := s.fork(), p.fork()
	connected := request(s, p, addr, got, direct)
	connected2 := request(s2, p2, addr, got, direct)
	l.ControlConnectEvents(true)
	o := s.fork()
	o.refused(addr, "Connect to a paused listener")

	answer := pattern(8, 1)
	p2.must(p2.C.Reject(answer))
	s2.want(s2.result(connected2), ntstatus.ConnectionRefused, "Connect that was rejected")
	s2.private(answer)

	accepted := plainForms.answer(p, limits)
	s.must(s.result(connected))
	s.must(s.C.CompleteConnect(s.ctx, nil))
	s.must(s.result(accepted))
	hello(s, p)
	l.ControlConnectEvents(false)
}

// To pause twice or to restart twice is harmless, also before Listen.
func controlConnectEvents4(t *T) {
	s, p := t.Pair()
	l, got := p.listener()
	l.ControlConnectEvents(false)
	l.ControlConnectEvents(true)
	l.ControlConnectEvents(true)
	p.must(l.Listen(p.ctx, t.Listen))
	addr, err := l.LocalAddr()
	p.must(err)
	s.refused(addr, "Connect to a listener that was paused before Listen")
	for range 3 {
		l.ControlConnectEvents(false)
		l.ControlConnectEvents(false)
		turnedAway(s, p, addr, got)
		l.ControlConnectEvents(true)
		l.ControlConnectEvents(true)
		s.refused(addr, "Connect to a paused listener")
	}
	p.quiet(got, "while paused")
}

var _ = row("NDK_FN_GET_LISTENER_LOCAL_ADDRESS", listenerAddress1, listenerAddress2, listenerAddress3)

// It shows the port that was chosen.
func listenerAddress1(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	p.chosen(addr, "the listener")
	turnedAway(s, p, addr, got) // it is the right one
}

// Before Listen it is InvalidDeviceState.
func listenerAddress2(t *T) {
	_, p := t.Pair()
	l, _ := p.listener()
	_, err := l.LocalAddr()
	p.want(err, ntstatus.InvalidDeviceState, "LocalAddr before Listen")
	p.want(l.Listen(p.ctx, netip.AddrPortFrom(t.Foreign, 0)), ntstatus.InvalidAddress, "Listen at an address of somebody else")
	_, err = l.LocalAddr()
	p.want(err, ntstatus.InvalidDeviceState, "LocalAddr after a Listen that failed")
}

// IPv4 and IPv6 both work.
func listenerAddress3(t *T) {
	t.families(func(t *T, listen netip.AddrPort) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		if addr.Addr() != listen.Addr() {
			t.Errorf("listens at %v, want %v", addr, listen.Addr())
		}
		turnedAway(s, p, addr, got)
	})
}
