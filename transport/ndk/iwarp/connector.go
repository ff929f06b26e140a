package iwarp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

type connState uint8

const (
	connIdle       connState = iota
	connConnecting           // Connect runs
	connAccepted             // the peer accepted; CompleteConnect or Reject is next
	connRequest              // passive: Accept or Reject is next
	connAccepting            // Accept runs
	connConnected
	connEnded // after a disconnect of ours or the peer's
	connFailed
)

// connector implements ndk.Connector.
type connector struct {
	soft.Object
	adapter *adapter
	passive bool

	mu      sync.Mutex
	state   connState // guarded by mu, as all below
	q       *qp
	conn    *net.TCPConn
	cancel  context.CancelFunc // of Connect or Accept while it runs
	local   netip.AddrPort
	peer    netip.AddrPort
	frame   startup // of the peer; its private data is a copy
	ours    startup // what we sent
	refused bool    // active: frame is a Reply that says no
	known   *tuple  // in the tuples of the provider, to be taken out
	limits  ndk.ConnData
	params  streamParams
	event   func(reason uint32)
	flushed bool // Disconnect ran
	leaving bool // Disconnect runs or ran, or Close
	gone    bool // the end of the connection was noticed
	silent  bool // and it is no news to the consumer
	reason  uint32
}

// CreateConnector implements ndk.Adapter.
func (a *adapter) CreateConnector(context.Context) (ndk.Connector, error) {
	c := &connector{adapter: a}
	if err := a.InitObject(&c.Object, ndk.ObjectConnector, c.forget, &a.Object); err != nil {
		return nil, wrap("create connector", ndk.StatusOf(err), nil)
	}
	return c, nil
}

// Close implements ndk.Object. It drops a connection, cancels a call under way
// and refuses a request without an answer.
func (c *connector) Close() {
	if !c.BeginClose() {
		return
	}
	c.mu.Lock()
	state, conn, q, cancel := c.state, c.conn, c.q, c.cancel
	c.leaving = true
	c.state = connFailed
	c.event = nil
	c.mu.Unlock()
	switch state {
	case connConnecting, connAccepting:
		if cancel != nil {
			cancel()
		}
		if state == connAccepting && q != nil {
			q.abort()
		}
	case connRequest:
		c.refuse(conn, nil)
	case connAccepted:
		c.giveUp(conn)
		q.unreserve()
	case connConnected, connEnded:
		q.abort()
	}
	c.Release()
}

// attach makes c a successor of q and takes q for it.
func (c *connector) attach(target ndk.QP) (*qp, ndk.Status) {
	q, ok := ndk.Unwrap(target).(*qp)
	if !ok || q.adapter != c.adapter {
		return nil, ntstatus.InvalidParameter
	}
	if st := q.reserve(); st != ntstatus.Success {
		return nil, st
	}
	if !c.Object.Attach(&q.Object) {
		return nil, ntstatus.InvalidDeviceState
	}
	return q, ntstatus.Success
}

// begin moves c from one state to the next for a call that waits. It takes a
// reference for the call, which releases it.
func (c *connector) begin(from, to connState, cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != from || c.Closing() {
		return false
	}
	c.state, c.cancel = to, cancel
	c.Retain() // the owner's is there still: Close gives it back after it had mu
	return true
}

// settle ends a call that waited; st is the state it leads to, unless the
// connector was closed meanwhile, for which it returns false.
func (c *connector) settle(st connState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = nil
	if c.Closing() {
		return false
	}
	c.state = st
	return true
}

// Connect implements ndk.Connector.
func (c *connector) Connect(ctx context.Context, target ndk.QP, src, dst netip.AddrPort, p ndk.ConnParams) error {
	return c.connect(ctx, "connect", target, src, nil, dst, p)
}

// ConnectShared implements ndk.Connector.
func (c *connector) ConnectShared(ctx context.Context, target ndk.QP, shared ndk.SharedEndpoint, dst netip.AddrPort, p ndk.ConnParams) error {
	const op = "connect with shared endpoint"
	ep, ok := ndk.Unwrap(shared).(*endpoint)
	if !ok || ep.adapter != c.adapter {
		return refused(op, ndk.ErrForeign)
	}
	return c.connect(ctx, op, target, ep.addr, ep, dst, p)
}

