package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// work is what a row is carried out with.
type work struct {
	ctx    context.Context
	share  *client.Share
	length time.Duration
	file   *client.File
}

// row is a line of the table. do returns how much was done in w.length: bytes or
// operations.
type row struct {
	name, unit, cost string
	scale, costScale float64
	prepare          func(w *work) error
	do               func(w *work) (float64, error)
}

const (
	bigSize = 1 << 30
	block   = 1 << 20
	depth   = 32
	many    = 10000
)

var rows = []row{
	{"read 1 MiB, one after the other", "MB/s", "s/GiB", 1e-6, 1 << 30, openBig, sequential(1, (*client.File).ReadAt)},
	{"read 1 MiB, 8 in flight", "MB/s", "s/GiB", 1e-6, 1 << 30, openBig, sequential(8, (*client.File).ReadAt)},
	{"write 1 MiB, one after the other", "MB/s", "s/GiB", 1e-6, 1 << 30, openBig, sequential(1, (*client.File).WriteAt)},
	{"write 1 MiB, 8 in flight", "MB/s", "s/GiB", 1e-6, 1 << 30, openBig, sequential(8, (*client.File).WriteAt)},
	{"read 4 KiB at random, 32 in flight", "1/s", "µs each", 1, 1e6, openBig, random((*client.File).ReadAt)},
	{"write 4 KiB at random, 32 in flight", "1/s", "µs each", 1, 1e6, openBig, random((*client.File).WriteAt)},
	{"open and close", "1/s", "µs each", 1, 1e6, openBig, each(func(w *work, _ int) error {
		f, err := w.share.Open(w.ctx, "big")
		if err != nil {
			return err
		}
		return f.Close()
	})},
	{"stat", "1/s", "µs each", 1, 1e6, openBig, each(func(w *work, _ int) error {
		_, err := w.share.Stat(w.ctx, "big")
		return err
	})},
	{"create and delete", "1/s", "µs each", 1, 1e6, fresh, each(func(w *work, i int) error {
		name := fmt.Sprintf("fresh/%d", i)
		f, err := w.share.Create(w.ctx, name)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		return w.share.Remove(w.ctx, name)
	})},
	{"list 10,000 entries", "lists/s", "ms each", 1, 1e3, crowd, func(w *work) (float64, error) {
		n := 0.0
		for end := time.Now().Add(w.length); time.Now().Before(end); n++ {
			es, err := w.share.ReadDir(w.ctx, "crowd")
			if err != nil {
				return 0, err
			}
			if len(es) != many {
				return 0, fmt.Errorf("%d entries of %d", len(es), many)
			}
		}
		return n, nil
	}},
}

// openBig opens the big file, which it makes if it is not there.
func openBig(w *work) error {
	f, err := w.share.OpenFile(w.ctx, "big", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	w.file = f
	st, err := f.StatContext(w.ctx)
	if err != nil || st.Size() == bigSize {
		return err
	}
	p := make([]byte, block)
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	for off := int64(0); off < bigSize; off += block {
		if _, err := f.WriteAtContext(w.ctx, p, off); err != nil {
			return err
		}
	}
	return nil
}

func fresh(w *work) error {
	if err := w.share.Mkdir(w.ctx, "fresh"); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func crowd(w *work) error {
	if err := w.share.Mkdir(w.ctx, "crowd"); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(w.ctx)
	g.SetLimit(depth)
	for i := range many {
		g.Go(func() error {
			f, err := w.share.Create(ctx, fmt.Sprintf("crowd/file-%05d.txt", i))
			if err != nil {
				return err
			}
			return f.Close()
		})
	}
	return g.Wait()
}

type transfer func(f *client.File, p []byte, off int64) (int, error)

// sequential goes through the big file with so many requests at a time.
func sequential(inFlight int, t transfer) func(w *work) (float64, error) {
	return func(w *work) (float64, error) {
		var next atomic.Int64
		return crew(w, inFlight, block, func(p []byte) error {
			off := next.Add(block) - block
			_, err := t(w.file, p, off%bigSize)
			return err
		})
	}
}

func random(t transfer) func(w *work) (float64, error) {
	return func(w *work) (float64, error) {
		n, err := crew(w, depth, 4096, func(p []byte) error {
			_, err := t(w.file, p, rand.Int64N(bigSize/4096)*4096)
			return err
		})
		return n / 4096, err
	}
}

// crew has n goroutines do the same until the time is over, and returns the bytes.
func crew(w *work, n, size int, do func(p []byte) error) (float64, error) {
	end := time.Now().Add(w.length)
	var bytes atomic.Int64
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			p := make([]byte, size)
			for errs[i] == nil && time.Now().Before(end) {
				if errs[i] = do(p); errs[i] == nil {
					bytes.Add(int64(size))
				}
			}
		})
	}
	all.Wait()
	return float64(bytes.Load()), errors.Join(errs...)
}

// each does something over and over.
func each(do func(w *work, i int) error) func(w *work) (float64, error) {
	return func(w *work) (float64, error) {
		i := 0
		for end := time.Now().Add(w.length); time.Now().Before(end); i++ {
			if err := do(w, i); err != nil {
				return 0, err
			}
		}
		return float64(i), nil
	}
}
