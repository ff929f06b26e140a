package sim

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var seedFlag = flag.Uint64("seed", 0, "the only seed of TestSoak; 0 runs many")

// soak is a workload of one thread whose every choice comes from the world: two
// devices, some QPs between them, with a queue each or a shared one, and a model
// of what every post is owed.
type soak struct {
	t       *testing.T
	w       *World
	sides   [2]*soakSide
	pairs   []*[2]*soakEnd
	reports int
}

// soakSide is one device and what the QPs on it share.
type soakSide struct {
	k      *soak
	i      int
	a      ndk.Adapter
	pd     ndk.PD
	cq     ndk.CQ
	srq    ndk.SRQ
	mr     ndk.MR
	mem    []byte
	free   func()
	l      ndk.Listener
	at     netip.AddrPort
	got    []ndk.Connector
	shared map[int]bool // posted to the SRQ, not completed
	failed bool         // the CQ or SRQ failed, or the device is gone
	serial int
}

// soakEnd is one QP.
type soakEnd struct {
	s      *soakSide
	qp     ndk.QP
	srq    bool
	c      ndk.Connector
	peer   *soakEnd
	up     bool
	gone   bool // an error was seen, or the disconnect event
	sends  []posted
	recvs  []int
	fast   ndk.MR
	lam    ndk.LAM
	valid  bool // fast was registered
	window ndk.MW
	bound  bool
}

type posted struct {
	rc     int
	op     ndk.OpType
	silent bool
}

const soakMem = 1 << 14

func newSoak(t *testing.T, seed uint64, c Config) *soak {
	k := &soak{t: t}
	c.Seed, c.Hosts = seed, testHosts
	c.Report = func(what string) { k.reports++; t.Errorf("seed %d: reported: %s", seed, what) }
	k.w = newWorld(t, c)
	for i := range k.sides {
		k.sides[i] = &soakSide{k: k, i: i}
	}
	return k
}

// open makes what a side needs, again and again until no fault keeps it from it.
func (s *soakSide) open() bool {
	if s.a != nil {
		return true
	}
	a, err := s.k.w.Open(ctx, testHosts[s.i][0], ndk.Version21)
	if err != nil {
		s.k.w.Restore(testHosts[s.i][0])
		return false
	}
	s.a, s.failed, s.shared = a, false, make(map[int]bool)
	ok := false
	defer func() {
		if !ok {
			s.close()
		}
	}()
	fail := func(st ndk.Status) {
		if st != ntstatus.Success {
			s.failed = true
		}
	}
	if s.pd, err = a.CreatePD(ctx); err != nil {
		return false
	}
	if s.cq, err = a.CreateCQ(ctx, ndk.CQConfig{Depth: 512, Notify: fail}); err != nil {
		return false
	}
	s.cq.Arm(ndk.ArmErrors)
	if s.srq, err = s.pd.CreateSRQ(ctx, ndk.SRQConfig{Depth: 16, MaxReceiveSGE: 2, NotifyThreshold: 1, Notify: fail}); err != nil {
		return false
	}
	if s.mem, s.free, err = a.Alloc(soakMem); err != nil {
		return false
	}
	if s.mr, err = s.pd.CreateMR(ctx, false); err != nil {
		return false
	}
	if s.mr.Register(ctx, ndk.Memory{s.mem}, soakMem, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink) != nil {
		return false
	}
	if s.l, err = a.CreateListener(ctx, func(c ndk.Connector) { s.got = append(s.got, c) }); err != nil {
		return false
	}
	if s.l.Listen(ctx, netipPort(testHosts[s.i][0], 0)) != nil {
		return false
	}
	s.at, err = s.l.LocalAddr()
	ok = err == nil
	return ok
}

func (s *soakSide) close() {
	if s.a == nil {
		return
	}
	for _, c := range s.got {
		c.Close()
	}
	s.got = nil
	for _, o := range []ndk.Object{s.l, s.mr, s.srq, s.cq, s.pd} {
		if o != nil {
			o.Close()
		}
	}
	s.l, s.mr, s.srq, s.cq, s.pd = nil, nil, nil, nil, nil
	s.a.Close()
	s.a = nil
	if s.free != nil {
		s.free()
		s.free = nil
	}
}

