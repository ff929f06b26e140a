//go:build verbs && linux && cgo

package verbs

/*
#include "cm.h"
*/
import "C"

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

type connState uint8

const (
	connIdle       connState = iota
	connConnecting           // Connect runs
	connAccepted             // the peer accepted; CompleteConnect or Reject is next
	connCompleting           // CompleteConnect runs
	connRequest              // passive: Accept or Reject is next
	connAccepting            // Accept runs
	connConnected
	connEnded // after a disconnect of ours or the peer's
	connFailed
)

// connector implements ndk.Connector over one id of the connection manager.
type connector struct {
	soft.Object
	adapter *adapter
	passive bool
	steps   chan *cmEvent // the answers to our calls, of which one waits for each
	ended   chan struct{} // closed when the connection is no more
	closed  chan struct{} // closed by Close

	mu       sync.Mutex
	state    connState // guarded by mu, as all below
	id       *cmID
	q        *qp
	cancel   context.CancelFunc // of Connect or Accept while it runs
	local    netip.AddrPort
	peer     netip.AddrPort
	claimed  bool // the pair of addresses, in the channel
	private  []byte
	haveData bool
	limits   ndk.ConnData
	event    func(reason uint32)
	asked    bool // Disconnect ran
	leaving  bool // Disconnect runs or ran, or Close
	gone     bool // ended is closed
}

// maxSteps is more than the events of one handshake.
const maxSteps = 8

func (a *adapter) newConnector(passive bool) (*connector, error) {
	c := &connector{adapter: a, passive: passive, steps: make(chan *cmEvent, maxSteps), ended: make(chan struct{}), closed: make(chan struct{})}
	return c, a.InitObject(&c.Object, ndk.ObjectConnector, c.free, &a.Object)
}

// CreateConnector implements ndk.Adapter.
func (a *adapter) CreateConnector(context.Context) (ndk.Connector, error) {
	c, err := a.newConnector(false)
	if err != nil {
		return nil, wrap("create connector", ndk.StatusOf(err), nil)
	}
	return c, nil
}

// free gives back what a closed connector holds.
func (c *connector) free() {
	c.mu.Lock()
	id := c.id
	c.dropPairLocked()
	c.mu.Unlock()
	if id != nil {
		id.destroy()
	}
}

func (c *connector) dropPairLocked() {
	if c.claimed {
		c.claimed = false
		c.adapter.cm.dropPair(c.local, c.peer)
	}
}

// onEvent implements sink.
func (c *connector) onEvent(ev *cmEvent) {
	switch ev.kind {
	case C.RDMA_CM_EVENT_ADDR_CHANGE, C.RDMA_CM_EVENT_TIMEWAIT_EXIT:
		return
	case C.RDMA_CM_EVENT_DISCONNECTED, C.RDMA_CM_EVENT_DEVICE_REMOVAL:
		c.lost(0)
	case C.RDMA_CM_EVENT_REJECTED, C.RDMA_CM_EVENT_UNREACHABLE, C.RDMA_CM_EVENT_CONNECT_ERROR:
		// Whoever waits for an answer gets this one. Nobody waits while a request
		// or an accepted connection lies with the consumer: then the peer gave up.
		c.mu.Lock()
		idle := c.state != connConnecting && c.state != connAccepting
		c.mu.Unlock()
		if idle {
			c.lost(0)
		}
	}
	select {
	case c.steps <- ev:
	default: // nobody can be waiting for it
	}
}

// lost notes that the connection is no more, answers the peer, and tells the
// consumer unless that one asked for it. It does not block.
func (c *connector) lost(reason uint32) {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return
	}
	c.gone = true
	close(c.ended)
	connected := c.state == connConnected
	if connected {
		c.state = connEnded
	}
	hold := connected && c.Hold()
	c.mu.Unlock()
	if hold {
		go func() { // ends with the callback; Close of the connector waits for it
			c.sayLost(reason)
			c.Release()
		}()
	}
}

// sayLost ends our half of a connection that the peer or the device ended, and
// runs the callback.
func (c *connector) sayLost(reason uint32) {
	c.mu.Lock()
	q, id, event := c.q, c.id, c.event
	c.event = nil
	leaving := c.leaving
	c.mu.Unlock()
	if leaving {
		return
	}
	q.disconnected(false)
	id.disconnect() // the answer to the peer's, or the news that we are gone
	if event != nil {
		event(reason)
	}
}

