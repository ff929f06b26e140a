package smbdtest

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// PeerListener waits for connections as a hostile or odd acceptor does. Requests
// that nobody takes are closed by Close.
type PeerListener struct {
	adapter ndk.Adapter
	ln      ndk.Listener
	addr    netip.AddrPort
	arrived chan ndk.Connector
}

// ListenPeer listens at addr, where port 0 is a free one, on an adapter that stays
// the caller's.
func ListenPeer(ctx context.Context, a ndk.Adapter, addr netip.AddrPort) (*PeerListener, error) {
	l := &PeerListener{adapter: a, arrived: make(chan ndk.Connector, 16)}
	var err error
	l.ln, err = a.CreateListener(ctx, func(c ndk.Connector) {
		select {
		case l.arrived <- c:
		default:
			c.Close()
		}
	})
	if err != nil {
		return nil, fmt.Errorf("smbdtest: %w", err)
	}
	if err = l.ln.Listen(ctx, addr); err == nil {
		l.addr, err = l.ln.LocalAddr()
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("smbdtest: listen %v: %w", addr, err)
	}
	if l.addr.Addr().IsUnspecified() {
		l.addr = netip.AddrPortFrom(addr.Addr(), l.addr.Port())
	}
	return l, nil
}

// Addr is where it listens.
func (l *PeerListener) Addr() netip.AddrPort { return l.addr }

// Next returns the next connection request, which the caller accepts with
// Peer.Accept, rejects or closes.
func (l *PeerListener) Next(ctx context.Context) (ndk.Connector, error) {
	select {
	case c := <-l.arrived:
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("smbdtest: no connection request: %w", context.Cause(ctx))
	}
}

// Accept takes the next connection request with a Peer of its own. before, which
// may be nil, runs before it is accepted: it posts receives.
func (l *PeerListener) Accept(ctx context.Context, c PeerConfig, before func(*Peer) error) (*Peer, error) {
	conn, err := l.Next(ctx)
	if err != nil {
		return nil, err
	}
	p, err := NewPeer(ctx, l.adapter, c)
	if err != nil {
		conn.Close()
		<-conn.Closed()
		return nil, err
	}
	if before != nil {
		if err := before(p); err != nil {
			p.conn = conn
			p.Close()
			return nil, err
		}
	}
	if err := p.Accept(ctx, conn); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close ends it.
func (l *PeerListener) Close() {
	l.ln.Close()
	<-l.ln.Closed()
	for {
		select {
		case c := <-l.arrived:
			c.Close()
			<-c.Closed()
		default:
			return
		}
	}
}
