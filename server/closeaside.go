package server

import (
	"context"
	"sync"
)

// closers close what nobody can reach any more and what may hang on its storage: each
// share's on goroutines of its own, so that none waits for the storage of another. The
// goroutines are there while there is something to close, and Close waits for them.
type closers struct {
	mu     sync.Mutex
	queues map[string]*closeQueue // guarded by mu; by folded name of the share
}

type closeQueue struct {
	todo    []func() // as many as there were opens
	workers int
}

// closersPerShare is how many calls on a share's storage may hang at once. Each has a
// thread of the operating system.
const closersPerShare = 8

// begin makes Close wait until s.wg.Done is called; false if the server is closing. Who
// has begun may start more that Close waits for.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.wg.Add(1)
	return true
}

// closeAside has f called on a goroutine. The caller is one whom Close waits for.
func (s *Server) closeAside(share string, f func()) {
	c, key := &s.closers, foldName(share)
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[key]
	if q == nil {
		if c.queues == nil {
			c.queues = make(map[string]*closeQueue)
		}
		q = &closeQueue{}
		c.queues[key] = q
	}
	q.todo = append(q.todo, f)
	if q.workers < closersPerShare {
		q.workers++
		s.wg.Add(1)
		go s.runCloser(key, q) // ends when nothing is left to do; Close waits
	}
}

func (s *Server) runCloser(key string, q *closeQueue) {
	defer s.wg.Done()
	c := &s.closers
	for {
		c.mu.Lock()
		if len(q.todo) == 0 {
			if q.workers--; q.workers == 0 {
				delete(c.queues, key)
			}
			c.mu.Unlock()
			return
		}
		f := q.todo[0]
		q.todo[0] = nil
		q.todo = q.todo[1:]
		c.mu.Unlock()
		s.callAside(f)
	}
}

func (s *Server) callAside(f func()) {
	defer s.contain("closing what nobody reaches any more")
	f()
}

// closeTreeAside closes what is open in a tree that cutTree has cut off, and gives back
// what the tree holds. closing counts what is left.
func (s *Server) closeTreeAside(t *tree, closing *sync.WaitGroup) {
	s.closeOpensAside(t.share.Name, t.sess.opens.take(t, false), t, closing)
	closing.Add(1)
	s.closeAside(t.share.Name, func() {
		defer closing.Done()
		t.drop() // that of cutTree; each open above has its own
	})
}

// closeOpensAside closes opens and drops the caller's reference to each. t is held for
// them until they are closed; nil for none.
func (s *Server) closeOpensAside(share string, opens []*open, t *tree, closing *sync.WaitGroup) {
	for _, o := range opens {
		if t != nil {
			t.hold()
		}
		closing.Add(1)
		s.closeAside(share, func() {
			defer closing.Done()
			if t != nil {
				defer t.drop()
			}
			o.putAway("closing a share's files")
		})
	}
}

// await returns when done is closed, or ctx has ended.
func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-done:
		return nil
	default:
		return ctx.Err()
	}
}
