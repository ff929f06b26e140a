//go:build verbs && linux && cgo

package verbs

/*
#cgo noescape vs_poll_cq
#cgo nocallback vs_poll_cq
#cgo noescape vs_req_notify_cq
#cgo nocallback vs_req_notify_cq
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"context"
	"fmt"
	"sync"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// pollBatch is how many completions one call of the device fetches.
const pollBatch = 32

// cq implements ndk.CQ: a completion queue of the device, whose completions are
// sorted out and moved to a queue in software when somebody polls, arms or closes,
// or when the device notifies.
//
// The queue in software keeps the consumer's depth and decides about
// notifications. The device's is armed for as long as it is armed.
type cq struct {
	*soft.CQ
	a     *adapter
	hw    *C.struct_ibv_cq // nil when it was destroyed
	ch    *C.struct_ibv_comp_channel
	poll  pollable
	done  chan struct{} // closed when the goroutine of the channel is gone
	depth int

	pumping sync.Mutex // serialises the calls of the device
	wcs     *[pollBatch]C.struct_ibv_wc
	armed   deviceArm // guarded by pumping; of the device
	// doubtful says that a receive was fetched while the device was not armed for
	// solicited ones only, so that nobody knows whether it was one.
	doubtful bool // guarded by pumping
}

// deviceArm is what a device is armed for.
type deviceArm uint8

const (
	armedNone deviceArm = iota
	armedSolicited
	armedAny
)

// CreateCQ implements ndk.Adapter.
func (a *adapter) CreateCQ(ctx context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	const op = "create CQ"
	base, err := a.Device.CreateCQ(ctx, c)
	if err != nil {
		return nil, err
	}
	q := &cq{CQ: base.(*soft.CQ), a: a, done: make(chan struct{}), depth: c.Depth}
	if err := q.open(); err != nil {
		q.destroy()
		q.CQ.Close()
		return nil, wrap(op, resourceStatus(err), err)
	}
	a.Retain() // until the device's queue is destroyed
	e := a.events
	e.mu.Lock()
	e.cqs[q.hw] = q
	e.mu.Unlock()
	go q.run()   // ends when the channel is closed; reap waits for it
	go q.reap(e) // ends when the queue is closed; the adapter waits for it
	return q, nil
}

// open makes the device's part.
func (q *cq) open() (err error) {
	q.wcs = (*[pollBatch]C.struct_ibv_wc)(C.calloc(pollBatch, C.size_t(unsafe.Sizeof(C.struct_ibv_wc{}))))
	if q.wcs == nil {
		return created(nil)
	}
	if q.ch, err = C.vs_create_comp_channel(q.a.ctx); q.ch == nil {
		return created(err)
	}
	if q.poll, err = newPollable(q.ch.fd, "ibv_comp_channel"); err != nil {
		return err
	}
	if q.hw, err = C.vs_create_cq(q.a.ctx, C.int(hardwareDepth(q.depth)), q.ch); q.hw == nil {
		return created(err)
	}
	return nil
}

// destroy undoes what open did.
func (q *cq) destroy() {
	q.pumping.Lock()
	defer q.pumping.Unlock()
	if q.hw != nil {
		q.a.destroyed("completion queue", C.vs_destroy_cq(q.hw))
		q.hw = nil
	}
	if q.poll.file != nil {
		_ = q.poll.file.Close()
	}
	if q.ch != nil {
		q.a.destroyed("completion channel", C.vs_destroy_comp_channel(q.ch))
	}
	C.free(unsafe.Pointer(q.wcs))
}

// reap destroys the device's part when the queue is closed.
func (q *cq) reap(e *events) {
	<-q.Closed()
	_ = q.poll.file.Close()
	<-q.done
	e.mu.Lock()
	delete(e.cqs, q.hw)
	e.mu.Unlock()
	q.destroy()
	q.a.Release()
}

// run serves the notifications of the device.
func (q *cq) run() {
	defer close(q.done)
	for {
		var rc C.int
		open := q.poll.wait(func(uintptr) bool {
			rc = C.vs_get_cq_event(q.ch)
			return rc != C.EAGAIN
		})
		if !open {
			return
		}
		if rc != 0 && rc != C.EINTR {
			q.fail(ntstatus.InternalError) // it would never notify again
			return
		}
		q.pumping.Lock()
		was := q.armed
		q.armed = armedNone
		q.pumping.Unlock()
		q.pump()
		if was == armedSolicited {
			q.solicited()
		}
		q.rearm()
	}
}

// rearm arms the device for as long as the consumer waits for a completion. What
// came in between does not notify, so it is fetched.
func (q *cq) rearm() {
	t, armed := q.Armed()
	if !armed || t == ndk.ArmErrors {
		return
	}
	want := armedAny
	if t == ndk.ArmSolicited && !q.a.plainEvents {
		want = armedSolicited
	}
	q.pumping.Lock()
	var rc C.int
	if q.hw != nil && q.armed < want {
		solicited := C.int(0)
		if want == armedSolicited {
			solicited = 1
		}
		if rc = C.vs_req_notify_cq(number(q.hw), solicited); rc == 0 {
			q.armed = want
		}
	}
	q.pumping.Unlock()
	if rc != 0 {
		q.fail(ntstatus.InternalError)
		return
	}
	q.pump()
	q.pumping.Lock()
	doubtful := q.doubtful
	q.pumping.Unlock()
	if t == ndk.ArmSolicited && doubtful && q.Queued() > 0 {
		q.solicited()
	}
}

// solicited notes that something that is queued may be the receive of a solicited
// send.
func (q *cq) solicited() {
	q.pumping.Lock()
	q.doubtful = false
	q.pumping.Unlock()
	if q.Solicited() {
		q.Spawn()
	}
}

// Arm implements ndk.CQ. A device does not tell which receives were solicited, but
// by notifying of them. Those that were fetched while it was not armed for that
// count as if they were.
func (q *cq) Arm(t ndk.ArmType) {
	if q.Queued() == 0 {
		q.pumping.Lock()
		q.doubtful = false
		q.pumping.Unlock()
	}
	q.CQ.Arm(t)
	q.rearm()
}

// Poll implements ndk.CQ.
func (q *cq) Poll(dst []ndk.Result) int {
	n := q.CQ.Poll(dst)
	for more := true; more && n < len(dst); {
		var got int
		if got, more = q.fetch(len(dst) - n); got > 0 {
			n += q.CQ.Poll(dst[n:])
		}
	}
	return n
}

// PollEx implements ndk.CQ.
func (q *cq) PollEx(dst []ndk.ResultEx) int {
	n := q.CQ.PollEx(dst)
	for more := true; more && n < len(dst); {
		var got int
		if got, more = q.fetch(len(dst) - n); got > 0 {
			n += q.CQ.PollEx(dst[n:])
		}
	}
	return n
}

// pump moves every completion of the device.
func (q *cq) pump() {
	for more := true; more; {
		_, more = q.fetch(pollBatch)
	}
}

// fetch moves up to n completions, and says whether there may be more of them: a
// device that gives fewer than it was asked for has no others.
func (q *cq) fetch(n int) (got int, more bool) {
	n = min(n, pollBatch)
	q.pumping.Lock()
	if q.hw == nil {
		q.pumping.Unlock()
		return 0, false
	}
	got = int(C.vs_poll_cq(number(q.hw), C.int(n), number(q.wcs)))
	fire := false
	if got > 0 {
		fire = q.sort(q.wcs[:got])
	}
	q.pumping.Unlock()
	if fire {
		q.Spawn()
	}
	if got < 0 {
		q.fail(ntstatus.InternalError)
	}
	return got, got == n
}

// number is the address of memory of C, for the calls that want it so.
func number[T any](p *T) C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(p))) }

// A work request id is the slot of its QP, or that of its receive in an SRQ, and
// the position in the queue.
//
//	| kind 8 | slot 24 | position 32 |
const (
	idSend = iota
	idReceive
	idShared
)

func requestID(kind, slot, pos uint32) uint64 {
	return uint64(kind)<<56 | uint64(slot)<<32 | uint64(pos)
}

// sort hands completions of the device to their QPs, which push what the consumer
// is to see. fire is that of soft.CQ.Push.
func (q *cq) sort(wcs []C.struct_ibv_wc) (fire bool) {
	q.a.qpsMu.RLock()
	defer q.a.qpsMu.RUnlock()
	for i := range wcs {
		wc := &wcs[i]
		kind, slot, pos := uint32(wc.wr_id>>56), uint32(wc.wr_id>>32)&0xFFFFFF, uint32(wc.wr_id)
		var p *qp
		if kind == idShared {
			p = q.a.byNum[uint32(wc.qp_num)]
		} else if int(slot) < len(q.a.qps) {
			p = q.a.qps[slot]
		}
		if p == nil {
			continue // of a QP that was given up
		}
		switch kind {
		case idSend:
			fire = p.sent(pos, wc) || fire
		case idReceive:
			fire = p.received(pos, wc) || fire
			q.doubtful = q.doubtful || q.armed != armedSolicited
		case idShared:
			fire = p.receivedShared(pos, wc) || fire
			q.doubtful = q.doubtful || q.armed != armedSolicited
		}
	}
	return fire
}

// fail ends the CQ and its QPs.
func (q *cq) fail(st ndk.Status) {
	if q.Fail(st) {
		q.Spawn()
	}
}

// Resize implements ndk.CQ.
func (q *cq) Resize(ctx context.Context, depth int) error {
	const op = "resize CQ"
	if !q.Hold() {
		return refuse(op, ndk.ErrClosed)
	}
	defer q.Release()
	if depth < 1 || depth > q.a.info.MaxCQDepth || q.a.info.Flags&ndk.FlagCQResize == 0 {
		return q.CQ.Resize(ctx, depth) // says why not
	}
	q.pump() // what is queued counts
	if depth < q.Queued() {
		return q.CQ.Resize(ctx, depth)
	}
	q.pumping.Lock()
	err := errno(C.vs_resize_cq(q.hw, C.int(hardwareDepth(depth))))
	q.pumping.Unlock()
	if err != nil {
		return wrap(op, resourceStatus(err), fmt.Errorf("depth %d: %w", depth, err))
	}
	return q.CQ.Resize(ctx, depth)
}
