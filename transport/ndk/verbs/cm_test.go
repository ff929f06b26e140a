//go:build verbs && linux && cgo

package verbs

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

func TestSockaddrRoundTrip(t *testing.T) {
	for _, s := range []string{"10.77.0.1:445", "0.0.0.0:0", "[2001:db8::1]:65535", "[::]:5445", "[fe80::1%7]:1"} {
		want := netip.MustParseAddrPort(s)
		ss := toSockaddr(want)
		if got := fromSockaddr(&ss); got != want {
			t.Errorf("%v came back as %v", want, got)
		}
	}
	ss := toSockaddr(netip.MustParseAddrPort("[::ffff:192.0.2.1]:9"))
	if got, want := fromSockaddr(&ss), netip.MustParseAddrPort("192.0.2.1:9"); got != want {
		t.Errorf("a mapped address came back as %v, want %v", got, want)
	}
	ss.ss_family = 16
	if got := fromSockaddr(&ss); got.IsValid() {
		t.Errorf("an address of another family is %v", got)
	}
}

// The statuses of the connection manager's errnos, from the mapping of NDK.
func TestStatusOfErrno(t *testing.T) {
	for _, tc := range []struct {
		errno syscall.Errno
		want  ndk.Status
	}{
		{0, ntstatus.Success},
		{syscall.EADDRINUSE, ntstatus.SharingViolation},
		{syscall.EADDRNOTAVAIL, ntstatus.InvalidAddress},
		{syscall.EHOSTUNREACH, ntstatus.HostUnreachable},
		{syscall.ENETUNREACH, ntstatus.NetworkUnreachable},
		{syscall.ETIMEDOUT, ntstatus.IOTimeout},
		{syscall.ECONNREFUSED, ntstatus.ConnectionRefused},
		{syscall.ECONNRESET, ntstatus.ConnectionRefused},
		{syscall.ENOMEM, ntstatus.InsufficientResources},
		{syscall.ENODEV, ntstatus.DeviceRemoved},
	} {
		if got := cmStatus(tc.errno); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.errno, got, tc.want)
		}
	}
}

// A rejection carries the reason of the peer's connection manager, and one by
// which nobody waited long enough is a timeout (InfiniBand, volume 1, 12.6.7.2).
func TestRejection(t *testing.T) {
	for _, tc := range []struct {
		status int
		want   ndk.Status
		reason uint32
	}{
		{28, ntstatus.ConnectionRefused, 28},                      // the consumer's
		{8, ntstatus.ConnectionRefused, 8},                        // nobody listens
		{4, ntstatus.IOTimeout, 4},                                // timeout
		{-int(syscall.ECONNRESET), ntstatus.ConnectionRefused, 0}, // of iWARP
	} {
		err := rejection(&cmEvent{status: tc.status})
		var f *cmFailure
		if !errors.As(err, &f) || !errors.Is(err, tc.want) || f.reason != tc.reason {
			t.Errorf("status %d: %v; want %v with reason %d", tc.status, err, tc.want, tc.reason)
		}
	}
}

func TestRandomPortIsOfTheRange(t *testing.T) {
	for range 1000 {
		if p := randomPort(); p < 49152 {
			t.Fatalf("port %d", p)
		}
	}
}

func TestMillis(t *testing.T) {
	for d, want := range map[time.Duration]int{0: 1, time.Microsecond: 1, 2 * time.Second: 2000, 1 << 62: 1 << 30} {
		if got := int(millis(d)); got != want {
			t.Errorf("%v: %d ms, want %d", d, got, want)
		}
	}
}

// Two connections of one adapter do not have the same two addresses.
func TestPairs(t *testing.T) {
	ch := &cmChannel{pairs: make(map[[2]netip.AddrPort]struct{})}
	a, b := netip.MustParseAddrPort("10.0.0.1:50000"), netip.MustParseAddrPort("10.0.0.2:445")
	c := netip.MustParseAddrPort("10.0.0.3:445")
	if !ch.claimPair(a, b) || ch.claimPair(a, b) || !ch.claimPair(a, c) {
		t.Error("a pair is claimed twice, or another one is not")
	}
	for _, tc := range []struct {
		local netip.AddrPort
		want  bool
	}{
		{a, true},
		{netip.MustParseAddrPort("0.0.0.0:50000"), true}, // the address is not chosen yet
		{netip.MustParseAddrPort("10.0.0.1:50001"), false},
		{netip.MustParseAddrPort("10.0.0.9:50000"), false},
	} {
		if got := ch.hasPair(tc.local, b); got != tc.want {
			t.Errorf("hasPair(%v) is %v", tc.local, got)
		}
	}
	ch.dropPair(a, b)
	if ch.hasPair(a, b) || !ch.hasPair(a, c) {
		t.Error("dropPair took the wrong one")
	}
}
