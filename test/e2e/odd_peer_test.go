package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/smbdtest"
	smbdwire "github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// manner is how the SMB Direct of an odd acceptor behaves. Its SMB2 is that of a
// good server.
type manner struct {
	// response makes the Negotiate Response.
	response func(q smbdwire.NegotiateRequest) smbdwire.NegotiateResponse
	// refillAt is the number of credits that the client has left when it gets new
	// ones, up to the number granted first.
	refillAt int
	// first is the length of the first fragment of a longer message; 0: as long as
	// may be.
	first int
	// between: an empty message goes out between fragments.
	between bool
	// tokenFirst: a token goes with the first fragment, not the last.
	tokenFirst bool
	// noToken: tokens are left alive.
	noToken bool
	// extra: an empty message follows the client's first grant.
	extra bool
	// spoil, if not nil, does what it wants before the nth message of the server, with
	// the connection's lock held.
	spoil func(c *oddConn, nth int) error
}

// oddListener accepts connections as an odd acceptor does, for a server.
type oddListener struct {
	t      testing.TB
	ln     *smbdtest.PeerListener
	manner manner
	ctx    context.Context
	cancel context.CancelFunc
}

func listenOddly(t testing.TB, a ndk.Adapter, host netip.Addr, m manner) *oddListener {
	t.Helper()
	ln, err := smbdtest.ListenPeer(t.Context(), a, netip.AddrPortFrom(host, 0))
	must(t, err)
	l := &oddListener{t: t, ln: ln, manner: m}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *oddListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.ln.Addr()) }
func (l *oddListener) Scheme() string { return "odd" }

func (l *oddListener) Close() error {
	l.cancel()
	return nil
}

// Accept implements transport.Listener.
func (l *oddListener) Accept(ctx context.Context) (transport.Conn, error) {
	for {
		ctx, stop := context.WithCancel(ctx)
		after := context.AfterFunc(l.ctx, stop)
		p, err := l.ln.Accept(ctx, smbdtest.PeerConfig{}, func(p *smbdtest.Peer) error { return p.PostReceives(1, 512) })
		after()
		stop()
		if l.ctx.Err() != nil {
			l.ln.Close()
			return nil, net.ErrClosed
		}
		if err != nil {
			continue
		}
		c, err := l.negotiate(p)
		if err != nil {
			p.Close()
			continue
		}
		return c, nil
	}
}

func (l *oddListener) negotiate(p *smbdtest.Peer) (*oddConn, error) {
	m, err := p.Next(patience)
	if err != nil {
		return nil, err
	}
	q, err := smbdwire.ParseNegotiateRequest(m.Data)
	if err != nil {
		return nil, err
	}
	r := l.manner.response(q)
	s := smbdtest.NewStream(p)
	s.Established(int(r.MaxReceiveSize), int(r.MaxFragmentedSize), int(max(128, min(r.PreferredSendSize, q.MaxReceiveSize))), int(q.MaxFragmentedSize), 0)
	s.Requested = r.CreditsRequested
	if err := p.PostReceives(int(r.CreditsGranted), int(r.MaxReceiveSize)); err != nil {
		return nil, err
	}
	s.Granted = int(r.CreditsGranted)
	b, _ := r.AppendBinary(nil)
	if err := p.SendRaw(b); err != nil {
		return nil, err
	}
	return &oddConn{l: l, s: s, r: r}, nil
}

// oddConn is a connection of an oddListener. It is simple and slow.
type oddConn struct {
	l *oddListener
	r smbdwire.NegotiateResponse

	mu      sync.Mutex
	s       *smbdtest.Stream // guarded by mu
	ended   bool             // guarded by mu: for good
	sent    int              // guarded by mu: messages of the server
	written uint64           // guarded by mu: by RDMA
	read    uint64           // guarded by mu: by RDMA
	greeted bool             // guarded by mu
}

var errOdd = fmt.Errorf("odd connection: %w", net.ErrClosed)

