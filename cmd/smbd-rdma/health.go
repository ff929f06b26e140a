package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// healthTime bounds how long a share may take to answer before it counts as one that
// cannot be reached, as storage on a network that hangs.
const healthTime = 5 * time.Second

// probes are the questions that the storage of shares has not answered yet: one for each
// share, however often somebody asks. The zero value is ready.
type probes struct {
	mu sync.Mutex
	m  map[storeKey]*probe // guarded by mu
}

type probe struct {
	done chan struct{}
	err  error // set before done is closed
}

// ask asks whether a store can be reached. The goroutine of a question that
// is not answered ends with the system call that it is in.
func (p *probes) ask(ctx context.Context, key storeKey, question func() error) error {
	p.mu.Lock()
	q := p.m[key]
	if q == nil {
		if p.m == nil {
			p.m = map[storeKey]*probe{}
		}
		q = &probe{done: make(chan struct{})}
		p.m[key] = q
		go func() {
			q.err = question()
			p.mu.Lock()
			delete(p.m, key)
			p.mu.Unlock()
			close(q.done)
		}()
	}
	p.mu.Unlock()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return errors.New("does not answer")
	}
}

// healthy reports which shares cannot be reached.
func (s *daemon) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	s.srv.Stats() // takes the server's locks
	var mu sync.Mutex
	var bad []string
	var asked sync.WaitGroup
	check := func(key storeKey, question func() error) {
		asked.Go(func() {
			if err := s.probes.ask(ctx, key, question); err != nil {
				mu.Lock()
				defer mu.Unlock()
				bad = append(bad, fmt.Sprintf("%s%s: %v", key.path, key.share, err))
			}
		})
	}
	for _, key := range s.stores.keys() {
		check(key, func() error {
			fsys, release, ok := s.stores.borrow(key)
			if !ok {
				return nil // the last who had it has gone
			}
			defer release()
			_, err := fsys.Stat(context.Background(), vfs.Root)
			if err == nil {
				_, err = fsys.Statfs(context.Background())
			}
			return err
		})
	}
	for _, sh := range *s.closed.Load() {
		check(sh.store(sh.staticPath()), func() error {
			_, release, err := sh.open(context.Background(), &s.stores, sh.staticPath())
			if err == nil {
				release()
			}
			return err
		})
	}
	asked.Wait()
	if len(bad) == 0 {
		return nil
	}
	slices.Sort(bad)
	bad = slices.Compact(bad)
	return errors.New("shares that cannot be reached: " + strings.Join(bad, "; "))
}
