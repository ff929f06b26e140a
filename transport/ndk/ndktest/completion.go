package ndktest

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// creation is a call that makes an object.
type creation struct {
	name string
	make func(ctx context.Context, s *Side) (ndk.Object, error)
	// bad is the call with an argument that is refused with want; nil if there is
	// no such argument.
	bad  func(ctx context.Context, s *Side) (ndk.Object, error)
	want ndk.Status
	ofPD bool // a method of the PD
	cap  func(i *ndk.AdapterInfo) bool
}

var creations = []creation{
	{name: "CreateCQ",
		make: func(ctx context.Context, s *Side) (ndk.Object, error) {
			return s.A.CreateCQ(ctx, ndk.CQConfig{Depth: 8})
		},
		bad:  func(ctx context.Context, s *Side) (ndk.Object, error) { return s.A.CreateCQ(ctx, ndk.CQConfig{}) },
		want: ntstatus.InvalidParameter},
	{name: "CreatePD",
		make: func(ctx context.Context, s *Side) (ndk.Object, error) { return s.A.CreatePD(ctx) }},
	{name: "CreateSharedEndpoint",
		make: func(ctx context.Context, s *Side) (ndk.Object, error) {
			return s.A.CreateSharedEndpoint(ctx, netip.AddrPortFrom(s.t.Local, 0))
		},
		bad: func(ctx context.Context, s *Side) (ndk.Object, error) {
			return s.A.CreateSharedEndpoint(ctx, netip.AddrPortFrom(s.t.Foreign, 0))
		},
		want: ntstatus.InvalidAddress},
	{name: "CreateConnector",
		make: func(ctx context.Context, s *Side) (ndk.Object, error) { return s.A.CreateConnector(ctx) }},
	{name: "CreateListener",
		make: func(ctx context.Context, s *Side) (ndk.Object, error) {
			return s.A.CreateListener(ctx, func(c ndk.Connector) { c.Close() })
		},
		bad:  func(ctx context.Context, s *Side) (ndk.Object, error) { return s.A.CreateListener(ctx, nil) },
		want: ntstatus.InvalidParameter},
	{name: "CreateMR", ofPD: true,
		make: func(ctx context.Context, s *Side) (ndk.Object, error) { return s.PD.CreateMR(ctx, false) }},
	{name: "CreateMR, fast", ofPD: true,
		make: func(ctx context.Context, s *Side) (ndk.Object, error) { return s.PD.CreateMR(ctx, true) }},
	{name: "CreateMW", ofPD: true,
		make: func(ctx context.Context, s *Side) (ndk.Object, error) { return s.PD.CreateMW(ctx) },
		cap:  func(i *ndk.AdapterInfo) bool { return i.MaxWindowSize > 0 }},
	{name: "CreateSRQ", ofPD: true,
		make: func(ctx context.Context, s *Side) (ndk.Object, error) {
			return s.PD.CreateSRQ(ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
		},
		bad: func(ctx context.Context, s *Side) (ndk.Object, error) {
			return s.PD.CreateSRQ(ctx, ndk.SRQConfig{Depth: s.Info.MaxSRQDepth + 1, MaxReceiveSGE: 1})
		},
		want: ntstatus.InvalidParameter,
		cap:  func(i *ndk.AdapterInfo) bool { return i.MaxSRQDepth > 0 }},
	{name: "CreateQP", ofPD: true,
		make: func(ctx context.Context, s *Side) (ndk.Object, error) { return s.PD.CreateQP(ctx, s.QPConfig()) },
		bad:  func(ctx context.Context, s *Side) (ndk.Object, error) { return s.PD.CreateQP(ctx, ndk.QPConfig{}) },
		want: ntstatus.InvalidParameter},
	{name: "CreateQPWithSRQ", ofPD: true,
		make: func(ctx context.Context, s *Side) (ndk.Object, error) {
			q, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
			if err != nil {
				return nil, err
			}
			defer q.Close() // pends until the QP is closed
			return s.PD.CreateQPWithSRQ(ctx, s.QPConfig(), q)
		},
		bad: func(ctx context.Context, s *Side) (ndk.Object, error) {
			return s.PD.CreateQPWithSRQ(ctx, s.QPConfig(), nil)
		},
		want: ntstatus.InvalidParameter,
		cap:  func(i *ndk.AdapterInfo) bool { return i.MaxSRQDepth > 0 }},
}

// everyCreation runs f for each call that the adapter offers.
func (t *T) everyCreation(f func(t *T, s *Side, c creation)) {
	for _, c := range creations {
		t.Sub(c.name, func(t *T) {
			s, _ := t.Pair()
			if c.cap != nil && !c.cap(&s.Info) {
				c.bad, c.want = c.make, ntstatus.NotSupported
				if c.name == "CreateQPWithSRQ" {
					c.bad = func(ctx context.Context, s *Side) (ndk.Object, error) {
						return s.PD.CreateQPWithSRQ(ctx, s.QPConfig(), nil)
					}
				}
				s.outcome(c.want, c.name)(c.bad(s.ctx, s))
				return
			}
			f(t, s, c)
		})
	}
}

// outcome checks that a call gave an object and no error, or only the error.
func (s *Side) outcome(want ndk.Status, what string) func(o ndk.Object, err error) ndk.Object {
	s.t.Helper()
	return func(o ndk.Object, err error) ndk.Object {
		s.t.Helper()
		if (o == nil) == (err == nil) {
			s.t.Fatalf("%s: %v, %v; want one of them", what, o, err)
		}
		s.want(err, want, what)
		switch {
		case err != nil && want == ntstatus.Success:
			s.t.FailNow()
		case err == nil && want != ntstatus.Success:
			o.Close()
		}
		var e *ndk.Error
		if err != nil && !errors.As(err, &e) {
			s.t.Errorf("%s: the error is a %T, want an *ndk.Error", what, err)
		}
		return o
	}
}

var _ = row("NDK_FN_CREATE_COMPLETION", createdOne, createdNothing, createdAtOnce, createdLate)

// A call gives an object, or an error and no object.
func createdOne(t *T) {
	t.everyCreation(func(t *T, s *Side, c creation) {
		a := s.outcome(ntstatus.Success, "with good arguments")(c.make(s.ctx, s))
		b := s.outcome(ntstatus.Success, "once more")(c.make(s.ctx, s))
		if a == b {
			t.Error("two calls gave the same object")
		}
		if c.bad != nil {
			s.outcome(c.want, "with a bad argument")(c.bad(s.ctx, s))
		}
		s.open(a, "an object that was just made")
		s.closed(a)
		s.closed(b)
		if c.ofPD {
			pd, held := s.PD, s.outcome(ntstatus.Success, "to keep the PD")
			s.PD = s.domain()
			m := held(s.PD.CreateMR(s.ctx, false))
			s.PD.Close()
			s.outcome(ntstatus.InvalidDeviceState, "of a PD that is being closed")(c.make(s.ctx, s))
			s.closed(m)
			s.ends(s.PD, "close of the PD, which nothing was made of")
			s.PD = pd
		}
	})
}

// What failed, or was given up, holds nothing: no object, as its antecedents
// can be closed, and no port, as the next one can have it. That there is no
// token either shows in Config.Leaks.
func createdNothing(t *T) {
	t.everyCreation(func(t *T, s *Side, c creation) {
		ended, cancel := context.WithCancel(s.ctx)
		cancel()
		for range 16 {
			if c.bad != nil {
				s.outcome(c.want, "with a bad argument")(c.bad(s.ctx, s))
			}
			s.abandoned(c.make(ended, s))
		}
		s.closeRest()
		s.closeAdapter()
	})
	t.Sub("port of a shared endpoint", func(t *T) {
		s, _ := t.Pair()
		ended, cancel := context.WithCancel(s.ctx)
		cancel()
		addr := s.unused(t.Local)
		for range 4 {
			e, err := s.A.CreateSharedEndpoint(ended, addr)
			if e == nil {
				s.abandoned(nil, err)
			} else {
				s.abandoned(e, err)
			}
			e, err = s.A.CreateSharedEndpoint(s.ctx, addr)
			s.must(err)
			_, err = s.A.CreateSharedEndpoint(ended, addr) // in use, and given up
			if err == nil {
				t.Error("two endpoints of one address")
			}
			s.closed(e)
		}
	})
}

// abandoned checks the outcome of a call whose context had ended: done all the
// same, or Cancelled.
func (s *Side) abandoned(o ndk.Object, err error) {
	s.t.Helper()
	if (o == nil) == (err == nil) {
		s.t.Fatalf("with a context that has ended: %v, %v; want one of them", o, err)
	}
	if err == nil {
		s.closed(o)
		return
	}
	if !errors.Is(err, ntstatus.Cancelled) || !errors.Is(err, context.Canceled) {
		s.t.Fatalf("with a context that has ended: %v; want Cancelled, wrapping the error of the context", err)
	}
}

// The object can be used at once, by any goroutine, and closed at once.
func createdAtOnce(t *T) {
	t.everyCreation(func(t *T, s *Side, c creation) {
		for range 8 {
			o := s.outcome(ntstatus.Success, "create")(c.make(s.ctx, s))
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					if o.Kind() == ndk.ObjectUndefined || o.Version() != s.Info.Version {
						t.Errorf("kind %v, version %v", o.Kind(), o.Version())
					}
				})
			}
			wg.Go(func() { s.use(o) })
			wg.Wait()
			s.closed(o)
		}
		o := s.outcome(ntstatus.Success, "create")(c.make(s.ctx, s))
		o.Close() // unused
		s.ends(o, "close")
	})
}

