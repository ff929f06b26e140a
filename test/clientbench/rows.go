package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// row is a line of the table. do returns how much was done in w.length: bytes or
// operations.
type row struct {
	name, unit, cost string
	scale, costScale float64
	signed           bool
	prepare          func(w *work) error
	do               func(w *work) (float64, error)
}

// work is what a row is carried out with.
type work struct {
	share  share
	big    string // its file of bigSize: guests and users have one each
	length time.Duration
	file   file
	calls  atomic.Int64 // of the library
}

const (
	bigSize = 1 << 30
	block   = 1 << 20
	small   = 4096
	depth   = 32
	many    = 10000
)

var rows = []row{
	{"read 1 MiB, one after the other", "MB/s", "s/GiB", 1e-6, 1 << 30, false, openBig, sequential(1, file.ReadAt)},
	{"read 1 MiB, 8 in flight", "MB/s", "s/GiB", 1e-6, 1 << 30, false, openBig, sequential(8, file.ReadAt)},
	{"write 1 MiB, one after the other", "MB/s", "s/GiB", 1e-6, 1 << 30, false, openBig, sequential(1, file.WriteAt)},
	{"write 1 MiB, 8 in flight", "MB/s", "s/GiB", 1e-6, 1 << 30, false, openBig, sequential(8, file.WriteAt)},
	{"read 4 KiB at random, 32 in flight", "1/s", "µs each", 1, 1e6, false, openBig, random(file.ReadAt)},
	{"write 4 KiB at random, 32 in flight", "1/s", "µs each", 1, 1e6, false, openBig, random(file.WriteAt)},
	{"read 1 MiB, 8 in flight, signed", "MB/s", "s/GiB", 1e-6, 1 << 30, true, openBig, sequential(8, file.ReadAt)},
	{"write 1 MiB, 8 in flight, signed", "MB/s", "s/GiB", 1e-6, 1 << 30, true, openBig, sequential(8, file.WriteAt)},
	{"open and close", "1/s", "µs each", 1, 1e6, false, openBig, each(func(w *work) error {
		f, err := w.share.open(w.big, os.O_RDONLY)
		if err != nil {
			return err
		}
		return f.Close()
	})},
	{"stat", "1/s", "µs each", 1, 1e6, false, openBig, each(func(w *work) error {
		_, err := w.share.size(w.big)
		return err
	})},
	{"list 10,000 entries", "lists/s", "ms each", 1, 1e3, false, crowd, each(func(w *work) error {
		n, err := w.share.list("crowd")
		if err == nil && n != many {
			err = fmt.Errorf("%d entries of %d", n, many)
		}
		return err
	})},
}

// openBig opens the big file, which it makes if it is not there.
func openBig(w *work) error {
	f, err := w.share.open(w.big, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	w.file = f
	n, err := w.share.size(w.big)
	if err != nil || n == bigSize {
		return err
	}
	p := make([]byte, block)
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	for off := int64(0); off < bigSize; off += block {
		if _, err := f.WriteAt(p, off); err != nil {
			return err
		}
	}
	return nil
}

// crowd makes a directory of many files.
func crowd(w *work) error {
	if err := w.share.mkdir("crowd"); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	for i := range many {
		f, err := w.share.open(fmt.Sprintf("crowd/file-%05d.txt", i), os.O_WRONLY|os.O_CREATE)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

type transfer func(f file, p []byte, off int64) (int, error)

// sequential goes through the big file with so many calls at a time.
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
		n, err := crew(w, depth, small, func(p []byte) error {
			_, err := t(w.file, p, rand.Int64N(bigSize/small)*small)
			return err
		})
		return n / small, err
	}
}

// crew has n goroutines do the same until the time is over, and returns the bytes.
func crew(w *work, n, size int, do func(p []byte) error) (float64, error) {
	end := time.Now().Add(w.length)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			p := make([]byte, size)
			for errs[i] == nil && time.Now().Before(end) {
				if errs[i] = do(p); errs[i] == nil {
					w.calls.Add(1)
				}
			}
		})
	}
	all.Wait()
	return float64(w.calls.Load()) * float64(size), errors.Join(errs...)
}

// each does something over and over.
func each(do func(w *work) error) func(w *work) (float64, error) {
	return func(w *work) (float64, error) {
		for end := time.Now().Add(w.length); time.Now().Before(end); w.calls.Add(1) {
			if err := do(w); err != nil {
				return 0, err
			}
		}
		return float64(w.calls.Load()), nil
	}
}
