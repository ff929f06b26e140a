//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// wcStatus is the status of a completion of the device.
func wcStatus(s C.enum_ibv_wc_status, receive bool) ndk.Status {
	switch s {
	case C.IBV_WC_SUCCESS:
		return ntstatus.Success
	case C.IBV_WC_LOC_LEN_ERR:
		if receive {
			return ntstatus.BufferOverflow
		}
		return ntstatus.DataOverrun
	case C.IBV_WC_REM_INV_REQ_ERR:
		if receive { // the peer was to invalidate something else
			return ntstatus.AccessViolation
		}
		return ntstatus.RemoteResources
	case C.IBV_WC_LOC_PROT_ERR, C.IBV_WC_LOC_ACCESS_ERR:
		return ntstatus.AccessViolation
	case C.IBV_WC_WR_FLUSH_ERR:
		return ntstatus.Cancelled
	case C.IBV_WC_MW_BIND_ERR:
		return ntstatus.InvalidDeviceRequest
	case C.IBV_WC_REM_ACCESS_ERR, C.IBV_WC_REM_OP_ERR:
		return ntstatus.RemoteResources
	case C.IBV_WC_RETRY_EXC_ERR, C.IBV_WC_RNR_RETRY_EXC_ERR:
		return ntstatus.IOTimeout
	}
	return ntstatus.InternalError
}

// providerError is what a completion of the device says beside its status: the
// code of the vendor, or else the status of verbs.
func providerError(wc *C.struct_ibv_wc) uint32 {
	if wc.status == C.IBV_WC_SUCCESS || wc.status == C.IBV_WC_WR_FLUSH_ERR {
		return 0
	}
	if wc.vendor_err != 0 {
		return uint32(wc.vendor_err)
	}
	return wc.status
}

// sent notes a completion of the device. fire is that of soft.CQ.Push.
func (q *qp) sent(pos uint32, wc *C.struct_ibv_wc) (fire bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if pos-q.head >= q.tail-q.head {
		return false // reported without it
	}
	w := q.wr(pos)
	if !w.hw || w.done {
		return false
	}
	// What did not ask for a completion, and has none, worked.
	for s := q.head; s != pos; s++ {
		if e := q.wr(s); e.hw && !(e.op == wrRead && q.adapter.readsOvertaken) {
			e.done = true
		}
	}
	w.done = true
	w.status, w.perr = wcStatus(wc.status, false), providerError(wc)
	if w.op == wrInvalidate && w.status != ntstatus.Success && w.status != ntstatus.Cancelled {
		// The device found nothing to invalidate: the peer was first.
		w.status, w.perr = ntstatus.InvalidDeviceRequest, uint32(ndk.RuleInvalidated)
	}
	return q.reportLocked()
}

// reportLocked reports what is done, in order, and makes room.
func (q *qp) reportLocked() (fire bool) {
	for q.head != q.tail {
		w := q.wr(q.head)
		if w.hw && !w.done {
			break
		}
		if !w.hw && w.status == ntstatus.Success && q.flushing {
			w.status = ntstatus.Cancelled
		}
		q.settled(w)
		if w.status != ntstatus.Success {
			q.failedLocked()
		}
		if w.op != wrMarker {
			if w.status != ntstatus.Success || !w.silent {
				e := ndk.ResultEx{Type: opTypes[w.op], ProviderError: w.perr}
				e.Status, e.QPContext, e.RequestContext = w.status, q.ctx, w.rc
				fire = q.icq.Push(&e, false) || fire
			}
			q.posted--
		}
		*w = sendWR{}
		q.head++
	}
	return fire
}

// settled does what the end of a request brings about.
func (q *qp) settled(w *sendWR) {
	worked := w.status == ntstatus.Success
	refused := !w.hw && w.perr != 0 // by a rule, so that it changed nothing
	switch w.op {
	case wrBind:
		if !worked && !refused {
			w.mw.undone(w.token, nil, grant{})
		}
	case wrFastRegister:
		if !worked && !refused {
			w.mr.undone(w.token, grant{})
		}
	case wrInvalidate:
		switch {
		case refused:
		case w.grant.mw != nil: // another window has the place of this one already
			q.adapter.letGo(w.grant)
			if w.mw != nil {
				w.mr.dropWindow()
				w.mr = nil
			}
		case w.mw != nil && worked:
			w.mw.win.unbound(w.token)
			q.adapter.letGo(w.grant)
			w.mr.dropWindow()
			w.mr = nil
		case w.mw != nil:
			w.mw.undone(0, w.mr, w.grant)
			w.mr = nil
		case worked:
			w.mr.win.unbound(w.token)
			q.adapter.letGo(w.grant)
		default:
			w.mr.undone(0, w.grant)
		}
	}
	if w.mw != nil {
		w.mw.Release()
	}
	if w.mr != nil {
		w.mr.Release()
	}
}

