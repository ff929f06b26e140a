package smbdirect

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Listener accepts SMB Direct connections. It implements [transport.Listener];
// its methods may be called by many goroutines.
//
// A connection is handed out when its negotiation is done, within 5 s of its
// arrival. Of those that are not there yet at most Config.MaxPending exist: a new
// one takes the place of the oldest, so that peers who never finish do not keep
// others out.
type Listener struct {
	cfg  Config
	dev  *device
	ln   ndk.Listener
	addr Addr

	ctx    context.Context // of the set-ups; ended by Close
	cancel context.CancelFunc
	setups sync.WaitGroup
	conns  chan *Conn // negotiated
	closed chan struct{}

	mu      sync.Mutex
	closing bool      // guarded by mu
	oldest  *pending  // guarded by mu; list of set-ups, by age
	newest  **pending // guarded by mu; where the next one goes
	waiting int       // guarded by mu; length of the list
	running int       // guarded by mu; set-ups, those on their way out too
	open    int       // guarded by mu; connections that are handed out and not closed
}

// pending is a connection that is being set up.
type pending struct {
	next   *pending
	cancel context.CancelFunc
	gone   bool
}

var _ transport.Listener = (*Listener)(nil)

// Listen opens the adapter of p that owns the host of addr and listens there.
// name is what the provider is called in logs and by Scheme, as "iwarp". addr is
// HOST:PORT or HOST; without a port it is that of [MS-SMBD] 1.9 for the adapter,
// port 0 is a free one.
func Listen(ctx context.Context, p ndk.Provider, name, addr string, cfg Config) (*Listener, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	host, _ := splitAddr(addr)
	ips, err := resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("smbdirect: listen %s: %w", addr, err)
	}
	dev, err := openDevice(ctx, p, name, ips[0], cfg.Memory)
	if err != nil {
		return nil, err
	}
	return listen(ctx, dev, ips[0], addr, cfg)
}

// NewListener is Listen on an adapter that stays the caller's. The adapter is
// closed after the Listener and all its connections.
func NewListener(ctx context.Context, a ndk.Adapter, name, addr string, cfg Config) (*Listener, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	host, _ := splitAddr(addr)
	ips, err := resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("smbdirect: listen %s: %w", addr, err)
	}
	dev, err := newDevice(ctx, a, name, cfg.Memory)
	if err != nil {
		return nil, err
	}
	return listen(ctx, dev, ips[0], addr, cfg)
}

