package sim

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// second makes another connection between the two sides, on the same CQs.
func second(s, p *side) (s2, p2 *side) {
	s2, p2 = new(side), new(side)
	*s2, *p2 = *s, *p
	var err error
	s2.qp, err = s.pd.CreateQP(ctx, s.config())
	s.must(err)
	p2.qp, err = p.pd.CreateQP(ctx, p.config())
	p.must(err)
	s.must(errors.Join(three(dial(s2, p2))...))
	return s2, p2
}

// Messages of two QPs overtake each other, those of one never do.
func TestReorderingBetweenQPs(t *testing.T) {
	for name, tc := range map[string]struct {
		c         Config
		overtakes bool
	}{
		"in order":       {Config{}, false},
		"shuffled":       {Config{Order: Shuffled}, true},
		"jitter":         {Config{Jitter: 20 * time.Microsecond}, true},
		"delayed packet": {Config{Faults: Faults{PointDelay: 0.3}}, true},
		"slow QP":        {Config{Faults: Faults{PointSlow: 0.3}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			overtaken := 0
			for seed := range uint64(10) {
				tc.c.Seed = seed
				w, s, p := connected(t, tc.c)
				s2, p2 := second(s, p)
				const each = 8
				for i := range each { // 0, 2, 4 … on one, 1, 3, 5 … on the other
					p.must(p.qp.Receive(2*i, nil))
					p.must(p2.qp.Receive(2*i+1, nil))
					s.must(s.qp.Send(2*i, nil, ndk.SilentSuccess))
					s.must(s2.qp.Send(2*i+1, nil, ndk.SilentSuccess))
				}
				w.Run()
				var got []int
				var last [2]int
				r := make([]ndk.Result, 2*each)
				for _, x := range r[:p.rcq.Poll(r)] {
					i := x.RequestContext.(int)
					if i < last[i%2] {
						t.Errorf("seed %d: message %d came behind %d of its QP", seed, i, last[i%2])
					}
					last[i%2] = i
					got = append(got, i)
				}
				if len(got) != 2*each {
					t.Fatalf("seed %d: %d messages came, want %d", seed, len(got), 2*each)
				}
				if !slices.IsSorted(got) {
					overtaken++
				}
				for _, x := range []*side{s2, p2} {
					x.c.Close()
					x.qp.Close()
				}
			}
			if (overtaken > 0) != tc.overtakes {
				t.Errorf("with %d of 10 seeds a message overtook one of the other QP", overtaken)
			}
		})
	}
}

// A connection that ends at any step, in any way, leaves nobody waiting: every
// request of both sides completes, every call returns, every object closes, and
// both sides know.
func TestEndAtEachStep(t *testing.T) {
	for name, end := range map[string]func(w *World, s, p *side){
		"loss":                  func(w *World, s, _ *side) { _, err := w.Inject(Injection{Point: PointLoss}); s.must(err) },
		"flush":                 func(_ *World, s, _ *side) { s.qp.Flush() },
		"connector closed":      func(_ *World, s, _ *side) { s.c.Close() },
		"QP closed":             func(_ *World, s, _ *side) { s.qp.Close() },
		"device removed":        func(w *World, _, _ *side) { w.Remove(testHosts[0][0]) },
		"peer flushes":          func(_ *World, _, p *side) { p.qp.Flush() },
		"peer closes":           func(_ *World, _, p *side) { p.c.Close() },
		"peer's device removed": func(w *World, _, _ *side) { w.Remove(testHosts[1][0]) },
		"CQ fails":              func(w *World, s, _ *side) { w.FailCQ(s.rcq) },
		"peer disconnects":      func(w *World, _, p *side) { w.Go(func() { _ = p.c.Disconnect(ctx) }) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, acked := range []bool{false, true} {
				for k, over := 0, false; !over; k++ {
					w, s, p := connected(t, Config{AckedSends: acked, WaitForReceive: true})
					s2, p2 := s, p
					posts := map[any]int{}
					post := func(rc string, err error) {
						if err == nil {
							posts[rc]++
						}
					}
					for _, rc := range []string{"r1", "r2"} {
						post(rc, p.qp.Receive(rc, []ndk.SGE{p.sge(0, 100)}))
					}
					post("r3", s.qp.Receive("r3", nil))
					post("read", s.qp.Read("read", []ndk.SGE{s.sge(0, 100)}, p.mr.Base(), p.mr.RemoteToken(), 0))
					post("write", s.qp.Write("write", []ndk.SGE{s.sge(0, 100)}, p.mr.Base(), p.mr.RemoteToken(), 0))
					for _, rc := range []string{"s1", "s2", "s3"} { // the last one finds no receive, and waits
						post(rc, s.qp.Send(rc, []ndk.SGE{s.sge(0, 100)}, ndk.ReadFence))
					}
					post("s4", p.qp.Send("s4", nil, 0))
					w.Go(func() { _ = s.c.Disconnect(ctx) }) // waits for s3
					for range k {
						if over = w.Now() >= time.Second || !w.Step(); over {
							break
						}
					}
					end(w, s2, p2)
					w.Run()
					if w.Now() > time.Minute {
						t.Errorf("step %d: over at %v", k, w.Now())
					}
					w.Restore(testHosts[0][0])
					w.Restore(testHosts[1][0])
					s.c.Close()
					p.c.Close()
					s.qp.Close()
					p.qp.Close()
					for _, q := range []ndk.CQ{s.rcq, s.icq, p.rcq, p.icq} {
						r := make([]ndk.Result, 16)
						for _, x := range r[:q.Poll(r)] {
							posts[x.RequestContext]--
						}
					}
					for rc, n := range posts {
						if n != 0 && !(name == "CQ fails" && rc == "r3") {
							t.Errorf("step %d: %v completed %d times, want once", k, rc, 1-n)
						}
					}
					s.close()
					p.close()
					if t.Failed() {
						t.Fatalf("acked %v\n%s", acked, w.Trace())
					}
				}
			}
		})
	}
}

// A Disconnect that still waits for what was posted ends when the QP is flushed or
// its queue fails, and the peer learns of the end.
func TestDisconnectCutShort(t *testing.T) {
	for name, tc := range map[string]struct {
		end    func(w *World, s *side)
		reason Reason
	}{
		"flush":    {func(_ *World, s *side) { s.qp.Flush() }, ReasonReset},
		"CQ fails": {func(w *World, s *side) { w.FailCQ(s.rcq) }, ReasonQueue},
	} {
		t.Run(name, func(t *testing.T) {
			w, s, p := connected(t, Config{AckedSends: true, WaitForReceive: true, ConnectTimeout: time.Minute})
			s.must(s.qp.Send("s", nil, 0)) // nobody receives it
			p.must(p.qp.Send("p", nil, 0))
			err := errors.New("it waits")
			w.Go(func() { err = s.c.Disconnect(ctx) })
			w.After(time.Second, func() { tc.end(w, s) })
			w.Run()
			s.want(err, ntstatus.Success)
			if d := w.Now(); d >= 2*time.Second {
				t.Errorf("it took %v", d)
			}
			s.expect(s.icq, "s", ntstatus.Cancelled)
			if !slices.Equal(p.lost, []Reason{tc.reason}) {
				t.Errorf("disconnect events of the peer: %v, want %v", p.lost, tc.reason)
			}
		})
	}
}
