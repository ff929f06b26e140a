package smbdirect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// readDepths is the IRD/ORD Negotiate Header, [MS-SMBD] 6.1: the first eight
// octets of the private data on iWARP.
//
//	 0           4           8
//	+-----------+-----------+
//	|    IRD    |    ORD    |
//	+-----------+-----------+
type readDepths struct{ ird, ord uint32 }

const (
	readDepthsSize = 8
	// absurdDepth is a depth that no adapter has: RFC 6581 has 14 bits for it.
	absurdDepth = 1<<14 - 1
	maxDepth    = 255
)

// append writes big-endian numbers. The text gives no order; this is the one that
// Windows and current Linux have.
func (d readDepths) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, d.ird), d.ord)
}

// parseReadDepths reads the header of private data; ok is false if there is none.
// Older Linux on little-endian hosts writes its own order: a depth that makes no
// sense is read the other way round, and every depth is capped.
func parseReadDepths(b []byte) (d readDepths, ok bool) {
	if len(b) < readDepthsSize {
		return d, false
	}
	one := func(b []byte) uint32 {
		v := binary.BigEndian.Uint32(b)
		if v > absurdDepth {
			v = binary.LittleEndian.Uint32(b)
		}
		return min(v, maxDepth)
	}
	return readDepths{one(b), one(b[4:])}, true
}

// newConn makes everything a connection needs before its peer is asked, with a
// receive posted for the negotiation. It takes over the reference to dev. When it
// fails nothing is left.
func newConn(ctx context.Context, dev *device, cfg Config, role core.Role) (c *Conn, err error) {
	eng, err := core.New(cfg.engine(role))
	if err != nil {
		dev.release()
		return nil, err
	}
	c = &Conn{
		cfg: cfg, dev: dev, role: role, start: time.Now(),
		event:        ndk.NewEvent(),
		ready:        make(chan struct{}),
		closed:       make(chan struct{}),
		done:         make(chan struct{}),
		sending:      make(chan struct{}, sendQueueDepth),
		wake:         make(chan struct{}, 1),
		recvReady:    make(chan struct{}, 1),
		invalidation: dev.fast && !dev.info.Version.Less(ndk.Version12),
	}
	c.rdma.c = c
	c.regs.init(&dev.info, dev.fast, &cfg)
	l := &c.l
	l.eng = eng
	l.timer, l.stall = time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	l.stall.Stop()
	defer func() {
		if err != nil {
			c.die(err, false)
			c.teardown()
			c, err = nil, fmt.Errorf("smbdirect: %w", err)
		}
	}()
	info := &dev.info
	l.depth = [classes]int{
		classSend: cfg.SendDepth, classWrite: cfg.TransferDepth,
		classRead: cfg.OutboundReadLimit, classRegister: 2 * cfg.Registrations,
	}
	if sum := sumOf(l.depth); sum > info.MaxInitiatorQueueDepth {
		for k := range l.depth {
			l.depth[k] = max(1, l.depth[k]*info.MaxInitiatorQueueDepth/sum)
		}
	}
	depth := sumOf(l.depth)
	recvDepth := core.ReceiveDepth(uint16(cfg.ReceiveCreditMax)) + 1
	if recvDepth > info.MaxReceiveQueueDepth || l.depth[classSend] < cfg.SendDepth {
		return c, fmt.Errorf("queues of %d receives and %d requests: the adapter has %d and %d: %w",
			recvDepth, depth, info.MaxReceiveQueueDepth, info.MaxInitiatorQueueDepth, ntstatus.InsufficientResources)
	}
	l.queue = make([]entry, depth)
	if c.cq, err = dev.adapter.CreateCQ(ctx, ndk.CQConfig{Depth: depth + recvDepth, Notify: c.event.Notify}); err != nil {
		return c, err
	}
	c.qp, err = dev.pd.CreateQP(ctx, ndk.QPConfig{
		ReceiveCQ: c.cq, InitiatorCQ: c.cq, QPContext: c,
		ReceiveQueueDepth: recvDepth, InitiatorQueueDepth: depth,
		MaxReceiveSGE: 1, MaxInitiatorSGE: 1,
	})
	if err != nil {
		return c, err
	}
	if x, err := c.qp.Extension(ndk.CopyCounterExtension, ndk.Version{Major: 1}); err == nil {
		c.copies, _ = x.(ndk.CopyCounter)
	}
	if x, err := c.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1}); err == nil {
		c.file, _ = x.(ndk.FileWriter)
	}
	if l.page, err = dev.newRegion(ctx, pageSize, ndk.MRAllowLocalWrite); err != nil {
		return c, err
	}
	eng.Start(c.now())
	c.act()
	return c, c.deathOf()
}

func sumOf(d [classes]int) (n int) {
	for _, v := range d {
		n += v
	}
	return n
}