func listen(ctx context.Context, dev *device, ip netip.Addr, addr string, cfg Config) (*Listener, error) {
	l := &Listener{cfg: cfg, dev: dev, conns: make(chan *Conn), closed: make(chan struct{})}
	l.newest = &l.oldest
	fail := func(err error) (*Listener, error) {
		if l.ln != nil {
			l.ln.Close()
			<-l.ln.Closed()
		}
		dev.release()
		return nil, fmt.Errorf("smbdirect: listen %s: %w", addr, err)
	}
	_, port := splitAddr(addr)
	n, err := portNumber(port, dev)
	if err != nil {
		return fail(err)
	}
	if l.ln, err = dev.adapter.CreateListener(ctx, l.arrived); err != nil {
		return fail(err)
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := l.ln.Listen(ctx, netip.AddrPortFrom(ip, n)); err != nil {
		l.cancel()
		return fail(err)
	}
	at, err := l.ln.LocalAddr()
	if err != nil {
		l.cancel()
		return fail(err)
	}
	l.addr = Addr{at, dev.name}
	return l, nil
}

// arrived is the connect event. It does not block.
func (l *Listener) arrived(conn ndk.Connector) {
	l.mu.Lock()
	if l.closing || l.running >= 2*l.cfg.MaxPending || !l.dev.retain() {
		l.mu.Unlock()
		conn.Close()
		return
	}
	if l.waiting == l.cfg.MaxPending {
		l.remove(l.oldest).cancel()
	}
	ctx, cancel := context.WithTimeout(l.ctx, l.cfg.negotiateTimeout(core.Passive))
	p := &pending{cancel: cancel}
	*l.newest = p
	l.newest = &p.next
	l.waiting++
	l.running++
	l.setups.Add(1)
	l.mu.Unlock()
	go func() { // ended by cancel or its timeout, waited for by Close
		defer l.setups.Done()
		l.setUp(ctx, conn, p)
		cancel()
	}()
}

// remove takes p out of the list, if it is there. l.mu is held.
func (l *Listener) remove(p *pending) *pending {
	if p.gone {
		return p
	}
	p.gone = true
	l.waiting--
	at := &l.oldest
	for *at != p {
		at = &(*at).next
	}
	if *at = p.next; *at == nil {
		l.newest = at
	}
	return p
}

// setUp takes a connection to the end of its negotiation and hands it to Accept.
func (l *Listener) setUp(ctx context.Context, conn ndk.Connector, p *pending) {
	c, err := l.negotiate(ctx, conn)
	l.mu.Lock()
	l.remove(p)
	l.running--
	full := l.cfg.MaxConns >= 0 && l.open >= l.cfg.MaxConns
	if err == nil && !full && !c.over {
		c.counted = true
		l.open++
	}
	l.mu.Unlock()
	if err != nil {
		l.cfg.Logger.Debug("connection not established", "err", err)
		return
	}
	if full {
		l.cfg.Logger.Warn("connection refused: too many", "conn", c.remote, "limit", l.cfg.MaxConns)
		_ = c.Close()
		return
	}
	// It waits for Accept as long as it lives.
	select {
	case l.conns <- c:
	case <-c.closed:
		_ = c.Close()
	case <-l.ctx.Done():
		_ = c.Close()
	}
}

// ended is the end of a connection of l.
func (l *Listener) ended(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.over = true
	if c.counted {
		l.open--
	}
}

// negotiate takes over the reference to the device that the connection needs.
func (l *Listener) negotiate(ctx context.Context, conn ndk.Connector) (*Conn, error) {
	c, err := newConn(ctx, l.dev, l.cfg, core.Passive)
	if err != nil {
		conn.Close()
		<-conn.Closed()
		return nil, err
	}
	c.connector = conn
	c.onClose = func() { l.ended(c) }
	if err := c.accept(ctx); err != nil {
		return nil, c.abandon(err)
	}
	if err := c.negotiate(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Accept implements transport.Listener.
func (l *Listener) Accept(ctx context.Context) (transport.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("smbdirect: accept: %w", context.Cause(ctx))
	case <-l.closed:
		return nil, fmt.Errorf("smbdirect: accept: %w", net.ErrClosed)
	}
}

// Close implements transport.Listener. Connections that are being set up end.
func (l *Listener) Close() error {
	l.mu.Lock()
	first := !l.closing
	l.closing = true
	l.mu.Unlock()
	if !first {
		<-l.closed
		return nil
	}
	l.ln.Close()
	l.cancel()
	<-l.ln.Closed()
	l.setups.Wait()
	l.dev.release()
	close(l.closed)
	return nil
}

// Addr implements transport.Listener. The address is an [Addr].
func (l *Listener) Addr() net.Addr { return l.addr }

// Scheme implements transport.Listener.
func (l *Listener) Scheme() string { return l.dev.name }

// splitAddr takes HOST:PORT apart; port is empty if there is none.
func splitAddr(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		if len(addr) > 1 && addr[0] == '[' && addr[len(addr)-1] == ']' {
			addr = addr[1 : len(addr)-1]
		}
		return addr, ""
	}
	return host, port
}

// portNumber is the number of a port, or that of SMB Direct for an empty one.
func portNumber(port string, dev *device) (uint16, error) {
	if port == "" {
		return dev.port(), nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q: %w", port, err)
	}
	return uint16(n), nil
}

// resolve returns the addresses of host, at least one; an empty host is any.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if host == "" {
		return []netip.Addr{netip.IPv6Unspecified()}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return ips, nil
}
