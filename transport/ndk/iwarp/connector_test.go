package iwarp

import (
	"context"
	"net/netip"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// A connector that is closed while Accept is on its way stays whole until Accept
// returned, and gives its QP back.
func TestCloseDuringAccept(t *testing.T) {
	ctx := context.Background()
	s := newEnd(t, Config{}, 1<<16)
	got := make(chan ndk.Connector, 1)
	l, err := s.a.CreateListener(ctx, func(c ndk.Connector) { got <- c })
	must(t, err)
	must(t, l.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0")))
	addr, err := l.LocalAddr()
	must(t, err)
	r := dialRaw(t, addr)
	b, err := (&startup{Revision: revBase}).AppendBinary(nil)
	must(t, err)
	r.write(b)
	c := (<-got).(*connector)
	q := s.qp.(*qp)

	q.mu.Lock() // Accept gets as far as the QP
	res := make(chan error, 1)
	go func() { res <- c.Accept(ctx, s.qp, ndk.ConnParams{}, nil) }() // ends when mu is free
	for accepting := false; !accepting; {
		c.mu.Lock()
		accepting = c.state == connAccepting
		c.mu.Unlock()
	}
	c.Close()
	select {
	case <-c.Closed():
		t.Error("closed while Accept runs")
	default:
	}
	q.mu.Unlock()
	if <-res == nil {
		t.Error("Accept on a closed connector succeeded")
	}
	<-c.Closed()
	l.Close()
	s.close() // waits for the adapter, and so for the QP
}
