package iwarp

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
	"golang.org/x/sys/unix"
)

// hall is a server whose QPs take their receives from one SRQ. Each has a
// receive CQ of its own, and its number as context.
type hall struct {
	*end
	srq ndk.SRQ
	low *ndk.Event
	in  []*guest
}

// guest is one connection to a hall: the QP there, and the client.
type guest struct {
	*end // its cq, ev, qp and c; the rest is of the hall
	peer *end
}

func newHall(t testing.TB, guests int, c ndk.SRQConfig) *hall {
	t.Helper()
	ctx := context.Background()
	h := &hall{end: newEnd(t, Config{}, 1<<16), low: ndk.NewEvent()}
	c.Notify = h.low.Notify
	var err error
	h.srq, err = h.pd.CreateSRQ(ctx, c)
	must(t, err)
	got := make(chan ndk.Connector, 1)
	l, err := h.a.CreateListener(ctx, func(c ndk.Connector) { got <- c })
	must(t, err)
	must(t, l.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0")))
	defer l.Close()
	addr, err := l.LocalAddr()
	must(t, err)
	for i := range guests {
		g := &guest{end: &end{a: h.a, pd: h.pd, mr: h.mr, mem: h.mem, ev: ndk.NewEvent(), t: t}, peer: newEnd(t, Config{}, 1<<16)}
		g.cq, err = h.a.CreateCQ(ctx, ndk.CQConfig{Depth: 64, Notify: g.ev.Notify})
		must(t, err)
		g.qp, err = h.pd.CreateQPWithSRQ(ctx, ndk.QPConfig{ReceiveCQ: g.cq, InitiatorCQ: g.cq, QPContext: i, InitiatorQueueDepth: 16, MaxInitiatorSGE: 4}, h.srq)
		must(t, err)
		g.peer.c, err = g.peer.a.CreateConnector(ctx)
		must(t, err)
		res := make(chan error, 1)
		go func() { // ends with Accept
			g.c = <-got
			res <- g.c.Accept(ctx, g.qp, ndk.ConnParams{}, nil)
		}()
		must(t, g.peer.c.Connect(ctx, g.peer.qp, netip.AddrPort{}, addr, ndk.ConnParams{}))
		must(t, <-res)
		must(t, g.peer.c.CompleteConnect(ctx, nil))
		must(t, g.peer.qp.Write(nil, nil, 0, 0, 0)) // its first FPDU, which lets the hall send
		g.peer.wait()
		h.in = append(h.in, g)
	}
	return h
}

func (h *hall) close() {
	h.srq.Close()
	for _, g := range h.in {
		g.peer.close()
		g.c.Close()
		g.qp.Close()
		g.cq.Close()
	}
	<-h.srq.Closed()
	h.end.close()
}

// waits returns when the QP of g stands in line for a buffer.
func (g *guest) waits(h *hall) {
	q := g.qp.(*qp)
	for !h.srq.(*soft.SRQ).Waiting(q) {
		runtime.Gosched()
	}
}

// want polls one completion and compares.
func want(t *testing.T, e *end, st ndk.Status, typ ndk.OpType, rc any, bytes uint32) {
	t.Helper()
	r := e.wait()
	if r.Status != st || r.Type != typ || r.RequestContext != rc || st == ntstatus.Success && typ == ndk.OpReceive && r.Bytes != bytes {
		t.Errorf("completion %+v, want %v %v of %v with %d bytes", r, st, typ, rc, bytes)
	}
}

// A Send that finds the SRQ empty waits; other QPs do not, and the wait ends with
// the next buffer.
func TestEmptySRQHoldsUpOneQP(t *testing.T) {
	h := newHall(t, 2, ndk.SRQConfig{Depth: 8, MaxReceiveSGE: 2})
	defer h.close()
	a, b := h.in[0], h.in[1]
	copy(a.peer.mem, "first")
	copy(b.peer.mem, "second")
	must(t, a.peer.qp.Send(nil, []ndk.SGE{a.peer.sge(0, 5)}, 0))
	a.waits(h)
	// What needs no receive of the hall goes on, on the other QP at least.
	must(t, b.peer.qp.Receive("down", []ndk.SGE{b.peer.sge(100, 10)}))
	must(t, b.qp.Send("out", []ndk.SGE{h.sge(0, 10)}, 0))
	want(t, b.end, ntstatus.Success, ndk.OpSend, "out", 0)
	want(t, b.peer, ntstatus.Success, ndk.OpReceive, "down", 10)

	must(t, b.peer.qp.Send(nil, []ndk.SGE{b.peer.sge(0, 6)}, 0))
	b.waits(h)
	must(t, h.srq.Receive(1, []ndk.SGE{h.sge(1000, 2), h.sge(2000, 100)}))
	r := a.wait()
	if r.Status != 0 || r.Bytes != 5 || r.RequestContext != 1 || r.QPContext != 0 || string(h.mem[1000:1002])+string(h.mem[2000:2003]) != "first" {
		t.Errorf("%+v %q %q", r, h.mem[1000:1002], h.mem[2000:2003])
	}
	must(t, h.srq.Receive(2, []ndk.SGE{h.sge(3000, 6)}))
	r = b.wait()
	if r.Status != 0 || r.Bytes != 6 || r.RequestContext != 2 || r.QPContext != 1 || string(h.mem[3000:3006]) != "second" {
		t.Errorf("%+v %q", r, h.mem[3000:3006])
	}
	if err := a.qp.Receive(nil, nil); !errors.Is(err, ntstatus.InvalidDeviceRequest) || err != ndk.ErrSharedReceive {
		t.Errorf("Receive on a QP with an SRQ: %v", err)
	}
}

// While a message waits for a buffer the connection can still be ended, in each
// way, and the buffers of the SRQ are not touched.
func TestEndWhileSRQIsEmpty(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(g *guest){
		"Flush":      func(g *guest) { g.qp.Flush() },
		"Close":      func(g *guest) { g.qp.Close() },
		"Disconnect": func(g *guest) { _ = g.c.Disconnect(ctx) },
		"connector":  func(g *guest) { g.c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHall(t, 2, ndk.SRQConfig{Depth: 8, MaxReceiveSGE: 1})
			a, b := h.in[0], h.in[1]
			must(t, a.peer.qp.Send(nil, []ndk.SGE{a.peer.sge(0, 5)}, 0))
			a.waits(h)
			gone := make(chan struct{})
			go func() { // ends with the connection
				a.peer.wait() // the Send, done when TCP had it
				_ = a.peer.c.Disconnect(ctx)
				close(gone)
			}()
			end(a)
			<-gone
			must(t, h.srq.Receive(7, []ndk.SGE{h.sge(0, 8)}))
			must(t, b.peer.qp.Send(nil, []ndk.SGE{b.peer.sge(0, 3)}, 0))
			want(t, b.end, ntstatus.Success, ndk.OpReceive, 7, 3)
			if n := a.cq.PollEx(make([]ndk.ResultEx, 4)); n != 0 {
				t.Errorf("%d completions of a QP that took nothing", n)
			}
			h.close()
		})
	}
}

