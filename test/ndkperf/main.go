// Command ndkperf measures a provider of ndk as perftest, ucx_perftest and
// fi_pingpong measure theirs: two processes, one connection.
//
//	ndkperf -provider iwarp -addr 127.0.0.1:7000 server
//	ndkperf -provider iwarp -addr 127.0.0.1:7000 -size 1048576 -n 5000 write_bw
//
// The tests: write_bw, read_bw (one side, MB/s of 10^6 octets), send_lat (half of
// a round trip, µs, median). With -provider tcp send_lat is a plain echo over
// net.Conn, for comparison. The server serves any number of tests, one after the
// other, until it is interrupted. The client prints "TEST SIZE FIGURE UNIT".
//
// What perftest does by default is -poll -depth 128 -batch 1 -reads 128 -local:
// both ends spin, each request is handed over and reported by itself, and the
// clock stops at the last completion rather than when the peer has it all.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"slices"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
)

// request goes with the Connect, as words in big-endian order.
type request struct {
	test, size, count, poll, depth, reads uint32

	// The rest is for the client alone.
	batch int
	local bool
}

func (r *request) words() []*uint32 {
	return []*uint32{&r.test, &r.size, &r.count, &r.poll, &r.depth, &r.reads}
}

const (
	writeBW = iota + 1
	readBW
	sendLat
	requestSize = 24
	advertSize  = 12
	receives    = 32 // posted at a time
	maxDepth    = 4096
	rarely      = 64 // polls between looks at the clock
	stretch     = 4 * time.Millisecond
	maxSize     = 64 << 20
)

var tests = map[string]uint32{"write_bw": writeBW, "read_bw": readBW, "send_lat": sendLat}

func main() {
	provider := flag.String("provider", "iwarp", "iwarp, verbs, or tcp for a plain echo")
	addr := flag.String("addr", "127.0.0.1:7000", "address and port")
	size := flag.Int("size", 1<<20, "octets of an operation")
	count := flag.Int("n", 5000, "operations")
	poll := flag.Bool("poll", false, "both ends spin on the CQ, as perftest does, instead of waiting for notifications")
	depth := flag.Int("depth", 64, "write_bw, read_bw: operations under way")
	reads := flag.Int("reads", 16, "read_bw: Reads under way, lowered to what the adapters allow")
	batch := flag.Int("batch", 4, "write_bw, read_bw: operations that are handed over at a time, the last of which is reported")
	local := flag.Bool("local", false, "write_bw: the clock stops at the last completion, not when the peer has it all")
	profile := flag.String("cpuprofile", "", "file for a CPU profile")
	flag.Parse()
	at, err := netip.ParseAddrPort(*addr)
	if err != nil || flag.NArg() != 1 || *size < 1 || *size > maxSize || *count < 1 ||
		*depth < 1 || *depth > maxDepth || *batch < 1 || *batch > *depth || *reads < 1 || *reads > maxDepth {
		flag.Usage()
		os.Exit(2)
	}
	r := request{size: uint32(*size), count: uint32(*count), depth: uint32(*depth), reads: uint32(*reads), batch: *batch, local: *local}
	if *poll {
		r.poll = 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = profiled(*profile, func() error { return run(ctx, *provider, at, flag.Arg(0), r) })
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ndkperf:", err)
		os.Exit(1)
	}
}

// profiled runs f, with a CPU profile if there is a name for it.
func profiled(name string, f func() error) error {
	if name == "" {
		return f()
	}
	w, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(w); err != nil {
		_ = w.Close()
		return err
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, w.Close())
}

func run(ctx context.Context, provider string, at netip.AddrPort, what string, r request) error {
	if provider == "tcp" {
		if what == "server" {
			return echoServer(ctx, at)
		}
		return echoClient(at, int(r.size), int(r.count))
	}
	var p ndk.Provider
	var err error
	switch provider {
	case "iwarp":
		p, err = iwarp.New(iwarp.Config{})
	case "verbs":
		p, err = verbs.New(verbs.Config{})
	default:
		err = fmt.Errorf("no provider %q", provider)
	}
	if err != nil {
		return err
	}
	a, err := p.Open(ctx, at.Addr(), ndk.Version21)
	if err != nil {
		return err
	}
	defer a.Close()
	if what == "server" {
		return server(ctx, a, at)
	}
	t, ok := tests[what]
	if !ok {
		return fmt.Errorf("no test %q", what)
	}
	r.test = t
	figure, unit, err := client(ctx, a, at, r)
	if err == nil {
		fmt.Printf("%s %d %.2f %s\n", what, r.size, figure, unit)
	}
	return err
}