// use does something with a new object.
func (s *Side) use(o ndk.Object) {
	s.t.Helper()
	var err error
	switch o := o.(type) {
	case ndk.QP:
		if err = o.Receive("r", nil); errors.Is(err, ntstatus.InvalidDeviceRequest) {
			err = nil // of a QP with an SRQ
		}
		o.Flush()
	case ndk.CQ:
		o.Arm(ndk.ArmAny)
		o.Poll(make([]ndk.Result, 1))
	case ndk.PD:
		var m ndk.MR
		if m, err = o.CreateMR(s.ctx, false); err == nil {
			m.Close()
		}
	case ndk.SRQ:
		err = o.Receive("r", nil)
	case ndk.Listener:
		err = o.Listen(s.ctx, netip.AddrPortFrom(s.t.Local, 0))
	case ndk.SharedEndpoint:
		if o.LocalAddr().Port() == 0 {
			err = errors.New("port 0")
		}
	case ndk.Connector:
		if _, err = o.LocalAddr(); errors.Is(err, ntstatus.ConnectionInvalid) {
			err = nil
		}
	case ndk.MR:
		if err = o.Register(s.ctx, ndk.Memory{s.Mem[:16]}, 16, 0); errors.Is(err, ntstatus.InvalidDeviceRequest) {
			err = o.InitializeFastRegister(s.ctx, 1, false)
		}
	}
	if err != nil {
		s.t.Errorf("use of a new %v: %v", o.Kind(), err)
	}
}