// connect is Connect, from a shared endpoint if there is one.
func (c *connector) connect(ctx context.Context, op string, target ndk.QP, src netip.AddrPort, ep *endpoint, dst netip.AddrPort, p ndk.ConnParams) error {
	if len(p.Private) > maxPrivate {
		return wrap(op, ntstatus.InvalidBufferSize, fmt.Errorf("%d bytes of private data, at most %d", len(p.Private), maxPrivate))
	}
	if !dst.IsValid() || dst.Port() == 0 || p.InboundReadLimit < 0 || p.OutboundReadLimit < 0 {
		return wrap(op, ntstatus.InvalidParameter, nil)
	}
	if a := c.adapter.local; a.IsValid() && ep == nil && src.Addr().IsValid() && !src.Addr().IsUnspecified() && src.Addr().Unmap() != a {
		return wrap(op, ntstatus.InvalidAddress, fmt.Errorf("the adapter is that of %v, not of %v", a, src.Addr()))
	}
	cfg := &c.adapter.cfg
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	if !c.begin(connIdle, connConnecting, cancel) {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	defer c.Release()
	q, st := c.attach(target)
	if st != ntstatus.Success {
		c.settle(connIdle)
		return wrap(op, st, nil)
	}
	if ep != nil && !c.Object.Attach(&ep.Object) {
		q.unreserve()
		c.settle(connIdle)
		return refused(op, ndk.ErrClosed)
	}
	conn, err := c.dial(ctx, src, ep, dst)
	if err == nil {
		err = c.negotiate(ctx, conn, p)
		if err != nil {
			_ = conn.Close()
		}
	}
	if err != nil {
		c.forget()
		q.unreserve()
		c.settle(connFailed)
		st := socketStatus(err)
		if cerr := ctx.Err(); cerr != nil && !errors.Is(err, ntstatus.ConnectionRefused) {
			st, err = ndk.StatusOf(cerr), cerr
		}
		return wrap(op, st, err)
	}
	c.mu.Lock()
	c.q, c.conn = q, conn
	c.mu.Unlock()
	if !c.settle(connAccepted) {
		c.giveUp(conn)
		q.unreserve()
		return wrap(op, ntstatus.Cancelled, nil)
	}
	return nil
}

// dial makes the TCP connection.
func (c *connector) dial(ctx context.Context, src netip.AddrPort, ep *endpoint, dst netip.AddrPort) (t *net.TCPConn, err error) {
	a := c.adapter
	addr := src.Addr().Unmap()
	if !addr.IsValid() || addr.IsUnspecified() {
		addr = a.local
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: addr.AsSlice(), Port: int(src.Port()), Zone: addr.Zone()}}
	named := tuple{netip.AddrPortFrom(addr, src.Port()), dst}
	try := func(port uint16) (done bool) {
		if dst == netip.AddrPortFrom(addr, port) {
			// TCP would connect the socket to itself where nobody listens.
			err = syscall.EADDRINUSE
			return false
		}
		d.LocalAddr.(*net.TCPAddr).Port = int(port)
		var conn net.Conn
		if conn, err = d.DialContext(ctx, "tcp", dst.String()); err == nil {
			t = conn.(*net.TCPConn)
			return true
		}
		// A port that is taken, at all or towards this peer, is not the business of
		// a consumer who left it to us.
		return ctx.Err() != nil || !errors.Is(err, syscall.EADDRINUSE) && (!errors.Is(err, syscall.EADDRNOTAVAIL) || badLocal(addr))
	}
	switch {
	case ep != nil:
		if !c.remember(named) {
			return nil, ntstatus.AddressAlreadyExists
		}
		d.Control = shareSource
		if err = ep.share(1); err == nil {
			try(src.Port())
		}
		if serr := ep.share(-1); err == nil && serr != nil {
			_ = t.Close()
			err = serr
		}
		if errors.Is(err, syscall.EADDRNOTAVAIL) { // in use until the last of an old connection has died away
			err = errors.Join(ntstatus.AddressAlreadyExists, err)
		}
	case src.Port() != 0:
		if try(src.Port()); err == nil {
			c.remember(tuple{unmapped(t.LocalAddr()), dst})
		} else if errors.Is(err, syscall.EADDRINUSE) && a.tuples.has(named) || errors.Is(err, syscall.EADDRNOTAVAIL) && !badLocal(addr) {
			err = errors.Join(ntstatus.AddressAlreadyExists, err)
		}
	default:
		// A port is free at an address. Bound to any it would have to be free at all
		// of them.
		if !addr.IsValid() {
			if addr, err = sourceFor(dst); err != nil {
				return nil, err
			}
			d.LocalAddr = &net.TCPAddr{IP: addr.AsSlice(), Zone: addr.Zone()}
		}
		d.Control = shareSource
		if !a.ports.each(try) {
			err = ntstatus.TooManyAddresses
		}
	}
	if err != nil {
		return nil, err
	}
	c.setAddrs(t)
	if err := a.tune(t); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// remember enters the connection into the tuples of the provider; false if it is
// there.
func (c *connector) remember(t tuple) bool {
	if !c.adapter.tuples.add(t) {
		return false
	}
	c.mu.Lock()
	c.known = &t
	c.mu.Unlock()
	return true
}

// forget undoes remember, if there is something to undo.
func (c *connector) forget() {
	c.mu.Lock()
	t := c.known
	c.known = nil
	c.mu.Unlock()
	if t != nil {
		c.adapter.tuples.remove(*t)
	}
}

// badLocal reports whether a is no address of this machine.
func badLocal(a netip.Addr) bool { return a.IsValid() && probeLocal(a) != nil }

// tune sets the options of a connection; TCP_NODELAY is on in Go (MPA-33).
func (a *adapter) tune(t *net.TCPConn) error {
	if n := a.cfg.SendBuffer; n > 0 {
		if err := t.SetWriteBuffer(n); err != nil {
			return err
		}
	}
	if n := a.cfg.ReceiveBuffer; n > 0 {
		return t.SetReadBuffer(n)
	}
	return nil
}

func (c *connector) setAddrs(t *net.TCPConn) {
	c.mu.Lock()
	c.local, c.peer = unmapped(t.LocalAddr()), unmapped(t.RemoteAddr())
	c.mu.Unlock()
}

// readStartup reads exactly one startup frame; no octet behind it is touched
// (MPA-09). The deadline is the caller's.
func readStartup(conn io.Reader, reply bool) (startup, error) {
	buf := make([]byte, startupLen, startupLen+maxPDLen)
	n := 0
	for n < startupLen {
		k, err := conn.Read(buf[n:startupLen])
		n += k
		if pd, perr := parseStartupHeader(buf[:n], reply); perr == nil {
			buf = buf[:startupLen+pd]
			break
		} else if perr != errShort {
			return startup{}, perr // at once, not after more of a wrong protocol
		}
		if err != nil {
			return startup{}, err
		}
	}
	if _, err := io.ReadFull(conn, buf[startupLen:]); err != nil {
		return startup{}, err
	}
	return parseStartup(buf, reply)
}

// negotiate exchanges the startup frames of the active side.
func (c *connector) negotiate(ctx context.Context, conn *net.TCPConn, p ndk.ConnParams) (err error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err() // the deadline of the connection has passed with it
		}
	}()
	cfg := &c.adapter.cfg
	ird, ord := min(p.InboundReadLimit, maxReadLimit), min(p.OutboundReadLimit, maxReadLimit)
	req := startup{Revision: byte(cfg.Revision), Private: p.Private}
	if cfg.CRC {
		req.Flags |= flagCRC
	}
	if cfg.Revision == revEnhanced {
		req.Flags |= flagEnhanced
		req.IRD, req.ORD, req.PeerToPeer, req.RTR = ird, ord, cfg.RTR != 0, cfg.RTR
		if cfg.RTR&RTRRead != 0 {
			req.ORD = max(ord, 1) // V2-17
		}
	}
	frame, err := req.AppendBinary(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(frame); err != nil {
		return err
	}
	c.mu.Lock()
	c.ours = req
	c.mu.Unlock()
	rep, err := readStartup(conn, true)
	if err != nil {
		cfg.Tap.ended(c, conn, nil)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: closed without a Reply", ntstatus.ConnectionRefused)
		}
		if errors.Is(err, errBadKey) || errors.Is(err, errBadPDLen) || errors.Is(err, errBadRevision) || errors.Is(err, errEnhanced) {
			return errors.Join(ntstatus.ConnectionAborted, err)
		}
		return err
	}
	lim := ndk.ConnData{InboundReadLimit: ird, OutboundReadLimit: ord, RequiredDataSize: len(rep.Private)}
	if rep.Flags&flagEnhanced != 0 && cfg.Revision == revEnhanced {
		if rep.ORD != depthNotNegotiated {
			lim.InboundReadLimit = min(ird, rep.ORD)
		}
		if rep.IRD != depthNotNegotiated {
			lim.OutboundReadLimit = min(ord, rep.IRD)
		}
	}
	c.mu.Lock()
	c.frame, c.limits = rep, lim // V2-11: also on a reject
	c.refused = rep.Flags&flagReject != 0
	c.mu.Unlock()
	if rep.Flags&flagReject != 0 {
		cfg.Tap.ended(c, conn, &rep)
		return fmt.Errorf("%w: rejected by the peer", ntstatus.ConnectionRefused)
	}
	sp := streamParams{
		conn: conn, crc: cfg.CRC || rep.Flags&flagCRC != 0, markers: rep.Flags&flagMarkers != 0, ird: ird, ord: ord,
	}
	if cfg.Revision == revEnhanced {
		if rep.Flags&flagEnhanced == 0 { // V2-06
			return fmt.Errorf("%w: the peer answered without enhanced data", ntstatus.ConnectionAborted)
		}
		if rep.ORD != depthNotNegotiated {
			// V2-08: what the peer says it will use is what it may use, even if
			// that is more than was offered, as far as there is room (V2-09).
			if sp.ird = rep.ORD; sp.ird > maxReadLimit {
				c.refuseWith(sp, causeMPAIRD)
				return fmt.Errorf("%w: the peer wants %d reads at once", ntstatus.ConnectionAborted, rep.ORD)
			}
		}
		sp.ord, sp.noReads = lim.OutboundReadLimit, lim.OutboundReadLimit == 0
		if cfg.RTR != 0 && rep.PeerToPeer {
			if sp.rtr = cfg.RTR & rep.RTR; sp.rtr == 0 { // V2-15
				c.refuseWith(sp, causeMPARTR)
				return fmt.Errorf("%w: no common ready-to-receive message", ntstatus.ConnectionAborted)
			}
			if sp.rtr == RTRRead {
				sp.ord = max(sp.ord, 1)
			}
		}
	}
	c.mu.Lock()
	c.params = sp
	c.mu.Unlock()
	return nil
}

