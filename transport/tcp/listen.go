package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Scheme names this transport.
const Scheme = "tcp"

// Listener accepts direct-hosting connections. It implements
// [transport.Listener]; its methods may be called by many goroutines.
type Listener struct {
	cfg  Config
	ln   net.Listener
	pool pool
	open atomic.Int64 // connections that are not closed

	conns     chan *Conn    // from the accept loop; at most one waits in it
	stop      chan struct{} // closed by Close
	done      chan struct{} // closed by the accept loop when it ends
	closeOnce sync.Once
	closeErr  error // set before stop is closed
}

var _ transport.Listener = (*Listener)(nil)

// Listen listens on addr, HOST:PORT; an empty host is every address and port 0 a
// free one.
func Listen(ctx context.Context, addr string, cfg Config) (*Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	l, err := NewListener(ln, cfg)
	if err != nil {
		_ = ln.Close()
		return nil, err
	}
	return l, nil
}

// NewListener makes a Listener of ln, which it owns from then on. It fails for a
// Config out of range and then leaves ln alone.
func NewListener(ln net.Listener, cfg Config) (*Listener, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	l := &Listener{
		cfg: cfg, ln: ln,
		conns: make(chan *Conn), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go l.acceptLoop() // ended and waited for by Close
	return l, nil
}

// acceptLoop hands connections to Accept. While nobody accepts, one connection
// waits here and the rest in the backlog of the system.
func (l *Listener) acceptLoop() {
	defer close(l.done)
	delay := time.Duration(0)
	for {
		nc, err := l.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, or the peer was gone already: go on, but not
			// in a tight loop.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			l.cfg.Logger.Warn("accept", "addr", l.ln.Addr(), "err", err)
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-l.stop:
				t.Stop()
				return
			}
			continue
		}
		delay = 0
		if n := l.open.Add(1); l.cfg.MaxConns > 0 && n > int64(l.cfg.MaxConns) {
			l.open.Add(-1)
			l.cfg.Logger.Warn("connection refused: too many", "addr", nc.RemoteAddr(), "limit", l.cfg.MaxConns)
			_ = nc.Close()
			continue
		}
		c := newConn(nc, l.cfg, &l.pool, func() { l.open.Add(-1) })
		select {
		case l.conns <- c:
		case <-l.stop:
			_ = c.Close()
			return
		}
	}
}

// Accept implements transport.Listener. The connection has not sent a byte yet.
func (l *Listener) Accept(ctx context.Context) (transport.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("tcp: accept: %w", context.Cause(ctx))
	case <-l.done:
		return nil, fmt.Errorf("tcp: accept: %w", net.ErrClosed)
	}
}

// Close implements transport.Listener.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() {
		l.closeErr = l.ln.Close()
		close(l.stop)
	})
	<-l.done
	return l.closeErr
}

// Addr implements transport.Listener.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Scheme implements transport.Listener.
func (l *Listener) Scheme() string { return Scheme }

// Dialer makes direct-hosting connections. It implements [transport.Dialer]; its
// method may be called by many goroutines.
type Dialer struct {
	cfg  Config
	pool pool
	d    net.Dialer
}

var _ transport.Dialer = (*Dialer)(nil)

// NewDialer fails for a Config out of range.
func NewDialer(cfg Config) (*Dialer, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &Dialer{cfg: cfg}, nil
}

// Dial implements transport.Dialer.
func (d *Dialer) Dial(ctx context.Context, addr string) (transport.Conn, error) {
	nc, err := d.d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	return newConn(nc, d.cfg, &d.pool, nil), nil
}

// Scheme implements transport.Dialer.
func (d *Dialer) Scheme() string { return Scheme }
