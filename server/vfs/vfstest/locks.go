package vfstest

import (
	"io/fs"
	"math"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

func testLockRange(s *suite) {
	a, aok := s.create("f", "").(vfs.RangeLocker)
	b, bok := s.open("f", vfs.OpenOptions{Access: rw}).(vfs.RangeLocker)
	if !aok || !bok {
		s.unsupported("vfs.RangeLocker")
	}
	const ex, sh = true, false
	for i, c := range []struct {
		by          vfs.RangeLocker
		unlock      bool
		off, length int64
		exclusive   bool
		want        error
	}{
		{a, false, 10, 10, sh, nil},
		{b, false, 10, 10, sh, nil}, // shared
		{b, false, 15, 1, ex, syscall.EAGAIN},
		{b, false, 20, 5, ex, nil}, // beside
		{a, false, 0, 10, ex, nil},
		{b, false, 9, 1, sh, syscall.EAGAIN},
		{b, true, 10, 10, sh, nil},
		{a, false, 10, 10, ex, nil}, // one's own becomes exclusive
		{b, false, 10, 1, sh, syscall.EAGAIN},
		{a, true, 12, 3, sh, nil}, // a hole in one's own
		{b, false, 12, 3, ex, nil},
		{b, false, 12, 4, ex, syscall.EAGAIN},
		{a, true, 0, 1 << 40, sh, nil},
		{b, false, 0, 20, ex, nil},
		{b, true, 0, 20, sh, nil},
		{b, true, 0, 20, sh, nil}, // nothing is locked
		{a, false, math.MaxInt64 - 10, 10, ex, nil},
		{b, false, math.MaxInt64 - 1, 1, sh, syscall.EAGAIN},
		{a, false, -1, 10, sh, syscall.EINVAL},
		{a, false, 0, 0, sh, syscall.EINVAL},
		{a, false, 0, -1, sh, syscall.EINVAL},
		{a, false, 2, math.MaxInt64 - 1, sh, syscall.EINVAL},
		{a, true, -1, 10, sh, syscall.EINVAL},
	} {
		var err error
		if c.unlock {
			err = c.by.UnlockRange(s.ctx, c.off, c.length)
		} else {
			err = c.by.LockRange(s.ctx, c.off, c.length, c.exclusive)
		}
		if i == 0 && isNotSupported(err) {
			s.unsupported("locking")
		}
		if c.want == nil && err != nil {
			s.Errorf("step %d (%+v): %v", i, c, err)
		} else if c.want != nil {
			s.wantErr("step of an impossible or refused lock", err, c.want)
		}
	}
	// Locks end with the handle.
	s.ok("LockRange", a.LockRange(s.ctx, 1000, 1, ex))
	s.ok("Close", a.(vfs.File).Close())
	s.ok("LockRange after the other's end", b.LockRange(s.ctx, 0, math.MaxInt64, ex))
	s.wantErr("LockRange of a closed file", a.LockRange(s.ctx, 0, 1, sh), fs.ErrClosed)

	r := s.open("f", vfs.OpenOptions{Access: vfs.AccessRead}).(vfs.RangeLocker)
	s.wantErr("an exclusive lock without write access", r.LockRange(s.ctx, 0, 1, ex), syscall.EBADF)
	w := s.open("f", vfs.OpenOptions{Access: vfs.AccessWrite}).(vfs.RangeLocker)
	s.wantErr("a shared lock without read access", w.LockRange(s.ctx, 0, 1, sh), syscall.EBADF)
	m := s.open("f", vfs.OpenOptions{}).(vfs.RangeLocker)
	s.wantErr("a lock without access to data", m.LockRange(s.ctx, 0, 1, sh), syscall.EBADF)
}

func testLockFile(s *suite) {
	a, aok := s.create("f", "").(vfs.FileLocker)
	b, bok := s.open("f", vfs.OpenOptions{Access: vfs.AccessRead}).(vfs.FileLocker)
	if !aok || !bok {
		s.unsupported("vfs.FileLocker")
	}
	err := a.LockFile(s.ctx, false)
	if isNotSupported(err) {
		s.unsupported("locking")
	}
	s.ok("a shared lock", err)
	s.ok("a second shared lock", b.LockFile(s.ctx, false))
	s.wantErr("an exclusive lock beside a shared one", a.LockFile(s.ctx, true), syscall.EAGAIN)
	s.ok("UnlockFile", b.UnlockFile(s.ctx))
	s.ok("UnlockFile without a lock", b.UnlockFile(s.ctx))
	s.ok("an exclusive lock", a.LockFile(s.ctx, true))
	s.wantErr("a shared lock beside an exclusive one", b.LockFile(s.ctx, false), syscall.EAGAIN)
	s.ok("Close", a.(vfs.File).Close())
	s.ok("an exclusive lock after the other's end", b.LockFile(s.ctx, true))
	s.wantErr("locking a closed file", a.LockFile(s.ctx, true), fs.ErrClosed)
	m := s.open("f", vfs.OpenOptions{}).(vfs.FileLocker)
	s.wantErr("a lock without access to data", m.LockFile(s.ctx, false), syscall.EBADF)
}

func testLease(s *suite) {
	f := s.create("f", "content")
	l, ok := f.(vfs.Leaser)
	if !ok {
		s.unsupported("vfs.Leaser")
	}
	other := s.open("f", vfs.OpenOptions{Access: vfs.AccessRead})
	told := make(chan string, 8)
	tell := func(what string) func() { return func() { told <- what } }
	wantTold := func(want string) {
		s.Helper()
		select {
		case got := <-told:
			if got != want {
				s.Errorf("told of %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			s.Errorf("not told of %q", want)
		}
	}
	err := l.Lease(s.ctx, vfs.LeaseWrite, tell("none"))
	if isNotSupported(err) {
		s.unsupported("leasing")
	}
	s.wantErr("LeaseWrite of what another has open", err, syscall.EAGAIN)
	s.ok("Close", other.Close())
	s.open("f", vfs.OpenOptions{}) // metadata does not count
	s.ok("LeaseWrite", l.Lease(s.ctx, vfs.LeaseWrite, tell("write")))
	s.open("f", vfs.OpenOptions{}) // nor does it break
	_, _, err = s.fs.Open(s.ctx, "f", vfs.OpenOptions{Access: vfs.AccessRead})
	s.wantErr("Open of what is leased", err, syscall.EAGAIN)
	wantTold("write")
	_, _, err = s.fs.Open(s.ctx, "f", vfs.OpenOptions{Access: vfs.AccessRead})
	s.wantErr("Open while the lease is being broken", err, syscall.EAGAIN)
	s.ok("Unlease", l.Unlease(s.ctx))
	s.ok("Unlease without a lease", l.Unlease(s.ctx))
	s.ok("Close", s.open("f", vfs.OpenOptions{Access: vfs.AccessRead}).Close())

	// A lease given up is not told of.
	s.ok("LeaseWrite", l.Lease(s.ctx, vfs.LeaseWrite, tell("given up")))
	s.ok("Unlease", l.Unlease(s.ctx))
	s.ok("Close", f.Close())

	r := s.open("f", vfs.OpenOptions{Access: vfs.AccessRead})
	rl := r.(vfs.Leaser)
	s.ok("LeaseRead", rl.Lease(s.ctx, vfs.LeaseRead, tell("read")))
	s.ok("Close", s.open("f", vfs.OpenOptions{Access: vfs.AccessRead}).Close())
	_, _, err = s.fs.Open(s.ctx, "f", vfs.OpenOptions{Access: rw})
	s.wantErr("Open to write what is leased", err, syscall.EAGAIN)
	wantTold("read")
	s.ok("Close", r.Close()) // which ends the lease
	s.open("f", vfs.OpenOptions{Access: rw})
	s.wantErr("Lease of a closed file", rl.Lease(s.ctx, vfs.LeaseRead, tell("closed")), fs.ErrClosed)
	m := s.open("f", vfs.OpenOptions{}).(vfs.Leaser)
	s.wantErr("Lease without access to data", m.Lease(s.ctx, vfs.LeaseRead, tell("none")), syscall.EBADF)
	if len(told) != 0 {
		s.Errorf("told of %q besides", <-told)
	}
}
