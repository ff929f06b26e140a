package soft

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// SRQUser is a QP that takes its receives from an SRQ.
type SRQUser interface {
	QueueUser
	// BufferPosted says, with no lock held, that it is the turn of a QP that
	// Take sent away to take again. It does not block.
	BufferPosted()
}

// SRQ implements ndk.SRQ. Take is its other side. A buffer that was taken is the
// QP's: it completes there, and has left the depth of the SRQ.
type SRQ struct {
	Object
	pd     *PD
	maxSGE int

	notifyFn func() // Notify, made once

	mu        sync.Mutex
	n         notifier // guarded by mu, as all below
	recvs     []srqRecv
	sges      []SGE // maxSGE for each slot; both rings grow up to depth
	head      int
	count     int
	depth     int
	threshold int
	armed     bool
	failed    ndk.Status
	waiting   []SRQUser // for a buffer; the first is to take the next one
	users     users
}

type srqRecv struct {
	rc   any
	nsge int
}

// Received is a buffer that a QP took. The QP keeps it and hands it to Take
// again, which so need not allocate.
type Received struct {
	RequestContext any
	SGEs           []SGE
	Total          uint64 // bytes of the SGEs
}

const srqFirstSize = 16

// CreateSRQ implements ndk.PD. Its result is a *SRQ.
func (p *PD) CreateSRQ(_ context.Context, c ndk.SRQConfig) (ndk.SRQ, error) {
	const op = "create SRQ"
	i := &p.dev.info
	switch {
	case i.MaxSRQDepth == 0:
		return nil, fail(op, ntstatus.NotSupported, nil)
	case c.Depth < 1 || c.Depth > i.MaxSRQDepth:
		return nil, fail(op, ntstatus.InvalidParameter, fmt.Errorf("depth %d, at least 1 and at most %d", c.Depth, i.MaxSRQDepth))
	case c.MaxReceiveSGE < 0 || c.MaxReceiveSGE > i.MaxReceiveRequestSGE:
		return nil, fail(op, ntstatus.InvalidParameter, fmt.Errorf("%d SGEs, at most %d", c.MaxReceiveSGE, i.MaxReceiveRequestSGE))
	case c.NotifyThreshold < 0:
		return nil, fail(op, ntstatus.InvalidParameter, fmt.Errorf("threshold %d", c.NotifyThreshold))
	}
	s := &SRQ{
		pd: p, maxSGE: c.MaxReceiveSGE, depth: c.Depth, n: notifier{notify: c.Notify},
		threshold: c.NotifyThreshold, armed: c.NotifyThreshold > 0,
	}
	s.notifyFn = s.Notify
	if err := p.dev.InitObject(&s.Object, ndk.ObjectSRQ, s.drop, &p.Object); err != nil {
		return nil, fail(op, ndk.StatusOf(err), nil)
	}
	return s, nil
}

// PD is the domain of s.
func (s *SRQ) PD() *PD { return s.pd }

// Close implements ndk.Object. The buffers stay queued for the QPs that are
// there still, and are dropped when the last one is gone.
func (s *SRQ) Close() {
	if s.BeginClose() {
		s.mu.Lock()
		s.armed = false
		s.n.pending = false
		s.mu.Unlock()
		s.Release()
	}
}

// drop lets go of the buffers when nobody can take them any more.
func (s *SRQ) drop() {
	s.mu.Lock()
	s.recvs, s.sges, s.count = nil, nil, 0
	s.mu.Unlock()
}

// Attach makes q one that is told of a failure, until Detach. The caller holds
// s as an antecedent.
func (s *SRQ) Attach(q SRQUser) {
	s.mu.Lock()
	s.users.add(q)
	s.mu.Unlock()
}

// Detach undoes Attach.
func (s *SRQ) Detach(q SRQUser) {
	s.Leave(q)
	s.mu.Lock()
	delete(s.users.of, q)
	s.mu.Unlock()
}

// Queued is the number of buffers that wait to be taken.
func (s *SRQ) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Waiting reports whether q stands in line for a buffer.
func (s *SRQ) Waiting(q SRQUser) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.waiting, q)
}

// Receive implements ndk.SRQ.
func (s *SRQ) Receive(rc any, sgl []ndk.SGE) error {
	if len(sgl) > s.maxSGE {
		return ndk.ErrTooManySGEs
	}
	var total uint64
	for i := range sgl {
		total += uint64(sgl[i].Length)
	}
	if total > s.pd.dev.info.MaxTransferLength {
		return ndk.ErrTooLong
	}
	s.mu.Lock()
	switch {
	case s.Closing():
		s.mu.Unlock()
		return ndk.ErrClosed
	case s.failed != ntstatus.Success:
		s.mu.Unlock()
		return ndk.ErrQueueFailed
	case s.count >= s.depth:
		s.mu.Unlock()
		return ndk.ErrQueueFull
	}
	if s.count == len(s.recvs) {
		s.resize(min(max(2*len(s.recvs), srqFirstSize), s.depth))
	}
	i := s.head + s.count
	if i >= len(s.recvs) {
		i -= len(s.recvs)
	}
	s.recvs[i] = srqRecv{rc: rc, nsge: len(sgl)}
	dst := s.sges[i*s.maxSGE:]
	for j := range sgl {
		dst[j] = MakeSGE(&sgl[j])
	}
	s.count++
	next := s.nextLocked()
	s.mu.Unlock()
	if next != nil {
		next.BufferPosted()
	}
	return nil
}

