package iwarp

import (
	"context"
	"io"
	"net"
	"net/netip"
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

// MPA-03, MPA-07, MPA-08: what is no Request of MPA is closed at once and
// without an answer, long before the timer.
func TestWrongProtocol(t *testing.T) {
	_, addr := serve(t, Config{NegotiateTimeout: time.Hour})
	for name, b := range map[string][]byte{
		"direct TCP SMB":      {0, 0, 0, 4, 0xFE, 'S', 'M', 'B'},
		"a Reply":             vector(t, "mpa-rep-v1"),
		"revision 3":          append([]byte(requestKey), 0, 3, 0, 0),
		"private data":        append([]byte(requestKey), 0, 1, 2, 1),
		"enhanced, too short": append([]byte(requestKey), flagEnhanced, 2, 0, 3, 1, 2, 3),
	} {
		r := dialRaw(t, addr)
		r.write(b)
		if got, _ := io.ReadAll(r.conn); len(got) > 0 {
			t.Errorf("%s is answered with %x", name, got)
		}
	}
}

// The timer runs over the whole Request, however slowly it comes. MPA-06.
func TestNegotiateTimeout(t *testing.T) {
	_, addr := serve(t, Config{NegotiateTimeout: 30 * time.Millisecond})
	r := dialRaw(t, addr)
	r.write([]byte(requestKey)[:5])
	if got, err := io.ReadAll(r.conn); len(got) > 0 || err != nil {
		t.Errorf("%x, %v", got, err)
	}
}

// answerRaw is a passive raw peer: it takes one connection and answers with rep.
func answerRaw(t *testing.T, rep []byte) (netip.AddrPort, chan []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	rest := make(chan []byte, 1)
	go func() { // ends with the connection
		defer l.Close()
		c, err := l.Accept()
		if err != nil {
			rest <- nil
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := readStartup(c, false); err != nil {
			rest <- nil
			return
		}
		_, _ = c.Write(rep)
		_ = c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		rest <- b
	}()
	return l.Addr().(*net.TCPAddr).AddrPort(), rest
}

// The initiator against Replies: MPA-04, -05, -14, V2-06, V2-09, V2-15.
func TestReplies(t *testing.T) {
	frame := func(s startup) []byte {
		s.Reply = true
		b, err := s.AppendBinary(nil)
		must(t, err)
		return b
	}
	for _, tc := range []struct {
		name string
		cfg  Config
		rep  []byte
		want ndk.Status
		term *cause
	}{
		{"MPA-05 a Request", Config{}, vector(t, "mpa-req-v2"), ntstatus.ConnectionAborted, nil},
		{"MPA-14 reject", Config{}, frame(startup{Revision: 2, Flags: flagEnhanced | flagReject}), ntstatus.ConnectionRefused, nil},
		{"nothing", Config{}, nil, ntstatus.ConnectionRefused, nil},
		{"MPA-35 half a Reply", Config{}, vector(t, "mpa-rep-v2")[:22], ntstatus.ConnectionRefused, nil},
		{"V2-06 revision 1", Config{}, vector(t, "mpa-rep-v1"), ntstatus.ConnectionAborted, nil},
		{"V2-09 too many reads", Config{}, frame(startup{Revision: 2, Flags: flagEnhanced, ORD: maxReadLimit + 1}), ntstatus.ConnectionAborted, &causeMPAIRD},
		{"V2-15 no common kind", Config{RTR: RTRWrite}, frame(startup{Revision: 2, Flags: flagEnhanced, PeerToPeer: true, RTR: RTRRead}), ntstatus.ConnectionAborted, &causeMPARTR},
		{"accepted", Config{}, vector(t, "mpa-rep-v2"), ntstatus.Success, nil},
		{"accepted, revision 1", Config{Revision: 1}, vector(t, "mpa-rep-v1"), ntstatus.Success, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnd(t, tc.cfg, 4096)
			addr, rest := answerRaw(t, tc.rep)
			var err error
			e.c, err = e.a.CreateConnector(context.Background())
			must(t, err)
			err = e.c.Connect(context.Background(), e.qp, netip.AddrPort{}, addr, ndk.ConnParams{InboundReadLimit: 4, OutboundReadLimit: 4})
			if ndk.StatusOf(err) != tc.want && (err != nil || tc.want != ntstatus.Success) {
				t.Errorf("Connect: %v, want %v", err, tc.want)
			}
			e.close()
			b := <-rest
			if tc.term == nil {
				if len(b) > 0 {
					t.Errorf("the peer got %x", b)
				}
				return
			}
			if len(b) != fpduLen(untaggedLen+4) {
				t.Fatalf("the peer got %x, want a Terminate", b)
			}
			if c, _ := parseTerminate(b[lenField+untaggedLen:]); c != *tc.term {
				t.Errorf("Terminate says %v, want %v", c, *tc.term)
			}
		})
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
