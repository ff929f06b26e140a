package smbdirect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/sim"
)

// own makes the caller the owner of a connection.
func own(c *Conn) {
	for {
		c.mu.Lock()
		driving := c.driving
		c.driving = true
		c.mu.Unlock()
		if !driving {
			return
		}
		runtime.Gosched()
	}
}

// A cancellation that finds no owner, but its request in the inbox of the last one,
// comes after it.
func TestCancelBehindItsRequest(t *testing.T) {
	a, _ := pair(t, Config{}, Config{ReceiveCreditMax: 4, ReceiveBacklog: 1})
	for full := false; !full; { // nobody receives, so the credits end
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		if err := a.Send(ctx, msg(make([]byte, 100))); err != nil {
			if full = errors.Is(err, context.DeadlineExceeded); !full {
				t.Fatal(err)
			}
		}
		cancel()
	}
	own(a)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sent := make(chan error, 1)
	go func() { sent <- a.Send(ctx, msg(make([]byte, 100))) }()
	for waiting := 0; waiting == 0; runtime.Gosched() {
		a.mu.Lock()
		waiting = len(a.inbox)
		a.mu.Unlock()
	}
	a.mu.Lock()
	a.driving = false // as an owner who is out of rounds
	a.mu.Unlock()
	cancel()
	select {
	case err := <-sent:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the message is not given up")
		a.Close()
		<-sent
	}
}

// eager has the callback of a CQ run within posts and Arm, and by other goroutines
// at the same time, also when nothing has come.
type eager struct{ ndk.Provider }

type eagerAdapter struct {
	ndk.Adapter
	stray *sync.WaitGroup
}

func (p eager) Open(ctx context.Context, local netip.Addr, v ndk.Version) (ndk.Adapter, error) {
	a, err := p.Provider.Open(ctx, local, v)
	if err != nil {
		return nil, err
	}
	return eagerAdapter{a, new(sync.WaitGroup)}, nil
}

func (a eagerAdapter) Unwrap() ndk.Object { return a.Adapter }

func (a eagerAdapter) Close() {
	a.stray.Wait()
	a.Adapter.Close()
}

func (a eagerAdapter) CreateCQ(ctx context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	q := &eagerCQ{notify: c.Notify, stray: a.stray}
	c.Notify = func(st ndk.Status) {
		if st != 0 {
			q.notify(st)
			return
		}
		q.due.Store(true) // the next post or another goroutine runs it
		q.stray.Go(func() {
			runtime.Gosched()
			q.run()
		})
	}
	inner, err := a.Adapter.CreateCQ(ctx, c)
	q.CQ = inner
	return q, err
}

func (a eagerAdapter) CreatePD(ctx context.Context) (ndk.PD, error) {
	p, err := a.Adapter.CreatePD(ctx)
	return eagerPD{p}, err
}

type eagerCQ struct {
	ndk.CQ
	notify func(ndk.Status)
	stray  *sync.WaitGroup
	due    atomic.Bool
	calls  atomic.Uint32
}

func (q *eagerCQ) Unwrap() ndk.Object { return q.CQ }

func (q *eagerCQ) run() {
	if q.due.Swap(false) || q.calls.Add(1)%16 == 0 {
		q.notify(0)
	}
}

func (q *eagerCQ) Arm(t ndk.ArmType) {
	q.CQ.Arm(t)
	q.run()
}

type eagerPD struct{ ndk.PD }

func (p eagerPD) Unwrap() ndk.Object { return p.PD }

func (p eagerPD) CreateQP(ctx context.Context, c ndk.QPConfig) (ndk.QP, error) {
	q, err := p.PD.CreateQP(ctx, c)
	return &eagerQP{q, c.InitiatorCQ.(*eagerCQ)}, err
}

type eagerQP struct {
	ndk.QP
	cq *eagerCQ
}

func (q *eagerQP) Unwrap() ndk.Object { return q.QP }

func (q *eagerQP) Send(rc any, sgl []ndk.SGE, f ndk.OpFlags) error {
	defer q.cq.run()
	return q.QP.Send(rc, sgl, f)
}

func (q *eagerQP) Receive(rc any, sgl []ndk.SGE) error {
	defer q.cq.run()
	return q.QP.Receive(rc, sgl)
}

func (q *eagerQP) Write(rc any, sgl []ndk.SGE, addr uint64, tok ndk.Token, f ndk.OpFlags) error {
	defer q.cq.run()
	return q.QP.Write(rc, sgl, addr, tok, f)
}