// giveUp ends a connection that the peer accepted and this side does not want any
// more. An enhanced peer hears of it (V2-18).
func (c *connector) giveUp(conn *net.TCPConn) {
	if c.frame.Flags&flagEnhanced != 0 {
		c.refuseWith(c.params, causeMPALocal)
	}
	_ = conn.Close()
	c.forget()
}

// refuseWith sends a Terminate as the only FPDU of a connection.
func (c *connector) refuseWith(p streamParams, why cause) {
	var b []byte
	s := segment{ddp: ddpLast | ddpVersion, rdmap: rdmapVersion | opTerminate, qn: queueTerminate, msn: 1}
	t := appendTerminate(nil, why, nil)
	u := untaggedLen + len(t)
	b = append(b, byte(u>>8), byte(u))
	b = append(b, make([]byte, untaggedLen)...)
	s.put(b[lenField:])
	b = append(append(b, t...), make([]byte, padLen(u))...)
	pos := uint64(1) // a position that needs no marker in so short a frame
	if p.markers {
		pos = 0
	}
	_, _ = p.conn.Write(appendMarked(nil, pos, b, p.crc))
	_ = p.conn.CloseWrite()
}

// CompleteConnect implements ndk.Connector.
func (c *connector) CompleteConnect(ctx context.Context, onDisconnect func()) error {
	return c.CompleteConnectEx(ctx, withoutReason(onDisconnect))
}