// Receive implements transport.Conn.
func (c *oddConn) Receive(ctx context.Context) (*transport.Received, error) {
	for {
		c.mu.Lock()
		if c.ended {
			c.mu.Unlock()
			return nil, errOdd
		}
		m, err := c.s.Message(time.Millisecond)
		if err == nil || errors.Is(err, smbdtest.ErrSilent) {
			if e := c.keepUp(); e != nil {
				err = e
			}
		}
		c.mu.Unlock()
		switch {
		case err == nil:
			r := transport.NewReceived(func(*transport.Received) {})
			r.Data, r.Invalidated, r.HasInvalidated = m.Data, uint32(m.Token), m.Invalidated
			return r.Lend(), nil
		case !errors.Is(err, smbdtest.ErrSilent):
			return nil, io.EOF
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
		time.Sleep(100 * time.Microsecond) // for who wants to send
	}
}

// keepUp grants as the manner has it. c.mu is held.
func (c *oddConn) keepUp() error {
	if c.l.manner.extra && !c.greeted && c.s.Credits > 1 {
		c.greeted = true
		if err := c.s.SendEmpty(0); err != nil {
			return err
		}
	}
	if c.s.Granted > c.l.manner.refillAt || c.s.Credits == 0 {
		return nil
	}
	if err := c.s.Post(int(c.r.CreditsGranted) - c.s.Granted); err != nil {
		return err
	}
	return c.s.SendEmpty(0)
}

// Send implements transport.Conn.
func (c *oddConn) Send(_ context.Context, m *transport.Message) error {
	var b []byte
	for _, p := range m.Parts {
		b = append(b, p...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return errOdd
	}
	c.sent++
	if f := c.l.manner.spoil; f != nil {
		if err := f(c, c.sent); err != nil {
			return err
		}
	}
	for off := 0; off < len(b); {
		n := min(len(b)-off, c.s.SendSize-smbdwire.PayloadOffset)
		if k := c.l.manner.first; off == 0 && k > 0 && k < n {
			n = k
		}
		if err := c.s.WaitCredits(1, patience); err != nil {
			return errOdd
		}
		if err := c.keepUp(); err != nil {
			return errOdd
		}
		if err := c.s.WaitCredits(1, patience); err != nil {
			return errOdd
		}
		h := c.s.Header(n, uint32(len(b)-off-n))
		token := m.HasInvalidate && !c.l.manner.noToken && (c.l.manner.tokenFirst && off == 0 || !c.l.manner.tokenFirst && off+n == len(b))
		var err error
		if token {
			if err = c.s.SendInvalidate(smbdtest.Encode(h, b[off:off+n]), ndk.Token(m.Invalidate)); err == nil {
				c.s.Credits--
				c.s.Owed -= int(h.CreditsGranted)
				c.s.Granted += int(h.CreditsGranted)
			}
		} else {
			err = c.s.SendHeader(h, b[off:off+n])
		}
		if err != nil {
			return errOdd
		}
		off += n
		if c.l.manner.between && off < len(b) && c.s.Credits > 1 {
			if err := c.s.SendEmpty(0); err != nil {
				return errOdd
			}
		}
	}
	return nil
}

func (c *oddConn) MaxSendSize() int           { return c.s.MaxMessage }
func (c *oddConn) MaxReceiveSize() int        { return int(c.r.MaxFragmentedSize) }
func (c *oddConn) LocalAddr() net.Addr        { return c.l.Addr() }
func (c *oddConn) RemoteAddr() net.Addr       { return c.l.Addr() }
func (c *oddConn) RDMA() transport.RDMA       { return oddRDMA{c} }
func (c *oddConn) Stats() (s transport.Stats) { return s }

// Close implements transport.Conn.
func (c *oddConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended = true
		c.s.Close()
	}
	return nil
}

// oddRDMA is the RDMA side of an oddConn.
type oddRDMA struct{ c *oddConn }

type oddBuffer []byte

func (b oddBuffer) Bytes() []byte { return b }
func (b oddBuffer) Release()      {}

func (r oddRDMA) Lease(_ context.Context, n int) (transport.Buffer, error) {
	return make(oddBuffer, n), nil
}

// each calls f for the parts of n bytes that lie in one descriptor.
func (r oddRDMA) each(n int, remote []transport.Descriptor, f func(off int, d smbdwire.Descriptor) error) error {
	if transport.DescriptorsLen(remote) < uint64(n) {
		return transport.ErrDescriptors
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.ended {
		return errOdd
	}
	off := 0
	for _, d := range remote {
		k := min(n-off, int(d.Length))
		if k == 0 {
			continue
		}
		if err := f(off, smbdwire.Descriptor{Offset: d.Offset, Token: d.Token, Length: uint32(k)}); err != nil {
			return errOdd
		}
		off += k
	}
	return nil
}

func (r oddRDMA) Write(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor) error {
	return r.each(n, remote, func(off int, d smbdwire.Descriptor) error {
		r.c.written += uint64(d.Length)
		return r.c.s.WriteRemote(ctx, d, b.Bytes()[off:off+int(d.Length)])
	})
}

func (r oddRDMA) WriteFile(ctx context.Context, f *os.File, off int64, n int, remote []transport.Descriptor) (int, error) {
	b := make(oddBuffer, n)
	k, err := f.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return k, r.Write(ctx, b, n, remote)
}

func (r oddRDMA) Read(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor) error {
	return r.each(n, remote, func(off int, d smbdwire.Descriptor) error {
		r.c.read += uint64(d.Length)
		got, err := r.c.s.ReadRemote(ctx, d)
		copy(b.Bytes()[off:], got)
		return err
	})
}

func (r oddRDMA) Register(context.Context, []byte, transport.Access) (transport.Registration, error) {
	return nil, errors.ErrUnsupported
}
func (r oddRDMA) MaxReadWriteSize() int    { return int(r.c.r.MaxReadWriteSize) }
func (r oddRDMA) RemoteInvalidation() bool { return true }
func (r oddRDMA) ShortReads() bool         { return true }
func (r oddRDMA) Provider() string         { return "odd" }
