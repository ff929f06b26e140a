package server

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// knowing is a listener whose connections know what has arrived: all, or of the first
// one nothing.
type knowing struct {
	*memconn.Listener
	mu       sync.Mutex
	accepted int
}

type knowingConn struct {
	transport.Conn
	silent bool
}

func (l *knowing) Accept(ctx context.Context) (transport.Conn, error) {
	c, err := l.Listener.Accept(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted++
	return knowingConn{c, l.accepted == 1}, nil
}

func (c knowingConn) Delivery() (transport.Delivery, bool) {
	d := transport.Delivery{Sent: c.Stats().BytesSent, Patience: time.Millisecond}
	if !c.silent {
		d.Acknowledged = d.Sent
	}
	return d, true
}

// 3.3.4.6: a notification that does not arrive goes by another channel as well.
func TestBreakThatDoesNotArrive(t *testing.T) {
	plain := newSite(t, memconn.Config{}, multichannel)
	srv := plain.srv
	srv.files.breakTimeout = time.Hour
	l := &knowing{Listener: memconn.Listen(memconn.Config{})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { srv.Close() })
	s := &site{t: t, srv: srv, dir: plain.dir, l: l.Listener, ctx: plain.ctx}

	p := s.login(smb2.DialectSMB311).mustConnect("data")
	q := p.bound()
	id := p.create(oplocked(createRequest("f", smb2.FileOpenIf), smb2.OplockLevelBatch))
	rival := s.login(smb2.DialectSMB311).mustConnect("data")
	rival.sign = true
	rival.post(rival.header(smb2.CommandCreate), createRequest("f", smb2.FileOpen))
	for i, c := range []*peer{p, q} {
		h, msg := c.answer()
		if h.Command != smb2.CommandOplockBreak {
			t.Fatalf("channel %d: %v, want a break", i, h.Command)
		}
		if m, err := smb2.ParseOplockBreakNotification(msg); err != nil || m.FileID != id || m.OplockLevel != smb2.OplockLevelII {
			t.Fatalf("channel %d: %+v, %v", i, m, err)
		}
	}
	st, _ := q.do(smb2.CommandOplockBreak, &smb2.OplockBreakAcknowledgment{FileID: id, OplockLevel: smb2.OplockLevelII})
	want(t, "acknowledgment", st, ntstatus.Success)
	for {
		h, _ := rival.answer()
		if h.Status != ntstatus.Pending {
			want(t, "the CREATE that waited", h.Status, ntstatus.Success)
			break
		}
	}
}