func withoutReason(f func()) func(uint32) {
	if f == nil {
		return nil
	}
	return func(uint32) { f() }
}

// CompleteConnectEx implements ndk.Connector.
func (c *connector) CompleteConnectEx(_ context.Context, onDisconnect func(reason uint32)) error {
	const op = "complete connect"
	if !c.begin(connAccepted, connAccepting, nil) {
		return wrap(op, ntstatus.ConnectionInvalid, nil)
	}
	defer c.Release()
	st := ntstatus.ConnectionAborted
	if !peerGone(c.conn) {
		st = c.q.start(c, c.params)
	}
	if st != ntstatus.Success {
		c.giveUp(c.conn)
		c.q.unreserve()
		c.settle(connFailed)
		return wrap(op, st, nil)
	}
	if !c.establish(onDisconnect) {
		return wrap(op, ntstatus.Cancelled, nil)
	}
	return nil
}

// establish ends the call that set the connection up. From here on its loss is
// told to onDisconnect, also if it happened already. false if the connector was
// closed meanwhile.
func (c *connector) establish(onDisconnect func(reason uint32)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = nil
	switch {
	case c.Closing():
		return false
	case c.gone:
		c.state = connEnded
		c.tellLocked(onDisconnect)
	default:
		c.state, c.event = connConnected, onDisconnect
	}
	return true
}