// flushed is told when the consumer flushed the QP, which ends the connection: the
// peer hears of it, and the consumer's own event does not run.
func (c *connector) flushed() {
	c.mu.Lock()
	up := c.state == connConnected && !c.gone
	id := c.id
	if up {
		c.gone, c.state, c.event = true, connEnded, nil
		close(c.ended)
		up = c.Hold()
	}
	c.mu.Unlock()
	if up {
		id.disconnect()
		c.Release()
	}
}

// commEstablished is told when data came on the QP before the connection
// manager heard the last message of the handshake, which may be lost.
func (c *connector) commEstablished() {
	c.mu.Lock()
	id, wanted := c.id, c.state == connAccepting
	c.mu.Unlock()
	if wanted {
		id.notifyEstablished()
	}
}

// Close implements ndk.Object. It drops a connection, cancels a call under way
// and refuses a request without an answer.
func (c *connector) Close() {
	if !c.BeginClose() {
		return
	}
	close(c.closed)
	c.mu.Lock()
	state, id, q, cancel, gone := c.state, c.id, c.q, c.cancel, c.gone
	c.leaving = true
	c.state = connFailed
	c.event = nil
	c.mu.Unlock()
	switch state {
	case connConnecting, connAccepting:
		cancel()
	case connRequest:
		id.reject(nil)
		id.destroy()
	case connAccepted:
		c.refuseAccepted(id, nil)
		id.destroy()
		q.detach()
	case connConnected, connEnded:
		q.disconnected(true)
		if !gone {
			id.disconnect()
		}
		id.destroy()
	}
	c.Release()
}

