package smbdirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

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
		ready:        make(chan struct{}),
		closed:       make(chan struct{}),
		left:         make(chan struct{}),
		done:         make(chan struct{}),
		driving:      true, // by the set-up
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
	if c.cq, err = dev.adapter.CreateCQ(ctx, ndk.CQConfig{Depth: depth + recvDepth, Notify: c.notify}); err != nil {
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
	if x, err := c.qp.Extension(ndk.PollerExtension, ndk.Version{Major: 1}); err == nil {
		c.poller, _ = x.(ndk.Poller)
	}
	if c.poller != nil { // which an adapter in hardware has no use for
		c.cfg = cfg.software()
		if l.eng, err = core.New(c.cfg.engine(role)); err != nil {
			return c, err
		}
		eng = l.eng
		l.depth[classSend] = min(l.depth[classSend], c.cfg.SendDepth)
	}
	if x, err := c.qp.Extension(ndk.HangupExtension, ndk.Version{Major: 1}); err == nil {
		c.hangup, _ = x.(ndk.Hangup)
	}
	if x, err := c.qp.Extension(ndk.PeerCounterExtension, ndk.Version{Major: 1}); err == nil {
		c.peers, _ = x.(ndk.PeerCounter)
	}
	if x, err := c.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1}); err == nil {
		c.file, _ = x.(ndk.FileWriter)
	}
	if l.page, err = dev.newRegion(ctx, pageSize, 0, ndk.MRAllowLocalWrite); err != nil {
		return c, err
	}
	c.tick()
	eng.Start(l.at)
	c.act()
	return c, c.deathOf()
}

func sumOf(d [classes]int) (n int) {
	for _, v := range d {
		n += v
	}
	return n
}

// deathOf returns why the connection died in the set-up, nil if it did not.
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

// abandon takes down a connection that the set-up owns.
func (c *Conn) abandon(err error) error {
	c.die(err, false)
	c.teardown()
	return fmt.Errorf("smbdirect: %w", err)
}

// negotiate ends the set-up's ownership and waits until the connection is
// established.
func (c *Conn) negotiate(ctx context.Context) error {
	c.l.ran = true
	go c.run() // ended and waited for by Close, or here
	c.tick()
	c.drive(driveRounds)
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
	if iwarp && in > 0 && out > 0 && c.dev.info.MaxCallerData >= core.ReadDepthsSize {
		p.Private, _ = core.ReadDepths{IRD: uint32(in), ORD: uint32(out)}.AppendBinary(nil)
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
	if d, ok := core.ParseReadDepths(buf[:min(data.RequiredDataSize, len(buf))]); ok && iwarp {
		limit = core.ReplyReadDepths(d, limit)
	}
	c.setReadLimit(limit)
	if err := c.connector.CompleteConnectEx(ctx, c.disconnected); err != nil {
		return err
	}
	c.setAddrs()
	c.tick()
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
	if d, ok := core.ParseReadDepths(buf[:min(data.RequiredDataSize, len(buf))]); ok && c.dev.info.Technology == ndk.TechnologyIWARP {
		reads, reply, ok := core.AcceptReadDepths(d, in, out)
		if !ok {
			_ = c.connector.Reject(nil) // SD-111; the peer may be gone, which is as good
			return ErrReadLimits
		}
		c.l.eng.PeerReadDepths(d)
		limit = min(limit, reads)
		if c.dev.info.MaxCalleeData >= core.ReadDepthsSize {
			p.Private, _ = reply.AppendBinary(nil)
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
