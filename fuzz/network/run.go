package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndkhook"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/sim"
)

// Result is what came of a run.
type Result struct {
	Err   error
	Stats model.Stats
	// Done is how many operations worked, and Failed how many ended with an error
	// of the connection.
	Done, Failed int
}

// patience is how long a run may take on the machine's clock before it counts as
// a deadlock.
const patience = 30 * time.Second

// run is a run under way.
type run struct {
	s    Scenario
	j    *judge
	mu   sync.Mutex
	errs []error // guarded by mu
	done int     // guarded by mu
	fail int     // guarded by mu
}

func (r *run) failf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) < 10 {
		r.errs = append(r.errs, fmt.Errorf(format, args...))
	}
}

// end is the model's view of one end: a whole connection.
func end(role model.Role, c smbdirect.Config) model.End {
	return model.End{
		Role: role, ReceiveCreditMax: c.ReceiveCreditMax, SendCreditTarget: c.SendCreditTarget,
		MaxSendSize: uint32(c.MaxSendSize), MaxReceiveSize: uint32(c.MaxReceiveSize), MaxFragmentedSize: uint32(c.MaxFragmentedRecvSize), Slack: -1,
	}
}

// Run plays a scenario.
func Run(s Scenario) Result {
	r := &run{s: s, j: &judge{model: model.New(end(model.Initiator, s.Client), end(model.Acceptor, s.Server))}}
	world := s.World
	world.Hosts = [][]netip.Addr{{netip.MustParseAddr("10.0.0.1")}, {netip.MustParseAddr("10.0.0.2")}}
	world.Report = func(what string) { r.failf("sim: %s", what) }
	w, err := sim.New(world)
	if err != nil {
		return Result{Err: err}
	}
	layer := func(side model.Side) *ndkhook.Provider {
		return ndkhook.WrapProvider(&tap{Provider: w, j: r.j, side: side}, ndkhook.Config{Name: side.String(), Audit: true})
	}
	a, b := layer(model.A), layer(model.B)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.play(ctx, a, b)
	if ctx.Err() != nil {
		r.failf("%v: the run did not end in %v", model.Progress, patience)
	}
	cancel()
	w.Close()
	for _, p := range []*ndkhook.Provider{a, b} {
		for _, v := range p.Audit() {
			// A CQ that was made to fail takes completions with it, which the audit
			// forgives only if the consumer was told before it closed everything.
			f := &r.s.World.Faults
			if f[sim.PointOverrun]+f[sim.PointFatalCQ] > 0 && (strings.HasSuffix(v, "never completed") || strings.HasSuffix(v, " more")) {
				continue
			}
			r.failf("audit: %s", v)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	if r.j.err != nil {
		r.errs = append([]error{r.j.err}, r.errs...)
	}
	if len(r.errs) > 0 {
		r.errs = append(r.errs, fmt.Errorf("the world's faults were %s", r.s.faults()))
	}
	return Result{Err: errors.Join(r.errs...), Stats: r.j.model.Stats(), Done: r.done, Failed: r.fail}
}

// play connects, lets the applications work, and closes everything.
func (r *run) play(ctx context.Context, a, b ndk.Provider) {
	l, err := smbdirect.Listen(ctx, b, "sim", "10.0.0.2:445", r.s.Server)
	if err != nil {
		r.setUpFailed("listen", err)
		return
	}
	defer func() { _ = l.Close() }()
	d, err := smbdirect.NewDialer(a, "sim", r.s.Client)
	if err != nil {
		r.failf("dialer: %w", err)
		return
	}
	actx, stop := context.WithCancel(ctx)
	accepted := make(chan transport.Conn, 1)
	go func() { // ends with actx, and is waited for by the receive
		c, _ := l.Accept(actx)
		accepted <- c
	}()
	r.j.tell(model.Event{End: model.A, Kind: model.Start})
	r.j.tell(model.Event{End: model.B, Kind: model.Start})
	c, err := d.Dial(ctx, l.Addr().String())
	if err != nil {
		stop()
		if s := <-accepted; s != nil {
			_ = s.Close()
		}
		r.setUpFailed("dial", err)
		return
	}
	var s transport.Conn
	select {
	case s = <-accepted:
	case <-time.After(time.Second):
		if !r.s.Faulty {
			r.failf("dialled, and nothing to accept")
		}
		// The acceptor may have lost what the initiator holds to be open.
		stop()
		s = <-accepted
	}
	stop()
	if s == nil {
		_ = c.Close()
		return
	}
	r.apps(ctx, c, s)
	if !r.s.Faulty {
		r.steady(c, s)
	}
	r.j.mu.Lock()
	r.j.over = true
	r.j.mu.Unlock()
	_ = c.Close()
	_ = s.Close()
	for _, x := range []transport.Conn{c, s} {
		if st := x.Stats(); st.LeasedBuffers != 0 || st.Registrations != 0 {
			r.failf("left behind: %d leased buffers, %d registrations", st.LeasedBuffers, st.Registrations)
		}
	}
}

// setUpFailed: only where something was made to go wrong.
func (r *run) setUpFailed(what string, err error) {
	if !r.s.Faulty {
		r.failf("%s: %w", what, err)
		return
	}
	r.mu.Lock()
	r.fail++
	r.mu.Unlock()
}

// steady checks at rest that both ends count as the model does.
func (r *run) steady(c, s transport.Conn) {
	// Delayed grants are on the way for a moment; in the end both agree, unless
	// the last credit has to circulate.
	if min(r.s.Client.ReceiveCreditMax, r.s.Server.ReceiveCreditMax, r.s.Client.SendCreditTarget, r.s.Server.SendCreditTarget) < 2 {
		return
	}
	var why string
	for range 200 {
		why = ""
		r.j.mu.Lock()
		for side, x := range map[model.Side]transport.Conn{model.A: c, model.B: s} {
			st := x.Stats()
			if st.SendCredits != r.j.model.SendCredits(side) || st.ReceiveCredits != r.j.model.Posted(side) {
				why = fmt.Sprintf("%v counts %d and %d credits, the model %d and %d", side, st.SendCredits, st.ReceiveCredits, r.j.model.SendCredits(side), r.j.model.Posted(side))
			}
		}
		if r.j.model.SendCredits(model.A) != r.j.model.Outstanding(model.B) || r.j.model.SendCredits(model.B) != r.j.model.Outstanding(model.A) {
			why = "credits were lost on the way"
		}
		if r.j.err != nil {
			why = "" // the model stopped there
		}
		r.j.mu.Unlock()
		if why == "" {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	var b strings.Builder
	for _, x := range []transport.Conn{c, s} {
		if f, ok := x.(*smbdirect.Conn); ok {
			_ = f.FlightRecorder(&b) // a Builder takes everything
		}
	}
	r.failf("%v: %s\n%s", model.Conservation, why, b.String())
}

// ended notes the end of an operation. It reports whether the worker goes on.
func (r *run) ended(what string, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.done++
		return true
	}
	r.fail++
	if !r.s.Faulty && len(r.errs) < 10 {
		r.errs = append(r.errs, fmt.Errorf("%s: %w", what, err))
	}
	return false
}

// fill writes the octets of a transfer: those of no two are alike.
func fill(p []byte, id uint64) {
	x := uint32(id*2654435761) | 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = byte(x >> 9)
	}
}

// filled reports whether p is what fill makes.
func filled(p []byte, id uint64) bool {
	q := make([]byte, len(p))
	fill(q, id)
	return bytes.Equal(p, q)
}
