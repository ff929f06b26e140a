//go:build verbs && linux && cgo

package verbs

/*
#include "cm.h"
*/
import "C"

import (
	"context"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// newRequest makes the connector of an incoming request; nil if the adapter is
// being closed. It runs on the goroutine of the channel.
func (a *adapter) newRequest(ev *cmEvent) *connector {
	c, err := a.newConnector(true)
	if err != nil {
		return nil
	}
	c.state = connRequest
	c.id = a.cm.adopt(ev.id, c)
	c.local, c.peer = c.id.addrs()
	c.private, c.haveData = ev.private, true
	in, out := a.capLimits(ev.in, ev.out)
	c.limits = ndk.ConnData{InboundReadLimit: in, OutboundReadLimit: out, RequiredDataSize: len(ev.private)}
	return c
}

// Accept implements ndk.Connector.
func (c *connector) Accept(ctx context.Context, target ndk.QP, p ndk.ConnParams, onDisconnect func()) error {
	return c.AcceptEx(ctx, target, p, withoutReason(onDisconnect))
}

// AcceptEx implements ndk.Connector. On InfiniBand and RoCE it ends with the
// peer's CompleteConnect, on iWARP with our reply.
func (c *connector) AcceptEx(ctx context.Context, target ndk.QP, p ndk.ConnParams, onDisconnect func(reason uint32)) error {
	const op = "accept"
	a := c.adapter
	if len(p.Private) > a.info.MaxCalleeData {
		return wrap(op, ntstatus.InvalidBufferSize, fmt.Errorf("%d bytes of private data", len(p.Private)))
	}
	if p.InboundReadLimit < 0 || p.OutboundReadLimit < 0 {
		return wrap(op, ntstatus.InvalidParameter, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ConnectTimeout)
	defer cancel()
	if !c.begin(connRequest, connAccepting, cancel) {
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	defer c.Release()
	q, st := c.take(target)
	if st != ntstatus.Success {
		c.settle(connRequest)
		return wrap(op, st, nil)
	}
	c.mu.Lock()
	id, gone := c.id, c.gone
	in, out := a.capLimits(p.InboundReadLimit, p.OutboundReadLimit)
	in, out = min(in, c.limits.InboundReadLimit), min(out, c.limits.OutboundReadLimit)
	c.q, c.event, c.haveData = q, onDisconnect, false
	c.mu.Unlock()

	err := error(ntstatus.ConnectionAborted)
	if !gone {
		err = c.answer(ctx, q, id, in, out, p.Private)
	}
	if err == nil {
		if a.iwarp {
			q.awaitFirst()
		}
		q.setConnected(in, out)
		if c.connected() {
			return nil
		}
		q.disconnected(true)
		err = context.Canceled
	}
	id.destroy()
	q.detach()
	c.mu.Lock()
	c.event = nil
	c.mu.Unlock()
	c.settle(connFailed)
	return wrap(op, ndk.StatusOf(err), err)
}

// answer sends the reply and waits until the connection is there.
func (c *connector) answer(ctx context.Context, q *qp, id *cmID, in, out int, private []byte) error {
	// What the peer sends may come before the connection manager says that the
	// connection is there, so the QP is ready before the reply goes out.
	if err := q.ready(id, C.IBV_QPS_RTS, in, out); err != nil {
		return err
	}
	if e := id.accept(q.param(in, out, private)); e != 0 {
		return failAs(ntstatus.ConnectionAborted, "rdma_accept", e)
	}
	ev, err := c.await(ctx)
	if err != nil {
		return err
	}
	switch ev.kind {
	case C.RDMA_CM_EVENT_ESTABLISHED:
		if ev.status == 0 {
			return nil
		}
	case C.RDMA_CM_EVENT_DEVICE_REMOVAL:
		return &cmFailure{status: ntstatus.DeviceRemoved}
	case C.RDMA_CM_EVENT_UNREACHABLE: // no answer to our reply
		return ev.failure(ntstatus.IOTimeout)
	}
	return ev.failure(ntstatus.ConnectionAborted)
}