// end is one end, with memory that the peer can reach.
type end struct {
	ctx  context.Context
	a    ndk.Adapter
	pd   ndk.PD
	cq   ndk.CQ
	ev   *ndk.Event
	qp   ndk.QP
	mr   ndk.MR
	mem  []byte
	free func()
	c    ndk.Connector
	lost chan struct{}
	poll bool
	res  [receives]ndk.ResultEx

	polls    int // that found nothing
	breathed time.Time
}

// breathe is called by a goroutine that spins. It lets others run now and then,
// and says so. The runtime takes one that does not for 10 ms as one to be
// preempted, looks at it every 20 µs from then on, and takes its processor away
// when it finds it in C.
func (e *end) breathe() bool {
	if e.polls++; e.polls%rarely != 0 {
		return false
	}
	now := time.Now()
	if now.Sub(e.breathed) < stretch {
		return false
	}
	e.breathed = now
	runtime.Gosched()
	return true
}

func newEnd(ctx context.Context, a ndk.Adapter, r request, notify func(ndk.Status)) (*end, error) {
	e := &end{ctx: ctx, a: a, ev: ndk.NewEvent(), lost: make(chan struct{}), poll: r.poll != 0}
	if notify == nil {
		notify = e.ev.Notify
	}
	info, err := a.Info(ctx)
	if err != nil {
		return nil, err
	}
	depth := int(r.depth)
	if e.pd, err = a.CreatePD(ctx); err != nil {
		return nil, err
	}
	if e.cq, err = a.CreateCQ(ctx, ndk.CQConfig{Depth: depth + 4*receives, Notify: notify}); err != nil {
		return e, err
	}
	if e.qp, err = e.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: e.cq, InitiatorCQ: e.cq, ReceiveQueueDepth: 2 * receives,
		InitiatorQueueDepth: depth + receives, MaxReceiveSGE: 1, MaxInitiatorSGE: 1, InlineDataSize: min(64, info.MaxInlineDataSize)}); err != nil {
		return e, err
	}
	if e.mem, e.free, err = a.Alloc(2 * int(r.size)); err != nil {
		return e, err
	}
	for i := 0; i < len(e.mem); i += ndk.PageSize { // present before the clock starts
		e.mem[i] = 1
	}
	if e.mr, err = e.pd.CreateMR(ctx, false); err != nil {
		return e, err
	}
	return e, e.mr.Register(ctx, ndk.Memory{e.mem}, len(e.mem), ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink)
}

func (e *end) close() {
	if e == nil {
		return
	}
	for _, o := range []ndk.Object{e.c, e.qp, e.mr, e.cq, e.pd} {
		if o != nil {
			o.Close()
		}
	}
	if e.mr != nil {
		<-e.mr.Closed()
	}
	if e.free != nil {
		e.free()
	}
}

func (e *end) sge(off, n int) []ndk.SGE {
	return []ndk.SGE{{Addr: e.mr.Base() + uint64(off), Length: uint32(n), Token: e.mr.LocalToken()}}
}

// next fills e.res with at least one completion.
func (e *end) next() (int, error) {
	for {
		if n := e.cq.PollEx(e.res[:]); n > 0 {
			for k := range n {
				if err := e.res[k].Err(); err != nil {
					return 0, err
				}
			}
			return n, nil
		}
		if e.poll {
			if e.breathe() && e.ctx.Err() != nil {
				return 0, e.ctx.Err()
			}
			continue
		}
		e.cq.Arm(ndk.ArmAny)
		select {
		case <-e.ev.C():
		case <-e.ctx.Done():
			return 0, e.ctx.Err()
		}
	}
}

// await waits for n completions of a kind; others are not expected but for
// those of Sends.
func (e *end) await(typ ndk.OpType, n int) error {
	for n > 0 {
		k, err := e.next()
		if err != nil {
			return err
		}
		for i := range k {
			if e.res[i].Type == typ {
				n--
			}
		}
	}
	return nil
}

