package smbdtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Errors of a Peer that waits.
var (
	// ErrEnded says that the connection has ended, see Peer.End.
	ErrEnded = errors.New("smbdtest: the connection has ended")
	// ErrStopped says that the wait was given up.
	ErrStopped = errors.New("smbdtest: given up")
	// ErrSilent says that nothing came in time.
	ErrSilent = errors.New("smbdtest: nothing came in time")
)

// PeerConfig has the settings of a Peer. A zero field stands for the default
// given with it.
type PeerConfig struct {
	// Receives and Sends are the requests that may be posted and not completed;
	// 1024 each, lowered to what the adapter has.
	Receives, Sends int
	// InboundReadLimit and OutboundReadLimit are the RDMA Reads that the other end
	// and we may have under way; 16, negative for none.
	InboundReadLimit, OutboundReadLimit int
	// Private is the private data; nil stands for the IRD/ORD header of [MS-SMBD]
	// 6.1 on iWARP and nothing elsewhere, an empty slice for none.
	Private []byte
}

// requestTimeout bounds the wait for the completion of a request of our own.
const requestTimeout = 10 * time.Second

// Peer is a raw end of an SMB Direct connection. It knows none of the rules: it
// posts no receive and sends no message that it was not told to. Its methods are
// called by one goroutine at a time. Close ends it; it needs no goroutine.
type Peer struct {
	adapter ndk.Adapter
	info    ndk.AdapterInfo
	pd      ndk.PD
	cq      ndk.CQ
	event   *ndk.Event
	qp      ndk.QP
	conn    ndk.Connector
	params  ndk.ConnParams
	mem     arena
	regions []*Region
	results [16]ndk.ResultEx
	inbox   []Message
	posted  int // receives that have not completed
	private []byte
	data    ndk.ConnData
	closed  bool

	stop   <-chan struct{} // ends every wait; nil never does
	gone   chan struct{}
	mu     sync.Mutex
	reason uint32 // guarded by mu; of the disconnect
	end    End
}

// Message is one message that came in.
type Message struct {
	Data []byte
	// Invalidated says that it was a Send with Invalidate, of Token.
	Invalidated bool
	Token       ndk.Token
}

// End is how a connection ended.
type End struct {
	// Over is set when it did.
	Over bool
	// Disconnected says that the provider told so, with its reason: 0 is unknown.
	Disconnected bool
	Reason       uint32
	// Status is that of the first request of ours that failed, apart from the
	// flush: Success if none did.
	Status ndk.Status
}

// String says it in a few words.
func (e End) String() string {
	switch {
	case !e.Over:
		return "the connection is up"
	case e.Status != ntstatus.Success:
		return fmt.Sprintf("the connection ended: a request failed with %v", e.Status)
	}
	return fmt.Sprintf("the connection ended (reason %#x)", e.Reason)
}

// NewPeer makes an end that is not connected, on an adapter that stays the
// caller's.
func NewPeer(ctx context.Context, a ndk.Adapter, c PeerConfig) (_ *Peer, err error) {
	p := &Peer{adapter: a, event: ndk.NewEvent(), gone: make(chan struct{})}
	defer func() {
		if err != nil {
			p.Close()
			err = fmt.Errorf("smbdtest: %w", err)
		}
	}()
	if p.info, err = a.Info(ctx); err != nil {
		return nil, err
	}
	limit := func(n, def, most int) int {
		if n == 0 {
			n = def
		}
		return min(max(n, 0), most)
	}
	receives := limit(c.Receives, 1024, min(p.info.MaxReceiveQueueDepth, p.info.MaxCQDepth/2))
	sends := limit(c.Sends, 1024, min(p.info.MaxInitiatorQueueDepth, p.info.MaxCQDepth/2))
	p.params = ndk.ConnParams{
		InboundReadLimit:  limit(c.InboundReadLimit, 16, p.info.MaxInboundReadLimit),
		OutboundReadLimit: limit(c.OutboundReadLimit, 16, p.info.MaxOutboundReadLimit),
		Private:           c.Private,
	}
	if c.Private == nil && p.info.Technology == ndk.TechnologyIWARP && p.params.InboundReadLimit > 0 && p.params.OutboundReadLimit > 0 {
		p.params.Private = ReadDepths(uint32(p.params.InboundReadLimit), uint32(p.params.OutboundReadLimit))
	}
	if p.pd, err = a.CreatePD(ctx); err != nil {
		return nil, err
	}
	if p.cq, err = a.CreateCQ(ctx, ndk.CQConfig{Depth: receives + sends, Notify: p.event.Notify}); err != nil {
		return nil, err
	}
	p.qp, err = p.pd.CreateQP(ctx, ndk.QPConfig{
		ReceiveCQ: p.cq, InitiatorCQ: p.cq, QPContext: p,
		ReceiveQueueDepth: receives, InitiatorQueueDepth: sends, MaxReceiveSGE: 1, MaxInitiatorSGE: 1,
	})
	return p, err
}

// ReadDepths is the IRD/ORD Negotiate Header, [MS-SMBD] 6.1, as Windows and newer
// Linux send it.
func ReadDepths(ird, ord uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, ird), ord)
}

