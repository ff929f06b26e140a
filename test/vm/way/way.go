// Package way is how the programs of test/vm reach a server: with the providers
// that they are told, from the address that the routes choose.
package way

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// Provider is the RDMA provider of a name, iwarp or verbs.
func Provider(name string) (ndk.Provider, error) {
	switch name {
	case "iwarp":
		return iwarp.New(iwarp.Config{})
	case "verbs":
		return verbs.New(verbs.Config{})
	}
	return nil, fmt.Errorf("no provider %q", name)
}

// To makes a dialer for a server, by tcp, iwarp or verbs, and says what to dial.
// Port 0 is that of the transport. odd, which may be nil, changes the provider.
func To(name, host string, port int, log *slog.Logger, odd func(ndk.Provider) ndk.Provider) (transport.Dialer, string, error) {
	if name == "tcp" {
		if port == 0 {
			port = tcp.DefaultPort
		}
		d, err := tcp.NewDialer(tcp.Config{Logger: log})
		return d, net.JoinHostPort(host, strconv.Itoa(port)), err
	}
	p, err := Provider(name)
	if err != nil {
		return nil, "", err
	}
	if odd != nil {
		p = odd(p)
	}
	addr := host
	if port != 0 {
		addr = net.JoinHostPort(host, strconv.Itoa(port))
	}
	d, err := smbdirect.NewDialer(from{p, host}, name, smbdirect.Config{Logger: log})
	return d, addr, err
}

// from is a provider whose adapter for any address is the one on the way to host.
type from struct {
	ndk.Provider
	host string
}

// Open implements ndk.Provider.
func (p from) Open(ctx context.Context, local netip.Addr, v ndk.Version) (ndk.Adapter, error) {
	if !local.IsValid() || local.IsUnspecified() {
		// Nothing is sent.
		c, err := net.Dial("udp", net.JoinHostPort(p.host, "445"))
		if err != nil {
			return nil, err
		}
		local = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		c.Close()
	}
	return p.Provider.Open(ctx, local, v)
}