func server(ctx context.Context, a ndk.Adapter, at netip.AddrPort) error {
	got := make(chan ndk.Connector, 1)
	l, err := a.CreateListener(ctx, func(c ndk.Connector) {
		select {
		case got <- c:
		default:
			c.Close()
		}
	})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Listen(ctx, at); err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		select {
		case c := <-got:
			if err := serve(ctx, a, c); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "ndkperf:", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func serve(ctx context.Context, a ndk.Adapter, c ndk.Connector) (err error) {
	b := make([]byte, 512)
	if _, err := c.ConnectionData(b); err != nil {
		c.Close()
		return err
	}
	var r request
	for i, w := range r.words() {
		*w = binary.BigEndian.Uint32(b[4*i:])
	}
	if r.size == 0 || r.size > maxSize || r.depth == 0 || r.depth > maxDepth || r.reads > maxDepth {
		c.Close()
		return fmt.Errorf("a peer asks for %d octets, %d at a time", r.size, r.depth)
	}
	var e *end
	var notify func(ndk.Status)
	if r.test == sendLat && r.poll == 0 {
		notify = func(ndk.Status) { e.echo(int(r.size)) }
	}
	e, err = newEnd(ctx, a, r, notify)
	defer e.close()
	if err != nil {
		c.Close()
		return err
	}
	e.c = c
	for range receives {
		if err := e.qp.Receive(nil, e.sge(0, int(r.size))); err != nil {
			return err
		}
	}
	if notify != nil {
		e.cq.Arm(ndk.ArmAny)
	}
	advert := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, e.mr.Base()), uint32(e.mr.RemoteToken()))
	p := ndk.ConnParams{InboundReadLimit: int(r.reads), OutboundReadLimit: int(r.reads), Private: advert}
	if err := c.Accept(ctx, e.qp, p, func() { close(e.lost) }); err != nil {
		return err
	}
	switch {
	case r.test == sendLat && r.poll != 0:
		e.spin(int(r.size))
	case r.test != sendLat:
		if err := e.await(ndk.OpReceive, 1); err != nil {
			return err
		}
		if err := e.qp.Send(nil, nil, 0); err != nil {
			return err
		}
	}
	select {
	case <-e.lost:
	case <-ctx.Done():
	}
	return nil
}

// echo answers what was received, from inside a notification.
func (e *end) echo(size int) {
	for {
		n := e.cq.PollEx(e.res[:])
		for _, r := range e.res[:n] {
			if r.Type == ndk.OpReceive && r.Err() == nil {
				e.reply(size)
			}
		}
		if n == 0 {
			break
		}
	}
	e.cq.Arm(ndk.ArmAny)
}

func (e *end) reply(size int) {
	var sgl [1]ndk.SGE
	sgl[0] = ndk.SGE{Addr: e.mr.Base(), Length: uint32(size), Token: e.mr.LocalToken()}
	// Other receives are posted still, so the answer need not wait for this one.
	if e.qp.Send(nil, sgl[:], 0) == nil { // a failure ends the connection, which the client sees
		_ = e.qp.Receive(nil, sgl[:])
	}
}

// spin answers until the peer is gone.
func (e *end) spin(size int) {
	for {
		n := e.cq.PollEx(e.res[:])
		for k := range n {
			r := &e.res[k]
			if r.Err() != nil {
				return
			}
			if r.Type == ndk.OpReceive {
				e.reply(size)
			}
		}
		if n == 0 && e.breathe() {
			select {
			case <-e.lost:
				return
			case <-e.ctx.Done():
				return
			default:
			}
		}
	}
}

func client(ctx context.Context, a ndk.Adapter, at netip.AddrPort, r request) (figure float64, unit string, err error) {
	var notify func(ndk.Status)
	p := &pinger{done: make(chan error, 1)}
	if r.test == sendLat && r.poll == 0 {
		notify = p.notify
	}
	e, err := newEnd(ctx, a, r, notify)
	defer e.close()
	if err != nil {
		return 0, "", err
	}
	p.e = e
	if e.c, err = a.CreateConnector(ctx); err != nil {
		return 0, "", err
	}
	ask := make([]byte, 0, requestSize)
	for _, w := range r.words() {
		ask = binary.BigEndian.AppendUint32(ask, *w)
	}
	for range receives {
		if err := e.qp.Receive(nil, e.sge(int(r.size), int(r.size))); err != nil {
			return 0, "", err
		}
	}
	params := ndk.ConnParams{InboundReadLimit: int(r.reads), OutboundReadLimit: int(r.reads), Private: ask}
	if err := e.c.Connect(ctx, e.qp, netip.AddrPort{}, at, params); err != nil {
		return 0, "", err
	}
	b := make([]byte, 512)
	if _, err := e.c.ConnectionData(b); err != nil {
		return 0, "", err
	}
	raddr, rkey := binary.BigEndian.Uint64(b), ndk.Token(binary.BigEndian.Uint32(b[advertSize-4:]))
	if err := e.c.CompleteConnect(ctx, func() {}); err != nil {
		return 0, "", err
	}
	switch {
	case notify != nil:
		figure, err = p.run(int(r.size), int(r.count))
		unit = "us"
	case r.test == sendLat:
		figure, err = e.pingPong(int(r.size), int(r.count))
		unit = "us"
	default:
		figure, err = e.stream(r, raddr, rkey)
		unit = "MB/s"
	}
	if err != nil {
		return 0, "", err
	}
	return figure, unit, e.c.Disconnect(ctx)
}

