package iwarp

import (
	"context"
	"net/netip"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// end is one side of a connection.
type end struct {
	a    ndk.Adapter
	pd   ndk.PD
	cq   ndk.CQ
	qp   ndk.QP
	c    ndk.Connector
	ev   *ndk.Event
	mr   ndk.MR
	mem  []byte
	free func()
	t    testing.TB
	buf  [1]ndk.ResultEx
	sgl  []ndk.SGE
}

func newEnd(t testing.TB, cfg Config, size int) *end {
	t.Helper()
	ctx := context.Background()
	p, err := New(cfg)
	must(t, err)
	e := &end{t: t, ev: ndk.NewEvent()}
	e.a, err = p.Open(ctx, netip.Addr{}, ndk.Version12)
	must(t, err)
	e.pd, err = e.a.CreatePD(ctx)
	must(t, err)
	e.cq, err = e.a.CreateCQ(ctx, ndk.CQConfig{Depth: 1024, Notify: e.ev.Notify})
	must(t, err)
	e.qp, err = e.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: e.cq, InitiatorCQ: e.cq, ReceiveQueueDepth: 256, InitiatorQueueDepth: 256, MaxReceiveSGE: 4, MaxInitiatorSGE: 4, InlineDataSize: 256})
	must(t, err)
	e.mem, e.free, err = e.a.Alloc(size)
	must(t, err)
	e.mr, err = e.pd.CreateMR(ctx, false)
	must(t, err)
	must(t, e.mr.Register(ctx, ndk.Memory{e.mem}, size, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite))
	return e
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// close closes everything, antecedents first, which NDK allows.
func (e *end) close() {
	e.cq.Close()
	e.pd.Close()
	if e.c != nil {
		e.c.Close()
	}
	e.qp.Close()
	e.mr.Close()
	e.a.Close()
	e.free()
}

// wait returns the next completion.
func (e *end) wait() ndk.ResultEx {
	for {
		if e.cq.PollEx(e.buf[:]) == 1 {
			return e.buf[0]
		}
		e.cq.Arm(ndk.ArmAny)
		if e.cq.PollEx(e.buf[:]) == 1 {
			return e.buf[0]
		}
		<-e.ev.C()
	}
}

func (e *end) sge(off, n int) ndk.SGE {
	return ndk.SGE{Addr: e.mr.Base() + uint64(off), Length: uint32(n), Token: e.mr.LocalToken()}
}

// pair connects two ends over loopback.
func pair(t testing.TB, ccfg, scfg Config, size int) (client, server *end) {
	t.Helper()
	ctx := context.Background()
	client, server = newEnd(t, ccfg, size), newEnd(t, scfg, size)
	got := make(chan ndk.Connector, 1)
	l, err := server.a.CreateListener(ctx, func(c ndk.Connector) { got <- c })
	must(t, err)
	must(t, l.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0")))
	defer l.Close()
	addr, err := l.LocalAddr()
	must(t, err)
	client.c, err = client.a.CreateConnector(ctx)
	must(t, err)
	res := make(chan error, 1)
	go func() {
		server.c = <-got
		res <- server.c.Accept(ctx, server.qp, ndk.ConnParams{InboundReadLimit: 16, OutboundReadLimit: 16}, nil)
	}()
	must(t, client.c.Connect(ctx, client.qp, netip.AddrPort{}, addr, ndk.ConnParams{InboundReadLimit: 16, OutboundReadLimit: 16}))
	must(t, client.c.CompleteConnect(ctx, nil))
	must(t, <-res)
	return client, server
}
