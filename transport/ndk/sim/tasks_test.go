package sim

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// A condition that takes what it asks for, as one that polls, loses nothing: once
// it held, the call returns and does not ask again.
func TestConditionHoldsOnce(t *testing.T) {
	for _, o := range []Order{InOrder, Shuffled} {
		w, s, p := connected(t, Config{Order: o})
		const messages = 5
		var got []int
		task := w.Go(func() {
			var r [1]ndk.Result
			for range messages {
				if err := w.RunUntil(func() bool { return p.rcq.Poll(r[:]) > 0 }); err != nil {
					t.Error(err)
					return
				}
				got = append(got, r[0].RequestContext.(int))
			}
		})
		for i := range messages {
			p.must(p.qp.Receive(i, nil))
			s.must(s.qp.Send(i, nil, ndk.SilentSuccess))
		}
		w.Run()
		if want := []int{0, 1, 2, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("polled %v, want %v", got, want)
		}
		select {
		case <-task.Ended():
		default:
			t.Error("the task still waits")
		}
	}
}

// When a call returns its condition holds: of two that wait for one thing, one
// gets it, and the other waits on.
func TestConditionHoldsAtReturn(t *testing.T) {
	for _, o := range []Order{InOrder, Shuffled} {
		w := newWorld(t, Config{Order: o})
		things, took := 0, 0
		for range 2 {
			w.Go(func() {
				if w.RunUntil(func() bool { return things > 0 }) == nil {
					things--
					took++
				}
			})
		}
		for i := range 2 {
			w.After(time.Duration(i+1)*time.Second, func() { things++ })
		}
		for i := range 2 {
			w.Advance(time.Second)
			if things != 0 || took != i+1 {
				t.Errorf("after %d s: %d things are left, %d were taken", i+1, things, took)
			}
		}
	}
}

// What a task does may be all that another waits for.
func TestTaskWakesTask(t *testing.T) {
	w := newWorld(t, Config{})
	const turns = 10
	at := 0
	for me := range 2 {
		w.Go(func() {
			for at < turns {
				if err := w.RunUntil(func() bool { return at%2 == me || at >= turns }); err != nil {
					t.Error(err)
					return
				}
				at++
			}
		})
	}
	w.Run()
	if at < turns {
		t.Errorf("%d turns, want %d", at, turns)
	}
}

// In auto mode no callback keeps the world from going on, that of a timer
// included.
func TestModeratedCallbackMayWait(t *testing.T) {
	w, s, p := autoPair(t)
	limit, cancel := context.WithTimeout(ctx, 30*time.Second) // reached by a failure only
	defer cancel()
	waited := make(chan error, 1)
	cq, err := p.a.CreateCQ(ctx, ndk.CQConfig{Depth: 8, Notify: func(ndk.Status) {
		c := make(chan struct{})
		w.After(time.Second, func() { close(c) })
		waited <- w.Wait(limit, c)
	}})
	p.must(err)
	p.must(cq.Moderate(500, ndk.Disabled))
	c := p.config()
	c.ReceiveCQ = cq
	qp, err := p.pd.CreateQP(ctx, c)
	p.must(err)
	old := p.qp
	p.qp = qp
	s.must(autoDial(limit, s, p))
	cq.Arm(ndk.ArmAny)
	p.must(qp.Receive("r", nil))
	s.must(s.qp.Send("s", nil, ndk.SilentSuccess))
	p.must(<-waited)
	old.Close()
	cq.Close()
}

// A world that is closed does not keep the Close of an adapter, which says what is
// left.
func TestAdapterCloseInClosedWorld(t *testing.T) {
	reports := make(chan string, 4)
	w, err := New(Config{Auto: true, Report: func(what string) { reports <- what }})
	if err != nil {
		t.Fatal(err)
	}
	a := mustOpen(t, w, addr("10.0.0.1"))
	if _, err := a.CreatePD(ctx); err != nil {
		t.Fatal(err)
	}
	w.Close()
	<-reports // that the adapter is open
	closed := make(chan struct{})
	go func() { a.Close(); close(closed) }() // ends with Close
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Fatal("Close waits for a PD that nobody closes, in a world that is closed")
	}
	if what := <-reports; what == "" {
		t.Error("nothing was reported")
	}
}

// autoPair is pairOf with a world that goes by itself.
func autoPair(t *testing.T) (w *World, s, p *side) {
	w = newWorld(t, Config{Auto: true, Hosts: testHosts, Report: func(what string) { t.Errorf("reported: %s", what) }})
	s, p = newSide(t, w, testHosts[0][0]), newSide(t, w, testHosts[1][0])
	t.Cleanup(func() { s.close(); p.close() })
	return w, s, p
}

// autoDial connects the two.
func autoDial(c context.Context, s, p *side) error {
	accepted := make(chan error, 1)
	l, err := p.a.CreateListener(c, func(k ndk.Connector) {
		p.c = k
		accepted <- k.Accept(c, p.qp, ndk.ConnParams{}, nil)
	})
	p.must(err)
	defer l.Close()
	at := netipPort(testHosts[1][0], 5445)
	p.must(l.Listen(c, at))
	s.c, err = s.a.CreateConnector(c)
	s.must(err)
	if err := s.c.Connect(c, s.qp, netipPort(testHosts[0][0], 0), at, ndk.ConnParams{}); err != nil {
		return err
	}
	if err := s.c.CompleteConnect(c, nil); err != nil {
		return err
	}
	return <-accepted
}