func (e *soakEnd) close() {
	if e == nil || e.qp == nil {
		return
	}
	if e.c != nil {
		e.c.Close()
	}
	e.qp.Close()
	e.up, e.gone = false, true
	if err := e.s.k.w.Wait(ctx, e.qp.Closed()); err != nil {
		e.s.k.t.Fatalf("a QP is not closed: %v", err)
	}
	// The last completions are there before the QP is closed.
	e.s.poll()
	// A CQ that failed reports nothing more, and may not have said so yet.
	if e.s.cq.(*cq).Failed() == ntstatus.Success {
		for _, p := range e.sends {
			if !p.silent {
				e.s.k.t.Errorf("the %v %d did not complete", p.op, p.rc)
			}
		}
		if len(e.recvs) > 0 {
			e.s.k.t.Errorf("%d receives did not complete", len(e.recvs))
		}
	}
	for _, o := range []ndk.Object{e.window, e.fast} {
		if o != nil {
			o.Close()
		}
	}
	e.s.a.ReleaseLAM(&e.lam)
	e.qp = nil
}

// poll holds the completions to the model.
func (s *soakSide) poll() {
	t := s.k.t
	var r [8]ndk.ResultEx
	for {
		n := s.cq.PollEx(r[:])
		for _, x := range r[:n] {
			e, rc := x.QPContext.(*soakEnd), x.RequestContext.(int)
			if x.Status != ntstatus.Success {
				e.gone = true
			}
			if x.Type&ndk.OpReceive != 0 {
				switch {
				case e.srq:
					if !s.shared[rc] {
						t.Errorf("receive %d of the SRQ completes, and was not posted or had completed", rc)
					}
					delete(s.shared, rc)
				case len(e.recvs) == 0 || e.recvs[0] != rc:
					t.Errorf("receive %d completes, want the first of %v", rc, e.recvs)
				default:
					e.recvs = e.recvs[1:]
				}
				continue
			}
			for len(e.sends) > 0 && e.sends[0].rc != rc && e.sends[0].silent {
				e.sends = e.sends[1:] // worked
			}
			if len(e.sends) == 0 || e.sends[0].rc != rc || e.sends[0].op != x.Type {
				t.Fatalf("%v %d completes, want the first of %v", x.Type, rc, e.sends)
			}
			if e.sends[0].silent && x.Status == ntstatus.Success {
				t.Errorf("the silent %v %d completes with success", x.Type, rc)
			}
			e.sends = e.sends[1:]
		}
		if n == 0 {
			return
		}
	}
}

// connect makes two new ends and connects them; it may fail.
func (k *soak) connect(pair *[2]*soakEnd) {
	w := k.w
	for i := range pair {
		pair[i].close()
		pair[i] = nil
	}
	for i, s := range k.sides {
		if s.failed {
			k.reset(i)
		}
	}
	for i := range pair {
		s := k.sides[i]
		if !s.open() {
			return
		}
		e := &soakEnd{s: s, srq: w.Rand(3) == 0}
		c := ndk.QPConfig{
			ReceiveCQ: s.cq, InitiatorCQ: s.cq, QPContext: e, ReceiveQueueDepth: 8, InitiatorQueueDepth: 8,
			MaxReceiveSGE: 2, MaxInitiatorSGE: 2, InlineDataSize: 32,
		}
		var err error
		if e.srq {
			e.qp, err = s.pd.CreateQPWithSRQ(ctx, c, s.srq)
		} else {
			e.qp, err = s.pd.CreateQP(ctx, c)
		}
		if err != nil {
			s.failed = s.failed || errors.Is(err, ntstatus.DeviceRemoved)
			return
		}
		pair[i] = e
		e.fast, _ = s.pd.CreateMR(ctx, true)
		if e.fast != nil && e.fast.InitializeFastRegister(ctx, 2, true) != nil {
			e.fast.Close()
			e.fast = nil
		}
		_, _ = s.a.BuildLAM(ctx, ndk.Memory{s.mem[:4096]}, 4096, &e.lam)
		e.window, _ = s.pd.CreateMW(ctx)
	}
	a, p := pair[w.Rand(2)], (*soakEnd)(nil)
	p = pair[0]
	if a == p {
		p = pair[1]
	}
	a.peer, p.peer = p, a
	c, err := a.s.a.CreateConnector(ctx)
	if err != nil {
		return
	}
	a.c = c
	lim := ndk.ConnParams{InboundReadLimit: w.Rand(4), OutboundReadLimit: w.Rand(4), Private: make([]byte, w.Rand(20))}
	w.Go(func() {
		if w.RunUntil(func() bool { return len(p.s.got) > 0 || a.gone }) != nil || len(p.s.got) == 0 {
			return
		}
		p.c, p.s.got = p.s.got[0], p.s.got[1:]
		p.up = p.c.AcceptEx(ctx, p.qp, lim, func(uint32) { p.gone = true }) == nil
	})
	if c.Connect(ctx, a.qp, netip.AddrPort{}, p.s.at, lim) != nil {
		a.gone = true
		return
	}
	a.up = c.CompleteConnectEx(ctx, func(uint32) { a.gone = true }) == nil
	a.gone = a.gone || !a.up
}

