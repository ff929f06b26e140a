package server

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// lock serves LOCK, [MS-SMB2] 3.3.5.14.
func lock(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseLockRequest(r.msg)
	if err != nil || len(req.Locks) == 0 {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(req.FileID)
	if st != ntstatus.Success {
		return st
	}
	defer o.release()
	if o.state == nil || o.isDir {
		return ntstatus.InvalidParameter // [MS-FSA] 2.1.5.8
	}
	seq, replay, st := r.lockSequence(ctx, o, &req)
	done := false
	defer func() { seq.end(done) }() // who repeats the request waits for that
	switch {
	case st != ntstatus.Success || replay:
	case req.Locks[0].Flags&smb2.LockFlagUnlock != 0:
		st = o.unlockRanges(req.Locks)
	default:
		st = o.lockRanges(ctx, r, req.Locks)
	}
	done = st == ntstatus.Success
	if st != ntstatus.Success {
		return st
	}
	r.out, err = (&smb2.LockResponse{}).AppendBinary(r.out)
	return r.appended(err)
}

// lockSeqs is Open.LockSequenceArray, [MS-SMB2] 3.3.1.10.
type lockSeqs [64]struct {
	valid  bool
	number uint8
	busy   chan struct{} // closed when the request with the number has been served
}

// lockSeq is the entry that a request has taken, to be given back by end. The zero
// value is none.
type lockSeq struct {
	o     *open
	index uint32
	busy  chan struct{}
}

// end says whether the request did what it was to do.
func (s lockSeq) end(done bool) {
	if s.busy == nil {
		return
	}
	s.o.lockMu.Lock()
	if e := &s.o.lockSeqs[s.index-1]; e.busy == s.busy {
		e.valid, e.busy = done, nil
	}
	s.o.lockMu.Unlock()
	close(s.busy)
}

// lockSequence recognises a request that was carried out already and comes again
// because its answer was lost with a channel. It only does so where the server
// offers several channels, and for opens that outlive their connection. One that is
// still under way is waited for: the second would find the range locked, by the same
// open, and wait for ever.
func (r *request) lockSequence(ctx context.Context, o *open, req *smb2.LockRequest) (s lockSeq, replay bool, st ntstatus.Status) {
	several := r.conn.dialect >= Dialect300 && r.conn.serverCaps&smb2.GlobalCapMultiChannel != 0
	if r.conn.dialect == Dialect202 || !several && !o.isDurable() ||
		req.LockSequenceIndex == 0 || req.LockSequenceIndex > uint32(len(o.lockSeqs)) {
		return s, false, ntstatus.Success
	}
	e := &o.lockSeqs[req.LockSequenceIndex-1]
	for {
		o.lockMu.Lock()
		first := e.busy
		switch {
		case first != nil && e.number == req.LockSequenceNumber:
		case first == nil && e.valid && e.number == req.LockSequenceNumber:
			o.lockMu.Unlock()
			return s, true, ntstatus.Success
		default:
			s = lockSeq{o, req.LockSequenceIndex, make(chan struct{})}
			e.valid, e.number, e.busy = false, req.LockSequenceNumber, s.busy
			o.lockMu.Unlock()
			return s, false, ntstatus.Success
		}
		o.lockMu.Unlock()
		if st := r.goAsync(); st != ntstatus.Success {
			return s, false, st
		}
		select {
		case <-first:
		case <-o.closing:
			return s, false, ntstatus.RangeNotLocked
		case <-ctx.Done():
			return s, false, ntstatus.Cancelled
		}
	}
}

// unlockRanges is 3.3.5.14.1: it stops at the first that fails and takes nothing
// back.
func (o *open) unlockRanges(locks []smb2.LockElement) ntstatus.Status {
	for _, l := range locks {
		if l.Flags != smb2.LockFlagUnlock {
			return ntstatus.InvalidParameter
		}
		rg := byteRange{l.Offset, l.Length}
		if !rg.valid() {
			return ntstatus.InvalidLockRange
		}
		if !o.unlock(rg) {
			return ntstatus.RangeNotLocked
		}
		o.nlocks.Add(-1)
	}
	return ntstatus.Success
}

// lockRanges is 3.3.5.14.2: all are taken or none.
func (o *open) lockRanges(ctx context.Context, r *request, locks []smb2.LockElement) ntstatus.Status {
	for _, l := range locks {
		switch l.Flags {
		case smb2.LockFlagSharedLock, smb2.LockFlagExclusiveLock:
			if len(locks) > 1 {
				return ntstatus.InvalidParameter // several cannot be waited for
			}
		case smb2.LockFlagSharedLock | smb2.LockFlagFailImmediately,
			smb2.LockFlagExclusiveLock | smb2.LockFlagFailImmediately:
		default:
			return ntstatus.InvalidParameter
		}
	}
	if o.access&(smb2.FileReadData|smb2.FileWriteData) == 0 {
		return ntstatus.AccessDenied
	}
	if int(o.nlocks.Add(int32(len(locks)))) > r.srv.cfg.Limits.LocksPerOpen {
		o.nlocks.Add(-int32(len(locks)))
		return ntstatus.InsufficientResources
	}
	t := &o.state.locks
	if int(t.n.Load()) >= maxLocksPerFile {
		o.nlocks.Add(-int32(len(locks)))
		return ntstatus.InsufficientResources
	}
	o.breakReaders() // who caches the content would not see the lock
	taken := make([]byteLock, 0, 4)
	settled := false
	fail := func(st ntstatus.Status) ntstatus.Status {
		o.undoLocks(taken)
		o.nlocks.Add(-int32(len(locks)))
		settled = true
		return st
	}
	defer func() {
		if !settled { // the storage panics: what it has taken goes with its file
			t.undo(taken)
			o.nlocks.Add(-int32(len(locks)))
		}
	}()
	for _, e := range locks {
		l := byteLock{byteRange{e.Offset, e.Length}, o, e.Flags&smb2.LockFlagExclusiveLock != 0}
		if !l.valid() {
			return fail(ntstatus.InvalidLockRange)
		}
		if e.Flags&smb2.LockFlagFailImmediately != 0 {
			if !t.tryLock(l) {
				return fail(ntstatus.LockNotGranted)
			}
		} else if st := o.awaitLock(ctx, r, l); st != ntstatus.Success {
			return fail(st)
		}
		taken = append(taken, l)
		if st := o.lockStorage(ctx, r, l, e.Flags&smb2.LockFlagFailImmediately == 0); st != ntstatus.Success {
			return fail(st)
		}
	}
	// A CLOSE that came meanwhile has given up what there was then; the rest is
	// ours to give up.
	select {
	case <-o.closing:
		return fail(ntstatus.FileClosed)
	default:
		settled = true
		return ntstatus.Success
	}
}

// awaitLock waits for a range as long as it takes, with an interim response.
func (o *open) awaitLock(ctx context.Context, r *request, l byteLock) ntstatus.Status {
	t := &o.state.locks
	w := t.enqueue(l)
	if w == nil {
		return ntstatus.Success
	}
	st := r.goAsync()
	if st == ntstatus.Success {
		select {
		case <-w.granted:
			if ctx.Err() == nil {
				return ntstatus.Success
			}
			st = ntstatus.Cancelled // that came first, or is as good
		case <-ctx.Done():
			st = ntstatus.Cancelled
		case <-o.closing:
		}
		if o.ending() {
			st = ntstatus.RangeNotLocked // as Windows and Samba answer
		}
	}
	if !t.abandon(w) {
		t.undo([]byteLock{l})
	}
	return st
}
