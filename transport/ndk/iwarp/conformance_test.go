package iwarp

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndktest"
)

// The suite runs over each way of putting things on the wire.
func TestConformance(t *testing.T) {
	for _, tc := range []struct {
		name            string
		active, passive Config
		listen          string
	}{
		{"default", Config{}, Config{}, "127.0.0.1:0"},
		{"CRC, asked for by one", Config{CRC: true}, Config{}, "127.0.0.1:0"},
		{"segments of Ethernet", Config{MaxFPDU: 1460}, Config{MaxFPDU: 1460}, "127.0.0.1:0"},
		{"ready-to-receive by Write, IPv6", Config{RTR: RTRWrite | RTRRead}, Config{}, "[::1]:0"},
		{"ready-to-receive by Read", Config{RTR: RTRRead}, Config{}, "127.0.0.1:0"},
		{"ready-to-receive by Send, CRC", Config{RTR: RTRSend, CRC: true}, Config{CRC: true}, "127.0.0.1:0"},
		{"small socket buffers", Config{SendBuffer: 32 << 10, ReceiveBuffer: 64 << 10}, Config{SendBuffer: 32 << 10, ReceiveBuffer: 64 << 10}, "127.0.0.1:0"},
		{"sinks that need a right", Config{RequireReadSink: true}, Config{RequireReadSink: true}, "127.0.0.1:0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDevices()
			listen := netip.MustParseAddrPort(tc.listen)
			c := ndktest.Config{
				Column: "iwarp", Variant: tc.name,
				Listen: listen, Unpinned: true,
				AcceptWaits: tc.active.RTR != 0, ReadyByRead: tc.active.RTR&RTRRead != 0,
				ParseReason: ParseReason,
				Provider:    func(t testing.TB) ndk.Provider { return d.provider(t, tc.active) },
				Open: func(t testing.TB) (ndk.Adapter, ndk.Adapter) {
					return d.open(t, tc.active), d.open(t, tc.passive)
				},
				OpenImpatient: func(t testing.TB) (ndk.Adapter, ndk.Adapter) {
					return d.open(t, impatient(tc.active)), d.open(t, impatient(tc.passive))
				},
				Silent:      func(t testing.TB) netip.AddrPort { return silent(t, tc.listen) },
				FullAddress: d.fullAddress,
				Exhaust:     exhaust,
				FailCQ:      func(q ndk.CQ) { notify(q.(*soft.CQ), q.(*soft.CQ).Fail(ntstatus.InternalError)) },
				FailSRQ:     func(q ndk.SRQ) { notify(q.(*soft.SRQ), q.(*soft.SRQ).Fail()) },
				Leaks:       d.leaks,
			}
			if listen.Addr().Is4() {
				c.Listen6, c.Elsewhere = netip.MustParseAddrPort("[::1]:0"), netip.MustParseAddr("127.0.0.2")
			} else {
				c.Listen6 = netip.MustParseAddrPort("127.0.0.1:0")
			}
			ndktest.Run(t, c)
		})
	}
}

func impatient(c Config) Config {
	c.NegotiateTimeout, c.ConnectTimeout, c.LingerTimeout = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	return c
}

// notify runs a notification as a posting goroutine would have it run.
func notify(q interface{ Spawn() }, fire bool) {
	if fire {
		q.Spawn()
	}
}

// devices are the adapters that a run of the suite opened. They draw ports from a
// part of the range, so that a test can take all of it.
type devices struct {
	ports portRange
	mu    sync.Mutex
	open_ []*adapter // guarded by mu
}

func newDevices() *devices {
	const n = 1024
	first := int(ephemeral.first) + n*rand.IntN((int(ephemeral.last)-int(ephemeral.first)+1)/n)
	return &devices{ports: portRange{uint16(first), uint16(first + n - 1)}}
}

// watched is a provider whose adapters are the devices'.
type watched struct {
	ndk.Provider
	d *devices
}

func (w watched) Open(ctx context.Context, local netip.Addr, v ndk.Version) (ndk.Adapter, error) {
	a, err := w.Provider.Open(ctx, local, v)
	if err != nil {
		return nil, err
	}
	a.(*adapter).ports = w.d.ports
	w.d.mu.Lock()
	w.d.open_ = append(w.d.open_, a.(*adapter))
	w.d.mu.Unlock()
	return a, nil
}

func (d *devices) provider(t testing.TB, c Config) ndk.Provider {
	t.Helper()
	p, err := New(c)
	must(t, err)
	return watched{p, d}
}

func (d *devices) open(t testing.TB, c Config) ndk.Adapter {
	t.Helper()
	a, err := d.provider(t, c).Open(context.Background(), netip.Addr{}, ndk.Version11)
	must(t, err)
	return a
}

// leaks says what adapters that are closed still hold, and forgets them.
func (d *devices) leaks() (found []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keep := d.open_[:0]
	for _, a := range d.open_ {
		select {
		case <-a.Closed():
		default:
			keep = append(keep, a)
			continue
		}
		for k := ndk.ObjectUndefined + 1; k < ndk.ObjectMax; k++ {
			if n := a.Count(k); n != 0 {
				found = append(found, fmt.Sprintf("%d objects of the kind %v", n, k))
			}
		}
		if n := a.Registered(); n != 0 {
			found = append(found, fmt.Sprintf("%d bytes under a token or a mapping", n))
		}
		if n := a.Tokens(); n != 0 {
			found = append(found, fmt.Sprintf("%d tokens", n))
		}
	}
	d.open_ = keep
	return found
}

// fullAddress is an address of the loopback device at which somebody has each
// port that the adapters may draw.
func (d *devices) fullAddress(t testing.TB) netip.Addr {
	t.Helper()
	ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(256), 1+rand.IntN(250))
	for p := int(d.ports.first); p <= int(d.ports.last); p++ {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(p)))
		must(t, err)
		t.Cleanup(func() { l.Close() })
	}
	return netip.MustParseAddr(ip)
}

// silent makes a listener of TCP that never says anything.
func silent(t testing.TB, at string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", at)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// exhaust leaves no room for the objects that a function makes.
func exhaust(_ testing.TB, a ndk.Adapter, function string) (restore func()) {
	d := a.(*adapter)
	if function == "NDK_FN_BUILD_LAM" {
		return d.LimitMappings(0)
	}
	kind, ok := map[string]ndk.ObjectKind{
		"NDK_FN_CREATE_CQ": ndk.ObjectCQ, "NDK_FN_CREATE_PD": ndk.ObjectPD, "NDK_FN_CREATE_MR": ndk.ObjectMR, "NDK_FN_CREATE_MW": ndk.ObjectMW,
		"NDK_FN_CREATE_QP": ndk.ObjectQP, "NDK_FN_CREATE_QP_WITH_SRQ": ndk.ObjectQP, "NDK_FN_CREATE_SRQ": ndk.ObjectSRQ,
		"NDK_FN_CREATE_CONNECTOR": ndk.ObjectConnector, "NDK_FN_CREATE_LISTENER": ndk.ObjectListener,
		"NDK_FN_CREATE_SHARED_ENDPOINT": ndk.ObjectSharedEndpoint,
	}[function]
	if !ok {
		return nil
	}
	return d.Limit(kind, 0)
}