// reset closes all of a side that failed, and of the other what goes with it.
func (k *soak) reset(i int) {
	for _, p := range k.pairs {
		for _, e := range p {
			if e != nil {
				e.close()
			}
		}
		*p = [2]*soakEnd{}
	}
	k.sides[i].close()
}

func (e *soakEnd) sgl(n int) []ndk.SGE {
	w, s := e.s.k.w, e.s
	var sgl []ndk.SGE
	for range n {
		size := w.Rand(300)
		sgl = append(sgl, ndk.SGE{Addr: s.mr.Base() + uint64(4096+w.Rand(soakMem-4096-size)), Length: uint32(size), Token: s.mr.LocalToken()})
	}
	return sgl
}

// post makes one random request of e, most often a good one.
func (e *soakEnd) post() {
	w, s := e.s.k.w, e.s
	s.serial++
	rc := s.serial
	if e.srq {
		if w.Rand(2) == 0 { // there are not always enough: messages wait
			s.shared[rc] = true
			if s.srq.Receive(rc, e.sgl(2)) != nil {
				delete(s.shared, rc)
			}
		}
	} else if e.qp.Receive(rc, e.sgl(2)) == nil {
		e.recvs = append(e.recvs, rc)
	}
	if !e.up || e.peer.s.mr == nil {
		return
	}
	s.serial++
	rc = s.serial
	var f ndk.OpFlags
	for _, x := range []ndk.OpFlags{ndk.SilentSuccess, ndk.ReadFence, ndk.Defer} {
		if w.Rand(3) == 0 {
			f |= x
		}
	}
	raddr, rtoken := e.peer.s.mr.Base()+uint64(4096+w.Rand(8192)), e.peer.s.mr.RemoteToken()
	if w.Rand(200) == 0 {
		rtoken ^= 0x100 // a mistake
	}
	// Before the call: the completion may be there before the post returns.
	p := posted{rc: rc, silent: f&ndk.SilentSuccess != 0}
	var call func() error
	switch w.Rand(8) {
	case 0, 1:
		p.op = ndk.OpSend
		if w.Rand(2) == 0 {
			call = func() error { return e.qp.Send(rc, []ndk.SGE{{Inline: make([]byte, 20)}}, f|ndk.Inline) }
		} else {
			sgl := e.sgl(1)
			call = func() error { return e.qp.Send(rc, sgl, f|ndk.SendAndSolicitEvent) }
		}
	case 2:
		p.op = ndk.OpWrite
		sgl := e.sgl(2)
		call = func() error { return e.qp.Write(rc, sgl, raddr, rtoken, f) }
	case 3:
		p.op = ndk.OpRead
		sgl := e.sgl(2)
		call = func() error { return e.qp.Read(rc, sgl, raddr, rtoken, f) }
	case 4:
		if e.fast == nil || e.valid || len(e.lam.Pages) == 0 {
			return
		}
		p.op, e.valid = ndk.OpFastRegister, true
		call = func() error {
			return e.qp.FastRegister(rc, e.fast, e.lam.Pages, 0, 4096, 0, f|ndk.AllowRemoteRead|ndk.AllowLocalWrite)
		}
	case 5:
		if !e.valid {
			return
		}
		p.op, e.valid = ndk.OpInvalidate, false
		call = func() error { return e.qp.Invalidate(rc, e.fast, f) }
	case 6:
		if e.window == nil || e.bound {
			return
		}
		p.op, e.bound = ndk.OpBind, true
		call = func() error { return e.qp.Bind(rc, s.mr, e.window, s.mr.Base(), 100, f|ndk.AllowRemoteWrite) }
	case 7:
		// The peer may invalidate what we registered; then our own will fail later,
		// and so be it.
		q := e.peer
		if !q.valid || q.fast == nil {
			return
		}
		p.op = ndk.OpSend
		token := q.fast.RemoteToken()
		call = func() error { return e.qp.SendAndInvalidate(rc, nil, f, token) }
	}
	e.sends = append(e.sends, p)
	if call() != nil {
		if n := len(e.sends); n == 0 || e.sends[n-1] != p {
			s.k.t.Errorf("the %v %d was refused and completed", p.op, p.rc)
			return
		}
		e.sends = e.sends[:len(e.sends)-1]
	}
}