func (q *eagerQP) Read(rc any, sgl []ndk.SGE, addr uint64, tok ndk.Token, f ndk.OpFlags) error {
	defer q.cq.run()
	return q.QP.Read(rc, sgl, addr, tok, f)
}

func (q *eagerQP) FastRegister(rc any, mr ndk.MR, pages []ndk.LogicalAddress, fbo uint32, size, base uint64, f ndk.OpFlags) error {
	defer q.cq.run()
	return q.QP.FastRegister(rc, mr, pages, fbo, size, base, f)
}

func (q *eagerQP) Invalidate(rc any, x ndk.Invalidatable, f ndk.OpFlags) error {
	defer q.cq.run()
	return q.QP.Invalidate(rc, x, f)
}

// crowd is many callers of a connection.
type crowd struct {
	t      *testing.T
	ends   [2]*Conn
	lively atomic.Bool // an error is one
	all    sync.WaitGroup
	counts [4]atomic.Int64
	told   [16]chan struct{} // by number of the mover: its message came
}

const firstMover = 1000 // the numbers of movers, as senders of messages

const crowdHeader = 12 // sender, sequence number, length

func (w *crowd) failed(what string, err error) {
	if w.lively.Swap(false) {
		var b strings.Builder
		for _, c := range w.ends {
			_ = c.FlightRecorder(&b)
		}
		w.t.Errorf("%s: %v\n%s", what, err, b.String())
	}
	if !errors.Is(err, net.ErrClosed) && !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "EOF") {
		w.t.Errorf("%s: %v", what, err)
	}
}

// sender sends messages, some of which it gives up. What it gave up must not
// arrive.
func (w *crowd) sender(c *Conn, id, n int, r *rand.Rand, given *sync.Map) {
	for i := range n {
		size := crowdHeader + r.IntN(200)
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		switch r.IntN(6) {
		case 0:
			size = crowdHeader + r.IntN(60000)
		case 1:
			// One that fits a fragment is never begun, so giving it up costs nothing.
			ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(300))*time.Microsecond)
		}
		b := make([]byte, size)
		binary.LittleEndian.PutUint32(b, uint32(id))
		binary.LittleEndian.PutUint32(b[4:], uint32(i))
		binary.LittleEndian.PutUint32(b[8:], uint32(size))
		for k := crowdHeader; k < size; k++ {
			b[k] = byte(id + i + k)
		}
		err := c.Send(ctx, msg(b[:size/3], b[size/3:]))
		gaveUp := ctx.Err() != nil
		cancel()
		switch {
		case err == nil:
			w.counts[0].Add(1)
		case gaveUp && errors.Is(err, context.DeadlineExceeded):
			given.Store([2]int{id, i}, true)
			w.counts[1].Add(1)
		default:
			w.failed("send", err)
			return
		}
	}
}

// receiver takes messages until the end, and checks that those of each sender come
// whole and in order.
func (w *crowd) receiver(c *Conn, want func() int, r *rand.Rand, given *sync.Map) {
	last := map[int]int{}
	for got := 0; ; got++ {
		if n := want(); n >= 0 && got >= n {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		m, err := c.Receive(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			got--
			continue
		}
		if err != nil {
			w.failed("receive", err)
			return
		}
		b := m.Data
		if id := int(binary.LittleEndian.Uint32(b)); id >= firstMover {
			w.told[id-firstMover] <- struct{}{}
			m.Release()
			got--
			continue
		}
		id, i, size := int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:])), int(binary.LittleEndian.Uint32(b[8:]))
		if size != len(b) || i <= last[id]-1 {
			w.t.Errorf("sender %d, message %d after %d, %d bytes of %d", id, i, last[id]-1, len(b), size)
		}
		if _, ok := given.Load([2]int{id, i}); ok {
			w.t.Errorf("message %d of sender %d was given up and came", i, id)
		}
		for k := crowdHeader; k < size; k++ {
			if b[k] != byte(id+i+k) {
				w.t.Errorf("sender %d, message %d: octet %d is wrong", id, i, k)
				break
			}
		}
		last[id] = i + 1
		m.Release()
		if r.IntN(50) == 0 {
			time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond) // behind, for a moment
		}
	}
}

