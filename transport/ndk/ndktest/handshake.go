package ndktest

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// The steps of a connection, one at a time:
//
//	active                       passive
//	dial: Connect runs      ─►   the connect event: request returns
//	Connect has succeeded   ◄─   answer: Accept runs
//	complete                ─►   Accept ends

// fork is a sibling of s with CQs of its own, so that nothing that happens on it
// shows on s.
func (s *Side) fork() *Side {
	s.t.Helper()
	rev, iev := ndk.NewEvent(), ndk.NewEvent()
	rcq, err := s.A.CreateCQ(s.ctx, ndk.CQConfig{Depth: cqDepth, Notify: rev.Notify})
	s.must(err)
	s.close = append(s.close, rcq.Close)
	icq, err := s.A.CreateCQ(s.ctx, ndk.CQConfig{Depth: cqDepth, Notify: iev.Notify})
	s.must(err)
	s.close = append(s.close, icq.Close)
	f := s.sibling(func(q *ndk.QPConfig) { q.ReceiveCQ, q.InitiatorCQ = rcq, icq })
	f.RCQ, f.ICQ, f.rev, f.iev = rcq, icq, rev, iev
	return f
}

// meanwhile makes a whole other connection between the adapters of a and p, sends
// a message each way and ends it. What a provider does by itself because of what
// went before has had its turn then, and that of the wire is ordered behind it.
func meanwhile(a, p *Side) {
	a.t.Helper()
	x, y := a.fork(), p.fork()
	connect(x, y, limits, limits)
	y.exchange(x)
	x.exchange(y)
	x.must(x.C.Disconnect(x.ctx))
	y.lost()
	y.must(y.C.Disconnect(y.ctx))
}

// connector makes an idle connector that is closed with the side.
func (s *Side) connector() ndk.Connector {
	s.t.Helper()
	c, err := s.A.CreateConnector(s.ctx)
	s.must(err)
	s.close = append(s.close, c.Close)
	return c
}

// via says how a Connect goes out: from an address, or from a shared endpoint if
// there is one, and with which parameters.
type via struct {
	src    netip.AddrPort
	shared bool // from an endpoint, which [via.on] makes
	ep     ndk.SharedEndpoint
	ndk.ConnParams
}

// direct is a Connect from any address, shared one from a shared endpoint.
var (
	direct = via{ConnParams: limits}
	shared = via{ConnParams: limits, shared: true}
)

// connect calls Connect or ConnectShared and waits for it.
func (v via) connect(s *Side, c ndk.Connector, dst netip.AddrPort) error {
	if v.ep != nil {
		return c.ConnectShared(s.ctx, s.QP, v.ep, dst, v.ConnParams)
	}
	return c.Connect(s.ctx, s.QP, v.src, dst, v.ConnParams)
}

// dial starts to connect s with a new connector; its result comes on the channel.
func (s *Side) dial(dst netip.AddrPort, v via) chan error {
	s.t.Helper()
	c := s.connector()
	s.C = c
	res := make(chan error, 1)
	go func() { res <- v.connect(s, c, dst) }() // ends with Connect, at the latest when c is closed
	return res
}

// request dials and waits for the connect event, which hands p its connector.
func request(s, p *Side, dst netip.AddrPort, got chan ndk.Connector, v via) chan error {
	s.t.Helper()
	res := s.dial(dst, v)
	select {
	case p.C = <-got:
		p.close = append(p.close, p.C.Close)
	case err := <-res:
		s.t.Fatalf("Connect ended before there was an event: %v", err)
	case <-s.ctx.Done():
		s.t.Fatal("no connect event")
	}
	return res
}

// result waits for the result of a call.
func (s *Side) result(res chan error) error {
	s.t.Helper()
	select {
	case err := <-res:
		return err
	case <-s.ctx.Done():
		s.t.Fatal("the call does not end")
		return nil
	}
}

// forms are the calls that finish a connection on either side: the plain ones or
// those whose name ends in Ex. They do the same, so they have the same proofs.
type forms struct {
	complete func(s *Side, onDisconnect func()) error
	accept   func(p *Side, params ndk.ConnParams, onDisconnect func()) error
}

var plainForms = forms{
	func(s *Side, f func()) error { return s.C.CompleteConnect(s.ctx, f) },
	func(p *Side, params ndk.ConnParams, f func()) error { return p.C.Accept(p.ctx, p.QP, params, f) },
}

var exForms = forms{
	func(s *Side, f func()) error { return s.C.CompleteConnectEx(s.ctx, reasonless(f)) },
	func(p *Side, params ndk.ConnParams, f func()) error {
		return p.C.AcceptEx(p.ctx, p.QP, params, reasonless(f))
	},
}

func reasonless(f func()) func(uint32) {
	if f == nil {
		return nil
	}
	return func(uint32) { f() }
}

