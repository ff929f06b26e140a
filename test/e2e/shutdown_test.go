package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// Shutdown while clients write on both transports: what was acknowledged is
// there, what was not is there as a whole or not at all, and it ends.
func TestShutdownUnderLoad(t *testing.T) {
	for round := range 6 {
		impatient := round >= 4
		s := newSite(t, options{})
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var wg sync.WaitGroup
		ready := make(chan struct{}, 64)
		ledgers := map[string]*ledger{}
		var sessions []*client.Session
		for _, scheme := range []string{"tcp", "iwarp"} {
			sh, err := mount(ctx, dialer(t, scheme), s.addr(scheme), client.Config{})
			must(t, err)
			sessions = append(sessions, sh.Session())
			for k := range 2 {
				name := fmt.Sprint(scheme, k)
				f, err := sh.Create(ctx, name)
				must(t, err)
				l := &ledger{acked: map[int]byte{}, tried: map[int]byte{}}
				ledgers[name] = l
				for i := range 2 {
					wg.Go(func() {
						err := l.keep(ctx, f, i, 2, func(int) bool {
							select {
							case ready <- struct{}{}:
							default:
							}
							return true
						})
						if errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("%s hangs: %v", name, err)
						}
					})
				}
			}
		}
		for range 2 + 3*round {
			<-ready
		}
		limit := ctx
		if impatient {
			var stop context.CancelFunc
			limit, stop = context.WithCancel(ctx)
			stop()
		}
		err := s.srv.Shutdown(limit)
		if impatient != errors.Is(err, context.Canceled) || !impatient && err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		wg.Wait()
		for name, l := range ledgers {
			if err := l.judge(s.read(name)); err != nil {
				t.Errorf("round %d, %s: %v", round, name, err)
			}
		}
		for _, sess := range sessions {
			sess.Close()
		}
		for _, scheme := range []string{"tcp", "iwarp"} {
			if c, err := net.DialTimeout("tcp", s.addr(scheme), time.Second); err == nil {
				c.Close()
				t.Errorf("%s still listens", scheme)
			}
		}
	}
}

// Clients that ask and take no answers do not hold Shutdown up beyond its time.
func TestShutdownWithDeafPeers(t *testing.T) {
	s := newSite(t, options{})
	var peers []*peer
	for _, scheme := range []string{"tcp", "iwarp"} {
		var c wire
		if scheme == "tcp" {
			c = dialHosting(t, s.addr(scheme))
		} else {
			d := dialDirect(t, s.addr(scheme), false)
			c = d
		}
		p := newPeer(t, c)
		p.login()
		if h, _ := p.do(smb2.CommandWrite, writeOf(p, make([]byte, 60_000))); h.Status != 0 {
			t.Fatal(h.Status)
		}
		if d, ok := c.(*rawDirect); ok {
			d.ungranted = true
		}
		// Far more than the sockets hold: 120 answers of 60 KiB.
		for range 120 {
			m := readOf(p, 60_000)
			if err := c.Send(p.signed(p.element(p.header(smb2.CommandRead), m))); err != nil {
				break
			}
		}
		peers = append(peers, p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.srv.Shutdown(ctx) }()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Shutdown does not end")
	}
	for _, p := range peers {
		p.c.Close()
	}
}
