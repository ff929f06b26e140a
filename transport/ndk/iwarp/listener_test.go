package iwarp

import (
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Peers that connect and never speak cost a bounded number of goroutines, are
// dropped oldest first, and keep out nobody who speaks. MPA-06, MPA-03.
func TestSilentPeers(t *testing.T) {
	const bound = 16
	s, addr := serve(t, Config{MaxHalfOpen: bound, NegotiateTimeout: time.Minute})
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for range 50 * bound {
		c, err := net.Dial("tcp", addr.String())
		must(t, err)
		defer c.Close()
		conns = append(conns, c)
	}
	// All but the last ones were dropped, in the order of their connects.
	for _, c := range conns[:len(conns)-bound-1] {
		must(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("an answer without a Request")
		}
	}
	if n := runtime.NumGoroutine() - before; n > bound+4 {
		t.Errorf("%d goroutines for silent peers, bound %d", n, bound)
	}
	r := dialRaw(t, addr)
	r.startup(startup{Revision: 2, Flags: flagEnhanced})
	must(t, <-s.accept)
	r.write(r.frame(writeSeg(0, 0)))
	must(t, s.qp.Send("s", nil, 0))
	if u := r.readFPDU(); len(u) != untaggedLen {
		t.Errorf("Send came as %x", u)
	}
}

// In steady state a transfer allocates nothing, on either side.
func TestNoAllocations(t *testing.T) {
	c, s := pair(t, Config{}, Config{}, 1<<20)
	defer s.close()
	defer c.close()
	one, in := []ndk.SGE{c.sge(0, 100)}, []ndk.SGE{s.sge(0, 100)}
	big := []ndk.SGE{c.sge(0, 200000)}
	addr, tok := s.mr.Base(), s.mr.RemoteToken()
	round := func() {
		must(t, s.qp.Receive(nil, in))
		must(t, c.qp.Write(nil, big, addr, tok, ndk.SilentSuccess|ndk.Defer))
		must(t, c.qp.Read(nil, big, addr, tok, ndk.SilentSuccess|ndk.Defer))
		must(t, c.qp.Send(nil, one, 0))
		if r := s.wait(); r.Status != ntstatus.Success {
			t.Fatal(r.Status)
		}
		if r := c.wait(); r.Status != ntstatus.Success {
			t.Fatal(r.Status)
		}
	}
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n >= 1 && !raceEnabled {
		t.Errorf("%v allocations for a Write, a Read and a Send", n)
	}
}
