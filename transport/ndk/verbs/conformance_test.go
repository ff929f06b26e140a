//go:build verbs && linux && cgo

package verbs

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndktest"
)

// Names of the environment of the tests that need a device.
const (
	envAddr   = "NDK_VERBS_ADDR"   // an address of the device
	envAddr6  = "NDK_VERBS_ADDR6"  // one of IPv6; optional
	envSilent = "NDK_VERBS_SILENT" // HOST:PORT that is reached and never answers; optional
)

// deviceAddr is the address of the device under test; without one the test is
// skipped.
func deviceAddr(t testing.TB) netip.Addr {
	t.Helper()
	s := os.Getenv(envAddr)
	if s == "" {
		t.Skipf("no device: set %s to an address of an RDMA device", envAddr)
	}
	return netip.MustParseAddr(s)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openAt(t testing.TB, c Config, addr netip.Addr) ndk.Adapter {
	t.Helper()
	p, err := New(c)
	must(t, err)
	a, err := p.Open(context.Background(), addr, ndk.Version11)
	must(t, err)
	return a
}

// iwarpLacks is what the connection manager and the drivers of iWARP devices do
// not let a provider have.
var iwarpLacks = map[string]string{
	"NDK_FN_SEND_AND_INVALIDATE":            "libsiw does not say which receives have invalidated a token, and siw invalidates any registration",
	"NDK_FN_REGISTER_MR/5":                  "siw serves a Read of a region that may be written locally, remote read or not",
	"NDK_FN_READ/3":                         "siw raises a read limit of 0",
	"NDK_FN_READ/4":                         "as NDK_FN_REGISTER_MR/5, and a Read that the peer refused is flushed like any other request",
	"NDK_FN_FAST_REGISTER/2":                "as NDK_FN_REGISTER_MR/5",
	"NDK_FN_ARM_CQ/2":                       "siw does not tell solicited messages from others",
	"NDK_FN_ARM_CQ/4":                       "as NDK_FN_ARM_CQ/2",
	"NDK_FN_ARM_CQ/5":                       "as NDK_FN_ARM_CQ/2",
	"NDK_FN_GET_CQ_RESULTS_EX/3":            "as NDK_FN_SEND_AND_INVALIDATE",
	"NDK_RESULT_EX/2":                       "as NDK_FN_SEND_AND_INVALIDATE",
	"NDK_OPERATION_TYPE/2":                  "as NDK_FN_SEND_AND_INVALIDATE",
	"NDK_FN_GET_LOCAL_TOKEN_FROM_MR/3":      "as NDK_FN_REGISTER_MR/5",
	"NDK_FN_GET_REMOTE_TOKEN_FROM_MR/4":     "as NDK_FN_SEND_AND_INVALIDATE",
	"NDK_FN_CONNECT/4":                      "the kernel cannot take back an iWARP request: the peer that accepts one learns only then that nobody waits for it",
	"NDK_FN_CONNECT_WITH_SHARED_ENDPOINT/3": "as NDK_FN_CONNECT/4",
	"NDK_FN_CLOSE_COMPLETION/4":             "as NDK_FN_CONNECT/4: the close of a connector that connects ends when the peer answers, or after the 10 s of the driver",
	"NDK_FN_ACCEPT/4":                       "siw raises the inbound limit of the passive side to what the active side asks for",
	"NDK_FN_ACCEPT_EX/1":                    "as NDK_FN_ACCEPT/4",
	"NDK_FN_GET_CONNECTION_DATA/5":          "as NDK_FN_ACCEPT/4",
}

// rxeLacks is what the driver of Linux's software RoCE does not let a provider
// have.
var rxeLacks = map[string]string{
	"NDK_FN_SEND_AND_INVALIDATE/4": "the kernel of the receiver does not survive the second invalidation of a window (rxe_invalidate_mw takes its region for granted)",
}

// The suite runs on the device that the environment names.
func TestConformance(t *testing.T) {
	addr := deviceAddr(t)
	probe := openAt(t, Config{}, addr)
	info, err := probe.Info(context.Background())
	must(t, err)
	probe.Close()

	c := ndktest.Config{
		Column: "verbs, rxe", Listen: netip.AddrPortFrom(addr, 0),
		Open: func(t testing.TB) (active, passive ndk.Adapter) {
			return openAt(t, Config{}, addr), openAt(t, Config{}, addr)
		},
		OpenImpatient: func(t testing.TB) (active, passive ndk.Adapter) {
			c := Config{ResolveTimeout: time.Second, ConnectTimeout: time.Second, DisconnectTimeout: time.Second}
			return openAt(t, c, addr), openAt(t, c, addr)
		},
		Provider: func(t testing.TB) ndk.Provider {
			p, err := New(Config{})
			must(t, err)
			return p
		},
		SendMeansDelivered: true, AcceptWaits: true, DataPadded: true,
		FullAddress: func(t testing.TB) netip.Addr { return fill(t, addr) },
		Exhaust:     exhaust,
		FailCQ:      func(q ndk.CQ) { q.(*cq).fail(ntstatus.InternalError) },
	}
	c.Lacks = rxeLacks
	if info.Technology == ndk.TechnologyIWARP {
		c.Column = "verbs, siw"
		c.SendMeansDelivered, c.AcceptWaits, c.DataPadded = false, false, false
		// An event that the kernel's iWARP connection manager has queued for a listener
		// and not yet handed up goes with the listener; the driver is not told to refuse.
		c.CloseDropsRequests = true
		c.Lacks = iwarpLacks
	}
	if info.MaxSRQDepth > 0 {
		c.FailSRQ = func(q ndk.SRQ) { q.(*srq).fail() }
	}
	if s := os.Getenv(envAddr6); s != "" {
		c.Listen6 = netip.AddrPortFrom(netip.MustParseAddr(s), 0)
	}
	if s := os.Getenv(envSilent); s != "" {
		c.Silent = func(testing.TB) netip.AddrPort { return netip.MustParseAddrPort(s) }
	}
	ndktest.Run(t, c)
}

// exhaust lets an adapter have no more objects of a kind.
func exhaust(_ testing.TB, a ndk.Adapter, function string) (restore func()) {
	kind, ok := map[string]ndk.ObjectKind{
		"NDK_FN_CREATE_CQ": ndk.ObjectCQ, "NDK_FN_CREATE_PD": ndk.ObjectPD, "NDK_FN_CREATE_MR": ndk.ObjectMR, "NDK_FN_CREATE_MW": ndk.ObjectMW,
		"NDK_FN_CREATE_QP": ndk.ObjectQP, "NDK_FN_CREATE_QP_WITH_SRQ": ndk.ObjectQP, "NDK_FN_CREATE_SRQ": ndk.ObjectSRQ,
		"NDK_FN_CREATE_CONNECTOR": ndk.ObjectConnector, "NDK_FN_CREATE_LISTENER": ndk.ObjectListener,
		"NDK_FN_CREATE_SHARED_ENDPOINT": ndk.ObjectSharedEndpoint,
	}[function]
	if !ok {
		return nil
	}
	return a.(*adapter).Limit(kind, 0)
}

type nobody struct{}

func (nobody) onEvent(*cmEvent) {}

// fill takes every port of NDK's range at an address until the test ends.
func fill(t testing.TB, addr netip.Addr) netip.Addr {
	t.Helper()
	a := openAt(t, Config{}, addr).(*adapter)
	var ids []*cmID
	t.Cleanup(func() {
		for _, id := range ids {
			id.destroy()
		}
		a.Close()
	})
	for port := ephemeralFirst; port <= ephemeralLast; port++ {
		id, err := a.cm.newID(nobody{})
		must(t, err)
		ids = append(ids, id)
		// One that is taken already serves as well.
		_ = id.bind(netip.AddrPortFrom(addr, uint16(port)))
	}
	return addr
}

// What the environment names is checked where it can do no harm.
func TestDevicesListsTheDevice(t *testing.T) {
	addr := deviceAddr(t)
	ds, err := Devices()
	must(t, err)
	for _, d := range ds {
		for _, a := range d.Addresses {
			if a != addr {
				continue
			}
			if !d.Active || d.Info.MaxInitiatorQueueDepth == 0 || len(d.NetDevices) == 0 {
				t.Errorf("%+v; want an active device with limits and a network device", d)
			}
			return
		}
	}
	t.Errorf("no device has %v: %s", addr, fmt.Sprintf("%+v", ds))
}
