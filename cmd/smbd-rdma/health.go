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
	m  map[vfs.FS]*probe // guarded by mu
}

type probe struct {
	done chan struct{}
	err  error // set before done is closed
}

// ask asks whether the storage can be reached. The goroutine of a question that is not
// answered ends with the system call that it is in.
func (p *probes) ask(ctx context.Context, fsys vfs.FS) error {
	p.mu.Lock()
	q := p.m[fsys]
	if q == nil {
		if p.m == nil {
			p.m = map[vfs.FS]*probe{}
		}
		q = &probe{done: make(chan struct{})}
		p.m[fsys] = q
		go func() {
			if _, q.err = fsys.Stat(context.Background(), vfs.Root); q.err == nil {
				_, q.err = fsys.Statfs(context.Background())
			}
			p.mu.Lock()
			delete(p.m, fsys)
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
	for path, fsys := range s.stores.all() {
		asked.Go(func() {
			if err := s.probes.ask(ctx, fsys); err != nil {
				mu.Lock()
				defer mu.Unlock()
				bad = append(bad, fmt.Sprintf("%s: %v", path, err))
			}
		})
	}
	asked.Wait()
	if len(bad) == 0 {
		return nil
	}
	slices.Sort(bad)
	return errors.New("shares that cannot be reached: " + strings.Join(bad, "; "))
}