// deathOf returns why the loop died before it ran, nil if it did not.
func (c *Conn) deathOf() error {
	if !c.l.dead {
		return nil
	}
	var ce *closedError
	if err := c.err(); errors.As(err, &ce) && ce.cause != nil {
		return ce.cause
	}
	return c.err()
}

// abandon takes down a connection whose loop does not run yet.
func (c *Conn) abandon(err error) error {
	c.die(err, false)
	c.teardown()
	return fmt.Errorf("smbdirect: %w", err)
}

// negotiate starts the loop and waits until the connection is established.
func (c *Conn) negotiate(ctx context.Context) error {
	go c.run() // ended and waited for by Close, or here
	select {
	case <-c.ready:
		return nil
	default:
	}
	select {
	case <-c.ready:
		return nil
	case <-c.closed:
		select {
		case <-c.ready:
			return nil // established before it died; Receive tells
		default:
		}
		<-c.done
		return fmt.Errorf("smbdirect: negotiate: %w", c.err())
	case <-ctx.Done():
		c.fail(context.Cause(ctx))
		<-c.done
		return fmt.Errorf("smbdirect: negotiate: %w", context.Cause(ctx))
	}
}

// limits are the read depths that we ask for, within those of the adapter.
func (c *Conn) limits() (in, out int) {
	return min(c.cfg.InboundReadLimit, c.dev.info.MaxInboundReadLimit), min(c.cfg.OutboundReadLimit, c.dev.info.MaxOutboundReadLimit)
}

// setReadLimit settles how many Reads of ours may be under way.
func (c *Conn) setReadLimit(n int) {
	c.readLimit = min(n, c.l.depth[classRead])
	c.l.depth[classRead] = c.readLimit
}

// connect is 3.1.4.1 on the RDMA connection.
func (c *Conn) connect(ctx context.Context, dst netip.AddrPort) (err error) {
	if c.connector, err = c.dev.adapter.CreateConnector(ctx); err != nil {
		return err
	}
	in, out := c.limits()
	p := ndk.ConnParams{InboundReadLimit: in, OutboundReadLimit: out}
	iwarp := c.dev.info.Technology == ndk.TechnologyIWARP
	if iwarp && in > 0 && out > 0 && c.dev.info.MaxCallerData >= readDepthsSize {
		p.Private = readDepths{uint32(in), uint32(out)}.append(nil)
	}
	if err := c.connector.Connect(ctx, c.qp, netip.AddrPort{}, dst, p); err != nil {
		return err
	}
	buf := make([]byte, 512)
	data, err := c.connector.ConnectionData(buf)
	if err != nil && !errors.Is(err, ntstatus.BufferTooSmall) {
		return err
	}
	limit := data.OutboundReadLimit
	if d, ok := parseReadDepths(buf[:min(data.RequiredDataSize, len(buf))]); ok && iwarp {
		// Named from either side, depending on who wrote it; so the lesser of
		// the two is safe (SD-112). 0 is a peer that filled in nothing.
		if n := min(d.ird, d.ord); n > 0 {
			limit = min(limit, int(n))
		}
	}
	c.setReadLimit(limit)
	if err := c.connector.CompleteConnectEx(ctx, c.disconnected); err != nil {
		return err
	}
	c.setAddrs()
	c.l.eng.ConnectionUp()
	c.act()
	c.flush()
	return c.deathOf()
}

// accept is 3.1.7.2 on the RDMA connection.
func (c *Conn) accept(ctx context.Context) error {
	buf := make([]byte, 512)
	data, err := c.connector.ConnectionData(buf)
	if err != nil && !errors.Is(err, ntstatus.BufferTooSmall) {
		return err
	}
	in, out := c.limits()
	p := ndk.ConnParams{InboundReadLimit: in, OutboundReadLimit: out}
	limit := min(data.OutboundReadLimit, out)
	if d, ok := parseReadDepths(buf[:min(data.RequiredDataSize, len(buf))]); ok && c.dev.info.Technology == ndk.TechnologyIWARP {
		if d.ird == 0 || d.ord == 0 {
			_ = c.connector.Reject(nil) // SD-111; the peer may be gone, which is as good
			return ErrReadLimits
		}
		// The same number twice, so that it does not matter from which side the
		// peer takes the names (SD-112): what we may read from it.
		limit = min(limit, int(d.ird))
		if v := uint32(max(1, min(int(d.ird), out, in))); c.dev.info.MaxCalleeData >= readDepthsSize {
			p.Private = readDepths{v, v}.append(nil)
		}
	}
	c.setReadLimit(limit)
	c.setAddrs()
	return c.connector.AcceptEx(ctx, c.qp, p, c.disconnected)
}

// setAddrs notes both addresses. They are for logs and checks by the user, so one
// that is not known is left zero.
func (c *Conn) setAddrs() {
	c.local.Net, c.remote.Net = c.dev.name, c.dev.name
	c.local.AddrPort, _ = c.connector.LocalAddr()
	c.remote.AddrPort, _ = c.connector.PeerAddr()
}