// A context that ends while the call runs may come too late or not; an object
// that nobody gets is closed by the provider, so that its antecedents are.
func createdLate(t *T) {
	t.everyCreation(func(t *T, s *Side, c creation) {
		for range 16 {
			ctx, cancel := context.WithCancel(s.ctx)
			var wg sync.WaitGroup
			wg.Go(cancel)
			s.abandoned(c.make(ctx, s))
			wg.Wait()
		}
		s.closeRest()
		s.closeAdapter()
	})
}

var _ = row("NDK_FN_REQUEST_COMPLETION", requestOnce, requestLate, requestUntouched, requestBeforeClose)

// A request that waits comes back once, when what it waits for has happened,
// and one that does not wait comes back once, too.
func requestOnce(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	// It waits: for the answer to the request.
	res := make(chan error, 4)
	c := s.connector()
	s.C = c
	go func() { res <- c.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, limits) }() // ends with Connect
	if p.C = p.take(got); p.C == nil {
		t.Fatal("no connect event")
	}
	select {
	case err := <-res:
		t.Fatalf("Connect came back without an answer: %v", err)
	default:
	}
	acc := plainForms.answer(p, limits)
	s.must(s.result(res))
	s.must(c.CompleteConnect(s.ctx, func() { s.Lost <- 0 }))
	p.must(p.result(acc))
	hello(s, p)
	// It does not wait.
	s.want(c.CompleteConnect(s.ctx, func() { t.Error("a callback of a call that failed") }), ntstatus.ConnectionInvalid, "CompleteConnect twice")
	m, err := s.PD.CreateMR(s.ctx, false)
	s.must(err)
	s.want(m.Deregister(s.ctx), ntstatus.InvalidDeviceState, "Deregister before Register")
	s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:16]}, 16, 0))
	s.must(m.Deregister(s.ctx))
	s.closed(m)
	// And nothing comes of either later.
	s.must(c.Disconnect(s.ctx))
	p.lost()
	select {
	case err := <-res:
		t.Errorf("Connect came back twice, with %v", err)
	default:
	}
	s.silent("of one's own Disconnect")
}

