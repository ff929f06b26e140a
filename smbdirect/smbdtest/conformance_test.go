package smbdtest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndkhook"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fabric is a provider under which the suite runs.
type fabric struct {
	name string
	// run runs f, where the clock is the one that the limits are for.
	run func(t *testing.T, f func(t *testing.T))
	// open makes the ends: the provider, the address of our peers and that of the
	// end under test.
	open func(t *testing.T) (p ndk.Provider, peer, under netip.Addr)
	// timers are the settings of our ends for cases that wait for their timers, and
	// timed what they mean for the cases; times is for the others.
	timers       smbdirect.Config
	timed, times Times
}

// settings are those of our ends for a case.
func (f fabric) settings(c Case) (smbdirect.Config, Times) {
	if c.Timers {
		return f.timers, f.timed
	}
	return smbdirect.Config{}, f.times
}

var fabrics = []fabric{
	{
		// Virtual time: the limits are those of the specification.
		name: "sim",
		run:  inBubble,
		open: func(t *testing.T) (p ndk.Provider, peer, under netip.Addr) {
			w, err := sim.New(sim.Config{
				Auto:   true,
				Info:   func(i *ndk.AdapterInfo) { i.Technology = ndk.TechnologyIWARP }, // for the IRD/ORD header
				Report: func(what string) { t.Errorf("reported: %s", what) },
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(w.Close)
			return w, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		},
		timed: Times{Credit: time.Minute, Patience: time.Hour},
	},
	{
		// The clock of the machine: timers are short.
		name: "iwarp",
		run:  func(t *testing.T, f func(t *testing.T)) { f(t) },
		open: func(t *testing.T) (p ndk.Provider, peer, under netip.Addr) {
			p, err := iwarp.New(iwarp.Config{})
			if err != nil {
				t.Fatal(err)
			}
			host := netip.MustParseAddr("127.0.0.1")
			return p, host, host
		},
		timers: smbdirect.Config{
			NegotiateTimeout: shortTimer, KeepaliveInterval: shortTimer, KeepaliveTimeout: shortTimer, CreditTimeout: shortTimer,
		},
		timed: Times{
			Negotiate: shortTimer, Keepalive: shortTimer, KeepaliveAnswer: shortTimer, Credit: shortTimer,
			React: 10 * time.Second, Quiet: 50 * time.Millisecond, Slack: shortTimer * 7 / 8,
		},
		times: Times{React: 10 * time.Second, Quiet: 50 * time.Millisecond},
	},
}

// inBubble is synctest.Test, except that what is skipped inside is skipped outside.
func inBubble(t *testing.T, f func(t *testing.T)) {
	skipped := false
	synctest.Test(t, func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		f(t)
	})
	if skipped {
		t.Skip("for the reason given above")
	}
}

// shortTimer stands for the timers of the specification on the clock of the
// machine.
const shortTimer = 600 * time.Millisecond

// openAdapter opens an adapter whose use is audited.
func openAdapter(t *testing.T, p ndk.Provider, a netip.Addr) ndk.Adapter {
	t.Helper()
	ad, err := p.Open(context.Background(), a, ndk.Version12)
	if err != nil {
		t.Fatal(err)
	}
	h := ndkhook.Wrap(ad, ndkhook.Config{Audit: true})
	t.Cleanup(func() {
		h.Close()
		h.Check(t)
	})
	return h
}

// TestConformance runs every case against the ends of this project.
func TestConformance(t *testing.T) {
	for _, f := range fabrics {
		t.Run(f.name, func(t *testing.T) {
			t.Run("acceptor", func(t *testing.T) {
				byRow(t, Acceptor, func(t *testing.T, c Case) { f.run(t, func(t *testing.T) { f.acceptor(t, c) }) })
			})
			t.Run("initiator", func(t *testing.T) {
				byRow(t, Initiator, func(t *testing.T, c Case) { f.run(t, func(t *testing.T) { f.initiator(t, c) }) })
			})
		})
	}
}

// byRow runs each case once, under the first of its rows, and shows it under the
// others.
func byRow(t *testing.T, r Role, run func(*testing.T, Case)) {
	type outcome struct{ ok, skipped bool }
	done := make(map[string]outcome)
	for _, row := range rowsOf(Cases(r)) {
		t.Run(row, func(t *testing.T) {
			for _, c := range Cases(r) {
				if !hasRow(c, row) {
					continue
				}
				t.Run(c.Name, func(t *testing.T) {
					o, ok := done[c.Name]
					if !ok {
						defer func() { done[c.Name] = outcome{!t.Failed(), t.Skipped()} }()
						run(t, c)
						return
					}
					switch {
					case o.skipped:
						t.Skip("see the first of its rows: " + c.Rows[0])
					case !o.ok:
						t.Error("failed; see the first of its rows")
					}
				})
			}
		})
	}
}

// acceptor runs c against a Listener of ours that has an echo above it.
func (f fabric) acceptor(t *testing.T, c Case) {
	if c.SMB2 {
		f.smb2Acceptor(t, c)
		return
	}
	f.served(t, c, Echo{}, func(r Result) { report(t, r) })
}

// served runs c against a Listener of ours with an echo above it, which c takes for
// upper.
func (f fabric) served(t *testing.T, c Case, upper Upper, result func(Result)) {
	cfg, times := f.settings(c)
	p, host, underHost := f.open(t)
	peer, under := openAdapter(t, p, host), openAdapter(t, p, underHost)
	l, err := smbdirect.NewListener(context.Background(), under, f.name, underHost.String()+":0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingListener{Listener: l}
	served := make(chan struct{})
	go func() { // ends with the listener; waited for below
		defer close(served)
		ServeEcho(counted)
	}()
	defer func() {
		_ = l.Close()
		<-served
	}()
	res := RunCase(context.Background(), Target{
		Provider: f.name,
		Adapter:  peer,
		Address:  netip.MustParseAddrPort(l.Addr().String()),
		Upper:    upper,
		Times:    times,
		Probe:    Probe{Settled: counted.settled},
		Limits:   Limits{ReceiveCreditMax: 255},
	}, c)
	result(res)
}

// initiator runs c against a Dialer of ours.
func (f fabric) initiator(t *testing.T, c Case) {
	cfg, times := f.settings(c)
	p, host, underHost := f.open(t)
	peer := openAdapter(t, p, host)
	d, err := smbdirect.NewDialer(auditedProvider{t, p, underHost}, f.name, cfg)
	if err != nil {
		t.Fatal(err)
	}
	report(t, RunCase(context.Background(), Target{
		Provider: f.name,
		Adapter:  peer,
		Local:    netip.AddrPortFrom(host, 0),
		Dial:     d.Dial,
		OpenSMB2: openSMB2,
		Times:    times,
		Limits:   Limits{ReceiveCreditMax: 255},
	}, c))
}

// auditedProvider opens adapters at one address, which are audited.
type auditedProvider struct {
	t *testing.T
	ndk.Provider
	host netip.Addr
}

func (p auditedProvider) Open(ctx context.Context, _ netip.Addr, v ndk.Version) (ndk.Adapter, error) {
	a, err := p.Provider.Open(ctx, p.host, v)
	if err != nil {
		return nil, err
	}
	h := ndkhook.Wrap(a, ndkhook.Config{Audit: true})
	p.t.Cleanup(func() { h.Check(p.t) })
	return h, nil
}

func report(t *testing.T, r Result) {
	t.Helper()
	switch r.Outcome {
	case Fail:
		t.Errorf("%s\n%s", r.Why, strings.Join(r.Steps, "\n"))
	case Skipped:
		t.Skip(r.Why)
	case Pass:
		if testing.Verbose() {
			t.Logf("%v\n%s", r.Case.Rows, strings.Join(r.Steps, "\n"))
		}
	}
}

func hasRow(c Case, row string) bool {
	for _, r := range c.Rows {
		if r == row {
			return true
		}
	}
	return false
}

func rowsOf(cases []Case) (rows []string) {
	seen := make(map[string]bool)
	for _, c := range cases {
		for _, r := range c.Rows {
			if !seen[r] {
				seen[r] = true
				rows = append(rows, r)
			}
		}
	}
	return rows
}

// countingListener counts the connections that are open.
type countingListener struct {
	transport.Listener
	n counter
}

func (l *countingListener) Accept(ctx context.Context) (transport.Conn, error) {
	c, err := l.Listener.Accept(ctx)
	if err != nil {
		return nil, err
	}
	l.n.add(1)
	return &countedConn{Conn: c, n: &l.n}, nil
}

func (l *countingListener) settled(ctx context.Context) error {
	select {
	case <-l.n.zero():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d connections are open", l.n.value())
	}
}

type countedConn struct {
	transport.Conn
	n    *counter
	once sync.Once
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.n.add(-1) })
	return err
}
