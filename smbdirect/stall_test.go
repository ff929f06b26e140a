package smbdirect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// unansweredQP belongs to a peer that never answers an RDMA Read.
type unansweredQP struct{ ndk.QP }

func (unansweredQP) Read(any, []ndk.SGE, uint64, ndk.Token, ndk.OpFlags) error { return nil }

// A peer that answers no Read does not keep the leased buffers, which others need.
func TestTransferThatNeverEnds(t *testing.T) {
	ctx := context.Background()
	l := listener(t, Config{})
	d, err := NewDialer(provider(t), "iwarp", Config{TransferTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	dev, err := d.device(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newConn(ctx, dev, d.cfg, core.Active)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.connect(ctx, netip.MustParseAddrPort(l.Addr().String())); err != nil {
		t.Fatal(c.abandon(err))
	}

	// Nothing under way, or something that moves, is no stall.
	if c.stallDue(); c.l.dead {
		t.Error("ended without a transfer")
	}
	c.l.out[classRead], c.l.moved = 1, c.l.at+time.Hour
	if c.stallDue(); c.l.dead {
		t.Error("ended while transfers move")
	}
	c.l.out[classRead], c.l.watching = 0, false

	c.qp = unansweredQP{c.qp}
	if err := c.negotiate(ctx); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	b, err := c.RDMA().Lease(ctx, 4096)
	if err != nil {
		t.Fatal(err)
	}
	err = c.RDMA().Read(ctx, b, 4096, []transport.Descriptor{{Token: 1, Length: 4096}})
	var te *core.TimeoutError
	if !errors.Is(err, net.ErrClosed) || !errors.As(err, &te) {
		t.Errorf("Read: %v, want a timeout that ended the connection", err)
	}
	b.Release()
	if _, err := server.Receive(ctx); err == nil {
		t.Error("the peer does not see the end")
	}
}
