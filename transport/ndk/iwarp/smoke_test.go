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

func TestSmoke(t *testing.T) {
	c, s := pair(t, Config{}, Config{}, 4<<20)
	must(t, s.qp.Receive("r", []ndk.SGE{s.sge(0, 100)}))
	copy(c.mem, "hello, iWARP")
	must(t, c.qp.Send("s", []ndk.SGE{c.sge(0, 12)}, 0))
	t.Log(c.wait())
	t.Log(s.wait(), string(s.mem[:12]))
	for i := range c.mem {
		c.mem[i] = byte(i * 7)
	}
	must(t, s.qp.Receive("r", []ndk.SGE{s.sge(0, 100)}))
	must(t, c.qp.Write("w", []ndk.SGE{c.sge(0, 3<<20)}, s.mr.Base()+4096, s.mr.RemoteToken(), 0))
	must(t, c.qp.Send("s", nil, 0))
	t.Log(c.wait())
	t.Log(c.wait())
	t.Log(s.wait())
	if string(s.mem[4096:4096+3<<20]) != string(c.mem[:3<<20]) {
		t.Fatal("differs")
	}
	clear(c.mem)
	must(t, c.qp.Read("rd", []ndk.SGE{c.sge(0, 3<<20)}, s.mr.Base()+4096, s.mr.RemoteToken(), 0))
	t.Log(c.wait())
	if string(s.mem[4096:4096+3<<20]) != string(c.mem[:3<<20]) {
		t.Fatal("differs")
	}
	must(t, c.c.Disconnect(context.Background()))
	c.close()
	s.close()
}

func TestFastRegisterAndRemoteInvalidate(t *testing.T) {
	c, s := pair(t, Config{}, Config{}, 1<<20)
	ctx := context.Background()
	var lam ndk.LAM
	mem := c.mem[100 : 100+300000]
	fbo, err := c.a.BuildLAM(ctx, ndk.Memory{mem}, len(mem), &lam)
	must(t, err)
	m, err := c.pd.CreateMR(ctx, true)
	must(t, err)
	must(t, m.InitializeFastRegister(ctx, 256, true))
	base := uint64(7<<32) + uint64(fbo)
	var old ndk.Token
	for i := range 20 {
		must(t, c.qp.FastRegister("fr", m, lam.Pages, fbo, uint64(len(mem)), base, ndk.AllowRemoteWrite|ndk.SilentSuccess|ndk.Defer))
		tok := m.RemoteToken()
		if tok == old {
			t.Fatalf("round %d: token %#x twice", i, tok)
		}
		old = tok
		must(t, s.qp.Receive("sr", []ndk.SGE{s.sge(0, 16)}))
		must(t, c.qp.Receive("cr", []ndk.SGE{c.sge(900000, 16)}))
		must(t, c.qp.Send("cs", []ndk.SGE{{Addr: uint64(lam.Pages[0]) + uint64(fbo), Length: 8, Token: c.pd.PrivilegedToken()}}, ndk.SilentSuccess))
		if r := s.wait(); r.Status != 0 || r.Bytes != 8 {
			t.Fatalf("%+v", r)
		}
		for j := range 300000 {
			s.mem[j] = byte(i + j)
		}
		must(t, s.qp.Write("w", []ndk.SGE{s.sge(0, len(mem))}, base, tok, ndk.SilentSuccess|ndk.Defer))
		must(t, s.qp.SendAndInvalidate("ss", []ndk.SGE{s.sge(0, 4)}, ndk.SilentSuccess, tok))
		r := c.wait()
		if r.Type != ndk.OpReceiveAndInvalidate || r.InvalidatedToken != tok || r.Bytes != 4 {
			t.Fatalf("%+v", r)
		}
		if string(mem) != string(s.mem[:len(mem)]) {
			t.Fatal("differs")
		}
	}
	must(t, c.c.Disconnect(ctx))
	c.a.ReleaseLAM(&lam)
	m.Close()
	c.close()
	s.close()
}
