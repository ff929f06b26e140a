//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"sync"
	"time"
)

// sentry looks after connected QPs of an adapter whose requests make no progress.
// A device tells about a request that failed by its completion alone, which nobody
// sees while the consumer neither polls nor waits for any completion; and the
// connection manager does not know of it at all. Its goroutine runs while there is
// a connected QP; the adapter waits for it.
type sentry struct {
	a *adapter

	mu   sync.Mutex
	qps  map[*qp]uint32 // guarded by mu, as all below; with the head of the last look
	wake chan struct{}  // closed when qps is empty; nil while there is no goroutine
}

const sentryInterval = 100 * time.Millisecond

// add has q looked after until drop. The caller holds a reference to it.
func (s *sentry) add(q *qp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.qps == nil {
		s.qps = make(map[*qp]uint32)
	}
	s.qps[q] = 0
	if s.wake == nil {
		s.wake = make(chan struct{})
		s.a.Retain()
		go s.run(s.wake) // ends with the last drop
	}
}

func (s *sentry) drop(q *qp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.qps[q]; !ok {
		return
	}
	delete(s.qps, q)
	if len(s.qps) == 0 {
		close(s.wake)
		s.wake = nil
	}
}

func (s *sentry) run(wake chan struct{}) {
	defer s.a.Release()
	t := time.NewTicker(sentryInterval)
	defer t.Stop()
	var broken []*qp
	for {
		select {
		case <-t.C:
		case <-wake:
			return
		}
		s.mu.Lock()
		for q, last := range s.qps {
			if head, stuck := q.stuck(last); stuck && q.Hold() {
				broken = append(broken, q)
			} else {
				s.qps[q] = head
			}
		}
		s.mu.Unlock()
		for i, q := range broken {
			if q.deviceState() == C.IBV_QPS_ERR {
				q.broken()
			}
			q.Release()
			broken[i] = nil
		}
		broken = broken[:0]
	}
}

// stuck reports whether the oldest request is that of the last look still.
func (q *qp) stuck(last uint32) (head uint32, stuck bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.head, q.state == qpConnected && q.head != q.tail && q.head == last
}

// deviceState is the state of the device's QP. The caller holds a reference.
func (q *qp) deviceState() C.enum_ibv_qp_state {
	q.mu.Lock()
	hw := q.hw
	q.mu.Unlock()
	var attr C.struct_ibv_qp_attr
	var init C.struct_ibv_qp_init_attr
	if C.vs_query_qp(hw, &attr, C.IBV_QP_STATE, &init) != 0 {
		return C.IBV_QPS_UNKNOWN
	}
	return attr.qp_state
}