// refuseAccepted tells a peer that accepted that we do not want to any more.
func (c *connector) refuseAccepted(id *cmID, private []byte) error {
	e := id.reject(private)
	if c.adapter.iwarp { // where the connection is there already
		e = id.disconnect()
	}
	if e != 0 {
		return e
	}
	return nil
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

// take makes c a successor of target and the connector of it.
func (c *connector) take(target ndk.QP) (*qp, ndk.Status) {
	q, ok := ndk.Unwrap(target).(*qp)
	if !ok || q.adapter != c.adapter {
		return nil, ntstatus.InvalidParameter
	}
	if !q.attach(c) {
		if q.Closing() {
			return nil, ntstatus.InvalidDeviceState
		}
		return nil, ntstatus.ConnectionActive
	}
	if !c.Attach(&q.Object) {
		q.detach()
		return nil, ntstatus.InvalidDeviceState
	}
	return q, ntstatus.Success
}

// await returns the next answer of the connection manager, or the error of ctx.
func (c *connector) await(ctx context.Context) (*cmEvent, error) {
	select {
	case ev := <-c.steps:
		return ev, nil
	default:
	}
	select {
	case ev := <-c.steps:
		return ev, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// param makes the parameters of Connect or Accept.
func (q *qp) param(in, out int, private []byte) *C.struct_cm_param {
	p := &C.struct_cm_param{
		qp_num:              C.uint32_t(q.num()),
		responder_resources: C.uint8_t(in),
		initiator_depth:     C.uint8_t(out),
		private_len:         C.uint8_t(len(private)),
	}
	if q.srq() != nil {
		p.srq = 1
	}
	for i, b := range private {
		p.private_data[i] = C.uint8_t(b)
	}
	return p
}

// ready moves the QP through the states of a connection up to last. in and out
// are the read limits; the rest is what the connection manager says. The error is
// a *cmFailure.
func (q *qp) ready(id *cmID, last C.int, in, out int) error {
	for _, state := range []C.int{C.IBV_QPS_INIT, C.IBV_QPS_RTR, C.IBV_QPS_RTS} {
		var attr C.struct_ibv_qp_attr
		mask, e := id.qpAttr(state, &attr)
		if e != 0 { // the connection manager has no connection any more
			return failAs(ntstatus.ConnectionAborted, "rdma_init_qp_attr", e)
		}
		if mask&C.IBV_QP_MAX_DEST_RD_ATOMIC != 0 {
			attr.max_dest_rd_atomic = C.uint8_t(in)
		}
		if mask&C.IBV_QP_MAX_QP_RD_ATOMIC != 0 {
			attr.max_rd_atomic = C.uint8_t(out)
		}
		if q.adapter.info.Technology == ndk.TechnologyInfiniBand {
			mask &^= kernelOnlyBits
		}
		if mask != 0 {
			if err := q.modify(&attr, mask); err != nil {
				return &cmFailure{status: ntstatus.InternalError, err: fmt.Errorf("modify QP to state %d: %w", state, err)}
			}
		}
		if state == last {
			break
		}
	}
	return nil
}

// kernelOnlyBits are bits of the mask that some kernels report on InfiniBand and
// do not take back.
const kernelOnlyBits = 0xe00000

// capLimits lowers read limits to those of the adapter.
func (a *adapter) capLimits(in, out int) (int, int) {
	return min(in, a.info.MaxInboundReadLimit, 255), min(out, a.info.MaxOutboundReadLimit, 255)
}

func withoutReason(f func()) func(uint32) {
	if f == nil {
		return nil
	}
	return func(uint32) { f() }
}

// Reject implements ndk.Connector. On an iWARP device the active side has no
// place for the private data any more, and drops it.
func (c *connector) Reject(private []byte) error {
	const op = "reject"
	if len(private) > c.maxReject() {
		return wrap(op, ntstatus.InvalidBufferSize, fmt.Errorf("%d bytes of private data", len(private)))
	}
	c.mu.Lock()
	state, id, q, gone := c.state, c.id, c.q, c.gone
	if state != connRequest && state != connAccepted || c.Closing() {
		c.mu.Unlock()
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	c.state = connFailed
	c.dropPairLocked()
	c.Retain() // the owner's is there still: the connector is not closed
	c.mu.Unlock()
	defer c.Release()
	var err error
	if state == connRequest {
		if e := id.reject(private); e != 0 {
			err = e
		}
	} else {
		err = c.refuseAccepted(id, private)
	}
	id.destroy()
	if state == connAccepted {
		q.detach()
	}
	if gone || err != nil {
		return wrap(op, ntstatus.ConnectionAborted, err)
	}
	return nil
}

// maxRejectIB is what a rejection has room for on InfiniBand and RoCE.
const maxRejectIB = 148

func (c *connector) maxReject() int {
	if c.adapter.iwarp {
		return c.adapter.info.MaxCalleeData
	}
	return min(c.adapter.info.MaxCalleeData, maxRejectIB)
}

// ConnectionData implements ndk.Connector.
func (c *connector) ConnectionData(buf []byte) (ndk.ConnData, error) {
	const op = "get connection data"
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.haveData || c.state != connRequest && c.state != connAccepted && c.state != connFailed {
		return ndk.ConnData{}, wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	if buf == nil {
		return c.limits, nil
	}
	if n := copy(buf, c.private); n < len(c.private) {
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
	if c.state != connConnected && c.state != connEnded || c.asked {
		c.mu.Unlock()
		return wrap(op, ntstatus.ConnectionInvalid, nil)
	}
	c.asked, c.leaving = true, true
	c.state = connEnded
	q, id, gone := c.q, c.id, c.gone
	c.Retain() // the owner's is there still: the connector is not closed
	c.mu.Unlock()
	defer c.Release()

	q.disconnected(false)
	var err error
	if !gone {
		err = c.leave(ctx, q, id)
	}
	q.disconnected(true)
	return err
}

// leave sends what was posted, tells the peer, and waits for its answer.
func (c *connector) leave(ctx context.Context, q *qp, id *cmID) error {
	const op = "disconnect"
	limit := c.adapter.cfg.DisconnectTimeout
	drain, stop := context.WithTimeout(ctx, limit)
	q.drain(drain)
	stop()
	if id.disconnect() != 0 {
		return nil // there is no connection any more
	}
	limited, stop := context.WithTimeout(ctx, limit)
	defer stop()
	select {
	case <-c.ended:
		return nil
	case <-c.closed: // with the id, so that no event comes any more
		return wrap(op, ntstatus.Cancelled, nil)
	case <-limited.Done():
	}
	if err := ctx.Err(); err != nil {
		return wrap(op, ndk.StatusOf(err), err)
	}
	return wrap(op, ntstatus.IOTimeout, nil)
}
