package server

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Delivery implements transport.Deliverer.
func (c *halfGoneConn) Delivery() (transport.Delivery, bool) {
	if c.gone.Load() && c.asked != nil {
		select {
		case c.asked <- struct{}{}:
		default:
		}
	}
	return transport.Delivery{Ended: c.gone.Load()}, true
}

// halfGoneConn is a connection whose peer has gone, which who sends is told first: who
// receives hears of it when told is closed.
type halfGoneConn struct {
	transport.Conn
	gone  *atomic.Bool
	told  chan struct{}
	asked chan struct{} // is told when somebody asks whether the peer has gone
}

func (c *halfGoneConn) Send(ctx context.Context, m *transport.Message) error {
	if c.gone.Load() {
		return errors.New("connection reset by peer")
	}
	return c.Conn.Send(ctx, m)
}

func (c *halfGoneConn) Receive(ctx context.Context) (*transport.Received, error) {
	m, err := c.Conn.Receive(ctx)
	if err != nil && c.gone.Load() {
		<-c.told
	}
	return m, err
}

type halfGoneListener struct {
	*memconn.Listener
	gone  atomic.Bool
	told  chan struct{}
	asked chan struct{}
}

func (l *halfGoneListener) Accept(ctx context.Context) (transport.Conn, error) {
	c, err := l.Listener.Accept(ctx)
	return &halfGoneConn{c, &l.gone, l.told, l.asked}, err
}

// [MS-SMB2] 3.3.4.7: what a client has left behind that cannot be told of a break is
// closed, before somebody else gets what it had; no matter whether who sends or who
// receives has found its connection gone first. (Here it is who sends, on which Samba's
// smb2.durable-open.lease stumbled sometimes.)
func TestBreakToWhoHasGone(t *testing.T) {
	s, other, l := halfGone(t)
	p := other.login(smb2.DialectSMB311).mustConnect("data")
	q := s.login(smb2.DialectSMB311).mustConnect("data")
	_, had, _ := p.openAsking(durable1(t, leased(t, createRequest("f", smb2.FileCreate), 1, 1, cacheRWH)))
	l.gone.Store(true)
	_, got, _ := q.openAsking(durable1(t, leased(t, createRequest("f", smb2.FileOpen), 1, 2, cacheRWH)))
	close(l.told)
	if had != cacheRWH || got != cacheRWH {
		t.Errorf("the first got %v, the second %v; want %v", had, got, cacheRWH)
	}
}

// halfGone is a server that is reached by two listeners, of which the second's connections
// are half gone from when l.gone is set to when l.told is closed.
func halfGone(t *testing.T) (s, other *site, l *halfGoneListener) {
	s = newSite(t, memconn.Config{}, nil)
	l = &halfGoneListener{Listener: memconn.Listen(memconn.Config{}), told: make(chan struct{})}
	served := make(chan error, 1)
	ctx, stop := context.WithCancel(s.ctx)
	go func() { served <- s.srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		<-served
	})
	o := *s
	o.l = l.Listener
	return s, &o, l
}

// A client that comes again finds what it had, though the end of its old connection has
// not been seen yet by who receives from that.
func TestComingAgainAtOnce(t *testing.T) {
	exclusive := func(name string, d smb2.CreateDisposition) *smb2.CreateRequest {
		req := createRequest(name, d)
		req.ShareAccess = 0
		return req
	}
	for _, c := range []struct {
		name  string
		first func() *smb2.CreateRequest
		again func(id smb2.FileID) *smb2.CreateRequest
	}{
		{"a durable open", func() *smb2.CreateRequest {
			return durable1(t, oplocked(createRequest("f", smb2.FileCreate), smb2.OplockLevelBatch))
		}, func(id smb2.FileID) *smb2.CreateRequest { return reconnect1(t, "f", id) }},
		{"a file that was not shared", func() *smb2.CreateRequest { return exclusive("f", smb2.FileCreate) },
			func(smb2.FileID) *smb2.CreateRequest { return exclusive("f", smb2.FileOpen) }},
		{"a file that was to be deleted", func() *smb2.CreateRequest { return createRequest("to be deleted", smb2.FileCreate) },
			func(smb2.FileID) *smb2.CreateRequest { return exclusive("to be deleted", smb2.FileOpenIf) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, other, l := halfGone(t)
			l.asked = make(chan struct{}, 1)
			p := other.login(smb2.DialectSMB311).mustConnect("data")
			id := p.create(c.first())
			q := s.login(smb2.DialectSMB311).mustConnect("data")
			if strings.HasSuffix(c.name, "deleted") {
				want(t, "deleting it", p.set(id, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
			}
			l.gone.Store(true)
			p.c.Close()
			go func() {
				select {
				case <-l.asked:
				case <-s.ctx.Done():
				}
				close(l.told)
			}()
			st, _ := q.created(c.again(id))
			want(t, "CREATE", st, ntstatus.Success)
		})
	}
}
