package smbdirect

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Dialer makes SMB Direct connections. It implements [transport.Dialer]; its
// method may be called by many goroutines. Connections that exist at the same
// time share an adapter; with the last of them it is closed, so a Dialer needs no
// Close. They do not share memory: see Config.Memory.
type Dialer struct {
	cfg      Config
	name     string
	provider ndk.Provider

	mu      sync.Mutex
	adapter ndk.Adapter // guarded by mu; nil without users
	users   int         // guarded by mu; devices on the adapter
}

var _ transport.Dialer = (*Dialer)(nil)

// NewDialer makes a Dialer on adapters of p. name is what the provider is called
// in logs and by Scheme, as "iwarp". It fails for a Config out of range.
func NewDialer(p ndk.Provider, name string, cfg Config) (*Dialer, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &Dialer{cfg: cfg, name: name, provider: p}, nil
}

// Scheme implements transport.Dialer.
func (d *Dialer) Scheme() string { return d.name }

// device makes a device for one connection, with a reference.
func (d *Dialer) device(ctx context.Context) (*device, error) {
	a, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	dev, err := newDevice(ctx, a, d.name, d.cfg.Memory)
	if err != nil {
		d.leave()
		return nil, err
	}
	dev.done = d.leave
	return dev, nil
}

// open returns the adapter, to be left again.
func (d *Dialer) open(ctx context.Context) (ndk.Adapter, error) {
	d.mu.Lock()
	defer d.mu.Unlock() // opening an adapter is quick, and once is enough
	if d.adapter == nil {
		a, err := d.provider.Open(ctx, netip.Addr{}, ndk.Version12)
		if err != nil {
			return nil, fmt.Errorf("smbdirect: open %s adapter: %w", d.name, err)
		}
		d.adapter = a
	}
	d.users++
	return d.adapter, nil
}

// leave closes the adapter behind its last user.
func (d *Dialer) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users--; d.users == 0 {
		d.adapter.Close()
		d.adapter = nil
	}
}

// Dial implements transport.Dialer: it connects, tries the addresses of the host
// one after another, and negotiates. Without a port in addr it is that of
// [MS-SMBD] 1.9 for the adapter; on InfiniBand and RoCE 5445 is tried after it.
func (d *Dialer) Dial(ctx context.Context, addr string) (transport.Conn, error) {
	host, port := splitAddr(addr)
	ips, err := resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("smbdirect: dial %s: %w", addr, err)
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.negotiateTimeout(core.Active))
	defer cancel()
	for _, ip := range ips {
		var c *Conn
		if c, err = d.dialPorts(ctx, ip, port); err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("smbdirect: dial %s: %w", addr, err)
}

// dialPorts tries the ports that a server at ip may listen on. Without one given
// that is, on InfiniBand and RoCE, also 5445: a Linux server that had an iWARP
// device too when it started listens there and nowhere else. On iWARP there is no
// second one, as 445 belongs to direct hosting.
func (d *Dialer) dialPorts(ctx context.Context, ip netip.Addr, port string) (*Conn, error) {
	dev, err := d.device(ctx)
	if err != nil {
		return nil, err
	}
	defer dev.release() // each attempt has a reference of its own
	n, err := portNumber(port, dev)
	if err != nil {
		return nil, err
	}
	c, err := d.dial(ctx, dev, netip.AddrPortFrom(ip, n))
	if err == nil || port != "" || n != DefaultPort || ctx.Err() != nil {
		return c, err
	}
	c, err2 := d.dial(ctx, dev, netip.AddrPortFrom(ip, DefaultIWARPPort))
	if err2 != nil {
		return nil, fmt.Errorf("port %d: %w; port %d: %w", n, err, DefaultIWARPPort, err2)
	}
	return c, nil
}

func (d *Dialer) dial(ctx context.Context, dev *device, dst netip.AddrPort) (*Conn, error) {
	if !dev.retain() {
		panic("smbdirect: device without users")
	}
	c, err := newConn(ctx, dev, d.cfg, core.Active)
	if err != nil {
		return nil, err
	}
	if err := c.connect(ctx, dst); err != nil {
		return nil, c.abandon(err)
	}
	if err := c.negotiate(ctx); err != nil {
		return nil, err
	}
	return c, nil
}