// answer starts to accept the request that p has; the disconnect event, if any,
// comes on Lost.
func (f forms) answer(p *Side, params ndk.ConnParams) chan error {
	res := make(chan error, 1)
	go func() { // ends with Accept, at the latest when the connector is closed
		res <- f.accept(p, params, func() { p.Lost <- 0 })
	}()
	return res
}

// accepted brings s to where Connect succeeded and CompleteConnect is due. The
// result of Accept comes on the channel.
func (f forms) accepted(s, p *Side) chan error {
	s.t.Helper()
	_, addr, got := p.listen()
	connected := request(s, p, addr, got, direct)
	res := f.answer(p, limits)
	s.must(s.result(connected))
	return res
}

// established connects s and p. Their disconnect events come on Lost.
func (f forms) established(s, p *Side) {
	s.t.Helper()
	res := f.accepted(s, p)
	s.must(f.complete(s, func() { s.Lost <- 0 }))
	s.must(s.result(res))
	hello(s, p)
}

// closed closes an object and waits for it.
func (s *Side) closed(o ndk.Object) {
	s.t.Helper()
	s.must(ndk.CloseWait(s.ctx, o))
}

// open fails if o is closed.
func (s *Side) open(o ndk.Object, what string) {
	s.t.Helper()
	select {
	case <-o.Closed():
		s.t.Errorf("%s is closed", what)
	default:
	}
}

// silent fails if a disconnect event came.
func (s *Side) silent(what string) {
	s.t.Helper()
	select {
	case <-s.Lost:
		s.t.Errorf("a disconnect event: %s", what)
	default:
	}
}

// unused finds an address of s that nothing listens on and nothing came from.
func (s *Side) unused(ip netip.Addr) netip.AddrPort {
	s.t.Helper()
	l, err := s.A.CreateListener(s.ctx, func(c ndk.Connector) { c.Close() })
	s.must(err)
	s.must(l.Listen(s.ctx, netip.AddrPortFrom(ip, 0)))
	addr, err := l.LocalAddr()
	s.must(err)
	s.closed(l)
	return addr
}

// refused fails unless nobody takes a connection at addr.
func (s *Side) refused(addr netip.AddrPort, what string) {
	s.t.Helper()
	s.want(s.result(s.dial(addr, direct)), ntstatus.ConnectionRefused, what)
	s.closed(s.C)
}

// idle fails unless posts to the initiator queue are refused because there is no
// connection.
func (s *Side) idle(what string) {
	s.t.Helper()
	s.want(s.QP.Send("refused", nil, 0), ntstatus.ConnectionInvalid, "Send "+what)
	s.want(s.QP.Write("refused", nil, 0, 0, 0), ntstatus.ConnectionInvalid, "Write "+what)
	s.want(s.QP.Read("refused", nil, 0, 0, 0), ntstatus.ConnectionInvalid, "Read "+what)
}

// chosen fails unless the port is from the range of ports that a provider picks.
func (s *Side) chosen(a netip.AddrPort, what string) {
	s.t.Helper()
	if a.Port() < 49152 {
		s.t.Errorf("%s has port %d, want one from 49152 to 65535", what, a.Port())
	}
}

// families runs f for each family of addresses, and says if one is missing.
func (t *T) families(f func(t *T, listen netip.AddrPort)) {
	t.Helper()
	var v4, v6 bool
	for _, l := range []netip.AddrPort{t.Listen, t.Listen6} {
		if !l.IsValid() {
			continue
		}
		name := "IPv4"
		if l.Addr().Is6() {
			name, v6 = "IPv6", true
		} else {
			v4 = true
		}
		t.Sub(name, func(t *T) {
			t.Listen = l
			f(t, l)
		})
	}
	if !v4 || !v6 {
		t.NotOffered("the device of the test has addresses of one family only")
	}
}

// likewise proves of this row what another one states, statement by statement. A
// statement that the device cannot keep there is left out here: then both calls
// are the same in that as well.
func (t *T) likewise(other string, proofs ...func(t *T)) {
	t.Helper()
	for i, f := range proofs {
		if id := StatementID(other, i+1); f != nil && t.Lacks[id] == "" && t.Lacks[other] == "" {
			t.Sub(fmt.Sprint(i+1), f)
		}
	}
}

// ifAcceptWaits is f where the passive side is told of CompleteConnect, or nil.
func (t *T) ifAcceptWaits(f func(t *T)) func(t *T) {
	if !t.AcceptWaits {
		return nil
	}
	return f
}

// expiring is a context that ends when the test says so, by err.
type expiring struct {
	context.Context
	done chan struct{} // the test closes it
	err  error
}

func (e expiring) Done() <-chan struct{} { return e.done }

func (e expiring) Err() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}
