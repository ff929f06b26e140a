package server

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// spareFiles are descriptors that the server keeps for what has to be done though there
// are none left: what a client has deleted goes with its last open, and nobody is there
// to try again.
type spareFiles struct {
	short atomic.Bool // some are missing
	mu    sync.Mutex  // held while do does without them, which is rare
	// guarded by mu
	files  [spareCount]*os.File
	closed bool
}

// spareCount is what it takes to find a name, whatever its case, and to remove it.
const spareCount = 4

// fill opens those that are missing, as far as there are descriptors.
func (s *spareFiles) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fillLocked()
}

func (s *spareFiles) fillLocked() {
	short := false
	for i := range s.files {
		if s.files[i] == nil && !s.closed {
			var err error
			s.files[i], err = os.Open(os.DevNull)
			short = short || err != nil
		}
	}
	s.short.Store(short)
}

func (s *spareFiles) emptyLocked() {
	for i, f := range s.files {
		if f != nil {
			_ = f.Close()
			s.files[i] = nil
		}
	}
}

// close gives them back.
func (s *spareFiles) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.emptyLocked()
}

// do calls f, and for want of descriptors again with the spare ones.
func (s *spareFiles) do(f func() error) error {
	if s.short.Load() {
		s.fill()
	}
	err := f()
	if !outOfFiles(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emptyLocked()
	defer s.fillLocked()
	return f()
}

func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
