//go:build verbs && linux && cgo

package verbs

/*
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

// srq implements ndk.SRQ by that of the device. The count that decides about the
// threshold is of the receives whose completions were not fetched yet; the
// device, which knows better, is armed when the count has reached the threshold.
type srq struct {
	soft.Object
	pd     *pd
	hw     *C.struct_ibv_srq
	maxSGE int
	size   int // of the device's queue

	rx    sync.Mutex         // serialises the calls of the device
	sges  []C.struct_ibv_sge // guarded by rx; off the heap
	local []local            // guarded by rx

	mu        sync.Mutex
	recvs     []recvWR // guarded by mu, as all below; by slot
	free      []uint32
	depth     int
	queued    int
	threshold int
	armed     bool // a notification is due when the count falls below the threshold
	watched   bool // the device is armed
	failed    bool
	notify    func(ndk.Status)
	running   bool
	pending   bool
	users     map[*qp]struct{}
}

// CreateSRQ implements ndk.PD.
func (p *pd) CreateSRQ(_ context.Context, c ndk.SRQConfig) (ndk.SRQ, error) {
	const op = "create SRQ"
	if !p.Hold() {
		return nil, refuse(op, ndk.ErrClosed)
	}
	defer p.Release()
	i := &p.adapter.info
	switch {
	case i.MaxSRQDepth == 0:
		return nil, wrap(op, ntstatus.NotSupported, nil)
	case c.Depth < 1 || c.Depth > i.MaxSRQDepth:
		return nil, wrap(op, ntstatus.InvalidParameter, fmt.Errorf("depth %d, at least 1 and at most %d", c.Depth, i.MaxSRQDepth))
	case c.MaxReceiveSGE < 0 || c.MaxReceiveSGE > i.MaxReceiveRequestSGE:
		return nil, wrap(op, ntstatus.InvalidParameter, fmt.Errorf("%d SGEs, at most %d", c.MaxReceiveSGE, i.MaxReceiveRequestSGE))
	case c.NotifyThreshold < 0:
		return nil, wrap(op, ntstatus.InvalidParameter, fmt.Errorf("threshold %d", c.NotifyThreshold))
	}
	s := &srq{
		pd: p, maxSGE: c.MaxReceiveSGE, depth: c.Depth, threshold: c.NotifyThreshold, armed: c.NotifyThreshold > 0,
		notify: c.Notify, users: make(map[*qp]struct{}),
	}
	n := max(s.maxSGE, 1)
	buf := (*C.struct_ibv_sge)(C.calloc(C.size_t(n), C.size_t(unsafe.Sizeof(C.struct_ibv_sge{}))))
	if buf == nil {
		return nil, wrap(op, ntstatus.InsufficientResources, nil)
	}
	s.sges, s.local = unsafe.Slice(buf, n), make([]local, n)
	var err error
	if s.hw, err = s.make(c.Depth); err != nil {
		C.free(unsafe.Pointer(buf))
		return nil, wrap(op, resourceStatus(err), err)
	}
	s.grow(c.Depth)
	if err := p.adapter.InitObject(&s.Object, ndk.ObjectSRQ, s.destroy, &p.Object); err != nil {
		p.adapter.destroyed("shared receive queue", C.vs_destroy_srq(s.hw))
		C.free(unsafe.Pointer(buf))
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	e := p.adapter.events
	e.mu.Lock()
	e.srqs[s.hw] = s
	e.mu.Unlock()
	return s, nil
}

// make creates the device's queue. It has room for a few more, since a slot is
// free for the device only when its completion was fetched.
func (s *srq) make(depth int) (*C.struct_ibv_srq, error) {
	var init C.struct_ibv_srq_init_attr
	init.attr.max_wr, init.attr.max_sge = C.uint32_t(depth), C.uint32_t(max(s.maxSGE, 1))
	hw, err := C.vs_create_srq(s.pd.hw, &init)
	if hw == nil {
		return nil, created(err)
	}
	s.size = depth
	return hw, nil
}

// grow adds slots for a depth of n.
func (s *srq) grow(n int) {
	for len(s.recvs) < n {
		s.free = append(s.free, uint32(len(s.recvs)))
		s.recvs = append(s.recvs, recvWR{})
	}
}

func (s *srq) destroy() {
	a := s.pd.adapter
	e := a.events
	e.mu.Lock()
	delete(e.srqs, s.hw)
	e.mu.Unlock()
	a.destroyed("shared receive queue", C.vs_destroy_srq(s.hw))
	C.free(unsafe.Pointer(unsafe.SliceData(s.sges)))
}

// Close implements ndk.Object. The buffers stay queued for the QPs that are there
// still, and are dropped when the last one is gone.
func (s *srq) Close() {
	if s.BeginClose() {
		s.mu.Lock()
		s.armed, s.pending = false, false
		s.mu.Unlock()
		s.Release()
	}
}

func (s *srq) attach(q *qp) {
	s.mu.Lock()
	s.users[q] = struct{}{}
	s.mu.Unlock()
}

func (s *srq) detach(q *qp) {
	s.mu.Lock()
	delete(s.users, q)
	s.mu.Unlock()
}

// Receive implements ndk.SRQ.
func (s *srq) Receive(rc any, sgl []ndk.SGE) error {
	if !s.Hold() {
		return ndk.ErrClosed
	}
	defer s.Release()
	if err := checkReceive(s.pd.adapter, sgl, s.maxSGE); err != nil {
		return err
	}
	s.rx.Lock()
	defer s.rx.Unlock()
	n, broken := s.pd.scatter(sgl, s.local[:len(sgl)])
	l := s.local[:n]
	s.mu.Lock()
	if s.queued >= s.depth {
		s.mu.Unlock()
		s.look() // some may be done
		s.mu.Lock()
	}
	switch {
	case s.failed:
		s.mu.Unlock()
		return ndk.ErrQueueFailed
	case s.queued >= s.depth || len(s.free) == 0:
		s.mu.Unlock()
		return ndk.ErrQueueFull
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.recvs[slot] = recvWR{rc: rc, hw: true, nsge: n, broken: broken}
	s.queued++
	watch := s.armed && !s.watched && s.queued >= s.threshold
	if watch {
		s.watched = true
	}
	limit := s.threshold
	s.mu.Unlock()
	if err := s.pd.postRecv(nil, s.hw, requestID(idShared, 0, slot), l, s.sges); err != nil {
		s.mu.Lock()
		s.recvs[slot] = recvWR{}
		s.free = append(s.free, slot)
		s.queued--
		s.mu.Unlock()
		return ndk.ErrQueueFull
	}
	if watch {
		s.watch(limit)
	}
	return nil
}

// look fetches the completions of the QPs.
func (s *srq) look() {
	s.mu.Lock()
	var held []*qp
	for q := range s.users {
		if q.Hold() {
			held = append(held, q)
		}
	}
	s.mu.Unlock()
	for _, q := range held {
		q.rcq.pump()
		q.Release()
	}
}

// watch arms the device.
func (s *srq) watch(limit int) {
	attr := C.struct_ibv_srq_attr{srq_limit: C.uint32_t(limit)}
	if err := errno(C.vs_modify_srq(s.hw, &attr, C.IBV_SRQ_LIMIT)); err != nil {
		s.mu.Lock()
		s.watched = false
		s.mu.Unlock()
	}
}

// take gives the receive of a slot to the QP that it completes on.
func (s *srq) take(slot uint32) (w recvWR, ok, fire bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(slot) >= len(s.recvs) || !s.recvs[slot].hw {
		return w, false, false
	}
	w = s.recvs[slot]
	s.recvs[slot] = recvWR{}
	s.free = append(s.free, slot)
	s.queued--
	if s.armed && s.queued == s.threshold-1 {
		fire = s.dueLocked()
	}
	return w, true, fire
}

// low is told when the device finds the count below the threshold.
func (s *srq) low() {
	s.mu.Lock()
	s.watched = false
	fire := s.armed && s.dueLocked()
	s.mu.Unlock()
	if fire {
		s.run()
	}
}

// fail is told when the device's queue failed.
func (s *srq) fail() {
	s.mu.Lock()
	fire := !s.failed
	s.failed = true
	var users []*qp
	for q := range s.users {
		if fire && q.Hold() {
			users = append(users, q)
		}
	}
	fire = fire && s.dueLocked()
	s.mu.Unlock()
	for _, q := range users {
		q.broken()
		q.Release()
	}
	if fire {
		s.run()
	}
}

// dueLocked notes that a notification is to be run, and reports whether the caller
// has to see to it, with a reference taken for that.
func (s *srq) dueLocked() bool {
	s.armed = false
	if s.notify == nil || s.Closing() {
		return false
	}
	s.pending = true
	if s.running {
		return false
	}
	s.running = true
	s.Retain()
	return true
}

// run runs the due notification, and those that become due meanwhile.
func (s *srq) run() {
	s.mu.Lock()
	for s.pending {
		s.pending = false
		st := ntstatus.Success
		if s.failed {
			st = ntstatus.InternalError
		}
		s.mu.Unlock()
		s.notify(st)
		s.mu.Lock()
	}
	s.running = false
	s.mu.Unlock()
	s.Release()
}

// Modify implements ndk.SRQ.
func (s *srq) Modify(_ context.Context, depth, threshold int) error {
	const op = "modify SRQ"
	if !s.Hold() {
		return refuse(op, ndk.ErrClosed)
	}
	defer s.Release()
	if limit := s.pd.adapter.info.MaxSRQDepth; depth < 0 || depth > limit {
		return wrap(op, ntstatus.InvalidParameter, fmt.Errorf("depth %d, at most %d", depth, limit))
	}
	if threshold < 0 {
		return wrap(op, ntstatus.InvalidParameter, fmt.Errorf("threshold %d", threshold))
	}
	s.rx.Lock()
	defer s.rx.Unlock()
	s.mu.Lock()
	queued := s.queued
	s.mu.Unlock()
	if depth != 0 && depth < queued {
		return wrap(op, ntstatus.BufferOverflow, fmt.Errorf("%d buffers are queued", queued))
	}
	if depth > s.size {
		attr := C.struct_ibv_srq_attr{max_wr: C.uint32_t(depth)}
		if err := errno(C.vs_modify_srq(s.hw, &attr, C.IBV_SRQ_MAX_WR)); err != nil {
			return wrap(op, resourceStatus(err), err)
		}
		s.size = depth
	}
	s.mu.Lock()
	if depth != 0 {
		s.grow(depth)
		s.depth = depth
	}
	fire, watch := false, false
	if threshold > 0 {
		s.threshold, s.armed = threshold, true
		if s.queued < threshold {
			fire = s.dueLocked()
		} else {
			s.watched, watch = true, true
		}
	}
	s.mu.Unlock()
	if watch {
		s.watch(threshold)
	}
	if fire {
		go s.run() // ends with the callback; Close waits for it
	}
	return nil
}

// receivedShared notes a completion of a receive that the QP took from its SRQ.
func (q *qp) receivedShared(slot uint32, wc *C.struct_ibv_wc) (fire bool) {
	s := q.shared
	if s == nil {
		return false
	}
	w, ok, low := s.take(slot)
	if low {
		go s.run() // ends with the callback; Close waits for it
	}
	if !ok {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	w.done = true
	q.fill(&w, wc)
	return q.deliverLocked(&w)
}