// A status is the same whether it is known at once or later.
func requestLate(t *T) {
	t.Sub("ConnectionRefused", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		s.refused(p.unused(addr.Addr()), "nobody listens: at once")
		res := request(s, p, addr, got, direct)
		p.must(p.C.Reject(nil))
		s.late(s.result(res), ntstatus.ConnectionRefused, "rejected: later")
	})
	t.Sub("Cancelled", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		ctx, cancel := context.WithCancel(s.ctx)
		c := s.connector()
		res := make(chan error, 1)
		go func() { res <- c.Connect(ctx, s.QP, netip.AddrPort{}, addr, limits) }() // ends with Connect
		p.C = p.take(got)
		cancel()
		s.late(s.result(res), ntstatus.Cancelled, "a context that ends")
		// On another QP: a transport may know only later that nobody waits any more.
		s.late(s.connector().Connect(ctx, s.sibling(nil).QP, netip.AddrPort{}, addr, limits), ntstatus.Cancelled, "a context that has ended")
	})
	t.Sub("IOTimeout", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		ctx, cancel := context.WithDeadline(s.ctx, time.Unix(1, 0))
		defer cancel()
		s.late(s.connector().Connect(ctx, s.QP, netip.AddrPort{}, addr, limits), ntstatus.IOTimeout, "a deadline that has passed")
		ctx, cancel = context.WithTimeout(s.ctx, 50*time.Millisecond)
		defer cancel()
		s.late(s.connector().Connect(ctx, s.QP, netip.AddrPort{}, addr, limits), ntstatus.IOTimeout, "a deadline that passes")
		select {
		case p.C = <-got: // it may have come as far as that
		default:
		}
	})
	t.Sub("InvalidParameter", func(t *T) {
		s, _ := t.Pair()
		m, err := s.PD.CreateMR(s.ctx, false)
		s.must(err)
		s.late(m.Register(s.ctx, ndk.Memory{s.Mem[:8]}, 9, 0), ntstatus.InvalidParameter, "more than the chain")
		s.late(m.Register(s.ctx, ndk.Memory{s.Mem[:4096], s.Mem[8192:12288]}, 8192, 0), ntstatus.InvalidParameter, "a gap behind good memory")
		s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:8]}, 8, 0))
		s.closed(m)
	})
}

// late checks the error of a call that waits: an *ndk.Error with that status.
func (s *Side) late(err error, want ndk.Status, what string) {
	s.t.Helper()
	s.want(err, want, what)
	var e *ndk.Error
	if !errors.As(err, &e) || e.Status != want || e.Op == "" {
		s.t.Errorf("%s: %#v, want an *ndk.Error of %v", what, err, want)
	}
}

// When a request has come back its object may be closed at once, by whoever got
// the result.
func requestUntouched(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	nobody := p.unused(addr.Addr())
	for range 8 {
		x, y := s.fork(), p.fork()
		// A failure.
		c, err := x.A.CreateConnector(x.ctx)
		x.must(err)
		if err := c.Connect(x.ctx, x.QP, netip.AddrPort{}, nobody, limits); err == nil {
			t.Error("connected to nobody")
		}
		x.closed(c)
		// Success: of Connect here, of Accept there.
		res := request(x, y, addr, got, direct)
		acc := make(chan error, 1)
		go func() { // ends when the connector is closed
			acc <- y.C.Accept(y.ctx, y.QP, limits, nil)
			y.C.Close()
		}()
		x.must(x.result(res))
		if err := x.C.CompleteConnect(x.ctx, nil); err != nil { // the other end is closed already
			x.want(err, ntstatus.ConnectionAborted, "CompleteConnect")
		}
		x.C.Close()
		if err := y.result(acc); err != nil { // this end was faster
			y.want(err, ntstatus.ConnectionAborted, "Accept")
		}
		y.ends(y.C, "close right after Accept")
		x.closed(x.QP)
		y.closed(y.QP)
		m, err := x.PD.CreateMR(x.ctx, false)
		x.must(err)
		x.must(m.Register(x.ctx, ndk.Memory{x.Mem[:4096]}, 4096, ndk.MRAllowRemoteWrite))
		x.closed(m)
	}
}

// When the close of an object has finished, no request of it is under way.
func requestBeforeClose(t *T) {
	t.Sub("Connect", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		res := request(s, p, addr, got, direct)
		s.open(s.C, "a connecting connector")
		s.closes(s.C)
		s.ends(s.C, "close of a connecting connector")
		s.late(s.result(res), ntstatus.Cancelled, "Connect")
		// The QP is free for another.
		p.closed(p.C)
		res = request(s, p, addr, got, direct)
		acc := plainForms.answer(p, limits)
		s.must(s.result(res))
		s.must(s.C.CompleteConnect(s.ctx, nil))
		p.must(p.result(acc))
	})
	t.Sub("Disconnect", func(t *T) {
		s, p := t.Connected()
		for i := range 4 {
			s.must(s.QP.Receive(i, nil))
		}
		res := make(chan error, 1)
		go func() { res <- s.C.Disconnect(s.ctx) }() // ends with Disconnect
		p.lost()
		s.closes(s.C)
		s.ends(s.C, "close of a disconnecting connector")
		if err := s.result(res); err != nil && ndk.StatusOf(err) != ntstatus.Cancelled && ndk.StatusOf(err) != ntstatus.IOTimeout {
			t.Errorf("Disconnect: %v, want Cancelled, or IOTimeout if the peer was too slow", err)
		}
		s.closed(s.QP)
		s.flushed(4)
	})
}
