package main

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

// countedFS counts how often it was closed.
type countedFS struct {
	vfs.FS
	closed *atomic.Int32
}

func (c countedFS) Close() error {
	c.closed.Add(1)
	return c.FS.Close()
}

// Who has waited long enough for storage that hangs goes on without it; it is opened once
// for all who ask, and closed when it is there at last and nobody waits.
func TestStorageThatHangsInOpen(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error // of the open, when it ends
		stay bool  // somebody waits until then
	}{
		{"nobody waits when it is there", nil, false},
		{"somebody waits", nil, true},
		{"it fails in the end", fs.ErrPermission, false},
		{"it fails for who waits", fs.ErrPermission, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var st stores
			var opened, closed atomic.Int32
			inOpen, goOn := make(chan struct{}, 1), make(chan struct{})
			open := func() (vfs.FS, error) {
				opened.Add(1)
				inOpen <- struct{}{}
				<-goOn
				if c.err != nil {
					return nil, c.err
				}
				m, err := memory.New(memory.Config{})
				return countedFS{m, &closed}, err
			}
			key := storeKey{path: "/hangs"}
			ctx, cancel := context.WithCancel(t.Context())
			first := make(chan error)
			go func() {
				_, _, err := st.get(ctx, key, open)
				first <- err
			}()
			<-inOpen
			cancel()
			if err := <-first; !errors.Is(err, context.Canceled) {
				t.Errorf("who has waited long enough: %v", err)
			}
			if _, _, err := st.get(ctx, key, open); !errors.Is(err, context.Canceled) {
				t.Errorf("who asks again: %v", err)
			}
			if err := st.wait(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("the end, which has waited long enough: %v", err)
			}
			stays := make(chan error, 1)
			if c.stay {
				ready := context.Context(waited{t.Context(), make(chan struct{}, 1)})
				go func() {
					_, release, err := st.get(ready, key, open)
					if err == nil {
						if closed.Load() != 0 {
							t.Error("closed for who has it")
						}
						release()
					}
					stays <- err
				}()
				<-ready.(waited).asked
			} else {
				stays <- c.err
			}
			close(goOn)
			if err := <-stays; !errors.Is(err, c.err) {
				t.Errorf("who stays: %v, want %v", err, c.err)
			}
			if err := st.wait(t.Context()); err != nil {
				t.Error(err)
			}
			want := int32(1)
			if c.err != nil {
				want = 0
			}
			if opened.Load() != 1 || closed.Load() != want || len(st.keys()) != 0 {
				t.Errorf("opened %d times, closed %d, %d are held", opened.Load(), closed.Load(), len(st.keys()))
			}
		})
	}
}

// waited is a context that tells when somebody waits for it.
type waited struct {
	context.Context
	asked chan struct{}
}

func (w waited) Done() <-chan struct{} {
	select {
	case w.asked <- struct{}{}:
	default:
	}
	return w.Context.Done()
}
