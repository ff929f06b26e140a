//go:build verbs && linux && cgo

package verbs

import (
	"sync"
	"time"
)

// sentry fetches the completions of connected QPs now and then, in case nobody
// else does: the consumer neither polls nor waits for them, or waits for solicited
// ones. A device tells about a request that failed, and so about the end of a
// connection, by its completion alone; and that a CQ has too many is found by
// fetching them. Its goroutine runs while there is a connected QP; the adapter
// waits for it.
type sentry struct {
	a *adapter

	mu   sync.Mutex
	qps  map[*qp]struct{} // guarded by mu, as all below
	wake chan struct{}    // closed when qps is empty; nil while there is no goroutine
}

const sentryInterval = 100 * time.Millisecond

// add has q looked after until drop. The caller holds a reference to it.
func (s *sentry) add(q *qp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.qps == nil {
		s.qps = make(map[*qp]struct{})
	}
	s.qps[q] = struct{}{}
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
	var held []*qp
	for {
		select {
		case <-t.C:
		case <-wake:
			return
		}
		s.mu.Lock()
		for q := range s.qps {
			if q.Hold() {
				held = append(held, q)
			}
		}
		s.mu.Unlock()
		for i, q := range held {
			q.look()
			q.Release()
			held[i] = nil
		}
		held = held[:0]
	}
}