// Connect is the active side.
func (p *Peer) Connect(ctx context.Context, dst netip.AddrPort) (err error) {
	if p.conn, err = p.adapter.CreateConnector(ctx); err != nil {
		return fmt.Errorf("smbdtest: %w", err)
	}
	if err := p.conn.Connect(ctx, p.qp, netip.AddrPort{}, dst, p.params); err != nil {
		return fmt.Errorf("smbdtest: connect %v: %w", dst, err)
	}
	p.readPrivate()
	if err := p.conn.CompleteConnectEx(ctx, p.disconnected); err != nil {
		return fmt.Errorf("smbdtest: connect %v: %w", dst, err)
	}
	return nil
}

// Accept is the passive side: it takes over a connection request of a
// PeerListener.
func (p *Peer) Accept(ctx context.Context, c ndk.Connector) error {
	p.conn = c
	p.readPrivate()
	if err := c.AcceptEx(ctx, p.qp, p.params, p.disconnected); err != nil {
		return fmt.Errorf("smbdtest: accept: %w", err)
	}
	return nil
}

// readPrivate notes what the other end said; that it says nothing is no error.
func (p *Peer) readPrivate() {
	buf := make([]byte, 512)
	d, err := p.conn.ConnectionData(buf)
	if err == nil {
		p.data, p.private = d, buf[:min(d.RequiredDataSize, len(buf))]
	}
}

// Private returns the private data of the other end, which some transports pad.
func (p *Peer) Private() []byte { return p.private }

// ReadLimits returns the read limits that are in force.
func (p *Peer) ReadLimits() (inbound, outbound int) {
	return p.data.InboundReadLimit, p.data.OutboundReadLimit
}

// Adapter returns the adapter of the Peer.
func (p *Peer) Adapter() ndk.Adapter { return p.adapter }

// LocalAddr returns the address of this end; zero while there is none.
func (p *Peer) LocalAddr() netip.AddrPort {
	if p.conn == nil {
		return netip.AddrPort{}
	}
	a, err := p.conn.LocalAddr()
	if err != nil {
		return netip.AddrPort{}
	}
	return a
}

// disconnected is the callback of the provider.
func (p *Peer) disconnected(reason uint32) {
	p.mu.Lock()
	p.reason = reason
	p.mu.Unlock()
	close(p.gone)
}

// PostReceives posts n receives of size bytes.
func (p *Peer) PostReceives(n, size int) error {
	for range n {
		s, err := p.mem.take(context.Background(), p.adapter, p.pd, size)
		if err != nil {
			return fmt.Errorf("smbdtest: %w", err)
		}
		s.receive = true
		if err := p.qp.Receive(s, s.sgl()); err != nil {
			p.mem.put(s)
			return fmt.Errorf("smbdtest: post a receive: %w", err)
		}
		p.posted++
	}
	return nil
}

// Posted is the number of receives that no message has taken.
func (p *Peer) Posted() int { return p.posted }

// SendRaw sends b as it is. It does not wait: when the connection ends before it
// left, End tells.
func (p *Peer) SendRaw(b []byte) error {
	return p.send(b, func(s *slot) error { return p.qp.Send(s, s.sgl(), ndk.SendAndSolicitEvent) })
}

// SendInvalidate is SendRaw as Send with Invalidate of a token of the other end.
func (p *Peer) SendInvalidate(b []byte, t ndk.Token) error {
	return p.send(b, func(s *slot) error { return p.qp.SendAndInvalidate(s, s.sgl(), ndk.SendAndSolicitEvent, t) })
}

func (p *Peer) send(b []byte, post func(*slot) error) error {
	p.poll()
	s, err := p.mem.take(context.Background(), p.adapter, p.pd, len(b))
	if err != nil {
		return fmt.Errorf("smbdtest: %w", err)
	}
	copy(s.mem, b)
	if err := post(s); err != nil {
		p.mem.put(s)
		return fmt.Errorf("smbdtest: send %d bytes: %w", len(b), err)
	}
	return nil
}

// request posts a request with n bytes of local memory and waits until it has
// completed.
func (p *Peer) request(ctx context.Context, n int, post func(*slot) error) error {
	_, err := p.requestData(ctx, n, nil, post)
	return err
}

func (p *Peer) requestData(ctx context.Context, n int, data []byte, post func(*slot) error) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := p.mem.take(ctx, p.adapter, p.pd, n)
	if err != nil {
		return nil, err
	}
	copy(s.mem, data)
	s.waited = true
	if err := post(s); err != nil {
		p.mem.put(s)
		return nil, err
	}
	for p.poll(); !s.done; p.poll() {
		p.cq.Arm(ndk.ArmAny)
		select {
		case <-p.event.C():
		case <-ctx.Done():
			s.waited = false // its completion frees it
			return nil, context.Cause(ctx)
		}
	}
	defer p.mem.put(s)
	if s.status != ntstatus.Success {
		return nil, s.status
	}
	return slices.Clone(s.mem), nil
}