// stream keeps the queue full.
func (e *end) stream(r request, raddr uint64, rkey ndk.Token) (float64, error) {
	sgl := e.sge(0, int(r.size))
	typ := ndk.OpWrite
	post := func(f ndk.OpFlags) error { return e.qp.Write(nil, sgl, raddr, rkey, f) }
	if r.test == readBW {
		typ = ndk.OpRead
		post = func(f ndk.OpFlags) error { return e.qp.Read(nil, sgl, raddr, rkey, f) }
	}
	rounds := max(int(r.count)/r.batch, 1)
	begin := time.Now()
	open := 0
	for range rounds {
		for k := range r.batch {
			f := ndk.SilentSuccess | ndk.Defer
			if k == r.batch-1 {
				f = 0
			}
			if err := post(f); err != nil {
				return 0, err
			}
		}
		if open++; (open+1)*r.batch > int(r.depth) {
			n, err := e.next()
			if err != nil {
				return 0, err
			}
			open -= n
		}
	}
	if err := e.await(typ, open); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	if err := e.qp.Send(nil, nil, 0); err != nil {
		return 0, err
	}
	if err := e.await(ndk.OpReceive, 1); err != nil {
		return 0, err
	}
	if !r.local {
		took = time.Since(begin)
	}
	return float64(rounds*r.batch) * float64(r.size) / took.Seconds() / 1e6, nil
}

// pingPong returns half of the median round trip, spinning on the CQ.
func (e *end) pingPong(size, count int) (float64, error) {
	times := make([]time.Duration, 0, count)
	out, in := e.sge(0, size), e.sge(size, size)
	warm := count / 10
	for i := range count + warm {
		begin := time.Now()
		if err := e.qp.Send(nil, out, pingFlags(i)); err != nil {
			return 0, err
		}
		if err := e.await(ndk.OpReceive, 1); err != nil {
			return 0, err
		}
		if i >= warm {
			times = append(times, time.Since(begin))
		}
		if err := e.qp.Receive(nil, in); err != nil {
			return 0, err
		}
	}
	return half(times), nil
}

// pingFlags signals each sixteenth Send, so that the queue does not fill.
func pingFlags(i int) ndk.OpFlags {
	if i%16 == 0 {
		return 0
	}
	return ndk.SilentSuccess
}

// pinger is the client of a ping-pong that goes on from inside notifications.
type pinger struct {
	e       *end
	out, in []ndk.SGE
	i, warm int
	begin   time.Time
	times   []time.Duration
	done    chan error
	err     error
}

func (p *pinger) ping() error {
	p.begin = time.Now()
	return p.e.qp.Send(nil, p.out, pingFlags(p.i))
}

func (p *pinger) notify(ndk.Status) {
	if p.err == nil {
		if p.err = p.turn(); p.err != nil {
			p.done <- p.err
			return
		}
	}
	p.e.cq.Arm(ndk.ArmAny)
}

var errEnough = errors.New("enough")

func (p *pinger) turn() error {
	for {
		n := p.e.cq.PollEx(p.e.res[:])
		if n == 0 {
			return nil
		}
		for _, r := range p.e.res[:n] {
			if err := r.Err(); err != nil {
				return err
			}
			if r.Type != ndk.OpReceive {
				continue
			}
			if p.i >= p.warm {
				p.times = append(p.times, time.Since(p.begin))
			}
			if p.i++; len(p.times) == cap(p.times) {
				return errEnough
			}
			if err := p.e.qp.Receive(nil, p.in); err != nil {
				return err
			}
			if err := p.ping(); err != nil {
				return err
			}
		}
	}
}

// run returns half of the median round trip.
func (p *pinger) run(size, count int) (float64, error) {
	p.out, p.in = p.e.sge(0, size), p.e.sge(size, size)
	p.warm, p.times = count/10, make([]time.Duration, 0, count)
	p.e.cq.Arm(ndk.ArmAny)
	if err := p.ping(); err != nil {
		return 0, err
	}
	select {
	case err := <-p.done:
		if !errors.Is(err, errEnough) {
			return 0, err
		}
		return half(p.times), nil
	case <-p.e.ctx.Done():
		return 0, p.e.ctx.Err()
	}
}

func half(times []time.Duration) float64 {
	slices.Sort(times)
	return times[len(times)/2].Seconds() * 1e6 / 2
}

// echoServer and echoClient are a plain ping-pong over TCP.
func echoServer(ctx context.Context, at netip.AddrPort) error {
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		b := make([]byte, 1<<20)
		for {
			n, err := c.Read(b)
			if err != nil {
				break
			}
			if _, err := c.Write(b[:n]); err != nil {
				break
			}
		}
		_ = c.Close()
	}
}

func echoClient(at netip.AddrPort, size, count int) error {
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	b := make([]byte, size)
	times := make([]time.Duration, 0, count)
	for i := range count + count/10 {
		begin := time.Now()
		if _, err := c.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		if i >= count/10 {
			times = append(times, time.Since(begin))
		}
	}
	fmt.Printf("send_lat %d %.2f us\n", size, half(times))
	return nil
}
