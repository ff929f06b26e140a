package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/Mellanox/rdmamap"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
)

// verbsDialer dials by the RDMA device that the way to the host goes by.
type verbsDialer struct {
	provider ndk.Provider
	fab      fabric
}

func newVerbsDialer(fab fabric) (*verbsDialer, error) {
	p, err := verbs.New(verbs.Config{Logger: fab.log})
	if err != nil {
		return nil, err
	}
	return &verbsDialer{provider: p, fab: fab}, nil
}

// Scheme implements transport.Dialer.
func (d *verbsDialer) Scheme() string { return "verbs" }

// Dial implements transport.Dialer. Without a port in addr it is that of SMB
// Direct on the kind of device.
func (d *verbsDialer) Dial(ctx context.Context, addr string) (transport.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = addr, ""
	}
	ips, err := lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, ip := range ips {
		c, err := d.dial(ctx, ip, port)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (d *verbsDialer) dial(ctx context.Context, ip netip.Addr, port string) (transport.Conn, error) {
	local, err := sourceFor(ip)
	if err != nil {
		return nil, err
	}
	sd, err := smbdirect.NewDialer(adapterOf{d.provider, local}, "verbs", d.fab.direct())
	if err != nil {
		return nil, err
	}
	target := ip.String()
	if port != "" {
		target = net.JoinHostPort(target, port)
	}
	return sd.Dial(ctx, target)
}

// adapterOf is a provider whose adapter for any address is that of one address.
type adapterOf struct {
	ndk.Provider
	local netip.Addr
}

// Open implements ndk.Provider.
func (p adapterOf) Open(ctx context.Context, local netip.Addr, min ndk.Version) (ndk.Adapter, error) {
	if !local.IsValid() || local.IsUnspecified() {
		local = p.local
	}
	return p.Provider.Open(ctx, local, min)
}

// lookup returns the addresses of a host, at least one.
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return ips, err
}

// sourceFor is the address of this machine that the routes choose for a
// destination. Nothing is sent.
func sourceFor(dst netip.Addr) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, smbdirect.DefaultPort)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no way to %v: %w", dst, err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// rdmaTo reports whether an RDMA device has the address from which packets go to
// host, so that verbs is worth an attempt. It is quick and loads no library.
func rdmaTo(ctx context.Context, host string) bool {
	if !verbs.Available || !hasRDMAClass() {
		return false
	}
	ips, err := lookup(ctx, host)
	if err != nil {
		return false
	}
	for _, ip := range ips {
		if local, err := sourceFor(ip); err == nil && rdmaOwns(local) {
			return true
		}
	}
	return false
}

// hasRDMAClass reports whether the kernel has RDMA at all; rdmamap complains on
// standard error where it has not.
func hasRDMAClass() bool {
	_, err := os.Stat(rdmamap.RdmaClassDir)
	return err == nil
}

func rdmaOwns(local netip.Addr) bool {
	ifs, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, i := range ifs {
		for _, a := range addresses(i) {
			if ip, err := netip.ParseAddr(a); err == nil && ip.Unmap() == local.WithZone("") {
				dev, err := rdmamap.GetRdmaDeviceForNetdevice(i.Name)
				return err == nil && dev != ""
			}
		}
	}
	return false
}

// listenVerbs listens on HOST[:PORT]; without a host, or with an unspecified one,
// on every address of every active device, each on the port of SMB Direct for its
// kind unless a port is given.
func listenVerbs(ctx context.Context, addr string, fab fabric) ([]transport.Listener, error) {
	p, err := verbs.New(verbs.Config{Logger: fab.log})
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = addr, ""
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		l, err := smbdirect.Listen(ctx, p, "verbs", addr, fab.direct())
		if err != nil {
			return nil, err
		}
		return []transport.Listener{l}, nil
	}
	return listenDevices(ctx, p, port, nil, fab, func(_ string, err error) error { return err })
}

// deviceAddresses are the addresses of the active devices that may be listened on: all,
// or those of bound.
func deviceAddresses(devices []verbs.DeviceInfo, bound []string) (out []string) {
	for _, d := range devices {
		for _, ip := range d.Addresses {
			if addr := ip.Unmap().String(); d.Active && !ip.IsLinkLocalUnicast() && (bound == nil || slices.Contains(bound, addr)) {
				out = append(out, addr)
			}
		}
	}
	return out
}

// listenDevices listens on the addresses of the active devices, or on those of bound if
// that is not nil. failed is told of one that cannot be listened on; what it returns ends
// the attempt.
func listenDevices(ctx context.Context, p ndk.Provider, port string, bound []string, fab fabric, failed func(addr string, err error) error) ([]transport.Listener, error) {
	devices, err := verbs.Devices()
	if err != nil {
		return nil, err
	}
	var out []transport.Listener
	for _, addr := range deviceAddresses(devices, bound) {
		if port != "" {
			addr = net.JoinHostPort(addr, port)
		}
		l, err := smbdirect.Listen(ctx, p, "verbs", addr, fab.direct())
		if err == nil {
			out = append(out, l)
		} else if err := failed(addr, err); err != nil {
			closeAll(out)
			return nil, err
		}
	}
	if len(out) == 0 {
		err := failed(":"+port, errors.New("no RDMA device that is up has an address"))
		return nil, err
	}
	return out, nil
}

func closeAll(ls []transport.Listener) {
	for _, l := range ls {
		l.Close()
	}
}

// listenDefaultVerbs is what serve does with the RDMA devices when it is told
// nothing: it takes what it can get, of bound if that is not nil. An iWARP device whose TCP is that of the
// kernel, as siw, is served by the iwarp provider already.
func listenDefaultVerbs(ctx context.Context, bound []string, fab fabric) []transport.Listener {
	if !verbs.Available || !hasRDMAClass() {
		return nil
	}
	p, err := verbs.New(verbs.Config{Logger: fab.log})
	if err != nil {
		fab.log.Warn("RDMA devices are not served", "err", err)
		return nil
	}
	out, err := listenDevices(ctx, p, "", bound, fab, func(addr string, err error) error {
		fab.log.Info("not served by verbs", "addr", addr, "err", err)
		return nil
	})
	if err != nil {
		fab.log.Warn("RDMA devices are not served", "err", err)
	}
	return out
}
