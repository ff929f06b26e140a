package ndktest

import (
	"runtime"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_FN_FLUSH", flushAll, flushBesidePosts, flushReturns, flushOne, flushDeferred)

// Every outstanding request completes once: what was not done with Cancelled,
// silent or not.
func flushAll(t *T) {
	t.Sub("not connected", func(t *T) {
		s, _ := t.Pair()
		for i := range 5 {
			s.must(s.QP.Receive(i, []ndk.SGE{s.SGE(0, 8)}))
		}
		s.QP.Flush()
		for i := range 5 {
			s.expect(s.Received(), i, ntstatus.Cancelled, ndk.OpReceive)
		}
		s.QP.Flush() // with nothing to cancel
		s.silence()
	})
	t.Sub("connected", func(t *T) {
		s, p := t.Connected()
		for i := range 5 {
			s.must(s.QP.Receive(i, []ndk.SGE{s.SGE(0, 8)}))
		}
		// More Reads than can be under way: not all of them are done at the flush. The
		// last one is not silent, so that there is a completion behind all others.
		silent := func(i int) bool { return i%3 == 1 && i < qDepth-1 }
		for i := range qDepth {
			f := ndk.OpFlags(0)
			if silent(i) {
				f = ndk.SilentSuccess
			}
			s.must(s.QP.Read(i, []ndk.SGE{s.SGE(8, memSize/2)}, p.MR.Base(), p.MR.RemoteToken(), f))
		}
		s.QP.Flush()
		for i := range 5 {
			s.expect(s.Received(), i, ntstatus.Cancelled, ndk.OpReceive)
		}
		s.worksThenCancelled(0, qDepth, ndk.OpRead, silent)
		s.afterFlush(p, "after")
		s.silence()
	})
	t.Sub("idle", func(t *T) {
		s, p := t.Connected()
		s.QP.Flush()
		s.afterFlush(p, "after")
		s.silence()
	})
}

// worksThenCancelled polls the completions of the requests first to last-1, whose
// contexts are their numbers, and returns how many of them worked. They are in
// order; once one is cancelled all that follow are; a silent one is absent only if
// it worked. The last one is not silent.
func (s *Side) worksThenCancelled(first, last int, typ ndk.OpType, silent func(i int) bool) (worked int) {
	s.t.Helper()
	cancelled := false
	for next := first; next < last; next++ {
		r := s.Done()
		i, ok := r.RequestContext.(int)
		for ok && next < i && silent(next) && !cancelled {
			next++ // worked, and said nothing
			worked++
		}
		switch {
		case !ok || i != next || r.Type != typ:
			s.t.Fatalf("completion of %v, %v; want that of %d, %v", r.RequestContext, r.Type, next, typ)
		case r.Status == ntstatus.Cancelled:
			cancelled = true
			continue
		case r.Status != ntstatus.Success || cancelled:
			s.t.Errorf("request %d: %v, want success for the first ones and then %v", i, r.Status, ntstatus.Cancelled)
		case silent(i):
			s.t.Errorf("silent request %d completed with success", i)
		}
		worked++
	}
	return worked
}

// afterFlush posts on a QP that was flushed while it was connected. Whether it
// still can send is the adapter's business, but it says so, and a peer of one
// that cannot has lost its connection. The message takes the receive of p with
// the context rc.
func (s *Side) afterFlush(p *Side, rc any) {
	s.t.Helper()
	if err := p.QP.Receive("after", nil); err != nil { // it knows already
		p.refusal(err, ndk.ErrNotConnected, "Receive after the Flush of the peer")
	}
	if err := s.QP.Send("after", nil, 0); err != nil {
		s.refusal(err, ndk.ErrNotConnected, "Send after Flush")
	} else if r := s.Done(); r.Status == ntstatus.Success {
		p.received(rc, 0)
		return
	} else {
		s.expect(r, "after", ntstatus.Cancelled, ndk.OpSend)
	}
	p.lost()
}

// lane counts what one lane of a QP had accepted and what completed of it. It is
// used by one goroutine at a time.
type lane struct {
	cq                  ndk.CQ
	accepted, completed int
	cancelled           int
}

// poll takes what there is.
func (l *lane) poll() {
	var r [8]ndk.ResultEx
	n := l.cq.PollEx(r[:])
	for _, e := range r[:n] {
		l.completed++
		if e.Status == ntstatus.Cancelled {
			l.cancelled++
		}
	}
}

// Flush may run at the same time as posts of both lanes: each post is refused, or
// accepted and completed once.
func flushBesidePosts(t *T) {
	for range 5 {
		s, p := t.Connected()
		stop := make(chan struct{})
		var busy, all sync.WaitGroup
		run := func(l *lane, post func() error) {
			busy.Add(1)
			all.Go(func() { // ends when posts are refused, or with stop
				posted := 0
				for {
					select {
					case <-stop:
						return
					default:
					}
					l.poll() // a CQ has to have room for what completes
					err := post()
					switch ndk.StatusOf(err) {
					case ntstatus.Success:
						l.accepted++
					case ntstatus.NoMoreEntries:
						runtime.Gosched()
					case ntstatus.ConnectionInvalid:
						if posted < 10 {
							busy.Done()
						}
						return
					default:
						t.Errorf("post beside a Flush: %v", err)
					}
					if posted++; posted == 10 {
						busy.Done()
					}
				}
			})
		}
		initiator, receiver := &lane{cq: s.ICQ}, &lane{cq: s.RCQ}
		run(initiator, func() error {
			return s.QP.Write("w", []ndk.SGE{s.SGE(0, 100)}, p.MR.Base(), p.MR.RemoteToken(), 0)
		})
		run(receiver, func() error { return s.QP.Receive("r", []ndk.SGE{s.SGE(200, 100)}) })
		busy.Wait()
		s.QP.Flush()
		close(stop)
		all.Wait()
		s.QP.Flush() // for receives that came behind the first one
		s.C.Close()
		s.must(ndk.CloseWait(s.ctx, s.QP))
		for _, l := range []*lane{initiator, receiver} {
			for before := -1; before != l.completed; {
				before = l.completed
				l.poll()
			}
			if l.completed != l.accepted {
				t.Errorf("%d completions of %d posts", l.completed, l.accepted)
			}
		}
		if receiver.cancelled != receiver.accepted {
			t.Errorf("%d of %d receives are cancelled", receiver.cancelled, receiver.accepted)
		}
	}
}

// Flush returns without waiting, so it may be called where nothing may wait, from
// within a notification; the consumer then polls until all is there.
func flushReturns(t *T) {
	w := t.watch(2*qDepth, func(w *watched, _ ndk.Status) { w.p.QP.Flush() })
	s, p := w.s, w.p
	for i := range 5 {
		p.must(p.QP.Receive(i, nil))
	}
	for i := range qDepth {
		p.must(p.QP.Read(i, []ndk.SGE{p.SGE(0, memSize/2)}, s.MR.Base(), s.MR.RemoteToken(), 0))
	}
	w.cq.Arm(ndk.ArmAny)
	s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
	w.wait()
	p.worksThenCancelled(0, qDepth, ndk.OpRead, func(int) bool { return false })
	var r [1]ndk.ResultEx
	for i := 0; i < 5; {
		if w.cq.PollEx(r[:]) == 1 {
			want := ntstatus.Cancelled
			if i == 0 {
				want = ntstatus.Success // the message that notified
			}
			p.expect(r[0], i, want, ndk.OpReceive)
			i++
		} else if p.ctx.Err() != nil {
			t.Fatal("no completion")
		}
	}
	w.total()
	if w.cq.PollEx(r[:]) != 0 {
		t.Errorf("a completion too many: %v", r[0].RequestContext)
	}
}

// A Flush leaves the other QPs of the same CQs alone.
func flushOne(t *T) {
	s, p := t.Connected()
	s2, p2 := second(s, p)
	for i := range 5 {
		s.must(s.QP.Receive(i, nil))
		s2.must(s2.QP.Receive(i, []ndk.SGE{s2.SGE(i*100, 100)}))
	}
	const n = 100000
	p.Fill(0, n, 7)
	for i := range 5 {
		s2.must(s2.QP.Read(i, []ndk.SGE{s2.SGE(1000+i*n, n)}, p2.MR.Base(), p2.MR.RemoteToken(), 0))
	}
	s.QP.Flush()
	for i := range 5 {
		s.expect(s.Received(), i, ntstatus.Cancelled, ndk.OpReceive)
	}
	for i := range 5 {
		s2.expect(s2.Done(), i, ntstatus.Success, ndk.OpRead)
		s2.equal(1000+i*n, n, p2, 0)
	}
	for i := range 5 {
		p2.must(p2.QP.Send("s", []ndk.SGE{p2.SGE(i, 50+i)}, ndk.SilentSuccess))
		s2.received(i, 50+i)
		s2.equal(i*100, 50+i, p2, i)
	}
	s2.exchange(p2)
	s.silence()
}

// Requests that were deferred and not handed on are cancelled too.
//
// Defer is no promise to hold a request back, so the first ones may have worked,
// and it may take another try to have one that did not.
func flushDeferred(t *T) {
	const n, tries = 5, 50
	for name, f := range map[string]ndk.OpFlags{"": 0, "silent": ndk.SilentSuccess} {
		t.Sub(name, func(t *T) {
			for range tries {
				s, p := t.Connected()
				for i := range n {
					s.must(s.QP.Receive(i, []ndk.SGE{s.SGE(0, 8)}))
					p.must(p.QP.Receive(i, nil))
				}
				for i := range n {
					flags := ndk.Defer
					if i < n-1 {
						flags |= f
					}
					s.must(s.QP.Send(i, nil, flags))
				}
				s.QP.Flush()
				for i := range n {
					s.expect(s.Received(), i, ntstatus.Cancelled, ndk.OpReceive)
				}
				worked := s.worksThenCancelled(0, n, ndk.OpSend, func(i int) bool { return f != 0 && i < n-1 })
				for i := range worked {
					p.received(i, 0)
				}
				if worked == n {
					continue
				}
				s.afterFlush(p, worked)
				s.silence()
				return
			}
			t.Errorf("%d times all deferred requests had worked before the Flush", tries)
		})
	}
}
