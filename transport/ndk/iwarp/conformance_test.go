package iwarp

import (
	"context"
	"net/netip"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
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
	} {
		t.Run(tc.name, func(t *testing.T) {
			ndktest.Run(t, ndktest.Config{
				Column: "iwarp", Variant: tc.name,
				Listen: netip.MustParseAddrPort(tc.listen), Unpinned: true,
				Provider: func(t testing.TB) ndk.Provider {
					p, err := New(tc.active)
					must(t, err)
					return p
				},
				Open: func(t testing.TB) (ndk.Adapter, ndk.Adapter) {
					open := func(c Config) ndk.Adapter {
						p, err := New(c)
						must(t, err)
						a, err := p.Open(context.Background(), netip.Addr{}, ndk.Version11)
						must(t, err)
						return a
					}
					return open(tc.active), open(tc.passive)
				},
			})
		})
	}
}