// resize gives the rings n slots, in order from 0; n is at least count.
func (s *SRQ) resize(n int) {
	recvs, sges := make([]srqRecv, n), make([]SGE, n*s.maxSGE)
	for i := range s.count {
		o := (s.head + i) % len(s.recvs)
		recvs[i] = s.recvs[o]
		copy(sges[i*s.maxSGE:(i+1)*s.maxSGE], s.sges[o*s.maxSGE:])
	}
	s.recvs, s.sges, s.head = recvs, sges, 0
}

// nextLocked is the QP whose turn it is to take, if there is a buffer for it.
func (s *SRQ) nextLocked() SRQUser {
	if s.count == 0 || len(s.waiting) == 0 {
		return nil
	}
	return s.waiting[0]
}

// Take moves the oldest buffer to dst. If there is none, or others came before
// q, ok is false and q stands in line: it is told when its turn comes, and takes
// then, or leaves. fire says that a notification is due, which the caller runs,
// with Notify or Spawn, when it holds no lock.
func (s *SRQ) Take(q SRQUser, dst *Received) (ok, fire bool) {
	s.mu.Lock()
	if s.count == 0 || len(s.waiting) > 0 && s.waiting[0] != q {
		if !slices.Contains(s.waiting, q) {
			s.waiting = append(s.waiting, q)
		}
		s.mu.Unlock()
		return false, false
	}
	if len(s.waiting) > 0 {
		s.waiting = slices.Delete(s.waiting, 0, 1)
	}
	w := &s.recvs[s.head]
	dst.RequestContext, dst.Total = w.rc, 0
	dst.SGEs = append(dst.SGEs[:0], s.sges[s.head*s.maxSGE:][:w.nsge]...)
	for i := range dst.SGEs {
		dst.Total += uint64(dst.SGEs[i].Len)
	}
	w.rc = nil
	if s.head++; s.head == len(s.recvs) {
		s.head = 0
	}
	s.count--
	if s.armed && s.count == s.threshold-1 {
		fire = s.fireLocked()
	}
	next := s.nextLocked()
	s.mu.Unlock()
	if next != nil {
		next.BufferPosted()
	}
	return true, fire
}

// Leave takes q out of the line.
func (s *SRQ) Leave(q SRQUser) {
	s.mu.Lock()
	var next SRQUser
	if i := slices.Index(s.waiting, q); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		if i == 0 {
			next = s.nextLocked()
		}
	}
	s.mu.Unlock()
	if next != nil {
		next.BufferPosted()
	}
}

// fireLocked disarms for a notification, which the caller is to run if it says
// so.
func (s *SRQ) fireLocked() bool {
	s.armed = false
	if s.Closing() {
		return false
	}
	return s.n.due(&s.Object)
}

// Fail ends the SRQ with InternalError, and with it its QPs. The result is that
// of Take.
func (s *SRQ) Fail() (fire bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != ntstatus.Success {
		return false
	}
	s.failed = ntstatus.InternalError
	s.users.fail(s.pd.dev)
	return s.fireLocked()
}

// Notify runs the due notification, and those that become due meanwhile.
func (s *SRQ) Notify() {
	s.mu.Lock()
	for s.n.pending {
		s.n.pending = false
		st := s.failed
		s.mu.Unlock()
		s.n.notify(st)
		s.mu.Lock()
	}
	s.n.running = false
	s.mu.Unlock()
	s.Release()
}

// Spawn has Notify run by another goroutine. Close waits for it.
func (s *SRQ) Spawn() { s.pd.dev.env.Go(s.notifyFn) }

// Modify implements ndk.SRQ.
func (s *SRQ) Modify(_ context.Context, depth, threshold int) error {
	const op = "modify SRQ"
	if limit := s.pd.dev.info.MaxSRQDepth; depth < 0 || depth > limit {
		return fail(op, ntstatus.InvalidParameter, fmt.Errorf("depth %d, at most %d", depth, limit))
	}
	if threshold < 0 {
		return fail(op, ntstatus.InvalidParameter, fmt.Errorf("threshold %d", threshold))
	}
	s.mu.Lock()
	switch {
	case s.Closing():
		s.mu.Unlock()
		return refuse(op, ndk.ErrClosed)
	case depth != 0 && depth < s.count:
		n := s.count
		s.mu.Unlock()
		return fail(op, ntstatus.BufferOverflow, fmt.Errorf("%d buffers are queued", n))
	}
	if depth != 0 {
		if depth < len(s.recvs) {
			s.resize(depth)
		}
		s.depth = depth
	}
	fire := false
	if threshold > 0 {
		s.threshold, s.armed = threshold, true
		if s.count < threshold {
			fire = s.fireLocked()
		}
	}
	s.mu.Unlock()
	if fire {
		s.Spawn()
	}
	return nil
}
