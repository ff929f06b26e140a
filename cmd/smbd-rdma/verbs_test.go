package main

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
)

// openedAt notes where it was asked to open an adapter.
type openedAt struct{ addr netip.Addr }

func (o *openedAt) Open(_ context.Context, local netip.Addr, _ ndk.Version) (ndk.Adapter, error) {
	o.addr = local
	return nil, ndk.ErrNotSupported
}

// The adapter for any address is that of the way to the host; one that is asked
// for by its address is not changed.
func TestAdapterOfTheWay(t *testing.T) {
	own, other := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")
	for asked, want := range map[netip.Addr]netip.Addr{
		{}:                      own,
		netip.IPv4Unspecified(): own,
		netip.IPv6Unspecified(): own,
		other:                   other,
	} {
		var o openedAt
		if _, err := (adapterOf{&o, own}).Open(t.Context(), asked, ndk.Version11); err == nil || o.addr != want {
			t.Errorf("asked for %v: opened at %v, %v; want %v", asked, o.addr, err, want)
		}
	}
}

func TestSourceFor(t *testing.T) {
	lo := netip.MustParseAddr("127.0.0.1")
	if got, err := sourceFor(lo); err != nil || got != lo {
		t.Errorf("source for %v: %v, %v", lo, got, err)
	}
}

// Loopback is no RDMA device, so auto does not try verbs there.
func TestAutoLeavesVerbsOutWithoutADevice(t *testing.T) {
	if rdmaTo(t.Context(), "127.0.0.1") {
		t.Error("an RDMA device is on the way to loopback")
	}
}

// What is asked for and is not there is said in one line.
func TestVerbsThatIsNotThere(t *testing.T) {
	for _, args := range [][]string{
		{"ls", "//127.0.0.1/x", "--transport", "verbs", "-U", "a%b"},
		{"serve", "--tcp", "none", "--rdma", "verbs://127.0.0.1", "--share", "x=" + t.TempDir(), "--user", "a%b"},
	} {
		code, _, stderr := execute(args...)
		if code != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "verbs") {
			t.Errorf("%v: exit status %d, %q", args, code, stderr)
		}
		if !verbs.Available && !strings.Contains(stderr, "make build VERBS=1") {
			t.Errorf("%v does not say how to get verbs: %q", args, stderr)
		}
	}
}

// Devices are listened on where the configuration lets the server listen.
func TestDeviceAddresses(t *testing.T) {
	devices := []verbs.DeviceInfo{
		{Active: true, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8::7")}},
		{Active: false, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.8")}},
	}
	for _, c := range []struct {
		bound []string
		want  string
	}{
		{nil, "192.0.2.7 2001:db8::7"},
		{[]string{"192.0.2.8", "2001:db8::7"}, "2001:db8::7"},
		{[]string{"127.0.0.1"}, ""},
	} {
		if got := strings.Join(deviceAddresses(devices, c.bound), " "); got != c.want {
			t.Errorf("bound to %v: %q, want %q", c.bound, got, c.want)
		}
	}
}