// failedLocked ends the connection after a request that failed, or that a device
// flushed which tells nothing else of a connection that broke.
func (q *qp) failedLocked() {
	q.poisoned = true
	if q.flushing {
		return
	}
	q.flushing = true
	if q.state == qpConnected {
		q.state = qpEnded
	}
	q.Retain()
	go func() { // ends by itself; the QP waits for it
		q.broken()
		q.Release()
	}()
}

// received notes a completion of the device.
func (q *qp) received(pos uint32, wc *C.struct_ibv_wc) (fire bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if pos-q.rhead >= q.rtail-q.rhead {
		return false
	}
	w := q.recv(pos)
	if !w.hw || w.done {
		return false
	}
	w.done = true
	q.fill(w, wc)
	return q.reportReceivesLocked()
}

// fill notes what a completion of the device says about a receive.
func (q *qp) fill(w *recvWR, wc *C.struct_ibv_wc) {
	w.status, w.perr = wcStatus(wc.status, true), providerError(wc)
	q.hearLocked()
	switch {
	case w.status == ntstatus.Success && wc.opcode == C.IBV_WC_RECV_RDMA_WITH_IMM:
		// A Write with immediate data took the receive and put nothing in its buffer.
		// NDK has none, so the peer does not keep to the protocol.
		w.status = ntstatus.InvalidNetworkResponse
	case w.status == ntstatus.Success:
		w.bytes = uint32(wc.byte_len)
		if w.with = wc.wc_flags&q.adapter.invalidated != 0; w.with {
			w.token = ndk.Token(C.vs_invalidated(wc))
		}
	case w.status == ntstatus.Cancelled:
	case w.broken != 0:
		w.status, w.perr = ntstatus.AccessViolation, uint32(w.broken)
	case wc.status == q.adapter.tooLong:
		w.status, w.perr = ntstatus.BufferOverflow, uint32(ndk.RuleReceiveSize)
	}
}

// reportReceivesLocked is reportLocked of the receive queue. An iWARP device
// flushes when the peer disconnects; the consumer hears of that by an event, and
// its receives stay until it ends the connection itself.
func (q *qp) reportReceivesLocked() (fire bool) {
	if q.requeue {
		return false
	}
	for q.rhead != q.rtail {
		w := q.recv(q.rhead)
		if !w.done {
			break
		}
		if w.status == ntstatus.Cancelled && !q.flushing && q.adapter.iwarp {
			if w.broken == 0 {
				break
			}
			// A device that says nothing more of what broke the connection.
			w.status, w.perr = ntstatus.AccessViolation, uint32(w.broken)
		}
		fire = q.deliverLocked(w) || fire
		*w = recvWR{}
		q.rhead++
	}
	return fire
}

// deliverLocked reports one receive.
func (q *qp) deliverLocked(w *recvWR) (fire bool) {
	e := ndk.ResultEx{Type: ndk.OpReceive, ProviderError: w.perr}
	e.Status, e.Bytes, e.QPContext, e.RequestContext = w.status, w.bytes, q.ctx, w.rc
	if w.with {
		e.Type, e.InvalidatedToken = ndk.OpReceiveAndInvalidate, w.token
		if !q.adapter.remotelyInvalidated(w.token, q.pd) {
			// It was none that a peer may invalidate (RFC 5040 §5.3).
			e.Status, e.Bytes, e.ProviderError = ntstatus.AccessViolation, 0, uint32(ndk.RuleFastMR)
		}
	}
	if e.Status != ntstatus.Success {
		q.failedLocked()
	}
	return q.rcq.Push(&e, q.adapter.plainEvents)
}