// mover registers memory at one end, and has the other write and read it.
func (w *crowd) mover(near, far *Conn, id, n int, r *rand.Rand) {
	mem := make([]byte, 200000)
	for range n {
		size := 1 + r.IntN(len(mem)-5000)
		p := mem[r.IntN(5000):][:size]
		reg, err := near.RDMA().Register(context.Background(), p, transport.PeerReads|transport.PeerWrites)
		if err != nil {
			w.failed("register", err)
			return
		}
		// A registration is in place when a message behind it has come.
		if err = near.Send(context.Background(), msg(binary.LittleEndian.AppendUint32(nil, uint32(firstMover+id)))); err == nil {
			select {
			case <-w.told[id]:
				err = w.move(far, p, reg.Descriptors(), r)
			case <-near.closed:
				err = near.err()
			case <-far.closed:
				err = far.err()
			}
		}
		ctx := context.Background()
		if r.IntN(4) == 0 {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			ctx = ended
		}
		if err2 := reg.Deregister(ctx, 0, false); err2 != nil {
			w.failed("deregister", err2)
			return
		}
		if err != nil {
			w.failed("transfer", err)
			return
		}
		w.counts[2].Add(1)
	}
}

func (w *crowd) move(far *Conn, p []byte, ds []transport.Descriptor, r *rand.Rand) error {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if r.IntN(3) == 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(1000))*time.Microsecond)
	}
	defer cancel()
	quit := func(err error) error {
		if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
			w.counts[3].Add(1)
			return nil
		}
		return err
	}
	b, err := far.RDMA().Lease(ctx, len(p))
	if err != nil {
		return quit(err)
	}
	defer b.Release()
	x := byte(r.IntN(256))
	for i := range p {
		b.Bytes()[i] = x + byte(i)
	}
	if err := far.RDMA().Write(ctx, b, len(p), ds); err != nil {
		return quit(err)
	}
	clear(b.Bytes()[:len(p)])
	err = far.RDMA().Read(ctx, b, len(p), ds)
	if err != nil && quit(err) == nil {
		// The Write may be on the way still; behind a Read it is not.
		err = far.RDMA().Read(context.Background(), b, len(p), ds)
	}
	if err != nil {
		return err
	}
	for i := range p {
		if b.Bytes()[i] != x+byte(i) {
			return fmt.Errorf("octet %d of %d is %d, not %d: lost", i, len(p), b.Bytes()[i], x+byte(i))
		}
	}
	return nil
}