// The disconnect of a peer is told while its message waits for a buffer, and the
// message is not lost by that.
func TestDisconnectWhileSRQIsEmpty(t *testing.T) {
	h := newHall(t, 1, ndk.SRQConfig{Depth: 8, MaxReceiveSGE: 1})
	defer h.close()
	g := h.in[0]
	reasons := make(chan uint32, 2)
	c := g.c.(*connector)
	c.mu.Lock()
	c.event = func(r uint32) { reasons <- r }
	c.mu.Unlock()
	must(t, g.peer.qp.Send(nil, []ndk.SGE{g.peer.sge(0, 5)}, 0))
	must(t, g.peer.qp.Send(nil, []ndk.SGE{g.peer.sge(0, 6)}, 0))
	g.waits(h)
	gone := make(chan error)
	go func() { gone <- g.peer.c.Disconnect(context.Background()) }() // ends when the hall read the FIN
	if r := <-reasons; r != 0 {
		t.Errorf("reason %#x, want 0", r)
	}
	for i := range 2 {
		must(t, h.srq.Receive(i, []ndk.SGE{h.sge(0, 8)}))
		want(t, g.end, ntstatus.Success, ndk.OpReceive, i, uint32(5+i))
	}
	must(t, <-gone)
	must(t, c.Disconnect(context.Background()))
	select {
	case r := <-reasons:
		t.Errorf("a second event, with %#x", r)
	default:
	}
}

