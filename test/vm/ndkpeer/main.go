// Command ndkpeer is the other end of the tools that come with librdmacm, over
// a provider of ndk: it speaks what rping, rdma_client, rdma_server and ucmatose
// say to each other, so that those tools judge the provider.
//
//	ndkpeer -provider iwarp -addr 10.78.0.1:7174 -count 10 -size 100 rping-server
//
// The tools: rping-server, rping-client, rdma-server, rdma-client,
// ucmatose-server, ucmatose-client. A server prints "ready" when it listens.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
)

// options of the command line.
type options struct {
	addr        netip.AddrPort
	count, size int
	connections int
}

var tools = map[string]func(ctx context.Context, a ndk.Adapter, o options) error{
	"rping-server":    rpingServer,
	"rping-client":    rpingClient,
	"rdma-server":     rdmaServer,
	"rdma-client":     rdmaClient,
	"ucmatose-server": ucmatoseServer,
	"ucmatose-client": ucmatoseClient,
}

func main() {
	provider := flag.String("provider", "iwarp", "iwarp or verbs")
	addr := flag.String("addr", "", "address and port to listen on or to connect to")
	crc := flag.Bool("crc", false, "iwarp: ask for the CRC of MPA")
	rev := flag.Int("rev", 2, "iwarp: revision of the MPA Request")
	rtr := flag.Int("rtr", 0, "iwarp: ready-to-receive messages offered: 1 Send, 2 Write, 4 Read, or a sum")
	early := flag.Duration("early", 0, "iwarp: send as responder after that time even if the peer sent nothing; 0 never")
	var o options
	flag.IntVar(&o.count, "count", 10, "rounds of rping, messages of ucmatose")
	flag.IntVar(&o.size, "size", 100, "octets of a round of rping or of a message of ucmatose")
	flag.IntVar(&o.connections, "connections", 1, "ucmatose")
	timeout := flag.Duration("timeout", time.Minute, "limit for all")
	flag.Parse()
	run := tools[flag.Arg(0)]
	var err error
	if o.addr, err = netip.ParseAddrPort(*addr); err != nil || run == nil {
		flag.Usage()
		os.Exit(2)
	}
	var p ndk.Provider
	switch *provider {
	case "iwarp":
		p, err = iwarp.New(iwarp.Config{CRC: *crc, Revision: *rev, RTR: iwarp.RTR(*rtr), SendBeforeReceive: *early})
	case "verbs":
		p, err = verbs.New(verbs.Config{})
	default:
		err = fmt.Errorf("no provider %q", *provider)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err == nil {
		err = with(ctx, p, o, run)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "ndkpeer: %s: %v\n", flag.Arg(0), err)
		os.Exit(1) //nolint:gocritic // the context ends with the process
	}
	fmt.Println("ok")
}

func with(ctx context.Context, p ndk.Provider, o options, run func(context.Context, ndk.Adapter, options) error) error {
	a, err := p.Open(ctx, o.addr.Addr(), ndk.Version21)
	if err != nil {
		return err
	}
	defer a.Close()
	return run(ctx, a, o)
}

// end is one end of a connection, with a buffer for messages.
type end struct {
	ctx  context.Context
	a    ndk.Adapter
	pd   ndk.PD
	cq   ndk.CQ
	ev   *ndk.Event
	qp   ndk.QP
	c    ndk.Connector
	lost chan struct{} // closed by the disconnect event
	free []func()

	sent, received, read, written int // completions seen and not yet waited for
}

// newEnd makes an end whose queues hold depth requests.
func newEnd(ctx context.Context, a ndk.Adapter, depth int) (*end, error) {
	e := &end{ctx: ctx, a: a, ev: ndk.NewEvent(), lost: make(chan struct{})}
	var err error
	if e.pd, err = a.CreatePD(ctx); err != nil {
		return nil, err
	}
	e.free = append(e.free, e.pd.Close)
	if e.cq, err = a.CreateCQ(ctx, ndk.CQConfig{Depth: 2*depth + 8, Notify: e.ev.Notify}); err != nil {
		return e, err
	}
	e.free = append(e.free, e.cq.Close)
	e.qp, err = e.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: e.cq, InitiatorCQ: e.cq,
		ReceiveQueueDepth: depth, InitiatorQueueDepth: depth, MaxReceiveSGE: 1, MaxInitiatorSGE: 1})
	if err != nil {
		return e, err
	}
	e.free = append(e.free, e.qp.Close)
	return e, nil
}