// Accept implements ndk.Connector.
func (c *connector) Accept(ctx context.Context, target ndk.QP, p ndk.ConnParams, onDisconnect func()) error {
	return c.AcceptEx(ctx, target, p, withoutReason(onDisconnect))
}

// AcceptEx implements ndk.Connector. Without a ready-to-receive message it ends
// with the Reply: what is sent waits for the first FPDU of the peer.
func (c *connector) AcceptEx(ctx context.Context, target ndk.QP, p ndk.ConnParams, onDisconnect func(reason uint32)) error {
	const op = "accept"
	if len(p.Private) > maxPrivate {
		return wrap(op, ntstatus.InvalidBufferSize, fmt.Errorf("%d bytes of private data", len(p.Private)))
	}
	if p.InboundReadLimit < 0 || p.OutboundReadLimit < 0 {
		return wrap(op, ntstatus.InvalidParameter, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, c.adapter.cfg.NegotiateTimeout)
	defer cancel()
	if !c.begin(connRequest, connAccepting, cancel) {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	defer c.Release()
	q, st := c.attach(target)
	if st != ntstatus.Success {
		c.settle(connRequest)
		return wrap(op, st, nil)
	}
	// What ends because of a Close at this end is not the peer's doing.
	aborted := func() ndk.Status {
		if c.Closing() {
			return ntstatus.Cancelled
		}
		return ntstatus.ConnectionAborted
	}
	abort := func(st ndk.Status, err error) error {
		_ = c.conn.Close()
		q.unreserve()
		c.settle(connFailed)
		return wrap(op, st, err)
	}
	if peerGone(c.conn) {
		return abort(aborted(), nil)
	}
	rep, sp, _ := c.answer(p)
	frame, err := rep.AppendBinary(nil)
	if err != nil {
		return abort(ntstatus.InvalidParameter, err)
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.adapter.cfg.NegotiateTimeout))
	if _, err := c.conn.Write(frame); err != nil {
		return abort(aborted(), err)
	}
	_ = c.conn.SetDeadline(time.Time{})
	c.mu.Lock()
	c.ours = rep
	c.q = q
	c.mu.Unlock()
	if st := q.start(c, sp); st != ntstatus.Success {
		if st == ntstatus.ConnectionAborted {
			st = aborted()
		}
		return abort(st, nil)
	}
	if rep.PeerToPeer {
		select {
		case <-q.firstFPDU:
		case <-q.ended:
		case <-ctx.Done():
			q.abort()
			<-q.ended
			c.settle(connFailed)
			return wrap(op, ndk.StatusOf(ctx.Err()), ctx.Err())
		}
		select {
		case <-q.firstFPDU:
		default:
			st := aborted()
			c.settle(connFailed)
			return wrap(op, st, nil)
		}
	}
	if !c.establish(onDisconnect) {
		q.abort()
		return wrap(op, ntstatus.Cancelled, nil)
	}
	return nil
}

// atMost are the limits of the adapter.
var atMost = ndk.ConnParams{InboundReadLimit: maxReadLimit, OutboundReadLimit: maxReadLimit}

// answer makes the Reply to the peer's Request.
func (c *connector) answer(p ndk.ConnParams) (rep startup, sp streamParams, lim ndk.ConnData) {
	req, cfg := &c.frame, &c.adapter.cfg
	rep = startup{Reply: true, Revision: req.Revision, Private: p.Private}
	sp = streamParams{conn: c.conn, passive: true, early: cfg.SendBeforeReceive, markers: req.Flags&flagMarkers != 0}
	if cfg.CRC || req.Flags&flagCRC != 0 { // MPA-17
		rep.Flags |= flagCRC
		sp.crc = true
	}
	in, out := min(p.InboundReadLimit, maxReadLimit), min(p.OutboundReadLimit, maxReadLimit)
	sp.ird, sp.ord = in, out
	if req.Flags&flagEnhanced != 0 { // V2-04
		rep.Flags |= flagEnhanced
		rep.IRD, rep.ORD = depthNotNegotiated, depthNotNegotiated // V2-10
		if req.ORD != depthNotNegotiated {
			sp.ird = min(in, req.ORD)
			rep.IRD = sp.ird
		}
		if req.IRD != depthNotNegotiated {
			sp.ord = min(out, req.IRD)
			rep.ORD = sp.ord
		}
		if req.PeerToPeer { // V2-13
			rep.PeerToPeer, rep.RTR = true, req.RTR
			sp.early = 0 // the first FPDU is sure to come
			if req.RTR == 0 {
				rep.RTR = RTRWrite
			}
			sp.rtrSend = rep.RTR&RTRSend != 0
			if rep.RTR&RTRRead != 0 { // V2-17
				sp.ird = max(sp.ird, 1)
				if rep.IRD != depthNotNegotiated {
					rep.IRD = max(rep.IRD, 1)
				}
			}
		}
	}
	return rep, sp, ndk.ConnData{InboundReadLimit: sp.ird, OutboundReadLimit: sp.ord, RequiredDataSize: len(req.Private)}
}

// refuse answers a Request with R=1 and closes. The frame fits any socket
// buffer, so it does not wait.
func (c *connector) refuse(conn *net.TCPConn, private []byte) error {
	defer conn.Close()
	p := atMost // V2-09: what we would have agreed to
	p.Private = private
	rep, _, _ := c.answer(p)
	rep.Flags |= flagReject
	frame, err := rep.AppendBinary(nil)
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(c.adapter.cfg.LingerTimeout))
	_, err = conn.Write(frame)
	c.adapter.cfg.Tap.ended(c, conn, &rep)
	return err
}