// A reset ends the wait, and the connection.
func TestResetWhileSRQIsEmpty(t *testing.T) {
	h := newHall(t, 1, ndk.SRQConfig{Depth: 8, MaxReceiveSGE: 1})
	defer h.close()
	g := h.in[0]
	reasons := make(chan uint32, 2)
	c := g.c.(*connector)
	c.mu.Lock()
	c.event = func(r uint32) { reasons <- r }
	c.mu.Unlock()
	must(t, g.peer.qp.Send(nil, []ndk.SGE{g.peer.sge(0, 5)}, 0))
	g.waits(h)
	raw, err := g.peer.qp.(*qp).conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { // so that its close is a reset
		err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}))
	must(t, err)
	g.peer.qp.Close()
	<-reasons
	must(t, c.Disconnect(context.Background()))
	must(t, h.srq.Receive(1, []ndk.SGE{h.sge(0, 8)}))
	if n := h.srq.(*soft.SRQ).Queued(); n != 1 {
		t.Errorf("%d receives are queued, want 1", n)
	}
}

// A receive that was taken and not filled is cancelled with its QP; those that
// wait are not.
func TestTakenReceiveIsCancelled(t *testing.T) {
	h := newHall(t, 1, ndk.SRQConfig{Depth: 8, MaxReceiveSGE: 1})
	defer h.close()
	g := h.in[0]
	must(t, h.srq.Receive(1, []ndk.SGE{h.sge(0, 64)}))
	must(t, h.srq.Receive(2, []ndk.SGE{h.sge(64, 64)}))
	// The first segment of a message of two, by hand.
	p := g.peer.qp.(*qp)
	r := &raw{conn: p.conn, t: t}
	r.write(r.frame(sendSeg(1, 0, false, 1, 2, 3, 4)))
	q := g.qp.(*qp)
	for taken := false; !taken; {
		q.rmu.Lock()
		taken = q.isTaken
		q.rmu.Unlock()
	}
	g.qp.Flush()
	want(t, g.end, ntstatus.Cancelled, ndk.OpReceive, 1, 0)
	if n := h.srq.(*soft.SRQ).Queued(); n != 1 {
		t.Errorf("%d receives are queued, want 1", n)
	}
}

// The notification of a low SRQ comes from the QP that took the buffer, and may
// post.
func TestSRQRunsLow(t *testing.T) {
	h := newHall(t, 1, ndk.SRQConfig{Depth: 8, MaxReceiveSGE: 1, NotifyThreshold: 2})
	defer h.close()
	g := h.in[0]
	for i := range 3 {
		must(t, h.srq.Receive(i, []ndk.SGE{h.sge(64*i, 64)}))
	}
	for i := range 3 {
		must(t, g.peer.qp.Send(nil, []ndk.SGE{g.peer.sge(0, i+1)}, 0))
		want(t, g.end, ntstatus.Success, ndk.OpReceive, i, uint32(i+1))
		select {
		case st := <-h.low.C():
			if i != 1 || st != ntstatus.Success {
				t.Errorf("notified with %v after receive %d, want after 1", st, i)
			}
		default:
			if i == 1 {
				t.Error("not notified when the queue fell below its threshold")
			}
		}
	}
}

// A message through an SRQ costs no allocation on either side.
func TestSRQNoAllocations(t *testing.T) {
	h := newHall(t, 1, ndk.SRQConfig{Depth: 8, MaxReceiveSGE: 1})
	defer h.close()
	g := h.in[0]
	in, out := []ndk.SGE{h.sge(0, 64)}, []ndk.SGE{g.peer.sge(0, 64)}
	round := func() {
		must(t, h.srq.Receive(nil, in))
		must(t, g.peer.qp.Send(nil, out, 0))
		if r := g.peer.wait(); r.Status != 0 {
			t.Fatal(r.Status)
		}
		if r := g.wait(); r.Status != 0 {
			t.Fatal(r.Status)
		}
	}
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n >= 1 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}