// run does n random things and closes everything.
func (k *soak) run(n int) {
	w := k.w
	for range 3 {
		k.pairs = append(k.pairs, new([2]*soakEnd))
	}
	for range n {
		pair := k.pairs[w.Rand(len(k.pairs))]
		e := pair[w.Rand(2)]
		switch x := w.Rand(100); {
		case e == nil || e.qp == nil || e.peer == nil || e.gone || e.s.failed:
			k.connect(pair)
		case x < 60:
			e.post()
		case x < 80:
			for range w.Rand(10) {
				w.Step()
			}
		case x < 90:
			k.sides[w.Rand(2)].pollOpen()
		case x < 94:
			w.Advance(time.Duration(w.Rand(1000)) * time.Microsecond)
		case x < 95:
			e.qp.Flush()
		case x < 96 && e.up:
			_ = e.c.Disconnect(ctx) // whatever becomes of it
			e.gone = true
		case x < 97:
			e.close()
		case x < 98 && e.s.cq != nil:
			e.s.cq.Arm(ndk.ArmAny)
		}
	}
	w.Run()
	for _, p := range k.pairs {
		for _, e := range p {
			if e != nil {
				e.close()
			}
		}
	}
	for _, s := range k.sides {
		s.close()
	}
	w.Run()
}

func (s *soakSide) pollOpen() {
	if s.cq != nil {
		s.poll()
	}
}

// soakConfigs are the ways in which the workload runs: from a good day to one on
// which everything goes wrong that can.
func soakConfigs() map[string]Config {
	var all Faults
	for p := range numPoints {
		all[p] = 0.01
	}
	all[PointOverrun], all[PointFatalCQ], all[PointFatalSRQ], all[PointRemoval] = 0.001, 0.001, 0.001, 0.001
	all[PointLoss] = 0.002
	return map[string]Config{
		"good":        {},
		"acked":       {AckedSends: true, WaitForReceive: true, Order: Shuffled, Jitter: 3 * time.Microsecond},
		"early":       {EarlyAccept: true, PadPrivateData: true, BytesPerSecond: 1e8, Order: Shuffled},
		"all faults":  {Order: Shuffled, Jitter: time.Microsecond, Faults: all},
		"strict":      {StrictQueues: true, Order: Shuffled, Jitter: time.Microsecond},
		"acks, fault": {AckedSends: true, Faults: all, MaxDelay: 20 * time.Microsecond},
	}
}

// Every post gets what it is owed, whatever happens, and the same seed makes the
// same things happen, to the octet.
func TestSoak(t *testing.T) {
	const steps = 1500
	seeds := []uint64{}
	for i := range uint64(12) {
		seeds = append(seeds, i)
	}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	for name, c := range soakConfigs() {
		t.Run(name, func(t *testing.T) {
			sums := map[uint64]uint64{}
			for _, seed := range seeds {
				var traces [2]string
				var lines, sum [2]uint64
				for i := range traces {
					c := c
					c.TraceBytes = 64 << 20
					k := newSoak(t, seed, c)
					k.run(steps)
					traces[i] = k.w.Trace()
					lines[i], sum[i] = k.w.TraceSum()
				}
				if traces[0] != traces[1] || sum[0] != sum[1] {
					t.Fatalf("seed %d: the second run differs: %s", seed, firstDifference(traces[0], traces[1]))
				}
				if lines[0] < steps || uint64(strings.Count(traces[0], "\n")) != lines[0] {
					t.Errorf("seed %d: %d lines, %d in the trace, for %d steps", seed, lines[0], strings.Count(traces[0], "\n"), steps)
				}
				if o, ok := sums[sum[0]]; ok {
					t.Errorf("seeds %d and %d do the same", seed, o)
				}
				sums[sum[0]] = seed
				if t.Failed() {
					t.Fatalf("failed with -seed=%d", seed)
				}
			}
		})
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d: %q and %q", i, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}
