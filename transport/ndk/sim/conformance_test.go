package sim

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndktest"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// Of the network that the suite runs in.
var (
	activeAddr, passiveAddr = addr("10.0.0.1"), addr("10.0.0.2")
	passiveAddr6            = addr("fd00::2")
	fullAddr                = addr("10.0.0.9")
	elsewhereAddr           = addr("10.0.1.1")
	silentAddr              = addr("10.0.2.1")
	suiteHosts              = [][]netip.Addr{
		{activeAddr, passiveAddr, addr("fd00::1"), passiveAddr6, fullAddr}, {elsewhereAddr}, {silentAddr},
	}
)

// calls are the names by which faults know the functions of the header.
var calls = map[string]string{
	"NDK_FN_CREATE_CQ": "create CQ", "NDK_FN_CREATE_PD": "create PD", "NDK_FN_CREATE_CONNECTOR": "create connector",
	"NDK_FN_CREATE_LISTENER": "create listener", "NDK_FN_CREATE_SHARED_ENDPOINT": "create shared endpoint",
	"NDK_FN_CREATE_MR": "create MR", "NDK_FN_CREATE_MW": "create MW", "NDK_FN_CREATE_SRQ": "create SRQ",
	"NDK_FN_CREATE_QP": "create QP", "NDK_FN_CREATE_QP_WITH_SRQ": "create QP with SRQ", "NDK_FN_BUILD_LAM": "build LAM",
	"NDK_FN_REGISTER_MR": "register MR", "NDK_FN_INITIALIZE_FAST_REGISTER_MR": "initialize fast-register MR",
	"NDK_FN_RESIZE_CQ": "resize CQ", "NDK_FN_MODIFY_SRQ": "modify SRQ",
}

// suite is a world for the suite, with what was reported in it.
type suite struct {
	*World
	mu      sync.Mutex
	reports []string // guarded by mu
}

func newSuite(t *testing.T, c Config) *suite {
	s := &suite{}
	c.Auto, c.Hosts, c.Seed, c.CheckBuffers = true, suiteHosts, 1, true
	c.Report = func(what string) {
		s.mu.Lock()
		s.reports = append(s.reports, what)
		s.mu.Unlock()
	}
	s.World = newWorld(t, c)
	for _, a := range suiteHosts[0] {
		s.Block(a, silentAddr)
	}
	t.Cleanup(func() {
		for _, r := range s.misuse() {
			t.Errorf("reported: %s", r)
		}
	})
	return s
}

func (s *suite) misuse() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reports
	s.reports = nil
	return r
}

func (s *suite) open(t testing.TB) (active, passive ndk.Adapter) {
	return mustOpen(t, s.World, activeAddr), mustOpen(t, s.World, passiveAddr)
}

// fill takes every port of fullAddr, until the test ends.
func (s *suite) fill(t testing.TB) netip.Addr {
	b := &binding{}
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	for p := defaultFirstPort; p <= defaultLastPort; p++ {
		at := netip.AddrPortFrom(fullAddr, uint16(p))
		if s.ports.used[at] != nil {
			t.Fatalf("%v is in use", at)
		}
		s.ports.used[at] = b
		b.at = append(b.at, at)
	}
	t.Cleanup(func() { s.unbind(b) })
	return fullAddr
}

func (s *suite) exhaust(t testing.TB, a ndk.Adapter, function string) func() {
	call := calls[function]
	if call == "" {
		return nil
	}
	point := PointRequest
	if call[:6] == "create" {
		point = PointCreate
	}
	undo, err := s.Inject(Injection{Point: point, Object: a, Call: call, Times: -1})
	if err != nil {
		t.Fatal(err)
	}
	return undo
}

// The suite runs over each way in which a device without faults may behave.
func TestConformance(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    Config
	}{
		{"default", Config{}},
		{"a device that has less", Config{Info: func(i *ndk.AdapterInfo) {
			i.Flags, i.MaxSRQDepth, i.MaxWindowSize, i.MaxInlineDataSize, i.MaxReadRequestSGE = ndk.FlagLoopbackConnections, 0, 0, 0, 1
		}}},
		{"sends complete at the peer, read sinks needed, messages wait", Config{AckedSends: true, WaitForReceive: true, Info: func(i *ndk.AdapterInfo) {
			i.Flags &^= ndk.FlagRDMAReadSinkNotRequired
		}}},
		{"accept does not wait, private data padded", Config{EarlyAccept: true, PadPrivateData: true}},
		{"shuffled, delays", Config{Order: Shuffled, Jitter: 50 * time.Microsecond, Latency: 10 * time.Microsecond,
			Faults: Faults{PointDelay: 0.2, PointSlow: 0.2, PointNotify: 0.2}}},
		{"early completions, leftovers notify, slow wire", Config{AckedSends: true, BytesPerSecond: 1e9, Order: Shuffled,
			Faults: Faults{PointEarly: 0.5, PointLeftover: 0.5, PointDelay: 0.1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSuite(t, tc.c)
			hasty := tc.c
			hasty.Paced, hasty.ConnectTimeout, hasty.AnswerTimeout = true, 300*time.Millisecond, 300*time.Millisecond
			impatient := newSuite(t, hasty)
			column := "sim"
			if tc.c.EarlyAccept || tc.name == "a device that has less" {
				column = "" // a choice of the test, not a lack
			}
			ndktest.Run(t, ndktest.Config{
				Column: column, Variant: tc.name,
				Open: s.open, OpenImpatient: impatient.open, Provider: func(testing.TB) ndk.Provider { return s.World },
				Listen: netip.AddrPortFrom(passiveAddr, 0), Listen6: netip.AddrPortFrom(passiveAddr6, 0), Local: activeAddr,
				Elsewhere: elsewhereAddr, Silent: func(testing.TB) netip.AddrPort { return netip.AddrPortFrom(silentAddr, 5445) },
				SendMeansDelivered: tc.c.AckedSends, AcceptWaits: !tc.c.EarlyAccept, DataPadded: tc.c.PadPrivateData,
				FailCQ: s.FailCQ, FailSRQ: s.FailSRQ, Exhaust: s.exhaust, FullAddress: s.fill, Unpinned: true,
				Misuse: func(ndk.Adapter) []string { return s.misuse() },
				Leaks: func() (left []string) {
					s.ports.mu.Lock()
					defer s.ports.mu.Unlock()
					for at := range s.ports.used {
						if at.Addr() != fullAddr {
							left = append(left, "port "+at.String())
						}
					}
					slices.Sort(left)
					return left
				},
			})
		})
	}
}

func newWorld(t testing.TB, c Config) *World {
	t.Helper()
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func mustOpen(t testing.TB, w *World, a netip.Addr) ndk.Adapter {
	t.Helper()
	x, err := w.Open(context.Background(), a, ndk.Version21)
	if err != nil {
		t.Fatal(err)
	}
	return x
}