// ReadRemote reads what d names of the memory of the other end. Its error is the
// status of the request; a refusal ends the connection.
func (p *Peer) ReadRemote(ctx context.Context, d wire.Descriptor) ([]byte, error) {
	b, err := p.requestData(ctx, int(d.Length), nil, func(s *slot) error {
		return p.qp.Read(s, s.sgl(), d.Offset, ndk.Token(d.Token), 0)
	})
	if err != nil {
		return nil, fmt.Errorf("smbdtest: read %+v: %w", d, err)
	}
	return b, nil
}

// WriteRemote writes b to where d begins. That it worked proves nothing about
// placement; that the connection lives after a message more does.
func (p *Peer) WriteRemote(ctx context.Context, d wire.Descriptor, b []byte) error {
	_, err := p.requestData(ctx, len(b), b, func(s *slot) error {
		return p.qp.Write(s, s.sgl(), d.Offset, ndk.Token(d.Token), 0)
	})
	if err != nil {
		return fmt.Errorf("smbdtest: write %+v: %w", d, err)
	}
	return nil
}

// poll takes what has completed.
func (p *Peer) poll() {
	if p.cq == nil {
		return
	}
	for {
		n := p.cq.PollEx(p.results[:])
		for i := range p.results[:n] {
			p.completed(&p.results[i])
		}
		if n < len(p.results) {
			return
		}
	}
}

func (p *Peer) completed(r *ndk.ResultEx) {
	s, ok := r.RequestContext.(*slot)
	if !ok {
		return
	}
	if r.Status != ntstatus.Success {
		if r.Status != ntstatus.Cancelled && p.end.Status == ntstatus.Success {
			p.end.Status = r.Status
		}
		p.end.Over = true
	}
	switch {
	case s.receive:
		p.posted--
		if r.Status == ntstatus.Success {
			m := Message{Data: slices.Clone(s.mem[:min(int(r.Bytes), len(s.mem))])}
			if r.Type == ndk.OpReceiveAndInvalidate {
				m.Invalidated, m.Token = true, r.InvalidatedToken
				for _, g := range p.regions {
					if g.Token == m.Token && g.fast && !g.gone {
						g.dead = true
					}
				}
			}
			p.inbox = append(p.inbox, m)
		}
	case s.waited:
		s.done, s.status = true, r.Status
		return
	}
	p.mem.put(s)
}

// Next returns the next message. After d without one it fails with ErrSilent, and
// when there is none and the connection has ended with ErrEnded.
func (p *Peer) Next(d time.Duration) (Message, error) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-p.stop: // also where there is always a next message
			return Message{}, ErrStopped
		default:
		}
		over := p.hasEnded()
		p.poll()
		if len(p.inbox) > 0 {
			m := p.inbox[0]
			p.inbox = p.inbox[1:]
			return m, nil
		}
		if over || p.end.Over {
			p.hasEnded()
			return Message{}, ErrEnded
		}
		p.cq.Arm(ndk.ArmAny)
		select {
		case <-p.event.C():
		case <-p.gone:
		case <-p.stop:
			return Message{}, ErrStopped
		case <-t.C:
			p.poll()
			if len(p.inbox) == 0 && !p.hasEnded() {
				return Message{}, ErrSilent
			}
		}
	}
}

// hasEnded notes the disconnect event.
func (p *Peer) hasEnded() bool {
	select {
	case <-p.gone:
		p.mu.Lock()
		p.end.Reason = p.reason
		p.mu.Unlock()
		p.end.Over, p.end.Disconnected = true, true
	default:
	}
	return p.end.Over
}

// Wait waits for the end of the connection, at most d; what comes in the meantime
// stays for Next. It reports whether the connection has ended.
func (p *Peer) Wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for !p.hasEnded() {
		p.poll()
		if p.end.Over {
			break
		}
		p.cq.Arm(ndk.ArmAny)
		select {
		case <-p.event.C():
		case <-p.gone:
		case <-p.stop:
			return p.hasEnded()
		case <-t.C:
			p.poll()
			return p.hasEnded()
		}
	}
	return true
}

// End tells how the connection ended, as far as it is known now.
func (p *Peer) End() End {
	p.poll()
	p.hasEnded()
	return p.end
}

// Disconnect ends the connection gracefully.
func (p *Peer) Disconnect(ctx context.Context) error {
	p.end.Over = true
	if err := p.conn.Disconnect(ctx); err != nil {
		return fmt.Errorf("smbdtest: %w", err)
	}
	return nil
}

// Close ends the connection, if it is up, and frees everything. It may be called
// twice.
func (p *Peer) Close() {
	if p.closed {
		return
	}
	p.closed = true
	closeWait := func(o ndk.Object) {
		o.Close()
		<-o.Closed()
	}
	if p.conn != nil {
		closeWait(p.conn)
	}
	if p.qp != nil {
		closeWait(p.qp)
	}
	if p.cq != nil {
		closeWait(p.cq)
	}
	for _, r := range p.regions {
		r.close()
	}
	p.mem.close()
	if p.pd != nil {
		closeWait(p.pd)
	}
}
