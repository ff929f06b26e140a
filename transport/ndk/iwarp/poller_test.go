package iwarp

import (
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

func poller(t *testing.T, e *end) ndk.Poller {
	t.Helper()
	x, err := e.qp.Extension(ndk.PollerExtension, ndk.Version{Major: 1})
	must(t, err)
	return x.(ndk.Poller)
}

// pollOne polls until a completion is there. It reports whether Poll brought something;
// else the QP's goroutine did.
func pollOne(p ndk.Poller, e *end, got *ndk.ResultEx) (polled bool) {
	var r [1]ndk.ResultEx
	for e.cq.PollEx(r[:]) == 0 {
		polled = p.Poll() || polled
	}
	*got = r[0]
	return polled
}

// A consumer may run the receiver, and stop, and go on, between any two octets of the
// stream, beside the goroutine that does so.
func TestPollAtEveryOctet(t *testing.T) {
	for _, crc := range []bool{false, true} {
		c, s := pair(t, Config{CRC: crc}, Config{}, 1<<16)
		p := poller(t, s)
		peer := c.qp.(*qp)
		r := &raw{conn: peer.conn, t: t, crc: crc}
		msn, polled := uint32(1), 0
		want := []byte{1, 2, 3, 4, 5}
		// Until the goroutine has once been slower than who polls.
		for cut, round := 1, 1; ; cut++ {
			f := r.frame(sendSeg(msn, 0, true, want...))
			if cut == len(f) {
				if polled > 0 || round == 100 {
					break
				}
				cut, round = 1, round+1
			}
			clear(s.mem[:8])
			must(t, s.qp.Receive(cut, []ndk.SGE{s.sge(0, 8)}))
			r.write(f[:cut])
			if p.Poll() {
				polled++
			}
			r.write(f[cut:])
			var got ndk.ResultEx
			if pollOne(p, s, &got) {
				polled++
			}
			if got.Status != ntstatus.Success || got.Bytes != 5 || got.RequestContext != cut || string(s.mem[:5]) != string(want) {
				t.Fatalf("cut behind octet %d: %+v, %v", cut, got, s.mem[:8])
			}
			msn++
		}
		if polled == 0 {
			t.Error("nothing was handled by who polls")
		}
		c.close()
		s.close()
	}
}

// One call takes in a bounded part of a transfer, though more of it is there, and says that
// something came. The QP's goroutine may be the one that receives, so there are transfers
// until a few calls have.
func TestPollIsBounded(t *testing.T) {
	const size = 8 << 20
	c, s := pair(t, Config{}, Config{}, size)
	p := poller(t, s)
	rx := s.qp.(*qp).rx
	for calls := 0; calls < 3; {
		must(t, s.qp.Receive(calls, []ndk.SGE{s.sge(0, 100)}))
		must(t, c.qp.Write(nil, []ndk.SGE{c.sge(0, size)}, s.mr.Base(), s.mr.RemoteToken(), ndk.SilentSuccess))
		must(t, c.qp.Send(nil, []ndk.SGE{c.sge(0, 100)}, 0))
		var r [1]ndk.ResultEx
		for s.cq.PollEx(r[:]) == 0 {
			if !p.Poll() {
				continue
			}
			calls++
			// The last read of a call may bring an FPDU more than it has left.
			if rx.taken > pollOctets+maxFPDU+stageBig {
				t.Fatalf("%d octets by one call, want about %d at most", rx.taken, pollOctets)
			}
		}
		if r[0].Status != ntstatus.Success || r[0].Bytes != 100 {
			t.Fatalf("%+v", r[0])
		}
		c.wait()
	}
	c.close()
	s.close()
}

// That the peer has ended the connection is told before anybody has received what it sent.
func TestHungUpBeforeItIsReceived(t *testing.T) {
	c, s := pair(t, Config{}, Config{}, 4096)
	q := s.qp.(*qp)
	h, err := s.qp.Extension(ndk.HangupExtension, ndk.Version{Major: 1})
	must(t, err)
	hungUp := h.(ndk.Hangup).HungUp
	if hungUp() {
		t.Error("a connection that is up has hung up")
	}
	must(t, s.qp.Receive(1, []ndk.SGE{s.sge(0, 100)}))
	for taken := false; !taken; { // so nobody else receives
		q.who.mu.Lock()
		if taken = !q.who.taken; taken {
			q.who.taken = true
			q.who.polls++
		}
		q.who.mu.Unlock()
	}
	must(t, c.qp.Send(nil, []ndk.SGE{c.sge(0, 100)}, 0))
	c.wait()
	gone := make(chan struct{})
	go func() { // ends when the other end has received that
		defer close(gone)
		c.close()
	}()
	for end := time.Now().Add(20 * time.Second); !hungUp(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the peer has gone, and that is not told")
		}
	}
	q.mu.Lock()
	state := q.state
	q.mu.Unlock()
	if state != qpActive {
		t.Error("the end was received")
	}
	q.who.mu.Lock()
	q.who.taken = false
	q.who.mu.Unlock()
	q.who.interrupt()
	if r := s.wait(); r.RequestContext != 1 || r.Bytes != 100 {
		t.Errorf("%+v", r)
	}
	<-gone
	s.close()
	if !hungUp() {
		t.Error("a connection that was closed is up")
	}
}

// Many may poll while others transfer, and while the connection ends; then Poll says that
// there is nothing.
func TestPollWhileItEnds(t *testing.T) {
	c, s := pair(t, Config{}, Config{}, 1<<20)
	p := poller(t, s)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.Poll()
				}
			}
		})
	}
	for i := range 50 {
		must(t, s.qp.Receive(i, []ndk.SGE{s.sge(0, 100)}))
		must(t, c.qp.Write(nil, []ndk.SGE{c.sge(0, 1<<20)}, s.mr.Base(), s.mr.RemoteToken(), ndk.SilentSuccess))
		must(t, c.qp.Send(nil, []ndk.SGE{c.sge(0, 100)}, 0))
		c.wait()
		if r := s.wait(); r.RequestContext != i || r.Bytes != 100 {
			t.Fatalf("%+v", r)
		}
	}
	s.c.Close() // which holds the QP
	s.qp.Close()
	<-s.qp.Closed()
	close(stop)
	wg.Wait()
	if p.Poll() {
		t.Error("something came from a QP that is closed")
	}
	c.close()
	s.close()
}

// Where who polls comes upon the peer's mistake, or its end, the goroutine hears of that and
// winds the connection up, though nothing more comes in.
func TestPollFindsTheEnd(t *testing.T) {
	for range 20 {
		c, s := pair(t, Config{}, Config{}, 1<<12)
		p := poller(t, s)
		must(t, s.qp.Receive(nil, []ndk.SGE{s.sge(0, 8)}))
		r := &raw{conn: c.qp.(*qp).conn, t: t}
		stop, polls := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(polls)
			for {
				select {
				case <-stop:
					return
				default:
					p.Poll()
				}
			}
		}()
		r.write(r.frame(sendSeg(9, 0, true))) // MSN 9 is the first
		got := make(chan ndk.ResultEx, 1)
		go func() { got <- s.wait() }()
		select {
		case e := <-got:
			if e.Status != ntstatus.Cancelled {
				t.Errorf("%+v", e)
			}
		case <-time.After(20 * time.Second):
			t.Error("nobody winds the connection up")
			s.qp.Close()
			<-got
		}
		close(stop)
		<-polls
		c.close()
		s.close()
		if t.Failed() {
			return
		}
	}
}
