package sim_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/sim"
)

var ctx = context.Background()

// node is one device of the examples with a QP.
type node struct {
	addr netip.Addr
	a    ndk.Adapter
	pd   ndk.PD
	cq   ndk.CQ
	qp   ndk.QP
	c    ndk.Connector
}

func newNode(w *sim.World, addr string) *node {
	n := &node{addr: netip.MustParseAddr(addr)}
	n.a = must(w.Open(ctx, n.addr, ndk.Version21))
	n.pd = must(n.a.CreatePD(ctx))
	n.cq = must(n.a.CreateCQ(ctx, ndk.CQConfig{Depth: 64}))
	n.newQP()
	return n
}

func (n *node) newQP() {
	n.qp = must(n.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: n.cq, InitiatorCQ: n.cq, ReceiveQueueDepth: 16, InitiatorQueueDepth: 16}))
}

func (n *node) close() {
	n.c.Close()
	n.qp.Close()
	n.cq.Close()
	n.pd.Close()
	n.a.Close()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// connect makes a connection from a to b: each side is a straight line.
func connect(w *sim.World, a, b *node, onDisconnect func(uint32)) error {
	at := netip.AddrPortFrom(b.addr, 445)
	l := must(b.a.CreateListener(ctx, func(c ndk.Connector) {
		b.c = c
		w.Go(func() { _ = c.Accept(ctx, b.qp, ndk.ConnParams{}, nil) }) // the peer's Connect tells
	}))
	defer l.Close()
	if err := l.Listen(ctx, at); err != nil {
		return err
	}
	a.c = must(a.a.CreateConnector(ctx))
	if err := a.c.Connect(ctx, a.qp, netip.AddrPort{}, at, ndk.ConnParams{}); err != nil {
		return err
	}
	if err := a.c.CompleteConnectEx(ctx, onDisconnect); err != nil {
		return err
	}
	w.Run()
	return nil
}

// A disconnect in the middle of a conversation, at the place where the test wants
// it: the third packet that a sends is lost, and the link with it.
func Example_scriptedDisconnect() {
	w := must(sim.New(sim.Config{AckedSends: true}))
	defer w.Close()
	a, b := newNode(w, "10.0.0.1"), newNode(w, "10.0.0.2")
	defer b.close()
	defer a.close()
	err := connect(w, a, b, func(r uint32) { fmt.Println("disconnected:", sim.Reason(r)) })
	if err != nil {
		fmt.Println(err)
		return
	}
	must(w.Inject(sim.Injection{Point: sim.PointLoss, Object: a.qp, After: 2}))
	results := make([]ndk.ResultEx, 8)
	for i := range 4 {
		_ = b.qp.Receive(i, nil) // which is refused behind the end
		if err := a.qp.Send(i, nil, 0); err != nil {
			fmt.Println(err)
		}
		w.Run()
		for _, r := range results[:a.cq.PollEx(results)] {
			fmt.Println(r.Type, r.RequestContext, r.Status)
		}
	}
	// Output:
	// Send 0 STATUS_SUCCESS
	// Send 1 STATUS_SUCCESS
	// disconnected: link
	// Send 2 STATUS_IO_TIMEOUT
	// ndk: STATUS_CONNECTION_INVALID: initiator requests need a connected QP
}

// A soak: many messages over connections that break, each world from its seed.
// What is promised holds in all of them; a failure would be repeated by its seed.
func Example_seededSoak() {
	run := func(seed uint64) (sum uint64, broken int) {
		w := must(sim.New(sim.Config{Seed: seed, Order: sim.Shuffled, Faults: sim.Faults{sim.PointLoss: 0.02, sim.PointDelay: 0.1}}))
		defer w.Close()
		a, b := newNode(w, "10.0.0.1"), newNode(w, "10.0.0.2")
		posted, done, up := 0, 0, true
		poll := func() {
			results := make([]ndk.Result, 64)
			done += a.cq.Poll(results) + b.cq.Poll(results)
		}
		for range 20 {
			a.c, b.c = must(a.a.CreateConnector(ctx)), must(b.a.CreateConnector(ctx))
			up = connect(w, a, b, func(uint32) { up = false }) == nil
			for i := 0; i < 10 && up; i++ {
				if b.qp.Receive("r", nil) == nil {
					posted++
				}
				if a.qp.Send("s", nil, 0) == nil {
					posted++
				}
				for range w.Rand(10) {
					w.Step()
				}
				poll()
			}
			if !up {
				broken++
			}
			for _, n := range []*node{a, b} {
				n.c.Close()
				n.qp.Close()
			}
			w.Run()
			poll()
			if done != posted {
				fmt.Printf("seed %d: %d posts, %d completions\n", seed, posted, done)
			}
			a.newQP()
			b.newQP()
		}
		a.close()
		b.close()
		_, sum = w.TraceSum()
		return sum, broken
	}
	breaks := 0
	for seed := range uint64(20) {
		sum, n := run(seed)
		if again, _ := run(seed); again != sum {
			fmt.Println("not the same with the same seed:", seed)
		}
		breaks += n
	}
	fmt.Println("of 400 connections some broke:", breaks > 0)
	// Output:
	// of 400 connections some broke: true
}
