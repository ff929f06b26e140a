package iwarp

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndktest"
)

// few are the ports that the adapters of the suite pick from, so few that a test
// can take them all.
var few = portRange{53248, 57343}

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
	} {
		t.Run(tc.name, func(t *testing.T) {
			open := func(t testing.TB, c Config) ndk.Adapter {
				p, err := New(c)
				must(t, err)
				a, err := p.Open(context.Background(), netip.Addr{}, ndk.Version11)
				must(t, err)
				a.(*adapter).ports = few
				return a
			}
			impatient := func(c Config) Config {
				c.ConnectTimeout, c.NegotiateTimeout = 200*time.Millisecond, 200*time.Millisecond
				return c
			}
			c := ndktest.Config{
				Column: "iwarp", Variant: tc.name,
				Listen: netip.MustParseAddrPort(tc.listen), Unpinned: true,
				AcceptWaits: tc.active.RTR != 0, ReadyByRead: tc.active.RTR&RTRRead != 0,
				ParseReason: ParseReason,
				Silent:      func(t testing.TB) netip.AddrPort { return silent(t, tc.listen) }, FullAddress: full,
				Provider: func(t testing.TB) ndk.Provider {
					p, err := New(tc.active)
					must(t, err)
					return p
				},
				Open: func(t testing.TB) (ndk.Adapter, ndk.Adapter) {
					return open(t, tc.active), open(t, tc.passive)
				},
				OpenImpatient: func(t testing.TB) (ndk.Adapter, ndk.Adapter) {
					return open(t, impatient(tc.active)), open(t, impatient(tc.passive))
				},
			}
			if c.Listen.Addr().Is4() {
				c.Listen6, c.Elsewhere = netip.MustParseAddrPort("[::1]:0"), netip.MustParseAddr("127.0.0.2")
			} else {
				c.Listen6 = netip.MustParseAddrPort("127.0.0.1:0")
			}
			ndktest.Run(t, c)
		})
	}
}

// silent makes a listener of TCP that never says anything.
func silent(t testing.TB, at string) netip.AddrPort {
	l, err := net.Listen("tcp", at)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// full takes the few ports of an address that nothing else uses, until the test
// ends.
func full(t testing.TB) netip.Addr {
	a := [4]byte{127, 83, 77, 66}
	for port := int(few.first); port <= int(few.last); port++ {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		// Who has it already keeps it as well as we do.
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: a}); err != nil && err != unix.EADDRINUSE {
			t.Fatal(err)
		}
	}
	return netip.AddrFrom4(a)
}