// ConnectionData implements ndk.Connector.
func (c *connector) ConnectionData(buf []byte) (ndk.ConnData, error) {
	const op = "get connection data"
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != connRequest && c.state != connAccepted && !(c.state == connFailed && c.refused) || c.Closing() {
		return ndk.ConnData{}, wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	if buf == nil {
		return c.limits, nil
	}
	if n := copy(buf, c.frame.Private); n < len(c.frame.Private) {
		return c.limits, wrap(op, ntstatus.BufferTooSmall, nil)
	}
	return c.limits, nil
}

// LocalAddr implements ndk.Connector.
func (c *connector) LocalAddr() (netip.AddrPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.local.IsValid() {
		return netip.AddrPort{}, wrap("get local address", ntstatus.ConnectionInvalid, nil)
	}
	return c.local, nil
}

// PeerAddr implements ndk.Connector.
func (c *connector) PeerAddr() (netip.AddrPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.peer.IsValid() {
		return netip.AddrPort{}, wrap("get peer address", ntstatus.ConnectionInvalid, nil)
	}
	return c.peer, nil
}

// Disconnect implements ndk.Connector. After the peer's own disconnect it only
// flushes.
func (c *connector) Disconnect(ctx context.Context) error {
	const op = "disconnect"
	c.mu.Lock()
	if c.state != connConnected && c.state != connEnded || c.flushed {
		c.mu.Unlock()
		return wrap(op, ntstatus.ConnectionInvalid, nil)
	}
	c.flushed, c.leaving = true, true
	c.state = connEnded
	q := c.q
	c.mu.Unlock()

	q.mu.Lock()
	q.state = qpEnded
	q.leaving = true
	if !q.drain && !q.flushWanted {
		q.drain = true
		_ = q.conn.SetDeadline(time.Now().Add(c.adapter.cfg.LingerTimeout))
	}
	q.nudgeLocked()
	q.kickLocked()
	q.mu.Unlock()

	var err error
	select {
	case <-q.ended:
	case <-ctx.Done():
		err = wrap(op, ndk.StatusOf(ctx.Err()), ctx.Err())
	}
	if err == nil {
		q.mu.Lock()
		late := q.timedOut
		q.mu.Unlock()
		if late {
			err = wrap(op, ntstatus.IOTimeout, nil)
		}
	}
	q.abort()
	<-q.ended
	return err
}

// disconnecting reports whether this side asked for the end.
func (c *connector) disconnecting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// lost notes that the connection ended, and tells the consumer, unless it knows,
// or was not told yet that there is one.
func (c *connector) lost(local bool, reason uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone, c.silent, c.reason = true, local, reason
	if c.state == connConnected {
		c.state = connEnded
		event := c.event
		c.event = nil
		c.tellLocked(event)
	}
}

// tellLocked runs the disconnect event.
func (c *connector) tellLocked(event func(reason uint32)) {
	if c.silent || event == nil {
		return
	}
	reason := c.reason
	c.Retain()
	go func() { // ends with the callback; Close of the connector waits for it
		event(reason)
		c.Release()
	}()
}