// close lets go of everything; an end that newEnd could not make is nil.
func (e *end) close() {
	if e == nil {
		return
	}
	if e.c != nil {
		e.c.Close()
	}
	for i := len(e.free) - 1; i >= 0; i-- {
		e.free[i]()
	}
}

// region is registered memory.
type region struct {
	mr  ndk.MR
	mem []byte
}

func (e *end) region(n int, f ndk.MRFlags) (r region, err error) {
	mem, free, err := e.a.Alloc(n)
	if err != nil {
		return r, err
	}
	mr, err := e.pd.CreateMR(e.ctx, false)
	if err == nil {
		err = mr.Register(e.ctx, ndk.Memory{mem}, n, f)
	}
	e.free = append(e.free, func() {
		if mr != nil {
			mr.Close()
			<-mr.Closed()
		}
		free()
	})
	return region{mr, mem}, err
}

func (r region) sge(off, n int) ndk.SGE {
	return ndk.SGE{Addr: r.mr.Base() + uint64(off), Length: uint32(n), Token: r.mr.LocalToken()}
}

// poll counts what completed, waiting for at least one completion.
func (e *end) poll() error {
	var r [16]ndk.ResultEx
	for {
		n := e.cq.PollEx(r[:])
		for i := range n {
			if err := r[i].Err(); err != nil {
				return err
			}
			switch r[i].Type {
			case ndk.OpReceive, ndk.OpReceiveAndInvalidate:
				e.received++
			case ndk.OpSend:
				e.sent++
			case ndk.OpRead:
				e.read++
			case ndk.OpWrite:
				e.written++
			}
		}
		if n > 0 {
			return nil
		}
		e.cq.Arm(ndk.ArmAny)
		select {
		case <-e.ev.C():
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
	}
}

// await waits until n completions were counted, and takes them off.
func (e *end) await(counter *int, n int) error {
	for *counter < n {
		if err := e.poll(); err != nil {
			return err
		}
	}
	*counter -= n
	return nil
}

// connect connects to addr, and tries again while nobody listens there: a tool
// does not say when it does.
func (e *end) connect(addr netip.AddrPort) error {
	for {
		var err error
		if e.c, err = e.a.CreateConnector(e.ctx); err != nil {
			return err
		}
		switch err = e.c.Connect(e.ctx, e.qp, netip.AddrPort{}, addr, one); {
		case err == nil:
			return e.c.CompleteConnect(e.ctx, func() { close(e.lost) })
		case !errors.Is(err, ntstatus.ConnectionRefused):
			return err
		}
		e.c.Close()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-e.ctx.Done():
			return err
		}
	}
}

// one is what the tools ask for.
var one = ndk.ConnParams{InboundReadLimit: 1, OutboundReadLimit: 1}

// gone waits until the peer disconnected, then disconnects too.
func (e *end) gone() error {
	select {
	case <-e.lost:
	case <-e.ctx.Done():
		return errors.New("the peer does not disconnect")
	}
	return e.disconnect()
}

func (e *end) disconnect() error {
	err := e.c.Disconnect(e.ctx)
	if errors.Is(err, ntstatus.ConnectionInvalid) || errors.Is(err, ntstatus.ConnectionAborted) {
		return nil // it is gone already
	}
	return err
}

// listen returns a listener whose requests come on the channel.
func listen(ctx context.Context, a ndk.Adapter, o options) (ndk.Listener, chan ndk.Connector, error) {
	got := make(chan ndk.Connector, o.connections)
	l, err := a.CreateListener(ctx, func(c ndk.Connector) {
		select {
		case got <- c:
		default:
			c.Close()
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if err := l.Listen(ctx, o.addr); err != nil {
		l.Close()
		return nil, nil, err
	}
	fmt.Println("ready")
	return l, got, nil
}

// accept takes one request onto e, whose receives are posted.
func (e *end) accept(got chan ndk.Connector) error {
	select {
	case e.c = <-got:
	case <-e.ctx.Done():
		return errors.New("nobody connects")
	}
	return e.c.Accept(e.ctx, e.qp, one, func() { close(e.lost) })
}
