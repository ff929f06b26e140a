package smbdtest

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
)

// A server that an earlier case wedged is waited for once. The cases that do not find
// it are not run; those after its return are.
func TestWatch(t *testing.T) {
	f := fabrics[0]
	f.run(t, func(t *testing.T) {
		p, host, underHost := f.open(t)
		peer, under := openAdapter(t, p, host), openAdapter(t, p, underHost)
		at := underHost.String() + ":0"
		serve := func() (stop func()) {
			l, err := smbdirect.NewListener(t.Context(), under, f.name, at, smbdirect.Config{})
			if err != nil {
				t.Fatal(err)
			}
			at = l.Addr().String()
			served := make(chan struct{})
			go func() { // ends with the listener; waited for by stop
				defer close(served)
				ServeEcho(l)
			}()
			return func() {
				_ = l.Close()
				<-served
			}
		}
		stop := serve()
		times := Times{React: 2 * time.Second, Patience: 20 * time.Second}
		w := watch{tg: Target{Provider: f.name, Adapter: peer, Address: netip.MustParseAddrPort(at), Upper: Echo{}, Times: times}}
		play := func(name string) Result {
			return w.run(t.Context(), Case{Name: name, Role: Acceptor, Run: func(_ context.Context, t *T) {
				t.LeaveOut("a part of %s", name)
				t.Establish(PeerConfig{}, Request())
			}})
		}
		if r := play("first"); r.Outcome != Pass || r.Why != "left out: a part of first" {
			t.Errorf("%s: %s", r.Outcome, r.Why)
		}
		stop()
		for _, c := range []struct {
			name     string
			patience time.Duration
		}{{"second", times.Patience}, {"third", times.React}} {
			r := play(c.name)
			if r.Outcome != NotRun || !strings.HasPrefix(r.Why, "the server does not answer since first: ") {
				t.Errorf("%s: %s: %s", c.name, r.Outcome, r.Why)
			}
			if r.Elapsed < c.patience || r.Elapsed > c.patience+2*times.React { // of the simulation's clock
				t.Errorf("%s: waited %v for the server, want %v", c.name, r.Elapsed, c.patience)
			}
		}
		stop = serve()
		defer func() { stop() }()
		if r := play("fourth"); r.Outcome != Pass {
			t.Errorf("%s: %s", r.Outcome, r.Why)
		}
		if r := RunCase(t.Context(), w.tg, Case{Name: "skipped", Role: Acceptor, Run: func(_ context.Context, t *T) {
			t.LeaveOut("a part")
			t.Skipf("all of it")
		}}); r.Outcome != Skipped || r.Why != "all of it" {
			t.Errorf("%s: %s", r.Outcome, r.Why)
		}
	})
}

// What is interrupted while it waits for a server is interrupted, not failed.
func TestWatchInterrupted(t *testing.T) {
	f := fabrics[0]
	f.run(t, func(t *testing.T) {
		p, host, underHost := f.open(t)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		w := watch{tg: Target{Provider: f.name, Adapter: openAdapter(t, p, host), Address: netip.AddrPortFrom(underHost, 1)}}
		r := w.run(ctx, Case{Name: "interrupted", Role: Acceptor, Run: func(context.Context, *T) {}})
		if r.Outcome != Skipped || !strings.HasPrefix(r.Why, "interrupted") {
			t.Errorf("%s: %s", r.Outcome, r.Why)
		}
	})
}