// TestCrowd has many callers at both ends of a connection at once: whatever the
// provider does with its callbacks, everybody gets an answer, also if the connection
// ends under them.
func TestCrowd(t *testing.T) {
	hosts := [][]netip.Addr{{netip.MustParseAddr("10.0.0.1")}, {netip.MustParseAddr("10.0.0.2")}}
	world := func(t *testing.T, c sim.Config) ndk.Provider {
		c.Auto, c.TraceBytes, c.Hosts = true, -1, hosts
		w, err := sim.New(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		return w
	}
	providers := []struct {
		name, addr string
		make       func(t *testing.T) ndk.Provider
	}{
		{"sim", "10.0.0.2:445", func(t *testing.T) ndk.Provider { return world(t, sim.Config{Latency: -1}) }},
		{"slow sim", "10.0.0.2:445", func(t *testing.T) ndk.Provider {
			return world(t, sim.Config{Latency: 20 * time.Microsecond, Jitter: 50 * time.Microsecond})
		}},
		{"iwarp", "127.0.0.1:0", func(t *testing.T) ndk.Provider { return provider(t) }},
		{"eager sim", "10.0.0.2:445", func(t *testing.T) ndk.Provider { return eager{world(t, sim.Config{Latency: -1})} }},
		{"eager iwarp", "127.0.0.1:0", func(t *testing.T) ndk.Provider { return eager{provider(t)} }},
	}
	configs := []Config{
		{},
		{ReceiveCreditMax: 2, SendCreditTarget: 2, SendDepth: 2, TransferDepth: 1, OutboundReadLimit: 1, Registrations: 2, ReceiveBacklog: 1},
		{ReceiveCreditMax: 8, SendDepth: 4, TransferDepth: 3, Registrations: 5, ReceiveBacklog: 5000},
	}
	rounds := 1
	if !testing.Short() {
		rounds = 2
	}
	for _, p := range providers {
		for ci, cfg := range configs {
			for round := range rounds {
				for _, end := range []string{"no", "client", "server", "both"} {
					t.Run(fmt.Sprintf("%s, config %d, %d, %s closes", p.name, ci, round, end), func(t *testing.T) {
						seed := rand.Uint64()
						playCrowd(t, p.make(t), p.addr, cfg, end, seed)
						if t.Failed() {
							t.Logf("seed %d", seed)
						}
					})
				}
			}
		}
	}
}

func playCrowd(t *testing.T, p ndk.Provider, addr string, cfg Config, end string, seed uint64) {
	cfg.Memory = 16 << 20
	cfg.CreditTimeout = 20 * time.Second
	l, err := Listen(context.Background(), p, "any", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := NewDialer(p, "any", cfg)
	if err != nil {
		t.Fatal(err)
	}
	x, y := connect(t, d, l)
	w := &crowd{t: t, ends: [2]*Conn{x.(*Conn), y.(*Conn)}}
	w.lively.Store(end == "no")
	for i := range w.told {
		w.told[i] = make(chan struct{}, 1)
	}
	var receivers sync.WaitGroup
	serial := uint64(0)
	source := func() *rand.Rand { serial++; return rand.New(rand.NewPCG(seed, serial)) }
	const senders, messages, movers, moves = 6, 60, 3, 8
	for k, c := range w.ends {
		far := w.ends[1-k]
		var given sync.Map
		var sendersOf sync.WaitGroup
		for id := range senders {
			r := source()
			sendersOf.Add(1)
			w.all.Go(func() { defer sendersOf.Done(); w.sender(c, id, messages, r, &given) })
		}
		for i := range movers {
			r := source()
			sendersOf.Add(1)
			w.all.Go(func() { defer sendersOf.Done(); w.mover(c, far, k*movers+i, moves, r) })
		}
		over := make(chan struct{})
		go func() { sendersOf.Wait(); close(over) }()
		r := source()
		receivers.Go(func() {
			w.receiver(far, func() int {
				select {
				case <-over:
				default:
					return -1
				}
				n := senders * messages
				given.Range(func(any, any) bool { n--; return true })
				if end != "no" {
					return -1
				}
				return n
			}, r, &given)
		})
		w.all.Go(func() {
			for range 20 {
				_ = c.FlightRecorder(new(strings.Builder))
				_ = c.Stats()
			}
		})
	}
	r := source()
	if end != "no" {
		time.Sleep(time.Duration(r.IntN(20_000)) * time.Microsecond)
		if end != "server" {
			w.all.Go(func() { w.ends[0].Close() })
		}
		if end != "client" {
			w.all.Go(func() { w.ends[1].Close() })
		}
	}
	done := make(chan struct{})
	go func() { w.all.Wait(); receivers.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		var b strings.Builder
		for _, c := range w.ends {
			_ = c.FlightRecorder(&b)
			fmt.Fprintf(&b, "%+v\n", c.Stats())
		}
		buf := make([]byte, 1<<20)
		t.Fatalf("somebody waits for ever\n%s\n%s", b.String(), buf[:runtime.Stack(buf, true)])
	}
	for _, c := range w.ends {
		c.Close()
		if s := c.Stats(); s.LeasedBuffers != 0 || s.Registrations != 0 {
			t.Errorf("left behind: %+v", s)
		}
		c.mu.Lock()
		if !c.sealed || len(c.inbox) > 0 || c.l.n != 0 {
			t.Errorf("inbox %d, queue %d", len(c.inbox), c.l.n)
		}
		c.mu.Unlock()
	}
	l.Close()
	t.Logf("%d sent, %d given up, %d moved, %d moves given up", w.counts[0].Load(), w.counts[1].Load(), w.counts[2].Load(), w.counts[3].Load())
}

// deafQP takes no receives, as one whose connection is gone.
type deafQP struct{ ndk.QP }

func (deafQP) Receive(any, []ndk.SGE) error { return ndk.ErrNotConnected }

// An end that finds the connection gone when it posts its only receive again tells
// what the disconnect event does.
func TestEndWithOneReceive(t *testing.T) {
	a, b := pair(t, Config{}, Config{ReceiveCreditMax: 1})
	own(b)
	b.qp = deafQP{b.qp}
	b.mu.Lock()
	b.driving = false
	b.mu.Unlock()
	b.poke()
	for range 2 { // more receives than it has
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		_ = a.Send(ctx, msg(make([]byte, 10)))
		cancel()
	}
	a.Close()
	for {
		m, err := b.Receive(context.Background())
		if err == nil {
			m.Release()
			continue
		}
		if err != io.EOF {
			t.Errorf("ended with %v", err)
		}
		break
	}
}
